//! The clock jumps: the time from before is held, and what time unlocks or locks must hold under both, until an operator confirms.
//!
//! The world holds it from the moment at which it notices. Here it is recorded, kept across restarts in the gateway's own record, and ended.

use super::Pipeline;
use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::plan::Planned;
use super::record::{Facts, Scene};
use crate::action::Action;
use crate::command::Done;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::TenantId;
use crate::port::{Jump, Ports, StateChange, World};
use crate::tenant::TenantRecord;
use crate::time::Timestamp;
use std::sync::PoisonError;

impl<P: Ports> Pipeline<P> {
    /// The time that is held while a jump of the clock waits to be confirmed.
    pub fn clock_held(&self) -> Option<Timestamp> {
        self.engines.world.held_now()
    }

    /// While a jump of the clock waits to be confirmed, the earlier of both times: what begins now gets no more time by it.
    pub(super) fn at_earliest(&self, now: Timestamp) -> Timestamp {
        self.engines.world.held_now().map_or(now, |held| held.min(now))
    }

    /// And the later: what has expired stays expired.
    pub(super) fn at_latest(&self, now: Timestamp) -> Timestamp {
        self.engines.world.held_now().map_or(now, |held| held.max(now))
    }

    /// What an earlier process noticed and nobody has confirmed. How long nobody was there to carry the time on cannot be known, so it goes
    /// on from where it was noticed: too early rather than too late, for what time unlocks.
    pub(super) fn hold_clock_again(&self) {
        let held = self.tenant(&TenantId::gateway()).and_then(|view| view.data.record.clock_held);
        if let Some(held) = held {
            self.engines.world.hold_clock(held);
        }
    }

    /// Looks whether the clock has jumped, and records what is not recorded yet.
    pub(super) async fn watch_clock(&self) -> Result<(), Error> {
        let noticed = self.engines.world.notice_jump();
        let waiting = {
            let mut waiting = self.unfinished.jump.lock().unwrap_or_else(PoisonError::into_inner);
            noticed.or(waiting.take())
        };
        let Some(jump) = waiting else { return Ok(()) };
        let recorded = self.record_jump(jump).await;
        if recorded.is_err() {
            *self.unfinished.jump.lock().unwrap_or_else(PoisonError::into_inner) = Some(jump);
        }
        recorded
    }

    /// Records a jump in the gateway's own log, with an alarm, and in its own record, so that a restart ends nothing.
    async fn record_jump(&self, jump: Jump) -> Result<(), Error> {
        // Confirmed meanwhile, while it could not be recorded: then there is nothing to hold.
        let Some(held) = self.engines.world.held_now() else { return Ok(()) };
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        self.reload(&gateway).await?;
        let view = self.tenant(&gateway).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let context = Context::new(vec![
            ("from".into(), jump.from.to_string().into()),
            ("to".into(), jump.to.to_string().into()),
        ])?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let mut facts = Facts::new(operation, Action::HoldClock);
        let alarm =
            format!("the clock jumped from {} to {}; the time from before is held", jump.from, jump.to);
        facts.alarm = Some(alarm.into());
        self.change_own(&scene, facts, vec![hold(&view.data.record, Some(held))]).await
    }

    /// Ends the hold in the gateway's own record.
    pub(super) async fn plan_confirm_clock(&self, gateway: &TenantId) -> Result<Planned, Error> {
        if !gateway.is_gateway() {
            let detail = "the clock is the whole gateway's, not one tenant's";
            return Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
                .remedy("ask an operator of the gateway"));
        }
        self.reload(gateway).await?;
        let view = self.tenant(gateway).ok_or_else(not_loaded)?;
        let before = &view.data.record;
        if self.engines.world.held_now().is_none() && before.clock_held.is_none() {
            let detail = "no jump of the clock waits to be confirmed";
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail)
                .remedy("nothing is to be done; `holdfast status` tells when there is"));
        }
        let done = Done::Tenant(gateway.clone(), before.epoch.next());
        let changes = vec![hold(before, None)];
        Ok(Planned { changes, done, reload: Some(gateway.clone()), compares: false })
    }
}

fn hold(before: &TenantRecord, clock_held: Option<Timestamp>) -> StateChange {
    let record = TenantRecord { clock_held, epoch: before.epoch.next(), ..before.clone() };
    StateChange::Tenant { record, expected: Some(before.epoch) }
}
