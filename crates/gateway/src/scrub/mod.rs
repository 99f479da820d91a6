//! Everything that lies in a data directory is read now and then, so that damage is found while there is still something to mend it with.
//!
//! [`Pass`] is one reading of everything. `holdfast doctor --deep` makes one of a directory that nobody serves ([`offline`]); a serving
//! gateway makes one a day, slowly, on a thread of its own (`background.rs`).

mod background;
mod offline;
mod pass;

pub use background::{Background, Findings};
pub use offline::{Summary, extent, offline};
pub(crate) use pass::{Ended, Pass};

use crate::fault::Fault;
use holdfast_audit::Refusal;
use holdfast_core::Error;
use std::fmt;
use std::path::Path;

/// Which part of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The root key.
    RootKey,
    /// The database, or what the log says of it.
    State,
    /// A sealed key.
    Keys,
    /// The log's write-ahead file.
    WriteAheadFile,
    /// A log's checkpoint, tiles and entries.
    Log,
    /// The keys of commitments.
    Openings,
}

impl Part {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RootKey => "root key",
            Self::State => "state",
            Self::Keys => "keys",
            Self::WriteAheadFile => "write-ahead file",
            Self::Log => "log",
            Self::Openings => "openings",
        }
    }
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub part: Part,
    /// The file, and the place in it if that is known.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do next.
    pub remedy: String,
}

impl Damage {
    fn of_log(part: Part, refusal: Refusal) -> Self {
        let Refusal { file, offset, problem, remedy } = refusal;
        let at = offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        Self { part, place: format!("`{}`{at}", file.display()), problem, remedy: remedy.to_owned() }
    }

    fn of_fault(part: Part, file: &Path, fault: &Fault) -> Self {
        let problem = match std::error::Error::source(fault) {
            None => fault.to_string(),
            Some(source) => format!("{fault}: {source}"),
        };
        let remedy = fault.remedy_text().unwrap_or("look at the cause, and at the system's log").to_owned();
        Self { part, place: format!("`{}`", file.display()), problem, remedy }
    }

    fn of(part: Part, file: &Path, error: &Error) -> Self {
        let remedy = error.remedy_text().to_owned();
        Self { part, place: format!("`{}`", file.display()), problem: error.chain(), remedy }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part: _, place, problem, remedy } = self;
        write!(f, "{place}: {problem}; {remedy}")
    }
}
