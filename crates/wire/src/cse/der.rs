//! As much DER (ITU-T X.690) as RSA keys are written in.

/// Length and value of the first element, which must have this tag, and what follows it. Lengths must be as short as they can be.
pub(super) fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let is_shortest = matches!((first, length), (0..=0x7f, _) | (0x81, 0x80..) | (0x82, 0x100..));
    (found == tag && is_shortest).then(|| rest.split_at_checked(length)).flatten()
}

/// An element with this value, which has less than 64 KiB.
pub(super) fn write(tag: u8, parts: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
    out.push(tag);
    match length {
        0..0x80 => out.push(low),
        0x80..0x100 => out.extend_from_slice(&[0x81, low]),
        _ => out.extend_from_slice(&[0x82, high, low]),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    Some(())
}

/// A SEQUENCE's tag.
pub(super) const SEQUENCE: u8 = 0x30;
/// An INTEGER's tag.
pub(super) const INTEGER: u8 = 0x02;
/// An OCTET STRING's tag.
pub(super) const OCTETS: u8 = 0x04;
/// A BIT STRING's tag.
pub(super) const BITS: u8 = 0x03;
/// AlgorithmIdentifier of rsaEncryption, with NULL (RFC 8017 appendix A.1).
pub(super) const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_the_shortest() {
        for length in [0, 1, 127, 128, 255, 256, 65535] {
            let value = vec![7; length];
            let mut made = vec![];
            write(OCTETS, &[&value], &mut made).unwrap();
            made.push(9);
            assert_eq!(element(OCTETS, &made), Some((&*value, &[9][..])));
            assert_eq!(element(SEQUENCE, &made), None);
        }
        for bad in [&[4, 0x81, 1, 0][..], &[4, 0x82, 0, 1, 0], &[4, 0x80], &[4, 2, 0], &[4], &[]] {
            assert_eq!(element(OCTETS, bad), None, "{bad:?}");
        }
        assert_eq!(write(OCTETS, &[&vec![0; 65536]], &mut vec![]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes: Vec<u8>) {
            element(SEQUENCE, &bytes);
        }
    }
}
