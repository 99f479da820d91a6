//! One log's tree while it grows: tiles to disk as they fill, then the partial ones, then the checkpoint over them.

use super::bundle;
use super::edge::Edge;
use super::names::Names;
use super::openings::Openings;
use crate::checkpoint::Checkpoint;
use crate::disk::{stage, temporary};
use crate::files::{LogFiles, RESTORE};
use crate::key::Signer;
use crate::log_id::LogId;
use crate::merkle::{Hash, leaf_hash};
use crate::refusal::Refusal;
use crate::tile::{Kind, Tile, WIDTH, levels, push_entry};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A registered log's tree.
pub(crate) struct Tree {
    pub(crate) id: LogId,
    pub(crate) files: LogFiles,
    pub(crate) openings: Openings,
    pub(crate) signer: Arc<Signer>,
    /// What the last checkpoint says.
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// The size that the checkpoint before it said, whose partial tiles are kept for those who still read by it.
    pub(crate) before: u64,
    /// What the checkpoint says that readers see: more than the last, where its name was not durable at once.
    shown: u64,
    /// Kept between rounds while the log is busy.
    pub(crate) edge: Option<Edge>,
    growing: Option<Growing>,
    names: Names,
    /// Whether the checkpoint's name is durable; one that was found at the start may have been given just before the process ended.
    is_confirmed: bool,
    /// Whether entries were passed over because that checkpoint covers them: they stand where they stood until it is durable.
    has_passed: bool,
}

/// What a round has added so far.
struct Growing {
    edge: Edge,
    /// The unfinished bundle's bytes.
    bundle: Vec<u8>,
    openings: Vec<[u8; 32]>,
    staged: Staged,
}

impl Tree {
    /// `base` is the data directory, which is durable.
    pub(crate) fn new(
        base: &Path,
        id: LogId,
        files: LogFiles,
        openings: Openings,
        signer: Arc<Signer>,
        edge: Edge,
    ) -> Self {
        let (size, root) = (edge.size(), edge.root());
        let names = Names::new(base);
        let (edge, growing) = (Some(edge), None);
        let (is_confirmed, has_passed) = (false, false);
        Self {
            id,
            files,
            openings,
            signer,
            size,
            root,
            before: size,
            shown: size,
            edge,
            growing,
            names,
            is_confirmed,
            has_passed,
        }
    }

    /// Adds an entry that is durable in the write-ahead file. What the tree holds already is passed over.
    pub(crate) fn push(&mut self, index: u64, opening: &[u8; 32], entry: &[u8]) -> Result<(), Refusal> {
        if index < self.size {
            self.has_passed = true;
            return Ok(());
        }
        if self.growing.is_none() {
            self.growing = Some(self.begin()?);
        }
        let Some(Growing { edge, bundle, openings, staged }) = &mut self.growing else { return Ok(()) };
        if index != edge.size() {
            let problem = format!("entry {index} comes where {} should", edge.size());
            return Err(Refusal::new(&self.files.dir, problem, "report this: the log's order is broken"));
        }
        let fits = push_entry(bundle, entry);
        debug_assert!(fits, "the write-ahead file holds no longer ones");
        openings.push(*opening);
        edge.push(leaf_hash(entry), |tile, bytes| staged.tile(&self.files, &tile, &bytes))?;
        if edge.size() % WIDTH == 0 {
            let tile = Tile { kind: Kind::Entries, number: edge.size() / WIDTH - 1, width: 256 };
            staged.tile(&self.files, &tile, bundle)?;
            bundle.clear();
        }
        Ok(())
    }

    /// The edge and the unfinished bundle, checked against the last checkpoint's root: what others may have changed
    /// on disk since is never signed.
    fn begin(&mut self) -> Result<Growing, Refusal> {
        let edge = match self.edge.take() {
            Some(edge) => edge,
            None => Edge::load(&self.files, self.size)?,
        };
        if edge.size() != self.size || edge.root() != self.root {
            let problem = "its tiles no longer lead to the root that was signed";
            return Err(Refusal::new(&self.files.dir, problem, RESTORE));
        }
        let bundle = bundle::load(&self.files, &edge)?;
        Ok(Growing { edge, bundle, openings: Vec::new(), staged: Staged::default() })
    }

    /// Forgets what was added since the last checkpoint; the next round reads it again.
    pub(crate) fn abandon(&mut self) {
        self.growing = None;
        self.edge = None;
        self.names.abandon();
    }

    /// First step of publishing: everything that was added lies under temporary names, the checkpoint over it too.
    /// Names the files to sync. Gives whether there is anything.
    pub(crate) fn stage(&mut self, to_sync: &mut Vec<PathBuf>) -> Result<bool, Refusal> {
        let Some(Growing { edge, bundle, openings, staged }) = &mut self.growing else { return Ok(false) };
        for (tile, bytes) in edge.partial_tiles() {
            staged.tile(&self.files, &tile, &bytes)?;
        }
        if let Some(tile) = Tile::row_end(Kind::Entries, edge.size()) {
            staged.tile(&self.files, &tile, bundle)?;
        }
        let mut written = Vec::new();
        let wrote = self.openings.stage(self.size, openings, &mut written, &mut staged.renamed);
        wrote.map_err(|error| Refusal::io(&self.files.dir, error))?;
        written.iter().for_each(|path| self.names.need(path, &mut staged.renamed));
        to_sync.append(&mut written);

        let origin = self.signer.verifier().name().to_owned();
        let path = self.files.checkpoint_path();
        let checkpoint = Checkpoint { origin, size: edge.size(), root: edge.root(), extensions: Vec::new() };
        let note = checkpoint.sign(&self.signer);
        let note = note.map_err(|error| Refusal::new(&path, error.to_string(), "register the log again"))?;
        staged.file(&self.files, &path, note.to_string().as_bytes())?;

        to_sync.extend(staged.files.iter().chain([&path]).map(|path| temporary(path)));
        Ok(true)
    }

    /// Second step, once those files are durable: the tiles get their names. Names the directories to sync.
    pub(crate) fn place(&mut self, to_sync: &mut BTreeSet<PathBuf>) -> Result<(), Refusal> {
        let Some(Growing { staged, .. }) = &mut self.growing else { return Ok(()) };
        let disk = &*self.files.disk;
        for path in &staged.files {
            disk.rename(&temporary(path), path).map_err(|error| Refusal::io(path, error))?;
            let dir = path.parent().unwrap_or(path);
            self.names.need(dir, &mut staged.renamed);
            staged.renamed.insert(dir.to_path_buf());
        }
        to_sync.append(&mut staged.renamed);
        Ok(())
    }

    /// Third step, once the tiles' names are durable: the checkpoint over them gets its own, and is public. Names
    /// the directory to sync.
    pub(crate) fn publish(&mut self, to_sync: &mut BTreeSet<PathBuf>) -> Result<(), Refusal> {
        let path = self.files.checkpoint_path();
        self.files.disk.rename(&temporary(&path), &path).map_err(|error| Refusal::io(&path, error))?;
        self.shown = self.growing.as_ref().map_or(self.shown, |growing| growing.edge.size());
        to_sync.insert(self.files.dir.clone());
        Ok(())
    }

    /// Whether what was added ends before the checkpoint that readers see: one over this would be an older one to them.
    pub(crate) fn has_shown_more(&self) -> bool {
        self.growing.as_ref().is_some_and(|growing| growing.edge.size() < self.shown)
    }

    /// Whether entries are taken to stand in the tree by a checkpoint whose name may not be durable.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.has_passed && !self.is_confirmed
    }

    /// The checkpoint's name is durable.
    pub(crate) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Last step, once that name is durable too.
    pub(crate) fn settle(&mut self) {
        if let Some(Growing { edge, .. }) = self.growing.take() {
            let older = std::mem::replace(&mut self.before, self.size);
            (self.size, self.root, self.edge) = (edge.size(), edge.root(), Some(edge));
            self.names.settle();
            self.confirm();
            self.tidy(older);
        }
    }

    /// Removes the partial tiles of a size two checkpoints ago. They can be made again from the wider ones, so what
    /// fails here is left for the next time.
    fn tidy(&self, older: u64) {
        let kinds = (0..levels(older)).map(Kind::Hashes).chain([Kind::Entries]);
        for kind in kinds {
            let partial = |size| Tile::row_end(kind, size);
            let Some(stale) = partial(older) else { continue };
            let kept = [partial(self.before), partial(self.size)];
            let disk = &self.files.disk;
            if kept.iter().flatten().all(|tile| tile.number != stale.number) {
                let dir = self.files.dir.join(stale.partial_dir());
                for name in disk.list(&dir).unwrap_or_default() {
                    drop(disk.remove_file(&dir.join(name)));
                }
                drop(disk.remove_dir(&dir));
            } else if !kept.contains(&Some(stale)) {
                drop(disk.remove_file(&self.files.path(&stale)));
            }
        }
    }
}

/// Files under temporary names, and the directories to sync once they have their own.
#[derive(Default)]
struct Staged {
    files: Vec<PathBuf>,
    renamed: BTreeSet<PathBuf>,
}

impl Staged {
    fn tile(&mut self, files: &LogFiles, tile: &Tile, bytes: &[u8]) -> Result<(), Refusal> {
        let path = files.path(tile);
        self.file(files, &path, bytes)?;
        self.files.push(path);
        Ok(())
    }

    fn file(&mut self, files: &LogFiles, path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
        let staged = stage(&*files.disk, &files.dir, path, bytes, &mut self.renamed);
        staged.map_err(|error| Refusal::io(path, error))
    }
}
