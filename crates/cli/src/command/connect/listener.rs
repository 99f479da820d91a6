//! The gateway's listener as a provider finds it: the connection, the certificate, the clock, and whether its name leads there.

use super::Report;
use crate::app::{App, by_machine};
use crate::clock;
use crate::command::doctor::examine_expiry;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::issue;
use holdfast_sdk::{Cause, Client, Reply};
use std::time::Duration;

/// From when on it is said that clocks are apart, in seconds.
const CLOCKS_WATCHED: u64 = 30;
/// How long a name may take that perhaps leads nowhere from here.
const NAME: Duration = Duration::from_secs(5);

/// Connects, and looks at the certificate.
pub(super) async fn connected(client: &Client, report: &mut Report) -> Result<(), Failure> {
    report.doing(format!("connecting to {}", client.address()));
    let probe = client.probe().await?;
    report.findings.fine("connection", format!("{}: {}", client.address(), probe.version));
    let expiry = probe.certificates.first().and_then(|certificate| issue::expiry(certificate));
    examine_expiry("server certificate", expiry, &mut report.findings);
    Ok(())
}

/// Looks how far the gateway's clock is from this machine's, which stands for that of whoever signs: from `apart` seconds on it is wrong, and `told`
/// says what that means.
pub(super) async fn clocks(
    client: &Client,
    (apart, told): (u64, &str),
    report: &mut Report,
) -> Result<(), Failure> {
    let date = client.date().await?;
    let Some(theirs) = date.as_deref().and_then(clock::http_date) else {
        report.findings.watch(
            "clock",
            "the gateway does not tell its time",
            "compare both machines' clocks by hand",
        );
        return Ok(());
    };
    let found = theirs.abs_diff(clock::now().seconds());
    let detail = format!("{found} s apart from this machine's; {apart} s are let in");
    let remedy = format!("synchronise the gateway's clock, or this machine's (NTP): {told}");
    match found {
        0..=CLOCKS_WATCHED => report.findings.fine("clock", detail),
        found if found < apart => report.findings.watch("clock", detail, &remedy),
        _ => report.findings.wrong("clock", &Failure::new(Exit::Unauthenticated, detail).remedy(remedy)),
    }
    Ok(())
}

/// What of an address somebody on the internet would not take.
pub(super) async fn lacks(client: &Client) -> Vec<String> {
    let authority = client.authority();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        Some(_) | None => (authority, "443"),
    };
    let mut lacks = vec![];
    if port != "443" {
        lacks.push(format!("port {port}"));
    }
    if host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[') {
        lacks.push("an address instead of a name".to_owned());
    }
    let public = by_machine(Client::builder(&client.address()).timeout(NAME))
        .and_then(|builder| Ok(builder.connect()?));
    if let Ok(public) = public
        && let Err(error) = public.probe().await
        && matches!(error.cause(), Cause::Untrusted)
    {
        lacks
            .push("a certificate of an authority that this machine does not know as a public one".to_owned());
    }
    lacks
}

/// Looks whether the name that everybody gets leads to the same service as was asked: `path` there is answered as `here`, if `is_same` says so.
pub(super) async fn name(
    app: &App,
    (authority, path): (&str, &str),
    (whom, remedy): (&str, &str),
    is_same: impl Fn(&Reply) -> bool,
    report: &mut Report,
) {
    report.doing(format!("looking where {authority} leads"));
    let url = format!("https://{authority}");
    let what = format!("for {whom}");
    let client = match app.nobody(&url).and_then(|builder| Ok(builder.timeout(NAME).connect()?)) {
        Ok(client) => client,
        Err(failure) => return report.findings.wrong(&what, &failure),
    };
    let mut lacks = lacks(&client).await;
    match client.ask(http::Method::GET, path, &[], vec![]).await {
        Ok(there) if is_same(&there) => {}
        Ok(_) => lacks.push("another service than this one that answers there".to_owned()),
        Err(error) if matches!(error.cause(), Cause::Untrusted) => {}
        Err(_) => lacks.push("a name under which nobody answers this machine".to_owned()),
    }
    match lacks.is_empty() {
        true => report.findings.fine(&what, format!("`{url}` leads here, with a public certificate")),
        false => report.findings.watch(&what, format!("{} would not do", lacks.join(", ")), remedy),
    }
}
