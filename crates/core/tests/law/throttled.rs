//! Whoever asks beyond a quota: nothing is refused that does not stand in the tenant's log, and no log grows by asking more often.

use holdfast_conformance::rig::Rig;
use holdfast_conformance::task::now;
use holdfast_core::action::Action;
use holdfast_core::caller::{CallerKind, CallerRecord, Credential};
use holdfast_core::command::Command;
use holdfast_core::peer::{IssuedToken, Proof};
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, KeyName, Stage};

const ISSUER: &str = "https://idp.example";

fn rig() -> Rig {
    let rig = Rig::under("permit kind:custodian administer *");
    let record = CallerRecord {
        name: "door".parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec![],
        credentials: vec![Credential::Issued { issuer: ISSUER.into(), subject: None }],
        tokens: vec![],
        suspended: false,
    };
    now(rig.command("carol", Command::PutCaller(record))).unwrap();
    rig
}

/// Refuses so many requests of a person; what the last one was told.
fn refuse(rig: &Rig, subject: &str, times: u32) -> ErrorKind {
    let at = rig.world.now();
    let token = IssuedToken::examined(ISSUER.into(), Some(subject.into()), (at, at.plus_seconds(60)));
    let key: KeyName = "kek".parse().unwrap();
    let mut told = vec![];
    for _ in 0..times {
        let inbound = rig.inbound_with(&rig.acme, Proof::Issued(&token));
        let recognised = rig.pipeline.recognise(&inbound).unwrap();
        let error = Error::new(ErrorKind::Throttled, Stage::Receive, "the quota is used up");
        told.push(now(rig.pipeline.throttle(&recognised, (Action::Decrypt, Some(&key)), error)).kind());
    }
    told.pop().unwrap()
}

#[test]
fn each_refusal_is_recorded_or_counted_and_the_log_says_whose() {
    let rig = rig();
    let before = rig.log().entries().len();
    for (subject, times) in [("ana", 1), ("bo", 1), ("ana", 40)] {
        assert_eq!(refuse(&rig, subject, times), ErrorKind::Throttled);
    }
    let first = rig.log().entries().split_off(before);
    let said = |path| first.iter().map(|entry| entry.text(path)).collect::<Vec<_>>();
    assert_eq!(said("caller.subject"), ["ana", "bo"]);
    for (path, value) in
        [("action", "decrypt"), ("key.name", "kek"), ("outcome", "refused"), ("reason", "throttled")]
    {
        assert_eq!(said(path), [value; 2]);
    }
    let since = first[0].text("time").to_owned();
    now(rig.pipeline.housekeep()).unwrap();
    let summaries = rig.log().entries().split_off(before + 2);
    let [summary] = &summaries[..] else { panic!("one summary: who asked once has a record already") };
    assert_eq!((summary.tenant.as_str(), &*summary.text("action")), ("acme", "throttled"));
    let told = ["caller.name", "caller.issuer", "caller.subject", "context.count", "context.since"];
    assert_eq!(told.map(|path| summary.text(path)), ["door", ISSUER, "ana", "40", &since]);
    let told = ["outcome", "reason", "protocol.name"].map(|path| summary.text(path));
    assert_eq!(told, ["refused", "throttled", "native"]);
    // Nothing is said where there is nothing to say, and the next one is the first again.
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(rig.log().entries().len(), before + 3);
    refuse(&rig, "ana", 1);
    assert_eq!(rig.log().last().text("action"), "decrypt");
}

#[test]
fn what_cannot_be_written_is_counted_and_written_later() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.log().set_full(true);
    assert_eq!(refuse(&rig, "ana", 1), ErrorKind::AuditUnavailable);
    assert_eq!(refuse(&rig, "ana", 2), ErrorKind::Throttled);
    assert!(now(rig.pipeline.housekeep()).is_err());
    assert_eq!(refuse(&rig, "ana", 1), ErrorKind::Throttled);
    rig.log().set_full(false);
    now(rig.pipeline.housekeep()).unwrap();
    let written = rig.log().entries().split_off(before);
    assert_eq!(written.iter().map(|entry| entry.text("context.count")).collect::<Vec<_>>(), ["4"]);
}

#[test]
fn an_overloaded_log_says_the_same_and_the_refusal_is_counted() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.log().fault(ErrorKind::Throttled);
    assert_eq!(refuse(&rig, "ana", 1), ErrorKind::Throttled);
    assert_eq!(rig.log().entries().len(), before);
    now(rig.pipeline.housekeep()).unwrap();
    let written = rig.log().entries().split_off(before);
    assert_eq!(written.iter().map(|entry| entry.text("context.count")).collect::<Vec<_>>(), ["1"]);
}
