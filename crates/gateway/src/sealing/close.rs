//! The end of serving: everything that works in the directory ends, and what it was opened with goes.

use crate::boxed::Boxed;
use crate::config::Config;
use crate::device::Refused;
use crate::directory::{Directory, Identity};
use crate::doors::{Doors, Site};
use crate::fault::Fault;
use crate::listener::Listener;
use crate::outside::Outside;
use crate::sealed::Sealed;
use crate::serve::{ALL_ALIVE, Gateway, Running};
use crate::stages::Stages;
use holdfast_state::DirectoryLock;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long connections may go on after an order to seal, to take what they were answered. Nothing is released to them any more.
const GRACE: Duration = Duration::from_secs(1);

/// What becomes of what a gateway listens on when it ends serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sockets {
    /// It is closed at once, so that new connections are refused.
    Closed,
    /// It is kept, and connections that go on for longer than this are cut.
    KeptAndCut(Duration),
}

/// What is left of a gateway that has stopped serving.
pub(crate) struct Ended {
    gateway: Arc<Gateway>,
    /// What it listened on, where that is kept.
    sockets: Option<(Listener, Option<TcpListener>)>,
    lock: DirectoryLock,
    /// Whether all that had begun was finished in time.
    finished: bool,
    /// What of the log could not be completed.
    incomplete: Option<Fault>,
}

impl Running {
    /// Accepts no more, finishes what was accepted, makes the log complete, and ends.
    ///
    /// # Errors
    /// When a request did not finish in time, or the log's last entries could not be published; they are durable all the same.
    pub fn shut_down(self) -> Boxed<'static, Result<(), Fault>> {
        Box::pin(async {
            tracing::info!("shutting down: finishing what was accepted");
            let Ended { gateway, lock, finished, incomplete, sockets: _ } =
                stand_down(self, Sockets::Closed).await?;
            let patience = gateway.config.limits.shutdown_seconds;
            drop(gateway);
            drop(lock);
            match incomplete {
                Some(fault) => Err(fault),
                None if finished => Ok(()),
                None => Err(Fault::new(format!("some connections did not end within {patience} seconds"))
                    .remedy("raise `limits.shutdown_seconds`; whatever had begun was finished and recorded")),
            }
        })
    }

    /// Resolves when a custodian has ordered the gateway to be sealed. It can be given up and waited for again.
    pub async fn sealing(&self) {
        self.gateway.desk.ordered().await;
    }

    /// Ends serving, gives the root key up with everything that came from it, and waits for shares again, on the same sockets.
    ///
    /// # Errors
    /// When something holds on to the root key: then the process MUST end, which wipes it.
    pub fn seal(self) -> Boxed<'static, Result<Sealed, Fault>> {
        Box::pin(async {
            // Whatever hangs, a disk most likely, must not keep the root key.
            let patience = Duration::from_secs(self.gateway.config.limits.shutdown_seconds);
            let sealing = async {
                let (gateway, doors, lock) =
                    stand_down(self, Sockets::KeptAndCut(GRACE)).await?.into_parts()?;
                wait_sealed(gateway, doors, lock).await
            };
            timeout(patience.saturating_mul(2), sealing).await.unwrap_or_else(|_elapsed| Err(held()))
        })
    }
}

/// Gives the root key up, and waits for its shares.
pub(crate) async fn wait_sealed(
    gateway: Arc<Gateway>,
    doors: Doors,
    lock: DirectoryLock,
) -> Result<Sealed, Fault> {
    let (config, directory) = (gateway.config.clone(), gateway.directory.clone());
    let identity = gateway.identity.clone();
    let_go(gateway).await?;
    wait_again(config, (directory, identity), lock, doors)
}

/// Waits for shares, where nothing of state and log is open any more.
pub(crate) fn wait_again(
    config: Config,
    (directory, identity): (Directory, Identity),
    lock: DirectoryLock,
    doors: Doors,
) -> Result<Sealed, Fault> {
    let outside = Arc::new(Outside::new(&config, &directory)?);
    let roster = directory.roster()?.ok_or_else(|| {
        Fault::new("the list of the root key's shares is gone")
            .remedy("put `root.shares` back from a backup, and start the gateway again")
    })?;
    let site = Site { config, directory, outside, stages: Stages::default(), not_opened: None };
    // A device would open it again at once: until the next start it is not asked.
    Ok(Sealed::wait((site, identity, roster), Refused::default(), lock, doors))
}

impl Ended {
    /// The gateway, what it listened on, and the lock of its directory.
    ///
    /// # Errors
    /// When what it listened on was closed.
    pub(crate) fn into_parts(self) -> Result<(Arc<Gateway>, Doors, DirectoryLock), Fault> {
        let Self { gateway, sockets, lock, finished: _, incomplete } = self;
        let (listener, admin) =
            sockets.ok_or_else(|| Fault::new("what the gateway listened on is closed"))?;
        if let Some(fault) = incomplete {
            // All that was acknowledged is durable; the next start completes it.
            tracing::warn!(%fault, "the log could not be completed");
        }
        let (tls, law) = (Arc::clone(&gateway.tls), Arc::clone(&gateway.counting));
        let orders = Arc::clone(&gateway.orders);
        law.store(None);
        Ok((gateway, Doors { tls, listener, admin, law, orders }, lock))
    }
}

/// Ends everything that works in the directory.
pub(crate) async fn stand_down(running: Running, keeps: Sockets) -> Result<Ended, Fault> {
    let Running {
        gateway,
        stop,
        listening,
        admin_listening,
        mut chores,
        carrying,
        background,
        lock,
        address: _,
        admin: _,
        dev: _,
    } = running;
    stop.send_replace(true);
    let lost = |error| Fault::new("a listener was lost").because(error);
    let listener = listening.await.map_err(lost)?;
    let admin = match admin_listening {
        Some(listening) => Some(listening.await.map_err(lost)?),
        None => None,
    };
    let sockets = (keeps != Sockets::Closed).then_some((listener, admin));
    background.ended().await;
    let patience = Duration::from_secs(gateway.config.limits.shutdown_seconds);
    let all_gone = async |patience| timeout(patience, gateway.alive.acquire_many(ALL_ALIVE)).await.is_ok();
    let grace = match keeps {
        Sockets::KeptAndCut(grace) => grace,
        Sockets::Closed => patience,
    };
    let mut finished = all_gone(grace).await;
    if let Some((listener, _)) = &sockets {
        listener.cut();
        finished = finished || all_gone(patience).await;
    }
    let rested = timeout(patience, async { while chores.join_next().await.is_some() {} }).await;
    let kept = gateway.law.housekeep().await;
    let ending = Arc::clone(&gateway);
    let flushed = tokio::task::spawn_blocking(move || {
        let flushed = ending.law.engines().log.flush_all();
        ending.sinks.stop();
        flushed
    });
    let flushed =
        flushed.await.map_err(|error| Fault::new("the log could not be completed").because(error))?;
    let (carrying, last) = carrying;
    last.send_replace(true);
    let _ended = carrying.await;
    let incomplete = kept.map_err(Fault::from).and(flushed.map_err(Fault::from)).err();
    Ok(Ended { gateway, sockets, lock, finished: finished && rested.is_ok(), incomplete })
}

/// Drops the gateway and all that is open in it, once nobody else has it any more.
pub(crate) async fn let_go(gateway: Arc<Gateway>) -> Result<(), Fault> {
    let until = Instant::now() + Duration::from_secs(gateway.config.limits.shutdown_seconds);
    let Gateway { law, .. } = sole(gateway, until).await.ok_or_else(held)?;
    let law = sole(law, until).await.ok_or_else(held)?;
    // Threads end with it.
    let dropped = tokio::task::spawn_blocking(move || drop(law)).await;
    dropped.map_err(|error| Fault::new("the gateway could not be closed").because(error))
}

/// It could not be closed in time.
pub(crate) fn held() -> Fault {
    Fault::new("something that was under way holds on to the root key")
        .remedy("the process ends, which wipes it: start the gateway again, and what was ordered is done")
}

/// The thing itself, once nobody shares it any more.
async fn sole<T>(mut shared: Arc<T>, until: Instant) -> Option<T> {
    loop {
        shared = match Arc::try_unwrap(shared) {
            Ok(sole) => return Some(sole),
            Err(_) if Instant::now() >= until => return None,
            Err(shared) => shared,
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
