//! Which key and version a ciphertext is under, told from its own header, and whether that is where it should be.

use super::tally::Failed;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::KeyId;
use holdfast_core::binding::BindingClass;
use holdfast_core::frame::Header;
use holdfast_core::key::newest_used;
use holdfast_sdk::field::{Bytes, ContextPairs, Name, SecretBytes};
use holdfast_sdk::message::{self, BatchItem, Key, OperationResult, UseRequest};
use holdfast_sdk::{KeyName, KeyVersion, Tenant};

/// A key as its record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: KeyName,
    pub(crate) id: KeyId,
    /// The version that new work takes.
    pub(crate) current: KeyVersion,
    /// The newest version that new work takes or has taken: none that waits.
    pub(crate) newest: KeyVersion,
}

impl Known {
    fn of(key: &Key) -> Self {
        let current = key.current_version.unwrap_or(key.newest_version).0;
        let newest = newest_used(key.newest_version.0, key.waits_for_backup == Some(true));
        Self { name: key.name.0.clone(), id: key.id.0, current, newest }
    }

    /// Reads its record.
    pub(crate) async fn read(tenant: &Tenant, name: &KeyName) -> Result<Self, Failure> {
        Ok(Self::of(&tenant.key(name).await?.body))
    }
}

/// Where ciphertexts come from and where they go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) from: Known,
    pub(crate) to: Known,
}

/// A ciphertext, and what is to be done with it.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// The key that it is under.
    pub(crate) key: &'a Known,
    pub(crate) version: KeyVersion,
    pub(crate) class: BindingClass,
    /// Where it has to go; `None` where it is already.
    pub(crate) due: Option<&'a Known>,
}

impl Route {
    /// What a ciphertext's header says. It is in clear and may lie: whoever opens the ciphertext notices.
    pub(crate) fn judge(&self, ciphertext: &[u8]) -> Result<Found<'_>, Box<Failed>> {
        let Ok((Header { class, key, version, .. }, _)) = Header::parse(ciphertext) else {
            return Err(Failed::new(
                Exit::Usage,
                "malformed",
                "no ciphertext with Holdfast's header",
                "look where it comes from; mend it or take it out of the inventory",
            ));
        };
        let Self { from, to } = self;
        if key == to.id {
            // A version that a rollback has left is not where new work is, either.
            let due = (version != to.current).then_some(to);
            return Ok(Found { key: to, version, class, due });
        }
        if key == from.id {
            return Ok(Found { key: from, version, class, due: Some(to) });
        }
        let detail = format!("made with another key, whose id is {key}");
        let help = "find its name by `holdfast key list --json`, and rewrap it with that key's own";
        Err(Failed::new(Exit::State, "other-key", detail, help))
    }
}

/// Asks to rewrap a ciphertext.
pub(crate) fn rewrap(
    found: &Found<'_>,
    to: &Known,
    ciphertext: &[u8],
    context: Option<&ContextPairs>,
) -> BatchItem {
    let target_key = (found.key.id != to.id).then(|| Name(to.name.clone()));
    let request =
        message::Rewrap { ciphertext: Bytes(ciphertext.to_vec()), context: context.cloned(), target_key };
    BatchItem { key: Name(found.key.name.clone()), request: UseRequest::Rewrap(request) }
}

/// Asks to open a ciphertext, by the verb that its class wants.
pub(crate) fn open(
    key: &KeyName,
    class: BindingClass,
    ciphertext: &[u8],
    context: Option<&ContextPairs>,
) -> BatchItem {
    let (ciphertext, context) = (Bytes(ciphertext.to_vec()), context.cloned());
    let request = match class {
        BindingClass::Wrapped => {
            UseRequest::Unwrap(message::Unwrap { ciphertext, context, padding: None, key_version: None })
        }
        BindingClass::Data | BindingClass::DataKey => {
            UseRequest::Decrypt(message::Decrypt { ciphertext, context, padding: None, key_version: None })
        }
    };
    BatchItem { key: Name(key.clone()), request }
}

/// The new ciphertext of a rewrap, with the version that made it.
pub(crate) fn rewrapped(result: OperationResult) -> Result<(Vec<u8>, u32), Box<Failed>> {
    let (Some(Bytes(ciphertext)), Some(version)) = (result.ciphertext, result.key_version) else {
        return Err(unintelligible());
    };
    Ok((ciphertext, version.0.get()))
}

/// What an opened ciphertext holds.
pub(crate) fn opened(result: OperationResult) -> Result<SecretBytes, Box<Failed>> {
    result.plaintext.ok_or_else(unintelligible)
}

/// Whether two ciphertexts hold the same; of what was left alone there is only one, which must open. Compared in constant time.
pub(crate) fn same(
    old: Result<SecretBytes, Box<Failed>>,
    new: Option<Result<SecretBytes, Box<Failed>>>,
) -> Result<(), Box<Failed>> {
    let (old, new) = (old?, new.transpose()?);
    match new {
        Some(new) if new.0 != old.0 => Err(different()),
        Some(_) | None => Ok(()),
    }
}

/// That old and new ciphertext do not hold the same.
pub(crate) fn different() -> Box<Failed> {
    let help = "keep the old ciphertext, which was left in its place, and tell the gateway's operator";
    Failed::new(Exit::Integrity, "different", "the new ciphertext does not hold what the old one holds", help)
}

fn unintelligible() -> Box<Failed> {
    let help = "check that client and gateway are of a similar version";
    Failed::new(Exit::Failure, "unintelligible", "an answer without what was asked for", help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::algorithm::Algorithm;
    use holdfast_core::frame::Commitment;

    fn known(name: &str, id: u8, current: u32) -> Known {
        let (name, current) = (name.parse().unwrap(), KeyVersion::new(current).unwrap());
        Known { name, id: KeyId::from_bytes([id; 16]), current, newest: current }
    }

    #[test]
    fn a_version_that_waits_is_not_the_newest_one() {
        let read = |newest: u32, current: Option<u32>, waits: bool| {
            let mut record = serde_json::json!({
                "name": "k", "id": "01JDCZRGZKA9Q6W8T2V4X6Y8Z0", "algorithm": "xaes-256-gcm", "purpose": "encrypt",
                "state": "active", "newest_version": newest, "exportable": false, "legacy": [], "labels": {},
                "custody": "software", "created": "2026-11-28T00:00:00.000000Z", "epoch": 3,
            });
            if let Some(current) = current {
                record["current_version"] = current.into();
            }
            if waits {
                record["waits_for_backup"] = true.into();
            }
            let known = Known::of(&serde_json::from_value(record).unwrap());
            (known.current.get(), known.newest.get())
        };
        assert_eq!([read(3, None, false), read(3, Some(2), false)], [(3, 3), (2, 3)]);
        assert_eq!([read(3, Some(2), true), read(1, None, true)], [(2, 2), (1, 1)]);
    }

    fn under(id: u8, version: u32) -> Vec<u8> {
        let header = Header {
            class: BindingClass::Data,
            algorithm: Algorithm::Xaes256Gcm,
            key: KeyId::from_bytes([id; 16]),
            version: KeyVersion::new(version).unwrap(),
            commitment: Commitment([9; 32]),
        };
        header.begin(8)
    }

    #[test]
    fn what_holds_something_else_is_noticed() {
        let holds = |bytes: &[u8]| Ok(SecretBytes(holdfast_sdk::Secret::from(bytes)));
        assert!(same(holds(b"a"), None).is_ok() && same(holds(b"a"), Some(holds(b"a"))).is_ok());
        assert_eq!(same(holds(b"a"), Some(holds(b"b"))).unwrap_err().error, "different");
        assert!(same(Err(unintelligible()), None).is_err());
        assert!(same(holds(b"a"), Some(Err(unintelligible()))).is_err());
    }

    #[test]
    fn what_is_where_it_should_be_is_left_alone() {
        let key = known("k", 1, 3);
        let same = Route { from: key.clone(), to: key };
        for (version, due) in [(1, true), (2, true), (3, false), (4, true)] {
            assert_eq!(same.judge(&under(1, version)).unwrap().due.is_some(), due, "{version}");
        }
        let other = Route { from: known("k", 1, 3), to: known("t", 2, 2) };
        for (id, version, due) in [(1, 3, true), (2, 1, true), (2, 2, false)] {
            assert_eq!(other.judge(&under(id, version)).unwrap().due.is_some(), due, "{id} {version}");
        }
        assert_eq!(other.judge(&under(3, 1)).unwrap_err().error, "other-key");
        assert_eq!(other.judge(b"HFC").unwrap_err().error, "malformed");
    }
}
