//! Keys that are made in the gateway's memory and brought into the tokens, because they have an emergency copy. The copy lies in the sealed handle,
//! beside where the token has the key.

use super::import::Brought;
use super::make::Tried;
use super::{Role, TokenStore};
use crate::pkcs11::reference::Reference;
use crate::refusal;
use crate::sealing::seal::{Binding, Kind};
use crate::sealing::vault::Vault;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, TokenOrigin};
use holdfast_core::port::World;
use holdfast_core::{Error, Secret};

/// A key that was made to be brought in, with its copy.
pub(crate) struct Copied {
    /// The bytes of a secret key, PKCS#8 of a private one.
    pub(crate) bytes: Secret,
    /// Its public half, DER SubjectPublicKeyInfo, if it has one.
    pub(crate) spki: Vec<u8>,
    /// Its emergency copy.
    pub(crate) copy: Vec<u8>,
    /// What its evidence says of that.
    pub(crate) origin: TokenOrigin,
}

impl<W: World> TokenStore<W> {
    /// Whether a version could be brought in at all.
    ///
    /// # Errors
    /// `unsupported`.
    pub(crate) fn check_copied(&self, version: &NewVersion<'_>) -> Result<(), Error> {
        if version.exportable {
            return Err(refusal::unsupported("a token does not give its keys away")
                .remedy("create the key without `exportable`"));
        }
        if Role::of(version.algorithm) == Role::Elsewhere {
            return Err(refusal::unsupported("no token has this algorithm, and no emergency copy is needed")
                .remedy("choose `aes-256-gcm`, or leave the emergency copy out"));
        }
        Ok(())
    }

    /// Brings a key in and seals its reference together with its copy.
    pub(crate) async fn make_copied(
        &self,
        version: NewVersion<'_>,
        copied: Copied,
    ) -> Result<Generated, Error> {
        let Copied { bytes, spki, copy, origin } = copied;
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let Tried { reference, public, commitment, evidence } =
            self.bring(&version, Brought { bytes, spki, origin }).await?;
        let reference = Reference { emergency: Some(copy), ..reference };
        let binding = Binding::of_new(Kind::Reference, &version);
        let handle = tenant.sealer.seal(&*self.vault.world, &binding, &reference.to_bytes()?)?;
        Ok(Generated { handle, public, commitment, custody: Custody::Token, evidence })
    }
}

/// The emergency copy of a version, which no token is needed for.
///
/// # Errors
/// `unsupported` for a version without one; `key-store-unavailable` for a handle that does not open.
pub(crate) fn copy_of<W: World>(vault: &Vault<W>, material: &KeyMaterial<'_>) -> Result<Vec<u8>, Error> {
    let tenant = vault.tenant(material.tenant, material.tenant_handle)?;
    let opened = tenant.open(&Binding::of(Kind::Reference, material), material.handle)?;
    Reference::parse(opened.expose())?
        .emergency
        .ok_or_else(|| refusal::unsupported("the version was made without an emergency copy"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here is a test")]
mod tests {
    use super::*;
    use crate::pkcs11::reference::Paddings;
    use crate::root::RootKey;
    use crate::software::fixture::Entropy;
    use holdfast_core::algorithm::Algorithm;
    use holdfast_core::frame::Commitment;
    use holdfast_core::key::SealedHandle;
    use holdfast_core::{ErrorKind, KeyId, KeyVersion, TenantId};
    use std::sync::Arc;

    #[test]
    fn a_copy_is_found_while_its_tenant_s_sealing_key_changes_and_when_it_has_changed() {
        let root = RootKey::new(Secret::new(vec![7; 32])).unwrap();
        let vault = Vault::open(root, Arc::new(Entropy), 4).unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let (before, empty) = (vault.enroll(&tenant).unwrap(), SealedHandle::new(&[]));
        let version = KeyMaterial {
            tenant: &tenant,
            tenant_handle: &before,
            key: KeyId::from_bytes([1; 16]),
            version: KeyVersion::FIRST,
            algorithm: Algorithm::Aes256Gcm,
            exportable: false,
            commitment: &Commitment::NONE,
            handle: &empty,
        };
        let reference = Reference {
            id: [7; 16],
            paddings: Paddings::default(),
            copy: None,
            adopted: None,
            emergency: Some(b"the copy".to_vec()),
            imported: false,
            spki: vec![],
        };
        let sealer = &vault.tenant(&tenant, &before).unwrap().sealer;
        let bytes = reference.to_bytes().unwrap();
        let handle = sealer.seal(&Entropy, &Binding::of(Kind::Reference, &version), &bytes).unwrap();
        let both = vault.change(&tenant, &before).unwrap().handle;
        let changing = KeyMaterial { tenant_handle: &both, handle: &handle, ..version };
        for version in [KeyMaterial { handle: &handle, ..version }, changing] {
            assert_eq!(copy_of(&vault, &version).unwrap(), b"the copy");
        }
        // Sealed anew, it needs the one that left no more; without that nothing of before opens.
        let over = vault.reseal(&changing).unwrap();
        let after = vault.retire(&tenant, &both).unwrap();
        let changed = KeyMaterial { tenant_handle: &after, handle: &over, ..version };
        assert_eq!(copy_of(&vault, &changed).unwrap(), b"the copy");
        let lost = KeyMaterial { handle: &handle, ..changed };
        assert_eq!(copy_of(&vault, &lost).unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
    }
}
