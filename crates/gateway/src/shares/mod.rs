//! The root key in shares: nobody alone has it, and no file.
//!
//! [`Ceremony`] hands the shares out, each encrypted to its custodian's own age recipient, and ends when each has proven that they can open
//! theirs. [`Roster`] is what is known of them in public, `root.shares`. [`Gathering`] takes them back, encrypted to a key that lives in this
//! process's memory alone. [`Rotation`] does both for the next generation. [`custodian`] is the other side of both.

mod attempts;
mod ceremony;
pub mod custodian;
mod force;
mod gathering;
mod roster;
mod rotation;
#[cfg(test)]
pub(crate) mod tests;
mod together;

pub(crate) use attempts::network;
pub use attempts::{Attempts, Wait};
pub(crate) use ceremony::check;
pub use ceremony::{Asked, Ceremony, NewCustodian};
pub(crate) use force::{in_force, passed};
pub use gathering::{Gathering, Given, Progress};
pub use roster::{Custodian, Roster};
pub use rotation::{HandedOut, Rotation};
pub use together::CeremonyLock;
pub(crate) use together::clear;

pub use crate::authentic::Authentic;
use crate::fault::Fault;
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519::Identity;
pub use age::x25519::Recipient;
use holdfast_core::Secret;
pub use holdfast_keystore::root::RootKey;
use holdfast_keystore::root::share::{MAX_TEXT, Share};
use std::io::{Read as _, Write as _};
use std::path::Path;

pub use holdfast_keystore::root::spoken::{Challenge, Fingerprint, Proof};

/// The most bytes of an encrypted share that are looked at.
pub const MAX_SEALED: usize = 8 << 10;

/// Encrypts a share to a recipient.
fn seal(share: &Share, recipient: &Recipient, format: Format) -> Result<Vec<u8>, Fault> {
    seal_text(&share.to_text(), recipient, format)
}

/// Encrypts a share's text to a recipient.
pub(crate) fn seal_text(text: &Secret, recipient: &Recipient, format: Format) -> Result<Vec<u8>, Fault> {
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

/// Decrypts a share, armored or not.
fn open<'a>(sealed: &[u8], identities: impl Iterator<Item = &'a dyn age::Identity>) -> Result<Share, Closed> {
    let text = open_text(sealed, identities, MAX_TEXT).map_err(Closed::Age)?;
    Share::parse(text.expose()).map_err(Closed::Share)
}

/// Decrypts a share's text, armored or not. What is inside comes straight into memory that is wiped; of what is longer than a share one byte
/// more, which is then no share.
pub(crate) fn open_text<'a>(
    sealed: &[u8],
    identities: impl Iterator<Item = &'a dyn age::Identity>,
    most: usize,
) -> Result<Secret, age::DecryptError> {
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(sealed))?;
    let reader = decryptor.decrypt(identities)?;
    let mut text = Secret::new(Vec::with_capacity(most + 1));
    let limit = u64::try_from(most + 1).unwrap_or(u64::MAX);
    reader.take(limit).read_to_end(text.expose_mut())?;
    Ok(text)
}

/// The identities in a file.
pub(crate) type Identities = Vec<Box<dyn age::Identity + Send + Sync>>;

/// Reads a file of age identities.
///
/// # Errors
/// When it cannot be read, or holds none.
pub(crate) fn identities(path: &Path) -> Result<Identities, Fault> {
    let refused = |error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::new(format!("`{}` holds no age identity", path.display()))
            .remedy("give the file that `age-keygen` wrote")
            .because(error)
    };
    age::IdentityFile::from_file(path.display().to_string())
        .map_err(|error| refused(error.into()))?
        .into_identities()
        .map_err(|error| refused(error.into()))
}

/// A fresh key of this process, and what it is recognised by.
pub(crate) fn fresh() -> (Identity, String, Fingerprint) {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let fingerprint = Fingerprint::of(&recipient);
    (identity, recipient, fingerprint)
}
