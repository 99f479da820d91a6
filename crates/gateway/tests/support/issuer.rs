//! An issuer of tokens: keys, tokens, and the HTTPS server where its keys are.

use super::authority::Authority;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_gateway::issuer::IssuerTable;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// An issuer that signs so, with its keys in a file.
pub fn table(name: &str, audiences: &[&str], algorithm: &str, keys: &Path) -> IssuerTable {
    IssuerTable {
        issuer: name.to_owned(),
        audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
        algorithms: vec![algorithm.to_owned()],
        keys_url: String::new(),
        discovery_url: String::new(),
        keys_hosts: vec![],
        keys_file: keys.to_owned(),
        ca_file: PathBuf::new(),
        refresh_seconds: 3600,
        stale_seconds: 86_400,
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A key that signs tokens, by EdDSA.
pub struct Signer {
    id: String,
    key: Ed25519KeyPair,
}

impl Signer {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), key: Ed25519KeyPair::generate().unwrap() }
    }

    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "use": "sig", "x": x})
    }

    /// The claims, with an audience and five minutes unless they say otherwise.
    pub fn token(&self, issuer: &str, claims: Value) -> String {
        let mut whole = json!({"iss": issuer, "aud": "holdfast", "iat": now(), "exp": now() + 300});
        whole.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": self.id});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&whole));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub fn key_set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// What is answered at a path: the status line's code, more header lines, the body.
type Pages = HashMap<String, (u16, String, String)>;

/// A server of documents, over TLS.
pub struct Server {
    pub address: SocketAddr,
    pages: Arc<Mutex<Pages>>,
    read: watch::Receiver<usize>,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(authority: &Authority) -> Self {
        Self::start_at(authority, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_at(authority: &Authority, address: SocketAddr) -> Self {
        let leaf = authority.issue_server();
        let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth();
        let config = config.with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages: Arc<Mutex<Pages>> = Arc::default();
        let (counting, read) = watch::channel(0);
        let served = Arc::clone(&pages);
        let serving = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let page = served.lock().unwrap().get(&path).cloned();
                let (status, headers, body) = page.unwrap_or((404, String::new(), String::new()));
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
                    body.len()
                );
                let _gone = stream.write_all(answer.as_bytes()).await;
                let _gone = stream.shutdown().await;
                counting.send_modify(|count| *count += 1);
            }
        });
        Self { address, pages, read, serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.address.port())
    }

    /// From now on this is there.
    pub fn put(&self, path: &str, status: u16, headers: &str, body: &str) {
        let page = (status, headers.to_owned(), body.to_owned());
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// How often something was read.
    pub fn count(&self) -> usize {
        *self.read.borrow()
    }

    /// Waits until something has been read so often.
    pub async fn is_read(&mut self, times: usize) {
        tokio::time::timeout(super::peer::PATIENCE, self.read.wait_for(|count| *count >= times))
            .await
            .expect("it is read in time")
            .unwrap();
    }

    /// Is gone, with its port.
    pub async fn stop(self) {
        self.serving.abort();
        let _aborted = self.serving.await;
    }
}
