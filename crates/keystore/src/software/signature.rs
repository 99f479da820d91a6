//! Elliptic-curve and lattice signatures: ECDSA (FIPS 186-5) in DER, Ed25519 (RFC 8032), ML-DSA-65 (FIPS 204).

use super::digest;
use super::material::Fresh;
use crate::refusal;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, ParsedPublicKey, PqdsaKeyPair,
    VerificationAlgorithm,
};
use holdfast_core::algorithm::{Algorithm, Hash, SignatureScheme};
use holdfast_core::port::World;
use holdfast_core::work::Message;
use holdfast_core::{Error, Secret};

/// Length of Ed25519's and ML-DSA's seeds in bytes.
const SEED_LEN: usize = 32;

/// The curves of ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    /// P-256 with SHA-256.
    P256,
    /// P-384 with SHA-384.
    P384,
    /// P-521 with SHA-512.
    P521,
}

impl Curve {
    pub(crate) const fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            Self::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        }
    }

    pub(crate) fn verifying(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::P521 => &signature::ECDSA_P521_SHA512_ASN1,
        }
    }

    const fn hash(self) -> Hash {
        match self {
            Self::P256 => Hash::Sha256,
            Self::P384 => Hash::Sha384,
            Self::P521 => Hash::Sha512,
        }
    }

    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::EcdsaP256,
            Self::P384 => Algorithm::EcdsaP384,
            Self::P521 => Algorithm::EcdsaP521,
        }
    }
}

/// A key pair, both halves ready.
pub(crate) struct SignatureKey {
    private: Private,
    public: PublicHalf,
}

enum Private {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa65(PqdsaKeyPair),
}

/// A public key with the one scheme that it verifies.
pub(crate) struct PublicHalf {
    key: ParsedPublicKey,
    algorithm: Algorithm,
    hash: Option<Hash>,
}

/// Makes an ECDSA key; its material is PKCS#8 (RFC 5208).
pub(crate) fn generate_ecdsa(curve: Curve) -> Result<Fresh, Error> {
    let pair = EcdsaKeyPair::generate(curve.signing()).map_err(refusal::library)?;
    let pkcs8 = pair.to_pkcs8v1().map_err(refusal::library)?;
    Fresh::asymmetric(curve.algorithm(), Secret::from(pkcs8.as_ref()), &spki(pair.public_key())?)
}

/// Makes an Ed25519 key; its material is the seed.
pub(crate) fn generate_ed25519<W: World>(world: &W) -> Result<Fresh, Error> {
    ed25519_of(Secret::fill_with(SEED_LEN, |out| world.fill(out))?)
}

/// An Ed25519 key of its seed.
pub(crate) fn ed25519_of(seed: Secret) -> Result<Fresh, Error> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(rejected)?;
    let spki = spki(pair.public_key())?;
    Fresh::asymmetric(Algorithm::Ed25519, seed, &spki)
}

/// Makes an ML-DSA-65 key; its material is the seed ξ (FIPS 204 §5.1).
pub(crate) fn generate_ml_dsa<W: World>(world: &W) -> Result<Fresh, Error> {
    let seed = Secret::fill_with(SEED_LEN, |out| world.fill(out))?;
    let pair = PqdsaKeyPair::from_seed(&signature::ML_DSA_65_SIGNING, seed.expose()).map_err(rejected)?;
    let spki = spki(pair.public_key())?;
    Fresh::asymmetric(Algorithm::MlDsa65, seed, &spki)
}

impl SignatureKey {
    pub(crate) fn ecdsa(curve: Curve, pkcs8: &[u8]) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), pkcs8).map_err(rejected)?;
        let public = PublicHalf::ecdsa(curve, pair.public_key().as_ref())?;
        Ok(Self { private: Private::Ecdsa(pair), public })
    }

    pub(crate) fn ed25519(seed: &[u8]) -> Result<Self, Error> {
        if seed.len() != SEED_LEN {
            return Err(rejected_material());
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(rejected)?;
        let public = PublicHalf::ed25519(pair.public_key().as_ref())?;
        Ok(Self { private: Private::Ed25519(pair), public })
    }

    pub(crate) fn ml_dsa(seed: &[u8]) -> Result<Self, Error> {
        let pair = PqdsaKeyPair::from_seed(&signature::ML_DSA_65_SIGNING, seed).map_err(rejected)?;
        let public = PublicHalf::ml_dsa(pair.public_key().as_ref())?;
        Ok(Self { private: Private::MlDsa65(pair), public })
    }

    /// Whether its work belongs on the pool.
    pub(crate) const fn is_slow(&self) -> bool {
        match self.private {
            Private::MlDsa65(_) => true,
            Private::Ecdsa(_) | Private::Ed25519(_) => false,
        }
    }

    /// Signs.
    ///
    /// # Errors
    /// `unsupported` for another key's scheme, and for a digest where the scheme takes the message itself; `malformed` for a digest of
    /// another length.
    pub(crate) fn sign(&self, scheme: SignatureScheme, message: Message<'_>) -> Result<Vec<u8>, Error> {
        let input = self.public.input(scheme, message)?;
        match (&self.private, input) {
            (Private::Ecdsa(pair), Input::Digest(digest)) => {
                pair.sign_digest(&digest).map(|made| made.as_ref().to_vec())
            }
            (Private::Ecdsa(pair), Input::Whole(message)) => {
                pair.sign(&SystemRandom::new(), message).map(|made| made.as_ref().to_vec())
            }
            (Private::Ed25519(pair), Input::Whole(message)) => {
                pair.try_sign(message).map(|made| made.as_ref().to_vec())
            }
            (Private::MlDsa65(pair), Input::Whole(message)) => {
                let mut made = vec![0; pair.algorithm().signature_len()];
                pair.sign(message, &mut made).map(|length| {
                    made.truncate(length);
                    made
                })
            }
            (Private::Ed25519(_) | Private::MlDsa65(_), Input::Digest(_)) => Err(Unspecified),
        }
        .map_err(refusal::library)
    }

    /// Verifies; see [`PublicHalf::verify`].
    pub(crate) fn verify(
        &self,
        scheme: SignatureScheme,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<bool, Error> {
        self.public.verify(scheme, message, signature)
    }
}

enum Input<'a> {
    Whole(&'a [u8]),
    Digest(aws_lc_rs::digest::Digest),
}

impl PublicHalf {
    /// From a point or DER SubjectPublicKeyInfo.
    pub(crate) fn ecdsa(curve: Curve, bytes: &[u8]) -> Result<Self, Error> {
        Self::new(curve.verifying(), bytes, curve.algorithm(), Some(curve.hash()))
    }

    pub(crate) fn ed25519(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(&signature::ED25519, bytes, Algorithm::Ed25519, None)
    }

    pub(crate) fn ml_dsa(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(&signature::ML_DSA_65, bytes, Algorithm::MlDsa65, None)
    }

    fn new(
        verifying: &'static dyn VerificationAlgorithm,
        bytes: &[u8],
        algorithm: Algorithm,
        hash: Option<Hash>,
    ) -> Result<Self, Error> {
        let key = ParsedPublicKey::new(verifying, bytes).map_err(rejected)?;
        Ok(Self { key, algorithm, hash })
    }

    fn input<'a>(&self, scheme: SignatureScheme, message: Message<'a>) -> Result<Input<'a>, Error> {
        if !scheme.fits(self.algorithm) {
            return Err(refusal::unsupported("the key does not sign by this scheme"));
        }
        match (self.hash, message) {
            (_, Message::Whole(message)) => Ok(Input::Whole(message)),
            (Some(hash), Message::Digest(_)) => digest::of(hash, message).map(Input::Digest),
            (None, Message::Digest(_)) => {
                Err(refusal::unsupported("this scheme signs messages, not digests"))
            }
        }
    }

    /// Whether it is the key's signature of that message.
    ///
    /// # Errors
    /// As for signing; a signature of the wrong form is not an error but wrong.
    pub(crate) fn verify(
        &self,
        scheme: SignatureScheme,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<bool, Error> {
        let verified = match self.input(scheme, message)? {
            Input::Whole(message) => self.key.verify_sig(message, signature),
            Input::Digest(digest) => self.key.verify_digest_sig(&digest, signature),
        };
        Ok(verified.is_ok())
    }
}

/// A public key as DER SubjectPublicKeyInfo (RFC 5280 §4.1).
pub(crate) fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>, Error> {
    key.as_der().map(|der| der.as_ref().to_vec()).map_err(refusal::library)
}

/// Material that opened and yet is no key: sealed by something else than this store.
pub(crate) fn rejected_material() -> Error {
    refusal::sealed("a sealed key holds no material of its algorithm")
}

pub(crate) fn rejected(_: KeyRejected) -> Error {
    rejected_material()
}
