//! The audit log in memory: entries in order, tickets that resolve when a test says so.

use super::lock;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use holdfast_core::action::Action;
use holdfast_core::pipeline::{Intent, OpenIntent, Recovery};
use holdfast_core::port::{AuditLog, Expiry, Health, Mark, Position, Priority};
use holdfast_core::query::AuditPath;
use holdfast_core::receipt::{SignedReceipt, Statement};
use holdfast_core::{Error, ErrorKind, OperationId, Stage, TenantId, Timestamp};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// What has become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not known to be durable yet.
    Waiting,
    /// It survives.
    Durable,
    /// It was not written.
    Lost,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// In whose log it stands.
    pub tenant: TenantId,
    /// What it opens or closes.
    pub mark: Mark,
    /// What it drew on.
    pub priority: Priority,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The opening key of its commitments.
    pub opening: [u8; 32],
    /// What has become of it.
    pub fate: Fate,
    ticket: JournalTicket,
}

impl Entry {
    /// Its event.
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("an entry is one JSON object")
    }

    /// The operation that it is about.
    pub fn operation(&self) -> OperationId {
        // Every event begins with `{"v":1,"operation":"…`: looked up often, so not by parsing all of it.
        let id = self.bytes.get(20..46).and_then(|id| core::str::from_utf8(id).ok());
        id.and_then(|id| id.parse().ok()).expect("an operation's id")
    }

    /// A field of its event, empty if it is not there; `a.b` looks into `a`.
    pub fn text(&self, path: &str) -> String {
        let event = self.event();
        let found = path.split('.').try_fold(&event, |value, name| value.get(name));
        found.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default()
    }

    /// `action outcome`, or `action refused reason`.
    pub fn summary(&self) -> String {
        let (action, outcome) = (self.text("action"), self.text("outcome"));
        match &*outcome {
            "refused" => format!("{action} refused {}", self.text("reason")),
            _ => format!("{action} {outcome}"),
        }
    }
}

/// An audit log in memory.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    /// Whether tickets wait for the test instead of resolving at once.
    held: bool,
    full: bool,
    broken: bool,
    faults: VecDeque<ErrorKind>,
    /// How many receipts were signed.
    attested: usize,
    /// What may go of each log, as the test says.
    prunable: HashMap<TenantId, u64>,
    /// The time by which that was last asked.
    judged_at: Option<Timestamp>,
    /// What is gone, each time.
    pruned: Vec<(TenantId, u64)>,
    /// Which logs were opened, each time.
    opened: Vec<TenantId>,
    /// How often pruning is to fail.
    prune_faults: usize,
}

/// A promise that an entry becomes durable.
#[derive(Debug, Clone)]
pub struct JournalTicket(Arc<Mutex<Slot>>);

#[derive(Debug)]
struct Slot {
    result: Option<Result<Position, ErrorKind>>,
    waker: Option<Waker>,
}

impl JournalTicket {
    fn resolve(&self, result: Result<Position, ErrorKind>) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.result = Some(result);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for JournalTicket {
    type Output = Result<Position, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.0);
        match slot.result {
            Some(Ok(position)) => Poll::Ready(Ok(position)),
            Some(Err(kind)) => {
                Poll::Ready(Err(Error::new(kind, Stage::Record, "the record could not be made durable")))
            }
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Journal {
    /// From now on tickets wait for [`Journal::resolve`], [`Journal::fail`] or [`Journal::release`].
    pub fn hold(&self) {
        lock(&self.0).held = true;
    }

    /// Makes everything durable that waits, and everything that comes.
    pub fn release(&self) {
        lock(&self.0).held = false;
        self.sync();
    }

    /// Makes everything durable that waits.
    pub fn sync(&self) {
        self.waiting().into_iter().for_each(|index| self.resolve(index));
    }

    /// The entries that wait, by their place in [`Journal::entries`].
    pub fn waiting(&self) -> Vec<usize> {
        let inner = lock(&self.0);
        let waits = |(index, entry): (usize, &Entry)| (entry.fate == Fate::Waiting).then_some(index);
        inner.entries.iter().enumerate().filter_map(waits).collect()
    }

    /// Makes one entry durable.
    pub fn resolve(&self, index: usize) {
        self.settle(index, Fate::Durable);
    }

    /// Loses one entry: its ticket fails.
    pub fn fail(&self, index: usize) {
        self.settle(index, Fate::Lost);
    }

    fn settle(&self, index: usize, fate: Fate) {
        let (ticket, result) = {
            let mut inner = lock(&self.0);
            let before =
                inner.entries[..index].iter().filter(|entry| entry.tenant == inner.entries[index].tenant);
            let position = Position { index: u64::try_from(before.count()).unwrap() };
            inner.entries[index].fate = fate;
            let result = if fate == Fate::Durable { Ok(position) } else { Err(ErrorKind::AuditUnavailable) };
            (inner.entries[index].ticket.clone(), result)
        };
        ticket.resolve(result);
    }

    /// Whether the disk is full: then only stop orders are taken.
    pub fn set_full(&self, full: bool) {
        lock(&self.0).full = full;
    }

    /// Whether the log has failed: then nothing is taken.
    pub fn set_broken(&self, broken: bool) {
        lock(&self.0).broken = broken;
    }

    /// Lets one of the next appends of ordinary entries fail; faults are used up in order.
    pub fn fault(&self, kind: ErrorKind) {
        lock(&self.0).faults.push_back(kind);
    }

    /// Forgets every fault.
    pub fn heal(&self) {
        let mut inner = lock(&self.0);
        inner.full = false;
        inner.broken = false;
        inner.faults.clear();
    }

    /// How many receipts were signed.
    pub fn attested(&self) -> usize {
        lock(&self.0).attested
    }

    /// All entries, in order.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.0).entries.clone()
    }

    /// The entries of one tenant.
    pub fn of(&self, tenant: &str) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| entry.tenant.as_str() == tenant).collect()
    }

    /// The entries of one operation.
    pub fn about(&self, operation: OperationId) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| entry.operation() == operation).collect()
    }

    /// The newest entry.
    pub fn last(&self) -> Entry {
        self.entries().pop().expect("an entry")
    }

    /// The power fails: what was not durable is gone, but for the first `lucky` entries that waited. Healthy again afterwards.
    pub fn crash(&self, lucky: usize) {
        let mut inner = lock(&self.0);
        let mut lucky = lucky;
        // What stands before a durable entry has been written with it.
        let durable =
            inner.entries.iter().rposition(|entry| entry.fate == Fate::Durable).map_or(0, |at| at + 1);
        let mut kept = 0;
        for (index, entry) in inner.entries.iter_mut().enumerate() {
            let survives = match entry.fate {
                Fate::Durable => true,
                Fate::Waiting if index < durable => true,
                Fate::Waiting if lucky > 0 => {
                    lucky -= 1;
                    true
                }
                Fate::Waiting | Fate::Lost => false,
            };
            if !survives && index >= durable {
                break;
            }
            kept = index + 1;
            if survives {
                entry.fate = Fate::Durable;
            }
        }
        inner.entries.truncate(kept);
        inner.entries.retain(|entry| entry.fate == Fate::Durable);
        let Inner {
            entries: _,
            held,
            full,
            broken,
            faults,
            attested: _,
            prunable: _,
            judged_at: _,
            pruned: _,
            opened,
            prune_faults,
        } = &mut *inner;
        opened.clear();
        *prune_faults = 0;
        (*held, *full, *broken) = (false, false, false);
        faults.clear();
    }

    /// Says from where on a log's entries are to be kept, when somebody asks.
    pub fn set_prunable(&self, log: &TenantId, keep: u64) {
        lock(&self.0).prunable.insert(log.clone(), keep);
    }

    /// Lets the next prunings fail.
    pub fn fail_prunings(&self, times: usize) {
        lock(&self.0).prune_faults = times;
    }

    /// By which time the age of entries was last judged.
    #[must_use]
    pub fn judged_at(&self) -> Option<Timestamp> {
        lock(&self.0).judged_at
    }

    /// What was pruned, in order.
    #[must_use]
    pub fn pruned(&self) -> Vec<(TenantId, u64)> {
        lock(&self.0).pruned.clone()
    }

    /// How often a tenant's log was opened.
    pub fn times_opened(&self, tenant: &str) -> usize {
        lock(&self.0).opened.iter().filter(|opened| opened.as_str() == tenant).count()
    }

    /// What opening the log again finds.
    pub fn recovery(&self) -> Recovery {
        let mut recovery = Recovery::default();
        for entry in self.entries() {
            match entry.mark {
                Mark::Plain => {}
                Mark::Intent(operation) => {
                    let key = entry.text("key.name");
                    let subject = entry.text("subject");
                    recovery.intents.push(OpenIntent {
                        operation,
                        tenant: entry.tenant.clone(),
                        action: Action::from_name(&entry.text("action")).expect("an action"),
                        key: (!key.is_empty()).then(|| key.parse().expect("a key's name")),
                        subject: (!subject.is_empty()).then(|| subject.into()),
                    });
                }
                Mark::Outcome(operation, state) => {
                    recovery.intents.retain(|open| open.operation != operation);
                    // The newest that the log has recorded: outcomes need not stand in the order of their commits.
                    let newest = recovery.committed.map_or(0, |committed| committed.sequence);
                    recovery.committed = state.filter(|state| state.sequence > newest).or(recovery.committed);
                }
            }
        }
        recovery
    }

    /// A copy of everything as it is now: a backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        let entries = self.entries();
        Self(Arc::new(Mutex::new(Inner { entries, ..Inner::default() })))
    }
}

impl AuditLog for Journal {
    type Handle = TenantId;
    type Ticket = JournalTicket;

    fn open(&self, tenant: &TenantId) -> Result<TenantId, Error> {
        lock(&self.0).opened.push(tenant.clone());
        Ok(tenant.clone())
    }

    fn append<R>(
        &self,
        log: &TenantId,
        mark: Mark,
        priority: Priority,
        write: impl FnOnce(&mut Vec<u8>, &mut [u8; 32]) -> R,
    ) -> Result<(R, JournalTicket), Error> {
        let mut inner = lock(&self.0);
        let refused = match priority {
            _ if inner.broken => Some(ErrorKind::AuditUnavailable),
            Priority::Stop => None,
            Priority::Ordinary if inner.full => Some(ErrorKind::AuditUnavailable),
            Priority::Ordinary => inner.faults.pop_front(),
        };
        if let Some(kind) = refused {
            return Err(Error::new(kind, Stage::Record, "the log was told to take nothing"));
        }
        let (mut bytes, mut opening) = (Vec::new(), [0; 32]);
        let value = write(&mut bytes, &mut opening);
        assert!(bytes.len() <= 65_535, "an entry of {} bytes", bytes.len());
        let slot = Slot { result: None, waker: None };
        let ticket = JournalTicket(Arc::new(Mutex::new(slot)));
        let tenant = log.clone();
        let fate = Fate::Waiting;
        inner.entries.push(Entry { tenant, mark, priority, bytes, opening, fate, ticket: ticket.clone() });
        let index = inner.entries.len() - 1;
        let held = inner.held;
        drop(inner);
        if !held {
            self.resolve(index);
        }
        Ok((value, ticket))
    }

    fn is_empty(&self, log: &TenantId) -> bool {
        lock(&self.0).entries.iter().all(|entry| entry.tenant != *log)
    }

    fn attest(&self, log: &TenantId, statement: &Statement) -> Result<SignedReceipt, Error> {
        lock(&self.0).attested += 1;
        Ok(SignedReceipt::new(format!("{log} {statement:?}")))
    }

    async fn read(&self, log: &TenantId, file: &AuditPath) -> Result<Vec<u8>, Error> {
        let durable = self.entries().iter().filter(|entry| entry.tenant == *log).count();
        match file.as_str() {
            "checkpoint" => Ok(format!("{durable}\n").into_bytes()),
            _ => Err(Error::new(ErrorKind::NotFound, Stage::Perform, "the log has no such file")),
        }
    }

    async fn prunable(&self, log: &TenantId, expiry: Expiry) -> Result<Option<u64>, Error> {
        let mut inner = lock(&self.0);
        inner.judged_at = Some(expiry.now);
        let gone = inner.pruned.iter().filter(|(tenant, _)| tenant == log).map(|(_, keep)| *keep).max();
        let keep = inner.prunable.get(log).copied();
        let keep = keep.map(|keep| expiry.needed.map_or(keep, |needed| keep.min(needed)));
        Ok(keep.filter(|keep| *keep > gone.unwrap_or(0)))
    }

    async fn prune(&self, intent: &Intent, log: &TenantId, keep: u64) -> Result<(), Error> {
        let operation = intent.operation();
        let is_recorded = self.entries().iter().any(|entry| {
            entry.tenant == *log && entry.mark == Mark::Intent(operation) && entry.fate == Fate::Durable
        });
        assert!(is_recorded, "nothing goes before its record is durable");
        let mut inner = lock(&self.0);
        if inner.prune_faults > 0 {
            inner.prune_faults -= 1;
            let detail = "the log was told not to prune";
            return Err(Error::new(ErrorKind::AuditUnavailable, Stage::Perform, detail));
        }
        inner.pruned.push((log.clone(), keep));
        Ok(())
    }

    fn health(&self) -> Health {
        let inner = lock(&self.0);
        if inner.full || inner.broken { Health::Unready("told so".to_owned()) } else { Health::Ready }
    }
}
