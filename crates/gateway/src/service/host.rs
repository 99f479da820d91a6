//! Which host a request is for.

use http::Request;
use http::header::HOST;

/// The host, with its port if it has one: of the target, where HTTP/2 has it (`:authority`, RFC 9113 section 8.3.1), or else of the one `Host`
/// (RFC 9110 section 7.2). None where they do not agree: somebody in front may have looked at the other one.
pub(super) fn of<B>(request: &Request<B>) -> Option<&str> {
    let mut all = request.headers().get_all(HOST).iter();
    let (first, second) = (all.next(), all.next());
    let header = match first {
        Some(header) => Some(header.to_str().ok()?),
        None => None,
    };
    match (request.uri().authority(), header, second) {
        (_, _, Some(_)) | (None, None, None) => None,
        (Some(authority), None, None) => Some(authority.as_str()),
        (None, Some(header), None) => Some(header),
        (Some(authority), Some(header), None) => {
            let is_same = without_default(authority.as_str()).eq_ignore_ascii_case(without_default(header));
            is_same.then_some(header)
        }
    }
}

/// Without the port of `https`, which says nothing.
fn without_default(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_target_and_header_agree_upon() {
        let found = |target: &str, headers: &[&str]| {
            let mut request = Request::builder().uri(target);
            for &header in headers {
                request = request.header(HOST, header);
            }
            of(&request.body(()).unwrap()).map(str::to_ascii_lowercase)
        };
        let (bare, whole) = ("/v1/wrap", "https://kacls.example:8443/v1/wrap");
        for (target, headers, host) in [
            (bare, &[][..], None),
            (bare, &["kacls.example"][..], Some("kacls.example")),
            (whole, &[][..], Some("kacls.example:8443")),
            (whole, &["KACLS.example:8443"][..], Some("kacls.example:8443")),
            ("https://kacls.example/", &["kacls.example:443"][..], Some("kacls.example:443")),
            (whole, &["kacls.example"][..], None),
            (whole, &["evil.example:8443"][..], None),
            (bare, &["kacls.example", "evil.example"][..], None),
            (bare, &["kacls.example", "kacls.example"][..], None),
            (bare, &["kacls\u{e9}.example"][..], None),
        ] {
            assert_eq!(found(target, headers).as_deref(), host, "{target} {headers:?}");
        }
    }
}
