//! A disk in memory that forgets, for tests: what was not synced may be lost, torn or reordered by
//! [`SimDisk::after_power_loss`]; writes and syncs fail and space runs out on demand.
//!
//! Harsher than most real ones: any subset of the unsynced 512-byte sectors of a file survives, and of each
//! directory's unsynced changes any number of the first.

use super::{Access, Disk, File};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;

/// The forgetful disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone)]
enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// The sectors written since the last sync.
    dirty: BTreeSet<usize>,
}

type Names = BTreeMap<PathBuf, Node>;

struct State {
    now: Names,
    durable: Names,
    /// Each directory's changes since its last sync.
    changes: BTreeMap<PathBuf, Vec<Change>>,
    files: Vec<Inode>,
    capacity: u64,
    /// Writes and syncs so far.
    operations: u64,
    syncs: u64,
    dir_syncs: BTreeMap<PathBuf, u64>,
    power_off_at: Option<u64>,
    /// What is to fail, and below which path.
    faults: Vec<(Fault, PathBuf)>,
    /// How many did.
    failed: u64,
}

/// A call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Write,
    Sync,
    SyncDir,
    Removal,
}

fn apply(names: &mut Names, change: &Change) {
    match change {
        Change::Link(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Unlink(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_path_buf()
}

/// A small generator (splitmix64), so that a seed replays a crash.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl State {
    /// Counts an operation; all of them fail once the power is off.
    fn tick(&mut self) -> io::Result<()> {
        if self.power_off_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("the simulated power is off"));
        }
        self.operations += 1;
        Ok(())
    }

    /// Fails once where that was asked for.
    fn trip(&mut self, fault: Fault, path: &Path) -> io::Result<()> {
        let is_it = |(of, below): &(Fault, PathBuf)| *of == fault && path.starts_with(below);
        let Some(at) = self.faults.iter().position(is_it) else { return Ok(()) };
        self.faults.remove(at);
        self.failed += 1;
        let what = match fault {
            Fault::Write => "write",
            Fault::Sync | Fault::SyncDir => "sync",
            Fault::Removal => "removal",
        };
        Err(io::Error::other(format!("simulated {what} error")))
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.tick()?;
        let dir = match &change {
            Change::Link(path, _) | Change::Unlink(path) | Change::Rename(path, _) => parent(path),
        };
        apply(&mut self.now, &change);
        self.changes.entry(dir).or_default().push(change);
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<usize> {
        match self.now.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.now.get(&parent(path)) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(Change::Link(path.to_path_buf(), node))
    }

    fn write(&mut self, inode: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        let room =
            if self.capacity == u64::MAX { u64::MAX } else { self.capacity.saturating_sub(self.used()) };
        let file = self.files.get_mut(inode).ok_or(io::ErrorKind::NotFound)?;
        let growth = end.saturating_sub(file.now.len());
        if growth as u64 > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.now.resize(file.now.len().max(end), 0);
        if let Some(target) = file.now.get_mut(start..end) {
            target.copy_from_slice(bytes);
        }
        file.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        self.tick()
    }

    fn used(&self) -> u64 {
        let files = self.now.values().filter_map(|node| match node {
            Node::Dir => None,
            Node::File(inode) => self.files.get(*inode),
        });
        files.map(|file| file.now.len() as u64).sum()
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk with the root directory, without bound.
    #[must_use]
    pub fn new() -> Self {
        let root: Names = [(PathBuf::from("/"), Node::Dir)].into();
        Self::with(root, Vec::new(), u64::MAX)
    }

    fn with(names: Names, files: Vec<Inode>, capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: names.clone(),
            durable: names,
            changes: BTreeMap::new(),
            files,
            capacity,
            operations: 0,
            syncs: 0,
            dir_syncs: BTreeMap::new(),
            power_off_at: None,
            faults: Vec::new(),
            failed: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a machine finds after losing power now: everything synced, and of the rest what the seed leaves.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let state = self.lock();
        let mut names = state.durable.clone();
        for changes in state.changes.values() {
            let kept = usize::try_from(dice.roll() % (changes.len() as u64 + 1)).unwrap_or(0);
            changes.iter().take(kept).for_each(|change| apply(&mut names, change));
        }
        // A name whose directory was lost is lost with it; parents sort before children.
        let mut reachable = Names::new();
        for (path, node) in names {
            if path.parent().is_none_or(|parent| reachable.get(parent) == Some(&Node::Dir)) {
                reachable.insert(path, node);
            }
        }
        let files = state.files.iter().map(|file| survivor(file, &mut dice)).collect();
        Self::with(reachable, files, state.capacity)
    }

    /// What is found when the process has been killed and the machine has not lost power: everything that was written and named, synced
    /// or not.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = self.lock();
        let State { now, durable, changes, files, capacity, .. } = &*state;
        let (durable, changes) = (durable.clone(), changes.clone());
        let after = Self::with(now.clone(), files.clone(), *capacity);
        let mut state = after.lock();
        (state.durable, state.changes) = (durable, changes);
        drop(state);
        after
    }

    /// Lets this many more operations (writes, syncs, name changes) happen, then none.
    pub fn cut_power_after(&self, operations: u64) {
        let mut state = self.lock();
        state.power_off_at = Some(state.operations + operations);
    }

    /// Whether the power was cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        let state = self.lock();
        state.power_off_at.is_some_and(|at| state.operations >= at)
    }

    /// The number of operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The number of files' syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// How many syncs there were so far of directories there or below.
    #[must_use]
    pub fn dir_syncs_below(&self, dir: &Path) -> u64 {
        self.lock().dir_syncs.iter().filter(|(of, _)| of.starts_with(dir)).map(|(_, syncs)| syncs).sum()
    }

    /// Whether nothing that changed in a directory can be lost any more.
    #[must_use]
    pub fn is_durable(&self, dir: &Path) -> bool {
        self.lock().changes.get(dir).is_none_or(Vec::is_empty)
    }

    /// Bounds the disk: no file grows when this many bytes are in use.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Makes the next sync of a file below this path fail, once, and forgets what it should have kept.
    pub fn fail_next_sync(&self, below: &Path) {
        self.fail(Fault::Sync, below);
    }

    /// Makes the next sync of a directory at or below this path fail, once. What changed in it may be lost until a later one succeeds.
    pub fn fail_next_sync_dir(&self, below: &Path) {
        self.fail(Fault::SyncDir, below);
    }

    /// Makes the next removal of a file below this path fail, once.
    pub fn fail_next_removal(&self, below: &Path) {
        self.fail(Fault::Removal, below);
    }

    /// Makes the next write to a file below this path fail, once.
    pub fn fail_next_write(&self, below: &Path) {
        self.fail(Fault::Write, below);
    }

    fn fail(&self, fault: Fault, below: &Path) {
        self.lock().faults.push((fault, below.to_path_buf()));
    }

    /// How many calls have failed because that was asked for.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    /// Turns one bit of a file, durably, as a failing medium does.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) {
        let mut state = self.lock();
        if let Ok(inode) = state.file(path)
            && let Some(file) = state.files.get_mut(inode)
        {
            file.now.get_mut(byte).into_iter().for_each(|byte| *byte ^= 1 << bit);
            file.durable.get_mut(byte).into_iter().for_each(|byte| *byte ^= 1 << bit);
        }
    }

    /// All files with their contents as a reader sees them.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock();
        let files = state.now.iter().filter_map(|(path, node)| match node {
            Node::Dir => None,
            Node::File(inode) => state.files.get(*inode).map(|file| (path.clone(), file.now.clone())),
        });
        files.collect()
    }
}

/// A file after the loss: its durable bytes, with some of the dirty sectors.
fn survivor(file: &Inode, dice: &mut Dice) -> Inode {
    let mut bytes = file.durable.clone();
    for sector in &file.dirty {
        if dice.roll().is_multiple_of(2) {
            copy_sector(&file.now, &mut bytes, *sector);
        }
    }
    Inode { now: bytes.clone(), durable: bytes, dirty: BTreeSet::new() }
}

fn copy_sector(from: &[u8], to: &mut Vec<u8>, sector: usize) {
    let start = sector * SECTOR;
    let end = (start + SECTOR).min(from.len());
    to.resize(to.len().max(end), 0);
    if let (Some(from), Some(to)) = (from.get(start..end), to.get_mut(start..end)) {
        to.copy_from_slice(from);
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: usize,
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        let inode = match access {
            Access::Read | Access::Write => state.file(path)?,
            Access::Create => {
                let inode = state.files.len();
                state.files.push(Inode::default());
                state.create(path, Node::File(inode))?;
                inode
            }
        };
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_path_buf(), inode }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.create(path, Node::Dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.file(from)?;
        state.change(Change::Rename(from.to_path_buf(), to.to_path_buf()))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.file(path)?;
        state.trip(Fault::Removal, path)?;
        state.change(Change::Unlink(path.to_path_buf()))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.now.keys().any(|name| name.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(Change::Unlink(path.to_path_buf()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.tick()?;
        state.trip(Fault::SyncDir, path)?;
        *state.dir_syncs.entry(path.to_path_buf()).or_default() += 1;
        for change in state.changes.remove(path).unwrap_or_default() {
            apply(&mut state.durable, &change);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if state.now.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = state.now.keys().filter(|name| name.parent() == Some(path));
        Ok(children.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = state.files.get(self.inode).and_then(|file| file.now.get(start..)).unwrap_or_default();
        let len = bytes.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.trip(Fault::Write, &self.path)?;
        state.write(self.inode, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.tick()?;
        state.syncs += 1;
        let tripped = state.trip(Fault::Sync, &self.path);
        let Some(file) = state.files.get_mut(self.inode) else { return tripped };
        if tripped.is_err() {
            // As Linux does: the pages count as clean, and their bytes never arrive.
            file.dirty.clear();
            return tripped;
        }
        let Inode { now, durable, dirty } = file;
        std::mem::take(dirty).into_iter().for_each(|sector| copy_sector(now, durable, sector));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.disk.lock().write(self.inode, &zeros, 0)
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        Ok(state.files.get(self.inode).map_or(0, |file| file.now.len() as u64))
    }
}
