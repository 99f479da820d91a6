//! What sinks read: the published entries of every log, from its tiles.

use super::cursor::Reached;
use super::{Record, SinkName};
use crate::disk::Disk;
use crate::files::LogFiles;
use crate::log_id::LogId;
use crate::merkle::leaf_hash;
use crate::pruned;
use crate::reader::LogReader;
use crate::refusal::Refusal;
use crate::tile::{Kind, Tile, WIDTH, decode_hashes};
use crate::tree::board::Board;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The logs of a gateway as sinks read them: from disk, by their checkpoints. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    disk: Arc<dyn Disk>,
    data: PathBuf,
    board: Arc<Board>,
}

/// Some entries of a log, in order.
pub(super) struct Portion {
    pub(super) origin: Arc<str>,
    pub(super) records: Vec<Record>,
    /// Entries before these that are not in the log any more.
    pub(super) skipped: u64,
    /// The index of the entry after these.
    pub(super) next: u64,
    /// Whether the log has more.
    pub(super) has_more: bool,
}

impl Feed {
    pub(crate) fn new(disk: Arc<dyn Disk>, data: &Path, board: Arc<Board>) -> Self {
        Self { disk, data: data.to_path_buf(), board }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn cursor_path(&self, name: &SinkName) -> PathBuf {
        super::directory(&self.data, name).join("cursor")
    }

    /// The round, and the logs that have grown since the one given.
    pub(super) fn grown_since(&self, round: u64) -> (u64, Vec<LogId>) {
        let (round, grown) = self.board.grown_since(round);
        (round, grown.into_iter().map(|(log, _)| log).collect())
    }

    /// Entries under published checkpoints, of these logs or, if none is named, of all.
    pub(super) fn published_entries(&self, logs: &[LogId]) -> u64 {
        match logs {
            [] => self.board.published_entries(),
            logs => logs.iter().map(|log| self.board.published_size(log)).sum(),
        }
    }

    /// The next entries of a log after those that were reached: at most one bundle of them, and no more once their
    /// bytes exceed `budget`.
    ///
    /// # Errors
    /// A [`Refusal`] if the log cannot be read, is damaged, or has fewer entries than were reached.
    pub(super) fn read(
        &self,
        log: &LogId,
        reached: Option<&Reached>,
        budget: usize,
    ) -> Result<Portion, Refusal> {
        let dir = self.data.join("audit").join(log.as_str());
        let reader = LogReader::open_on(Arc::clone(&self.disk), &dir)?;
        let (size, origin) = (reader.checkpoint().size, &reader.checkpoint().origin);
        let reached = reached.filter(|reached| *reached.origin == **origin);
        let (from, origin) = match reached {
            Some(reached) => (reached.next, Arc::clone(&reached.origin)),
            None => (0, Arc::from(origin.as_str())),
        };
        if from > size {
            const BEYOND: &str = "the log was rolled back, or the cursor is another gateway's: find out which; to go on, \
                                  stop the gateway and remove the sink's cursor";
            let problem = format!("it covers {size} entries, yet a sink has had {from}");
            return Err(Refusal::new(&dir.join("checkpoint"), problem, BEYOND));
        }
        let files = LogFiles::new(Arc::clone(&self.disk), &dir);
        let first = self.first_kept(log, &files, from, size)?;
        let mut portion = Portion {
            origin,
            records: Vec::new(),
            skipped: first - from,
            next: first,
            has_more: first < size,
        };
        let (Some(bundle), Some(hashes)) =
            (Tile::holding(Kind::Entries, first, size), Tile::holding(Kind::Hashes(0), first, size))
        else {
            return Ok(portion);
        };
        let leaves = decode_hashes(&files.tile(&hashes)?, hashes.width);
        let leaves = leaves.ok_or_else(|| files.damaged(&hashes, "it is not a row of hashes"))?;
        let mut bytes = 0;
        let begin = bundle.number * WIDTH;
        for ((index, entry), leaf) in (begin..).zip(files.bundle(&bundle)?).zip(leaves) {
            if index < first {
                continue;
            }
            if bytes >= budget {
                break;
            }
            // What others changed on disk is no copy of the log.
            if leaf_hash(&entry) != leaf {
                return Err(files.damaged(&bundle, &format!("its entry {index} is not that of the tree")));
            }
            bytes += entry.len();
            portion.records.push(Record { origin: Arc::clone(&portion.origin), index, leaf, entry });
            portion.next = index + 1;
        }
        portion.has_more = portion.next < size;
        Ok(portion)
    }

    /// The first index from `from` on that is there. Only what the log has signed to be pruned may be missing before it.
    fn first_kept(&self, log: &LogId, files: &LogFiles, from: u64, size: u64) -> Result<u64, Refusal> {
        let Some(bundle) = Tile::holding(Kind::Entries, from, size) else {
            return Ok(from);
        };
        if files.is_there(&bundle)? {
            return Ok(from);
        }
        // Read after it was missed: a log signs before it prunes.
        let pruned = self.board.key(log).map(|key| pruned::read_signed(files, &key)).transpose()?.flatten();
        let kept = pruned.map_or(0, |pruned| pruned.first / WIDTH);
        if bundle.number >= kept {
            return Err(
                files.damaged(&bundle, "this tile is missing, and the log has signed no pruning of it")
            );
        }
        // Where a pruning is under way, or was interrupted, some of it is still there.
        let is_gone = |number: &u64| match Tile::holding(Kind::Entries, number * WIDTH, size) {
            Some(bundle) => !files.is_there(&bundle).unwrap_or(true),
            None => false,
        };
        let first = (bundle.number + 1..kept).find(|number| !is_gone(number)).unwrap_or(kept);
        Ok((first * WIDTH).min(size))
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("data", &self.data).finish_non_exhaustive()
    }
}
