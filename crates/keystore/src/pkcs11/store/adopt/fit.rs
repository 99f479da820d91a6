//! Whether an object is a key of an algorithm: its kind, its size, and what it may be used for.

use super::Seen;
use crate::pkcs11::message::Uses;
use crate::pkcs11::worker::curves;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::{Error, ErrorKind, Stage};

// CK_KEY_TYPE (PKCS#11 2.40 §4.8, 3.0 §4.9).
const CKK_RSA: u64 = 0x00;
const CKK_EC: u64 = 0x03;
const CKK_GENERIC_SECRET: u64 = 0x10;
const CKK_AES: u64 = 0x1f;
const CKK_SHA256_HMAC: u64 = 0x2b;
const CKK_SHA384_HMAC: u64 = 0x2c;
const CKK_SHA512_HMAC: u64 = 0x2d;
const CKK_EC_EDWARDS: u64 = 0x40;
const CKK_EC_MONTGOMERY: u64 = 0x41;

/// Shorter keys than this authenticate nothing (NIST SP 800-131A rev. 2 §10).
const SHORTEST_MAC_KEY: u32 = 14;

impl Seen {
    /// # Errors
    /// `unsupported`, saying what the object is or what it may not do.
    pub(super) fn fits(&self, algorithm: Algorithm, purpose: Purpose) -> Result<(), Error> {
        if !self.is_of(algorithm) {
            let detail = format!("the object is {}, and no key of `{algorithm}`", self.described());
            return Err(Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
                .remedy("name another algorithm by `--algorithm`, or another object"));
        }
        let missing = needed(algorithm, purpose).without(self.uses);
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.names().map(|name| format!("CKA_{}", name.to_uppercase())).collect();
        let detail = format!(
            "the token does not let the object do what a key of `{algorithm}` for `{}` does: {} is false",
            purpose.name(),
            names.join(" and ")
        );
        Err(Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
            .remedy("adopt it for what it may do, by `--algorithm` and `--purpose`"))
    }

    fn is_of(&self, algorithm: Algorithm) -> bool {
        let Self { key_type, length, parameters, .. } = self;
        let on = |kind: u64, curve: &[&[u8]]| *key_type == kind && curve.contains(&&**parameters);
        let mac = |kind: u64| [CKK_GENERIC_SECRET, kind].contains(key_type) && *length >= SHORTEST_MAC_KEY;
        match algorithm {
            Algorithm::Aes256Gcm | Algorithm::Aes256Kw | Algorithm::Aes256Kwp => {
                *key_type == CKK_AES && *length == 32
            }
            Algorithm::HmacSha256 => mac(CKK_SHA256_HMAC),
            Algorithm::HmacSha384 => mac(CKK_SHA384_HMAC),
            Algorithm::HmacSha512 => mac(CKK_SHA512_HMAC),
            // Its size is that of its modulus, which the public half shows.
            Algorithm::Rsa2048 => self.is_rsa(2048),
            Algorithm::Rsa3072 => self.is_rsa(3072),
            Algorithm::Rsa4096 => self.is_rsa(4096),
            Algorithm::EcdsaP256 | Algorithm::EcdhP256 => on(CKK_EC, &[curves::P256]),
            Algorithm::EcdsaP384 | Algorithm::EcdhP384 => on(CKK_EC, &[curves::P384]),
            Algorithm::EcdsaP521 => on(CKK_EC, &[curves::P521]),
            Algorithm::Ed25519 => on(CKK_EC_EDWARDS, &[curves::ED25519, curves::ED25519_NAMED]),
            Algorithm::X25519 => on(CKK_EC_MONTGOMERY, &[curves::X25519, curves::X25519_NAMED]),
            Algorithm::Xaes256Gcm | Algorithm::Aes256GcmSiv | Algorithm::MlDsa65 | Algorithm::MlKem768 => {
                false
            }
        }
    }

    /// Without a public half its size is not known: that is told apart later.
    fn is_rsa(&self, bits: usize) -> bool {
        self.key_type == CKK_RSA && (self.public.is_empty() || self.modulus_bits() == bits)
    }

    fn modulus_bits(&self) -> usize {
        let zeros = self.public.iter().take_while(|byte| **byte == 0).count();
        8 * self.public.len().saturating_sub(zeros)
    }

    fn described(&self) -> String {
        let Self { key_type, length, parameters, .. } = self;
        let curve = curves::NAMED
            .iter()
            .find(|(parameters_of, _)| *parameters_of == &**parameters)
            .map_or("a curve that is not used here", |(_, name)| name);
        match *key_type {
            CKK_RSA => format!("an RSA key of {} bits", self.modulus_bits()),
            CKK_EC => format!("an elliptic-curve key on {curve}"),
            CKK_EC_EDWARDS | CKK_EC_MONTGOMERY => format!("a key on {curve}"),
            CKK_AES => format!("an AES key of {} bits", u64::from(*length) * 8),
            CKK_GENERIC_SECRET => format!("a generic secret key of {length} bytes"),
            CKK_SHA256_HMAC | CKK_SHA384_HMAC | CKK_SHA512_HMAC => format!("an HMAC key of {length} bytes"),
            other => format!("of CKA_KEY_TYPE 0x{other:x}"),
        }
    }
}

/// What an object must be allowed for a key to do its work here. Whoever only decrypts has to show by encrypting which key it is.
fn needed(algorithm: Algorithm, purpose: Purpose) -> Uses {
    match algorithm {
        Algorithm::Aes256Gcm => Uses::ENCRYPT.with(Uses::DECRYPT),
        Algorithm::Aes256Kw | Algorithm::Aes256Kwp => Uses::WRAP.with(Uses::UNWRAP),
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => match purpose {
            Purpose::Sign => Uses::SIGN,
            Purpose::Encrypt | Purpose::Wrap | Purpose::Mac | Purpose::Agree | Purpose::Encapsulate => {
                Uses::DECRYPT
            }
        },
        Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::Ed25519 => Uses::SIGN,
        Algorithm::EcdhP256 | Algorithm::EcdhP384 | Algorithm::X25519 => Uses::DERIVE,
        Algorithm::Xaes256Gcm | Algorithm::Aes256GcmSiv | Algorithm::MlDsa65 | Algorithm::MlKem768 => {
            Uses::default()
        }
    }
}
