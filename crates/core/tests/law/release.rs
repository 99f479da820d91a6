//! Nothing leaves before its record is durable, and nothing at all when it cannot be.

use holdfast_conformance::rig::{Rig, context, encrypt, new_key, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::ErrorKind;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::Command;
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::query::Query;

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

#[test]
fn a_result_waits_for_its_record() {
    let rig = rig();
    rig.log().hold();
    let mut encrypting = Task::begun(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY)));
    let [index] = rig.log().waiting()[..] else { panic!("one record waits") };
    assert_eq!(rig.log().entries()[index].summary(), "encrypt success");
    assert!(encrypting.turn().is_none());
    rig.log().resolve(index);
    assert!(encrypting.finish().is_ok());
}

#[test]
fn a_result_whose_record_is_lost_never_leaves() {
    let rig = rig();
    rig.log().hold();
    let encrypting = Task::begun(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY)));
    rig.log().fail(rig.log().waiting()[0]);
    assert_eq!(encrypting.finish().unwrap_err().kind(), ErrorKind::AuditUnavailable);
}

#[test]
fn a_result_that_cannot_be_recorded_never_leaves() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.log().set_full(true);
    let error = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuditUnavailable);
    rig.log().set_full(false);
    rig.log().fault(ErrorKind::Throttled);
    let error = now(rig.random("alice", 16)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(rig.log().entries().len(), before);
}

#[test]
fn refusals_wait_for_their_record_like_results() {
    let rig = rig();
    rig.log().hold();
    let refused = Task::begun(rig.bytes("bob", "kek", encrypt(b"data", Context::EMPTY)));
    assert_eq!(rig.log().last().summary(), "encrypt refused denied");
    rig.log().sync();
    assert_eq!(refused.finish().unwrap_err().kind(), ErrorKind::Denied);
    let lost = Task::begun(rig.bytes("bob", "kek", encrypt(b"data", Context::EMPTY)));
    rig.log().fail(rig.log().waiting()[0]);
    assert_eq!(lost.finish().unwrap_err().kind(), ErrorKind::AuditUnavailable);
    let reading = Task::begun(rig.query("bob", Query::Tenant));
    let ordering = Task::begun(rig.command("bob", transition("kek", Transition::Suspend)));
    let [read, ordered] = rig.log().waiting()[..] else { panic!("both wait") };
    rig.log().resolve(read);
    rig.log().fail(ordered);
    assert_eq!(reading.finish().unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(ordering.finish().unwrap_err().kind(), ErrorKind::AuditUnavailable);
}

#[test]
fn what_is_read_waits_for_its_record() {
    let rig = rig();
    rig.log().hold();
    let reading = Task::begun(rig.query("audrey", Query::Keys { after: None, limit: 10 }));
    assert_eq!(rig.log().last().summary(), "list-keys success");
    rig.log().sync();
    assert!(reading.finish().is_ok());
    let lost = Task::begun(rig.query("audrey", Query::Tenant));
    rig.log().fail(rig.log().waiting()[0]);
    assert_eq!(lost.finish().unwrap_err().kind(), ErrorKind::AuditUnavailable);
}

#[test]
fn a_command_waits_for_its_intent_and_for_its_outcome() {
    let rig = rig();
    let (commits, performed) = (rig.state().commits(), rig.keys().performed().len());
    rig.log().hold();
    let mut rotating = Task::begun(rig.command("carol", Command::RotateKey("kek".parse().unwrap())));
    assert_eq!(rig.log().last().summary(), "rotate-key intent");
    // Nothing has been done yet, not even in the key store.
    assert_eq!((rig.state().commits(), rig.keys().performed().len()), (commits, performed));
    rig.log().sync();
    assert!(rotating.turn().is_none());
    assert_eq!(rig.state().commits(), commits + 1);
    assert_eq!(rig.log().last().summary(), "rotate-key success");
    rig.log().sync();
    assert!(rotating.finish().is_ok());
}

#[test]
fn a_command_whose_intent_is_lost_does_nothing() {
    let rig = rig();
    let commits = rig.state().commits();
    rig.log().hold();
    let rotating = Task::begun(rig.command("carol", Command::RotateKey("kek".parse().unwrap())));
    rig.log().fail(rig.log().waiting()[0]);
    assert_eq!(rotating.finish().unwrap_err().kind(), ErrorKind::AuditUnavailable);
    assert_eq!(rig.state().commits(), commits);
}

#[test]
fn a_resumption_waits_for_its_record_and_a_stop_does_not_wait_to_be_in_force() {
    let rig = rig();
    rig.log().hold();
    let suspending = Task::begun(rig.command("carol", transition("kek", Transition::Suspend)));
    // The intent is not durable, and the stop works.
    let refused = Task::begun(rig.bytes("alice", "kek", encrypt(b"data", context(&[]))));
    rig.log().sync();
    assert_eq!(refused.finish().unwrap_err().kind(), ErrorKind::Stopped);
    drop(suspending);
}
