//! From one root key to another, so that a directory is the one's or the other's wherever the power fails.
//!
//! 1. the seeds of the logs' keys are sealed under the next root key as well;
//! 2. the state is taken over in one transaction: from its commit on the next root key is in force;
//! 3. the directory follows: `root.key`, or `root.shares` and `shares/`;
//! 4. what was sealed under the earlier one is removed, `root.next` last.
//!
//! Before 2 the order is as good as not begun. After it, the earlier root key leads to the next one through `root.next`, and a start brings it
//! to its end.

use super::next::Next;
use super::seeds;
use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::root::state_key;
use crate::shares::RootKey;
use crate::world::SystemWorld;
use holdfast_core::OperationId;
use holdfast_keystore::root::file as root_file;
use holdfast_keystore::sealing::Rerooting;
use holdfast_state::{DirectoryLock, is_under, rekey};
use std::fs;
use std::io;
use std::path::Path;

/// What has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The seeds are sealed under both.
    Seeds,
    /// The state is the next root key's.
    State,
    /// The next root key lies where one lies, or its list of shares.
    Root,
    /// Nothing that was sealed under the earlier one is left but the order.
    Seals,
}

/// A directory that nobody serves.
pub(super) type Place<'a> = (&'a Directory, &'a Identity, &'a DirectoryLock);

/// Puts the next root key in force, by an operation whose intent stands in the log. `after` is told of each step, and ends it there with
/// an error, as a crash would.
pub(super) fn carry_out(
    (directory, identity, lock): Place<'_>,
    (from, next): (&RootKey, &Next),
    operation: OperationId,
    after: &mut dyn FnMut(Step) -> Result<(), Fault>,
) -> Result<(), Fault> {
    seeds::carry_over(directory, identity, (from, &next.root))?;
    after(Step::Seeds)?;
    let keys = (state_key(identity, from)?, state_key(identity, &next.root)?);
    let (rerooting, world) = (Rerooting::new(from, &next.root)?, SystemWorld::new());
    rekey(lock, (&keys.0, &keys.1), operation, &mut |tenant, handle| {
        rerooting.reseal(tenant, handle, &world)
    })?;
    after(Step::State)?;
    finish(directory, next, after)
}

/// What a start does before anything is opened: a change that has come as far as the state is brought to its end. Gives the root key that is
/// in force.
///
/// # Errors
/// When the directory cannot be read or written.
pub(crate) fn settled((directory, identity, lock): Place<'_>, root: RootKey) -> Result<RootKey, Fault> {
    if !directory.next_root().exists() {
        return Ok(root);
    }
    match Next::read(directory, identity, &root)? {
        Some(next) if is_under(lock, &state_key(identity, &next.root)?)? => {
            tracing::info!(root = %next.root.id()?, "the change of the root key that was cut short is finished");
            finish(directory, &next, &mut |_| Ok(()))?;
            Ok(next.root)
        }
        // Not begun: whoever serves notices it.
        Some(_) => Ok(root),
        // Carried out, but for its last step.
        None if is_under(lock, &state_key(identity, &root)?)? => {
            let next_root = root.id()?;
            swap_shares(directory);
            if directory.roster()?.is_some_and(|roster| roster.of.root == next_root) {
                unbind(directory)?;
            }
            seeds::keep_only(directory, next_root)?;
            Next::remove(directory)?;
            Ok(root)
        }
        None => Ok(root),
    }
}

/// How far a change of the root key has come in a directory that nobody serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is ordered, and the earlier root key is in force.
    Ordered,
    /// It is in force, and not all of the directory has followed.
    InForce,
}

/// Under which root key the state stands, from the one that is at hand, and whether a change to it was cut short. Nothing is done about that.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn standing(
    (directory, identity, lock): Place<'_>,
    root: RootKey,
) -> Result<(RootKey, Option<Cut>), Fault> {
    if !directory.next_root().exists() {
        return Ok((root, None));
    }
    match Next::read(directory, identity, &root)? {
        Some(next) if is_under(lock, &state_key(identity, &next.root)?)? => {
            Ok((next.root, Some(Cut::InForce)))
        }
        Some(_) => Ok((root, Some(Cut::Ordered))),
        None if is_under(lock, &state_key(identity, &root)?)? => Ok((root, Some(Cut::InForce))),
        None => Ok((root, None)),
    }
}

/// The rest of the directory follows the state.
fn finish(
    directory: &Directory,
    next: &Next,
    after: &mut dyn FnMut(Step) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match &next.roster {
        None => root_file::replace(&directory.root_key(), &next.root)?,
        Some(roster) => {
            // An order of an earlier build has a list without a code.
            let roster = roster.clone().signed_with(&next.root)?;
            write_private(&directory.root_shares(), roster.to_text()?.as_bytes())?;
            remove(&directory.root_key())?;
            unbind(directory)?;
        }
    }
    after(Step::Root)?;
    if next.roster.is_some() {
        swap_shares(directory);
    }
    seeds::keep_only(directory, next.root.id()?)?;
    after(Step::Seals)?;
    Next::remove(directory)
}

/// What a device has sealed is the earlier root key: it must neither be opened again nor stand there as if it could be.
fn unbind(directory: &Directory) -> Result<(), Fault> {
    let bound: Vec<_> =
        [directory.root_tpm(), directory.root_hsm()].into_iter().filter(|path| path.exists()).collect();
    if !bound.is_empty() {
        tracing::warn!(
            remedy = "run `holdfast root bind` while the gateway is stopped; until then each start needs its custodians",
            "no device has sealed the new root key"
        );
    }
    bound.iter().try_for_each(|path| remove(path))
}

/// What may be gone already.
fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::io("cannot remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Nothing is left with those who were to have the next root key, where it was not put in force.
pub(super) fn given_up(directory: &Directory, root: &RootKey) -> Result<(), Fault> {
    seeds::keep_only(directory, root.id()?)?;
    match fs::remove_dir_all(directory.new_shares()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Fault::io("cannot remove", &directory.new_shares(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Puts the files of a new generation in the place of the earlier one's. They are with their custodians; the copies here are for
/// convenience, and encrypted to them.
pub(crate) fn swap_shares(directory: &Directory) {
    let (old, new) = (directory.shares(), directory.new_shares());
    if !new.exists() {
        return;
    }
    let swapped = match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => fs::rename(&new, &old),
    };
    if let Err(error) = swapped {
        tracing::warn!(%error, "the new shares are in force, and their files stay in `{}`", new.display());
    }
}
