//! The right edge of a tiled tree: in each row the hashes of the tile that is not full yet. All that appending needs.

use crate::files::LogFiles;
use crate::merkle::{Hash, root_of_complete, root_of_subtrees};
use crate::refusal::Refusal;
use crate::tile::{Kind, Tile, WIDTH, decode_hashes, encode_hashes, levels, row_len};

/// Rows of unfinished tiles, leaves first, and the size of the tree that they stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    rows: Vec<Vec<Hash>>,
}

impl Edge {
    /// Reads the edge of the tree of `size` leaves from its tiles.
    pub(crate) fn load(files: &LogFiles, size: u64) -> Result<Self, Refusal> {
        let mut rows = Vec::new();
        for level in 0..levels(size) {
            let width = row_len(level, size) % WIDTH;
            let number = row_len(level, size) / WIDTH;
            let row = match u16::try_from(width).unwrap_or(0) {
                0 => Vec::new(),
                width => {
                    let tile = Tile { kind: Kind::Hashes(level), number, width };
                    let ragged = || files.damaged(&tile, "it is not a row of hashes");
                    decode_hashes(&files.tile(&tile)?, width).ok_or_else(ragged)?
                }
            };
            rows.push(row);
        }
        Ok(Self { size, rows })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The leaf hashes of the unfinished tile.
    pub(crate) fn leaves(&self) -> &[Hash] {
        self.rows.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// Appends a leaf; each tile that it fills is handed out, lowest first.
    pub(crate) fn push<E>(
        &mut self,
        leaf: Hash,
        mut full: impl FnMut(Tile, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.size = self.size.saturating_add(1);
        let mut hash = leaf;
        for level in 0..8 {
            if self.rows.len() <= usize::from(level) {
                self.rows.push(Vec::new());
            }
            let Some(row) = self.rows.get_mut(usize::from(level)) else { break };
            row.push(hash);
            if (row.len() as u64) < WIDTH {
                break;
            }
            let number = (row_len(level, self.size) / WIDTH).saturating_sub(1);
            full(Tile { kind: Kind::Hashes(level), number, width: 256 }, encode_hashes(row))?;
            hash = root_of_complete(row);
            row.clear();
        }
        Ok(())
    }

    /// The tiles that are not full, with their bytes.
    pub(crate) fn partial_tiles(&self) -> impl Iterator<Item = (Tile, Vec<u8>)> {
        (0..).zip(&self.rows).filter(|(_, row)| !row.is_empty()).map(|(level, row)| {
            let number = row_len(level, self.size) / WIDTH;
            let width = u16::try_from(row.len()).unwrap_or(0);
            (Tile { kind: Kind::Hashes(level), number, width }, encode_hashes(row))
        })
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> Hash {
        let mut subtrees = Vec::new();
        for row in self.rows.iter().rev() {
            let mut rest = row.as_slice();
            while let Some(bits) = rest.len().checked_ilog2() {
                let (subtree, after) = rest.split_at_checked(1 << bits).unwrap_or((rest, &[]));
                subtrees.push(root_of_complete(subtree));
                rest = after;
            }
        }
        root_of_subtrees(subtrees.into_iter())
    }
}
