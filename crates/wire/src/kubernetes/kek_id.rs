//! The `key_id` of the protocol: a public name of what new work is encrypted under, and what ciphertexts are bound to.

use crate::native::field::ContextPairs;
use crate::native::message;
use core::fmt;
use core::str::FromStr;
use holdfast_core::context::Context;
use holdfast_core::{Error, KeyId, KeyVersion, Timestamp};

/// What the encryption context says of a ciphertext of this protocol, so that none opens by a native request that does not say it.
const PROTOCOL: &str = "kubernetes-kms-v2";

/// A `key_id`: `holdfast:KEY:VERSION.NEWEST:MADE`.
///
/// An API server compares key ids alone to see what is stale, so one MUST never come back. A rollback brings an earlier version back, which is
/// why the newest version that was in use stands there too: it never gets smaller, and with the same newest version new work never goes to
/// a later one. A gateway that comes back from a backup can make a version once more under a number that was lost: the moment in which a
/// version was made, in microseconds since 1970, tells the two apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KekId {
    text: String,
    version: KeyVersion,
}

impl KekId {
    /// The version that new work takes, of a key as its record is now.
    pub fn version_of(record: &message::Key) -> KeyVersion {
        record.current_version.unwrap_or(record.newest_version).0
    }

    /// Of a key as its record is now, with the moment in which its [`KekId::version_of`] was made. A version that waits until a backup holds
    /// it is not in use, and changes nothing.
    pub fn of(record: &message::Key, made: Timestamp) -> Self {
        let version = Self::version_of(record);
        let newest = record.newest_version.0;
        let newest = match record.waits_for_backup {
            Some(true) => newest.previous().unwrap_or(newest),
            Some(false) | None => newest,
        };
        let text = format!("holdfast:{}:{version}.{}:{}", record.id.0, newest.max(version), made.micros());
        Self { text, version }
    }

    /// As it stands in messages.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The version that new work takes.
    pub fn version(&self) -> KeyVersion {
        self.version
    }

    /// Whether a text has the form of one. Whether it is the one that a ciphertext was given with, its binding says.
    pub fn is_one(text: &str) -> bool {
        let versions = |text: &str| {
            text.split_once('.').is_some_and(|(version, newest)| is_number(version) && is_number(newest))
        };
        let mut parts = text.split(':');
        parts.next() == Some("holdfast")
            && parts.next().is_some_and(|id| id.parse::<KeyId>().is_ok_and(|key| key.to_string() == id))
            && parts.next().is_some_and(versions)
            && parts.next().is_some_and(is_number)
            && parts.next().is_none()
    }
}

/// A number from 1 as it is written here, and in no other way.
fn is_number(text: &str) -> bool {
    text.len() <= 20
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.is_empty()
        && !text.starts_with('0')
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A cluster's name: bound into its ciphertexts, and what a policy can speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName(String);

impl FromStr for ClusterName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match (1..=253).contains(&text.len()) && text.bytes().all(inner) {
            true => Ok(Self(text.to_owned())),
            false => Err("expected 1 to 253 of A-Z, a-z, 0-9, `.`, `_`, `-`"),
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The encryption context of a ciphertext that was given with this `key_id`: protocol, cluster and `key_id`. Tenant, key and version are
/// bound by every ciphertext.
///
/// # Errors
/// For a `key_id` beyond the limits of a context.
pub fn context(cluster: &ClusterName, key_id: &str) -> Result<ContextPairs, Error> {
    let pairs = [("protocol", PROTOCOL), ("cluster", &cluster.0), ("key-id", key_id)];
    let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Context::new(pairs).map(ContextPairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(newest: u32, current: u32, waits: bool) -> message::Key {
        let mut record = serde_json::json!({
            "name": "k", "id": KeyId::from_bytes([7; 16]).to_string(), "algorithm": "xaes-256-gcm", "purpose": "encrypt",
            "state": "active", "newest_version": newest, "exportable": false, "legacy": [], "labels": {},
            "custody": "software", "protected": false, "created": "2026-11-27T00:00:00.000000Z", "epoch": 1,
        });
        if current != newest {
            record["current_version"] = current.into();
        }
        if waits {
            record["waits_for_backup"] = true.into();
        }
        serde_json::from_value(record).unwrap()
    }

    fn versions(newest: u32, current: u32, waits: bool) -> String {
        let record = record(newest, current, waits);
        let id = KekId::of(&record, Timestamp::from_micros(9));
        assert!(KekId::is_one(id.as_str()), "{id}");
        assert_eq!((id.version().get(), KekId::version_of(&record).get()), (current, current));
        let rest = id.as_str().strip_prefix(&format!("holdfast:{}:", KeyId::from_bytes([7; 16]))).unwrap();
        rest.strip_suffix(":9").unwrap().to_owned()
    }

    #[test]
    fn none_comes_back() {
        let life = [
            (1, 1, false), // made
            (2, 2, false), // rotated
            (2, 1, false), // rolled back: not what it was at first
            (3, 1, true),  // rotated, and the new version waits: nothing has changed for new work
            (3, 3, false), // which it takes now
            (3, 2, false), // back
            (3, 1, false), // and further
            (4, 4, false),
        ];
        let ids: Vec<_> =
            life.into_iter().map(|(newest, current, waits)| versions(newest, current, waits)).collect();
        assert_eq!(ids, ["1.1", "2.2", "1.2", "1.2", "3.3", "2.3", "1.3", "4.4"]);
        assert_eq!(versions(2, 1, true), "1.1", "the first rotation waits");
        // After a restore the same number is another version.
        let of = |made| KekId::of(&record(4, 4, false), Timestamp::from_micros(made));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn what_is_none_is_told() {
        let key = KeyId::from_bytes([7; 16]).to_string();
        for wrong in ["", "holdfast", "holdfast:", "v1", "holdfast:x:1.1:9", &format!("other:{key}:1.1:9")] {
            assert!(!KekId::is_one(wrong), "{wrong}");
        }
        let ends = [
            "", "1.1", "1:9", "1.:9", ".1:9", "0.1:9", "01.1:9", "+1.1:9", "1.1.1:9", "1.x:9", "1.1:",
            "1.1:x",
        ];
        for end in ends.into_iter().chain(["1.1:9:", "1.1:9:9", "1.1:-9", "1.1:999999999999999999999"]) {
            assert!(!KekId::is_one(&format!("holdfast:{key}:{end}")), "{end}");
        }
        // There is one way to write it.
        let lower = key.to_lowercase();
        assert_ne!(lower, key);
        assert!(!KekId::is_one(&format!("holdfast:{lower}:1.1:9")));
    }

    #[test]
    fn a_cluster_has_a_name() {
        for good in ["kubernetes", "prod.eu-1", "a"] {
            assert_eq!(good.parse::<ClusterName>().unwrap().to_string(), good);
        }
        for wrong in ["", "a b", "a\n", "é", &"x".repeat(254)] {
            assert!(wrong.parse::<ClusterName>().is_err(), "{wrong}");
        }
    }
}
