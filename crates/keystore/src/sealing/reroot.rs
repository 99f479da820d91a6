//! Tenants' sealing keys, taken from under one root key to another. What they seal stays as it is.

use super::seal::{Binding, Sealer};
use crate::root::RootKey;
use holdfast_core::key::SealedHandle;
use holdfast_core::port::World;
use holdfast_core::{Error, TenantId};

/// Two root keys.
pub struct Rerooting {
    from: Sealer,
    to: Sealer,
}

impl Rerooting {
    /// From one root key to another.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the cryptographic library fails.
    pub fn new(from: &RootKey, to: &RootKey) -> Result<Self, Error> {
        Ok(Self { from: Sealer::of_root(from)?, to: Sealer::of_root(to)? })
    }

    /// The same sealing key of a tenant, under the other root key.
    ///
    /// # Errors
    /// `key-store-unavailable`, when it does not open under the first one.
    pub fn reseal<W: World>(
        &self,
        tenant: &TenantId,
        handle: &SealedHandle,
        world: &W,
    ) -> Result<SealedHandle, Error> {
        let binding = Binding::Tenant(tenant);
        let key = self.from.open(&binding, handle)?;
        self.to.seal(world, &binding, &key)
    }
}
