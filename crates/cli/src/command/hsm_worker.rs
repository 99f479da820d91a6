//! `holdfast hsm-worker`: started by a gateway, never typed.

use super::serve::log_to_stderr;
use crate::failure::Failure;
use clap::Args;
use holdfast_gateway::config::Logging;
use std::process::ExitCode;

/// Serve a gateway as the process that loads a token's module
#[derive(Debug, Args)]
pub(crate) struct HsmWorker {}

impl HsmWorker {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self {} = self;
        // The binding tells of each mechanism that it does not know; a token may have hundreds.
        log_to_stderr(&Logging { filter: "info,cryptoki=off".to_owned(), ..Logging::default() })?;
        match holdfast_gateway::hsm_worker() == ExitCode::SUCCESS {
            true => Ok(()),
            false => Err(Failure::usage("this is started by a gateway that has a `[[token]]`")
                .remedy("configure one, and run `holdfast serve`")),
        }
    }
}
