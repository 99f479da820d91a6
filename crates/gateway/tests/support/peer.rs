//! A client that sees and sends every byte: HTTP/1.1 over one TLS connection.

use super::Answer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything takes: what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// For so long a peer is listened to that was refused in the handshake.
pub const LISTENED_TO: Duration = Duration::from_secs(2);

/// What nobody wants is not taken in any further once nothing of it has come for so long.
pub const UNWANTED_PAUSE: Duration = Duration::from_millis(50);

/// Whom to trust and who to be.
#[derive(Clone)]
pub struct Settings {
    roots: Arc<RootCertStore>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    token: Option<String>,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    name: ServerName<'static>,
}

impl Settings {
    pub fn trusting(ca: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let versions = vec![&rustls::version::TLS13, &rustls::version::TLS12];
        Self {
            roots: Arc::new(roots),
            identity: None,
            token: None,
            alpn: vec![b"http/1.1".to_vec()],
            versions,
            name: ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into()),
        }
    }

    /// Shows this certificate, PEM with its key.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Asks for this name.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = ServerName::try_from(name).unwrap();
        self
    }

    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn alpn(mut self, names: &[&[u8]]) -> Self {
        self.alpn = names.iter().map(|name| name.to_vec()).collect();
        self
    }

    pub fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    pub fn tls(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&self.versions).unwrap();
        let builder = builder.with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().unwrap();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

/// One connection.
pub struct Peer {
    pub stream: TlsStream<TcpStream>,
    token: Option<String>,
    buffer: Vec<u8>,
}

impl Peer {
    pub async fn connect(address: SocketAddr, settings: &Settings) -> io::Result<Self> {
        Self::connect_after(address, settings, b"").await
    }

    /// Sends something in clear before TLS begins.
    pub async fn connect_after(
        address: SocketAddr,
        settings: &Settings,
        greeting: &[u8],
    ) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(greeting).await?;
        let connector = TlsConnector::from(Arc::new(settings.tls()));
        let stream = tokio::time::timeout(PATIENCE, connector.connect(settings.name.clone(), tcp)).await??;
        Ok(Self { stream, token: settings.token.clone(), buffer: vec![] })
    }

    /// The head of a request with a JSON body of so many bytes.
    pub fn head(&self, method: &str, path: &str, length: usize) -> String {
        let authorization = match &self.token {
            Some(token) => format!("authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let kind = "content-type: application/json\r\n";
        format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\n{authorization}{kind}content-length: {length}\r\n\r\n"
        )
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next answer; `None` when the connection ends before its first byte.
    pub async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer()).await.expect("an answer, or an end")
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        loop {
            let end = loop {
                if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end;
                }
                if self.fill().await == 0 {
                    assert!(
                        self.buffer.is_empty(),
                        "half an answer: {}",
                        String::from_utf8_lossy(&self.buffer)
                    );
                    return None;
                }
            };
            let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap().to_lowercase();
            self.buffer.drain(..end + 4);
            let status: u16 =
                head.split(' ').nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
            if status == 100 {
                continue;
            }
            let mut answer = Answer { status, headers: head, body: vec![] };
            let length = answer.header("content-length").unwrap_or("0").parse::<usize>().unwrap();
            while self.buffer.len() < length {
                assert_ne!(self.fill().await, 0, "half an answer: {}", answer.headers);
            }
            answer.body = self.buffer.drain(..length).collect();
            return Some(answer);
        }
    }

    /// Waits for `100 Continue`: the request is under way, and its body awaited.
    pub async fn asked_to_continue(&mut self) {
        let asked = async {
            while !self.buffer.ends_with(b"\r\n\r\n") {
                assert_ne!(self.fill().await, 0, "no `100 Continue`");
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("`100 Continue`");
        assert!(self.buffer.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&self.buffer));
        self.buffer.clear();
    }

    /// Reads on; 0 at the end, however it came.
    async fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 16 << 10];
        let read = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read
    }

    /// Asks, and reads the answer.
    pub async fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.try_ask(method, path, body).await.unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    /// Asks; `None` when the connection ends without an answer.
    pub async fn try_ask(&mut self, method: &str, path: &str, body: &str) -> Option<Answer> {
        let request = self.head(method, path, body.len()) + body;
        self.send(request.as_bytes()).await.ok()?;
        self.answer().await
    }

    /// Sends a request whose body nobody wants: how long that took, and the answer, if the connection goes on after it.
    pub async fn send_unwanted(&mut self, request: &str) -> (Duration, Result<Answer, String>) {
        let begun = Instant::now();
        let sent = self.send(request.as_bytes()).await;
        let took = begun.elapsed();
        if let Err(error) = sent {
            return (took, Err(error.to_string()));
        }
        let answer = self.answer().await;
        let goes_on = self.try_ask("GET", "/health/live", "").await.is_some_and(|live| live.status == 200);
        (took, answer.filter(|_| goes_on).ok_or_else(|| "the connection ends".to_owned()))
    }

    /// A `POST` of JSON.
    pub async fn post(&mut self, path: &str, body: &serde_json::Value) -> Answer {
        self.ask("POST", path, &body.to_string()).await
    }

    /// Waits until the other side closes; what it still sends is not looked at.
    pub async fn closed(&mut self) {
        let end = async { while self.fill().await > 0 {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the end of the connection");
    }
}
