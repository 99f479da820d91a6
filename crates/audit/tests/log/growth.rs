//! What is appended stands in tiles, in order, and goes on after a restart.

use crate::common::*;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::disk::Disk as _;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::merkle::verify_consistency;
use holdfast_audit::verify::{Trusted, verify_on, verify_proof};
use holdfast_audit::{AppendError, Config, Log, Mark, Priority, StateMark};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn entries_come_back_in_order_with_proofs_and_openings() {
    let disk = SimDisk::new();
    let (log, recovered) = open_with(&disk, &["tenant-a", "_gateway"]).unwrap();
    assert_eq!((recovered.cut_bytes, recovered.next_batch), (0, 0));
    appended(&log, "tenant-a", 300);
    appended(&log, "_gateway", 3);
    log.flush_tree(&id("tenant-a")).unwrap();
    log.flush_tree(&id("_gateway")).unwrap();
    let mut reader = read_on(&disk, "tenant-a");
    let size = reader.checkpoint().size;
    assert_eq!(size, 300);
    for from in [0, 255, 256, 299] {
        let read: Vec<_> = reader.entries(from).map(Result::unwrap).collect();
        assert_eq!(read, (from..300).map(|index| (index, entry("tenant-a", index))).collect::<Vec<_>>());
    }
    assert_eq!(reader.entries(300).count(), 0);
    let first = reader.checkpoint().clone();
    let openings = log.openings(&id("tenant-a"));
    for index in [0, 1, 255, 256, 299] {
        let opening = openings.read(index).unwrap().unwrap();
        assert_eq!(opening, opening_of(index));
        let proof = reader.prove(index, Some(&opening)).unwrap().to_string();
        let key = signer("tenant-a").verifier().clone();
        verify_proof(proof.as_bytes(), &entry("tenant-a", index), &key).unwrap();
        assert!(verify_proof(proof.as_bytes(), &entry("tenant-a", index + 1), &key).is_err());
    }
    assert!(reader.prove(300, None).is_err());
    openings.erase(255).unwrap();
    openings.erase(70_000).unwrap();
    assert_eq!((openings.read(255).unwrap(), openings.read(70_000).unwrap()), (None, None));
    assert_eq!(openings.read(256).unwrap(), Some(opening_of(256)));

    assert!(!reader.refresh().unwrap());
    appended(&log, "tenant-a", 1000);
    log.close().unwrap();
    assert!(reader.refresh().unwrap());
    let second = reader.checkpoint().clone();
    let proof = reader.prove_consistency(300).unwrap();
    assert!(verify_consistency(300, &first.root, second.size, &second.root, &proof));
    assert_eq!(read_on(&disk, "_gateway").checkpoint().size, 3);
}

fn opening_of(index: u64) -> [u8; 32] {
    opening("tenant-a", index)
}

#[test]
fn the_directory_holds_what_the_checkpoint_needs_and_no_more() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for n in [1, 6, 100, 149, 1, 43, 1, 1] {
        appended(&log, "a", n);
        log.flush_tree(&id("a")).unwrap();
    }
    log.close().unwrap();
    let files = disk.files();
    let mut names: Vec<_> = files
        .keys()
        .filter_map(|path| path.strip_prefix("/audit/a").ok())
        .map(|path| path.to_str().unwrap())
        .collect();
    names.sort_unstable();
    let expected = [
        "checkpoint",
        "log.vkey",
        "tile/0/000",
        "tile/0/001.p/45",
        "tile/0/001.p/46",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/45",
        "tile/entries/001.p/46",
    ];
    assert_eq!(names, expected);
    assert_eq!(files[Path::new("/audit/a/tile/0/000")].len(), 8192);
    let report = verify_on(Arc::new(disk), Path::new("/audit/a"), &Trusted::default(), |_, _| ()).unwrap();
    let bytes = (0..302).map(|index| entry("a", index).len() as u64).sum();
    // What an earlier checkpoint left is compared with what holds it, and not counted.
    assert_eq!((report.bytes, report.files), (bytes, 5));
}

#[test]
fn whoever_reads_by_an_old_checkpoint_finds_its_tiles() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 0, "a new log can be read");
    let whole = |paths: &[&str]| {
        paths.iter().map(|path| log.read(&id("a"), path).unwrap().unwrap()).collect::<Vec<_>>()
    };
    let paths = ["tile/0/000.p/7", "tile/entries/000.p/7"];
    appended(&log, "a", 7);
    log.flush_tree(&id("a")).unwrap();
    let seen = whole(&paths);
    assert_eq!(seen[0].len(), 7 * 32);
    let bundle = (0..7).map(|index| 2 + entry("a", index).len()).sum::<usize>();
    assert_eq!(seen[1].len(), bundle);
    for n in [1, 50, 190, 20] {
        appended(&log, "a", n);
        log.flush_tree(&id("a")).unwrap();
        assert!(whole(&paths) == seen, "the tree has grown by {n}");
    }
    assert!(!disk.files().contains_key(Path::new("/audit/a/tile/0/000.p/7")));
    for none in ["tile/0/001.p/13", "tile/0/001", "tile/entries/001.p/255", "tile/1/000.p/2", "tile/x"] {
        assert_eq!(log.read(&id("a"), none).unwrap(), None, "{none}");
    }
}

#[test]
fn checkpoints_are_signed_by_the_log_s_own_key() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 1);
    log.close().unwrap();
    let note = disk.files()[Path::new("/audit/a/checkpoint")].clone();
    let (checkpoint, _) = Checkpoint::open(&note, signer("a").verifier()).unwrap();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("test.example/a", 1));
    assert!(Checkpoint::open(&note, signer("bb").verifier()).is_err());
}

#[test]
fn a_restart_continues_and_reports_open_intents_and_the_last_state() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 10);
    let state = StateMark { seq: 41, digest: [5; 32] };
    for mark in [
        Mark::Intent([1; 16]),
        Mark::Intent([2; 16]),
        Mark::Outcome { op: [1; 16], state: Some(state) },
        Mark::Outcome { op: [9; 16], state: None },
    ] {
        append_as(&log, "a", mark).wait_blocking().unwrap();
    }
    log.close().unwrap();
    // The mark is carried along though its own segment is long gone.
    for _ in 0..3 {
        let (log, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.state, Some(state));
        assert_eq!(recovered.logs.into_keys().collect::<Vec<_>>(), [id("a")]);
        let open: Vec<_> = recovered.open_intents.iter().map(|intent| (intent.op, intent.index)).collect();
        assert_eq!(open, [([2; 16], 11)]);
        assert_eq!(recovered.open_intents[0].entry, entry("a", 11));
        let registered = log.register(&id("a"), signer("a")).unwrap();
        assert_eq!(registered.size, registered.next_index);
        appended(&log, "a", 500);
        log.close().unwrap();
    }
    // Closed at last, nothing holds its segment any more.
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    append_as(&log, "a", Mark::Outcome { op: [2; 16], state: None }).wait_blocking().unwrap();
    for _ in 0..10 {
        appended(&log, "a", 500);
        log.flush_tree(&id("a")).unwrap();
    }
    assert_eq!(log.health().open_intents, 0);
    let segments = || disk.files().into_keys().filter(|path| path.starts_with("/wal")).count();
    until("segments too many are removed", || segments() <= 5);
    log.close().unwrap();
    let (_, recovered) = open_with(&disk, &["a"]).unwrap();
    assert_eq!((recovered.state, recovered.open_intents), (Some(state), vec![]));
    assert_eq!(read_on(&disk, "a").checkpoint().size, 14 + 1500 + 1 + 5000);
}

#[test]
fn a_log_that_is_dropped_has_everything_in_its_tree() {
    let disk = SimDisk::new();
    let slow = Config { publish_interval: Duration::from_secs(3600), ..config(root()) };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), slow).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    let tickets: Vec<_> = (0..3).map(|_| append(&log, "a")).collect();
    drop(log);
    assert!(tickets.into_iter().all(|ticket| ticket.wait_blocking().is_ok()));
    assert_eq!(read_on(&disk, "a").checkpoint().size, 3);
}

#[test]
fn an_intent_that_stays_open_is_told_with_what_it_holds() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    append_as(&log, "a", Mark::Intent([7; 16])).wait_blocking().unwrap();
    append_as(&log, "a", Mark::Intent([8; 16])).wait_blocking().unwrap();
    while log.health().segments < 6 {
        append(&log, "a").wait_blocking().unwrap();
    }
    log.flush_tree(&id("a")).unwrap();
    let oldest = log.health().oldest_intent.unwrap();
    assert_eq!((oldest.op, oldest.log, oldest.segments), ([7; 16], id("a"), 5));
    append_as(&log, "a", Mark::Outcome { op: [7; 16], state: None }).wait_blocking().unwrap();
    log.flush_tree(&id("a")).unwrap();
    assert_eq!(log.health().oldest_intent.unwrap().op, [8; 16]);
    append_as(&log, "a", Mark::Outcome { op: [8; 16], state: None }).wait_blocking().unwrap();
    log.flush_tree(&id("a")).unwrap();
    let health = log.health();
    assert_eq!((health.open_intents, health.oldest_intent, health.segments), (0, None, 1));
}

/// What is known to be durable is not synced once more: the tiles' three directories, and the log's for its checkpoint.
#[test]
fn a_tree_that_grows_syncs_the_directories_that_have_changed_and_no_others() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 256 + 3);
    log.flush_tree(&id("a")).unwrap();
    for _ in 0..5 {
        // Segments are made ready and given back whenever there is time for it.
        let syncs =
            || disk.dir_syncs_below(Path::new("/audit")) + disk.dir_syncs_below(Path::new("/openings"));
        let before = syncs();
        append_many(&log, "a", 1);
        log.flush_tree(&id("a")).unwrap();
        assert_eq!(syncs() - before, 4);
    }
}

/// However far a tree is behind, what it takes at once is bounded, and so is the memory for it.
#[test]
fn much_is_taken_in_rounds_and_each_ends_with_a_checkpoint() {
    let disk = SimDisk::new();
    let slow = Config { publish_interval: Duration::from_secs(3600), ..large() };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), slow).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    append_largest(&log, "a", 300);
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 300);
    // 17 blocks each: 240 of them are less than 16 MiB, the next one is more. Its checkpoint's partial tiles are kept.
    assert_eq!(bundles(&disk, "a"), ["000", "000.p/241", "001.p/44"]);
}

/// What could not be written is caught up in such pieces too: each ends with a checkpoint, nothing is held for it any more, and the next goes
/// on from there.
#[test]
fn what_a_log_is_behind_is_taken_in_pieces_and_each_ends_with_a_checkpoint() {
    let disk = SimDisk::new();
    let never = Config { retry_interval: Duration::from_secs(3600), ..large() };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), never).unwrap();
    for name in ["a", "bb"] {
        log.register(&id(name), signer(name)).unwrap();
    }
    disk.fail_next_write(Path::new("/audit/a"));
    append_largest(&log, "a", 1);
    until("the tree stands still", || log.health().stalled_logs == 1);
    append_largest(&log, "a", 299);
    append_largest(&log, "bb", 1);
    log.flush_tree(&id("bb")).unwrap();
    let held = log.health().segments;
    // In the second piece.
    disk.fail_next_write(Path::new("/audit/a/tile/entries/001.p"));
    assert!(log.flush_tree(&id("a")).is_err());
    assert_eq!(bundles(&disk, "a"), ["000.p/241"]);
    assert_eq!(read_on(&disk, "a").checkpoint().size, 241);
    let health = log.health();
    assert!(health.stalled_logs == 1 && health.segments < held / 2, "{held}, {health:?}");
    log.flush_tree(&id("a")).unwrap();
    assert_eq!(bundles(&disk, "a"), ["000", "000.p/241", "001.p/44"]);
    assert_eq!((log.health().stalled_logs, read_on(&disk, "a").checkpoint().size), (0, 300));
    // And whoever ends has all of it, in however many pieces.
    disk.fail_next_write(Path::new("/audit/a"));
    append_largest(&log, "a", 1);
    until("the tree stands still", || log.health().stalled_logs == 1);
    append_largest(&log, "a", 300);
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 601);
    let verified = verify_on(Arc::new(disk), Path::new("/audit/a"), &Trusted::default(), |_, _| ());
    assert_eq!(verified.unwrap().checkpoint.size, 601);
}

/// A checkpoint that was renamed and whose directory was not synced is there for all to see. The next ones of its log are no smaller, however
/// the pieces of what another is behind fall.
#[test]
fn no_checkpoint_that_readers_see_covers_less_than_the_one_before() {
    let sim = SimDisk::new();
    let (sizes, fails) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (readers, seen, failing) = (sim.clone(), Arc::clone(&sizes), Arc::clone(&fails));
    let disk = Hooked::new(&sim, move |call, path| {
        let bb = Path::new("/audit/bb");
        if call == Call::SyncDir && path == bb && readers.list(bb)?.iter().any(|name| name == "checkpoint") {
            seen.lock().unwrap().push(read_on(&readers, "bb").checkpoint().size);
            if failing.swap(false, Ordering::Relaxed) {
                return Err(io::Error::other("simulated sync error"));
            }
        }
        Ok(())
    });
    let hour = Duration::from_secs(3600);
    let slow = Config { publish_interval: hour, retry_interval: hour, ..large() };
    let (log, _) = Log::open_on(Arc::new(disk), slow).unwrap();
    for name in ["a", "bb", "ccc"] {
        log.register(&id(name), signer(name)).unwrap();
    }
    append_largest(&log, "bb", 2);
    log.flush_tree(&id("bb")).unwrap();
    // A round in which `a` comes to a stand, and one that is passed over for it.
    sim.fail_next_write(Path::new("/audit/a"));
    for entries in [1, 237] {
        append_largest(&log, "a", entries);
        append_many(&log, "ccc", 1);
        log.flush_tree(&id("ccc")).unwrap();
        assert_eq!(log.health().stalled_logs, 1);
    }
    append_largest(&log, "bb", 20);
    fails.store(true, Ordering::Relaxed);
    // What remains is one round; then it is tried again, and the first piece from where `a` stands still ends within that.
    log.close().unwrap();
    let sizes = sizes.lock().unwrap().clone();
    assert!(sizes.is_sorted() && sizes.last() == Some(&22), "{sizes:?}");
    assert!(!fails.load(Ordering::Relaxed));
    assert_eq!(read_on(&sim, "a").checkpoint().size, 238);
    let verified = verify_on(Arc::new(sim), Path::new("/audit/bb"), &Trusted::default(), |_, _| ());
    assert_eq!(verified.unwrap().checkpoint.size, 22);
}

/// Segments that hold the largest entries.
fn large() -> Config {
    Config { segment_len: 2 << 20, max_pending: 256 << 10, ..config(root()) }
}

fn append_largest(log: &Log, name: &str, entries: u64) {
    const LARGEST: usize = 65_535;
    let mut left = entries;
    while left > 0 {
        match log.append(&id(name), Priority::Ordinary, Mark::Plain, |to| to.push(&[b'x'; LARGEST])) {
            Ok((_, ticket)) => {
                ticket.wait_blocking().unwrap();
                left -= 1;
            }
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn bundles(disk: &SimDisk, name: &str) -> Vec<String> {
    let entries = Path::new("/audit").join(name).join("tile/entries");
    let bundle = |path: &Path| Some(path.strip_prefix(&entries).ok()?.to_str()?.to_owned());
    let found: Vec<_> = disk.files().keys().filter_map(|path| bundle(path)).collect();
    found.into_iter().filter(|name| !name.ends_with(".tmp")).collect()
}
