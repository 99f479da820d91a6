//! Where a table's rows stand: how often they were changed, how many there are, and their sum. Written in the transaction that changes them.

use crate::apply::stored;
use crate::fault::Fault;
use crate::seal::{RowSet, Seal, Sum, same_tag};
use holdfast_core::port::Committed;
use rusqlite::{Connection, OptionalExtension, params};

/// The ledger of the records: what a commit's position comes from.
pub(crate) const RECORDS: &str = "record";
/// The ledger of the budgets, which change without a command.
pub(crate) const BUDGETS: &str = "budget";

/// One ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ledger {
    /// How many changes there have been.
    pub(crate) sequence: u64,
    /// The rows.
    pub(crate) set: RowSet,
}

impl Ledger {
    /// As it is stored; `None` if it is not.
    pub(crate) fn load(
        connection: &Connection,
        seal: &Seal,
        name: &'static str,
    ) -> Result<Option<Self>, Fault> {
        let mut statement =
            connection.prepare_cached("SELECT sequence, rows, sum, tag FROM ledger WHERE name = ?1")?;
        let row = statement
            .query_row([name], |row| {
                let (sum, tag) = (row.get::<_, Vec<u8>>(2)?, row.get::<_, Vec<u8>>(3)?);
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, sum, tag))
            })
            .optional()?;
        let Some((sequence, rows, sum, tag)) = row else { return Ok(None) };
        let numbers = [sequence, rows].map(i64::to_be_bytes);
        let expected = seal.tag("ledger", &[name.as_bytes(), &numbers[0], &numbers[1], &sum]);
        let ledger = || {
            let sequence = u64::try_from(sequence).ok()?;
            let masked = Sum::from_bytes(sum.as_slice().try_into().ok()?);
            let sum = masked.minus(seal.mask(name, sequence));
            Some(Self { sequence, set: RowSet { rows: u64::try_from(rows).ok()?, sum } })
        };
        ledger().filter(|_| same_tag(&tag, &expected)).map(Some).ok_or_else(|| {
            Fault::damaged("ledger", name, "the tag does not fit the row: it was changed outside, or this is another directory's state key")
        })
    }

    /// Stores it.
    pub(crate) fn store(
        &self,
        connection: &Connection,
        seal: &Seal,
        name: &'static str,
    ) -> Result<(), Fault> {
        let Self { sequence, set: RowSet { rows, sum } } = self;
        let numbers = [stored(*sequence)?, stored(*rows)?];
        let sum = sum.plus(seal.mask(name, *sequence)).to_bytes();
        let [sequence, rows] = numbers;
        let tag = seal.tag("ledger", &[name.as_bytes(), &sequence.to_be_bytes(), &rows.to_be_bytes(), &sum]);
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO ledger (name, sequence, rows, sum, tag) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![name, sequence, rows, sum, tag])?;
        Ok(())
    }

    /// What the log commits.
    pub(crate) fn position(&self, seal: &Seal) -> Committed {
        let Self { sequence, set } = self;
        Committed { sequence: *sequence, digest: seal.digest(*sequence, set) }
    }
}
