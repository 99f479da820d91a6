//! How the cost of a request grows with what it does not touch: other keys, other versions, other policies. One connection, so that the
//! latency is the request's own; few and many in turns, so that whatever else the machine does meanwhile is the same for both.

use crate::gateway::{self, Gateway};
use crate::load::{self, Exchange, Length};
use crate::report::{Growth, Report, percentile};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;

/// Random keys that are asked for once each after a start, when nothing is in memory.
const COLD: u64 = 500;
/// How many of those at a time.
const COLD_TURN: usize = 25;
/// Keys that are asked for again and again.
const WARM: usize = 64;
/// Turns of each warm figure, and how long each takes.
const TURNS: usize = 12;
const TURN: Duration = Duration::from_millis(300);
/// Keys that stand for few.
const FEW_KEYS: u64 = 1_000;

/// How far to grow.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) keys: u64,
    pub(crate) versions: u32,
    pub(crate) policies: u32,
}

/// Measures all three, each in directories of its own.
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

/// What is asked of one gateway.
struct Side<'a> {
    gateway: &'a Gateway,
    requests: Vec<Exchange>,
}

impl Side<'_> {
    /// Random keys among so many.
    fn of(gateway: &Gateway, keys: u64, some: usize) -> Side<'_> {
        Side {
            gateway,
            requests: scattered(keys).take(some).map(|key| gateway.encrypt(&name(key))).collect(),
        }
    }
}

fn median(mut latencies: Vec<u32>) -> u32 {
    latencies.sort_unstable();
    percentile(&latencies, 50)
}

/// The medians of both sides' requests, asked again and again.
async fn warm(few: &Side<'_>, many: &Side<'_>) -> Result<(u32, u32)> {
    let (mut of_few, mut of_many) = (vec![], vec![]);
    for turn in 0..=TURNS {
        for (side, latencies) in [(few, &mut of_few), (many, &mut of_many)] {
            let measured = load::run(side.gateway.target, &side.requests, 1, Length::For(TURN)).await?;
            // The first turn fills caches.
            if turn > 0 {
                latencies.extend(measured.latencies);
            }
        }
    }
    Ok((median(of_few), median(of_many)))
}

/// The medians of both sides' requests, asked once each.
async fn cold(few: &Side<'_>, many: &Side<'_>) -> Result<(u32, u32)> {
    let (mut of_few, mut of_many) = (vec![], vec![]);
    for (few_turn, many_turn) in few.requests.chunks(COLD_TURN).zip(many.requests.chunks(COLD_TURN)) {
        for (side, turn, latencies) in [(few, few_turn, &mut of_few), (many, many_turn, &mut of_many)] {
            latencies.extend(load::run(side.gateway.target, turn, 1, Length::Once).await?.latencies);
        }
    }
    Ok((median(of_few), median(of_many)))
}

async fn keys(holdfast: &Path, within: &Path, many: u64, report: &mut Report) -> Result<()> {
    let few = gateway::start(holdfast, &within.join("few-keys")).await?;
    few.create((0..FEW_KEYS).map(name), "xaes-256-gcm").await?;
    let grown = gateway::start(holdfast, &within.join("many-keys")).await?;
    grown.create((0..many).map(name), "xaes-256-gcm").await?;
    let (few, grown) = (few.restart().await?, grown.restart().await?);
    report.start_with_many_keys_ms = Some(u64::try_from(grown.started_in.as_millis())?);
    let once = usize::try_from(COLD)?;
    let (few_cold, many_cold) = cold(&Side::of(&few, FEW_KEYS, once), &Side::of(&grown, many, once)).await?;
    let (some, same) = (Side::of(&grown, many, WARM), Side::of(&few, 1, 1));
    let (few_warm, many_warm) = warm(&Side::of(&few, FEW_KEYS, WARM), &some).await?;
    let (one_warm, some_warm) = warm(&same, &some).await?;
    let every: Vec<_> = (0..FEW_KEYS).map(|key| few.encrypt(&name(key))).collect();
    load::run(few.target, &every, 1, Length::Once).await?;
    report.resident_with_1000_keys_kib = Some(few.server.resident_kib()?);
    report.grow(Growth::new("keys, cold", FEW_KEYS, many, few_cold, many_cold));
    report.grow(Growth::new("keys, warm", FEW_KEYS, many, few_warm, many_warm));
    report.grow(Growth::new("keys, warm", 1, many, one_warm, some_warm));
    Ok(())
}

async fn versions(holdfast: &Path, within: &Path, many: u32, report: &mut Report) -> Result<()> {
    let gateway = gateway::start(holdfast, &within.join("versions")).await?;
    gateway.create(["few".to_owned(), "many".to_owned()].into_iter(), "xaes-256-gcm").await?;
    let encrypt = |key| Side { gateway: &gateway, requests: vec![gateway.encrypt(key)] };
    let decrypt = async |key| {
        let sealed =
            gateway.ask("POST", &format!("/keys/{key}/encrypt"), r#"{"plaintext":"MDEyMw=="}"#).await?;
        let ciphertext =
            sealed.get("ciphertext").and_then(serde_json::Value::as_str).context("no ciphertext")?;
        let body = format!(r#"{{"ciphertext":"{ciphertext}"}}"#);
        let requests = vec![gateway.request("POST", &format!("/keys/{key}/decrypt"), &body)];
        anyhow::Ok(Side { gateway: &gateway, requests })
    };
    let (first_of_few, first_of_many) = (decrypt("few").await?, decrypt("many").await?);
    let rotate: Vec<_> = (1..many).map(|_| gateway.request("POST", "/keys/many/rotate", "{}")).collect();
    load::run(gateway.target, &rotate, 1, Length::Once).await?;
    let newest = warm(&encrypt("few"), &encrypt("many")).await?;
    let first = warm(&first_of_few, &first_of_many).await?;
    let many = u64::from(many);
    report.grow(Growth::new("versions, encrypt under the newest", 1, many, newest.0, newest.1));
    report.grow(Growth::new("versions, decrypt under the first", 1, many, first.0, first.1));
    Ok(())
}

async fn policies(holdfast: &Path, within: &Path, many: u32, report: &mut Report) -> Result<()> {
    let few = gateway::start(holdfast, &within.join("few-policies")).await?;
    let grown = gateway::start(holdfast, &within.join("many-policies")).await?;
    for gateway in [&few, &grown] {
        gateway.create(["p".to_owned()].into_iter(), "xaes-256-gcm").await?;
    }
    let policy = grown.ask("GET", "/policy", "").await?;
    let mut text = policy.get("text").and_then(serde_json::Value::as_str).context("no text")?.to_owned();
    for number in 0..many {
        text.push_str(&format!(
            "@id(\"other-{number}\") permit (principal == Holdfast::Caller::\"nobody-{number}\", \
             action == Holdfast::Action::\"encrypt\", resource == Holdfast::Key::\"other-{number}\");\n"
        ));
    }
    grown.ask("PUT", "/policy", &serde_json::json!({ "text": text }).to_string()).await?;
    let side = |gateway| Side { gateway, requests: vec![gateway.encrypt("p")] };
    let (before, after) = warm(&side(&few), &side(&grown)).await?;
    report.grow(Growth::new("policies that concern others", 0, u64::from(many), before, after));
    Ok(())
}
