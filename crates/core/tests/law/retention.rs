//! Retention: who may set it, and that nothing goes before its going is on record.

use holdfast_conformance::rig::Rig;
use holdfast_conformance::task::now;
use holdfast_core::command::Command;
use holdfast_core::pipeline::Engines;
use holdfast_core::port::Mark;
use holdfast_core::retention::Retention;
use holdfast_core::{ErrorKind, TenantId};

fn set(rig: &Rig, who: &str, days: u32) -> Result<(), ErrorKind> {
    let command = Command::SetRetention(Retention::of_days(days));
    now(rig.command(who, command)).map(drop).map_err(|error| error.kind())
}

fn retention(rig: &Rig, tenant: &TenantId) -> Option<u32> {
    rig.pipeline.tenant(tenant).unwrap().data.record.retention.map(Retention::days)
}

/// A gateway whose tenant keeps 30 days, and whose log could go up to an index.
fn expiring(keep: u64) -> Rig {
    let rig = Rig::new();
    set(&rig, "carol", 30).unwrap();
    rig.log().set_prunable(&rig.acme, keep);
    rig
}

fn summaries(rig: &Rig, before: usize) -> Vec<String> {
    rig.log().entries().split_off(before).iter().map(|entry| entry.summary()).collect()
}

#[test]
fn a_custodian_sets_it_and_that_is_recorded() {
    let rig = Rig::new();
    assert_eq!(retention(&rig, &rig.acme), None);
    set(&rig, "carol", 30).unwrap();
    assert_eq!((retention(&rig, &rig.acme), retention(&rig, &rig.other)), (Some(30), None));
    let last = rig.log().last();
    assert_eq!(
        (last.summary().as_str(), last.text("subject").as_str()),
        ("set-retention success", "30 days")
    );
    now(rig.command("carol", Command::SetRetention(None))).unwrap();
    assert_eq!((retention(&rig, &rig.acme), rig.log().last().text("subject").as_str()), (None, "for ever"));
    for who in ["alice", "bob", "audrey"] {
        assert_eq!(set(&rig, who, 1), Err(ErrorKind::Denied), "{who}");
        assert_eq!(rig.log().last().summary(), "set-retention refused denied");
    }
    assert_eq!(retention(&rig, &rig.acme), None);
    // It survives.
    set(&rig, "dora", 7).unwrap();
    let rig = rig.crash(0).unwrap();
    assert_eq!(retention(&rig, &rig.acme), Some(7));
}

#[test]
fn an_operator_sets_it_for_the_gateway_s_own_log_and_for_no_other() {
    let rig = Rig::new();
    let command = || Command::SetRetention(Retention::of_days(90));
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    now(rig.pipeline.command(&inbound, command())).unwrap();
    assert_eq!(retention(&rig, &rig.gateway), Some(90));
    let elsewhere = rig.inbound_at(&rig.acme, "olga");
    let refused = now(rig.pipeline.command(&elsewhere, command())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
}

#[test]
fn nothing_is_pruned_before_that_is_durable() {
    let rig = expiring(512);
    let before = rig.log().entries().len();
    now(rig.pipeline.prune(|_| None)).unwrap();
    // The double refuses a pruning whose intent is not durable.
    assert_eq!(rig.log().pruned(), [(rig.acme.clone(), 512)]);
    assert_eq!(summaries(&rig, before), ["prune-audit intent", "prune-audit success"]);
    let intent = rig.log().entries().remove(before);
    assert!(matches!(intent.mark, Mark::Intent(_)));
    assert_eq!(
        (
            intent.text("subject").as_str(),
            intent.text("context.retention").as_str(),
            intent.text("caller.name").as_str()
        ),
        ("512", "30 days", "gateway")
    );
    // Nothing more to do: nothing is recorded.
    now(rig.pipeline.prune(|_| None)).unwrap();
    assert_eq!(summaries(&rig, before).len(), 2);
    // A log that takes nothing prunes nothing.
    rig.log().set_prunable(&rig.acme, 1024);
    rig.log().set_broken(true);
    assert_eq!(now(rig.pipeline.prune(|_| None)).unwrap_err().kind(), ErrorKind::AuditUnavailable);
    assert_eq!(rig.log().pruned().len(), 1);
}

#[test]
fn without_a_retention_and_past_what_is_needed_nothing_goes() {
    let rig = Rig::new();
    rig.log().set_prunable(&rig.acme, 512);
    now(rig.pipeline.prune(|_| None)).unwrap();
    assert!(rig.log().pruned().is_empty(), "for ever");
    set(&rig, "carol", 30).unwrap();
    now(rig.pipeline.prune(|_| Some(0))).unwrap();
    assert!(rig.log().pruned().is_empty(), "somebody needs all of it");
    let acme = rig.acme.clone();
    now(rig.pipeline.prune(|tenant| (*tenant == acme).then_some(256))).unwrap();
    assert_eq!(rig.log().pruned(), [(rig.acme.clone(), 256)]);
}

#[test]
fn what_fails_is_finished_with_what_waits_and_begun_no_second_time() {
    let rig = expiring(512);
    let before = rig.log().entries().len();
    rig.log().fail_prunings(2);
    assert!(now(rig.pipeline.prune(|_| None)).is_err());
    now(rig.pipeline.prune(|_| None)).unwrap();
    assert_eq!(summaries(&rig, before), ["prune-audit intent"]);
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(rig.log().pruned(), [(rig.acme.clone(), 512)]);
    assert_eq!(summaries(&rig, before), ["prune-audit intent", "prune-audit success"]);
}

#[test]
fn a_log_that_cannot_be_pruned_keeps_no_other_from_it() {
    let rig = expiring(512);
    let inbound = rig.inbound_at(&rig.other, "carol");
    now(rig.pipeline.command(&inbound, Command::SetRetention(Retention::of_days(30)))).unwrap();
    rig.log().fail_prunings(1);
    assert!(now(rig.pipeline.prune(|_| None)).is_err());
    rig.log().set_prunable(&rig.other, 256);
    now(rig.pipeline.prune(|_| None)).unwrap();
    assert_eq!(rig.log().pruned(), [(rig.other.clone(), 256)]);
}

#[test]
fn what_still_cannot_be_pruned_at_the_next_start_keeps_nobody_from_starting() {
    let rig = expiring(512);
    rig.log().fail_prunings(1);
    assert!(now(rig.pipeline.prune(|_| None)).is_err());
    let Engines { keys, state, log, .. } = rig.pipeline.engines();
    let (keys, state, log) = (keys.clone(), state.clone(), log.clone());
    let recovery = log.recovery();
    log.fail_prunings(1);
    let rig = now(Rig::open(keys, state, log, rig.world.clone(), recovery)).unwrap();
    assert!(rig.log().pruned().is_empty());
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert_eq!(rig.log().pruned(), [(rig.acme.clone(), 512)]);
    assert_eq!(rig.log().last().summary(), "prune-audit success");
}

#[test]
fn what_a_crash_interrupts_is_pruned_at_the_next_start() {
    let rig = expiring(512);
    let before = rig.log().entries().len();
    rig.log().fail_prunings(1);
    assert!(now(rig.pipeline.prune(|_| None)).is_err());
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.log().pruned(), [(rig.acme.clone(), 512)]);
    assert_eq!(summaries(&rig, before), ["prune-audit intent", "prune-audit success"]);
    let rig = rig.crash(0).unwrap();
    assert_eq!(summaries(&rig, before).len(), 2);
    assert_eq!(rig.log().pruned().len(), 1);
}
