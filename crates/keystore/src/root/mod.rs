//! The root key: what every tenant's sealing key is sealed under.
//!
//! This is the seam for custody of the root. Whatever brings it ([`file`], [`share`]s of custodians, a [`tpm`]) ends in
//! [`RootKey::new`]; nothing else of software custody knows where it came from.

pub mod backup;
pub mod file;
pub mod order;
pub mod shamir;
pub mod share;
pub mod spoken;
pub mod tpm;
pub mod under;

use crate::sealing::derive::{self, Use};
use core::fmt;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Secret, Stage};

/// Length of a root key in bytes.
pub const ROOT_KEY_LEN: usize = 32;

/// The root key: 32 secret bytes, wiped on drop, never printed.
pub struct RootKey(Secret);

impl RootKey {
    /// Takes 32 secret bytes.
    ///
    /// # Errors
    /// `malformed` for any other length.
    pub fn new(bytes: Secret) -> Result<Self, Error> {
        if bytes.len() == ROOT_KEY_LEN {
            Ok(Self(bytes))
        } else {
            Err(Error::new(ErrorKind::Malformed, Stage::Start, "a root key has 32 bytes")
                .remedy("make one with `holdfast init`, or restore the root key that sealed this directory"))
        }
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// `internal`, when there is no entropy.
    pub fn generate<W: World>(world: &W) -> Result<Self, Error> {
        Secret::fill_with(ROOT_KEY_LEN, |bytes| world.fill(bytes)).map(Self)
    }

    /// The same once more, for a reading beside what takes this one.
    ///
    /// # Errors
    /// None by itself.
    pub fn again(&self) -> Result<Self, Error> {
        let bytes = self.expose();
        let copied = Secret::fill_with(bytes.len(), |out| {
            out.copy_from_slice(bytes);
            Ok(())
        });
        copied.map(Self)
    }

    /// Its public name: tells root keys apart and says nothing of them.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the cryptographic library fails.
    pub fn id(&self) -> Result<SealerId, Error> {
        SealerId::of(self.expose())
    }

    /// A 32-byte secret of another part of the gateway, derived (RFC 5869) so that it says nothing of the root key nor of what this store
    /// derives: `label` names the part, `context` the instance.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the cryptographic library fails.
    pub fn derive(&self, label: &str, context: &[u8]) -> Result<Secret, Error> {
        Secret::fill_with(32, |out| derive::fill_for_others(self.expose(), label, context, out))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(32 bytes)")
    }
}

/// The public name of a sealing key: 8 bytes derived from it one way, so that a blob says which key it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealerId(pub(crate) [u8; 8]);

impl SealerId {
    pub(crate) fn of(secret: &[u8]) -> Result<Self, Error> {
        let mut id = [0; 8];
        derive::fill(secret, Use::SealerId, &mut id)?;
        Ok(Self(id))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Of what [`Display`](fmt::Display) writes: 16 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 8];
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        file::unhex(text.as_bytes(), &mut id).filter(|()| text.bytes().all(is_digit)).map(|()| Self(id))
    }
}

impl fmt::Display for SealerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_has_32_bytes_and_prints_none_of_them() {
        assert!(RootKey::new(Secret::new(vec![1; 31])).is_err());
        assert!(RootKey::new(Secret::new(vec![1; 33])).is_err());
        let root = RootKey::new(Secret::new(vec![0xab; 32])).unwrap();
        assert_eq!(format!("{root:?}"), "RootKey(32 bytes)");
    }

    #[test]
    fn the_id_tells_root_keys_apart() {
        let id = |byte| RootKey::new(Secret::new(vec![byte; 32])).unwrap().id().unwrap().to_string();
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        assert_eq!(id(1).len(), 16);
    }
}
