//! Custody in memory. Its cryptography is a toy (SHA-256 as key stream and tag), but it binds what real custody binds.

use super::copies::Copies as Emergency;
use super::{Gate, lock, sha256};
use holdfast_core::adoption::{ObjectDigest, Sought};
use holdfast_core::algorithm::{Algorithm, Family, RsaPadding};
use holdfast_core::emergency::{Approved, CopyState, OpenedCopy, RequestCopy};
use holdfast_core::frame::Commitment;
use holdfast_core::import::Wrapped;
use holdfast_core::key::{
    Custody, Evidence, Generated, KeyMaterial, NewVersion, SealedHandle, TokenEvidence, TokenOrigin,
};
use holdfast_core::pipeline::{Change, Permit, Use};
use holdfast_core::port::{Absence, ChangedSealing, Copies, End, Health, KeyStore, Membership, Remains};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::work::{Message, Product, Work};
use holdfast_core::{
    Error, ErrorKind, KeyId, KeyVersion, MemberName, OperationId, Secret, Stage, TenantId, Timestamp,
};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

const NONCE: usize = 24;
const TAG: usize = 32;
/// What remains of a key in a pool.
const REMAINS: &[u8] = b"remains";

/// What goes wrong with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// It fails with this kind.
    Fail(ErrorKind),
    /// It is done, and returns another product than was asked for.
    WrongProduct,
    /// It is done, and a bit of what it returns is another.
    Flip,
    /// None: the next fault is the next operation's.
    Pass,
}

/// A key store in memory.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    inner: Arc<Mutex<Inner>>,
    /// Operations are done and then wait here.
    pub performing: Gate,
    /// Keys are made and then wait here.
    pub generating: Gate,
    /// Whoever has erased something from its members passes here.
    pub erasing: Gate,
}

#[derive(Debug, Default)]
struct Inner {
    made: u64,
    faults: VecDeque<KeyFault>,
    erased: HashSet<(KeyId, KeyVersion)>,
    forgotten: Vec<KeyId>,
    performed: Vec<OperationId>,
    repeats: u64,
    /// How many members hold each version besides the first.
    copies: usize,
    drained: HashSet<MemberName>,
    ejected: Vec<(MemberName, String)>,
    arrivals: u64,
    missing: HashSet<(KeyId, KeyVersion)>,
    members: Vec<MemberName>,
    away: HashSet<MemberName>,
    erased_on: HashSet<(MemberName, KeyId, KeyVersion)>,
    /// What others have made here: labels.
    foreign: Vec<Box<str>>,
    emergency: Emergency,
    /// Whether no operation reaches the keys.
    unreachable: bool,
    /// Whose versions go to no other sealing key.
    jammed: HashSet<TenantId>,
}

impl Keys {
    /// Lets one of the next operations fail; faults are used up in order.
    pub fn fault(&self, fault: KeyFault) {
        lock(&self.inner).faults.push_back(fault);
    }

    /// Says of each operation that it may be repeated so often.
    pub fn repeat(&self, times: u64) {
        lock(&self.inner).repeats = times;
    }

    /// So many members hold each version.
    pub fn copy(&self, members: usize) {
        lock(&self.inner).copies = members - 1;
    }

    /// A member of its pool gives a wrong result.
    pub fn eject(&self, member: &MemberName, why: &str) {
        lock(&self.inner).ejected.push((member.clone(), why.to_owned()));
    }

    /// A member of its pool comes that lacks these versions.
    pub fn arrive(&self, lacking: &[(KeyId, KeyVersion)]) {
        let mut inner = lock(&self.inner);
        inner.arrivals += 1;
        inner.missing.extend(lacking);
    }

    /// The members that are out, of a pool of any.
    pub fn drained(&self) -> Vec<MemberName> {
        lock(&self.inner).drained.iter().cloned().collect()
    }

    /// Makes emergency copies of keys from now on.
    pub fn make_copies(&self) {
        lock(&self.inner).emergency.made = true;
    }

    /// Takes all members of its pool away, or brings them back.
    pub fn set_unreachable(&self, unreachable: bool) {
        lock(&self.inner).unreachable = unreachable;
    }

    /// Fails to take versions of this tenant to another sealing key, or does it again.
    pub fn jam(&self, tenant: &TenantId, is_jammed: bool) {
        let mut inner = lock(&self.inner);
        match is_jammed {
            true => inner.jammed.insert(tenant.clone()),
            false => inner.jammed.remove(tenant),
        };
    }

    /// What a new process does not know: who is out of the pool, and which copies are in force.
    pub fn restart(&self) {
        let mut inner = lock(&self.inner);
        inner.emergency.restart();
        inner.drained.clear();
        inner.ejected.clear();
    }

    /// Forgets faults that nobody ran into.
    pub fn heal(&self) {
        lock(&self.inner).faults.clear();
    }

    /// The operations that asked it to use a key, in order.
    pub fn performed(&self) -> Vec<OperationId> {
        lock(&self.inner).performed.clone()
    }

    /// The keys that it was told to forget, in order.
    pub fn forgotten(&self) -> Vec<KeyId> {
        lock(&self.inner).forgotten.clone()
    }

    /// Has the material of its keys in a pool of these members.
    pub fn pool(&self, members: &[&str]) {
        lock(&self.inner).members = members.iter().map(|name| name.parse().unwrap()).collect();
    }

    /// Takes a member away, or brings it back.
    pub fn take_away(&self, member: &str, is_away: bool) {
        let member: MemberName = member.parse().unwrap();
        let mut inner = lock(&self.inner);
        match is_away {
            true => inner.away.insert(member),
            false => inner.away.remove(&member),
        };
    }

    /// The members that have erased a version's material, in order.
    pub fn erased_on(&self, key: KeyId, version: KeyVersion) -> Vec<String> {
        let inner = lock(&self.inner);
        let of = inner.erased_on.iter().filter(|(_, of, number)| (*of, *number) == (key, version));
        let mut members: Vec<_> = of.map(|(member, ..)| member.to_string()).collect();
        members.sort_unstable();
        members
    }

    /// Whether it was asked what remains of a version's material: nobody can use that any more.
    pub fn is_erased(&self, key: KeyId, version: KeyVersion) -> bool {
        lock(&self.inner).erased.contains(&(key, version))
    }

    /// Another program makes a key here, of this label.
    pub fn make_foreign(&self, label: &str) {
        lock(&self.inner).foreign.push(label.into());
    }

    /// What somebody who has only the public key encrypts: a bare ciphertext.
    pub fn encrypt_outside(handle: &SealedHandle, padding: RsaPadding, plaintext: &[u8]) -> Vec<u8> {
        let seed = &handle.as_bytes()[..32];
        let mut out = Vec::new();
        seal(&mut out, seed, &[9; NONCE], plaintext, &rsa_aad(padding, &[]));
        out
    }

    /// What a tenant wraps for an import key of this public half, and its check value as a symmetric key.
    pub fn wrap_outside(public: &[u8], material: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut out = Vec::new();
        seal(&mut out, public, &[9; NONCE], material, b"import");
        (out, sha256(&[material])[..8].to_vec())
    }

    fn unique(&self) -> [u8; 32] {
        let mut inner = lock(&self.inner);
        inner.made += 1;
        sha256(&[b"unique", &inner.made.to_be_bytes()])
    }

    /// What becomes of this operation's product.
    fn begin(&self, operation: OperationId) -> Result<Spoilt, Error> {
        let mut inner = lock(&self.inner);
        inner.performed.push(operation);
        match inner.faults.pop_front() {
            None | Some(KeyFault::Pass) => Ok(Spoilt::Not),
            Some(KeyFault::WrongProduct) => Ok(Spoilt::Another),
            Some(KeyFault::Flip) => Ok(Spoilt::Flipped),
            Some(KeyFault::Fail(kind)) => {
                Err(Error::new(kind, Stage::Perform, "the key store was told to fail"))
            }
        }
    }
}

/// What becomes of an operation's product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoilt {
    Not,
    Another,
    Flipped,
}

fn flip(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}

/// Says which check it was, as no store should: core says the same of all of them.
fn integrity(check: &'static str) -> Error {
    Error::new(ErrorKind::Integrity, Stage::Perform, check).remedy("ask the key store")
}

/// What a token says of a key.
fn in_a_token(origin: TokenOrigin) -> TokenEvidence {
    let text = || Box::from("double");
    TokenEvidence {
        origin,
        manufacturer: text(),
        model: text(),
        serial: text(),
        firmware: text(),
        attributes: vec!["sensitive", "encrypt"],
        wrapping_key: None,
    }
}

/// Length of a sealing key: a tenant's handle is one, or the newest and the one before.
const SEALING_KEY: usize = 32;

/// What binds a handle, and the name of the sealing key that it is under.
fn binding(
    tenant: &TenantId,
    tenant_handle: &SealedHandle,
    key: KeyId,
    version: KeyVersion,
    algorithm: Algorithm,
    exportable: bool,
    seed: &[u8],
) -> Vec<u8> {
    let newest = tenant_handle.as_bytes().chunks(SEALING_KEY).next().unwrap_or_default();
    bound_under(newest, tenant, key, version, algorithm, exportable, seed)
}

fn bound_under(
    sealing_key: &[u8],
    tenant: &TenantId,
    key: KeyId,
    version: KeyVersion,
    algorithm: Algorithm,
    exportable: bool,
    seed: &[u8],
) -> Vec<u8> {
    let bound = sha256(&[
        tenant.as_str().as_bytes(),
        sealing_key,
        key.as_bytes(),
        &version.get().to_be_bytes(),
        &[algorithm.code(), u8::from(exportable)],
        seed,
    ]);
    [&bound[..], &name_of(sealing_key)].concat()
}

fn name_of(sealing_key: &[u8]) -> [u8; 8] {
    sha256(&[b"name", sealing_key])[..8].try_into().unwrap()
}

fn of_archive(under: &[u8], version: &KeyMaterial<'_>, seed: &[u8]) -> [u8; 32] {
    sha256(&[under, version.key.as_bytes(), &version.version.get().to_be_bytes(), seed])
}

fn seed_of<'a>(material: &KeyMaterial<'a>) -> Result<&'a [u8], Error> {
    let KeyMaterial { tenant, tenant_handle, key, version, algorithm, exportable, commitment: _, handle } =
        *material;
    let (seed, bound) =
        handle.as_bytes().split_at_checked(32).ok_or_else(|| integrity("that is no handle"))?;
    let fits =
        |sealing_key| bound == bound_under(sealing_key, tenant, key, version, algorithm, exportable, seed);
    match tenant_handle.as_bytes().chunks(SEALING_KEY).any(fits) {
        true => Ok(seed),
        false => Err(integrity("the handle is another key's")),
    }
}

fn keystream(seed: &[u8], nonce: &[u8], bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.chunks(32).enumerate();
    let block = |(index, chunk): (usize, &[u8])| {
        let pad = sha256(&[b"stream", seed, nonce, &index.to_be_bytes()]);
        chunk.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect::<Vec<_>>()
    };
    blocks.flat_map(block).collect()
}

fn seal(out: &mut Vec<u8>, seed: &[u8], nonce: &[u8], plaintext: &[u8], aad: &[u8]) {
    out.extend_from_slice(nonce);
    out.extend_from_slice(&keystream(seed, nonce, plaintext));
    out.extend_from_slice(&sha256(&[b"tag", seed, nonce, aad, plaintext]));
}

fn open(body: &[u8], seed: &[u8], aad: &[u8]) -> Result<Secret, Error> {
    let (nonce, rest) = body.split_at_checked(NONCE).ok_or_else(|| integrity("the body is too short"))?;
    let (sealed, tag) = rest
        .len()
        .checked_sub(TAG)
        .map(|at| rest.split_at(at))
        .ok_or_else(|| integrity("the body is too short"))?;
    let plaintext = Secret::new(keystream(seed, nonce, sealed));
    let expected = sha256(&[b"tag", seed, nonce, aad, plaintext.expose()]);
    if tag == expected { Ok(plaintext) } else { Err(integrity("the tag is wrong")) }
}

fn rsa_aad(padding: RsaPadding, label: &[u8]) -> Vec<u8> {
    format!("{padding:?}").into_bytes().into_iter().chain(label.iter().copied()).collect()
}

fn digest_of(message: &Message<'_>) -> Vec<u8> {
    match message {
        Message::Whole(bytes) => [b"whole", *bytes].concat(),
        Message::Digest(bytes) => [b"digest", *bytes].concat(),
    }
}

/// What the work is for, as a family, so that no key does another's work.
fn family_of(work: &Work<'_>) -> &'static [Family] {
    match work {
        Work::Seal { .. } | Work::SealRandom { .. } | Work::Open { .. } => &[Family::Aead],
        Work::WrapKey { .. } | Work::UnwrapKey { .. } => &[Family::KeyWrap],
        Work::RsaEncrypt { .. } | Work::RsaDecrypt { .. } => &[Family::Rsa],
        Work::Sign { .. } | Work::Verify { .. } => &[Family::Rsa, Family::Signature],
        Work::Mac { .. } | Work::VerifyMac { .. } => &[Family::Hmac],
        Work::Agree { .. } => &[Family::Agreement],
        Work::Encapsulate | Work::Decapsulate { .. } => &[Family::Kem],
    }
}

/// A toy Diffie–Hellman modulo the Mersenne prime 2^61 − 1: `base` to the power of a number that only the seed tells.
fn power(base: u64, seed: &[u8]) -> u64 {
    const P: u128 = (1 << 61) - 1;
    let mut exponent = u64::from_be_bytes(sha256(&[b"exponent", seed])[..8].try_into().unwrap());
    let (mut base, mut result) = (u128::from(base) % P, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % P;
        }
        base = base * base % P;
        exponent >>= 1;
    }
    u64::try_from(result).unwrap()
}

fn public_half(algorithm: Algorithm, seed: &[u8]) -> Arc<[u8]> {
    match algorithm.family() {
        Family::Agreement => [&power(3, seed).to_be_bytes()[..], &[1; 24]].concat().into(),
        _ => Arc::from(sha256(&[b"public", seed])),
    }
}

fn agree(seed: &[u8], peer: &[u8]) -> Result<Secret, Error> {
    let half = peer
        .first_chunk::<8>()
        .filter(|_| peer.len() == 32)
        .map(|half| power(u64::from_be_bytes(*half), seed));
    match half {
        Some(shared) if shared != 0 => Ok(Secret::from(&sha256(&[b"agree", &shared.to_be_bytes()])[..])),
        Some(_) | None => Err(Error::new(ErrorKind::Malformed, Stage::Perform, "`peer` is no public key")),
    }
}

fn mac_of(algorithm: Algorithm, seed: &[u8], message: &[u8]) -> Vec<u8> {
    let length = match algorithm {
        Algorithm::HmacSha384 => 48,
        Algorithm::HmacSha512 => 64,
        _ => 32,
    };
    let halves = [sha256(&[b"mac 1", seed, message]), sha256(&[b"mac 2", seed, message])];
    halves.concat()[..length].to_vec()
}

fn work_on(seed: &[u8], algorithm: Algorithm, nonce: &[u8; 32], work: Work<'_>) -> Result<Product, Error> {
    let nonce24 = &nonce[..NONCE];
    Ok(match work {
        Work::Seal { mut frame, plaintext, aad } => {
            seal(&mut frame, seed, nonce24, plaintext.expose(), aad);
            Product::Bytes(frame)
        }
        Work::SealRandom { mut frame, length, aad } => {
            let plaintext = Secret::new(keystream(b"random", nonce, &vec![0; length]));
            seal(&mut frame, seed, nonce24, plaintext.expose(), aad);
            Product::DataKey { frame, plaintext }
        }
        Work::Open { body, aad } => Product::Secret(open(body, seed, aad)?),
        Work::WrapKey { mut frame, bytes } => {
            if algorithm == Algorithm::Aes256Kw && !bytes.len().is_multiple_of(8) {
                let detail = "key wrap takes multiples of 8 bytes";
                return Err(Error::new(ErrorKind::Malformed, Stage::Perform, detail));
            }
            seal(&mut frame, seed, &[0; NONCE], bytes.expose(), b"key wrap");
            Product::Bytes(frame)
        }
        Work::UnwrapKey { body } => Product::Secret(open(body, seed, b"key wrap")?),
        // What RSA-4096 holds with SHA-256 (RFC 8017 §7.1.1).
        Work::RsaEncrypt { plaintext, .. } if plaintext.len() > 446 => {
            return Err(Error::new(ErrorKind::Malformed, Stage::Perform, "longer than the key can encrypt"));
        }
        Work::RsaEncrypt { mut frame, plaintext, padding, label } => {
            seal(&mut frame, seed, nonce24, plaintext.expose(), &rsa_aad(padding, label));
            Product::Bytes(frame)
        }
        Work::RsaDecrypt { body, padding, label } => {
            Product::Secret(open(body, seed, &rsa_aad(padding, label))?)
        }
        Work::Sign { scheme, message } => {
            Product::Bytes(sha256(&[b"sign", seed, scheme.name().as_bytes(), &digest_of(&message)]).to_vec())
        }
        Work::Verify { scheme, message, signature } => {
            let expected = sha256(&[b"sign", seed, scheme.name().as_bytes(), &digest_of(&message)]);
            Product::Valid(signature == expected)
        }
        Work::Mac { message } => Product::Bytes(mac_of(algorithm, seed, message)),
        Work::VerifyMac { message, mac } => Product::Valid(mac == mac_of(algorithm, seed, message)),
        Work::Agree { peer } => Product::Secret(agree(seed, peer)?),
        Work::Encapsulate => Product::Encapsulated {
            ciphertext: nonce.to_vec(),
            secret: Secret::from(&sha256(&[b"kem", seed, nonce])[..]),
        },
        Work::Decapsulate { ciphertext } => {
            Product::Secret(Secret::from(&sha256(&[b"kem", seed, ciphertext])[..]))
        }
    })
}

impl KeyStore for Keys {
    async fn enroll(&self, permit: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.begin(permit.operation())?;
        Ok(SealedHandle::new(&sha256(&[b"tenant", tenant.as_str().as_bytes(), &self.unique()])))
    }

    fn default_algorithm(&self) -> Algorithm {
        Algorithm::Xaes256Gcm
    }

    fn custody(&self, _: Algorithm) -> Custody {
        Custody::Software
    }

    fn copies(&self, _: Custody) -> usize {
        1 + lock(&self.inner).copies
    }

    fn custody_of(&self, _: &SealedHandle) -> Custody {
        match lock(&self.inner).members.is_empty() {
            true => Custody::Software,
            false => Custody::Token,
        }
    }

    fn invocations(&self, _: &SealedHandle) -> u64 {
        1 + lock(&self.inner).repeats
    }

    async fn generate(&self, permit: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        self.begin(permit.operation())?;
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before } = version;
        if matches!(before, Some(Custody::Token | Custody::VendorAttested)) {
            let detail = "it is kept in a device, which this is none of";
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail));
        }
        let seed = self.unique();
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, &seed);
        self.generating.pass().await;
        Ok(Generated {
            handle: SealedHandle::new(&[&seed[..], &bound].concat()),
            public: algorithm.is_asymmetric().then(|| public_half(algorithm, &seed)),
            commitment: Commitment(sha256(&[b"commitment", &seed])),
            custody: Custody::Software,
            evidence: Evidence::Software,
        })
    }

    async fn generate_with_copy(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
    ) -> Result<Generated, Error> {
        lock(&self.inner).emergency.check()?;
        let generated = self.generate(permit, version).await?;
        let origin = TokenOrigin::Copied { custodians: vec!["erin".into(), "frank".into()], threshold: 2 };
        Ok(Generated { evidence: Evidence::Token(in_a_token(origin)), ..generated })
    }

    fn request_copy(
        &self,
        _: &Permit<Change>,
        versions: &[KeyMaterial<'_>],
        asked: &RequestCopy,
        now: Timestamp,
    ) -> Result<CopyState, Error> {
        lock(&self.inner).emergency.request(versions, asked, now)
    }

    fn approve_copy(
        &self,
        _: &Permit<Change>,
        key: KeyId,
        shares: &[u8],
        now: Timestamp,
    ) -> Result<Approved, Error> {
        lock(&self.inner).emergency.approve(key, shares, now)
    }

    fn enforce_copy(&self, _: &Permit<Change>, key: KeyId, opened: OpenedCopy) {
        lock(&self.inner).emergency.enforce(key, opened);
    }

    fn end_copy(&self, _: &Permit<Change>, key: KeyId) -> Result<(), Error> {
        lock(&self.inner).emergency.end(key)
    }

    fn copy_state(&self, key: KeyId, _: Timestamp) -> CopyState {
        lock(&self.inner).emergency.state(key)
    }

    async fn perform_by_copy(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
        now: Timestamp,
    ) -> Option<Result<Product, Error>> {
        if !lock(&self.inner).emergency.is_in_force(key.key, key.version, now) {
            return None;
        }
        if let Err(error) = self.begin(permit.operation()) {
            return Some(Err(error));
        }
        let product = seed_of(&key).and_then(|seed| work_on(seed, key.algorithm, &self.unique(), work));
        self.performing.pass().await;
        Some(product)
    }

    fn expire_copies(&self, now: Timestamp) {
        lock(&self.inner).emergency.expire(now);
    }

    fn forget_copies(&self, tenant: &TenantId) {
        lock(&self.inner).emergency.forget_all(tenant);
    }

    async fn perform(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> Result<Product, Error> {
        let spoilt = self.begin(permit.operation())?;
        if lock(&self.inner).unreachable {
            return Err(Error::new(
                ErrorKind::KeyStoreUnavailable,
                Stage::Perform,
                "no member can be reached",
            ));
        }
        if !self.erased_on(key.key, key.version).is_empty() {
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, "the key was erased"));
        }
        if !family_of(&work).contains(&key.algorithm.family()) {
            return Err(Error::new(ErrorKind::Unsupported, Stage::Perform, "not this key's work"));
        }
        let product = seed_of(&key).and_then(|seed| work_on(seed, key.algorithm, &self.unique(), work));
        self.performing.pass().await;
        Ok(match (spoilt, product?) {
            (Spoilt::Another, Product::Valid(_)) => Product::Bytes(vec![1]),
            (Spoilt::Another, _) => Product::Valid(true),
            (Spoilt::Flipped, Product::Bytes(mut bytes)) => {
                flip(&mut bytes);
                Product::Bytes(bytes)
            }
            (Spoilt::Flipped, Product::Secret(mut secret)) => {
                flip(secret.expose_mut());
                Product::Secret(secret)
            }
            (_, product) => product,
        })
    }

    async fn random(&self, permit: &Permit<Use>, length: usize) -> Result<Product, Error> {
        let spoilt = self.begin(permit.operation())?;
        self.performing.pass().await;
        if spoilt == Spoilt::Another {
            return Ok(Product::Valid(true));
        }
        Ok(Product::Secret(Secret::new(keystream(b"random", &self.unique(), &vec![0; length]))))
    }

    /// The import key is a seed with its expiry; what is wrapped for it is sealed under that seed ([`Keys::wrap_outside`]).
    async fn begin_import(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        self.begin(permit.operation())?;
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before: _ } = version;
        let seed = self.unique();
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, &seed);
        let handle = [&seed[..], &bound, &expires.micros().to_be_bytes()].concat();
        Ok(Generated {
            handle: SealedHandle::new(&handle),
            public: Some(Arc::from(seed)),
            commitment: Commitment(sha256(&[b"commitment", &seed])),
            custody: Custody::Software,
            evidence: Evidence::Software,
        })
    }

    async fn finish_import(
        &self,
        permit: &Permit<Change>,
        waiting: KeyMaterial<'_>,
        version: NewVersion<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Generated, Error> {
        self.begin(permit.operation())?;
        let bytes = waiting.handle.as_bytes();
        let (bound, expires) = bytes.split_last_chunk::<8>().ok_or_else(|| integrity("no import key"))?;
        let handle = SealedHandle::new(bound);
        let seed = seed_of(&KeyMaterial { handle: &handle, ..waiting })?;
        if wrapped.now.micros() >= u64::from_be_bytes(*expires) {
            return Err(Error::new(ErrorKind::KeyState, Stage::Perform, "the import key has expired"));
        }
        let material = open(wrapped.bytes, seed, b"import")?;
        let seed = sha256(&[material.expose()]);
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before: _ } = version;
        let public = algorithm.is_asymmetric().then(|| public_half(algorithm, &seed));
        let checked = match &public {
            Some(public) => sha256(&[public]).to_vec(),
            None => sha256(&[material.expose()])[..8].to_vec(),
        };
        if checked != wrapped.check_value {
            return Err(integrity("the check value is another one"));
        }
        self.generating.pass().await;
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, &seed);
        Ok(Generated {
            handle: SealedHandle::new(&[&seed[..], &bound].concat()),
            public,
            commitment: Commitment(sha256(&[b"commitment", &seed])),
            custody: Custody::Software,
            evidence: Evidence::Imported,
        })
    }

    async fn find_object(
        &self,
        permit: &Permit<Change>,
        _: &TenantId,
        _: Algorithm,
        sought: Sought<'_>,
    ) -> Result<ObjectDigest, Error> {
        self.begin(permit.operation())?;
        let label = sought.label.unwrap_or_default();
        match lock(&self.inner).foreign.iter().filter(|foreign| &***foreign == label).count() {
            0 => Err(Error::new(ErrorKind::NotFound, Stage::Perform, "no such object")),
            1 => Ok(ObjectDigest(sha256(&[b"object", label.as_bytes()]))),
            _ => Err(Error::new(ErrorKind::Conflict, Stage::Perform, "several objects")),
        }
    }

    async fn adopt(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        sought: Sought<'_>,
        ObjectDigest(seed): ObjectDigest,
    ) -> Result<Generated, Error> {
        self.begin(permit.operation())?;
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before: _ } = version;
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, &seed);
        let origin = TokenOrigin::Adopted { id: "01".into(), label: sought.label.unwrap_or_default().into() };
        Ok(Generated {
            handle: SealedHandle::new(&[&seed[..], &bound].concat()),
            public: algorithm.is_asymmetric().then(|| public_half(algorithm, &seed)),
            commitment: Commitment(sha256(&[b"commitment", &seed])),
            custody: Custody::Software,
            evidence: Evidence::Token(in_a_token(origin)),
        })
    }

    fn forget(&self, key: KeyId) {
        let mut inner = lock(&self.inner);
        inner.forgotten.push(key);
        inner.emergency.forget(key);
    }

    fn forget_version(&self, key: KeyId, version: KeyVersion) {
        let mut inner = lock(&self.inner);
        inner.forgotten.push(key);
        inner.emergency.forget_version(key, version);
    }

    fn new_archive(&self, permit: &Permit<Change>, key: NewVersion<'_>) -> Result<SealedHandle, Error> {
        self.begin(permit.operation())?;
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before: _ } = key;
        let seed = self.unique();
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, &seed);
        Ok(SealedHandle::new(&[&seed[..], &bound].concat()))
    }

    /// The seed under the opener's, and what binds it to its version.
    fn archive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.begin(permit.operation())?;
        let (under, seed) = (seed_of(&opener)?, seed_of(&version)?);
        Ok([&keystream(under, b"archive", seed)[..], &of_archive(under, &version, seed)].concat())
    }

    fn unarchive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
        sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        self.begin(permit.operation())?;
        let under = seed_of(&opener)?;
        let strange = || integrity("that is not the version's archive");
        let (masked, bound) = sealed.split_at_checked(32).ok_or_else(strange)?;
        let seed = keystream(under, b"archive", masked);
        if bound != of_archive(under, &version, &seed) {
            return Err(strange());
        }
        let KeyMaterial {
            tenant,
            tenant_handle,
            key,
            version,
            algorithm,
            exportable,
            commitment: _,
            handle: _,
        } = version;
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, &seed);
        Ok(SealedHandle::new(&[&seed[..], &bound].concat()))
    }

    fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId> {
        // Seed, binding, name; an import key has its expiry behind them.
        let name = handle.as_bytes().get(64..72)?;
        Some(SealingKeyId::from_bytes(name.try_into().ok()?))
    }

    fn change_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<ChangedSealing, Error> {
        self.begin(permit.operation())?;
        assert_eq!(handle.as_bytes().len(), SEALING_KEY, "it has one sealing key only");
        let newest = sha256(&[b"tenant", tenant.as_str().as_bytes(), &self.unique()]);
        Ok(ChangedSealing {
            handle: SealedHandle::new(&[&newest[..], handle.as_bytes()].concat()),
            leaving: SealingKeyId::from_bytes(name_of(handle.as_bytes())),
            newest: SealingKeyId::from_bytes(name_of(&newest)),
        })
    }

    fn reseal(&self, permit: &Permit<Change>, material: KeyMaterial<'_>) -> Result<SealedHandle, Error> {
        self.begin(permit.operation())?;
        if lock(&self.inner).jammed.contains(material.tenant) {
            let detail = "the key store was told to fail";
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail));
        }
        let bytes = material.handle.as_bytes();
        let (own, expiry) = bytes.split_at_checked(72).ok_or_else(|| integrity("that is no handle"))?;
        let own = SealedHandle::new(own);
        let seed = seed_of(&KeyMaterial { handle: &own, ..material })?;
        let KeyMaterial {
            tenant,
            tenant_handle,
            key,
            version,
            algorithm,
            exportable,
            commitment: _,
            handle: _,
        } = material;
        let bound = binding(tenant, tenant_handle, key, version, algorithm, exportable, seed);
        Ok(SealedHandle::new(&[seed, &bound, expiry].concat()))
    }

    fn retire_sealing_key(
        &self,
        permit: &Permit<Change>,
        _: &TenantId,
        handle: &SealedHandle,
    ) -> Result<SealedHandle, Error> {
        self.begin(permit.operation())?;
        assert_eq!(handle.as_bytes().len(), 2 * SEALING_KEY, "it has two sealing keys");
        Ok(SealedHandle::new(&handle.as_bytes()[..SEALING_KEY]))
    }

    /// Of a key in a pool a handle remains that opens nothing.
    fn remains(&self, permit: &Permit<Change>, key: KeyMaterial<'_>, _: End) -> Result<Remains, Error> {
        self.begin(permit.operation())?;
        let mut inner = lock(&self.inner);
        inner.erased.insert((key.key, key.version));
        match inner.members.is_empty() {
            true => Ok(Remains::nothing()),
            false => Ok(Remains { handle: SealedHandle::new(REMAINS), holders: inner.members.clone() }),
        }
    }

    async fn erase(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Vec<MemberName>, Error> {
        self.begin(permit.operation())?;
        if key.handle.as_bytes() != REMAINS {
            return Err(Error::new(ErrorKind::Internal, Stage::Perform, "this is still a key"));
        }
        let reached = {
            let mut inner = lock(&self.inner);
            let Inner { members, away, erased_on, .. } = &mut *inner;
            let reached: Vec<_> = members.iter().filter(|member| !away.contains(*member)).cloned().collect();
            erased_on.extend(reached.iter().map(|member| (member.clone(), key.key, key.version)));
            reached
        };
        self.erasing.pass().await;
        Ok(reached)
    }

    fn can_ask(&self, member: &MemberName) -> bool {
        let inner = lock(&self.inner);
        inner.members.contains(member) && !inner.away.contains(member)
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    fn members(&self) -> Vec<MemberName> {
        lock(&self.inner).members.clone()
    }

    fn move_member(&self, permit: &Permit<Change>, member: &MemberName, to: Membership) -> Result<(), Error> {
        self.begin(permit.operation())?;
        let mut inner = lock(&self.inner);
        match to {
            Membership::Drained => inner.drained.insert(member.clone()),
            Membership::Joined => {
                inner.ejected.retain(|(ejected, _)| ejected != member);
                inner.drained.remove(member)
            }
        };
        Ok(())
    }

    fn ejected(&self) -> Vec<(MemberName, String)> {
        lock(&self.inner).ejected.clone()
    }

    fn keep_out(&self, member: &MemberName, absence: Absence) {
        let mut inner = lock(&self.inner);
        match absence {
            Absence::Drained => drop(inner.drained.insert(member.clone())),
            Absence::Ejected => inner.ejected.push((member.clone(), "before".to_owned())),
        }
    }

    fn arrivals(&self) -> u64 {
        lock(&self.inner).arrivals
    }

    async fn check_copies(
        &self,
        permit: &Permit<Change>,
        key: KeyMaterial<'_>,
    ) -> Result<Option<Copies>, Error> {
        self.begin(permit.operation())?;
        let brought = lock(&self.inner).missing.remove(&(key.key, key.version));
        Ok(Some(Copies { held: if brought { 1 } else { 2 }, brought: u32::from(brought), lacking: 0 }))
    }
}
