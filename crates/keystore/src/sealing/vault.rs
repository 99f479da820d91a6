//! The sealing keys: the root key's and the tenants'. What any key store gives to the state to keep is sealed under them.

use super::cache::{Cache, CacheKey, Lookup};
use super::seal::{Binding, Sealer, TENANT_KEY_LEN};
use crate::refusal;
use crate::root::{RootKey, SealerId};
use holdfast_core::key::{KeyMaterial, SealedHandle};
use holdfast_core::port::World;
use holdfast_core::{Error, Secret, TenantId};
use std::sync::Arc;

/// The sealing keys.
pub(crate) struct Vault<W> {
    pub(crate) world: Arc<W>,
    root: Sealer,
    tenants: Cache<TenantId, Tenant>,
}

/// A tenant's sealing key, ready.
pub(crate) struct Tenant {
    handle: SealedHandle,
    pub(crate) sealer: Sealer,
}

impl CacheKey for TenantId {
    fn spread(&self) -> u64 {
        // FNV-1a: names are chosen by operators, not by strangers.
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
    }
}

impl<W: World> Vault<W> {
    /// Under a root key, which is kept in derived form only, with about so many tenants' keys held ready.
    pub(crate) fn open(root: RootKey, world: Arc<W>, cached_tenants: usize) -> Result<Self, Error> {
        let sealer = Sealer::of_root(&root)?;
        drop(root);
        Ok(Self { world, root: sealer, tenants: Cache::new(cached_tenants) })
    }

    /// The root key's public name.
    pub(crate) fn root_id(&self) -> SealerId {
        self.root.id()
    }

    /// Makes a tenant's sealing key.
    pub(crate) fn enroll(&self, tenant: &TenantId) -> Result<SealedHandle, Error> {
        let key = Secret::fill_with(TENANT_KEY_LEN, |out| self.world.fill(out))?;
        self.root.seal(&*self.world, &Binding::Tenant(tenant), &key)
    }

    /// A tenant's sealing key.
    pub(crate) fn tenant(&self, tenant: &TenantId, handle: &SealedHandle) -> Result<Arc<Tenant>, Error> {
        let ticket = match self.tenants.get(tenant) {
            Lookup::Hit(held, _) if held.handle == *handle => return Ok(held),
            Lookup::Hit(_, ticket) | Lookup::Miss(ticket) => ticket,
        };
        let key = self.root.open(&Binding::Tenant(tenant), handle)?;
        let held = Arc::new(Tenant { handle: handle.clone(), sealer: Sealer::of_tenant(&key)? });
        self.tenants.insert(tenant.clone(), Arc::clone(&held), ticket);
        Ok(held)
    }

    /// Whether a version's blob still opens under its tenant's key, and that under the root key. Nothing of it is kept or used.
    pub(crate) fn examine(&self, version: &KeyMaterial<'_>, binding: &Binding<'_>) -> Result<(), Error> {
        let key = self.root.open(&Binding::Tenant(version.tenant), version.tenant_handle)?;
        Sealer::of_tenant(&key)?.open(binding, version.handle).map(drop)
    }

    /// Seals and opens under the root key, as every cold operation must.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        let tenant = TenantId::gateway();
        let binding = Binding::Tenant(&tenant);
        let sent = Secret::fill_with(TENANT_KEY_LEN, |out| self.world.fill(out))?;
        let back = self.root.open(&binding, &self.root.seal(&*self.world, &binding, &sent)?)?;
        if back == sent { Ok(()) } else { Err(refusal::defect("what was sealed opens as something else")) }
    }
}
