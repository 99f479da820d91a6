//! A token of somebody else's (a JSON Web Token) that a test is to show. It is read and never verified here: that is the gateway's part, which tells
//! nobody what is wrong with one. So what can be seen from outside is looked at first.

use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::path::Path;
use zeroize::Zeroizing;

/// How far apart clocks may be for a token's times, in seconds.
pub(super) const TOLERANCE: u64 = 60;

/// A token, with what it says.
pub(super) struct Token {
    text: Zeroizing<String>,
    /// Where it comes from, to be named.
    option: &'static str,
    claims: Map<String, Value>,
}

impl Token {
    /// Reads a file with a token, or with the header that has it; `option` names it.
    pub(super) fn read(option: &'static str, file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::file("read", file, &error).ending(Exit::Usage))?;
        // Of what is wrong with it nothing is told: it could be the token.
        let refused = || {
            Failure::usage(format!("`{}` holds no token", file.display())).remedy(format!(
                "give `{option}` a file with one JSON Web Token: three parts with dots between"
            ))
        };
        let token = text.split_ascii_whitespace().next_back().ok_or_else(refused)?;
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).map(Zeroizing::new).map_err(|_| refused())?;
        let claims = serde_json::from_slice(&claims).map_err(|_| refused())?;
        Ok(Self { text: Zeroizing::new(token.to_owned()), option, claims })
    }

    pub(super) fn expose(&self) -> &str {
        &self.text
    }

    /// The same with another signature.
    pub(super) fn forged(&self) -> Zeroizing<String> {
        let (signed, signature) = self.text.rsplit_once('.').unwrap_or_default();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        let rest: String = signature.chars().skip(1).collect();
        Zeroizing::new(format!("{signed}.{first}{rest}"))
    }

    /// A claim's text; empty where it is none.
    pub(super) fn text(&self, claim: &str) -> &str {
        self.claims.get(claim).and_then(Value::as_str).unwrap_or_default()
    }

    fn seconds(&self, claim: &str) -> Option<u64> {
        let value = self.claims.get(claim)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// What is wrong with it.
    pub(super) fn wrong(&self, problem: impl AsRef<str>, remedy: impl Into<String>) -> Failure {
        let problem = format!("the token of `{}` {}", self.option, problem.as_ref());
        Failure::new(Exit::Unauthenticated, problem).remedy(remedy)
    }

    /// Whether its times are right by this machine's clock.
    pub(super) fn is_of_now(&self) -> Result<(), Failure> {
        let now = clock::now().seconds();
        let Some(until) = self.seconds("exp") else {
            return Err(self.wrong("says no `exp`", "get another one: without an end none is taken"));
        };
        if until.saturating_add(TOLERANCE) <= now {
            let problem = format!("has expired {} s ago", now.saturating_sub(until));
            return Err(self.wrong(problem, "get another one, and use it at once"));
        }
        let begins = ["nbf", "iat"].into_iter().filter_map(|claim| self.seconds(claim)).max().unwrap_or(0);
        if begins > now.saturating_add(TOLERANCE) {
            let problem = format!("begins in {} s", begins.saturating_sub(now));
            return Err(self.wrong(problem, "synchronise this machine's clock, or its issuer's (NTP)"));
        }
        Ok(())
    }

    /// Whether its issuer is one of these.
    pub(super) fn is_of(&self, issuers: &[String], remedy: &str) -> Result<(), Failure> {
        let issuer = self.text("iss");
        match issuers.iter().any(|known| known == issuer) {
            true => Ok(()),
            false => {
                Err(self.wrong(format!("is of `{issuer}`, not of `{}`", issuers.join("` or `")), remedy))
            }
        }
    }

    /// Whether it is for one of these.
    pub(super) fn is_for(&self, audiences: &[String], remedy: &str) -> Result<(), Failure> {
        let all: Vec<&str> = match self.claims.get("aud") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
            None => vec![],
        };
        match all.iter().any(|one| audiences.iter().any(|known| known == one)) {
            true => Ok(()),
            false => {
                let (is_for, wanted) = (all.join("`, `"), audiences.join("` or `"));
                Err(self.wrong(format!("is for `{is_for}` (`aud`), not for `{wanted}`"), remedy))
            }
        }
    }
}
