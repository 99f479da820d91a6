//! `root.next`: the next root key, sealed under the one in force, with the list of its shares if it is in shares. Whoever can write it has
//! the root key; so it is the order as well.

use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::shares::{RootKey, Roster};
use crate::world::SystemWorld;
use holdfast_keystore::root::under;
use std::io::ErrorKind;

const LABEL: &str = "holdfast/next-root/v1";

/// What is to be in force next.
pub(crate) struct Next {
    /// The key.
    pub(super) root: RootKey,
    /// Who has its shares; nobody where it is in a file.
    pub(super) roster: Option<Roster>,
}

impl Next {
    /// Orders it: from here on whoever serves the directory puts it in force.
    ///
    /// # Errors
    /// When it cannot be written durably.
    pub(super) fn order(
        &self,
        directory: &Directory,
        identity: &Identity,
        from: &RootKey,
    ) -> Result<(), Fault> {
        let text = self.roster.as_ref().map(Roster::to_text).transpose()?.unwrap_or_default();
        let of = (LABEL, &identity.instance.as_bytes()[..]);
        let blob = under::seal_key(from, of, (&self.root, text.as_bytes()), &SystemWorld::new())?;
        write_private(&directory.next_root(), &blob)
    }

    /// What was ordered under this root key; `None` if nothing was, or under another one.
    ///
    /// # Errors
    /// When it cannot be read, or was not written by who has the root key.
    pub(crate) fn read(
        directory: &Directory,
        identity: &Identity,
        root: &RootKey,
    ) -> Result<Option<Self>, Fault> {
        let path = directory.next_root();
        let blob = match std::fs::read(&path) {
            Ok(blob) => blob,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::io("cannot read", &path, error)),
        };
        if under::sealer(&blob) != Some(root.id()?) {
            return Ok(None);
        }
        let refused = || {
            Fault::new(format!("`{}` is no order of who has the root key", path.display()))
                .remedy("find out who wrote it, and remove it")
        };
        let (root, text) = under::open_key(root, (LABEL, identity.instance.as_bytes()), &blob)
            .map_err(|error| refused().because(error))?;
        let roster = match text.is_empty() {
            true => None,
            false => Some(Roster::parse(std::str::from_utf8(&text).map_err(|_| refused())?)?),
        };
        Ok(Some(Self { root, roster }))
    }

    /// Takes the order back, or removes what was carried out.
    pub(crate) fn remove(directory: &Directory) -> Result<(), Fault> {
        let path = directory.next_root();
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::io("cannot remove", &path, error)),
        }
        let synced = std::fs::File::open(directory.path()).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Fault::io("cannot write", directory.path(), error))
    }
}
