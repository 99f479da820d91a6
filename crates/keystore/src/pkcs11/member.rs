//! A member: one token, behind one worker process, which is started again whenever it ends.

use super::lane::{Lane, Place};
use super::message::{Buffer, Hello, NotAFrame, Refusal, Reply, Request, Welcome, frame_len};
use holdfast_core::Secret;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// How a member is started, and how long it is waited for.
#[derive(Debug)]
pub struct Launch {
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
    /// Sessions, each with a lane of its own.
    pub lanes: u32,
    /// Requests that may wait for a lane; more are refused.
    pub queue: usize,
    /// How long a worker may take to load its module and log in.
    pub start: Duration,
    /// How often the token is asked whether it answers.
    pub probe: Duration,
    /// From when on a worker that does not answer is killed.
    pub hang: Duration,
}

impl Launch {
    /// With this process's own binary and the usual limits.
    #[must_use]
    pub fn new(module: impl Into<String>, token: impl Into<String>, pin: Secret) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("hsm-worker")],
            environment: Vec::new(),
            module: module.into(),
            token: token.into(),
            pin,
            lanes: 8,
            queue: 256,
            start: Duration::from_secs(30),
            probe: Duration::from_secs(1),
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
}

enum State {
    Down(Arc<str>),
    Up(Arc<Worker>),
    Closed,
}

/// One worker process, for as long as it lives.
struct Worker {
    pid: u32,
    idle: Mutex<Vec<Lane>>,
    free: Arc<Semaphore>,
    about: About,
    /// Replies so far: whoever answers callers need not be asked whether it answers.
    replies: AtomicU64,
    /// Requests that wait for a lane.
    waiting: AtomicUsize,
    /// What the last operation or probe said of the token, if that was no good.
    trouble: Mutex<Option<Arc<str>>>,
    troubled: AtomicBool,
    /// Why it is given up.
    failed: Mutex<Option<Arc<str>>>,
    failure: Notify,
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

fn closed_words() -> Arc<str> {
    Arc::from("the member was closed")
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    /// Starts it, on the runtime that this is called from. Whether its worker comes up shows later.
    pub fn start(launch: Launch) -> Self {
        let state = Mutex::new(State::Down(Arc::from("the worker is being started")));
        let shared = Arc::new(Shared { launch, state, changed: Notify::new(), closed: Notify::new() });
        let runtime = Handle::current();
        runtime.spawn(Arc::clone(&shared).supervise(runtime.clone()));
        Self { shared, runtime }
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

    /// Whether it can work: what its last operations and probes say.
    ///
    /// # Errors
    /// Why it can't.
    pub fn check(&self) -> Result<(), Arc<str>> {
        match &*unpoisoned(&self.shared.state) {
            State::Up(worker) => match &*unpoisoned(&worker.trouble) {
                None => Ok(()),
                Some(why) => Err(Arc::clone(why)),
            },
            State::Down(why) => Err(Arc::clone(why)),
            State::Closed => Err(closed_words()),
        }
    }

    /// The token as it says itself, while there is a worker.
    pub fn about(&self) -> Option<About> {
        match &*unpoisoned(&self.shared.state) {
            State::Up(worker) => Some(worker.about.clone()),
            State::Down(_) | State::Closed => None,
        }
    }

    /// Its worker's process, while there is one.
    pub fn worker(&self) -> Option<u32> {
        match &*unpoisoned(&self.shared.state) {
            State::Up(worker) => Some(worker.pid),
            State::Down(_) | State::Closed => None,
        }
    }

    /// Asks the token for something and gives what `read` makes of the reply.
    ///
    /// # Errors
    /// Why there is no reply.
    pub async fn ask<T>(
        &self,
        request: &Request<'_>,
        deadline: Instant,
        read: impl FnOnce(Reply<'_>) -> T,
    ) -> Result<T, NoReply> {
        let worker = self.shared.worker()?;
        let sleep = {
            // Whoever polls this need not be a thread of the runtime.
            let _timers = self.runtime.enter();
            sleep_until(deadline)
        };
        tokio::pin!(sleep);
        let mut held = tokio::select! {
            biased;
            held = worker.take(&self.shared, &self.runtime) => held?,
            () = &mut sleep => return Err(NoReply::Late),
        };
        let replied = tokio::select! {
            biased;
            replied = held.ask(request) => replied,
            () = &mut sleep => {
                worker.note(Some("it does not answer in time"));
                return Err(NoReply::Late);
            }
        };
        match replied {
            Ok(reply) => {
                worker.replies.fetch_add(1, Ordering::Relaxed);
                worker.note(fault_of(&reply));
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
}

impl Drop for Member {
    fn drop(&mut self) {
        *unpoisoned(&self.shared.state) = State::Closed;
        self.shared.closed.notify_one();
    }
}

/// A lane, taken for one request.
struct Held {
    /// There until it is dropped.
    lane: Option<Lane>,
    worker: Arc<Worker>,
    permit: Option<OwnedSemaphorePermit>,
    runtime: Handle,
    hang: Duration,
}

impl Held {
    async fn ask(&mut self, request: &Request<'_>) -> io::Result<Reply<'_>> {
        match &mut self.lane {
            Some(lane) => lane.ask(request).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (Some(mut lane), permit) = (self.lane.take(), self.permit.take()) else { return };
        let worker = Arc::clone(&self.worker);
        match lane.place() {
            Place::Idle => {
                lane.wipe();
                unpoisoned(&worker.idle).push(lane);
                drop(permit);
            }
            Place::Writing => worker.fail(Arc::from("a request to its worker was cut off")),
            // The token is still at it. The lane comes back when it is done; if that takes too long, the worker hangs.
            Place::Waiting => {
                let hang = self.hang;
                drop(self.runtime.spawn(async move {
                    match tokio::time::timeout(hang, lane.drain()).await {
                        Ok(Ok(())) => {
                            lane.wipe();
                            unpoisoned(&worker.idle).push(lane);
                            drop(permit);
                        }
                        Ok(Err(error)) => worker.fail(Arc::from(format!("its worker went away: {error}"))),
                        Err(_) => worker.fail(Arc::from("its worker hangs")),
                    }
                }));
            }
        }
    }
}

impl Worker {
    async fn take(self: &Arc<Self>, shared: &Shared, runtime: &Handle) -> Result<Held, NoReply> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting, shared.launch.queue).ok_or(NoReply::Full)?;
                let acquired = Arc::clone(&self.free).acquire_owned().await;
                acquired.map_err(|_| NoReply::Down(self.why()))?
            }
        };
        let lane = unpoisoned(&self.idle).pop().ok_or_else(|| NoReply::Down(self.why()))?;
        Ok(Held {
            lane: Some(lane),
            worker: Arc::clone(self),
            permit: Some(permit),
            runtime: runtime.clone(),
            hang: shared.launch.hang,
        })
    }

    /// Gives it up: the supervisor ends its process and starts another.
    fn fail(&self, why: Arc<str>) {
        unpoisoned(&self.failed).get_or_insert(why);
        self.free.close();
        self.failure.notify_one();
    }

    /// What a live operation says of the token. Only what is not as it was is written down.
    fn note(&self, fault: Option<&str>) {
        if fault.is_none() && !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut trouble = unpoisoned(&self.trouble);
        if trouble.as_deref() != fault {
            *trouble = fault.map(Arc::from);
            self.troubled.store(fault.is_some(), Ordering::Relaxed);
        }
    }

    fn why(&self) -> Arc<str> {
        unpoisoned(&self.failed).clone().unwrap_or_else(|| Arc::from("its worker ended"))
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
fn fault_of<'a>(reply: &Reply<'a>) -> Option<&'a str> {
    match reply {
        Reply::Refused(Refusal::Fault(why) | Refusal::Pin(why)) => Some(why),
        Reply::Refused(_) | Reply::Done(_) | Reply::Made(_) | Reply::Welcome(_) => None,
    }
}

impl Shared {
    fn worker(&self) -> Result<Arc<Worker>, NoReply> {
        match &*unpoisoned(&self.state) {
            State::Up(worker) => Ok(Arc::clone(worker)),
            State::Down(why) => Err(NoReply::Down(Arc::clone(why))),
            State::Closed => Err(NoReply::Down(closed_words())),
        }
    }

    /// Sets the state, unless the member was closed; gives whether it was.
    fn set(&self, to: State) -> bool {
        let mut state = unpoisoned(&self.state);
        let closed = matches!(*state, State::Closed);
        if !closed {
            *state = to;
        }
        drop(state);
        self.changed.notify_waiters();
        closed
    }

    async fn supervise(self: Arc<Self>, runtime: Handle) {
        const FIRST_PAUSE: Duration = Duration::from_millis(50);
        const LONGEST_PAUSE: Duration = Duration::from_secs(5);
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let why = match self.start().await {
                Ok((child, control, worker)) => {
                    let closed = self.set(State::Up(Arc::clone(&worker)));
                    let why = if closed { closed_words() } else { self.watch(control, &worker).await };
                    worker.fail(Arc::clone(&why));
                    // Killed and waited for, off the runtime's threads.
                    drop(runtime.spawn_blocking(move || drop(child)).await);
                    why
                }
                Err(NotStarted::Pin(why)) => {
                    tracing::error!(token = %self.launch.token, %why, "a token does not take its PIN");
                    if !self.set(State::Down(Arc::from(why))) {
                        self.closed.notified().await;
                    }
                    return;
                }
                Err(NotStarted::Other(error)) => Arc::from(error.to_string()),
            };
            if self.set(State::Down(Arc::clone(&why))) {
                return;
            }
            tracing::warn!(token = %self.launch.token, %why, "a key store's worker is not there; it is started again");
            // What ran for long is started at once.
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.closed.notified() => return,
            }
        }
    }

    /// Until the worker ends, one way or another; asks the token from time to time whether it answers.
    async fn watch(&self, mut control: UnixStream, worker: &Arc<Worker>) -> Arc<str> {
        let runtime = Handle::current();
        let mut byte = [0];
        let mut ended = std::pin::pin!(control.read(&mut byte));
        let mut seen = 0;
        loop {
            tokio::select! {
                _ = &mut ended => return Arc::from("its worker ended"),
                () = worker.failure.notified() => return worker.why(),
                () = self.closed.notified() => return closed_words(),
                () = tokio::time::sleep(self.launch.probe) => {}
            }
            let replies = worker.replies.load(Ordering::Relaxed);
            if std::mem::replace(&mut seen, replies) != replies {
                continue;
            }
            let probed = async {
                let mut held = worker.take(self, &runtime).await.ok()?;
                let reply = held.ask(&Request::Probe).await.ok()?;
                Some(fault_of(&reply).map(str::to_owned))
            };
            match tokio::time::timeout(self.launch.probe, probed).await {
                Ok(Some(fault)) => worker.note(fault.as_deref()),
                Ok(None) => worker.fail(Arc::from("its worker went away")),
                Err(_) => worker.note(Some("it does not answer in time")),
            }
        }
    }

    async fn start(&self) -> Result<(Process, UnixStream, Arc<Worker>), NotStarted> {
        let Launch { program, arguments, environment, module, token, pin, lanes, .. } = &self.launch;
        let (ours, theirs) = StdStream::pair()?;
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        let child = Process(child);
        let mut buffer = Buffer::default();
        let hello = Hello { module, token, pin: pin.expose(), lanes: *lanes };
        hello.encode(&mut buffer).map_err(|_| io::Error::other("the key store's settings are too long"))?;
        ours.set_nonblocking(true)?;
        let mut control = UnixStream::from_std(ours)?;
        let (mut idle, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..*lanes {
            let (ours, other) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            idle.push(Lane::new(UnixStream::from_std(ours)?));
            theirs.push(other);
        }
        let welcomed = async {
            control.write_all(&buffer).await?;
            send_lanes(&control, &theirs)?;
            drop(theirs);
            let mut head = [0; 4];
            control.read_exact(&mut head).await?;
            let length = frame_len(head).map_err(|NotAFrame| io::Error::from(io::ErrorKind::InvalidData))?;
            buffer.resize(length, 0);
            control.read_exact(&mut buffer).await?;
            about(&buffer)
        };
        let late = || io::Error::other("its worker does not come up in time");
        let about =
            tokio::time::timeout(self.launch.start, welcomed).await.unwrap_or_else(|_| Err(late().into()))?;
        let worker = Worker {
            pid: child.0.id(),
            free: Arc::new(Semaphore::new(idle.len())),
            idle: Mutex::new(idle),
            about,
            replies: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            trouble: Mutex::new(None),
            troubled: AtomicBool::new(false),
            failed: Mutex::new(None),
            failure: Notify::new(),
        };
        Ok((child, control, Arc::new(worker)))
    }
}

/// Why a worker did not come up.
enum NotStarted {
    /// The token does not take the PIN: not to be tried again.
    Pin(String),
    /// Anything else.
    Other(io::Error),
}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

/// A worker's process. Dropping it kills it and waits for its end.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn send_lanes(control: &UnixStream, lanes: &[StdStream]) -> io::Result<()> {
    let lanes: Vec<_> = lanes.iter().map(|lane| lane.as_fd()).collect();
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(super::worker::MAX_LANES as usize))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&lanes)) {
        return Err(io::Error::other("more sessions than a worker can have"));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn about(frame: &[u8]) -> Result<About, NotStarted> {
    match Reply::decode(frame) {
        Ok((0, Reply::Welcome(Welcome { manufacturer, model, serial, firmware, mechanisms }))) => Ok(About {
            manufacturer: manufacturer.to_owned(),
            model: model.to_owned(),
            serial: serial.to_owned(),
            firmware: firmware.to_owned(),
            mechanisms: mechanisms.as_chunks::<8>().0.iter().copied().map(u64::from_be_bytes).collect(),
        }),
        Ok((_, Reply::Refused(Refusal::Pin(why)))) => {
            let why = format!(
                "{why}; it is not tried again, lest the token lock itself: set the right PIN, and start again"
            );
            Err(NotStarted::Pin(why))
        }
        Ok((_, Reply::Refused(Refusal::Fault(why)))) => Err(io::Error::other(why.to_owned()).into()),
        Ok(_) | Err(_) => Err(io::Error::other("its worker's first answer is not by the protocol").into()),
    }
}
