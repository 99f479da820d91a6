//! `holdfast random`.

use super::To;
use crate::app::App;
use crate::failure::Failure;
use clap::Args;
use holdfast_core::operation::MAX_RANDOM;

/// Random bytes from the key store
#[derive(Debug, Args)]
pub(crate) struct Random {
    /// How many
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_RANDOM as u64), default_value_t = 32)]
    length: u64,
    #[command(flatten)]
    to: To,
}

impl Random {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { length, to } = self;
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.random(length))?;
        to.put(app, answer.random.0.expose(), &answer.body)
    }
}
