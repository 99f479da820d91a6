//! AES key wrap (RFC 3394) and AES key wrap with padding (RFC 5649), as in NIST SP 800-38F. No context and no associated data.

use crate::refusal;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap, KeyWrapPadded};
use holdfast_core::{Error, Secret};

/// Length of a key in bytes.
pub(crate) const KEY_LEN: usize = 32;
const BLOCK: usize = 8;

/// A key. The library's own key object serves once, so each use expands the AES key again (some 100 ns).
pub(crate) struct WrapKey {
    material: Secret,
    padded: bool,
}

impl WrapKey {
    /// From 32 bytes; `padded` for RFC 5649.
    pub(crate) fn new(material: &[u8], padded: bool) -> Result<Self, Error> {
        let key = Self { material: Secret::from(material), padded };
        key.kek().map_err(refusal::library)?;
        Ok(key)
    }

    fn kek(&self) -> Result<AesKek, aws_lc_rs::error::Unspecified> {
        AesKek::new(&AES_256, self.material.expose())
    }

    /// Appends the wrapped bytes to `frame`.
    ///
    /// # Errors
    /// `malformed` for bytes of a length that cannot be wrapped.
    pub(crate) fn wrap(&self, mut frame: Vec<u8>, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let fits = match self.padded {
            true => !bytes.is_empty(),
            false => bytes.len() >= 2 * BLOCK && bytes.len().is_multiple_of(BLOCK),
        };
        if !fits {
            let detail = "bytes of this length cannot be wrapped with this key";
            return Err(refusal::malformed(
                detail,
                "wrap a multiple of 8 bytes, 16 or more; or use an `aes-256-kwp` key, which takes any number but none",
            ));
        }
        let start = frame.len();
        // What the library asks for: the padding and one block more.
        frame.resize(start.saturating_add(bytes.len()).saturating_add(2 * BLOCK - 1), 0);
        let out = frame.get_mut(start..).unwrap_or_default();
        let kek = self.kek().map_err(refusal::library)?;
        let written = match self.padded {
            true => kek.wrap_with_padding(bytes, out),
            false => kek.wrap(bytes, out),
        };
        let length = written.map_err(refusal::library)?.len();
        frame.truncate(start.saturating_add(length));
        Ok(frame)
    }

    /// Unwraps a frame's body.
    ///
    /// # Errors
    /// `integrity`, whatever is wrong with it.
    pub(crate) fn unwrap(&self, body: &[u8]) -> Result<Secret, Error> {
        let mut length = 0;
        let mut bytes = Secret::fill_with(body.len(), |out| {
            let kek = self.kek()?;
            let written = match self.padded {
                true => kek.unwrap_with_padding(body, out),
                false => kek.unwrap(body, out),
            };
            written.map(|bytes| length = bytes.len())
        })
        .map_err(|_| refusal::integrity())?;
        bytes.expose_mut().truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::unhex;
    use holdfast_core::ErrorKind;

    const KEK: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";

    /// RFC 3394 §4.3, §4.5 and §4.6: the vectors with a 256-bit key.
    #[test]
    fn the_vectors_of_rfc_3394() {
        let key = WrapKey::new(&unhex(KEK), false).unwrap();
        let cases = [
            ("00112233445566778899AABBCCDDEEFF", "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"),
            (
                "00112233445566778899AABBCCDDEEFF0001020304050607",
                "A8F9BC1612C68B3FF6E6F4FBE30E71E4769C8B80A32CB8958CD5D17D6B254DA1",
            ),
            (
                "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
                "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
            ),
        ];
        for (plain, wrapped) in cases {
            assert_eq!(key.wrap(b"h".to_vec(), &unhex(plain)).unwrap(), [b"h", &unhex(wrapped)[..]].concat());
            assert_eq!(key.unwrap(&unhex(wrapped)).unwrap().expose(), unhex(plain));
        }
    }

    /// RFC 5649 has vectors with a 192-bit key only; its padding is held by Wycheproof's file and by this round trip.
    #[test]
    fn padded_wrapping_takes_every_length() {
        let key = WrapKey::new(&unhex(KEK), true).unwrap();
        for length in 1..70 {
            let bytes = vec![5; length];
            let wrapped = key.wrap(Vec::new(), &bytes).unwrap();
            assert_eq!(wrapped.len(), length.div_ceil(8) * 8 + 8);
            assert_eq!(key.unwrap(&wrapped).unwrap().expose(), bytes);
        }
        assert_eq!(key.wrap(Vec::new(), b"").unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn impossible_lengths_and_changed_bytes_are_refused() {
        for padded in [false, true] {
            let key = WrapKey::new(&unhex(KEK), padded).unwrap();
            let wrapped = key.wrap(Vec::new(), &[5; 24]).unwrap();
            for index in 0..wrapped.len() {
                let mut bad = wrapped.clone();
                bad[index] ^= 1;
                assert_eq!(key.unwrap(&bad).unwrap_err().kind(), ErrorKind::Integrity);
                assert_eq!(key.unwrap(&wrapped[..index]).unwrap_err().kind(), ErrorKind::Integrity);
            }
        }
        let key = WrapKey::new(&unhex(KEK), false).unwrap();
        for length in [0, 1, 7, 8, 9, 15, 17, 23] {
            assert_eq!(key.wrap(Vec::new(), &vec![5; length]).unwrap_err().kind(), ErrorKind::Malformed);
        }
    }
}
