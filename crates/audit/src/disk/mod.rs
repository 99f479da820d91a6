//! The disk as the log sees it: few calls, so that tests can put a forgetful one in its place.
//!
//! # Contract
//! - What was written to a file MUST survive a loss of power once [`File::sync_data`] said `Ok`, its length
//!   included. Before that any part of it may be lost, in any order.
//! - A name made, renamed or removed MUST survive once [`Disk::sync_dir`] of its directory said `Ok`.
//! - After a failed sync of a file nothing is known of the bytes written since the one before. The caller MUST NOT try
//!   again and believe the answer.
//! - After a failed sync of a directory its changes may be lost, the later ones first, until another one said `Ok`: that
//!   one covers them all. A file system that could not keep to this, its journal having failed, takes no changes any more.

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

#[cfg(test)]
mod tests {
    use super::sim::SimDisk;
    use super::*;

    /// A file that is read a few bytes at a time, as a system may.
    struct Slow(Vec<u8>);

    impl File for Slow {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let len = rest.len().min(buf.len()).min(3);
            buf[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }

    #[test]
    fn a_read_that_comes_in_parts_is_put_together() {
        let file = Slow((0..20).collect());
        let mut bytes = [0xff; 12];
        assert_eq!(read_full(&file, &mut bytes, 4).unwrap(), 12);
        assert_eq!(bytes.to_vec(), (4..16).collect::<Vec<u8>>());
        assert_eq!(read_full(&file, &mut bytes, 13).unwrap(), 7);
        assert_eq!(bytes[..7].to_vec(), (13..20).collect::<Vec<u8>>());
        assert_eq!(read_full(&file, &mut bytes, 20).unwrap(), 0);
    }

    #[test]
    fn only_what_is_not_there_is_nothing() {
        let disk = SimDisk::new();
        disk.create_dir(Path::new("/dir")).unwrap();
        assert_eq!(read_if_there(&disk, Path::new("/none")).unwrap(), None);
        assert!(read_if_there(&disk, Path::new("/dir")).is_err());
        replace(&disk, Path::new("/file"), b"x").unwrap();
        assert_eq!(read_if_there(&disk, Path::new("/file")).unwrap().as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn directories_are_made_below_the_base_and_never_the_base_itself() {
        let disk = SimDisk::new();
        let made = |base: &str, path: &str| {
            let mut renamed = BTreeSet::new();
            create_dirs(&disk, Path::new(base), Path::new(path), &mut renamed).map(|()| renamed)
        };
        let named = |dirs: &[&str]| dirs.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(made("/base", "/base/a/b").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(made("/base", "/base").unwrap(), named(&[]));
        assert_eq!(made("/base", "/elsewhere").unwrap(), named(&[]));
        assert_eq!(disk.list(Path::new("/")).unwrap(), Vec::<String>::new());
        disk.create_dir(Path::new("/base")).unwrap();
        assert_eq!(made("/base", "/base/a/b").unwrap(), named(&["/base", "/base/a"]));
        assert_eq!(made("/base", "/base/a/b").unwrap(), named(&[]));
        assert_eq!(made("/base", "/base/a/c").unwrap(), named(&["/base/a"]));
    }
}
