//! Which key, and for what, from the path alone.

/// A path, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path<'p> {
    /// The document of a key.
    Document {
        /// Its name.
        key: &'p str,
    },
    /// Decryption with one version of it.
    Decrypt {
        /// Its name.
        key: &'p str,
        /// The version's id.
        id: &'p str,
    },
}

impl Path<'_> {
    /// What metrics call it.
    pub const fn route(&self) -> &'static str {
        match self {
            Self::Document { .. } => "dke-key",
            Self::Decrypt { .. } => "dke-decrypt",
        }
    }

    /// The key's name.
    pub const fn key(&self) -> &str {
        match self {
            Self::Document { key } | Self::Decrypt { key, id: _ } => key,
        }
    }
}

/// Takes a path apart that begins with this prefix. The whole of it must fit: nothing is decoded, no segment is passed over.
pub fn parse<'p>(prefix: &str, path: &'p str) -> Option<Path<'p>> {
    let mut segments = path.strip_prefix(prefix)?.strip_prefix('/')?.split('/');
    let (key, id, act) = (segments.next()?, segments.next(), segments.next());
    let is_segment = |text: &str| {
        !text.is_empty()
            && text != "."
            && text != ".."
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match (id, act, segments.next()) {
        (None, None, None) if is_segment(key) => Some(Path::Document { key }),
        // Microsoft's server writes `Decrypt`, its clients `decrypt`, and neither looks.
        (Some(id), Some(act), None)
            if is_segment(key) && is_segment(id) && act.eq_ignore_ascii_case("decrypt") =>
        {
            Some(Path::Decrypt { key, id })
        }
        (_, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_paths_with_a_prefix_and_without() {
        for prefix in ["", "/dke", "/a/b"] {
            let path = |rest: &str| format!("{prefix}{rest}");
            assert_eq!(parse(prefix, &path("/legal-hold")), Some(Path::Document { key: "legal-hold" }));
            for act in ["decrypt", "Decrypt", "DECRYPT"] {
                let path = path(&format!("/legal-hold/7C1D2A90-55B3/{act}"));
                let found = Path::Decrypt { key: "legal-hold", id: "7C1D2A90-55B3" };
                assert_eq!(parse(prefix, &path), Some(found));
            }
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for bad in [
            "",
            "/",
            "//",
            "k",
            "/k/",
            "//k",
            "/./",
            "/..",
            "/.",
            "/k%2fx",
            "/%6b",
            "/k/i",
            "/k/i/",
            "/k/i/encrypt",
            "/k/i/decrypt/",
            "/k/i/decrypt/x",
            "/k//decrypt",
            "//i/decrypt",
            "/k/../decrypt",
            "/k/./decrypt",
            "/k/i/decrypt?",
            "/k;x",
            "/k/i%2f/decrypt",
            "/é",
            "/k i",
        ] {
            assert_eq!(parse("", bad), None, "{bad}");
        }
        assert_eq!(parse("/dke", "/k"), None);
        assert_eq!(parse("/dke", "/dkek"), None);
        assert_eq!(parse("/dke", "/DKE/k"), None);
    }

    proptest! {
        #[test]
        fn any_path_is_taken_apart_or_refused(path: String, key: String) {
            parse("", &path);
            if let Some(found) = parse("/p", &format!("/p/{key}")) {
                prop_assert!(found.key() == key || key.contains('/'));
            }
        }
    }
}
