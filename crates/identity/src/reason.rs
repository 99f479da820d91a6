//! Why somebody was not recognised: for the log alone.

use core::fmt;
use holdfast_core::{Error, ErrorKind, Stage};

/// Why a proof of identity was refused. A peer learns none of this: every refusal looks the same from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No proof was shown.
    NoProof,
    /// The proof is of nobody who is registered.
    Unknown,
    /// The certificate or token has expired, or is not valid yet.
    Expired,
    /// The certificate, or one between it and its trust anchor, was revoked.
    Revoked,
    /// Whether it was revoked cannot be told: the anchor's revocation list has run out, or says nothing of it.
    StatusUnknown,
    /// The certificate is not one for clients (RFC 5280 §4.2.1.12).
    OtherPurpose,
    /// The certificate comes from no trust anchor of this tenant.
    OtherAnchor,
    /// The proof fits more than one caller.
    Ambiguous,
    /// The certificate cannot be parsed.
    Malformed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NoProof,
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::StatusUnknown,
        Self::OtherPurpose,
        Self::OtherAnchor,
        Self::Ambiguous,
        Self::Malformed,
    ];

    /// Its name in the daemon's log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoProof => "no-proof",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::StatusUnknown => "status-unknown",
            Self::OtherPurpose => "other-purpose",
            Self::OtherAnchor => "other-anchor",
            Self::Ambiguous => "ambiguous",
            Self::Malformed => "malformed",
        }
    }

    /// The one error that all of them give.
    pub(crate) fn refuse(self) -> Error {
        Error::new(ErrorKind::Unauthenticated, Stage::Identify, "the caller is not known here").because(self)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Reason {}
