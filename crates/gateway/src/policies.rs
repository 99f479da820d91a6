//! The policy engine, with long texts read where they hold nobody up.
//!
//! To decide takes microseconds and is done at once. To read and check a text takes up to seconds: that is done on threads of its own, one text
//! at a time that is to be in force and one that is examined. Tenants take turns, each with one text.

use holdfast_core::caller::{Caller, CallerRecord};
use holdfast_core::port::{Decide, Decision, Examined, Question};
use holdfast_core::query::Explanation;
use holdfast_core::{Error, ErrorKind, Stage, TenantId};
use holdfast_policy::{CedarPolicy, DEFAULT_TENANT_POLICY, GATEWAY_POLICY, Prepared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// How many texts of one tenant may wait to be examined, the one that is examined counted: each is kept in memory.
const MAX_EXAMINED: usize = 4;

/// Cedar's policies, and the desks at which their texts are read.
#[derive(Debug)]
pub struct Policies {
    cedar: CedarPolicy,
    /// For what is to be in force.
    reading: Arc<Desk>,
    /// For everything else, so that what has been committed waits for none of it.
    examining: Arc<Desk>,
}

impl Policies {
    /// Reads the schema.
    ///
    /// # Errors
    /// As [`CedarPolicy::new`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            cedar: CedarPolicy::new()?,
            reading: Arc::new(Desk::for_each(usize::MAX)),
            examining: Arc::new(Desk::for_each(MAX_EXAMINED)),
        })
    }
}

impl Decide for Policies {
    type Prepared = Prepared;

    fn tenant_policy(&self) -> &'static str {
        DEFAULT_TENANT_POLICY
    }

    fn gateway_policy(&self) -> &'static str {
        GATEWAY_POLICY
    }

    async fn prepare(&self, tenant: &TenantId, text: &Arc<str>) -> Result<Prepared, Error> {
        let (cedar, of, text) = (self.cedar.clone(), tenant.clone(), Arc::clone(text));
        self.reading.take(tenant)?.work(move || cedar.prepare(&of, &text)).await?
    }

    async fn examine(
        &self,
        author: &Caller,
        callers: &[Arc<CallerRecord>],
        text: &Arc<str>,
    ) -> Result<Examined, Error> {
        let turn = self.examining.take(&author.tenant)?;
        let (cedar, author, callers) = (self.cedar.clone(), author.clone(), callers.to_vec());
        let text = Arc::clone(text);
        turn.work(move || cedar.examine(&author, &callers, &text)).await
    }

    fn renew(&self, prepared: &Prepared) -> Prepared {
        self.cedar.renew(prepared)
    }

    fn explain(&self, prepared: &Prepared, question: &Question<'_>) -> Explanation {
        self.cedar.explain(prepared, question)
    }

    fn decide(&self, prepared: &Prepared, question: &Question<'_>) -> Decision {
        self.cedar.decide(prepared, question)
    }
}

/// Where one text at a time is worked on, the tenants taking turns.
#[derive(Debug)]
struct Desk {
    place: Arc<Semaphore>,
    most: usize,
    tenants: Mutex<HashMap<TenantId, Line>>,
}

/// One tenant's texts: the first of them stands in line for the desk's place.
#[derive(Debug)]
struct Line {
    head: Arc<Semaphore>,
    length: usize,
}

/// A text's place in its tenant's line; given back when its work is done, also if nobody waits for that any more.
#[derive(Debug)]
struct Turn {
    desk: Arc<Desk>,
    tenant: TenantId,
    head: Arc<Semaphore>,
}

impl Desk {
    fn for_each(most: usize) -> Self {
        Self { place: Arc::new(Semaphore::new(1)), most, tenants: Mutex::default() }
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Line>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, tenant: &TenantId) -> Result<Turn, Error> {
        let mut tenants = self.tenants();
        let empty = || Line { head: Arc::new(Semaphore::new(1)), length: 0 };
        let line = tenants.entry(tenant.clone()).or_insert_with(empty);
        if line.length >= self.most {
            let detail = format!("{} policy texts of the tenant wait to be examined already", line.length);
            return Err(Error::new(ErrorKind::Throttled, Stage::Resolve, detail)
                .remedy("wait until one of them has its answer"));
        }
        line.length = line.length.saturating_add(1);
        Ok(Turn { desk: Arc::clone(self), tenant: tenant.clone(), head: Arc::clone(&line.head) })
    }
}

impl Turn {
    async fn work<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let never_closed = |error| internal("a desk is closed").because(error);
        let first = Arc::clone(&self.head).acquire_owned().await.map_err(never_closed)?;
        let place = Arc::clone(&self.desk.place).acquire_owned().await.map_err(never_closed)?;
        let worked = tokio::task::spawn_blocking(move || {
            let _until_it_is_done = (self, first, place);
            work()
        });
        worked.await.map_err(|error| internal("the work on a policy text broke off").because(error))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut tenants = self.desk.tenants();
        if let Some(line) = tenants.get_mut(&self.tenant) {
            line.length = line.length.saturating_sub(1);
            if line.length == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

fn internal(detail: &'static str) -> Error {
    Error::new(ErrorKind::Internal, Stage::Perform, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::caller::{Authentication, CallerKind};
    use std::pin::{Pin, pin};
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn desk(most: usize) -> Arc<Desk> {
        Arc::new(Desk::for_each(most))
    }

    /// Work that says when it begins, and goes on until it is told to end.
    fn held() -> (impl FnOnce() + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((begin, begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let work = move || {
            begin.send(()).unwrap();
            ended.recv().unwrap();
        };
        (work, begun, end)
    }

    #[tokio::test]
    async fn no_text_is_read_or_examined_by_whoever_asks_for_it() {
        let policies = Policies::new().unwrap();
        let text = Arc::from(DEFAULT_TENANT_POLICY);
        let record = CallerRecord {
            name: "carol".parse().unwrap(),
            kind: CallerKind::Custodian,
            groups: vec![],
            credentials: vec![],
            tokens: vec![],
            suspended: false,
        };
        let tenant: TenantId = "acme".parse().unwrap();
        let author = Caller {
            tenant: tenant.clone(),
            record: Arc::new(record),
            authentication: Authentication::Gateway,
            own: None,
        };
        // What does not go by a desk is done with the first poll.
        let reading = Arc::clone(&policies.reading.place).try_acquire_owned().unwrap();
        let examining = Arc::clone(&policies.examining.place).try_acquire_owned().unwrap();
        let mut prepared = pin!(policies.prepare(&tenant, &text));
        let mut examined = pin!(policies.examine(&author, &[], &text));
        assert!(poll(prepared.as_mut()).is_pending() && poll(examined.as_mut()).is_pending());
        drop((reading, examining));
        assert_eq!(prepared.await.unwrap().len(), policies.cedar.prepare(&tenant, &text).unwrap().len());
        assert!(examined.await.unwrap().unreadable.is_none());
        assert!(policies.reading.tenants().is_empty() && policies.examining.tenants().is_empty());
        let at_a_desk = policies.reading.take(&tenant).unwrap().work(|| std::thread::current().id());
        assert_ne!(at_a_desk.await.unwrap(), std::thread::current().id());
    }

    #[test]
    fn what_a_request_can_bring_is_what_a_text_may_have() {
        assert_eq!(holdfast_policy::MAX_TEXT, holdfast_wire::native::routes::LIMIT_DOCUMENT);
    }

    #[tokio::test]
    async fn a_tenant_has_one_text_in_line_however_many_it_brings_and_no_more_than_so_many() {
        let desk = desk(2);
        let [acme, other]: [TenantId; 2] = ["acme", "other"].map(|name| name.parse().unwrap());
        let (work, begun, end) = held();
        let mut first = pin!(desk.take(&acme).unwrap().work(work));
        assert!(poll(first.as_mut()).is_pending());
        begun.recv().unwrap();
        let (order, done) = mpsc::channel();
        let say = |name: &'static str| {
            let order = order.clone();
            move || order.send(name).unwrap()
        };
        let mut second = pin!(desk.take(&acme).unwrap().work(say("acme")));
        assert!(poll(second.as_mut()).is_pending());
        assert_eq!(desk.take(&acme).unwrap_err().kind(), ErrorKind::Throttled);
        let mut another = pin!(desk.take(&other).unwrap().work(say("other")));
        assert!(poll(another.as_mut()).is_pending());
        assert!(done.try_recv().is_err(), "one at a time");
        end.send(()).unwrap();
        let (first, second, another) = tokio::join!(first, second, another);
        assert!(first.is_ok() && second.is_ok() && another.is_ok());
        // Whoever came later and had nothing in line yet is before the tenant's second.
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["other", "acme"]);
        assert!(desk.tenants().is_empty());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_keeps_its_place_until_it_is_done() {
        let desk = desk(1);
        let acme: TenantId = "acme".parse().unwrap();
        let (work, begun, end) = held();
        {
            let mut left = pin!(desk.take(&acme).unwrap().work(work));
            assert!(poll(left.as_mut()).is_pending());
            begun.recv().unwrap();
        }
        assert_eq!(desk.take(&acme).unwrap_err().kind(), ErrorKind::Throttled);
        assert!(desk.place.try_acquire().is_err());
        end.send(()).unwrap();
        drop(desk.place.acquire().await.unwrap());
        // One that left before its turn has left no trace.
        let place = desk.place.acquire().await.unwrap();
        {
            let mut waiting = pin!(desk.take(&acme).unwrap().work(|| ()));
            assert!(poll(waiting.as_mut()).is_pending());
        }
        drop(place);
        assert!(desk.tenants().is_empty());
        desk.take(&acme).unwrap().work(|| ()).await.unwrap();
    }
}
