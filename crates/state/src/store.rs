//! The embedded store: what it consists of, how it starts and how it ends.

use crate::DirectoryLock;
use crate::apply::Effects;
use crate::budget::{BLOCK, Budgets};
use crate::cache::{Cache, Miss};
use crate::copy::Copier;
use crate::database::{DatabaseFile, make_durable};
use crate::fault::{Fault, stopped};
use crate::ledger::{BUDGETS, Ledger, RECORDS};
use crate::readers::Readers;
use crate::schema::{self, Found};
use crate::seal::Seal;
use crate::writer::{self, Job, Standing, Writer};
use holdfast_core::key::Version;
use holdfast_core::pipeline::OpenIntent;
use holdfast_core::port::{Committed, Health, KeyEntry, StateChange, World};
use holdfast_core::{Error, KeyId, KeyName, KeyVersion, OperationId, Secret, Stage, TenantId};
use rusqlite::{Connection, TransactionBehavior};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::thread::{Builder, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// How much the store may hold in memory and have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Keys held in memory, about 1 KiB each; others are read from the database.
    pub cached_keys: usize,
    /// Key versions held in memory, about 0.5 KiB each and their public keys.
    pub cached_versions: usize,
    /// Threads that read the database.
    pub readers: usize,
    /// Commits that may wait before a caller waits for a place.
    pub queue: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cached_keys: 32_768, cached_versions: 32_768, readers: 4, queue: 1_024 }
    }
}

/// What to do about a data directory without a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Refuse: a gateway that has run before must not begin anew because its state has vanished.
    Existing,
    /// Make one: founding.
    CreateIfAbsent,
}

/// The state in one data directory. Dropping it finishes what is queued and closes the database.
pub struct EmbeddedState<W> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) budgets: Budgets,
    world: Arc<W>,
    readers: Option<Readers>,
    /// For [`Self::live_health`] alone, so that a probe waits for no queue.
    probe: Option<Mutex<Connection>>,
    /// When writing was last tried because it had failed, in ticks.
    tried: AtomicU64,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    file: DatabaseFile,
    /// Held until everything above is closed.
    _lock: DirectoryLock,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) seal: Seal,
    keys: Cache<Arc<KeyEntry>>,
    versions: Cache<Arc<Version>>,
    position: RwLock<Committed>,
    /// Why the last write failed; `None` if it did not.
    trouble: Mutex<Option<String>>,
}

/// Microseconds between two attempts to write while writing fails.
const TRY_AGAIN: u64 = 1_000_000;

impl<W: World> EmbeddedState<W> {
    /// Opens the state of a locked data directory under its 32-byte state key. Costs the same however much it holds.
    ///
    /// # Errors
    /// `state-unavailable`: no state there, another key's, a newer version's, damaged, or not to be opened; each with its remedy.
    pub fn open(
        lock: &DirectoryLock,
        key: &Secret,
        world: Arc<W>,
        opening: Opening,
        settings: Settings,
    ) -> Result<Self, Error> {
        Self::try_open(lock, key, world, opening, settings).map_err(|fault| fault.at(Stage::Start))
    }

    /// What copies it while it works.
    pub fn copier(&self) -> Copier {
        Copier { file: self.file.clone(), shared: Arc::clone(&self.shared) }
    }

    fn try_open(
        lock: &DirectoryLock,
        key: &Secret,
        world: Arc<W>,
        opening: Opening,
        settings: Settings,
    ) -> Result<Self, Fault> {
        let seal = Seal::new(key)?;
        let file = find(lock, opening)?;
        let mut connection = file.writer()?;
        let standing = prepare(&mut connection, &seal, opening)?;
        let Settings { cached_keys, cached_versions, readers, queue } = settings;
        let shared = Arc::new(Shared {
            position: RwLock::new(standing.records.position(&seal)),
            seal,
            keys: Cache::new(cached_keys),
            versions: Cache::new(cached_versions),
            trouble: Mutex::new(None),
        });
        let connections = (0..readers.max(1)).map(|_| file.reader()).collect::<Result<_, _>>()?;
        let probe = Some(Mutex::new(file.reader()?));
        let threads = |error: std::io::Error| Fault::Wrong {
            why: format!("a thread cannot be started: {error}"),
            remedy: "raise the limit on processes (`ulimit -u`) for the gateway's user",
        };
        let readers = Some(Readers::start(connections, &shared).map_err(threads)?);
        let (jobs, queue) = mpsc::channel(queue.max(1));
        let writer = Writer { connection, file: file.clone(), standing, shared: Arc::clone(&shared) };
        let writer = Builder::new()
            .name("state-write".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(threads)?;
        Ok(Self {
            shared,
            budgets: Budgets::default(),
            world,
            readers,
            probe,
            tried: AtomicU64::new(0),
            jobs: Some(jobs),
            writer: Some(writer),
            file,
            _lock: lock.clone(),
        })
    }

    /// The commit, without the proof that the port asks for.
    pub(crate) async fn apply(
        &self,
        operation: OperationId,
        order: Option<OpenIntent>,
        changes: Vec<StateChange>,
    ) -> Result<Committed, Error> {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Commit { operation, order, changes, answer }).await?;
        let gone = |_| stopped(Stage::Perform);
        answered.await.map_err(gone)?.map_err(|fault| fault.at(Stage::Perform))
    }

    /// Overwrites what was replaced; whether that could be done.
    pub(crate) async fn empty_write_ahead(&self) -> Result<bool, Error> {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Forget { answer }).await?;
        let gone = |_| stopped(Stage::Perform);
        answered.await.map_err(gone)?.map_err(|fault| fault.at(Stage::Perform))
    }

    /// Counts invocations of a key version before they happen.
    pub(crate) async fn count_invocations(
        &self,
        key: KeyId,
        version: KeyVersion,
        invocations: u64,
    ) -> Result<u64, Error> {
        let cell = self.budgets.cell(key, version);
        loop {
            if let Some(used) = cell.take(invocations) {
                if cell.wants_more(used) {
                    let cell = Arc::clone(&cell);
                    let job = Job::Reserve { key, version, invocations: BLOCK, cell, answer: None };
                    self.submit_if_idle(job);
                }
                return Ok(used);
            }
            let _turn = cell.turn.lock().await;
            if let Some(used) = cell.take(invocations) {
                return Ok(used);
            }
            let (answer, answered) = oneshot::channel();
            let block = invocations.max(BLOCK);
            let (cell, answer) = (Arc::clone(&cell), Some(answer));
            self.submit(Job::Reserve { key, version, invocations: block, cell, answer }).await?;
            let gone = |_| stopped(Stage::Perform);
            answered.await.map_err(gone)?.map_err(|fault| fault.at(Stage::Perform))?;
        }
    }

    pub(crate) async fn submit(&self, job: Job) -> Result<(), Error> {
        let jobs = self.jobs.as_ref().ok_or_else(|| stopped(Stage::Perform))?;
        jobs.send(job).await.map_err(|_| stopped(Stage::Perform))
    }

    /// For what can be done another time as well.
    fn submit_if_idle(&self, job: Job) {
        let refused = match &self.jobs {
            Some(jobs) => jobs.try_send(job).err().map(|refused| match refused {
                mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job) => job,
            }),
            None => Some(job),
        };
        if let Some(Job::Reserve { cell, .. }) = refused {
            cell.ahead_done();
        }
    }

    /// Reads on one of the reading threads.
    pub(crate) fn readers(&self, stage: Stage) -> Result<&Readers, Error> {
        self.readers.as_ref().ok_or_else(|| stopped(stage))
    }

    /// The database, for a connection of one's own.
    pub(crate) fn file(&self) -> &DatabaseFile {
        &self.file
    }

    /// The last write's outcome and a read of one row. While writing fails it is tried again at most once a second.
    pub(crate) fn live_health(&self) -> Health {
        if self.jobs.as_ref().is_none_or(mpsc::Sender::is_closed) {
            return Health::Unready("the state's writing thread has ended; restart the gateway".to_owned());
        }
        if let Some(trouble) = self.shared.trouble() {
            self.try_writing();
            return Health::Unready(format!("the state cannot be written: {trouble}"));
        }
        match self.file.check_place().and_then(|()| self.read_one()) {
            Ok(()) => Health::Ready,
            Err(fault) => Health::Unready(format!("the state cannot be read: {fault}")),
        }
    }

    fn try_writing(&self) {
        let now = self.world.ticks();
        let last = self.tried.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= TRY_AGAIN;
        let mine = || self.tried.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        if due && mine().is_ok() {
            self.submit_if_idle(Job::Probe);
        }
    }

    fn read_one(&self) -> Result<(), Fault> {
        let Some(probe) = &self.probe else { return Ok(()) };
        let connection = match probe.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(connection)) => connection.into_inner(),
            // Somebody else is finding out just now.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        Ledger::load(&connection, &self.shared.seal, RECORDS).map(|_| ())
    }
}

impl<W> Drop for EmbeddedState<W> {
    fn drop(&mut self) {
        // The writer closes last: only it can bring the write-ahead file into the database.
        self.readers = None;
        self.probe = None;
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _panicked = writer.join();
        }
    }
}

impl Shared {
    /// A key in memory, or the right to offer what is read.
    pub(crate) fn cached_key(&self, tenant: &TenantId, name: &KeyName) -> Result<Arc<KeyEntry>, Miss> {
        self.keys.get(&(tenant.as_str(), name.as_str()), |entry| {
            entry.key.name == *name && entry.key.tenant == *tenant
        })
    }

    /// Keeps a key that was read after a miss.
    pub(crate) fn keep_key(&self, miss: Miss, entry: &Arc<KeyEntry>) {
        self.keys.offer(miss, Arc::clone(entry));
    }

    /// A version in memory, or the right to offer what is read.
    pub(crate) fn cached_version(&self, key: KeyId, number: KeyVersion) -> Result<Arc<Version>, Miss> {
        self.versions.get(&(key.as_bytes(), number), |version| version.key == key && version.number == number)
    }

    /// Keeps a version that was read after a miss.
    pub(crate) fn keep_version(&self, miss: Miss, version: &Arc<Version>) {
        self.versions.offer(miss, Arc::clone(version));
    }

    /// Brings the caches up to what has been committed.
    pub(crate) fn refresh(&self, effects: &Effects) {
        let Effects { entries, versions } = effects;
        for entry in entries {
            let key = &entry.key;
            self.keys.commit(&(key.tenant.as_str(), key.name.as_str()), Arc::clone(entry));
        }
        for version in versions {
            self.versions.commit(&(version.key.as_bytes(), version.number), Arc::clone(version));
        }
    }

    pub(crate) fn position(&self) -> Committed {
        *self.position.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_position(&self, position: Committed) {
        *self.position.write().unwrap_or_else(PoisonError::into_inner) = position;
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// The database file, made if that is wanted.
pub(crate) fn find(lock: &DirectoryLock, opening: Opening) -> Result<DatabaseFile, Fault> {
    let failed = |error: std::io::Error| Fault::Wrong {
        why: format!("{}: {error}", DatabaseFile::path_in(lock.directory()).display()),
        remedy: "check that the data directory is readable and writable for the gateway's user",
    };
    match DatabaseFile::existing(lock.directory()) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match opening {
            Opening::Existing => Err(nothing_there()),
            Opening::CreateIfAbsent => DatabaseFile::create(lock.directory())
                .and_then(|()| DatabaseFile::existing(lock.directory()))
                .map_err(failed),
        },
        Err(error) => Err(failed(error)),
    }
}

fn nothing_there() -> Fault {
    Fault::Wrong {
        why: "there is no state in the data directory".to_owned(),
        remedy: "found it with `holdfast init`, or check `--data`; if there was one, restore it from a backup",
    }
}

/// Makes the database durable and of the newest version, and reads where it stands.
pub(crate) fn prepare(connection: &mut Connection, seal: &Seal, opening: Opening) -> Result<Standing, Fault> {
    let found = schema::look(connection)?;
    let from = match (found, opening) {
        (Found::Nothing, Opening::Existing) => return Err(nothing_there()),
        (Found::Nothing, Opening::CreateIfAbsent) => 0,
        (Found::State(version), Opening::Existing | Opening::CreateIfAbsent) => version,
    };
    make_durable(connection)?;
    if from < schema::newest() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::migrate(&transaction, from)?;
        if from == 0 {
            Ledger::default().store(&transaction, seal, RECORDS)?;
            Ledger::default().store(&transaction, seal, BUDGETS)?;
        }
        transaction.commit()?;
    }
    writer::load(connection, seal)
}
