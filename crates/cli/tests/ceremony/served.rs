//! `holdfast serve` and its console.

use crate::common::{code, holdfast, text};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

pub struct Served {
    child: Child,
    console: BufReader<ChildStdout>,
    log: Option<JoinHandle<String>>,
    /// Its first line.
    pub line: String,
    pub url: String,
    pub fingerprint: String,
}

impl Served {
    pub fn start(data: &Path) -> Self {
        Self::start_with(&["--data", &text(data)])
    }

    /// With these options besides.
    pub fn start_with(options: &[&str]) -> Self {
        let line = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::run(holdfast(line.iter().chain(options)))
    }

    /// What something else runs for us.
    pub fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let console = BufReader::new(child.stdout.take().unwrap());
        let (line, url, fingerprint) = Default::default();
        let mut served = Self { child, console, log: Some(log), line, url, fingerprint };
        served.line = served.next_line();
        if served.line.is_empty() {
            panic!("it did not start: {}", served.log.take().unwrap().join().unwrap());
        }
        served.url = served.line.split([' ', ';']).nth(1).unwrap().to_owned();
        let fingerprint = served.line.split_once("fingerprint ").map(|(_, shown)| shown.to_owned());
        served.fingerprint = fingerprint.unwrap_or_default();
        served
    }

    /// What its console shows next.
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.console.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// It is sealed again, at the same address, with another fresh key.
    #[track_caller]
    pub fn is_sealed_again(&mut self) {
        let before = self.fingerprint.clone();
        self.line = self.next_line();
        assert!(self.line.starts_with(&format!("sealed {}", self.url)), "{}", self.line);
        self.fingerprint = self.line.split_once("fingerprint ").unwrap().1.to_owned();
        assert_ne!(self.fingerprint, before);
    }

    /// What the operator's own listener answers.
    pub fn admin(&self, path: &str) -> String {
        let address = self.line.split("http://").nth(1).unwrap().split(['/', ';']).next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The files that it has open; its memory is closed, and so only root can look.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())) else {
            assert!(!rustix::process::geteuid().is_root());
            eprintln!("SKIPPED: only root sees which files the gateway has open");
            return vec![];
        };
        descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn ends_by_kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Somebody else has killed it.
    pub fn was_killed(mut self) {
        self.child.wait().unwrap();
    }

    /// It ends by itself: its code, and what it said.
    pub fn fails(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        (code(status), self.log.take().unwrap().join().unwrap())
    }

    /// Orders it to end, which it must do in order, and gives what it said.
    #[track_caller]
    pub fn ends(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        let said = self.log.take().unwrap().join().unwrap();
        assert_eq!(code(status), 0, "{said}");
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already, most often.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
