//! The project's own chores: `cargo xtask test`, `tools`, `bench`, `fuzz`, `mutants`.

mod archive;
mod bench;
mod fuzz;
mod kubernetes;
mod mutants;
mod shell;
mod test;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Chores of the project; run from anywhere in the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Installs or finds what the tests need, and runs everything: format, lints, tests, interleavings, fuzzing of a few minutes
    Test {
        /// Also what takes longer
        #[arg(long)]
        slow: bool,
    },
    /// Installs or finds what the tests need, and runs none of them
    Tools {
        /// Also what only the slow ones need: an API server with etcd is downloaded and built, below target/tools
        #[arg(long)]
        slow: bool,
    },
    /// Measures the gateway against a bare server on the same stack, and writes target/bench/report.json
    Bench(bench::Bench),
    /// Fuzzes decoders guided by coverage (libFuzzer), and keeps what reaches new branches in fuzz/corpus
    Fuzz {
        /// One target by name; all of them unless told
        target: Option<String>,
        /// Seconds a target
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Changes the code in one place at a time and names the changes that no test notices (cargo-mutants)
    Mutants(mutants::Mutants),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    shell::enter_root()?;
    match arguments.chore {
        Chore::Test { slow } => test::run(slow),
        Chore::Tools { slow } => test::tools(slow),
        Chore::Bench(bench) => bench.run(),
        Chore::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Chore::Mutants(mutants) => mutants.run(),
    }
}
