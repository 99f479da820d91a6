//! The store: the port's functions over a pool's requests.

mod adopt;
mod copies;
mod emergency;
mod import;
mod make;
mod tokens;

pub(super) use adopt::Adopted;
use copies::{Erased, Sought as SoughtCopies, Traveller};
pub(crate) use emergency::{Copied, copy_of};
use tokens::{Tokens, Whom};

use super::message::{Id, NONCE_LEN, Request};
use super::oaep;
use super::pool::Pool;
use super::public::Public;
use super::reference::{Decoder, Paddings, Reference, Remains as LeftOfKey};
use crate::refusal;
use crate::sealing::held::{Held, Versions};
use crate::sealing::seal::{Binding, Kind};
use crate::sealing::vault::Vault;
use crate::software::agreement;
use crate::software::rsa;
use crate::software::{RootKey, SoftwareStore};
use holdfast_core::adoption::{ObjectDigest, Sought};
use holdfast_core::algorithm::{Algorithm, Hash, RsaPadding};
use holdfast_core::frame::Commitment;
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::pipeline::{Change, Permit, Use};
use holdfast_core::port::{
    Absence, ChangedSealing, Copies, End, Health, KeyStore, Membership, Remains, World,
};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::work::{Product, Work};
use holdfast_core::{Error, KeyId, KeyVersion, MemberName, Secret, TenantId, Timestamp};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

const TAG_LEN: usize = 16;
/// References held ready, about; some hundred bytes each, a thousand with an RSA key's public half.
const CACHED_KEYS: usize = 4096;
const CACHED_TENANTS: usize = 1024;

/// How long the store waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an operation.
    pub operation: Duration,
    /// For a key to be made.
    pub generation: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { operation: Duration::from_millis(120), generation: Duration::from_secs(60) }
    }
}

/// Custody in tokens: one, or a pool of them.
pub struct TokenStore<W> {
    vault: Arc<Vault<W>>,
    tokens: Arc<Tokens>,
    keys: Versions<Found>,
    /// The tenants that may adopt what other programs have made in the tokens.
    adopters: Box<[TenantId]>,
}

/// A key version's reference, opened.
struct Found {
    id: Id,
    paddings: Paddings,
    public: Public,
    commitment: Commitment,
    /// What brings it to a member that does not hold it.
    traveller: Option<Traveller>,
    /// What the token calls it, where another program made it.
    adopted: Option<Adopted>,
}

impl<W: World> TokenStore<W> {
    /// Over a pool, whose keys' references are sealed under a root key of its own.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the cryptographic library fails.
    pub fn open(root: RootKey, world: Arc<W>, pool: Pool, patience: Patience) -> Result<Self, Error> {
        Ok(Self::over(Arc::new(Vault::open(root, world, CACHED_TENANTS)?), pool, patience))
    }

    /// The same beside a software store, under the same root key.
    pub fn beside(software: &SoftwareStore<W>, pool: Pool, patience: Patience) -> Self {
        Self::over(Arc::clone(software.vault()), pool, patience)
    }

    fn over(vault: Arc<Vault<W>>, pool: Pool, patience: Patience) -> Self {
        let tokens =
            Arc::new(Tokens { pool, patience, doomed: Mutex::default(), compared: Mutex::default() });
        Self { vault, tokens, keys: Versions::new(CACHED_KEYS), adopters: Box::default() }
    }

    /// The same, where these tenants may adopt what other programs have made in the tokens; nobody may otherwise.
    #[must_use]
    pub fn adopted_by(self, adopters: impl IntoIterator<Item = TenantId>) -> Self {
        Self { adopters: adopters.into_iter().collect(), ..self }
    }

    /// The pool.
    pub fn pool(&self) -> &Pool {
        &self.tokens.pool
    }

    fn open_reference(&self, material: &KeyMaterial<'_>) -> Result<Reference, Error> {
        let tenant = self.vault.tenant(material.tenant, material.tenant_handle)?;
        let opened = tenant.open(&Binding::of(Kind::Reference, material), material.handle)?;
        Reference::parse(opened.expose())
    }

    fn find(&self, material: &KeyMaterial<'_>) -> Result<Arc<Held<Found>>, Error> {
        let ticket = match self.keys.find(material) {
            Ok(held) => return Ok(held),
            Err(ticket) => ticket,
        };
        let Reference { id, paddings, copy, adopted, emergency: _, imported, spki } =
            self.open_reference(material)?;
        let public = Public::load(material.algorithm, &spki)?;
        let named = || (id, label(material.tenant, material.key, material.version));
        let traveller = copy.map(|copy| Traveller::new(material.algorithm, named(), copy, spki, imported));
        let commitment = *material.commitment;
        let found = Found { id, paddings, public, commitment, traveller, adopted };
        Ok(self.keys.insert(material, found, ticket))
    }

    async fn work(&self, held: &Arc<Held<Found>>, work: Work<'_>) -> Result<Product, Error> {
        let algorithm = held.algorithm;
        let Found { id, paddings, public, .. } = &held.ready;
        let (id, whom) = (*id, Whom::Holders(held));
        match work {
            Work::Seal { frame, plaintext, aad } => {
                aead(algorithm)?;
                self.seal(whom, id, frame, plaintext.expose(), aad).await.map(Product::Bytes)
            }
            Work::SealRandom { frame, length, aad } => {
                aead(algorithm)?;
                let plaintext = self.random_bytes(length).await?;
                let frame = self.seal(whom, id, frame, plaintext.expose(), aad).await?;
                Ok(Product::DataKey { frame, plaintext })
            }
            Work::Open { body, aad } => {
                aead(algorithm)?;
                let (nonce, ciphertext) = body.split_first_chunk().ok_or_else(refusal::integrity)?;
                if ciphertext.len() < TAG_LEN {
                    return Err(refusal::integrity());
                }
                let opened =
                    self.tokens.bytes(whom, Request::Open { id, nonce: *nonce, aad, ciphertext }).await?;
                Ok(Product::Secret(opened))
            }
            Work::WrapKey { mut frame, bytes } => {
                let padded = wraps(algorithm)?;
                let wrapped =
                    self.tokens.bytes(whom, Request::Wrap { id, padded, bytes: bytes.expose() }).await?;
                frame.extend_from_slice(wrapped.expose());
                Ok(Product::Bytes(frame))
            }
            Work::UnwrapKey { body } => {
                let padded = wraps(algorithm)?;
                self.tokens.bytes(whom, Request::Unwrap { id, padded, body }).await.map(Product::Secret)
            }
            Work::RsaEncrypt { frame, plaintext, padding, label } => {
                let key = public.rsa_key()?;
                // What nobody could decrypt is not encrypted.
                decoder(*paddings, padding)?;
                rsa::encrypt(key, frame, padding, label, plaintext.expose()).map(Product::Bytes)
            }
            Work::RsaDecrypt { body, padding, label } => {
                let key = public.rsa_key()?;
                if !public.is_in_range(body) {
                    return Err(refusal::integrity());
                }
                let by = match padding {
                    RsaPadding::Pkcs1v15 => Decoder::Token,
                    RsaPadding::Oaep { .. } => decoder(*paddings, padding)?,
                };
                let opened = match by {
                    Decoder::Token => {
                        self.tokens.bytes(whom, Request::RsaDecrypt { id, padding, label, body }).await
                    }
                    Decoder::Gateway { hash, mgf1 } => {
                        let encoded = self.tokens.rsa_bare(whom, id, key, body).await?;
                        oaep::decode(hash, mgf1, label, encoded).ok_or_else(refusal::integrity)
                    }
                };
                opened.map(Product::Secret)
            }
            Work::Sign { scheme, message } => {
                self.tokens.sign(whom, algorithm, id, public, scheme, message).await.map(Product::Bytes)
            }
            Work::Verify { scheme, message, signature } => {
                public.verify(algorithm, scheme, message, signature).map(Product::Valid)
            }
            Work::Mac { message } => {
                let hash = mac_hash(algorithm)?;
                self.mac(whom, id, hash, message).await.map(|mac| Product::Bytes(mac.expose().to_vec()))
            }
            Work::VerifyMac { message, mac } => {
                let hash = mac_hash(algorithm)?;
                let right = self.mac(whom, id, hash, message).await?;
                Ok(Product::Valid(right.expose().ct_eq(mac).into()))
            }
            Work::Agree { peer } => {
                let peer = agreement::point(public.group()?, peer).ok_or_else(agreement::no_peer)?;
                match self.tokens.bytes(whom, Request::Agree { id, peer }).await {
                    Ok(secret) if secret.expose().iter().any(|byte| *byte != 0) => {
                        Ok(Product::Secret(secret))
                    }
                    Ok(_) => Err(agreement::no_peer()),
                    Err(error) => Err(error),
                }
            }
            Work::Encapsulate | Work::Decapsulate { .. } => {
                Err(refusal::unsupported("the key does not encapsulate"))
            }
        }
    }

    async fn seal(
        &self,
        whom: Whom<'_>,
        id: Id,
        mut frame: Vec<u8>,
        plaintext: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        self.vault.world.fill(&mut nonce)?;
        let length = NONCE_LEN + plaintext.len() + TAG_LEN;
        // The same nonce whoever is asked, and however often: a repetition makes the same ciphertext again.
        let request = Request::Seal { id, nonce, aad, plaintext };
        let sealed = self.tokens.done(whom, request, |sealed| match sealed.len() == length {
            true => Ok(sealed.to_vec()),
            false => Err(refusal::device("the token's ciphertext is not of the length it should have")),
        });
        frame.extend_from_slice(&sealed.await?);
        Ok(frame)
    }

    async fn mac(&self, whom: Whom<'_>, id: Id, hash: Hash, message: &[u8]) -> Result<Secret, Error> {
        self.tokens
            .done(whom, Request::Mac { id, hash, message }, |mac| match mac.len() == hash.len() {
                true => Ok(Secret::from(mac)),
                false => Err(refusal::device("the token's code is not of the length it should have")),
            })
            .await
    }

    async fn random_bytes(&self, length: usize) -> Result<Secret, Error> {
        let wanted = u32::try_from(length).map_err(|_| refusal::defect("more random bytes than a frame"))?;
        self.tokens
            .done(Whom::Any, Request::Random { length: wanted }, |bytes| match bytes.len() == length {
                true => Ok(Secret::from(bytes)),
                false => Err(refusal::device("the token gave another number of random bytes")),
            })
            .await
    }
}

/// Who takes a padding off.
fn decoder(paddings: Paddings, padding: RsaPadding) -> Result<Decoder, Error> {
    paddings.decoder(padding).ok_or_else(|| {
        refusal::unsupported("the token does not decrypt with this padding")
            .remedy("choose OAEP with other hashes, or a key in software custody")
    })
}

/// What a key of an algorithm does in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Aead,
    Wrap {
        padded: bool,
    },
    Mac(Hash),
    /// Its public half decides.
    Asymmetric,
    /// It is in no token.
    Elsewhere,
}

impl Role {
    const fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Aes256Gcm => Self::Aead,
            Algorithm::Aes256Kw => Self::Wrap { padded: false },
            Algorithm::Aes256Kwp => Self::Wrap { padded: true },
            Algorithm::HmacSha256 => Self::Mac(Hash::Sha256),
            Algorithm::HmacSha384 => Self::Mac(Hash::Sha384),
            Algorithm::HmacSha512 => Self::Mac(Hash::Sha512),
            Algorithm::Rsa2048
            | Algorithm::Rsa3072
            | Algorithm::Rsa4096
            | Algorithm::EcdsaP256
            | Algorithm::EcdsaP384
            | Algorithm::EcdsaP521
            | Algorithm::Ed25519
            | Algorithm::EcdhP256
            | Algorithm::EcdhP384
            | Algorithm::X25519 => Self::Asymmetric,
            Algorithm::Xaes256Gcm | Algorithm::Aes256GcmSiv | Algorithm::MlDsa65 | Algorithm::MlKem768 => {
                Self::Elsewhere
            }
        }
    }
}

/// Whether a token could hold such a key at all.
pub(crate) fn can_hold(version: &NewVersion<'_>) -> bool {
    Role::of(version.algorithm) != Role::Elsewhere && !version.exportable
}

fn aead(algorithm: Algorithm) -> Result<(), Error> {
    match Role::of(algorithm) {
        Role::Aead => Ok(()),
        Role::Wrap { .. } | Role::Mac(_) | Role::Asymmetric | Role::Elsewhere => {
            Err(refusal::unsupported("the key does not encrypt"))
        }
    }
}

fn wraps(algorithm: Algorithm) -> Result<bool, Error> {
    match Role::of(algorithm) {
        Role::Wrap { padded } => Ok(padded),
        Role::Aead | Role::Mac(_) | Role::Asymmetric | Role::Elsewhere => {
            Err(refusal::unsupported("the key does not wrap by AES key wrap"))
        }
    }
}

fn mac_hash(algorithm: Algorithm) -> Result<Hash, Error> {
    match Role::of(algorithm) {
        Role::Mac(hash) => Ok(hash),
        Role::Aead | Role::Wrap { .. } | Role::Asymmetric | Role::Elsewhere => {
            Err(refusal::unsupported("the key makes no message authentication codes"))
        }
    }
}

/// What people see of a key version who look at the token.
fn label(tenant: &TenantId, key: KeyId, version: KeyVersion) -> String {
    format!("holdfast/{tenant}/{key}/{version}")
}

pub(super) fn another_question() -> Error {
    refusal::device("the token's answer is to another question")
}

impl<W: World> KeyStore for TokenStore<W> {
    async fn enroll(&self, _: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.vault.enroll(tenant)
    }

    fn default_algorithm(&self) -> Algorithm {
        Algorithm::Aes256Gcm
    }

    fn copies(&self, _: Custody) -> usize {
        self.tokens.pool.copies()
    }

    fn custody(&self, _: Algorithm) -> Custody {
        Custody::Token
    }

    async fn generate(&self, _: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        self.make(version).await
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

    async fn find_object(
        &self,
        _: &Permit<Change>,
        tenant: &TenantId,
        algorithm: Algorithm,
        sought: Sought<'_>,
    ) -> Result<ObjectDigest, Error> {
        self.seek(tenant, algorithm, sought).await
    }

    async fn adopt(
        &self,
        _: &Permit<Change>,
        version: NewVersion<'_>,
        sought: Sought<'_>,
        object: ObjectDigest,
    ) -> Result<Generated, Error> {
        self.take_over(version, sought, object).await
    }

    fn custody_of(&self, _: &SealedHandle) -> Custody {
        Custody::Token
    }

    /// Each member may be asked once. They are all given the same nonce, but a device may choose its own.
    fn invocations(&self, _: &SealedHandle) -> u64 {
        u64::try_from(self.tokens.pool.members().len()).unwrap_or(u64::MAX)
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
        let held = self.find(&key)?;
        self.work(&held, work).await
    }

    async fn random(&self, _: &Permit<Use>, length: usize) -> Result<Product, Error> {
        self.random_bytes(length).await.map(Product::Secret)
    }

    fn forget(&self, key: KeyId) {
        self.keys.forget(key);
    }

    fn forget_version(&self, key: KeyId, _: KeyVersion) {
        self.keys.forget(key);
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

    /// Any member may hold it: also one that was away when it was made, and was brought it since.
    fn remains(&self, _: &Permit<Change>, key: KeyMaterial<'_>, end: End) -> Result<Remains, Error> {
        let (reference, brought_as) = match self.import_key(&key)? {
            Some(reference) => (reference, key.version.next()),
            None => {
                let reference = self.open_reference(&key)?;
                let brought_as = reference.imported.then_some(key.version);
                (reference, brought_as)
            }
        };
        self.forget(key.key);
        let remains = reference.into_remains(match end {
            End::Destroyed => brought_as,
            End::Served | End::Unmade => None,
        });
        let tenant = self.vault.tenant(key.tenant, key.tenant_handle)?;
        let binding = Binding::of(Kind::Reference, &key);
        Ok(Remains {
            handle: tenant.sealer.seal(&*self.vault.world, &binding, &remains.to_bytes()?)?,
            holders: self.tokens.pool.names()?,
        })
    }

    async fn erase(&self, _: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Vec<MemberName>, Error> {
        let tenant = self.vault.tenant(key.tenant, key.tenant_handle)?;
        let opened = tenant.open(&Binding::of(Kind::Reference, &key), key.handle)?;
        Ok(match LeftOfKey::parse(opened.expose())? {
            LeftOfKey::Ours(id) => self.tokens.destroy(id, Erased::Ours("")).await,
            LeftOfKey::Imported(id, version) => {
                let label = label(key.tenant, key.key, version);
                self.tokens.destroy(id, Erased::Ours(&label)).await
            }
            LeftOfKey::Adopted(id, object) => {
                self.tokens.destroy(id, Erased::Adopted(&object, key.algorithm, key.commitment)).await
            }
        })
    }

    fn can_ask(&self, member: &MemberName) -> bool {
        let pool = &self.tokens.pool;
        pool.members().iter().any(|own| pool.can_ask(own).as_ref() == Some(member))
    }

    fn health(&self) -> Health {
        match (self.vault.probe(), self.tokens.pool.check()) {
            (Ok(()), Ok(())) => Health::Ready,
            (Err(error), _) => Health::Unready(error.chain()),
            (Ok(()), Err(why)) => Health::Unready(why.to_string()),
        }
    }

    fn members(&self) -> Vec<MemberName> {
        // The configuration takes no name that is none.
        self.tokens.pool.names().unwrap_or_default()
    }

    fn move_member(&self, _: &Permit<Change>, member: &MemberName, to: Membership) -> Result<(), Error> {
        self.tokens.pool.move_member(member, to)
    }

    fn ejected(&self) -> Vec<(MemberName, String)> {
        self.tokens.pool.ejected()
    }

    fn keep_out(&self, member: &MemberName, absence: Absence) {
        self.tokens.pool.keep_out(member, absence);
    }

    fn arrivals(&self) -> u64 {
        self.tokens.pool.arrivals()
    }

    /// Past the keys that are held ready: those that are used are not to make way for all the others.
    async fn check_copies(&self, _: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Option<Copies>, Error> {
        // An import key serves once, wherever it is.
        if self.import_key(&key)?.is_some() {
            return Ok(None);
        }
        let Reference { id, paddings: _, copy, adopted, emergency: _, imported, spki } =
            self.open_reference(&key)?;
        // What another program made is brought nowhere; whoever is asked for it says that it lacks it.
        if adopted.is_some() {
            return Ok(None);
        }
        let algorithm = key.algorithm;
        let traveller = copy.map(|copy| {
            let named = (id, label(key.tenant, key.key, key.version));
            Traveller::new(algorithm, named, copy, spki.clone(), imported)
        });
        let (public, commitment) = (Public::load(algorithm, &spki)?, *key.commitment);
        let sought = SoughtCopies { algorithm, id, public, spki, commitment };
        self.tokens.check_copies(&sought, traveller.as_ref()).await
    }
}
