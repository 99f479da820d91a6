//! Material from outside, brought into the tokens. The import key is made there and opens the outer layer there; the inner one, and the check of what
//! it holds, are the gateway's, since no token computes a check value of what it hides. So the material passes through the gateway's memory once, and
//! its evidence says so for ever: it is neither `local`, nor was it always sensitive.
//!
//! ```text
//! import key = what a sealed blob of kind 6 holds: expiry (8, big-endian, microseconds) ‖ reference of an RSA-3072 key
//! ```

use super::make::{New, Tried};
use super::tokens::{Tokens, Whom};
use super::{Role, TokenStore, another_question, decoder, label};
use crate::pkcs11::der;
use crate::pkcs11::member::Member;
use crate::pkcs11::message::{Id, Object, Reply, Request};
use crate::pkcs11::oaep;
use crate::pkcs11::pool::Distribution;
use crate::pkcs11::public::Public;
use crate::pkcs11::reference::{Decoder, Reference};
use crate::refusal;
use crate::sealing::seal::{Binding, Kind, SealedBlob};
use crate::software::import;
use crate::software::key_wrap::{KEY_LEN, WrapKey};
use crate::software::material::Fresh;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, TokenOrigin};
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Secret, Timestamp};
use std::sync::Arc;

/// What an import key is.
const IMPORT_KEY: Algorithm = Algorithm::Rsa3072;

/// Material on its way into the tokens.
pub(super) struct Brought {
    /// As it is wrapped for them: the bytes of a secret key, PKCS#8 of a private one.
    pub(super) bytes: Secret,
    pub(super) spki: Vec<u8>,
    pub(super) origin: TokenOrigin,
}

impl<W: World> TokenStore<W> {
    /// As [`holdfast_core::port::KeyStore::begin_import`].
    pub(super) async fn make_import_key(
        &self,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        import::check_algorithm(version.algorithm)?;
        if Role::of(version.algorithm) == Role::Elsewhere {
            return Err(refusal::unsupported("no token has this algorithm")
                .remedy("import it as a key of another one: `aes-256-gcm` takes the same 32 bytes"));
        }
        let tenant = self.vault.tenant(version.tenant, version.tenant_handle)?;
        let key = NewVersion { algorithm: IMPORT_KEY, exportable: false, ..version };
        let Tried { reference, public, commitment, evidence } = self.try_make(&key).await?;
        if let Err(error) = decoder(reference.paddings, import::PADDING) {
            self.clear_away(reference.id).await;
            return Err(refusal::unsupported("the token opens no OAEP with SHA-256, and has no bare RSA")
                .because(error)
                .remedy(
                    "import in software custody, or create the key in the token and encrypt anew under it",
                ));
        }
        let dated = [&expires.micros().to_be_bytes()[..], reference.to_bytes()?.expose()].concat();
        let binding = Binding::of_new(Kind::ImportReference, &version);
        let handle = tenant.sealer.seal(&*self.vault.world, &binding, &Secret::new(dated))?;
        Ok(Generated { handle, public, commitment, custody: Custody::Token, evidence })
    }

    /// An import key's expiry, and where it is.
    fn open_import_key(&self, waiting: &KeyMaterial<'_>) -> Result<(Timestamp, Reference), Error> {
        let tenant = self.vault.tenant(waiting.tenant, waiting.tenant_handle)?;
        let binding = Binding::of(Kind::ImportReference, waiting);
        let dated = tenant.open(&binding, waiting.handle)?;
        let (expires, reference) = dated
            .expose()
            .split_first_chunk::<8>()
            .ok_or_else(|| refusal::sealed("an import key is damaged"))?;
        Ok((Timestamp::from_micros(u64::from_be_bytes(*expires)), Reference::parse(reference)?))
    }

    /// Where an import key is; nothing for other handles.
    pub(super) fn import_key(&self, material: &KeyMaterial<'_>) -> Result<Option<Reference>, Error> {
        match SealedBlob::parse(material.handle.as_bytes()).map(|blob| blob.kind) {
            Some(Kind::ImportReference) => {
                self.open_import_key(material).map(|(_, reference)| Some(reference))
            }
            Some(
                Kind::TenantKey
                | Kind::Material
                | Kind::Reference
                | Kind::Imported
                | Kind::ImportKey
                | Kind::ArchiveKey,
            )
            | None => Ok(None),
        }
    }

    /// As [`holdfast_core::port::KeyStore::finish_import`].
    pub(super) async fn import_version(
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
        let (expires, import_key) = self.open_import_key(&waiting)?;
        import::check_time(expires, wrapped.now)?;
        let (outer, inner) = import::layers(wrapped.bytes)?;
        let outer = self.open_outer(&import_key, outer).await?;
        let opened = import::unwrap(&*self.vault.world, outer, inner)?;
        let bytes = Secret::from(opened.expose());
        let Fresh { material: _, public, commitment: _ } =
            import::checked(version.algorithm, opened, wrapped.check_value)?;
        let spki = public.map(|spki| spki.to_vec()).unwrap_or_default();
        let brought = Brought { bytes, spki, origin: TokenOrigin::Imported };
        let Tried { reference, public, commitment, evidence } = self.bring(&version, brought).await?;
        let binding = Binding::of_new(Kind::Reference, &version);
        let handle = tenant.sealer.seal(&*self.vault.world, &binding, &reference.to_bytes()?)?;
        Ok(Generated { handle, public, commitment, custody: Custody::Token, evidence })
    }

    /// The outer layer, in whichever member can; nothing where it does not open.
    async fn open_outer(&self, import_key: &Reference, body: &[u8]) -> Result<Option<Secret>, Error> {
        let Reference { id, paddings, spki, .. } = import_key;
        let public = Public::load(IMPORT_KEY, spki)?;
        if !public.is_in_range(body) {
            return Ok(None);
        }
        let mut last = None;
        for member in self.tokens.pool.by_load() {
            let (id, whom) = (*id, Whom::Only(member));
            let opened = match decoder(*paddings, import::PADDING)? {
                Decoder::Token => {
                    let padding = import::PADDING;
                    self.tokens.bytes(whom, Request::RsaDecrypt { id, padding, label: &[], body }).await
                }
                Decoder::Gateway { hash, mgf1 } => {
                    let encoded = self.tokens.rsa_bare(whom, id, public.rsa_key()?, body).await;
                    encoded.and_then(|encoded| {
                        oaep::decode(hash, mgf1, &[], encoded).ok_or_else(refusal::integrity)
                    })
                }
            };
            match opened {
                Ok(kek) => return Ok(Some(kek)),
                // Another member may hold it and answer.
                Err(error) if error.kind() == ErrorKind::KeyStoreUnavailable => last = Some(error),
                Err(_) => return Ok(None),
            }
        }
        Err(last.unwrap_or_else(|| self.tokens.pool.nobody()))
    }

    /// Brings material into whichever member has least to do, and from there to the others.
    pub(super) async fn bring(&self, version: &NewVersion<'_>, brought: Brought) -> Result<Tried, Error> {
        self.tokens.pool.await_copies(self.tokens.patience.operation).await?;
        let maker = self.tokens.pool.by_load().first().copied().ok_or_else(|| self.tokens.pool.nobody())?;
        self.bring_in(maker, version, brought).await
    }

    async fn bring_in(
        &self,
        maker: &Member,
        version: &NewVersion<'_>,
        brought: Brought,
    ) -> Result<Tried, Error> {
        let Brought { bytes, spki, origin } = brought;
        let algorithm = version.algorithm;
        // Nobody else's: of two who bring material in for one version at once, neither takes the other's away. The label is all attempts': by that
        // whatever one of them has left is found in the end.
        let mut id = Id::default();
        self.vault.world.fill(&mut id)?;
        let label = label(version.tenant, version.key, version.version);
        let travels = self.tokens.pool.distribution() == Distribution::Wrapped;
        let carrier = Secret::fill_with(KEY_LEN, |out| self.vault.world.fill(out))?;
        let wrapped =
            WrapKey::new(carrier.expose(), algorithm.is_asymmetric())?.wrap(Vec::new(), bytes.expose())?;
        let public = Public::load(algorithm, &spki)?;
        let (modulus, exponent) = match &public {
            Public::Rsa { key, .. } => der::rsa_parts(&spki, key.modulus_len()).unwrap_or_default(),
            Public::None | Public::Signature(_) | Public::Agreement(_) => Default::default(),
        };
        let request = Request::BringIn {
            algorithm,
            id,
            label: &label,
            travels,
            carrier: carrier.expose(),
            wrapped: &wrapped,
            modulus,
            exponent,
        };
        let patience = self.tokens.patience.generation;
        let said = self.tokens.pool.ask_of(maker, &request, patience, |reply| match reply {
            Reply::Made(made) => Ok(made.evidence),
            Reply::Done(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                Err(another_question())
            }
        });
        let tried = match said.await {
            Ok(said) if said.sensitive && (!said.extractable || travels && said.wrap_with_trusted) => {
                let new = New { algorithm, id, label, spki, public, said, origin };
                let imported = new.origin == TokenOrigin::Imported;
                match self.tokens.check_label(maker, imported, algorithm, (&id, &new.label)).await {
                    Ok(()) => self.finish(maker, new).await,
                    Err(error) => Err(error),
                }
            }
            Ok(_) => {
                Err(refusal::device("the token does not say of what it was brought that it stays inside"))
            }
            Err(error) => Err(error),
        };
        if tried.is_err() {
            self.clear_away(id).await;
        }
        tried
    }
}

impl Tokens {
    /// Whoever has the material of an import may bring it in again, so each token must find each time of it by the label. Of what was not imported nothing
    /// is asked.
    pub(super) async fn check_label(
        self: &Arc<Self>,
        member: &Member,
        imported: bool,
        algorithm: Algorithm,
        (id, label): (&Id, &str),
    ) -> Result<(), Error> {
        if !imported {
            return Ok(());
        }
        let object = Object { id, label, private: algorithm.is_asymmetric() };
        let Err(error) = self.look_up(member, object).await else { return Ok(()) };
        Err(match error.kind() == ErrorKind::NotFound {
            true => refusal::unsupported("the token does not keep the label of what it was brought")
                .because(error)
                .remedy("create a key in the token, and encrypt anew under it"),
            false => error,
        })
    }
}
