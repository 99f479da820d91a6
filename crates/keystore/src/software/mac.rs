//! HMAC (FIPS 198-1, RFC 2104) with SHA-256, SHA-384 or SHA-512. Keys are as long as the hash; codes are never truncated.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

/// A key, its two hash states computed once.
pub(crate) struct MacKey(hmac::Key);

impl MacKey {
    /// From key bytes.
    pub(crate) fn new(algorithm: hmac::Algorithm, material: &[u8]) -> Self {
        Self(hmac::Key::new(algorithm, material))
    }

    /// The code, of the hash's full length.
    pub(crate) fn mac(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, message).as_ref().to_vec()
    }

    /// Whether it is the message's code, in constant time; a shorter or longer one is not.
    pub(crate) fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        verify_slices_are_equal(hmac::sign(&self.0, message).as_ref(), mac).is_ok()
    }
}
