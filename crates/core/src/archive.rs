//! The archive of a key: a bundle with the material of its versions, which no live state has any more once that is known to open.

use crate::frame::Commitment;
use crate::id::{KeyName, KeyVersion, OperationId};
use crate::key::{Key, SealedHandle};
use crate::lifecycle::KeyState;
use crate::sealing_key::SealingKeyId;
use crate::time::Timestamp;
use std::sync::Arc;

/// The most versions that one archive holds.
pub const MAX_ARCHIVED_VERSIONS: usize = 256;

/// A key's archive, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyArchive {
    /// The order that made it.
    pub id: OperationId,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it is kept, as the configuration said then.
    pub expires: Option<Timestamp>,
    /// SHA-256 of the bundle.
    pub sha256: [u8; 32],
    /// SHA-256 of the code in the bundle, which nobody has who has not opened it.
    pub code: [u8; 32],
    /// Since when it alone holds the material; `None` while nobody has shown that it opens.
    pub stored: Option<Timestamp>,
    /// What the material in it is sealed under, itself sealed under the tenant's sealing key; `None` once the key is destroyed: it opens no
    /// more.
    pub opener: Option<SealedHandle>,
    /// The sealing keys that the material lay under in the live state.
    pub sealed_under: Vec<SealingKeyId>,
}

/// What a bundle holds, to be encrypted for those who may open it.
#[derive(Debug)]
pub struct Bundled<'a> {
    /// The order that makes it: its record in the log says the rest.
    pub id: OperationId,
    /// When.
    pub made: Timestamp,
    /// The key, as it is.
    pub key: &'a Key,
    /// The code that shows that it was opened.
    pub code: [u8; 32],
    /// Its versions, without those that are destroyed.
    pub versions: Vec<BundledVersion>,
}

/// A version in a bundle.
#[derive(Debug)]
pub struct BundledVersion {
    /// Its number.
    pub number: KeyVersion,
    /// Its state.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// Its public half, if it has one.
    pub public: Option<Arc<[u8]>>,
    /// What ciphertexts commit to.
    pub commitment: Commitment,
    /// Its material, sealed: worthless without the key's record.
    pub sealed: Vec<u8>,
}

/// A bundle that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// All of it, encrypted.
    pub bytes: Vec<u8>,
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// For how many days it is to be kept, if that is declared.
    pub keep_days: Option<u32>,
}

/// What came out of a bundle, to be brought back.
#[derive(Debug, Clone)]
pub struct UnarchiveKey {
    /// The key.
    pub key: KeyName,
    /// The order that made the archive.
    pub archive: OperationId,
    /// Its versions as they are sealed there.
    pub versions: Vec<(KeyVersion, Arc<[u8]>)>,
}
