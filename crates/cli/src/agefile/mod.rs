//! age v1 files whose file key the gateway wraps: our recipient stanza, recipients and identities. Byte for byte in `docs/files.md`.

mod header;
mod keys;
mod name;
mod stanza;

pub(crate) use header::{Header, NoHeader};
pub(crate) use keys::{FileKeys, KeyService, MOST, Unopened, bound};
pub(crate) use name::Name;
pub(crate) use stanza::FileStanza;

/// How an age file begins.
pub(crate) const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// How an age file in ASCII armour begins.
pub(crate) const ARMOUR_MAGIC: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// The plugin's name, which recipients and identities carry.
pub(crate) const PLUGIN: &str = "holdfast";
