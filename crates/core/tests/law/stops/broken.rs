//! Stops while something is broken: the log is full or has failed, the state cannot be written, the process dies.

use super::{assert_in_force, assert_order, every_stop, rig, seal};
use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{Rig, name, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::ErrorKind;
use holdfast_core::command::{Command, Durability};
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::port::Priority;
use holdfast_core::query::Query;

/// Every stop that works on the rig, each on a fresh one.
fn with_every_stop(test: impl Fn(&Rig, &Command)) {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        test(&rig, &stop);
    }
}

#[test]
fn a_stop_works_on_a_full_log_and_draws_on_the_reserve() {
    with_every_stop(|rig, stop| {
        let before = rig.log().entries().len();
        rig.log().set_full(true);
        let outcome = now(rig.command("carol", stop.clone())).unwrap();
        assert_eq!(outcome.durability, Durability::Durable);
        let entries = rig.log().entries().split_off(before);
        assert!(entries.iter().all(|entry| entry.priority == Priority::Stop));
        assert_eq!(entries.len(), 2);
        rig.log().set_full(false);
        // Alice herself may be recognised no longer, but nothing of her leaves.
        let revoked = matches!(stop, Command::RevokeToken { .. } | Command::RemoveAnchor(_));
        if !revoked {
            assert_in_force(rig);
        }
    });
}

#[test]
fn a_stop_works_on_a_state_that_cannot_be_written_and_is_retried_until_it_is_durable() {
    with_every_stop(|rig, stop| {
        rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
        let outcome = now(rig.command("carol", stop.clone())).unwrap();
        assert_eq!(outcome.durability, Durability::InForce);
        assert_eq!(rig.pipeline.pending_stops(), 1);
        assert_eq!(now(seal(rig)).unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        assert_eq!(now(rig.random("alice", 16)).is_err(), !matches!(stop, Command::TransitionKey { .. }));
        rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
        assert!(now(rig.pipeline.housekeep()).is_err());
        assert_eq!(rig.pipeline.pending_stops(), 1);
        assert_eq!(now(seal(rig)).unwrap_err().kind(), ErrorKind::Stopped);
        now(rig.pipeline.housekeep()).unwrap();
        assert_eq!(rig.pipeline.pending_stops(), 0);
        assert_order(rig.log(), stop);
        // The log knows the state as it is: the next start finds nothing odd.
        let recovery = rig.log().recovery();
        assert!(recovery.intents.is_empty());
        assert_eq!(recovery.committed, Some(holdfast_core::port::State::position(rig.state())));
        let entries = rig.log().entries().len();
        now(rig.pipeline.housekeep()).unwrap();
        assert_eq!(rig.log().entries().len(), entries);
    });
}

#[test]
fn what_is_not_durable_yet_cannot_be_lifted() {
    let caller = || "alice".parse().unwrap();
    let orders = [
        (Command::SuspendTenant, Command::ResumeTenant),
        (Command::SuspendCaller(caller()), Command::ResumeCaller(caller())),
    ];
    for (stop, resume) in orders {
        let rig = rig();
        rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
        assert_eq!(now(rig.command("carol", stop)).unwrap().durability, Durability::InForce);
        assert_eq!(now(rig.command("carol", resume.clone())).unwrap_err().kind(), ErrorKind::Conflict);
        // Nor while it is being retried.
        rig.state().committing.hold();
        let retrying = Task::begun(rig.pipeline.housekeep());
        assert_eq!(rig.pipeline.pending_stops(), 1);
        assert_eq!(now(rig.command("carol", resume.clone())).unwrap_err().kind(), ErrorKind::Conflict);
        rig.state().committing.release();
        retrying.finish().unwrap();
        assert_eq!(rig.pipeline.pending_stops(), 0);
        assert!(now(seal(&rig)).is_err());
        now(rig.command("carol", resume)).unwrap();
        now(seal(&rig)).unwrap();
    }
}

#[test]
fn a_pending_stop_survives_a_crash_by_its_intent() {
    for index in 0..8 {
        let rig = rig();
        let stop = every_stop(&rig).remove(index);
        rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
        let outcome = now(rig.command("carol", stop.clone())).unwrap();
        assert_eq!(outcome.durability, Durability::InForce);
        let rig = rig.crash(0).unwrap();
        assert_order(rig.log(), &stop);
        if !matches!(stop, Command::RevokeToken { .. } | Command::RemoveAnchor(_)) {
            assert_in_force(&rig);
        }
    }
}

#[test]
fn a_stop_works_with_a_failed_log() {
    with_every_stop(|rig, stop| {
        let before = rig.log().entries().len();
        rig.log().set_broken(true);
        let outcome = now(rig.command("carol", stop.clone())).unwrap();
        assert_eq!(outcome.durability, Durability::InForce);
        assert_eq!(rig.pipeline.pending_stops(), 1);
        assert!(now(rig.pipeline.housekeep()).is_err());
        rig.log().set_broken(false);
        now(rig.pipeline.housekeep()).unwrap();
        assert_eq!(rig.pipeline.pending_stops(), 0);
        assert_eq!(rig.log().entries().len(), before + 2);
        assert_order(rig.log(), stop);
        let committed = rig.log().recovery().committed;
        assert_eq!(committed, Some(holdfast_core::port::State::position(rig.state())));
    });
}

#[test]
fn a_stop_whose_outcome_is_lost_is_in_force_and_recorded_later() {
    let rig = rig();
    rig.log().hold();
    let mut stopping = Task::begun(rig.transition("kek", Transition::Suspend));
    rig.log().sync();
    assert!(stopping.turn().is_none());
    assert_eq!(rig.log().last().summary(), "suspend-key success");
    let [outcome] = rig.log().waiting()[..] else { panic!("the outcome waits") };
    rig.log().fail(outcome);
    assert_eq!(stopping.finish().unwrap().durability, Durability::InForce);
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().state, KeyState::Suspended);
    rig.log().release();
    now(rig.pipeline.housekeep()).unwrap();
    let recovery = rig.log().recovery();
    assert_eq!(recovery.committed, Some(holdfast_core::port::State::position(rig.state())));
}

#[test]
fn a_committed_stop_whose_tenant_cannot_be_read_again_is_in_force() {
    let rig = rig();
    rig.state().committing.hold();
    let stopping = Task::begun(rig.command("carol", Command::SuspendTenant));
    rig.state().fail_reads(1);
    rig.state().committing.release();
    assert_eq!(stopping.finish().unwrap().durability, Durability::InForce);
    assert_eq!(now(rig.random("alice", 16)).unwrap_err().kind(), ErrorKind::Stopped);
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(now(rig.random("alice", 16)).unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(rig.pipeline.pending_stops(), 0);
    assert_order(rig.log(), &Command::SuspendTenant);
    now(rig.command("carol", Command::ResumeTenant)).unwrap();
    assert!(now(rig.random("alice", 16)).is_ok());
}

#[test]
fn what_one_stop_settles_another_may_still_hold() {
    let rig = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    let outcome = now(rig.command("carol", Command::SuspendTenant)).unwrap();
    assert_eq!(outcome.durability, Durability::InForce);
    // Another stop with the same reach becomes durable meanwhile.
    let outcome = now(rig.command("carol", Command::RemoveAnchor("own".parse().unwrap()))).unwrap();
    assert_eq!(outcome.durability, Durability::Durable);
    assert_eq!(now(seal(&rig)).unwrap_err().kind(), ErrorKind::Stopped);
    now(rig.pipeline.housekeep()).unwrap();
    now(rig.command("carol", Command::ResumeTenant)).unwrap();
    assert!(now(seal(&rig)).is_ok());
}

#[test]
fn a_pending_stop_that_has_become_impossible_is_closed() {
    let rig = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    now(rig.transition("kek", Transition::Compromise)).unwrap();
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(rig.pipeline.pending_stops(), 0);
    assert!(rig.log().recovery().intents.is_empty());
    assert_in_force(&rig);
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().state, KeyState::Compromised);
}

#[test]
fn an_open_stop_that_has_become_impossible_does_not_keep_the_gateway_from_starting() {
    let rig = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    now(rig.transition("kek", Transition::Compromise)).unwrap();
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().state, KeyState::Compromised);
    assert!(rig.log().recovery().intents.is_empty());
}

#[test]
fn a_suspended_custodian_orders_nothing_while_the_suspension_is_in_force_only() {
    let rig = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    now(rig.command("carol", Command::SuspendCaller("dora".parse().unwrap()))).unwrap();
    for command in [
        Command::RotateKey(name("kek")),
        Command::ResumeCaller("dora".parse().unwrap()),
        transition("kek", Transition::Compromise),
    ] {
        assert_eq!(now(rig.command("dora", command)).unwrap_err().kind(), ErrorKind::Stopped);
    }
    // What there is and what there is not, alike.
    for query in [Query::Tenant, Query::Key(name("kek")), Query::Key(name("nothing"))] {
        assert_eq!(now(rig.query("dora", query)).unwrap_err().kind(), ErrorKind::Stopped);
    }
    assert!(now(rig.query("audrey", Query::Tenant)).is_ok());
    assert!(now(seal(&rig)).is_ok());
}

#[test]
fn the_key_store_forgets_a_stopped_key_at_once() {
    let rig = rig();
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    assert_eq!(rig.keys().forgotten(), [key]);
}
