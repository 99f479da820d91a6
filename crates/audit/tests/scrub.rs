//! Reading everything once more: each damage is one finding that names its file, and whatever else is damaged is found as well.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod common;

use common::*;
use holdfast_audit::disk::Disk as _;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::scrub::{Scrub, Stopped, write_ahead_file_on};
use holdfast_audit::{Log, Refusal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn appended(log: &Log, name: &str, n: u64) {
    for _ in 0..n / 50 {
        let tickets: Vec<_> = (0..50).map(|_| append(log, name)).collect();
        for ticket in tickets {
            ticket.wait_blocking().unwrap();
        }
    }
}

/// A log of several bundles, whose last ones have narrower forms too.
fn grown() -> SimDisk {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    for n in [300, 250, 50] {
        appended(&log, "a", n);
        log.flush_tree(&id("a")).unwrap();
    }
    log.close().unwrap();
    disk
}

fn scrubbed(disk: &SimDisk) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let key = signer("a").verifier().clone();
    let (mut pace, mut found) = (|_| true, |refusal| refusals.push(refusal));
    let read =
        Scrub::new(&mut pace, &mut found).log_on(Arc::new(disk.clone()), Path::new("/audit/a"), Some(&key));
    let _checkpoint = read.unwrap();
    refusals
}

fn files_of(refusals: &[Refusal]) -> Vec<PathBuf> {
    refusals.iter().map(|refusal| refusal.file.clone()).collect()
}

#[test]
fn every_flipped_bit_is_one_finding_that_names_its_file() {
    let disk = grown();
    assert_eq!(scrubbed(&disk), []);
    let mut kinds = 0;
    for (path, bytes) in disk.files().iter().filter(|(path, _)| path.starts_with("/audit/a")) {
        kinds += 1;
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 61).chain([bytes.len() - 1]) {
            disk.flip_bit(path, at, 2);
            assert_eq!(files_of(&scrubbed(&disk)), std::slice::from_ref(path), "{} at {at}", path.display());
            disk.flip_bit(path, at, 2);
        }
    }
    assert!(kinds >= 8, "{kinds} files are too few to say anything");
    assert_eq!(scrubbed(&disk), []);
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_read_all_the_same() {
    let disk = grown();
    let lost = ["/audit/a/tile/entries/000", "/audit/a/tile/0/001"].map(PathBuf::from);
    lost.iter().for_each(|path| disk.remove_file(path).unwrap());
    let last = Path::new("/audit/a/tile/entries/002.p/88");
    disk.flip_bit(last, 100, 0);
    let found = scrubbed(&disk);
    assert_eq!(files_of(&found), [lost[0].clone(), lost[1].clone(), last.to_path_buf()]);
    assert!(found[2].problem.contains("entry 513 is not the one that was recorded"), "{}", found[2]);
    // Neither an entry nor its leaf hash: nothing behind it can be told.
    disk.remove_file(Path::new("/audit/a/tile/0/000")).unwrap();
    assert_eq!(scrubbed(&disk).len(), 2);
}

#[test]
fn a_key_or_a_checkpoint_of_another_log_is_found() {
    let disk = grown();
    let mut refusals = Vec::new();
    let key = signer("bb").verifier().clone();
    let (mut pace, mut found) = (|_| true, |refusal| refusals.push(refusal));
    let mut scrub = Scrub::new(&mut pace, &mut found);
    let read = scrub.log_on(Arc::new(disk.clone()), Path::new("/audit/a"), Some(&key));
    assert_eq!(read, Ok(None));
    let none = scrub.log_on(Arc::new(disk), Path::new("/audit/none"), Some(&key));
    assert_eq!(none, Ok(None));
    assert_eq!(files_of(&refusals), [PathBuf::from("/audit/a/log.vkey"), "/audit/none/log.vkey".into()]);
}

#[test]
fn whoever_looks_on_can_end_it() {
    let disk = grown();
    let mut left = 3;
    let mut pace = |_| {
        left -= 1;
        left > 0
    };
    let mut found = |refusal| panic!("{refusal}");
    let mut scrub = Scrub::new(&mut pace, &mut found);
    let read = scrub.log_on(Arc::new(disk), Path::new("/audit/a"), None);
    assert_eq!(read, Err(Stopped));
}

#[test]
fn on_the_machine_s_disk_what_is_missing_or_cannot_be_read_is_named() {
    let data = tempfile::tempdir().unwrap();
    let (file, none) = (data.path().join("file"), data.path().join("none"));
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let (mut read, mut refusals) = (0, Vec::new());
    let mut pace = |bytes| {
        read += bytes;
        true
    };
    let mut found = |refusal| refusals.push(refusal);
    let mut scrub = Scrub::new(&mut pace, &mut found);
    scrub.file(&file).unwrap();
    // Erased meanwhile.
    scrub.file(&none).unwrap();
    // No file at all.
    scrub.file(data.path()).unwrap();
    scrub.file(&file.join("below")).unwrap();
    assert_eq!(scrub.log(&none, Some(signer("a").verifier())), Ok(None));
    assert_eq!(read, 100_000);
    let named = [data.path().to_path_buf(), file.join("below"), none.join("log.vkey")];
    assert_eq!(files_of(&refusals), named);
    let refusal = holdfast_audit::scrub::write_ahead_file(data.path()).unwrap_err();
    assert_eq!(refusal.file, data.path().join("wal"));
}

#[test]
fn the_write_ahead_file_is_inspected_and_nothing_is_changed() {
    let disk = grown();
    let before = disk.files();
    let found = write_ahead_file_on(Arc::new(disk.clone()), root()).unwrap();
    assert_eq!((found.cut_bytes, found.open_intents.len()), (0, 0));
    assert!(found.next_batch > 0);
    assert_eq!(disk.files(), before);
    let (segment, _) = before.iter().find(|(path, _)| path.starts_with("/wal")).unwrap();
    disk.flip_bit(segment, 120, 3);
    let refusal = write_ahead_file_on(Arc::new(disk.clone()), root()).unwrap_err();
    assert_eq!(&refusal.file, segment);
    disk.flip_bit(segment, 120, 3);
    assert_eq!(disk.files(), before);
}

#[test]
fn the_write_ahead_file_is_read_again_while_it_is_written() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Many segments, each written over again and again.
            (0..80).for_each(|_| appended(&log, "a", 50));
            is_done.store(true, Ordering::Release);
        });
        while !is_done.load(Ordering::Acquire) {
            log.reread(&mut |_| true).unwrap();
        }
    });
    log.flush_tree(&id("a")).unwrap();
    appended(&log, "a", 50);
    let mut read = 0;
    log.reread(&mut |bytes| {
        read += bytes;
        true
    })
    .unwrap();
    assert!(read > 0);
    // The newest segment in use is the last whose first batch says its number: a spare one holds nothing that is in force.
    let is_in_use = |path: &Path, bytes: &[u8]| {
        let number = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
        path.starts_with("/wal") && number.is_some_and(|number| bytes[16..24] == number.to_be_bytes())
    };
    let files = disk.files();
    let (newest, _) = files.iter().rev().find(|(path, bytes)| is_in_use(path, bytes)).unwrap();
    disk.flip_bit(newest, 120, 3);
    assert!(log.reread(&mut |_| true).is_err(), "{}", newest.display());
}

#[test]
fn a_segment_that_is_gone_is_told_from_one_that_cannot_be_opened() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    append(&log, "a").wait_blocking().unwrap();
    log.flush_tree(&id("a")).unwrap();
    log.reread(&mut |_| true).unwrap();
    let first = Path::new("/wal/0000000000000000.wal");
    disk.remove_file(first).unwrap();
    let refused = || log.reread(&mut |_| true).unwrap_err();
    let gone = refused();
    assert_eq!((gone.file.as_path(), gone.problem.as_str()), (first, "a durable batch can't be read back"));
    disk.create_dir(first).unwrap();
    let unopened = refused();
    assert_eq!(unopened.file, first);
    assert!(unopened.problem.contains("directory"), "{unopened}");
}

/// What stands in tiles needs no segment: however much is written, few of them are on the disk.
#[test]
fn segments_are_used_again_and_the_directory_stays_bounded() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let segments = || disk.files().into_keys().filter(|path| path.starts_with("/wal")).count();
    let (mut most, mut first) = (0, None);
    for _ in 0..100 {
        appended(&log, "a", 50);
        log.flush_tree(&id("a")).unwrap();
        most = most.max(segments());
        first.get_or_insert_with(|| disk.files().into_keys().find(|path| path.starts_with("/wal")).unwrap());
    }
    log.close().unwrap();
    let (written, kept) = (disk.files(), segments());
    let entries: usize = written
        .iter()
        .filter(|(path, _)| path.starts_with("/audit/a/tile/entries"))
        .map(|(_, bytes)| bytes.len())
        .sum();
    let segment = usize::try_from(config(root()).segment_len).unwrap();
    assert!(entries > 8 * segment, "{entries} bytes are too few to fill several segments");
    assert!(most <= 4 && kept <= 4, "{most} segments at a time, {kept} at the end");
    assert!(!written.contains_key(&first.unwrap()), "the first one has another number by now");
}
