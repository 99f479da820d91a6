//! The directory, held against what witnesses cosigned.

use crate::common::*;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::cosignature::cosign;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::disk::{Access, Disk};
use holdfast_audit::key::Signer;
use holdfast_audit::merkle::leaf_hash;
use holdfast_audit::policy::Policy;
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{Trust, Trusted, VerifyError, verify_on};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

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
