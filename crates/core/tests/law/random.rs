//! Any calls, interleaved in any way, with faults at every port and crashes in between: every outcome is closed in the log exactly once,
//! no result is without its durable record, and nothing of what was stopped succeeds behind the stop.

mod oracle;
mod steps;

use holdfast_conformance::doubles::{CommitFault, Fate, KeyFault};
use holdfast_conformance::rig::{Rig, call, context, decrypt, encrypt, name, new_key};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::Durability;
use holdfast_core::context::Context;
use holdfast_core::operation::Operation;
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::{Call, Inbound};
use holdfast_core::port::State;
use holdfast_core::query::Query;
use holdfast_core::{Error, ErrorKind, OperationId};
use oracle::{each_is_closed_once, no_success_behind_a_stop, summaries};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::Arc;
use steps::{KEYS, Order, Step, What, Who, command, concerns, lift_of, steps};

/// Orders that lift a stop.
const LIFTS: [Order; 6] = [
    Order::Resume(0),
    Order::Resume(1),
    Order::CancelDestruction(0),
    Order::CancelDestruction(1),
    Order::ResumeAlice,
    Order::ResumeTenant,
];

/// What somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Of a key, by its number, or of none.
    Use(Who, Option<u8>),
    Order(Order),
    Query,
    Housekeep,
}

type Ended = Vec<(OperationId, Result<(), ErrorKind>)>;

/// A call under way.
struct Running {
    ask: Ask,
    begun: usize,
    task: Task<'static, (Ended, Option<Durability>)>,
}

/// A stop that was acknowledged, or an order that lifts one.
#[derive(Debug, Clone, Copy)]
struct Ordered {
    order: Order,
    begun: usize,
    ended: Option<usize>,
}

struct Play {
    rig: Option<Arc<Rig>>,
    sealed: [Vec<u8>; 2],
    running: Vec<Running>,
    stops: Vec<Ordered>,
    lifts: Vec<Ordered>,
    clock: usize,
    is_lost: bool,
}

/// Gives others a turn.
async fn pause() {
    let mut paused = false;
    core::future::poll_fn(|context| {
        if core::mem::replace(&mut paused, true) {
            return core::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await;
}

fn inbound(rig: &Rig, who: Who) -> Inbound<'_> {
    match who {
        Who::Alice => rig.inbound("alice"),
        Who::Bob => rig.inbound("bob"),
        Who::Nobody => rig.inbound_with(&rig.acme, Proof::None),
    }
}

impl Play {
    fn new() -> Self {
        let rig = Rig::new();
        rig.keys().pool(&["a", "b"]);
        let sealed = KEYS.map(|key| {
            now(rig.create(new_key(key, Algorithm::Xaes256Gcm))).unwrap();
            now(rig.bytes("alice", key, encrypt(b"data", context(&[])))).unwrap()
        });
        rig.log().hold();
        let (running, stops, lifts) = (Vec::new(), Vec::new(), Vec::new());
        Self { rig: Some(Arc::new(rig)), sealed, running, stops, lifts, clock: 0, is_lost: false }
    }

    fn rig(&self) -> Arc<Rig> {
        Arc::clone(self.rig.as_ref().unwrap())
    }

    fn call(&self, key: u8, what: What) -> (Option<u8>, Call) {
        let named = KEYS[usize::from(key)];
        let of_key = |operation| (Some(key), call(named, operation));
        match what {
            What::Encrypt => of_key(encrypt(b"data", context(&[]))),
            What::Decrypt => of_key(decrypt(&self.sealed[usize::from(key)], context(&[]))),
            What::DataKey => {
                of_key(Operation::DataKey { length: 32, with_plaintext: true, context: Context::EMPTY })
            }
            What::Random => (None, Call::Random { length: 16 }),
            What::Missing => (None, call("missing", encrypt(b"data", context(&[])))),
        }
    }

    fn begin(&mut self, ask: Ask, task: impl Future<Output = (Ended, Option<Durability>)> + 'static) {
        self.clock += 1;
        if let Ask::Order(order) = ask
            && LIFTS.contains(&order)
        {
            self.lifts.push(Ordered { order, begun: self.clock, ended: None });
        }
        self.running.push(Running { ask, begun: self.clock, task: Task::new(task) });
        self.turn(self.running.len() - 1);
    }

    fn turn(&mut self, index: usize) {
        let Some((ended, durability)) = self.running[index].task.turn() else { return };
        let Running { ask, begun, .. } = self.running.remove(index);
        self.clock += 1;
        for (operation, result) in &ended {
            self.check(ask, begun, *operation, *result, durability);
        }
        if let Ask::Order(order) = ask {
            let is_acknowledged = ended.iter().all(|(_, result)| result.is_ok());
            if is_acknowledged && command(order).action().is_stop() {
                self.stops.push(Ordered { order, begun, ended: Some(self.clock) });
            }
            if let Some(lift) = self.lifts.iter_mut().find(|lift| lift.begun == begun) {
                lift.ended = Some(self.clock);
            }
        }
    }

    /// What must hold at the moment when a call has ended.
    fn check(
        &self,
        ask: Ask,
        begun: usize,
        operation: OperationId,
        result: Result<(), ErrorKind>,
        durability: Option<Durability>,
    ) {
        let entries = self.rig().log().about(operation);
        let what = || format!("{ask:?} {result:?} {:?}", summaries(&entries));
        let is_closed = |outcome: &str| {
            let last = entries.last().unwrap_or_else(|| panic!("no record: {}", what()));
            assert_eq!(last.fate, Fate::Durable, "{}", what());
            assert!(last.summary().ends_with(outcome), "{outcome}: {}", what());
        };
        match (ask, result) {
            (Ask::Housekeep, _) => {}
            (_, Err(ErrorKind::Unauthenticated)) => assert!(entries.is_empty(), "{}", what()),
            (Ask::Order(_), Ok(())) if durability == Some(Durability::InForce) => {}
            (_, Ok(())) => is_closed("success"),
            // The record itself could not be made durable, or the state cannot tell yet.
            (_, Err(ErrorKind::AuditUnavailable | ErrorKind::Throttled)) => {}
            (Ask::Order(_), Err(ErrorKind::StateUnavailable)) => {}
            // What was recorded before the stop did not leave after it.
            (_, Err(ErrorKind::Stopped))
                if entries.last().is_some_and(|e| e.text("outcome") == "success") => {}
            (_, Err(kind)) => is_closed(&format!("refused {}", kind.code())),
        }
        match ask {
            Ask::Order(_) | Ask::Housekeep => {}
            Ask::Use(..) | Ask::Query => assert!(entries.len() <= 1, "{}", what()),
        }
        if let (Ask::Use(who, key), Ok(())) = (ask, result) {
            for stop in &self.stops {
                let acknowledged = stop.ended.unwrap();
                let is_late = begun < acknowledged && acknowledged < self.clock;
                // Somebody may have lifted it before it was acknowledged, and then let the use through.
                let is_lifted = self.lifts.iter().any(|lift| {
                    lift_of(stop.order) == Some(lift.order)
                        && lift.ended.is_none_or(|ended| ended > stop.begun)
                });
                assert!(
                    !is_late || !concerns(stop.order, who, key) || is_lifted,
                    "left past {stop:?}: {}",
                    what()
                );
            }
        }
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        let rig = self.rig();
        match step {
            Step::Use(who, key, what) => {
                let (key, call) = self.call(key, what);
                self.begin(Ask::Use(who, key), async move {
                    let inbound = inbound(&rig, who);
                    let result = rig.pipeline.use_key(&inbound, call).await;
                    pause().await;
                    (vec![(inbound.operation, result.map(drop).map_err(|error| error.kind()))], None)
                });
            }
            Step::Batch(key, items) => {
                let calls: Vec<_> = (0..items)
                    .map(|_| (rig.pipeline.new_operation().unwrap(), Ok(self.call(key, What::Encrypt).1)))
                    .collect();
                self.begin(Ask::Use(Who::Alice, Some(key)), async move {
                    let operations: Vec<_> = calls.iter().map(|(operation, _)| *operation).collect();
                    let inbound = inbound(&rig, Who::Alice);
                    let results = rig.pipeline.use_keys(&inbound, calls).await.unwrap();
                    pause().await;
                    let kinds = results.into_iter().map(|result| result.map(drop).map_err(|e| e.kind()));
                    (operations.into_iter().zip(kinds).collect(), None)
                });
            }
            Step::Order(order) => self.begin(Ask::Order(order), async move {
                let inbound = rig.inbound("carol");
                let result = rig.pipeline.command(&inbound, command(order)).await;
                pause().await;
                let durability = result.as_ref().ok().map(|released| released.value.durability);
                (vec![(inbound.operation, result.map(drop).map_err(|error| error.kind()))], durability)
            }),
            Step::Query(of_key) => self.begin(Ask::Query, async move {
                let inbound = rig.inbound("audrey");
                let query = if of_key { Query::Key(name("k0")) } else { Query::Callers };
                let result = rig.pipeline.query(&inbound, query).await;
                pause().await;
                (vec![(inbound.operation, result.map(drop).map_err(|error| error.kind()))], None)
            }),
            Step::Housekeep => self.begin(Ask::Housekeep, async move {
                let _ = rig.pipeline.do_what_is_due(|| true).await;
                let _ = rig.pipeline.housekeep().await;
                (vec![], None)
            }),
            // Long enough for a key that waits, if nothing holds the gateway up.
            Step::Day => self.begin(Ask::Housekeep, async move {
                for _ in 0..26 {
                    rig.world.pass(3600);
                    let _ = rig.pipeline.do_what_is_due(|| true).await;
                    let _ = rig.pipeline.housekeep().await;
                }
                (vec![], None)
            }),
            Step::TakeAway(is_away) => rig.keys().take_away("b", is_away),
            Step::Turn(which) => {
                let woken: Vec<_> =
                    (0..self.running.len()).filter(|index| self.running[*index].task.is_woken()).collect();
                if !woken.is_empty() {
                    self.turn(woken[usize::from(which) % woken.len()]);
                }
            }
            Step::Resolve(which) => {
                let waiting = rig.log().waiting();
                if !waiting.is_empty() {
                    rig.log().resolve(waiting[usize::from(which) % waiting.len()]);
                }
            }
            Step::Sync => rig.log().sync(),
            Step::HoldKeys(true) => rig.keys().performing.hold(),
            Step::HoldKeys(false) => rig.keys().performing.release(),
            Step::HoldCommits(true) => rig.state().committing.hold(),
            Step::HoldCommits(false) => rig.state().committing.release(),
            Step::HoldReads(true) => rig.state().reading.hold(),
            Step::HoldReads(false) => rig.state().reading.release(),
            Step::FailKeys(true) => rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable)),
            Step::FailKeys(false) => rig.keys().fault(KeyFault::WrongProduct),
            Step::FailCommit(which) => rig.state().fault(match which {
                0 | 1 => CommitFault::Before(ErrorKind::StateUnavailable),
                2 => CommitFault::Before(ErrorKind::Conflict),
                _ => CommitFault::After(ErrorKind::StateUnavailable),
            }),
            Step::FailReads(reads) => rig.state().fail_reads(u32::from(reads)),
            Step::FailAppend => rig.log().fault(ErrorKind::Throttled),
            Step::FillLog(full) => rig.log().set_full(full),
            Step::LoseLog => {
                self.is_lost = true;
                rig.log().set_broken(true);
                rig.log().waiting().into_iter().for_each(|index| rig.log().fail(index));
            }
            Step::Crash(lucky) => {
                drop(rig);
                self.crash(lucky)?;
                self.rig().log().hold();
            }
        }
        Ok(())
    }

    fn crash(&mut self, lucky: u8) -> Result<(), Error> {
        self.clock += 1;
        self.running.clear();
        self.lifts.iter_mut().for_each(|lift| lift.ended = lift.ended.or(Some(self.clock)));
        let rig = Arc::into_inner(self.rig.take().unwrap()).unwrap();
        self.rig = Some(Arc::new(rig.crash(usize::from(lucky))?));
        self.is_lost = false;
        Ok(())
    }

    /// Lets everything end that has begun, heals everything, and looks at the whole log.
    fn end(&mut self) -> Result<(), Error> {
        if self.is_lost {
            self.crash(0)?;
        }
        let rig = self.rig();
        for _ in 0..200 {
            rig.log().heal();
            rig.state().heal();
            rig.keys().heal();
            rig.keys().take_away("b", false);
            rig.log().release();
            rig.state().committing.release();
            rig.state().reading.release();
            rig.keys().performing.release();
            (0..self.running.len()).rev().for_each(|index| self.turn(index));
        }
        assert!(self.running.is_empty(), "{} calls never end", self.running.len());
        now(rig.pipeline.housekeep()).unwrap();
        now(rig.pipeline.do_what_is_due(|| true)).unwrap();
        assert_eq!(rig.pipeline.pending_stops(), 0);
        let recovery = rig.log().recovery();
        assert!(recovery.intents.is_empty(), "{:?}", recovery.intents);
        assert_eq!(recovery.committed, Some(rig.state().position()));
        let entries = rig.log().of("acme");
        each_is_closed_once(&entries);
        no_success_behind_a_stop(&entries);
        drop(rig);
        self.crash(0)
    }
}

fn play(steps: &[Step]) {
    let mut play = Play::new();
    for step in steps {
        play.step(*step).unwrap_or_else(|error| panic!("{error}"));
    }
    play.end().unwrap_or_else(|error| panic!("{error}"));
}

fn plays(seed: u8, cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let many = prop::collection::vec(steps(), 1..120);
    if let Err(failure) = runner.run(&many, |steps| {
        play(&steps);
        Ok(())
    }) {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn any_calls_with_any_faults_keep_the_law() {
    plays(1, 600);
}

#[test]
#[ignore = "slow: `cargo xtask test --slow` runs it"]
fn a_great_many_calls_with_any_faults_keep_the_law() {
    (2..102).for_each(|seed| plays(seed, 1000));
}
