//! How a log stands to a checkpoint of it that was kept elsewhere. Asked before anything is appended, so that a directory
//! that was put back is found before it signs a second history.

use super::Log;
use crate::checkpoint::Checkpoint;
use crate::files::{LogFiles, RESTORE, TileNodes};
use crate::log_id::LogId;
use crate::merkle::{consistency_proof, empty_root, verify_consistency};
use crate::note::Note;
use crate::refusal::{APART, Refusal};
use crate::tree::Edge;
use std::sync::{Arc, PoisonError};

/// How a log stands to an earlier checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// Its entries begin with those that the checkpoint covers.
    Continues,
    /// It has so many entries, fewer than the checkpoint covers: it was cut back.
    Shorter(u64),
    /// It has as many, but not the same: it was rewritten.
    Differs,
    /// It has them, and they are not published yet: ask again.
    Unsettled,
}

impl Log {
    /// How a log stands to a checkpoint, whose signature was checked. What was found in the write-ahead file counts, so a
    /// log after a crash is not taken for a shorter one. Works before the log is registered too. Reads the disk.
    ///
    /// # Errors
    /// A [`Refusal`] if the log's files can't be read, or are damaged.
    pub fn continuity(&self, id: &LogId, known: &Checkpoint) -> Result<Continuity, Refusal> {
        let files = self.files(id);
        let (size, root) = published(&files)?;
        if known.size <= size {
            let proof = consistency_proof(&mut TileNodes::new(&files, size), known.size, size)?;
            let continues = verify_consistency(known.size, &known.root, size, &root, &proof);
            return Ok(if continues { Continuity::Continues } else { Continuity::Differs });
        }
        if self.shared.sequencer().logs.get(id).is_some_and(|next| known.size <= *next) {
            return Ok(Continuity::Unsettled);
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = found.get(id).filter(|found| known.size <= found.next()) else {
            drop(found);
            return Ok(Continuity::Shorter(self.reach(id)?));
        };
        // Not in tiles yet: the tree that the tiler will make of it.
        let mut edge = Edge::load(&files, size)?;
        let at = |index: u64| index.checked_sub(found.first).and_then(|at| usize::try_from(at).ok());
        let leaves = at(size).zip(at(known.size)).and_then(|(from, to)| found.leaves.get(from..to));
        let Some(leaves) = leaves else { return Ok(Continuity::Shorter(size)) };
        for leaf in leaves {
            edge.push(*leaf, |_, _| Ok::<_, Refusal>(()))?;
        }
        Ok(if edge.root() == known.root { Continuity::Continues } else { Continuity::Differs })
    }

    /// Refuses a log of which nothing is left: neither a checkpoint, be it over nothing, nor entries in the write-ahead file. To register it would
    /// begin it anew, under the same key. Works before that. Reads the disk.
    ///
    /// # Errors
    /// That [`Refusal`], and one if its checkpoint can't be read.
    pub fn must_be_begun(&self, id: &LogId) -> Result<(), Refusal> {
        let is_found = self.found.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id);
        let files = self.files(id);
        if is_found || files.read_if_there(&files.checkpoint_path())?.is_some() {
            return Ok(());
        }
        let problem = "there is nothing of this log any more, neither a checkpoint nor an entry";
        Err(Refusal::new(&files.dir, problem, APART))
    }

    /// The index that a log's next entry gets, registered or not.
    ///
    /// # Errors
    /// A [`Refusal`] if its checkpoint can't be read.
    pub fn reach(&self, id: &LogId) -> Result<u64, Refusal> {
        if let Some(next) = self.shared.sequencer().logs.get(id) {
            return Ok(*next);
        }
        let found =
            self.found.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(|found| found.next());
        let (size, _) = published(&self.files(id))?;
        Ok(found.unwrap_or(0).max(size))
    }

    /// Whether a registered log has no entry, waiting ones included.
    pub fn is_empty(&self, id: &LogId) -> bool {
        self.shared.sequencer().logs.get(id).is_some_and(|next| *next == 0)
    }

    fn files(&self, id: &LogId) -> LogFiles {
        LogFiles::new(Arc::clone(&self.shared.segments.disk), &self.directory(id))
    }
}

/// Size and root of the checkpoint as it lies; a log without one has no entries.
fn published(files: &LogFiles) -> Result<(u64, crate::merkle::Hash), Refusal> {
    let path = files.checkpoint_path();
    let Some(bytes) = files.read_if_there(&path)? else { return Ok((0, empty_root())) };
    let refuse = |problem: String| Refusal::new(&path, problem, RESTORE);
    let note = Note::parse(&bytes).map_err(|error| refuse(error.to_string()))?;
    let Checkpoint { size, root, .. } =
        Checkpoint::from_text(note.text()).map_err(|error| refuse(error.to_string()))?;
    Ok((size, root))
}
