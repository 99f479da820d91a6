//! The benchmark behind `cargo xtask bench`: a gateway with everything on against a bare TLS server on the same HTTP stack, on the same
//! machine, in the same run; the log alone; growth; a large file. Prints tables and writes `target/bench/report.json`.

mod bare;
mod cse;
mod files;
mod gateway;
mod growth;
mod load;
mod log;
mod machine;
mod module;
mod report;
mod resealing;
mod sample;
mod token;
mod xks;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use gateway::Gateway;
use growth::Sizes;
use load::Length;
use report::{Report, Sum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Turns of a loop: whatever else the machine does meanwhile then meets all who are measured in turns.
#[derive(Clone, Copy)]
struct Turns {
    count: u32,
    /// How long one lasts.
    each: Duration,
}

impl Turns {
    /// How long all of them last.
    fn all(self) -> Duration {
        self.each * self.count
    }
}

/// A measurement's time is for so many turns, unless more are asked for.
const TURNS: u32 = 5;

/// Measures a gateway.
#[derive(Debug, Parser)]
enum Arguments {
    /// The bare server: a process of its own, so that its CPU time can be told apart from the load's
    Bare,
    /// A token's module, called directly: a process of its own, so that its CPU time can be told apart
    #[command(hide = true)]
    Module {
        /// Which operation
        operation: usize,
        /// Threads
        at_once: u32,
        /// For how long
        milliseconds: u64,
        /// The public point that verifies, in hexadecimal
        #[arg(default_value = "")]
        point: String,
    },
    /// The same module, asked over its standard input, a socket of packets
    #[command(hide = true)]
    ModuleApart {
        /// Which operation
        operation: usize,
        /// Threads
        sessions: u32,
    },
    /// What loads a token's module for a member
    #[command(hide = true)]
    HsmWorker,
    /// Everything, or the parts that are named
    Run(Run),
}

#[derive(Debug, Parser)]
struct Run {
    /// The `holdfast` binary
    holdfast: PathBuf,
    /// The `rage` binary to measure a file against, its `rage-keygen` beside it
    #[arg(long)]
    rage: Option<PathBuf>,
    /// Another build of `holdfast`, whose loops and external key store are measured in turns with this one's
    #[arg(long)]
    against: Option<PathBuf>,
    /// Seconds a measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Turns of a closed loop and of a token's: each a fifth of a measurement's time, so that more take longer
    #[arg(long, default_value_t = TURNS, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Connections in the closed loop
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// How many keys to grow to
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// How many versions of a key to grow to
    #[arg(long, default_value_t = 10_000)]
    versions: u32,
    /// How many policies to grow to
    #[arg(long, default_value_t = 10_000)]
    policies: u32,
    /// The large file's length
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// What a cold build took, to be reported with the rest
    #[arg(long)]
    cold_build_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The closed loops
    Load,
    /// The log alone
    Log,
    /// Keys, versions, policies
    Growth,
    /// A large file
    Files,
    /// A token of SoftHSM2, if that is installed
    Token,
    /// An external key store of AWS KMS over such a token
    Xks,
    /// A key service of Google Workspace's client-side encryption
    Cse,
    /// A sealing key that is retired, with as many versions under it as there are to be keys
    Resealing,
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Bare => bare::serve(),
        Arguments::Module { operation, at_once, milliseconds, point } => {
            module::call(operation, at_once, Duration::from_millis(milliseconds), &point)
        }
        Arguments::ModuleApart { operation, sessions } => module::serve(operation, sessions),
        Arguments::HsmWorker => {
            holdfast_keystore::pkcs11::worker::run();
            Ok(())
        }
        Arguments::Run(run) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run.measure())
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress of a long run")]
fn progress(what: &str) {
    eprintln!("── {what}");
}

impl Run {
    async fn measure(self) -> Result<()> {
        let directory = tempfile::Builder::new().prefix("holdfast-bench").tempdir_in("target")?;
        let within = directory.path();
        let mut report = Report::new(machine::describe(within)?);
        report.cold_build_seconds = self.cold_build_seconds;
        let wanted = |part| self.only.is_empty() || self.only.contains(&part);
        let time = Duration::from_secs(self.seconds);
        let turns = Turns { count: self.turns, each: time / TURNS };
        if wanted(Part::Load) {
            self.load(within, turns, &mut report).await?;
        }
        if wanted(Part::Log) {
            for writers in [1, 64] {
                progress(&format!("the log alone, {writers} writers"));
                log::measure(within, writers, time, &mut report)?;
            }
        }
        if let Some(rage) = self.rage.as_deref().filter(|_| wanted(Part::Files)) {
            progress("a large file");
            files::measure(&self.holdfast, rage, within, self.mib, &mut report).await?;
        }
        if wanted(Part::Token) && token::is_there() {
            progress("a token");
            token::measure(within, Turns { each: turns.each / 2, ..turns }, &mut report).await?;
        }
        if wanted(Part::Xks) && token::is_there() {
            progress("an external key store");
            let builds = (&*self.holdfast, self.against.as_deref());
            xks::measure(builds, within, (&self.connections, turns), &mut report).await?;
        }
        if wanted(Part::Cse) {
            progress("a key service");
            cse::measure(&self.holdfast, within, (&self.connections, turns), &mut report).await?;
        }
        if wanted(Part::Resealing) {
            progress("resealing");
            resealing::measure(&self.holdfast, within, (self.keys, time), &mut report).await?;
        }
        if wanted(Part::Growth) {
            progress("growth");
            let Self { keys, versions, policies, .. } = self;
            growth::measure(&self.holdfast, within, Sizes { keys, versions, policies }, &mut report).await?;
        }
        report.finish()
    }

    /// In turns, so that whatever else the machine does meanwhile is the same for all.
    async fn load(&self, within: &Path, turns: Turns, report: &mut Report) -> Result<()> {
        let bare = bare::start().await?;
        let gateway = loaded(&self.holdfast, &within.join("load")).await?;
        let other = match &self.against {
            Some(other) => Some(loaded(other, &within.join("other")).await?),
            None => None,
        };
        let mut loads = vec![("bare hello-world", &bare.server, bare.target, bare.hello.clone())];
        loads.push(("encrypt 32 bytes", &gateway.server, gateway.target, gateway.encrypt("encrypt")));
        loads.push(("sign ecdsa-p256", &gateway.server, gateway.target, gateway.sign("sign")));
        if let Some(other) = &other {
            loads.push(("the other: encrypt", &other.server, other.target, other.encrypt("encrypt")));
            loads.push(("the other: sign", &other.server, other.target, other.sign("sign")));
        }
        for connections in self.connections.iter().copied() {
            progress(&format!("{connections} connections"));
            let mut sums = vec![Sum::default(); loads.len()];
            // The first turn is thrown away: caches, allocator and TCP windows as in the middle of a day.
            for turn in 0..=turns.count {
                for ((_, server, target, exchange), sum) in loads.iter().zip(&mut sums) {
                    let exchange = std::slice::from_ref(exchange);
                    let before = server.cpu()?;
                    let measured = load::run(*target, exchange, connections, Length::For(turns.each)).await?;
                    let cpu = server.cpu()?.saturating_sub(before);
                    if turn > 0 {
                        sum.add(measured, cpu);
                    }
                }
            }
            for ((name, ..), sum) in loads.iter().zip(sums) {
                report.add(sum.row(name, connections));
            }
        }
        report.resident_kib = Some(gateway.server.resident_kib()?);
        Ok(())
    }
}

/// A gateway with what the loads use.
async fn loaded(holdfast: &Path, data: &Path) -> Result<Gateway> {
    let gateway = gateway::start(holdfast, data).await?;
    gateway.create(["encrypt".to_owned()].into_iter(), "xaes-256-gcm").await?;
    gateway.create(["sign".to_owned()].into_iter(), "ecdsa-p256").await?;
    Ok(gateway)
}
