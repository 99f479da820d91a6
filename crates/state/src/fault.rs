//! What goes wrong between the store and its database, and how that becomes core's one error.

use core::fmt;
use holdfast_core::{Error, ErrorKind, Stage};
use rusqlite::ErrorCode;

/// Why something could not be read or written.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database engine or the disk below it.
    Storage(rusqlite::Error),
    /// A row that is not as this gateway wrote it.
    Damaged(Damage),
    /// The database as a whole is not what it should be.
    Wrong {
        /// What is wrong, for the operator.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The change is not allowed by the port's rules: already an answer for the caller.
    Refused(Error),
}

/// A row that must not be used.
#[derive(Debug)]
pub(crate) struct Damage {
    /// The table.
    pub(crate) table: &'static str,
    /// Which row of it.
    pub(crate) row: String,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, why } = self;
        write!(f, "table `{table}`, row `{row}`: {why}")
    }
}

impl std::error::Error for Damage {}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Wrong { why, remedy: _ } => f.write_str(why),
            Self::Refused(error) => f.write_str(&error.chain()),
        }
    }
}

const RESTORE: &str =
    "stop the gateway, keep the data directory for examination and restore it from the last good backup";
const WAIT: &str = "send again; if it persists, look at the gateway's log and restart it";

impl Fault {
    /// A row whose content or place was changed outside.
    pub(crate) fn damaged(table: &'static str, row: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged(Damage { table, row: row.into(), why: why.into() })
    }

    /// As core's error, with what to do next.
    pub(crate) fn at(self, stage: Stage) -> Error {
        let unavailable =
            |detail, remedy| Error::new(ErrorKind::StateUnavailable, stage, detail).remedy(remedy);
        match self {
            Self::Refused(error) => error,
            Self::Damaged(damage) => {
                unavailable("a record of the state is damaged, so it is refused", RESTORE).because(damage)
            }
            Self::Wrong { why, remedy } => unavailable("the state is not usable", remedy).because(why),
            Self::Storage(error) => {
                let (detail, remedy) = advice(&error);
                unavailable(detail, remedy).because(error)
            }
        }
    }
}

/// What an operator does about an error of the engine.
fn advice(error: &rusqlite::Error) -> (&'static str, &'static str) {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (
            "the disk that holds the state is full, so nothing was changed",
            "free space on the data directory's file system, then send again; no restart is needed",
        ),
        Some(ErrorCode::ReadOnly) => (
            "the state cannot be written",
            "make the data directory writable for the gateway (mount options, owner, mode), then send again",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            "the disk that holds the state failed",
            "look at the kernel's log for the disk's errors; when the disk is sound again, restart the gateway",
        ),
        Some(
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => (
            "the state's files cannot be opened",
            "check that the data directory exists and belongs to the gateway's user",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ("the state's file `state/holdfast.db` is damaged", RESTORE)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            "another process holds the state's file",
            "end whatever has the state's database open (a shell, a backup program), then send again",
        ),
        Some(_) | None => ("the state cannot be read or written", WAIT),
    }
}

/// A refusal because of what the state holds now.
pub(crate) fn conflict(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::Refused(Error::new(ErrorKind::Conflict, Stage::Perform, detail))
}

/// A refusal because there is one of that name.
pub(crate) fn exists(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::Refused(Error::new(ErrorKind::AlreadyExists, Stage::Perform, detail))
}

/// A refusal of a change that no correct caller of the port makes.
pub(crate) fn defect(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::Refused(Error::new(ErrorKind::Internal, Stage::Perform, detail))
}

/// The store's threads are gone: only a restart helps.
pub(crate) fn stopped(stage: Stage) -> Error {
    Error::new(ErrorKind::StateUnavailable, stage, "the state has been closed")
        .remedy("restart the gateway; its log says why the state's thread ended")
}
