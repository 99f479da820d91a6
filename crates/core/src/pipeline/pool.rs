//! Members of the key store's pool are taken out and let in again: an order of an operator's, recorded like any other.

use super::Pipeline;
use super::found::not_loaded;
use super::plan::Planned;
use super::proof::Intent;
use crate::command::Done;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{MemberName, TenantId};
use crate::port::{KeyStore as _, Membership, Ports, StateChange};
use crate::tenant::TenantRecord;

impl<P: Ports> Pipeline<P> {
    /// The key store does it at once; the gateway's record is written anew, so that the order has its place among the others.
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
        let record = TenantRecord { epoch: before.epoch.next(), ..before.clone() };
        let done = Done::Tenant(gateway.clone(), record.epoch);
        let changes = vec![StateChange::Tenant { record, expected: Some(before.epoch) }];
        Ok(Planned { changes, done, reload: Some(gateway.clone()), compares: false })
    }
}
