//! Other values that stand as text: certificates, credentials, points in time, policies, tokens.

use super::bytes::Bytes;
use super::{TextField, as_text};
use crate::pem;
use core::fmt;
use holdfast_core::Timestamp;
use holdfast_core::adoption::MAX_NAME;
use holdfast_core::caller::Credential;
use holdfast_core::emergency::MAX_REASON;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::Arc;
use zeroize::Zeroizing;

macro_rules! der {
    ($(#[$doc:meta])* $type:ident, $label:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $type(pub Vec<u8>);

        impl TextField for $type {
            fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
                let pem = text.trim_start().starts_with("-----BEGIN");
                let der = if pem { pem::decode(text, $label) } else { Bytes::decode(text).map(|bytes| bytes.0) };
                der.filter(|der| !der.is_empty())
                    .map(Self)
                    .ok_or(concat!("expected ", $what, " in PEM, or its DER in standard base64").into())
            }

            fn text(&self) -> Cow<'_, str> {
                pem::encode(&self.0, $label).into()
            }

            fn named() -> &'static str {
                stringify!($type)
            }

            fn described() -> Schema {
                let what = concat!($what, " in PEM (RFC 7468), or its DER in standard base64. Answers hold PEM.");
                json_schema!({ "type": "string", "description": what })
            }
        }
        as_text!($type);
    };
}
der! {
    /// A certificate.
    CertificateBytes, "CERTIFICATE", "one certificate"
}
der! {
    /// A certificate revocation list.
    CrlBytes, "X509 CRL", "one certificate revocation list"
}

/// How a caller is recognised: `uri:…`, `dns:…`, `key:` with the hexadecimal SHA-256 of a public key, `subject:` with the issuer of a token,
/// `#` and the subject, or `issuer:` with an issuer, whoever the subject is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialText(pub Credential);

const MAX_URI: usize = 2048;
const CREDENTIAL: &str = "expected `uri:` with a URI, `dns:` with a lower-case host name, `key:` with 64 lower-case hexadecimal digits, `subject:` with an issuer, `#` and a subject, or `issuer:` with an issuer";

impl TextField for CredentialText {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        let uri = |text: &str| {
            text.len() <= MAX_URI
                && text.bytes().all(|b| b.is_ascii_graphic())
                && text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
        };
        let credential = match text.split_once(':') {
            Some(("uri", name)) if uri(name) => Some(Credential::Uri(name.into())),
            Some(("dns", name)) if is_host(name) => Some(Credential::Dns(name.into())),
            Some(("key", hash)) => from_hex(hash).map(Credential::KeyHash),
            // No issuer has a fragment (OpenID Connect Discovery 1.0 §3): what is behind the first `#` is the subject.
            Some(("subject", both)) => both
                .split_once('#')
                .filter(|(issuer, subject)| is_issuer(issuer) && is_subject(subject))
                .map(|(issuer, subject)| Credential::Issued {
                    issuer: issuer.into(),
                    subject: Some(subject.into()),
                }),
            Some(("issuer", issuer)) if is_issuer(issuer) => {
                Some(Credential::Issued { issuer: issuer.into(), subject: None })
            }
            Some(_) | None => None,
        };
        credential.map(Self).ok_or(CREDENTIAL.into())
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Credential::Uri(name) => format!("uri:{name}"),
            Credential::Dns(name) => format!("dns:{name}"),
            Credential::KeyHash(hash) => {
                let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("key:{hex}")
            }
            Credential::Issued { issuer, subject: Some(subject) } => format!("subject:{issuer}#{subject}"),
            Credential::Issued { issuer, subject: None } => format!("issuer:{issuer}"),
        }
        .into()
    }

    fn named() -> &'static str {
        "Credential"
    }

    fn described() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(uri:[^:]+:.+|dns:[a-z0-9.-]+|key:[0-9a-f]{64}|subject:[^#]+#.+|issuer:[^#]+)$",
            "description": "How a caller is recognised: a URI or DNS name among its certificate's subject alternative names, the SHA-256 of its public key (DER SubjectPublicKeyInfo), issuer and subject of its tokens (JWT) with a `#` between, or the issuer alone: any of its tokens then, but those about a subject that another caller is registered with.",
        })
    }
}
as_text!(CredentialText);

/// Whether a token can be from such an issuer: visible characters, no fragment.
fn is_issuer(text: &str) -> bool {
    (1..=Credential::MAX_ISSUER).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// Whether a token can be about such a subject.
fn is_subject(text: &str) -> bool {
    (1..=Credential::MAX_SUBJECT).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A host name (RFC 1123 §2.1) in lower case, no wildcard.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes?.try_into().ok()
}

/// A point in time: RFC 3339 in UTC with microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl TextField for Time {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        let refuse = "expected a time such as `2026-11-23T19:03:17.000000Z`";
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok())
        };
        let micros = || {
            let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
            let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
            Some(seconds * 1_000_000 + number(20, 26)?)
        };
        // What does not print as it was written was not a time: a 30th of February, a wrong separator.
        let time = micros().map(Timestamp::from_micros).filter(|time| time.text() == text.as_bytes());
        time.map(Self).ok_or(refuse.into())
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }

    fn named() -> &'static str {
        "Time"
    }

    fn described() -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339 in UTC with microseconds." })
    }
}
as_text!(Time);

/// Days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms"); `None` before that.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, yoe) = (year / 400, year % 400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy).checked_sub(719_468)
}

/// Policies, in Cedar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText(pub Arc<str>);

impl TextField for PolicyText {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        Ok(Self(text.into()))
    }

    fn text(&self) -> Cow<'_, str> {
        (&*self.0).into()
    }

    fn named() -> &'static str {
        "PolicyText"
    }

    fn described() -> Schema {
        json_schema!({ "type": "string", "description": "Policies, in Cedar." })
    }
}
as_text!(PolicyText);

/// What an object is called in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLabel(pub Arc<str>);

impl TextField for ObjectLabel {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        match (1..=MAX_NAME).contains(&text.len()) {
            true => Ok(Self(text.into())),
            false => Err(format!("expected a CKA_LABEL, 1 to {MAX_NAME} bytes").into()),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        (&*self.0).into()
    }

    fn named() -> &'static str {
        "ObjectLabel"
    }

    fn described() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME, "description": "The CKA_LABEL of an object in a token." })
    }
}
as_text!(ObjectLabel);

/// Why something is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonText(pub Box<str>);

impl TextField for ReasonText {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        match !text.trim().is_empty() && text.chars().count() <= MAX_REASON {
            true => Ok(Self(text.into())),
            false => Err(format!("expected a reason, 1 to {MAX_REASON} characters").into()),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        (&*self.0).into()
    }

    fn named() -> &'static str {
        "Reason"
    }

    fn described() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_REASON, "description": "Why; it stands in the audit log." })
    }
}
as_text!(ReasonText);

/// Text that nobody else may see, wiped when dropped.
pub struct SecretText(pub Zeroizing<String>);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} bytes)", self.0.len())
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "Secret: shown once, keep it out of logs." })
    }
}
