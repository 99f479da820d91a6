//! Who asks.

use crate::caller::{Authentication, CallerRecord};
use crate::error::Error;
use crate::id::TokenId;
use crate::peer::Proof;
use crate::secret::Secret;
use crate::tenant::Anchor;
use crate::time::Timestamp;
use std::sync::Arc;

/// Who asks. Pure: registrations and `now` are arguments.
pub trait Identify: Send + Sync + 'static {
    /// One tenant's callers and trust anchors, indexed for look-ups. Lives as long as one snapshot of the tenant.
    type Prepared: Send + Sync + 'static;

    /// Indexes a tenant's registrations.
    ///
    /// # Errors
    /// `malformed` for an anchor that cannot be parsed or a credential that two callers share.
    fn prepare(&self, callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> Result<Self::Prepared, Error>;

    /// Whether an anchor may take the place of the one of its name. MUST refuse one that brings an older revocation list of the same
    /// authority, or none where there was one: who was revoked would be let in again.
    ///
    /// # Errors
    /// `conflict` for such a one; `malformed` for a list that cannot be parsed.
    fn replace(&self, before: &Anchor, after: &Anchor) -> Result<(), Error>;

    /// The secret half of a [signing](crate::caller::TokenForm::Signing) token: printable, the same each time for one id, and not to be guessed from
    /// others.
    ///
    /// # Errors
    /// `internal`, when the cryptographic library fails.
    fn signing_secret(&self, id: TokenId) -> Result<Secret, Error>;

    /// Recognises a caller. MUST refuse a proof that fits two callers, that has expired or been revoked, or that comes from
    /// another tenant's trust anchor. MUST NOT tell by its error, nor by how long it takes, which of these it was.
    ///
    /// # Errors
    /// `unauthenticated`.
    fn identify(
        &self,
        prepared: &Self::Prepared,
        proof: &Proof<'_>,
        now: Timestamp,
    ) -> Result<Identified, Error>;
}

/// Somebody recognised.
#[derive(Debug, Clone)]
pub struct Identified {
    /// The registration.
    pub record: Arc<CallerRecord>,
    /// How it was recognised.
    pub authentication: Authentication,
    /// Until when the same proof need not be examined again within the same snapshot: certificate, revocation list or token expiry.
    pub valid_until: Timestamp,
}
