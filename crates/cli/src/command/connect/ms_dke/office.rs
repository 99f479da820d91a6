//! Office as a client of the key service: what it asks, and what its answers mean to who sets the service up.

use super::Service;
use crate::exit::Exit;
use crate::failure::Failure;
use aws_lc_rs::rsa::{OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_sdk::{Client, Reply};
use holdfast_wire::dke::message::ALGORITHM;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// As the reference server says it.
const JSON: &str = "application/json; charset=utf-8";

/// Office, with the way to a service.
pub(super) struct Office<'a> {
    pub(super) client: &'a Client,
    pub(super) service: &'a Service,
}

/// What the document of a key says.
pub(super) struct Document {
    /// The modulus, in base64 as it stands there.
    pub(super) n: String,
    pub(super) e: u64,
    pub(super) kid: String,
    /// Until when a client may keep it.
    pub(super) until: Option<String>,
}

impl Document {
    /// Reads a document; `None` if it is not byte for byte what clients expect.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let document = Self {
            n: text("/key/n")?,
            e: value.pointer("/key/e")?.as_u64()?,
            kid: text("/key/kid")?,
            until: text("/cache/exp"),
        };
        let modulus = STANDARD.decode(&document.n).ok()?;
        let is_number = modulus.first().is_some_and(|first| *first != 0);
        (is_number && document.text().as_bytes() == body).then_some(document)
    }

    fn text(&self) -> String {
        let Self { n, e, kid, until } = self;
        let cache = until.as_ref().map(|exp| format!(r#","cache":{{"exp":"{exp}"}}"#)).unwrap_or_default();
        format!(r#"{{"key":{{"kty":"RSA","n":"{n}","e":{e},"alg":"RS256","kid":"{kid}"}}{cache}}}"#)
    }

    /// How many bits the key has.
    pub(super) fn bits(&self) -> usize {
        STANDARD.decode(&self.n).map_or(0, |modulus| modulus.len().saturating_mul(8))
    }
}

impl Office<'_> {
    pub(super) async fn document(&self) -> Result<Reply, Failure> {
        Ok(self.client.ask(http::Method::GET, &self.service.path(""), &[], vec![]).await?)
    }

    /// As Microsoft's tester: no token, no body.
    pub(super) async fn challenged(&self, id: &str) -> Result<Reply, Failure> {
        Ok(self.client.post(&self.service.path(&format!("/{id}/decrypt")), &[], vec![]).await?)
    }

    pub(super) async fn decrypt(&self, id: &str, ciphertext: &[u8], token: &str) -> Result<Reply, Failure> {
        let body = json!({ "alg": ALGORITHM, "value": STANDARD.encode(ciphertext) }).to_string();
        let authorization = zeroize::Zeroizing::new(format!("Bearer {token}"));
        let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
        let path = self.service.path(&format!("/{id}/decrypt"));
        Ok(self.client.post(&path, &headers, body.into_bytes()).await?)
    }
}

/// Encrypts for a public half, DER SubjectPublicKeyInfo.
pub(super) fn seal(
    public: &[u8],
    algorithm: &'static OaepAlgorithm,
    plain: &[u8],
) -> Result<Vec<u8>, Failure> {
    let sealed = || {
        let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(public).ok()?).ok()?;
        let mut sealed = vec![0; key.ciphertext_size()];
        let length = key.encrypt(algorithm, plain, &mut sealed, None).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    };
    sealed().ok_or_else(|| {
        Failure::new(Exit::Failure, "nothing can be encrypted for the key's public half")
            .remedy("report it: it is no RSA key as others read them")
    })
}

/// The parts of a challenge, taken apart at every comma as the tester does.
pub(super) fn challenge(reply: &Reply) -> Option<BTreeMap<&str, &str>> {
    let (scheme, parts) = reply.header("www-authenticate")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| parts.split(',').map(part).collect())?
}

fn part(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim(), value.trim().strip_prefix('"')?.strip_suffix('"')?))
}

/// Whether the protocol answers, and nobody else.
pub(super) fn is_protocols(reply: &Reply) -> bool {
    reply.header("content-type") == Some(JSON)
}

/// What an answer that was not wanted means, with what to do.
pub(super) fn refusal(service: &Service, reply: &Reply, doing: &str) -> Failure {
    let Service { url, key, caller, .. } = service;
    let status = reply.status;
    if !is_protocols(reply) {
        let problem = format!("whoever answers `{}` (status {status}) is no key service", service.label());
        return Failure::new(Exit::State, problem).remedy(
            "add the `[[ms_dke]]` that is shown to the gateway's configuration and restart it; if it is there, look whether `--endpoint` leads to this gateway",
        );
    }
    let (exit, remedy) = match status {
        400 => (Exit::Integrity, "report it: what was encrypted a moment ago is not taken".to_owned()),
        401 => (
            Exit::Unauthenticated,
            format!(
                "which of these it is is told nobody: the service's `issuers`, `audiences` and `scope` must be the token's, the issuer's keys be read (`holdfast status`), and `{caller}` registered for the issuer; the gateway's log says it with `filter = \"debug\"` under `[log]`"
            ),
        ),
        403 => (
            Exit::Denied,
            format!(
                "let the policy permit it to `{caller}`, or end a stop of key, caller or tenant: `holdfast audit search --key {key} --outcome refused` says what decided, and `--set-policy` adds what `--user` lacks"
            ),
        ),
        404 => (
            Exit::State,
            format!("add `{key}` to the `keys` of the `[[ms_dke]]` `{url}` and restart the gateway; it must be an RSA key to encrypt, made with `--protocol ms-dke`"),
        ),
        413 => (
            Exit::Usage,
            "have its directory put fewer `groups` into the token: those alone that are assigned to the application".to_owned(),
        ),
        429 => (
            Exit::Unavailable,
            "try again, or have an operator raise `requests_per_second` of the service".to_owned(),
        ),
        503 => (
            Exit::Unavailable,
            "have an operator look: `holdfast status`, and `holdfast pool status` for the devices".to_owned(),
        ),
        _ => (Exit::Failure, "look at the gateway's log".to_owned()),
    };
    Failure::new(exit, format!("{doing}: {status}")).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../../../../fixtures/ms-dke/document.json");

    #[test]
    fn a_document_is_read_to_the_byte() {
        let document = Document::read(DOCUMENT.trim_end().as_bytes()).unwrap();
        assert_eq!((document.bits(), document.until.as_deref()), (2048, Some("2026-01-16T10:15:00")));
        for (from, to) in [
            ("65537", "\"AQAB\""),
            ("RS256", "RSA-OAEP-256"),
            (",\"cache\"", ", \"cache\""),
            ("\"cache\":{\"exp\":\"2026-01-16T10:15:00\"}", "\"cache\":null"),
            ("lYpBSo/", "lYpBSo_"),
            ("\"kty\":\"RSA\",", ""),
        ] {
            let changed = DOCUMENT.trim_end().replace(from, to);
            assert_ne!(changed, DOCUMENT.trim_end(), "{from}");
            assert!(Document::read(changed.as_bytes()).is_none(), "{to}");
        }
    }
}
