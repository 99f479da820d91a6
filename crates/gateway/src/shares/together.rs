//! One ceremony at a time in a directory, whether or not it is served meanwhile.

use crate::directory::Directory;
use crate::fault::Fault;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Proof that no other ceremony is under way: `flock(2)` on `DIR/ceremony.lock`, which the kernel lets go of however the process ends.
#[derive(Debug)]
pub struct CeremonyLock {
    #[expect(dead_code, reason = "held for as long as this lives")]
    file: File,
}

impl CeremonyLock {
    /// Takes it.
    ///
    /// # Errors
    /// When another ceremony is under way, the directory is another user's, or the file cannot be made.
    pub fn take(directory: &Directory) -> Result<Self, Fault> {
        let shown = directory.path();
        let owner =
            std::fs::metadata(shown).map_err(|error| Fault::io("cannot examine", shown, error))?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Fault::new(format!(
                "`{}` belongs to another user, who could not read what is written here",
                shown.display()
            ))
            .remedy("run this as the gateway's user: `runuser -u holdfast -- holdfast …`"));
        }
        let path = directory.path().join("ceremony.lock");
        let wrong = |error| Fault::io("cannot lock", &path, error);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => {
                Err(Fault::new("another ceremony is under way in this directory")
                    .remedy("bring that one to its end, or end it; then begin again"))
            }
            Err(TryLockError::Error(error)) => Err(wrong(error)),
        }
    }
}

/// Removes what an earlier ceremony left that was killed.
pub(crate) fn clear(files: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(files) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Fault::io("cannot remove", files, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ceremony_at_a_time_and_by_the_directory_s_owner() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let first = CeremonyLock::take(&directory).unwrap();
        let second = CeremonyLock::take(&directory).unwrap_err();
        assert!(second.to_string().contains("another ceremony is under way"), "{second}");
        drop(first);
        CeremonyLock::take(&directory).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
            let refused = CeremonyLock::take(&directory).unwrap_err();
            assert!(refused.remedy_text().unwrap().contains("runuser -u holdfast"), "{refused}");
        }
    }
}
