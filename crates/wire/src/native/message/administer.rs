//! Requests that change records, and those that ask about policies.

use super::request;
use crate::json::Fault;
use crate::native::field::{
    Bounded, Bytes, CertificateBytes, ContextPairs, CredentialText, CrlBytes, LabelMap, LegacyList, List,
    Name, PolicyText, Word,
};
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_core::command::{self, MAX_SIGNING_SECONDS, MAX_TOKEN_SECONDS};
use holdfast_core::retention::Retention;
use holdfast_core::{CallerName, GroupName, KeyName, Protocol, TenantId, tenant};

request! {
    /// Creates a key.
    pub struct CreateKey {
        required {
            /// Its name, which never changes.
            name: Name<KeyName>,
        }
        optional {
            /// Its algorithm; the key store's default unless told: `xaes-256-gcm` in software custody, `aes-256-gcm` in a token.
            algorithm: Word<Algorithm>,
            /// What it is for; the algorithm's first purpose unless told.
            purpose: Word<Purpose>,
            /// Whether its material may ever leave custody; it may not unless told.
            exportable: bool,
            /// Legacy operations that it shall be able to do; none unless told.
            legacy: LegacyList,
            /// Its labels.
            labels: LabelMap,
            /// Whether it starts unused, to be activated later.
            prepared: bool,
            /// Whether each of its versions is made in the gateway's memory and has an emergency copy, which custodians open together; not unless told.
            emergency_copy: bool,
            /// The one protocol that it shall work through, for ever; any that takes such keys unless told.
            protocol: Word<Protocol>,
        }
    }
}

impl CreateKey {
    pub(crate) fn into_new_key(self) -> command::NewKey {
        let Self { name, algorithm, purpose, exportable, legacy, labels, prepared, emergency_copy, protocol } =
            self;
        command::NewKey {
            name: name.0,
            algorithm: algorithm.map(|word| word.0),
            purpose: purpose.map(|word| word.0),
            exportable: exportable.unwrap_or(false),
            legacy: legacy.unwrap_or_default().0,
            labels: labels.unwrap_or_default().0,
            prepared: prepared.unwrap_or(false),
            emergency_copy: emergency_copy.unwrap_or(false),
            protocol: protocol.map(|word| word.0),
        }
    }
}

request! {
    /// Puts a prepared key into use, or a newest version that waits.
    pub struct ActivateKey {
        required {}
        optional {
            /// Although no verified backup holds it; this stands in the log.
            unprotected: bool,
        }
    }
}

request! {
    /// Records that a backup was opened and read to its end, with its root key.
    pub struct VerifyBackup {
        required {
            /// SHA-256 of its file: 32 bytes.
            sha256: Bytes,
            /// The file's length.
            bytes: u64,
            /// The commit of the state that it holds.
            commit: u64,
            /// What whoever opened it has computed with the root key, 32 bytes: `holdfast backup verify` does.
            proof: Bytes,
        }
        optional {}
    }
}

impl VerifyBackup {
    pub(crate) fn into_verified(self) -> Result<command::VerifiedBackup, Fault> {
        let Self { sha256, bytes, commit, proof } = self;
        let exact = |bytes: Bytes, field: &str| {
            bytes.0.try_into().map_err(|_| Fault::malformed("expected 32 bytes").within(field))
        };
        let (sha256, proof) = (exact(sha256, "sha256")?, exact(proof, "proof")?);
        Ok(command::VerifiedBackup { sha256, bytes, commit, proof })
    }
}

request! {
    /// Replaces a key's labels.
    pub struct LabelKey {
        required {
            /// All of its labels.
            labels: LabelMap,
        }
        optional {
            /// The key's `epoch` that this change is based on; refused if it has changed since.
            expected_epoch: u64,
        }
    }
}

request! {
    /// Registers a caller, or changes an earlier registration. Its kind never changes, its tokens stay.
    pub struct PutCaller {
        required {
            /// What it is for.
            kind: Word<CallerKind>,
        }
        optional {
            /// The groups that policies can speak of.
            groups: List<Name<GroupName>>,
            /// How it is recognised; none for one that only gets tokens.
            credentials: List<CredentialText>,
        }
    }
}

impl PutCaller {
    pub(crate) fn into_record(self, name: CallerName) -> CallerRecord {
        let Self { kind, groups, credentials } = self;
        record(name, kind, groups, credentials)
    }
}

request! {
    /// A new tenant's caller.
    pub struct NewCaller {
        required {
            /// Its name.
            name: Name<CallerName>,
            /// What it is for.
            kind: Word<CallerKind>,
        }
        optional {
            /// The groups that policies can speak of.
            groups: List<Name<GroupName>>,
            /// How it is recognised.
            credentials: List<CredentialText>,
        }
    }
}

fn record(
    name: CallerName,
    kind: Word<CallerKind>,
    groups: Option<List<Name<GroupName>>>,
    credentials: Option<List<CredentialText>>,
) -> CallerRecord {
    CallerRecord {
        name,
        kind: kind.0,
        groups: groups.map_or_else(Vec::new, |list| list.0.into_iter().map(|name| name.0).collect()),
        credentials: credentials
            .map_or_else(Vec::new, |list| list.0.into_iter().map(|text| text.0).collect()),
        tokens: Vec::new(),
        suspended: false,
    }
}

request! {
    /// Says for how long the log keeps its entries.
    pub struct SetRetention {
        required {}
        optional {
            /// For so many days; for ever unless told.
            days: Bounded<{ Retention::MIN_DAYS as u64 }, { Retention::MAX_DAYS as u64 }>,
        }
    }
}

impl SetRetention {
    pub(crate) fn into_retention(self) -> Option<Retention> {
        let Self { days } = self;
        days.and_then(|Bounded(days)| u32::try_from(days).ok()).and_then(Retention::of_days)
    }
}

request! {
    /// Issues a bearer token.
    pub struct IssueToken {
        required {
            /// For how long, in seconds; at most a day.
            lifetime_seconds: Bounded<1, MAX_TOKEN_SECONDS>,
        }
        optional {}
    }
}

request! {
    /// Issues a token that requests are signed with.
    pub struct IssueSigningToken {
        required {
            /// For how long, in seconds; at most two years.
            lifetime_seconds: Bounded<1, MAX_SIGNING_SECONDS>,
        }
        optional {}
    }
}

request! {
    /// Trusts a certificate authority, or replaces its revocation list.
    pub struct PutAnchor {
        required {
            /// The authority's certificate.
            certificate: CertificateBytes,
        }
        optional {
            /// Its revocation list. With one, a certificate whose status it does not tell is refused.
            crl: CrlBytes,
        }
    }
}

impl PutAnchor {
    pub(crate) fn into_anchor(self, name: CallerName) -> tenant::Anchor {
        let Self { certificate, crl } = self;
        anchor(name, certificate, crl)
    }
}

request! {
    /// A new tenant's trust anchor.
    pub struct NewAnchor {
        required {
            /// Its name.
            name: Name<CallerName>,
            /// The authority's certificate.
            certificate: CertificateBytes,
        }
        optional {
            /// Its revocation list.
            crl: CrlBytes,
        }
    }
}

fn anchor(name: CallerName, certificate: CertificateBytes, crl: Option<CrlBytes>) -> tenant::Anchor {
    tenant::Anchor { name, certificate: certificate.0.into(), revocations: crl.map(|crl| crl.0.into()) }
}

request! {
    /// Creates a tenant with those who will own it.
    pub struct CreateTenant {
        required {
            /// Its name.
            tenant: Name<TenantId>,
            /// Its first callers; at least one custodian.
            callers: List<NewCaller>,
        }
        optional {
            /// Its first trust anchors.
            anchors: List<NewAnchor>,
            /// Its first policy; custodians administer and auditors read unless told.
            policy: PolicyText,
        }
    }
}

impl CreateTenant {
    pub(crate) fn into_new_tenant(self) -> command::NewTenant {
        let Self { tenant, callers, anchors, policy } = self;
        let callers = callers.0.into_iter().map(|caller| {
            let NewCaller { name, kind, groups, credentials } = caller;
            record(name.0, kind, groups, credentials)
        });
        let anchors = anchors.into_iter().flat_map(|list| list.0).map(|new| {
            let NewAnchor { name, certificate, crl } = new;
            anchor(name.0, certificate, crl)
        });
        command::NewTenant {
            tenant: tenant.0,
            callers: callers.collect(),
            anchors: anchors.collect(),
            policy: policy.map(|text| text.0),
        }
    }
}

request! {
    /// Replaces the policy.
    pub struct SetPolicy {
        required {
            /// The policies, in Cedar.
            text: PolicyText,
        }
        optional {
            /// The version that this change is based on; refused if another is in force.
            expected_version: u64,
        }
    }
}

request! {
    /// Puts an earlier version of the policy in force again, as a new version.
    pub struct RestorePolicy {
        required {
            /// Which.
            version: u64,
        }
        optional {
            /// The version that this change is based on; refused if another is in force.
            expected_version: u64,
        }
    }
}

request! {
    /// Asks what a policy would be refused or warned for.
    pub struct CheckPolicy {
        required {
            /// The policies, in Cedar.
            text: PolicyText,
        }
        optional {}
    }
}

request! {
    /// Asks how the policy in force decides.
    pub struct ExplainPolicy {
        required {
            /// About whom.
            caller: Name<CallerName>,
            /// Doing what.
            action: Word<Action>,
        }
        optional {
            /// With which key, if the action is about one.
            key: Name<KeyName>,
            /// With which encryption context.
            context: ContextPairs,
        }
    }
}

/// The number of a generation of shares.
pub type GenerationNumber = Bounded<1, { u32::MAX as u64 }>;
/// The number of a share.
pub type ShareNumber = Bounded<1, { u8::MAX as u64 }>;

request! {
    /// Asks, as a custodian of the root key, for what answers that the gateway be sealed.
    pub struct AskToSeal {
        required {
            /// The generation of the custodian's share.
            generation: GenerationNumber,
            /// Its number.
            share: ShareNumber,
        }
        optional {}
    }
}

request! {
    /// Seals the gateway.
    pub struct OrderSeal {
        required {
            /// The generation of the custodian's share.
            generation: GenerationNumber,
            /// Its number.
            share: ShareNumber,
            /// The answer to the challenge.
            answer: Bytes,
        }
        optional {}
    }
}

request! {
    /// Gives a share of the root key.
    pub struct GiveShare {
        required {
            /// An age file, encrypted to the gateway's fresh recipient.
            share: Bytes,
        }
        optional {}
    }
}
