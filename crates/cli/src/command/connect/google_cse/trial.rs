//! The test: the service is asked through the gateway's own listener as Google and a browser ask.

use super::client::{Answer, Browser, refusal};
use super::{Service, Tokens};
use crate::app::App;
use crate::command::connect::token::TOLERANCE;
use crate::command::connect::{Report, listener};
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_sdk::Reply;
use holdfast_sdk::message::Key;
use holdfast_wire::cse::claim::Application;
use holdfast_wire::cse::format::MAX_WRAPPED_KEY;
use holdfast_wire::cse::jws::PublicKey;
use holdfast_wire::cse::{AUTHORIZATION_AUDIENCE, ORIGIN};
use serde_json::Value;
use std::time::Instant;

/// What stands in the log as the reason.
pub(super) const REASON: &str = "holdfast connect";
/// What is wrapped; no secret.
const DEK: &[u8; 32] = b"holdfast connect: this is no key";
/// An origin that is nobody's (RFC 2606).
const STRANGER: &str = "https://stranger.example";

type Tried = Result<(), (&'static str, Failure)>;

fn at(what: &'static str) -> impl Fn(Failure) -> (&'static str, Failure) {
    move |failure| (what, failure)
}

/// Asks for all of it, as far as it makes sense. Without tokens it ends where the service asks for them. Gives whether the service is there.
pub(super) async fn run(
    app: &App,
    browser: &Browser<'_>,
    (tokens, signing): (Option<&Tokens>, Option<&Key>),
    report: &mut Report,
) -> bool {
    let methods = match begin(app, browser, report).await {
        Ok(methods) => methods,
        Err((what, failure)) => {
            report.findings.wrong(what, &failure);
            return false;
        }
    };
    let tried = async {
        published(browser, (&methods, signing), report).await?;
        without(browser, report).await
    };
    if let Err((what, failure)) = tried.await {
        report.findings.wrong(what, &failure);
    }
    let Some(tokens) = tokens else {
        report.findings.watch(
            "wrap and unwrap",
            "nothing was wrapped: both tokens are issued by others",
            "give them with `--authentication-token-file` and `--authorization-token-file`: Google's is the `jwt` that the Drive API's files.generateCseToken answers, the provider's an id token for its client; or take both out of a browser's own request to `…/wrap`, while a user makes an encrypted document (developer tools, Network). They are worth an hour or less, and open that one object alone",
        );
        return true;
    };
    let tried = async {
        examine(browser.service, tokens, report).map_err(at("tokens"))?;
        wrap(browser, tokens, report).await
    };
    if let Err((what, failure)) = tried.await {
        report.findings.wrong(what, &failure);
    }
    true
}

/// Up to what the service says that it does.
async fn begin(
    app: &App,
    browser: &Browser<'_>,
    report: &mut Report,
) -> Result<Vec<String>, (&'static str, Failure)> {
    let Browser { client, service } = browser;
    listener::connected(client, report).await.map_err(at("connection"))?;
    let told = "tokens are of Google's and the provider's";
    listener::clocks(client, (TOLERANCE, told), report).await.map_err(at("clock"))?;
    report.doing("asking for its status");
    let status = browser.read("status").await.map_err(at("status"))?;
    if status.status() != 200 || status.text("server_type") != "KACLS" {
        return Err(("status", refusal(service, &status, "its status")));
    }
    let methods = status.body.get("operations_supported").and_then(Value::as_array);
    let methods = methods.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let methods: Vec<String> = methods.collect();
    let (vendor, version) = (status.text("vendor_id"), status.text("version"));
    report.findings.fine("status", format!("{vendor} {version}: {}", methods.join(", ")));
    switched_on(service, &methods, report);
    let is_same =
        |there: &Reply| serde_json::from_slice::<Value>(&there.body).is_ok_and(|there| there == status.body);
    let remedy = "browsers and Google call that name at port 443 and trust public authorities alone: have the name lead to the gateway, and its certificate be of such an authority";
    let path = service.path("status");
    listener::name(app, (service.url.authority(), &path), ("browsers", remedy), is_same, report).await;

    report.doing("asking as a browser does before it posts");
    let preflight = browser.preflight(ORIGIN).await.map_err(at("preflight"))?;
    cross_origin(&preflight).map_err(at("preflight"))?;
    let stranger = browser.preflight(STRANGER).await.map_err(at("preflight"))?;
    if let Some(origin) = stranger.reply.header("access-control-allow-origin") {
        let problem = format!("pages of `{STRANGER}` may read its answers too (`{origin}`)");
        let failure = Failure::new(Exit::State, problem).remedy(
            "a proxy must leave the answers' headers as they are; `origins` is to have Google's client alone",
        );
        return Err(("preflight", failure));
    }
    report.findings.fine("preflight", format!("pages of `{ORIGIN}` may post, and no others"));
    Ok(methods)
}

/// Whether it does what was wanted of it.
fn switched_on(service: &Service, methods: &[String], report: &mut Report) {
    let wanted = [
        ("delegate", service.signing_key.is_some(), "`signing_keys`"),
        ("rewrap", !service.take_from.is_empty(), "`take_from` and `signing_keys`"),
        ("privilegedunwrap", !service.give_to.is_empty(), "`give_to`"),
    ];
    for (method, _, setting) in wanted
        .into_iter()
        .filter(|(method, is_wanted, _)| *is_wanted && !methods.iter().any(|known| known == method))
    {
        let failure = Failure::new(Exit::State, format!("it has no `{method}`"))
            .remedy(format!("set {setting} of its `[[google_cse]]`, and restart the gateway"));
        report.findings.wrong("status", &failure);
    }
}

/// What a browser demands before it lets a page post JSON.
fn cross_origin(preflight: &Answer) -> Result<(), Failure> {
    let has = |header: &str, word: &str| {
        let value = preflight.reply.header(header).unwrap_or_default();
        value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    let lacks = if !preflight.is_readable() {
        Some((format!("`{ORIGIN}` may read nothing"), "add it to `origins`"))
    } else if !has("access-control-allow-methods", "POST") {
        Some(("no `POST` is allowed".to_owned(), "look at the proxy in front"))
    } else if !has("access-control-allow-headers", "content-type") {
        Some(("no `Content-Type` is allowed".to_owned(), "add it to `request_headers`"))
    } else {
        None
    };
    let status = preflight.status();
    match lacks {
        None if (200..300).contains(&status) => Ok(()),
        None => Err(Failure::new(Exit::State, format!("it is answered {status}"))
            .remedy("look at the proxy in front: preflights have no token and no body")),
        Some((lacks, remedy)) => Err(Failure::new(Exit::State, format!("{lacks}: browsers refuse to ask"))
            .remedy(format!("{remedy} of its `[[google_cse]]`, and restart the gateway; a proxy must leave such requests and their answers as they are"))),
    }
}

/// The keys of the service's own tokens.
async fn published(
    browser: &Browser<'_>,
    (methods, signing): (&[String], Option<&Key>),
    report: &mut Report,
) -> Tried {
    let what = "certs";
    let certs = browser.read("certs").await.map_err(at(what))?;
    if certs.status() != 200 {
        return Err((what, refusal(browser.service, &certs, "its keys")));
    }
    let keys = certs.body.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let signs = methods.iter().any(|method| method == "delegate");
    let remedy = "look at the keys of `signing_keys`: RSA keys to sign, active; `holdfast key show`";
    if signs && keys.is_empty() {
        let failure = Failure::new(Exit::State, "no key is published that its own tokens verify with");
        return Err((what, failure.remedy(remedy)));
    }
    let own = signing.and_then(|key| Some((key, PublicKey::of(&key.public_key.as_ref()?.0)?)));
    if let Some((key, own)) = own
        && !keys.iter().any(|known| known.get("kid").and_then(Value::as_str) == Some(own.id()))
    {
        let problem = format!("`{}` is not among the keys that are published", key.name.0);
        return Err((what, Failure::new(Exit::State, problem).remedy(remedy)));
    }
    report.findings.fine(what, format!("{} keys", keys.len()));
    Ok(())
}

/// That nobody is let in without a right token, and that the page is told.
async fn without(browser: &Browser<'_>, report: &mut Report) -> Tried {
    let what = "wrong tokens";
    let refused = browser.wrap(("e30.e30.AAAA", "e30.e30.AAAA"), DEK).await.map_err(at(what))?;
    if refused.status() != 401 {
        let failure = match refused.status() {
            200 => Failure::new(Exit::Integrity, "tokens of nobody's are taken")
                .remedy("do not use it, and report it"),
            _ => refusal(browser.service, &refused, "tokens of nobody's"),
        };
        return Err((what, failure));
    }
    if !refused.is_readable() {
        let failure = Failure::new(Exit::State, "its refusals have no header that lets a page read them");
        return Err((
            what,
            failure.remedy("a proxy must leave the answers' headers as they are, of errors too"),
        ));
    }
    report.findings.fine(what, "are refused, and the page may read so");
    Ok(())
}

/// Looks at what can be seen of the tokens from outside.
fn examine(service: &Service, tokens: &Tokens, report: &mut Report) -> Result<(), Failure> {
    let Service { url, providers, audiences, owner_domains, .. } = service;
    let Tokens { authentication: user, authorization: google } = tokens;
    user.is_of(
        providers,
        "name its provider with `--provider`, and in `providers` with an `[[issuer]]`; or take a token of that one",
    )?;
    user.is_for(
        audiences,
        "name its client id with `--audience` and in `audiences`, or take a token that was issued for Google's client",
    )?;
    user.is_of_now()?;
    let applications = [Application::Drive, Application::Meet, Application::Calendar];
    let issuers = applications.map(|application| application.issuer().to_owned());
    google
        .is_of(&issuers, "take one that Drive, Docs, Meet or Calendar ask with: the others wrap no keys")?;
    google.is_for(&[AUTHORIZATION_AUDIENCE.to_owned()], "take Google's token, as the client sends it")?;
    google.is_of_now()?;
    let theirs = google.text("kacls_url");
    if !url.is(theirs) {
        let remedy = format!(
            "give the external key service in the admin console the URL `{url}`, or name that one with `--kacls-url` and as `kacls_url`"
        );
        return Err(google
            .wrong(format!("is for the key service `{theirs}`, not for `{url}`"), remedy)
            .ending(Exit::State));
    }
    let owner = google.text("kacls_owner_domain");
    if !owner.is_empty() && !owner_domains.iter().any(|domain| domain.eq_ignore_ascii_case(owner)) {
        let remedy = "name that domain with `--owner-domain` and in `owner_domains`, if it is yours";
        return Err(google.wrong(format!("is of the domain `{owner}`"), remedy).ending(Exit::State));
    }
    let known = match user.text("google_email") {
        "" => user.text("email"),
        known => known,
    };
    let email = google.text("email");
    if !known.eq_ignore_ascii_case(email) || email.is_empty() {
        let remedy = "take both of one user; where the addresses differ by design, have the provider put Google's into the claim `google_email`";
        return Err(google
            .wrong(format!("is of `{email}`, and the other one of `{known}`"), remedy)
            .ending(Exit::Denied));
    }
    if !google.text("delegated_to").is_empty() {
        let remedy =
            "take one that is not delegated: the delegated one of `delegate` would have to go with it";
        return Err(google.wrong("has `delegated_to`", remedy).ending(Exit::Usage));
    }
    let role = google.text("role");
    if !["writer", "upgrader"].contains(&role) {
        let remedy = "take one with the role `writer`: as a client has it that creates or edits a document";
        return Err(google
            .wrong(format!("lets nobody wrap: its role is `{role}`"), remedy)
            .ending(Exit::Usage));
    }
    let application = Application::of(google.text("iss")).map_or("?", Application::name);
    let detail = format!("of `{email}`, {role} in {application}, for `{}`", google.text("resource_name"));
    report.findings.fine("tokens", detail);
    Ok(())
}

async fn wrap(browser: &Browser<'_>, tokens: &Tokens, report: &mut Report) -> Tried {
    report.doing("wrapping and unwrapping");
    let service = browser.service;
    let Tokens { authentication: user, authorization: google } = tokens;
    let begun = Instant::now();
    let wrapped = browser.wrap((user.expose(), google.expose()), DEK).await.map_err(at("wrap"))?;
    let took = begun.elapsed();
    if wrapped.status() != 200 {
        return Err(("wrap", refusal(service, &wrapped, "to wrap")));
    }
    let blob = wrapped.bytes("wrapped_key").filter(|_| wrapped.text("wrapped_key").len() <= MAX_WRAPPED_KEY);
    let Some(blob) = blob else {
        let failure = Failure::new(Exit::Integrity, "its answer is no wrapped key that Google takes");
        return Err(("wrap", failure.remedy("do not use it, and report it")));
    };
    let ms = took.as_secs_f64() * 1000.0;
    report.findings.fine("wrap", format!("{} bytes, in {ms:.1} ms", blob.len()));
    for (user, google, whose) in [
        (user.forged().as_str(), google.expose(), "the provider's"),
        (user.expose(), google.forged().as_str(), "Google's"),
        (google.expose(), user.expose(), "each in the other's place: both"),
    ] {
        let forged = browser.wrap((user, google), DEK).await.map_err(at("wrong signature"))?;
        if forged.status() != 401 {
            let problem = format!("{whose} with a wrong signature or place is answered {}", forged.status());
            let failure = Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it");
            return Err(("wrong signature", failure));
        }
    }
    report
        .findings
        .fine("wrong signature", "is refused, of either token, and so are both in each other's place");
    if google.text("role") == "upgrader" {
        report.findings.watch(
            "unwrap",
            "left out: an `upgrader` wraps and does not unwrap",
            "take a token with the role `writer`",
        );
        return Ok(());
    }
    let unwrapped = browser.unwrap(tokens, &blob).await.map_err(at("unwrap"))?;
    if unwrapped.status() != 200 {
        return Err(("unwrap", refusal(service, &unwrapped, "to unwrap")));
    }
    if unwrapped.bytes("key").as_deref() != Some(DEK) {
        let failure = Failure::new(Exit::Integrity, "another key comes back than went there");
        return Err(("unwrap", failure.remedy("do not use it, and report it")));
    }
    let mut damaged = blob;
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let other = browser.unwrap(tokens, &damaged).await.map_err(at("unwrap"))?;
    if other.status() != 400 {
        let problem = format!("a damaged one is answered {}", other.status());
        return Err((
            "unwrap",
            Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it"),
        ));
    }
    report.findings.fine("unwrap", "gives the key back, and refuses a damaged one");
    Ok(())
}
