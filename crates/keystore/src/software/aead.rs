//! Authenticated encryption: XAES-256-GCM, AES-256-GCM (NIST SP 800-38D), AES-256-GCM-SIV (RFC 8452).
//!
//! A frame's body is nonce ‖ ciphertext ‖ tag. The nonce is random: 24 bytes for XAES-256-GCM, 12 for the others.

use super::xaes::XaesKey;
use crate::refusal;
use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use holdfast_core::port::World;
use holdfast_core::{Error, Secret};
use zeroize::Zeroize;

/// Length of every key of this family in bytes.
pub(crate) const KEY_LEN: usize = 32;
/// Length of AES-GCM's own nonce in bytes.
pub(crate) const GCM_NONCE_LEN: usize = 12;
const XAES_NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// A key, ready to use.
pub(crate) enum AeadKey {
    /// XAES-256-GCM.
    Xaes(Box<XaesKey>),
    /// AES-256-GCM.
    Gcm(LessSafeKey),
    /// AES-256-GCM-SIV.
    GcmSiv(LessSafeKey),
}

/// The key and the nonce that one message takes.
enum ForMessage<'a> {
    Own(&'a LessSafeKey, Nonce),
    Derived(LessSafeKey, Nonce),
}

impl AeadKey {
    pub(crate) fn xaes(material: &[u8]) -> Result<Self, Error> {
        XaesKey::new(material).map(|key| Self::Xaes(Box::new(key))).map_err(refusal::library)
    }

    pub(crate) fn gcm(material: &[u8]) -> Result<Self, Error> {
        plain(&AES_256_GCM, material).map(Self::Gcm)
    }

    pub(crate) fn gcm_siv(material: &[u8]) -> Result<Self, Error> {
        plain(&AES_256_GCM_SIV, material).map(Self::GcmSiv)
    }

    const fn nonce_len(&self) -> usize {
        match self {
            Self::Xaes(_) => XAES_NONCE_LEN,
            Self::Gcm(_) | Self::GcmSiv(_) => GCM_NONCE_LEN,
        }
    }

    /// `None` for a nonce of another length.
    fn for_message(&self, nonce: &[u8]) -> Option<ForMessage<'_>> {
        match self {
            Self::Xaes(key) => {
                let (salt, nonce) = nonce.split_first_chunk::<12>()?;
                let key = key.derive(salt).ok()?;
                Some(ForMessage::Derived(key, Nonce::try_assume_unique_for_key(nonce).ok()?))
            }
            Self::Gcm(key) | Self::GcmSiv(key) => {
                Some(ForMessage::Own(key, Nonce::try_assume_unique_for_key(nonce).ok()?))
            }
        }
    }

    /// Appends nonce ‖ ciphertext ‖ tag to `frame`.
    pub(crate) fn seal<W: World>(
        &self,
        world: &W,
        mut frame: Vec<u8>,
        plaintext: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let start = frame.len();
        let room = self.nonce_len().saturating_add(plaintext.len()).saturating_add(TAG_LEN);
        // All the room first, so that no copy of the plaintext is left behind by a vector that grows.
        frame.reserve_exact(room);
        frame.resize(start.saturating_add(self.nonce_len()), 0);
        world.fill_short(frame.get_mut(start..).unwrap_or_default())?;
        frame.extend_from_slice(plaintext);
        match self.seal_tail(&mut frame, start, aad) {
            Some(()) => Ok(frame),
            None => {
                frame.zeroize();
                Err(refusal::library(aws_lc_rs::error::Unspecified))
            }
        }
    }

    /// Encrypts what follows the nonce at `start`, in place.
    fn seal_tail(&self, frame: &mut Vec<u8>, start: usize, aad: &[u8]) -> Option<()> {
        let (nonce, text) = frame.get_mut(start..)?.split_at_mut_checked(self.nonce_len())?;
        let aad = Aad::from(aad);
        let tag = match self.for_message(nonce)? {
            ForMessage::Own(key, nonce) => key.seal_in_place_separate_tag(nonce, aad, text),
            ForMessage::Derived(key, nonce) => key.seal_in_place_separate_tag(nonce, aad, text),
        };
        frame.extend_from_slice(tag.ok()?.as_ref());
        Some(())
    }

    /// Opens nonce ‖ ciphertext ‖ tag.
    ///
    /// # Errors
    /// `integrity`, whatever is wrong with it.
    pub(crate) fn open(&self, body: &[u8], aad: &[u8]) -> Result<Secret, Error> {
        self.try_open(body, aad).ok_or_else(refusal::integrity)
    }

    fn try_open(&self, body: &[u8], aad: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = body.split_at_checked(self.nonce_len())?;
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let aad = Aad::from(aad);
        let message = self.for_message(nonce)?;
        Secret::fill_with(text.len(), |out| match message {
            ForMessage::Own(key, nonce) => key.open_separate_gather(nonce, aad, text, tag, out),
            ForMessage::Derived(key, nonce) => key.open_separate_gather(nonce, aad, text, tag, out),
        })
        .ok()
    }
}

fn plain(algorithm: &'static Algorithm, material: &[u8]) -> Result<LessSafeKey, Error> {
    UnboundKey::new(algorithm, material).map(LessSafeKey::new).map_err(refusal::library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::{Dry, Entropy};
    use holdfast_core::ErrorKind;

    fn all() -> [AeadKey; 3] {
        let key = [0x42; KEY_LEN];
        [AeadKey::xaes(&key).unwrap(), AeadKey::gcm(&key).unwrap(), AeadKey::gcm_siv(&key).unwrap()]
    }

    #[test]
    fn what_is_sealed_opens_behind_its_header() {
        for key in all() {
            for length in [0, 1, 16, 100, 4096] {
                let plaintext = vec![7; length];
                let frame = key.seal(&Entropy, b"header".to_vec(), &plaintext, b"aad").unwrap();
                assert_eq!(frame.len(), 6 + key.nonce_len() + length + TAG_LEN);
                let body = frame.strip_prefix(b"header").unwrap();
                assert_eq!(key.open(body, b"aad").unwrap().expose(), plaintext);
            }
        }
    }

    #[test]
    fn nothing_changed_opens_and_the_refusal_is_always_the_same() {
        for key in all() {
            let body = key.seal(&Entropy, Vec::new(), b"plaintext", b"aad").unwrap();
            let mut wrong: Vec<(Vec<u8>, &[u8])> = vec![(body.clone(), b"aae"), (body.clone(), b"")];
            wrong.extend((0..body.len()).map(|length| (body[..length].to_vec(), &b"aad"[..])));
            for index in 0..body.len() {
                let mut flipped = body.clone();
                flipped[index] ^= 1;
                wrong.push((flipped, b"aad"));
            }
            for (body, aad) in wrong {
                let error = key.open(&body, aad).unwrap_err();
                assert_eq!(
                    (error.kind(), error.detail()),
                    (ErrorKind::Integrity, "the input does not verify")
                );
                assert_eq!(error.chain(), error.detail());
            }
        }
    }

    #[test]
    fn another_key_and_another_algorithm_refuse() {
        let [xaes, gcm, siv] = all();
        let body = gcm.seal(&Entropy, Vec::new(), b"plaintext", b"").unwrap();
        assert!(siv.open(&body, b"").is_err() && xaes.open(&body, b"").is_err());
        assert!(AeadKey::gcm(&[0x43; KEY_LEN]).unwrap().open(&body, b"").is_err());
    }

    #[test]
    fn without_entropy_nothing_is_sealed() {
        for key in all() {
            assert!(key.seal(&Dry, Vec::new(), b"plaintext", b"").is_err());
        }
    }

    #[test]
    fn the_frame_grows_once() {
        for key in all() {
            let mut header = Vec::with_capacity(58 + 24 + 9 + 16);
            header.extend_from_slice(&[1; 58]);
            let address = header.as_ptr();
            let frame = key.seal(&Entropy, header, b"plaintext", b"").unwrap();
            assert_eq!(frame.as_ptr(), address, "encrypted in place");
        }
    }
}
