//! Key agreement: ECDH over P-256 and P-384 (NIST SP 800-56A rev. 3 §5.7.1.2) and X25519 (RFC 7748).
//!
//! A key's material is its private scalar, of the curve's length.

use super::material::Fresh;
use super::signature::{rejected, spki};
use crate::refusal;
use crate::spki::{SPKI_P256, SPKI_P384, SPKI_X25519};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin, EcPrivateKeyBin};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::{Error, Secret};

/// The first byte of an uncompressed point (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// Curve25519.
    X25519,
}

impl Group {
    const fn library(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
            Self::X25519 => &agreement::X25519,
        }
    }

    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::EcdhP256,
            Self::P384 => Algorithm::EcdhP384,
            Self::X25519 => Algorithm::X25519,
        }
    }
}

/// A private key.
pub(crate) struct AgreementKey(PrivateKey, Group);

/// Makes a key.
pub(crate) fn generate(group: Group) -> Result<Fresh, Error> {
    let key = PrivateKey::generate(group.library()).map_err(refusal::library)?;
    let material = match group {
        Group::P256 | Group::P384 => {
            let scalar: EcPrivateKeyBin<'_> = key.as_be_bytes().map_err(refusal::library)?;
            Secret::from(scalar.as_ref())
        }
        Group::X25519 => {
            let scalar: Curve25519SeedBin<'_> = key.as_be_bytes().map_err(refusal::library)?;
            Secret::from(scalar.as_ref())
        }
    };
    let public = key.compute_public_key().map_err(refusal::library)?;
    Fresh::asymmetric(group.algorithm(), material, &spki(&public)?)
}

/// An X25519 key of its private scalar.
pub(crate) fn x25519_of(scalar: Secret) -> Result<Fresh, Error> {
    let key = PrivateKey::from_private_key(Group::X25519.library(), scalar.expose()).map_err(rejected)?;
    let public = key.compute_public_key().map_err(refusal::library)?;
    Fresh::asymmetric(Algorithm::X25519, scalar, &spki(&public)?)
}

impl AgreementKey {
    pub(crate) fn new(group: Group, scalar: &[u8]) -> Result<Self, Error> {
        PrivateKey::from_private_key(group.library(), scalar).map(|key| Self(key, group)).map_err(rejected)
    }

    /// The shared secret: the x-coordinate, or X25519's output.
    ///
    /// # Errors
    /// `malformed` for a peer's key that is not one of this curve, in one of the documented forms, or that leads to nothing: X25519's all
    /// zero output (RFC 7748 §6.1).
    pub(crate) fn agree(&self, peer: &[u8]) -> Result<Secret, Error> {
        let point = point(self.1, peer).ok_or_else(no_peer)?;
        let peer = UnparsedPublicKey::new(self.0.algorithm(), point);
        agreement::agree(&self.0, peer, (), |secret| Ok(Secret::from(secret))).map_err(|()| no_peer())
    }
}

/// A peer's key that is none, or none of this curve.
pub(crate) fn no_peer() -> Error {
    refusal::malformed(
        "the peer's public key is not a key of this key's curve",
        "send it as DER SubjectPublicKeyInfo, as an uncompressed point, or as 32 bytes for X25519",
    )
}

/// The point of a peer's key in one of the documented forms. Whether it lies on the curve is not looked at.
pub(crate) fn point(group: Group, peer: &[u8]) -> Option<&[u8]> {
    let (spki, point_len) = match group {
        Group::P256 => (SPKI_P256, 65),
        Group::P384 => (SPKI_P384, 97),
        Group::X25519 => (SPKI_X25519, 32),
    };
    let point = peer.strip_prefix(spki).unwrap_or(peer);
    // The library also takes compressed and hybrid points, and explicit curve parameters: other lengths and other prefixes.
    let documented = match group {
        Group::P256 | Group::P384 => point.first() == Some(&UNCOMPRESSED),
        Group::X25519 => true,
    };
    (point.len() == point_len && documented).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::ErrorKind;

    const GROUPS: [(Group, &[u8]); 3] =
        [(Group::P256, SPKI_P256), (Group::P384, SPKI_P384), (Group::X25519, SPKI_X25519)];

    #[test]
    fn both_sides_agree_in_every_documented_form() {
        for (group, prefix) in GROUPS {
            let (alice, bob) = (generate(group).unwrap(), generate(group).unwrap());
            let key = |fresh: &Fresh| AgreementKey::new(group, fresh.material.expose()).unwrap();
            let public = |fresh: &Fresh| fresh.public.clone().unwrap();
            let secret = key(&alice).agree(&public(&bob)).unwrap();
            assert_eq!(key(&bob).agree(&public(&alice)).unwrap(), secret);
            let point = public(&bob).strip_prefix(prefix).unwrap().to_vec();
            assert_eq!(key(&alice).agree(&point).unwrap(), secret);
        }
    }

    #[test]
    fn any_other_form_is_malformed() {
        for (group, prefix) in GROUPS {
            let fresh = generate(group).unwrap();
            let key = AgreementKey::new(group, fresh.material.expose()).unwrap();
            let public = fresh.public.unwrap().to_vec();
            let point = public.strip_prefix(prefix).unwrap().to_vec();
            let other = GROUPS.iter().find(|(other, _)| *other != group).unwrap().0;
            let mut wrong = vec![
                Vec::new(),
                [&public[..], &[0]].concat(),
                [&point[..], &[0]].concat(),
                point[1..].to_vec(),
                vec![0; point.len()],
                generate(other).unwrap().public.unwrap().to_vec(),
            ];
            if group != Group::X25519 {
                // Hybrid and compressed.
                let parity = point[point.len() - 1] & 1;
                wrong.push([&[6 | parity], &point[1..]].concat());
                wrong.push([&[2 | parity], &point[1..=(point.len() / 2)]].concat());
            }
            for peer in wrong {
                assert_eq!(
                    key.agree(&peer).unwrap_err().kind(),
                    ErrorKind::Malformed,
                    "{group:?} {peer:02x?}"
                );
            }
        }
    }
}
