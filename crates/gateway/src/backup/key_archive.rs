//! What stands in the archive of a key, under its encryption: JSON, with each version's material sealed so that it is worth nothing without the
//! key's record in the live state.

use super::opening::Readable;
use crate::fault::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::archive::{Bundled, BundledVersion};
use holdfast_core::{InstanceId, KeyName, KeyVersion, OperationId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read as _;

/// The version of this layout.
const FORMAT: u32 = 1;
/// What it is.
const WHAT: &str = "holdfast key archive";
/// The most bytes of one.
const MAX: u64 = 8 << 20;

/// What stands in an archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyContent {
    what: String,
    format: u32,
    /// The gateway that made it.
    instance: String,
    tenant: String,
    /// The order that made it: its record in the tenant's log says who gave it.
    archive: String,
    made: String,
    /// Shows that it was opened: base64 of 32 bytes.
    code: String,
    key: KeyPart,
    versions: Vec<VersionPart>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyPart {
    name: String,
    id: String,
    algorithm: String,
    purpose: String,
    state: String,
    exportable: bool,
    labels: BTreeMap<String, String>,
    newest_version: u32,
    current_version: u32,
    created: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionPart {
    version: u32,
    state: String,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    commitment: String,
    sealed: String,
}

impl KeyContent {
    pub(super) fn of(instance: InstanceId, bundled: &Bundled<'_>) -> Self {
        let Bundled { id, made, key, code, versions } = bundled;
        let version = |version: &BundledVersion| {
            let BundledVersion { number, state, created, public, commitment, sealed } = version;
            VersionPart {
                version: number.get(),
                state: state.to_string(),
                created: created.to_string(),
                public_key: public.as_ref().map(|public| STANDARD.encode(public)),
                commitment: STANDARD.encode(commitment.0),
                sealed: STANDARD.encode(sealed),
            }
        };
        let labels = key.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Self {
            what: WHAT.to_owned(),
            format: FORMAT,
            instance: instance.to_string(),
            tenant: key.tenant.to_string(),
            archive: id.to_string(),
            made: made.to_string(),
            code: STANDARD.encode(code),
            key: KeyPart {
                name: key.name.to_string(),
                id: key.id.to_string(),
                algorithm: key.algorithm.name().to_owned(),
                purpose: key.purpose.name().to_owned(),
                state: key.state.to_string(),
                exportable: key.exportable,
                labels: labels.collect(),
                newest_version: key.newest.get(),
                current_version: key.current.get(),
                created: key.created.to_string(),
            },
            versions: versions.iter().map(version).collect(),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(self).map_err(|error| Fault::new("an archive cannot be encoded").because(error))
    }

    /// Reads what was opened.
    ///
    /// # Errors
    /// When it is no archive of a key, is damaged, or is of a newer build.
    pub fn read(opened: Readable) -> Result<Self, Fault> {
        let strange = || {
            Fault::new("this is no archive of a key").remedy("give a file that `holdfast key archive` wrote")
        };
        let mut bytes = Vec::new();
        opened.archive.take(MAX).read_to_end(&mut bytes).map_err(|error| {
            Fault::new("the archive cannot be read to its end")
                .remedy("give the file as it was written; compare its SHA-256 with the key's record")
                .because(error)
                .damaged()
        })?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| strange().damaged())?;
        let field = |name: &str| value.get(name).cloned().unwrap_or_default();
        if field("what") != WHAT {
            return Err(strange().damaged());
        }
        if field("format") != FORMAT {
            let problem =
                format!("the archive has format {}, and this build knows {FORMAT}", field("format"));
            return Err(Fault::new(problem).remedy("use the build that wrote it, or a newer one"));
        }
        serde_json::from_value(value).map_err(|error| strange().because(error).damaged())
    }

    /// Which key.
    ///
    /// # Errors
    /// When it is no name.
    pub fn key(&self) -> Result<KeyName, Fault> {
        self.key.name.parse().map_err(|_| damaged())
    }

    /// The order that made it.
    ///
    /// # Errors
    /// When it is no operation.
    pub fn archive(&self) -> Result<OperationId, Fault> {
        self.archive.parse().map_err(|_| damaged())
    }

    /// What shows that it was opened.
    ///
    /// # Errors
    /// When it is no such code.
    pub fn code(&self) -> Result<Vec<u8>, Fault> {
        STANDARD.decode(&self.code).map_err(|_| damaged())
    }

    /// Its versions, each with what is sealed.
    ///
    /// # Errors
    /// When one is none.
    pub fn versions(&self) -> Result<Vec<(KeyVersion, Vec<u8>)>, Fault> {
        let version = |part: &VersionPart| {
            let number = KeyVersion::new(part.version).ok_or_else(damaged)?;
            Ok((number, STANDARD.decode(&part.sealed).map_err(|_| damaged())?))
        };
        self.versions.iter().map(version).collect()
    }
}

fn damaged() -> Fault {
    Fault::new("the archive is damaged").remedy("give another copy of it").damaged()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io::Cursor;

    fn content() -> Value {
        json!({
            "what": WHAT, "format": 1, "instance": "i", "tenant": "acme", "archive": "01JDQZ8X5G9Q0V3N4B7T2M6K8R", "made": "m", "code": "Bwc=",
            "key": {
                "name": "kek", "id": "k", "algorithm": "a", "purpose": "p", "state": "s", "exportable": false, "labels": {},
                "newest_version": 1, "current_version": 1, "created": "c",
            },
            "versions": [{ "version": 1, "state": "s", "created": "c", "commitment": "AA==", "sealed": "AQI=" }],
        })
    }

    fn read(bytes: Vec<u8>) -> Result<KeyContent, Fault> {
        KeyContent::read(Readable {
            archive: Box::new(Cursor::new(bytes)),
            root: None,
            says: None,
            is_as_written: false,
        })
    }

    fn changed(pointer: &str, to: Value) -> Vec<u8> {
        let mut content = content();
        *content.pointer_mut(pointer).unwrap() = to;
        content.to_string().into_bytes()
    }

    #[test]
    fn what_was_written_is_read_and_anything_else_is_told_apart() {
        let opened = read(content().to_string().into_bytes()).unwrap();
        assert_eq!((opened.key().unwrap().as_str(), opened.code().unwrap()), ("kek", vec![7, 7]));
        assert_eq!(opened.archive().unwrap().to_string(), "01JDQZ8X5G9Q0V3N4B7T2M6K8R");
        assert_eq!(opened.versions().unwrap(), [(KeyVersion::FIRST, vec![1, 2])]);

        let newer = read(changed("/format", json!(2))).err().unwrap();
        assert_eq!(newer.to_string(), "the archive has format 2, and this build knows 1");
        for other in [changed("/what", json!("a backup")), b"manifest.json".to_vec(), vec![]] {
            let fault = read(other).err().unwrap();
            assert!(fault.is_damage() && fault.to_string().contains("no archive of a key"), "{fault}");
        }
        for (pointer, to) in [("/versions/0/version", json!(0)), ("/versions/0/sealed", json!("?"))] {
            assert!(read(changed(pointer, to)).unwrap().versions().is_err(), "{pointer}");
        }
        assert!(read(changed("/key/name", json!("no name!"))).unwrap().key().is_err());
        assert!(read(changed("/versions", json!([{ "more": 1 }]))).is_err());
    }
}
