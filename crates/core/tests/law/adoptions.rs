//! Keys that another program made in the token: each is a key of Holdfast once, with its past, and by whoever may create it.

use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{POLICY, Rig, decrypt, encrypt, name, new_key, people};
use holdfast_conformance::task::now;
use holdfast_core::adoption::{AdoptKey, MAX_NAME};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done};
use holdfast_core::context::Context;
use holdfast_core::import::Past;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::port::State as _;
use holdfast_core::{Error, ErrorKind, KeyVersion, TenantId};

pub(crate) fn adopt(key: &str, label: &str, algorithm: Algorithm, past: Past) -> Command {
    let label = Some(label.into());
    Command::AdoptKey(AdoptKey {
        new: new_key(key, algorithm),
        label,
        id: None,
        past,
        accept_extractable: false,
    })
}

fn rig() -> Rig {
    let rig = Rig::new();
    rig.keys().make_foreign("legacy");
    rig
}

fn carol(rig: &Rig, command: Command) -> Result<Key, Error> {
    match now(rig.command("carol", command))?.done {
        Done::Key(key, _) => Ok(*key),
        other => panic!("{other:?}"),
    }
}

fn legacy(key: &str, past: Past) -> Command {
    adopt(key, "legacy", Algorithm::Aes256Gcm, past)
}

fn seal(rig: &Rig) -> Result<Vec<u8>, Error> {
    now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY)))
}

#[test]
fn it_is_a_key_with_its_past_and_its_evidence_says_that_it_was_found() {
    let rig = rig();
    let key = carol(&rig, legacy("kek", Past::Uses(1000))).unwrap();
    assert_eq!((key.state, key.newest, key.exportable), (KeyState::Active, KeyVersion::FIRST, false));
    let counted = || now(rig.state().count(key.id, KeyVersion::FIRST, 0)).unwrap();
    assert_eq!(counted(), 1000);
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("key.version")], ["adopt-key success", "1"]);
    assert_eq!(last.text("subject"), "adopted, label legacy, 1000 prior uses");
    assert_eq!([last.text("evidence.level"), last.text("evidence.origin")], ["token", "adopted"]);
    assert_eq!([last.text("evidence.object.id"), last.text("evidence.object.label")], ["01", "legacy"]);
    let intent = rig.log().about(last.operation()).remove(0);
    assert_eq!(
        [intent.summary(), intent.text("subject")],
        ["adopt-key intent", last.text("subject").as_str()]
    );
    let sealed = seal(&rig).unwrap();
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
    assert_eq!(counted(), 1001);
    // A rotation makes a version of its own.
    let key = carol(&rig, Command::RotateKey(name("kek"))).unwrap();
    assert_eq!(key.current.get(), 2);
    assert_eq!(rig.log().last().text("evidence.origin"), "generated");
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
}

#[test]
fn one_object_is_one_key_whoever_asks_until_it_is_destroyed() {
    let rig = rig();
    let first = carol(&rig, legacy("kek", Past::Uses(0))).unwrap();
    let again = carol(&rig, legacy("other", Past::Uses(0))).unwrap_err();
    assert_eq!(
        (again.kind(), rig.log().last().summary().as_str()),
        (ErrorKind::AlreadyExists, "adopt-key refused already-exists")
    );
    // Nor for another algorithm, nor another tenant.
    let again = carol(&rig, adopt("other", "legacy", Algorithm::Aes256Kw, Past::Untold)).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let third: TenantId = "third".parse().unwrap();
    let create = Command::CreateTenant(people("third", POLICY, &rig.world));
    now(rig.pipeline.command(&rig.inbound_at(&rig.gateway, "olga"), create)).unwrap();
    let elsewhere =
        || now(rig.pipeline.command(&rig.inbound_at(&third, "carol"), legacy("kek", Past::Uses(0))));
    assert_eq!(elsewhere().unwrap_err().kind(), ErrorKind::AlreadyExists);
    // What is made under the same names when it is gone is another object; and it is gone when every member says so.
    rig.keys().pool(&["a", "b"]);
    rig.keys().take_away("b", true);
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    now(rig.transition("kek", Transition::Destroy(None))).unwrap();
    now(rig.pipeline.finish_what_waits()).unwrap();
    let early = carol(&rig, legacy("kek-2", Past::Uses(0))).unwrap_err();
    assert_eq!(
        early.kind(),
        ErrorKind::Conflict,
        "a key that was destroyed does not come back to life: {early}"
    );
    rig.keys().take_away("b", false);
    rig.world.step(600);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert!(rig.keys().is_erased(first.id, KeyVersion::FIRST));
    let second = carol(&rig, legacy("kek", Past::Uses(0))).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(elsewhere().unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_past_is_counted_once_and_must_be_told() {
    let rig = rig();
    assert_eq!(carol(&rig, legacy("kek", Past::Untold)).unwrap_err().kind(), ErrorKind::Malformed);
    let full = carol(&rig, legacy("kek", Past::Uses(1 << 31))).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::BudgetExhausted);
    let uncounted = adopt("kek", "legacy", Algorithm::Ed25519, Past::Uses(1));
    assert_eq!(carol(&rig, uncounted).unwrap_err().kind(), ErrorKind::Malformed);
    // The state refuses the first attempt after the count.
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(carol(&rig, legacy("kek", Past::Uses(1000))).is_err());
    let key = carol(&rig, legacy("kek", Past::Uses(1000))).unwrap();
    assert_eq!(now(rig.state().count(key.id, KeyVersion::FIRST, 0)).unwrap(), 1000);
}

#[test]
fn where_nobody_knows_the_past_it_only_decrypts() {
    let rig = rig();
    assert_eq!(carol(&rig, legacy("kek", Past::DecryptOnly)).unwrap().state, KeyState::Deactivated);
    assert_eq!(seal(&rig).unwrap_err().kind(), ErrorKind::KeyState);
    let opened = now(rig.bytes("alice", "kek", decrypt(&[0; 100], Context::EMPTY)));
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn what_is_not_named_or_not_there_is_refused() {
    let rig = rig();
    let unnamed = AdoptKey {
        new: new_key("kek", Algorithm::Ed25519),
        label: None,
        id: None,
        past: Past::Untold,
        accept_extractable: false,
    };
    for wrong in [
        unnamed.clone(),
        AdoptKey { label: Some("".into()), ..unnamed.clone() },
        AdoptKey { id: Some([].into()), ..unnamed.clone() },
        AdoptKey { id: Some(vec![1; MAX_NAME + 1].into()), label: Some("legacy".into()), ..unnamed },
    ] {
        let error = carol(&rig, Command::AdoptKey(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{}", error.detail());
    }
    let missing = carol(&rig, adopt("kek", "none", Algorithm::Ed25519, Past::Untold)).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    rig.keys().make_foreign("legacy");
    assert_eq!(carol(&rig, legacy("kek", Past::Uses(0))).unwrap_err().kind(), ErrorKind::Conflict);
    let denied = now(rig.command("alice", legacy("kek", Past::Uses(0)))).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert_eq!(rig.log().last().summary(), "adopt-key refused denied");
}
