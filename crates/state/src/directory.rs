//! One process at a time in a data directory.

use holdfast_core::{Error, ErrorKind, Stage};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Proof that this process alone works in a data directory; clones share it, the last one dropped ends it.
///
/// It is an advisory lock (`flock(2)`) on `DIR/lock`: the kernel lets go of it however the process ends, so there is never a stale one to
/// remove. The file's content names the holder for people and decides nothing.
#[derive(Debug, Clone)]
pub struct DirectoryLock {
    directory: PathBuf,
    _file: Arc<File>,
}

impl DirectoryLock {
    /// Takes the directory, making it (mode 0700) if it does not exist.
    ///
    /// # Errors
    /// `state-unavailable` when another process holds it, naming that process, or when the lock's file cannot be made.
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::StateUnavailable, Stage::Start, "the data directory cannot be locked")
                .remedy("check that the data directory exists, is writable and belongs to the gateway's user")
                .because(format!("{}: {error}", directory.join("lock").display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let holder = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), _file: Arc::new(file) })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The refusal of a second start. The holder may not have written its number yet, or the file may hold anything at all.
fn held(file: &mut File) -> Error {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(16).read_to_string(&mut text));
    let process = text.trim();
    let known = read.is_ok() && !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit());
    let (holder, stop) = if known {
        (format!("process `{process}`"), format!("stop process `{process}` first"))
    } else {
        ("another process".to_owned(), "stop the other gateway first".to_owned())
    };
    Error::new(ErrorKind::StateUnavailable, Stage::Start, format!("the data directory is in use by {holder}"))
        .remedy(format!("{stop}, or give this gateway a data directory of its own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_names_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        let error = DirectoryLock::take(directory.path()).unwrap_err();
        let me = std::process::id();
        assert_eq!(error.kind(), ErrorKind::StateUnavailable);
        assert_eq!(error.to_string(), format!("the data directory is in use by process `{me}`"));
        assert_eq!(
            error.remedy_text(),
            format!("stop process `{me}` first, or give this gateway a data directory of its own")
        );
        let clone = first.clone();
        drop(first);
        assert!(DirectoryLock::take(directory.path()).is_err(), "a clone still holds it");
        drop(clone);
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn an_unreadable_holder_is_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let _first = DirectoryLock::take(directory.path()).unwrap();
        std::fs::write(directory.path().join("lock"), b"\xff rm -rf").unwrap();
        let error = DirectoryLock::take(directory.path()).unwrap_err();
        assert_eq!(error.to_string(), "the data directory is in use by another process");
    }
}
