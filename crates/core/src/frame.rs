//! Our own ciphertext format: self-describing, key-committing, versioned. Byte for byte in `docs/ciphertext.md`.
//!
//! ```text
//! "HFC" ‖ 0x01 ‖ class (1) ‖ algorithm (1) ‖ key id (16) ‖ key version (4, big-endian) ‖ commitment (32) ‖ body
//! ```
//!
//! The body is what the algorithm makes: nonce ‖ ciphertext ‖ tag for authenticated encryption, the bare result for RSA and AES key wrap.
//! The header is not itself associated data: the binding repeats each of its fields, so a changed header opens nothing.

use crate::algorithm::Algorithm;
use crate::binding::BindingClass;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyId, KeyVersion};
use aws_lc_rs::digest::{Context, SHA256};
use subtle::ConstantTimeEq;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 58;
const MAGIC: [u8; 4] = *b"HFC\x01";

/// A value that only this key version has, published with every ciphertext: it makes a ciphertext open under no other key.
#[derive(Debug, Clone, Copy)]
pub struct Commitment(pub [u8; 32]);

impl Commitment {
    /// Of what is no version: an archive's opener is recognised by nothing.
    pub const NONE: Self = Self([0; 32]);
    /// Keeps what is hashed here from what is hashed anywhere else.
    pub const DOMAIN: &'static [u8] = b"holdfast/key-commitment/v1";

    /// To a key pair, by the DER of its public half; to a secret key, by what only that key makes of fixed input or by the key itself.
    ///
    /// SHA-256([`Self::DOMAIN`] ‖ algorithm code ‖ `of`).
    pub fn to(algorithm: Algorithm, of: &[u8]) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(Self::DOMAIN);
        hash.update(&[algorithm.code()]);
        hash.update(of);
        let mut commitment = [0; 32];
        commitment.copy_from_slice(hash.finish().as_ref());
        Self(commitment)
    }
}

impl PartialEq for Commitment {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Commitment {}

/// The header of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The operation class it was made by.
    pub class: BindingClass,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// The key.
    pub key: KeyId,
    /// The key's version.
    pub version: KeyVersion,
    /// The version's commitment.
    pub commitment: Commitment,
}

impl Header {
    /// A buffer that begins with the header and has room for `body` more bytes.
    pub fn begin(&self, body: usize) -> Vec<u8> {
        let Self { class, algorithm, key, version, commitment } = self;
        let mut frame = Vec::with_capacity(HEADER_LEN.saturating_add(body));
        frame.extend_from_slice(&MAGIC);
        frame.push(*class as u8);
        frame.push(algorithm.code());
        frame.extend_from_slice(key.as_bytes());
        frame.extend_from_slice(&version.get().to_be_bytes());
        frame.extend_from_slice(&commitment.0);
        frame
    }

    /// Splits a ciphertext into its header and body.
    ///
    /// # Errors
    /// `integrity` for anything that is not such a ciphertext: a flipped bit in the header is like any other.
    pub fn parse(ciphertext: &[u8]) -> Result<(Self, &[u8]), Error> {
        Self::try_parse(ciphertext)
            .ok_or_else(|| Error::new(ErrorKind::Integrity, Stage::Decode, "the input does not verify"))
    }

    fn try_parse(ciphertext: &[u8]) -> Option<(Self, &[u8])> {
        let (magic, rest) = ciphertext.split_first_chunk::<4>()?;
        let ([class, algorithm], rest) = rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (commitment, body) = rest.split_first_chunk::<32>()?;
        if *magic != MAGIC {
            return None;
        }
        let header = Self {
            class: BindingClass::from_code(*class)?,
            algorithm: Algorithm::from_code(*algorithm)?,
            key: KeyId::from_bytes(*key),
            version: KeyVersion::new(u32::from_be_bytes(*version))?,
            commitment: Commitment(*commitment),
        };
        Some((header, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            class: BindingClass::Wrapped,
            algorithm: Algorithm::Aes256GcmSiv,
            key: KeyId::from_bytes([3; 16]),
            version: KeyVersion::new(258).unwrap(),
            commitment: Commitment([9; 32]),
        }
    }

    #[test]
    fn the_published_vector() {
        let frame = header().begin(0);
        assert_eq!(frame.len(), HEADER_LEN);
        assert_eq!(&frame[..6], b"HFC\x01\x02\x03");
        assert_eq!(&frame[22..26], [0, 0, 1, 2]);
    }

    #[test]
    fn what_begins_is_parsed_again() {
        let mut frame = header().begin(3);
        frame.extend_from_slice(b"abc");
        assert_eq!(Header::parse(&frame).unwrap(), (header(), &b"abc"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            if let Ok((header, body)) = Header::parse(&bytes) {
                let mut again = header.begin(body.len());
                again.extend_from_slice(body);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
