//! `holdfast share`.

mod ceremony;
mod prove;
mod reseal;
mod rotate;

pub(super) use ceremony::{gather_all, prove_all};

use crate::app::App;
use crate::failure::Failure;
use clap::Subcommand;

/// Shares of a root key.
#[derive(Debug, Subcommand)]
pub(crate) enum ShareCommand {
    Prove(prove::Prove),
    Reseal(reseal::Reseal),
    Rotate(rotate::Rotate),
}

impl ShareCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Prove(prove) => prove.run(app),
            Self::Reseal(reseal) => reseal.run(app),
            Self::Rotate(rotate) => rotate.run(app),
        }
    }
}
