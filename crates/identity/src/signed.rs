//! Signed requests (AWS Signature Version 4): a public id to look up, a secret that both sides can compute with.
//!
//! The secret is kept nowhere. It is derived from its id, and what the state keeps is the SHA-256 that it must have.

use crate::reason::Reason;
use crate::registry::Prepared;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use holdfast_core::caller::{Authentication, TokenForm};
use holdfast_core::peer::SignedRequest;
use holdfast_core::port::Identified;
use holdfast_core::{Secret, Timestamp, TokenId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq as _;

const DOMAIN: &[u8] = b"holdfast/signing-secret/v1\0";
/// Base64 of 32 bytes.
const SECRET_LEN: usize = 44;
/// Scopes are remembered for this many tokens.
const MOST_NARROWED: usize = 1024;

/// What the secrets of signing tokens are derived from, and what was derived last.
pub(crate) struct SigningSecrets {
    seed: hmac::Key,
    narrowed: Mutex<HashMap<TokenId, Arc<Narrowed>>>,
}

/// A token's secret, narrowed to a scope.
struct Narrowed {
    scope: [Box<str>; 4],
    key: hmac::Key,
    /// SHA-256 of the secret.
    hash: [u8; 32],
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecrets")
    }
}

impl SigningSecrets {
    pub(crate) fn of(seed: &Secret) -> Self {
        Self { seed: hmac::Key::new(hmac::HMAC_SHA256, seed.expose()), narrowed: Mutex::default() }
    }

    /// A token's secret: base64 of HMAC-SHA-256 of its id, used as that text.
    pub(crate) fn secret(&self, id: TokenId) -> Secret {
        let mut context = hmac::Context::with_key(&self.seed);
        context.update(DOMAIN);
        context.update(id.as_bytes());
        let tag = Secret::new(context.sign().as_ref().to_vec());
        let mut text = Secret::new(vec![0; SECRET_LEN]);
        // 32 bytes are 44 characters.
        let written = STANDARD.encode_slice(tag.expose(), text.expose_mut());
        text.expose_mut().truncate(written.unwrap_or_default());
        text
    }

    /// A token's secret in a scope. That of a registered token is kept for the requests of the same day and region, which are nearly all.
    fn narrowed(&self, id: TokenId, scope: &[Box<str>; 4], is_registered: bool) -> Arc<Narrowed> {
        let narrowed = || self.narrowed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = narrowed().get(&id).filter(|found| found.scope == *scope).map(Arc::clone);
        found.unwrap_or_else(|| {
            let secret = self.secret(id);
            let mut hash = [0; 32];
            hash.copy_from_slice(digest(&SHA256, secret.expose()).as_ref());
            let made = Narrowed { scope: scope.clone(), key: SignedRequest::narrow(&secret, scope), hash };
            let made = Arc::new(made);
            if is_registered {
                let mut narrowed = narrowed();
                // Those of tokens that are no more go with the rest.
                if narrowed.len() >= MOST_NARROWED {
                    narrowed.clear();
                }
                narrowed.insert(id, Arc::clone(&made));
            }
            made
        })
    }
}

/// Recognises who signed a request. An unknown id costs the work of a wrong secret's first time. Whether it is recent enough is core's to say.
pub(crate) fn identify(
    prepared: &Prepared,
    request: &SignedRequest,
    now: Timestamp,
) -> Result<Identified, Reason> {
    let SignedRequest { token: id, scope, signed_at: _, signed, signature } = request;
    let found = prepared.by_token.get(id);
    let narrowed = prepared.signing.narrowed(*id, scope, found.is_some());
    let is_signed = signature.ct_eq(&SignedRequest::sign(&narrowed.key, signed));
    let token = found.and_then(|(record, index)| record.tokens.get(*index));
    let expected = token.map_or([0; 32], |token| token.hash);
    // Another gateway's, or one from before a restoration.
    let is_of_this = narrowed.hash.ct_eq(&expected);
    let is_right = bool::from(is_signed & is_of_this);
    match (found, token) {
        (Some(_), Some(token)) if is_right && token.form != TokenForm::Signing => Err(Reason::Unknown),
        (Some(_), Some(token)) if is_right && token.expires <= now => Err(Reason::Expired),
        (Some((record, _)), Some(token)) if is_right => Ok(Identified {
            record: Arc::clone(record),
            authentication: Authentication::Signature(*id),
            valid_until: token.expires,
        }),
        (_, _) => Err(Reason::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests A and C of the digest of the XKS proxy specification, and the one of curl 7.88.1.
    #[test]
    fn the_published_signatures() {
        for (secret, date, region, at, canonical, signature) in [
            (
                "qAXEftnOBJjPe7hORf2LWdv0HIV/2/+7Kmvg0rfuGas=",
                "20260115",
                "eu-central-1",
                "20260115T101500Z",
                "0355ba2f3e4e448c46099fc2a3cdff0f459f1d1741ef65a8012a62cd8df60ff9",
                "980acfb53f4041da6dfa620dceab5e4226172e0034bb3aa1cefd637f411100cb",
            ),
            (
                "qAXEftnOBJjPe7hORf2LWdv0HIV/2/+7Kmvg0rfuGas=",
                "20260115",
                "eu-central-1",
                "20260115T101500Z",
                "59f6e836a69f44b971be47caf3810877277b413afb7ebf6f1e4a215bd8685c32",
                "ee484ae9c45947479aa2171fda086fbe942631c031d55576fb721618b21e1d3e",
            ),
        ] {
            let scope = [date, region, "kms-xks-proxy", "aws4_request"].map(Box::from);
            let signed = format!("AWS4-HMAC-SHA256\n{at}\n{}\n{canonical}", scope.join("/"));
            let key = SignedRequest::narrow(&Secret::new(secret.into()), &scope);
            let made = SignedRequest::sign(&key, signed.as_bytes());
            let hex: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, signature);
        }
    }

    #[test]
    fn what_is_kept_of_a_token_is_that_of_its_scope_and_of_registered_ones_alone() {
        let secrets = SigningSecrets::of(&Secret::new(vec![7; 32]));
        let scope = |date: &str| [date, "eu-central-1", "kms-xks-proxy", "aws4_request"].map(Box::from);
        let id = |id| TokenId::from_bytes([id; 16]);
        for (token, date) in
            [(1, "20260115"), (1, "20260115"), (1, "20260116"), (2, "20260116"), (1, "20260115")]
        {
            let kept = secrets.narrowed(id(token), &scope(date), true);
            let made = SignedRequest::narrow(&secrets.secret(id(token)), &scope(date));
            assert_eq!(SignedRequest::sign(&kept.key, b"x"), SignedRequest::sign(&made, b"x"));
            assert_eq!(kept.hash, digest(&SHA256, secrets.secret(id(token)).expose()).as_ref());
        }
        let one = secrets.narrowed(id(1), &scope("20260115"), true);
        assert!(Arc::ptr_eq(&one, &secrets.narrowed(id(1), &scope("20260115"), true)));
        secrets.narrowed(id(3), &scope("20260115"), false);
        assert_eq!(secrets.narrowed.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_secret_is_as_the_provider_wants_it_and_each_id_has_its_own() {
        let secrets = SigningSecrets::of(&Secret::new(vec![7; 32]));
        let [one, other] = [1, 2].map(|id| secrets.secret(TokenId::from_bytes([id; 16])));
        assert_eq!((one.len(), one == other), (44, false));
        assert!(one.expose().iter().all(|b| b.is_ascii_alphanumeric() || b"/+=".contains(b)));
        assert!(SigningSecrets::of(&Secret::new(vec![8; 32])).secret(TokenId::from_bytes([1; 16])) != one);
    }
}
