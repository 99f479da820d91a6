//! The proxy of Azure Managed HSM's external keys: what the provider's request is, and how the law's answer is told to it.

use super::admission::{Come, Door, Meant, Received};
use super::{Answered, ready, told, trace_id};
use crate::azure_ekm::{Proxy, product};
use crate::bodies::Taken;
use crate::listener::About;
use crate::serve::Gateway;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Family, Purpose};
use holdfast_core::peer::{Proof, ProviderCertificate};
use holdfast_core::pipeline::{Call, Inbound, Recognised};
use holdfast_core::port::{KeyStore as _, State as _};
use holdfast_core::{Error, ErrorKind, KeyName, OperationId, Stage};
use holdfast_wire::ekm::path::{self, Path};
use holdfast_wire::ekm::{self, error, message};
use holdfast_wire::native::encode::Response;
use http::Request;
use http::request::Parts;
use hyper::body::Incoming;
use std::sync::Arc;

/// There is no other proof in a request than what was vouched for: an authority that is gone vouches for nobody, on connections that are open either.
const DOOR: Door = Door {
    none: "ekm-none",
    most: ekm::MAX_BODY,
    refused,
    other_method: || error::response(error::METHOD_NOT_ALLOWED, "the method is not POST"),
};

/// Whether a connection is a provider's: whatever is asked on it is then of this protocol.
pub(super) fn is_meant(gateway: &Gateway, about: &About) -> bool {
    about.guarded.as_deref().is_some_and(|name| gateway.proxies.is_served(name))
}

pub(super) async fn receive(
    gateway: &Arc<Gateway>,
    about: Arc<About>,
    request: Request<Incoming>,
    when: (OperationId, u64),
) -> (&'static str, Answered) {
    let (parts, body) = request.into_parts();
    let (route, come) = DOOR.let_in(gateway, &about, (&parts, body), || find(gateway, &about, &parts)).await;
    let Come { found: (proxy, certificate), body, admission } = match come {
        Ok(come) => come,
        Err(answered) => return (route, *answered),
    };
    let received = Received::now(gateway, parts, when);
    let work = {
        let gateway = Arc::clone(gateway);
        Box::pin(async move { answer(&gateway, &about, (&proxy, &certificate), &received, body).await })
    };
    (route, admission.finish(gateway, when.0, work, |error: Error| refused(&error)).await)
}

/// The proxy that a request is for, and who asks.
fn find(gateway: &Gateway, about: &About, parts: &Parts) -> Meant<(Arc<Proxy>, ProviderCertificate)> {
    let host = about.guarded.as_deref().unwrap_or_default();
    let no_such_path =
        |reason| Box::new((reason, error::response(error::NO_SUCH_PATH, "there is no such path")));
    let (proxy, path) =
        gateway.proxies.find(host, parts.uri.path()).ok_or_else(|| no_such_path("no-route"))?;
    // Which other prefixes a host has is nobody's to find out.
    let certificate =
        certificate(about, &proxy).ok_or_else(|| no_such_path(ErrorKind::Unauthenticated.code()))?;
    Ok((path.route(), proxy.deadline, (proxy, certificate)))
}

fn refused(error: &Error) -> Answered {
    Answered { answer: error::refusal(error), refused: Some(error.kind()) }
}

/// The certificate that was shown, if it has one of the proxy's names. That one of the authorities vouches for it, TLS has found: nobody else has a connection
/// under this name.
fn certificate(about: &About, proxy: &Proxy) -> Option<ProviderCertificate> {
    let leaf = about.peer.as_ref().and_then(|peer| peer.chain().first())?;
    holdfast_identity::provider(leaf, &proxy.common_names)
}

async fn answer(
    gateway: &Gateway,
    about: &About,
    (proxy, certificate): (&Proxy, &ProviderCertificate),
    received: &Received,
    body: Result<Taken, Error>,
) -> Result<Response, Error> {
    let Received { operation, parts, now, ticks } = received;
    let law = &gateway.law;
    let Some(path) = proxy.path(parts.uri.path()) else {
        return Err(Error::new(ErrorKind::Internal, Stage::Receive, "a path that was found is gone"));
    };
    // A body that did not come is somebody's all the same.
    let message::Request { id, says, asks } = match body {
        Ok(body) => message::decode(&path, parts.uri.query(), &body),
        Err(error) => message::Request::unread(error),
    };
    let inbound = Inbound {
        operation: *operation,
        tenant: &proxy.tenant,
        proof: Proof::Provider(certificate),
        only: Some(&proxy.caller),
        source: about.source,
        protocol: ekm::PROTOCOL,
        protocol_request: id.as_deref(),
        request: &says,
        trace: trace_id(&parts.headers),
        now: *now,
        ticks: *ticks,
        wants_receipt: false,
    };
    let recognised = law.recognise(&inbound)?;
    about.is_callers(&proxy.tenant, recognised.caller().name());
    let (action, key) = match &path {
        Path::Info => (Action::ReadStatus, None),
        Path::Key(known, operation) => {
            let action = match operation {
                path::Operation::Metadata => Action::ReadKey,
                path::Operation::Wrap => Action::Wrap,
                path::Operation::Unwrap => Action::Unwrap,
            };
            (action, Some(proxy.key(known)))
        }
    };
    let named = key.as_ref().and_then(|key| key.as_ref().ok()).cloned();
    let turn_away =
        async |action, error| Err(law.turn_away(&recognised, (action, named.as_ref()), error).await);
    if !proxy.quota.take(*ticks) {
        let error = Error::new(ErrorKind::Throttled, Stage::Receive, "the proxy's quota is used up")
            .remedy("slow down, or have an operator raise `requests_per_second` of the proxy");
        return Err(law.throttle(&recognised, (action, named.as_ref()), error).await);
    }
    let (asks, key) = match (asks, key.transpose()) {
        (Err(error), _) => return turn_away(Action::Undecoded, error).await,
        (Ok(_), Err(error)) => return turn_away(action, error).await,
        (Ok(asks), Ok(key)) => (asks, key),
    };
    match (asks, key) {
        (message::Asks::Metadata, Some(key)) => metadata(gateway, &recognised, &key).await,
        (message::Asks::Use(operation), Some(key)) => {
            let call = Call::Key { key: key.clone(), operation };
            match law.use_key_as(&recognised, call).await {
                Ok(released) => {
                    let (answer, _receipt, _departing) = released.into_parts();
                    message::answer(answer)
                }
                // A key that is none of this protocol's is none of the proxy's.
                Err(error)
                    if error.kind() == ErrorKind::Unsupported && !is_own(gateway, proxy, &key).await? =>
                {
                    Err(no_such_key().because(error))
                }
                Err(error) => Err(error),
            }
        }
        (message::Asks::Info | message::Asks::Metadata | message::Asks::Use(_), _) => {
            told::serves(gateway, &recognised).await?;
            info(gateway)
        }
    }
}

fn no_such_key() -> Error {
    Error::new(ErrorKind::NotFound, Stage::Resolve, "the proxy has no key of that name")
}

async fn is_own(gateway: &Gateway, proxy: &Proxy, key: &KeyName) -> Result<bool, Error> {
    let entry = gateway.law.engines().state.key(&proxy.tenant, key).await?;
    Ok(entry.is_some_and(|entry| entry.key.protocol == Some(ekm::PROTOCOL)))
}

/// What a key is, for as long as it wraps: the provider keeps this for good.
async fn metadata(
    gateway: &Gateway,
    recognised: &Recognised<'_, crate::root::Embedded>,
    name: &KeyName,
) -> Result<Response, Error> {
    let told::Described { key, current, standing } = told::described(gateway, recognised, name).await?;
    standing?;
    let is_one = key.protocol == Some(ekm::PROTOCOL)
        && key.purpose == Purpose::Wrap
        && message::kind(key.algorithm).is_some();
    if !is_one {
        return Err(no_such_key());
    }
    if key.is_archived() || key.state.permits(Action::Wrap).is_err() {
        return Err(Error::new(ErrorKind::KeyState, Stage::Answer, "the key wraps nothing now"));
    }
    let public = match key.algorithm.family() {
        Family::Rsa => current.public.clone(),
        Family::KeyWrap
        | Family::Aead
        | Family::Signature
        | Family::Hmac
        | Family::Agreement
        | Family::Kem => None,
    };
    message::metadata(key.algorithm, public.as_deref())
}

/// Who answers: only while what is needed to use a key is there.
fn info(gateway: &Gateway) -> Result<Response, Error> {
    let unready = |why: String| Error::new(ErrorKind::KeyStoreUnavailable, Stage::Answer, why);
    ready(gateway.law.engines().keys.health()).map_err(unready)?;
    let (vendor, product) = product(&gateway.law);
    Ok(message::info(&vendor, &product))
}
