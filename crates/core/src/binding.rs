//! The one encoding of what a ciphertext is bound to: its associated data.
//!
//! ```text
//! "holdfast/binding/v1" ‖ 0x00
//! ‖ class (1 byte) ‖ algorithm (1 byte) ‖ version (4, big-endian) ‖ key id (16)
//! ‖ len16(protocol) ‖ protocol ‖ len16(tenant) ‖ tenant
//! ‖ count of pairs (2, big-endian) ‖ for each, sorted by name: len32(name) ‖ name ‖ len32(value) ‖ value
//! ```
//!
//! Each field has a fixed length or stands behind its length, so no two bindings encode alike.

use crate::algorithm::Algorithm;
use crate::context::Context;
use crate::id::{KeyId, KeyVersion, TenantId};

/// What a ciphertext was made for; one class opens nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BindingClass {
    /// Encrypted data.
    Data = 1,
    /// Wrapped bytes that the caller brought.
    Wrapped = 2,
    /// A data key that the gateway made.
    DataKey = 3,
}

impl BindingClass {
    /// From its one-byte code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Data),
            2 => Some(Self::Wrapped),
            3 => Some(Self::DataKey),
            _ => None,
        }
    }
}

/// Everything that a ciphertext is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// The operation class.
    pub class: BindingClass,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// The tenant that owns the key.
    pub tenant: &'a TenantId,
    /// The key.
    pub key: KeyId,
    /// The key's version.
    pub version: KeyVersion,
    /// The protocol's name.
    pub protocol: &'a str,
    /// The caller's own pairs.
    pub context: &'a Context,
}

const DOMAIN: &[u8] = b"holdfast/binding/v1\0";

impl Binding<'_> {
    /// Whether associated data begins like a binding: then it could be one, and nobody else's may.
    pub fn is_like(associated: &[u8]) -> bool {
        associated.starts_with(DOMAIN)
    }

    /// Appends the encoding to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let Self { class, algorithm, tenant, key, version, protocol, context } = self;
        out.extend_from_slice(DOMAIN);
        out.push(*class as u8);
        out.push(algorithm.code());
        out.extend_from_slice(&version.get().to_be_bytes());
        out.extend_from_slice(key.as_bytes());
        short(out, protocol);
        short(out, tenant.as_str());
        encode_pairs(out, context);
    }

    /// The encoding by itself.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.encode_into(&mut out);
        out
    }
}

/// Appends the context's pairs, count first.
pub(crate) fn encode_pairs(out: &mut Vec<u8>, context: &Context) {
    let pairs = context.pairs();
    out.extend_from_slice(&u16::try_from(pairs.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (name, value) in pairs {
        long(out, name);
        long(out, value);
    }
}

/// Protocol and tenant names are bounded far below 2^16 by their grammar.
fn short(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A context's names and values are bounded far below 2^32 by [`Context::MAX_BYTES`].
fn long(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding<'a>(tenant: &'a TenantId, context: &'a Context) -> Binding<'a> {
        Binding {
            class: BindingClass::Data,
            algorithm: Algorithm::Xaes256Gcm,
            tenant,
            key: KeyId::from_bytes([7; 16]),
            version: KeyVersion::FIRST,
            protocol: "native",
            context,
        }
    }

    /// Written by hand from the format above.
    #[test]
    fn the_published_vector() {
        let context = Context::new(vec![("b".into(), "22".into()), ("a".into(), "".into())]).unwrap();
        let tenant = "acme".parse().unwrap();
        let mut expected = b"holdfast/binding/v1\0".to_vec();
        expected.extend_from_slice(&[1, 1, 0, 0, 0, 1]);
        expected.extend_from_slice(&[7; 16]);
        expected.extend_from_slice(b"\0\x06native\0\x04acme\0\x02");
        expected.extend_from_slice(b"\0\0\0\x01a\0\0\0\0");
        expected.extend_from_slice(b"\0\0\0\x01b\0\0\0\x0222");
        assert_eq!(binding(&tenant, &context).encode(), expected);
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_encoding() {
        let tenant = "acme".parse().unwrap();
        let left = Context::new(vec![("ab".into(), "c".into())]).unwrap();
        let right = Context::new(vec![("a".into(), "bc".into())]).unwrap();
        assert_ne!(binding(&tenant, &left).encode(), binding(&tenant, &right).encode());
    }
}
