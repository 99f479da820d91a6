//! A file of JSON lines, one entry a line, for an agent that ships files.
//!
//! ```text
//! {"log":"<origin>","index":N,"leaf":"<SHA-256 leaf hash, hex>","entry":<the entry's exact bytes>}
//! ```
//!
//! Only ever appended to, but for one repair: what stands behind the length that the cursor names was never settled. It is
//! cut off, a torn line with it, and written again from the log. In a file that the cursor does not know, one that was
//! rotated in meanwhile, only a torn last line is cut. So no line is ever torn for good, and none is lost.
//!
//! Rotation needs no signal: once another file, or none, stands under the name, the old one is synced and a new one begun.

use super::control::Control;
use super::cursor::Place;
use super::{Failure, Record, Target};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long what was written may be unsynced.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// How every line begins.
const BEGIN: &[u8] = b"{\"log\":\"";
const MEND: &str = "free space on that file system, or mend the permissions; it is tried again by itself";
const OTHER: &str = "name a file of this sink's own, or move the one that is there away";

/// What a file sink is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file; made with mode 0600 if it is not there. Its directory MUST exist.
    pub path: PathBuf,
}

/// A file of JSON lines.
pub(super) struct FileTarget {
    path: PathBuf,
    file: Option<File>,
    /// What was settled last.
    place: Option<Place>,
    lines: Vec<u8>,
}

/// Appends the line of an entry.
pub fn push_line(record: &Record, out: &mut Vec<u8>) {
    let Record { origin, index, leaf, entry } = record;
    let origin = serde_json::Value::from(&**origin);
    // Writing to a vector does not fail.
    let _ = write!(out, "{{\"log\":{origin},\"index\":{index},\"leaf\":\"{leaf:?}\",\"entry\":");
    out.extend_from_slice(entry);
    out.extend_from_slice(b"}\n");
}

impl FileTarget {
    pub(super) fn new(settings: Settings) -> Self {
        let Settings { path } = settings;
        Self { path, file: None, place: None, lines: Vec::new() }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::new(format!("cannot {what} `{}`: {error}", self.path.display()), MEND)
    }

    /// Lets go of a file that does not stand under the name any more.
    fn let_go(&mut self) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        let there = std::fs::metadata(&self.path).ok();
        let same = file.metadata().is_ok_and(|open| there.is_some_and(|there| is_same(&open, &there)));
        if !same {
            file.sync_data().map_err(|error| self.failed("sync", &error))?;
            self.file = None;
        }
        Ok(())
    }

    fn open(&self) -> Result<File, Failure> {
        let refuse = |problem: &str| Failure::new(format!("`{}` {problem}", self.path.display()), OTHER);
        // Opening a pipe would wait for its reader.
        match std::fs::metadata(&self.path) {
            Ok(there) if !there.is_file() => return Err(refuse("is not a file")),
            Ok(_) | Err(_) => {}
        }
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path);
        let file = opened.map_err(|error| self.failed("open", &error))?;
        let about = file.metadata().map_err(|error| self.failed("open", &error))?;
        let keep = match self.place.filter(|place| (place.device, place.inode) == (about.dev(), about.ino()))
        {
            Some(place) if place.length <= about.size() => {
                let end = last(&file, place.length).map_err(|error| self.failed("read", &error))?;
                if end.is_some_and(|byte| byte != b'\n') {
                    return Err(refuse("does not have this sink's lines where its cursor says"));
                }
                place.length
            }
            // Another file, or a shorter one than it was.
            Some(_) | None => {
                let end = end_of_lines(&file, about.size()).map_err(|error| self.failed("read", &error))?;
                end.ok_or_else(|| refuse("ends in something that is no line of a sink"))?
            }
        };
        if keep < about.size() {
            let bytes = about.size() - keep;
            tracing::info!(file = %self.path.display(), bytes, "cut off what was not settled; it is written again");
            file.set_len(keep).map_err(|error| self.failed("cut", &error))?;
        }
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = File::open(dir).and_then(|dir| dir.sync_all());
        named.map_err(|error| self.failed("sync the directory of", &error))?;
        Ok(file)
    }
}

impl Target for FileTarget {
    fn rewind(&mut self, place: Option<Place>) {
        self.place = place;
        self.file = None;
    }

    fn send(&mut self, records: &[Record], _control: &Control) -> Result<(), Failure> {
        self.let_go()?;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        records.iter().for_each(|record| push_line(record, &mut lines));
        let written = file.write_all(&lines);
        self.lines = lines;
        written.map_err(|error| self.failed("write to", &error))?;
        self.file = Some(file);
        Ok(())
    }

    fn settle(&mut self, _control: &Control) -> Result<Option<Place>, Failure> {
        if let Some(file) = &self.file {
            file.sync_data().map_err(|error| self.failed("sync", &error))?;
            let about = file.metadata().map_err(|error| self.failed("look at", &error))?;
            self.place = Some(Place { device: about.dev(), inode: about.ino(), length: about.size() });
        }
        Ok(self.place)
    }

    fn settle_after(&self) -> Duration {
        SYNC_AFTER
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The byte before an offset.
fn last(file: &File, length: u64) -> io::Result<Option<u8>> {
    let mut byte = [0];
    match length.checked_sub(1) {
        Some(at) => file.read_exact_at(&mut byte, at).map(|()| Some(byte[0])),
        None => Ok(None),
    }
}

/// Where the last whole line ends. Nothing if what follows it is not the beginning of a line of ours.
fn end_of_lines(file: &File, size: u64) -> io::Result<Option<u64>> {
    const STEP: u64 = 64 << 10;
    let mut chunk = Vec::new();
    let mut end = size;
    let end = loop {
        let begin = end.saturating_sub(STEP);
        chunk.resize(usize::try_from(end - begin).unwrap_or(0), 0);
        file.read_exact_at(&mut chunk, begin)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            break begin + at as u64 + 1;
        }
        if begin == 0 {
            break 0;
        }
        end = begin;
    };
    let mut torn = vec![0; usize::try_from(size - end).unwrap_or(usize::MAX).min(BEGIN.len())];
    file.read_exact_at(&mut torn, end)?;
    Ok(BEGIN.starts_with(&torn).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;
    use std::sync::Arc;

    fn record(index: u64) -> Record {
        let entry = format!("{{\"n\":{index}}}").into_bytes();
        Record { origin: Arc::from("o/acme"), index, leaf: leaf_hash(&entry), entry }
    }

    fn target(path: &Path, place: Option<Place>) -> FileTarget {
        let mut target = FileTarget::new(Settings { path: path.to_path_buf() });
        target.rewind(place);
        target
    }

    fn lines(indexes: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut out = Vec::new();
        indexes.for_each(|index| push_line(&record(index), &mut out));
        out
    }

    #[test]
    fn a_line_wraps_the_exact_bytes() {
        let mut out = Vec::new();
        push_line(&record(7), &mut out);
        let leaf = record(7).leaf;
        let expected =
            format!("{{\"log\":\"o/acme\",\"index\":7,\"leaf\":\"{leaf:?}\",\"entry\":{{\"n\":7}}}}\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_was_not_settled_is_cut_and_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let control = Control::default();
        let mut first = target(&path, None);
        first.send(&[record(0), record(1)], &control).unwrap();
        let place = first.settle(&control).unwrap();
        first.send(&[record(2), record(3)], &control).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(first);
        // A crash tears the last line.
        let length = std::fs::metadata(&path).unwrap().size();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 5).unwrap();
        let mut second = target(&path, place);
        second.send(&[record(2), record(3)], &control).unwrap();
        second.settle(&control).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines(0..4));
        // One that the cursor does not know loses its torn line only.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"log\":\"o/ac").unwrap();
        let mut third = target(&path, None);
        third.send(&[record(3)], &control).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines([0, 1, 2, 3, 3].into_iter()));
        drop(third);
        // Whole lines stay as they are, be it a cursor's or not, and so does what is left where it was longer.
        let about = std::fs::metadata(&path).unwrap();
        let longer = Place { device: about.dev(), inode: about.ino(), length: about.size() + 1 };
        target(&path, Some(longer)).send(&[record(4)], &control).unwrap();
        target(&path, None).send(&[record(5)], &control).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"l").unwrap();
        target(&path, None).send(&[record(6)], &control).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines([0, 1, 2, 3, 3, 4, 5, 6].into_iter()));
        // A torn line may be longer than what is read at once.
        let torn = [BEGIN, &[b'x'; 70_000]].concat();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&torn).unwrap();
        target(&path, None).send(&[record(7)], &control).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines([0, 1, 2, 3, 3, 4, 5, 6, 7].into_iter()));
    }

    #[test]
    fn what_is_not_a_sinks_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        for foreign in ["my notes without an end", "line\n{\"loG"] {
            std::fs::write(&path, foreign).unwrap();
            let failure = target(&path, None).send(&[record(0)], &Control::default()).unwrap_err();
            assert!(failure.problem.contains("no line of a sink"), "{failure}");
            assert_eq!(std::fs::read(&path).unwrap(), foreign.as_bytes());
        }
        let about = std::fs::metadata(&path).unwrap();
        let place = Place { device: about.dev(), inode: about.ino(), length: 3 };
        assert!(target(&path, Some(place)).send(&[record(0)], &Control::default()).is_err());
        let failure = target(dir.path(), None).send(&[record(0)], &Control::default()).unwrap_err();
        assert!(failure.problem.contains("is not a file"), "{failure}");
        assert!(target(&dir.path().join("no/file"), None).send(&[record(0)], &Control::default()).is_err());
    }

    #[test]
    fn a_rotated_file_is_left_whole_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log.jsonl"), dir.path().join("log.jsonl.1"));
        let control = Control::default();
        let mut target = target(&path, None);
        target.send(&[record(0)], &control).unwrap();
        std::fs::rename(&path, &old).unwrap();
        target.send(&[record(1)], &control).unwrap();
        let place = target.settle(&control).unwrap().unwrap();
        assert_eq!(place.inode, std::fs::metadata(&path).unwrap().ino());
        assert_eq!(std::fs::read(&old).unwrap(), lines(0..1));
        assert_eq!(std::fs::read(&path).unwrap(), lines(1..2));
    }
}
