//! Durable records in memory: whatever a commit returned from is there after any crash.

use super::{Gate, lock, sha256};
use holdfast_core::caller::CallerRecord;
use holdfast_core::key::{Key, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::pipeline::{Intent, OpenIntent};
use holdfast_core::port::{Committed, Health, KeyEntry, Page, State, StateChange};
use holdfast_core::tenant::{Anchor, PolicyVersion, TenantData, TenantRecord};
use holdfast_core::{
    CallerName, Epoch, Error, ErrorKind, KeyId, KeyName, KeyVersion, OperationId, Stage, TenantId,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// What goes wrong with one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing is written, and it fails with this kind.
    Before(ErrorKind),
    /// Everything is written, and it fails with this kind all the same.
    After(ErrorKind),
}

/// A state in memory.
#[derive(Debug, Clone, Default)]
pub struct Records {
    inner: Arc<Mutex<Inner>>,
    /// Reads of keys are done and then wait here.
    pub reading: Gate,
    /// Counts wait here before they are read or raised.
    pub counting: Gate,
    /// Commits wait here before they are done.
    pub committing: Gate,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    faults: VecDeque<CommitFault>,
    failing_reads: u32,
    commits: u64,
    /// Whether something that was replaced may lie about, and how often somebody still reads it.
    litter: bool,
    readers: u32,
}

#[derive(Debug, Clone, Default)]
struct Tables {
    tenants: BTreeMap<TenantId, TenantRows>,
    keys: BTreeMap<(TenantId, KeyName), Key>,
    versions: BTreeMap<(KeyId, KeyVersion), Version>,
    counts: HashMap<(KeyId, KeyVersion), u64>,
    committed: HashMap<OperationId, Committed>,
    orders: BTreeMap<u64, OpenIntent>,
    sequence: u64,
    digest: [u8; 32],
}

#[derive(Debug, Clone)]
struct TenantRows {
    record: TenantRecord,
    callers: BTreeMap<CallerName, Arc<CallerRecord>>,
    anchors: BTreeMap<CallerName, Anchor>,
    policies: Vec<PolicyVersion>,
}

fn refuse(kind: ErrorKind, detail: &'static str) -> Error {
    Error::new(kind, Stage::Perform, detail)
}

/// A record that keeps its epoch would be written over by whoever read it before, and never be put in force.
fn assert_raised(before: Epoch, after: Epoch) {
    assert!(after > before, "a change of a record raises its epoch");
}

impl Records {
    /// So many times somebody still reads what was replaced.
    pub fn hold_replaced(&self, times: u32) {
        lock(&self.inner).readers = times;
    }

    /// Whether something that was replaced may lie about.
    pub fn has_replaced(&self) -> bool {
        lock(&self.inner).litter
    }

    /// Lets one of the next commits fail; faults are used up in order.
    pub fn fault(&self, fault: CommitFault) {
        lock(&self.inner).faults.push_back(fault);
    }

    /// Lets so many reads fail.
    pub fn fail_reads(&self, reads: u32) {
        lock(&self.inner).failing_reads = reads;
    }

    /// Forgets faults that nobody ran into.
    pub fn heal(&self) {
        let mut inner = lock(&self.inner);
        inner.faults.clear();
        inner.failing_reads = 0;
    }

    /// How many commits have been tried.
    pub fn commits(&self) -> u64 {
        lock(&self.inner).commits
    }

    /// Puts a key version's counter where a test wants it.
    pub fn set_count(&self, key: KeyId, version: KeyVersion, invocations: u64) {
        lock(&self.inner).tables.counts.insert((key, version), invocations);
    }

    /// A copy of everything as it is now: a backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        let tables = lock(&self.inner).tables.clone();
        Self { inner: Arc::new(Mutex::new(Inner { tables, ..Inner::default() })), ..Self::default() }
    }

    /// Changes the state behind everybody's back, as an attacker with the disk would.
    pub fn tamper(&self) {
        lock(&self.inner).tables.digest[0] ^= 1;
    }

    /// Exchanges a version's record behind everybody's back.
    pub fn forge_version(&self, version: Version) {
        lock(&self.inner).tables.versions.insert((version.key, version.number), version);
    }

    /// Exchanges a key's record behind everybody's back.
    pub fn forge_key(&self, key: Key) {
        lock(&self.inner).tables.keys.insert((key.tenant.clone(), key.name.clone()), key);
    }

    /// A key's record, by its name.
    pub fn find(&self, tenant: &TenantId, name: &KeyName) -> Option<Key> {
        lock(&self.inner).tables.keys.get(&(tenant.clone(), name.clone())).cloned()
    }

    /// A version's record.
    pub fn find_version(&self, key: KeyId, number: KeyVersion) -> Option<Version> {
        lock(&self.inner).tables.versions.get(&(key, number)).cloned()
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> Result<T, Error> {
        let mut inner = lock(&self.inner);
        if inner.failing_reads > 0 {
            inner.failing_reads -= 1;
            return Err(refuse(ErrorKind::StateUnavailable, "the state was told not to be read"));
        }
        Ok(read(&inner.tables))
    }
}

impl TenantRows {
    fn data(&self) -> Option<TenantData> {
        Some(TenantData {
            record: self.record.clone(),
            callers: self.callers.values().map(Arc::clone).collect(),
            anchors: self.anchors.values().cloned().collect(),
            policy: self.policies.last()?.clone(),
        })
    }
}

impl Tables {
    fn rows(&mut self, tenant: &TenantId) -> Result<&mut TenantRows, Error> {
        self.tenants.get_mut(tenant).ok_or_else(|| refuse(ErrorKind::Conflict, "the tenant is gone"))
    }

    fn apply(&mut self, change: &StateChange) -> Result<(), Error> {
        let conflict = || Err(refuse(ErrorKind::Conflict, "the record has changed meanwhile"));
        let exists = || Err(refuse(ErrorKind::AlreadyExists, "that name is taken"));
        match change {
            StateChange::Tenant { record, expected } => match (self.tenants.get_mut(&record.id), expected) {
                (None, None) => {
                    let rows = TenantRows {
                        record: record.clone(),
                        callers: BTreeMap::new(),
                        anchors: BTreeMap::new(),
                        policies: Vec::new(),
                    };
                    self.tenants.insert(record.id.clone(), rows);
                }
                (Some(rows), Some(epoch)) if rows.record.epoch == *epoch => {
                    assert_raised(*epoch, record.epoch);
                    rows.record = record.clone();
                }
                (Some(_), None) => return exists(),
                (Some(_) | None, Some(_)) => return conflict(),
            },
            StateChange::Key { key, expected } => {
                let place = (key.tenant.clone(), key.name.clone());
                match (self.keys.get(&place), expected) {
                    // An id is never used again.
                    (_, None) if self.versions.contains_key(&(key.id, KeyVersion::FIRST)) => {
                        return conflict();
                    }
                    // A destroyed key's name is free again.
                    (Some(found), None) if found.state != KeyState::Destroyed => return exists(),
                    (None, Some(_)) => return conflict(),
                    (Some(found), Some(epoch)) if found.epoch != *epoch => return conflict(),
                    (found, _) => {
                        if let Some(epoch) = expected {
                            assert_raised(*epoch, key.epoch);
                        }
                        let same = found
                            .filter(|found| (found.id, found.newest) == (key.id, key.newest))
                            .filter(|_| key.renewed != Key::UNCOMMITTED);
                        // `sequence` is still that of the commit before.
                        let renewed = same.map_or(self.sequence + 1, |found| found.renewed);
                        self.keys.insert(place, Key { renewed, ..key.clone() });
                    }
                }
            }
            StateChange::Version { tenant: _, version } => {
                let commit = match version.commit {
                    Version::UNCOMMITTED => self.sequence + 1,
                    commit => commit,
                };
                self.versions.insert((version.key, version.number), Version { commit, ..version.clone() });
            }
            StateChange::Caller { tenant, record } => {
                self.rows(tenant)?.callers.insert(record.name.clone(), Arc::new(record.clone()));
            }
            StateChange::CallerGone { tenant, name } => {
                self.rows(tenant)?.callers.remove(name);
            }
            StateChange::Anchor { tenant, anchor } => {
                self.rows(tenant)?.anchors.insert(anchor.name.clone(), anchor.clone());
            }
            StateChange::AnchorGone { tenant, name } => {
                self.rows(tenant)?.anchors.remove(name);
            }
            StateChange::Policy { tenant, policy } => {
                let rows = self.rows(tenant)?;
                if policy.version != rows.policies.last().map_or(1, |last| last.version + 1) {
                    return conflict();
                }
                rows.policies.push(policy.clone());
            }
        }
        Ok(())
    }

    fn commit(&mut self, operation: OperationId, changes: &[StateChange]) -> Result<Committed, Error> {
        let mut after = self.clone();
        for change in changes {
            after.apply(change)?;
        }
        after.sequence += 1;
        after.digest = sha256(&[&self.digest, format!("{changes:?}").as_bytes()]);
        let committed = Committed { sequence: after.sequence, digest: after.digest };
        after.committed.insert(operation, committed);
        *self = after;
        Ok(committed)
    }
}

fn page<T>(rows: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let mut rows: Vec<_> = rows.take(limit + 1).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    Page { rows, more }
}

impl State for Records {
    async fn tenants(&self) -> Result<Vec<TenantData>, Error> {
        self.read(|tables| tables.tenants.values().filter_map(TenantRows::data).collect())
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantData>, Error> {
        self.read(|tables| tables.tenants.get(tenant).and_then(TenantRows::data))
    }

    async fn key(&self, tenant: &TenantId, name: &KeyName) -> Result<Option<Arc<KeyEntry>>, Error> {
        let found = self.read(|tables| {
            let key = tables.keys.get(&(tenant.clone(), name.clone()))?.clone();
            let current = Arc::new(tables.versions.get(&(key.id, key.current))?.clone());
            Some(Arc::new(KeyEntry { key, current }))
        })?;
        self.reading.pass().await;
        Ok(found)
    }

    async fn version(&self, key: KeyId, number: KeyVersion) -> Result<Option<Arc<Version>>, Error> {
        self.read(|tables| tables.versions.get(&(key, number)).cloned().map(Arc::new))
    }

    async fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyName>,
        limit: usize,
    ) -> Result<Page<Key>, Error> {
        self.read(|tables| {
            let of_tenant = tables.keys.values().filter(|key| key.tenant == *tenant);
            page(of_tenant.filter(|key| after.is_none_or(|after| key.name > *after)).cloned(), limit)
        })
    }

    async fn versions(
        &self,
        key: KeyId,
        after: Option<KeyVersion>,
        limit: usize,
    ) -> Result<Page<Version>, Error> {
        self.read(|tables| {
            let of_key = tables.versions.values().filter(|version| version.key == key);
            page(of_key.filter(|version| after.is_none_or(|after| version.number > after)).cloned(), limit)
        })
    }

    async fn policy(&self, tenant: &TenantId, version: u64) -> Result<Option<PolicyVersion>, Error> {
        self.read(|tables| {
            let rows = tables.tenants.get(tenant)?;
            rows.policies.iter().find(|policy| policy.version == version).cloned()
        })
    }

    async fn count(&self, key: KeyId, version: KeyVersion, invocations: u64) -> Result<u64, Error> {
        self.counting.pass().await;
        self.read(|_| ())?;
        let mut inner = lock(&self.inner);
        let count = inner.tables.counts.entry((key, version)).or_default();
        *count += invocations;
        Ok(*count)
    }

    async fn commit(&self, intent: &Intent, changes: Vec<StateChange>) -> Result<Committed, Error> {
        self.committing.pass().await;
        let mut inner = lock(&self.inner);
        inner.commits += 1;
        let fault = inner.faults.pop_front();
        if let Some(CommitFault::Before(kind)) = fault {
            return Err(refuse(kind, "the state was told not to be written"));
        }
        let committed = inner.tables.commit(intent.operation(), &changes)?;
        inner.litter = true;
        if let Some(order) = intent.order() {
            inner.tables.orders.insert(committed.sequence, order.clone());
        }
        match fault {
            Some(CommitFault::After(kind)) => Err(refuse(kind, "the state was told to lose its answer")),
            Some(CommitFault::Before(_)) | None => Ok(committed),
        }
    }

    async fn committed(&self, operation: OperationId) -> Result<Option<Committed>, Error> {
        self.read(|tables| tables.committed.get(&operation).copied())
    }

    async fn orders_since(&self, sequence: u64) -> Result<Vec<OpenIntent>, Error> {
        self.read(|tables| tables.orders.range(sequence + 1..).map(|(_, order)| order.clone()).collect())
    }

    async fn forget_replaced(&self) -> Result<bool, Error> {
        let mut inner = lock(&self.inner);
        if let Some(fewer) = inner.readers.checked_sub(1) {
            inner.readers = fewer;
            return Ok(false);
        }
        inner.litter = false;
        Ok(true)
    }

    fn position(&self) -> Committed {
        let inner = lock(&self.inner);
        Committed { sequence: inner.tables.sequence, digest: inner.tables.digest }
    }

    fn health(&self) -> Health {
        Health::Ready
    }
}
