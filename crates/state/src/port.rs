//! The port: thin, each method a look into the cache or a question to one of the threads.

use crate::apply;
use crate::store::EmbeddedState;
use holdfast_core::key::{Key, Version};
use holdfast_core::pipeline::{Intent, OpenIntent};
use holdfast_core::port::{Committed, Health, KeyEntry, Page, State, StateChange, World};
use holdfast_core::tenant::{PolicyVersion, TenantData};
use holdfast_core::{Error, KeyId, KeyName, KeyVersion, OperationId, Stage, TenantId};
use std::sync::Arc;

impl<W: World> EmbeddedState<W> {
    /// Every tenant's id, without what belongs to the tenant.
    ///
    /// # Errors
    /// `state-unavailable` when the database cannot be read, or a row is not what was written.
    pub async fn tenant_ids(&self) -> Result<Vec<TenantId>, Error> {
        self.readers(Stage::Start)?.read(Stage::Start, |source| source.tenant_ids()).await
    }
}

/// What the port leaves open is settled so:
///
/// - A name leads to the key that holds it: the one that is not destroyed, or else the last one that was. `key` and `keys` show only
///   that one; earlier namesakes stay on record and are found by their ids.
/// - A commit that leaves a tenant without a policy or a key without its newest version is refused as `internal`, one that speaks of a
///   tenant or key that does not exist, or removes what is not there, as `conflict`.
/// - After an I/O error of the sync itself a commit counts as failed; should the process be killed before anything else is written, the
///   next start may find it done, and `committed` says so.
impl<W: World> State for EmbeddedState<W> {
    async fn tenants(&self) -> Result<Vec<TenantData>, Error> {
        self.readers(Stage::Resolve)?.read(Stage::Resolve, |source| source.tenants()).await
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantData>, Error> {
        let tenant = tenant.clone();
        self.readers(Stage::Resolve)?.read(Stage::Resolve, move |source| source.tenant(&tenant)).await
    }

    async fn key(&self, tenant: &TenantId, name: &KeyName) -> Result<Option<Arc<KeyEntry>>, Error> {
        let miss = match self.shared.cached_key(tenant, name) {
            Ok(entry) => return Ok(Some(entry)),
            Err(miss) => miss,
        };
        let (tenant, name) = (tenant.clone(), name.clone());
        let read =
            self.readers(Stage::Resolve)?.read(Stage::Resolve, move |source| source.entry(&tenant, &name));
        let entry = read.await?.map(Arc::new);
        if let Some(entry) = &entry {
            self.shared.keep_key(miss, entry);
        }
        Ok(entry)
    }

    async fn version(&self, key: KeyId, number: KeyVersion) -> Result<Option<Arc<Version>>, Error> {
        let miss = match self.shared.cached_version(key, number) {
            Ok(version) => return Ok(Some(version)),
            Err(miss) => miss,
        };
        let read =
            self.readers(Stage::Resolve)?.read(Stage::Resolve, move |source| source.version(key, number));
        let version = read.await?.map(Arc::new);
        if let Some(version) = &version {
            self.shared.keep_version(miss, version);
        }
        Ok(version)
    }

    async fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyName>,
        limit: usize,
    ) -> Result<Page<Key>, Error> {
        let (tenant, after) = (tenant.clone(), after.cloned());
        self.readers(Stage::Resolve)?
            .read(Stage::Resolve, move |source| source.keys(&tenant, after.as_ref(), limit))
            .await
    }

    async fn versions(
        &self,
        key: KeyId,
        after: Option<KeyVersion>,
        limit: usize,
    ) -> Result<Page<Version>, Error> {
        self.readers(Stage::Resolve)?
            .read(Stage::Resolve, move |source| source.versions(key, after, limit))
            .await
    }

    async fn policy(&self, tenant: &TenantId, version: u64) -> Result<Option<PolicyVersion>, Error> {
        let tenant = tenant.clone();
        self.readers(Stage::Resolve)?
            .read(Stage::Resolve, move |source| source.policy(&tenant, version))
            .await
    }

    async fn count(&self, key: KeyId, version: KeyVersion, invocations: u64) -> Result<u64, Error> {
        self.count_invocations(key, version, invocations).await
    }

    async fn commit(&self, intent: &Intent, changes: Vec<StateChange>) -> Result<Committed, Error> {
        self.apply(intent.operation(), intent.order().cloned(), changes).await
    }

    async fn committed(&self, operation: OperationId) -> Result<Option<Committed>, Error> {
        self.readers(Stage::Start)?
            .read(Stage::Start, move |source| apply::remembered(source.connection, source.seal, operation))
            .await
    }

    async fn orders_since(&self, sequence: u64) -> Result<Vec<OpenIntent>, Error> {
        self.readers(Stage::Start)?
            .read(Stage::Start, move |source| apply::orders_since(source.connection, source.seal, sequence))
            .await
    }

    async fn forget_replaced(&self) -> Result<bool, Error> {
        self.empty_write_ahead().await
    }

    fn position(&self) -> Committed {
        self.shared.position()
    }

    fn health(&self) -> Health {
        self.live_health()
    }
}
