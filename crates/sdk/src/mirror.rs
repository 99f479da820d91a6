//! A tenant's log on this machine: its checkpoint, tiles and entry bundles as C2SP tlog-tiles lays them out, ready for any verifier.
//!
//! Nothing is believed here: whether the files are true is the verifier's to find out. What is kept is that a mirror only ever grows, and that what its checkpoint
//! covers is on the disk before it.

mod folder;

use crate::error::{Cause, Error};
use crate::tenant::Tenant;
use crate::tiles::{self, File};
use folder::Folder;
use holdfast_core::ErrorKind;
use holdfast_core::query::AuditPath;
use holdfast_wire::native::client as native;
use std::path::Path;

/// How often the checkpoint is read anew when the log grows faster than it is read.
const PATIENCE: u32 = 5;

/// How far a mirror is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Files that are there.
    pub done: u64,
    /// Files that there will be.
    pub files: u64,
}

/// A mirror as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// Entries that its checkpoint covers.
    pub size: u64,
    /// The first entry that the gateway still keeps, where others could not be fetched; 0 where all were.
    pub first: u64,
    /// Files that were fetched this time.
    pub fetched: u64,
    /// The checkpoint that lay there before: what the log must continue.
    pub earlier: Option<Vec<u8>>,
}

impl Tenant {
    /// One file of the tenant's log: `checkpoint`, `checkpoint.cosigned`, `log.vkey`, `pruned` or `tile/…`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn log_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        let path = AuditPath::new(path).ok_or_else(|| {
            Error::settings(
                format!("`{path}` is no file of a log"),
                "name `checkpoint`, `checkpoint.cosigned`, `log.vkey` or a tile",
            )
        })?;
        self.client().fetch(native::audit_file(self.id(), &path)).await
    }

    /// Brings a directory up to the log's newest checkpoint, fetching only what is missing, or cannot be what it should be by its length. The checkpoint
    /// is written when all else is durable, and is durable itself when this is done.
    ///
    /// # Errors
    /// Any [`Error`]; `Integrity` when the directory holds another log, or more entries than the gateway now admits.
    pub async fn mirror_log(
        &self,
        dir: &Path,
        mut progress: impl FnMut(Progress),
    ) -> Result<Mirrored, Error> {
        let mut folder = Folder::open(dir).await?;
        let earlier = folder.read("checkpoint").await?;
        self.pin_key(&mut folder).await?;
        let (mut fetched, mut pruned) = (0, None::<Vec<u8>>);
        for _ in 0..PATIENCE {
            // Before the checkpoint, which then covers at least as much.
            let cosigned = self.cosigned(dir, &folder).await?;
            let checkpoint = self.log_file("checkpoint").await?;
            let (origin, size) = head(&checkpoint)?;
            if let Some(earlier) = &earlier {
                continues(dir, head(earlier)?, (&origin, size))?;
            }
            let first = pruned.as_deref().map_or(Ok(0), first_kept)?;
            if !self.fetch_files(&mut folder, (first, size), &mut fetched, &mut progress).await? {
                // The log has grown, or pruned. Asked before the checkpoint, which then covers the record of it.
                pruned = self.pruned().await?.or(pruned);
                continue;
            }
            if let Some(pruned) = pruned {
                folder.write("pruned", pruned).await?;
            }
            folder.settle().await?;
            folder.write("checkpoint", checkpoint).await?;
            folder.settle().await?;
            // It covers no more than the checkpoint beside it, at any time.
            if let Some(cosigned) = cosigned {
                folder.write("checkpoint.cosigned", cosigned).await?;
                folder.settle().await?;
            }
            return Ok(Mirrored { size, first, fetched, earlier });
        }
        Err(Error::new(
            Cause::Unreachable,
            "the log grows faster than it can be read",
            "try again in a quiet moment",
        ))
    }

    /// The newest checkpoint that witnesses cosigned, if there is one; it must continue the one that lies there.
    async fn cosigned(&self, dir: &Path, folder: &Folder) -> Result<Option<Vec<u8>>, Error> {
        let cosigned = match self.log_file("checkpoint.cosigned").await {
            Ok(cosigned) => cosigned,
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (origin, size) = head(&cosigned)?;
        if let Some(earlier) = folder.read("checkpoint.cosigned").await? {
            continues(dir, head(&earlier)?, (&origin, size))?;
        }
        Ok(Some(cosigned))
    }

    /// What the log says of entries that it no longer keeps, if it says anything.
    async fn pruned(&self) -> Result<Option<Vec<u8>>, Error> {
        match self.log_file("pruned").await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches the files of a log of this size that keeps the entries from `first` on; `false` when one of them is there no longer, since the log has grown.
    async fn fetch_files(
        &self,
        folder: &mut Folder,
        (first, size): (u64, u64),
        fetched: &mut u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<bool, Error> {
        let files = tiles::count(size);
        for (done, file) in (0..).zip(tiles::files(size)) {
            progress(Progress { done, files });
            if file.is_before(first) {
                continue;
            }
            if is_there(folder, &file).await {
                continue;
            }
            let Some((path, bytes)) = self.fetch_file(&file).await? else { return Ok(false) };
            folder.write(&path, bytes).await?;
            *fetched += 1;
        }
        progress(Progress { done: files, files });
        Ok(true)
    }

    /// A file as it was at that size, or in full if it has grown since; nothing if neither is there.
    async fn fetch_file(&self, file: &File) -> Result<Option<(String, Vec<u8>)>, Error> {
        let mut paths = vec![file.path()];
        if !file.is_full() {
            paths.push(file.full());
        }
        for path in paths {
            match self.log_file(&path).await {
                Ok(bytes) => return Ok(Some((path, bytes))),
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The log's key beside it, as it lies at the gateway; a directory with another key is another log's.
    async fn pin_key(&self, folder: &mut Folder) -> Result<(), Error> {
        let key = self.log_file("log.vkey").await?;
        match folder.read("log.vkey").await? {
            None => folder.write("log.vkey", key).await,
            Some(known) if known == key => Ok(()),
            Some(_) => Err(Error::new(
                Cause::Integrity,
                format!("`{}` is not the key of this log any more", folder.path("log.vkey").display()),
                "keep the directory as evidence, and mirror into another",
            )),
        }
    }
}

/// Whether a file lies there, as it was at that size or in full, and may be what it should be. One that was cut short is fetched again.
async fn is_there(folder: &mut Folder, file: &File) -> bool {
    let full = folder.length(&file.full()).await;
    if full.is_some_and(|length| file.may_be_full(length)) {
        return true;
    }
    let partial = folder.length(&file.path()).await;
    partial.is_some_and(|length| file.may_be(length))
}

/// Origin and size of a checkpoint; its signature is the verifier's matter.
fn head(checkpoint: &[u8]) -> Result<(String, u64), Error> {
    let parse = || {
        let mut lines = std::str::from_utf8(checkpoint).ok()?.lines();
        Some((lines.next()?.to_owned(), lines.next()?.parse().ok()?))
    };
    parse().ok_or_else(|| {
        Error::new(
            Cause::Integrity,
            "a checkpoint cannot be read",
            "fetch it again; keep both if it stays so",
        )
    })
}

/// The first entry that is kept; the signature is the verifier's matter.
fn first_kept(pruned: &[u8]) -> Result<u64, Error> {
    let line = std::str::from_utf8(pruned).ok().and_then(|text| text.lines().nth(3));
    let first = line.and_then(|line| line.strip_prefix("first ")?.parse().ok());
    first.ok_or_else(|| {
        Error::new(Cause::Integrity, "what the log no longer keeps cannot be read", "fetch it again")
    })
}

fn continues(dir: &Path, earlier: (String, u64), now: (&str, u64)) -> Result<(), Error> {
    let refuse = |detail| {
        Err(Error::new(Cause::Integrity, detail, "keep the directory as evidence, and mirror into another"))
    };
    if earlier.0 != now.0 {
        return refuse(format!("`{}` holds the log `{}`, not `{}`", dir.display(), earlier.0, now.0));
    }
    if earlier.1 > now.1 {
        return refuse(format!(
            "the log has {} entries, yet it had {}: it was rolled back",
            now.1, earlier.1
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_only_grows() {
        let dir = Path::new("mirror");
        assert!(continues(dir, ("a".into(), 5), ("a", 5)).is_ok());
        assert!(continues(dir, ("a".into(), 5), ("a", 4)).unwrap_err().to_string().contains("rolled back"));
        assert!(continues(dir, ("a".into(), 5), ("b", 6)).is_err());
    }

    #[test]
    fn the_first_entry_that_is_kept() {
        assert_eq!(first_kept(b"holdfast/pruned/v1\norigin\noperation X\nfirst 512\n\nsig").unwrap(), 512);
        assert!(first_kept(b"holdfast/pruned/v1\norigin\n").is_err());
    }

    #[test]
    fn a_checkpoints_head() {
        assert_eq!(head(b"origin\n17\nroot\n\nsig").unwrap(), ("origin".to_owned(), 17));
        for bad in [&b""[..], b"origin", b"origin\nx\n", b"\xff\n1\n"] {
            assert!(head(bad).is_err());
        }
    }
}
