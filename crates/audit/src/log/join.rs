//! Whether a tree and the write-ahead file can be of one moment, by how many entries each has.

use super::Recovered;
use crate::log_id::LogId;
use crate::refusal::{APART, Refusal};
use std::ops::Range;
use std::path::Path;

/// Refuses a checkpoint that covers fewer entries than were let go of, or more than were written; gives the index that the log's next entry
/// gets. `held` are the log's entries in the write-ahead file, which is `fresh` if no batch was ever written to it.
pub(super) fn next_index(
    checkpoint: &Path,
    size: u64,
    held: Option<Range<u64>>,
    fresh: bool,
) -> Result<u64, Refusal> {
    let refuse = |problem: String| Err(Refusal::new(checkpoint, problem, APART));
    match held {
        None if size > 0 && fresh => {
            refuse(format!("it covers {size} entries, yet the write-ahead file is new"))
        }
        None => Ok(size),
        Some(Range { start, .. }) if start > size => {
            refuse(format!("it covers {size} entries, yet the write-ahead file begins with {start}"))
        }
        Some(Range { end, .. }) if end < size => {
            refuse(format!("it covers {size} entries, yet the write-ahead file knows only {end}"))
        }
        Some(Range { end, .. }) => Ok(end),
    }
}

impl Recovered {
    /// The index that a log's next entry gets, given how many stand under the checkpoint in its directory. Which entries these are is not
    /// looked at.
    ///
    /// # Errors
    /// The [`Refusal`] of the next start, if the directory is older or newer than the write-ahead file.
    pub fn next_index(&self, log: &LogId, directory: &Path, size: u64) -> Result<u64, Refusal> {
        let held = self.logs.get(log).cloned();
        next_index(&directory.join("checkpoint"), size, held, self.next_batch == 0)
    }
}
