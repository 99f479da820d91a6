//! Running commands, loudly.

use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Goes to the repository's root, so that every path is relative to it.
pub(crate) fn enter_root() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    std::env::set_current_dir(root).context("cannot enter the repository's root")
}

/// Cargo, as it was called.
pub(crate) fn cargo() -> Command {
    #[expect(clippy::disallowed_methods, reason = "cargo tells its own path in the environment")]
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Command::new(cargo)
}

/// Runs a command to its end, and says how long it took.
#[expect(clippy::print_stderr, reason = "a chore tells what it does")]
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("── {what}");
    let begin = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let seconds = begin.elapsed().as_secs();
    if !status.success() {
        bail!("{what}: failed after {seconds} s ({status})");
    }
    eprintln!("── {what}: {seconds} s");
    Ok(())
}
