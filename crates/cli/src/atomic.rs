//! Output files appear whole or not at all.

use crate::failure::Failure;
use crate::output;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Stdout.
    Stdout,
    /// A file, replaced only when told.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether an existing one may be replaced.
        force: bool,
    },
}

impl Target {
    /// From `-o FILE`, `-o -` or nothing.
    pub(crate) fn new(path: Option<&Path>, force: bool) -> Self {
        match path {
            None => Self::Stdout,
            Some(path) if path == Path::new("-") => Self::Stdout,
            Some(path) => Self::File { path: path.to_path_buf(), force },
        }
    }

    /// Begins to write. A file is made beside its final place, for its owner only.
    pub(crate) fn begin(&self) -> Result<Output, Failure> {
        let Self::File { path, force } = self else { return Ok(Output::Stdout(io::stdout())) };
        if !force && path.symlink_metadata().is_ok() {
            return Err(Failure::file("write", path, &io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let file = NamedTempFile::with_prefix_in(".holdfast-", parent(path))
            .map_err(|error| Failure::file("write", path, &error))?;
        Ok(Output::File { file, path: path.clone(), force: *force })
    }

    /// Writes all of it.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let Self::File { path, .. } = self else { return output::write_stdout(bytes) };
        let mut output = self.begin()?;
        output.write_all(bytes).map_err(|error| Failure::file("write", path, &error))?;
        output.finish()
    }
}

/// Gives a file another name in its directory. What has that name is replaced only when told. Whoever else may make a file of the first name MUST be kept
/// out until then, and not longer: what has that name afterwards is theirs.
pub(crate) fn give_name(file: &Path, name: &Path, force: bool) -> io::Result<()> {
    if force {
        // Two names of one file, where the second was given and the first not yet taken away, would both stay. A link to it is another file.
        let of = |path: &Path| path.symlink_metadata().map(|found| (found.dev(), found.ino()));
        let is_given = of(name).is_ok_and(|given| of(file).is_ok_and(|own| own == given));
        return if is_given { std::fs::remove_file(file) } else { std::fs::rename(file, name) };
    }
    match renameat_with(CWD, file, CWD, name, RenameFlags::NOREPLACE) {
        // Some file systems can't: there a second name is refused where there is one, too.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(file, name)?;
            std::fs::remove_file(file)
        }
        renamed => Ok(renamed?),
    }
}

/// The directory that a file lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// An output that is being written. Dropped without [`Output::finish`], a file leaves nothing behind.
pub(crate) enum Output {
    /// Stdout.
    Stdout(io::Stdout),
    /// A file under a temporary name.
    File {
        /// The file.
        file: NamedTempFile,
        /// Where it shall lie.
        path: PathBuf,
        /// Whether an existing one may be replaced.
        force: bool,
    },
}

impl Output {
    /// Makes it durable, and gives it its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().map_err(|error| Failure::file("write", Path::new("-"), &error))
            }
            Self::File { file, path, force } => {
                let failed = |error: io::Error| Failure::file("write", &path, &error);
                file.as_file().sync_all().map_err(failed)?;
                let persisted = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
                persisted.map_err(|error| failed(error.error))?;
                File::open(parent(&path)).and_then(|directory| directory.sync_all()).map_err(failed)
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let target = Target::new(Some(&path), false);
        let mut output = target.begin().unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        target.write(b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_is_taken_is_given_only_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let (file, name) = (dir.path().join("out.partial"), dir.path().join("out"));
        std::fs::write(&file, b"new").unwrap();
        std::fs::write(&name, b"mine").unwrap();
        assert_eq!(give_name(&file, &name, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (std::fs::read(&file).unwrap(), std::fs::read(&name).unwrap()),
            (b"new".into(), b"mine".into())
        );
        give_name(&file, &name, true).unwrap();
        assert_eq!((file.exists(), std::fs::read(&name).unwrap()), (false, b"new".to_vec()));
        give_name(&name, &file, false).unwrap();
        assert!(file.exists() && !name.exists());
    }

    /// Where a name is given by a second one, that may be all that was done.
    #[test]
    fn what_has_both_names_keeps_the_one_that_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let (file, name) = (dir.path().join("out.partial"), dir.path().join("out"));
        std::fs::write(&file, b"new").unwrap();
        std::fs::hard_link(&file, &name).unwrap();
        give_name(&file, &name, true).unwrap();
        assert_eq!((file.exists(), std::fs::read(&name).unwrap()), (false, b"new".to_vec()));
        // A link that leads there is no name of it, and would lead nowhere.
        std::fs::rename(&name, &file).unwrap();
        std::os::unix::fs::symlink(&file, &name).unwrap();
        give_name(&file, &name, true).unwrap();
        assert_eq!((file.exists(), std::fs::read(&name).unwrap()), (false, b"new".to_vec()));
        assert!(name.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, b"mine").unwrap();
        assert!(Target::new(Some(&path), false).write(b"new").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        Target::new(Some(&path), true).write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
