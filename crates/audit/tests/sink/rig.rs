//! A log on the machine's disk, and sites that sinks copy it to.

use crate::common::{self, id, signer, until};
use crate::receiver::{Authority, Mood, Receiver};
use holdfast_audit::Log;
use holdfast_audit::sink::syslog::{EXAMPLE_ENTERPRISE, Format};
use holdfast_audit::sink::{Destination, Health, Pace, Settings, Sink, file, syslog};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A log with its data directory.
pub struct Rig {
    pub dir: TempDir,
    pub log: Log,
}

impl Rig {
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Self::open(dir.path(), names);
        Self { dir, log }
    }

    fn open(data: &Path, names: &[&str]) -> Log {
        let (log, _) = Log::open(common::config(data)).unwrap();
        for name in names {
            log.register(&id(name), signer(name)).unwrap();
        }
        log
    }

    pub fn restart(self, names: &[&str]) -> Self {
        let Self { dir, log } = self;
        log.close().unwrap();
        let log = Self::open(dir.path(), names);
        Self { dir, log }
    }

    pub fn append(&self, name: &str, n: usize) {
        for _ in 0..n.div_ceil(50) {
            let tickets: Vec<_> = (0..50.min(n)).map(|_| common::append(&self.log, name)).collect();
            for ticket in tickets {
                ticket.wait_blocking().unwrap();
            }
        }
        self.log.flush_tree(&id(name)).unwrap();
    }

    pub fn cursor(&self) -> PathBuf {
        self.dir.path().join("sinks/siem/cursor")
    }

    pub fn bundle(&self, log: &str, number: u64) -> PathBuf {
        self.dir.path().join("audit").join(log).join(format!("tile/entries/{number:03}"))
    }

    pub fn sink(&self, logs: &[&str], destination: Destination) -> Sink {
        Sink::start(self.log.feed(), settings(logs), destination).unwrap()
    }
}

pub fn settings(logs: &[&str]) -> Settings {
    let pace = Pace {
        look: Duration::from_millis(2),
        batch_bytes: 8 << 10,
        unsettled_bytes: 32 << 10,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
    };
    Settings { name: "siem".parse().unwrap(), logs: logs.iter().map(|log| id(log)).collect(), pace, seed: 7 }
}

#[track_caller]
pub fn caught_up(sink: &Sink) -> Health {
    until("the sink has caught up", || {
        let Health { lag, behind, .. } = sink.health();
        lag == 0 && behind.is_zero()
    });
    sink.health()
}

/// What a site got: origin, index and entry, in the order of arrival.
pub type Got = (String, u64, String);

/// Where entries go.
pub trait Site {
    fn destination(&self) -> Destination;
    fn got(&self) -> Vec<Got>;
    /// Takes nothing more, and fails in the middle of it.
    fn fail(&self);
    fn mend(&self);
    /// Whether it never gets anything twice but after a crash.
    const EXACTLY_ONCE: bool;
}

/// A file.
pub struct FileSite {
    dir: TempDir,
}

impl FileSite {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("log.jsonl")
    }

    fn aside(&self) -> PathBuf {
        self.dir.path().join("aside")
    }
}

impl Site for FileSite {
    const EXACTLY_ONCE: bool = true;

    fn destination(&self) -> Destination {
        Destination::File(file::Settings { path: self.path() })
    }

    fn got(&self) -> Vec<Got> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let line = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let (_, entry) = line.split_once("\"entry\":").unwrap();
            let origin = value["log"].as_str().unwrap().to_owned();
            (origin, value["index"].as_u64().unwrap(), entry.strip_suffix('}').unwrap().to_owned())
        };
        text.lines().map(line).collect()
    }

    fn fail(&self) {
        std::fs::rename(self.path(), self.aside()).unwrap();
        std::fs::create_dir(self.path()).unwrap();
    }

    fn mend(&self) {
        std::fs::remove_dir(self.path()).unwrap();
        std::fs::rename(self.aside(), self.path()).unwrap();
    }
}

/// A syslog receiver.
pub struct SyslogSite {
    pub authority: Authority,
    pub receiver: Receiver,
}

impl SyslogSite {
    pub fn new() -> Self {
        let authority = Authority::new();
        let receiver = Receiver::start(&authority);
        Self { authority, receiver }
    }

    pub fn settings(&self) -> syslog::Settings {
        syslog::Settings {
            address: format!("127.0.0.1:{}", self.receiver.port()),
            server_name: "siem.example".to_owned(),
            ca_file: self.authority.path("ca.pem"),
            client: Some((self.authority.path("gateway.pem"), self.authority.path("gateway.key"))),
            format: Format { hostname: String::new(), enterprise: EXAMPLE_ENTERPRISE },
            session: Duration::from_millis(20),
            stall: Duration::from_secs(60),
        }
    }
}

impl Site for SyslogSite {
    const EXACTLY_ONCE: bool = false;

    fn destination(&self) -> Destination {
        Destination::Syslog(self.settings())
    }

    fn got(&self) -> Vec<Got> {
        let message = |message: String| {
            let (head, entry) = message.split_once('\u{feff}').unwrap();
            let param = |name: &str| {
                let (_, rest) = head.split_once(&format!(" {name}=\"")).unwrap();
                rest.split_once('"').unwrap().0.to_owned()
            };
            (param("origin"), param("index").parse().unwrap(), entry.to_owned())
        };
        self.receiver.messages().into_iter().map(message).collect()
    }

    fn fail(&self) {
        self.receiver.set(Mood::Resetting);
    }

    fn mend(&self) {
        self.receiver.set(Mood::Reading);
    }
}
