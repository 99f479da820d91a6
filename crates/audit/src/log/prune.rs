//! Entries that a log no longer has to keep are removed: whole bundles, and the openings that belong to them.

use super::Log;
use crate::age::{Age, keep_from};
use crate::disk::replace;
use crate::files::LogFiles;
use crate::key::Signer;
use crate::log_id::LogId;
use crate::pruned::{self, Pruned};
use crate::reader::read_checkpoint;
use crate::refusal::Refusal;
use crate::tile::{Kind, Tile, WIDTH};
use crate::tree::Openings;
use crate::tree::board::Board;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LATER: &str = "nothing was pruned; it is tried again";

/// What prunes one log, on whichever thread.
#[derive(Clone)]
pub struct Pruner {
    files: LogFiles,
    openings: Openings,
    signer: Arc<Signer>,
    board: Arc<Board>,
    log: LogId,
    appended: u64,
}

impl Log {
    /// What prunes a log that is open, under everything that has been appended to it so far.
    #[must_use]
    pub fn pruner(&self, log: &LogId, signer: Arc<Signer>) -> Pruner {
        let disk = Arc::clone(&self.shared.segments.disk);
        Pruner {
            files: LogFiles::new(disk, &self.directory(log)),
            openings: self.openings(log),
            signer,
            board: Arc::clone(&self.shared.board),
            log: log.clone(),
            appended: self.shared.sequencer().logs.get(log).copied().unwrap_or(0),
        }
    }
}

impl Pruner {
    /// The first entry that is kept.
    ///
    /// # Errors
    /// A [`Refusal`] when what says so can't be read.
    pub fn first(&self) -> Result<u64, Refusal> {
        Ok(pruned::read(&self.files)?.map_or(0, |pruned| pruned.first))
    }

    /// The first entry to be kept from now on: all before it are older than they have to be. Nothing if none more may go. `time` reads
    /// when an entry was written, in microseconds. Blocks.
    ///
    /// # Errors
    /// A [`Refusal`] when entries can't be read.
    pub fn keep_from(&self, age: Age, time: &dyn Fn(&[u8]) -> Option<u64>) -> Result<Option<u64>, Refusal> {
        let first = self.first()?;
        let (_, checkpoint) = read_checkpoint(&self.files)?;
        keep_from(&self.files, (first, checkpoint.size), age, time)
    }

    /// Removes the entries before `first`, rounded down to a whole bundle, and their openings. The record of `operation`, which orders it,
    /// MUST be durable; it is made public first, then what is to go is signed for, then it goes. Where an earlier attempt was interrupted it is
    /// finished. Blocks.
    ///
    /// # Errors
    /// A [`Refusal`] when the tree does not grow or the disk fails; to be tried again.
    pub fn prune(&self, operation: &str, first: u64) -> Result<(), Refusal> {
        let first = first / WIDTH * WIDTH;
        let waited = self.board.wait_published(&self.log, self.appended);
        waited.map_err(|why| Refusal::new(&self.files.dir, why.to_string(), LATER))?;
        let (_, checkpoint) = read_checkpoint(&self.files)?;
        if first >= checkpoint.size {
            let problem =
                format!("it has {} entries, and those from {first} on are to be kept", checkpoint.size);
            return Err(Refusal::new(&self.files.checkpoint_path(), problem, LATER));
        }
        let known = self.first()?;
        if known < first {
            self.sign(operation, first)?;
        }
        self.remove_bundles(known.max(first))?;
        self.openings.erase_before(known.max(first))
    }

    fn sign(&self, operation: &str, first: u64) -> Result<(), Refusal> {
        let path = self.files.pruned_path();
        let origin = self.signer.verifier().name().to_owned();
        let pruned = Pruned { origin, operation: operation.to_owned(), first };
        let note = pruned.sign(&self.signer);
        let note = note.map_err(|error| Refusal::new(&path, error.to_string(), LATER))?;
        let disk = &*self.files.disk;
        let written =
            replace(disk, &path, note.to_string().as_bytes()).and_then(|()| disk.sync_dir(&self.files.dir));
        written.map_err(|error| Refusal::io(&path, error))
    }

    fn remove_bundles(&self, first: u64) -> Result<(), Refusal> {
        let (disk, mut changed) = (&*self.files.disk, BTreeSet::new());
        self.remove_below("tile/entries", first / WIDTH, &mut changed)?;
        let io = |dir: &PathBuf| disk.sync_dir(dir).map_err(|error| Refusal::io(dir, error));
        changed.iter().try_for_each(io)
    }

    /// Removes the bundles below a number in one directory of them and those in it. A directory that is empty then goes too: the first
    /// bundle that is kept is in another one, and so is whatever comes later.
    fn remove_below(&self, dir: &str, number: u64, changed: &mut BTreeSet<PathBuf>) -> Result<(), Refusal> {
        let (disk, path) = (&*self.files.disk, self.files.dir.join(dir));
        let io = |error| Refusal::io(&path, error);
        for name in disk.list(&path).map_err(io)? {
            let below = format!("{dir}/{name}");
            let stem = below.strip_suffix(".p").unwrap_or(&below);
            let Some(tile) = Tile::from_path(stem).filter(|tile| tile.kind == Kind::Entries) else {
                if name.starts_with('x') {
                    self.remove_below(&below, number, changed)?;
                    self.remove_if_empty(&below, changed)?;
                }
                continue;
            };
            if tile.number >= number {
                continue;
            }
            if below.ends_with(".p") {
                let partial = self.files.dir.join(&below);
                for width in disk.list(&partial).map_err(io)? {
                    disk.remove_file(&partial.join(width)).map_err(io)?;
                }
                disk.remove_dir(&partial).map_err(io)?;
            } else {
                disk.remove_file(&self.files.path(&tile)).map_err(io)?;
            }
            changed.insert(path.clone());
        }
        Ok(())
    }

    fn remove_if_empty(&self, dir: &str, changed: &mut BTreeSet<PathBuf>) -> Result<(), Refusal> {
        let path = self.files.dir.join(dir);
        // Only where something has just been removed: another one may be about to get its first bundle.
        if changed.contains(&path) && self.files.disk.list(&path).is_ok_and(|names| names.is_empty()) {
            self.files.disk.remove_dir(&path).map_err(|error| Refusal::io(&path, error))?;
            changed.remove(&path);
            changed.extend(path.parent().map(Path::to_path_buf));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::disk::{Access, Disk as _, create_dirs_durably};
    use crate::log::Config;
    use zeroize::Zeroizing;

    /// Of a log that is long enough: beyond the first thousand bundles lie in directories of a thousand each.
    #[test]
    fn a_directory_that_pruning_emptied_goes_and_one_that_is_yet_to_be_filled_stays() {
        let disk = SimDisk::new();
        let small = Config {
            segment_len: 192 << 10,
            reserve: 32 << 10,
            max_pending: 24 << 10,
            ..Config::new(Path::new("/"))
        };
        let (log, _) = Log::open_on(Arc::new(disk.clone()), small).unwrap();
        let id: LogId = "a".parse().unwrap();
        let signer = || Signer::from_seed("test.example/a", &Zeroizing::new([1; 32])).unwrap();
        log.register(&id, signer()).unwrap();
        let pruner = log.pruner(&id, Arc::new(signer()));
        let entries = Path::new("/audit/a/tile/entries");
        for number in [0, 999, 1000, 1999, 2000, 2001, 999_999, 1_000_000, 1_000_001, 1_001_000] {
            let path = pruner.files.path(&Tile { kind: Kind::Entries, number, width: 256 });
            create_dirs_durably(&disk, Path::new("/"), path.parent().unwrap()).unwrap();
            disk.open(&path, Access::Create).unwrap().write_all_at(b"x", 0).unwrap();
        }
        // Made for a bundle that is not there yet.
        create_dirs_durably(&disk, Path::new("/"), &entries.join("x003")).unwrap();
        for (first, left) in [
            (1000, "x001 [000 999 x000 [000 001] x001 [000]] x002 [000 001] x003 [] x999 [999]"),
            (1999, "x001 [999 x000 [000 001] x001 [000]] x002 [000 001] x003 [] x999 [999]"),
            (2001, "x001 [x000 [000 001] x001 [000]] x002 [001] x003 [] x999 [999]"),
            (2002, "x001 [x000 [000 001] x001 [000]] x003 [] x999 [999]"),
            (1_000_001, "x001 [x000 [001] x001 [000]] x003 []"),
            (1_000_002, "x001 [x001 [000]] x003 []"),
            (1_001_001, "x003 []"),
        ] {
            pruner.remove_bundles(first * WIDTH).unwrap();
            assert_eq!(listed(&disk, entries), left, "{first}");
        }
    }

    /// The names in a directory, and in brackets those in each directory there.
    fn listed(disk: &SimDisk, dir: &Path) -> String {
        let mut names = disk.list(dir).unwrap();
        names.sort_unstable();
        let inside = |name: String| match disk.list(&dir.join(&name)) {
            Ok(_) => format!("{name} [{}]", listed(disk, &dir.join(&name))),
            Err(_) => name,
        };
        names.into_iter().map(inside).collect::<Vec<_>>().join(" ")
    }
}
