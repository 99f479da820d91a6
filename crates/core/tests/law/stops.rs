//! Stop orders: in force at once, whatever is broken; and past their acknowledgement nothing of what they stopped leaves.

mod broken;
mod changes;

use holdfast_conformance::doubles::Journal;
use holdfast_conformance::rig::{Rig, context, encrypt, issue_token, name, new_key, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done, Durability};
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::port::Mark;
use holdfast_core::query::Query;
use holdfast_core::tenant::Anchor;
use holdfast_core::{CallerName, Error, ErrorKind, Stage, TokenId};
use std::sync::Arc;

fn rig() -> Rig {
    let rig = Rig::new();
    for key in ["kek", "other"] {
        now(rig.create(new_key(key, Algorithm::Xaes256Gcm))).unwrap();
    }
    rig
}

fn alice() -> CallerName {
    "alice".parse().unwrap()
}

async fn seal(rig: &Rig) -> Result<Vec<u8>, Error> {
    rig.bytes("alice", "kek", encrypt(b"data", context(&[]))).await
}

fn token_of_alice(rig: &Rig) -> TokenId {
    let issue = issue_token("alice", 60);
    let Done::Token { id, .. } = now(rig.command("carol", issue)).unwrap().done else { panic!("a token") };
    id
}

/// A stop of each kind that reaches alice's use of `kek`.
fn every_stop(rig: &Rig) -> Vec<Command> {
    vec![
        transition("kek", Transition::Suspend),
        transition("kek", Transition::Deactivate),
        transition("kek", Transition::Compromise),
        Command::SuspendCaller(alice()),
        Command::RemoveCaller(alice()),
        Command::RevokeToken { caller: alice(), token: token_of_alice(rig) },
        Command::RemoveAnchor("own".parse().unwrap()),
        Command::SuspendTenant,
    ]
}

/// Asserts that no success of alice stands after the last stop's outcome, and that the stop's two records are there.
fn assert_order(journal: &Journal, stop: &Command) {
    let entries = journal.of("acme");
    let action = stop.action().name();
    let of_stop: Vec<_> =
        entries.iter().enumerate().filter(|(_, entry)| entry.text("action") == action).collect();
    let outcomes: Vec<_> = of_stop.iter().map(|(_, entry)| entry.text("outcome")).collect();
    assert_eq!(outcomes, ["intent", "success"], "{action}");
    let outcome = of_stop[1].0;
    let late = entries[outcome..].iter().any(|entry| entry.summary() == "encrypt success");
    assert!(!late, "{action}: a success stands behind the stop");
}

#[test]
fn nothing_leaves_past_a_stop_while_the_key_store_stalls() {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        rig.keys().performing.hold();
        let sealing = Task::begun(seal(&rig));
        assert_eq!(rig.keys().performing.waiting(), 1);
        let outcome = now(rig.command("carol", stop.clone())).unwrap();
        assert_eq!(outcome.durability, Durability::Durable);
        rig.keys().performing.release();
        assert_eq!(sealing.finish().unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        assert_order(rig.log(), &stop);
        assert_eq!(rig.log().last().summary(), "encrypt refused stopped");
    }
}

#[test]
fn nothing_leaves_past_a_stop_while_the_log_stalls() {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        rig.log().hold();
        let sealing = Task::begun(seal(&rig));
        let sealed = rig.log().waiting()[0];
        let mut stopping = Task::begun(rig.command("carol", stop.clone()));
        let outcome = loop {
            rig.log()
                .waiting()
                .into_iter()
                .filter(|index| *index != sealed)
                .for_each(|i| rig.log().resolve(i));
            if let Some(outcome) = stopping.turn() {
                break outcome.unwrap();
            }
        };
        assert_eq!(outcome.durability, Durability::Durable);
        // Its success stands before the stop, and still nobody gets the result.
        rig.log().resolve(sealed);
        assert_eq!(sealing.finish().unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        assert_order(rig.log(), &stop);
    }
}

#[test]
fn nothing_leaves_past_a_stop_when_a_record_was_read_before_it() {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        // The key's record is read, and the stop is done and settled before it is used.
        rig.state().reading.hold();
        let sealing = Task::begun(seal(&rig));
        rig.state().reading.hold_no_more();
        now(rig.command("carol", stop.clone())).unwrap();
        rig.state().reading.release();
        assert_eq!(sealing.finish().unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        assert_order(rig.log(), &stop);
    }
}

#[test]
fn nothing_leaves_past_a_stop_when_the_record_is_read_while_the_stop_is_under_way() {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        rig.state().committing.hold();
        let stopping = Task::begun(rig.command("carol", stop.clone()));
        // The stop is in force and not committed: what is read now says nothing of it.
        rig.state().reading.hold();
        let sealing = Task::begun(seal(&rig));
        rig.state().reading.hold_no_more();
        rig.state().committing.release();
        stopping.finish().unwrap();
        rig.state().reading.release();
        assert_eq!(sealing.finish().unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        assert_order(rig.log(), &stop);
    }
}

#[test]
fn nothing_leaves_past_a_stop_when_the_caller_was_recognised_before_it() {
    for index in 0..8 {
        let rig = Arc::new(rig());
        let stop = every_stop(&rig).remove(index);
        // The whole stop happens after the caller's registration was read and before anything else.
        let (meanwhile, ordered) = (Arc::clone(&rig), stop.clone());
        rig.registry.meanwhile(move || drop(now(meanwhile.command("carol", ordered)).unwrap()));
        let error = now(seal(&rig)).unwrap_err();
        let is_stopped = matches!(error.kind(), ErrorKind::Stopped | ErrorKind::KeyState);
        assert!(is_stopped, "{stop:?}: {error}");
        assert_order(rig.log(), &stop);
    }
}

#[test]
fn a_query_under_way_when_its_caller_is_stopped_says_nothing() {
    let rig = rig();
    let stop = Command::SuspendCaller("audrey".parse().unwrap());
    rig.state().reading.hold();
    let reading = Task::begun(rig.query("audrey", Query::Key(name("kek"))));
    rig.state().reading.hold_no_more();
    now(rig.command("carol", stop)).unwrap();
    rig.state().reading.release();
    assert_eq!(reading.finish().unwrap_err().kind(), ErrorKind::Stopped);
    // Its record says so, too.
    assert_eq!(rig.log().last().summary(), "read-key refused stopped");
}

#[test]
fn a_command_under_way_when_its_caller_or_the_tenant_is_stopped_shows_nothing_of_what_it_did() {
    for stop in [
        Command::SuspendCaller("dora".parse().unwrap()),
        Command::RemoveAnchor("own".parse().unwrap()),
        Command::SuspendTenant,
    ] {
        let rig = rig();
        rig.state().committing.hold();
        let mut issuing = Task::begun(rig.command("dora", issue_token("alice", 60)));
        rig.log().hold();
        rig.state().committing.release();
        // It is committed, and its outcome waits for the disk.
        assert!(issuing.turn().is_none());
        let outcome = rig.log().waiting();
        let mut stopping = Task::new(rig.command("carol", stop.clone()));
        while stopping.turn().is_none() {
            let of_the_stop = rig.log().waiting().into_iter().filter(|index| !outcome.contains(index));
            of_the_stop.for_each(|index| rig.log().resolve(index));
        }
        rig.log().release();
        assert_eq!(issuing.finish().unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
    }
}

#[test]
fn a_stop_waits_for_what_is_on_its_way_out() {
    let rig = rig();
    let leaving = now(rig.release("alice", "kek", encrypt(b"data", context(&[])))).unwrap();
    let mut stopping = Task::begun(rig.transition("kek", Transition::Suspend));
    // It is in force all the same.
    assert_eq!(now(seal(&rig)).unwrap_err().kind(), ErrorKind::Stopped);
    assert!(stopping.turn().is_none());
    drop(leaving);
    assert_eq!(stopping.finish().unwrap().durability, Durability::Durable);
}

/// A protocol goes on working with what it was given, and then even has a refusal to record: neither holds a stop up.
#[test]
fn no_stop_waits_for_what_is_held_and_nothing_made_of_it_leaves_after_one() {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        let inbound = rig.inbound("alice");
        let recognised = rig.pipeline.recognise(&inbound).unwrap();
        let (_result, held) =
            now(rig.release("alice", "kek", encrypt(b"data", context(&[])))).unwrap().hold();
        drop(held.depart().unwrap());
        rig.log().hold();
        let failed = Error::new(ErrorKind::Integrity, Stage::Perform, "nothing came of it");
        let recording = Task::begun(rig.pipeline.turn_away(&recognised, (Action::Decrypt, None), failed));
        let [refusal] = rig.log().waiting()[..] else { panic!("the refusal waits for the disk") };
        let mut stopping = Task::begun(rig.command("carol", stop.clone()));
        let outcome = loop {
            let others = rig.log().waiting().into_iter().filter(|waiting| *waiting != refusal);
            others.for_each(|other| rig.log().resolve(other));
            if let Some(outcome) = stopping.turn() {
                break outcome.unwrap();
            }
            assert!(rig.log().waiting().iter().any(|waiting| *waiting != refusal), "{stop:?} waits");
        };
        assert_eq!(outcome.durability, Durability::Durable);
        assert_eq!(held.depart().unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        rig.log().release();
        assert_eq!(recording.finish().kind(), ErrorKind::Integrity);
    }
}

#[test]
fn a_stop_that_is_given_up_half_way_blocks_no_other() {
    let rig = rig();
    let leaving = now(rig.release("alice", "kek", encrypt(b"data", context(&[])))).unwrap();
    let given_up = Task::begun(rig.transition("kek", Transition::Suspend));
    drop(given_up);
    let stopping = Task::begun(rig.transition("other", Transition::Suspend));
    drop(leaving);
    assert!(stopping.finish().is_ok());
}

#[test]
fn stops_under_way_together_all_end() {
    let rig = rig();
    let leaving = now(rig.release("alice", "kek", encrypt(b"data", context(&[])))).unwrap();
    let mut stops = vec![
        Task::begun(rig.transition("kek", Transition::Suspend)),
        Task::begun(rig.transition("other", Transition::Suspend)),
        Task::begun(rig.command("dora", Command::SuspendCaller(alice()))),
    ];
    drop(leaving);
    let mut turns = 0;
    while !stops.is_empty() {
        stops.retain_mut(|stop| stop.turn().is_none_or(|outcome| outcome.is_err()));
        turns += 1;
        assert!(turns < 100, "a stop waits for a wake that never comes");
    }
}

#[test]
fn a_stop_of_what_is_stopped_already_succeeds() {
    let rig = rig();
    for verb in
        [Transition::Suspend, Transition::Compromise, Transition::Deactivate, Transition::Destroy(None)]
    {
        for _ in 0..2 {
            let outcome = now(rig.transition("kek", verb)).unwrap();
            assert_eq!(outcome.durability, Durability::Durable);
            assert_eq!(rig.log().last().text("outcome"), "success");
        }
    }
    for command in [Command::SuspendCaller(alice()), Command::SuspendTenant] {
        for _ in 0..2 {
            assert!(now(rig.command("carol", command.clone())).is_ok());
        }
    }
}

#[test]
fn a_stop_of_what_is_not_there_is_refused_and_stops_nothing() {
    let rig = rig();
    let nobody: CallerName = "nobody".parse().unwrap();
    let token = TokenId::from_bytes([1; 16]);
    let stops = [
        (transition("nothing", Transition::Suspend), ErrorKind::NotFound),
        (Command::SuspendCaller(nobody.clone()), ErrorKind::NotFound),
        (Command::RemoveCaller(nobody.clone()), ErrorKind::NotFound),
        (Command::RevokeToken { caller: nobody, token }, ErrorKind::NotFound),
        (Command::RevokeToken { caller: alice(), token }, ErrorKind::NotFound),
        (Command::RemoveAnchor("nothing".parse().unwrap()), ErrorKind::NotFound),
        // Destruction is final, so an active key is stopped in another way first.
        (transition("kek", Transition::Destroy(None)), ErrorKind::KeyState),
    ];
    for (stop, kind) in stops {
        rig.keys().performing.hold();
        let sealing = Task::begun(seal(&rig));
        let before = rig.log().entries().len();
        let error = now(rig.command("carol", stop.clone())).unwrap_err();
        assert_eq!(error.kind(), kind, "{stop:?}");
        let is_first = kind == ErrorKind::KeyState;
        assert_eq!(error.remedy_text().contains("key deactivate kek"), is_first, "{stop:?}");
        assert_eq!(rig.log().entries().len(), before + 1);
        rig.keys().performing.release();
        assert!(sealing.finish().is_ok(), "{stop:?}");
    }
    assert_eq!(rig.pipeline.pending_stops(), 0);
}

#[test]
fn a_stop_that_may_not_be_given_stops_nothing() {
    let rig = rig();
    rig.keys().performing.hold();
    let sealing = Task::begun(seal(&rig));
    for stop in
        [transition("kek", Transition::Suspend), Command::SuspendTenant, Command::SuspendCaller(alice())]
    {
        assert_eq!(now(rig.command("audrey", stop)).unwrap_err().kind(), ErrorKind::Denied);
    }
    rig.keys().performing.release();
    assert!(sealing.finish().is_ok());
}

#[test]
fn a_stop_and_a_resumption_under_way_together_end_as_the_state_says() {
    let rig = rig();
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    // The stop finds the key suspended; before it is done, somebody resumes the key.
    rig.state().reading.hold();
    let stopping = Task::begun(rig.transition("kek", Transition::Suspend));
    rig.state().reading.open_once();
    let mut stopping = stopping;
    assert!(stopping.turn().is_none());
    rig.state().reading.hold_no_more();
    now(rig.transition("kek", Transition::Resume)).unwrap();
    rig.state().reading.release();
    assert!(stopping.finish().is_ok());
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().state, KeyState::Suspended);
    assert_in_force(&rig);
}

#[test]
fn of_two_removals_under_way_together_one_is_done_and_the_other_refused() {
    let rig = rig();
    rig.state().committing.hold();
    let first = Task::begun(rig.command("carol", Command::RemoveCaller(alice())));
    let second = Task::begun(rig.command("dora", Command::RemoveCaller(alice())));
    rig.state().committing.release();
    assert!(first.finish().is_ok());
    assert_eq!(second.finish().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(rig.log().last().summary(), "remove-caller refused not-found");
    assert_eq!(rig.pipeline.pending_stops(), 0);
    assert!(rig.log().recovery().intents.is_empty());
}

#[test]
fn resuming_lets_new_work_through_and_no_old() {
    let rig = rig();
    rig.keys().performing.hold();
    let sealing = Task::begun(seal(&rig));
    rig.keys().performing.hold_no_more();
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    now(rig.transition("kek", Transition::Resume)).unwrap();
    rig.keys().performing.release();
    assert_eq!(sealing.finish().unwrap_err().kind(), ErrorKind::Stopped);
    assert!(now(seal(&rig)).is_ok());
}

#[test]
fn every_stop_action_has_a_command_that_is_tested_here() {
    let rig = rig();
    let mut tested: Vec<_> = every_stop(&rig).iter().map(Command::action).collect();
    tested.push(Action::DestroyKey);
    for action in Action::ALL.iter().filter(|action| action.is_stop()) {
        assert!(tested.contains(action), "{}", action.name());
    }
    let anchor =
        Anchor { name: "own".parse().unwrap(), certificate: Arc::from(&b"x"[..]), revocations: None };
    assert!(!Command::PutAnchor(anchor).action().is_stop());
    assert!(matches!(rig.log().last().mark, Mark::Outcome(..)));
}

fn assert_in_force(rig: &Rig) {
    let error = now(seal(rig)).unwrap_err();
    let kinds = [ErrorKind::Stopped, ErrorKind::KeyState, ErrorKind::Unauthenticated];
    assert!(kinds.contains(&error.kind()), "{error}");
}
