//! The public halves of keys in tokens: what is done with them is done here, and what a token signed is checked with them.

use super::der;
use super::message::Made;
use crate::refusal;
use crate::software::agreement::Group;
use crate::software::ffi::RsaPkey;
use crate::software::rsa;
use crate::software::signature::{Curve, PublicHalf};
use crate::spki::{SPKI_ED25519, SPKI_P256, SPKI_P384, SPKI_P521, SPKI_X25519};
use holdfast_core::Error;
use holdfast_core::algorithm::{Algorithm, SignatureScheme};
use holdfast_core::work::Message;

/// DER SubjectPublicKeyInfo of what a token has made, and that ready; empty for secret keys.
///
/// # Errors
/// `key-store-unavailable` if it is no such public key: the token's word is not taken for it.
pub(super) fn made(algorithm: Algorithm, made: &Made<'_>) -> Result<(Vec<u8>, Public), Error> {
    if !algorithm.is_asymmetric() {
        return Ok((Vec::new(), Public::None));
    }
    let spki = match algorithm {
        Algorithm::EcdsaP256 | Algorithm::EcdhP256 => on_curve(SPKI_P256, 65, made),
        Algorithm::EcdsaP384 | Algorithm::EcdhP384 => on_curve(SPKI_P384, 97, made),
        Algorithm::EcdsaP521 => on_curve(SPKI_P521, 133, made),
        Algorithm::Ed25519 => on_curve(SPKI_ED25519, 32, made),
        Algorithm::X25519 => on_curve(SPKI_X25519, 32, made),
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => {
            Some(der::rsa_spki(made.public, made.exponent))
        }
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::MlDsa65
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::MlKem768 => None,
    };
    let none = || refusal::device("the token's new key has no public half of its algorithm");
    let spki = spki.ok_or_else(none)?;
    let public = Public::load(algorithm, &spki).map_err(|_| none())?;
    Ok((spki, public))
}

fn on_curve(prefix: &[u8], length: usize, made: &Made<'_>) -> Option<Vec<u8>> {
    der::point(made.public, length).map(|point| [prefix, point].concat())
}

/// A public half, ready.
pub(super) enum Public {
    /// A secret key has none.
    None,
    /// It verifies.
    Signature(Box<PublicHalf>),
    /// It verifies and encrypts.
    Rsa { spki: Box<[u8]>, key: RsaPkey },
    /// It is given to peers, and not used here.
    Agreement(Group),
}

impl Public {
    /// From DER SubjectPublicKeyInfo, which is empty for secret keys.
    pub(super) fn load(algorithm: Algorithm, spki: &[u8]) -> Result<Self, Error> {
        let signature = |half: Result<PublicHalf, Error>| half.map(|half| Self::Signature(Box::new(half)));
        match algorithm {
            Algorithm::EcdsaP256 => signature(PublicHalf::ecdsa(Curve::P256, spki)),
            Algorithm::EcdsaP384 => signature(PublicHalf::ecdsa(Curve::P384, spki)),
            Algorithm::EcdsaP521 => signature(PublicHalf::ecdsa(Curve::P521, spki)),
            Algorithm::Ed25519 => signature(PublicHalf::ed25519(spki)),
            Algorithm::MlDsa65 => signature(PublicHalf::ml_dsa(spki)),
            Algorithm::Rsa2048 => Self::rsa(256, spki),
            Algorithm::Rsa3072 => Self::rsa(384, spki),
            Algorithm::Rsa4096 => Self::rsa(512, spki),
            Algorithm::EcdhP256 => Ok(Self::Agreement(Group::P256)),
            Algorithm::EcdhP384 => Ok(Self::Agreement(Group::P384)),
            Algorithm::X25519 => Ok(Self::Agreement(Group::X25519)),
            Algorithm::Xaes256Gcm
            | Algorithm::Aes256Gcm
            | Algorithm::Aes256GcmSiv
            | Algorithm::Aes256Kw
            | Algorithm::Aes256Kwp
            | Algorithm::HmacSha256
            | Algorithm::HmacSha384
            | Algorithm::HmacSha512
            | Algorithm::MlKem768 => Ok(Self::None),
        }
    }

    fn rsa(modulus: usize, spki: &[u8]) -> Result<Self, Error> {
        let key = RsaPkey::parse_public(spki).filter(|key| key.modulus_len() == modulus);
        let key =
            key.ok_or_else(|| refusal::device("the token's RSA key is not of the size it should have"))?;
        Ok(Self::Rsa { spki: spki.into(), key })
    }

    pub(super) fn rsa_key(&self) -> Result<&RsaPkey, Error> {
        match self {
            Self::Rsa { key, .. } => Ok(key),
            Self::None | Self::Signature(_) | Self::Agreement(_) => {
                Err(refusal::unsupported("the key is not an RSA key"))
            }
        }
    }

    /// Whether an RSA key can decrypt it at all: as long as the modulus, and less. Modules say of what is more that they failed.
    pub(super) fn is_in_range(&self, body: &[u8]) -> bool {
        let Self::Rsa { spki, key } = self else { return false };
        let parts = der::rsa_parts(spki, key.modulus_len());
        body.len() == key.modulus_len() && parts.is_none_or(|(modulus, _)| body < modulus)
    }

    pub(super) fn group(&self) -> Result<Group, Error> {
        match self {
            Self::Agreement(group) => Ok(*group),
            Self::None | Self::Signature(_) | Self::Rsa { .. } => {
                Err(refusal::unsupported("the key does not agree on secrets"))
            }
        }
    }

    /// Whether it is the key's signature.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        scheme: SignatureScheme,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<bool, Error> {
        match self {
            Self::Signature(half) => half.verify(scheme, message, signature),
            Self::Rsa { spki, .. } => {
                let digest = rsa::input(algorithm, scheme, message)?;
                rsa::verify(spki, scheme, &digest, signature)
            }
            Self::None | Self::Agreement(_) => Err(refusal::unsupported("the key does not sign")),
        }
    }
}
