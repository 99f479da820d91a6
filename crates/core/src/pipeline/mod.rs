//! The one way through: identify, resolve, decide, perform, record, answer.
//!
//! [`Pipeline::use_key`] uses keys, [`Pipeline::command`] changes the state, [`Pipeline::query`] reads it. All three identify, decide and
//! record with the same functions, and everything that leaves them has been recorded, refusals included.

mod adopt;
mod archive;
mod backup;
mod clock;
mod command;
mod copies;
mod destruction;
mod device;
mod emergency;
mod found;
mod import;
mod importing;
mod made;
mod pending;
mod plan;
mod pool;
mod proof;
mod protect;
mod prune;
mod query;
mod record;
mod recover;
mod reroot;
mod restore;
mod schedule;
mod seal;
mod sealing_key;
mod snapshot;
mod throttle;
mod unseal;
mod use_key;
mod versions;
mod work;

pub use copies::Sweep;
pub use destruction::Destructions;
pub use device::DeviceUnsealing;
pub use found::Founding;
pub use proof::{Change, Held, Intent, Permit, Read, Receipt, Released, Use, Withheld};
pub use recover::{OpenIntent, Recovery, agree};
pub use reroot::Generation;
pub use restore::{EarlierLog, Restoration, Restored};
pub use schedule::Rotations;
pub use seal::Sealing;
pub use sealing_key::{SealingKeyChanges, SealingKeyFailure};
pub use snapshot::TenantView;
pub use unseal::Unsealing;
pub use use_key::{Call, Pending, Recognised};

use crate::caller::{Authentication, Caller, CallerKind, CallerRecord, Credential};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{CallerName, OperationId, TenantId};
use crate::noise::Noise;
use crate::peer::Proof;
use crate::port::{Identified, Identify, Ports, World};
use crate::protocol::Protocol;
use crate::stop::Stops;
use crate::throttled::Throttled;
use crate::time::Timestamp;
use core::net::IpAddr;
use snapshot::Snapshots;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

/// A request as it came in, before anything is known of its caller.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// The operation's id, in every response.
    pub operation: OperationId,
    /// The tenant that it names.
    pub tenant: &'a TenantId,
    /// The proof of identity.
    pub proof: Proof<'a>,
    /// The only caller of the tenant that may come this way; `None` where all may that are no door's own ([`Pipeline::reserve`]). To any other it looks as if the
    /// proof were wrong.
    pub only: Option<&'a CallerName>,
    /// From where.
    pub source: Option<IpAddr>,
    /// Through which protocol: bound into ciphertexts.
    pub protocol: Protocol,
    /// The protocol's own request id.
    pub protocol_request: Option<&'a str>,
    /// What the protocol says of the request beyond that: policies can look at it, the event has it, and nothing is bound to it.
    pub request: &'a Context,
    /// W3C trace id.
    pub trace: Option<&'a str>,
    /// When it was received; read once.
    pub now: Timestamp,
    /// The same moment on the clock that never steps back.
    pub ticks: u64,
    /// Whether the answer is to carry the log's signed receipt.
    pub wants_receipt: bool,
}

/// The ports of one gateway.
#[derive(Debug)]
pub struct Engines<P: Ports> {
    /// Who asks.
    pub identify: P::Identify,
    /// What the policy says.
    pub decide: P::Decide,
    /// Custody.
    pub keys: P::Keys,
    /// Durable records.
    pub state: P::State,
    /// The audit log.
    pub log: P::Log,
    /// Backups.
    pub archive: P::Archive,
    /// Clock and entropy.
    pub world: P::World,
}

/// One gateway's law in force.
pub struct Pipeline<P: Ports> {
    engines: Engines<P>,
    snapshots: Snapshots<P>,
    stops: Arc<Stops>,
    noise: Noise,
    throttled: Throttled,
    unfinished: recover::Unfinished,
    importing: importing::Importing,
    agenda: schedule::Agenda,
    sweeps: copies::Sweeps,
    sealing: sealing_key::Changes,
    ends: destruction::Ends,
    /// Callers that come through a door of their own alone.
    reserved: OnceLock<HashMap<TenantId, BTreeSet<CallerName>>>,
    is_dev: bool,
}

impl<P: Ports> Pipeline<P> {
    /// The ports, for status and health.
    pub fn engines(&self) -> &Engines<P> {
        &self.engines
    }

    /// Says once, before the first request, which callers are doors' own: whoever names no door ([`Inbound::only`]) is none of them, whatever is shown. What a door
    /// looks at before it lets somebody in, nobody else does.
    ///
    /// # Errors
    /// `internal`, when it has been said.
    pub fn reserve(&self, callers: impl IntoIterator<Item = (TenantId, CallerName)>) -> Result<(), Error> {
        let mut reserved: HashMap<TenantId, BTreeSet<CallerName>> = HashMap::new();
        for (tenant, caller) in callers {
            reserved.entry(tenant).or_default().insert(caller);
        }
        self.reserved.set(reserved).map_err(|_| {
            Error::new(ErrorKind::Internal, Stage::Identify, "doors have been given their callers already")
        })
    }

    /// Whether such a caller may come through this door, or through none.
    fn is_let_in(&self, inbound: &Inbound<'_>, caller: &CallerName) -> bool {
        match inbound.only {
            Some(only) => only == caller,
            None => {
                let reserved = self.reserved.get().and_then(|all| all.get(inbound.tenant));
                reserved.is_none_or(|callers| !callers.contains(caller))
            }
        }
    }

    /// Whether the directory is a dev directory, for ever.
    pub fn is_dev(&self) -> bool {
        self.is_dev
    }

    /// The tenants as they are now.
    pub fn tenant(&self, tenant: &TenantId) -> Option<Arc<TenantView<P>>> {
        self.snapshots.get(tenant)
    }

    /// The commit that the newest backup holds; `None` where there is none yet.
    pub fn backed_up(&self) -> Option<u64> {
        self.tenant(&TenantId::gateway())?.data.record.backed_up
    }

    /// The newest commit that a verified backup holds; `None` where there is none yet.
    pub fn verified(&self) -> Option<u64> {
        self.tenant(&TenantId::gateway())?.data.record.verified
    }

    /// How many tenants there are, the gateway itself not counted.
    pub fn tenant_count(&self) -> usize {
        self.snapshots.count().saturating_sub(1)
    }

    /// A new operation's id.
    ///
    /// # Errors
    /// `internal`, when there is no entropy.
    pub fn new_operation(&self) -> Result<OperationId, Error> {
        let mut entropy = [0; 10];
        self.engines.world.fill_short(&mut entropy)?;
        Ok(OperationId::new(self.engines.world.now(), entropy))
    }

    /// Counts what cannot be attributed to anybody: summarised later by [`Pipeline::flush_noise`].
    pub fn count_noise(&self, source: Option<IpAddr>, reason: &'static str) {
        self.noise.count(source, reason);
    }

    /// Who asks, of which tenant. Whatever fails here is nobody's and is counted as noise; an unknown tenant looks like an unknown caller.
    fn identify(&self, inbound: &Inbound<'_>) -> Result<(Arc<TenantView<P>>, Caller), Error> {
        self.identify_by(inbound, self.engines.world.held_now())
    }

    /// The same; while a time is held, a proof must hold at that time too.
    fn identify_by(
        &self,
        inbound: &Inbound<'_>,
        held: Option<Timestamp>,
    ) -> Result<(Arc<TenantView<P>>, Caller), Error> {
        let found = self.try_identify(inbound, held);
        if let Err(error) = &found {
            self.noise.count(inbound.source, error.kind().code());
        }
        found
    }

    fn try_identify(
        &self,
        inbound: &Inbound<'_>,
        held: Option<Timestamp>,
    ) -> Result<(Arc<TenantView<P>>, Caller), Error> {
        let unknown =
            || Error::new(ErrorKind::Unauthenticated, Stage::Identify, "the caller is not known here");
        let view = self.snapshots.get(inbound.tenant).ok_or_else(unknown)?;
        // Nobody registered a credential: a door makes nobody a custodian, an auditor or a developer, whatever name a configuration gives it.
        let doors_own = |view: &TenantView<P>| {
            let its = |record: &&Arc<CallerRecord>| {
                inbound.only == Some(&record.name) && record.kind == CallerKind::Application
            };
            view.data.callers.iter().find(its).map(Arc::clone).ok_or_else(unknown)
        };
        if let Proof::Open = inbound.proof {
            let record = doors_own(&view)?;
            let tenant = inbound.tenant.clone();
            return Ok((view, Caller { tenant, record, authentication: Authentication::Open, own: None }));
        }
        if let Proof::Provider(certificate) = &inbound.proof {
            let record = doors_own(&view)?;
            let holds = |at| certificate.authentication(at).ok_or_else(unknown);
            if let Some(held) = held {
                holds(held)?;
            }
            let authentication = holds(inbound.now)?;
            let tenant = inbound.tenant.clone();
            return Ok((view, Caller { tenant, record, authentication, own: None }));
        }
        let remembered = match &inbound.proof {
            // What was found before the jump was noticed may have been found by the new time alone.
            _ if held.is_some() => None,
            Proof::Certificate(peer) => peer.recall(inbound.tenant, view.generation, inbound.now),
            Proof::Bearer { .. }
            | Proof::Signed(_)
            | Proof::Issued(_)
            | Proof::Provider(_)
            | Proof::Open
            | Proof::None => None,
        };
        let identified = match remembered {
            Some(identified) => identified,
            None => {
                if let Proof::Certificate(peer) = &inbound.proof
                    && peer.is_refused(inbound.tenant, view.generation, inbound.ticks)
                {
                    return Err(unknown().because("its certificate was refused a moment ago"));
                }
                let identify = |now| self.engines.identify.identify(&view.registrations, &inbound.proof, now);
                let found = match held {
                    None => identify(inbound.now),
                    Some(held) => identify(held).and_then(|_| identify(inbound.now)),
                };
                if let (Proof::Certificate(peer), Err(error)) = (&inbound.proof, &found)
                    && error.kind() == ErrorKind::Unauthenticated
                {
                    peer.remember_refusal(inbound.tenant, view.generation, inbound.ticks);
                }
                // In one and the same words, whatever it was.
                let found = found.map_err(|error| match error.kind() == ErrorKind::Unauthenticated {
                    true => unknown().because(error),
                    false => error,
                })?;
                if let (Proof::Certificate(peer), None) = (&inbound.proof, held) {
                    peer.remember(inbound.tenant, view.generation, &found);
                }
                found
            }
        };
        let Identified { mut record, authentication, valid_until: _ } = identified;
        // Whom an issuer's token is about can have a registration of their own beside the door's, which takes anybody of the issuer. Then they come
        // as the door's, and a stop of their own registration holds there all the same.
        let mut own = None;
        if let (Some(only), Authentication::Issued { issuer, .. }) = (inbound.only, &authentication) {
            let anybody = Credential::Issued { issuer: issuer.clone(), subject: None };
            let doors =
                view.data.callers.iter().find(|it| it.name == *only && it.credentials.contains(&anybody));
            if let Some(doors) = doors.filter(|doors| doors.name != record.name) {
                own = Some(core::mem::replace(&mut record, Arc::clone(doors)));
            }
        }
        let is_late = match &inbound.proof {
            // By the clock as it is, also while a jump waits to be confirmed: the peer's clock knows nothing of that, and a request that is
            // sent again gives what it gave.
            Proof::Signed(request) => !request.is_fresh(inbound.now),
            Proof::Certificate(_)
            | Proof::Bearer { .. }
            | Proof::Issued(_)
            | Proof::Provider(_)
            | Proof::Open
            | Proof::None => false,
        };
        if is_late || !self.is_let_in(inbound, &record.name) {
            return Err(unknown());
        }
        let caller = Caller { tenant: inbound.tenant.clone(), record, authentication, own };
        Ok((view, caller))
    }
}

/// Most requests have none.
static NO_CONTEXT: Context = Context::EMPTY;

/// Nothing of a suspended tenant is used.
fn tenant_is_suspended() -> Error {
    Error::new(ErrorKind::Stopped, Stage::Resolve, "everything of the tenant is suspended")
}

/// "No such key", to those who may know it; to others it is denied like a forbidden one.
fn no_such_key() -> Error {
    Error::new(ErrorKind::NotFound, Stage::Resolve, NO_SUCH_KEY)
}

/// The gateway gives its root key up.
fn sealed(stage: Stage) -> Error {
    Error::new(ErrorKind::Sealed, stage, ErrorKind::Sealed.row().title)
}

const NO_SUCH_KEY: &str = "there is no key of that name";

/// A denial, the same for whoever looks at it; the log keeps the reason.
fn denied(stage: Stage, reason: &'static str) -> Error {
    Error::new(ErrorKind::Denied, stage, ErrorKind::Denied.row().title).because(reason)
}

#[cfg(test)]
mod tests;
