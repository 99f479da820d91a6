//! The recording of what happened: facts gathered on the way, one event at the end.

use super::importing::Finishing;
use super::made::Made;
use super::proof::Recording;
use super::{Inbound, NO_CONTEXT, OpenIntent, Pipeline, TenantView};
use crate::action::Action;
use crate::algorithm::Algorithm;
use crate::caller::Caller;
use crate::context::Context;
use crate::emergency::OpenedCopy;
use crate::error::{Error, ErrorKind, Stage};
use crate::event::{Committed, Committer, ContextFacts, Ending, Event, KeyFacts};
use crate::frame::Commitment;
use crate::id::{KeyId, KeyName, KeyVersion, OperationId, PolicyId, TenantId};
use crate::key::{Custody, Evidence, Key};
use crate::port::{self, Mark, Ports, Priority, World};
use crate::protocol::Protocol;
use std::sync::Arc;

/// A key as the event names it.
#[derive(Debug, Clone)]
pub(super) struct NamedKey {
    pub(super) name: KeyName,
    pub(super) known: Option<(KeyId, Algorithm, Custody)>,
    pub(super) protocol: Option<Protocol>,
    pub(super) version: Option<KeyVersion>,
}

impl NamedKey {
    pub(super) fn unknown(name: KeyName) -> Self {
        Self { name, known: None, protocol: None, version: None }
    }

    pub(super) fn of(key: &Key, version: Option<KeyVersion>) -> Self {
        let known = Some((key.id, key.algorithm, key.custody));
        Self { name: key.name.clone(), known, protocol: key.protocol, version }
    }

    fn facts(&self) -> KeyFacts<'_> {
        let Self { name, known, protocol, version } = self;
        KeyFacts { name, known: *known, protocol: *protocol, version: *version }
    }
}

/// What is known of an operation so far; starts with who asks for what and grows on the way.
pub(super) struct Facts {
    pub(super) operation: OperationId,
    pub(super) action: Action,
    pub(super) key: Option<NamedKey>,
    pub(super) target: Option<NamedKey>,
    pub(super) subject: Option<Box<str>>,
    /// None when no policy has been asked, or none decided.
    pub(super) deciding: Option<Arc<[PolicyId]>>,
    pub(super) input: Option<Committed>,
    pub(super) output: Option<Committed>,
    pub(super) associated: Option<Committed>,
    pub(super) hides_context: bool,
    pub(super) hidden_context: Option<Committed>,
    pub(super) state: Option<port::Committed>,
    pub(super) evidence: Option<(Evidence, Commitment)>,
    pub(super) alarm: Option<Box<str>>,
    /// Whether an emergency copy was used.
    pub(super) by_copy: bool,
    /// Emergency copies that are in force once this is recorded.
    pub(super) opened: Option<OpenedCopy>,
    /// Whether emergency copies have been ended: planned anew, there are none.
    pub(super) has_ended: bool,
    /// What the key store has made for the command, until it is committed.
    pub(super) made: Option<Box<Made>>,
    /// The import that the command finishes, to the end of what it does about it.
    pub(super) finishing: Option<Finishing>,
    pub(super) opening: [u8; 32],
}

impl Facts {
    pub(super) fn new(operation: OperationId, action: Action) -> Self {
        Self {
            operation,
            action,
            key: None,
            target: None,
            subject: None,
            deciding: None,
            input: None,
            output: None,
            associated: None,
            hides_context: false,
            hidden_context: None,
            state: None,
            evidence: None,
            alarm: None,
            by_copy: false,
            opened: None,
            has_ended: false,
            made: None,
            finishing: None,
            opening: [0; 32],
        }
    }

    /// The command that these are the facts of, as recovery speaks of it.
    pub(super) fn open_intent(&self, tenant: &TenantId) -> OpenIntent {
        OpenIntent {
            operation: self.operation,
            tenant: tenant.clone(),
            action: self.action,
            key: self.key.as_ref().map(|key| key.name.clone()),
            subject: self.subject.clone(),
        }
    }

    /// Makes commitments under the entry's opening key, which is taken when it is first needed.
    pub(super) fn committer<W: World>(&mut self, world: &W) -> Result<Committer, Error> {
        if self.opening == [0; 32] {
            world.fill_short(&mut self.opening)?;
        }
        Ok(Committer::new(&self.opening))
    }
}

/// Who asks whom, as it stands in each of the request's events.
pub(super) struct Scene<'a, P: Ports> {
    pub(super) view: &'a TenantView<P>,
    pub(super) caller: &'a Caller,
    pub(super) inbound: &'a Inbound<'a>,
    pub(super) context: &'a Context,
}

impl<P: Ports> Pipeline<P> {
    /// Keeps the context out of the log in clear if a label of the key says so: of refusals as well, so as soon as the key is known.
    pub(super) fn hide_context(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        key: &Key,
    ) -> Result<(), Error> {
        if key.hides_context() && facts.hidden_context.is_none() {
            facts.hides_context = true;
            facts.hidden_context = Some(facts.committer(&self.engines.world)?.context(scene.context));
        }
        Ok(())
    }

    /// Appends the event that records an operation. `ending` is asked under the log's ordering, so that it can still turn a result into a
    /// refusal when a stop has been ordered meanwhile: in the log, no success of a stopped key stands after the stop.
    pub(super) fn record<R>(
        &self,
        scene: &Scene<'_, P>,
        facts: &Facts,
        mark: Mark,
        priority: Priority,
        ending: impl FnOnce() -> (R, Result<Done, (ErrorKind, Stage, String)>),
    ) -> Result<(R, Recording<P::Log>), Error> {
        let Scene { view, caller, inbound, context } = scene;
        let latency_micros = self.engines.world.ticks().saturating_sub(inbound.ticks);
        Recording::append(
            &self.engines.log,
            &view.log,
            facts.operation,
            (mark, priority),
            inbound.wants_receipt && !matches!(mark, Mark::Intent(_)),
            |out: &mut Vec<u8>, opening: &mut [u8; 32]| {
                let (value, ended) = ending();
                *opening = facts.opening;
                let is_done = ended.is_ok();
                let ending = match &ended {
                    Ok(Done::Intent) => Ending::Intent,
                    Ok(Done::Success) => Ending::Success,
                    Ok(Done::Recovered) => Ending::Recovered,
                    Err((kind, stage, detail)) => Ending::Refused { kind: *kind, stage: *stage, detail },
                };
                let event = Event {
                    operation: facts.operation,
                    time: inbound.now,
                    tenant: &view.data.record.id,
                    caller,
                    action: facts.action,
                    key: facts.key.as_ref().map(NamedKey::facts),
                    target: facts.target.as_ref().map(NamedKey::facts),
                    subject: facts.subject.as_deref(),
                    policy: view.data.policy.version,
                    deciding: facts.deciding.as_deref().unwrap_or_default(),
                    ending,
                    by_copy: facts.by_copy,
                    protocol: inbound.protocol.name(),
                    protocol_request: inbound.protocol_request,
                    request: inbound.request,
                    trace: inbound.trace,
                    source: inbound.source,
                    latency_micros,
                    input: facts.input,
                    // An output that nobody gets is none.
                    output: facts.output.filter(|_| is_done),
                    associated: facts.associated,
                    context: match facts.hidden_context {
                        Some(committed) => ContextFacts::Hidden(committed),
                        None if facts.hides_context => ContextFacts::Clear(&NO_CONTEXT),
                        None => ContextFacts::Clear(context),
                    },
                    state: facts.state,
                    // A version that is not one yet, or never was, has none.
                    evidence: match ending {
                        Ending::Success => {
                            facts.evidence.as_ref().map(|(evidence, commitment)| (evidence, commitment))
                        }
                        Ending::Intent | Ending::Recovered | Ending::Refused { .. } => None,
                    },
                    alarm: facts.alarm.as_deref(),
                };
                event.encode(out);
                value
            },
        )
    }

    /// Records a refusal and gives it back once its record is durable: refusals are recorded like results.
    pub(super) async fn refuse(
        &self,
        scene: &Scene<'_, P>,
        facts: &Facts,
        mark: Mark,
        error: Error,
    ) -> Error {
        match self.record_refusal(scene, facts, mark, &error) {
            Ok(recording) => match recording.durable(&self.engines.log).await {
                Ok(receipt) => receipt.refuse(error),
                Err(unrecorded) => unrecorded,
            },
            Err(unrecorded) => unrecorded,
        }
    }

    /// Appends the event of a refusal.
    pub(super) fn record_refusal(
        &self,
        scene: &Scene<'_, P>,
        facts: &Facts,
        mark: Mark,
        error: &Error,
    ) -> Result<Recording<P::Log>, Error> {
        let ended = Err((error.kind(), error.stage(), error.chain()));
        let priority = Priority::Ordinary;
        self.record(scene, facts, mark, priority, || ((), ended)).map(|((), recording)| recording)
    }
}

/// How something that was done stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Intent,
    Success,
    Recovered,
}
