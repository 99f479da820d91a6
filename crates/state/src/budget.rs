//! How often each key version has been used, where that must be counted (NIST SP 800-38D §8.3).
//!
//! Invocations are reserved durably in blocks and counted in memory within what is reserved, so that a count costs an atomic addition. What is
//! left of a reservation when the process ends counts as used: numbers are never handed out twice, whatever happens.

use crate::apply::stored;
use crate::fault::{Fault, defect};
use crate::seal::{RowSet, Seal, Tag, same_tag};
use holdfast_core::{KeyId, KeyVersion};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Invocations reserved at once. Of 2^32, a crash wastes at most two such blocks: one in use and one fetched ahead.
pub(crate) const BLOCK: u64 = 65_536;

/// The key versions in use that are counted. One entry for each since the start: about 150 bytes.
#[derive(Default)]
pub(crate) struct Budgets {
    cells: RwLock<HashMap<(KeyId, KeyVersion), Arc<Cell>>>,
}

/// One key version's count in this process.
#[derive(Default)]
pub(crate) struct Cell {
    /// How many have been handed out, those of earlier processes included.
    used: AtomicU64,
    /// How many are reserved durably; 0 until the first reservation. Never below `used`.
    reserved: AtomicU64,
    /// Whether a reservation ahead of need is under way.
    ahead: AtomicBool,
    /// Held by the one who waits for a reservation, so that many waiters ask once.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Budgets {
    /// The count of a key version.
    pub(crate) fn cell(&self, key: KeyId, version: KeyVersion) -> Arc<Cell> {
        let known = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&(key, version)).cloned();
        known.unwrap_or_else(|| {
            let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry((key, version)).or_default())
        })
    }
}

impl Cell {
    /// Hands out the next `invocations` numbers and returns the last; `None` if that many are not reserved.
    pub(crate) fn take(&self, invocations: u64) -> Option<u64> {
        // The reservation is published after the count it starts from: see `grant`.
        let reserved = self.reserved.load(Ordering::Acquire);
        if reserved == 0 {
            return None;
        }
        let next = |used: u64| used.checked_add(invocations).filter(|total| *total <= reserved);
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        before.checked_add(invocations)
    }

    /// Whether somebody should reserve ahead now; says so to one caller at a time.
    pub(crate) fn wants_more(&self, used: u64) -> bool {
        let left = self.reserved.load(Ordering::Relaxed).saturating_sub(used);
        left < BLOCK / 2 && !self.ahead.swap(true, Ordering::Relaxed)
    }

    /// The reservation ahead of need has come to its end, well or not.
    pub(crate) fn ahead_done(&self) {
        self.ahead.store(false, Ordering::Relaxed);
    }

    /// Takes over a reservation that is durable. Called by the writer alone, in the order of its commits.
    pub(crate) fn grant(&self, reservation: Reservation) {
        let Reservation { from, to } = reservation;
        if self.reserved.load(Ordering::Relaxed) == 0 {
            self.used.store(from, Ordering::Relaxed);
        }
        self.reserved.fetch_max(to, Ordering::Release);
    }

    /// What this process knows to be reserved: the durable number must not be lower.
    pub(crate) fn known(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }
}

/// A block that is reserved: the numbers after `from`, up to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// What had been reserved before.
    pub(crate) from: u64,
    /// What is reserved now.
    pub(crate) to: u64,
}

/// Reserves `invocations` more within the writer's transaction. `known` is what this process already holds.
pub(crate) fn reserve(
    connection: &Connection,
    seal: &Seal,
    set: &mut RowSet,
    (key, version): (KeyId, KeyVersion),
    known: u64,
    invocations: u64,
) -> Result<Reservation, Fault> {
    let (from, old) = match load(connection, seal, key, version)? {
        Some((reserved, tag)) => (reserved, Some(tag)),
        None => (0, None),
    };
    if from < known {
        return Err(damaged(key, version, format!("{from} are reserved, yet {known} were before")));
    }
    let to = from.checked_add(invocations).filter(|to| stored(*to).is_ok());
    let to = to.ok_or_else(|| defect("more invocations than can be counted"))?;
    let tag = tag(seal, key, version, to);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO budget (key, version, reserved, tag) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![key.as_bytes(), version.get(), stored(to)?, tag])?;
    if let Some(old) = old {
        set.remove(seal.element(&old));
    }
    set.add(seal.element(&tag));
    Ok(Reservation { from, to })
}

fn load(
    connection: &Connection,
    seal: &Seal,
    key: KeyId,
    version: KeyVersion,
) -> Result<Option<(u64, Tag)>, Fault> {
    let row = connection
        .prepare_cached("SELECT reserved, tag FROM budget WHERE key = ?1 AND version = ?2")?
        .query_row(params![key.as_bytes(), version.get()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    row.map(|(reserved, stored)| checked(seal, key, version, reserved, &stored)).transpose()
}

fn checked(
    seal: &Seal,
    key: KeyId,
    version: KeyVersion,
    reserved: i64,
    stored: &[u8],
) -> Result<(u64, Tag), Fault> {
    let number = u64::try_from(reserved).ok();
    number
        .map(|number| (number, tag(seal, key, version, number)))
        .filter(|(_, tag)| same_tag(stored, tag))
        .ok_or_else(|| {
            damaged(
                key,
                version,
                "the tag does not fit the row: it was changed outside of the gateway".to_owned(),
            )
        })
}

/// Every row there is, with its tag, or why it must not be used.
pub(crate) fn every(
    connection: &Connection,
    seal: &Seal,
    mut each: impl FnMut(Result<Tag, Fault>),
) -> Result<(), Fault> {
    let mut statement = connection.prepare("SELECT key, version, reserved, tag FROM budget")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, version): (Vec<u8>, u32) = (row.get(0)?, row.get(1)?);
        let key = key.as_slice().try_into().map(KeyId::from_bytes);
        each(match (key, KeyVersion::new(version)) {
            (Ok(key), Some(version)) => {
                checked(seal, key, version, row.get(2)?, &row.get::<_, Vec<u8>>(3)?).map(|(_, tag)| tag)
            }
            (_, _) => Err(Fault::damaged("budget", "unknown", "its key is none")),
        });
    }
    Ok(())
}

/// Authenticates every row anew, under another key. Gives the rows as they were and as they are.
pub(crate) fn retag(connection: &Connection, from: &Seal, to: &Seal) -> Result<(RowSet, RowSet), Fault> {
    let (mut before, mut after) = (RowSet::default(), RowSet::default());
    let mut statement = connection.prepare("SELECT key, version FROM budget")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u32>(1)?)))?;
    for (key, version) in rows.collect::<Result<Vec<_>, _>>()? {
        let none = || Fault::damaged("budget", "unknown", "its key is none");
        let key = key.as_slice().try_into().map(KeyId::from_bytes).map_err(|_| none())?;
        let version = KeyVersion::new(version).ok_or_else(none)?;
        let Some((reserved, old)) = load(connection, from, key, version)? else { return Err(none()) };
        let new = tag(to, key, version, reserved);
        before.add(from.element(&old));
        after.add(to.element(&new));
        connection
            .prepare_cached("UPDATE budget SET tag = ?3 WHERE key = ?1 AND version = ?2")?
            .execute(params![key.as_bytes(), version.get(), new])?;
    }
    Ok((before, after))
}

fn tag(seal: &Seal, key: KeyId, version: KeyVersion, reserved: u64) -> Tag {
    seal.tag("budget", &[key.as_bytes(), &version.get().to_be_bytes(), &reserved.to_be_bytes()])
}

fn damaged(key: KeyId, version: KeyVersion, why: String) -> Fault {
    Fault::damaged("budget", format!("{key}/{version}"), why)
}
