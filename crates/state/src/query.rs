//! Reads: from rows to what the port returns. Each function expects to run within one read transaction.

use crate::body;
use crate::fault::Fault;
use crate::record::{self, Kind, Order};
use crate::seal::Seal;
use holdfast_core::key::{Key, Version};
use holdfast_core::port::{KeyEntry, Page};
use holdfast_core::tenant::{PolicyVersion, TenantData, TenantRecord};
use holdfast_core::{KeyId, KeyName, KeyVersion, TenantId};
use rusqlite::Connection;
use std::sync::Arc;

/// A connection and what its rows are checked with.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Where rows come from.
    pub(crate) connection: &'a Connection,
    /// What checks them.
    pub(crate) seal: &'a Seal,
}

/// More rows than there can be.
const ALL: i64 = i64::MAX;

impl Source<'_> {
    /// Every tenant.
    pub(crate) fn tenants(self) -> Result<Vec<TenantData>, Fault> {
        let Self { connection, seal } = self;
        let everything = (&b""[..], &b"\xff"[..]);
        let order = (Order::Ascending, ALL);
        let records = record::ids_between(connection, seal, Kind::Tenant, everything, order, body::tenant)?;
        records.into_iter().map(|record| self.with_registrations(record)).collect()
    }

    /// Every tenant's id.
    pub(crate) fn tenant_ids(self) -> Result<Vec<TenantId>, Fault> {
        let Self { connection, seal } = self;
        let everything = (&b""[..], &b"\xff"[..]);
        let order = (Order::Ascending, ALL);
        let records = record::ids_between(connection, seal, Kind::Tenant, everything, order, body::tenant)?;
        Ok(records.into_iter().map(|record| record.id).collect())
    }

    /// One tenant.
    pub(crate) fn tenant(self, tenant: &TenantId) -> Result<Option<TenantData>, Fault> {
        self.tenant_record(tenant)?.map(|record| self.with_registrations(record)).transpose()
    }

    /// One tenant's own record.
    pub(crate) fn tenant_record(self, tenant: &TenantId) -> Result<Option<TenantRecord>, Fault> {
        let Self { connection, seal } = self;
        record::by_id(connection, seal, Kind::Tenant, tenant.as_str().as_bytes(), body::tenant)
    }

    fn with_registrations(self, record: TenantRecord) -> Result<TenantData, Fault> {
        let Self { connection, seal } = self;
        let tenant = &record.id;
        let callers = record::named_after(connection, seal, Kind::Caller, tenant, "", ALL, |row| {
            body::caller(row).map(Arc::new)
        })?;
        let anchors = record::named_after(connection, seal, Kind::Anchor, tenant, "", ALL, body::anchor)?;
        let policy = self.policy_in_force(tenant)?.ok_or_else(|| {
            Fault::damaged(record::TABLE, format!("tenant {tenant}"), "the tenant has no policy in force")
        })?;
        Ok(TenantData { record, callers, anchors, policy })
    }

    /// The newest version of a tenant's policy.
    pub(crate) fn policy_in_force(self, tenant: &TenantId) -> Result<Option<PolicyVersion>, Fault> {
        let Self { connection, seal } = self;
        let (low, high) = record::policy_ids(tenant);
        let newest = (Order::Descending, 1);
        let found = record::ids_between(connection, seal, Kind::Policy, (&low, &high), newest, body::policy)?;
        Ok(found.into_iter().next())
    }

    /// A version of a tenant's policy.
    pub(crate) fn policy(self, tenant: &TenantId, version: u64) -> Result<Option<PolicyVersion>, Fault> {
        let Self { connection, seal } = self;
        record::by_id(connection, seal, Kind::Policy, &record::policy_id(tenant, version), body::policy)
    }

    /// The key that is found by a name.
    pub(crate) fn key(self, tenant: &TenantId, name: &KeyName) -> Result<Option<Key>, Fault> {
        let Self { connection, seal } = self;
        record::by_name(connection, seal, Kind::Key, tenant, name.as_str(), body::key)
    }

    /// A key by its id, and whether its name still leads to it.
    pub(crate) fn key_by_id(self, id: KeyId) -> Result<Option<(Key, bool)>, Fault> {
        let Self { connection, seal } = self;
        record::by_id(connection, seal, Kind::Key, id.as_bytes(), |row| {
            Ok((body::key(row)?, row.name.is_some()))
        })
    }

    /// The key that is found by a name, with its newest version.
    pub(crate) fn entry(self, tenant: &TenantId, name: &KeyName) -> Result<Option<KeyEntry>, Fault> {
        self.key(tenant, name)?.map(|key| self.with_current(key)).transpose()
    }

    fn with_current(self, key: Key) -> Result<KeyEntry, Fault> {
        let current = self.version(key.id, key.current)?.ok_or_else(|| {
            Fault::damaged(
                record::TABLE,
                format!("key {}", key.id),
                "the version that new work takes has no record",
            )
        })?;
        Ok(KeyEntry { key, current: Arc::new(current) })
    }

    /// A version of a key.
    pub(crate) fn version(self, key: KeyId, number: KeyVersion) -> Result<Option<Version>, Fault> {
        let Self { connection, seal } = self;
        record::by_id(connection, seal, Kind::Version, &record::version_id(key, number), body::version)
    }

    /// A page of a tenant's keys.
    pub(crate) fn keys(
        self,
        tenant: &TenantId,
        after: Option<&KeyName>,
        limit: usize,
    ) -> Result<Page<Key>, Fault> {
        let Self { connection, seal } = self;
        let after = after.map_or("", KeyName::as_str);
        let rows =
            record::named_after(connection, seal, Kind::Key, tenant, after, one_more(limit), body::key)?;
        Ok(page(rows, limit))
    }

    /// A page of a key's versions.
    pub(crate) fn versions(
        self,
        key: KeyId,
        after: Option<KeyVersion>,
        limit: usize,
    ) -> Result<Page<Version>, Fault> {
        let Self { connection, seal } = self;
        // An id is longer than its key's, so it sorts after it, and nothing of four bytes sorts after five times 0xff.
        let low = match after {
            Some(number) => record::version_id(key, number).to_vec(),
            None => key.as_bytes().to_vec(),
        };
        let high = [key.as_bytes().as_slice(), &[0xff; 5]].concat();
        let order = (Order::Ascending, one_more(limit));
        let rows = record::ids_between(connection, seal, Kind::Version, (&low, &high), order, body::version)?;
        Ok(page(rows, limit))
    }
}

/// One row more than the page, to see whether there are more.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

fn page<T>(mut rows: Vec<T>, limit: usize) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    Page { rows, more }
}
