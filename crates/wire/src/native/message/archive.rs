//! The archive of a key.

use super::{Backups, Key, request};
use crate::json::Fault;
use crate::native::field::{Bytes, DurabilityWord, List, Name, Time, VersionNumber};
use holdfast_core::archive::{self, KeyArchive};
use holdfast_core::{KeyName, OperationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

request! {
    /// Leaves a key's material to its archive.
    pub struct ConfirmArchive {
        required {
            /// The code that stands in the archive: 32 bytes.
            code: Bytes,
        }
        optional {}
    }
}

impl ConfirmArchive {
    pub(crate) fn into_code(self) -> Result<[u8; 32], Fault> {
        self.code.0.try_into().map_err(|_| Fault::malformed("`code` has 32 bytes"))
    }
}

request! {
    /// Takes a key's material back from its archive.
    pub struct UnarchiveKey {
        required {
            /// The order that made the archive, as it stands there.
            archive: Name<OperationId>,
            /// All versions that it holds, 256 at most.
            versions: List<ArchivedVersion>,
        }
        optional {}
    }
}

request! {
    /// A version as it stands in an archive.
    pub struct ArchivedVersion {
        required {
            /// Its number.
            version: VersionNumber,
            /// Its material, sealed.
            sealed: Bytes,
        }
        optional {}
    }
}

impl UnarchiveKey {
    pub(crate) fn into_unarchive(self, key: KeyName) -> archive::UnarchiveKey {
        let Self { archive, versions } = self;
        let versions = versions.0.into_iter();
        let versions = versions.map(|ArchivedVersion { version, sealed }| (version.0, sealed.0.into()));
        archive::UnarchiveKey { key, archive: archive.0, versions: versions.collect() }
    }
}

/// A key of which an archive was made.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeyArchived {
    /// The key, with its material still.
    pub key: Key,
    /// The archive, encrypted for those who open backups. Given once.
    pub bundle: Bytes,
}

impl KeyArchived {
    pub(crate) fn new(
        key: &holdfast_core::key::Key,
        bundle: Vec<u8>,
        durability: DurabilityWord,
        backups: Backups,
    ) -> Self {
        Self { key: Key::new(key, None, Some(durability), backups), bundle: Bytes(bundle) }
    }
}

/// The newest archive of a key.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Archive {
    /// The order that made it.
    pub id: Name<OperationId>,
    /// When it was made.
    pub made: Time,
    /// SHA-256 of the file: 32 bytes.
    pub sha256: Bytes,
    /// Until when it is kept, as the gateway's configuration said then; left out where it said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// Since when it alone holds the key's material; left out while the live state does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Time>,
    /// Whether the key can be brought back from it: no more once the key is destroyed.
    pub opens: bool,
}

impl Archive {
    /// As it is recorded.
    pub(crate) fn new(record: &KeyArchive) -> Self {
        let KeyArchive { id, made, expires, sha256, code: _, stored, opener, sealed_under: _ } = record;
        Self {
            id: Name(*id),
            made: Time(*made),
            sha256: Bytes(sha256.to_vec()),
            expires: expires.map(Time),
            stored: stored.map(Time),
            opens: opener.is_some(),
        }
    }
}
