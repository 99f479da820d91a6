//! A member of a pool: one token, behind one worker process, which is started again whenever it ends.

mod held;
mod process;
mod start;
mod supervise;

use super::confinement::Confinement;
use super::message::{Refusal, Reply, Request};
use super::pool::breaker::{Breaker, Standing};
use super::pool::latency::{Class, Latency, Quantiles};
use held::{Worker, fault_of};
use holdfast_core::Secret;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How a member is started, and how long it is waited for.
#[derive(Debug)]
pub struct Launch {
    /// What the pool calls it.
    pub name: String,
    /// The program whose process the worker is: this one again, as `/proc/self/exe`, so that it is the same inode.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What its environment has besides this process's: modules are told by it where their configuration is.
    pub environment: Vec<(OsString, OsString)>,
    /// The module's path.
    pub module: String,
    /// The token's label.
    pub token: String,
    /// The user's PIN.
    pub pin: Secret,
    /// The label of the key under which the pool's keys travel; empty where they don't.
    pub kek: String,
    /// Directories that the module must not reach.
    pub closed: Vec<PathBuf>,
    /// Sessions that do operations; up to four more are opened: one keeps the login, two make keys, one takes long inputs.
    pub sessions: u32,
    /// This machine's processors, which it shares with the pool's other members. Where the module computes instead of waiting for a device, no more sessions
    /// work at once: they would only take the processors from each other.
    pub processors: u32,
    /// Requests that may wait to be sent; more are refused.
    pub queue: usize,
    /// How long a worker may take to load its module and log in.
    pub start: Duration,
    /// Within which time it is noticed that an idle token does not answer any more.
    pub probe: Duration,
    /// From when on an operation counts as not answered.
    pub overdue: Duration,
    /// From when on a worker that does not answer is killed.
    pub hang: Duration,
}

impl Launch {
    /// With this process's own binary and the usual limits; named as the token is.
    #[must_use]
    pub fn new(module: impl Into<String>, token: impl Into<String>, pin: Secret) -> Self {
        let token = token.into();
        Self {
            name: token.clone(),
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("hsm-worker")],
            environment: Vec::new(),
            module: module.into(),
            token,
            pin,
            kek: String::new(),
            closed: Vec::new(),
            sessions: 8,
            processors: available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            queue: 256,
            start: Duration::from_secs(30),
            probe: Duration::from_secs(1),
            overdue: Duration::from_millis(120),
            hang: Duration::from_secs(5),
        }
    }
}

/// A member of a pool.
pub struct Member {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    launch: Launch,
    state: Mutex<State>,
    changed: Notify,
    closed: Notify,
    breaker: Breaker,
    latency: [Latency; Class::COUNT],
    counts: Counts,
    drained: AtomicBool,
    /// Its share of the processors.
    share: AtomicU32,
    share_changed: Notify,
}

#[derive(Default)]
struct Counts {
    replies: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
    restarts: AtomicU64,
    arrivals: AtomicU64,
}

enum State {
    Down(Arc<str>),
    Up(Arc<Worker>),
    Closed,
}

/// The token, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// CK_TOKEN_INFO.manufacturerID.
    pub manufacturer: String,
    /// CK_TOKEN_INFO.model.
    pub model: String,
    /// CK_TOKEN_INFO.serialNumber.
    pub serial: String,
    /// CK_TOKEN_INFO.firmwareVersion.
    pub firmware: String,
    /// CK_MECHANISM_TYPEs.
    pub mechanisms: Vec<u64>,
    /// The fingerprint of the key under which the pool's keys travel; empty where they don't.
    pub kek: Vec<u8>,
    /// Whether that key can be taken through itself.
    pub through_itself: bool,
    /// How far the kernel keeps the module from the directories that are closed to it, and from the gateway.
    pub confined: Confinement,
}

impl About {
    /// What whoever runs the gateway must know of the wrapping key of this token; nothing where it lets nothing out.
    pub fn notice(&self, token: &str) -> Option<String> {
        self.through_itself.then(|| {
            format!(
                "whoever has the user's PIN of token `{token}` can take the pool's wrapping key through itself, and with it every key that travels: guard that PIN, \
                 and the way to the token, as those keys (SECURITY.md)"
            )
        })
    }
}

/// Why a member gave no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// Its worker is not there, or went away.
    Down(Arc<str>),
    /// It took too long.
    Late,
    /// Too many wait already.
    Full,
    /// It is longer than a worker takes.
    TooLong,
}

/// Whether a member works, and why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It takes operations.
    Up,
    /// An operator took it out.
    Drained,
    /// It has no worker: that could not be started, or ended.
    Down(Arc<str>),
    /// Its breaker is open: it is tried again by itself.
    Open(Arc<str>),
    /// It gave a wrong result: only an operator lets it in again.
    Ejected(Arc<str>),
}

impl Condition {
    /// Its name in tables and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drained => "drained",
            Self::Down(_) => "down",
            Self::Open(_) => "open",
            Self::Ejected(_) => "ejected",
        }
    }

    /// Why, where there is a reason to give.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Up | Self::Drained => None,
            Self::Down(why) | Self::Open(why) | Self::Ejected(why) => Some(why),
        }
    }
}

/// What a member has done and how it fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Whether it works.
    pub condition: Condition,
    /// Operations that it is doing or that wait for one of its sessions.
    pub in_flight: usize,
    /// Its sessions for operations.
    pub sessions: u32,
    /// Operations that it answered, refusals of the input included.
    pub answered: u64,
    /// Operations that failed with it.
    pub failed: u64,
    /// Operations that it did not answer in time.
    pub late: u64,
    /// Workers that were started after the first.
    pub restarts: u64,
    /// Latencies of symmetric operations, of those with elliptic curves, and of RSA.
    pub latency: [Quantiles; 3],
    /// The token as it says itself, while there is a worker.
    pub about: Option<About>,
}

fn closed_words() -> Arc<str> {
    Arc::from("the member was closed")
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    /// Starts it, on the runtime that this is called from. Whether its worker comes up shows later.
    pub fn start(launch: Launch) -> Self {
        let shared = Arc::new(Shared {
            share: AtomicU32::new(launch.processors),
            share_changed: Notify::new(),
            launch,
            state: Mutex::new(State::Down(Arc::from("the worker is being started"))),
            changed: Notify::new(),
            closed: Notify::new(),
            breaker: Breaker::default(),
            latency: Default::default(),
            counts: Counts::default(),
            drained: AtomicBool::new(false),
        });
        let runtime = Handle::current();
        runtime.spawn(Arc::clone(&shared).supervise(runtime.clone()));
        Self { shared, runtime }
    }

    /// What the pool calls it.
    pub fn name(&self) -> &str {
        &self.shared.launch.name
    }

    /// Waits until its worker answers, or for so long.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ready(&self, patience: Duration) -> Result<About, Arc<str>> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.shared.changed.notified();
            let why = match &*unpoisoned(&self.shared.state) {
                State::Up(worker) => return Ok(worker.about.clone()),
                State::Down(why) => Arc::clone(why),
                State::Closed => return Err(closed_words()),
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(deadline) => return Err(why),
            }
        }
    }

    /// Whether it works: what its last operations and probes say.
    pub fn condition(&self) -> Condition {
        if self.shared.drained.load(Ordering::Relaxed) {
            return Condition::Drained;
        }
        match self.shared.breaker.standing() {
            Standing::Ejected(why) => Condition::Ejected(why),
            standing @ (Standing::Closed | Standing::Open(_)) => match &*unpoisoned(&self.shared.state) {
                State::Down(why) => Condition::Down(Arc::clone(why)),
                State::Closed => Condition::Down(closed_words()),
                State::Up(_) => match standing {
                    Standing::Open(why) => Condition::Open(why),
                    Standing::Closed | Standing::Ejected(_) => Condition::Up,
                },
            },
        }
    }

    /// Whether operations may be sent there, and how many are there already.
    pub(super) fn load(&self) -> Option<usize> {
        self.rank().map(|(load, _)| load)
    }

    /// By what it is chosen, the least first: how much it has to do, and whether its worker has done an operation yet. A module that has used no key cannot
    /// tell by a probe that its device is gone.
    pub(super) fn rank(&self) -> Option<(usize, bool)> {
        self.able(|worker| (worker.in_flight(), worker.has_worked()))
    }

    /// So many members are able to work, itself among them.
    pub(super) fn shares_with(&self, members: u32) {
        let shared = &*self.shared;
        let share = shared.launch.processors.div_ceil(members.max(1)).max(1);
        if shared.share.load(Ordering::Relaxed) != share {
            shared.share.store(share, Ordering::Relaxed);
            shared.share_changed.notify_one();
        }
    }

    /// Whether one of its sessions for short requests has nothing to do. All of them count, though fewer work while the module computes: which it does only the
    /// worker knows, and where it waits for its device they all work. Counted by the processors instead, a device would hardly ever be at leisure, and nobody
    /// who is late be helped; so a module that computes is at most asked for something once more than it has a thread for, and the first answer counts.
    pub(super) fn is_at_leisure(&self) -> bool {
        let sessions = self.shared.launch.sessions as usize;
        self.able(|worker| worker.short() < sessions) == Some(true)
    }

    /// Of its worker, while operations may be sent there.
    fn able<T>(&self, of: impl FnOnce(&Worker) -> T) -> Option<T> {
        let shared = &*self.shared;
        if shared.drained.load(Ordering::Relaxed) || !shared.breaker.is_closed() {
            return None;
        }
        match &*unpoisoned(&shared.state) {
            State::Up(worker) => Some(of(worker)),
            State::Down(_) | State::Closed => None,
        }
    }

    /// Replies that have come from it, those included that nobody waited for any longer.
    pub(super) fn replies(&self) -> u64 {
        self.shared.replies()
    }

    pub(super) fn quantiles(&self, class: Class) -> Quantiles {
        self.shared.latency_of(class).quantiles()
    }

    /// It gave a wrong result: nothing is asked of it until an operator says so.
    pub(super) fn eject(&self, why: &str) {
        tracing::error!(member = self.name(), %why, "a member of the pool gave a wrong result and is out");
        self.shared.breaker.eject(why);
    }

    /// What was wrong with its result, where it gave a wrong one and nobody has let it in again.
    pub(super) fn ejected(&self) -> Option<Arc<str>> {
        match self.shared.breaker.standing() {
            Standing::Ejected(why) => Some(why),
            Standing::Closed | Standing::Open(_) => None,
        }
    }

    /// How often it has begun to work: what was made before may not be there.
    pub(super) fn arrivals(&self) -> u64 {
        self.shared.counts.arrivals.load(Ordering::Relaxed)
    }

    /// It does not hold a key that another member holds. Where that is so of whatever it is asked, another worker may see its device again.
    pub(super) fn lacks(&self) {
        const WHY: &str = "it does not hold keys that another member holds";
        self.shared.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.shared.breaker.miss(Instant::now(), WHY);
        if !self.shared.breaker.is_closed()
            && let Ok(worker) = self.shared.worker()
        {
            worker.fail(Arc::from(WHY));
        }
    }

    /// Takes it out: what is under way is finished, nothing new is asked of it.
    pub fn drain(&self) {
        self.shared.drained.store(true, Ordering::Relaxed);
    }

    /// Lets it in again, whatever put it out.
    pub fn join(&self) {
        self.shared.drained.store(false, Ordering::Relaxed);
        self.shared.breaker.readmit();
        self.shared.has_come();
    }

    /// What it has done and how it fares.
    pub fn report(&self) -> Report {
        let Shared { launch, latency, counts, .. } = &*self.shared;
        let worker = self.shared.worker().ok();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            name: launch.name.clone(),
            condition: self.condition(),
            in_flight: worker.as_ref().map_or(0, |worker| worker.in_flight()),
            sessions: launch.sessions,
            answered: count(&counts.answered),
            failed: count(&counts.failed),
            late: count(&counts.late),
            restarts: count(&counts.restarts),
            latency: latency.each_ref().map(Latency::quantiles),
            about: worker.map(|worker| worker.about.clone()),
        }
    }

    /// The token as it says itself, while there is a worker.
    pub fn about(&self) -> Option<About> {
        self.shared.worker().ok().map(|worker| worker.about.clone())
    }

    /// Its worker's process, while there is one.
    pub fn worker(&self) -> Option<u32> {
        self.shared.worker().ok().map(|worker| worker.pid)
    }

    /// Asks the token for something and gives what `read` makes of the reply, for as long as somebody waits for it.
    ///
    /// # Errors
    /// Why there is no reply.
    pub(super) async fn ask_patiently<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(Reply<'_>) -> T,
    ) -> Result<T, NoReply> {
        let worker = self.shared.worker()?;
        let mut held = worker.take(&self.shared, &self.runtime, request).await?;
        match held.ask(request).await {
            Ok(reply) => {
                self.shared.judge(&reply);
                Ok(read(reply))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(NoReply::TooLong),
            Err(error) => {
                let why: Arc<str> = Arc::from(format!("its worker went away: {error}"));
                worker.fail(Arc::clone(&why));
                Err(NoReply::Down(why))
            }
        }
    }

    /// Does something beside what is asked.
    pub(super) fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(what));
    }

    /// Whoever polls this need not be a thread of the runtime.
    pub(super) fn sleep_until(&self, at: Instant) -> tokio::time::Sleep {
        let _timers = self.runtime.enter();
        sleep_until(at)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        *unpoisoned(&self.shared.state) = State::Closed;
        self.shared.closed.notify_one();
    }
}

impl Shared {
    fn has_come(&self) {
        self.counts.arrivals.fetch_add(1, Ordering::Relaxed);
    }

    fn replies(&self) -> u64 {
        self.counts.replies.load(Ordering::Relaxed)
    }

    fn worker(&self) -> Result<Arc<Worker>, NoReply> {
        match &*unpoisoned(&self.state) {
            State::Up(worker) => Ok(Arc::clone(worker)),
            State::Down(why) => Err(NoReply::Down(Arc::clone(why))),
            State::Closed => Err(NoReply::Down(closed_words())),
        }
    }

    fn latency_of(&self, class: Class) -> &Latency {
        let [symmetric, curve, rsa] = &self.latency;
        match class {
            Class::Symmetric => symmetric,
            Class::Curve => curve,
            Class::Rsa => rsa,
        }
    }

    /// What a reply says of the token.
    fn judge(&self, reply: &Reply<'_>) {
        let Some(why) = fault_of(reply) else {
            self.counts.answered.fetch_add(1, Ordering::Relaxed);
            // That it does not hold a key is no sign of health.
            if !matches!(reply, Reply::Refused(Refusal::NoSuchKey)) {
                self.breaker.hit();
            }
            return;
        };
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        match reply {
            Reply::Refused(Refusal::Pin(_)) => self.breaker.trip(Instant::now(), why),
            Reply::Refused(_) | Reply::Done(_) | Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) => {
                self.breaker.miss(Instant::now(), why);
            }
        }
    }
}
