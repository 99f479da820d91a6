//! `holdfast anchor`.

use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::{Args, Subcommand};
use holdfast_sdk::CallerName;
use holdfast_sdk::field::{CertificateBytes, CrlBytes};
use holdfast_sdk::message::PutAnchor;
use serde::de::DeserializeOwned;

/// Trust anchors.
#[derive(Debug, Subcommand)]
pub(crate) enum AnchorCommand {
    /// List trust anchors
    List,
    Put(Put),
    Remove(Remove),
}

/// Trust a certificate authority, or replace its revocation list
///
/// Trusts an authority to name this tenant's callers. Another tenant's authority means nothing here.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// What to call it
    name: CallerName,
    /// Its certificate, PEM; `-` for stdin
    certificate: Input,
    /// Its revocation list, PEM. With one, a certificate whose status it does not tell is refused
    #[arg(long, value_name = "FILE")]
    crl: Option<Input>,
}

/// Trust it no longer
///
/// Trusts it no longer: its certificates are refused from the next request on.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The anchor
    name: CallerName,
}

impl AnchorCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let tenant = app.tenant()?;
        match self {
            Self::List => {
                let callers = app.block_on(tenant.callers())?;
                if app.printer.is_json() {
                    return app.printer.list(&callers.anchors, &[]);
                }
                let rows = callers.anchors.iter().map(|anchor| {
                    let expires =
                        crate::issue::expiry(&anchor.certificate.0).map_or_else(String::new, |seconds| {
                            holdfast_core::Timestamp::from_micros(seconds.saturating_mul(1_000_000))
                                .to_string()
                        });
                    vec![
                        anchor.name.0.to_string(),
                        expires,
                        if anchor.crl.is_some() { "yes" } else { "no" }.to_owned(),
                    ]
                });
                app.printer.rows(&["name", "expires", "revocation list"], rows.collect())
            }
            Self::Put(Put { name, certificate, crl }) => {
                let certificate: CertificateBytes = parsed(&certificate, "certificate")?;
                let crl: Option<CrlBytes> = crl.map(|crl| parsed(&crl, "revocation list")).transpose()?;
                let anchor = PutAnchor { certificate, crl };
                app.printer.record(&app.block_on(tenant.put_anchor(&name, &anchor))?.body)
            }
            Self::Remove(Remove { name }) => {
                app.printer.record(&app.block_on(tenant.remove_anchor(&name))?.body)
            }
        }
    }
}

/// Read by the client's own reader, which knows PEM.
fn parsed<T: DeserializeOwned>(input: &Input, what: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(input.read_text()?)).map_err(|error| {
        Failure::usage(format!("this is no {what}")).because(&error).remedy("give exactly one in PEM")
    })
}
