//! The native API.

use super::{Answered, RECEIPT, place, sealed, trace_id};
use crate::detach::Detach;
use crate::issuer;
use crate::listener::About;
use crate::metrics::Counted;
use crate::party::Who;
use crate::pool;
use crate::sealed as seal;
use crate::sealing::{Order, Refused, Taken};
use crate::serve::Gateway;
use holdfast_core::action::Action;
use holdfast_core::context::Context;
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::{Call as Use, Inbound};
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, OperationId, Stage, TenantId};
use holdfast_identity::Reason;
use holdfast_identity::issued::{Claims, Expected, Moment};
use holdfast_wire::native::encode::{self, Backups, Encoded, Response as Answer};
use holdfast_wire::native::{self, Access, Call, OpenEndpoint, Route, token};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Uri};
use hyper::body::Incoming;
use std::sync::Arc;

/// Nothing is said of a request beyond it, unless a token says something.
static NOTHING_SAID: Context = Context::EMPTY;

/// A token of an issuer, examined, and what policies see of it, if it is not too much.
type Shown = Result<(Claims, Option<Context>), Reason>;

/// Everything that a request brings besides its body.
struct Received {
    operation: OperationId,
    route: &'static Route,
    uri: Uri,
    headers: HeaderMap,
    /// The token of an issuer that it shows, if it shows one.
    shown: Option<Shown>,
    now: holdfast_core::Timestamp,
    ticks: u64,
}

/// Steps 1 and 2: what must hold before a body is even read.
pub(super) async fn receive(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    request: Request<Incoming>,
    (operation, ticks): (OperationId, u64),
) -> (&'static str, Answered) {
    let (parts, body) = request.into_parts();
    let route = match native::route(parts.method.as_str(), parts.uri.path()) {
        Ok(matched) => matched.route,
        Err(reason) => {
            gateway.law.count_noise(about.source, "no-route");
            gateway.bodies.drop(&about, body).await;
            let answer = encode::refused(&reason, Some(operation));
            return ("none", Answered { answer, refused: Some(ErrorKind::NotFound) });
        }
    };
    // As from a gateway that is sealed already: what came in before is refused by its stop.
    if gateway.law.is_sealed() && !matches!(route.endpoint, native::Endpoint::Open(_)) {
        gateway.bodies.drop(&about, body).await;
        return (route.name, Answered::refused(&sealed(), operation));
    }
    // Stop orders are let in whatever else is under way.
    let is_stop = is_stop(route);
    // It takes no place before its body has come: whoever does not send it keeps nobody out.
    let body = match is_stop {
        true => gateway.bodies.take_in_stop(&about, route.limit, body).await,
        false => gateway.bodies.take_in(&about, route.limit, body).await,
    };
    let place = match place(gateway, &about, is_stop) {
        Ok(place) => place,
        Err(error) => return (route.name, Answered::refused(&error, operation)),
    };
    let now = gateway.law.engines().world.now();
    let (uri, headers) = (parts.uri, parts.headers);
    let gateway = Arc::clone(gateway);
    let living = Arc::clone(&gateway.alive).try_acquire_owned();
    let backing_up = (route.endpoint == native::Endpoint::BackUp).then(|| Counted::new(&gateway.backing_up));
    let work = Box::pin(async move {
        // Whoever has left gives no place up before the work is done.
        let (_place, _living, _backing_up) = (place, living, backing_up);
        let shown = match route.access {
            Access::Open => None,
            Access::Authenticated => shown(&gateway, &headers, Moment { now, ticks }).await,
        };
        let received = Received { operation, route, uri, headers, shown, now, ticks };
        match body {
            Ok(body) => perform(&gateway, &about, &received, &body).await,
            Err(error) => {
                let error = Box::pin(undecoded(&gateway, &about, &received, error)).await;
                Answered::refused(&error, received.operation)
            }
        }
    });
    (route.name, Detach::new(work).await)
}

/// The token of an issuer that a request shows, if it shows one.
async fn shown(gateway: &Gateway, headers: &HeaderMap, at: Moment) -> Option<Shown> {
    let token = token::issued_from_authorization(headers.get(AUTHORIZATION)?.to_str().ok()?)?;
    let examined = gateway.issuers.verify(token, &Expected::default(), at).await;
    if let Err(reason) = &examined {
        tracing::debug!(%reason, "a token of an issuer is refused");
    }
    Some(examined.map(|claims| {
        let said = issuer::said(&claims, &issuer::NATIVE);
        (claims, said)
    }))
}

/// Stop orders, whose routes are named as core names them; and what is let in like one, although it stops nothing that is under way.
fn is_stop(route: &Route) -> bool {
    use native::Endpoint;
    Action::from_name(route.name).is_some_and(Action::is_stop)
        || matches!(route.endpoint, Endpoint::EndCopy | Endpoint::AskToSeal | Endpoint::OrderSeal)
}

/// Steps 2 to 8; runs to its end even when the client has left.
async fn perform(gateway: &Gateway, about: &About, received: &Received, body: &[u8]) -> Answered {
    let path = received.uri.path();
    let query = received.uri.query().unwrap_or_default();
    let matched = match native::route(received.route.method.name(), path) {
        Ok(matched) => matched,
        Err(reason) => return Answered::ok(encode::refused(&reason, Some(received.operation))),
    };
    let call = match &received.shown {
        // Its caller is known, and the policy would see some of what it says.
        Some(Ok((_, None))) => Err(issuer::too_much()),
        Some(Ok((_, Some(_))) | Err(_)) | None => native::decode(&matched, query, body),
    };
    let answered = match call {
        Ok(Call::Open(endpoint)) => Ok(Answered::ok(open(gateway, endpoint))),
        Ok(call) => {
            // Anybody may ask to seal.
            let asks_to_seal = matches!(call, Call::AskToSeal { .. });
            dispatch(gateway, about, received, call).await.inspect(|served| {
                if served.refused.is_none() && !asks_to_seal {
                    about.was_served(|| whose(gateway, about, received));
                }
            })
        }
        Err(error) if received.route.access == Access::Open => Err(error),
        Err(error) => Err(Box::pin(undecoded(gateway, about, received, error)).await),
    };
    answered.unwrap_or_else(|error| {
        if error.kind() == ErrorKind::Internal {
            tracing::error!(operation = %received.operation, error = error.chain(), "a defect");
        }
        Answered::refused(&error, received.operation)
    })
}

/// Which caller of a tenant asks, where the law has not said: of a command, when nobody has been served on its connection yet.
fn whose(gateway: &Gateway, about: &About, received: &Received) -> Option<Who> {
    let matched = native::route(received.route.method.name(), received.uri.path()).ok()?;
    let tenant = matched.tenant()?;
    let inbound = inbound(about, received, &tenant).ok()?;
    let caller = gateway.law.recognise(&inbound).ok()?.caller().name().clone();
    Some(Who::Caller(tenant, caller))
}

fn open(gateway: &Gateway, endpoint: OpenEndpoint) -> Answer {
    match endpoint {
        OpenEndpoint::OpenApi => encode::api_document(),
        OpenEndpoint::Live => encode::health(true),
        OpenEndpoint::Ready => encode::health(gateway.is_ready()),
        OpenEndpoint::Seal => encode::seal(&seal::open(gateway.law.is_sealed())),
    }
}

/// A request that could not be decoded is recorded in its tenant's log, if its caller is known there.
async fn undecoded(gateway: &Gateway, about: &About, received: &Received, error: Error) -> Error {
    let matched = native::route(received.route.method.name(), received.uri.path());
    let Some(tenant) = matched.ok().and_then(|matched| matched.tenant()) else {
        gateway.law.count_noise(about.source, error.kind().code());
        return error;
    };
    match inbound(about, received, &tenant) {
        Ok(inbound) => gateway.law.refuse_undecoded(&inbound, error).await,
        Err(unproven) => {
            gateway.law.count_noise(about.source, unproven.kind().code());
            unproven
        }
    }
}

fn inbound<'a>(about: &'a About, received: &'a Received, tenant: &'a TenantId) -> Result<Inbound<'a>, Error> {
    let mut headers = received.headers.get_all(AUTHORIZATION).iter();
    let header = headers.next();
    if headers.next().is_some() {
        let detail = "there is more than one `Authorization` header";
        return Err(Error::new(ErrorKind::Unauthenticated, Stage::Identify, detail).remedy("send one"));
    }
    // A token that is shown is meant: the certificate beside it is then only the connection's.
    let (proof, request) = match (&received.shown, header, &about.peer) {
        (Some(Ok((claims, said))), _, _) => {
            (Proof::Issued(claims.token()), said.as_ref().unwrap_or(&NOTHING_SAID))
        }
        (Some(Err(reason)), _, _) => return Err(reason.refuse()),
        (None, Some(header), _) => {
            let (id, secret) = token::from_authorization(header.to_str().unwrap_or_default())?;
            (Proof::Bearer { id, secret }, &NOTHING_SAID)
        }
        (None, None, Some(peer)) => (Proof::Certificate(peer), &NOTHING_SAID),
        (None, None, None) => (Proof::None, &NOTHING_SAID),
    };
    Ok(Inbound {
        operation: received.operation,
        tenant,
        proof,
        source: about.source,
        protocol: native::PROTOCOL,
        only: None,
        request,
        protocol_request: received.headers.get("x-request-id").and_then(|value| value.to_str().ok()),
        trace: trace_id(&received.headers),
        now: received.now,
        ticks: received.ticks,
        wants_receipt: wants_receipt(&received.headers)?,
    })
}

fn wants_receipt(headers: &HeaderMap) -> Result<bool, Error> {
    match headers.get(&RECEIPT) {
        None => Ok(false),
        Some(value) if value == native::RECEIPT_WANTED => Ok(true),
        Some(_) => Err(Error::new(
            ErrorKind::Malformed,
            Stage::Decode,
            "`Holdfast-Receipt` is neither left out nor `signed`",
        )
        .remedy("send `Holdfast-Receipt: signed` to get a receipt")),
    }
}

async fn dispatch(
    gateway: &Gateway,
    about: &About,
    received: &Received,
    call: Call,
) -> Result<Answered, Error> {
    let law = &gateway.law;
    let operation = received.operation;
    let unproven = |error: Error| {
        law.count_noise(about.source, error.kind().code());
        error
    };
    match call {
        Call::Use { tenant, key, operation: work } => {
            let inbound = inbound(about, received, &tenant).map_err(unproven)?;
            let recognised = law.recognise(&inbound)?;
            let (answer, receipt, _departing) =
                law.use_key_as(&recognised, Use::Key { key, operation: work }).await?.into_parts();
            about.is_callers(&tenant, recognised.caller().name());
            Ok(Answered::ok(encode::answer(operation, Ok(answer)).with_receipt(receipt.as_ref())))
        }
        Call::Random { tenant, length } => {
            let inbound = inbound(about, received, &tenant).map_err(unproven)?;
            let recognised = law.recognise(&inbound)?;
            let (answer, receipt, _departing) =
                law.use_key_as(&recognised, Use::Random { length }).await?.into_parts();
            about.is_callers(&tenant, recognised.caller().name());
            Ok(Answered::ok(encode::answer(operation, Ok(answer)).with_receipt(receipt.as_ref())))
        }
        Call::Batch { tenant, items } => {
            let inbound = inbound(about, received, &tenant).map_err(unproven)?;
            let recognised = law.recognise(&inbound)?;
            let mut calls = Vec::with_capacity(items.len());
            let mut operations = Vec::with_capacity(items.len());
            for item in items {
                let id = law.new_operation()?;
                operations.push(id);
                calls.push((id, item.map(|(key, operation)| Use::Key { key, operation })));
            }
            let results = Box::pin(law.use_keys_as(&recognised, calls)).await?;
            about.is_callers(&tenant, recognised.caller().name());
            // Kept until the answer is encoded: what has not left by then can still be stopped.
            let (results, _departing): (Vec<_>, Vec<_>) = results
                .into_iter()
                .map(|result| match result.map(|released| released.into_parts()) {
                    Ok((answer, receipt, departing)) => (Ok((answer, receipt)), Some(departing)),
                    Err(error) => (Err(error), None),
                })
                .unzip();
            Ok(Answered::ok(encode::batch(operations.into_iter().zip(results).collect())))
        }
        Call::Command { tenant, command } => {
            let inbound = inbound(about, received, &tenant).map_err(unproven)?;
            // Boxed, as all that is rare: the future of every request is as large as the largest it may become.
            let (outcome, receipt, _departing) = Box::pin(law.command(&inbound, command)).await?.into_parts();
            let answer = encode::outcome(received.route.status, outcome, backups(gateway));
            Ok(Answered::ok(answer.with_receipt(receipt.as_ref())))
        }
        Call::Query { tenant, query } => {
            let inbound = inbound(about, received, &tenant).map_err(unproven)?;
            let recognised = law.recognise(&inbound)?;
            let (found, receipt, _departing) = Box::pin(law.query_as(&recognised, query)).await?.into_parts();
            about.is_callers(&tenant, recognised.caller().name());
            let answer = match encode::found(found, backups(gateway)) {
                Encoded::Response(response) => response,
                Encoded::Status => encode::status(&gateway.status()),
                Encoded::Pool => encode::pool(&pool::gather(gateway)),
            };
            Ok(Answered::ok(answer.with_receipt(receipt.as_ref())))
        }
        Call::GiveShare(_) => Err(unproven(seal::not_sealed())),
        Call::AskToSeal { generation, share } => {
            let challenge = gateway.ask_to_seal((generation, share)).map_err(unproven)?;
            Ok(Answered::ok(encode::seal_challenge(challenge)))
        }
        Call::OrderSeal { generation, share, answer } => {
            let order = Order { generation, share, answer: &answer, source: about.source };
            match Box::pin(gateway.seal(&order)).await {
                Ok(Taken { custodian, durability, remedy }) => {
                    Ok(Answered::ok(encode::seal_done(custodian, durability, remedy)))
                }
                Err(Refused { error, wait }) => {
                    let mut answered = Answered::refused(&unproven(error), operation);
                    if let Some(wait) = wait {
                        answered.answer.retry_after = Some(u32::try_from(wait.seconds).unwrap_or(u32::MAX));
                    }
                    Ok(answered)
                }
            }
        }
        Call::Open(endpoint) => Ok(Answered::ok(open(gateway, endpoint))),
    }
}

/// What keys are told of backups.
fn backups(gateway: &Gateway) -> Backups {
    match gateway.law.is_dev() {
        true => Backups::NotKept,
        false => Backups::Verified(gateway.law.verified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::TokenId;
    use holdfast_wire::native::{Endpoint, decode, routes};

    /// What a route decodes to, of a body that decodes.
    fn action_of(route: &Route) -> Option<Action> {
        let token = TokenId::from_bytes([1; 16]).to_string();
        let segments = route.path.split('/').map(|segment| match segment {
            "{token}" => token.as_str(),
            parameter if parameter.starts_with('{') => "a1",
            literal => literal,
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let matched = native::route(route.method.name(), &path).ok()?;
        match decode(&matched, "", route.example.unwrap_or_default().as_bytes()) {
            Ok(Call::Command { command, .. }) => Some(command.action()),
            Ok(_) | Err(_) => None,
        }
    }

    #[test]
    fn exactly_stop_orders_and_what_is_like_one_are_let_in_whatever_is_under_way() {
        let like_one = |route: &Route| {
            matches!(route.endpoint, Endpoint::EndCopy | Endpoint::AskToSeal | Endpoint::OrderSeal)
        };
        let mut stops: Vec<_> = Action::ALL.iter().copied().filter(|action| action.is_stop()).collect();
        for route in routes::all().filter(|route| !like_one(route)) {
            let action = action_of(route);
            assert_eq!(is_stop(route), action.is_some_and(Action::is_stop), "{}", route.name);
            stops.retain(|stop| Some(*stop) != action);
        }
        assert_eq!(stops, [], "a stop order has no route");
        assert_eq!(routes::all().filter(|route| like_one(route) && is_stop(route)).count(), 3);
    }
}
