//! A closed loop: each connection sends its next request when it has the answer to the last. Requests are built before the clock starts.

use crate::report::us_each;
use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A server to load.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
}

/// A request, as bytes.
#[derive(Clone)]
pub(crate) struct Exchange {
    request: Arc<[u8]>,
}

impl Exchange {
    /// A request with JSON, or nothing, over HTTP/1.1.
    pub(crate) fn new(method: &str, path: &str, host: &str, token: Option<&str>, body: &str) -> Self {
        let authorization =
            token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        Self::with_headers(method, path, host, &authorization, body)
    }

    /// The same with other headers, each with its line's end.
    pub(crate) fn with_headers(method: &str, path: &str, host: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Self { request: request.into_bytes().into() }
    }
}

/// For how long.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// Again and again until this time is over.
    For(Duration),
    /// Each request once.
    Once,
}

/// What came of it.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) latencies: Vec<u32>,
    /// Answered with 503: where a disk stands still for a moment there is no record in time, and no result.
    pub(crate) refused: usize,
}

impl Measured {
    /// # Errors
    /// If most were refused: that is not what is measured. The first such answer.
    fn new(elapsed: Duration, of: impl IntoIterator<Item = Answers>) -> Result<Self> {
        let (mut latencies, mut refused) = (vec![], vec![]);
        for answers in of {
            latencies.extend(answers.latencies);
            refused.extend(answers.refused);
        }
        let measured = Self { elapsed, refused: refused.len(), latencies };
        match refused.first() {
            Some(first) if refused.len() * 2 > measured.latencies.len() => {
                bail!("{} of {} were refused, as: {first}", refused.len(), measured.latencies.len())
            }
            _ => Ok(measured),
        }
    }

    /// Microseconds of the server's CPU a request.
    pub(crate) fn cpu_us(&self, cpu: Duration) -> f64 {
        us_each(cpu, self.latencies.len())
    }
}

/// What came over one connection.
struct Answers {
    latencies: Vec<u32>,
    /// What the answers say that are 503.
    refused: Vec<String>,
}

impl Answers {
    fn new(most: usize) -> Self {
        Self { latencies: Vec::with_capacity(most), refused: vec![] }
    }

    fn add(&mut self, waited: Duration, answer: Answer, buffer: &[u8]) -> Result<()> {
        self.latencies.push(u32::try_from(waited.as_micros())?);
        match answer.status {
            Status::Late => self.refused.push(String::from_utf8_lossy(buffer).into_owned()),
            Status::Good | Status::Bad => answer.expect(buffer)?,
        }
        Ok(())
    }
}

/// Loads a server over so many connections, which take the requests in turn.
pub(crate) async fn run(
    target: Target,
    requests: &[Exchange],
    connections: usize,
    length: Length,
) -> Result<Measured> {
    let connector = connector()?;
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        streams.push(connect(&connector, target).await?);
    }
    let requests: Arc<[Exchange]> = requests.into();
    let begin = Instant::now();
    let tasks: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(first, mut stream)| {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut answers = Answers::new(1 << 16);
                let mut buffer = Vec::with_capacity(16 << 10);
                let mut now = Instant::now();
                let mut at = first;
                loop {
                    let next = match length {
                        Length::For(time) if now >= begin + time => None,
                        Length::For(_) => requests.get(at % requests.len().max(1)),
                        Length::Once => requests.get(at),
                    };
                    let Some(Exchange { request }) = next else { break };
                    let answer = exchange_once(&mut stream, request, &mut buffer).await?;
                    let after = Instant::now();
                    if let Length::Once = length {
                        answer.expect(&buffer)?;
                    }
                    answers.add(after - now, answer, &buffer)?;
                    now = after;
                    at += connections;
                }
                anyhow::Ok(answers)
            })
        })
        .collect();
    let answers = all(tasks).await?;
    Measured::new(begin.elapsed(), answers)
}

/// The same request again and again, from one thread. Clients are elsewhere in earnest: where two threads of theirs share the server's processors, most
/// answers wake one of them on the other processor, and the server pays for it.
pub(crate) async fn run_aside(
    target: Target,
    exchange: &Exchange,
    connections: usize,
    time: Duration,
) -> Result<Measured> {
    let exchange = exchange.clone();
    aside(move || async move { run(target, &[exchange], connections, Length::For(time)).await }).await
}

/// As [`paced`], from one thread.
pub(crate) async fn paced_aside(
    target: Target,
    exchange: &Exchange,
    (connections, per_second): (u32, u32),
    time: Duration,
) -> Result<Measured> {
    let exchange = exchange.clone();
    aside(move || async move { paced(target, &exchange, connections, per_second, time).await }).await
}

/// Runs a load on an executor of one thread.
async fn aside<F: Future<Output = Result<Measured>>>(
    load: impl FnOnce() -> F + Send + 'static,
) -> Result<Measured> {
    let thread = tokio::task::spawn_blocking(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load())
    });
    thread.await?
}

async fn all(tasks: Vec<JoinHandle<Result<Answers>>>) -> Result<Vec<Answers>> {
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await??);
    }
    Ok(answers)
}

/// So many requests a second, whatever the answers take, spread over connections: each waits from when it was due.
pub(crate) async fn paced(
    target: Target,
    exchange: &Exchange,
    connections: u32,
    per_second: u32,
    time: Duration,
) -> Result<Measured> {
    let connector = connector()?;
    let mut tasks = Vec::new();
    let each = Duration::from_secs(1) * connections / per_second;
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(&connector, target).await?);
    }
    let begin = Instant::now();
    for (number, mut stream) in (0_u32..).zip(streams) {
        let exchange = exchange.clone();
        tasks.push(tokio::spawn(async move {
            let mut answers = Answers::new(1 << 14);
            let mut buffer = Vec::with_capacity(16 << 10);
            let mut due = begin + each * number / connections;
            while due < begin + time {
                tokio::time::sleep_until(due.into()).await;
                let answer = exchange_once(&mut stream, &exchange.request, &mut buffer).await?;
                answers.add(due.elapsed(), answer, &buffer)?;
                due += each;
            }
            anyhow::Ok(answers)
        }));
    }
    let answers = all(tasks).await?;
    Measured::new(begin.elapsed(), answers)
}

/// Asks once and gives the answer's body.
pub(crate) async fn ask(target: Target, exchange: &Exchange) -> Result<Vec<u8>> {
    let mut stream = connect(&connector()?, target).await?;
    let mut buffer = Vec::new();
    let answer = exchange_once(&mut stream, &exchange.request, &mut buffer).await?;
    answer.expect(&buffer)?;
    Ok(buffer.split_off(answer.body.min(buffer.len())))
}

async fn connect(connector: &TlsConnector, target: Target) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    Ok(connector.connect(ServerName::from(target.address.ip()), tcp).await?)
}

fn connector() -> Result<TlsConnector> {
    // The load does not check certificates: it is the server's time that is measured, and both servers are its own children.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anything { provider: Arc::clone(&provider) });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    /// 200 and its like.
    Good,
    /// 503.
    Late,
    Bad,
}

/// An answer in a buffer.
#[derive(Clone, Copy)]
struct Answer {
    status: Status,
    /// Where the body begins, and where it ends.
    body: usize,
    end: usize,
}

impl Answer {
    /// # Errors
    /// If it is one itself.
    fn expect(self, buffer: &[u8]) -> Result<()> {
        if self.status != Status::Good {
            bail!("answered {}", String::from_utf8_lossy(buffer));
        }
        Ok(())
    }
}

async fn exchange_once(
    stream: &mut TlsStream<TcpStream>,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<Answer> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    let answer = loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        if let Some(found) = announced(buffer)? {
            break found;
        }
    };
    while buffer.len() < answer.end {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection");
        }
    }
    Ok(answer)
}

/// What the head says; `None` while that is incomplete.
fn announced(buffer: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(buffer.get(..end).unwrap_or_default())?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let length = length.context("no content-length")??;
    let status = match head {
        head if head.starts_with("HTTP/1.1 20") => Status::Good,
        head if head.starts_with("HTTP/1.1 503") => Status::Late,
        _ => Status::Bad,
    };
    let body = end + 4;
    Ok(Some(Answer { status, body, end: body + length }))
}

#[derive(Debug)]
struct Anything {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
