//! The end of a key: it stops at once, waits by two clocks, can be kept, is destroyed once, and is erased from each member that is seen.

use holdfast_conformance::doubles::{CommitFault, KeyFault};
use holdfast_conformance::rig::{Rig, decrypt, encrypt, name, new_key, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Durability, NewKey};
use holdfast_core::context::Context;
use holdfast_core::destruction::WaitingPeriod;
use holdfast_core::import::BeginImport;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::{KeyState, Transition, VersionVerb};
use holdfast_core::pipeline::Destructions;
use holdfast_core::port::{State, World};
use holdfast_core::query::{Found, Query, Traces};
use holdfast_core::schedule::RotationPeriod;
use holdfast_core::tenant::TakenBackup;
use holdfast_core::{Error, ErrorKind, KeyVersion, Timestamp};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn days(days: u32) -> WaitingPeriod {
    WaitingPeriod::of_days(days).unwrap()
}

/// A gateway where keys wait two days, with a key `kek` that only opens any more: the people of the rig are known for eleven.
fn rig() -> (Rig, Vec<u8>) {
    let rig = waiting(Rig::new());
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let sealed = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    (rig, sealed)
}

fn waiting(rig: Rig) -> Rig {
    let Rig { pipeline, world, registry, acme, other, gateway } = rig;
    Rig { pipeline: pipeline.with_waiting_period(days(2)), world, registry, acme, other, gateway }
}

fn order(rig: &Rig, verb: Transition) -> Result<Key, Error> {
    now(rig.transition("kek", verb))?;
    Ok(kek(rig))
}

fn destroy(rig: &Rig) -> Key {
    order(rig, Transition::Destroy(None)).unwrap()
}

fn kek(rig: &Rig) -> Key {
    rig.state().find(&rig.acme, &name("kek")).unwrap()
}

fn opens(rig: &Rig, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    now(rig.bytes("alice", "kek", decrypt(sealed, Context::EMPTY)))
}

pub(super) fn tick(rig: &Rig) {
    now(rig.pipeline.finish_what_waits()).unwrap();
}

/// Lets the gateway be up for so long.
fn pass(rig: &Rig, seconds: u64) {
    for _ in 0..seconds / HOUR {
        rig.world.pass(HOUR);
        tick(rig);
    }
    rig.world.pass(seconds % HOUR);
    tick(rig);
}

/// How often an action stands in the tenant's log, with its outcome.
fn count(rig: &Rig, summary: &str) -> usize {
    rig.log().of("acme").iter().filter(|entry| entry.summary() == summary).count()
}

#[test]
fn a_key_stops_at_once_and_is_destroyed_once_when_its_period_is_over() {
    let (rig, sealed) = rig();
    assert_eq!(opens(&rig, &sealed).unwrap(), b"data");
    let key = destroy(&rig);
    assert_eq!(rig.log().last().text("subject"), "after 2 days");
    assert!(rig.keys().forgotten().contains(&key.id));
    assert_eq!(key.destruction.unwrap().due(), rig.world.now().plus_seconds(2 * DAY));
    let refused = opens(&rig, &sealed).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyState);
    assert!(refused.detail().contains("waits to be destroyed, until "), "{}", refused.detail());
    assert!(refused.remedy_text().contains("key cancel-destruction kek"), "{}", refused.remedy_text());

    pass(&rig, 2 * DAY - 2 * HOUR);
    assert_eq!(kek(&rig).destruction, key.destruction);
    assert!(!rig.keys().is_erased(key.id, key.newest));
    assert_eq!(rig.pipeline.destructions(), Destructions { waiting: 1, erasing: 0 });
    pass(&rig, 4 * HOUR);
    let gone = kek(&rig);
    assert_eq!((gone.state, gone.destruction), (KeyState::Destroyed, None));
    assert!(rig.keys().is_erased(key.id, key.newest));
    assert!(rig.state().find_version(key.id, key.newest).unwrap().handle.as_bytes().is_empty());
    let last = rig.log().of("acme").pop().unwrap();
    assert_eq!(
        [last.summary(), last.text("caller.authentication"), last.text("key.name")],
        ["complete-destruction success", "gateway", "kek"]
    );
    assert_eq!(last.text("subject"), format!("ordered {}", key.destruction.unwrap().ordered));
    pass(&rig, DAY);
    assert_eq!(count(&rig, "complete-destruction success"), 1);
    assert_eq!(rig.pipeline.destructions(), Destructions::default());
    assert_eq!(order(&rig, Transition::CancelDestruction).unwrap_err().kind(), ErrorKind::KeyState);
}

#[test]
fn what_is_under_way_does_not_leave_past_the_order() {
    let (rig, sealed) = rig();
    rig.keys().performing.hold();
    let opening = Task::begun(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY)));
    rig.keys().performing.hold_no_more();
    destroy(&rig);
    rig.keys().performing.release();
    assert_eq!(opening.finish().unwrap_err().kind(), ErrorKind::Stopped);
}

#[test]
fn taking_it_back_leads_to_what_the_key_was_and_no_further() {
    let ways: [(bool, &[Transition]); 5] = [
        (true, &[]),
        (false, &[Transition::Suspend]),
        (false, &[Transition::Deactivate]),
        (false, &[Transition::Deactivate, Transition::Suspend]),
        (false, &[Transition::Compromise]),
    ];
    for (prepared, way) in ways {
        let rig = waiting(Rig::new());
        now(rig.create(NewKey { prepared, ..new_key("kek", Algorithm::Xaes256Gcm) })).unwrap();
        for verb in way {
            order(&rig, *verb).unwrap();
        }
        let before = kek(&rig);
        destroy(&rig);
        for verb in [Transition::Activate, Transition::Resume, Transition::Deactivate] {
            let error = order(&rig, verb).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::KeyState);
            assert!(error.remedy_text().contains("key cancel-destruction kek"), "{}", error.remedy_text());
        }
        for command in [Command::RotateKey(name("kek")), Command::RollBackKey(name("kek"))] {
            assert_eq!(now(rig.command("carol", command)).unwrap_err().kind(), ErrorKind::KeyState);
        }
        assert_eq!(order(&rig, Transition::Suspend).unwrap().state, kek(&rig).state);
        let after = order(&rig, Transition::CancelDestruction).unwrap();
        assert_eq!(rig.log().last().summary(), "cancel-destruction success");
        let same = Key { epoch: after.epoch, ..before };
        assert_eq!(after, same, "{way:?}");
        assert_eq!(rig.pipeline.destructions(), Destructions::default());
        pass(&rig, 3 * DAY);
        assert_eq!(kek(&rig), after, "nothing is left of the order");
    }
}

#[test]
fn a_key_that_waits_can_get_worse_and_stays_so() {
    let (rig, sealed) = rig();
    destroy(&rig);
    assert_eq!(order(&rig, Transition::Compromise).unwrap().state, KeyState::Compromised);
    let kept = order(&rig, Transition::CancelDestruction).unwrap();
    assert_eq!((kept.state, kept.destruction), (KeyState::Compromised, None));
    assert!(opens(&rig, &sealed).is_err());
}

#[test]
fn neither_clock_alone_ends_the_waiting() {
    let (rig, _) = rig();
    destroy(&rig);
    // The wall clock goes on while the gateway is not up.
    rig.world.step(3 * DAY.cast_signed());
    tick(&rig);
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 2 * DAY - 2 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 3 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);

    let (rig, _) = self::rig();
    destroy(&rig);
    rig.world.step(-HOUR.cast_signed());
    pass(&rig, 2 * DAY + HOUR / 2);
    assert_eq!(kek(&rig).state, KeyState::Suspended, "the wall clock is not there yet");
    pass(&rig, HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
}

#[test]
fn a_clock_that_jumps_brings_nothing_forward() {
    let (rig, _) = rig();
    destroy(&rig);
    pass(&rig, 2 * DAY - 2 * HOUR);
    rig.world.jump(DAY.cast_signed());
    pass(&rig, HOUR);
    assert!(rig.pipeline.clock_held().is_some());
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    // An order that is given meanwhile waits by the later of both times.
    let (rig, _) = self::rig();
    let before = rig.world.now();
    rig.world.jump(-DAY.cast_signed());
    tick(&rig);
    assert!(rig.pipeline.clock_held().is_some());
    assert!(destroy(&rig).destruction.unwrap().due() >= before.plus_seconds(2 * DAY));
}

#[test]
fn an_order_that_was_taken_back_brings_the_next_one_not_forward() {
    let (rig, _) = rig();
    destroy(&rig);
    pass(&rig, DAY);
    order(&rig, Transition::CancelDestruction).unwrap();
    let due = destroy(&rig).destruction.unwrap().due();
    // The first one would be due by now, and the gateway has been up for as long as the second one demands.
    rig.world.step(-12 * HOUR.cast_signed());
    pass(&rig, 2 * DAY + HOUR);
    assert!(rig.world.now() < due);
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 12 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
}

#[test]
fn uptime_adds_up_over_starts_and_a_standstill_counts_nothing() {
    let (mut rig, _) = rig();
    destroy(&rig);
    for _ in 0..4 {
        pass(&rig, 11 * HOUR);
        rig.world.step(DAY.cast_signed());
        rig = waiting(rig.crash(0).unwrap());
        tick(&rig);
        assert_eq!(kek(&rig).state, KeyState::Suspended);
        assert_eq!(rig.pipeline.destructions().waiting, 1, "it is found again");
    }
    // Each crash has lost an hour at most.
    pass(&rig, 3 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 6 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
    let counted =
        rig.log().of("_gateway").iter().filter(|entry| entry.summary() == "count-uptime success").count();
    assert!((44..=50).contains(&counted), "an hour at a time: {counted}");
}

#[test]
fn a_machine_that_is_suspended_brings_nothing_forward() {
    let (rig, _) = rig();
    destroy(&rig);
    for _ in 0..60 {
        rig.world.suspend(HOUR);
        tick(&rig);
    }
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 2 * DAY + HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
}

#[test]
fn the_time_before_the_order_counts_nothing() {
    let (rig, _) = rig();
    pass(&rig, 5 * DAY);
    destroy(&rig);
    pass(&rig, 2 * DAY - 2 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 3 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
    let counted = |rig: &Rig| rig.log().of("_gateway").len();
    let before = counted(&rig);
    pass(&rig, DAY);
    assert_eq!(counted(&rig), before, "where nothing waits, nothing is counted");
}

#[test]
fn an_order_waits_longer_if_it_says_so_and_never_shorter() {
    let (rig, sealed) = rig();
    for short in [0, 1] {
        let error = order(&rig, Transition::Destroy(Some(days(short)))).unwrap_err();
        assert_eq!(
            (error.kind(), rig.log().last().summary()),
            (ErrorKind::Unsupported, "destroy-key refused unsupported".into())
        );
        assert!(error.detail().contains("2 days"), "{}", error.detail());
    }
    assert!(opens(&rig, &sealed).is_ok(), "what is refused stops nothing");
    let key = order(&rig, Transition::Destroy(Some(days(4)))).unwrap();
    // Again is no other order; longer is one.
    assert_eq!(destroy(&rig).destruction, key.destruction);
    assert_eq!(order(&rig, Transition::Destroy(Some(days(5)))).unwrap_err().kind(), ErrorKind::KeyState);
    pass(&rig, 3 * DAY);
    assert_eq!(kek(&rig).destruction, key.destruction);
    pass(&rig, DAY + HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
}

#[test]
fn an_order_is_in_force_without_the_state_and_waits_once_that_can_be_written() {
    let (rig, sealed) = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    let outcome = now(rig.transition("kek", Transition::Destroy(Some(days(3))))).unwrap();
    assert_eq!(outcome.durability, Durability::InForce);
    assert!(opens(&rig, &sealed).is_err());
    tick(&rig);
    assert_eq!(kek(&rig).destruction.unwrap().period, days(3));
}

#[test]
fn an_order_that_a_crash_cuts_short_still_waits_as_it_was_given() {
    let (rig, _) = rig();
    rig.log().hold();
    rig.state().committing.hold();
    let mut task = Task::begun(rig.command("carol", transition("kek", Transition::Destroy(Some(days(9))))));
    rig.log().sync();
    assert!(task.turn().is_none());
    drop(task);
    assert_eq!(kek(&rig).destruction, None);
    let rig = rig.crash(0).unwrap();
    assert_eq!(kek(&rig).destruction.unwrap().period, days(9));
    assert_eq!(rig.log().last().text("reason"), "recovered");
}

#[test]
fn a_destruction_that_a_crash_cuts_short_is_done_once() {
    let (rig, sealed) = rig();
    // No uptime is to be counted in the moment in which the period is over.
    pass(&rig, HOUR / 2);
    destroy(&rig);
    pass(&rig, 2 * DAY - HOUR / 2);
    rig.world.pass(HOUR / 2 + 60);
    rig.log().hold();
    rig.state().committing.hold();
    let mut task = Task::begun(rig.pipeline.finish_what_waits());
    for _ in 0..4 {
        rig.log().sync();
        assert!(task.turn().is_none());
    }
    drop(task);
    let mut rig = waiting(rig.crash(0).unwrap());
    assert!(rig.log().recovery().intents.is_empty(), "what was begun is closed");
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    pass(&rig, 2 * HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
    rig = waiting(rig.crash(0).unwrap());
    pass(&rig, 2 * HOUR);
    assert_eq!(count(&rig, "complete-destruction intent"), 2);
    assert_eq!(count(&rig, "complete-destruction success"), 1);
    assert!(opens(&rig, &sealed).is_err());
}

#[test]
fn a_destruction_that_fails_is_tried_again() {
    let (rig, _) = rig();
    destroy(&rig);
    pass(&rig, 2 * DAY - HOUR / 2);
    rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    rig.world.pass(HOUR);
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    assert_eq!(count(&rig, "complete-destruction refused key-store-unavailable"), 1);
    assert_eq!(kek(&rig).state, KeyState::Suspended);
    rig.world.pass(60);
    tick(&rig);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
}

#[test]
fn no_version_of_a_key_that_waits_is_moved() {
    let rig = waiting(Rig::new());
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    order(&rig, Transition::Suspend).unwrap();
    destroy(&rig);
    for verb in VersionVerb::ALL {
        let version = KeyVersion::FIRST;
        let command = Command::TransitionVersion { key: name("kek"), version, verb, without_inventory: true };
        let error = now(rig.command("carol", command)).unwrap_err();
        assert!(error.detail().contains("waits to be destroyed"), "{}", error.detail());
    }
}

#[test]
fn what_waits_for_its_material_waits_for_nothing_else() {
    let rig = waiting(Rig::new());
    let begin =
        || Command::BeginImport(BeginImport { new: new_key("kek", Algorithm::Xaes256Gcm), seconds: 3600 });
    now(rig.command("carol", begin())).unwrap();
    assert_eq!(destroy(&rig).state, KeyState::Destroyed);
    assert_eq!(rig.log().last().text("subject"), "at once");
    assert!(now(rig.command("carol", begin())).is_ok(), "its name is free");
}

/// The same in a pool, where keys wait for nothing.
fn pooled() -> (Rig, Vec<u8>) {
    let rig = Rig::new();
    rig.keys().pool(&["a", "b"]);
    tick(&rig);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let sealed = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    order(&rig, Transition::Deactivate).unwrap();
    (rig, sealed)
}

fn destroy_version(rig: &Rig, version: KeyVersion) {
    for verb in [VersionVerb::Deactivate, VersionVerb::Destroy] {
        let command = Command::TransitionVersion { key: name("kek"), version, verb, without_inventory: true };
        now(rig.command("carol", command)).unwrap();
    }
}

fn where_it_is(rig: &Rig) -> (Vec<String>, Vec<String>) {
    let erasure = kek(rig).erasure.unwrap();
    let names = |members: &[holdfast_core::MemberName]| members.iter().map(ToString::to_string).collect();
    (names(&erasure.absent), names(&erasure.pending))
}

fn named(members: &[&str]) -> Vec<String> {
    members.iter().map(|member| (*member).to_owned()).collect()
}

#[test]
fn who_is_away_is_pending_until_seen_and_the_key_is_gone_meanwhile() {
    let (rig, sealed) = pooled();
    rig.keys().take_away("b", true);
    let key = destroy(&rig);
    assert_eq!((key.state, where_it_is(&rig)), (KeyState::Destroyed, (vec![], named(&["a", "b"]))));
    assert!(opens(&rig, &sealed).is_err());
    tick(&rig);
    assert_eq!(where_it_is(&rig), (named(&["a"]), named(&["b"])));
    let versions = [KeyVersion::FIRST, key.newest];
    for version in versions {
        assert_eq!(rig.keys().erased_on(key.id, version), ["a"]);
        assert!(!rig.state().find_version(key.id, version).unwrap().handle.as_bytes().is_empty());
    }
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("subject")], ["erase-key success", "absent on a; pending on b"]);
    // Nothing is asked, and nothing written, of who is not there.
    let entries = rig.log().entries().len();
    pass(&rig, 2 * HOUR);
    assert_eq!(rig.log().entries().len(), entries);
    assert_eq!(rig.pipeline.destructions(), Destructions { waiting: 0, erasing: 1 });
    // By its name the key is found again.
    let error = now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    let rig = rig.crash(0).unwrap();
    tick(&rig);
    assert_eq!(rig.pipeline.destructions().erasing, 1, "a start finds it again");
    rig.keys().take_away("b", false);
    pass(&rig, 60);
    assert_eq!(where_it_is(&rig), (named(&["a", "b"]), vec![]));
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("subject")], ["erase-key success", "absent on b"]);
    for version in versions {
        assert_eq!(rig.keys().erased_on(key.id, version), ["a", "b"]);
        assert!(rig.state().find_version(key.id, version).unwrap().handle.as_bytes().is_empty());
    }
    assert!(now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).is_ok());
}

/// Whoever left the pool before a key was destroyed is not asked; what was made before it left may be there for ever, and the record says so.
#[test]
fn who_has_left_the_pool_before_is_named_of_what_was_made_while_it_was_there() {
    let rig = Rig::new();
    rig.keys().pool(&["a", "b", "c"]);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    tick(&rig);
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("subject")], ["note-members success", "in the pool: a, b, c"]);
    assert!(last.tenant.is_gateway());
    // Each start finds the pool that its configuration names.
    let rig = rig.crash(0).unwrap();
    rig.keys().pool(&["a", "b"]);
    tick(&rig);
    let noted = rig.log().last();
    assert_eq!([noted.summary(), noted.text("subject")], ["note-members success", "no more: c"]);
    let entries = rig.log().entries().len();
    tick(&rig);
    assert_eq!(rig.log().entries().len(), entries, "once");
    rig.world.pass(60);
    now(rig.create(new_key("later", Algorithm::Xaes256Gcm))).unwrap();
    for key in ["kek", "later"] {
        for verb in [Transition::Deactivate, Transition::Destroy(None)] {
            now(rig.transition(key, verb)).unwrap();
        }
    }
    let left = |key: &str| rig.state().find(&rig.acme, &name(key)).unwrap().erasure.unwrap().left.clone();
    assert_eq!(left("kek"), ["c".parse().unwrap()]);
    assert_eq!(left("later"), [], "it was made when c had left");
    let entries = rig.log().entries().len();
    tick(&rig);
    let said: Vec<_> =
        rig.log().entries().split_off(entries).iter().map(|entry| entry.text("subject")).collect();
    assert!(said.contains(&"absent on a, b; left with c".to_owned()), "{said:?}");
    assert!(said.contains(&"absent on a, b".to_owned()), "{said:?}");
    // Its name is free: nobody waits for who is gone.
    assert!(now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).is_ok());
    let rig = rig.crash(0).unwrap();
    rig.keys().pool(&["c", "b", "d"]);
    tick(&rig);
    assert_eq!(rig.log().last().text("subject"), "in the pool: c, d; no more: a");
}

/// What was made before a member left is told by the order of commits: its time is that of a clock which may have been ahead.
#[test]
fn a_clock_that_was_ahead_hides_nobody_who_has_left() {
    let rig = Rig::new();
    rig.keys().pool(&["a", "b"]);
    tick(&rig);
    rig.world.step(5 * DAY.cast_signed());
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let rig = rig.crash(0).unwrap();
    rig.world.step(-5 * DAY.cast_signed());
    rig.keys().pool(&["a"]);
    tick(&rig);
    assert_eq!(rig.log().last().text("subject"), "no more: b");
    assert_eq!(rig.pipeline.clock_held(), None);
    now(rig.create(new_key("later", Algorithm::Xaes256Gcm))).unwrap();
    for key in ["kek", "later"] {
        for verb in [Transition::Deactivate, Transition::Destroy(None)] {
            now(rig.transition(key, verb)).unwrap();
        }
    }
    let left = |key: &str| rig.state().find(&rig.acme, &name(key)).unwrap().erasure.unwrap().left.clone();
    assert_eq!((left("kek"), left("later")), (vec!["b".parse().unwrap()], vec![]));
}

/// A member that comes back is asked about what is destroyed from then on, and nobody asks it about what everybody else has erased.
#[test]
fn who_comes_back_stays_named_of_what_was_erased_while_it_was_out() {
    let rig = Rig::new();
    rig.keys().pool(&["a", "b", "c"]);
    tick(&rig);
    let id = now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap().id;
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let rig = rig.crash(0).unwrap();
    rig.keys().pool(&["a", "b"]);
    tick(&rig);
    destroy_version(&rig, KeyVersion::FIRST);
    tick(&rig);
    assert_eq!(where_it_is(&rig), (named(&["a", "b"]), vec![]));
    let rig = rig.crash(0).unwrap();
    rig.keys().pool(&["a", "b", "c"]);
    tick(&rig);
    order(&rig, Transition::Deactivate).unwrap();
    destroy(&rig);
    tick(&rig);
    assert_eq!(where_it_is(&rig), (named(&["a", "b", "c"]), vec![]));
    assert_eq!(rig.keys().erased_on(id, KeyVersion::FIRST), ["a", "b"], "c may hold it still");
    assert_eq!(kek(&rig).erasure.unwrap().left, ["c".parse().unwrap()]);
    assert_eq!(rig.log().last().text("subject"), "absent on a, b, c; left with c");
}

/// However many they are, they cost nothing while it is away, and when it is back they leave room.
#[test]
fn what_waits_for_a_member_holds_no_rotation_up() {
    let rig = Rig::new();
    rig.keys().pool(&["a", "b"]);
    rig.keys().take_away("b", true);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let period = Some(RotationPeriod::of_days(2).unwrap());
    now(rig.command("carol", Command::ScheduleKey { key: name("kek"), period })).unwrap();
    let gone = |number: usize| format!("gone-{number}");
    for number in 0..40 {
        now(rig.create(new_key(&gone(number), Algorithm::Xaes256Gcm))).unwrap();
        for verb in [Transition::Deactivate, Transition::Destroy(None)] {
            now(rig.transition(&gone(number), verb)).unwrap();
        }
    }
    for _ in 0..40 {
        tick(&rig);
        rig.world.pass(6);
    }
    let erasing = || rig.pipeline.destructions().erasing;
    let erased_on_a =
        |number| rig.state().find(&rig.acme, &name(&gone(number))).unwrap().erasure.unwrap().absent.len();
    assert!(erasing() == 40 && (0..40).all(|number| erased_on_a(number) == 1));
    let looks_after_its_due = || {
        let due = kek(&rig).schedule.unwrap().due.seconds().cast_signed();
        rig.world.step(due - rig.world.now().seconds().cast_signed() + 1);
        tick(&rig);
        kek(&rig).newest.get()
    };
    assert_eq!(looks_after_its_due(), 2, "at the first look");
    rig.keys().take_away("b", false);
    assert_eq!(looks_after_its_due(), 3, "and also while there is much to erase");
    let left = erasing();
    assert!((1..40).contains(&left), "{left}");
    for _ in 0..left {
        tick(&rig);
    }
    assert_eq!(erasing(), 0, "at once, without a pause in between");
}

#[test]
fn an_erasure_that_is_cut_short_is_asked_again() {
    let (rig, _) = pooled();
    let key = destroy(&rig);
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    assert_eq!(rig.keys().erased_on(key.id, key.newest), ["a", "b"], "done, and the state does not know");
    assert_eq!(where_it_is(&rig), (vec![], named(&["a", "b"])));
    let rig = rig.crash(0).unwrap();
    assert!(rig.log().recovery().intents.is_empty());
    tick(&rig);
    assert_eq!(where_it_is(&rig), (named(&["a", "b"]), vec![]));
}

#[test]
fn a_device_that_is_slow_to_erase_delays_no_stop() {
    let (rig, _) = pooled();
    let key = destroy(&rig);
    now(rig.create(new_key("other", Algorithm::Xaes256Gcm))).unwrap();
    rig.keys().erasing.hold();
    now(rig.pipeline.keep_up()).unwrap();
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(rig.keys().erased_on(key.id, key.newest), [""; 0], "no device is asked by who keeps up");
    let due = Task::begun(rig.pipeline.do_what_is_due(|| true));
    assert_eq!(rig.keys().erasing.waiting(), 1);
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    let stop = Command::SuspendCaller("alice".parse().unwrap());
    assert_eq!(now(rig.command("carol", stop)).unwrap().durability, Durability::InForce);
    assert_eq!(rig.pipeline.pending_stops(), 1);
    now(rig.pipeline.keep_up()).unwrap();
    assert_eq!(rig.pipeline.pending_stops(), 0, "durable, while the device is still at it");
    assert_eq!(rig.keys().erasing.waiting(), 1);
    now(rig.pipeline.housekeep()).unwrap();
    assert_eq!(where_it_is(&rig), (vec![], named(&["a", "b"])));
    rig.keys().erasing.release();
    due.finish().unwrap();
    assert_eq!(where_it_is(&rig), (named(&["a", "b"]), vec![]));
    assert_eq!(rig.keys().erased_on(key.id, key.newest), ["a", "b"]);
}

#[test]
fn who_ends_begins_nothing_that_is_due_and_forgets_nothing() {
    let (rig, _) = pooled();
    destroy(&rig);
    let entries = rig.log().entries().len();
    now(rig.pipeline.do_what_is_due(|| false)).unwrap();
    assert_eq!(rig.log().entries().len(), entries);
    tick(&rig);
    assert_eq!(where_it_is(&rig), (named(&["a", "b"]), vec![]));
}

#[test]
fn a_member_that_fails_to_erase_is_not_asked_all_the_time() {
    let (rig, _) = pooled();
    destroy(&rig);
    rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    assert_eq!(count(&rig, "erase-key refused key-store-unavailable"), 1);
    let entries = rig.log().entries().len();
    rig.world.pass(50);
    tick(&rig);
    assert_eq!(rig.log().entries().len(), entries);
    pass(&rig, HOUR);
    assert_eq!(where_it_is(&rig), (named(&["a", "b"]), vec![]));
}

#[test]
fn the_end_of_a_version_leaves_the_others_alone() {
    let rig = Rig::new();
    rig.keys().pool(&["a", "b"]);
    let id = now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap().id;
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let sealed = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
    rig.keys().take_away("a", true);
    destroy_version(&rig, KeyVersion::FIRST);
    tick(&rig);
    assert_eq!(where_it_is(&rig), (named(&["b"]), named(&["a"])));
    assert_eq!(kek(&rig).state, KeyState::Active);
    assert_eq!(opens(&rig, &sealed).unwrap(), b"data");
    rig.keys().take_away("a", false);
    pass(&rig, 60);
    assert_eq!(rig.keys().erased_on(id, KeyVersion::FIRST), ["a", "b"]);
    assert!(rig.keys().erased_on(id, kek(&rig).newest).is_empty());
}

fn back_up(rig: &Rig) {
    rig.world.pass(60);
    rig.pipeline.engines().archive.hold(rig.state().position().sequence);
    now(rig.pipeline.command(&rig.inbound_at(&rig.gateway, "olga"), Command::BackUp)).unwrap();
    rig.world.pass(60);
}

/// What a custodian is shown: the names of the backups that may hold the key, and until when.
fn held_by(rig: &Rig) -> Vec<(String, Option<Timestamp>)> {
    let Found::Key(_, _, Traces { backups, .. }) = now(rig.query("carol", Query::Key(name("kek")))).unwrap()
    else {
        panic!("a key")
    };
    backups.into_iter().map(|backup| (backup.name.into(), backup.expires)).collect()
}

#[test]
fn the_backups_that_may_hold_a_key_are_named_at_its_end_with_their_expiry() {
    let rig = waiting(Rig::new());
    back_up(&rig);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    back_up(&rig);
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    rig.pipeline.engines().archive.keep(Some(30));
    let taken = rig.world.now().plus_seconds(60);
    back_up(&rig);
    order(&rig, Transition::Deactivate).unwrap();
    assert_eq!(held_by(&rig), [], "its end is not in sight");
    destroy(&rig);
    // The first one is from before the key, the second has its first version only.
    let mut expected =
        vec![("backup-2".to_owned(), None), ("backup-3".to_owned(), Some(taken.plus_seconds(30 * DAY)))];
    assert_eq!(held_by(&rig), expected);
    back_up(&rig);
    pass(&rig, 2 * DAY);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
    back_up(&rig);
    expected.push(("backup-4".to_owned(), held_by(&rig)[2].1));
    assert_eq!(held_by(&rig), expected, "it waits in the fourth, and the fifth is from after its end");

    let rig = rig.crash(0).unwrap();
    assert_eq!(held_by(&rig), expected);
}

#[test]
fn a_clock_that_was_set_back_hides_no_backup() {
    let (rig, _) = rig();
    back_up(&rig);
    destroy(&rig);
    pass(&rig, 2 * DAY + HOUR);
    assert_eq!(kek(&rig).state, KeyState::Destroyed);
    let erasure = kek(&rig).erasure.unwrap();
    let at = |commit, taken| TakenBackup { name: "x".into(), commit, taken, expires: None, sha256: [0; 32] };
    let (before, after) = (kek(&rig).created, erasure.destroyed.plus_seconds(1));
    let end = erasure.commit;
    for (backup, expected) in [
        (at(end, after), true),
        (at(end + 9, before), true),
        (at(end + 9, after), false),
        (at(kek(&rig).renewed, Timestamp::from_micros(0)), true),
        (at(kek(&rig).renewed - 1, Timestamp::from_micros(0)), false),
    ] {
        assert_eq!(kek(&rig).may_be_in(&backup), expected, "{backup:?}");
    }
}

#[test]
fn no_more_backups_are_remembered_than_have_room() {
    let (rig, _) = rig();
    for _ in 0..TakenBackup::MAX_REMEMBERED + 2 {
        back_up(&rig);
    }
    destroy(&rig);
    let held = held_by(&rig);
    assert_eq!((held.len(), held[0].0.as_str()), (TakenBackup::MAX_REMEMBERED, "backup-3"), "the newest");
}
