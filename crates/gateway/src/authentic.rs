//! What lies beside the root key in public, `root.shares`, `root.tpm` and `root.hsm`, has a code that nobody makes without the root key: who
//! can write to the directory changes nothing of it unnoticed.
//!
//! ```text
//! key = derived from the root key, label "holdfast/root-files/v1"
//! mac = HMAC-SHA-256(key, NAME 0 what the file says but for `mac`, its gateway included, as compact JSON)
//! ```

use aws_lc_rs::hmac;
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use holdfast_keystore::root::RootKey;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

const LABEL: &str = "holdfast/root-files/v1";

/// Such a code. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac([u8; 32]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = ();

    /// Of 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        for (index, out) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).ok_or(())?;
            *out = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// Whether what a file says is known to be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Authentic {
    /// Whoever wrote it had the root key.
    Yes,
    /// It has no code: an earlier build wrote it, or somebody took the code away.
    Unknown,
}

/// Makes and checks the codes of one gateway's files.
pub(crate) struct Authenticator(Secret);

impl Authenticator {
    /// With a root key.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the cryptographic library fails.
    pub(crate) fn new(root: &RootKey) -> Result<Self, Error> {
        root.derive(LABEL, b"").map(Self)
    }

    /// The code of a file of that name, which says this.
    ///
    /// # Errors
    /// `internal`, when that cannot be written as text.
    pub(crate) fn mac(&self, name: &str, said: &impl Serialize) -> Result<Mac, Error> {
        let mut mac = [0; 32];
        let tag = hmac::sign(&self.key(), &message(name, said)?);
        mac.iter_mut().zip(tag.as_ref()).for_each(|(out, byte)| *out = *byte);
        Ok(Mac(mac))
    }

    /// Compares, in constant time.
    ///
    /// # Errors
    /// `key-store-unavailable` for a code that is wrong.
    pub(crate) fn check(
        &self,
        name: &str,
        said: &impl Serialize,
        mac: Option<Mac>,
    ) -> Result<Authentic, Error> {
        let Some(Mac(mac)) = mac else { return Ok(Authentic::Unknown) };
        match hmac::verify(&self.key(), &message(name, said)?, &mac) {
            Ok(()) => Ok(Authentic::Yes),
            Err(_) => {
                let detail = format!("`{name}` is not as it was written: its code does not fit the root key");
                Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail).remedy(format!(
                    "keep it as evidence, and put `{name}` back as it was written last: a backup or a copy of the directory has it"
                )))
            }
        }
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose())
    }
}

fn message(name: &str, said: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut message = name.as_bytes().to_vec();
    message.push(0);
    serde_json::to_writer(&mut message, said).map_err(|error| {
        Error::new(ErrorKind::Internal, Stage::Start, format!("`{name}` cannot be written as text"))
            .because(error)
    })?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::root;

    #[test]
    fn a_code_is_of_one_root_key_file_and_text() {
        let root = root();
        let (ours, said) = (Authenticator::new(&root).unwrap(), ["a", "b"]);
        let mac = ours.mac("root.shares", &said).unwrap();
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(ours.check("root.shares", &said, Some(mac)).unwrap(), Authentic::Yes);
        assert_eq!(ours.check("root.shares", &said, None).unwrap(), Authentic::Unknown);
        let other_root = Authenticator::new(&crate::shares::tests::root()).unwrap();
        for (by, name, said) in [
            (&ours, "root.tpm", said),
            (&ours, "root.shares", ["ab", ""]),
            (&other_root, "root.shares", said),
        ] {
            let error = by.check(name, &said, Some(mac)).unwrap_err();
            assert!(error.detail().contains("is not as it was written"), "{error}");
            assert!(error.remedy_text().contains("as it was written last"), "{error}");
        }
    }
}
