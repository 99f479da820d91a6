//! The key store's pool: who is out stays out, and what a member lacks is looked for when it comes.

use holdfast_conformance::doubles::{CommitFault, KeyFault};
use holdfast_conformance::rig::{Rig, name, new_key, transition};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Outcome};
use holdfast_core::lifecycle::Transition;
use holdfast_core::pipeline::{Released, Sweep};
use holdfast_core::port::{KeyStore as _, Membership};
use holdfast_core::{Error, ErrorKind, KeyVersion, MemberName};

fn member() -> MemberName {
    "hsm-b".parse().unwrap()
}

fn order(rig: &Rig, to: Membership) -> Result<Released<Outcome>, Error> {
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    now(rig.pipeline.command(&inbound, Command::MoveMember { member: member(), to }))
}

fn tick(rig: &Rig) {
    now(rig.pipeline.finish_what_waits()).unwrap();
}

fn since(rig: &Rig, before: usize) -> Vec<String> {
    rig.log().entries().split_off(before).iter().map(|entry| entry.summary()).collect()
}

#[test]
fn a_member_of_the_pool_is_moved_by_an_operator_under_a_record() {
    let rig = Rig::new();
    let order = |to| order(&rig, to);
    let before = rig.log().entries().len();
    order(Membership::Drained).unwrap();
    assert_eq!(rig.keys().drained(), [member()]);
    order(Membership::Joined).unwrap();
    assert!(rig.keys().drained().is_empty());
    assert_eq!(
        since(&rig, before),
        ["drain-member intent", "drain-member success", "join-member intent", "join-member success"]
    );
    assert_eq!(rig.log().last().text("subject"), "hsm-b");
    // What the key store refuses is closed as refused.
    rig.keys().fault(KeyFault::Fail(ErrorKind::Conflict));
    assert_eq!(order(Membership::Drained).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(rig.log().last().summary(), "drain-member refused conflict");
    // No custodian's, whatever the tenant's policy says.
    let command = Command::MoveMember { member: member(), to: Membership::Drained };
    assert!(now(rig.command("carol", command)).is_err());
    assert!(rig.keys().drained().is_empty());
    assert!(rig.log().recovery().intents.is_empty());
}

#[test]
fn who_was_taken_out_is_out_after_a_restart_until_let_in() {
    let rig = Rig::new();
    order(&rig, Membership::Drained).unwrap();
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.keys().drained(), [member()]);
    order(&rig, Membership::Joined).unwrap();
    let rig = rig.crash(0).unwrap();
    assert!(rig.keys().drained().is_empty());
}

#[test]
fn a_wrong_result_is_recorded_once_with_an_alarm_and_outlasts_a_restart() {
    let rig = Rig::new();
    let before = rig.log().entries().len();
    rig.keys().eject(&member(), "a signature does not verify");
    // What cannot be recorded now is recorded later.
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    tick(&rig);
    tick(&rig);
    let told = rig.log().entries().split_off(before);
    let summaries: Vec<_> = told.iter().map(|entry| entry.summary()).collect();
    let (intent, refused) = ("eject-member intent", "eject-member refused state-unavailable");
    assert_eq!(summaries, [intent, refused, intent, "eject-member success"]);
    assert!(told.iter().all(|entry| entry.tenant.is_gateway() && entry.text("subject") == "hsm-b"));
    assert!(told[3].text("alarm").contains("a signature does not verify"));
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.keys().ejected().len(), 1, "a restart lets nobody in");
    let before = rig.log().entries().len();
    tick(&rig);
    assert_eq!(rig.log().entries().len(), before, "what stands in the record is not recorded again");
    order(&rig, Membership::Joined).unwrap();
    tick(&rig);
    let rig = rig.crash(0).unwrap();
    assert!(rig.keys().ejected().is_empty());
    // The next one is another one.
    rig.keys().eject(&member(), "again");
    tick(&rig);
    assert_eq!(rig.log().last().summary(), "eject-member success");
}

/// Nobody waits for its answer, so nobody but the gateway itself can close it.
#[test]
fn what_the_gateway_does_of_itself_and_cannot_put_in_force_is_closed_by_the_next_look() {
    let rig = Rig::new();
    let before = rig.log().entries().len();
    rig.keys().eject(&member(), "a signature does not verify");
    rig.state().fail_reads(1);
    assert!(now(rig.pipeline.keep_up()).is_err());
    assert_eq!(since(&rig, before), ["eject-member intent"]);
    now(rig.pipeline.keep_up()).unwrap();
    assert_eq!(since(&rig, before), ["eject-member intent", "eject-member success"]);
    assert!(rig.log().recovery().intents.is_empty());
    now(rig.pipeline.keep_up()).unwrap();
    assert_eq!(since(&rig, before).len(), 2);
}

fn sweep(rig: &Rig) {
    now(rig.pipeline.sweep_pool(|| true)).unwrap();
}

/// A member comes that lacks this version of this key.
fn arrive(rig: &Rig, key: &str, version: u32) {
    let id = rig.state().find(&rig.acme, &name(key)).unwrap().id;
    rig.keys().arrive(&[(id, KeyVersion::new(version).unwrap())]);
}

#[test]
fn a_member_that_comes_is_brought_what_it_lacks_under_a_record() {
    let rig = Rig::new();
    for key in ["one", "two"] {
        now(rig.create(new_key(key, Algorithm::Xaes256Gcm))).unwrap();
    }
    now(rig.command("carol", Command::RotateKey(name("two")))).unwrap();
    now(rig.create(new_key("gone", Algorithm::Xaes256Gcm))).unwrap();
    for verb in [Transition::Deactivate, Transition::Destroy(None)] {
        now(rig.command("carol", transition("gone", verb))).unwrap();
    }
    let before = rig.log().entries().len();
    sweep(&rig);
    sweep(&rig);
    assert_eq!((rig.pipeline.sweep(), rig.log().entries().len()), (None, before), "nobody came");
    // An old version of a key that nobody asks for.
    arrive(&rig, "two", 1);
    sweep(&rig);
    assert_eq!(rig.log().entries().len(), before, "others may be about to come");
    sweep(&rig);
    sweep(&rig);
    assert_eq!(since(&rig, before), ["sweep-pool intent", "sweep-pool success"]);
    let last = rig.log().last();
    assert_eq!((last.text("context.versions").as_str(), last.text("context.brought").as_str()), ("3", "1"));
    assert!(last.tenant.is_gateway() && last.text("alarm").is_empty(), "{}", last.event());
    let done = rig.pipeline.sweep().unwrap();
    assert!(done.ended.is_some());
    assert_eq!(
        Sweep { ended: None, ..done },
        Sweep { begun: done.begun, ended: None, versions: 3, held: 5, brought: 1, lacking: 0, failed: 0 }
    );
}

#[test]
fn what_cannot_be_looked_for_is_an_alarm_and_what_is_cut_short_says_so() {
    let rig = Rig::new();
    for key in ["one", "two"] {
        now(rig.create(new_key(key, Algorithm::Xaes256Gcm))).unwrap();
    }
    arrive(&rig, "one", 1);
    sweep(&rig);
    rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
    sweep(&rig);
    let done = rig.pipeline.sweep().unwrap();
    assert_eq!((done.versions, done.failed, done.brought + done.held), (2, 1, 2));
    assert!(rig.log().last().text("alarm").contains("1 keys could not be looked for"));
    // The gateway is about to end.
    arrive(&rig, "two", 1);
    rig.world.pass(60);
    sweep(&rig);
    now(rig.pipeline.sweep_pool(|| false)).unwrap();
    assert!(rig.log().last().text("alarm").contains("not looked for all keys"));
    assert_eq!(rig.pipeline.sweep().unwrap().versions, 0);
}

#[test]
fn a_member_that_comes_and_goes_does_not_fill_the_log() {
    let rig = Rig::new();
    now(rig.create(new_key("one", Algorithm::Xaes256Gcm))).unwrap();
    let before = rig.log().entries().len();
    for _ in 0..1800 {
        rig.keys().arrive(&[]);
        sweep(&rig);
        rig.world.pass(1);
        sweep(&rig);
        rig.world.pass(1);
    }
    let swept = (rig.log().entries().len() - before) / 2;
    // An hour: after 0, 5, 15, 35, … seconds, and then every ten minutes.
    assert!((10..=14).contains(&swept), "{swept}");
}
