//! The gateway gives its root key up: nothing of anybody leaves past that, and no log can refuse it.

use holdfast_conformance::rig::{Rig, context, encrypt, issue_token, name, new_key, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::Command;
use holdfast_core::lifecycle::Transition;
use holdfast_core::pipeline::Sealing;
use holdfast_core::port::{Priority, World};
use holdfast_core::query::Query;
use holdfast_core::{Error, ErrorKind};

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

async fn encrypted(rig: &Rig) -> Result<Vec<u8>, Error> {
    rig.bytes("alice", "kek", encrypt(b"data", context(&[]))).await
}

fn sealing(rig: &Rig) -> Sealing {
    let (at, custodian) = (rig.world.now(), "erin".parse().unwrap());
    Sealing { at, custodian, generation: 2, source: None, from_disk: false }
}

fn of_seal(rig: &Rig) -> Vec<serde_json::Value> {
    let events = rig.log().of("_gateway").into_iter().map(|entry| entry.event());
    events.filter(|event| event["action"] == "seal").collect()
}

#[test]
fn nothing_leaves_past_a_seal_while_the_key_store_stalls() {
    let rig = rig();
    rig.keys().performing.hold();
    let under_way = Task::begun(encrypted(&rig));
    assert_eq!(rig.keys().performing.waiting(), 1);
    now(rig.pipeline.stop_everything());
    now(rig.pipeline.record_sealing(&sealing(&rig))).unwrap();
    rig.keys().performing.release();
    assert_eq!(under_way.finish().unwrap_err().kind(), ErrorKind::Sealed);
    // No success stands behind the order.
    assert_eq!(rig.log().last().summary(), "encrypt refused sealed");
}

#[test]
fn nothing_leaves_past_a_seal_while_the_log_stalls() {
    let rig = rig();
    rig.log().hold();
    let under_way = Task::begun(encrypted(&rig));
    let entry = rig.log().waiting()[0];
    now(rig.pipeline.stop_everything());
    rig.log().resolve(entry);
    assert_eq!(under_way.finish().unwrap_err().kind(), ErrorKind::Sealed);
}

#[test]
fn neither_a_reading_nor_a_command_shows_anything_past_a_seal() {
    let rig = rig();
    rig.state().reading.hold();
    let reading = Task::begun(rig.query("audrey", Query::Key(name("kek"))));
    rig.state().reading.hold_no_more();
    rig.state().committing.hold();
    let issue = issue_token("alice", 60);
    let issuing = Task::begun(rig.command("dora", issue));
    now(rig.pipeline.stop_everything());
    rig.state().reading.release();
    rig.state().committing.release();
    assert_eq!(reading.finish().unwrap_err().kind(), ErrorKind::Sealed);
    assert_eq!(issuing.finish().unwrap_err().kind(), ErrorKind::Sealed);
}

#[test]
fn a_seal_waits_for_what_is_on_its_way_out_and_gives_no_new_permit() {
    let rig = rig();
    let leaving = now(rig.release("alice", "kek", encrypt(b"data", context(&[])))).unwrap();
    let mut stopping = Task::begun(rig.pipeline.stop_everything());
    assert!(stopping.turn().is_none() && rig.pipeline.is_sealed());
    assert_eq!(now(encrypted(&rig)).unwrap_err().kind(), ErrorKind::Sealed);
    assert_eq!(now(rig.query("audrey", Query::Key(name("kek")))).unwrap_err().kind(), ErrorKind::Sealed);
    let rotate = Command::RotateKey(name("kek"));
    assert_eq!(now(rig.command("carol", rotate)).unwrap_err().kind(), ErrorKind::Sealed);
    drop(leaving);
    stopping.finish();
}

#[test]
fn a_stop_order_that_is_on_its_way_is_still_answered() {
    let rig = rig();
    rig.state().committing.hold();
    let suspending = Task::begun(rig.command("carol", transition("kek", Transition::Suspend)));
    now(rig.pipeline.stop_everything());
    rig.state().committing.release();
    assert!(suspending.finish().is_ok(), "it says only that something is stopped");
}

#[test]
fn whose_order_it_was_stands_in_the_gateway_s_own_log_also_when_that_is_full() {
    let rig = rig();
    rig.log().set_full(true);
    now(rig.pipeline.stop_everything());
    now(rig.pipeline.record_sealing(&sealing(&rig))).unwrap();
    assert_eq!(rig.log().last().priority, Priority::Stop);
    let events = of_seal(&rig);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["tenant"], &event["outcome"]), (&"_gateway".into(), &"success".into()));
    let context = &event["context"];
    assert_eq!((&context["custodian"], &context["generation"]), (&"erin".into(), &"2".into()));
    assert!(context.get("kept").is_none());
}

#[test]
fn what_a_failed_log_did_not_take_is_recorded_by_another_and_says_that_it_has_lain_somewhere() {
    let before = rig();
    before.log().set_broken(true);
    now(before.pipeline.stop_everything());
    assert!(now(before.pipeline.record_sealing(&sealing(&before))).is_err());
    assert_eq!(now(encrypted(&before)).unwrap_err().kind(), ErrorKind::AuditUnavailable);
    assert!(before.pipeline.is_sealed());

    let after = rig();
    let kept = Sealing { from_disk: true, ..sealing(&before) };
    now(after.pipeline.record_sealing(&kept)).unwrap();
    let events = of_seal(&after);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["context"]["kept"], "on-disk");
}
