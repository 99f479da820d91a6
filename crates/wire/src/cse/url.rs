//! URLs of services, so far as they are compared: scheme, host, port and path; one slash at the end is as none.

use core::fmt;

/// The most bytes of a URL.
const MAX: usize = 512;

/// The URL of a service: https, a host, perhaps a port and a path; nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceUrl {
    authority: Box<str>,
    path: Box<str>,
}

impl ServiceUrl {
    /// Reads a URL; `None` for what is none, or has a user, a query, a fragment, or a path that could mean another one.
    pub fn of(text: &str) -> Option<Self> {
        let scheme = text.get(..8).filter(|_| text.len() <= MAX)?;
        let rest = text.get(8..).filter(|_| scheme.eq_ignore_ascii_case("https://"))?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) =
            authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !host.split('.').all(is_label) {
            return None;
        }
        let port = match port {
            None => None,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse::<u16>().ok()?),
            Some(_) => return None,
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_segment = |segment: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        };
        if !path.is_empty() && !path.split('/').skip(1).all(is_segment) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let authority = match port {
            None | Some(443) => host,
            Some(port) => format!("{host}:{port}"),
        };
        Some(Self { authority: authority.into(), path: path.into() })
    }

    /// Its host in small letters, with its port unless that is 443.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its path: empty, or beginning with a slash and ending with none.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this text is the same URL.
    pub fn is(&self, text: &str) -> bool {
        Self::of(text).is_some_and(|other| other == *self)
    }

    /// Whether a request for this host, as its `Host` says, means this one's.
    pub fn is_at(&self, host: &str) -> bool {
        host.eq_ignore_ascii_case(&self.authority)
            || host.strip_suffix(":443").is_some_and(|host| host.eq_ignore_ascii_case(&self.authority))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authority, path } = self;
        write!(f, "https://{authority}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_slash_at_the_end_and_the_case_of_the_host_make_no_difference() {
        let ours = ServiceUrl::of("https://kacls.hyok.example/v1").unwrap();
        for same in [
            "https://kacls.hyok.example/v1/",
            "https://KACLS.hyok.example/v1",
            "HTTPS://kacls.hyok.example:443/v1",
        ] {
            assert!(ours.is(same), "{same}");
        }
        for other in [
            "https://kacls.hyok.example/v1//",
            "https://kacls.hyok.example/V1",
            "https://kacls.hyok.example/v1/x",
            "https://kacls.hyok.example",
            "https://kacls.hyok.example:8443/v1",
            "http://kacls.hyok.example/v1",
            "https://kacls.hyok.example.evil.example/v1",
            "https://user@kacls.hyok.example/v1",
            "https://kacls.hyok.example/v1?x",
            "https://kacls.hyok.example/v1#x",
            "https://kacls.hyok.example/../v1",
            "https://kacls.hyok.example/%761",
            "https:///v1",
            "",
        ] {
            assert!(!ours.is(other), "{other}");
        }
        assert_eq!(ours.to_string(), "https://kacls.hyok.example/v1");
        assert!(ours.is_at("Kacls.hyok.example") && ours.is_at("kacls.hyok.example:443"));
        assert!(!ours.is_at("kacls.hyok.example:8443") && !ours.is_at("hyok.example"));
    }

    proptest! {
        #[test]
        fn what_is_read_leads_back(text: String, host in "[a-z.:0-9]{0,20}", path in "[a-z/.%]{0,20}") {
            ServiceUrl::of(&text);
            if let Some(url) = ServiceUrl::of(&format!("https://{host}/{path}")) {
                prop_assert!(url.is(&url.to_string()));
            }
        }
    }
}
