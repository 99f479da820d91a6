//! The list of failures of a campaign that has no journal: it goes through everything each time, and goes on with the list of an earlier run.
//! No line of that is lost, and what fails again in the same way has one.

use super::Settings;
use super::journal::{OWN, own};
use super::tally::Failed;
use crate::exit::Exit;
use crate::failure::Failure;
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// More bytes than a line of a list has.
const LONGEST: u64 = 1 << 20;
/// How each line begins.
const BEGIN: &[u8] = br#"{"item":"#;

/// A list that is being written.
pub(super) struct List {
    file: File,
    /// What stands there.
    has: HashSet<Told>,
}

/// A failure without the operation of its record, which is another one each time: so much of its digest that no two are alike.
type Told = [u8; 16];

impl List {
    /// Begins the list, where one is wanted.
    pub(super) fn new(settings: &Settings) -> Result<Option<Self>, Failure> {
        Self::open(settings, |path| match is_empty_or_absent(path) {
            true => Self::begin(path, true),
            false => Err(io::ErrorKind::AlreadyExists.into()),
        })
    }

    /// Begins the list, or goes on with that of an earlier run, where one is wanted: whose items are told by it alone.
    pub(super) fn again(settings: &Settings) -> Result<Option<Self>, Failure> {
        Self::open(settings, |path| Self::begin(path, false))
    }

    fn open(
        settings: &Settings,
        unforced: impl FnOnce(&Path) -> io::Result<Self>,
    ) -> Result<Option<Self>, Failure> {
        let Some(path) = &settings.failures else { return Ok(None) };
        let begun = if settings.force { Self::begin(path, true) } else { unforced(path) };
        begun.map(Some).map_err(|error| Failure::file("write", path, &error))
    }

    fn begin(path: &Path, anew: bool) -> io::Result<Self> {
        let is_new = anew || is_empty_or_absent(path);
        let foreign = || io::Error::from(io::ErrorKind::AlreadyExists);
        if !is_new && !path.symlink_metadata()?.is_file() {
            return Err(foreign());
        }
        let file = OpenOptions::new().read(true).append(true).create(is_new).mode(OWN).open(path)?;
        file.try_lock()
            .map_err(|_| io::Error::other("another campaign writes it: wait for it, or name another list"))?;
        let (has, whole) = match is_new {
            true => Default::default(),
            false => read(&file)?.ok_or_else(foreign)?,
        };
        // What a run that was killed has begun to write is written again.
        file.set_len(whole)?;
        own(&file)?;
        Ok(Self { file, has })
    }

    /// Appends failures that it does not have yet.
    pub(super) fn append(&mut self, failures: &[u8]) -> Result<(), Failure> {
        let mut new = vec![];
        for line in failures.split_inclusive(|byte| *byte == b'\n') {
            if told(line).is_none_or(|told| self.has.insert(told)) {
                new.extend_from_slice(line);
            }
        }
        self.file.write_all(&new).map_err(|error| {
            Failure::new(Exit::Failure, "the list of failures cannot be written")
                .because(&error)
                .remedy("look at the cause")
        })
    }
}

/// Whether nothing is overwritten by writing a list there.
pub(super) fn is_empty_or_absent(list: &Path) -> bool {
    match list.symlink_metadata() {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// What a list holds, and how many of its bytes are whole lines; nothing of what is no list.
fn read(file: &File) -> io::Result<Option<(HashSet<Told>, u64)>> {
    let (mut has, mut whole, mut line) = (HashSet::new(), 0, vec![]);
    let mut reader = BufReader::new(file);
    loop {
        line.clear();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let is_begun = line.starts_with(BEGIN) || BEGIN.starts_with(&line);
            return Ok((is_begun && (read as u64) < LONGEST).then_some((has, whole)));
        }
        let Some(told) = told(&line) else { return Ok(None) };
        has.insert(told);
        whole += read as u64;
    }
}

fn told(line: &[u8]) -> Option<Told> {
    let failed: Failed = serde_json::from_slice(line).ok()?;
    let told = serde_json::to_vec(&Failed { operation: None, ..failed }).ok()?;
    digest(&SHA256, &told).as_ref().first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    fn line(item: &str, operation: &str) -> Vec<u8> {
        let mut failed = Failed::new(Exit::Denied, "denied", "no policy permits it", "ask a custodian");
        failed.operation = Some(operation.to_owned());
        let mut line = serde_json::to_vec(&failed.of(item, None)).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn no_line_is_lost_and_none_is_there_twice_however_often_a_run_is_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let runs = |force: bool, lines: &[&[u8]]| {
            let mut list = List::begin(&path, force).unwrap();
            list.append(&lines.concat()).unwrap();
            std::fs::read(&path).unwrap()
        };
        let (a, b, c) = (line("a", "1"), line("b", "2"), line("c", "3"));
        assert_eq!(runs(false, &[&a, &b]), [&*a, &*b].concat());
        for torn in [&c[..1], &c[..20], &c[..c.len() - 1]] {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(torn).unwrap();
            assert_eq!(runs(false, &[&line("b", "4")]), [&*a, &*b].concat());
        }
        assert_eq!(runs(false, &[&line("b", "4"), &c]), [&*a, &*b, &*c].concat());
        assert_eq!(runs(true, &[&c]), c);
        // One that was cut short in its first line.
        std::fs::write(&path, &a[..9]).unwrap();
        assert_eq!(runs(false, &[&b]), b);
    }

    #[test]
    fn two_that_write_one_list_at_once_do_not_cut_each_other_s_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let list = List::begin(&path, false).unwrap();
        for anew in [false, true] {
            let refused = List::begin(&path, anew).err().unwrap();
            assert!(refused.to_string().contains("another campaign"), "{refused}");
        }
        drop(list);
        List::begin(&path, false).unwrap();
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let (mine, list) = (b"{\"mine\":1}\n".to_vec(), line("a", "1"));
        for foreign in [b"mine".to_vec(), mine.clone(), [&*list, b"mine"].concat(), [&*list, &*mine].concat()]
        {
            std::fs::write(&path, &foreign).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            assert_eq!(List::begin(&path, false).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (foreign, 0o644));
        }
        std::fs::write(&path, &list).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(List::begin(&link, false).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        // What is nobody's alone, as a device is, whoever is told to write there.
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o644), 0).unwrap();
        assert!(List::begin(&pipe, true).is_err());
        assert_eq!(mode(&pipe), 0o644);
    }

    #[test]
    fn a_list_that_is_gone_on_with_is_for_its_owner_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        for (anew, left) in [(false, line("a", "1")), (true, b"mine".to_vec())] {
            std::fs::write(&path, left).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            List::begin(&path, anew).unwrap();
            assert_eq!(mode(&path), OWN);
        }
    }
}
