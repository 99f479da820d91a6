//! The test: the proxy is asked through the gateway's own listener as Managed HSM asks, from the handshake to the latency of both directions.

use super::{OAEP_SHA1, Proxy, algs, has_alg};
use crate::clock;
use crate::command::connect::Report;
use crate::command::connect::latency::Latency;
use crate::command::doctor::examine_expiry;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::issue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_core::action::Action;
use holdfast_sdk::Client;
use holdfast_wire::ekm::message;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often both directions are timed.
const TIMED: usize = 10;
/// What is wrapped; no secret.
const PLAIN: [u8; 32] = *b"holdfast connect: this is a tria";
const POOL: &str = "holdfast-connect";

/// What the test says of a request, as policies see it.
pub(super) fn says(proxy: &Proxy, action: Action) -> Vec<(&'static str, String)> {
    let mut says = vec![("correlation_id", id()), ("pool_name", POOL.to_owned())];
    if let (true, Some(alg)) = (has_alg(action), algs(proxy.algorithm).first()) {
        says.push(("alg", (*alg).to_owned()));
    }
    says
}

fn id() -> String {
    format!("holdfast-connect-{}", clock::now().micros())
}

type Tried = Result<(), (&'static str, Failure)>;

fn at(what: &'static str) -> impl Fn(Failure) -> (&'static str, Failure) {
    move |failure| (what, failure)
}

/// Asks for all of it, as far as it makes sense. Gives whether the proxy is there, as far as that can be told.
pub(super) async fn run(
    stranger: &Client,
    provider: Option<&Client>,
    proxy: &Proxy,
    report: &mut Report,
) -> bool {
    let tried = async {
        begin(stranger, proxy, report).await?;
        let Some(client) = provider else {
            report.findings.watch(
                "self-test",
                "ended at the handshake: there is no certificate here that the proxy takes",
                "name one with `--test-cert` and `--test-cert-key`, of an authority and a common name of the proxy's; or run `az keyvault ekm-connection check`",
            );
            return Ok(());
        };
        asked(&Hsm { client, proxy }, report).await
    };
    match tried.await {
        Ok(()) => true,
        Err((what, failure)) => {
            report.findings.wrong(what, &failure);
            !matches!(what, "connection" | "strangers" | "info")
        }
    }
}

/// Up to whether who shows no certificate is let in.
async fn begin(stranger: &Client, proxy: &Proxy, report: &mut Report) -> Tried {
    report.doing(format!("connecting to {}", stranger.address()));
    let authority = stranger.authority();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    if port != "443" || host != proxy.server_name {
        report.findings.watch(
            "for Azure",
            format!("this is asked at `{authority}`"),
            &format!("Managed HSM calls `{}` at port 443 and nothing else", proxy.server_name),
        );
    }
    match post(stranger, &proxy.path("info"), &about()).await {
        // What is wrong between here and there is told as it is; that there is no handshake is what should be.
        Err(failure) if failure.to_string().contains("refused this client's certificate") => {
            report.findings.fine("strangers", "who shows no certificate gets no handshake");
            Ok(())
        }
        Err(failure) => Err(("connection", failure)),
        Ok(answer) => {
            let problem = format!("who shows no certificate is answered {}", answer.status);
            let remedy = format!(
                "the gateway serves nobody alone under `{}`: add the `[[azure_ekm]]` that is shown and restart it, or name its `server_name`",
                proxy.server_name
            );
            Err(("strangers", Failure::new(Exit::State, problem).remedy(remedy)))
        }
    }
}

/// An answer of the proxy's.
struct Answer {
    status: u16,
    body: Value,
    took: Duration,
}

impl Answer {
    fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn value(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.text("value")).ok()
    }
}

fn about() -> Value {
    json!({ "request_context": { "correlation_id": id(), "pool_name": POOL } })
}

async fn post(client: &Client, path: &str, body: &Value) -> Result<Answer, Failure> {
    let begun = Instant::now();
    let reply =
        client.post(path, &[("content-type", "application/json")], body.to_string().into_bytes()).await?;
    let took = begun.elapsed();
    // What is no JSON is no answer of this protocol's either.
    let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    Ok(Answer { status: reply.status, body, took })
}

/// A way of wrapping that is not served.
struct Unserved {
    failure: Failure,
    /// By the policy, rather than for what the key is.
    is_denied: bool,
}

/// Managed HSM, with a certificate.
struct Hsm<'a> {
    client: &'a Client,
    proxy: &'a Proxy,
}

impl Hsm<'_> {
    /// Asks, and takes what was granted.
    async fn granted(&self, rest: &str, body: &Value, doing: &str) -> Result<Answer, Failure> {
        let answer = post(self.client, &self.proxy.path(rest), body).await?;
        if answer.status == 200 { Ok(answer) } else { Err(self.refusal(&answer, doing)) }
    }

    /// What an answer that was not wanted means, with what to do.
    fn refusal(&self, answer: &Answer, doing: &str) -> Failure {
        let (code, message) = (answer.text("code"), answer.text("message"));
        let Proxy { caller, key, external, prefix, .. } = self.proxy;
        let remedy = match (answer.status, code) {
            (401, _) => format!("the caller `{caller}` must be registered, as an application"),
            (403, "KeyDisabled") => format!(
                "look at `holdfast key show {key}`, and whether the caller `{caller}` or the tenant is suspended"
            ),
            (403, _) => format!(
                "let the policy permit it to `{caller}`: `holdfast connect azure-ekm … --set-policy`, and `holdfast audit search --outcome refused` says which decided"
            ),
            (404, "KeyNotFound") => format!(
                "`keys` of the proxy must have `{external} = \"{key}\"`, and `{key}` must have been created for `azure-ekm`"
            ),
            (404, _) => format!(
                "the prefix of the proxy must be `{prefix}`, and its `client_common_names` must have the certificate's common name"
            ),
            (400, _) => format!("look at the algorithm of `{key}`: `holdfast key show {key}`"),
            (_, _) => "look at `holdfast status`, and at the gateway's own log".to_owned(),
        };
        let problem = format!("{doing} is answered {} `{code}`: {message}", answer.status);
        let exit = if answer.status == 408 { Exit::Unavailable } else { Exit::State };
        Failure::new(exit, problem).remedy(remedy)
    }

    fn value(alg: &str, bytes: &[u8]) -> Value {
        let mut body = about();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("alg".to_owned(), alg.into());
            fields.insert("value".to_owned(), URL_SAFE_NO_PAD.encode(bytes).into());
        }
        body
    }

    /// Wraps, as far as the key does it in this way and the policy permits that.
    async fn tried(&self, alg: &str) -> Result<Result<Vec<u8>, Unserved>, Failure> {
        let rest = self.proxy.path(&format!("{}/wrapkey", self.proxy.external));
        let answer = post(self.client, &rest, &Self::value(alg, &PLAIN)).await?;
        match answer.status {
            200 => Ok(Ok(answer.value().ok_or_else(|| no_value("wrapping"))?)),
            status => {
                let failure = self.refusal(&answer, &format!("to wrap as `{alg}`"));
                match (status, answer.text("code")) {
                    (403, "KeyDisabled") => Err(failure),
                    (400 | 403, _) => Ok(Err(Unserved { failure, is_denied: status == 403 })),
                    (_, _) => Err(failure),
                }
            }
        }
    }

    /// What an operation gives, and how long it takes; none where the gateway gave it up by its own deadline. Whatever else goes wrong ends the trial.
    async fn timed(
        &self,
        operation: &str,
        (alg, input): (&str, &[u8]),
    ) -> Result<Option<(Vec<u8>, Duration)>, Failure> {
        let rest = self.proxy.path(&format!("{}/{operation}", self.proxy.external));
        let answer = post(self.client, &rest, &Self::value(alg, input)).await?;
        match answer.status {
            200 => Ok(Some((answer.value().ok_or_else(|| no_value(operation))?, answer.took))),
            408 => Ok(None),
            _ => Err(self.refusal(&answer, &format!("`{operation}`, once more,"))),
        }
    }

    async fn unwrap(&self, alg: &str, wrapped: &[u8]) -> Result<Vec<u8>, Failure> {
        let rest = format!("{}/unwrapkey", self.proxy.external);
        let answer = self.granted(&rest, &Self::value(alg, wrapped), "to unwrap").await?;
        answer.value().ok_or_else(|| no_value("unwrapping"))
    }
}

fn no_value(what: &str) -> Failure {
    Failure::new(Exit::Integrity, format!("{what} gives no value in base64url"))
        .remedy("look at what stands between here and the gateway")
}

async fn asked(hsm: &Hsm<'_>, report: &mut Report) -> Tried {
    let Hsm { client, proxy } = hsm;
    let probe = client.probe().await.map_err(|error| ("connection", error.into()))?;
    let expiry = probe.certificates.first().and_then(|certificate| issue::expiry(certificate));
    examine_expiry("server certificate", expiry, &mut report.findings);
    report.doing("asking who is there");
    let info = hsm.granted("info", &about(), "its information").await.map_err(at("info"))?;
    let [name, vendor, product] = ["proxy_name", "ekm_vendor", "ekm_product"].map(|field| info.text(field));
    report
        .findings
        .fine("info", format!("{name} before {product} of {vendor}, version {}", info.text("api_version")));

    report.doing("asking for the key");
    let rest = format!("{}/metadata", proxy.external);
    let metadata = hsm.granted(&rest, &about(), "the key's metadata").await.map_err(at("metadata"))?;
    let size = metadata.body.get("key_size").and_then(Value::as_u64).unwrap_or_default();
    let kind = metadata.text("key_type");
    let wanted = message::kind(proxy.algorithm).map(|(kind, size)| (kind, u64::from(size)));
    if wanted != Some((kind, size)) {
        let problem = format!("`{}` is {kind} of {size} bits, and no {}", proxy.key, proxy.algorithm.name());
        let failure = Failure::new(Exit::Usage, problem);
        return Err((
            "metadata",
            failure.remedy("give the key's own algorithm with `--algorithm`, or another key"),
        ));
    }
    report.findings.fine("metadata", format!("{kind} of {size} bits, wrapKey and unwrapKey"));

    let served = wrapped_each_way(hsm, report).await?;
    latency(hsm, served, report).await.map_err(at("latency"))
}

/// Whatever the key may do is tried, there and back; gives one that it does.
async fn wrapped_each_way(
    hsm: &Hsm<'_>,
    report: &mut Report,
) -> Result<&'static str, (&'static str, Failure)> {
    let (mut served, mut refused) = (None, vec![]);
    for &alg in algs(hsm.proxy.algorithm) {
        report.doing(format!("wrapping and unwrapping, {alg}"));
        match hsm.tried(alg).await.map_err(at("wrap"))? {
            Err(unserved) => refused.push((alg, unserved)),
            Ok(wrapped) => {
                report.findings.fine("wrap", format!("{alg}, {} bytes", wrapped.len()));
                unwrapped(hsm, alg, wrapped, report).await.map_err(at("unwrap"))?;
                served = served.or(Some(alg));
            }
        }
    }
    let key = &hsm.proxy.key;
    let Some(served) = served else {
        let is_denied = refused.iter().any(|(_, unserved)| unserved.is_denied);
        let first = refused.into_iter().next().map(|(_, unserved)| unserved.failure);
        let failure = first.unwrap_or_else(|| {
            Failure::new(Exit::State, "nothing wraps under such a key")
                .remedy("give the key's own algorithm with `--algorithm`")
        });
        return Err(("wrap", match algs(hsm.proxy.algorithm) {
            _ if is_denied => failure,
            [_] => failure,
            _ => failure.remedy(format!(
                "the key does neither: a token that has OAEP with SHA-1 alone needs a key that was made with `--legacy sha1-oaep`; make another than `{key}` with `holdfast key create … --purpose wrap --protocol azure-ekm --legacy sha1-oaep`, and name it with `--key`"
            )),
        }));
    };
    for (alg, Unserved { is_denied, .. }) in refused {
        let (why, remedy) = if is_denied {
            (
                "the policy does not permit it",
                "where a service of Azure's asks for that, let the policy permit it: `holdfast audit search --outcome refused` says which decided",
            )
        } else if alg == OAEP_SHA1 {
            (
                "the key was not made for OAEP with SHA-1",
                "where a service of Azure's asks for that, have another key, made with `holdfast key create … --legacy sha1-oaep`: what a key may do never changes",
            )
        } else {
            (
                "the key's token has OAEP with SHA-1 alone",
                "where a service of Azure's asks for that, have a key of another token or in software custody",
            )
        };
        report.findings.watch("wrap", format!("{alg} is refused: {why}"), remedy);
    }
    Ok(served)
}

async fn unwrapped(hsm: &Hsm<'_>, alg: &str, wrapped: Vec<u8>, report: &mut Report) -> Result<(), Failure> {
    if hsm.unwrap(alg, &wrapped).await? != PLAIN {
        let failure = Failure::new(Exit::Integrity, "another key comes back than went there");
        return Err(failure.remedy("do not use it, and report it"));
    }
    let mut changed = wrapped;
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    let rest = hsm.proxy.path(&format!("{}/unwrapkey", hsm.proxy.external));
    let refused = post(hsm.client, &rest, &Hsm::value(alg, &changed)).await?;
    if refused.status != 400 {
        let problem = format!("what was changed is answered {}", refused.status);
        return Err(Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it"));
    }
    report.findings.fine("unwrap", "gives the key back, and refuses what was changed");
    Ok(())
}

/// Both directions, on a connection that is open already, as Managed HSM keeps its own.
async fn latency(hsm: &Hsm<'_>, alg: &str, report: &mut Report) -> Result<(), Failure> {
    let mut latency = Latency::default();
    for round in 0..TIMED {
        report.doing(format!("timing it, {round} of {TIMED}"));
        let Some((wrapped, there)) = hsm.timed("wrapkey", (alg, &PLAIN)).await? else {
            latency.took(None);
            continue;
        };
        latency.took(Some(there));
        latency.took(hsm.timed("unwrapkey", (alg, &wrapped)).await?.map(|(_, back)| back));
    }
    let remedy = "look where the time goes: `holdfast status`, the metrics of the stages, and the network between the region and the gateway";
    latency.tell("Managed HSM", remedy, report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::algorithm::Algorithm;
    use std::net::TcpListener;

    /// Nobody was asked, so nothing was given up: a trial that told of latency would send whoever reads it to the wrong place.
    #[tokio::test]
    async fn what_never_came_is_no_answer_that_was_given_up() {
        let proxy = Proxy {
            server_name: "ekm.example.org".to_owned(),
            prefix: "/acme".to_owned(),
            external: "payroll".to_owned(),
            key: "payroll".parse().unwrap(),
            algorithm: Algorithm::Rsa2048,
            caller: "azure-ekm".parse().unwrap(),
        };
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let client =
            Client::builder(&format!("https://{address}")).ca_pem(issued.cert.pem()).connect().unwrap();
        let hsm = Hsm { client: &client, proxy: &proxy };
        let failure = latency(&hsm, OAEP_SHA1, &mut Report::begin()).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert!(failure.problem().contains(&address.to_string()), "{}", failure.problem());
        assert!(!failure.problem().contains("given up"), "{}", failure.problem());
    }
}
