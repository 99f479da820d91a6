//! What a peer shows of itself: a connection's certificate chain, a token, or nothing.

use crate::caller::Authentication;
use crate::id::{TenantId, TokenId};
use crate::port::Identified;
use crate::secret::Secret;
use crate::time::Timestamp;
use aws_lc_rs::hmac;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// For how long a refusal is remembered, in ticks: a certificate may become valid, and whoever was refused must not learn of a change much later
/// than others do.
const REFUSED_TICKS: u64 = 5_000_000;

/// How many tenants' refusals of one connection are remembered.
const MAX_REFUSALS: usize = 8;

/// A live connection's certificate chain. TLS has shown that the peer holds the first certificate's private key, and nothing more: whether
/// anybody vouches for it is decided per request, so that a change of anchors, revocation lists or callers reaches live connections.
#[derive(Debug)]
pub struct Peer {
    chain: Vec<Box<[u8]>>,
    /// What was found when the chain was last examined: looking at it for every request would cost a signature check each.
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    proven: Option<Proven>,
    /// Where it proved nothing. Whoever shows a chain has made it, and may have made one that takes long to examine.
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct Proven {
    tenant: TenantId,
    generation: u64,
    identified: Identified,
}

#[derive(Debug)]
struct Refused {
    tenant: TenantId,
    generation: u64,
    /// When, on the clock that never steps back.
    ticks: u64,
}

impl Refused {
    fn holds(&self, ticks: u64) -> bool {
        ticks.saturating_sub(self.ticks) < REFUSED_TICKS
    }
}

impl Peer {
    /// A connection on which this chain was shown, the peer's own certificate first, each in DER.
    pub fn new(chain: Vec<Box<[u8]>>) -> Self {
        Self { chain, remembered: Mutex::default() }
    }

    /// The chain.
    pub fn chain(&self) -> &[Box<[u8]>] {
        &self.chain
    }

    /// What the chain was found to prove to this tenant within this generation of its snapshot, if that still holds.
    pub(crate) fn recall(&self, tenant: &TenantId, generation: u64, now: Timestamp) -> Option<Identified> {
        let guard = self.remembered();
        let found = guard.proven.as_ref()?;
        let current =
            found.generation == generation && found.tenant == *tenant && now < found.identified.valid_until;
        current.then(|| found.identified.clone())
    }

    /// Whether it need not be examined, since it was just now, and proved nothing to this tenant within this generation, or to so many others that it is
    /// examined for nobody for a while.
    pub(crate) fn is_refused(&self, tenant: &TenantId, generation: u64, ticks: u64) -> bool {
        let guard = self.remembered();
        let mut holding = guard.refused.iter().filter(|refused| refused.holds(ticks));
        let of_others = |refused: &&Refused| refused.tenant != *tenant;
        holding.clone().filter(of_others).count() >= MAX_REFUSALS
            || holding.any(|refused| refused.generation == generation && refused.tenant == *tenant)
    }

    /// Remembers what it was found to prove.
    pub(crate) fn remember(&self, tenant: &TenantId, generation: u64, identified: &Identified) {
        let found = Proven { tenant: tenant.clone(), generation, identified: identified.clone() };
        self.remembered().proven = Some(found);
    }

    /// Remembers that it proved nothing.
    pub(crate) fn remember_refusal(&self, tenant: &TenantId, generation: u64, ticks: u64) {
        let mut guard = self.remembered();
        guard.refused.retain(|refused| refused.holds(ticks) && refused.tenant != *tenant);
        // Requests at the same time may each have found room; the last of them are examined again.
        if guard.refused.len() < MAX_REFUSALS {
            guard.refused.push(Refused { tenant: tenant.clone(), generation, ticks });
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request signed by AWS Signature Version 4, taken apart and not yet examined.
#[derive(Debug)]
pub struct SignedRequest {
    /// Whose secret signed it, so it says.
    pub token: TokenId,
    /// What the secret was narrowed to, in its order: date, region, service, `aws4_request`.
    pub scope: [Box<str>; 4],
    /// When it was signed, so it says.
    pub signed_at: Timestamp,
    /// The string to sign.
    pub signed: Vec<u8>,
    /// HMAC-SHA-256 of it.
    pub signature: [u8; 32],
}

impl SignedRequest {
    /// For how many seconds on either side of its time a request is taken: what is caught on the way can be sent again as long.
    pub const WINDOW_SECONDS: u64 = 300;

    /// Whether it was signed at about this time.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.seconds().abs_diff(self.signed_at.seconds()) <= Self::WINDOW_SECONDS
    }

    /// What a secret, used as its text, is narrowed to by the parts of a scope in their order: the key of all signatures within it.
    pub fn narrow(secret: &Secret, scope: &[Box<str>; 4]) -> hmac::Key {
        let mut start = Secret::new(Vec::with_capacity(4_usize.saturating_add(secret.len())));
        start.expose_mut().extend_from_slice(b"AWS4");
        start.expose_mut().extend_from_slice(secret.expose());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, start.expose());
        for part in scope {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        key
    }

    /// The signature of a string to sign.
    pub fn sign(narrowed: &hmac::Key, signed: &[u8]) -> [u8; 32] {
        let mut signature = [0; 32];
        signature.copy_from_slice(hmac::sign(narrowed, signed).as_ref());
        signature
    }
}

/// What a token of an issuer (a JSON Web Token, RFC 7519) says of its bearer. Its signature, issuer and audience have been examined; who it
/// is, and whether it is valid at a given time, has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    issuer: Box<str>,
    subject: Option<Box<str>>,
    valid_from: Timestamp,
    valid_until: Timestamp,
}

impl IssuedToken {
    /// A token that was examined. Called by `holdfast-identity` alone, which examines them: what makes one of these is believed.
    pub fn examined(
        issuer: Box<str>,
        subject: Option<Box<str>>,
        (valid_from, valid_until): (Timestamp, Timestamp),
    ) -> Self {
        Self { issuer, subject, valid_from, valid_until }
    }

    /// Who issued it, as its `iss` says.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom it is about, as its `sub` says, if it does.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The first moment at which it is valid, the tolerance for clocks that differ included.
    pub fn valid_from(&self) -> Timestamp {
        self.valid_from
    }

    /// The first moment at which it is valid no more, the tolerance included.
    pub fn valid_until(&self) -> Timestamp {
        self.valid_until
    }
}

/// A provider's client certificate, which the operator's configuration expects by its common name and its authority, and no tenant registers: providers change
/// it on their own. Authority and name have been examined; whether it is valid at a given time has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderCertificate {
    key_hash: [u8; 32],
    name: Box<str>,
    valid_from: Timestamp,
    valid_until: Timestamp,
}

impl ProviderCertificate {
    /// A certificate that was examined: SHA-256 of its public key, its common name, and when it is valid. Called by `holdfast-identity` alone: what makes one
    /// of these is believed.
    pub fn examined(
        key_hash: [u8; 32],
        name: Box<str>,
        (valid_from, valid_until): (Timestamp, Timestamp),
    ) -> Self {
        Self { key_hash, name, valid_from, valid_until }
    }

    /// How whoever shows it is authenticated at this time, if they are.
    pub(crate) fn authentication(&self, now: Timestamp) -> Option<Authentication> {
        let matched = || format!("cn:{}", self.name).into_boxed_str();
        (self.valid_from <= now && now < self.valid_until)
            .then(|| Authentication::MutualTls { key_hash: Some(self.key_hash), matched: matched() })
    }
}

/// A proof of identity, not yet examined.
#[derive(Debug)]
pub enum Proof<'a> {
    /// A connection with a client certificate.
    Certificate(&'a Peer),
    /// A bearer token.
    Bearer {
        /// Its public half.
        id: TokenId,
        /// Its secret half.
        secret: Secret,
    },
    /// A request that is signed as a whole.
    Signed(&'a SignedRequest),
    /// A token of an issuer that the operator has configured.
    Issued(&'a IssuedToken),
    /// A provider's certificate, at a door of its own: [`Inbound::only`](crate::pipeline::Inbound::only) says as whom it comes.
    Provider(&'a ProviderCertificate),
    /// None, at a door that is open to everybody for what is public: [`Inbound::only`](crate::pipeline::Inbound::only) says as whose it is read.
    Open,
    /// None at all.
    None,
}
