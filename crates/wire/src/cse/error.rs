//! What a refusal is called here: a status, a few words, and by which id the log knows it. Google's specification leaves the statuses open.

use crate::native::encode::{Body, Response};
use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use serde::Serialize;

/// There is no such method.
pub const NO_METHOD: u16 = 404;
/// The method wants another verb.
pub const OTHER_VERB: u16 = 405;
/// The body is of another type.
pub const OTHER_TYPE: u16 = 415;
/// The other key service gave no answer that can be used.
pub const PEER_FAILED: u16 = 502;
/// The other key service gave no answer in time.
pub const PEER_LATE: u16 = 504;

/// The status of a refusal.
pub const fn status(kind: ErrorKind, stage: Stage) -> u16 {
    match (kind, stage) {
        (ErrorKind::TooLarge, Stage::Receive) => 413,
        (ErrorKind::Malformed | ErrorKind::TooLarge | ErrorKind::Integrity, _) => 400,
        (ErrorKind::Unauthenticated, _) => 401,
        // Also what the tenant has stopped: by its own word, nobody is let in.
        (ErrorKind::Denied | ErrorKind::Stopped | ErrorKind::KeyState, _) => 403,
        (ErrorKind::Throttled, _) => 429,
        (
            ErrorKind::KeyStoreUnavailable
            | ErrorKind::StateUnavailable
            | ErrorKind::AuditUnavailable
            | ErrorKind::Deadline
            | ErrorKind::Sealed,
            _,
        ) => 503,
        // The method that is there asks for a key that is not, or not for this: the service is not set up.
        (
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::Unsupported
            | ErrorKind::BudgetExhausted
            | ErrorKind::Internal,
            _,
        ) => 500,
    }
}

#[derive(Serialize)]
struct Told<'a> {
    code: u16,
    message: &'a str,
    details: &'a str,
}

/// A refusal. What was wrong with the form of a request is told; why somebody is not known or not let in is not.
pub fn refusal(error: &Error, operation: OperationId) -> Response {
    let kind = error.kind();
    let message = match kind {
        ErrorKind::Malformed | ErrorKind::TooLarge | ErrorKind::Throttled => error.detail(),
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
        | ErrorKind::Deadline
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Sealed
        | ErrorKind::Internal => kind.row().title,
    };
    let mut response = told(status(kind, error.stage()), message, operation);
    response.retry_after = matches!(response.status, 429 | 503).then_some(1);
    response
}

/// An error that is none of the law's.
pub fn told(status: u16, message: &str, operation: OperationId) -> Response {
    let details = format!("request {operation}");
    let told = Told { code: status, message, details: &details };
    let Ok(bytes) = serde_json::to_vec(&told) else {
        const DEFECT: &[u8] = br#"{"code":500,"message":"a defect of Holdfast","details":""}"#;
        return Response::new(500, "application/json", Body::Static(DEFECT));
    };
    Response::new(status, "application/json", Body::Plain(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::Timestamp;

    fn operation() -> OperationId {
        OperationId::new(Timestamp::from_micros(0), [0; 10])
    }

    /// Every kind of error, and the status that it has: nothing outside of the table is given.
    #[test]
    fn the_table_of_errors() {
        let mut given: Vec<u16> = vec![NO_METHOD, OTHER_VERB, OTHER_TYPE, PEER_FAILED, PEER_LATE];
        for kind in ErrorKind::ALL {
            given.extend(Stage::ALL.map(|stage| status(kind, stage)));
        }
        given.sort_unstable();
        given.dedup();
        assert_eq!(given, [400, 401, 403, 404, 405, 413, 415, 429, 500, 502, 503, 504]);
        for (kind, stage, expected) in [
            (ErrorKind::Malformed, Stage::Decode, 400),
            (ErrorKind::TooLarge, Stage::Decode, 400),
            (ErrorKind::TooLarge, Stage::Receive, 413),
            (ErrorKind::Integrity, Stage::Perform, 400),
            (ErrorKind::Unauthenticated, Stage::Identify, 401),
            (ErrorKind::Denied, Stage::Decide, 403),
            (ErrorKind::Stopped, Stage::Decide, 403),
            (ErrorKind::KeyState, Stage::Resolve, 403),
            (ErrorKind::Throttled, Stage::Receive, 429),
            (ErrorKind::KeyStoreUnavailable, Stage::Perform, 503),
            (ErrorKind::AuditUnavailable, Stage::Record, 503),
            (ErrorKind::Sealed, Stage::Receive, 503),
            (ErrorKind::NotFound, Stage::Resolve, 500),
            (ErrorKind::Internal, Stage::Perform, 500),
        ] {
            assert_eq!(status(kind, stage), expected, "{kind:?}");
        }
    }

    #[test]
    fn an_error_says_its_status_twice_its_words_and_where_to_look() {
        let id = operation();
        let error = Error::new(ErrorKind::Denied, Stage::Decide, "nothing of this").because("nor of this");
        let Response { status, body, .. } = refusal(&error, id);
        let body: serde_json::Value = serde_json::from_slice(body.as_bytes()).unwrap();
        assert_eq!((status, &body["code"]), (403, &serde_json::json!(403)));
        assert_eq!(body["message"], ErrorKind::Denied.row().title);
        assert_eq!(body["details"], format!("request {id}"));
        assert_eq!(body.as_object().unwrap().len(), 3);
    }
}
