//! The directory of a mirror. No file has its name before its bytes are durable, so that whatever has one is whole, also after a power cut.

use crate::error::{Cause, Error};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that wait together for their names: a journalling file system commits once for many.
const TOGETHER: usize = 64;

/// The directory, and what of it is not durable yet.
pub(super) struct Folder {
    dir: PathBuf,
    /// Of two mirrorings at once each would find the other's files under temporary names gone. Whatever is at work holds it too: that goes
    /// on although nobody waits for it any more.
    locked: Option<Arc<File>>,
    /// Files that lie under temporary names.
    staged: BTreeSet<PathBuf>,
    /// Directories with names that may be lost.
    unsynced: BTreeSet<PathBuf>,
}

impl Folder {
    /// Makes the directory if need be.
    pub(super) async fn open(dir: &Path) -> Result<Self, Error> {
        let missing = dir.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists());
        let unsynced = missing.map(above).collect();
        tokio::fs::create_dir_all(dir).await.map_err(|error| local("make", dir, error))?;
        let locked = lock(dir, File::open(dir))?.map(Arc::new);
        let folder = Self { dir: dir.to_path_buf(), locked, staged: BTreeSet::new(), unsynced };
        let checkpoint = tokio::fs::try_exists(dir.join("checkpoint")).await;
        if checkpoint.map_err(|error| local("read", dir, error))? {
            return Ok(folder);
        }
        // Made by one that was ended before it had synced anything.
        let unsynced = folder.unsynced.iter().cloned().chain([above(dir)]).collect();
        Ok(Self { unsynced, ..folder })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        match tokio::fs::read(&path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(local("read", &path, error)),
        }
    }

    /// How long a file is, if there is one. Its name may have been given by a mirroring that was ended before it was durable, and is
    /// made so with all others.
    pub(super) async fn length(&mut self, name: &str) -> Option<u64> {
        let length = tokio::fs::metadata(self.path(name)).await.ok()?.len();
        self.note(name);
        Some(length)
    }

    /// Writes a file, which has its name once others have come too, or with [`Folder::settle`].
    pub(super) async fn write(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.note(name);
        let path = self.path(name);
        let staged = path.clone();
        self.at_work(move || {
            let write = || {
                std::fs::create_dir_all(above(&staged))?;
                File::create(temporary(&staged))?.write_all(&bytes)
            };
            write().map_err(|error| local("write", &staged, error))
        })
        .await?;
        self.staged.insert(path);
        if self.staged.len() < TOGETHER { Ok(()) } else { self.name().await }
    }

    /// Makes all that was written so far durable, under its names.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        self.name().await?;
        let unsynced = std::mem::take(&mut self.unsynced);
        self.at_work(move || {
            unsynced.iter().try_for_each(|dir| sync(dir).map_err(|error| local("sync", dir, error)))
        })
        .await
    }

    /// Gives the files that wait for them their names.
    async fn name(&mut self) -> Result<(), Error> {
        let staged = std::mem::take(&mut self.staged);
        self.at_work(move || {
            let synced = |path: &PathBuf| {
                let synced = File::open(temporary(path)).and_then(|file| file.sync_all());
                synced.map_err(|error| local("sync", path, error))
            };
            staged.iter().try_for_each(synced)?;
            let named = |path: &PathBuf| {
                std::fs::rename(temporary(path), path).map_err(|error| local("write", path, error))
            };
            staged.iter().try_for_each(named)
        })
        .await
    }

    /// What waits for the disk keeps no thread that serves the network.
    async fn at_work(&self, work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
        let locked = self.locked.clone();
        let work = move || {
            let done = work();
            drop(locked);
            done
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| {
            Error::new(Cause::Local, "the directory was not written", "mirror again").because(error)
        })?
    }

    /// The directories on the way to a file.
    fn note(&mut self, name: &str) {
        let ways = Path::new(name).ancestors().skip(1);
        self.unsynced.extend(ways.map(|way| self.dir.join(way)));
    }
}

/// Keeps others who mirror out for as long as it is open. What may be written and not read cannot be locked, and some file systems lock no
/// directory: there nobody is kept out.
fn lock(dir: &Path, opened: io::Result<File>) -> Result<Option<File>, Error> {
    let opened = match opened {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        opened => opened.map_err(|error| local("open", dir, error))?,
    };
    match opened.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let problem = format!("somebody else mirrors into `{}`", dir.display());
            Err(Error::new(
                Cause::Local,
                problem,
                "wait until that is done, or mirror into another directory",
            ))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(opened)),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        // What may not be read, and what is of a file system that syncs no directories, cannot be made more durable than it is.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => Ok(()),
        synced => synced,
    }
}

/// The directory that a path lies in.
fn above(path: &Path) -> PathBuf {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    above.unwrap_or_else(|| Path::new(if path.has_root() { "/" } else { "." })).to_path_buf()
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsStr::to_os_string).unwrap_or_default();
    name.push(".part");
    path.with_file_name(name)
}

fn local(what: &str, path: &Path, error: io::Error) -> Error {
    let remedy = "check the directory's permissions and the free space";
    Error::new(Cause::Local, format!("cannot {what} `{}`", path.display()), remedy).because(error)
}

#[cfg(test)]
mod tests {
    use super::{Folder, lock};
    use std::fs::File;
    use std::io::ErrorKind;
    use std::sync::mpsc;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn two_do_not_mirror_into_one_directory_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path()).await.unwrap();
        let refused = Folder::open(dir.path()).await.err().unwrap().to_string();
        assert!(refused.contains("somebody else mirrors into"), "{refused}");
        drop(first);
        Folder::open(dir.path()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_at_work_keeps_others_out_although_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).await.unwrap();
        let (begins, begun) = oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        let work = folder.at_work(move || {
            begins.send(()).unwrap();
            ends.recv().unwrap();
            Ok(())
        });
        tokio::select! {
            biased;
            done = work => panic!("{done:?}"),
            begun = begun => begun.unwrap(),
        }
        drop(folder);
        let refused = Folder::open(dir.path()).await.err().unwrap().to_string();
        assert!(refused.contains("somebody else mirrors into"), "{refused}");
        end.send(()).unwrap();
        // Waits for the other's end.
        File::open(dir.path()).unwrap().lock().unwrap();
        Folder::open(dir.path()).await.unwrap();
    }

    #[test]
    fn a_directory_that_may_not_be_read_is_mirrored_into() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |kind: ErrorKind| lock(dir.path(), Err(kind.into()));
        assert!(refused(ErrorKind::PermissionDenied).unwrap().is_none());
        assert!(refused(ErrorKind::NotFound).is_err());
        assert!(lock(dir.path(), File::open(dir.path())).unwrap().is_some());
    }
}
