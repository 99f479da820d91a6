//! How the cost of a request grows with what it does not touch: other keys, other versions, other policies. One connection, so that the
//! latency is the request's own.

use crate::gateway::{self, Gateway};
use crate::load::{self, Length};
use crate::report::{Growth, Report};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;

/// Random keys that are asked for once each after a start, when nothing is in memory.
const COLD: u64 = 2_000;
/// Keys that are asked for again and again.
const WARM: usize = 64;
/// How long each warm figure is measured.
const WARM_TIME: Duration = Duration::from_secs(3);
/// Keys, versions and policies that stand for few.
const FEW_KEYS: u64 = 1_000;

/// How far to grow.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) keys: u64,
    pub(crate) versions: u32,
    pub(crate) policies: u32,
}

/// Measures all three, each in a directory of its own.
pub(crate) async fn measure(holdfast: &Path, within: &Path, sizes: Sizes, report: &mut Report) -> Result<()> {
    versions(holdfast, within, sizes.versions, report).await?;
    policies(holdfast, within, sizes.policies, report).await?;
    keys(holdfast, within, sizes.keys, report).await
}

fn name(number: u64) -> String {
    format!("key-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Numbers below `count` in an order that jumps about (a linear congruence, Knuth's MMIX).
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    let next = |seed: &u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(42_u64), next).map(move |seed| (seed >> 20) % count)
}

async fn warm(gateway: &Gateway, keys: &[String]) -> Result<u32> {
    let requests: Vec<_> = keys.iter().map(|key| gateway.encrypt(key)).collect();
    load::run(gateway.target, &requests, 1, Length::For(WARM_TIME / 5)).await?;
    Ok(load::run(gateway.target, &requests, 1, Length::For(WARM_TIME)).await?.percentile(50))
}

async fn cold(gateway: &Gateway, keys: u64) -> Result<u32> {
    let requests: Vec<_> =
        scattered(keys).take(usize::try_from(COLD)?).map(|number| gateway.encrypt(&name(number))).collect();
    Ok(load::run(gateway.target, &requests, 1, Length::Once).await?.percentile(50))
}

async fn keys(holdfast: &Path, within: &Path, many: u64, report: &mut Report) -> Result<()> {
    let gateway = gateway::start(holdfast, &within.join("keys")).await?;
    gateway.create((0..FEW_KEYS).map(name), "xaes-256-gcm").await?;
    let gateway = gateway.restart().await?;
    let few_cold = cold(&gateway, FEW_KEYS).await?;
    let some: Vec<_> = scattered(FEW_KEYS).take(WARM).map(name).collect();
    let few_warm = warm(&gateway, &some).await?;
    let one_warm = warm(&gateway, &[name(0)]).await?;
    report.resident_with_1000_keys_kib = Some(gateway.server.resident_kib()?);
    gateway.create((FEW_KEYS..many).map(name), "xaes-256-gcm").await?;
    let gateway = gateway.restart().await?;
    let start_ms = u64::try_from(gateway.started_in.as_millis())?;
    let many_cold = cold(&gateway, many).await?;
    let some: Vec<_> = scattered(many).take(WARM).map(name).collect();
    let many_warm = warm(&gateway, &some).await?;
    report.start_with_many_keys_ms = Some(start_ms);
    report.grow(Growth::new("keys, cold", FEW_KEYS, many, few_cold, many_cold));
    report.grow(Growth::new("keys, warm", FEW_KEYS, many, few_warm, many_warm));
    report.grow(Growth::new("keys, warm", 1, many, one_warm, many_warm));
    Ok(())
}

async fn versions(holdfast: &Path, within: &Path, many: u32, report: &mut Report) -> Result<()> {
    let gateway = gateway::start(holdfast, &within.join("versions")).await?;
    gateway.create(["v".to_owned()].into_iter(), "xaes-256-gcm").await?;
    let sealed = gateway.ask("POST", "/keys/v/encrypt", r#"{"plaintext":"MDEyMw=="}"#).await?;
    let ciphertext = sealed.get("ciphertext").and_then(serde_json::Value::as_str).context("no ciphertext")?;
    let open = [gateway.request("POST", "/keys/v/decrypt", &format!(r#"{{"ciphertext":"{ciphertext}"}}"#))];
    let encrypt = [gateway.encrypt("v")];
    let p50 = async |requests: &[load::Exchange]| {
        load::run(gateway.target, requests, 1, Length::For(WARM_TIME / 5)).await?;
        anyhow::Ok(load::run(gateway.target, requests, 1, Length::For(WARM_TIME)).await?.percentile(50))
    };
    let before = (p50(&encrypt).await?, p50(&open).await?);
    let rotate: Vec<_> = (1..many).map(|_| gateway.request("POST", "/keys/v/rotate", "{}")).collect();
    load::run(gateway.target, &rotate, 1, Length::Once).await?;
    let after = (p50(&encrypt).await?, p50(&open).await?);
    let many = u64::from(many);
    report.grow(Growth::new("versions, encrypt under the newest", 1, many, before.0, after.0));
    report.grow(Growth::new("versions, decrypt under the first", 1, many, before.1, after.1));
    Ok(())
}

async fn policies(holdfast: &Path, within: &Path, many: u32, report: &mut Report) -> Result<()> {
    let gateway = gateway::start(holdfast, &within.join("policies")).await?;
    gateway.create(["p".to_owned()].into_iter(), "xaes-256-gcm").await?;
    let before = warm(&gateway, &["p".to_owned()]).await?;
    let policy = gateway.ask("GET", "/policy", "").await?;
    let mut text = policy.get("text").and_then(serde_json::Value::as_str).context("no text")?.to_owned();
    for number in 0..many {
        text.push_str(&format!(
            "@id(\"other-{number}\") permit (principal == Holdfast::Caller::\"nobody-{number}\", \
             action == Holdfast::Action::\"encrypt\", resource == Holdfast::Key::\"other-{number}\");\n"
        ));
    }
    gateway.ask("PUT", "/policy", &serde_json::json!({ "text": text }).to_string()).await?;
    let after = warm(&gateway, &["p".to_owned()]).await?;
    report.grow(Growth::new("policies that concern others", 0, u64::from(many), before, after));
    Ok(())
}
