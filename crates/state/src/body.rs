//! The bodies of rows: compact JSON, one shape for each kind, each beginning with the version of its shape.
//!
//! Identity, tenant and epoch stand in the row's columns. A field that is new and may be absent keeps the version; anything else raises
//! `v` and keeps a reader of the older one. `tests/body.rs` holds the bytes of every kind, so that a change of format is a decision.

use crate::fault::Fault;
use crate::record::Row;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::archive::KeyArchive;
use holdfast_core::caller::{CallerKind, CallerRecord, Credential, Token, TokenForm};
use holdfast_core::destruction::{Destruction, Erasure, WaitingPeriod};
use holdfast_core::frame::Commitment;
use holdfast_core::inventory::Inventory;
use holdfast_core::key::{Custody, Key, Legacy, SealedHandle, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::pipeline::OpenIntent;
use holdfast_core::port::Absence;
use holdfast_core::protocol::Protocol;
use holdfast_core::retention::Retention;
use holdfast_core::schedule::{RotationPeriod, Schedule};
use holdfast_core::sealing_key::{RetiredSealingKey, SealingKeyId, SealingKeys};
use holdfast_core::tenant::{Anchor, PolicyVersion, TakenBackup, TenantRecord};
use holdfast_core::{Epoch, KeyId, KeyVersion, MemberName, OperationId, Timestamp, TokenId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// The version of every shape so far.
const V: u8 = 1;

/// Bytes as base 64 without padding.
struct Bytes<'a>(Cow<'a, [u8]>);

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Ok(Self(Cow::Owned(bytes)))
    }
}

impl Bytes<'_> {
    fn array<const N: usize>(&self) -> Result<[u8; N], &'static str> {
        self.0.as_ref().try_into().map_err(|_| "bytes of another length")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantBody<'a> {
    v: u8,
    suspended: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    handle: Option<Bytes<'a>>,
    /// Where something is known of its sealing keys.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sealing: Option<SealingBody<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backed_up: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    backups: Vec<BackupBody<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock_held: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    out: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    members: BTreeMap<Cow<'a, str>, Option<u64>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    up: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares: Option<u32>,
    created: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealingBody<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    newest: Option<Bytes<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    leaving: Option<Bytes<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    retired: Vec<RetiredBody<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetiredBody<'a> {
    #[serde(borrow)]
    id: Bytes<'a>,
    retired: u64,
    versions: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupBody<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    commit: u64,
    taken: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(borrow)]
    sha256: Bytes<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerBody<'a> {
    v: u8,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    groups: Vec<Cow<'a, str>>,
    credentials: Vec<CredentialBody<'a>>,
    tokens: Vec<TokenBody<'a>>,
    suspended: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CredentialBody<'a> {
    Uri(Cow<'a, str>),
    Dns(Cow<'a, str>),
    #[serde(borrow)]
    Key(Bytes<'a>),
    Issued {
        issuer: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<Cow<'a, str>>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    hash: Bytes<'a>,
    expires: u64,
    /// Whether requests are signed with it; it is shown otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    signing: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorBody<'a> {
    v: u8,
    #[serde(borrow)]
    certificate: Bytes<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revocations: Option<Bytes<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyBody<'a> {
    v: u8,
    version: u64,
    #[serde(borrow)]
    text: Cow<'a, str>,
    author: Cow<'a, str>,
    set: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody<'a> {
    v: u8,
    #[serde(borrow)]
    name: Cow<'a, str>,
    algorithm: Cow<'a, str>,
    purpose: Cow<'a, str>,
    state: Cow<'a, str>,
    resumes_to: Cow<'a, str>,
    exportable: bool,
    rsa_pkcs1_decrypt: bool,
    sha1_oaep: bool,
    /// Where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    emergency_copy: Option<bool>,
    /// Where it was created for one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Cow<'a, str>>,
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    newest: u32,
    /// Where it is not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<u32>,
    /// Where its newest version waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleBody>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    inventory: Option<InventoryBody<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    destruction: Option<DestructionBody<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    erasure: Option<ErasureBody<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveBody<'a>>,
    custody: Cow<'a, str>,
    renewed: u64,
    created: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveBody<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    made: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(borrow)]
    sha256: Bytes<'a>,
    #[serde(borrow)]
    code: Bytes<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    opener: Option<Bytes<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    sealed_under: Vec<Bytes<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleBody {
    days: u32,
    due: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DestructionBody<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow)]
    resumes_to: Cow<'a, str>,
    ordered: u64,
    days: u32,
    up: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureBody<'a> {
    destroyed: u64,
    commit: u64,
    #[serde(borrow)]
    absent: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    pending: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    sealed_under: Vec<Bytes<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InventoryBody<'a> {
    newest: u32,
    needed: Vec<u32>,
    items: u64,
    #[serde(borrow)]
    sha256: Bytes<'a>,
    recorded: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionBody<'a> {
    v: u8,
    #[serde(borrow)]
    state: Cow<'a, str>,
    handle: Bytes<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public: Option<Bytes<'a>>,
    commitment: Bytes<'a>,
    #[serde(default, skip_serializing_if = "is_zero")]
    commit: u64,
    created: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references out")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn encode(body: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(body)
        .map_err(|error| crate::fault::defect(format!("a record cannot be encoded: {error}")))
}

/// What every shape begins with.
#[derive(Deserialize)]
struct Versioned {
    v: u8,
}

fn decode<'a, T: Deserialize<'a>>(row: &Row<'a>) -> Result<T, Fault> {
    serde_json::from_slice(row.body).map_err(|error| match serde_json::from_slice::<Versioned>(row.body) {
        Ok(Versioned { v }) if v > V => {
            row.damaged(format!("its shape has version {v}, this binary knows {V}"))
        }
        Ok(_) | Err(_) => row.damaged(format!("its body is not of its shape: {error}")),
    })
}

/// The tag fits, yet the value is none of ours: a defect, or a version of ours that knew more.
fn parse<T: FromStr>(row: &Row<'_>, what: &'static str, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| row.damaged(format!("its {what} is unknown to this binary")))
}

fn named<T>(row: &Row<'_>, what: &'static str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| row.damaged(format!("its {what} is unknown to this binary")))
}

fn exact<const N: usize>(row: &Row<'_>, bytes: &Bytes<'_>) -> Result<[u8; N], Fault> {
    bytes.array().map_err(|why| row.damaged(why))
}

fn purpose(text: &str) -> Option<Purpose> {
    [Purpose::Encrypt, Purpose::Wrap, Purpose::Sign, Purpose::Mac, Purpose::Agree, Purpose::Encapsulate]
        .into_iter()
        .find(|purpose| purpose.name() == text)
}

/// A tenant's body.
pub(crate) fn of_tenant(record: &TenantRecord) -> Result<Vec<u8>, Fault> {
    let TenantRecord {
        id: _,
        suspended,
        handle,
        sealing,
        backed_up,
        backups,
        verified,
        retention,
        clock_held,
        out,
        members,
        up,
        shares,
        created,
        epoch: _,
    } = record;
    encode(&TenantBody {
        v: V,
        suspended: *suspended,
        handle: handle.as_ref().map(|handle| handle.as_bytes().into()),
        sealing: (*sealing != SealingKeys::default()).then(|| of_sealing(sealing)),
        backed_up: *backed_up,
        backups: backups.iter().map(of_backup).collect(),
        verified: *verified,
        retention_days: retention.map(Retention::days),
        clock_held: clock_held.map(Timestamp::micros),
        out: out.iter().map(|(member, absence)| (member.as_str().into(), absence.name().into())).collect(),
        members: members.iter().map(|(member, left)| (member.as_str().into(), *left)).collect(),
        up: *up,
        shares: *shares,
        created: created.micros(),
    })
}

/// A tenant of a row.
pub(crate) fn tenant(row: &Row<'_>) -> Result<TenantRecord, Fault> {
    let body: TenantBody<'_> = decode(row)?;
    let TenantBody {
        v: _,
        suspended,
        handle,
        sealing: keys,
        backed_up,
        backups,
        verified,
        retention_days,
        clock_held,
        out,
        members,
        up,
        shares,
        created,
    } = body;
    let retention = retention_days
        .map(|days| Retention::of_days(days).ok_or_else(|| row.damaged("its retention is none")));
    let out = out.iter().map(|(member, absence)| {
        Ok((
            parse(row, "member of the pool", member)?,
            named(row, "absence of a member", Absence::from_name(absence))?,
        ))
    });
    let members = members.iter().map(|(member, left)| Ok((parse(row, "member of the pool", member)?, *left)));
    Ok(TenantRecord {
        id: parse(row, "tenant", row.tenant)?,
        suspended,
        handle: handle.map(|bytes| SealedHandle::new(&bytes.0)),
        sealing: keys.map_or_else(|| Ok(SealingKeys::default()), |keys| sealing(row, &keys))?,
        backed_up,
        backups: backups.iter().map(|body| backup(row, body)).collect::<Result<_, _>>()?,
        verified,
        retention: retention.transpose()?,
        clock_held: clock_held.map(Timestamp::from_micros),
        out: out.collect::<Result<_, Fault>>()?,
        members: members.collect::<Result<_, Fault>>()?,
        up,
        shares,
        created: Timestamp::from_micros(created),
        epoch: Epoch(row.epoch),
    })
}

fn of_sealing(keys: &SealingKeys) -> SealingBody<'_> {
    let SealingKeys { due, newest, leaving, retired } = keys;
    let retired = retired.iter().map(|RetiredSealingKey { id, retired, versions }| RetiredBody {
        id: of_id(id),
        retired: retired.micros(),
        versions: *versions,
    });
    SealingBody {
        due: due.map(Timestamp::micros),
        newest: newest.as_ref().map(of_id),
        leaving: leaving.as_ref().map(of_id),
        retired: retired.collect(),
    }
}

fn sealing_key_id(row: &Row<'_>, bytes: &Bytes<'_>) -> Result<SealingKeyId, Fault> {
    exact(row, bytes).map(SealingKeyId::from_bytes)
}

fn of_id(id: &SealingKeyId) -> Bytes<'_> {
    id.as_bytes().as_slice().into()
}

fn sealing(row: &Row<'_>, body: &SealingBody<'_>) -> Result<SealingKeys, Fault> {
    let SealingBody { due, newest, leaving, retired } = body;
    let id = |bytes: &Bytes<'_>| sealing_key_id(row, bytes);
    let retired = retired.iter().map(|RetiredBody { id: of, retired, versions }| {
        let retired = Timestamp::from_micros(*retired);
        Ok(RetiredSealingKey { id: id(of)?, retired, versions: *versions })
    });
    Ok(SealingKeys {
        due: due.map(Timestamp::from_micros),
        newest: newest.as_ref().map(id).transpose()?,
        leaving: leaving.as_ref().map(id).transpose()?,
        retired: retired.collect::<Result<_, Fault>>()?,
    })
}

fn of_backup(taken: &TakenBackup) -> BackupBody<'_> {
    let TakenBackup { name, commit, taken, expires, sha256 } = taken;
    BackupBody {
        name: Cow::Borrowed(name),
        commit: *commit,
        taken: taken.micros(),
        expires: expires.map(Timestamp::micros),
        sha256: sha256.as_slice().into(),
    }
}

fn backup(row: &Row<'_>, body: &BackupBody<'_>) -> Result<TakenBackup, Fault> {
    let BackupBody { name, commit, taken, expires, sha256 } = body;
    Ok(TakenBackup {
        name: (**name).into(),
        commit: *commit,
        taken: Timestamp::from_micros(*taken),
        expires: expires.map(Timestamp::from_micros),
        sha256: exact(row, sha256)?,
    })
}

/// A caller's body.
pub(crate) fn of_caller(record: &CallerRecord) -> Result<Vec<u8>, Fault> {
    let CallerRecord { name: _, kind, groups, credentials, tokens, suspended } = record;
    let credentials = credentials.iter().map(|credential| match credential {
        Credential::Uri(uri) => CredentialBody::Uri(Cow::Borrowed(uri)),
        Credential::Dns(dns) => CredentialBody::Dns(Cow::Borrowed(dns)),
        Credential::KeyHash(hash) => CredentialBody::Key(hash.as_slice().into()),
        Credential::Issued { issuer, subject } => CredentialBody::Issued {
            issuer: Cow::Borrowed(issuer),
            subject: subject.as_deref().map(Cow::Borrowed),
        },
    });
    let tokens = tokens.iter().map(|Token { id, hash, expires, form }| TokenBody {
        id: Cow::Owned(id.to_string()),
        hash: hash.as_slice().into(),
        expires: expires.micros(),
        signing: *form == TokenForm::Signing,
    });
    encode(&CallerBody {
        v: V,
        kind: kind.name().into(),
        groups: groups.iter().map(|group| group.as_str().into()).collect(),
        credentials: credentials.collect(),
        tokens: tokens.collect(),
        suspended: *suspended,
    })
}

/// A caller of a row.
pub(crate) fn caller(row: &Row<'_>) -> Result<CallerRecord, Fault> {
    let CallerBody { v: _, kind, groups, credentials, tokens, suspended } = decode(row)?;
    let credentials = credentials.into_iter().map(|credential| {
        Ok(match credential {
            CredentialBody::Uri(uri) => Credential::Uri(uri.into()),
            CredentialBody::Dns(dns) => Credential::Dns(dns.into()),
            CredentialBody::Key(hash) => Credential::KeyHash(exact(row, &hash)?),
            CredentialBody::Issued { issuer, subject } => {
                Credential::Issued { issuer: issuer.into(), subject: subject.map(Into::into) }
            }
        })
    });
    let tokens = tokens.into_iter().map(|TokenBody { id, hash, expires, signing }| {
        Ok(Token {
            id: parse::<TokenId>(row, "token id", &id)?,
            hash: exact(row, &hash)?,
            expires: Timestamp::from_micros(expires),
            form: if signing { TokenForm::Signing } else { TokenForm::Bearer },
        })
    });
    Ok(CallerRecord {
        name: parse(row, "name", row.name.unwrap_or_default())?,
        kind: named(row, "kind", CallerKind::from_name(&kind))?,
        groups: groups.iter().map(|group| parse(row, "group", group)).collect::<Result<_, _>>()?,
        credentials: credentials.collect::<Result<_, Fault>>()?,
        tokens: tokens.collect::<Result<_, Fault>>()?,
        suspended,
    })
}

/// A trust anchor's body.
pub(crate) fn of_anchor(anchor: &Anchor) -> Result<Vec<u8>, Fault> {
    let Anchor { name: _, certificate, revocations } = anchor;
    encode(&AnchorBody {
        v: V,
        certificate: (**certificate).into(),
        revocations: revocations.as_ref().map(|list| (**list).into()),
    })
}

/// A trust anchor of a row.
pub(crate) fn anchor(row: &Row<'_>) -> Result<Anchor, Fault> {
    let AnchorBody { v: _, certificate, revocations } = decode(row)?;
    Ok(Anchor {
        name: parse(row, "name", row.name.unwrap_or_default())?,
        certificate: Arc::from(certificate.0),
        revocations: revocations.map(|list| Arc::from(list.0)),
    })
}

/// A policy version's body.
pub(crate) fn of_policy(policy: &PolicyVersion) -> Result<Vec<u8>, Fault> {
    let PolicyVersion { version, text, author, set } = policy;
    encode(&PolicyBody {
        v: V,
        version: *version,
        text: Cow::Borrowed(text),
        author: author.as_str().into(),
        set: set.micros(),
    })
}

/// A policy version of a row.
pub(crate) fn policy(row: &Row<'_>) -> Result<PolicyVersion, Fault> {
    let PolicyBody { v: _, version, text, author, set } = decode(row)?;
    Ok(PolicyVersion {
        version,
        text: Arc::from(text),
        author: parse(row, "author", &author)?,
        set: Timestamp::from_micros(set),
    })
}

/// A key's body.
pub(crate) fn of_key(key: &Key) -> Result<Vec<u8>, Fault> {
    let Key {
        id: _,
        tenant: _,
        name,
        algorithm,
        purpose,
        state,
        resumes_to,
        exportable,
        legacy: Legacy { rsa_pkcs1_decrypt, sha1_oaep },
        emergency_copy,
        protocol,
        labels,
        newest,
        current,
        waits,
        schedule,
        inventory,
        destruction,
        erasure,
        archive,
        custody,
        renewed,
        created,
        epoch: _,
    } = key;
    let labels = labels.iter().map(|(label, value)| (Cow::Borrowed(&**label), Cow::Borrowed(&**value)));
    encode(&KeyBody {
        v: V,
        name: name.as_str().into(),
        algorithm: algorithm.name().into(),
        purpose: purpose.name().into(),
        state: state.name().into(),
        resumes_to: resumes_to.name().into(),
        exportable: *exportable,
        rsa_pkcs1_decrypt: *rsa_pkcs1_decrypt,
        sha1_oaep: *sha1_oaep,
        emergency_copy: emergency_copy.then_some(true),
        protocol: protocol.map(|protocol| protocol.name().into()),
        labels: labels.collect(),
        newest: newest.get(),
        current: (current != newest).then(|| current.get()),
        waits: waits.then_some(true),
        schedule: schedule
            .map(|Schedule { period, due }| ScheduleBody { days: period.days(), due: due.micros() }),
        inventory: inventory.as_deref().map(of_inventory),
        destruction: destruction.as_ref().map(of_destruction),
        erasure: erasure.as_deref().map(of_erasure),
        archive: archive.as_deref().map(of_archive),
        custody: custody.name().into(),
        renewed: *renewed,
        created: created.micros(),
    })
}

fn of_archive(archive: &KeyArchive) -> ArchiveBody<'_> {
    let KeyArchive { id, made, expires, sha256, code, stored, opener, sealed_under } = archive;
    ArchiveBody {
        id: id.to_string().into(),
        made: made.micros(),
        expires: expires.map(Timestamp::micros),
        sha256: sha256.as_slice().into(),
        code: code.as_slice().into(),
        stored: stored.map(Timestamp::micros),
        opener: opener.as_ref().map(|opener| opener.as_bytes().into()),
        sealed_under: sealed_under.iter().map(of_id).collect(),
    }
}

fn archive(row: &Row<'_>, body: &ArchiveBody<'_>) -> Result<KeyArchive, Fault> {
    let ArchiveBody { id, made, expires, sha256, code, stored, opener, sealed_under } = body;
    Ok(KeyArchive {
        id: parse(row, "order of the archive", id)?,
        made: Timestamp::from_micros(*made),
        expires: expires.map(Timestamp::from_micros),
        sha256: exact(row, sha256)?,
        code: exact(row, code)?,
        stored: stored.map(Timestamp::from_micros),
        opener: opener.as_ref().map(|bytes| SealedHandle::new(&bytes.0)),
        sealed_under: sealed_under.iter().map(|id| sealing_key_id(row, id)).collect::<Result<_, _>>()?,
    })
}

fn of_inventory(inventory: &Inventory) -> InventoryBody<'_> {
    let Inventory { newest, needed, items, sha256, recorded } = inventory;
    InventoryBody {
        newest: newest.get(),
        needed: needed.iter().map(|version| version.get()).collect(),
        items: *items,
        sha256: sha256.as_slice().into(),
        recorded: recorded.micros(),
    }
}

fn inventory(row: &Row<'_>, body: &InventoryBody<'_>) -> Result<Inventory, Fault> {
    let InventoryBody { newest, needed, items, sha256, recorded } = body;
    let version = |number: &u32| named(row, "inventory's version", KeyVersion::new(*number));
    Ok(Inventory {
        newest: version(newest)?,
        needed: needed.iter().map(version).collect::<Result<_, _>>()?,
        items: *items,
        sha256: exact(row, sha256)?,
        recorded: Timestamp::from_micros(*recorded),
    })
}

fn of_destruction(order: &Destruction) -> DestructionBody<'static> {
    let Destruction { state, resumes_to, ordered, period, up } = order;
    DestructionBody {
        state: state.name().into(),
        resumes_to: resumes_to.name().into(),
        ordered: ordered.micros(),
        days: period.days(),
        up: *up,
    }
}

fn destruction(row: &Row<'_>, body: &DestructionBody<'_>) -> Result<Destruction, Fault> {
    let DestructionBody { state, resumes_to, ordered, days, up } = body;
    let known = |name: &str| named(row, "state before its destruction", KeyState::from_name(name));
    Ok(Destruction {
        state: known(state)?,
        resumes_to: known(resumes_to)?,
        ordered: Timestamp::from_micros(*ordered),
        period: named(row, "waiting period", WaitingPeriod::of_days(*days))?,
        up: *up,
    })
}

fn of_erasure(erasure: &Erasure) -> ErasureBody<'_> {
    let Erasure { destroyed, commit, absent, pending, left, sealed_under } = erasure;
    let names = |members: &'_ [MemberName]| members.iter().map(|member| member.to_string().into()).collect();
    ErasureBody {
        destroyed: destroyed.micros(),
        commit: *commit,
        absent: names(absent),
        pending: names(pending),
        left: names(left),
        sealed_under: sealed_under.iter().map(of_id).collect(),
    }
}

fn erasure(row: &Row<'_>, body: &ErasureBody<'_>) -> Result<Erasure, Fault> {
    let ErasureBody { destroyed, commit, absent, pending, left, sealed_under } = body;
    let members = |names: &[Cow<'_, str>]| {
        names.iter().map(|name| parse(row, "member of the pool", name)).collect::<Result<_, _>>()
    };
    Ok(Erasure {
        destroyed: Timestamp::from_micros(*destroyed),
        commit: *commit,
        absent: members(absent)?,
        pending: members(pending)?,
        left: members(left)?,
        sealed_under: sealed_under.iter().map(|id| sealing_key_id(row, id)).collect::<Result<_, _>>()?,
    })
}

fn schedule(row: &Row<'_>, body: &ScheduleBody) -> Result<Schedule, Fault> {
    let ScheduleBody { days, due } = body;
    let period = named(row, "schedule", RotationPeriod::of_days(*days))?;
    Ok(Schedule { period, due: Timestamp::from_micros(*due) })
}

/// A key of a row.
pub(crate) fn key(row: &Row<'_>) -> Result<Key, Fault> {
    let body: KeyBody<'_> = decode(row)?;
    if row.name.is_some_and(|name| name != body.name) {
        return Err(row.damaged("it is found by a name that is not its own"));
    }
    let id = row.id.try_into().map_err(|_| row.damaged("its id has another length"))?;
    let labels = body.labels.into_iter().map(|(label, value)| (label.into(), value.into()));
    let protocol = body.protocol.map(|name| named(row, "protocol", Protocol::of_key(&name)));
    let newest = named(row, "newest version", KeyVersion::new(body.newest))?;
    let current = body.current.map(|current| {
        let earlier = KeyVersion::new(current).filter(|current| *current < newest);
        named(row, "version for new work", earlier)
    });
    Ok(Key {
        id: KeyId::from_bytes(id),
        tenant: parse(row, "tenant", row.tenant)?,
        name: parse(row, "name", &body.name)?,
        algorithm: parse::<Algorithm>(row, "algorithm", &body.algorithm)?,
        purpose: named(row, "purpose", purpose(&body.purpose))?,
        state: named(row, "state", KeyState::from_name(&body.state))?,
        resumes_to: named(row, "state", KeyState::from_name(&body.resumes_to))?,
        exportable: body.exportable,
        legacy: Legacy { rsa_pkcs1_decrypt: body.rsa_pkcs1_decrypt, sha1_oaep: body.sha1_oaep },
        emergency_copy: body.emergency_copy.unwrap_or(false),
        protocol: protocol.transpose()?,
        labels: labels.collect(),
        newest,
        current: current.transpose()?.unwrap_or(newest),
        waits: body.waits.unwrap_or(false),
        schedule: body.schedule.map(|body| schedule(row, &body)).transpose()?,
        inventory: body.inventory.map(|body| inventory(row, &body)).transpose()?.map(Arc::new),
        destruction: body.destruction.map(|body| destruction(row, &body)).transpose()?,
        erasure: body.erasure.map(|body| erasure(row, &body)).transpose()?.map(Arc::new),
        archive: body.archive.map(|body| archive(row, &body)).transpose()?.map(Arc::new),
        custody: named(row, "custody", Custody::from_name(&body.custody))?,
        renewed: body.renewed,
        created: Timestamp::from_micros(body.created),
        epoch: Epoch(row.epoch),
    })
}

/// A key version's body.
pub(crate) fn of_version(version: &Version) -> Result<Vec<u8>, Fault> {
    let Version { key: _, number: _, state, handle, public, commitment, commit, created } = version;
    encode(&VersionBody {
        v: V,
        state: state.name().into(),
        handle: handle.as_bytes().into(),
        public: public.as_ref().map(|public| (**public).into()),
        commitment: commitment.0.as_slice().into(),
        commit: *commit,
        created: created.micros(),
    })
}

/// A key version of a row.
pub(crate) fn version(row: &Row<'_>) -> Result<Version, Fault> {
    let VersionBody { v: _, state, handle, public, commitment, commit, created } = decode(row)?;
    let (key, number) = row
        .id
        .split_first_chunk::<16>()
        .and_then(|(key, number)| {
            Some((KeyId::from_bytes(*key), u32::from_be_bytes(number.try_into().ok()?)))
        })
        .ok_or_else(|| row.damaged("its id has another length"))?;
    Ok(Version {
        key,
        number: named(row, "number", KeyVersion::new(number))?,
        state: named(row, "state", KeyState::from_name(&state))?,
        handle: SealedHandle::new(&handle.0),
        public: public.map(|public| Arc::from(public.0)),
        commitment: Commitment(exact(row, &commitment)?),
        commit,
        created: Timestamp::from_micros(created),
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopOrderBody<'a> {
    v: u8,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
}

/// A stop order, for the row of its commit.
pub(crate) fn stop_order(order: &OpenIntent) -> Result<Vec<u8>, Fault> {
    let OpenIntent { operation: _, tenant, action, key, subject } = order;
    let body = StopOrderBody {
        v: V,
        tenant: tenant.as_str().into(),
        action: action.name().into(),
        key: key.as_ref().map(|key| key.as_str().into()),
        subject: subject.as_deref().map(Cow::from),
    };
    serde_json::to_vec(&body).map_err(|_| crate::fault::defect("a stop order that cannot be written"))
}

/// Reads it back.
pub(crate) fn open_stop_order(operation: OperationId, bytes: &[u8]) -> Result<OpenIntent, Fault> {
    let unreadable =
        || Fault::damaged("committed", format!("operation {operation}"), "its stop order is none");
    let StopOrderBody { v, tenant, action, key, subject } =
        serde_json::from_slice(bytes).map_err(|_| unreadable())?;
    let read = || {
        Some(OpenIntent {
            operation,
            tenant: tenant.parse().ok()?,
            action: Action::from_name(&action)?,
            key: key.map(|key| key.parse()).transpose().ok()?,
            subject: subject.map(|subject| subject.into()),
        })
    };
    read().filter(|_| v == V).ok_or_else(unreadable)
}
