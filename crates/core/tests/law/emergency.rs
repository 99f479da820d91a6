//! Emergency copies: never of a key that was created without, never in force without enough custodians and a durable record, never past a stop.

use super::destruction::tick;
use super::versions::deactivate;
use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{POLICY, Rig, context, decrypt, encrypt, name, new_key, rewrap};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done, NewKey};
use holdfast_core::context::Context;
use holdfast_core::emergency::{CopyState, MAX_SECONDS, MAX_VERSIONS, RequestCopy};
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::port::{KeyStore as _, State as _, World as _};
use holdfast_core::query::{Found, Query};
use holdfast_core::{Error, ErrorKind, KeyVersion};

const HOUR: u64 = 3600;

/// A gateway that makes copies, with the key `kek`, which has one, and `bare`, which has none.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.keys().make_copies();
    now(rig.create(copied("kek"))).unwrap();
    now(rig.create(new_key("bare", Algorithm::Aes256Gcm))).unwrap();
    rig
}

fn copied(key: &str) -> NewKey {
    NewKey { emergency_copy: true, ..new_key(key, Algorithm::Aes256Gcm) }
}

fn ask(key: &str, seconds: u64) -> Command {
    Command::RequestCopy(RequestCopy {
        key: name(key),
        seconds,
        reason: "both devices burnt".into(),
        versions: vec![],
    })
}

fn carol(rig: &Rig, command: Command) -> Result<CopyState, Error> {
    match now(rig.command("carol", command))?.done {
        Done::Copy(_, state) => Ok(state),
        other => panic!("{other:?}"),
    }
}

fn share(of: &str) -> Command {
    Command::ApproveCopy { key: name("kek"), shares: of.as_bytes().into() }
}

/// Two custodians allow it for an hour.
fn activate(rig: &Rig) {
    carol(rig, ask("kek", HOUR)).unwrap();
    carol(rig, share("erin")).unwrap();
    assert!(carol(rig, share("frank")).unwrap().in_force.is_some());
}

fn seal(rig: &Rig, key: &str) -> Result<Vec<u8>, Error> {
    now(rig.bytes("alice", key, encrypt(b"data", Context::EMPTY)))
}

fn state(rig: &Rig) -> CopyState {
    match now(rig.query("carol", Query::Copy(name("kek")))).unwrap() {
        Found::Copy(_, state) => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_key_has_a_copy_unless_the_key_store_makes_them_and_it_was_created_with_one() {
    let rig = Rig::new();
    assert_eq!(now(rig.create(copied("kek"))).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(rig.log().last().summary(), "create-key refused unsupported");
    rig.keys().make_copies();
    assert!(!now(rig.create(new_key("bare", Algorithm::Aes256Gcm))).unwrap().emergency_copy);
    let error = carol(&rig, ask("bare", HOUR)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.detail(), "key `bare` was created without an emergency copy, and never gets one");
    assert_eq!(rig.log().last().summary(), "request-copy refused unsupported");
    // Whatever else happens to it.
    now(rig.command("carol", Command::RotateKey(name("bare")))).unwrap();
    assert_eq!(rig.log().last().text("evidence.level"), "software");
    assert_eq!(carol(&rig, ask("bare", HOUR)).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn each_version_says_for_ever_that_it_has_one_and_so_does_the_key() {
    let rig = rig();
    let said = |summary: &str| {
        let last = rig.log().last();
        assert_eq!(last.summary(), summary);
        assert_eq!([last.text("evidence.level"), last.text("evidence.origin")], ["token", "copied"]);
        assert_eq!(last.text("evidence.emergency_copy.threshold"), "2");
        assert_eq!(last.event()["evidence"]["emergency_copy"]["custodians"][1], "frank");
    };
    now(rig.create(copied("other"))).unwrap();
    said("create-key success");
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    said("rotate-key success");
    let rig = rig.crash(usize::MAX).unwrap();
    assert!(rig.state().find(&rig.acme, &name("kek")).unwrap().emergency_copy);
}

#[test]
fn a_copy_works_only_where_the_key_cannot_be_reached_and_its_event_says_so() {
    let rig = rig();
    let sealed = seal(&rig, "kek").unwrap();
    activate(&rig);
    seal(&rig, "kek").unwrap();
    assert!(rig.log().last().event()["performed_by"].is_null());
    // What the token refuses is refused: the copy is not asked for another word.
    let wrong = decrypt(&sealed, context(&[("a", "b")]));
    assert_eq!(now(rig.bytes("alice", "kek", wrong)).unwrap_err().kind(), ErrorKind::Integrity);
    assert!(rig.log().last().event()["performed_by"].is_null());
    rig.keys().set_unreachable(true);
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("performed_by")], ["decrypt success", "emergency-copy"]);
    let again = now(rig.bytes("alice", "kek", rewrap(&sealed, Context::EMPTY, None))).unwrap();
    assert_eq!(rig.log().last().text("performed_by"), "emergency-copy");
    // What is wrong is as wrong in the copy.
    let wrong = now(rig.bytes("alice", "kek", decrypt(&sealed, context(&[("a", "b")])))).unwrap_err();
    assert_eq!((wrong.kind(), wrong.detail()), (ErrorKind::Integrity, "the input does not verify"));
    assert_eq!(rig.log().last().text("performed_by"), "emergency-copy");
    assert_eq!(seal(&rig, "bare").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
    // The versions that were asked for, and no others.
    rig.keys().set_unreachable(false);
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&again, Context::EMPTY))).unwrap(), b"data");
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    rig.keys().set_unreachable(true);
    assert_eq!(seal(&rig, "kek").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
    assert!(now(rig.bytes("alice", "kek", decrypt(&again, Context::EMPTY))).is_ok());
}

#[test]
fn enough_custodians_allow_it_and_each_of_it_is_recorded() {
    let rig = rig();
    rig.keys().set_unreachable(true);
    let asked = carol(&rig, ask("kek", HOUR)).unwrap();
    assert_eq!(asked.request.unwrap().threshold, 2);
    let last = rig.log().last();
    assert_eq!(
        [last.summary(), last.text("subject")],
        ["request-copy success", "for 3600 s: both devices burnt"]
    );
    let first = carol(&rig, share("erin")).unwrap();
    assert!(first.in_force.is_none());
    assert_eq!(rig.log().last().text("subject"), "1 of 2 custodians: erin");
    // The same one again is not another one, and nobody's share is nothing.
    assert!(carol(&rig, share("erin")).unwrap().in_force.is_none());
    assert_eq!(carol(&rig, share("mallory")).unwrap_err().kind(), ErrorKind::Integrity);
    assert_eq!(rig.log().last().summary(), "approve-copy refused integrity");
    assert_eq!(seal(&rig, "kek").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
    assert!(carol(&rig, share("frank")).unwrap().in_force.is_some());
    let last = rig.log().last();
    assert!(last.text("subject").starts_with("in force until "), "{}", last.text("subject"));
    assert!(last.text("subject").ends_with(": erin, frank"), "{}", last.text("subject"));
    assert!(last.text("alarm").contains("outside of its device"), "{}", last.text("alarm"));
    seal(&rig, "kek").unwrap();
    assert_eq!(carol(&rig, share("grace")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn nothing_is_in_force_before_its_record_is_durable() {
    let rig = rig();
    rig.keys().set_unreachable(true);
    carol(&rig, ask("kek", HOUR)).unwrap();
    carol(&rig, share("erin")).unwrap();
    rig.log().hold();
    let mut approving = Task::begun(rig.command("carol", share("frank")));
    // The intent, and then the outcome.
    rig.log().resolve(rig.log().waiting()[0]);
    assert!(approving.turn().is_none());
    let outcome = rig.log().waiting()[0];
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    assert!(rig.keys().copy_state(key, rig.world.now()).in_force.is_none());
    rig.log().resolve(outcome);
    assert!(approving.turn().is_some());
    rig.log().release();
    assert!(state(&rig).in_force.is_some());
    seal(&rig, "kek").unwrap();
}

/// What another custodian's record says does not put in force what this one's opened.
#[test]
fn a_record_puts_in_force_what_it_says_itself_and_nothing_else() {
    let rig = rig();
    rig.keys().set_unreachable(true);
    carol(&rig, ask("kek", HOUR)).unwrap();
    rig.log().hold();
    let mut first = Task::begun(rig.command("carol", share("erin")));
    rig.log().resolve(rig.log().waiting()[0]);
    assert!(first.turn().is_none());
    let mut second = Task::begun(rig.command("carol", share("frank")));
    rig.log().resolve(rig.log().waiting()[1]);
    assert!(second.turn().is_none());
    let outcomes = rig.log().waiting();
    let subjects: Vec<_> =
        outcomes.iter().map(|index| rig.log().entries()[*index].text("subject").to_owned()).collect();
    assert_eq!(subjects[0], "1 of 2 custodians: erin");
    assert!(subjects[1].starts_with("in force until "), "{subjects:?}");
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    let is_in_force = || rig.keys().copy_state(key, rig.world.now()).in_force.is_some();
    rig.log().resolve(outcomes[0]);
    assert!(first.turn().is_some());
    assert!(!is_in_force());
    rig.log().resolve(outcomes[1]);
    assert!(second.turn().is_some());
    assert!(is_in_force());
}

#[test]
fn an_approval_that_is_planned_anew_puts_it_in_force_all_the_same() {
    let rig = rig();
    rig.keys().set_unreachable(true);
    carol(&rig, ask("kek", HOUR)).unwrap();
    carol(&rig, share("erin")).unwrap();
    rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
    assert!(carol(&rig, share("frank")).unwrap().in_force.is_some());
    assert!(state(&rig).in_force.is_some());
    seal(&rig, "kek").unwrap();
}

#[test]
fn nobody_asks_and_nobody_allows_while_everything_is_stopped() {
    let rig = rig();
    now(rig.command("carol", Command::SuspendTenant)).unwrap();
    for command in [ask("kek", HOUR), share("erin")] {
        let error = carol(&rig, command).unwrap_err();
        assert_eq!(
            (error.kind(), error.detail()),
            (ErrorKind::Stopped, "everything of the tenant is suspended")
        );
    }
    assert_eq!(rig.log().last().summary(), "approve-copy refused stopped");
    now(rig.command("carol", Command::ResumeTenant)).unwrap();
    assert!(state(&rig).request.is_none());
    // An order that no disk has yet is one all the same.
    let suspend = Command::TransitionKey { key: name("kek"), verb: Transition::Suspend };
    for stop in [suspend, Command::SuspendTenant] {
        rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
        now(rig.command("carol", stop)).unwrap();
        assert_eq!(rig.pipeline.pending_stops(), 1);
        for command in [ask("kek", HOUR), share("erin")] {
            assert_eq!(carol(&rig, command).unwrap_err().kind(), ErrorKind::Stopped);
        }
        now(rig.pipeline.finish_what_waits()).unwrap();
        assert_eq!(rig.pipeline.pending_stops(), 0);
    }
}

#[test]
fn an_order_that_ends_it_is_done_though_it_is_planned_anew() {
    let rig = rig();
    activate(&rig);
    rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
    assert!(carol(&rig, Command::EndCopy(name("kek"))).unwrap().in_force.is_none());
    assert_eq!(rig.log().last().summary(), "end-copy success");
    // One that finds nothing is none, planned anew or not.
    rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
    assert_eq!(carol(&rig, Command::EndCopy(name("kek"))).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_end_of_a_version_is_the_end_of_its_own_copy_alone() {
    let rig = rig();
    rig.keys().pool(&["a", "b"]);
    let id = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    let first = seal(&rig, "kek").unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let second = seal(&rig, "kek").unwrap();
    activate(&rig);
    let in_force =
        || state(&rig).in_force.map(|of| of.versions.iter().map(|of| of.get()).collect::<Vec<_>>());
    assert_eq!(in_force(), Some(vec![1, 2]));
    rig.keys().take_away("b", true);
    now(rig.command("carol", deactivate(1))).unwrap();
    let destroy = Command::TransitionVersion {
        key: name("kek"),
        version: KeyVersion::FIRST,
        verb: VersionVerb::Destroy,
        without_inventory: true,
    };
    now(rig.command("carol", destroy)).unwrap();
    assert_eq!(in_force(), Some(vec![2]));
    // Nor does another end when the material is erased, member by member.
    tick(&rig);
    assert_eq!(rig.keys().erased_on(id, KeyVersion::FIRST), ["a"]);
    assert_eq!(in_force(), Some(vec![2]));
    rig.keys().take_away("b", false);
    rig.world.pass(60);
    tick(&rig);
    assert_eq!(rig.keys().erased_on(id, KeyVersion::FIRST), ["a", "b"]);
    assert_eq!(in_force(), Some(vec![2]));
    rig.keys().set_unreachable(true);
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&second, Context::EMPTY))).unwrap(), b"data");
    let gone = now(rig.bytes("alice", "kek", decrypt(&first, Context::EMPTY))).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::KeyState);
}

#[test]
fn a_record_that_is_lost_leaves_nothing_in_force() {
    let rig = rig();
    rig.keys().set_unreachable(true);
    carol(&rig, ask("kek", HOUR)).unwrap();
    carol(&rig, share("erin")).unwrap();
    rig.log().hold();
    let mut approving = Task::begun(rig.command("carol", share("frank")));
    rig.log().resolve(rig.log().waiting()[0]);
    assert!(approving.turn().is_none());
    rig.log().fail(rig.log().waiting()[0]);
    assert!(approving.finish().is_err());
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    assert!(rig.keys().copy_state(key, rig.world.now()).in_force.is_none());
}

#[test]
fn every_stop_ends_it_and_none_is_taken_back_by_resuming() {
    for stop in [Transition::Suspend, Transition::Compromise, Transition::Destroy(None)] {
        let rig = rig();
        activate(&rig);
        rig.keys().set_unreachable(true);
        let sealed = seal(&rig, "kek").unwrap();
        if let Transition::Destroy(_) = stop {
            now(rig.transition("kek", Transition::Deactivate)).unwrap();
            // That stops new protection, and all copies with it; what it protected can be opened by copies all the same.
            activate(&rig);
        }
        let open = || now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY)));
        assert_eq!(open().unwrap(), b"data");
        now(rig.transition("kek", stop)).unwrap();
        assert!(state(&rig).in_force.is_none(), "{stop:?}");
        assert_eq!(open().unwrap_err().kind(), ErrorKind::KeyState, "{stop:?}");
        assert_eq!(carol(&rig, ask("kek", HOUR)).unwrap_err().kind(), ErrorKind::KeyState, "{stop:?}");
        if stop == Transition::Suspend {
            now(rig.transition("kek", Transition::Resume)).unwrap();
            assert_eq!(seal(&rig, "kek").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
        }
    }
    let rig = rig();
    activate(&rig);
    now(rig.command("carol", Command::SuspendTenant)).unwrap();
    now(rig.command("carol", Command::ResumeTenant)).unwrap();
    assert!(state(&rig).in_force.is_none());
}

#[test]
fn nothing_of_a_copy_leaves_past_a_stop() {
    let rig = rig();
    activate(&rig);
    rig.keys().set_unreachable(true);
    rig.keys().performing.hold();
    let under_way = Task::begun(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY)));
    assert_eq!(rig.keys().performing.waiting(), 1);
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    rig.keys().performing.release();
    assert_eq!(under_way.finish().unwrap_err().kind(), ErrorKind::Stopped);
}

#[test]
fn it_ends_with_its_time_with_an_order_and_with_the_process() {
    let rig = rig();
    activate(&rig);
    rig.keys().set_unreachable(true);
    rig.world.pass(HOUR - 1);
    seal(&rig, "kek").unwrap();
    rig.world.pass(1);
    assert_eq!(seal(&rig, "kek").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
    now(rig.pipeline.finish_what_waits()).unwrap();
    assert!(state(&rig).in_force.is_none());

    activate(&rig);
    seal(&rig, "kek").unwrap();
    assert!(carol(&rig, Command::EndCopy(name("kek"))).unwrap().in_force.is_none());
    assert_eq!(rig.log().last().summary(), "end-copy success");
    assert_eq!(seal(&rig, "kek").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
    assert_eq!(carol(&rig, Command::EndCopy(name("kek"))).unwrap_err().kind(), ErrorKind::NotFound);

    activate(&rig);
    let rig = rig.crash(usize::MAX).unwrap();
    rig.keys().set_unreachable(true);
    assert!(state(&rig).in_force.is_none());
    assert_eq!(seal(&rig, "kek").unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
}

#[test]
fn a_request_is_bounded_and_names_versions_that_there_are() {
    let rig = rig();
    for (seconds, reason) in [(0, "why"), (MAX_SECONDS + 1, "why"), (1, " "), (1, &*"x".repeat(201))] {
        let request = RequestCopy { key: name("kek"), seconds, reason: reason.into(), versions: vec![] };
        let error = carol(&rig, Command::RequestCopy(request)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{seconds} {reason}");
    }
    for _ in 0..MAX_VERSIONS {
        now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    }
    let request = |versions: &[u32]| {
        let versions = versions.iter().map(|number| KeyVersion::new(*number).unwrap()).collect();
        let request = RequestCopy { key: name("kek"), seconds: 1, reason: "why".into(), versions };
        let numbers = carol(&rig, Command::RequestCopy(request))?.request.unwrap().versions;
        Ok::<_, Error>(numbers.iter().map(|version| version.get()).collect::<Vec<_>>())
    };
    // The newest, unless told.
    assert_eq!(request(&[]).unwrap(), (2..=17).collect::<Vec<_>>());
    assert_eq!(request(&[1, 17]).unwrap(), [1, 17]);
    let error = request(&[18]).unwrap_err();
    assert_eq!(
        (error.kind(), error.detail()),
        (ErrorKind::NotFound, "key `kek` has no version 18 that could be used")
    );
    assert_eq!(request(&(1..=17).collect::<Vec<_>>()).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn a_copy_s_nonces_count_towards_the_budget_of_the_key() {
    let rig = rig();
    let id = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    let count = || now(rig.state().count(id, KeyVersion::FIRST, 0)).unwrap();
    // The device may have used one before it failed, and the copy uses another.
    seal(&rig, "kek").unwrap();
    assert_eq!(count(), 2);
    activate(&rig);
    rig.keys().set_unreachable(true);
    seal(&rig, "kek").unwrap();
    assert_eq!(count(), 4);
}

#[test]
fn a_policy_decides_who_asks_and_who_gives() {
    let rig = Rig::under(&format!("{POLICY}\nforbid dora approve-copy *\nforbid dora request-copy kek"));
    rig.keys().make_copies();
    now(rig.create(copied("kek"))).unwrap();
    assert_eq!(now(rig.command("dora", ask("kek", HOUR))).unwrap_err().kind(), ErrorKind::Denied);
    carol(&rig, ask("kek", HOUR)).unwrap();
    assert_eq!(now(rig.command("dora", share("erin"))).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(now(rig.command("alice", share("erin"))).unwrap_err().kind(), ErrorKind::Denied);
    carol(&rig, share("erin")).unwrap();
}
