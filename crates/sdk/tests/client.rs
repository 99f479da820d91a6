//! The client against a server of the test's own: what is repeated, what is not, and what each failure is called.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a test")]

use holdfast_core::lifecycle::Transition;
use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use holdfast_sdk::{Cause, Client, KeyName, Problem, Tenant};
use http::{HeaderMap, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server answers to the request of this number, counted from 0.
type Script = dyn Fn(usize) -> Response<Full<Bytes>> + Send + Sync;

struct Server {
    url: String,
    ca: String,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Server {
    async fn start(
        alpn: &[&str],
        script: impl Fn(usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self::after(&[], alpn, script).await
    }

    /// Each of the first connections is sent these frames of HTTP/2 once a request has come on it, and closed.
    async fn after(
        frames: &'static [&'static [u8]],
        alpn: &[&str],
        script: impl Fn(usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate.der().to_vec())],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("https://{}", listener.local_addr().unwrap()),
            ca: certificate.pem(),
            requests: Arc::default(),
            connections: Arc::default(),
            headers: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let script: Arc<Script> = Arc::new(script);
        let (requests, connections) = (Arc::clone(&server.requests), Arc::clone(&server.connections));
        let headers = Arc::clone(&server.headers);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                if let Some(frame) = frames.get(connections.fetch_add(1, Ordering::SeqCst)) {
                    requested(&mut tls).await;
                    tls.write_all(frame).await.unwrap();
                    tls.shutdown().await.unwrap();
                    continue;
                }
                let (script, requests, headers) =
                    (Arc::clone(&script), Arc::clone(&requests), Arc::clone(&headers));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    headers.lock().unwrap().push(request.headers().clone());
                    let response = script(requests.fetch_add(1, Ordering::SeqCst));
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(async move {
                    let _ended = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        server
    }

    fn tenant(&self) -> Tenant {
        let client = Client::builder(&self.url).ca_pem(self.ca.clone()).connect().unwrap();
        client.tenant("acme".parse().unwrap())
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Waits for the first request of a client of HTTP/2.
async fn requested(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    const HEADERS: u8 = 1;
    client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    client.read_exact(&mut [0; 24]).await.unwrap();
    let mut head = [0; 9];
    while head[3] != HEADERS {
        client.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        client.read_exact(&mut vec![0; length as usize]).await.unwrap();
    }
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header("holdfast-operation", OperationId::from_bytes([7; 16]).to_string());
    response.body(Full::new(body.into())).unwrap()
}

fn refusal(kind: ErrorKind) -> Response<Full<Bytes>> {
    let problem = Problem::new(&Error::new(kind, Stage::Record, "a detail"), None);
    answer(problem.status, serde_json::to_vec(&problem).unwrap())
}

const RANDOM: &str = r#"{"random":"AAEC"}"#;
const KEY: &str = r#"{"name":"k","id":"00000000000000000000000000","algorithm":"xaes-256-gcm","purpose":"encrypt","state":"suspended","newest_version":1,"exportable":false,"legacy":[],"labels":{},"custody":"software","created":"2026-11-23T19:03:17.000000Z","epoch":2}"#;

#[tokio::test]
async fn what_passes_by_itself_is_repeated() {
    let server = Server::start(&["h2", "http/1.1"], |number| match number {
        0 | 1 => refusal(ErrorKind::AuditUnavailable),
        _ => answer(200, RANDOM),
    })
    .await;
    let random = server.tenant().random(3).await.unwrap();
    assert_eq!(random.random.0.expose(), [0, 1, 2]);
    assert_eq!(random.operation, Some(OperationId::from_bytes([7; 16])));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn patience_ends() {
    let server = Server::start(&["h2"], |_| refusal(ErrorKind::Throttled)).await;
    let error = server.tenant().random(3).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_temporary(), server.requests()),
        (Some(ErrorKind::Throttled), true, 3)
    );
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let server = Server::start(&["h2"], |_| refusal(ErrorKind::Denied)).await;
    let error = server.tenant().random(3).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary(), server.requests()), (Some(ErrorKind::Denied), false, 1));
    assert_eq!(error.operation(), Some(OperationId::from_bytes([7; 16])));
    assert!(!error.remedy().is_empty());
}

#[tokio::test]
async fn what_does_something_each_time_is_never_repeated() {
    let server = Server::start(&["h2"], |_| refusal(ErrorKind::StateUnavailable)).await;
    let (tenant, key): (_, KeyName) = (server.tenant(), "k".parse().unwrap());
    assert!(tenant.rotate_key(&key).await.is_err());
    assert!(tenant.issue_token(&"c".parse().unwrap(), 60).await.is_err());
    assert!(tenant.set_policy("", None).await.is_err());
    assert!(tenant.transition_key(&key, Transition::Resume).await.is_err());
    assert_eq!(server.requests(), 4);
}

/// GOAWAY, `NO_ERROR`, the last stream that was begun is 0, 1 (RFC 9113 §6.8); RST_STREAM of stream 1, `REFUSED_STREAM` (§8.7).
const NOT_BEGUN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const BEGUN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
const REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];

#[tokio::test]
async fn what_a_gateway_that_leaves_did_not_begin_is_sent_to_the_next_one() {
    for frame in [NOT_BEGUN, REFUSED] {
        let twice: &'static [&'static [u8]] = Box::leak(Box::new([frame, frame]));
        let server = Server::after(twice, &["h2"], |_| answer(200, KEY)).await;
        // Also what does something each time: it did nothing yet.
        server.tenant().rotate_key(&"k".parse().unwrap()).await.unwrap();
        assert_eq!((server.requests(), server.connections.load(Ordering::SeqCst)), (1, 3), "{frame:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_begun_is_not_sent_again() {
    let server = Server::after(&[BEGUN], &["h2"], |_| answer(200, KEY)).await;
    let error = server.tenant().rotate_key(&"k".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Unreachable), "{error:?}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_gateway_that_leaves_each_time_is_not_asked_for_ever() {
    let server = Server::after(&[NOT_BEGUN; 32], &["h2"], |_| answer(200, KEY)).await;
    let error = server.tenant().rotate_key(&"k".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Unreachable), "{error:?}");
    assert!(server.connections.load(Ordering::SeqCst) < 16);
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_stop_order_is_repeated() {
    let server = Server::start(&["h2"], |number| match number {
        0 => refusal(ErrorKind::Deadline),
        _ => answer(200, KEY),
    })
    .await;
    let key = server.tenant().transition_key(&"k".parse().unwrap(), Transition::Suspend).await.unwrap();
    assert_eq!((key.state.0.name(), server.requests()), ("suspended", 2));
}

#[tokio::test]
async fn a_connection_is_used_again_over_either_protocol() {
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let server = Server::start(alpn, |_| answer(200, RANDOM)).await;
        let tenant = server.tenant();
        for _ in 0..5 {
            tenant.random(3).await.unwrap();
        }
        assert_eq!((server.requests(), server.connections.load(Ordering::SeqCst)), (5, 1), "{alpn:?}");
    }
}

#[tokio::test]
async fn a_token_is_shown_and_never_printed() {
    let server = Server::start(&["h2"], |_| answer(200, RANDOM)).await;
    let token = "hf_00000000000000000000000000_AAECAwQFBgcICQoLDA0ODw";
    let client = Client::builder(&server.url).ca_pem(server.ca.clone()).token(token).connect().unwrap();
    client.tenant("acme".parse().unwrap()).random(3).await.unwrap();
    let headers = server.headers.lock().unwrap();
    assert_eq!(headers[0]["authorization"], format!("Bearer {token}"));
    assert!(!format!("{client:?}").contains("AAECAw"));
}

#[tokio::test]
async fn failures_have_their_names() {
    let server = Server::start(&["h2"], |_| answer(200, "<html>")).await;
    let error = server.tenant().random(3).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Unintelligible), "{error}");

    let other = Server::start(&["h2"], |_| answer(200, RANDOM)).await;
    let client = Client::builder(&server.url).ca_pem(other.ca.clone()).connect().unwrap();
    let error = client.tenant("acme".parse().unwrap()).random(3).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Untrusted), "{error} {error:?}");
    assert!(matches!(client.probe().await.unwrap_err().cause(), Cause::Untrusted));

    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", nowhere.local_addr().unwrap());
    // Nobody accepts what is connected there.
    let client =
        Client::builder(&url).ca_pem(server.ca.clone()).timeout(Duration::from_millis(50)).connect().unwrap();
    let error = client.tenant("acme".parse().unwrap()).random(3).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Timeout), "{error}");
    drop(nowhere);
    let error = client.tenant("acme".parse().unwrap()).random(3).await.unwrap_err();
    assert!(
        matches!(error.cause(), Cause::Unreachable) && error.to_string().contains("nobody listens"),
        "{error}"
    );
}

/// In TLS 1.3 the refusal of a certificate comes when the client is done with the handshake: in a pool of connections it is lost as often as not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_certificate_is_named_each_time() {
    for alpn in ["http/1.1", "h2"] {
        refused_each_time(alpn).await;
    }
}

async fn refused_each_time(alpn: &str) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let own = CertificateDer::from(certificate.der().to_vec());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    // A thread of its own: the refusal is to race with the request.
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                assert!(acceptor.accept(tcp).await.is_err());
            }
        });
    });
    // Until it was lost once, which a second connection tells.
    for times in 1.. {
        let client = Client::builder(&url).ca_pem(certificate.pem()).connect().unwrap();
        let error = client.tenant("acme".parse().unwrap()).random(3).await.unwrap_err();
        assert!(error.to_string().ends_with("refused this client's certificate"), "{error} {error:?}");
        if connections.load(Ordering::SeqCst) > times {
            break;
        }
        assert!(times < 100_000, "the refusal was never lost: nothing was tested");
    }
}

#[tokio::test]
async fn what_was_negotiated_is_told() {
    let server = Server::start(&["h2"], |_| answer(200, RANDOM)).await;
    let probe = server.tenant().client().probe().await.unwrap();
    assert_eq!((probe.version.as_str(), probe.key_exchange.as_str()), ("TLSv1_3", "X25519MLKEM768"));
    assert_eq!(probe.certificates.len(), 1);
}
