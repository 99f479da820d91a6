//! Pruning: what a log's retention no longer demands is recorded as about to go, and goes.

use super::Pipeline;
use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::proof::{Intent, Permit};
use super::record::{Facts, Scene};
use crate::action::Action;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::TenantId;
use crate::port::{AuditLog, Expiry, Mark, Ports, World};
use crate::stop::StopEpoch;

impl<P: Ports> Pipeline<P> {
    /// Prunes every log that has a retention. `keep_from` names the first entry that somebody else still needs of a log, if anybody does. To
    /// be called at the start and once a day; what fails is tried again with the rest of what waits.
    ///
    /// # Errors
    /// The first failure, after all logs have had their turn.
    pub async fn prune(&self, keep_from: impl Fn(&TenantId) -> Option<u64> + Sync) -> Result<(), Error> {
        let mut failed = Ok(());
        for tenant in self.snapshots.names() {
            if let Err(error) = self.prune_log(&tenant, keep_from(&tenant)).await {
                failed = failed.and(Err(error));
            }
        }
        failed
    }

    async fn prune_log(&self, tenant: &TenantId, needed: Option<u64>) -> Result<(), Error> {
        let Some(view) = self.tenant(tenant) else { return Ok(()) };
        let Some(retention) = view.data.record.retention else { return Ok(()) };
        if self.unfinished.is_pruning(tenant) {
            return Ok(());
        }
        let world = &self.engines.world;
        // What a clock that jumped makes old goes only once somebody has confirmed that it is.
        let now = world.now();
        let now = world.held_now().map_or(now, |held| held.min(now));
        let expiry = Expiry { retention, now, needed };
        let Some(keep) = self.engines.log.prunable(&view.log, expiry).await? else { return Ok(()) };
        let own = own_caller(tenant)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, tenant, world.now(), world.ticks());
        let context = Context::new(vec![("retention".into(), retention.to_string().into())])?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let mut facts = Facts::new(operation, Action::PruneAudit);
        facts.subject = Some(keep.to_string().into());
        let intent = self.own_intent(&scene, &facts).await?;
        let pruned = match self.engines.log.prune(&intent, &view.log, keep).await {
            Ok(()) => self.record_own(&scene, &facts, Mark::Outcome(operation, None)).await,
            Err(error) => Err(error),
        };
        if pruned.is_err() {
            self.unfinished.intent_is_open(facts.open_intent(tenant));
        }
        pruned
    }

    /// Goes on with a pruning whose intent stands in the log. What is gone already is no matter.
    pub(super) async fn prune_on(&self, facts: &Facts, tenant: &TenantId) -> Result<(), Error> {
        let keep = facts.subject.as_deref().and_then(|subject| subject.parse().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, Stage::Start, "the record of a pruning does not say how far")
        })?;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let own = own_caller(tenant)?;
        let permit = Permit::own(facts.operation, tenant.clone(), own.name().clone(), StopEpoch::END);
        self.engines.log.prune(&Intent::own(permit), &view.log, keep).await
    }
}
