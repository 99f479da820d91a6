//! A gateway of the test's own, run by the real binary on a free port, and commands against it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here is a test, and each uses its own part"
)]

pub mod mount;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use tempfile::TempDir;

pub const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");
pub const PLUGIN: &str = env!("CARGO_BIN_EXE_age-plugin-holdfast");

/// A command of the binary with an environment that says nothing.
pub fn holdfast<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(HOLDFAST);
    command.args(arguments).stdin(Stdio::null());
    bare(&mut command);
    command
}

pub fn bare(command: &mut Command) {
    for name in ["URL", "CACERT", "CERT", "KEY", "TOKEN", "TENANT", "WITNESS"] {
        command.env_remove(format!("HOLDFAST_{name}"));
    }
    command.env_remove("NOTIFY_SOCKET");
}

pub fn code(status: ExitStatus) -> i32 {
    status.code().expect("ended by itself")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A running gateway; stopped when dropped.
pub struct Server {
    child: Child,
    /// What it says on stderr, read to its end so that it never waits for us.
    log: Option<JoinHandle<String>>,
    pub ready: String,
    pub url: String,
}

impl Server {
    /// Starts it, and waits for its line.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut log, &mut text).unwrap();
            text
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        if ready.is_empty() {
            panic!("it did not start: {}", log.join().unwrap());
        }
        let url = ready
            .split([' ', ';', '\n'])
            .find(|word| word.starts_with("https://") || word.starts_with("http://"))
            .unwrap_or_default()
            .to_owned();
        Self { child, log: Some(log), ready, url }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the kernel says of its memory now, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Orders it to end, and gives how it ended and what it said.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        (status, self.log.take().unwrap().join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Stopped already, most often.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A dev gateway with what it wrote for its person.
pub struct Dev {
    pub dir: TempDir,
    pub server: Server,
    pub environment: Vec<(String, String)>,
}

impl Dev {
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let server = Server::start(holdfast([
            OsStr::new("serve"),
            OsStr::new("--dev"),
            OsStr::new("--listen"),
            OsStr::new("127.0.0.1:0"),
            OsStr::new("--data"),
            data.as_os_str(),
        ]));
        let text = std::fs::read_to_string(data.join("dev.env")).unwrap();
        let environment = text
            .lines()
            .map(|line| {
                let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('\'').to_owned())
            })
            .collect();
        Self { dir, server, environment }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file with these bytes.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        text(&path)
    }

    pub fn token(&self) -> &str {
        let token = self.environment.iter().find(|(name, _)| name == "HOLDFAST_TOKEN");
        &token.unwrap().1
    }

    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = holdfast(line);
        command.envs(self.environment.iter().cloned()).current_dir(self.dir.path());
        command
    }

    pub fn run(&self, line: &[&str]) -> Output {
        self.run_with(line, b"")
    }

    /// Runs a command with something on stdin.
    pub fn run_with(&self, line: &[&str], stdin: &[u8]) -> Output {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = stdin.to_vec();
        // A command that fails early reads none of it.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_no_secret(self, &output);
        output
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub fn ok(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert_eq!(code(output.status), 0, "{line:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Runs a command that must end with this code and an error with a remedy; gives its stderr.
    pub fn fails(&self, line: &[&str], with: i32) -> String {
        let output = self.run(line);
        let said = stderr(&output);
        assert_eq!(code(output.status), with, "{line:?}: {said}");
        assert!(said.contains("error: ") && (with == 2 || said.contains("help: ")), "{line:?}: {said}");
        said
    }
}

/// No command ever says the token.
fn assert_no_secret(dev: &Dev, output: &Output) {
    let secret = dev.token().splitn(3, '_').nth(2).unwrap();
    assert!(secret.len() > 20);
    assert!(!stderr(output).contains(secret) && !stdout(output).contains(secret), "a command says the token");
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Whether a tool is there. Where it must be, its absence is a failure; otherwise the test is skipped, and says so.
pub fn tool(name: &str) -> bool {
    let there =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        assert!(
            std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(),
            "`{name}` is not installed, and HOLDFAST_REQUIRE_TOOLS is set"
        );
        eprintln!("SKIPPED: `{name}` is not installed; HOLDFAST_REQUIRE_TOOLS=1 makes that a failure");
    }
    there
}
