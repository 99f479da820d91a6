//! What recipients and identities say: a tenant's key, and what files are bound to beside it. Neither holds a secret.
//!
//! ```text
//! 0x01 ‖ len8(tenant) ‖ tenant ‖ len8(key) ‖ key ‖ count8 of pairs ‖ for each, sorted by name: len16(name) ‖ name ‖ len16(value) ‖ value
//! ```
//!
//! in Bech32 (BIP-173, without its length limit, as age does): `age1holdfast1…` and, in upper case, `AGE-PLUGIN-HOLDFAST-1…`.

use crate::failure::Failure;
use crate::input;
use bech32::Hrp;
use holdfast_core::{KeyName, TenantId};

const VERSION: u8 = 1;
const RECIPIENT: &str = "age1holdfast";
const IDENTITY: &str = "AGE-PLUGIN-HOLDFAST-";
/// Context names that Holdfast itself gives to a file's key begin so.
pub(crate) const RESERVED: &str = "holdfast-";

/// A key that files are encrypted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyName,
    /// Pairs that files are bound to, sorted by name.
    pub(crate) context: Vec<(String, String)>,
}

/// The Bech32 checksum without a limit of length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bech32Long {}

impl bech32::Checksum for Bech32Long {
    type MidstateRepr = u32;
    type CorrectionField = <bech32::Bech32 as bech32::Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = bech32::Bech32::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = bech32::Bech32::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}

impl Name {
    /// A key with the pairs that files are bound to, in any order.
    pub(crate) fn new(
        tenant: TenantId,
        key: KeyName,
        context: Vec<(String, String)>,
    ) -> Result<Self, Failure> {
        if let Some((name, _)) = context.iter().find(|(name, _)| name.starts_with(RESERVED)) {
            return Err(Failure::usage(format!("a file's context cannot have `{name}`"))
                .remedy(format!("names that begin with `{RESERVED}` are Holdfast's own; choose another")));
        }
        let context = input::context(&context)?;
        let context = context.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Self { tenant, key, context })
    }

    /// Its bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self { tenant, key, context } = self;
        let mut bytes = vec![VERSION];
        for name in [tenant.as_str(), key.as_str()] {
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.push(u8::try_from(context.len()).unwrap_or(u8::MAX));
        for text in context.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// From its bytes; `None` for anything that [`Self::to_bytes`] does not make.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let tenant = short(&mut rest)?.parse().ok()?;
        let key = short(&mut rest)?.parse().ok()?;
        let (count, mut rest) = rest.split_first()?;
        let mut context = vec![];
        for _ in 0..*count {
            context.push((long(&mut rest)?.to_owned(), long(&mut rest)?.to_owned()));
        }
        let name = Self::new(tenant, key, context).ok()?;
        // One form only: what is not written this way was not written by us.
        (name.to_bytes() == bytes).then_some(name)
    }

    /// The recipient, by which age encrypts.
    pub(crate) fn recipient(&self) -> String {
        encode(RECIPIENT, &self.to_bytes())
    }

    /// The identity, by which age decrypts.
    pub(crate) fn identity(&self) -> String {
        encode(IDENTITY, &self.to_bytes()).to_uppercase()
    }

    /// From a recipient.
    pub(crate) fn from_recipient(text: &str) -> Result<Self, Failure> {
        let decode = || {
            let parsed = bech32::primitives::decode::CheckedHrpstring::new::<Bech32Long>(text).ok()?;
            (parsed.hrp().to_lowercase() == RECIPIENT)
                .then(|| Self::from_bytes(&parsed.byte_iter().collect::<Vec<_>>()))?
        };
        decode().ok_or_else(|| {
            Failure::usage("this is no recipient of Holdfast")
                .remedy("get it with `holdfast key recipient KEY`")
        })
    }
}

fn encode(hrp: &str, bytes: &[u8]) -> String {
    let hrp = Hrp::parse_unchecked(hrp);
    // Without a limit of length, nothing is left to refuse.
    bech32::encode_lower::<Bech32Long>(hrp, bytes).unwrap_or_default()
}

fn short<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let (length, after) = rest.split_first()?;
    take(rest, after, usize::from(*length))
}

fn long<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    take(rest, after, usize::from(u16::from_be_bytes(*length)))
}

fn take<'b>(rest: &mut &'b [u8], after: &'b [u8], length: usize) -> Option<&'b str> {
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(context: &[(&str, &str)]) -> Name {
        let context = context.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Name::new("acme".parse().unwrap(), "payroll".parse().unwrap(), context).unwrap()
    }

    /// The vectors of docs/files.md.
    #[test]
    fn the_published_vectors() {
        let document = include_str!("../../../../docs/files.md");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for name in [name(&[]), name(&[("purpose", "billing")])] {
            for text in [hex(&name.to_bytes()), name.recipient(), name.identity()] {
                assert!(document.contains(&text), "{text}");
            }
        }
    }

    #[test]
    fn pairs_are_sorted_and_names_of_ours_refused() {
        assert_eq!(name(&[("b", "2"), ("a", "1")]), name(&[("a", "1"), ("b", "2")]));
        let reserved = vec![("holdfast-purpose".to_owned(), "x".to_owned())];
        assert!(Name::new("acme".parse().unwrap(), "k".parse().unwrap(), reserved).is_err());
    }

    #[test]
    fn another_plugins_recipient_is_none_of_ours() {
        for bad in [
            "",
            "age1holdfast",
            "age1yubikey1qqqq",
            "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqsxj2pdh",
        ] {
            assert!(Name::from_recipient(bad).is_err(), "{bad}");
        }
        let mut wrong = name(&[]).recipient();
        wrong.pop();
        assert!(Name::from_recipient(&wrong).is_err());
    }

    proptest! {
        #[test]
        fn leads_back(pairs in proptest::collection::btree_map("[a-z]{1,9}", ".{0,20}", 0..5)) {
            let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let name = name(&pairs);
            prop_assert_eq!(Name::from_recipient(&name.recipient()).unwrap(), name.clone());
            prop_assert_eq!(Name::from_bytes(&name.to_bytes()), Some(name));
        }

        #[test]
        fn any_bytes_are_a_name_or_refused(bytes: Vec<u8>) {
            if let Some(name) = Name::from_bytes(&bytes) {
                prop_assert_eq!(name.to_bytes(), bytes);
            }
        }
    }
}
