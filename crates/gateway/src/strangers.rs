//! Connections of nobody in particular: where all places are taken, the oldest of them makes way, so that strangers keep nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The connections on which no caller has been served yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Strangers {
    /// A new connection.
    pub(crate) fn join(self: &Arc<Self>) -> Stranger {
        let leave = Arc::new(Notify::new());
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = queue.next;
        queue.next = number.wrapping_add(1);
        queue.waiting.insert(number, Arc::clone(&leave));
        Stranger { of: Arc::clone(self), number, leave, is_known: AtomicBool::new(false) }
    }

    /// Tells the oldest one to leave, if there is one.
    pub(crate) fn dismiss_oldest(&self) {
        let oldest = self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting.pop_first();
        if let Some((_, leave)) = oldest {
            leave.notify_one();
        }
    }

    fn forget(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
    }
}

/// One connection among them, until a caller has been served on it.
#[derive(Debug)]
pub(crate) struct Stranger {
    of: Arc<Strangers>,
    number: u64,
    leave: Arc<Notify>,
    is_known: AtomicBool,
}

impl Stranger {
    /// What is notified when the connection has to make way.
    pub(crate) fn leave(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }

    /// A caller was served on it: it makes way for nobody any more.
    pub(crate) fn is_known(&self) {
        if !self.is_known.load(Ordering::Relaxed) && !self.is_known.swap(true, Ordering::Relaxed) {
            self.of.forget(self.number);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_known();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_way_and_who_is_known_never() {
        let strangers = Arc::new(Strangers::default());
        let (known, gone) = (strangers.join(), strangers.join());
        let (first, second) = (strangers.join(), strangers.join());
        known.is_known();
        known.is_known();
        drop(gone);
        strangers.dismiss_oldest();
        first.leave().notified().await;
        strangers.dismiss_oldest();
        second.leave().notified().await;
        strangers.dismiss_oldest();
        let none = tokio::time::timeout(std::time::Duration::from_millis(20), known.leave.notified()).await;
        assert!(none.is_err());
        drop((known, first, second));
        assert!(strangers.0.lock().unwrap().waiting.is_empty());
    }
}
