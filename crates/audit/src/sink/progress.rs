//! How a sink does, for metrics and the status.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a sink does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Entries of its logs that stand under published checkpoints.
    pub published: u64,
    /// Entries of its logs up to its cursor: handed over and settled, or skipped.
    pub position: u64,
    /// Entries that are not handed over yet.
    pub lag: u64,
    /// For how long it has not had everything; zero while it has.
    pub behind: Duration,
    /// Entries that were handed over and settled since the start.
    pub exported: u64,
    /// Entries since the start that had been removed from the log before they were handed over.
    pub skipped: u64,
    /// Failures since the start.
    pub failures: u64,
    /// What went wrong last; nothing once entries could be settled again.
    pub problem: Option<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Progress {
    position: AtomicU64,
    exported: AtomicU64,
    skipped: AtomicU64,
    failures: AtomicU64,
    mood: Mutex<Mood>,
}

#[derive(Default)]
struct Mood {
    behind_since: Option<Instant>,
    problem: Option<Arc<str>>,
}

impl Progress {
    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reached(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    pub(super) fn settled(&self, exported: u64, skipped: u64) {
        self.exported.fetch_add(exported, Ordering::Relaxed);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, problem: Arc<str>) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.mood().problem = Some(problem);
    }

    pub(super) fn recovered(&self) {
        self.mood().problem = None;
    }

    pub(super) fn behind(&self, is_behind: bool) {
        let mut mood = self.mood();
        match is_behind {
            true => drop(mood.behind_since.get_or_insert_with(Instant::now)),
            false => mood.behind_since = None,
        }
    }

    pub(super) fn health(&self, published: u64, has_ended: bool) -> Health {
        let position = self.position.load(Ordering::Relaxed);
        let mood = self.mood();
        let ended = "its thread has ended; look at the daemon's log, and start the gateway again";
        Health {
            published,
            position,
            lag: published.saturating_sub(position),
            behind: mood.behind_since.map_or(Duration::ZERO, |since| since.elapsed()),
            exported: self.exported.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            problem: match has_ended {
                true => Some(Arc::from(ended)),
                false => mood.problem.clone(),
            },
        }
    }
}
