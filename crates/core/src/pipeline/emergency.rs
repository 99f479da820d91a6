//! Emergency copies of keys: asked for, allowed by custodians, ended. What is in force lives in the key store's memory and nowhere else; the
//! record of it is written before it is used.

use super::Pipeline;
use super::found::not_loaded;
use super::plan::Planned;
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::work::material;
use crate::command::Done;
use crate::emergency::{Approved, CopyState, MAX_REASON, MAX_SECONDS, MAX_SHARES, MAX_VERSIONS, RequestCopy};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::KeyVersion;
use crate::key::{Key, Version};
use crate::lifecycle::KeyState;
use crate::port::{KeyEntry, KeyStore, Ports, State, StateChange, World};
use crate::query::MAX_PAGE;

impl<P: Ports> Pipeline<P> {
    pub(super) async fn plan_request_copy(
        &self,
        scene: &Scene<'_, P>,
        intent: &Intent,
        entry: &KeyEntry,
        request: &RequestCopy,
    ) -> Result<Planned, Error> {
        let key = &entry.key;
        self.check_stops(scene, key)?;
        check_key(key)?;
        check_request(request)?;
        let versions = self.copied_versions(key, &request.versions).await?;
        let materials: Vec<_> =
            versions.iter().map(|version| material(scene, key, version)).collect::<Result<_, _>>()?;
        let now = scene.inbound.now;
        let copy = self.engines.keys.request_copy(intent.permit(), &materials, request, now)?;
        Ok(planned(key, copy))
    }

    pub(super) fn plan_approve_copy(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        (entry, shares): (&KeyEntry, &[u8]),
    ) -> Result<Planned, Error> {
        let key = &entry.key;
        self.check_stops(scene, key)?;
        check_key(key)?;
        if shares.len() > MAX_SHARES {
            let detail = format!("a custodian's shares have at most {MAX_SHARES} bytes");
            return Err(Error::new(ErrorKind::TooLarge, Stage::Resolve, detail));
        }
        let approved = self.engines.keys.approve_copy(intent.permit(), key.id, shares, scene.inbound.now)?;
        let Approved { state: copy, opened } = approved;
        facts.subject = Some(copy.subject());
        facts.opened = opened;
        if opened.is_some() {
            facts.alarm =
                Some("emergency copies of a key are in force: it works outside of its device".into());
        }
        Ok(planned(key, copy))
    }

    pub(super) fn plan_end_copy(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        entry: &KeyEntry,
    ) -> Result<Planned, Error> {
        let key = &entry.key;
        match self.engines.keys.end_copy(intent.permit(), key.id) {
            Ok(()) => facts.has_ended = true,
            // It has, when this was planned before.
            Err(error) if facts.has_ended && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(planned(key, self.engines.keys.copy_state(key.id, scene.inbound.now)))
    }

    /// While everything is stopped nothing is prepared that would work at once when it is resumed.
    fn check_stops(&self, scene: &Scene<'_, P>, key: &Key) -> Result<(), Error> {
        let tenant = &scene.caller.tenant;
        // In this order: what stands no more is in the tenant's record by then.
        let stands = self.stops.is_standing(scene.caller.concerned(&[key.id]));
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        if view.data.record.suspended {
            return Err(super::tenant_is_suspended().remedy(
                "run `holdfast tenant resume` first, if it may work again: copies stop with the tenant",
            ));
        }
        match stands {
            true => Err(Error::new(ErrorKind::Stopped, Stage::Resolve, ErrorKind::Stopped.row().title)),
            false => Ok(()),
        }
    }

    /// Wipes what has expired.
    pub(super) fn expire_copies(&self) -> Result<(), Error> {
        self.engines.keys.expire_copies(self.engines.world.now());
        Ok(())
    }

    /// The versions that a request is for: those that it names, or the newest.
    async fn copied_versions(&self, key: &Key, named: &[KeyVersion]) -> Result<Vec<Version>, Error> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.engines.state.versions(key.id, after, MAX_PAGE).await?;
            after = page.rows.last().map(|version| version.number);
            let wanted = |version: &Version| {
                version.state != KeyState::Destroyed && (named.is_empty() || named.contains(&version.number))
            };
            found.extend(page.rows.into_iter().filter(wanted));
            let older = found.len().saturating_sub(MAX_VERSIONS);
            found.drain(..older);
            if !page.more || after.is_none() {
                break;
            }
        }
        if let Some(missing) =
            named.iter().find(|number| found.iter().all(|version| version.number != **number))
        {
            let detail = format!("key `{}` has no version {missing} that could be used", key.name);
            return Err(Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
                .remedy(format!("run `holdfast key versions {}`", key.name)));
        }
        Ok(found)
    }
}

/// Written all the same, so that a stop that comes meanwhile comes before or after, and not in between.
fn planned(before: &Key, copy: CopyState) -> Planned {
    let key = Key { epoch: before.epoch.next(), ..before.clone() };
    let changes = vec![StateChange::Key { key: key.clone(), expected: Some(before.epoch) }];
    Planned { changes, done: Done::Copy(Box::new(key), copy), reload: None, compares: false }
}

/// A key without copies never gets any, and one that is stopped works nowhere.
fn check_key(key: &Key) -> Result<(), Error> {
    if !key.emergency_copy {
        let detail = format!("key `{}` was created without an emergency copy, and never gets one", key.name);
        return Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
            .remedy("bring a member of the pool back; `docs/operate/pool.md` says how one is replaced"));
    }
    let is_usable = match key.state {
        KeyState::Active | KeyState::Deactivated => key.destruction.is_none(),
        KeyState::PreActivation | KeyState::Suspended | KeyState::Compromised | KeyState::Destroyed => false,
    };
    if is_usable {
        return Ok(());
    }
    let detail = format!("key `{}` is {}, and its emergency copies stop with it", key.name, key.state);
    Err(Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
        .remedy(format!("`holdfast key show {}` tells what can be done with it", key.name)))
}

fn check_request(request: &RequestCopy) -> Result<(), Error> {
    let RequestCopy { key: _, seconds, reason, versions } = request;
    let malformed = |detail: String| Error::new(ErrorKind::Malformed, Stage::Resolve, detail);
    if !(1..=MAX_SECONDS).contains(seconds) {
        let detail = format!("emergency copies are in force for 1 to {MAX_SECONDS} seconds");
        return Err(malformed(detail).remedy("name a shorter time: it can be asked for again"));
    }
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON {
        let detail = format!("a reason has 1 to {MAX_REASON} characters");
        return Err(malformed(detail).remedy("say why in a sentence: it stands in the audit log"));
    }
    if versions.len() > MAX_VERSIONS {
        let detail = format!("one request is for at most {MAX_VERSIONS} versions");
        return Err(malformed(detail).remedy("name those that are needed"));
    }
    Ok(())
}
