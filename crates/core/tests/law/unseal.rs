//! Whose shares gave the root key stands in the gateway's own log, however late.

use holdfast_conformance::rig::Rig;
use holdfast_conformance::task::now;
use holdfast_core::ErrorKind;
use holdfast_core::pipeline::Unsealing;
use holdfast_core::port::World;
use serde_json::Value;

fn unsealing(rig: &Rig) -> Unsealing {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    Unsealing {
        at: rig.world.now(),
        generation: 2,
        threshold: 3,
        custodians: names(&["alice", "bob", "erin"]),
        made: "2026-11-27T12:00:00Z".to_owned(),
        shared_by: names(&["alice", "carol", "dave"]),
        sealed: None,
    }
}

fn recorded(rig: &Rig) -> Vec<Value> {
    rig.log()
        .entries()
        .iter()
        .map(|entry| entry.event())
        .filter(|event| event["action"] == "unseal")
        .collect()
}

#[test]
fn whose_shares_opened_the_gateway_stands_in_its_own_log() {
    let rig = Rig::new();
    now(rig.pipeline.record_unsealing(unsealing(&rig))).unwrap();
    let events = recorded(&rig);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["tenant"], &event["outcome"]), (&"_gateway".into(), &"success".into()));
    assert_eq!(event["caller"]["authentication"], "gateway");
    let context = &event["context"];
    assert_eq!(context["custodians"], "alice bob erin");
    assert_eq!(context["shared-by"], "alice carol dave");
    assert_eq!((&context["generation"], &context["threshold"]), (&"2".into(), &"3".into()));
    // Once.
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(recorded(&rig).len(), 1);
}

#[test]
fn a_full_log_keeps_no_gateway_shut_and_the_record_follows() {
    let rig = Rig::new();
    rig.log().set_full(true);
    let error = now(rig.pipeline.record_unsealing(unsealing(&rig))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuditUnavailable);
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    rig.log().set_full(false);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(recorded(&rig).len(), 1);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(recorded(&rig).len(), 1);
}
