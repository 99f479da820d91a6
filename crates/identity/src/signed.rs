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
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

const DOMAIN: &[u8] = b"holdfast/signing-secret/v1\0";
/// Base64 of 32 bytes.
const SECRET_LEN: usize = 44;

/// What the secrets of signing tokens are derived from.
pub(crate) struct SigningSecrets(hmac::Key);

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecrets")
    }
}

impl SigningSecrets {
    pub(crate) fn of(seed: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, seed.expose()))
    }

    /// A token's secret: base64 of HMAC-SHA-256 of its id, used as that text.
    pub(crate) fn secret(&self, id: TokenId) -> Secret {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(DOMAIN);
        context.update(id.as_bytes());
        let tag = Secret::new(context.sign().as_ref().to_vec());
        let mut text = Secret::new(vec![0; SECRET_LEN]);
        // 32 bytes are 44 characters.
        let written = STANDARD.encode_slice(tag.expose(), text.expose_mut());
        text.expose_mut().truncate(written.unwrap_or_default());
        text
    }
}

/// Recognises who signed a request. An unknown id costs the same work as a wrong secret. Whether it is recent enough is core's to say.
pub(crate) fn identify(
    prepared: &Prepared,
    request: &SignedRequest,
    now: Timestamp,
) -> Result<Identified, Reason> {
    let SignedRequest { token: id, scope, signed_at: _, signed, signature } = request;
    let secret = prepared.signing.secret(*id);
    let is_signed = signature.ct_eq(&SignedRequest::sign(&secret, scope, signed));
    let found = prepared.by_token.get(id);
    let token = found.and_then(|(record, index)| record.tokens.get(*index));
    let expected = token.map_or([0; 32], |token| token.hash);
    // Another gateway's, or one from before a restoration.
    let is_of_this = digest(&SHA256, secret.expose()).as_ref().ct_eq(&expected);
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
            let made = SignedRequest::sign(&Secret::new(secret.into()), &scope, signed.as_bytes());
            let hex: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, signature);
        }
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
