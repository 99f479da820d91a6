//! Microsoft's Double Key Encryption: the document of a key for everybody, and decryption for whom a token lets in.

use super::admission::{Arrival, Received};
use super::{Answered, host, trace_id};
use crate::bodies::Taken;
use crate::issuer;
use crate::listener::About;
use crate::ms_dke::{KeyService, Public, Told, is_lasting};
use crate::quota::Share;
use crate::serve::Gateway;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Family, Hash, Purpose, RsaPadding};
use holdfast_core::context::Context;
use holdfast_core::operation::{Operation, Output};
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::{Call, Inbound, Recognised};
use holdfast_core::port::{KeyEntry, State as _, World as _};
use holdfast_core::{Error, ErrorKind, KeyName, KeyVersion, OperationId, Protocol, Stage};
use holdfast_identity::issued::{Claims, Expected, Moment};
use holdfast_wire::dke::path::Path;
use holdfast_wire::dke::{self, document, error, kid, message};
use holdfast_wire::native;
use holdfast_wire::native::encode::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Within this time an answer is on its way: a person waits for it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Within this time a body has arrived.
const BODY: Duration = Duration::from_secs(2);
/// How long, in microseconds, the document of a key is told again before the law is asked anew: it is public, and strangers who ask for it shall not fill a log.
const TOLD_AGAIN: u64 = 10_000_000;
const OAEP: RsaPadding = RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha256 };

/// Nothing is said of who reads a document.
static NOTHING_SAID: Context = Context::EMPTY;

/// The key service that a request means. None is there unless it is configured, and whatever the native API knows is the native API's.
pub(super) fn meant(gateway: &Gateway, request: &Request<Incoming>) -> Option<(Arc<KeyService>, Asked)> {
    let path = request.uri().path();
    let (service, path) = gateway.dke.find(host::of(request), path)?;
    let is_native =
        [Method::GET, Method::POST].iter().any(|it| native::route(it.as_str(), request.uri().path()).is_ok());
    (!is_native).then(|| {
        let asked = Asked {
            route: path.route(),
            key: path.key().into(),
            id: match path {
                Path::Document { .. } => None,
                Path::Decrypt { id, .. } => Some(id.into()),
            },
        };
        (service, asked)
    })
}

/// What a path asks for.
pub(super) struct Asked {
    route: &'static str,
    key: Box<str>,
    /// The version's id, for a decryption.
    id: Option<Box<str>>,
}

pub(super) async fn receive(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    request: Request<Incoming>,
    when: (OperationId, u64),
    (service, asked): (Arc<KeyService>, Asked),
) -> (&'static str, Answered) {
    let (parts, body) = request.into_parts();
    let route = asked.route;
    let refused = |service: &KeyService, error: &Error| Answered {
        answer: error::refusal(error, service.unknown, &service.challenge()),
        refused: Some(error.kind()),
    };
    let (is_allowed, allowed) = match asked.id {
        None => (parts.method == Method::GET, "GET"),
        Some(_) => (parts.method == Method::POST, "POST"),
    };
    if !is_allowed {
        gateway.law.count_noise(about.source, "no-route");
        gateway.bodies.drop(&about, body).await;
        return (
            route,
            Answered { answer: error::method_not_allowed(allowed), refused: Some(ErrorKind::NotFound) },
        );
    }
    let arrival = match Arrival::of(gateway, DEADLINE) {
        Ok(arrival) => arrival,
        Err(error) => {
            gateway.bodies.drop(&about, body).await;
            return (route, refused(&service, &error));
        }
    };
    // Taken in, so that a connection of HTTP/2 gets its answer whole, and not looked at before it is known who asks: strangers learn nothing.
    let body = timeout(BODY, arrival.body(gateway, &about, dke::MAX_BODY, body)).await;
    let body = body.unwrap_or_else(|_elapsed| {
        Err(Error::new(ErrorKind::Deadline, Stage::Receive, "the body took too long to arrive")
            .remedy("send the body at once"))
    });
    let admission = match arrival.enter(gateway, &about) {
        Ok(admission) => admission,
        Err(error) => return (route, refused(&service, &error)),
    };
    let received = Received::now(gateway, parts, when);
    let work = {
        let (gateway, service) = (Arc::clone(gateway), Arc::clone(&service));
        Box::pin(async move {
            match &asked.id {
                None => read(&gateway, &about, &service, &received, &asked.key).await,
                Some(id) => decrypt(&gateway, &about, &service, &received, (&asked.key, id, body)).await,
            }
        })
    };
    (route, admission.finish(gateway, when.0, work, |error: Error| refused(&service, &error)).await)
}

fn inbound<'a>(
    about: &'a About,
    service: &'a KeyService,
    received: &'a Received,
    (proof, request): (Proof<'a>, &'a Context),
) -> Inbound<'a> {
    Inbound {
        operation: received.operation,
        tenant: &service.tenant,
        proof,
        only: Some(&service.caller),
        source: about.source,
        protocol: dke::PROTOCOL,
        protocol_request: None,
        request,
        trace: trace_id(&received.parts.headers),
        now: received.now,
        ticks: received.ticks,
        wants_receipt: false,
    }
}

fn unknown_key() -> Error {
    Error::new(ErrorKind::NotFound, Stage::Resolve, "the service has no such key")
}

/// The document of a key, for whoever asks: as the service's caller reads its public half. Who asked again soon is told the same from memory, as long as the
/// caller stands and neither the key's record nor its tenant's has changed.
async fn read(
    gateway: &Gateway,
    about: &About,
    service: &KeyService,
    received: &Received,
    key: &str,
) -> Result<Response, Error> {
    let law = &gateway.law;
    let Some((key, memory)) = service.key(key) else {
        law.count_noise(about.source, ErrorKind::NotFound.code());
        return Err(unknown_key());
    };
    let inbound = inbound(about, service, received, (Proof::Open, &NOTHING_SAID));
    let mut memory = memory.lock().await;
    // Nothing is read before it is this one's turn: what was, could be older than what is remembered.
    let recognised = law.recognise(&inbound)?;
    let found = law.engines().state.key(&service.tenant, key).await.and_then(|entry| {
        let id = entry.as_ref().map(|entry| entry.key.id);
        law.standing(&recognised, id.as_slice())?;
        Ok(entry)
    });
    let entry = match found {
        Ok(entry) => entry,
        // One of many is recorded: strangers fill no log with a stop.
        Err(error) if received.ticks < memory.counted_until => {
            law.count_noise(about.source, error.kind().code());
            return Err(error);
        }
        Err(error) => {
            let error = law.turn_away(&recognised, (Action::PublicKey, Some(key)), error).await;
            if error.kind() != ErrorKind::AuditUnavailable {
                memory.counted_until = received.ticks.saturating_add(TOLD_AGAIN);
            }
            return Err(error);
        }
    };
    let of = (recognised.generation(), entry.as_ref().map(|entry| entry.key.epoch));
    let known = memory.told.as_ref().filter(|told| received.ticks < told.until && told.of == of);
    let what = match known.map(|told| told.what.clone()) {
        Some(what) => what.map_err(|(kind, stage)| Error::new(kind, stage, kind.row().title)),
        None => {
            let what = public_half(gateway, &recognised, key, entry.as_deref()).await;
            let kept = match &what {
                Ok(public) => Some(Ok(Public::clone(public))),
                Err(error) => is_lasting(error.kind()).then(|| Err((error.kind(), error.stage()))),
            };
            let until = received.ticks.saturating_add(TOLD_AGAIN);
            memory.told = kept.map(|what| Told { until, of, what });
            what
        }
    };
    let Public { der, id } = what?;
    // While a jump of the clock waits to be confirmed, nobody knows when that would be.
    let until = match (service.cache_seconds, law.engines().world.held_now()) {
        (0, _) | (_, Some(_)) => None,
        (seconds, None) => Some(received.now.plus_seconds(seconds)),
    };
    document::document(&der, &service.kid(key, &id), until)
}

/// Asks the law for the public half of the version that new work takes.
async fn public_half(
    gateway: &Gateway,
    recognised: &Recognised<'_, crate::root::Embedded>,
    key: &KeyName,
    entry: Option<&KeyEntry>,
) -> Result<Public, Error> {
    let law = &gateway.law;
    let turn_away = async |error| Err(law.turn_away(recognised, (Action::PublicKey, Some(key)), error).await);
    // Nothing is hidden by asking the policy first: the service tells of every name that it has.
    let Some(KeyEntry { key: record, current, .. }) = entry else { return turn_away(unknown_key()).await };
    // Whoever gets it encrypts with it: not with a key that will open nothing, or is to protect nothing any more.
    let cannot = match (record.algorithm.family(), record.purpose) {
        (Family::Rsa, Purpose::Encrypt) if record.protocol == Some(Protocol::MsDke) => {
            let is_fit = record.state.permits(Action::Encrypt).is_ok() && !record.is_archived();
            let detail = || format!("key `{key}` protects nothing now");
            (!is_fit).then(|| Error::new(ErrorKind::KeyState, Stage::Resolve, detail()))
        }
        _ => {
            let detail = format!("key `{key}` is not an RSA key to encrypt, of this protocol");
            let remedy = "create one: `holdfast key create NAME --algorithm rsa-2048 --purpose encrypt --protocol ms-dke`";
            Some(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail).remedy(remedy))
        }
    };
    if let Some(error) = cannot {
        return turn_away(error).await;
    }
    let operation = Operation::PublicKey { version: Some(current.number) };
    let call = Call::Key { key: key.clone(), operation };
    let (answer, _receipt, _departing) = law.use_key_as(recognised, call).await?.into_parts();
    match (answer.output, answer.version) {
        (Output::PublicKey(der), Some(version)) => {
            let id = kid::of(record.id, version, &der).into();
            Ok(Public { der, id })
        }
        (_, _) => Err(Error::new(ErrorKind::Internal, Stage::Answer, "another answer than a public key")),
    }
}

async fn decrypt(
    gateway: &Gateway,
    about: &About,
    service: &KeyService,
    received: &Received,
    (key, id, body): (&str, &str, Result<Taken, Error>),
) -> Result<Response, Error> {
    let law = &gateway.law;
    let claims = examined(gateway, service, received)
        .await
        .inspect_err(|error| law.count_noise(about.source, error.kind().code()))?;
    let said = issuer::said(&claims, &issuer::MS_DKE);
    let request = said.as_ref().unwrap_or(&NOTHING_SAID);
    let inbound = inbound(about, service, received, (Proof::Issued(claims.token()), request));
    let recognised = law.recognise(&inbound)?;
    about.is_callers(inbound.tenant, recognised.caller().name());
    let name: Option<KeyName> = service.key(key).map(|(name, _)| name.clone());
    let turn_away =
        async |action, error| Err(law.turn_away(&recognised, (action, name.as_ref()), error).await);
    let share = claims.subject().map_or(Share::Everybodys, |subject| Share::Person(claims.issuer(), subject));
    if let Err(error) = service.quotas.take(share, received.ticks) {
        return Err(law.throttle(&recognised, (Action::Decrypt, name.as_ref()), error).await);
    }
    if said.is_none() {
        return turn_away(Action::Decrypt, issuer::too_much()).await;
    }
    let read = body.and_then(|body| message::decode(&body));
    let message::Request { ciphertext, fault } = match read {
        Ok(request) => request,
        Err(error) => return turn_away(Action::Undecoded, error).await,
    };
    let Some(key) = name.clone() else { return turn_away(Action::Decrypt, unknown_key()).await };
    let version = match version(gateway, service, &key, id).await {
        // An id that is none of this key's is a version that never was: the policy is asked first, as for every other.
        Ok(version) => version.or(KeyVersion::new(u32::MAX)),
        Err(error) => return turn_away(Action::Decrypt, error).await,
    };
    // Who may not use the key learns that, and no more.
    if let Some(fault) = fault {
        return Err(law.refuse_use(&recognised, (Action::Decrypt, &key), fault).await);
    }
    let operation =
        Operation::Decrypt { ciphertext, context: Context::EMPTY, padding: Some(OAEP), bare: version };
    let released = law.use_key_as(&recognised, Call::Key { key, operation }).await?;
    let (answer, _receipt, _departing) = released.into_parts();
    message::answer(answer)
}

/// The version of a key that an id names, by its number and its very public half.
async fn version(
    gateway: &Gateway,
    service: &KeyService,
    key: &KeyName,
    id: &str,
) -> Result<Option<KeyVersion>, Error> {
    let state = &gateway.law.engines().state;
    let Some(entry) = state.key(&service.tenant, key).await? else { return Ok(None) };
    let key = entry.key.id;
    let Some(number) = kid::version_of(key, id) else { return Ok(None) };
    let version = state.version(key, number).await?;
    let public = version.and_then(|version| version.public.clone());
    Ok(public.filter(|public| kid::is(id, key, number, public)).map(|_| number))
}

/// The one token that a request shows, examined.
async fn examined(gateway: &Gateway, service: &KeyService, received: &Received) -> Result<Claims, Error> {
    let unknown =
        || Error::new(ErrorKind::Unauthenticated, Stage::Identify, ErrorKind::Unauthenticated.row().title);
    let token = bearer(&received.parts.headers).ok_or_else(unknown)?;
    let expected = Expected { audiences: Some(&service.audiences), issuers: Some(&service.issuers) };
    let at = Moment { now: received.now, ticks: received.ticks };
    let claims = gateway.issuers.verify(token, &expected, at).await.map_err(|reason| {
        tracing::debug!(%reason, "a token for a key service is refused");
        unknown()
    })?;
    let is_in = |scope: &str| claims.text("scp").is_some_and(|all| all.split(' ').any(|one| one == scope));
    match service.scope.as_deref().is_none_or(is_in) {
        true => Ok(claims),
        false => Err(unknown()),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
