//! Problem details (RFC 9457): which status each kind of error has, and what a peer gets to read of it.

use super::field::{Name, RetryWord, Word};
use holdfast_core::error::Retry;
use holdfast_core::{Error, ErrorKind, OperationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The media type of problem details.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// The status of each kind: what the reader of a status code will do next decides it.
pub const fn status(kind: ErrorKind) -> u16 {
    match kind {
        // Correct the request.
        ErrorKind::Malformed => 400,
        ErrorKind::TooLarge => 413,
        ErrorKind::Unsupported | ErrorKind::Integrity => 422,
        // Correct the credential, or ask somebody.
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Denied => 403,
        ErrorKind::Stopped => 423,
        // Look what is there.
        ErrorKind::NotFound => 404,
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::KeyState | ErrorKind::BudgetExhausted => {
            409
        }
        // Wait.
        ErrorKind::Throttled => 429,
        ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Sealed => 503,
        ErrorKind::Deadline => 504,
        // Report.
        ErrorKind::Internal => 500,
    }
}

/// Seconds for `Retry-After` (RFC 9110 §10.2.3), where the same request can succeed later.
pub const fn retry_after(kind: ErrorKind) -> Option<u32> {
    match kind.row().retry {
        Retry::Later => Some(1),
        Retry::Never | Retry::AfterReading => None,
    }
}

/// Whether a peer may read what exactly happened. Where the detail would be an oracle, or is the operator's alone, it reads the table's words.
const fn tells(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Malformed
        | ErrorKind::TooLarge
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::Unsupported
        | ErrorKind::BudgetExhausted
        | ErrorKind::Stopped
        | ErrorKind::Throttled
        | ErrorKind::Deadline
        | ErrorKind::Sealed => true,
        ErrorKind::Unauthenticated
        | ErrorKind::Denied
        | ErrorKind::Integrity
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Internal => false,
    }
}

/// What a peer reads of an error (RFC 9457 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Which kind of problem: a reference relative to the gateway.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// The kind's stable code.
    pub code: String,
    /// What to do next.
    pub remedy: String,
    /// Whether to send the same again.
    pub retry: RetryWord,
    /// The operation: what a custodian finds it by in the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Name<OperationId>>,
}

impl Problem {
    /// What a peer may read of an error.
    pub fn new(error: &Error, operation: Option<OperationId>) -> Self {
        let kind = error.kind();
        let row = kind.row();
        let (detail, remedy) =
            if tells(kind) { (error.detail(), error.remedy_text()) } else { (row.title, row.remedy) };
        Self {
            kind: format!("/errors/{}", row.code),
            title: row.title.into(),
            status: status(kind),
            detail: detail.into(),
            code: row.code.into(),
            remedy: remedy.into(),
            retry: Word(row.retry),
            operation: operation.map(Name),
        }
    }

    /// The kind, if this client knows it.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.code() == self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::Stage;

    #[test]
    fn an_oracle_says_what_the_table_says() {
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, Stage::Perform, "MARKER detail")
                .remedy("MARKER remedy")
                .because("MARKER cause");
            let text = serde_json::to_string(&Problem::new(&error, None)).unwrap();
            assert_eq!(text.matches("MARKER").count(), if tells(kind) { 2 } else { 0 }, "{}", kind.code());
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_to_be_tried_again() {
        for kind in ErrorKind::ALL {
            assert_eq!(
                retry_after(kind).is_some(),
                matches!(status(kind), 429 | 503 | 504),
                "{}",
                kind.code()
            );
            assert!((400..=599).contains(&status(kind)));
        }
    }
}
