//! The store: the port's functions over a member's requests.

use super::commitment;
use super::der;
use super::member::{Member, NoReply};
use super::message::{Evidence, Id, NONCE_LEN, Refusal, Reply, Request};
use super::oaep;
use super::public::{self, Public};
use super::reference::{Decoder, Paddings, Reference};
use crate::refusal;
use crate::software::agreement;
use crate::software::digest;
use crate::software::ffi::RsaPkey;
use crate::software::held::{Held, Versions};
use crate::software::material;
use crate::software::rsa;
use crate::software::seal::{Binding, Kind};
use crate::software::vault::Vault;
use crate::software::{RootKey, SoftwareStore};
use holdfast_core::algorithm::{Algorithm, Family, Hash, RsaPadding, SignatureScheme};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::pipeline::{Change, Permit, Use};
use holdfast_core::port::{Health, KeyStore, World};
use holdfast_core::work::{Message, Product, Work};
use holdfast_core::{Error, ErrorKind, KeyId, Secret, Stage, TenantId};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

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

/// Custody in a token.
pub struct TokenStore<W> {
    vault: Arc<Vault<W>>,
    member: Member,
    keys: Versions<Found>,
    patience: Patience,
}

/// A key version's reference, opened.
struct Found {
    id: Id,
    paddings: Paddings,
    public: Public,
}

impl<W: World> TokenStore<W> {
    /// Over a member, whose keys' references are sealed under a root key of its own.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the cryptographic library fails.
    pub fn open(root: RootKey, world: Arc<W>, member: Member, patience: Patience) -> Result<Self, Error> {
        Ok(Self::over(Arc::new(Vault::open(root, world, CACHED_TENANTS)?), member, patience))
    }

    /// The same beside a software store, under the same root key.
    pub fn beside(software: &SoftwareStore<W>, member: Member, patience: Patience) -> Self {
        Self::over(Arc::clone(software.vault()), member, patience)
    }

    fn over(vault: Arc<Vault<W>>, member: Member, patience: Patience) -> Self {
        Self { vault, member, keys: Versions::new(CACHED_KEYS), patience }
    }

    /// The member.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// A request whose result is bytes.
    async fn done(&self, request: Request<'_>) -> Result<Secret, Error> {
        self.ask(request, self.patience.operation, |reply| match reply {
            Reply::Done(bytes) => Some(Secret::from(*bytes)),
            Reply::Made(_) | Reply::Welcome(_) | Reply::Refused(_) => None,
        })
        .await
    }

    async fn ask<T>(
        &self,
        request: Request<'_>,
        patience: Duration,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + patience;
        let replied = self.member.ask(&request, deadline, |reply| match (read(&reply), reply) {
            (Some(read), _) => Ok(read),
            (None, Reply::Refused(refused)) => Err(refuse(refused)),
            (None, Reply::Done(_) | Reply::Made(_) | Reply::Welcome(_)) => {
                Err(refusal::device("the token's answer is to another question"))
            }
        });
        match replied.await {
            Ok(read) => read,
            Err(NoReply::Down(why)) => Err(unavailable("the token cannot be reached", why.to_string())),
            Err(NoReply::Late) => {
                Err(unavailable("the token does not answer in time", "the deadline has passed".to_owned()))
            }
            Err(NoReply::TooLong) => {
                let detail = "the input is larger than a token's worker takes";
                Err(Error::new(ErrorKind::TooLarge, Stage::Perform, detail))
            }
            Err(NoReply::Full) => Err(Error::new(
                ErrorKind::Throttled,
                Stage::Perform,
                "more requests than the token can queue",
            )),
        }
    }

    async fn make(&self, version: NewVersion<'_>) -> Result<Generated, Error> {
        let algorithm = version.algorithm;
        if version.exportable {
            return Err(refusal::unsupported("a token does not give its keys away")
                .remedy("create the key without `exportable`, or in software custody"));
        }
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let mut id = Id::default();
        self.vault.world.fill(&mut id)?;
        let label = format!("holdfast/{}/{}/{}", version.tenant, version.key, version.version);
        let request = Request::Generate { algorithm, id, label: &label };
        let made = self.ask(request, self.patience.generation, |reply| match reply {
            Reply::Made(made) => Some((made.evidence, public::made(algorithm, made))),
            Reply::Done(_) | Reply::Welcome(_) | Reply::Refused(_) => None,
        });
        let (evidence, public) = made.await?;
        match self.finish(algorithm, id, evidence, public).await {
            Ok((reference, public, commitment)) => {
                let binding = Binding::of_new(Kind::Reference, &version);
                let handle = tenant.sealer.seal(&*self.vault.world, &binding, &reference.to_bytes())?;
                Ok(Generated { handle, public, commitment, custody: Custody::Token })
            }
            Err(error) => {
                // Nobody knows it, and nobody ever will.
                drop(self.done(Request::Destroy { id }).await);
                Err(error)
            }
        }
    }

    /// What a new key has to show before it is one.
    async fn finish(
        &self,
        algorithm: Algorithm,
        id: Id,
        evidence: Evidence,
        public: Result<(Vec<u8>, Public), Error>,
    ) -> Result<(Reference, Option<Arc<[u8]>>, Commitment), Error> {
        if !evidence.is_confined() {
            return Err(refusal::device(
                "the token does not say of its new key that it was made inside and can never leave",
            ));
        }
        let (spki, public) = public?;
        let commitment = match algorithm.is_asymmetric() {
            true => material::commitment(algorithm, &spki),
            false => self.commit(algorithm, id).await?,
        };
        let mut paddings = Paddings::default();
        match algorithm.family() {
            Family::KeyWrap => self.try_wrapping(id, wraps(algorithm)?).await?,
            Family::Rsa => {
                paddings = self.try_paddings(id, public.rsa_key()?).await?;
                self.try_signing(algorithm, id, &public).await?;
            }
            Family::Signature => self.try_signing(algorithm, id, &public).await?,
            Family::Aead | Family::Hmac | Family::Agreement | Family::Kem => {}
        }
        let published = algorithm.is_asymmetric().then(|| Arc::from(&*spki));
        Ok((Reference { id, paddings, spki }, published, commitment))
    }

    /// A secret key commits by what the token makes of a fixed input: SHA-256("holdfast/key-commitment/v1" ‖ algorithm code ‖ that). Nothing of
    /// the result can be found in what the key makes for callers: what is published is a digest.
    async fn commit(&self, algorithm: Algorithm, id: Id) -> Result<Commitment, Error> {
        let (request, length) = match Role::of(algorithm) {
            Role::Aead => {
                let (nonce, aad) = (commitment::NONCE, commitment::DOMAIN);
                let request = Request::Seal { id, nonce, aad, plaintext: commitment::TEXT };
                (request, NONCE_LEN + commitment::TEXT.len() + TAG_LEN)
            }
            Role::Wrap { padded } => {
                (Request::Wrap { id, padded, bytes: commitment::TEXT }, commitment::TEXT.len() + 8)
            }
            Role::Mac(hash) => (Request::Mac { id, hash, message: commitment::TEXT }, hash.len()),
            Role::Asymmetric | Role::Elsewhere => {
                return Err(refusal::defect("a secret key that has no operation"));
            }
        };
        let made = self.done(request).await?;
        if made.len() != length {
            return Err(refusal::device("the token's mechanism is not what its name says"));
        }
        Ok(material::commitment(algorithm, made.expose()))
    }

    /// Which OAEP paddings the token decrypts, with a label, and whether it does RSA bare: tried, since the list of mechanisms does not say.
    async fn try_paddings(&self, id: Id, key: &RsaPkey) -> Result<Paddings, Error> {
        let mut paddings = Paddings::default();
        let (label, sent) = (commitment::DOMAIN, b"to and fro");
        let right = |back: &Secret| match back.expose() == sent {
            true => Ok(()),
            false => Err(refusal::device("the token decrypts to something else")),
        };
        for padding in Paddings::all() {
            let body = rsa::encrypt(key, Vec::new(), padding, label, sent)?;
            if let Ok(back) = self.done(Request::RsaDecrypt { id, padding, label, body: &body }).await {
                right(&back)?;
                paddings.add(padding);
            }
        }
        let (hash, mgf1) = (Hash::Sha256, Hash::Sha256);
        let padding = RsaPadding::Oaep { hash, mgf1 };
        let body = rsa::encrypt(key, Vec::new(), padding, label, sent)?;
        if let Ok(back) = self.rsa_bare(id, key, hash, mgf1, label, &body).await {
            right(&back)?;
            paddings.bare = true;
        }
        Ok(paddings)
    }

    async fn rsa_bare(
        &self,
        id: Id,
        key: &RsaPkey,
        hash: Hash,
        mgf1: Hash,
        label: &[u8],
        body: &[u8],
    ) -> Result<Secret, Error> {
        let bare = self.done(Request::RsaBare { id, body }).await?;
        // Some modules leave the leading zeros out.
        let missing = key.modulus_len().checked_sub(bare.len());
        let missing =
            missing.ok_or_else(|| refusal::device("the token's RSA result is longer than its key"))?;
        let mut encoded = Secret::new(vec![0; key.modulus_len()]);
        encoded.expose_mut().get_mut(missing..).unwrap_or_default().copy_from_slice(bare.expose());
        oaep::decode(hash, mgf1, label, encoded).ok_or_else(refusal::integrity)
    }

    /// Modules give the name of AES key wrap with padding to different things, and some lose the padding's length.
    async fn try_wrapping(&self, id: Id, padded: bool) -> Result<(), Error> {
        let length = if padded { 35 } else { commitment::TEXT.len() };
        let bytes = commitment::TEXT.get(..length).unwrap_or_default();
        let body = self.done(Request::Wrap { id, padded, bytes }).await?;
        let body = body.expose();
        let back = self.done(Request::Unwrap { id, padded, body }).await?;
        // RFC 3394 §2.2.1, RFC 5649 §4.1: whole blocks, and one more.
        match back.expose() == bytes && body.len() == bytes.len().next_multiple_of(8) + 8 {
            true => Ok(()),
            false => {
                Err(refusal::unsupported("the token's AES key wrap is not that of RFC 3394 or RFC 5649")
                    .remedy("choose `aes-256-kw` or `aes-256-gcm`, or software custody"))
            }
        }
    }

    async fn try_signing(&self, algorithm: Algorithm, id: Id, public: &Public) -> Result<(), Error> {
        let Some(scheme) = SignatureScheme::default_for(algorithm) else { return Ok(()) };
        self.sign(algorithm, id, public, scheme, Message::Whole(commitment::TEXT)).await.map(drop)
    }

    /// Signs, and verifies before the signature is anybody's.
    async fn sign(
        &self,
        algorithm: Algorithm,
        id: Id,
        public: &Public,
        scheme: SignatureScheme,
        message: Message<'_>,
    ) -> Result<Vec<u8>, Error> {
        if !scheme.fits(algorithm) {
            return Err(refusal::unsupported("the key does not sign by this scheme"));
        }
        let hashed;
        let input = match (scheme.hash(), message) {
            (Some(hash), message) => {
                hashed = digest::of(hash, message)?;
                let digest: &[u8] = hashed.as_ref();
                digest
            }
            (None, Message::Whole(message)) => message,
            (None, Message::Digest(_)) => {
                return Err(refusal::unsupported("this scheme signs messages, not digests"));
            }
        };
        let made = self.done(Request::Sign { id, scheme, input }).await?;
        let signature = match scheme {
            SignatureScheme::Ecdsa(_) => der::ecdsa_signature(made.expose()),
            SignatureScheme::RsaPss(_)
            | SignatureScheme::RsaPkcs1v15(_)
            | SignatureScheme::Ed25519
            | SignatureScheme::MlDsa65 => Some(made.expose().to_vec()),
        };
        let wrong = || refusal::device("the token's signature does not verify");
        let signature = signature.ok_or_else(wrong)?;
        match public.verify(algorithm, scheme, message, &signature)? {
            true => Ok(signature),
            false => Err(wrong()),
        }
    }

    fn find(&self, material: &KeyMaterial<'_>) -> Result<Arc<Held<Found>>, Error> {
        let ticket = match self.keys.find(material) {
            Ok(held) => return Ok(held),
            Err(ticket) => ticket,
        };
        let tenant = self.vault.tenant(material.tenant, material.tenant_handle)?;
        let opened = tenant.sealer.open(&Binding::of(Kind::Reference, material), material.handle)?;
        let Reference { id, paddings, spki } = Reference::parse(opened.expose())?;
        let found = Found { id, paddings, public: Public::load(material.algorithm, &spki)? };
        Ok(self.keys.insert(material, found, ticket))
    }

    async fn work(&self, held: &Held<Found>, work: Work<'_>) -> Result<Product, Error> {
        let algorithm = held.algorithm;
        let Found { id, paddings, public } = &held.ready;
        let id = *id;
        match work {
            Work::Seal { frame, plaintext, aad } => {
                aead(algorithm)?;
                self.seal(id, frame, plaintext.expose(), aad).await.map(Product::Bytes)
            }
            Work::SealRandom { frame, length, aad } => {
                aead(algorithm)?;
                let plaintext = self.random_bytes(length).await?;
                let frame = self.seal(id, frame, plaintext.expose(), aad).await?;
                Ok(Product::DataKey { frame, plaintext })
            }
            Work::Open { body, aad } => {
                aead(algorithm)?;
                let (nonce, ciphertext) = body.split_first_chunk().ok_or_else(refusal::integrity)?;
                if ciphertext.len() < TAG_LEN {
                    return Err(refusal::integrity());
                }
                let opened = self.done(Request::Open { id, nonce: *nonce, aad, ciphertext }).await?;
                Ok(Product::Secret(opened))
            }
            Work::WrapKey { mut frame, bytes } => {
                let padded = wraps(algorithm)?;
                let wrapped = self.done(Request::Wrap { id, padded, bytes: bytes.expose() }).await?;
                frame.extend_from_slice(wrapped.expose());
                Ok(Product::Bytes(frame))
            }
            Work::UnwrapKey { body } => {
                let padded = wraps(algorithm)?;
                self.done(Request::Unwrap { id, padded, body }).await.map(Product::Secret)
            }
            Work::RsaEncrypt { frame, plaintext, padding, label } => {
                let key = public.rsa_key()?;
                // What nobody could decrypt is not encrypted.
                decoder(*paddings, padding)?;
                rsa::encrypt(key, frame, padding, label, plaintext.expose()).map(Product::Bytes)
            }
            Work::RsaDecrypt { body, padding, label } => {
                let key = public.rsa_key()?;
                if body.len() != key.modulus_len() {
                    return Err(refusal::integrity());
                }
                let by = match padding {
                    RsaPadding::Pkcs1v15 => Decoder::Token,
                    RsaPadding::Oaep { .. } => decoder(*paddings, padding)?,
                };
                let opened = match by {
                    Decoder::Token => self.done(Request::RsaDecrypt { id, padding, label, body }).await,
                    Decoder::Gateway { hash, mgf1 } => self.rsa_bare(id, key, hash, mgf1, label, body).await,
                };
                opened.map(Product::Secret)
            }
            Work::Sign { scheme, message } => {
                self.sign(algorithm, id, public, scheme, message).await.map(Product::Bytes)
            }
            Work::Verify { scheme, message, signature } => {
                public.verify(algorithm, scheme, message, signature).map(Product::Valid)
            }
            Work::Mac { message } => {
                let hash = mac_hash(algorithm)?;
                let mac = self.done(Request::Mac { id, hash, message }).await?;
                Ok(Product::Bytes(mac.expose().to_vec()))
            }
            Work::VerifyMac { message, mac } => {
                let hash = mac_hash(algorithm)?;
                let right = self.done(Request::Mac { id, hash, message }).await?;
                Ok(Product::Valid(right.expose().ct_eq(mac).into()))
            }
            Work::Agree { peer } => {
                let peer = agreement::point(public.group()?, peer).ok_or_else(agreement::no_peer)?;
                match self.done(Request::Agree { id, peer }).await {
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

    async fn seal(&self, id: Id, mut frame: Vec<u8>, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        self.vault.world.fill(&mut nonce)?;
        let sealed = self.done(Request::Seal { id, nonce, aad, plaintext }).await?;
        if sealed.len() != NONCE_LEN + plaintext.len() + TAG_LEN {
            return Err(refusal::device("the token's ciphertext is not of the length it should have"));
        }
        frame.extend_from_slice(sealed.expose());
        Ok(frame)
    }

    async fn random_bytes(&self, length: usize) -> Result<Secret, Error> {
        let wanted = u32::try_from(length).map_err(|_| refusal::defect("more random bytes than a frame"))?;
        let bytes = self.done(Request::Random { length: wanted }).await?;
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err(refusal::device("the token gave another number of random bytes")),
        }
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

fn refuse(refused: Refusal<'_>) -> Error {
    match refused {
        Refusal::Integrity => refusal::integrity(),
        Refusal::Malformed => refusal::malformed(
            "bytes of this length or form are not taken by the token",
            "for `aes-256-kw`, wrap a multiple of 8 bytes, 16 or more; or use an `aes-256-kwp` key, which takes any number but none",
        ),
        Refusal::Unsupported => refusal::unsupported("the token does not do this")
            .remedy("choose an algorithm or padding that the token has; `pkcs11-tool -M` lists its mechanisms"),
        Refusal::NoSuchKey => refusal::device("the token does not hold this key")
            .remedy("an operator must look whether it is the right token, and restore its objects from its own backup"),
        Refusal::Pin(why) | Refusal::Fault(why) => unavailable("the token failed", why.to_owned()),
    }
}

fn unavailable(detail: &'static str, why: String) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail).because(why)
}

impl<W: World> KeyStore for TokenStore<W> {
    async fn enroll(&self, _: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.vault.enroll(tenant)
    }

    fn default_algorithm(&self) -> Algorithm {
        Algorithm::Aes256Gcm
    }

    fn custody(&self, _: Algorithm) -> Custody {
        Custody::Token
    }

    async fn generate(&self, _: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        self.make(version).await
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

    async fn erase(&self, _: &Permit<Change>, key: KeyMaterial<'_>) -> Result<(), Error> {
        let held = self.find(&key)?;
        self.forget(key.key);
        self.done(Request::Destroy { id: held.ready.id }).await.map(drop)
    }

    fn health(&self) -> Health {
        match (self.vault.probe(), self.member.check()) {
            (Ok(()), Ok(())) => Health::Ready,
            (Err(error), _) => Health::Unready(error.chain()),
            (Ok(()), Err(why)) => Health::Unready(why.to_string()),
        }
    }
}
