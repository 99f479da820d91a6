//! Whether the keys of those are to be had whose tokens a protocol takes: read from here as the gateway reads them, by its configuration. What the gateway
//! itself has, it tells operators alone; a custodian who asked would be one more stranger in its counts.

use super::Report;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_gateway::config::Config;
use holdfast_gateway::issuer::{believed, look};

const WHAT: &str = "issuers' keys";

/// Looks at these issuers.
pub(super) async fn examine(issuers: &[String], config: Option<&Config>, report: &mut Report) {
    let Some(config) = config else {
        return report.findings.watch(
            WHAT,
            "whether the gateway has them is told to operators alone",
            "have one look: `holdfast status` has a line `issuer …` for each; with `--config` they are read from here",
        );
    };
    report.doing("reading the issuers' keys");
    let tables = believed(config);
    for issuer in issuers {
        let Some(table) = tables.iter().find(|table| table.issuer == *issuer) else {
            let failure =
                Failure::new(Exit::State, format!("the gateway believes no issuer `{issuer}`")).remedy(
                    "add an `[[issuer]]` of that name, to the letter, with its `keys_url`; and restart the gateway",
                );
            report.findings.wrong(WHAT, &failure);
            continue;
        };
        match look(table).await {
            Ok(found) => report.findings.fine(WHAT, format!("`{issuer}`: {found}, read from here")),
            Err(fault) => {
                let problem = format!("`{issuer}`: none can be read from here: {fault}");
                let failure = Failure::new(Exit::Unavailable, problem).remedy(
                    "let the gateway reach the address that its `[[issuer]]` names, or give it the keys in a `keys_file`; what it has itself an operator sees in `holdfast status`: docs/operate/token-identity.md",
                );
                report.findings.wrong(WHAT, &failure);
            }
        }
    }
}
