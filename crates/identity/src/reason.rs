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
    /// The certificate or token has expired, or the certificate is not valid yet.
    Expired,
    /// The token is not valid yet.
    NotYetValid,
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
    /// The certificate or token cannot be parsed, or lacks what it must say.
    Malformed,
    /// The token is of no issuer that is configured, or of none that is expected here.
    OtherIssuer,
    /// The token is for somebody else.
    OtherAudience,
    /// The token is signed in a way that its issuer does not sign in.
    OtherAlgorithm,
    /// The token is signed with a key that its issuer is not known to have.
    UnknownKey,
    /// No keys of the token's issuer are known, or only such as are too old.
    NoKeys,
    /// The token is not signed by who it says.
    BadSignature,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::NoProof,
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::StatusUnknown,
        Self::OtherPurpose,
        Self::OtherAnchor,
        Self::Ambiguous,
        Self::Malformed,
        Self::NotYetValid,
        Self::OtherIssuer,
        Self::OtherAudience,
        Self::OtherAlgorithm,
        Self::UnknownKey,
        Self::NoKeys,
        Self::BadSignature,
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
            Self::NotYetValid => "not-yet-valid",
            Self::OtherIssuer => "other-issuer",
            Self::OtherAudience => "other-audience",
            Self::OtherAlgorithm => "other-algorithm",
            Self::UnknownKey => "unknown-key",
            Self::NoKeys => "no-keys",
            Self::BadSignature => "bad-signature",
        }
    }

    /// The one error that all of them give.
    pub fn refuse(self) -> Error {
        Error::new(ErrorKind::Unauthenticated, Stage::Identify, "the caller is not known here").because(self)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Reason {}
