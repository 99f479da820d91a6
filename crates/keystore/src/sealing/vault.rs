//! The sealing keys: the root key's and the tenants'. What any key store gives to the state to keep is sealed under them.
//!
//! A tenant's handle is its sealing key, sealed under the root key; while that changes, the newest one and then the one before, each of
//! [`TENANT_BLOB_LEN`] bytes. Each sealed blob names the one that opens it.

use super::cache::{Cache, CacheKey, Lookup};
use super::seal::{Binding, Kind, SealedBlob, Sealer, TENANT_BLOB_LEN, TENANT_KEY_LEN};
use crate::refusal;
use crate::root::{RootKey, SealerId};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::port::{ChangedSealing, World};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::{Error, ErrorKind, Secret, Stage, TenantId};
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

/// What kind of material a sealed handle holds, if it is any.
fn material_kind(handle: &SealedHandle) -> Option<Kind> {
    match SealedBlob::parse(handle.as_bytes())?.kind {
        kind @ (Kind::Material | Kind::Imported) => Some(kind),
        Kind::TenantKey | Kind::Reference | Kind::ImportKey | Kind::ImportReference | Kind::ArchiveKey => {
            None
        }
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

    /// As [`holdfast_core::port::KeyStore::new_archive`].
    pub(crate) fn new_archive(&self, key: &NewVersion<'_>) -> Result<SealedHandle, Error> {
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before: _ } = *key;
        let (none, commitment) = (SealedHandle::new(&[]), &Commitment::NONE);
        let place = KeyMaterial {
            tenant,
            tenant_handle,
            key,
            version,
            algorithm,
            exportable,
            commitment,
            handle: &none,
        };
        let secret = Secret::fill_with(TENANT_KEY_LEN, |out| self.world.fill(out))?;
        let tenant = self.tenant(tenant, tenant_handle)?;
        tenant.sealer.seal(&*self.world, &Binding::of(Kind::ArchiveKey, &place), &secret)
    }

    /// As [`holdfast_core::port::KeyStore::archive`].
    pub(crate) fn archive(
        &self,
        opener: &KeyMaterial<'_>,
        version: &KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        let kind = material_kind(version.handle).ok_or_else(|| refusal::sealed("a sealed key is damaged"))?;
        let binding = Binding::of(kind, version);
        let tenant = self.tenant(version.tenant, version.tenant_handle)?;
        let material = tenant.open(&binding, version.handle)?;
        let sealed = self.archive_sealer(opener)?.seal(&*self.world, &binding, &material)?;
        Ok(sealed.as_bytes().to_vec())
    }

    /// As [`holdfast_core::port::KeyStore::unarchive`].
    pub(crate) fn unarchive(
        &self,
        opener: &KeyMaterial<'_>,
        version: &KeyMaterial<'_>,
        sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        let strange = || {
            Error::new(
                ErrorKind::Integrity,
                Stage::Perform,
                "this is not the version's material as it was archived",
            )
            .remedy("give the archive of this key as it was written")
        };
        let sealed = SealedHandle::new(sealed);
        let binding = Binding::of(material_kind(&sealed).ok_or_else(strange)?, version);
        let material =
            self.archive_sealer(opener)?.open(&binding, &sealed).map_err(|error| strange().because(error))?;
        let tenant = self.tenant(version.tenant, version.tenant_handle)?;
        tenant.sealer.seal(&*self.world, &binding, &material)
    }

    fn archive_sealer(&self, opener: &KeyMaterial<'_>) -> Result<Sealer, Error> {
        let tenant = self.tenant(opener.tenant, opener.tenant_handle)?;
        Sealer::of_tenant(&tenant.open(&Binding::of(Kind::ArchiveKey, opener), opener.handle)?)
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
    use super::*;
    use crate::software::fixture::Entropy;
    use holdfast_core::algorithm::Algorithm;
    use holdfast_core::{KeyId, KeyVersion};

    const KINDS: [Kind; 6] = [
        Kind::Material,
        Kind::Reference,
        Kind::Imported,
        Kind::ImportKey,
        Kind::ImportReference,
        Kind::ArchiveKey,
    ];

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
                commitment: &Commitment::NONE,
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
    fn an_archive_opens_for_its_own_key_and_version_alone_and_whatever_sealing_key_is_in_force() {
        let vault = vault(1);
        let house = House::new(&vault);
        for kind in [Kind::Material, Kind::Imported] {
            let sealed = house.seal(kind);
            let version = house.version(&sealed);
            let KeyMaterial { tenant, tenant_handle, key, version: number, algorithm, exportable, .. } =
                version;
            let new = NewVersion {
                tenant,
                tenant_handle,
                key,
                version: number,
                algorithm,
                exportable,
                before: None,
            };
            let (handle, strange) = (vault.new_archive(&new).unwrap(), vault.new_archive(&new).unwrap());
            let opener = house.version(&handle);
            let archived = vault.archive(&opener, &version).unwrap();
            assert!(!house.opens(kind, &SealedHandle::new(&archived)), "not without its opener");
            let empty = SealedHandle::new(&[]);
            let place = house.version(&empty);
            let back = vault.unarchive(&opener, &place, &archived).unwrap();
            assert!(house.opens(kind, &back));
            let refused = |opener: &KeyMaterial<'_>, place: &KeyMaterial<'_>, archived: &[u8]| {
                vault.unarchive(opener, place, archived).unwrap_err().kind() == ErrorKind::Integrity
            };
            assert!(refused(&house.version(&strange), &place, &archived));
            assert!(refused(&opener, &KeyMaterial { key: KeyId::from_bytes([4; 16]), ..place }, &archived));
            assert!(refused(&opener, &KeyMaterial { exportable: true, ..place }, &archived));
            assert!(refused(&opener, &KeyMaterial { version: number.next().unwrap(), ..place }, &archived));
            assert!(refused(&opener, &place, sealed.as_bytes()), "what lay in the state is no archive");
            for index in 0..archived.len() {
                let mut changed = archived.clone();
                changed[index] ^= 1;
                assert!(refused(&opener, &place, &changed), "byte {index}");
            }

            let both = house.with(vault.change(&house.tenant, &house.handle).unwrap().handle);
            let over = vault.reseal(&both.version(&handle)).unwrap();
            let after = both.with(vault.retire(&both.tenant, &both.handle).unwrap());
            let back = vault.unarchive(&after.version(&over), &after.version(&empty), &archived).unwrap();
            assert!(after.opens(kind, &back) && !house.opens(kind, &back));
            assert!(vault.unarchive(&after.version(&handle), &after.version(&empty), &archived).is_err());
        }
        let reference = house.seal(Kind::Reference);
        let opener = house.seal(Kind::ArchiveKey);
        assert!(vault.archive(&house.version(&opener), &house.version(&reference)).is_err());
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
