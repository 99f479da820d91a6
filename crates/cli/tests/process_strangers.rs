//! Strangers in any number, against the real process: bounded memory, a bounded log, exact counts, and a custodian's stop in the middle of it.

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

use common::dev::token;
use common::log::events;
use common::mount::Tmpfs;
use common::{Server, holdfast, text};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Within which a stop order must have been answered. Far more than it takes, on a machine that is busy with everything else.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Requests that are sent before the first answer is read.
const BURST: u64 = 50;
/// Strangers who ask at the same time.
const STRANGERS: u8 = 8;

/// Bytes of the process's memory for each connection, its TLS and HTTP buffers included.
const PER_CONNECTION: u64 = 64 << 10;

fn is_slow() -> bool {
    std::env::var_os("HOLDFAST_SLOW").is_some()
}

struct Gateway {
    server: Server,
    data: PathBuf,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Gateway {
    fn start(data: PathBuf, config: &Path, limits: &str) -> Self {
        let settings = format!(
            "data = \"{}\"\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\nenabled = false\n[limits]\n{limits}\n",
            text(&data)
        );
        std::fs::write(config, settings).unwrap();
        let server = Server::start(holdfast(["serve", "--dev", "--config", &text(config)]));
        let address = server.url.trim_start_matches("https://").parse().unwrap();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&std::fs::read(data.join("tls/ca.pem")).unwrap()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let mut tls = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { server, data, address, tls: Arc::new(tls) }
    }

    /// A connection from one of this machine's loopback addresses.
    async fn tcp(&self, from: u8) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
        socket.connect(self.address).await
    }

    async fn connect(&self, from: u8) -> io::Result<TlsStream<TcpStream>> {
        let tcp = self.tcp(from).await?;
        let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await
    }

    /// Posts as the developer, who is a custodian too, over a connection of its own; gives status and body.
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let connected = tokio::time::timeout(PATIENCE, self.connect(1)).await.expect("a place");
        let mut stream = connected.unwrap();
        let request = format!(
            "POST /v1/tenants/dev/{path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            token(&self.data),
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![];
        // How the connection ends after its answer is not looked at.
        let _ended = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse();
        (status.unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// A key is suspended at once, and by that stopped.
    async fn stops_at_once(&self, key: &str) {
        let begin = Instant::now();
        let (status, said) = self.post(&format!("keys/{key}/suspend"), "{}").await;
        let took = begin.elapsed();
        assert_eq!(status, 200, "{said}");
        assert!(took < AT_ONCE, "the stop order took {took:?}");
        let (status, said) = self.post(&format!("keys/{key}/encrypt"), r#"{"plaintext":""}"#).await;
        assert_eq!(status, 409, "{said}");
    }
}

/// What the log of `_gateway` says of noise, by reason; complete after the end.
fn noise(data: &Path) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for event in events(&data.join("audit/_gateway")) {
        if event["action"] == "noise" {
            assert_eq!(event["context"]["source"], "127.0.0.0/24", "{event}");
            let reason = event["context"]["reason"].as_str().unwrap().to_owned();
            let count: u64 = event["context"]["count"].as_str().unwrap().parse().unwrap();
            *counts.entry(reason).or_default() += count;
        }
    }
    counts
}

/// What strangers send, and what they are counted as.
const KNOCKS: [(&str, &str); 5] = [
    ("GET /v1/tenants/dev/keys HTTP/1.1\r\nhost: g\r\n\r\n", "unauthenticated"),
    ("GET /wp-login.php HTTP/1.1\r\nhost: g\r\n\r\n", "no-route"),
    (
        "GET /v1/tenants/nowhere/keys HTTP/1.1\r\nhost: g\r\nauthorization: Bearer hf_00000000000000000000000000_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\r\n\r\n",
        "unauthenticated",
    ),
    (
        "POST /v1/tenants/dev/keys/k/suspend HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\n{\"x",
        "unauthenticated",
    ),
    ("GET /v1/status HTTP/1.1\r\nhost: g\r\nauthorization: nonsense\r\n\r\n", "unauthenticated"),
];

/// Sends one request again and again, many before the first answer, until there have been enough in all. Gives how many it sent.
async fn knock(gateway: &Gateway, from: u8, request: &str, enough: u64, told: &AtomicU64) -> u64 {
    let burst = request.repeat(usize::try_from(BURST).unwrap());
    let mut stream = gateway.connect(from).await.unwrap();
    let (mut buffer, mut sent) = (vec![0; 64 << 10], 0);
    while told.fetch_add(BURST, Ordering::Relaxed) < enough {
        stream.write_all(burst.as_bytes()).await.unwrap();
        sent += BURST;
        let (mut answers, mut kept) = (0, 0);
        while answers < BURST {
            let read = stream.read(&mut buffer[kept..]).await.unwrap();
            assert_ne!(read, 0, "the gateway hung up after {sent} requests");
            let seen = &buffer[..kept + read];
            const HEAD: &[u8] = b"HTTP/1.1 40";
            answers +=
                u64::try_from(seen.windows(HEAD.len()).filter(|window| *window == HEAD).count()).unwrap();
            // A head may be cut in two: what could be the beginning of one is looked at again.
            let tail = seen.len().min(HEAD.len() - 1);
            buffer.copy_within(kept + read - tail..kept + read, 0);
            kept = tail;
        }
        assert_eq!(answers, BURST);
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_anonymous_requests_costs_neither_memory_nor_disk_nor_a_stop() {
    let enough: u64 = if is_slow() { 10_000_000 } else { 100_000 };
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    // 64 MiB beside the two segments that the write-ahead file has made whole from the start.
    let Some(mounted) = Tmpfs::mount(&disk, 64 + 2 * 64) else { return };
    let gateway = Gateway::start(disk.join("data"), &dir.path().join("holdfast.toml"), "");
    let gateway = Arc::new(gateway);
    for key in ["first", "last"] {
        let (status, said) = gateway.post("keys", &format!(r#"{{"name":"{key}"}}"#)).await;
        assert_eq!(status, 201, "{said}");
    }
    // Everything that is made once is made.
    let warm = AtomicU64::new(0);
    let mut sent: HashMap<String, u64> = HashMap::new();
    for (request, reason) in KNOCKS {
        *sent.entry(reason.to_owned()).or_default() += knock(&gateway, 2, request, BURST, &warm).await;
        warm.store(0, Ordering::Relaxed);
    }
    let (memory, free) = (gateway.server.resident(), mounted.free());
    let told = Arc::new(AtomicU64::new(0));
    let strangers: Vec<_> = (0..STRANGERS)
        .map(|number| {
            let (request, reason) = KNOCKS[usize::from(number) % KNOCKS.len()];
            let (gateway, told) = (Arc::clone(&gateway), Arc::clone(&told));
            tokio::spawn(async move { (reason, knock(&gateway, 2 + number, request, enough, &told).await) })
        })
        .collect();
    while told.load(Ordering::Relaxed) < enough / 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.stops_at_once("first").await;
    assert!(told.load(Ordering::Relaxed) < enough, "it came too late to tell anything");
    let in_the_middle = gateway.server.resident();
    for stranger in strangers {
        let (reason, count) = stranger.await.unwrap();
        *sent.entry(reason.to_owned()).or_default() += count;
    }
    let grown = in_the_middle.max(gateway.server.resident()).saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes of memory for {sent:?}");
    gateway.stops_at_once("last").await;
    let Gateway { server, data, .. } = Arc::into_inner(gateway).unwrap();
    let log = server.ends();
    assert!(log.len() < 64 << 10, "the daemon's own log grew to {} bytes", log.len());
    let written = free.saturating_sub(mounted.free());
    assert!(written < 4 << 20, "{written} bytes on disk for {sent:?}");
    assert!(sent.values().sum::<u64>() >= enough);
    assert_eq!(noise(&data), sent);
}

/// A body that does not come takes nobody's place, and many bytes of strangers' bodies are not kept.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_keep_nobody_out_and_cost_bounded_memory() {
    /// More than requests may be under way.
    const SLOW: u8 = 40;
    /// As many of the longest bodies that there are would be 384 MiB.
    const LONG: u8 = 48;
    let dir = tempfile::tempdir().unwrap();
    let limits = "requests = 8\nbody_seconds = 600";
    let gateway = Gateway::start(dir.path().join("data"), &dir.path().join("holdfast.toml"), limits);
    let (status, said) = gateway.post("keys", r#"{"name":"k"}"#).await;
    assert_eq!(status, 201, "{said}");
    let head = |path: &str, length: usize| {
        format!("POST /v1/tenants/dev/{path} HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\n\r\n")
    };
    let mut slow = vec![];
    for _ in 0..SLOW {
        let mut stream = gateway.connect(2).await.unwrap();
        stream.write_all(format!("{}{{", head("keys/k/encrypt", 100)).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let before = gateway.server.resident();
    let gateway = Arc::new(gateway);
    let long: Vec<_> = (0..LONG)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            let head = head("batch", 8 << 20);
            tokio::spawn(async move {
                let mut stream = gateway.connect(3).await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                // Until it is let go, or all has been taken but the last byte.
                let sent = stream.write_all(&vec![b' '; (8 << 20) - 1]).await;
                (stream, sent.is_ok())
            })
        })
        .collect();
    let mut held = vec![];
    for one in long {
        held.push(one.await.unwrap());
    }
    let grown = gateway.server.resident().saturating_sub(before);
    assert!(grown < 224 << 20, "{grown} bytes of memory for {LONG} bodies");
    assert!(held.iter().any(|(_, sent)| *sent), "nobody's body is waited for");
    let (status, said) = gateway.post("keys/k/encrypt", r#"{"plaintext":""}"#).await;
    assert_eq!(status, 200, "{said}");
    gateway.stops_at_once("k").await;
    drop((slow, held));
    Arc::into_inner(gateway).unwrap().server.ends();
}

/// Raises this process's own limit of open files: each connection is one here and one there.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_are_held_and_make_way_for_a_custodian() {
    /// Those that shake hands; the others are half open: they say nothing at all.
    const GREETED: usize = 500;
    const ALL: usize = 10_000;
    assert!(raise_file_limit() > 10_500, "the limit of open files is too low: raise it (`ulimit -Hn 20000`)");
    let dir = tempfile::tempdir().unwrap();
    // Nobody is let go for being slow while this looks.
    let limits = "handshake_seconds = 600\nheader_seconds = 600";
    let gateway = Gateway::start(dir.path().join("data"), &dir.path().join("holdfast.toml"), limits);
    let (status, said) = gateway.post("keys", r#"{"name":"stopped"}"#).await;
    assert_eq!(status, 201, "{said}");
    let before = gateway.server.resident();
    let mut held = Vec::with_capacity(ALL);
    let from = |number: usize| u8::try_from(10 + number / 1_900).unwrap();
    for number in 0..ALL - GREETED {
        held.push(gateway.tcp(from(number)).await.unwrap());
    }
    let mut greeted = vec![];
    for number in ALL - GREETED..ALL {
        let mut stream = gateway.connect(from(number)).await.unwrap();
        // Slow headers: one that never ends.
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: ").await.unwrap();
        greeted.push(stream);
    }
    let memory = gateway.server.resident().saturating_sub(before);
    assert!(memory < PER_CONNECTION * 10_000, "{memory} bytes of memory for {ALL} connections");
    // All places are taken: the oldest strangers make way, and nobody else.
    gateway.stops_at_once("stopped").await;
    let mut end = [0];
    let read = tokio::time::timeout(PATIENCE, held[0].read(&mut end)).await.expect("the oldest makes way");
    assert!(matches!(read, Ok(0) | Err(_)));
    for stream in held.iter().rev().take(100) {
        let nothing = stream.try_read(&mut end).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock), "a younger one was let go");
    }
    let (address, known) = (gateway.address, token(&gateway.data));
    assert!(address.ip().is_loopback() && !known.is_empty());
    drop((held, greeted));
    let Gateway { server, data, .. } = gateway;
    server.ends();
    let counts = noise(&data);
    // Three connections of the custodian's came when all places were taken or nearly so; the rest left by themselves.
    assert!((1..=3).contains(&counts["displaced"]), "{counts:?}");
    // Whoever left while the process was ending is nobody's any more.
    let left = u64::try_from(ALL - GREETED).unwrap();
    let seen = counts["handshake"] + counts["displaced"];
    assert!((left - 500..=left).contains(&seen), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_answers_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let gateway =
        Gateway::start(dir.path().join("data"), &dir.path().join("holdfast.toml"), "body_seconds = 1");
    let before = gateway.server.resident();
    let mut stream = gateway.connect(2).await.unwrap();
    let burst = "GET /openapi.json HTTP/1.1\r\nhost: g\r\n\r\n".repeat(100);
    // Until it is let go, or nothing more is taken of it either.
    let let_go = async { while stream.write_all(burst.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, let_go).await.expect("it is let go");
    let memory = gateway.server.resident().saturating_sub(before);
    assert!(memory < 16 << 20, "{memory} bytes of memory for one that does not read");
    let (status, said) = gateway.post("keys", r#"{"name":"k"}"#).await;
    assert_eq!(status, 201, "{said}");
    let (status, log) = gateway.server.stop();
    assert!(status.success(), "{log}");
}
