//! Which operation of which key in which store, from the path alone.

/// What every store's path ends with.
pub const BASE: &str = "/kms/xks/v1";
const API: &str = "/kms/xks/v1/";

/// One of the four operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// GetHealthStatus.
    Health,
    /// GetKeyMetadata.
    Metadata,
    /// Encrypt.
    Encrypt,
    /// Decrypt.
    Decrypt,
}

impl Operation {
    /// What metrics call it.
    pub const fn route(self) -> &'static str {
        match self {
            Self::Health => "xks-health",
            Self::Metadata => "xks-metadata",
            Self::Encrypt => "xks-encrypt",
            Self::Decrypt => "xks-decrypt",
        }
    }
}

/// A path of this protocol, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<'p> {
    /// What stands before `/kms/xks/v1`: the store's own prefix, empty or beginning with a slash.
    pub prefix: &'p str,
    /// The operation.
    pub operation: Operation,
    /// The external key id, for all but [`Operation::Health`]; as it stands there.
    pub key: &'p str,
}

/// Whether a path means this protocol, rightly or wrongly: what it gets is then in this protocol's form.
pub fn is_meant(path: &str) -> bool {
    path.contains("kms/xks/")
}

/// Takes a path apart. The whole of it must fit: nothing is decoded, no segment is passed over.
pub fn parse(path: &str) -> Option<Path<'_>> {
    let (prefix, rest) = path.split_once(API)?;
    if !is_prefix(prefix) {
        return None;
    }
    if rest == "health" {
        return Some(Path { prefix, operation: Operation::Health, key: "" });
    }
    let (key, operation) = rest.strip_prefix("keys/")?.split_once('/')?;
    let operation = match operation {
        "metadata" => Operation::Metadata,
        "encrypt" => Operation::Encrypt,
        "decrypt" => Operation::Decrypt,
        _ => return None,
    };
    let is_segment = !key.is_empty() && !key.contains('%') && key != "." && key != "..";
    is_segment.then_some(Path { prefix, operation, key })
}

/// Whether this can be a store's prefix: empty, or segments of letters, digits, `-` and `_`, up to 117 characters in all.
pub fn is_prefix(prefix: &str) -> bool {
    let is_segment = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match prefix.strip_prefix('/') {
        None => prefix.is_empty(),
        Some(segments) => prefix.len() <= 117 && segments.split('/').all(is_segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_paths() {
        let path = |prefix, operation, key| Some(Path { prefix, operation, key });
        assert_eq!(parse("/kms/xks/v1/health"), path("", Operation::Health, ""));
        let a = "/example/uri/path/prefix";
        assert_eq!(parse(&format!("{a}/kms/xks/v1/keys/foo/metadata")), path(a, Operation::Metadata, "foo"));
        assert_eq!(parse("/t-7/kms/xks/v1/keys/a.01/encrypt"), path("/t-7", Operation::Encrypt, "a.01"));
        assert_eq!(parse("/t_7/kms/xks/v1/keys/a~/decrypt"), path("/t_7", Operation::Decrypt, "a~"));
    }

    #[test]
    fn nothing_else_is_one() {
        let long = format!("/{}/kms/xks/v1/health", "p".repeat(117));
        for bad in [
            "",
            "/",
            "/kms/xks/v1",
            "/kms/xks/v1/",
            "/kms/xks/v1/health/",
            "/kms/xks/v1/Health",
            "/kms/xks/v2/health",
            "/kms/xks/v1/keys",
            "/kms/xks/v1/keys/a",
            "/kms/xks/v1/keys//encrypt",
            "/kms/xks/v1/keys/a/sign",
            "/kms/xks/v1/keys/a/encrypt/",
            "/kms/xks/v1/keys/a/b/encrypt",
            "/kms/xks/v1/keys/./encrypt",
            "/kms/xks/v1/keys/../encrypt",
            "/kms/xks/v1/keys/a%2fb/encrypt",
            "/a//kms/xks/v1/health",
            "//kms/xks/v1/health",
            "a/kms/xks/v1/health",
            "/a/../kms/xks/v1/health",
            "/a/./kms/xks/v1/health",
            "/a%2e/kms/xks/v1/health",
            "/kms/xks/v1/kms/xks/v1/health",
            &long,
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_taken_apart_or_refused(path: String, key: String) {
            parse(&path);
            if let Some(found) = parse(&format!("/p/kms/xks/v1/keys/{key}/encrypt")) {
                prop_assert_eq!(found.key, key);
            }
        }
    }
}
