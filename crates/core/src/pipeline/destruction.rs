//! The end of a key: the order waits, the gateway itself completes it, and what lay in members of a pool is erased from each as it is reached.
//!
//! A key is destroyed in the state first and erased then. So nobody ever uses what is half gone, and no member that is out of reach holds a
//! destruction up.

use super::command::{Undone, own_inbound};
use super::found::{not_loaded, own_caller};
use super::import::is_waiting;
use super::plan::Planned;
use super::proof::Intent;
use super::record::{Facts, NamedKey, Scene};
use super::schedule::AGAIN;
use super::work::material;
use super::{NO_CONTEXT, Pipeline};
use crate::action::Action;
use crate::archive::KeyArchive;
use crate::command::Command;
use crate::destruction::{Destruction, Erasure, WaitingPeriod};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyName, MemberName, TenantId};
use crate::key::{Key, SealedHandle, Version};
use crate::lifecycle::{KeyState, Transition};
use crate::port::{End, KeyEntry, KeyStore, Mark, Ports, Remains, State, StateChange, World};
use crate::query::MAX_PAGE;
use crate::sealing_key::SealingKeyId;
use crate::sync::{AtomicU64, Ordering};
use crate::tenant::{TakenBackup, TenantRecord};
use crate::time::Timestamp;
use std::sync::Arc;

/// How much uptime is counted at a time, in seconds: so much is lost by a crash, and each counting is a commit.
const COUNTED: u64 = 3600;
/// How long to wait before a member that failed to erase something is asked again, in seconds.
const ASK_AGAIN: u64 = 600;

/// How many keys are at their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Destructions {
    /// Those that wait to be destroyed.
    pub waiting: usize,
    /// Those of whose destroyed material some may still be in a member of the pool.
    pub erasing: usize,
}

/// What orders to destroy are measured by.
#[derive(Debug)]
pub(super) struct Ends {
    /// What an order waits unless it says longer.
    pub(super) shortest: WaitingPeriod,
    /// The uptime of the machine up to which it is counted in the gateway's record.
    counted: AtomicU64,
}

impl Ends {
    pub(super) fn since(uptime: u64) -> Self {
        Self { shortest: WaitingPeriod::NONE, counted: AtomicU64::new(uptime) }
    }
}

/// What the gateway does by itself.
#[derive(Clone, Copy)]
enum Own<'a> {
    Complete(&'a KeyEntry),
    Erase(&'a Key, &'a Erasure),
    CountUptime,
}

impl Own<'_> {
    const fn action(self) -> Action {
        match self {
            Self::Complete(_) => Action::CompleteDestruction,
            Self::Erase(..) => Action::EraseKey,
            Self::CountUptime => Action::CountUptime,
        }
    }

    const fn key(&self) -> Option<&Key> {
        match self {
            Self::Complete(entry) => Some(&entry.key),
            Self::Erase(key, _) => Some(key),
            Self::CountUptime => None,
        }
    }

    fn subject(self) -> Box<str> {
        match self {
            Self::Complete(entry) => match &entry.key.destruction {
                Some(order) => format!("ordered {}", order.ordered).into(),
                None => "ordered".into(),
            },
            Self::Erase(_, Erasure { pending, .. }) => format!("pending on {}", listed(pending)).into(),
            Self::CountUptime => format!("{COUNTED} s").into(),
        }
    }
}

impl<P: Ports> Pipeline<P> {
    /// The same, with so long a period that every key waits before it is destroyed; none unless told.
    #[must_use]
    pub fn with_waiting_period(mut self, shortest: WaitingPeriod) -> Self {
        self.ends.shortest = shortest;
        self
    }

    /// How many keys are at their end, as far as they have been looked at since the start.
    pub fn destructions(&self) -> Destructions {
        self.agenda.destructions()
    }

    /// The seconds that the gateway has been up in all, as far as they count for who waits: never more than [`COUNTED`] beyond its record,
    /// so that no start brings anything forward.
    fn up(&self) -> u64 {
        let gateway = self.tenant(&TenantId::gateway());
        let counted = gateway.map_or(0, |view| view.data.record.up);
        counted.saturating_add(self.uncounted().min(COUNTED))
    }

    fn uncounted(&self) -> u64 {
        self.engines.world.uptime().saturating_sub(self.ends.counted.load(Ordering::Relaxed)) / 1_000_000
    }

    /// An order to destroy says for how long the key waits before it is recorded: so a crash changes nothing about that.
    pub(super) fn with_period(&self, command: Command, entry: Option<&KeyEntry>) -> Command {
        match (command, entry) {
            (Command::TransitionKey { key, verb: Transition::Destroy(None) }, Some(entry)) => {
                Command::TransitionKey { key, verb: Transition::Destroy(Some(self.shortest_of(entry))) }
            }
            (other, _) => other,
        }
    }

    /// What waits for its material has never protected anything: its name need not be kept waiting.
    fn shortest_of(&self, entry: &KeyEntry) -> WaitingPeriod {
        if is_waiting(entry) { WaitingPeriod::NONE } else { self.ends.shortest }
    }

    /// Nobody shortens what the configuration demands.
    pub(super) fn check_period(&self, entry: &KeyEntry, verb: Transition) -> Result<(), Error> {
        let shortest = self.shortest_of(entry);
        match verb {
            Transition::Destroy(Some(period)) if period < shortest => {
                let shortest = shortest.days();
                let detail = format!("a key waits at least {shortest} days here before it is destroyed");
                Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
                    .remedy(format!("order it after {shortest} days or more, or say nothing of days")))
            }
            Transition::Destroy(_)
            | Transition::Activate
            | Transition::Suspend
            | Transition::Resume
            | Transition::Deactivate
            | Transition::Compromise
            | Transition::CancelDestruction => Ok(()),
        }
    }

    /// The key stops at once and waits; or, where nothing is to be waited for, it is destroyed.
    pub(super) async fn plan_destroy(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        entry: &KeyEntry,
        period: Option<WaitingPeriod>,
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        // Of what an order says when it comes, material that has come meanwhile must not be a victim.
        let shortest = self.shortest_of(entry);
        let period = period.unwrap_or(shortest).max(shortest);
        if period == WaitingPeriod::NONE {
            let (changes, key, current) = self.destroyed(scene, intent, entry).await?;
            let reload = Some(before.tenant.clone());
            return Ok(Planned { reload, ..Planned::key(changes, key, current) });
        }
        let order = Destruction {
            state: before.state,
            resumes_to: before.resumes_to,
            // No jump of the clock brings it forward.
            ordered: self.at_latest(scene.inbound.now),
            period,
            up: self.up(),
        };
        let state = match before.state {
            KeyState::Compromised => KeyState::Compromised,
            KeyState::PreActivation
            | KeyState::Active
            | KeyState::Suspended
            | KeyState::Deactivated
            | KeyState::Destroyed => KeyState::Suspended,
        };
        let key = Key {
            state,
            // Whatever resumed it would give nothing.
            resumes_to: KeyState::Suspended,
            destruction: Some(order),
            epoch: before.epoch.next(),
            ..before.clone()
        };
        let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
        Ok(Planned::key(vec![change], key, Arc::clone(&entry.current)))
    }

    /// A key that waits, in a gateway that comes back from a backup: nobody may know whether the order was taken back since, so its whole period
    /// begins now. Taking it back leads to no more than a suspended key.
    pub(super) fn waits_anew(&self, before: &Key, now: Timestamp) -> Option<Key> {
        let Destruction { state, resumes_to, ordered, period, up } = before.destruction?;
        let (state, resumes_to) = match state.after(Transition::Suspend, resumes_to) {
            Some(stopped) => (stopped, state),
            None => (state, resumes_to),
        };
        let (ordered, up) = (self.at_latest(now).max(ordered), self.up().max(up));
        let order = Destruction { state, resumes_to, ordered, period, up };
        Some(Key { destruction: Some(order), epoch: before.epoch.next(), ..before.clone() })
    }

    /// Now, and the newest commit: what is destroyed from here on is in no later backup.
    pub(super) fn moment(&self, now: Timestamp) -> (Timestamp, u64) {
        (now, self.engines.state.position().sequence)
    }

    /// The backups that may hold a key that waits to be destroyed, or is.
    pub(super) fn backups_of(&self, key: &Key) -> Vec<TakenBackup> {
        if key.destruction.is_none() && key.state != KeyState::Destroyed {
            return Vec::new();
        }
        let Some(gateway) = self.tenant(&TenantId::gateway()) else { return Vec::new() };
        gateway.data.record.backups.iter().filter(|backup| key.may_be_in(backup)).cloned().collect()
    }

    /// The changes by which a key is destroyed, with all of its versions.
    async fn destroyed(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        entry: &KeyEntry,
    ) -> Result<(Vec<StateChange>, Key, Arc<Version>), Error> {
        let before = &entry.key;
        let (mut holders, mut left) = (Vec::new(), Vec::new());
        let mut sealed_under =
            before.erasure.as_ref().map_or_else(Vec::new, |erasure| erasure.sealed_under.clone());
        let (mut changes, mut after, mut current) = (Vec::new(), None, Arc::clone(&entry.current));
        loop {
            let page = self.engines.state.versions(before.id, after, MAX_PAGE).await?;
            for version in page.rows {
                after = Some(version.number);
                if version.state == KeyState::Destroyed {
                    continue;
                }
                sealed_under.extend(self.sealing_key_of(before, &version.handle));
                let Remains { handle, holders: more } = match version.handle.as_bytes() {
                    // It is in an archive, which opens no more from here on.
                    [] => Remains::nothing(),
                    _ => {
                        let material = material(scene, before, &version)?;
                        self.engines.keys.remains(intent.permit(), material, End::Destroyed)?
                    }
                };
                left.extend(self.left_since(&version, &more));
                holders.extend(more);
                let version = Version { state: KeyState::Destroyed, handle, ..version };
                if version.number == current.number {
                    current = Arc::new(version.clone());
                }
                changes.push(StateChange::Version { tenant: before.tenant.clone(), version });
            }
            if !page.more {
                break;
            }
        }
        let archive = before.archive.as_deref().map(|archive| {
            sealed_under.extend(self.opener_lies_under(before));
            sealed_under.extend(archive.sealed_under.iter().copied());
            Arc::new(KeyArchive { opener: None, ..archive.clone() })
        });
        let key = Key {
            archive,
            state: KeyState::Destroyed,
            resumes_to: KeyState::Active,
            destruction: None,
            waits: false,
            erasure: Some(Arc::new(
                Erasure::begun(self.moment(scene.inbound.now), before.erasure.as_deref(), holders)
                    .left(left)
                    .sealed_under(sealed_under.iter().copied()),
            )),
            epoch: before.epoch.next(),
            ..before.clone()
        };
        changes.push(StateChange::Key { key: key.clone(), expected: Some(before.epoch) });
        changes.extend(self.sealing_key_due(&before.tenant, &sealed_under, scene.inbound.now).await?);
        Ok((changes, key, current))
    }

    /// Does what is due of a key's end. What fails comes with how long to wait before it is tried again, in seconds.
    pub(super) async fn end_if_due(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        now: Timestamp,
    ) -> Result<(), (Error, u64)> {
        let soon = |error| (error, AGAIN);
        let Some(entry) = self.engines.state.key(tenant, name).await.map_err(soon)? else { return Ok(()) };
        if let Some(order) = &entry.key.destruction {
            let (due, left) = (order.due(), order.up_left(self.up()));
            if due <= now && left == 0 {
                return self.by_itself(tenant, Own::Complete(&entry)).await.map_err(soon);
            }
            let next = if due > now { due } else { now.plus_seconds(left.min(COUNTED)) };
            self.agenda.look_at(next, &entry.key);
        }
        // Of a version that was destroyed before, also while its key waits.
        let Some(erasure) = entry.key.erasure.as_ref().filter(|erasure| !erasure.pending.is_empty()) else {
            return Ok(());
        };
        // Whoever finishes an import may still be bringing something in.
        if self.importing.is_under_way(entry.key.id) {
            self.agenda.look_at(now.plus_seconds(1), &entry.key);
            return Ok(());
        }
        if !erasure.pending.iter().any(|member| self.engines.keys.can_ask(member)) {
            self.agenda.look_with(&erasure.pending, now, &entry.key);
            return Ok(());
        }
        self.by_itself(tenant, Own::Erase(&entry.key, erasure)).await.map_err(|error| (error, ASK_AGAIN))
    }

    /// Counts uptime while a key waits.
    pub(super) async fn count_uptime(&self) -> Result<(), Error> {
        let uncounted = self.uncounted();
        if self.destructions().waiting == 0 || uncounted < COUNTED {
            return Ok(());
        }
        self.by_itself(&TenantId::gateway(), Own::CountUptime).await?;
        let Ends { shortest: _, counted } = &self.ends;
        // What is beyond that is counted next time, unless it is from when nobody waited.
        let up_to = match uncounted < 2 * COUNTED {
            true => counted.load(Ordering::Relaxed).saturating_add(COUNTED * 1_000_000),
            false => self.engines.world.uptime(),
        };
        // Only after it is in the record: in between the uptime is too long for an order that comes, and its destruction later than it could be.
        counted.store(up_to, Ordering::Relaxed);
        Ok(())
    }

    /// Carries out what nobody asked for, recorded like any command.
    async fn by_itself(&self, tenant: &TenantId, own: Own<'_>) -> Result<(), Error> {
        let caller = own_caller(tenant)?;
        self.reload(tenant).await?;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, tenant, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &caller, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, own.action());
        facts.key = own.key().map(|key| NamedKey::of(key, None));
        facts.subject = Some(own.subject());
        let intent = self.own_intent(&scene, &facts).await?;
        let (changes, key) = match self.plan_own(&scene, &mut facts, &intent, own).await {
            Ok(planned) => planned,
            Err(error) => return Err(self.abandon(&scene, &facts, Undone::Refused(error)).await),
        };
        match self.commit(&intent, changes).await {
            Ok(committed) => facts.state = Some(committed),
            Err(undone) => return Err(self.abandon(&scene, &facts, undone).await),
        }
        if let Some(key) = &key {
            // Of what is erased nothing has been held since it was destroyed; the key's other versions may be in use.
            if !matches!(own, Own::Erase(..)) {
                self.engines.keys.forget(key.id);
            }
            self.agenda.note(key);
        }
        if !matches!(own, Own::Erase(..))
            && let Err(error) = self.reload(tenant).await
        {
            return Err(self.abandon(&scene, &facts, Undone::Open(error)).await);
        }
        match self.record_own(&scene, &facts, Mark::Outcome(operation, facts.state)).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.abandon(&scene, &facts, Undone::Open(error)).await),
        }
    }

    async fn plan_own(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        own: Own<'_>,
    ) -> Result<(Vec<StateChange>, Option<Key>), Error> {
        match own {
            Own::Complete(entry) => {
                let (changes, key, _) = self.destroyed(scene, intent, entry).await?;
                Ok((changes, Some(key)))
            }
            Own::Erase(key, erasure) => {
                let (changes, key) = self.erase(scene, facts, intent, (key, erasure)).await?;
                Ok((changes, Some(key)))
            }
            Own::CountUptime => {
                let before = &scene.view.data.record;
                let up = before.up.saturating_add(COUNTED);
                let record = TenantRecord { up, epoch: before.epoch.next(), ..before.clone() };
                Ok((vec![StateChange::Tenant { record, expected: Some(before.epoch) }], None))
            }
        }
    }

    /// Asks the members that are pending. A member holds nothing more once it has said so of every version.
    async fn erase(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        (before, erasure): (&Key, &Erasure),
    ) -> Result<(Vec<StateChange>, Key), Error> {
        let (mut absent, mut versions, mut after) = (erasure.pending.clone(), Vec::new(), None);
        loop {
            let page = self.engines.state.versions(before.id, after, MAX_PAGE).await?;
            for version in page.rows {
                after = Some(version.number);
                if version.state != KeyState::Destroyed || version.handle.as_bytes().is_empty() {
                    continue;
                }
                let asked = self.engines.keys.erase(intent.permit(), material(scene, before, &version)?);
                let said = asked.await?;
                absent.retain(|member| said.contains(member));
                versions.push(version);
                if absent.is_empty() {
                    break;
                }
            }
            // Where nobody has erased one of them, nobody need be asked for the next.
            if !page.more || absent.is_empty() {
                break;
            }
        }
        if absent.is_empty() {
            let detail = format!("nothing could be erased on {}", listed(&erasure.pending));
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail)
                .remedy("an operator must bring the members back; they are asked again by themselves"));
        }
        let left = erasure.after(&absent);
        let told = [("absent on", &absent), ("pending on", &left.pending), ("left with", &left.left)];
        let told = told.iter().filter(|(_, members)| !members.is_empty());
        let told: Vec<_> = told.map(|(how, members)| format!("{how} {}", listed(members))).collect();
        facts.subject = Some(told.join("; ").into());
        let is_done = left.pending.is_empty();
        let key = Key { erasure: Some(Arc::new(left)), epoch: before.epoch.next(), ..before.clone() };
        let mut changes = vec![StateChange::Key { key: key.clone(), expected: Some(before.epoch) }];
        if is_done {
            changes.extend(versions.into_iter().map(|version| StateChange::Version {
                tenant: before.tenant.clone(),
                version: Version { handle: SealedHandle::new(&[]), ..version },
            }));
        }
        Ok((changes, key))
    }
}

/// What is to be erased of a key besides, when one of its versions is destroyed while the key goes on.
pub(super) fn erasure_with(
    before: &Key,
    (holders, left): (Vec<MemberName>, Vec<MemberName>),
    sealed_under: &[SealingKeyId],
    moment: (Timestamp, u64),
) -> Option<Arc<Erasure>> {
    if holders.is_empty() && sealed_under.is_empty() {
        return before.erasure.clone();
    }
    let begun = Erasure::begun(moment, before.erasure.as_deref(), holders).left(left);
    Some(Arc::new(begun.sealed_under(sealed_under.iter().copied())))
}

fn listed(members: &[MemberName]) -> String {
    members.iter().map(MemberName::as_str).collect::<Vec<_>>().join(", ")
}

/// The key is again what it was, and no more than that.
pub(super) fn plan_cancel(entry: &KeyEntry) -> Result<Planned, Error> {
    let before = &entry.key;
    let Some(Destruction { state, resumes_to, .. }) = before.destruction else {
        return Err(not_waiting(before));
    };
    let key = Key { state, resumes_to, destruction: None, epoch: before.epoch.next(), ..before.clone() };
    let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
    Ok(Planned::key(vec![change], key, Arc::clone(&entry.current)))
}

/// Where an order leads a key that waits to be destroyed; `None` where it finds it stopped already.
pub(super) fn while_waiting(
    key: &Key,
    order: &Destruction,
    verb: Transition,
) -> Result<Option<KeyState>, Error> {
    let name = &key.name;
    match verb {
        Transition::Suspend => Ok(None),
        Transition::Compromise => Ok(match key.state {
            KeyState::Compromised => None,
            KeyState::PreActivation
            | KeyState::Active
            | KeyState::Suspended
            | KeyState::Deactivated
            | KeyState::Destroyed => Some(KeyState::Compromised),
        }),
        Transition::CancelDestruction => Ok(Some(order.state)),
        Transition::Destroy(after) if after.is_none_or(|after| after <= order.period) => Ok(None),
        Transition::Destroy(_) | Transition::Activate | Transition::Resume | Transition::Deactivate => {
            let detail = format!("key `{name}` waits to be destroyed, until {} at least", order.due());
            Err(Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
                .remedy(format!("run `holdfast key cancel-destruction {name}` first")))
        }
    }
}

pub(super) fn not_waiting(key: &Key) -> Error {
    let detail = format!("key `{}` does not wait to be destroyed: it is {}", key.name, key.state);
    Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
}
