//! How keys lie on disk: sealed blobs, each bound to what it is for.
//!
//! ```text
//! blob  = "HFK" ‖ 0x01 ‖ kind (1) ‖ sealer (8) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//! kind  = 1: a tenant's sealing key, under the root key
//!         2: a key version's material, under its tenant's sealing key
//!         3: where in a token a key version is, under its tenant's sealing key
//!         4: a key version's material that came from outside, under its tenant's sealing key
//!         5: the import key that opens such material once (`import.rs`), under its tenant's sealing key
//! ```
//!
//! `sealer` names the key that opens the blob (HKDF of it, label `name of a sealing key`). The cipher is AES-256-GCM-SIV (RFC 8452)
//! with a random nonce, its key derived from the root key (label `seal tenant keys`) or the tenant's sealing key (label `seal key
//! material`) as in `derive.rs`. The associated data is a list of fields, each as its length (4 bytes, big-endian) ‖ its bytes:
//!
//! ```text
//! kind 1: "holdfast/sealed-key/v1", the blob's first 13 bytes, tenant
//! kind 2 to 5: "holdfast/sealed-key/v1", the blob's first 13 bytes, tenant, key id (16), version (4, big-endian),
//!         algorithm code (1), exportable (1: 0 or 1)
//! ```
//!
//! So material that was imported never passes for material that was made here: the kind is authenticated, and stays.
//! A blob opens for its own tenant, key, version, algorithm and exportability and for no other, and no byte of it can change.
//!
//! Test vector: sealing key `07` × 32, tenant `acme`, key id `03` × 16, version 258, `aes-256-gcm-siv`, exportable, nonce `09` × 12,
//! material `05` × 32:
//!
//! ```text
#![doc = include_str!("../../../../fixtures/keystore/sealed-blob-v1.hex")]
//! ```

use super::derive::{self, Use};
use crate::refusal;
use crate::root::{RootKey, SealerId};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::key::{KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::port::World;
use holdfast_core::{Error, KeyId, KeyVersion, Secret, TenantId};

const MAGIC: [u8; 4] = *b"HFK\x01";
const DOMAIN: &[u8] = b"holdfast/sealed-key/v1";
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 13;
/// Length of a tenant's sealing key in bytes.
pub(crate) const TENANT_KEY_LEN: usize = 32;
/// Length of one, sealed.
pub(crate) const TENANT_BLOB_LEN: usize = HEADER_LEN + NONCE_LEN + TENANT_KEY_LEN + TAG_LEN;

/// What a sealed blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A tenant's sealing key.
    TenantKey = 1,
    /// A key version's material.
    Material = 2,
    /// Where in a token a key version is.
    Reference = 3,
    /// A key version's material that came from outside.
    Imported = 4,
    /// An import key.
    ImportKey = 5,
    /// Where in a token an import key is.
    ImportReference = 6,
    /// What opens an archive of a key.
    ArchiveKey = 7,
}

impl Kind {
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::TenantKey),
            2 => Some(Self::Material),
            3 => Some(Self::Reference),
            4 => Some(Self::Imported),
            5 => Some(Self::ImportKey),
            6 => Some(Self::ImportReference),
            7 => Some(Self::ArchiveKey),
            _ => None,
        }
    }

    const fn level(self) -> Level {
        match self {
            Self::TenantKey => Level::Root,
            Self::Material
            | Self::Reference
            | Self::Imported
            | Self::ImportKey
            | Self::ImportReference
            | Self::ArchiveKey => Level::Tenant,
        }
    }
}

/// Whose key seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Tenant,
}

/// The parts of a sealed blob, not yet opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedBlob<'a> {
    /// What it holds.
    pub kind: Kind,
    /// The key that opens it.
    pub sealer: SealerId,
    /// The nonce.
    pub nonce: [u8; NONCE_LEN],
    /// Ciphertext.
    pub ciphertext: &'a [u8],
    /// Tag.
    pub tag: [u8; TAG_LEN],
}

impl<'a> SealedBlob<'a> {
    /// Splits a blob into its parts; `None` for bytes that are no such blob. Pure.
    pub fn parse(blob: &'a [u8]) -> Option<Self> {
        let (magic, rest) = blob.split_first_chunk::<4>()?;
        let ([kind], rest) = rest.split_first_chunk::<1>()?;
        let (sealer, rest) = rest.split_first_chunk::<8>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        if *magic != MAGIC || ciphertext.is_empty() {
            return None;
        }
        let kind = Kind::from_code(*kind)?;
        Some(Self { kind, sealer: SealerId(*sealer), nonce: *nonce, ciphertext, tag: *tag })
    }

    /// Puts the parts together again.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { kind, sealer, nonce, ciphertext, tag } = self;
        let mut blob = header(*kind, *sealer);
        blob.extend_from_slice(nonce);
        blob.extend_from_slice(ciphertext);
        blob.extend_from_slice(tag);
        blob
    }
}

fn header(kind: Kind, sealer: SealerId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(kind as u8);
    bytes.extend_from_slice(&sealer.0);
    bytes
}

/// What a blob is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Binding<'a> {
    /// A tenant's sealing key: to the tenant.
    Tenant(&'a TenantId),
    /// A version's material, or where that is.
    Version {
        kind: Kind,
        tenant: &'a TenantId,
        key: KeyId,
        version: KeyVersion,
        algorithm: Algorithm,
        exportable: bool,
    },
}

impl<'a> Binding<'a> {
    /// Of what is sealed for a version that is being made.
    pub(crate) fn of_new(kind: Kind, version: &NewVersion<'a>) -> Self {
        let NewVersion { tenant, tenant_handle: _, key, version, algorithm, exportable, before: _ } =
            *version;
        Self::Version { kind, tenant, key, version, algorithm, exportable }
    }

    /// Of what was sealed for a version.
    pub(crate) fn of(kind: Kind, material: &KeyMaterial<'a>) -> Self {
        let KeyMaterial {
            tenant,
            tenant_handle: _,
            key,
            version,
            algorithm,
            exportable,
            commitment: _,
            handle: _,
        } = *material;
        Self::Version { kind, tenant, key, version, algorithm, exportable }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Tenant(_) => Kind::TenantKey,
            Self::Version { kind, .. } => *kind,
        }
    }

    /// The associated data.
    fn aad(&self, sealer: SealerId) -> Vec<u8> {
        let mut aad = Vec::with_capacity(192);
        field(&mut aad, DOMAIN);
        field(&mut aad, &header(self.kind(), sealer));
        match self {
            Self::Tenant(tenant) => field(&mut aad, tenant.as_str().as_bytes()),
            Self::Version { kind: _, tenant, key, version, algorithm, exportable } => {
                field(&mut aad, tenant.as_str().as_bytes());
                field(&mut aad, key.as_bytes());
                field(&mut aad, &version.get().to_be_bytes());
                field(&mut aad, &[algorithm.code()]);
                field(&mut aad, &[u8::from(*exportable)]);
            }
        }
        aad
    }
}

fn field(aad: &mut Vec<u8>, bytes: &[u8]) {
    // Every field has a few hundred bytes at most, so the length always fits.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    aad.extend_from_slice(&length.to_be_bytes());
    aad.extend_from_slice(bytes);
}

/// A key that seals and opens blobs of one level.
pub(crate) struct Sealer {
    key: LessSafeKey,
    id: SealerId,
    level: Level,
}

impl Sealer {
    /// What the root key seals with.
    pub(crate) fn of_root(root: &RootKey) -> Result<Self, Error> {
        Self::derive(root.expose(), Use::SealTenantKeys, Level::Root)
    }

    /// What a tenant's sealing key seals with.
    pub(crate) fn of_tenant(key: &Secret) -> Result<Self, Error> {
        if key.len() != TENANT_KEY_LEN {
            return Err(refusal::sealed("a tenant's sealing key is damaged"));
        }
        Self::derive(key.expose(), Use::SealMaterial, Level::Tenant)
    }

    fn derive(secret: &[u8], purpose: Use, level: Level) -> Result<Self, Error> {
        let key = Secret::fill_with(32, |out| derive::fill(secret, purpose, out))?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.expose()).map_err(refusal::library)?;
        Ok(Self { key: LessSafeKey::new(key), id: SealerId::of(secret)?, level })
    }

    /// Its public name.
    pub(crate) fn id(&self) -> SealerId {
        self.id
    }

    /// Seals `plaintext`, which must not be empty.
    pub(crate) fn seal<W: World>(
        &self,
        world: &W,
        binding: &Binding<'_>,
        plaintext: &Secret,
    ) -> Result<SealedHandle, Error> {
        let mut nonce = [0; NONCE_LEN];
        world.fill(&mut nonce)?;
        self.seal_with(nonce, binding, plaintext)
    }

    fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        binding: &Binding<'_>,
        plaintext: &Secret,
    ) -> Result<SealedHandle, Error> {
        if plaintext.is_empty() || binding.kind().level() != self.level {
            return Err(refusal::defect("this sealing key does not seal such a thing"));
        }
        let mut buffer = Secret::from(plaintext.expose());
        let aad = Aad::from(binding.aad(self.id));
        let made = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, buffer.expose_mut())
            .map_err(refusal::library)?;
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(made.as_ref());
        let blob =
            SealedBlob { kind: binding.kind(), sealer: self.id, nonce, ciphertext: buffer.expose(), tag };
        Ok(SealedHandle::new(&blob.to_bytes()))
    }

    /// Opens a blob that was sealed for exactly this binding.
    pub(crate) fn open(&self, binding: &Binding<'_>, handle: &SealedHandle) -> Result<Secret, Error> {
        let Some(blob) = SealedBlob::parse(handle.as_bytes()) else {
            return Err(refusal::sealed("a sealed key is damaged"));
        };
        if blob.sealer != self.id {
            return Err(refusal::sealed("a sealed key was sealed by another sealing key"));
        }
        if blob.kind != binding.kind() || blob.kind.level() != self.level {
            return Err(refusal::sealed("a sealed key is of another kind"));
        }
        let aad = Aad::from(binding.aad(self.id));
        let nonce = Nonce::assume_unique_for_key(blob.nonce);
        Secret::fill_with(blob.ciphertext.len(), |out| {
            self.key.open_separate_gather(nonce, aad, blob.ciphertext, &blob.tag, out)
        })
        .map_err(|_| refusal::sealed("a sealed key does not open"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::Entropy;
    use proptest::prelude::*;

    fn sealer() -> Sealer {
        Sealer::of_tenant(&Secret::new(vec![7; 32])).unwrap()
    }

    fn tenant() -> TenantId {
        "acme".parse().unwrap()
    }

    fn binding(tenant: &TenantId) -> Binding<'_> {
        Binding::Version {
            kind: Kind::Material,
            tenant,
            key: KeyId::from_bytes([3; 16]),
            version: KeyVersion::new(258).unwrap(),
            algorithm: Algorithm::Aes256GcmSiv,
            exportable: true,
        }
    }

    #[test]
    fn the_published_vector() {
        let tenant = tenant();
        let handle = sealer().seal_with([9; 12], &binding(&tenant), &Secret::new(vec![5; 32])).unwrap();
        let published = include_str!("../../../../fixtures/keystore/sealed-blob-v1.hex");
        assert_eq!(hex::encode(handle.as_bytes()), published.split_whitespace().collect::<String>());
        let opened = sealer().open(&binding(&tenant), &handle).unwrap();
        assert_eq!(opened, Secret::new(vec![5; 32]));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (sealer, tenant) = (sealer(), tenant());
        let handle = sealer.seal(&Entropy, &binding(&tenant), &Secret::new(vec![5; 32])).unwrap();
        for index in 0..handle.as_bytes().len() {
            for bit in 0..8 {
                let mut bytes = handle.as_bytes().to_vec();
                bytes[index] ^= 1 << bit;
                let changed = SealedHandle::new(&bytes);
                assert!(sealer.open(&binding(&tenant), &changed).is_err(), "byte {index} bit {bit}");
            }
        }
        for length in 0..handle.as_bytes().len() {
            let cut = SealedHandle::new(&handle.as_bytes()[..length]);
            assert!(sealer.open(&binding(&tenant), &cut).is_err(), "cut to {length}");
        }
        let longer = SealedHandle::new(&[handle.as_bytes(), &[0]].concat());
        assert!(sealer.open(&binding(&tenant), &longer).is_err());
    }

    #[test]
    fn every_changed_binding_is_refused() {
        let (sealer, tenant, other) = (sealer(), tenant(), "acme2".parse().unwrap());
        let handle = sealer.seal(&Entropy, &binding(&tenant), &Secret::new(vec![5; 32])).unwrap();
        let (key, version) = (KeyId::from_bytes([3; 16]), KeyVersion::new(258).unwrap());
        let algorithm = Algorithm::Aes256GcmSiv;
        let tenant = &tenant;
        let (kind, exportable) = (Kind::Material, true);
        let next = version.next().unwrap();
        let wrong = [
            Binding::Tenant(tenant),
            Binding::Version { kind, tenant: &other, key, version, algorithm, exportable },
            Binding::Version {
                kind,
                tenant,
                key: KeyId::from_bytes([4; 16]),
                version,
                algorithm,
                exportable,
            },
            Binding::Version { kind, tenant, key, version: next, algorithm, exportable },
            Binding::Version { kind, tenant, key, version, algorithm: Algorithm::Aes256Gcm, exportable },
            Binding::Version { kind, tenant, key, version, algorithm, exportable: false },
            Binding::Version { kind: Kind::Reference, tenant, key, version, algorithm, exportable },
            Binding::Version { kind: Kind::Imported, tenant, key, version, algorithm, exportable },
            Binding::Version { kind: Kind::ImportKey, tenant, key, version, algorithm, exportable },
            Binding::Version { kind: Kind::ImportReference, tenant, key, version, algorithm, exportable },
        ];
        for binding in &wrong {
            assert!(sealer.open(binding, &handle).is_err(), "{binding:?}");
        }
        assert!(sealer.open(&binding(tenant), &handle).is_ok());
    }

    #[test]
    fn another_sealing_key_is_refused_and_named() {
        let tenant = tenant();
        let handle = sealer().seal(&Entropy, &binding(&tenant), &Secret::new(vec![5; 32])).unwrap();
        let other = Sealer::of_tenant(&Secret::new(vec![8; 32])).unwrap();
        let error = other.open(&binding(&tenant), &handle).unwrap_err();
        assert_eq!(error.detail(), "a sealed key was sealed by another sealing key");
    }

    #[test]
    fn a_sealer_seals_its_own_kind_only() {
        let tenant = tenant();
        assert!(sealer().seal(&Entropy, &Binding::Tenant(&tenant), &Secret::new(vec![5; 32])).is_err());
        let root = RootKey::new(Secret::new(vec![7; 32])).unwrap();
        let root = Sealer::of_root(&root).unwrap();
        assert!(root.seal(&Entropy, &binding(&tenant), &Secret::new(vec![5; 32])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            if let Some(blob) = SealedBlob::parse(&bytes) {
                prop_assert_eq!(blob.to_bytes(), bytes);
            }
        }

        #[test]
        fn what_is_parsed_is_put_together_again(kind in 1u8..=7, rest in prop::collection::vec(any::<u8>(), 37..200)) {
            let bytes = [&MAGIC[..], &[kind], &rest].concat();
            prop_assert_eq!(SealedBlob::parse(&bytes).map(|blob| blob.to_bytes()), Some(bytes));
        }
    }
}
