//! What reads records: every query, and what it answers.

use crate::action::Action;
use crate::caller::CallerRecord;
use crate::emergency::CopyState;
use crate::id::{CallerName, KeyName, KeyVersion};
use crate::key::{Key, Version};
use crate::port::{Finding, Page};
use crate::sealing_key::{SealingKeyId, SealingKeyState};
use crate::tenant::{Anchor, PolicyVersion, TakenBackup, TenantRecord};
use std::sync::Arc;

/// The most rows of one page.
pub const MAX_PAGE: usize = 1000;

/// One thing that somebody wants to read.
#[derive(Debug, Clone)]
pub enum Query {
    /// A key's record with its newest version.
    Key(KeyName),
    /// How it stands with a key's emergency copies.
    Copy(KeyName),
    /// A key's versions after a number.
    Versions {
        /// The key.
        key: KeyName,
        /// Those after this one.
        after: Option<KeyVersion>,
        /// At most so many, up to [`MAX_PAGE`].
        limit: usize,
    },
    /// Keys by name.
    Keys {
        /// Those after this one.
        after: Option<KeyName>,
        /// At most so many, up to [`MAX_PAGE`].
        limit: usize,
    },
    /// Callers and trust anchors.
    Callers,
    /// The policy in force, or an earlier version.
    Policy {
        /// Which; the one in force unless told.
        version: Option<u64>,
    },
    /// What a policy text would be refused or warned for.
    CheckPolicy {
        /// The text.
        text: Arc<str>,
    },
    /// How the policy in force decides about a caller, an action and a key.
    ExplainPolicy {
        /// The caller.
        caller: CallerName,
        /// The action.
        action: Action,
        /// The key, if the action is about one.
        key: Option<KeyName>,
        /// The encryption context.
        context: crate::context::Context,
    },
    /// The tenant's record.
    Tenant,
    /// A file of the tenant's log, as C2SP tlog-tiles names it: `checkpoint`, `tile/…`; with `checkpoint.cosigned`, `log.vkey` and `pruned`.
    AuditFile(AuditPath),
    /// The gateway's status; asked of the gateway itself.
    Status,
    /// The members of the key store's pool; asked of the gateway itself.
    Pool,
}

/// A path below a tenant's log directory that can be nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPath(Box<str>);

impl AuditPath {
    /// From a relative path: `checkpoint`, `checkpoint.cosigned`, `log.vkey`, `pruned` or `tile/…` of letters, digits, `/` and `.p/`.
    pub fn new(path: &str) -> Option<Self> {
        let segment = |segment: &str| {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            segment == "entries"
                || digits(segment)
                || segment.strip_prefix('x').is_some_and(digits)
                || segment.strip_suffix(".p").is_some_and(digits)
        };
        let tile = |path: &str| {
            path.len() <= 128 && path.strip_prefix("tile/").is_some_and(|rest| rest.split('/').all(segment))
        };
        let named = matches!(path, "checkpoint" | "checkpoint.cosigned" | "log.vkey" | "pruned");
        (named || tile(path)).then(|| Self(path.into()))
    }

    /// The relative path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Query {
    /// The action that the policy is asked about.
    pub const fn action(&self) -> Action {
        match self {
            Self::Key(_) | Self::Copy(_) | Self::Versions { .. } => Action::ReadKey,
            Self::Keys { .. } => Action::ListKeys,
            Self::Callers => Action::ReadCallers,
            Self::Policy { .. } | Self::CheckPolicy { .. } | Self::ExplainPolicy { .. } => Action::ReadPolicy,
            Self::Tenant => Action::ReadTenant,
            Self::AuditFile(_) => Action::ReadAudit,
            Self::Status | Self::Pool => Action::ReadStatus,
        }
    }

    /// The key that it is about, if it is about one.
    pub const fn key(&self) -> Option<&KeyName> {
        match self {
            Self::Key(key) | Self::Copy(key) | Self::Versions { key, .. } => Some(key),
            Self::Keys { .. }
            | Self::Callers
            | Self::Policy { .. }
            | Self::CheckPolicy { .. }
            | Self::ExplainPolicy { .. }
            | Self::Tenant
            | Self::AuditFile(_)
            | Self::Status
            | Self::Pool => None,
        }
    }
}

/// How a policy decides about a question that nobody asked for real.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Whether it would be allowed.
    pub allowed: bool,
    /// The policies that decide.
    pub policies: Vec<String>,
    /// Why, one line each.
    pub reasons: Vec<String>,
}

/// What may be left of a key that waits to be destroyed, or is, or of its destroyed versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traces {
    /// The backups that may hold it.
    pub backups: Vec<TakenBackup>,
    /// The sealing keys that its destroyed material lay under, and what has become of each.
    pub sealing_keys: Vec<(SealingKeyId, SealingKeyState)>,
}

/// What a query gives.
#[derive(Debug)]
pub enum Found {
    /// A key with the version that new work takes, and what is left of it at its end.
    Key(Box<Key>, Arc<Version>, Traces),
    /// A key, and how it stands with its emergency copies.
    Copy(Box<Key>, CopyState),
    /// Versions.
    Versions(Page<Version>),
    /// Keys.
    Keys(Page<Key>),
    /// Callers and trust anchors.
    Callers(Vec<Arc<CallerRecord>>, Vec<Anchor>),
    /// A policy version.
    Policy(PolicyVersion),
    /// What a check found.
    Findings(Vec<Finding>),
    /// How the policy decides.
    Explanation(Explanation),
    /// The tenant.
    Tenant(TenantRecord),
    /// A file of the log, with its bytes.
    AuditFile(AuditPath, Vec<u8>),
    /// The status is to be gathered; the gatherer is outside of core.
    Status,
    /// The members of the pool are to be looked at.
    Pool,
}

#[cfg(test)]
mod tests {
    use super::AuditPath;

    #[test]
    fn only_the_logs_own_files_have_a_path() {
        for good in [
            "checkpoint",
            "checkpoint.cosigned",
            "log.vkey",
            "pruned",
            "tile/0/000",
            "tile/entries/x001/234.p/17",
            "tile/1/000.p/1",
        ] {
            assert!(AuditPath::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "..",
            "tile/../x",
            "tile/",
            "tile//0",
            "/checkpoint",
            "tile/0/..",
            "tile/entries/.p/1",
            "wal",
            "checkpoint.new",
        ] {
            assert!(AuditPath::new(bad).is_none(), "{bad}");
        }
    }
}
