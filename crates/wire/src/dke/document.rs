//! The document of a key: its public half, as Microsoft's clients read it. Field by field and in this order what the reference server writes.

use crate::native::encode::Response;
use crate::rsa;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use serde::Serialize;

/// With what the reference server says.
pub(super) const JSON: &str = "application/json; charset=utf-8";

#[derive(Serialize)]
struct Document<'a> {
    key: Key<'a>,
    /// Left out as a whole, or there: never `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Cache<'a>>,
}

#[derive(Serialize)]
struct Key<'a> {
    kty: &'static str,
    /// Standard base64 with padding, and not base64url as in a JSON Web Key.
    n: String,
    /// A number, and not text as there.
    e: u64,
    /// The only value that clients know, although the key is used for RSA-OAEP-256.
    alg: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Cache<'a> {
    exp: &'a str,
}

/// The document of an RSA key, DER SubjectPublicKeyInfo, under its URL; `until` is how long clients may keep it.
///
/// # Errors
/// `unsupported` for another key.
pub fn document(public: &[u8], kid: &str, until: Option<Timestamp>) -> Result<Response, Error> {
    let (n, e) = rsa::numbers(public).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, Stage::Answer, "the key is not an RSA key").remedy(
            "create one: `holdfast key create NAME --algorithm rsa-2048 --purpose encrypt --protocol ms-dke`",
        )
    })?;
    let e = e.iter().fold(0, |e, byte| e << 8 | u64::from(*byte));
    let until = until.map(|until| until.to_string());
    // To the second, without a zone: it is UTC.
    let exp = until.as_deref().and_then(|until| until.get(..19));
    let key = Key { kty: "RSA", n: STANDARD.encode(n), e, alg: "RS256", kid };
    let mut response = Response::json(200, &Document { key, cache: exp.map(|exp| Cache { exp }) });
    response.content_type = JSON;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::encode::Body;
    use crate::rsa::RSA;

    pub(crate) const N: &str = "lYpBSo/ZzsZbSjFJhn52BjSEn9r0dqRrOrV7fHbGvKkBWxGTJkJpNWyMFV1M5MUrHASERQTJXb45PNX7FnCK9L4kCSeNG9e07oNv5SHGfnw0qe/VYSUQpsxVY2xKrDrDVRWs3k7hO14eP0rbbgZId99oofECV9PpwUbh2k7g2AE56onDcapuRASqQeVrtWJIZ43uaR4Wqzw3KF8cKyA4ppAw6n40IAQSFF+UspN36YlRVOnpxt3uTDZ0dW2o5bD1eik25ZqOWun8tMN5zx+o6xd3yDSsmnrdRHV0FNv/GvvFegocQ0+YbCwfie3SSDyH40xtf23KAZrFdpmCIcitbw==";
    const KID: &str = "https://dke.hyok.example/legal-hold/7C1D2A90-55B3-4E0C-9A41-3F6E8B1D2C77";

    fn spki() -> Vec<u8> {
        let n = STANDARD.decode(N).unwrap();
        let head = [
            &[0x30, 0x82, 0x01, 0x22][..],
            RSA,
            &[0x03, 0x82, 0x01, 0x0f, 0, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0],
        ];
        [&head.concat()[..], &n, &[0x02, 0x03, 1, 0, 1]].concat()
    }

    fn text(response: Response) -> String {
        let Response { status: 200, content_type: JSON, body: Body::Plain(bytes), .. } = response else {
            panic!()
        };
        String::from_utf8(bytes).unwrap()
    }

    /// The exchange of `fixtures/ms-dke`, byte for byte.
    #[test]
    fn the_document_byte_for_byte() {
        let until = Timestamp::parse("2026-01-16T10:15:00.000000Z").unwrap();
        let expected = include_str!("../../../../fixtures/ms-dke/document.json").trim_end();
        assert_eq!(text(document(&spki(), KID, Some(until)).unwrap()), expected);
        let without = expected.replace(r#","cache":{"exp":"2026-01-16T10:15:00"}"#, "");
        assert_eq!(text(document(&spki(), KID, None).unwrap()), without);
        assert!(!without.contains("cache"));
    }

    #[test]
    fn what_is_no_rsa_key_has_none() {
        let good = spki();
        for length in 0..good.len() {
            assert_eq!(document(&good[..length], KID, None).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        let more = [&good[..], &[0]].concat();
        assert!(document(&more, KID, None).is_err());
        for at in 0..32 {
            let mut other = good.clone();
            other[at] ^= 0x10;
            assert!(document(&other, KID, None).is_err(), "{at}");
        }
    }
}
