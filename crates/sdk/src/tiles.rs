//! Which files a log of a given size consists of (C2SP tlog-tiles v0.1.0).

/// Hashes in a full tile, entries in a full bundle.
const WIDTH: u64 = 256;
/// Bytes of a hash.
const HASH: u64 = 32;
/// Bytes of an entry's length, which stands before it.
const LENGTH: u64 = 2;

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// `tile/0`, `tile/entries/x001/234` and so on.
    stem: String,
    /// How much of it a log of the size asked for has: 1 to 256.
    width: u64,
    /// The number of the entry behind its last one, if it is a bundle of entries.
    end: Option<u64>,
}

impl File {
    /// Where the full file lies.
    pub(crate) fn full(&self) -> String {
        self.stem.clone()
    }

    /// Where it lies at that size: partial files have a name of their own.
    pub(crate) fn path(&self) -> String {
        if self.is_full() { self.full() } else { format!("{}.p/{}", self.stem, self.width) }
    }

    /// Whether all that it holds are entries before this one.
    pub(crate) fn is_before(&self, first: u64) -> bool {
        self.end.is_some_and(|end| end <= first)
    }

    /// Whether it may have so many bytes at that size.
    pub(crate) fn may_be(&self, bytes: u64) -> bool {
        self.has(self.width, bytes)
    }

    /// Whether it may have so many bytes in full.
    pub(crate) fn may_be_full(&self, bytes: u64) -> bool {
        self.has(WIDTH, bytes)
    }

    fn has(&self, width: u64, bytes: u64) -> bool {
        match self.end {
            Some(_) => bytes >= width * LENGTH,
            None => bytes == width * HASH,
        }
    }

    /// Whether it will never grow.
    pub(crate) fn is_full(&self) -> bool {
        self.width == WIDTH
    }
}

/// All files of a log of so many entries: bundles first, then rows of hashes from the leaves up.
pub(crate) fn files(size: u64) -> impl Iterator<Item = File> {
    let levels = (0..8_u32).map(move |level| (level.to_string(), size.checked_shr(level * 8).unwrap_or(0)));
    let rows = std::iter::once(("entries".to_owned(), size)).chain(levels);
    rows.flat_map(|(name, length)| {
        (0..length.div_ceil(WIDTH)).map(move |number| File {
            stem: format!("tile/{name}/{}", number_path(number)),
            width: (length - number * WIDTH).min(WIDTH),
            end: (name == "entries").then_some((number + 1) * WIDTH),
        })
    })
}

/// How many files that is.
pub(crate) fn count(size: u64) -> u64 {
    let rows = (0..8_u32).map(|level| size.checked_shr(level * 8).unwrap_or(0));
    rows.chain([size]).map(|length| length.div_ceil(WIDTH)).sum()
}

/// A number in groups of three digits, all but the last marked `x`: 1234067 → `x001/x234/067`.
fn number_path(number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::query::AuditPath;

    #[test]
    fn paths_are_those_of_the_standard() {
        let paths = |size| files(size).map(|file| file.path()).collect::<Vec<_>>();
        assert_eq!(paths(0), Vec::<String>::new());
        assert_eq!(paths(7), ["tile/entries/000.p/7", "tile/0/000.p/7"]);
        assert_eq!(paths(256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        let many = paths(70_000);
        for expected in ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"] {
            assert!(many.iter().any(|path| path == expected), "{expected}");
        }
        assert_eq!(number_path(1_234_067), "x001/x234/067");
    }

    #[test]
    fn what_was_cut_short_is_not_taken_for_the_file() {
        let files: Vec<_> = files(300).collect();
        let of = |path: &str| files.iter().find(|file| file.path() == path).unwrap();
        let (full, partial) = (of("tile/0/000"), of("tile/0/001.p/44"));
        assert_eq!([0, 8191, 8192, 8193].map(|bytes| full.may_be(bytes)), [false, false, true, false]);
        assert_eq!([0, 44 * 32, 8192].map(|bytes| partial.may_be(bytes)), [false, true, false]);
        assert_eq!([0, 44 * 32, 8192].map(|bytes| partial.may_be_full(bytes)), [false, false, true]);
        let (full, partial) = (of("tile/entries/000"), of("tile/entries/001.p/44"));
        assert_eq!([0, 511, 512, 90_000].map(|bytes| full.may_be(bytes)), [false, false, true, true]);
        assert_eq!([0, 87, 88].map(|bytes| partial.may_be(bytes)), [false, false, true]);
    }

    #[test]
    fn the_gateway_knows_every_path_that_is_asked_for() {
        for size in [1, 255, 256, 257, 65_536, 70_000, 300_000] {
            assert_eq!(files(size).count() as u64, count(size));
            for file in files(size) {
                assert!(
                    AuditPath::new(&file.path()).is_some() && AuditPath::new(&file.full()).is_some(),
                    "{file:?}"
                );
            }
        }
    }
}
