//! The thread that reads durable batches back from the write-ahead file and grows the trees. It reads the file
//! rather than being handed buffers: memory stays bounded when the disk of the tiles is slow or full, and what it does
//! at start is what it does always.
//!
//! A log whose tree can't grow holds up its own entries and their segments, no other log's tree.

use super::board::{Board, Oldest, Progress, Turn, Work};
use super::grow::Tree;
use crate::disk::{Access, Disk, File, read_full};
use crate::known::Known;
use crate::log::Config;
use crate::log_id::LogId;
use crate::refusal::Refusal;
use crate::wal::{ALIGN, BatchHeader, HEADER_LEN, Mark, Records, Segments};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of batches that one round takes at most, or one piece of what a log is behind.
const ROUND: u64 = 16 << 20;
/// A start refuses what cannot be read back.
const READ_AGAIN: &str =
    "check the disk, and do not restart: it is read again by itself (`docs/operate/damage.md`)";
/// Logs whose edges stay in memory while they rest.
const KEPT_EDGES: usize = 256;

/// A place in the write-ahead file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// The number of the next batch; unknown before the first.
    pub(crate) batch: Option<u64>,
}

impl Cursor {
    pub(crate) fn is_before(&self, batch: u64) -> bool {
        self.batch.unwrap_or(0) < batch
    }
}

/// A log that fell behind, and from where.
struct Lag {
    from: Cursor,
    why: Arc<str>,
}

/// In which log an intent stands, in which segment, and since when that has been read.
struct Intent {
    log: LogId,
    segment: u64,
    since: Instant,
}

/// The tiler's own.
pub(crate) struct Tiler {
    reader: Reader,
    board: Arc<Board>,
    cursor: Cursor,
    trees: HashMap<LogId, Tree>,
    lags: HashMap<LogId, Lag>,
    /// Those of them that are catching up, piece by piece.
    catching_up: HashSet<LogId>,
    /// Intents that have no outcome yet.
    intents: HashMap<[u8; 16], Intent>,
    /// The oldest segment not given back.
    first_segment: u64,
    known: Known,
    /// Why segments that nobody needs are not given back.
    not_given_back: Option<Arc<str>>,
    broken: Option<Arc<str>>,
    retried: Instant,
    /// What failed was tried again since so many asked for it.
    answered: u64,
    publish_interval: Duration,
    retry_interval: Duration,
}

impl Tiler {
    pub(crate) fn new(
        segments: Segments,
        board: Arc<Board>,
        cursor: Cursor,
        known: Known,
        config: &Config,
    ) -> Self {
        Self {
            reader: Reader::new(segments),
            board,
            cursor,
            trees: HashMap::new(),
            lags: HashMap::new(),
            catching_up: HashSet::new(),
            intents: HashMap::new(),
            first_segment: cursor.segment,
            known,
            not_given_back: None,
            broken: None,
            retried: Instant::now(),
            answered: 0,
            publish_interval: config.publish_interval,
            retry_interval: config.retry_interval,
        }
    }

    /// Runs until the writer has stopped and all it wrote is published; `free` is told of segments that may be used
    /// again.
    pub(crate) fn run(mut self, free: impl Fn(u64)) {
        if self.board.wait_registered(self.retry_interval) {
            // Opened and not taken up: a start that was refused. The next one reads it all.
            self.board.tiler_stopped();
            return;
        }
        let mut gather = self.publish_interval;
        loop {
            let behind = !self.lags.is_empty();
            let is_owed = behind || self.not_given_back.is_some();
            let next = self.cursor.batch.unwrap_or(0);
            let catches_up = !self.catching_up.is_empty();
            let retry = if catches_up { Duration::ZERO } else { self.retry_interval };
            let Turn { work, adopted, asked, asks } = self.board.wait(next, gather, is_owed.then_some(retry));
            self.trees.extend(adopted.into_iter().map(|tree| (tree.id.clone(), tree)));
            let due = asked || matches!(work, Work::Stop) || self.retried.elapsed() >= self.retry_interval;
            if behind && due {
                self.catching_up =
                    self.lags.keys().filter(|id| self.trees.contains_key(*id)).cloned().collect();
                self.retried = Instant::now();
            }
            self.catch_up();
            while matches!(work, Work::Stop) && !self.catching_up.is_empty() {
                self.catch_up();
            }
            gather = Duration::ZERO;
            if self.catching_up.is_empty() {
                self.answered = asks;
                gather = self.publish_interval;
            }
            match work {
                Work::Read(durable) => match self.round(durable) {
                    Ok(()) => {
                        self.broken = None;
                        if self.cursor.is_before(durable) {
                            gather = Duration::ZERO;
                        }
                    }
                    Err(refusal) => {
                        let refusal = refusal.tried_again();
                        tracing::error!(%refusal, "the write-ahead file can't be read back");
                        self.broken = Some(Arc::from(refusal.to_string()));
                        self.trees.values_mut().for_each(Tree::abandon);
                        self.report();
                        if self.board.pause(self.retry_interval) {
                            break;
                        }
                    }
                },
                Work::Retry => {}
                Work::Stop => break,
            }
            self.give_back(&free);
        }
        self.report();
        self.board.tiler_stopped();
    }

    fn report(&self) {
        let progress = Progress {
            tiled: self.cursor.batch.unwrap_or(0),
            open_intents: self.intents.len(),
            oldest_intent: self.oldest_intent(),
            first_segment: self.first_segment,
            broken: self.broken.clone(),
            not_given_back: self.not_given_back.clone(),
            stalled: self.lags.iter().map(|(id, lag)| (id.clone(), Arc::clone(&lag.why))).collect(),
            answered: self.answered,
        };
        self.board.report(progress, self.trees.values());
    }

    fn oldest_intent(&self) -> Option<Oldest> {
        let (op, oldest) =
            self.intents.iter().min_by_key(|(op, intent)| (intent.segment, intent.since, **op))?;
        let segments = self.cursor.segment.saturating_sub(oldest.segment);
        Some(Oldest { op: *op, log: oldest.log.clone(), since: oldest.since, segments })
    }

    /// Reads batches, adds their entries to the trees and publishes them all.
    fn round(&mut self, durable: u64) -> Result<(), Refusal> {
        let start = self.cursor;
        let mut cursor = start;
        let mut taken = 0;
        let mut intents = Vec::new();
        while cursor.is_before(durable) && taken < ROUND {
            let header = self.reader.read(&mut cursor)?;
            taken += header.extent();
            for record in Records::new(&self.reader.buffer) {
                match record.mark {
                    Mark::Plain => {}
                    Mark::Intent(op) => {
                        intents.push((op, record.log.parse().ok().map(|log| (log, header.segment))));
                    }
                    Mark::Outcome { op, .. } => intents.push((op, None)),
                }
                if self.lags.contains_key(record.log) {
                    continue;
                }
                let pushed = match self.trees.get_mut(record.log) {
                    Some(tree) => tree.push(record.index, record.opening, record.entry),
                    None => Err(Refusal::new(
                        &self.reader.segments.path(header.segment),
                        format!("log `{}` has entries here and is not open", record.log),
                        "register every log that recovery named",
                    )),
                };
                if let (Err(refusal), Ok(id)) = (pushed, record.log.parse()) {
                    fall_behind(&mut self.lags, &mut self.trees, &id, start, refusal);
                }
            }
        }
        for (id, refusal) in self.publish() {
            fall_behind(&mut self.lags, &mut self.trees, &id, start, refusal);
        }
        self.cursor = cursor;
        for (op, begun) in intents {
            match begun {
                Some((log, segment)) => {
                    self.intents.insert(op, Intent { log, segment, since: Instant::now() })
                }
                None => self.intents.remove(&op),
            };
        }
        Ok(())
    }

    /// Publishes what was added to all trees in three steps, each durable before the next, so that many logs share
    /// their syncs: files under temporary names, tiles, checkpoints. Gives the logs where that failed.
    fn publish(&mut self) -> Vec<(LogId, Refusal)> {
        let many = self.trees.len() > KEPT_EDGES;
        let (mut failed, mut growing, mut doubtful) = (Vec::new(), Vec::new(), Vec::new());
        let (mut files, mut dirs) = (Vec::new(), BTreeSet::new());
        for tree in self.trees.values_mut() {
            match tree.stage(&mut files) {
                Ok(true) => growing.push(tree),
                Ok(false) => {
                    if many {
                        tree.edge = None;
                    }
                    if tree.is_in_doubt() {
                        doubtful.push(tree);
                    }
                }
                Err(refusal) => failed.push((tree.id.clone(), refusal)),
            }
        }
        let disk = &self.reader.segments.disk;
        if let Err(error) = disk.sync_files(&files) {
            let path = files.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
            let refusal = Refusal::io(path, error);
            let unpublished = growing.iter().chain(&doubtful);
            failed.extend(unpublished.map(|tree| (tree.id.clone(), refusal.clone())));
            return failed;
        }
        let placed = step(growing, &mut failed, |tree| tree.place(&mut dirs));
        let synced = sync_dirs(&**disk, &dirs);
        dirs.clear();
        let public = step(placed, &mut failed, |tree| synced.clone().and_then(|()| tree.publish(&mut dirs)));
        dirs.extend(doubtful.iter().map(|tree| tree.files.dir.clone()));
        let synced = sync_dirs(&**disk, &dirs);
        step(public, &mut failed, |tree| synced.clone().map(|()| tree.settle()));
        step(doubtful, &mut failed, |tree| synced.clone().map(|()| tree.confirm()));
        failed
    }

    /// Reads once more, for all logs that catch up, from the first place where one of them is: as much as a round takes, so that memory is
    /// bounded however far they are behind, and others have their turn before the next piece.
    fn catch_up(&mut self) {
        let late = std::mem::take(&mut self.catching_up);
        let places = self.lags.iter().filter(|(id, _)| late.contains(*id)).map(|(_, lag)| lag.from);
        let Some(start) = places.min_by_key(|from| from.batch.unwrap_or(0)) else { return };
        let end = self.cursor.batch.unwrap_or(0);
        let mut cursor = start;
        let mut taken = 0;
        let mut failed: HashMap<LogId, Refusal> = HashMap::new();
        while cursor.is_before(end) && taken < ROUND {
            match self.reader.read(&mut cursor) {
                Ok(header) => taken += header.extent(),
                Err(refusal) => {
                    failed.extend(late.iter().map(|id| (id.clone(), refusal.clone())));
                    break;
                }
            }
            for record in Records::new(&self.reader.buffer) {
                if failed.contains_key(record.log) || !late.contains(record.log) {
                    continue;
                }
                let Some(tree) = self.trees.get_mut(record.log) else { continue };
                if let Err(refusal) = tree.push(record.index, record.opening, record.entry) {
                    failed.insert(tree.id.clone(), refusal);
                }
            }
        }
        for id in failed.keys() {
            self.trees.get_mut(id).into_iter().for_each(Tree::abandon);
        }
        // What readers see never gets smaller. Such a log stays where it is, and the piece that begins there has room for all of it: it was
        // shown by a round, or a piece, that began no later.
        let mut short = HashSet::new();
        for tree in self.trees.values_mut().filter(|tree| tree.has_shown_more()) {
            tree.abandon();
            short.insert(tree.id.clone());
        }
        failed.extend(self.publish());
        for id in late {
            let Some(lag) = self.lags.get_mut(&id) else { continue };
            match failed.remove(&id) {
                // It waits for the next time; the others go on.
                Some(refusal) => {
                    self.trees.get_mut(&id).into_iter().for_each(Tree::abandon);
                    lag.why = Arc::from(refusal.tried_again().to_string());
                }
                None if short.contains(&id) => drop(self.catching_up.insert(id)),
                None if cursor.is_before(end) => {
                    if cursor.batch.is_some_and(|batch| lag.from.is_before(batch)) {
                        lag.from = cursor;
                    }
                    self.catching_up.insert(id);
                }
                None => drop(self.lags.remove(&id)),
            }
        }
    }

    /// Gives back the segments before all that is still needed: by the cursor, a log behind, an open intent.
    /// Before, it is noted how long the logs are then: nothing else would tell any more. What fails is owed, and tried again also where no
    /// batch comes: it may be just these segments that the next one waits for.
    fn give_back(&mut self, free: impl Fn(u64)) {
        let late = self.lags.values().map(|lag| lag.from.segment);
        let needed = self
            .intents
            .values()
            .map(|intent| intent.segment)
            .chain(late)
            .fold(self.cursor.segment, u64::min);
        if self.first_segment < needed {
            let sizes = self.trees.iter().map(|(id, tree)| (id, tree.size));
            if let Err(refusal) = self.known.raise(&*self.reader.segments.disk, sizes) {
                let refusal = refusal.tried_again();
                tracing::warn!(%refusal, "no audit segment is given back");
                self.not_given_back = Some(Arc::from(refusal.to_string()));
                self.report();
                return;
            }
        }
        self.not_given_back = None;
        let unneeded = self.first_segment..needed;
        self.first_segment = self.first_segment.max(needed);
        // Said before it is done: whoever reads the file meanwhile looks here when a segment is gone.
        self.report();
        unneeded.for_each(free);
    }
}

/// Does one thing to all trees; gives those where it went well.
fn step<'a>(
    trees: Vec<&'a mut Tree>,
    failed: &mut Vec<(LogId, Refusal)>,
    mut work: impl FnMut(&mut Tree) -> Result<(), Refusal>,
) -> Vec<&'a mut Tree> {
    let mut done = Vec::with_capacity(trees.len());
    for tree in trees {
        match work(tree) {
            Ok(()) => done.push(tree),
            Err(refusal) => failed.push((tree.id.clone(), refusal)),
        }
    }
    done
}

fn sync_dirs(disk: &dyn Disk, dirs: &BTreeSet<PathBuf>) -> Result<(), Refusal> {
    dirs.iter().try_for_each(|dir| disk.sync_dir(dir).map_err(|error| Refusal::io(dir, error)))
}

fn fall_behind(
    lags: &mut HashMap<LogId, Lag>,
    trees: &mut HashMap<LogId, Tree>,
    id: &LogId,
    from: Cursor,
    refusal: Refusal,
) {
    let refusal = refusal.tried_again();
    tracing::warn!(log = %id, %refusal, "an audit tree does not grow");
    trees.get_mut(id).into_iter().for_each(Tree::abandon);
    lags.entry(id.clone()).or_insert(Lag { from, why: Arc::from(refusal.to_string()) });
}

/// Reads batches back.
pub(crate) struct Reader {
    segments: Segments,
    file: Option<(u64, Box<dyn File>)>,
    /// The records of the batch read last.
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(segments: Segments) -> Self {
        Self { segments, file: None, buffer: Vec::new() }
    }

    /// Reads the next batch's records into the buffer, from this segment or the start of the next.
    pub(crate) fn read(&mut self, cursor: &mut Cursor) -> Result<BatchHeader, Refusal> {
        for (segment, offset) in [(cursor.segment, cursor.offset), (cursor.segment + 1, 0)] {
            let path = self.segments.path(segment);
            let header = self.read_at(segment, offset).map_err(|error| Refusal::io(&path, error))?;
            if let Some(header) =
                header.filter(|header| cursor.batch.is_none_or(|batch| batch == header.batch))
            {
                *cursor = Cursor { segment, offset: offset + header.extent(), batch: Some(header.batch + 1) };
                return Ok(header);
            }
        }
        let problem = "a durable batch can't be read back";
        let refusal = Refusal::new(&self.segments.path(cursor.segment), problem, READ_AGAIN);
        Err(refusal.at(cursor.offset))
    }

    fn read_at(&mut self, segment: u64, offset: u64) -> io::Result<Option<BatchHeader>> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != segment) {
            match self.segments.open(segment, Access::Read) {
                Ok(file) => self.file = Some((segment, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let Some((_, file)) = &self.file else { return Ok(None) };
        // Most batches are small: one read for head and body.
        self.buffer.resize(usize::try_from(ALIGN).unwrap_or(HEADER_LEN), 0);
        let have = read_full(&**file, &mut self.buffer, offset)?;
        self.buffer.truncate(have);
        let Ok((header, _)) = BatchHeader::decode(&self.buffer) else { return Ok(None) };
        if header.segment != segment {
            return Ok(None);
        }
        self.buffer.resize(HEADER_LEN + usize::try_from(header.body_len).unwrap_or(0), 0);
        if let Some(rest) = self.buffer.get_mut(have..) {
            read_full(&**file, rest, offset + have as u64)?;
        }
        self.buffer.drain(..HEADER_LEN);
        Ok((crc32c::crc32c(&self.buffer) == header.body_crc).then_some(header))
    }
}
