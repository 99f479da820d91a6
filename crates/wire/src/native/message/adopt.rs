//! A key that another program made in the token.

use super::request;
use crate::json::Fault;
use crate::native::field::{Bytes, LabelMap, LegacyList, Name, ObjectLabel, Word};
use holdfast_core::adoption;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::command::NewKey;
use holdfast_core::{KeyName, Protocol};

request! {
    /// Takes a key that another program made in the token. It is found by its label, its id, or both.
    pub struct AdoptKey {
        required {
            /// The key's name, which never changes.
            name: Name<KeyName>,
            /// Its algorithm.
            algorithm: Word<Algorithm>,
        }
        optional {
            /// The object's CKA_LABEL.
            object_label: ObjectLabel,
            /// The object's CKA_ID.
            object_id: Bytes,
            /// What it is for; the algorithm's first purpose unless told.
            purpose: Word<Purpose>,
            /// Legacy operations that it shall be able to do.
            legacy: LegacyList,
            /// Its labels.
            labels: LabelMap,
            /// The one protocol that it shall work through, for ever; any that takes such keys unless told.
            protocol: Word<Protocol>,
            /// How often the key has encrypted before, at most: needed where random nonces are counted, unless it only decrypts.
            prior_uses: u64,
            /// Whether it only decrypts from now on; it does not unless told.
            decrypt_only: bool,
            /// Whether it is taken although its material could leave the token; it is not unless told.
            accept_extractable: bool,
        }
    }
}

impl AdoptKey {
    pub(crate) fn into_adopt(self) -> Result<adoption::AdoptKey, Fault> {
        let Self {
            name,
            algorithm,
            object_label,
            object_id,
            purpose,
            legacy,
            labels,
            protocol,
            prior_uses,
            decrypt_only,
            accept_extractable,
        } = self;
        if object_label.is_none() && object_id.is_none() {
            return Err(Fault::malformed("`object_label` or `object_id` is needed"));
        }
        let new = NewKey {
            name: name.0,
            algorithm: Some(algorithm.0),
            purpose: purpose.map(|word| word.0),
            exportable: false,
            legacy: legacy.map(|list| list.0).unwrap_or_default(),
            labels: labels.unwrap_or_default().0,
            prepared: false,
            emergency_copy: false,
            protocol: protocol.map(|word| word.0),
        };
        Ok(adoption::AdoptKey {
            new,
            label: object_label.map(|label| label.0),
            id: object_id.map(|id| id.0.into()),
            past: super::import::past(prior_uses, decrypt_only)?,
            accept_extractable: accept_extractable.unwrap_or(false),
        })
    }
}
