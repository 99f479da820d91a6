//! The real binary as it runs.

use super::code;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

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
            log.read_to_string(&mut text).unwrap();
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

    /// What its operator's own listener answers, in clear.
    pub fn admin(&self, path: &str) -> String {
        self.try_admin(path).unwrap()
    }

    /// The same of one that may not wait for the request: to whom time runs faster, all of it is late.
    pub fn try_admin(&self, path: &str) -> io::Result<String> {
        let address = self.ready.split("http://").nth(1).unwrap();
        let address = address.split(['/', ' ', ';', '\n']).next().unwrap();
        let mut stream = TcpStream::connect(address)?;
        // At once: pieces may come too late.
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Orders it to end, which it must do in order, and gives what it said.
    #[track_caller]
    pub fn ends(self) -> String {
        let (status, said) = self.stop();
        assert_eq!(code(status), 0, "{said}");
        said
    }

    /// Waits until it ends by itself, and gives how.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// All that it said, once it and whoever it started have ended.
    pub fn said(&mut self) -> String {
        self.log.take().unwrap().join().unwrap()
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
