//! The form of what is wrapped, and what it is bound to.
//!
//! ```text
//! blob             header ‖ nonce ‖ ciphertext ‖ tag
//! header           0x01 ‖ kind ‖ key (4) ‖ key version (4, big-endian) ‖ len8(perimeter) ‖ perimeter ‖ hash (32, kind 2 alone)
//! kind             1: a data encryption key; 2: a user's private key, whose SubjectPublicKeyInfo has this SHA-256
//! key              the last four bytes of the id of the key that made it: which of a service's keys opens it
//! associated data  "holdfast/google-cse/v1" 0x00 ‖ header ‖ len16(resource) ‖ resource
//! ```
//!
//! The perimeter stands in clear, since a policy is asked about it before anything is decrypted: Google, which keeps the blob, gave it to us. It is
//! authenticated, so a blob with another one does not open. The resource is what each request brings: a blob of another does not open either, and
//! looks like one that was damaged. How long the nonce is says the key's algorithm, which no key changes.

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::operation::Associate;
use holdfast_core::{Error, ErrorKind, KeyId, KeyVersion, Stage};

/// The most bytes of a data encryption key.
pub const MAX_KEY: usize = 128;
/// The most bytes of the name of a perimeter, and of a resource's but for Gmail's.
pub const MAX_NAME: usize = 128;
/// The most bytes of the name of a resource of Gmail's.
pub const MAX_GMAIL_NAME: usize = 512;
/// The most bytes of a wrapped key that are read; those that are made have fewer.
pub const MAX_WRAPPED_KEY: usize = 1024;
/// The most bytes of a wrapped private key: 8 KiB in base64.
pub const MAX_WRAPPED_PRIVATE_KEY: usize = 6 << 10;
/// With which keys it is done: those with authenticated encryption.
pub const ALGORITHMS: &[Algorithm] = &[Algorithm::Xaes256Gcm, Algorithm::Aes256Gcm, Algorithm::Aes256GcmSiv];
const FORMAT: u8 = 1;
const DOMAIN: &[u8] = b"holdfast/google-cse/v1\0";

/// What is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A data encryption key.
    Key,
    /// A user's private key, whose SubjectPublicKeyInfo has this SHA-256.
    PrivateKey([u8; 32]),
}

/// What blobs call a key by: a part of its id that was random.
pub fn reference(key: KeyId) -> [u8; 4] {
    key.as_bytes().last_chunk().copied().unwrap_or_default()
}

/// What a blob is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What is wrapped.
    pub kind: Kind,
    /// The key that wraps it ([`reference`]).
    pub key: [u8; 4],
    /// The perimeter; empty where there is none.
    pub perimeter: Box<str>,
    /// The resource; empty for a private key.
    pub resource: Box<str>,
}

impl Bound {
    /// The header of a blob of this version.
    pub fn header(&self, version: KeyVersion) -> Vec<u8> {
        let Self { kind, key, perimeter, resource: _ } = self;
        let mut header = Vec::with_capacity(perimeter.len().saturating_add(43));
        header.push(FORMAT);
        header.push(match kind {
            Kind::Key => 1,
            Kind::PrivateKey(_) => 2,
        });
        header.extend_from_slice(key);
        header.extend_from_slice(&version.get().to_be_bytes());
        // Whoever made this has seen to its length; if nobody has, it opens nothing and overlaps with nothing.
        header.push(u8::try_from(perimeter.len()).unwrap_or(u8::MAX));
        header.extend_from_slice(perimeter.as_bytes());
        if let Kind::PrivateKey(hash) = kind {
            header.extend_from_slice(hash);
        }
        header
    }

    /// The blob: what the key store made, behind its header.
    pub fn blob(&self, version: KeyVersion, body: &[u8]) -> Vec<u8> {
        let mut blob = self.header(version);
        blob.extend_from_slice(body);
        blob
    }
}

impl Associate for Bound {
    fn associated(&self, version: KeyVersion) -> Vec<u8> {
        let header = self.header(version);
        let resource = self.resource.as_bytes();
        let length = header.len().saturating_add(resource.len());
        let mut associated = Vec::with_capacity(DOMAIN.len().saturating_add(length).saturating_add(2));
        associated.extend_from_slice(DOMAIN);
        associated.extend_from_slice(&header);
        associated.extend_from_slice(&u16::try_from(resource.len()).unwrap_or(u16::MAX).to_be_bytes());
        associated.extend_from_slice(resource);
        associated
    }

    fn brought(&self) -> &[u8] {
        self.resource.as_bytes()
    }

    fn integrity(&self, _version: KeyVersion, body: &[u8]) -> [u8; 32] {
        let mut value = [0; 32];
        value.copy_from_slice(digest(&SHA256, body).as_ref());
        value
    }
}

/// A blob, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// What it says that it holds.
    pub kind: Kind,
    /// The key that it says made it ([`reference`]).
    pub key: [u8; 4],
    /// The version that made it.
    pub version: KeyVersion,
    /// The perimeter that it says it belongs to; empty where there is none.
    pub perimeter: Box<str>,
    /// Nonce ‖ ciphertext ‖ tag.
    pub body: Vec<u8>,
}

impl Blob {
    /// Takes a blob apart.
    ///
    /// # Errors
    /// `integrity`, whatever is wrong with it.
    pub fn parse(blob: &[u8]) -> Result<Self, Error> {
        Self::try_parse(blob)
            .ok_or_else(|| Error::new(ErrorKind::Integrity, Stage::Decode, "the input does not verify"))
    }

    fn try_parse(blob: &[u8]) -> Option<Self> {
        let (&[FORMAT, kind, k, l, m, n, a, b, c, d, length], rest) = blob.split_first_chunk::<11>()? else {
            return None;
        };
        let version = KeyVersion::new(u32::from_be_bytes([a, b, c, d]))?;
        let (perimeter, rest) = rest.split_at_checked(usize::from(length))?;
        let perimeter = core::str::from_utf8(perimeter).ok().filter(|text| text.len() <= MAX_NAME)?;
        let (kind, body) = match kind {
            1 => (Kind::Key, rest),
            2 => {
                let (hash, rest) = rest.split_first_chunk::<32>()?;
                (Kind::PrivateKey(*hash), rest)
            }
            _ => return None,
        };
        Some(Self { kind, key: [k, l, m, n], version, perimeter: perimeter.into(), body: body.to_vec() })
    }

    /// What it must be bound to, for this resource.
    pub fn bound(&self, resource: &str) -> Bound {
        Bound { kind: self.kind, key: self.key, perimeter: self.perimeter.clone(), resource: resource.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xks::format::MAX_AAD;
    use holdfast_core::binding::Binding;
    use proptest::prelude::*;

    fn bound(kind: Kind, perimeter: &str, resource: &str) -> Bound {
        Bound { kind, key: *b"key!", perimeter: perimeter.into(), resource: resource.into() }
    }

    #[test]
    fn a_blob_byte_for_byte() {
        let seven = KeyVersion::new(7).unwrap();
        let made = bound(Kind::Key, "eu", "r");
        assert_eq!(made.blob(seven, &[9; 3]), b"\x01\x01key!\0\0\0\x07\x02eu\x09\x09\x09");
        assert_eq!(made.associated(seven), b"holdfast/google-cse/v1\0\x01\x01key!\0\0\0\x07\x02eu\0\x01r");
        let private = bound(Kind::PrivateKey([5; 32]), "", "");
        let expected = [&b"\x01\x02key!\0\0\0\x07\0"[..], &[5; 32], &[9]].concat();
        assert_eq!(private.blob(seven, &[9]), expected);
        for bad in [
            "",
            "01",
            "0101aabbccdd000000070265",
            "0101aabbccdd0000000000",
            "0201aabbccdd0000000700",
            "0103aabbccdd0000000700",
            "0102aabbccdd000000070000",
        ] {
            assert!(Blob::parse(&hex::decode(bad).unwrap()).is_err(), "{bad}");
        }
    }

    /// The largest blobs are shorter than Google takes.
    #[test]
    fn the_largest_blob() {
        let name = "n".repeat(MAX_NAME);
        let blob = bound(Kind::Key, &name, &name).blob(KeyVersion::FIRST, &[0; 24 + MAX_KEY + 16]);
        assert!(blob.len().div_ceil(3) * 4 <= 1024, "{}", blob.len());
    }

    /// A ciphertext of this protocol opens through no other.
    #[test]
    fn no_associated_data_is_like_anothers() {
        let made = bound(Kind::Key, "", "").associated(KeyVersion::FIRST);
        assert!(!Binding::is_like(&made));
        assert!(usize::from(u16::from_be_bytes([made[0], made[1]])) > MAX_AAD);
    }

    proptest! {
        #[test]
        fn what_is_made_is_taken_apart(
            number in 1_u32.., key: [u8; 4], perimeter in "\\PC{0,30}", resource: String, body: Vec<u8>, hash: Option<[u8; 32]>,
        ) {
            let kind = hash.map_or(Kind::Key, Kind::PrivateKey);
            let version = KeyVersion::new(number).unwrap();
            let made = Bound { key, ..bound(kind, &perimeter, &resource) };
            let blob = Blob::parse(&made.blob(version, &body)).unwrap();
            prop_assert_eq!((&blob.body, blob.version), (&body, version));
            prop_assert_eq!(blob.bound(&resource), made);
        }

        /// Two that differ in anything are bound to different bytes.
        #[test]
        fn what_differs_is_bound_differently(
            a in (0..3_u8, 0..2_u8, "[ab]{0,2}", "[ab]{0,2}"),
            b in (0..3_u8, 0..2_u8, "[ab]{0,2}", "[ab]{0,2}"),
        ) {
            let made = |(kind, key, perimeter, resource): &(u8, u8, String, String)| {
                let kind = if kind % 2 == 0 { Kind::Key } else { Kind::PrivateKey([*kind; 32]) };
                Bound { key: [*key; 4], ..bound(kind, perimeter, resource) }
            };
            let (a, b) = (made(&a), made(&b));
            let [x, y] = [&a, &b].map(|bound| bound.associated(KeyVersion::FIRST));
            prop_assert_eq!(a == b, x == y);
        }

        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes: Vec<u8>) {
            drop(Blob::parse(&bytes));
        }
    }
}
