//! The archive of a key: the bundle is made first, the material leaves the live state when somebody has shown that it opens, and comes back as
//! what it was and no more.

use super::Pipeline;
use super::plan::{Planned, vanished};
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::work::material;
use crate::archive::{Bundled, BundledVersion, KeyArchive, MAX_ARCHIVED_VERSIONS, UnarchiveKey};
use crate::command::Done;
use crate::error::{Error, ErrorKind, Stage};
use crate::event::Committed;
use crate::frame::Commitment;
use crate::id::KeyVersion;
use crate::key::{Custody, Key, KeyMaterial, NewVersion, SealedHandle, Version};
use crate::lifecycle::KeyState;
use crate::port::{Archive, KeyEntry, KeyStore, Ports, State, StateChange, World};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

impl<P: Ports> Pipeline<P> {
    /// Makes the bundle; the key stays as it is.
    pub(super) async fn plan_archive(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        entry: &KeyEntry,
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        may_be_archived(before)?;
        let (keys, permit) = (&self.engines.keys, intent.permit());
        let opener = keys.new_archive(permit, self.of_archive(scene, before)?)?;
        let asked = opener_of(scene, before, &opener)?;
        let mut versions = Vec::new();
        for version in self.living_versions(before).await? {
            if keys.custody_of(&version.handle) != Custody::Software {
                let detail = format!(
                    "version {} of key `{}` is in a device, which does not give its material away",
                    version.number, before.name
                );
                return Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
                    .remedy("archive keys in software custody; of a key in tokens keep several tokens"));
            }
            let sealed = keys.archive(permit, asked, material(scene, before, &version)?)?;
            let Version { key: _, number, state, handle: _, public, commitment, commit: _, created } =
                version;
            versions.push(BundledVersion { number, state, created, public, commitment, sealed });
        }
        let mut code = [0; 32];
        self.engines.world.fill(&mut code)?;
        let (id, made) = (facts.operation, scene.inbound.now);
        let bundled = Bundled { id, made, key: before, code, versions };
        let bundle = self.engines.archive.enclose(&bundled)?;
        // Nothing that can be guessed: whoever holds the file finds its record.
        let bytes = u64::try_from(bundle.bytes.len()).unwrap_or(u64::MAX);
        facts.output = Some(Committed::Sha256 { digest: bundle.digest, bytes });
        let archive = KeyArchive {
            id,
            made,
            expires: bundle.keep_days.map(|days| made.plus_seconds(u64::from(days) * 86_400)),
            sha256: bundle.digest,
            code: sha256(&code),
            stored: None,
            opener: Some(opener),
            sealed_under: Vec::new(),
        };
        let key = Key { archive: Some(Arc::new(archive)), epoch: before.epoch.next(), ..before.clone() };
        let changes = vec![StateChange::Key { key: key.clone(), expected: Some(before.epoch) }];
        Ok(Planned {
            changes,
            done: Done::KeyArchived(Box::new(key), bundle.bytes),
            reload: None,
            compares: false,
        })
    }

    /// Somebody has opened the bundle: the material leaves the live state.
    pub(super) async fn plan_confirm_archive(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        entry: &KeyEntry,
        code: &[u8; 32],
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        may_be_archived(before)?;
        let Some(archive) = &before.archive else {
            return Err(refused(format!("of key `{}` there is no archive", before.name))
                .remedy(format!("run `holdfast key archive {} --to FILE` first", before.name)));
        };
        facts.subject = Some(format!("archive {}", archive.id).into());
        if !bool::from(sha256(code).ct_eq(&archive.code)) {
            let detail = "the code is not the one in the newest archive of this key";
            return Err(Error::new(ErrorKind::Integrity, Stage::Perform, detail)
                .remedy("give the newest archive: an earlier one opens no more"));
        }
        let (mut changes, mut under, mut current) = (Vec::new(), Vec::new(), Arc::clone(&entry.current));
        for version in self.living_versions(before).await? {
            under.extend(self.sealing_key_of(before, &version.handle));
            let version = Version { handle: SealedHandle::new(&[]), ..version };
            if version.number == current.number {
                current = Arc::new(version.clone());
            }
            changes.push(StateChange::Version { tenant: before.tenant.clone(), version });
        }
        under.sort_unstable();
        under.dedup();
        let stored = Some(scene.inbound.now);
        let archive = KeyArchive { stored, sealed_under: under.clone(), ..KeyArchive::clone(archive) };
        let key = Key { archive: Some(Arc::new(archive)), epoch: before.epoch.next(), ..before.clone() };
        changes.push(StateChange::Key { key: key.clone(), expected: Some(before.epoch) });
        changes.extend(self.sealing_key_due(&before.tenant, &under, scene.inbound.now).await?);
        Ok(Planned { reload: Some(before.tenant.clone()), ..Planned::key(changes, key, current) })
    }

    /// The material of every version that was not destroyed meanwhile comes back, in whatever state the key is now.
    pub(super) async fn plan_unarchive(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        (entry, brought): (&KeyEntry, &UnarchiveKey),
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        let UnarchiveKey { key: _, archive: id, versions: sealed } = brought;
        if before.state == KeyState::Destroyed {
            let detail = format!("key `{}` is destroyed, and its archive opens no more", before.name);
            return Err(refused(detail).remedy(
                "nothing brings it back but a backup from before: `holdfast key show` lists those that hold it as `held_by`",
            ));
        }
        if before.destruction.is_some() {
            return Err(waits_to_be_destroyed(before));
        }
        let opener = before
            .archive
            .as_ref()
            .filter(|_| before.is_archived())
            .and_then(|archive| archive.opener.as_ref().map(|opener| (archive.id, opener)));
        let Some((of, opener)) = opener else {
            return Err(refused(format!("key `{}` is not archived", before.name)));
        };
        if of != *id {
            let detail = format!("key `{}` is in archive {of}, and this is {id}", before.name);
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail)
                .remedy("give the file that `holdfast key show` names by its SHA-256"));
        }
        facts.subject = Some(format!("archive {id}").into());
        let asked = opener_of(scene, before, opener)?;
        let (mut changes, mut current) = (Vec::new(), Arc::clone(&entry.current));
        for version in self.living_versions(before).await? {
            let Some((_, sealed)) = sealed.iter().find(|(number, _)| *number == version.number) else {
                let detail = format!("the archive does not hold version {} of the key", version.number);
                return Err(Error::new(ErrorKind::Integrity, Stage::Perform, detail)
                    .remedy("give the whole archive as it was written"));
            };
            let place = material(scene, before, &version)?;
            let handle = self.engines.keys.unarchive(intent.permit(), asked, place, sealed)?;
            let version = Version { handle, ..version };
            if version.number == current.number {
                current = Arc::new(version.clone());
            }
            changes.push(StateChange::Version { tenant: before.tenant.clone(), version });
        }
        // No backup from while it was away holds it.
        let renewed = Key::UNCOMMITTED;
        let key = Key { archive: None, renewed, epoch: before.epoch.next(), ..before.clone() };
        changes.push(StateChange::Key { key: key.clone(), expected: Some(before.epoch) });
        // What opened the archive lay under a sealing key too: from here on the bundle is worth nothing.
        let under: Vec<_> = self.opener_lies_under(before).into_iter().collect();
        changes.extend(self.sealing_key_due(&before.tenant, &under, scene.inbound.now).await?);
        Ok(Planned { reload: Some(before.tenant.clone()), ..Planned::key(changes, key, current) })
    }

    fn of_archive<'a>(&self, scene: &'a Scene<'_, P>, key: &Key) -> Result<NewVersion<'a>, Error> {
        self.new_version(scene, key.id, KeyVersion::FIRST, (key.algorithm, key.exportable), None)
    }

    /// All versions that are not destroyed.
    async fn living_versions(&self, key: &Key) -> Result<Vec<Version>, Error> {
        let (mut living, mut after) = (Vec::new(), None);
        loop {
            let page = self.engines.state.versions(key.id, after, MAX_ARCHIVED_VERSIONS).await?;
            after = page.rows.last().map(|version| version.number);
            living.extend(page.rows.into_iter().filter(|version| version.state != KeyState::Destroyed));
            if living.len() > MAX_ARCHIVED_VERSIONS {
                let detail = format!("an archive holds {MAX_ARCHIVED_VERSIONS} versions at most");
                return Err(Error::new(ErrorKind::TooLarge, Stage::Resolve, detail)
                    .remedy("destroy versions that nothing needs: `holdfast key destroy --version`"));
            }
            if !page.more {
                return Ok(living);
            }
        }
    }
}

/// What opens a key's archive, as the key store is told of it: bound to the key, as its first version is.
pub(super) fn opener_of<'a, P: Ports>(
    scene: &'a Scene<'_, P>,
    key: &'a Key,
    opener: &'a SealedHandle,
) -> Result<KeyMaterial<'a>, Error> {
    let record = &scene.view.data.record;
    Ok(KeyMaterial {
        tenant: &key.tenant,
        tenant_handle: record.handle.as_ref().ok_or_else(|| vanished(&record.id))?,
        key: key.id,
        version: KeyVersion::FIRST,
        algorithm: key.algorithm,
        exportable: key.exportable,
        commitment: &Commitment::NONE,
        handle: opener,
    })
}

/// A key that is in use, or that is to be in use again, is not put away.
fn may_be_archived(key: &Key) -> Result<(), Error> {
    let name = &key.name;
    if key.is_archived() {
        return Err(is_archived(key));
    }
    if key.destruction.is_some() {
        return Err(waits_to_be_destroyed(key));
    }
    match key.state {
        KeyState::Deactivated | KeyState::Compromised => Ok(()),
        KeyState::PreActivation | KeyState::Active | KeyState::Suspended => {
            Err(refused(format!("key `{name}` is {}, and only a deactivated key is archived", key.state))
                .remedy(format!("run `holdfast key deactivate {name}` first")))
        }
        KeyState::Destroyed => Err(refused(format!("key `{name}` is destroyed"))),
    }
}

pub(super) fn is_archived(key: &Key) -> Error {
    refused(format!("key `{}` is archived", key.name))
        .remedy("run `holdfast key unarchive` with its archive first")
}

fn waits_to_be_destroyed(key: &Key) -> Error {
    refused(format!("key `{}` waits to be destroyed", key.name))
        .remedy(format!("run `holdfast key cancel-destruction {}` first", key.name))
}

fn refused(detail: String) -> Error {
    Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}
