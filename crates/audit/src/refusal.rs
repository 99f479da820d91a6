//! The one way in which the log refuses what it finds on disk.

use std::io;
use std::path::{Path, PathBuf};

/// Parts of the data directory are of different moments, or one that all others depend on is damaged.
pub(crate) const APART: &str = "put the parts of one and the same moment together, or restore a backup: follow \
                                `docs/operate/rollback.md`";
/// What to do where the disk refused something and nothing goes on by itself.
const MEND: &str = "mend the disk or the permissions, then start again";
/// The same of what is tried again by itself.
const MEND_ALONE: &str = "free space or mend the disk; no restart is needed, it is tried again by itself (`docs/operate/disk-full.md`)";

/// What the log found on disk is not what it wrote; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file or directory.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// What is wrong.
    pub problem: String,
    /// What to do next.
    pub remedy: &'static str,
}

impl Refusal {
    pub(crate) fn new(file: &Path, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { file: file.to_path_buf(), offset: None, problem: problem.into(), remedy }
    }

    pub(crate) fn at(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    pub(crate) fn io(file: &Path, error: io::Error) -> Self {
        Self::new(file, error.to_string(), MEND)
    }

    /// As a thread says it that tries again by itself.
    pub(crate) fn tried_again(self) -> Self {
        let remedy = if self.remedy == MEND { MEND_ALONE } else { self.remedy };
        Self { remedy, ..self }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, offset, problem, remedy } = self;
        write!(f, "`{}`", file.display())?;
        if let Some(offset) = offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {problem}; {remedy}")
    }
}

impl std::error::Error for Refusal {}
