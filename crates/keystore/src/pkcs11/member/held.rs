//! A worker process while it lives: what is under way there, and who waits to be let in.

use super::super::exchange::{self, Answer, Exchange, Sent};
use super::super::lane::{Lane, Place};
use super::super::message::{Refusal, Reply, Request};
use super::super::pool::GONE;
use super::super::pool::latency::Class;
use super::{About, NoReply, Shared, unpoisoned};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Places for each session: for the request that it does, and for the one that it finds when it is done.
const AHEAD: u32 = 2;
/// What takes longer is not sent ahead: while it waits for its session, nobody can tell it from what is not answered.
const QUICK: Duration = Duration::from_millis(2);

/// One worker process, for as long as it lives.
pub(super) struct Worker {
    pub(super) pid: u32,
    pub(super) about: About,
    pub(super) exchange: Exchange,
    /// Places at the exchange.
    places: Gate,
    /// For what makes keys, and for what is long: neither waits for the other.
    making: Lanes,
    long: Lanes,
    /// It has answered an operation, not a probe alone.
    has_worked: AtomicBool,
    /// Why it is given up.
    failed: Mutex<Option<Arc<str>>>,
    failure: Notify,
}

/// So many at once, and no more.
struct Gate {
    free: Arc<Semaphore>,
    /// Requests that wait to be let in.
    waiting: AtomicUsize,
}

/// Lanes, each a place.
struct Lanes {
    gate: Gate,
    all: usize,
    idle: Mutex<Vec<Lane>>,
}

/// A request's way to the worker and back.
pub(super) struct Held {
    /// There until it is dropped, or answered.
    way: Option<(Way, OwnedSemaphorePermit)>,
    answer: Option<Answer>,
    home: Home,
    runtime: Handle,
}

enum Way {
    /// It was sent.
    Exchange(Sent),
    /// It is still to be sent.
    Lane(Lane),
}

/// Where it was taken, and when.
#[derive(Clone)]
struct Home {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
    class: Option<Class>,
    begun: Instant,
}

impl Held {
    /// Waits for the reply to the request that this was taken for.
    ///
    /// # Errors
    /// As [`Lane::ask`].
    pub(super) async fn ask(&mut self, request: &Request<'_>) -> io::Result<Reply<'_>> {
        let Self { way: Some((way, _)), answer, home, .. } = self else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let reply = match way {
            Way::Lane(lane) => lane.ask(request).await?,
            Way::Exchange(sent) => answer.insert(sent.answer().await?).reply()?,
        };
        home.answered();
        // Some modules never see a device again that was away: another process does, or says that it is not there.
        if matches!(reply, Reply::Refused(Refusal::Gone)) {
            home.worker.fail(Arc::from(GONE));
        }
        Ok(reply)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some((way, permit)) = self.way.take() else { return };
        match way {
            Way::Exchange(_) if self.answer.is_some() => {}
            Way::Lane(lane) if lane.place() == Place::Idle => self.home.put(lane),
            Way::Lane(lane) if lane.place() == Place::Writing => {
                self.home.worker.fail(Arc::from("a request to its worker was cut off"));
            }
            // The token is still at it. The place is free when it is done.
            way @ (Way::Exchange(_) | Way::Lane(_)) => {
                drop(self.runtime.spawn(self.home.clone().wait(way, permit)));
            }
        }
    }
}

impl Way {
    /// Waits for the reply to a request that was given up, and drops it.
    async fn drain(&mut self) -> io::Result<()> {
        match self {
            Self::Exchange(sent) => sent.answer().await.map(drop),
            Self::Lane(lane) => lane.drain().await,
        }
    }
}

impl Home {
    fn put(&self, mut lane: Lane) {
        lane.wipe();
        unpoisoned(&self.worker.lanes(self.class).idle).push(lane);
    }

    fn answered(&self) {
        self.shared.counts.replies.fetch_add(1, Ordering::Relaxed);
        if let Some(class) = self.class {
            if !self.worker.has_worked() {
                self.worker.has_worked.store(true, Ordering::Relaxed);
            }
            self.shared.latency_of(class).record(self.begun.elapsed());
        }
    }

    /// Nobody waits for the reply any longer; when it comes says how the member fares all the same.
    async fn wait(self, mut way: Way, permit: OwnedSemaphorePermit) {
        let Self { worker, shared, begun, .. } = &self;
        let drained = match timeout_at(*begun + shared.launch.overdue, way.drain()).await {
            Ok(drained) => Ok(drained),
            Err(_) => {
                shared.counts.late.fetch_add(1, Ordering::Relaxed);
                shared.breaker.miss(Instant::now(), "it does not answer in time");
                timeout_at(*begun + shared.launch.hang, way.drain()).await
            }
        };
        match drained {
            Ok(Ok(())) => {
                self.answered();
                if let Way::Lane(lane) = way {
                    self.put(lane);
                }
                drop(permit);
            }
            Ok(Err(error)) => worker.fail(Arc::from(format!("its worker went away: {error}"))),
            Err(_) => worker.fail(Arc::from("its worker hangs")),
        }
    }
}

impl Gate {
    fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), waiting: AtomicUsize::new(0) }
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Lanes {
    fn new(idle: Vec<Lane>) -> Self {
        Self { gate: Gate::new(idle.len()), all: idle.len(), idle: Mutex::new(idle) }
    }

    fn in_flight(&self) -> usize {
        self.all.saturating_sub(self.gate.free.available_permits()) + self.gate.waiting()
    }
}

impl Worker {
    /// The last of the lanes is for what is long.
    pub(super) fn new(
        pid: u32,
        about: About,
        sessions: u32,
        exchange: Exchange,
        mut lanes: Vec<Lane>,
    ) -> Self {
        let long = Lanes::new(lanes.pop().into_iter().collect());
        Self {
            pid,
            about,
            exchange,
            places: Gate::new((AHEAD * sessions) as usize),
            making: Lanes::new(lanes),
            long,
            has_worked: AtomicBool::new(false),
            failed: Mutex::new(None),
            failure: Notify::new(),
        }
    }

    /// Lets a request in, and sends it where it is short.
    ///
    /// # Errors
    /// When too many wait already, or the worker is given up.
    pub(super) async fn take(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        runtime: &Handle,
        request: &Request<'_>,
    ) -> Result<Held, NoReply> {
        let held = |way, permit, begun| {
            let class = Class::of(request);
            let home = Home { worker: Arc::clone(self), shared: Arc::clone(shared), class, begun };
            Held { way: Some((way, permit)), answer: None, home, runtime: runtime.clone() }
        };
        let queue = shared.launch.queue;
        if exchange::takes(request) {
            let permit = self.enter(&self.places, places(shared, request), queue).await?;
            let begun = Instant::now();
            match self.exchange.send(request).await {
                Ok(sent) => return Ok(held(Way::Exchange(sent), permit, begun)),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => {
                    self.fail(Arc::from(format!("its worker went away: {error}")));
                    return Err(NoReply::Down(self.why()));
                }
            }
        }
        let lanes = self.lanes(Class::of(request));
        let permit = self.enter(&lanes.gate, 1, queue).await?;
        let lane = unpoisoned(&lanes.idle).pop().ok_or_else(|| NoReply::Down(self.why()))?;
        Ok(held(Way::Lane(lane), permit, Instant::now()))
    }

    /// The lanes for requests of a class, and for those of none.
    fn lanes(&self, class: Option<Class>) -> &Lanes {
        if class.is_some() { &self.long } else { &self.making }
    }

    /// Brings replies to those who wait for them, for as long as the worker keeps to the protocol.
    pub(super) async fn serve(self: Arc<Self>) {
        let error = self.exchange.serve().await;
        self.fail(Arc::from(format!("its worker went away: {error}")));
    }

    async fn enter(&self, gate: &Gate, places: u32, queue: usize) -> Result<OwnedSemaphorePermit, NoReply> {
        if let Ok(permit) = Arc::clone(&gate.free).try_acquire_many_owned(places) {
            return Ok(permit);
        }
        let _waiting = Waiting::enter(&gate.waiting, queue).ok_or(NoReply::Full)?;
        let acquired = Arc::clone(&gate.free).acquire_many_owned(places).await;
        acquired.map_err(|_| NoReply::Down(self.why()))
    }

    /// Gives it up: the supervisor ends its process and starts another.
    pub(super) fn fail(&self, why: Arc<str>) {
        unpoisoned(&self.failed).get_or_insert(why);
        for gate in [&self.places, &self.making.gate, &self.long.gate] {
            gate.free.close();
        }
        self.failure.notify_one();
    }

    pub(super) fn why(&self) -> Arc<str> {
        unpoisoned(&self.failed).clone().unwrap_or_else(|| Arc::from("its worker ended"))
    }

    /// Resolves when it is given up.
    pub(super) async fn given_up(&self) {
        self.failure.notified().await;
    }

    pub(super) fn has_worked(&self) -> bool {
        self.has_worked.load(Ordering::Relaxed)
    }

    /// What is under way and what waits.
    pub(super) fn in_flight(&self) -> usize {
        self.short() + self.making.in_flight() + self.long.in_flight()
    }

    /// Short requests that are under way or wait.
    pub(super) fn short(&self) -> usize {
        self.exchange.owed() + self.places.waiting()
    }
}

/// The places that a request takes: a session's all, where its like is not known to be quick.
fn places(shared: &Shared, request: &Request<'_>) -> u32 {
    let is_quick = Class::of(request).is_some_and(|class| {
        let usual = shared.latency_of(class).quantiles().p50;
        usual > 0 && Duration::from_micros(usual.into()) <= QUICK
    });
    if is_quick { 1 } else { AHEAD }
}

/// A place in the queue of those who wait to be let in.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let waiting = Self(count);
        // Left again by `drop`, if it was one too many.
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why the token failed, if it did.
pub(super) fn fault_of<'a>(reply: &Reply<'a>) -> Option<&'a str> {
    match reply {
        Reply::Refused(Refusal::Fault(why) | Refusal::Pin(why)) => Some(why),
        Reply::Refused(Refusal::Gone) => Some(GONE),
        Reply::Refused(_) | Reply::Done(_) | Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) => None,
    }
}
