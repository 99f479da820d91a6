//! Proofs: what may be done because something else has been done. The only file that mints them.
//!
//! [`Permit`] comes only of an allowing decision, [`Withheld`] only of a permit's work, [`Receipt`] only of a durable record,
//! [`Intent`] only of a recorded permit, and a result leaves [`Withheld`] only with its own receipt and under no newer stop.
//! Fields are private to this file, and no type here is `Clone`. The functions that mint them call the ports themselves, so there is
//! no proof without the act. `tests/compile_fail` holds that.

use super::recover::OpenIntent;
use crate::action::Action;
use crate::caller::{Authentication, Caller};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{CallerName, KeyId, OperationId, PolicyId, TenantId};
use crate::key::KeyMaterial;
use crate::port::{
    AuditLog, Circumstances, Decide, Decision, KeyStore, Mark, Position, Priority, Question, Resource,
};
use crate::receipt::{LeafHash, SignedReceipt, Statement};
use crate::secret::Secret;
use crate::stop::{Changing, Concerned, Departing, StopEpoch, Stops};
use crate::time::Timestamp;
use crate::work::{Product, Work};
use core::marker::PhantomData;
use smallvec::SmallVec;
use std::sync::Arc;

/// Marks a permit to use a key.
#[derive(Debug)]
pub enum Use {}
/// Marks a permit to change the state.
#[derive(Debug)]
pub enum Change {}
/// Marks a permit to read records.
#[derive(Debug)]
pub enum Read {}

/// Somebody may do one thing, once: the policy said so at one stop epoch.
#[derive(Debug)]
#[must_use = "a permit that is not used should be refused and recorded"]
pub struct Permit<K> {
    operation: OperationId,
    subject: Subject,
    policies: Option<Arc<[PolicyId]>>,
    of: PhantomData<fn() -> K>,
}

/// Whom and what a proof is about, and since which stop epoch.
#[derive(Debug)]
struct Subject {
    tenant: TenantId,
    caller: CallerName,
    own: Option<CallerName>,
    keys: SmallVec<[KeyId; 2]>,
    epoch: StopEpoch,
    reach: Reach,
}

/// Which stops concern a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those of its keys, its caller and its tenant: a use, a reading, a command.
    All,
    /// None: a stop order, and what the gateway does by itself.
    None,
}

impl Subject {
    fn concerned(&self) -> Concerned<'_> {
        let Self { tenant, caller, own, keys, .. } = self;
        Concerned { tenant, caller, own: own.as_ref(), keys }
    }

    fn is_stopped(&self, stops: &Stops) -> bool {
        match self.reach {
            Reach::All => stops.stopped_since(self.epoch, self.concerned()),
            Reach::None => false,
        }
    }
}

/// What was decided, whichever way: the event names it.
#[derive(Debug)]
pub(super) struct Verdict<K> {
    /// The permit, or why there is none.
    pub(super) permit: Result<Permit<K>, Error>,
    /// The policies that decided; none for the default denial.
    pub(super) policies: Option<Arc<[PolicyId]>>,
}

/// What is asked: who, at which stop epoch, which actions on which resources. All must be allowed.
pub(super) struct Asking<'a> {
    pub(super) operation: OperationId,
    pub(super) caller: &'a Caller,
    pub(super) epoch: StopEpoch,
    pub(super) asks: &'a [(Action, Resource<'a>)],
    pub(super) circumstances: Circumstances<'a>,
    /// The time that is held while a jump of the clock waits to be confirmed: the policy must allow it then, too.
    pub(super) held: Option<Timestamp>,
}

impl<K> Permit<K> {
    /// Asks the policy, after what no policy can allow: the separation of using and administering, and standing stops.
    pub(super) fn ask<D: Decide>(
        decide: &D,
        prepared: &D::Prepared,
        stops: &Stops,
        asking: &Asking<'_>,
    ) -> Verdict<K> {
        let Asking { operation, caller, epoch, asks, circumstances, held } = asking;
        let keys = asks.iter().filter_map(|(_, resource)| match resource {
            Resource::Key(key) => Some(key.id),
            Resource::NoKey(_) | Resource::Tenant(_) => None,
        });
        let subject = Subject {
            tenant: caller.tenant.clone(),
            caller: caller.name().clone(),
            own: caller.own.as_ref().map(|own| own.name.clone()),
            keys: keys.collect(),
            epoch: *epoch,
            reach: Reach::All,
        };
        let mut policies = None;
        // Whoever recognises callers: a suspended one does nothing.
        if caller.is_suspended() || stops.is_caller_standing(caller.concerned(&[])) {
            return Verdict { permit: Err(stopped(Stage::Decide, stops)), policies };
        }
        for (action, resource) in *asks {
            if !caller.kind().may(action.group()) {
                let detail = "callers of this kind may not do that, whatever the policy says";
                return Verdict { permit: Err(denied(detail)), policies };
            }
            // Whoever it was: nobody is known to have been told anything but what is public.
            if caller.authentication == Authentication::Open && *action != Action::PublicKey {
                let detail = "nobody has shown who they are, and this is not public";
                return Verdict { permit: Err(denied(detail)), policies };
            }
            let question =
                Question { caller, action: *action, resource: *resource, circumstances: *circumstances };
            let mut decision = decide.decide(prepared, &question);
            // What time unlocks stays locked until the jump is confirmed. A stop unlocks nothing, and to confirm is the way out.
            let is_bound = !action.is_stop() && *action != Action::ConfirmClock;
            let mut is_held = false;
            if let Some(now) = held.filter(|_| is_bound && decision.allowed) {
                let circumstances = Circumstances { now, ..*circumstances };
                decision = decide.decide(prepared, &Question { circumstances, ..question });
                is_held = !decision.allowed;
            }
            let Decision { allowed, policies: deciding, failed } = decision;
            policies = merge(policies, deciding);
            if failed {
                return Verdict {
                    permit: Err(denied("a policy failed to evaluate, which denies")),
                    policies,
                };
            }
            if is_held && !failed {
                let detail = "the policy does not allow it at the time that is held until the clock's jump is confirmed";
                return Verdict { permit: Err(denied(detail)), policies };
            }
            if !allowed {
                return Verdict { permit: Err(denied("the policy does not allow it")), policies };
            }
            // A stop never stops another stop, nor the order that lifts it.
            if action.group() == crate::action::Group::Use && stops.is_standing(subject.concerned()) {
                return Verdict { permit: Err(stopped(Stage::Decide, stops)), policies };
            }
        }
        let permit = Self { operation: *operation, subject, policies: policies.clone(), of: PhantomData };
        Verdict { permit: Ok(permit), policies }
    }

    /// The operation it was given for.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// The tenant in which it was given.
    pub fn tenant(&self) -> &TenantId {
        &self.subject.tenant
    }

    /// The caller to whom it was given.
    pub fn caller(&self) -> &CallerName {
        &self.subject.caller
    }

    /// The policies that gave it.
    pub fn policies(&self) -> &[PolicyId] {
        self.policies.as_deref().unwrap_or_default()
    }
}

impl Permit<Change> {
    /// A permit of the gateway to itself: founding, recovery, automatic rotation. Nothing that a caller sends leads here.
    pub(super) fn own(
        operation: OperationId,
        tenant: TenantId,
        caller: CallerName,
        epoch: StopEpoch,
    ) -> Self {
        let subject = Subject { tenant, caller, own: None, keys: SmallVec::new(), epoch, reach: Reach::None };
        Self { operation, subject, policies: None, of: PhantomData }
    }
}

/// Two asks, one list of policies; the common case is one ask.
fn merge(before: Option<Arc<[PolicyId]>>, more: Arc<[PolicyId]>) -> Option<Arc<[PolicyId]>> {
    match before {
        None => Some(more),
        Some(before) => {
            Some(before.iter().chain(more.iter().filter(|id| !before.contains(id))).cloned().collect())
        }
    }
}

fn denied(reason: &'static str) -> Error {
    super::denied(Stage::Decide, reason)
}

fn stopped(stage: Stage, stops: &Stops) -> Error {
    if stops.is_sealed() {
        return super::sealed(stage);
    }
    Error::new(ErrorKind::Stopped, stage, "the key, the caller or the tenant was stopped by order")
}

/// A result that nobody can look at yet.
#[derive(Debug)]
#[must_use = "a withheld result must be recorded and released, or refused"]
pub struct Withheld<T> {
    value: T,
    operation: OperationId,
    subject: Subject,
}

impl Withheld<Product> {
    /// Performs one primitive operation under a permit, which it keeps. Says whether an emergency copy did it.
    pub(super) async fn perform<'w, S: KeyStore>(
        (store, now): (&S, Timestamp),
        permit: Permit<Use>,
        task: Task<'_>,
        work: impl Fn() -> Result<Work<'w>, Error> + Send + Sync,
        by_copy: &mut bool,
    ) -> Result<Self, Error> {
        let value = task.perform((store, now), &permit, work, by_copy).await?;
        Ok(Self::of(permit, value))
    }

    /// Encrypts, takes a value over the result, and decrypts that very result again: what comes out is known to open. The plaintext never leaves this
    /// function.
    pub(super) async fn checked<'w, S: KeyStore>(
        custody: (&S, Timestamp),
        permit: Permit<Use>,
        task: Task<'_>,
        work: impl Fn() -> Result<Work<'w>, Error> + Send + Sync,
        (plaintext, aad, integrity): (&Secret, &[u8], impl FnOnce(&[u8]) -> [u8; 32] + Send),
        by_copy: &mut bool,
    ) -> Result<Withheld<(Product, [u8; 32])>, Error> {
        let value = task.perform(custody, &permit, work, by_copy).await?;
        let Product::Bytes(body) = &value else { return Err(another_product()) };
        let integrity = integrity(body);
        let again = task.perform(custody, &permit, || Ok(Work::Open { body, aad }), by_copy).await;
        match again {
            Ok(Product::Secret(again)) if again == *plaintext => Ok(Withheld::of(permit, (value, integrity))),
            Ok(Product::Secret(_)) => Err(does_not_open()),
            Ok(
                Product::Bytes(_)
                | Product::DataKey { .. }
                | Product::Valid(_)
                | Product::Encapsulated { .. },
            ) => Err(another_product()),
            Err(error) if error.kind() == ErrorKind::Integrity => Err(does_not_open().because(error)),
            Err(error) => Err(error),
        }
    }

    /// Takes random bytes from the key store under a permit.
    pub(super) async fn random<S: KeyStore>(
        store: &S,
        permit: Permit<Use>,
        length: usize,
    ) -> Result<Self, Error> {
        let value = store.random(&permit, length).await?;
        Ok(Self::of(permit, value))
    }

    /// Decrypts under one version and encrypts under another; the plaintext never leaves this function.
    pub(super) async fn rewrap<'w, S: KeyStore>(
        custody: (&S, Timestamp),
        permit: Permit<Use>,
        (source, open): (Task<'_>, impl Fn() -> Result<Work<'w>, Error> + Send + Sync),
        (target, frame, aad): (Task<'_>, impl Fn() -> Vec<u8> + Send + Sync, &[u8]),
        by_copy: &mut bool,
    ) -> Result<Self, Error> {
        let plaintext = match source.perform(custody, &permit, open, by_copy).await? {
            Product::Secret(plaintext) => plaintext,
            Product::Bytes(_)
            | Product::DataKey { .. }
            | Product::Valid(_)
            | Product::Encapsulated { .. } => {
                return Err(another_product());
            }
        };
        let seal = || Ok(Work::Seal { frame: frame(), plaintext: &plaintext, aad });
        let value = target.perform(custody, &permit, seal, by_copy).await?;
        Ok(Self::of(permit, value))
    }
}

/// One key version's part in an operation.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) material: KeyMaterial<'a>,
    /// Whether it has an emergency copy.
    pub(super) copied: bool,
}

impl Task<'_> {
    /// Where the key is; where that cannot be reached, and never else, by its emergency copy if that is in force.
    async fn perform<'w, S: KeyStore>(
        self,
        (store, now): (&S, Timestamp),
        permit: &Permit<Use>,
        work: impl Fn() -> Result<Work<'w>, Error> + Send + Sync,
        by_copy: &mut bool,
    ) -> Result<Product, Error> {
        let Self { material, copied } = self;
        let unreached = match store.perform(permit, material, work()?).await {
            Err(error) if copied && error.kind() == ErrorKind::KeyStoreUnavailable => error,
            done => return done,
        };
        // Boxed: it is rare, and every other request need not carry it.
        match Box::pin(store.perform_by_copy(permit, material, work()?, now)).await {
            None => Err(unreached),
            Some(done) => {
                *by_copy = true;
                done
            }
        }
    }
}

/// The key store gave a ciphertext that is none.
fn does_not_open() -> Error {
    Error::new(ErrorKind::Internal, Stage::Perform, "what was encrypted does not open again")
        .remedy("send again; if it persists, an operator looks at the device with `holdfast pool status`")
}

/// The key store broke its contract.
pub(super) fn another_product() -> Error {
    Error::new(
        ErrorKind::Internal,
        Stage::Perform,
        "the key store returned another product than was asked for",
    )
}

impl<T> Withheld<T> {
    fn of<K>(permit: Permit<K>, value: T) -> Self {
        let Permit { operation, subject, policies: _, of: PhantomData } = permit;
        Self { value, operation, subject }
    }

    /// A record that was read under a permit.
    pub(super) fn read(permit: Permit<Read>, value: T) -> Self {
        Self::of(permit, value)
    }

    /// What a permitted use reads from the key's record alone: its public half.
    pub(super) fn inspect(permit: Permit<Use>, value: T) -> Self {
        Self::of(permit, value)
    }

    /// Shapes the result, still unseen.
    pub(super) fn shape<U>(self, shape: impl FnOnce(T) -> Result<U, Error>) -> Result<Withheld<U>, Error> {
        let Self { value, operation, subject } = self;
        Ok(Withheld { value: shape(value)?, operation, subject })
    }

    /// Lets the event's commitments be computed over the result.
    pub(super) fn commit_to<R>(&self, commit: impl FnOnce(&T) -> R) -> R {
        commit(&self.value)
    }

    /// Whether a stop has been ordered since the permit that concerns it.
    pub(super) fn is_stopped(&self, stops: &Stops) -> bool {
        self.subject.is_stopped(stops)
    }

    /// Lets the result leave: only with the receipt of its own operation, and only if no stop of its key, caller or tenant has been
    /// ordered since its permit. The departure is counted until the [`Released`] is dropped.
    ///
    /// # Errors
    /// `stopped`; `internal` for another operation's receipt.
    pub fn release(self, receipt: Receipt, stops: &Arc<Stops>) -> Result<Released<T>, Error> {
        let Receipt { operation, position, signed } = receipt;
        if operation != self.operation {
            return Err(Error::new(ErrorKind::Internal, Stage::Answer, "another operation's receipt"));
        }
        let Self { value, operation: _, subject } = self;
        let departing = depart(Some(&subject), stops)?;
        Ok(Released { value, position: Some(position), receipt: signed, departing, subject: Some(subject) })
    }
}

/// Counted first, looked at second: see `stop.rs`.
fn depart(subject: Option<&Subject>, stops: &Arc<Stops>) -> Result<Departing, Error> {
    let departing = stops.depart();
    match subject.is_some_and(|subject| subject.is_stopped(stops)) {
        true => Err(stopped(Stage::Answer, stops)),
        false => Ok(departing),
    }
}

/// A result that has been released and is leaving; keep it until the answer is encoded.
#[derive(Debug)]
pub struct Released<T> {
    /// The result.
    pub value: T,
    /// Where its record stands; `None` for a stop order that is in force and not yet durable.
    pub position: Option<Position>,
    /// The log's signed word for it, if the caller asked.
    pub receipt: Option<SignedReceipt>,
    departing: Departing,
    /// Whom and what it is about; `None` where no stop concerns it.
    subject: Option<Subject>,
}

impl<T> Released<T> {
    /// Splits the result from its departure, which the caller MUST keep until the answer is encoded.
    pub fn into_parts(self) -> (T, Option<SignedReceipt>, Departing) {
        (self.value, self.receipt, self.departing)
    }

    /// Takes out of the result what is wanted of it.
    ///
    /// # Errors
    /// Those of `of`.
    pub fn map<U>(self, of: impl FnOnce(T) -> Result<U, Error>) -> Result<Released<U>, Error> {
        let Self { value, position, receipt, departing, subject } = self;
        Ok(Released { value: of(value)?, position, receipt, departing, subject })
    }

    /// Keeps the result here for a while, since a protocol has work of its own left to do with it. No stop waits for that: nothing made of it
    /// may leave before [`Held::depart`].
    pub fn hold(self) -> (T, Held) {
        let Self { value, position: _, receipt: _, departing, subject } = self;
        (value, Held { subject, stops: Arc::clone(departing.stops()) })
    }
}

/// What was released stays here, and is not departing.
#[derive(Debug)]
#[must_use = "what is made of the result leaves by `depart` alone"]
pub struct Held {
    subject: Option<Subject>,
    stops: Arc<Stops>,
}

impl Held {
    /// Lets what was made of the result leave, which is counted from now on: keep it until the answer is encoded.
    ///
    /// # Errors
    /// `stopped`, if a stop has been ordered since the permit.
    pub fn depart(&self) -> Result<Departing, Error> {
        depart(self.subject.as_ref(), &self.stops)
    }
}

/// The record of one operation is durable.
#[derive(Debug)]
#[must_use = "a receipt is what lets a result leave"]
pub struct Receipt {
    operation: OperationId,
    position: Position,
    signed: Option<SignedReceipt>,
}

impl Receipt {
    /// The refusal that it records, with the log's signed word for that if the caller asked.
    pub(super) fn refuse(self, error: Error) -> Error {
        error.recorded(self.signed)
    }
}

/// An entry that stands in the log's order and is not yet durable.
#[derive(Debug)]
#[must_use = "an entry that nobody waits for is not known to be durable"]
pub(super) struct Recording<L: AuditLog> {
    operation: OperationId,
    ticket: L::Ticket,
    /// Where and what to sign once it is durable, if the caller asked.
    wanted: Option<Box<(L::Handle, LeafHash)>>,
}

impl<L: AuditLog> Recording<L> {
    /// Appends the entry that records `operation`.
    pub(super) fn append<R>(
        log: &L,
        handle: &L::Handle,
        operation: OperationId,
        (mark, priority): (Mark, Priority),
        wants_receipt: bool,
        write: impl FnOnce(&mut Vec<u8>, &mut [u8; 32]) -> R,
    ) -> Result<(R, Self), Error> {
        let ((value, leaf), ticket) = log.append(handle, mark, priority, |out, opening| {
            let start = out.len();
            let value = write(out, opening);
            let leaf = wants_receipt.then(|| LeafHash::of(out.get(start..).unwrap_or_default()));
            (value, leaf)
        })?;
        let wanted = leaf.map(|leaf| Box::new((handle.clone(), leaf)));
        Ok((value, Self { operation, ticket, wanted }))
    }

    /// Waits until the entry survives power loss; then the log signs for it, if that was asked for.
    pub(super) async fn durable(self, log: &L) -> Result<Receipt, Error> {
        let Self { operation, ticket, wanted } = self;
        let position = ticket.await?;
        let signed = match wanted.as_deref() {
            Some((handle, leaf)) => {
                Some(log.attest(handle, &Statement { operation, index: position.index, leaf: *leaf })?)
            }
            None => None,
        };
        Ok(Receipt { operation, position, signed })
    }
}

/// A permitted command whose intent is recorded: what the state asks for before it changes.
#[derive(Debug)]
pub struct Intent {
    permit: Permit<Change>,
    /// The stop order that it is, which the state remembers where the log cannot.
    order: Option<OpenIntent>,
}

impl Intent {
    /// After the intent has become durable.
    pub(super) fn recorded(permit: Permit<Change>, receipt: Receipt) -> Result<Self, Error> {
        if receipt.operation == permit.operation {
            Ok(Self { permit, order: None })
        } else {
            Err(Error::new(ErrorKind::Internal, Stage::Record, "another operation's receipt"))
        }
    }

    /// For a stop order, whose intent need not be durable yet: it must work on a full disk and with a failed log.
    pub(super) fn urgent(permit: Permit<Change>, order: OpenIntent) -> Result<Self, Error> {
        if order.action.is_stop() && order.operation == permit.operation {
            Ok(Self { permit, order: Some(order) })
        } else {
            Err(Error::new(ErrorKind::Internal, Stage::Record, "not a stop order"))
        }
    }

    /// For what the gateway does by itself; its permit can only be [`Permit::own`]'s.
    pub(super) fn own(permit: Permit<Change>) -> Self {
        Self { permit, order: None }
    }

    /// The operation.
    pub fn operation(&self) -> OperationId {
        self.permit.operation
    }

    /// The stop order that it is, if it is one. Its event may not be in the log.
    pub fn order(&self) -> Option<&OpenIntent> {
        self.order.as_ref()
    }

    /// The permit, for the key store.
    pub(super) fn permit(&self) -> &Permit<Change> {
        &self.permit
    }

    /// Begins to change the state, which is counted until the end of it: a stop order that this has not seen waits for it. None of its caller, its
    /// tenant, its keys, or of the caller whom it is about, may have been ordered since the permit. No stop concerns a stop order, nor what
    /// the gateway does by itself.
    ///
    /// # Errors
    /// `stopped`.
    pub(super) fn begin<'a>(
        &self,
        stops: &'a Stops,
        about: Option<&CallerName>,
    ) -> Result<Option<Changing<'a>>, Error> {
        let subject = &self.permit.subject;
        if self.order.is_some() || subject.reach == Reach::None {
            return Ok(None);
        }
        // Counted first, looked at second, as what departs.
        let changing = stops.change();
        let of = |caller| Concerned { caller, ..subject.concerned() };
        let is_stopped = |caller| stops.stopped_since(subject.epoch, of(caller));
        match is_stopped(&subject.caller) || about.is_some_and(is_stopped) {
            true => Err(stopped(Stage::Perform, stops)),
            false => Ok(Some(changing)),
        }
    }

    /// What the command did, withheld until its outcome is recorded. No stop concerns a stop order: its own would.
    pub(super) fn done<T>(self, value: T) -> Withheld<T> {
        let mut withheld = Withheld::of(self.permit, value);
        if self.order.is_some() {
            withheld.subject.reach = Reach::None;
        }
        withheld
    }

    /// What a stop order did, told although its record is not durable yet: it is in force, and that must not wait for a disk.
    pub(super) fn in_force<T>(self, value: T, stops: &Arc<Stops>) -> Result<Released<T>, Error> {
        if self.order.is_some() {
            Ok(Released { value, position: None, receipt: None, departing: stops.depart(), subject: None })
        } else {
            Err(Error::new(ErrorKind::Internal, Stage::Answer, "not a stop order"))
        }
    }
}
