//! The programs of `tpm2-tools`, each for one command: bounded in time, secrets through pipes alone, files in memory alone.

use super::{Place, unavailable};
use holdfast_core::{Error, Secret};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::borrow::Cow;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A TPM may take seconds to make a key. What takes longer hangs.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// Nothing that they say is longer; and no more than a pipe holds, so that they need not be read while they run.
const MAX_SAID: usize = 16 << 10;
/// Where they are looked for. Not the caller's path: they are given the root key.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// File systems that are in memory alone: tmpfs, ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// Where one of these is mounted.
const PLACES: [&str; 3] = ["/dev/shm", "/run", "/tmp"];

/// A directory of this process's own, in memory: the tools keep what they need from one command to the next in it, keys of sessions for instance.
/// Removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn make() -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let in_memory = |place: &&&str| {
            let kind = rustix::fs::statfs(**place).map(|found| found.f_type);
            kind.is_ok_and(|kind| u64::try_from(kind).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
        };
        let mut refused = None;
        for place in PLACES.iter().filter(in_memory) {
            // What a killed process of the same number left is not ours.
            for _ in 0..16 {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let path = Path::new(place).join(format!("holdfast-tpm-{}-{number}", std::process::id()));
                match fs::DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => return Ok(Self(path)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
        }
        let error = unavailable("there is no directory in memory for the TPM's tools")
            .remedy("let the gateway's user write to `/dev/shm`, or to another tmpfs at `/run` or `/tmp`");
        Err(match refused {
            Some(refused) => error.because(refused),
            None => error,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)
        };
        write().map_err(|error| lost(&path, error))
    }

    pub(super) fn read(&self, name: &str, most: usize) -> Result<Vec<u8>, Error> {
        let path = self.path(name);
        let read = || {
            let mut bytes = Vec::new();
            let limit = u64::try_from(most).unwrap_or(u64::MAX);
            fs::File::open(&path)?.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| lost(&path, error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // In memory, and gone with the machine at the latest.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lost(path: &Path, error: io::Error) -> Error {
    unavailable("a file in memory cannot be used")
        .remedy("look at the cause, and at the space of that file system")
        .because(format!("`{}`: {error}", path.display()))
}

/// One command.
pub(super) struct Tool<'a> {
    program: &'static str,
    words: Vec<Word<'a>>,
    stdin: Option<&'a [u8]>,
    aloud: bool,
}

/// One word of a command line.
enum Word<'a> {
    Plain(Cow<'a, str>),
    /// A file of the scratch directory, behind a prefix.
    File(&'static str, &'static str),
}

impl<'a> Tool<'a> {
    pub(super) fn new(program: &'static str) -> Self {
        Self { program, words: vec![], stdin: None, aloud: false }
    }

    pub(super) fn flag(mut self, flag: &str) -> Self {
        self.words.push(Word::Plain(Cow::Owned(flag.to_owned())));
        self
    }

    pub(super) fn option(self, flag: &str, value: &str) -> Self {
        self.flag(flag).flag(value)
    }

    /// A file of the scratch directory.
    pub(super) fn file(self, flag: &str, name: &'static str) -> Self {
        self.prefixed_file(flag, "", name)
    }

    pub(super) fn prefixed_file(self, flag: &str, prefix: &'static str, name: &'static str) -> Self {
        let mut tool = self.flag(flag);
        tool.words.push(Word::File(prefix, name));
        tool
    }

    pub(super) fn operand(mut self, name: &'static str) -> Self {
        self.words.push(Word::File("", name));
        self
    }

    pub(super) fn operand_text(self, text: &str) -> Self {
        self.flag(text)
    }

    /// What goes to its standard input: the only way of a secret into it. Less than a pipe holds.
    pub(super) fn stdin(mut self, bytes: &'a [u8]) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// One that is to say what it found; without it, some say it in words beside a secret.
    pub(super) fn aloud(mut self) -> Self {
        self.aloud = true;
        self
    }

    /// Runs it to its end; gives what it said.
    pub(super) fn run(self, place: &Place, scratch: &Scratch) -> Result<Secret, Error> {
        let Self { program, words, stdin, aloud } = self;
        let mut command = Command::new(program);
        // Nothing of the gateway's environment: it could name another TPM.
        command.env_clear().env("PATH", PATH).current_dir(&scratch.0);
        command.arg("-T").arg(place.to_string());
        if !aloud {
            command.arg("-Q");
        }
        for word in words {
            match word {
                Word::Plain(text) => command.arg(&*text),
                Word::File(prefix, name) => command.arg(format!("{prefix}{name}")),
            };
        }
        let feed = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let child = command.stdin(feed).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.map_err(|error| not_run(program, &error))?;
        let Ended { succeeded, said, complaint } =
            wait(Running(child), stdin, &PATIENCE).map_err(|error| {
                if error.kind() == io::ErrorKind::TimedOut {
                    return unavailable(format!(
                        "`{program}` does not end: the TPM at `{place}` does not answer"
                    ))
                    .remedy("look at the TPM, and start again");
                }
                unavailable(format!("`{program}` cannot be used")).remedy("look at the cause").because(error)
            })?;
        if succeeded {
            return Ok(said);
        }
        let is_unreachable = complaint.contains("Could not load tcti");
        let (problem, remedy) = match is_unreachable {
            true => (
                format!("there is no TPM at `{place}`, or it cannot be used"),
                "look whether it is switched on in the firmware, and let the gateway's user use it (on Debian: the group `tss`)",
            ),
            false => (
                format!("the TPM at `{place}` refused a command of `{program}`"),
                "look at the cause; a TPM whose owner hierarchy has a password cannot be used",
            ),
        };
        Err(unavailable(problem).remedy(remedy).because(first_error(&complaint)))
    }
}

fn not_run(program: &str, error: &io::Error) -> Error {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let remedy = match is_missing {
        true => "install `tpm2-tools` (Debian: with `libtss2-tcti-device0`)",
        false => "look at the cause",
    };
    unavailable(format!("`{program}` cannot be run")).remedy(remedy).because(error.to_string())
}

/// The line that says most: the last cause that the tool itself names.
fn first_error(complaint: &str) -> String {
    let own = |line: &&str| line.starts_with("ERROR: ") && !line.contains("Unable to run");
    let line = complaint.lines().find(own).or_else(|| complaint.lines().last()).unwrap_or("it said nothing");
    line.trim_start_matches("ERROR: ").chars().take(400).collect()
}

struct Ended {
    succeeded: bool,
    said: Secret,
    complaint: String,
}

/// A tool's process. Dropping it ends it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, most often.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn wait(mut running: Running, stdin: Option<&[u8]>, patience: &Timespec) -> io::Result<Ended> {
    let child = &mut running.0;
    if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(bytes)?;
    }
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut ends, Some(patience))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let status = child.wait()?;
    let limit = u64::try_from(MAX_SAID).unwrap_or(u64::MAX);
    let mut said = Secret::new(Vec::with_capacity(MAX_SAID));
    let mut complaint = Vec::new();
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.take(limit).read_to_end(said.expose_mut())?;
        stderr.take(limit).read_to_end(&mut complaint)?;
    }
    let complaint = String::from_utf8_lossy(&complaint).into_owned();
    Ok(Ended { succeeded: status.success(), said, complaint })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, stdin: Option<&[u8]>, patience: &Timespec) -> io::Result<Ended> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait(Running(child), stdin, patience)
    }

    #[test]
    fn a_tool_that_hangs_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        // Whoever holds the lock is alive.
        let hangs = format!("exec 9>'{0}'; flock 9; exec sleep 1000", lock.display());
        let error = run(&hangs, None, &Timespec { tv_sec: 0, tv_nsec: 300_000_000 }).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let free = Command::new("flock").args(["-n", lock.to_str().unwrap(), "true"]).status().unwrap();
        assert!(free.success(), "it is still there");
    }

    #[test]
    fn what_a_tool_says_and_complains_of_is_told_apart_and_bounded() {
        let ended = run("cat; echo 'ERROR: no' >&2; exit 3", Some(b"secret"), &PATIENCE).unwrap();
        assert_eq!((ended.succeeded, ended.said.expose()), (false, &b"secret"[..]));
        assert_eq!(first_error(&ended.complaint), "no");
        let ended = run("head -c 60000 /dev/zero", None, &PATIENCE).unwrap();
        assert_eq!(ended.said.len(), MAX_SAID);
        assert_eq!(first_error("WARNING: x\nERROR: the cause\nERROR: Unable to run tpm2_x\n"), "the cause");
        assert_eq!(first_error(""), "it said nothing");
    }

    #[test]
    fn what_is_kept_between_commands_is_in_memory_closed_and_removed() {
        use std::os::unix::fs::MetadataExt as _;
        let scratch = Scratch::make().unwrap();
        let path = scratch.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        scratch.write("x", b"12345").unwrap();
        assert_eq!(fs::metadata(path.join("x")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(scratch.read("x", 3).unwrap(), b"123");
        let kind = rustix::fs::statfs(&path).unwrap().f_type;
        assert!(IN_MEMORY.contains(&u64::try_from(kind).unwrap()));
        drop(scratch);
        assert!(!path.exists());
    }
}
