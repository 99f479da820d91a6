//! The other side of the wire, sans-IO: requests to send, and what their answers say. The SDK and the command line build on it.

use super::encode::Wiped;
use super::message::{
    ActivateKey, AdoptKey, Agree, AgreeAnswer, ApproveCopy, AskToSeal, Backup, Batch, BatchAnswer,
    BeginImport, Caller, Callers, Change, CheckPolicy, CiphertextAnswer, ConfirmArchive, CreateKey,
    CreateTenant, DataKey, DataKeyAnswer, Decapsulate, Decrypt, DestroyKey, EmergencyCopy, Encapsulate,
    EncapsulateAnswer, Encrypt, ExplainPolicy, Explanation, Findings, FinishImport, GiveShare, ImportBegun,
    IssueSigningToken, IssueToken, Key, KeyArchived, Keys, LabelKey, Mac, MacAnswer, OrderSeal,
    PlaintextAnswer, Policy, PolicyDone, Pool, PublicKeyAnswer, PutAnchor, PutCaller, Random, RandomAnswer,
    RecordInventory, RequestCopy, RestorePolicy, Rewrap, ScheduleKey, Seal, SealChallenge, SealDone,
    SetPolicy, SetRetention, Sign, SignAnswer, SigningTokenIssued, Status, Tenant, TenantDone, TokenIssued,
    TransitionVersion, UnarchiveKey, Unwrap, Verb, Verify, VerifyAnswer, VerifyBackup, VerifyMac, Versions,
    Wrap,
};
use super::problem::Problem;
use super::route::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use core::marker::PhantomData;
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::port::Membership;
use holdfast_core::query::AuditPath;
use holdfast_core::{CallerName, KeyName, KeyVersion, MemberName, TenantId, TokenId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request that expects an answer of one type.
#[derive(Debug)]
pub struct Request<T> {
    /// The method.
    pub method: Method,
    /// Path and query string.
    pub path: String,
    /// The JSON body, if there is one; wiped when dropped.
    pub body: Option<Wiped>,
    answer: PhantomData<fn() -> T>,
}

/// Why there is no answer of the expected type.
#[derive(Debug)]
pub enum Failure {
    /// The gateway says why.
    Problem(Box<Problem>),
    /// Something answered that is no gateway of this version: a proxy, another server.
    Unintelligible {
        /// The HTTP status.
        status: u16,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => f.write_str(&problem.detail),
            Self::Unintelligible { status } => {
                write!(f, "an answer with status {status} that is not Holdfast's")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// What a body says that came with this status.
///
/// # Errors
/// The gateway's problem, or that the answer is none of ours.
pub fn parse<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Failure> {
    let unintelligible = || Failure::Unintelligible { status };
    if (200..300).contains(&status) {
        return serde_json::from_slice(body).map_err(|_| unintelligible());
    }
    Err(problem(status, body))
}

/// What a body says that came with a status of failure.
pub fn problem(status: u16, body: &[u8]) -> Failure {
    match serde_json::from_slice(body) {
        Ok(problem) => Failure::Problem(Box::new(problem)),
        Err(_) => Failure::Unintelligible { status },
    }
}

impl<T> Request<T> {
    fn bare(method: Method, path: String) -> Self {
        Self { method, path, body: None, answer: PhantomData }
    }

    fn with(method: Method, path: String, body: &impl Serialize, size: usize) -> Self {
        let mut buffer = Wiped::with_capacity(size);
        // Writing into memory what has only text for names cannot fail.
        let written = serde_json::to_writer(&mut buffer, body).is_ok();
        Self { method, path, body: written.then_some(buffer), answer: PhantomData }
    }
}

impl<T: DeserializeOwned> Request<T> {
    /// What the answer says.
    ///
    /// # Errors
    /// See [`parse`].
    pub fn parse(&self, status: u16, body: &[u8]) -> Result<T, Failure> {
        parse(status, body)
    }
}

/// Room for a small body.
const SMALL: usize = 512;

/// A request that uses a key.
pub trait UsesKey: Serialize {
    /// The last segment of its path.
    const VERB: Verb;
    /// What it gives.
    type Answer: DeserializeOwned;
    /// How many bytes its body has at most, roughly.
    fn size(&self) -> usize {
        SMALL
    }
}

macro_rules! uses_key {
    ($($request:ident => $answer:ident $(, $field:ident)?;)+) => {$(
        impl UsesKey for $request {
            const VERB: Verb = Verb::$request;
            type Answer = $answer;

            fn size(&self) -> usize {
                SMALL $(+ self.$field.0.len().div_ceil(3) * 4)?
            }
        }
    )+};
}

uses_key! {
    Encrypt => CiphertextAnswer, plaintext;
    Decrypt => PlaintextAnswer, ciphertext;
    Wrap => CiphertextAnswer, plaintext;
    Unwrap => PlaintextAnswer, ciphertext;
    DataKey => DataKeyAnswer;
    Rewrap => CiphertextAnswer, ciphertext;
    Sign => SignAnswer;
    Verify => VerifyAnswer, signature;
    Mac => MacAnswer, message;
    VerifyMac => VerifyAnswer, message;
    Agree => AgreeAnswer;
    Encapsulate => EncapsulateAnswer;
    Decapsulate => AgreeAnswer, ciphertext;
}

/// Uses a key.
pub fn use_key<R: UsesKey>(tenant: &TenantId, key: &KeyName, request: &R) -> Request<R::Answer> {
    let path = format!("{}/{}", key_path(tenant, key), R::VERB.name());
    Request::with(Method::Post, path, request, request.size())
}

/// Uses keys many times at once.
pub fn batch(tenant: &TenantId, batch: &Batch) -> Request<BatchAnswer> {
    Request::with(Method::Post, in_tenant(tenant, "batch"), batch, SMALL * batch.items.len())
}

/// Reads a key's public half.
pub fn public_key(tenant: &TenantId, key: &KeyName, version: Option<KeyVersion>) -> Request<PublicKeyAnswer> {
    let version = version.map(|version| format!("?version={version}")).unwrap_or_default();
    Request::bare(Method::Get, format!("{}/public-key{version}", key_path(tenant, key)))
}

/// Random bytes.
pub fn random(tenant: &TenantId, random: &Random) -> Request<RandomAnswer> {
    Request::with(Method::Post, in_tenant(tenant, "random"), random, SMALL)
}

/// Creates a key.
pub fn create_key(tenant: &TenantId, key: &CreateKey) -> Request<Key> {
    Request::with(Method::Post, in_tenant(tenant, "keys"), key, SMALL)
}

/// A page of keys.
pub fn keys(tenant: &TenantId, after: Option<&KeyName>, limit: Option<usize>) -> Request<Keys> {
    Request::bare(Method::Get, format!("{}{}", in_tenant(tenant, "keys"), page(after, limit)))
}

/// Reads a key.
pub fn key(tenant: &TenantId, key: &KeyName) -> Request<Key> {
    Request::bare(Method::Get, key_path(tenant, key))
}

/// A page of a key's versions.
pub fn versions(
    tenant: &TenantId,
    key: &KeyName,
    after: Option<KeyVersion>,
    limit: Option<usize>,
) -> Request<Versions> {
    Request::bare(Method::Get, format!("{}/versions{}", key_path(tenant, key), page(after, limit)))
}

/// Replaces a key's labels.
pub fn label_key(tenant: &TenantId, key: &KeyName, labels: &LabelKey) -> Request<Key> {
    Request::with(Method::Put, format!("{}/labels", key_path(tenant, key)), labels, SMALL)
}

/// Makes the import key of a key whose material will come from outside.
pub fn begin_import(tenant: &TenantId, import: &BeginImport) -> Request<ImportBegun> {
    Request::with(Method::Post, in_tenant(tenant, "imports"), import, SMALL)
}

/// Gives the material of a key that waits for it.
pub fn finish_import(tenant: &TenantId, key: &KeyName, import: &FinishImport) -> Request<Key> {
    let size = SMALL + import.wrapped.0.len().div_ceil(3) * 4;
    Request::with(Method::Post, format!("{}/import", key_path(tenant, key)), import, size)
}

/// Has an archive of a key written.
pub fn archive_key(tenant: &TenantId, key: &KeyName) -> Request<KeyArchived> {
    Request::bare(Method::Post, format!("{}/archive", key_path(tenant, key)))
}

/// Leaves a key's material to its archive.
pub fn confirm_archive(tenant: &TenantId, key: &KeyName, confirm: &ConfirmArchive) -> Request<Key> {
    Request::with(Method::Post, format!("{}/confirm-archive", key_path(tenant, key)), confirm, SMALL)
}

/// Gives a key's material back from its archive.
pub fn unarchive_key(tenant: &TenantId, key: &KeyName, unarchive: &UnarchiveKey) -> Request<Key> {
    let sealed: usize = unarchive.versions.0.iter().map(|version| version.sealed.0.len() + 64).sum();
    let size = SMALL + sealed.div_ceil(3) * 4;
    Request::with(Method::Post, format!("{}/unarchive", key_path(tenant, key)), unarchive, size)
}

/// Takes a key that another program made in the token.
pub fn adopt_key(tenant: &TenantId, adopt: &AdoptKey) -> Request<Key> {
    Request::with(Method::Post, in_tenant(tenant, "adoptions"), adopt, SMALL)
}

/// Makes a new version of a key.
pub fn rotate_key(tenant: &TenantId, key: &KeyName) -> Request<Key> {
    Request::bare(Method::Post, format!("{}/rotate", key_path(tenant, key)))
}

/// Gives new work back to an earlier version of a key.
pub fn roll_back_key(tenant: &TenantId, key: &KeyName) -> Request<Key> {
    Request::bare(Method::Post, format!("{}/rollback", key_path(tenant, key)))
}

/// Moves a version of a key to another state.
pub fn transition_version(
    tenant: &TenantId,
    key: &KeyName,
    verb: VersionVerb,
    version: &TransitionVersion,
) -> Request<Key> {
    let path = format!("{}/{}-version", key_path(tenant, key), verb.name());
    Request::with(Method::Post, path, version, SMALL)
}

/// Records what of a key's versions is still needed.
pub fn record_inventory(tenant: &TenantId, key: &KeyName, inventory: &RecordInventory) -> Request<Key> {
    let size = SMALL + 12 * inventory.needed_versions.0.len();
    Request::with(Method::Put, format!("{}/inventory", key_path(tenant, key)), inventory, size)
}

/// Says how often a key is rotated by itself.
pub fn schedule_key(tenant: &TenantId, key: &KeyName, schedule: &ScheduleKey) -> Request<Key> {
    Request::with(Method::Put, format!("{}/schedule", key_path(tenant, key)), schedule, SMALL)
}

/// How it stands with a key's emergency copies.
pub fn emergency_copy(tenant: &TenantId, key: &KeyName) -> Request<EmergencyCopy> {
    Request::bare(Method::Get, format!("{}/emergency", key_path(tenant, key)))
}

/// Asks custodians to allow the use of a key's emergency copies.
pub fn request_copy(tenant: &TenantId, key: &KeyName, request: &RequestCopy) -> Request<EmergencyCopy> {
    let size = SMALL + 2 * request.reason.0.len();
    Request::with(Method::Post, format!("{}/emergency", key_path(tenant, key)), request, size)
}

/// Gives a custodian's shares for that.
pub fn approve_copy(tenant: &TenantId, key: &KeyName, shares: &ApproveCopy) -> Request<EmergencyCopy> {
    let size = SMALL + shares.shares.0.len().div_ceil(3) * 4;
    Request::with(Method::Post, format!("{}/emergency/shares", key_path(tenant, key)), shares, size)
}

/// Ends the use of a key's emergency copies, and a request for it.
pub fn end_copy(tenant: &TenantId, key: &KeyName) -> Request<EmergencyCopy> {
    Request::bare(Method::Delete, format!("{}/emergency", key_path(tenant, key)))
}

/// Moves a key to another state.
pub fn transition_key(tenant: &TenantId, key: &KeyName, verb: Transition) -> Request<Key> {
    let path = format!("{}/{}", key_path(tenant, key), verb.name());
    match verb {
        Transition::Destroy(Some(period)) => {
            Request::with(Method::Post, path, &DestroyKey::after(Some(period)), SMALL)
        }
        Transition::Destroy(None)
        | Transition::Activate
        | Transition::Suspend
        | Transition::Resume
        | Transition::Deactivate
        | Transition::Compromise
        | Transition::CancelDestruction => Request::bare(Method::Post, path),
    }
}

/// Creates a tenant.
pub fn create_tenant(tenant: &CreateTenant) -> Request<TenantDone> {
    Request::with(Method::Post, "/v1/tenants".into(), tenant, SMALL)
}

/// Reads a tenant.
pub fn tenant(tenant: &TenantId) -> Request<Tenant> {
    Request::bare(Method::Get, format!("/v1/tenants/{tenant}"))
}

/// Stops everything of a tenant.
pub fn suspend_tenant(tenant: &TenantId) -> Request<TenantDone> {
    Request::bare(Method::Post, in_tenant(tenant, "suspend"))
}

/// Lifts that.
pub fn resume_tenant(tenant: &TenantId) -> Request<TenantDone> {
    Request::bare(Method::Post, in_tenant(tenant, "resume"))
}

/// Says for how long the log keeps its entries.
pub fn set_retention(tenant: &TenantId, retention: &SetRetention) -> Request<TenantDone> {
    Request::with(Method::Put, in_tenant(tenant, "retention"), retention, SMALL)
}

/// Lists callers and trust anchors.
pub fn callers(tenant: &TenantId) -> Request<Callers> {
    Request::bare(Method::Get, in_tenant(tenant, "callers"))
}

/// Registers a caller.
pub fn put_caller(tenant: &TenantId, name: &CallerName, caller: &PutCaller) -> Request<Caller> {
    Request::with(Method::Put, caller_path(tenant, name), caller, SMALL)
}

/// Removes a caller.
pub fn remove_caller(tenant: &TenantId, name: &CallerName) -> Request<TenantDone> {
    Request::bare(Method::Delete, caller_path(tenant, name))
}

/// Stops a caller.
pub fn suspend_caller(tenant: &TenantId, name: &CallerName) -> Request<Change> {
    Request::bare(Method::Post, format!("{}/suspend", caller_path(tenant, name)))
}

/// Lifts that.
pub fn resume_caller(tenant: &TenantId, name: &CallerName) -> Request<Change> {
    Request::bare(Method::Post, format!("{}/resume", caller_path(tenant, name)))
}

/// Issues a token.
pub fn issue_token(tenant: &TenantId, name: &CallerName, token: &IssueToken) -> Request<TokenIssued> {
    Request::with(Method::Post, format!("{}/tokens", caller_path(tenant, name)), token, SMALL)
}

/// Issues a token that requests are signed with.
pub fn issue_signing_token(
    tenant: &TenantId,
    name: &CallerName,
    token: &IssueSigningToken,
) -> Request<SigningTokenIssued> {
    Request::with(Method::Post, format!("{}/signing-tokens", caller_path(tenant, name)), token, SMALL)
}

/// Revokes a token.
pub fn revoke_token(tenant: &TenantId, name: &CallerName, token: TokenId) -> Request<Change> {
    Request::bare(Method::Delete, format!("{}/tokens/{token}", caller_path(tenant, name)))
}

/// Trusts a certificate authority.
pub fn put_anchor(tenant: &TenantId, name: &CallerName, anchor: &PutAnchor) -> Request<TenantDone> {
    let size = SMALL + 2 * anchor.certificate.0.len() + 2 * anchor.crl.as_ref().map_or(0, |crl| crl.0.len());
    Request::with(Method::Put, in_tenant(tenant, &format!("anchors/{name}")), anchor, size)
}

/// Trusts it no longer.
pub fn remove_anchor(tenant: &TenantId, name: &CallerName) -> Request<TenantDone> {
    Request::bare(Method::Delete, in_tenant(tenant, &format!("anchors/{name}")))
}

/// Reads the policy in force, or an earlier version.
pub fn policy(tenant: &TenantId, version: Option<u64>) -> Request<Policy> {
    let path = version.map_or_else(|| "policy".into(), |version| format!("policy/versions/{version}"));
    Request::bare(Method::Get, in_tenant(tenant, &path))
}

/// Replaces the policy.
pub fn set_policy(tenant: &TenantId, policy: &SetPolicy) -> Request<PolicyDone> {
    Request::with(Method::Put, in_tenant(tenant, "policy"), policy, SMALL + policy.text.0.len())
}

/// Puts an earlier policy in force again.
pub fn restore_policy(tenant: &TenantId, restore: &RestorePolicy) -> Request<PolicyDone> {
    Request::with(Method::Post, in_tenant(tenant, "policy/restore"), restore, SMALL)
}

/// Checks a policy.
pub fn check_policy(tenant: &TenantId, check: &CheckPolicy) -> Request<Findings> {
    Request::with(Method::Post, in_tenant(tenant, "policy/check"), check, SMALL + check.text.0.len())
}

/// Asks how the policy decides.
pub fn explain_policy(tenant: &TenantId, question: &ExplainPolicy) -> Request<Explanation> {
    Request::with(Method::Post, in_tenant(tenant, "policy/explain"), question, SMALL)
}

/// Reads a file of the log; its answer is the bytes themselves, not to be parsed.
pub fn audit_file(tenant: &TenantId, path: &AuditPath) -> Request<()> {
    Request::bare(Method::Get, in_tenant(tenant, &format!("audit/{}", path.as_str())))
}

/// Writes a backup.
pub fn back_up() -> Request<Backup> {
    Request::bare(Method::Post, "/v1/backups".into())
}

/// Puts a key into use although no verified backup holds it.
pub fn activate_unprotected(tenant: &TenantId, key: &KeyName) -> Request<Key> {
    let order = ActivateKey { unprotected: Some(true) };
    Request::with(Method::Post, format!("{}/activate", key_path(tenant, key)), &order, SMALL)
}

/// Records that a backup opens.
pub fn verify_backup(verified: &VerifyBackup) -> Request<TenantDone> {
    Request::with(Method::Post, "/v1/backups/verified".into(), verified, SMALL)
}

/// Confirms that the clock is right after a jump.
pub fn confirm_clock() -> Request<TenantDone> {
    Request::bare(Method::Post, "/v1/clock/confirm".into())
}

/// Looks at the members of the pool.
pub fn pool() -> Request<Pool> {
    Request::bare(Method::Get, "/v1/pool".into())
}

/// Takes a member of the pool out, or lets it in again.
pub fn move_member(member: &MemberName, to: Membership) -> Request<TenantDone> {
    let verb = match to {
        Membership::Drained => "drain",
        Membership::Joined => "join",
    };
    Request::bare(Method::Post, format!("/v1/pool/members/{member}/{verb}"))
}

/// Reads the gateway's status.
pub fn status() -> Request<Status> {
    Request::bare(Method::Get, "/v1/status".into())
}

/// Asks whether the gateway waits for its root key.
pub fn seal() -> Request<Seal> {
    Request::bare(Method::Get, "/v1/seal".into())
}

/// Gives a share of the root key.
pub fn give_share(share: &GiveShare) -> Request<Seal> {
    Request::with(Method::Post, "/v1/seal/shares".into(), share, 2 * share.share.0.len() + SMALL)
}

/// Asks, as a custodian of the root key, for what orders a seal.
pub fn ask_to_seal(ask: &AskToSeal) -> Request<SealChallenge> {
    Request::with(Method::Post, "/v1/seal/challenge".into(), ask, SMALL)
}

/// Seals the gateway.
pub fn order_seal(order: &OrderSeal) -> Request<SealDone> {
    Request::with(Method::Post, "/v1/seal".into(), order, SMALL)
}

/// A signed receipt from its header; nothing if it is not one of a gateway's.
pub fn receipt(header: &[u8]) -> Option<String> {
    let text = STANDARD.decode(header).ok()?;
    String::from_utf8(text).ok()
}

fn in_tenant(tenant: &TenantId, rest: &str) -> String {
    format!("/v1/tenants/{tenant}/{rest}")
}

fn key_path(tenant: &TenantId, key: &KeyName) -> String {
    format!("/v1/tenants/{tenant}/keys/{key}")
}

fn caller_path(tenant: &TenantId, caller: &CallerName) -> String {
    format!("/v1/tenants/{tenant}/callers/{caller}")
}

fn page(after: Option<impl fmt::Display>, limit: Option<usize>) -> String {
    match (after, limit) {
        (Some(after), Some(limit)) => format!("?after={after}&limit={limit}"),
        (Some(after), None) => format!("?after={after}"),
        (None, Some(limit)) => format!("?limit={limit}"),
        (None, None) => String::new(),
    }
}
