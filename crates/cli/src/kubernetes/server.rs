//! gRPC on a socket: unary calls over HTTP/2 without TLS, as `holdfast_wire::kubernetes::grpc` has them. What is called says [`Calls`].

use holdfast_core::OperationId;
use holdfast_wire::kubernetes::Refused;
use holdfast_wire::kubernetes::grpc::{self, Code};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

/// Connections at once: one for each configured provider, two while a configuration is loaded anew.
const CONNECTIONS: u32 = 64;
/// Calls at once on one of them.
const STREAMS: u32 = 256;
/// How long a call may take that says nothing of it: an API server's own default.
const UNTOLD: Duration = Duration::from_secs(3);
/// And whatever it says.
const LONGEST: Duration = Duration::from_secs(30);
/// How long what was accepted may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is called on a socket.
pub(crate) trait Calls: Send + Sync + 'static {
    /// The longest message that is sent to it, in bytes.
    const MAX_MESSAGE: usize;

    /// What a call is, by its path alone; empty for what is none.
    fn method(path: &str) -> &'static str;

    /// Measures a call that has ended.
    fn measure(&self, noted: &Noted, code: Code, took: Duration);

    /// What a call is answered: by its path and its body, until this moment. What is known of it is noted, however it ends.
    fn perform(
        &self,
        path: &str,
        body: &[u8],
        until: Instant,
        noted: &mut Noted,
    ) -> impl Future<Output = Result<Zeroizing<Vec<u8>>, Refused>> + Send;
}

/// What of a call stands in this process's log.
#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) method: &'static str,
    /// Whether it is called every now and then, and its answer is no news.
    pub(crate) is_routine: bool,
    /// What its caller calls it.
    pub(crate) uid: String,
    /// Where the answer is from.
    pub(crate) by: &'static str,
    pub(crate) operation: Option<OperationId>,
}

/// Who may connect besides root and this process's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peers {
    /// Nobody.
    Own,
    /// Whoever the socket's mode and group let in.
    Group,
}

/// Serves until it is told to stop, and then what was accepted.
pub(crate) async fn serve<C: Calls>(
    listener: UnixListener,
    peers: Peers,
    plugin: Arc<C>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    loop {
        // A place first: when all are taken, further peers wait in the kernel's queue.
        let accepted = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stopped(&mut stop) => break,
        };
        let (Ok(place), Ok((stream, _))) = (place, accepted) else {
            // Out of descriptors, most often: accepting again at once would only spin.
            tracing::warn!("cannot accept connections");
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if !is_let_in(&stream, peers) {
            continue;
        }
        let (plugin, stop) = (Arc::clone(&plugin), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            converse(stream, plugin, stop).await;
        });
    }
    drop(listener);
    let all = tokio::time::timeout(FAREWELL, places.acquire_many(CONNECTIONS)).await;
    if all.is_err() {
        tracing::warn!("connections were cut off that did not end in time");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever would tell is gone: that is an end too.
    let _told = stop.wait_for(|stop| *stop).await.is_ok();
}

/// The mode lets the right ones in; this stands where somebody has changed it.
fn is_let_in(stream: &UnixStream, peers: Peers) -> bool {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "it is not known who connects, so they may not");
            return false;
        }
    };
    let own = rustix::process::geteuid().as_raw();
    let is_known = peers == Peers::Group || peer.uid() == 0 || peer.uid() == own;
    let (user, process) = (peer.uid(), peer.pid());
    match is_known {
        true => tracing::debug!(user, process, "connected"),
        false => {
            tracing::warn!(user, process, "refused to another user; has the socket's mode been changed?")
        }
    }
    is_known
}

async fn converse<C: Calls>(stream: UnixStream, plugin: Arc<C>, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let plugin = Arc::clone(&plugin);
        async move { Ok::<_, Infallible>(answer(&*plugin, request).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(16 << 10);
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

async fn answer<C: Calls>(plugin: &C, request: Request<Incoming>) -> Response<Reply> {
    let begun = Instant::now();
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if request.method() != Method::POST || !kind.starts_with(grpc::CONTENT_TYPE.as_bytes()) {
        return reply(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, Reply::default());
    }
    let mut noted = Noted::default();
    let outcome = perform(plugin, request, begun, &mut noted).await;
    let code = outcome.as_ref().map_or_else(|refused| refused.code, |_| Code::Ok);
    let took = begun.elapsed();
    plugin.measure(&noted, code, took);
    let Noted { method, is_routine, uid, by, operation } = noted;
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // Its id in the log is the API server's: what it says in its own log of the same call.
    let (code_name, operation) = (code.name(), operation.map(|operation| operation.to_string()));
    match &outcome {
        Err(why) => tracing::warn!(method, ?uid, code = code_name, milliseconds, %why, "refused"),
        Ok(_) if is_routine => tracing::debug!(method, code = code_name, milliseconds, "answered"),
        Ok(_) => tracing::info!(method, ?uid, code = code_name, milliseconds, by, operation, "answered"),
    }
    match outcome {
        Ok(message) => {
            let data = Bytes::from_owner(grpc::framed(&message));
            reply(StatusCode::OK, None, Reply { data: Some(data), trailers: Some(trailers(code, "")) })
        }
        // No message, so what would be trailers are the headers.
        Err(refused) => reply(StatusCode::OK, Some(trailers(code, &refused.words)), Reply::default()),
    }
}

async fn perform<C: Calls>(
    plugin: &C,
    request: Request<Incoming>,
    begun: Instant,
    noted: &mut Noted,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    noted.method = C::method(request.uri().path());
    let until = begun + patience(request.headers())?;
    let (parts, body) = request.into_parts();
    let body = timeout_at(until, whole(body, C::MAX_MESSAGE)).await;
    let body =
        body.map_err(|_| Refused::new(Code::DeadlineExceeded, "the request did not come in time"))??;
    plugin.perform(parts.uri.path(), &body, until, noted).await
}

/// How long a call may take: a little less than its caller waits, so that it hears why there is nothing.
fn patience(headers: &HeaderMap) -> Result<Duration, Refused> {
    let Some(told) = headers.get(grpc::TIMEOUT_HEADER) else { return Ok(UNTOLD) };
    let told = told.to_str().ok().and_then(grpc::timeout);
    let told = told.ok_or_else(|| Refused::new(Code::InvalidArgument, "`grpc-timeout` is no time"))?;
    let reserve = (told / 10).min(Duration::from_millis(250));
    Ok(told.saturating_sub(reserve).min(LONGEST))
}

/// The whole body, in memory that is wiped.
async fn whole(mut body: Incoming, max_message: usize) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let max_body = max_message.saturating_add(grpc::PREFIX_LEN);
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).clamp(1 << 10, max_body);
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(frame) = body.frame().await {
        let broken = |_| Refused::new(Code::InvalidArgument, "the request did not come whole");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = bytes.len().saturating_add(data.len());
        if length > max_body {
            let words = format!("a message has {max_message} bytes at most");
            return Err(Refused::new(Code::ResourceExhausted, words));
        }
        if length > bytes.capacity() {
            // A vector that grows by itself leaves what it held behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(max_body));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn trailers(code: Code, words: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(grpc::STATUS_TRAILER, HeaderValue::from(u16::from(code.number())));
    if let Ok(words) = HeaderValue::from_str(&grpc::trailer_text(words))
        && !words.is_empty()
    {
        trailers.insert(grpc::MESSAGE_TRAILER, words);
    }
    trailers
}

fn reply(status: StatusCode, headers: Option<HeaderMap>, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(headers) = headers {
        *response.headers_mut() = headers;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    response
}

/// One message and its trailers, or nothing.
#[derive(Default)]
struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
