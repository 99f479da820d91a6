//! How many entries each log had when the write-ahead file let go of them: fewer are never taken again. In `log.known`, beside both:
//!
//! ```text
//! holdfast/log-known/v1
//! log acme 1700          of each log: its name, how many entries stood under its checkpoint
//! end
//! ```
//!
//! There is no code on it: an older one that is put back says less, and whoever can write there can remove it. It is kept for whoever puts
//! back a part of the directory and not the rest.

use crate::disk::{Disk, read_if_there, replace};
use crate::log_id::LogId;
use crate::refusal::{APART, Refusal};
use crate::text::{decimal, lines};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const TITLE: &str = "holdfast/log-known/v1";
/// Damage to it is none of a log, and what it says can be had again.
const WRITTEN_ANEW: &str = "compare each log with a witness or a mirror, then remove it, and it is written anew: follow \
                            `docs/operate/rollback.md`";

/// How many entries each log has at least, as far as that was noted.
#[derive(Clone, Debug, Default)]
pub struct Known {
    dir: PathBuf,
    sizes: BTreeMap<LogId, u64>,
}

impl Known {
    /// Reads it from the data directory.
    ///
    /// # Errors
    /// A [`Refusal`] if it can't be read.
    pub(crate) fn load(disk: &dyn Disk, data: &Path) -> Result<Self, Refusal> {
        let known = Self { dir: data.to_path_buf(), sizes: BTreeMap::new() };
        let path = known.path();
        let Some(bytes) = read_if_there(disk, &path).map_err(|error| Refusal::io(&path, error))? else {
            return Ok(known);
        };
        let sizes = parse(&bytes).ok_or_else(|| Refusal::new(&path, "it is damaged", WRITTEN_ANEW))?;
        Ok(Self { sizes, ..known })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("log.known")
    }

    /// How many entries a log has at least.
    fn of(&self, log: &LogId) -> u64 {
        self.sizes.get(log).copied().unwrap_or(0)
    }

    /// Refuses a log that has fewer. How many it has is told by its directory and the write-ahead file together.
    ///
    /// # Errors
    /// That [`Refusal`], which names the checkpoint in the directory.
    pub fn check(&self, log: &LogId, directory: &Path, entries: u64) -> Result<(), Refusal> {
        let known = self.of(log);
        if known <= entries {
            return Ok(());
        }
        let problem =
            format!("the log has {entries} entries, yet `{}` knows of {known}", self.path().display());
        Err(Refusal::new(&directory.join("checkpoint"), problem, APART))
    }

    /// Notes sizes, durably; none gets smaller.
    ///
    /// # Errors
    /// A [`Refusal`] if it can't be written; it then says what it said, or this.
    pub(crate) fn raise<'a>(
        &mut self,
        disk: &dyn Disk,
        sizes: impl Iterator<Item = (&'a LogId, u64)>,
    ) -> Result<(), Refusal> {
        for (log, size) in sizes.filter(|(_, size)| *size > 0) {
            let known = self.sizes.entry(log.clone()).or_default();
            *known = size.max(*known);
        }
        let mut text = format!("{TITLE}\n");
        for (log, size) in &self.sizes {
            // Writing to a string does not fail.
            let _ = writeln!(text, "log {log} {size}");
        }
        text.push_str("end\n");
        let path = self.path();
        let written = replace(disk, &path, text.as_bytes()).and_then(|()| disk.sync_dir(&self.dir));
        written.map_err(|error| Refusal::io(&path, error))
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<LogId, u64>> {
    let mut lines = lines(std::str::from_utf8(bytes).ok()?)?;
    let mut sizes = BTreeMap::new();
    (lines.next()? == TITLE).then_some(())?;
    loop {
        match lines.next()? {
            "end" => break,
            line => {
                let (log, size) = line.strip_prefix("log ")?.split_once(' ')?;
                sizes.insert(log.parse().ok()?, decimal(size)?);
            }
        }
    }
    lines.next().is_none().then_some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn a_size_is_known_for_good_and_damage_is_refused() {
        let (disk, data) = (SimDisk::new(), Path::new("/"));
        let [a, b, c] = ["a", "bb", "c"].map(|name| name.parse::<LogId>().unwrap());
        let mut known = Known::load(&disk, data).unwrap();
        assert_eq!(known.of(&a), 0);
        known.raise(&disk, [(&a, 7), (&b, 9), (&c, 0)].into_iter()).unwrap();
        known.raise(&disk, [(&a, 6), (&b, 10)].into_iter()).unwrap();
        let known = Known::load(&disk.after_power_loss(1), data).unwrap();
        assert_eq!([&a, &b, &c].map(|log| known.of(log)), [7, 10, 0]);
        let path = known.path();
        let whole = disk.files()[&path].clone();
        assert_eq!(whole, b"holdfast/log-known/v1\nlog a 7\nlog bb 10\nend\n");
        for cut in 0..whole.len() {
            replace(&disk, &path, &whole[..cut]).unwrap();
            let refusal = Known::load(&disk, data).unwrap_err();
            assert!(refusal.file == path && refusal.remedy.contains("remove it"), "{cut}: {refusal}");
        }
    }
}
