//! Tenants' sealing keys, taken from under one root key to another. What they seal stays as it is.

use super::seal::{Binding, Sealer};
use super::vault::sealing_keys_of;
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

    /// The same sealing keys of a tenant, under the other root key.
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
        let reseal = |blob: &SealedHandle| {
            let key = self.from.open(&binding, blob)?;
            self.to.seal(world, &binding, &key)
        };
        let (newest, leaving) = sealing_keys_of(handle);
        let newest = reseal(&newest)?;
        match leaving {
            Some(leaving) => {
                Ok(SealedHandle::new(&[newest.as_bytes(), reseal(&leaving)?.as_bytes()].concat()))
            }
            None => Ok(newest),
        }
    }
}
