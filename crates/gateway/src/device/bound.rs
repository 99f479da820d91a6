//! `root.tpm`: a root key that a TPM has sealed. Nothing in it is secret, and nothing in it is trusted: what it leads to is compared.

use super::{hex, unhex};
use crate::authentic::{Authentic, Authenticator, Mac};
use crate::directory::Directory;
use crate::fault::Fault;
use holdfast_core::{CallerName, Error, ErrorKind, InstanceId, Stage};
use holdfast_keystore::root::tpm::{self, Measured, Sealed};
use holdfast_keystore::root::{RootKey, SealerId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The version of this file.
const FORMAT: u32 = 1;
/// What its code is bound to.
const NAME: &str = "root.tpm";

/// A root key that a TPM has sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The gateway that it is of.
    pub instance: InstanceId,
    /// The public name of the root key.
    pub root: SealerId,
    /// When it was sealed, RFC 3339.
    pub made: String,
    /// Whose shares gave the root key for that; nobody's for the founding's.
    pub bound_by: Vec<CallerName>,
    /// What the TPM made.
    pub sealed: Sealed,
    /// By whom all this was written: who had the root key. `None` of what an earlier build wrote.
    pub mac: Option<Mac>,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    instance: String,
    root: String,
    made: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bound_by: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    tpm: String,
    parent: String,
    pcrs: String,
    public: String,
    private: String,
    pcr: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    index: u8,
    value: String,
}

impl Bound {
    /// Reads the file.
    ///
    /// # Errors
    /// `key-store-unavailable`, when it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refused = |why: Box<dyn std::error::Error + Send + Sync>| {
            let detail = format!("`{}` is refused", path.display());
            Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
                .remedy("put `root.tpm` back as it was written last")
                .because(why)
        };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.into()))?;
        Self::parse(&text).map_err(|fault| refused(fault.to_string().into()))
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let file: File = toml::from_str(text).map_err(|error| Fault::new(error.to_string()))?;
        let File { format, instance, root, made, bound_by, mac, tpm, parent, pcrs, public, private, pcr } =
            file;
        if format != FORMAT {
            return Err(Fault::new(format!("it has format {format}, and this build knows {FORMAT}")));
        }
        let name =
            |text: String| text.parse().map_err(|_| Fault::new(format!("`{text}` is no custodian's name")));
        let bytes =
            |what: &str, text: &str| unhex(text).ok_or_else(|| Fault::new(format!("`{what}` is no bytes")));
        let measured = pcr.into_iter().map(|Row { index, value }| Measured { index, value });
        Ok(Self {
            instance: instance.parse().map_err(|_| Fault::new(format!("`{instance}` is no instance")))?,
            root: SealerId::parse(&root).ok_or_else(|| Fault::new("`root` is no name of a root key"))?,
            made,
            bound_by: bound_by.into_iter().map(name).collect::<Result<_, _>>()?,
            sealed: Sealed {
                place: tpm.parse()?,
                parent: bytes("parent", &parent)?,
                pcrs: pcrs.parse()?,
                measured: measured.collect(),
                public: bytes("public", &public)?,
                private: bytes("private", &private)?,
            },
            mac: match mac {
                None => None,
                Some(mac) => Some(mac.parse().map_err(|()| Fault::new("`mac` is no code"))?),
            },
        })
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub fn to_text(&self) -> Result<String, Fault> {
        let file = File { mac: self.mac.as_ref().map(ToString::to_string), ..self.said() };
        toml::to_string(&file).map_err(|error| Fault::new("`root.tpm` cannot be written").because(error))
    }

    /// The same, with its code.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub(crate) fn signed(self, root: &RootKey) -> Result<Self, Error> {
        let mac = Some(Authenticator::new(root)?.mac(NAME, &self.said())?);
        Ok(Self { mac, ..self })
    }

    /// Whether who wrote it had this root key.
    ///
    /// # Errors
    /// `key-store-unavailable` where its code says that they had not.
    pub fn check(&self, root: &RootKey) -> Result<Authentic, Error> {
        Authenticator::new(root)?.check(NAME, &self.said(), self.mac)
    }

    /// All that it says, but for its code.
    fn said(&self) -> File {
        let Self { instance, root, made, bound_by, sealed, mac: _ } = self;
        let Sealed { place, parent, pcrs, measured, public, private } = sealed;
        let row = |Measured { index, value }: &Measured| Row { index: *index, value: value.clone() };
        File {
            format: FORMAT,
            instance: instance.to_string(),
            root: root.to_string(),
            made: made.clone(),
            bound_by: bound_by.iter().map(ToString::to_string).collect(),
            mac: None,
            tpm: place.to_string(),
            parent: hex(parent),
            pcrs: pcrs.to_string(),
            public: hex(public),
            private: hex(private),
            pcr: measured.iter().map(row).collect(),
        }
    }

    /// Has the TPM open it. Blocks for as long as the TPM takes.
    ///
    /// # Errors
    /// `key-store-unavailable`, which says why it does not open, or that the file is not as it was written.
    pub fn open(&self) -> Result<RootKey, Error> {
        let root = tpm::unseal(&self.sealed)?;
        if root.id()? == self.root {
            // One without a code opens, and nothing that it says is believed.
            let (Authentic::Yes | Authentic::Unknown) = self.check(&root)?;
            return Ok(root);
        }
        let detail = "what the TPM opened is not the root key that `root.tpm` names";
        Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
            .remedy("put `root.tpm` back as it was written last"))
    }

    /// Which registers hold something else than when it was bound.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the TPM cannot be asked.
    pub fn changed(&self) -> Result<Vec<u8>, Error> {
        let Sealed { place, pcrs, measured, .. } = &self.sealed;
        let now = tpm::measured(place, pcrs)?;
        Ok(now.iter().filter(|now| !measured.contains(now)).map(|now| now.index).collect())
    }
}

/// Where it is and what it opens for, in words.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sealed { place, pcrs, .. } = &self.sealed;
        write!(f, "sealed by the TPM at `{place}`, bound to {pcrs}")
    }
}

impl Directory {
    /// The root key as a TPM has sealed it; `None` where none has.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the file is none, or the root key lies beside it after all.
    pub fn bound(&self) -> Result<Option<Bound>, Error> {
        let path = self.root_tpm();
        if !path.exists() {
            return Ok(None);
        }
        if self.root_key().exists() {
            let detail = format!("`{}` lies beside `{}`", self.root_key().display(), path.display());
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
                .remedy("remove the root key's file: the TPM has sealed it, and nobody is to have it"));
        }
        Bound::read(&path).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        Bound {
            instance: "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().unwrap(),
            root: SealerId::parse("0011223344556677").unwrap(),
            made: "2026-11-27T00:00:00Z".to_owned(),
            bound_by: vec!["alice".parse().unwrap()],
            sealed: Sealed {
                place: "swtpm:path=/run/tpm".parse().unwrap(),
                parent: vec![0, 11, 1],
                pcrs: "sha256:0,7".parse().unwrap(),
                measured: [0, 7].map(|index| Measured { index, value: "ab".repeat(32) }).to_vec(),
                public: vec![1, 2],
                private: vec![3],
            },
            mac: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_none_is_refused() {
        let text = bound().to_text().unwrap();
        assert_eq!(Bound::parse(&text).unwrap(), bound(), "{text}");
        for (from, to) in [
            ("format = 1", "format = 2"),
            ("format = 1", "format = 1\nmore = 1"),
            ("instance = \"", "instance = \"0"),
            ("root = \"", "root = \"0"),
            ("[\"alice\"]", "[\"../alice\"]"),
            // Whatever the tools would run for it.
            ("swtpm:path=", "cmd:touch "),
            ("sha256:0,7", "sha1:0,7"),
            ("public = \"", "public = \"0"),
            ("private = \"03\"", "private = \"\""),
            ("parent = \"", "parent = \"zz"),
        ] {
            assert!(text.contains(from), "{from}\n{text}");
            assert!(Bound::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_root_key_beside_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        assert!(directory.bound().unwrap().is_none());
        std::fs::write(directory.root_tpm(), bound().to_text().unwrap()).unwrap();
        assert_eq!(directory.bound().unwrap().unwrap(), bound());
        std::fs::write(directory.root_key(), "x").unwrap();
        assert!(directory.bound().unwrap_err().detail().contains("lies beside"));
        std::fs::remove_file(directory.root_key()).unwrap();
        std::fs::write(directory.root_tpm(), "x").unwrap();
        let error = directory.bound().unwrap_err();
        assert!(
            error.detail().contains("root.tpm` is refused")
                && error.remedy_text().contains("put `root.tpm` back")
        );
    }
}
