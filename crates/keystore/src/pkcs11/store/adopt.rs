//! Keys that other programs have made in the tokens: found by their own names, judged by what the token says of them, and used where they are.

mod fit;
mod half;

use super::make::shown_by;
use super::tokens::{Tokens, Whom};
use super::{Found, TokenStore, another_question, wraps};
use crate::pkcs11::commitment;
use crate::pkcs11::member::Member;
use crate::pkcs11::message::{Evidence, Existing, Id, Made, Object, Reply, Request, Uses};
use crate::pkcs11::pool::hex;
use crate::pkcs11::public::{self, Public};
use crate::pkcs11::reference::{Paddings, Reference};
use crate::refusal;
use crate::sealing::held::Held;
use crate::sealing::seal::{Binding, Kind};
use crate::software::material;
use aws_lc_rs::digest;
use holdfast_core::adoption::{ObjectDigest, Sought};
use holdfast_core::algorithm::{Algorithm, Family, Purpose, SignatureScheme};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{Custody, Generated, NewVersion, TokenOrigin};
use holdfast_core::port::World;
use holdfast_core::work::Message;
use holdfast_core::{Error, ErrorKind, Secret, Stage, TenantId};
use std::sync::Arc;
use tokio::time::Instant;

/// What the objects of our own making are called.
const OURS: &str = "holdfast/";

/// What the tokens call an object that another program made.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pkcs11) struct Adopted {
    /// Its CKA_ID.
    pub(in crate::pkcs11) id: Box<[u8]>,
    /// Its CKA_LABEL.
    pub(in crate::pkcs11) label: Box<str>,
    /// Whether it is a private key, or a secret one.
    pub(in crate::pkcs11) private: bool,
}

impl Adopted {
    pub(super) fn named(&self) -> Object<'_> {
        let Self { id, label, private } = self;
        Object { id, label, private: *private }
    }

    /// Class, CKA_ID and CKA_LABEL: SHA-256("holdfast/existing-object/v1" ‖ class (1) ‖ length (4) ‖ id ‖ label).
    fn digest(&self) -> ObjectDigest {
        let Self { id, label, private } = self;
        let length = u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes();
        let text = [b"holdfast/existing-object/v1", &[u8::from(*private)][..], &length, id, label.as_bytes()]
            .concat();
        let mut of = [0; 32];
        for (to, from) in of.iter_mut().zip(digest::digest(&digest::SHA256, &text).as_ref()) {
            *to = *from;
        }
        ObjectDigest(of)
    }
}

/// By what id workers mean it: a beginning of its digest, which no CKA_ID of our own making, being random, is.
fn meant_by(ObjectDigest(digest): ObjectDigest) -> Id {
    digest.first_chunk().copied().unwrap_or_default()
}

/// What a member says of an object, owned.
#[derive(PartialEq, Eq)]
pub(super) struct Seen {
    object: Adopted,
    evidence: Evidence,
    uses: Uses,
    key_type: u64,
    length: u32,
    parameters: Box<[u8]>,
    public: Box<[u8]>,
    exponent: Box<[u8]>,
}

impl Seen {
    fn new(existing: &Existing<'_>, private: bool) -> Self {
        let Existing { evidence, uses, key_type, length, parameters, id, label, public, exponent } = existing;
        Self {
            object: Adopted { id: (*id).into(), label: (*label).into(), private },
            evidence: *evidence,
            uses: *uses,
            key_type: *key_type,
            length: *length,
            parameters: (*parameters).into(),
            public: (*public).into(),
            exponent: (*exponent).into(),
        }
    }

    /// Whether it can be adopted as a key of the algorithm for this purpose.
    fn check(&self, algorithm: Algorithm, sought: &Sought<'_>) -> Result<(), Error> {
        let refused = |detail: &'static str| refusal::unsupported(detail);
        let Self { object, uses, .. } = self;
        if object.label.starts_with(OURS) {
            return Err(refused("the object is one that Holdfast made")
                .remedy("it is a version of a key already: `holdfast key list` shows those of your tenant"));
        }
        if object.label.is_empty() && object.id.is_empty() {
            return Err(refused(
                "the object has neither a label in UTF-8 nor an id by which it is found again",
            )
            .remedy("give it a CKA_ID by the program that made it"));
        }
        if uses.has(Uses::TRUSTED) {
            return Err(refused(
                "the object is trusted to wrap other keys (CKA_TRUSTED), and is no key for anything else",
            )
            .remedy("adopt another one"));
        }
        self.fits(algorithm, sought.purpose)?;
        self.check_custody(sought)
    }

    fn check_custody(&self, sought: &Sought<'_>) -> Result<(), Error> {
        let Evidence { sensitive, extractable, .. } = self.evidence;
        if (sensitive && !extractable) || sought.accept_extractable {
            return Ok(());
        }
        let detail = match sensitive {
            true => "the token says of the object that it can leave under a wrapping key (CKA_EXTRACTABLE)",
            false => "the token says of the object that it can be read in clear (CKA_SENSITIVE is false)",
        };
        Err(refusal::unsupported(detail).remedy(
            "let the program that made it take that away; or adopt it all the same by `--accept-extractable`, which stands in its evidence",
        ))
    }

    fn public(&self, algorithm: Algorithm) -> Result<(Vec<u8>, Public), Error> {
        let Self { evidence, public, exponent, .. } = self;
        if algorithm.is_asymmetric() && public.is_empty() {
            return Err(refusal::unsupported("the token does not have the object's public half")
                .remedy("bring it there under the same CKA_ID: `pkcs11-tool --write-object FILE --type pubkey --id HEX`"));
        }
        let made = Made { evidence: *evidence, public, exponent };
        public::made(algorithm, &made).map_err(|_| {
            let detail = format!("the object's public half is none of a key of `{algorithm}`");
            Error::new(ErrorKind::Unsupported, Stage::Perform, detail).remedy(
                "name the algorithm that the key is of: `pkcs11-tool --list-objects` shows its size or curve",
            )
        })
    }

    /// What stands in the log of it.
    fn attributes(&self) -> Vec<&'static str> {
        self.evidence.names().chain(self.uses.names()).collect()
    }
}

impl<W: World> TokenStore<W> {
    /// As [`holdfast_core::port::KeyStore::find_object`].
    pub(super) async fn seek(
        &self,
        tenant: &TenantId,
        algorithm: Algorithm,
        sought: Sought<'_>,
    ) -> Result<ObjectDigest, Error> {
        if !self.adopters.contains(tenant) {
            let detail =
                format!("tenant `{tenant}` may not adopt what other programs have made in the tokens");
            return Err(Error::new(ErrorKind::Unsupported, Stage::Perform, detail).remedy(format!(
                "whoever may can take any object there: an operator names `{tenant}` in `pool.adopters`, and starts again"
            )));
        }
        let member = self.tokens.pool.by_load().first().copied().ok_or_else(|| self.tokens.pool.nobody())?;
        let (id, label) = (sought.id.unwrap_or_default(), sought.label.unwrap_or_default());
        let object = Object { id, label, private: algorithm.is_asymmetric() };
        let seen = self.tokens.look_up(member, object).await?;
        seen.check(algorithm, &sought)?;
        seen.public(algorithm)?;
        Ok(seen.object.digest())
    }

    /// As [`holdfast_core::port::KeyStore::adopt`]: every member must hold the object, and show that it is the same.
    pub(super) async fn take_over(
        &self,
        version: NewVersion<'_>,
        sought: Sought<'_>,
        object: ObjectDigest,
    ) -> Result<Generated, Error> {
        if version.exportable {
            return Err(refusal::unsupported("a token does not give its keys away"));
        }
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let (algorithm, id) = (version.algorithm, meant_by(object));
        let (id_sought, label) = (sought.id.unwrap_or_default(), sought.label.unwrap_or_default());
        let named = Object { id: id_sought, label, private: algorithm.is_asymmetric() };
        let members = self.tokens.pool.members();
        if let Some(missing) = members.iter().find(|member| member.load().is_none()) {
            let detail =
                format!("member `{}` of the pool cannot say whether it holds the object", missing.name());
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail)
                .remedy("an operator must bring it back: what is adopted does not travel, so every member must hold it"));
        }
        let mut first: Option<(&Member, Seen, Shown)> = None;
        for member in members {
            let seen =
                self.tokens.look_up(member, named).await.map_err(|error| lacks(member, members, error))?;
            seen.check(algorithm, &sought)?;
            if seen.object.digest() != object {
                let detail = "another object has that name by now";
                return Err(Error::new(ErrorKind::Conflict, Stage::Perform, detail)
                    .remedy("look what other programs do with the token, and send it again"));
            }
            self.tokens.point_out(member, id, seen.object.named()).await?;
            let shown = self.tokens.show_existing(member, algorithm, sought.purpose, id, &seen).await?;
            match &first {
                None => first = Some((member, seen, shown)),
                Some((_, same, as_shown)) if *same == seen && as_shown.digest() == shown.digest() => {}
                Some((other, ..)) => return Err(differ(other, member)),
            }
        }
        let (member, seen, shown) = first.ok_or_else(|| self.tokens.pool.nobody())?;
        let Shown { proof, spki, paddings } = shown;
        let of: &[u8] = if algorithm.is_asymmetric() { &spki } else { proof.expose() };
        let commitment = material::commitment(algorithm, of);
        let public = algorithm.is_asymmetric().then(|| Arc::from(spki.as_slice()));
        let origin =
            TokenOrigin::Adopted { id: hex(&seen.object.id).into(), label: seen.object.label.clone() };
        let evidence = shown_by(member, origin, seen.attributes(), None);
        let reference = Reference {
            id,
            paddings,
            copy: None,
            adopted: Some(seen.object),
            emergency: None,
            imported: false,
            spki,
        };
        let binding = Binding::of_new(Kind::Reference, &version);
        let handle = tenant.sealer.seal(&*self.vault.world, &binding, &reference.to_bytes()?)?;
        Ok(Generated { handle, public, commitment, custody: Custody::Token, evidence })
    }
}

/// What an object has shown that it is.
struct Shown {
    /// As [`Tokens::show`].
    proof: Secret,
    spki: Vec<u8>,
    paddings: Paddings,
}

impl Shown {
    fn digest(&self) -> [u8; 32] {
        super::copies::digest_of(&self.proof)
    }
}

fn lacks(member: &Member, members: &[Member], error: Error) -> Error {
    match (members, error.kind()) {
        ([_, _, ..], ErrorKind::NotFound) => {
            let detail = format!("member `{}` of the pool does not hold the object", member.name());
            Error::new(ErrorKind::Unsupported, Stage::Perform, detail).because(error).remedy(
                "what is adopted does not travel: bring it to every member by its vendor's means, under the same names",
            )
        }
        (_, _) => error,
    }
}

fn differ(one: &Member, other: &Member) -> Error {
    let detail = format!(
        "members `{}` and `{}` of the pool hold different objects of that name",
        one.name(),
        other.name()
    );
    Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
        .remedy("every member must hold the same key with the same attributes: compare them by `pkcs11-tool --list-objects`")
}

impl Tokens {
    pub(super) async fn look_up(
        self: &Arc<Self>,
        member: &Member,
        object: Object<'_>,
    ) -> Result<Seen, Error> {
        let (request, private) = (Request::LookUp { object }, object.private);
        self.pool
            .ask_of(member, &request, self.patience.generation, |reply| match reply {
                // What is not said of a name was not asked for.
                Reply::Existing(existing)
                    if (object.id.is_empty() || existing.id == object.id)
                        && (object.label.is_empty() || existing.label == object.label) =>
                {
                    Ok(Seen::new(existing, private))
                }
                Reply::Existing(_) => {
                    Err(refusal::device("the token speaks of another object than was named"))
                }
                Reply::Done(_) | Reply::Made(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                    Err(another_question())
                }
            })
            .await
    }

    /// Removes an adopted key from a member, if what lies there under its names still shows that it is that key. Where nothing does, the member
    /// holds nothing of it.
    ///
    /// # Errors
    /// When it is another one by now, cannot show which it is, or may not be removed: then nothing was.
    pub(super) async fn erase_adopted(
        self: &Arc<Self>,
        member: &Member,
        (id, object): (Id, &Adopted),
        (algorithm, commitment): (Algorithm, &Commitment),
    ) -> Result<(), Error> {
        let seen = match self.look_up(member, object.named()).await {
            // A module finds nothing either where its device has gone: that has to answer.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.point_out(member, id, object.named()).await?;
                return self.tell(member, Request::Probe).await;
            }
            seen => seen?,
        };
        if seen.evidence.undestroyable {
            return Err(refusal::unsupported(
                "the token does not let the object be destroyed (CKA_DESTROYABLE is false)",
            )
            .remedy("remove it by its vendor's means: it is looked for again"));
        }
        let shown = match algorithm.is_asymmetric() {
            true => {
                let (spki, public) = seen.public(algorithm)?;
                let shown = material::commitment(algorithm, &spki);
                // The public half can be anybody's: it is the private one that is destroyed.
                self.point_out(member, id, object.named()).await?;
                let is_whole = shown == *commitment
                    && self.is_other_half(member, (algorithm, id), &seen, (&spki, &public)).await?;
                is_whole.then_some(shown)
            }
            false => {
                self.point_out(member, id, object.named()).await?;
                let proof = self.show(Whom::Only(member), algorithm, id, &[], &Public::None).await?;
                Some(material::commitment(algorithm, proof.expose()))
            }
        };
        if shown.as_ref() != Some(commitment) {
            // It may come and go: that is nothing to its member.
            self.point_out(member, id, object.named()).await?;
            let detail = "another object has the names of a key that was adopted and destroyed: it is left where it is";
            return Err(Error::new(ErrorKind::Conflict, Stage::Perform, detail).remedy(
                "give it other names, and look whether the key is somewhere else: until nothing has its names, it counts as not erased",
            ));
        }
        self.tell(member, Request::DestroyExisting { id, object: object.named() }).await
    }

    async fn point_out(self: &Arc<Self>, member: &Member, id: Id, object: Object<'_>) -> Result<(), Error> {
        self.bytes(Whom::Only(member), Request::PointOut { id, object }).await.map(drop)
    }

    /// A worker that was started since does not know yet which object is meant; or the member does not hold it any more, which the next answer says.
    pub(super) async fn remind(&self, member: &Member, held: &Held<Found>, until: Instant) {
        let Found { id, adopted: Some(object), .. } = &held.ready else { return };
        let request = Request::PointOut { id: *id, object: object.named() };
        let left = until.saturating_duration_since(Instant::now());
        let reminded = self.pool.ask_of(member, &request, left, |reply| match reply {
            Reply::Done(_) => Ok(()),
            Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                Err(another_question())
            }
        });
        if let Err(error) = reminded.await {
            tracing::warn!(
                member = member.name(),
                error = error.chain(),
                "a member of the pool was not told of an adopted key"
            );
        }
    }

    /// The same while the caller has its result from another member.
    pub(super) fn remind_meanwhile(self: &Arc<Self>, member: &Member, held: &Arc<Held<Found>>) {
        let (tokens, held, place) = (Arc::clone(self), Arc::clone(held), self.pool.place(member));
        member.spawn(async move {
            if let Some(member) = tokens.pool.members().get(place) {
                tokens.remind(member, &held, Instant::now() + tokens.patience.operation).await;
            }
        });
    }

    /// What shows which key it is: as for keys of our own making, but for RSA keys that do not sign, which decrypt what was encrypted here.
    async fn show_existing(
        self: &Arc<Self>,
        member: &Member,
        algorithm: Algorithm,
        purpose: Purpose,
        id: Id,
        seen: &Seen,
    ) -> Result<Shown, Error> {
        let (spki, public) = seen.public(algorithm)?;
        let whom = Whom::Only(member);
        let (mut paddings, mut why) = (Paddings::default(), None);
        let proof = match algorithm.family() {
            Family::Rsa => {
                if seen.uses.has(Uses::DECRYPT) {
                    (paddings, why) = self.try_paddings(whom, id, public.rsa_key()?).await?;
                }
                match purpose {
                    Purpose::Sign => self.show_signing(whom, algorithm, id, &public).await?,
                    Purpose::Encrypt
                    | Purpose::Wrap
                    | Purpose::Mac
                    | Purpose::Agree
                    | Purpose::Encapsulate => {
                        if paddings == Paddings::default() {
                            if let Some(failed) = why.filter(half::is_failure) {
                                return Err(failed);
                            }
                            return Err(refusal::unsupported("the token decrypts nothing with the object that could be tried")
                                .remedy("look at its CKA_ALLOWED_MECHANISMS; or adopt it for signing by `--purpose sign`"));
                        }
                        Secret::new(Vec::new())
                    }
                }
            }
            Family::KeyWrap => {
                self.try_wrapping(whom, id, wraps(algorithm)?).await?;
                self.show(whom, algorithm, id, &spki, &public).await?
            }
            Family::Signature | Family::Aead | Family::Hmac | Family::Agreement | Family::Kem => {
                self.show(whom, algorithm, id, &spki, &public).await?
            }
        };
        Ok(Shown { proof, spki, paddings })
    }

    /// By PSS; by PKCS #1 v1.5 where the key is limited to that.
    async fn show_signing(
        self: &Arc<Self>,
        whom: Whom<'_>,
        algorithm: Algorithm,
        id: Id,
        public: &Public,
    ) -> Result<Secret, Error> {
        let message = || Message::Whole(commitment::TEXT);
        let scheme = SignatureScheme::default_for(algorithm)
            .ok_or_else(|| refusal::unsupported("the key does not sign"))?;
        let signed = match self.sign(whom, algorithm, id, public, scheme, message()).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let older = SignatureScheme::RsaPkcs1v15(holdfast_core::algorithm::Hash::Sha256);
                self.sign(whom, algorithm, id, public, older, message()).await
            }
            signed => signed,
        };
        signed.map(|_| Secret::new(Vec::new()))
    }
}
