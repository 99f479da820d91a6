//! Full and failing disks.

use crate::common::*;
use holdfast_audit::disk::Disk as _;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::verify::{Trusted, verify_on};
use holdfast_audit::{AppendError, Config, Log, Mark, Priority, WalHealth};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_failed_sync_or_write_poisons_the_log_until_it_is_opened_again() {
    for fault in ["sync", "write"] {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        appended(&log, "a", 5);
        match fault {
            "sync" => disk.fail_next_sync(Path::new("/wal/0000000000000000.wal")),
            _ => disk.fail_next_write(Path::new("/wal/0000000000000000.wal")),
        }
        assert!(append(&log, "a").wait_blocking().is_err());
        for priority in [Priority::Ordinary, Priority::Stop] {
            let refused = log.append(&id("a"), priority, Mark::Plain, |to| to.push(b"x"));
            assert!(matches!(refused, Err(AppendError::NotDurable(_))), "{fault}");
        }
        assert!(matches!(log.health().wal, WalHealth::Failed(_)));
        assert!(log.flush_tree(&id("a")).is_err());
        assert!(log.close().is_err());
        let after = disk.after_power_loss(1);
        let (log, _) = open_with(&after, &["a"]).unwrap();
        appended(&log, "a", 5);
        log.close().unwrap();
        let size = read_on(&after, "a").checkpoint().size;
        assert!((10..=11).contains(&size), "{fault}: {size}");
    }
}

#[test]
fn on_a_full_disk_only_stop_orders_are_taken_and_room_brings_the_rest_back() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 1);
    log.flush_tree(&id("a")).unwrap();
    let_nothing_grow(&disk);
    let push = |priority| log.append(&id("a"), priority, Mark::Plain, |to| to.push(&[b'x'; 4000]));
    let mut taken = 0;
    let refused = loop {
        match push(Priority::Ordinary) {
            Ok((_, ticket)) => {
                ticket.wait_blocking().unwrap();
                taken += 1;
            }
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    assert!(matches!(log.health().wal, WalHealth::Full(_)));
    assert!(taken > 20, "{taken}");
    let mut stops = 0;
    while let Ok((_, ticket)) = push(Priority::Stop) {
        ticket.wait_blocking().unwrap();
        stops += 1;
        assert!(push(Priority::Ordinary).is_err(), "the reserve is not for everyone");
    }
    assert!(stops >= 4, "32 KiB of reserve took {stops}");
    disk.set_capacity(u64::MAX);
    let back = loop {
        match push(Priority::Ordinary) {
            Ok((_, ticket)) => break ticket.wait_blocking().unwrap(),
            Err(AppendError::Full(_) | AppendError::Overloaded) => std::thread::yield_now(),
            Err(refused) => panic!("{refused}"),
        }
    };
    assert_eq!(back.index, 1 + taken + stops);
    log.flush_tree(&id("a")).unwrap();
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, back.index + 1);
}

/// Waits for the spare segment, so that only trees want more.
fn let_nothing_grow(disk: &SimDisk) {
    until("the spare segment is there", || disk.used() >= 2 * (192 << 10));
    disk.set_capacity(disk.used());
}

/// Whoever wants to end does not have to wait for the next try, an hour away here; and who asks in vain is told so.
#[test]
fn a_flush_tries_again_at_once() {
    let never = Config { retry_interval: Duration::from_secs(3600), ..config(root()) };
    let disk = SimDisk::new();
    let (log, _) = Log::open_on(Arc::new(disk.clone()), never).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    log.register(&id("bb"), signer("bb")).unwrap();
    appended(&log, "a", 1);
    log.flush_trees().unwrap();
    let_nothing_grow(&disk);
    append_many(&log, "a", 1);
    for _ in 0..3 {
        assert!(log.flush_trees().is_err());
    }
    disk.set_capacity(u64::MAX);
    log.flush_trees().unwrap();
    assert_eq!((log.health().stalled_logs, read_on(&disk, "a").checkpoint().size), (0, 2));
    log.close().unwrap();
}

#[test]
fn a_flush_reads_the_write_ahead_file_again_at_once() {
    let hour = Duration::from_secs(3600);
    let never = Config { retry_interval: hour, publish_interval: hour, ..config(root()) };
    let disk = SimDisk::new();
    let (log, _) = Log::open_on(Arc::new(disk.clone()), never).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    append_many(&log, "a", 1);
    let wal = Path::new("/wal/0000000000000000.wal");
    let last = disk.files()[wal].iter().rposition(|byte| *byte != 0).unwrap();
    disk.flip_bit(wal, last, 1);
    for _ in 0..3 {
        let why = log.flush_trees().unwrap_err().to_string();
        assert!(why.contains("can't be read back"), "{why}");
    }
    disk.flip_bit(wal, last, 1);
    log.flush_trees().unwrap();
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 1);
}

/// Growth goes on by itself where there is space again, and what is said meanwhile asks nobody to restart.
#[test]
fn on_a_full_disk_the_trees_stand_still_and_grow_again_by_themselves() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 1);
    log.flush_tree(&id("a")).unwrap();
    let_nothing_grow(&disk);
    append_many(&log, "a", 1);
    let why = log.flush_tree(&id("a")).unwrap_err().to_string();
    let said = log.health().tree.unwrap();
    assert!(why.contains(&*said) && said.contains("no storage space"), "{why}: {said}");
    assert!(said.contains("no restart is needed") && !said.contains("start again"), "{said}");
    assert_eq!((log.health().stalled_logs, read_on(&disk, "a").checkpoint().size), (1, 1));
    disk.set_capacity(u64::MAX);
    until("the tree grows again", || log.health().stalled_logs == 0);
    assert_eq!((log.health().stalled_logs, read_on(&disk, "a").checkpoint().size), (0, 2));
    // Who starts is asked to start again: there is nothing that would try it by itself.
    log.close().unwrap();
    disk.set_capacity(disk.used());
    let refusal = open_with(&disk, &["a", "new"]).map(drop).unwrap_err();
    assert!(refusal.remedy.contains("start again"), "{refusal}");
}

#[test]
fn one_damaged_directory_holds_up_no_other_log() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a", "bb"]).unwrap();
    appended(&log, "a", 3);
    appended(&log, "bb", 3);
    log.flush_tree(&id("a")).unwrap();
    log.flush_tree(&id("bb")).unwrap();
    disk.flip_bit(Path::new("/audit/a/tile/entries/000.p/3"), 5, 1);
    appended(&log, "a", 3);
    appended(&log, "bb", 3);
    log.flush_tree(&id("bb")).unwrap();
    let why = log.flush_tree(&id("a")).unwrap_err().to_string();
    assert!(why.contains("/audit/a/tile/entries/000.p/3"), "{why}");
    assert_eq!(log.health().stalled_logs, 1);
    disk.flip_bit(Path::new("/audit/a/tile/entries/000.p/3"), 5, 1);
    log.flush_tree(&id("a")).unwrap();
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 6);
    let verified = verify_on(Arc::new(disk), Path::new("/audit/a"), &Trusted::default(), |_, _| ());
    assert_eq!(verified.unwrap().checkpoint.size, 6);
}

/// What others may have changed on disk is never signed: the tree is held to the root that was, whichever hash is another.
#[test]
fn a_tree_that_is_read_again_must_lead_to_the_root_that_was_signed() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 256 + 3);
    log.flush_tree(&id("a")).unwrap();
    let row = Path::new("/audit/a/tile/1/000.p/1");
    disk.flip_bit(row, 7, 1);
    // What is in memory is forgotten when it can't be written.
    disk.fail_next_write(Path::new("/audit/a"));
    append_many(&log, "a", 1);
    let why = log.flush_tree(&id("a")).unwrap_err().to_string();
    assert!(why.contains("no longer lead to the root that was signed"), "{why}");
    assert_eq!(read_on(&disk, "a").checkpoint().size, 256 + 3);
    disk.flip_bit(row, 7, 1);
    log.flush_tree(&id("a")).unwrap();
    log.close().unwrap();
    let verified = verify_on(Arc::new(disk), Path::new("/audit/a"), &Trusted::default(), |_, _| ());
    assert_eq!(verified.unwrap().checkpoint.size, 256 + 4);
}

fn segments(disk: &SimDisk) -> usize {
    disk.files().keys().filter(|path| path.starts_with("/wal")).count()
}

/// A log that fills its one segment; a spare one is ready and two are there to be used again.
fn with_free_segments(disk: &SimDisk, retry_interval: Duration) -> Log {
    let config = Config { retry_interval, ..config(root()) };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    let are_ready = |n: usize| until("segments are ready", || segments(disk) == n && is_durable(disk));
    append_as(&log, "a", Mark::Intent([1; 16])).wait_blocking().unwrap();
    while log.health().segments < 4 {
        append(&log, "a").wait_blocking().unwrap();
    }
    are_ready(5);
    append_as(&log, "a", Mark::Outcome { op: [1; 16], state: None }).wait_blocking().unwrap();
    log.flush_tree(&id("a")).unwrap();
    are_ready(4);
    log
}

fn is_durable(disk: &SimDisk) -> bool {
    disk.is_durable(Path::new("/wal"))
}

fn first_segment(disk: &SimDisk) -> PathBuf {
    disk.files().into_keys().find(|path| path.starts_with("/wal")).unwrap()
}

/// The name has changed and may change back. Tried again, it is neither looked for under its old name nor given up.
#[test]
fn a_segment_whose_new_name_is_not_durable_at_once_becomes_the_next_one_all_the_same() {
    let disk = SimDisk::new();
    let log = with_free_segments(&disk, Duration::from_millis(20));
    let oldest = first_segment(&disk);
    disk.fail_next_sync_dir(Path::new("/wal"));
    while disk.failed() == 0 {
        append(&log, "a").wait_blocking().unwrap();
    }
    assert!(!disk.files().contains_key(&oldest));
    until("the new name is durable", || is_durable(&disk));
    assert_eq!(segments(&disk), 4, "that one, and no other beside it");
    appended(&log, "a", 1000);
    assert!(matches!(log.health().wal, WalHealth::Writing));
    log.close().unwrap();
}

#[test]
fn power_that_goes_while_a_segment_s_new_name_is_not_durable_takes_nothing_with_it() {
    let disk = SimDisk::new();
    let log = with_free_segments(&disk, Duration::from_secs(3600));
    (0..100).for_each(|_| disk.fail_next_sync_dir(Path::new("/wal")));
    let mut last = 0;
    loop {
        assert!(last < 1000, "nothing is written to a segment that may lose its name");
        match log.append(&id("a"), Priority::Ordinary, Mark::Plain, |to| to.push(b"x")) {
            Ok((_, ticket)) => last = ticket.wait_blocking().unwrap().index,
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(AppendError::Full(_)) => break,
            Err(refused) => panic!("{refused}"),
        }
    }
    let mut found = BTreeSet::new();
    for seed in 0..20 {
        let after = disk.after_power_loss(seed);
        found.insert(first_segment(&after));
        let (log, _) = open_with(&after, &["a"]).unwrap();
        assert!(append(&log, "a").wait_blocking().unwrap().index > last);
        appended(&log, "a", 500);
        log.close().unwrap();
        let (log, _) = open_with(&after, &["a"]).unwrap();
        log.close().unwrap();
    }
    assert_eq!(found.len(), 2, "under its old name and its new one");
}

/// What is not needed and can't be removed keeps nobody from writing.
#[test]
fn a_segment_too_many_that_cannot_be_removed_makes_no_disk_full() {
    let disk = SimDisk::new();
    let config = Config { retry_interval: Duration::from_secs(3600), ..config(root()) };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    append_as(&log, "a", Mark::Intent([1; 16])).wait_blocking().unwrap();
    while log.health().segments < 8 {
        append(&log, "a").wait_blocking().unwrap();
    }
    until("the spare segment is there", || segments(&disk) == 9 && is_durable(&disk));
    disk.fail_next_removal(Path::new("/wal"));
    append_as(&log, "a", Mark::Outcome { op: [1; 16], state: None }).wait_blocking().unwrap();
    log.flush_tree(&id("a")).unwrap();
    until("a removal has failed", || disk.failed() == 1);
    let health = log.health();
    assert!(matches!(health.wal, WalHealth::Writing), "{health:?}");
    // It is the oldest one, and goes before all others.
    while segments(&disk) > 5 {
        append(&log, "a").wait_blocking().unwrap();
    }
    assert!(matches!(log.health().wal, WalHealth::Writing));
    log.close().unwrap();
    open_with(&disk, &["a"]).unwrap().0.close().unwrap();
}

#[test]
fn a_segment_that_is_gone_when_it_is_to_be_used_again_is_made_anew() {
    let disk = SimDisk::new();
    let log = with_free_segments(&disk, Duration::from_secs(3600));
    disk.remove_file(&first_segment(&disk)).unwrap();
    appended(&log, "a", 1000);
    assert!(matches!(log.health().wal, WalHealth::Writing));
    log.close().unwrap();
}

/// The log is full for want of just these segments, so that no batch comes by which it would be tried again.
#[test]
fn segments_that_could_not_be_given_back_are_given_back_without_another_batch() {
    let sim = SimDisk::new();
    let [known, segment] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let fails = [Arc::clone(&known), Arc::clone(&segment)].map(|fails| move || fails.load(Ordering::Relaxed));
    let disk = Hooked::new(&sim, move |call, path| {
        let [known, segment] = &fails;
        let fails = match call {
            Call::Rename => path == Path::new("/log.known") && known(),
            Call::Create => path.starts_with("/wal") && segment(),
            Call::SyncDir => false,
        };
        if fails { Err(io::Error::other("simulated error")) } else { Ok(()) }
    });
    let (log, _) = Log::open_on(Arc::new(disk), config(root())).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    until("the spare segment is there", || segments(&sim) == 2 && is_durable(&sim));
    known.store(true, Ordering::Relaxed);
    segment.store(true, Ordering::Relaxed);
    let is_taken = || loop {
        match log.append(&id("a"), Priority::Ordinary, Mark::Plain, |to| to.push(&[b'x'; 4000])) {
            Ok((_, ticket)) => break ticket.wait_blocking().is_ok(),
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(AppendError::Full(_)) => break false,
            Err(refused) => panic!("{refused}"),
        }
    };
    while is_taken() {}
    until("all is read", || {
        let health = log.health();
        health.published_batches == health.durable_batches
    });
    let said = log.health().not_given_back.unwrap();
    assert!(said.contains("/log.known") && said.contains("no restart is needed"), "{said}");
    known.store(false, Ordering::Relaxed);
    until("a segment is used again", is_taken);
    assert_eq!(log.health().not_given_back, None);
    log.close().unwrap();
}

#[test]
fn a_start_on_a_full_disk_has_the_segment_that_was_ready() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 1);
    log.flush_tree(&id("a")).unwrap();
    let_nothing_grow(&disk);
    log.close().unwrap();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let mut taken = 0;
    loop {
        match log.append(&id("a"), Priority::Ordinary, Mark::Plain, |to| to.push(&[b'x'; 4000])) {
            Ok((_, ticket)) => {
                ticket.wait_blocking().unwrap();
                taken += 1;
            }
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(refused) => {
                assert!(matches!(refused, AppendError::Full(_)), "{refused}");
                break;
            }
        }
    }
    // Two blocks each: more than one segment of 48 holds.
    assert!(taken > 24, "{taken}");
}
