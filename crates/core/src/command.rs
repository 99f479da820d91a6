//! What changes the state: every command, and what it answers.

use crate::action::Action;
use crate::adoption::AdoptKey;
use crate::algorithm::{Algorithm, Purpose};
use crate::archive::UnarchiveKey;
use crate::caller::{CallerRecord, TokenForm};
use crate::emergency::{CopyState, RequestCopy};
use crate::id::{CallerName, Epoch, KeyName, KeyVersion, MemberName, TenantId, TokenId};
use crate::import::{BeginImport, FinishImport};
use crate::inventory::TakenInventory;
use crate::key::{Key, Labels, Legacy, Version};
use crate::lifecycle::{Transition, VersionVerb};
use crate::port::{Archived, Finding, Membership};
use crate::protocol::Protocol;
use crate::retention::Retention;
use crate::schedule::RotationPeriod;
use crate::secret::Secret;
use crate::tenant::Anchor;
use crate::time::Timestamp;
use std::sync::Arc;

/// A key to be created.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name.
    pub name: KeyName,
    /// Its algorithm; the key store's default unless told.
    pub algorithm: Option<Algorithm>,
    /// What it is for; the algorithm's first purpose unless told.
    pub purpose: Option<Purpose>,
    /// Whether its material may ever leave custody.
    pub exportable: bool,
    /// Legacy operations that it shall be able to do.
    pub legacy: Legacy,
    /// Its labels.
    pub labels: Labels,
    /// Whether it starts unused, to be activated later.
    pub prepared: bool,
    /// Whether each of its versions has an emergency copy.
    pub emergency_copy: bool,
    /// The one protocol that it shall work through; every one that takes such keys unless told.
    pub protocol: Option<Protocol>,
}

/// A tenant to be created, with those who will own it.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Its name.
    pub tenant: TenantId,
    /// Its first callers; at least one custodian.
    pub callers: Vec<CallerRecord>,
    /// Its first trust anchors.
    pub anchors: Vec<Anchor>,
    /// Its first policy; custodians administer and auditors read unless told.
    pub policy: Option<Arc<str>>,
}

/// A backup that somebody has opened and read to its end, and what shows that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBackup {
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
    /// The file's length.
    pub bytes: u64,
    /// The commit of the state that it holds.
    pub commit: u64,
    /// What nobody can make who has not had the root key that came with it.
    pub proof: [u8; 32],
}

/// One change that somebody orders.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create a key with its first version.
    CreateKey(NewKey),
    /// Make the import key of a key whose material will come from outside.
    BeginImport(BeginImport),
    /// Take the material.
    FinishImport(FinishImport),
    /// Take a key that another program made in the token.
    AdoptKey(AdoptKey),
    /// Write an archive of a key; its material stays until that is known to open.
    ArchiveKey(KeyName),
    /// Leave a key's material to its archive.
    ConfirmArchive {
        /// The key.
        key: KeyName,
        /// What stands in the archive.
        code: [u8; 32],
    },
    /// Take a key's material back from its archive.
    UnarchiveKey(UnarchiveKey),
    /// Make a new version, which new work takes from then on.
    RotateKey(KeyName),
    /// Give new work back to the newest active version before the one that it takes.
    RollBackKey(KeyName),
    /// Move a version of a key to another state.
    TransitionVersion {
        /// The key.
        key: KeyName,
        /// The version.
        version: KeyVersion,
        /// The verb.
        verb: VersionVerb,
        /// Whether it is done although no inventory says that the version is not needed.
        without_inventory: bool,
    },
    /// Record what of a key's versions is still needed.
    RecordInventory {
        /// The key.
        key: KeyName,
        /// What was found.
        taken: TakenInventory,
    },
    /// Say how often a key is rotated by itself.
    ScheduleKey {
        /// The key.
        key: KeyName,
        /// How old its newest version may become; `None` for as old as it likes.
        period: Option<RotationPeriod>,
    },
    /// Replace a key's labels.
    LabelKey {
        /// The key.
        key: KeyName,
        /// All of its labels.
        labels: Labels,
        /// The epoch that the author read, if they care.
        expected: Option<Epoch>,
    },
    /// Move a key to another state.
    TransitionKey {
        /// The key.
        key: KeyName,
        /// The verb.
        verb: Transition,
    },
    /// Put a prepared key into use, or a version that waits until a verified backup holds it.
    ActivateKey {
        /// The key.
        key: KeyName,
        /// Whether it is done although no verified backup holds it.
        unprotected: bool,
    },
    /// Ask custodians to allow the use of a key's emergency copies.
    RequestCopy(RequestCopy),
    /// Give a custodian's shares for that.
    ApproveCopy {
        /// The key.
        key: KeyName,
        /// The shares, an age file for the request's own recipient.
        shares: Arc<[u8]>,
    },
    /// End the use of a key's emergency copies, and a request for it.
    EndCopy(KeyName),
    /// Register a caller, or change an earlier registration (its kind stays; its tokens stay).
    PutCaller(CallerRecord),
    /// Stop a caller.
    SuspendCaller(CallerName),
    /// Let a caller call again.
    ResumeCaller(CallerName),
    /// Remove a caller.
    RemoveCaller(CallerName),
    /// Issue a token.
    IssueToken {
        /// For whom.
        caller: CallerName,
        /// For how long, in seconds; at most [`longest_token`] of its form.
        seconds: u64,
        /// How its secret half is used.
        form: TokenForm,
    },
    /// Revoke a token.
    RevokeToken {
        /// Whose.
        caller: CallerName,
        /// Which.
        token: TokenId,
    },
    /// Trust a certificate authority, or replace its revocation list.
    PutAnchor(Anchor),
    /// Trust one no longer.
    RemoveAnchor(CallerName),
    /// Replace the policy.
    SetPolicy {
        /// The policies, in Cedar.
        text: Arc<str>,
        /// The version that the author read, if they care.
        expected: Option<u64>,
    },
    /// Put an earlier version of the policy in force again, as a new version.
    RestorePolicy {
        /// Which.
        version: u64,
        /// The version that the author read, if they care.
        expected: Option<u64>,
    },
    /// Stop everything of the tenant.
    SuspendTenant,
    /// Lift that.
    ResumeTenant,
    /// Say for how long the log keeps its entries; `None` for ever.
    SetRetention(Option<Retention>),
    /// Create a tenant.
    CreateTenant(NewTenant),
    /// Write an encrypted backup to the place that the configuration names, for the recipients that it names.
    BackUp,
    /// Record that a backup was opened and read to its end: from then on it protects what it holds.
    VerifyBackup(VerifiedBackup),
    /// Confirm that the clock is right after a jump.
    ConfirmClock,
    /// Take a member out of the key store's pool, or let it work again.
    MoveMember {
        /// The member.
        member: MemberName,
        /// Where to.
        to: Membership,
    },
}

/// The longest life of a bearer token, in seconds: a day.
pub const MAX_TOKEN_SECONDS: u64 = 86_400;
/// For how long a signing token can be issued, in seconds: two years. Its secret travels once, and a provider cannot fetch a new one by itself.
pub const MAX_SIGNING_SECONDS: u64 = 2 * 366 * 86_400;

/// For how long a token of this form can be issued, in seconds.
pub const fn longest_token(form: TokenForm) -> u64 {
    match form {
        TokenForm::Bearer => MAX_TOKEN_SECONDS,
        TokenForm::Signing => MAX_SIGNING_SECONDS,
    }
}

impl Command {
    /// The action that the policy is asked about.
    pub const fn action(&self) -> Action {
        match self {
            Self::CreateKey(_) => Action::CreateKey,
            Self::BeginImport(_) => Action::BeginImport,
            Self::FinishImport(_) => Action::ImportKey,
            Self::AdoptKey(_) => Action::AdoptKey,
            Self::ArchiveKey(_) => Action::ArchiveKey,
            Self::ConfirmArchive { .. } => Action::ConfirmArchive,
            Self::UnarchiveKey(_) => Action::UnarchiveKey,
            Self::RotateKey(_) => Action::RotateKey,
            Self::RollBackKey(_) => Action::RollBackKey,
            Self::TransitionVersion { verb, .. } => match verb {
                VersionVerb::Activate => Action::ActivateVersion,
                VersionVerb::Deactivate => Action::DeactivateVersion,
                VersionVerb::Destroy => Action::DestroyVersion,
            },
            Self::RecordInventory { .. } => Action::RecordInventory,
            Self::ScheduleKey { .. } => Action::ScheduleKey,
            Self::LabelKey { .. } => Action::LabelKey,
            Self::TransitionKey { verb, .. } => verb.action(),
            Self::ActivateKey { .. } => Action::ActivateKey,
            Self::RequestCopy(_) => Action::RequestCopy,
            Self::ApproveCopy { .. } => Action::ApproveCopy,
            Self::EndCopy(_) => Action::EndCopy,
            Self::PutCaller(_) => Action::PutCaller,
            Self::SuspendCaller(_) => Action::SuspendCaller,
            Self::ResumeCaller(_) => Action::ResumeCaller,
            Self::RemoveCaller(_) => Action::RemoveCaller,
            Self::IssueToken { .. } => Action::IssueToken,
            Self::RevokeToken { .. } => Action::RevokeToken,
            Self::PutAnchor(_) => Action::PutAnchor,
            Self::RemoveAnchor(_) => Action::RemoveAnchor,
            Self::SetPolicy { .. } | Self::RestorePolicy { .. } => Action::SetPolicy,
            Self::SuspendTenant => Action::SuspendTenant,
            Self::ResumeTenant => Action::ResumeTenant,
            Self::SetRetention(_) => Action::SetRetention,
            Self::CreateTenant(_) => Action::CreateTenant,
            Self::BackUp => Action::BackUp,
            Self::VerifyBackup(_) => Action::VerifyBackup,
            Self::ConfirmClock => Action::ConfirmClock,
            Self::MoveMember { to: Membership::Drained, .. } => Action::DrainMember,
            Self::MoveMember { to: Membership::Joined, .. } => Action::JoinMember,
        }
    }

    /// The key that it is about, if it is about one.
    pub const fn key(&self) -> Option<&KeyName> {
        match self {
            Self::CreateKey(new)
            | Self::BeginImport(BeginImport { new, .. })
            | Self::AdoptKey(AdoptKey { new, .. }) => Some(&new.name),
            Self::FinishImport(finish) => Some(&finish.key),
            Self::UnarchiveKey(unarchive) => Some(&unarchive.key),
            Self::RequestCopy(request) => Some(&request.key),
            Self::RotateKey(key)
            | Self::ArchiveKey(key)
            | Self::ConfirmArchive { key, .. }
            | Self::RollBackKey(key)
            | Self::TransitionVersion { key, .. }
            | Self::RecordInventory { key, .. }
            | Self::ScheduleKey { key, .. }
            | Self::LabelKey { key, .. }
            | Self::ActivateKey { key, .. }
            | Self::ApproveCopy { key, .. }
            | Self::EndCopy(key)
            | Self::TransitionKey { key, .. } => Some(key),
            Self::PutCaller(_)
            | Self::SuspendCaller(_)
            | Self::ResumeCaller(_)
            | Self::RemoveCaller(_)
            | Self::IssueToken { .. }
            | Self::RevokeToken { .. }
            | Self::PutAnchor(_)
            | Self::RemoveAnchor(_)
            | Self::SetPolicy { .. }
            | Self::RestorePolicy { .. }
            | Self::SuspendTenant
            | Self::ResumeTenant
            | Self::SetRetention(_)
            | Self::CreateTenant(_)
            | Self::BackUp
            | Self::VerifyBackup(_)
            | Self::ConfirmClock
            | Self::MoveMember { .. } => None,
        }
    }

    /// The caller whom it is about, if it is about one: what would give them something is begun no more once they have been stopped.
    pub const fn about(&self) -> Option<&CallerName> {
        match self {
            Self::PutCaller(record) => Some(&record.name),
            Self::SuspendCaller(name) | Self::ResumeCaller(name) | Self::RemoveCaller(name) => Some(name),
            Self::IssueToken { caller, .. } | Self::RevokeToken { caller, .. } => Some(caller),
            Self::CreateKey(_)
            | Self::BeginImport(_)
            | Self::FinishImport(_)
            | Self::AdoptKey(_)
            | Self::ArchiveKey(_)
            | Self::ConfirmArchive { .. }
            | Self::UnarchiveKey(_)
            | Self::RotateKey(_)
            | Self::RollBackKey(_)
            | Self::TransitionVersion { .. }
            | Self::RecordInventory { .. }
            | Self::ScheduleKey { .. }
            | Self::LabelKey { .. }
            | Self::TransitionKey { .. }
            | Self::ActivateKey { .. }
            | Self::RequestCopy(_)
            | Self::ApproveCopy { .. }
            | Self::EndCopy(_)
            | Self::PutAnchor(_)
            | Self::RemoveAnchor(_)
            | Self::SetPolicy { .. }
            | Self::RestorePolicy { .. }
            | Self::SuspendTenant
            | Self::ResumeTenant
            | Self::SetRetention(_)
            | Self::CreateTenant(_)
            | Self::BackUp
            | Self::VerifyBackup(_)
            | Self::ConfirmClock
            | Self::MoveMember { .. } => None,
        }
    }
}

/// What a command did.
#[derive(Debug)]
pub enum Done {
    /// A key as it is now, with the version that new work takes.
    Key(Box<Key>, Arc<Version>),
    /// A key whose import has begun.
    ImportBegun {
        /// The key, as it waits.
        key: Box<Key>,
        /// The public half of its import key, DER SubjectPublicKeyInfo: shown once.
        public: Arc<[u8]>,
        /// From when on the import key opens nothing.
        expires: Timestamp,
    },
    /// A key of which an archive was made, and the bundle.
    KeyArchived(Box<Key>, Vec<u8>),
    /// A key whose emergency copies were asked for, allowed or ended, and how it stands with them.
    Copy(Box<Key>, CopyState),
    /// A caller as it is registered now.
    Caller(Arc<CallerRecord>),
    /// A bearer token: shown once, kept only as a hash.
    Token {
        /// Its public half.
        id: TokenId,
        /// Its secret half.
        secret: Secret,
        /// From when on it is worth nothing.
        expires: Timestamp,
        /// How its secret half is used.
        form: TokenForm,
    },
    /// The policy version now in force, with what the check found.
    Policy(u64, Vec<Finding>),
    /// A backup that has been written, and as of when.
    BackedUp(Archived, Timestamp),
    /// Nothing to show beyond the tenant's new epoch.
    Tenant(TenantId, Epoch),
}

/// Whether a change survives power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It does.
    Durable,
    /// It is in force and not yet durable; it is retried until it is. Only stop orders answer so.
    InForce,
}

/// A command's answer.
#[derive(Debug)]
pub struct Outcome {
    /// What it did.
    pub done: Done,
    /// Whether that survives power loss.
    pub durability: Durability,
}
