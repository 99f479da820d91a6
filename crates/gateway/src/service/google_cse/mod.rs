//! Google Workspace client-side encryption: what a request to a key service is, and how the law's answer is told to it.
//!
//! Who asks is recognised by the token of the authentication (for what Google's servers ask: by Google's own), as the service's one caller.
//! From then on each refusal stands in the tenant's log, with the check that failed.

mod perform;
mod says;
mod tokens;

use super::admission::Arrival;
use super::{Answered, host, trace_id};
use crate::google_cse::{Service, Services};
use crate::listener::About;
use crate::serve::Gateway;
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use holdfast_wire::cse::path::Method;
use holdfast_wire::cse::{MAX_BODY, error, jws, message};
use holdfast_wire::native::encode::Response;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

/// Within this time there is an answer or a refusal; a peer that is asked for a key has half of it.
const DEADLINE: Duration = Duration::from_secs(10);
/// For how many seconds a browser remembers what a preflight was told.
const MAX_AGE: &str = "3600";

/// A refusal; its status where the kind of error has another one.
struct Refused {
    error: Error,
    status: Option<u16>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, status: None }
    }
}

impl Borrow<Error> for Refused {
    fn borrow(&self) -> &Error {
        &self.error
    }
}

/// What the request is, besides its body.
struct Received {
    operation: OperationId,
    method: Method,
    headers: HeaderMap,
    now: holdfast_core::Timestamp,
    ticks: u64,
}

/// The service that a request means, with the rest of the path; there is none unless it is configured.
pub(super) fn is_meant<B>(services: &Services, request: &Request<B>) -> Option<(Arc<Service>, String)> {
    if services.is_empty() {
        return None;
    }
    let (service, rest) = services.at(host::of(request)?, request.uri().path())?;
    Some((Arc::clone(service), rest.to_owned()))
}

pub(super) async fn receive(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    (service, path): (Arc<Service>, String),
    request: Request<Incoming>,
    when: (OperationId, u64),
) -> (&'static str, Answered) {
    let (parts, body) = request.into_parts();
    let origin = origin(&service, &parts.headers);
    let (route, mut answered) = match parts.method == http::Method::OPTIONS {
        true => {
            gateway.bodies.drop(&about, body).await;
            ("cse-preflight", preflight(&service, origin.is_some()))
        }
        false => exchange(gateway, about, (&service, &path), (parts, body), when).await,
    };
    may_read(origin, &mut answered.answer);
    (route, answered)
}

/// Lets the pages of a service's origins read what is answered to a request that comes no further than to have no id.
pub(super) fn let_read<B>(services: &Services, request: &Request<B>, answer: &mut Response) {
    if let Some((service, _)) = is_meant(services, request) {
        may_read(origin(&service, request.headers()), answer);
    }
}

/// From where a page asks, if it is one whose pages may read answers.
fn origin(service: &Service, headers: &HeaderMap) -> Option<String> {
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.filter(|origin| service.lets_in(origin)).map(str::to_owned)
}

/// On every answer: a browser shows its page nothing of one that lacks this, of an error neither.
fn may_read(origin: Option<String>, answer: &mut Response) {
    answer.headers.push(("vary", "Origin".to_owned()));
    if let Some(origin) = origin {
        answer.headers.push(("access-control-allow-origin", origin));
    }
}

/// What a browser asks before it sends anything. Nobody is known by then, and nothing is told but what a page may send.
fn preflight(service: &Service, is_let_in: bool) -> Answered {
    let mut answer = message::nothing();
    if is_let_in {
        answer.headers = vec![
            ("access-control-allow-methods", "GET, POST, OPTIONS".to_owned()),
            ("access-control-allow-headers", service.request_headers.clone()),
            ("access-control-max-age", MAX_AGE.to_owned()),
        ];
    }
    Answered::ok(answer)
}

async fn exchange(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    (service, path): (&Arc<Service>, &str),
    (parts, body): (Parts, Incoming),
    (operation, ticks): (OperationId, u64),
) -> (&'static str, Answered) {
    let method = match wanted(service, path, &parts) {
        Ok(method) => method,
        Err((route, (status, message), allow)) => {
            gateway.law.count_noise(about.source, "no-route");
            gateway.bodies.drop(&about, body).await;
            let mut answer = error::told(status, message, operation);
            answer.allow = allow;
            return (route, Answered { answer, refused: Some(ErrorKind::NotFound) });
        }
    };
    let route = method.route();
    let arrival = match Arrival::of(gateway, DEADLINE) {
        Ok(arrival) => arrival,
        Err(error) => {
            gateway.bodies.drop(&about, body).await;
            return (route, refused(&error, None, operation));
        }
    };
    let body = arrival.body(gateway, &about, MAX_BODY, body).await;
    let admission = match arrival.enter(gateway, &about) {
        Ok(admission) => admission,
        Err(error) => return (route, refused(&error, None, operation)),
    };
    let now = gateway.law.engines().world.now();
    let received = Received { operation, method, headers: parts.headers, now, ticks };
    let work = {
        let (gateway, service) = (Arc::clone(gateway), Arc::clone(service));
        Box::pin(async move {
            let body =
                body.inspect_err(|error| gateway.law.count_noise(about.source, error.kind().code()))?;
            match method.is_read() {
                true => open(&gateway, &about, &service, &received).await,
                false => tokens::answer(&gateway, &about, &service, &received, &body).await,
            }
        })
    };
    let told = |Refused { error, status }| refused(&error, status, operation);
    (route, admission.finish(gateway, operation, work, told).await)
}

/// Why a request is for no method: its route, what is answered, and which verbs there are.
type Unwanted = (&'static str, (u16, &'static str), Option<&'static str>);

/// The method that a request is for, by its head.
fn wanted(service: &Service, path: &str, parts: &Parts) -> Result<Method, Unwanted> {
    let method = Method::of(path).filter(|_| parts.uri.query().is_none());
    let method = method.filter(|method| service.methods().any(|known| known == *method));
    let method =
        method.ok_or(("cse-none", (error::NO_METHOD, "the key service has no such method"), None))?;
    let route = method.route();
    let (verb, verbs) = match method.is_read() {
        true => (http::Method::GET, "GET, OPTIONS"),
        false => (http::Method::POST, "POST, OPTIONS"),
    };
    if parts.method != verb {
        return Err((route, (error::OTHER_VERB, "the method wants another HTTP verb"), Some(verbs)));
    }
    if !method.is_read() && !is_json(&parts.headers) {
        return Err((route, (error::OTHER_TYPE, "the body must be `application/json`"), None));
    }
    Ok(method)
}

fn refused(error: &Error, status: Option<u16>, operation: OperationId) -> Answered {
    let mut answer = error::refusal(error, operation);
    if let Some(status) = status {
        answer = error::told(status, error.detail(), operation);
    }
    Answered { answer, refused: Some(error.kind()) }
}

/// `application/json`, whatever stands behind it.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// What is told to everybody: what the service can do, and the public halves of its own keys.
async fn open(
    gateway: &Gateway,
    about: &About,
    service: &Service,
    received: &Received,
) -> Result<Response, Refused> {
    if !service.open_quota.take(received.ticks) {
        gateway.law.count_noise(about.source, ErrorKind::Throttled.code());
        let error = Error::new(ErrorKind::Throttled, Stage::Receive, "too many ask at once");
        return Err(error.into());
    }
    match received.method {
        Method::Certs => {
            let published = service.published(&gateway.law.engines().state).await?;
            Ok(jws::key_set(&published.keys))
        }
        Method::Status
        | Method::Wrap
        | Method::Unwrap
        | Method::Delegate
        | Method::PrivilegedWrap
        | Method::PrivilegedUnwrap
        | Method::Rewrap
        | Method::Digest
        | Method::PrivateKeySign
        | Method::PrivateKeyDecrypt
        | Method::PrivilegedPrivateKeyDecrypt
        | Method::WrapPrivateKey => {
            let methods: Vec<&str> = service.methods().map(Method::name).collect();
            Ok(message::status(&service.name, &methods))
        }
    }
}

impl Received {
    fn trace(&self) -> Option<&str> {
        trace_id(&self.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_wire::native::encode;
    use http::header::HOST;

    #[test]
    fn a_page_may_read_the_answer_to_what_came_no_further() {
        let table = format!("[[google_cse]]\n{}", crate::config::example("google_cse"));
        let config: crate::config::Config = toml::from_str(&table).unwrap();
        let services = Services::of(&[crate::google_cse::GoogleCseTable {
            take_from: vec![],
            ..config.google_cse[0].clone()
        }]);
        let services = services.unwrap();
        let url: http::Uri = config.google_cse[0].kacls_url.parse().unwrap();
        let (host, path) = (url.host().unwrap(), url.path());
        let google = &config.google_cse[0].origins[0];
        for (host, origin, headers) in [
            (host, google.as_str(), vec![("vary", "Origin"), ("access-control-allow-origin", google)]),
            (host, "https://evil.example", vec![("vary", "Origin")]),
            ("gateway", google, vec![]),
        ] {
            let request = Request::builder().uri(format!("{path}/wrap"));
            let request = request.header(HOST, host).header(ORIGIN, origin).body(()).unwrap();
            let error = Error::new(ErrorKind::Internal, Stage::Receive, "no entropy");
            let mut answer = encode::problem(&error, None);
            let_read(&services, &request, &mut answer);
            let told: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(told, headers, "{host} {origin}");
        }
    }
}
