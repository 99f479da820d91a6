//! Connections to the database file: how they are opened and what they are told never to do.

use crate::fault::Fault;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a statement waits for somebody else's lock. Nobody else should have one: this is for an operator's shell or backup program.
pub(crate) const BUSY: Duration = Duration::from_secs(5);
/// Pages of each connection's own cache, in KiB.
const CACHE_KIB: i64 = 8 * 1024;
/// What a write-ahead file that grew is cut back to, in bytes.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;
/// Statements that a connection keeps prepared: more than there are.
const STATEMENTS: usize = 64;

/// The database file of a data directory.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    identity: Identity,
}

/// Which file it is, whatever its name.
type Identity = (u64, u64);

impl DatabaseFile {
    /// Where it lies in a data directory.
    pub(crate) fn path_in(directory: &Path) -> PathBuf {
        directory.join("state").join("holdfast.db")
    }

    /// Makes an empty one (directory 0700, file 0600), so that the name itself survives power loss.
    pub(crate) fn create(directory: &Path) -> io::Result<()> {
        let path = Self::path_in(directory);
        let folder = directory.join("state");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?.sync_all()?;
        File::open(&folder)?.sync_all()?;
        File::open(directory)?.sync_all()
    }

    /// The one that is there.
    pub(crate) fn existing(directory: &Path) -> io::Result<Self> {
        let path = Self::path_in(directory);
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Whether the file that was opened still lies under its name. What is written to one that does not is lost at the next start.
    pub(crate) fn check_place(&self) -> Result<(), Fault> {
        match identity(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) | Err(_) => Err(Fault::Wrong {
                why: format!("`{}` has been removed or replaced while the gateway runs", self.path.display()),
                remedy: "stop the gateway, put the state's directory back (or restore it from a backup), and start it again",
            }),
        }
    }

    /// The connection that writes.
    pub(crate) fn writer(&self) -> Result<Connection, Fault> {
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// A connection that reads. The writer MUST have been opened and prepared before.
    pub(crate) fn reader(&self) -> Result<Connection, Fault> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// A connection that copies all of it elsewhere.
    pub(crate) fn copying(&self) -> Result<Connection, Fault> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open(&self, access: OpenFlags) -> Result<Connection, Fault> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        for (switch, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        ] {
            connection.set_db_config(switch, on)?;
        }
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    }
}

/// Turns on the write-ahead file and a sync for every commit. Not before it is known that the database is ours.
pub(crate) fn make_durable(connection: &Connection) -> Result<(), Fault> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Fault::Wrong {
            why: format!("the journal mode is `{mode}` instead of `wal`"),
            remedy: "put the data directory on a local file system that supports shared memory maps",
        });
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // Erased handles are overwritten, not merely unlinked.
    connection.pragma_update(None, "secure_delete", true)?;
    let _: i64 =
        connection.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT, |row| row.get(0))?;
    Ok(())
}

fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
