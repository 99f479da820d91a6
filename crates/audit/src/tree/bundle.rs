//! The bundle that is not full yet: the entries that the next ones are written behind.

use super::Edge;
use crate::files::LogFiles;
use crate::merkle::leaf_hash;
use crate::refusal::Refusal;
use crate::tile::{Entries, Kind, Tile};

/// Reads the unfinished bundle of the tree that the edge stands for, and holds each entry to its leaf: what was changed on disk is
/// never written once more. Gives its bytes, none where the last bundle is full.
pub(crate) fn load(files: &LogFiles, edge: &Edge) -> Result<Vec<u8>, Refusal> {
    let Some(tile) = Tile::row_end(Kind::Entries, edge.size()) else { return Ok(Vec::new()) };
    let mut bytes = files.tile(&tile)?;
    let begin = edge.size() - u64::from(tile.width);
    let mut entries = Entries::new(&bytes);
    let mut len = 0;
    for (index, leaf) in (begin..).zip(edge.leaves()) {
        match entries.next() {
            Some(Ok(entry)) if leaf_hash(entry) == *leaf => len += entry.len() + 2,
            Some(_) | None => {
                let problem = format!("its entry {index} is not that of the tree");
                return Err(files.damaged(&tile, &problem).at(len as u64));
            }
        }
    }
    // A wider form of it may lie there.
    bytes.truncate(len);
    Ok(bytes)
}
