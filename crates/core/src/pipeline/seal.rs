//! The gateway gives its root key up: by the order of one custodian of it, and before anything else everything stops.

use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::proof::Recording;
use super::record::{Done, Facts, Scene};
use super::{Inbound, Pipeline};
use crate::action::Action;
use crate::context::Context;
use crate::error::Error;
use crate::id::{CallerName, TenantId};
use crate::port::{Mark, Ports, Priority, World};
use crate::stop::Target;
use crate::time::Timestamp;
use core::net::IpAddr;

/// Whose order it was.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// When it came.
    pub at: Timestamp,
    /// Which custodian of the root key answered for it.
    pub custodian: CallerName,
    /// The generation of their share.
    pub generation: u32,
    /// From where.
    pub source: Option<IpAddr>,
    /// Whether it has lain on the disk since: who can write there may have put it there, and its event says so.
    pub from_disk: bool,
}

impl<P: Ports> Pipeline<P> {
    /// Stops everything, for good: when this is over, no earlier permit releases anything, and none is given any more. Nothing can refuse it.
    pub async fn stop_everything(&self) {
        self.stops.order(Target::Gateway);
        self.stops.drain().await;
    }

    /// Whether everything was stopped so.
    pub fn is_sealed(&self) -> bool {
        self.stops.is_sealed()
    }

    /// Records whose order it was, in the gateway's own log, drawing on what is reserved for stops. What it could not take has to be kept
    /// until a log takes it.
    ///
    /// # Errors
    /// When the log has failed. The stop is in force all the same.
    pub async fn record_sealing(&self, sealing: &Sealing) -> Result<(), Error> {
        let Sealing { at, custodian, generation, source, from_disk } = sealing;
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        let view = self.tenant(&gateway).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let now = self.engines.world.now();
        let inbound = own_inbound(operation, &gateway, now, self.engines.world.ticks());
        let inbound = Inbound { source: *source, ..inbound };
        let mut pairs = vec![
            ("at".into(), at.to_string().into()),
            ("custodian".into(), custodian.as_str().into()),
            ("generation".into(), generation.to_string().into()),
        ];
        if *from_disk {
            pairs.push(("kept".into(), "on-disk".into()));
        }
        let context = Context::new(pairs)?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let facts = Facts::new(operation, Action::Seal);
        let ((), recording): (_, Recording<P::Log>) =
            self.record(&scene, &facts, Mark::Plain, Priority::Stop, || ((), Ok(Done::Success)))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        Ok(())
    }
}
