//! XAES-256-GCM (C2SP): AES-256-GCM with 192-bit nonces, made of AES-256-GCM with a key derived for each message.
//!
//! With `K1` the first CMAC subkey (NIST SP 800-38B §6.1) of the key, computed once:
//!
//! ```text
//! Kx = AES_K("\x00\x01X\x00" ‖ N[:12] ⊕ K1) ‖ AES_K("\x00\x02X\x00" ‖ N[:12] ⊕ K1)
//! ciphertext = AES-256-GCM under Kx with nonce N[12:]
//! ```

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

/// A key: its AES key schedule and K1.
pub(crate) struct XaesKey {
    block: EncryptingKey,
    k1: Zeroizing<[u8; 16]>,
}

impl XaesKey {
    /// From 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Result<Self, Unspecified> {
        let block = EncryptingKey::ecb(UnboundCipherKey::new(&AES_256, key)?)?;
        let mut l = Zeroizing::new([0; 16]);
        block.encrypt(l.as_mut_slice())?;
        let value = Zeroizing::new(u128::from_be_bytes(*l));
        // Doubling in GF(2^128), without a branch on the secret bit.
        let reduction = (*value >> 127).wrapping_mul(0x87);
        let k1 = Zeroizing::new(((*value << 1) ^ reduction).to_be_bytes());
        Ok(Self { block, k1 })
    }

    /// The AES-256-GCM key of one message, from the first half of its nonce.
    pub(crate) fn derive(&self, salt: &[u8; 12]) -> Result<LessSafeKey, Unspecified> {
        let mut derived = Zeroizing::new([0; 32]);
        for (counter, half) in (1u8..).zip(derived.chunks_exact_mut(16)) {
            let message = [0, counter, b'X', 0].into_iter().chain(*salt);
            for ((byte, m), k) in half.iter_mut().zip(message).zip(*self.k1) {
                *byte = m ^ k;
            }
        }
        self.block.encrypt(derived.as_mut_slice())?;
        UnboundKey::new(&AES_256_GCM, derived.as_slice()).map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::aead::AeadKey;
    use crate::software::fixture::unhex;
    use crate::software::shake::Shake128;
    use aws_lc_rs::aead::{Aad, Nonce};

    /// With a nonce of our choosing.
    fn seal(key: &[u8], nonce: &[u8], plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        let (salt, nonce) = nonce.split_first_chunk::<12>().unwrap();
        let mut text = plaintext.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
        let key = XaesKey::new(key).unwrap().derive(salt).unwrap();
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut text).unwrap();
        text
    }

    /// C2SP XAES-256-GCM, "Test vectors": one with the highest bit of L clear, one with it set.
    #[test]
    fn the_published_vectors() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        let cases: [(u8, &str, &[u8], &str); 2] = [
            (
                1,
                "e531954aca063d5b8d9c47a47d4cc6f0",
                b"",
                "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
            ),
            (
                3,
                "23810ec50edb99f374409466ed1f4b7b",
                b"c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ];
        for (byte, k1, aad, expected) in cases {
            assert_eq!(XaesKey::new(&[byte; 32]).unwrap().k1.as_slice(), unhex(k1));
            assert_eq!(seal(&[byte; 32], nonce, b"XAES-256-GCM", aad), unhex(expected));
            let body = [&nonce[..], &unhex(expected)].concat();
            let opened = AeadKey::xaes(&[byte; 32]).unwrap().open(&body, aad).unwrap();
            assert_eq!(opened.expose(), b"XAES-256-GCM");
        }
    }

    /// C2SP XAES-256-GCM, "Accumulated randomized tests": 10,000 iterations.
    #[test]
    fn the_accumulated_randomized_test() {
        let (mut stream, mut sum) = (Shake128::new(), Shake128::new());
        for _ in 0..10_000 {
            let key = stream.read(32);
            let nonce = stream.read(24);
            let length = usize::from(stream.read(1)[0]);
            let plaintext = stream.read(length);
            let length = usize::from(stream.read(1)[0]);
            let aad = stream.read(length);
            let sealed = seal(&key, &nonce, &plaintext, &aad);
            let opened = AeadKey::xaes(&key).unwrap().open(&[&nonce[..], &sealed].concat(), &aad).unwrap();
            assert_eq!(opened.expose(), plaintext);
            sum.write(&sealed);
        }
        let expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939";
        assert_eq!(sum.read(32), unhex(expected));
    }
}
