//! The gateway's own root key, under a key of each token's own: AES-256-GCM, made inside, never to leave.

use super::member::Member;
use super::message::{Id, NONCE_LEN, Object, Reply, Request};
use super::pool::Pool;
use super::store::another_question;
use crate::refusal;
use crate::root::{ROOT_KEY_LEN, RootKey};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::port::World;
use holdfast_core::{Error, Secret};
use std::time::Duration;

/// The label of that key.
pub const LABEL: &str = "holdfast/root";
/// Length of a sealed root key in bytes: with its tag.
const SEALED_LEN: usize = ROOT_KEY_LEN + 16;
/// How long a token may take to come up.
const READY: Duration = Duration::from_secs(15);
/// How long it may take to make a key.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to open one.
const OPENING: Duration = Duration::from_secs(5);

/// A root key that a token has sealed: of no use without the token, and nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InToken {
    /// What the configuration called the token.
    pub name: String,
    /// The token's serial number, as it says itself.
    pub serial: String,
    /// The CKA_ID of the token's own key.
    pub id: [u8; 16],
    /// The nonce.
    pub nonce: [u8; 12],
    /// Ciphertext and tag.
    pub sealed: Vec<u8>,
}

/// Has each member make a key of its own and seal the root key with it, bound to `aad`; and open it once, to see that it does.
///
/// # Errors
/// `key-store-unavailable`, when one of them does not; keys that were made for it are removed then.
pub async fn seal<W: World>(
    pool: &Pool,
    root: &RootKey,
    aad: &[u8],
    world: &W,
) -> Result<Vec<InToken>, Error> {
    let mut sealed = Vec::new();
    for member in pool.members() {
        match seal_in(pool, member, root, aad, world).await {
            Ok(one) => sealed.push(one),
            Err(error) => {
                forget(pool, &sealed).await;
                return Err(error);
            }
        }
    }
    Ok(sealed)
}

async fn seal_in<W: World>(
    pool: &Pool,
    member: &Member,
    root: &RootKey,
    aad: &[u8],
    world: &W,
) -> Result<InToken, Error> {
    let about = member.ready(READY).await.map_err(|why| {
        refusal::device("a token does not come up")
            .remedy("look at its settings in the configuration, and at the device; each token that is configured must be there")
            .because(format!("`{}`: {why}", member.name()))
    })?;
    let (mut id, mut nonce): (Id, [u8; NONCE_LEN]) = Default::default();
    world.fill(&mut id)?;
    world.fill(&mut nonce)?;
    let generate = Request::Generate { algorithm: Algorithm::Aes256Gcm, id, label: LABEL, travels: false };
    let confined = pool.ask_of(member, &generate, PATIENCE, |reply| match reply {
        Reply::Made(made) => Ok(made.evidence.is_confined()),
        Reply::Done(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
            Err(another_question())
        }
    });
    let confined = confined.await?;
    let mut one =
        InToken { name: member.name().to_owned(), serial: about.serial, id, nonce, sealed: Vec::new() };
    let sealed = async {
        if !confined {
            return Err(refusal::device(
                "the token does not say of its new key that it was made inside and can never leave",
            ));
        }
        let request = Request::Seal { id, nonce, aad, plaintext: root.expose() };
        // The nonce comes first: a token may choose its own.
        let sealed = pool.ask_of(member, &request, PATIENCE, |reply| match reply {
            Reply::Done(bytes) => match bytes.split_first_chunk::<NONCE_LEN>() {
                Some((nonce, sealed)) if sealed.len() == SEALED_LEN => Ok((*nonce, sealed.to_vec())),
                Some(_) | None => Err(another_question()),
            },
            Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                Err(another_question())
            }
        });
        (one.nonce, one.sealed) = sealed.await?;
        let opened = open_in(pool, member, &one, aad).await?;
        if opened.id()? != root.id()? {
            return Err(refusal::device("the token gave another root key back than it was given"));
        }
        Ok(())
    };
    match sealed.await {
        Ok(()) => Ok(one),
        Err(error) => {
            forget(pool, std::slice::from_ref(&one)).await;
            Err(error)
        }
    }
}

/// Has any member that is there open the root key.
///
/// # Errors
/// The first member's own words, where none does.
pub async fn open(pool: &Pool, sealed: &[InToken], aad: &[u8]) -> Result<RootKey, Error> {
    let mut first = None;
    for member in pool.members() {
        // Its own first; in a replicated group any of them may have it.
        let own = sealed.iter().filter(|one| one.name == member.name());
        for one in own.chain(sealed.iter().filter(|one| one.name != member.name())) {
            match open_in(pool, member, one, aad).await {
                Ok(root) => return Ok(root),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
    }
    Err(first.unwrap_or_else(|| pool.nobody()))
}

async fn open_in(pool: &Pool, member: &Member, one: &InToken, aad: &[u8]) -> Result<RootKey, Error> {
    let InToken { id, nonce, sealed, .. } = one;
    let request = Request::Open { id: *id, nonce: *nonce, aad, ciphertext: sealed };
    let opened = pool.ask_of(member, &request, OPENING, |reply| match reply {
        Reply::Done(bytes) => Ok(Secret::from(*bytes)),
        Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
            Err(another_question())
        }
    });
    RootKey::new(opened.await?)
}

/// Removes the tokens' own keys of a root key that was sealed anew, from whoever is there.
pub async fn forget(pool: &Pool, sealed: &[InToken]) {
    for InToken { id, .. } in sealed {
        for member in pool.members() {
            // Whoever does not have it is done. Nothing else goes that happens to have this id: who wrote it down is not known.
            let object = Object { id, label: LABEL, private: false };
            let gone = Request::DestroyExisting { id: *id, object };
            let _gone = pool.ask_of(member, &gone, OPENING, |_| Ok(())).await;
        }
    }
}
