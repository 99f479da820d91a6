//! Custody as a gateway has it: in software, or, where a token is configured, in that for whatever is made from then on. What was made in
//! either is used where it is: a sealed handle says where.

use crate::emergency::Custodians;
use crate::emergency::desk::{Desk, no_request};
use crate::pkcs11::{self, Copied, TokenStore};
use crate::refusal;
use crate::sealing::{Kind, SealedBlob};
use crate::software::SoftwareStore;
use holdfast_core::adoption::{ObjectDigest, Sought};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::emergency::{Approved, CopyState, OpenedCopy, RequestCopy};
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::pipeline::{Change, Permit, Use};
use holdfast_core::port::{
    Absence, ChangedSealing, Copies, End, Health, KeyStore, Membership, Remains, World,
};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::work::{Product, Work};
use holdfast_core::{Error, KeyId, KeyVersion, MemberName, TenantId, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};

/// Both stores, as one.
pub struct Custodian<W> {
    software: SoftwareStore<W>,
    token: Option<TokenStore<W>>,
    /// Emergency copies.
    desk: Desk,
    /// Whether the operator has been told that there are keys in a token that is not configured.
    told: AtomicBool,
}

impl<W: World> Custodian<W> {
    /// From stores under the same root key.
    pub fn new(software: SoftwareStore<W>, token: Option<TokenStore<W>>) -> Self {
        Self { software, token, desk: Desk::new(None), told: AtomicBool::new(false) }
    }

    /// The same, where these custodians open emergency copies of keys; nobody does otherwise, and none are made.
    #[must_use]
    pub fn with_emergency(self, custodians: Option<Custodians>) -> Self {
        Self { desk: Desk::new(custodians), ..self }
    }

    /// How many key versions' emergency copies are in force.
    pub fn copies_in_force(&self) -> usize {
        self.desk.in_force()
    }

    fn world(&self) -> &W {
        &self.software.vault().world
    }

    /// The software store, which also knows what every handle is sealed with.
    pub fn software(&self) -> &SoftwareStore<W> {
        &self.software
    }

    /// Does with a user's key what takes as long as with one of ours, where that is done.
    ///
    /// # Errors
    /// The work's own; `throttled` where more waits than may, `key-store-unavailable` where no thread is left.
    pub async fn with_users_key<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.software.compute(work).await
    }

    /// The token's, where there is one.
    pub fn token(&self) -> Option<&TokenStore<W>> {
        self.token.as_ref()
    }

    /// The token that holds a key version; nothing if it is sealed material.
    fn holder(&self, handle: &SealedHandle) -> Result<Option<&TokenStore<W>>, Error> {
        match SealedBlob::parse(handle.as_bytes()).map(|blob| blob.kind) {
            Some(Kind::Reference | Kind::ImportReference) => match &self.token {
                Some(token) => Ok(Some(token)),
                None => Err(self.no_token()),
            },
            Some(Kind::Material | Kind::TenantKey | Kind::Imported | Kind::ImportKey | Kind::ArchiveKey)
            | None => Ok(None),
        }
    }
}

impl<W> Custodian<W> {
    /// Told to the operator once: callers are told no more than that the key store can't be reached.
    fn no_token(&self) -> Error {
        let error = refusal::device("the key is in a token, and none is configured")
            .remedy("an operator must name the token that it was made in as `[[token]]`, and start again");
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, help = error.remedy_text(), "a key cannot be used");
        }
        error
    }
}

impl<W: World> KeyStore for Custodian<W> {
    async fn enroll(&self, permit: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.software.enroll(permit, tenant).await
    }

    fn default_algorithm(&self) -> Algorithm {
        match &self.token {
            Some(token) => token.default_algorithm(),
            None => self.software.default_algorithm(),
        }
    }

    fn custody(&self, algorithm: Algorithm) -> Custody {
        match &self.token {
            Some(token) => token.custody(algorithm),
            None => self.software.custody(algorithm),
        }
    }

    fn copies(&self, custody: Custody) -> usize {
        match (&self.token, custody) {
            (Some(token), Custody::Token | Custody::VendorAttested) => token.copies(custody),
            (_, _) => self.software.copies(custody),
        }
    }

    async fn generate(&self, permit: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        // A key from before the token, of a kind that no token has, goes on where it is: else it could never be rotated again.
        let stays = version.version != KeyVersion::FIRST && !pkcs11::can_hold(&version);
        match &self.token {
            Some(token) if !stays => token.generate(permit, version).await,
            // Nor does a key leave a token because nobody has named it: whoever wants that in software makes another key.
            None if matches!(version.before, Some(Custody::Token | Custody::VendorAttested)) => {
                Err(self.no_token())
            }
            Some(_) | None => self.software.generate(permit, version).await,
        }
    }

    async fn generate_with_copy(
        &self,
        _: &Permit<Change>,
        version: NewVersion<'_>,
    ) -> Result<Generated, Error> {
        self.desk.custodians()?;
        let Some(token) = &self.token else {
            return Err(refusal::unsupported("a key in software custody needs no emergency copy").remedy(
                "leave the emergency copy out: the key works as long as this gateway does, and backups hold it",
            ));
        };
        token.check_copied(&version)?;
        let (fresh, bytes) = self.software.generate_to_bring(version.algorithm).await?;
        let (copy, origin) = self.desk.seal(&version, &fresh.material, self.world())?;
        let spki = fresh.public.as_deref().map(<[u8]>::to_vec).unwrap_or_default();
        // From here on the copy alone has it.
        drop(fresh);
        token.make_copied(version, Copied { bytes, spki, copy, origin }).await
    }

    fn request_copy(
        &self,
        _: &Permit<Change>,
        versions: &[KeyMaterial<'_>],
        asked: &RequestCopy,
        now: Timestamp,
    ) -> Result<CopyState, Error> {
        self.desk.custodians()?;
        let vault = self.software.vault();
        let with_copy = versions.iter().map(|version| Ok((*version, pkcs11::copy_of(vault, version)?)));
        let versions = with_copy.collect::<Result<Vec<_>, Error>>()?;
        self.desk.request(&versions, asked, now, self.world())
    }

    fn approve_copy(
        &self,
        _: &Permit<Change>,
        key: KeyId,
        shares: &[u8],
        now: Timestamp,
    ) -> Result<Approved, Error> {
        self.desk.custodians()?;
        self.desk.approve(key, shares, now, self.world())
    }

    fn enforce_copy(&self, _: &Permit<Change>, key: KeyId, opened: OpenedCopy) {
        self.desk.enforce(key, opened);
    }

    fn end_copy(&self, _: &Permit<Change>, key: KeyId) -> Result<(), Error> {
        match self.desk.end(key) {
            true => Ok(()),
            false => Err(no_request()),
        }
    }

    fn copy_state(&self, key: KeyId, now: Timestamp) -> CopyState {
        self.desk.state(key, now, self.world())
    }

    async fn perform_by_copy(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
        now: Timestamp,
    ) -> Option<Result<Product, Error>> {
        if permit.tenant() != key.tenant {
            return Some(Err(refusal::defect("a permit of one tenant with a key of another")));
        }
        let ready = self.desk.find(&key, now, self.world())?;
        Some(self.software.use_ready(ready, work).await)
    }

    fn expire_copies(&self, now: Timestamp) {
        self.desk.expire(now, self.world());
    }

    fn forget_copies(&self, tenant: &TenantId) {
        self.desk.end_all(tenant);
    }

    async fn begin_import(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        match &self.token {
            Some(token) => token.begin_import(permit, version, expires).await,
            None => self.software.begin_import(permit, version, expires).await,
        }
    }

    async fn finish_import(
        &self,
        permit: &Permit<Change>,
        waiting: KeyMaterial<'_>,
        version: NewVersion<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Generated, Error> {
        match self.holder(waiting.handle)? {
            Some(token) => token.finish_import(permit, waiting, version, wrapped).await,
            None => self.software.finish_import(permit, waiting, version, wrapped).await,
        }
    }

    async fn find_object(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        algorithm: Algorithm,
        sought: Sought<'_>,
    ) -> Result<ObjectDigest, Error> {
        match &self.token {
            Some(token) => token.find_object(permit, tenant, algorithm, sought).await,
            None => self.software.find_object(permit, tenant, algorithm, sought).await,
        }
    }

    async fn adopt(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        sought: Sought<'_>,
        object: ObjectDigest,
    ) -> Result<Generated, Error> {
        match &self.token {
            Some(token) => token.adopt(permit, version, sought, object).await,
            None => self.software.adopt(permit, version, sought, object).await,
        }
    }

    fn custody_of(&self, handle: &SealedHandle) -> Custody {
        match SealedBlob::parse(handle.as_bytes()).map(|blob| blob.kind) {
            Some(Kind::Reference | Kind::ImportReference) => Custody::Token,
            Some(Kind::Material | Kind::TenantKey | Kind::Imported | Kind::ImportKey | Kind::ArchiveKey)
            | None => Custody::Software,
        }
    }

    fn invocations(&self, handle: &SealedHandle) -> u64 {
        match self.holder(handle) {
            Ok(Some(token)) => token.invocations(handle),
            Ok(None) | Err(_) => self.software.invocations(handle),
        }
    }

    async fn perform(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> Result<Product, Error> {
        match self.holder(key.handle)? {
            // Boxed: what waits for a token is large, and what software does at once need not carry it.
            Some(token) => Box::pin(token.perform(permit, key, work)).await,
            None => self.software.perform(permit, key, work).await,
        }
    }

    async fn random(&self, permit: &Permit<Use>, length: usize) -> Result<Product, Error> {
        match &self.token {
            Some(token) => token.random(permit, length).await,
            None => self.software.random(permit, length).await,
        }
    }

    fn forget(&self, key: KeyId) {
        self.desk.end(key);
        self.software.forget(key);
        if let Some(token) = &self.token {
            token.forget(key);
        }
    }

    fn forget_version(&self, key: KeyId, version: KeyVersion) {
        self.desk.end_version(key, version);
        // What these hold of other versions is loaded again.
        self.software.forget(key);
        if let Some(token) = &self.token {
            token.forget(key);
        }
    }

    fn new_archive(&self, permit: &Permit<Change>, key: NewVersion<'_>) -> Result<SealedHandle, Error> {
        self.software.new_archive(permit, key)
    }

    fn archive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.software.archive(permit, opener, version)
    }

    fn unarchive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
        sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        self.software.unarchive(permit, opener, version, sealed)
    }

    fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId> {
        self.software.sealing_key_of(handle)
    }

    fn change_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<ChangedSealing, Error> {
        self.software.change_sealing_key(permit, tenant, handle)
    }

    fn reseal(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<SealedHandle, Error> {
        self.software.reseal(permit, key)
    }

    fn retire_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<SealedHandle, Error> {
        self.software.retire_sealing_key(permit, tenant, handle)
    }

    fn remains(&self, permit: &Permit<Change>, key: KeyMaterial<'_>, end: End) -> Result<Remains, Error> {
        match self.holder(key.handle)? {
            Some(token) => token.remains(permit, key, end),
            None => self.software.remains(permit, key, end),
        }
    }

    async fn erase(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Vec<MemberName>, Error> {
        match self.holder(key.handle)? {
            Some(token) => token.erase(permit, key).await,
            None => self.software.erase(permit, key).await,
        }
    }

    fn can_ask(&self, member: &MemberName) -> bool {
        self.token.as_ref().is_some_and(|token| token.can_ask(member))
    }

    fn health(&self) -> Health {
        match (self.software.health(), self.token.as_ref().map(KeyStore::health)) {
            (Health::Ready, None | Some(Health::Ready)) => Health::Ready,
            (Health::Unready(why), _) | (Health::Ready, Some(Health::Unready(why))) => Health::Unready(why),
        }
    }

    fn members(&self) -> Vec<MemberName> {
        self.token.as_ref().map(KeyStore::members).unwrap_or_default()
    }

    fn move_member(&self, permit: &Permit<Change>, member: &MemberName, to: Membership) -> Result<(), Error> {
        match &self.token {
            Some(token) => token.move_member(permit, member, to),
            None => self.software.move_member(permit, member, to),
        }
    }

    fn ejected(&self) -> Vec<(MemberName, String)> {
        self.token.as_ref().map(KeyStore::ejected).unwrap_or_default()
    }

    fn keep_out(&self, member: &MemberName, absence: Absence) {
        if let Some(token) = &self.token {
            token.keep_out(member, absence);
        }
    }

    fn arrivals(&self) -> u64 {
        self.token.as_ref().map_or(0, KeyStore::arrivals)
    }

    async fn check_copies(
        &self,
        permit: &Permit<Change>,
        key: KeyMaterial<'_>,
    ) -> Result<Option<Copies>, Error> {
        match self.holder(key.handle)? {
            Some(token) => token.check_copies(permit, key).await,
            None => self.software.check_copies(permit, key).await,
        }
    }
}
