//! Custody of keys.

use super::Health;
use crate::adoption::{ObjectDigest, Sought};
use crate::algorithm::Algorithm;
use crate::emergency::{Approved, CopyState, OpenedCopy, RequestCopy};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyId, KeyVersion, MemberName, TenantId};
use crate::import::Wrapped;
use crate::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use crate::pipeline::{Change as ChangeKind, Permit, Use};
use crate::sealing_key::SealingKeyId;
use crate::time::Timestamp;
use crate::work::{Product, Work};
use core::future::Future;

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

    /// Makes a key version. The handle MUST be bound to tenant, key, version, algorithm and exportability, so that it works for no other. It MUST
    /// NOT be kept in software if [`NewVersion::before`] was kept in a device.
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
    /// outside. It MUST NOT tell what was wrong with what does not open: the outer layer, the inner one, or the check value. What it has brought into
    /// a device [`Self::remains`] MUST find at the end of the version, or of the import key, also if this was never committed; and it MUST replace nothing that is.
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

    /// What is left of a version's material once the state has forgotten its handle, as far as it ends. Nothing is erased yet: the version is
    /// destroyed in the state first, so that nobody can use what may be half gone.
    ///
    /// # Errors
    /// `key-store-unavailable`, where that cannot be known.
    fn remains(&self, permit: &Permit<ChangeKind>, key: KeyMaterial<'_>, end: End) -> Result<Remains, Error>;

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

    /// The members of its pool, whatever they can do now; none where material lies in handles alone.
    fn members(&self) -> Vec<MemberName> {
        Vec::new()
    }

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

/// How a version ends, and so how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is destroyed. Of one that was imported the material came from outside and may have been brought in more than once, by attempts of which
    /// nobody knows whether they came to be: all that they have left MUST be found, too. So MUST it be for an import key that has not served.
    Destroyed,
    /// It is an import key, and has served: what it has opened MUST stay.
    Served,
    /// It never came to be: what another command has made for the same version MUST stay.
    Unmade,
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
