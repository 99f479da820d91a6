//! The id of a key's version, a GUID (RFC 9562, version 8): it stands in documents for ever, so it is made of what never changes, and kept nowhere.
//!
//! ```text
//! H  = SHA-256("holdfast/dke-kid/v1" ‖ 0x00 ‖ key id (16))
//! id = (version (4, big-endian) XOR H[0..4]) ‖ H[4..16], with the version and the variant of its kind
//! ```

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::{KeyId, KeyVersion};

const DOMAIN: &[u8] = b"holdfast/dke-kid/v1\0";
/// Where the dashes stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];

fn of_key(key: KeyId) -> [u8; 16] {
    let hash = digest(&SHA256, &[DOMAIN, key.as_bytes()].concat());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    let [_, _, _, _, _, _, kind, _, variant, ..] = &mut id;
    *kind = 0x80 | (*kind & 0x0f);
    *variant = 0x80 | (*variant & 0x3f);
    id
}

/// Hides nothing, and keeps a version from being read out of it by accident; the same takes it off again.
fn masked(mut id: [u8; 16], version: u32) -> [u8; 16] {
    id.iter_mut().zip(version.to_be_bytes()).for_each(|(to, from)| *to ^= from);
    id
}

/// The id of a version, in upper case.
pub fn of(key: KeyId, version: KeyVersion) -> String {
    let mut text = String::with_capacity(36);
    for digit in hex::encode_upper(masked(of_key(key), version.get())).chars() {
        if DASHES.contains(&text.len()) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// The version of this key that an id names, in either case; `None` for what is no id of this key. Whether there is such a version is another matter.
pub fn version_of(key: KeyId, id: &str) -> Option<KeyVersion> {
    let is_guid =
        id.len() == 36 && id.bytes().enumerate().all(|(at, byte)| (byte == b'-') == DASHES.contains(&at));
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok().filter(|()| is_guid)?;
    let own = of_key(key);
    let (asked, rest) = bytes.split_first_chunk::<4>()?;
    let (mask, own) = own.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*asked) ^ u32::from_be_bytes(*mask);
    KeyVersion::new(version).filter(|_| rest == own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: KeyId = KeyId::from_bytes([7; 16]);

    /// Computed with Python's hashlib: documents that were made with an id must open with it.
    #[test]
    fn the_published_vector() {
        assert_eq!(of(KEY, KeyVersion::FIRST), VECTOR);
        assert_eq!(version_of(KEY, VECTOR), Some(KeyVersion::FIRST));
        assert_eq!(version_of(KEY, &VECTOR.to_lowercase()), Some(KeyVersion::FIRST));
    }
    const VECTOR: &str = "B38EDAE6-AF46-8002-8090-62D82D865B71";

    #[test]
    fn what_is_no_id_of_the_key_names_no_version() {
        let one = of(KEY, KeyVersion::FIRST);
        assert_eq!(version_of(KeyId::from_bytes([8; 16]), &one), None);
        for bad in ["", "x", &one[1..], &format!("{one}0"), &one.replace('-', ""), &one.replace('-', "0")] {
            assert_eq!(version_of(KEY, bad), None, "{bad}");
        }
        for at in (9..36).filter(|at| !DASHES.contains(at)) {
            let mut other = one.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(version_of(KEY, std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn each_leads_back_to_its_version(key: [u8; 16], version in 1..=u32::MAX) {
            let (key, version) = (KeyId::from_bytes(key), KeyVersion::new(version).unwrap());
            prop_assert_eq!(version_of(key, &of(key, version)), Some(version));
        }

        #[test]
        fn any_text_is_one_or_not(text: String) {
            version_of(KEY, &text);
        }
    }
}
