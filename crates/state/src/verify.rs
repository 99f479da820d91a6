//! Reads everything and compares it with what the ledgers say: for `doctor --deep` and the background scrub.

use crate::budget;
use crate::fault::Fault;
use crate::record::{self, Kind, Row};
use crate::seal::{RowSet, Seal};
use crate::store::EmbeddedState;
use crate::{apply, body, writer};
use holdfast_core::port::World;
use holdfast_core::{Error, OperationId, Stage};
use rusqlite::{Connection, TransactionBehavior};

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Records read.
    pub done: u64,
    /// Records there are.
    pub total: u64,
}

/// What a verification has read and found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Records.
    pub records: u64,
    /// Counts of invocations.
    pub budgets: u64,
    /// Operations remembered as committed.
    pub committed: u64,
}

/// Records between two reports of progress.
const STEP: u64 = 1_000;

impl<W: World> EmbeddedState<W> {
    /// Reads every row of one moment's state on a connection of its own, checks each tag and body, and compares all of them with the
    /// digest: a row that is missing, or an older one that was put back, shows here. Blocks the calling thread for as long as that takes
    /// (minutes for a million keys); work goes on meanwhile.
    ///
    /// # Errors
    /// `state-unavailable`, whose source names the first row or table that is wrong.
    pub fn verify_all(&self, mut progress: impl FnMut(Progress)) -> Result<Verified, Error> {
        self.try_verify(&mut progress).map_err(|fault| fault.at(Stage::Perform))
    }

    fn try_verify(&self, progress: &mut impl FnMut(Progress)) -> Result<Verified, Fault> {
        let seal = &self.shared.seal;
        let mut connection = self.file().reader()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let standing = writer::load(&transaction, seal)?;
        let records = all_records(&transaction, seal, progress)?;
        if records != standing.records.set {
            let (found, expected) = (records.rows, standing.records.set.rows);
            let why = format!(
                "its {found} rows are not the {expected} that were committed: some are missing, added or older"
            );
            return Err(Fault::damaged(record::TABLE, "all", why));
        }
        let mut budgets = RowSet::default();
        budget::every(&transaction, seal, |tag| budgets.add(seal.element(&tag)))?;
        if budgets != standing.budgets.set {
            return Err(Fault::damaged("budget", "all", "its rows are not those that were reserved"));
        }
        let committed = all_committed(&transaction, seal)?;
        engine_check(&transaction)?;
        transaction.finish()?;
        Ok(Verified { records: records.rows, budgets: budgets.rows, committed })
    }
}

fn all_records(
    connection: &Connection,
    seal: &Seal,
    progress: &mut impl FnMut(Progress),
) -> Result<RowSet, Fault> {
    let total = record::count(connection)?;
    let mut set = RowSet::default();
    progress(Progress { done: 0, total });
    record::every(connection, seal, |row, tag| {
        decode(row)?;
        set.add(seal.element(&tag));
        if set.rows.is_multiple_of(STEP) {
            progress(Progress { done: set.rows, total });
        }
        Ok(())
    })?;
    progress(Progress { done: set.rows, total });
    Ok(set)
}

fn decode(row: &Row<'_>) -> Result<(), Fault> {
    match row.kind {
        Kind::Tenant => body::tenant(row).map(drop),
        Kind::Caller => body::caller(row).map(drop),
        Kind::Anchor => body::anchor(row).map(drop),
        Kind::Policy => body::policy(row).map(drop),
        Kind::Key => body::key(row).map(drop),
        Kind::Version => body::version(row).map(drop),
    }
}

fn all_committed(connection: &Connection, seal: &Seal) -> Result<u64, Fault> {
    let mut statement = connection.prepare("SELECT operation FROM committed")?;
    let mut rows = statement.query([])?;
    let mut count = 0u64;
    while let Some(row) = rows.next()? {
        let operation: Vec<u8> = row.get(0)?;
        let operation = operation.as_slice().try_into().map(OperationId::from_bytes);
        let operation =
            operation.map_err(|_| Fault::damaged("committed", "unknown", "its operation is none"))?;
        apply::remembered(connection, seal, operation)?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// What the engine knows of its own file: pages, indexes against tables.
fn engine_check(connection: &Connection) -> Result<(), Fault> {
    let finding: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if finding == "ok" { Ok(()) } else { Err(Fault::damaged("database", "file", finding)) }
}
