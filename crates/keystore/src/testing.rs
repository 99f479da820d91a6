//! For tests of whatever uses a key store: one that stalls on order.
//!
//! ```
//! # use holdfast_keystore::testing::Stalling;
//! # fn demo<S: holdfast_core::port::KeyStore>(store: S) {
//! let (store, valve) = Stalling::new(store);
//! valve.hold();
//! // An operation that is started now is done inside the store, and its result is not handed out. Wait for
//! // `valve.until_waiting(1)`, do what must not let the result leave, then:
//! valve.release();
//! # }
//! ```

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use holdfast_core::adoption::{ObjectDigest, Sought};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::emergency::{Approved, CopyState, OpenedCopy, RequestCopy};
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::pipeline::{Change, Permit, Use};
use holdfast_core::port::{Absence, ChangedSealing, Copies, Health, KeyStore, Membership, Remains};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::work::{Product, Work};
use holdfast_core::{Error, KeyId, KeyVersion, MemberName, TenantId, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A key store that forwards everything, and holds the results of [`KeyStore::perform`] back while its [`Valve`] is held.
///
/// It takes the same proofs as any other store and makes none. It needs no runtime: any executor will do.
pub struct Stalling<S> {
    inner: S,
    gate: Arc<Gate>,
}

/// Holds the operations of a [`Stalling`] and lets them go.
pub struct Valve {
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: bool,
    waiting: usize,
    wakers: Vec<Waker>,
}

impl<S> Stalling<S> {
    /// Wraps a store. Nothing is held yet.
    pub fn new(inner: S) -> (Self, Valve) {
        let gate = Arc::new(Gate::default());
        (Self { inner, gate: Arc::clone(&gate) }, Valve { gate })
    }
}

impl Valve {
    /// From now on no operation returns, though each is performed.
    pub fn hold(&self) {
        self.gate.change(|state| state.held = true);
    }

    /// Lets every held operation return, and all that follow.
    pub fn release(&self) {
        self.gate.change(|state| state.held = false);
    }

    /// How many operations are done and held now.
    pub fn waiting(&self) -> usize {
        self.gate.lock().waiting
    }

    /// Completes when at least `count` operations are held.
    pub async fn until_waiting(&self, count: usize) {
        poll_fn(|context| {
            let mut state = self.gate.lock();
            if state.waiting >= count {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Valve {
    /// A test that ends early leaves nothing hanging.
    fn drop(&mut self) {
        self.release();
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = core::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Gate {
    /// Does the work, then waits until its result may be handed out.
    async fn after<T>(&self, work: impl Future<Output = T>) -> T {
        let result = work.await;
        Passage { gate: self, counted: false }.await;
        result
    }
}

/// One operation's way through the gate.
struct Passage<'a> {
    gate: &'a Gate,
    counted: bool,
}

impl Future for Passage<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.gate.lock();
        if !state.held {
            return Poll::Ready(());
        }
        let others = if self.counted {
            Vec::new()
        } else {
            state.waiting += 1;
            core::mem::take(&mut state.wakers)
        };
        state.wakers.push(context.waker().clone());
        drop(state);
        self.counted = true;
        // Whoever waits for this operation to be held.
        others.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.gate.change(|state| state.waiting = state.waiting.saturating_sub(1));
        }
    }
}

impl<S: KeyStore> KeyStore for Stalling<S> {
    async fn enroll(&self, permit: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.inner.enroll(permit, tenant).await
    }

    fn default_algorithm(&self) -> Algorithm {
        self.inner.default_algorithm()
    }

    fn custody(&self, algorithm: Algorithm) -> Custody {
        self.inner.custody(algorithm)
    }

    async fn generate(&self, permit: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        self.inner.generate(permit, version).await
    }

    async fn generate_with_copy(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
    ) -> Result<Generated, Error> {
        self.inner.generate_with_copy(permit, version).await
    }

    fn request_copy(
        &self,
        permit: &Permit<Change>,
        versions: &[KeyMaterial<'_>],
        asked: &RequestCopy,
        now: Timestamp,
    ) -> Result<CopyState, Error> {
        self.inner.request_copy(permit, versions, asked, now)
    }

    fn approve_copy(
        &self,
        permit: &Permit<Change>,
        key: KeyId,
        shares: &[u8],
        now: Timestamp,
    ) -> Result<Approved, Error> {
        self.inner.approve_copy(permit, key, shares, now)
    }

    fn enforce_copy(&self, permit: &Permit<Change>, key: KeyId, opened: OpenedCopy) {
        self.inner.enforce_copy(permit, key, opened);
    }

    fn end_copy(&self, permit: &Permit<Change>, key: KeyId) -> Result<(), Error> {
        self.inner.end_copy(permit, key)
    }

    fn copy_state(&self, key: KeyId, now: Timestamp) -> CopyState {
        self.inner.copy_state(key, now)
    }

    async fn perform_by_copy(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
        now: Timestamp,
    ) -> Option<Result<Product, Error>> {
        self.inner.perform_by_copy(permit, key, work, now).await
    }

    fn expire_copies(&self, now: Timestamp) {
        self.inner.expire_copies(now);
    }

    fn forget_copies(&self, tenant: &TenantId) {
        self.inner.forget_copies(tenant);
    }

    async fn begin_import(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        self.inner.begin_import(permit, version, expires).await
    }

    async fn finish_import(
        &self,
        permit: &Permit<Change>,
        waiting: KeyMaterial<'_>,
        version: NewVersion<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Generated, Error> {
        self.inner.finish_import(permit, waiting, version, wrapped).await
    }

    async fn find_object(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        algorithm: Algorithm,
        sought: Sought<'_>,
    ) -> Result<ObjectDigest, Error> {
        self.inner.find_object(permit, tenant, algorithm, sought).await
    }

    async fn adopt(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        sought: Sought<'_>,
        object: ObjectDigest,
    ) -> Result<Generated, Error> {
        self.inner.adopt(permit, version, sought, object).await
    }

    fn custody_of(&self, handle: &SealedHandle) -> Custody {
        self.inner.custody_of(handle)
    }

    fn invocations(&self, handle: &SealedHandle) -> u64 {
        self.inner.invocations(handle)
    }

    async fn perform(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> Result<Product, Error> {
        self.gate.after(self.inner.perform(permit, key, work)).await
    }

    async fn random(&self, permit: &Permit<Use>, length: usize) -> Result<Product, Error> {
        self.inner.random(permit, length).await
    }

    fn forget(&self, key: KeyId) {
        self.inner.forget(key);
    }

    fn forget_version(&self, key: KeyId, version: KeyVersion) {
        self.inner.forget_version(key, version);
    }

    fn new_archive(&self, permit: &Permit<Change>, key: NewVersion<'_>) -> Result<SealedHandle, Error> {
        self.inner.new_archive(permit, key)
    }

    fn archive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.inner.archive(permit, opener, version)
    }

    fn unarchive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
        sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        self.inner.unarchive(permit, opener, version, sealed)
    }

    fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId> {
        self.inner.sealing_key_of(handle)
    }

    fn change_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<ChangedSealing, Error> {
        self.inner.change_sealing_key(permit, tenant, handle)
    }

    fn reseal(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<SealedHandle, Error> {
        self.inner.reseal(permit, key)
    }

    fn retire_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<SealedHandle, Error> {
        self.inner.retire_sealing_key(permit, tenant, handle)
    }

    fn remains(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Remains, Error> {
        self.inner.remains(permit, key)
    }

    async fn erase(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Vec<MemberName>, Error> {
        self.inner.erase(permit, key).await
    }

    fn can_ask(&self, member: &MemberName) -> bool {
        self.inner.can_ask(member)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn move_member(&self, permit: &Permit<Change>, member: &MemberName, to: Membership) -> Result<(), Error> {
        self.inner.move_member(permit, member, to)
    }

    fn ejected(&self) -> Vec<(MemberName, String)> {
        self.inner.ejected()
    }

    fn keep_out(&self, member: &MemberName, absence: Absence) {
        self.inner.keep_out(member, absence);
    }

    fn arrivals(&self) -> u64 {
        self.inner.arrivals()
    }

    async fn check_copies(
        &self,
        permit: &Permit<Change>,
        key: KeyMaterial<'_>,
    ) -> Result<Option<Copies>, Error> {
        self.inner.check_copies(permit, key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::block_on;
    use std::thread;

    fn pass(gate: &Gate) {
        assert_eq!(block_on(gate.after(core::future::ready(7))), 7);
    }

    #[test]
    fn what_is_not_held_passes() {
        let (store, valve) = Stalling::new(());
        pass(&store.gate);
        valve.hold();
        valve.release();
        pass(&store.gate);
        assert_eq!(valve.waiting(), 0);
    }

    #[test]
    fn what_is_held_waits_and_is_counted() {
        let (store, valve) = Stalling::new(());
        valve.hold();
        thread::scope(|scope| {
            let passages: Vec<_> = (0..3).map(|_| scope.spawn(|| pass(&store.gate))).collect();
            block_on(valve.until_waiting(3));
            assert_eq!(valve.waiting(), 3);
            assert!(passages.iter().all(|passage| !passage.is_finished()));
            valve.release();
        });
        assert_eq!(valve.waiting(), 0);
    }

    #[test]
    fn the_work_is_done_before_it_is_held() {
        let (store, valve) = Stalling::new(());
        valve.hold();
        let (done, is_done) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let work = async move { done.send(()).unwrap() };
            scope.spawn(|| block_on(store.gate.after(work)));
            block_on(valve.until_waiting(1));
            assert!(is_done.try_recv().is_ok());
            valve.release();
        });
    }

    #[test]
    fn a_dropped_valve_lets_go() {
        let (store, valve) = Stalling::new(());
        valve.hold();
        thread::scope(|scope| {
            scope.spawn(|| pass(&store.gate));
            block_on(valve.until_waiting(1));
            drop(valve);
        });
    }
}
