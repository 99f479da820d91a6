//! The thread of a sink: look what has grown, read, send, settle, remember.

use super::backoff::Backoff;
use super::control::Control;
use super::cursor::{Cursor, Reached};
use super::feed::{Feed, Portion};
use super::progress::Progress;
use super::{Failure, Settings, Target};
use crate::log_id::LogId;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Runner {
    feed: Feed,
    settings: Settings,
    target: Box<dyn Target>,
    control: Arc<Control>,
    progress: Arc<Progress>,
    path: PathBuf,
    backoff: Backoff,
    /// What the target has for good.
    settled: Cursor,
    /// What was sent.
    sent: Cursor,
    /// What was sent and is not settled.
    open: Open,
    /// The round of the board that was looked at last.
    round: u64,
    /// Every log that it copies.
    known: BTreeSet<LogId>,
    /// Those of them that were read since the start, so that their cursor is known to be theirs.
    read: BTreeSet<LogId>,
    /// Those that may have entries which were not sent.
    pending: BTreeSet<LogId>,
    /// Those that cannot be read now; tried again with the next look.
    unreadable: BTreeSet<LogId>,
    tried: Instant,
}

#[derive(Default)]
struct Open {
    since: Option<Instant>,
    bytes: usize,
    entries: u64,
    skipped: u64,
}

impl Runner {
    pub(super) fn new(
        feed: Feed,
        settings: Settings,
        target: Box<dyn Target>,
        cursor: Cursor,
        (control, progress): (Arc<Control>, Arc<Progress>),
    ) -> Self {
        let backoff = Backoff::new(settings.pace.first_pause, settings.pace.longest_pause, settings.seed);
        let mut runner = Self {
            path: feed.cursor_path(&settings.name),
            feed,
            settings,
            target,
            control,
            progress,
            backoff,
            sent: cursor.clone(),
            settled: cursor,
            open: Open::default(),
            round: 0,
            known: BTreeSet::new(),
            read: BTreeSet::new(),
            pending: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            tried: Instant::now(),
        };
        runner.target.rewind(runner.settled.place);
        runner
    }

    pub(super) fn run(mut self) {
        while !self.control.is_over() {
            // Before the last look: what was published by then is exported.
            let is_stopping = self.control.is_stopping();
            self.look();
            match self.turn(is_stopping) {
                Ok(()) if is_stopping => break,
                Ok(()) => self.control.pause(self.settings.pace.look),
                Err(failure) => {
                    self.fail(&failure);
                    if is_stopping {
                        break;
                    }
                    self.control.pause(self.backoff.pause());
                }
            }
        }
        self.control.ended();
    }

    /// Notes what has grown.
    fn look(&mut self) {
        let (round, grown) = self.feed.grown_since(self.round);
        self.round = round;
        let logs = &self.settings.logs;
        let grown: Vec<_> = grown.into_iter().filter(|log| logs.is_empty() || logs.contains(log)).collect();
        self.known.extend(grown.iter().cloned());
        self.pending.extend(grown);
        if !self.unreadable.is_empty() && self.tried.elapsed() >= self.settings.pace.longest_pause {
            self.pending.append(&mut self.unreadable);
        }
    }

    /// Sends everything that is pending and settles where that is due.
    fn turn(&mut self, is_stopping: bool) -> Result<(), Failure> {
        let before = self.read.len();
        let copied = self.copy_all();
        if self.read.len() > before {
            self.reached();
        }
        copied?;
        if is_stopping && self.open.since.is_some() {
            self.settle()?;
        }
        let is_behind = self.open.since.is_some() || !self.unreadable.is_empty();
        self.progress.behind(is_behind);
        if !is_behind {
            self.progress.recovered();
        }
        Ok(())
    }

    /// Goes round all logs until none has more, so that a busy one does not hold up the others.
    fn copy_all(&mut self) -> Result<(), Failure> {
        loop {
            for log in std::mem::take(&mut self.pending) {
                if self.control.is_over() {
                    return Ok(());
                }
                if self.copy(&log)? {
                    self.pending.insert(log);
                }
            }
            let due = |since: Instant| since.elapsed() >= self.target.settle_after();
            if self.open.since.is_some_and(due) {
                self.settle()?;
            }
            if self.pending.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends the next entries of a log; gives whether it has more.
    fn copy(&mut self, log: &LogId) -> Result<bool, Failure> {
        let budget = self.settings.pace.batch_bytes;
        let Portion { origin, records, skipped, next, has_more } =
            match self.feed.read(log, self.sent.logs.get(log), budget) {
                Ok(portion) => portion,
                Err(refusal) => {
                    self.cannot_read(log, &refusal.into());
                    return Ok(false);
                }
            };
        self.unreadable.remove(log);
        if self.read.insert(log.clone())
            && self.settled.logs.get(log).is_some_and(|reached| reached.origin != origin)
        {
            self.settled.logs.remove(log);
        }
        if skipped > 0 {
            tracing::error!(
                sink = %self.settings.name, %log, entries = skipped, next,
                "entries were removed from the log before this sink had them: they are skipped"
            );
        }
        if !records.is_empty() {
            self.progress.behind(true);
            self.target.send(&records, &self.control)?;
        }
        if !records.is_empty() || skipped > 0 {
            self.open.since.get_or_insert_with(Instant::now);
            self.open.bytes += records.iter().map(|record| record.entry.len()).sum::<usize>();
            self.open.entries += records.len() as u64;
            self.open.skipped += skipped;
            self.sent.logs.insert(log.clone(), Reached { origin, next });
        }
        if self.open.bytes >= self.settings.pace.unsettled_bytes {
            self.settle()?;
        }
        Ok(has_more)
    }

    /// A log that cannot be read holds up no other one.
    fn cannot_read(&mut self, log: &LogId, failure: &Failure) {
        tracing::error!(
            sink = %self.settings.name, %log, problem = failure.problem, remedy = failure.remedy, "a log cannot be copied"
        );
        self.progress.failed(Arc::from(failure.to_string()));
        self.unreadable.insert(log.clone());
        self.tried = Instant::now();
    }

    /// Has the target make sure of what it got, then remembers that.
    fn settle(&mut self) -> Result<(), Failure> {
        self.sent.place = self.target.settle(&self.control)?;
        let save = || self.sent.save(self.feed.disk(), self.feed.data(), &self.path);
        let Some(saved) = self.control.unless_abandoned(save) else { return Ok(()) };
        saved.map_err(Failure::from)?;
        self.settled.clone_from(&self.sent);
        let Open { entries, skipped, .. } = std::mem::take(&mut self.open);
        self.progress.settled(entries, skipped);
        self.reached();
        self.backoff.reset();
        if self.unreadable.is_empty() {
            self.progress.recovered();
        }
        Ok(())
    }

    fn reached(&self) {
        let reached = self.read.iter().filter_map(|log| self.settled.logs.get(log));
        self.progress.reached(reached.map(|reached| reached.next).sum());
    }

    /// Back to what is settled.
    fn fail(&mut self, failure: &Failure) {
        tracing::warn!(
            sink = %self.settings.name, problem = failure.problem, remedy = failure.remedy,
            "a sink failed; what it has not settled is sent again"
        );
        self.progress.failed(Arc::from(failure.to_string()));
        self.progress.behind(true);
        self.open = Open::default();
        self.sent.clone_from(&self.settled);
        self.target.rewind(self.settled.place);
        self.pending.clone_from(&self.known);
        self.unreadable.clear();
    }
}
