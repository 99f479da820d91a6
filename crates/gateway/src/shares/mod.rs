//! The root key in shares: nobody alone has it, and no file.
//!
//! [`Ceremony`] hands the shares out, each encrypted to its custodian's own age recipient, and ends when each has proven that they can open
//! theirs. [`Roster`] is what is known of them in public, `root.shares`. [`Gathering`] takes them back, encrypted to a key that lives in this
//! process's memory alone. [`Rotation`] does both for the next generation. [`custodian`] is the other side of both.

mod attempts;
mod ceremony;
pub mod custodian;
mod gathering;
mod roster;
mod rotation;
#[cfg(test)]
pub(crate) mod tests;
mod together;

pub use attempts::{Attempts, Wait};
pub use ceremony::{Asked, Ceremony, NewCustodian};
pub use gathering::{Gathering, Given, Progress};
pub use roster::{Custodian, Roster};
pub use rotation::{HandedOut, Rotation};
pub use together::CeremonyLock;
pub(crate) use together::clear;

use crate::fault::Fault;
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519::Identity;
pub use age::x25519::Recipient;
use holdfast_core::Secret;
pub use holdfast_keystore::root::RootKey;
use holdfast_keystore::root::share::{MAX_TEXT, Share};
use std::io::{Read as _, Write as _};

pub use holdfast_keystore::root::spoken::{Challenge, Fingerprint, Proof};

/// The most bytes of an encrypted share that are looked at.
pub const MAX_SEALED: usize = 8 << 10;

/// Encrypts a share to a recipient.
fn seal(share: &Share, recipient: &Recipient, format: Format) -> Result<Vec<u8>, Fault> {
    encrypt_as(&share.to_text(), recipient, format)
}

/// Encrypts what only one custodian is to read.
pub(crate) fn encrypt(text: &Secret, recipient: &Recipient) -> Result<Vec<u8>, Fault> {
    encrypt_as(text, recipient, Format::Binary)
}

fn encrypt_as(text: &Secret, recipient: &Recipient, format: Format) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| Fault::new("a share cannot be encrypted").because(error);
    let recipients = std::iter::once(recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients)
        .map_err(|error| Fault::new("a share cannot be encrypted").because(error))?;
    let armored = ArmoredWriter::wrap_output(Vec::new(), format).map_err(failed)?;
    let mut writer = encryptor.wrap_output(armored).map_err(failed)?;
    writer.write_all(text.expose()).map_err(failed)?;
    writer.finish().and_then(ArmoredWriter::finish).map_err(failed)
}

/// Why an encrypted share did not open.
enum Closed {
    /// It is for somebody else, or no age file.
    Age(age::DecryptError),
    /// What is inside is no share.
    Share(holdfast_core::Error),
}

/// Decrypts a share, armored or not. What is inside comes straight into memory that is wiped.
fn open<'a>(sealed: &[u8], identities: impl Iterator<Item = &'a dyn age::Identity>) -> Result<Share, Closed> {
    let text = decrypt(sealed, identities).map_err(Closed::Age)?;
    Share::parse(text.expose()).map_err(Closed::Share)
}

/// One more byte than a share may have: what is longer is none, nor anything else that is read here.
fn decrypt<'a>(
    sealed: &[u8],
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Secret, age::DecryptError> {
    let reader = age::Decryptor::new_buffered(ArmoredReader::new(sealed))?.decrypt(identities)?;
    let mut text = Secret::new(Vec::with_capacity(MAX_TEXT + 1));
    let limit = u64::try_from(MAX_TEXT + 1).unwrap_or(u64::MAX);
    reader.take(limit).read_to_end(text.expose_mut())?;
    Ok(text)
}

/// A fresh key of this process, and what it is recognised by.
fn fresh() -> (Identity, String, Fingerprint) {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let fingerprint = Fingerprint::of(&recipient);
    (identity, recipient, fingerprint)
}
