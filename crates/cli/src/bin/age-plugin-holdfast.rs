//! The plugin by which `age` and `rage` open and make files under Holdfast's keys.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_cli::plugin_main()
}
