//! What a refusal is called here: a status, and a word. No client reads more than the status.

use super::document::JSON;
use crate::native::encode::{Body, Response};
use holdfast_core::{Error, ErrorKind};
use serde::Serialize;

/// What clients learn of where tokens come from.
#[derive(Debug, Clone, Copy)]
pub struct Challenge<'a> {
    /// For whom a token must be.
    pub audience: &'a str,
    /// Where one is to be had.
    pub authorization: &'a str,
}

/// The status of a refusal; `unknown` is that of a key that is not there, 404 or 400.
pub const fn status(kind: ErrorKind, unknown: u16) -> u16 {
    match kind {
        ErrorKind::Malformed | ErrorKind::Integrity => 400,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Denied | ErrorKind::KeyState | ErrorKind::Stopped | ErrorKind::BudgetExhausted => 403,
        // A key that is none of this protocol is none of its keys.
        ErrorKind::NotFound | ErrorKind::Unsupported => unknown,
        ErrorKind::TooLarge => 413,
        ErrorKind::Throttled => 429,
        ErrorKind::Deadline
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Sealed => 503,
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Internal => 500,
    }
}

#[derive(Serialize)]
struct Told<'a> {
    error: &'a str,
}

/// A refusal: its kind's own words, whatever it was; nothing at all for who is not allowed, and a challenge for who has not shown who they are.
pub fn refusal(error: &Error, unknown: u16, challenge: &Challenge<'_>) -> Response {
    let kind = error.kind();
    let status = status(kind, unknown);
    let mut response = match status {
        401 => return challenged(challenge),
        403 => Response::new(403, JSON, Body::Static(b"")),
        _ => {
            let mut response = Response::json(status, &Told { error: kind.row().title });
            response.content_type = JSON;
            response
        }
    };
    response.retry_after = matches!(status, 429 | 503).then_some(1);
    response
}

/// Another method than the path's.
pub fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = Response::json(405, &Told { error: "another method" });
    response.content_type = JSON;
    response.allow = Some(allowed);
    response
}

/// As the reference server has it, `resource` and `authorization` headers included: clients find the audience in it.
pub fn challenged(challenge: &Challenge<'_>) -> Response {
    let Challenge { audience, authorization } = challenge;
    let mut response = Response::new(401, JSON, Body::Static(b""));
    let scheme =
        format!(r#"Bearer resource="{audience}", authorization="{authorization}", realm="{audience}""#);
    response.headers = vec![
        ("www-authenticate", scheme),
        ("resource", (*audience).to_owned()),
        ("authorization", (*authorization).to_owned()),
    ];
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::Stage;

    const CHALLENGE: Challenge<'_> =
        Challenge { audience: "https://a.example", authorization: "https://b.example" };

    /// The table of the page, row by row.
    #[test]
    fn the_table_of_errors() {
        let page = include_str!("../../../../docs/protocols/ms-dke.md");
        let (_, rows) = page.split_once("| what Holdfast found |").unwrap();
        for kind in ErrorKind::ALL {
            let mut is_there = false;
            for row in rows.lines().skip(1).take_while(|line| line.starts_with('|')) {
                let cells: Vec<_> = row.split('|').map(str::trim).collect();
                if cells[1].contains(&format!("`{}`", kind.code())) {
                    let told: u16 = cells[2].get(..3).unwrap().parse().unwrap();
                    assert_eq!(told, status(kind, 404), "{}", kind.code());
                    is_there = true;
                }
            }
            assert!(is_there, "{} is in no row", kind.code());
        }
        assert_eq!(status(ErrorKind::NotFound, 400), 400);
    }

    #[test]
    fn no_word_of_what_was_wrong_is_told() {
        for kind in ErrorKind::ALL {
            let error =
                Error::new(kind, Stage::Perform, "System.Exception at line 4711").because("the cause 4712");
            let told = refusal(&error, 404, &CHALLENGE);
            let body = match &told.body {
                Body::Plain(bytes) => bytes.clone(),
                Body::Static(bytes) => bytes.to_vec(),
                Body::Secret(_) => panic!(),
            };
            assert!(!String::from_utf8_lossy(&body).contains("471"), "{}", kind.code());
            assert_eq!(body.is_empty(), matches!(told.status, 401 | 403));
        }
    }

    #[test]
    fn the_challenge_is_the_reference_servers() {
        let told = challenged(&CHALLENGE);
        let expected = r#"Bearer resource="https://a.example", authorization="https://b.example", realm="https://a.example""#;
        let of =
            |name: &str| told.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value);
        assert_eq!(of("www-authenticate"), Some(expected));
        assert_eq!(
            (of("resource"), of("authorization")),
            (Some("https://a.example"), Some("https://b.example"))
        );
    }
}
