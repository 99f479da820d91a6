//! Stop orders: in force in memory before anything else, and nothing released past one that was acknowledged.
//!
//! A permit carries the stop epoch at which it was given. A result leaves only while its *departure* is counted, and only if no stop of
//! its key, caller or tenant came after that epoch. A stop first raises the epoch and then waits for the departures already counted:
//! what it has not seen leave sees the stop. Changes of the state are counted in the same way, by themselves, so that a stop order waits for
//! those that have not seen it. `stop/interleavings.rs` explores them with loom:
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p holdfast-core --lib stop::interleavings`.

use crate::id::{CallerName, KeyId, TenantId};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, total_order};
use arc_swap::ArcSwap;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// What a stop order is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Everything of a tenant.
    Tenant(TenantId),
    /// One key.
    Key(KeyId),
    /// One caller of a tenant.
    Caller(TenantId, CallerName),
    /// Everything of everybody: the gateway gives its root key up. Never settled; what opens again has stops of its own.
    Gateway,
}

/// The point in the sequence of stop orders at which a permit was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StopEpoch(u64);

impl StopEpoch {
    /// After every stop there can be: for what no stop concerns, a command's own outcome.
    pub(crate) const END: Self = Self(u64::MAX);
}

/// Whom a permit concerns, for the comparison with stop orders.
#[derive(Debug, Clone, Copy)]
pub struct Concerned<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The caller.
    pub caller: &'a CallerName,
    /// Who came as that caller, if they have a registration of their own.
    pub own: Option<&'a CallerName>,
    /// The keys.
    pub keys: &'a [KeyId],
}

#[derive(Debug, Clone, Default)]
struct Orders {
    /// Permits from before this epoch release nothing: what was ordered before it is no longer told apart.
    floor: u64,
    /// The newest order of each target since the floor.
    newest: HashMap<Target, u64>,
    /// What is stopped now and may not yet be so in the durable state, by how many orders.
    standing: HashMap<Target, usize>,
}

impl Orders {
    fn concern(&self, of: Concerned<'_>, test: impl Fn(&Target) -> bool) -> bool {
        test(&Target::Gateway)
            || of.keys.iter().any(|key| test(&Target::Key(*key)))
            || test(&Target::Tenant(of.tenant.clone()))
            || self.concern_caller(of, test)
    }

    fn concern_caller(&self, of: Concerned<'_>, test: impl Fn(&Target) -> bool) -> bool {
        let is_it = |caller: &CallerName| test(&Target::Caller(of.tenant.clone(), caller.clone()));
        is_it(of.caller) || of.own.is_some_and(is_it)
    }

    fn is_newer(&self, target: &Target, epoch: StopEpoch) -> bool {
        epoch.0 < self.floor || self.newest.get(target).is_some_and(|newest| *newest > epoch.0)
    }

    fn note(&mut self, target: &Target, epoch: u64) {
        if self.newest.len() >= Stops::MAX_TARGETS {
            self.newest.clear();
            self.floor = epoch;
        }
        self.newest.insert(target.clone(), epoch);
    }
}

/// All stop orders of this gateway.
#[derive(Debug)]
pub struct Stops {
    epoch: AtomicU64,
    orders: ArcSwap<Orders>,
    ordering: Mutex<()>,
    departures: Departures,
    changes: Departures,
}

impl Default for Stops {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            orders: ArcSwap::from_pointee(Orders::default()),
            ordering: Mutex::new(()),
            departures: Departures::default(),
            changes: Departures::default(),
        }
    }
}

impl Stops {
    /// How many targets are told apart before the oldest are given up for a floor.
    const MAX_TARGETS: usize = 65_536;

    /// The epoch for a permit that is about to be decided.
    pub fn epoch(&self) -> StopEpoch {
        StopEpoch(self.epoch.load(Ordering::SeqCst))
    }

    /// Puts a stop in force. From its return on, no permit that was given before passes [`Stops::stopped_since`], and
    /// [`Stops::is_standing`] refuses new ones. What is departing already may still leave: see [`Stops::drain`].
    pub fn order(&self, target: Target) {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        self.raise(&target, |orders| {
            let orders = orders.standing.entry(target.clone()).or_default();
            *orders = orders.saturating_add(1);
        });
    }

    /// Takes one standing order off: because the durable state says so by itself now, or because it turned out to be impossible.
    ///
    /// The epoch is raised once more before: whoever read a record between the order and its commit read the old one, and releases
    /// nothing of it either. Others of the same target go on standing.
    pub fn settle(&self, target: &Target) {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        self.raise(target, |_| ());
        let mut orders = Orders::clone(&self.orders.load());
        match orders.standing.get_mut(target) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                orders.standing.remove(target);
            }
        }
        self.orders.store(Arc::new(orders));
    }

    /// Ends every permit that concerns the target and was given until now; to be called under the lock.
    fn raise(&self, target: &Target, change: impl FnOnce(&mut Orders)) {
        let epoch = self.epoch.load(Ordering::SeqCst).saturating_add(1);
        let mut orders = Orders::clone(&self.orders.load());
        orders.note(target, epoch);
        change(&mut orders);
        self.orders.store(Arc::new(orders));
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    /// Whether any of these is stopped by an order that stands.
    pub fn is_standing(&self, of: Concerned<'_>) -> bool {
        let orders = self.orders.load();
        !orders.standing.is_empty() && orders.concern(of, |target| orders.standing.contains_key(target))
    }

    /// Whether the caller itself is stopped by an order that stands: then it does not even administer.
    pub fn is_caller_standing(&self, of: Concerned<'_>) -> bool {
        let orders = self.orders.load();
        let stands = |target: &Target| orders.standing.contains_key(target);
        !orders.standing.is_empty() && (stands(&Target::Gateway) || orders.concern_caller(of, stands))
    }

    /// Whether everything is stopped: the gateway is being sealed.
    pub fn is_sealed(&self) -> bool {
        let orders = self.orders.load();
        !orders.standing.is_empty() && orders.standing.contains_key(&Target::Gateway)
    }

    /// Whether any of these was ordered to stop after `epoch`.
    pub fn stopped_since(&self, epoch: StopEpoch, of: Concerned<'_>) -> bool {
        // The common case costs one load: nothing at all has been stopped meanwhile.
        if self.epoch.load(Ordering::SeqCst) == epoch.0 {
            return false;
        }
        let orders = self.orders.load();
        orders.concern(of, |target| orders.is_newer(target, epoch))
    }

    /// Counts a departure; to be taken before the last look at [`Stops::stopped_since`] and kept until the result has left.
    pub fn depart(self: &Arc<Self>) -> Departing {
        let phase = self.departures.enter();
        Departing { stops: Arc::clone(self), phase }
    }

    /// Waits until everything has left that was departing when this was called.
    pub async fn drain(&self) {
        self.departures.drain().await;
    }

    /// Counts a change of the state; to be taken before the last look at [`Stops::stopped_since`] and kept until the change is committed.
    pub fn change(&self) -> Changing<'_> {
        Changing { changes: &self.changes, phase: self.changes.enter() }
    }

    /// Waits until every change is over that was under way when this was called. It waits for the state, as a stop order's own change does; who
    /// must not, such as a seal, does without.
    pub async fn drain_changes(&self) {
        self.changes.drain().await;
    }
}

/// A change of the state that is under way. Dropping it says that it is over.
#[derive(Debug)]
#[must_use = "the change is counted for as long as this lives"]
pub struct Changing<'a> {
    changes: &'a Departures,
    phase: usize,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.changes.leave(self.phase);
    }
}

/// A result on its way out. Dropping it says that it has left.
#[derive(Debug)]
#[must_use = "the departure is counted for as long as this lives"]
pub struct Departing {
    stops: Arc<Stops>,
    phase: usize,
}

impl Departing {
    /// Whose stops wait for it.
    pub(crate) fn stops(&self) -> &Arc<Stops> {
        &self.stops
    }
}

impl Drop for Departing {
    fn drop(&mut self) {
        self.stops.departures.leave(self.phase);
    }
}

/// Departures counted in two phases, so that a stop waits only for those that began before it.
#[derive(Debug)]
struct Departures {
    phase: AtomicUsize,
    counts: [AtomicU64; 2],
    waiting: AtomicBool,
    draining: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Default for Departures {
    fn default() -> Self {
        Self {
            phase: AtomicUsize::new(0),
            counts: [AtomicU64::new(0), AtomicU64::new(0)],
            waiting: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            wakers: Mutex::new(Vec::new()),
        }
    }
}

impl Departures {
    fn count(&self, phase: usize) -> &AtomicU64 {
        let [even, odd] = &self.counts;
        if phase & 1 == 0 { even } else { odd }
    }

    fn enter(&self) -> usize {
        let phase = self.phase.load(Ordering::SeqCst);
        self.count(phase).fetch_add(1, Ordering::SeqCst);
        total_order();
        phase
    }

    async fn drain(&self) {
        total_order();
        // Twice: a departure may read the phase, pause, and be counted in it only after an earlier drain has looked.
        for _ in 0..2 {
            let phase = Turn { departures: self }.await;
            // Whoever gives up waiting must not keep the next one waiting for ever.
            let _finishing = Finishing { departures: self };
            Emptying { departures: self, phase }.await;
        }
    }

    fn leave(&self, phase: usize) {
        self.count(phase).fetch_sub(1, Ordering::SeqCst);
        total_order();
        if self.waiting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        let wakers = core::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }

    fn wait(&self, waker: &Waker) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
        self.waiting.store(true, Ordering::SeqCst);
    }

    fn finish(&self) {
        self.waiting.store(false, Ordering::SeqCst);
        // A read-modify-write like the others of this flag, so that all of them stand in one order in loom's eyes, too.
        self.draining.swap(false, Ordering::SeqCst);
        self.wake();
    }
}

/// One drain at a time; resolves to the phase that it has just closed.
struct Turn<'a> {
    departures: &'a Departures,
}

impl Future for Turn<'_> {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let departures = self.departures;
        if departures.draining.swap(true, Ordering::SeqCst) {
            departures.wait(context.waker());
            // It may have finished between the look and the registration.
            if departures.draining.swap(true, Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        Poll::Ready(departures.phase.fetch_add(1, Ordering::SeqCst))
    }
}

/// Ends a turn, whether it was waited for or given up.
struct Finishing<'a> {
    departures: &'a Departures,
}

impl Drop for Finishing<'_> {
    fn drop(&mut self) {
        self.departures.finish();
    }
}

struct Emptying<'a> {
    departures: &'a Departures,
    phase: usize,
}

impl Future for Emptying<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let empty = || self.departures.count(self.phase).load(Ordering::SeqCst) == 0;
        if empty() {
            return Poll::Ready(());
        }
        self.departures.wait(context.waker());
        total_order();
        if empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(all(test, loom))]
mod interleavings;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn poll_once(future: Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_stop_reaches_earlier_permits_of_its_own_target_only() {
        let stops = Stops::default();
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let key = KeyId::from_bytes([1; 16]);
        let (this, another) = ([key], [KeyId::from_bytes([2; 16])]);
        fn of<'a>(tenant: &'a TenantId, caller: &'a CallerName, keys: &'a [KeyId]) -> Concerned<'a> {
            Concerned { tenant, caller, own: None, keys }
        }
        let before = stops.epoch();
        stops.order(Target::Key(key));
        assert!(stops.stopped_since(before, of(&acme, &alice, &this)));
        assert!(!stops.stopped_since(before, of(&acme, &alice, &another)));
        assert!(!stops.stopped_since(stops.epoch(), of(&acme, &alice, &this)));
        assert!(stops.is_standing(of(&acme, &alice, &this)));
        stops.settle(&Target::Key(key));
        assert!(!stops.is_standing(of(&acme, &alice, &this)));
        stops.order(Target::Caller(acme.clone(), alice.clone()));
        assert!(stops.stopped_since(before, of(&acme, &alice, &[])));
        assert!(!stops.stopped_since(before, of(&acme, &bob, &[])));
        assert!(!stops.stopped_since(before, of(&other, &alice, &[])));
        stops.order(Target::Tenant(other.clone()));
        assert!(stops.stopped_since(before, of(&other, &bob, &[])));
    }

    #[test]
    fn a_permit_that_is_newer_than_its_own_stop_outlives_the_stops_of_others() {
        let stops = Stops::default();
        let (tenant, caller) = ("acme".parse().unwrap(), "alice".parse().unwrap());
        let keys = [KeyId::from_bytes([1; 16])];
        let of = Concerned { tenant: &tenant, caller: &caller, own: None, keys: &keys };
        for target in [Target::Key(keys[0]), Target::Caller(tenant.clone(), caller.clone())] {
            stops.order(target);
        }
        let after = stops.epoch();
        stops.order(Target::Key(KeyId::from_bytes([2; 16])));
        assert!(!stops.stopped_since(after, of));
    }

    #[test]
    fn a_stop_of_the_gateway_reaches_every_earlier_permit_and_stands_for_ever() {
        let stops = Stops::default();
        let (tenant, caller) = ("acme".parse().unwrap(), "alice".parse().unwrap());
        let keys = [KeyId::from_bytes([1; 16])];
        let before = stops.epoch();
        assert!(!stops.is_sealed());
        stops.order(Target::Gateway);
        for keys in [&keys[..], &[]] {
            let of = Concerned { tenant: &tenant, caller: &caller, own: None, keys };
            assert!(stops.stopped_since(before, of) && stops.is_standing(of));
        }
        assert!(
            stops.is_caller_standing(Concerned { tenant: &tenant, caller: &caller, own: None, keys: &[] })
                && stops.is_sealed()
        );
        stops.order(Target::Key(keys[0]));
        stops.settle(&Target::Key(keys[0]));
        assert!(stops.is_sealed());
    }

    #[test]
    fn beyond_the_bound_older_permits_release_nothing() {
        let stops = Stops::default();
        let before = stops.epoch();
        let mut orders = Orders::default();
        for number in 0..u32::try_from(Stops::MAX_TARGETS).unwrap() {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            orders.newest.insert(Target::Key(KeyId::from_bytes(id)), 1);
        }
        stops.orders.store(Arc::new(orders));
        stops.order(Target::Key(KeyId::from_bytes([0xff; 16])));
        let (tenant, caller) = ("acme".parse().unwrap(), "alice".parse().unwrap());
        assert!(
            stops.stopped_since(before, Concerned { tenant: &tenant, caller: &caller, own: None, keys: &[] })
        );
    }

    #[test]
    fn draining_waits_for_what_was_departing_and_not_for_what_came_later() {
        let stops = Arc::new(Stops::default());
        let early = stops.depart();
        let mut drain = Box::pin(async { stops.drain().await });
        assert_eq!(poll_once(drain.as_mut()), Poll::Pending);
        let late = stops.depart();
        drop(early);
        // The second wait looks at the phase in which `late` is counted.
        assert_eq!(poll_once(drain.as_mut()), Poll::Pending);
        drop(late);
        assert_eq!(poll_once(drain.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn departures_that_keep_coming_hold_up_no_stop() {
        let stops = Arc::new(Stops::default());
        let mut leaving = stops.depart();
        // More often than there are phases.
        for _ in 0..4 {
            let mut drain = Box::pin(async { stops.drain().await });
            for _ in 0..2 {
                assert_eq!(poll_once(drain.as_mut()), Poll::Pending);
                // Another one comes before the earlier one has left.
                leaving = stops.depart();
            }
            assert_eq!(poll_once(drain.as_mut()), Poll::Ready(()));
        }
        drop(leaving);
    }
}
