//! Who asks, and whether Google, the provider and the rules let them: everything before a key is used.

use super::says::Said;
use super::{Received, Refused, perform};
use crate::google_cse::{Audiences, Service};
use crate::issuer;
use crate::listener::About;
use crate::quota::Share;
use crate::serve::Gateway;
use holdfast_core::action::Action;
use holdfast_core::context::Context;
use holdfast_core::peer::{IssuedToken, Proof};
use holdfast_core::pipeline::Inbound;
use holdfast_core::{Error, ErrorKind, OperationId, Secret, Stage};
use holdfast_identity::Reason;
use holdfast_identity::issued::{Claims, Expected, Moment, Token};
use holdfast_wire::cse::PROTOCOL;
use holdfast_wire::cse::check::Check;
use holdfast_wire::cse::claim::{Application, Authentication, Authorization, Migration};
use holdfast_wire::cse::message::{self, Asks};
use holdfast_wire::cse::path::Method;
use holdfast_wire::native::encode::Response;
use std::sync::LazyLock;

static AUDIENCES: LazyLock<Audiences> = LazyLock::new(Audiences::new);

/// Whoever speaks for the user, once the token was examined.
enum Speaker {
    /// The user, by an identity provider's word or our own.
    User(Claims, Authentication),
    /// Another key service.
    Peer(Claims, Migration),
}

impl Speaker {
    fn claims(&self) -> &Claims {
        match self {
            Self::User(claims, _) | Self::Peer(claims, _) => claims,
        }
    }
}

/// Everything that is known of who asks for what.
pub(super) struct Asked<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) service: &'a Service,
    pub(super) received: &'a Received,
    pub(super) about: &'a About,
    /// By which token the caller is recognised.
    token: &'a IssuedToken,
    pub(super) says: &'a Context,
    pub(super) authorization: Option<&'a Authorization>,
    pub(super) user: Option<(&'a Claims, &'a Authentication)>,
    pub(super) reason: &'a str,
}

impl<'a> Asked<'a> {
    /// The request as the law knows it; `operation` is another one for what has to happen before what was asked.
    pub(super) fn inbound(&'a self, operation: OperationId, part_of: Option<&'a str>) -> Inbound<'a> {
        let Self { service, received, about, token, says, .. } = self;
        Inbound {
            operation,
            tenant: &service.tenant,
            proof: Proof::Issued(token),
            only: Some(&service.caller),
            source: about.source,
            protocol: PROTOCOL,
            protocol_request: part_of,
            request: says,
            trace: received.trace(),
            now: received.now,
            ticks: received.ticks,
            wants_receipt: false,
        }
    }
}

pub(super) async fn answer(
    gateway: &Gateway,
    about: &About,
    service: &Service,
    received: &Received,
    body: &[u8],
) -> Result<Response, Refused> {
    let law = &gateway.law;
    let nobody = |refused: &Refused| law.count_noise(about.source, refused.error.kind().code());
    let (head, asks) = message::decode(received.method, body);
    let at = Moment { now: received.now, ticks: received.ticks };
    let method = received.method;
    let desk = Desk { gateway, service, method, at };
    let speaker = match &head.authentication {
        Some(token) => Some(desk.speaker(token).await),
        None => None,
    };
    let authorization = match &head.authorization {
        Some(token) => Some(desk.authorization(token).await),
        None => None,
    };
    // Whoever is to be recognised: the user or the peer, and where there is none Google's own servers.
    let (speaker, authorization) = match (speaker, authorization, method.has_authentication()) {
        (Some(Ok(speaker)), authorization, true) => (Some(speaker), authorization),
        (None, Some(Ok(authorization)), false) => (None, Some(Ok(authorization))),
        (Some(Err(refused)), _, _) | (None, Some(Err(refused)), _) => {
            nobody(&refused);
            return Err(refused);
        }
        (Some(Ok(_)), _, false) | (None, Some(Ok(_)), true) | (None, None, _) => {
            let error = asks.err().unwrap_or_else(|| Reason::NoProof.refuse());
            law.count_noise(about.source, error.kind().code());
            return Err(error.into());
        }
    };
    let (authorization, unauthorised) = match authorization {
        Some(Ok((claims, authorization))) => (Some((claims, authorization)), None),
        Some(Err(refused)) => (None, Some(refused)),
        None => (None, None),
    };
    let (asks, undecoded) = match asks {
        Ok(asks) => (Some(asks), None),
        Err(error) => (None, Some(error)),
    };
    let token = match (&speaker, &authorization) {
        (Some(speaker), _) => speaker.claims().token(),
        (None, Some((claims, _))) => claims.token(),
        (None, None) => return Err(Reason::NoProof.refuse().into()),
    };
    let (user, peer) = match &speaker {
        Some(Speaker::User(claims, user)) => (Some((claims, user)), None),
        Some(Speaker::Peer(claims, _)) => (None, Some(claims.issuer())),
        None => (None, None),
    };
    let granted = authorization.as_ref().map(|(_, authorization)| authorization);
    let reason = &*head.reason;
    let said = Said { method, reason, user, peer, authorization: granted, asks: asks.as_ref() };
    let signs = service.signing_key().filter(|_| method == Method::Delegate);
    let key = signs.unwrap_or_else(|| service.key(said.perimeter()));
    let (says, too_much) = match said.context(service) {
        Ok(says) => (says, None),
        Err(error) => (Context::EMPTY, Some(error)),
    };
    let asked =
        Asked { gateway, service, received, about, token, says: &says, authorization: granted, user, reason };
    let inbound = asked.inbound(received.operation, None);
    let recognised = law.recognise(&inbound)?;
    about.is_callers(inbound.tenant, recognised.caller().name());
    let action = action(method);
    let share = share(service, method, speaker.as_ref(), (token.issuer(), granted));
    if let Err(error) = service.quotas.take(share, received.ticks) {
        return Err(law.throttle(&recognised, (action, Some(key)), error).await.into());
    }
    // A token that is missing is told as that.
    let is_whole = granted.is_some() == method.has_authorization();
    let broken = rules(service, method, &speaker, granted, asks.as_ref()).err().filter(|_| is_whole);
    let turned_away = match (unauthorised, too_much.or(broken.map(Check::refuse)), undecoded) {
        (Some(refused), ..) => Some((action, refused)),
        (None, Some(error), _) => Some((action, error.into())),
        (None, None, Some(error)) => Some((Action::Undecoded, error.into())),
        (None, None, None) => None,
    };
    match (turned_away, asks) {
        (None, Some(asks)) => perform::perform(&asked, &recognised, (action, key), asks).await,
        (None, None) => Err(Error::new(ErrorKind::Internal, Stage::Decode, "nothing is asked").into()),
        (Some((action, refused)), _) => Err(asked.turn_away(&recognised, (action, key), refused).await),
    }
}

/// Whose share a request takes: a user's, also where somebody acts for them, and where nobody but Google speaks whom it speaks of. Administrators by
/// their own methods, Google's migration and other key services come in bulk.
fn share<'a>(
    service: &Service,
    method: Method,
    speaker: Option<&'a Speaker>,
    (google, granted): (&'a str, Option<&'a Authorization>),
) -> Share<'a> {
    match speaker {
        Some(Speaker::User(claims, user)) => {
            if !method.has_authorization() && service.is_admin(claims.issuer(), user.email.as_deref()) {
                return Share::Bulk;
            }
            let issuer = user.original_issuer.as_deref().unwrap_or_else(|| claims.issuer());
            let names = [claims.subject(), user.email.as_deref(), user.google_email.as_deref()];
            Share::Person(issuer, names.into_iter().flatten().next().unwrap_or_default())
        }
        Some(Speaker::Peer(..)) => Share::Bulk,
        None if google == Application::Migration.issuer() => Share::Bulk,
        None => granted.map_or(Share::Everybodys, |granted| Share::Person(google, &granted.email)),
    }
}

/// What the policy is asked about, so far as that is one thing.
const fn action(method: Method) -> Action {
    match method {
        Method::Wrap | Method::PrivilegedWrap | Method::Rewrap | Method::WrapPrivateKey => Action::Encrypt,
        Method::Unwrap
        | Method::PrivilegedUnwrap
        | Method::Digest
        | Method::PrivateKeySign
        | Method::PrivateKeyDecrypt
        | Method::PrivilegedPrivateKeyDecrypt => Action::Decrypt,
        Method::Delegate => Action::Sign,
        Method::Status | Method::Certs => Action::ReadStatus,
    }
}

/// The rules, whoever speaks.
fn rules(
    service: &Service,
    method: Method,
    speaker: &Option<Speaker>,
    authorization: Option<&Authorization>,
    asks: Option<&Asks>,
) -> Result<(), Check> {
    if authorization.is_some() != method.has_authorization() {
        return Err(Check::Issuer);
    }
    match (speaker, authorization) {
        (Some(Speaker::User(claims, user)), Some(said)) => {
            service.rules().allow(method, said, Some((user, claims.issuer())))?;
        }
        (None, Some(said)) => service.rules().allow(method, said, None)?,
        (Some(Speaker::User(claims, user)), None) => {
            let is_named = service.is_admin(claims.issuer(), user.email.as_deref());
            let is_right = user.delegated_to.is_none() && is_named;
            if !is_right {
                return Err(Check::Privilege);
            }
        }
        (Some(Speaker::Peer(_, migration)), None) => {
            if !service.url.is(&migration.kacls_url) {
                return Err(Check::KaclsUrl);
            }
            match asks {
                Some(Asks::PrivilegedUnwrap { resource, .. }) if *resource != migration.resource => {
                    return Err(Check::Resource);
                }
                Some(_) | None => {}
            }
        }
        (Some(Speaker::Peer(..)), Some(_)) | (None, None) => return Err(Check::Issuer),
    }
    let allowed = authorization.and_then(|said| said.spki_hash);
    match asks {
        Some(Asks::Sign { key: (_, hash), .. }) => message::same_spki(hash, allowed),
        Some(Asks::Decrypt { key: (_, ours), hash, .. }) => message::same_spki(ours, hash.or(allowed)),
        Some(Asks::Rewrap { original, .. }) if service.peer(original).is_none() => Err(Check::Peer),
        Some(
            Asks::Wrap(_)
            | Asks::Unwrap(_)
            | Asks::Delegate
            | Asks::PrivilegedWrap { .. }
            | Asks::PrivilegedUnwrap { .. }
            | Asks::Rewrap { .. }
            | Asks::Digest(_)
            | Asks::WrapPrivateKey { .. },
        )
        | None => Ok(()),
    }
}

/// Where tokens are examined.
struct Desk<'a> {
    gateway: &'a Gateway,
    service: &'a Service,
    method: Method,
    at: Moment,
}

impl Desk<'_> {
    /// Who it is: a user, by a provider's word or by our own; for one method also another service.
    async fn speaker(&self, token: &Secret) -> Result<Speaker, Refused> {
        let text = core::str::from_utf8(token.expose()).unwrap_or_default();
        let Self { gateway, service, method, at } = self;
        let token = Token::parse(text).map_err(unknown)?;
        let claimed = token.issuer().unwrap_or_default();
        let is_delegate = matches!(method, Method::Wrap | Method::Unwrap | Method::Delegate);
        if is_delegate && claimed == service.issuer && service.signing_key().is_some() {
            let claims = self.own(token).await?;
            let read = Authentication::delegated(&|name| claims.get(name)).map_err(unusable)?;
            return Ok(Speaker::User(claims, read));
        }
        if *method == Method::PrivilegedUnwrap && service.give_to.iter().any(|peer| peer == claimed) {
            let expected =
                Expected { audiences: Some(&AUDIENCES.migration), issuers: Some(&service.give_to) };
            let claims = gateway.issuers.examine(token, &expected, *at).await.map_err(unknown)?;
            let read = Migration::read(&|name| claims.get(name)).map_err(unusable)?;
            return Ok(Speaker::Peer(claims, read));
        }
        // Without Google's word, an everyday session's token is not enough.
        let (audiences, issuers) = match method.is_privileged() {
            true => (&service.admin_audiences, &service.admin_providers),
            false => (&service.audiences, &service.users_providers),
        };
        let expected = Expected { audiences: Some(audiences), issuers: Some(issuers) };
        user(gateway.issuers.examine(token, &expected, *at).await.map_err(unknown)?)
    }

    /// A token of our own, by the keys that we publish.
    async fn own(&self, token: Token<'_>) -> Result<Claims, Refused> {
        let Self { gateway, service, at, .. } = self;
        let published = service.published(&gateway.law.engines().state).await?;
        let expected = Expected { audiences: Some(&AUDIENCES.delegation), issuers: None };
        token.verify(&published.believed, &expected, *at).map_err(|(_, reason)| unknown(reason))
    }

    /// What they may do: Google's word.
    async fn authorization(&self, token: &Secret) -> Result<(Claims, Authorization), Refused> {
        let text = core::str::from_utf8(token.expose()).unwrap_or_default();
        let Self { gateway, service, at, .. } = self;
        let expected = Expected { audiences: Some(&AUDIENCES.authorization), issuers: Some(&service.google) };
        let claims = gateway.issuers.verify(text, &expected, *at).await.map_err(unknown)?;
        let application = Application::of(claims.issuer()).ok_or_else(|| unknown(Reason::OtherIssuer))?;
        let read = Authorization::read(application, &|name| claims.get(name)).map_err(unusable)?;
        Ok((claims, read))
    }
}

fn user(claims: Claims) -> Result<Speaker, Refused> {
    let mut read = Authentication::read(&|name| claims.get(name)).map_err(unusable)?;
    // One that nobody has verified is nobody's: anybody can give another's. Google's the provider says by itself.
    read.email = read.email.filter(|_| issuer::is_verified(&claims));
    Ok(Speaker::User(claims, read))
}

/// Why nobody can be told from a token; where its issuer's keys are not known now, it is nobody's fault who asks.
fn unknown(reason: Reason) -> Refused {
    let status = matches!(reason, Reason::NoKeys).then_some(503);
    Refused { error: reason.refuse(), status }
}

fn unusable(why: holdfast_wire::cse::claim::Unusable) -> Refused {
    Reason::Malformed.refuse().because(why).into()
}
