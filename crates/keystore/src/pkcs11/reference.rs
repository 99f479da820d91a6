//! Where a key version is: what a sealed handle of this store holds.
//!
//! ```text
//! reference = 0x01 ‖ place ‖ DER SubjectPublicKeyInfo, or nothing
//!           | 0x02 ‖ place ‖ copy ‖ DER SubjectPublicKeyInfo, or nothing
//!           | 0x03 ‖ place ‖ object ‖ DER SubjectPublicKeyInfo, or nothing
//!           | 0x06 ‖ length (4) ‖ emergency copy ‖ reference of the first or the second kind
//!           | 0x07 ‖ reference of the first or the second kind: of material that came from outside
//! place     = CKA_ID (16), of what another program made the beginning of the object's digest ‖ OAEP paddings that the token has (2) ‖ whether it does RSA bare (1)
//! remains   = 0x04 ‖ CKA_ID (16): of a destroyed key, for the members that still have to erase it
//!           | 0x05 ‖ CKA_ID (16), as above ‖ object
//!           | 0x08 ‖ CKA_ID (16) ‖ version (4): under whose label each attempt to bring it in may have left the material
//! copy      = fingerprint of the wrapping key (16) ‖ SHA-256 of what shows that a member holds the key (32) ‖ length (2) ‖ wrapped key
//! object    = whether it is a private key (1) ‖ length (2) ‖ its CKA_ID ‖ length (2) ‖ its CKA_LABEL
//! ```

use super::message::Id;
use super::store::Adopted;
use super::worker::kek::FINGERPRINT_LEN;
use crate::refusal;
use holdfast_core::algorithm::{Hash, RsaPadding};
use holdfast_core::{Error, KeyVersion, Secret};

const FORMAT: u8 = 1;
const FORMAT_WITH_COPY: u8 = 2;
const FORMAT_ADOPTED: u8 = 3;
const FORMAT_OF_REMAINS: u8 = 4;
const FORMAT_OF_ADOPTED_REMAINS: u8 = 5;
const FORMAT_WITH_EMERGENCY: u8 = 6;
const FORMAT_IMPORTED: u8 = 7;
const FORMAT_OF_IMPORTED_REMAINS: u8 = 8;
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
    /// What brings it to other members; nothing where the vendor does that.
    pub(super) copy: Option<Copy>,
    /// What the token calls it, where another program made it.
    pub(super) adopted: Option<Adopted>,
    /// Its emergency copy, which custodians open; nothing where it has none.
    pub(super) emergency: Option<Vec<u8>>,
    /// Whether its material came from outside, where somebody may bring it in again.
    pub(super) imported: bool,
    pub(super) spki: Vec<u8>,
}

/// What is left of a destroyed key version: by what it is found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// A key of our own making.
    Ours(Id),
    /// What came from outside, or the import key for it: under the label of this version whatever an attempt has left.
    Imported(Id, KeyVersion),
    /// What another program made.
    Adopted(Id, Adopted),
}

/// What brings a key version to other members of its pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The fingerprint of the wrapping key.
    pub(super) kek: [u8; FINGERPRINT_LEN],
    /// SHA-256 of what shows that a member holds it.
    pub(super) shown: [u8; 32],
    /// The key, under the wrapping key.
    pub(super) wrapped: Vec<u8>,
}

impl Reference {
    /// # Errors
    /// `internal` for a wrapped key of more than 65,535 bytes.
    pub(super) fn to_bytes(&self) -> Result<Secret, Error> {
        let Self { id, paddings, copy, adopted, emergency, imported, spki } = self;
        let format = match (copy, adopted) {
            (None, None) => FORMAT,
            (Some(_), None) => FORMAT_WITH_COPY,
            (None, Some(_)) => FORMAT_ADOPTED,
            (Some(_), Some(_)) => return Err(refusal::defect("a key that was adopted does not travel")),
        };
        let mut bytes = Vec::new();
        if let Some(emergency) = emergency {
            if adopted.is_some() {
                return Err(refusal::defect("a key that was adopted has no emergency copy"));
            }
            let length = u32::try_from(emergency.len())
                .map_err(|_| refusal::defect("an emergency copy is longer than any"))?;
            bytes.push(FORMAT_WITH_EMERGENCY);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(emergency);
        }
        if *imported {
            if adopted.is_some() || emergency.is_some() {
                return Err(refusal::defect("a key that was imported was made elsewhere, and brought in"));
            }
            bytes.push(FORMAT_IMPORTED);
        }
        bytes.push(format);
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&paddings.whole.to_be_bytes());
        bytes.push(u8::from(paddings.bare));
        if let Some(Copy { kek, shown, wrapped }) = copy {
            let length = u16::try_from(wrapped.len())
                .map_err(|_| refusal::device("the token's wrapped key is longer than any key"))?;
            bytes.extend_from_slice(kek);
            bytes.extend_from_slice(shown);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(wrapped);
        }
        if let Some(adopted) = adopted {
            put_object(&mut bytes, adopted)?;
        }
        bytes.extend_from_slice(spki);
        Ok(Secret::new(bytes))
    }

    /// What is left of it once the key is destroyed; `tried` is the version under whose label attempts to bring material in may have left more.
    pub(super) fn into_remains(self, tried: Option<KeyVersion>) -> Remains {
        let Self { id, paddings: _, copy: _, adopted, emergency: _, imported: _, spki: _ } = self;
        match (adopted, tried) {
            (Some(adopted), _) => Remains::Adopted(id, adopted),
            (None, Some(version)) => Remains::Imported(id, version),
            (None, None) => Remains::Ours(id),
        }
    }

    /// # Errors
    /// `key-store-unavailable` for what is no reference: it was sealed by something else.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::try_parse(bytes).ok_or_else(|| refusal::sealed("a sealed key names no key in a token"))
    }

    fn try_parse(bytes: &[u8]) -> Option<Self> {
        let rest = match bytes.split_first_chunk::<1>() {
            Some((&[FORMAT_WITH_EMERGENCY], rest)) => rest,
            Some((&[FORMAT_IMPORTED], rest)) => {
                let reference = Self::try_parse_bare(rest).filter(|reference| reference.adopted.is_none())?;
                return Some(Self { imported: true, ..reference });
            }
            Some(_) | None => return Self::try_parse_bare(bytes),
        };
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (copy, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let reference = Self::try_parse_bare(rest).filter(|reference| reference.adopted.is_none())?;
        Some(Self { emergency: Some(copy.to_vec()), ..reference })
    }

    fn try_parse_bare(bytes: &[u8]) -> Option<Self> {
        let ([format @ (FORMAT | FORMAT_WITH_COPY | FORMAT_ADOPTED)], rest) =
            bytes.split_first_chunk::<1>()?
        else {
            return None;
        };
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (whole, rest) = rest.split_first_chunk::<2>()?;
        let ([bare @ (0 | 1)], rest) = rest.split_first_chunk::<1>()? else { return None };
        let paddings = Paddings { whole: u16::from_be_bytes(*whole), bare: *bare == 1 };
        let (copy, adopted, spki) = match *format {
            FORMAT => (None, None, rest),
            FORMAT_ADOPTED => {
                let (adopted, spki) = object(rest)?;
                (None, Some(adopted), spki)
            }
            _ => {
                let (kek, rest) = rest.split_first_chunk::<FINGERPRINT_LEN>()?;
                let (shown, rest) = rest.split_first_chunk::<32>()?;
                let (length, rest) = rest.split_first_chunk::<2>()?;
                let (wrapped, spki) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                (Some(Copy { kek: *kek, shown: *shown, wrapped: wrapped.to_vec() }), None, spki)
            }
        };
        let spki = spki.to_vec();
        Some(Self { id: *id, paddings, copy, adopted, emergency: None, imported: false, spki })
    }
}

impl Remains {
    /// Nothing by which the key could be used, or brought to a member again.
    ///
    /// # Errors
    /// `key-store-unavailable` for an object with a name of more than 65,535 bytes.
    pub(super) fn to_bytes(&self) -> Result<Secret, Error> {
        let bytes = match self {
            Self::Ours(id) => [&[FORMAT_OF_REMAINS], &id[..]].concat(),
            Self::Imported(id, version) => {
                [&[FORMAT_OF_IMPORTED_REMAINS], &id[..], &version.get().to_be_bytes()].concat()
            }
            Self::Adopted(id, adopted) => {
                let mut bytes = [&[FORMAT_OF_ADOPTED_REMAINS], &id[..]].concat();
                put_object(&mut bytes, adopted)?;
                bytes
            }
        };
        Ok(Secret::new(bytes))
    }

    /// # Errors
    /// `key-store-unavailable` for what is not left of a key.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::try_parse(bytes)
            .ok_or_else(|| refusal::sealed("a sealed key is not what is left of one in a token"))
    }

    fn try_parse(bytes: &[u8]) -> Option<Self> {
        let (&[format], rest) = bytes.split_first_chunk::<1>()?;
        let (&id, rest) = rest.split_first_chunk::<16>()?;
        let (remains, rest) = match format {
            FORMAT_OF_REMAINS => (Self::Ours(id), rest),
            FORMAT_OF_IMPORTED_REMAINS => {
                let (version, rest) = rest.split_first_chunk::<4>()?;
                (Self::Imported(id, KeyVersion::new(u32::from_be_bytes(*version))?), rest)
            }
            FORMAT_OF_ADOPTED_REMAINS => {
                let (adopted, rest) = object(rest)?;
                (Self::Adopted(id, adopted), rest)
            }
            _ => return None,
        };
        rest.is_empty().then_some(remains)
    }
}

fn put_object(bytes: &mut Vec<u8>, object: &Adopted) -> Result<(), Error> {
    let Adopted { id, label, private } = object;
    bytes.push(u8::from(*private));
    for name in [id.as_ref(), label.as_bytes()] {
        let length =
            u16::try_from(name.len()).map_err(|_| refusal::device("an object's name is longer than any"))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(name);
    }
    Ok(())
}

/// An object, and what follows it.
fn object(bytes: &[u8]) -> Option<(Adopted, &[u8])> {
    let ([private @ (0 | 1)], rest) = bytes.split_first_chunk::<1>()? else { return None };
    let (id, rest) = named(rest)?;
    let (label, rest) = named(rest)?;
    let label = core::str::from_utf8(label).ok()?;
    Some((Adopted { id: id.into(), label: label.into(), private: *private == 1 }, rest))
}

/// What follows its length, and what follows that.
fn named(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_left_of_a_key_is_no_key_and_a_key_is_not_what_is_left() {
        let object = || Adopted { id: [1, 2].into(), label: "old".into(), private: true };
        let version = KeyVersion::new(2);
        for (adopted, tried) in [(None, None), (None, version), (Some(object()), None)] {
            let paddings = Paddings::default();
            let imported = tried.is_some();
            let reference = || Reference {
                id: [7; 16],
                paddings,
                copy: None,
                adopted: adopted.is_some().then(object),
                emergency: None,
                imported,
                spki: vec![1],
            };
            assert!(Remains::parse(reference().to_bytes().unwrap().expose()).is_err());
            let remains = reference().into_remains(tried);
            let bytes = remains.to_bytes().unwrap();
            assert!(Reference::parse(bytes.expose()).is_err());
            assert!(Remains::parse(&[bytes.expose(), &[0]].concat()).is_err());
            for length in 0..bytes.expose().len() {
                assert!(Remains::parse(&bytes.expose()[..length]).is_err());
            }
            assert_eq!(Remains::parse(bytes.expose()).unwrap(), remains);
        }
    }

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
                let written = reference.to_bytes().unwrap();
                prop_assert_eq!(written.expose(), bytes);
            }
        }

        #[test]
        fn what_is_written_is_read_again(
            id: [u8; 16],
            whole: u16,
            bare: bool,
            copy: Option<([u8; 16], [u8; 32], Vec<u8>)>,
            adopted: Option<(Box<[u8]>, Box<str>, bool)>,
            emergency: Option<Vec<u8>>,
            imported: bool,
            spki: Vec<u8>,
        ) {
            let copy = copy.filter(|_| adopted.is_none());
            let emergency = emergency.filter(|_| adopted.is_none());
            let imported = imported && adopted.is_none() && emergency.is_none();
            let copy = copy.map(|(kek, shown, wrapped)| Copy { kek, shown, wrapped });
            let adopted = adopted.map(|(id, label, private)| Adopted { id, label, private });
            let paddings = Paddings { whole, bare };
            let reference = Reference { id, paddings, copy, adopted, emergency, imported, spki };
            prop_assert_eq!(Reference::parse(reference.to_bytes().unwrap().expose()).unwrap(), reference);
        }
    }
}
