//! A line in which nobody is waited for: where there are too many, the oldest makes way for the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Those who stand in it, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    standing: BTreeMap<u64, Arc<Notify>>,
}

impl Line {
    /// One more, at its end.
    pub(crate) fn join(self: &Arc<Self>) -> InLine {
        let leave = Arc::new(Notify::new());
        let mut queue = self.queue();
        let number = queue.next;
        queue.next = number.wrapping_add(1);
        queue.standing.insert(number, Arc::clone(&leave));
        drop(queue);
        InLine { of: Arc::clone(self), number, leave }
    }

    /// Tells the oldest one to leave; gives whether there was one.
    pub(crate) fn dismiss_oldest(&self) -> bool {
        let oldest = self.queue().standing.pop_first();
        oldest.inspect(|(_, leave)| leave.notify_one()).is_some()
    }

    /// How many stand in it.
    pub(crate) fn len(&self) -> usize {
        self.queue().standing.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a line; given up when dropped.
#[derive(Debug)]
pub(crate) struct InLine {
    of: Arc<Line>,
    number: u64,
    leave: Arc<Notify>,
}

impl InLine {
    /// What is notified when it has to leave.
    pub(crate) fn leave(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }

    /// Gives the place up: it makes way for nobody any more.
    pub(crate) fn step_out(&self) {
        self.of.queue().standing.remove(&self.number);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.step_out();
    }
}
