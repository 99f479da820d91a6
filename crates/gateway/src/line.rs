//! A line in which nobody is waited for: where there are too many, the oldest makes way for the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Those who stand in it, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    standing: BTreeMap<u64, Standing>,
    /// Those who were told to leave and have not left yet, and whose they are.
    leaving: HashMap<u64, u64>,
    /// All of them by whose they are: nobody looks through what is others' for one's own.
    of: HashMap<u64, Own>,
}

#[derive(Debug, Default)]
struct Own {
    standing: BTreeSet<u64>,
    leaving: usize,
}

#[derive(Debug)]
struct Standing {
    whose: u64,
    leave: Arc<Notify>,
}

impl Line {
    /// One more of somebody's, at its end.
    pub(crate) fn join(self: &Arc<Self>, whose: u64) -> InLine {
        self.join_also(whose, Arc::new(Notify::new()))
    }

    /// The same, of what stood in another line, and is told to leave by what told it there.
    pub(crate) fn join_also(self: &Arc<Self>, whose: u64, leave: Arc<Notify>) -> InLine {
        let mut queue = self.queue();
        let number = queue.next;
        queue.next = number.wrapping_add(1);
        queue.standing.insert(number, Standing { whose, leave: Arc::clone(&leave) });
        queue.of.entry(whose).or_default().standing.insert(number);
        drop(queue);
        InLine { of: Arc::clone(self), number, leave }
    }

    /// Tells the oldest one to leave; gives whether there was one.
    pub(crate) fn dismiss_oldest(&self) -> bool {
        self.queue().dismiss_oldest()
    }

    /// Tells the oldest one of somebody's to leave, unless one is leaving; gives whether there was one.
    pub(crate) fn makes_way_for_itself(&self, whose: u64) -> bool {
        let mut queue = self.queue();
        queue.of.get(&whose).is_some_and(|own| own.leaving > 0) || queue.dismiss_oldest_of(whose)
    }

    /// Where more than so many stand in it, one makes way: one's own if these are more than so many, else whoever has stood longest.
    pub(crate) fn make_way(&self, most: usize, (whose, own_most): (u64, usize)) {
        let mut queue = self.queue();
        if queue.standing.len() > most {
            match queue.of.get(&whose).is_some_and(|own| own.standing.len() > own_most) {
                true => queue.dismiss_oldest_of(whose),
                false => queue.dismiss_oldest(),
            };
        }
    }

    /// Where more than so many stand in it, the oldest of whoever has most makes way. It looks at all whose they are, and only then.
    pub(crate) fn make_way_of_most(&self, most: usize) {
        let mut queue = self.queue();
        if queue.standing.len() > most {
            let whose = queue.of.iter().max_by_key(|(_, own)| own.standing.len()).map(|(whose, _)| *whose);
            if let Some(whose) = whose {
                queue.dismiss_oldest_of(whose);
            }
        }
    }

    /// How many stand in it.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue().standing.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn dismiss_oldest(&mut self) -> bool {
        self.standing.first_key_value().map(|(number, _)| *number).is_some_and(|oldest| self.dismiss(oldest))
    }

    fn dismiss_oldest_of(&mut self, whose: u64) -> bool {
        let oldest = self.of.get(&whose).and_then(|own| own.standing.first()).copied();
        oldest.is_some_and(|oldest| self.dismiss(oldest))
    }

    fn dismiss(&mut self, number: u64) -> bool {
        let Some(Standing { whose, leave }) = self.standing.remove(&number) else { return false };
        if let Some(own) = self.of.get_mut(&whose) {
            own.standing.remove(&number);
            own.leaving = own.leaving.saturating_add(1);
        }
        self.leaving.insert(number, whose);
        leave.notify_one();
        true
    }

    /// It is there no more, whether or not it was told to leave.
    fn remove(&mut self, number: u64) {
        let stood = self.standing.remove(&number).map(|standing| standing.whose);
        let left = self.leaving.remove(&number);
        let Some(whose) = stood.or(left) else { return };
        if let Some(own) = self.of.get_mut(&whose) {
            own.standing.remove(&number);
            own.leaving = own.leaving.saturating_sub(usize::from(left.is_some()));
            if own.standing.is_empty() && own.leaving == 0 {
                self.of.remove(&whose);
            }
        }
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

    /// Whether it has to leave.
    pub(crate) fn is_told(&self) -> bool {
        self.of.queue().leaving.contains_key(&self.number)
    }

    /// Gives the place up: it makes way for nobody any more.
    pub(crate) fn step_out(&self) {
        self.of.queue().remove(self.number);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.step_out();
    }
}
