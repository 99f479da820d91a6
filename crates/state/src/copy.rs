//! A copy of the whole state as of one commit, while the gateway works.

use crate::database::DatabaseFile;
use crate::fault::Fault;
use crate::ledger::{Ledger, RECORDS};
use crate::store::Shared;
use holdfast_core::port::Committed;
use holdfast_core::{Error, Stage};
use rusqlite::OpenFlags;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

/// Copies the state; outlives no gateway and locks none of its work.
#[derive(Clone)]
pub struct Copier {
    pub(crate) file: DatabaseFile,
    pub(crate) shared: Arc<Shared>,
}

impl Copier {
    /// Writes a copy to a new file of mode 0600 and gives the commit that it is of. One read transaction, so later commits are not in it;
    /// material in it is sealed, as in the database itself. Blocks, for as long as the disk takes.
    ///
    /// # Errors
    /// `state-unavailable`, when the database cannot be read or the copy not be written.
    pub fn copy(&self, to: &Path) -> Result<Committed, Error> {
        self.try_copy(to).map_err(|fault| fault.at(Stage::Perform))
    }

    fn try_copy(&self, to: &Path) -> Result<Committed, Fault> {
        let failed = |error: std::io::Error| Fault::Wrong {
            why: format!("`{}` cannot be written: {error}", to.display()),
            remedy: "free space in the data directory, or mend its disk",
        };
        // SQLite takes an empty file, and would make one that others can read.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
        let path = to.to_str().ok_or_else(|| Fault::Wrong {
            why: format!("`{}` is not UTF-8", to.display()),
            remedy: "use another data directory",
        })?;
        let connection = self.file.copying()?;
        connection.execute("VACUUM INTO ?1", [path])?;
        drop(connection);
        file.sync_all().map_err(failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copy = rusqlite::Connection::open_with_flags(to, flags)?;
        let ledger = Ledger::load(&copy, &self.shared.seal, RECORDS)?
            .ok_or_else(|| Fault::damaged("ledger", RECORDS, "the row is missing"))?;
        Ok(ledger.position(&self.shared.seal))
    }
}
