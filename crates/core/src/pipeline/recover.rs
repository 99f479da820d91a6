//! What is left over: by a crash, found at start; by a full disk, retried until it is done.

use super::command::{Undone, is_passing, own_inbound, subject};
use super::device::DeviceUnsealing;
use super::found::{not_loaded, own_caller};
use super::proof::{Intent, Permit};
use super::record::{Done, Facts, NamedKey, Scene};
use super::schedule::AGAIN;
use super::unseal::Unsealing;
use super::versions::destruction;
use super::{Engines, NO_CONTEXT, Pipeline};
use crate::action::Action;
use crate::command::Command;
use crate::context::Context;
use crate::destruction::WaitingPeriod;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyName, OperationId, TenantId, TokenId};
use crate::key::Key;
use crate::lifecycle::Transition;
use crate::noise::Summary;
use crate::port::{Committed, Jump, KeyStore as _, Mark, Ports, Priority, State, World};
use crate::stop::{StopEpoch, Target};
use crate::sync::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// A command whose intent stands in the log without an outcome, read from its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// The operation.
    pub operation: OperationId,
    /// In whose log it stands.
    pub tenant: TenantId,
    /// What was about to be done.
    pub action: Action,
    /// To which key.
    pub key: Option<KeyName>,
    /// To what else, as the event's `subject` says.
    pub subject: Option<Box<str>>,
}

/// What the log found when it was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The newest position of the state that the log has recorded.
    pub committed: Option<Committed>,
    /// Commands without an outcome.
    pub intents: Vec<OpenIntent>,
    /// Bytes of an incomplete tail that were cut: never acknowledged to anybody.
    pub cut_bytes: u64,
}

/// What waits to be done.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    stops: Mutex<Left<PendingStop>>,
    intents: Mutex<Left<OpenIntent>>,
    /// Rotations that a budget demands, each with the ticks before which it is not tried.
    rotations: Mutex<BTreeMap<(TenantId, KeyName), u64>>,
    pub(super) jump: Mutex<Option<Jump>>,
    pub(super) unsealing: Mutex<Option<Unsealing>>,
    pub(super) device: Mutex<Option<DeviceUnsealing>>,
}

/// What is left to be done again. What is at hand is still left, until it is done.
#[derive(Debug)]
struct Left<T> {
    waiting: Vec<T>,
    at_hand: Vec<T>,
}

impl<T> Default for Left<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), at_hand: Vec::new() }
    }
}

impl<T: Clone> Left<T> {
    fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().chain(&self.at_hand)
    }

    /// Takes all that waits in hand.
    fn take(&mut self) -> Vec<T> {
        let Self { waiting, at_hand } = self;
        at_hand.extend(waiting.iter().cloned());
        core::mem::take(waiting)
    }

    /// One of them is out of hand; `again` waits once more.
    fn put(&mut self, is_it: impl Fn(&T) -> bool, again: Option<T>) {
        self.at_hand.retain(|item| !is_it(item));
        self.waiting.extend(again);
    }
}

/// A stop order that is in force and not yet durable.
#[derive(Debug, Clone)]
pub(super) struct PendingStop {
    pub(super) operation: OperationId,
    pub(super) tenant: TenantId,
    pub(super) command: Command,
    pub(super) target: Target,
    /// Whether its intent is durable.
    pub(super) is_intended: bool,
    /// Whether it is carried out, so that only its record is missing.
    pub(super) is_settled: bool,
    /// Why it cannot be carried out any more, if it cannot.
    pub(super) impossible: Option<(ErrorKind, Stage, String)>,
}

impl Unfinished {
    fn stops(&self) -> MutexGuard<'_, Left<PendingStop>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn intents(&self) -> MutexGuard<'_, Left<OpenIntent>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop_is_pending(&self, stop: PendingStop) {
        self.stops().waiting.push(stop);
    }

    /// Whether a stop of this target is in force and not yet durable.
    pub(super) fn is_pending(&self, target: &Target) -> bool {
        self.stops().iter().any(|stop| stop.target == *target)
    }

    pub(super) fn intent_is_open(&self, open: OpenIntent) {
        self.intents().waiting.push(open);
    }

    /// Whether any command waits to be closed.
    pub(super) fn has_open_intents(&self) -> bool {
        self.intents().iter().next().is_some()
    }

    /// Whether a pruning of this log waits to be finished.
    pub(super) fn is_pruning(&self, tenant: &TenantId) -> bool {
        self.intents().iter().any(|open| open.tenant == *tenant && open.action == Action::PruneAudit)
    }

    /// Where it was due already and has failed, the next attempt comes no sooner for that.
    pub(super) fn rotation_is_due(&self, tenant: &TenantId, key: &KeyName) {
        self.rotations().entry((tenant.clone(), key.clone())).or_default();
    }

    fn rotations(&self) -> MutexGuard<'_, BTreeMap<(TenantId, KeyName), u64>> {
        self.rotations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Ports> Pipeline<P> {
    /// Opens a founded gateway: compares state and log, loads every tenant, closes what a crash left open.
    ///
    /// # Errors
    /// `state-unavailable` when state and log do not belong together, and whatever the ports fail with.
    pub async fn open(engines: Engines<P>, is_dev: bool, recovery: Recovery) -> Result<Self, Error> {
        let orders = agree(&engines.state, &recovery).await?;
        let pipeline = Self::unloaded(engines, is_dev);
        for data in pipeline.engines.state.tenants().await? {
            pipeline.snapshots.install(&pipeline.engines, data).await?;
        }
        if recovery.cut_bytes > 0 {
            pipeline.record_cut(recovery.cut_bytes).await?;
        }
        for intent in recovery.intents {
            match pipeline.close(intent.clone()).await {
                // Nothing depends on what is still to go.
                Err(_) if intent.action == Action::PruneAudit => pipeline.unfinished.intent_is_open(intent),
                closed => drop(closed?),
            }
        }
        for order in orders {
            pipeline.tell(order).await?;
        }
        pipeline.hold_clock_again();
        pipeline.keep_members_out();
        Ok(pipeline)
    }

    /// How many stop orders are in force and not yet durable.
    pub fn pending_stops(&self) -> usize {
        self.unfinished.stops().iter().count()
    }

    /// The same as [`Pipeline::keep_up`], the summaries of noise and of throttled requests included. To be called every minute or so and before the end; whatever fails
    /// is kept for the next time, and the first failure is given back for the log.
    ///
    /// # Errors
    /// The first failure.
    pub async fn housekeep(&self) -> Result<(), Error> {
        let settled = self.keep_up().await;
        settled.and(self.flush_noise().await).and(self.flush_throttled().await)
    }

    /// Does what must wait for nobody: stop orders that are not durable yet, commands that could not be closed, a jump of the clock, an
    /// unsealing or a member of the pool that came, has gone or was put out that is not recorded yet. No key store is asked for anything. To be called every second or
    /// so; whatever fails is kept for the next time.
    ///
    /// # Errors
    /// The first failure.
    pub async fn keep_up(&self) -> Result<(), Error> {
        let results = [
            self.retry_stops().await,
            self.close_open().await,
            self.watch_clock().await,
            self.record_device_waiting().await,
            self.record_unsealed().await,
            self.record_ejections().await,
            self.note_members().await,
            self.expire_copies(),
            self.count_uptime().await,
            self.use_protected().await,
        ];
        results.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    /// Does what is due: rotations that a budget or a schedule demands, destructions, and the erasures that follow. It waits for devices, so it
    /// MUST NOT be in the way of [`Pipeline::keep_up`]. To be called every second or so; whatever fails is kept for later. Nothing more is begun
    /// once `go_on` says so: what was due then is found by the next start.
    ///
    /// # Errors
    /// The first failure.
    pub async fn do_what_is_due(&self, go_on: impl Fn() -> bool + Sync) -> Result<(), Error> {
        // First, so that a jump makes nothing due.
        let watched = self.watch_clock().await;
        let rotated = self.rotate_due().await;
        watched.and(rotated).and(self.look_at_due(go_on).await)
    }

    /// Both, for who has one task for them.
    ///
    /// # Errors
    /// The first failure.
    pub async fn finish_what_waits(&self) -> Result<(), Error> {
        let settled = self.keep_up().await;
        settled.and(self.do_what_is_due(|| true).await)
    }

    async fn retry_stops(&self) -> Result<(), Error> {
        let mut failed = Ok(());
        let stops = self.unfinished.stops().take();
        for mut stop in stops {
            let retried = self.retry_stop(&mut stop).await;
            let operation = stop.operation;
            let again = retried.is_err().then_some(stop);
            self.unfinished.stops().put(|stop| stop.operation == operation, again);
            failed = retried.and(failed);
        }
        failed
    }

    async fn close_open(&self) -> Result<(), Error> {
        let mut failed = Ok(());
        let intents = self.unfinished.intents().take();
        for intent in intents {
            let closed = self.close(intent.clone()).await;
            let operation = intent.operation;
            let again = closed.is_err().then_some(intent);
            self.unfinished.intents().put(|open| open.operation == operation, again);
            failed = closed.map(drop).and(failed);
        }
        failed
    }

    async fn retry_stop(&self, stop: &mut PendingStop) -> Result<(), Error> {
        let own = own_caller(&stop.tenant)?;
        let view = self.tenant(&stop.tenant).ok_or_else(not_loaded)?;
        let world = &self.engines.world;
        let inbound = own_inbound(stop.operation, &stop.tenant, world.now(), world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(stop.operation, stop.command.action());
        facts.key = stop.command.key().cloned().map(NamedKey::unknown);
        facts.subject = subject(&stop.command);
        if !stop.is_intended {
            let mark = Mark::Intent(stop.operation);
            let ((), recording) =
                self.record(&scene, &facts, mark, Priority::Stop, || ((), Ok(Done::Intent)))?;
            let _receipt = recording.durable(&self.engines.log).await?;
            stop.is_intended = true;
        }
        facts.state = self.engines.state.committed(stop.operation).await?;
        if !stop.is_settled {
            if facts.state.is_some() {
                self.reload(&stop.tenant).await?;
                facts.key = self.note_written(&stop.tenant, stop.command.key()).await?.or(facts.key);
            } else {
                let permit =
                    Permit::own(stop.operation, stop.tenant.clone(), own.name().clone(), StopEpoch::END);
                let intent = Intent::urgent(permit, facts.open_intent(&stop.tenant))?;
                stop.impossible =
                    impossible(self.carry_out(&scene, &mut facts, &intent, &stop.command).await)?;
            }
            self.stops.settle(&stop.target);
            stop.is_settled = true;
        }
        let ended = stop.impossible.clone().map_or(Ok(Done::Success), Err);
        let mark = Mark::Outcome(stop.operation, facts.state);
        let ((), recording) = self.record(&scene, &facts, mark, Priority::Stop, || ((), ended))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        Ok(())
    }

    async fn rotate_due(&self) -> Result<(), Error> {
        let now = self.engines.world.ticks();
        let due: Vec<_> = self.unfinished.rotations().extract_if(.., |_, at| *at <= now).collect();
        let mut failed = Ok(());
        for (key, _) in due {
            if let Err(error) = self.rotate_by_itself(&key.0, &key.1).await {
                // Each attempt is recorded: not every second.
                self.unfinished.rotations().insert(key, now + AGAIN * 1_000_000);
                failed = Err(error);
            }
        }
        failed
    }

    /// A rotation that a key version's budget demands.
    async fn rotate_by_itself(&self, tenant: &TenantId, key: &KeyName) -> Result<(), Error> {
        let Some(entry) = self.engines.state.key(tenant, key).await? else { return Ok(()) };
        // Somebody may have rotated or stopped it meanwhile; a fresh version asks again when it has been used up.
        let used = self.engines.state.count(entry.key.id, entry.current.number, 0).await?;
        if used < super::work::ROTATE_AT || entry.key.state != crate::lifecycle::KeyState::Active {
            return Ok(());
        }
        let alarm = Some(format!("rotated by itself after {used} invocations").into());
        self.rotate_own(tenant, &entry.key, alarm, None).await
    }

    /// Rotates a key by the gateway's own order, recorded like anybody's.
    pub(super) async fn rotate_own(
        &self,
        tenant: &TenantId,
        key: &Key,
        alarm: Option<Box<str>>,
        subject: Option<Box<str>>,
    ) -> Result<(), Error> {
        let own = own_caller(tenant)?;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, tenant, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, Action::RotateKey);
        facts.key = Some(NamedKey::of(key, None));
        (facts.alarm, facts.subject) = (alarm, subject);
        let intent = self.own_intent(&scene, &facts).await?;
        let rotate = Command::RotateKey(key.name.clone());
        let (_done, _receipt) = self.carry_out_and_close(&scene, &mut facts, &intent, &rotate).await?;
        Ok(())
    }

    async fn flush_noise(&self) -> Result<(), Error> {
        let summaries = self.noise.take();
        if summaries.is_empty() {
            return Ok(());
        }
        let mut rest = summaries.as_slice();
        while let Some((summary, more)) = rest.split_first() {
            if let Err(error) = self.record_noise(summary).await {
                self.noise.restore(rest);
                return Err(error);
            }
            rest = more;
        }
        Ok(())
    }

    async fn record_noise(&self, summary: &Summary) -> Result<(), Error> {
        let Summary { prefix, reason, count } = summary;
        let pairs = vec![
            ("count".into(), count.to_string().into()),
            ("reason".into(), (*reason).into()),
            ("source".into(), prefix.to_string().into()),
        ];
        self.record_gateway(Action::Noise, Context::new(pairs)?, None).await
    }

    async fn record_cut(&self, bytes: u64) -> Result<(), Error> {
        let alarm = format!(
            "{bytes} bytes of an incomplete write were cut from the end of the log; none was acknowledged"
        );
        self.record_gateway(Action::Recover, Context::EMPTY, Some(alarm.into())).await
    }

    pub(super) async fn record_gateway(
        &self,
        action: Action,
        context: Context,
        alarm: Option<Box<str>>,
    ) -> Result<(), Error> {
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        let view = self.tenant(&gateway).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let mut facts = Facts::new(operation, action);
        facts.alarm = alarm;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        self.record_own(&scene, &facts, Mark::Plain).await
    }

    /// Lets the log know of a stop order that stands in another record only: the state's, while the log took nothing, or an earlier log. Gives
    /// whether it is carried out.
    pub(super) async fn tell(&self, order: OpenIntent) -> Result<bool, Error> {
        let OpenIntent { operation, tenant, action, key, subject } = &order;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let own = own_caller(tenant)?;
        let inbound = own_inbound(*operation, tenant, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(*operation, *action);
        facts.key = key.clone().map(NamedKey::unknown);
        facts.subject = subject.clone();
        let mark = Mark::Intent(*operation);
        let ((), recording) = self.record(&scene, &facts, mark, Priority::Stop, || ((), Ok(Done::Intent)))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        self.close(order).await
    }

    /// A key's record was written after all: what waits for its time, and what is held of it, follows. Gives the key as its event names it: a name
    /// alone may have been another's.
    async fn note_written(
        &self,
        tenant: &TenantId,
        key: Option<&KeyName>,
    ) -> Result<Option<NamedKey>, Error> {
        let Some(key) = key else { return Ok(None) };
        let Some(entry) = self.engines.state.key(tenant, key).await? else { return Ok(None) };
        self.engines.keys.forget(entry.key.id);
        self.agenda.note(&entry.key);
        Ok(Some(NamedKey::of(&entry.key, None)))
    }

    /// Closes an intent that was left open: done if the state says so, done now if it was a stop order, undone otherwise. Gives whether it is done.
    async fn close(&self, open: OpenIntent) -> Result<bool, Error> {
        let OpenIntent { operation, tenant, action, key, subject } = open;
        let Some(view) = self.tenant(&tenant) else { return Ok(false) };
        let own = own_caller(&tenant)?;
        let inbound = own_inbound(operation, &tenant, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, action);
        facts.key = key.clone().map(NamedKey::unknown);
        facts.subject = subject.clone();
        facts.state = self.engines.state.committed(operation).await?;
        let ended = if facts.state.is_some() {
            self.reload(&tenant).await?;
            facts.key = self.note_written(&tenant, key.as_ref()).await?.or(facts.key);
            if let (Action::CreateTenant, Some(Ok(new))) = (action, subject.as_deref().map(str::parse)) {
                // As the outcome below: a full disk keeps no start from closing what was left open.
                self.record_birth(&inbound, &own, (&new, Priority::Stop)).await?;
            }
            Ok(Done::Recovered)
        } else if let Some(command) = stop_order(action, key.clone(), subject.as_deref()) {
            let permit = Permit::own(operation, tenant.clone(), own.name().clone(), StopEpoch::END);
            let intent = Intent::urgent(permit, facts.open_intent(&tenant))?;
            let carried_out = self.carry_out(&scene, &mut facts, &intent, &command).await;
            impossible(carried_out)?.map_or(Ok(Done::Recovered), Err)
        } else if let Some(command) = destruction(action, key, subject.as_deref()) {
            // Its material may be gone already: what has begun is brought to its end.
            let permit = Permit::own(operation, tenant.clone(), own.name().clone(), StopEpoch::END);
            let carried_out = self.carry_out(&scene, &mut facts, &Intent::own(permit), &command).await;
            impossible(carried_out)?.map_or(Ok(Done::Recovered), Err)
        } else if action == Action::PruneAudit {
            self.prune_on(&facts, &tenant).await?;
            Ok(Done::Recovered)
        } else if action == Action::EraseKey {
            let detail = "interrupted: what is pending is asked again";
            Err((ErrorKind::Internal, Stage::Start, detail.to_owned()))
        } else {
            Err((ErrorKind::Internal, Stage::Start, "interrupted before it changed anything".to_owned()))
        };
        let is_done = ended.is_ok();
        let mark = Mark::Outcome(operation, facts.state);
        let ((), recording) = self.record(&scene, &facts, mark, Priority::Stop, || ((), ended))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        Ok(is_done)
    }
}

/// Whether a stop order that is given again has become impossible: what there was to stop is gone, or stopped for good already.
///
/// # Errors
/// What passes by itself.
fn impossible(
    carried_out: Result<crate::command::Done, Undone>,
) -> Result<Option<(ErrorKind, Stage, String)>, Error> {
    match carried_out {
        Ok(_) => Ok(None),
        Err(Undone::Refused(error)) if !is_passing(error.kind()) => {
            Ok(Some((error.kind(), error.stage(), error.chain())))
        }
        Err(Undone::Refused(error) | Undone::Open(error)) => Err(error),
    }
}

/// The stop order that an open intent was, so that it can be given again.
pub(super) fn stop_order(action: Action, key: Option<KeyName>, subject: Option<&str>) -> Option<Command> {
    let transition = |verb| key.clone().map(|key| Command::TransitionKey { key, verb });
    let named = || subject.and_then(|subject| subject.parse().ok());
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`Action::is_stop` tells which these are, and a test compares"
    )]
    match action {
        Action::SuspendKey => transition(Transition::Suspend),
        Action::CompromiseKey => transition(Transition::Compromise),
        Action::DeactivateKey => transition(Transition::Deactivate),
        Action::DestroyKey => transition(Transition::Destroy(subject.and_then(WaitingPeriod::from_text))),
        Action::SuspendCaller => named().map(Command::SuspendCaller),
        Action::RemoveCaller => named().map(Command::RemoveCaller),
        Action::RemoveAnchor => named().map(Command::RemoveAnchor),
        Action::RevokeToken => {
            let (caller, token) = subject?.split_once(' ')?;
            Some(Command::RevokeToken { caller: caller.parse().ok()?, token: token.parse::<TokenId>().ok()? })
        }
        Action::SuspendTenant => Some(Command::SuspendTenant),
        _ => None,
    }
}

/// Whether state and log belong together. Gives the stop orders that the state has carried out and the log knows nothing of.
///
/// # Errors
/// `state-unavailable` when they do not.
pub async fn agree<S: State>(state: &S, recovery: &Recovery) -> Result<Vec<OpenIntent>, Error> {
    let orders = untold(state, recovery).await?;
    let explained = under_way(state, recovery).await?.saturating_add(orders.len());
    compare(recovery.committed, state.position(), explained)?;
    Ok(orders)
}

/// The stop orders that the state has carried out and the log knows nothing of: they are given while a log has failed, too.
async fn untold<S: State>(state: &S, recovery: &Recovery) -> Result<Vec<OpenIntent>, Error> {
    let Some(logged) = recovery.committed else { return Ok(Vec::new()) };
    let mut orders = state.orders_since(logged.sequence).await?;
    orders.retain(|order| recovery.intents.iter().all(|open| open.operation != order.operation));
    Ok(orders)
}

/// How many commits are those of commands that a crash left without an outcome.
async fn under_way<S: State>(state: &S, recovery: &Recovery) -> Result<usize, Error> {
    let logged = recovery.committed.map_or(0, |committed| committed.sequence);
    let mut commits = 0;
    for open in &recovery.intents {
        if state.committed(open.operation).await?.is_some_and(|committed| committed.sequence > logged) {
            commits += 1;
        }
    }
    Ok(commits)
}

/// Whether the state is the one that the log speaks of. It may be ahead by the commands that a crash left without an outcome, and by
/// the stop orders that were given while the log had failed.
fn compare(logged: Option<Committed>, found: Committed, explained: usize) -> Result<(), Error> {
    let refuse = |detail: String, remedy: &'static str| {
        Err(Error::new(ErrorKind::StateUnavailable, Stage::Start, detail).remedy(remedy))
    };
    let Some(logged) = logged else {
        if found.sequence == 0 {
            return Ok(());
        }
        return refuse(
            format!("the state is at commit {}, and the log has recorded none", found.sequence),
            "restore the log; if the gateway was never founded completely, begin anew in an empty directory",
        );
    };
    let ahead = found.sequence.checked_sub(logged.sequence);
    match ahead {
        None => refuse(
            format!(
                "the state is at commit {}, and the log has recorded commit {}",
                found.sequence, logged.sequence
            ),
            "an older state was put back: restore the newest one, or follow `docs/operate/rollback.md`",
        ),
        Some(0) if found.digest != logged.digest => refuse(
            format!("the state at commit {} is not the one that the log has recorded", found.sequence),
            "the state was changed or exchanged: restore it, or follow `docs/operate/rollback.md`",
        ),
        Some(ahead) if usize::try_from(ahead).is_ok_and(|ahead| ahead > explained) => refuse(
            format!(
                "the state is {ahead} commits ahead of the log, and {explained} of them were under way or stop orders"
            ),
            "an older log was put back: restore the newest one, or follow `docs/operate/rollback.md`",
        ),
        Some(_) => Ok(()),
    }
}
