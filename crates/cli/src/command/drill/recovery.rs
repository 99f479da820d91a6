//! `holdfast drill recovery`.

use super::newest;
use super::report::{Backup, Report};
use super::scratch::Scratch;
use crate::app::App;
use crate::clock;
use crate::command::backup::open::{self, Table, told};
use crate::command::share::gather_all;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use crate::progress;
use aws_lc_rs::digest::{Context, SHA256};
use clap::Args;
use holdfast_core::{TenantId, Timestamp};
use holdfast_gateway::backup::{self, Found, Since, Summary, Unpacked, proof};
use holdfast_gateway::directory::{Directory, Identity};
use holdfast_gateway::scrub;
use holdfast_gateway::shares::RootKey;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Damages that are told one by one.
const SHOWN: usize = 1_000;

/// Rehearse a recovery: restore the newest backup for a moment, and say what would have been lost
///
/// Does what `holdfast restore` does, in a temporary directory that is removed at the end: opens the backup, verifies the logs' copies, opens
/// every key, reads everything, and says how long that took and what would have been lost. No gateway is asked, nothing listens, and what is
/// restored is another instance, which signs no log of the gateway's. Ends with 6 when something does not verify.
///
/// The temporary directory holds the keys: name a place for it with TMPDIR, best in memory.
#[derive(Debug, Args)]
pub(crate) struct Recovery {
    /// The backup, a directory whose newest one is taken, or `-` for stdin [default: DIR/backups of `--data`]
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    /// A file with an age identity that opens it; several times for several custodians
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// A copy of a tenant's log, as `holdfast audit mirror` makes it; several times for several
    #[arg(long = "log", value_name = "DIR")]
    logs: Vec<PathBuf>,
    /// Read the logs in this gateway's data directory instead, which may be served meanwhile; nothing in it is changed
    #[arg(long, value_name = "DIR", conflicts_with = "logs")]
    data: Option<PathBuf>,
    /// Restore into this directory, and leave it there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write the report to this file too, as JSON; replaces an earlier one
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What is rehearsed with.
pub(crate) struct Means {
    pub(crate) file: PathBuf,
    pub(crate) identities: Vec<PathBuf>,
    pub(crate) logs: Vec<PathBuf>,
    pub(crate) data: Option<Directory>,
}

impl Recovery {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { backup, identities, logs, data, keep, report: evidence } = self;
        let file = newest::backup(backup, data.as_deref())?;
        let data = data.as_deref().map(founded).transpose()?;
        let means = Means { file, identities, logs, data };
        let mut report = Report::new(clock::now().to_string(), Backup::of(&means.file));
        let scratch = Scratch::make(app, keep)?;
        let kept = match &scratch {
            Scratch::Kept(path) => Some(path.clone()),
            Scratch::Temporary { .. } => None,
        };
        let (rehearsed, removed) = rehearsal(app, means, scratch, &mut report);
        let written = evidence.map_or(Ok(()), |path| report.write(&path));
        let mut told = Ok(());
        if report.is_complete() {
            told = report.tell(app);
            warn(&report);
        }
        if let Some(path) = kept {
            note(&format!("`{}` holds the keys: remove it when it is not needed any more", path.display()));
        }
        Failure::of_all([rehearsed, removed, written, told])
    }
}

/// Rehearses, ends what it was done in, and judges: how it came out, and whether nothing was left.
pub(crate) fn rehearsal(
    app: &App,
    means: Means,
    scratch: Scratch,
    report: &mut Report,
) -> (Result<(), Failure>, Result<(), Failure>) {
    let rehearsed = rehearse(app, means, &scratch, report);
    let removed = scratch.end();
    let rehearsed = rehearsed.and_then(|()| {
        report.complete();
        report.wrong().map_or(Ok(()), Err)
    });
    report.judge(rehearsed.as_ref().err());
    (rehearsed, removed)
}

fn warn(report: &Report) {
    if report.lost.is_none() {
        note(
            "WARNING: no copy of a log was given: nobody knows what would be lost, and later stop orders would be forgotten",
        );
    } else if !report.logs.without_copy.is_empty() {
        let logs = report.logs.without_copy.join(", ");
        note(&format!(
            "WARNING: no copy of the log of {logs} was given: what happened there since would be lost too"
        ));
    }
    let knows = report.logs.copies.iter().any(|tenant| tenant == TenantId::GATEWAY);
    if knows && report.backup.sha256.is_some() && report.backup.recorded.is_none() {
        note(
            "WARNING: the gateway's own log has not recorded this backup, or its copy is older: a restoration would refuse it",
        );
    }
    if report.backup.younger > 0 {
        note(&format!("WARNING: the log has recorded {} younger backups", report.backup.younger));
    }
}

fn founded(data: &Path) -> Result<Directory, Failure> {
    let directory = Directory::at(data);
    match directory.identity()? {
        Some(_) => Ok(directory),
        None => Err(Failure::usage(format!("`{}` holds no gateway", data.display()))
            .remedy("name the directory of `data` in its configuration")),
    }
}

fn rehearse(app: &App, means: Means, scratch: &Scratch, report: &mut Report) -> Result<(), Failure> {
    let Means { file, identities, logs, data } = means;
    let from_stdin = file.as_os_str().as_encoded_bytes() == b"-";
    let directory = Directory::at(scratch.path());
    let mut begun = Instant::now();
    let mut step = |report: &mut Report, name| {
        report.took(name, begun.elapsed());
        begun = Instant::now();
    };
    let mut read = None;
    let from: Box<dyn Read + Send> = if from_stdin {
        Box::new(std::io::stdin())
    } else {
        let (bytes, sha256) = digest(&file)?;
        read = Some((bytes, sha256));
        let hex = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        (report.backup.bytes, report.backup.sha256) = (Some(bytes), Some(hex));
        Box::new(File::open(&file).map_err(|error| Failure::file("read", &file, &error))?)
    };
    step(report, "read");
    let bar = progress::bytes(report.backup.bytes);
    let from = Box::new(bar.wrap_read(from));
    let mut table = Table::default();
    let found = Found::of(from).map_err(told)?;
    let takes_custodians = matches!(found, Found::Custodians(_));
    // Whoever waits for custodians ends with an error at a signal.
    let asks = |asks| scratch.leave_signals(asks);
    let readable = open::open(app, (found, from_stdin), &identities, &mut table, &asks)?;
    if takes_custodians {
        step(report, "custodians");
    }
    let unpacked = backup::unpack(&directory, readable, logs);
    bar.finish_and_clear();
    let mut unpacked = unpacked.map_err(told)?;
    report.taken(unpacked.manifest());
    let taken = Timestamp::parse(&unpacked.manifest().taken);
    let now = clock::now().seconds();
    report.backup.age_seconds = taken.map_or(0, |taken| now.saturating_sub(taken.seconds()));
    let unknown = data.map_or(Ok(Vec::new()), |data| unpacked.add_logs_of(&data)).map_err(told)?;
    step(report, "unpack");
    let root = shares(app, scratch, (&unpacked, from_stdin), &mut table)?;
    if root.is_some() {
        step(report, "shares");
    }
    let again = root.as_ref().map(RootKey::again).transpose()?;
    let manifest = unpacked.manifest().clone();
    let bar = progress::bar(None, "{spinner} {pos} keys");
    let summary = app.block_on(unpacked.restore(root, &mut |keys| bar.inc(keys)));
    bar.finish_and_clear();
    let summary = summary.map_err(told)?;
    report.restored.instance = summary.instance.to_string();
    report.restored.destructions_cancelled = summary.restored.cancelled;
    report.restored.stops_refused = summary.restored.refused;
    report.restored.stops_of_unknown_tenants = summary.restored.unknown;
    step(report, "restore");
    let identity = directory.identity()?.ok_or_else(|| {
        Failure::new(Exit::Failure, "what was restored is no gateway").remedy("begin again")
    })?;
    if let (Some(read), Ok(instance)) = (read, manifest.instance.parse()) {
        let of = (instance, manifest.commit);
        report.verified = Some(proof::write(&proof::attest(&directory, again.as_ref(), of, read)?));
    }
    read_all(app, (&directory, &identity), again, report)?;
    step(report, "verify");
    since(report, &summary, &unknown)?;
    let covered = |tenant: &TenantId| summary.copies.iter().any(|copy| copy.tenant == *tenant);
    let open = summary.logs.iter().filter(|(tenant, _)| !covered(tenant));
    report.logs.without_copy = open.map(|(tenant, _)| tenant.to_string()).collect();
    step(report, "compare");
    Ok(())
}

/// The root key, if that is in shares: custodians give theirs.
fn shares(
    app: &App,
    scratch: &Scratch,
    (unpacked, from_stdin): (&Unpacked, bool),
    table: &mut Table,
) -> Result<Option<RootKey>, Failure> {
    let Some(gathering) = unpacked.gathering().map_err(told)? else { return Ok(None) };
    if from_stdin {
        return Err(Failure::usage("the backup comes from stdin, and so would the shares of its root key")
            .remedy("put the backup into a file, and begin again"));
    }
    scratch.leave_signals(true);
    let gathered = app.block_on(async { gather_all(gathering, table.lines()?).await });
    scratch.leave_signals(false);
    gathered.map(|(root, _)| Some(root))
}

/// Reads everything that was restored, and opens every key.
fn read_all(
    app: &App,
    (directory, identity): (&Directory, &Identity),
    root: Option<RootKey>,
    report: &mut Report,
) -> Result<(), Failure> {
    let bar = progress::bytes(Some(scrub::extent(directory)));
    let mut damages = Vec::new();
    let read = scrub::offline(
        (directory, identity),
        root,
        app.handle(),
        &mut |bytes| bar.inc(bytes),
        &mut |damage| {
            if damages.len() < SHOWN {
                damages.push(damage);
            }
        },
        &mut |key, opened| report.key(key, opened),
    );
    bar.finish_and_clear();
    let read = read.map_err(told)?;
    report.restored.records = read.records;
    report.logs.entries_verified += read.entries;
    damages.into_iter().for_each(|damage| report.damage(damage));
    Ok(())
}

/// What the logs hold beyond the backup.
fn since(report: &mut Report, summary: &Summary, unknown: &[(TenantId, PathBuf)]) -> Result<(), Failure> {
    let Summary { manifest, copies, stops, .. } = summary;
    if copies.is_empty() {
        return Ok(());
    }
    let (mut since, commit) = (Since::default(), manifest.commit);
    since.give_again(stops);
    for copy in copies {
        since.read(copy, commit).map_err(told)?;
        report.logs.copies.push(copy.tenant.to_string());
    }
    for (tenant, log) in unknown {
        since.read_unknown(tenant, log, commit).map_err(told)?;
        report.logs.copies.push(tenant.to_string());
    }
    report.since(since);
    Ok(())
}

/// Length and SHA-256 of a file.
fn digest(path: &Path) -> Result<(u64, [u8; 32]), Failure> {
    let failed = |error: std::io::Error| Failure::file("read", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut bytes, mut buffer) = (Context::new(&SHA256), 0, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(read) => hash.update(read),
        }
        bytes += u64::try_from(read).unwrap_or(0);
    }
    let mut sha256 = [0; 32];
    sha256.iter_mut().zip(hash.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
    Ok((bytes, sha256))
}
