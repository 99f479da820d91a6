//! Material from outside: the import key, the wrapped key that it opens once, and the check of what that held.
//!
//! ```text
//! wrapped key = RSA-OAEP(SHA-256, MGF1 SHA-256, no label) of an AES-256 key ‖ AES-KWP (RFC 5649) of the material under that key
//! import key  = what a sealed blob of kind 5 holds: expiry (8, big-endian, microseconds) ‖ PKCS#8 of an RSA-3072 key
//! material    = the raw bytes of a symmetric key, or the PKCS#8 (RFC 5208) of a private key
//! ```
//!
//! The wrapped key is that of CKM_RSA_AES_KEY_WRAP (PKCS#11 2.40, current mechanisms, §2.1.21).

use super::agreement::{self, Group};
use super::digest;
use super::key_wrap::{self, WrapKey};
use super::material::{Fresh, Ready, load};
use super::rsa::{self, Modulus, RsaKey};
use super::signature::{self, Curve, rejected, rejected_material, spki};
use crate::refusal;
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};
use holdfast_core::algorithm::{Algorithm, Family, Hash, RsaPadding};
use holdfast_core::import::{Wrapped, check_value_len};
use holdfast_core::port::World;
use holdfast_core::work::Message;
use holdfast_core::{Error, ErrorKind, Secret, Stage, Timestamp};

pub(crate) const PADDING: RsaPadding = RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha256 };
const MODULUS: Modulus = Modulus::Bits3072;
/// What a PKCS#8 key of RFC 8410 has before its 32 bytes: there is one encoding only, unless it holds its public half too.
const PKCS8_ED25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PKCS8_X25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";

/// Whether keys of an algorithm can come from outside: those that `openssl` makes and writes as PKCS#8.
///
/// # Errors
/// `unsupported`.
pub(crate) fn check_algorithm(algorithm: Algorithm) -> Result<(), Error> {
    match algorithm {
        Algorithm::MlDsa65 | Algorithm::MlKem768 => {
            let detail = format!("keys of `{algorithm}` are not imported");
            Err(Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
                .remedy("run `holdfast key create`: such a key is made here"))
        }
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::Rsa2048
        | Algorithm::Rsa3072
        | Algorithm::Rsa4096
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::Ed25519
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::EcdhP256
        | Algorithm::EcdhP384
        | Algorithm::X25519 => Ok(()),
    }
}

/// Makes an import key: what is sealed of it, and its public half. Takes up to seconds.
pub(crate) fn generate(expires: Timestamp) -> Result<Fresh, Error> {
    let Fresh { material, public, commitment } = rsa::generate(MODULUS)?;
    let dated = Secret::fill_with(8_usize.saturating_add(material.len()), |out| {
        let (at, key) = out.split_at_mut_checked(8).ok_or(())?;
        at.copy_from_slice(&expires.micros().to_be_bytes());
        key.copy_from_slice(material.expose());
        Ok::<(), ()>(())
    })
    .map_err(|()| refusal::defect("an import key has no room"))?;
    Ok(Fresh { material: dated, public, commitment })
}

/// An import key, opened.
pub(crate) struct ImportKey {
    expires: Timestamp,
    key: RsaKey,
}

impl ImportKey {
    /// From what [`generate`] made.
    pub(crate) fn load(dated: &[u8]) -> Result<Self, Error> {
        let (at, pkcs8) =
            dated.split_first_chunk::<8>().ok_or_else(|| refusal::sealed("an import key is damaged"))?;
        let expires = Timestamp::from_micros(u64::from_be_bytes(*at));
        Ok(Self { expires, key: RsaKey::new(MODULUS, pkcs8)? })
    }

    /// The material that a wrapped key holds, as a key of the algorithm.
    ///
    /// # Errors
    /// As [`holdfast_core::port::KeyStore::finish_import`].
    pub(crate) fn open<W: World>(
        &self,
        world: &W,
        algorithm: Algorithm,
        wrapped: Wrapped<'_>,
    ) -> Result<Fresh, Error> {
        check_time(self.expires, wrapped.now)?;
        let (outer, inner) = layers(wrapped.bytes)?;
        let brought = unwrap(world, self.key.decrypt(PADDING, &[], outer).ok(), inner)?;
        checked(algorithm, brought, wrapped.check_value)
    }
}

/// # Errors
/// `key-state` from the expiry on.
pub(crate) fn check_time(expires: Timestamp, now: Timestamp) -> Result<(), Error> {
    if now < expires {
        return Ok(());
    }
    let at = String::from_utf8_lossy(&expires.text()).into_owned();
    let detail = format!("the import key expired at {at}");
    Err(Error::new(ErrorKind::KeyState, Stage::Perform, detail)
        .remedy("destroy the waiting key, and begin the import again"))
}

/// What is for the import key, and what is for the key in that.
pub(crate) fn layers(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    bytes.split_at_checked(MODULUS.len()).ok_or_else(integrity)
}

/// The inner layer. Where the outer one did not open, it is tried with a key that nobody has, so that neither words nor time
/// tell which of them it was: else the outer one would be an oracle (Manger's) for what was wrapped.
pub(crate) fn unwrap<W: World>(world: &W, outer: Option<Secret>, inner: &[u8]) -> Result<Secret, Error> {
    let stray = Secret::fill_with(key_wrap::KEY_LEN, |out| world.fill(out))?;
    let kek = outer.filter(|kek| kek.len() == key_wrap::KEY_LEN).unwrap_or(stray);
    WrapKey::new(kek.expose(), true)?.unwrap(inner).map_err(|_| integrity())
}

/// A key that is made here to be brought into a token: as software has it, and as it is brought there, the bytes of a secret key or PKCS#8.
///
/// # Errors
/// `unsupported` for an algorithm whose keys nothing brings.
pub(crate) fn generate_to_bring<W: World>(algorithm: Algorithm, world: &W) -> Result<(Fresh, Secret), Error> {
    check_algorithm(algorithm)?;
    let prefixed = |prefix: &[u8], key: &Secret| {
        let mut pkcs8 = Secret::new(Vec::with_capacity(prefix.len().saturating_add(key.len())));
        pkcs8.expose_mut().extend_from_slice(prefix);
        pkcs8.expose_mut().extend_from_slice(key.expose());
        pkcs8
    };
    let of_curve = |curve| {
        let pkcs8 = signature::generate_ecdsa(curve)?.material;
        Ok((adopt(algorithm, Secret::from(pkcs8.expose()))?, pkcs8))
    };
    match algorithm {
        Algorithm::EcdhP256 => return of_curve(Curve::P256),
        Algorithm::EcdhP384 => return of_curve(Curve::P384),
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::Rsa2048
        | Algorithm::Rsa3072
        | Algorithm::Rsa4096
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::Ed25519
        | Algorithm::MlDsa65
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::X25519
        | Algorithm::MlKem768 => {}
    }
    let fresh = super::material::generate(algorithm, world)?;
    let bytes = match algorithm {
        Algorithm::Ed25519 => prefixed(PKCS8_ED25519, &fresh.material),
        Algorithm::X25519 => prefixed(PKCS8_X25519, &fresh.material),
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::Rsa2048
        | Algorithm::Rsa3072
        | Algorithm::Rsa4096
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::MlDsa65
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::EcdhP256
        | Algorithm::EcdhP384
        | Algorithm::MlKem768 => Secret::from(fresh.material.expose()),
    };
    Ok((fresh, bytes))
}

/// What was brought as a key of the algorithm, if it is the one of the check value.
pub(crate) fn checked(algorithm: Algorithm, brought: Secret, check_value: &[u8]) -> Result<Fresh, Error> {
    if !algorithm.is_asymmetric() && !is_checked(algorithm, brought.expose(), check_value)? {
        return Err(integrity());
    }
    let fresh = adopt(algorithm, brought)?;
    match &fresh.public {
        Some(public) if !is_checked(algorithm, public, check_value)? => Err(integrity()),
        Some(_) | None => Ok(fresh),
    }
}

/// One refusal for both layers and the check value.
fn integrity() -> Error {
    refusal::integrity().remedy(
        "wrap the material again for the public key of this very import, and compute its check value again",
    )
}

/// Whether it has this check value.
fn is_checked(algorithm: Algorithm, of: &[u8], check_value: &[u8]) -> Result<bool, Error> {
    let digest = digest::of(Hash::Sha256, Message::Whole(of))?;
    let expected = digest.as_ref().get(..check_value_len(algorithm)).unwrap_or_default();
    Ok(Secret::from(expected) == Secret::from(check_value))
}

/// Material that somebody else made, in the form in which it is kept here.
fn adopt(algorithm: Algorithm, brought: Secret) -> Result<Fresh, Error> {
    let fresh = match algorithm {
        Algorithm::Rsa2048 => rsa_of(Modulus::Bits2048, brought),
        Algorithm::Rsa3072 => rsa_of(Modulus::Bits3072, brought),
        Algorithm::Rsa4096 => rsa_of(Modulus::Bits4096, brought),
        Algorithm::EcdsaP256 => ecdsa_of(Curve::P256, &brought),
        Algorithm::EcdsaP384 => ecdsa_of(Curve::P384, &brought),
        Algorithm::EcdsaP521 => ecdsa_of(Curve::P521, &brought),
        Algorithm::EcdhP256 => ecdh_of(Group::P256, Curve::P256, &brought),
        Algorithm::EcdhP384 => ecdh_of(Group::P384, Curve::P384, &brought),
        Algorithm::Ed25519 => bare(&brought, PKCS8_ED25519).and_then(signature::ed25519_of),
        Algorithm::X25519 => bare(&brought, PKCS8_X25519).and_then(agreement::x25519_of),
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512 => {
            // Loaded once: so a wrong length is refused now, and not at the first use.
            load(algorithm, brought.expose()).and_then(|_: Ready| Fresh::of_symmetric(brought))
        }
        Algorithm::MlDsa65 | Algorithm::MlKem768 => Err(no_key(algorithm)),
    };
    fresh.map_err(|error| no_key(algorithm).because(error))
}

fn no_key(algorithm: Algorithm) -> Error {
    let detail = format!("what was wrapped is no key of `{algorithm}`");
    let remedy = match algorithm.family() {
        Family::Aead | Family::KeyWrap | Family::Hmac => {
            "wrap the bytes of the key themselves: 32, of `hmac-sha-384` 48, of `hmac-sha-512` 64"
        }
        Family::Rsa | Family::Signature | Family::Agreement | Family::Kem => {
            "wrap the private key as PKCS#8 in DER, without a password: `openssl pkcs8 -topk8 -nocrypt -outform DER`"
        }
    };
    Error::new(ErrorKind::Malformed, Stage::Perform, detail).remedy(remedy)
}

fn rsa_of(modulus: Modulus, pkcs8: Secret) -> Result<Fresh, Error> {
    let spki = RsaKey::new(modulus, pkcs8.expose())?.spki()?;
    Fresh::asymmetric(modulus.algorithm(), pkcs8, &spki)
}

fn ecdsa_of(curve: Curve, pkcs8: &Secret) -> Result<Fresh, Error> {
    let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), pkcs8.expose()).map_err(rejected)?;
    // As this house writes it, whatever else stood beside the key.
    let kept = pair.to_pkcs8v1().map_err(refusal::library)?;
    Fresh::asymmetric(curve.algorithm(), Secret::from(kept.as_ref()), &spki(pair.public_key())?)
}

fn ecdh_of(group: Group, curve: Curve, pkcs8: &Secret) -> Result<Fresh, Error> {
    let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), pkcs8.expose()).map_err(rejected)?;
    let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().map_err(refusal::library)?;
    Fresh::asymmetric(group.algorithm(), Secret::from(scalar.as_ref()), &spki(pair.public_key())?)
}

/// The 32 bytes of a key of RFC 8410.
fn bare(pkcs8: &Secret, prefix: &[u8]) -> Result<Secret, Error> {
    let bytes = pkcs8.expose().strip_prefix(prefix).filter(|bytes| bytes.len() == 32);
    bytes.map(Secret::from).ok_or_else(rejected_material)
}
