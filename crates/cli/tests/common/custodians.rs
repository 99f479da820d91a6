//! Custodians of a root key: real age identities, and what they type.

use super::{HOLDFAST, bare, code, stderr, text};
use age::secrecy::ExposeSecret as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::JoinHandle;

/// The recipient of an identity file, which is made if it is not there.
pub fn identity(path: &Path) -> String {
    if let Ok(there) = std::fs::read_to_string(path) {
        let identity: age::x25519::Identity = there.trim().parse().unwrap();
        return identity.to_public().to_string();
    }
    let identity = age::x25519::Identity::generate();
    std::fs::write(path, format!("{}\n", identity.to_string().expose_secret())).unwrap();
    identity.to_public().to_string()
}

/// A command that asks custodians one line at a time.
pub struct Dialogue {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: BufReader<std::process::ChildStderr>,
    stdout: JoinHandle<String>,
}

impl Dialogue {
    pub fn begin<S: AsRef<std::ffi::OsStr>>(line: impl IntoIterator<Item = S>) -> Self {
        Self::begin_in(&std::env::temp_dir(), line)
    }

    /// One whose temporary files are to be here.
    pub fn begin_in<S: AsRef<std::ffi::OsStr>>(temporary: &Path, line: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(HOLDFAST);
        command.env("TMPDIR", temporary).args(line);
        bare(&mut command);
        Self::of(command)
    }

    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut out = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, stdin, stderr, stdout }
    }

    /// What it says, up to the first line that has this text; that line last.
    #[track_caller]
    pub fn until(&mut self, words: &str) -> Vec<String> {
        let mut said = vec![];
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it ended without `{words}`: {said:#?}");
            said.push(line.trim_end().to_owned());
            if line.contains(words) {
                return said;
            }
        }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Nothing more is said.
    pub fn hush(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ends.
    pub fn ends(mut self) -> Output {
        self.stdin = None;
        let mut stderr = vec![];
        self.stderr.read_to_end(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        Output { status, stdout: self.stdout.join().unwrap().into_bytes(), stderr }
    }

    #[track_caller]
    pub fn succeeds(self) -> String {
        let output = self.ends();
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Who is asked what: name, file, challenge, from the lines that a ceremony begins with.
pub fn asked(said: &[String]) -> Vec<(String, PathBuf, String)> {
    let asked = said.iter().filter_map(|line| {
        let (name, rest) = line.split_once(": holdfast share prove --identity FILE ")?;
        let (file, challenge) = rest.split_once(" --challenge ")?;
        Some((name.to_owned(), PathBuf::from(file), challenge.to_owned()))
    });
    asked.collect()
}

/// What a custodian answers.
pub fn prove(share: &Path, identity: &Path, challenge: &str) -> Output {
    let line = ["share", "prove", &text(share), "--identity", &text(identity), "--challenge", challenge];
    super::holdfast(line).output().unwrap()
}
