//! The erasable sidecar: for each entry the 32-byte key under which its guessable values are committed, outside the
//! log's directory. Without the key the commitments say nothing; the tree does not notice that it is gone.
//!
//! Files of 65,536 keys, named as tiles are numbered; key `i` stands at byte `32 × (i mod 65,536)` of file
//! `i / 65,536`. Zeros mean that there is none, or none any more.

use crate::disk::{Access, Disk, File, create_dirs, read_full};
use crate::refusal::Refusal;
use crate::tile::number_path;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PER_FILE: u64 = 65_536;
const LEN: u64 = 32;

/// The openings of one log.
#[derive(Clone)]
pub struct Openings {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Openings {
    /// Those in a directory.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_path_buf() }
    }

    fn place(&self, index: u64) -> (PathBuf, u64) {
        (self.dir.join(number_path(index / PER_FILE)), index % PER_FILE * LEN)
    }

    /// The opening of an entry, if it had one that was not erased.
    ///
    /// # Errors
    /// A [`Refusal`] if the file can't be read.
    pub fn read(&self, index: u64) -> Result<Option<[u8; 32]>, Refusal> {
        let (path, offset) = self.place(index);
        let file = match self.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Refusal::io(&path, error)),
        };
        let mut opening = [0; 32];
        let len = read_full(&*file, &mut opening, offset).map_err(|error| Refusal::io(&path, error))?;
        Ok((len == opening.len() && opening != [0; 32]).then_some(opening))
    }

    /// Erases the opening of an entry for good: what the entry commits to can't be shown any more. A copy stays in
    /// the write-ahead file until its segment is written over.
    ///
    /// # Errors
    /// A [`Refusal`] if the file can't be written; the opening may then still be there.
    pub fn erase(&self, index: u64) -> Result<(), Refusal> {
        let (path, offset) = self.place(index);
        let erase = || match self.disk.open(&path, Access::Write) {
            Ok(file) if offset < file.size()? => {
                file.write_all_at(&[0; 32], offset)?;
                file.sync_data()
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        erase().map_err(|error| Refusal::io(&path, error))
    }

    /// Erases the openings of all entries before an index: whole files are removed, the rest is written over.
    ///
    /// # Errors
    /// A [`Refusal`] if a file can't be written; some of them may then still be there.
    pub(crate) fn erase_before(&self, index: u64) -> Result<(), Refusal> {
        let mut changed = BTreeSet::new();
        for number in 0..index / PER_FILE {
            let (path, _) = self.place(number * PER_FILE);
            match self.disk.remove_file(&path) {
                Ok(()) => changed.extend(path.parent().map(Path::to_path_buf)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Refusal::io(&path, error)),
            }
        }
        let sync = |dir: &PathBuf| self.disk.sync_dir(dir).map_err(|error| Refusal::io(dir, error));
        changed.iter().try_for_each(sync)?;
        let (path, end) = self.place(index);
        let erase = || match self.disk.open(&path, Access::Write) {
            Ok(file) => {
                let end = end.min(file.size()?);
                file.write_all_at(&vec![0; usize::try_from(end).unwrap_or(0)], 0)?;
                file.sync_data()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        erase().map_err(|error| Refusal::io(&path, error))
    }

    /// Writes openings from `first` on, unsynced: names the files to sync, and the directories that got a name.
    pub(crate) fn stage(
        &self,
        first: u64,
        openings: &[[u8; 32]],
        written: &mut Vec<PathBuf>,
        renamed: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        let mut at = first;
        let mut rest = openings;
        while !rest.is_empty() {
            let room = usize::try_from(PER_FILE - at % PER_FILE).unwrap_or(rest.len());
            let (here, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            let (path, offset) = self.place(at);
            let file = self.open(&path, renamed)?;
            file.write_all_at(here.as_flattened(), offset)?;
            written.push(path);
            at += here.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn open(&self, path: &Path, renamed: &mut BTreeSet<PathBuf>) -> io::Result<Box<dyn File>> {
        match self.disk.open(path, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(&self.dir).to_path_buf();
                create_dirs(&*self.disk, &self.dir, &dir, renamed)?;
                renamed.insert(dir);
                self.disk.open(path, Access::Create)
            }
            opened => opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::create_dirs_durably;
    use crate::disk::sim::SimDisk;

    #[test]
    fn keys_stand_where_the_form_says_and_erasing_reaches_them_alone() {
        let disk = SimDisk::new();
        let dir = Path::new("/openings");
        create_dirs_durably(&disk, Path::new("/"), dir).unwrap();
        let openings = Openings::new(Arc::new(disk.clone()), dir);
        let keys = [1, 2, 3, 4].map(|byte| [byte; 32]);
        let (mut written, mut renamed) = (Vec::new(), BTreeSet::new());
        openings.stage(65_534, &keys, &mut written, &mut renamed).unwrap();
        let [first, second] = ["000", "001"].map(|name| dir.join(name));
        assert_eq!(written, [first.clone(), second.clone()]);
        let files = disk.files();
        assert_eq!(
            (files[&first].len(), &files[&first][65_534 * 32..]),
            (65_536 * 32, keys[..2].as_flattened())
        );
        assert_eq!(files[&second], keys[2..].as_flattened());
        let read =
            || [65_533, 65_534, 65_535, 65_536, 65_537, 65_538].map(|index| openings.read(index).unwrap());
        let [one, two, three, four] = keys.map(Some);
        assert_eq!(read(), [None, one, two, three, four, None]);
        openings.erase(65_535).unwrap();
        assert_eq!(read(), [None, one, None, three, four, None]);
        // Of an entry that never had one nothing is written.
        openings.erase(65_538).unwrap();
        assert_eq!(disk.files()[&second].len(), 64);
        openings.erase_before(65_537).unwrap();
        assert_eq!(read(), [None, None, None, None, four, None]);
        assert!(!disk.files().contains_key(&first));
        openings.erase_before(3 * 65_536).unwrap();
        assert!(disk.files().is_empty());
    }

    /// Only what is not there has no key: what can't be read or written is never taken for it.
    #[test]
    fn what_the_disk_refuses_is_not_taken_for_a_file_that_is_not_there() {
        let disk = SimDisk::new();
        let dir = Path::new("/openings");
        create_dirs_durably(&disk, Path::new("/"), dir).unwrap();
        let openings = Openings::new(Arc::new(disk.clone()), dir);
        let stage = || openings.stage(0, &[[1; 32]], &mut Vec::new(), &mut BTreeSet::new());
        assert_eq!(openings.read(0).unwrap(), None);
        openings.erase(0).unwrap();
        openings.erase_before(65_537).unwrap();
        // No file opens where a directory stands.
        let path = dir.join("000");
        disk.create_dir(&path).unwrap();
        assert_eq!(openings.read(0).unwrap_err().file, path);
        assert_eq!(openings.erase(0).unwrap_err().file, path);
        assert_eq!(openings.erase_before(1).unwrap_err().file, path);
        assert_eq!(openings.erase_before(65_536).unwrap_err().file, path);
        assert_eq!(stage().unwrap_err().kind(), io::ErrorKind::IsADirectory);
        disk.remove_dir(&path).unwrap();
        stage().unwrap();
        assert_eq!(openings.read(0).unwrap(), Some([1; 32]));
    }
}
