//! The log behind core's port.

use crate::age::Age;
use crate::checkpoint::Checkpoint;
use crate::key::{Signer, VerifierKey};
use crate::log::{AppendError, Config, Continuity, Health, Log, Priority, Recovered, WalHealth};
use crate::log_id::LogId;
use crate::merkle::Hash;
use crate::reader::LogReader;
use crate::receipt::Receipt;
use crate::refusal::Refusal;
use crate::tile::WIDTH;
use crate::wal::{Mark, OpenIntent, Position, StateMark, Ticket};
use holdfast_core::action::Action;
use holdfast_core::pipeline::{self, Intent, Recovery};
use holdfast_core::port::{self, AuditLog, Expiry};
use holdfast_core::query::AuditPath;
use holdfast_core::receipt::{LeafHash, SignedReceipt, Statement};
use holdfast_core::{Error, ErrorKind, KeyName, OperationId, Secret, Stage, TenantId, Timestamp};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use zeroize::Zeroizing;

/// What a tenant's log signs as: its origin, and the seed of its key.
pub trait Signing: Send + Sync + 'static {
    /// The origin of a tenant's log (C2SP tlog-checkpoint).
    fn origin(&self, tenant: &TenantId) -> String;

    /// The 32-byte seed of its Ed25519 key (RFC 8032 §5.1.5), always the same for the same log.
    ///
    /// # Errors
    /// When it cannot be had now.
    fn seed(&self, tenant: &TenantId) -> Result<Secret, Error>;
}

/// The gateway's audit log: one write-ahead file, one tree a tenant.
pub struct GatewayLog<S> {
    log: Log,
    signing: S,
    /// Why nobody should believe this log, once somebody knows.
    alarm: OnceLock<String>,
}

impl<S: Signing> GatewayLog<S> {
    /// Opens the log of a data directory, and tells what it found there.
    ///
    /// # Errors
    /// `audit-unavailable`, naming file and remedy, when what lies there is not what was written.
    pub fn open(config: Config, signing: S) -> Result<(Self, Recovery), Error> {
        let (log, found) = Log::open(config).map_err(refused)?;
        let recovery = recovery(&found)?;
        Ok((Self { log, signing, alarm: OnceLock::new() }, recovery))
    }

    /// What it signs as.
    pub fn signing(&self) -> &S {
        &self.signing
    }

    /// The log itself, for its files and its health.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The key that a tenant's log signs with.
    ///
    /// # Errors
    /// When its seed cannot be had now.
    pub fn verifier(&self, tenant: &TenantId) -> Result<VerifierKey, Error> {
        verifier(&self.signing, tenant)
    }

    /// Refuses a tenant's log that was made before and of which nothing is left: [`AuditLog::open`] would make another one under the same key. Works
    /// before it is opened. Reads the disk.
    ///
    /// # Errors
    /// `audit-unavailable`, naming the directory and the remedy; and when its checkpoint cannot be read.
    pub fn must_be_begun(&self, tenant: &TenantId) -> Result<(), Error> {
        self.log.must_be_begun(&log_id(tenant)?).map_err(refused)
    }

    /// How a tenant's log stands to a checkpoint of it that was kept elsewhere; also before it is opened. Reads the disk.
    ///
    /// # Errors
    /// `audit-unavailable`, naming file and remedy, when the log's files are not what they should be.
    pub fn continuity(&self, tenant: &TenantId, known: &Checkpoint) -> Result<Continuity, Error> {
        self.log.continuity(&log_id(tenant)?, known).map_err(refused)
    }

    /// The index that a tenant's next entry gets: no checkpoint of this log covers more.
    ///
    /// # Errors
    /// `audit-unavailable` when the log's files cannot be read.
    pub fn reach(&self, tenant: &TenantId) -> Result<u64, Error> {
        self.log.reach(&log_id(tenant)?).map_err(refused)
    }

    /// Tells everybody who asks for its health that this log contradicts what is known elsewhere, until the next start.
    /// The first reason stays.
    pub fn raise_alarm(&self, reason: String) {
        let _first_stays = self.alarm.set(reason);
    }

    /// The alarm, if one was raised.
    pub fn alarm(&self) -> Option<&str> {
        self.alarm.get().map(String::as_str)
    }

    /// Waits until all that was appended to a tenant's log stands under a published checkpoint. Blocks.
    ///
    /// # Errors
    /// `audit-unavailable` when the tree does not grow.
    pub fn flush(&self, tenant: &TenantId) -> Result<(), Error> {
        self.log
            .flush_tree(&log_id(tenant)?)
            .map_err(|error| unavailable("the log's tree does not grow", error))
    }

    /// The same for every tenant's log.
    ///
    /// # Errors
    /// `audit-unavailable` when one of the trees does not grow.
    pub fn flush_all(&self) -> Result<(), Error> {
        self.log.flush_trees().map_err(|error| unavailable("a log's tree does not grow", error))
    }
}

impl<S: Signing> AuditLog for GatewayLog<S> {
    type Handle = OpenLog;
    type Ticket = Recorded;

    fn open(&self, tenant: &TenantId) -> Result<OpenLog, Error> {
        let id = log_id(tenant)?;
        let signer = Arc::new(signer(&self.signing, tenant)?);
        let _found = self.log.register(&id, Arc::clone(&signer)).map_err(refused)?;
        Ok(OpenLog { id, signer })
    }

    fn append<R>(
        &self,
        log: &OpenLog,
        mark: port::Mark,
        priority: port::Priority,
        write: impl FnOnce(&mut Vec<u8>, &mut [u8; 32]) -> R,
    ) -> Result<(R, Recorded), Error> {
        let mark = match mark {
            port::Mark::Plain => Mark::Plain,
            port::Mark::Intent(operation) => Mark::Intent(*operation.as_bytes()),
            port::Mark::Outcome(operation, committed) => Mark::Outcome {
                op: *operation.as_bytes(),
                state: committed
                    .map(|port::Committed { sequence, digest }| StateMark { seq: sequence, digest }),
            },
        };
        let priority = match priority {
            port::Priority::Ordinary => Priority::Ordinary,
            port::Priority::Stop => Priority::Stop,
        };
        let append = self.log.append(&log.id, priority, mark, |entry| {
            let (bytes, opening) = entry.parts();
            write(bytes, opening)
        });
        match append {
            Ok((value, ticket)) => Ok((value, Recorded { ticket })),
            Err(error) => Err(not_appended(error)),
        }
    }

    fn is_empty(&self, log: &OpenLog) -> bool {
        self.log.is_empty(&log.id)
    }

    fn attest(&self, log: &OpenLog, statement: &Statement) -> Result<SignedReceipt, Error> {
        let Statement { operation, index, leaf: LeafHash(leaf) } = *statement;
        let origin = log.signer.verifier().name().to_owned();
        let receipt = Receipt { origin, operation: operation.to_string(), index, leaf: Hash(leaf) };
        let signed = receipt.sign(&log.signer);
        signed
            .map(|note| SignedReceipt::new(note.to_string()))
            .map_err(|error| unavailable("the log's receipt cannot be signed", error))
    }

    async fn read(&self, log: &OpenLog, file: &AuditPath) -> Result<Vec<u8>, Error> {
        let published = self.log.published(&log.id);
        let path = file.as_str().to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let read = published.read(&path)?;
            let pruned = if read.is_none() { published.pruned(&path) } else { None };
            Ok::<_, Refusal>((read, pruned))
        });
        match read.await.map_err(|error| unreadable(error.into()))? {
            Ok((Some(bytes), _)) => Ok(bytes),
            Ok((None, Some(first))) => {
                let detail = format!(
                    "these entries were pruned under the log's retention; those from {first} on are kept"
                );
                Err(Error::new(ErrorKind::NotFound, Stage::Perform, detail)
                    .remedy("read them from a mirror that was made before; hashes and proofs are still here"))
            }
            Ok((None, None)) => {
                Err(Error::new(ErrorKind::NotFound, Stage::Perform, "the log has no such file")
                    .remedy("read `checkpoint` first: it says how large the tree is"))
            }
            Err(refusal) => Err(unreadable(refusal.into())),
        }
    }

    async fn prunable(&self, log: &OpenLog, expiry: Expiry) -> Result<Option<u64>, Error> {
        let Expiry { retention, now, needed } = expiry;
        let pruner = self.log.pruner(&log.id, Arc::clone(&log.signer));
        let age = Age { retention: retention.micros(), now: now.micros() };
        let found = tokio::task::spawn_blocking(move || {
            let first = pruner.first()?;
            let keep = pruner.keep_from(age, &written_at)?;
            let keep = keep.map(|keep| needed.map_or(keep, |needed| keep.min(needed / WIDTH * WIDTH)));
            Ok::<_, Refusal>(keep.filter(|keep| *keep > first))
        });
        found.await.map_err(|error| unreadable(error.into()))?.map_err(|refusal| unreadable(refusal.into()))
    }

    async fn prune(&self, intent: &Intent, log: &OpenLog, keep: u64) -> Result<(), Error> {
        let pruner = self.log.pruner(&log.id, Arc::clone(&log.signer));
        let operation = intent.operation().to_string();
        let pruned = tokio::task::spawn_blocking(move || pruner.prune(&operation, keep));
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::AuditUnavailable, Stage::Perform, "the log could not be pruned")
                .because(error)
        };
        pruned.await.map_err(|error| failed(error.into()))?.map_err(|refusal| failed(refusal.into()))
    }

    fn health(&self) -> port::Health {
        if let Some(alarm) = self.alarm.get() {
            return port::Health::Unready(alarm.clone());
        }
        let Health { wal, .. } = self.log.health();
        match wal {
            WalHealth::Writing => port::Health::Ready,
            WalHealth::Full(why) => port::Health::Unready(format!("the audit log's disk is full: {why}")),
            WalHealth::Failed(failure) => port::Health::Unready(failure.to_string()),
        }
    }
}

/// One tenant's log, opened: its name, and what signs for it.
#[derive(Clone)]
pub struct OpenLog {
    id: LogId,
    signer: Arc<Signer>,
}

/// A promise that an entry becomes durable.
#[derive(Debug)]
pub struct Recorded {
    ticket: Ticket,
}

impl Future for Recorded {
    type Output = Result<port::Position, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.ticket).poll(context).map(|result| match result {
            Ok(Position { index, batch: _, ordinal: _ }) => Ok(port::Position { index }),
            Err(error) => Err(unavailable("the record could not be made durable", error)),
        })
    }
}

/// When an entry was written, in microseconds since 1970, as its event says.
fn written_at(entry: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Timed<'a> {
        #[serde(borrow)]
        time: std::borrow::Cow<'a, str>,
    }
    let Timed { time } = serde_json::from_slice(entry).ok()?;
    Timestamp::parse(&time).map(Timestamp::micros)
}

/// What signs a tenant's log.
fn signer(signing: &impl Signing, tenant: &TenantId) -> Result<Signer, Error> {
    let secret = signing.seed(tenant)?;
    let mut seed = Zeroizing::new([0; 32]);
    if secret.len() != seed.len() {
        return Err(Error::new(ErrorKind::Internal, Stage::Start, "the seed of a log's key is not 32 bytes"));
    }
    seed.copy_from_slice(secret.expose());
    Signer::from_seed(&signing.origin(tenant), &seed)
        .map_err(|error| unavailable("the log's key is refused", error))
}

/// What verifies a tenant's log.
///
/// # Errors
/// When the log's key cannot be had.
pub fn verifier(signing: &impl Signing, tenant: &TenantId) -> Result<VerifierKey, Error> {
    Ok(signer(signing, tenant)?.verifier().clone())
}

/// What recovery needs of what the write-ahead file holds.
///
/// # Errors
/// `audit-unavailable`, when the record of an interrupted command cannot be read.
pub fn recovery(found: &Recovered) -> Result<Recovery, Error> {
    let committed = found.state.map(|StateMark { seq, digest }| port::Committed { sequence: seq, digest });
    let intents = found.open_intents.iter().map(open_intent).collect::<Result<_, _>>()?;
    Ok(Recovery { committed, intents, cut_bytes: found.cut_bytes })
}

fn log_id(tenant: &TenantId) -> Result<LogId, Error> {
    tenant.as_str().parse().map_err(|error| unavailable("the tenant's name is no log's name", error))
}

fn not_appended(error: AppendError) -> Error {
    match error {
        AppendError::Overloaded => {
            Error::new(ErrorKind::Throttled, Stage::Record, "too many records wait for the disk")
                .because(error)
        }
        AppendError::Full(_) => unavailable("the audit log's disk is full", error),
        AppendError::NotDurable(_) | AppendError::Closed => {
            unavailable("the audit log takes no records", error)
        }
        AppendError::UnknownLog(_) | AppendError::Empty | AppendError::TooLong(_) => {
            Error::new(ErrorKind::Internal, Stage::Record, "the record does not fit the log").because(error)
        }
    }
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::new(ErrorKind::AuditUnavailable, Stage::Perform, "the log cannot be read").because(error)
}

fn unavailable(detail: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::AuditUnavailable, Stage::Record, detail).because(source)
}

fn refused(refusal: Refusal) -> Error {
    let Refusal { file, offset, problem, remedy } = refusal;
    let at = offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
    let detail = format!("`{}`{at}: {problem}", file.display());
    Error::new(ErrorKind::AuditUnavailable, Stage::Start, detail).remedy(remedy)
}

/// The stop orders among a log's entries from an index on, each once, in their order: what a backup of that time may lack. Those that were
/// refused are none. Among them is each `cancel-destruction`, with the key's id as its subject. Copies of the log follow each other, each with the
/// index from which on it is read: where the one before it ends.
///
/// # Errors
/// `audit-unavailable` when an entry cannot be read.
pub fn stop_orders<'a>(
    copies: impl IntoIterator<Item = (&'a LogReader, u64)>,
    tenant: &TenantId,
) -> Result<Vec<pipeline::OpenIntent>, Error> {
    let log = log_id(tenant)?;
    let mut orders: Vec<pipeline::OpenIntent> = Vec::new();
    // The key that each order to destroy, and to take that back, is for: another one can have had its name.
    let mut keys: HashMap<OperationId, Box<str>> = HashMap::new();
    let entries = copies.into_iter().flat_map(|(reader, from)| {
        reader.entries(from).scan(from, |next, entry| Some((std::mem::replace(next, *next + 1), entry)))
    });
    for (expected, entry) in entries {
        let (index, entry) = entry.map_err(refused)?;
        if index != expected {
            let detail = format!(
                "entries {expected} to {} of the log were pruned: stop orders may be among them",
                index - 1
            );
            return Err(Error::new(ErrorKind::AuditUnavailable, Stage::Start, detail)
                .remedy("give a mirror that holds them, or a younger backup"));
        }
        let event: serde_json::Value = serde_json::from_slice(&entry).map_err(|_| unreadable_event())?;
        let text = |name: &str| event.get(name).and_then(serde_json::Value::as_str);
        let Some(operation) = text("operation").and_then(|id| id.parse::<OperationId>().ok()) else {
            return Err(unreadable_event());
        };
        let action = text("action").and_then(Action::from_name);
        if let (Some(Action::DestroyKey | Action::CancelDestruction), Some(id)) = (action, key_id(&event)) {
            keys.entry(operation).or_insert(id);
        }
        if action == Some(Action::CancelDestruction) && text("outcome") == Some("success") {
            // Given again, it would be carried out by itself in the end; what can be taken back is not that.
            let named = event.pointer("/key/name").and_then(serde_json::Value::as_str);
            // What says that it was done need not say of which key, where a crash came between.
            let id = keys.get(&operation).cloned();
            let is_of_it = |order: &pipeline::OpenIntent| {
                order.action == Action::DestroyKey
                    && order.key.as_ref().map(KeyName::as_str) == named
                    // Where one of them does not say, it may be this one, and what is suspended is lost to nobody.
                    && (id.is_none() || keys.get(&order.operation).is_none_or(|of| Some(of) == id.as_ref()))
            };
            for order in orders.iter_mut().filter(|order| is_of_it(order)) {
                (order.action, order.subject) = (Action::SuspendKey, None);
            }
            // The backup may hold an order of this very key.
            if id.is_some() {
                let op = *operation.as_bytes();
                let cancelled = open_intent(&OpenIntent { log: log.clone(), op, index, entry })?;
                orders.push(pipeline::OpenIntent { subject: id, ..cancelled });
            }
            continue;
        }
        // A seal has stopped a process that is gone.
        if !action.is_some_and(|action| action.is_stop() && action != Action::Seal) {
            continue;
        }
        let earlier = orders.iter().position(|order| order.operation == operation);
        match (text("outcome"), earlier) {
            (Some("refused"), Some(at)) => drop(orders.remove(at)),
            (Some("refused"), None) | (_, Some(_)) => {}
            (_, None) => {
                let op = *operation.as_bytes();
                orders.push(open_intent(&OpenIntent { log: log.clone(), op, index, entry })?);
            }
        }
    }
    Ok(orders)
}

/// Of the key that an event is about.
fn key_id(event: &serde_json::Value) -> Option<Box<str>> {
    event.pointer("/key/id").and_then(serde_json::Value::as_str).map(Box::from)
}

fn unreadable_event() -> Error {
    Error::new(ErrorKind::AuditUnavailable, Stage::Start, "a record of the log cannot be read")
        .remedy("use the build that wrote it, or a newer one")
}

/// Reads what recovery needs back from the event of an intent; its grammar is `docs/events.md`.
fn open_intent(open: &OpenIntent) -> Result<pipeline::OpenIntent, Error> {
    let unreadable = || {
        Error::new(
            ErrorKind::AuditUnavailable,
            Stage::Start,
            "the record of an interrupted command cannot be read",
        )
        .remedy("run the build that wrote it, or a newer one")
    };
    let event: serde_json::Value = serde_json::from_slice(&open.entry).map_err(|_| unreadable())?;
    fn text(value: Option<&serde_json::Value>) -> Option<&str> {
        value.and_then(serde_json::Value::as_str)
    }
    let action = text(event.get("action")).and_then(Action::from_name).ok_or_else(unreadable)?;
    let key = match text(event.get("key").and_then(|key| key.get("name"))) {
        Some(name) => Some(name.parse().map_err(|_| unreadable())?),
        None => None,
    };
    Ok(pipeline::OpenIntent {
        operation: OperationId::from_bytes(open.op),
        tenant: open.log.as_str().parse().map_err(|_| unreadable())?,
        action,
        key,
        subject: text(event.get("subject")).map(Box::from),
    })
}
