//! What a start refuses, and what it holds against a checkpoint kept elsewhere.

use crate::common::*;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::disk::Disk;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::merkle::leaf_hash;
use holdfast_audit::verify::{Trusted, verify_on};
use holdfast_audit::{Config, Continuity, Log, Refusal};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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

/// To register makes and reopens alike: who knows that there was one asks first.
#[test]
fn a_log_of_which_nothing_is_left_is_told_from_one_that_is_begun() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk).unwrap();
    let refusal = log.must_be_begun(&id("a")).unwrap_err();
    assert_eq!(refusal.file, Path::new("/audit/a"));
    assert!(refusal.to_string().contains("there is nothing of this log any more"), "{refusal}");
    assert!(!disk.files().into_keys().any(|path| path.starts_with("/audit")), "nothing was made");
    log.register(&id("a"), signer("a")).unwrap();
    log.close().unwrap();
    // A checkpoint over nothing is enough,
    let (log, _) = open(&disk).unwrap();
    log.must_be_begun(&id("a")).unwrap();
    log.register(&id("a"), signer("a")).unwrap();
    appended(&log, "a", 3);
    log.close().unwrap();
    // and so are entries from the first on, without any file of the log.
    for path in disk.files().into_keys().filter(|path| path.starts_with("/audit")) {
        disk.remove_file(&path).unwrap();
    }
    for dir in ["tile/0/000.p", "tile/entries/000.p", "tile/0", "tile/entries", "tile", ""] {
        disk.remove_dir(&Path::new("/audit/a").join(dir)).unwrap();
    }
    let (log, _) = open(&disk).unwrap();
    log.must_be_begun(&id("a")).unwrap();
    assert_eq!(log.register(&id("a"), signer("a")).unwrap().next_index, 3);
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").checkpoint().size, 3);
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
    // A next segment may only just have been made ready: what counts is what is found.
    let whole = whole.after_power_loss(0);
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
