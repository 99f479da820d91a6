//! `holdfast tenant retention`.

use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::{Args, Subcommand};

/// For how long a log is kept.
#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    Set(Set),
}

/// Say for how long the tenant's log keeps its entries; a custodian's command
///
/// Says for how long the tenant's log keeps its entries. The gateway prunes whole bundles of 256 once a day, and records that in the same log
/// first. Hashes stay, so what was recorded can still be proven by whoever has a copy of it. What is gone does not come back: let mirrors
/// be brought up to date first.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Set {
    /// So many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    /// Nothing is ever pruned: what is in force unless told
    #[arg(long)]
    forever: bool,
}

impl RetentionCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self::Set(Set { days, forever: _ }) = self;
        let tenant = app.tenant()?;
        app.printer.record(&app.block_on(tenant.set_retention(days))?.body)?;
        if let Some(days) = days {
            note(&format!(
                "entries that are older than {days} days go within a day; let mirrors be brought up to date"
            ));
        }
        Ok(())
    }
}
