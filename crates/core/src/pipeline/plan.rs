//! From a command to the changes of the state that carry it out, computed from what the state says now.

use super::destruction::{not_waiting, plan_cancel, while_waiting};
use super::made::Made;
use super::proof::Intent;
use super::record::{Facts, NamedKey, Scene};
use super::versions::plan_inventory;
use super::work::{ROTATE_AT, purpose_for};
use super::{Pipeline, TenantView};
use crate::algorithm::Algorithm;
use crate::caller::{CallerKind, CallerRecord, Credential, Token, TokenForm};
use crate::command::{Command, Done, NewKey, NewTenant, longest_token};
use crate::destruction::Destruction;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{CallerName, Epoch, KeyId, KeyName, KeyVersion, TenantId, TokenId};
use crate::key::{Custody, Generated, Key, NewVersion, Version};
use crate::lifecycle::{KeyState, Transition};
use crate::port::{
    Decide, Examined, Finding, Identify, KeyEntry, KeyStore, Ports, State, StateChange, World,
};
use crate::sealing_key::SealingKeys;
use crate::secret::Secret;
use crate::tenant::{Anchor, PolicyVersion, TenantRecord};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most live tokens of one caller.
const MAX_TOKENS: usize = 32;

/// The changes that carry a command out, and what it answers then.
pub(super) struct Planned {
    pub(super) changes: Vec<StateChange>,
    pub(super) done: Done,
    /// The tenant whose snapshot the changes touch.
    pub(super) reload: Option<TenantId>,
    /// Whether the author named the epoch that they had read: then a conflict is theirs.
    pub(super) compares: bool,
}

impl Planned {
    pub(super) fn key(changes: Vec<StateChange>, key: Key, current: Arc<Version>) -> Self {
        Self { changes, done: Done::Key(Box::new(key), current), reload: None, compares: false }
    }
}

impl<P: Ports> Pipeline<P> {
    pub(super) async fn plan(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        command: &Command,
    ) -> Result<Planned, Error> {
        let tenant = &scene.caller.tenant;
        match command {
            Command::CreateKey(new) => self.plan_create(scene, facts, intent, new).await,
            Command::BeginImport(begin) => self.plan_begin_import(scene, facts, intent, begin).await,
            Command::FinishImport(finish) => {
                let entry = self.enter_import(tenant, facts, &finish.key).await?;
                self.plan_finish_import(scene, facts, intent, &entry, finish).await
            }
            Command::ArchiveKey(name) => {
                let entry = self.entry(tenant, name).await?;
                self.plan_archive(scene, facts, intent, &entry).await
            }
            Command::ConfirmArchive { key, code } => {
                let entry = self.entry(tenant, key).await?;
                self.plan_confirm_archive(scene, facts, &entry, code).await
            }
            Command::UnarchiveKey(unarchive) => {
                let entry = self.entry(tenant, &unarchive.key).await?;
                self.plan_unarchive(scene, facts, intent, (&entry, unarchive)).await
            }
            Command::AdoptKey(adopt) => self.plan_adopt(scene, facts, intent, adopt).await,
            Command::RotateKey(name) => {
                let entry = self.entry(tenant, name).await?;
                self.plan_rotate(scene, facts, intent, &entry).await
            }
            Command::RollBackKey(name) => {
                let entry = self.entry(tenant, name).await?;
                self.plan_roll_back(facts, &entry).await
            }
            Command::TransitionVersion { key, version, verb, without_inventory } => {
                let entry = self.entry(tenant, key).await?;
                let order = (*version, *verb, *without_inventory);
                self.plan_version(scene, facts, intent, &entry, order).await
            }
            Command::RecordInventory { key, taken } => {
                let entry = self.entry(tenant, key).await?;
                plan_inventory(facts, &entry, taken, scene.inbound.now)
            }
            Command::ScheduleKey { key, period } => {
                let entry = self.entry(tenant, key).await?;
                self.plan_schedule(&entry, *period).await
            }
            Command::LabelKey { key, labels, expected } => {
                let entry = self.entry(tenant, key).await?;
                compare(*expected, entry.key.epoch)?;
                let key = Key { labels: labels.clone(), epoch: entry.key.epoch.next(), ..entry.key.clone() };
                let change = StateChange::Key { key: key.clone(), expected: Some(entry.key.epoch) };
                let compares = expected.is_some();
                Ok(Planned { compares, ..Planned::key(vec![change], key, Arc::clone(&entry.current)) })
            }
            Command::TransitionKey { key, verb: Transition::Activate } => {
                let entry = self.entry(tenant, key).await?;
                self.plan_activate(scene, facts, intent, (&entry, false)).await
            }
            Command::TransitionKey { key, verb } => {
                let entry = self.entry(tenant, key).await?;
                self.plan_transition(scene, intent, &entry, *verb).await
            }
            Command::ActivateKey { key, unprotected } => {
                let entry = self.entry(tenant, key).await?;
                self.plan_activate(scene, facts, intent, (&entry, *unprotected)).await
            }
            Command::RequestCopy(request) => {
                let entry = self.entry(tenant, &request.key).await?;
                self.plan_request_copy(scene, intent, &entry, request).await
            }
            Command::ApproveCopy { key, shares } => {
                let entry = self.entry(tenant, key).await?;
                self.plan_approve_copy(scene, facts, intent, (&entry, shares))
            }
            Command::EndCopy(key) => {
                let entry = self.entry(tenant, key).await?;
                self.plan_end_copy(scene, facts, intent, &entry)
            }
            Command::PutCaller(_)
            | Command::SuspendCaller(_)
            | Command::ResumeCaller(_)
            | Command::RemoveCaller(_)
            | Command::IssueToken { .. }
            | Command::RevokeToken { .. }
            | Command::PutAnchor(_)
            | Command::RemoveAnchor(_)
            | Command::SetPolicy { .. }
            | Command::RestorePolicy { .. }
            | Command::SuspendTenant
            | Command::ResumeTenant
            | Command::SetRetention(_) => {
                // The view may be older than the state by now: what the changes are compared with is read here.
                self.reload(tenant).await?;
                let view = self.tenant(tenant).ok_or_else(|| vanished(tenant))?;
                self.plan_tenant(scene, facts, &view, command).await
            }
            Command::CreateTenant(new) => self.plan_new_tenant(scene, intent, new).await,
            Command::BackUp => self.plan_backup(scene, facts, intent).await,
            Command::VerifyBackup(verified) => self.plan_verified(scene, facts, verified).await,
            Command::ConfirmClock => self.plan_confirm_clock(&scene.caller.tenant).await,
            Command::MoveMember { member, to } => {
                self.plan_move_member(&scene.caller.tenant, intent, member, *to).await
            }
        }
    }

    pub(super) async fn entry(&self, tenant: &TenantId, name: &KeyName) -> Result<Arc<KeyEntry>, Error> {
        self.engines.state.key(tenant, name).await?.ok_or_else(super::no_such_key)
    }

    pub(super) fn algorithm_of(&self, new: &NewKey) -> Algorithm {
        new.algorithm.unwrap_or_else(|| self.engines.keys.default_algorithm())
    }

    /// The id of a key that will have this name.
    pub(super) async fn free_name(&self, scene: &Scene<'_, P>, name: &KeyName) -> Result<KeyId, Error> {
        let tenant = &scene.caller.tenant;
        if tenant.is_gateway() {
            let detail = "the gateway itself holds no keys";
            return Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail).remedy("name a tenant"));
        }
        // A destroyed key's name is free again; its id never is.
        let namesake = self.engines.state.key(tenant, name).await?;
        match namesake {
            Some(entry) if entry.key.state != KeyState::Destroyed => {
                let detail = format!("there is a key `{name}` already");
                return Err(Error::new(ErrorKind::AlreadyExists, Stage::Resolve, detail));
            }
            // By the name it is found again, for the members that have not erased it yet.
            Some(entry) if entry.key.is_to_erase() => {
                let detail =
                    format!("key `{name}` is destroyed and not yet erased from every member of the pool");
                return Err(Error::new(ErrorKind::AlreadyExists, Stage::Resolve, detail)
                    .remedy(format!("choose another name, or wait until `holdfast key show {name}` names no member that is pending")));
            }
            Some(_) | None => {}
        }
        let mut entropy = [0; 10];
        self.engines.world.fill(&mut entropy)?;
        Ok(KeyId::new(scene.inbound.now, entropy))
    }

    async fn plan_create(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        new: &NewKey,
    ) -> Result<Planned, Error> {
        let tenant = &scene.caller.tenant;
        let id = self.free_name(scene, &new.name).await?;
        let number = KeyVersion::FIRST;
        let algorithm = self.algorithm_of(new);
        let asked = self.new_version(scene, id, number, (algorithm, new.exportable), None)?;
        let generated = self.generate(intent, asked, new.emergency_copy).await?;
        let mut key = planned_key(tenant, id, new, (algorithm, generated.custody), scene.inbound.now)?;
        if key.state == KeyState::Active && self.holds_back(key.custody) {
            (key.state, key.waits) = (KeyState::PreActivation, true);
        }
        facts.key = Some(NamedKey::of(&key, Some(number)));
        facts.evidence = Some((generated.evidence.clone(), generated.commitment));
        let version = version(id, number, generated, scene);
        facts.made = Made::new(&key, &version);
        let changes = vec![
            StateChange::Key { key: key.clone(), expected: None },
            StateChange::Version { tenant: tenant.clone(), version: version.clone() },
        ];
        Ok(Planned::key(changes, key, Arc::new(version)))
    }

    pub(super) async fn plan_rotate(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        entry: &KeyEntry,
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        has_versions(before)?;
        if before.state != KeyState::Active {
            let detail =
                format!("key `{}` is {}, and only an active key is rotated", before.name, before.state);
            return Err(Error::new(ErrorKind::KeyState, Stage::Resolve, detail));
        }
        let number = before.newest.next().ok_or_else(|| {
            Error::new(ErrorKind::BudgetExhausted, Stage::Resolve, "the key has 2^32 - 1 versions")
                .remedy("create another key")
        })?;
        let of = (before.algorithm, before.exportable);
        let asked = self.new_version(scene, before.id, number, of, Some(before.custody))?;
        // Asked before anything is made: a state that cannot be read leaves nothing in a token.
        let is_used_up = self.is_used_up(entry).await?;
        let generated = self.generate(intent, asked, before.emergency_copy).await?;
        // What is used up takes no more: to wait would be to repeat a nonce.
        let waits = self.holds_back(generated.custody) && !is_used_up;
        let key = Key {
            newest: number,
            current: if waits { before.current } else { number },
            waits,
            schedule: self.schedule_anew(before, scene.inbound.now),
            // Of what new work takes.
            custody: if waits { before.custody } else { generated.custody },
            renewed: Key::UNCOMMITTED,
            epoch: before.epoch.next(),
            ..before.clone()
        };
        facts.key = Some(NamedKey::of(&key, Some(number)));
        facts.evidence = Some((generated.evidence.clone(), generated.commitment));
        let version = version(key.id, number, generated, scene);
        facts.made = Made::new(&key, &version);
        let changes = vec![
            StateChange::Version { tenant: key.tenant.clone(), version: version.clone() },
            StateChange::Key { key: key.clone(), expected: Some(before.epoch) },
        ];
        let current = if waits { Arc::clone(&entry.current) } else { Arc::new(version) };
        Ok(Planned::key(changes, key, current))
    }

    /// Whether new work must take another version than the current one.
    async fn is_used_up(&self, entry: &KeyEntry) -> Result<bool, Error> {
        if !entry.key.algorithm.has_budget() {
            return Ok(false);
        }
        Ok(self.engines.state.count(entry.key.id, entry.current.number, 0).await? >= ROTATE_AT)
    }

    async fn generate(
        &self,
        intent: &Intent,
        version: NewVersion<'_>,
        emergency_copy: bool,
    ) -> Result<Generated, Error> {
        match emergency_copy {
            true => self.engines.keys.generate_with_copy(intent.permit(), version).await,
            false => self.engines.keys.generate(intent.permit(), version).await,
        }
    }

    async fn plan_activate(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        (entry, unprotected): (&KeyEntry, bool),
    ) -> Result<Planned, Error> {
        super::import::check_activation(entry)?;
        match self.plan_use(facts, entry, unprotected).await? {
            Some(planned) => Ok(planned),
            None => self.plan_transition(scene, intent, entry, Transition::Activate).await,
        }
    }

    async fn plan_transition(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        entry: &KeyEntry,
        verb: Transition,
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        let Some(state) = transition(before, verb)? else {
            // Written all the same, so that whoever resumes the key meanwhile comes before or after, and not in between.
            let key = Key { epoch: before.epoch.next(), ..before.clone() };
            let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
            return Ok(Planned::key(vec![change], key, Arc::clone(&entry.current)));
        };
        let resumes_to = match verb {
            Transition::Destroy(period) => {
                return self.plan_destroy(scene, intent, entry, period).await;
            }
            Transition::CancelDestruction => return plan_cancel(entry),
            Transition::Suspend => before.state,
            Transition::Activate | Transition::Resume | Transition::Deactivate | Transition::Compromise => {
                KeyState::Active
            }
        };
        // A key that waits to be destroyed can only get worse.
        let destruction = before.destruction.map(|order| Destruction { state, resumes_to, ..order });
        let waits =
            before.waits && matches!(state, KeyState::Active | KeyState::PreActivation | KeyState::Suspended);
        let key = Key { state, resumes_to, destruction, waits, epoch: before.epoch.next(), ..before.clone() };
        let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
        Ok(Planned::key(vec![change], key, Arc::clone(&entry.current)))
    }

    /// Changes of what the tenant's snapshot holds; all compare the tenant's epoch.
    async fn plan_tenant(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        view: &TenantView<P>,
        command: &Command,
    ) -> Result<Planned, Error> {
        let tenant = &view.data.record.id;
        let before = &view.data.record;
        let mut record = TenantRecord { epoch: before.epoch.next(), ..before.clone() };
        let mut compares = false;
        let epoch = record.epoch;
        let (change, done) = match command {
            Command::PutCaller(asked) => {
                let record = self.registration(view, asked)?;
                let done = Done::Caller(Arc::new(record.clone()));
                (Some(StateChange::Caller { tenant: tenant.clone(), record }), done)
            }
            Command::SuspendCaller(name) | Command::ResumeCaller(name) => {
                let suspended = matches!(command, Command::SuspendCaller(_));
                let record = CallerRecord { suspended, ..registered(view, name)? };
                let done = Done::Caller(Arc::new(record.clone()));
                (Some(StateChange::Caller { tenant: tenant.clone(), record }), done)
            }
            Command::RemoveCaller(name) => {
                let record = registered(view, name)?;
                let change = StateChange::CallerGone { tenant: tenant.clone(), name: record.name };
                (Some(change), Done::Tenant(tenant.clone(), epoch))
            }
            Command::IssueToken { caller, seconds, form } => {
                let (record, done) = self.issue(scene, view, caller, (*form, *seconds))?;
                (Some(StateChange::Caller { tenant: tenant.clone(), record }), done)
            }
            Command::RevokeToken { caller, token } => {
                let record = without_token(registered(view, caller)?, *token)?;
                let done = Done::Caller(Arc::new(record.clone()));
                (Some(StateChange::Caller { tenant: tenant.clone(), record }), done)
            }
            Command::PutAnchor(anchor) => {
                let mut anchors = view.data.anchors.clone();
                if let Some(before) = anchors.iter().find(|kept| kept.name == anchor.name) {
                    self.engines.identify.replace(before, anchor)?;
                }
                anchors.retain(|kept| kept.name != anchor.name);
                anchors.push(anchor.clone());
                // What cannot be indexed must not be committed: the tenant could not be loaded again.
                self.engines.identify.prepare(&view.data.callers, &anchors)?;
                let change = StateChange::Anchor { tenant: tenant.clone(), anchor: anchor.clone() };
                (Some(change), Done::Tenant(tenant.clone(), epoch))
            }
            Command::RemoveAnchor(name) => {
                anchored(view, name)?;
                let change = StateChange::AnchorGone { tenant: tenant.clone(), name: name.clone() };
                (Some(change), Done::Tenant(tenant.clone(), epoch))
            }
            Command::SetPolicy { text, expected } => {
                compares = expected.is_some();
                self.new_policy(scene, facts, view, text, *expected).await?
            }
            Command::RestorePolicy { version, expected } => {
                compares = expected.is_some();
                let earlier = self.engines.state.policy(tenant, *version).await?.ok_or_else(|| {
                    let detail = format!("there is no policy version {version}");
                    Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
                })?;
                self.new_policy(scene, facts, view, &earlier.text, *expected).await?
            }
            Command::SetRetention(retention) => {
                record.retention = *retention;
                (None, Done::Tenant(tenant.clone(), epoch))
            }
            Command::SuspendTenant | Command::ResumeTenant => {
                record.suspended = matches!(command, Command::SuspendTenant);
                (None, Done::Tenant(tenant.clone(), epoch))
            }
            Command::CreateKey(_)
            | Command::RotateKey(_)
            | Command::BeginImport(_)
            | Command::FinishImport(_)
            | Command::AdoptKey(_)
            | Command::ArchiveKey(_)
            | Command::ConfirmArchive { .. }
            | Command::UnarchiveKey(_)
            | Command::RollBackKey(_)
            | Command::TransitionVersion { .. }
            | Command::RecordInventory { .. }
            | Command::ScheduleKey { .. }
            | Command::LabelKey { .. }
            | Command::TransitionKey { .. }
            | Command::ActivateKey { .. }
            | Command::CreateTenant(_)
            | Command::BackUp
            | Command::VerifyBackup(_)
            | Command::ConfirmClock
            | Command::RequestCopy(_)
            | Command::ApproveCopy { .. }
            | Command::EndCopy(_)
            | Command::MoveMember { .. } => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    Stage::Perform,
                    "not a change of the tenant's snapshot",
                ));
            }
        };
        let mut changes = vec![StateChange::Tenant { record, expected: Some(before.epoch) }];
        changes.extend(change);
        Ok(Planned { changes, done, reload: Some(tenant.clone()), compares })
    }

    fn registration(&self, view: &TenantView<P>, asked: &CallerRecord) -> Result<CallerRecord, Error> {
        self.fitting_kind(&view.data.record.id, asked)?;
        fitting_credentials(asked)?;
        let earlier = view.data.callers.iter().find(|kept| kept.name == asked.name);
        if let Some(earlier) = earlier.filter(|earlier| earlier.kind != asked.kind) {
            let detail = format!("caller `{}` is registered as {}", asked.name, earlier.kind.name());
            return Err(Error::new(ErrorKind::AlreadyExists, Stage::Resolve, detail)
                .remedy("register another name: a caller's kind never changes"));
        }
        let record = CallerRecord {
            tokens: earlier.map(|kept| kept.tokens.clone()).unwrap_or_default(),
            suspended: earlier.is_some_and(|kept| kept.suspended),
            ..asked.clone()
        };
        let mut callers = view.data.callers.clone();
        callers.retain(|kept| kept.name != record.name);
        callers.push(Arc::new(record.clone()));
        self.engines.identify.prepare(&callers, &view.data.anchors)?;
        Ok(record)
    }

    /// Operators exist in the gateway only, developers in dev directories only.
    fn fitting_kind(&self, tenant: &TenantId, record: &CallerRecord) -> Result<(), Error> {
        let fits = match record.kind {
            CallerKind::Operator => tenant.is_gateway(),
            CallerKind::Developer => self.is_dev && !tenant.is_gateway(),
            CallerKind::Application | CallerKind::Custodian => !tenant.is_gateway(),
            CallerKind::Auditor => true,
        };
        if fits {
            return Ok(());
        }
        let detail = format!("`{tenant}` can have no caller of kind `{}`", record.kind.name());
        Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail))
    }

    fn issue(
        &self,
        scene: &Scene<'_, P>,
        view: &TenantView<P>,
        caller: &CallerName,
        (form, seconds): (TokenForm, u64),
    ) -> Result<(CallerRecord, Done), Error> {
        let mut record = registered(view, caller)?;
        let longest = longest_token(form);
        if !(1..=longest).contains(&seconds) {
            let detail = format!("a {} token lives 1 to {longest} seconds", form.name());
            return Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail));
        }
        // A jump of the clock that is not confirmed gives none more time, and takes none away.
        let now = self.at_earliest(scene.inbound.now);
        record.tokens.retain(|token| token.expires > now);
        if record.tokens.len() >= MAX_TOKENS {
            let detail = format!("caller `{caller}` has {MAX_TOKENS} live tokens");
            return Err(Error::new(ErrorKind::Throttled, Stage::Resolve, detail)
                .remedy("revoke one, or wait until one expires"));
        }
        let engines = &self.engines;
        let (token, secret) = match form {
            TokenForm::Bearer => new_token(&engines.world, now, seconds)?,
            TokenForm::Signing => {
                let id = new_token_id(&engines.world, now)?;
                of_secret((id, form), engines.identify.signing_secret(id)?, now.plus_seconds(seconds))
            }
        };
        if token.expires <= self.at_latest(scene.inbound.now) {
            let detail = "by one of the two times between which a jump of the clock waits to be confirmed, the token would have expired already";
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail).remedy(
                "ask an operator to confirm the clock, `holdfast clock confirm`, or to put it right",
            ));
        }
        let done = Done::Token { id: token.id, secret, expires: token.expires, form };
        record.tokens.push(token);
        Ok((record, done))
    }

    async fn new_policy(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        view: &TenantView<P>,
        text: &Arc<str>,
        expected: Option<u64>,
    ) -> Result<(Option<StateChange>, Done), Error> {
        let data = &view.data;
        if expected.is_some_and(|version| version != data.policy.version) {
            let detail = format!("policy version {} is in force", data.policy.version);
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail));
        }
        let Examined { findings, unreadable } =
            self.engines.decide.examine(scene.caller, &data.callers, text).await?;
        if let Some(error) = unreadable {
            return Err(error);
        }
        if let Some(Finding { detail, remedy, .. }) = findings.iter().find(|finding| finding.refuses) {
            facts.alarm = Some(format!("a policy was refused: {detail}").into());
            let error = Error::new(ErrorKind::Unsupported, Stage::Resolve, detail.clone());
            return Err(error.remedy(remedy.clone()));
        }
        let version = data.policy.version.saturating_add(1);
        let policy = PolicyVersion {
            version,
            text: Arc::clone(text),
            author: scene.caller.name().clone(),
            set: scene.inbound.now,
        };
        facts.subject = Some(format!("version {version}").into());
        let change = StateChange::Policy { tenant: data.record.id.clone(), policy };
        Ok((Some(change), Done::Policy(version, findings)))
    }

    pub(super) async fn plan_new_tenant(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        new: &NewTenant,
    ) -> Result<Planned, Error> {
        let NewTenant { tenant, callers, anchors, policy } = new;
        if self.tenant(tenant).is_some() {
            let detail = format!("there is a tenant `{tenant}` already");
            return Err(Error::new(ErrorKind::AlreadyExists, Stage::Resolve, detail));
        }
        let owns = |record: &CallerRecord| {
            matches!(record.kind, CallerKind::Custodian | CallerKind::Developer) && !record.suspended
        };
        if tenant.is_gateway() || !callers.iter().any(owns) {
            let detail = "a tenant needs a custodian of its own";
            return Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail)
                .remedy("name at least one caller of kind `custodian` with a credential"));
        }
        for record in callers {
            self.fitting_kind(tenant, record)?;
        }
        let shared: Vec<_> = callers.iter().cloned().map(Arc::new).collect();
        self.engines.identify.prepare(&shared, anchors)?;
        let text = policy.clone().unwrap_or_else(|| Arc::from(self.engines.decide.tenant_policy()));
        self.engines.decide.prepare(tenant, &text).await?;
        let handle = self.engines.keys.enroll(intent.permit(), tenant).await?;
        let record = TenantRecord {
            id: tenant.clone(),
            suspended: false,
            handle: Some(handle),
            sealing: SealingKeys::default(),
            backed_up: None,
            backups: Vec::new(),
            verified: None,
            retention: None,
            clock_held: None,
            out: BTreeMap::new(),
            members: BTreeMap::new(),
            up: 0,
            shares: None,
            created: scene.inbound.now,
            epoch: Epoch::FIRST,
        };
        let changes = tenant_changes(record, callers, anchors, text, scene.caller.name(), scene.inbound.now);
        let done = Done::Tenant(tenant.clone(), Epoch::FIRST);
        // It is put in force with the first entry of its log.
        Ok(Planned { changes, done, reload: None, compares: false })
    }

    /// Whether a stop order can be carried out at all, as far as that can be known beforehand.
    pub(super) fn check_stop(
        &self,
        scene: &Scene<'_, P>,
        entry: Option<&KeyEntry>,
        command: &Command,
    ) -> Result<(), Error> {
        match (command, entry) {
            (Command::TransitionKey { verb, .. }, Some(entry)) => {
                transition(&entry.key, *verb).and_then(|_| self.check_period(entry, *verb))
            }
            (Command::SuspendCaller(name) | Command::RemoveCaller(name), _) => {
                registered(scene.view, name).map(|_| ())
            }
            (Command::RevokeToken { caller, token }, _) => {
                without_token(registered(scene.view, caller)?, *token).map(|_| ())
            }
            (Command::RemoveAnchor(name), _) => anchored(scene.view, name),
            (_, _) => Ok(()),
        }
    }
}

/// The rows of a new tenant.
pub(super) fn tenant_changes(
    record: TenantRecord,
    callers: &[CallerRecord],
    anchors: &[Anchor],
    text: Arc<str>,
    author: &CallerName,
    now: crate::time::Timestamp,
) -> Vec<StateChange> {
    let tenant = record.id.clone();
    let policy = PolicyVersion { version: 1, text, author: author.clone(), set: now };
    let callers =
        callers.iter().map(|record| StateChange::Caller { tenant: tenant.clone(), record: record.clone() });
    let anchors =
        anchors.iter().map(|anchor| StateChange::Anchor { tenant: tenant.clone(), anchor: anchor.clone() });
    [StateChange::Tenant { record, expected: None }, StateChange::Policy { tenant: tenant.clone(), policy }]
        .into_iter()
        .chain(callers)
        .chain(anchors)
        .collect()
}

/// A new bearer token: what is kept of it, and the secret that is shown once.
pub(super) fn new_token<W: World>(
    world: &W,
    now: crate::time::Timestamp,
    seconds: u64,
) -> Result<(Token, Secret), Error> {
    let id = new_token_id(world, now)?;
    let secret = Secret::fill_with(32, |bytes| world.fill(bytes))?;
    Ok(of_secret((id, TokenForm::Bearer), secret, now.plus_seconds(seconds)))
}

fn new_token_id<W: World>(world: &W, now: crate::time::Timestamp) -> Result<TokenId, Error> {
    let mut entropy = [0; 10];
    world.fill(&mut entropy)?;
    Ok(TokenId::new(now, entropy))
}

fn of_secret(
    (id, form): (TokenId, TokenForm),
    secret: Secret,
    expires: crate::time::Timestamp,
) -> (Token, Secret) {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.expose());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    (Token { id, hash, expires, form }, secret)
}

/// Whether there can be more than one: where a ciphertext does not say by which it was made, the next would make all earlier ones unreadable.
pub(super) fn has_versions(key: &Key) -> Result<(), Error> {
    let Some(protocol) = key.protocol.filter(|protocol| protocol.has_one_version()) else { return Ok(()) };
    let detail =
        format!("key `{}` was created for protocol `{protocol}`, whose keys have one version", key.name);
    Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
        .remedy("create another key, and a new version of the provider's key that names it; keep this one for what it has wrapped"))
}

pub(super) fn version<P: Ports>(
    key: KeyId,
    number: KeyVersion,
    generated: Generated,
    scene: &Scene<'_, P>,
) -> Version {
    let Generated { handle, public, commitment, custody: _, evidence: _ } = generated;
    let (state, commit, created) = (KeyState::Active, Version::UNCOMMITTED, scene.inbound.now);
    Version { key, number, state, handle, public, commitment, commit, created }
}

/// The state that a verb leads to; `None` where a stop order finds the key stopped already.
pub(super) fn transition(key: &Key, verb: Transition) -> Result<Option<KeyState>, Error> {
    if let Some(order) = &key.destruction {
        return while_waiting(key, order, verb);
    }
    if let Some(after) = key.state.after(verb, key.resumes_to) {
        return Ok(Some(after));
    }
    let already = matches!(
        (verb, key.state),
        (Transition::Suspend, KeyState::Suspended)
            | (Transition::Compromise, KeyState::Compromised)
            | (Transition::Deactivate, KeyState::Deactivated)
            | (Transition::Destroy(_), KeyState::Destroyed)
    );
    if already {
        return Ok(None);
    }
    let detail = format!("key `{}` is {}, from where there is no `{}`", key.name, key.state, verb.name());
    let error = Error::new(ErrorKind::KeyState, Stage::Resolve, detail);
    Err(match (verb, key.state) {
        (Transition::CancelDestruction, _) => not_waiting(key),
        (Transition::Destroy(_), KeyState::Active) => {
            error.remedy(format!("run `holdfast key deactivate {}` first: destruction is final", key.name))
        }
        _ => error,
    })
}

/// Whoever an issuer gives a token to administers nothing and reads no log: such callers are somebody.
fn fitting_credentials(asked: &CallerRecord) -> Result<(), Error> {
    let is_anybodys = |it: &Credential| matches!(it, Credential::Issued { subject: None, .. });
    let may_be_anybody = match asked.kind {
        CallerKind::Application | CallerKind::Developer => true,
        CallerKind::Custodian | CallerKind::Auditor | CallerKind::Operator => false,
    };
    if may_be_anybody || !asked.credentials.iter().any(is_anybodys) {
        return Ok(());
    }
    let detail = format!("a caller of kind `{}` cannot be any subject of an issuer", asked.kind.name());
    Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
        .remedy("name the subject: `--issuer URL --subject SUB`"))
}

fn registered<P: Ports>(view: &TenantView<P>, name: &CallerName) -> Result<CallerRecord, Error> {
    let found = view.data.callers.iter().find(|kept| kept.name == *name);
    found.map(|record| CallerRecord::clone(record)).ok_or_else(|| {
        let detail = format!("there is no caller `{name}`");
        Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
    })
}

fn without_token(mut record: CallerRecord, token: TokenId) -> Result<CallerRecord, Error> {
    let had = record.tokens.len();
    record.tokens.retain(|kept| kept.id != token);
    if record.tokens.len() == had {
        let detail = format!("caller `{}` has no token `{token}`", record.name);
        return Err(Error::new(ErrorKind::NotFound, Stage::Resolve, detail));
    }
    Ok(record)
}

fn anchored<P: Ports>(view: &TenantView<P>, name: &CallerName) -> Result<(), Error> {
    if view.data.anchors.iter().any(|anchor| anchor.name == *name) {
        return Ok(());
    }
    let detail = format!("there is no trust anchor `{name}`");
    Err(Error::new(ErrorKind::NotFound, Stage::Resolve, detail))
}

fn compare(expected: Option<Epoch>, found: Epoch) -> Result<(), Error> {
    match expected {
        Some(epoch) if epoch != found => {
            let detail = format!("the record is at epoch {}", found.0);
            Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn vanished(tenant: &TenantId) -> Error {
    Error::new(ErrorKind::Unsupported, Stage::Resolve, format!("`{tenant}` has no place in the key store"))
}

/// The record that a key will have if it is created: what the policy is asked about, and what is committed.
pub(super) fn planned_key(
    tenant: &TenantId,
    id: KeyId,
    new: &NewKey,
    (algorithm, custody): (Algorithm, Custody),
    now: Timestamp,
) -> Result<Key, Error> {
    let NewKey {
        name,
        algorithm: _,
        purpose,
        exportable,
        legacy,
        labels,
        prepared,
        emergency_copy,
        protocol,
    } = new;
    Ok(Key {
        id,
        tenant: tenant.clone(),
        name: name.clone(),
        algorithm,
        purpose: purpose_for(algorithm, *purpose)?,
        state: if *prepared { KeyState::PreActivation } else { KeyState::Active },
        resumes_to: KeyState::Active,
        exportable: *exportable,
        legacy: *legacy,
        emergency_copy: *emergency_copy,
        protocol: *protocol,
        labels: labels.clone(),
        newest: KeyVersion::FIRST,
        current: KeyVersion::FIRST,
        waits: false,
        schedule: None,
        inventory: None,
        destruction: None,
        erasure: None,
        custody,
        archive: None,
        renewed: Key::UNCOMMITTED,
        created: now,
        epoch: Epoch::FIRST,
    })
}
