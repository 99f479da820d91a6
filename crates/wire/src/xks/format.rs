//! The form of a ciphertext: IV, ciphertext, tag and metadata apart; what it is bound to; and its integrity value.
//!
//! ```text
//! metadata              0x01 ‖ key version (4, big-endian)
//! associated data       len16(AAD) ‖ AAD ‖ len8(metadata) ‖ metadata             specification, "inner AAD"
//! integrity value       SHA-256(AAD ‖ metadata ‖ IV ‖ ciphertext ‖ tag)          specification, "CDIV"
//! ```
//!
//! The metadata is authenticated, so whoever changes the version in it opens nothing. Associated data of this form never begins as a
//! binding of ours does: read as a length, the first two letters of that are more than an AAD may have.

use aws_lc_rs::digest::{Context, SHA256};
use holdfast_core::KeyVersion;
use holdfast_core::operation::Associate;

/// Length of an initialisation vector in bytes.
pub const IV_LEN: usize = 12;
/// Length of a tag in bytes.
pub const TAG_LEN: usize = 16;
/// The most bytes of additional authenticated data.
pub const MAX_AAD: usize = 8192;
/// The most bytes of a plaintext.
pub const MAX_PLAINTEXT: usize = 4300;
const FORMAT: u8 = 1;

/// The metadata of a ciphertext that this version makes.
pub fn metadata(version: KeyVersion) -> [u8; 5] {
    let mut metadata = [FORMAT, 0, 0, 0, 0];
    if let Some((_, number)) = metadata.split_first_chunk_mut::<1>() {
        number.copy_from_slice(&version.get().to_be_bytes());
    }
    metadata
}

/// The version that metadata names; `None` for what is no metadata of ours.
pub fn version_of(metadata: &[u8]) -> Option<KeyVersion> {
    let [FORMAT, a, b, c, d] = *metadata else { return None };
    KeyVersion::new(u32::from_be_bytes([a, b, c, d]))
}

/// The additional authenticated data of a request.
#[derive(Debug)]
pub struct Aad(pub Vec<u8>);

impl Associate for Aad {
    fn associated(&self, version: KeyVersion) -> Vec<u8> {
        inner(&self.0, &metadata(version))
    }

    fn brought(&self) -> &[u8] {
        &self.0
    }

    fn integrity(&self, version: KeyVersion, body: &[u8]) -> [u8; 32] {
        let (iv, rest) = body.split_at(body.len().min(IV_LEN));
        let (ciphertext, tag) = rest.split_at(rest.len().saturating_sub(TAG_LEN));
        integrity_value(&self.0, &metadata(version), iv, ciphertext, tag)
    }
}

/// What AES-GCM authenticates; neither is longer than its length can say.
fn inner(aad: &[u8], metadata: &[u8]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(aad.len().saturating_add(metadata.len()).saturating_add(3));
    inner.extend_from_slice(&u16::try_from(aad.len()).unwrap_or(u16::MAX).to_be_bytes());
    inner.extend_from_slice(aad);
    inner.push(u8::try_from(metadata.len()).unwrap_or(u8::MAX));
    inner.extend_from_slice(metadata);
    inner
}

/// The ciphertext data integrity value.
pub fn integrity_value(aad: &[u8], metadata: &[u8], iv: &[u8], ciphertext: &[u8], tag: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in [aad, metadata, iv, ciphertext, tag] {
        hash.update(part);
    }
    let mut value = [0; 32];
    value.copy_from_slice(hash.finish().as_ref());
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::aead::{AES_256_GCM, Aad as GcmAad, LessSafeKey, Nonce, UnboundKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use holdfast_core::binding::{Binding, BindingClass};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// The vectors of the digest's section 7.3: the same key, IV and plaintext with and without AAD and metadata.
    #[test]
    fn the_published_vectors() {
        let key: Vec<u8> = (0..32).collect();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        let iv = hex("a1a2a3a4a5a6a7a8a9aaabac");
        let aad = b"dept=payroll,env=prod".as_slice();
        let metadata = hex("0100000007");
        let plain = b"wrap me: 32-byte data key here!!".as_slice();
        let rows = [
            (
                aad,
                &*metadata,
                plain,
                "a17e6ab36307540fe552235f37b8f717",
                "pPWHCE3+QX/Kq4TEGluI1/8aMjwD5KZpN382pYTlH0U=",
            ),
            (
                aad,
                &[],
                plain,
                "0f613815a41fbc2d7102e5ce8c5ad808",
                "zVADXYW6qX7LDLuQSXaNNrMLkYiPLwvaG5pJr5g+oS0=",
            ),
            (
                &[],
                &*metadata,
                plain,
                "13d18776ea6f3327277c1abefd832179",
                "vjKkSP6ZUlfO2fuwVLKLaSovkb7sgvT+XItVNoBibxU=",
            ),
            (
                &[],
                &[],
                plain,
                "7eea6fa023509052085a630b43d955ac",
                "zOFAjA1pJHD/ks9ceoyj74m9FpOLIpKgGT8uR/o27ug=",
            ),
            (
                &[],
                &[],
                &[],
                "820553851ae93fba9ae5c335e8250bbe",
                "zl1q1wNFcUAFw6xI95W/T3KfAFFuFFn4ZmVLjLJMFls=",
            ),
        ];
        for (aad, metadata, plain, tag, value) in rows {
            let mut body = plain.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(&iv).unwrap();
            let made = key.seal_in_place_separate_tag(nonce, GcmAad::from(inner(aad, metadata)), &mut body);
            let made = made.unwrap();
            assert_eq!(made.as_ref(), hex(tag));
            let found = integrity_value(aad, metadata, &iv, &body, made.as_ref());
            assert_eq!(STANDARD.encode(found), value);
        }
    }

    /// The specification's own.
    #[test]
    fn the_published_integrity_value() {
        let [metadata, iv, ciphertext, tag] =
            ["a2V5X3ZlcnNpb249MQ==", "HMrlRw85cAJUd5Ax", "ghxkK1txeDNn3q8Y", "vBxN2ncH1oEkR8WVXpmyYQ=="]
                .map(|text| STANDARD.decode(text).unwrap());
        let value = integrity_value(b"project=nile,department=marketing", &metadata, &iv, &ciphertext, &tag);
        assert_eq!(STANDARD.encode(value), "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=");
    }

    #[test]
    fn metadata_leads_back_and_nothing_else_is_one() {
        let version = KeyVersion::new(7).unwrap();
        assert_eq!(metadata(version).as_slice(), hex("0100000007"));
        assert_eq!(version_of(&metadata(version)), Some(version));
        for bad in ["", "01", "0100000000", "0200000007", "010000000700", "01000007"] {
            assert_eq!(version_of(&hex(bad)), None, "{bad}");
        }
    }

    /// No AAD that is taken makes the encoding of a binding: a ciphertext of this protocol opens through no other.
    #[test]
    fn no_associated_data_is_like_a_binding() {
        let tenant = "acme".parse().unwrap();
        let binding = Binding {
            class: BindingClass::Data,
            algorithm: holdfast_core::algorithm::Algorithm::Aes256Gcm,
            tenant: &tenant,
            key: holdfast_core::KeyId::from_bytes([1; 16]),
            version: KeyVersion::FIRST,
            protocol: "native",
            context: &holdfast_core::context::Context::EMPTY,
        };
        let encoded = binding.encode();
        let length = usize::from(u16::from_be_bytes([encoded[0], encoded[1]]));
        assert!(length > MAX_AAD, "{length}");
    }
}
