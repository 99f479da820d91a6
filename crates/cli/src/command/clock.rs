//! `holdfast clock`.

use crate::app::App;
use crate::failure::Failure;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ClockCommand {
    /// Confirm that the gateway's clock is right after a jump
    ///
    /// After a jump of more than a minute the gateway holds the time from before: certificates, tokens and policies must hold at both times.
    /// This ends that. An operator's command; compare the clock with another one first: `holdfast status` shows both times.
    Confirm,
}

impl ClockCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Confirm => app.printer.record(&app.block_on(app.client()?.confirm_clock())?.body),
        }
    }
}
