//! A key that lies in a token already, made by another program: what names it there, and what is said of it when it becomes a key of Holdfast.

use crate::algorithm::Purpose;
use crate::command::NewKey;
use crate::import::Past;
use core::fmt::Write as _;
use std::sync::Arc;

/// The most bytes of a CKA_LABEL, and of a CKA_ID, by which an object is looked for.
pub const MAX_NAME: usize = 128;

/// A key to be adopted.
#[derive(Debug, Clone)]
pub struct AdoptKey {
    /// The key that it will be. Neither exportable nor prepared.
    pub new: NewKey,
    /// Its object's CKA_LABEL; nothing where it is found by its CKA_ID.
    pub label: Option<Arc<str>>,
    /// Its object's CKA_ID; nothing where it is found by its label.
    pub id: Option<Arc<[u8]>>,
    /// What the key has done before.
    pub past: Past,
    /// Whether it is taken although the token says that its material could leave.
    pub accept_extractable: bool,
}

/// What a key store is told of an object that it shall find.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// As in [`AdoptKey::label`].
    pub label: Option<&'a str>,
    /// As in [`AdoptKey::id`].
    pub id: Option<&'a [u8]>,
    /// What the key will be for: its object must be able to do that.
    pub purpose: Purpose,
    /// As in [`AdoptKey::accept_extractable`].
    pub accept_extractable: bool,
}

/// Tells one object of a key store from all others, wherever it is asked for: a digest of its class, CKA_ID and CKA_LABEL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectDigest(pub [u8; 32]);

impl AdoptKey {
    /// For the event: what the object was looked for by, and what was said of it.
    pub(crate) fn subject(&self) -> Box<str> {
        let mut text = "adopted".to_owned();
        if let Some(label) = &self.label {
            let label: String = label.chars().take(MAX_NAME).collect();
            let _written = write!(text, ", label {label}");
        }
        if let Some(id) = &self.id {
            text.push_str(", id ");
            for byte in id.iter().take(MAX_NAME / 4) {
                let _written = write!(text, "{byte:02x}");
            }
        }
        match self.past {
            Past::Untold => {}
            Past::Uses(uses) => {
                let _written = write!(text, ", {uses} prior uses");
            }
            Past::DecryptOnly => text.push_str(", decrypt only"),
        }
        if self.accept_extractable {
            text.push_str(", although it can leave");
        }
        text.into()
    }
}
