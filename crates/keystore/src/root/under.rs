//! What is kept beside the root key, sealed under it: the next root key while it is put in force, the seeds of logs that outlive a root key.
//!
//! ```text
//! blob = "HFR" ‖ 0x01 ‖ sealer (8) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//! ```
//!
//! `sealer` names the root key that opens it. AES-256-GCM-SIV (RFC 8452) with a random nonce; its key is derived from the root key for each
//! label (HKDF-SHA-256), and the associated data are the blob's first 12 bytes, the label, a zero byte and the context.

use super::{ROOT_KEY_LEN, RootKey, SealerId};
use crate::refusal;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use holdfast_core::port::World;
use holdfast_core::{Error, Secret};

const MAGIC: [u8; 4] = *b"HFR\x01";
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// Whose blob this is: the name of the root key that it says to open with; `None` for bytes that are no such blob.
pub fn sealer(blob: &[u8]) -> Option<SealerId> {
    let rest = blob.strip_prefix(&MAGIC)?;
    rest.first_chunk::<8>().map(|id| SealerId(*id))
}

/// Seals another key like it under a root key, with what belongs to it, for one label and context.
///
/// # Errors
/// `internal` without entropy; `key-store-unavailable` when the cryptographic library fails.
pub fn seal_key<W: World>(
    root: &RootKey,
    of: (&str, &[u8]),
    (key, beside): (&RootKey, &[u8]),
    world: &W,
) -> Result<Vec<u8>, Error> {
    let mut secret = Secret::new(Vec::with_capacity(ROOT_KEY_LEN + beside.len()));
    secret.expose_mut().extend_from_slice(key.expose());
    secret.expose_mut().extend_from_slice(beside);
    seal(root, of, &secret, world)
}

/// Opens what was sealed so under this root key, for exactly this label and context.
///
/// # Errors
/// `key-store-unavailable`, for anything else.
pub fn open_key(root: &RootKey, of: (&str, &[u8]), blob: &[u8]) -> Result<(RootKey, Vec<u8>), Error> {
    let secret = open(root, of, blob)?;
    let (key, beside) = secret
        .expose()
        .split_at_checked(ROOT_KEY_LEN)
        .ok_or_else(|| refusal::sealed("what is sealed under the root key is damaged"))?;
    Ok((RootKey::new(Secret::from(key))?, beside.to_vec()))
}

fn seal<W: World>(
    root: &RootKey,
    (label, context): (&str, &[u8]),
    secret: &Secret,
    world: &W,
) -> Result<Vec<u8>, Error> {
    let id = root.id()?;
    let mut nonce = [0; NONCE_LEN];
    world.fill(&mut nonce)?;
    let mut buffer = Secret::from(secret.expose());
    let tag = key(root, label, context)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad(id, label, context)),
            buffer.expose_mut(),
        )
        .map_err(refusal::library)?;
    Ok([&MAGIC[..], id.as_bytes(), &nonce, buffer.expose(), tag.as_ref()].concat())
}

fn open(root: &RootKey, (label, context): (&str, &[u8]), blob: &[u8]) -> Result<Secret, Error> {
    let damaged = || refusal::sealed("what is sealed under the root key is damaged");
    let id = sealer(blob).ok_or_else(damaged)?;
    if id != root.id()? {
        return Err(refusal::sealed("it was sealed under another root key"));
    }
    let rest = blob.get(MAGIC.len() + 8..).ok_or_else(damaged)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or_else(damaged)?;
    let key = key(root, label, context)?;
    Secret::fill_with(ciphertext.len(), |out| {
        let aad = Aad::from(aad(id, label, context));
        key.open_separate_gather(Nonce::assume_unique_for_key(*nonce), aad, ciphertext, tag, out)
    })
    .map_err(|_| damaged())
}

fn key(root: &RootKey, label: &str, context: &[u8]) -> Result<LessSafeKey, Error> {
    let key = root.derive(label, context)?;
    UnboundKey::new(&AES_256_GCM_SIV, key.expose()).map(LessSafeKey::new).map_err(refusal::library)
}

fn aad(id: SealerId, label: &str, context: &[u8]) -> Vec<u8> {
    [&MAGIC[..], id.as_bytes(), label.as_bytes(), &[0], context].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::Entropy;

    #[test]
    fn it_opens_under_its_own_root_key_label_and_context_alone_and_no_byte_can_change() {
        let [root, other] = [7, 8].map(|byte| RootKey::new(Secret::new(vec![byte; 32])).unwrap());
        let of = ("a label", &b"a context"[..]);
        let blob = seal(&root, of, &Secret::new(vec![5; 40]), &Entropy).unwrap();
        assert_eq!(sealer(&blob), Some(root.id().unwrap()));
        assert_eq!(open(&root, of, &blob).unwrap().expose(), [5; 40]);
        assert!(open(&other, of, &blob).is_err());
        assert!(open(&root, ("another", of.1), &blob).is_err());
        assert!(open(&root, (of.0, b"another"), &blob).is_err());
        let beside = seal_key(&root, of, (&other, b"beside"), &Entropy).unwrap();
        let (key, text) = open_key(&root, of, &beside).unwrap();
        assert_eq!((key.expose(), &text[..]), (other.expose(), &b"beside"[..]));
        for index in 0..blob.len() {
            let mut flipped = blob.clone();
            flipped[index] ^= 1;
            assert!(open(&root, of, &flipped).is_err(), "{index}");
            assert!(open(&root, of, &blob[..index]).is_err(), "{index}");
        }
    }
}
