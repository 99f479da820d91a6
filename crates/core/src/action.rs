//! What can be asked of the gateway: every action, its group and its class.

use crate::algorithm::Purpose;

/// Who may do such a thing at all, whatever a policy says: nobody both uses and administers a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Uses a key.
    Use,
    /// Administers keys, callers, policies, or the tenant itself.
    Administer,
    /// Reads records and the log.
    Read,
}

/// What an action does with a key, as far as the key's state is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Applies new protection.
    Protect,
    /// Processes what was protected before.
    Process,
    /// Reads the record or the public key.
    Inspect,
    /// Changes the record.
    Administer,
}

macro_rules! actions {
    (
        asked { $($(#[$doc:meta])* $variant:ident = $name:literal, $group:ident, $class:ident;)+ }
        own { $($(#[$own_doc:meta])* $own:ident = $own_name:literal, $own_group:ident, $own_class:ident;)+ }
    ) => {
        /// One thing that can be asked. The name stands in policies (`Holdfast::Action::"encrypt"`), events and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $variant,)+ $($(#[$own_doc])* $own,)+ }

        impl Action {
            /// Every action that a caller can ask for, and a policy speak of.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What the gateway records of itself, and no policy is asked about.
            pub const OWN: &'static [Self] = &[$(Self::$own),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ $(Self::$own => $own_name,)+ }
            }

            /// Its group.
            pub const fn group(self) -> Group {
                match self { $(Self::$variant => Group::$group,)+ $(Self::$own => Group::$own_group,)+ }
            }

            /// Its class.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ $(Self::$own => Class::$own_class,)+ }
            }
        }
    };
}

actions! {
    asked {
        /// Encrypt bytes.
        Encrypt = "encrypt", Use, Protect;
        /// Decrypt bytes.
        Decrypt = "decrypt", Use, Process;
        /// Wrap bytes that the caller brings.
        Wrap = "wrap", Use, Protect;
        /// Unwrap them again.
        Unwrap = "unwrap", Use, Process;
        /// Make a data key.
        DataKey = "data-key", Use, Protect;
        /// Decrypt under one key or version and encrypt under another, inside the key store.
        RewrapFrom = "rewrap-from", Use, Process;
        /// The target's half of a rewrap.
        RewrapTo = "rewrap-to", Use, Protect;
        /// Sign a message.
        Sign = "sign", Use, Protect;
        /// Verify a signature.
        Verify = "verify", Use, Process;
        /// Compute a message authentication code.
        Mac = "mac", Use, Protect;
        /// Verify a message authentication code.
        VerifyMac = "verify-mac", Use, Process;
        /// Agree on a shared secret with a peer.
        Agree = "agree", Use, Process;
        /// Make a shared secret that only this key can open.
        Encapsulate = "encapsulate", Use, Protect;
        /// Open such a shared secret.
        Decapsulate = "decapsulate", Use, Process;
        /// Random bytes from the key store.
        Random = "random", Use, Protect;
        /// Read a key's public half.
        PublicKey = "public-key", Use, Inspect;

        /// Create a key.
        CreateKey = "create-key", Administer, Administer;
        /// Make the key pair that a tenant's own key material is wrapped for.
        BeginImport = "begin-import", Administer, Administer;
        /// Take key material that the tenant made elsewhere as a key's version.
        ImportKey = "import-key", Administer, Administer;
        /// Write an archive of a key.
        ArchiveKey = "archive-key", Administer, Administer;
        /// Leave a key's material to an archive that was shown to open.
        ConfirmArchive = "confirm-archive", Administer, Administer;
        /// Take a key's material back from its archive.
        UnarchiveKey = "unarchive-key", Administer, Administer;
        /// Take a key that another program made in the token as a key's first version.
        AdoptKey = "adopt-key", Administer, Administer;
        /// Make a new version of a key.
        RotateKey = "rotate-key", Administer, Administer;
        /// Give new work back to an earlier version of a key.
        RollBackKey = "roll-back-key", Administer, Administer;
        /// Put a deactivated version of a key among those that new work can be given back to.
        ActivateVersion = "activate-version", Administer, Administer;
        /// Say that a version of a key is not needed any more; it still opens.
        DeactivateVersion = "deactivate-version", Administer, Administer;
        /// Erase the material of a version of a key.
        DestroyVersion = "destroy-version", Administer, Administer;
        /// Record what of a key's versions is still needed.
        RecordInventory = "record-inventory", Administer, Administer;
        /// Say how often a key is rotated by itself.
        ScheduleKey = "schedule-key", Administer, Administer;
        /// Change a key's labels.
        LabelKey = "label-key", Administer, Administer;
        /// Put a prepared key into use.
        ActivateKey = "activate-key", Administer, Administer;
        /// Stop a key for now.
        SuspendKey = "suspend-key", Administer, Administer;
        /// Let a key be used again.
        ResumeKey = "resume-key", Administer, Administer;
        /// No new protection by a key.
        DeactivateKey = "deactivate-key", Administer, Administer;
        /// Mark a key as possibly known to others.
        CompromiseKey = "compromise-key", Administer, Administer;
        /// Erase a key's material.
        DestroyKey = "destroy-key", Administer, Administer;
        /// Take the order to destroy a key back while it waits.
        CancelDestruction = "cancel-destruction", Administer, Administer;
        /// Ask custodians to allow the use of a key's emergency copies.
        RequestCopy = "request-copy", Administer, Administer;
        /// Give a custodian's shares for such a request; with enough of them the copies are in force.
        ApproveCopy = "approve-copy", Administer, Administer;
        /// End that before its time.
        EndCopy = "end-copy", Administer, Administer;
        /// Register a caller, or change one.
        PutCaller = "put-caller", Administer, Administer;
        /// Stop a caller for now.
        SuspendCaller = "suspend-caller", Administer, Administer;
        /// Let a caller call again.
        ResumeCaller = "resume-caller", Administer, Administer;
        /// Remove a caller for ever.
        RemoveCaller = "remove-caller", Administer, Administer;
        /// Issue a bearer token for a caller.
        IssueToken = "issue-token", Administer, Administer;
        /// Revoke a bearer token.
        RevokeToken = "revoke-token", Administer, Administer;
        /// Trust another certificate authority, or replace its revocation list.
        PutAnchor = "put-anchor", Administer, Administer;
        /// Trust a certificate authority no longer.
        RemoveAnchor = "remove-anchor", Administer, Administer;
        /// Replace the policy.
        SetPolicy = "set-policy", Administer, Administer;
        /// Stop everything of the tenant.
        SuspendTenant = "suspend-tenant", Administer, Administer;
        /// Let the tenant's keys be used again.
        ResumeTenant = "resume-tenant", Administer, Administer;
        /// Say for how long the log keeps its entries.
        SetRetention = "set-retention", Administer, Administer;
        /// Create a tenant with its first custodians; an operator's action, in the gateway itself.
        CreateTenant = "create-tenant", Administer, Administer;
        /// Write an encrypted backup of the gateway; an operator's action, in the gateway itself.
        BackUp = "back-up", Administer, Administer;
        /// Record that a backup was opened and read to its end; an operator's action, in the gateway itself.
        VerifyBackup = "verify-backup", Administer, Administer;
        /// Confirm that the clock is right after a jump; an operator's action, in the gateway itself.
        ConfirmClock = "confirm-clock", Administer, Administer;
        /// Take a member out of the key store's pool; an operator's action, in the gateway itself.
        DrainMember = "drain-member", Administer, Administer;
        /// Let a member of the key store's pool work again; an operator's action, in the gateway itself.
        JoinMember = "join-member", Administer, Administer;

        /// Read a key's record.
        ReadKey = "read-key", Read, Inspect;
        /// List keys.
        ListKeys = "list-keys", Read, Inspect;
        /// Read callers and trust anchors.
        ReadCallers = "read-callers", Read, Inspect;
        /// Read the policy and its earlier versions.
        ReadPolicy = "read-policy", Read, Inspect;
        /// Read the tenant's record.
        ReadTenant = "read-tenant", Read, Inspect;
        /// Read the audit log and its proofs.
        ReadAudit = "read-audit", Read, Inspect;
        /// Read the gateway's own status and metrics.
        ReadStatus = "read-status", Read, Inspect;
    }
    own {
        /// A known caller's request that could not be decoded; its caller is known.
        Undecoded = "undecoded", Read, Inspect;
        /// The gateway's or a tenant's founding: a log's first entry.
        Found = "found", Administer, Administer;
        /// The gateway's restoration from a backup: the first entry of a log that continues another one.
        Restore = "restore", Administer, Administer;
        /// Entries of the log that its retention no longer demands go.
        PruneAudit = "prune-audit", Administer, Administer;
        /// A summary of what could not be attributed to a caller.
        Noise = "noise", Read, Inspect;
        /// A summary of what a known caller asked beyond a quota.
        Throttled = "throttled", Read, Inspect;
        /// What a start found that a crash had left.
        Recover = "recover", Read, Inspect;
        /// Shares of custodians gave the root key at a start.
        Unseal = "unseal", Administer, Administer;
        /// A custodian of the root key ordered the gateway to give it up.
        Seal = "seal", Administer, Administer;
        /// Another generation of shares of the root key is in force.
        ShareRoot = "share-root", Administer, Administer;
        /// Another root key is put in force.
        RotateRoot = "rotate-root", Administer, Administer;
        /// The clock jumped: the time from before is held until an operator confirms.
        HoldClock = "hold-clock", Administer, Administer;
        /// A member of the key store's pool gave a wrong result and is out until an operator lets it in again.
        EjectMember = "eject-member", Administer, Administer;
        /// The key store's pool has another member than before, or lacks one.
        NoteMembers = "note-members", Administer, Administer;
        /// A look whether every member of the key store's pool holds every key; copies were brought to who lacked them.
        SweepPool = "sweep-pool", Administer, Administer;
        /// A key has waited long enough: it is destroyed.
        CompleteDestruction = "complete-destruction", Administer, Administer;
        /// Members of the pool are asked to erase destroyed material, and look.
        EraseKey = "erase-key", Administer, Administer;
        /// So long the gateway was up while a key waited to be destroyed.
        CountUptime = "count-uptime", Administer, Administer;
        /// Another sealing key takes the place of one that destroyed material lay under.
        ChangeSealingKey = "change-sealing-key", Administer, Administer;
        /// Versions are taken to the newest sealing key.
        ResealVersions = "reseal-versions", Administer, Administer;
        /// A sealing key that nothing is under any more is dropped.
        RetireSealingKey = "retire-sealing-key", Administer, Administer;
    }
}

impl Action {
    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.iter().chain(Self::OWN).copied().find(|action| action.name() == text)
    }

    /// The purpose that a key must have for it; `None` where any key will do, or none is needed.
    pub const fn purpose(self) -> Option<Purpose> {
        match self {
            Self::Encrypt | Self::Decrypt | Self::DataKey | Self::RewrapFrom | Self::RewrapTo => {
                Some(Purpose::Encrypt)
            }
            Self::Wrap | Self::Unwrap => Some(Purpose::Wrap),
            Self::Sign | Self::Verify => Some(Purpose::Sign),
            Self::Mac | Self::VerifyMac => Some(Purpose::Mac),
            Self::Agree => Some(Purpose::Agree),
            Self::Encapsulate | Self::Decapsulate => Some(Purpose::Encapsulate),
            Self::Random
            | Self::PublicKey
            | Self::CreateKey
            | Self::BeginImport
            | Self::ImportKey
            | Self::AdoptKey
            | Self::ArchiveKey
            | Self::ConfirmArchive
            | Self::UnarchiveKey
            | Self::RotateKey
            | Self::RollBackKey
            | Self::ActivateVersion
            | Self::DeactivateVersion
            | Self::DestroyVersion
            | Self::RecordInventory
            | Self::ScheduleKey
            | Self::LabelKey
            | Self::ActivateKey
            | Self::SuspendKey
            | Self::ResumeKey
            | Self::DeactivateKey
            | Self::CompromiseKey
            | Self::DestroyKey
            | Self::CancelDestruction
            | Self::RequestCopy
            | Self::ApproveCopy
            | Self::EndCopy
            | Self::PutCaller
            | Self::SuspendCaller
            | Self::ResumeCaller
            | Self::RemoveCaller
            | Self::IssueToken
            | Self::RevokeToken
            | Self::PutAnchor
            | Self::RemoveAnchor
            | Self::SetPolicy
            | Self::SuspendTenant
            | Self::ResumeTenant
            | Self::SetRetention
            | Self::CreateTenant
            | Self::BackUp
            | Self::VerifyBackup
            | Self::ConfirmClock
            | Self::DrainMember
            | Self::JoinMember
            | Self::ReadKey
            | Self::ListKeys
            | Self::ReadCallers
            | Self::ReadPolicy
            | Self::ReadTenant
            | Self::ReadAudit
            | Self::ReadStatus
            | Self::Undecoded
            | Self::Found
            | Self::Restore
            | Self::PruneAudit
            | Self::Noise
            | Self::Throttled
            | Self::Recover
            | Self::Unseal
            | Self::Seal
            | Self::ShareRoot
            | Self::RotateRoot
            | Self::HoldClock
            | Self::EjectMember
            | Self::NoteMembers
            | Self::SweepPool
            | Self::CompleteDestruction
            | Self::EraseKey
            | Self::CountUptime
            | Self::ChangeSealingKey
            | Self::ResealVersions
            | Self::RetireSealingKey => None,
        }
    }

    /// Whether it is a stop order, which must always work. The one list of them: whoever else has to know asks here.
    pub const fn is_stop(self) -> bool {
        matches!(
            self,
            Self::SuspendKey
                | Self::CompromiseKey
                | Self::DeactivateKey
                | Self::DestroyKey
                | Self::SuspendCaller
                | Self::RemoveCaller
                | Self::RevokeToken
                | Self::RemoveAnchor
                | Self::SuspendTenant
                | Self::Seal
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_classes_agree_with_groups() {
        for action in Action::ALL.iter().chain(Action::OWN) {
            assert_eq!(Action::from_name(action.name()), Some(*action));
            match action.group() {
                Group::Use => assert_ne!(action.class(), Class::Administer),
                Group::Administer => assert_eq!(action.class(), Class::Administer),
                Group::Read => assert_eq!(action.class(), Class::Inspect),
            }
            assert!(!action.is_stop() || action.group() == Group::Administer);
        }
    }
}
