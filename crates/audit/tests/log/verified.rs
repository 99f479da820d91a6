//! The directory, verified: by third-party tools, and after anything was changed in it.

use crate::common::*;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::disk::{Access, Disk};
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{Trust, Trusted, VerifyError, verify, verify_on};
use holdfast_audit::{Log, Mark, Priority};
use std::path::Path;
use std::sync::Arc;

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
fn what_is_beyond_the_checkpoint_is_proven_by_nothing() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    appended(&log, "a", 5);
    log.close().unwrap();
    let reader = read_on(&disk, "a");
    assert_eq!(reader.prove_consistency(5), Ok(vec![]));
    let refusal = reader.prove_consistency(6).unwrap_err();
    assert!(refusal.problem.contains("has 5 entries") && refusal.problem.contains("none at 6"), "{refusal}");
}
