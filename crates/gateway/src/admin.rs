//! The operator's own listener: metrics and status in clear, on a loopback address only.

use crate::fault::Fault;
use bytes::Bytes;
use holdfast_wire::native::message::Status;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections at once: a scraper and a few people.
const CONNECTIONS: usize = 16;

/// How long a connection may go on after the end was ordered.
const GRACE: Duration = Duration::from_secs(1);

/// Binds the address.
///
/// # Errors
/// When it is taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address).await.map_err(|error| {
        Fault::new(format!("cannot listen on {address}"))
            .remedy("choose another `admin.address`, or set `admin.enabled = false`")
            .because(error)
    })
}

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    /// What Prometheus scrapes.
    fn metrics_text(&self) -> String;
    /// What an operator sees.
    fn status(&self) -> Status;
}

/// Answers until `stop` says so, on each connection to its next pause. When this is over, so is each connection.
pub async fn run(listener: &TcpListener, answers: Arc<dyn Answers>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
            () = crate::serve::stopped(&mut stop) => break,
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) else {
            continue;
        };
        let (answers, mut stop) = (Arc::clone(&answers), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let response = answer(&*answers, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut connection = pin!(
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(30))
                    .serve_connection(TokioIo::new(stream), service)
            );
            tokio::select! {
                _ended = connection.as_mut() => {}
                () = crate::serve::stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ended = connection.await;
                }
            }
        });
    }
    let _in_time = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

fn answer(answers: &dyn Answers, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let reply = |status: StatusCode, kind: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    };
    if request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            reply(StatusCode::OK, OPENMETRICS, answers.metrics_text())
        }
        "/status" => {
            let text = serde_json::to_string_pretty(&answers.status()).unwrap_or_default();
            reply(StatusCode::OK, "application/json", text)
        }
        _ => reply(StatusCode::NOT_FOUND, "text/plain", "there are /metrics and /status\n".to_owned()),
    }
}
