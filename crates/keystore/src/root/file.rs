//! The embedded default's root key: a file that only the gateway's own user can read.
//!
//! One line of text, so that it can be printed and typed in again:
//!
//! ```text
//! holdfast-root-key-1:<64 hexadecimal digits>:<8 hexadecimal digits>
//! ```
//!
//! The second number is the first half of the key's [`SealerId`](super::SealerId): it catches typing errors and says nothing of the key.

use super::{ROOT_KEY_LEN, RootKey};
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroize;

const PREFIX: &[u8] = b"holdfast-root-key-1:";
/// Prefix, key, colon, check, line feed.
const FILE_LEN: usize = PREFIX.len() + 2 * ROOT_KEY_LEN + 1 + 8 + 1;

/// Loads the root key.
///
/// The file must be a regular file, not reached through a symbolic link in its last component, owned by this process's user, and
/// closed to everybody else (mode 0600 or stricter).
///
/// # Errors
/// `not-found` if there is no such file; `key-store-unavailable` if it cannot be read, is not such a file, or is not closed to others.
pub fn load(path: &Path) -> Result<RootKey, Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(custom(flags))
        .open(path)
        .map_err(|error| not_opened(path, &error))?;
    check(path, &file, rustix::process::geteuid().as_raw())?;
    let mut text = Secret::new(Vec::with_capacity(FILE_LEN + 1));
    let limit = u64::try_from(FILE_LEN + 1).unwrap_or(u64::MAX);
    (&file).take(limit).read_to_end(text.expose_mut()).map_err(|error| {
        refused(path, "the root key file cannot be read", "check the disk").because(at(path, &error))
    })?;
    decode(text.expose()).ok_or_else(|| {
        refused(
            path,
            "the root key file does not hold a root key",
            "restore the one that sealed this directory",
        )
    })
}

/// Makes a root key and writes it to a new file of mode 0600, durable before this returns.
///
/// # Errors
/// `already-exists` if there is anything at that path; `key-store-unavailable` if it cannot be written; `internal` without entropy.
pub fn create<W: World>(path: &Path, world: &W) -> Result<RootKey, Error> {
    let root = RootKey::generate(world)?;
    write(path, &root)?;
    Ok(root)
}

/// Writes a root key to a new file of mode 0600, durable before this returns.
///
/// # Errors
/// `already-exists` if there is anything at that path; `key-store-unavailable` if it cannot be written.
pub fn write(path: &Path, root: &RootKey) -> Result<(), Error> {
    let text = encode(root)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| not_made(path, &error))?;
    let written = write_text(&mut file, path, &text);
    written.map_err(|error| {
        // Half a root key helps nobody and would be in the way of the next attempt.
        let _already_failing = std::fs::remove_file(path);
        refused(path, "the root key file cannot be written", "check the disk").because(at(path, &error))
    })
}

/// Writes this root key in the place of the one that lies there: durable before this returns, and one of the two wherever the power fails.
///
/// # Errors
/// `key-store-unavailable` if it cannot be written; then the earlier one lies there.
pub fn replace(path: &Path, root: &RootKey) -> Result<(), Error> {
    let text = encode(root)?;
    let temporary = path.with_extension("key.new");
    let written = || {
        // A leftover of an interrupted write is nobody's.
        let _none = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        write_text(&mut file, &temporary, &text)?;
        std::fs::rename(&temporary, path)?;
        folder(path)?.sync_all()
    };
    written().map_err(|error| {
        refused(path, "the root key file cannot be written", "check the disk").because(at(path, &error))
    })
}

fn not_opened(path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::new(ErrorKind::NotFound, Stage::Start, "there is no root key file")
            .remedy("make one with `holdfast init`, or restore the one that sealed this directory")
            .because(at(path, error));
    }
    // What a symbolic link gives.
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return refused(
            path,
            "the root key file is a symbolic link",
            "configure the path of the file itself",
        );
    }
    refused(path, "the root key file cannot be opened", "let the gateway's user read it")
        .because(at(path, error))
}

fn not_made(path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Error::new(ErrorKind::AlreadyExists, Stage::Start, "there is a root key file already")
            .remedy("use it; whatever it sealed opens with no other")
            .because(at(path, error));
    }
    refused(path, "the root key file cannot be made", "let the gateway's user write to its directory")
        .because(at(path, error))
}

fn write_text(file: &mut File, path: &Path, text: &Secret) -> io::Result<()> {
    file.write_all(text.expose())?;
    file.sync_all()?;
    folder(path)?.sync_all()
}

fn folder(path: &Path) -> io::Result<File> {
    File::open(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    })
}

/// Looks at the open file, not at the path again.
fn check(path: &Path, file: &File, user: u32) -> Result<(), Error> {
    let meta = file.metadata().map_err(|error| {
        refused(path, "the root key file cannot be examined", "check the disk").because(at(path, &error))
    })?;
    if !meta.is_file() {
        return Err(refused(path, "the root key file is not a regular file", "configure the path of a file"));
    }
    if meta.uid() != user {
        let remedy = "run the gateway as the file's owner, or `chown` the file to the gateway's user";
        return Err(refused(path, "the root key file belongs to another user", remedy));
    }
    if meta.mode() & 0o077 != 0 {
        let remedy = "run `chmod 600` on it; if others may have read it, restore to a new root key";
        return Err(refused(path, "the root key file is open to other users", remedy));
    }
    Ok(())
}

fn encode(root: &RootKey) -> Result<Secret, Error> {
    let mut text = Secret::new(Vec::with_capacity(FILE_LEN));
    let out = text.expose_mut();
    out.extend_from_slice(PREFIX);
    root.expose().iter().for_each(|byte| push_hex(out, *byte));
    out.push(b':');
    root.id()?.as_bytes().iter().take(4).for_each(|byte| push_hex(out, *byte));
    out.push(b'\n');
    Ok(text)
}

fn decode(text: &[u8]) -> Option<RootKey> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let rest = text.strip_prefix(PREFIX)?;
    let (digits, rest) = rest.split_at_checked(2 * ROOT_KEY_LEN)?;
    let check = rest.strip_prefix(b":")?;
    let root =
        RootKey::new(Secret::fill_with(ROOT_KEY_LEN, |out| unhex(digits, out).ok_or(())).ok()?).ok()?;
    let mut typed = [0; 4];
    unhex(check, &mut typed)?;
    root.id().ok()?.as_bytes().starts_with(&typed).then_some(root)
}

pub(super) fn push_hex(out: &mut Vec<u8>, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        // Without a table: a look-up would leave the digit in the cache.
        let letter = u8::from(digit > 9) * (b'a' - b'0' - 10);
        out.push(b'0' + digit + letter);
    }
}

pub(super) fn unhex(text: &[u8], out: &mut [u8]) -> Option<()> {
    if text.len() != 2 * out.len() {
        return None;
    }
    let mut pairs = text.chunks_exact(2);
    for byte in out.iter_mut() {
        let mut value = 0u32;
        for digit in pairs.next()? {
            value = value << 4 | char::from(*digit).to_digit(16)?;
        }
        *byte = u8::try_from(value).ok()?;
        value.zeroize();
    }
    Some(())
}

fn custom(flags: OFlags) -> i32 {
    // The flags are the kernel's own bits, which std takes as `int`.
    i32::from_ne_bytes(flags.bits().to_ne_bytes())
}

fn refused(path: &Path, detail: &'static str, remedy: &'static str) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
        .remedy(remedy)
        .because(format!("`{}`", path.display()))
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("`{}`: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::{Dry, Entropy};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_created_is_loaded_again_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        let made = create(&path, &Entropy).unwrap();
        assert_eq!(load(&path).unwrap().expose(), made.expose());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&path).unwrap().len(), FILE_LEN);
    }

    #[test]
    fn a_second_creation_is_refused_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        create(&path, &Entropy).unwrap();
        let before = fs::read(&path).unwrap();
        assert_eq!(create(&path, &Entropy).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn one_takes_the_place_of_another_and_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        let first = create(&path, &Entropy).unwrap();
        let next = RootKey::new(Secret::new(vec![9; ROOT_KEY_LEN])).unwrap();
        assert_ne!(first.expose(), next.expose());
        fs::write(path.with_extension("key.new"), "half a key").unwrap();
        replace(&path, &next).unwrap();
        assert_eq!(load(&path).unwrap().expose(), next.expose());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_entropy_there_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        assert!(create(&path, &Dry).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        create(&path, &Entropy).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err();
            assert_eq!(error.detail(), "the root key file is open to other users", "{mode:o}");
            assert!(error.remedy_text().contains("chmod 600"));
            assert!(!error.to_string().contains("root.key"), "a path is for the log alone");
            assert!(error.chain().contains("root.key"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(load(&path).is_ok());
    }

    #[test]
    fn another_users_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        create(&path, &Entropy).unwrap();
        let file = File::open(&path).unwrap();
        let owner = file.metadata().unwrap().uid();
        assert!(check(&path, &file, owner).is_ok());
        let error = check(&path, &file, owner + 1).unwrap_err();
        assert_eq!(error.detail(), "the root key file belongs to another user");
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        assert_eq!(load(&path).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(load(directory.path()).is_err());
        create(&path, &Entropy).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(load(&link).unwrap_err().detail(), "the root key file is a symbolic link");
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(load(&pipe).is_err());
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        create(&path, &Entropy).unwrap();
        let good = fs::read(&path).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(decode(&bad).is_none(), "byte {index}");
        }
        for length in 0..good.len() - 1 {
            assert!(decode(&good[..length]).is_none(), "cut to {length}");
        }
        assert!(decode(&[&good[..], b"x"].concat()).is_none());
    }
}
