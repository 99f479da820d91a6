//! The log of a gateway: append durably, grow a tree for each name, publish.

mod continuity;
mod join;
mod prune;
mod reread;
mod sequencer;
mod threads;

pub use continuity::Continuity;
pub use prune::Pruner;
pub use sequencer::{AppendError, Priority};

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, RealDisk, create_dirs_durably, replace};
use crate::files::{LogFiles, RESTORE};
use crate::key::Signer;
use crate::known::Known;
use crate::log_id::LogId;
use crate::merkle::{Hash, empty_root};
use crate::refusal::{APART, Refusal};
use crate::sink::Feed;
use crate::tile::Tile;
use crate::tree::board::Board;
use crate::tree::grow::Tree;
use crate::tree::tiler::{Cursor, Tiler};
use crate::tree::{Edge, Openings, bundle};
use crate::wal::{
    Batch, Entry, Found, FoundLog, Mark, NotDurable, OpenIntent, Segments, StateMark, Ticket, recover,
};
use sequencer::{Place, Sequencer};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the log lies and how it is bounded.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory, which MUST exist: `wal/`, `audit/` and `openings/` are made in it.
    pub data: PathBuf,
    /// Bytes of a write-ahead segment; rounded up to 4096.
    pub segment_len: u64,
    /// Bytes at the end of the last segment that only stop orders may use while no next one is ready.
    pub reserve: u64,
    /// Bytes that may wait for the disk before ordinary entries are refused.
    pub max_pending: usize,
    /// How long growth may gather before a checkpoint is published over it.
    pub publish_interval: Duration,
    /// How long to wait before trying again what the disk refused: a segment, a tile.
    pub retry_interval: Duration,
}

impl Config {
    /// The defaults: segments of 64 MiB, 1 MiB of reserve, 8 MiB pending, checkpoints every 500 ms while growing.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self {
            data: data.to_path_buf(),
            segment_len: 64 << 20,
            reserve: 1 << 20,
            max_pending: 8 << 20,
            publish_interval: Duration::from_millis(500),
            retry_interval: Duration::from_secs(1),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    segment_len: u64,
    reserve: u64,
    max_pending: usize,
}

impl Limits {
    fn new(config: &Config) -> Result<Self, Refusal> {
        let Config { data, segment_len, reserve, max_pending, .. } = config;
        let segment_len = crate::wal::aligned(*segment_len);
        let reserve = crate::wal::aligned(*reserve);
        // A pending batch, and the one entry that may go over its bound, fit a segment beside the reserve.
        let largest = crate::wal::aligned(*max_pending as u64 + (1 << 17));
        if reserve.saturating_add(largest) > segment_len {
            let problem =
                format!("{max_pending} pending bytes and {reserve} reserve do not fit {segment_len}");
            return Err(Refusal::new(data, problem, "configure larger segments or fewer pending bytes"));
        }
        Ok(Self { segment_len, reserve, max_pending: *max_pending })
    }
}

/// What opening the log found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Bytes of a torn tail that were cut off; nobody was told that they were durable.
    pub cut_bytes: u64,
    /// The last state commit on record.
    pub state: Option<StateMark>,
    /// Intents without an outcome, in their order.
    pub open_intents: Vec<OpenIntent>,
    /// Logs that have entries in the write-ahead file, with the indices of these: each MUST be registered, or no segment is ever reused.
    pub logs: BTreeMap<LogId, Range<u64>>,
    /// The number that the next batch gets.
    pub next_batch: u64,
}

impl Recovered {
    /// What was found of the write-ahead file.
    pub(crate) fn of(found: &Found) -> Self {
        Self {
            cut_bytes: found.cut_bytes,
            state: found.state,
            open_intents: found.open_intents.clone(),
            logs: found.logs.iter().map(|(log, found)| (log.clone(), found.indices())).collect(),
            next_batch: found.next_batch,
        }
    }
}

/// A log's tree as found when it was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Entries under the published checkpoint.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The index that the next entry gets.
    pub next_index: u64,
}

/// How the write-ahead file does.
#[derive(Clone, Debug, Default)]
pub enum WalHealth {
    /// As it should.
    #[default]
    Writing,
    /// No further segment could be made, for this reason; tried again by itself.
    Full(Arc<str>),
    /// A write or sync failed; nothing is taken until the log is opened again.
    Failed(NotDurable),
}

/// An intent that has waited for its outcome longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldestIntent {
    /// The operation's id.
    pub op: [u8; 16],
    /// The log that it stands in.
    pub log: LogId,
    /// How long ago it was read back: after a restart, since then.
    pub age: Duration,
    /// Segments that cannot be used again because of it.
    pub segments: u64,
}

/// How the log does.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The write-ahead file.
    pub wal: WalHealth,
    /// Why the trees do not grow, if they don't; tried again by itself. Entries are durable meanwhile.
    pub tree: Option<Arc<str>>,
    /// How many logs' trees do not grow.
    pub stalled_logs: usize,
    /// Bytes in the open batch.
    pub pending_bytes: usize,
    /// Batches that are durable.
    pub durable_batches: u64,
    /// Batches that stand under published checkpoints.
    pub published_batches: u64,
    /// Intents without an outcome among those; they hold their segments.
    pub open_intents: usize,
    /// The oldest of them.
    pub oldest_intent: Option<OldestIntent>,
    /// Segments in use, the spare one not counted.
    pub segments: u64,
    /// Why segments that nobody needs any more are not given back, if they are not; tried again by itself. Until then the write-ahead file
    /// grows, or is full.
    pub not_given_back: Option<Arc<str>>,
    /// Entries that were given an index, of all logs together, since they began.
    pub appended_entries: u64,
    /// Those of them that stand under published checkpoints.
    pub published_entries: u64,
}

/// The trees could not be brought up to date.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log's tree does not grow ({0}); see `holdfast status`")]
pub struct FlushError(Arc<str>);

/// The log of a gateway. Dropping it writes out what was appended and stops its threads.
pub struct Log {
    shared: Arc<Shared>,
    /// What the write-ahead file holds of logs not yet registered.
    found: Mutex<HashMap<LogId, FoundLog>>,
    /// No batch was ever written.
    fresh: bool,
    /// How many entries the logs had, as far as that was noted before this start.
    known: Known,
    config: Config,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
struct Shared {
    segments: Segments,
    sequencer: Mutex<Sequencer>,
    writer_wake: Condvar,
    keeper_wake: Condvar,
    board: Arc<Board>,
    retry_interval: Duration,
}

impl Shared {
    fn sequencer(&self) -> MutexGuard<'_, Sequencer> {
        // A panicking closure leaves no half entry behind, so the state is sound.
        self.sequencer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Opens or makes the log on the machine's disk.
    ///
    /// # Errors
    /// A [`Refusal`] if what lies there is not what was written.
    pub fn open(config: Config) -> Result<(Self, Recovered), Refusal> {
        Self::open_on(Arc::new(RealDisk), config)
    }

    /// Opens or makes the log on any [`Disk`].
    ///
    /// # Errors
    /// A [`Refusal`] if what lies there is not what was written.
    pub fn open_on(disk: Arc<dyn Disk>, config: Config) -> Result<(Self, Recovered), Refusal> {
        let limits = Limits::new(&config)?;
        let dir = config.data.join("wal");
        // A process that was ended may have made it and not synced it.
        let made = create_dirs_durably(&*disk, &config.data, &dir).and_then(|()| disk.sync_dir(&config.data));
        made.map_err(|error| Refusal::io(&dir, error))?;
        let segments = Segments { disk, dir, len: limits.segment_len };
        let known = Known::load(&*segments.disk, &config.data)?;
        let found = recover(&segments)?;
        let spare = keep_one_spare(&segments, &found.spares)?;
        let recovered = Recovered::of(&found);
        let Found { logs, state, next_batch, previous, first_segment, segment, offset, .. } = found;
        let sequencer = Sequencer {
            limits,
            batch: Batch::new(Vec::new(), state),
            buffer: None,
            next_batch,
            logs: HashMap::new(),
            appended: 0,
            place: Place { segment, offset },
            spare,
            free: VecDeque::new(),
            last_segment: spare.unwrap_or(segment),
            state,
            failure: None,
            full: None,
            closing: false,
            writer_waits: false,
        };
        let board = Arc::new(Board::new(next_batch, first_segment, logs.keys().cloned().collect()));
        let cursor = Cursor { segment: first_segment, offset: 0, batch: None };
        let tiler = Tiler::new(segments.clone(), Arc::clone(&board), cursor, known.clone(), &config);
        let shared = Arc::new(Shared {
            segments,
            sequencer: Mutex::new(sequencer),
            writer_wake: Condvar::new(),
            keeper_wake: Condvar::new(),
            board,
            retry_interval: config.retry_interval,
        });
        let (fresh, dir) = (next_batch == 0, shared.segments.dir.clone());
        let threads = threads::start(&shared, previous, tiler).map_err(|error| Refusal::io(&dir, error))?;
        let (found, threads) = (Mutex::new(logs), Mutex::new(threads));
        Ok((Self { shared, found, fresh, known, config, threads }, recovered))
    }

    /// Opens or makes the log of one name: checks its directory against its checkpoint and the write-ahead file,
    /// and lets entries in. The signer's name is the log's origin. Reads and writes the disk.
    ///
    /// # Errors
    /// A [`Refusal`] if the directory is another log's, damaged, or older or newer than the write-ahead file.
    pub fn register(&self, id: &LogId, signer: impl Into<Arc<Signer>>) -> Result<Registered, Refusal> {
        let signer = signer.into();
        let disk = &self.shared.segments.disk;
        let dir = self.config.data.join("audit").join(id.as_str());
        if self.shared.sequencer().logs.contains_key(id) {
            return Err(Refusal::new(&dir, "this log is open already", "register each log once"));
        }
        let openings = self.config.data.join("openings").join(id.as_str());
        for dir in [&dir, &openings] {
            create_dirs_durably(&**disk, &self.config.data, dir).map_err(|error| Refusal::io(dir, error))?;
        }
        let files = LogFiles::new(Arc::clone(disk), &dir);
        hold_key(&files, &signer)?;
        let (size, root) = published(&files, &signer)?;
        let edge = Edge::load(&files, size)?;
        if edge.root() != root {
            let problem = "its tiles do not lead to the root in its checkpoint";
            return Err(Refusal::new(&dir, problem, RESTORE));
        }
        // At the start, while somebody looks on, and not when the tree is to grow.
        bundle::load(&files, &edge)?;
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let next_index = self.join(&files, size, found)?;
        self.known.check(id, &files.dir, next_index)?;
        let openings = Openings::new(Arc::clone(disk), &openings);
        self.shared.board.adopt(Tree::new(&self.config.data, id.clone(), files, openings, signer, edge));
        self.shared.sequencer().admit(id, next_index);
        Ok(Registered { size, root, next_index })
    }

    /// Checks that the tree and the write-ahead file tell one story; gives the next index.
    fn join(&self, files: &LogFiles, size: u64, found: Option<FoundLog>) -> Result<u64, Refusal> {
        let checkpoint = files.checkpoint_path();
        let held = found.as_ref().map(FoundLog::indices);
        let next = join::next_index(&checkpoint, size, held, self.fresh)?;
        let Some(FoundLog { first, leaves }) = found else { return Ok(next) };
        for tile in crate::tile::Tile::row(crate::tile::Kind::Hashes(0), size) {
            let begin = tile.number * crate::tile::WIDTH;
            if begin + u64::from(tile.width) <= first {
                continue;
            }
            let bytes = files.tile(&tile)?;
            let hashes = crate::tile::decode_hashes(&bytes, tile.width).unwrap_or_default();
            for (index, hash) in (begin..).zip(hashes).filter(|(index, _)| *index >= first) {
                let leaf = usize::try_from(index - first).ok().and_then(|at| leaves.get(at));
                if leaf != Some(&hash) {
                    let problem = format!("its entry {index} is not that of the write-ahead file");
                    return Err(Refusal::new(&checkpoint, problem, APART));
                }
            }
        }
        Ok(next)
    }

    /// Appends one entry: `write` puts its bytes straight into the batch that goes to disk, under the log's lock, so
    /// it should only format. The entry is in the log for good once the ticket says so; if the ticket fails, it may
    /// or may not be.
    ///
    /// # Errors
    /// An [`AppendError`]; nothing was appended then, though `write` may have run.
    pub fn append<R>(
        &self,
        log: &LogId,
        priority: Priority,
        mark: Mark,
        write: impl FnOnce(&mut Entry<'_>) -> R,
    ) -> Result<(R, Ticket), AppendError> {
        let mut sequencer = self.shared.sequencer();
        let appended = sequencer.append(log, priority, mark, write)?;
        let wake = std::mem::take(&mut sequencer.writer_waits);
        drop(sequencer);
        if wake {
            self.shared.writer_wake.notify_one();
        }
        Ok(appended)
    }

    /// Blocks until everything appended to this log so far stands under a published checkpoint.
    ///
    /// # Errors
    /// [`FlushError`] if that can't happen now.
    pub fn flush_tree(&self, log: &LogId) -> Result<(), FlushError> {
        let target = self.shared.sequencer().logs.get(log).copied();
        match target {
            Some(target) => self.shared.board.wait_published(log, target).map_err(FlushError),
            None => Err(FlushError(Arc::from(format!("no log named `{log}` is open")))),
        }
    }

    /// The same for every log that is open.
    ///
    /// # Errors
    /// The first [`FlushError`], after all have been waited for.
    pub fn flush_trees(&self) -> Result<(), FlushError> {
        let targets: Vec<_> =
            self.shared.sequencer().logs.iter().map(|(log, size)| (log.clone(), *size)).collect();
        let flushed = targets
            .iter()
            .map(|(log, target)| self.shared.board.wait_published(log, *target).map_err(FlushError));
        flushed.fold(Ok(()), Result::and)
    }

    /// How the log does, now.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = self.shared.sequencer().health();
        self.shared.board.fill(&mut health);
        let newest = self.shared.sequencer().place.segment;
        health.segments = (newest + 1).saturating_sub(health.segments);
        health
    }

    /// The logs whose published checkpoint has grown since a round, with its size, and the round to ask from the next time: for who
    /// carries checkpoints elsewhere. Since round 0 it is all of them; a newly registered log is among them.
    #[must_use]
    pub fn grown_since(&self, round: u64) -> (u64, Vec<(LogId, u64)>) {
        self.shared.board.grown_since(round)
    }

    /// What reads a log's files, on whichever thread.
    pub(crate) fn published(&self, log: &LogId) -> Published {
        Published {
            files: LogFiles::new(Arc::clone(&self.shared.segments.disk), &self.directory(log)),
            board: Arc::clone(&self.shared.board),
            log: log.clone(),
            appended: self.shared.sequencer().logs.get(log).copied().unwrap_or(0),
        }
    }

    /// Reads a file of a log, as [`port::GatewayLog`](crate::port::GatewayLog) does for the network. Blocks.
    ///
    /// # Errors
    /// A [`Refusal`] if it can't be read.
    pub fn read(&self, log: &LogId, path: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.published(log).read(path)
    }

    /// What sinks read from. It outlives the log, but not the right to write into its data directory.
    #[must_use]
    pub fn feed(&self) -> Feed {
        let disk = Arc::clone(&self.shared.segments.disk);
        Feed::new(disk, &self.config.data, Arc::clone(&self.shared.board))
    }

    /// The openings of a log, to disclose or erase them.
    #[must_use]
    pub fn openings(&self, log: &LogId) -> Openings {
        let dir = self.config.data.join("openings").join(log.as_str());
        Openings::new(Arc::clone(&self.shared.segments.disk), &dir)
    }

    /// The directory of a log: what a tenant can be handed.
    #[must_use]
    pub fn directory(&self, log: &LogId) -> PathBuf {
        self.config.data.join("audit").join(log.as_str())
    }

    /// Takes no more entries, makes what was appended durable and publishes it, and stops the threads.
    ///
    /// # Errors
    /// [`FlushError`] if something stays unpublished; it is not lost if its ticket said that it is durable.
    pub fn close(self) -> Result<(), FlushError> {
        self.stop();
        let health = self.health();
        match (health.wal, health.tree) {
            (WalHealth::Failed(failure), _) => Err(FlushError(Arc::from(failure.to_string()))),
            (WalHealth::Writing | WalHealth::Full(_), Some(why)) => Err(FlushError(why)),
            (WalHealth::Writing | WalHealth::Full(_), None) => Ok(()),
        }
    }

    fn stop(&self) {
        self.shared.sequencer().closing = true;
        self.shared.writer_wake.notify_all();
        self.shared.keeper_wake.notify_all();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has nothing more to say; health does.
            drop(thread.join());
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A log's files, and how much of it is to stand under a checkpoint that is read here.
pub(crate) struct Published {
    files: LogFiles,
    board: Arc<Board>,
    log: LogId,
    appended: u64,
}

impl Published {
    /// How long a reader of the checkpoint waits for one over everything that was appended before.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Reads a file by its path below the log's directory; nothing if there is none. The checkpoint covers what was
    /// appended before it was asked for, unless the disk is slow or the tree does not grow. A partial tile can be read
    /// for as long as its tile exists, whatever the log has grown to. Blocks.
    ///
    /// # Errors
    /// A [`Refusal`] if it can't be read.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Refusal> {
        if path == "checkpoint" {
            self.board.wait_published_for(&self.log, self.appended, Self::PATIENCE);
        }
        self.files.read(path)
    }

    /// From where on entries are kept, if a file is not there because its entries were pruned.
    pub(crate) fn pruned(&self, path: &str) -> Option<u64> {
        Tile::from_path(path).and_then(|tile| self.files.kept_from(&tile))
    }
}

/// Of the unused segments the first is the spare; more are only left by a changed mind. Highest first, so that no
/// number is ever missing.
fn keep_one_spare(segments: &Segments, spares: &[u64]) -> Result<Option<u64>, Refusal> {
    for number in spares.iter().skip(1).rev() {
        let removed = segments.remove(*number).and_then(|()| segments.sync());
        removed.map_err(|error| Refusal::io(&segments.path(*number), error))?;
    }
    Ok(spares.first().copied())
}

/// Puts the verifier key beside a new log; refuses a log that was made with another one.
fn hold_key(files: &LogFiles, signer: &Signer) -> Result<(), Refusal> {
    let path = files.vkey_path();
    let line = format!("{}\n", signer.verifier());
    match files.read_if_there(&path)? {
        Some(there) if there == line.as_bytes() => Ok(()),
        Some(_) => {
            let problem = format!("it is not the key of `{}`", signer.verifier().name());
            Err(Refusal::new(&path, problem, RESTORE))
        }
        None => {
            let disk = &*files.disk;
            let written = replace(disk, &path, line.as_bytes()).and_then(|()| disk.sync_dir(&files.dir));
            written.map_err(|error| Refusal::io(&path, error))
        }
    }
}

/// Size and root of the published checkpoint, which MUST be ours. A new log gets one over nothing, so that it can be
/// read and verified from its first moment.
fn published(files: &LogFiles, signer: &Signer) -> Result<(u64, Hash), Refusal> {
    let path = files.checkpoint_path();
    let Some(bytes) = files.read_if_there(&path)? else { return first_checkpoint(files, signer) };
    match Checkpoint::open(&bytes, signer.verifier()) {
        Ok((checkpoint, _)) => Ok((checkpoint.size, checkpoint.root)),
        Err(error) => Err(Refusal::new(&path, error.to_string(), RESTORE)),
    }
}

fn first_checkpoint(files: &LogFiles, signer: &Signer) -> Result<(u64, Hash), Refusal> {
    let path = files.checkpoint_path();
    let tiles = files.disk.list(&files.dir.join("tile")).unwrap_or_default();
    if !tiles.is_empty() {
        return Err(Refusal::new(&path, "it is missing, yet the log has tiles", RESTORE));
    }
    let origin = signer.verifier().name().to_owned();
    let checkpoint = Checkpoint { origin, size: 0, root: empty_root(), extensions: Vec::new() };
    let note = checkpoint.sign(signer);
    let note =
        note.map_err(|error| Refusal::new(&path, error.to_string(), "name the log's origin otherwise"))?;
    let disk = &*files.disk;
    let written = replace(disk, &path, note.to_string().as_bytes()).and_then(|()| disk.sync_dir(&files.dir));
    written.map_err(|error| Refusal::io(&path, error))?;
    Ok((0, checkpoint.root))
}
