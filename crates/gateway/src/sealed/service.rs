//! What a sealed gateway answers.

use super::waiting::Waiting;
use crate::listener::About;
use crate::sealing::{Order, Refused, Taken};
use crate::service::{self, respond};
use bytes::Bytes;
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use holdfast_wire::native::encode::{self, Response as Answer};
use holdfast_wire::native::{self, Call, Endpoint, OpenEndpoint};
use holdfast_wire::xks;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::sync::Arc;

/// Answers one request: of its seal, of its health, and of nothing else.
pub(super) async fn answer(
    waiting: Arc<Waiting>,
    about: Arc<About>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut entropy = [0; 10];
    let operation = match waiting.world.fill(&mut entropy) {
        Ok(()) => OperationId::new(waiting.world.now(), entropy),
        Err(error) => return Ok(respond(encode::problem(&error, None), None)),
    };
    let (parts, body) = request.into_parts();
    let endpoint =
        native::route(parts.method.as_str(), parts.uri.path()).map(|matched| matched.route.endpoint);
    if let Ok(Endpoint::GiveShare | Endpoint::AskToSeal | Endpoint::OrderSeal) = endpoint {
        let taken = take(&waiting, &about, &parts, body).await;
        let answer = taken.unwrap_or_else(|Refused { error, wait }| {
            let mut answer = encode::problem(&error, Some(operation));
            if let Some(wait) = wait {
                answer.retry_after = Some(u32::try_from(wait.seconds).unwrap_or(u32::MAX));
            }
            answer
        });
        return Ok(respond(answer, Some(operation)));
    }
    waiting.bodies.drop(&about, body).await;
    let answer = match endpoint {
        Ok(Endpoint::Open(OpenEndpoint::Live)) => encode::health(true),
        Ok(Endpoint::Open(OpenEndpoint::Ready)) => encode::health(false),
        Ok(Endpoint::Open(OpenEndpoint::Seal)) => encode::seal(&waiting.seal()),
        Ok(_) | Err(_) if xks::path::is_meant(parts.uri.path()) => xks::error::refusal(&service::sealed()),
        Ok(_) | Err(_) => encode::problem(&service::sealed(), Some(operation)),
    };
    Ok(respond(answer, Some(operation)))
}

/// Takes what a custodian brings.
async fn take(
    waiting: &Waiting,
    about: &About,
    parts: &http::request::Parts,
    body: Incoming,
) -> Result<Answer, Refused> {
    let refused = |error| Refused { error, wait: None };
    let busy =
        || refused(Error::new(ErrorKind::Throttled, Stage::Receive, "too many requests are under way"));
    let sealed = || refused(service::sealed());
    let matched = native::route(parts.method.as_str(), parts.uri.path()).map_err(|_| sealed())?;
    // It takes no place before its body has come: whoever does not send it keeps no custodian out.
    let body = waiting.bodies.take_in_stop(about, matched.route.limit, body).await.map_err(refused)?;
    let source = about.source;
    let _own = source.map(|source| waiting.working_for.take(source).ok_or_else(busy)).transpose()?;
    let _place = waiting.working.try_acquire().map_err(|_| busy())?;
    match native::decode(&matched, parts.uri.query().unwrap_or_default(), &body).map_err(refused)? {
        Call::GiveShare(share) => waiting.give(source, &share).map(|seal| encode::seal(&seal)),
        Call::AskToSeal { generation, share } => {
            Ok(encode::seal_challenge(waiting.ask_to_seal((generation, share)).map_err(refused)?))
        }
        Call::OrderSeal { generation, share, answer } => {
            let order = Order { generation, share, answer: &answer, source };
            let Taken { custodian, durability, remedy } = waiting.order(&order).await?;
            Ok(encode::seal_done(custodian, durability, remedy))
        }
        Call::Use { .. }
        | Call::Random { .. }
        | Call::Batch { .. }
        | Call::Command { .. }
        | Call::Query { .. }
        | Call::Open(_) => Err(sealed()),
    }
}
