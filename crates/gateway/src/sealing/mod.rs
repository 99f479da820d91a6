//! Sealing a gateway that serves: by the order of one custodian of its root key, in the same process, on the same sockets.

mod close;
mod desk;
mod mark;
mod orders;

pub(crate) use close::{Sockets, held, let_go, stand_down, wait_again, wait_sealed};
pub(crate) use desk::{Desk, Order, Refused};
pub(crate) use mark::Marking;
pub(crate) use orders::Orders;

use crate::reroot;
use crate::serve::Gateway;
use holdfast_core::CallerName;
use holdfast_core::command::Durability;
use holdfast_core::pipeline::Sealing;
use holdfast_core::port::World as _;

/// What whoever ordered it is to do where the disk has not taken it.
const NOT_KEPT: &str = "the disk has not taken that the gateway is sealed: a device may open its next start. Free space or mend the disk, and order it \
                        again while its process lives";

/// An order to seal that is in force.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) custodian: CallerName,
    pub(crate) durability: Durability,
    /// What is to be done, because its mark is not on the disk.
    pub(crate) remedy: Option<&'static str>,
}

impl Taken {
    pub(crate) fn of(custodian: CallerName, is_marked: bool, durability: Durability) -> Self {
        Self { custodian, durability, remedy: (!is_marked).then_some(NOT_KEPT) }
    }
}

impl Gateway {
    /// What a custodian is asked to have the gateway sealed.
    ///
    /// # Errors
    /// As the desk says.
    pub(crate) fn ask_to_seal(&self, share: (u32, u8)) -> Result<Vec<u8>, holdfast_core::Error> {
        let world = &self.law.engines().world;
        self.desk.ask(share, world.ticks(), world)
    }

    /// Takes over a generation of shares that was handed out meanwhile, and records it.
    pub(crate) async fn follow_shares(&self) {
        let root = self.law.engines().log.signing().root();
        let Some(roster) = self.desk.follow(&self.directory, root) else { return };
        match self.law.record_generation(&reroot::told(&roster)).await {
            Ok(()) => {
                self.desk.has_told(roster.of.generation);
                tracing::info!(generation = roster.of.generation, "another generation of shares is in force");
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "another generation of shares is recorded later")
            }
        }
    }

    /// Stops everything, by a custodian's order. From its end on nothing leaves; that the root key goes is up to whoever waits for
    /// [`Running::sealing`](crate::serve::Running::sealing).
    ///
    /// # Errors
    /// When it is nobody's order: then nothing has changed.
    pub(crate) async fn seal(&self, order: &Order<'_>) -> Result<Taken, Refused> {
        let world = &self.law.engines().world;
        let custodian = self.desk.take(order, world.ticks())?;
        let Order { generation, source, .. } = *order;
        let sealing =
            Sealing { at: world.now(), custodian: custodian.clone(), generation, source, from_disk: false };
        tracing::warn!(%custodian, "sealing by order: nothing is released any more");
        self.law.stop_everything().await;
        self.orders.keep(sealing);
        // A disk that hangs keeps no root key in memory.
        let is_marked = self.orders.marking().keep(&self.directory).await;
        self.desk.is_ordered();
        let durability = match self.orders.record(&self.law, None).await {
            Ok(()) if is_marked => Durability::Durable,
            Ok(()) => Durability::InForce,
            Err(error) => {
                tracing::error!(
                    error = error.chain(),
                    "the order to seal is recorded when the gateway opens again"
                );
                Durability::InForce
            }
        };
        Ok(Taken::of(custodian, is_marked, durability))
    }
}
