//! The disk as the log sees it: few calls, so that tests can put a forgetful one in its place.
//!
//! # Contract
//! - What was written to a file MUST survive a loss of power once [`File::sync_data`] said `Ok`, its length
//!   included. Before that any part of it may be lost, in any order.
//! - A name made, renamed or removed MUST survive once [`Disk::sync_dir`] of its directory said `Ok`.
//! - After a failed sync nothing is known of the bytes written since the one before. The caller MUST NOT try again
//!   and believe the answer.

mod real;
pub mod sim;

pub use real::RealDisk;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made, or emptied if it exists.
    Create,
}

/// An open file. Reads and writes name their offset; no position is shared.
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes.
    ///
    /// # Errors
    /// Those of the system; a part may then be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (fdatasync).
    ///
    /// # Errors
    /// Those of the system; see the module's contract.
    fn sync_data(&self) -> io::Result<()>;

    /// Takes `len` bytes of space for good: blocks are reserved and written with zeros, so that later syncs have no
    /// metadata to write. Not durable before a sync.
    ///
    /// # Errors
    /// `StorageFull` where there is no room.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn size(&self) -> io::Result<u64>;
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;

    /// Makes one directory, only the owner may enter. `AlreadyExists` is an error.
    ///
    /// # Errors
    /// Those of the system.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, replacing another.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes what was written to many files durable, as [`File::sync_data`] does for one.
    ///
    /// # Errors
    /// The first of the system's; nothing is known then of any of them.
    fn sync_files(&self, paths: &[PathBuf]) -> io::Result<()> {
        paths.iter().try_for_each(|path| self.open(path, Access::Write)?.sync_data())
    }

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// Reads a whole file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let len = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads a whole file, or nothing if there is none.
pub(crate) fn read_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read(disk, path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fills the buffer as far as the file reaches.
pub(crate) fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Makes a directory and those above it, down from `base`. The directories that got a name are noted; they are not
/// synced yet.
pub(crate) fn create_dirs(
    disk: &dyn Disk,
    base: &Path,
    path: &Path,
    renamed: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    if path == base || !path.starts_with(base) {
        return Ok(());
    }
    match disk.create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                create_dirs(disk, base, parent, renamed)?;
            }
            disk.create_dir(path)?;
        }
        Err(error) => return Err(error),
    }
    renamed.extend(path.parent().map(Path::to_path_buf));
    Ok(())
}

/// Makes a directory and those above it, durably.
pub(crate) fn create_dirs_durably(disk: &dyn Disk, base: &Path, path: &Path) -> io::Result<()> {
    let mut renamed = BTreeSet::new();
    create_dirs(disk, base, path, &mut renamed)?;
    renamed.iter().try_for_each(|dir| disk.sync_dir(dir))
}

/// The name under which a file is written before it gets its own.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Writes a file under its temporary name, unsynced; makes its directory if need be.
pub(crate) fn stage(
    disk: &dyn Disk,
    base: &Path,
    path: &Path,
    bytes: &[u8],
    renamed: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    let temporary = temporary(path);
    let file = match disk.open(&temporary, Access::Create) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dirs(disk, base, path.parent().unwrap_or(base), renamed)?;
            disk.open(&temporary, Access::Create)?
        }
        file => file?,
    };
    file.write_all_at(bytes, 0)
}

/// Writes a file so that either its old or its new content is there, whatever happens: another name, sync, rename.
/// The name is durable only after a sync of the directory.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let file = disk.open(&temporary, Access::Create)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)
}
