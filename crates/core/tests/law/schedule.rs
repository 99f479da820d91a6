//! Rotation by schedule: at the latest when it is due, once, made up for after a standstill, and without looking at keys that have none.

use holdfast_conformance::doubles::KeyFault;
use holdfast_conformance::rig::{Rig, decrypt, encrypt, name, new_key};
use holdfast_conformance::task::now;
use holdfast_core::ErrorKind;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done};
use holdfast_core::context::Context;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::Transition;
use holdfast_core::pipeline::Rotations;
use holdfast_core::port::{State, World};
use holdfast_core::schedule::RotationPeriod;

const DAY: i64 = 86_400;

fn schedule(key: &str, days: Option<u32>) -> Command {
    let period = days.map(|days| RotationPeriod::of_days(days).unwrap());
    Command::ScheduleKey { key: name(key), period }
}

/// A key `kek` that is rotated every two days: the people of the rig are known for eleven.
fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", schedule("kek", Some(2)))).unwrap();
    tick(&rig);
    rig
}

fn tick(rig: &Rig) {
    now(rig.pipeline.finish_what_waits()).unwrap();
}

fn kek(rig: &Rig) -> Key {
    rig.state().find(&rig.acme, &name("kek")).unwrap()
}

fn newest(rig: &Rig) -> u32 {
    kek(rig).newest.get()
}

/// Lets time pass up to so many seconds after the next rotation is due.
fn pass_due(rig: &Rig, seconds: i64) {
    let due = kek(rig).schedule.unwrap().due.seconds().cast_signed();
    rig.world.step(due - rig.world.now().seconds().cast_signed() + seconds);
}

fn counts(rig: &Rig) -> [u64; 3] {
    let Rotations { on_schedule, late, failed } = rig.pipeline.rotations();
    [on_schedule, late, failed]
}

#[test]
fn a_key_is_rotated_when_it_is_due_and_not_before_and_once() {
    let rig = rig();
    let sealed = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
    pass_due(&rig, -60);
    tick(&rig);
    assert_eq!((newest(&rig), counts(&rig)), (1, [0, 0, 0]));
    pass_due(&rig, 1);
    let due = kek(&rig).schedule.unwrap().due;
    for _ in 0..3 {
        tick(&rig);
    }
    assert_eq!((newest(&rig), counts(&rig)), (2, [1, 0, 0]));
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("caller.authentication")], ["rotate-key success", "gateway"]);
    let text = due.text();
    let text = std::str::from_utf8(&text).unwrap();
    assert_eq!([last.text("subject"), last.text("alarm")], [format!("due {text}"), String::new()]);
    // It never gets older than two days, nor is it rotated much earlier.
    for number in 3..6 {
        let before = kek(&rig).schedule.unwrap().due;
        pass_due(&rig, 1);
        tick(&rig);
        let seconds = (kek(&rig).schedule.unwrap().due.seconds() - before.seconds()).cast_signed();
        assert!((2 * DAY - DAY / 5..=2 * DAY + 1).contains(&seconds), "{seconds}");
        assert_eq!(newest(&rig), number);
    }
    assert_eq!(now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
}

#[test]
fn what_was_missed_is_made_up_for_once_and_told() {
    let rig = rig();
    rig.world.step(35 * DAY);
    let rig = rig.crash(0).unwrap();
    for _ in 0..3 {
        tick(&rig);
    }
    assert_eq!((newest(&rig), counts(&rig)), (2, [0, 1, 0]));
    assert!(rig.log().last().text("alarm").contains("it was due at"));
    assert!(kek(&rig).schedule.unwrap().due > rig.world.now());
}

#[test]
fn a_rotation_that_fails_is_tried_again_each_minute() {
    let rig = rig();
    pass_due(&rig, 1);
    rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    assert_eq!(rig.log().last().summary(), "rotate-key refused key-store-unavailable");
    let entries = rig.log().entries().len();
    rig.world.step(59);
    tick(&rig);
    assert_eq!((rig.log().entries().len(), counts(&rig)), (entries, [0, 0, 1]));
    rig.keys().heal();
    rig.world.step(1);
    tick(&rig);
    assert_eq!((newest(&rig), counts(&rig)), (2, [1, 0, 1]));
    assert!(rig.log().recovery().intents.is_empty());
}

#[test]
fn a_stopped_key_is_not_rotated_until_it_is_resumed() {
    let rig = rig();
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    pass_due(&rig, DAY);
    tick(&rig);
    assert_eq!(newest(&rig), 1);
    now(rig.transition("kek", Transition::Resume)).unwrap();
    tick(&rig);
    assert_eq!((newest(&rig), counts(&rig)), (2, [0, 1, 0]));
}

#[test]
fn a_rotation_by_hand_moves_the_next_one() {
    let rig = rig();
    rig.world.step(DAY);
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    rig.world.step(DAY + DAY / 2);
    tick(&rig);
    assert_eq!(newest(&rig), 2);
    pass_due(&rig, 1);
    tick(&rig);
    assert_eq!((newest(&rig), counts(&rig)), (3, [1, 0, 0]));
}

#[test]
fn an_old_key_is_due_at_once_and_without_a_schedule_never() {
    let rig = rig();
    now(rig.command("carol", schedule("kek", None))).unwrap();
    assert_eq!((kek(&rig).schedule, rig.log().last().text("subject").as_str()), (None, "off"));
    rig.world.step(9 * DAY);
    tick(&rig);
    assert_eq!(newest(&rig), 1);
    let outcome = now(rig.command("carol", schedule("kek", Some(5)))).unwrap();
    let Done::Key(key, _) = outcome.done else { panic!("a key") };
    assert!(key.schedule.unwrap().due < rig.world.now());
    assert_eq!(rig.log().last().text("subject"), "every 5 days");
    tick(&rig);
    assert_eq!(newest(&rig), 2);
    // Who uses keys does not say how often.
    assert!(now(rig.command("alice", schedule("kek", None))).is_err());
}

#[test]
fn keys_that_are_not_due_cost_nothing() {
    let rig = rig();
    for number in 0..40 {
        now(rig.create(new_key(&format!("k{number}"), Algorithm::HmacSha256))).unwrap();
    }
    let rig = rig.crash(0).unwrap();
    tick(&rig);
    // All have been looked at once. The next reading fails, and there is none.
    rig.state().fail_reads(1);
    for _ in 0..5 {
        rig.world.step(DAY / 4);
        tick(&rig);
    }
    let read = now(rig.state().key(&rig.acme, &name("kek")));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::StateUnavailable);
}

#[test]
fn a_jump_of_the_clock_makes_nothing_due() {
    let rig = rig();
    rig.world.jump(3 * DAY);
    for _ in 0..3 {
        tick(&rig);
    }
    assert_eq!(newest(&rig), 1);
    let confirm = Command::ConfirmClock;
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    now(rig.pipeline.command(&inbound, confirm)).map(drop).unwrap();
    tick(&rig);
    assert_eq!((newest(&rig), counts(&rig)), (2, [0, 1, 0]));
}

#[test]
fn a_rotation_while_a_jump_is_held_puts_the_next_one_off_no_further() {
    let rig = rig();
    rig.world.jump(5 * DAY);
    tick(&rig);
    let latest = rig.world.held_now().unwrap().plus_seconds(2 * DAY.unsigned_abs());
    let due = |rig: &Rig| kek(rig).schedule.unwrap().due;
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    assert!(due(&rig) <= latest, "{} is later than {latest}", due(&rig));
    // The version says when it was made by the wall clock, which was ahead.
    for days in [None, Some(2)] {
        now(rig.command("carol", schedule("kek", days))).unwrap();
    }
    assert!(due(&rig) <= latest, "{} is later than {latest}", due(&rig));
}
