//! Loss of power at any point, on a disk that drops, tears and reorders what was not synced; damage after the fact.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod common;

use common::*;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::disk::{Access, Disk as _, sim::SimDisk};
use holdfast_audit::merkle::verify_consistency;
use holdfast_audit::reader::LogReader;
use holdfast_audit::scrub::write_ahead_file_on;
use holdfast_audit::verify::{Trusted, verify_on};
use holdfast_audit::{AppendError, Config, Log, Mark, Position, Priority, Recovered};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const NAMES: [&str; 2] = ["a", "bb"];

fn dir(name: &str) -> PathBuf {
    Path::new("/audit").join(name)
}

/// Appends until told otherwise or the power goes; gives what was promised.
fn work(
    disk: &SimDisk,
    log: &Log,
    entries: u64,
    burst: u64,
) -> (Vec<(&'static str, Position)>, Vec<Checkpoint>) {
    let mut promised = Vec::new();
    let mut published = Vec::new();
    let mut left = entries;
    while left > 0 && !disk.is_off() {
        let mut tickets = Vec::new();
        for n in 0..burst.min(left) {
            let name = NAMES[(n % 3 / 2) as usize];
            let write = |to: &mut holdfast_audit::Entry<'_>| {
                let bytes = entry(name, to.index());
                to.push(&bytes);
            };
            match log.append(&id(name), Priority::Ordinary, Mark::Plain, write) {
                Ok((_, ticket)) => tickets.push((name, ticket)),
                Err(AppendError::Overloaded | AppendError::Full(_)) => break,
                Err(_) => return (promised, published),
            }
        }
        left -= tickets.len() as u64;
        for (name, ticket) in tickets {
            match ticket.wait_blocking() {
                Ok(position) => promised.push((name, position)),
                Err(_) => return (promised, published),
            }
        }
        // What anybody could have seen of a log's checkpoint so far.
        for name in NAMES {
            if let Ok(reader) = LogReader::open_on(Arc::new(disk.clone()), &dir(name)) {
                published.push(reader.checkpoint().clone());
            }
        }
    }
    (promised, published)
}

fn check(disk: &SimDisk, promised: &[(&str, Position)], published: &[Checkpoint], found: &Recovered) {
    for name in NAMES {
        let Ok(reader) = LogReader::open_on(Arc::new(disk.clone()), &dir(name)) else {
            assert!(promised.iter().all(|(of, _)| *of != name), "{name} has no checkpoint");
            continue;
        };
        let now = reader.checkpoint();
        for (_, position) in promised.iter().filter(|(of, _)| *of == name) {
            assert!(
                position.index < now.size,
                "{name}: {position:?} was promised, {} are there; {found:?}",
                now.size
            );
        }
        for (index, read) in (0..).zip(reader.entries(0)) {
            assert_eq!(read.unwrap(), (index, entry(name, index)));
        }
        for earlier in published.iter().filter(|earlier| earlier.origin == now.origin) {
            let proof = reader.prove_consistency(earlier.size).unwrap();
            assert!(
                verify_consistency(earlier.size, &earlier.root, now.size, &now.root, &proof),
                "{name} was rewritten"
            );
        }
        let key = Some(signer(name).verifier().clone());
        let trusted = Trusted { key, ..Trusted::default() };
        verify_on(Arc::new(disk.clone()), &dir(name), &trusted, |_, _| ()).unwrap();
    }
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    ProptestConfig::default().cases / 16
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Several lives, each cut short at some write or sync.
    #[test]
    fn what_was_promised_survives(lives in prop::collection::vec((0..2500_u64, any::<u64>(), 1..40_u64), 1..5)) {
        let mut disk = SimDisk::new();
        let (mut promised, mut published) = (Vec::new(), Vec::new());
        for (operations, seed, burst) in lives {
            disk.cut_power_after(operations);
            if let Ok((log, _)) = open_with(&disk, &NAMES) {
                let (more, seen) = work(&disk, &log, 100 * burst, burst);
                promised.extend(more);
                published.extend(seen);
            }
            disk = disk.after_power_loss(seed);
            let (log, found) = open_with(&disk, &NAMES).unwrap();
            log.close().unwrap();
            check(&disk, &promised, &published, &found);
        }
    }

    /// Processes that are killed leave what they had not synced in the page cache, and the next ones build on it until the power goes.
    #[test]
    fn what_killed_processes_left_unsynced_is_made_durable_before_anything_relies_on_it(
        lives in prop::collection::vec((0..1200_u64, any::<bool>(), 1..40_u64), 1..6),
        seed: u64,
    ) {
        let mut disk = SimDisk::new();
        let (mut promised, mut published) = (Vec::new(), Vec::new());
        for (operations, ends_in_order, burst) in lives {
            if !ends_in_order {
                disk.cut_power_after(operations);
            }
            if let Ok((log, _)) = open_with(&disk, &NAMES) {
                let (more, seen) = work(&disk, &log, 100 * burst, burst);
                promised.extend(more);
                published.extend(seen);
            }
            disk = disk.after_kill();
        }
        let disk = disk.after_power_loss(seed);
        let (log, found) = open_with(&disk, &NAMES).unwrap();
        log.close().unwrap();
        check(&disk, &promised, &published, &found);
    }

    /// The power goes while recovery itself writes.
    #[test]
    fn recovery_can_be_cut_short_too(first in 50..1500_u64, second in 0..40_u64, seeds: (u64, u64)) {
        let disk = SimDisk::new();
        disk.cut_power_after(first);
        let (mut promised, mut published) = (Vec::new(), Vec::new());
        if let Ok((log, _)) = open_with(&disk, &NAMES) {
            (promised, published) = work(&disk, &log, 2000, 20);
        }
        let disk = disk.after_power_loss(seeds.0);
        disk.cut_power_after(second);
        drop(open_with(&disk, &NAMES).map(|(log, _)| log.close()));
        let disk = disk.after_power_loss(seeds.1);
        let (log, found) = open_with(&disk, &NAMES).unwrap();
        log.close().unwrap();
        check(&disk, &promised, &published, &found);
    }

    /// A bit of the write-ahead file turned afterwards: refused, or it was in the tail that nobody else knows of and
    /// is then reported as cut; never a silent loss.
    #[test]
    fn a_flipped_bit_in_the_write_ahead_file_is_never_silent(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        for _ in 0..20 {
            append(&log, "a").wait_blocking().unwrap();
        }
        log.close().unwrap();
        let path = Path::new("/wal/0000000000000000.wal");
        let bytes = disk.files()[path].clone();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let at = at.index(end);
        disk.flip_bit(path, at, bit);
        match open_with(&disk, &["a"]) {
            Err(refusal) => prop_assert!(refusal.file == path || refusal.file == dir("a").join("checkpoint"), "{refusal}"),
            // Padding between batches belongs to none of them.
            Ok((_, recovered)) => prop_assert!(bytes[at] == 0 && recovered.cut_bytes == 0),
        }
    }
}

/// Wherever it ended, and whatever the next one does before the power goes.
#[test]
fn a_killed_process_leaves_no_name_that_the_next_one_takes_for_durable() {
    let mut operations = 0;
    loop {
        let disk = SimDisk::new();
        disk.cut_power_after(operations);
        let (mut promised, published) = match open_with(&disk, &NAMES) {
            Ok((log, _)) => work(&disk, &log, 6, 2),
            Err(_) => (Vec::new(), Vec::new()),
        };
        let is_over = !disk.is_off();
        let next = disk.after_kill();
        let (log, position) = first_promise(&next);
        promised.push(("a", position));
        survives(&next, &promised, &published, operations);
        drop(log);
        promised.pop();
        for grows in NAMES {
            let next = disk.after_kill();
            let before = promised.len();
            let (log, _) = open_with(&next, &NAMES).unwrap();
            // Segments that no tree needs are used again.
            let first = Path::new(FIRST);
            while next.files().contains_key(first) || !next.is_durable(Path::new("/wal")) {
                promised.push((grows, append(&log, grows).wait_blocking().unwrap()));
            }
            survives(&next, &promised, &published, operations);
            promised.truncate(before);
        }
        if is_over {
            break;
        }
        operations += 1;
    }
}

/// What a process promises first, before any tree grows.
fn first_promise(disk: &SimDisk) -> (Log, Position) {
    let slow = Config { publish_interval: Duration::from_secs(3600), ..config(root()) };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), slow).unwrap();
    for name in NAMES {
        log.register(&id(name), signer(name)).unwrap();
    }
    let position = append(&log, "a").wait_blocking().unwrap();
    (log, position)
}

fn survives(disk: &SimDisk, promised: &[(&str, Position)], published: &[Checkpoint], operations: u64) {
    for seed in 0..6 {
        let disk = disk.after_power_loss(seed);
        let opened = open_with(&disk, &NAMES);
        let (log, found) =
            opened.unwrap_or_else(|refusal| panic!("after {operations} operations: {refusal}"));
        log.close().unwrap();
        check(&disk, promised, published, &found);
    }
}

/// A log of three batches, none of them in tiles: the trees' part is refused its place.
fn three_batches() -> SimDisk {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for _ in 0..3 {
        append(&log, "a").wait_blocking().unwrap();
    }
    drop(log);
    // Only the write-ahead file is left: no checkpoint knows more than it does.
    for path in disk.files().into_keys().filter(|path| path.starts_with("/audit")) {
        disk.remove_file(&path).unwrap();
    }
    for dir in ["tile/0/000.p", "tile/entries/000.p", "tile/0", "tile/entries", "tile"] {
        disk.remove_dir(&Path::new("/audit/a").join(dir)).unwrap();
    }
    disk
}

const FIRST: &str = "/wal/0000000000000000.wal";

#[test]
fn a_torn_tail_is_cut_and_reported_and_the_log_goes_on() {
    for (batch, at) in [("body", 2 * 4096 + 100), ("header", 2 * 4096 + 20)] {
        let disk = three_batches();
        disk.flip_bit(Path::new(FIRST), at, 3);
        let (log, recovered) = open_with(&disk, &["a"]).unwrap();
        assert_eq!((recovered.cut_bytes, recovered.next_batch), (4096, 2), "{batch}");
        drop(log);
        let (log, recovered) = open_with(&disk, &["a"]).unwrap();
        assert_eq!((recovered.cut_bytes, recovered.next_batch), (0, 2), "{batch}: cut once and for all");
        let position = append(&log, "a").wait_blocking().unwrap();
        assert_eq!((position.batch, position.index), (2, 2));
        log.close().unwrap();
        let (_, recovered) = open_with(&disk, &["a"]).unwrap();
        assert_eq!((recovered.cut_bytes, recovered.next_batch), (0, 3), "{batch}");
    }
}

/// Only what stands at the end, under the next number, is a tail: the rest is older, and is written over in its turn.
#[test]
fn what_stands_behind_the_end_and_is_no_tail_of_it_is_left_as_it_is() {
    const NEXT: &str = "/wal/0000000000000001.wal";
    let disk = three_batches();
    let [whole, torn, damaged] = [None, Some(100), Some(20)].map(|flip| {
        let mut batch = disk.files()[Path::new(FIRST)][4096..2 * 4096].to_vec();
        flip.into_iter().for_each(|at: usize| batch[at] ^= 8);
        batch
    });
    let first = disk.open(Path::new(FIRST), Access::Write).unwrap();
    for (at, batch) in [(3, &torn), (4, &whole), (5, &torn), (6, &damaged)] {
        first.write_all_at(batch, at * 4096).unwrap();
    }
    let mut next = vec![0; 192 << 10];
    next[..4096].copy_from_slice(&damaged);
    write(&disk, Path::new(NEXT), &next);
    let before = disk.files();
    let (log, recovered) = open_with(&disk, &["a"]).unwrap();
    assert_eq!((recovered.cut_bytes, recovered.next_batch), (0, 3));
    for path in [FIRST, NEXT].map(Path::new) {
        assert!(disk.files()[path] == before[path], "{}", path.display());
    }
    assert_eq!(append(&log, "a").wait_blocking().unwrap().index, 3);
    log.close().unwrap();
}

#[test]
fn of_a_tail_that_its_file_cuts_off_no_more_is_reported_than_there_is() {
    for left in [50, 100] {
        let disk = three_batches();
        let whole = disk.files()[Path::new(FIRST)].clone();
        write(&disk, Path::new(FIRST), &whole[..2 * 4096 + left]);
        let (log, recovered) = open_with(&disk, &["a"]).unwrap();
        assert_eq!((recovered.cut_bytes, recovered.next_batch), (left as u64, 2));
        log.close().unwrap();
    }
}

#[test]
fn a_bad_batch_before_good_ones_is_refused_with_file_and_place() {
    for at in [0, 20, 100, 4096, 4096 + 60, 4096 + 200] {
        let disk = three_batches();
        disk.flip_bit(Path::new(FIRST), at, 3);
        let Err(refusal) = open_with(&disk, &["a"]) else { panic!("byte {at}") };
        assert_eq!(
            (refusal.file.as_path(), refusal.offset),
            (Path::new(FIRST), Some(at as u64 / 4096 * 4096))
        );
        assert!(refusal.remedy.contains("docs/operate/rollback.md"), "{refusal}");
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    // An open intent keeps all segments.
    append_as(&log, "a", Mark::Intent([1; 16])).wait_blocking().unwrap();
    for _ in 0..400 {
        append(&log, "a").wait_blocking().unwrap();
    }
    log.close().unwrap();
    // A next segment that is only just being made ready has no durable name yet, or one that is no segment's.
    let disk = disk.after_power_loss(1);
    let is_segment =
        |path: &PathBuf| path.starts_with("/wal") && path.extension().is_some_and(|kind| kind == "wal");
    let segments: Vec<_> = disk.files().into_keys().filter(is_segment).collect();
    assert!(segments.len() >= 6, "{segments:?}");
    let (log, recovered) = open_with(&disk.after_power_loss(1), &["a"]).unwrap();
    assert_eq!(recovered.open_intents.len(), 1);
    drop(log);
    for missing in &segments[1..segments.len() - 1] {
        let disk = disk.after_power_loss(1);
        disk.remove_file(missing).unwrap();
        let refusal = open_with(&disk, &["a"]).map(|_| ()).unwrap_err();
        assert_eq!(&refusal.file, missing);
    }
}

#[test]
fn last_week_s_directory_is_refused_on_either_side() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let grow = |log: &Log, n: u64| {
        for _ in 0..n {
            append(log, "a").wait_blocking().unwrap();
        }
    };
    grow(&log, 10);
    log.close().unwrap();
    let old = disk.files();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    grow(&log, 10);
    log.close().unwrap();
    // Who looks at a directory without serving it is told the same.
    let refused = |disk: &SimDisk, size: u64| {
        let found = write_ahead_file_on(Arc::new(disk.clone()), root()).unwrap();
        let told = found.next_index(&id("a"), &dir("a"), size).unwrap_err();
        assert_eq!(told, open_with(disk, &["a"]).map(|_| ()).unwrap_err());
        told.to_string()
    };
    let older = disk.after_power_loss(1);
    for (path, bytes) in old.iter().filter(|(path, _)| path.starts_with("/wal")) {
        write(&older, path, bytes);
    }
    let refusal = refused(&older, 20);
    assert!(refusal.contains("covers 20 entries, yet the write-ahead file knows only 10"), "{refusal}");
    // The other way round the log simply catches up from the write-ahead file, as after a crash,
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for _ in 0..6 {
        grow(&log, 100);
        log.flush_tree(&id("a")).unwrap();
    }
    log.close().unwrap();
    // unless that has been used again since.
    for (path, bytes) in old.iter().filter(|(path, _)| path.starts_with("/audit")) {
        drop(disk.create_dir(path.parent().unwrap()));
        write(&disk, path, bytes);
    }
    let refusal = refused(&disk, 10);
    assert!(refusal.contains("covers 10 entries, yet the write-ahead file begins with"), "{refusal}");
}

/// Also where the write-ahead file has none of its entries any more, nobody else's log is shorter, and as much of it is gone as there was.
#[test]
fn a_log_that_is_shorter_than_what_was_known_of_it_is_refused() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &NAMES).unwrap();
    let begun = disk.files();
    append_many(&log, "a", 10);
    log.flush_trees().unwrap();
    let older = disk.files();
    append_many(&log, "a", 10);
    log.flush_trees().unwrap();
    let first = Path::new(FIRST);
    until("the segment is given back", || {
        appended(&log, "bb", 50);
        // For good: it would come back with a name that has not lasted.
        !disk.files().contains_key(first) && disk.is_durable(Path::new("/wal"))
    });
    log.close().unwrap();
    open_with(&disk.after_power_loss(1), &NAMES).unwrap();
    for (files, size) in [(&begun, 0), (&older, 10)] {
        let disk = disk.after_power_loss(1);
        for path in disk.files().into_keys().filter(|path| path.starts_with("/audit/a")) {
            disk.remove_file(&path).unwrap();
        }
        if size == 0 {
            for dir in ["tile/0/000.p", "tile/entries/000.p", "tile/0", "tile/entries", "tile"] {
                disk.remove_dir(&Path::new("/audit/a").join(dir)).unwrap();
            }
        }
        for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("/audit/a")) {
            write(&disk, path, bytes);
        }
        let (log, found) = open(&disk).unwrap();
        assert_eq!(found.logs.into_keys().collect::<Vec<_>>(), [id("bb")]);
        let refusal = log.register(&id("a"), signer("a")).unwrap_err().to_string();
        assert!(
            refusal.contains(&format!("the log has {size} entries, yet `/log.known` knows of 20")),
            "{refusal}"
        );
    }
}

#[test]
fn another_history_is_refused() {
    let make = |salt: &str| {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        for n in 0..10 {
            let write = |to: &mut holdfast_audit::Entry<'_>| to.push(format!("{n}{salt}").as_bytes());
            log.append(&id("a"), Priority::Ordinary, Mark::Plain, write).unwrap().1.wait_blocking().unwrap();
        }
        log.close().unwrap();
        disk
    };
    let (one, other) = (make(""), make("x"));
    for (path, bytes) in other.files().into_iter().filter(|(path, _)| path.starts_with("/audit")) {
        if let Ok(file) = one.open(&path, Access::Create) {
            file.write_all_at(&bytes, 0).unwrap();
        }
    }
    let refusal = open_with(&one, &["a"]).map(|_| ()).unwrap_err().to_string();
    assert!(refusal.contains("entry 0 is not that of the write-ahead file"), "{refusal}");
}

#[test]
fn no_ticket_resolves_before_its_sync() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for _ in 0..50 {
        let position = append(&log, "a").wait_blocking().unwrap();
        let after = disk.after_power_loss(u64::from(position.ordinal) + position.index);
        let (again, recovered) = open_with(&after, &["a"]).unwrap();
        assert!(recovered.next_batch > position.batch);
        again.close().unwrap();
        let reader = LogReader::open_on(Arc::new(after), &dir("a")).unwrap();
        assert_eq!(reader.entry(position.index).unwrap(), entry("a", position.index));
    }
}

/// After a failed sync the batch stands in the page cache only, though it reads back whole; a later sync of the same
/// file would not write it.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again_before_anything_builds_on_it() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    append(&log, "a").wait_blocking().unwrap();
    disk.fail_next_sync(Path::new(FIRST));
    assert!(append(&log, "a").wait_blocking().is_err());
    drop(log);
    let (log, recovered) = open_with(&disk, &["a"]).unwrap();
    assert_eq!(recovered.next_batch, 2, "it reads back");
    assert_eq!(append(&log, "a").wait_blocking().unwrap().index, 2);
    let after = disk.after_power_loss(1);
    let (again, recovered) = open_with(&after, &["a"]).unwrap();
    assert_eq!(recovered.next_batch, 3);
    again.close().unwrap();
    check(&after, &[], &[], &recovered);
}
