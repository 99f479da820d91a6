//! Tokens of issuers (JSON Web Tokens, RFC 7519): signed by whom the operator has configured, and by nobody whom a token names.
//!
//! Two uses. [`verify`] alone, for protocols that bring tokens in their bodies; and, with what it gives, [`Proof::Issued`], by which a
//! registered caller is recognised. Nothing here fetches anything: an issuer's keys are an argument, and `jku`, `jwk`, `x5u` and `x5c` in a
//! token's header mean nothing.
//!
//! [`Proof::Issued`]: holdfast_core::peer::Proof::Issued

mod json;
mod key;
#[cfg(test)]
mod tests;

pub use key::{Algorithm, KeySet, NoKeySet};

use crate::reason::Reason;
use crate::registry::Prepared;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::fmt;
use holdfast_core::Timestamp;
use holdfast_core::caller::{Authentication, Credential};
use holdfast_core::peer::IssuedToken;
use holdfast_core::port::Identified;
use json::{Members, member};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The most bytes of a token.
pub const MAX_TOKEN: usize = 16 << 10;
/// By how many seconds an issuer's clock may differ from ours.
pub const SKEW_SECONDS: u64 = 60;

/// An issuer whose tokens are believed.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What its tokens say in `iss`, byte by byte.
    pub name: Box<str>,
    /// Whom a token must be for, unless a protocol expects an audience of its own; empty: nobody.
    pub audiences: Arc<[String]>,
    /// How it signs.
    pub algorithms: Vec<Algorithm>,
    /// What it signs with; `None` while that is not known.
    pub keys: Option<Arc<KeySet>>,
    /// Until when they are believed, on the clock that never steps back, in microseconds; `None`: for as long as they are here.
    pub believed_until: Option<u64>,
}

/// Every issuer whose tokens are believed, with its keys as they are known now: immutable, swapped whole.
#[derive(Debug, Default)]
pub struct Issuers(HashMap<Box<str>, Issuer>);

impl Issuers {
    /// Of these; a name that stands there twice is the last one's.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Self {
        Self(issuers.into_iter().map(|issuer| (issuer.name.clone(), issuer)).collect())
    }
}

/// What a token must be to be taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// Whom it must be for: one of these; `None`: what its issuer's configuration says.
    pub audiences: Option<&'a [String]>,
    /// Whose it must be: one of these; `None`: any issuer's whose tokens are believed.
    pub issuers: Option<&'a [String]>,
}

/// When a token is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// The same on the clock that never steps back, in microseconds.
    pub ticks: u64,
}

/// What a token says, after everything about it was found to be right.
#[derive(Clone, PartialEq)]
pub struct Claims {
    token: IssuedToken,
    members: Members,
}

impl Claims {
    /// Who issued it.
    pub fn issuer(&self) -> &str {
        self.token.issuer()
    }

    /// Whom it is about (`sub`), if it says so.
    pub fn subject(&self) -> Option<&str> {
        self.token.subject()
    }

    /// What [`Proof::Issued`](holdfast_core::peer::Proof::Issued) takes.
    pub fn token(&self) -> &IssuedToken {
        &self.token
    }

    /// A claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        member(&self.members, name)
    }

    /// A claim that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// All claims, in the order in which they stand in the token.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.members.iter().map(|(name, value)| (&**name, value))
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({} of `{}`)", self.members.len(), self.token.issuer())
    }
}

/// A token, a JWS in compact form, taken apart once. Nothing of it has been examined.
pub struct Token<'a> {
    header: Members,
    payload: Members,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `malformed` for what is none.
    pub fn parse(token: &'a str) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::Malformed)?;
        // One dot is left: what has more, an encrypted token for one, is no base64url.
        let (header, payload) = signed.split_once('.').ok_or(Reason::Malformed)?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed);
        let object = |part: &str| json::members(&bytes(part)?).ok_or(Reason::Malformed);
        let (header, payload, signature) = (object(header)?, object(payload)?, bytes(signature)?);
        Ok(Self { header, payload, signed: signed.as_bytes(), signature })
    }

    /// The issuer that it names: to know whose keys to look for.
    pub fn issuer(&self) -> Option<&str> {
        member(&self.payload, "iss").and_then(Value::as_str)
    }

    /// Examines it.
    ///
    /// # Errors
    /// With the reason, which is for the log alone, and the token, for whoever has other keys to try.
    pub fn verify(
        self,
        issuers: &Issuers,
        expected: &Expected<'_>,
        at: Moment,
    ) -> Result<Claims, (Self, Reason)> {
        match examine(&self, issuers, expected, at) {
            Ok(token) => Ok(Claims { token, members: self.payload }),
            Err(reason) => Err((self, reason)),
        }
    }
}

/// Examines a token, a JWS in compact form.
///
/// # Errors
/// With the reason, which is for the log alone.
pub fn verify(token: &str, issuers: &Issuers, expected: &Expected<'_>, at: Moment) -> Result<Claims, Reason> {
    Token::parse(token)?.verify(issuers, expected, at).map_err(|(_, reason)| reason)
}

fn examine(
    Token { header, payload, signed, signature }: &Token<'_>,
    Issuers(issuers): &Issuers,
    expected: &Expected<'_>,
    at: Moment,
) -> Result<IssuedToken, Reason> {
    let Some(Value::String(name)) = member(payload, "iss") else { return Err(Reason::Malformed) };
    let issuer = issuers.get(name.as_str()).filter(|_| expected.issuers.is_none_or(|of| of.contains(name)));
    let issuer = issuer.ok_or(Reason::OtherIssuer)?;
    // What is critical to whoever signed it is not known here (RFC 7515 §4.1.11).
    if member(header, "crit").is_some() {
        return Err(Reason::Malformed);
    }
    let algorithm = match member(header, "alg") {
        Some(Value::String(name)) => Algorithm::from_name(name),
        Some(_) | None => return Err(Reason::Malformed),
    };
    let algorithm = algorithm.filter(|algorithm| issuer.algorithms.contains(algorithm));
    let algorithm = algorithm.ok_or(Reason::OtherAlgorithm)?;
    let key = match member(header, "kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err(Reason::Malformed),
    };
    let believed = issuer.believed_until.is_none_or(|until| at.ticks < until);
    let keys = issuer.keys.as_ref().filter(|_| believed).ok_or(Reason::NoKeys)?;
    keys.verify((key, algorithm), signed, signature)?;

    let audiences = expected.audiences.unwrap_or(&issuer.audiences);
    let is_for = |audience: &Value| {
        audience.as_str().is_some_and(|audience| audiences.iter().any(|ours| ours == audience))
    };
    match member(payload, "aud") {
        Some(audience @ Value::String(_)) if is_for(audience) => {}
        Some(Value::Array(several)) if several.iter().any(is_for) => {}
        Some(_) | None => return Err(Reason::OtherAudience),
    }
    let subject = match member(payload, "sub") {
        None => None,
        Some(Value::String(subject)) if (1..=Credential::MAX_SUBJECT).contains(&subject.len()) => {
            Some(Box::from(subject.as_str()))
        }
        Some(_) => return Err(Reason::Malformed),
    };
    let token = IssuedToken::examined(name.as_str().into(), subject, validity(payload)?);
    is_valid(&token, at.now)?;
    Ok(token)
}

/// From when until when, the tolerance included. It must say when it ends.
fn validity(payload: &Members) -> Result<(Timestamp, Timestamp), Reason> {
    let time = |name: &str| member(payload, name).map(numeric_date).transpose();
    let end = time("exp")?.ok_or(Reason::Malformed)?;
    let start = time("nbf")?.max(time("iat")?).unwrap_or_default();
    let at = |seconds: u64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    Ok((at(start.saturating_sub(SKEW_SECONDS)), at(end.saturating_add(SKEW_SECONDS))))
}

/// Whole seconds since 1970: a number, or its digits as text, as some issuers write it.
fn numeric_date(value: &Value) -> Result<u64, Reason> {
    let seconds = match value {
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Some(seconds),
            // A fraction is cut off, and what is too large for a date is the last one.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            (None, Some(seconds)) if seconds >= 0.0 => Some(seconds as u64),
            (None, _) => None,
        },
        Value::String(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok()
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    seconds.ok_or(Reason::Malformed)
}

fn is_valid(token: &IssuedToken, now: Timestamp) -> Result<(), Reason> {
    match (now < token.valid_from(), now < token.valid_until()) {
        (true, _) => Err(Reason::NotYetValid),
        (false, false) => Err(Reason::Expired),
        (false, true) => Ok(()),
    }
}

/// Recognises whom a token is about: a caller that is registered for exactly this subject, or else the one for anybody of the issuer.
pub(crate) fn identify(
    prepared: &Prepared,
    token: &IssuedToken,
    now: Timestamp,
) -> Result<Identified, Reason> {
    is_valid(token, now)?;
    let issuer = || Box::from(token.issuer());
    let subject = || token.subject().map(Box::from);
    let of = |subject| prepared.by_credential.get(&Credential::Issued { issuer: issuer(), subject });
    let record = subject().and_then(|subject| of(Some(subject))).or_else(|| of(None));
    Ok(Identified {
        record: Arc::clone(record.ok_or(Reason::Unknown)?),
        authentication: Authentication::Issued { issuer: issuer(), subject: subject() },
        valid_until: token.valid_until(),
    })
}
