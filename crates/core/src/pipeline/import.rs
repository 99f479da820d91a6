//! Key material from outside: an import begun, and finished.

use super::Pipeline;
use super::destruction::erasure_with;
use super::made::Made;
use super::plan::{Planned, planned_key, vanished, version};
use super::proof::Intent;
use super::record::{Facts, NamedKey, Scene};
use super::work::{ROTATE_AT, material};
use crate::algorithm::Algorithm;
use crate::command::{Done, NewKey};
use crate::error::{Error, ErrorKind, Stage};
use crate::event::Committed;
use crate::id::{KeyId, KeyName, KeyVersion, TenantId};
use crate::import::{BeginImport, FinishImport, MAX_SECONDS, MAX_WRAPPED, Past, Wrapped, check_value_len};
use crate::key::{Custody, Key, NewVersion, Version};
use crate::lifecycle::KeyState;
use crate::port::{End, KeyEntry, KeyStore, Ports, Remains, State, StateChange};
use std::sync::Arc;

impl<P: Ports> Pipeline<P> {
    /// A key that waits: its first version is the import key.
    pub(super) async fn plan_begin_import(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        begin: &BeginImport,
    ) -> Result<Planned, Error> {
        let BeginImport { new, seconds } = begin;
        if !(1..=MAX_SECONDS).contains(seconds) {
            let detail = format!("an import key serves 1 to {MAX_SECONDS} seconds");
            return Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail)
                .remedy("name a shorter time: it can be begun again"));
        }
        let id = self.free_name(scene, &new.name).await?;
        let (number, algorithm) = (KeyVersion::FIRST, self.algorithm_of(new));
        let expires = self.at_earliest(scene.inbound.now).plus_seconds(*seconds);
        let asked = self.new_version(scene, id, number, (algorithm, new.exportable), None)?;
        let made = self.engines.keys.begin_import(intent.permit(), asked, expires).await?;
        let public = made.public.clone().ok_or_else(|| {
            Error::new(ErrorKind::Internal, Stage::Perform, "the key store gave no public half")
        })?;
        let new = NewKey { prepared: true, ..new.clone() };
        let key = planned_key(&scene.caller.tenant, id, &new, (algorithm, made.custody), scene.inbound.now)?;
        facts.key = Some(NamedKey::of(&key, Some(number)));
        // Nothing that can be guessed: who wrapped for a key of somebody else's sees it here.
        facts.output = Some(sha256(&public));
        // Its public half is not the key's: nobody shall take it for that.
        let waiting =
            Version { state: KeyState::PreActivation, public: None, ..version(id, number, made, scene) };
        facts.made = Made::new(&key, &waiting);
        let changes = vec![
            StateChange::Key { key: key.clone(), expected: None },
            StateChange::Version { tenant: key.tenant.clone(), version: waiting },
        ];
        let done = Done::ImportBegun { key: Box::new(key), public, expires };
        Ok(Planned { changes, done, reload: None, compares: false })
    }

    /// The key whose import is to be finished, as it is once nobody else finishes it.
    pub(super) async fn enter_import(
        &self,
        tenant: &TenantId,
        facts: &mut Facts,
        name: &KeyName,
    ) -> Result<Arc<KeyEntry>, Error> {
        let seen = self.entry(tenant, name).await?.key.id;
        if facts.finishing.as_ref().is_none_or(|finishing| !finishing.is_of(seen)) {
            facts.finishing = Some(self.importing.enter(seen, name)?);
        }
        let entry = self.entry(tenant, name).await?;
        if entry.key.id != seen {
            let detail = format!("another key has the name `{name}` by now");
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail).remedy(
                "look at it with `holdfast key show`: an import key is for the key that it was made for",
            ));
        }
        Ok(entry)
    }

    /// The second version is made of the material that came; the import key goes.
    pub(super) async fn plan_finish_import(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        entry: &KeyEntry,
        finish: &FinishImport,
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        let FinishImport { key: _, wrapped, check_value, past } = finish;
        if !(before.state == KeyState::PreActivation && is_waiting(entry)) {
            return Err(not_waiting(before));
        }
        check_shape(before, wrapped, check_value)?;
        let state = start_of(before, *past)?;
        let number = before.newest.next().ok_or_else(|| not_waiting(before))?;
        facts.key = Some(NamedKey::of(before, Some(number)));
        facts.input = Some(sha256(wrapped));
        let waiting = material(scene, before, &entry.current)?;
        let of = (before.algorithm, before.exportable);
        let asked = self.new_version(scene, before.id, number, of, Some(before.custody))?;
        let brought = Wrapped { bytes: wrapped, check_value, now: self.at_latest(scene.inbound.now) };
        let made = self.engines.keys.finish_import(intent.permit(), waiting, asked, brought).await?;
        let custody = made.custody;
        facts.evidence = Some((made.evidence.clone(), made.commitment));
        let imported = version(before.id, number, made, scene);
        facts.made = Made::new(before, &imported);
        if let Past::Uses(uses) = *past {
            self.count_past(before.id, number, uses).await?;
        }
        let Remains { handle, holders } = self.engines.keys.remains(intent.permit(), waiting, End::Served)?;
        let left = self.left_since(&entry.current, &holders);
        let waits = state == KeyState::Active && self.holds_back(custody);
        let key = Key {
            state: if waits { KeyState::PreActivation } else { state },
            newest: number,
            current: number,
            waits,
            schedule: self.schedule_anew(before, scene.inbound.now),
            custody,
            erasure: erasure_with(before, (holders, left), &[], self.moment(scene.inbound.now)),
            renewed: Key::UNCOMMITTED,
            epoch: before.epoch.next(),
            ..before.clone()
        };
        let spent = Version { state: KeyState::Destroyed, handle, ..Version::clone(&entry.current) };
        let tenant = &key.tenant;
        let changes = vec![
            StateChange::Version { tenant: tenant.clone(), version: spent },
            StateChange::Version { tenant: tenant.clone(), version: imported.clone() },
            StateChange::Key { key: key.clone(), expected: Some(before.epoch) },
        ];
        Ok(Planned::key(changes, key, Arc::new(imported)))
    }

    /// Counts what was done elsewhere before anything is done here. Not twice, when it is brought at a second attempt.
    pub(super) async fn count_past(&self, key: KeyId, version: KeyVersion, uses: u64) -> Result<(), Error> {
        let counted = self.engines.state.count(key, version, 0).await?;
        if let Some(more) = uses.checked_sub(counted).filter(|more| *more > 0) {
            self.engines.state.count(key, version, more).await?;
        }
        Ok(())
    }

    pub(super) fn new_version<'a>(
        &self,
        scene: &'a Scene<'_, P>,
        key: KeyId,
        version: KeyVersion,
        (algorithm, exportable): (Algorithm, bool),
        before: Option<Custody>,
    ) -> Result<NewVersion<'a>, Error> {
        let record = &scene.view.data.record;
        let tenant_handle = record.handle.as_ref().ok_or_else(|| vanished(&record.id))?;
        Ok(NewVersion { tenant: &record.id, tenant_handle, key, version, algorithm, exportable, before })
    }
}

fn sha256(bytes: &[u8]) -> Committed {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    Committed::Sha256 { digest, bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX) }
}

/// Whether a key has no material yet: no other key's version is `pre-activation`, since a prepared key is so as a whole.
pub(super) fn is_waiting(entry: &KeyEntry) -> bool {
    entry.current.state == KeyState::PreActivation
}

/// A key without material is not put into use.
pub(super) fn check_activation(entry: &KeyEntry) -> Result<(), Error> {
    if is_waiting(entry) {
        let name = &entry.key.name;
        let detail = format!("key `{name}` waits for its import");
        return Err(Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
            .remedy(format!("run `holdfast key import finish {name}`, which also puts it into use")));
    }
    Ok(())
}

fn not_waiting(key: &Key) -> Error {
    let detail = format!("key `{}` is {} and waits for no import", key.name, key.state);
    Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
        .remedy("run `holdfast key import begin` with a new name: an import key serves one import")
}

fn check_shape(key: &Key, wrapped: &[u8], check_value: &[u8]) -> Result<(), Error> {
    let malformed = |detail: String| Error::new(ErrorKind::Malformed, Stage::Resolve, detail);
    if wrapped.len() > MAX_WRAPPED {
        return Err(malformed(format!("a wrapped key has at most {MAX_WRAPPED} bytes")));
    }
    let length = check_value_len(key.algorithm);
    if check_value.len() != length {
        let detail = format!("the check value of a key of `{}` has {} hex digits", key.algorithm, 2 * length);
        let of = match key.algorithm.is_asymmetric() {
            true => "it is the SHA-256 of the public half, DER SubjectPublicKeyInfo",
            false => "it is the beginning of the material's SHA-256",
        };
        return Err(malformed(detail).remedy(of));
    }
    Ok(())
}

/// The state in which a key begins that was made elsewhere.
pub(super) fn start_of(key: &Key, past: Past) -> Result<KeyState, Error> {
    let refused = |kind, detail: String| Error::new(kind, Stage::Resolve, detail);
    match (past, key.algorithm.has_budget()) {
        (Past::DecryptOnly, _) => Ok(KeyState::Deactivated),
        (Past::Untold, false) => Ok(KeyState::Active),
        (Past::Untold, true) => {
            let detail = format!("how often `{}` has encrypted elsewhere is not said", key.name);
            Err(refused(ErrorKind::Malformed, detail).remedy(
                "say it with `--prior-uses`: its random nonces are counted; or `--decrypt-only` where nobody knows",
            ))
        }
        (Past::Uses(_), false) => {
            let detail = format!("uses of a key of `{}` are not counted", key.algorithm);
            Err(refused(ErrorKind::Malformed, detail).remedy("leave `--prior-uses` out"))
        }
        (Past::Uses(uses), true) if uses >= ROTATE_AT => Err(used_up(&key.name, uses)),
        (Past::Uses(_), true) => Ok(KeyState::Active),
    }
}

fn used_up(name: &KeyName, uses: u64) -> Error {
    let detail = format!("key `{name}` has made {uses} random nonces, and may make no more");
    Error::new(ErrorKind::BudgetExhausted, Stage::Resolve, detail)
        .remedy("take it with `--decrypt-only`, and encrypt under a fresh key")
}
