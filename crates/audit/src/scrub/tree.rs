//! One log's directory: the checkpoint, every bundle, every tile.

use super::{Scrub, Stopped};
use crate::checkpoint::Checkpoint;
use crate::files::{LogFiles, RESTORE};
use crate::key::VerifierKey;
use crate::merkle::{Hash, leaf_hash, root_of_complete};
use crate::pruned;
use crate::refusal::Refusal;
use crate::tile::{Entries, Kind, Tile, WIDTH, decode_hashes};
use crate::tree::Edge;
use crate::verify::{compare, key_beside, narrower};

/// Reads all of it by its checkpoint.
pub(super) fn read(
    scrub: &mut Scrub<'_>,
    files: &LogFiles,
    key: Option<&VerifierKey>,
) -> Result<Option<Checkpoint>, Stopped> {
    let Some((checkpoint, key)) = scrub.note(checkpoint(files, key)) else { return Ok(None) };
    let mut walk = Walk { files, key: &key, checkpoint: &checkpoint, edge: Edge::default(), parents: None };
    for tile in Tile::row(Kind::Entries, checkpoint.size) {
        let Some(leaves) = walk.leaves(scrub, &tile)? else { return Ok(Some(checkpoint)) };
        walk.push(scrub, leaves)?;
    }
    for (tile, bytes) in walk.edge.partial_tiles() {
        scrub.note(compare(files, &tile, &bytes));
        scrub.took(bytes.len())?;
    }
    if walk.edge.root() != checkpoint.root {
        let problem = "the entries do not lead to the root that it signs";
        scrub.wrong(Refusal::new(&files.checkpoint_path(), problem, RESTORE))?;
    }
    Ok(Some(checkpoint))
}

fn checkpoint(files: &LogFiles, key: Option<&VerifierKey>) -> Result<(Checkpoint, VerifierKey), Refusal> {
    let path = files.checkpoint_path();
    let beside = key_beside(files);
    let key = match (key, beside) {
        (None, beside) => beside?,
        (Some(key), Ok(beside)) if beside == *key => beside,
        (Some(_), Ok(_)) => {
            let problem = "it is not the key that this gateway signs the log with";
            return Err(Refusal::new(&files.vkey_path(), problem, RESTORE));
        }
        (Some(_), Err(refusal)) => return Err(refusal),
    };
    let none = || Refusal::new(&path, "there is no checkpoint", RESTORE);
    let bytes = files.read_if_there(&path)?.ok_or_else(none)?;
    let opened = Checkpoint::open(&bytes, &key);
    opened
        .map(|(checkpoint, _)| (checkpoint, key))
        .map_err(|error| Refusal::new(&path, error.to_string(), RESTORE))
}

struct Walk<'a> {
    files: &'a LogFiles,
    key: &'a VerifierKey,
    checkpoint: &'a Checkpoint,
    /// Made of what was judged to be right so far.
    edge: Edge,
    /// The tile of the row above that was looked at last, and its hashes.
    parents: Option<(Tile, Vec<Hash>)>,
}

impl Walk<'_> {
    /// The leaf hashes under a bundle: of the entries, or of the hash tile where that is the one to be believed. Nothing if neither is
    /// there, and nothing further can be told.
    fn leaves(&mut self, scrub: &mut Scrub<'_>, bundle: &Tile) -> Result<Option<Vec<Hash>>, Stopped> {
        let tile = Tile { kind: Kind::Hashes(0), ..*bundle };
        let entries = self.entries(bundle);
        scrub.took(entries.as_ref().map_or(0, |(_, bytes)| bytes.len()))?;
        let hashes = self.hashes(&tile);
        Ok(match (entries, hashes) {
            (Ok((entries, _)), Ok(hashes)) if entries != hashes && self.is_vouched_for(&tile, &hashes) => {
                let wrong = (0..).zip(entries.iter().zip(&hashes)).find(|(_, (entry, hash))| entry != hash);
                let index = bundle.number * WIDTH + wrong.map_or(0, |(at, _)| at);
                scrub.wrong(
                    self.files.damaged(bundle, &format!("entry {index} is not the one that was recorded")),
                )?;
                Some(hashes)
            }
            // A wrong tile is told when the tree gets there.
            (Ok((entries, bytes)), _) => {
                scrub.note(narrower(self.files, bundle, &bytes));
                Some(entries)
            }
            (Err(_), Ok(hashes)) if self.is_pruned(scrub, bundle) => Some(hashes),
            (Err(refusal), Ok(hashes)) => {
                scrub.wrong(refusal)?;
                Some(hashes)
            }
            (Err(entries), Err(hashes)) => {
                scrub.wrong(entries)?;
                scrub.wrong(hashes)?;
                None
            }
        })
    }

    /// Whether a bundle is not there because the log has signed that its entries are no longer kept. Asked when it is needed, since that may
    /// have happened just now.
    fn is_pruned(&self, scrub: &mut Scrub<'_>, bundle: &Tile) -> bool {
        let pruned = scrub.note(pruned::read_signed(self.files, self.key)).flatten();
        pruned.is_some_and(|pruned| bundle.number < pruned.first / WIDTH)
            && self.files.is_there(bundle).is_ok_and(|is_there| !is_there)
    }

    /// The leaf hashes of a bundle's entries, and its bytes.
    fn entries(&self, bundle: &Tile) -> Result<(Vec<Hash>, Vec<u8>), Refusal> {
        let exact = self.files.read_if_there(&self.files.path(bundle))?;
        let is_exact = exact.is_some();
        let mut bytes = match exact {
            Some(bytes) => bytes,
            None => self.files.tile(bundle)?,
        };
        let (mut leaves, mut len) = (Vec::with_capacity(usize::from(bundle.width)), 0);
        for entry in Entries::new(&bytes).take(usize::from(bundle.width)) {
            let entry = entry.map_err(|_| self.files.damaged(bundle, "it ends in the middle of an entry"))?;
            leaves.push(leaf_hash(entry));
            len += entry.len() + 2;
        }
        if leaves.len() != usize::from(bundle.width) {
            return Err(self.files.damaged(bundle, "it holds too few entries"));
        }
        if is_exact && len != bytes.len() {
            return Err(self.files.damaged(bundle, "it holds more than its entries"));
        }
        bytes.truncate(len);
        Ok((leaves, bytes))
    }

    fn hashes(&self, tile: &Tile) -> Result<Vec<Hash>, Refusal> {
        let bytes = self.files.tile(tile)?;
        decode_hashes(&bytes, tile.width).ok_or_else(|| self.files.damaged(tile, "it is not a row of hashes"))
    }

    /// Whether the row above, or the signed root where the tile is the last, has this tile's hash.
    fn is_vouched_for(&mut self, tile: &Tile, hashes: &[Hash]) -> bool {
        if tile.is_full() {
            return self.parent_of(tile) == Some(root_of_complete(hashes));
        }
        let mut edge = self.edge.clone();
        let pushed: Result<(), ()> = hashes.iter().try_for_each(|hash| edge.push(*hash, |_, _| Ok(())));
        pushed.is_ok() && edge.root() == self.checkpoint.root
    }

    /// The hash of a full tile of the lowest row in the row above.
    fn parent_of(&mut self, tile: &Tile) -> Option<Hash> {
        let above = Tile::holding(Kind::Hashes(1), tile.number, self.checkpoint.size)?;
        if self.parents.as_ref().is_none_or(|(held, _)| *held != above) {
            self.parents = Some((above, self.hashes(&above).ok()?));
        }
        let at = usize::try_from(tile.number % WIDTH).ok()?;
        self.parents.as_ref().and_then(|(_, hashes)| hashes.get(at).copied())
    }

    /// Lets the tree grow by these leaves, and compares each tile that they fill.
    fn push(&mut self, scrub: &mut Scrub<'_>, leaves: Vec<Hash>) -> Result<(), Stopped> {
        let Self { files, edge, .. } = self;
        for leaf in leaves {
            edge.push(leaf, |tile, bytes| {
                scrub.note(compare(files, &tile, &bytes));
                scrub.took(bytes.len())
            })?;
        }
        Ok(())
    }
}
