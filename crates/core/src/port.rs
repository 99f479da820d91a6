//! The ports: everything that core needs of the world, and what it may rely on.
//!
//! Ports return plain data. Only `pipeline/proof.rs` turns such data into proofs.

use crate::action::Action;
use crate::adoption::{ObjectDigest, Sought};
use crate::algorithm::Algorithm;
use crate::archive::{Bundle, Bundled};
use crate::caller::{Authentication, Caller, CallerRecord};
use crate::command::VerifiedBackup;
use crate::context::Context;
use crate::emergency::{Approved, CopyState, OpenedCopy, RequestCopy};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{Epoch, KeyId, KeyName, KeyVersion, MemberName, OperationId, PolicyId, TenantId, TokenId};
use crate::import::Wrapped;
use crate::key::{Custody, Generated, Key, KeyMaterial, NewVersion, SealedHandle, Version};
use crate::peer::Proof;
use crate::pipeline::{Change as ChangeKind, Intent, OpenIntent, Permit, Use};
use crate::query::AuditPath;
use crate::receipt::{SignedReceipt, Statement};
use crate::retention::Retention;
use crate::sealing_key::SealingKeyId;
use crate::secret::Secret;
use crate::tenant::{Anchor, PolicyVersion, TenantData, TenantRecord};
use crate::time::Timestamp;
use crate::work::{Product, Work};
use core::future::Future;
use core::net::IpAddr;
use std::sync::Arc;

/// The six ports of one gateway, chosen at the root.
pub trait Ports: Send + Sync + 'static {
    /// Who asks.
    type Identify: Identify;
    /// What the policy says.
    type Decide: Decide;
    /// Custody.
    type Keys: KeyStore;
    /// Durable records.
    type State: State;
    /// The audit log.
    type Log: AuditLog;
    /// Backups.
    type Archive: Archive;
    /// Clock and entropy.
    type World: World;
}

/// Writes what is needed to restore the gateway elsewhere.
pub trait Archive: Send + Sync + 'static {
    /// Writes one backup under its recorded intent. It MUST hold the state as of one commit that is not older than the call, MUST be durable
    /// when this returns, and MUST NOT hold anything in clear. What is cut short leaves nothing that looks like a backup.
    ///
    /// # Errors
    /// `unsupported` where no recipients are configured; `state-unavailable` when it cannot be written.
    fn write(&self, intent: &Intent) -> impl Future<Output = Result<Archived, Error>> + Send;

    /// Whether this was said by somebody who opened a backup of this gateway and had its root key from it. MUST compare in constant time.
    ///
    /// # Errors
    /// `integrity` for anything else.
    fn check(&self, verified: &VerifiedBackup) -> Result<(), Error>;

    /// Encrypts an archive of a key for those who open backups. It MUST NOT hold anything of it in clear but what says whose it is.
    ///
    /// # Errors
    /// `unsupported` where nobody is configured who could open it.
    fn enclose(&self, bundled: &Bundled<'_>) -> Result<Bundle, Error>;

    /// Whether new key versions are to wait until a verified backup holds them.
    fn holds_back(&self) -> bool;
}

/// A backup that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its file's name.
    pub name: Box<str>,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// The commit that it holds.
    pub state: Committed,
    /// For how many days it is to be kept, if that is declared.
    pub keep_days: Option<u32>,
}

/// A step of the wall clock against the clock that never steps, of more than a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// What the time would be without it.
    pub from: Timestamp,
    /// What the wall clock says.
    pub to: Timestamp,
}

/// Clock and entropy.
pub trait World: Send + Sync + 'static {
    /// The wall clock. MAY step back; order MUST come from the log, never from here.
    fn now(&self) -> Timestamp;

    /// The time that is held while a jump of the wall clock waits to be confirmed: the time from before, carried on by a clock that does not
    /// step and to which suspension counts; `None` while nothing is held, and in a world whose clock cannot jump. MUST then cost
    /// no more than one load: every request asks.
    fn held_now(&self) -> Option<Timestamp> {
        None
    }

    /// Compares the clocks. A jump is given back once, and holds the time from then on. To be called every second or so.
    fn notice_jump(&self) -> Option<Jump> {
        None
    }

    /// Holds the time at this point, from which it goes on: what a start finds unconfirmed.
    fn hold_clock(&self, _at: Timestamp) {}

    /// Takes the wall clock at its word from now on: whatever was held is confirmed.
    fn trust_clock(&self) {}

    /// Microseconds on a clock that never steps back, from an arbitrary start.
    fn ticks(&self) -> u64;

    /// Fills `out` with bytes nobody can predict. MUST NOT return before they are.
    ///
    /// # Errors
    /// `internal`, when the system has no entropy source.
    fn fill(&self, out: &mut [u8]) -> Result<(), Error>;

    /// The same for what is short and no secret key: operation ids, nonces, openings. MAY be drawn ahead, since every call to a generator
    /// costs as much as a record; MUST NOT give any byte twice.
    ///
    /// # Errors
    /// As [`World::fill`].
    fn fill_short(&self, out: &mut [u8]) -> Result<(), Error> {
        self.fill(out)
    }
}

impl<W: World> World for Arc<W> {
    fn now(&self) -> Timestamp {
        W::now(self)
    }

    fn held_now(&self) -> Option<Timestamp> {
        W::held_now(self)
    }

    fn notice_jump(&self) -> Option<Jump> {
        W::notice_jump(self)
    }

    fn hold_clock(&self, at: Timestamp) {
        W::hold_clock(self, at);
    }

    fn trust_clock(&self) {
        W::trust_clock(self);
    }

    fn ticks(&self) -> u64 {
        W::ticks(self)
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        W::fill(self, out)
    }

    fn fill_short(&self, out: &mut [u8]) -> Result<(), Error> {
        W::fill_short(self, out)
    }
}

/// Who asks. Pure: registrations and `now` are arguments.
pub trait Identify: Send + Sync + 'static {
    /// One tenant's callers and trust anchors, indexed for look-ups. Lives as long as one snapshot of the tenant.
    type Prepared: Send + Sync + 'static;

    /// Indexes a tenant's registrations.
    ///
    /// # Errors
    /// `malformed` for an anchor that cannot be parsed or a credential that two callers share.
    fn prepare(&self, callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> Result<Self::Prepared, Error>;

    /// Whether an anchor may take the place of the one of its name. MUST refuse one that brings an older revocation list of the same
    /// authority, or none where there was one: who was revoked would be let in again.
    ///
    /// # Errors
    /// `conflict` for such a one; `malformed` for a list that cannot be parsed.
    fn replace(&self, before: &Anchor, after: &Anchor) -> Result<(), Error>;

    /// The secret half of a [signing](crate::caller::TokenForm::Signing) token: printable, the same each time for one id, and not to be guessed from
    /// others.
    ///
    /// # Errors
    /// `internal`, when the cryptographic library fails.
    fn signing_secret(&self, id: TokenId) -> Result<Secret, Error>;

    /// Recognises a caller. MUST refuse a proof that fits two callers, that has expired or been revoked, or that comes from
    /// another tenant's trust anchor. MUST NOT tell by its error, nor by how long it takes, which of these it was.
    ///
    /// # Errors
    /// `unauthenticated`.
    fn identify(
        &self,
        prepared: &Self::Prepared,
        proof: &Proof<'_>,
        now: Timestamp,
    ) -> Result<Identified, Error>;
}

/// Somebody recognised.
#[derive(Debug, Clone)]
pub struct Identified {
    /// The registration.
    pub record: Arc<CallerRecord>,
    /// How it was recognised.
    pub authentication: Authentication,
    /// Until when the same proof need not be examined again within the same snapshot: certificate, revocation list or token expiry.
    pub valid_until: Timestamp,
}

/// What is asked of the policy.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// For what.
    pub action: Action,
    /// Of what.
    pub resource: Resource<'a>,
    /// How the request came.
    pub circumstances: Circumstances<'a>,
}

/// What an action is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// A key.
    Key(&'a Key),
    /// A key of which there is no record: a new one, or one that does not exist.
    NoKey(&'a KeyName),
    /// The tenant itself: its callers, policy, log.
    Tenant(&'a TenantId),
}

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The encryption context.
    pub context: &'a Context,
    /// What the protocol says of the request.
    pub request: &'a Context,
    /// When.
    pub now: Timestamp,
    /// From where, if that is known.
    pub source: Option<IpAddr>,
    /// Through which protocol.
    pub protocol: &'static str,
}

/// What the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that decided: those that permit, or those that forbid; empty for the default denial.
    pub policies: Arc<[PolicyId]>,
    /// Whether a policy failed to evaluate, which denies.
    pub failed: bool,
}

/// One thing that a check of a policy found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the policy is refused for it.
    pub refuses: bool,
    /// The policy concerned, where it is one.
    pub policy: Option<PolicyId>,
    /// What is wrong, one line.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

/// What the policy says. Pure.
pub trait Decide: Send + Sync + 'static {
    /// One tenant's policy set, parsed, indexed, with the decisions it remembers. Lives as long as one snapshot of the tenant.
    type Prepared: Send + Sync + 'static;

    /// The policy of a tenant that is created without one. MUST let custodians administer and read and auditors read, and MUST let nobody
    /// use a key. MUST be accepted by [`Self::prepare`].
    fn tenant_policy(&self) -> &'static str;

    /// The gateway's own policy, which no tenant can change: operators create tenants and read the gateway's status. MUST be accepted by
    /// [`Self::prepare`].
    fn gateway_policy(&self) -> &'static str;

    /// Parses and validates a policy text against the schema.
    ///
    /// # Errors
    /// `malformed`, naming the first fault with its line.
    fn prepare(&self, tenant: &TenantId, text: &str) -> Result<Self::Prepared, Error>;

    /// Everything for which [`Self::prepare`] refuses a text, in the order of its lines; nothing for a text that it takes.
    fn faults(&self, tenant: &TenantId, text: &str) -> Vec<Finding>;

    /// The same policy, with nothing remembered: for a snapshot in which other records than the policy have changed. MUST cost next to
    /// nothing, however long the policy is.
    fn renew(&self, prepared: &Self::Prepared) -> Self::Prepared;

    /// Looks for what a prepared policy should not do: let its author use a key, lock every custodian out.
    fn check(
        &self,
        prepared: &Self::Prepared,
        author: &Caller,
        callers: &[Arc<CallerRecord>],
    ) -> Vec<Finding>;

    /// Says how it decides about a question that nobody asks for real.
    fn explain(&self, prepared: &Self::Prepared, question: &Question<'_>) -> crate::query::Explanation;

    /// Decides. MUST deny by default and when any policy that could apply fails to evaluate. Its cost MUST NOT grow with
    /// policies that cannot apply to the question.
    fn decide(&self, prepared: &Self::Prepared, question: &Question<'_>) -> Decision;
}

/// Whether a port can work now, from its live state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// It cannot; why, in words for the operator.
    Unready(String),
}

/// Custody of keys.
///
/// Every operation takes a proof that the pipeline allowed it. Implementations MUST NOT log or return material outside [`Product`],
/// MUST be safe to call concurrently, and MUST finish or fail by themselves: the pipeline cancels nothing.
pub trait KeyStore: Send + Sync + 'static {
    /// Makes what a new tenant's keys will be sealed under.
    ///
    /// # Errors
    /// `key-store-unavailable`.
    fn enroll(
        &self,
        permit: &Permit<ChangeKind>,
        tenant: &TenantId,
    ) -> impl Future<Output = Result<SealedHandle, Error>> + Send;

    /// Makes a key version. The handle MUST be bound to tenant, key, version, algorithm and exportability, so that it works for no other.
    ///
    /// # Errors
    /// `unsupported` where this store cannot hold such a key, `key-store-unavailable`.
    fn generate(
        &self,
        permit: &Permit<ChangeKind>,
        version: NewVersion<'_>,
    ) -> impl Future<Output = Result<Generated, Error>> + Send;

    /// Makes the RSA key pair that the material of a key will be wrapped for: gives its private half as the handle and its public half, DER
    /// SubjectPublicKeyInfo. The handle MUST be bound as in [`Self::generate`], and to the expiry; it MUST open nothing but a wrapped key.
    ///
    /// # Errors
    /// `unsupported` where this store takes no material from outside, or none of this algorithm; `key-store-unavailable`.
    fn begin_import(
        &self,
        _permit: &Permit<ChangeKind>,
        _version: NewVersion<'_>,
        _expires: Timestamp,
    ) -> impl Future<Output = Result<Generated, Error>> + Send {
        core::future::ready(Err(no_import()))
    }

    /// Makes a key version of wrapped material, opened by the import key `waiting`. The handle MUST say for ever that the material came from
    /// outside. It MUST NOT tell what was wrong with what does not open: the outer layer, the inner one, or the check value.
    ///
    /// # Errors
    /// `key-state` when the import key has expired; `integrity` for what does not open or is not what the check value says; `malformed`
    /// for material that is no key of the algorithm; `unsupported`; `key-store-unavailable`.
    fn finish_import(
        &self,
        _permit: &Permit<ChangeKind>,
        _waiting: KeyMaterial<'_>,
        _version: NewVersion<'_>,
        _wrapped: Wrapped<'_>,
    ) -> impl Future<Output = Result<Generated, Error>> + Send {
        core::future::ready(Err(no_import()))
    }

    /// Finds the one object that is sought among those that other programs have made in the store, as a key of the algorithm. MUST refuse an object
    /// of the store's own making, one whose kind, size or permitted uses do not fit, one that could leave unless that is accepted, and any to a
    /// tenant that the operator has not let adopt; MUST NOT change it.
    ///
    /// # Errors
    /// `not-found`; `conflict` for several that are named so; `unsupported` for what cannot be adopted; `key-store-unavailable`.
    fn find_object(
        &self,
        _permit: &Permit<ChangeKind>,
        _tenant: &TenantId,
        _algorithm: Algorithm,
        _sought: Sought<'_>,
    ) -> impl Future<Output = Result<ObjectDigest, Error>> + Send {
        core::future::ready(Err(no_adoption()))
    }

    /// Makes a key version of the object that [`Self::find_object`] has found: it stays as it is, and every place that new keys are in MUST have
    /// shown that it holds the same. The evidence MUST say that it was adopted, and what the device says of it now. From then on the object is the
    /// store's own: [`Self::erase`] removes it.
    ///
    /// # Errors
    /// As [`Self::find_object`]; `conflict` when another object is found now.
    fn adopt(
        &self,
        _permit: &Permit<ChangeKind>,
        _version: NewVersion<'_>,
        _sought: Sought<'_>,
        _object: ObjectDigest,
    ) -> impl Future<Output = Result<Generated, Error>> + Send {
        core::future::ready(Err(no_adoption()))
    }

    /// What a key that encrypts is made of unless its creator says: what this store is best at.
    fn default_algorithm(&self) -> Algorithm;

    /// The custody that a key of this algorithm would be in if it were made now: what [`Self::generate`] MUST then give.
    fn custody(&self, algorithm: Algorithm) -> Custody;

    /// How many members hold each version that is made in this custody before [`Self::generate`] gives it.
    fn copies(&self, _custody: Custody) -> usize {
        1
    }

    /// How many invocations of its algorithm one operation with a key version may come to, at most: repetitions after a failure and hedges
    /// included. So many are counted towards a budget before the operation.
    fn invocations(&self, handle: &SealedHandle) -> u64;

    /// The custody that a version of this handle is in: where it was made says nothing of where the next one is.
    fn custody_of(&self, handle: &SealedHandle) -> Custody;

    /// Uses a key version.
    ///
    /// # Errors
    /// `integrity` for input that does not verify, the same whatever the reason; `unsupported`; `malformed` for input of an impossible
    /// length; `key-store-unavailable`.
    fn perform(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> impl Future<Output = Result<Product, Error>> + Send;

    /// Makes a key version as [`Self::generate`] does, and an emergency copy of it. The material MUST be in nobody's memory but for that, and the copy
    /// MUST be bound to tenant, key, version and algorithm, and open by the shares of custodians alone. The evidence MUST say so for ever.
    ///
    /// # Errors
    /// `unsupported` where no copies are made, or none of this algorithm; as [`Self::generate`].
    fn generate_with_copy(
        &self,
        _permit: &Permit<ChangeKind>,
        _version: NewVersion<'_>,
    ) -> impl Future<Output = Result<Generated, Error>> + Send {
        core::future::ready(Err(no_copies()))
    }

    /// Begins to gather custodians' shares for the copies of these versions of one key. An earlier request for it is forgotten.
    ///
    /// # Errors
    /// `unsupported` where no copies are made; `throttled` when too many wait; `conflict` where an earlier one is opened and not in force yet.
    fn request_copy(
        &self,
        _permit: &Permit<ChangeKind>,
        _versions: &[KeyMaterial<'_>],
        _asked: &RequestCopy,
        _now: Timestamp,
    ) -> Result<CopyState, Error> {
        Err(no_copies())
    }

    /// Takes what a custodian gives for a request. With enough of it the copies are opened, and wait for [`Self::enforce_copy`]; until then
    /// [`Self::copy_state`] MUST NOT call them in force. The same again MUST change nothing, and be answered the same. What is wrong MUST be counted, and end the request when there is much of it.
    ///
    /// # Errors
    /// `not-found` where no request waits; `integrity` for shares that do not open, or are not those of the request.
    fn approve_copy(
        &self,
        _permit: &Permit<ChangeKind>,
        _key: KeyId,
        _shares: &[u8],
        _now: Timestamp,
    ) -> Result<Approved, Error> {
        Err(no_copies())
    }

    /// Puts in force what has been opened: the record of an approval that says so is durable. MUST do nothing for what was opened of another
    /// request, or has been ended meanwhile.
    fn enforce_copy(&self, _permit: &Permit<ChangeKind>, _key: KeyId, _opened: OpenedCopy) {}

    /// Forgets a request, and wipes what is in force of a key.
    ///
    /// # Errors
    /// `not-found` where there is neither.
    fn end_copy(&self, _permit: &Permit<ChangeKind>, _key: KeyId) -> Result<(), Error> {
        Err(no_copies())
    }

    /// How it stands with a key's copies.
    fn copy_state(&self, _key: KeyId, _now: Timestamp) -> CopyState {
        CopyState::default()
    }

    /// Uses the copy of a key version, if it is in force; `None` if it is not. MUST NOT use it from its `until` on, by whichever clock.
    ///
    /// # Errors
    /// As [`Self::perform`].
    fn perform_by_copy(
        &self,
        _permit: &Permit<Use>,
        _key: KeyMaterial<'_>,
        _work: Work<'_>,
        _now: Timestamp,
    ) -> impl Future<Output = Option<Result<Product, Error>>> + Send {
        core::future::ready(None)
    }

    /// Wipes the copies whose time is over, and forgets requests that waited for too long. Called every second or so.
    fn expire_copies(&self, _now: Timestamp) {}

    /// Forgets requests and wipes copies of all of a tenant's keys, at once. Called when everything of it is stopped.
    fn forget_copies(&self, _tenant: &TenantId) {}

    /// Random bytes of the store's own generator, `length` of them.
    ///
    /// # Errors
    /// `key-store-unavailable`.
    fn random(
        &self,
        permit: &Permit<Use>,
        length: usize,
    ) -> impl Future<Output = Result<Product, Error>> + Send;

    /// Drops whatever is held in memory of a key, its emergency copies too, at once. Called for every stop.
    fn forget(&self, key: KeyId);

    /// Drops whatever is held in memory of one version, its emergency copy too. Called when it is destroyed: copies of other versions MUST stay
    /// as they are.
    fn forget_version(&self, key: KeyId, version: KeyVersion);

    /// The sealing key that a version's handle is sealed under; `None` for what is no sealed handle.
    fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId>;

    /// Makes another sealing key for a tenant. By the handle that comes of it, what is new is sealed under the other one, and what was sealed
    /// under the one before MUST open still.
    ///
    /// # Errors
    /// `key-store-unavailable`; `internal` for a handle that has two already.
    fn change_sealing_key(
        &self,
        permit: &Permit<ChangeKind>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<ChangedSealing, Error>;

    /// A version's handle, sealed under its tenant's newest sealing key. It MUST be bound to the same as before, and MUST say the same of where
    /// the material is from.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the handle does not open.
    fn reseal(&self, permit: &Permit<ChangeKind>, key: KeyMaterial<'_>) -> Result<SealedHandle, Error>;

    /// A tenant's handle with its newest sealing key alone: nothing that is sealed under the one before opens by it. What is held of that one in
    /// memory MUST be dropped.
    ///
    /// # Errors
    /// `key-store-unavailable`; `internal` for a handle that has one only.
    fn retire_sealing_key(
        &self,
        permit: &Permit<ChangeKind>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<SealedHandle, Error>;

    /// Makes what opens an archive of a key: sealed under its tenant's sealing key, and bound to the key.
    ///
    /// # Errors
    /// `unsupported` where material does not leave; `key-store-unavailable`.
    fn new_archive(&self, _permit: &Permit<ChangeKind>, _key: NewVersion<'_>) -> Result<SealedHandle, Error> {
        Err(no_archive())
    }

    /// A version's material, sealed for the archive that `opener` opens. It MUST open with that alone, and for this version only.
    ///
    /// # Errors
    /// `unsupported` where material does not leave; `key-store-unavailable`, when one of them does not open.
    fn archive(
        &self,
        _permit: &Permit<ChangeKind>,
        _opener: KeyMaterial<'_>,
        _version: KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        Err(no_archive())
    }

    /// The handle of a version whose material comes back. What the version's own handle is now is not looked at.
    ///
    /// # Errors
    /// `integrity` for what is not what [`KeyStore::archive`] gave for this very version; `key-store-unavailable`.
    fn unarchive(
        &self,
        _permit: &Permit<ChangeKind>,
        _opener: KeyMaterial<'_>,
        _version: KeyMaterial<'_>,
        _sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        Err(no_archive())
    }

    /// What is left of a version's material once the state has forgotten its handle. Nothing is erased yet: the version is destroyed in the
    /// state first, so that nobody can use what may be half gone.
    ///
    /// # Errors
    /// `key-store-unavailable`, where that cannot be known.
    fn remains(&self, permit: &Permit<ChangeKind>, key: KeyMaterial<'_>) -> Result<Remains, Error>;

    /// Erases a destroyed version's material for ever from those members that can be reached; its handle is what [`KeyStore::remains`] gave.
    /// Gives the members that are known to hold nothing of it any more: each MUST have been asked, and MUST have looked. It can be
    /// asked again.
    ///
    /// # Errors
    /// `key-store-unavailable`, where nothing can be asked at all.
    fn erase(
        &self,
        permit: &Permit<ChangeKind>,
        key: KeyMaterial<'_>,
    ) -> impl Future<Output = Result<Vec<MemberName>, Error>> + Send;

    /// Whether a member that is to erase something can be asked now, so far as that is known without asking it.
    fn can_ask(&self, member: &MemberName) -> bool;

    /// Whether it can work now. MUST come from live operations or a live probe, never from a constant.
    fn health(&self) -> Health;

    /// Takes a member of its pool out, or lets it work again. What is under way there is finished.
    ///
    /// # Errors
    /// `not-found` where there is no such member, `conflict` for the last one that works.
    fn move_member(
        &self,
        permit: &Permit<ChangeKind>,
        member: &MemberName,
        to: Membership,
    ) -> Result<(), Error>;

    /// Members that the store has put out by itself, for a wrong result, and why. Asked every second or so, so that a restart lets nobody in.
    fn ejected(&self) -> Vec<(MemberName, String)>;

    /// A member is out since before this start. One that there is not is nobody's concern.
    fn keep_out(&self, member: &MemberName, absence: Absence);

    /// How often a member of a pool has come, or come back: whoever did may lack keys. Always 0 where there is nobody to bring a key to.
    fn arrivals(&self) -> u64;

    /// Looks whether every member that works holds a key version, and brings it to who lacks it; `None` for a key that is in no pool. MUST leave
    /// most of each member's time to callers, and MUST NOT bring back what has been erased.
    ///
    /// # Errors
    /// `key-store-unavailable`, where that cannot be found out.
    fn check_copies(
        &self,
        permit: &Permit<ChangeKind>,
        key: KeyMaterial<'_>,
    ) -> impl Future<Output = Result<Option<Copies>, Error>> + Send;
}

/// A store that makes every key itself.
fn no_import() -> Error {
    let detail = "this key store takes no key material from outside";
    Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
        .remedy("import works in software custody; in a token, create a key and encrypt anew under it")
}

/// A store that makes no emergency copies.
fn no_copies() -> Error {
    Error::new(ErrorKind::Unsupported, Stage::Perform, "this key store makes no emergency copies")
        .remedy("emergency copies are made of keys in a token, where an operator has set `[emergency]`")
}

/// What is left of a destroyed version's material outside of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// By what the members find it. Nothing MUST be usable by it, nor brought back.
    pub handle: SealedHandle,
    /// The members of a pool that may hold it; none where the material was in the handle itself.
    pub holders: Vec<MemberName>,
}

impl Remains {
    /// Nothing: with the handle, which the state forgets, the material is gone.
    pub fn nothing() -> Self {
        Self { handle: SealedHandle::new(&[]), holders: Vec::new() }
    }
}

/// A tenant that has another sealing key beside the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSealing {
    /// The tenant's handle, with both.
    pub handle: SealedHandle,
    /// The one before.
    pub leaving: SealingKeyId,
    /// The other one.
    pub newest: SealingKeyId,
}

/// A store from which no material leaves.
fn no_archive() -> Error {
    Error::new(ErrorKind::Unsupported, Stage::Perform, "no material leaves this key store")
}

/// A store in which nobody else makes keys.
fn no_adoption() -> Error {
    Error::new(ErrorKind::Unsupported, Stage::Perform, "this key store holds no keys but its own")
        .remedy("keys are adopted in a token: an operator names it as `[[token]]`")
}

/// Whether a member of a key store's pool is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// It works.
    Joined,
    /// Nothing new is asked of it, until it is let in again.
    Drained,
}

/// Where a key version is, of the members of a pool that work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copies {
    /// Members that hold it.
    pub held: u32,
    /// Members that it was brought to.
    pub brought: u32,
    /// Members that it could not be brought to.
    pub lacking: u32,
}

/// Why a member of a key store's pool does not work, until an operator lets it in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// An operator took it out.
    Drained,
    /// It gave a wrong result.
    Ejected,
}

impl Absence {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Ejected => "ejected",
        }
    }

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        [Self::Drained, Self::Ejected].into_iter().find(|absence| absence.name() == text)
    }
}

/// A key's record with the version that new work takes.
#[derive(Debug)]
pub struct KeyEntry {
    /// The record.
    pub key: Key,
    /// That version.
    pub current: Arc<Version>,
}

/// One change of the state. Each compares the record's epoch with the one it was computed from.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// Writes a tenant's record; `expected` is `None` for a new one.
    Tenant {
        /// The record as it shall be, its epoch already raised.
        record: TenantRecord,
        /// The epoch that it had.
        expected: Option<Epoch>,
    },
    /// Writes a key's record. Where it is new, its newest version changes, or its `renewed` is [`Key::UNCOMMITTED`], the state MUST set that to
    /// this commit's sequence, and keep what it was otherwise.
    Key {
        /// The record as it shall be, its epoch already raised.
        key: Key,
        /// The epoch that it had.
        expected: Option<Epoch>,
    },
    /// Writes a key version's record, over an earlier one of the same number if there is one.
    Version {
        /// The tenant.
        tenant: TenantId,
        /// The record.
        version: Version,
    },
    /// Writes a caller's registration, over an earlier one of the same name if there is one.
    Caller {
        /// The tenant.
        tenant: TenantId,
        /// The registration.
        record: CallerRecord,
    },
    /// Removes a caller's registration.
    CallerGone {
        /// The tenant.
        tenant: TenantId,
        /// Its name.
        name: crate::id::CallerName,
    },
    /// Writes a trust anchor, over an earlier one of the same name if there is one.
    Anchor {
        /// The tenant.
        tenant: TenantId,
        /// The anchor.
        anchor: Anchor,
    },
    /// Removes a trust anchor.
    AnchorGone {
        /// The tenant.
        tenant: TenantId,
        /// Its name.
        name: crate::id::CallerName,
    },
    /// Adds a version of the policy, which becomes the one in force.
    Policy {
        /// The tenant.
        tenant: TenantId,
        /// The version; MUST be the successor of the one in force.
        policy: PolicyVersion,
    },
}

/// Where a commit stands: the log carries it, so that a state that was put back is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// How many commits there have been.
    pub sequence: u64,
    /// A digest of everything in the state.
    pub digest: [u8; 32],
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows, in order of their names.
    pub rows: Vec<T>,
    /// Whether more follow after the last one.
    pub more: bool,
}

/// Durable records: tenants, callers, keys, policies.
///
/// Reads MUST see every commit that was acknowledged, and MUST refuse a record whose authentication fails with `state-unavailable`.
/// Reads of keys MUST cost the same whatever the number of keys and versions.
pub trait State: Send + Sync + 'static {
    /// Every tenant with what the snapshot holds of it.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn tenants(&self) -> impl Future<Output = Result<Vec<TenantData>, Error>> + Send;

    /// One tenant with what the snapshot holds of it.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn tenant(&self, tenant: &TenantId) -> impl Future<Output = Result<Option<TenantData>, Error>> + Send;

    /// A key by its name.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn key(
        &self,
        tenant: &TenantId,
        name: &KeyName,
    ) -> impl Future<Output = Result<Option<Arc<KeyEntry>>, Error>> + Send;

    /// A version of a key.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn version(
        &self,
        key: KeyId,
        number: KeyVersion,
    ) -> impl Future<Output = Result<Option<Arc<Version>>, Error>> + Send;

    /// A tenant's keys by name, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyName>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Key>, Error>> + Send;

    /// A key's versions by number, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn versions(
        &self,
        key: KeyId,
        after: Option<KeyVersion>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Version>, Error>> + Send;

    /// A version of a tenant's policy; the one in force is in the snapshot.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn policy(
        &self,
        tenant: &TenantId,
        version: u64,
    ) -> impl Future<Output = Result<Option<PolicyVersion>, Error>> + Send;

    /// Counts invocations of a key version **before** they happen, and returns how many there have been with them.
    ///
    /// The count MUST NOT fall behind across crashes: blocks are reserved durably, and what is left of one at a crash counts as used.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn count(
        &self,
        key: KeyId,
        version: KeyVersion,
        invocations: u64,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Applies all changes or none, durably, and remembers that `intent`'s operation did so, and the stop order if it is one. Caches MUST be updated before it returns.
    ///
    /// # Errors
    /// `conflict` when an epoch is not the expected one, `already-exists` when a name is taken, `state-unavailable`.
    fn commit(
        &self,
        intent: &Intent,
        changes: Vec<StateChange>,
    ) -> impl Future<Output = Result<Committed, Error>> + Send;

    /// Whether an operation's changes were committed: what recovery asks about an intent that has no outcome.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn committed(
        &self,
        operation: OperationId,
    ) -> impl Future<Output = Result<Option<Committed>, Error>> + Send;

    /// The stop orders ([`Intent::order`]) that were committed after a sequence, in the order of their commits. Those that were committed so
    /// long ago that their operations are forgotten MAY be missing.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn orders_since(&self, sequence: u64) -> impl Future<Output = Result<Vec<OpenIntent>, Error>> + Send;

    /// Overwrites, in its own files, what acknowledged commits have replaced or removed, as far as that can be done; says whether it was. MUST NOT hold
    /// up a commit for longer than one commit takes.
    ///
    /// # Errors
    /// `state-unavailable`.
    fn forget_replaced(&self) -> impl Future<Output = Result<bool, Error>> + Send {
        core::future::ready(Ok(true))
    }

    /// Where the state stands now.
    fn position(&self) -> Committed;

    /// Whether it can read and write now, from live operations.
    fn health(&self) -> Health;
}

/// What recovery needs to know of an entry without parsing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Neither opens nor closes anything.
    Plain,
    /// Opens a command.
    Intent(OperationId),
    /// Closes it, with the state's position if it changed anything.
    Outcome(OperationId, Option<Committed>),
}

/// What an entry may draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Refused when the disk is full or the queue too long.
    Ordinary,
    /// A stop order: draws on the reserve, never refused for disk, log or quota.
    Stop,
}

/// Where a record stands: the entry's index in its tenant's log, which is its leaf's index in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 0, without gaps.
    pub index: u64,
}

/// What makes entries of a log old enough to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// For how long they must be kept.
    pub retention: Retention,
    /// The time now, by a clock that may be wrong.
    pub now: Timestamp,
    /// The first entry that somebody else still needs, if anybody does.
    pub needed: Option<u64>,
}

/// The audit log.
pub trait AuditLog: Send + Sync + 'static {
    /// One tenant's log, opened.
    type Handle: Clone + Send + Sync + 'static;
    /// Resolves once the entry survives power loss. MUST NOT resolve to `Ok` before; an error is final.
    type Ticket: Future<Output = Result<Position, Error>> + Send + Unpin + 'static;

    /// Opens a tenant's log, making it if it does not exist.
    ///
    /// # Errors
    /// `audit-unavailable`.
    fn open(&self, tenant: &TenantId) -> Result<Self::Handle, Error>;

    /// Appends one entry. `write` is called once, under the log's ordering: entries stand in the order in which their `write` ran, and
    /// it may look at what an earlier one changed. It appends the entry's bytes to the buffer (at most 65,535) and sets the opening key
    /// of the entry's commitments, which is kept apart from the log and can be erased.
    ///
    /// # Errors
    /// `audit-unavailable` when the disk is full or the log has failed, `throttled` when too much waits; for [`Priority::Stop`] only when
    /// the log has failed.
    fn append<R>(
        &self,
        log: &Self::Handle,
        mark: Mark,
        priority: Priority,
        write: impl FnOnce(&mut Vec<u8>, &mut [u8; 32]) -> R,
    ) -> Result<(R, Self::Ticket), Error>;

    /// Signs, with the key of the tenant's log, that a record stands in it. It MUST be durable. What is signed MUST NOT be taken for a
    /// checkpoint by anybody.
    ///
    /// # Errors
    /// `audit-unavailable`.
    fn attest(&self, log: &Self::Handle, statement: &Statement) -> Result<SignedReceipt, Error>;

    /// Reads a file of a tenant's published log. The checkpoint SHOULD cover everything that was durable when it was asked for. A partial tile MUST be readable for as long as its tile exists, also when the tree has
    /// grown past it: whoever reads by a checkpoint finds what that checkpoint implies. MUST NOT block the thread that polls it.
    ///
    /// # Errors
    /// `not-found` when the log has no such file; `audit-unavailable`.
    fn read(
        &self,
        log: &Self::Handle,
        file: &AuditPath,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;

    /// The first entry of a log that has to be kept, where earlier ones may go: all of them MUST be older than the retention, and none be
    /// needed. A clock that is wrong once MUST NOT make everything old. `None` if nothing more may go. MUST NOT block the thread
    /// that polls it.
    ///
    /// # Errors
    /// `audit-unavailable`, when the log cannot be read.
    fn prunable(
        &self,
        log: &Self::Handle,
        expiry: Expiry,
    ) -> impl Future<Output = Result<Option<u64>, Error>> + Send;

    /// Removes the entries before an index, and what opens them, after their pruning has been recorded in the same log. The tree, its
    /// checkpoints and its leaf hashes stay, and from then on the log itself tells what was pruned from what is missing. It MAY keep a few more.
    /// Doing it again MUST finish what was interrupted. MUST NOT block the thread that polls it.
    ///
    /// # Errors
    /// `audit-unavailable`; some of them may then be gone.
    fn prune(
        &self,
        intent: &Intent,
        log: &Self::Handle,
        keep: u64,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether it can record now.
    fn health(&self) -> Health;
}
