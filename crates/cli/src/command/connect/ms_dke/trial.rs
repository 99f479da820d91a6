//! The test: the key's document is read and something decrypted through the gateway's own listener, as Office does it.

use super::office::{Document, Office, challenge, is_protocols, refusal, seal};
use super::{Known, Service};
use crate::app::App;
use crate::command::connect::token::{TOLERANCE, Token};
use crate::command::connect::{Report, listener};
use crate::exit::Exit;
use crate::failure::Failure;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::action::Action;
use holdfast_core::lifecycle::KeyState;
use holdfast_sdk::Reply;
use holdfast_sdk::message::Version;
use std::time::Instant;

/// What is encrypted: as long as what Office encrypts, and no secret.
const PLAIN: &[u8; 44] = b"holdfast connect: 44 bytes, this is a trial.";

type Tried = Result<(), (&'static str, Failure)>;

fn at(what: &'static str) -> impl Fn(Failure) -> (&'static str, Failure) {
    move |failure| (what, failure)
}

/// Asks for all of it, as far as it makes sense. Without a token it ends where the service asks for one. Gives whether the service is there.
pub(super) async fn run(
    app: &App,
    office: &Office<'_>,
    (known, token): (Option<Known>, Option<&Token>),
    report: &mut Report,
) -> bool {
    let id = match begin(app, office, known.as_ref(), report).await {
        Ok(id) => id,
        Err((what, failure)) => {
            report.findings.wrong(what, &failure);
            return false;
        }
    };
    let Some(token) = token else {
        let origin = office.service.origin();
        report.findings.watch(
            "decrypt",
            "nothing was decrypted: there is no token here",
            &format!(
                "give one of somebody who opens documents with `--entra-token-file`; `az account get-access-token --resource {origin} --query accessToken -o tsv` prints one's own, once Azure's command line is among the authorized client applications"
            ),
        );
        return true;
    };
    let tried = async {
        examine(office.service, token, report).map_err(at("token"))?;
        decrypt(office, (known.as_ref(), &id), token, report).await
    };
    if let Err((what, failure)) = tried.await {
        report.findings.wrong(what, &failure);
    }
    true
}

/// Up to whether there is a service that asks for a token; the id of the version that its document tells.
async fn begin(
    app: &App,
    office: &Office<'_>,
    known: Option<&Known>,
    report: &mut Report,
) -> Result<String, (&'static str, Failure)> {
    let Office { client, service } = office;
    listener::connected(client, report).await.map_err(at("connection"))?;
    let told = "tokens are of Microsoft's";
    listener::clocks(client, (TOLERANCE, told), report).await.map_err(at("clock"))?;
    report.doing("reading the key's document");
    let reply = office.document().await.map_err(at("document"))?;
    if reply.status != 200 || !is_protocols(&reply) {
        return Err(("document", refusal(service, &reply, "the key's document")));
    }
    let (id, document) = document(service, known, &reply, report).map_err(at("document"))?;
    report.doing("asking without a token");
    let reply = office.challenged(&id).await.map_err(at("challenge"))?;
    challenged(service, &reply, report).map_err(at("challenge"))?;
    let forged = office.decrypt(&id, &[0; 256], "e30.e30.AAAA").await.map_err(at("wrong token"))?;
    if forged.status != 401 {
        let problem = format!("a token of nobody's is answered {}", forged.status);
        let failure = Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it");
        return Err(("wrong token", failure));
    }
    report.findings.fine("wrong token", "is refused");
    let is_same = |there: &Reply| {
        Document::read(&there.body)
            .is_some_and(|there| (there.n, there.kid) == (document.n.clone(), document.kid.clone()))
    };
    let remedy = "Office calls that name at port 443 and trusts the authorities of its machine: have the name lead to the gateway, and its certificate be of such an authority";
    let place = (service.place.authority(), service.path(""));
    listener::name(app, (place.0, &place.1), ("Office", remedy), is_same, report).await;
    Ok(id)
}

/// Looks at the document, byte for byte and against the key's record.
fn document(
    service: &Service,
    known: Option<&Known>,
    reply: &Reply,
    report: &mut Report,
) -> Result<(String, Document), Failure> {
    let Some(document) = Document::read(&reply.body) else {
        let failure = Failure::new(Exit::Integrity, "it is not byte for byte what clients expect");
        return Err(failure.remedy(
            "look at what stands between here and the gateway: a proxy must leave answers as they are",
        ));
    };
    let label = service.label();
    let id = document.kid.strip_prefix(&label).and_then(|rest| rest.strip_prefix('/'));
    let Some(id) = id.filter(|id| !id.is_empty() && !id.contains('/')) else {
        let problem = format!("it sends clients to `{}`, which is not below `{label}`", document.kid);
        return Err(Failure::new(Exit::State, problem).remedy(
            "set the `public_url` of its `[[ms_dke]]` to what clients call, and restart the gateway; or name that one with `--public-url`",
        ));
    };
    let newest = known.and_then(|known| {
        let current = known.key.current_version.as_ref().unwrap_or(&known.key.newest_version).0;
        let version = known.versions.iter().find(|version| version.version.0 == current)?;
        Some((current, known.id(version)?))
    });
    let version = match newest {
        Some((current, expected)) if expected == *id => format!("version {current}, "),
        Some((current, _)) => {
            let problem = format!("it is not of version {current} of `{}` here", service.key);
            return Err(Failure::new(Exit::State, problem).remedy(
                "look whether `--endpoint`, `--tenant` and the service's `tenant` are the same gateway's and tenant's",
            ));
        }
        None => String::new(),
    };
    let kept = match &document.until {
        Some(until) => format!("clients keep it until {until}"),
        None => "clients keep none of it".to_owned(),
    };
    let detail = format!("{} bits, {version}byte for byte as clients expect; {kept}", document.bits());
    report.findings.fine("document", detail);
    Ok((id.to_owned(), document))
}

/// Looks at what a client learns of where tokens come from, as Microsoft's tester does.
fn challenged(service: &Service, reply: &Reply, report: &mut Report) -> Result<(), Failure> {
    if reply.status != 401 {
        return Err(refusal(service, reply, "a request without a token"));
    }
    let origin = service.origin();
    let broken = |problem: String| {
        Failure::new(Exit::State, problem).remedy(
            "set `public_url` and `authorization` of the `[[ms_dke]]`; a proxy must leave the headers `www-authenticate`, `resource` and `authorization` as they are",
        )
    };
    let parts = challenge(reply).ok_or_else(|| broken("it is none that clients read".to_owned()))?;
    let part = |name: &str| parts.get(name).copied().unwrap_or_default();
    if part("resource") != origin || part("realm") != origin {
        let problem = format!("it sends clients for a token for `{}`, not for `{origin}`", part("resource"));
        return Err(broken(problem));
    }
    let authorization = part("authorization");
    let headers = ["resource", "authorization"].map(|name| reply.header(name).unwrap_or_default());
    if authorization.is_empty() || headers != [origin.as_str(), authorization] {
        return Err(broken("its headers say something else than itself".to_owned()));
    }
    let detail = format!("401: a token for `{origin}`, of `{authorization}`");
    report.findings.fine("challenge", detail);
    Ok(())
}

/// Looks at what can be seen of the token from outside.
fn examine(service: &Service, token: &Token, report: &mut Report) -> Result<(), Failure> {
    let Service { issuers, audiences, .. } = service;
    token.is_of(
        issuers,
        "take tokens of that directory: in `issuers` of the `[[ms_dke]]` with an `[[issuer]]`, at the caller, and with `--issuer`. One that ends with /v2.0 is of an application that asks for v2 tokens: ask for v1 (`accessTokenAcceptedVersion`), or take both",
    )?;
    let remedy = format!(
        "the Application ID URI of the app registration must be `{}`; or take tokens for that: in `audiences` of the `[[ms_dke]]`, and with `--audience`",
        service.origin()
    );
    token.is_for(audiences, &remedy)?;
    token.is_of_now()?;
    let who = ["email", "upn", "oid"].map(|claim| token.text(claim)).into_iter().find(|it| !it.is_empty());
    let Some(who) = who else {
        let problem = "says nobody: neither `email` nor `upn` nor `oid`";
        let remedy = "add `upn` or `email` to the optional claims of access tokens, in the application's token configuration";
        return Err(token.wrong(problem, remedy));
    };
    report.findings.fine("token", format!("of `{who}`, by `{}`", token.text("iss")));
    Ok(())
}

/// Decrypts what is encrypted here: for the version that the document tells, and for every other one at its own URL.
async fn decrypt(
    office: &Office<'_>,
    (known, id): (Option<&Known>, &str),
    token: &Token,
    report: &mut Report,
) -> Tried {
    report.doing("decrypting");
    let Office { service, .. } = office;
    let Some(known) = known else {
        report.findings.watch(
            "decrypt",
            format!("nothing was decrypted: `{}` cannot be read here", service.key),
            "run this as somebody who may read keys, with `--tenant`",
        );
        return Ok(());
    };
    let (mut opened, mut left) = (0_usize, vec![]);
    for version in &known.versions {
        let number = version.version.0;
        let (Some(its), Some(public)) = (known.id(version), &version.public_key) else {
            left.push(number);
            continue;
        };
        if !opens(known.key.state.0, version) {
            left.push(number);
            continue;
        }
        let is_told = its == id;
        let what = if is_told { "decrypt" } else { "versions" };
        let sealed = seal(&public.0, &OAEP_SHA256_MGF1SHA256, PLAIN).map_err(at(what))?;
        let begun = Instant::now();
        let reply = office.decrypt(&its, &sealed, token.expose()).await.map_err(at(what))?;
        let took = begun.elapsed();
        if reply.status != 200 {
            return Err((what, refusal(service, &reply, &format!("to decrypt with version {number}"))));
        }
        if *reply.body != *format!(r#"{{"value":"{}"}}"#, STANDARD.encode(PLAIN)).as_bytes() {
            let failure = Failure::new(Exit::Integrity, "another plaintext comes back than went there");
            return Err((what, failure.remedy("do not use it, and report it")));
        }
        opened = opened.saturating_add(1);
        if is_told {
            let other = seal(&public.0, &OAEP_SHA1_MGF1SHA1, &PLAIN[..16]).map_err(at(what))?;
            let other = office.decrypt(&its, &other, token.expose()).await.map_err(at(what))?;
            if other.status != 400 {
                let problem = format!("another padding is answered {}", other.status);
                return Err((
                    what,
                    Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it"),
                ));
            }
            let ms = took.as_secs_f64() * 1000.0;
            let detail =
                format!("gives back what was encrypted here, in {ms:.1} ms, and refuses another padding");
            report.findings.fine("decrypt", detail);
        }
    }
    let all = known.versions.len();
    let detail = format!("{opened} of {all} open at their own URLs");
    match left.is_empty() {
        true => report.findings.fine("versions", detail),
        false => {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            report.findings.watch(
                "versions",
                format!("{detail}; {} do not, by their state", left.join(", ")),
                &format!("documents of those open no more: `holdfast key versions {}`", service.key),
            );
        }
    }
    Ok(())
}

/// Whether a version decrypts, by its state and the key's.
fn opens(key: KeyState, version: &Version) -> bool {
    [key, version.state.0].iter().all(|state| state.permits(Action::Decrypt).is_ok())
}
