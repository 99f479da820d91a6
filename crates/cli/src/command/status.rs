//! `holdfast status`.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use clap::Args;

/// See how the gateway is; an operator's command
///
/// Shows each part of the gateway, and what an operator should know. Fails when the gateway cannot work; a sink that is behind does not make it fail.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        let status = app.block_on(client.status())?.body;
        if app.printer.is_json() {
            app.printer.record(&status)?;
        } else {
            app.printer.entry(&format!(
                "{} is {}",
                status.version,
                if status.ready { "ready" } else { "not ready" }
            ))?;
            app.printer.list(&status.parts, &["name", "ready", "detail"])?;
            for notice in &status.notices {
                note(&format!("notice: {notice}"));
            }
        }
        if status.ready {
            return Ok(());
        }
        Err(Failure::new(Exit::Unavailable, "the gateway cannot work now")
            .remedy("mend the part that is not ready"))
    }
}
