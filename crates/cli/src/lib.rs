//! Everything that a person types: the `holdfast` command and the age plugin.
//!
//! A file per command below `command`. What all of them share: [`exit`] (the documented codes), `failure` (what is said when something
//! goes wrong), `output` (data on stdout, the rest on stderr), `app` (the gateway, the tenant, as whom).

mod agefile;
mod app;
mod args;
mod atomic;
mod campaign;
mod clock;
mod command;
pub mod demo;
mod environment;
pub mod exit;
pub mod failure;
mod findings;
mod input;
mod issue;
mod kubernetes;
mod lines;
mod output;
mod plugin;
mod progress;
mod xks_credential;

use app::App;
use args::Cli;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};
use environment::Environment;
use exit::Exit;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return told(&error).into(),
    };
    let Cli { global, command } = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return told(&error).into(),
    };
    let json = global.json;
    let outcome =
        App::new(global, Environment::of_this_process()).and_then(|app| command::run(command, &app));
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => failure.report(json).into(),
    }
}

/// Runs the age plugin of this process.
pub fn plugin_main() -> ExitCode {
    plugin::main(Environment::of_this_process())
}

/// What clap has to say: help and version are answers, the rest is a wrong use.
#[expect(clippy::wildcard_enum_match_arm, reason = "theirs grows; what is not named here is told in general")]
fn told(error: &clap::Error) -> Exit {
    // Nothing is left to do when even this cannot be printed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
        _ => Exit::Usage,
    }
}
