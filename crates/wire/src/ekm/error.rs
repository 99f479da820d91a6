//! What a refusal is called here: a status and a `code`, and words for the provider's own log that say nothing of what is inside.

use crate::native::encode::Response;
use holdfast_core::{Error, ErrorKind};
use serde::Serialize;

/// The most characters of a `message`.
const MAX_MESSAGE: usize = 300;

/// What a refusal is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The HTTP status.
    pub status: u16,
    /// `code`.
    pub code: &'static str,
}

const fn name(status: u16, code: &'static str) -> Name {
    Name { status, code }
}

/// There is no such path.
pub const NO_SUCH_PATH: Name = name(404, "NotFound");
/// Another method than POST.
pub const METHOD_NOT_ALLOWED: Name = name(405, "MethodNotAllowed");

/// What a refusal of core is called.
pub const fn of(kind: ErrorKind) -> Name {
    match kind {
        ErrorKind::Malformed | ErrorKind::TooLarge | ErrorKind::Integrity | ErrorKind::Unsupported => {
            name(400, "BadRequest")
        }
        ErrorKind::Unauthenticated => name(401, "Unauthorized"),
        ErrorKind::Denied => name(403, "Forbidden"),
        ErrorKind::KeyState | ErrorKind::Stopped | ErrorKind::BudgetExhausted => name(403, "KeyDisabled"),
        ErrorKind::NotFound => name(404, "KeyNotFound"),
        ErrorKind::Deadline => name(408, "RequestTimeout"),
        ErrorKind::Throttled => name(429, "Throttled"),
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Internal => {
            name(500, "InternalServerError")
        }
        ErrorKind::KeyStoreUnavailable => name(502, "BadGateway"),
        ErrorKind::StateUnavailable | ErrorKind::AuditUnavailable | ErrorKind::Sealed => {
            name(503, "ServiceUnavailable")
        }
    }
}

#[derive(Serialize)]
struct Told<'a> {
    code: &'a str,
    message: &'a str,
}

/// A refusal. What is wrong with a request's form is said; of everything else the words of its kind, whatever it was.
pub fn refusal(error: &Error) -> Response {
    let kind = error.kind();
    let message = match kind {
        ErrorKind::Malformed | ErrorKind::TooLarge => error.to_string(),
        ErrorKind::Unauthenticated
        | ErrorKind::Denied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::Unsupported
        | ErrorKind::Integrity
        | ErrorKind::BudgetExhausted
        | ErrorKind::Stopped
        | ErrorKind::Throttled
        | ErrorKind::Deadline
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Sealed
        | ErrorKind::Internal => kind.row().title.to_owned(),
    };
    response(of(kind), &message)
}

/// An error that needs no more words.
pub fn response(name: Name, message: &str) -> Response {
    let printable = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let message: String = message.chars().take(MAX_MESSAGE).map(printable).collect();
    let mut response = Response::json(name.status, &Told { code: name.code, message: &message });
    response.retry_after = matches!(name.status, 429 | 503).then_some(1);
    if name.status == METHOD_NOT_ALLOWED.status {
        response.allow = Some("POST");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::Stage;

    /// The table of the page, row by row: each kind stands in one row, with this status and code, and no row has another.
    #[test]
    fn the_table_of_errors() {
        let page = include_str!("../../../../docs/protocols/azure-ekm.md");
        let (_, rows) = page.split_once("| what Holdfast found |").unwrap();
        let mut told = Vec::new();
        for row in rows.lines().skip(2).take_while(|line| line.starts_with('|')) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let status: u16 = cells[2].parse().unwrap();
            told.push((status, cells[3].trim_matches('`').to_owned()));
            for kind in ErrorKind::ALL {
                if cells[1].contains(&format!("`{}`", kind.code())) {
                    let Name { status: expected, code } = of(kind);
                    assert_eq!((status, cells[3]), (expected, &*format!("`{code}`")), "{}", kind.code());
                }
            }
        }
        for kind in ErrorKind::ALL {
            let is_there = |row: &&str| row.contains(&format!("`{}`", kind.code()));
            let all = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
            assert_eq!(all.filter(is_there).count(), 1, "{} stands in one row", kind.code());
        }
        let mut given: Vec<_> = ErrorKind::ALL.map(of).into();
        given.extend([NO_SUCH_PATH, METHOD_NOT_ALLOWED]);
        let mut given: Vec<_> = given.into_iter().map(|it| (it.status, it.code.to_owned())).collect();
        given.sort();
        given.dedup();
        told.sort();
        assert_eq!(told, given);
    }

    #[test]
    fn no_word_of_what_was_wrong_is_told() {
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, Stage::Perform, "key 4711 é\n").because("the cause 4712");
            let told = refusal(&error);
            let body = String::from_utf8(told.body.as_bytes().to_vec()).unwrap();
            let is_of_the_form = matches!(kind, ErrorKind::Malformed | ErrorKind::TooLarge);
            assert_eq!(body.contains("4711"), is_of_the_form, "{body}");
            assert!(!body.contains("4712") && body.bytes().all(|b| (0x20..0x7f).contains(&b)), "{body}");
            assert_eq!(told.retry_after.is_some(), matches!(told.status, 429 | 503));
        }
        let long = Error::new(ErrorKind::Malformed, Stage::Decode, "x".repeat(10_000));
        assert!(refusal(&long).body.as_bytes().len() < 400);
    }
}
