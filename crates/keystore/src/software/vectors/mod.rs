//! Published vectors: whole Wycheproof files, through the very functions that the store uses, each file's count asserted and each skip with
//! its reason. Vectors of the RFCs stand beside the code that they are about, and in `rfc`.

mod elliptic;
mod lattice;
mod rfc;
mod rsa;
mod symmetric;

use holdfast_core::{Error, ErrorKind};
use std::collections::BTreeMap;
use wycheproof::TestResult;

/// How many vectors of one file were run, and why the others were not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    run: usize,
    skipped: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub(super) fn skip(&mut self, reason: &'static str, count: usize) {
        *self.skipped.entry(reason).or_default() += count;
    }

    /// One vector whose result is right or refused: valid ones must give it, invalid ones must not, acceptable ones may do either but must
    /// not give anything else.
    pub(super) fn judge<T: PartialEq + core::fmt::Debug>(
        &mut self,
        name: (&str, usize),
        expected: TestResult,
        right: T,
        got: Result<T, Error>,
    ) {
        self.run += 1;
        match (expected, got) {
            (TestResult::Valid, Ok(got)) => assert_eq!(got, right, "{name:?}"),
            (TestResult::Valid, Err(error)) => panic!("{name:?} is valid and was refused: {error}"),
            (TestResult::Invalid, Ok(got)) => panic!("{name:?} is invalid and gave {got:?}"),
            (TestResult::Acceptable, Ok(got)) => assert_eq!(got, right, "{name:?}"),
            (TestResult::Invalid | TestResult::Acceptable, Err(_)) => (),
        }
    }

    pub(super) fn expect(&self, file: &str, run: usize, skipped: &[(&'static str, usize)]) {
        let skipped: BTreeMap<_, _> = skipped.iter().copied().collect();
        assert_eq!((self.run, &self.skipped), (run, &skipped), "{file}");
    }
}

/// That a refusal is the one `integrity` refusal.
pub(super) fn same_refusal<T>(result: Result<T, Error>) -> Result<T, Error> {
    result.inspect_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert_eq!(error.chain(), "the input does not verify");
    })
}

/// A signature's verdict as [`Tally::judge`] wants it.
pub(super) fn verdict(result: Result<bool, Error>) -> Result<(), Error> {
    match result {
        Ok(true) => Ok(()),
        Ok(false) => Err(crate::refusal::integrity()),
        Err(error) => Err(error),
    }
}
