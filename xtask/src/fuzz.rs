//! Fuzzing in bounded time, on the stable toolchain: `fuzz/` holds one target a decoder and its corpus.

use crate::shell::{self, cargo};
use anyhow::{Context as _, Result};
use std::path::Path;

/// How many targets there are.
pub(crate) fn count() -> Result<u64> {
    let corpus = Path::new("fuzz/corpus");
    let targets = std::fs::read_dir(corpus).context("there is no fuzz/corpus")?.count();
    Ok(u64::try_from(targets)?)
}

/// Fuzzes one target or all of them, each for so many seconds.
pub(crate) fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    // The tests' own build: its overflow checks and debug assertions find more than speed would.
    let mut runner = cargo();
    runner.args(["run", "--quiet", "--package", "holdfast-fuzz", "--", "--seconds", &seconds.to_string()]);
    if let Some(target) = target {
        runner.arg(target);
    }
    shell::run("fuzz", &mut runner)
}
