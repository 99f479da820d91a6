//! Another state key: every row is authenticated anew, and what is sealed in them is replaced, in one transaction. Before its commit the
//! state is the earlier key's, after it the later one's, wherever the power fails.

use crate::apply;
use crate::budget;
use crate::directory::DirectoryLock;
use crate::fault::Fault;
use crate::ledger::{BUDGETS, Ledger, RECORDS};
use crate::record::{self, Kind, Row};
use crate::seal::{RowSet, Seal, Tag};
use crate::store::{Opening, find, prepare};
use crate::{body, writer};
use holdfast_core::key::SealedHandle;
use holdfast_core::port::Committed;
use holdfast_core::{Error, OperationId, Secret, Stage, TenantId};
use rusqlite::{Connection, TransactionBehavior, params};

/// Rows that are held in memory at once.
const CHUNK: i64 = 1_000;

/// What becomes of the handle of a tenant's sealing key.
pub type Reseal<'a> = &'a mut dyn FnMut(&TenantId, &SealedHandle) -> Result<SealedHandle, Error>;

/// Whether the state of a locked directory stands under this key.
///
/// # Errors
/// `state-unavailable`, when there is none or it cannot be read.
pub fn is_under(lock: &DirectoryLock, key: &Secret) -> Result<bool, Error> {
    let look = || {
        let connection = find(lock, Opening::Existing)?.writer()?;
        match Ledger::load(&connection, &Seal::new(key)?, RECORDS) {
            Ok(ledger) => Ok(ledger.is_some()),
            Err(Fault::Damaged(_)) => Ok(false),
            Err(fault @ (Fault::Storage(_) | Fault::Wrong { .. } | Fault::Refused(_))) => Err(fault),
        }
    };
    look().map_err(|fault: Fault| fault.at(Stage::Start))
}

/// Takes the state of a locked directory, which nobody has open, from one key to another: the commit of this operation. Every row is read
/// and checked on the way; what is wrong with any ends it, and nothing has changed then.
///
/// # Errors
/// `state-unavailable`, and whatever `reseal` fails with.
pub fn rekey(
    lock: &DirectoryLock,
    (from, to): (&Secret, &Secret),
    operation: OperationId,
    reseal: Reseal<'_>,
) -> Result<Committed, Error> {
    try_rekey(lock, (from, to), operation, reseal).map_err(|fault| fault.at(Stage::Start))
}

fn try_rekey(
    lock: &DirectoryLock,
    (from, to): (&Secret, &Secret),
    operation: OperationId,
    reseal: Reseal<'_>,
) -> Result<Committed, Fault> {
    let keys = Keys { from: Seal::new(from)?, to: Seal::new(to)? };
    let file = find(lock, Opening::Existing)?;
    let mut connection = file.writer()?;
    prepare(&mut connection, &keys.from, Opening::Existing)?;
    file.check_place()?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let standing = writer::load(&transaction, &keys.from)?;
    let records = keys.records(&transaction, &standing.records, reseal)?;
    let budgets = keys.budgets(&transaction, &standing.budgets)?;
    apply::retag(&transaction, &keys.from, &keys.to)?;
    let records = Ledger { sequence: standing.records.sequence.saturating_add(1), set: records };
    let budgets = Ledger { sequence: standing.budgets.sequence.saturating_add(1), set: budgets };
    records.store(&transaction, &keys.to, RECORDS)?;
    budgets.store(&transaction, &keys.to, BUDGETS)?;
    let committed = records.position(&keys.to);
    apply::remember(&transaction, &keys.to, operation, None, committed)?;
    transaction.commit()?;
    Ok(committed)
}

struct Keys {
    from: Seal,
    to: Seal,
}

/// What a row is replaced by.
struct Renewed {
    kind: Kind,
    id: Vec<u8>,
    /// Of tenants alone.
    body: Option<Vec<u8>>,
    tag: Tag,
}

impl Keys {
    fn records(
        &self,
        connection: &Connection,
        standing: &Ledger,
        reseal: Reseal<'_>,
    ) -> Result<RowSet, Fault> {
        let (mut before, mut after) = (RowSet::default(), RowSet::default());
        let mut place = i64::MIN;
        loop {
            let mut chunk = Vec::new();
            let mut failed = None;
            let last = record::after(connection, &self.from, (place, CHUNK), |row| {
                let renewed = row.and_then(|(row, tag)| {
                    before.add(self.from.element(&tag));
                    self.renewed(row, reseal)
                });
                match renewed {
                    Ok(renewed) => chunk.push(renewed),
                    Err(fault) => {
                        failed.get_or_insert(fault);
                    }
                }
            })?;
            if let Some(fault) = failed {
                return Err(fault);
            }
            for row in &chunk {
                after.add(self.to.element(&row.tag));
                replace(connection, row)?;
            }
            match last {
                Some(last) => place = last,
                None => break,
            }
        }
        match before == standing.set {
            true => Ok(after),
            false => Err(Fault::damaged(
                record::TABLE,
                "all",
                "its rows are not those that were committed: some are missing, added or older",
            )),
        }
    }

    fn renewed(&self, row: &Row<'_>, reseal: Reseal<'_>) -> Result<Renewed, Fault> {
        let body = match row.kind {
            Kind::Tenant => self.resealed(row, reseal)?,
            Kind::Caller | Kind::Anchor | Kind::Policy | Kind::Key | Kind::Version => None,
        };
        let tag = Row { body: body.as_deref().unwrap_or(row.body), ..*row }.tag(&self.to);
        Ok(Renewed { kind: row.kind, id: row.id.to_vec(), body, tag })
    }

    fn resealed(&self, row: &Row<'_>, reseal: Reseal<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let mut record = body::tenant(row)?;
        let Some(handle) = record.handle.take() else { return Ok(None) };
        record.handle = Some(reseal(&record.id, &handle).map_err(Fault::Refused)?);
        body::of_tenant(&record).map(Some)
    }

    fn budgets(&self, connection: &Connection, standing: &Ledger) -> Result<RowSet, Fault> {
        let (before, after) = budget::retag(connection, &self.from, &self.to)?;
        match before == standing.set {
            true => Ok(after),
            false => Err(Fault::damaged("budget", "all", "its rows are not those that were reserved")),
        }
    }
}

fn replace(connection: &Connection, row: &Renewed) -> Result<(), Fault> {
    let Renewed { kind, id, body, tag } = row;
    connection
        .prepare_cached("UPDATE record SET tag = ?3, body = coalesce(?4, body) WHERE kind = ?1 AND id = ?2")?
        .execute(params![*kind as u8, id, tag, body])?;
    Ok(())
}
