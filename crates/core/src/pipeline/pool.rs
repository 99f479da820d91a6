//! Who works in the key store's pool: an operator's orders, recorded like any other, and what outlasts a restart.

use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::plan::Planned;
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::{NO_CONTEXT, Pipeline, TenantView};
use crate::action::Action;
use crate::command::Done;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{MemberName, TenantId};
use crate::key::Version;
use crate::port::{Absence, KeyStore as _, Membership, Ports, State as _, StateChange, World as _};
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
            let alarm = format!("a member of the pool is out: {why}");
            let change = with_members_out(&view.data.record, |out| {
                out.insert(member.clone(), Absence::Ejected);
            });
            self.change_pool(
                &view,
                Action::EjectMember,
                (member.as_str().into(), Some(alarm.into())),
                change,
            )
            .await?;
        }
    }

    /// Changes what the gateway's record says of the pool, as nobody has asked for.
    async fn change_pool(
        &self,
        view: &TenantView<P>,
        action: Action,
        (subject, alarm): (Box<str>, Option<Box<str>>),
        change: StateChange,
    ) -> Result<(), Error> {
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let facts = Facts { subject: Some(subject), alarm, ..Facts::new(operation, action) };
        self.change_own(&scene, facts, vec![change]).await
    }

    /// Records who has come to the pool since an earlier start, and who is no member any more.
    pub(super) async fn note_members(&self) -> Result<(), Error> {
        let Some(view) = self.tenant(&TenantId::gateway()) else { return Ok(()) };
        let before = &view.data.record;
        let members = self.engines.keys.members();
        let come: Vec<_> =
            members.iter().filter(|member| before.members.get(*member) != Some(&None)).collect();
        let there = before.members.iter().filter_map(|(member, left)| left.is_none().then_some(member));
        let gone: Vec<_> = there.filter(|member| !members.contains(member)).collect();
        if come.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut record = TenantRecord { epoch: before.epoch.next(), ..before.clone() };
        record.members.extend(come.iter().map(|member| ((*member).clone(), None)));
        // By commits, as no clock that was ahead or is behind hides anybody.
        let left = Some(self.engines.state.position().sequence);
        record.members.extend(gone.iter().map(|member| ((*member).clone(), left)));
        let change = StateChange::Tenant { record, expected: Some(before.epoch) };
        self.change_pool(&view, Action::NoteMembers, (moved(&come, &gone).into(), None), change).await
    }

    /// Whoever was in the pool when a version was made, of one that these members hold, besides them; nobody of one that lies in none.
    pub(super) fn left_since(&self, version: &Version, holders: &[MemberName]) -> Vec<MemberName> {
        if holders.is_empty() {
            return Vec::new();
        }
        let Some(gateway) = self.tenant(&TenantId::gateway()) else { return Vec::new() };
        let was_there = |left: Option<u64>| left.is_none_or(|left| version.commit <= left);
        let members = gateway.data.record.members.iter();
        let left = members.filter(|(member, left)| was_there(**left) && !holders.contains(member));
        left.map(|(member, _)| member.clone()).collect()
    }
}

fn moved(come: &[&MemberName], gone: &[&MemberName]) -> String {
    let [come, gone] = [("in the pool", come), ("no more", gone)].map(|(how, members)| {
        let names: Vec<_> = members.iter().map(|member| member.as_str()).collect();
        (!names.is_empty()).then(|| format!("{how}: {}", names.join(", ")))
    });
    come.into_iter().chain(gone).collect::<Vec<_>>().join("; ")
}

fn with_members_out(
    before: &TenantRecord,
    change: impl FnOnce(&mut BTreeMap<MemberName, Absence>),
) -> StateChange {
    let mut record = TenantRecord { epoch: before.epoch.next(), ..before.clone() };
    change(&mut record.out);
    StateChange::Tenant { record, expected: Some(before.epoch) }
}
