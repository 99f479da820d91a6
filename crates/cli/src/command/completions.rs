//! `holdfast completions`.

use crate::args::Cli;
use crate::failure::Failure;
use crate::output;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Completions for a shell
///
/// Writes completions to stdout, such as: holdfast completions bash > ~/.local/share/bash-completion/completions/holdfast
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "holdfast", &mut script);
        output::write_stdout(&script)
    }
}
