//! What a vendor's module can't reach: the gateway's own directories, and the gateway.
//!
//! Landlock (Linux 5.13 and later) knows what is allowed only. So everything is, but for what lies on the way to a closed directory: there each
//! neighbour of the way is allowed, and the way's end is not. Processes outside can't be signalled (6.12 and later) or traced either.

use landlock::{
    ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use std::io;
use std::path::{Path, PathBuf};

/// The newest set of restrictions that is asked for; an older kernel holds what it knows.
const ASKED: ABI = ABI::V6;

/// How far the kernel holds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confined {
    /// All of it.
    Wholly,
    /// The directories, and not all of the rest.
    Partly,
    /// Nothing: it has no Landlock.
    Not,
}

impl Confined {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Not => 0,
            Self::Partly => 1,
            Self::Wholly => 2,
        }
    }
}

/// Closes directories to this thread and all that it starts, for ever.
///
/// # Errors
/// When one of them can't be found, or the kernel refuses.
pub(super) fn close(directories: &[PathBuf]) -> io::Result<Confined> {
    let closed = directories.iter().map(std::fs::canonicalize).collect::<io::Result<Vec<_>>>()?;
    let mut open = Vec::new();
    allow_beside(Path::new("/"), &closed, &mut open)?;
    restrict(&open).map_err(io::Error::other)
}

/// Everything below a directory that lies on no way to a closed one.
fn allow_beside(directory: &Path, closed: &[PathBuf], open: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?.path();
        if closed.contains(&entry) {
            continue;
        }
        match closed.iter().any(|closed| closed.starts_with(&entry)) {
            true => allow_beside(&entry, closed, open)?,
            false => open.push(entry),
        }
    }
    Ok(())
}

fn restrict(open: &[PathBuf]) -> Result<Confined, RulesetError> {
    let files = AccessFs::from_all(ASKED);
    let status = Ruleset::default()
        .handle_access(files)?
        .scope(Scope::from_all(ASKED))?
        .create()?
        // What is gone by now needs no rule.
        .add_rules(path_beneath_rules(open, files))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confined::Wholly,
        RulesetStatus::PartiallyEnforced => Confined::Partly,
        RulesetStatus::NotEnforced => Confined::Not,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_closed_is_closed_and_its_neighbours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["closed/below", "beside"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["closed/secret", "closed/below/secret", "beside/file", "file"] {
            fs::write(at(name), "text").unwrap();
        }
        std::os::unix::fs::symlink(at("closed"), at("beside/way-round")).unwrap();
        // A thread is confined for as long as it lives, and its process is not.
        let tried = std::thread::spawn({
            let dir = dir.path().to_owned();
            move || {
                let at = |name: &str| dir.join(name);
                let confined = close(&[at("closed")]).unwrap();
                if confined == Confined::Not {
                    return;
                }
                for name in ["closed/secret", "closed/below/secret", "beside/way-round/secret"] {
                    let denied = fs::read(at(name)).unwrap_err();
                    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied, "{name}");
                    assert!(fs::write(at(name), "other").is_err(), "{name}");
                }
                assert!(fs::rename(at("closed/secret"), at("beside/taken")).is_err());
                assert!(fs::hard_link(at("closed/secret"), at("beside/taken")).is_err());
                assert_eq!(fs::read(at("beside/file")).unwrap(), b"text");
                fs::write(at("beside/new"), "text").unwrap();
                fs::rename(at("beside/new"), at("beside/renamed")).unwrap();
                assert_eq!(fs::read(at("file")).unwrap(), b"text");
                fs::read("/proc/self/status").unwrap();
            }
        });
        tried.join().unwrap();
        assert_eq!(fs::read(at("closed/secret")).unwrap(), b"text", "others are not concerned");
    }

    #[test]
    fn what_is_not_there_can_not_be_closed() {
        assert!(close(&[PathBuf::from("/nowhere/at/all")]).is_err());
    }
}
