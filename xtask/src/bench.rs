//! The benchmark: builds what newcomers build, and lets `holdfast-bench` measure it.

use crate::shell::{self, cargo};
use anyhow::Result;
use std::process::Command;

/// Measures; see `docs/performance.md` for the method.
pub(crate) fn run(seconds: u64) -> Result<()> {
    let packages = ["build", "--release", "--package", "holdfast", "--package", "holdfast-bench"];
    shell::run("build", cargo().args(packages))?;
    let mut bench = Command::new("target/release/holdfast-bench");
    shell::run("measure", bench.args(["run", "target/release/holdfast", &seconds.to_string()]))
}
