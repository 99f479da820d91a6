//! RSA (RFC 8017): OAEP, PSS, PKCS#1 v1.5 signatures, and PKCS#1 v1.5 decryption for keys created for it.
//!
//! **PKCS#1 v1.5 decryption.** AWS-LC has no implicit rejection, so a padding that is wrong is an error. It is always the one `integrity`
//! error, after the same private operation (blinded) and a check in constant time, whichever byte is wrong; the log counts it like any other
//! refusal. Whether a ciphertext was accepted still shows: that is what the padding itself gives away (Bleichenbacher's oracle), and why
//! no key has this operation unless it was created with it.

use super::digest;
use super::ffi::RsaPkey;
use super::material::Fresh;
use super::signature::{rejected, rejected_material, spki};
use crate::refusal;
use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding, UnparsedPublicKey, VerificationAlgorithm};
use holdfast_core::algorithm::{Algorithm, Hash, RsaPadding, SignatureScheme};
use holdfast_core::work::Message;
use holdfast_core::{Error, Secret};

/// The sizes on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modulus {
    /// 2048 bits.
    Bits2048,
    /// 3072 bits.
    Bits3072,
    /// 4096 bits.
    Bits4096,
}

impl Modulus {
    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::Bits2048 => Algorithm::Rsa2048,
            Self::Bits3072 => Algorithm::Rsa3072,
            Self::Bits4096 => Algorithm::Rsa4096,
        }
    }

    /// Length in bytes, also of every ciphertext.
    pub(crate) fn len(self) -> usize {
        self.library().len()
    }

    const fn library(self) -> KeySize {
        match self {
            Self::Bits2048 => KeySize::Rsa2048,
            Self::Bits3072 => KeySize::Rsa3072,
            Self::Bits4096 => KeySize::Rsa4096,
        }
    }
}

/// A key pair: one object that signs, one that encrypts and decrypts, and the public half.
pub(crate) struct RsaKey {
    signing: KeyPair,
    encryption: RsaPkey,
    public: Box<[u8]>,
    algorithm: Algorithm,
}

/// Makes a key; its material is PKCS#8. Takes up to seconds.
pub(crate) fn generate(modulus: Modulus) -> Result<Fresh, Error> {
    let pair = KeyPair::generate(modulus.library()).map_err(refusal::library)?;
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(refusal::library)?;
    Fresh::asymmetric(modulus.algorithm(), Secret::from(pkcs8.as_ref()), &spki(pair.public_key())?)
}

impl RsaKey {
    /// From PKCS#8; takes about a millisecond, since the key's consistency is checked.
    pub(crate) fn new(modulus: Modulus, pkcs8: &[u8]) -> Result<Self, Error> {
        let signing = KeyPair::from_pkcs8(pkcs8).map_err(rejected)?;
        let encryption = RsaPkey::parse(pkcs8).ok_or_else(rejected_material)?;
        if encryption.modulus_len() != modulus.library().len() {
            return Err(rejected_material());
        }
        let public = signing.public_key().as_ref().into();
        Ok(Self { signing, encryption, public, algorithm: modulus.algorithm() })
    }

    /// The public half as DER SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Result<Vec<u8>, Error> {
        spki(self.signing.public_key())
    }

    /// Encrypts with the public half and appends the result to `frame`.
    ///
    /// # Errors
    /// `unsupported` for PKCS#1 v1.5; `malformed` for a plaintext that the padding leaves no room for.
    pub(crate) fn encrypt(
        &self,
        frame: Vec<u8>,
        padding: RsaPadding,
        label: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Error> {
        encrypt(&self.encryption, frame, padding, label, plaintext)
    }

    /// Decrypts with the private half.
    ///
    /// # Errors
    /// `integrity`, whatever is wrong with it, its length included.
    pub(crate) fn decrypt(&self, padding: RsaPadding, label: &[u8], body: &[u8]) -> Result<Secret, Error> {
        self.encryption.decrypt(padding, label, body).ok_or_else(refusal::integrity)
    }

    /// The part of signing that reads the message: cheap, and needs no private key.
    ///
    /// # Errors
    /// `unsupported` for another key's scheme; `malformed` for a digest of another length.
    pub(crate) fn digest(&self, scheme: SignatureScheme, message: Message<'_>) -> Result<Digest, Error> {
        input(self.algorithm, scheme, message)
    }

    /// The part of signing that takes time.
    pub(crate) fn sign(&self, scheme: SignatureScheme, digest: &Digest) -> Result<Vec<u8>, Error> {
        let encoding =
            signing(scheme).ok_or_else(|| refusal::unsupported("the key does not sign by this scheme"))?;
        let mut made = vec![0; self.signing.public_modulus_len()];
        self.signing.sign_digest(encoding, digest, &mut made).map_err(refusal::library)?;
        Ok(made)
    }

    /// Whether it is the key's signature.
    ///
    /// # Errors
    /// As for [`Self::digest`].
    pub(crate) fn verify(
        &self,
        scheme: SignatureScheme,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<bool, Error> {
        let digest = self.digest(scheme, message)?;
        verify(&self.public, scheme, &digest, signature)
    }
}

/// What is signed or verified: the digest.
///
/// # Errors
/// As [`RsaKey::digest`].
pub(crate) fn input(
    algorithm: Algorithm,
    scheme: SignatureScheme,
    message: Message<'_>,
) -> Result<Digest, Error> {
    match (scheme.fits(algorithm), scheme.hash()) {
        (true, Some(hash)) => digest::of(hash, message),
        (false, _) | (_, None) => Err(refusal::unsupported("the key does not sign by this scheme")),
    }
}

/// Encrypts with a public half and appends the result to `frame`.
///
/// # Errors
/// As [`RsaKey::encrypt`].
pub(crate) fn encrypt(
    key: &RsaPkey,
    mut frame: Vec<u8>,
    padding: RsaPadding,
    label: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let RsaPadding::Oaep { hash, mgf1: _ } = padding else {
        return Err(refusal::unsupported("PKCS#1 v1.5 is for decryption only"));
    };
    // RFC 8017 §7.1.1, step 1b.
    let room = key.modulus_len().saturating_sub(2 * hash.len() + 2);
    if plaintext.len() > room {
        return Err(refusal::malformed(
            "the plaintext is longer than this key and padding can take",
            "encrypt a data key with it, and the data with that; or use a smaller hash or a larger key",
        ));
    }
    let start = frame.len();
    frame.resize(start.saturating_add(key.modulus_len()), 0);
    let out = frame.get_mut(start..).unwrap_or_default();
    let done = key.encrypt(padding, label, plaintext, out);
    done.map(|()| frame).ok_or_else(|| refusal::library(aws_lc_rs::error::Unspecified))
}

/// Verifies with a public half: DER RSAPublicKey or SubjectPublicKeyInfo.
pub(crate) fn verify(
    public: &[u8],
    scheme: SignatureScheme,
    digest: &Digest,
    signature: &[u8],
) -> Result<bool, Error> {
    let verifying =
        verifying(scheme).ok_or_else(|| refusal::unsupported("the key does not sign by this scheme"))?;
    Ok(UnparsedPublicKey::new(verifying, public).verify_digest(digest, signature).is_ok())
}

/// PSS with a salt as long as the hash, MGF1 with the same hash.
fn signing(scheme: SignatureScheme) -> Option<&'static dyn RsaEncoding> {
    match scheme {
        SignatureScheme::RsaPss(Hash::Sha256) => Some(&signature::RSA_PSS_SHA256),
        SignatureScheme::RsaPss(Hash::Sha384) => Some(&signature::RSA_PSS_SHA384),
        SignatureScheme::RsaPss(Hash::Sha512) => Some(&signature::RSA_PSS_SHA512),
        SignatureScheme::RsaPkcs1v15(Hash::Sha256) => Some(&signature::RSA_PKCS1_SHA256),
        SignatureScheme::RsaPkcs1v15(Hash::Sha384) => Some(&signature::RSA_PKCS1_SHA384),
        SignatureScheme::RsaPkcs1v15(Hash::Sha512) => Some(&signature::RSA_PKCS1_SHA512),
        SignatureScheme::RsaPss(Hash::Sha1)
        | SignatureScheme::RsaPkcs1v15(Hash::Sha1)
        | SignatureScheme::Ecdsa(_)
        | SignatureScheme::Ed25519
        | SignatureScheme::MlDsa65 => None,
    }
}

fn verifying(scheme: SignatureScheme) -> Option<&'static dyn VerificationAlgorithm> {
    match scheme {
        SignatureScheme::RsaPss(Hash::Sha256) => Some(&signature::RSA_PSS_2048_8192_SHA256),
        SignatureScheme::RsaPss(Hash::Sha384) => Some(&signature::RSA_PSS_2048_8192_SHA384),
        SignatureScheme::RsaPss(Hash::Sha512) => Some(&signature::RSA_PSS_2048_8192_SHA512),
        SignatureScheme::RsaPkcs1v15(Hash::Sha256) => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        SignatureScheme::RsaPkcs1v15(Hash::Sha384) => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        SignatureScheme::RsaPkcs1v15(Hash::Sha512) => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        SignatureScheme::RsaPss(Hash::Sha1)
        | SignatureScheme::RsaPkcs1v15(Hash::Sha1)
        | SignatureScheme::Ecdsa(_)
        | SignatureScheme::Ed25519
        | SignatureScheme::MlDsa65 => None,
    }
}
