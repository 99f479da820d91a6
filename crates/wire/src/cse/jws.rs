//! What a service publishes and signs itself: its key set (RFC 7517) and its tokens (RFC 7515, RS256).

use super::der::{BITS, INTEGER, RSA, SEQUENCE, element};
use super::{DELEGATION_AUDIENCE, DELEGATION_SECONDS, MIGRATION_AUDIENCE, MIGRATION_SECONDS};
use crate::native::encode::Response;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

/// A public RSA key, as it stands in a key set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicKey {
    kty: &'static str,
    n: String,
    e: String,
    kid: String,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
}

impl PublicKey {
    /// From DER SubjectPublicKeyInfo; `None` for what is no RSA key. Its `kid` is its thumbprint (RFC 7638).
    pub fn of(spki: &[u8]) -> Option<Self> {
        let (body, rest) = element(SEQUENCE, spki)?;
        let bits = body.strip_prefix(RSA)?;
        let (bits, after) = element(BITS, bits)?;
        let (key, behind) = element(SEQUENCE, bits.strip_prefix(&[0])?)?;
        let (n, tail) = element(INTEGER, key)?;
        let (e, end) = element(INTEGER, tail)?;
        if !(rest.is_empty() && after.is_empty() && behind.is_empty() && end.is_empty()) {
            return None;
        }
        let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number.strip_prefix(&[0]).unwrap_or(number));
        let (n, e) = (text(n), text(e));
        let thumbprint = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes()));
        Some(Self { kty: "RSA", n, e, kid, purpose: "sig", alg: "RS256" })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.kid
    }
}

#[derive(Serialize)]
struct Set<'a> {
    keys: &'a [PublicKey],
}

/// The answer to `certs`.
pub fn key_set(keys: &[PublicKey]) -> Response {
    Response::json(200, &Set { keys })
}

/// The same as text, as issuers' key sets are read.
pub fn key_set_text(keys: &[PublicKey]) -> Vec<u8> {
    serde_json::to_vec(&Set { keys }).unwrap_or_default()
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Delegated<'a> {
    iss: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    google_email: Option<&'a str>,
    delegated_to: &'a str,
    resource_name: &'a str,
    original_issuer: &'a str,
    original_claims: &'a Map<String, Value>,
    iat: u64,
    exp: u64,
}

#[derive(Serialize)]
struct Asked<'a> {
    iss: &'a str,
    aud: &'a str,
    kacls_url: &'a str,
    resource_name: &'a str,
    iat: u64,
    exp: u64,
}

/// What a delegated token says.
#[derive(Debug, Clone, Copy)]
pub struct Delegation<'a> {
    /// The user's address with the provider.
    pub email: Option<&'a str>,
    /// The user's address with Google.
    pub google_email: Option<&'a str>,
    /// Who may act for the user.
    pub delegated_to: &'a str,
    /// With which object.
    pub resource: &'a str,
    /// The identity provider that has said who the user is.
    pub issuer: &'a str,
    /// What it has said besides, so far as policies are shown it.
    pub claims: &'a Map<String, Value>,
}

/// What is signed of a delegated token of this service, issued at this second.
pub fn delegated(key: &str, service: &str, says: Delegation<'_>, now: u64) -> Option<String> {
    let Delegation { email, google_email, delegated_to, resource, issuer, claims } = says;
    let says = Delegated {
        iss: service,
        aud: DELEGATION_AUDIENCE,
        email,
        google_email,
        delegated_to,
        resource_name: resource,
        original_issuer: issuer,
        original_claims: claims,
        iat: now,
        exp: now.saturating_add(DELEGATION_SECONDS),
    };
    signing_input(key, &says)
}

/// What is signed of a token by which this service asks another for an object's key.
pub fn asking(key: &str, service: &str, (peer, resource): (&str, &str), now: u64) -> Option<String> {
    let claims = Asked {
        iss: service,
        aud: MIGRATION_AUDIENCE,
        kacls_url: peer,
        resource_name: resource,
        iat: now,
        exp: now.saturating_add(MIGRATION_SECONDS),
    };
    signing_input(key, &claims)
}

fn signing_input(key: &str, claims: &impl Serialize) -> Option<String> {
    let header = serde_json::to_vec(&Header { alg: "RS256", kid: key, typ: "JWT" }).ok()?;
    let mut input = URL_SAFE_NO_PAD.encode(header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).ok()?, &mut input);
    Some(input)
}

/// The token, once it is signed.
pub fn signed(mut input: String, signature: &[u8]) -> String {
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut input);
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    fn claims(token: &str) -> Value {
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    /// The key of the digest's sections 10 and 11: its SubjectPublicKeyInfo has the hash that stands there.
    #[test]
    fn the_published_key_becomes_the_published_key_set() {
        const N: &str = "lYpBSo_ZzsZbSjFJhn52BjSEn9r0dqRrOrV7fHbGvKkBWxGTJkJpNWyMFV1M5MUrHASERQTJXb45PNX7FnCK9L4kCSeNG9e07oNv5SHGfnw0qe_VYSUQpsxVY2xKrDrDVRWs3k7hO14eP0rbbgZId99oofECV9PpwUbh2k7g2AE56onDcapuRASqQeVrtWJIZ43uaR4Wqzw3KF8cKyA4ppAw6n40IAQSFF-UspN36YlRVOnpxt3uTDZ0dW2o5bD1eik25ZqOWun8tMN5zx-o6xd3yDSsmnrdRHV0FNv_GvvFegocQ0-YbCwfie3SSDyH40xtf23KAZrFdpmCIcitbw";
        let n = [&[0][..], &URL_SAFE_NO_PAD.decode(N).unwrap()].concat();
        let mut numbers = vec![];
        super::super::der::write(INTEGER, &[&n], &mut numbers).unwrap();
        super::super::der::write(INTEGER, &[&[1, 0, 1]], &mut numbers).unwrap();
        let mut key = vec![0];
        super::super::der::write(SEQUENCE, &[&numbers], &mut key).unwrap();
        let mut bits = vec![];
        super::super::der::write(BITS, &[&key], &mut bits).unwrap();
        let mut spki = vec![];
        super::super::der::write(SEQUENCE, &[RSA, &bits], &mut spki).unwrap();
        assert_eq!(spki.len(), 294);
        assert_eq!(STANDARD.encode(digest(&SHA256, &spki)), "3bj9JRTGYXmBlnkuf78/Xqb+BDYbO5ooABHvMZPebSc=");
        let public = PublicKey::of(&spki).unwrap();
        let set: Value = serde_json::from_slice(&key_set_text(std::slice::from_ref(&public))).unwrap();
        let expected =
            json!({"kty": "RSA", "n": N, "e": "AQAB", "kid": public.id(), "use": "sig", "alg": "RS256"});
        assert_eq!(set, json!({"keys": [expected]}));
        for cut in 0..spki.len() {
            assert_eq!(PublicKey::of(&spki[..cut]), None);
        }
        spki.push(0);
        assert_eq!(PublicKey::of(&spki), None);
    }

    #[test]
    fn tokens_say_what_they_must_and_for_how_long() {
        let shown = json!({"groups": ["a"]});
        let says = Delegation {
            email: Some("ana@idp.example"),
            google_email: None,
            delegated_to: "room7@corp.example",
            resource: "file",
            issuer: "https://idp.example",
            claims: shown.as_object().unwrap(),
        };
        let token = signed(delegated("k", "https://kacls.example", says, 1000).unwrap(), b"sig");
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(
            claims(&token),
            json!({"iss": "https://kacls.example", "aud": "kacls-delegation", "email": "ana@idp.example",
                "delegated_to": "room7@corp.example", "resource_name": "file",
                "original_issuer": "https://idp.example", "original_claims": {"groups": ["a"]}, "iat": 1000, "exp": 1900})
        );
        let token = asking("k", "https://kacls.example", ("https://old.example", "file"), 1000).unwrap();
        assert_eq!(
            claims(&token),
            json!({"iss": "https://kacls.example", "aud": "kacls-migration", "kacls_url": "https://old.example",
                "resource_name": "file", "iat": 1000, "exp": 1300})
        );
    }
}
