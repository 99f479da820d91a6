//! The recipient stanza: `-> holdfast 1 TENANT KEY`, and below it the wrapped file key.

use age_core::format::Stanza;
use holdfast_core::binding::BindingClass;
use holdfast_core::frame::Header;
use holdfast_core::{KeyName, TenantId};

/// The stanza's tag.
pub(crate) const TAG: &str = "holdfast";
const VERSION: &str = "1";

/// A stanza of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStanza {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyName,
    /// The file key as the gateway gave it back: Holdfast's own ciphertext, which says how it was made.
    pub(crate) wrapped: Vec<u8>,
}

impl FileStanza {
    /// As age writes it.
    pub(crate) fn into_stanza(self) -> Stanza {
        let Self { tenant, key, wrapped } = self;
        Stanza {
            tag: TAG.to_owned(),
            args: vec![VERSION.to_owned(), tenant.to_string(), key.to_string()],
            body: wrapped,
        }
    }

    /// From what age read: `None` where it is not ours, an error where it should be and is not of this form.
    pub(crate) fn read(stanza: &Stanza) -> Option<Result<Self, String>> {
        (stanza.tag == TAG).then(|| Self::parse(&stanza.args, &stanza.body))
    }

    fn parse(args: &[String], body: &[u8]) -> Result<Self, String> {
        let [version, tenant, key] = args else {
            return Err("a `holdfast` stanza has three arguments".to_owned());
        };
        if version != VERSION {
            return Err(format!(
                "the file was made by a newer Holdfast, with stanzas of version `{version}`"
            ));
        }
        let unnamed = |error: holdfast_core::id::InvalidId| error.to_string();
        let stanza = Self {
            tenant: tenant.parse().map_err(unnamed)?,
            key: key.parse().map_err(unnamed)?,
            wrapped: body.to_vec(),
        };
        stanza.class().ok_or("the wrapped file key is damaged")?;
        Ok(stanza)
    }

    /// By which operation the file key was wrapped.
    pub(crate) fn class(&self) -> Option<BindingClass> {
        let (header, _) = Header::parse(&self.wrapped).ok()?;
        match header.class {
            BindingClass::Data | BindingClass::Wrapped => Some(header.class),
            BindingClass::DataKey => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(class: u8) -> Vec<u8> {
        let mut bytes = b"HFC\x01".to_vec();
        bytes.extend([class, 1]);
        bytes.extend([7; 16]);
        bytes.extend([0, 0, 0, 1]);
        bytes.extend([9; 32 + 56]);
        bytes
    }

    #[test]
    fn leads_back() {
        let stanza = FileStanza {
            tenant: "acme".parse().unwrap(),
            key: "payroll".parse().unwrap(),
            wrapped: wrapped(1),
        };
        let written = stanza.clone().into_stanza();
        assert_eq!((written.tag.as_str(), written.args.join(" ").as_str()), ("holdfast", "1 acme payroll"));
        assert_eq!(FileStanza::read(&written), Some(Ok(stanza)));
    }

    #[test]
    fn what_is_not_ours_is_passed_over_and_what_is_damaged_is_said() {
        let of = |tag: &str, args: &[&str], body: Vec<u8>| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            FileStanza::read(&Stanza { tag: tag.to_owned(), args, body })
        };
        assert_eq!(of("X25519", &["abc"], vec![]), None);
        assert!(of("holdfast", &["1", "acme", "payroll"], wrapped(2)).unwrap().is_ok());
        for (args, body) in [
            (vec!["1", "acme"], wrapped(1)),
            (vec!["2", "acme", "payroll"], wrapped(1)),
            (vec!["1", "Acme", "payroll"], wrapped(1)),
            (vec!["1", "acme", "pay/roll"], wrapped(1)),
            (vec!["1", "acme", "payroll"], wrapped(3)),
            (vec!["1", "acme", "payroll"], vec![]),
        ] {
            assert!(of("holdfast", &args, body).unwrap().is_err(), "{args:?}");
        }
    }
}
