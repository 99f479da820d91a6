//! Where a log is read: a directory on this machine, or the gateway, of which only the bundles that are needed are fetched.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::note::Note;
use holdfast_audit::pruned::Pruned;
use holdfast_audit::reader::LogReader;
use holdfast_audit::tile::{Entries, Kind, Tile, WIDTH};
use holdfast_core::ErrorKind;
use holdfast_sdk::Tenant;
use std::path::{Path, PathBuf};

/// A log that entries are read from. Nothing is verified here.
pub(super) enum Source {
    /// A directory.
    Directory(Box<LogReader>),
    /// The gateway, at a size.
    Gateway {
        /// The tenant.
        tenant: Tenant,
        /// How many entries its newest checkpoint covers.
        size: u64,
    },
}

impl Source {
    /// A directory if one is named, the gateway otherwise.
    pub(super) fn open(app: &App, log: Option<&Path>) -> Result<Self, Failure> {
        match log {
            Some(dir) => Ok(Self::Directory(Box::new(open(dir)?))),
            None => {
                let tenant = app.tenant()?;
                let size = newest(app, &tenant)?;
                Ok(Self::Gateway { tenant, size })
            }
        }
    }

    /// Entries under the newest checkpoint that was read.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Directory(reader) => reader.checkpoint().size,
            Self::Gateway { size, .. } => *size,
        }
    }

    /// Reads the checkpoint again.
    pub(super) fn refresh(&mut self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Directory(reader) => {
                reader.refresh()?;
            }
            Self::Gateway { tenant, size: known } => *known = newest(app, tenant)?.max(*known),
        }
        Ok(())
    }

    /// Gives each entry from an index on to `each`, in order, until it says `false`.
    pub(super) fn entries(
        &self,
        app: &App,
        from: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Directory(reader) => {
                let mut next = from;
                for entry in reader.entries(from) {
                    let (index, entry) = entry?;
                    if index != next {
                        pruned(next, index);
                    }
                    next = index + 1;
                    if !each(index, &entry)? {
                        return Ok(());
                    }
                }
                Ok(())
            }
            Self::Gateway { tenant, size } => from_gateway(app, tenant, *size, from, each),
        }
    }
}

/// How often in a row a bundle may be gone by the time that it is asked for.
const PATIENCE: u32 = 5;

fn from_gateway(
    app: &App,
    tenant: &Tenant,
    mut size: u64,
    from: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let (mut index, mut patience) = (from, PATIENCE);
    while let Some(tile) = Tile::holding(Kind::Entries, index, size) {
        let Some(bundle) = fetch(app, tenant, tile)? else {
            let first = if tile.is_full() { first_kept(app, tenant)? } else { 0 };
            if index < first {
                pruned(index, first);
                index = first;
                continue;
            }
            // The log has grown since: the newest checkpoint's bundle holds what this one did.
            patience = patience.checked_sub(1).ok_or_else(|| damaged(&tile))?;
            size = newest(app, tenant)?.max(size);
            continue;
        };
        patience = PATIENCE;
        let first = tile.number * WIDTH;
        for (at, entry) in (first..first + u64::from(tile.width)).zip(Entries::new(&bundle)) {
            let entry = entry.map_err(|_| damaged(&tile))?;
            if at == index {
                index += 1;
                if !each(at, entry)? {
                    return Ok(());
                }
            }
        }
        if index < first + u64::from(tile.width) {
            return Err(damaged(&tile));
        }
    }
    Ok(())
}

/// Opens a log's directory; one that is not there is a wrong path, no damaged log.
pub(super) fn open(dir: &Path) -> Result<LogReader, Failure> {
    must_be_there(dir)?;
    Ok(LogReader::open(dir)?)
}

/// A directory that shall be read.
pub(super) fn must_be_there(dir: &Path) -> Result<(), Failure> {
    dir.metadata().map(drop).map_err(|error| Failure::file("read", dir, &error))
}

fn damaged(tile: &Tile) -> Failure {
    Failure::new(Exit::Integrity, format!("`{}` is missing or holds too few entries", tile.path()))
        .remedy("verify the log with `holdfast audit verify --mirror`")
}

fn newest(app: &App, tenant: &Tenant) -> Result<u64, Failure> {
    let bytes = app.block_on(tenant.log_file("checkpoint"))?;
    let refused = |error: &dyn std::error::Error| {
        Failure::new(Exit::Integrity, "the log's checkpoint cannot be read")
            .because(error)
            .remedy("read it again")
    };
    let note = Note::parse(&bytes).map_err(|error| refused(&error))?;
    Ok(Checkpoint::from_text(note.text()).map_err(|error| refused(&error))?.size)
}

/// Says that entries are no longer there, and why that is right.
fn pruned(from: u64, to: u64) {
    note(&format!("entries {from} to {} were pruned under a recorded retention", to - 1));
}

/// The first entry that the gateway keeps.
fn first_kept(app: &App, tenant: &Tenant) -> Result<u64, Failure> {
    match app.block_on(tenant.log_file("pruned")) {
        Ok(bytes) => {
            let parsed = Pruned::parse(&bytes).map(|(pruned, _)| pruned.first);
            parsed.ok_or_else(|| {
                Failure::new(Exit::Integrity, "what the log no longer keeps cannot be read")
                    .remedy("verify the log with `holdfast audit verify --mirror`")
            })
        }
        Err(error) if error.kind() == Some(ErrorKind::NotFound) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// A bundle as wide as asked for, or the full one if the log has grown meanwhile; nothing if neither is there any more.
fn fetch(app: &App, tenant: &Tenant, tile: Tile) -> Result<Option<Vec<u8>>, Failure> {
    let paths = if tile.is_full() { vec![tile.path()] } else { vec![tile.path(), tile.full().path()] };
    for path in paths {
        match app.block_on(tenant.log_file(&path)) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// A log's directory to work on: the one named, or the gateway's log mirrored into a temporary one.
pub(super) enum Place {
    /// Named.
    Named(PathBuf),
    /// Temporary, gone when dropped.
    Temporary(tempfile::TempDir),
}

impl Place {
    pub(super) fn new(named: Option<PathBuf>) -> Result<Self, Failure> {
        match named {
            Some(dir) => Ok(Self::Named(dir)),
            None => {
                let made = tempfile::TempDir::with_prefix("holdfast-log-");
                made.map(Self::Temporary).map_err(|error| {
                    Failure::new(Exit::Failure, "there is no room for temporary files").because(&error)
                })
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}
