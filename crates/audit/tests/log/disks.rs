//! Full and failing disks.

use crate::common::*;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::verify::{Trusted, verify_on};
use holdfast_audit::{AppendError, Config, Log, Mark, Priority, WalHealth};
use std::path::Path;
use std::sync::Arc;
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
