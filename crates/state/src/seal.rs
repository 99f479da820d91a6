//! What only the holder of the state key can compute: a tag for each row, and one digest over all rows.
//!
//! The digest is a keyed multiset hash: the sum modulo 2^256 of a pseudorandom value for each row. A sum of that width alone would not do,
//! since whoever sees many of them can solve for another set of rows with the same sum; so no sum leaves this process. On disk it is masked
//! with a pseudorandom value of its sequence number (MSet-Add-Hash: Clarke, Devadas, van Dijk, Gassend, Suh, "Incremental Multiset Hash
//! Functions", ASIACRYPT 2003), and what the log commits is a MAC of it.

use crate::fault::Fault;
use aws_lc_rs::{hkdf, hmac};
use holdfast_core::Secret;

/// Length of the state key in bytes.
pub(crate) const KEY_LEN: usize = 32;
/// Length of a row's tag in bytes: HMAC-SHA-256, not truncated.
pub(crate) const TAG_LEN: usize = 32;

/// A row's tag.
pub(crate) type Tag = [u8; TAG_LEN];

/// The keys derived from the state key, one for each use.
pub(crate) struct Seal {
    row: hmac::Key,
    element: hmac::Key,
    mask: hmac::Key,
    digest: hmac::Key,
}

impl Seal {
    /// Derives the keys (HKDF-SHA-256, RFC 5869).
    pub(crate) fn new(key: &Secret) -> Result<Self, Fault> {
        let wrong = || Fault::Wrong {
            why: format!("the state key has {} bytes instead of {KEY_LEN}", key.len()),
            remedy: "restore the root key file that this data directory was made with",
        };
        if key.len() != KEY_LEN {
            return Err(wrong());
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"holdfast/state/1").extract(key.expose());
        let derive = |label: &'static [u8]| {
            let info = [label];
            let bytes = Secret::fill_with(KEY_LEN, |out| root.expand(&info, hkdf::HKDF_SHA256)?.fill(out))
                .map_err(|_| wrong())?;
            Ok::<_, Fault>(hmac::Key::new(hmac::HMAC_SHA256, bytes.expose()))
        };
        Ok(Self {
            row: derive(b"row")?,
            element: derive(b"element")?,
            mask: derive(b"mask")?,
            digest: derive(b"digest")?,
        })
    }

    /// The tag of a row: its table and all of its columns, none of which can be mistaken for part of another.
    pub(crate) fn tag(&self, table: &'static str, columns: &[&[u8]]) -> Tag {
        let mut context = hmac::Context::with_key(&self.row);
        framed(&mut context, table.as_bytes());
        columns.iter().for_each(|column| framed(&mut context, column));
        bytes(&context.sign())
    }

    /// What a row adds to the digest. Its tag stands for the row, so a row MUST have been checked before it is taken out.
    pub(crate) fn element(&self, tag: &Tag) -> Sum {
        Sum::from_bytes(&bytes(&hmac::sign(&self.element, tag)))
    }

    /// What hides a sum on disk; never the same for two sequence numbers of one ledger.
    pub(crate) fn mask(&self, ledger: &'static str, sequence: u64) -> Sum {
        let mut context = hmac::Context::with_key(&self.mask);
        framed(&mut context, ledger.as_bytes());
        framed(&mut context, &sequence.to_be_bytes());
        Sum::from_bytes(&bytes(&context.sign()))
    }

    /// What may be published of a set of rows at a sequence number.
    pub(crate) fn digest(&self, sequence: u64, set: &RowSet) -> [u8; 32] {
        let RowSet { rows, sum } = set;
        let mut context = hmac::Context::with_key(&self.digest);
        framed(&mut context, &sequence.to_be_bytes());
        framed(&mut context, &rows.to_be_bytes());
        framed(&mut context, &sum.to_bytes());
        bytes(&context.sign())
    }
}

fn framed(context: &mut hmac::Context, part: &[u8]) {
    let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
    context.update(&length.to_be_bytes());
    context.update(part);
}

fn bytes(tag: &hmac::Tag) -> [u8; 32] {
    tag.as_ref().first_chunk::<32>().copied().unwrap_or_default()
}

/// Compares a stored tag with the computed one in constant time.
pub(crate) fn same_tag(stored: &[u8], computed: &Tag) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(stored, computed).is_ok()
}

/// A number modulo 2^256, least significant limb first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    /// From 32 bytes, least significant first.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*chunk);
        }
        Self(limbs)
    }

    /// Its 32 bytes, least significant first.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = limb.to_le_bytes();
        }
        bytes
    }

    /// The sum modulo 2^256.
    pub(crate) fn plus(self, other: Self) -> Self {
        let mut carry = false;
        let mut limbs = [0; 4];
        for (limb, (a, b)) in limbs.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            let (sum, over) = a.overflowing_add(b);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = over || again;
        }
        Self(limbs)
    }

    /// The difference modulo 2^256.
    pub(crate) fn minus(self, other: Self) -> Self {
        // −x = ¬x + 1.
        let complement = Self(other.0.map(|limb| !limb));
        self.plus(complement).plus(Self([1, 0, 0, 0]))
    }
}

/// A set of rows, as far as the digest knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RowSet {
    /// How many.
    pub(crate) rows: u64,
    /// The sum of their elements.
    pub(crate) sum: Sum,
}

impl RowSet {
    /// Adds a row.
    pub(crate) fn add(&mut self, element: Sum) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.plus(element);
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, element: Sum) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.minus(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal::new(&Secret::new(vec![7; KEY_LEN])).unwrap()
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for length in [0, 16, 31, 33] {
            assert!(Seal::new(&Secret::new(vec![7; length])).is_err());
        }
    }

    #[test]
    fn columns_are_not_mistaken_for_one_another() {
        let seal = seal();
        let tag = seal.tag("record", &[b"ab", b"c"]);
        assert_ne!(tag, seal.tag("record", &[b"a", b"bc"]));
        assert_ne!(tag, seal.tag("record", &[b"ab", b"c", b""]));
        assert_ne!(tag, seal.tag("budget", &[b"ab", b"c"]));
        assert_eq!(tag, seal.tag("record", &[b"ab", b"c"]));
    }

    /// The keys and their use are part of the format: a change here makes every existing directory unreadable.
    /// Expected values from Python's `hmac` and `hashlib`.
    #[test]
    fn the_derivation_does_not_change() {
        let seal = seal();
        assert_eq!(
            hex(&seal.tag("record", &[b"a"])),
            "06b8df822e2f9ea94819388d2dbeae2a672c1b859f6ff801f1ec9efe7080e69d"
        );
        assert_eq!(
            hex(&seal.digest(1, &RowSet::default())),
            "e86ff70cda0b0a906cfb146c7b6b086df2eb05b48369749ab36b957687a33cd5"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn sums_carry_and_borrow() {
        let max = Sum([u64::MAX; 4]);
        let one = Sum([1, 0, 0, 0]);
        assert_eq!(max.plus(one), Sum::default());
        assert_eq!(Sum::default().minus(one), max);
        assert_eq!(Sum([u64::MAX, 0, 0, 0]).plus(one), Sum([0, 1, 0, 0]));
    }

    proptest! {
        #[test]
        fn what_is_added_can_be_taken_out_in_any_order(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
            let [a, b, c] = [a, b, c].map(|bytes| Sum::from_bytes(&bytes));
            let mut set = RowSet::default();
            [a, b, c].into_iter().for_each(|x| set.add(x));
            [b, c].into_iter().for_each(|x| set.remove(x));
            prop_assert_eq!(set, RowSet { rows: 1, sum: a });
            prop_assert_eq!(Sum::from_bytes(&a.to_bytes()), a);
        }
    }
}
