//! An archive in memory.

use super::lock;
use holdfast_core::archive::{Bundle, Bundled, BundledVersion};
use holdfast_core::command::VerifiedBackup;
use holdfast_core::pipeline::Intent;
use holdfast_core::port::{Archive, Archived, Committed};
use holdfast_core::{Error, ErrorKind, Stage};
use std::sync::{Arc, Mutex};

/// What shows that one was opened.
pub const PROOF: [u8; 32] = [9; 32];

/// Backups that nobody keeps: each is of the commit that the test says.
#[derive(Debug, Clone, Default)]
pub struct Vault(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    written: usize,
    /// The commit that the next one holds; none: it fails.
    holds: Option<u64>,
    keep_days: Option<u32>,
    holds_back: bool,
}

impl Vault {
    /// The next backup holds this commit.
    pub fn hold(&self, sequence: u64) {
        lock(&self.0).holds = Some(sequence);
    }

    /// Backups are kept for so many days from now on.
    pub fn keep(&self, days: Option<u32>) {
        lock(&self.0).keep_days = days;
    }

    /// New versions wait for one.
    pub fn hold_back(&self) {
        lock(&self.0).holds_back = true;
    }

    /// How many have been written.
    pub fn written(&self) -> usize {
        lock(&self.0).written
    }
}

impl Archive for Vault {
    async fn write(&self, _intent: &Intent) -> Result<Archived, Error> {
        let mut inner = lock(&self.0);
        let Some(sequence) = inner.holds else {
            return Err(Error::new(
                ErrorKind::StateUnavailable,
                Stage::Perform,
                "the archive was told to fail",
            ));
        };
        inner.written += 1;
        let state = Committed { sequence, digest: [0; 32] };
        let name = format!("backup-{}", inner.written).into();
        Ok(Archived { name, bytes: 3, digest: [7; 32], state, keep_days: inner.keep_days })
    }

    fn check(&self, verified: &VerifiedBackup) -> Result<(), Error> {
        match verified.proof == PROOF {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Integrity, Stage::Perform, "the proof is another one")),
        }
    }

    /// The code, and then the versions: number, length, what is sealed.
    fn enclose(&self, bundled: &Bundled<'_>) -> Result<Bundle, Error> {
        let mut bytes = bundled.code.to_vec();
        for BundledVersion { number, sealed, .. } in &bundled.versions {
            bytes.extend(number.get().to_be_bytes());
            bytes.extend(u32::try_from(sealed.len()).unwrap().to_be_bytes());
            bytes.extend(sealed);
        }
        Ok(Bundle { bytes, digest: [8; 32], keep_days: lock(&self.0).keep_days })
    }

    fn holds_back(&self) -> bool {
        lock(&self.0).holds_back
    }
}
