//! `holdfast share`.

mod ceremony;
mod prove;

pub(super) use ceremony::prove_all;

use crate::app::App;
use crate::failure::Failure;
use clap::Subcommand;

/// Shares of a root key.
#[derive(Debug, Subcommand)]
pub(crate) enum ShareCommand {
    Prove(prove::Prove),
}

impl ShareCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Prove(prove) => prove.run(app),
        }
    }
}
