//! The one lock of the request path: admits an entry, gives it its index, and lets the caller write it into the open
//! batch. Also decides where each batch goes, so that an admitted entry always has its place on disk.

use super::{Health, Limits, WalHealth};
use crate::log_id::LogId;
use crate::wal::{Batch, Entry, Mark, NotDurable, Position, StateMark, Ticket, push_record};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Who may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Everything else.
    Ordinary,
    /// Stop orders: never refused for overload, and on a full disk as long as the reserve lasts.
    Stop,
}

/// Why an entry was not taken. Nothing of it is in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// More is waiting for the disk than the configuration allows.
    #[error("the audit log is overloaded; try again in a moment")]
    Overloaded,
    /// No further segment could be made ready.
    #[error("the audit log's disk is full ({0}); free space on it")]
    Full(Arc<str>),
    /// Writing failed before.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
    /// The log was closed.
    #[error("the audit log is closed; start the gateway again")]
    Closed,
    /// No log of this name was registered.
    #[error("no log named `{0}` is open; register it first")]
    UnknownLog(LogId),
    /// The closure wrote nothing.
    #[error("the entry is empty; write at least one byte")]
    Empty,
    /// The closure wrote more than an entry may hold.
    #[error("the entry has {0} bytes; shorten it to 65535 or less")]
    TooLong(usize),
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// A batch on its way to disk.
pub(super) struct Sealed {
    pub(super) batch: Batch,
    pub(super) number: u64,
    pub(super) place: Place,
}

/// What stands under the lock.
pub(super) struct Sequencer {
    pub(super) limits: Limits,
    pub(super) batch: Batch,
    /// The buffer that the writer gave back.
    pub(super) buffer: Option<Vec<u8>>,
    /// The open batch's number.
    pub(super) next_batch: u64,
    /// Each registered log's next index.
    pub(super) logs: HashMap<LogId, u64>,
    /// The sum of those: entries that were given an index.
    pub(super) appended: u64,
    pub(super) place: Place,
    /// The next segment, once it is ready.
    pub(super) spare: Option<u64>,
    /// Segments whose entries are all in tiles, oldest first.
    pub(super) free: VecDeque<u64>,
    /// The highest number in use.
    pub(super) last_segment: u64,
    pub(super) state: Option<StateMark>,
    pub(super) failure: Option<NotDurable>,
    /// Why no spare could be made.
    pub(super) full: Option<Arc<str>>,
    pub(super) closing: bool,
    /// Whether the writer has nothing to do and waits to be woken.
    pub(super) writer_waits: bool,
}

impl Sequencer {
    /// Lets entries of a log in.
    pub(super) fn admit(&mut self, log: &LogId, next_index: u64) {
        self.logs.insert(log.clone(), next_index);
        self.appended = self.appended.saturating_add(next_index);
    }

    /// Takes one entry into the open batch.
    pub(super) fn append<R>(
        &mut self,
        log: &LogId,
        priority: Priority,
        mark: Mark,
        write: impl FnOnce(&mut Entry<'_>) -> R,
    ) -> Result<(R, Ticket), AppendError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        if self.closing {
            return Err(AppendError::Closed);
        }
        if priority == Priority::Ordinary && self.batch.bytes.len() >= self.limits.max_pending {
            return Err(AppendError::Overloaded);
        }
        // Before the caller's work, so that a full disk costs nothing; the bytes themselves are judged after it.
        if !self.fits(self.batch.extent(), priority) {
            return Err(self.full());
        }
        let Some(next) = self.logs.get_mut(log) else { return Err(AppendError::UnknownLog(log.clone())) };
        let index = *next;
        let before = (self.batch.bytes.len(), self.batch.count);
        let wrote =
            push_record(&mut self.batch, log.as_str(), index, mark, write).map_err(AppendError::from)?;
        if !self.fits(self.batch.extent(), priority) {
            self.batch.bytes.truncate(before.0);
            self.batch.count = before.1;
            return Err(self.full());
        }
        if let Some(next) = self.logs.get_mut(log) {
            *next = index + 1;
            self.appended += 1;
        }
        if let Mark::Outcome { state, .. } = mark {
            self.state = StateMark::newer(self.state, state);
        }
        let position = Position { batch: self.next_batch, ordinal: before.1, index };
        Ok((wrote, Ticket::new(Arc::clone(&self.batch.completion), position)))
    }

    /// Whether a batch of this extent has its place. Until the next segment is ready, the end of this one is kept
    /// for stop orders.
    fn fits(&self, extent: u64, priority: Priority) -> bool {
        let Limits { segment_len, reserve, .. } = self.limits;
        let left = segment_len.saturating_sub(self.place.offset);
        let kept = match priority {
            Priority::Ordinary => reserve,
            Priority::Stop => 0,
        };
        if self.spare.is_some() {
            extent <= left || extent + kept <= segment_len
        } else {
            extent + kept <= left
        }
    }

    fn full(&self) -> AppendError {
        match &self.full {
            Some(why) => AppendError::Full(Arc::clone(why)),
            // The next segment is still being made: soon there is room.
            None => AppendError::Overloaded,
        }
    }

    /// Swaps the open batch for an empty one and gives it its place. Gives nothing if it is empty.
    pub(super) fn take(&mut self) -> Option<Sealed> {
        if self.batch.is_empty() {
            return None;
        }
        let extent = self.batch.extent();
        if self.place.offset + extent > self.limits.segment_len
            && let Some(segment) = self.spare.take()
        {
            self.place = Place { segment, offset: 0 };
        }
        let place = self.place;
        self.place.offset += extent;
        let number = self.next_batch;
        self.next_batch += 1;
        let fresh = Batch::new(self.buffer.take().unwrap_or_default(), self.state);
        Some(Sealed { batch: std::mem::replace(&mut self.batch, fresh), number, place })
    }

    pub(super) fn health(&self) -> Health {
        let wal = match (&self.failure, &self.full) {
            (Some(failure), _) => WalHealth::Failed(failure.clone()),
            (None, Some(why)) => WalHealth::Full(Arc::clone(why)),
            (None, None) => WalHealth::Writing,
        };
        let pending_bytes = self.batch.bytes.len();
        Health { wal, pending_bytes, appended_entries: self.appended, ..Health::default() }
    }
}

impl From<crate::wal::BadEntry> for AppendError {
    fn from(bad: crate::wal::BadEntry) -> Self {
        match bad {
            crate::wal::BadEntry::Empty => Self::Empty,
            crate::wal::BadEntry::TooLong(len) => Self::TooLong(len),
        }
    }
}
