//! The end of a key's versions, and the way back to an earlier one.

use super::Pipeline;
use super::destruction::erasure_with;
use super::plan::Planned;
use super::proof::Intent;
use super::record::{Facts, NamedKey, Scene};
use super::work::{ROTATE_AT, material};
use crate::action::Action;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Stage};
use crate::event::Committed;
use crate::id::{KeyName, KeyVersion};
use crate::inventory::{Inventory, Need, TakenInventory};
use crate::key::{Key, Version};
use crate::lifecycle::{KeyState, VersionVerb};
use crate::port::{End, KeyEntry, KeyStore, Ports, State, StateChange};
use crate::time::Timestamp;
use std::sync::Arc;

/// How many versions a rollback passes over to find one that is active.
const MAX_PASSED: usize = 1000;

impl<P: Ports> Pipeline<P> {
    /// New work takes the newest active version before the one that it takes now. Never a later one: so a version that new work has left
    /// for a rotation comes back only by a rollback, and an inventory knows when that was.
    pub(super) async fn plan_roll_back(&self, facts: &mut Facts, entry: &KeyEntry) -> Result<Planned, Error> {
        let before = &entry.key;
        if before.state != KeyState::Active {
            let detail =
                format!("key `{}` is {}, and only an active key is rolled back", before.name, before.state);
            return Err(refused(detail));
        }
        // A rotation that is not in use yet is taken back by leaving new work where it is.
        if before.waits {
            let key = Key { waits: false, epoch: before.epoch.next(), ..before.clone() };
            facts.key = Some(NamedKey::of(&key, Some(key.current)));
            let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
            return Ok(Planned::key(vec![change], key, Arc::clone(&entry.current)));
        }
        let version = self.earlier(before).await?;
        if before.algorithm.has_budget() {
            let used = self.engines.state.count(before.id, version.number, 0).await?;
            if used >= ROTATE_AT {
                let detail = format!(
                    "version {} of key `{}` has made {used} random nonces",
                    version.number, before.name
                );
                return Err(Error::new(ErrorKind::BudgetExhausted, Stage::Resolve, detail).remedy(format!(
                    "run `holdfast key rotate {}`: new work then takes a fresh version",
                    before.name
                )));
            }
        }
        let key = Key {
            current: version.number,
            custody: self.engines.keys.custody_of(&version.handle),
            // What it said is from before: from now on more comes under this version.
            inventory: None,
            epoch: before.epoch.next(),
            ..before.clone()
        };
        facts.key = Some(NamedKey::of(&key, Some(version.number)));
        let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
        Ok(Planned::key(vec![change], key, version))
    }

    async fn earlier(&self, key: &Key) -> Result<Arc<Version>, Error> {
        let mut number = key.current;
        for _ in 0..MAX_PASSED {
            let Some(previous) = number.previous() else { break };
            number = previous;
            match self.engines.state.version(key.id, number).await? {
                Some(version) if version.state == KeyState::Active => return Ok(version),
                Some(_) | None => {}
            }
        }
        let detail =
            format!("key `{}` has no active version before {}, which new work takes", key.name, key.current);
        Err(refused(detail).remedy(format!(
            "run `holdfast key rotate {0}` for a fresh version, or `holdfast key activate {0} --version N` for one that was deactivated",
            key.name
        )))
    }

    /// A version that new work does not take, and that nothing needs any more.
    pub(super) async fn plan_version(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        entry: &KeyEntry,
        (number, verb, without_inventory): (KeyVersion, VersionVerb, bool),
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        facts.key = Some(NamedKey::of(before, Some(number)));
        let version = self.engines.state.version(before.id, number).await?.ok_or_else(|| {
            let detail = format!("key `{}` has no version {number}", before.name);
            Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
        })?;
        let state = may(before, &version, verb, without_inventory)?;
        let (mut handle, mut archive) = (version.handle.clone(), before.archive.clone());
        let (mut erasure, mut due) = (before.erasure.clone(), None);
        if verb == VersionVerb::Destroy {
            let material = material(scene, before, &version)?;
            let remains = self.engines.keys.remains(intent.permit(), material, End::Destroyed)?;
            handle = remains.handle;
            let mut under: Vec<_> = self.sealing_key_of(before, &version.handle).into_iter().collect();
            // A bundle that nobody has opened yet holds this version too: it opens no more from here on.
            under.extend(self.opener_lies_under(before));
            archive = None;
            let left = self.left_since(&version, &remains.holders);
            erasure = erasure_with(before, (remains.holders, left), &under, self.moment(scene.inbound.now));
            due = self.sealing_key_due(&before.tenant, &under, scene.inbound.now).await?;
        }
        let version = Version { state, handle, ..Version::clone(&version) };
        let key = Key { archive, erasure, epoch: before.epoch.next(), ..before.clone() };
        let reload = due.is_some().then(|| key.tenant.clone());
        let mut changes = vec![
            StateChange::Version { tenant: key.tenant.clone(), version },
            StateChange::Key { key: key.clone(), expected: Some(before.epoch) },
        ];
        changes.extend(due);
        Ok(Planned { reload, ..Planned::key(changes, key, Arc::clone(&entry.current)) })
    }
}

fn refused(detail: String) -> Error {
    Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
}

/// The state that an order leads a version to, if nothing speaks against it.
fn may(key: &Key, version: &Version, verb: VersionVerb, without_inventory: bool) -> Result<KeyState, Error> {
    let (name, number) = (&key.name, version.number);
    if key.state == KeyState::Destroyed {
        return Err(refused(format!("key `{name}` is destroyed, with all of its versions")));
    }
    if key.is_archived() {
        return Err(super::archive::is_archived(key));
    }
    if let Some(order) = &key.destruction {
        let detail = format!("key `{name}` waits to be destroyed, until {} at least", order.due());
        return Err(refused(detail).remedy(format!("run `holdfast key cancel-destruction {name}` first")));
    }
    if number == key.current {
        let remedy = format!("run `holdfast key rotate {name}` first, or `holdfast key rollback {name}`");
        return Err(refused(format!("version {number} of key `{name}` is the one that new work takes"))
            .remedy(remedy));
    }
    if key.waits && number == key.newest {
        let remedy = format!("run `holdfast key rollback {name}` first: new work then stays where it is");
        return Err(
            refused(format!("version {number} of key `{name}` waits to be put into use")).remedy(remedy)
        );
    }
    let state = version.state.version_after(verb).ok_or_else(|| {
        let error = refused(format!("version {number} of key `{name}` is {}", version.state));
        match (verb, version.state) {
            (VersionVerb::Destroy, KeyState::Active) => error.remedy(format!(
                "run `holdfast key deactivate {name} --version {number}` first: destruction is final"
            )),
            (_, _) => error,
        }
    })?;
    if verb == VersionVerb::Activate {
        return Ok(state);
    }
    let need = key.inventory.as_ref().map_or(Need::Unknown, |inventory| inventory.need(number));
    match (need, without_inventory) {
        (Need::NotNeeded, _) | (Need::Unknown, true) => Ok(state),
        (Need::Needed, _) => {
            let detail =
                format!("version {number} of key `{name}` is still needed, as its last inventory says");
            Err(refused(detail).remedy(format!(
                "rewrap what is under it with `holdfast rewrap`, and record what is left with `holdfast key inventory {name}`"
            )))
        }
        (Need::Unknown, false) => {
            let detail = format!("no inventory says that version {number} of key `{name}` is not needed");
            Err(refused(detail).remedy(format!(
                "record one with `holdfast key inventory {name}`, or add `--without-inventory`, which stands in the log"
            )))
        }
    }
}

/// An inventory in the place of the last one.
pub(super) fn plan_inventory(
    facts: &mut Facts,
    entry: &KeyEntry,
    taken: &TakenInventory,
    now: Timestamp,
) -> Result<Planned, Error> {
    let TakenInventory { current, newest, needed, items, sha256, bytes } = taken;
    let before = &entry.key;
    facts.input = Some(Committed::Sha256 { digest: *sha256, bytes: *bytes });
    if *current != before.current {
        let detail = format!(
            "the inventory was taken while new work took version {current} of key `{}`, and it takes {} now",
            before.name, before.current
        );
        return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail)
            .remedy("take it again with `holdfast rewrap`, and record that"));
    }
    // New work goes forward only to a newer version, and back to an earlier one. So if none came and it takes the same one, it took no other
    // meanwhile: under each of them there could be something by now that was not there to be counted.
    if *newest != before.newest_used() {
        let detail = format!(
            "the inventory was begun when version {newest} of key `{}` was the newest, and {} is now",
            before.name,
            before.newest_used()
        );
        return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail)
            .remedy("take it again with `holdfast rewrap`, and record that"));
    }
    if let Some(unknown) = needed.iter().find(|version| **version > before.newest) {
        let detail = format!("key `{}` has no version {unknown}", before.name);
        return Err(Error::new(ErrorKind::NotFound, Stage::Resolve, detail));
    }
    let mut needed = needed.clone();
    needed.push(before.current);
    needed.sort_unstable();
    needed.dedup();
    if needed.len() > Inventory::MAX_NEEDED {
        let detail =
            format!("{} versions are still needed, more than {}", needed.len(), Inventory::MAX_NEEDED);
        return Err(Error::new(ErrorKind::TooLarge, Stage::Resolve, detail)
            .remedy("rewrap first, and record what is left then"));
    }
    let inventory = Inventory { newest: *newest, needed, items: *items, sha256: *sha256, recorded: now };
    let key = Key { inventory: Some(Arc::new(inventory)), epoch: before.epoch.next(), ..before.clone() };
    let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
    Ok(Planned::key(vec![change], key, Arc::clone(&entry.current)))
}

const WITHOUT: &str = " without inventory";

/// Which version, for the event; and whether somebody took it on themselves.
pub(super) fn version_subject(version: KeyVersion, without_inventory: bool) -> Box<str> {
    format!("version {version}{}", if without_inventory { WITHOUT } else { "" }).into()
}

/// What an inventory found, for the event.
pub(super) fn inventory_subject(taken: &TakenInventory) -> Box<str> {
    let TakenInventory { current, needed, items, .. } = taken;
    let mut versions: Vec<_> = needed.iter().chain([current]).copied().collect();
    versions.sort_unstable();
    versions.dedup();
    let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
    format!("{items} items, needs version {}", versions.join(", ")).into()
}

/// The destruction of a version that an open intent was: it may have begun.
pub(super) fn destruction(action: Action, key: Option<KeyName>, subject: Option<&str>) -> Option<Command> {
    let (key, subject) = (key.filter(|_| action == Action::DestroyVersion)?, subject?);
    let number = subject.strip_prefix("version ")?;
    let (number, without_inventory) = match number.strip_suffix(WITHOUT) {
        Some(number) => (number, true),
        None => (number, false),
    };
    let version = number.parse().ok().and_then(KeyVersion::new)?;
    Some(Command::TransitionVersion { key, version, verb: VersionVerb::Destroy, without_inventory })
}
