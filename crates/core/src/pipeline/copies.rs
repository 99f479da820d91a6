//! Whether every member of the key store's pool holds every key: looked through whenever a member has come, and made up for.
//!
//! A use brings a key to the member that turns out to lack it. This is for the keys that nobody uses until the others are gone.

use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::{NO_CONTEXT, Pipeline, TenantView};
use crate::action::Action;
use crate::context::Context;
use crate::error::Error;
use crate::id::{KeyVersion, TenantId};
use crate::key::{Key, KeyMaterial, Version};
use crate::lifecycle::KeyState;
use crate::port::{Copies, KeyStore as _, Mark, Ports, State, World};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::time::Timestamp;
use std::sync::PoisonError;

/// How many keys are read at a time.
const PAGE: usize = 256;
/// Between two looks, in microseconds, at least: doubled with each that finds nothing to do, so that a member that comes and goes does not
/// fill the log.
const SHORTEST_PAUSE: u64 = 5_000_000;
const LONGEST_PAUSE: u64 = 600_000_000;

/// One look through all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// When it began.
    pub begun: Timestamp,
    /// When it ended; nothing while it is under way.
    pub ended: Option<Timestamp>,
    /// Key versions in the pool that were looked for.
    pub versions: u64,
    /// Copies that were found where they should be, and are what they should be.
    pub held: u64,
    /// Copies that were brought to a member that lacked them.
    pub brought: u64,
    /// Copies that a member lacks and could not be brought.
    pub lacking: u64,
    /// Key versions that could not be looked for.
    pub failed: u64,
}

/// What is known of the looks through all keys since the start.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    /// Arrivals at the last question, and at the last sweep.
    seen: AtomicU64,
    swept: AtomicU64,
    /// By the clock that does not step: not before then.
    next: AtomicU64,
    pause: AtomicU64,
    last: Mutex<Option<Sweep>>,
}

impl Sweeps {
    fn put(&self, sweep: Sweep) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweep);
    }

    /// Whether members have come since the last sweep, and none just now: those that start together are looked at together.
    fn are_due(&self, arrivals: u64, ticks: u64) -> bool {
        let is_quiet = self.seen.swap(arrivals, Ordering::Relaxed) == arrivals;
        is_quiet
            && self.swept.load(Ordering::Relaxed) != arrivals
            && ticks >= self.next.load(Ordering::Relaxed)
    }

    fn ended(&self, sweep: Sweep, ticks: u64) {
        let had_to_do = sweep.brought + sweep.lacking + sweep.failed > 0;
        let pause = match self.pause.load(Ordering::Relaxed) {
            0 => SHORTEST_PAUSE,
            _ if had_to_do => SHORTEST_PAUSE,
            pause => pause.saturating_mul(2).min(LONGEST_PAUSE),
        };
        self.pause.store(pause, Ordering::Relaxed);
        self.next.store(ticks.saturating_add(pause), Ordering::Relaxed);
        self.put(sweep);
    }
}

impl<P: Ports> Pipeline<P> {
    /// The newest look through the copies of all keys, if there was one since the start.
    pub fn sweep(&self) -> Option<Sweep> {
        *self.sweeps.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether every member of the pool that works holds every key that is not destroyed, if members have come since that was seen last,
    /// and brings keys to who lacks them. Ends early where `goes_on` says no. To be called every second or so, beside what cannot wait: with
    /// many keys it takes its time.
    ///
    /// # Errors
    /// When it cannot be recorded, or the state cannot be read. It is tried again when members have come.
    pub async fn sweep_pool(&self, goes_on: impl Fn() -> bool + Sync) -> Result<(), Error> {
        let arrivals = self.engines.keys.arrivals();
        if !self.sweeps.are_due(arrivals, self.engines.world.ticks()) {
            return Ok(());
        }
        self.sweeps.swept.store(arrivals, Ordering::Relaxed);
        let gateway = TenantId::gateway();
        let (own, view) = (own_caller(&gateway)?, self.tenant(&gateway).ok_or_else(not_loaded)?);
        let operation = self.new_operation()?;
        let begun = self.engines.world.now();
        let inbound = own_inbound(operation, &gateway, begun, self.engines.world.ticks());
        let mut scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, Action::SweepPool);
        let intent = self.own_intent(&scene, &facts).await?;
        let mut sweep = Sweep { begun, ended: None, versions: 0, held: 0, brought: 0, lacking: 0, failed: 0 };
        let looked = self.look_through(&intent, &mut sweep, &goes_on).await;
        sweep.ended = Some(self.engines.world.now());
        self.sweeps.ended(sweep, self.engines.world.ticks());
        let Sweep { begun: _, ended: _, versions, held, brought, lacking, failed } = sweep;
        let counts = [
            ("brought", brought),
            ("failed", failed),
            ("held", held),
            ("lacking", lacking),
            ("versions", versions),
        ];
        let pairs = counts.into_iter().map(|(name, count)| (name.into(), count.to_string().into()));
        let context = Context::new(pairs.collect())?;
        scene.context = &context;
        facts.alarm = if lacking + failed > 0 {
            Some(
                format!(
                    "{lacking} copies of keys are missing in the pool; {failed} keys could not be looked for"
                )
                .into(),
            )
        } else if looked.is_err() || !goes_on() {
            Some("it was not looked for all keys".into())
        } else {
            None
        };
        let recorded = self.record_own(&scene, &facts, Mark::Outcome(operation, None)).await;
        if recorded.is_err() {
            self.unfinished.intent_is_open(facts.open_intent(&gateway));
        }
        looked.and(recorded)
    }

    async fn look_through(
        &self,
        intent: &Intent,
        sweep: &mut Sweep,
        goes_on: &(impl Fn() -> bool + Sync),
    ) -> Result<(), Error> {
        for tenant in self.snapshots.names() {
            let Some(view) = self.tenant(&tenant) else { continue };
            let mut after = None;
            loop {
                let page = self.engines.state.keys(&tenant, after.as_ref(), PAGE).await?;
                for key in &page.rows {
                    if !goes_on() {
                        return Ok(());
                    }
                    if key.state != KeyState::Destroyed {
                        self.look_for(intent, &view, key, sweep).await?;
                    }
                }
                after = page.rows.last().map(|key| key.name.clone());
                if !page.more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn look_for(
        &self,
        intent: &Intent,
        view: &TenantView<P>,
        key: &Key,
        sweep: &mut Sweep,
    ) -> Result<(), Error> {
        let Some(tenant_handle) = &view.data.record.handle else { return Ok(()) };
        let mut after: Option<KeyVersion> = None;
        loop {
            let page = self.engines.state.versions(key.id, after, PAGE).await?;
            let is_there = |version: &&Version| {
                version.state != KeyState::Destroyed && !version.handle.as_bytes().is_empty()
            };
            for version in page.rows.iter().filter(is_there) {
                let material = KeyMaterial {
                    tenant: &key.tenant,
                    tenant_handle,
                    key: key.id,
                    version: version.number,
                    algorithm: key.algorithm,
                    exportable: key.exportable,
                    commitment: &version.commitment,
                    handle: &version.handle,
                };
                match self.engines.keys.check_copies(intent.permit(), material).await {
                    Ok(None) => {}
                    Ok(Some(Copies { held, brought, lacking })) => {
                        sweep.versions += 1;
                        sweep.held += u64::from(held);
                        sweep.brought += u64::from(brought);
                        sweep.lacking += u64::from(lacking);
                    }
                    Err(_) => {
                        sweep.versions += 1;
                        sweep.failed += 1;
                    }
                }
                self.sweeps.put(*sweep);
            }
            after = page.rows.last().map(|version| version.number);
            if !page.more {
                return Ok(());
            }
        }
    }
}
