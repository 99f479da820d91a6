//! Reading records: decided and recorded like everything else.

use super::proof::{Permit, Read, Released, Withheld};
use super::record::{Facts, NamedKey, Scene};
use super::use_key::Recognised;
use super::{Inbound, NO_CONTEXT, Pipeline};
use crate::caller::{Authentication, Caller};
use crate::error::{Error, ErrorKind, Stage};
use crate::port::{
    AuditLog, Circumstances, Decide, KeyEntry, KeyStore, Mark, Ports, Question, Resource, State,
};
use crate::query::{Found, MAX_PAGE, Query, Traces};
use crate::stop::StopEpoch;
use std::sync::Arc;

impl<P: Ports> Pipeline<P> {
    /// Reads records.
    ///
    /// # Errors
    /// Whatever refused it, after that has been recorded; `unauthenticated` is counted instead, since it is nobody's.
    pub async fn query(&self, inbound: &Inbound<'_>, query: Query) -> Result<Released<Found>, Error> {
        self.query_as(&self.recognise(inbound)?, query).await
    }

    /// Reads records, as a caller that has been recognised.
    ///
    /// # Errors
    /// Whatever refused it, after that has been recorded.
    pub async fn query_as(
        &self,
        recognised: &Recognised<'_, P>,
        query: Query,
    ) -> Result<Released<Found>, Error> {
        let again = match self.again(recognised) {
            Ok(again) => again,
            Err(gone) => return Err(self.turn_away(recognised, (query.action(), query.key()), gone).await),
        };
        let Recognised { view, caller, inbound, epoch } = again.as_deref().unwrap_or(recognised);
        let scene = Scene { view, caller, inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(inbound.operation, query.action());
        facts.subject = subject(&query);
        let withheld = match self.look_up(&scene, &mut facts, *epoch, query).await {
            Ok(withheld) => withheld,
            Err(error) => return Err(self.refuse(&scene, &facts, Mark::Plain, error).await),
        };
        let (result, recording) = self.record_result(&scene, &facts, withheld)?;
        let receipt = recording.durable(&self.engines.log).await?;
        match result {
            Ok(withheld) => withheld.release(receipt, &self.stops),
            Err(error) => Err(receipt.refuse(error)),
        }
    }

    async fn look_up(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        query: Query,
    ) -> Result<Withheld<Found>, Error> {
        let tenant = &scene.caller.tenant;
        let mut entry: Option<Arc<KeyEntry>> = None;
        let resource = match query.key() {
            None => Resource::Tenant(tenant),
            Some(name) => {
                facts.key = Some(NamedKey::unknown(name.clone()));
                let found = self.resolve(scene, facts, epoch, name).await?;
                facts.key = Some(NamedKey::of(&found.key, None));
                Resource::Key(&entry.insert(found).key)
            }
        };
        let permit: Permit<Read> = self.decide(scene, facts, epoch, &[(facts.action, resource)])?;
        let found = self.read(scene, query, entry.as_ref()).await?;
        Ok(Withheld::read(permit, found))
    }

    async fn read(
        &self,
        scene: &Scene<'_, P>,
        query: Query,
        entry: Option<&Arc<KeyEntry>>,
    ) -> Result<Found, Error> {
        let tenant = &scene.caller.tenant;
        let state = &self.engines.state;
        let data = &scene.view.data;
        match query {
            Query::Key(_) => {
                let entry = entry.ok_or_else(super::no_such_key)?;
                let backups = self.backups_of(&entry.key);
                let sealing_keys = super::sealing_key::of_destroyed(&entry.key, &data.record.sealing);
                let traces = Traces { backups, sealing_keys };
                Ok(Found::Key(Box::new(entry.key.clone()), Arc::clone(&entry.current), traces))
            }
            Query::Copy(_) => {
                let key = &entry.ok_or_else(super::no_such_key)?.key;
                let copy = self.engines.keys.copy_state(key.id, scene.inbound.now);
                Ok(Found::Copy(Box::new(key.clone()), copy))
            }
            Query::Versions { key: _, after, limit } => {
                let entry = entry.ok_or_else(super::no_such_key)?;
                Ok(Found::Versions(state.versions(entry.key.id, after, page(limit)?).await?))
            }
            Query::Keys { after, limit } => {
                Ok(Found::Keys(state.keys(tenant, after.as_ref(), page(limit)?).await?))
            }
            Query::Callers => Ok(Found::Callers(data.callers.clone(), data.anchors.clone())),
            Query::Policy { version: None } => Ok(Found::Policy(data.policy.clone())),
            Query::Policy { version: Some(version) } => {
                let found = state.policy(tenant, version).await?.ok_or_else(|| {
                    let detail = format!("there is no policy version {version}");
                    Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
                })?;
                Ok(Found::Policy(found))
            }
            Query::CheckPolicy { text } => {
                // What cannot be read is what a check is there to find.
                let examined = self.engines.decide.examine(scene.caller, &data.callers, &text).await?;
                Ok(Found::Findings(examined.findings))
            }
            Query::ExplainPolicy { caller, action, key, context } => {
                let record = data.callers.iter().find(|record| record.name == caller).ok_or_else(|| {
                    let detail = format!("there is no caller `{caller}`");
                    Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
                })?;
                let caller = Caller {
                    tenant: tenant.clone(),
                    record: Arc::clone(record),
                    authentication: Authentication::MutualTls {
                        key_hash: Some([0; 32]),
                        matched: "explained".into(),
                    },
                    own: None,
                };
                let found = match &key {
                    Some(name) => state.key(tenant, name).await?,
                    None => None,
                };
                let resource = match (&found, &key) {
                    (Some(entry), _) => Resource::Key(&entry.key),
                    (None, Some(name)) => Resource::NoKey(name),
                    (None, None) => Resource::Tenant(tenant),
                };
                let Inbound { now, source, protocol, request, .. } = scene.inbound;
                let protocol = protocol.name();
                let circumstances =
                    Circumstances { context: &context, request, now: *now, source: *source, protocol };
                let question = Question { caller: &caller, action, resource, circumstances };
                let mut explanation = self.engines.decide.explain(&scene.view.policy, &question);
                if !caller.kind().may(action.group()) {
                    explanation.allowed = false;
                    explanation.reasons.push(format!(
                        "callers of kind `{}` may not do that, whatever the policy says",
                        caller.kind().name()
                    ));
                }
                Ok(Found::Explanation(explanation))
            }
            Query::Tenant => Ok(Found::Tenant(data.record.clone())),
            Query::AuditFile(path) => {
                let bytes = self.engines.log.read(&scene.view.log, &path).await?;
                Ok(Found::AuditFile(path, bytes))
            }
            Query::Status => Ok(Found::Status),
            Query::Pool => Ok(Found::Pool),
        }
    }
}

fn page(limit: usize) -> Result<usize, Error> {
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::new(ErrorKind::Malformed, Stage::Resolve, "`limit` must be 1 to 1000"))
}

/// What a query is about besides keys, for its event.
fn subject(query: &Query) -> Option<Box<str>> {
    match query {
        Query::AuditFile(path) => Some(path.as_str().into()),
        Query::Policy { version: Some(version) } => Some(format!("version {version}").into()),
        Query::ExplainPolicy { caller, action, .. } => Some(format!("{caller} {}", action.name()).into()),
        Query::Key(_)
        | Query::Copy(_)
        | Query::Versions { .. }
        | Query::Keys { .. }
        | Query::Callers
        | Query::Policy { version: None }
        | Query::CheckPolicy { .. }
        | Query::Tenant
        | Query::Status
        | Query::Pool => None,
    }
}
