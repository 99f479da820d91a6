//! The files of a tree, in order, and the lock that says that one campaign is at work there.

use crate::exit::Exit;
use crate::failure::Failure;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How files are called while they are written: what still has such a name was left by a run that was killed.
pub(super) const PREFIX: &str = ".holdfast-rewrap-";

/// Locks a tree for this process.
pub(super) fn lock(root: &Path) -> Result<File, Failure> {
    let directory = File::open(root).map_err(|error| Failure::file("read", root, &error))?;
    directory.try_lock().map_err(|_| {
        Failure::new(Exit::State, format!("another campaign is at work in `{}`", root.display()))
            .remedy("wait for it to end")
    })?;
    Ok(directory)
}

/// Walks through a tree; symbolic links below its root are not followed, and no file is met twice.
pub(super) struct Walk {
    /// What was named: it may be a link itself.
    root: Option<PathBuf>,
    /// What lies ahead, in order.
    ahead: VecDeque<PathBuf>,
    /// Whether what a killed run has left is removed.
    removes: bool,
}

/// A file, or what could not be looked at.
pub(super) type Met = Result<PathBuf, (PathBuf, io::Error)>;

impl Walk {
    pub(super) fn new(root: &Path, removes: bool) -> Self {
        Self { root: Some(root.to_owned()), ahead: VecDeque::new(), removes }
    }

    fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let entries = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
        let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort_unstable();
        for path in entries.into_iter().rev() {
            self.ahead.push_front(path);
        }
        Ok(())
    }

    fn look(&mut self, path: &Path) -> io::Result<bool> {
        let kind = path.symlink_metadata()?.file_type();
        if kind.is_dir() {
            self.enter(path)?;
            return Ok(false);
        }
        let is_left = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if is_left && self.removes && kind.is_file() {
            std::fs::remove_file(path)?;
        }
        Ok(kind.is_file() && !is_left)
    }
}

impl Iterator for Walk {
    type Item = Met;

    fn next(&mut self) -> Option<Met> {
        if let Some(root) = self.root.take()
            && let Err(error) = self.enter(&root)
        {
            return Some(Err((root, error)));
        }
        loop {
            let path = self.ahead.pop_front()?;
            match self.look(&path) {
                Ok(true) => return Some(Ok(path)),
                Ok(false) => {}
                Err(error) => return Some(Err((path, error))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_met_once_in_order_and_leftovers_go() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("b/c")).unwrap();
        let leftover = format!("b/{PREFIX}x");
        for name in ["z", "b/c/1", "b/0", "a", &leftover] {
            std::fs::write(at(name), b"").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), at("b/loop")).unwrap();
        let met: Vec<PathBuf> = Walk::new(root.path(), true).map(Result::unwrap).collect();
        assert_eq!(met, ["a", "b/0", "b/c/1", "z"].map(at));
        assert!(!at(&leftover).exists());
        assert!(Walk::new(&at("nowhere"), true).next().unwrap().is_err());
        let by_link: Vec<PathBuf> = Walk::new(&at("b/loop/b"), true).map(Result::unwrap).collect();
        assert_eq!(by_link.len(), 2);
        assert_eq!(Walk::new(&at("b/loop"), true).count(), 4, "the root may be a link");
    }

    #[test]
    fn one_campaign_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = lock(root.path()).unwrap();
        assert!(lock(root.path()).is_err());
        drop(first);
        assert!(lock(root.path()).is_ok());
    }
}
