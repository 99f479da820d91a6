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
    pass: Option<Pass>,
    /// By the clock that does not step: nothing is begun before.
    not_before: u64,
    /// Failures one after the other.
    failures: u32,
    /// Whether the state's files are known to hold nothing that was replaced.
    is_clean: bool,
}

/// One look through a tenant's versions.
#[derive(Debug)]
struct Pass {
    tenant: TenantId,
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
        let Self { tenant, begun, after, within, versions } = self;
        Self {
            tenant: tenant.clone(),
            begun: *begun,
            after: after.clone(),
            within: *within,
            versions: *versions,
        }
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
    /// do at once. To be called every second or so by one caller, who rests between steps; what fails is tried again later.
    ///
    /// # Errors
    /// The step's.
    pub async fn renew_sealing_keys(&self) -> Result<bool, Error> {
        if !self.sealing.course(|course| course.is_clean) && self.engines.state.forget_replaced().await? {
            self.sealing.course(|course| course.is_clean = true);
        }
        let now = self.engines.world.ticks();
        if self.sealing.course(|course| course.pass.is_none() && now < course.not_before) {
            return Ok(false);
        }
        match self.renew_on(now).await {
            Ok(more) => Ok(more),
            Err(error) => {
                self.sealing.course(|course| {
                    course.pass = None;
                    let pause = PAUSE.saturating_mul(1 << course.failures.min(6)).min(LONGEST_PAUSE);
                    course.failures = course.failures.saturating_add(1);
                    course.not_before = now.saturating_add(pause);
                });
                Err(error)
            }
        }
    }

    async fn renew_on(&self, now: u64) -> Result<bool, Error> {
        let Some(mut pass) = self.sealing.course(|course| course.pass.take()) else {
            let leaving = self.snapshots.find(|record| record.sealing.leaving.is_some());
            let tenant = match leaving.or_else(|| self.snapshots.find(|record| record.sealing.due.is_some()))
            {
                Some(tenant) => tenant,
                None => return Ok(false),
            };
            self.reload(&tenant).await?;
            let view = self.tenant(&tenant).ok_or_else(not_loaded)?;
            if view.data.record.sealing.leaving.is_none() {
                drop(view);
                self.act(&tenant, Act::Change).await?;
            }
            let pass = Pass { tenant, begun: now, after: None, within: None, versions: 0 };
            self.sealing.course(|course| course.pass = Some(pass));
            return Ok(true);
        };
        let Some(leaving) = self.leaving(&pass.tenant)? else { return Ok(true) };
        let before = pass.here();
        let chunk = self.next_chunk(&mut pass, leaving).await?;
        let Some((chunk, is_last)) = chunk else {
            // Who began before the change seals under the leaving one and opens nothing else.
            self.sealing.course(|course| course.pass = Some(before));
            return Ok(false);
        };
        if !chunk.is_empty() {
            let moved = chunk.iter().map(|(_, versions)| versions.len()).sum::<usize>();
            match self.act(&pass.tenant, Act::Reseal(&chunk)).await {
                Ok(()) => {
                    let moved = u64::try_from(moved).unwrap_or(u64::MAX);
                    self.sealing.resealed.fetch_add(moved, Ordering::Relaxed);
                }
                // Somebody changed one of the keys meanwhile: these are looked at again.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    self.sealing.course(|course| course.pass = Some(before));
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        if !is_last {
            self.sealing.course(|course| course.pass = Some(pass));
            return Ok(true);
        }
        self.act(&pass.tenant, Act::Retire { versions: pass.versions }).await?;
        self.sealing.retired.fetch_add(1, Ordering::Relaxed);
        let ended = self.engines.world.ticks();
        let rest = ended.saturating_sub(pass.begun).saturating_mul(REST).max(PAUSE);
        self.sealing.course(|course| {
            course.not_before = ended.saturating_add(rest);
            course.is_clean = false;
        });
        Ok(true)
    }

    fn leaving(&self, tenant: &TenantId) -> Result<Option<SealingKeyId>, Error> {
        Ok(self.tenant(tenant).ok_or_else(not_loaded)?.data.record.sealing.leaving)
    }

    /// The next versions that lie under the leaving sealing key, with their keys, and whether they are the last; `None` while somebody still goes by the
    /// tenant's earlier handle.
    async fn next_chunk(
        &self,
        pass: &mut Pass,
        leaving: SealingKeyId,
    ) -> Result<Option<(Vec<(Key, Vec<Version>)>, bool)>, Error> {
        let view = self.tenant(&pass.tenant).ok_or_else(not_loaded)?;
        if self.snapshots.is_earlier_handle_held(&view.data.record) {
            return Ok(None);
        }
        let page = self.engines.state.keys(&pass.tenant, pass.after.as_ref(), PAGE).await?;
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
                self.sealing.course(|course| course.failures = 0);
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
        (self.engines.keys.sealing_key_of(opener) == Some(id)).then_some(opener)
    }

    /// What a version's material lies under, if that is all there is of it.
    pub(super) fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId> {
        match self.engines.keys.custody_of(handle) {
            Custody::Software => self.engines.keys.sealing_key_of(handle),
            // The material is in a device, and what is sealed says only where.
            Custody::Token | Custody::VendorAttested => None,
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
