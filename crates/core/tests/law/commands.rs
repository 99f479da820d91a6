//! Commands: compared and set, retried when another one came first, and closed exactly once whatever fails.

use holdfast_conformance::doubles::{CommitFault, KeyFault, Rules, SLOW};
use holdfast_conformance::rig::{POLICY, Rig, encrypt, name, new_key, people, person, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::CallerKind;
use holdfast_core::command::{Command, Done};
use holdfast_core::context::Context;
use holdfast_core::key::Labels;
use holdfast_core::lifecycle::Transition;
use holdfast_core::port::{Mark, State};
use holdfast_core::query::{Found, Query};
use holdfast_core::tenant::Anchor;
use holdfast_core::{Epoch, ErrorKind};
use std::sync::Arc;

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn labels(text: &str) -> Labels {
    Labels::from([("team".into(), text.into())])
}

fn label(text: &str, expected: Option<u64>) -> Command {
    Command::LabelKey { key: name("kek"), labels: labels(text), expected: expected.map(Epoch) }
}

/// The summaries of what has been recorded since.
fn since(rig: &Rig, before: usize) -> Vec<String> {
    rig.log().entries().split_off(before).iter().map(|entry| entry.summary()).collect()
}

/// Whether log and state agree, and nothing is open.
fn assert_closed(rig: &Rig) {
    let recovery = rig.log().recovery();
    assert!(recovery.intents.is_empty(), "{:?}", recovery.intents);
    assert_eq!(recovery.committed, Some(rig.state().position()));
}

#[test]
fn a_command_is_an_intent_and_an_outcome_with_the_states_position() {
    let rig = rig();
    let before = rig.log().entries().len();
    now(rig.command("carol", label("a", None))).unwrap();
    assert_eq!(since(&rig, before), ["label-key intent", "label-key success"]);
    let last = rig.log().last();
    let Mark::Outcome(operation, Some(committed)) = last.mark else { panic!("an outcome") };
    assert_eq!(operation, last.operation());
    assert_eq!(committed, rig.state().position());
    assert_eq!(last.text("state.sequence"), committed.sequence.to_string());
    assert_closed(&rig);
}

#[test]
fn a_conflict_is_retried_unless_the_author_said_what_they_had_read() {
    let rig = rig();
    for _ in 0..7 {
        rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
    }
    let before = rig.log().entries().len();
    now(rig.command("carol", label("a", None))).unwrap();
    assert_eq!(since(&rig, before), ["label-key intent", "label-key success"]);
    rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
    let error = now(rig.command("carol", label("b", Some(2)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(rig.log().last().summary(), "label-key refused conflict");
    now(rig.command("carol", label("b", Some(2)))).unwrap();
    assert_eq!(now(rig.command("carol", label("c", Some(2)))).unwrap_err().kind(), ErrorKind::Conflict);
    // It does not go on for ever.
    for _ in 0..8 {
        rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
    }
    assert_eq!(now(rig.command("carol", label("d", None))).unwrap_err().kind(), ErrorKind::Conflict);
    assert_closed(&rig);
}

#[test]
fn commands_under_way_together_are_both_done() {
    let rig = rig();
    rig.state().committing.hold();
    let first = Task::begun(rig.command("carol", label("a", None)));
    let second = Task::begun(rig.command("dora", Command::RotateKey(name("kek"))));
    rig.state().committing.release();
    assert!(first.finish().is_ok());
    assert!(second.finish().is_ok());
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap();
    assert_eq!((key.newest.get(), key.labels, key.epoch), (2, labels("a"), Epoch(3)));
    assert_closed(&rig);
}

#[test]
fn outcomes_that_stand_in_another_order_than_their_commits_are_no_rollback() {
    let rig = rig();
    rig.log().hold();
    let mut first = Task::begun(rig.command("carol", label("a", None)));
    let mut second = Task::begun(
        rig.command("dora", Command::PutCaller(person("acme", "erin", CallerKind::Application, &rig.world))),
    );
    rig.log().sync();
    rig.state().committing.hold();
    assert!(first.turn().is_none());
    rig.state().committing.hold_no_more();
    // The second one commits first, and both record their outcomes.
    assert!(second.turn().is_none());
    rig.state().committing.release();
    assert!(first.turn().is_none());
    rig.log().release();
    assert!(first.finish().is_ok() && second.finish().is_ok());
    assert_closed(&rig);
    assert!(rig.crash(0).is_ok());
}

#[test]
fn policies_are_compared_and_set() {
    let rig = rig();
    let set = |text: &str, expected| Command::SetPolicy { text: text.into(), expected };
    let error = now(rig.command("carol", set("permit alice", None))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let open = format!("{POLICY}\npermit bob use *");
    let Done::Policy(2, _) = now(rig.command("carol", set(&open, Some(1)))).unwrap().done else { panic!() };
    assert!(now(rig.bytes("bob", "kek", encrypt(b"data", Context::EMPTY))).is_ok());
    assert_eq!(now(rig.command("carol", set(POLICY, Some(1)))).unwrap_err().kind(), ErrorKind::Conflict);
    let restore = |version, expected| Command::RestorePolicy { version, expected };
    assert_eq!(now(rig.command("carol", restore(9, None))).unwrap_err().kind(), ErrorKind::NotFound);
    let Done::Policy(3, _) = now(rig.command("carol", restore(1, Some(2)))).unwrap().done else { panic!() };
    assert!(now(rig.bytes("bob", "kek", encrypt(b"data", Context::EMPTY))).is_err());
    assert_eq!(rig.log().last().text("policy.version"), "3");
    let Found::Policy(earlier) = now(rig.query("carol", Query::Policy { version: Some(2) })).unwrap() else {
        panic!("a policy")
    };
    assert_eq!(&*earlier.text, open);
    assert_closed(&rig);
}

#[test]
fn a_command_that_fails_is_closed_with_its_reason() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    assert!(now(rig.command("carol", Command::RotateKey(name("kek")))).is_err());
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(now(rig.command("carol", Command::RotateKey(name("kek")))).is_err());
    assert!(now(rig.command("carol", Command::CreateKey(new_key("kek", Algorithm::Ed25519)))).is_err());
    assert_eq!(
        since(&rig, before),
        [
            "rotate-key intent",
            "rotate-key refused key-store-unavailable",
            "rotate-key intent",
            "rotate-key refused state-unavailable",
            "create-key intent",
            "create-key refused already-exists",
        ]
    );
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().newest.get(), 1);
    assert_closed(&rig);
}

#[test]
fn a_commit_whose_answer_was_lost_is_done() {
    let rig = rig();
    rig.state().fault(CommitFault::After(ErrorKind::StateUnavailable));
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().newest.get(), 2);
    assert_eq!(rig.log().last().summary(), "rotate-key success");
    assert_closed(&rig);
    // The same for what stands in the snapshot, and for a stop.
    rig.state().fault(CommitFault::After(ErrorKind::StateUnavailable));
    now(rig.command("carol", Command::SuspendTenant)).unwrap();
    assert_eq!(now(rig.random("alice", 16)).unwrap_err().kind(), ErrorKind::Stopped);
    assert_closed(&rig);
    assert!(rig.crash(0).is_ok());
}

#[test]
fn a_command_whose_fate_is_unknown_is_closed_as_soon_as_the_state_can_tell() {
    for is_done in [true, false] {
        let rig = rig();
        let before = rig.log().entries().len();
        rig.state().committing.hold();
        let rotating = Task::begun(rig.command("carol", Command::RotateKey(name("kek"))));
        let fault = if is_done { CommitFault::After } else { CommitFault::Before };
        rig.state().fault(fault(ErrorKind::StateUnavailable));
        rig.state().fail_reads(u32::MAX);
        rig.state().committing.release();
        assert_eq!(rotating.finish().unwrap_err().kind(), ErrorKind::StateUnavailable);
        assert_eq!(since(&rig, before), ["rotate-key intent"]);
        assert!(now(rig.pipeline.housekeep()).is_err());
        rig.state().fail_reads(0);
        now(rig.pipeline.housekeep()).unwrap();
        let outcome = if is_done { "rotate-key success" } else { "rotate-key refused internal" };
        assert_eq!(since(&rig, before), ["rotate-key intent", outcome]);
        assert_closed(&rig);
    }
}

#[test]
fn a_committed_change_that_cannot_be_put_in_force_is_neither_denied_nor_forgotten() {
    let rig = rig();
    let before = rig.log().entries().len();
    let text = format!("{POLICY}\npermit bob use *");
    rig.state().committing.hold();
    let command = Command::SetPolicy { text: text.into(), expected: None };
    let setting = Task::begun(rig.command("carol", command));
    rig.state().fail_reads(1);
    rig.state().committing.release();
    // Who ordered it is not told that it is in force; the log is told that it was done once it is.
    assert_eq!(setting.finish().unwrap_err().kind(), ErrorKind::StateUnavailable);
    now(rig.pipeline.housekeep()).unwrap();
    assert!(now(rig.bytes("bob", "kek", encrypt(b"data", Context::EMPTY))).is_ok());
    assert_eq!(since(&rig, before)[..2], ["set-policy intent", "set-policy success"]);
    assert_closed(&rig);
    assert!(rig.crash(0).is_ok());
}

#[test]
fn an_outcome_that_cannot_be_recorded_is_recorded_as_soon_as_it_can() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.state().committing.hold();
    let rotating = Task::begun(rig.command("carol", Command::RotateKey(name("kek"))));
    rig.log().set_full(true);
    rig.state().committing.release();
    assert_eq!(rotating.finish().unwrap_err().kind(), ErrorKind::AuditUnavailable);
    assert_eq!(since(&rig, before), ["rotate-key intent"]);
    rig.log().set_full(false);
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(since(&rig, before), ["rotate-key intent", "rotate-key success"]);
    assert_closed(&rig);
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(since(&rig, before).len(), 2);
}

#[test]
fn what_cannot_be_loaded_again_is_never_committed() {
    let rig = rig();
    let mut shared = person("acme", "mallory", CallerKind::Application, &rig.world);
    shared.credentials = person("acme", "alice", CallerKind::Application, &rig.world).credentials;
    let commits = rig.state().commits();
    let error = now(rig.command("carol", Command::PutCaller(shared))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(rig.state().commits(), commits);
}

#[test]
fn a_new_tenants_log_begins_with_its_birth() {
    let rig = rig();
    let create = |rig: &Rig, tenant: &str| {
        let inbound = rig.inbound_at(&rig.gateway, "olga");
        let command = Command::CreateTenant(people(tenant, POLICY, &rig.world));
        now(rig.pipeline.command(&inbound, command)).map(|released| released.into_parts().0)
    };
    assert!(create(&rig, "third").is_ok());
    let first = rig.log().of("third").remove(0);
    assert_eq!([first.summary(), first.text("context.custodians")], ["found success", "carol dora"]);
    assert_eq!(rig.log().last().summary(), "create-tenant success");
    assert_eq!(rig.log().last().tenant.as_str(), "_gateway");
    assert_eq!(create(&rig, "third").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(rig.pipeline.tenant_count(), 3);
    assert_closed(&rig);
}

#[test]
fn a_key_is_created_once() {
    let rig = rig();
    rig.state().committing.hold();
    let first = Task::begun(rig.command("carol", Command::CreateKey(new_key("new", Algorithm::Ed25519))));
    let second = Task::begun(rig.command("dora", Command::CreateKey(new_key("new", Algorithm::Ed25519))));
    rig.state().committing.release();
    assert!(first.finish().is_ok());
    assert_eq!(second.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_closed(&rig);
}

#[test]
fn only_an_active_key_is_rotated() {
    let rig = rig();
    now(rig.command("carol", transition("kek", Transition::Deactivate))).unwrap();
    let error = now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyState);
    assert_closed(&rig);
}

#[test]
fn what_says_itself_that_nothing_was_written_is_closed_although_the_state_can_tell_nothing() {
    let rig = rig();
    rig.state().committing.hold();
    let creating = Task::begun(rig.command("carol", Command::CreateKey(new_key("new", Algorithm::Ed25519))));
    rig.state().fault(CommitFault::Before(ErrorKind::AlreadyExists));
    rig.state().fail_reads(1);
    rig.state().committing.release();
    assert_eq!(creating.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_closed(&rig);
}

#[test]
fn an_anchor_is_replaced_by_its_name_and_no_other_is() {
    let rig = rig();
    let anchor = |name: &str, revocations: Option<&[u8]>| Anchor {
        name: name.parse().unwrap(),
        certificate: Arc::from(name.as_bytes()),
        revocations: revocations.map(Arc::from),
    };
    let put = |anchor| now(rig.command("carol", Command::PutAnchor(anchor))).map(drop).map_err(|e| e.kind());
    put(anchor("new", Some(b"list"))).unwrap();
    put(anchor("another", None)).unwrap();
    put(anchor("new", Some(b"newer list"))).unwrap();
    assert_eq!(put(anchor("new", None)), Err(ErrorKind::Conflict), "it would lose its list");
    let view = rig.pipeline.tenant(&rig.acme).unwrap();
    let kept: Vec<_> = view.data.anchors.iter().map(|anchor| anchor.name.as_str()).collect();
    assert_eq!(kept, ["another", "new", "own"]);
    assert_closed(&rig);
}

/// The policy in force, with a rule that takes as long to read as its gate is held.
fn slow_policy(who: &str) -> Command {
    Command::SetPolicy { text: format!("{POLICY}\npermit {SLOW}-{who} read *").into(), expected: None }
}

#[test]
fn a_policy_that_takes_long_to_read_holds_up_nobody_else() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Aes256Gcm))).unwrap();
    let Rules { reading, examining } = &rig.pipeline.engines().decide;
    for (number, gate) in [examining, reading].into_iter().enumerate() {
        gate.hold();
        let setting = Task::begun(rig.command("carol", slow_policy(&number.to_string())));
        assert_eq!(gate.waiting(), 1);
        let others = rig.inbound_at(&rig.other, "carol");
        let create = Command::CreateKey(new_key(&format!("key-{number}"), Algorithm::Aes256Gcm));
        now(rig.pipeline.command(&others, create)).unwrap();
        now(rig.use_key("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
        gate.release();
        setting.finish().unwrap();
    }
}

#[test]
fn of_two_policies_the_newer_is_in_force_whichever_is_read_first() {
    let rig = Rig::new();
    let reading = &rig.pipeline.engines().decide.reading;
    reading.hold();
    let first = Task::begun(rig.command("carol", slow_policy("first")));
    let second = Task::begun(rig.command("dora", slow_policy("second")));
    reading.release();
    second.finish().unwrap();
    first.finish().unwrap();
    let view = rig.pipeline.tenant(&rig.acme).unwrap();
    assert!(view.data.policy.text.contains("slow-second"), "{}", view.data.policy.text);
}
