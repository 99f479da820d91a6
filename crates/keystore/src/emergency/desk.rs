//! Requests for copies, the shares that are given for them, and the copies in force. All of it lives in this process's memory alone.

use super::copy::{self, Copy, Of, SHARE_LEN};
use super::{Custodians, Mailbox};
use crate::refusal;
use crate::root::spoken::Fingerprint;
use crate::software::material::{self, Ready};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::emergency::{
    Approved, CopyState, InForce, OpenRequest, OpenedCopy, REQUEST_SECONDS, RequestCopy, SealedShare,
};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{KeyMaterial, NewVersion, TokenOrigin};
use holdfast_core::port::World;
use holdfast_core::{CallerName, Error, ErrorKind, KeyId, KeyVersion, Secret, Stage, TenantId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Wrong shares after which a request is over.
const MAX_WRONG: u32 = 10;
/// Requests that wait at once.
const MAX_REQUESTS: usize = 64;

/// Where copies are made, asked for and held.
pub(crate) struct Desk {
    /// Nobody: there are no copies.
    custodians: Option<Custodians>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    requests: HashMap<KeyId, Request>,
    /// How many there have been: the newest one's number.
    asked: u64,
    in_force: HashMap<KeyId, Opened>,
}

/// A moment by both clocks: it has come when either says so.
#[derive(Clone, Copy)]
struct Moment {
    wall: Timestamp,
    /// Of the clock that never steps, in microseconds.
    ticks: u64,
}

impl Moment {
    fn after<W: World>(seconds: u64, now: Timestamp, world: &W) -> Self {
        let ticks = world.ticks().saturating_add(seconds.saturating_mul(1_000_000));
        Self { wall: now.plus_seconds(seconds), ticks }
    }

    fn has_come<W: World>(&self, now: Timestamp, world: &W) -> bool {
        now >= self.wall || world.ticks() >= self.ticks
    }
}

struct Request {
    number: OpenedCopy,
    tenant: TenantId,
    mailbox: Arc<dyn Mailbox>,
    seconds: u64,
    reason: Box<str>,
    expires: Moment,
    wanted: Vec<Wanted>,
    approved: Vec<CallerName>,
    wrong: u32,
    /// Enough have allowed it: what is to be in force once that is recorded.
    opened: Option<Opened>,
}

/// A version whose copy is asked for.
struct Wanted {
    version: KeyVersion,
    algorithm: Algorithm,
    commitment: Commitment,
    copy: Arc<Copy>,
    given: BTreeMap<u8, Secret>,
}

/// What opens a request's copies, apart from it: that takes its time, and nobody waits for it who does not have to.
struct Opening {
    tenant: TenantId,
    seconds: u64,
    wanted: Vec<Wanted>,
    approved: Vec<CallerName>,
}

/// Copies that are open.
struct Opened {
    tenant: TenantId,
    /// By its commitment a version is recognised: its handle is sealed anew when its tenant's sealing key changes.
    versions: BTreeMap<KeyVersion, (Commitment, Arc<Ready>)>,
    since: Timestamp,
    until: Moment,
    approved: Vec<CallerName>,
}

impl Opened {
    fn shown(&self) -> InForce {
        let Self { tenant: _, versions, since, until, approved } = self;
        let versions = versions.keys().copied().collect();
        InForce { versions, since: *since, until: until.wall, approved: approved.clone() }
    }
}

impl Request {
    fn shown(&self) -> OpenRequest {
        let Self {
            number: _,
            tenant: _,
            mailbox,
            seconds,
            reason,
            expires,
            wanted,
            approved,
            wrong: _,
            opened: _,
        } = self;
        let recipient = mailbox.recipient();
        let shares = wanted.iter().flat_map(|wanted| {
            wanted.copy.holders.iter().map(|holder| SealedShare {
                custodian: holder.name.clone(),
                version: wanted.version,
                share: holder.share.as_slice().into(),
            })
        });
        OpenRequest {
            recipient: recipient.into(),
            fingerprint: Fingerprint::of(recipient).to_string().into(),
            seconds: *seconds,
            reason: reason.clone(),
            expires: expires.wall,
            versions: wanted.iter().map(|wanted| wanted.version).collect(),
            threshold: wanted.iter().map(|wanted| wanted.copy.threshold).max().unwrap_or_default(),
            approved: approved.clone(),
            shares: shares.collect(),
        }
    }

    /// Takes each of the shares that somebody has given. All of them, or none.
    fn take(&mut self, given: &Secret) -> Result<(), Error> {
        let (shares, rest) = given.expose().as_chunks::<SHARE_LEN>();
        if shares.is_empty() || !rest.is_empty() {
            return Err(wrong("what was given holds no shares of emergency copies".to_owned()));
        }
        let mut taken = Vec::with_capacity(shares.len());
        for share in shares {
            let Some((place, wanted)) =
                self.wanted.iter().enumerate().find(|(_, wanted)| wanted.copy.is_meant(share))
            else {
                return Err(wrong("a share that was given is of none of the copies asked for".to_owned()));
            };
            let Some((number, name, value)) = wanted.copy.check(share) else {
                let whose = share
                    .get(17)
                    .and_then(|number| wanted.copy.holders.get(usize::from(number.checked_sub(1)?)));
                let whose = whose.map_or_else(|| "nobody".to_owned(), |holder| format!("`{}`", holder.name));
                return Err(wrong(format!(
                    "the share of {whose} for version {} is another one",
                    wanted.version
                )));
            };
            taken.push((place, number, name.clone(), value));
        }
        for (place, number, name, value) in taken {
            if let Some(wanted) = self.wanted.get_mut(place) {
                wanted.given.insert(number, value);
            }
            if !self.approved.contains(&name) {
                self.approved.push(name);
            }
        }
        Ok(())
    }

    fn has_enough(&self) -> bool {
        self.wanted.iter().all(|wanted| wanted.given.len() >= usize::from(wanted.copy.threshold))
    }

    /// What it takes to open them, once there is enough of it.
    fn opening(&self) -> Option<Opening> {
        if self.opened.is_some() || !self.has_enough() {
            return None;
        }
        let wanted = self.wanted.iter().map(|wanted| {
            let Wanted { version, algorithm, commitment, copy, given } = wanted;
            let given = given.iter().map(|(number, share)| (*number, Secret::from(share.expose())));
            Wanted {
                version: *version,
                algorithm: *algorithm,
                commitment: *commitment,
                copy: Arc::clone(copy),
                given: given.collect(),
            }
        });
        Some(Opening {
            tenant: self.tenant.clone(),
            seconds: self.seconds,
            wanted: wanted.collect(),
            approved: self.approved.clone(),
        })
    }
}

impl Opening {
    fn open<W: World>(self, key: KeyId, now: Timestamp, world: &W) -> Result<Opened, Error> {
        let Self { tenant, seconds, wanted, approved } = self;
        let mut versions = BTreeMap::new();
        for Wanted { version, algorithm, commitment, copy, given } in &wanted {
            let of = Of { tenant: &tenant, key, version: *version, algorithm: *algorithm };
            let opened = copy.open(&of, given, world)?;
            let ready = Arc::new(material::load(*algorithm, opened.expose())?);
            versions.insert(*version, (*commitment, ready));
        }
        Ok(Opened { tenant, versions, since: now, until: Moment::after(seconds, now, world), approved })
    }
}

impl Desk {
    /// Of these custodians; where there are none, no copies.
    pub(crate) fn new(custodians: Option<Custodians>) -> Self {
        Self { custodians, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// `unsupported` where there are no custodians.
    pub(crate) fn custodians(&self) -> Result<&Custodians, Error> {
        self.custodians.as_ref().ok_or_else(|| {
            refusal::unsupported("this gateway makes and opens no emergency copies").remedy(
                "an operator sets `[emergency]` with its custodians, and restarts the gateway; or leave the emergency copy out",
            )
        })
    }

    /// Makes a copy of a version that is being made, and what its evidence says of it.
    pub(crate) fn seal<W: World>(
        &self,
        version: &NewVersion<'_>,
        material: &Secret,
        world: &W,
    ) -> Result<(Vec<u8>, TokenOrigin), Error> {
        let custodians = self.custodians()?;
        let copy = copy::seal(&Of::new(version), material, custodians, world)?;
        let names = custodians.each.iter().map(|(name, _)| name.as_str().into()).collect();
        Ok((copy, TokenOrigin::Copied { custodians: names, threshold: custodians.threshold }))
    }

    /// As [`holdfast_core::port::KeyStore::request_copy`]; each version with its copy.
    pub(crate) fn request<W: World>(
        &self,
        versions: &[(KeyMaterial<'_>, Vec<u8>)],
        asked: &RequestCopy,
        now: Timestamp,
        world: &W,
    ) -> Result<CopyState, Error> {
        let custodians = self.custodians()?;
        let Some((first, _)) = versions.first() else {
            return Err(Error::new(ErrorKind::NotFound, Stage::Perform, "there is no version to ask for"));
        };
        let (tenant, key) = (first.tenant.clone(), first.key);
        let wanted = versions.iter().map(|(version, copy)| {
            Ok(Wanted {
                version: version.version,
                algorithm: version.algorithm,
                commitment: *version.commitment,
                copy: Arc::new(Copy::parse(copy)?),
                given: BTreeMap::new(),
            })
        });
        let mut request = Request {
            number: OpenedCopy::new(0),
            tenant,
            mailbox: custodians.mail.mailbox().into(),
            seconds: asked.seconds,
            reason: asked.reason.clone(),
            expires: Moment::after(REQUEST_SECONDS, now, world),
            wanted: wanted.collect::<Result<_, Error>>()?,
            approved: Vec::new(),
            wrong: 0,
            opened: None,
        };
        let shown = request.shown();
        let mut inner = self.inner();
        inner.expire(now, world);
        if inner.requests.get(&key).is_some_and(|request| request.opened.is_some()) {
            let detail = format!(
                "the emergency copies of `{}` are open, and in force once that is recorded",
                asked.key
            );
            return Err(Error::new(ErrorKind::Conflict, Stage::Perform, detail).remedy(format!(
                "run `holdfast emergency show {}` to see when they are; where that comes to nothing, `holdfast emergency end` it first",
                asked.key
            )));
        }
        if inner.requests.len() >= MAX_REQUESTS && !inner.requests.contains_key(&key) {
            let detail = format!("{MAX_REQUESTS} requests for emergency copies wait already");
            return Err(Error::new(ErrorKind::Throttled, Stage::Perform, detail)
                .remedy("end those that are not needed, or wait until they expire"));
        }
        inner.asked = inner.asked.saturating_add(1);
        request.number = OpenedCopy::new(inner.asked);
        inner.requests.insert(key, request);
        tracing::warn!(
            key = %asked.key,
            fingerprint = %shown.fingerprint,
            "the use of emergency copies was asked for: custodians compare this fingerprint"
        );
        let in_force = inner.in_force.get(&key).map(Opened::shown);
        Ok(CopyState { request: Some(shown), in_force })
    }

    /// As [`holdfast_core::port::KeyStore::approve_copy`]. What was given is decrypted, and the copies are opened, while others use the desk.
    pub(crate) fn approve<W: World>(
        &self,
        key: KeyId,
        shares: &[u8],
        now: Timestamp,
        world: &W,
    ) -> Result<Approved, Error> {
        let (number, mailbox) = {
            let mut inner = self.inner();
            inner.expire(now, world);
            let request = inner.requests.get(&key).ok_or_else(no_request)?;
            (request.number, Arc::clone(&request.mailbox))
        };
        let given = mailbox.open(shares);
        let opening = {
            let mut inner = self.inner();
            let request = inner.request(key, number)?;
            let taken = match given {
                Some(given) => request.take(&given),
                None => Err(wrong("what was given does not open with the request's key".to_owned())),
            };
            if let Err(error) = taken {
                request.wrong = request.wrong.saturating_add(1);
                if request.wrong >= MAX_WRONG {
                    inner.requests.remove(&key);
                    tracing::warn!(
                        "a request for emergency copies is over: too many wrong shares were given for it"
                    );
                }
                return Err(error);
            }
            request.opening()
        };
        let opened = opening.map(|opening| opening.open(key, now, world)).transpose()?;
        let mut inner = self.inner();
        let request = inner.request(key, number)?;
        if let (Some(mut opened), None) = (opened, &request.opened) {
            // What ended meanwhile ends in what was opened of it.
            opened.versions.retain(|version, _| request.wanted.iter().any(|of| of.version == *version));
            request.opened = Some(opened);
        }
        if let Some(opened) = &request.opened {
            let state = CopyState { request: None, in_force: Some(opened.shown()) };
            return Ok(Approved { state, opened: Some(number) });
        }
        Ok(Approved { state: inner.state(key), opened: None })
    }

    /// Puts in force what has been opened of this very request, in the place of what was in force of the key. The request, its key and the
    /// shares are gone.
    pub(crate) fn enforce(&self, key: KeyId, number: OpenedCopy) {
        let mut inner = self.inner();
        if inner.request(key, number).map_or(true, |request| request.opened.is_none()) {
            return;
        }
        if let Some(opened) = inner.requests.remove(&key).and_then(|request| request.opened) {
            tracing::warn!(until = %opened.until.wall, "emergency copies of a key are in force");
            inner.in_force.insert(key, opened);
        }
    }

    /// Forgets a key's request and copies. Whether there was anything.
    pub(crate) fn end(&self, key: KeyId) -> bool {
        let mut inner = self.inner();
        let (request, copies) = (inner.requests.remove(&key), inner.in_force.remove(&key));
        request.is_some() || copies.is_some()
    }

    /// The same of one version alone: what there is of others stays.
    pub(crate) fn end_version(&self, key: KeyId, version: KeyVersion) {
        let mut inner = self.inner();
        if let Some(request) = inner.requests.get_mut(&key) {
            request.wanted.retain(|wanted| wanted.version != version);
            if let Some(opened) = &mut request.opened {
                opened.versions.remove(&version);
            }
            if request.wanted.is_empty() {
                inner.requests.remove(&key);
            }
        }
        if let Some(opened) = inner.in_force.get_mut(&key) {
            opened.versions.remove(&version);
            if opened.versions.is_empty() {
                inner.in_force.remove(&key);
            }
        }
    }

    /// The same of all of a tenant's keys.
    pub(crate) fn end_all(&self, tenant: &TenantId) {
        let mut inner = self.inner();
        inner.requests.retain(|_, request| request.tenant != *tenant);
        inner.in_force.retain(|_, opened| opened.tenant != *tenant);
    }

    /// Wipes what has expired.
    pub(crate) fn expire<W: World>(&self, now: Timestamp, world: &W) {
        self.inner().expire(now, world);
    }

    /// How it stands with a key.
    pub(crate) fn state<W: World>(&self, key: KeyId, now: Timestamp, world: &W) -> CopyState {
        let mut inner = self.inner();
        inner.expire(now, world);
        inner.state(key)
    }

    /// How many key versions' copies are in force.
    pub(crate) fn in_force(&self) -> usize {
        self.inner().in_force.values().map(|opened| opened.versions.len()).sum()
    }

    /// The copy of this very version, if it is in force.
    pub(crate) fn find<W: World>(
        &self,
        material: &KeyMaterial<'_>,
        now: Timestamp,
        world: &W,
    ) -> Option<Arc<Ready>> {
        let mut inner = self.inner();
        let opened = inner.in_force.get(&material.key)?;
        if opened.until.has_come(now, world) {
            inner.in_force.remove(&material.key);
            return None;
        }
        let (commitment, ready) = opened.versions.get(&material.version)?;
        let is_it = opened.tenant == *material.tenant && commitment.0 == material.commitment.0;
        is_it.then(|| Arc::clone(ready))
    }
}

impl Inner {
    fn expire<W: World>(&mut self, now: Timestamp, world: &W) {
        self.requests.retain(|_, request| !request.expires.has_come(now, world));
        self.in_force.retain(|_, opened| !opened.until.has_come(now, world));
    }

    /// This very request: another one of the key is none.
    fn request(&mut self, key: KeyId, number: OpenedCopy) -> Result<&mut Request, Error> {
        self.requests.get_mut(&key).filter(|request| request.number == number).ok_or_else(no_request)
    }

    /// What is merely opened waits still.
    fn state(&self, key: KeyId) -> CopyState {
        let in_force = self.in_force.get(&key).map(Opened::shown);
        CopyState { request: self.requests.get(&key).map(Request::shown), in_force }
    }
}

fn wrong(detail: String) -> Error {
    Error::new(ErrorKind::Integrity, Stage::Perform, detail).remedy(
        "run `holdfast emergency approve` with the identity of a custodian of these copies, for the request that waits now",
    )
}

/// What to do where nothing waits.
pub(crate) fn no_request() -> Error {
    Error::new(ErrorKind::NotFound, Stage::Perform, "no request for emergency copies of the key waits")
        .remedy(
            "run `holdfast emergency activate` first: a request waits for an hour, and a restart forgets it",
        )
}
