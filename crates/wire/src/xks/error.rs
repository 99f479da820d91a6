//! What a refusal is called here: status and `errorName`, and nothing of its reason that a stranger to the tenant might use.

use crate::native::encode::{Body, Response};
use holdfast_core::{Error, ErrorKind, Stage};
use serde::Serialize;

/// The most characters of an `errorMessage`.
const MAX_MESSAGE: usize = 500;

/// An error of the specification, section "Errors".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The HTTP status.
    pub status: u16,
    /// `errorName`.
    pub name: &'static str,
}

const fn name(status: u16, name: &'static str) -> Name {
    Name { status, name }
}

/// There is no such path, or no such prefix.
pub const INVALID_URI_PATH: Name = name(404, "InvalidUriPathException");
/// Another method than POST: the specification gives the status alone.
pub const METHOD_NOT_ALLOWED: Name = name(405, "InvalidUriPathException");

/// What a refusal of core is called.
pub const fn of(kind: ErrorKind, stage: Stage) -> Name {
    match (kind, stage) {
        // A body that was not read cannot be verified; of one that was, a field is larger than is supported.
        (ErrorKind::TooLarge, Stage::Receive) | (ErrorKind::Malformed, _) => name(400, "ValidationException"),
        (ErrorKind::TooLarge, _) => name(501, "UnsupportedOperationException"),
        (ErrorKind::Unauthenticated, _) => name(401, "AuthenticationFailedException"),
        (ErrorKind::Denied, _) => name(403, "AccessDeniedException"),
        (ErrorKind::NotFound, _) => name(404, "KeyNotFoundException"),
        (ErrorKind::KeyState | ErrorKind::Stopped | ErrorKind::Sealed | ErrorKind::BudgetExhausted, _) => {
            name(400, "InvalidStateException")
        }
        (ErrorKind::Unsupported, _) => name(400, "InvalidKeyUsageException"),
        (ErrorKind::Integrity, _) => name(400, "InvalidCiphertextException"),
        (ErrorKind::Throttled, _) => name(429, "ThrottlingException"),
        (ErrorKind::Deadline | ErrorKind::KeyStoreUnavailable, _) => name(503, "DependencyTimeoutException"),
        (
            ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::StateUnavailable
            | ErrorKind::AuditUnavailable
            | ErrorKind::Internal,
            _,
        ) => name(500, "InternalException"),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    error_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error_message: &'a str,
}

/// A refusal. Its message goes to the provider's own logs: the words of its kind and what to do, but nothing of who failed to authenticate.
pub fn refusal(error: &Error) -> Response {
    let name = of(error.kind(), error.stage());
    let message = match error.kind() {
        // One and the same, whatever it was; and nothing of what is inside of the gateway.
        ErrorKind::Unauthenticated
        | ErrorKind::Integrity
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Internal => error.kind().row().title.to_owned(),
        ErrorKind::Malformed
        | ErrorKind::TooLarge
        | ErrorKind::Denied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::Unsupported
        | ErrorKind::BudgetExhausted
        | ErrorKind::Stopped
        | ErrorKind::Throttled
        | ErrorKind::Deadline
        | ErrorKind::Sealed => format!("{error}: {}", remedy(error)),
    };
    let mut response = response(name, &message);
    response.retry_after = matches!(name.status, 429 | 503).then_some(1);
    response
}

/// What to do, in words that are true here: the kinds' own are the native API's.
fn remedy(error: &Error) -> &str {
    let kind = error.kind();
    match (kind, error.remedy_text()) {
        (ErrorKind::Malformed | ErrorKind::TooLarge, remedy) if remedy == kind.row().remedy => {
            "compare the request with the specification of the external key store proxy API, version 1"
        }
        (_, remedy) => remedy,
    }
}

/// An error that needs no more words.
pub fn response(name: Name, message: &str) -> Response {
    let printable = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let message: String = message.chars().take(MAX_MESSAGE).map(printable).collect();
    let told = Told { error_name: name.name, error_message: &message };
    let mut response = Response::json(name.status, &told);
    if name.status == METHOD_NOT_ALLOWED.status {
        response.allow = Some("POST");
    }
    response
}

/// What is said when nothing else can be: a defect.
pub fn defect() -> Response {
    Response::new(500, "application/json", Body::Static(br#"{"errorName":"InternalException"}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's table, row by row: each name with its status is given for something, and nothing else is given.
    #[test]
    fn the_table_of_errors() {
        const TABLE: [(u16, &str); 13] = [
            (400, "ValidationException"),
            (400, "InvalidStateException"),
            (400, "InvalidCiphertextException"),
            (400, "InvalidKeyUsageException"),
            (401, "AuthenticationFailedException"),
            (403, "AccessDeniedException"),
            (404, "KeyNotFoundException"),
            (404, "InvalidUriPathException"),
            (405, "InvalidUriPathException"),
            (429, "ThrottlingException"),
            (500, "InternalException"),
            (501, "UnsupportedOperationException"),
            (503, "DependencyTimeoutException"),
        ];
        let mut given = vec![INVALID_URI_PATH, METHOD_NOT_ALLOWED];
        for kind in ErrorKind::ALL {
            given.extend(Stage::ALL.map(|stage| of(kind, stage)));
        }
        let mut given: Vec<_> = given.into_iter().map(|Name { status, name }| (status, name)).collect();
        given.sort_unstable();
        given.dedup();
        let mut table = TABLE.to_vec();
        table.sort_unstable();
        assert_eq!(given, table);
    }

    #[test]
    fn a_message_is_short_and_printable() {
        let error = Error::new(ErrorKind::Malformed, Stage::Decode, "é\n".repeat(600));
        let Response { body: Body::Plain(bytes), .. } = refusal(&error) else { panic!() };
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let message = body["errorMessage"].as_str().unwrap();
        assert!(message.len() < 512 && message.bytes().all(|b| (0x20..0x7f).contains(&b)), "{message}");
        assert!(!bytes.contains(&b'\n'));
    }

    /// What the native API's users are told to do would lead those of a provider astray: they read it in the provider's logs.
    #[test]
    fn what_to_do_is_said_in_this_protocols_words() {
        for kind in ErrorKind::ALL {
            let Response { status, retry_after, body: Body::Plain(bytes), .. } =
                refusal(&Error::new(kind, Stage::Decode, "what is wrong"))
            else {
                panic!()
            };
            let told = String::from_utf8(bytes).unwrap();
            assert!(!told.contains("openapi") && !told.contains("holdfast encrypt"), "{told}");
            assert_eq!(retry_after.is_some(), told.contains("Retry-After") || status == 503, "{told}");
        }
        let own = Error::new(ErrorKind::Malformed, Stage::Decode, "x").remedy("do that");
        assert_eq!(remedy(&own), "do that");
    }

    #[test]
    fn what_does_not_verify_and_who_is_unknown_is_told_in_the_same_words() {
        for kind in [ErrorKind::Unauthenticated, ErrorKind::Integrity] {
            let told = |detail: &'static str| {
                let Response { body: Body::Plain(bytes), .. } =
                    refusal(&Error::new(kind, Stage::Perform, detail))
                else {
                    panic!()
                };
                bytes
            };
            assert_eq!(told("the tag"), told("the length of the IV"));
        }
    }
}
