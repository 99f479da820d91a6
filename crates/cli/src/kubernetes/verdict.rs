//! What it means that the gateway gave no result.

use holdfast_core::ErrorKind;
use holdfast_sdk::{Cause, Error};
use holdfast_wire::kubernetes::grpc::Code;
use holdfast_wire::kubernetes::{Refused, code};

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The gateway was not reached, or cannot work now: ask again, and what is leased may be given meanwhile.
    Lost,
    /// Somebody has stopped the caller, the tenant or the gateway: nothing that is leased is given any more.
    Stopped,
    /// The key is in no state for it, or one version of it alone: the key has to be looked at.
    Unfit,
    /// This request is refused, which says nothing of others.
    Refused,
}

impl Verdict {
    /// Of a failure.
    pub(crate) fn of(error: &Error) -> Self {
        match (error.cause(), error.kind()) {
            (Cause::Problem(_), Some(kind)) => Self::of_kind(kind),
            (Cause::Problem(_) | Cause::Settings | Cause::Local | Cause::Integrity, _) => Self::Refused,
            // A load balancer before a gateway that is down answers in its own words; whoever is not trusted is not the gateway.
            (Cause::Unreachable | Cause::Timeout | Cause::Untrusted | Cause::Unintelligible, _) => Self::Lost,
        }
    }

    /// Whether a refusal says that the key cannot be used. A defect on either side, or a setting here, says nothing of it.
    pub(crate) fn is_of_the_key(error: &Error) -> bool {
        matches!(error.cause(), Cause::Integrity) || error.kind().is_some_and(Self::is_of_kind)
    }

    fn is_of_kind(kind: ErrorKind) -> bool {
        matches!(
            kind,
            ErrorKind::KeyState | ErrorKind::Unsupported | ErrorKind::BudgetExhausted | ErrorKind::Integrity
        )
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Throttled
            | ErrorKind::Deadline
            | ErrorKind::KeyStoreUnavailable
            | ErrorKind::StateUnavailable
            | ErrorKind::AuditUnavailable => Self::Lost,
            // To seal a gateway is an order too; after a start it waits for the same custodians.
            ErrorKind::Unauthenticated
            | ErrorKind::Denied
            | ErrorKind::NotFound
            | ErrorKind::Stopped
            | ErrorKind::Sealed => Self::Stopped,
            ErrorKind::KeyState => Self::Unfit,
            ErrorKind::Malformed
            | ErrorKind::TooLarge
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::Unsupported
            | ErrorKind::Integrity
            | ErrorKind::BudgetExhausted
            | ErrorKind::Internal => Self::Refused,
        }
    }
}

/// The same in the protocol's words.
pub(crate) fn refused(error: &Error) -> Refused {
    let code = match (error.cause(), error.kind()) {
        (Cause::Problem(_), Some(kind)) => code(kind),
        (Cause::Unreachable | Cause::Untrusted | Cause::Unintelligible, _) => Code::Unavailable,
        (Cause::Timeout, _) => Code::DeadlineExceeded,
        (Cause::Problem(_) | Cause::Settings | Cause::Local | Cause::Integrity, _) => Code::Internal,
    };
    let words = match error.operation() {
        Some(operation) => format!("{error}; {}; operation {operation}", error.remedy()),
        None => format!("{error}; {}", error.remedy()),
    };
    Refused::new(code, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is leased is given for no refusal of the gateway's own but that it cannot work now.
    #[test]
    fn each_kind_has_its_verdict() {
        let of = |verdict| {
            let all = ErrorKind::ALL.into_iter().filter(|kind| Verdict::of_kind(*kind) == verdict);
            all.map(ErrorKind::code).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            of(Verdict::Lost),
            "throttled deadline key-store-unavailable state-unavailable audit-unavailable"
        );
        assert_eq!(of(Verdict::Stopped), "unauthenticated denied not-found stopped sealed");
        assert_eq!(of(Verdict::Unfit), "key-state");
    }

    /// Whatever else a look is told, what is known stays known within its lease.
    #[test]
    fn a_defect_stops_no_key() {
        let of = |kind| Verdict::is_of_kind(kind);
        let all = ErrorKind::ALL.into_iter().filter(|kind| of(*kind));
        let all = all.map(ErrorKind::code).collect::<Vec<_>>().join(" ");
        assert_eq!(all, "key-state unsupported integrity budget-exhausted");
    }
}
