//! Who calls: a name within a tenant, of a kind that either uses keys or administers them, never both.

use crate::action::Group;
use crate::id::{CallerName, GroupName, KeyId, TenantId, TokenId};
use crate::stop::Concerned;
use crate::time::Timestamp;
use std::sync::Arc;

/// What a caller is for. Core holds what each kind may do at all, whatever a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerKind {
    /// Uses keys: a provider, a service, a pipeline, a person at a command line.
    Application,
    /// Administers a tenant's keys, callers and policy, and uses none.
    Custodian,
    /// Reads a tenant's records and its log, and nothing else.
    Auditor,
    /// Runs the gateway: creates tenants and reads its status. Has no right in any tenant.
    Operator,
    /// A dev directory's own: may do everything there. Exists in no other directory.
    Developer,
}

impl CallerKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Application, Self::Custodian, Self::Auditor, Self::Operator, Self::Developer];

    /// Its name in records, policies and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Custodian => "custodian",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Developer => "developer",
        }
    }

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }

    /// Whether such a caller may do anything of this group at all: the separation of using and administering.
    pub const fn may(self, group: Group) -> bool {
        match (self, group) {
            (Self::Application, Group::Use | Group::Read)
            | (Self::Custodian | Self::Operator, Group::Administer | Group::Read)
            | (Self::Auditor, Group::Read)
            | (Self::Developer, Group::Use | Group::Administer | Group::Read) => true,
            (Self::Application, Group::Administer)
            | (Self::Custodian | Self::Operator, Group::Use)
            | (Self::Auditor, Group::Use | Group::Administer) => false,
        }
    }
}

/// How somebody is recognised. No two callers of a tenant share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A certificate from one of the tenant's trust anchors with this URI among its subject alternative names.
    Uri(Box<str>),
    /// The same with this DNS name.
    Dns(Box<str>),
    /// A certificate whose public key (DER SubjectPublicKeyInfo) has this SHA-256, whoever issued it.
    KeyHash([u8; 32]),
    /// A token of this issuer (`iss`), about this subject (`sub`); `None`: about anybody who has no registration of their own, or nobody.
    Issued {
        /// The issuer, compared byte by byte.
        issuer: Box<str>,
        /// The subject, in the same way.
        subject: Option<Box<str>>,
    },
}

impl Credential {
    /// The most bytes of an issuer's name.
    pub const MAX_ISSUER: usize = 512;
    /// The most bytes of a subject's name.
    pub const MAX_SUBJECT: usize = 512;
}

/// A bearer token, as it is kept: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public half.
    pub id: TokenId,
    /// SHA-256 of its secret half.
    pub hash: [u8; 32],
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// How its secret half is used.
    pub form: TokenForm,
}

/// How a token's secret half is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TokenForm {
    /// Shown with each request.
    #[default]
    Bearer,
    /// Never shown: requests are signed with it, so both sides know it. Kept nowhere, but derived from the id each time.
    Signing,
}

impl TokenForm {
    /// Every form.
    pub const ALL: [Self; 2] = [Self::Bearer, Self::Signing];

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == text)
    }

    /// Its name in records and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Signing => "signing",
        }
    }
}

/// A registered caller, as the state keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerRecord {
    /// Its name within the tenant.
    pub name: CallerName,
    /// What it is for; never changes.
    pub kind: CallerKind,
    /// The groups that policies can speak of.
    pub groups: Vec<GroupName>,
    /// How it is recognised.
    pub credentials: Vec<Credential>,
    /// Its live tokens.
    pub tokens: Vec<Token>,
    /// Whether a custodian has stopped it.
    pub suspended: bool,
}

/// How a caller proved who it is, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Mutual TLS.
    MutualTls {
        /// SHA-256 of the certificate's public key; not of several together.
        key_hash: Option<[u8; 32]>,
        /// Which credential matched, as text: `uri:…`, `dns:…` or `key`.
        matched: Box<str>,
    },
    /// A bearer token.
    Bearer(TokenId),
    /// A request signed with a token's secret.
    Signature(TokenId),
    /// A token of an issuer.
    Issued {
        /// Who issued it.
        issuer: Box<str>,
        /// Whom it is about, if it says so.
        subject: Option<Box<str>>,
    },
    /// Nothing: nobody has shown who they are, at a door that is open for what is public.
    Open,
    /// The process itself: automatic rotation, recovery, founding.
    Gateway,
}

impl Authentication {
    /// Its name in events, policies and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MutualTls { .. } => "mtls",
            Self::Bearer(_) => "bearer",
            Self::Signature(_) => "signature",
            Self::Issued { .. } => "issued",
            Self::Open => "open",
            Self::Gateway => "gateway",
        }
    }
}

/// Somebody who has proved who they are, to one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant whose caller it is.
    pub tenant: TenantId,
    /// The registration.
    pub record: Arc<CallerRecord>,
    /// How it proved itself just now.
    pub authentication: Authentication,
    /// The registration of their own that somebody has who came as a door's caller: what stops that stops them there, too.
    pub own: Option<Arc<CallerRecord>>,
}

impl Caller {
    /// Whether it, or the registration of their own, is suspended.
    pub fn is_suspended(&self) -> bool {
        self.record.suspended || self.own.as_ref().is_some_and(|own| own.suspended)
    }

    /// Whom and what a stop of this caller with these keys can be of.
    pub fn concerned<'a>(&'a self, keys: &'a [KeyId]) -> Concerned<'a> {
        let own = self.own.as_ref().map(|own| &own.name);
        Concerned { tenant: &self.tenant, caller: self.name(), own, keys }
    }

    /// Its name within the tenant.
    pub fn name(&self) -> &CallerName {
        &self.record.name
    }

    /// What it is for.
    pub fn kind(&self) -> CallerKind {
        self.record.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_a_dev_directorys_developer_both_uses_and_administers() {
        for kind in CallerKind::ALL.into_iter().filter(|kind| *kind != CallerKind::Developer) {
            assert!(!(kind.may(Group::Use) && kind.may(Group::Administer)), "{}", kind.name());
        }
    }
}
