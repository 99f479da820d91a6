//! Batches: each item decided, recorded and released by itself, and one durable write for all.

use holdfast_conformance::doubles::{KeyFault, certificate};
use holdfast_conformance::rig::{AUTHORITY, Rig, call, encrypt, new_key, person, sign, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_core::command::Command;
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::Call;
use holdfast_core::query::Query;
use holdfast_core::retention::Retention;
use holdfast_core::tenant::Anchor;
use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use std::sync::Arc;

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn seal() -> Call {
    call("kek", encrypt(b"data", Context::EMPTY))
}

type Item = (OperationId, Result<Call, Error>);

fn items(rig: &Rig, calls: Vec<Result<Call, Error>>) -> Vec<Item> {
    calls.into_iter().map(|call| (rig.pipeline.new_operation().unwrap(), call)).collect()
}

/// Runs a batch of alice's, and gives the kinds of its failures.
async fn run(rig: &Rig, items: Vec<Item>) -> Vec<Result<(), ErrorKind>> {
    let inbound = rig.inbound("alice");
    let results = rig.pipeline.use_keys(&inbound, items).await.unwrap();
    results.into_iter().map(|result| result.map(drop).map_err(|error| error.kind())).collect()
}

#[test]
fn a_batch_is_bounded() {
    let rig = rig();
    let before = rig.log().entries().len();
    let many = items(&rig, (0..257).map(|_| Ok(seal())).collect());
    let inbound = rig.inbound("alice");
    let error = now(rig.pipeline.use_keys(&inbound, many)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let told = rig.log().entries().split_off(before);
    assert_eq!(told.iter().map(|entry| entry.summary()).collect::<Vec<_>>(), ["undecoded refused too-large"]);
    assert_eq!(told[0].operation(), inbound.operation);
}

#[test]
fn items_fail_alone_and_each_is_one_record() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    let malformed = Error::new(ErrorKind::Malformed, Stage::Decode, "`plaintext` is no base64");
    let items = items(
        &rig,
        vec![
            Ok(seal()),
            Ok(seal()),
            Err(malformed),
            Ok(call("kek", sign(b"m"))),
            Ok(call("no", sign(b"m"))),
            Ok(seal()),
        ],
    );
    let operations: Vec<_> = items.iter().map(|(operation, _)| *operation).collect();
    let results = now(run(&rig, items));
    let kinds = [
        Err(ErrorKind::KeyStoreUnavailable),
        Ok(()),
        Err(ErrorKind::Malformed),
        Err(ErrorKind::Unsupported),
        Err(ErrorKind::Denied),
        Ok(()),
    ];
    assert_eq!(results, kinds);
    let entries = rig.log().entries().split_off(before);
    assert_eq!(entries.iter().map(|entry| entry.operation()).collect::<Vec<_>>(), operations);
    for (entry, kind) in entries.iter().zip(kinds) {
        let expected = kind.map_or_else(ErrorKind::code, |()| "");
        assert_eq!(entry.text("reason"), expected);
    }
}

#[test]
fn all_items_wait_for_the_same_write() {
    let rig = rig();
    rig.log().hold();
    let items = items(&rig, (0..256).map(|_| Ok(seal())).collect());
    let batch = Task::begun(run(&rig, items));
    assert_eq!(rig.log().waiting().len(), 256);
    rig.log().sync();
    assert_eq!(batch.finish(), vec![Ok(()); 256]);
}

#[test]
fn an_item_whose_record_is_lost_stays_behind_and_the_others_leave() {
    let rig = rig();
    rig.log().hold();
    let items = items(&rig, vec![Ok(seal()), Ok(seal()), Ok(seal())]);
    let batch = Task::begun(run(&rig, items));
    let waiting = rig.log().waiting();
    rig.log().fail(waiting[1]);
    rig.log().sync();
    assert_eq!(batch.finish(), [Ok(()), Err(ErrorKind::AuditUnavailable), Ok(())]);
}

#[test]
fn an_item_that_cannot_be_recorded_does_not_hold_the_others_up() {
    let rig = rig();
    rig.log().fault(ErrorKind::Throttled);
    let items = items(&rig, vec![Ok(seal()), Ok(seal())]);
    assert_eq!(now(run(&rig, items)), [Err(ErrorKind::Throttled), Ok(())]);
}

#[test]
fn a_stop_does_not_wait_for_the_durability_of_a_batch() {
    let rig = rig();
    now(rig.create(new_key("other", Algorithm::Xaes256Gcm))).unwrap();
    rig.log().hold();
    let items = items(&rig, vec![Ok(seal()), Ok(seal())]);
    let mut batch = Task::begun(run(&rig, items));
    let waiting = rig.log().waiting();
    rig.log().resolve(waiting[0]);
    // The first item could leave, but is not on its way while the second one waits for the disk.
    assert!(batch.turn().is_none());
    let mut stopping = Task::begun(rig.command("carol", transition("other", Transition::Suspend)));
    for index in rig.log().waiting() {
        if index != waiting[1] {
            rig.log().resolve(index);
        }
    }
    while stopping.is_woken() {
        if let Some(outcome) = stopping.turn() {
            assert!(outcome.is_ok());
            return;
        }
        rig.log()
            .waiting()
            .into_iter()
            .filter(|index| *index != waiting[1])
            .for_each(|index| rig.log().resolve(index));
    }
    panic!("the stop waits for the batch");
}

#[test]
fn a_stop_in_the_middle_reaches_the_items_that_have_not_left() {
    let rig = rig();
    rig.keys().performing.hold();
    let items = items(&rig, vec![Ok(seal()), Ok(seal())]);
    let mut batch = Task::begun(run(&rig, items));
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    rig.keys().performing.release();
    let results = loop {
        if let Some(results) = batch.turn() {
            break results;
        }
    };
    assert_eq!(results[0], Err(ErrorKind::Stopped));
    assert!(results[1].is_err());
}

#[test]
fn a_batch_of_nobody_is_nobodys() {
    let rig = rig();
    let before = rig.log().entries().len();
    let inbound = rig.inbound_with(&rig.acme, Proof::None);
    let items = items(&rig, vec![Ok(seal())]);
    assert_eq!(now(rig.pipeline.use_keys(&inbound, items)).unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert_eq!(rig.log().entries().len(), before);
}

/// What takes something from alice without being a stop, and what her next item is refused with.
fn takings(rig: &Rig) -> Vec<(Command, &'static str)> {
    let anchor = Anchor {
        name: "own".parse().unwrap(),
        certificate: Arc::from(&b"an authority that has not issued hers"[..]),
        revocations: None,
    };
    let without_credentials =
        CallerRecord { credentials: vec![], ..person("acme", "alice", CallerKind::Application, &rig.world) };
    let tighter = "permit kind:custodian administer *";
    vec![
        (Command::PutAnchor(anchor), "the caller is not recognised any more"),
        (Command::PutCaller(without_credentials), "the caller is not recognised any more"),
        (Command::SetPolicy { text: tighter.into(), expected: None }, "the policy does not allow it"),
    ]
}

#[test]
fn no_item_begins_by_what_was_taken_away_before() {
    for index in 0..takings(&rig()).len() {
        let rig = rig();
        let (taking, reason) = takings(&rig).remove(index);
        let shown = certificate("uri:spiffe://acme/alice", AUTHORITY);
        let inbound = rig.inbound_with(&rig.acme, Proof::Certificate(&shown));
        let items = items(&rig, vec![Ok(seal()), Ok(seal()), Ok(seal())]);
        rig.keys().performing.hold();
        let batch = Task::begun(rig.pipeline.use_keys(&inbound, items));
        now(rig.command("carol", taking.clone())).unwrap();
        rig.keys().performing.release();
        let kinds: Vec<_> =
            batch.finish().unwrap().into_iter().map(|item| item.map(drop).map_err(|e| e.kind())).collect();
        // The first had been decided.
        assert_eq!(kinds, [Ok(()), Err(ErrorKind::Denied), Err(ErrorKind::Denied)], "{taking:?}");
        let last = rig.log().last();
        assert_eq!(
            (last.summary().as_str(), last.text("key.name")),
            ("encrypt refused denied", "kek".into())
        );
        assert_eq!(last.text("caller.name"), "alice");
        assert!(last.text("detail").contains(reason), "{}", last.event());
        // Neither does anything of whom it was known before.
        let asked = || {
            let inbound = rig.inbound_with(&rig.acme, Proof::Certificate(&shown));
            now(rig.pipeline.use_key(&inbound, seal())).map(drop).map_err(|error| error.kind())
        };
        let known = index == 2;
        let refusal = if known { ErrorKind::Denied } else { ErrorKind::Unauthenticated };
        assert_eq!(asked(), Err(refusal));
    }
}

#[test]
fn whoever_was_recognised_before_begins_nothing_by_that() {
    let rig = rig();
    let shown = certificate("uri:spiffe://acme/audrey", AUTHORITY);
    let inbound = rig.inbound_with(&rig.acme, Proof::Certificate(&shown));
    let recognised = rig.pipeline.recognise(&inbound).unwrap();
    let reads = || now(rig.pipeline.query_as(&recognised, Query::Tenant)).map(drop).map_err(|e| e.kind());
    reads().unwrap();
    // A change that takes nothing from her ends nothing.
    now(rig.command("carol", Command::SetRetention(Retention::of_days(30)))).unwrap();
    reads().unwrap();
    let (taking, _) = takings(&rig).remove(0);
    now(rig.command("carol", taking)).unwrap();
    assert_eq!(reads(), Err(ErrorKind::Denied));
    assert_eq!(rig.log().last().summary(), "read-tenant refused denied");
    // Who is another caller by now is not that one.
    let rig = self::rig();
    let shown = certificate("uri:spiffe://acme/alice", AUTHORITY);
    let inbound = rig.inbound_with(&rig.acme, Proof::Certificate(&shown));
    let recognised = rig.pipeline.recognise(&inbound).unwrap();
    let mut alice = person("acme", "alice", CallerKind::Application, &rig.world);
    let credentials = core::mem::take(&mut alice.credentials);
    now(rig.command("carol", Command::PutCaller(alice))).unwrap();
    let other = CallerRecord { credentials, ..person("acme", "bob", CallerKind::Application, &rig.world) };
    now(rig.command("carol", Command::PutCaller(other))).unwrap();
    let used = now(rig.pipeline.use_key_as(&recognised, seal())).map(drop).map_err(|error| error.kind());
    assert_eq!(used, Err(ErrorKind::Denied));
    assert!(rig.log().last().text("detail").contains("not recognised any more"));
}
