//! The id of a key's version, a GUID (RFC 9562, version 8): it stands in documents for ever, so it is made of what never changes, and kept nowhere.
//!
//! ```text
//! M  = SHA-256("holdfast/dke-kid/v1" ‖ 0x00 ‖ key id (16))
//! T  = SHA-256("holdfast/dke-kid-public/v1" ‖ 0x00 ‖ key id (16) ‖ version (4, big-endian) ‖ SubjectPublicKeyInfo)
//! id = (version (4, big-endian) XOR M[0..4]) ‖ T[4..16], with the version and the variant of its kind
//! ```
//!
//! So an id says of which version it can be, and what was encrypted under it is for that version's very modulus: a gateway that was restored from before a
//! rotation can make another version of the same number, and no URL of the one that is lost means that.

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::{KeyId, KeyVersion};

const NUMBERS: &[u8] = b"holdfast/dke-kid/v1\0";
const PUBLIC: &[u8] = b"holdfast/dke-kid-public/v1\0";
/// Where the dashes stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Hides nothing, and keeps a version from being read out of an id by accident; the same takes it off again.
fn masked(key: KeyId, number: [u8; 4]) -> [u8; 4] {
    let mask = digest(&SHA256, &[NUMBERS, key.as_bytes()].concat());
    let mut masked = number;
    masked.iter_mut().zip(mask.as_ref()).for_each(|(to, mask)| *to ^= mask);
    masked
}

/// The id of a version with this public half, in upper case.
pub fn of(key: KeyId, version: KeyVersion, public: &[u8]) -> String {
    let number = version.get().to_be_bytes();
    let hash = digest(&SHA256, &[PUBLIC, key.as_bytes(), &number, public].concat());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    let [a, b, c, d, _, _, kind, _, variant, ..] = &mut id;
    [*a, *b, *c, *d] = masked(key, number);
    *kind = 0x80 | (*kind & 0x0f);
    *variant = 0x80 | (*variant & 0x3f);
    let mut text = String::with_capacity(36);
    for digit in hex::encode_upper(id).chars() {
        if DASHES.contains(&text.len()) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// The only version of this key that an id, in either case, can be of; `None` for what is no id. Whether it is its id, [`is`] says.
pub fn version_of(key: KeyId, id: &str) -> Option<KeyVersion> {
    let is_guid =
        id.len() == 36 && id.bytes().enumerate().all(|(at, byte)| (byte == b'-') == DASHES.contains(&at));
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok().filter(|()| is_guid)?;
    let [a, b, c, d, ..] = bytes;
    KeyVersion::new(u32::from_be_bytes(masked(key, [a, b, c, d])))
}

/// Whether an id, in either case, is that of this version with this public half.
pub fn is(id: &str, key: KeyId, version: KeyVersion, public: &[u8]) -> bool {
    of(key, version, public).eq_ignore_ascii_case(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: KeyId = KeyId::from_bytes([7; 16]);
    const VECTOR: &str = "B38EDAE6-18B1-811D-A5A0-963F29622E5D";

    /// Computed with Python's hashlib: documents that were made with an id must open with it.
    #[test]
    fn the_published_vector() {
        assert_eq!(of(KEY, KeyVersion::FIRST, b"public"), VECTOR);
        for id in [VECTOR, &VECTOR.to_lowercase()] {
            assert_eq!(version_of(KEY, id), Some(KeyVersion::FIRST));
            assert!(is(id, KEY, KeyVersion::FIRST, b"public"));
        }
    }

    #[test]
    fn another_key_in_the_place_of_a_version_has_another_id() {
        let [one, another] = [&b"public"[..], b"another"].map(|public| of(KEY, KeyVersion::FIRST, public));
        assert_eq!(version_of(KEY, &another), version_of(KEY, &one));
        assert!(one != another && !is(&one, KEY, KeyVersion::FIRST, b"another"));
        assert!(!is(VECTOR, KeyId::from_bytes([8; 16]), KeyVersion::FIRST, b"public"));
        assert!(!is(VECTOR, KEY, KeyVersion::new(2).unwrap(), b"public"));
    }

    #[test]
    fn what_is_no_id_of_the_key_names_no_version() {
        let one = VECTOR;
        for bad in ["", "x", &one[1..], &format!("{one}0"), &one.replace('-', ""), &one.replace('-', "0")] {
            assert_eq!(version_of(KEY, bad), None, "{bad}");
        }
        for at in (0..36).filter(|at| !DASHES.contains(at)) {
            let mut other = one.to_owned().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert!(!is(std::str::from_utf8(&other).unwrap(), KEY, KeyVersion::FIRST, b"public"), "{at}");
        }
    }

    proptest! {
        #[test]
        fn each_leads_back_to_its_version(key: [u8; 16], version in 1..=u32::MAX, public: Vec<u8>) {
            let (key, version) = (KeyId::from_bytes(key), KeyVersion::new(version).unwrap());
            let id = of(key, version, &public);
            prop_assert_eq!(version_of(key, &id), Some(version));
            prop_assert!(is(&id, key, version, &public));
        }

        #[test]
        fn any_text_is_one_or_not(text: String) {
            version_of(KEY, &text);
            is(&text, KEY, KeyVersion::FIRST, b"public");
        }
    }
}
