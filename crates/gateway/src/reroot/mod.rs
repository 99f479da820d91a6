//! Another root key, on a gateway that goes on: `root.next` is noticed, what was begun is finished, the directory goes from one key to the
//! other, and the same process serves it on the same sockets.

mod change;
mod next;
pub(crate) mod seeds;
mod switch;
#[cfg(test)]
mod tests;

pub use change::{Begun, Change, Ended, HandedOut, Ordered};
pub use switch::Cut;
pub(crate) use switch::{settled, standing, swap_shares};

use crate::boxed::Boxed;
use crate::config::Config;
use crate::directory::{Directory, Identity};
use crate::doors::{Doors, Site};
use crate::fault::Fault;
use crate::outside::Outside;
use crate::root;
use crate::sealed::Sealed;
use crate::sealing::{Sockets, held, let_go, stand_down, wait_sealed};
use crate::serve::{self, Gateway, Running, Started};
use crate::shares::{RootKey, Roster};
use crate::stages::Stages;
use holdfast_core::OperationId;
use holdfast_core::pipeline::Generation;
use holdfast_state::DirectoryLock;
use next::Next;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long connections have to come to a pause, before they are cut; callers send again.
const GRACE: Duration = Duration::from_secs(5);

/// A generation as the log tells it.
pub(crate) fn told(roster: &Roster) -> Generation {
    let Roster { of, made, shared_by, custodians, mac: _ } = roster;
    Generation {
        number: of.generation,
        threshold: of.threshold,
        custodians: custodians.iter().map(|custodian| custodian.name.clone()).collect(),
        made: made.clone(),
        shared_by: shared_by.clone(),
    }
}

impl Gateway {
    /// Looks whether another root key was ordered.
    pub(crate) fn look_for_next_root(&self) {
        let Ok(file) = std::fs::metadata(self.directory.next_root()) else { return };
        let now = file.modified().ok().map(|modified| (modified, file.ino()));
        let mut seen = self.refused_root.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_some() && *seen == now {
            return;
        }
        match Next::read(&self.directory, &self.identity, self.law.engines().log.signing().root()) {
            Ok(Some(_)) => {
                self.rerooting.send_replace(true);
                return;
            }
            Ok(None) => tracing::warn!("`root.next` was sealed under another root key: it orders nothing"),
            Err(fault) => tracing::warn!(%fault, "another root key was not ordered so"),
        }
        // Told once of each.
        *seen = now;
    }
}

impl Running {
    /// Resolves when another root key was ordered. It can be given up and waited for again.
    pub async fn rerooting(&self) {
        serve::stopped(&mut self.gateway.rerooting.subscribe()).await;
    }

    /// Puts the root key in force that was ordered, and goes on serving. What was accepted is finished before, and whoever connects meanwhile
    /// waits. Where it cannot be done nothing has changed, and the order is taken back.
    ///
    /// # Errors
    /// When the directory cannot be served any more, as at a start; the process MUST end then, and its next start is that of one root key or
    /// the other.
    pub fn reroot(self) -> Boxed<'static, Result<Started, Fault>> {
        Box::pin(reroot(self))
    }
}

/// How far a gateway came on its way to another root key.
enum Stood {
    /// It goes on as it is.
    Up(Box<Running>),
    /// A custodian has ordered it to be sealed meanwhile.
    Sealed(Box<Sealed>),
    /// Nothing is open in its directory any more.
    Down(Box<Down>),
}

/// What is left of it, and the operation whose intent stands in the log.
struct Down {
    site: (Config, Directory, Identity),
    doors: Doors,
    lock: DirectoryLock,
    operation: OperationId,
}

async fn reroot(running: Running) -> Result<Started, Fault> {
    let gateway = Arc::clone(&running.gateway);
    gateway.rerooting.send_replace(false);
    let root = gateway.law.engines().log.signing().root().again()?;
    let Some(next) = Next::read(&gateway.directory, &gateway.identity, &root)? else {
        return Ok(Started::Serving(Box::new(running)));
    };
    let begun = std::time::Instant::now();
    // Whatever hangs, a disk most likely, the process must not stand there with its connections cut, neither serving nor sealed.
    let patience = Duration::from_secs(gateway.config.limits.shutdown_seconds).saturating_mul(2);
    drop(gateway);
    let standing = Box::pin(stand_down_for(running, (&root, &next)));
    let stood =
        timeout(GRACE.saturating_add(patience), standing).await.unwrap_or_else(|_elapsed| Err(held()))?;
    let down = match stood {
        Stood::Up(running) => return Ok(Started::Serving(running)),
        Stood::Sealed(sealed) => return Ok(Started::Sealed(sealed)),
        Stood::Down(down) => down,
    };
    let Down { site: (config, directory, identity), doors, lock, operation } = *down;
    let work = {
        let (directory, identity, lock) = (directory.clone(), identity.clone(), lock.clone());
        move || {
            let place = (&directory, &identity, &lock);
            let changed = switch::carry_out(place, (&root, &next), operation, &mut |_| Ok(()));
            if let Err(fault) = &changed {
                tracing::error!(%fault, remedy = fault.remedy_text(), "the root key is not changed");
            }
            let root = match changed {
                Ok(()) => next.root,
                // The state says how far it came.
                Err(_) => {
                    let root = switch::settled(place, root)?;
                    switch::given_up(&directory, &root)?;
                    root
                }
            };
            // Nothing is tried again and again.
            Next::remove(&directory)?;
            Ok::<_, Fault>(root)
        }
    };
    let root = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Fault::new("the root key could not be changed").because(error))??;
    let outside = Arc::new(Outside::new(&config, &directory)?);
    let stages = Stages::default();
    let place = (&directory, &identity, lock);
    let (law, lock, roster) = Box::pin(root::reopen_with(place, root, &config, &outside, &stages)).await?;
    tracing::info!(milliseconds = begun.elapsed().as_millis(), "the gateway serves again");
    let site = Site { config, directory, outside, stages, not_opened: None };
    let running = serve::serve(site, (law, lock, identity), doors, roster).await?;
    Ok(Started::Serving(Box::new(running)))
}

/// Records the intent, ends what works in the directory and gives the earlier root key up. Until then there is a way back.
async fn stand_down_for(running: Running, (root, next): (&RootKey, &Next)) -> Result<Stood, Fault> {
    let up = |running| Ok(Stood::Up(Box::new(running)));
    let gateway = Arc::clone(&running.gateway);
    // One that was given up, or is from before another ceremony, and was put back.
    if let (Some(next), Some(now)) = (&next.roster, gateway.directory.roster()?)
        && next.of.generation <= now.of.generation
    {
        tracing::error!(
            generation = next.of.generation,
            "an order for another root key is of a generation of shares that has passed: it is removed"
        );
        Next::remove(&gateway.directory)?;
        return up(running);
    }
    if gateway.backing_up.get() > 0 {
        tracing::info!("a backup is being written: the root key is changed after it");
        return up(running);
    }
    let names = (root.id()?.to_string(), next.root.id()?.to_string());
    let generation = next.roster.as_ref().map(told);
    let operation = match gateway.law.intend_root((&names.0, &names.1), generation.as_ref()).await {
        Ok(operation) => operation,
        Err(error) => {
            tracing::warn!(
                error = error.chain(),
                remedy = error.remedy_text(),
                "the root key is not changed yet"
            );
            return up(running);
        }
    };
    tracing::info!(from = names.0, to = names.1, "the root key is changed: finishing what was accepted");
    drop(gateway);
    let down = stand_down(running, Sockets::KeptAndCut(GRACE)).await?;
    let (gateway, doors, lock) = down.into_parts()?;
    if gateway.law.is_sealed() {
        // Ordered meanwhile: the next root key waits until the gateway is opened again.
        return Ok(Stood::Sealed(Box::new(wait_sealed(gateway, doors, lock).await?)));
    }
    let site = (gateway.config.clone(), gateway.directory.clone(), gateway.identity.clone());
    let_go(gateway).await?;
    Ok(Stood::Down(Box::new(Down { site, doors, lock, operation })))
}
