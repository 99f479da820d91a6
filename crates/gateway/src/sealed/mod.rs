//! A gateway that waits for its root key.
//!
//! It listens, and answers for nothing but its seal and its health. A custodian can have it stay sealed. Nothing of state and log is opened: [`Sealed::open`] does that with the
//! root key that custodians' shares gave, and hands the bound listeners on to what serves.

mod figures;
mod service;
#[cfg(test)]
mod tests;
mod waiting;

use crate::admin;
use crate::boxed::Boxed;
use crate::conversation::converse;
use crate::device::Refused;
use crate::directory::Identity;
use crate::doors::{Doors, Site};
use crate::fault::Fault;
use crate::listener::{Connection, Listener};
use crate::root::{self, Law};
use crate::sealing::{self, Orders};
use crate::serve::{self, Started};
use crate::shares::{Fingerprint, Gathering, Progress, Roster};
use crate::tls::TlsState;
use crate::world::SystemWorld;
use arc_swap::ArcSwapOption;
use holdfast_core::pipeline::{DeviceUnsealing, Unsealing};
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use holdfast_keystore::root::RootKey;
use holdfast_state::DirectoryLock;
use holdfast_wire::native::message::Seal;
use hyper::service::service_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use waiting::Waiting;

/// A gateway that waits for its root key.
pub struct Sealed {
    /// The public address.
    pub address: SocketAddr,
    /// The operator's own listener.
    pub admin: Option<SocketAddr>,
    /// What custodians compare before they give their shares.
    pub fingerprint: Fingerprint,
    /// How many shares open it, of how many.
    pub shares: (u8, usize),
    site: Site,
    identity: Identity,
    roster: Roster,
    /// What its device said instead of opening the root key, if it has one.
    refused: Refused,
    lock: DirectoryLock,
    tls: Arc<TlsState>,
    given: oneshot::Receiver<(RootKey, Progress)>,
    stop: watch::Sender<bool>,
    /// Give back what they listen on.
    listening: JoinHandle<Listener>,
    admin_listening: Option<JoinHandle<TcpListener>>,
    law: Arc<ArcSwapOption<Law>>,
    /// The orders to seal that no log has yet.
    orders: Arc<Orders>,
    /// What it does meanwhile.
    waiting: Arc<Waiting>,
}

/// The root key, and who gave it.
pub struct Unsealed {
    root: RootKey,
    by: By,
    at: Timestamp,
}

enum By {
    /// These custodians' shares.
    Shares(Progress),
    /// The device, which is there again.
    Device(DeviceUnsealing),
}

impl Sealed {
    /// Begins to wait.
    pub(crate) async fn begin(
        mut site: Site,
        identity: Identity,
        roster: Roster,
        refused: Refused,
    ) -> Result<Self, Fault> {
        if identity.dev {
            let problem = format!("`{}` is a dev directory, for ever", site.directory.path().display());
            return Err(Fault::new(problem).remedy("serve it with `--dev`"));
        }
        let lock = DirectoryLock::take(site.directory.path())?;
        site.directory.keep_mark_ready();
        let doors = Doors::bind(&mut site).await?;
        site.not_opened = refused.told.as_ref().and_then(|device| device.refused.clone());
        Ok(Self::wait((site, identity, roster), refused, lock, doors))
    }

    /// The same, with what is bound already. A device is asked again by `refused` alone: not where custodians have sealed the gateway.
    pub(crate) fn wait(
        (site, identity, roster): (Site, Identity, Roster),
        refused: Refused,
        lock: DirectoryLock,
        doors: Doors,
    ) -> Self {
        let address = site.config.listen.address;
        let admin_address = doors.admin_address();
        let Doors { tls, listener, admin, law, orders } = doors;
        let (give, given) = oneshot::channel();
        let shares = (roster.of.threshold, roster.custodians.len());
        let gathering = Gathering::begin(roster.clone());
        let place = (&site.directory, &site.config.limits);
        let mut waiting = Waiting::new(gathering, give, Arc::clone(&tls), place, Arc::clone(&orders));
        waiting.not_opened.clone_from(&site.not_opened);
        let waiting = Arc::new(waiting);
        let fingerprint = waiting.fingerprint();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(waiting::expire(Arc::clone(&waiting), stopping.clone()));
        let admin_listening = admin.map(|listener| {
            let (waiting, stopping) = (Arc::clone(&waiting), stopping.clone());
            tokio::spawn(async move {
                admin::run(&listener, waiting, stopping).await;
                listener
            })
        });
        let answering = Arc::clone(&waiting);
        let listening = tokio::spawn(async move {
            let connections = stopping.clone();
            let serve = move |connection| answer(Arc::clone(&answering), connection, connections.clone());
            listener.run(stopping, serve).await;
            listener
        });
        tracing::warn!(
            %address, instance = %identity.instance, %fingerprint, threshold = shares.0, shares = shares.1,
            "sealed: waiting for shares of the root key"
        );
        Self {
            address,
            admin: admin_address,
            fingerprint,
            shares,
            site,
            identity,
            roster,
            refused,
            lock,
            tls,
            given,
            stop,
            listening,
            admin_listening,
            law,
            orders,
            waiting,
        }
    }

    /// What reads certificate and key again.
    pub fn reloading(&self) -> impl Fn() -> Result<(), Fault> + use<> {
        let tls = Arc::clone(&self.tls);
        move || tls.reload()
    }

    /// Waits until enough shares have given the root key, or its device has. It can be given up and waited for again.
    ///
    /// # Errors
    /// Never while the gateway lives.
    pub async fn unsealed(&mut self) -> Result<Unsealed, Fault> {
        let mut ordered = self.waiting.ordered();
        let (root, by) = loop {
            tokio::select! {
                biased;
                () = serve::stopped(&mut ordered), if self.refused.returning.is_some() => {
                    // What a custodian has sealed no device opens.
                    self.refused.returning.take().inspect(JoinHandle::abort);
                }
                given = &mut self.given => {
                    let given = given.map_err(|error| Fault::new("nobody waits for shares any more").because(error));
                    break given.map(|(root, by)| (root, By::Shares(by)))?;
                }
                (root, by) = returned(&mut self.refused.returning) => break (root, By::Device(by)),
            }
        };
        Ok(Unsealed { root, by, at: SystemWorld::new().now() })
    }

    /// Opens the gateway and serves. Until then whoever asks is told that it is sealed; where a custodian has ordered that meanwhile, it is closed
    /// and waits again.
    ///
    /// # Errors
    /// As at any other start, when the directory cannot be served.
    pub fn open(self, unsealed: Unsealed) -> Boxed<'static, Result<Started, Fault>> {
        Box::pin(self.open_again(unsealed))
    }

    async fn open_again(self, unsealed: Unsealed) -> Result<Started, Fault> {
        let Self {
            mut site,
            identity,
            lock,
            tls,
            stop,
            listening,
            admin_listening,
            law: counting,
            roster,
            refused,
            orders,
            waiting,
            ..
        } = self;
        let Unsealed { root, by, at } = unsealed;
        let Site { config, directory, outside, stages, not_opened: _ } = &site;
        let place = (directory, &identity, lock);
        // Those that came while it was being opened stand behind that.
        let before = if matches!(by, By::Shares(_)) { waiting.ordered_before() } else { orders.next() };
        let Refused { told: refused, returning } = refused;
        // Whoever still waits for the device need not any more.
        returning.inspect(JoinHandle::abort);
        let (law, lock, in_force) = Box::pin(root::reopen_with(place, root, config, outside, stages)).await?;
        // The generation that it was opened with, or one with which another root key was just brought in force.
        let roster = in_force.unwrap_or(roster);
        // Whose shares they were is for the log: no list without a code says so, once there were some with one.
        if let (By::Shares(Progress { has_code: false, .. }), Some(_)) = (&by, law.recorded_generation()) {
            return Err(Fault::new("the shares were given by a list of custodians without a code of the root key")
                .remedy("somebody has exchanged `root.shares` meanwhile: look who can write there, and have the shares given again")
                .damaged());
        }
        if let Some(refused) = refused
            && let Err(error) = law.record_device(refused).await
        {
            tracing::warn!(
                error = error.chain(),
                "that its device did not open it is not recorded yet; it is retried"
            );
        }
        let is_by_shares = matches!(by, By::Shares(_));
        if let Err(error) = orders.record(&law, Some(before)).await {
            tracing::warn!(error = error.chain(), "orders to seal are not recorded yet; it is retried");
        }
        let recorded = match by {
            By::Shares(by) => {
                tracing::info!(custodians = by.names(), generation = by.generation, "unsealed");
                let unsealing = Unsealing {
                    at,
                    generation: by.generation,
                    threshold: by.threshold,
                    custodians: by.given,
                    made: roster.made.clone(),
                    shared_by: roster.shared_by.clone(),
                };
                law.record_unsealing(unsealing).await
            }
            By::Device(by) => {
                tracing::info!(device = by.device, bound_to = by.bound_to, "unsealed by its device");
                site.not_opened = None;
                law.record_device(by).await
            }
        };
        if let Err(error) = recorded {
            tracing::warn!(
                error = error.chain(),
                "who unsealed the gateway is not recorded yet; it is retried"
            );
        }
        let may_serve = waiting.close(is_by_shares).await;
        stop.send_replace(true);
        let lost = |error| Fault::new("a listener was lost").because(error);
        let listener = listening.await.map_err(lost)?;
        let admin = match admin_listening {
            Some(listening) => Some(listening.await.map_err(lost)?),
            None => None,
        };
        let doors = Doors { tls, listener, admin, law: counting, orders };
        match may_serve {
            true => {
                let serving = Box::pin(serve::serve(site, (law, lock, identity), doors, Some(roster)));
                Ok(Started::Serving(Box::new(serving.await?)))
            }
            false => {
                let Site { config, directory, .. } = site;
                give_up(law, &doors.orders).await?;
                let sealed = sealing::wait_again(config, (directory, identity), lock, doors)?;
                Ok(Started::Sealed(Box::new(sealed)))
            }
        }
    }

    /// Ends without having been opened.
    pub async fn shut_down(self) {
        tracing::info!("shutting down, sealed");
        self.stop.send_replace(true);
        let _ended = self.listening.await;
    }
}

/// Closes what was opened in spite of an order to seal.
async fn give_up(law: Law, orders: &Arc<Orders>) -> Result<(), Fault> {
    tracing::warn!("sealed by order while it was being opened");
    law.stop_everything().await;
    if let Err(error) = orders.record(&law, None).await {
        tracing::error!(error = error.chain(), "the order to seal is recorded when the gateway opens again");
    }
    // Threads end with it.
    let closed = tokio::task::spawn_blocking(move || {
        let flushed = law.engines().log.flush_all();
        drop(law);
        flushed
    });
    let flushed =
        closed.await.map_err(|error| Fault::new("the gateway could not be closed").because(error))?;
    if let Err(fault) = flushed {
        // All that was acknowledged is durable; the next start completes it.
        tracing::warn!(%fault, "the log could not be completed");
    }
    Ok(())
}

/// What its device gives, when it is there again.
async fn returned(
    returning: &mut Option<JoinHandle<(RootKey, DeviceUnsealing)>>,
) -> (RootKey, DeviceUnsealing) {
    if let Some(device) = returning {
        match device.await {
            Ok(given) => return given,
            Err(error) => {
                tracing::error!(%error, "nobody waits for the device any more: shares open the gateway")
            }
        }
        *returning = None;
    }
    std::future::pending().await
}

async fn answer(waiting: Arc<Waiting>, connection: Connection, stop: watch::Receiver<bool>) {
    let Connection { stream, about } = connection;
    let (is_http2, about) = (about.is_http2, Arc::new(about));
    let limits = waiting.limits.clone();
    let service = {
        let about = Arc::clone(&about);
        service_fn(move |request| service::answer(Arc::clone(&waiting), Arc::clone(&about), request))
    };
    if let Err(error) = converse((stream, is_http2), &limits, service, stop).await {
        tracing::debug!(%error, "a connection ended badly");
    }
    // Its place among the connections is kept until here.
    drop(about);
}

/// What an open gateway says of its seal, and one that is just being sealed.
pub(crate) fn open(sealed: bool) -> Seal {
    Seal {
        sealed,
        opening: false,
        recipient: None,
        generation: None,
        threshold: None,
        given: None,
        custodians: None,
    }
}

/// What an open gateway says to a share.
pub(crate) fn not_sealed() -> Error {
    Error::new(ErrorKind::Conflict, Stage::Start, "the gateway is not sealed")
        .remedy("nothing is to be done: it has its root key, and needs no share")
}
