//! `holdfast demo`.

use crate::app::App;
use crate::demo::{self, Script};
use crate::failure::Failure;
use clap::Args;

/// See the main job done: a gateway in a temporary directory, a key, a refusal, a proof
///
/// Starts a gateway in a temporary directory, uses it through its public API only, and leaves nothing behind. Needs nothing.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let printer = app.printer;
        app.block_on(demo::run(&Script::new(), |line| {
            // A reader who has gone away misses the rest; the outcome is the exit code.
            let _ = printer.entry(line);
        }))
    }
}
