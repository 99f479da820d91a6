//! New keys: made in one member, tried there, and brought to as many others as must hold them.

use super::copies::{Traveller, digest_of};
use super::tokens::{Tokens, Whom, as_long_as};
use super::{TokenStore, another_question, label, wraps};
use crate::pkcs11::commitment;
use crate::pkcs11::member::{About, Member};
use crate::pkcs11::message::{self, Id, Reply, Request};
use crate::pkcs11::oaep;
use crate::pkcs11::pool::Distribution;
use crate::pkcs11::public::{self, Public};
use crate::pkcs11::reference::{Copy, Paddings, Reference};
use crate::pkcs11::worker::officer::Fingerprint;
use crate::refusal;
use crate::sealing::seal::{Binding, Kind};
use crate::software::ffi::RsaPkey;
use crate::software::material;
use crate::software::rsa;
use holdfast_core::algorithm::{Algorithm, Family, Hash, RsaPadding};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{Custody, Evidence, Generated, NewVersion, TokenEvidence, TokenOrigin};
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Secret};
use std::sync::Arc;
use std::time::Duration;

/// How long a new key waits for members that cannot work just now.
const MISSING: Duration = Duration::from_secs(3);

/// A key that was made and has yet to show what it is.
pub(super) struct New {
    pub(super) algorithm: Algorithm,
    pub(super) id: Id,
    pub(super) label: String,
    pub(super) spki: Vec<u8>,
    pub(super) public: Public,
    pub(super) said: message::Evidence,
    pub(super) origin: TokenOrigin,
}

/// A key that has shown what it is.
pub(super) struct Tried {
    pub(super) reference: Reference,
    pub(super) public: Option<Arc<[u8]>>,
    pub(super) commitment: Commitment,
    pub(super) evidence: Evidence,
}

/// What goes into the log.
pub(super) fn shown_by(
    maker: &Member,
    origin: TokenOrigin,
    attributes: Vec<&'static str>,
    copy: Option<&Copy>,
) -> Evidence {
    let about = maker.about();
    let text = |of: fn(&About) -> &String| {
        about.as_ref().map(of).map(|text| text.as_str().into()).unwrap_or_default()
    };
    Evidence::Token(TokenEvidence {
        origin,
        manufacturer: text(|about| &about.manufacturer),
        model: text(|about| &about.model),
        serial: text(|about| &about.serial),
        firmware: text(|about| &about.firmware),
        attributes,
        wrapping_key: copy.map(|copy| Fingerprint::new(copy.kek).to_string().into()),
    })
}

impl<W: World> TokenStore<W> {
    /// Makes a key version in the pool.
    pub(super) async fn make(&self, version: NewVersion<'_>) -> Result<Generated, Error> {
        if version.exportable {
            return Err(refusal::unsupported("a token does not give its keys away")
                .remedy("create the key without `exportable`, or in software custody"));
        }
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let Tried { reference, public, commitment, evidence } = self.try_make(&version).await?;
        let binding = Binding::of_new(Kind::Reference, &version);
        let bytes = reference.to_bytes()?;
        let handle = tenant.sealer.seal(&*self.vault.world, &binding, &bytes)?;
        let custody = Custody::Token;
        Ok(Generated { handle, public, commitment, custody, evidence })
    }

    /// Makes a key in whichever member can.
    pub(super) async fn try_make(&self, version: &NewVersion<'_>) -> Result<Tried, Error> {
        self.tokens.pool.await_copies(self.tokens.patience.generation.min(MISSING)).await?;
        let mut last = None;
        for member in self.tokens.pool.by_load() {
            match self.make_in(member, version).await {
                Ok(tried) => return Ok(tried),
                Err(error) if error.kind() == ErrorKind::KeyStoreUnavailable => {
                    last.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| self.tokens.pool.nobody()))
    }

    async fn make_in(&self, member: &Member, version: &NewVersion<'_>) -> Result<Tried, Error> {
        let algorithm = version.algorithm;
        let mut id = Id::default();
        self.vault.world.fill(&mut id)?;
        let label = label(version.tenant, version.key, version.version);
        let travels = self.tokens.pool.distribution() == Distribution::Wrapped;
        let request = Request::Generate { algorithm, id, label: &label, travels };
        let made =
            self.tokens.pool.ask_of(member, &request, self.tokens.patience.generation, |reply| match reply {
                Reply::Made(made) => Ok((made.evidence, public::made(algorithm, made))),
                Reply::Done(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                    Err(another_question())
                }
            });
        let made = match made.await {
            Ok((evidence, public)) => {
                let is_so = if travels { evidence.travels() } else { evidence.is_confined() };
                match (is_so, public) {
                    (true, Ok((spki, public))) => {
                        let new = New {
                            algorithm,
                            id,
                            label,
                            spki,
                            public,
                            said: evidence,
                            origin: TokenOrigin::Generated,
                        };
                        self.finish(member, new).await
                    }
                    (true, Err(error)) => Err(error),
                    (false, _) if travels => Err(refusal::device(
                        "the token does not say of its new key that it was made inside and leaves under trusted keys only",
                    )),
                    (false, _) => Err(refusal::device(
                        "the token does not say of its new key that it was made inside and can never leave",
                    )),
                }
            }
            Err(error) => Err(error),
        };
        if made.is_err() {
            self.clear_away(id).await;
        }
        made
    }

    /// A key that came to nothing may be there all the same, and copies of it. Nobody knows it, and nobody ever will; but for what was imported, which is found by its
    /// label in the end.
    pub(super) async fn clear_away(&self, id: Id) {
        for member in self.tokens.pool.by_load() {
            drop(self.tokens.bytes(Whom::Only(member), Request::Destroy { id, label: "" }).await);
        }
    }

    /// What a new key has to show before it is one.
    pub(super) async fn finish(&self, maker: &Member, new: New) -> Result<Tried, Error> {
        let whom = Whom::Only(maker);
        let New { algorithm, id, ref label, ref spki, ref public, .. } = new;
        let shown = self.tokens.show(whom, algorithm, id, spki, public).await?;
        let commitment = match algorithm.is_asymmetric() {
            true => material::commitment(algorithm, spki),
            false => material::commitment(algorithm, shown.expose()),
        };
        let mut paddings = Paddings::default();
        match algorithm.family() {
            Family::KeyWrap => self.tokens.try_wrapping(whom, id, wraps(algorithm)?).await?,
            Family::Rsa => (paddings, _) = self.tokens.try_paddings(whom, id, public.rsa_key()?).await?,
            Family::Signature | Family::Aead | Family::Hmac | Family::Agreement | Family::Kem => {}
        }
        let shown = digest_of(&shown);
        let imported = new.origin == TokenOrigin::Imported;
        let copy = match self.tokens.pool.distribution() {
            Distribution::Vendor => {
                self.tokens.await_replication(maker, &new, &shown).await?;
                None
            }
            Distribution::Wrapped => {
                let traveller = Traveller::new(
                    algorithm,
                    (id, label.clone()),
                    self.tokens.wrap_out(maker, &new, shown).await?,
                    spki.clone(),
                    imported,
                );
                self.tokens.spread(maker, &traveller, public).await?;
                Some(traveller.copy)
            }
        };
        let published = algorithm.is_asymmetric().then(|| Arc::from(&**spki));
        let evidence = shown_by(maker, new.origin, new.said.names().collect(), copy.as_ref());
        let reference =
            Reference { id, paddings, copy, adopted: None, emergency: None, imported, spki: new.spki };
        Ok(Tried { reference, public: published, commitment, evidence })
    }
}

/// Of two reasons why nothing was decrypted the one that says more.
fn telling(one: Option<Error>, other: Error) -> Error {
    let says = |error: &Error| (error.kind() != ErrorKind::Unsupported, error.kind() != ErrorKind::Integrity);
    match one {
        Some(one) if says(&one) >= says(&other) => one,
        Some(_) | None => other,
    }
}

impl Tokens {
    /// Which OAEP paddings the token decrypts, with a label, and whether it does RSA bare: tried, since the list of mechanisms does not say. With
    /// them comes what says most of why it does not all of them: that it failed, rather than that it found something wrong, and that rather than
    /// that it has no such thing.
    pub(super) async fn try_paddings(
        self: &Arc<Self>,
        whom: Whom<'_>,
        id: Id,
        key: &RsaPkey,
    ) -> Result<(Paddings, Option<Error>), Error> {
        let (mut paddings, mut why) = (Paddings::default(), None);
        let (label, sent) = (commitment::DOMAIN, b"to and fro");
        let right = |back: &Secret| match back.expose() == sent {
            true => Ok(()),
            false => Err(refusal::device("the token decrypts to something else")),
        };
        for padding in Paddings::all() {
            let body = rsa::encrypt(key, Vec::new(), padding, label, sent)?;
            match self.bytes(whom, Request::RsaDecrypt { id, padding, label, body: &body }).await {
                Ok(back) => {
                    right(&back)?;
                    paddings.add(padding);
                }
                Err(error) => why = Some(telling(why, error)),
            }
        }
        let (hash, mgf1) = (Hash::Sha256, Hash::Sha256);
        let padding = RsaPadding::Oaep { hash, mgf1 };
        let body = rsa::encrypt(key, Vec::new(), padding, label, sent)?;
        // As it comes: whose key it is has to be shown yet, and a wrong one need be no fault of its member.
        match self.bytes(whom, Request::RsaBare { id, body: &body }).await {
            Ok(bare) => {
                let encoded = as_long_as(key, bare.expose())?;
                let back = oaep::decode(hash, mgf1, label, encoded).ok_or_else(refusal::integrity)?;
                right(&back)?;
                paddings.bare = true;
            }
            Err(error) => why = Some(telling(why, error)),
        }
        Ok((paddings, why))
    }

    /// Modules give the name of AES key wrap with padding to different things, and some lose the padding's length.
    pub(super) async fn try_wrapping(
        self: &Arc<Self>,
        whom: Whom<'_>,
        id: Id,
        padded: bool,
    ) -> Result<(), Error> {
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
