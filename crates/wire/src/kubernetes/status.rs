//! Which code each kind of error has. API servers treat all codes alike; people read them in logs and metrics.

use super::grpc::Code;
use core::fmt;
use holdfast_core::ErrorKind;

/// The code of each kind, by what its reader will do next.
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        // Look at what was sent: an object of another cluster, of another key, or damaged.
        ErrorKind::Malformed | ErrorKind::TooLarge | ErrorKind::Integrity => Code::InvalidArgument,
        // Ask a custodian about the key.
        ErrorKind::NotFound
        | ErrorKind::KeyState
        | ErrorKind::Unsupported
        | ErrorKind::BudgetExhausted
        | ErrorKind::Stopped => Code::FailedPrecondition,
        // Ask a custodian about the plugin's credential and the policy.
        ErrorKind::Unauthenticated | ErrorKind::Denied => Code::PermissionDenied,
        // Wait, or have an operator look at the gateway.
        ErrorKind::Throttled
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Sealed => Code::Unavailable,
        ErrorKind::Deadline => Code::DeadlineExceeded,
        // Report.
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Internal => Code::Internal,
    }
}

/// Why a call has no result: a code, and words that a peer may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How it ended.
    pub code: Code,
    /// What happened, and what to do next. Never a secret.
    pub words: String,
}

impl Refused {
    /// With its words.
    pub fn new(code: Code, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}
