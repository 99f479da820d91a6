//! Changing the state: intent recorded, change committed, outcome recorded. Stop orders take their own, shorter way.

use super::plan::planned_key;
use super::proof::{Change, Intent, Permit, Released};
use super::record::{Done as Recorded, Facts, NamedKey, Scene};
use super::recover::PendingStop;
use super::{Inbound, NO_CONTEXT, Pipeline, Receipt, TenantView};
use crate::adoption::AdoptKey;
use crate::command::{Command, Done, Durability, Outcome};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::KeyId;
use crate::import::BeginImport;
use crate::lifecycle::{Transition, VersionVerb};
use crate::port::{
    Committed, KeyEntry, KeyStore, Mark, Ports, Priority, Resource, State, StateChange, World,
};
use crate::protocol::Protocol;
use crate::retention::Retention;
use crate::schedule::RotationPeriod;
use crate::stop::{Changing, StopEpoch, Target};
use crate::time::Timestamp;
use std::sync::Arc;

/// How often a change is computed anew when another one came first and the author named no epoch.
const ATTEMPTS: usize = 8;

/// A command that was not carried out as it should.
#[derive(Debug)]
pub(super) enum Undone {
    /// Nothing has changed: the refusal closes it.
    Refused(Error),
    /// It may have changed the state, or has and is not in force: it stays open until that is known and done.
    Open(Error),
}

impl<P: Ports> Pipeline<P> {
    /// Changes the state.
    ///
    /// # Errors
    /// Whatever refused it, after that has been recorded; `unauthenticated` is counted instead, since it is nobody's.
    pub async fn command(&self, inbound: &Inbound<'_>, command: Command) -> Result<Released<Outcome>, Error> {
        let epoch = self.stops.epoch();
        let (view, caller) = self.identify_by(inbound, self.held_for(&command))?;
        let scene = Scene { view: &view, caller: &caller, inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(inbound.operation, command.action());
        facts.subject = subject(&command);
        let (permit, entry) = match self.permit_command(&scene, &mut facts, epoch, &command).await {
            Ok(permitted) => permitted,
            Err(error) => return Err(self.refuse(&scene, &facts, Mark::Plain, error).await),
        };
        let command = self.with_period(command, entry.as_deref());
        facts.subject = subject(&command);
        if facts.action.is_stop() {
            return self.stop(&scene, &mut facts, permit, entry.as_deref(), command).await;
        }
        // What has not been written yet would be carried out after the resumption, and undo it.
        let lifts = matches!(command, Command::ResumeCaller(_) | Command::ResumeTenant);
        if lifts && self.unfinished.is_pending(&target(&scene, entry.as_deref(), &command)) {
            let detail = "the stop order that this would lift is in force and not yet durable";
            let error = Error::new(ErrorKind::Conflict, Stage::Resolve, detail)
                .remedy("send it again once `holdfast status` shows no such order");
            return Err(self.refuse(&scene, &facts, Mark::Plain, error).await);
        }
        let intent = self.record_intent(&scene, &facts, permit).await?;
        let (done, receipt) = self.carry_out_and_close(&scene, &mut facts, &intent, &command).await?;
        let outcome = Outcome { done, durability: Durability::Durable };
        intent.done(outcome).release(receipt, &self.stops)
    }

    /// Carries a recorded intent out and records its outcome. Where that cannot be done now, the intent is noted for later.
    pub(super) async fn carry_out_and_close(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        command: &Command,
    ) -> Result<(Done, Receipt), Error> {
        let done = match self.carry_out(scene, facts, intent, command).await {
            Ok(done) => done,
            Err(undone) => return Err(self.abandon(scene, facts, undone).await),
        };
        if let Command::CreateTenant(new) = command
            && let Err(error) =
                self.record_birth(scene.inbound, scene.caller, (&new.tenant, Priority::Ordinary)).await
        {
            return Err(self.abandon(scene, facts, Undone::Open(error)).await);
        }
        let mark = Mark::Outcome(facts.operation, facts.state);
        match self.record(scene, facts, mark, Priority::Ordinary, || ((), Ok(Recorded::Success))) {
            Ok(((), recording)) => {
                let receipt = recording.durable(&self.engines.log).await?;
                if let (Some(opened), Done::Copy(key, _)) = (facts.opened, &done)
                    // What was stopped meanwhile is not put in force; whoever approves it again does that.
                    && let Ok(_changing) = intent.begin(&self.stops, None)
                {
                    // Nothing is used before its record is durable: this one, which says that it is in force.
                    self.engines.keys.enforce_copy(intent.permit(), key.id, opened);
                }
                Ok((done, receipt))
            }
            Err(error) => Err(self.abandon(scene, facts, Undone::Open(error)).await),
        }
    }

    /// Closes an intent that came to nothing, or notes that it has to be closed later.
    pub(super) async fn abandon(&self, scene: &Scene<'_, P>, facts: &Facts, undone: Undone) -> Error {
        let error = match undone {
            Undone::Refused(error) => {
                let mark = Mark::Outcome(facts.operation, None);
                match self.record_refusal(scene, facts, mark, &error) {
                    Ok(recording) => {
                        return match recording.durable(&self.engines.log).await {
                            Ok(receipt) => receipt.refuse(error),
                            Err(unrecorded) => unrecorded,
                        };
                    }
                    Err(unrecorded) => unrecorded,
                }
            }
            Undone::Open(error) => error,
        };
        self.unfinished.intent_is_open(facts.open_intent(&scene.caller.tenant));
        error
    }

    async fn permit_command(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        command: &Command,
    ) -> Result<(Permit<Change>, Option<Arc<KeyEntry>>), Error> {
        let tenant = &scene.caller.tenant;
        let Some(name) = command.key() else {
            return Ok((
                self.decide(scene, facts, epoch, &[(facts.action, Resource::Tenant(tenant))])?,
                None,
            ));
        };
        facts.key = Some(NamedKey::unknown(name.clone()));
        if let Command::CreateKey(new)
        | Command::BeginImport(BeginImport { new, .. })
        | Command::AdoptKey(AdoptKey { new, .. }) = command
        {
            // Asked about the record that it would get, so that a policy can say which keys may be made.
            let algorithm = self.algorithm_of(new);
            let custody = self.engines.keys.custody(algorithm);
            let none_yet = KeyId::from_bytes([0; 16]);
            let planned = planned_key(tenant, none_yet, new, (algorithm, custody), scene.inbound.now)?;
            return Ok((self.decide(scene, facts, epoch, &[(facts.action, Resource::Key(&planned))])?, None));
        }
        let entry = self.resolve(scene, facts, epoch, name).await?;
        facts.key = Some(NamedKey::of(&entry.key, None));
        let permit = self.decide(scene, facts, epoch, &[(facts.action, Resource::Key(&entry.key))])?;
        Ok((permit, Some(entry)))
    }

    pub(super) async fn record_intent(
        &self,
        scene: &Scene<'_, P>,
        facts: &Facts,
        permit: Permit<Change>,
    ) -> Result<Intent, Error> {
        let mark = Mark::Intent(facts.operation);
        let ((), recording) =
            self.record(scene, facts, mark, Priority::Ordinary, || ((), Ok(Recorded::Intent)))?;
        Intent::recorded(permit, recording.durable(&self.engines.log).await?)
    }

    /// Plans and commits. A conflict is planned anew, unless the author said what they had read. Once a stop has been ordered of whom or what
    /// it concerns, nothing is begun any more, and the order waits for what is being committed.
    pub(super) async fn carry_out(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        command: &Command,
    ) -> Result<Done, Undone> {
        let (mut attempt, mut latest) = (1, None);
        loop {
            // Before a device is asked for anything, too; what that takes, no stop waits for.
            drop(self.begin(scene, intent, command, &mut latest).await.map_err(Undone::Refused)?);
            let begun = async {
                let planned = self.plan(scene, facts, intent, command).await?;
                Ok((planned, self.begin(scene, intent, command, &mut latest).await?))
            };
            let (planned, changing) = match begun.await {
                Ok(begun) => begun,
                Err(error) => {
                    self.unmake(scene, facts, intent).await;
                    return Err(Undone::Refused(error));
                }
            };
            let committed = self.commit(intent, planned.changes).await;
            drop(changing);
            // What may be committed by now is left where it is.
            if let Err(Undone::Refused(error)) = &committed
                && says_that_nothing_is_written(error)
            {
                self.unmake(scene, facts, intent).await;
            }
            match committed {
                Ok(committed) => {
                    facts.made = None;
                    facts.state = Some(committed);
                    if let Some(tenant) = &planned.reload {
                        self.reload(tenant).await.map_err(Undone::Open)?;
                        // Whoever commits by what was in force before is over when this is told.
                        self.stops.drain_changes().await;
                    }
                    if let Done::Key(key, _) = &planned.done {
                        self.agenda.note(key);
                    }
                    // From here on nobody finds what is gone; what is held of it in memory goes too.
                    if let (
                        Command::TransitionVersion { verb: VersionVerb::Destroy, version, .. },
                        Done::Key(key, _),
                    ) = (command, &planned.done)
                    {
                        self.engines.keys.forget_version(key.id, *version);
                    }
                    if let (Command::ConfirmArchive { .. }, Done::Key(key, _)) = (command, &planned.done) {
                        self.engines.keys.forget(key.id);
                    }
                    if matches!(command, Command::ConfirmClock) {
                        self.engines.world.trust_clock();
                    }
                    return Ok(planned.done);
                }
                Err(Undone::Refused(error))
                    if error.kind() == ErrorKind::Conflict && !planned.compares && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(undone) => return Err(undone),
            }
        }
    }

    /// Begins to change the state, if nobody has stopped that ([`Intent::begin`]), and if whoever asked is still recognised and permitted where the tenant has changed since:
    /// what was taken away meanwhile is gone for what is still to be done. `latest` is the view by which that was found.
    async fn begin(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        command: &Command,
        latest: &mut Option<Arc<TenantView<P>>>,
    ) -> Result<Option<Changing<'_>>, Error> {
        let changing = intent.begin(&self.stops, command.about())?;
        if changing.is_some() && latest.as_deref().unwrap_or(scene.view).is_replaced() {
            let Scene { caller, inbound, context, .. } = *scene;
            let (view, now) = self.identify_again(inbound, caller, self.held_for(command))?;
            let again = Scene { view: &view, caller: &now, inbound, context };
            let mut facts = Facts::new(intent.operation(), command.action());
            let _permitted = self.permit_command(&again, &mut facts, self.stops.epoch(), command).await?;
            *latest = Some(view);
        }
        Ok(changing)
    }

    /// The time from before may be one at which no operator was known yet: who confirms the clock is identified by the clock alone.
    fn held_for(&self, command: &Command) -> Option<Timestamp> {
        let is_way_out = matches!(command, Command::ConfirmClock);
        self.engines.world.held_now().filter(|_| !is_way_out)
    }

    /// Commits. Where the answer is a failure, the state is asked whether it has committed all the same.
    pub(super) async fn commit(
        &self,
        intent: &Intent,
        changes: Vec<StateChange>,
    ) -> Result<Committed, Undone> {
        let error = match self.engines.state.commit(intent, changes).await {
            Ok(committed) => return Ok(committed),
            Err(error) if says_that_nothing_is_written(&error) => return Err(Undone::Refused(error)),
            Err(error) => error,
        };
        match self.engines.state.committed(intent.operation()).await {
            Ok(Some(committed)) => Ok(committed),
            Ok(None) => Err(Undone::Refused(error)),
            Err(_) => Err(Undone::Open(error)),
        }
    }

    /// Puts a tenant's committed records in force.
    pub(super) async fn reload(&self, tenant: &crate::id::TenantId) -> Result<(), Error> {
        if let Some(data) = self.engines.state.tenant(tenant).await? {
            self.snapshots.install(&self.engines, data).await?;
        }
        Ok(())
    }

    /// A stop order: in force in memory first, then nothing departs any more, then durable, however long that takes.
    async fn stop(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        permit: Permit<Change>,
        entry: Option<&KeyEntry>,
        command: Command,
    ) -> Result<Released<Outcome>, Error> {
        // What cannot be done is refused before anything is stopped for it.
        if let Err(error) = self.check_stop(scene, entry, &command) {
            return Err(self.refuse(scene, facts, Mark::Plain, error).await);
        }
        let target = target(scene, entry, &command);
        self.stops.order(target.clone());
        if let Some(entry) = entry {
            self.engines.keys.forget(entry.key.id);
        }
        if matches!(command, Command::SuspendTenant) {
            self.engines.keys.forget_copies(&scene.caller.tenant);
        }
        let intent_mark = Mark::Intent(facts.operation);
        let intended = self.record(scene, facts, intent_mark, Priority::Stop, || ((), Ok(Recorded::Intent)));
        self.drain().await;
        // The state must not get ahead of a log that works; one that has failed keeps nothing waiting.
        let is_intended = match intended {
            Ok(((), recording)) => recording.durable(&self.engines.log).await.is_ok(),
            Err(_) => false,
        };
        let intent = Intent::urgent(permit, facts.open_intent(&scene.caller.tenant))?;
        let done = match self.carry_out(scene, facts, &intent, &command).await {
            Ok(done) => {
                self.stops.settle(&target);
                // Whoever came in between, which only administers, has seen the order and not the record.
                self.drain().await;
                Some(done)
            }
            // The state cannot be written: the order stands in memory, and is carried out as soon as it can be.
            Err(Undone::Open(_)) => None,
            Err(Undone::Refused(error)) if is_passing(error.kind()) => None,
            Err(Undone::Refused(error)) => {
                self.stops.settle(&target);
                return Err(match is_intended {
                    true => self.abandon(scene, facts, Undone::Refused(error)).await,
                    false => self.refuse(scene, facts, Mark::Plain, error).await,
                });
            }
        };
        let is_settled = done.is_some();
        let receipt = if is_intended && is_settled {
            let mark = Mark::Outcome(facts.operation, facts.state);
            match self.record(scene, facts, mark, Priority::Stop, || ((), Ok(Recorded::Success))) {
                Ok(((), recording)) => recording.durable(&self.engines.log).await.ok(),
                Err(_) => None,
            }
        } else {
            None
        };
        let done = done.unwrap_or_else(|| self.stopped_in_memory(scene, entry));
        match receipt {
            Some(receipt) => {
                let outcome = Outcome { done, durability: Durability::Durable };
                intent.done(outcome).release(receipt, &self.stops)
            }
            None => {
                self.unfinished.stop_is_pending(PendingStop {
                    operation: facts.operation,
                    tenant: scene.caller.tenant.clone(),
                    command,
                    target,
                    is_intended,
                    is_settled,
                    impossible: None,
                });
                let outcome = Outcome { done, durability: Durability::InForce };
                intent.in_force(outcome, &self.stops)
            }
        }
    }

    /// Waits for what has not seen a stop: what departs, and what is being committed.
    async fn drain(&self) {
        self.stops.drain().await;
        self.stops.drain_changes().await;
    }

    fn stopped_in_memory(&self, scene: &Scene<'_, P>, entry: Option<&KeyEntry>) -> Done {
        match entry {
            Some(entry) => Done::Key(Box::new(entry.key.clone()), Arc::clone(&entry.current)),
            None => {
                let record = &scene.view.data.record;
                Done::Tenant(record.id.clone(), record.epoch)
            }
        }
    }
}

/// Whether a failure passes by itself, so that a stop order is retried rather than given up.
pub(super) fn is_passing(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::StateUnavailable
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Throttled
        | ErrorKind::Deadline
        | ErrorKind::Conflict => true,
        ErrorKind::Malformed
        | ErrorKind::TooLarge
        | ErrorKind::Unauthenticated
        | ErrorKind::Denied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::KeyState
        | ErrorKind::Unsupported
        | ErrorKind::Integrity
        | ErrorKind::BudgetExhausted
        | ErrorKind::Stopped
        | ErrorKind::Sealed
        | ErrorKind::Internal => false,
    }
}

/// What a stop order stops, or a resumption lifts.
fn target<P: Ports>(scene: &Scene<'_, P>, entry: Option<&KeyEntry>, command: &Command) -> Target {
    let tenant = scene.caller.tenant.clone();
    match (entry, command) {
        (Some(entry), _) => Target::Key(entry.key.id),
        (
            None,
            Command::SuspendCaller(name)
            | Command::ResumeCaller(name)
            | Command::RemoveCaller(name)
            | Command::RevokeToken { caller: name, .. },
        ) => Target::Caller(tenant, name.clone()),
        // An anchor may speak for any caller, so what is under way for all of them must ask again.
        (None, _) => Target::Tenant(tenant),
    }
}

/// What a command is about besides keys, for its event.
pub(super) fn subject(command: &Command) -> Option<Box<str>> {
    let name = match command {
        Command::PutCaller(record) => record.name.as_str(),
        Command::SuspendCaller(name) | Command::ResumeCaller(name) | Command::RemoveCaller(name) => {
            name.as_str()
        }
        Command::IssueToken { caller, .. } => caller.as_str(),
        Command::RevokeToken { token, caller } => return Some(format!("{caller} {token}").into()),
        Command::PutAnchor(anchor) => anchor.name.as_str(),
        Command::RemoveAnchor(name) => name.as_str(),
        Command::CreateTenant(new) => new.tenant.as_str(),
        Command::MoveMember { member, .. } => member.as_str(),
        Command::SetRetention(retention) => return Some(Retention::text(*retention)),
        Command::TransitionVersion { version, without_inventory, .. } => {
            return Some(super::versions::version_subject(*version, *without_inventory));
        }
        Command::ScheduleKey { period, .. } => return Some(RotationPeriod::text(*period)),
        Command::RecordInventory { taken, .. } => return Some(super::versions::inventory_subject(taken)),
        Command::FinishImport(finish) => return Some(finish.subject()),
        Command::AdoptKey(adopt) => return Some(adopt.subject()),
        Command::UnarchiveKey(unarchive) => return Some(format!("archive {}", unarchive.archive).into()),
        Command::BeginImport(begin) => return Some(format!("import within {} s", begin.seconds).into()),
        Command::RestorePolicy { version, .. } => return Some(format!("version {version}").into()),
        Command::TransitionKey { verb: Transition::Destroy(period), .. } => {
            return period.map(|period| period.to_string().into());
        }
        Command::RequestCopy(request) => return Some(request.subject()),
        Command::ActivateKey { unprotected: true, .. } => return Some(super::protect::UNPROTECTED.into()),
        Command::VerifyBackup(verified) => return Some(format!("commit {}", verified.commit).into()),
        Command::CreateKey(_)
        | Command::ArchiveKey(_)
        | Command::ConfirmArchive { .. }
        | Command::RotateKey(_)
        | Command::RollBackKey(_)
        | Command::LabelKey { .. }
        | Command::TransitionKey { .. }
        | Command::ActivateKey { unprotected: false, .. }
        | Command::ApproveCopy { .. }
        | Command::EndCopy(_)
        | Command::SetPolicy { .. }
        | Command::SuspendTenant
        | Command::ResumeTenant
        | Command::BackUp
        | Command::ConfirmClock => return None,
    };
    Some(name.into())
}

/// The request of the gateway to itself, for what it finishes on its own.
pub(super) fn own_inbound<'a>(
    operation: crate::id::OperationId,
    tenant: &'a crate::id::TenantId,
    now: crate::time::Timestamp,
    ticks: u64,
) -> Inbound<'a> {
    Inbound {
        operation,
        tenant,
        proof: crate::peer::Proof::None,
        source: None,
        protocol: Protocol::Gateway,
        protocol_request: None,
        request: &NO_CONTEXT,
        only: None,
        trace: None,
        now,
        ticks,
        wants_receipt: false,
    }
}

/// Of a failed commit: any other failure may be of its answer alone.
fn says_that_nothing_is_written(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists)
}
