//! What is asked of the tokens, and of whom.

use super::Patience;
use super::{Found, Role, TAG_LEN, another_question};
use crate::pkcs11::commitment;
use crate::pkcs11::der;
use crate::pkcs11::member::Member;
use crate::pkcs11::message::{Id, NONCE_LEN, Reply, Request};
use crate::pkcs11::pool::{Answered, Pool};
use crate::pkcs11::public::Public;
use crate::refusal;
use crate::sealing::held::Held;
use crate::software::agreement;
use crate::software::digest;
use crate::software::ffi::RsaPkey;
use holdfast_core::algorithm::{Algorithm, SignatureScheme};
use holdfast_core::work::Message;
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// The tokens of a pool, and how long they are waited for.
pub(super) struct Tokens {
    pub(super) pool: Pool,
    pub(super) patience: Patience,
    /// Keys that are being destroyed, or were, by this process: no copy of one is brought to anybody any more.
    pub(super) doomed: Mutex<HashSet<Id>>,
    /// Keys by which members are being compared, and those of which a device has shown nothing that could be compared: no other comparison of one
    /// is begun, and of the latter none any more by this process.
    pub(super) compared: Mutex<HashSet<Id>>,
}

/// Whom something is asked.
#[derive(Clone, Copy)]
pub(super) enum Whom<'a> {
    /// Whichever member is best.
    Any,
    /// Whichever is best of those that hold the key; who turns out not to is given it.
    Holders(&'a Arc<Held<Found>>),
    /// This one.
    Only(&'a Member),
}

/// A result of RSA's bare operation, as long as the modulus: some modules leave the leading zeros out.
pub(super) fn as_long_as(key: &RsaPkey, bare: &[u8]) -> Result<Secret, Error> {
    let missing = key.modulus_len().checked_sub(bare.len());
    let missing = missing.ok_or_else(|| refusal::device("the token's RSA result is longer than its key"))?;
    let mut encoded = Secret::new(vec![0; key.modulus_len()]);
    encoded.expose_mut().get_mut(missing..).unwrap_or_default().copy_from_slice(bare);
    Ok(encoded)
}

fn bytes_of<T>(reply: &Reply<'_>, read: impl FnOnce(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
    match reply {
        Reply::Done(bytes) => read(bytes),
        Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
            Err(another_question())
        }
    }
}

/// What lies under an adopted key's names is not that key. It says nothing of the input: that is so of all of them.
fn another_object() -> Error {
    let detail = "the tokens hold another object under the names of an adopted key";
    Error::new(ErrorKind::Integrity, Stage::Perform, detail).remedy(
        "ask whoever runs the program that made it to bring the key back: until then nothing is done with it",
    )
}

impl Tokens {
    /// A request whose result is bytes, which `read` checks: what it does not take is a wrong result, and its member is out. But not of an adopted key: a wrong
    /// one is no fault of its member, since another program may have put another object in its place.
    pub(super) async fn done<T>(
        self: &Arc<Self>,
        whom: Whom<'_>,
        request: Request<'_>,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let patience = self.patience.operation;
        let judged = |reply: &Reply<'_>| bytes_of(reply, &read);
        match whom {
            Whom::Any => self.pool.ask(&request, patience, judged).await.result,
            Whom::Holders(held) if held.ready.adopted.is_some() => {
                let made = self.done_by_adopted(held, request).await?;
                read(made.expose()).map_err(|error| another_object().because(error))
            }
            Whom::Holders(held) => {
                let deadline = Instant::now() + patience;
                let Answered { result, lacking, differ } = self.pool.ask(&request, patience, judged).await;
                if differ {
                    self.compare_meanwhile(held);
                }
                let Some(member) = lacking else { return result };
                let comes = self.mend(member, held);
                match result {
                    // Nobody else holds it, or can say so now.
                    Err(_) if comes && self.is_mended(member, held, deadline).await => {
                        let left = deadline.saturating_duration_since(Instant::now());
                        self.pool.ask_of(member, &request, left, judged).await
                    }
                    result => result,
                }
            }
            Whom::Only(member) => self.pool.ask_of(member, &request, patience, judged).await,
        }
    }

    /// What members make with what lies under an adopted key's names, whatever it is. Who was started since is told which object is meant.
    async fn done_by_adopted(
        self: &Arc<Self>,
        held: &Arc<Held<Found>>,
        request: Request<'_>,
    ) -> Result<Secret, Error> {
        let any = |reply: &Reply<'_>| bytes_of(reply, |bytes| Ok(Secret::from(bytes)));
        let deadline = Instant::now() + self.patience.operation;
        // What other programs do with theirs is nothing to a member: nobody is compared.
        let Answered { result, lacking, differ: _ } =
            self.pool.ask(&request, self.patience.operation, any).await;
        let Some(member) = lacking else { return result };
        if result.is_ok() {
            self.remind_meanwhile(member, held);
            return result;
        }
        self.remind(member, held, deadline).await;
        let left = deadline.saturating_duration_since(Instant::now());
        self.pool.ask_of(member, &request, left, any).await
    }

    /// The same where the bytes can be any.
    pub(super) async fn bytes(
        self: &Arc<Self>,
        whom: Whom<'_>,
        request: Request<'_>,
    ) -> Result<Secret, Error> {
        self.done(whom, request, |bytes| Ok(Secret::from(bytes))).await
    }

    /// Signs, and verifies before the signature is anybody's.
    pub(super) async fn sign(
        self: &Arc<Self>,
        whom: Whom<'_>,
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
        let wrong = || refusal::device("the token's signature does not verify");
        self.done(whom, Request::Sign { id, scheme, input }, |made| {
            let signature = match scheme {
                SignatureScheme::Ecdsa(_) => der::ecdsa_signature(made).ok_or_else(wrong)?,
                SignatureScheme::RsaPss(_)
                | SignatureScheme::RsaPkcs1v15(_)
                | SignatureScheme::Ed25519
                | SignatureScheme::MlDsa65 => made.to_vec(),
            };
            match public.verify(algorithm, scheme, message, &signature)? {
                true => Ok(signature),
                false => Err(wrong()),
            }
        })
        .await
    }

    /// RSA's bare operation: what is encoded, as long as the modulus. Its inverse is public, so a wrong result is found out before anything is
    /// decoded. The input must be smaller than the modulus: there is no right result of another.
    pub(super) async fn rsa_bare(
        self: &Arc<Self>,
        whom: Whom<'_>,
        id: Id,
        key: &RsaPkey,
        body: &[u8],
    ) -> Result<Secret, Error> {
        self.done(whom, Request::RsaBare { id, body }, |bare| {
            let encoded = as_long_as(key, bare)?;
            match key.bare(encoded.expose(), true).is_some_and(|back| back == body) {
                true => Ok(encoded),
                false => Err(refusal::device("the token's RSA result is not that of its key")),
            }
        })
        .await
    }

    /// What shows that a member holds a key: what it makes of a fixed input. A secret key commits by it:
    /// SHA-256("holdfast/key-commitment/v1" ‖ algorithm code ‖ that). Nothing of it can be found in what the key makes for callers, and what is
    /// published is a digest. Of a key that signs the signature is verified, and nothing is left to be shown.
    pub(super) async fn show(
        self: &Arc<Self>,
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
}
