//! New versions wait until a verified backup holds them, and nothing else about a key changes meanwhile.

use super::versions::{deactivate, inventory};
use holdfast_conformance::doubles::PROOF;
use holdfast_conformance::rig::{Rig, encrypt, name, new_key};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, NewKey, VerifiedBackup};
use holdfast_core::context::Context;
use holdfast_core::inventory::Need;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::port::State;
use holdfast_core::schedule::RotationPeriod;
use holdfast_core::{ErrorKind, KeyVersion};

/// A gateway whose new versions wait, with a key `kek`.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.pipeline.engines().archive.hold_back();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn key(rig: &Rig, key: &str) -> Key {
    rig.state().find(&rig.acme, &name(key)).unwrap()
}

/// State, newest version, the one for new work, and whether one waits.
fn is(rig: &Rig, of: &str) -> (KeyState, u32, u32, bool) {
    let key = key(rig, of);
    (key.state, key.newest.get(), key.current.get(), key.waits)
}

/// Somebody has opened a backup of this commit, and the gateway has done what waited for that.
fn verify(rig: &Rig, commit: u64) {
    let verified = VerifiedBackup { sha256: [7; 32], bytes: 3, commit, proof: PROOF };
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    now(rig.pipeline.command(&inbound, Command::VerifyBackup(verified))).unwrap();
    now(rig.pipeline.finish_what_waits()).unwrap();
}

/// Of all that there is now.
fn verify_all(rig: &Rig) {
    verify(rig, rig.state().position().sequence);
}

/// The version that new work takes, if it may.
fn seal(rig: &Rig) -> Result<u32, ErrorKind> {
    let answer = now(rig.use_key("alice", "kek", encrypt(b"data", Context::EMPTY)));
    answer.map(|answer| answer.version.unwrap().get()).map_err(|error| error.kind())
}

fn rotate(rig: &Rig) {
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
}

fn activate(rig: &Rig, of: &str, unprotected: bool) -> Result<(), ErrorKind> {
    let order = Command::ActivateKey { key: name(of), unprotected };
    now(rig.command("carol", order)).map(|_| ()).map_err(|error| error.kind())
}

#[test]
fn a_new_key_is_put_into_use_when_a_verified_backup_holds_it() {
    let rig = Rig::new();
    rig.pipeline.engines().archive.hold_back();
    let before = rig.state().position().sequence;
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    assert_eq!(is(&rig, "kek"), (KeyState::PreActivation, 1, 1, true));
    assert_eq!((seal(&rig), rig.pipeline.waiting_for_backup()), (Err(ErrorKind::KeyState), 1));
    // One from before does not hold it.
    verify(&rig, before);
    assert_eq!(is(&rig, "kek"), (KeyState::PreActivation, 1, 1, true));
    let entries = rig.log().of("acme").len();
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(rig.log().of("acme").len(), entries, "what waits costs nothing");
    verify_all(&rig);
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 1, 1, false));
    assert_eq!((seal(&rig), rig.pipeline.waiting_for_backup()), (Ok(1), 0));
    let acme = rig.log().of("acme");
    let by_itself = acme.iter().rfind(|entry| entry.summary() == "activate-key success").unwrap();
    assert_eq!(by_itself.text("subject"), "protected");
    assert!(acme.iter().any(|entry| entry.summary() == "activate-key intent"), "intended before it was done");
}

#[test]
fn a_rotation_takes_effect_when_it_is_protected_and_is_taken_back_until_then() {
    let rig = rig();
    verify_all(&rig);
    rotate(&rig);
    assert_eq!((is(&rig, "kek"), seal(&rig)), ((KeyState::Active, 2, 1, true), Ok(1)));
    // What comes under it comes later: no inventory speaks of it, and nobody ends it meanwhile.
    let taken = Command::RecordInventory { key: name("kek"), taken: inventory(1, 1, &[]) };
    now(rig.command("carol", taken)).unwrap();
    let two = KeyVersion::new(2).unwrap();
    assert_eq!(key(&rig, "kek").inventory.unwrap().need(two), Need::Unknown);
    let refused = now(rig.command("carol", deactivate(2))).unwrap_err();
    assert!(refused.detail().contains("waits to be put into use"), "{}", refused.detail());
    // Taken back, it stays where it is, whatever is verified.
    now(rig.command("carol", Command::RollBackKey(name("kek")))).unwrap();
    verify_all(&rig);
    assert_eq!((is(&rig, "kek"), seal(&rig)), ((KeyState::Active, 2, 1, false), Ok(1)));
    rotate(&rig);
    verify_all(&rig);
    assert_eq!((is(&rig, "kek"), seal(&rig)), ((KeyState::Active, 3, 3, false), Ok(3)));
    // An inventory that was begun while a version waited is none once that was in use, although new work is back where it was.
    rotate(&rig);
    let begun = Command::RecordInventory { key: name("kek"), taken: inventory(3, 3, &[]) };
    now(rig.command("carol", begun.clone())).unwrap();
    verify_all(&rig);
    assert_eq!((is(&rig, "kek"), seal(&rig)), ((KeyState::Active, 4, 4, false), Ok(4)));
    now(rig.command("carol", Command::RollBackKey(name("kek")))).unwrap();
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 4, 3, false));
    assert_eq!(now(rig.command("carol", begun)).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn by_hand_only_with_a_word_that_stands_in_the_log() {
    let rig = rig();
    now(rig.create(NewKey { prepared: true, ..new_key("prepared", Algorithm::Ed25519) })).unwrap();
    for (key, waits) in [("kek", true), ("prepared", false)] {
        assert_eq!(activate(&rig, key, false), Err(ErrorKind::KeyState));
        let refused = now(rig.transition(key, Transition::Activate)).unwrap_err();
        assert!(refused.detail().contains("is in no verified backup"), "{}", refused.detail());
        assert!(refused.remedy_text().contains("--unprotected"), "{}", refused.remedy_text());
        assert_eq!(is(&rig, key), (KeyState::PreActivation, 1, 1, waits));
        activate(&rig, key, true).unwrap();
        let last = rig.log().last();
        assert_eq!(
            (last.summary(), last.text("subject")),
            ("activate-key success".into(), "unprotected".into())
        );
        assert_eq!(is(&rig, key), (KeyState::Active, 1, 1, false));
    }
    // A prepared key is somebody's to activate, and not the gateway's.
    now(rig.create(NewKey { prepared: true, ..new_key("later", Algorithm::Ed25519) })).unwrap();
    verify_all(&rig);
    assert_eq!(is(&rig, "later"), (KeyState::PreActivation, 1, 1, false));
    activate(&rig, "later", false).unwrap();
    assert_eq!(is(&rig, "later"), (KeyState::Active, 1, 1, false));
}

#[test]
fn what_is_stopped_meanwhile_stays_stopped() {
    let rig = rig();
    now(rig.create(new_key("ended", Algorithm::Ed25519))).unwrap();
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    now(rig.transition("ended", Transition::Deactivate)).unwrap();
    verify_all(&rig);
    assert_eq!(is(&rig, "kek"), (KeyState::Suspended, 1, 1, true));
    assert_eq!(is(&rig, "ended"), (KeyState::Deactivated, 1, 1, false));
    now(rig.transition("kek", Transition::Resume)).unwrap();
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 1, 1, false));
}

#[test]
fn what_waits_is_found_again_after_a_restart() {
    let rig = rig();
    let at = rig.state().position().sequence;
    let rig = rig.crash(0).unwrap();
    assert_eq!(is(&rig, "kek"), (KeyState::PreActivation, 1, 1, true));
    verify(&rig, at);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 1, 1, false));
}

#[test]
fn a_version_that_is_used_up_waits_for_nothing() {
    let rig = Rig::new();
    rig.pipeline.engines().archive.hold_back();
    now(rig.create(new_key("kek", Algorithm::Aes256Gcm))).unwrap();
    verify_all(&rig);
    now(rig.state().count(key(&rig, "kek").id, KeyVersion::FIRST, 1 << 31)).unwrap();
    rotate(&rig);
    assert_eq!((is(&rig, "kek"), seal(&rig)), ((KeyState::Active, 2, 2, false), Ok(2)));
}

/// Whether it may wait is asked of the state before a device makes anything that nobody could use.
#[test]
fn a_state_that_cannot_say_whether_a_version_is_used_up_has_nothing_made() {
    let rig = Rig::new();
    rig.pipeline.engines().archive.hold_back();
    now(rig.create(new_key("kek", Algorithm::Aes256Gcm))).unwrap();
    verify_all(&rig);
    rig.state().counting.hold();
    rig.keys().generating.hold();
    let rotating = Task::begun(rig.command("carol", Command::RotateKey(name("kek"))));
    assert_eq!((rig.state().counting.waiting(), rig.keys().generating.waiting()), (1, 0));
    rig.state().fail_reads(1);
    rig.state().counting.release();
    assert_eq!(rotating.finish().unwrap_err().kind(), ErrorKind::StateUnavailable);
}

#[test]
fn two_members_of_a_pool_are_as_good_as_a_backup() {
    let rig = Rig::new();
    rig.pipeline.engines().archive.hold_back();
    rig.keys().copy(2);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rotate(&rig);
    assert_eq!((is(&rig, "kek"), seal(&rig)), ((KeyState::Active, 2, 2, false), Ok(2)));
}

/// Each would take the place of the one before, and none would ever come into use.
#[test]
fn a_schedule_makes_no_version_behind_one_that_waits() {
    let rig = rig();
    verify_all(&rig);
    let period = Some(RotationPeriod::of_days(2).unwrap());
    now(rig.command("carol", Command::ScheduleKey { key: name("kek"), period })).unwrap();
    let pass = |days: i64| {
        rig.world.step(days * 86_400);
        now(rig.pipeline.finish_what_waits()).unwrap();
    };
    pass(2);
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 2, 1, true));
    pass(2);
    pass(2);
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 2, 1, true), "it waits, and is not passed over");
    // Once it is in use the next one is due.
    verify_all(&rig);
    pass(0);
    assert_eq!(is(&rig, "kek"), (KeyState::Active, 3, 2, true));
}
