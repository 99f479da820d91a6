//! Records as they are shown: keys, callers, policies, tenants.

use super::{Archive, Destruction, Erasure, HeldBy, Inventory, Schedule, SealingKey};
use crate::native::field::{
    Bytes, CertificateBytes, CredentialText, CrlBytes, DurabilityWord, LabelMap, LegacyList, Name,
    PolicyText, SecretText, Time, VersionNumber, Word,
};
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{CallerKind, CallerRecord, TokenForm};
use holdfast_core::key::Custody;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::{CallerName, GroupName, KeyId, KeyName, PolicyId, Protocol, TenantId, TokenId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! shown {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field:meta])* $field_name:ident: $type:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        pub struct $name {
            $($(#[$field])* pub $field_name: $type,)*
        }
    )+};
}

shown! {
    /// A key.
    pub struct Key {
        /// Its name.
        name: Name<KeyName>,
        /// Its identity: stands in ciphertexts, never reused.
        id: Name<KeyId>,
        /// Its algorithm.
        algorithm: Word<Algorithm>,
        /// What it is for.
        purpose: Word<Purpose>,
        /// Its state (NIST SP 800-57 part 1 rev. 5 §7).
        state: Word<KeyState>,
        /// The newest version.
        newest_version: VersionNumber,
        /// The version that new work takes, where it was rolled back to an earlier one than the newest.
        #[serde(skip_serializing_if = "Option::is_none")]
        current_version: Option<VersionNumber>,
        /// Whether the newest version waits until a verified backup holds it; only where it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        waits_for_backup: Option<bool>,
        /// How often it is rotated by itself, and when next.
        #[serde(skip_serializing_if = "Option::is_none")]
        schedule: Option<Schedule>,
        /// What of its versions is still needed, as it was recorded last.
        #[serde(skip_serializing_if = "Option::is_none")]
        inventory: Option<Inventory>,
        /// The order to destroy it, while it waits.
        #[serde(skip_serializing_if = "Option::is_none")]
        destruction: Option<Destruction>,
        /// What is known of its destroyed material.
        #[serde(skip_serializing_if = "Option::is_none")]
        erasure: Option<Erasure>,
        /// Its newest archive, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        archive: Option<Archive>,
        /// Of one that waits to be destroyed, or is: the newest backups that may hold it; not in listings.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        held_by: Vec<HeldBy>,
        /// The sealing keys that its destroyed material lay under in software custody, or what is in an archive now; not in listings.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sealed_under: Vec<SealingKey>,
        /// Whether its material may ever leave custody.
        exportable: bool,
        /// Legacy operations that it was created for.
        legacy: LegacyList,
        /// Whether each of its versions has an emergency copy, which custodians open together; only where it has.
        #[serde(skip_serializing_if = "Option::is_none")]
        emergency_copy: Option<bool>,
        /// The one protocol that it works through; only where it was created for one.
        #[serde(skip_serializing_if = "Option::is_none")]
        protocol: Option<Word<Protocol>>,
        /// Its labels.
        labels: LabelMap,
        /// How well it is kept.
        custody: Word<Custody>,
        /// Whether a verified backup holds its newest version; left out in a dev directory.
        #[serde(skip_serializing_if = "Option::is_none")]
        protected: Option<bool>,
        /// When it was created.
        created: Time,
        /// How often this record has been written; a change can be based on it.
        epoch: u64,
        /// The public half of the version that new work takes, if it has one; not in listings.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key: Option<Bytes>,
        /// Whether the change that gave this survives power loss; only where there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        durability: Option<DurabilityWord>,
    }

    /// A page of keys.
    pub struct Keys {
        /// The keys, by name.
        keys: Vec<Key>,
        /// What to pass as `after` for the next page; none after the last.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<Name<KeyName>>,
    }

    /// One version of a key.
    pub struct Version {
        /// Its number.
        version: VersionNumber,
        /// Its own state, which can only take away from the key's.
        state: Word<KeyState>,
        /// When it was made.
        created: Time,
        /// Its public half, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key: Option<Bytes>,
    }

    /// A page of versions.
    pub struct Versions {
        /// The versions, by number.
        versions: Vec<Version>,
        /// What to pass as `after` for the next page; none after the last.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<VersionNumber>,
    }

    /// A caller.
    pub struct Caller {
        /// Its name.
        name: Name<CallerName>,
        /// What it is for.
        kind: Word<CallerKind>,
        /// Its groups.
        groups: Vec<Name<GroupName>>,
        /// How it is recognised.
        credentials: Vec<CredentialText>,
        /// Its live tokens, without their secrets.
        tokens: Vec<Token>,
        /// Whether a custodian has stopped it.
        suspended: bool,
        /// Whether the change that gave this survives power loss; only where there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        durability: Option<DurabilityWord>,
    }

    /// A token, without its secret.
    pub struct Token {
        /// What it is called by.
        id: Name<TokenId>,
        /// Whether it is shown, or requests are signed with it.
        form: Word<TokenForm>,
        /// From when on it is worth nothing.
        expires: Time,
    }

    /// A bearer token that has just been issued.
    pub struct TokenIssued {
        /// What it is called by.
        id: Name<TokenId>,
        /// The token, for an `Authorization: Bearer` header. Shown once.
        token: SecretText,
        /// From when on it is worth nothing.
        expires: Time,
        /// Whether it survives power loss.
        durability: DurabilityWord,
    }

    /// A signing token that has just been issued.
    pub struct SigningTokenIssued {
        /// What it is called by.
        id: Name<TokenId>,
        /// The same, as Signature Version 4 has it.
        access_key_id: String,
        /// What requests are signed with. Shown once.
        secret_access_key: SecretText,
        /// From when on it is worth nothing.
        expires: Time,
        /// Whether it survives power loss.
        durability: DurabilityWord,
    }

    /// A certificate authority that a tenant trusts to name its callers.
    pub struct Anchor {
        /// Its name.
        name: Name<CallerName>,
        /// Its certificate, in PEM.
        certificate: CertificateBytes,
        /// Its revocation list, in PEM, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        crl: Option<CrlBytes>,
    }

    /// A tenant's callers and trust anchors.
    pub struct Callers {
        /// The callers, by name.
        callers: Vec<Caller>,
        /// The trust anchors, by name.
        anchors: Vec<Anchor>,
    }

    /// A version of a tenant's policy.
    pub struct Policy {
        /// From 1, without gaps.
        version: u64,
        /// The policies, in Cedar.
        text: PolicyText,
        /// Who set it.
        author: Name<CallerName>,
        /// When.
        set: Time,
    }

    /// One thing that a check of a policy found.
    pub struct Finding {
        /// Whether the policy is refused for it.
        refuses: bool,
        /// The policy concerned, where it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Name<PolicyId>>,
        /// What is wrong.
        detail: String,
        /// What to do about it.
        remedy: String,
    }

    /// What a check of a policy found; empty when there is nothing wrong.
    pub struct Findings {
        /// The findings.
        findings: Vec<Finding>,
    }

    /// A policy that has been put in force.
    pub struct PolicyDone {
        /// Its version.
        version: u64,
        /// What the check found without refusing it.
        findings: Vec<Finding>,
        /// Whether it survives power loss.
        durability: DurabilityWord,
    }

    /// How the policy in force decides about a question.
    pub struct Explanation {
        /// Whether it would be allowed.
        allowed: bool,
        /// The policies that decide.
        policies: Vec<String>,
        /// Why, one line each.
        reasons: Vec<String>,
    }

    /// A tenant.
    pub struct Tenant {
        /// Its name.
        tenant: Name<TenantId>,
        /// Whether a custodian has stopped everything.
        suspended: bool,
        /// For how many days its log keeps entries; for ever without.
        #[serde(skip_serializing_if = "Option::is_none")]
        retention_days: Option<u32>,
        /// When it was created.
        created: Time,
        /// How often its record, callers, anchors or policy have been written.
        epoch: u64,
    }

    /// A backup that has been written.
    pub struct Backup {
        /// The file's name, in the directory that the gateway's configuration names.
        file: String,
        /// Its length.
        bytes: u64,
        /// Its SHA-256, hexadecimal: the record in the log names it too.
        sha256: String,
        /// As of when.
        taken: Time,
        /// Whether what the gateway remembers of it survives power loss.
        durability: DurabilityWord,
    }

    /// A change of a tenant's records.
    pub struct TenantDone {
        /// The tenant.
        tenant: Name<TenantId>,
        /// Its new epoch.
        epoch: u64,
        /// Whether the change survives power loss.
        durability: DurabilityWord,
    }

    /// A change that is in force, whatever else its answer says: a stop that is not durable yet may answer without the record.
    pub struct Change {
        /// Whether the change survives power loss.
        durability: DurabilityWord,
    }

    /// One part of the gateway.
    pub struct Part {
        /// `key-store`, `state`, `log`, `sink NAME`, or another part's name.
        name: String,
        /// Whether it can work now.
        ready: bool,
        /// Why not, or what there is to know.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    }

    /// The gateway's status.
    pub struct Status {
        /// Its version.
        version: String,
        /// Whether the gateway can work: every part is ready, sinks aside.
        ready: bool,
        /// Its parts.
        parts: Vec<Part>,
        /// What an operator should know: rollback undetectable, a certificate about to expire.
        notices: Vec<String>,
    }

    /// How long a kind of operation takes in a member, in microseconds; 0 while nothing is known.
    pub struct MemberLatency {
        /// `symmetric`, `curve` (ECDSA, EdDSA, ECDH) or `rsa`.
        operations: String,
        /// The median.
        p50_us: u64,
        /// The 95th percentile.
        p95_us: u64,
        /// The 99th percentile.
        p99_us: u64,
    }

    /// A member of the key store's pool.
    pub struct Member {
        /// Its name.
        name: String,
        /// `up`, `drained`, `down`, `open` (its breaker) or `ejected` (it gave a wrong result).
        state: String,
        /// Why it does not work.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// Operations that it is doing or that wait for it.
        in_flight: u64,
        /// Operations that it can do at once.
        sessions: u64,
        /// Operations that it has answered.
        answered: u64,
        /// Operations that failed with it.
        failed: u64,
        /// Operations that it did not answer in time.
        late: u64,
        /// How often its worker was started again.
        restarts: u64,
        /// How long it takes.
        latency: Vec<MemberLatency>,
        /// The token as it says itself: manufacturer, model, serial number, firmware.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    }

    /// The key store's pool.
    pub struct Pool {
        /// Its members; none where custody is in software.
        members: Vec<Member>,
        /// How many of them must hold a new key before it is one.
        copies: u64,
        /// Operations that were asked of a second member because the first was slow.
        hedged: u64,
        /// Operations that were asked of another member because one failed.
        retried: u64,
        /// The newest look through the copies of all keys, since the start.
        #[serde(skip_serializing_if = "Option::is_none")]
        sweep: Option<Sweep>,
    }

    /// A look whether every member of the pool that works holds every key. A member that comes makes for one.
    pub struct Sweep {
        /// When it began.
        begun: String,
        /// When it ended; absent while it is under way.
        #[serde(skip_serializing_if = "Option::is_none")]
        ended: Option<String>,
        /// Key versions in the pool that were looked for.
        versions: u64,
        /// Copies that were found and are right.
        held: u64,
        /// Copies that were brought to a member that lacked them.
        brought: u64,
        /// Copies that a member lacks and could not be brought.
        lacking: u64,
        /// Key versions that could not be looked for.
        failed: u64,
    }

    /// Whether the gateway waits for its root key.
    pub struct Seal {
        /// Whether it does: then nothing but its seal and its health can be asked for.
        sealed: bool,
        /// Whether enough shares are in, and it is being opened.
        opening: bool,
        /// The fresh age recipient that shares are to be encrypted to. Compare its fingerprint with what the gateway's console shows.
        #[serde(skip_serializing_if = "Option::is_none")]
        recipient: Option<String>,
        /// Which generation of shares is wanted.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
        /// How many.
        #[serde(skip_serializing_if = "Option::is_none")]
        threshold: Option<u8>,
        /// How many are in.
        #[serde(skip_serializing_if = "Option::is_none")]
        given: Option<usize>,
        /// Of whom; only for who has just given one.
        #[serde(skip_serializing_if = "Option::is_none")]
        custodians: Option<Vec<Name<CallerName>>>,
    }

    /// What a custodian of the root key answers to have the gateway sealed.
    pub struct SealChallenge {
        /// An age file, encrypted to the custodian of that share.
        challenge: Bytes,
    }

    /// The gateway gives its root key up: nothing is released any more.
    pub struct SealDone {
        /// By whose order.
        custodian: Name<CallerName>,
        /// Whether that it is sealed, and the record of it, survive power loss.
        durability: DurabilityWord,
        /// What is to be done, where a device may open its next start.
        #[serde(skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    }

    /// Whether the gateway lives, or is ready.
    pub struct Health {
        /// Yes or no.
        ok: bool,
    }
}

impl Caller {
    /// As it is registered.
    pub(crate) fn new(record: &CallerRecord, durability: Option<DurabilityWord>) -> Self {
        let CallerRecord { name, kind, groups, credentials, tokens, suspended } = record;
        Self {
            name: Name(name.clone()),
            kind: Word(*kind),
            groups: groups.iter().cloned().map(Name).collect(),
            credentials: credentials.iter().cloned().map(CredentialText).collect(),
            tokens: tokens
                .iter()
                .map(|token| Token {
                    id: Name(token.id),
                    form: Word(token.form),
                    expires: Time(token.expires),
                })
                .collect(),
            suspended: *suspended,
            durability,
        }
    }
}

/// What is known of backups, to say of each key whether one holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backups {
    /// Nobody expects any: a dev directory.
    NotKept,
    /// The newest commit that a verified one holds, if there is one.
    Verified(Option<u64>),
}

impl Backups {
    fn hold(self, key: &holdfast_core::key::Key) -> Option<bool> {
        match self {
            Self::NotKept => None,
            Self::Verified(commit) => Some(key.is_protected(commit)),
        }
    }
}

impl Key {
    /// As it is recorded, with the version that new work takes where that is shown too.
    pub(crate) fn new(
        record: &holdfast_core::key::Key,
        current: Option<&holdfast_core::key::Version>,
        durability: Option<DurabilityWord>,
        backups: Backups,
    ) -> Self {
        let holdfast_core::key::Key {
            id,
            tenant: _,
            name,
            algorithm,
            purpose,
            state,
            resumes_to: _,
            exportable,
            legacy,
            emergency_copy,
            protocol,
            labels,
            newest: newest_version,
            current: current_version,
            waits,
            schedule,
            inventory,
            destruction,
            erasure,
            archive,
            custody,
            renewed: _,
            created,
            epoch,
        } = record;
        Self {
            name: Name(name.clone()),
            id: Name(*id),
            algorithm: Word(*algorithm),
            purpose: Word(*purpose),
            state: Word(*state),
            newest_version: VersionNumber(*newest_version),
            current_version: (current_version != newest_version).then_some(VersionNumber(*current_version)),
            waits_for_backup: waits.then_some(true),
            schedule: schedule.as_ref().map(Schedule::new),
            inventory: inventory.as_deref().map(Inventory::new),
            destruction: destruction.as_ref().map(Destruction::new),
            erasure: erasure.as_deref().map(Erasure::new),
            archive: archive.as_deref().map(Archive::new),
            held_by: Vec::new(),
            sealed_under: Vec::new(),
            exportable: *exportable,
            legacy: LegacyList(*legacy),
            emergency_copy: emergency_copy.then_some(true),
            protocol: protocol.map(Word),
            labels: LabelMap(labels.clone()),
            custody: Word(*custody),
            protected: backups.hold(record),
            created: Time(*created),
            epoch: epoch.0,
            public_key: current
                .and_then(|version| version.public.as_ref())
                .map(|public| Bytes(public.to_vec())),
            durability,
        }
    }
}

impl Version {
    /// As it is recorded.
    pub(crate) fn new(record: &holdfast_core::key::Version) -> Self {
        let holdfast_core::key::Version {
            key: _,
            number,
            state,
            handle: _,
            public,
            commitment: _,
            commit: _,
            created,
        } = record;
        Self {
            version: VersionNumber(*number),
            state: Word(*state),
            created: Time(*created),
            public_key: public.as_ref().map(|public| Bytes(public.to_vec())),
        }
    }
}

impl Anchor {
    /// As it is recorded.
    pub(crate) fn new(record: &holdfast_core::tenant::Anchor) -> Self {
        let holdfast_core::tenant::Anchor { name, certificate, revocations } = record;
        Self {
            name: Name(name.clone()),
            certificate: CertificateBytes(certificate.to_vec()),
            crl: revocations.as_ref().map(|crl| CrlBytes(crl.to_vec())),
        }
    }
}

impl Finding {
    /// As the check gave it.
    pub(crate) fn new(finding: holdfast_core::port::Finding) -> Self {
        let holdfast_core::port::Finding { refuses, policy, detail, remedy } = finding;
        Self { refuses, policy: policy.map(Name), detail, remedy }
    }
}
