//! The log as a whole: what is appended stands in tiles that third-party tools verify; refusals; full and failing
//! disks.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod common;

use common::*;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::cosignature::cosign;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::disk::{Access, Disk};
use holdfast_audit::key::Signer;
use holdfast_audit::merkle::{leaf_hash, verify_consistency};
use holdfast_audit::policy::Policy;
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{Trust, Trusted, VerifyError, verify, verify_on, verify_proof};
use holdfast_audit::{AppendError, Config, Continuity, Log, Mark, Priority, Refusal, StateMark, WalHealth};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

fn append_many(log: &Log, name: &str, n: u64) {
    let tickets: Vec<_> = (0..n).map(|_| append(log, name)).collect();
    for ticket in tickets {
        ticket.wait_blocking().unwrap();
    }
}

fn appended(log: &Log, name: &str, n: u64) {
    // Not more at once than may be pending.
    for _ in 0..n / 50 {
        append_many(log, name, 50);
    }
    append_many(log, name, n % 50);
}

fn read_on(disk: &SimDisk, name: &str) -> LogReader {
    LogReader::open_on(Arc::new(disk.clone()), &Path::new("/audit").join(name)).unwrap()
}

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
fn under_an_older_checkpoint_a_tile_that_has_grown_since_is_held_to_its_entries() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let path = Path::new("/audit/a/checkpoint");
    appended(&log, "a", 7);
    log.flush_tree(&id("a")).unwrap();
    let older = disk.files()[path].clone();
    for n in [1, 12] {
        appended(&log, "a", n);
        log.flush_tree(&id("a")).unwrap();
    }
    log.close().unwrap();
    let put = |path: &Path, bytes: &[u8]| {
        disk.open(path, Access::Create).unwrap().write_all_at(bytes, 0).unwrap();
    };
    disk.remove_file(path).unwrap();
    put(path, &older);
    let size = || {
        let verified =
            verify_on(Arc::new(disk.clone()), Path::new("/audit/a"), &Trusted::default(), |_, _| ());
        verified.map(|report| report.checkpoint.size).map_err(|error| error.to_string())
    };
    assert_eq!(size(), Ok(7));
    let tiles: Vec<_> = disk.files().into_keys().filter(|path| path.starts_with("/audit/a/tile/0")).collect();
    let exact = Path::new("/audit/a/tile/0/000.p/7");
    assert!(!tiles.is_empty() && !tiles.iter().any(|tile| tile == exact));
    for tile in &tiles {
        disk.flip_bit(tile, 40, 0);
    }
    assert!(size().unwrap_err().contains("its hashes are not those of the entries"));
    for tile in &tiles {
        disk.flip_bit(tile, 40, 0);
    }
    // The tile of this very width holds no more than its hashes.
    let longer = disk.files()[&tiles[0]][..8 * 32].to_vec();
    put(exact, &longer[..7 * 32]);
    assert_eq!(size(), Ok(7));
    put(exact, &longer);
    assert!(size().unwrap_err().contains("its hashes are not those of the entries"));
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
fn a_log_that_lost_its_checkpoint_does_not_begin_anew() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 7);
    log.close().unwrap();
    disk.remove_file(Path::new("/audit/a/checkpoint")).unwrap();
    let (log, _) = open(&disk).unwrap();
    let refusal = log.register(&id("a"), signer("a")).unwrap_err();
    assert!(refusal.to_string().contains("it is missing, yet the log has tiles"), "{refusal}");
}

#[test]
fn third_party_tools_verify_the_directory_as_it_lies() {
    struct Tiles<'a>(&'a Path);
    impl tlog_tiles::TileReader for Tiles<'_> {
        fn height(&self) -> u8 {
            8
        }
        fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::tlog::Error> {
            let read = |tile: &tlog_tiles::Tile| {
                // Their paths are those of the Go checksum database: height and level.
                let path = tile.path().replacen("tile/8/", "tile/", 1);
                std::fs::read(self.0.join(path)).unwrap()
            };
            Ok(tiles.iter().map(read).collect())
        }
        fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
    }
    let data = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(config(data.path())).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    appended(&log, "a", 700);
    log.flush_tree(&id("a")).unwrap();
    let earlier = std::fs::read(log.directory(&id("a")).join("checkpoint")).unwrap();
    appended(&log, "a", 1);
    let dir = log.directory(&id("a"));
    log.close().unwrap();

    let note = signed_note::Note::from_bytes(&std::fs::read(dir.join("checkpoint")).unwrap()).unwrap();
    let vkey = std::fs::read_to_string(dir.join("log.vkey")).unwrap();
    let verifier = signed_note::StandardVerifier::new(vkey.trim_end()).unwrap();
    note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.size(), 701);
    let tiles = Tiles(&dir);
    let hashes = tlog_tiles::TileHashReader::new(checkpoint.size(), *checkpoint.hash(), &tiles);
    for index in [0, 255, 256, 512, 699, 700] {
        let proof = tlog_tiles::prove_record(checkpoint.size(), index, &hashes).unwrap();
        let leaf = tlog_tiles::record_hash(&entry("a", index));
        tlog_tiles::check_record(&proof, checkpoint.size(), *checkpoint.hash(), index, leaf).unwrap();
        let ours = LogReader::open(&dir).unwrap().prove(index, None).unwrap().hashes;
        assert_eq!(
            ours.iter().map(|hash| hash.0).collect::<Vec<_>>(),
            proof.iter().map(|h| h.0).collect::<Vec<_>>()
        );
    }

    let key = signer("a").verifier().clone();
    let trusted = Trusted { key: Some(key), earlier: Some(earlier), ..Trusted::default() };
    let mut last = (0, 0);
    let report = verify(&dir, &trusted, |done, of| last = (done, of)).unwrap();
    assert_eq!((report.key, report.continues, last), (Trust::Outside, Some(700), (701, 701)));
    let report = verify(&dir, &Trusted::default(), |_, _| ()).unwrap();
    assert_eq!((report.key, report.continues), (Trust::BesideTheLog, None));
}

#[test]
fn every_flipped_bit_in_a_log_s_directory_is_found() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for n in [100, 150, 30] {
        appended(&log, "a", n);
        log.flush_tree(&id("a")).unwrap();
    }
    log.close().unwrap();
    let key = Some(signer("a").verifier().clone());
    let trusted = Trusted { key, ..Trusted::default() };
    let check = || verify_on(Arc::new(disk.clone()), Path::new("/audit/a"), &trusted, |_, _| ());
    assert_eq!(check().unwrap().checkpoint.size, 280);
    let files = disk.files();
    for (path, bytes) in
        files.iter().filter(|(path, _)| path.starts_with("/audit/a") && !path.ends_with("log.vkey"))
    {
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 61).chain([bytes.len() - 1]) {
            disk.flip_bit(path, at, 2);
            assert!(check().is_err(), "{} at {at}", path.display());
            disk.flip_bit(path, at, 2);
        }
    }
    check().unwrap();
}

#[test]
fn a_re_signed_log_is_caught_against_an_earlier_checkpoint() {
    let make = |names: &[&str]| {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        for name in names {
            log.append(&id("a"), Priority::Ordinary, Mark::Plain, |to| to.push(name.as_bytes()))
                .unwrap()
                .1
                .wait_blocking()
                .unwrap();
        }
        log.close().unwrap();
        disk
    };
    let checkpoint = |disk: &SimDisk| disk.files()[Path::new("/audit/a/checkpoint")].clone();
    let check = |disk: &SimDisk, earlier: Vec<u8>| {
        let key = Some(signer("a").verifier().clone());
        let trusted = Trusted { key, earlier: Some(earlier), ..Trusted::default() };
        verify_on(Arc::new(disk.clone()), Path::new("/audit/a"), &trusted, |_, _| ())
    };
    let (long, short, other) = (make(&["1", "2", "3"]), make(&["1", "2"]), make(&["1", "x", "3"]));
    assert_eq!(check(&long, checkpoint(&short)).unwrap().continues, Some(2));
    assert_eq!(check(&short, checkpoint(&long)), Err(VerifyError::RolledBack { size: 2, earlier: 3 }));
    assert_eq!(check(&other, checkpoint(&short)), Err(VerifyError::Rewritten { earlier: 2 }));
    assert_eq!(check(&other, checkpoint(&long)), Err(VerifyError::Rewritten { earlier: 3 }));
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
        assert_eq!(recovered.logs, [id("a")]);
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
    // Those too many are removed by a thread of its own.
    while disk.files().keys().filter(|path| path.starts_with("/wal")).count() > 5 {
        std::thread::yield_now();
    }
    log.close().unwrap();
    let (_, recovered) = open_with(&disk, &["a"]).unwrap();
    assert_eq!((recovered.state, recovered.open_intents), (Some(state), vec![]));
    assert_eq!(read_on(&disk, "a").checkpoint().size, 14 + 1500 + 1 + 5000);
}

#[test]
fn bad_appends_leave_nothing() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let push = |name: &str, len: usize| {
        log.append(&id(name), Priority::Ordinary, Mark::Plain, |to| to.push(&vec![b'x'; len]))
            .map(|(_, t)| t.position())
    };
    assert!(matches!(push("b", 1), Err(AppendError::UnknownLog(_))));
    assert!(matches!(push("a", 0), Err(AppendError::Empty)));
    assert!(matches!(push("a", 65_536), Err(AppendError::TooLong(65_536))));
    assert_eq!(push("a", 65_535).unwrap().index, 0);
    assert!(log.register(&id("a"), signer("a")).is_err(), "registered twice");
    log.flush_tree(&id("a")).unwrap();
    assert!(log.flush_tree(&id("b")).is_err());
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").entry(0).unwrap().len(), 65_535);
}

#[test]
fn another_s_key_or_directory_is_refused() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 3);
    log.close().unwrap();
    let (log, _) = open(&disk).unwrap();
    let refusal = log.register(&id("a"), signer("bb")).unwrap_err();
    assert_eq!(refusal.file, Path::new("/audit/a/log.vkey"));
    drop(log);
    // The checkpoint of a log whose entries the write-ahead file does not know.
    let wal: Vec<_> = disk.files().into_keys().filter(|path| path.starts_with("/wal")).collect();
    for path in wal {
        holdfast_audit::disk::Disk::remove_file(&disk, &path).unwrap();
    }
    let (log, _) = open(&disk).unwrap();
    let refusal = log.register(&id("a"), signer("a")).unwrap_err();
    assert_eq!(refusal.file, Path::new("/audit/a/checkpoint"));
    assert!(refusal.to_string().contains("the write-ahead file is new"), "{refusal}");
}

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
    // Wait for the spare segment, then let nothing grow any more.
    let two_segments = 2 * (192 << 10);
    while disk.used() < two_segments {
        std::thread::yield_now();
    }
    let grown = disk.used();
    disk.set_capacity(grown);
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
    while log.flush_tree(&id("a")).is_err() {
        std::thread::yield_now();
    }
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, back.index + 1);
}

/// Growth goes on by itself where there is space again, and what is said meanwhile asks nobody to restart.
#[test]
fn on_a_full_disk_the_trees_stand_still_and_grow_again_by_themselves() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 1);
    log.flush_tree(&id("a")).unwrap();
    while disk.used() < 2 * (192 << 10) {
        std::thread::yield_now();
    }
    disk.set_capacity(disk.used());
    append_many(&log, "a", 1);
    let why = log.flush_tree(&id("a")).unwrap_err().to_string();
    let said = log.health().tree.unwrap();
    assert!(why.contains(&*said) && said.contains("no storage space"), "{why}: {said}");
    assert!(said.contains("no restart is needed") && !said.contains("start again"), "{said}");
    assert_eq!((log.health().stalled_logs, read_on(&disk, "a").checkpoint().size), (1, 1));
    disk.set_capacity(u64::MAX);
    while log.flush_tree(&id("a")).is_err() {
        std::thread::yield_now();
    }
    assert_eq!((log.health().stalled_logs, read_on(&disk, "a").checkpoint().size), (0, 2));
    // Who starts is asked to start again: there is nothing that would try it by itself.
    log.close().unwrap();
    disk.set_capacity(disk.used());
    let refusal = open_with(&disk, &["a", "new"]).map(drop).unwrap_err();
    assert!(refusal.remedy.contains("start again"), "{refusal}");
}

#[test]
fn what_waits_is_bounded_but_never_for_stop_orders() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let push = |priority| log.append(&id("a"), priority, Mark::Plain, |to| to.push(&[b'x'; 1000]));
    // The writer can't take the lock while a closure runs: everything within waits.
    let mut counted = (0, 0);
    let mut tickets = Vec::new();
    while counted.1 == 0 {
        match push(Priority::Ordinary) {
            Ok((_, ticket)) => tickets.push(ticket),
            Err(AppendError::Overloaded) => {
                counted.1 += 1;
                tickets.push(push(Priority::Stop).unwrap().1);
            }
            Err(refused) => panic!("{refused}"),
        }
        counted.0 += 1;
    }
    for ticket in tickets {
        ticket.wait_blocking().unwrap();
    }
    log.close().unwrap();
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
    while log.flush_tree(&id("a")).is_err() {
        std::thread::yield_now();
    }
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 6);
    let verified = verify_on(Arc::new(disk), Path::new("/audit/a"), &Trusted::default(), |_, _| ());
    assert_eq!(verified.unwrap().checkpoint.size, 6);
}

/// A problem as the runbook writes it: its numbers as N, and no names.
fn as_in_the_runbook(problem: &str) -> String {
    let words = problem.split(' ').map(|word| match word {
        word if word.bytes().all(|byte| byte.is_ascii_digit()) => "N",
        word if word.starts_with('`') => "…",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_start_refuses_stands_in_the_runbook_and_the_remedy_names_one() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate");
    let runbook = std::fs::read_to_string(docs.join("rollback.md")).unwrap();
    let known: Vec<_> =
        runbook.split('`').skip(1).step_by(2).map(|said| said.replace(" M ", " N ")).collect();
    let whole = SimDisk::new();
    let (log, _) = open_with(&whole, &["a"]).unwrap();
    for n in [100, 100, 100] {
        appended(&log, "a", n);
        log.flush_tree(&id("a")).unwrap();
    }
    log.close().unwrap();
    let segments: Vec<_> = whole.files().into_keys().filter(|path| path.starts_with("/wal")).collect();
    let gone = |path: &str| vec![(PathBuf::from(path), None)];
    let flipped = |path: &str, at| vec![(PathBuf::from(path), Some(at))];
    let mut seen = BTreeSet::new();
    for (n, changes) in [
        flipped("/audit/a/tile/entries/001.p/44", 9),
        gone("/audit/a/tile/entries/001.p/44"),
        flipped("/audit/a/tile/0/001.p/44", 9),
        gone("/audit/a/checkpoint"),
        flipped("/audit/a/log.vkey", 0),
        flipped("/wal/0000000000000000.wal", 100),
        segments.iter().map(|path| (path.clone(), None)).collect(),
    ]
    .into_iter()
    .enumerate()
    {
        let disk = whole.after_power_loss(0);
        for (path, change) in changes {
            match change {
                Some(at) => disk.flip_bit(&path, at, 1),
                None => disk.remove_file(&path).unwrap(),
            }
        }
        let Refusal { problem, remedy, .. } = open_with(&disk, &["a"]).map(drop).unwrap_err();
        let said = as_in_the_runbook(&problem);
        let stands = |known: &String| match known.split_once('…') {
            Some((begin, _)) => !begin.is_empty() && said.starts_with(begin),
            None => said == *known,
        };
        assert!(known.iter().any(stands), "{n}: `{said}` is not in the runbook");
        let named = remedy.split('`').find_map(|word| word.strip_prefix("docs/operate/"));
        assert!(named.is_some_and(|named| docs.join(named).is_file()), "{n}: {remedy}");
        seen.insert(said);
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

/// What the tree would go on from is looked at when the log is opened, and not when there is something to append.
#[test]
fn a_damaged_unfinished_bundle_is_refused_at_the_start() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 256 + 7);
    log.close().unwrap();
    let path = Path::new("/audit/a/tile/entries/001.p/7");
    let whole = disk.files()[path].clone();
    let begins = holdfast_audit::tile::Entries::new(&whole).scan(0, |begin, entry| {
        let begun = *begin;
        *begin += entry.unwrap().len() + 2;
        Some(begun)
    });
    let begins: Vec<_> = begins.collect();
    assert_eq!(begins.len(), 7);
    for at in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
        disk.flip_bit(path, at, 3);
        let refusal = open_with(&disk, &["a"]).map(drop).unwrap_err();
        let nth = begins.iter().rposition(|begin| *begin <= at).unwrap();
        assert_eq!((refusal.file.as_path(), refusal.offset), (path, Some(begins[nth] as u64)), "{at}");
        assert_eq!(refusal.problem, format!("its entry {} is not that of the tree", 256 + nth), "{at}");
        assert!(!refusal.remedy.is_empty());
        disk.flip_bit(path, at, 3);
    }
    disk.remove_file(path).unwrap();
    let refusal = open_with(&disk, &["a"]).map(drop).unwrap_err();
    assert_eq!((refusal.file.as_path(), refusal.problem.as_str()), (path, "this tile is missing"));
    write(&disk, path, &whole[..begins[6]]);
    assert!(open_with(&disk, &["a"]).is_err());
    write(&disk, path, &whole);
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 1);
    log.close().unwrap();
    verify_on(Arc::new(disk), Path::new("/audit/a"), &Trusted::default(), |_, _| ()).unwrap();
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    disk.open(path, Access::Create).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn many_writers_each_get_their_own_place() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a", "bb", "ccc"]).unwrap();
    let mut positions: Vec<_> = std::thread::scope(|scope| {
        let writer = |n: usize| {
            let name = ["a", "bb", "ccc"][n % 3];
            let log = &log;
            move || (0..100).map(|_| append(log, name).wait_blocking().unwrap()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..12).map(|n| scope.spawn(writer(n))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    positions.sort_unstable();
    positions.dedup_by_key(|position| (position.batch, position.ordinal));
    assert_eq!(positions.len(), 1200);
    log.close().unwrap();
    for name in ["a", "bb", "ccc"] {
        let reader = read_on(&disk, name);
        assert_eq!(reader.checkpoint().size, 400);
        for (index, read) in (0..).zip(reader.entries(0)) {
            assert_eq!(read.unwrap(), (index, entry(name, index)));
        }
    }
}

#[test]
fn tickets_work_as_futures() {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn send<T: Send>(value: T) -> T {
        value
    }
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    for index in 0..20 {
        let mut ticket = pin!(send(append(&log, "a")));
        let position = loop {
            match ticket.as_mut().poll(&mut context) {
                Poll::Ready(result) => break result.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        };
        assert_eq!(position.index, index);
    }
    assert!(size_of::<holdfast_audit::Ticket>() <= 56);
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

/// A gateway that lost its power knows more than its last durable checkpoint says: that is no rollback.
#[test]
fn a_checkpoint_kept_elsewhere_is_found_again_or_missed() {
    let checkpoint_of = |disk: &SimDisk| {
        let bytes = disk.files()[Path::new("/audit/a/checkpoint")].clone();
        Checkpoint::open(&bytes, signer("a").verifier()).unwrap().0
    };
    let made = |entries: usize| {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        (0..entries).for_each(|_| drop(append(&log, "a")));
        log.close().unwrap();
        checkpoint_of(&disk)
    };
    let (three, five, six) = (made(3), made(5), made(6));
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    (0..3).for_each(|_| drop(append(&log, "a")));
    log.close().unwrap();
    // Two more, durable and in no tree: the checkpoint over them waits longer than the power.
    let slow = Config { publish_interval: Duration::from_secs(3600), ..config(root()) };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), slow).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    append_many(&log, "a", 2);
    assert_eq!(log.continuity(&id("a"), &five).unwrap(), Continuity::Unsettled);
    disk.cut_power_after(0);
    drop(log);
    let disk = disk.after_power_loss(7);
    assert_eq!(checkpoint_of(&disk), three);

    let (log, _) = open(&disk).unwrap();
    let ask = |known: &Checkpoint| log.continuity(&id("a"), known).unwrap();
    assert_eq!(log.reach(&id("a")).unwrap(), 5);
    assert_eq!(
        (ask(&three), ask(&five), ask(&six)),
        (Continuity::Continues, Continuity::Continues, Continuity::Shorter(5))
    );
    for known in [&three, &five] {
        let other = Checkpoint { root: leaf_hash(b"another history"), ..known.clone() };
        assert_eq!(ask(&other), Continuity::Differs);
    }
    assert_eq!(log.continuity(&id("unheard-of"), &three).unwrap(), Continuity::Shorter(0));
    log.register(&id("a"), signer("a")).unwrap();
    log.flush_tree(&id("a")).unwrap();
    assert_eq!(
        (ask(&three), ask(&five), ask(&six)),
        (Continuity::Continues, Continuity::Continues, Continuity::Shorter(5))
    );
    // Who carries checkpoints elsewhere is told once of what has grown.
    let (round, grown) = log.grown_since(0);
    assert!(grown.contains(&(id("a"), 5)));
    assert_eq!(log.grown_since(round), (round, vec![]));
    append_many(&log, "a", 1);
    log.flush_tree(&id("a")).unwrap();
    assert_eq!(log.grown_since(round).1, [(id("a"), 6)]);
    assert_eq!(ask(&six), Continuity::Continues);
}

#[test]
fn what_witnesses_cosigned_is_held_against_the_log() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    append_many(&log, "a", 3);
    log.close().unwrap();
    let [one, two] = [1, 2]
        .map(|seed| Signer::cosigner_from_seed(&format!("w{seed}"), &Zeroizing::new([seed; 32])).unwrap());
    let log_key = signer("a");
    let put = |checkpoint: &Checkpoint, signer: &Signer, witnesses: &[&Signer]| {
        let mut note = checkpoint.sign(signer).unwrap();
        let lines: Vec<_> =
            witnesses.iter().map(|witness| cosign(&note, witness, 1_700_000_000).unwrap()).collect();
        lines.into_iter().for_each(|line| note.add(line));
        let file = disk.open(Path::new("/audit/a/checkpoint.cosigned"), Access::Create).unwrap();
        file.write_all_at(note.to_string().as_bytes(), 0).unwrap();
    };
    let check = |witnesses: &[&Signer]| {
        let policy = Policy::each_of(witnesses.iter().map(|witness| witness.verifier().clone()).collect());
        let trusted = Trusted { key: Some(log_key.verifier().clone()), policy, ..Trusted::default() };
        verify_on(Arc::new(disk.clone()), Path::new("/audit/a"), &trusted, |_, _| ())
    };
    let whole =
        LogReader::open_on(Arc::new(disk.clone()), Path::new("/audit/a")).unwrap().checkpoint().clone();
    assert_eq!(check(&[]).unwrap().witnessed, None);
    let missed = |cosigned: &[&str], missing: &[&str]| {
        let [cosigned, missing] =
            [cosigned, missing].map(|names| names.iter().map(|name| (*name).to_owned()));
        Err(VerifyError::NotCosigned { cosigned: cosigned.collect(), missing: missing.collect() })
    };
    assert_eq!(check(&[&one]), missed(&[], &["w1"]));
    let part = {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        append_many(&log, "a", 2);
        log.close().unwrap();
        LogReader::open_on(Arc::new(disk), Path::new("/audit/a")).unwrap().checkpoint().clone()
    };
    for good in [&whole, &part] {
        put(good, &log_key, &[&one, &two]);
        let witnessed = check(&[&two, &one]).unwrap().witnessed.unwrap();
        let by: Vec<_> = witnessed.by.iter().map(|by| (by.name.as_str(), by.time)).collect();
        assert_eq!(witnessed.size, good.size);
        assert_eq!(by, [("w2", Some(1_700_000_000)), ("w1", Some(1_700_000_000))]);
    }
    put(&part, &log_key, &[&one]);
    assert_eq!(check(&[&one, &two]), missed(&["w1"], &["w2"]));
    put(&Checkpoint { size: 4, ..whole.clone() }, &log_key, &[&one]);
    assert_eq!(check(&[&one]), Err(VerifyError::CutBack { size: 3, cosigned: 4 }));
    for size in [2, 3] {
        put(&Checkpoint { size, root: leaf_hash(b"another"), ..whole.clone() }, &log_key, &[&one]);
        assert_eq!(check(&[&one]), Err(VerifyError::NotWhatWasCosigned { cosigned: size }));
    }
    // What the log did not sign is not its, whoever cosigned it; and a log's own key vouches for nothing.
    put(&whole, &Signer::from_seed("test.example/a", &Zeroizing::new([9; 32])).unwrap(), &[&one]);
    assert!(matches!(check(&[&one]), Err(VerifyError::Cosigned(_))));
    put(&whole, &log_key, &[]);
    assert_eq!(check(&[&log_key]), missed(&[], &["test.example/a"]));
}

/// A policy names the log's key too, and is content with fewer than all.
#[test]
fn a_policy_s_quorum_is_held_against_the_log() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    append_many(&log, "a", 3);
    log.close().unwrap();
    let dir = Path::new("/audit/a");
    let whole = LogReader::open_on(Arc::new(disk.clone()), dir).unwrap().checkpoint().clone();
    let witnesses: Vec<_> = [1, 2, 3]
        .map(|seed| Signer::cosigner_from_seed(&format!("w{seed}"), &Zeroizing::new([seed; 32])).unwrap())
        .into();
    let put = |by: &[usize]| {
        let mut note = whole.sign(&signer("a")).unwrap();
        let lines: Vec<_> =
            by.iter().map(|at| cosign(&note, &witnesses[*at], 1_700_000_000).unwrap()).collect();
        lines.into_iter().for_each(|line| note.add(line));
        write(&disk, &dir.join("checkpoint.cosigned"), note.to_string().as_bytes());
    };
    let lines: String =
        (1..).zip(&witnesses).map(|(n, key)| format!("witness n{n} {}\n", key.verifier())).collect();
    let check = |log: &str, quorum: &str, key: Option<&Signer>| {
        let policy = Policy::parse(format!("{log}{lines}{quorum}\n").as_bytes()).unwrap();
        let key = key.map(|key| key.verifier().clone());
        let trusted = Trusted { key, policy, ..Trusted::default() };
        verify_on(Arc::new(disk.clone()), dir, &trusted, |_, _| ())
    };
    const TWO: &str = "group two 2 n1 n2 n3\nquorum two";
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let missed = |cosigned: &[&str], missing: &[&str]| {
        Err(VerifyError::NotCosigned { cosigned: names(cosigned), missing: names(missing) })
    };
    assert_eq!(check("", TWO, None), missed(&[], &["w1", "w2", "w3"]));
    assert_eq!(check("", "quorum none", None).unwrap().witnessed, None);
    put(&[2]);
    assert_eq!(check("", TWO, None), missed(&["w3"], &["w1", "w2"]));
    let witnessed = check("", "quorum none", None).unwrap().witnessed.unwrap();
    assert_eq!((witnessed.by.len(), witnessed.missing), (1, names(&["w1", "w2"])));
    put(&[2, 0]);
    let report = check("", TWO, None).unwrap();
    let witnessed = report.witnessed.unwrap();
    let by: Vec<_> = witnessed.by.iter().map(|by| by.name.as_str()).collect();
    assert_eq!((witnessed.size, by, witnessed.missing), (3, vec!["w1", "w3"], names(&["w2"])));
    assert_eq!(report.key, Trust::BesideTheLog);

    // Of several keys by the name of the log it is the one that signed; another log's is not enough.
    let right = format!("log {}\n", signer("a").verifier());
    let wrong = Signer::from_seed("test.example/a", &Zeroizing::new([9; 32])).unwrap();
    let (wrong_line, other) =
        (format!("log {}\n", wrong.verifier()), format!("log {}\n", signer("bb").verifier()));
    for logs in [right.clone(), format!("{wrong_line}{other}{right}")] {
        assert_eq!(check(&logs, TWO, None).unwrap().key, Trust::Outside);
        assert_eq!(check(&logs, TWO, Some(&signer("a"))).unwrap().key, Trust::Outside);
    }
    let unknown = || Err(VerifyError::UnknownLog("test.example/a".to_owned()));
    assert_eq!(check(&other, TWO, None), unknown());
    assert_eq!(check(&other, TWO, Some(&signer("a"))), unknown());
    assert!(matches!(check(&wrong_line, TWO, None), Err(VerifyError::Cosigned(_))));
    assert!(matches!(check(&wrong_line, "quorum none", None), Err(VerifyError::Cosigned(_))));
}
