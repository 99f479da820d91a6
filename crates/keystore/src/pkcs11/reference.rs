//! Where a key version is: what a sealed handle of this store holds.
//!
//! ```text
//! reference = 0x01 ‖ CKA_ID (16) ‖ OAEP paddings that the token has (2) ‖ whether it does RSA bare (1) ‖ DER SubjectPublicKeyInfo, or nothing
//! ```

use super::message::Id;
use crate::refusal;
use holdfast_core::algorithm::{Hash, RsaPadding};
use holdfast_core::{Error, Secret};

const FORMAT: u8 = 1;
const HASHES: [Hash; 4] = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

/// Which OAEP paddings a token decrypts, labels included: found out when the key was made, a bit for each pair of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Paddings {
    whole: u16,
    /// It has RSA's bare operation: what it does not decode is decoded here.
    pub(super) bare: bool,
}

/// Who takes a padding off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    Token,
    Gateway { hash: Hash, mgf1: Hash },
}

impl Paddings {
    /// All that there are.
    pub(super) fn all() -> impl Iterator<Item = RsaPadding> {
        HASHES.into_iter().flat_map(|hash| HASHES.map(|mgf1| RsaPadding::Oaep { hash, mgf1 }))
    }

    fn bit(padding: RsaPadding) -> u16 {
        let RsaPadding::Oaep { hash, mgf1 } = padding else { return 0 };
        let place = |wanted: Hash| HASHES.iter().position(|hash| *hash == wanted).unwrap_or(0);
        1 << (4 * place(hash) + place(mgf1))
    }

    pub(super) fn add(&mut self, padding: RsaPadding) {
        self.whole |= Self::bit(padding);
    }

    /// Who decodes an OAEP padding; nobody, where it can't be used.
    pub(super) fn decoder(self, padding: RsaPadding) -> Option<Decoder> {
        match padding {
            padding if self.whole & Self::bit(padding) != 0 => Some(Decoder::Token),
            RsaPadding::Oaep { hash, mgf1 } if self.bare => Some(Decoder::Gateway { hash, mgf1 }),
            RsaPadding::Oaep { .. } | RsaPadding::Pkcs1v15 => None,
        }
    }
}

/// Where a key version is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) id: Id,
    pub(super) paddings: Paddings,
    pub(super) spki: Vec<u8>,
}

impl Reference {
    pub(super) fn to_bytes(&self) -> Secret {
        let Self { id, paddings, spki } = self;
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&paddings.whole.to_be_bytes());
        bytes.push(u8::from(paddings.bare));
        bytes.extend_from_slice(spki);
        Secret::new(bytes)
    }

    /// # Errors
    /// `key-store-unavailable` for what is no reference: it was sealed by something else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::try_parse(bytes).ok_or_else(|| refusal::sealed("a sealed key names no key in a token"))
    }

    fn try_parse(bytes: &[u8]) -> Option<Self> {
        let ([FORMAT], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (whole, rest) = rest.split_first_chunk::<2>()?;
        let ([bare @ (0 | 1)], spki) = rest.split_first_chunk::<1>()? else { return None };
        let paddings = Paddings { whole: u16::from_be_bytes(*whole), bare: *bare == 1 };
        Some(Self { id: *id, paddings, spki: spki.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_padding_has_a_bit_of_its_own() {
        assert_eq!(Paddings::all().count(), 16);
        for padding in Paddings::all() {
            let mut one = Paddings::default();
            one.add(padding);
            let had: Vec<_> = Paddings::all().filter(|other| one.decoder(*other).is_some()).collect();
            assert_eq!(had, [padding]);
            one.bare = true;
            let here = Paddings::all().filter(|other| one.decoder(*other) != Some(Decoder::Token)).count();
            assert_eq!((here, one.decoder(RsaPadding::Pkcs1v15)), (15, None));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            if let Ok(reference) = Reference::parse(&bytes) {
                let written = reference.to_bytes();
                prop_assert_eq!(written.expose(), bytes);
            }
        }

        #[test]
        fn what_is_written_is_read_again(id: [u8; 16], whole: u16, bare: bool, spki: Vec<u8>) {
            let reference = Reference { id, paddings: Paddings { whole, bare }, spki };
            prop_assert_eq!(Reference::parse(reference.to_bytes().expose()).unwrap(), reference);
        }
    }
}
