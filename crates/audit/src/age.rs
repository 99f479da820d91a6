//! How old a log's entries are, told by the entries themselves.
//!
//! A clock that jumps forward makes everything look old, and the first entry written then makes the jump look true. From inside of a log a
//! jump cannot be told from silence. So a silence counts as a quarter of the retention at most: a wrong clock makes entries older by that
//! much, once for each jump, and never prunes what is younger than three quarters of its retention. A log that was really silent for longer
//! keeps its entries for longer; it does not grow meanwhile, so that costs nothing.

use crate::files::LogFiles;
use crate::refusal::Refusal;
use crate::tile::{Kind, Tile, WIDTH};

/// What makes an entry old; microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// From which age on it may go.
    pub retention: u64,
    /// The time now.
    pub now: u64,
}

impl Age {
    /// How much a silence counts at most.
    fn silence(&self) -> u64 {
        self.retention / 4
    }
}

/// The first entry to be kept of a log of `size` entries that keeps those from `first` on: everything before it is older than the
/// retention. A multiple of 256, and never beyond the last bundle; nothing if nothing more may go. `time` reads an entry's.
pub(crate) fn keep_from(
    files: &LogFiles,
    (first, size): (u64, u64),
    age: Age,
    time: &dyn Fn(&[u8]) -> Option<u64>,
) -> Result<Option<u64>, Refusal> {
    let Some(oldest) = Tile::holding(Kind::Entries, first, size) else { return Ok(None) };
    // Most often nothing is old enough, and one entry tells: by their own clock they are no younger than they count here.
    if age.now.saturating_sub(begin(files, &oldest, time)?) < age.retention {
        return Ok(None);
    }
    let (mut old, mut later) = (0_u64, age.now);
    for number in (oldest.number..=(size - 1) / WIDTH).rev() {
        let Some(tile) = Tile::holding(Kind::Entries, number * WIDTH, size) else { break };
        let begun = begin(files, &tile, time)?;
        if later.saturating_sub(begun) <= age.silence() {
            old = old.saturating_add(later.saturating_sub(begun));
        } else {
            let mut after = later;
            for entry in files.bundle(&tile)?.iter().rev() {
                let at = time(entry).ok_or_else(|| untold(files, &tile))?;
                old = old.saturating_add(after.saturating_sub(at).min(age.silence()));
                after = after.min(at);
            }
        }
        // What a clock that ran ahead wrote is as old as what came after it.
        later = later.min(begun);
        if old >= age.retention {
            return Ok((number > oldest.number).then_some(number * WIDTH));
        }
    }
    Ok(None)
}

/// When a bundle's first entry was written.
fn begin(files: &LogFiles, tile: &Tile, time: &dyn Fn(&[u8]) -> Option<u64>) -> Result<u64, Refusal> {
    let entry = files.first_entry(tile)?;
    time(&entry).ok_or_else(|| untold(files, tile))
}

fn untold(files: &LogFiles, tile: &Tile) -> Refusal {
    let problem = "an entry does not say when it was written, so nobody knows how old it is";
    Refusal::new(
        &files.path(tile),
        problem,
        "verify the log with `holdfast audit verify`; nothing was pruned",
    )
}
