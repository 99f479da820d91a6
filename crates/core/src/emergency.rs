//! The emergency copy of a key: what lets work go on in software when no member of the pool is left, if custodians allow it at that moment.
//!
//! Only a key that was created with one has it, each of its versions one of its own. It opens nothing until enough custodians have given their
//! shares for a request, and then for some hours, in memory alone.

use crate::id::{CallerName, KeyName, KeyVersion};
use crate::time::Timestamp;
use core::fmt::Write as _;

/// The longest that a copy may be in force, in seconds: three days.
pub const MAX_SECONDS: u64 = 72 * 3600;

/// For how long a request waits for its custodians, in seconds: an hour.
pub const REQUEST_SECONDS: u64 = 3600;

/// The most versions of one key that one request is for.
pub const MAX_VERSIONS: usize = 16;

/// The most bytes of what a custodian gives for a request: an age file.
pub const MAX_SHARES: usize = 12 << 10;

/// The most characters of a reason.
pub const MAX_REASON: usize = 200;

/// Asks custodians to allow the use of a key's copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestCopy {
    /// The key.
    pub key: KeyName,
    /// For how long, in seconds from when enough have allowed it; at most [`MAX_SECONDS`].
    pub seconds: u64,
    /// Why: it stands in the log.
    pub reason: Box<str>,
    /// The copies of these versions alone; of none: of the newest [`MAX_VERSIONS`] that are not destroyed.
    pub versions: Vec<KeyVersion>,
}

impl RequestCopy {
    /// What it is about, as its event says it.
    pub fn subject(&self) -> Box<str> {
        let Self { key: _, seconds, reason, versions } = self;
        let mut text = format!("for {seconds} s");
        for (index, version) in versions.iter().enumerate() {
            let _always = write!(text, "{}{version}", if index == 0 { ", versions " } else { " " });
        }
        let _always = write!(text, ": {reason}");
        text.into()
    }
}

/// A custodian's share of the copy of one version, encrypted to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedShare {
    /// Whose it is.
    pub custodian: CallerName,
    /// Of which version's copy.
    pub version: KeyVersion,
    /// An age file.
    pub share: Box<[u8]>,
}

/// A request that waits for custodians.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// The `age1…` line of a key that lives in the gateway's memory for this request alone: shares are given encrypted to it.
    pub recipient: Box<str>,
    /// What that key is recognised by; the gateway's console shows it too.
    pub fingerprint: Box<str>,
    /// For how long the copies will be in force, in seconds.
    pub seconds: u64,
    /// Why.
    pub reason: Box<str>,
    /// Until when the request waits.
    pub expires: Timestamp,
    /// The versions that it is for.
    pub versions: Vec<KeyVersion>,
    /// How many custodians it takes.
    pub threshold: u8,
    /// Those who have allowed it so far.
    pub approved: Vec<CallerName>,
    /// The shares, as they lie with the copies.
    pub shares: Vec<SealedShare>,
}

/// Copies that are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The versions.
    pub versions: Vec<KeyVersion>,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Those who have allowed it.
    pub approved: Vec<CallerName>,
}

/// How it stands with a key's copies. Nothing of it outlasts the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyState {
    /// The request that waits, if one does.
    pub request: Option<OpenRequest>,
    /// What is in force, if anything is.
    pub in_force: Option<InForce>,
}

/// Copies of a key that enough custodians have opened, and that are not in force yet: by the request that it came of, of all since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedCopy(u64);

impl OpenedCopy {
    /// Those of the request with this number.
    pub const fn new(request: u64) -> Self {
        Self(request)
    }
}

/// What came of a custodian's shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// How it stands once that is recorded: what is open then is in force.
    pub state: CopyState,
    /// What its record puts in force; none while it takes more custodians.
    pub opened: Option<OpenedCopy>,
}

impl CopyState {
    /// What came of somebody's shares, as its event says it.
    pub fn subject(&self) -> Box<str> {
        let names =
            |names: &[CallerName]| names.iter().map(CallerName::as_str).collect::<Vec<_>>().join(", ");
        match (&self.request, &self.in_force) {
            (Some(request), _) => {
                let OpenRequest { approved, threshold, .. } = request;
                format!("{} of {threshold} custodians: {}", approved.len(), names(approved)).into()
            }
            (None, Some(InForce { until, approved, .. })) => {
                format!("in force until {until}: {}", names(approved)).into()
            }
            (None, None) => "nothing".into(),
        }
    }
}
