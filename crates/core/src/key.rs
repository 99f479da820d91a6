//! Keys as they are recorded: the record of a key, the records of its versions, and what a key store hands back.

use crate::algorithm::{Algorithm, Purpose};
use crate::archive::KeyArchive;
use crate::destruction::{Destruction, Erasure};
use crate::frame::Commitment;
use crate::id::{Epoch, KeyId, KeyName, KeyVersion, TenantId};
use crate::inventory::Inventory;
use crate::lifecycle::KeyState;
use crate::protocol::Protocol;
use crate::schedule::Schedule;
use crate::tenant::TakenBackup;
use crate::time::Timestamp;
use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a key store needs to find or open a key again. Opaque to everybody else; worthless without that store.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SealedHandle(Arc<[u8]>);

impl SealedHandle {
    /// From a key store's bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The bytes, for the key store and the state.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SealedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedHandle({} bytes)", self.0.len())
    }
}

/// How well the key is kept: the three levels that are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Custody {
    /// In this machine's memory while it is used, sealed on disk.
    Software,
    /// In a token, as the token itself says.
    Token,
    /// In a device that its vendor vouches for.
    VendorAttested,
}

impl Custody {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Software, Self::Token, Self::VendorAttested];

    /// Its name in records and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Token => "token",
            Self::VendorAttested => "vendor-attested",
        }
    }

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|custody| custody.name() == text)
    }
}

/// What a key may do beyond the default of its algorithm; each off unless the key was created with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Legacy {
    /// RSA PKCS#1 v1.5 decryption.
    pub rsa_pkcs1_decrypt: bool,
    /// OAEP with SHA-1.
    pub sha1_oaep: bool,
}

/// The labels that custodians give a key; policies can speak of them.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// The label that keeps native contexts out of the log in clear.
pub const HIDE_CONTEXT_LABEL: &str = "holdfast.hide-context";

/// A key's record, without material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its identity.
    pub id: KeyId,
    /// Who owns it.
    pub tenant: TenantId,
    /// What people call it.
    pub name: KeyName,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// What it is for.
    pub purpose: Purpose,
    /// Its state; a version's own state can only take away from it.
    pub state: KeyState,
    /// The state to which resuming leads.
    pub resumes_to: KeyState,
    /// Whether the material may ever leave custody.
    pub exportable: bool,
    /// Legacy operations that it was created for.
    pub legacy: Legacy,
    /// Whether each of its versions has an emergency copy: from its creation on or never.
    pub emergency_copy: bool,
    /// The one protocol that it works through, where there is one: from its creation on or never.
    pub protocol: Option<Protocol>,
    /// Labels.
    pub labels: Labels,
    /// The newest version that was made.
    pub newest: KeyVersion,
    /// The version that new work takes: the newest, unless it was rolled back to an earlier one.
    pub current: KeyVersion,
    /// Whether its newest version waits until a verified backup holds it: then the gateway puts it into use.
    pub waits: bool,
    /// How often it is rotated by itself, if it is.
    pub schedule: Option<Schedule>,
    /// What of its versions is still needed, as it was recorded last; none since it was rolled back.
    pub inventory: Option<Arc<Inventory>>,
    /// The order to destroy it, while it waits.
    pub destruction: Option<Destruction>,
    /// What is known of destroyed material of it that lay in the members of a pool; none where there was none.
    pub erasure: Option<Arc<Erasure>>,
    /// Its archive, if one was made.
    pub archive: Option<Arc<KeyArchive>>,
    /// How well it is kept.
    pub custody: Custody,
    /// The commit that made its newest version, or that brought it back from an archive, stamped by the state: a backup of an earlier one is not
    /// relied on to hold it.
    pub renewed: u64,
    /// When it was created.
    pub created: Timestamp,
    /// How often this record has been written.
    pub epoch: Epoch,
}

impl Key {
    /// [`Key::renewed`] of what is not committed yet: no backup holds it.
    pub const UNCOMMITTED: u64 = u64::MAX;

    /// The newest version that new work takes or has taken. One that waits is none: what comes under it comes later.
    pub fn newest_used(&self) -> KeyVersion {
        newest_used(self.newest, self.waits)
    }

    /// Whether a verified backup holds its newest version, if the newest of them is of this commit. Of a key in a device a backup only knows
    /// where it is, and of an archived one what opens its archive.
    pub fn is_protected(&self, verified: Option<u64>) -> bool {
        match self.custody {
            Custody::Software if self.is_archived() => false,
            Custody::Software => verified.is_some_and(|commit| self.renewed <= commit),
            Custody::Token | Custody::VendorAttested => false,
        }
    }

    /// Whether some of its destroyed material may still be in a member of a pool.
    pub fn is_to_erase(&self) -> bool {
        self.erasure.as_ref().is_some_and(|erasure| !erasure.pending.is_empty())
    }

    /// Whether a backup may hold some of its material, or what leads to that. Where clocks and commits differ, rather yes than no.
    pub fn may_be_in(&self, backup: &TakenBackup) -> bool {
        let TakenBackup { commit, taken, .. } = backup;
        let was_there = *commit >= self.renewed || *taken >= self.created;
        let was_not_gone = match (&self.erasure, self.state) {
            (Some(erasure), KeyState::Destroyed) => *commit <= erasure.commit || *taken <= erasure.destroyed,
            (Some(_) | None, _) => true,
        };
        was_there && was_not_gone
    }

    /// Whether its material is in an archive alone.
    pub fn is_archived(&self) -> bool {
        self.archive.as_ref().is_some_and(|archive| archive.stored.is_some())
    }

    /// Whether native contexts must not stand in the log in clear.
    pub fn hides_context(&self) -> bool {
        self.labels.get(HIDE_CONTEXT_LABEL).is_some_and(|value| &**value == "true")
    }
}

/// The record of one version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The key.
    pub key: KeyId,
    /// The version's number.
    pub number: KeyVersion,
    /// Its state: a superseded version is `Active` still, since [`Key::current`] alone decides what new work takes.
    pub state: KeyState,
    /// Where its material is.
    pub handle: SealedHandle,
    /// DER SubjectPublicKeyInfo, or the raw encapsulation key where there is none; `None` for symmetric keys.
    pub public: Option<Arc<[u8]>>,
    /// The value that makes ciphertexts commit to it.
    pub commitment: Commitment,
    /// The commit that made it, stamped by the state: whatever the clock said then, it tells what was before and what came after. 0 where an
    /// earlier build did not say.
    pub commit: u64,
    /// When it was made.
    pub created: Timestamp,
}

impl Version {
    /// [`Version::commit`] of what is not committed yet.
    pub const UNCOMMITTED: u64 = u64::MAX;
}

/// Everything a key store is told of the key version that it shall use.
#[derive(Debug, Clone, Copy)]
pub struct KeyMaterial<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The tenant's own handle, made by [`crate::port::KeyStore::enroll`].
    pub tenant_handle: &'a SealedHandle,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether it is exportable: the sealed blob is bound to it.
    pub exportable: bool,
    /// By what its material is recognised: [`Version::commitment`].
    pub commitment: &'a Commitment,
    /// The version's handle, made by [`crate::port::KeyStore::generate`].
    pub handle: &'a SealedHandle,
}

/// Everything a key store is told of the key version that it shall make.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The tenant's own handle.
    pub tenant_handle: &'a SealedHandle,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether it is exportable.
    pub exportable: bool,
    /// How well the key's current version is kept; `None` for the first.
    pub before: Option<Custody>,
}

/// [`Key::newest_used`] of what is told of a key: its newest version, and whether that waits.
pub fn newest_used(newest: KeyVersion, waits: bool) -> KeyVersion {
    newest.previous().filter(|_| waits).unwrap_or(newest)
}

/// A version that a key store has just made.
#[derive(Debug)]
pub struct Generated {
    /// How to find it again; becomes part of the state in the same transaction as the version's record.
    pub handle: SealedHandle,
    /// As in [`Version::public`].
    pub public: Option<Arc<[u8]>>,
    /// As in [`Version::commitment`].
    pub commitment: Commitment,
    /// How well it is kept.
    pub custody: Custody,
    /// What shows that.
    pub evidence: Evidence,
}

/// What a key store can show of where a key version was made. It stands in the log for ever, beside the level of custody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It was made by the cryptographic library, in this machine's memory.
    Software,
    /// It was made elsewhere and brought here: whoever had it may have it still.
    Imported,
    /// What a token says of itself and of the key, as the gateway has read it: as true as both are.
    Token(TokenEvidence),
}

/// Where a key in a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenOrigin {
    /// Made there by the gateway's order.
    Generated,
    /// Made elsewhere and brought there through the gateway's memory: whoever had it may have it still.
    Imported,
    /// Made in the gateway's memory, and brought there from it, so that custodians have an emergency copy, which so many of them open together.
    Copied {
        /// Their names.
        custodians: Vec<Box<str>>,
        /// How many it takes.
        threshold: u8,
    },
    /// Found there: another program made it, or brought it, and may use it still.
    Adopted {
        /// Its object's CKA_ID, hexadecimal.
        id: Box<str>,
        /// Its object's CKA_LABEL.
        label: Box<str>,
    },
}

/// What a token says of itself and of a key in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEvidence {
    /// Where the key comes from.
    pub origin: TokenOrigin,
    /// CK_TOKEN_INFO.manufacturerID.
    pub manufacturer: Box<str>,
    /// CK_TOKEN_INFO.model.
    pub model: Box<str>,
    /// CK_TOKEN_INFO.serialNumber.
    pub serial: Box<str>,
    /// CK_TOKEN_INFO.firmwareVersion.
    pub firmware: Box<str>,
    /// Which attributes are true of the key: `local`, `sensitive`, `always-sensitive`, `extractable`, `never-extractable`,
    /// `wrap-with-trusted`; of an adopted key also what it may be used for: `encrypt`, `decrypt`, `sign`, `verify`, `wrap`, `unwrap`, `derive`.
    pub attributes: Vec<&'static str>,
    /// The fingerprint of the wrapping key under which it travels to other tokens; nothing where it does not.
    pub wrapping_key: Option<Box<str>>,
}
