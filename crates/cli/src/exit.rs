//! Exit codes, documented in `docs/cli.md`: a script can tell what to do next.

use holdfast_core::ErrorKind;
use std::process::ExitCode;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it should.
    Ok = 0,
    /// It failed in a way that none of the others says.
    Failure = 1,
    /// It was called wrongly, or the gateway found the request malformed, too large or not supported by the key.
    Usage = 2,
    /// The policy does not allow it, or there is no such thing and the caller may not know that.
    Denied = 3,
    /// The gateway does not know the caller.
    Unauthenticated = 4,
    /// There is no such thing, it is there already, it has changed meanwhile, or its state does not permit it.
    State = 5,
    /// Something does not verify: a ciphertext, a signature, a log, the server's certificate.
    Integrity = 6,
    /// Not now: nobody answers, or the gateway cannot work at the moment. The same can succeed later.
    Unavailable = 7,
}

impl Exit {
    /// Every code with what it means, in their order.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Denied,
        Self::Unauthenticated,
        Self::State,
        Self::Integrity,
        Self::Unavailable,
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code for what the gateway refused.
    pub const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Malformed | ErrorKind::TooLarge | ErrorKind::Unsupported => Self::Usage,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::KeyState
            | ErrorKind::BudgetExhausted
            | ErrorKind::Stopped => Self::State,
            ErrorKind::Integrity => Self::Integrity,
            ErrorKind::Throttled
            | ErrorKind::Deadline
            | ErrorKind::KeyStoreUnavailable
            | ErrorKind::StateUnavailable
            | ErrorKind::AuditUnavailable
            | ErrorKind::Sealed => Self::Unavailable,
            ErrorKind::Internal => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document is what scripts are written by.
    #[test]
    fn the_document_names_every_code() {
        let document = include_str!("../../../docs/cli.md");
        for exit in Exit::ALL {
            assert!(document.contains(&format!("| {} |", exit.code())), "{exit:?}");
        }
    }
}
