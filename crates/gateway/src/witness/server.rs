//! A witness's endpoints over HTTP/1.1 (C2SP tlog-witness v1.0.0): `POST /add-checkpoint`, `GET /HASH/checkpoint`.
//!
//! TLS is optional: what is said is public and carries its own signatures.

use super::{directory, logs};
use crate::boxed::Boxed;
use crate::config::{Tls, TlsVersion};
use crate::directory::Directory;
use crate::fault::Fault;
use crate::process;
use crate::serve::stopped;
use crate::tls::TlsState;
use crate::world::SystemWorld;
use bytes::Bytes;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::witness::{MAX_REQUEST, Witness};
use holdfast_core::port::World as _;
use holdfast_state::DirectoryLock;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Connections at once: a few gateways, and whoever reads.
const CONNECTIONS: u32 = 256;
/// How long a handshake may take, a header since the connection is idle, and a body.
const PATIENCE: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; charset=utf-8";

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// The witness's directory, made by [`init`](super::init).
    pub data: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Verifier keys of logs.
    pub logs: Vec<String>,
    /// A file with more of them, one a line; read again by [`Running::reload`].
    pub logs_file: Option<PathBuf>,
    /// Certificate chain and private key, PEM; without them it speaks in clear.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A witness that serves.
pub struct Running {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    // Declared last, so that it outlives everything that works in the directory.
    _lock: DirectoryLock,
}

struct Shared {
    witness: Witness,
    world: SystemWorld,
    tls: Option<TlsState>,
    logs: Vec<String>,
    logs_file: Option<PathBuf>,
    places: Arc<Semaphore>,
}

/// Starts a witness.
///
/// # Errors
/// When the directory is no witness's, another process serves it, its memory is damaged, no log is named, or the address
/// is taken.
pub fn start(options: Options) -> Boxed<'static, Result<Running, Fault>> {
    Box::pin(begin(options))
}

async fn begin(options: Options) -> Result<Running, Fault> {
    process::protect_memory();
    process::raise_file_limit();
    let Options { data, listen, logs, logs_file, tls } = options;
    let signer = directory::load(&data)?;
    let lock = directory::lock(&data)?;
    let witness = Witness::open(&data, signer)?;
    let tls = match tls {
        Some((certificate_file, key_file)) => {
            let settings = Tls { certificate_file, key_file, minimum_version: TlsVersion::V1_3 };
            Some(TlsState::load(&settings, &Directory::at(&data))?)
        }
        None => None,
    };
    let socket = TcpListener::bind(listen).await.map_err(|error| {
        Fault::new(format!("cannot listen on {listen}"))
            .remedy("choose another address with `--listen`, or stop what uses it")
            .because(error)
    })?;
    let address =
        socket.local_addr().map_err(|error| Fault::new("the address is not known").because(error))?;
    let places = Arc::new(Semaphore::new(usize::try_from(CONNECTIONS).unwrap_or(1)));
    let shared = Arc::new(Shared { witness, world: SystemWorld::new(), tls, logs, logs_file, places });
    shared.read_logs()?;
    if shared.witness.log_count() == 0 {
        return Err(Fault::new("no log is named, so there is nothing to witness")
            .remedy("give a log's key with `--log VKEY`, or a file of them with `--logs FILE`"));
    }
    let (stop, stopping) = watch::channel(false);
    let is_tls = shared.tls.is_some();
    tracing::info!(%address, witness = shared.witness.verifier().name(), "witnessing");
    let accepting = tokio::spawn(accept(socket, Arc::clone(&shared), stopping));
    Ok(Running { address, is_tls, shared, stop, accepting, _lock: lock })
}

impl Shared {
    fn read_logs(&self) -> Result<(), Fault> {
        let keys = logs::gather(&self.logs, self.logs_file.as_deref())?;
        Ok(self.witness.know(&keys)?)
    }
}

impl Running {
    /// Its own key: what others check its cosignatures by.
    pub fn verifier(&self) -> &VerifierKey {
        self.shared.witness.verifier()
    }

    /// How many logs it knows.
    pub fn log_count(&self) -> usize {
        self.shared.witness.log_count()
    }

    /// Reads the list of logs again, and certificate and key; what is in force stays where the new is refused, each by itself.
    ///
    /// # Errors
    /// For all that is refused.
    pub fn reload(&self) -> Result<(), Fault> {
        let logs = self.shared.read_logs();
        let tls = self.shared.tls.as_ref().map_or(Ok(()), |tls| tls.reload());
        Fault::all([logs, tls].into_iter().filter_map(Result::err).collect())
    }

    /// Accepts no more, and finishes what was accepted, for as long as a request may take.
    pub fn shut_down(self) -> Boxed<'static, ()> {
        Box::pin(self.end())
    }

    async fn end(self) {
        self.stop.send_replace(true);
        let _ended = self.accepting.await;
        let _finished = timeout(PATIENCE * 2, self.shared.places.acquire_many(CONNECTIONS)).await;
    }
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    loop {
        // A place first: when all are taken, further peers wait in the kernel's queue.
        let place = tokio::select! {
            place = Arc::clone(&shared.places).acquire_owned() => place,
            () = stopped(&mut stop) => return,
        };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let (stream, place) = match (accepted, place) {
            (Ok((stream, _)), Ok(place)) => (stream, place),
            (Err(error), Ok(_)) => {
                // Out of descriptors, most often: accepting again at once would only spin.
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            (_, Err(_)) => return,
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            welcome(stream, shared, stop).await;
        });
    }
}

async fn welcome(stream: TcpStream, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let _best_effort = stream.set_nodelay(true);
    let Some(tls) = shared.tls.as_ref().map(TlsState::current) else {
        return serve(stream, shared, stop).await;
    };
    let mut tls = tls.open().clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    match timeout(PATIENCE, TlsAcceptor::from(Arc::new(tls)).accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, shared, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
        Err(_elapsed) => tracing::debug!("a handshake took too long"),
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(shared, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/add-checkpoint" {
        return match *request.method() {
            Method::POST => submitted(shared, request).await,
            _ => not_allowed("POST"),
        };
    }
    let hash = path.strip_prefix('/').and_then(|path| path.strip_suffix("/checkpoint"));
    let Some(hash) = hash.filter(|hash| hash.len() == 64) else {
        return reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /add-checkpoint and /HASH/checkpoint\n".to_owned(),
        );
    };
    match *request.method() {
        Method::GET => {}
        _ => return not_allowed("GET"),
    }
    match shared.witness.newest(hash) {
        Some(note) => reply(StatusCode::OK, TEXT, note),
        None => reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "nothing was cosigned of a log whose origin has this SHA-256\n".to_owned(),
        ),
    }
}

async fn submitted(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
    let body = match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return reply(
                StatusCode::PAYLOAD_TOO_LARGE,
                TEXT,
                "a submission has 64 KiB at most\n".to_owned(),
            );
        }
        Ok(Err(_)) => {
            return reply(StatusCode::BAD_REQUEST, TEXT, "the body did not come whole\n".to_owned());
        }
        Err(_) => {
            return reply(StatusCode::REQUEST_TIMEOUT, TEXT, "the body did not come in time\n".to_owned());
        }
    };
    // It waits for the disk. Whoever hangs up does not stop it.
    let judged = tokio::task::spawn_blocking(move || {
        let verdict = shared.witness.submit(&body, shared.world.now().seconds());
        if let holdfast_audit::witness::Verdict::Failed(refusal) = &verdict {
            tracing::error!(%refusal, "nothing can be signed");
        }
        verdict
    });
    match judged.await {
        Ok(verdict) => {
            let status = StatusCode::from_u16(verdict.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply(status, verdict.content_type(), verdict.body())
        }
        Err(_) => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the witness failed; try again later\n".to_owned())
        }
    }
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("only {allowed}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
