//! The one thread that writes. What waits in its queue shares a transaction, and so one sync; each commit within it stands or falls alone.
//!
//! **Invariant:** caches, counts and the position change after the transaction is durable and before anybody is answered.

use crate::apply::{self, Effects};
use crate::budget::{self, Cell, Reservation};
use crate::database::{BUSY, DatabaseFile};
use crate::fault::Fault;
use crate::ledger::{BUDGETS, Ledger, RECORDS};
use crate::seal::Seal;
use crate::store::Shared;
use holdfast_core::pipeline::OpenIntent;
use holdfast_core::port::{Committed, StateChange};
use holdfast_core::{KeyId, KeyVersion, OperationId};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Jobs that share a transaction at most.
const BATCH: usize = 64;
/// Bytes that a probe writes: enough to make a full disk say so.
const PROBE_LEN: i32 = 32 * 1024;

/// What the writer is asked for.
pub(crate) enum Job {
    /// Changes of one operation.
    Commit {
        operation: OperationId,
        order: Option<OpenIntent>,
        changes: Vec<StateChange>,
        answer: oneshot::Sender<Result<Committed, Fault>>,
    },
    /// Invocations of a key version. The cell is granted them whether or not anybody waits for the answer.
    Reserve {
        key: KeyId,
        version: KeyVersion,
        invocations: u64,
        cell: Arc<Cell>,
        answer: Option<oneshot::Sender<Result<(), Fault>>>,
    },
    /// To find out whether writing works.
    Probe,
    /// To overwrite what was replaced; whether that could be done.
    Forget { answer: oneshot::Sender<Result<bool, Fault>> },
    /// To do something to the connection.
    #[cfg(test)]
    Meddle(Box<dyn FnOnce(&Connection) + Send>, oneshot::Sender<()>),
}

/// What a job did, not yet durable.
enum Done {
    Commit(Effects, Committed),
    Reserve(Reservation),
    Nothing,
}

/// Where both ledgers stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) records: Ledger,
    pub(crate) budgets: Ledger,
}

/// The thread's means.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) file: DatabaseFile,
    pub(crate) standing: Standing,
    pub(crate) shared: Arc<Shared>,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
            let forgetting: Vec<_> = jobs.extract_if(.., |job| matches!(job, Job::Forget { .. })).collect();
            if !jobs.is_empty() {
                self.batch(&mut jobs);
            }
            jobs.clear();
            // After what came before it, and outside of any transaction.
            for job in forgetting {
                if let Job::Forget { answer } = job {
                    let _gone = answer.send(forget_replaced(&self.connection));
                }
            }
        }
    }

    fn batch(&mut self, jobs: &mut Vec<Job>) {
        match self.write(jobs) {
            Ok(outcomes) => {
                self.shared.set_trouble(None);
                self.publish(jobs, outcomes);
            }
            // One job that is too large for the disk must not take the others with it.
            Err(_) if jobs.len() > 1 => {
                for job in jobs.drain(..) {
                    self.batch(&mut vec![job]);
                }
            }
            Err(fault) => {
                self.shared.set_trouble(Some(fault.to_string()));
                // A commit whose sync failed may still come to light after a power loss; the next write that succeeds overwrites it.
                // It also tells whether the disk refuses everything or only what this job wanted of it.
                if self.probe().is_ok() && matches!(fault, Fault::Storage(_)) {
                    self.shared.set_trouble(None);
                }
                if let Some(job) = jobs.pop() {
                    answer(job, Err(fault));
                }
            }
        }
    }

    /// All jobs in one transaction. An error means that nothing was written; an inner one, that this job wrote nothing.
    fn write(&mut self, jobs: &mut [Job]) -> Result<Vec<Result<Done, Fault>>, Fault> {
        let Self { connection, file, standing, shared } = self;
        let seal = &shared.seal;
        if jobs.iter().any(|job| matches!(job, Job::Probe)) {
            probe(connection, file)?;
        }
        file.check_place()?;
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if load(&transaction, seal)? != *standing {
            return Err(Fault::Wrong {
                why: "another process has changed the state while the gateway runs".to_owned(),
                remedy: "find out who writes to the data directory, then restart the gateway; it checks its log against the state",
            });
        }
        let mut next = *standing;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            let before = next;
            let savepoint = transaction.savepoint()?;
            match perform(&savepoint, seal, &mut next, job) {
                Ok(done) => {
                    savepoint.commit()?;
                    outcomes.push(Ok(done));
                }
                Err(fault @ (Fault::Refused(_) | Fault::Damaged(_))) => {
                    savepoint.finish()?;
                    next = before;
                    outcomes.push(Err(fault));
                }
                Err(fault @ (Fault::Storage(_) | Fault::Wrong { .. })) => return Err(fault),
            }
        }
        if next.records != standing.records {
            next.records.store(&transaction, seal, RECORDS)?;
        }
        if next.budgets != standing.budgets {
            next.budgets.store(&transaction, seal, BUDGETS)?;
        }
        transaction.commit()?;
        *standing = next;
        Ok(outcomes)
    }

    fn publish(&mut self, jobs: &mut Vec<Job>, outcomes: Vec<Result<Done, Fault>>) {
        for (job, outcome) in jobs.iter().zip(&outcomes) {
            match (job, outcome) {
                (_, Ok(Done::Commit(effects, _))) => self.shared.refresh(effects),
                (Job::Reserve { cell, .. }, Ok(Done::Reserve(reservation))) => cell.grant(*reservation),
                (_, Ok(Done::Reserve(_) | Done::Nothing) | Err(_)) => {}
            }
        }
        self.shared.set_position(self.standing.records.position(&self.shared.seal));
        for (job, outcome) in jobs.drain(..).zip(outcomes) {
            answer(job, outcome);
        }
    }

    fn probe(&mut self) -> Result<(), Fault> {
        probe(&mut self.connection, &self.file)
    }
}

fn perform(
    connection: &Connection,
    seal: &Seal,
    standing: &mut Standing,
    job: &mut Job,
) -> Result<Done, Fault> {
    let Standing { records, budgets } = standing;
    match job {
        Job::Commit { operation, order, changes, answer: _ } => {
            records.sequence = records.sequence.saturating_add(1);
            let effects = apply::apply(connection, seal, &mut records.set, records.sequence, changes)?;
            let committed = records.position(seal);
            apply::remember(connection, seal, *operation, order.as_ref(), committed)?;
            Ok(Done::Commit(effects, committed))
        }
        Job::Reserve { key, version, invocations, cell, answer: _ } => {
            let of = (*key, *version);
            let reservation =
                budget::reserve(connection, seal, &mut budgets.set, of, cell.known(), *invocations)?;
            budgets.sequence = budgets.sequence.saturating_add(1);
            Ok(Done::Reserve(reservation))
        }
        Job::Probe | Job::Forget { .. } => Ok(Done::Nothing),
        #[cfg(test)]
        Job::Meddle(meddle, _) => {
            std::mem::replace(meddle, Box::new(|_| ()))(connection);
            Ok(Done::Nothing)
        }
    }
}

/// Nobody may be waiting any more: what was done stays done.
fn answer(job: Job, outcome: Result<Done, Fault>) {
    match job {
        Job::Commit { answer, .. } => {
            let committed = outcome.and_then(|done| match done {
                Done::Commit(_, committed) => Ok(committed),
                Done::Reserve(_) | Done::Nothing => Err(crate::fault::defect("another job's outcome")),
            });
            let _gone = answer.send(committed);
        }
        Job::Reserve { cell, answer, .. } => match answer {
            Some(answer) => {
                let _gone = answer.send(outcome.map(|_| ()));
            }
            None => cell.ahead_done(),
        },
        Job::Probe => {}
        Job::Forget { answer } => {
            let _gone = answer.send(outcome.map(|_| false));
        }
        #[cfg(test)]
        Job::Meddle(_, answer) => {
            let _gone = answer.send(());
        }
    }
}

/// Brings the write-ahead file into the database, which overwrites what rows have replaced, and empties it. Whoever reads just now keeps it from that,
/// and is not waited for.
fn forget_replaced(connection: &Connection) -> Result<bool, Fault> {
    connection.busy_timeout(Duration::ZERO)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY)?;
    match busy {
        Ok(busy) => Ok(busy == 0),
        Err(rusqlite::Error::SqliteFailure(failure, _)) if failure.code == ErrorCode::DatabaseBusy => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Both ledgers, as they are stored.
pub(crate) fn load(connection: &Connection, seal: &Seal) -> Result<Standing, Fault> {
    let ledger = |name| {
        Ledger::load(connection, seal, name)?
            .ok_or_else(|| Fault::damaged("ledger", name, "the row is missing"))
    };
    Ok(Standing { records: ledger(RECORDS)?, budgets: ledger(BUDGETS)? })
}

/// Writes something and removes it again.
fn probe(connection: &mut Connection, file: &DatabaseFile) -> Result<(), Fault> {
    file.check_place()?;
    let mut within = |sql: &str| -> Result<(), Fault> {
        let transaction: Transaction<'_> =
            connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(sql, [])?;
        transaction.commit()?;
        Ok(())
    };
    within(&format!("INSERT OR REPLACE INTO probe (row, body) VALUES (1, zeroblob({PROBE_LEN}))"))?;
    within("DELETE FROM probe")
}
