//! From nothing to a key, and from a key's bytes to something ready to use.

use super::aead::{self, AeadKey};
use super::agreement::{self, AgreementKey, Group};
use super::kem::{self, KemKey};
use super::key_wrap::{self, WrapKey};
use super::mac::MacKey;
use super::rsa::{self, Modulus, RsaKey};
use super::signature::{self, Curve, SignatureKey};
use crate::sealing::derive::{self, Use};
use aws_lc_rs::hmac;
use holdfast_core::algorithm::{Algorithm, Hash};
use holdfast_core::frame::Commitment;
use holdfast_core::port::World;
use holdfast_core::{Error, Secret};
use std::sync::Arc;

/// What stands before what is hashed to a commitment.
pub(crate) const COMMITMENT_DOMAIN: &[u8] = Commitment::DOMAIN;

/// Key material that has just been made.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// What is sealed: raw bytes, a seed, a scalar or PKCS#8, as the algorithm's file says.
    pub(crate) material: Secret,
    /// As in `Generated::public`.
    pub(crate) public: Option<Arc<[u8]>>,
    /// HKDF of a symmetric key (`derive.rs`, label `key commitment`); of an asymmetric one
    /// SHA-256("holdfast/key-commitment/v1" ‖ algorithm code ‖ public half).
    pub(crate) commitment: Commitment,
}

impl Fresh {
    fn symmetric<W: World>(world: &W, length: usize) -> Result<Self, Error> {
        Self::of_symmetric(Secret::fill_with(length, |out| world.fill(out))?)
    }

    pub(crate) fn of_symmetric(material: Secret) -> Result<Self, Error> {
        let mut commitment = [0; 32];
        derive::fill(material.expose(), Use::Commitment, &mut commitment)?;
        Ok(Self { material, public: None, commitment: Commitment(commitment) })
    }

    pub(crate) fn asymmetric(algorithm: Algorithm, material: Secret, public: &[u8]) -> Result<Self, Error> {
        Ok(Self { material, public: Some(Arc::from(public)), commitment: commitment(algorithm, public) })
    }
}

/// As [`Commitment::to`].
pub(crate) fn commitment(algorithm: Algorithm, of: &[u8]) -> Commitment {
    Commitment::to(algorithm, of)
}

/// Makes a key.
pub(crate) fn generate<W: World>(algorithm: Algorithm, world: &W) -> Result<Fresh, Error> {
    match algorithm {
        Algorithm::Xaes256Gcm | Algorithm::Aes256Gcm | Algorithm::Aes256GcmSiv => {
            Fresh::symmetric(world, aead::KEY_LEN)
        }
        Algorithm::Aes256Kw | Algorithm::Aes256Kwp => Fresh::symmetric(world, key_wrap::KEY_LEN),
        Algorithm::Rsa2048 => rsa::generate(Modulus::Bits2048),
        Algorithm::Rsa3072 => rsa::generate(Modulus::Bits3072),
        Algorithm::Rsa4096 => rsa::generate(Modulus::Bits4096),
        Algorithm::EcdsaP256 => signature::generate_ecdsa(Curve::P256),
        Algorithm::EcdsaP384 => signature::generate_ecdsa(Curve::P384),
        Algorithm::EcdsaP521 => signature::generate_ecdsa(Curve::P521),
        Algorithm::Ed25519 => signature::generate_ed25519(world),
        Algorithm::MlDsa65 => signature::generate_ml_dsa(world),
        Algorithm::HmacSha256 => Fresh::symmetric(world, Hash::Sha256.len()),
        Algorithm::HmacSha384 => Fresh::symmetric(world, Hash::Sha384.len()),
        Algorithm::HmacSha512 => Fresh::symmetric(world, Hash::Sha512.len()),
        Algorithm::EcdhP256 => agreement::generate(Group::P256),
        Algorithm::EcdhP384 => agreement::generate(Group::P384),
        Algorithm::X25519 => agreement::generate(Group::X25519),
        Algorithm::MlKem768 => kem::generate(),
    }
}

/// A key, ready to use.
pub(crate) enum Ready {
    /// Authenticated encryption.
    Aead(AeadKey),
    /// AES key wrap.
    Wrap(WrapKey),
    /// RSA.
    Rsa(Box<RsaKey>),
    /// Elliptic-curve and lattice signatures.
    Signature(Box<SignatureKey>),
    /// HMAC.
    Mac(Box<MacKey>),
    /// Key agreement.
    Agreement(AgreementKey),
    /// Key encapsulation.
    Kem(KemKey),
}

/// From what [`generate`] made.
pub(crate) fn load(algorithm: Algorithm, material: &[u8]) -> Result<Ready, Error> {
    match algorithm {
        Algorithm::Xaes256Gcm => AeadKey::xaes(material).map(Ready::Aead),
        Algorithm::Aes256Gcm => AeadKey::gcm(material).map(Ready::Aead),
        Algorithm::Aes256GcmSiv => AeadKey::gcm_siv(material).map(Ready::Aead),
        Algorithm::Aes256Kw => WrapKey::new(material, false).map(Ready::Wrap),
        Algorithm::Aes256Kwp => WrapKey::new(material, true).map(Ready::Wrap),
        Algorithm::Rsa2048 => rsa_key(Modulus::Bits2048, material),
        Algorithm::Rsa3072 => rsa_key(Modulus::Bits3072, material),
        Algorithm::Rsa4096 => rsa_key(Modulus::Bits4096, material),
        Algorithm::EcdsaP256 => signature_key(SignatureKey::ecdsa(Curve::P256, material)),
        Algorithm::EcdsaP384 => signature_key(SignatureKey::ecdsa(Curve::P384, material)),
        Algorithm::EcdsaP521 => signature_key(SignatureKey::ecdsa(Curve::P521, material)),
        Algorithm::Ed25519 => signature_key(SignatureKey::ed25519(material)),
        Algorithm::MlDsa65 => signature_key(SignatureKey::ml_dsa(material)),
        Algorithm::HmacSha256 => mac_key(hmac::HMAC_SHA256, Hash::Sha256, material),
        Algorithm::HmacSha384 => mac_key(hmac::HMAC_SHA384, Hash::Sha384, material),
        Algorithm::HmacSha512 => mac_key(hmac::HMAC_SHA512, Hash::Sha512, material),
        Algorithm::EcdhP256 => AgreementKey::new(Group::P256, material).map(Ready::Agreement),
        Algorithm::EcdhP384 => AgreementKey::new(Group::P384, material).map(Ready::Agreement),
        Algorithm::X25519 => AgreementKey::new(Group::X25519, material).map(Ready::Agreement),
        Algorithm::MlKem768 => KemKey::new(material).map(Ready::Kem),
    }
}

fn rsa_key(modulus: Modulus, material: &[u8]) -> Result<Ready, Error> {
    RsaKey::new(modulus, material).map(|key| Ready::Rsa(Box::new(key)))
}

fn signature_key(key: Result<SignatureKey, Error>) -> Result<Ready, Error> {
    key.map(|key| Ready::Signature(Box::new(key)))
}

fn mac_key(algorithm: hmac::Algorithm, hash: Hash, material: &[u8]) -> Result<Ready, Error> {
    if material.len() != hash.len() {
        return Err(signature::rejected_material());
    }
    Ok(Ready::Mac(Box::new(MacKey::new(algorithm, material))))
}

/// How long it takes to make or load a key of this algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Microseconds, up to some tens.
    Inline,
    /// More than an async worker should spend on it.
    Pooled,
}

/// Of loading.
pub(crate) const fn cost_of_loading(algorithm: Algorithm) -> Cost {
    match algorithm {
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 | Algorithm::MlDsa65 => Cost::Pooled,
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::Ed25519
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::EcdhP256
        | Algorithm::EcdhP384
        | Algorithm::X25519
        | Algorithm::MlKem768 => Cost::Inline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::{Dry, Entropy, Fixed, unhex};
    use std::collections::BTreeSet;

    #[test]
    fn every_algorithm_is_made_and_loaded_again() {
        let mut commitments = BTreeSet::new();
        for algorithm in Algorithm::ALL.iter().copied() {
            let fresh = generate(algorithm, &Entropy).unwrap();
            assert!(load(algorithm, fresh.material.expose()).is_ok(), "{algorithm}");
            assert_eq!(fresh.public.is_some(), algorithm.is_asymmetric(), "{algorithm}");
            assert!(commitments.insert(fresh.commitment.0), "{algorithm}");
        }
        assert_eq!(commitments.len(), Algorithm::ALL.len());
    }

    #[test]
    fn material_of_a_wrong_form_is_refused() {
        for algorithm in Algorithm::ALL.iter().copied() {
            for length in [0, 1, 16, 31, 33, 65, 200] {
                assert!(load(algorithm, &vec![1; length]).is_err(), "{algorithm} of {length} bytes");
            }
        }
    }

    /// Computed with another implementation of HKDF and SHA-256.
    #[test]
    fn the_published_commitments() {
        let symmetric = Fresh::symmetric(&Fixed(vec![5; 32]), 32).unwrap();
        let expected = "4bab5cd68d3a674406cc31fac9228ed3a8404ef749d16896f6ffabfe05adc4fb";
        assert_eq!(symmetric.commitment.0, *unhex(expected));
        let asymmetric = Fresh::asymmetric(Algorithm::Ed25519, Secret::new(vec![5; 32]), b"public").unwrap();
        let expected = "d992a8bd8fe80508dad05ece53b641f82bcec699d8a7d3bfb6b063750be04f4a";
        assert_eq!(asymmetric.commitment.0, *unhex(expected));
    }

    #[test]
    fn a_symmetric_commitment_is_no_code_that_the_key_can_make() {
        let fresh = Fresh::symmetric(&Entropy, 32).unwrap();
        let key = MacKey::new(hmac::HMAC_SHA256, fresh.material.expose());
        for message in [&b"key commitment"[..], b"key commitment\x01", b"holdfast/key-store/v1", b""] {
            assert_ne!(key.mac(message), fresh.commitment.0);
        }
    }

    #[test]
    fn without_entropy_no_symmetric_key_or_seed_is_made() {
        for algorithm in
            [Algorithm::Xaes256Gcm, Algorithm::HmacSha512, Algorithm::Ed25519, Algorithm::MlDsa65]
        {
            assert!(generate(algorithm, &Dry).is_err());
        }
    }
}
