//! A receiver that takes nothing. What the process has in memory is looked at, so nothing else is tested in it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]
#![allow(unreachable_pub)]

mod common;
#[allow(dead_code, reason = "what is shared by several tests is not used by each")]
#[path = "sink/receiver.rs"]
mod receiver;
#[allow(dead_code, reason = "what is shared by several tests is not used by each")]
#[path = "sink/rig.rs"]
mod rig;

use common::{id, signer, until};
use holdfast_audit::sink::{Pace, Sink};
use holdfast_audit::{AppendError, Config, Log, Mark, Priority};
use receiver::Mood;
use rig::{Rig, Site as _, SyslogSite, settings};
use std::time::{Duration, Instant};

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

const ENTRY: usize = 60_000;
const MANY: usize = 1500;

/// Large batches and segments, for large entries.
fn large(name: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(Config::new(dir.path())).unwrap();
    log.register(&id(name), signer(name)).unwrap();
    Rig { dir, log }
}

#[test]
fn a_receiver_that_reads_nothing_holds_up_nobody_and_costs_no_memory() {
    let site = SyslogSite::new();
    site.receiver.set(Mood::Deaf);
    let rig = large("acme");
    let write = |to: &mut holdfast_audit::Entry<'_>| to.push(&vec![b'x'; ENTRY]);
    let append = || {
        let ticket = loop {
            match rig.log.append(&id("acme"), Priority::Ordinary, Mark::Plain, write) {
                Ok((_, ticket)) => break ticket,
                // The next segment is being made.
                Err(AppendError::Overloaded) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        ticket.wait_blocking().unwrap();
    };
    append();
    let mut settings = settings(&[]);
    settings.pace = Pace { look: Duration::from_millis(2), ..Pace::default() };
    let sink = Sink::start(rig.log.feed(), settings, site.destination()).unwrap();
    until("it is connected", || site.receiver.connections() == 1);
    (0..100).for_each(|_| append());
    rig.log.flush_tree(&id("acme")).unwrap();
    let before = resident();
    (0..MANY).for_each(|_| append());
    rig.log.flush_tree(&id("acme")).unwrap();
    let grown = resident().saturating_sub(before);
    // A bundle of such entries twice, a batch and the log's own buffers; not what waits.
    assert!(grown < 48 << 20, "{grown} bytes more in memory, and {} wait", MANY * ENTRY);
    let health = sink.health();
    assert!(health.exported == 0 && health.lag > MANY as u64 && !health.behind.is_zero());
    // It stops in bounded time although its peer never answers.
    let begun = Instant::now();
    assert!(!sink.stop(Duration::from_millis(100)));
    assert!(begun.elapsed() < Duration::from_secs(20));
}
