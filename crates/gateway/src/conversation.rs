//! One connection's HTTP, whoever answers.

use crate::config::Limits;
use crate::patience::Patient;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

/// Serves one connection until it ends, or gracefully to its next pause after `stop`.
///
/// # Errors
/// When it ends otherwise.
pub(crate) async fn converse<S>(
    (stream, is_http2): (TlsStream<TcpStream>, bool),
    limits: &Limits,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let io = TokioIo::new(Patient::new(stream, Duration::from_secs(limits.body_seconds)));
    if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection)
            .max_header_list_size(16 << 10)
            .keep_alive_interval(Duration::from_secs(limits.header_seconds))
            .keep_alive_timeout(Duration::from_secs(limits.handshake_seconds));
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = crate::serve::stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // A client that leaves cancels nothing, so nobody looks for that while a request is under way: a system call less for each.
            .half_close(true)
            .header_read_timeout(Duration::from_secs(limits.header_seconds))
            .max_buf_size(64 << 10);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = crate::serve::stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }
}

/// Whether a connection ended because what came is not HTTP, in either version's own words.
pub(crate) fn is_no_http(error: &hyper::Error) -> bool {
    let http2 = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_parse() || http2.is_some_and(h2::Error::is_library)
}
