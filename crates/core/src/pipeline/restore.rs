//! Coming back from a backup: another instance with logs of its own, which commit to the earlier ones; no key is in use until a
//! custodian says so, and stop orders that the backup is too old for are given again.

use super::command::own_inbound;
use super::destruction::plan_cancel;
use super::found::{not_loaded, own_caller};
use super::plan::{Planned, transition};
use super::proof::Intent;
use super::record::{Done, Facts, NamedKey, Scene};
use super::recover::OpenIntent;
use super::work::BUDGET;
use super::{Engines, Pipeline, TenantView};
use crate::action::Action;
use crate::caller::Caller;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{InstanceId, KeyName, OperationId, TenantId};
use crate::key::Key;
use crate::lifecycle::Transition;
use crate::port::{Committed, Mark, Ports, Priority, State, StateChange, World};
use crate::query::MAX_PAGE;
use crate::tenant::TenantRecord;
use std::sync::Arc;

/// What is known of the gateway that comes back.
#[derive(Debug)]
pub struct Restoration<'a> {
    /// The instance that it is from now on.
    pub instance: InstanceId,
    /// The instance that the backup is of.
    pub from: InstanceId,
    /// The build that restores it.
    pub build: &'a str,
    /// What each log was when the backup was taken.
    pub logs: Vec<EarlierLog>,
    /// Stop orders that copies of the logs hold and the backup may not, in their order; and what took back an order to destroy, with the key's id as
    /// its subject.
    pub stops: Vec<OpenIntent>,
    /// The generation of shares of the root key that came with the backup: the state may have recorded a later one already.
    pub shares: Option<u32>,
}

/// A log that another one continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierLog {
    /// Whose.
    pub tenant: TenantId,
    /// Its origin, size and root, separated by spaces: the text of its newest known checkpoint.
    pub checkpoint: String,
}

/// What a restoration did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The commit of the state that the backup holds, as the state itself says.
    pub commit: u64,
    /// Keys that were in use and are suspended now.
    pub suspended: u64,
    /// Keys that wait to be destroyed, each for its whole period from now on: an order that was taken back after the backup is in force again.
    pub waiting: Vec<(TenantId, KeyName)>,
    /// Orders to destroy that the backup holds, and that were taken back after it.
    pub cancelled: usize,
    /// Stop orders that were given again.
    pub stops: usize,
    /// Those that were refused: what there was to stop is not in the backup, or is stopped for good.
    pub refused: usize,
    /// Stop orders of tenants that the backup does not have.
    pub unknown: usize,
}

/// A tenant whose restoration has been recorded as begun.
struct Begun<P: Ports> {
    view: Arc<TenantView<P>>,
    own: Caller,
    operation: OperationId,
    intent: Intent,
    context: Context,
}

impl<P: Ports> Pipeline<P> {
    /// Takes over the state of a backup. The log MUST be empty: its first entries say what it continues. `progress` is told of each key.
    ///
    /// # Errors
    /// Whatever the ports fail with; the directory is then to be restored anew.
    pub async fn restore(
        engines: Engines<P>,
        is_dev: bool,
        restoration: Restoration<'_>,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<(Self, Restored), Error> {
        let backup = engines.state.position();
        let pipeline = Self::unloaded(engines, is_dev);
        let mut tenants = pipeline.engines.state.tenants().await?;
        if !tenants.iter().any(|data| data.record.id.is_gateway()) {
            return Err(Error::new(ErrorKind::StateUnavailable, Stage::Start, "the backup holds no gateway"));
        }
        // The gateway's own first: its log is where an operator looks.
        tenants.sort_by_key(|data| !data.record.id.is_gateway());
        let mut begun = Vec::with_capacity(tenants.len());
        for data in tenants {
            let tenant = data.record.id.clone();
            pipeline.snapshots.install(&pipeline.engines, data).await?;
            begun.push(pipeline.begin_restoration(&tenant, &restoration).await?);
        }
        let shares = restoration.shares;
        let mut restored = Restored { commit: backup.sequence, ..Restored::default() };
        for order in restoration.stops {
            if pipeline.tenant(&order.tenant).is_none() {
                restored.unknown += usize::from(order.action.is_stop());
                continue;
            }
            if order.action == Action::CancelDestruction {
                restored.cancelled += usize::from(pipeline.cancel_again(order).await?);
                continue;
            }
            match pipeline.tell(order).await? {
                true => restored.stops += 1,
                false => restored.refused += 1,
            }
        }
        for tenant in &begun {
            let (suspended, waiting) = pipeline.suspend_all(tenant, (backup, shares), &mut progress).await?;
            restored.suspended += suspended;
            restored.waiting.extend(waiting.into_iter().map(|key| (tenant.own.tenant.clone(), key)));
        }
        Ok((pipeline, restored))
    }

    /// The first entry of a log that continues another one.
    async fn begin_restoration(
        &self,
        tenant: &TenantId,
        restoration: &Restoration<'_>,
    ) -> Result<Begun<P>, Error> {
        let Restoration { instance, from, build, logs, stops: _, shares: _ } = restoration;
        let continues = logs.iter().find(|log| log.tenant == *tenant);
        let context = Context::new(vec![
            ("build".into(), (*build).into()),
            ("continues".into(), continues.map_or("", |log| log.checkpoint.as_str()).into()),
            ("from".into(), from.to_string().into()),
            ("instance".into(), instance.to_string().into()),
        ])?;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let own = own_caller(tenant)?;
        let operation = self.new_operation()?;
        let world = &self.engines.world;
        let inbound = own_inbound(operation, tenant, world.now(), world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let intent = self.own_intent(&scene, &Facts::new(operation, Action::Restore)).await?;
        Ok(Begun { view, own, operation, intent, context })
    }

    /// Takes back an order to destroy that the backup holds, as somebody did after it; gives whether there was one. The key is suspended with all
    /// others afterwards.
    async fn cancel_again(&self, order: OpenIntent) -> Result<bool, Error> {
        let OpenIntent { operation, tenant, action, key, subject: id } = order;
        // What the backup's state has seen already was not about an order that it holds.
        if self.engines.state.committed(operation).await?.is_some() {
            return Ok(false);
        }
        let Some(name) = key else { return Ok(false) };
        let Some(entry) = self.engines.state.key(&tenant, &name).await? else { return Ok(false) };
        let is_of_it = id.is_some_and(|id| id.as_bytes() == entry.key.id.text());
        let Some(Planned { changes, .. }) = is_of_it.then(|| plan_cancel(&entry).ok()).flatten() else {
            return Ok(false);
        };
        let view = self.tenant(&tenant).ok_or_else(not_loaded)?;
        let own = own_caller(&tenant)?;
        let world = &self.engines.world;
        let inbound = own_inbound(operation, &tenant, world.now(), world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &Context::EMPTY };
        let mut facts = Facts::new(operation, action);
        facts.key = Some(NamedKey::of(&entry.key, None));
        self.change_own(&scene, facts, changes).await?;
        Ok(true)
    }

    /// Suspends every key of a tenant that could be used, has those that are to be destroyed wait anew, and closes its restoration. What has been
    /// encrypted since the backup was taken is not counted, so versions with a budget count as due for rotation. Gives how many are suspended,
    /// and which wait.
    async fn suspend_all(
        &self,
        begun: &Begun<P>,
        (backup, shares): (Committed, Option<u32>),
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<(u64, Vec<KeyName>), Error> {
        let Begun { view, own, operation, intent, context } = begun;
        let tenant = &own.tenant;
        let (mut suspended, mut waiting, mut after, mut state) = (0_u64, Vec::new(), None, None);
        loop {
            let page = self.engines.state.keys(tenant, after.as_ref(), MAX_PAGE).await?;
            let mut changes = Vec::with_capacity(page.rows.len());
            for key in &page.rows {
                if key.algorithm.has_budget() {
                    self.count_unknown(key).await?;
                }
                let changed = if let Some(changed) = self.waits_anew(key, self.engines.world.now()) {
                    waiting.push(key.name.clone());
                    changed
                } else if let Ok(Some(stopped)) = transition(key, Transition::Suspend) {
                    suspended += 1;
                    let epoch = key.epoch.next();
                    Key { state: stopped, resumes_to: key.state, epoch, ..key.clone() }
                } else {
                    continue;
                };
                changes.push(StateChange::Key { key: changed, expected: Some(key.epoch) });
            }
            progress(u64::try_from(page.rows.len()).unwrap_or(u64::MAX));
            if !changes.is_empty() {
                state = Some(self.engines.state.commit(intent, changes).await?);
            }
            after = page.rows.last().map(|key| key.name.clone());
            if !page.more {
                break;
            }
        }
        if tenant.is_gateway() {
            state = Some(self.take_over(tenant, intent, backup, shares).await?);
        }
        let world = &self.engines.world;
        let inbound = own_inbound(*operation, tenant, world.now(), world.ticks());
        let scene = Scene { view, caller: own, inbound: &inbound, context };
        let mut facts = Facts::new(*operation, Action::Restore);
        facts.subject = Some(match waiting.len() {
            0 => format!("{suspended} keys suspended").into(),
            waiting => format!("{suspended} keys suspended; {waiting} wait anew to be destroyed").into(),
        });
        facts.state = state;
        let mark = Mark::Outcome(*operation, state);
        let ((), recording) =
            self.record(&scene, &facts, mark, Priority::Ordinary, || ((), Ok(Done::Success)))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        Ok((suspended, waiting))
    }

    /// Counts half of what the backup leaves of each version's budget: new work may have taken any of them since, and may be given back to any of
    /// them. A version that reaches half of its budget is rotated, so more than this was used only while that was under way, or failed, with
    /// alarms. To fill up to half would count nothing from the second time on, and to add half of the whole would leave nothing then.
    async fn count_unknown(&self, key: &Key) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.engines.state.versions(key.id, after, MAX_PAGE).await?;
            for version in &page.rows {
                let used = self.engines.state.count(key.id, version.number, 0).await?;
                let unknown = BUDGET.saturating_sub(used).div_ceil(2);
                self.engines.state.count(key.id, version.number, unknown).await?;
            }
            after = page.rows.last().map(|version| version.number);
            if !page.more {
                return Ok(());
            }
        }
    }

    /// The new instance's first commit, which its log then speaks of: all that came back is in the backup.
    async fn take_over(
        &self,
        gateway: &TenantId,
        intent: &Intent,
        backup: Committed,
        shares: Option<u32>,
    ) -> Result<Committed, Error> {
        let before = self.tenant(gateway).ok_or_else(not_loaded)?.data.record.clone();
        let epoch = before.epoch.next();
        // It was opened, and everything comes out of it.
        let held = Some(backup.sequence);
        let record = TenantRecord { backed_up: held, verified: held, shares, epoch, ..before.clone() };
        let change = StateChange::Tenant { record, expected: Some(before.epoch) };
        let committed = self.engines.state.commit(intent, vec![change]).await?;
        self.reload(gateway).await?;
        Ok(committed)
    }
}
