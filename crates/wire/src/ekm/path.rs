//! Which operation of which key, from path and query alone.

use super::API_VERSION;
use holdfast_core::{Error, ErrorKind, Stage};

/// The most characters of a prefix, and of a key's name.
pub const MAX_NAME: usize = 64;

/// One of the three operations on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Get key metadata.
    Metadata,
    /// Wrap key.
    Wrap,
    /// Unwrap key.
    Unwrap,
}

/// A path, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path<'p> {
    /// Get proxy information.
    Info,
    /// An operation on the key that the provider knows by this name.
    Key(&'p str, Operation),
}

impl Path<'_> {
    /// What metrics call it.
    pub const fn route(&self) -> &'static str {
        match self {
            Self::Info => "ekm-info",
            Self::Key(_, Operation::Metadata) => "ekm-metadata",
            Self::Key(_, Operation::Wrap) => "ekm-wrap",
            Self::Key(_, Operation::Unwrap) => "ekm-unwrap",
        }
    }
}

/// Takes a path apart that begins with this prefix. The whole of it must fit, letter by letter: nothing is decoded, no segment is passed over.
pub fn parse<'p>(prefix: &str, path: &'p str) -> Option<Path<'p>> {
    let rest = path.strip_prefix(prefix)?.strip_prefix('/')?;
    if rest == "info" {
        return Some(Path::Info);
    }
    let (key, operation) = rest.split_once('/')?;
    let operation = match operation {
        "metadata" => Operation::Metadata,
        "wrapkey" => Operation::Wrap,
        "unwrapkey" => Operation::Unwrap,
        _ => return None,
    };
    is_key_name(key).then_some(Path::Key(key, operation))
}

/// Whether the provider can know a key by this name: letters, digits and `-`, 64 at most.
pub fn is_key_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether this can be a prefix: empty, or segments of letters, digits and `-`, each behind a slash, 64 characters in all.
pub fn is_prefix(prefix: &str) -> bool {
    match prefix.strip_prefix('/') {
        None => prefix.is_empty(),
        Some(segments) => prefix.len() <= MAX_NAME && segments.split('/').all(is_key_name),
    }
}

/// Takes the query: the interface's version, and nothing else.
///
/// # Errors
/// `malformed` for another.
pub fn version(query: Option<&str>) -> Result<(), Error> {
    match query.and_then(|query| query.strip_prefix("api-version=")) {
        Some(API_VERSION) => Ok(()),
        Some(_) | None => {
            let detail = format!("the query must be `api-version={API_VERSION}`");
            Err(Error::new(ErrorKind::Malformed, Stage::Decode, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_paths() {
        assert_eq!(parse("", "/info"), Some(Path::Info));
        assert_eq!(parse("/contoso/prod", "/contoso/prod/info"), Some(Path::Info));
        assert_eq!(parse("", "/aes-key-1/metadata"), Some(Path::Key("aes-key-1", Operation::Metadata)));
        assert_eq!(parse("/p", "/p/K/wrapkey"), Some(Path::Key("K", Operation::Wrap)));
        assert_eq!(parse("/p", "/p/info/unwrapkey"), Some(Path::Key("info", Operation::Unwrap)));
    }

    #[test]
    fn nothing_else_is_one() {
        let long = format!("/p/{}/wrapkey", "k".repeat(65));
        for bad in [
            "",
            "/",
            "/info",
            "/p",
            "/p/",
            "/p/info/",
            "/p/Info",
            "/P/info",
            "/p//info",
            "//p/info",
            "/p/k",
            "/p/k/",
            "/p/k/info",
            "/p/k/wrapKey",
            "/p/k/wrapkey/",
            "/p/k/v1/wrapkey",
            "/p//wrapkey",
            "/p/./wrapkey",
            "/p/../wrapkey",
            "/p/../p/k/wrapkey",
            "/p/a%2fb/wrapkey",
            "/p/a%2Db/wrapkey",
            "/p/a_b/wrapkey",
            "/p/a.b/wrapkey",
            "/pk/wrapkey",
            &long,
        ] {
            assert_eq!(parse("/p", bad), None, "{bad}");
        }
    }

    #[test]
    fn prefixes_are_those_that_the_provider_takes() {
        let (most, more) = (format!("/{}", "p".repeat(63)), format!("/{}", "p".repeat(64)));
        assert!(["", "/p", "/contoso/prod-7", &most].iter().all(|good| is_prefix(good)));
        for bad in ["p", "/", "/p/", "//p", "/p_q", "/p.q", "/p%2fq", &more] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }

    #[test]
    fn the_query_is_the_version_alone() {
        assert!(version(Some("api-version=0.1-preview")).is_ok());
        for bad in [
            None,
            Some(""),
            Some("api-version="),
            Some("api-version=0.1"),
            Some("api-version=0.1-preview&api-version=1.0"),
            Some("api-version=0.1-preview&x"),
            Some("API-VERSION=0.1-preview"),
            Some("api-version=0.1%2Dpreview"),
        ] {
            assert_eq!(version(bad).unwrap_err().kind(), ErrorKind::Malformed, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_taken_apart_or_refused(path: String, key: String) {
            parse("", &path);
            if let Some(found) = parse("/p", &format!("/p/{key}/wrapkey")) {
                prop_assert_eq!(found, Path::Key(&key, Operation::Wrap));
            }
        }
    }
}
