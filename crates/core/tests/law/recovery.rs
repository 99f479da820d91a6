//! After a crash between any two steps, every command is closed exactly once; and a state and a log that do not belong together are refused.

use crate::versions::{deactivate, inventory};
use holdfast_conformance::doubles::{CommitFault, Journal, Keys, Records, Registry, Rules, TestPorts, Vault};
use holdfast_conformance::rig::{POLICY, Rig, context, encrypt, name, new_key, people, person, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::CallerKind;
use holdfast_core::command::{Command, Durability};
use holdfast_core::destruction::WaitingPeriod;
use holdfast_core::import::{BeginImport, FinishImport, Past};
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::pipeline::{Call, Engines, Founding, OpenIntent, Pipeline, Recovery};
use holdfast_core::port::State;
use holdfast_core::{Error, ErrorKind, InstanceId, KeyVersion, OperationId};

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    rig.keys().make_foreign("legacy");
    let waiting = BeginImport { new: new_key("waiting", Algorithm::Aes256Gcm), seconds: 600 };
    now(rig.command("carol", Command::BeginImport(waiting))).unwrap();
    rig
}

/// The import that `waiting` waits for.
fn finish_waiting(rig: &Rig) -> FinishImport {
    let tenant = "acme".parse().unwrap();
    let key = rig.state().find(&tenant, &name("waiting")).unwrap();
    let version = now(rig.state().version(key.id, KeyVersion::FIRST)).unwrap().unwrap();
    // The public half of a double's import key is the seed in its handle.
    let (wrapped, check_value) = Keys::wrap_outside(&version.handle.as_bytes()[..32], b"material");
    let (wrapped, check_value) = (wrapped.into(), check_value.into());
    FinishImport { key: name("waiting"), wrapped, check_value, past: Past::Uses(1000) }
}

/// Commands of every sort; stops are carried out by recovery, others are not.
fn commands(rig: &Rig) -> Vec<Command> {
    vec![
        Command::CreateKey(new_key("new", Algorithm::Ed25519)),
        Command::BeginImport(BeginImport { new: new_key("brought", Algorithm::Ed25519), seconds: 60 }),
        Command::FinishImport(finish_waiting(rig)),
        crate::adoptions::adopt("adopted", "legacy", Algorithm::Aes256Gcm, Past::Uses(1000)),
        Command::RotateKey(name("kek")),
        Command::RollBackKey(name("kek")),
        deactivate(1),
        Command::RecordInventory { key: name("kek"), taken: inventory(2, 2, &[1]) },
        Command::PutCaller(person("acme", "erin", CallerKind::Application, &rig.world)),
        Command::SetPolicy { text: "permit alice use *".into(), expected: None },
        transition("kek", Transition::Suspend),
        transition("kek", Transition::Compromise),
        Command::SuspendCaller("alice".parse().unwrap()),
        Command::RemoveAnchor("own".parse().unwrap()),
        Command::SuspendTenant,
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    IntentLost,
    IntentDurable,
    Committed,
    OutcomeLost,
    OutcomeDurable,
}

const MOMENTS: [Moment; 5] = [
    Moment::IntentLost,
    Moment::IntentDurable,
    Moment::Committed,
    Moment::OutcomeLost,
    Moment::OutcomeDurable,
];

/// Runs a command up to a moment, and lets the process die there. Gives how many waiting entries survive.
fn run_to(rig: &Rig, command: Command, moment: Moment) {
    rig.log().hold();
    rig.state().committing.hold();
    let mut task = Task::begun(rig.command("carol", command));
    if moment == Moment::IntentLost {
        return;
    }
    rig.log().sync();
    assert!(task.turn().is_none());
    assert_eq!(rig.state().committing.waiting(), 1);
    if moment == Moment::IntentDurable {
        return;
    }
    if moment == Moment::Committed {
        // The commit happens, and its answer is never heard.
        rig.state().fault(CommitFault::After(ErrorKind::StateUnavailable));
        rig.log().set_broken(true);
    }
    rig.state().committing.release();
    let _ = task.turn();
    if moment == Moment::OutcomeDurable {
        rig.log().sync();
    }
}

#[test]
fn a_crash_between_any_two_steps_leaves_a_command_closed_exactly_once() {
    let count = commands(&rig()).len();
    for moment in MOMENTS {
        for index in 0..count {
            let rig = rig();
            let command = commands(&rig).remove(index);
            let (before, commits) = (rig.log().entries().len(), rig.state().position().sequence);
            let what = format!("{moment:?} {command:?}");
            run_to(&rig, command.clone(), moment);
            let rig = rig.crash(0).unwrap_or_else(|error| panic!("{what}: {error}"));
            let entries: Vec<_> = rig.log().entries().split_off(before).iter().map(|e| e.summary()).collect();
            let action = command.action().name();
            let is_stop = command.action().is_stop();
            let is_committed = rig.state().position().sequence > commits;
            let closed = format!("{action} success");
            let undone = format!("{action} refused internal");
            let intent = format!("{action} intent");
            let expected = match moment {
                Moment::IntentLost => vec![],
                Moment::IntentDurable if !is_stop => vec![intent, undone],
                Moment::IntentDurable | Moment::Committed | Moment::OutcomeLost | Moment::OutcomeDurable => {
                    vec![intent, closed]
                }
            };
            assert_eq!(entries, expected, "{what}");
            let done = !matches!((moment, is_stop), (Moment::IntentLost, _) | (Moment::IntentDurable, false));
            assert_eq!(is_committed, done, "{what}");
            // Another start finds nothing to do.
            let count = rig.log().entries().len();
            assert_eq!(rig.log().recovery().committed, Some(rig.state().position()), "{what}");
            let rig = rig.crash(0).unwrap();
            assert_eq!(rig.log().entries().len(), count, "{what}");
        }
    }
}

/// The orders of a third tenant's creation, as far as a moment; how many waiting entries survive the crash then.
fn create_up_to(rig: &Rig, moment: Moment) {
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    let create = Command::CreateTenant(people("third", POLICY, &rig.world));
    rig.log().hold();
    let mut task = Task::begun(rig.pipeline.command(&inbound, create));
    if moment == Moment::IntentLost {
        return;
    }
    if moment == Moment::Committed {
        // The first entry of the log is refused, and the process dies before another one is tried.
        rig.state().committing.hold();
        rig.log().sync();
        assert!(task.turn().is_none());
        rig.log().set_broken(true);
        rig.state().committing.release();
        assert!(task.turn().is_some());
        return;
    }
    // The intent, and then what the log begins with.
    for _ in 0..if moment == Moment::OutcomeDurable { 2 } else { 1 } {
        rig.log().sync();
        assert!(task.turn().is_none());
    }
}

#[test]
fn a_tenants_log_begins_with_its_birth_also_if_its_creation_is_cut_short() {
    // Where the intent has not been followed by a commit there is no tenant; the last moment stands for a birth that is durable.
    for moment in [Moment::IntentLost, Moment::Committed, Moment::OutcomeLost, Moment::OutcomeDurable] {
        let rig = rig();
        create_up_to(&rig, moment);
        let mut rig = rig.crash(0).unwrap();
        for _ in 0..2 {
            let entries = rig.log().of("third");
            let summaries: Vec<_> = entries.iter().map(|entry| entry.summary()).collect();
            let expected: &[&str] = if moment == Moment::IntentLost { &[] } else { &["found success"] };
            assert_eq!(summaries, expected, "{moment:?}");
            if let Some(birth) = entries.first() {
                assert_eq!(birth.text("context.custodians"), "carol dora", "{moment:?}");
                assert_eq!(rig.log().last().summary(), "create-tenant success");
            }
            assert!(rig.log().recovery().intents.is_empty());
            rig = rig.crash(0).unwrap();
        }
    }
}

#[test]
fn nobody_finds_a_tenant_before_its_birth_stands_in_its_log() {
    let rig = rig();
    let third = "third".parse().unwrap();
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    rig.state().committing.hold();
    let create = Command::CreateTenant(people("third", POLICY, &rig.world));
    let creating = Task::begun(rig.pipeline.command(&inbound, create));
    rig.log().fault(ErrorKind::Throttled);
    rig.state().committing.release();
    assert_eq!(creating.finish().map(drop).unwrap_err().kind(), ErrorKind::Throttled);
    let asks = || {
        let inbound = rig.inbound_at(&third, "alice");
        let random = Call::Random { length: 16 };
        now(rig.pipeline.use_key(&inbound, random)).map(drop).map_err(|error| error.kind())
    };
    assert_eq!(asks(), Err(ErrorKind::Unauthenticated));
    // A disk that is full keeps it from being closed no more than any other command.
    rig.log().set_full(true);
    now(rig.pipeline.keep_up()).unwrap();
    rig.log().set_full(false);
    asks().unwrap();
    let summaries: Vec<_> = rig.log().of("third").iter().map(|entry| entry.summary()).collect();
    assert_eq!(summaries, ["found success", "random success"]);
    assert_eq!(rig.log().times_opened("third"), 1, "a log is opened once");
}

#[test]
fn a_crash_during_recovery_changes_nothing_of_that() {
    let rig = rig();
    let before = rig.log().entries().len();
    run_to(&rig, transition("kek", Transition::Suspend), Moment::IntentDurable);
    rig.log().crash(0);
    rig.state().committing.release();
    let (keys, state, log) = (rig.keys().clone(), rig.state().clone(), rig.log().clone());
    for _ in 0..3 {
        log.hold();
        let opening = Rig::open(keys.clone(), state.clone(), log.clone(), rig.world.clone(), log.recovery());
        drop(Task::begun(opening));
        log.crash(0);
    }
    let opened = Rig::open(keys, state, log.clone(), rig.world.clone(), log.recovery());
    let rig = now(opened).unwrap();
    let entries: Vec<_> = rig.log().entries().split_off(before).iter().map(|e| e.summary()).collect();
    assert_eq!(entries, ["suspend-key intent", "suspend-key success"]);
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().state, KeyState::Suspended);
}

#[test]
fn what_cannot_be_closed_is_not_started_with() {
    let rig = rig();
    run_to(&rig, Command::RotateKey(name("kek")), Moment::IntentDurable);
    rig.log().crash(0);
    rig.state().committing.release();
    let recovery = rig.log().recovery();
    rig.log().set_broken(true);
    let opening =
        Rig::open(rig.keys().clone(), rig.state().clone(), rig.log().clone(), rig.world.clone(), recovery);
    assert_eq!(now(opening).map(drop).unwrap_err().kind(), ErrorKind::AuditUnavailable);
}

#[test]
fn recovery_says_of_itself_what_it_did() {
    let rig = rig();
    run_to(&rig, Command::RotateKey(name("kek")), Moment::OutcomeLost);
    let rig = rig.crash(0).unwrap();
    let last = rig.log().last();
    assert_eq!([last.text("outcome"), last.text("reason")], ["success", "recovered"]);
    assert_eq!(last.text("caller.authentication"), "gateway");
    assert_eq!(last.text("key.name"), "kek");
}

/// A restoration goes by the id: the name can have been another's.
#[test]
fn what_was_done_is_closed_with_the_id_of_its_key() {
    let rig = rig();
    let id = rig.state().find(&rig.acme, &name("kek")).unwrap().id.to_string();
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    now(rig.transition("kek", Transition::Destroy(WaitingPeriod::of_days(1)))).unwrap();
    run_to(&rig, transition("kek", Transition::CancelDestruction), Moment::OutcomeLost);
    let rig = rig.crash(0).unwrap();
    let last = rig.log().last();
    assert_eq!(
        (last.summary().as_str(), last.text("reason")),
        ("cancel-destruction success", "recovered".into())
    );
    assert_eq!(last.text("key.id"), id);
}

fn open(keys: &Rig, state: Records, log: Journal, recovery: Recovery) -> Result<Rig, Error> {
    now(Rig::open(keys.keys().clone(), state, log, keys.world.clone(), recovery))
}

#[test]
fn a_tail_that_was_cut_is_an_alarm() {
    let rig = rig();
    let recovery = Recovery { cut_bytes: 4711, ..rig.log().recovery() };
    let opened = open(&rig, rig.state().clone(), rig.log().clone(), recovery).unwrap();
    let last = opened.log().last();
    assert_eq!([last.tenant.as_str(), &last.summary()], ["_gateway", "recover success"]);
    assert!(last.text("alarm").contains("4711"));
}

#[test]
fn an_older_state_is_refused() {
    let rig = rig();
    let backup = rig.state().copy();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let error = open(&rig, backup, rig.log().clone(), rig.log().recovery()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::StateUnavailable);
    assert!(error.remedy_text().contains("an older state"), "{}", error.remedy_text());
}

#[test]
fn another_state_of_the_same_age_is_refused() {
    let rig = rig();
    rig.state().tamper();
    let error = open(&rig, rig.state().clone(), rig.log().clone(), rig.log().recovery()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::StateUnavailable);
    assert!(error.remedy_text().contains("exchanged"), "{}", error.remedy_text());
}

#[test]
fn an_older_log_is_refused() {
    let rig = rig();
    let backup = rig.log().copy();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let recovery = backup.recovery();
    let error = open(&rig, rig.state().clone(), backup, recovery).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::StateUnavailable);
    assert!(error.remedy_text().contains("an older log"), "{}", error.remedy_text());
}

#[test]
fn no_log_at_all_beside_a_state_is_refused() {
    let rig = rig();
    let error = open(&rig, rig.state().clone(), Journal::default(), Recovery::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::StateUnavailable);
    // An empty directory is no such case: there is just nobody in it.
    let opened = open(&rig, Records::default(), Journal::default(), Recovery::default()).unwrap();
    assert!(opened.pipeline.tenant(&opened.acme).is_none());
}

#[test]
fn a_state_ahead_by_what_was_under_way_is_taken_and_by_more_is_refused() {
    let rig = rig();
    let log = rig.log().copy();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let operation = rig.log().last().operation();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let open_intent = |operation| OpenIntent {
        operation,
        tenant: rig.acme.clone(),
        action: holdfast_core::action::Action::RotateKey,
        key: Some(name("kek")),
        subject: None,
    };
    let one = Recovery { intents: vec![open_intent(operation)], ..log.recovery() };
    assert!(open(&rig, rig.state().clone(), log.copy(), one).is_err());
    // What was under way and has changed nothing excuses nothing.
    let strangers = [1, 2, 3].map(|number| open_intent(OperationId::from_bytes([number; 16])));
    let strangers = Recovery { intents: strangers.to_vec(), ..log.recovery() };
    assert!(open(&rig, rig.state().clone(), log.copy(), strangers).is_err());
    let intents = vec![open_intent(operation), open_intent(rig.log().last().operation())];
    let both = Recovery { intents, ..log.recovery() };
    let opened = open(&rig, rig.state().clone(), log, both).unwrap();
    assert_eq!(opened.log().recovery().committed, Some(rig.state().position()));
}

#[test]
fn a_stop_given_while_the_log_had_failed_is_told_at_the_next_start() {
    let rig = rig();
    let log = rig.log().copy();
    rig.log().set_broken(true);
    let stopped = now(rig.transition("kek", Transition::Suspend)).unwrap();
    assert_eq!(stopped.durability, Durability::InForce);
    let before = log.entries().len();
    let opened = open(&rig, rig.state().clone(), log.copy(), log.recovery()).unwrap();
    let told = opened.log().entries().split_off(before);
    let summaries: Vec<_> = told.iter().map(|entry| entry.summary()).collect();
    assert_eq!(summaries, ["suspend-key intent", "suspend-key success"]);
    assert_eq!((told[1].text("reason"), told[1].text("key.name")), ("recovered".into(), "kek".into()));
    assert_eq!(opened.log().recovery().committed, Some(rig.state().position()));
    assert!(now(opened.bytes("alice", "kek", encrypt(b"x", context(&[])))).is_err());
    // It excuses nothing else: this log lacks a rotation, too.
    rig.log().set_broken(false);
    now(rig.pipeline.housekeep()).unwrap();
    now(rig.transition("kek", Transition::Resume)).unwrap();
    let error = open(&rig, rig.state().clone(), log.copy(), log.recovery()).err().unwrap();
    assert!(error.to_string().contains("2 commits ahead of the log, and 1 of them"), "{error}");
}

#[test]
fn a_gateway_is_founded_once() {
    let rig = rig();
    let again = Rig::found(rig.keys().clone(), rig.state().clone(), rig.log().clone(), "");
    let error = now(again).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let first = rig.log().entries().remove(0);
    // Nobody but operators runs a gateway.
    let founding = Founding {
        instance: InstanceId::from_bytes([7; 16]),
        build: "test",
        operators: vec![person("acme", "carol", CallerKind::Custodian, &rig.world)],
        tenants: vec![],
        shares: None,
    };
    let engines = Engines {
        identify: Registry::default(),
        decide: Rules::default(),
        keys: Keys::default(),
        state: Records::default(),
        log: Journal::default(),
        archive: Vault::default(),
        world: rig.world.clone(),
    };
    let error =
        now(Pipeline::<TestPorts<Keys, Records, Journal>>::found(engines, false, founding)).err().unwrap();
    assert!(error.to_string().contains("`carol` is not of kind `operator`"), "{error}");
    assert_eq!([first.tenant.as_str(), &first.summary()], ["_gateway", "found success"]);
    assert_eq!(first.text("context.operators"), "olga");
    assert_eq!(first.text("context.directory"), "production");
}
