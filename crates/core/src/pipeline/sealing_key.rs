//! Another sealing key for a tenant of which material was destroyed: versions are taken to it bit by bit, then the one before is dropped.
//!
//! Both open while versions go over, so nobody waits; what is new is sealed under the newest one from the first moment on. A start finds in the
//! tenant's record that one is leaving, and looks through its versions again: those that have gone over say so themselves.

use super::Pipeline;
use super::command::{Undone, own_inbound};
use super::found::{not_loaded, own_caller};
use super::plan::vanished;
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::work::material;
use crate::action::Action;
use crate::archive::KeyArchive;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::id::{KeyName, KeyVersion, TenantId};
use crate::key::{Custody, Key, SealedHandle, Version};
use crate::port::{ChangedSealing, KeyStore, Mark, Ports, State, StateChange, World};
use crate::sealing_key::{SealingKeyId, SealingKeyState, SealingKeys};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::tenant::TenantRecord;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// How many versions go over in one commit: others wait for it.
const CHUNK: usize = 64;
/// How many keys are looked at in one go.
const PAGE: usize = 64;
/// Between two changes, in microseconds, at least; what is destroyed meanwhile waits for the next one.
const PAUSE: u64 = 60_000_000;
/// How many times as long as a change took there is none after it.
const REST: u64 = 20;
/// The longest pause after failures, in microseconds.
const LONGEST_PAUSE: u64 = 3_600_000_000;

/// How tenants' sealing keys have changed since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealingKeyChanges {
    /// Tenants whose sealing key is to be retired, or is being.
    pub waiting: usize,
    /// Versions that were taken to another one.
    pub resealed: u64,
    /// Sealing keys that were retired.
    pub retired: u64,
}

/// What is known of changes of sealing keys. What must not be forgotten stands in the tenants' records.
#[derive(Debug, Default)]
pub(super) struct Changes {
    course: Mutex<Course>,
    resealed: AtomicU64,
    retired: AtomicU64,
}

#[derive(Debug, Default)]
struct Course {
    /// How far the tenants are that are at work, or rest after it: one that fails holds up no other.
    tenants: HashMap<TenantId, Progress>,
    /// Whether the state's files are known to hold nothing that was replaced.
    is_clean: bool,
}

/// How far a tenant is.
#[derive(Debug, Default)]
struct Progress {
    pass: Option<Pass>,
    /// By the clock that does not step: nothing is begun before.
    not_before: u64,
    /// Failures one after the other.
    failures: u32,
}

/// A step that failed.
#[derive(Debug)]
pub struct SealingKeyFailure {
    /// Whose sealing key is not retired yet; none where it is the state's files that may hold what was replaced.
    pub tenant: Option<TenantId>,
    /// Why.
    pub error: Error,
}

/// What has come of a look at one tenant.
enum Step {
    Done,
    /// Somebody changed one of its keys meanwhile: these are looked at again.
    Again,
    /// Who began before the change seals under the leaving one and opens nothing else.
    Waits,
}

/// One look through a tenant's versions.
#[derive(Debug)]
struct Pass {
    begun: u64,
    /// The key that was looked at last, and the version of the one after it.
    after: Option<KeyName>,
    within: Option<KeyVersion>,
    /// Versions that are under the newest sealing key now.
    versions: u64,
}

impl Pass {
    /// The same look, as far as it has come.
    fn here(&self) -> Self {
        let Self { begun, after, within, versions } = self;
        Self { begun: *begun, after: after.clone(), within: *within, versions: *versions }
    }
}

/// One recorded step.
enum Act<'a> {
    Change,
    Reseal(&'a [(Key, Vec<Version>)]),
    Retire { versions: u64 },
}

impl Act<'_> {
    const fn action(&self) -> Action {
        match self {
            Self::Change => Action::ChangeSealingKey,
            Self::Reseal(_) => Action::ResealVersions,
            Self::Retire { .. } => Action::RetireSealingKey,
        }
    }

    /// What is known of it beforehand, for its event.
    fn told(&self, record: &TenantRecord) -> Result<Context, Error> {
        let SealingKeys { newest, leaving, .. } = &record.sealing;
        match self {
            Self::Change => Ok(Context::EMPTY),
            Self::Reseal(keys) => {
                let versions: usize = keys.iter().map(|(_, versions)| versions.len()).sum();
                told((*leaving, *newest), Some(u64::try_from(versions).unwrap_or(u64::MAX)))
            }
            Self::Retire { versions } => told((*leaving, *newest), Some(*versions)),
        }
    }
}

fn told(
    (from, to): (Option<SealingKeyId>, Option<SealingKeyId>),
    versions: Option<u64>,
) -> Result<Context, Error> {
    let ids = [("from", from), ("to", to)].map(|(name, id)| (name, id.map(|id| id.to_string())));
    let count = [("versions", versions.map(|versions| versions.to_string()))];
    let pairs = ids.into_iter().chain(count).filter_map(|(name, text)| Some((name.into(), text?.into())));
    Context::new(pairs.collect())
}

impl Changes {
    fn course<T>(&self, with: impl FnOnce(&mut Course) -> T) -> T {
        with(&mut self.course.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of<T>(&self, tenant: &TenantId, with: impl FnOnce(&mut Progress) -> T) -> T {
        self.course(|course| with(course.tenants.entry(tenant.clone()).or_default()))
    }
}

impl<P: Ports> Pipeline<P> {
    /// How tenants' sealing keys have changed since the start.
    pub fn sealing_key_changes(&self) -> SealingKeyChanges {
        let Changes { course: _, resealed, retired } = &self.sealing;
        SealingKeyChanges {
            waiting: self.snapshots.count_of(|record| record.sealing.are_at_work()),
            resealed: resealed.load(Ordering::Relaxed),
            retired: retired.load(Ordering::Relaxed),
        }
    }

    /// Does one step of a change of a tenant's sealing key, where material was destroyed that lay under it; says whether there is another one to
    /// do at once. To be called every second or so by one caller, who rests between steps; what fails is tried again later, and other tenants'
    /// go on meanwhile.
    ///
    /// # Errors
    /// The step's.
    pub async fn renew_sealing_keys(&self) -> Result<bool, SealingKeyFailure> {
        if !self.sealing.course(|course| course.is_clean) {
            let forgotten = self.engines.state.forget_replaced().await;
            let is_clean = forgotten.map_err(|error| SealingKeyFailure { tenant: None, error })?;
            self.sealing.course(|course| course.is_clean = is_clean);
        }
        let now = self.engines.world.ticks();
        let mut more = false;
        for tenant in self.at_work(now) {
            match self.renew_of(&tenant, now).await {
                Ok(Step::Done) => return Ok(true),
                Ok(Step::Again) => more = true,
                Ok(Step::Waits) => {}
                Err(error) => {
                    self.sealing.of(&tenant, |progress| {
                        progress.pass = None;
                        let pause = PAUSE.saturating_mul(1 << progress.failures.min(6)).min(LONGEST_PAUSE);
                        progress.failures = progress.failures.saturating_add(1);
                        progress.not_before = now.saturating_add(pause);
                    });
                    return Err(SealingKeyFailure { tenant: Some(tenant), error });
                }
            }
        }
        Ok(more)
    }

    /// The tenants of whose sealing keys something is to be done now: what has begun is ended first.
    fn at_work(&self, now: u64) -> Vec<TenantId> {
        let leaving = self.snapshots.find(|record| record.sealing.leaving.is_some());
        let due =
            self.snapshots.find(|record| record.sealing.leaving.is_none() && record.sealing.due.is_some());
        self.sealing.course(|course| {
            course.tenants.retain(|tenant, progress| {
                now < progress.not_before || leaving.contains(tenant) || due.contains(tenant)
            });
            let may_begin = |tenant: &TenantId| {
                course.tenants.get(tenant).is_none_or(|progress| progress.not_before <= now)
            };
            leaving.into_iter().chain(due).filter(may_begin).collect()
        })
    }

    async fn renew_of(&self, tenant: &TenantId, now: u64) -> Result<Step, Error> {
        let Some(mut pass) = self.sealing.of(tenant, |progress| progress.pass.take()) else {
            self.reload(tenant).await?;
            if self.leaving(tenant)?.is_none() {
                self.act(tenant, Act::Change).await?;
            }
            let pass = Pass { begun: now, after: None, within: None, versions: 0 };
            self.sealing.of(tenant, |progress| progress.pass = Some(pass));
            return Ok(Step::Done);
        };
        let Some(leaving) = self.leaving(tenant)? else { return Ok(Step::Done) };
        let go_on = |pass| self.sealing.of(tenant, |progress| progress.pass = Some(pass));
        let before = pass.here();
        let chunk = self.next_chunk(tenant, &mut pass, leaving).await?;
        let Some((chunk, is_last)) = chunk else {
            go_on(before);
            return Ok(Step::Waits);
        };
        if !chunk.is_empty() {
            let moved = chunk.iter().map(|(_, versions)| versions.len()).sum::<usize>();
            match self.act(tenant, Act::Reseal(&chunk)).await {
                Ok(()) => {
                    let moved = u64::try_from(moved).unwrap_or(u64::MAX);
                    self.sealing.resealed.fetch_add(moved, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    go_on(before);
                    return Ok(Step::Again);
                }
                Err(error) => return Err(error),
            }
        }
        if !is_last {
            go_on(pass);
            return Ok(Step::Done);
        }
        // Also where its record fails: it may be committed all the same.
        self.sealing.course(|course| course.is_clean = false);
        self.act(tenant, Act::Retire { versions: pass.versions }).await?;
        self.sealing.retired.fetch_add(1, Ordering::Relaxed);
        let ended = self.engines.world.ticks();
        let rest = ended.saturating_sub(pass.begun).saturating_mul(REST).max(PAUSE);
        self.sealing.of(tenant, |progress| progress.not_before = ended.saturating_add(rest));
        Ok(Step::Done)
    }

    fn leaving(&self, tenant: &TenantId) -> Result<Option<SealingKeyId>, Error> {
        Ok(self.tenant(tenant).ok_or_else(not_loaded)?.data.record.sealing.leaving)
    }

    /// The next versions that lie under the leaving sealing key, with their keys, and whether they are the last; `None` while somebody still goes by the
    /// tenant's earlier handle.
    async fn next_chunk(
        &self,
        tenant: &TenantId,
        pass: &mut Pass,
        leaving: SealingKeyId,
    ) -> Result<Option<(Vec<(Key, Vec<Version>)>, bool)>, Error> {
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        if self.snapshots.is_earlier_handle_held(&view.data.record) {
            return Ok(None);
        }
        let page = self.engines.state.keys(tenant, pass.after.as_ref(), PAGE).await?;
        let (mut chunk, mut room) = (Vec::new(), CHUNK);
        for key in page.rows {
            let mut leaving_versions = Vec::new();
            loop {
                let versions = self.engines.state.versions(key.id, pass.within, room).await?;
                for version in versions.rows {
                    pass.within = Some(version.number);
                    match self.engines.keys.sealing_key_of(&version.handle) {
                        Some(id) if id == leaving => leaving_versions.push(version),
                        Some(_) => {}
                        // Destroyed: there is nothing of it.
                        None => continue,
                    }
                    pass.versions = pass.versions.saturating_add(1);
                }
                if !versions.more {
                    (pass.after, pass.within) = (Some(key.name.clone()), None);
                    break;
                }
                if leaving_versions.len() >= room {
                    break;
                }
            }
            let opener_leaves = self.opener_under(&key, leaving).is_some();
            room = room.saturating_sub(leaving_versions.len() + usize::from(opener_leaves));
            if !leaving_versions.is_empty() || opener_leaves {
                chunk.push((key, leaving_versions));
            }
            // Also where the key has more.
            if room == 0 {
                return Ok(Some((chunk, false)));
            }
        }
        Ok(Some((chunk, !page.more)))
    }

    /// Carries one step out, recorded like any command.
    async fn act(&self, tenant: &TenantId, act: Act<'_>) -> Result<(), Error> {
        let caller = own_caller(tenant)?;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, tenant, self.engines.world.now(), self.engines.world.ticks());
        let known = act.told(&view.data.record)?;
        let mut scene = Scene { view: &view, caller: &caller, inbound: &inbound, context: &known };
        let mut facts = Facts::new(operation, act.action());
        let intent = self.own_intent(&scene, &facts).await?;
        let planned = self.plan_act(&scene, &intent, &act);
        let (changes, learnt) = match planned {
            Ok(planned) => planned,
            Err(error) => return Err(self.abandon(&scene, &facts, Undone::Refused(error)).await),
        };
        match self.commit(&intent, changes).await {
            Ok(committed) => facts.state = Some(committed),
            Err(undone) => return Err(self.abandon(&scene, &facts, undone).await),
        }
        if !matches!(act, Act::Reseal(_))
            && let Err(error) = self.reload(tenant).await
        {
            return Err(self.abandon(&scene, &facts, Undone::Open(error)).await);
        }
        if let Some(learnt) = &learnt {
            scene.context = learnt;
        }
        match self.record_own(&scene, &facts, Mark::Outcome(operation, facts.state)).await {
            Ok(()) => {
                self.sealing.of(tenant, |progress| progress.failures = 0);
                Ok(())
            }
            Err(error) => Err(self.abandon(&scene, &facts, Undone::Open(error)).await),
        }
    }

    fn plan_act(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        act: &Act<'_>,
    ) -> Result<(Vec<StateChange>, Option<Context>), Error> {
        let before = &scene.view.data.record;
        let keys = &self.engines.keys;
        let handle = before.handle.as_ref().ok_or_else(|| vanished(&before.id))?;
        let changed = |handle: SealedHandle, sealing: SealingKeys| {
            let record =
                TenantRecord { handle: Some(handle), sealing, epoch: before.epoch.next(), ..before.clone() };
            vec![StateChange::Tenant { record, expected: Some(before.epoch) }]
        };
        match act {
            Act::Change => {
                let ChangedSealing { handle, leaving, newest } =
                    keys.change_sealing_key(intent.permit(), &before.id, handle)?;
                let learnt = told((Some(leaving), Some(newest)), None)?;
                Ok((changed(handle, before.sealing.changed(leaving, newest)), Some(learnt)))
            }
            Act::Reseal(chunk) => {
                let mut changes = Vec::new();
                for (key, versions) in *chunk {
                    for version in versions {
                        let handle = keys.reseal(intent.permit(), material(scene, key, version)?)?;
                        let version = Version { handle, ..version.clone() };
                        changes.push(StateChange::Version { tenant: key.tenant.clone(), version });
                    }
                    let archive = match (&key.archive, before.sealing.leaving) {
                        (Some(archive), Some(leaving)) => match self.opener_under(key, leaving) {
                            Some(opener) => {
                                let asked = super::archive::opener_of(scene, key, opener)?;
                                let opener = Some(keys.reseal(intent.permit(), asked)?);
                                Some(Arc::new(KeyArchive { opener, ..KeyArchive::clone(archive) }))
                            }
                            None => Some(Arc::clone(archive)),
                        },
                        (archive, _) => archive.clone(),
                    };
                    // Whoever has read a version before must not write it back.
                    let after = Key { archive, epoch: key.epoch.next(), ..key.clone() };
                    changes.push(StateChange::Key { key: after, expected: Some(key.epoch) });
                }
                Ok((changes, None))
            }
            Act::Retire { versions } => {
                let handle = keys.retire_sealing_key(intent.permit(), &before.id, handle)?;
                Ok((changed(handle, before.sealing.retired(scene.inbound.now, *versions)), None))
            }
        }
    }

    /// What opens a key's archive, where it lies under this sealing key.
    fn opener_under<'a>(&self, key: &'a Key, id: SealingKeyId) -> Option<&'a SealedHandle> {
        let opener = key.archive.as_ref()?.opener.as_ref()?;
        (self.opener_lies_under(key) == Some(id)).then_some(opener)
    }

    /// What that lies under which opens a key's archive; nothing where nothing opens one.
    pub(super) fn opener_lies_under(&self, key: &Key) -> Option<SealingKeyId> {
        self.engines.keys.sealing_key_of(key.archive.as_ref()?.opener.as_ref()?)
    }

    /// What a version's material lies under, if it is in the state at all: in software custody, or as an emergency copy.
    pub(super) fn sealing_key_of(&self, key: &Key, handle: &SealedHandle) -> Option<SealingKeyId> {
        match self.engines.keys.custody_of(handle) {
            Custody::Token | Custody::VendorAttested if !key.emergency_copy => {
                // The material is in a device, and what is sealed says only where.
                None
            }
            Custody::Software | Custody::Token | Custody::VendorAttested => {
                self.engines.keys.sealing_key_of(handle)
            }
        }
    }

    /// What the destruction of material under these sealing keys changes of its tenant: the newest one is to be retired. Nothing where that is known.
    pub(super) async fn sealing_key_due(
        &self,
        tenant: &TenantId,
        under: &[SealingKeyId],
        now: Timestamp,
    ) -> Result<Option<StateChange>, Error> {
        if under.is_empty() {
            return Ok(None);
        }
        // The view may be older than the state by now.
        self.reload(tenant).await?;
        let view = self.tenant(tenant).ok_or_else(|| vanished(tenant))?;
        let before = &view.data.record;
        let is_alive = |id: &SealingKeyId| match before.sealing.state_of(*id) {
            SealingKeyState::InForce | SealingKeyState::Leaving => true,
            SealingKeyState::Retired(_) => false,
        };
        let under: Vec<_> = under.iter().copied().filter(is_alive).collect();
        if !before.sealing.must_change(&under) {
            return Ok(None);
        }
        let sealing = SealingKeys { due: Some(now), ..before.sealing.clone() };
        let record = TenantRecord { sealing, epoch: before.epoch.next(), ..before.clone() };
        Ok(Some(StateChange::Tenant { record, expected: Some(before.epoch) }))
    }
}

/// What has become of the sealing keys that a key's destroyed material lay under, or what is in an archive now.
pub(super) fn of_destroyed(key: &Key, sealing: &SealingKeys) -> Vec<(SealingKeyId, SealingKeyState)> {
    let destroyed = key.erasure.iter().flat_map(|erasure| erasure.sealed_under.iter());
    let archived = key.archive.iter().flat_map(|archive| archive.sealed_under.iter());
    let mut under: Vec<_> = destroyed.chain(archived).copied().collect();
    under.sort_unstable();
    under.dedup();
    under.into_iter().map(|id| (id, sealing.state_of(id))).collect()
}
