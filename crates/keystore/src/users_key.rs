//! Private RSA keys of users that a protocol keeps under one of ours: unwrapped for one operation, in memory, and wiped after it.

use crate::refusal;
use crate::software::digest;
use crate::software::ffi::RsaPkey;
use aws_lc_rs::digest::{SHA256, digest as hash_of};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
use holdfast_core::algorithm::{Hash, RsaPadding};
use holdfast_core::work::Message;
use holdfast_core::{Error, Secret};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeLess as _};
use zeroize::Zeroize as _;

/// The shortest padding string of PKCS#1 v1.5 (RFC 8017 §7.2.1), with the three bytes around it.
const OVERHEAD: usize = 11;

/// A user's key pair.
pub struct UsersKey {
    signing: KeyPair,
    encryption: RsaPkey,
    /// What answers are made of where a padding is wrong.
    rejection: hmac::Key,
}

impl core::fmt::Debug for UsersKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("UsersKey")
    }
}

impl UsersKey {
    /// From PKCS#8 (RFC 5208): 2048 to 8192 bits. Takes about a millisecond, since the key's consistency is checked.
    ///
    /// # Errors
    /// `malformed` for anything else.
    pub fn new(pkcs8: &Secret) -> Result<Self, Error> {
        let refused = || {
            refusal::malformed("it is no RSA private key that can be used", "bring one of 2048 bits or more")
        };
        let signing = KeyPair::from_pkcs8(pkcs8.expose()).map_err(|_| refused())?;
        let encryption = RsaPkey::parse(pkcs8.expose()).ok_or_else(refused)?;
        let mut seed = [0; 32];
        seed.copy_from_slice(hash_of(&SHA256, pkcs8.expose()).as_ref());
        let rejection = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        seed.zeroize();
        Ok(Self { signing, encryption, rejection })
    }

    /// SHA-256 of its DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// `internal`.
    pub fn spki_hash(&self) -> Result<[u8; 32], Error> {
        let spki = crate::software::signature::spki(self.signing.public_key())?;
        let mut hash = [0; 32];
        hash.copy_from_slice(hash_of(&SHA256, &spki).as_ref());
        Ok(hash)
    }

    /// Signs a digest: PKCS#1 v1.5, or PSS with a salt as long as the hash.
    ///
    /// # Errors
    /// `malformed` for a digest of another length; `unsupported` for SHA-1.
    pub fn sign(&self, (hash, is_pss): (Hash, bool), digest: &[u8]) -> Result<Vec<u8>, Error> {
        let encoding: &'static dyn RsaEncoding = match (hash, is_pss) {
            (Hash::Sha256, false) => &signature::RSA_PKCS1_SHA256,
            (Hash::Sha384, false) => &signature::RSA_PKCS1_SHA384,
            (Hash::Sha512, false) => &signature::RSA_PKCS1_SHA512,
            (Hash::Sha256, true) => &signature::RSA_PSS_SHA256,
            (Hash::Sha384, true) => &signature::RSA_PSS_SHA384,
            (Hash::Sha512, true) => &signature::RSA_PSS_SHA512,
            (Hash::Sha1, _) => return Err(refusal::unsupported("nothing is signed with SHA-1")),
        };
        let digest = digest::of(hash, Message::Digest(digest))?;
        let mut made = vec![0; self.signing.public_modulus_len()];
        self.signing.sign_digest(encoding, &digest, &mut made).map_err(refusal::library)?;
        Ok(made)
    }

    /// Decrypts what was encrypted with OAEP.
    ///
    /// # Errors
    /// `integrity`, whatever is wrong with it.
    pub fn decrypt_oaep(
        &self,
        (hash, mgf1): (Hash, Hash),
        label: &[u8],
        body: &[u8],
    ) -> Result<Secret, Error> {
        let padding = RsaPadding::Oaep { hash, mgf1 };
        self.encryption.decrypt(padding, label, body).ok_or_else(refusal::integrity)
    }

    /// Decrypts what was encrypted with PKCS#1 v1.5. A padding that is wrong is not told: the answer is then bytes that only this key could make of
    /// this ciphertext, the same ones each time, of a length that is as arbitrary (implicit rejection, draft-irtf-cfrg-rsa-guidance §7). So nobody
    /// learns from an answer whether a padding was right (Bleichenbacher's oracle).
    ///
    /// # Errors
    /// `integrity` for what is not as long as the modulus, or no smaller number: both can be told from the ciphertext alone.
    pub fn decrypt_pkcs1(&self, body: &[u8]) -> Result<Secret, Error> {
        let length = self.encryption.modulus_len();
        if body.len() != length || length < OVERHEAD {
            return Err(refusal::integrity());
        }
        let mut encoded =
            self.encryption.bare(body, false).map(Secret::new).ok_or_else(refusal::integrity)?;
        let (synthetic, synthetic_start) = self.synthetic(body, length);
        let (is_right, start) = separator(encoded.expose());
        for (byte, other) in encoded.expose_mut().iter_mut().zip(synthetic.expose()) {
            *byte = u8::conditional_select(other, byte, is_right);
        }
        let start = u32::conditional_select(&synthetic_start, &start, is_right);
        let start = usize::try_from(start).unwrap_or(length);
        let message = encoded.expose().get(start..).ok_or_else(refusal::integrity)?;
        Ok(Secret::from(message))
    }

    /// What is answered where the padding is wrong: as many bytes as the modulus has, and where among them the answer begins.
    fn synthetic(&self, body: &[u8], length: usize) -> (Secret, u32) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.rejection, body).as_ref());
        let bytes = prf(&key, b"message", length);
        let lengths = prf(&key, b"length", 256);
        // The longest answer that a right padding leaves room for; candidates above it do not count, and the last that does is taken.
        let most = u32::try_from(length.saturating_sub(OVERHEAD)).unwrap_or(0);
        let mask = most.checked_next_power_of_two().unwrap_or(most).wrapping_mul(2).wrapping_sub(1);
        let mut chosen = 0_u32;
        for pair in lengths.expose().as_chunks::<2>().0 {
            let candidate = u32::from(u16::from_be_bytes(*pair)) & mask;
            let fits = candidate.ct_lt(&most.wrapping_add(1));
            chosen = u32::conditional_select(&chosen, &candidate, fits);
        }
        (bytes, u32::try_from(length).unwrap_or(u32::MAX).wrapping_sub(chosen))
    }
}

/// Whether `00 02 PS 00` stands in front, with eight bytes of padding at least, and where what follows begins; in constant time.
fn separator(encoded: &[u8]) -> (Choice, u32) {
    let (head, rest) = encoded.split_at(encoded.len().min(2));
    let mut found = Choice::from(0);
    let mut start = 0_u32;
    let mut after = 2_u32;
    for byte in rest {
        after = after.wrapping_add(1);
        let is_first = byte.ct_eq(&0) & !found;
        start = u32::conditional_select(&start, &after, is_first);
        found |= is_first;
    }
    let is_long = !start.ct_lt(&11);
    (head.ct_eq(&[0, 2]) & found & is_long, start)
}

/// As many bytes as are asked for: HMAC-SHA-256 of a counter, the label and the number of bits.
fn prf(key: &hmac::Key, label: &[u8], length: usize) -> Secret {
    let bits = u16::try_from(length.saturating_mul(8)).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = Secret::new(Vec::with_capacity(length.saturating_add(32)));
    let mut counter = 0_u16;
    while out.len() < length {
        let mut context = hmac::Context::with_key(key);
        for part in [&counter.to_be_bytes()[..], label, &bits] {
            context.update(part);
        }
        out.expose_mut().extend_from_slice(context.sign().as_ref());
        counter = counter.wrapping_add(1);
    }
    out.expose_mut().truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use holdfast_core::ErrorKind;

    /// The public test key whose vectors are those of the Google digest's section 10.
    const TEST_KEY: &str = include_str!("../../../fixtures/google-cse/test-key.pem");
    const SIGNATURE: &str = "fgaX15MSGnLPyreabyzJgx+tlT8dFZczFyDZfEMTo5r5nIJ8vEYrbSu/99Xt29H1BL/EMOK5B6R0Y6XIMuYPKn5Adfg5XGSyhJEwCS5o0MIVwz/RUkwTK4D3IlEujGxTOifAzlOAOx/9dwrobx4pWtepW0GGFfbRmS5LAunpiEMTsp3g9sYddvLfwdWbl7f7P0LGvbQ0XArDveu5W+1aqk5TVPZKEqBCRHMmbclmYcqhosqP58IExyq0yESgYNXrKEzEnhPQIV/Ki2U/OlQc1jVqRyPENr8TNXhFKbXpQyegYiKiVAroFuWp7Ml0O4ZGAHadmjb4l6uEaIaJdb5+Gw==";
    const CIPHERTEXT: &str = "f4bquuc8VEiy78j1s0ZufJ1VwMEjCHhHpWM5YUhh2gy6/33UdVn8rwiRImCU97Y4IoHh/57h7zQwX86LwCsQ08aQBuxs9p9S739afrFhlXbc8OG0KBpoknvSzMrjx0PFDw5BMCvVzui4qmO9JwAsw4eyQsjjaISiK42reWG5GYp6qD94udCJX2Jwz9ofCFU65DQiTCR651qtgiIigbIgxFgjWNkVLqQUz09NNxEP4lJHMavdo/48bg4Mo91MIPyD3BwueZCQJgmXY7FQWnzj0skgt1Ffo/nEsNzmWM9tePVTlMNcPYp5yWtG1xk4MnPEEyhUTN7TznIdEQSn1F8eVg==";

    fn key() -> UsersKey {
        let body: String = TEST_KEY.lines().filter(|line| !line.starts_with('-')).collect();
        UsersKey::new(&Secret::new(STANDARD.decode(body).unwrap())).unwrap()
    }

    #[test]
    fn the_published_vectors() {
        let key = key();
        assert_eq!(STANDARD.encode(key.spki_hash().unwrap()), "3bj9JRTGYXmBlnkuf78/Xqb+BDYbO5ooABHvMZPebSc=");
        let digest = STANDARD.decode("HnV1M6heJQQXQ+01TkPj4VU4VLIGJnjXs8G/ghKQ//M=").unwrap();
        let signature = key.sign((Hash::Sha256, false), &digest).unwrap();
        assert_eq!(STANDARD.encode(signature), SIGNATURE);
        let ciphertext = STANDARD.decode(CIPHERTEXT).unwrap();
        let plain = key.decrypt_pkcs1(&ciphertext).unwrap();
        assert_eq!(plain.expose(), (0..32).collect::<Vec<u8>>());
    }

    #[test]
    fn what_cannot_be_signed_is_told() {
        let key = key();
        for (scheme, length, kind) in [
            ((Hash::Sha256, false), 31, ErrorKind::Malformed),
            ((Hash::Sha512, true), 32, ErrorKind::Malformed),
            ((Hash::Sha1, false), 20, ErrorKind::Unsupported),
        ] {
            assert_eq!(key.sign(scheme, &vec![7; length]).unwrap_err().kind(), kind);
        }
        assert!(key.sign((Hash::Sha256, true), &[7; 32]).is_ok());
    }

    #[test]
    fn oaep_opens_with_its_hashes_and_its_label_alone() {
        let key = key();
        let mut body = vec![0; 256];
        let made = RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha1 };
        key.encryption.encrypt(made, b"label", b"a key", &mut body).unwrap();
        let open = |hashes, label: &[u8]| key.decrypt_oaep(hashes, label, &body);
        assert_eq!(open((Hash::Sha256, Hash::Sha1), b"label").unwrap().expose(), b"a key");
        for (hashes, label) in [
            ((Hash::Sha256, Hash::Sha256), &b"label"[..]),
            ((Hash::Sha1, Hash::Sha1), b"label"),
            ((Hash::Sha256, Hash::Sha1), b"bGFiZWw="),
        ] {
            assert_eq!(open(hashes, label).unwrap_err().kind(), ErrorKind::Integrity);
        }
    }

    /// A message under a padding of these bytes, encrypted without any other.
    fn encrypted(key: &UsersKey, encoded: &[u8]) -> Vec<u8> {
        key.encryption.bare(encoded, true).unwrap()
    }

    fn padded(head: &[u8], padding: usize, separator: &[u8]) -> Vec<u8> {
        let mut encoded = [head, &vec![9; padding], separator].concat();
        encoded.resize(256, 7);
        encoded
    }

    #[test]
    fn a_wrong_padding_gives_bytes_that_mean_nothing_and_are_the_same_each_time() {
        let key = key();
        let right = padded(&[0, 2], 8, &[0]);
        assert_eq!(key.decrypt_pkcs1(&encrypted(&key, &right)).unwrap().expose(), &right[11..]);
        let none = padded(&[0, 2], 253, &[0]);
        assert!(key.decrypt_pkcs1(&encrypted(&key, &none)).unwrap().is_empty());
        let mut lengths = std::collections::BTreeSet::new();
        for wrong in [
            padded(&[0, 1], 8, &[0]),
            padded(&[1, 2], 8, &[0]),
            padded(&[0, 2], 7, &[0]),
            padded(&[0, 2], 0, &[0]),
            padded(&[0, 2], 254, &[]),
            padded(&[0, 0], 8, &[0]),
        ] {
            let ciphertext = encrypted(&key, &wrong);
            let [first, second] = [(); 2].map(|()| key.decrypt_pkcs1(&ciphertext).unwrap());
            assert_eq!(first, second);
            assert!(!wrong.ends_with(first.expose()) || first.is_empty(), "nothing of the message");
            lengths.insert(first.len());
        }
        assert!(lengths.len() > 2, "{lengths:?}");
        // Another key makes something else of it.
        let pkcs8 = KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&pkcs8).unwrap();
        let other = UsersKey::new(&Secret::from(pkcs8.as_ref())).unwrap();
        let body = vec![1; 256];
        assert_ne!(other.synthetic(&body, 256).0, key.synthetic(&body, 256).0);
        for bad in [&[][..], &[1; 255], &[1; 257], &[0xff; 256]] {
            assert_eq!(key.decrypt_pkcs1(bad).unwrap_err().kind(), ErrorKind::Integrity);
        }
    }

    /// Lengths fall everywhere between none and the longest that there is room for.
    #[test]
    fn lengths_of_what_means_nothing_are_spread() {
        let key = key();
        let lengths: std::collections::BTreeSet<u32> =
            (0..400_u16).map(|n| 256 - key.synthetic(&n.to_be_bytes(), 256).1).collect();
        assert!(lengths.len() > 150 && *lengths.last().unwrap() <= 245, "{lengths:?}");
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        for bad in [&b""[..], b"0", &[0x30; 100]] {
            assert_eq!(UsersKey::new(&Secret::from(bad)).unwrap_err().kind(), ErrorKind::Malformed);
        }
    }
}
