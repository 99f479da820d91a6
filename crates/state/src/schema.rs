//! The tables, and how an older directory becomes a newer one.
//!
//! | table | a row | in the digest |
//! |---|---|---|
//! | `record` | a tenant, caller, trust anchor, policy version, key or key version (`record.rs`) | yes |
//! | `ledger` | where the rows of `record` and `budget` stand: sequence number, count, masked sum | — |
//! | `committed` | an operation whose changes were committed, for recovery, with the stop order if it was one; the newest [`COMMITTED_KEPT`](crate::apply::COMMITTED_KEPT) | no |
//! | `budget` | how many invocations of a key version have been reserved | one of its own |
//! | `probe` | nothing: written to find out whether writing works | no |

use crate::fault::Fault;
use rusqlite::Connection;

/// What `file(1)` and we recognise the database by: "HFst".
pub(crate) const APPLICATION_ID: i32 = 0x4846_7374;

/// One step from each version to the next; the first makes a new directory. Never change a step that has been released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE record (
        row INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        id BLOB NOT NULL,
        tenant TEXT NOT NULL,
        name TEXT,
        epoch INTEGER NOT NULL,
        body BLOB NOT NULL,
        tag BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX record_by_id ON record (kind, id);
    CREATE UNIQUE INDEX record_by_name ON record (kind, tenant, name) WHERE name IS NOT NULL;
    CREATE TABLE ledger (
        name TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        sum BLOB NOT NULL,
        tag BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE committed (
        sequence INTEGER PRIMARY KEY,
        operation BLOB NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        stop_order BLOB,
        tag BLOB NOT NULL
    ) STRICT;
    CREATE TABLE budget (
        key BLOB NOT NULL,
        version INTEGER NOT NULL,
        reserved INTEGER NOT NULL,
        tag BLOB NOT NULL,
        PRIMARY KEY (key, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE probe (
        row INTEGER PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT;
"];

/// The version that this binary writes.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// What a database is, before anything is changed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// An empty file.
    Nothing,
    /// A state of this version.
    State(i64),
}

/// Looks at a database without changing it.
pub(crate) fn look(connection: &Connection) -> Result<Found, Fault> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(Found::Nothing);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(Fault::Wrong {
            why: format!("the database carries the application id {application:#x}, not Holdfast's"),
            remedy: "point the gateway at its own data directory, or restore the state from a backup",
        });
    }
    let newest = newest();
    if version > newest {
        return Err(Fault::Wrong {
            why: format!(
                "the data directory has state version {version}, this binary knows versions up to {newest}"
            ),
            remedy: "start the gateway version that wrote this directory or a newer one; to go back, restore a backup made before the upgrade",
        });
    }
    if version < 1 {
        return Err(Fault::Wrong {
            why: format!("the data directory has the impossible state version {version}"),
            remedy: "restore the state from a backup",
        });
    }
    Ok(Found::State(version))
}

/// Takes the database from `version` (0 for an empty file) to the newest one, within the caller's transaction.
pub(crate) fn migrate(connection: &Connection, version: i64) -> Result<(), Fault> {
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for step in MIGRATIONS.iter().skip(done) {
        connection.execute_batch(step)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", newest())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_database_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        assert_eq!(look(&connection).unwrap(), Found::Nothing);
        connection.execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(matches!(look(&connection), Err(Fault::Wrong { .. })));
    }

    #[test]
    fn a_new_database_has_the_newest_version() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection, 0).unwrap();
        assert_eq!(look(&connection).unwrap(), Found::State(newest()));
    }
}
