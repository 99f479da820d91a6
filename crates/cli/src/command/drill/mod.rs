//! `holdfast drill`.

pub(super) mod newest;
mod recovery;
mod report;
mod scratch;

pub(super) use recovery::{Means, rehearsal};
pub(super) use report::{Backup, Report};
pub(super) use scratch::Scratch;

use crate::app::App;
use crate::failure::Failure;
use clap::Subcommand;

/// Rehearsals.
#[derive(Debug, Subcommand)]
pub(crate) enum DrillCommand {
    Recovery(recovery::Recovery),
}

impl DrillCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Recovery(recovery) => recovery.run(app),
        }
    }
}
