//! Durable records.

use super::Health;
use crate::caller::CallerRecord;
use crate::error::Error;
use crate::id::{Epoch, KeyId, KeyName, KeyVersion, OperationId, TenantId};
use crate::key::{Key, Version};
use crate::pipeline::{Intent, OpenIntent};
use crate::tenant::{Anchor, PolicyVersion, TenantData, TenantRecord};
use core::future::Future;
use std::sync::Arc;

/// A key's record with the version that new work takes.
#[derive(Debug)]
pub struct KeyEntry {
    /// The record.
    pub key: Key,
    /// That version.
    pub current: Arc<Version>,
}

/// One change of the state. Each compares the record's epoch with the one it was computed from.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// Writes a tenant's record; `expected` is `None` for a new one.
    Tenant {
        /// The record as it shall be, its epoch already raised.
        record: TenantRecord,
        /// The epoch that it had.
        expected: Option<Epoch>,
    },
    /// Writes a key's record. Where it is new, its newest version changes, or its `renewed` is [`Key::UNCOMMITTED`], the state MUST set that to
    /// this commit's sequence, and keep what it was otherwise.
    Key {
        /// The record as it shall be, its epoch already raised.
        key: Key,
        /// The epoch that it had.
        expected: Option<Epoch>,
    },
    /// Writes a key version's record, over an earlier one of the same number if there is one. Where its `commit` is [`Version::UNCOMMITTED`], the
    /// state MUST set that to this commit's sequence.
    Version {
        /// The tenant.
        tenant: TenantId,
        /// The record.
        version: Version,
    },
    /// Writes a caller's registration, over an earlier one of the same name if there is one.
    Caller {
        /// The tenant.
        tenant: TenantId,
        /// The registration.
        record: CallerRecord,
    },
    /// Removes a caller's registration.
    CallerGone {
        /// The tenant.
        tenant: TenantId,
        /// Its name.
        name: crate::id::CallerName,
    },
    /// Writes a trust anchor, over an earlier one of the same name if there is one.
    Anchor {
        /// The tenant.
        tenant: TenantId,
        /// The anchor.
        anchor: Anchor,
    },
    /// Removes a trust anchor.
    AnchorGone {
        /// The tenant.
        tenant: TenantId,
        /// Its name.
        name: crate::id::CallerName,
    },
    /// Adds a version of the policy, which becomes the one in force.
    Policy {
        /// The tenant.
        tenant: TenantId,
        /// The version; MUST be the successor of the one in force.
        policy: PolicyVersion,
    },
}

/// Where a commit stands: the log carries it, so that a state that was put back is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// How many commits there have been.
    pub sequence: u64,
    /// A digest of everything in the state.
    pub digest: [u8; 32],
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows, in order of their names.
    pub rows: Vec<T>,
    /// Whether more follow after the last one.
    pub more: bool,
}

/// Durable records: tenants, callers, keys, policies.
///
/// Reads MUST see every commit that was acknowledged, and MUST refuse a record whose authentication fails with `state-unavailable`.
/// Reads of keys MUST cost the same whatever the number of keys and versions.
pub trait State: Send + Sync + 'static {
    /// Every tenant with what the snapshot holds of it.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn tenants(&self) -> impl Future<Output = Result<Vec<TenantData>, Error>> + Send;

    /// One tenant with what the snapshot holds of it.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn tenant(&self, tenant: &TenantId) -> impl Future<Output = Result<Option<TenantData>, Error>> + Send;

    /// A key by its name.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn key(
        &self,
        tenant: &TenantId,
        name: &KeyName,
    ) -> impl Future<Output = Result<Option<Arc<KeyEntry>>, Error>> + Send;

    /// A version of a key.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn version(
        &self,
        key: KeyId,
        number: KeyVersion,
    ) -> impl Future<Output = Result<Option<Arc<Version>>, Error>> + Send;

    /// A tenant's keys by name, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyName>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Key>, Error>> + Send;

    /// A key's versions by number, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn versions(
        &self,
        key: KeyId,
        after: Option<KeyVersion>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Version>, Error>> + Send;

    /// A version of a tenant's policy; the one in force is in the snapshot.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn policy(
        &self,
        tenant: &TenantId,
        version: u64,
    ) -> impl Future<Output = Result<Option<PolicyVersion>, Error>> + Send;

    /// Counts invocations of a key version **before** they happen, and returns how many there have been with them.
    ///
    /// The count MUST NOT fall behind across crashes: blocks are reserved durably, and what is left of one at a crash counts as used.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn count(
        &self,
        key: KeyId,
        version: KeyVersion,
        invocations: u64,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Applies all changes or none, durably, and remembers that `intent`'s operation did so, and the stop order if it is one. Caches MUST be updated before it returns.
    ///
    /// # Errors
    /// `conflict` when an epoch is not the expected one, `already-exists` when a name is taken, `state-unavailable`.
    fn commit(
        &self,
        intent: &Intent,
        changes: Vec<StateChange>,
    ) -> impl Future<Output = Result<Committed, Error>> + Send;

    /// Whether an operation's changes were committed: what recovery asks about an intent that has no outcome.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn committed(
        &self,
        operation: OperationId,
    ) -> impl Future<Output = Result<Option<Committed>, Error>> + Send;

    /// The stop orders ([`Intent::order`]) that were committed after a sequence, in the order of their commits. Those that were committed so
    /// long ago that their operations are forgotten MAY be missing.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn orders_since(&self, sequence: u64) -> impl Future<Output = Result<Vec<OpenIntent>, Error>> + Send;

    /// Overwrites, in its own files, what acknowledged commits have replaced or removed, as far as that can be done; says whether it was. MUST NOT hold
    /// up a commit for longer than one commit takes.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn forget_replaced(&self) -> impl Future<Output = Result<bool, Error>> + Send {
        core::future::ready(Ok(true))
    }

    /// Where the state stands now.
    fn position(&self) -> Committed;

    /// Whether it can read and write now, from live operations.
    fn health(&self) -> Health;
}
