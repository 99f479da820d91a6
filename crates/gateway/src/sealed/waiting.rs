//! What a sealed gateway knows, and how it changes.

use crate::bodies::Bodies;
use crate::config::Limits;
use crate::directory::Directory;
use crate::listener::Addresses;
use crate::sealing::{Desk, Marking, Order, Orders, Refused, Taken};
use crate::shares::{Attempts, Fingerprint, Gathering, Given, Progress, Roster, Wait};
use crate::tls::TlsState;
use crate::world::SystemWorld;
use holdfast_core::command::Durability;
use holdfast_core::pipeline::Sealing;
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_keystore::root::RootKey;
use holdfast_wire::native::field::Name;
use holdfast_wire::native::message::Seal;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

/// Shares and orders that may be worked on at once.
const WORKING: usize = 64;
/// And of one network.
const WORKING_FOR_ONE: usize = 4;

/// A gateway without its root key.
pub(super) struct Waiting {
    pub(super) limits: Limits,
    pub(super) world: SystemWorld,
    /// What comes.
    pub(super) bodies: Bodies,
    /// What has come and is worked on, bounded.
    pub(super) working: Semaphore,
    /// The same by network: no one stranger keeps custodians out.
    pub(super) working_for: Arc<Addresses>,
    pub(super) tls: Arc<TlsState>,
    /// Why its device did not open the root key, if it has one.
    pub(super) not_opened: Option<String>,
    fingerprint: Fingerprint,
    directory: Directory,
    /// Takes orders to seal: what is sealed already may be about to open.
    desk: Desk,
    /// Those that no log has yet.
    orders: Arc<Orders>,
    /// One has come.
    ordered: watch::Sender<bool>,
    inner: Mutex<Inner>,
    /// The first share has come, so that there is something that can expire.
    begun: Notify,
}

struct Inner {
    phase: Phase,
    attempts: Attempts,
    ordered: Ordered,
    /// It serves from now on, and orders go there.
    is_closed: bool,
}

/// When it was ordered to be sealed while it waited.
#[derive(Debug, Default)]
struct Ordered {
    /// Before enough shares were in: those that came later open it, and no device does.
    before: bool,
    /// While it was being opened, which is void.
    while_opening: bool,
    /// The number of the next order when enough shares were in.
    until_then: u64,
}

impl Ordered {
    /// Whether what has opened it is void.
    fn forbids(&self, is_by_shares: bool) -> bool {
        self.while_opening || (self.before && !is_by_shares)
    }
}

enum Phase {
    /// The fresh key and the shares live in here, and go with it.
    Gathering(Box<Gathering>, oneshot::Sender<(RootKey, Progress)>),
    /// Enough are in.
    Opening(Progress),
}

/// What an operator is told of it.
pub(super) struct Seen {
    pub(super) progress: Progress,
    pub(super) is_opening: bool,
    pub(super) refused: u64,
    pub(super) is_ordered: bool,
}

impl Waiting {
    pub(super) fn new(
        gathering: Gathering,
        give: oneshot::Sender<(RootKey, Progress)>,
        tls: Arc<TlsState>,
        (directory, limits): (&Directory, &Limits),
        orders: Arc<Orders>,
    ) -> Self {
        let gathering = Box::new(gathering);
        Self {
            limits: limits.clone(),
            world: SystemWorld::new(),
            bodies: Bodies::of(limits),
            working: Semaphore::new(WORKING),
            working_for: Addresses::of(WORKING_FOR_ONE),
            tls,
            not_opened: None,
            fingerprint: gathering.fingerprint(),
            directory: directory.clone(),
            desk: Desk::new(Some(gathering.roster().clone()), None),
            orders,
            ordered: watch::Sender::new(false),
            inner: Mutex::new(Inner {
                phase: Phase::Gathering(gathering, give),
                attempts: Attempts::default(),
                ordered: Ordered::default(),
                is_closed: false,
            }),
            begun: Notify::new(),
        }
    }

    /// What the fresh key is recognised by.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What anybody may know: how many shares are in, and not of whom.
    pub(super) fn seal(&self) -> Seal {
        let now = self.world.ticks();
        match &mut self.inner().phase {
            Phase::Gathering(gathering, _) => {
                let recipient = gathering.recipient().to_owned();
                Seal { recipient: Some(recipient), custodians: None, ..told(&gathering.progress(now), false) }
            }
            Phase::Opening(progress) => Seal { custodians: None, ..told(progress, true) },
        }
    }

    /// What the operator may know.
    pub(super) fn seen(&self) -> Seen {
        let now = self.world.ticks();
        let is_ordered = self.directory.is_sealed_by_order();
        let mut inner = self.inner();
        let refused = inner.attempts.refused();
        match &mut inner.phase {
            Phase::Gathering(gathering, _) => {
                Seen { progress: gathering.progress(now), is_opening: false, refused, is_ordered }
            }
            Phase::Opening(progress) => {
                Seen { progress: progress.clone(), is_opening: true, refused, is_ordered }
            }
        }
    }

    /// The list of shares, which may be another one since.
    fn roster(&self) -> Option<Roster> {
        self.directory.roster().unwrap_or_else(|fault| {
            tracing::warn!(%fault, "the list of shares cannot be read again");
            None
        })
    }

    /// What a custodian is asked to have it stay sealed.
    pub(super) fn ask_to_seal(&self, share: (u32, u8)) -> Result<Vec<u8>, Error> {
        self.roster().into_iter().for_each(|roster| self.desk.renew(roster));
        self.desk.ask(share, self.world.ticks(), &self.world)
    }

    /// Keeps it sealed, by a custodian's order: the shares that are in are wiped, no device opens it, and if it is being opened, that is void.
    pub(super) async fn order(&self, order: &Order<'_>) -> Result<Taken, Refused> {
        let custodian = self.desk.take(order, self.world.ticks())?;
        let Order { generation, source, .. } = *order;
        let at = self.world.now();
        let sealing = Sealing { at, custodian: custodian.clone(), generation, source, from_disk: false };
        let marking = self.stay_sealed(sealing)?;
        tracing::warn!(%custodian, "sealed by order: no device opens it");
        let is_marked = marking.keep(&self.directory).await;
        // No log is open that could have it.
        Ok(Taken::of(custodian, is_marked, Durability::InForce))
    }

    /// The same in memory, at once. What is still to be written was announced when this returns.
    fn stay_sealed(&self, sealing: Sealing) -> Result<Marking, Error> {
        let mut inner = self.inner();
        let Inner { phase, ordered, is_closed, .. } = &mut *inner;
        if *is_closed {
            return Err(opening());
        }
        match phase {
            Phase::Gathering(gathering, _) => {
                gathering.forget();
                ordered.before = true;
            }
            Phase::Opening(_) => ordered.while_opening = true,
        }
        self.orders.keep(sealing);
        self.ordered.send_replace(true);
        Ok(self.orders.marking())
    }

    /// Turns true when an order has come.
    pub(super) fn ordered(&self) -> watch::Receiver<bool> {
        self.ordered.subscribe()
    }

    /// Below which number orders came before the shares that have opened it in spite of them.
    pub(super) fn ordered_before(&self) -> u64 {
        self.inner().ordered.until_then
    }

    /// Takes no order any more, if none forbids that it serves now; says whether it may. Where custodians open it, their mark is cleared: after one
    /// that is still on its way to the disk.
    pub(super) async fn close(&self, is_by_shares: bool) -> bool {
        while !self.try_close(is_by_shares) {
            if self.inner().ordered.forbids(is_by_shares) {
                return false;
            }
            self.orders.marked().await;
        }
        if is_by_shares {
            let directory = self.directory.clone();
            // It tells by itself what went wrong.
            let _cleared = tokio::task::spawn_blocking(move || directory.clear_seal()).await;
        }
        true
    }

    /// The same at once, unless it has to wait for a mark.
    fn try_close(&self, is_by_shares: bool) -> bool {
        let mut inner = self.inner();
        let Inner { ordered, is_closed, .. } = &mut *inner;
        *is_closed = !(ordered.forbids(is_by_shares) || is_by_shares && self.orders.is_marking());
        *is_closed
    }

    /// Looks at a share.
    pub(super) fn give(&self, source: Option<IpAddr>, sealed: &[u8]) -> Result<Seal, Refused> {
        let now = self.world.ticks();
        // Another one may have been handed out since: the earlier shares are refused from that moment.
        let roster = self.roster();
        let mut inner = self.inner();
        let Inner { phase, attempts, ordered, .. } = &mut *inner;
        let gathering = match phase {
            Phase::Opening(progress) => return Ok(told(progress, true)),
            Phase::Gathering(gathering, _) => gathering,
        };
        attempts.admit(source, now).map_err(|wait| Refused { error: throttled(wait), wait: Some(wait) })?;
        roster.into_iter().for_each(|roster| gathering.renew(roster));
        let given = gathering.give(sealed, now).map_err(|error| {
            attempts.was_wrong(source, now);
            tracing::warn!(
                source = source.map(tracing::field::display),
                error = error.chain(),
                "a share was refused"
            );
            Refused { error, wait: None }
        })?;
        attempts.was_right(source);
        let (root, progress) = match given {
            Given::More(progress) => {
                tracing::info!(
                    custodians = progress.names(),
                    threshold = progress.threshold,
                    "a share is in"
                );
                self.begun.notify_one();
                return Ok(told(&progress, false));
            }
            Given::Root(root, progress) => (root, progress),
        };
        let answer = told(&progress, true);
        ordered.until_then = self.orders.next();
        let before = std::mem::replace(phase, Phase::Opening(progress.clone()));
        if let Phase::Gathering(_, give) = before {
            // Whoever waits for it has gone only when the process ends.
            let _ = give.send((root, progress));
        }
        Ok(answer)
    }

    /// How many shares are in memory, without looking at the time.
    #[cfg(test)]
    pub(super) fn holds(&self) -> usize {
        match &self.inner().phase {
            Phase::Gathering(gathering, _) => gathering.holds(),
            Phase::Opening(_) => 0,
        }
    }

    /// Forgets shares that have waited for too long; says for how long none will.
    fn expire(&self) -> Option<Duration> {
        let now = self.world.ticks();
        match &mut self.inner().phase {
            Phase::Gathering(gathering, _) => {
                gathering.expire(now).map(|end| Duration::from_micros(end.saturating_sub(now)))
            }
            Phase::Opening(_) => None,
        }
    }
}

/// Wipes shares when their time is over, whether or not anybody asks.
pub(super) async fn expire(waiting: Arc<Waiting>, mut stop: watch::Receiver<bool>) {
    loop {
        let next = waiting.expire();
        tokio::select! {
            () = waiting.begun.notified() => {}
            () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => {}
            () = crate::serve::stopped(&mut stop) => return,
        }
    }
}

fn told(progress: &Progress, opening: bool) -> Seal {
    let Progress { generation, threshold, given, has_code: _ } = progress;
    Seal {
        sealed: true,
        opening,
        recipient: None,
        generation: Some(*generation),
        threshold: Some(*threshold),
        given: Some(given.len()),
        custodians: Some(given.iter().cloned().map(Name).collect()),
    }
}

pub(super) fn throttled(wait: Wait) -> Error {
    Error::new(ErrorKind::Throttled, Stage::Start, "too many shares were tried")
        .remedy(format!("wait {} seconds, then give the share again", wait.seconds))
}

/// What an order is told that comes between the one and the other.
fn opening() -> Error {
    Error::new(ErrorKind::Sealed, Stage::Start, "the gateway has just been opened, and does not serve yet")
        .remedy("run `holdfast seal` again, at once")
}
