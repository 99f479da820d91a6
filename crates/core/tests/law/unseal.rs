//! Whose shares gave the root key stands in the gateway's own log, however late.

use holdfast_conformance::rig::Rig;
use holdfast_conformance::task::now;
use holdfast_core::ErrorKind;
use holdfast_core::pipeline::{DeviceUnsealing, Generation, Unsealing};
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
fn a_generation_of_shares_is_recorded_and_remembered_or_neither() {
    let rig = Rig::new();
    let generation = |number| Generation {
        number,
        threshold: 2,
        custodians: vec!["alice".parse().unwrap(), "bob".parse().unwrap()],
        made: "2026-11-27T12:00:00Z".to_owned(),
        shared_by: vec![],
    };
    assert_eq!(rig.pipeline.recorded_generation(), None);
    rig.log().set_full(true);
    assert!(now(rig.pipeline.record_generation(&generation(2))).is_err());
    assert_eq!(rig.pipeline.recorded_generation(), None);
    rig.log().set_full(false);
    now(rig.pipeline.record_generation(&generation(2))).unwrap();
    let entries = rig.log().entries();
    let told: Vec<_> = entries.iter().filter(|entry| entry.event()["action"] == "share-root").collect();
    assert_eq!([told[0].summary(), told[1].summary()], ["share-root intent", "share-root success"]);
    assert_eq!(told[1].event()["context"]["generation"], "2");
    // The next start knows.
    let (keys, state, log) = (rig.keys().clone(), rig.state().copy(), rig.log().copy());
    let opened = now(Rig::open(keys, state, log, rig.world.clone(), rig.log().recovery())).unwrap();
    assert_eq!(opened.pipeline.recorded_generation(), Some(2));
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

fn by_tpm(rig: &Rig, refused: Option<&str>) -> DeviceUnsealing {
    DeviceUnsealing {
        at: rig.world.now(),
        device: "tpm",
        bound_to: "sha256:7".to_owned(),
        made: "2026-11-27T12:00:00Z".to_owned(),
        bound_by: vec!["alice".parse().unwrap(), "bob".parse().unwrap()],
        refused: refused.map(str::to_owned),
    }
}

#[test]
fn a_device_that_opened_the_gateway_and_one_that_refused_stand_in_its_own_log() {
    let rig = Rig::new();
    now(rig.pipeline.record_device(by_tpm(&rig, None))).unwrap();
    now(rig.pipeline.record_device(by_tpm(&rig, Some("PCR 7 changed")))).unwrap();
    now(rig.pipeline.finish_what_waits()).unwrap();
    let events = recorded(&rig);
    assert_eq!(events.len(), 2);
    for event in &events {
        let context = &event["context"];
        assert_eq!((&context["device"], &context["bound-to"]), (&"tpm".into(), &"sha256:7".into()));
        assert_eq!(context["bound-by"], "alice bob");
    }
    assert_eq!((&events[0]["outcome"], &events[0]["error"]), (&"success".into(), &Value::Null));
    assert_eq!(events[1]["outcome"], "refused", "{}", events[1]);
    assert!(events[1].to_string().contains("PCR 7 changed"), "{}", events[1]);
    // Late, but not never.
    rig.log().set_full(true);
    assert!(now(rig.pipeline.record_device(by_tpm(&rig, None))).is_err());
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    rig.log().set_full(false);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(recorded(&rig).len(), 3);
    // Whatever stands in the file that describes it.
    let (bound_to, made) = ("ä".repeat(9_000), "x".repeat(9_000));
    now(rig.pipeline.record_device(DeviceUnsealing { bound_to, made, ..by_tpm(&rig, None) })).unwrap();
    assert_eq!(recorded(&rig).len(), 4);
}
