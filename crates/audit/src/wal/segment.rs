//! Segment files: their names, how they are made, found again and used again.

use crate::disk::{Access, Disk, File};
use crate::refusal::Refusal;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment's file name.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| segment_name(*number) == name)
}

/// The directory of segments.
#[derive(Clone)]
pub(crate) struct Segments {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Bytes of a segment.
    pub(crate) len: u64,
}

impl Segments {
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(segment_name(number))
    }

    /// The numbers that exist, ascending. Half-made segments are removed.
    ///
    /// # Errors
    /// Those of the disk, or a refusal of a name that is none of ours.
    pub(crate) fn list(&self) -> Result<Vec<u64>, Refusal> {
        for name in self.names()?.iter().filter(|name| name.ends_with(".tmp")) {
            let path = self.dir.join(name);
            self.disk.remove_file(&path).map_err(|error| Refusal::io(&path, error))?;
        }
        self.numbers()
    }

    /// The same, removing nothing.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, Refusal> {
        let mut numbers: Vec<_> = self.names()?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn names(&self) -> Result<Vec<String>, Refusal> {
        self.disk.list(&self.dir).map_err(|error| Refusal::io(&self.dir, error))
    }

    pub(crate) fn open(&self, number: u64, access: Access) -> io::Result<Box<dyn File>> {
        self.disk.open(&self.path(number), access)
    }

    /// Makes a segment of zeros that is wholly on disk, but for its name.
    pub(crate) fn create(&self, number: u64) -> io::Result<()> {
        let path = self.path(number);
        let temporary = path.with_extension("wal.tmp");
        let made = self.create_at(&temporary, &path);
        if made.is_err() {
            // A half-made file would keep the space that others may be waiting for.
            drop(self.disk.remove_file(&temporary));
        }
        made
    }

    fn create_at(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        let file = self.disk.open(temporary, Access::Create)?;
        file.allocate(self.len)?;
        file.sync_data()?;
        drop(file);
        self.disk.rename(temporary, path)
    }

    /// Gives a segment that is no longer needed a new number. Its batches keep the old one, by which they are known
    /// to be over.
    pub(crate) fn recycle(&self, from: u64, to: u64) -> io::Result<()> {
        self.disk.rename(&self.path(from), &self.path(to))
    }

    pub(crate) fn remove(&self, number: u64) -> io::Result<()> {
        self.disk.remove_file(&self.path(number))
    }

    /// Makes the names durable that were made, changed or removed.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.dir)
    }
}
