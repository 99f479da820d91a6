//! Requests and answers: JSON, binary values in base64url without padding. Unknown fields are passed over, names that stand there twice are not.

use super::API_VERSION;
use super::path::{Operation as Kind, Path};
use crate::base64_secret;
use crate::json::{Fault, Optional, OptionalSecret, Read, Reader};
use crate::native::encode::Response;
use crate::rsa;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_core::algorithm::{Algorithm, Hash, Wrapping};
use holdfast_core::context::Context;
use holdfast_core::operation::{Answer, Operation, Output};
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// The most bytes of what is wrapped: more than the longest private key that anybody wraps.
pub const MAX_VALUE: usize = 8 << 10;
/// The most bytes of what is unwrapped: what key wrap makes of the most is eight bytes longer (RFC 3394 §2.2.1, RFC 5649 §4.1).
pub const MAX_WRAPPED: usize = MAX_VALUE + 8;
/// The most bytes of anything that is said of a request.
const MAX_SAID: usize = 256;

/// A request, read.
#[derive(Debug)]
pub struct Request {
    /// The provider's own id of it, where it could be read: `correlation_id`.
    pub id: Option<Box<str>>,
    /// All that it says of itself, by the specification's names.
    pub says: Context,
    /// What is asked, or `malformed`.
    pub asks: Result<Asks, Error>,
}

impl Request {
    /// One of which nothing could be read.
    pub fn unread(why: Error) -> Self {
        Self { id: None, says: Context::EMPTY, asks: Err(why) }
    }
}

/// What is asked.
#[derive(Debug)]
pub enum Asks {
    /// Get proxy information.
    Info,
    /// Get key metadata.
    Metadata,
    /// Wrap or unwrap.
    Use(Operation),
}

/// `request_context`.
#[derive(Default)]
struct Said {
    request_id: Option<Optional>,
    correlation_id: Option<Optional>,
    pool_name: Option<Optional>,
}

impl Read for Said {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut said = Self::default();
        reader.object(|reader, name| match name {
            "request_id" => reader.field("request_id", &mut said.request_id),
            "correlation_id" => reader.field("correlation_id", &mut said.correlation_id),
            "pool_name" => reader.field("pool_name", &mut said.pool_name),
            _ => reader.skip().map(drop),
        })?;
        Ok(said)
    }
}

#[derive(Default)]
struct Fields {
    context: Option<Said>,
    alg: Option<Optional>,
    value: Option<OptionalSecret>,
}

impl Read for Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        reader.object(|reader, name| match name {
            "request_context" => reader.field("request_context", &mut fields.context),
            "alg" => reader.field("alg", &mut fields.alg),
            "value" => reader.field("value", &mut fields.value),
            _ => reader.skip().map(drop),
        })?;
        Ok(fields)
    }
}

/// Reads a request. What it says of itself is kept for the record even when the rest is refused.
pub fn decode(path: &Path<'_>, query: Option<&str>, body: &[u8]) -> Request {
    let nothing = Request::unread;
    let Fields { context, alg, value } = match Reader::whole(body).map_err(Fault::into_error) {
        Ok(fields) => fields,
        Err(error) => return nothing(error),
    };
    let Some(Said { request_id, correlation_id, pool_name }) = context else {
        return nothing(missing("request_context"));
    };
    let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(4);
    let mut lacking = None;
    for (name, field, required) in [
        ("request_id", request_id, false),
        ("correlation_id", correlation_id, true),
        ("pool_name", pool_name, true),
    ] {
        match field.unwrap_or_default() {
            Optional(Some(text)) if text.len() > MAX_SAID => {
                return nothing(wrong(format!("`{name}`: has more than {MAX_SAID} bytes")));
            }
            Optional(Some(text)) if !(required && text.is_empty()) => pairs.push((name.into(), text)),
            Optional(_) if required => lacking = lacking.or(Some(name)),
            Optional(_) => {}
        }
    }
    let id = pairs.iter().find(|(name, _)| **name == *"correlation_id").map(|(_, id)| id.clone());
    let alg = alg.unwrap_or_default().0;
    // How it is wrapped is nowhere else: the key's own algorithm does not say which hash.
    if let Some(known) = alg.as_deref().and_then(named) {
        pairs.push(("alg".into(), known.0.into()));
    }
    let says = match Context::new(pairs) {
        Ok(says) => says,
        Err(error) => return nothing(error),
    };
    let asks = match lacking {
        Some(name) => Err(missing(&format!("request_context.{name}"))),
        None => super::path::version(query).and_then(|()| asks(path, alg.as_deref(), value)),
    };
    Request { id, says, asks }
}

/// The algorithms by their names (RFC 7518 §4.1; padding is Microsoft's own name).
const ALGORITHMS: [(&str, Wrapping); 4] = [
    ("A256KW", Wrapping::AesKw),
    ("A256KWP", Wrapping::AesKwp),
    ("RSA-OAEP-256", Wrapping::RsaOaep(Hash::Sha256)),
    ("RSA-OAEP", Wrapping::RsaOaep(Hash::Sha1)),
];

fn named(alg: &str) -> Option<(&'static str, Wrapping)> {
    ALGORITHMS.into_iter().find(|(name, _)| *name == alg)
}

fn asks(path: &Path<'_>, alg: Option<&str>, value: Option<OptionalSecret>) -> Result<Asks, Error> {
    let wraps = match path {
        Path::Info => return Ok(Asks::Info),
        Path::Key(_, Kind::Metadata) => return Ok(Asks::Metadata),
        Path::Key(_, Kind::Wrap) => true,
        Path::Key(_, Kind::Unwrap) => false,
    };
    let (_, wrapping) = alg.ok_or_else(|| missing("alg")).and_then(|alg| {
        named(alg).ok_or_else(|| wrong("`alg`: expected `A256KW`, `A256KWP`, `RSA-OAEP-256` or `RSA-OAEP`"))
    })?;
    let Some(OptionalSecret(Some(text))) = value else { return Err(missing("value")) };
    let bytes = decoded(&text, if wraps { MAX_VALUE } else { MAX_WRAPPED })?;
    Ok(Asks::Use(match wraps {
        true => Operation::WrapBare { bytes, wrapping },
        false => Operation::UnwrapBare { wrapped: bytes.expose().to_vec(), wrapping },
    }))
}

fn decoded(text: &Secret, most: usize) -> Result<Secret, Error> {
    let too_large = || {
        let detail = format!("`value`: has more than {most} bytes");
        Error::new(ErrorKind::TooLarge, Stage::Decode, detail)
    };
    if text.len() > most.div_ceil(3).saturating_mul(4) {
        return Err(too_large());
    }
    let bytes = base64_secret::decode(&URL_SAFE_NO_PAD, text.expose())
        .ok_or_else(|| wrong("`value`: expected base64url without padding"))?;
    if bytes.len() > most { Err(too_large()) } else { Ok(bytes) }
}

fn wrong(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Decode, detail)
}

fn missing(field: &str) -> Error {
    wrong(format!("`{field}`: is missing"))
}

#[derive(Serialize)]
struct Info<'a> {
    api_version: &'a str,
    proxy_vendor: &'a str,
    proxy_name: &'a str,
    ekm_vendor: &'a str,
    ekm_product: &'a str,
}

/// Who answers, and what keeps the keys: its maker and what it is.
pub fn info(vendor: &str, product: &str) -> Response {
    Response::json(
        200,
        &Info {
            api_version: API_VERSION,
            proxy_vendor: "Holdfast",
            proxy_name: concat!("Holdfast ", env!("CARGO_PKG_VERSION")),
            ekm_vendor: vendor,
            ekm_product: product,
        },
    )
}

#[derive(Serialize)]
struct Metadata<'a> {
    key_type: &'a str,
    key_size: u32,
    key_ops: [&'a str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

/// What the provider calls a key of this algorithm, and its size in bits, if it has such keys.
pub const fn kind(algorithm: Algorithm) -> Option<(&'static str, u32)> {
    match algorithm {
        Algorithm::Aes256Kw | Algorithm::Aes256Kwp => Some(("oct", 256)),
        Algorithm::Rsa2048 => Some(("RSA", 2048)),
        Algorithm::Rsa3072 => Some(("RSA", 3072)),
        Algorithm::Rsa4096 => Some(("RSA", 4096)),
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::Ed25519
        | Algorithm::MlDsa65
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::EcdhP256
        | Algorithm::EcdhP384
        | Algorithm::X25519
        | Algorithm::MlKem768 => None,
    }
}

/// What a key is; `public` is its public half, DER SubjectPublicKeyInfo, if it has one.
///
/// # Errors
/// `unsupported` for a key that the provider has no name for.
pub fn metadata(algorithm: Algorithm, public: Option<&[u8]>) -> Result<Response, Error> {
    let unsupported = || Error::new(ErrorKind::Unsupported, Stage::Answer, "no key of this protocol");
    let (key_type, key_size) = kind(algorithm).ok_or_else(unsupported)?;
    let numbers = match (key_type, public) {
        ("RSA", Some(public)) => Some(rsa::numbers(public).ok_or_else(unsupported)?),
        ("RSA", None) => return Err(unsupported()),
        (_, _) => None,
    };
    let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    let told = Metadata {
        key_type,
        key_size,
        key_ops: ["wrapKey", "unwrapKey"],
        n: numbers.map(|(n, _)| text(n)),
        e: numbers.map(|(_, e)| text(e)),
    };
    Ok(Response::json(200, &told))
}

/// A value in base64url, wiped once it is written.
struct Value(Zeroizing<String>);

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[derive(Serialize)]
struct Worked {
    value: Value,
}

/// What wrapping or unwrapping gave.
///
/// # Errors
/// `internal` for an output that this protocol has no place for.
pub fn answer(answer: Answer) -> Result<Response, Error> {
    let (bytes, is_secret) = match &answer.output {
        Output::Plaintext(plain) => (plain.expose(), true),
        Output::Ciphertext(wrapped) => (&**wrapped, false),
        Output::DataKey { .. }
        | Output::Signature(..)
        | Output::Mac(_)
        | Output::Valid(_)
        | Output::SharedSecret(_)
        | Output::Random(_)
        | Output::Encapsulated { .. }
        | Output::PublicKey(_) => {
            let detail = "an output that this protocol does not have";
            return Err(Error::new(ErrorKind::Internal, Stage::Answer, detail));
        }
    };
    // As long as it will be from the start, so that nothing of it is left where it was.
    let length = bytes.len().div_ceil(3).saturating_mul(4);
    let mut text = Zeroizing::new(String::with_capacity(length));
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    let size = length.saturating_add(64);
    Ok(Response::sized(200, &Worked { value: Value(text) }, size, is_secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::encode::Body;
    use proptest::prelude::*;

    const QUERY: Option<&str> = Some("api-version=0.1-preview");
    const WRAP: Path<'static> = Path::Key("aes-key-1", Kind::Wrap);
    const UNWRAP: Path<'static> = Path::Key("aes-key-1", Kind::Unwrap);
    const METADATA: Path<'static> = Path::Key("aes-key-1", Kind::Metadata);
    /// RFC 3394 §4.6.
    const KEY: &str = "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f";
    const WRAPPED: &str = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21";

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../../fixtures/azure-ekm/", $name)).trim_end()
        };
    }

    fn told(response: Response) -> String {
        assert_eq!((response.status, response.content_type), (200, "application/json"));
        String::from_utf8(response.body.as_bytes().to_vec()).unwrap()
    }

    fn answered(output: Output) -> Response {
        answer(Answer { output, algorithm: None, version: None, integrity: None }).unwrap()
    }

    #[test]
    fn the_exchange_byte_for_byte() {
        for (name, wrapping, wrap, unwrap) in [
            ("A256KW", Wrapping::AesKw, fixture!("wrap-a256kw.json"), fixture!("unwrap-a256kw.json")),
            ("A256KWP", Wrapping::AesKwp, fixture!("wrap-a256kwp.json"), fixture!("unwrap-a256kwp.json")),
        ] {
            let Request { id, says, asks } = decode(&WRAP, QUERY, wrap.as_bytes());
            assert_eq!(id.as_deref(), Some("aa9a3cb4-82b4-11f0-afc6-5ffd3bdade85"));
            let expected = [
                ("alg", name),
                ("correlation_id", "aa9a3cb4-82b4-11f0-afc6-5ffd3bdade85"),
                ("pool_name", "mhsm-pool-name"),
                ("request_id", "6476b291-7c15-4d0b-aef9-03688390cb8e"),
            ];
            let mut said: Vec<_> = says.pairs().collect();
            said.sort_unstable();
            assert_eq!(said, expected);
            let Ok(Asks::Use(Operation::WrapBare { bytes, wrapping: asked })) = asks else { panic!() };
            assert_eq!((hex::encode(bytes.expose()).as_str(), asked), (KEY, wrapping));
            let Request { asks, .. } = decode(&UNWRAP, QUERY, unwrap.as_bytes());
            let Ok(Asks::Use(Operation::UnwrapBare { wrapping: asked, .. })) = asks else { panic!() };
            assert_eq!(asked, wrapping);
        }
        let wrapped = answered(Output::Ciphertext(hex::decode(WRAPPED).unwrap()));
        assert_eq!(told(wrapped), fixture!("wrapped-a256kw.json"));
        let unwrapped = answered(Output::Plaintext(Secret::new(hex::decode(KEY).unwrap())));
        assert!(matches!(unwrapped.body, Body::Secret(_)));
        assert_eq!(told(unwrapped), fixture!("unwrapped.json"));
        let Request { asks, says, .. } =
            decode(&METADATA, QUERY, fixture!("metadata-request.json").as_bytes());
        assert!(matches!(asks, Ok(Asks::Metadata)) && says.pairs().count() == 3);
        assert_eq!(told(metadata(Algorithm::Aes256Kw, None).unwrap()), fixture!("metadata-oct.json"));
        let Request { asks, .. } = decode(&Path::Info, QUERY, fixture!("info-request.json").as_bytes());
        assert!(matches!(asks, Ok(Asks::Info)));
    }

    #[test]
    fn the_info_byte_for_byte() {
        let expected = concat!(
            r#"{"api_version":"0.1-preview","proxy_vendor":"Holdfast","proxy_name":"Holdfast "#,
            env!("CARGO_PKG_VERSION"),
            r#"","ekm_vendor":"Example","ekm_product":"EX-9 fw 2.4"}"#
        );
        assert_eq!(told(info("Example", "EX-9 fw 2.4")), expected);
    }

    /// The numbers are RFC 7517's, Appendix A.1, whose modulus has 2048 bits.
    #[test]
    fn an_rsa_key_has_its_numbers_in_base64url() {
        const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let n = URL_SAFE_NO_PAD.decode(N).unwrap();
        let head = [
            &[0x30, 0x82, 0x01, 0x22][..],
            rsa::RSA,
            &[0x03, 0x82, 0x01, 0x0f, 0, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0],
        ];
        let spki = [&head.concat()[..], &n, &[0x02, 0x03, 1, 0, 1]].concat();
        let expected = format!(
            r#"{{"key_type":"RSA","key_size":2048,"key_ops":["wrapKey","unwrapKey"],"n":"{N}","e":"AQAB"}}"#
        );
        assert_eq!(told(metadata(Algorithm::Rsa2048, Some(&spki)).unwrap()), expected);
        assert!(metadata(Algorithm::Rsa2048, None).is_err());
        assert!(metadata(Algorithm::Rsa2048, Some(&spki[1..])).is_err());
        for algorithm in Algorithm::ALL {
            assert_eq!(kind(*algorithm).is_none(), metadata(*algorithm, Some(&spki)).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_keeps_what_it_says_where_it_can() {
        let good = fixture!("wrap-a256kw.json");
        let value = r#""value":"ABEiM0RVZneImaq7zN3u_wABAgMEBQYHCAkKCwwNDg8""#;
        assert!(good.contains(value));
        let with = |other: &str| good.replace(value, other);
        let refused = |body: &str, query| {
            let Request { id, asks, .. } = decode(&WRAP, query, body.as_bytes());
            let error = asks.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{body}");
            (id.is_some(), error.to_string())
        };
        for (body, says) in [
            (with(r#""value":"AA==""#), "padding"),
            (with(r#""value":"AAA=""#), "padding"),
            (with(r#""value":"+/+/""#), "base64url"),
            (with(r#""value":"AB""#), "base64url"),
            (with(r#""value":"A""#), "base64url"),
            (with(r#""value":null"#), "`value`"),
            (with(r#""other":1"#), "`value`"),
            (good.replace("A256KW", "a256kw"), "`alg`"),
            (good.replace("A256KW", "RSA1_5"), "`alg`"),
            (good.replace(r#""alg":"A256KW","#, ""), "`alg`"),
            (good.replace("pool_name", "pool"), "request_context.pool_name"),
            (good.replace("mhsm-pool-name", ""), "request_context.pool_name"),
        ] {
            let (has_id, error) = refused(&body, QUERY);
            assert!(has_id && error.contains(says), "{body}: {error}");
        }
        for body in [
            "".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            format!("{good}x"),
            good.replace("request_context", "context"),
            good.replacen('{', r#"{"alg":"A256KW","#, 1),
            good.replacen('{', r#"{"value":"","#, 1),
            good.replacen('{', r#"{"request_context":{},"#, 1),
            good.replace(r#""pool_name""#, r#""pool_name":"a","pool_name""#),
            good.replace(r#""mhsm-pool-name""#, "1"),
            good.replace("mhsm-pool-name", &"p".repeat(257)),
        ] {
            refused(&body, QUERY);
        }
        for query in [None, Some("api-version=1.0")] {
            assert!(refused(good, query).0);
        }
        // What is new is passed over, and the one id that is optional is.
        let more = good.replacen('{', r#"{"new":[{"alg":1}],"#, 1).replace("\"request_id\"", "\"other\"");
        let Request { says, asks, .. } = decode(&WRAP, QUERY, more.as_bytes());
        assert!(asks.is_ok() && says.pairs().count() == 3);
    }

    #[test]
    fn the_largest_that_is_taken_and_one_more() {
        let sized = |path: &Path<'_>, bytes: usize| {
            let mut body: serde_json::Value = serde_json::from_str(fixture!("wrap-a256kw.json")).unwrap();
            body["value"] = URL_SAFE_NO_PAD.encode(vec![7; bytes]).into();
            decode(path, QUERY, body.to_string().as_bytes()).asks.map(drop).map_err(|error| error.kind())
        };
        for (path, most) in [(WRAP, MAX_VALUE), (UNWRAP, MAX_WRAPPED)] {
            assert_eq!(sized(&path, most), Ok(()));
            for more in [most + 1, most + 3, 2 * most] {
                assert_eq!(sized(&path, more), Err(ErrorKind::TooLarge));
            }
        }
        const { assert!(super::super::MAX_BODY > MAX_WRAPPED / 3 * 4 + 4 * MAX_SAID) }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, text: String) {
            let good = fixture!("wrap-a256kw.json");
            let texts = [good.replace("A256KW", &text), good.replace("mhsm-pool-name", &text)];
            for path in [Path::Info, METADATA, WRAP, UNWRAP] {
                for body in [&body[..], texts[0].as_bytes(), texts[1].as_bytes()] {
                    let _read = decode(&path, QUERY, body);
                }
            }
        }
    }
}
