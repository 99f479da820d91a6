//! One log's directory as it lies: tiles by their paths, hashes of subtrees out of them.

use crate::disk::{Access, Disk, read_full, read_if_there};
use crate::merkle::{Hash, Nodes, root_of_complete};
use crate::pruned;
use crate::refusal::Refusal;
use crate::tile::{Entries, HASH_LEN, Kind, Tile, WIDTH, decode_hashes};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One log's files are damaged; nothing else is.
pub(crate) const RESTORE: &str = "put the files back from a mirror of this log, where they are the same byte for byte: \
                                  `docs/operate/damage.md`";
const LATER: &str = "if the gateway is running, read the checkpoint again; otherwise put the file back from a mirror \
                     of this log: `docs/operate/damage.md`";

const PRUNED: &str =
    "read it from a mirror that was made before; its leaf hash can still be proven without it";

/// Where a log's files lie.
#[derive(Clone)]
pub(crate) struct LogFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
}

impl LogFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_path_buf() }
    }

    pub(crate) fn path(&self, tile: &Tile) -> PathBuf {
        self.dir.join(tile.path())
    }

    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// Where the newest checkpoint that witnesses cosigned lies.
    pub(crate) fn cosigned_path(&self) -> PathBuf {
        self.dir.join("checkpoint.cosigned")
    }

    pub(crate) fn vkey_path(&self) -> PathBuf {
        self.dir.join("log.vkey")
    }

    pub(crate) fn pruned_path(&self) -> PathBuf {
        self.dir.join("pruned")
    }

    /// From where on entries are kept, where a bundle's may have been pruned; nobody's signature is checked.
    pub(crate) fn kept_from(&self, tile: &Tile) -> Option<u64> {
        let first = pruned::read(self).ok()??.first;
        (tile.kind == Kind::Entries && tile.number < first / WIDTH).then_some(first)
    }

    pub(crate) fn damaged(&self, tile: &Tile, problem: &str) -> Refusal {
        Refusal::new(&self.path(tile), problem, RESTORE)
    }

    pub(crate) fn read_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
        read_if_there(&*self.disk, path).map_err(|error| Refusal::io(path, error))
    }

    /// A file of the log as a reader over the network asks for it; nothing if there is none. A tile comes exactly as
    /// wide as asked, cut from a wider form where the log has grown since.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(tile) = Tile::from_path(path) else { return self.read_if_there(&self.dir.join(path)) };
        let Some(mut bytes) = self.find(&tile)? else { return Ok(None) };
        let width = usize::from(tile.width);
        let len = match tile.kind {
            Kind::Hashes(_) => Some(width * HASH_LEN).filter(|len| *len <= bytes.len()),
            Kind::Entries => {
                let lens = Entries::new(&bytes).take(width).map(|entry| entry.map(|entry| entry.len() + 2));
                let lens: Option<Vec<_>> = lens.collect::<Result<_, _>>().ok();
                lens.filter(|lens| lens.len() == width).map(|lens| lens.iter().sum())
            }
        };
        bytes.truncate(len.ok_or_else(|| self.damaged(&tile, "it is narrower than its name says"))?);
        Ok(Some(bytes))
    }

    /// The bytes of a tile, or of a wider form of it where the log has grown since: it then begins with this tile.
    pub(crate) fn tile(&self, tile: &Tile) -> Result<Vec<u8>, Refusal> {
        self.find(tile)?.ok_or_else(|| match self.kept_from(tile) {
            Some(first) => {
                let problem = format!("its entries were pruned, those from {first} on are kept");
                Refusal::new(&self.path(tile), problem, PRUNED)
            }
            None => Refusal::new(&self.path(tile), "this tile is missing", LATER),
        })
    }

    /// Whether the bytes of a tile are there, in whatever form.
    pub(crate) fn is_there(&self, tile: &Tile) -> Result<bool, Refusal> {
        Ok(self.find(tile)?.is_some())
    }

    /// Whether a bundle is not there, and what lies beside the log says that its entries were pruned.
    pub(crate) fn is_pruned(&self, tile: &Tile) -> bool {
        self.kept_from(tile).is_some() && self.is_there(tile).is_ok_and(|is_there| !is_there)
    }

    /// The first entry of a bundle, without reading the others of a full one.
    pub(crate) fn first_entry(&self, tile: &Tile) -> Result<Vec<u8>, Refusal> {
        let path = self.path(&tile.full());
        let ragged = || self.damaged(tile, "the bundle ends in the middle of an entry");
        let file = match self.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.bundle(tile)?.into_iter().next().ok_or_else(ragged);
            }
            Err(error) => return Err(Refusal::io(&path, error)),
        };
        let io = |error| Refusal::io(&path, error);
        let mut len = [0; 2];
        read_full(&*file, &mut len, 0).map_err(io)?;
        let mut entry = vec![0; usize::from(u16::from_be_bytes(len))];
        let read = read_full(&*file, &mut entry, 2).map_err(io)?;
        if read == entry.len() { Ok(entry) } else { Err(ragged()) }
    }

    /// The bytes of a tile or of a wider form of it; nothing if there is neither.
    pub(crate) fn find(&self, tile: &Tile) -> Result<Option<Vec<u8>>, Refusal> {
        for tile in [*tile, tile.full()] {
            if let Some(bytes) = self.read_if_there(&self.path(&tile))? {
                return Ok(Some(bytes));
            }
        }
        for width in self.partial_widths(tile).into_iter().filter(|width| *width > tile.width) {
            if let Some(bytes) = self.read_if_there(&self.path(&Tile { width, ..*tile }))? {
                return Ok(Some(bytes));
            }
        }
        // Filled, and its partial forms removed, while we looked for one.
        self.read_if_there(&self.path(&tile.full()))
    }

    /// The widths of a tile's partial forms that lie there, ascending.
    pub(crate) fn partial_widths(&self, tile: &Tile) -> Vec<u16> {
        let names = self.disk.list(&self.dir.join(tile.partial_dir())).unwrap_or_default();
        let mut widths: Vec<u16> = names.iter().filter_map(|name| name.parse().ok()).collect();
        widths.sort_unstable();
        widths
    }

    /// The entries of a bundle: exactly as many as the tile is wide.
    pub(crate) fn bundle(&self, tile: &Tile) -> Result<Vec<Vec<u8>>, Refusal> {
        let bytes = self.tile(tile)?;
        let entries: Result<Vec<_>, _> = Entries::new(&bytes)
            .take(usize::from(tile.width))
            .map(|entry| entry.map(<[u8]>::to_vec))
            .collect();
        let whole = entries.ok().filter(|entries| entries.len() == usize::from(tile.width));
        whole.ok_or_else(|| self.damaged(tile, "the bundle ends in the middle of an entry"))
    }
}

/// The hashes of a tree of a given size, read from tiles and remembered.
pub(crate) struct TileNodes<'a> {
    files: &'a LogFiles,
    size: u64,
    tiles: HashMap<Tile, Vec<Hash>>,
}

impl<'a> TileNodes<'a> {
    pub(crate) fn new(files: &'a LogFiles, size: u64) -> Self {
        Self { files, size, tiles: HashMap::new() }
    }
}

impl Nodes for TileNodes<'_> {
    type Error = Refusal;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Refusal> {
        let (row, inside) = (level / 8, level % 8);
        let count = 1_u64 << inside;
        let first = index << inside;
        let outside = || Refusal::new(&self.files.dir, "a proof was asked for outside the tree", LATER);
        let tile = Tile::holding(Kind::Hashes(row), first, self.size).ok_or_else(outside)?;
        let hashes = match self.tiles.entry(tile) {
            std::collections::hash_map::Entry::Occupied(hashes) => hashes.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let bytes = self.files.tile(&tile)?;
                let ragged = || self.files.damaged(&tile, "it is not a row of hashes");
                place.insert(decode_hashes(&bytes, tile.width).ok_or_else(ragged)?)
            }
        };
        let start = usize::try_from(first % WIDTH).unwrap_or(0);
        let range = start..start + usize::try_from(count).unwrap_or(0);
        hashes.get(range).map(root_of_complete).ok_or_else(outside)
    }
}
