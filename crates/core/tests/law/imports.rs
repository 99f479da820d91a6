//! Key material from outside: an import key for one key, one algorithm, one import and a time.

use holdfast_conformance::doubles::{CommitFault, Keys};
use holdfast_conformance::rig::{Rig, decrypt, encrypt, name, new_key};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done};
use holdfast_core::context::Context;
use holdfast_core::import::{BeginImport, DEFAULT_SECONDS, FinishImport, MAX_SECONDS, Past};
use holdfast_core::key::Key;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::operation::Operation;
use holdfast_core::port::{State, World as _};
use holdfast_core::schedule::RotationPeriod;
use holdfast_core::{Error, ErrorKind, KeyVersion, Timestamp};
use std::sync::Arc;

const MATERIAL: &[u8] = b"made elsewhere";

fn begin(key: &str, algorithm: Algorithm, seconds: u64) -> Command {
    Command::BeginImport(BeginImport { new: new_key(key, algorithm), seconds })
}

/// A key `kek` that waits, and the public half of its import key.
fn waiting(rig: &Rig, algorithm: Algorithm) -> (Key, Arc<[u8]>, Timestamp) {
    match now(rig.command("carol", begin("kek", algorithm, DEFAULT_SECONDS))).unwrap().done {
        Done::ImportBegun { key, public, expires } => (*key, public, expires),
        other => panic!("{other:?}"),
    }
}

/// What finishes it.
fn finish(public: &[u8], past: Past) -> FinishImport {
    let (wrapped, check_value) = Keys::wrap_outside(public, MATERIAL);
    FinishImport { key: name("kek"), wrapped: wrapped.into(), check_value: check_value.into(), past }
}

fn carol(rig: &Rig, finish: FinishImport) -> Result<Key, Error> {
    match now(rig.command("carol", Command::FinishImport(finish)))?.done {
        Done::Key(key, _) => Ok(*key),
        other => panic!("{other:?}"),
    }
}

fn seal(rig: &Rig) -> Result<Vec<u8>, Error> {
    now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY)))
}

fn state_of(rig: &Rig, key: &Key, number: u32) -> KeyState {
    now(rig.state().version(key.id, KeyVersion::new(number).unwrap())).unwrap().unwrap().state
}

#[test]
fn material_comes_in_as_the_second_version_and_the_import_key_goes() {
    let rig = Rig::new();
    let (key, public, expires) = waiting(&rig, Algorithm::Xaes256Gcm);
    assert_eq!((key.state, state_of(&rig, &key, 1)), (KeyState::PreActivation, KeyState::PreActivation));
    assert_eq!(expires, rig.world.now().plus_seconds(DEFAULT_SECONDS));
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("output.bytes")], ["begin-import success", "32"]);
    assert!(!last.text("output.sha256").is_empty(), "so that an auditor sees for which key was wrapped");
    let error = seal(&rig).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyState);
    assert!(error.remedy_text().contains("holdfast key import finish kek"), "{}", error.remedy_text());

    let key = carol(&rig, finish(&public, Past::Untold)).unwrap();
    assert_eq!((key.state, key.newest.get(), key.current.get()), (KeyState::Active, 2, 2));
    assert_eq!(state_of(&rig, &key, 1), KeyState::Destroyed);
    let spent = now(rig.state().version(key.id, KeyVersion::FIRST)).unwrap().unwrap();
    assert!(spent.handle.as_bytes().is_empty());
    assert!(rig.keys().is_erased(key.id, KeyVersion::FIRST));
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("key.version")], ["import-key success", "2"]);
    assert_eq!([last.text("evidence.level"), last.text("evidence.origin")], ["software", "imported"]);
    assert!(!last.text("input.sha256").is_empty());
    assert!(last.text("subject").starts_with("imported, check value "), "{}", last.text("subject"));
    let sealed = seal(&rig).unwrap();
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
}

#[test]
fn one_import_key_serves_one_import() {
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    carol(&rig, finish(&public, Past::Untold)).unwrap();
    let error = carol(&rig, finish(&public, Past::Untold)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyState);
    assert_eq!(error.detail(), "key `kek` is active and waits for no import");
    // Nor does a key that was prepared wait for one.
    let other = holdfast_core::command::NewKey { prepared: true, ..new_key("other", Algorithm::Xaes256Gcm) };
    now(rig.create(other)).unwrap();
    let to_other = FinishImport { key: name("other"), ..finish(&public, Past::Untold) };
    assert_eq!(carol(&rig, to_other).unwrap_err().kind(), ErrorKind::KeyState);
}

#[test]
fn an_import_is_for_its_own_name() {
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    now(rig.command("carol", begin("other", Algorithm::Xaes256Gcm, 60))).unwrap();
    let to_other = FinishImport { key: name("other"), ..finish(&public, Past::Untold) };
    assert_eq!(carol(&rig, to_other).unwrap_err().kind(), ErrorKind::Integrity);
    // And a taken name is taken.
    let again = now(rig.command("carol", begin("kek", Algorithm::Xaes256Gcm, 60))).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_wrong_check_value_is_refused_and_can_be_corrected() {
    let rig = Rig::new();
    let (key, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    let wrong = FinishImport { check_value: [0; 8].into(), ..finish(&public, Past::Untold) };
    assert_eq!(carol(&rig, wrong).unwrap_err().kind(), ErrorKind::Integrity);
    assert_eq!(rig.log().last().summary(), "import-key refused integrity");
    let long = FinishImport { check_value: [0; 32].into(), ..finish(&public, Past::Untold) };
    let error = carol(&rig, long).unwrap_err();
    assert_eq!(error.detail(), "the check value of a key of `xaes-256-gcm` has 16 hex digits");
    assert_eq!(state_of(&rig, &key, 1), KeyState::PreActivation);
    carol(&rig, finish(&public, Past::Untold)).unwrap();
}

#[test]
fn an_import_key_has_a_time() {
    let rig = Rig::new();
    for seconds in [0, MAX_SECONDS + 1] {
        let error = now(rig.command("carol", begin("kek", Algorithm::Xaes256Gcm, seconds))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    rig.world.pass(DEFAULT_SECONDS);
    assert_eq!(carol(&rig, finish(&public, Past::Untold)).unwrap_err().kind(), ErrorKind::KeyState);
    // What waits in vain is destroyed, and begun again.
    now(rig.transition("kek", Transition::Destroy(None))).unwrap();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    carol(&rig, finish(&public, Past::Untold)).unwrap();
}

#[test]
fn a_key_without_material_is_not_put_into_use() {
    let rig = Rig::new();
    let (key, public, _) = waiting(&rig, Algorithm::EcdsaP256);
    let error = now(rig.transition("kek", Transition::Activate)).unwrap_err();
    assert_eq!((error.kind(), error.detail()), (ErrorKind::KeyState, "key `kek` waits for its import"));
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    assert_eq!(carol(&rig, finish(&public, Past::Untold)).unwrap_err().kind(), ErrorKind::KeyState);
    now(rig.transition("kek", Transition::Resume)).unwrap();
    assert!(now(rig.bytes("alice", "kek", Operation::PublicKey { version: None })).is_err());
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    assert!(now(rig.bytes("alice", "kek", holdfast_conformance::rig::verify(b"m", b"s", None))).is_err());
    assert_eq!(state_of(&rig, &key, 1), KeyState::PreActivation);
}

#[test]
fn a_past_is_counted_once_and_must_be_told() {
    let rig = Rig::new();
    let (key, public, _) = waiting(&rig, Algorithm::Aes256Gcm);
    let second = KeyVersion::new(2).unwrap();
    let counted = || now(rig.state().count(key.id, second, 0)).unwrap();
    assert_eq!(carol(&rig, finish(&public, Past::Untold)).unwrap_err().kind(), ErrorKind::Malformed);
    let error = carol(&rig, finish(&public, Past::Uses(1 << 31))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BudgetExhausted);
    assert_eq!(counted(), 0);
    // The state refuses the first attempt after the count.
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(carol(&rig, finish(&public, Past::Uses(1000))).is_err());
    carol(&rig, finish(&public, Past::Uses(1000))).unwrap();
    assert_eq!(counted(), 1000);
    seal(&rig).unwrap();
    assert_eq!(counted(), 1001);
}

#[test]
fn where_nobody_knows_the_past_a_key_only_decrypts() {
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Aes256Gcm);
    let key = carol(&rig, finish(&public, Past::DecryptOnly)).unwrap();
    assert_eq!(key.state, KeyState::Deactivated);
    assert_eq!(seal(&rig).unwrap_err().kind(), ErrorKind::KeyState);
    assert_eq!(
        now(rig.bytes("alice", "kek", decrypt(&[0; 100], Context::EMPTY))).unwrap_err().kind(),
        ErrorKind::Integrity
    );
}

#[test]
fn a_backup_from_before_the_material_came_does_not_protect_it() {
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    let before = rig.state().position().sequence;
    let key = carol(&rig, finish(&public, Past::Untold)).unwrap();
    let kept = rig.state().find(&key.tenant, &key.name).unwrap();
    assert!(!kept.is_protected(Some(before)));
    assert!(kept.is_protected(Some(rig.state().position().sequence)));
}

#[test]
fn only_who_administers_keys_imports() {
    let rig = Rig::new();
    let error = now(rig.command("alice", begin("kek", Algorithm::Xaes256Gcm, 60))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    let import = Command::FinishImport(finish(&public, Past::Untold));
    assert!(matches!(
        now(rig.command("alice", import)).unwrap_err().kind(),
        ErrorKind::Denied | ErrorKind::NotFound
    ));
}

/// Nor when it is noticed that the clock has jumped, back or ahead.
#[test]
fn no_step_of_the_clock_gives_an_import_key_more_time() {
    let seconds = i64::try_from(DEFAULT_SECONDS).unwrap();
    let tick = |rig: &Rig| now(rig.pipeline.finish_what_waits()).unwrap();
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    rig.world.pass(2 * DEFAULT_SECONDS);
    tick(&rig);
    rig.world.jump(-2 * seconds);
    tick(&rig);
    let error = carol(&rig, finish(&public, Past::Untold)).unwrap_err();
    assert!(error.detail().contains("expired"), "{}", error.chain());

    let rig = Rig::new();
    rig.world.jump(5 * seconds);
    tick(&rig);
    let (_, public, expires) = waiting(&rig, Algorithm::Xaes256Gcm);
    assert_eq!(expires, rig.world.held_now().unwrap().plus_seconds(DEFAULT_SECONDS));
    rig.world.jump(-5 * seconds);
    carol(&rig, finish(&public, Past::Untold)).unwrap();
}

#[test]
fn no_jump_of_the_clock_puts_off_the_first_rotation_of_what_comes_in() {
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    let period = RotationPeriod::of_days(1);
    now(rig.command("carol", Command::ScheduleKey { key: name("kek"), period })).unwrap();
    rig.world.jump(i64::try_from(DEFAULT_SECONDS / 2).unwrap());
    now(rig.pipeline.finish_what_waits()).unwrap();
    let latest = rig.world.held_now().unwrap().plus_seconds(86_400);
    let due = carol(&rig, finish(&public, Past::Untold)).unwrap().schedule.unwrap().due;
    assert!(due <= latest, "{due} is later than {latest}");
}

/// What one of them has brought in is not the other's to replace or to take away; and once it is over the key can be finished again.
#[test]
fn an_import_is_finished_by_one_at_a_time() {
    let rig = Rig::new();
    let (_, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    let order = || Command::FinishImport(finish(&public, Past::Untold));
    rig.keys().generating.hold();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    let first = Task::begun(rig.command("carol", order()));
    let error = carol(&rig, finish(&public, Past::Untold)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.detail(), "the import of key `kek` is being finished already");
    assert!(error.remedy_text().contains("holdfast key show kek"), "{}", error.remedy_text());
    rig.keys().generating.release();
    assert_eq!(first.finish().unwrap_err().kind(), ErrorKind::StateUnavailable);
    assert_eq!(carol(&rig, finish(&public, Past::Untold)).unwrap().state, KeyState::Active);
}

/// A member that has been asked what it holds of the key may be brought its material afterwards.
#[test]
fn nothing_of_a_key_counts_as_erased_while_material_may_still_come() {
    let rig = Rig::new();
    rig.keys().pool(&["a"]);
    let (key, public, _) = waiting(&rig, Algorithm::Xaes256Gcm);
    rig.keys().generating.hold();
    let import = Command::FinishImport(finish(&public, Past::Untold));
    let first = Task::begun(rig.command("carol", import));
    now(rig.transition("kek", Transition::Destroy(None))).unwrap();
    let tick = || now(rig.pipeline.finish_what_waits()).unwrap();
    let pending = || rig.state().find(&key.tenant, &key.name).unwrap().erasure.unwrap().pending.len();
    for _ in 0..3 {
        rig.world.pass(1);
        tick();
        assert_eq!(pending(), 1);
    }
    rig.keys().generating.release();
    assert_eq!(first.finish().unwrap_err().kind(), ErrorKind::Stopped);
    rig.world.pass(1);
    tick();
    assert_eq!(pending(), 0);
}
