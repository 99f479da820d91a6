//! Reads everything and compares it with what the ledgers say: for `holdfast doctor --deep` and the background scrub.

use crate::budget;
use crate::fault::Fault;
use crate::ledger::{BUDGETS, Ledger, RECORDS};
use crate::record::{self, Kind, Row};
use crate::seal::{RowSet, Seal};
use crate::store::EmbeddedState;
use crate::{apply, body};
use holdfast_core::port::World;
use holdfast_core::{Error, OperationId, Stage};
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// What a verification has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records.
    pub records: u64,
    /// Counts of invocations.
    pub budgets: u64,
    /// Operations remembered as committed.
    pub committed: u64,
}

/// Records that are read in one transaction: a longer one would keep the database's write-ahead file from being brought in.
const CHUNK: i64 = 1_000;
/// What a row takes besides its body, about, in bytes.
const ROW_OVERHEAD: u64 = 160;

/// Who looks on.
struct Watch<'a> {
    pace: &'a mut dyn FnMut(u64) -> bool,
    found: &'a mut dyn FnMut(Error),
    faults: u64,
}

impl Watch<'_> {
    fn wrong(&mut self, fault: Fault) {
        self.faults = self.faults.saturating_add(1);
        (self.found)(fault.at(Stage::Perform));
    }
}

/// Whoever looks on ended it.
struct Ended;

impl<W: World> EmbeddedState<W> {
    /// Reads every row, checks each tag and body, and compares all of them with the digest: a row that is missing, or an older one that
    /// was put back, shows here. Each fault is told to `found`; `pace` is told of bytes that were read, may take its time, and ends the
    /// reading with `false`. Gives what was read, or nothing if it was ended. Blocks the calling thread, on a connection of its own.
    ///
    /// The records are read in many short transactions. If something was committed meanwhile, the digest is taken once more in a single
    /// one, as fast as the disk gives; `pace` is told of that afterwards.
    pub fn examine(
        &self,
        pace: &mut dyn FnMut(u64) -> bool,
        found: &mut dyn FnMut(Error),
    ) -> Option<Verified> {
        let mut watch = Watch { pace, found, faults: 0 };
        match self.try_examine(&mut watch) {
            Ok(verified) => verified.ok(),
            Err(fault) => {
                watch.wrong(fault);
                Some(Verified::default())
            }
        }
    }

    /// The same, as fast as the disk gives and up to the first fault; `progress` is told of bytes.
    ///
    /// # Errors
    /// `state-unavailable`, whose source names the first row or table that is wrong.
    pub fn verify_all(&self, mut progress: impl FnMut(u64)) -> Result<Verified, Error> {
        let mut first = None;
        let verified = self.examine(
            &mut |bytes| {
                progress(bytes);
                true
            },
            &mut |error| {
                first.get_or_insert(error);
            },
        );
        first.map_or_else(|| Ok(verified.unwrap_or_default()), Err)
    }

    fn try_examine(&self, watch: &mut Watch<'_>) -> Result<Result<Verified, Ended>, Fault> {
        let seal = &self.shared.seal;
        let mut connection = self.file().reader()?;
        let records = match all_records(&mut connection, seal, watch)? {
            Ok(records) => records,
            Err(Ended) => return Ok(Err(Ended)),
        };
        let transaction = begin(&mut connection)?;
        let budgets = all_budgets(&transaction, seal, watch)?;
        let committed = all_committed(&transaction, seal, watch)?;
        transaction.finish()?;
        engine_check(&connection)?;
        Ok(Ok(Verified { records, budgets, committed }))
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Deferred)?)
}

fn ledger(connection: &Connection, seal: &Seal, name: &'static str) -> Result<Ledger, Fault> {
    Ledger::load(connection, seal, name)?.ok_or_else(|| Fault::damaged("ledger", name, "the row is missing"))
}

fn all_records(
    connection: &mut Connection,
    seal: &Seal,
    watch: &mut Watch<'_>,
) -> Result<Result<u64, Ended>, Fault> {
    let before = ledger(connection, seal, RECORDS)?;
    let mut read = Read::nothing();
    loop {
        let transaction = begin(connection)?;
        let bytes = read.chunk(&transaction, seal, CHUNK, &mut |fault| watch.wrong(fault))?;
        transaction.finish()?;
        if !(watch.pace)(bytes) {
            return Ok(Err(Ended));
        }
        if read.is_complete {
            break;
        }
    }
    // A damaged row has been told, and is not in the sum; those that are missing besides are still missed.
    if ledger(connection, seal, RECORDS)?.sequence == before.sequence {
        read.compare(&before, watch);
        return Ok(Ok(read.rows));
    }
    let transaction = begin(connection)?;
    let standing = ledger(&transaction, seal, RECORDS)?;
    let mut read = Read::nothing();
    // Those that are damaged have been told.
    let bytes = read.chunk(&transaction, seal, i64::MAX, &mut |_| ())?;
    transaction.finish()?;
    read.compare(&standing, watch);
    if !(watch.pace)(bytes) {
        return Ok(Err(Ended));
    }
    Ok(Ok(read.rows))
}

/// Records as far as they were read.
struct Read {
    /// The place of the last one.
    after: i64,
    /// Damaged ones too.
    rows: u64,
    sound: RowSet,
    is_complete: bool,
}

impl Read {
    fn nothing() -> Self {
        Self { after: i64::MIN, rows: 0, sound: RowSet::default(), is_complete: false }
    }

    /// Reads up to `limit` further rows; gives their bytes.
    fn chunk(
        &mut self,
        connection: &Connection,
        seal: &Seal,
        limit: i64,
        wrong: &mut dyn FnMut(Fault),
    ) -> Result<u64, Fault> {
        let mut bytes = 0_u64;
        let before = self.rows;
        let last = record::after(connection, seal, (self.after, limit), |row| {
            self.rows = self.rows.saturating_add(1);
            let tag = row.and_then(|(row, tag)| {
                let len = u64::try_from(row.body.len()).unwrap_or(0);
                bytes = bytes.saturating_add(len).saturating_add(ROW_OVERHEAD);
                decode(row).map(|()| tag)
            });
            match tag {
                Ok(tag) => self.sound.add(seal.element(&tag)),
                Err(fault) => wrong(fault),
            }
        })?;
        let read = i64::try_from(self.rows.saturating_sub(before)).unwrap_or(i64::MAX);
        self.after = last.unwrap_or(self.after);
        self.is_complete = read < limit;
        Ok(bytes)
    }

    fn compare(&self, standing: &Ledger, watch: &mut Watch<'_>) {
        let (read, expected) = (self.rows, standing.set.rows);
        let all_sound = self.sound.rows == read;
        if read != expected || (all_sound && self.sound != standing.set) {
            let why = format!(
                "its {read} rows are not the {expected} that were committed: some are missing, added or older"
            );
            watch.wrong(Fault::damaged(record::TABLE, "all", why));
        }
    }
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

fn all_budgets(connection: &Connection, seal: &Seal, watch: &mut Watch<'_>) -> Result<u64, Fault> {
    let standing = ledger(connection, seal, BUDGETS)?;
    let (mut rows, mut sound) = (0_u64, RowSet::default());
    budget::every(connection, seal, |tag| {
        rows = rows.saturating_add(1);
        match tag {
            Ok(tag) => sound.add(seal.element(&tag)),
            Err(fault) => watch.wrong(fault),
        }
    })?;
    if rows != standing.set.rows || (sound.rows == rows && sound != standing.set) {
        watch.wrong(Fault::damaged("budget", "all", "its rows are not those that were reserved"));
    }
    Ok(rows)
}

fn all_committed(connection: &Connection, seal: &Seal, watch: &mut Watch<'_>) -> Result<u64, Fault> {
    let mut statement = connection.prepare("SELECT operation FROM committed")?;
    let mut rows = statement.query([])?;
    let mut count = 0u64;
    while let Some(row) = rows.next()? {
        let operation: Vec<u8> = row.get(0)?;
        let operation = operation.as_slice().try_into().map(OperationId::from_bytes);
        let operation =
            operation.map_err(|_| Fault::damaged("committed", "unknown", "its operation is none"));
        if let Err(fault) =
            operation.and_then(|operation| apply::remembered(connection, seal, operation).map(drop))
        {
            watch.wrong(fault);
        }
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// What the engine knows of its own file: pages, indexes against tables.
fn engine_check(connection: &Connection) -> Result<(), Fault> {
    let finding: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if finding == "ok" { Ok(()) } else { Err(Fault::damaged("database", "file", finding)) }
}
