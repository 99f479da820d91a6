//! A worker process while it lives: its lanes, and who waits for one.

use super::super::lane::{Lane, Place};
use super::super::message::{Refusal, Reply, Request};
use super::super::pool::GONE;
use super::super::pool::latency::Class;
use super::{About, NoReply, Shared, unpoisoned};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// One worker process, for as long as it lives.
pub(super) struct Worker {
    pub(super) pid: u32,
    pub(super) about: About,
    lanes: usize,
    idle: Mutex<Vec<Lane>>,
    free: Arc<Semaphore>,
    /// Replies so far: whoever answers callers need not be asked whether it answers.
    replies: AtomicU64,
    /// Requests that wait for a lane.
    waiting: AtomicUsize,
    /// Why it is given up.
    failed: Mutex<Option<Arc<str>>>,
    failure: Notify,
}

/// A lane, taken for one request.
pub(super) struct Held {
    /// There until it is dropped.
    lane: Option<Lane>,
    permit: Option<OwnedSemaphorePermit>,
    home: Home,
    runtime: Handle,
}

/// Where a lane comes back to.
#[derive(Clone)]
struct Home {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
    class: Option<Class>,
    begun: Instant,
}

impl Held {
    pub(super) async fn ask(&mut self, request: &Request<'_>) -> io::Result<Reply<'_>> {
        let Self { lane: Some(lane), home, .. } = self else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let reply = lane.ask(request).await?;
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
        let (Some(lane), Some(permit)) = (self.lane.take(), self.permit.take()) else { return };
        match lane.place() {
            Place::Idle => self.home.put(lane, permit),
            Place::Writing => self.home.worker.fail(Arc::from("a request to its worker was cut off")),
            // The token is still at it. The lane comes back when it is done.
            Place::Waiting => drop(self.runtime.spawn(self.home.clone().wait(lane, permit))),
        }
    }
}

impl Home {
    fn put(&self, mut lane: Lane, permit: OwnedSemaphorePermit) {
        lane.wipe();
        unpoisoned(&self.worker.idle).push(lane);
        drop(permit);
    }

    fn answered(&self) {
        self.worker.replies.fetch_add(1, Ordering::Relaxed);
        if let Some(class) = self.class {
            self.shared.latency_of(class).record(self.begun.elapsed());
        }
    }

    /// Nobody waits for the reply any longer; when it comes says how the member fares all the same.
    async fn wait(self, mut lane: Lane, permit: OwnedSemaphorePermit) {
        let Self { worker, shared, begun, .. } = &self;
        let drained = match timeout_at(*begun + shared.launch.overdue, lane.drain()).await {
            Ok(drained) => Ok(drained),
            Err(_) => {
                shared.counts.late.fetch_add(1, Ordering::Relaxed);
                shared.breaker.miss(Instant::now(), "it does not answer in time");
                timeout_at(*begun + shared.launch.hang, lane.drain()).await
            }
        };
        match drained {
            Ok(Ok(())) => {
                self.answered();
                self.put(lane, permit);
            }
            Ok(Err(error)) => worker.fail(Arc::from(format!("its worker went away: {error}"))),
            Err(_) => worker.fail(Arc::from("its worker hangs")),
        }
    }
}

impl Worker {
    pub(super) fn new(pid: u32, about: About, idle: Vec<Lane>) -> Self {
        Self {
            pid,
            about,
            lanes: idle.len(),
            free: Arc::new(Semaphore::new(idle.len())),
            idle: Mutex::new(idle),
            replies: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            failed: Mutex::new(None),
            failure: Notify::new(),
        }
    }

    pub(super) async fn take(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        runtime: &Handle,
        class: Option<Class>,
    ) -> Result<Held, NoReply> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting, shared.launch.queue).ok_or(NoReply::Full)?;
                let acquired = Arc::clone(&self.free).acquire_owned().await;
                acquired.map_err(|_| NoReply::Down(self.why()))?
            }
        };
        let lane = unpoisoned(&self.idle).pop().ok_or_else(|| NoReply::Down(self.why()))?;
        let home =
            Home { worker: Arc::clone(self), shared: Arc::clone(shared), class, begun: Instant::now() };
        Ok(Held { lane: Some(lane), permit: Some(permit), home, runtime: runtime.clone() })
    }

    /// Gives it up: the supervisor ends its process and starts another.
    pub(super) fn fail(&self, why: Arc<str>) {
        unpoisoned(&self.failed).get_or_insert(why);
        self.free.close();
        self.failure.notify_one();
    }

    pub(super) fn why(&self) -> Arc<str> {
        unpoisoned(&self.failed).clone().unwrap_or_else(|| Arc::from("its worker ended"))
    }

    /// Resolves when it is given up.
    pub(super) async fn given_up(&self) {
        self.failure.notified().await;
    }

    pub(super) fn replies(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    /// What is under way and what waits.
    pub(super) fn in_flight(&self) -> usize {
        let busy = self.lanes.saturating_sub(self.free.available_permits());
        busy + self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in the queue for a lane.
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
