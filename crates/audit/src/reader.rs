//! Reading a log's directory: entries in order, what is new, proofs. Nothing is believed but what the files say;
//! whether they are true is the verifier's to find out.

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, RealDisk};
use crate::files::{LogFiles, RESTORE, TileNodes};
use crate::merkle::{Hash, Nodes as _, consistency_proof, inclusion_proof, leaf_hash, verify_inclusion};
use crate::note::Note;
use crate::proof::TlogProof;
use crate::pruned::{self, Pruned};
use crate::refusal::Refusal;
use crate::tile::{Kind, Tile, WIDTH};
use std::path::Path;
use std::sync::Arc;

/// A log's directory at one of its checkpoints.
pub struct LogReader {
    files: LogFiles,
    /// The note as it lies.
    note: String,
    checkpoint: Checkpoint,
}

impl LogReader {
    /// Opens a directory on the machine's disk.
    ///
    /// # Errors
    /// A [`Refusal`] if there is no readable checkpoint.
    pub fn open(dir: &Path) -> Result<Self, Refusal> {
        Self::open_on(Arc::new(RealDisk), dir)
    }

    /// Opens a directory on any [`Disk`].
    ///
    /// # Errors
    /// A [`Refusal`] if there is no readable checkpoint.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Refusal> {
        let files = LogFiles::new(disk, dir);
        let (note, checkpoint) = read_checkpoint(&files)?;
        Ok(Self { files, note, checkpoint })
    }

    /// The checkpoint that everything is read by. Its signature was not checked.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint's note as it lies.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Reads the checkpoint again; gives whether the log has grown. For those who follow it.
    ///
    /// # Errors
    /// A [`Refusal`] if there is no readable checkpoint, or it covers less than before.
    pub fn refresh(&mut self) -> Result<bool, Refusal> {
        let (note, checkpoint) = read_checkpoint(&self.files)?;
        let before = self.checkpoint.size;
        if checkpoint.size < before {
            let problem = format!("it covers {} entries, fewer than the {before} before", checkpoint.size);
            return Err(Refusal::new(
                &self.files.checkpoint_path(),
                problem,
                "the log was rolled back: keep both",
            ));
        }
        (self.note, self.checkpoint) = (note, checkpoint);
        Ok(self.checkpoint.size > before)
    }

    /// What the log says of entries that it no longer keeps; nobody's signature was checked. A copy may still hold some of them.
    ///
    /// # Errors
    /// A [`Refusal`] if that can't be read.
    pub fn pruned(&self) -> Result<Option<Pruned>, Refusal> {
        pruned::read(&self.files)
    }

    /// An entry's leaf hash, also of one that was pruned, with the check that it leads to the checkpoint's root.
    ///
    /// # Errors
    /// A [`Refusal`] if it is not under the checkpoint or the files don't prove it.
    pub fn leaf(&self, index: u64) -> Result<Hash, Refusal> {
        let Checkpoint { size, root, .. } = &self.checkpoint;
        if index >= *size {
            return Err(self.outside(index));
        }
        let mut nodes = TileNodes::new(&self.files, *size);
        let leaf = nodes.node(0, index)?;
        let hashes = inclusion_proof(&mut nodes, index, *size)?;
        if !verify_inclusion(&leaf, index, *size, root, &hashes) {
            let problem = format!("the leaf hash of entry {index} does not lead to the checkpoint's root");
            return Err(Refusal::new(&self.files.dir, problem, RESTORE));
        }
        Ok(leaf)
    }

    /// The entries from an index up to the checkpoint's size, with their indexes. Those that were pruned are left out.
    #[must_use]
    pub fn entries(&self, from: u64) -> Entries<'_> {
        Entries { reader: self, next: from, bundle: Vec::new().into_iter() }
    }

    /// One entry's bytes.
    ///
    /// # Errors
    /// A [`Refusal`] if it is not under the checkpoint or can't be read.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, Refusal> {
        match self.entries(index).next().unwrap_or_else(|| Err(self.outside(index)))? {
            (found, entry) if found == index => Ok(entry),
            (first, _) => {
                let problem = format!("entry {index} was pruned, those from {first} on are kept");
                let remedy = "read it from a mirror that was made before; its leaf hash can still be proven";
                Err(Refusal::new(&self.files.pruned_path(), problem, remedy))
            }
        }
    }

    /// The proof that an entry stands in the log, as text that can be checked anywhere. `extra` is carried along
    /// unproven: the entry's opening, if its values are to be disclosed.
    ///
    /// # Errors
    /// A [`Refusal`] if the entry is not under the checkpoint or the files don't prove it.
    pub fn prove(&self, index: u64, extra: Option<&[u8]>) -> Result<TlogProof, Refusal> {
        let Checkpoint { size, root, .. } = &self.checkpoint;
        if index >= *size {
            return Err(self.outside(index));
        }
        let hashes = inclusion_proof(&mut TileNodes::new(&self.files, *size), index, *size)?;
        if !verify_inclusion(&leaf_hash(&self.entry(index)?), index, *size, root, &hashes) {
            let problem = format!("entry {index} does not lead to the checkpoint's root");
            return Err(Refusal::new(&self.files.dir, problem, RESTORE));
        }
        Ok(TlogProof { extra: extra.map(<[u8]>::to_vec), index, hashes, checkpoint: self.note.clone() })
    }

    /// The proof that the log at an earlier size is a prefix of the log at its checkpoint: what a witness asks for.
    ///
    /// # Errors
    /// A [`Refusal`] if the earlier size is beyond the checkpoint, or a tile can't be read.
    pub fn prove_consistency(&self, earlier: u64) -> Result<Vec<Hash>, Refusal> {
        let size = self.checkpoint.size;
        if earlier > size {
            return Err(self.outside(earlier));
        }
        consistency_proof(&mut TileNodes::new(&self.files, size), earlier, size)
    }

    fn outside(&self, index: u64) -> Refusal {
        let problem =
            format!("the log has {} entries under its checkpoint, none at {index}", self.checkpoint.size);
        Refusal::new(
            &self.files.checkpoint_path(),
            problem,
            "give a smaller index, or wait for the next checkpoint",
        )
    }
}

pub(crate) fn read_checkpoint(files: &LogFiles) -> Result<(String, Checkpoint), Refusal> {
    let path = files.checkpoint_path();
    let none =
        || Refusal::new(&path, "there is no checkpoint", "give the directory of a log that has entries");
    let bytes = files.read_if_there(&path)?.ok_or_else(none)?;
    let refuse = |problem: String| Refusal::new(&path, problem, RESTORE);
    let note = Note::parse(&bytes).map_err(|error| refuse(error.to_string()))?;
    let checkpoint = Checkpoint::from_text(note.text()).map_err(|error| refuse(error.to_string()))?;
    Ok((note.to_string(), checkpoint))
}

/// A log's entries in order, a bundle in memory at a time.
pub struct Entries<'a> {
    reader: &'a LogReader,
    next: u64,
    bundle: std::vec::IntoIter<Vec<u8>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, Vec<u8>), Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let (size, files) = (self.reader.checkpoint.size, &self.reader.files);
        while self.bundle.len() == 0 {
            let tile = Tile::holding(Kind::Entries, self.next, size)?;
            match files.bundle(&tile) {
                Ok(entries) => self.bundle = entries.into_iter(),
                Err(_) if files.is_pruned(&tile) => {
                    self.next = tile.number.saturating_add(1).saturating_mul(WIDTH);
                    continue;
                }
                Err(refusal) => {
                    self.next = size;
                    return Some(Err(refusal));
                }
            }
            let skip = usize::try_from(self.next % WIDTH).unwrap_or(0);
            self.bundle.by_ref().take(skip).for_each(drop);
        }
        let index = self.next;
        self.next = index + 1;
        Some(Ok((index, self.bundle.next()?)))
    }
}
