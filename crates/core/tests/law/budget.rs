//! Plain AES-256-GCM has a budget (NIST SP 800-38D §8.3): an alarm at 2^30 invocations, rotation at 2^31, refusal beyond 2^32.

use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{Rig, data_key, decrypt, encrypt, name, new_key, rewrap, wrap};
use holdfast_conformance::task::now;
use holdfast_core::ErrorKind;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::command::NewKey;
use holdfast_core::context::Context;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::Operation;
use holdfast_core::port::State;
use holdfast_core::{KeyVersion, TenantId};

const V1: KeyVersion = KeyVersion::FIRST;

fn rig() -> (Rig, Key) {
    let rig = Rig::new();
    let key = now(rig.create(new_key("gcm", Algorithm::Aes256Gcm))).unwrap();
    (rig, key)
}

fn seal() -> Operation {
    encrypt(b"data", Context::EMPTY)
}

fn newest(rig: &Rig, tenant: &TenantId) -> u32 {
    rig.state().find(tenant, &name("gcm")).unwrap().newest.get()
}

#[test]
fn what_makes_a_nonce_is_counted_before_it_happens_and_nothing_else() {
    let (rig, key) = rig();
    let wrapper = NewKey { purpose: Some(Purpose::Wrap), ..new_key("wrapper", Algorithm::Aes256Gcm) };
    let wrapper = now(rig.create(wrapper)).unwrap();
    let count = |key: &Key| now(rig.state().count(key.id, V1, 0)).unwrap();
    let sealed = now(rig.bytes("alice", "gcm", seal())).unwrap();
    now(rig.bytes("alice", "gcm", data_key(32, true, Context::EMPTY))).unwrap();
    now(rig.bytes("alice", "gcm", rewrap(&sealed, Context::EMPTY, None))).unwrap();
    now(rig.bytes("alice", "gcm", decrypt(&sealed, Context::EMPTY))).unwrap();
    assert_eq!(count(&key), 3);
    now(rig.bytes("alice", "wrapper", wrap(b"bytes", Context::EMPTY))).unwrap();
    assert_eq!(count(&wrapper), 1);
    // A failure counts: the nonce may have been used.
    rig.keys().fault(holdfast_conformance::doubles::KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    assert!(now(rig.bytes("alice", "gcm", seal())).is_err());
    assert_eq!(count(&key), 4);
    let free = now(rig.create(new_key("xaes", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.bytes("alice", "xaes", seal())).unwrap();
    assert_eq!(count(&free), 0);
}

#[test]
fn repetitions_count_and_no_alarm_is_stepped_over() {
    let (rig, key) = rig();
    rig.keys().repeat(2);
    now(rig.bytes("alice", "gcm", seal())).unwrap();
    assert_eq!(now(rig.state().count(key.id, V1, 0)).unwrap(), 3);
    rig.state().set_count(key.id, V1, (1 << 30) - 4);
    let mut alarms = Vec::new();
    for _ in 0..3 {
        now(rig.bytes("alice", "gcm", seal())).unwrap();
        alarms.push(!rig.log().last().text("alarm").is_empty());
    }
    assert_eq!(alarms, [false, true, false]);
}

#[test]
fn an_invocation_that_cannot_be_counted_does_not_happen() {
    let (rig, _) = rig();
    let performed = rig.keys().performed().len();
    // The first read is the key's, the second one the counter's.
    rig.state().fail_reads(1);
    assert_eq!(now(rig.bytes("alice", "gcm", seal())).unwrap_err().kind(), ErrorKind::StateUnavailable);
    assert_eq!(rig.keys().performed().len(), performed);
}

#[test]
fn a_quarter_is_an_alarm() {
    let (rig, key) = rig();
    rig.state().set_count(key.id, V1, (1 << 30) - 2);
    let mut alarms = Vec::new();
    for _ in 0..3 {
        now(rig.bytes("alice", "gcm", seal())).unwrap();
        alarms.push(!rig.log().last().text("alarm").is_empty());
    }
    assert_eq!(alarms, [false, true, false]);
    rig.state().set_count(key.id, V1, (1 << 30) + (1 << 24) - 1);
    now(rig.bytes("alice", "gcm", seal())).unwrap();
    assert!(!rig.log().last().text("alarm").is_empty(), "and is repeated");
}

#[test]
fn half_is_rotated_by_itself() {
    let (rig, key) = rig();
    rig.state().set_count(key.id, V1, (1 << 31) - 2);
    now(rig.bytes("alice", "gcm", seal())).unwrap();
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(newest(&rig, &rig.acme), 1);
    let old = now(rig.bytes("alice", "gcm", seal())).unwrap();
    // A failure is tried again, and every attempt is closed in the log.
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    assert_eq!(
        (newest(&rig, &rig.acme), rig.log().last().summary()),
        (1, "rotate-key refused state-unavailable".into())
    );
    // Not at once, whoever uses the key meanwhile: each attempt is two records.
    let entries = rig.log().entries().len();
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!((newest(&rig, &rig.acme), rig.log().entries().len()), (1, entries));
    now(rig.bytes("alice", "gcm", seal())).unwrap();
    rig.world.pass(59);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!((newest(&rig, &rig.acme), rig.log().entries().len()), (1, entries + 1));
    rig.world.pass(1);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(newest(&rig, &rig.acme), 2);
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("caller.kind")], ["rotate-key success", "operator"]);
    assert!(!last.text("alarm").is_empty());
    assert!(rig.log().recovery().intents.is_empty());
    // Done once; the new version has its own budget, and the old one still opens.
    let entries = rig.log().entries().len();
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(rig.log().entries().len(), entries);
    assert!(now(rig.bytes("alice", "gcm", seal())).is_ok());
    assert_eq!(now(rig.bytes("alice", "gcm", decrypt(&old, Context::EMPTY))).unwrap(), b"data");
}

#[test]
fn a_key_that_is_stopped_meanwhile_is_not_rotated() {
    let (rig, key) = rig();
    rig.state().set_count(key.id, V1, (1 << 31) - 1);
    now(rig.bytes("alice", "gcm", seal())).unwrap();
    now(rig.transition("gcm", Transition::Suspend)).unwrap();
    let entries = rig.log().entries().len();
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!((newest(&rig, &rig.acme), rig.log().entries().len()), (1, entries));
}

#[test]
fn beyond_the_whole_nothing_is_sealed_and_everything_still_opens() {
    let (rig, key) = rig();
    rig.state().set_count(key.id, V1, (1 << 32) - 1);
    let last = now(rig.bytes("alice", "gcm", seal())).unwrap();
    let performed = rig.keys().performed().len();
    for operation in [seal(), data_key(32, true, Context::EMPTY), rewrap(&last, Context::EMPTY, None)] {
        let error = now(rig.bytes("alice", "gcm", operation)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BudgetExhausted);
        assert!(error.remedy_text().contains("rotate"));
    }
    assert_eq!(rig.keys().performed().len(), performed);
    assert_eq!(now(rig.bytes("alice", "gcm", decrypt(&last, Context::EMPTY))).unwrap(), b"data");
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert!(now(rig.bytes("alice", "gcm", seal())).is_ok());
}

#[test]
fn what_is_found_used_up_is_rotated_all_the_same() {
    let (rig, key) = rig();
    rig.state().set_count(key.id, V1, 1 << 32);
    assert_eq!(now(rig.bytes("alice", "gcm", seal())).unwrap_err().kind(), ErrorKind::BudgetExhausted);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(newest(&rig, &rig.acme), 2);
    now(rig.bytes("alice", "gcm", seal())).unwrap();
}
