//! Mutation tests: a change of the code that no test notices shows a test that is missing, or code that is not needed.

use crate::shell::{self, cargo};
use anyhow::{Result, bail};
use clap::Args;
use std::process::Stdio;

/// The crates that hold the law, the log and the policy, and which of their tests judge a mutant.
const CRATES: [(&str, &[&str]); 3] = [
    // Without what must not compile: a mutant changes no type, and the compiler is asked again for each.
    ("core", &["--lib", "--test", "law", "--test", "documents"]),
    ("policy", &["--lib", "--tests"]),
    ("audit", &["--lib", "--tests"]),
];

#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// `core`, `policy` or `audit`; all of them unless told
    krate: Option<String>,
    /// One file only, such as `crates/core/src/stop.rs`
    #[arg(long)]
    file: Option<String>,
    /// A part of it, such as `0/8`: the first of eight
    #[arg(long)]
    shard: Option<String>,
    /// Names the mutants and tests none
    #[arg(long)]
    list: bool,
}

impl Mutants {
    pub(crate) fn run(&self) -> Result<()> {
        let Self { krate, file, shard, list } = self;
        let chosen: Vec<_> =
            CRATES.iter().filter(|(name, _)| krate.as_deref().is_none_or(|krate| krate == *name)).collect();
        if chosen.is_empty() {
            bail!("there are mutants of `core`, `policy` and `audit` only");
        }
        ensure()?;
        for (name, tests) in chosen {
            let mut command = cargo();
            command.args(["mutants", "--package", &format!("holdfast-{name}"), "--jobs", "1"]);
            command.args(["--output", &format!("target/mutants/{name}")]);
            for (option, value) in [("--file", file), ("--shard", shard)] {
                if let Some(value) = value {
                    command.args([option, value]);
                }
            }
            if *list {
                command.arg("--list");
            }
            shell::run(&format!("mutants of {name}"), command.arg("--").args(*tests))?;
        }
        Ok(())
    }
}

fn ensure() -> Result<()> {
    let mut ask = cargo();
    ask.args(["mutants", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    match ask.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => {
            bail!("there is no cargo-mutants; install it with `cargo install cargo-mutants --locked`")
        }
    }
}
