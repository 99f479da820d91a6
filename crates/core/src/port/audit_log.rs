//! The audit log.

use super::{Committed, Health};
use crate::error::Error;
use crate::id::{OperationId, TenantId};
use crate::pipeline::Intent;
use crate::query::AuditPath;
use crate::receipt::{SignedReceipt, Statement};
use crate::retention::Retention;
use crate::time::Timestamp;
use core::future::Future;

/// What recovery needs to know of an entry without parsing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Neither opens nor closes anything.
    Plain,
    /// Opens a command.
    Intent(OperationId),
    /// Closes it, with the state's position if it changed anything.
    Outcome(OperationId, Option<Committed>),
}

/// What an entry may draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Refused when the disk is full or the queue too long.
    Ordinary,
    /// A stop order: draws on the reserve, never refused for disk, log or quota.
    Stop,
}

/// Where a record stands: the entry's index in its tenant's log, which is its leaf's index in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 0, without gaps.
    pub index: u64,
}

/// What makes entries of a log old enough to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// For how long they must be kept.
    pub retention: Retention,
    /// The time now, by a clock that may be wrong.
    pub now: Timestamp,
    /// The first entry that somebody else still needs, if anybody does.
    pub needed: Option<u64>,
}

/// The audit log.
pub trait AuditLog: Send + Sync + 'static {
    /// One tenant's log, opened.
    type Handle: Clone + Send + Sync + 'static;
    /// Resolves once the entry survives power loss. MUST NOT resolve to `Ok` before; an error is final.
    type Ticket: Future<Output = Result<Position, Error>> + Send + Unpin + 'static;

    /// Opens a tenant's log, making it if it does not exist.
    ///
    /// # Errors
    /// `audit-unavailable`.
    fn open(&self, tenant: &TenantId) -> Result<Self::Handle, Error>;

    /// Appends one entry. `write` is called once, under the log's ordering: entries stand in the order in which their `write` ran, and
    /// it may look at what an earlier one changed. It appends the entry's bytes to the buffer (at most 65,535) and sets the opening key
    /// of the entry's commitments, which is kept apart from the log and can be erased.
    ///
    /// # Errors
    /// `audit-unavailable` when the disk is full or the log has failed, `throttled` when too much waits; for [`Priority::Stop`] only when
    /// the log has failed.
    fn append<R>(
        &self,
        log: &Self::Handle,
        mark: Mark,
        priority: Priority,
        write: impl FnOnce(&mut Vec<u8>, &mut [u8; 32]) -> R,
    ) -> Result<(R, Self::Ticket), Error>;

    /// Whether nothing has been appended to a tenant's log yet, durable or not, now or by an earlier process.
    fn is_empty(&self, log: &Self::Handle) -> bool;

    /// Signs, with the key of the tenant's log, that a record stands in it. It MUST be durable. What is signed MUST NOT be taken for a
    /// checkpoint by anybody.
    ///
    /// # Errors
    /// `audit-unavailable`.
    fn attest(&self, log: &Self::Handle, statement: &Statement) -> Result<SignedReceipt, Error>;

    /// Reads a file of a tenant's published log. The checkpoint SHOULD cover everything that was durable when it was asked for. A partial tile MUST be readable for as long as its tile exists, also when the tree has
    /// grown past it: whoever reads by a checkpoint finds what that checkpoint implies. MUST NOT block the thread that polls it.
    ///
    /// # Errors
    /// `not-found` when the log has no such file; `audit-unavailable`.
    fn read(
        &self,
        log: &Self::Handle,
        file: &AuditPath,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;

    /// The first entry of a log that has to be kept, where earlier ones may go: all of them MUST be older than the retention, and none be
    /// needed. A clock that is wrong once MUST NOT make everything old. `None` if nothing more may go. MUST NOT block the thread
    /// that polls it.
    ///
    /// # Errors
    /// `audit-unavailable`, when the log cannot be read.
    fn prunable(
        &self,
        log: &Self::Handle,
        expiry: Expiry,
    ) -> impl Future<Output = Result<Option<u64>, Error>> + Send;

    /// Removes the entries before an index, and what opens them, after their pruning has been recorded in the same log. The tree, its
    /// checkpoints and its leaf hashes stay, and from then on the log itself tells what was pruned from what is missing. It MAY keep a few more.
    /// Doing it again MUST finish what was interrupted. MUST NOT block the thread that polls it.
    ///
    /// # Errors
    /// `audit-unavailable`; some of them may then be gone.
    fn prune(
        &self,
        intent: &Intent,
        log: &Self::Handle,
        keep: u64,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether it can record now.
    fn health(&self) -> Health;
}
