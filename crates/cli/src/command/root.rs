//! `holdfast root`.

use super::bind::Bind;
use crate::app::App;
use crate::failure::Failure;
use clap::Subcommand;

/// The root key and the device that has it.
#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    Bind(Bind),
}

impl RootCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Bind(bind) => bind.run(app),
        }
    }
}
