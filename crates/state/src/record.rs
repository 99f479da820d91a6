//! The one table of records: a row for each tenant, caller, trust anchor, policy version, key and key version.
//!
//! A row is found by kind and id, or by kind, tenant and name; everything else is its body (`body.rs`). What it says is covered by its tag,
//! so nothing of a row leaves this file before its tag has been compared.

use crate::fault::Fault;
use crate::seal::{RowSet, Seal, Tag, same_tag};
use holdfast_core::{CallerName, KeyId, KeyVersion, TenantId};
use rusqlite::{Connection, params};

/// What a row records. The number stands in the database and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A tenant; the id is its name.
    Tenant = 1,
    /// A caller; the id is tenant, zero byte, name.
    Caller = 2,
    /// A trust anchor; the id is tenant, zero byte, name.
    Anchor = 3,
    /// A policy version; the id is tenant, zero byte, version (8, big-endian).
    Policy = 4,
    /// A key; the id is its id. Of keys that were destroyed, only the last one of a name is found by it.
    Key = 5,
    /// A key version; the id is the key's and the number (4, big-endian).
    Version = 6,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 6] =
        [Self::Tenant, Self::Caller, Self::Anchor, Self::Policy, Self::Key, Self::Version];

    /// Its name in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Caller => "caller",
            Self::Anchor => "anchor",
            Self::Policy => "policy",
            Self::Key => "key",
            Self::Version => "version",
        }
    }

    fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(*kind as u8) == code)
    }
}

/// The table's name, in tags and messages.
pub(crate) const TABLE: &str = "record";

/// A row's columns but its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// What it records.
    pub(crate) kind: Kind,
    /// Its identity among rows of its kind.
    pub(crate) id: &'a [u8],
    /// The tenant concerned.
    pub(crate) tenant: &'a str,
    /// The name it is found by, if by any.
    pub(crate) name: Option<&'a str>,
    /// The record's epoch; 0 for records that have none.
    pub(crate) epoch: u64,
    /// The rest.
    pub(crate) body: &'a [u8],
}

impl Row<'_> {
    pub(crate) fn tag(&self, seal: &Seal) -> Tag {
        let Self { kind, id, tenant, name, epoch, body } = self;
        // An absent name is not an empty one.
        let (named, name) = match name {
            Some(name) => ([1], name.as_bytes()),
            None => ([0], &[][..]),
        };
        let epoch = epoch.to_be_bytes();
        seal.tag(TABLE, &[&[*kind as u8], id, tenant.as_bytes(), &named, name, &epoch, body])
    }

    /// A fault that names this row.
    pub(crate) fn damaged(&self, why: impl Into<String>) -> Fault {
        Fault::damaged(TABLE, place(self.kind, self.id), why)
    }
}

/// Where a row stands, for messages: its kind and its id, as text where it is one and in hexadecimal otherwise.
fn place(kind: Kind, id: &[u8]) -> String {
    let text = match kind {
        Kind::Tenant | Kind::Caller | Kind::Anchor => {
            std::str::from_utf8(id).ok().map(|id| id.replace('\0', "/"))
        }
        Kind::Policy => id.split_last_chunk::<8>().and_then(|(tenant, version)| {
            let tenant = std::str::from_utf8(tenant).ok()?.trim_end_matches('\0');
            Some(format!("{tenant}/{}", u64::from_be_bytes(*version)))
        }),
        Kind::Key => id.try_into().ok().map(|id| KeyId::from_bytes(id).to_string()),
        Kind::Version => id.split_last_chunk::<4>().and_then(|(key, number)| {
            let key = KeyId::from_bytes(key.try_into().ok()?);
            Some(format!("{key}/{}", u32::from_be_bytes(*number)))
        }),
    };
    let text = text.unwrap_or_else(|| id.iter().map(|b| format!("{b:02x}")).collect());
    format!("{} {text}", kind.name())
}

const COLUMNS: &str = "kind, id, tenant, name, epoch, body, tag";

/// Reads one row, checks its tag and hands it to `decode` together with the tag.
fn checked<T>(
    row: &rusqlite::Row<'_>,
    seal: &Seal,
    decode: impl FnOnce(&Row<'_>, Tag) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let code: i64 = row.get(0)?;
    let kind = Kind::from_code(code)
        .ok_or_else(|| Fault::damaged(TABLE, format!("kind {code}"), "there is no such kind"))?;
    let id = row.get_ref(1)?.as_blob().map_err(|_| Fault::damaged(TABLE, kind.name(), "its id is none"))?;
    let impossible = || Fault::damaged(TABLE, place(kind, id), "a column has an impossible value");
    let found = Row {
        kind,
        id,
        tenant: row.get_ref(2)?.as_str().map_err(|_| impossible())?,
        name: row.get_ref(3)?.as_str_or_null().map_err(|_| impossible())?,
        epoch: u64::try_from(row.get::<_, i64>(4)?).map_err(|_| impossible())?,
        body: row.get_ref(5)?.as_blob().map_err(|_| impossible())?,
    };
    let tag = found.tag(seal);
    let stored = row.get_ref(6)?.as_blob().map_err(|_| impossible())?;
    if same_tag(stored, &tag) {
        decode(&found, tag)
    } else {
        Err(found.damaged("the tag does not fit the row: it was changed outside of the gateway"))
    }
}

/// The row of an id.
pub(crate) fn by_id<T>(
    connection: &Connection,
    seal: &Seal,
    kind: Kind,
    id: &[u8],
    decode: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    with_tag(connection, seal, kind, id, |row, _| decode(row))
}

fn with_tag<T>(
    connection: &Connection,
    seal: &Seal,
    kind: Kind,
    id: &[u8],
    decode: impl FnOnce(&Row<'_>, Tag) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, id, tenant, name, epoch, body, tag FROM record WHERE kind = ?1 AND id = ?2",
    )?;
    let mut rows = statement.query(params![kind as u8, id])?;
    rows.next()?.map(|row| checked(row, seal, decode)).transpose()
}

/// The row that is found by a name.
pub(crate) fn by_name<T>(
    connection: &Connection,
    seal: &Seal,
    kind: Kind,
    tenant: &TenantId,
    name: &str,
    decode: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, id, tenant, name, epoch, body, tag FROM record WHERE kind = ?1 AND tenant = ?2 AND name = ?3",
    )?;
    let mut rows = statement.query(params![kind as u8, tenant.as_str(), name])?;
    rows.next()?.map(|row| checked(row, seal, |row, _| decode(row))).transpose()
}

/// The rows of a kind and tenant that have a name after `after`, in order of their names, at most `limit`.
pub(crate) fn named_after<T>(
    connection: &Connection,
    seal: &Seal,
    kind: Kind,
    tenant: &TenantId,
    after: &str,
    limit: i64,
    mut decode: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, id, tenant, name, epoch, body, tag FROM record
         WHERE kind = ?1 AND tenant = ?2 AND name > ?3 ORDER BY name LIMIT ?4",
    )?;
    let mut rows = statement.query(params![kind as u8, tenant.as_str(), after, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(checked(row, seal, |row, _| decode(row))?);
    }
    Ok(found)
}

/// Which end of a range of ids comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The lowest id.
    Ascending,
    /// The highest id.
    Descending,
}

/// The rows of a kind whose id lies between two others, both excluded, at most `limit`.
pub(crate) fn ids_between<T>(
    connection: &Connection,
    seal: &Seal,
    kind: Kind,
    (low, high): (&[u8], &[u8]),
    (order, limit): (Order, i64),
    mut decode: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(match order {
        Order::Ascending => {
            "SELECT kind, id, tenant, name, epoch, body, tag FROM record
             WHERE kind = ?1 AND id > ?2 AND id < ?3 ORDER BY id LIMIT ?4"
        }
        Order::Descending => {
            "SELECT kind, id, tenant, name, epoch, body, tag FROM record
             WHERE kind = ?1 AND id > ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4"
        }
    })?;
    let mut rows = statement.query(params![kind as u8, low, high, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(checked(row, seal, |row, _| decode(row))?);
    }
    Ok(found)
}

/// At most `limit` rows after the place `after`, in the order of their places, with their tags, or why one must not be used. Gives the
/// last one's place.
pub(crate) fn after(
    connection: &Connection,
    seal: &Seal,
    (after, limit): (i64, i64),
    mut each: impl FnMut(Result<(&Row<'_>, Tag), Fault>),
) -> Result<Option<i64>, Fault> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS}, row FROM record WHERE row > ?1 ORDER BY row LIMIT ?2"))?;
    let mut rows = statement.query(params![after, limit])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(row.get(7)?);
        let sound = checked(row, seal, |row, tag| {
            each(Ok((row, tag)));
            Ok(())
        });
        if let Err(fault) = sound {
            each(Err(fault));
        }
    }
    Ok(last)
}

/// Writes a row, over the one of the same id if there is one, and keeps `set` in step.
pub(crate) fn put(
    connection: &Connection,
    seal: &Seal,
    set: &mut RowSet,
    row: &Row<'_>,
) -> Result<(), Fault> {
    if let Some(old) = with_tag(connection, seal, row.kind, row.id, |_, tag| Ok(tag))? {
        set.remove(seal.element(&old));
    }
    let tag = row.tag(seal);
    let epoch =
        i64::try_from(row.epoch).map_err(|_| row.damaged("the epoch is beyond what can be stored"))?;
    connection
        .prepare_cached(
            "INSERT INTO record (kind, id, tenant, name, epoch, body, tag) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (kind, id) DO UPDATE SET tenant = ?3, name = ?4, epoch = ?5, body = ?6, tag = ?7",
        )?
        .execute(params![row.kind as u8, row.id, row.tenant, row.name, epoch, row.body, tag])?;
    set.add(seal.element(&tag));
    Ok(())
}

/// Removes a row, and tells whether there was one.
pub(crate) fn remove(
    connection: &Connection,
    seal: &Seal,
    set: &mut RowSet,
    kind: Kind,
    id: &[u8],
) -> Result<bool, Fault> {
    let Some(old) = with_tag(connection, seal, kind, id, |_, tag| Ok(tag))? else {
        return Ok(false);
    };
    connection
        .prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?
        .execute(params![kind as u8, id])?;
    set.remove(seal.element(&old));
    Ok(true)
}

/// The id of something that has a name within a tenant. A tenant's name has no zero byte, so no two pairs share an id.
pub(crate) fn named_id(tenant: &TenantId, name: &CallerName) -> Vec<u8> {
    [tenant.as_str().as_bytes(), b"\0", name.as_str().as_bytes()].concat()
}

/// The id of a policy version.
pub(crate) fn policy_id(tenant: &TenantId, version: u64) -> Vec<u8> {
    [tenant.as_str().as_bytes(), b"\0", &version.to_be_bytes()].concat()
}

/// What all ids of a tenant's policy versions lie between.
pub(crate) fn policy_ids(tenant: &TenantId) -> (Vec<u8>, Vec<u8>) {
    let tenant = tenant.as_str().as_bytes();
    ([tenant, b"\0"].concat(), [tenant, b"\x01"].concat())
}

/// The id of a key version.
pub(crate) fn version_id(key: KeyId, number: KeyVersion) -> [u8; 20] {
    let mut id = [0; 20];
    let (head, tail) = id.split_at_mut(16);
    head.copy_from_slice(key.as_bytes());
    tail.copy_from_slice(&number.get().to_be_bytes());
    id
}
