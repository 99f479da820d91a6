//! The hashes that schemes let a caller choose, and a caller's own digests.

use crate::refusal;
use aws_lc_rs::digest::{self, Digest};
use holdfast_core::Error;
use holdfast_core::algorithm::Hash;
use holdfast_core::work::Message;

/// The library's name for a hash.
pub(crate) fn library(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

/// The digest that is signed or verified: computed here, or taken from the caller if it is as long as the hash's.
///
/// # Errors
/// `malformed` for a digest of another length.
pub(crate) fn of(hash: Hash, message: Message<'_>) -> Result<Digest, Error> {
    match message {
        Message::Whole(message) => Ok(digest::digest(library(hash), message)),
        Message::Digest(digest) => Digest::import_less_safe(digest, library(hash)).map_err(|_| {
            refusal::malformed(
                "the digest is not as long as the scheme's hash makes it",
                "send the digest of the scheme's hash, or the message itself",
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_agree_with_the_library() {
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            assert_eq!(library(hash).output_len(), hash.len());
            assert!(of(hash, Message::Digest(&vec![0; hash.len()])).is_ok());
            assert!(of(hash, Message::Digest(&vec![0; hash.len() - 1])).is_err());
            assert!(of(hash, Message::Digest(&vec![0; hash.len() + 1])).is_err());
        }
    }
}
