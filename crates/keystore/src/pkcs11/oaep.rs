//! EME-OAEP decoding (RFC 8017 §7.1.2, step 3), for tokens that have RSA's bare operation and not the padding that is asked for: many know
//! no hash but SHA-1, or no label. The private key's operation stays in the token; what comes out is the padded plaintext.

use aws_lc_rs::digest::{self, Context};
use holdfast_core::Secret;
use holdfast_core::algorithm::Hash;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

const fn library(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

/// MGF1 (RFC 8017 §B.2.1), applied to `out`.
fn unmask(hash: Hash, seed: &[u8], out: &mut [u8]) {
    for (counter, block) in (0u32..).zip(out.chunks_mut(hash.len())) {
        let mut context = Context::new(library(hash));
        context.update(seed);
        context.update(&counter.to_be_bytes());
        for (byte, mask) in block.iter_mut().zip(context.finish().as_ref()) {
            *byte ^= mask;
        }
    }
}

/// The plaintext in an encoded message of a modulus's length. `None` whatever is wrong, after the same work whatever it is: which byte it was
/// would be Manger's oracle.
pub(super) fn decode(hash: Hash, mgf1: Hash, label: &[u8], mut encoded: Secret) -> Option<Secret> {
    let (first, masked) = encoded.expose_mut().split_first_mut()?;
    if masked.len() < 2 * hash.len() + 1 {
        return None;
    }
    let (seed, block) = masked.split_at_mut(hash.len());
    unmask(mgf1, block, seed);
    unmask(mgf1, seed, block);
    let (label_hash, padded) = block.split_at(hash.len());
    let mut wrong = !first.ct_eq(&0);
    wrong |= !label_hash.ct_eq(digest::digest(library(hash), label).as_ref());
    let (mut looking, mut begin) = (Choice::from(1), 0u32);
    for (next, byte) in (1u32..).zip(padded) {
        let (zero, one) = (byte.ct_eq(&0), byte.ct_eq(&1));
        begin = u32::conditional_select(&begin, &next, looking & one);
        wrong |= looking & !zero & !one;
        looking &= zero;
    }
    wrong |= looking;
    match bool::from(wrong) {
        true => None,
        false => padded.get(usize::try_from(begin).ok()?..).map(Secret::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::ffi::RsaPkey;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use holdfast_core::algorithm::RsaPadding;

    const HASHES: [Hash; 4] = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

    /// EME-OAEP encoding (RFC 8017 §7.1.1, step 2).
    fn encode(hash: Hash, mgf1: Hash, label: &[u8], message: &[u8], length: usize) -> Vec<u8> {
        let mut block = digest::digest(library(hash), label).as_ref().to_vec();
        block.resize(length - 1 - hash.len() - 1 - message.len(), 0);
        block.push(1);
        block.extend_from_slice(message);
        let mut seed = vec![0x5a; hash.len()];
        unmask(mgf1, &seed, &mut block);
        unmask(mgf1, &block, &mut seed);
        [&[0], &seed[..], &block].concat()
    }

    fn decoded(hash: Hash, mgf1: Hash, label: &[u8], encoded: &[u8]) -> Option<Vec<u8>> {
        decode(hash, mgf1, label, Secret::from(encoded)).map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn every_message_comes_back_and_every_changed_byte_is_wrong() {
        for (hash, mgf1) in HASHES.into_iter().flat_map(|hash| HASHES.map(|mgf1| (hash, mgf1))) {
            let room = 256 - 2 * hash.len() - 2;
            for length in [0, 1, room / 2, room] {
                let message = vec![7; length];
                let encoded = encode(hash, mgf1, b"label", &message, 256);
                assert_eq!(decoded(hash, mgf1, b"label", &encoded), Some(message));
                assert_eq!(decoded(hash, mgf1, b"lobel", &encoded), None);
                for at in 0..256 - length {
                    let mut changed = encoded.clone();
                    changed[at] ^= 0x80;
                    assert_eq!(decoded(hash, mgf1, b"label", &changed), None, "{hash:?} {length} {at}");
                }
            }
        }
    }

    #[test]
    fn no_separator_or_another_byte_before_it_is_wrong() {
        let hash = Hash::Sha256;
        let begin = hash.len();
        for padded in [vec![0; 20], [vec![0; 5], vec![2], vec![0; 5], vec![1, 9]].concat(), vec![2], vec![]] {
            let mut block = [digest::digest(library(hash), b"").as_ref(), &padded].concat();
            let mut seed = vec![3; begin];
            unmask(hash, &seed, &mut block);
            unmask(hash, &block, &mut seed);
            assert_eq!(decoded(hash, hash, b"", &[&[0], &seed[..], &block].concat()), None, "{padded:?}");
        }
        for length in 0..=2 * begin + 1 {
            assert_eq!(decoded(hash, hash, b"", &vec![0; length]), None);
        }
    }

    /// What AWS-LC has encrypted is decoded from what its bare operation gives.
    #[test]
    fn the_library_s_own_ciphertexts_are_read() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = RsaPkey::parse(pkcs8.as_ref()).unwrap();
        for (hash, mgf1) in HASHES.into_iter().flat_map(|hash| HASHES.map(|mgf1| (hash, mgf1))) {
            let encoded = encode(hash, mgf1, b"binding", b"message", 256);
            let body = key.bare(&encoded, true).unwrap();
            let padding = RsaPadding::Oaep { hash, mgf1 };
            assert_eq!(key.decrypt(padding, b"binding", &body).unwrap().expose(), b"message");
            let mut sealed = vec![0; 256];
            key.encrypt(padding, b"binding", b"message", &mut sealed).unwrap();
            let bare = key.bare(&sealed, false).unwrap();
            assert_eq!(decoded(hash, mgf1, b"binding", &bare).unwrap(), b"message");
        }
    }
}
