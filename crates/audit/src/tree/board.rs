//! What the tiler and the others tell each other.

use super::grow::Tree;
use crate::key::{Signer, VerifierKey};
use crate::log::{Health, OldestIntent};
use crate::log_id::LogId;
use crate::wal::NotDurable;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The board. All its waiting is for an event, or until a time given by the configuration.
pub(crate) struct Board {
    notices: Mutex<Notices>,
    tiler_wake: Condvar,
    published_wake: Condvar,
}

#[derive(Default)]
struct Notices {
    /// Batches below this number are durable.
    durable: u64,
    /// Newly registered trees.
    adopted: Vec<Tree>,
    /// Logs that the write-ahead file knows and nobody registered yet.
    awaited: HashSet<LogId>,
    /// What stands under published checkpoints.
    published: HashMap<LogId, Grown>,
    /// What each of those logs signs with.
    signers: HashMap<LogId, Arc<Signer>>,
    /// The sum of their sizes.
    entries: u64,
    /// How often one of them has changed: who knows the number asks for what came after it.
    round: u64,
    urgent: bool,
    /// How often someone asked that what failed be tried again at once, and how many of these the tiler has taken up.
    asks: u64,
    asks_taken: u64,
    tiler_idle: bool,
    writer_stopped: bool,
    tiler_stopped: bool,
    /// Why nothing more becomes durable.
    failure: Option<Arc<str>>,
    progress: Progress,
}

/// One log's published size, and the round in which it grew to that.
#[derive(Clone, Copy)]
struct Grown {
    size: u64,
    round: u64,
}

/// What the tiler says of itself after a round.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    /// Batches below this number were read, and but for the stalled logs' they stand under checkpoints.
    pub(crate) tiled: u64,
    pub(crate) open_intents: usize,
    pub(crate) oldest_intent: Option<Oldest>,
    /// The oldest segment in use.
    pub(crate) first_segment: u64,
    /// Why the write-ahead file can't be read back.
    pub(crate) broken: Option<Arc<str>>,
    /// Why segments that nobody needs are not given back.
    pub(crate) not_given_back: Option<Arc<str>>,
    /// Logs whose trees do not grow, and why.
    pub(crate) stalled: HashMap<LogId, Arc<str>>,
    /// What failed was tried again since so many asked for it.
    pub(crate) answered: u64,
}

/// The oldest intent without an outcome.
#[derive(Clone)]
pub(crate) struct Oldest {
    pub(crate) op: [u8; 16],
    pub(crate) log: LogId,
    /// When it was read.
    pub(crate) since: Instant,
    /// Segments that were read since and would be given back without it.
    pub(crate) segments: u64,
}

/// What there is to do.
pub(crate) enum Work {
    /// Batches below this number are durable.
    Read(u64),
    /// Nothing new came in the time given, or before someone asked to try again.
    Retry,
    /// The writer has stopped and everything is read.
    Stop,
}

/// One turn of the tiler.
pub(crate) struct Turn {
    pub(crate) work: Work,
    /// Newly registered trees.
    pub(crate) adopted: Vec<Tree>,
    /// Whether someone asked that what failed be tried again at once, and the number of the last who did.
    pub(crate) asked: bool,
    pub(crate) asks: u64,
}

impl Notices {
    fn is_asked(&self) -> bool {
        self.asks > self.asks_taken
    }

    fn publish(&mut self, log: &LogId, size: u64) {
        let before = self.published.get(log).map(|grown| grown.size);
        if before != Some(size) {
            self.round += 1;
            self.entries = self.entries.saturating_add(size).saturating_sub(before.unwrap_or(0));
            self.published.insert(log.clone(), Grown { size, round: self.round });
        }
    }
}

fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn new(durable: u64, first_segment: u64, awaited: HashSet<LogId>) -> Self {
        let progress = Progress { first_segment, ..Progress::default() };
        let notices = Notices { durable, awaited, progress, ..Notices::default() };
        Self { notices: Mutex::new(notices), tiler_wake: Condvar::new(), published_wake: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Notices> {
        unpoisoned(self.notices.lock())
    }

    /// The writer: all batches below this number are durable.
    pub(crate) fn durable(&self, batches: u64) {
        let mut notices = self.lock();
        notices.durable = batches;
        if std::mem::take(&mut notices.tiler_idle) {
            self.tiler_wake.notify_one();
        }
    }

    /// The writer: no more will come.
    pub(crate) fn writer_stopped(&self, failure: Option<&NotDurable>) {
        let mut notices = self.lock();
        notices.writer_stopped = true;
        notices.failure = failure.map(|failure| Arc::from(failure.to_string()));
        self.tiler_wake.notify_one();
        self.published_wake.notify_all();
    }

    /// A log was registered.
    pub(crate) fn adopt(&self, tree: Tree) {
        let mut notices = self.lock();
        notices.awaited.remove(&tree.id);
        notices.publish(&tree.id, tree.size);
        notices.signers.insert(tree.id.clone(), Arc::clone(&tree.signer));
        notices.adopted.push(tree);
        if notices.awaited.is_empty() {
            self.tiler_wake.notify_one();
        }
    }

    /// Blocks until the log's checkpoint covers this many entries. What failed before is tried once more at once: the
    /// disk may have been mended since.
    pub(crate) fn wait_published(&self, log: &LogId, size: u64) -> Result<(), Arc<str>> {
        let mut notices = self.lock();
        let mut ask = None;
        while notices.published.get(log).is_none_or(|published| published.size < size) {
            if let Some(why) = &notices.failure {
                return Err(Arc::clone(why));
            }
            let Progress { broken, stalled, answered, .. } = &notices.progress;
            match (stalled.get(log).or(broken.as_ref()), ask) {
                (Some(why), Some(ask)) if *answered >= ask => return Err(Arc::clone(why)),
                (Some(why), _) if notices.tiler_stopped => return Err(Arc::clone(why)),
                (None, _) if notices.tiler_stopped => return Err(Arc::from("the log was closed")),
                (Some(_), None) => {
                    notices.asks += 1;
                    ask = Some(notices.asks);
                }
                (_, _) => {}
            }
            notices.urgent = true;
            self.tiler_wake.notify_one();
            notices = unpoisoned(self.published_wake.wait(notices));
        }
        Ok(())
    }

    /// The same, for no longer than `patience`: without an end a disk that neither works nor fails would hold up
    /// whoever reads.
    pub(crate) fn wait_published_for(&self, log: &LogId, size: u64, patience: Duration) {
        let mut notices = self.lock();
        let behind =
            |notices: &Notices| notices.published.get(log).is_some_and(|published| published.size < size);
        if behind(&notices) {
            notices.urgent = true;
            self.tiler_wake.notify_one();
        }
        let waiting = |notices: &mut Notices| {
            let Progress { broken, stalled, .. } = &notices.progress;
            let hopeless = broken.is_some() || notices.failure.is_some() || notices.tiler_stopped;
            behind(notices) && !hopeless && !stalled.contains_key(log)
        };
        drop(self.published_wake.wait_timeout_while(notices, patience, waiting));
    }

    pub(crate) fn fill(&self, health: &mut Health) {
        let notices = self.lock();
        let Progress {
            tiled,
            open_intents,
            oldest_intent,
            first_segment,
            broken,
            not_given_back,
            stalled,
            answered: _,
        } = &notices.progress;
        health.tree = broken.as_ref().or(stalled.values().next()).map(Arc::clone);
        health.stalled_logs = stalled.len();
        health.not_given_back = not_given_back.clone();
        health.durable_batches = notices.durable;
        health.published_batches = *tiled;
        health.open_intents = *open_intents;
        health.oldest_intent = oldest_intent.clone().map(|Oldest { op, log, since, segments }| {
            OldestIntent { op, log, age: since.elapsed(), segments }
        });
        health.segments = *first_segment;
        health.published_entries = notices.entries;
    }

    /// For who follows the logs: the round, and which logs have grown since the one given, with their sizes; all of them since round 0.
    pub(crate) fn grown_since(&self, round: u64) -> (u64, Vec<(LogId, u64)>) {
        let notices = self.lock();
        if notices.round == round {
            return (round, Vec::new());
        }
        let grown = notices.published.iter().filter(|(_, grown)| grown.round > round);
        (notices.round, grown.map(|(log, grown)| (log.clone(), grown.size)).collect())
    }

    /// Entries under published checkpoints, of all logs together.
    pub(crate) fn published_entries(&self) -> u64 {
        self.lock().entries
    }

    /// The same of one log.
    pub(crate) fn published_size(&self, log: &LogId) -> u64 {
        self.lock().published.get(log).map_or(0, |grown| grown.size)
    }

    /// The key of a log that is open.
    pub(crate) fn key(&self, log: &LogId) -> Option<VerifierKey> {
        self.lock().signers.get(log).map(|signer| signer.verifier().clone())
    }

    /// The oldest segment in use, and below which number batches are durable.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let notices = self.lock();
        (notices.progress.first_segment, notices.durable)
    }

    /// The tiler: waits until every log that recovery named is registered, or for so long. Gives whether the log is closed
    /// before they were: nobody took it up.
    pub(crate) fn wait_registered(&self, patience: Duration) -> bool {
        let waiting = |notices: &mut Notices| !notices.awaited.is_empty() && !notices.writer_stopped;
        let (notices, _) = unpoisoned(self.tiler_wake.wait_timeout_while(self.lock(), patience, waiting));
        !notices.awaited.is_empty() && notices.writer_stopped
    }

    /// The tiler: waits for batches from `next` on and lets them gather for `gather`; with `retry`, gives up waiting
    /// after that time. Whoever asks that what failed be tried again ends either.
    pub(crate) fn wait(&self, next: u64, gather: Duration, retry: Option<Duration>) -> Turn {
        let mut notices = self.lock();
        let nothing =
            |notices: &mut Notices| notices.durable <= next && !notices.writer_stopped && !notices.is_asked();
        while nothing(&mut notices) {
            notices.tiler_idle = true;
            match retry {
                None => notices = unpoisoned(self.tiler_wake.wait(notices)),
                Some(time) => {
                    notices = unpoisoned(self.tiler_wake.wait_timeout_while(notices, time, nothing)).0;
                    break;
                }
            }
        }
        let quiet = |notices: &mut Notices| !notices.urgent && !notices.writer_stopped;
        if notices.durable > next {
            notices = unpoisoned(self.tiler_wake.wait_timeout_while(notices, gather, quiet)).0;
            notices.urgent = false;
        }
        let work = match (notices.durable > next, notices.writer_stopped) {
            (true, _) => Work::Read(notices.durable),
            (false, true) => Work::Stop,
            (false, false) => Work::Retry,
        };
        let asked = notices.is_asked();
        notices.asks_taken = notices.asks;
        Turn { work, adopted: std::mem::take(&mut notices.adopted), asked, asks: notices.asks }
    }

    /// The tiler: waits so long, or until the writer stops or someone asks to try again; gives whether the writer did.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let quiet = |notices: &mut Notices| !notices.writer_stopped && !notices.is_asked();
        let waited = self.tiler_wake.wait_timeout_while(self.lock(), time, quiet);
        unpoisoned(waited).0.writer_stopped
    }

    /// The tiler: what it did.
    pub(crate) fn report<'a>(&self, progress: Progress, trees: impl Iterator<Item = &'a Tree>) {
        let mut notices = self.lock();
        notices.progress = progress;
        for tree in trees {
            notices.publish(&tree.id, tree.size);
        }
        self.published_wake.notify_all();
    }

    /// The tiler: it is done.
    pub(crate) fn tiler_stopped(&self) {
        self.lock().tiler_stopped = true;
        self.published_wake.notify_all();
    }
}

#[cfg(test)]
mod tests;
