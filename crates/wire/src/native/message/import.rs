//! Key material from outside.

use super::{Backups, Key, request};
use crate::json::Fault;
use crate::native::field::{Bounded, Bytes, DurabilityWord, LabelMap, Name, Time, Word};
use crate::pem;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::command::NewKey;
use holdfast_core::import::{self, Past};
use holdfast_core::key::Legacy;
use holdfast_core::{KeyId, KeyName, Protocol, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

request! {
    /// Makes the import key of a key whose material will come from outside.
    pub struct BeginImport {
        required {
            /// The key's name, which never changes.
            name: Name<KeyName>,
            /// Its algorithm.
            algorithm: Word<Algorithm>,
        }
        optional {
            /// What it is for; the algorithm's first purpose unless told.
            purpose: Word<Purpose>,
            /// Its labels.
            labels: LabelMap,
            /// The one protocol that it shall work through, for ever; any that takes such keys unless told.
            protocol: Word<Protocol>,
            /// For how long the import key serves; a day unless told, a week at most.
            seconds: Bounded<1, { import::MAX_SECONDS }>,
        }
    }
}

impl BeginImport {
    pub(crate) fn into_begin(self) -> import::BeginImport {
        let Self { name, algorithm, purpose, labels, protocol, seconds } = self;
        let new = NewKey {
            name: name.0,
            algorithm: Some(algorithm.0),
            purpose: purpose.map(|word| word.0),
            exportable: false,
            legacy: Legacy::default(),
            labels: labels.unwrap_or_default().0,
            prepared: true,
            emergency_copy: false,
            protocol: protocol.map(|word| word.0),
        };
        import::BeginImport { new, seconds: seconds.map_or(import::DEFAULT_SECONDS, |seconds| seconds.0) }
    }
}

request! {
    /// Gives the material of a key that waits for it.
    pub struct FinishImport {
        required {
            /// RSA-OAEP (SHA-256) of an AES-256 key, then AES-KWP (RFC 5649) of the material under that key.
            wrapped: Bytes,
            /// The first 8 bytes of the material's SHA-256; for a key pair the SHA-256 of its public half, DER SubjectPublicKeyInfo.
            check_value: Bytes,
        }
        optional {
            /// How often the key has encrypted elsewhere, at most: needed where random nonces are counted, unless it only decrypts.
            prior_uses: u64,
            /// Whether it only decrypts from now on; it does not unless told.
            decrypt_only: bool,
        }
    }
}

impl FinishImport {
    pub(crate) fn into_finish(self, key: KeyName) -> Result<import::FinishImport, Fault> {
        let Self { wrapped, check_value, prior_uses, decrypt_only } = self;
        let past = past(prior_uses, decrypt_only)?;
        Ok(import::FinishImport { key, wrapped: wrapped.0.into(), check_value: check_value.0.into(), past })
    }
}

/// What is said of what a key has done elsewhere.
pub(super) fn past(prior_uses: Option<u64>, decrypt_only: Option<bool>) -> Result<Past, Fault> {
    match (prior_uses, decrypt_only.unwrap_or(false)) {
        (Some(_), true) => Err(Fault::malformed("`prior_uses` is not needed with `decrypt_only`")),
        (None, true) => Ok(Past::DecryptOnly),
        (Some(uses), false) => Ok(Past::Uses(uses)),
        (None, false) => Ok(Past::Untold),
    }
}

/// A key whose import has begun.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportBegun {
    /// The import's id: the key's own.
    pub import: Name<KeyId>,
    /// The key, as it waits.
    pub key: Key,
    /// The public half of the import key, PEM. Shown once.
    pub public_key_pem: String,
    /// From when on the import key opens nothing.
    pub expires: Time,
}

impl ImportBegun {
    pub(crate) fn new(
        key: &holdfast_core::key::Key,
        public: &[u8],
        expires: Timestamp,
        durability: DurabilityWord,
        backups: Backups,
    ) -> Self {
        Self {
            import: Name(key.id),
            key: Key::new(key, None, Some(durability), backups),
            public_key_pem: pem::encode(public, "PUBLIC KEY"),
            expires: Time(expires),
        }
    }
}
