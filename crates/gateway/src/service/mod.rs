//! One request: receive, decode, core, encode. The only place where HTTP meets the law.
//!
//! What is one protocol's own stands in a file of its name; whose a request is, its path says.

mod admission;
mod aws_xks;
mod azure_ekm;
mod google_cse;
mod host;
mod ms_dke;
mod native;
mod told;

use crate::listener::About;
use crate::metrics::Counted;
use crate::serve::Gateway;
use bytes::Bytes;
use holdfast_core::port::{Health, World as _};
use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use holdfast_wire::native::encode::{self, Body, Response as Answer};
use holdfast_wire::native::{OPERATION_HEADER, RECEIPT_HEADER};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

static OPERATION: HeaderName = HeaderName::from_static(OPERATION_HEADER);
static RECEIPT: HeaderName = HeaderName::from_static(RECEIPT_HEADER);

/// What a request is answered with, and how it ended.
struct Answered {
    answer: Answer,
    refused: Option<ErrorKind>,
}

impl Answered {
    fn ok(answer: Answer) -> Self {
        Self { answer, refused: None }
    }

    fn refused(error: &Error, operation: OperationId) -> Self {
        Self { answer: encode::problem(error, Some(operation)), refused: Some(error.kind()) }
    }
}

/// Answers one request; never fails, since every failure is an answer.
pub(crate) async fn answer(
    gateway: Arc<Gateway>,
    about: Arc<About>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let world = &gateway.law.engines().world;
    let ticks = world.ticks();
    let operation = match gateway.law.new_operation() {
        Ok(operation) => operation,
        Err(error) => {
            let mut problem = encode::problem(&error, None);
            google_cse::let_read(&gateway.cse, &request, &mut problem);
            return Ok(respond(problem, None));
        }
    };
    let in_flight = Counted::new(&gateway.metrics.in_flight);
    let span = tracing::debug_span!("request", %operation, trace = trace_id(request.headers()));
    let received = receive(&gateway, about, request, (operation, ticks)).instrument(span);
    let (name, answered) = received.await;
    let latency = gateway.law.engines().world.ticks().saturating_sub(ticks);
    drop(in_flight);
    gateway.metrics.ended(name, answered.refused, latency);
    if let Some(kind) = answered.refused {
        tracing::debug!(%operation, route = name, reason = kind.code(), latency, "refused");
    }
    Ok(respond(answered.answer, Some(operation)))
}

/// Whose protocol a request speaks: its connection says so where that is one provider's alone, else its path, and its host where paths are not told apart.
async fn receive(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    request: Request<Incoming>,
    when: (OperationId, u64),
) -> (&'static str, Answered) {
    if azure_ekm::is_meant(gateway, &about) {
        return azure_ekm::receive(gateway, about, request, when).await;
    }
    if let Some((service, rest)) = google_cse::is_meant(&gateway.cse, &request) {
        return google_cse::receive(gateway, about, (service, rest), request, when).await;
    }
    if aws_xks::is_meant(gateway, request.uri().path()) {
        return aws_xks::receive(gateway, about, request, when).await;
    }
    match ms_dke::meant(gateway, &request) {
        Some(meant) => ms_dke::receive(gateway, about, request, when, meant).await,
        None => native::receive(gateway, about, request, when).await,
    }
}

/// What a gateway that gives its root key up says.
pub(crate) fn sealed() -> Error {
    Error::new(ErrorKind::Sealed, Stage::Receive, ErrorKind::Sealed.row().title)
}

/// Turns away who came under a name that is one provider's alone, and would get no handshake under it now. Over HTTP/1.1 the connection ends with that.
fn turned_away(
    gateway: &Gateway,
    about: &About,
    refused: impl FnOnce(&Error) -> Answered,
) -> Option<Answered> {
    if gateway.tls.still_lets_in(about) {
        return None;
    }
    let kind = ErrorKind::Unauthenticated;
    gateway.law.count_noise(about.source, kind.code());
    let mut answered = refused(&Error::new(kind, Stage::Identify, kind.row().title));
    answered.answer.headers.push(("connection", "close".to_owned()));
    Some(answered)
}

/// A place among the requests that are under way, if one is left; who gets none is counted, if nothing else lets it in.
fn place(gateway: &Gateway, about: &About, is_let_in: bool) -> Result<Option<OwnedSemaphorePermit>, Error> {
    match Arc::clone(&gateway.requests).try_acquire_owned() {
        Ok(place) => Ok(Some(place)),
        Err(_) if is_let_in => Ok(None),
        Err(_) => {
            gateway.law.count_noise(about.source, ErrorKind::Throttled.code());
            Err(Error::new(ErrorKind::Throttled, Stage::Receive, "too many requests are under way"))
        }
    }
}

/// Nothing, or why a part does not work.
fn ready(health: Health) -> Result<(), String> {
    match health {
        Health::Ready => Ok(()),
        Health::Unready(why) => Err(why),
    }
}

/// Says so in the daemon's log where a refusal is our own defect.
fn tell_defect(operation: OperationId, error: &Error) {
    if error.kind() == ErrorKind::Internal {
        tracing::error!(%operation, error = error.chain(), "a defect");
    }
}

/// The trace id of a `traceparent` header (W3C Trace Context, level 1 §3.2).
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = value.split('-');
    let version = parts.next().filter(|part| part.len() == 2 && *part != "ff")?;
    let trace = parts.next().filter(|part| part.len() == 32 && part.bytes().any(|b| b != b'0'))?;
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_hex(version) && is_hex(trace)).then_some(trace)
}

pub(crate) fn respond(answer: Answer, operation: Option<OperationId>) -> Response<Full<Bytes>> {
    let Answer { status, content_type, retry_after, allow, authenticate, receipt, headers: more, body } =
        answer;
    let bytes = match body {
        Body::Plain(bytes) => Bytes::from(bytes),
        Body::Secret(wiped) => Bytes::from_owner(wiped),
        Body::Static(bytes) => Bytes::from_static(bytes),
    };
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(operation) = operation.and_then(|operation| HeaderValue::from_bytes(&operation.text()).ok()) {
        headers.insert(OPERATION.clone(), operation);
    }
    if let Some(receipt) = receipt.and_then(|receipt| HeaderValue::try_from(receipt).ok()) {
        headers.insert(RECEIPT.clone(), receipt);
    }
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if let Some(scheme) = authenticate {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    for (name, value) in more {
        if let Ok(value) = HeaderValue::try_from(&*value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
