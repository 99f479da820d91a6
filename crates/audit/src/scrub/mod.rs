//! Reads everything that lies there once more and names all that is wrong, not only the first: for `holdfast doctor --deep` and the
//! background scrub of a serving gateway.
//!
//! Each piece is judged by its neighbours, so that one damaged file is one finding: entries by their leaf hashes, a tile by the entries
//! below it and by the hash of it in the row above, the root by the signed checkpoint.

mod tree;

pub use crate::known::Known;

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, RealDisk};
use crate::files::LogFiles;
use crate::key::VerifierKey;
use crate::log::Recovered;
use crate::refusal::Refusal;
use crate::wal::{Segments, inspect};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes read at once where nothing has to be understood.
const CHUNK: usize = 64 << 10;

/// Whoever looks on ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A reading of everything: who is told of each piece that was read, and of each that is wrong.
pub struct Scrub<'a> {
    pace: &'a mut dyn FnMut(u64) -> bool,
    found: &'a mut dyn FnMut(Refusal),
}

impl<'a> Scrub<'a> {
    /// `pace` is told of bytes that were read; it may take its time, and ends the reading with `false`. `found` is told of what is
    /// wrong. Both are called on the reading thread.
    pub fn new(pace: &'a mut dyn FnMut(u64) -> bool, found: &'a mut dyn FnMut(Refusal)) -> Self {
        Self { pace, found }
    }

    /// Reads a log's directory, which may grow meanwhile. Without a key the one beside the log is believed. Gives the checkpoint
    /// that it was read by, if there is a good one.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn log(&mut self, dir: &Path, key: Option<&VerifierKey>) -> Result<Option<Checkpoint>, Stopped> {
        self.log_on(Arc::new(RealDisk), dir, key)
    }

    /// The same on any [`Disk`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn log_on(
        &mut self,
        disk: Arc<dyn Disk>,
        dir: &Path,
        key: Option<&VerifierKey>,
    ) -> Result<Option<Checkpoint>, Stopped> {
        tree::read(self, &LogFiles::new(disk, dir), key)
    }

    /// Reads a file of which nothing more can be said than whether it can be read: openings.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn file(&mut self, path: &Path) -> Result<(), Stopped> {
        let mut buffer = vec![0; CHUNK];
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            // Erased or pruned meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.wrong(Refusal::io(path, error)),
        };
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => self.took(len)?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return self.wrong(Refusal::io(path, error)),
            }
        }
    }

    fn took(&mut self, bytes: usize) -> Result<(), Stopped> {
        if (self.pace)(u64::try_from(bytes).unwrap_or(u64::MAX)) { Ok(()) } else { Err(Stopped) }
    }

    fn wrong(&mut self, refusal: Refusal) -> Result<(), Stopped> {
        (self.found)(refusal);
        self.took(0)
    }

    /// What was read, or nothing if it was wrong.
    fn note<T>(&mut self, read: Result<T, Refusal>) -> Option<T> {
        read.map_err(|refusal| (self.found)(refusal)).ok()
    }
}

/// Reads what is noted in a data directory of how many entries each log has at least.
///
/// # Errors
/// What the next start would refuse.
pub fn known(data: &Path) -> Result<Known, Refusal> {
    Known::load(&RealDisk, data)
}

/// Reads the write-ahead file of a data directory that nobody serves, from its first batch to its last, and changes nothing. A torn
/// tail that the next start will cut is told as [`Recovered::cut_bytes`].
///
/// # Errors
/// What the next start would refuse.
pub fn write_ahead_file(data: &Path) -> Result<Recovered, Refusal> {
    write_ahead_file_on(Arc::new(RealDisk), data)
}

/// The same on any [`Disk`].
///
/// # Errors
/// What the next start would refuse.
pub fn write_ahead_file_on(disk: Arc<dyn Disk>, data: &Path) -> Result<Recovered, Refusal> {
    let segments = Segments { disk, dir: data.join("wal"), len: 0 };
    inspect(&segments).map(|found| Recovered::of(&found))
}
