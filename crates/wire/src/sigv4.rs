//! AWS Signature Version 4 in the `Authorization` header: taken apart for whoever verifies it, and made for clients of our own.
//!
//! What is signed is the canonical request: method, path, query, the signed headers and the SHA-256 of the body as it came. Nothing here
//! holds a secret; the signature itself is verified by `holdfast-identity`.

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::peer::SignedRequest;
use holdfast_core::{Error, ErrorKind, Secret, Stage, Timestamp, TokenId};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// The most headers that a request can sign here: providers sign two or three.
const MAX_SIGNED_HEADERS: usize = 16;
/// Base32 (RFC 4648 §6) of 16 bytes, without padding.
const ACCESS_KEY_LEN: usize = 26;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Calls back with each value of a header, by its name in lower case.
pub type Headers<'a> = dyn Fn(&str, &mut dyn FnMut(&[u8])) + 'a;

/// A request as its signature covers it.
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path exactly as it was requested: nothing in it may need encoding.
    pub path: &'a str,
    /// Its headers; the `:authority` of HTTP/2 counts as `host`.
    pub headers: &'a Headers<'a>,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// A token's id, as an access key id: 26 of A–Z and 2–7.
pub fn access_key_id(id: TokenId) -> String {
    let mut text = String::with_capacity(ACCESS_KEY_LEN);
    // 128 bits and two more make 26 letters of five.
    let mut bits = u128::from_be_bytes(*id.as_bytes());
    let mut letters = [b'A'; ACCESS_KEY_LEN];
    let mut take = |slot: &mut u8, width: u32| {
        let mask = (1_u128 << width) - 1;
        let value = (bits & mask) << (5 - width);
        bits >>= width;
        *slot = usize::try_from(value).ok().and_then(|value| BASE32.get(value)).copied().unwrap_or(b'A');
    };
    for (place, slot) in letters.iter_mut().rev().enumerate() {
        take(slot, if place == 0 { 3 } else { 5 });
    }
    text.extend(letters.map(char::from));
    text
}

/// The token's id that an access key id names; `None` for what is none of ours.
pub fn parse_access_key_id(text: &str) -> Option<TokenId> {
    let letters: &[u8; ACCESS_KEY_LEN] = text.as_bytes().try_into().ok()?;
    let mut bits = 0_u128;
    for (place, letter) in letters.iter().enumerate() {
        let value = BASE32.iter().position(|known| known == letter)?;
        let value = u128::try_from(value).ok()?;
        match place == ACCESS_KEY_LEN - 1 {
            false => bits = (bits << 5) | value,
            // The last letter has two bits too many, which are zero.
            true if value & 3 == 0 => bits = (bits << 3) | (value >> 2),
            true => return None,
        }
    }
    Some(TokenId::from_bytes(bits.to_be_bytes()))
}

/// Takes a signed request apart. `is_region` says which regions are let in.
///
/// # Errors
/// `unauthenticated`, whatever is wrong with it.
pub fn take_apart(
    request: &Request<'_>,
    service: &str,
    is_region: &dyn Fn(&str) -> bool,
) -> Result<SignedRequest, Error> {
    parse(request, service, is_region).ok_or_else(|| {
        Error::new(
            ErrorKind::Unauthenticated,
            Stage::Decode,
            "the request is not signed as Signature Version 4 has it",
        )
    })
}

fn parse(request: &Request<'_>, service: &str, is_region: &dyn Fn(&str) -> bool) -> Option<SignedRequest> {
    let authorization = only(request, "authorization")?;
    let authorization = core::str::from_utf8(&authorization).ok()?;
    let (algorithm, rest) = authorization.split_once(' ')?;
    if algorithm != ALGORITHM {
        return None;
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let (name, value) = part.trim_matches(' ').split_once('=')?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let (credential, signed_headers) = (credential?, signed_headers?);
    let mut parts = credential.split('/');
    let (id, date, region) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next()? != service || parts.next()? != TERMINATOR || parts.next().is_some() || !is_region(region)
    {
        return None;
    }
    let at = only(request, "x-amz-date")?;
    let at = core::str::from_utf8(&at).ok()?;
    let signed_at = basic_time(at)?;
    if at.get(..8)? != date {
        return None;
    }
    let names: Vec<&str> = signed_headers.split(';').collect();
    let is_sorted = names.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
    let has = |name| names.contains(&name);
    if names.len() > MAX_SIGNED_HEADERS || !is_sorted || !has("host") || !has("x-amz-date") {
        return None;
    }
    let scope = [date, region, service, TERMINATOR].map(Box::from);
    let signed = string_to_sign(at, &scope, &canonical(request, &names, signed_headers)?);
    Some(SignedRequest {
        token: parse_access_key_id(id)?,
        scope,
        signed_at,
        signed,
        signature: unhex(signature?)?,
    })
}

/// A header that may stand there once only.
fn only(request: &Request<'_>, name: &str) -> Option<Vec<u8>> {
    let (mut found, mut count) = (Vec::new(), 0);
    (request.headers)(name, &mut |value| {
        count += 1;
        found = value.to_vec();
    });
    (count == 1).then_some(found)
}

/// The canonical request. `None` when a header that was signed is not there.
fn canonical(request: &Request<'_>, names: &[&str], signed_headers: &str) -> Option<Vec<u8>> {
    let Request { method, path, headers, body } = request;
    let mut out = Vec::with_capacity(256 + path.len());
    for line in [method.as_bytes(), path.as_bytes(), b""] {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    for name in names {
        let mut is_there = false;
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        headers(name, &mut |value| {
            if is_there {
                out.push(b',');
            }
            is_there = true;
            // Trimmed at both ends, runs of spaces inside are one.
            let mut words = value.split(|b| *b == b' ').filter(|word| !word.is_empty());
            out.extend_from_slice(words.next().unwrap_or_default());
            for word in words {
                out.push(b' ');
                out.extend_from_slice(word);
            }
        });
        if !is_there {
            return None;
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(hex::encode(digest(&SHA256, body)).as_bytes());
    Some(out)
}

fn string_to_sign(at: &str, scope: &[Box<str>; 4], canonical: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    for line in [ALGORITHM, at, &scope.join("/")] {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(hex::encode(digest(&SHA256, canonical)).as_bytes());
    out
}

/// What a client of our own signs a request with.
pub struct Signer<'a> {
    /// The access key id.
    pub access_key_id: &'a str,
    /// The secret access key, as its text.
    pub secret_access_key: &'a Secret,
    /// The region that the request is made for.
    pub region: &'a str,
    /// The service that it is made to.
    pub service: &'a str,
    /// When.
    pub now: Timestamp,
}

impl Signer<'_> {
    /// Signs a POST: the values of `X-Amz-Date` and `Authorization`. `host` is the value of that header.
    pub fn sign(&self, (host, path): (&str, &str), body: &[u8]) -> (String, String) {
        let Self { access_key_id, secret_access_key, region, service, now } = self;
        let at = in_basic_form(*now);
        let date = at.get(..8).unwrap_or_default();
        let scope = [date, region, service, TERMINATOR].map(Box::<str>::from);
        let headers = |name: &str, each: &mut dyn FnMut(&[u8])| match name {
            "host" => each(host.as_bytes()),
            "x-amz-date" => each(at.as_bytes()),
            _ => {}
        };
        let request = Request { method: "POST", path, headers: &headers, body };
        let names = "host;x-amz-date";
        let canonical = canonical(&request, &["host", "x-amz-date"], names).unwrap_or_default();
        let signed = string_to_sign(&at, &scope, &canonical);
        let signature =
            hex::encode(SignedRequest::sign(&SignedRequest::narrow(secret_access_key, &scope), &signed));
        let authorization = format!(
            "{ALGORITHM} Credential={access_key_id}/{}, SignedHeaders={names}, Signature={}",
            scope.join("/"),
            signature
        );
        (at, authorization)
    }
}

/// `20260115T101500Z`.
fn basic_time(text: &str) -> Option<Timestamp> {
    let [y, m, d, h, min, s] =
        [(0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15)].map(|(from, to)| text.get(from..to));
    let extended = format!("{}-{}-{}T{}:{}:{}.000000Z", y?, m?, d?, h?, min?, s?);
    let is_basic = text.len() == 16 && text.get(8..9)? == "T" && text.ends_with('Z');
    Timestamp::parse(&extended).filter(|_| is_basic)
}

fn in_basic_form(at: Timestamp) -> String {
    let text = at.text();
    let mut basic: String =
        text.iter().take(19).filter(|b| !matches!(b, b'-' | b':')).copied().map(char::from).collect();
    basic.push('Z');
    basic
}

/// 64 lower-case hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!text.bytes().any(|digit| digit.is_ascii_uppercase())).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: &str = "xks.hyok.example";
    const SECRET: &str = "qAXEftnOBJjPe7hORf2LWdv0HIV/2/+7Kmvg0rfuGas=";
    const HEALTH: &str = r#"{"requestMetadata":{"kmsRequestId":"0d0f8a3c-6f0c-4f5e-9b51-6a1d0f7b2c11","kmsOperation":"KmsHealthCheck"}}"#;

    fn headers<'a>(pairs: &'a [(&'a str, &'a str)]) -> Box<Headers<'a>> {
        Box::new(move |name, each| {
            pairs.iter().filter(|(n, _)| *n == name).for_each(|(_, v)| each(v.as_bytes()))
        })
    }

    /// Example A of the digest of the XKS proxy specification, and the one that was recorded from curl 7.88.1.
    #[test]
    fn the_published_canonical_requests() {
        let hash = |request: &Request<'_>, names: &str| {
            let list: Vec<&str> = names.split(';').collect();
            hex::encode(digest(&SHA256, &canonical(request, &list, names).unwrap()))
        };
        let pairs =
            [("host", HOST), ("x-amz-date", "20260115T101500Z"), ("content-type", "application/json")];
        let headers = headers(&pairs);
        let path = "/tenant-7/kms/xks/v1/health";
        let request = Request { method: "POST", path, headers: &*headers, body: HEALTH.as_bytes() };
        let expected = "0355ba2f3e4e448c46099fc2a3cdff0f459f1d1741ef65a8012a62cd8df60ff9";
        assert_eq!(hash(&request, "host;x-amz-date"), expected);
        let expected = "4d3c736634a5f1feb20f5dfef3288cdcf53248a0442141274d556cebad9361cc";
        assert_eq!(hash(&request, "content-type;host;x-amz-date"), expected);
    }

    #[test]
    fn our_own_signature_is_the_published_one() {
        let now = Timestamp::parse("2026-01-15T10:15:00.000000Z").unwrap();
        let secret = Secret::new(SECRET.into());
        let signer = Signer {
            access_key_id: "HYOKDEMOKEYID2345ABCDEFG",
            secret_access_key: &secret,
            region: "eu-central-1",
            service: "kms-xks-proxy",
            now,
        };
        let (at, authorization) = signer.sign((HOST, "/tenant-7/kms/xks/v1/health"), HEALTH.as_bytes());
        assert_eq!(at, "20260115T101500Z");
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=HYOKDEMOKEYID2345ABCDEFG/20260115/eu-central-1/kms-xks-proxy/aws4_request, SignedHeaders=host;x-amz-date, Signature=980acfb53f4041da6dfa620dceab5e4226172e0034bb3aa1cefd637f411100cb"
        );
    }

    fn signed(change: impl Fn(&mut Vec<(&'static str, String)>)) -> Option<SignedRequest> {
        let secret = Secret::new(SECRET.into());
        let id = access_key_id(TokenId::from_bytes([5; 16]));
        let now = Timestamp::parse("2026-01-15T10:15:00.000000Z").unwrap();
        let signer = Signer {
            access_key_id: &id,
            secret_access_key: &secret,
            region: "eu-central-1",
            service: "kms-xks-proxy",
            now,
        };
        let path = "/p/kms/xks/v1/health";
        let (at, authorization) = signer.sign((HOST, path), HEALTH.as_bytes());
        let mut pairs = vec![("host", HOST.to_owned()), ("x-amz-date", at), ("authorization", authorization)];
        change(&mut pairs);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let headers = headers(&pairs);
        let request = Request { method: "POST", path, headers: &*headers, body: HEALTH.as_bytes() };
        take_apart(&request, "kms-xks-proxy", &|region| region == "eu-central-1").ok()
    }

    #[test]
    fn what_is_not_signed_as_it_must_be_is_refused() {
        assert_eq!(signed(|_| {}).unwrap().token, TokenId::from_bytes([5; 16]));
        type Change = fn(&mut Vec<(&'static str, String)>);
        let changes: [Change; 14] = [
            |pairs| pairs.retain(|(name, _)| *name != "authorization"),
            |pairs| pairs.retain(|(name, _)| *name != "host"),
            |pairs| pairs.retain(|(name, _)| *name != "x-amz-date"),
            |pairs| pairs.push(("authorization", pairs[2].1.clone())),
            |pairs| pairs.push(("x-amz-date", pairs[1].1.clone())),
            |pairs| pairs[1].1 = "20260116T101500Z".into(),
            |pairs| pairs[1].1 = "20260115T101500".into(),
            |pairs| pairs[1].1 = "20260115 101500Z".into(),
            |pairs| pairs[2].1 = pairs[2].1.replace("eu-central-1", "us-east-1"),
            |pairs| pairs[2].1 = pairs[2].1.replace("kms-xks-proxy", "kms"),
            |pairs| pairs[2].1 = pairs[2].1.replace("host;x-amz-date", "host"),
            |pairs| pairs[2].1 = pairs[2].1.replace("host;x-amz-date", "x-amz-date;host"),
            |pairs| pairs[2].1 = pairs[2].1.replace("Credential=", "Credential=a"),
            |pairs| pairs[2].1 = pairs[2].1.replace("Signature=", "Signature=x, Signature="),
        ];
        for (place, change) in changes.into_iter().enumerate() {
            assert!(signed(change).is_none(), "{place}");
        }
    }

    proptest! {
        #[test]
        fn an_access_key_id_leads_back(id: [u8; 16]) {
            let text = access_key_id(TokenId::from_bytes(id));
            prop_assert!(text.len() == 26 && text.bytes().all(|b| BASE32.contains(&b)));
            prop_assert_eq!(parse_access_key_id(&text), Some(TokenId::from_bytes(id)));
        }

        #[test]
        fn any_header_is_taken_apart_or_refused(value: String) {
            let value = format!("AWS4-HMAC-SHA256 {value}");
            let pairs = [("authorization", &*value), ("host", "h"), ("x-amz-date", "20260115T101500Z")];
            let headers = headers(&pairs);
            let request = Request { method: "POST", path: "/", headers: &*headers, body: b"" };
            let _either = take_apart(&request, "kms-xks-proxy", &|_| true);
        }
    }
}
