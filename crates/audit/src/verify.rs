//! The offline verifier: reads a log's directory and believes nothing in it but arithmetic and the keys it was given.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disk::{Disk, RealDisk};
use crate::files::{LogFiles, RESTORE};
use crate::key::VerifierKey;
use crate::merkle::{Hash, leaf_hash};
use crate::note::{NoteError, Signed};
use crate::policy::Policy;
use crate::proof::{ProofError, TlogProof};
use crate::pruned::{self, Pruned};
use crate::reader::read_checkpoint;
use crate::refusal::Refusal;
use crate::tile::{Entries, Kind, Tile, WIDTH, decode_hashes, push_entry};
use crate::tree::Edge;
use crate::witness::Cosigned;
use std::path::Path;
use std::sync::Arc;

/// Where a key or a checkpoint came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Given by whoever verifies: what the log says can be held against it.
    Outside,
    /// Found beside the log: whoever can replace the log can replace this too. Say so, loudly.
    BesideTheLog,
}

/// What to verify by.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// The log's key; without it the one in `log.vkey` is used.
    pub key: Option<VerifierKey>,
    /// A checkpoint of the same log seen earlier, as the signed note; the log must continue it.
    pub earlier: Option<Vec<u8>>,
    /// Whose logs are believed, and which witnesses MUST have cosigned the log: its newest cosigned checkpoint,
    /// `checkpoint.cosigned`.
    pub policy: Policy,
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint that all entries lead to.
    pub checkpoint: Checkpoint,
    /// Where the key that it is signed with came from.
    pub key: Trust,
    /// The size of the earlier checkpoint that the log continues; with none, a rollback or a rewritten log goes
    /// unnoticed.
    pub continues: Option<u64>,
    /// What the given witnesses vouch for; with none given, nothing.
    pub witnessed: Option<Witnessed>,
    /// Bytes of entries.
    pub bytes: u64,
    /// Hash tiles and bundles that were compared as they lie.
    pub files: u64,
    /// What the log no longer keeps, under a retention that it has recorded, if that is anything.
    pub pruned: Option<Pruned>,
    /// How many entries are not there for that reason; their leaf hashes are, and lead to the root.
    pub absent: u64,
}

/// What witnesses vouch for: the tree at a size, which the whole log continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The entries that they cosigned.
    pub size: u64,
    /// Each of them with the time it states.
    pub by: Vec<Signed>,
    /// The witnesses that the policy knows and that did not cosign; it does without them.
    pub missing: Vec<String>,
}

/// The log is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A file is missing or damaged, or not what its entries make.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The checkpoint beside the log is not rightly signed.
    #[error("the log's checkpoint was refused: {0}")]
    Checkpoint(#[source] CheckpointError),
    /// The earlier checkpoint is not rightly signed.
    #[error("the earlier checkpoint was refused: {0}")]
    Earlier(#[source] CheckpointError),
    /// A given witness's line does not fit.
    #[error("a witness's cosignature was refused: {0}")]
    Witness(#[source] NoteError),
    /// The cosigned checkpoint is not rightly signed by the log.
    #[error("the cosigned checkpoint was refused: {0}")]
    Cosigned(#[source] CheckpointError),
    /// The witnesses that cosigned the log's newest cosigned checkpoint are no quorum.
    #[error(
        "too few witnesses have cosigned this log: {} did, {} did not; ask who runs the gateway for `holdfast status`",
        listed(cosigned),
        listed(missing)
    )]
    NotCosigned {
        /// The names of those that did.
        cosigned: Vec<String>,
        /// And of those that did not.
        missing: Vec<String>,
    },
    /// The policy names logs, and this one is none of them.
    #[error("the policy has no log `{0}` with this key; if you trust it, add its key in a line `log VKEY`")]
    UnknownLog(String),
    /// Witnesses cosigned more entries than the log has.
    #[error(
        "the log has {size} entries, yet witnesses cosigned {cosigned}; it was rolled back: keep both as evidence"
    )]
    CutBack {
        /// Entries now.
        size: u64,
        /// Entries that were cosigned.
        cosigned: u64,
    },
    /// The log's first entries are not those that witnesses cosigned.
    #[error(
        "the first {cosigned} entries are not those that witnesses cosigned; keep the directory as evidence"
    )]
    NotWhatWasCosigned {
        /// Entries that were cosigned.
        cosigned: u64,
    },
    /// The log has fewer entries than it had.
    #[error(
        "the log has {size} entries, yet it had {earlier}; it was rolled back: keep both checkpoints as evidence"
    )]
    RolledBack {
        /// Entries now.
        size: u64,
        /// Entries at the earlier checkpoint.
        earlier: u64,
    },
    /// The log's first entries are not those of the earlier checkpoint.
    #[error("the first {earlier} entries are not those that were signed; keep both checkpoints as evidence")]
    Rewritten {
        /// Entries at the earlier checkpoint.
        earlier: u64,
    },
}

/// Names for people.
fn listed(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Verifies a log's directory on the machine's disk: every entry leads to its leaf, every leaf to its tile, every
/// tile to the root, and the root is signed. `progress` is told how many of how many entries are done.
///
/// # Errors
/// The first [`VerifyError`] found.
pub fn verify(dir: &Path, trusted: &Trusted, progress: impl FnMut(u64, u64)) -> Result<Report, VerifyError> {
    verify_on(Arc::new(RealDisk), dir, trusted, progress)
}

/// Verifies a log's directory on any [`Disk`].
///
/// # Errors
/// The first [`VerifyError`] found.
pub fn verify_on(
    disk: Arc<dyn Disk>,
    dir: &Path,
    trusted: &Trusted,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let files = LogFiles::new(disk, dir);
    let path = files.checkpoint_path();
    let (key, trust) = key_for(&files, trusted)?;
    // Before the checkpoint: of a log that grows meanwhile it then covers no more.
    let cosigned = Cosigned::read(&files, &key, &trusted.policy)?;
    // Before the checkpoint, which then covers the record of it.
    let pruned = pruned::read_signed(&files, &key)?;
    let none =
        || Refusal::new(&path, "there is no checkpoint", "give the directory of a log that has entries");
    let bytes = files.read_if_there(&path)?.ok_or_else(none)?;
    let (checkpoint, _) = Checkpoint::open(&bytes, &key).map_err(VerifyError::Checkpoint)?;
    if let Some(Cosigned { checkpoint: Checkpoint { size: cosigned, .. }, .. }) = cosigned
        && cosigned > checkpoint.size
    {
        return Err(VerifyError::CutBack { size: checkpoint.size, cosigned });
    }
    let earlier = trusted.earlier.as_deref().map(|bytes| Checkpoint::open(bytes, &key)).transpose();
    let earlier = earlier.map_err(VerifyError::Earlier)?.map(|(earlier, _)| earlier);
    if let Some(Checkpoint { size: earlier, .. }) = earlier
        && earlier > checkpoint.size
    {
        return Err(VerifyError::RolledBack { size: checkpoint.size, earlier });
    }
    let mut walk = Walk {
        files: &files,
        edge: Edge::default(),
        bytes: 0,
        compared: 0,
        earlier,
        cosigned,
        pruned,
        absent: 0,
        is_recorded: false,
    };
    walk.entries(checkpoint.size, &mut progress)?;
    walk.partial_tiles()?;
    if walk.edge.root() != checkpoint.root {
        let problem = "the entries do not lead to the root that it signs";
        return Err(Refusal::new(&path, problem, "keep the directory as evidence").into());
    }
    if let Some(pruned) = walk.pruned.as_ref().filter(|_| !walk.is_recorded) {
        return Err(pruned::unrecorded(&files, pruned).into());
    }
    let Walk { bytes, compared: files, earlier, cosigned, pruned, absent, .. } = walk;
    let continues = earlier.map(|earlier| earlier.size);
    let witnessed =
        cosigned.map(|Cosigned { checkpoint, by, missing }| Witnessed { size: checkpoint.size, by, missing });
    Ok(Report { checkpoint, key: trust, continues, witnessed, bytes, files, pruned, absent })
}

/// Verifies one entry by its `.tlog-proof`, without the log.
///
/// # Errors
/// Any [`ProofError`].
pub fn verify_proof(proof: &[u8], entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofError> {
    TlogProof::parse(proof)?.verify(entry, key)
}

/// The key that the log must be signed with: the one that was given, the policy's for a log of this name, or else the one beside the log.
/// Where the policy names logs it is one of theirs.
fn key_for(files: &LogFiles, trusted: &Trusted) -> Result<(VerifierKey, Trust), VerifyError> {
    let unknown = |name: &str| VerifyError::UnknownLog(name.to_owned());
    match (&trusted.key, trusted.policy.logs()) {
        (None, []) => Ok((key_beside(files)?, Trust::BesideTheLog)),
        (Some(key), logs) if logs.is_empty() || logs.contains(key) => Ok((key.clone(), Trust::Outside)),
        (Some(key), _) => Err(unknown(key.name())),
        (None, logs) => {
            // It says which log it wants to be; whether it is that one its signature says.
            let (note, checkpoint) = read_checkpoint(files)?;
            let named = logs.iter().filter(|key| key.name() == checkpoint.origin);
            let signed = named.clone().find(|key| Checkpoint::open(note.as_bytes(), key).is_ok());
            let key = signed.or(named.clone().next()).ok_or_else(|| unknown(&checkpoint.origin))?;
            Ok((key.clone(), Trust::Outside))
        }
    }
}

pub(crate) fn key_beside(files: &LogFiles) -> Result<VerifierKey, Refusal> {
    let path = files.vkey_path();
    let none = || Refusal::new(&path, "there is no key beside the log", "give the log's key from outside");
    let bytes = files.read_if_there(&path)?.ok_or_else(none)?;
    let line = String::from_utf8_lossy(&bytes);
    let refuse = |error: crate::key::KeyError| {
        Refusal::new(&path, error.to_string(), "give the log's key from outside")
    };
    line.strip_suffix('\n').unwrap_or(&line).parse().map_err(refuse)
}

struct Walk<'a> {
    files: &'a LogFiles,
    edge: Edge,
    bytes: u64,
    compared: u64,
    earlier: Option<Checkpoint>,
    cosigned: Option<Cosigned>,
    pruned: Option<Pruned>,
    /// Entries that are not there.
    absent: u64,
    /// Whether an entry records what was pruned.
    is_recorded: bool,
}

impl Walk<'_> {
    /// Reads all bundles, comparing each full hash tile as its last leaf comes by.
    fn entries(&mut self, size: u64, progress: &mut impl FnMut(u64, u64)) -> Result<(), VerifyError> {
        self.check_earlier()?;
        for tile in Tile::row(Kind::Entries, size) {
            let first = self.pruned.as_ref().map_or(0, |pruned| pruned.first);
            if tile.number < first / WIDTH && !self.files.is_there(&tile)? {
                self.leaves_of(&tile)?;
                progress(self.edge.size(), size);
                continue;
            }
            let bytes = self.files.tile(&tile)?;
            let mut entries = Entries::new(&bytes);
            let mut own = Vec::new();
            for entry in entries.by_ref().take(usize::from(tile.width)) {
                let entry =
                    entry.map_err(|_| self.files.damaged(&tile, "it ends in the middle of an entry"))?;
                self.bytes += entry.len() as u64;
                let fits = push_entry(&mut own, entry);
                debug_assert!(fits, "it came from a bundle");
                if !self.is_recorded {
                    self.is_recorded =
                        self.pruned.as_ref().is_some_and(|pruned| pruned.is_recorded_by(entry));
                }
                self.leaf(leaf_hash(entry))?;
            }
            if self.edge.size() != tile.number * WIDTH + u64::from(tile.width) {
                return Err(self.files.damaged(&tile, "it holds too few entries").into());
            }
            if self.files.read_if_there(&self.files.path(&tile))?.is_some_and(|lies| lies != own) {
                return Err(self.files.damaged(&tile, "it holds more than its entries").into());
            }
            self.compared += 1;
            narrower(self.files, &tile, &own)?;
            progress(self.edge.size(), size);
        }
        Ok(())
    }

    /// Of a bundle that was pruned: its leaves are taken as they stand in the hash tile, and held to the root like all others.
    fn leaves_of(&mut self, bundle: &Tile) -> Result<(), VerifyError> {
        let tile = Tile { kind: Kind::Hashes(0), ..*bundle };
        let bytes = self.files.tile(&tile)?;
        let ragged = || self.files.damaged(&tile, "it is not a row of hashes");
        for leaf in decode_hashes(&bytes, tile.width).ok_or_else(ragged)? {
            self.leaf(leaf)?;
            self.absent += 1;
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: Hash) -> Result<(), VerifyError> {
        let Self { files, edge, compared, .. } = self;
        edge.push(leaf, |tile, bytes| {
            *compared += 1;
            compare(files, &tile, &bytes)
        })?;
        self.check_earlier()
    }

    fn check_earlier(&self) -> Result<(), VerifyError> {
        let differs = |known: &Checkpoint| known.size == self.edge.size() && known.root != self.edge.root();
        if let Some(earlier) = self.earlier.as_ref().filter(|earlier| differs(earlier)) {
            return Err(VerifyError::Rewritten { earlier: earlier.size });
        }
        match &self.cosigned {
            Some(Cosigned { checkpoint, .. }) if differs(checkpoint) => {
                Err(VerifyError::NotWhatWasCosigned { cosigned: checkpoint.size })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn partial_tiles(&mut self) -> Result<(), VerifyError> {
        for (tile, bytes) in self.edge.partial_tiles() {
            compare(self.files, &tile, &bytes)?;
            self.compared += 1;
        }
        Ok(())
    }
}

/// Narrower forms that earlier checkpoints left must be beginnings of what stands here.
pub(crate) fn narrower(files: &LogFiles, tile: &Tile, bytes: &[u8]) -> Result<(), Refusal> {
    for width in files.partial_widths(tile).into_iter().filter(|width| *width < tile.width) {
        let narrow = Tile { width, ..*tile };
        // It may be gone by now: a running gateway removes what its checkpoints no longer need.
        let lies = files.read_if_there(&files.path(&narrow))?;
        if lies.is_some_and(|lies| !bytes.starts_with(&lies)) {
            return Err(files.damaged(&narrow, "it is not the beginning of the wider tile"));
        }
    }
    Ok(())
}

/// A hash tile must lie there as computed; a log that has grown since may have a wider one.
pub(crate) fn compare(files: &LogFiles, tile: &Tile, bytes: &[u8]) -> Result<(), Refusal> {
    let lies = files.tile(tile)?;
    let exact = files.read_if_there(&files.path(tile))?.is_some();
    if lies == bytes || (!exact && lies.starts_with(bytes)) {
        return narrower(files, tile, bytes);
    }
    Err(Refusal::new(&files.path(tile), "its hashes are not those of the entries", RESTORE))
}
