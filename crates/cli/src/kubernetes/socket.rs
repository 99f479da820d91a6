//! The socket, made so that nobody connects but the API server: who may is decided by its directory and its mode, as the protocol has no other
//! way to ask.

use super::directory;
use crate::failure::Failure;
use rustix::fs::{Mode, OFlags, openat};
use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What to do where a group cannot be given away.
pub(super) const MEMBER: &str = "run as a member of that group (`Group=` in the unit), or as root";

/// A socket that is ours; removed by [`Socket::remove`].
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Which file it is: another one in its place is somebody else's.
    file: (u64, u64),
    /// Held for as long as it is served: two plugins that start at once do not take it from each other.
    _lock: File,
}

impl Socket {
    /// Makes the socket, and its directory if that is not there. One that nobody serves any more is replaced.
    ///
    /// # Errors
    /// When others can write to the directory, the group cannot enter it, somebody serves there, or something else is there.
    pub(crate) fn bind(path: &Path, group: Option<u32>) -> Result<Self, Failure> {
        let directory = match path.parent() {
            Some(directory) if path.is_absolute() && path.file_name().is_some() => directory,
            Some(_) | None => {
                return Err(Failure::usage(format!("`{}` is no absolute path of a file", path.display()))
                    .remedy("give one such as `/run/holdfast/kms.sock`"));
            }
        };
        // Nobody else can lead the path elsewhere from here on.
        let lock = lock(&directory::reach(directory, group)?, path)?;
        remove_stale(path)?;
        let failed = |error: &std::io::Error| Failure::file("listen on", path, error);
        // From its first moment on with no more than its mode: the mask is the process's, which makes no other file now.
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(mask);
        let listener = bound.map_err(|error| failed(&error))?;
        if group.is_some() {
            let made = path.symlink_metadata().map_err(|error| failed(&error))?;
            // A unit whose own group it is may change no owners, and need not.
            if Some(made.gid()) != group {
                chown(path, None, group).map_err(|error| failed(&error).remedy(MEMBER))?;
            }
            std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(|error| failed(&error))?;
        }
        listener.set_nonblocking(true).map_err(|error| failed(&error))?;
        let file = path.symlink_metadata().map(|meta| identity(&meta)).map_err(|error| failed(&error))?;
        Ok(Self { path: path.to_owned(), listener, file, _lock: lock })
    }

    /// Another handle of it, to accept from.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn listener(&self) -> Result<UnixListener, Failure> {
        self.listener.try_clone().map_err(|error| Failure::file("listen on", &self.path, &error))
    }

    /// Removes it, unless another one has taken its place.
    pub(crate) fn remove(self) {
        let Self { path, listener: _, file, _lock } = self;
        let is_ours = path.symlink_metadata().is_ok_and(|meta| identity(&meta) == file);
        if let Some(error) = is_ours.then(|| std::fs::remove_file(&path)).and_then(Result::err) {
            tracing::warn!(%error, path = %path.display(), "the socket could not be removed");
        }
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn lock(directory: &File, path: &Path) -> Result<File, Failure> {
    let name = |of: &OsStr| {
        let mut name = of.to_owned();
        name.push(".lock");
        name
    };
    let shown = PathBuf::from(name(path.as_os_str()));
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        openat(directory, name(path.file_name().unwrap_or_default()), flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| Failure::file("write", &shown, &error.into()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(served(path)),
        Err(TryLockError::Error(error)) => Err(Failure::file("lock", &shown, &error)),
    }
}

fn served(path: &Path) -> Failure {
    Failure::usage(format!("somebody serves `{}` already", path.display()))
        .remedy("stop the other one, or name another socket with `--socket`")
}

/// A socket outlives a process that was killed.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file("look at", path, &error)),
    };
    if !meta.file_type().is_socket() {
        return Err(Failure::usage(format!("`{}` is there, and is no socket", path.display()))
            .remedy("remove it if it is of no use, or name another one with `--socket`"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| Failure::file("remove", path, &error))
        }
        // It cannot be told that nobody listens.
        Ok(_) | Err(_) => Err(served(path)),
    }
}

/// A group by its number or its name.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let all = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = all.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.ok_or_else(|| format!("there is no group `{text}` in /etc/group"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_name_or_a_number() {
        assert_eq!(group("root"), Ok(0));
        assert_eq!(group("4711"), Ok(4711));
        assert!(group("no such group").unwrap_err().contains("no such group"));
    }

    #[test]
    fn what_took_its_place_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let path = dir.path().join("kms.sock");
        let first = Socket::bind(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        first.remove();
        assert!(path.exists());
    }
}
