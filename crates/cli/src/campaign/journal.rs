//! What a campaign over lines has done for good, so that the next run goes on from there: no line lost, none twice.
//!
//! `OUTPUT.partial` has the lines so far, `OUTPUT.journal` how many bytes of it count, and what they were made of. What stands behind was
//! written after the journal, and is made again.

use super::feed::Place;
use super::keys::{Known, Route};
use super::list::is_empty_or_absent;
use super::tally::Tally;
use crate::atomic::{give_name, parent};
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_sdk::KeyVersion;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const VERSION: u32 = 2;
/// As all files that commands write: for their owner.
pub(super) const OWN: u32 = 0o600;

/// How far a campaign has come.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    v: u32,
    /// The ids of the keys that are left and gone to.
    from: String,
    to: String,
    /// The versions of the key that is left, as they were before anything of it was looked at: the one for new work, and the newest.
    current: u32,
    newest: u32,
    input_bytes: u64,
    input_lines: u64,
    input_sha256: String,
    output_bytes: u64,
    /// The list of failures, if there is one: its path from the root, with what is no printable ASCII escaped.
    failures: Option<String>,
    failures_bytes: u64,
    tally: Tally,
}

/// What an earlier run has done.
pub(super) struct Resumed {
    /// The key that is left as it was then.
    pub(super) from: Known,
    pub(super) input_bytes: u64,
    pub(super) input_lines: u64,
    pub(super) input_sha256: String,
    pub(super) tally: Tally,
}

/// An output file that is being written, with its journal.
pub(super) struct Journal {
    path: PathBuf,
    force: bool,
    partial: File,
    failures: Option<List>,
    from: Known,
    to: String,
}

/// The list of failures as it grows.
struct List {
    path: PathBuf,
    /// As the mark has it.
    name: String,
    file: File,
}

impl List {
    fn name(path: &Path) -> Result<String, Failure> {
        let path = std::path::absolute(path).map_err(failed(path))?;
        Ok(path.as_os_str().as_encoded_bytes().escape_ascii().to_string())
    }

    fn open(path: &Path, bytes: u64) -> Result<Self, Failure> {
        let wrong = failed(path);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(OWN).open(path);
        let mut file = file.map_err(&wrong)?;
        cut(&mut file, bytes).map_err(&wrong)?;
        Ok(Self { path: path.to_owned(), name: Self::name(path)?, file })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::file("write", path, &error)
}

impl Journal {
    /// Begins to write an output, or goes on with one that was interrupted.
    pub(super) fn open(
        path: &Path,
        failures: Option<&Path>,
        force: bool,
        route: &Route,
    ) -> Result<(Self, Option<Resumed>), Failure> {
        let at = beside(path, ".partial");
        let partial = lock((path, &at), force, || ())?;
        let (from, to) = (route.from.clone(), route.to.id.to_string());
        let mark = Self::read(path, &at)?;
        let mut journal = Self { path: path.to_owned(), force, partial, failures: None, from, to };
        match &mark {
            Some(mark) => {
                journal.is_continued_by(mark, &at)?;
                journal.is_listed_in(mark, failures, &at)?;
                let version = |number| KeyVersion::new(number).ok_or_else(|| misfit(path, &at));
                let (current, newest) = (version(mark.current)?, version(mark.newest)?);
                journal.from = Known { current, newest, ..journal.from };
            }
            // Nothing says that what lies there is a campaign's.
            None if force => {}
            None => {
                let is_empty = journal.partial.metadata().map_err(failed(&at))?.len() == 0;
                let partial = (!is_empty).then_some(at.as_path());
                // An empty list is of a run that was interrupted before its first mark, or nobody's loss.
                if let Some(foreign) = partial.or(failures.filter(|list| !is_empty_or_absent(list))) {
                    let exists = io::Error::from(io::ErrorKind::AlreadyExists);
                    return Err(Failure::file("write", foreign, &exists));
                }
            }
        }
        let (output_bytes, failures_bytes) =
            mark.as_ref().map_or((0, 0), |mark| (mark.output_bytes, mark.failures_bytes));
        journal.failures = failures.map(|list| List::open(list, failures_bytes)).transpose()?;
        cut(&mut journal.partial, output_bytes).map_err(failed(&at))?;
        let from = journal.from.clone();
        let resumed = mark.map(|mark| Resumed {
            from,
            input_bytes: mark.input_bytes,
            input_lines: mark.input_lines,
            input_sha256: mark.input_sha256,
            tally: mark.tally,
        });
        Ok((journal, resumed))
    }

    /// The mark of an interrupted run. One without anything written is left from a run that ended.
    fn read(path: &Path, partial: &Path) -> Result<Option<Mark>, Failure> {
        let at = beside(path, ".journal");
        let bytes = match std::fs::read(&at) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file("read", &at, &error)),
        };
        let written = partial.metadata().map_or(0, |metadata| metadata.len());
        let mark: Option<Mark> = serde_json::from_slice(&bytes).ok();
        match mark {
            Some(mark) if mark.v == VERSION && written == 0 && mark.output_bytes > 0 => Ok(None),
            Some(mark) if mark.v == VERSION && written >= mark.output_bytes => Ok(Some(mark)),
            Some(_) | None => Err(misfit(path, partial)),
        }
    }

    fn is_continued_by(&self, mark: &Mark, partial: &Path) -> Result<(), Failure> {
        if mark.from == self.from.id.to_string() && mark.to == self.to {
            return Ok(());
        }
        let problem = format!("`{}` was begun with other keys", partial.display());
        Err(Failure::new(Exit::State, problem)
            .remedy("name the same keys to go on with it; remove it and its `.journal` to begin anew"))
    }

    /// Whether this is the list of failures that the mark speaks of, with all that it says is there.
    fn is_listed_in(&self, mark: &Mark, list: Option<&Path>, partial: &Path) -> Result<(), Failure> {
        let journal = beside(&self.path, ".journal");
        let anew = format!("remove `{}` and `{}` to begin anew", partial.display(), journal.display());
        if mark.failures != list.map(List::name).transpose()? {
            let (problem, remedy) = match &mark.failures {
                Some(name) => (format!("was begun with `--failures {name}`"), "name that list"),
                None => ("was begun without `--failures`".to_owned(), "leave it out"),
            };
            let problem = format!("`{}` {problem}", partial.display());
            return Err(
                Failure::new(Exit::State, problem).remedy(format!("{remedy} to go on with it; {anew}"))
            );
        }
        let Some(list) = list else { return Ok(()) };
        let bytes = match list.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Failure::file("read", list, &error)),
        };
        if bytes < mark.failures_bytes {
            let problem = format!("`{}` has less than this campaign has written there", list.display());
            return Err(
                Failure::new(Exit::State, problem).remedy(format!("put it back as it was; or {anew}"))
            );
        }
        Ok(())
    }

    /// That the inventory is another than the one that was begun with.
    pub(super) fn another_inventory(&self) -> Failure {
        let problem = "the inventory is not the one that this output was begun with";
        let (partial, journal) = (beside(&self.path, ".partial"), beside(&self.path, ".journal"));
        Failure::new(Exit::State, problem).remedy(format!(
            "name the same inventory to go on with it; remove `{}` and `{}` to begin anew",
            partial.display(),
            journal.display()
        ))
    }

    pub(super) fn write(&mut self, output: &[u8], failures: &[u8]) -> Result<(), Failure> {
        let written = self.partial.write_all(output);
        written.map_err(failed(&self.path))?;
        let Some(List { path, file, .. }) = &mut self.failures else { return Ok(()) };
        file.write_all(failures).map_err(failed(path))
    }

    /// Makes durable what was written, then says so.
    pub(super) fn mark(&mut self, place: &Place, tally: &Tally) -> Result<(), Failure> {
        let wrong = failed(&self.path);
        self.partial.sync_data().map_err(&wrong)?;
        let mut failures_bytes = 0;
        if let Some(List { path, file, .. }) = &mut self.failures {
            let wrong = failed(path);
            file.sync_data().map_err(&wrong)?;
            failures_bytes = file.stream_position().map_err(&wrong)?;
        }
        let mark = Mark {
            v: VERSION,
            from: self.from.id.to_string(),
            to: self.to.clone(),
            current: self.from.current.get(),
            newest: self.from.newest.get(),
            input_bytes: place.bytes,
            input_lines: place.lines,
            input_sha256: place.sha256(),
            output_bytes: self.partial.stream_position().map_err(&wrong)?,
            failures: self.failures.as_ref().map(|list| list.name.clone()),
            failures_bytes,
            tally: tally.clone(),
        };
        let at = beside(&self.path, ".journal");
        let text = serde_json::to_vec(&mark).map_err(|error| wrong(error.into()))?;
        crate::atomic::Target::new(Some(&at), true).write(&text)
    }

    /// Gives the output its name. What has that name by now is replaced only when told; until then all is kept to go on with.
    pub(super) fn finish(self, place: &Place, tally: &Tally) -> Result<(), Failure> {
        let mut journal = self;
        journal.mark(place, tally)?;
        let wrong = failed(&journal.path);
        give_name(&beside(&journal.path, ".partial"), &journal.path, journal.force).map_err(&wrong)?;
        // The name must be durable before the journal that could make it again goes.
        File::open(parent(&journal.path)).and_then(|directory| directory.sync_all()).map_err(&wrong)?;
        std::fs::remove_file(beside(&journal.path, ".journal")).map_err(&wrong)
    }
}

fn misfit(path: &Path, partial: &Path) -> Failure {
    let journal = beside(path, ".journal");
    Failure::new(Exit::Failure, format!("`{}` does not fit `{}`", journal.display(), partial.display()))
        .remedy("remove both to begin anew; the inventory itself is as it was")
}

/// Opens what is being written, for this process alone; `opened` is called before it is locked.
fn lock((path, at): (&Path, &Path), force: bool, opened: impl FnOnce()) -> Result<File, Failure> {
    let exists = || Failure::file("write", path, &io::Error::from(io::ErrorKind::AlreadyExists));
    let is_there = || !force && path.symlink_metadata().is_ok();
    if is_there() {
        return Err(exists());
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(OWN);
    // A link there would have the lines written elsewhere.
    let partial = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(at).map_err(failed(at))?;
    opened();
    partial.try_lock().map_err(|_| {
        Failure::new(Exit::State, format!("another campaign is writing `{}`", path.display()))
            .remedy("wait for it, or name another output")
    })?;
    // Another campaign may have come to its end meanwhile, and what was opened have the output's name by now.
    let held = partial.metadata().map_err(failed(at))?;
    if !at.metadata().is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
        let problem = format!("another campaign has just come to its end with `{}`", path.display());
        return Err(Failure::new(Exit::State, problem)
            .remedy("look at what it has written there; to write another one, name another output"));
    }
    if is_there() {
        // Nothing was begun.
        if held.len() == 0 {
            let _ = std::fs::remove_file(at);
        }
        return Err(exists());
    }
    Ok(partial)
}

/// Gives what an earlier build, or somebody else, has left to its owner alone. To be called once it is known to be what is written to, and not
/// of what is no file: `/dev/null` is everybody's.
pub(super) fn own(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => file.set_permissions(Permissions::from_mode(OWN)),
        false => Ok(()),
    }
}

/// Cuts a file to so many bytes, gives it to its owner alone, and stands at its end.
fn cut(file: &mut File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    own(file)?;
    file.seek(SeekFrom::Start(bytes)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    /// A list on a device would be for whoever names it, and for nobody else on the machine.
    #[test]
    fn what_is_no_file_stays_everybodys() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o644), 0).unwrap();
        let reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        assert!(List::open(&pipe, 0).is_err());
        own(&reader).unwrap();
        assert_eq!(mode(&pipe), 0o644);
    }

    /// Two campaigns with one output: whoever comes second writes over nothing, wherever the first one is.
    #[test]
    fn what_another_campaign_has_just_finished_is_not_gone_on_with() {
        for force in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (path, at) = (dir.path().join("out"), dir.path().join("out.partial"));
            let first = lock((&path, &at), force, || ()).unwrap();
            assert_eq!(lock((&path, &at), force, || ()).unwrap_err().exit(), Exit::State);
            std::fs::write(&at, b"done").unwrap();
            let ends = || {
                std::fs::rename(&at, &path).unwrap();
                drop(first);
            };
            let refused = lock((&path, &at), force, ends).unwrap_err();
            assert!(refused.problem().contains("just come to its end"), "{}", refused.problem());
            assert_eq!((std::fs::read(&path).unwrap(), at.exists()), (b"done".to_vec(), false));
        }
    }

    #[test]
    fn an_output_that_has_just_come_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (path, at) = (dir.path().join("out"), dir.path().join("out.partial"));
        let comes = || std::fs::write(&path, b"done").unwrap();
        assert!(lock((&path, &at), false, comes).is_err());
        assert!(!at.exists(), "nothing is left of what was not begun");
        assert!(lock((&path, &at), true, || ()).is_ok());
    }
}
