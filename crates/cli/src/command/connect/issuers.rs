//! Whether the gateway has the keys of those whose tokens a protocol takes: as it says itself to operators; where nobody here is one, as they are read
//! from here.

use super::Report;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::ErrorKind;
use holdfast_gateway::config::Config;
use holdfast_gateway::issuer::{IssuerTable, believed, look};
use holdfast_sdk::message::Status;

const WHAT: &str = "issuers' keys";

/// Looks at these issuers.
pub(super) async fn examine(app: &App, issuers: &[String], config: Option<&Config>, report: &mut Report) {
    report.doing("looking at the issuers' keys");
    let status = match app.client() {
        Ok(client) => client.status().await.map_err(|error| (error.kind(), Failure::from(error))),
        Err(failure) => Err((None, failure)),
    };
    match (status, config) {
        (Ok(status), _) => by_gateway(issuers, &status.body, report),
        (Err(_), Some(config)) => from_here(issuers, &believed(config), report).await,
        (Err((Some(ErrorKind::Denied | ErrorKind::Unauthenticated | ErrorKind::NotFound), _)), None) => report
            .findings
            .watch(
                WHAT,
                "whether the gateway has them is told to operators alone",
                "have one look: `holdfast status` has a line `issuer …` for each; with `--config` they are read from here",
            ),
        (Err((_, failure)), None) => report.findings.wrong(WHAT, &failure),
    }
}

fn unknown(issuer: &str) -> Failure {
    Failure::new(Exit::State, format!("the gateway believes no issuer `{issuer}`")).remedy(
        "add an `[[issuer]]` of that name, to the letter, with its `keys_url`; and restart the gateway",
    )
}

fn unread(detail: String) -> Failure {
    Failure::new(Exit::Unavailable, detail).remedy(
        "let the gateway reach the address that its `[[issuer]]` names, or give it the keys in a `keys_file`: docs/operate/token-identity.md",
    )
}

fn by_gateway(issuers: &[String], status: &Status, report: &mut Report) {
    for issuer in issuers {
        let name = format!("issuer {issuer}");
        let Some(part) = status.parts.iter().find(|part| part.name == name) else {
            report.findings.wrong(WHAT, &unknown(issuer));
            continue;
        };
        let detail = format!("`{issuer}`: {}", part.detail.as_deref().unwrap_or_default());
        match part.ready {
            true => report.findings.fine(WHAT, detail),
            false => report.findings.wrong(WHAT, &unread(detail)),
        }
    }
}

async fn from_here(issuers: &[String], tables: &[IssuerTable], report: &mut Report) {
    for issuer in issuers {
        let Some(table) = tables.iter().find(|table| table.issuer == *issuer) else {
            report.findings.wrong(WHAT, &unknown(issuer));
            continue;
        };
        match look(table).await {
            Ok(found) => report.findings.fine(WHAT, format!("`{issuer}`: {found}, read from here")),
            Err(fault) => {
                report.findings.wrong(WHAT, &unread(format!("`{issuer}`, read from here: {fault}")))
            }
        }
    }
}
