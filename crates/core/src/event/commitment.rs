//! Commitments: an event proves what went in and came out without saying it.
//!
//! Whatever can be guessed stands as HMAC-SHA-256 under the entry's own random opening key, which is kept apart from the log and can be
//! erased; ciphertexts and signatures, which cannot, stand as SHA-256, so that whoever holds one finds its record.
//!
//! ```text
//! HMAC-SHA-256(opening, label ‖ 0x00 ‖ value)      label: "input", "output" or "context"
//! SHA-256(value)
//! ```

use super::json::Object;
use crate::binding;
use crate::context::Context;
use aws_lc_rs::{constant_time, digest, hmac};

/// A commitment as it stands in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Over a value that cannot be guessed.
    Sha256 {
        /// SHA-256 of the value.
        digest: [u8; 32],
        /// Length of the value.
        bytes: u64,
    },
    /// Over a value that could be guessed.
    Hmac {
        /// HMAC-SHA-256 under the entry's opening key.
        tag: [u8; 32],
        /// Length of the value.
        bytes: u64,
    },
}

impl Committed {
    pub(super) fn encode(&self, object: &mut Object<'_>) {
        let bytes = match self {
            Self::Sha256 { digest, bytes } => {
                object.hex("sha256", digest);
                bytes
            }
            Self::Hmac { tag, bytes } => {
                object.hex("hmac_sha256", tag);
                bytes
            }
        };
        object.number("bytes", *bytes);
    }
}

/// Makes one entry's commitments under its opening key.
pub struct Committer {
    key: hmac::Key,
}

impl Committer {
    /// For an entry with this opening key.
    pub fn new(opening: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, opening) }
    }

    /// To a value that could be guessed: a plaintext, a message, a short output.
    pub fn guessable(&self, label: &str, value: &[u8]) -> Committed {
        Committed::Hmac { tag: tag(&self.key, label, value), bytes: length(value) }
    }

    /// To a ciphertext or a signature; short ones could be guessed after all.
    pub fn public(&self, label: &str, value: &[u8]) -> Committed {
        if value.len() < 32 {
            return self.guessable(label, value);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, value).as_ref());
        Committed::Sha256 { digest: sha256, bytes: length(value) }
    }

    /// To a context, in the binding's encoding of its pairs.
    pub fn context(&self, context: &Context) -> Committed {
        let mut pairs = Vec::new();
        binding::encode_pairs(&mut pairs, context);
        self.guessable("context", &pairs)
    }
}

/// Whether a disclosed opening key and value fit a commitment: what an auditor runs.
pub fn verify_opened(committed: &Committed, opening: &[u8; 32], label: &str, value: &[u8]) -> bool {
    match committed {
        Committed::Sha256 { digest: expected, bytes } => {
            *bytes == length(value) && digest::digest(&digest::SHA256, value).as_ref() == expected
        }
        Committed::Hmac { tag: expected, bytes } => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, opening);
            *bytes == length(value)
                && constant_time::verify_slices_are_equal(&tag(&key, label, value), expected).is_ok()
        }
    }
}

fn tag(key: &hmac::Key, label: &str, value: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(label.as_bytes());
    context.update(&[0]);
    context.update(value);
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

fn length(value: &[u8]) -> u64 {
    u64::try_from(value.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_opens_with_its_own_key_label_and_value_only() {
        let committer = Committer::new(&[7; 32]);
        let committed = committer.guessable("input", b"4711");
        assert!(verify_opened(&committed, &[7; 32], "input", b"4711"));
        assert!(!verify_opened(&committed, &[8; 32], "input", b"4711"));
        assert!(!verify_opened(&committed, &[7; 32], "output", b"4711"));
        assert!(!verify_opened(&committed, &[7; 32], "input", b"4712"));
        let Committed::Hmac { tag, bytes } = committed else { panic!("of what can be guessed") };
        let longer = Committed::Hmac { tag, bytes: bytes + 1 };
        assert!(!verify_opened(&longer, &[7; 32], "input", b"4711"));
    }

    #[test]
    fn a_hash_fits_its_own_value_and_length_only() {
        let value = [1; 32];
        let committed = Committer::new(&[7; 32]).public("output", &value);
        let Committed::Sha256 { digest, bytes } = committed else { panic!("of what cannot be guessed") };
        let fits = |committed, value: &[u8]| verify_opened(&committed, &[0; 32], "output", value);
        assert!(fits(committed, &value));
        assert!(!fits(committed, &[2; 32]));
        assert!(!fits(Committed::Sha256 { digest, bytes: bytes + 1 }, &value));
        assert!(!fits(Committed::Sha256 { digest: [0; 32], bytes }, &value));
    }

    #[test]
    fn short_outputs_are_never_bare_hashes() {
        let committer = Committer::new(&[7; 32]);
        assert!(matches!(committer.public("output", &[0; 31]), Committed::Hmac { bytes: 31, .. }));
        assert!(matches!(committer.public("output", &[0; 32]), Committed::Sha256 { bytes: 32, .. }));
    }
}
