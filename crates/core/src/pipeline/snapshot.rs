//! What every request reads: the tenants with their callers, policies and logs, immutable and swapped whole.

use super::Engines;
use crate::error::Error;
use crate::id::TenantId;
use crate::port::{AuditLog, Decide, Identify, Ports};
use crate::sync::{AtomicBool, Ordering};
use crate::tenant::{TenantData, TenantRecord};
use arc_swap::ArcSwap;
use core::ops::ControlFlow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One tenant as it is now, indexed for requests.
pub struct TenantView<P: Ports> {
    /// Its records.
    pub data: TenantData,
    /// Its callers and anchors, indexed.
    pub(super) registrations: <P::Identify as Identify>::Prepared,
    /// Its policy, parsed.
    pub(super) policy: <P::Decide as Decide>::Prepared,
    /// Its log, opened.
    pub(super) log: <P::Log as AuditLog>::Handle,
    /// Distinguishes this view from every other: what was remembered under one is forgotten with it.
    pub(super) generation: u64,
    /// Whether another one is in force.
    replaced: AtomicBool,
}

impl<P: Ports> TenantView<P> {
    /// Whether another one is in force by now. Costs one load.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }
}

type Tenants<P> = HashMap<TenantId, Arc<TenantView<P>>>;

pub(super) struct Snapshots<P: Ports> {
    tenants: ArcSwap<Tenants<P>>,
    /// Held while a view is replaced, so that two reloads cannot put an older one over a newer one.
    replacing: Mutex<Replaced<P>>,
}

struct Replaced<P: Ports> {
    /// How many views there have been.
    count: u64,
    /// Those that some request may still hold.
    earlier: Vec<Weak<TenantView<P>>>,
    /// Logs that were opened for tenants whose first entry could not be written.
    opened: HashMap<TenantId, <P::Log as AuditLog>::Handle>,
}

/// What is to be put in force.
struct Newer<P: Ports> {
    data: TenantData,
    registrations: <P::Identify as Identify>::Prepared,
    /// None where the text is the one in force.
    policy: Option<<P::Decide as Decide>::Prepared>,
}

impl<P: Ports> Snapshots<P> {
    pub(super) fn empty() -> Self {
        Self {
            tenants: ArcSwap::from_pointee(HashMap::new()),
            replacing: Mutex::new(Replaced { count: 0, earlier: Vec::new(), opened: HashMap::new() }),
        }
    }

    pub(super) fn get(&self, tenant: &TenantId) -> Option<Arc<TenantView<P>>> {
        self.tenants.load().get(tenant).map(Arc::clone)
    }

    pub(super) fn names(&self) -> Vec<TenantId> {
        self.tenants.load().keys().cloned().collect()
    }

    /// The tenants with such a record, in order.
    pub(super) fn find(&self, is_it: impl Fn(&TenantRecord) -> bool) -> BTreeSet<TenantId> {
        let tenants = self.tenants.load();
        let found = tenants.values().map(|view| &view.data.record).filter(|record| is_it(record));
        found.map(|record| record.id.clone()).collect()
    }

    /// How many tenants have such a record.
    pub(super) fn count_of(&self, is_it: impl Fn(&TenantRecord) -> bool) -> usize {
        self.tenants.load().values().filter(|view| is_it(&view.data.record)).count()
    }

    /// Whether somebody may still go by an earlier handle of a tenant than the one in force.
    pub(super) fn is_earlier_handle_held(&self, now: &TenantRecord) -> bool {
        let mut replaced = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.earlier.retain(|view| view.strong_count() > 0);
        replaced.earlier.iter().filter_map(Weak::upgrade).any(|view| {
            let record = &view.data.record;
            record.id == now.id && record.handle != now.handle
        })
    }

    pub(super) fn count(&self) -> usize {
        self.tenants.load().len()
    }

    /// Puts a tenant's newer records in force. Older ones than those in force are left aside.
    pub(super) async fn install(&self, engines: &Engines<P>, data: TenantData) -> Result<(), Error> {
        self.install_after(engines, data, |_| Ok(())).await
    }

    /// The same, after `first` has been done with the view that nobody can find yet, or that is in force already. Where it fails, nothing is put in
    /// force.
    pub(super) async fn install_after<R>(
        &self,
        engines: &Engines<P>,
        data: TenantData,
        mut first: impl FnOnce(&TenantView<P>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let tenant = data.record.id.clone();
        // Prepared before anything is held: however long one tenant's text takes to read, nobody else's records wait for it.
        let registrations = engines.identify.prepare(&data.callers, &data.anchors)?;
        let mut newer = Newer { data, registrations, policy: None };
        loop {
            let Newer { data, policy, .. } = &mut newer;
            let is_at_hand = self.get(&tenant).is_some_and(|view| {
                view.data.policy.text == data.policy.text || view.data.record.epoch >= data.record.epoch
            });
            if policy.is_none() && !is_at_hand {
                *policy = Some(engines.decide.prepare(&tenant, &data.policy.text).await?);
            }
            match self.replace(engines, newer, first)? {
                ControlFlow::Break(done) => return Ok(done),
                ControlFlow::Continue(again) => (newer, first) = again,
            }
        }
    }

    /// Gives the records back where another text has come into force meanwhile, so that theirs has to be read after all.
    fn replace<R, F: FnOnce(&TenantView<P>) -> Result<R, Error>>(
        &self,
        engines: &Engines<P>,
        newer: Newer<P>,
        first: F,
    ) -> Result<ControlFlow<R, (Newer<P>, F)>, Error> {
        let mut replaced = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let Replaced { count, earlier, opened } = &mut *replaced;
        let Newer { data, registrations, policy } = newer;
        let tenant = data.record.id.clone();
        let before = self.get(&tenant);
        if let Some(view) = before.as_ref().filter(|view| view.data.record.epoch >= data.record.epoch) {
            return first(view).map(ControlFlow::Break);
        }
        let policy = match (&before, policy) {
            (Some(view), _) if view.data.policy.text == data.policy.text => {
                engines.decide.renew(&view.policy)
            }
            (_, Some(policy)) => policy,
            (_, None) => {
                return Ok(ControlFlow::Continue((Newer { data, registrations, policy: None }, first)));
            }
        };
        // Opened last: a log is opened once, and nothing that fails here may stand between.
        let log = match (&before, opened.get(&tenant)) {
            (Some(view), _) => view.log.clone(),
            (None, Some(log)) => log.clone(),
            (None, None) => engines.log.open(&tenant)?,
        };
        *count = count.saturating_add(1);
        let view = Arc::new(TenantView {
            registrations,
            policy,
            log,
            generation: *count,
            replaced: AtomicBool::new(false),
            data,
        });
        let done = match first(&view) {
            Ok(done) => done,
            Err(error) => {
                opened.insert(tenant, view.log.clone());
                return Err(error);
            }
        };
        opened.remove(&tenant);
        let mut tenants = Tenants::clone(&self.tenants.load());
        tenants.insert(tenant, Arc::clone(&view));
        self.tenants.store(Arc::new(tenants));
        if let Some(before) = &before {
            before.replaced.store(true, Ordering::SeqCst);
        }
        earlier.retain(|view| view.strong_count() > 0);
        earlier.extend(before.as_ref().map(Arc::downgrade));
        Ok(ControlFlow::Break(done))
    }
}
