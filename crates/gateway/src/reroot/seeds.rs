//! The seeds of the logs' keys: derived from the first root key of an instance, and carried over to each later one, so that origins and keys
//! of its logs stay. `DIR/log.seeds/ROOT` has them sealed under the root key of that name.

use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::shares::RootKey;
use crate::world::SystemWorld;
use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_keystore::root::{SealerId, under};

const LABEL: &str = "holdfast/log-seeds/v1";

/// What each log's seed is derived from.
///
/// # Errors
/// `key-store-unavailable`, when they lie there and cannot be read.
pub(crate) fn of(directory: &Directory, identity: &Identity, root: &RootKey) -> Result<RootKey, Error> {
    let path = directory.log_seeds(&root.id()?);
    match std::fs::read(&path) {
        Ok(blob) => under::open_key(root, (LABEL, identity.instance.as_bytes()), &blob).map(|(key, _)| key),
        // The first root key's.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            RootKey::new(root.derive("holdfast/logs/v1", identity.instance.as_bytes())?)
        }
        Err(error) => Err(Error::new(
            ErrorKind::KeyStoreUnavailable,
            Stage::Start,
            "the seeds of the logs' keys cannot be read",
        )
        .remedy("check the disk, and that the file belongs to the gateway's user")
        .because(format!("`{}`: {error}", path.display()))),
    }
}

/// Seals them under the next root key as well.
pub(super) fn carry_over(
    directory: &Directory,
    identity: &Identity,
    (from, to): (&RootKey, &RootKey),
) -> Result<(), Fault> {
    let seeds = of(directory, identity, from)?;
    let of = (LABEL, &identity.instance.as_bytes()[..]);
    let blob = under::seal_key(to, of, (&seeds, b""), &SystemWorld::new())?;
    write_private(&directory.log_seeds(&to.id()?), &blob)
}

/// Removes those under every other root key: what an earlier one opens is to be as little as can be.
pub(super) fn keep_only(directory: &Directory, root: SealerId) -> Result<(), Fault> {
    let kept = directory.log_seeds(&root);
    let Some(folder) = kept.parent() else { return Ok(()) };
    let wrong = |error| Fault::io("cannot remove what lies in", folder, error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(error)),
    };
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        if path != kept {
            std::fs::remove_file(&path).map_err(wrong)?;
        }
    }
    Ok(())
}
