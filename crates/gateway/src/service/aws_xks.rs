//! AWS KMS external key stores: what the provider's request is, and how the law's answer is told to it.

use super::admission::{Come, Door, Meant, Received};
use super::{Answered, told, trace_id};
use crate::external_store::{Store, devices};
use crate::listener::About;
use crate::serve::Gateway;
use holdfast_core::action::Action;
use holdfast_core::peer::{Proof, SignedRequest};
use holdfast_core::pipeline::{Call, Inbound};
use holdfast_core::{Error, ErrorKind, KeyName, OperationId, Stage};
use holdfast_wire::native::encode::Response;
use holdfast_wire::sigv4;
use holdfast_wire::xks::{self, error, message, path};
use http::Request;
use http::request::Parts;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

/// Within this time an answer is on its way, or the refusal: the provider gives up after 250 ms, the network's part of them included.
const DEADLINE: Duration = Duration::from_millis(150);

/// What signs may be in other hands by then than what was vouched for in a handshake: both are demanded of each request.
const DOOR: Door = Door {
    none: "xks-none",
    most: xks::MAX_BODY,
    refused,
    other_method: || error::response(error::METHOD_NOT_ALLOWED, "the method is not POST"),
};

/// Whether a path means this protocol, which is not there unless it is configured.
pub(super) fn is_meant(gateway: &Gateway, path: &str) -> bool {
    !gateway.stores.is_empty() && path::is_meant(path)
}

pub(super) async fn receive(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    request: Request<Incoming>,
    when: (OperationId, u64),
) -> (&'static str, Answered) {
    let (parts, body) = request.into_parts();
    let (route, come) = DOOR.let_in(gateway, &about, (&parts, body), || find(gateway, &about, &parts)).await;
    let Come { found: Wanted { store, asked, key }, body, admission } = match come {
        Ok(come) => come,
        Err(answered) => return (route, *answered),
    };
    let received = Received::now(gateway, parts, when);
    let work = {
        let gateway = Arc::clone(gateway);
        Box::pin(async move {
            let body =
                body.inspect_err(|error| gateway.law.count_noise(about.source, error.kind().code()))?;
            answer(&gateway, &about, &store, &received, (asked, key, &body)).await
        })
    };
    (route, admission.finish(gateway, when.0, work, |error: Error| refused(&error)).await)
}

/// The store that a request is for, and what it wants of it.
struct Wanted {
    store: Arc<Store>,
    asked: path::Operation,
    key: Result<KeyName, Error>,
}

fn find(gateway: &Gateway, about: &About, parts: &Parts) -> Meant<Wanted> {
    let found = path::parse(parts.uri.path()).filter(|_| parts.uri.query().is_none()).and_then(|path| {
        let store = gateway.stores.at(path.prefix)?;
        store.is_served(about.guarded.as_deref()).then_some((store, path))
    });
    let Some((store, path)) = found else {
        let answer = error::response(error::INVALID_URI_PATH, "no external key store has this path");
        return Err(Box::new(("no-route", answer)));
    };
    let (asked, key) = (path.operation, store.key(path.key));
    Ok((asked.route(), DEADLINE, Wanted { store, asked, key }))
}

fn refused(error: &Error) -> Answered {
    Answered { answer: error::refusal(error), refused: Some(error.kind()) }
}

async fn answer(
    gateway: &Gateway,
    about: &About,
    store: &Store,
    received: &Received,
    (asked, key, body): (path::Operation, Result<KeyName, Error>, &[u8]),
) -> Result<Response, Error> {
    let Received { operation, parts, now, ticks } = received;
    let law = &gateway.law;
    let signed =
        signed(store, parts, body).inspect_err(|error| law.count_noise(about.source, error.kind().code()))?;
    let message::Request { id, says, asks } = message::decode(asked, body);
    let inbound = Inbound {
        operation: *operation,
        tenant: &store.tenant,
        proof: Proof::Signed(&signed),
        only: Some(&store.caller),
        source: about.source,
        protocol: xks::PROTOCOL,
        protocol_request: id.as_deref(),
        request: &says,
        trace: trace_id(&parts.headers),
        now: *now,
        ticks: *ticks,
        wants_receipt: false,
    };
    let recognised = law.recognise(&inbound)?;
    about.is_callers(&store.tenant, recognised.caller().name());
    let action = match asked {
        path::Operation::Health => Action::ReadStatus,
        path::Operation::Metadata => Action::ReadKey,
        path::Operation::Encrypt => Action::Encrypt,
        path::Operation::Decrypt => Action::Decrypt,
    };
    if !store.quota.take(*ticks) {
        let error = Error::new(ErrorKind::Throttled, Stage::Receive, "the store's quota is used up")
            .remedy("slow down, or have an operator raise `requests_per_second` of the store");
        // A record each, unlike at other doors: the provider's log is held against ours by the id of each request.
        return Err(law.turn_away(&recognised, (action, key.as_ref().ok()), error).await);
    }
    match (asks, key) {
        (Err(error), key) => {
            Err(law.turn_away(&recognised, (Action::Undecoded, key.as_ref().ok()), error).await)
        }
        (Ok(message::Asks::Health), _) => {
            told::serves(gateway, &recognised).await?;
            Ok(health(gateway))
        }
        (Ok(message::Asks::Metadata | message::Asks::Use(_) | message::Asks::Faulty(_)), Err(error)) => {
            Err(law.turn_away(&recognised, (action, None), error).await)
        }
        (Ok(message::Asks::Metadata), Ok(key)) => {
            let told::Described { key, current: _, standing } =
                told::described(gateway, &recognised, &key).await?;
            Ok(message::key_metadata(&key, store.usage(&key.name), standing.is_ok()))
        }
        // Who may not use the key learns that, and no more.
        (Ok(message::Asks::Faulty(fault)), Ok(key)) => {
            Err(law.refuse_use(&recognised, (action, &key), fault).await)
        }
        (Ok(message::Asks::Use(operation)), Ok(key)) => {
            if !store.usage(&key).permits(&operation) {
                let detail = format!("the store has the key `{key}` for something else");
                let error = Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
                    .remedy("have an operator take it out of `encrypt_only` or `decrypt_only` of the store");
                return Err(law.refuse_use(&recognised, (action, &key), error).await);
            }
            let call = Call::Key { key, operation };
            let (answer, _receipt, _departing) = law.use_key_as(&recognised, call).await?.into_parts();
            message::answer(answer)
        }
    }
}

/// The request, as its signature covers it.
fn signed(store: &Store, parts: &Parts, body: &[u8]) -> Result<SignedRequest, Error> {
    let headers = |name: &str, each: &mut dyn FnMut(&[u8])| {
        let mut is_there = false;
        for value in parts.headers.get_all(name) {
            is_there = true;
            each(value.as_bytes());
        }
        // HTTP/2 has the host in a place of its own.
        if let (false, "host", Some(authority)) = (is_there, name, parts.uri.authority()) {
            each(authority.as_str().as_bytes());
        }
    };
    let request =
        sigv4::Request { method: parts.method.as_str(), path: parts.uri.path(), headers: &headers, body };
    sigv4::take_apart(&request, xks::SERVICE, &|region| store.is_in(region))
}

/// The devices as their probes and their own operations find them.
fn health(gateway: &Gateway) -> Response {
    let (vendor, devices) = devices(&gateway.law);
    message::health(&vendor, &devices)
}
