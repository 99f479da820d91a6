//! How far a sink has come, in one small file.
//!
//! ```text
//! holdfast/sink-cursor/v1
//! file 2049 131077 5120                 device, inode and length of the file that it writes, if it writes one
//! log acme 17 audit.example.org/…/acme  of each log: its name, the index of the next entry, its origin
//! end
//! ```
//!
//! Replaced as a whole, and only after the target has everything up to there. The origin says which log is meant: the
//! log of a restored gateway is another one, and begins at 0.

use crate::disk::{Disk, create_dirs_durably, read_if_there, replace};
use crate::log_id::LogId;
use crate::refusal::Refusal;
use crate::text::{decimal, lines};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

const TITLE: &str = "holdfast/sink-cursor/v1";
const REMOVE: &str =
    "stop the gateway, remove this file and start again: everything is handed over once more";

/// The end of what was settled in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Bytes of it.
    pub length: u64,
}

/// How far one log has been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which log it was.
    pub origin: Arc<str>,
    /// The index of the next entry.
    pub next: u64,
}

/// How far a sink has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where its file ends, if it writes one.
    pub place: Option<Place>,
    /// How far each log has been handed over.
    pub logs: BTreeMap<LogId, Reached>,
}

/// The bytes are not a cursor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sink's cursor: {0}")]
pub struct CursorError(&'static str);

impl Cursor {
    /// Reads a cursor; refuses what [`Cursor::to_text`] would not write.
    ///
    /// # Errors
    /// [`CursorError`], saying what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, CursorError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CursorError("it is not UTF-8"))?;
        let mut lines = lines(text).ok_or(CursorError("its last line has no end"))?.peekable();
        if lines.next() != Some(TITLE) {
            return Err(CursorError("its first line is another one"));
        }
        let place = match lines.peek().and_then(|line| line.strip_prefix("file ")) {
            Some(line) => Some(place(line).ok_or(CursorError("its `file` line is malformed"))?),
            None => None,
        };
        if place.is_some() {
            lines.next();
        }
        let mut logs: BTreeMap<LogId, Reached> = BTreeMap::new();
        loop {
            match lines.next() {
                Some("end") => break,
                Some(line) => {
                    let (log, reached) = reached(line).ok_or(CursorError("a `log` line is malformed"))?;
                    if logs.last_key_value().is_some_and(|(last, _)| *last >= log) {
                        return Err(CursorError("its logs are not in order"));
                    }
                    logs.insert(log, reached);
                }
                None => return Err(CursorError("its `end` is missing")),
            }
        }
        match lines.next() {
            None => Ok(Self { place, logs }),
            Some(_) => Err(CursorError("there is something after its `end`")),
        }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { place, logs } = self;
        let mut text = format!("{TITLE}\n");
        // Writing to a string does not fail.
        if let Some(Place { device, inode, length }) = place {
            let _ = writeln!(text, "file {device} {inode} {length}");
        }
        for (log, Reached { origin, next }) in logs {
            let _ = writeln!(text, "log {log} {next} {origin}");
        }
        text.push_str("end\n");
        text
    }

    pub(super) fn load(disk: &dyn Disk, path: &Path) -> Result<Self, Refusal> {
        match read_if_there(disk, path).map_err(|error| Refusal::io(path, error))? {
            Some(bytes) => Self::parse(&bytes).map_err(|error| Refusal::new(path, error.to_string(), REMOVE)),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn save(&self, disk: &dyn Disk, base: &Path, path: &Path) -> Result<(), Refusal> {
        let dir = path.parent().unwrap_or(base);
        let saved = create_dirs_durably(disk, base, dir)
            .and_then(|()| replace(disk, path, self.to_text().as_bytes()))
            .and_then(|()| disk.sync_dir(dir));
        saved.map_err(|error| Refusal::io(path, error))
    }
}

fn place(line: &str) -> Option<Place> {
    let mut numbers = line.split(' ').map(decimal);
    let place = Place { device: numbers.next()??, inode: numbers.next()??, length: numbers.next()?? };
    numbers.next().is_none().then_some(place)
}

fn reached(line: &str) -> Option<(LogId, Reached)> {
    let (log, rest) = line.strip_prefix("log ")?.split_once(' ')?;
    let (next, origin) = rest.split_once(' ')?;
    let fits = !origin.is_empty() && !origin.chars().any(char::is_control);
    fits.then_some(())?;
    Some((log.parse().ok()?, Reached { origin: Arc::from(origin), next: decimal(next)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor() -> Cursor {
        let reached = |origin: &str, next| Reached { origin: Arc::from(origin), next };
        Cursor {
            place: Some(Place { device: 2049, inode: 131_077, length: 5120 }),
            logs: BTreeMap::from([
                ("_gateway".parse().unwrap(), reached("audit.example.org/01/_gateway", 0)),
                ("acme".parse().unwrap(), reached("audit.example.org/01/acme", 17)),
            ]),
        }
    }

    #[test]
    fn the_file_is_this() {
        let text = "holdfast/sink-cursor/v1\nfile 2049 131077 5120\n\
                    log _gateway 0 audit.example.org/01/_gateway\nlog acme 17 audit.example.org/01/acme\nend\n";
        assert_eq!(cursor().to_text(), text);
        assert_eq!(Cursor::parse(text.as_bytes()).unwrap(), cursor());
    }

    #[test]
    fn a_torn_or_changed_file_is_refused() {
        let text = cursor().to_text();
        for len in 0..text.len() {
            assert!(Cursor::parse(&text.as_bytes()[..len]).is_err(), "{len}");
        }
        for (from, to) in [
            ("v1", "v2"),
            ("file 2049", "file +2049"),
            (" 5120", " 5120 1"),
            (" 5120", ""),
            ("acme 17", "acme 017"),
            ("acme 17", "ACME 17"),
            ("log acme", "log _aaaa"),
            ("log acme", "log _gateway"),
            (" 17 audit.example.org/01/acme", " 17 "),
            ("end\n", "end\nend\n"),
        ] {
            let changed = text.replace(from, to);
            assert!(changed != text && Cursor::parse(changed.as_bytes()).is_err(), "{changed}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_back_alike(bytes: Vec<u8>, at in 0_usize..110, byte: u8) {
            let mut text = cursor().to_text().into_bytes();
            if let Some(there) = text.get_mut(at) {
                *there = byte;
            }
            for bytes in [bytes, text] {
                if let Ok(cursor) = Cursor::parse(&bytes) {
                    prop_assert_eq!(cursor.to_text().into_bytes(), bytes);
                }
            }
        }
    }
}
