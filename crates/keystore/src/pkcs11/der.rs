//! The little DER (X.690) that tokens leave to us.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// AlgorithmIdentifier of `rsaEncryption` (RFC 8017 §A.1).
const RSA_ENCRYPTION: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

fn item(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut item = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    let length = length.get(significant..).unwrap_or_default();
    match length {
        [short] if *short < 0x80 => item.push(*short),
        // At most eight.
        long => {
            item.push(0x80 | long.len().to_be_bytes().last().copied().unwrap_or(0));
            item.extend_from_slice(long);
        }
    }
    item.extend_from_slice(content);
    item
}

/// A non-negative integer, as short as it can be.
fn integer(big_endian: &[u8]) -> Vec<u8> {
    let significant = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
    let digits = big_endian.get(significant..).unwrap_or_default();
    match digits.first() {
        None => item(INTEGER, &[0]),
        Some(0x80..) => item(INTEGER, &[&[0], digits].concat()),
        Some(_) => item(INTEGER, digits),
    }
}

/// An RSA public key as SubjectPublicKeyInfo (RFC 5280 §4.1).
pub(super) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = item(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    let bits = item(BIT_STRING, &[&[0], &key[..]].concat());
    item(SEQUENCE, &[RSA_ENCRYPTION, &bits].concat())
}

/// Modulus and public exponent of a SubjectPublicKeyInfo with a modulus of this length; `None` for any other.
pub(super) fn rsa_parts(spki: &[u8], modulus_len: usize) -> Option<(&[u8], &[u8])> {
    (1..=8).find_map(|exponent_len| {
        let (rest, exponent) = spki.split_at_checked(spki.len().checked_sub(exponent_len)?)?;
        // Tag and length of the exponent.
        let (rest, _) = rest.split_last_chunk::<2>()?;
        let (_, modulus) = rest.split_at_checked(rest.len().checked_sub(modulus_len)?)?;
        (rsa_spki(modulus, exponent) == spki).then_some((modulus, exponent))
    })
}

/// ECDSA-Sig-Value (RFC 3279 §2.2.3) of a token's r ‖ s; `None` for anything that has no two halves.
pub(super) fn ecdsa_signature(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    Some(item(SEQUENCE, &[integer(r), integer(s)].concat()))
}

/// CKA_EC_POINT is an OCTET STRING (PKCS#11 2.40) or, for the newer curves, the bare point (3.1).
pub(super) fn point(attribute: &[u8], length: usize) -> Option<&[u8]> {
    if attribute.len() == length {
        return Some(attribute);
    }
    let point = attribute.get(attribute.len().checked_sub(length)?..)?;
    (item(OCTET_STRING, point) == attribute).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};
    use proptest::prelude::*;

    #[test]
    fn an_rsa_key_is_written_as_the_library_writes_it() {
        for size in [KeySize::Rsa2048, KeySize::Rsa4096] {
            let pair = KeyPair::generate(size).unwrap();
            let public = pair.public_key();
            // SEQUENCE { INTEGER, INTEGER 65537 }, with two bytes of length each, and the modulus's highest bit set.
            let key = public.as_ref();
            let (modulus, exponent) = (&key[9..key.len() - 5], &key[key.len() - 3..]);
            assert_eq!((exponent, modulus[0] >> 7), (&[1, 0, 1][..], 1));
            let expected = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(public).unwrap();
            assert_eq!(rsa_spki(modulus, exponent), expected.as_ref());
            assert_eq!(rsa_spki(&[&[0, 0], modulus].concat(), &[0, 1, 0, 1]), expected.as_ref());
            assert_eq!(rsa_parts(expected.as_ref(), modulus.len()), Some((modulus, exponent)));
            assert_eq!(rsa_parts(expected.as_ref(), modulus.len() - 1), None);
            assert_eq!(rsa_parts(&expected.as_ref()[1..], modulus.len()), None);
        }
    }

    #[test]
    fn a_token_s_signature_is_written_as_the_library_reads_it() {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, pair.public_key());
        for n in 0..200u32 {
            let message = n.to_be_bytes();
            let raw = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), &message).unwrap();
            public.verify(&message, &ecdsa_signature(raw.as_ref()).unwrap()).unwrap();
        }
        assert_eq!(ecdsa_signature(b""), None);
        assert_eq!(ecdsa_signature(&[1; 63]), None);
        assert_eq!(ecdsa_signature(&[0, 0]).unwrap(), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }

    proptest! {
        #[test]
        fn a_point_is_found_wrapped_or_bare(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert_eq!(point(&bytes, bytes.len()), Some(&bytes[..]));
            let wrapped = item(OCTET_STRING, &bytes);
            prop_assert_eq!(point(&wrapped, bytes.len()), Some(&bytes[..]));
            prop_assert_eq!(point(&wrapped, bytes.len() + 1), None);
            let longer = [&wrapped[..], &[0]].concat();
            prop_assert_eq!(point(&longer, bytes.len()), None);
        }
    }
}
