//! The benchmark: builds what newcomers build, and lets `holdfast-bench` measure it.

use crate::shell::{self, cargo};
use crate::tools;
use anyhow::Result;
use clap::Args;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Where the cold build goes; nothing else does.
const COLD: &str = "target/cold";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Also a cold release build, which is what a newcomer waits for: takes minutes
    #[arg(long)]
    build: bool,
    /// For `holdfast-bench run`: --seconds N, --turns N, --connections 1,16,64, --only load,log,growth,files,token,xks,cse,resealing, --keys N, --versions N, --policies N,
    /// --mib N
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

impl Bench {
    /// Measures; see `docs/performance.md` for the method.
    pub(crate) fn run(self) -> Result<()> {
        let Self { build, rest } = self;
        let cold = if build { Some(cold_build()?) } else { None };
        let packages = ["build", "--release", "--package", "holdfast", "--package", "holdfast-bench"];
        shell::run("build", cargo().args(packages))?;
        let rage = tools::ensure_fast_rage()?;
        let mut bench = Command::new("target/release/holdfast-bench");
        bench.args(["run", "target/release/holdfast", "--rage"]).arg(rage).args(rest);
        if let Some(seconds) = cold {
            bench.args(["--cold-build-seconds", &seconds.to_string()]);
        }
        shell::run("measure", &mut bench)
    }
}

/// Downloads first, so that the network is not measured.
fn cold_build() -> Result<u64> {
    shell::run("fetch", cargo().arg("fetch"))?;
    if Path::new(COLD).exists() {
        std::fs::remove_dir_all(COLD)?;
    }
    let begin = Instant::now();
    shell::run("cold release build", cargo().args(["build", "--release", "--target-dir", COLD]))?;
    let seconds = begin.elapsed().as_secs();
    std::fs::remove_dir_all(COLD)?;
    Ok(seconds)
}
