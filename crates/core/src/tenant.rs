//! A tenant's own records: itself, its trust anchors, its policy.

use crate::caller::CallerRecord;
use crate::id::{CallerName, Epoch, MemberName, TenantId};
use crate::key::SealedHandle;
use crate::port::Absence;
use crate::retention::Retention;
use crate::sealing_key::SealingKeys;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its name.
    pub id: TenantId,
    /// Whether a custodian has stopped everything.
    pub suspended: bool,
    /// What its keys are sealed under; `None` for the gateway itself, which has none.
    pub handle: Option<SealedHandle>,
    /// How that has changed.
    pub sealing: SealingKeys,
    /// Of the gateway itself: the commit that its newest backup holds.
    pub backed_up: Option<u64>,
    /// Of the gateway itself: the newest backups that it has written, at most [`TakenBackup::MAX_REMEMBERED`], the newest last.
    pub backups: Vec<TakenBackup>,
    /// Of the gateway itself: the newest commit that a backup holds which somebody has opened and read to its end.
    pub verified: Option<u64>,
    /// For how long its log keeps entries; `None` for ever.
    pub retention: Option<Retention>,
    /// Of the gateway itself: the time that was held when a jump of the clock was noticed which nobody has confirmed yet.
    pub clock_held: Option<Timestamp>,
    /// Of the gateway itself: members of the key store's pool that are out until an operator lets them in.
    pub out: BTreeMap<MemberName, Absence>,
    /// Of the gateway itself: whoever has been a member of the key store's pool, and of one that is missing in it the newest commit when that was
    /// found out: what was made until then may lie there.
    pub members: BTreeMap<MemberName, Option<u64>>,
    /// Of the gateway itself: for how many seconds it has been up in all while some key waited to be destroyed, as far as that was counted.
    pub up: u64,
    /// Of the gateway itself: the newest generation of shares of its root key that its log has recorded; `None` where none ever was.
    pub shares: Option<u32>,
    /// When it was created.
    pub created: Timestamp,
    /// How often its record, callers, anchors or policy have been written.
    pub epoch: Epoch,
}

/// A backup that was written, as the gateway remembers it. Whether it is still somewhere the gateway cannot know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBackup {
    /// Its file's name.
    pub name: Box<str>,
    /// The commit that it holds.
    pub commit: u64,
    /// When it was ordered.
    pub taken: Timestamp,
    /// Until when it is kept, as the configuration said then; `None` where it said nothing.
    pub expires: Option<Timestamp>,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

impl TakenBackup {
    /// How many are remembered.
    pub const MAX_REMEMBERED: usize = 100;
}

/// A certificate authority that a tenant trusts to name its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// What custodians call it.
    pub name: CallerName,
    /// The authority's certificate, DER.
    pub certificate: Arc<[u8]>,
    /// Its revocation list, DER, if it has one. With one, a certificate whose status it does not tell is refused.
    pub revocations: Option<Arc<[u8]>>,
}

/// One version of a tenant's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVersion {
    /// From 1, without gaps.
    pub version: u64,
    /// The policies, in Cedar.
    pub text: Arc<str>,
    /// Who set it.
    pub author: CallerName,
    /// When.
    pub set: Timestamp,
}

/// What the snapshot holds of a tenant.
#[derive(Debug, Clone)]
pub struct TenantData {
    /// Its record.
    pub record: TenantRecord,
    /// Its callers, by name.
    pub callers: Vec<Arc<CallerRecord>>,
    /// Its trust anchors, by name.
    pub anchors: Vec<Anchor>,
    /// The policy in force.
    pub policy: PolicyVersion,
}
