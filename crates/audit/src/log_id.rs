//! The name of a log: a tenant's or the gateway's own.

use std::str::FromStr;
use std::sync::Arc;

/// Longest name, in bytes.
const MAX_NAME: usize = 63;

/// A log's name, `[a-z0-9_][a-z0-9_-]{0,62}`: also its directory's name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(Arc<str>);

/// The text is not a log's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log's name; use 1 to 63 of `a-z 0-9 _ -`, not beginning with `-`")]
pub struct LogIdError(String);

impl LogId {
    /// The gateway's own log, which is no tenant's.
    #[must_use]
    pub fn gateway() -> Self {
        Self(Arc::from("_gateway"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogId {
    type Err = LogIdError;

    fn from_str(name: &str) -> Result<Self, LogIdError> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| word(byte) || byte == b'-')
            && name.bytes().next().is_some_and(word);
        if fits { Ok(Self(Arc::from(name))) } else { Err(LogIdError(name.chars().take(80).collect())) }
    }
}

impl std::borrow::Borrow<str> for LogId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_can_be_directories() {
        for good in ["a", "_gateway", "9-tenant_b", &"x".repeat(63)] {
            assert_eq!(good.parse::<LogId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "..", "a/b", "A", "a.b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<LogId>().is_err(), "{bad}");
        }
    }
}
