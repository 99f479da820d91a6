//! Requests and answers: JSON, binary values in standard base64, whose padding may be missing. Unknown fields are passed over, names that stand there
//! twice are not.

use super::check::Check;
use super::claim::{LENIENT, spki_hash};
use super::format::{Blob, Kind, MAX_KEY, MAX_NAME, MAX_WRAPPED_KEY, MAX_WRAPPED_PRIVATE_KEY};
use super::path::Method;
use super::private_key;
use crate::base64_secret;
use crate::json::{Fault, OptionalSecret, Read, Reader};
use crate::native::encode::{Body, Response};
use crate::native::field::{Bytes, SecretBytes};
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use serde::Serialize;

/// The most bytes of a reason.
const MAX_REASON: usize = 1024;
/// The most bytes of a token.
const MAX_TOKEN: usize = 16 << 10;
/// The most bytes of what another service has wrapped, in a form of its own.
const MAX_PEERS: usize = 16 << 10;
/// The most bytes of what is signed: a digest.
const MAX_DIGEST: usize = 128;
/// The most bytes of what a private key decrypts.
const MAX_ENCRYPTED: usize = 1024;
/// The most bytes of the name of an algorithm, and of a label or URL.
const MAX_WORD: usize = 512;

/// What is asked.
#[derive(Debug)]
pub enum Asks {
    /// Wrap this key.
    Wrap(Secret),
    /// Unwrap it.
    Unwrap(Blob),
    /// Issue a delegated token.
    Delegate,
    /// Wrap this key, for this resource and perimeter.
    PrivilegedWrap {
        /// The key.
        key: Secret,
        /// The resource.
        resource: Box<str>,
        /// The perimeter; empty where there is none.
        perimeter: Box<str>,
    },
    /// Unwrap it for this resource.
    PrivilegedUnwrap {
        /// What was wrapped.
        blob: Blob,
        /// The resource.
        resource: Box<str>,
    },
    /// Take over what another service has wrapped.
    Rewrap {
        /// The other service.
        original: Box<str>,
        /// What it made.
        wrapped: Vec<u8>,
    },
    /// Tell which key it is, by its hash.
    Digest(Blob),
    /// Wrap this private key, PKCS#8, for this perimeter.
    WrapPrivateKey {
        /// The key.
        key: Secret,
        /// The hash of its public half, as the key says it: whether its numbers fit together nobody has looked.
        hash: [u8; 32],
        /// The perimeter; empty where there is none.
        perimeter: Box<str>,
    },
    /// Sign with this private key.
    Sign {
        /// What was wrapped, and the hash of its public half.
        key: (Blob, [u8; 32]),
        /// How.
        algorithm: Box<str>,
        /// What.
        digest: Vec<u8>,
        /// For PSS: how many bytes of salt.
        salt: Option<u64>,
    },
    /// Decrypt with this private key.
    Decrypt {
        /// What was wrapped, and the hash of its public half.
        key: (Blob, [u8; 32]),
        /// How.
        algorithm: Box<str>,
        /// What.
        ciphertext: Vec<u8>,
        /// For OAEP: the label.
        label: Vec<u8>,
        /// For administrators: the hash that they bring; else the authorization token has it.
        hash: Option<[u8; 32]>,
    },
}

struct Whole(Option<u64>);

impl Read for Whole {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        if reader.null() {
            return Ok(Self(None));
        }
        reader.integer().map(Some).map(Self)
    }
}

/// The fields that are text, whatever the method.
const FIELDS: [&str; 16] = [
    "authentication",
    "authorization",
    "reason",
    "key",
    "wrapped_key",
    "resource_name",
    "perimeter_id",
    "original_kacls_url",
    "private_key",
    "wrapped_private_key",
    "algorithm",
    "digest",
    "encrypted_data_encryption_key",
    "rsa_oaep_label",
    "spki_hash",
    "spki_hash_algorithm",
];

#[derive(Default)]
struct Fields {
    texts: [Option<OptionalSecret>; FIELDS.len()],
    salt: Option<Whole>,
}

impl Read for Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        reader.object(|reader, name| {
            if name == "rsa_pss_salt_length" {
                return reader.field("rsa_pss_salt_length", &mut fields.salt);
            }
            let mut known = FIELDS.into_iter().zip(&mut fields.texts);
            match known.find(|(known, _)| *known == name) {
                Some((known, slot)) => reader.field(known, slot),
                None => reader.skip().map(drop),
            }
        })?;
        Ok(fields)
    }
}

impl Fields {
    /// Text of at most so many bytes; an empty one is as none.
    fn take(&mut self, name: &'static str, most: usize) -> Result<Option<Secret>, Error> {
        let mut known = FIELDS.into_iter().zip(&mut self.texts);
        let found = known.find(|(known, _)| *known == name).and_then(|(_, slot)| slot.take());
        match found {
            Some(OptionalSecret(Some(text))) if text.len() > most => Err(too_large(name)),
            Some(OptionalSecret(Some(text))) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(OptionalSecret(None)) | None => Ok(None),
        }
    }

    fn text(&mut self, name: &'static str, most: usize) -> Result<Option<Box<str>>, Error> {
        let text = self.take(name, most)?;
        Ok(text.and_then(|text| core::str::from_utf8(text.expose()).ok().map(Box::from)))
    }

    fn required(&mut self, name: &'static str, most: usize) -> Result<Box<str>, Error> {
        self.text(name, most)?.ok_or_else(|| missing(name))
    }

    fn secret(&mut self, name: &'static str, most: usize) -> Result<Option<Secret>, Error> {
        // Four characters hold three bytes, and how many that are is known only afterwards.
        let longest = most.div_ceil(3).saturating_mul(4);
        let Some(text) = self.take(name, longest)? else { return Ok(None) };
        let decoded = base64_secret::decode(&LENIENT, text.expose());
        let bytes = decoded.ok_or_else(|| malformed(name, "expected standard base64"))?;
        if bytes.len() > most { Err(too_large(name)) } else { Ok(Some(bytes)) }
    }

    fn bytes(&mut self, name: &'static str, most: usize) -> Result<Vec<u8>, Error> {
        let bytes = self.secret(name, most)?.ok_or_else(|| missing(name))?;
        Ok(bytes.expose().to_vec())
    }

    fn key(&mut self) -> Result<Secret, Error> {
        self.secret("key", MAX_KEY)?.ok_or_else(|| missing("key"))
    }

    fn wrapped_key(&mut self) -> Result<Blob, Error> {
        let blob = Blob::parse(&self.bytes("wrapped_key", MAX_WRAPPED_KEY)?)?;
        match blob.kind {
            Kind::Key => Ok(blob),
            Kind::PrivateKey(_) => Err(does_not_verify()),
        }
    }

    fn wrapped_private_key(&mut self) -> Result<(Blob, [u8; 32]), Error> {
        let blob = Blob::parse(&self.bytes("wrapped_private_key", MAX_WRAPPED_PRIVATE_KEY)?)?;
        match blob.kind {
            Kind::PrivateKey(hash) => Ok((blob, hash)),
            Kind::Key => Err(does_not_verify()),
        }
    }

    fn perimeter(&mut self) -> Result<Box<str>, Error> {
        Ok(self.text("perimeter_id", MAX_NAME)?.unwrap_or_default())
    }

    fn asks(&mut self, method: Method) -> Result<Asks, Error> {
        Ok(match method {
            Method::Wrap => Asks::Wrap(self.key()?),
            Method::Unwrap => Asks::Unwrap(self.wrapped_key()?),
            Method::Delegate => Asks::Delegate,
            Method::PrivilegedWrap => Asks::PrivilegedWrap {
                key: self.key()?,
                resource: self.required("resource_name", MAX_NAME)?,
                perimeter: self.perimeter()?,
            },
            Method::PrivilegedUnwrap => Asks::PrivilegedUnwrap {
                resource: self.required("resource_name", MAX_NAME)?,
                blob: self.wrapped_key()?,
            },
            Method::Rewrap => Asks::Rewrap {
                original: self.required("original_kacls_url", MAX_WORD)?,
                wrapped: self.bytes("wrapped_key", MAX_PEERS)?,
            },
            Method::Digest => Asks::Digest(self.wrapped_key()?),
            Method::WrapPrivateKey => {
                let text = self.take("private_key", private_key::MAX_TEXT)?;
                let text = text.ok_or_else(|| missing("private_key"))?;
                let key = private_key::pkcs8(&text);
                let none = || malformed("private_key", "expected an RSA private key in PEM");
                let key = key.ok_or_else(none)?;
                if key.len() > private_key::MAX {
                    return Err(too_large("private_key"));
                }
                let hash = private_key::spki_hash(&key).ok_or_else(none)?;
                Asks::WrapPrivateKey { key, hash, perimeter: self.perimeter()? }
            }
            Method::PrivateKeySign => Asks::Sign {
                algorithm: self.required("algorithm", MAX_WORD)?,
                digest: self.bytes("digest", MAX_DIGEST)?,
                salt: self.salt.take().and_then(|Whole(salt)| salt),
                key: self.wrapped_private_key()?,
            },
            Method::PrivateKeyDecrypt => self.decrypt(None)?,
            Method::PrivilegedPrivateKeyDecrypt => {
                let hash = self.required("spki_hash", MAX_WORD)?;
                let hash =
                    spki_hash(&hash).ok_or_else(|| malformed("spki_hash", "expected a SHA-256 in base64"))?;
                let algorithm = self.required("spki_hash_algorithm", MAX_WORD)?;
                if &*algorithm != "SHA-256" {
                    return Err(malformed("spki_hash_algorithm", "expected `SHA-256`"));
                }
                self.decrypt(Some(hash))?
            }
            Method::Status | Method::Certs => {
                return Err(Error::new(ErrorKind::Internal, Stage::Decode, "a method without a body"));
            }
        })
    }

    fn decrypt(&mut self, hash: Option<[u8; 32]>) -> Result<Asks, Error> {
        Ok(Asks::Decrypt {
            algorithm: self.required("algorithm", MAX_WORD)?,
            ciphertext: self.bytes("encrypted_data_encryption_key", MAX_ENCRYPTED)?,
            label: self.secret("rsa_oaep_label", MAX_WORD)?.map_or(vec![], |label| label.expose().to_vec()),
            key: self.wrapped_private_key()?,
            hash,
        })
    }
}

/// What could be read of a request before the rest of it was refused.
#[derive(Debug, Default)]
pub struct Head {
    /// Who it is: a token.
    pub authentication: Option<Secret>,
    /// What they may do: a token.
    pub authorization: Option<Secret>,
    /// Why, so they say. Without control characters.
    pub reason: Box<str>,
}

/// Reads a request. Who asks is kept even when the rest is refused: the refusal is then somebody's.
///
/// # Errors
/// `malformed`, `too-large` for a field beyond its limit, `integrity` for what this service cannot have wrapped.
pub fn decode(method: Method, body: &[u8]) -> (Head, Result<Asks, Error>) {
    let mut fields: Fields = match Reader::whole(body) {
        Ok(fields) => fields,
        Err(fault) => return (Head::default(), Err(Fault::into_error(fault))),
    };
    let mut head = Head::default();
    let read = head.read(method, &mut fields).and_then(|()| fields.asks(method));
    (head, read)
}

impl Head {
    fn read(&mut self, method: Method, fields: &mut Fields) -> Result<(), Error> {
        let Self { authentication, authorization, reason } = self;
        *authentication = fields.take("authentication", MAX_TOKEN)?.filter(|_| method.has_authentication());
        *authorization = fields.take("authorization", MAX_TOKEN)?.filter(|_| method.has_authorization());
        *reason = clean(&fields.text("reason", MAX_REASON)?.unwrap_or_default());
        for (name, is_missing) in [
            ("authentication", method.has_authentication() && authentication.is_none()),
            ("authorization", method.has_authorization() && authorization.is_none()),
        ] {
            if is_missing {
                return Err(missing(name));
            }
        }
        Ok(())
    }
}

/// Without what a terminal or a page might take for an order: control characters, and those that change the direction of writing.
fn clean(text: &str) -> Box<str> {
    let is_order = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_order(c) { '\u{fffd}' } else { c }).collect::<String>().into()
}

fn missing(name: &str) -> Error {
    malformed(name, "is missing")
}

fn malformed(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Decode, format!("`{name}`: {what}"))
}

fn too_large(name: &str) -> Error {
    Error::new(ErrorKind::TooLarge, Stage::Decode, format!("`{name}`: is longer than it may be"))
}

fn does_not_verify() -> Error {
    Error::new(ErrorKind::Integrity, Stage::Decode, "the input does not verify")
}

/// That the hash of a private key's public half is the one that may be used.
///
/// # Errors
/// The check that failed.
pub fn same_spki(ours: &[u8; 32], allowed: Option<[u8; 32]>) -> Result<(), Check> {
    if allowed == Some(*ours) { Ok(()) } else { Err(Check::Spki) }
}

macro_rules! answers {
    ($($(#[$doc:meta])* $function:ident($field:ident: $type:ty) as $wire:ident, $secret:literal;)+) => {
        $(
            $(#[$doc])*
            pub fn $function($field: $type) -> Response {
                #[derive(Serialize)]
                struct Answer { $field: $wire }
                let size = $field.len().saturating_mul(4) / 3 + 64;
                Response::sized(200, &Answer { $field: $wire($field) }, size, $secret)
            }
        )+
    };
}

answers! {
    /// A key that was wrapped.
    wrapped_key(wrapped_key: Vec<u8>) as Bytes, false;
    /// A private key that was wrapped.
    wrapped_private_key(wrapped_private_key: Vec<u8>) as Bytes, false;
    /// A key that was unwrapped.
    key(key: Secret) as SecretBytes, true;
    /// A signature.
    signature(signature: Vec<u8>) as Bytes, false;
    /// What a private key decrypted.
    data_encryption_key(data_encryption_key: Secret) as SecretBytes, true;
    /// The hash by which a key is recognised.
    resource_key_hash(resource_key_hash: Vec<u8>) as Bytes, false;
}

/// A key that was taken over, with the hash by which it is recognised.
pub fn rewrapped(resource_key_hash: Vec<u8>, wrapped_key: Vec<u8>) -> Response {
    #[derive(Serialize)]
    struct Answer {
        resource_key_hash: Bytes,
        wrapped_key: Bytes,
    }
    let (resource_key_hash, wrapped_key) = (Bytes(resource_key_hash), Bytes(wrapped_key));
    Response::json(200, &Answer { resource_key_hash, wrapped_key })
}

/// A delegated token: whoever has it acts for the user.
pub fn delegated_authentication(delegated_authentication: &str) -> Response {
    #[derive(Serialize)]
    struct Answer<'a> {
        delegated_authentication: &'a str,
    }
    let size = delegated_authentication.len().saturating_add(64);
    Response::sized(200, &Answer { delegated_authentication }, size, true)
}

/// The answer to a browser's preflight: its headers say all.
pub fn nothing() -> Response {
    Response::new(204, "application/json", Body::Static(b""))
}

/// What the service can do.
pub fn status(name: &str, operations: &[&str]) -> Response {
    #[derive(Serialize)]
    struct Answer<'a> {
        server_type: &'a str,
        vendor_id: &'a str,
        version: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
        operations_supported: &'a [&'a str],
    }
    let answer = Answer {
        server_type: "KACLS",
        vendor_id: "Holdfast",
        version: env!("CARGO_PKG_VERSION"),
        name,
        operations_supported: operations,
    };
    Response::json(200, &answer)
}

/// The request by which another service is asked for a key.
pub fn ask_peer(token: &str, reason: &str, resource: &str, wrapped: &[u8]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Asked<'a> {
        authentication: &'a str,
        reason: &'a str,
        resource_name: &'a str,
        wrapped_key: Bytes,
    }
    let wrapped_key = Bytes(wrapped.to_vec());
    let asked = Asked { authentication: token, reason, resource_name: resource, wrapped_key };
    serde_json::to_vec(&asked).unwrap_or_default()
}

/// The key that another service answered with; `None` for any other answer.
pub fn peers_key(body: &[u8]) -> Option<Secret> {
    let mut fields: Fields = Reader::whole(body).ok()?;
    fields.key().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cse::error;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use holdfast_core::{KeyVersion, OperationId, Timestamp};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const DEK: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn blob(kind: Kind) -> String {
        let bound =
            super::super::format::Bound { kind, key: [3; 4], perimeter: "eu".into(), resource: "".into() };
        STANDARD.encode(bound.blob(KeyVersion::FIRST, &[7; 60]))
    }

    /// A request of each method, as the digest's section 16 has them.
    fn right(method: Method) -> Value {
        let (key, private) = (blob(Kind::Key), blob(Kind::PrivateKey([5; 32])));
        match method {
            Method::Status | Method::Certs => json!({}),
            Method::Wrap => json!({"authentication": "n", "authorization": "z", "key": DEK, "reason": "r"}),
            Method::Unwrap => {
                json!({"authentication": "n", "authorization": "z", "reason": "r", "wrapped_key": key})
            }
            Method::Delegate => json!({"authentication": "n", "authorization": "z", "reason": "r"}),
            Method::PrivilegedWrap => json!({"authentication": "n", "key": DEK, "perimeter_id": "eu-legal",
                "reason": "bulk import", "resource_name": "file"}),
            Method::PrivilegedUnwrap => {
                json!({"authentication": "n", "reason": "takeout", "resource_name": "file", "wrapped_key": key})
            }
            Method::Rewrap => json!({"authorization": "z", "original_kacls_url": "https://old.example/v1",
                "reason": "", "wrapped_key": "AAAA"}),
            Method::Digest => json!({"authorization": "z", "reason": "", "wrapped_key": key}),
            Method::PrivateKeySign => json!({"authentication": "n", "authorization": "z",
                "algorithm": "SHA256withRSA", "digest": DEK, "reason": "r", "wrapped_private_key": private}),
            Method::PrivateKeyDecrypt => json!({"authentication": "n", "authorization": "z",
                "algorithm": "RSA/ECB/PKCS1Padding", "encrypted_data_encryption_key": DEK, "reason": "r",
                "wrapped_private_key": private}),
            Method::PrivilegedPrivateKeyDecrypt => json!({"authentication": "n",
                "algorithm": "RSA/ECB/PKCS1Padding", "encrypted_data_encryption_key": DEK, "reason": "takeout",
                "spki_hash": DEK, "spki_hash_algorithm": "SHA-256", "wrapped_private_key": private}),
            Method::WrapPrivateKey => json!({"authentication": "n", "perimeter_id": "eu-legal",
                "private_key": "MAA="}),
        }
    }

    fn read(method: Method, body: &Value) -> Result<Asks, Error> {
        decode(method, body.to_string().as_bytes()).1
    }

    fn posted() -> impl Iterator<Item = Method> {
        Method::ALL.iter().copied().filter(|method| !method.is_read())
    }

    #[test]
    fn each_method_needs_its_own_fields_and_nothing_else() {
        for method in posted() {
            let body = right(method);
            let is_whole = method != Method::WrapPrivateKey;
            assert_eq!(read(method, &body).is_ok(), is_whole, "{method:?}");
            for name in body.as_object().unwrap().keys() {
                let mut without = body.clone();
                without.as_object_mut().unwrap().remove(name);
                let mut null = body.clone();
                null[name] = Value::Null;
                for body in [without, null] {
                    let is_optional = ["reason", "perimeter_id"].contains(&name.as_str());
                    match read(method, &body) {
                        Ok(_) => assert!(is_optional, "{method:?} {name}"),
                        Err(error) if is_optional => assert!(!is_whole, "{error}"),
                        Err(error) => assert_eq!(error.to_string(), format!("`{name}`: is missing")),
                    }
                }
            }
            let text = body.to_string();
            let twice = text.replacen('{', r#"{"reason":"","#, 1);
            if text.contains("reason") {
                assert_eq!(decode(method, twice.as_bytes()).1.unwrap_err().kind(), ErrorKind::Malformed);
            }
        }
    }

    #[test]
    fn the_largest_that_is_taken_and_one_more() {
        let sized = |bytes: usize| {
            let mut body = right(Method::Wrap);
            body["key"] = STANDARD.encode(vec![7; bytes]).into();
            read(Method::Wrap, &body).map(drop).map_err(|error| error.kind())
        };
        assert_eq!((sized(1), sized(128)), (Ok(()), Ok(())));
        assert_eq!((sized(129), sized(4000)), (Err(ErrorKind::TooLarge), Err(ErrorKind::TooLarge)));
        assert_eq!(sized(0), Err(ErrorKind::Malformed));
        for (most, expected) in [(1024, None), (1025, Some(ErrorKind::TooLarge))] {
            let mut body = right(Method::Wrap);
            body["reason"] = "r".repeat(most).into();
            assert_eq!(read(Method::Wrap, &body).err().map(|error| error.kind()), expected);
        }
    }

    #[test]
    fn base64_without_padding_is_taken_and_anything_else_is_not() {
        let mut body = right(Method::Wrap);
        body["key"] = DEK.trim_end_matches('=').into();
        assert!(matches!(read(Method::Wrap, &body), Ok(Asks::Wrap(key)) if key.len() == 32));
        for bad in ["AAEC-wQF", "AA EC", "AAECA", "é"] {
            body["key"] = bad.into();
            assert_eq!(read(Method::Wrap, &body).unwrap_err().kind(), ErrorKind::Malformed, "{bad}");
        }
    }

    #[test]
    fn a_reason_is_no_json_and_gives_no_orders() {
        let mut body = right(Method::Wrap);
        body["reason"] = "{client:'drive' op:'read'}\u{1b}[2J\n\u{202e}".into();
        let (head, asks) = decode(Method::Wrap, body.to_string().as_bytes());
        assert!(asks.is_ok());
        assert_eq!(&*head.reason, "{client:'drive' op:'read'}\u{fffd}[2J\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_was_wrapped_as_one_thing_is_not_unwrapped_as_another() {
        let mut body = right(Method::Unwrap);
        body["wrapped_key"] = blob(Kind::PrivateKey([5; 32])).into();
        assert_eq!(read(Method::Unwrap, &body).unwrap_err().kind(), ErrorKind::Integrity);
        let mut body = right(Method::PrivateKeySign);
        body["wrapped_private_key"] = blob(Kind::Key).into();
        assert_eq!(read(Method::PrivateKeySign, &body).unwrap_err().kind(), ErrorKind::Integrity);
    }

    /// Tokens that a method does not know are not looked at: nobody gets in by one.
    #[test]
    fn who_asks_is_known_although_the_rest_is_refused() {
        let mut body = right(Method::Wrap);
        body["key"] = "!".into();
        let (head, asks) = decode(Method::Wrap, body.to_string().as_bytes());
        assert!(asks.is_err() && head.authentication.is_some() && head.authorization.is_some());
        let mut body = right(Method::Digest);
        body["authentication"] = "n".into();
        let (head, _) = decode(Method::Digest, body.to_string().as_bytes());
        assert!(head.authentication.is_none());
    }

    #[test]
    fn answers_byte_for_byte() {
        let told = |response: Response| String::from_utf8(response.body.as_bytes().to_vec()).unwrap();
        let dek = || Secret::new(STANDARD.decode(DEK).unwrap());
        assert_eq!(told(key(dek())), format!(r#"{{"key":"{DEK}"}}"#));
        assert_eq!(told(data_encryption_key(dek())), format!(r#"{{"data_encryption_key":"{DEK}"}}"#));
        assert_eq!(told(wrapped_key(vec![1])), r#"{"wrapped_key":"AQ=="}"#);
        assert_eq!(told(rewrapped(vec![1], vec![2])), r#"{"resource_key_hash":"AQ==","wrapped_key":"Ag=="}"#);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            told(status("eu-prod", &["status", "wrap"])),
            format!(
                r#"{{"server_type":"KACLS","vendor_id":"Holdfast","version":"{version}","name":"eu-prod","operations_supported":["status","wrap"]}}"#
            )
        );
        assert_eq!(peers_key(told(key(dek())).as_bytes()), Some(dek()));
        for bad in ["", "{}", r#"{"key":""}"#, r#"{"key":1}"#, r#"{"key":"AA==","key":"AA=="}"#] {
            assert_eq!(peers_key(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, text: String) {
            let id = OperationId::new(Timestamp::from_micros(0), [0; 10]);
            for method in posted() {
                let mut changed = right(method);
                for value in changed.as_object_mut().unwrap().values_mut() {
                    *value = text.as_str().into();
                }
                for body in [&body[..], changed.to_string().as_bytes()] {
                    if let Err(error) = decode(method, body).1 {
                        let told = error::refusal(&error, id);
                        prop_assert!(serde_json::from_slice::<Value>(told.body.as_bytes()).is_ok());
                    }
                }
            }
        }
    }
}
