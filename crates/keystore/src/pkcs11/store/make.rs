//! New keys: made in one member, tried there, and seen in as many others as must hold them.

use super::{Role, TAG_LEN, TokenStore, Whom, another_question, wraps};
use crate::pkcs11::commitment;
use crate::pkcs11::member::Member;
use crate::pkcs11::message::{Evidence, Id, NONCE_LEN, Reply, Request};
use crate::pkcs11::oaep;
use crate::pkcs11::public::{self, Public};
use crate::pkcs11::reference::{Paddings, Reference};
use crate::refusal;
use crate::software::agreement;
use crate::software::ffi::RsaPkey;
use crate::software::material;
use crate::software::rsa;
use crate::software::seal::{Binding, Kind};
use holdfast_core::algorithm::{Algorithm, Family, Hash, RsaPadding, SignatureScheme};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{Custody, Generated, NewVersion};
use holdfast_core::port::World;
use holdfast_core::work::Message;
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

/// How long a new key waits for members that cannot work just now.
const MISSING: Duration = Duration::from_secs(3);
/// How often it is looked whether a key has reached a member.
const REPLICATION: Duration = Duration::from_millis(50);

impl<W: World> TokenStore<W> {
    /// Makes a key version in the pool.
    pub(super) async fn make(&self, version: NewVersion<'_>) -> Result<Generated, Error> {
        if version.exportable {
            return Err(refusal::unsupported("a token does not give its keys away")
                .remedy("create the key without `exportable`, or in software custody"));
        }
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        self.pool.await_copies(self.patience.generation.min(MISSING)).await?;
        let mut last = None;
        for member in self.pool.by_load() {
            match self.make_in(member, &version).await {
                Ok((reference, public, commitment)) => {
                    let binding = Binding::of_new(Kind::Reference, &version);
                    let handle = tenant.sealer.seal(&*self.vault.world, &binding, &reference.to_bytes())?;
                    return Ok(Generated { handle, public, commitment, custody: Custody::Token });
                }
                Err(error) if error.kind() == ErrorKind::KeyStoreUnavailable => {
                    last.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| self.pool.nobody()))
    }

    async fn make_in(
        &self,
        member: &Member,
        version: &NewVersion<'_>,
    ) -> Result<(Reference, Option<Arc<[u8]>>, Commitment), Error> {
        let algorithm = version.algorithm;
        let mut id = Id::default();
        self.vault.world.fill(&mut id)?;
        let label = format!("holdfast/{}/{}/{}", version.tenant, version.key, version.version);
        let request = Request::Generate { algorithm, id, label: &label };
        let made = self.pool.ask_of(member, &request, self.patience.generation, |reply| match reply {
            Reply::Made(made) => Ok((made.evidence, public::made(algorithm, made))),
            Reply::Done(_) | Reply::Welcome(_) | Reply::Refused(_) => Err(another_question()),
        });
        let made = match made.await {
            Ok((evidence, public)) => self.finish(member, algorithm, id, evidence, public).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            // It may be there all the same. Nobody knows it, and nobody ever will.
            drop(self.bytes(Whom::Only(member), Request::Destroy { id }).await);
        }
        made
    }

    /// What a new key has to show before it is one.
    async fn finish(
        &self,
        member: &Member,
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
        let whom = Whom::Only(member);
        let shown = self.show(whom, algorithm, id, &spki, &public).await?;
        let commitment = match algorithm.is_asymmetric() {
            true => material::commitment(algorithm, &spki),
            false => material::commitment(algorithm, shown.expose()),
        };
        let mut paddings = Paddings::default();
        match algorithm.family() {
            Family::KeyWrap => self.try_wrapping(whom, id, wraps(algorithm)?).await?,
            Family::Rsa => paddings = self.try_paddings(whom, id, public.rsa_key()?).await?,
            Family::Signature | Family::Aead | Family::Hmac | Family::Agreement | Family::Kem => {}
        }
        self.spread(member, algorithm, id, &spki, &public, &shown).await?;
        let published = algorithm.is_asymmetric().then(|| Arc::from(&*spki));
        Ok((Reference { id, paddings, spki }, published, commitment))
    }

    /// Waits until as many members as must hold the new key show that they do.
    async fn spread(
        &self,
        maker: &Member,
        algorithm: Algorithm,
        id: Id,
        spki: &[u8],
        public: &Public,
        shown: &Secret,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + self.patience.generation;
        let mut holders = vec![maker.name()];
        let mut why = None;
        while holders.len() < self.pool.copies() {
            for other in self.pool.members() {
                if holders.contains(&other.name()) || other.load().is_none() {
                    continue;
                }
                match self.show(Whom::Only(other), algorithm, id, spki, public).await {
                    Ok(same) if same.expose().ct_eq(shown.expose()).into() => holders.push(other.name()),
                    Ok(_) => return Err(refusal::device("two members of the pool hold different keys")),
                    Err(error) => why = Some(error),
                }
            }
            if holders.len() < self.pool.copies() {
                self.pool.can_copy()?;
                if Instant::now() > deadline {
                    break;
                }
                self.pool.sleep(REPLICATION).await;
            }
        }
        match holders.len() < self.pool.copies() {
            true => {
                let detail = "the new key did not reach as many members of the pool as must hold it";
                let remedy = "look at the vendor's replication, or lower `pool.copies`";
                let error = refusal::device(detail).remedy(remedy);
                Err(match why {
                    Some(why) => error.because(why),
                    None => error,
                })
            }
            false => Ok(()),
        }
    }

    /// What shows that a member holds a key: what it makes of a fixed input. A secret key commits by it:
    /// SHA-256("holdfast/key-commitment/v1" ‖ algorithm code ‖ that). Nothing of it can be found in what the key makes for callers, and what is
    /// published is a digest. Of a key that signs the signature is verified, and nothing is left to be shown.
    async fn show(
        &self,
        whom: Whom<'_>,
        algorithm: Algorithm,
        id: Id,
        spki: &[u8],
        public: &Public,
    ) -> Result<Secret, Error> {
        let (request, length) = match Role::of(algorithm) {
            Role::Aead => {
                let (nonce, aad) = (commitment::NONCE, commitment::DOMAIN);
                let request = Request::Seal { id, nonce, aad, plaintext: commitment::TEXT };
                (request, Some(NONCE_LEN + commitment::TEXT.len() + TAG_LEN))
            }
            Role::Wrap { padded } => {
                (Request::Wrap { id, padded, bytes: commitment::TEXT }, Some(commitment::TEXT.len() + 8))
            }
            Role::Mac(hash) => (Request::Mac { id, hash, message: commitment::TEXT }, Some(hash.len())),
            Role::Asymmetric => match SignatureScheme::default_for(algorithm) {
                Some(scheme) => {
                    let message = Message::Whole(commitment::TEXT);
                    let signed = self.sign(whom, algorithm, id, public, scheme, message).await;
                    return signed.map(|_| Secret::new(Vec::new()));
                }
                // With itself.
                None => {
                    let peer = agreement::point(public.group()?, spki).ok_or_else(agreement::no_peer)?;
                    (Request::Agree { id, peer }, None)
                }
            },
            Role::Elsewhere => return Err(refusal::unsupported("no token has this algorithm")),
        };
        let shown = self.bytes(whom, request).await?;
        match length.is_none_or(|length| shown.len() == length) {
            true => Ok(shown),
            false => Err(refusal::device("the token's mechanism is not what its name says")),
        }
    }

    /// Removes a key from every member. Whether it is gone has to be seen: while a member cannot be reached, it is not.
    pub(super) async fn destroy(&self, id: Id) -> Result<(), Error> {
        for member in self.pool.members() {
            self.bytes(Whom::Only(member), Request::Destroy { id }).await.map_err(|error| {
                let detail = format!("member `{}` of the pool cannot say that it has destroyed the key", member.name());
                Error::new(error.kind(), Stage::Perform, detail).because(error).remedy(
                    "an operator must bring it back, or take it out of the configuration for good; then order it again",
                )
            })?;
        }
        Ok(())
    }

    /// Which OAEP paddings the token decrypts, with a label, and whether it does RSA bare: tried, since the list of mechanisms does not say.
    async fn try_paddings(&self, whom: Whom<'_>, id: Id, key: &RsaPkey) -> Result<Paddings, Error> {
        let mut paddings = Paddings::default();
        let (label, sent) = (commitment::DOMAIN, b"to and fro");
        let right = |back: &Secret| match back.expose() == sent {
            true => Ok(()),
            false => Err(refusal::device("the token decrypts to something else")),
        };
        for padding in Paddings::all() {
            let body = rsa::encrypt(key, Vec::new(), padding, label, sent)?;
            if let Ok(back) = self.bytes(whom, Request::RsaDecrypt { id, padding, label, body: &body }).await
            {
                right(&back)?;
                paddings.add(padding);
            }
        }
        let (hash, mgf1) = (Hash::Sha256, Hash::Sha256);
        let padding = RsaPadding::Oaep { hash, mgf1 };
        let body = rsa::encrypt(key, Vec::new(), padding, label, sent)?;
        if let Ok(encoded) = self.rsa_bare(whom, id, key, &body).await {
            let back = oaep::decode(hash, mgf1, label, encoded).ok_or_else(refusal::integrity)?;
            right(&back)?;
            paddings.bare = true;
        }
        Ok(paddings)
    }

    /// Modules give the name of AES key wrap with padding to different things, and some lose the padding's length.
    async fn try_wrapping(&self, whom: Whom<'_>, id: Id, padded: bool) -> Result<(), Error> {
        let length = if padded { 35 } else { commitment::TEXT.len() };
        let bytes = commitment::TEXT.get(..length).unwrap_or_default();
        let body = self.bytes(whom, Request::Wrap { id, padded, bytes }).await?;
        let body = body.expose();
        let back = self.bytes(whom, Request::Unwrap { id, padded, body }).await?;
        // RFC 3394 §2.2.1, RFC 5649 §4.1: whole blocks, and one more.
        match back.expose() == bytes && body.len() == bytes.len().next_multiple_of(8) + 8 {
            true => Ok(()),
            false => {
                Err(refusal::unsupported("the token's AES key wrap is not that of RFC 3394 or RFC 5649")
                    .remedy("choose `aes-256-kw` or `aes-256-gcm`, or software custody"))
            }
        }
    }
}
