//! Bearer tokens: a public id to look up, a secret to compare.

use crate::reason::Reason;
use crate::registry::Prepared;
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::caller::{Authentication, Token, TokenForm};
use holdfast_core::port::Identified;
use holdfast_core::{Secret, Timestamp, TokenId};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Recognises a token. An unknown id costs the same work as a wrong secret.
pub(crate) fn identify(
    prepared: &Prepared,
    id: TokenId,
    secret: &Secret,
    now: Timestamp,
) -> Result<Identified, Reason> {
    let hash = digest(&SHA256, secret.expose());
    let found = prepared.by_token.get(&id);
    let token: Option<&Token> = found.and_then(|(record, index)| record.tokens.get(*index));
    let expected = token.map_or([0; 32], |token| token.hash);
    // What signs is never shown: whoever shows it has not got it from us.
    let is_right = bool::from(hash.as_ref().ct_eq(&expected))
        && token.is_none_or(|token| token.form == TokenForm::Bearer);
    match (found, token) {
        (Some(_), Some(token)) if is_right && token.expires <= now => Err(Reason::Expired),
        (Some((record, _)), Some(token)) if is_right => Ok(Identified {
            record: Arc::clone(record),
            authentication: Authentication::Bearer(id),
            valid_until: token.expires,
        }),
        (_, _) => Err(Reason::Unknown),
    }
}
