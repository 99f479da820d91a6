//! One commit's changes, applied within the writer's transaction: the port's rules, and nothing of threads or durability.

use crate::body;
use crate::fault::{Fault, conflict, defect, exists};
use crate::query::Source;
use crate::record::{self, Kind, Row};
use crate::seal::{RowSet, Seal, same_tag};
use holdfast_core::key::{Key, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::pipeline::OpenIntent;
use holdfast_core::port::{Committed, KeyEntry, StateChange};
use holdfast_core::tenant::{PolicyVersion, TenantRecord};
use holdfast_core::{Epoch, KeyId, OperationId, TenantId};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many operations are remembered as committed. Recovery asks about those that a crash left open, so a few would do.
pub(crate) const COMMITTED_KEPT: u64 = 10_000;

/// What the caches must learn of a commit once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Keys by name, as they are now.
    pub(crate) entries: Vec<Arc<KeyEntry>>,
    /// Versions, as they are now.
    pub(crate) versions: Vec<Arc<Version>>,
}

/// A commit under way.
struct Applying<'a> {
    source: Source<'a>,
    set: &'a mut RowSet,
    tenants: BTreeSet<TenantId>,
    keys: BTreeSet<KeyId>,
    versions: Vec<(TenantId, Version)>,
    /// The sequence that this commit will have.
    sequence: u64,
}

/// Applies all changes, in their order, or fails; the caller rolls back then.
pub(crate) fn apply(
    connection: &Connection,
    seal: &Seal,
    set: &mut RowSet,
    sequence: u64,
    changes: &[StateChange],
) -> Result<Effects, Fault> {
    let mut applying = Applying {
        source: Source { connection, seal },
        set,
        tenants: BTreeSet::new(),
        keys: BTreeSet::new(),
        versions: Vec::new(),
        sequence,
    };
    changes.iter().try_for_each(|change| applying.change(change))?;
    applying.finish()
}

impl Applying<'_> {
    fn change(&mut self, change: &StateChange) -> Result<(), Fault> {
        match change {
            StateChange::Tenant { record, expected } => self.tenant(record, *expected),
            StateChange::Key { key, expected } => self.key(key, *expected),
            StateChange::Version { tenant, version } => self.version(tenant, version),
            StateChange::Caller { tenant, record } => {
                let id = record::named_id(tenant, &record.name);
                let body = body::of_caller(record)?;
                self.named(Kind::Caller, tenant, &id, record.name.as_str(), &body)
            }
            StateChange::CallerGone { tenant, name } => {
                self.gone(Kind::Caller, tenant, &record::named_id(tenant, name))
            }
            StateChange::Anchor { tenant, anchor } => {
                let id = record::named_id(tenant, &anchor.name);
                let body = body::of_anchor(anchor)?;
                self.named(Kind::Anchor, tenant, &id, anchor.name.as_str(), &body)
            }
            StateChange::AnchorGone { tenant, name } => {
                self.gone(Kind::Anchor, tenant, &record::named_id(tenant, name))
            }
            StateChange::Policy { tenant, policy } => self.policy(tenant, policy),
        }
    }

    fn put(&mut self, row: &Row<'_>) -> Result<(), Fault> {
        record::put(self.source.connection, self.source.seal, self.set, row)
    }

    fn tenant(&mut self, record: &TenantRecord, expected: Option<Epoch>) -> Result<(), Fault> {
        let id = &record.id;
        let found = self.source.tenant_record(id)?.map(|found| found.epoch);
        match (expected, found) {
            (None, Some(_)) => return Err(exists(format!("there is a tenant `{id}` already"))),
            (Some(expected), found) => compare("the tenant", expected, found, record.epoch)?,
            (None, None) => {}
        }
        self.tenants.insert(id.clone());
        let body = body::of_tenant(record)?;
        self.put(&Row {
            kind: Kind::Tenant,
            id: id.as_str().as_bytes(),
            tenant: id.as_str(),
            name: None,
            epoch: record.epoch.0,
            body: &body,
        })
    }

    fn key(&mut self, key: &Key, expected: Option<Epoch>) -> Result<(), Fault> {
        let mut renewed = self.sequence;
        let by_name = match (self.source.key_by_id(key.id)?, expected) {
            (Some(_), None) => {
                return Err(conflict("there is a key of that id already; ids are never reused"));
            }
            (None, Some(_)) => return Err(conflict("there is no such key")),
            (None, None) => {
                self.take_name(key)?;
                true
            }
            (Some((found, by_name)), Some(expected)) => {
                compare("the key", expected, Some(found.epoch), key.epoch)?;
                if (&found.tenant, &found.name) != (&key.tenant, &key.name) {
                    return Err(defect("a key's tenant and name never change"));
                }
                if found.state == KeyState::Destroyed && key.state != KeyState::Destroyed {
                    return Err(conflict("the key has been destroyed"));
                }
                if found.newest == key.newest && key.renewed != Key::UNCOMMITTED {
                    renewed = found.renewed;
                }
                by_name
            }
        };
        self.tenants.insert(key.tenant.clone());
        self.keys.insert(key.id);
        self.put_key(&Key { renewed, ..key.clone() }, by_name)
    }

    /// A new key takes its name from a destroyed one, never from another.
    fn take_name(&mut self, key: &Key) -> Result<(), Fault> {
        match self.source.key(&key.tenant, &key.name)? {
            None => Ok(()),
            Some(holder) if holder.state == KeyState::Destroyed => self.put_key(&holder, false),
            Some(_) => Err(exists(format!("there is a key `{}` already", key.name))),
        }
    }

    fn put_key(&mut self, key: &Key, by_name: bool) -> Result<(), Fault> {
        let body = body::of_key(key)?;
        self.put(&Row {
            kind: Kind::Key,
            id: key.id.as_bytes(),
            tenant: key.tenant.as_str(),
            name: by_name.then(|| key.name.as_str()),
            epoch: key.epoch.0,
            body: &body,
        })
    }

    fn version(&mut self, tenant: &TenantId, version: &Version) -> Result<(), Fault> {
        self.tenants.insert(tenant.clone());
        self.keys.insert(version.key);
        let commit = match version.commit {
            Version::UNCOMMITTED => self.sequence,
            commit => commit,
        };
        let version = Version { commit, ..version.clone() };
        self.versions.push((tenant.clone(), version.clone()));
        let body = body::of_version(&version)?;
        self.put(&Row {
            kind: Kind::Version,
            id: &record::version_id(version.key, version.number),
            tenant: tenant.as_str(),
            name: None,
            epoch: 0,
            body: &body,
        })
    }

    fn named(
        &mut self,
        kind: Kind,
        tenant: &TenantId,
        id: &[u8],
        name: &str,
        body: &[u8],
    ) -> Result<(), Fault> {
        self.tenants.insert(tenant.clone());
        self.put(&Row { kind, id, tenant: tenant.as_str(), name: Some(name), epoch: 0, body })
    }

    fn gone(&mut self, kind: Kind, tenant: &TenantId, id: &[u8]) -> Result<(), Fault> {
        self.tenants.insert(tenant.clone());
        let Source { connection, seal } = self.source;
        if record::remove(connection, seal, self.set, kind, id)? {
            Ok(())
        } else {
            Err(conflict(format!("there is no such {} to remove", kind.name())))
        }
    }

    fn policy(&mut self, tenant: &TenantId, policy: &PolicyVersion) -> Result<(), Fault> {
        let in_force = self.source.policy_in_force(tenant)?.map_or(0, |policy| policy.version);
        if Some(policy.version) != in_force.checked_add(1) {
            let detail =
                format!("the policy in force is version {in_force}, not the one before {}", policy.version);
            return Err(conflict(detail));
        }
        self.tenants.insert(tenant.clone());
        let body = body::of_policy(policy)?;
        self.put(&Row {
            kind: Kind::Policy,
            id: &record::policy_id(tenant, policy.version),
            tenant: tenant.as_str(),
            name: None,
            epoch: 0,
            body: &body,
        })
    }

    /// What holds of the whole state must hold of everything that the commit touched, whatever the order of its changes: each record
    /// has its tenant, each tenant a policy, each version its key, each key the version that new work takes.
    fn finish(self) -> Result<Effects, Fault> {
        let Self { source, set: _, sequence: _, tenants, keys, versions } = self;
        for tenant in &tenants {
            if source.tenant_record(tenant)?.is_none() {
                return Err(conflict(format!("there is no tenant `{tenant}`")));
            }
            if source.policy_in_force(tenant)?.is_none() {
                return Err(defect(format!("the commit leaves the tenant `{tenant}` without a policy")));
            }
        }
        let mut entries = Vec::with_capacity(keys.len());
        for id in keys {
            let Some((key, by_name)) = source.key_by_id(id)? else {
                return Err(conflict("there is no such key for the version"));
            };
            let Some(current) = source.version(id, key.current)? else {
                return Err(defect("the commit leaves a key without the version that new work takes"));
            };
            if versions.iter().any(|(tenant, version)| version.key == id && *tenant != key.tenant) {
                return Err(defect("the version's tenant is not its key's"));
            }
            if by_name {
                entries.push(Arc::new(KeyEntry { key, current: Arc::new(current) }));
            }
        }
        let versions = versions.into_iter().map(|(_, version)| Arc::new(version)).collect();
        Ok(Effects { entries, versions })
    }
}

/// Compare-and-set, with the check that the writer of the port raised the epoch.
fn compare(what: &str, expected: Epoch, found: Option<Epoch>, next: Epoch) -> Result<(), Fault> {
    if found != Some(expected) {
        return Err(conflict(format!("{what} has been changed meanwhile")));
    }
    if next > expected { Ok(()) } else { Err(defect(format!("{what} has been changed without a new epoch"))) }
}

/// Remembers that an operation's changes are part of the state, and forgets the oldest.
pub(crate) fn remember(
    connection: &Connection,
    seal: &Seal,
    operation: OperationId,
    order: Option<&OpenIntent>,
    committed: Committed,
) -> Result<(), Fault> {
    let Committed { sequence, digest } = committed;
    let order = order.map(body::stop_order).transpose()?;
    let tag = tag(seal, operation, sequence, &digest, order.as_deref());
    let number = stored(sequence)?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO committed (sequence, operation, digest, stop_order, tag) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![number, operation.as_bytes(), digest, order, tag])?;
    connection
        .prepare_cached("DELETE FROM committed WHERE sequence <= ?1")?
        .execute([number.saturating_sub_unsigned(COMMITTED_KEPT)])?;
    Ok(())
}

fn tag(seal: &Seal, operation: OperationId, sequence: u64, digest: &[u8], order: Option<&[u8]>) -> [u8; 32] {
    let (is_order, order) = (u8::from(order.is_some()), order.unwrap_or_default());
    seal.tag("committed", &[operation.as_bytes(), &sequence.to_be_bytes(), digest, &[is_order], order])
}

/// Whether an operation's changes are part of the state.
pub(crate) fn remembered(
    connection: &Connection,
    seal: &Seal,
    operation: OperationId,
) -> Result<Option<Committed>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT operation, sequence, digest, stop_order, tag FROM committed WHERE operation = ?1",
    )?;
    let row = statement.query_row([operation.as_bytes()], CommittedRow::read).optional()?;
    row.map(|row| row.authentic(seal)).transpose().map(|row| row.map(|(_, committed, _)| committed))
}

/// The stop orders that were committed after a sequence, in order.
pub(crate) fn orders_since(
    connection: &Connection,
    seal: &Seal,
    sequence: u64,
) -> Result<Vec<OpenIntent>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT operation, sequence, digest, stop_order, tag FROM committed
         WHERE sequence > ?1 AND stop_order IS NOT NULL ORDER BY sequence",
    )?;
    let rows = statement.query_map([stored(sequence)?], CommittedRow::read)?;
    let mut orders = Vec::new();
    for row in rows {
        let (operation, _, order) = row?.authentic(seal)?;
        orders.extend(order.map(|bytes| body::open_stop_order(operation, &bytes)).transpose()?);
    }
    Ok(orders)
}

/// Authenticates every remembered commit anew, under another key.
pub(crate) fn retag(connection: &Connection, from: &Seal, to: &Seal) -> Result<(), Fault> {
    let mut statement =
        connection.prepare("SELECT operation, sequence, digest, stop_order, tag FROM committed")?;
    let rows = statement.query_map([], CommittedRow::read)?.collect::<Result<Vec<_>, _>>()?;
    for row in rows {
        let (operation, Committed { sequence, digest }, order) = row.authentic(from)?;
        let tag = tag(to, operation, sequence, &digest, order.as_deref());
        connection
            .prepare_cached("UPDATE committed SET tag = ?2 WHERE sequence = ?1")?
            .execute(params![stored(sequence)?, tag])?;
    }
    Ok(())
}

/// A row of `committed`, believed once it is authentic.
struct CommittedRow {
    operation: Vec<u8>,
    sequence: i64,
    digest: Vec<u8>,
    order: Option<Vec<u8>>,
    tag: Vec<u8>,
}

impl CommittedRow {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            operation: row.get(0)?,
            sequence: row.get(1)?,
            digest: row.get(2)?,
            order: row.get(3)?,
            tag: row.get(4)?,
        })
    }

    fn authentic(self, seal: &Seal) -> Result<(OperationId, Committed, Option<Vec<u8>>), Fault> {
        let fields = || {
            let operation = OperationId::from_bytes(self.operation.as_slice().try_into().ok()?);
            let sequence = u64::try_from(self.sequence).ok()?;
            Some((operation, Committed { sequence, digest: self.digest.as_slice().try_into().ok()? }))
        };
        let authentic = fields().filter(|(operation, Committed { sequence, digest })| {
            same_tag(&self.tag, &tag(seal, *operation, *sequence, digest, self.order.as_deref()))
        });
        match authentic {
            Some((operation, committed)) => Ok((operation, committed, self.order)),
            None => Err(Fault::damaged(
                "committed",
                format!("commit {}", self.sequence),
                "the tag does not fit the row: it was changed outside of the gateway",
            )),
        }
    }
}

/// A number as SQLite stores it.
pub(crate) fn stored(number: u64) -> Result<i64, Fault> {
    i64::try_from(number).map_err(|_| defect("a number is beyond what can be stored"))
}
