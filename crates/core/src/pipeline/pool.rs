//! Who works in the key store's pool: an operator's orders, recorded like any other, and what outlasts a restart.

use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::plan::Planned;
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::{NO_CONTEXT, Pipeline};
use crate::action::Action;
use crate::command::Done;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{MemberName, TenantId};
use crate::port::{Absence, KeyStore as _, Membership, Ports, StateChange, World as _};
use crate::tenant::TenantRecord;
use std::collections::BTreeMap;

impl<P: Ports> Pipeline<P> {
    /// The key store does it at once; the gateway's record keeps it.
    pub(super) async fn plan_move_member(
        &self,
        gateway: &TenantId,
        intent: &Intent,
        member: &MemberName,
        to: Membership,
    ) -> Result<Planned, Error> {
        if !gateway.is_gateway() {
            let detail = "the pool is the whole gateway's, not one tenant's";
            return Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
                .remedy("ask an operator of the gateway"));
        }
        self.engines.keys.move_member(intent.permit(), member, to)?;
        let view = self.tenant(gateway).ok_or_else(not_loaded)?;
        let before = &view.data.record;
        let change = with_members_out(before, |out| {
            match to {
                Membership::Joined => out.remove(member),
                Membership::Drained => out.insert(member.clone(), Absence::Drained),
            };
        });
        let done = Done::Tenant(gateway.clone(), before.epoch.next());
        Ok(Planned { changes: vec![change], done, reload: Some(gateway.clone()), compares: false })
    }

    /// Whoever was out before this start is out.
    pub(super) fn keep_members_out(&self) {
        let Some(view) = self.tenant(&TenantId::gateway()) else { return };
        for (member, absence) in &view.data.record.out {
            self.engines.keys.keep_out(member, *absence);
        }
    }

    /// Records members that the key store has put out by itself, with an alarm.
    pub(super) async fn record_ejections(&self) -> Result<(), Error> {
        loop {
            // Before the key store is asked: an operator's order that comes in between makes the commit a conflict.
            let Some(view) = self.tenant(&TenantId::gateway()) else { return Ok(()) };
            let out = &view.data.record.out;
            let unrecorded = |(member, _): &(MemberName, String)| out.get(member) != Some(&Absence::Ejected);
            let Some((member, why)) = self.engines.keys.ejected().into_iter().find(unrecorded) else {
                return Ok(());
            };
            self.record_ejection(&view.data.record, &member, &why).await?;
        }
    }

    async fn record_ejection(
        &self,
        before: &TenantRecord,
        member: &MemberName,
        why: &str,
    ) -> Result<(), Error> {
        let gateway = TenantId::gateway();
        let (own, view) = (own_caller(&gateway)?, self.tenant(&gateway).ok_or_else(not_loaded)?);
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, Action::EjectMember);
        facts.subject = Some(member.as_str().into());
        facts.alarm = Some(format!("a member of the pool is out: {why}").into());
        let change = with_members_out(before, |out| {
            out.insert(member.clone(), Absence::Ejected);
        });
        self.change_own(&scene, facts, vec![change]).await
    }
}

fn with_members_out(
    before: &TenantRecord,
    change: impl FnOnce(&mut BTreeMap<MemberName, Absence>),
) -> StateChange {
    let mut record = TenantRecord { epoch: before.epoch.next(), ..before.clone() };
    change(&mut record.out);
    StateChange::Tenant { record, expected: Some(before.epoch) }
}
