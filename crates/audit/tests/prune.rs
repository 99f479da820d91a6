//! Pruning: what is gone under a record is told from what is missing, proofs reach across it, and no crash and no clock breaks that.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod common;

use common::*;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::disk::Disk as _;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::merkle::verify_consistency;
use holdfast_audit::pruned::Pruned;
use holdfast_audit::reader::LogReader;
use holdfast_audit::scrub::Scrub;
use holdfast_audit::verify::{Report, Trusted, VerifyError, verify_on};
use holdfast_audit::{Age, AppendError, Log, Mark, Priority, Pruner};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DAY: u64 = 86_400;

/// Appends an entry with a time, in seconds.
fn append_at(log: &Log, seconds: u64) {
    append_bytes(log, format!("{{\"time\":{seconds}}}").as_bytes());
}

fn append_bytes(log: &Log, bytes: &[u8]) {
    let write = |to: &mut holdfast_audit::Entry<'_>| {
        to.set_opening(&opening("a", to.index()));
        to.push(bytes);
    };
    loop {
        match log.append(&id("a"), Priority::Ordinary, Mark::Plain, write) {
            Ok((_, ticket)) => {
                ticket.wait_blocking().unwrap();
                break;
            }
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn record(operation: &str, first: u64) -> Vec<u8> {
    format!(r#"{{"action":"prune-audit","operation":"{operation}","subject":"{first}","time":0}}"#)
        .into_bytes()
}

fn pruner(log: &Log) -> Pruner {
    log.pruner(&id("a"), Arc::new(signer("a")))
}

/// Records a pruning and does it.
fn prune(log: &Log, operation: &str, first: u64) {
    append_bytes(log, &record(operation, first));
    pruner(log).prune(operation, first).unwrap();
}

fn time(entry: &[u8]) -> Option<u64> {
    let event: serde_json::Value = serde_json::from_slice(entry).ok()?;
    event.get("time")?.as_u64()
}

/// From where on a log whose entries have these times keeps them.
fn kept(times: impl IntoIterator<Item = u64>, retention: u64, now: u64) -> Option<u64> {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    times.into_iter().for_each(|seconds| append_at(&log, seconds));
    log.flush_tree(&id("a")).unwrap();
    pruner(&log).keep_from(Age { retention, now }, &time).unwrap()
}

/// A log of 1000 entries.
fn grown() -> (SimDisk, Log) {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for _ in 0..20 {
        let tickets: Vec<_> = (0..50).map(|_| append(&log, "a")).collect();
        for ticket in tickets {
            ticket.wait_blocking().unwrap();
        }
    }
    log.flush_tree(&id("a")).unwrap();
    (disk, log)
}

fn verified(disk: &SimDisk, earlier: Option<&str>) -> Result<Report, VerifyError> {
    let key = Some(signer("a").verifier().clone());
    let trusted =
        Trusted { key, earlier: earlier.map(|note| note.as_bytes().to_vec()), ..Trusted::default() };
    verify_on(Arc::new(disk.clone()), Path::new("/audit/a"), &trusted, |_, _| ())
}

fn read(disk: &SimDisk) -> LogReader {
    LogReader::open_on(Arc::new(disk.clone()), Path::new("/audit/a")).unwrap()
}

fn scrubbed(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let key = signer("a").verifier().clone();
    let (mut pace, mut found) = (|_| true, |refusal: holdfast_audit::Refusal| files.push(refusal.file));
    let mut scrub = Scrub::new(&mut pace, &mut found);
    let _checkpoint = scrub.log_on(Arc::new(disk.clone()), Path::new("/audit/a"), Some(&key)).unwrap();
    files
}

fn bundles(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_keys().filter(|path| path.starts_with("/audit/a/tile/entries"));
    let files =
        files.filter_map(|path| Some(path.strip_prefix("/audit/a/tile/entries").ok()?.display().to_string()));
    files.filter(|name| !name.contains(".p/")).collect()
}

#[test]
fn what_was_pruned_is_told_from_what_is_missing() {
    let (disk, log) = grown();
    let before = verified(&disk, None).unwrap();
    assert_eq!((before.pruned, before.absent), (None, 0));
    assert_eq!(read(&disk).pruned().unwrap(), None);
    prune(&log, "OP1", 512);
    assert_eq!(bundles(&disk), ["002"], "whole bundles only");
    assert_eq!(read(&disk).pruned().unwrap().map(|pruned| pruned.first), Some(512));
    let report = verified(&disk, None).unwrap();
    assert_eq!((report.absent, report.pruned.unwrap().first, report.checkpoint.size), (512, 512, 1001));
    assert!(scrubbed(&disk).is_empty());
    // Openings go with their entries.
    let openings = log.openings(&id("a"));
    assert_eq!(openings.read(511).unwrap(), None);
    assert_eq!(openings.read(512).unwrap(), Some(opening("a", 512)));

    // An older order that is finished late brings nothing back and says nothing else.
    append_bytes(&log, &record("OP0", 256));
    pruner(&log).prune("OP0", 256).unwrap();
    assert_eq!(
        (pruner(&log).first().unwrap(), verified(&disk, None).unwrap().pruned.unwrap().first),
        (512, 512)
    );
    // Nor does one of as much put its name in the place of the first one's.
    append_bytes(&log, &record("OP9", 512));
    pruner(&log).prune("OP9", 512).unwrap();
    assert_eq!(verified(&disk, None).unwrap().pruned.unwrap().operation, "OP1");

    let reader = read(&disk);
    assert_eq!(reader.entries(0).next().unwrap().unwrap().0, 512);
    assert_eq!(reader.entries(700).next().unwrap().unwrap().0, 700);
    let refusal = reader.entry(3).unwrap_err();
    assert!(refusal.problem.contains("was pruned, those from 512 on are kept"), "{refusal}");
    assert_eq!(reader.entry(512).unwrap(), entry("a", 512));
    let path = "tile/entries/000";
    assert_eq!(log.read(&id("a"), path).unwrap(), None);

    // What is missing besides is a refusal, as ever.
    let lost = Path::new("/audit/a/tile/entries/002");
    let kept = disk.files()[lost].clone();
    disk.remove_file(lost).unwrap();
    assert!(reader.entries(600).next().unwrap().is_err(), "it is not passed over as pruned");
    assert!(verified(&disk, None).unwrap_err().to_string().contains("this tile is missing"));
    assert_eq!(scrubbed(&disk), [lost]);
    write(&disk, lost, &kept);
    verified(&disk, None).unwrap();

    // And nobody but the log says what was pruned.
    let path = Path::new("/audit/a/pruned");
    let said = String::from_utf8(disk.files()[path].clone()).unwrap();
    for forged in
        [said.replace("first 512", "first 768"), said.replace("OP1", "OP2"), String::from("nothing")]
    {
        write(&disk, path, forged.as_bytes());
        assert!(verified(&disk, None).is_err(), "{forged}");
        assert!(!scrubbed(&disk).is_empty(), "{forged}");
    }
    // Rightly signed, and yet no entry records it.
    let origin = signer("a").verifier().name().to_owned();
    let unrecorded = Pruned { origin, operation: "OP3".into(), first: 512 }.sign(&signer("a")).unwrap();
    write(&disk, path, unrecorded.to_string().as_bytes());
    assert!(verified(&disk, None).unwrap_err().to_string().contains("no entry of the log records"));
    disk.remove_file(path).unwrap();
    assert!(verified(&disk, None).unwrap_err().to_string().contains("this tile is missing"));
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, holdfast_audit::disk::Access::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

#[test]
fn checkpoints_and_proofs_reach_across_a_pruning() {
    let (disk, log) = grown();
    let early = read(&disk);
    let (note, old) = (early.note().to_owned(), early.checkpoint().clone());
    let (leaf, proof) = (early.leaf(3).unwrap(), early.prove(700, None).unwrap());
    prune(&log, "OP1", 512);
    for _ in 0..6 {
        for _ in 0..50 {
            append(&log, "a").wait_blocking().unwrap();
        }
    }
    prune(&log, "OP2", 1024);
    log.flush_tree(&id("a")).unwrap();
    assert_eq!(verified(&disk, Some(&note)).unwrap().continues, Some(1000));
    let reader = read(&disk);
    let Checkpoint { size, root, .. } = reader.checkpoint();
    let consistency = reader.prove_consistency(old.size).unwrap();
    assert!(verify_consistency(old.size, &old.root, *size, root, &consistency));
    // Whoever kept an entry proves it still.
    assert_eq!(reader.leaf(3).unwrap(), leaf);
    proof.verify(&entry("a", 700), signer("a").verifier()).unwrap();
    reader.prove(1100, None).unwrap();
    // And the log goes on after a restart, and after a bundle that was kept was filled.
    log.close().unwrap();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for _ in 0..300 {
        append(&log, "a").wait_blocking().unwrap();
    }
    log.close().unwrap();
    assert_eq!(verified(&disk, Some(&note)).unwrap().absent, 1024);
    assert!(scrubbed(&disk).is_empty());
}

#[test]
fn a_mirror_that_has_more_than_the_log_verifies_too() {
    let (disk, log) = grown();
    let mirror: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.ends_with("entries/000")).collect();
    prune(&log, "OP1", 512);
    mirror.iter().for_each(|(path, bytes)| write(&disk, path, bytes));
    let report = verified(&disk, None).unwrap();
    assert_eq!((report.absent, report.pruned.unwrap().first), (256, 512));
    let indexes: Vec<_> = read(&disk).entries(0).map(|entry| entry.unwrap().0).collect();
    assert_eq!((indexes[0], indexes[255], indexes[256]), (0, 255, 512));
    // Done again, it goes.
    pruner(&log).prune("OP1", 512).unwrap();
    assert_eq!(bundles(&disk), ["002"]);
}

#[test]
fn whatever_a_crash_leaves_of_a_pruning_verifies_and_is_finished() {
    let (disk, log) = grown();
    append_bytes(&log, &record("OP1", 768));
    log.flush_tree(&id("a")).unwrap();
    log.close().unwrap();
    let whole = disk.after_power_loss(0);
    let mut cuts = 0;
    for operations in 1.. {
        let disk = whole.after_power_loss(0);
        let (log, _) = open_with(&disk, &["a"]).unwrap();
        log.flush_tree(&id("a")).unwrap();
        disk.cut_power_after(operations);
        let pruned = pruner(&log).prune("OP1", 768);
        let is_off = disk.is_off();
        drop(log);
        if !is_off {
            pruned.unwrap();
            break;
        }
        cuts += 1;
        for seed in 0..4 {
            let after = disk.after_power_loss(seed);
            let (log, _) = open_with(&after, &["a"]).unwrap();
            log.flush_tree(&id("a")).unwrap();
            verified(&after, None).unwrap_or_else(|error| panic!("{operations} {seed}: {error}"));
            assert!(scrubbed(&after).is_empty(), "{operations} {seed}");
            pruner(&log).prune("OP1", 768).unwrap();
            assert_eq!(bundles(&after), Vec::<String>::new(), "{operations} {seed}");
            assert_eq!(verified(&after, None).unwrap().absent, 768, "{operations} {seed}");
            assert_eq!(log.openings(&id("a")).read(767).unwrap(), None);
        }
    }
    assert!(cuts >= 6, "{cuts} places to be interrupted at are too few");
}

#[test]
fn the_last_bundle_is_never_pruned() {
    let (disk, log) = grown();
    append_bytes(&log, &record("OP1", 1024));
    assert!(pruner(&log).prune("OP1", 1024).is_err());
    assert_eq!(bundles(&disk).len(), 3);
    assert_eq!(kept((0..512).map(|_| 0), 10 * DAY, 1_000 * DAY), None);
}

#[test]
fn bundles_go_when_every_entry_is_old_enough() {
    // An entry an hour, 256 of them in a little more than ten days.
    let hourly = || (0..1500).map(|hour| hour * 3600);
    let now = 1500 * 3600;
    assert_eq!(kept(hourly(), 63 * DAY, now), None);
    // Only the first entries of the first bundle are older: nothing goes, so nothing is to be recorded.
    assert_eq!(kept(hourly(), 62 * DAY, now), None);
    // 1500 hours are 62.5 days; the first 512 entries are older than 40 days.
    assert_eq!(kept(hourly(), 40 * DAY, now), Some(512));
    assert_eq!(kept(hourly(), 30 * DAY, now), Some(768));
    assert_eq!(kept(hourly(), DAY, now), Some(1280));
    // And as time goes by, though nothing is written for a while.
    assert_eq!(kept(hourly(), 40 * DAY, now + 9 * DAY), Some(512));
    assert_eq!(kept(hourly(), 40 * DAY, now + 10 * DAY), Some(768));
}

#[test]
fn a_clock_that_jumps_prunes_no_more_than_a_quarter_early() {
    let hourly = || (0..1500).map(|hour| hour * 3600);
    let now = 1500 * 3600;
    let early = kept(hourly(), 30 * DAY, now);
    // Ten years ahead, before anything was written by that clock, and after.
    let jump = 3650 * DAY;
    let jumped = kept(hourly(), 40 * DAY, now + jump);
    assert_eq!(jumped, early, "as if a quarter had passed");
    let written = || hourly().chain((0..100).map(|second| now + jump + second));
    assert_eq!(kept(written(), 40 * DAY, now + jump + 100), early);
    // And put right again: what the wrong clock wrote is as old as what came after it.
    let right = || written().chain((0..100).map(|second| now + 3600 + second));
    assert_eq!(kept(right(), 40 * DAY, now + 3700), kept(hourly(), 40 * DAY, now));
    // A log that was silent for longer than its retention keeps what it has.
    assert_eq!(kept(0..600, 8 * DAY, 4 * DAY), None);
    assert_eq!(kept(0..600, 8 * DAY, 4000 * DAY), None);
}

#[test]
fn wherever_a_log_ends_in_its_last_bundle_the_same_bundles_are_old() {
    // The fourth bundle begins with the entry of hour 768, 32 days before.
    for entries in 1535..=1537 {
        let hourly = (0..entries).map(|hour| hour * 3600);
        assert_eq!(kept(hourly, 32 * DAY, 1536 * 3600), Some(768), "{entries} entries");
    }
}

#[test]
fn an_entry_without_a_time_stops_all_of_it() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    (0..600).for_each(|_| append_bytes(&log, b"{}"));
    log.flush_tree(&id("a")).unwrap();
    let refusal = pruner(&log).keep_from(Age { retention: DAY, now: 9000 * DAY }, &time).unwrap_err();
    assert!(refusal.problem.contains("does not say when"), "{refusal}");
}

#[test]
fn what_is_exactly_as_old_as_the_retention_may_go() {
    let times = || [0; 257].into_iter().chain([25, 50, 75]);
    assert_eq!(kept(times(), 100, 100), Some(256));
    assert_eq!(kept(times(), 101, 100), None);
}

/// A full bundle that can't be read is not taken for one that is not there yet.
#[test]
fn a_bundle_that_cannot_be_read_has_no_age() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    (0..260).for_each(|_| append_at(&log, 0));
    log.flush_tree(&id("a")).unwrap();
    let keep_from = || pruner(&log).keep_from(Age { retention: 100, now: 1000 }, &time);
    assert_eq!(keep_from(), Ok(None), "one silence counts as a quarter");
    let full = Path::new("/audit/a/tile/entries/001");
    disk.create_dir(full).unwrap();
    assert_eq!(keep_from().unwrap_err().file, full);
}
