//! Rewrap campaigns: an inventory of ciphertexts, all of it brought under the newest version of a key.
//!
//! Two kinds of inventories, `lines` (JSON lines) and `tree` (a directory of age files). Both judge each item by the header of its ciphertext
//! (`keys`), ask the gateway in batches (`post`), count what came of it (`tally`), list what failed (`list`) and tell it in the end (`report`).

mod evidence;
mod feed;
mod journal;
mod keys;
mod line;
mod lines;
mod lines_work;
mod list;
mod post;
mod report;
mod routes;
mod sheet;
mod stop;
mod tally;
mod tree;
mod tree_work;
mod walk;

pub(crate) use evidence::Reports;
pub(crate) use lines::{Lines, run as run_lines};
pub(crate) use tree::{Tree, run as run_tree};

use crate::failure::Failure;
use std::path::PathBuf;
use std::time::Duration;

/// What every campaign is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How many batches are under way at once.
    pub(crate) workers: usize,
    /// The most items a second, if there is a limit.
    pub(crate) rate: Option<u64>,
    /// Which items are opened again.
    pub(crate) check: Check,
    /// Whether nothing is to be changed.
    pub(crate) dry_run: bool,
    /// Where every item that failed is listed, one JSON object a line.
    pub(crate) failures: Option<PathBuf>,
    /// Whether the gateway is told at the end what is still needed.
    pub(crate) record: bool,
    /// Where the report goes beside stdout, as JSON.
    pub(crate) report: Option<PathBuf>,
    /// Whether files that exist may be replaced.
    pub(crate) force: bool,
    /// How long to wait for a gateway that does not answer.
    pub(crate) patience: Duration,
}

impl Settings {
    /// Refuses before the work what would be refused after it.
    fn check(&self) -> Result<(), Failure> {
        match self.report.as_deref().filter(|path| !self.force && path.symlink_metadata().is_ok()) {
            Some(path) => Err(Failure::file("write", path, &std::io::ErrorKind::AlreadyExists.into())),
            None => Ok(()),
        }
    }
}

/// Which items are opened again, to compare what old and new ciphertext hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// None.
    Nothing,
    /// So many, spread evenly.
    Sample(u64),
    /// All, those that were left alone too.
    Full,
}

impl Check {
    /// How many of so many items that is.
    fn least(self, total: u64) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Full => total,
            Self::Sample(wanted) => wanted.min(total),
        }
    }

    /// Whether item `index` of `total` is one of those.
    fn takes(self, index: u64, total: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Full => true,
            Self::Sample(wanted) => {
                let [index, total, wanted] = [index, total.max(1), wanted].map(u128::from);
                (index + 1) * wanted / total > index * wanted / total
            }
        }
    }
}

impl std::str::FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = |text: &str| text.parse().ok().filter(|count| *count > 0).map(Self::Sample);
        match text.split_once(':') {
            None if text == "full" => Ok(Self::Full),
            Some(("sample", number)) => {
                count(number).ok_or_else(|| "expected `sample:N`, N from 1".to_owned())
            }
            None | Some(_) => Err("expected `full` or `sample:N`".to_owned()),
        }
    }
}

/// An interruption, or a gateway that is gone: what was done is kept, and the same command goes on from there.
fn interrupted(failure: Option<Failure>, how: &str) -> Failure {
    let failure = failure.unwrap_or_else(|| {
        Failure::new(crate::exit::Exit::Unavailable, "interrupted before the inventory was done")
    });
    let remedy = match failure.remedy_text() {
        Some(first) => format!("{first}; then {how}"),
        None => how.to_owned(),
    };
    failure.remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_as_large_as_asked_and_spread() {
        for (wanted, total) in [(1, 1), (1, 1000), (7, 1000), (300, 1000), (1000, 1000), (5000, 1000)] {
            let taken: Vec<u64> =
                (0..total).filter(|index| Check::Sample(wanted).takes(*index, total)).collect();
            assert_eq!(taken.len() as u64, wanted.min(total), "{wanted} of {total}");
            assert_eq!(taken.len() as u64, Check::Sample(wanted).least(total));
        }
        assert!((0..9).all(|index| Check::Full.takes(index, 9) && !Check::Nothing.takes(index, 9)));
    }

    #[test]
    fn words_are_parsed() {
        assert_eq!("full".parse(), Ok(Check::Full));
        assert_eq!("sample:5".parse(), Ok(Check::Sample(5)));
        for bad in ["", "sample", "sample:0", "sample:x", "all"] {
            assert!(bad.parse::<Check>().is_err(), "{bad}");
        }
    }
}
