//! A key that is put away: its material leaves the live state when somebody has shown that the archive opens, and comes back as it was and no
//! more than that.

use holdfast_conformance::doubles::PROOF;
use holdfast_conformance::rig::{Rig, decrypt, encrypt, name, new_key};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::archive::{KeyArchive, UnarchiveKey};
use holdfast_core::command::{Command, Done, VerifiedBackup};
use holdfast_core::context::Context;
use holdfast_core::key::{Key, Version};
use holdfast_core::lifecycle::{KeyState, Transition, VersionVerb};
use holdfast_core::port::{KeyStore as _, State as _, World as _};
use holdfast_core::query::{Found, Query, Traces};
use holdfast_core::sealing_key::SealingKeyState;
use holdfast_core::{Error, ErrorKind, KeyVersion, OperationId};
use std::sync::Arc;

/// A deactivated key with two versions, something under each, and another key.
fn rig(algorithm: Algorithm) -> (Rig, [Vec<u8>; 2]) {
    let rig = Rig::new();
    now(rig.create(new_key("kek", algorithm))).unwrap();
    now(rig.create(new_key("other", algorithm))).unwrap();
    let first = now(rig.bytes("alice", "kek", encrypt(b"first", Context::EMPTY))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let second = now(rig.bytes("alice", "kek", encrypt(b"second", Context::EMPTY))).unwrap();
    to(&rig, Transition::Deactivate);
    (rig, [first, second])
}

fn to(rig: &Rig, verb: Transition) {
    now(rig.transition("kek", verb)).unwrap();
}

fn opens(rig: &Rig, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    now(rig.bytes("alice", "kek", decrypt(sealed, Context::EMPTY)))
}

fn kek(rig: &Rig) -> Key {
    rig.state().find(&rig.acme, &name("kek")).unwrap()
}

/// What came out of an archive: the code, and the versions.
struct Bundle {
    id: OperationId,
    code: [u8; 32],
    versions: Vec<(KeyVersion, Arc<[u8]>)>,
}

fn archive(rig: &Rig, key: &str) -> Result<Bundle, Error> {
    let done = now(rig.command("carol", Command::ArchiveKey(name(key))))?.done;
    let Done::KeyArchived(key, bytes) = done else { panic!("{done:?}") };
    let (code, mut rest) = bytes.split_first_chunk::<32>().unwrap();
    let mut versions = Vec::new();
    while let Some((number, more)) = rest.split_first_chunk::<4>() {
        let (length, more) = more.split_first_chunk::<4>().unwrap();
        let (sealed, more) = more.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        versions.push((KeyVersion::new(u32::from_be_bytes(*number)).unwrap(), sealed.into()));
        rest = more;
    }
    Ok(Bundle { id: key.archive.unwrap().id, code: *code, versions })
}

fn confirm(rig: &Rig, code: [u8; 32]) -> Result<(), Error> {
    now(rig.command("carol", Command::ConfirmArchive { key: name("kek"), code })).map(drop)
}

fn unarchive(rig: &Rig, bundle: &Bundle) -> Result<(), Error> {
    let Bundle { id, code: _, versions } = bundle;
    let brought = UnarchiveKey { key: name("kek"), archive: *id, versions: versions.clone() };
    now(rig.command("carol", Command::UnarchiveKey(brought))).map(drop)
}

fn archived(rig: &Rig) -> Bundle {
    let bundle = archive(rig, "kek").unwrap();
    confirm(rig, bundle.code).unwrap();
    bundle
}

fn handles(rig: &Rig) -> Vec<usize> {
    let page = now(rig.state().versions(kek(rig).id, None, 10)).unwrap();
    page.rows.iter().map(|version| version.handle.as_bytes().len()).collect()
}

fn renew(rig: &Rig) {
    while now(rig.pipeline.renew_sealing_keys()).unwrap() {}
}

fn traces(rig: &Rig) -> Traces {
    let Found::Key(_, _, traces) = now(rig.query("carol", Query::Key(name("kek")))).unwrap() else {
        panic!("a key")
    };
    traces
}

#[test]
fn a_key_is_put_away_once_its_archive_is_known_to_open_and_comes_back() {
    let (rig, [first, second]) = rig(Algorithm::Xaes256Gcm);
    let bundle = archive(&rig, "kek").unwrap();
    assert_eq!(bundle.versions.len(), 2);
    assert_eq!(opens(&rig, &first).unwrap(), b"first", "it has its material still");
    let wrong = confirm(&rig, [0; 32]).unwrap_err();
    assert_eq!((wrong.kind(), kek(&rig).is_archived()), (ErrorKind::Integrity, false));

    confirm(&rig, bundle.code).unwrap();
    assert_eq!((handles(&rig), kek(&rig).state), (vec![0, 0], KeyState::Deactivated));
    let refused = opens(&rig, &second).unwrap_err();
    assert_eq!((refused.kind(), refused.detail()), (ErrorKind::KeyState, "key `kek` is archived"));
    assert!(confirm(&rig, bundle.code).is_err() && archive(&rig, "kek").is_err(), "it is put away");

    unarchive(&rig, &bundle).unwrap();
    assert_eq!([opens(&rig, &first).unwrap(), opens(&rig, &second).unwrap()], [&b"first"[..], b"second"]);
    assert_eq!(kek(&rig).archive, None);
    assert_eq!(unarchive(&rig, &bundle).unwrap_err().kind(), ErrorKind::KeyState, "once");
    let told = |action: &str| {
        let log = rig.log().of("acme");
        let own = log.iter().filter(|entry| entry.text("action") == action);
        own.map(|entry| (entry.text("outcome"), entry.text("subject"))).collect::<Vec<_>>()
    };
    let subject = format!("archive {}", bundle.id);
    assert_eq!(told("archive-key").iter().filter(|(outcome, _)| outcome == "success").count(), 1);
    assert!(told("confirm-archive").contains(&("success".to_owned(), subject.clone())));
    assert!(told("unarchive-key").contains(&("success".to_owned(), subject)));
}

/// Also of what it lay under nothing is left, and what opens the archive goes from one sealing key to the next.
#[test]
fn what_the_material_lay_under_is_retired_and_the_archive_opens_all_the_same() {
    let (rig, [first, _]) = rig(Algorithm::Xaes256Gcm);
    let id = kek(&rig).id;
    let under = rig.state().find_version(id, KeyVersion::FIRST).unwrap().handle;
    let under = rig.keys().sealing_key_of(&under).unwrap();
    let bundle = archived(&rig);
    assert_eq!(traces(&rig).sealing_keys, [(under, SealingKeyState::InForce)]);
    renew(&rig);
    assert!(
        matches!(traces(&rig).sealing_keys[..], [(id, SealingKeyState::Retired(Some(_)))] if id == under)
    );
    let rig = rig.crash(0).unwrap();
    unarchive(&rig, &bundle).unwrap();
    assert_eq!(opens(&rig, &first).unwrap(), b"first");
}

#[test]
fn stops_that_came_meanwhile_stay_and_nothing_more_comes_back_than_there_was() {
    let (rig, [first, _]) = rig(Algorithm::Xaes256Gcm);
    let bundle = archived(&rig);
    to(&rig, Transition::Suspend);
    unarchive(&rig, &bundle).unwrap();
    assert_eq!(opens(&rig, &first).unwrap_err().detail(), "key `kek` is suspended");
    to(&rig, Transition::Resume);
    assert_eq!((kek(&rig).state, opens(&rig, &first).unwrap()), (KeyState::Deactivated, b"first".to_vec()));
    let earlier = bundle;
    let bundle = archived(&rig);
    assert_eq!(unarchive(&rig, &earlier).unwrap_err().kind(), ErrorKind::Conflict, "that is over");
    to(&rig, Transition::Compromise);
    unarchive(&rig, &bundle).unwrap();
    assert_eq!(kek(&rig).state, KeyState::Compromised);
    assert!(opens(&rig, &first).is_err());
}

#[test]
fn a_key_that_was_destroyed_meanwhile_does_not_come_back_from_its_archive() {
    let (rig, [first, _]) = rig(Algorithm::Xaes256Gcm);
    let bundle = archived(&rig);
    renew(&rig);
    rig.world.pass(3600);
    let before = kek(&rig);
    let versions = [1, 2].map(|n| rig.state().find_version(before.id, KeyVersion::new(n).unwrap()).unwrap());
    to(&rig, Transition::Destroy(None));
    assert_eq!(unarchive(&rig, &bundle).unwrap_err().kind(), ErrorKind::KeyState);
    let archive = kek(&rig).archive.unwrap();
    assert_eq!((archive.opener.clone(), archive.id), (None, bundle.id), "it is named still");
    assert_eq!(traces(&rig).sealing_keys.len(), 2, "the material's, and the archive's");
    renew(&rig);
    let states = traces(&rig).sealing_keys;
    assert!(states.iter().all(|(_, state)| matches!(state, SealingKeyState::Retired(Some(_)))), "{states:?}");
    // Nor for whoever puts the records of before back.
    rig.state().forge_key(Key { epoch: kek(&rig).epoch, ..before });
    versions.into_iter().for_each(|version| rig.state().forge_version(version));
    assert!(unarchive(&rig, &bundle).is_err() && opens(&rig, &first).is_err());
}

#[test]
fn what_is_changed_exchanged_or_missing_brings_nothing_back() {
    let (rig, [first, _]) = rig(Algorithm::Xaes256Gcm);
    now(rig.transition("other", Transition::Deactivate)).unwrap();
    let strange = archive(&rig, "other").unwrap();
    let bundle = archived(&rig);
    let with = |versions: Vec<(KeyVersion, Arc<[u8]>)>| Bundle { versions, ..bundle };
    let [one, two] = &bundle.versions[..] else { panic!("two") };
    let mut changed = one.1.to_vec();
    changed[3] ^= 1;
    for wrong in [
        vec![one.clone()],
        vec![(one.0, Arc::clone(&two.1)), (two.0, Arc::clone(&one.1))],
        vec![(one.0, changed.into()), two.clone()],
        vec![(one.0, Arc::clone(&strange.versions[0].1)), two.clone()],
        vec![],
    ] {
        assert_eq!(unarchive(&rig, &with(wrong)).unwrap_err().kind(), ErrorKind::Integrity);
        assert_eq!(handles(&rig), [0, 0], "all or nothing");
    }
    unarchive(&rig, &bundle).unwrap();
    assert_eq!(opens(&rig, &first).unwrap(), b"first");
}

#[test]
fn a_key_in_use_is_not_put_away_nor_a_version_of_one_that_is() {
    let (rig, _) = rig(Algorithm::Xaes256Gcm);
    assert_eq!(archive(&rig, "other").err().unwrap().kind(), ErrorKind::KeyState);
    archived(&rig);
    let order = Command::TransitionVersion {
        key: name("kek"),
        version: KeyVersion::FIRST,
        verb: VersionVerb::Deactivate,
        without_inventory: true,
    };
    assert_eq!(now(rig.command("carol", order)).unwrap_err().detail(), "key `kek` is archived");
    assert!(now(rig.command("alice", Command::ArchiveKey(name("other")))).is_err(), "nor by who uses it");
}

#[test]
fn the_budget_of_a_key_that_comes_back_goes_on() {
    let (rig, _) = rig(Algorithm::Aes256Gcm);
    let id = kek(&rig).id;
    let count = || now(rig.state().count(id, KeyVersion::new(2).unwrap(), 0)).unwrap();
    let before = count();
    let bundle = archived(&rig);
    unarchive(&rig, &bundle).unwrap();
    assert_eq!((count(), before), (before, 1));
}

fn version(rig: &Rig, number: u32) -> Version {
    rig.state().find_version(kek(rig).id, KeyVersion::new(number).unwrap()).unwrap()
}

/// Whatever lies under which sealing key: what opens the bundle may be under another one than the version.
#[test]
fn a_version_that_was_destroyed_opens_in_no_bundle_that_nobody_had_opened() {
    for is_changing in [false, true] {
        let (rig, [first, second]) = rig(Algorithm::Xaes256Gcm);
        if is_changing {
            now(rig.transition("other", Transition::Deactivate)).unwrap();
            now(rig.transition("other", Transition::Destroy(None))).unwrap();
            assert!(now(rig.pipeline.renew_sealing_keys()).unwrap(), "another one is made");
        }
        let bundle = archive(&rig, "kek").unwrap();
        let (before, remnant) = (kek(&rig), version(&rig, 1));
        for verb in [VersionVerb::Deactivate, VersionVerb::Destroy] {
            let (key, version) = (name("kek"), KeyVersion::FIRST);
            let order = Command::TransitionVersion { key, version, verb, without_inventory: true };
            now(rig.command("carol", order)).unwrap();
        }
        assert_eq!(kek(&rig).archive, None);
        assert_eq!(confirm(&rig, bundle.code).unwrap_err().detail(), "of key `kek` there is no archive");
        assert_eq!(traces(&rig).sealing_keys.len(), 1 + usize::from(is_changing));
        for _ in 0..2 {
            renew(&rig);
            rig.world.pass(3600);
        }
        let states = traces(&rig).sealing_keys;
        assert!(states.iter().all(|(_, state)| matches!(state, SealingKeyState::Retired(Some(_)))));
        assert_eq!(opens(&rig, &second).unwrap(), b"second", "the others stay");

        // Whoever finds what is left of the records on the disk, and has the bundle.
        let stored = Some(rig.world.now());
        let archive = KeyArchive { stored, ..KeyArchive::clone(before.archive.as_ref().unwrap()) };
        let epoch = kek(&rig).epoch;
        rig.state().forge_key(Key { epoch, archive: Some(Arc::new(archive)), ..before });
        rig.state().forge_version(remnant);
        assert!(unarchive(&rig, &bundle).is_err() && opens(&rig, &first).is_err());
    }
}

/// Takes a backup, and says that it opens.
fn back_up(rig: &Rig) {
    let commit = rig.state().position().sequence;
    rig.pipeline.engines().archive.hold(commit);
    let verified = VerifiedBackup { sha256: [7; 32], bytes: 3, commit, proof: PROOF };
    for command in [Command::BackUp, Command::VerifyBackup(verified)] {
        drop(now(rig.pipeline.command(&rig.inbound_at(&rig.gateway, "olga"), command)).unwrap());
    }
}

#[test]
fn no_backup_from_before_or_from_meanwhile_protects_a_key_that_came_back() {
    let (rig, _) = rig(Algorithm::Xaes256Gcm);
    let is_protected = || kek(&rig).is_protected(rig.pipeline.verified());
    back_up(&rig);
    assert!(is_protected());
    let bundle = archive(&rig, "kek").unwrap();
    assert!(is_protected(), "it has its material still");
    confirm(&rig, bundle.code).unwrap();
    assert!(!is_protected());
    back_up(&rig);
    assert!(!is_protected(), "that holds what opens the archive");
    unarchive(&rig, &bundle).unwrap();
    assert!(!is_protected());
    to(&rig, Transition::Compromise);
    assert!(!is_protected(), "other changes are no protection");
    back_up(&rig);
    assert!(is_protected());
}
