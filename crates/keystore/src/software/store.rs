//! The store itself: the port's functions as a thin layer over what the other files do.

use super::import::{self, ImportKey};
use super::material::{self, Cost, Ready};
use super::operate::Step;
use super::pool::{Lane, Pool};
use crate::refusal;
use crate::root::{RootKey, SealerId};
use crate::sealing::cache::Ticket;
use crate::sealing::held::{Held, Versions};
use crate::sealing::seal::{Binding, Kind, SealedBlob};
use crate::sealing::vault::Vault;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Evidence, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::pipeline::{Change, Permit, Use};
use holdfast_core::port::{
    Absence, ChangedSealing, Copies, End, Health, KeyStore, Membership, Remains, World,
};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::work::{Product, Work};
use holdfast_core::{Error, KeyId, KeyVersion, MemberName, Secret, TenantId, Timestamp};
use std::sync::Arc;

/// How much memory and how many threads the store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Key versions held ready, about; a few hundred bytes each, some ten thousand for an RSA key.
    pub cached_keys: usize,
    /// Tenants' sealing keys held ready, about; one kilobyte each.
    pub cached_tenants: usize,
    /// Threads for slow operations.
    pub threads: usize,
    /// Slow operations that may wait, in each of the two lanes.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cached_keys: 4096, cached_tenants: 1024, threads: 2, queue: 256 }
    }
}

/// Custody in software.
pub struct SoftwareStore<W> {
    vault: Arc<Vault<W>>,
    keys: Versions<Ready>,
    pool: Pool,
}

impl<W: World> SoftwareStore<W> {
    /// Opens the store under a root key, which it keeps in derived form only.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the system gives no thread or the cryptographic library fails.
    pub fn open(root: RootKey, world: Arc<W>) -> Result<Self, Error> {
        Self::open_with(root, world, Options::default())
    }

    /// The same, with limits of one's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(root: RootKey, world: Arc<W>, options: Options) -> Result<Self, Error> {
        let Options { cached_keys, cached_tenants, threads, queue } = options;
        Ok(Self {
            vault: Arc::new(Vault::open(root, world, cached_tenants)?),
            keys: Versions::new(cached_keys),
            pool: Pool::start(threads, queue)?,
        })
    }

    /// The root key's public name, for `status`.
    pub fn root_id(&self) -> SealerId {
        self.vault.root_id()
    }

    /// Whether a version's blob, of material or of where that is, still opens under its tenant's key, and that under the root key. Nothing of it is kept or used.
    ///
    /// # Errors
    /// As for its use: the blob is not the one that was made for this version.
    pub fn examine(&self, version: KeyMaterial<'_>) -> Result<(), Error> {
        let kind = SealedBlob::parse(version.handle.as_bytes()).map_or(Kind::Material, |blob| blob.kind);
        self.vault.examine(&version, &Binding::of(kind, &version))
    }

    /// As [`KeyStore::generate`], without the proof.
    pub(crate) async fn generate_version(&self, version: NewVersion<'_>) -> Result<Generated, Error> {
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let algorithm = version.algorithm;
        let fresh = match lane_of_generation(algorithm) {
            None => material::generate(algorithm, self.world())?,
            Some(lane) => {
                let world = Arc::clone(&self.vault.world);
                self.pool.run(lane, move || material::generate(algorithm, &*world))?.await?
            }
        };
        let handle =
            tenant.sealer.seal(self.world(), &Binding::of_new(Kind::Material, &version), &fresh.material)?;
        let material::Fresh { material: _, public, commitment } = fresh;
        Ok(Generated { handle, public, commitment, custody: Custody::Software, evidence: Evidence::Software })
    }

    /// As [`KeyStore::begin_import`], without the proof.
    pub(crate) async fn make_import_key(
        &self,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        import::check_algorithm(version.algorithm)?;
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let fresh = self.pool.run(Lane::Long, move || import::generate(expires))?.await?;
        let binding = Binding::of_new(Kind::ImportKey, &version);
        let handle = tenant.sealer.seal(self.world(), &binding, &fresh.material)?;
        let material::Fresh { material: _, public, commitment } = fresh;
        Ok(Generated { handle, public, commitment, custody: Custody::Software, evidence: Evidence::Software })
    }

    /// As [`KeyStore::finish_import`], without the proof.
    pub(crate) async fn import_version(
        &self,
        waiting: KeyMaterial<'_>,
        version: NewVersion<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Generated, Error> {
        if waiting.tenant != version.tenant
            || waiting.key != version.key
            || waiting.algorithm != version.algorithm
        {
            return Err(refusal::defect("an import key of one key with the material of another"));
        }
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let opened = tenant.open(&Binding::of(Kind::ImportKey, &waiting), waiting.handle)?;
        let (bytes, check_value): (Box<[u8]>, Box<[u8]>) = (wrapped.bytes.into(), wrapped.check_value.into());
        let (world, algorithm, now) = (Arc::clone(&self.vault.world), version.algorithm, wrapped.now);
        let open = move || {
            let wrapped = Wrapped { bytes: &bytes, check_value: &check_value, now };
            ImportKey::load(opened.expose())?.open(&*world, algorithm, wrapped)
        };
        let fresh = self.pool.run(Lane::Short, open)?.await?;
        let binding = Binding::of_new(Kind::Imported, &version);
        let handle = tenant.sealer.seal(self.world(), &binding, &fresh.material)?;
        let material::Fresh { material: _, public, commitment } = fresh;
        Ok(Generated { handle, public, commitment, custody: Custody::Software, evidence: Evidence::Imported })
    }

    /// As [`KeyStore::perform`], without the proof.
    pub(crate) async fn use_version(
        &self,
        material: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> Result<Product, Error> {
        let held = match self.keys.find(&material) {
            Ok(held) => held,
            Err(ticket) => self.load(&material, ticket).await?,
        };
        match held.ready.begin(self.world(), work)? {
            Step::Done(product) => Ok(product),
            Step::Slow(slow) => self.pool.run(Lane::Short, move || held.ready.finish(slow))?.await,
        }
    }

    /// Makes a key to be brought into a token: as software has it, and as it is brought there.
    pub(crate) async fn generate_to_bring(
        &self,
        algorithm: Algorithm,
    ) -> Result<(material::Fresh, Secret), Error> {
        match lane_of_generation(algorithm) {
            None => import::generate_to_bring(algorithm, self.world()),
            Some(lane) => {
                let world = Arc::clone(&self.vault.world);
                self.pool.run(lane, move || import::generate_to_bring(algorithm, &*world))?.await
            }
        }
    }

    /// Uses a key that stands ready elsewhere.
    pub(crate) async fn use_ready(&self, ready: Arc<Ready>, work: Work<'_>) -> Result<Product, Error> {
        match ready.begin(self.world(), work)? {
            Step::Done(product) => Ok(product),
            Step::Slow(slow) => self.pool.run(Lane::Short, move || ready.finish(slow))?.await,
        }
    }

    /// Does work of a private operation's length among the store's own.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.pool.run(Lane::Short, work)?.await
    }

    fn world(&self) -> &W {
        &self.vault.world
    }

    async fn load(&self, material: &KeyMaterial<'_>, ticket: Ticket) -> Result<Arc<Held<Ready>>, Error> {
        let tenant = self.vault.tenant(material.tenant, material.tenant_handle)?;
        let kind = match SealedBlob::parse(material.handle.as_bytes()).map(|blob| blob.kind) {
            Some(Kind::Imported) => Kind::Imported,
            Some(
                Kind::Material
                | Kind::TenantKey
                | Kind::Reference
                | Kind::ImportKey
                | Kind::ImportReference
                | Kind::ArchiveKey,
            )
            | None => Kind::Material,
        };
        let opened = tenant.open(&Binding::of(kind, material), material.handle)?;
        let algorithm = material.algorithm;
        let ready = match material::cost_of_loading(algorithm) {
            Cost::Inline => material::load(algorithm, opened.expose())?,
            Cost::Pooled => {
                self.pool.run(Lane::Short, move || material::load(algorithm, opened.expose()))?.await?
            }
        };
        Ok(self.keys.insert(material, ready, ticket))
    }

    /// The threads, for tests that keep them busy.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The sealing keys, which other stores of the same gateway share.
    pub(crate) fn vault(&self) -> &Arc<Vault<W>> {
        &self.vault
    }

    /// How many key versions stand ready.
    #[cfg(test)]
    pub(crate) fn ready(&self) -> usize {
        self.keys.len()
    }
}

/// Where a key is made: `None` for at once.
const fn lane_of_generation(algorithm: Algorithm) -> Option<Lane> {
    match algorithm {
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => Some(Lane::Long),
        Algorithm::MlDsa65 => Some(Lane::Short),
        Algorithm::Xaes256Gcm
        | Algorithm::Aes256Gcm
        | Algorithm::Aes256GcmSiv
        | Algorithm::Aes256Kw
        | Algorithm::Aes256Kwp
        | Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::Ed25519
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512
        | Algorithm::EcdhP256
        | Algorithm::EcdhP384
        | Algorithm::X25519
        | Algorithm::MlKem768 => None,
    }
}

impl<W: World> KeyStore for SoftwareStore<W> {
    async fn enroll(&self, _: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.vault.enroll(tenant)
    }

    fn default_algorithm(&self) -> Algorithm {
        Algorithm::Xaes256Gcm
    }

    fn custody(&self, _: Algorithm) -> Custody {
        Custody::Software
    }

    async fn generate(&self, _: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        match version.before {
            Some(Custody::Token | Custody::VendorAttested) => {
                Err(refusal::device("the key is kept in a device, and is not rotated into software")
                    .remedy("create another key where it may be kept in software"))
            }
            Some(Custody::Software) | None => self.generate_version(version).await,
        }
    }

    async fn begin_import(
        &self,
        _: &Permit<Change>,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        self.make_import_key(version, expires).await
    }

    async fn finish_import(
        &self,
        _: &Permit<Change>,
        waiting: KeyMaterial<'_>,
        version: NewVersion<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Generated, Error> {
        self.import_version(waiting, version, wrapped).await
    }

    fn custody_of(&self, _: &SealedHandle) -> Custody {
        Custody::Software
    }

    fn invocations(&self, _: &SealedHandle) -> u64 {
        1
    }

    async fn perform(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> Result<Product, Error> {
        if permit.tenant() != key.tenant {
            return Err(refusal::defect("a permit of one tenant with a key of another"));
        }
        self.use_version(key, work).await
    }

    async fn random(&self, _: &Permit<Use>, length: usize) -> Result<Product, Error> {
        Secret::fill_with(length, |out| self.world().fill(out)).map(Product::Secret)
    }

    fn forget(&self, key: KeyId) {
        self.keys.forget(key);
    }

    fn forget_version(&self, key: KeyId, _: KeyVersion) {
        self.keys.forget(key);
    }

    fn new_archive(&self, _: &Permit<Change>, key: NewVersion<'_>) -> Result<SealedHandle, Error> {
        self.vault.new_archive(&key)
    }

    fn archive(
        &self,
        _: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.vault.archive(&opener, &version)
    }

    fn unarchive(
        &self,
        _: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
        sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        self.vault.unarchive(&opener, &version, sealed)
    }

    fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId> {
        Vault::<W>::sealing_key_of(handle)
    }

    fn change_sealing_key(
        &self,
        _: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<ChangedSealing, Error> {
        self.vault.change(tenant, handle)
    }

    fn reseal(&self, _: &Permit<Change>, key: KeyMaterial<'_>) -> Result<SealedHandle, Error> {
        self.vault.reseal(&key)
    }

    fn retire_sealing_key(
        &self,
        _: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<SealedHandle, Error> {
        self.vault.retire(tenant, handle)
    }

    /// Nothing of a key lies in this store: with the handle, which the state forgets, the material is gone.
    fn remains(&self, _: &Permit<Change>, key: KeyMaterial<'_>, _: End) -> Result<Remains, Error> {
        self.forget(key.key);
        Ok(Remains::nothing())
    }

    async fn erase(&self, _: &Permit<Change>, _: KeyMaterial<'_>) -> Result<Vec<MemberName>, Error> {
        Ok(Vec::new())
    }

    fn can_ask(&self, _: &MemberName) -> bool {
        false
    }

    fn health(&self) -> Health {
        match (self.vault.probe(), self.pool.check()) {
            (Ok(()), Ok(())) => Health::Ready,
            (Err(error), _) => Health::Unready(error.chain()),
            (Ok(()), Err(why)) => Health::Unready(why.to_owned()),
        }
    }

    fn move_member(&self, _: &Permit<Change>, _: &MemberName, _: Membership) -> Result<(), Error> {
        Err(refusal::no_member("custody in software has no members"))
    }

    fn ejected(&self) -> Vec<(MemberName, String)> {
        Vec::new()
    }

    fn keep_out(&self, _: &MemberName, _: Absence) {}

    fn arrivals(&self) -> u64 {
        0
    }

    async fn check_copies(&self, _: &Permit<Change>, _: KeyMaterial<'_>) -> Result<Option<Copies>, Error> {
        Ok(None)
    }
}
