//! Emergency copies of a key store in memory. Two custodians allow them: the share of each is their name.

use holdfast_core::emergency::{
    Approved, CopyState, InForce, OpenRequest, OpenedCopy, REQUEST_SECONDS, RequestCopy,
};
use holdfast_core::key::KeyMaterial;
use holdfast_core::{CallerName, Error, ErrorKind, KeyId, KeyVersion, Stage, TenantId, Timestamp};
use std::collections::HashMap;

const CUSTODIANS: [&str; 3] = ["erin", "frank", "grace"];
const THRESHOLD: u8 = 2;

/// Requests, and what is in force; nothing unless copies are made here at all.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) made: bool,
    of: HashMap<KeyId, (TenantId, CopyState)>,
    /// What will be in force once that is recorded.
    opened: HashMap<KeyId, (OpenedCopy, InForce)>,
    /// Requests so far.
    asked: u64,
}

fn refused(kind: ErrorKind, detail: &'static str) -> Error {
    Error::new(kind, Stage::Perform, detail)
}

impl Copies {
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.made {
            true => Ok(()),
            false => Err(refused(ErrorKind::Unsupported, "no copies are made here")),
        }
    }

    pub(super) fn request(
        &mut self,
        versions: &[KeyMaterial<'_>],
        asked: &RequestCopy,
        now: Timestamp,
    ) -> Result<CopyState, Error> {
        self.check()?;
        let first = versions.first().ok_or_else(|| refused(ErrorKind::NotFound, "no version"))?;
        if self.opened.contains_key(&first.key) {
            return Err(refused(ErrorKind::Conflict, "an earlier request is opened"));
        }
        self.asked += 1;
        let request = OpenRequest {
            recipient: "age1double".into(),
            fingerprint: "double".into(),
            seconds: asked.seconds,
            reason: asked.reason.clone(),
            expires: now.plus_seconds(REQUEST_SECONDS),
            versions: versions.iter().map(|version| version.version).collect(),
            threshold: THRESHOLD,
            approved: vec![],
            shares: vec![],
        };
        let (_, state) =
            self.of.entry(first.key).or_insert_with(|| (first.tenant.clone(), CopyState::default()));
        state.request = Some(request);
        Ok(state.clone())
    }

    /// The last share opens them: [`Self::enforce`] puts them in force.
    pub(super) fn approve(&mut self, key: KeyId, shares: &[u8], now: Timestamp) -> Result<Approved, Error> {
        self.check()?;
        let waiting = self.of.get_mut(&key).and_then(|(_, state)| state.request.as_mut());
        let request = waiting.ok_or_else(|| refused(ErrorKind::NotFound, "no request"))?;
        let name = CUSTODIANS.into_iter().find(|name| name.as_bytes() == shares);
        let name: CallerName =
            name.ok_or_else(|| refused(ErrorKind::Integrity, "nobody's share"))?.parse().unwrap();
        if !request.approved.contains(&name) {
            request.approved.push(name);
        }
        if request.approved.len() < usize::from(THRESHOLD) {
            let state = CopyState { request: Some(request.clone()), in_force: None };
            return Ok(Approved { state, opened: None });
        }
        let in_force = InForce {
            versions: request.versions.clone(),
            since: now,
            until: now.plus_seconds(request.seconds),
            approved: request.approved.clone(),
        };
        let number = OpenedCopy::new(self.asked);
        let (number, in_force) = self.opened.entry(key).or_insert((number, in_force)).clone();
        Ok(Approved { state: CopyState { request: None, in_force: Some(in_force) }, opened: Some(number) })
    }

    pub(super) fn enforce(&mut self, key: KeyId, number: OpenedCopy) {
        let opened = self.opened.get(&key).filter(|(of, _)| *of == number).cloned();
        if let (Some((_, state)), Some((_, opened))) = (self.of.get_mut(&key), opened) {
            *state = CopyState { request: None, in_force: Some(opened) };
            self.opened.remove(&key);
        }
    }

    pub(super) fn forget_version(&mut self, key: KeyId, version: KeyVersion) {
        let Some((_, state)) = self.of.get_mut(&key) else { return };
        let in_force = [state.in_force.as_mut(), self.opened.get_mut(&key).map(|(_, opened)| opened)];
        for in_force in in_force.into_iter().flatten() {
            in_force.versions.retain(|of| *of != version);
        }
        state.request.iter_mut().for_each(|request| request.versions.retain(|of| *of != version));
        state.in_force.take_if(|in_force| in_force.versions.is_empty());
        state.request.take_if(|request| request.versions.is_empty());
    }

    pub(super) fn end(&mut self, key: KeyId) -> Result<(), Error> {
        self.check()?;
        self.opened.remove(&key);
        let ended = self.of.remove(&key).map(drop);
        ended.ok_or_else(|| refused(ErrorKind::NotFound, "nothing to end"))
    }

    pub(super) fn forget(&mut self, key: KeyId) {
        self.of.remove(&key);
        self.opened.remove(&key);
    }

    pub(super) fn forget_all(&mut self, tenant: &TenantId) {
        self.of.retain(|_, (of, _)| of != tenant);
        let of = &self.of;
        self.opened.retain(|key, _| of.contains_key(key));
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        for (_, state) in self.of.values_mut() {
            state.request.take_if(|request| now >= request.expires);
            state.in_force.take_if(|in_force| now >= in_force.until);
        }
    }

    pub(super) fn restart(&mut self) {
        *self = Self { made: self.made, ..Self::default() };
    }

    pub(super) fn state(&self, key: KeyId) -> CopyState {
        self.of.get(&key).map(|(_, state)| state.clone()).unwrap_or_default()
    }

    pub(super) fn is_in_force(&self, key: KeyId, version: KeyVersion, now: Timestamp) -> bool {
        let in_force = self.of.get(&key).and_then(|(_, state)| state.in_force.as_ref());
        in_force.is_some_and(|in_force| in_force.versions.contains(&version) && now < in_force.until)
    }
}
