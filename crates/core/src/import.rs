//! A tenant's own key material, brought from outside: the import key that opens it once, and what is said of it.
//!
//! An import begins with a key that is `pre-activation` and whose first version, `pre-activation` too, is the *import key*: an RSA key pair
//! that can open nothing but this one import. Its end makes the second version, of the material that came, and erases the first.

use crate::algorithm::Algorithm;
use crate::command::NewKey;
use crate::id::KeyName;
use crate::time::Timestamp;
use core::fmt::Write as _;
use std::sync::Arc;

/// How long an import key serves unless told, in seconds: a day.
pub const DEFAULT_SECONDS: u64 = 86_400;
/// The longest that one serves, in seconds: a week.
pub const MAX_SECONDS: u64 = 7 * 86_400;
/// The most bytes of a wrapped key: an RSA-4096 key in PKCS#8 has some 2,400.
pub const MAX_WRAPPED: usize = 8192;

/// An import to be begun.
#[derive(Debug, Clone)]
pub struct BeginImport {
    /// The key that it will be. Whether it is prepared is not looked at: it is, until its import is finished.
    pub new: NewKey,
    /// For how long the import key serves, in seconds; at most [`MAX_SECONDS`].
    pub seconds: u64,
}

/// An import to be finished.
#[derive(Debug, Clone)]
pub struct FinishImport {
    /// The key.
    pub key: KeyName,
    /// RSA-OAEP of an AES-256 key ‖ AES-KWP of the material under that (PKCS#11 2.40, CKM_RSA_AES_KEY_WRAP).
    pub wrapped: Arc<[u8]>,
    /// What the material must be: [`check_value_len`].
    pub check_value: Arc<[u8]>,
    /// What the key has done elsewhere.
    pub past: Past,
}

/// What an imported key has done before, which matters where its invocations are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Not said: for algorithms without a budget only.
    Untold,
    /// It has made so many invocations, at most; they count.
    Uses(u64),
    /// Whatever it has done: it only opens from now on.
    DecryptOnly,
}

/// What a key store is told of a wrapped key.
#[derive(Debug, Clone, Copy)]
pub struct Wrapped<'a> {
    /// As in [`FinishImport::wrapped`].
    pub bytes: &'a [u8],
    /// As in [`FinishImport::check_value`].
    pub check_value: &'a [u8],
    /// The time now: an import key serves until its expiry.
    pub now: Timestamp,
}

/// Length of a check value in bytes. Of symmetric material it is the first 8 bytes of its SHA-256; of a key pair the SHA-256 of the public
/// half as DER SubjectPublicKeyInfo.
pub const fn check_value_len(algorithm: Algorithm) -> usize {
    if algorithm.is_asymmetric() { 32 } else { 8 }
}

impl FinishImport {
    /// For the event: the check value, which names the material, and its past.
    pub(crate) fn subject(&self) -> Box<str> {
        let mut text = "imported, check value ".to_owned();
        // More than a check value is refused later; the log is spared it.
        for byte in self.check_value.iter().take(32) {
            let _written = write!(text, "{byte:02x}");
        }
        match self.past {
            Past::Untold => {}
            Past::Uses(uses) => {
                let _written = write!(text, ", {uses} prior uses");
            }
            Past::DecryptOnly => text.push_str(", decrypt only"),
        }
        text.into()
    }
}
