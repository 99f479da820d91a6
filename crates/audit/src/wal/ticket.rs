//! Waiting for a batch: one completion shared by all its entries, one wake-up when it is durable.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The number of its batch in the write-ahead file.
    pub batch: u64,
    /// Its place in the batch, from 0.
    pub ordinal: u32,
    /// Its index in its own log: the leaf's in the tree.
    pub index: u64,
}

/// Why an entry did not become durable; the log takes no more until it is opened again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit log could not be written ({what}: {source}); mend the disk and restart the gateway")]
pub struct NotDurable {
    what: &'static str,
    source: Arc<io::Error>,
}

impl NotDurable {
    pub(crate) fn new(what: &'static str, source: io::Error) -> Self {
        Self { what, source: Arc::new(source) }
    }
}

const PENDING: u8 = 0;
const DURABLE: u8 = 1;
const FAILED: u8 = 2;

/// The fate of one batch.
///
/// Whoever settles it wakes one of the tasks that wait, and that one wakes the others: the writer's thread is none of the
/// executor's, and each wake-up from there costs a lock and perhaps a system call, while among tasks it costs next to
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    /// Read without the lock by those who come late.
    state: AtomicU8,
    /// Whether there are tasks to be woken by the first that hears of it.
    is_relay: AtomicBool,
    waiting: Mutex<Waiting>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// A place for each ticket that waits; empty once it is dropped.
    wakers: Vec<Option<Waker>>,
    failure: Option<NotDurable>,
    /// How many threads wait.
    threads: usize,
}

impl Completion {
    /// Settles the batch, once, and sees to it that everyone is woken.
    pub(crate) fn settle(&self, result: Result<(), NotDurable>) {
        let mut waiting = self.lock();
        let state = if result.is_ok() { DURABLE } else { FAILED };
        waiting.failure = result.err();
        let first = loop {
            match waiting.wakers.pop() {
                Some(Some(first)) => break Some(first),
                Some(None) => {}
                None => break None,
            }
        };
        let (others, threads) = (!waiting.wakers.is_empty(), waiting.threads > 0);
        // Before the state: who reads the state reads this too.
        self.is_relay.store(others, Ordering::Relaxed);
        self.state.store(state, Ordering::Release);
        drop(waiting);
        if threads {
            self.done.notify_all();
        }
        if let Some(first) = first {
            first.wake();
        }
    }

    /// Wakes the others, if nobody has yet.
    fn relay(&self) {
        if self.is_relay.load(Ordering::Relaxed) && self.is_relay.swap(false, Ordering::Relaxed) {
            let wakers = std::mem::take(&mut self.lock().wakers);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn result(&self, waiting: &Waiting) -> Option<Result<(), NotDurable>> {
        match self.state.load(Ordering::Acquire) {
            PENDING => None,
            DURABLE => Some(Ok(())),
            _ => waiting.failure.clone().map(Err),
        }
    }
}

/// A promise that an entry becomes durable. Awaiting it allocates nothing of its own; dropping it cancels nothing.
#[must_use = "an entry is durable only once its ticket says so"]
#[derive(Debug)]
pub struct Ticket {
    completion: Arc<Completion>,
    position: Position,
    /// Our place among the batch's wakers, once we wait.
    slot: Option<usize>,
}

impl Ticket {
    pub(crate) fn new(completion: Arc<Completion>, position: Position) -> Self {
        Self { completion, position, slot: None }
    }

    /// Where the entry will stand; true only once the ticket says that it is durable.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Blocks the thread until the entry survives a loss of power.
    ///
    /// # Errors
    /// [`NotDurable`].
    pub fn wait_blocking(self) -> Result<Position, NotDurable> {
        let completion = &self.completion;
        let mut waiting = completion.lock();
        waiting.threads += 1;
        loop {
            if let Some(result) = completion.result(&waiting) {
                return result.map(|()| self.position);
            }
            waiting = completion.done.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<Position, NotDurable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { completion, position, slot } = &mut *self;
        if completion.state.load(Ordering::Acquire) == DURABLE {
            completion.relay();
            return Poll::Ready(Ok(*position));
        }
        let mut waiting = completion.lock();
        if let Some(result) = completion.result(&waiting) {
            drop(waiting);
            completion.relay();
            return Poll::Ready(result.map(|()| *position));
        }
        match slot.and_then(|slot| waiting.wakers.get_mut(slot)) {
            Some(Some(waker)) => waker.clone_from(cx.waker()),
            Some(empty) => *empty = Some(cx.waker().clone()),
            None => {
                *slot = Some(waiting.wakers.len());
                waiting.wakers.push(Some(cx.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // A task that is gone must not be the one that is to wake the others.
        if self.completion.state.load(Ordering::Acquire) == PENDING {
            let mut waiting = self.completion.lock();
            if self.completion.state.load(Ordering::Acquire) == PENDING {
                if let Some(place) = waiting.wakers.get_mut(slot) {
                    *place = None;
                }
                return;
            }
        }
        self.completion.relay();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Waiter {
        woken: Arc<Woken>,
        ticket: Option<Ticket>,
    }

    impl Waiter {
        fn on(completion: &Arc<Completion>) -> Self {
            let position = Position { batch: 0, ordinal: 0, index: 0 };
            let ticket = Some(Ticket::new(Arc::clone(completion), position));
            let mut waiter = Self { woken: Arc::default(), ticket };
            assert!(waiter.poll().is_pending());
            waiter
        }

        fn poll(&mut self) -> Poll<Result<Position, NotDurable>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            let ticket = self.ticket.as_mut().unwrap();
            Pin::new(ticket).poll(&mut Context::from_waker(&waker))
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed) > 0
        }
    }

    /// Lets a batch of five end; whoever is woken does what `first` says, and everyone left must be woken by then.
    fn all_are_woken(
        result: Result<(), NotDurable>,
        before: impl Fn(&mut Vec<Waiter>),
        first: impl Fn(&mut Waiter),
    ) {
        let completion = Arc::new(Completion::default());
        let mut waiters: Vec<_> = (0..5).map(|_| Waiter::on(&completion)).collect();
        before(&mut waiters);
        let failed = result.is_err();
        completion.settle(result);
        let woken: Vec<_> = waiters.iter_mut().filter(|waiter| waiter.is_woken()).collect();
        assert_eq!(woken.len(), 1, "the writer wakes one");
        woken.into_iter().for_each(first);
        for waiter in waiters.iter_mut().filter(|waiter| waiter.ticket.is_some()) {
            assert!(waiter.is_woken());
            assert!(matches!(waiter.poll(), Poll::Ready(result) if result.is_err() == failed));
        }
    }

    #[test]
    fn the_one_that_is_woken_wakes_the_others() {
        let poll = |waiter: &mut Waiter| assert!(waiter.poll().is_ready());
        let gone = |waiter: &mut Waiter| drop(waiter.ticket.take());
        let failure = || Err(NotDurable::new("sync", io::Error::other("told so")));
        all_are_woken(Ok(()), |_| (), poll);
        all_are_woken(failure(), |_| (), poll);
        // It may end without looking.
        all_are_woken(Ok(()), |_| (), gone);
        all_are_woken(failure(), |_| (), gone);
        // Those that are gone before are not relied on.
        let last_two = |waiters: &mut Vec<Waiter>| waiters.iter_mut().rev().take(2).for_each(gone);
        all_are_woken(Ok(()), last_two, poll);
        all_are_woken(Ok(()), |waiters| drop(waiters.pop()), gone);
        // Whoever comes late hears of it at once, and passes it on.
        let completion = Arc::new(Completion::default());
        let waiters: Vec<_> = (0..3).map(|_| Waiter::on(&completion)).collect();
        completion.settle(Ok(()));
        let late = Ticket::new(completion, Position { batch: 0, ordinal: 3, index: 3 });
        let mut late = Waiter { woken: Arc::default(), ticket: Some(late) };
        assert!(late.poll().is_ready());
        assert!(waiters.iter().all(Waiter::is_woken));
    }
}
