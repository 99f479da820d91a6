//! What the tests of the log share.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]
#![allow(dead_code, unreachable_pub)]

use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::disk::{Access, Disk, File};
use holdfast_audit::key::Signer;
use holdfast_audit::reader::LogReader;
use holdfast_audit::{AppendError, Config, Log, LogId, Mark, Priority, Recovered, Refusal, Ticket};
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something holds that a thread of its own or another process does.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let (_keep, never) = mpsc::channel::<()>();
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        let _time_passed = never.recv_timeout(Duration::from_millis(2));
    }
}

pub fn id(name: &str) -> LogId {
    name.parse().unwrap()
}

pub fn signer(name: &str) -> Signer {
    let seed = [name.len() as u8; 32];
    Signer::from_seed(&format!("test.example/{name}"), &Zeroizing::new(seed)).unwrap()
}

/// Small segments, quick checkpoints.
pub fn config(data: &Path) -> Config {
    Config {
        segment_len: 192 << 10,
        reserve: 32 << 10,
        max_pending: 24 << 10,
        publish_interval: Duration::from_millis(5),
        retry_interval: Duration::from_millis(20),
        ..Config::new(data)
    }
}

pub fn root() -> &'static Path {
    Path::new("/")
}

pub fn open(disk: &SimDisk) -> Result<(Log, Recovered), Refusal> {
    Log::open_on(Arc::new(disk.clone()), config(root()))
}

pub fn open_with(disk: &SimDisk, names: &[&str]) -> Result<(Log, Recovered), Refusal> {
    let (log, recovered) = open(disk)?;
    for name in names {
        log.register(&id(name), signer(name))?;
    }
    Ok((log, recovered))
}

/// The bytes of entry `index` of a log in these tests.
pub fn entry(name: &str, index: u64) -> Vec<u8> {
    let pad = "x".repeat((index as usize * 37) % 700);
    format!("{{\"log\":\"{name}\",\"seq\":{index},\"pad\":\"{pad}\"}}").into_bytes()
}

pub fn append(log: &Log, name: &str) -> Ticket {
    append_as(log, name, Mark::Plain)
}

pub fn append_as(log: &Log, name: &str, mark: Mark) -> Ticket {
    let write = |to: &mut holdfast_audit::Entry<'_>| {
        to.set_opening(&opening(name, to.index()));
        let bytes = entry(name, to.index());
        to.push(&bytes);
    };
    loop {
        match log.append(&id(name), Priority::Ordinary, mark, write) {
            Ok((_, ticket)) => return ticket,
            // The next segment is being made.
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn opening(name: &str, index: u64) -> [u8; 32] {
    let mut opening = [name.len() as u8; 32];
    opening[..8].copy_from_slice(&index.to_be_bytes());
    opening
}

pub fn append_many(log: &Log, name: &str, n: u64) {
    let tickets: Vec<_> = (0..n).map(|_| append(log, name)).collect();
    for ticket in tickets {
        ticket.wait_blocking().unwrap();
    }
}

pub fn appended(log: &Log, name: &str, n: u64) {
    // Not more at once than may be pending.
    for _ in 0..n / 50 {
        append_many(log, name, 50);
    }
    append_many(log, name, n % 50);
}

pub fn read_on(disk: &SimDisk, name: &str) -> LogReader {
    LogReader::open_on(Arc::new(disk.clone()), &Path::new("/audit").join(name)).unwrap()
}

pub fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    disk.open(path, Access::Create).unwrap().write_all_at(bytes, 0).unwrap();
}

/// A call of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create,
    /// With the name that the file is to get.
    Rename,
    SyncDir,
}

type Hook = dyn Fn(Call, &Path) -> io::Result<()> + Send + Sync;

/// A disk whose calls a test sees before they are made, and lets fail.
pub struct Hooked {
    disk: SimDisk,
    before: Box<Hook>,
}

impl Hooked {
    pub fn new(
        disk: &SimDisk,
        before: impl Fn(Call, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { disk: disk.clone(), before: Box::new(before) }
    }
}

impl Disk for Hooked {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        if access == Access::Create {
            (self.before)(Call::Create, path)?;
        }
        self.disk.open(path, access)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.before)(Call::Rename, to)?;
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (self.before)(Call::SyncDir, path)?;
        self.disk.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
}
