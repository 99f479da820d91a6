//! Debian's rsyslog as a receiver over mutual TLS: killed and started again while the gateway works, it has every acknowledged operation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::{new_key, tenant};
use common::wait::until;
use common::{Server, holdfast, text};
use holdfast_audit::reader::LogReader;
use holdfast_sdk::Tenant;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const RSYSLOGD: &str = "/usr/sbin/rsyslogd";
/// Long enough to send some things in one.
const SESSION_SECONDS: u64 = 4;
/// Operations in each part of the test.
const LOAD: usize = 150;
/// So few that a system takes all of them before anybody reads.
const FEW: usize = 20;

/// An authority, and certificates of the receiver and of the gateway.
fn certificates(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "siem authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for name in ["siem", "gateway"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();
        std::fs::write(dir.join(format!("{name}.pem")), leaf).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A running rsyslogd; killed when dropped.
struct Rsyslog {
    child: Child,
}

impl Rsyslog {
    /// Starts it on a port, 0 for any, and waits until it listens there; gives the port.
    fn start(dir: &Path, port: u16) -> (Self, u16) {
        let (told, work) = (dir.join("port"), dir.join("work"));
        let _none_there = std::fs::remove_file(&told);
        std::fs::create_dir_all(&work).unwrap();
        // As docs/operate/sinks.md says.
        let config = format!(
            r#"global(
  workDirectory="{0}/work"
  maxMessageSize="128k"
  defaultNetstreamDriverCAFile="{0}/ca.pem"
  defaultNetstreamDriverCertFile="{0}/siem.pem"
  defaultNetstreamDriverKeyFile="{0}/siem.key"
)
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1"
       streamDriver.authMode="x509/name" permittedPeer=["gateway.example"])
input(type="imtcp" address="127.0.0.1" port="{port}" listenPortFileName="{0}/port" ruleset="holdfast")
template(name="raw" type="string" string="%rawmsg%\n")
ruleset(name="holdfast" queue.type="direct") {{
  action(type="omfile" file="{0}/audit.log" template="raw" fileCreateMode="0600")
}}
syslog.* action(type="omfile" file="{0}/own.log")
"#,
            dir.display()
        );
        let path = dir.join("rsyslog.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new(RSYSLOGD)
            .args(["-n", "-f", &text(&path), "-i", &text(&dir.join("pid"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rsyslog = Self { child };
        // It tells a port only if that was its own choice.
        let port = || match port {
            0 => std::fs::read_to_string(&told).ok()?.trim().parse().ok(),
            port => Some(port),
        };
        until("rsyslogd listens", || {
            port().is_some_and(|port| TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        (rsyslog, port().unwrap())
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Without a chance to finish anything.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Gateway {
    server: Server,
    data: PathBuf,
}

impl Gateway {
    fn start(dir: &Path, port: u16) -> Self {
        let data = dir.join("data");
        let config = format!(
            r#"data = "{0}/data"
[[sink]]
name = "siem"
kind = "syslog"
address = "127.0.0.1:{port}"
server_name = "siem.example"
ca_file = "{0}/ca.pem"
certificate_file = "{0}/gateway.pem"
key_file = "{0}/gateway.key"
session_seconds = {SESSION_SECONDS}
"#,
            dir.display()
        );
        let path = dir.join("holdfast.toml");
        std::fs::write(&path, config).unwrap();
        let line = ["serve", "--dev", "--config", &text(&path), "--listen", "127.0.0.1:0"];
        let server = Server::start(holdfast(line));
        Self { server, data }
    }

    fn tenant(&self) -> Tenant {
        tenant(&self.data, &self.server.url)
    }

    fn metric(&self, name: &str) -> u64 {
        let answer = self.server.admin("/metrics");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).trim().parse().unwrap()
    }

    fn is_complete(&self) -> bool {
        let entries = self.metric("holdfast_log_entries");
        self.metric(r#"holdfast_sink_entries{sink="siem"}"#) == entries
    }
}

/// Encrypts, and gives the operations that were acknowledged.
async fn encrypt(tenant: &Tenant, n: usize) -> Vec<String> {
    let mut operations = vec![];
    for number in 0..n {
        let context = format!("{number}");
        let sealed = tenant.encrypt(&"k".parse().unwrap(), b"4711", &[("id", &context)]).await.unwrap();
        operations.push(sealed.operation.unwrap().to_string());
    }
    operations
}

/// What the receiver's file has: of each origin the entries by their index.
fn received(file: &Path) -> BTreeMap<String, BTreeMap<u64, String>> {
    let mut origins = BTreeMap::<String, BTreeMap<u64, String>>::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let (head, entry) = line.split_once('\u{feff}').unwrap_or_else(|| panic!("no entry in {line}"));
        let param = |name: &str| {
            let (_, rest) = head.split_once(&format!(" {name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let entries = origins.entry(param("origin")).or_default();
        let before = entries.insert(param("index").parse().unwrap(), entry.to_owned());
        assert!(before.is_none_or(|before| before == entry), "two of one index differ: {line}");
    }
    origins
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_operation_is_in_the_receiver_s_file() {
    if !common::tool(RSYSLOGD) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir);
    let (rsyslog, port) = Rsyslog::start(dir, 0);
    let gateway = Gateway::start(dir, port);
    let tenant = gateway.tenant();
    tenant.create_key(&new_key("k")).await.unwrap();
    let mut told = encrypt(&tenant, LOAD).await;
    until("rsyslog has everything", || gateway.is_complete());

    // In the middle of a session its system acknowledges what comes, and it reads nothing of that: then it is killed.
    told.extend(encrypt(&tenant, 1).await);
    let file = dir.join("audit.log");
    let newest = told.last().unwrap().to_uppercase();
    until("a session has begun", || std::fs::read_to_string(&file).unwrap().contains(&newest));
    rsyslog.signal(Signal::STOP);
    told.extend(encrypt(&tenant, FEW).await);
    let behind = r#"holdfast_sink_behind_seconds{sink="siem"}"#;
    until("the session's end is waited for", || gateway.metric(behind) > SESSION_SECONDS + 1);
    rsyslog.kill();
    told.extend(encrypt(&tenant, LOAD).await);
    let failures = r#"holdfast_sink_failures_total{sink="siem"}"#;
    until("the sink sees it", || gateway.metric(failures) > 1);
    let lag = r#"holdfast_sink_lag_entries{sink="siem"}"#;
    until("all that waits is counted", || gateway.metric(lag) >= (LOAD + FEW) as u64);

    let (rsyslog, _) = Rsyslog::start(dir, port);
    told.extend(encrypt(&tenant, LOAD).await);
    until("rsyslog has everything again", || gateway.is_complete());
    // What comes last is exported before the gateway ends.
    told.extend(encrypt(&tenant, LOAD).await);
    let data = gateway.data.clone();
    let (status, said) = gateway.server.stop();
    assert!(status.success(), "{said}");
    rsyslog.kill();

    let origins = received(&file);
    let mut operations = vec![];
    for name in ["dev", "_gateway"] {
        let reader = LogReader::open(&data.join("audit").join(name)).unwrap();
        let entries = &origins[&reader.checkpoint().origin];
        let log: BTreeMap<u64, String> = reader
            .entries(0)
            .map(|entry| entry.map(|(index, bytes)| (index, String::from_utf8(bytes).unwrap())).unwrap())
            .collect();
        assert_eq!(entries.keys().collect::<Vec<_>>(), log.keys().collect::<Vec<_>>(), "{name}: no gaps");
        assert_eq!(*entries, log);
        let events = entries.values().map(|entry| serde_json::from_str::<serde_json::Value>(entry).unwrap());
        operations.extend(events.map(|event| event["operation"].as_str().unwrap().to_lowercase()));
    }
    assert_eq!(told.len(), 4 * LOAD + FEW + 1);
    for operation in &told {
        assert!(operations.contains(&operation.to_lowercase()), "{operation} is not in rsyslog's file");
    }
}
