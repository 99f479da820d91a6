//! Requests and answers: JSON on one line, binary values in standard base64. Unknown fields are passed over, names that stand there twice are not.

use super::format::Aad;
use super::format::{IV_LEN, MAX_AAD, MAX_PLAINTEXT, TAG_LEN, metadata, version_of};
use super::path::Operation as Kind;
use crate::base64_secret;
use crate::json::{Fault, Optional, OptionalSecret, Read, Reader};
use crate::native::encode::Response;
use crate::native::field::{Bytes, SecretBytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::context::Context;
use holdfast_core::key::Key;
use holdfast_core::operation::{Answer, Operation, Output};
use holdfast_core::{Error, ErrorKind, KeyVersion, Secret, Stage};
use serde::Serialize;

/// The most bytes of an ARN.
const MAX_ARN: usize = 2048;
/// The most bytes of `kmsRequestId`. It is any text to the specification, and mostly a UUID: the bound is there since it is kept while the request lasts.
const MAX_ID: usize = 2048;
/// The most bytes of anything else that is said of a request.
const MAX_SAID: usize = 256;
const AES_GCM: &str = "AES_GCM";
/// What that is here.
const ALGORITHMS: &[Algorithm] = &[Algorithm::Aes256Gcm];
const SHA_256: &str = "SHA_256";
/// The version that never was: no key comes to it.
const NEVER: KeyVersion = match KeyVersion::new(u32::MAX) {
    Some(version) => version,
    None => KeyVersion::FIRST,
};

/// A request, read.
#[derive(Debug)]
pub struct Request {
    /// The provider's own id of it, where it could be read.
    pub id: Option<Box<str>>,
    /// What else it says of itself, by the specification's names.
    pub says: Context,
    /// What is asked: `malformed` for what cannot be read, or lacks a field.
    pub asks: Result<Asks, Error>,
}

/// What is asked.
#[derive(Debug)]
pub enum Asks {
    /// GetHealthStatus.
    Health,
    /// GetKeyMetadata.
    Metadata,
    /// Encrypt or Decrypt.
    Use(Operation),
    /// The same with a field that is `malformed`, or `too-large`: told to who may use the key, and to nobody else.
    Faulty(Error),
}

/// What a request says of itself.
#[derive(Debug, Default)]
struct Said {
    id: Option<Box<str>>,
    pairs: Vec<(Box<str>, Box<str>)>,
}

#[derive(Default)]
struct Fields {
    metadata: Option<Said>,
    plaintext: Option<OptionalSecret>,
    ciphertext: Option<OptionalSecret>,
    aad: Option<OptionalSecret>,
    iv: Option<OptionalSecret>,
    tag: Option<OptionalSecret>,
    ciphertext_metadata: Option<OptionalSecret>,
    algorithm: Option<Optional>,
    integrity: Option<Optional>,
}

impl Read for Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        reader.object(|reader, name| match name {
            "requestMetadata" => reader.field("requestMetadata", &mut fields.metadata),
            "plaintext" => reader.field("plaintext", &mut fields.plaintext),
            "ciphertext" => reader.field("ciphertext", &mut fields.ciphertext),
            "additionalAuthenticatedData" => reader.field("additionalAuthenticatedData", &mut fields.aad),
            "initializationVector" => reader.field("initializationVector", &mut fields.iv),
            "authenticationTag" => reader.field("authenticationTag", &mut fields.tag),
            "ciphertextMetadata" => reader.field("ciphertextMetadata", &mut fields.ciphertext_metadata),
            "encryptionAlgorithm" => reader.field("encryptionAlgorithm", &mut fields.algorithm),
            "ciphertextDataIntegrityValueAlgorithm" => {
                reader.field("ciphertextDataIntegrityValueAlgorithm", &mut fields.integrity)
            }
            _ => reader.skip().map(drop),
        })?;
        Ok(fields)
    }
}

/// What is said of a request, with the most bytes of each.
const SAID: [(&str, usize); 6] = [
    ("kmsOperation", MAX_SAID),
    ("awsPrincipalArn", MAX_ARN),
    ("kmsKeyArn", MAX_ARN),
    ("awsSourceVpc", MAX_SAID),
    ("awsSourceVpce", MAX_SAID),
    ("kmsViaService", MAX_SAID),
];

impl Read for Said {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut said = Self::default();
        let twice = |known: bool, name: &'static str| match known {
            true => Err(Fault::malformed("stands there twice").within(name)),
            false => Ok(()),
        };
        reader.object(|reader, name| {
            let value = |reader: &mut Reader<'_>, name: &'static str, most: usize| {
                let Optional(text) = Optional::read(reader).map_err(|fault| fault.within(name))?;
                match text {
                    Some(text) if text.len() > most => {
                        Err(Fault::malformed(format!("has more than {most} bytes")).within(name))
                    }
                    text => Ok(text),
                }
            };
            if name == "kmsRequestId" {
                twice(said.id.is_some(), "kmsRequestId")?;
                said.id = value(reader, "kmsRequestId", MAX_ID)?;
                return Ok(());
            }
            let Some((known, most)) = SAID.iter().find(|(known, _)| *known == name) else {
                return reader.skip().map(drop);
            };
            twice(said.pairs.iter().any(|(before, _)| **before == **known), known)?;
            if let Some(text) = value(reader, known, *most)? {
                said.pairs.push((Box::from(*known), text));
            }
            Ok(())
        })?;
        Ok(said)
    }
}

/// Reads a request. What it says of itself is kept for the record even when the rest is refused.
pub fn decode(kind: Kind, body: &[u8]) -> Request {
    let nothing = |error| Request { id: None, says: Context::EMPTY, asks: Err(error) };
    let mut fields: Fields = match Reader::whole(body) {
        Ok(fields) => fields,
        Err(fault) => return nothing(Fault::into_error(fault)),
    };
    let Some(Said { id, pairs }) = fields.metadata.take() else {
        return nothing(missing("requestMetadata"));
    };
    let required: &[&str] = match kind {
        Kind::Health => &["kmsOperation"],
        Kind::Metadata => &["kmsOperation", "awsPrincipalArn"],
        Kind::Encrypt | Kind::Decrypt => &["kmsOperation", "awsPrincipalArn", "kmsKeyArn"],
    };
    let lacking = match id {
        None => Some("kmsRequestId"),
        Some(_) => required.iter().copied().find(|name| !pairs.iter().any(|(known, _)| **known == **name)),
    };
    let says = match Context::new(pairs) {
        Ok(says) => says,
        Err(error) => return nothing(error),
    };
    let asks = match lacking {
        Some(name) => Err(missing(&format!("requestMetadata.{name}"))),
        None => asks(kind, fields),
    };
    Request { id, says, asks }
}

fn asks(kind: Kind, fields: Fields) -> Result<Asks, Error> {
    match kind {
        Kind::Health => Ok(Asks::Health),
        Kind::Metadata => Ok(Asks::Metadata),
        Kind::Encrypt => {
            let plaintext = text_of(fields.plaintext, "plaintext")?;
            demand(fields.algorithm, "encryptionAlgorithm", AES_GCM)?
                .ok_or_else(|| missing("encryptionAlgorithm"))?;
            let checked =
                demand(fields.integrity, "ciphertextDataIntegrityValueAlgorithm", SHA_256)?.is_some();
            let sealing = sealing(&plaintext, given(fields.aad).as_ref(), checked);
            Ok(sealing.map_or_else(Asks::Faulty, Asks::Use))
        }
        Kind::Decrypt => {
            let ciphertext = text_of(fields.ciphertext, "ciphertext")?;
            let iv = text_of(fields.iv, "initializationVector")?;
            let tag = text_of(fields.tag, "authenticationTag")?;
            demand(fields.algorithm, "encryptionAlgorithm", AES_GCM)?
                .ok_or_else(|| missing("encryptionAlgorithm"))?;
            let metadata = given(fields.ciphertext_metadata);
            let opening = opening((&iv, &ciphertext, &tag), given(fields.aad).as_ref(), metadata.as_ref());
            Ok(opening.map_or_else(Asks::Faulty, Asks::Use))
        }
    }
}

/// To encrypt. The sizes of all fields come before what any of them holds.
fn sealing(plaintext: &Secret, aad: Option<&Secret>, checked: bool) -> Result<Operation, Error> {
    within(plaintext, "plaintext", MAX_PLAINTEXT)?;
    let associated = Box::new(aad_of(aad)?);
    let plaintext =
        base64_secret::decode(&STANDARD, plaintext.expose()).ok_or_else(|| not_base64("plaintext"))?;
    Ok(Operation::Seal { plaintext, associated, algorithms: ALGORITHMS, checked })
}

/// To decrypt. Parts that cannot be ones are not told from those that were changed: they are refused where those are, as of a version that never was.
fn opening(
    (iv, ciphertext, tag): (&Secret, &Secret, &Secret),
    aad: Option<&Secret>,
    metadata: Option<&Secret>,
) -> Result<Operation, Error> {
    within(ciphertext, "ciphertext", MAX_PLAINTEXT)?;
    let associated = Box::new(aad_of(aad)?);
    let ciphertext = bytes(ciphertext, "ciphertext")?;
    let iv = bytes(iv, "initializationVector")?;
    let tag = bytes(tag, "authenticationTag")?;
    let metadata = metadata.map_or(Ok(Vec::new()), |text| bytes(text, "ciphertextMetadata"))?;
    let version = version_of(&metadata).filter(|_| iv.len() == IV_LEN && tag.len() == TAG_LEN);
    let version = version.unwrap_or(NEVER);
    let mut body = iv;
    body.extend_from_slice(&ciphertext);
    body.extend_from_slice(&tag);
    Ok(Operation::Open { body, version, associated, algorithms: ALGORITHMS })
}

fn missing(field: &str) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Decode, format!("`{field}`: is missing"))
}

fn given(field: Option<OptionalSecret>) -> Option<Secret> {
    field.and_then(|OptionalSecret(text)| text)
}

fn text_of(field: Option<OptionalSecret>, name: &str) -> Result<Secret, Error> {
    given(field).ok_or_else(|| missing(name))
}

/// A field that can have one value only.
fn demand(field: Option<Optional>, name: &str, value: &str) -> Result<Option<()>, Error> {
    match field {
        Some(Optional(Some(text))) if *text == *value => Ok(Some(())),
        Some(Optional(Some(_))) => {
            let detail = format!("`{name}`: expected `{value}`");
            Err(Error::new(ErrorKind::Malformed, Stage::Decode, detail))
        }
        Some(Optional(None)) | None => Ok(None),
    }
}

fn aad_of(field: Option<&Secret>) -> Result<Aad, Error> {
    let Some(text) = field else { return Ok(Aad(Vec::new())) };
    within(text, "additionalAuthenticatedData", MAX_AAD)?;
    bytes(text, "additionalAuthenticatedData").map(Aad)
}

/// Whether a field has no more bytes than are supported, whatever it holds.
fn within(text: &Secret, name: &str, most: usize) -> Result<(), Error> {
    let padding = text.expose().iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    if text.len().div_ceil(4).saturating_mul(3).saturating_sub(padding) <= most {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooLarge, Stage::Decode, format!("`{name}`: is longer than is supported")))
}

fn not_base64(name: &str) -> Error {
    let detail = format!("`{name}`: expected standard base64 with padding");
    Error::new(ErrorKind::Malformed, Stage::Decode, detail)
}

fn bytes(text: &Secret, name: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text.expose()).map_err(|_| not_base64(name))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted {
    ciphertext: Bytes,
    initialization_vector: Bytes,
    authentication_tag: Bytes,
    ciphertext_metadata: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_data_integrity_value: Option<Bytes>,
}

#[derive(Serialize)]
struct Decrypted {
    plaintext: SecretBytes,
}

/// What using a key gave.
///
/// # Errors
/// `internal` for an output that this protocol has no place for.
pub fn answer(answer: Answer) -> Result<Response, Error> {
    let defect =
        || Error::new(ErrorKind::Internal, Stage::Answer, "an output that this protocol does not have");
    match answer {
        Answer { output: Output::Plaintext(plain), .. } => {
            let size = plain.len().saturating_mul(4) / 3 + 64;
            Ok(Response::sized(200, &Decrypted { plaintext: SecretBytes(plain) }, size, true))
        }
        Answer { output: Output::Ciphertext(body), version: Some(version), integrity, .. } => {
            encrypted(&body, version, integrity).ok_or_else(defect)
        }
        Answer { .. } => Err(defect()),
    }
}

fn encrypted(body: &[u8], version: KeyVersion, integrity: Option<[u8; 32]>) -> Option<Response> {
    let (iv, rest) = body.split_at_checked(IV_LEN)?;
    let (ciphertext, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_LEN)?)?;
    let metadata = metadata(version);
    let encrypted = Encrypted {
        ciphertext: Bytes(ciphertext.to_vec()),
        initialization_vector: Bytes(iv.to_vec()),
        authentication_tag: Bytes(tag.to_vec()),
        ciphertext_metadata: Bytes(metadata.to_vec()),
        ciphertext_data_integrity_value: integrity.map(|value| Bytes(value.to_vec())),
    };
    Some(Response::sized(200, &encrypted, body.len().saturating_mul(4) / 3 + 320, false))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyMetadata<'a> {
    key_spec: &'a str,
    key_usage: &'a [&'a str],
    key_status: &'a str,
}

/// What a store has a key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To encrypt and to decrypt.
    Both,
    /// To encrypt alone.
    EncryptOnly,
    /// To decrypt alone.
    DecryptOnly,
}

impl Usage {
    /// Whether this can be done with a key that a store has for it. An encryption that is checked decrypts too.
    pub fn permits(self, operation: &Operation) -> bool {
        match self {
            Self::Both => true,
            Self::EncryptOnly => matches!(operation, Operation::Seal { checked: false, .. }),
            Self::DecryptOnly => matches!(operation, Operation::Open { .. }),
        }
    }

    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Both => &["ENCRYPT", "DECRYPT"],
            Self::EncryptOnly => &["ENCRYPT"],
            Self::DecryptOnly => &["DECRYPT"],
        }
    }
}

/// What there is to know of a key that a store has for this: what it is, and what it does now; nothing, while it does not serve.
pub fn key_metadata(key: &Key, usage: Usage, serves: bool) -> Response {
    let is_one = key.algorithm == Algorithm::Aes256Gcm && key.purpose == Purpose::Encrypt;
    let other = || format!("{} to {}", key.algorithm.name(), key.purpose.name());
    let key_spec = if is_one { "AES_256".to_owned() } else { other() };
    let may = |action| serves && !key.is_archived() && key.state.permits(action).is_ok();
    let does = |word: &str| match word {
        "ENCRYPT" => may(Action::Encrypt),
        _ => may(Action::Decrypt),
    };
    let now: Vec<&str> = usage.words().iter().copied().filter(|word| does(word)).collect();
    let (key_usage, key_status) = match now.is_empty() {
        false => (now.as_slice(), "ENABLED"),
        true => (usage.words(), "DISABLED"),
    };
    Response::json(200, &KeyMetadata { key_spec: &key_spec, key_usage, key_status })
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Condition {
    /// It works.
    Active,
    /// It works, and is not what it should be.
    Degraded,
    /// It does not work.
    Unavailable,
}

/// One device.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name.
    pub id: String,
    /// What it is.
    pub model: String,
    /// How it is.
    pub health_status: Condition,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health<'a> {
    xks_proxy_fleet_size: u32,
    xks_proxy_vendor: &'a str,
    xks_proxy_model: &'a str,
    ekm_vendor: &'a str,
    ekm_fleet_details: &'a [Device],
}

/// The most devices that are told of.
const MAX_DEVICES: usize = 10;

/// How the gateway and its devices are; `vendor` is the devices' maker, and there is one device at least.
pub fn health(vendor: &str, devices: &[Device]) -> Response {
    let told = devices.get(..devices.len().min(MAX_DEVICES)).unwrap_or_default();
    let health = Health {
        xks_proxy_fleet_size: 1,
        xks_proxy_vendor: "Holdfast",
        xks_proxy_model: concat!("Holdfast ", env!("CARGO_PKG_VERSION")),
        ekm_vendor: vendor,
        ekm_fleet_details: told,
    };
    Response::json(200, &health)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xks::error;
    use proptest::prelude::*;

    /// The bodies of the digest's section 6.5, as they stand there.
    const ENCRYPT: &str = r#"{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::111122223333:role/PayrollApp","kmsKeyArn":"arn:aws:kms:eu-central-1:111122223333:key/9f0c1d2e-3b4a-4c5d-8e6f-708192a3b4c5","kmsOperation":"GenerateDataKey","kmsRequestId":"b7c1a0d4-2f65-4f0e-9f0c-0a6f9e1d3b58","kmsViaService":"s3.eu-central-1.amazonaws.com"},"additionalAuthenticatedData":"ZGVwdD1wYXlyb2xsLGVudj1wcm9k","plaintext":"d3JhcCBtZTogMzItYnl0ZSBkYXRhIGtleSBoZXJlISE=","encryptionAlgorithm":"AES_GCM","ciphertextDataIntegrityValueAlgorithm":"SHA_256"}"#;
    const DECRYPT: &str = r#"{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::111122223333:role/PayrollApp","kmsKeyArn":"arn:aws:kms:eu-central-1:111122223333:key/9f0c1d2e-3b4a-4c5d-8e6f-708192a3b4c5","kmsOperation":"Decrypt","kmsRequestId":"c8d2b1e5-3076-4a1f-8a1d-1b70af2e4c69","kmsViaService":"s3.eu-central-1.amazonaws.com"},"ciphertext":"UZ3mH9Q4W1WuTYBdNru4FkLzS1sWZT/im79fNRZ9Rvc=","ciphertextMetadata":"AQAAAAc=","encryptionAlgorithm":"AES_GCM","additionalAuthenticatedData":"ZGVwdD1wYXlyb2xsLGVudj1wcm9k","initializationVector":"oaKjpKWmp6ipqqus","authenticationTag":"oX5qs2MHVA/lUiNfN7j3Fw=="}"#;
    const ENCRYPTED: &str = r#"{"ciphertext":"UZ3mH9Q4W1WuTYBdNru4FkLzS1sWZT/im79fNRZ9Rvc=","initializationVector":"oaKjpKWmp6ipqqus","authenticationTag":"oX5qs2MHVA/lUiNfN7j3Fw==","ciphertextMetadata":"AQAAAAc=","ciphertextDataIntegrityValue":"pPWHCE3+QX/Kq4TEGluI1/8aMjwD5KZpN382pYTlH0U="}"#;
    const AAD: &[u8] = b"dept=payroll,env=prod";

    fn told(response: Response) -> String {
        let bytes = match response.body {
            crate::native::encode::Body::Plain(bytes) => bytes,
            crate::native::encode::Body::Secret(wiped) => wiped.as_ref().to_vec(),
            crate::native::encode::Body::Static(bytes) => bytes.to_vec(),
        };
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_published_exchange_byte_for_byte() {
        let seven = KeyVersion::new(7).unwrap();
        let Request { id, says, asks } = decode(Kind::Encrypt, ENCRYPT.as_bytes());
        assert_eq!(id.as_deref(), Some("b7c1a0d4-2f65-4f0e-9f0c-0a6f9e1d3b58"));
        let said: Vec<_> = says.pairs().collect();
        assert_eq!(said.len(), 4);
        assert!(said.contains(&("kmsViaService", "s3.eu-central-1.amazonaws.com")));
        let Ok(Asks::Use(Operation::Seal { plaintext, associated, checked: true, .. })) = asks else {
            panic!()
        };
        assert_eq!(plaintext.expose(), b"wrap me: 32-byte data key here!!");
        assert_eq!(associated.brought(), AAD);
        let Request { asks, .. } = decode(Kind::Decrypt, DECRYPT.as_bytes());
        let Ok(Asks::Use(Operation::Open { body, version, associated, .. })) = asks else { panic!() };
        assert_eq!((version, associated.brought()), (seven, AAD));
        let answered = |output, integrity| Answer {
            output,
            algorithm: Some(Algorithm::Aes256Gcm),
            version: Some(seven),
            integrity,
        };
        let value = associated.integrity(seven, &body);
        let encrypted = answer(answered(Output::Ciphertext(body), Some(value))).unwrap();
        assert_eq!(told(encrypted), ENCRYPTED);
        let decrypted = answer(answered(Output::Plaintext(plaintext), None)).unwrap();
        assert_eq!(told(decrypted), r#"{"plaintext":"d3JhcCBtZTogMzItYnl0ZSBkYXRhIGtleSBoZXJlISE="}"#);
    }

    #[test]
    fn the_published_health_byte_for_byte() {
        let devices =
            [("hsm-a", Condition::Active), ("hsm-b", Condition::Degraded), ("c", Condition::Unavailable)]
                .map(|(id, health_status)| Device {
                    id: id.into(),
                    model: "EX-9 fw 2.4".into(),
                    health_status,
                });
        let told = told(health("Example HSM GmbH", &devices));
        let expected = concat!(
            r#"{"xksProxyFleetSize":1,"xksProxyVendor":"Holdfast","xksProxyModel":"Holdfast "#,
            env!("CARGO_PKG_VERSION"),
            r#"","ekmVendor":"Example HSM GmbH","ekmFleetDetails":[{"id":"hsm-a","model":"EX-9 fw 2.4","healthStatus":"ACTIVE"},"#,
            r#"{"id":"hsm-b","model":"EX-9 fw 2.4","healthStatus":"DEGRADED"},{"id":"c","model":"EX-9 fw 2.4","healthStatus":"UNAVAILABLE"}]}"#
        );
        assert_eq!(told, expected);
        let many: Vec<_> = (0..30)
            .map(|n| Device { id: n.to_string(), model: String::new(), health_status: Condition::Active })
            .collect();
        assert_eq!(self::told(health("v", &many)).matches("healthStatus").count(), 10);
    }

    /// The limits are those that the specification demands, to the byte.
    #[test]
    fn the_largest_that_is_taken_and_one_more() {
        let sized = |field: &str, bytes: usize| {
            let mut body: serde_json::Value = serde_json::from_str(ENCRYPT).unwrap();
            body[field] = STANDARD.encode(vec![7; bytes]).into();
            match decode(Kind::Encrypt, body.to_string().as_bytes()).asks {
                Ok(Asks::Use(_)) => Ok(()),
                Ok(Asks::Faulty(error)) => Err(error.kind()),
                other => panic!("{other:?}"),
            }
        };
        for (field, most) in [("plaintext", 4300), ("additionalAuthenticatedData", 8192)] {
            assert_eq!(sized(field, most), Ok(()));
            assert_eq!(sized(field, most + 1), Err(ErrorKind::TooLarge), "{field}");
            assert_eq!(sized(field, 2 * most), Err(ErrorKind::TooLarge), "{field}");
        }
    }

    /// KMS may call its requests what it likes. All that is said of one fits what policies and the record are given.
    #[test]
    fn any_id_is_taken_and_the_longest_of_all_that_is_said() {
        let with = |pairs: &[(&str, String)]| {
            let mut body: serde_json::Value = serde_json::from_str(ENCRYPT).unwrap();
            for (name, value) in pairs {
                body["requestMetadata"][*name] = value.as_str().into();
            }
            decode(Kind::Encrypt, body.to_string().as_bytes())
        };
        let longest = |mut pairs: Vec<(&'static str, String)>| {
            pairs.extend(SAID.map(|(name, most)| (name, "v".repeat(most))));
            pairs
        };
        for id in ["", "x", "no/uuid \u{1}\u{2028}", &"i".repeat(2048)] {
            let Request { id: read, says, asks } = with(&longest(vec![("kmsRequestId", id.to_owned())]));
            assert_eq!(read.as_deref(), Some(id));
            assert_eq!(says.pairs().count(), SAID.len());
            assert!(matches!(asks, Ok(Asks::Use(_))), "{asks:?}");
        }
        let error = with(&[("kmsRequestId", "i".repeat(2049))]).asks.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn what_is_refused_keeps_its_id() {
        let body = DECRYPT.replace("\"authenticationTag\"", "\"other\"");
        let Request { id, says, asks } = decode(Kind::Decrypt, body.as_bytes());
        assert!(id.is_some() && !says.is_empty());
        assert_eq!(asks.unwrap_err().to_string(), "`authenticationTag`: is missing");
        let twice = DECRYPT.replacen('{', r#"{"ciphertext":"AA==","#, 1);
        assert_eq!(decode(Kind::Decrypt, twice.as_bytes()).asks.unwrap_err().kind(), ErrorKind::Malformed);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused_and_told_in_print(body: Vec<u8>, text: String) {
            for kind in [Kind::Health, Kind::Metadata, Kind::Encrypt, Kind::Decrypt] {
                let texts = [ENCRYPT.replace("AES_GCM", &text), DECRYPT.replace("c8d2b1e5", &text)];
                for body in [&body[..], texts[0].as_bytes(), texts[1].as_bytes()] {
                    if let Err(error) | Ok(Asks::Faulty(error)) = decode(kind, body).asks {
                        let told = told(error::refusal(&error));
                        prop_assert!(told.bytes().all(|b| (0x20..0x7f).contains(&b)));
                    }
                }
            }
        }
    }
}
