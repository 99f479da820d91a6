//! Waiting for a batch: one completion shared by all its entries, one wake-up when it is durable.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
#[derive(Debug, Default)]
pub(crate) struct Completion {
    /// Read without the lock by those who come late.
    state: AtomicU8,
    waiting: Mutex<Waiting>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Waker>,
    failure: Option<NotDurable>,
}

impl Completion {
    /// Settles the batch and wakes everyone, once.
    pub(crate) fn settle(&self, result: Result<(), NotDurable>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let state = if result.is_ok() { DURABLE } else { FAILED };
        waiting.failure = result.err();
        self.state.store(state, Ordering::Release);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        self.done.notify_all();
        wakers.into_iter().for_each(Waker::wake);
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
        let mut waiting = completion.waiting.lock().unwrap_or_else(PoisonError::into_inner);
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
            return Poll::Ready(Ok(*position));
        }
        let mut waiting = completion.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = completion.result(&waiting) {
            return Poll::Ready(result.map(|()| *position));
        }
        match slot.and_then(|slot| waiting.wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                *slot = Some(waiting.wakers.len());
                waiting.wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
