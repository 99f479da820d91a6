//! The test: the store is asked through the gateway's own listener as KMS asks, from the connection to the latency of both directions.

use super::Store;
use super::kms::{Answer, Kms, is_plaintext, is_whole, refusal, unsigned};
use crate::command::connect::latency::Latency;
use crate::command::connect::{Report, listener};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::xks_credential::XksCredential;
use holdfast_sdk::Client;
use serde_json::Value;

/// How far apart the time of a signature may be, in seconds.
const CLOCKS_APART: u64 = 300;
/// How often both directions are timed.
const TIMED: usize = 10;
/// What is encrypted; no secret.
const PLAIN: &[u8] = b"holdfast connect: this is a trial";
/// What it is bound to.
const AAD: &[u8] = b"holdfast=connect";

/// Asks for all of it, as far as it makes sense. Without a credential it ends where the store asks for a signature. Gives whether the store is there.
pub(super) async fn run(
    client: &Client,
    store: &Store,
    credential: Option<&XksCredential>,
    report: &mut Report,
) -> bool {
    if let Err((what, failure)) = begin(client, store, report).await {
        report.findings.wrong(what, &failure);
        return false;
    }
    let Some(credential) = credential else {
        report.findings.watch(
            "self-test",
            "nothing was signed: there is no credential here",
            "name its file with `--credential`, or run this without `--check`",
        );
        return true;
    };
    let kms = Kms { client, store, credential };
    match signed(&kms, report).await {
        Ok(()) => true,
        Err((what, failure)) => {
            report.findings.wrong(what, &failure);
            what != "health"
        }
    }
}

type Tried = Result<(), (&'static str, Failure)>;

fn at(what: &'static str) -> impl Fn(Failure) -> (&'static str, Failure) {
    move |failure| (what, failure)
}

/// Up to whether there is a store that asks for a signature.
async fn begin(client: &Client, store: &Store, report: &mut Report) -> Tried {
    listener::connected(client, report).await.map_err(at("connection"))?;
    let lacks = listener::lacks(client).await;
    if !lacks.is_empty() {
        report.findings.watch(
            "for AWS",
            format!("{} would not do", lacks.join(", ")),
            "KMS calls a name at port 443 and trusts public authorities alone; name that address with `--endpoint`, or see docs/protocols/aws-xks.md",
        );
    }
    listener::clocks(client, (CLOCKS_APART, "signatures are made by AWS's"), report)
        .await
        .map_err(at("clock"))?;
    report.doing("asking for the store");
    let answer = unsigned(client, store).await.map_err(at("store"))?;
    match (answer.status, answer.error()) {
        (401, Some("AuthenticationFailedException")) => {
            report
                .findings
                .fine("store", format!("`{}` is there, and takes nothing unsigned", store.path("")));
            Ok(())
        }
        (200, _) => {
            let failure = Failure::new(Exit::Integrity, "it answers without a signature")
                .remedy("this is no gateway of Holdfast's: do not use it");
            Err(("store", failure))
        }
        _ => Err(("store", refusal(store, &answer, "its path"))),
    }
}

async fn signed(kms: &Kms<'_>, report: &mut Report) -> Tried {
    let store = kms.store;
    report.doing("asking for its health");
    let health = kms.health().await.map_err(at("health"))?;
    let health = granted(store, health, "a signed health check").map_err(at("health"))?;
    health_of(&health, report).map_err(at("health"))?;
    let forged = kms.forged().await.map_err(at("wrong signature"))?;
    if forged.status != 401 {
        let problem = format!("a wrong signature is answered {}", forged.status);
        let failure = Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it");
        return Err(("wrong signature", failure));
    }
    report.findings.fine("wrong signature", "is refused");

    report.doing("asking for the key");
    let metadata = kms.metadata().await.map_err(at("metadata"))?;
    let metadata = granted(store, metadata, "the key's metadata").map_err(at("metadata"))?;
    let usage: Vec<_> = metadata.list("keyUsage").iter().filter_map(|word| word.as_str()).collect();
    let (spec, status) = (metadata.text("keySpec"), metadata.text("keyStatus"));
    let detail = format!("{spec}, {}, {status}", usage.join(" and "));
    let fits = spec == "AES_256" && status == "ENABLED";
    if !fits || !["ENCRYPT", "DECRYPT"].iter().all(|word| usage.contains(word)) {
        let failure = Failure::new(Exit::State, format!("{detail}: KMS makes no key of it"));
        let remedy = format!(
            "look at it with `holdfast key show {}`: it must be active, aes-256-gcm, made to encrypt, and in neither `encrypt_only` nor `decrypt_only` of the store",
            store.key
        );
        return Err(("metadata", failure.remedy(remedy)));
    }
    report.findings.fine("metadata", detail);

    report.doing("encrypting and decrypting");
    let sealed = kms.encrypt(PLAIN, AAD, true).await.map_err(at("encrypt"))?;
    let sealed = granted(store, sealed, "to encrypt").map_err(at("encrypt"))?;
    if !is_whole(&sealed, AAD) {
        let failure = Failure::new(Exit::Integrity, "its integrity value is not that of the ciphertext");
        return Err(("encrypt", failure.remedy("look at what stands between here and the gateway")));
    }
    report.findings.fine("encrypt", "with additional data; its integrity value is right");
    let opened = kms.decrypt(&sealed, AAD).await.map_err(at("decrypt"))?;
    let opened = granted(store, opened, "to decrypt").map_err(at("decrypt"))?;
    if !is_plaintext(&opened, PLAIN) {
        let failure = Failure::new(Exit::Integrity, "another plaintext comes back than went there");
        return Err(("decrypt", failure.remedy("do not use it, and report it")));
    }
    let other = kms.decrypt(&sealed, b"holdfast=other").await.map_err(at("decrypt"))?;
    if other.error() != Some("InvalidCiphertextException") {
        let problem = format!("other additional data is answered {}", other.status);
        let failure = Failure::new(Exit::Integrity, problem).remedy("do not use it, and report it");
        return Err(("decrypt", failure));
    }
    report.findings.fine("decrypt", "gives the plaintext back, and refuses other additional data");
    latency(kms, report).await.map_err(at("latency"))
}

/// What was granted, if the gateway did not give it up.
fn in_time(store: &Store, answer: Answer, doing: &str) -> Result<Option<Answer>, Failure> {
    match answer.error() {
        Some("DependencyTimeoutException") => Ok(None),
        _ => granted(store, answer, doing).map(Some),
    }
}

fn granted(store: &Store, answer: Answer, doing: &str) -> Result<Answer, Failure> {
    match answer.status {
        200 => Ok(answer),
        _ => Err(refusal(store, &answer, doing)),
    }
}

fn health_of(health: &Answer, report: &mut Report) -> Result<(), Failure> {
    let devices = health.list("ekmFleetDetails");
    let text =
        |device: &Value, field: &str| device.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
    let told =
        devices.iter().map(|device| format!("{} {}", text(device, "id"), text(device, "healthStatus")));
    let told = told.collect::<Vec<_>>().join(", ");
    let remedy = "have an operator look at the devices: `holdfast pool status`";
    let is = |status: &str| devices.iter().filter(|device| text(device, "healthStatus") == status).count();
    match (is("ACTIVE"), is("DEGRADED")) {
        (0, 0) => Err(Failure::new(Exit::Unavailable, format!("no device works: {told}")).remedy(remedy)),
        (active, _) if active == devices.len() => {
            report.findings.fine("health", told);
            Ok(())
        }
        _ => {
            report.findings.watch("health", format!("not all devices work: {told}"), remedy);
            Ok(())
        }
    }
}

/// Both directions, on a connection that is open already, as KMS keeps its own.
async fn latency(kms: &Kms<'_>, report: &mut Report) -> Result<(), Failure> {
    let mut latency = Latency::default();
    for round in 0..TIMED {
        report.doing(format!("timing it, {round} of {TIMED}"));
        let sealed = kms.encrypt(PLAIN, AAD, false).await?;
        let Some(sealed) = in_time(kms.store, sealed, "to encrypt once more")? else {
            latency.took(None);
            continue;
        };
        let opened = kms.decrypt(&sealed, AAD).await?;
        let opened = in_time(kms.store, opened, "to decrypt once more")?;
        latency.took(Some(sealed.took));
        latency.took(opened.map(|opened| opened.took));
    }
    let remedy = "look where the time goes: `holdfast status`, the metrics of the stages, and the network; AWS recommends at most 35 ms of network";
    latency.tell("KMS", remedy, report)
}
