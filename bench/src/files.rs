//! A large file: `holdfast encrypt` against `rage`, which does the same work under a recipient of its own.

use crate::gateway;
use crate::report::{Files, Report};
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Each program's turns, one after the other; the fastest counts.
const TURNS: usize = 3;

/// Measures a file of so many MiB.
pub(crate) async fn measure(
    holdfast: &Path,
    rage: &Path,
    within: &Path,
    mib: u64,
    report: &mut Report,
) -> Result<()> {
    let gateway = gateway::start(holdfast, &within.join("files")).await?;
    gateway.create(["file".to_owned()].into_iter(), "xaes-256-gcm").await?;
    let (plain, sealed) = (within.join("plain"), within.join("sealed"));
    write(&plain, mib)?;
    let identity = Command::new(rage.with_file_name("rage-keygen")).output().await?;
    let identity = String::from_utf8(identity.stdout)?;
    let recipient = identity.lines().find_map(|line| line.strip_prefix("# public key: "));
    let recipient = recipient.context("rage-keygen names no public key")?;
    let (mut own, mut theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..TURNS {
        let mut encrypt = Command::new(holdfast);
        encrypt.arg("encrypt").arg(&plain).args(["--key", "file", "--force", "-o"]).arg(&sealed);
        own = own.min(time(encrypt.envs(&gateway.environment)).await?);
        let mut encrypt = Command::new(rage);
        encrypt.args(["--encrypt", "--recipient", recipient, "-o"]).arg(&sealed).arg(&plain);
        theirs = theirs.min(time(&mut encrypt).await?);
    }
    report.files = Some(Files::new(mib, own, theirs));
    Ok(())
}

fn write(path: &Path, mib: u64) -> Result<()> {
    // Not zeros, which a file system could make nothing of.
    let block: Vec<u8> = (0_u32..1 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut file = File::create(path)?;
    for _ in 0..mib {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

async fn time(command: &mut Command) -> Result<Duration> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
    if !status.success() {
        bail!("{:?} failed: {status}", command.as_std().get_program());
    }
    Ok(begin.elapsed())
}
