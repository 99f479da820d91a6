//! What policies and the log see of a request: what both tokens say, and what the request says of itself.

use crate::google_cse::Service;
use holdfast_core::context::Context;
use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_identity::issued::Claims;
use holdfast_wire::cse::claim::{Authentication, Authorization, base64_text};
use holdfast_wire::cse::message::Asks;
use holdfast_wire::cse::path::Method;
use serde_json::Value;

/// The most bytes of a claim that policies are shown by configuration.
const MAX_CLAIM: usize = 512;

/// Who speaks for what, so far as it is known.
pub(super) struct Said<'a> {
    pub(super) method: Method,
    pub(super) reason: &'a str,
    pub(super) user: Option<(&'a Claims, &'a Authentication)>,
    /// The other key service that asks.
    pub(super) peer: Option<&'a str>,
    pub(super) authorization: Option<&'a Authorization>,
    pub(super) asks: Option<&'a Asks>,
}

impl Said<'_> {
    /// Names and values, none of which is empty.
    ///
    /// # Errors
    /// `too-large` for more than policies can be shown: what is left out could be what one of them forbids.
    pub(super) fn context(&self, service: &Service) -> Result<Context, Error> {
        let Self { method, reason, user, peer, authorization, asks } = self;
        let mut pairs: Vec<(Box<str>, Box<str>)> = vec![];
        let mut put = |name: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                pairs.push((name.into(), value.into()));
            }
        };
        put("method", Some(method.name()));
        put("reason", Some(reason));
        put("peer", *peer);
        if let Some((claims, user)) = user {
            // Of a delegated token policies see what they saw of the user's.
            let original = user.original_issuer.as_deref();
            put("authentication_issuer", original.or_else(|| Some(claims.issuer())));
            put("authentication_email", user.email.as_deref());
            put("google_email", user.google_email.as_deref());
            for name in &service.claims {
                let claim = match original {
                    Some(_) => claims.get("original_claims").and_then(|all| all.get(name)),
                    None => claims.get(name),
                };
                let text = claim.map(|claim| text(name, claim)).transpose()?.flatten();
                if text.as_ref().is_some_and(|text| text.len() > MAX_CLAIM) {
                    return Err(too_much(name));
                }
                put(&format!("claim.{name}"), text.as_deref());
            }
        }
        if let Some(said) = authorization {
            put("application", Some(said.application.name()));
            put("email", Some(&said.email));
            put("email_type", Some(said.email_type.map_or("unknown", |kind| kind.name())));
            put("role", Some(&said.role));
            put("delegated_to", said.delegated_to.as_deref());
            put("message_id", said.message_id.as_deref());
            put("owner_domain", said.owner_domain.as_deref());
        }
        let (resource, perimeter, hash) = about(*authorization, *asks);
        put("resource_name", resource);
        put("perimeter_id", perimeter);
        put("spki_hash", hash.map(|hash| base64_text(hash)).as_deref());
        let (algorithm, digest) = how(*asks);
        put("algorithm", algorithm);
        put("digest", digest.map(base64_text).as_deref());
        if let Some(Asks::Rewrap { original, .. }) = asks {
            put("original_kacls_url", Some(original));
        }
        Context::new(pairs)
    }
}

impl Said<'_> {
    /// The perimeter; empty where there is none.
    pub(super) fn perimeter(&self) -> &str {
        about(self.authorization, self.asks).1.unwrap_or_default()
    }
}

/// The object, its perimeter and the private key that it is about: what was wrapped says its perimeter itself.
fn about<'a>(
    authorization: Option<&'a Authorization>,
    asks: Option<&'a Asks>,
) -> (Option<&'a str>, Option<&'a str>, Option<&'a [u8; 32]>) {
    let named = authorization.map(|said| &*said.resource);
    match asks {
        Some(Asks::PrivilegedWrap { resource, perimeter, key: _ }) => (Some(resource), Some(perimeter), None),
        Some(Asks::PrivilegedUnwrap { resource, blob }) => (Some(resource), Some(&blob.perimeter), None),
        Some(Asks::Unwrap(blob) | Asks::Digest(blob)) => (named, Some(&blob.perimeter), None),
        Some(Asks::Sign { key: (blob, hash), .. } | Asks::Decrypt { key: (blob, hash), .. }) => {
            (named, Some(&blob.perimeter), Some(hash))
        }
        Some(Asks::WrapPrivateKey { perimeter, hash, key: _ }) => (None, Some(perimeter), Some(hash)),
        Some(Asks::Wrap(_) | Asks::Delegate | Asks::Rewrap { .. }) | None => {
            (named, authorization.map(|said| &*said.perimeter), None)
        }
    }
}

/// How a user's private key is used; and on which digest, where it signs.
fn how(asks: Option<&Asks>) -> (Option<&str>, Option<&[u8]>) {
    match asks {
        Some(Asks::Sign { algorithm, digest, .. }) => (Some(algorithm), Some(digest)),
        Some(Asks::Decrypt { algorithm, .. }) => (Some(algorithm), None),
        Some(
            Asks::Wrap(_)
            | Asks::Unwrap(_)
            | Asks::Delegate
            | Asks::PrivilegedWrap { .. }
            | Asks::PrivilegedUnwrap { .. }
            | Asks::Rewrap { .. }
            | Asks::Digest(_)
            | Asks::WrapPrivateKey { .. },
        )
        | None => (None, None),
    }
}

/// A claim as text: what it is, or the texts in it with commas between.
///
/// # Errors
/// `malformed` for what has no such form, or two: a policy that forbids by it would not see it.
fn text(name: &str, value: &Value) -> Result<Option<String>, Error> {
    let refused = || {
        let detail = format!("the claim `{name}` is neither text, number nor a list of texts without commas");
        Error::new(ErrorKind::Malformed, Stage::Decode, detail)
    };
    match value {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(values) => {
            let plain = |value: &Value| value.as_str().filter(|text| !text.contains(',')).map(str::to_owned);
            let texts: Option<Vec<String>> = values.iter().map(plain).collect();
            Ok(Some(texts.ok_or_else(refused)?.join(",")))
        }
        Value::Null => Ok(None),
        Value::Object(_) => Err(refused()),
    }
}

fn too_much(name: &str) -> Error {
    let detail = format!("the claim `{name}` is longer than policies can be shown");
    Error::new(ErrorKind::TooLarge, Stage::Decode, detail)
}
