//! The sealing keys: the root key's and the tenants'. What any key store gives to the state to keep is sealed under them.
//!
//! A tenant's handle is its sealing key, sealed under the root key; while that changes, the newest one and then the one before, each of
//! [`TENANT_BLOB_LEN`] bytes. Each sealed blob names the one that opens it.

use super::cache::{Cache, CacheKey, Lookup};
use super::seal::{Binding, SealedBlob, Sealer, TENANT_BLOB_LEN, TENANT_KEY_LEN};
use crate::refusal;
use crate::root::{RootKey, SealerId};
use holdfast_core::key::{KeyMaterial, SealedHandle};
use holdfast_core::port::{ChangedSealing, World};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::{Error, Secret, TenantId};
use std::sync::Arc;

/// The sealing keys.
pub(crate) struct Vault<W> {
    pub(crate) world: Arc<W>,
    root: Sealer,
    tenants: Cache<TenantId, Tenant>,
}

/// A tenant's sealing keys, ready.
pub(crate) struct Tenant {
    handle: SealedHandle,
    /// The newest: what is new is sealed under it.
    pub(crate) sealer: Sealer,
    /// The one before, while something is under it.
    leaving: Option<Sealer>,
}

impl Tenant {
    /// Opens a blob that was sealed for exactly this binding, under whichever sealing key it names.
    pub(crate) fn open(&self, binding: &Binding<'_>, handle: &SealedHandle) -> Result<Secret, Error> {
        let named = SealedBlob::parse(handle.as_bytes()).map(|blob| blob.sealer);
        match &self.leaving {
            Some(leaving) if named == Some(leaving.id()) => leaving.open(binding, handle),
            Some(_) | None => self.sealer.open(binding, handle),
        }
    }
}

/// The sealing keys of a tenant's handle, each sealed: the newest, and the one before while there is one.
pub(super) fn sealing_keys_of(handle: &SealedHandle) -> (SealedHandle, Option<SealedHandle>) {
    match handle.as_bytes().split_at_checked(TENANT_BLOB_LEN) {
        Some((newest, leaving)) if leaving.len() == TENANT_BLOB_LEN => {
            (SealedHandle::new(newest), Some(SealedHandle::new(leaving)))
        }
        // Whatever else it is, it opens or it does not.
        Some(_) | None => (handle.clone(), None),
    }
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
        let held = Arc::new(self.load(tenant, handle)?);
        self.tenants.insert(tenant.clone(), Arc::clone(&held), ticket);
        Ok(held)
    }

    fn load(&self, tenant: &TenantId, handle: &SealedHandle) -> Result<Tenant, Error> {
        let (newest, leaving) = sealing_keys_of(handle);
        let sealer = |blob| Sealer::of_tenant(&self.root.open(&Binding::Tenant(tenant), blob)?);
        Ok(Tenant {
            handle: handle.clone(),
            sealer: sealer(&newest)?,
            leaving: leaving.as_ref().map(sealer).transpose()?,
        })
    }

    /// As [`holdfast_core::port::KeyStore::change_sealing_key`].
    pub(crate) fn change(&self, tenant: &TenantId, handle: &SealedHandle) -> Result<ChangedSealing, Error> {
        let before = self.load(tenant, handle)?;
        if before.leaving.is_some() {
            return Err(refusal::defect("a tenant's sealing key is changed while it changes"));
        }
        let key = Secret::fill_with(TENANT_KEY_LEN, |out| self.world.fill(out))?;
        let newest = Sealer::of_tenant(&key)?.id();
        let sealed = self.root.seal(&*self.world, &Binding::Tenant(tenant), &key)?;
        Ok(ChangedSealing {
            handle: SealedHandle::new(&[sealed.as_bytes(), handle.as_bytes()].concat()),
            leaving: SealingKeyId::from_bytes(*before.sealer.id().as_bytes()),
            newest: SealingKeyId::from_bytes(*newest.as_bytes()),
        })
    }

    /// As [`holdfast_core::port::KeyStore::reseal`].
    pub(crate) fn reseal(&self, version: &KeyMaterial<'_>) -> Result<SealedHandle, Error> {
        let blob = SealedBlob::parse(version.handle.as_bytes());
        let kind = blob.ok_or_else(|| refusal::sealed("a sealed key is damaged"))?.kind;
        let binding = Binding::of(kind, version);
        let tenant = self.tenant(version.tenant, version.tenant_handle)?;
        let opened = tenant.open(&binding, version.handle)?;
        tenant.sealer.seal(&*self.world, &binding, &opened)
    }

    /// As [`holdfast_core::port::KeyStore::retire_sealing_key`].
    pub(crate) fn retire(&self, tenant: &TenantId, handle: &SealedHandle) -> Result<SealedHandle, Error> {
        let (newest, Some(_leaving)) = sealing_keys_of(handle) else {
            return Err(refusal::defect("a tenant has one sealing key only"));
        };
        // A handle that does not open would take all of the tenant's keys with it.
        self.root.open(&Binding::Tenant(tenant), &newest)?;
        self.tenants.forget(tenant, |held| held == tenant);
        Ok(newest)
    }

    /// As [`holdfast_core::port::KeyStore::sealing_key_of`].
    pub(crate) fn sealing_key_of(handle: &SealedHandle) -> Option<SealingKeyId> {
        let blob = SealedBlob::parse(handle.as_bytes())?;
        Some(SealingKeyId::from_bytes(*blob.sealer.as_bytes()))
    }

    /// Whether a version's blob still opens under its tenant's key, and that under the root key. Nothing of it is kept or used.
    pub(crate) fn examine(&self, version: &KeyMaterial<'_>, binding: &Binding<'_>) -> Result<(), Error> {
        self.load(version.tenant, version.tenant_handle)?.open(binding, version.handle).map(drop)
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

#[cfg(test)]
mod tests {
    use super::super::reroot::Rerooting;
    use super::super::seal::Kind;
    use super::*;
    use crate::software::fixture::Entropy;
    use holdfast_core::algorithm::Algorithm;
    use holdfast_core::{KeyId, KeyVersion};

    const KINDS: [Kind; 5] =
        [Kind::Material, Kind::Reference, Kind::Imported, Kind::ImportKey, Kind::ImportReference];

    fn root(byte: u8) -> RootKey {
        RootKey::new(Secret::new(vec![byte; 32])).unwrap()
    }

    fn vault(byte: u8) -> Vault<Entropy> {
        Vault::open(root(byte), Arc::new(Entropy), 4).unwrap()
    }

    /// A tenant of a vault, by one of its handles.
    struct House<'a> {
        vault: &'a Vault<Entropy>,
        tenant: TenantId,
        handle: SealedHandle,
    }

    impl<'a> House<'a> {
        fn new(vault: &'a Vault<Entropy>) -> Self {
            let tenant: TenantId = "acme".parse().unwrap();
            let handle = vault.enroll(&tenant).unwrap();
            Self { vault, tenant, handle }
        }

        fn with(&self, handle: SealedHandle) -> Self {
            Self { vault: self.vault, tenant: self.tenant.clone(), handle }
        }

        fn version<'b>(&'b self, handle: &'b SealedHandle) -> KeyMaterial<'b> {
            KeyMaterial {
                tenant: &self.tenant,
                tenant_handle: &self.handle,
                key: KeyId::from_bytes([3; 16]),
                version: KeyVersion::FIRST,
                algorithm: Algorithm::Aes256Gcm,
                exportable: false,
                handle,
            }
        }

        fn seal(&self, kind: Kind) -> SealedHandle {
            let empty = SealedHandle::new(&[]);
            let sealer = &self.vault.tenant(&self.tenant, &self.handle).unwrap().sealer;
            let secret = Secret::new(vec![kind as u8; 48]);
            sealer.seal(&Entropy, &Binding::of(kind, &self.version(&empty)), &secret).unwrap()
        }

        fn opens(&self, kind: Kind, handle: &SealedHandle) -> bool {
            let tenant = self.vault.tenant(&self.tenant, &self.handle).unwrap();
            let opened = tenant.open(&Binding::of(kind, &self.version(handle)), handle);
            opened.is_ok_and(|secret| secret == Secret::new(vec![kind as u8; 48]))
        }
    }

    #[test]
    fn whatever_lies_under_a_sealing_key_opens_while_it_changes_and_goes_over() {
        let vault = vault(1);
        let before = House::new(&vault);
        let sealed = KINDS.map(|kind| before.seal(kind));
        let ChangedSealing { handle, leaving, newest } =
            vault.change(&before.tenant, &before.handle).unwrap();
        let both = before.with(handle);
        assert!(sealed.iter().all(|handle| Vault::<Entropy>::sealing_key_of(handle) == Some(leaving)));
        let after = both.with(vault.retire(&both.tenant, &both.handle).unwrap());
        for (kind, sealed) in KINDS.into_iter().zip(&sealed) {
            assert!(both.opens(kind, sealed) && both.opens(kind, &both.seal(kind)));
            let over = vault.reseal(&both.version(sealed)).unwrap();
            assert_eq!(Vault::<Entropy>::sealing_key_of(&over), Some(newest));
            assert_eq!(SealedBlob::parse(over.as_bytes()).unwrap().kind, kind);
            assert!(both.opens(kind, &over) && after.opens(kind, &over) && !before.opens(kind, &over));
            assert!(!after.opens(kind, sealed), "{kind:?}");
            // One that has gone over already goes over again.
            let again = vault.reseal(&both.version(&over)).unwrap();
            assert!(after.opens(kind, &again));
        }
        assert_eq!(after.handle.as_bytes().len(), before.handle.as_bytes().len());
        assert_eq!(Vault::<Entropy>::sealing_key_of(&after.seal(Kind::Material)), Some(newest));
    }

    #[test]
    fn what_is_bound_to_something_else_does_not_go_over() {
        let vault = vault(1);
        let before = House::new(&vault);
        let sealed = before.seal(Kind::Material);
        let both = before.with(vault.change(&before.tenant, &before.handle).unwrap().handle);
        let right = both.version(&sealed);
        assert!(vault.reseal(&right).is_ok());
        assert!(vault.reseal(&KeyMaterial { exportable: true, ..right }).is_err());
        assert!(vault.reseal(&KeyMaterial { key: KeyId::from_bytes([4; 16]), ..right }).is_err());
        let garbage = SealedHandle::new(b"garbage");
        assert!(vault.reseal(&KeyMaterial { handle: &garbage, ..right }).is_err());
        assert_eq!(Vault::<Entropy>::sealing_key_of(&garbage), None);
    }

    #[test]
    fn no_third_sealing_key_is_made_and_the_only_one_is_never_dropped() {
        let vault = vault(1);
        let before = House::new(&vault);
        assert!(vault.retire(&before.tenant, &before.handle).is_err());
        let both = vault.change(&before.tenant, &before.handle).unwrap().handle;
        assert!(vault.change(&before.tenant, &both).is_err());
        // Neither is one dropped for one that does not open.
        let mut damaged = both.as_bytes().to_vec();
        damaged[40] ^= 1;
        assert!(vault.retire(&before.tenant, &SealedHandle::new(&damaged)).is_err());
        assert!(vault.tenant(&before.tenant, &SealedHandle::new(&damaged)).is_err());
        let exchanged = [&both.as_bytes()[TENANT_BLOB_LEN..], &both.as_bytes()[..TENANT_BLOB_LEN]].concat();
        assert!(vault.tenant(&before.tenant, &SealedHandle::new(&exchanged)).is_ok(), "either opens");
        let strange = "acme2".parse().unwrap();
        assert!(vault.tenant(&strange, &both).is_err());
    }

    #[test]
    fn another_root_key_takes_both() {
        let (earlier, later) = (vault(1), vault(2));
        let before = House::new(&earlier);
        let sealed = before.seal(Kind::Material);
        let both = before.with(earlier.change(&before.tenant, &before.handle).unwrap().handle);
        let over = earlier.reseal(&both.version(&sealed)).unwrap();
        let rerooting = Rerooting::new(&root(1), &root(2)).unwrap();
        let handle = rerooting.reseal(&both.tenant, &both.handle, &Entropy).unwrap();
        let there = House { vault: &later, tenant: both.tenant.clone(), handle };
        assert!(there.opens(Kind::Material, &sealed) && there.opens(Kind::Material, &over));
        let alone = there.with(later.retire(&there.tenant, &there.handle).unwrap());
        assert!(alone.opens(Kind::Material, &over) && !alone.opens(Kind::Material, &sealed));
    }
}
