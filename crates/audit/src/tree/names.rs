//! The names that a tree knows to be durable. One that is there may have been made by a round that failed, or by a process that was ended
//! before it had synced it: it counts from the moment that a round of this process has synced the directory that it stands in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Those names: of files and directories below `base`, which is durable itself.
pub(crate) struct Names {
    base: PathBuf,
    /// What the last round that went well needed; a tree that grows goes on where it was, so that this is nearly all.
    known: BTreeSet<PathBuf>,
    /// What the round under way needs.
    needed: BTreeSet<PathBuf>,
}

impl Names {
    pub(crate) fn new(base: &Path) -> Self {
        Self { base: base.to_path_buf(), known: BTreeSet::new(), needed: BTreeSet::new() }
    }

    /// The round needs this name and those above it: notes the directories to sync for it.
    pub(crate) fn need(&mut self, path: &Path, to_sync: &mut BTreeSet<PathBuf>) {
        for name in path.ancestors().take_while(|name| *name != self.base) {
            if !self.needed.insert(name.to_path_buf()) {
                return;
            }
            if !self.known.contains(name) {
                to_sync.extend(name.parent().map(Path::to_path_buf));
            }
        }
    }

    /// The round went well: those directories are synced.
    pub(crate) fn settle(&mut self) {
        self.known = std::mem::take(&mut self.needed);
    }

    /// It did not.
    pub(crate) fn abandon(&mut self) {
        self.needed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_once_a_round_that_needed_it_went_well() {
        let mut names = Names::new(Path::new("/data"));
        let need = |names: &mut Names, path: &str| {
            let mut to_sync = BTreeSet::new();
            names.need(Path::new(path), &mut to_sync);
            to_sync.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let all = ["/data", "/data/audit", "/data/audit/a"];
        assert_eq!(need(&mut names, "/data/audit/a/tile"), all);
        assert!(need(&mut names, "/data/audit/a/tile").is_empty());
        names.abandon();
        assert_eq!(need(&mut names, "/data/audit/a/tile"), all);
        names.settle();
        assert_eq!(need(&mut names, "/data/audit/a/tile/0"), ["/data/audit/a/tile"]);
        names.abandon();
        assert_eq!(need(&mut names, "/data/audit/a/tile/0"), ["/data/audit/a/tile"]);
    }
}
