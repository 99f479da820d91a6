//! What would change the state when a stop comes: in every order in which both can go on, nothing is changed past the acknowledgement.

use super::{alice, rig};
use holdfast_conformance::doubles::{certificate, token};
use holdfast_conformance::rig::{
    AUTHORITY, POLICY, Rig, issue_token, name, new_key, people, person, transition,
};
use holdfast_conformance::task::{Task, now};
use holdfast_core::action::{Action, Group};
use holdfast_core::adoption::AdoptKey;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::archive::UnarchiveKey;
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_core::command::{Command, Durability, Outcome, VerifiedBackup};
use holdfast_core::emergency::RequestCopy;
use holdfast_core::import::{BeginImport, FinishImport, Past};
use holdfast_core::inventory::TakenInventory;
use holdfast_core::key::Labels;
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::Inbound;
use holdfast_core::port::{Committed, Membership, State, World};
use holdfast_core::retention::Retention;
use holdfast_core::schedule::RotationPeriod;
use holdfast_core::tenant::Anchor;
use holdfast_core::{CallerName, Error, ErrorKind, KeyVersion};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

fn dora() -> CallerName {
    "dora".parse().unwrap()
}

fn registration(rig: &Rig, of: &str) -> CallerRecord {
    person("acme", of, CallerKind::Custodian, &rig.world)
}

fn token_of_dora(rig: &Rig) -> Command {
    let (token, ..) = token("acme/dora", rig.world.now());
    Command::RevokeToken { caller: dora(), token }
}

/// Stops of dora, who gives the commands.
fn stops_of_dora(rig: &Rig) -> [Command; 5] {
    [
        Command::SuspendCaller(dora()),
        Command::RemoveCaller(dora()),
        token_of_dora(rig),
        Command::RemoveAnchor("own".parse().unwrap()),
        Command::SuspendTenant,
    ]
}

/// Every command of a custodian's that changes something as it stands here, but for stops. `kek` has two versions, `other` is suspended.
fn changes(rig: &Rig) -> Vec<Command> {
    let kek = || name("kek");
    let anchor = |name: &str| Anchor {
        name: name.parse().unwrap(),
        certificate: Arc::from(AUTHORITY),
        revocations: None,
    };
    vec![
        Command::ResumeCaller(dora()),
        Command::PutCaller(registration(rig, "dora")),
        Command::PutCaller(registration(rig, "back-door")),
        issue_token("alice", 60),
        issue_token("dora", 60),
        Command::PutAnchor(anchor("own")),
        Command::PutAnchor(anchor("another")),
        Command::SetPolicy { text: Arc::from(format!("{POLICY}\npermit bob use *")), expected: None },
        Command::RestorePolicy { version: 1, expected: None },
        Command::SetRetention(Retention::of_days(30)),
        Command::ResumeTenant,
        Command::CreateKey(new_key("new", Algorithm::Xaes256Gcm)),
        Command::RotateKey(kek()),
        Command::RollBackKey(kek()),
        Command::LabelKey { key: kek(), labels: Labels::new(), expected: None },
        Command::ScheduleKey { key: kek(), period: RotationPeriod::of_days(90) },
        transition("other", Transition::Resume),
    ]
}

fn prepared() -> Rig {
    let rig = rig();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    now(rig.transition("other", Transition::Suspend)).unwrap();
    rig
}

/// Somebody's order, which goes on one step at a time.
struct Actor<'a> {
    inbound: &'a Inbound<'a>,
    task: Task<'a, Result<Outcome, Error>>,
    ended: Option<Result<Durability, ErrorKind>>,
}

impl<'a> Actor<'a> {
    fn new(rig: &'a Rig, inbound: &'a Inbound<'a>, command: Command) -> Self {
        let asked = async move { Ok(rig.pipeline.command(inbound, command).await?.into_parts().0) };
        Self { inbound, task: Task::new(asked), ended: None }
    }

    /// Its entries that wait for the disk.
    fn entries(&self, rig: &Rig) -> Vec<usize> {
        let entries = rig.log().entries();
        let its = |index: &usize| entries[*index].operation() == self.inbound.operation;
        rig.log().waiting().into_iter().filter(its).collect()
    }

    fn can_go_on(&self, rig: &Rig) -> bool {
        self.task.is_woken() || !self.entries(rig).is_empty()
    }

    fn go_on(&mut self, rig: &Rig) {
        self.entries(rig).into_iter().for_each(|index| rig.log().resolve(index));
        if let Some(ended) = self.task.turn() {
            self.ended = Some(ended.map(|outcome| outcome.durability).map_err(|error| error.kind()));
        }
    }
}

/// What came of a play.
struct Played {
    /// Where the state stood when the stop was acknowledged.
    acknowledged: Committed,
    /// How each command ended that was under way then and had begun before the stop was committed.
    late: Vec<Result<Durability, ErrorKind>>,
    /// How each ended that had ended by then.
    early: Vec<Result<Durability, ErrorKind>>,
    /// Whether all had begun before the stop was committed: whoever begins later knows of it.
    is_whole: bool,
    /// Between how many there was a choice at each step.
    choices: Vec<usize>,
}

/// Lets commands, and a stop as the last of them, go on in the order of `path`, and then whoever can.
fn play(rig: &Rig, orders: Vec<(&str, Command)>, path: &[usize]) -> Played {
    rig.log().hold();
    rig.state().reading.hold();
    rig.state().committing.hold();
    let shown = certificate("uri:spiffe://acme/dora", AUTHORITY);
    let inbounds: Vec<_> = orders
        .iter()
        .map(|(who, _)| match *who {
            "dora by certificate" => rig.inbound_with(&rig.acme, Proof::Certificate(&shown)),
            who => rig.inbound(who),
        })
        .collect();
    let begin = |(inbound, (_, command))| Actor::new(rig, inbound, command);
    let mut actors: Vec<_> = inbounds.iter().zip(orders).map(begin).collect();
    let stop = actors.len() - 1;
    let (mut choices, mut at_the_end) = (Vec::new(), None);
    let mut begun = vec![false; actors.len()];
    loop {
        // Whoever waits there goes on when it is polled.
        rig.state().reading.open_once();
        rig.state().committing.open_once();
        let able: Vec<_> = (0..actors.len()).filter(|index| actors[*index].can_go_on(rig)).collect();
        let Some(count) = NonZeroUsize::new(able.len()) else { break };
        let chosen = able[path.get(choices.len()).copied().unwrap_or(0) % count];
        choices.push(able.len());
        begun[chosen] |= now(rig.state().committed(actors[stop].inbound.operation)).unwrap().is_none();
        actors[chosen].go_on(rig);
        if chosen == stop && actors[stop].ended.is_some() {
            let ended: Vec<_> = actors.iter().map(|actor| actor.ended.is_some()).collect();
            at_the_end = Some((rig.state().position(), begun.clone(), ended));
        }
    }
    let (acknowledged, begun, ended) = at_the_end.expect("the stop is acknowledged");
    let results: Vec<_> = actors.iter().map(|actor| actor.ended.expect("it ends")).collect();
    assert_eq!(results[stop], Ok(Durability::Durable), "the stop");
    let of =
        |which: &dyn Fn(usize) -> bool| (0..stop).filter(|at| which(*at)).map(|at| results[at]).collect();
    Played {
        acknowledged,
        late: of(&|at| begun[at] && !ended[at]),
        early: of(&|at| ended[at]),
        is_whole: begun.iter().all(|begun| *begun),
        choices,
    }
}

/// The next path, depth first.
fn next(choices: &[usize], path: &[usize]) -> Option<Vec<usize>> {
    let mut next: Vec<_> = (0..choices.len()).map(|at| path.get(at).copied().unwrap_or(0)).collect();
    while let Some(last) = next.pop() {
        if last + 1 < choices[next.len()] {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}

/// What a stop is of.
#[derive(PartialEq, Eq)]
enum Stopped {
    /// Who asks, the tenant or the key: what has been done is not shown any more.
    WhoOrWhat,
    /// Whom the command is about: what was done before may be told to who asked.
    Whom,
    /// What who asks may do: that is no stop order.
    ByARight,
}

/// Plays a command and a stop in every order.
fn in_every_order(of: &Stopped, rig: impl Fn() -> Rig, order: impl Fn(&Rig) -> Vec<(&'static str, Command)>) {
    let (mut path, mut refusals, mut is_done_in_time) = (Vec::new(), BTreeSet::new(), false);
    loop {
        let rig = rig();
        let orders = order(&rig);
        let what = format!("{:?} at {path:?}", orders.iter().map(|(_, it)| it.action()).collect::<Vec<_>>());
        let Played { acknowledged, late, early, is_whole, choices } = play(&rig, orders, &path);
        if is_whole {
            let now = rig.state().position();
            assert_eq!(now, acknowledged, "{what}: changed past the acknowledgement");
        }
        for result in late {
            let may_be_told = *of != Stopped::WhoOrWhat;
            assert!(may_be_told || result.is_err(), "{what}: its answer left past the acknowledgement");
            refusals.extend(result.map_err(ErrorKind::code).err());
        }
        is_done_in_time |= early.iter().any(Result::is_ok);
        assert!(rig.log().recovery().intents.is_empty(), "{what}");
        match next(&choices, &path) {
            Some(another) => path = another,
            None => break,
        }
    }
    let refusal = if *of == Stopped::ByARight { "denied" } else { "stopped" };
    assert!(is_done_in_time && refusals.contains(refusal), "{refusals:?}");
}

#[test]
fn in_no_order_is_anything_changed_past_a_stop_of_who_asked_for_it() {
    let count = changes(&prepared()).len();
    for index in 0..count {
        in_every_order(&Stopped::WhoOrWhat, prepared, |rig| {
            vec![("dora", changes(rig).remove(index)), ("carol", Command::SuspendCaller(dora()))]
        });
    }
}

#[test]
fn every_stop_that_reaches_a_caller_ends_what_they_have_begun_to_change() {
    for stop in 1..5 {
        for index in [1, 4, 12] {
            in_every_order(&Stopped::WhoOrWhat, prepared, |rig| {
                vec![("dora", changes(rig).remove(index)), ("carol", stops_of_dora(rig)[stop].clone())]
            });
        }
    }
}

/// Whoever else is asked for it: what was asked before a stop lifts none, and gives nothing to whom it stopped.
#[test]
fn in_no_order_is_a_stop_lifted_by_what_was_asked_before_it() {
    for index in [0, 1, 4] {
        in_every_order(&Stopped::Whom, prepared, |rig| {
            vec![("carol", changes(rig).remove(index)), ("carol", Command::SuspendCaller(dora()))]
        });
    }
    in_every_order(&Stopped::Whom, prepared, |rig| {
        vec![
            ("carol", Command::PutCaller(registration(rig, "dora"))),
            ("carol", Command::RemoveCaller(dora())),
        ]
    });
    in_every_order(&Stopped::WhoOrWhat, prepared, |_| {
        vec![
            ("dora", transition("other", Transition::Resume)),
            ("carol", transition("other", Transition::Suspend)),
        ]
    });
    let stopped = || {
        let rig = prepared();
        now(rig.command("carol", Command::SuspendTenant)).unwrap();
        rig
    };
    in_every_order(&Stopped::WhoOrWhat, stopped, |_| {
        vec![("dora", Command::ResumeTenant), ("carol", Command::SuspendTenant)]
    });
}

/// What is no stop order takes something away all the same: a right, or what somebody is recognised by.
#[test]
fn in_no_order_is_anything_changed_by_what_was_taken_away_before() {
    let without_dora = "permit carol administer *\npermit kind:custodian read *";
    let takings = |rig: &Rig| {
        let anew = CallerRecord { tokens: vec![], credentials: vec![], ..registration(rig, "dora") };
        [Command::SetPolicy { text: Arc::from(without_dora), expected: None }, Command::PutCaller(anew)]
    };
    for index in [2, 11, 12, 14] {
        for taking in 0..2 {
            in_every_order(&Stopped::ByARight, prepared, |rig| {
                let who = if taking == 0 { "dora" } else { "dora by certificate" };
                vec![(who, changes(rig).remove(index)), ("carol", takings(rig)[taking].clone())]
            });
        }
    }
}

/// A command that comes upon a conflict is planned anew, by what is in force by then.
#[test]
fn whoever_asks_again_and_again_to_be_resumed_stays_suspended() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..300 {
        let path: Vec<_> = (0..60)
            .map(|_| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                usize::try_from(random >> 33).unwrap()
            })
            .collect();
        let rig = prepared();
        let mut orders = vec![("dora", Command::ResumeCaller(dora())); 4];
        orders.push(("carol", Command::SuspendCaller(dora())));
        let Played { acknowledged, late, .. } = play(&rig, orders, &path);
        assert_eq!(rig.state().position(), acknowledged, "{path:?}");
        assert!(late.iter().all(Result::is_err), "{path:?}");
        let view = rig.pipeline.tenant(&rig.acme).unwrap();
        assert!(view.data.callers.iter().any(|it| it.name == dora() && it.suspended), "{path:?}");
    }
}

#[test]
fn a_stop_waits_for_what_is_being_committed_and_a_seal_does_not() {
    let rig = prepared();
    rig.state().committing.hold();
    let rotating = Task::begun(rig.command("dora", Command::RotateKey(name("kek"))));
    rig.state().committing.hold_no_more();
    let mut stopping = Task::begun(rig.command("carol", Command::SuspendCaller(dora())));
    assert!(stopping.turn().is_none(), "what is being committed is not over");
    // A disk that hangs keeps no root key in memory.
    now(rig.pipeline.stop_everything());
    rig.state().committing.release();
    assert_eq!(rotating.finish().unwrap_err().kind(), ErrorKind::Sealed);
    assert!(stopping.finish().is_ok());
}

#[test]
fn what_a_device_takes_long_for_keeps_no_stop_waiting_and_is_not_put_in_force() {
    let rig = prepared();
    let before = rig.state().find(&rig.acme, &name("kek")).unwrap();
    rig.keys().generating.hold();
    let rotating = Task::begun(rig.command("dora", Command::RotateKey(name("kek"))));
    assert_eq!(rig.keys().generating.waiting(), 1);
    now(rig.command("carol", Command::SuspendCaller(dora()))).unwrap();
    rig.keys().generating.release();
    assert_eq!(rotating.finish().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap(), before);
    assert_eq!(rig.log().last().summary(), "rotate-key refused stopped");
}

/// A stop of others, or of another key, ends nothing.
#[test]
fn a_stop_of_something_else_ends_no_command() {
    let stops = [
        Command::SuspendCaller(alice()),
        Command::SuspendCaller("audrey".parse().unwrap()),
        transition("other", Transition::Suspend),
    ];
    for stop in stops {
        let rig = rig();
        rig.log().hold();
        let rotating = Task::begun(rig.command("dora", Command::RotateKey(name("kek"))));
        rig.log().release();
        now(rig.command("carol", stop.clone())).unwrap();
        assert!(rotating.finish().is_ok(), "{stop:?}");
    }
}

#[test]
fn no_stop_order_is_ended_by_a_stop() {
    for stop in [Command::SuspendCaller(alice()), transition("kek", Transition::Suspend)] {
        let rig = rig();
        rig.log().hold();
        let mut stopping = Task::begun(rig.command("dora", stop.clone()));
        let of_dora = rig.log().waiting();
        let suspending = Task::begun(rig.command("carol", Command::SuspendCaller(dora())));
        rig.log().release();
        suspending.finish().unwrap();
        assert!(!of_dora.is_empty());
        let ended = loop {
            if let Some(ended) = stopping.turn() {
                break ended;
            }
        };
        assert_eq!(ended.unwrap().durability, Durability::Durable, "{stop:?}");
    }
}

/// What else custodians and operators can ask for, whether or not it could be done here: it is ended before that is looked at.
fn other_changes(rig: &Rig) -> Vec<Command> {
    let kek = || name("kek");
    let version = |verb| Command::TransitionVersion {
        key: kek(),
        version: KeyVersion::FIRST,
        verb,
        without_inventory: true,
    };
    let taken = TakenInventory {
        current: KeyVersion::FIRST,
        newest: KeyVersion::FIRST,
        needed: vec![],
        items: 0,
        sha256: [0; 32],
        bytes: 0,
    };
    let finish = FinishImport {
        key: kek(),
        wrapped: Arc::from([]),
        check_value: Arc::from([]),
        past: Past::DecryptOnly,
    };
    let adopt = AdoptKey {
        new: new_key("new", Algorithm::Xaes256Gcm),
        label: Some(Arc::from("label")),
        id: None,
        past: Past::DecryptOnly,
        accept_extractable: false,
    };
    let archive = rig.pipeline.new_operation().unwrap();
    let request = RequestCopy { key: kek(), seconds: 60, reason: "a drill".into(), versions: vec![] };
    let member = || "a".parse().unwrap();
    vec![
        Command::BeginImport(BeginImport { new: new_key("new", Algorithm::Xaes256Gcm), seconds: 60 }),
        Command::FinishImport(finish),
        Command::AdoptKey(adopt),
        Command::ArchiveKey(kek()),
        Command::ConfirmArchive { key: kek(), code: [0; 32] },
        Command::UnarchiveKey(UnarchiveKey { key: kek(), archive, versions: vec![] }),
        version(VersionVerb::Deactivate),
        version(VersionVerb::Activate),
        version(VersionVerb::Destroy),
        Command::RecordInventory { key: kek(), taken },
        Command::ActivateKey { key: kek(), unprotected: true },
        transition("kek", Transition::Activate),
        transition("kek", Transition::CancelDestruction),
        Command::RequestCopy(request),
        Command::ApproveCopy { key: kek(), shares: Arc::from([]) },
        Command::EndCopy(kek()),
        Command::CreateTenant(people("third", POLICY, &rig.world)),
        Command::BackUp,
        Command::VerifyBackup(VerifiedBackup { sha256: [0; 32], bytes: 0, commit: 0, proof: [0; 32] }),
        Command::ConfirmClock,
        Command::MoveMember { member: member(), to: Membership::Drained },
        Command::MoveMember { member: member(), to: Membership::Joined },
    ]
}

/// Whether an operator asks for it, in the gateway itself.
fn is_operators(command: &Command) -> bool {
    matches!(
        command,
        Command::CreateTenant(_)
            | Command::BackUp
            | Command::VerifyBackup(_)
            | Command::ConfirmClock
            | Command::MoveMember { .. }
    )
}

#[test]
fn whatever_the_command_is_it_does_nothing_once_its_caller_is_stopped() {
    let count = other_changes(&prepared()).len();
    for index in 0..count {
        let rig = prepared();
        let command = other_changes(&rig).remove(index);
        let what = format!("{command:?}");
        let is_operators = is_operators(&command);
        let (tenant, who) = if is_operators { (&rig.gateway, "olga") } else { (&rig.acme, "dora") };
        rig.log().hold();
        let asking = rig.inbound_at(tenant, who);
        let asked = Task::begun(rig.pipeline.command(&asking, command));
        let intent = rig.log().waiting();
        // Nobody stops an operator here, but for a seal.
        if is_operators {
            now(rig.pipeline.stop_everything());
        } else {
            let mut stopping = Task::new(rig.command("carol", Command::SuspendCaller(dora())));
            let stopped = loop {
                if let Some(stopped) = stopping.turn() {
                    break stopped;
                }
                let of_the_stop = rig.log().waiting().into_iter().filter(|index| !intent.contains(index));
                of_the_stop.for_each(|index| rig.log().resolve(index));
            };
            assert_eq!(stopped.unwrap().durability, Durability::Durable, "{what}");
        }
        let acknowledged = rig.state().position();
        rig.log().release();
        let kind = if is_operators { ErrorKind::Sealed } else { ErrorKind::Stopped };
        assert_eq!(asked.finish().map(drop).unwrap_err().kind(), kind, "{what}");
        assert_eq!(rig.state().position(), acknowledged, "{what}");
        assert_eq!(rig.log().last().text("reason"), kind.code());
    }
}

#[test]
fn every_action_that_changes_something_is_tried_here() {
    let rig = prepared();
    let tried: BTreeSet<_> =
        changes(&rig).iter().chain(&other_changes(&rig)).map(|command| command.action().name()).collect();
    let untried = |action: &&Action| {
        action.group() == Group::Administer && !action.is_stop() && !tried.contains(action.name())
    };
    let untried: Vec<_> = Action::ALL.iter().filter(untried).map(|action| action.name()).collect();
    assert_eq!(untried, Vec::<&str>::new());
}
