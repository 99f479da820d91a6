//! Why a volume has no files, as the driver and whoever reads its metrics see it.

use holdfast_core::ErrorKind;

/// A reason: what its reader will do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request is not as the driver makes it.
    InvalidRequest,
    /// The SecretProviderClass is wrong.
    InvalidObjects,
    /// The pod's token for the gateway is not there.
    NoToken,
    /// The gateway does not know the pod by its token.
    UnknownCaller,
    /// The tenant's policy does not let the pod.
    NotPermitted,
    /// The key is in no state to open it, or is not there.
    KeyUnusable,
    /// Somebody has stopped the key, the caller, the tenant or the gateway.
    Stopped,
    /// It does not open: another key or context, or damaged.
    DoesNotOpen,
    /// It is more than the driver takes.
    TooLarge,
    /// A defect, or settings of the provider that are wrong.
    Failed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::InvalidRequest,
        Self::InvalidObjects,
        Self::NoToken,
        Self::UnknownCaller,
        Self::NotPermitted,
        Self::KeyUnusable,
        Self::Stopped,
        Self::DoesNotOpen,
        Self::TooLarge,
        Self::Failed,
    ];

    /// The code that the driver gets.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "InvalidRequest",
            Self::InvalidObjects => "InvalidObjects",
            Self::NoToken => "NoToken",
            Self::UnknownCaller => "UnknownCaller",
            Self::NotPermitted => "NotPermitted",
            Self::KeyUnusable => "KeyUnusable",
            Self::Stopped => "Stopped",
            Self::DoesNotOpen => "DoesNotOpen",
            Self::TooLarge => "TooLarge",
            Self::Failed => "Failed",
        }
    }

    /// The reason of a kind of error; `None` for what passes by itself, which the driver is to ask again.
    pub const fn of(kind: ErrorKind) -> Option<Self> {
        Some(match kind {
            ErrorKind::Malformed | ErrorKind::Unsupported => Self::InvalidObjects,
            ErrorKind::TooLarge => Self::TooLarge,
            ErrorKind::Integrity => Self::DoesNotOpen,
            ErrorKind::NotFound | ErrorKind::KeyState | ErrorKind::BudgetExhausted => Self::KeyUnusable,
            ErrorKind::Stopped | ErrorKind::Sealed => Self::Stopped,
            ErrorKind::Unauthenticated => Self::UnknownCaller,
            ErrorKind::Denied => Self::NotPermitted,
            ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Internal => Self::Failed,
            ErrorKind::Throttled
            | ErrorKind::Deadline
            | ErrorKind::KeyStoreUnavailable
            | ErrorKind::StateUnavailable
            | ErrorKind::AuditUnavailable => return None,
        })
    }
}
