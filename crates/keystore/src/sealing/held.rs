//! Key versions between uses, each with everything that it is bound to: a hit is for exactly what is asked for.

use super::cache::{Cache, CacheKey, Lookup, Ticket};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::key::{KeyMaterial, SealedHandle};
use holdfast_core::{KeyId, KeyVersion, TenantId};
use std::sync::Arc;

/// The versions that stand ready, as a store uses them.
pub(crate) struct Versions<T>(Cache<VersionKey, Held<T>>);

/// A key version, ready.
pub(crate) struct Held<T> {
    tenant: TenantId,
    tenant_handle: SealedHandle,
    pub(crate) algorithm: Algorithm,
    exportable: bool,
    handle: SealedHandle,
    pub(crate) ready: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct VersionKey {
    key: KeyId,
    version: KeyVersion,
}

impl CacheKey for VersionKey {
    fn spread(&self) -> u64 {
        // The random end of the id; all versions of a key together.
        let [.., a, b, c, d, e, f, g, h] = *self.key.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl<T> Held<T> {
    fn fits(&self, asked: &KeyMaterial<'_>) -> bool {
        let Self { tenant, tenant_handle, algorithm, exportable, handle, ready: _ } = self;
        tenant == asked.tenant
            && tenant_handle == asked.tenant_handle
            && *algorithm == asked.algorithm
            && *exportable == asked.exportable
            && handle == asked.handle
    }
}

impl<T> Versions<T> {
    /// About so many.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    /// The version, if it stands ready under this very binding; otherwise a ticket to put it in with. The blob decides then.
    pub(crate) fn find(&self, material: &KeyMaterial<'_>) -> Result<Arc<Held<T>>, Ticket> {
        match self.0.get(&VersionKey { key: material.key, version: material.version }) {
            Lookup::Hit(held, _) if held.fits(material) => Ok(held),
            Lookup::Hit(_, ticket) | Lookup::Miss(ticket) => Err(ticket),
        }
    }

    /// Puts in what was loaded since the look-up that gave `ticket`.
    pub(crate) fn insert(&self, material: &KeyMaterial<'_>, ready: T, ticket: Ticket) -> Arc<Held<T>> {
        let KeyMaterial { tenant, tenant_handle, key, version, algorithm, exportable, commitment: _, handle } =
            *material;
        let held = Arc::new(Held {
            tenant: tenant.clone(),
            tenant_handle: tenant_handle.clone(),
            algorithm,
            exportable,
            handle: handle.clone(),
            ready,
        });
        self.0.insert(VersionKey { key, version }, Arc::clone(&held), ticket);
        held
    }

    /// Drops every version of a key, and what is being loaded of it.
    pub(crate) fn forget(&self, key: KeyId) {
        self.0.forget(&VersionKey { key, version: KeyVersion::FIRST }, |held| held.key == key);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
