//! Emergency copies of keys: the request for them, what custodians give, what is in force.

use super::request;
use crate::native::field::{Bounded, Bytes, DurabilityWord, List, Name, ReasonText, Time, VersionNumber};
use holdfast_core::emergency::{CopyState, InForce, MAX_SECONDS, OpenRequest, SealedShare};
use holdfast_core::{CallerName, KeyName, emergency};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

request! {
    /// Asks custodians to allow the use of a key's emergency copies.
    pub struct RequestCopy {
        required {
            /// For how long, from when enough of them have allowed it.
            seconds: Bounded<1, { MAX_SECONDS }>,
            /// Why; it stands in the log.
            reason: ReasonText,
        }
        optional {
            /// The copies of these versions alone; left out, of the newest 16.
            versions: List<VersionNumber>,
        }
    }
}

impl RequestCopy {
    pub(crate) fn into_request(self, key: KeyName) -> emergency::RequestCopy {
        let Self { seconds, reason, versions } = self;
        let versions = versions.map(|list| list.0).unwrap_or_default();
        emergency::RequestCopy {
            key,
            seconds: seconds.0,
            reason: reason.0,
            versions: versions.into_iter().map(|version| version.0).collect(),
        }
    }
}

request! {
    /// Gives a custodian's shares of the copies that are asked for.
    pub struct ApproveCopy {
        required {
            /// The shares, one behind the other, as an age file for the request's recipient.
            shares: Bytes,
        }
        optional {}
    }
}

/// How it stands with a key's emergency copies.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct EmergencyCopy {
    /// The key.
    pub key: Name<KeyName>,
    /// The request that waits for custodians, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<CopyRequest>,
    /// The copies that work where no member of the pool can, if any do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<CopyInForce>,
    /// Whether this outlasts a loss of power, of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<DurabilityWord>,
}

/// A request that waits for custodians.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CopyRequest {
    /// The `age1…` line of the request's own key: shares are given encrypted to it.
    pub recipient: String,
    /// What that key is recognised by; the gateway's console shows it too.
    pub fingerprint: String,
    /// For how long the copies will be in force.
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// Until when the request waits.
    pub expires: Time,
    /// The versions that it is for.
    pub versions: Vec<VersionNumber>,
    /// How many custodians it takes.
    pub threshold: u8,
    /// Those who have allowed it so far.
    pub approved: Vec<Name<CallerName>>,
    /// The shares as they lie with the copies, each encrypted to its custodian.
    pub shares: Vec<CopyShare>,
}

/// A custodian's share of the copy of one version.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CopyShare {
    /// Whose it is.
    pub custodian: Name<CallerName>,
    /// Of which version's copy.
    pub version: VersionNumber,
    /// An age file.
    pub share: Bytes,
}

/// Emergency copies in force.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CopyInForce {
    /// The versions.
    pub versions: Vec<VersionNumber>,
    /// Since when.
    pub since: Time,
    /// Until when.
    pub until: Time,
    /// Those who have allowed it.
    pub approved: Vec<Name<CallerName>>,
}

impl EmergencyCopy {
    /// As the key store has it.
    pub(crate) fn new(key: KeyName, state: CopyState, durability: Option<DurabilityWord>) -> Self {
        let CopyState { request, in_force } = state;
        let (request, in_force) = (request.map(CopyRequest::new), in_force.map(CopyInForce::new));
        Self { key: Name(key), request, in_force, durability }
    }
}

impl CopyRequest {
    fn new(request: OpenRequest) -> Self {
        let OpenRequest {
            recipient,
            fingerprint,
            seconds,
            reason,
            expires,
            versions,
            threshold,
            approved,
            shares,
        } = request;
        let share = |SealedShare { custodian, version, share }| CopyShare {
            custodian: Name(custodian),
            version: VersionNumber(version),
            share: Bytes(share.into_vec()),
        };
        Self {
            recipient: recipient.into(),
            fingerprint: fingerprint.into(),
            seconds,
            reason: reason.into(),
            expires: Time(expires),
            versions: versions.into_iter().map(VersionNumber).collect(),
            threshold,
            approved: approved.into_iter().map(Name).collect(),
            shares: shares.into_iter().map(share).collect(),
        }
    }
}

impl CopyInForce {
    fn new(in_force: InForce) -> Self {
        let InForce { versions, since, until, approved } = in_force;
        Self {
            versions: versions.into_iter().map(VersionNumber).collect(),
            since: Time(since),
            until: Time(until),
            approved: approved.into_iter().map(Name).collect(),
        }
    }
}
