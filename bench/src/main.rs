//! The benchmark behind `cargo xtask bench`: a gateway with everything on against a bare TLS server on the same HTTP stack, on the same
//! machine, in the same run. Prints a table and writes `target/bench/report.json`.

mod bare;
mod gateway;
mod load;
mod machine;
mod report;

use anyhow::{Context as _, Result, bail};
use load::{Exchange, Plan};
use report::{Report, Row};
use std::path::PathBuf;
use std::time::Duration;

/// Connections in the closed loop.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        // The bare server is a process of its own, so that its CPU time can be told apart from the load's.
        Some("bare") => bare::serve(),
        Some("run") => {
            let holdfast = PathBuf::from(arguments.next().context("name the `holdfast` binary")?);
            let seconds =
                arguments.next().map_or(Ok(5), |text| text.parse()).context("seconds a measurement")?;
            let connections = arguments
                .map(|text| text.parse())
                .collect::<Result<Vec<usize>, _>>()
                .context("connections")?;
            let connections = if connections.is_empty() { CONNECTIONS.to_vec() } else { connections };
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run(holdfast, Duration::from_secs(seconds), &connections))
        }
        _ => bail!("run `cargo xtask bench`"),
    }
}

#[expect(clippy::print_stderr, reason = "progress of a long run")]
async fn run(holdfast: PathBuf, duration: Duration, connections: &[usize]) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("holdfast-bench").tempdir_in("target")?;
    let mut report = Report::new(machine::describe(directory.path())?);
    let bare = bare::start().await?;
    let gateway = gateway::start(&holdfast, directory.path()).await?;
    let encrypt = gateway.encrypt_request();
    let sign = gateway.sign_request();
    let loads: [(&str, &machine::Server, &load::Target, &Exchange); 3] = [
        ("bare hello-world", &bare.server, &bare.target, &bare.hello),
        ("encrypt 32 bytes", &gateway.server, &gateway.target, &encrypt),
        ("sign ecdsa-p256", &gateway.server, &gateway.target, &sign),
    ];
    for connections in connections.iter().copied() {
        for (name, server, target, exchange) in &loads {
            let plan = Plan { connections, duration };
            // A short run first: caches, allocator and TCP windows as in the middle of a day.
            load::run(target, exchange, &Plan { duration: duration / 5, ..plan }).await?;
            let before = server.cpu()?;
            let measured = load::run(target, exchange, &plan).await?;
            let cpu = server.cpu()?.saturating_sub(before);
            report.add(Row::new(name, connections, &measured, cpu));

            eprintln!("measured {name} over {connections} connections");
        }
    }
    report.resident_kib = gateway.server.resident_kib()?;
    report.finish()
}
