//! What a vendor's module can't reach: the gateway's own directories, and the gateway.
//!
//! Landlock (Linux 5.13 and later) knows what is allowed only. So everything is, but for what lies on the way to a closed directory: there each
//! neighbour of the way is allowed, and the way's end is not. Processes outside can't be traced, and from Linux 6.12 on not signalled either.
//!
//! Under no kernel is it about what is known of a file: names that are guessed, modes, owners, times, extended attributes and locks.

use crate::pkcs11::confinement::Confinement;
use landlock::{
    ABI, Access as _, AccessFs, LandlockStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::io;
use std::path::{Path, PathBuf};

/// The newest set of restrictions that is asked for; an older kernel holds what it knows.
const ASKED: ABI = ABI::V6;

/// Closes directories to this thread and all that it starts, for ever.
///
/// # Errors
/// When one of them can't be found, or the kernel refuses.
pub(super) fn close(directories: &[PathBuf]) -> io::Result<Confinement> {
    close_as(directories, ASKED)
}

fn close_as(directories: &[PathBuf], asked: ABI) -> io::Result<Confinement> {
    let closed = directories.iter().map(std::fs::canonicalize).collect::<io::Result<Vec<_>>>()?;
    let mut open = Vec::new();
    allow_beside(Path::new("/"), &closed, &mut open)?;
    restrict(&open, asked).map_err(io::Error::other)
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

fn restrict(open: &[PathBuf], asked: ABI) -> Result<Confinement, RulesetError> {
    let files = AccessFs::from_all(asked);
    let (scopes, mut rules) = (Scope::from_all(asked), Ruleset::default().handle_access(files)?);
    if !scopes.is_empty() {
        rules = rules.scope(scopes)?;
    }
    let status = rules
        .create()?
        // What is gone by now needs no rule.
        .add_rules(path_beneath_rules(open, files))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Confinement::of_level(u8::try_from(effective_abi.min(asked) as u32).unwrap_or(0)),
        (RulesetStatus::NotEnforced, _)
        | (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => Confinement::NONE,
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
                if !confined.is_any() {
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

    /// As on kernels of those levels: what is said not to hold does not, and what is not said does.
    #[test]
    fn what_an_older_kernel_does_not_hold_is_what_is_told() {
        use rustix::process::{getppid, test_kill_process};
        use std::os::unix::fs::PermissionsExt as _;
        use std::process::Command;
        for (asked, level) in [(ABI::V1, 1), (ABI::V2, 2), (ABI::V3, 3), (ABI::V5, 5), (ABI::V6, 6)] {
            let dir = tempfile::tempdir().unwrap();
            let closed = dir.path().join("closed");
            fs::create_dir(&closed).unwrap();
            let secret = closed.join("secret");
            fs::write(&secret, "text").unwrap();
            let tried = std::thread::spawn(move || {
                let confined = close_as(&[closed], asked).unwrap();
                if confined.level() != level {
                    return assert!(confined.level() < level);
                }
                assert!(fs::read(&secret).is_err() && fs::write(&secret, "other").is_err(), "{level}");
                // By its path: to open it is refused already.
                let truncate = "exit(truncate($ARGV[0], 1) ? 0 : 1)";
                let cuts =
                    Command::new("perl").args(["-e", truncate]).arg(&secret).status().unwrap().success();
                let signals = test_kill_process(getppid().unwrap()).is_ok();
                let gaps = confined.gaps().join(" ");
                assert_eq!((cuts, signals), (gaps.contains("short"), gaps.contains("signalling")), "{level}");
                // Nobody says that these hold.
                assert_eq!(fs::metadata(&secret).unwrap().len(), if cuts { 1 } else { 4 });
                fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).unwrap();
            });
            tried.join().unwrap();
        }
    }

    #[test]
    fn what_is_not_there_can_not_be_closed() {
        assert!(close(&[PathBuf::from("/nowhere/at/all")]).is_err());
    }
}
