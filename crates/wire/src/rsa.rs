//! The numbers of an RSA public key, for protocols that write them apart.

/// rsaEncryption with NULL parameters (RFC 3279 §2.3.1).
pub(crate) const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Modulus and exponent of a SubjectPublicKeyInfo, big-endian, neither with a leading zero. The exponent has eight bytes at most.
pub(crate) fn numbers(public: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, rest) = value(0x30, public)?;
    let (bits, end) = value(0x03, info.strip_prefix(RSA)?)?;
    let (pair, after) = value(0x30, bits.strip_prefix(&[0])?)?;
    let (n, pair) = value(0x02, pair)?;
    let (e, last) = value(0x02, pair)?;
    let is_whole = [rest, end, after, last].iter().all(|rest| rest.is_empty());
    let n = n.strip_prefix(&[0]).unwrap_or(n);
    let e = e.strip_prefix(&[0]).unwrap_or(e);
    let begins = |number: &[u8]| number.first().is_some_and(|first| *first != 0);
    (is_whole && e.len() <= 8 && begins(e) && begins(n)).then_some((n, e))
}

/// The value of the DER element that stands first, and what is behind it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let _tag = first;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81 | 0x82 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(*length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
