//! The test: through the plugin's socket as an API server, or straight to the gateway as the plugin.

use super::Cluster;
use super::api_server::ApiServer;
use crate::app::App;
use crate::command::connect::Report;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_sdk::field::{Bytes, SecretBytes};
use holdfast_sdk::message::{Decrypt, Encrypt};
use holdfast_sdk::{Secret, Tenant};
use holdfast_wire::kubernetes::{MAX_CIPHERTEXT, context};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is encrypted, as long as a seed; no secret.
const PLAIN: &[u8; 32] = b"holdfast connect: 32 bytes of it";
/// What an API server waits for an answer.
const LIMIT: Duration = Duration::from_secs(3);
/// How often both directions are timed.
const TIMED: usize = 10;

type Tried = Result<(), (&'static str, Failure)>;

fn at(what: &'static str) -> impl Fn(Failure) -> (&'static str, Failure) {
    move |failure| (what, failure)
}

/// Through the socket.
pub(super) async fn by_socket(socket: &Path, report: &mut Report) {
    report.doing(format!("connecting to {}", socket.display()));
    if let Err((what, failure)) = ask(socket, report).await {
        report.findings.wrong(what, &failure);
    }
}

async fn ask(socket: &Path, report: &mut Report) -> Tried {
    let mut api_server = ApiServer::connect(socket).await.map_err(at("plugin"))?;
    report.findings.fine("plugin", format!("`{}`", socket.display()));
    let status = api_server.status().await.map_err(at("Status"))?;
    if status.version != "v2" || status.healthz != "ok" {
        let problem = format!("{}: {}", status.version, status.healthz);
        let remedy = "the plugin's words say which: the gateway, the way to it, or an order";
        return Err(("Status", Failure::new(Exit::Unavailable, problem).remedy(remedy)));
    }
    report.findings.fine("Status", format!("ok, under {}", status.key_id));
    let sealed = api_server.encrypt(PLAIN).await.map_err(at("Encrypt"))?;
    let length = sealed.ciphertext.len();
    if sealed.key_id != status.key_id {
        let failure = Failure::new(
            Exit::Failure,
            format!("it answers under {}, and Status said another one", sealed.key_id),
        );
        return Err(("Encrypt", failure.remedy("run this again: the key was rotated meanwhile")));
    }
    report.findings.fine("Encrypt", format!("{length} bytes, under the same"));
    let opened = api_server.decrypt(&sealed).await.map_err(at("Decrypt"))?;
    is_the_same(&opened).map_err(at("Decrypt"))?;
    report.findings.fine("Decrypt", "gives the seed back");
    let mut times = vec![];
    for round in 0..TIMED {
        report.doing(format!("timing it, {round} of {TIMED}"));
        let begun = Instant::now();
        let sealed = api_server.encrypt(PLAIN).await.map_err(at("latency"))?;
        let between = Instant::now();
        api_server.decrypt(&sealed).await.map_err(at("latency"))?;
        times.extend([between.duration_since(begun), between.elapsed()]);
    }
    latency(times, report);
    Ok(())
}

/// Straight to the gateway, with the plugin's own certificate.
pub(super) async fn by_gateway(app: &App, tenant: &Tenant, cluster: &Cluster<'_>, report: &mut Report) {
    report.doing("asking the gateway as the plugin does");
    if let Err((what, failure)) = use_it(app, tenant, cluster, report).await {
        report.findings.wrong(what, &failure);
    }
}

async fn use_it(app: &App, tenant: &Tenant, cluster: &Cluster<'_>, report: &mut Report) -> Tried {
    let Cluster { key, name, certificate, private_key, .. } = cluster;
    let read = |path: &Path| std::fs::read(path).map_err(|error| Failure::file("read", path, &error));
    let plugin = async {
        let builder = app.nobody(app.url()?)?.identity_pem(read(certificate)?, read(private_key)?);
        Ok::<_, Failure>(builder.connect()?.tenant(tenant.id().clone()))
    };
    let plugin = plugin.await.map_err(at("certificate"))?;
    let record = plugin.key(key).await.map_err(|error| ("read-key", error.into()))?;
    report.findings.fine("read-key", format!("with `{}`", certificate.display()));
    let bound = |cluster| {
        context(cluster, "holdfast-connect").map(Some).map_err(|error| ("encrypt", Failure::from(error)))
    };
    let encrypt =
        Encrypt { plaintext: SecretBytes(Secret::from(&PLAIN[..])), context: bound(name)?, padding: None };
    let begun = Instant::now();
    let sealed = plugin.use_key(key, &encrypt).await.map_err(|error| ("encrypt", error.into()))?;
    let mut times = vec![begun.elapsed()];
    let ciphertext = sealed.ciphertext.0.clone();
    if ciphertext.len() > MAX_CIPHERTEXT {
        let (length, algorithm) = (ciphertext.len(), record.algorithm.0.name());
        let problem =
            format!("{algorithm} makes {length} bytes of a seed, and an API server takes {MAX_CIPHERTEXT}");
        return Err((
            "encrypt",
            Failure::new(Exit::Usage, problem).remedy("name a key of the default algorithm with `--key`"),
        ));
    }
    report.findings.fine("encrypt", format!("for the cluster `{name}`"));
    let decrypt = |context| Decrypt {
        ciphertext: Bytes(ciphertext.clone()),
        context,
        padding: None,
        key_version: None,
    };
    let begun = Instant::now();
    let opened =
        plugin.use_key(key, &decrypt(bound(name)?)).await.map_err(|error| ("decrypt", error.into()))?;
    times.push(begun.elapsed());
    is_the_same(opened.plaintext.0.expose()).map_err(at("decrypt"))?;
    report.findings.fine("decrypt", "gives the seed back");
    latency(times, report);
    Ok(())
}

fn is_the_same(opened: &[u8]) -> Result<(), Failure> {
    match opened == PLAIN {
        true => Ok(()),
        false => Err(Failure::new(Exit::Integrity, "another seed comes back than went there")
            .remedy("do not use it, and report it")),
    }
}

fn latency(mut times: Vec<Duration>, report: &mut Report) {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| {
        format!("{:.1} ms", time.copied().unwrap_or_default().as_secs_f64() * 1000.0)
    };
    let (median, worst) = (times.get(times.len() / 2), times.last());
    let detail = format!(
        "median {}, worst {} of {}; an API server waits {} s",
        ms(median),
        ms(worst),
        times.len(),
        LIMIT.as_secs()
    );
    match worst.is_some_and(|worst| *worst < LIMIT) {
        true => report.findings.fine("latency", detail),
        false => report.findings.watch(
            "latency",
            detail,
            "look where the time goes: `holdfast status`, and the network",
        ),
    }
}
