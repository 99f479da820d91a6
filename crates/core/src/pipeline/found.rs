//! Founding: what exists before the first caller can ask for anything.

use super::command::{Undone, own_inbound};
use super::copies::Sweeps;
use super::destruction::Ends;
use super::importing::Importing;
use super::proof::{Intent, Permit, Recording};
use super::record::{Done, Facts, Scene};
use super::recover::Unfinished;
use super::reroot::Generation;
use super::schedule::Agenda;
use super::snapshot::Snapshots;
use super::{Engines, Inbound, NO_CONTEXT, Pipeline, TenantView, plan};
use crate::action::Action;
use crate::caller::{Authentication, Caller, CallerKind, CallerRecord};
use crate::command::NewTenant;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{CallerName, Epoch, InstanceId, TenantId};
use crate::noise::Noise;
use crate::port::{AuditLog as _, Decide as _, Mark, Ports, Priority, State, StateChange, World};
use crate::sealing_key::SealingKeys;
use crate::secret::Secret;
use crate::stop::{StopEpoch, Stops};
use crate::tenant::TenantRecord;
use crate::throttled::Throttled;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A gateway that is about to exist.
#[derive(Debug)]
pub struct Founding<'a> {
    /// Its instance id.
    pub instance: InstanceId,
    /// The build that founds it.
    pub build: &'a str,
    /// Those who run it; they have no right in any tenant.
    pub operators: Vec<CallerRecord>,
    /// Its first tenants.
    pub tenants: Vec<NewTenant>,
    /// The first generation of shares of its root key, if that is in shares.
    pub shares: Option<Generation>,
}

impl<P: Ports> Pipeline<P> {
    /// A pipeline in which nothing is loaded yet.
    pub(super) fn unloaded(engines: Engines<P>, is_dev: bool) -> Self {
        Self {
            ends: Ends::since(engines.world.uptime()),
            engines,
            snapshots: Snapshots::empty(),
            stops: Arc::new(Stops::default()),
            noise: Noise::default(),
            throttled: Throttled::default(),
            unfinished: Unfinished::default(),
            importing: Importing::default(),
            agenda: Agenda::default(),
            sweeps: Sweeps::default(),
            sealing: super::sealing_key::Changes::default(),
            reserved: OnceLock::new(),
            is_dev,
        }
    }

    /// Founds a gateway in an empty state: its own record, its operators, the log's first entry, its first tenants.
    ///
    /// # Errors
    /// `already-exists` where the state is not empty, and whatever the ports fail with; the directory is then to be founded anew.
    pub async fn found(engines: Engines<P>, is_dev: bool, founding: Founding<'_>) -> Result<Self, Error> {
        if !engines.state.tenants().await?.is_empty() {
            let detail = "the data directory holds a gateway already";
            return Err(Error::new(ErrorKind::AlreadyExists, Stage::Start, detail)
                .remedy("run `holdfast serve`, or name an empty directory"));
        }
        if let Some(other) = founding.operators.iter().find(|record| record.kind != CallerKind::Operator) {
            let detail =
                format!("`{}` is not of kind `operator`, and nobody else is registered here", other.name);
            return Err(Error::new(ErrorKind::Malformed, Stage::Start, detail)
                .remedy("name custodians with their tenant"));
        }
        let pipeline = Self::unloaded(engines, is_dev);
        let Founding { instance, build, operators, tenants, shares } = founding;
        let gateway = TenantId::gateway();
        let now = pipeline.engines.world.now();
        let own = own_caller(&gateway)?;
        let operation = pipeline.new_operation()?;
        let record = TenantRecord {
            id: gateway.clone(),
            suspended: false,
            handle: None,
            sealing: SealingKeys::default(),
            backed_up: None,
            backups: Vec::new(),
            verified: None,
            retention: None,
            clock_held: None,
            out: BTreeMap::new(),
            members: BTreeMap::new(),
            up: 0,
            shares: shares.as_ref().map(|first| first.number),
            created: now,
            epoch: Epoch::FIRST,
        };
        let policy = Arc::from(pipeline.engines.decide.gateway_policy());
        let changes = plan::tenant_changes(record, &operators, &[], policy, own.name(), now);
        // No log can hold the intent yet: a founding that is cut short is begun again in an empty directory.
        let permit = Permit::own(operation, gateway.clone(), own.name().clone(), StopEpoch::END);
        let committed = pipeline.engines.state.commit(&Intent::own(permit), changes).await?;
        pipeline.reload(&gateway).await?;
        let names: Vec<_> = operators.iter().map(|record| record.name.as_str()).collect();
        let mut pairs = vec![
            ("build".into(), build.into()),
            ("directory".into(), if is_dev { "dev" } else { "production" }.into()),
            ("instance".into(), instance.to_string().into()),
            ("operators".into(), names.join(" ").into()),
        ];
        pairs.extend(shares.as_ref().map(Generation::pairs).unwrap_or_default());
        let context = Context::new(pairs)?;
        let view = pipeline.tenant(&gateway).ok_or_else(not_loaded)?;
        let inbound = own_inbound(operation, &gateway, now, pipeline.engines.world.ticks());
        let mut facts = Facts::new(operation, Action::Found);
        facts.state = Some(committed);
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        pipeline.record_own(&scene, &facts, Mark::Outcome(operation, Some(committed))).await?;
        for new in tenants {
            pipeline.found_tenant(&view, &own, &new).await?;
        }
        Ok(pipeline)
    }

    /// A tenant that the founding itself creates.
    async fn found_tenant(&self, view: &TenantView<P>, own: &Caller, new: &NewTenant) -> Result<(), Error> {
        let operation = self.new_operation()?;
        let now = self.engines.world.now();
        let gateway = TenantId::gateway();
        let inbound = own_inbound(operation, &gateway, now, self.engines.world.ticks());
        let scene = Scene { view, caller: own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, Action::CreateTenant);
        facts.subject = Some(new.tenant.as_str().into());
        let intent = self.own_intent(&scene, &facts).await?;
        let planned = self.plan_new_tenant(&scene, &intent, new).await?;
        let committed = self.engines.state.commit(&intent, planned.changes).await?;
        self.record_birth(&inbound, own, (&new.tenant, Priority::Ordinary)).await?;
        facts.state = Some(committed);
        self.record_own(&scene, &facts, Mark::Outcome(operation, Some(committed))).await
    }

    /// Puts a tenant that was created in force, after the first entry of its own log: who created it, and who owns it. Nobody finds the tenant
    /// before that stands there; where it does already, nothing is written.
    pub(super) async fn record_birth(
        &self,
        inbound: &Inbound<'_>,
        creator: &Caller,
        (tenant, priority): (&TenantId, Priority),
    ) -> Result<(), Error> {
        let data = self.engines.state.tenant(tenant).await?.ok_or_else(not_loaded)?;
        let first = |view: &TenantView<P>| match self.engines.log.is_empty(&view.log) {
            true => self.append_birth(inbound, creator, view, priority).map(Some),
            false => Ok(None),
        };
        if let Some(recording) = self.snapshots.install_after(&self.engines, data, first).await? {
            let _receipt = recording.durable(&self.engines.log).await?;
        }
        Ok(())
    }

    fn append_birth(
        &self,
        inbound: &Inbound<'_>,
        creator: &Caller,
        view: &TenantView<P>,
        priority: Priority,
    ) -> Result<Recording<P::Log>, Error> {
        let of_kind = view.data.callers.iter().filter(|record| record.kind == CallerKind::Custodian);
        let mut custodians = of_kind.map(|record| record.name.as_str()).collect::<Vec<_>>().join(" ");
        // A directory with very many founders names as many as fit; the state holds them all.
        custodians.truncate(custodians.floor_char_boundary(4096));
        let context = Context::new(vec![("custodians".into(), custodians.into())])?;
        let facts = Facts::new(inbound.operation, Action::Found);
        let scene = Scene { view, caller: creator, inbound, context: &context };
        let recorded = self.record(&scene, &facts, Mark::Plain, priority, || ((), Ok(Done::Success)));
        recorded.map(|((), recording)| recording)
    }

    /// Records something that the gateway did by itself, and waits until that is durable.
    pub(super) async fn record_own(
        &self,
        scene: &Scene<'_, P>,
        facts: &Facts,
        mark: Mark,
    ) -> Result<(), Error> {
        let ((), recording): (_, Recording<P::Log>) =
            self.record(scene, facts, mark, Priority::Ordinary, || ((), Ok(Done::Success)))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        Ok(())
    }

    /// A change of the scene's tenant that no caller asked for: intent, commit, outcome, as for anybody.
    pub(super) async fn change_own(
        &self,
        scene: &Scene<'_, P>,
        mut facts: Facts,
        changes: Vec<StateChange>,
    ) -> Result<(), Error> {
        let intent = self.own_intent(scene, &facts).await?;
        match self.commit(&intent, changes).await {
            Ok(committed) => facts.state = Some(committed),
            Err(undone) => return Err(self.abandon(scene, &facts, undone).await),
        }
        let done = match self.reload(&scene.caller.tenant).await {
            Ok(()) => self.record_own(scene, &facts, Mark::Outcome(facts.operation, facts.state)).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(self.abandon(scene, &facts, Undone::Open(error)).await),
        }
    }

    /// The gateway's intent to do what no caller asked for, recorded like any other.
    pub(super) async fn own_intent(&self, scene: &Scene<'_, P>, facts: &Facts) -> Result<Intent, Error> {
        let Caller { tenant, record, authentication: _, own: _ } = scene.caller;
        let permit = Permit::own(facts.operation, tenant.clone(), record.name.clone(), StopEpoch::END);
        self.record_intent(scene, facts, permit).await
    }

    /// A caller of a dev directory with a token, made at start and written to `dev.env`: the secret is shown nowhere else.
    ///
    /// # Errors
    /// `unsupported` outside of a dev directory.
    pub async fn issue_dev_token(
        &self,
        tenant: &TenantId,
        caller: &CallerName,
        seconds: u64,
    ) -> Result<(crate::id::TokenId, Secret), Error> {
        if !self.is_dev {
            let detail = "tokens without a custodian exist in dev directories only";
            return Err(Error::new(ErrorKind::Unsupported, Stage::Start, detail));
        }
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let now = self.engines.world.now();
        let operation = self.new_operation()?;
        let own = own_caller(tenant)?;
        let inbound = own_inbound(operation, tenant, now, self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, Action::IssueToken);
        facts.subject = Some(caller.as_str().into());
        let mut record = view.data.callers.iter().find(|kept| kept.name == *caller).map_or_else(
            || Err(Error::new(ErrorKind::NotFound, Stage::Start, "the dev tenant has no such caller")),
            |record| Ok(CallerRecord::clone(record)),
        )?;
        let (token, secret) = plan::new_token(&self.engines.world, now, seconds)?;
        let id = token.id;
        record.tokens.retain(|kept| kept.expires > now);
        // Each start issues one; only the newest few are worth keeping.
        while record.tokens.len() > 7 {
            record.tokens.remove(0);
        }
        record.tokens.push(token);
        let before = &view.data.record;
        let raised = TenantRecord { epoch: before.epoch.next(), ..before.clone() };
        let changes = vec![
            StateChange::Tenant { record: raised, expected: Some(before.epoch) },
            StateChange::Caller { tenant: tenant.clone(), record },
        ];
        self.change_own(&scene, facts, changes).await?;
        Ok((id, secret))
    }
}

/// The gateway as a caller of itself.
pub(super) fn own_caller(tenant: &TenantId) -> Result<Caller, Error> {
    let name: CallerName = "gateway".parse().map_err(|error: crate::id::InvalidId| {
        Error::new(ErrorKind::Internal, Stage::Start, error.to_string())
    })?;
    let record = CallerRecord {
        name,
        kind: CallerKind::Operator,
        groups: vec![],
        credentials: vec![],
        tokens: vec![],
        suspended: false,
    };
    Ok(Caller {
        tenant: tenant.clone(),
        record: Arc::new(record),
        authentication: Authentication::Gateway,
        own: None,
    })
}

pub(super) fn not_loaded() -> Error {
    Error::new(ErrorKind::Internal, Stage::Start, "a tenant that was just written is not loaded")
}
