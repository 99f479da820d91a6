//! The encryption context: what a caller binds a ciphertext to, without it being secret.

use crate::error::{Error, ErrorKind, Stage};

/// Pairs of names and values, sorted by name, no name twice.
///
/// Compared byte by byte: nothing is normalised, so `é` composed and decomposed are two contexts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Context(Vec<(Box<str>, Box<str>)>);

impl Context {
    /// The most pairs that a context may have.
    pub const MAX_PAIRS: usize = 64;
    /// The most bytes that all names and values may have together.
    pub const MAX_BYTES: usize = 8192;

    /// No pair at all.
    pub const EMPTY: Self = Self(Vec::new());

    /// From pairs in any order.
    ///
    /// # Errors
    /// `malformed` for an empty or repeated name, `too-large` beyond [`Self::MAX_PAIRS`] or [`Self::MAX_BYTES`].
    pub fn new(mut pairs: Vec<(Box<str>, Box<str>)>) -> Result<Self, Error> {
        let refuse = |kind, detail| Err(Error::new(kind, Stage::Decode, detail));
        let bytes: usize = pairs.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        if pairs.len() > Self::MAX_PAIRS || bytes > Self::MAX_BYTES {
            return refuse(ErrorKind::TooLarge, "`context` has more than 64 pairs or 8192 bytes");
        }
        pairs.sort_unstable();
        let mut names = pairs.iter().map(|(name, _)| name);
        let mut last: Option<&Box<str>> = None;
        for name in names.by_ref() {
            if name.is_empty() {
                return refuse(ErrorKind::Malformed, "`context` has an empty name");
            }
            if last == Some(name) {
                return refuse(ErrorKind::Malformed, "`context` has a name twice");
            }
            last = Some(name);
        }
        Ok(Self(pairs))
    }

    /// The pairs, sorted by name.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> Result<Context, Error> {
        Context::new(pairs.iter().map(|(n, v)| (Box::from(*n), Box::from(*v))).collect())
    }

    #[test]
    fn order_does_not_matter_and_repetition_is_refused() {
        assert_eq!(context(&[("b", "2"), ("a", "1")]).unwrap(), context(&[("a", "1"), ("b", "2")]).unwrap());
        assert_eq!(context(&[("a", "1"), ("a", "2")]).unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(context(&[("", "1")]).unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(context(&[("a", &"x".repeat(8192))]).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
