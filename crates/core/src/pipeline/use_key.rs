//! Using a key: steps 3 to 8 of a request, in order.

use super::proof::{Asking, Permit, Recording, Released, Use, Withheld};
use super::record::{Done, Facts, NamedKey, Scene};
use super::{Inbound, NO_CONTEXT, Pipeline, TenantView, no_such_key, tenant_is_suspended};
use crate::action::Action;
use crate::algorithm::Purpose;
use crate::caller::Caller;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyId, KeyName, OperationId};
use crate::key::Key;
use crate::operation::{Answer, MAX_BATCH, MAX_RANDOM, Operation, Output};
use crate::peer::Proof;
use crate::port::{Circumstances, KeyEntry, Mark, Ports, Priority, Resource, State, World};
use crate::protocol::Protocol;
use crate::stop::{StopEpoch, Stops};
use crate::time::Timestamp;
use crate::work::Product;
use std::sync::Arc;

/// One use of a key, or of the key store's generator.
#[derive(Debug)]
pub enum Call {
    /// Use a key.
    Key {
        /// Which.
        key: KeyName,
        /// For what.
        operation: Operation,
    },
    /// Random bytes.
    Random {
        /// How many, up to [`MAX_RANDOM`].
        length: usize,
    },
}

impl Call {
    /// The action that the policy is asked about.
    pub fn action(&self) -> Action {
        match self {
            Self::Key { operation, .. } => operation.action(),
            Self::Random { .. } => Action::Random,
        }
    }

    /// The key that it names, if it names one.
    pub fn key(&self) -> Option<&KeyName> {
        match self {
            Self::Key { key, .. } => Some(key),
            Self::Random { .. } => None,
        }
    }
}

/// A result, or the refusal that came of it, with its record under way.
type Recorded<T, P> = (Result<Withheld<T>, Error>, Recording<<P as Ports>::Log>);

/// A caller that has been recognised, with the request that it made.
#[must_use = "use a key as this caller, or turn it away: it is in no log yet"]
pub struct Recognised<'a, P: Ports> {
    pub(super) view: Arc<TenantView<P>>,
    pub(super) caller: Caller,
    pub(super) inbound: &'a Inbound<'a>,
    /// Taken before anything was read: a stop that comes between reading a record and using it is then newer than the permit.
    pub(super) epoch: StopEpoch,
}

impl<P: Ports> Recognised<'_, P> {
    /// Who it is.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Which view of the tenant it was recognised in: another one as soon as the tenant, a caller or the policy has changed.
    pub fn generation(&self) -> u64 {
        self.view.generation
    }
}

/// A use that stands in the log's order; its result or refusal leaves once the record is durable.
#[must_use = "settle it: nothing leaves otherwise"]
pub struct Pending<P: Ports> {
    recording: Recording<P::Log>,
    result: Result<Withheld<Answer>, Error>,
}

impl<P: Ports> Pipeline<P> {
    /// Uses a key once.
    ///
    /// # Errors
    /// Whatever refused it, after that has been recorded; `unauthenticated` is counted instead, since it is nobody's.
    pub async fn use_key(&self, inbound: &Inbound<'_>, call: Call) -> Result<Released<Answer>, Error> {
        self.use_key_as(&self.recognise(inbound)?, call).await
    }

    /// Recognises who asks, for what has to be known of the caller before it is clear what is asked.
    ///
    /// # Errors
    /// `unauthenticated`, which is counted.
    pub fn recognise<'a>(&self, inbound: &'a Inbound<'a>) -> Result<Recognised<'a, P>, Error> {
        let epoch = self.stops.epoch();
        let (view, caller) = self.identify(inbound)?;
        Ok(Recognised { view, caller, inbound, epoch })
    }

    /// The same caller in the tenant as it is now, where that has changed since: what was taken away meanwhile, a certificate by a list or a right by a policy, is gone for
    /// what begins now. Stops are looked for since it was first recognised.
    ///
    /// # Errors
    /// `stopped` or `denied`, to be recorded as the caller's, if it is recognised no more.
    pub(super) fn again<'a>(
        &self,
        recognised: &Recognised<'a, P>,
    ) -> Result<Option<Box<Recognised<'a, P>>>, Error> {
        let Recognised { view, caller, inbound, epoch } = recognised;
        if !view.is_replaced() {
            return Ok(None);
        }
        match self.identify_again(inbound, caller, self.engines.world.held_now()) {
            // Boxed: it is rare, and every other request need not carry it.
            Ok((view, caller)) => Ok(Some(Box::new(Recognised { view, caller, inbound, epoch: *epoch }))),
            Err(_) if self.stops.stopped_since(*epoch, caller.concerned(&[])) => {
                Err(stopped_meanwhile(Stage::Identify, &self.stops))
            }
            Err(error) => Err(error),
        }
    }

    /// Who asked, as the tenant is now.
    ///
    /// # Errors
    /// `denied`, if that is nobody any more, or somebody else.
    pub(super) fn identify_again(
        &self,
        inbound: &Inbound<'_>,
        before: &Caller,
        held: Option<Timestamp>,
    ) -> Result<(Arc<TenantView<P>>, Caller), Error> {
        let gone = || super::denied(Stage::Identify, "the caller is not recognised any more");
        match self.try_identify(inbound, held) {
            Ok((view, now)) if now.name() == before.name() => Ok((view, now)),
            Ok(_somebody_else) => Err(gone()),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Err(gone()),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing at all stops this caller with these keys: for what is told without asking the policy.
    ///
    /// # Errors
    /// `stopped`, for a caller or a tenant that is suspended, and while an order stands that stops one of the keys.
    pub fn standing(&self, recognised: &Recognised<'_, P>, keys: &[KeyId]) -> Result<(), Error> {
        let Recognised { view, caller, .. } = recognised;
        let is_stopped = caller.is_suspended()
            || view.data.record.suspended
            || self.stops.is_standing(caller.concerned(keys));
        match is_stopped {
            true => Err(Error::new(ErrorKind::Stopped, Stage::Decide, ErrorKind::Stopped.row().title)),
            false => Ok(()),
        }
    }

    /// Uses a key once, as a caller that has been recognised.
    ///
    /// # Errors
    /// Whatever refused it, after that has been recorded.
    pub async fn use_key_as(
        &self,
        recognised: &Recognised<'_, P>,
        call: Call,
    ) -> Result<Released<Answer>, Error> {
        let pending = self.prepare(recognised, recognised.inbound.operation, call).await?;
        self.settle(pending).await
    }

    /// Records that a caller was refused before the law had to say anything, and gives the error back.
    pub async fn turn_away(
        &self,
        recognised: &Recognised<'_, P>,
        (action, key): (Action, Option<&KeyName>),
        error: Error,
    ) -> Error {
        match self.record_turned_away(recognised, recognised.inbound.operation, (action, key), error) {
            Ok(pending) => match self.settle(pending).await {
                Ok(_nothing) => Error::new(ErrorKind::Internal, Stage::Answer, "a refusal gave a result"),
                Err(error) => error,
            },
            Err(unrecorded) => unrecorded,
        }
    }

    /// Refuses a use for what was wrong with the request itself, where only whoever may use the key is told what that was: the policy is asked and the key looked at
    /// first, and what they refuse comes instead.
    pub async fn refuse_use(
        &self,
        recognised: &Recognised<'_, P>,
        (action, key): (Action, &KeyName),
        error: Error,
    ) -> Error {
        let Recognised { view, caller, inbound, epoch } = recognised;
        let scene = Scene { view, caller, inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(inbound.operation, action);
        facts.key = Some(NamedKey::unknown(key.clone()));
        let error = match self.admit(&scene, &mut facts, *epoch, key).await {
            Ok((_entry, _permit)) => error,
            Err(refused) => refused,
        };
        self.refuse(&scene, &facts, Mark::Plain, error).await
    }

    /// Uses keys up to 256 times: each item is decided and recorded by itself, and all wait for the same durable write.
    ///
    /// # Errors
    /// `unauthenticated`; `too-large` for more items; everything else is an item's own.
    pub async fn use_keys(
        &self,
        inbound: &Inbound<'_>,
        items: Vec<(OperationId, Result<Call, Error>)>,
    ) -> Result<Vec<Result<Released<Answer>, Error>>, Error> {
        self.use_keys_as(&self.recognise(inbound)?, items).await
    }

    /// The same, as a caller that has been recognised.
    ///
    /// # Errors
    /// As [`Pipeline::use_keys`], but for `unauthenticated`.
    pub async fn use_keys_as(
        &self,
        asked: &Recognised<'_, P>,
        items: Vec<(OperationId, Result<Call, Error>)>,
    ) -> Result<Vec<Result<Released<Answer>, Error>>, Error> {
        if items.len() > MAX_BATCH {
            let error = Error::new(ErrorKind::TooLarge, Stage::Decode, "a batch has at most 256 items");
            return Err(self.turn_away(asked, (Action::Undecoded, None), error).await);
        }
        let mut pending = Vec::with_capacity(items.len());
        for (operation, call) in items {
            pending.push(match call {
                Ok(call) => self.prepare(asked, operation, call).await,
                Err(error) => self.record_turned_away(asked, operation, (Action::Undecoded, None), error),
            });
        }
        // All records first, then all results: what has been released counts as departing, and no stop may wait for a disk because of it.
        let mut recorded = Vec::with_capacity(pending.len());
        for item in pending {
            recorded.push(match item {
                Ok(Pending { recording, result }) => {
                    recording.durable(&self.engines.log).await.and_then(|receipt| match result {
                        Ok(withheld) => Ok((withheld, receipt)),
                        Err(error) => Err(receipt.refuse(error)),
                    })
                }
                Err(error) => Err(error),
            });
        }
        let release = |(withheld, receipt): (Withheld<Answer>, _)| withheld.release(receipt, &self.stops);
        Ok(recorded.into_iter().map(|item| item.and_then(release)).collect())
    }

    /// Records a request that could not be decoded although its caller is known, and gives its error back.
    pub async fn refuse_undecoded(&self, inbound: &Inbound<'_>, error: Error) -> Error {
        match self.recognise(inbound) {
            Ok(recognised) => self.turn_away(&recognised, (Action::Undecoded, None), error).await,
            Err(unknown) => unknown,
        }
    }

    fn record_turned_away(
        &self,
        recognised: &Recognised<'_, P>,
        operation: OperationId,
        (action, key): (Action, Option<&KeyName>),
        error: Error,
    ) -> Result<Pending<P>, Error> {
        let Recognised { view, caller, inbound, epoch: _ } = recognised;
        let scene = Scene { view, caller, inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, action);
        facts.key = key.cloned().map(NamedKey::unknown);
        let recording = self.record_refusal(&scene, &facts, Mark::Plain, &error)?;
        Ok(Pending { recording, result: Err(error) })
    }

    /// Steps 4 to 7: resolve, decide, perform, and take a place in the log.
    async fn prepare(
        &self,
        recognised: &Recognised<'_, P>,
        operation: OperationId,
        call: Call,
    ) -> Result<Pending<P>, Error> {
        let again = match self.again(recognised) {
            Ok(again) => again,
            Err(gone) => {
                let asked = (call.action(), call.key());
                return self.record_turned_away(recognised, operation, asked, gone);
            }
        };
        let Recognised { view, caller, inbound, epoch } = again.as_deref().unwrap_or(recognised);
        let mut facts = Facts::new(operation, call.action());
        let context = match &call {
            Call::Key { operation, .. } => operation.context(),
            Call::Random { .. } => &NO_CONTEXT,
        };
        let scene = Scene { view, caller, inbound, context };
        let withheld = match self.attempt(&scene, &mut facts, *epoch, &call).await {
            Ok(withheld) => withheld,
            Err(error) => {
                let recording = self.record_refusal(&scene, &facts, Mark::Plain, &error)?;
                return Ok(Pending { recording, result: Err(error) });
            }
        };
        let (result, recording) = self.record_result(&scene, &facts, withheld)?;
        Ok(Pending { recording, result })
    }

    /// Appends the event of a result, which a stop that has been ordered meanwhile still turns into a refusal.
    pub(super) fn record_result<T>(
        &self,
        scene: &Scene<'_, P>,
        facts: &Facts,
        withheld: Withheld<T>,
    ) -> Result<Recorded<T, P>, Error> {
        self.record(scene, facts, Mark::Plain, Priority::Ordinary, || {
            match withheld.is_stopped(&self.stops) {
                false => (Ok(withheld), Ok(Done::Success)),
                true => {
                    let error = stopped_meanwhile(Stage::Record, &self.stops);
                    let ended = (error.kind(), error.stage(), error.to_string());
                    (Err(error), Err(ended))
                }
            }
        })
    }

    /// Step 8: once its record is durable, the result leaves, unless a stop came first.
    async fn settle(&self, pending: Pending<P>) -> Result<Released<Answer>, Error> {
        let Pending { recording, result } = pending;
        let receipt = recording.durable(&self.engines.log).await?;
        match result {
            Ok(withheld) => withheld.release(receipt, &self.stops),
            Err(error) => Err(receipt.refuse(error)),
        }
    }

    async fn attempt(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        call: &Call,
    ) -> Result<Withheld<Answer>, Error> {
        let (key, operation) = match call {
            Call::Key { key, operation } => (key, operation),
            Call::Random { length } => return self.random(scene, facts, epoch, *length).await,
        };
        facts.key = Some(NamedKey::unknown(key.clone()));
        match operation {
            Operation::Rewrap { ciphertext, context: _, target } => {
                return self.rewrap(scene, facts, epoch, key, ciphertext, target.as_ref()).await;
            }
            Operation::Encrypt { .. }
            | Operation::Decrypt { .. }
            | Operation::Seal { .. }
            | Operation::Open { .. }
            | Operation::Wrap { .. }
            | Operation::Unwrap { .. }
            | Operation::WrapBare { .. }
            | Operation::UnwrapBare { .. }
            | Operation::DataKey { .. }
            | Operation::Sign { .. }
            | Operation::Verify { .. }
            | Operation::Mac { .. }
            | Operation::VerifyMac { .. }
            | Operation::Agree { .. }
            | Operation::Encapsulate
            | Operation::Decapsulate { .. }
            | Operation::PublicKey { .. } => {}
        }
        let (entry, permit) = self.admit(scene, facts, epoch, key).await?;
        self.perform(scene, facts, permit, &entry, operation).await
    }

    /// Whether the caller may use the key, and the key can be used.
    async fn admit(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        key: &KeyName,
    ) -> Result<(Arc<KeyEntry>, Permit<Use>), Error> {
        let entry = self.resolve(scene, facts, epoch, key).await?;
        facts.key = Some(NamedKey::of(&entry.key, None));
        self.hide_context(scene, facts, &entry.key)?;
        let permit = self.decide(scene, facts, epoch, &[(facts.action, Resource::Key(&entry.key))])?;
        self.usable(scene, &entry, facts.action)?;
        Ok((entry, permit))
    }

    /// A key by its name. Where there is none, the policy is asked all the same, so that not existing looks like being forbidden.
    pub(super) async fn resolve(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        name: &KeyName,
    ) -> Result<Arc<KeyEntry>, Error> {
        if let Some(entry) = self.engines.state.key(&scene.caller.tenant, name).await? {
            return Ok(entry);
        }
        let may_know = [(Action::ReadKey, Resource::NoKey(name))];
        match self.decide::<super::Read>(scene, facts, epoch, &may_know) {
            Ok(_permit) => Err(no_such_key()),
            Err(error) if error.kind() == ErrorKind::Denied => {
                Err(super::denied(Stage::Resolve, super::NO_SUCH_KEY))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the policy, and notes which policies decided.
    pub(super) fn decide<K>(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        asks: &[(Action, Resource<'_>)],
    ) -> Result<Permit<K>, Error> {
        let Inbound { now, source, protocol, request, proof, .. } = scene.inbound;
        let protocol = protocol.name();
        let source = match proof {
            // What is decided for one who shows nothing is told to others too.
            Proof::Open => None,
            Proof::Certificate(_)
            | Proof::Bearer { .. }
            | Proof::Signed(_)
            | Proof::Issued(_)
            | Proof::Provider(_)
            | Proof::None => *source,
        };
        let circumstances = Circumstances { context: scene.context, request, now: *now, source, protocol };
        let held = self.engines.world.held_now();
        let asking =
            Asking { operation: facts.operation, caller: scene.caller, epoch, asks, circumstances, held };
        let verdict = Permit::ask(&self.engines.decide, &scene.view.policy, &self.stops, &asking);
        facts.deciding = verdict.policies;
        verdict.permit
    }

    /// What the tenant's, the key's and the algorithm's own rules say, after the policy: who may not know the key learns nothing of its state.
    pub(super) fn usable(&self, scene: &Scene<'_, P>, entry: &KeyEntry, action: Action) -> Result<(), Error> {
        if scene.view.data.record.suspended {
            return Err(tenant_is_suspended());
        }
        let key = &entry.key;
        key.state.permits(action).map_err(|state| {
            if let Some(order) = &key.destruction {
                let detail =
                    format!("key `{}` waits to be destroyed, until {} at least", key.name, order.due());
                return Error::new(ErrorKind::KeyState, Stage::Resolve, detail).remedy(format!(
                    "ask a custodian to run `holdfast key cancel-destruction {}`, if it is needed",
                    key.name
                ));
            }
            let detail = format!("key `{}` is {}", key.name, state.0);
            let remedy = match state.0 {
                crate::lifecycle::KeyState::Suspended => {
                    format!("ask a custodian to run `holdfast key resume {}`", key.name)
                }
                crate::lifecycle::KeyState::PreActivation if super::import::is_waiting(entry) => {
                    format!(
                        "it waits for its material: ask a custodian to run `holdfast key import finish {}`",
                        key.name
                    )
                }
                crate::lifecycle::KeyState::PreActivation => {
                    format!("ask a custodian to run `holdfast key activate {}`", key.name)
                }
                crate::lifecycle::KeyState::Active
                | crate::lifecycle::KeyState::Deactivated
                | crate::lifecycle::KeyState::Compromised
                | crate::lifecycle::KeyState::Destroyed => {
                    format!("use another key; `holdfast key show {}` tells its history", key.name)
                }
            };
            Error::new(ErrorKind::KeyState, Stage::Resolve, detail).remedy(remedy)
        })?;
        if key.is_archived() && action != Action::PublicKey {
            let detail = format!("key `{}` is archived", key.name);
            return Err(Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
                .remedy("ask a custodian to run `holdfast key unarchive` with its archive"));
        }
        of_its_protocol(key, scene.inbound.protocol, action)?;
        // Whatever can be encrypted or wrapped can be rewrapped.
        let fits = if matches!(action, Action::RewrapFrom | Action::RewrapTo) {
            matches!(key.purpose, Purpose::Encrypt | Purpose::Wrap)
        } else {
            action.purpose().is_none_or(|purpose| purpose == key.purpose)
        };
        if fits {
            return Ok(());
        }
        let detail =
            format!("key `{}` was created to {}, not to {}", key.name, key.purpose.name(), action.name());
        Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail))
    }

    async fn random(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        length: usize,
    ) -> Result<Withheld<Answer>, Error> {
        let tenant = Resource::Tenant(&scene.caller.tenant);
        let permit: Permit<Use> = self.decide(scene, facts, epoch, &[(Action::Random, tenant)])?;
        if scene.view.data.record.suspended {
            return Err(tenant_is_suspended());
        }
        if !(1..=MAX_RANDOM).contains(&length) {
            let detail = "`length` must be 1 to 1024 bytes";
            return Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail));
        }
        let withheld = Withheld::random(&self.engines.keys, permit, length).await?;
        let committer = facts.committer(&self.engines.world)?;
        let withheld = withheld.shape(|product| match product {
            Product::Secret(bytes) => {
                Ok(Answer { output: Output::Random(bytes), algorithm: None, version: None, integrity: None })
            }
            Product::Bytes(_)
            | Product::DataKey { .. }
            | Product::Valid(_)
            | Product::Encapsulated { .. } => Err(super::proof::another_product()),
        })?;
        facts.output = withheld.commit_to(|answer| super::work::commit_output(&committer, &answer.output));
        Ok(withheld)
    }
}

/// A key that was created for one protocol works through no other, and one that has none not where protocols have keys of their own. What is public
/// of it can be read everywhere else.
fn of_its_protocol(key: &Key, through: Protocol, action: Action) -> Result<(), Error> {
    let (detail, remedy) = match key.protocol {
        Some(own) if own == through => return Ok(()),
        Some(_) if action == Action::PublicKey && !through.has_own_keys() => return Ok(()),
        None if !through.has_own_keys() => return Ok(()),
        Some(own) => (
            format!("key `{}` was created for protocol `{}` alone", key.name, own.name()),
            format!("ask through `{}`, or use another key", own.name()),
        ),
        None => (
            format!("key `{}` was not created for protocol `{}`", key.name, through.name()),
            format!("ask a custodian for one: `holdfast key create NAME --protocol {}`", through.name()),
        ),
    };
    Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail).remedy(remedy))
}

fn stopped_meanwhile(stage: Stage, stops: &Stops) -> Error {
    if stops.is_sealed() {
        return super::sealed(stage);
    }
    Error::new(ErrorKind::Stopped, stage, "stopped by order while the operation was under way")
}
