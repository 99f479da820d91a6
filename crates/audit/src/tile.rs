//! Tiles (C2SP tlog-tiles v0.1.0): their paths, and the bytes of hash tiles and entry bundles.

use crate::merkle::Hash;

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Bytes of a hash.
pub const HASH_LEN: usize = 32;
/// Largest entry, in bytes: its length stands in two.
pub const MAX_ENTRY: usize = 65_535;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Hashes of complete subtrees of 256^level leaves, level 0 to 7 in a u64's worth of entries.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// One tile: kind, number in its row, and width (256 when full).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its number from the left.
    pub number: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// Whether it will never grow.
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// The same tile when full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: 256, ..self }
    }

    /// The path below the log's directory: `tile/0/x001/x234/067`, `tile/entries/000.p/7`.
    #[must_use]
    pub fn path(&self) -> String {
        let stem = self.stem();
        if self.is_full() { stem } else { format!("{stem}.p/{}", self.width) }
    }

    /// The path of the directory that holds the tile's partial forms.
    #[must_use]
    pub fn partial_dir(&self) -> String {
        format!("{}.p", self.stem())
    }

    /// The tile of a path below the log's directory; nothing unless [`Tile::path`] would write it so.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let (row, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match row {
            "entries" => Kind::Entries,
            level => Kind::Hashes(level.parse().ok().filter(|level| *level < 8)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| *width < 256)?),
            None => (rest, 256),
        };
        let mut groups = number.split('/').map(|group| group.strip_prefix('x').unwrap_or(group));
        let number = groups.try_fold(0_u64, |number, group| {
            number.checked_mul(1000)?.checked_add(group.parse().ok().filter(|group| *group < 1000)?)
        })?;
        let tile = Self { kind, number, width };
        (width > 0 && tile.path() == path).then_some(tile)
    }

    fn stem(&self) -> String {
        let row = match self.kind {
            Kind::Hashes(level) => format!("tile/{level}"),
            Kind::Entries => "tile/entries".to_owned(),
        };
        format!("{row}/{}", number_path(self.number))
    }

    /// All tiles of one kind that a tree of `size` leaves has, left to right; the last may be partial.
    pub fn row(kind: Kind, size: u64) -> impl Iterator<Item = Self> {
        let hashes = match kind {
            Kind::Entries => size,
            Kind::Hashes(level) => row_len(level, size),
        };
        let full = (0..hashes / WIDTH).map(move |number| Self { kind, number, width: 256 });
        full.chain(Self::row_end(kind, size))
    }

    /// The partial tile at the end of a row, if the row has one.
    #[must_use]
    pub fn row_end(kind: Kind, size: u64) -> Option<Self> {
        let hashes = match kind {
            Kind::Entries => size,
            Kind::Hashes(level) => row_len(level, size),
        };
        let width = u16::try_from(hashes % WIDTH).unwrap_or(0);
        (width > 0).then_some(Self { kind, number: hashes / WIDTH, width })
    }

    /// The tile of this kind that holds position `at` of its row, as wide as a tree of `size` leaves has it.
    #[must_use]
    pub fn holding(kind: Kind, at: u64, size: u64) -> Option<Self> {
        let hashes = match kind {
            Kind::Entries => size,
            Kind::Hashes(level) => row_len(level, size),
        };
        let number = at / WIDTH;
        let width = hashes.checked_sub(number * WIDTH)?.min(WIDTH);
        (at < hashes).then_some(Self { kind, number, width: u16::try_from(width).unwrap_or(0) })
    }
}

/// How many hashes of complete subtrees of 256^level leaves a tree of `size` leaves has.
#[must_use]
pub fn row_len(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * 8).unwrap_or(0)
}

/// The number of tile rows of a tree.
#[must_use]
pub fn levels(size: u64) -> u8 {
    (0..8).take_while(|level| row_len(*level, size) > 0).count().try_into().unwrap_or(8)
}

/// A number in groups of three digits, all but the last marked `x`: 1234067 → `x001/x234/067`.
pub(crate) fn number_path(number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// The bytes of a hash tile.
#[must_use]
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads a hash tile of at least `width` hashes and gives the first `width`. Nothing if it is too short or ragged.
#[must_use]
pub fn decode_hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_LEN>();
    let hashes = hashes.get(..usize::from(width)).filter(|_| rest.is_empty())?;
    Some(hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// Appends an entry to a bundle: two bytes of length, then its bytes. Nothing is appended, and `false` given, if it
/// is longer than [`MAX_ENTRY`].
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(len) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entries of a bundle, in order; ends early, with an error, where the bytes don't fit the form.
#[derive(Clone, Debug)]
pub struct Entries<'a>(&'a [u8]);

/// A bundle ends in the middle of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ragged;

impl<'a> Entries<'a> {
    /// Reads a bundle.
    #[must_use]
    pub fn new(bundle: &'a [u8]) -> Self {
        Self(bundle)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], Ragged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.0.split_first_chunk::<2>().and_then(|(len, rest)| {
            let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            self.0 = rest;
            Some(entry)
        });
        Some(entry.ok_or_else(|| {
            self.0 = &[];
            Ragged
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(size: u64) -> Vec<String> {
        (0..levels(size))
            .filter_map(|level| Tile::row(Kind::Hashes(level), size).last())
            .map(|t| t.path())
            .collect()
    }

    #[test]
    fn paths_are_those_of_the_standard() {
        let full = |number| Tile { kind: Kind::Hashes(0), number, width: 256 }.path();
        assert_eq!(full(1_234_067), "tile/0/x001/x234/067");
        assert_eq!(full(0), "tile/0/000");
        assert_eq!(full(1000), "tile/0/x001/000");
        assert_eq!(Tile { kind: Kind::Entries, number: 0, width: 7 }.path(), "tile/entries/000.p/7");
        assert_eq!(paths(70_000), ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert_eq!(paths(256), ["tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(paths(7), ["tile/0/000.p/7"]);
        assert_eq!(paths(0), Vec::<String>::new());
        assert_eq!(Tile::row(Kind::Entries, 70_000).count(), 274);
        assert_eq!([0, 1, 255, 256, 65_535, 65_536, u64::MAX].map(levels), [0, 1, 1, 2, 2, 3, 8]);
    }

    #[test]
    fn a_path_is_read_as_it_is_written_and_no_other_way() {
        for (kind, number, width) in [
            (Kind::Hashes(0), 1_234_067, 256),
            (Kind::Hashes(7), 0, 1),
            (Kind::Entries, 999, 255),
            (Kind::Entries, u64::MAX / 256, 3),
        ] {
            let tile = Tile { kind, number, width };
            assert_eq!(Tile::from_path(&tile.path()), Some(tile));
        }
        for wrong in [
            "",
            "checkpoint",
            "tile/0",
            "tile/8/000",
            "tile/00/000",
            "tile/+1/000",
            "tile/0/1",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/x001/x000",
            "tile/0/001/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/07",
            "tile/0/000.p/",
            "tile/entries/000/../../x",
            "tile/entries/x999999999999/000",
        ] {
            assert_eq!(Tile::from_path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_bundle_gives_back_its_entries_and_refuses_a_ragged_end() {
        let mut bundle = Vec::new();
        for entry in [b"one".as_slice(), b"", &[7; MAX_ENTRY]] {
            assert!(push_entry(&mut bundle, entry));
        }
        assert!(!push_entry(&mut bundle, &[7; MAX_ENTRY + 1]));
        let lens: Vec<_> = Entries::new(&bundle).map(|entry| entry.unwrap().len()).collect();
        assert_eq!(lens, [3, 0, MAX_ENTRY]);
        bundle.pop();
        assert_eq!(Entries::new(&bundle).last(), Some(Err(Ragged)));
        assert_eq!(Entries::new(&bundle).count(), 3);
    }
}
