//! Sinks of a running gateway: what they get, what is seen of them, and that nothing waits for them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "what fails here is a test"
)]

mod support;

use holdfast_audit::reader::LogReader;
use holdfast_gateway::config::Config;
use holdfast_gateway::serve::{Options, start};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use support::api::T;
use support::peer::PATIENCE;
use support::{dev_with, settings};

/// A configuration with a file for everybody's logs, one for a tenant's, and a receiver that is not there.
fn with_sinks(directory: &Path) -> Config {
    let sinks = format!(
        r#"
        [[sink]]
        name = "all"
        kind = "file"
        path = "{0}/all.jsonl"

        [[sink]]
        name = "dev-only"
        kind = "file"
        tenants = ["dev"]
        path = "{0}/dev.jsonl"

        [[sink]]
        name = "dead"
        kind = "syslog"
        address = "127.0.0.1:1"
        ca_file = "{0}/data/tls/ca.pem"
        "#,
        directory.display()
    );
    Config { sink: Config::parse(&sinks).unwrap().sink, ..settings(&directory.join("data")) }
}

fn value(text: &str, metric: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric} in {text}")).parse().unwrap()
}

/// Each line's origin and index, and that its entry is the log's.
fn lines(path: &Path, data: &Path) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut all = vec![];
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let (origin, index) = (value["log"].as_str().unwrap().to_owned(), value["index"].as_u64().unwrap());
        let tenant = origin.rsplit('/').next().unwrap();
        let reader = LogReader::open(&data.join("audit").join(tenant)).unwrap();
        assert_eq!(reader.checkpoint().origin, origin);
        let (_, entry) = line.split_once("\"entry\":").unwrap();
        assert_eq!(reader.entry(index).unwrap(), entry.strip_suffix('}').unwrap().as_bytes());
        all.push((origin, index));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_stop_is_in_every_file_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let gateway = dev_with(with_sinks(directory.path())).await;
    let mut developer = gateway.developer().await;
    developer.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    for _ in 0..300 {
        developer.post(&format!("{T}/keys/k/encrypt"), &json!({"plaintext": "aGVsbG8="})).await.expect(200);
    }
    drop(developer);
    gateway.running.shut_down().await.unwrap();
    let all = lines(&directory.path().join("all.jsonl"), &data);
    let size = |tenant: &str| LogReader::open(&data.join("audit").join(tenant)).unwrap().checkpoint().size;
    assert!(size("dev") > 300 && size("_gateway") > 0);
    assert_eq!(all.len() as u64, size("dev") + size("_gateway"), "each entry once");
    let dev = lines(&directory.path().join("dev.jsonl"), &data);
    assert_eq!(dev.iter().map(|(_, index)| *index).collect::<Vec<_>>(), (0..size("dev")).collect::<Vec<_>>());
    // The next start begins where this one ended.
    let gateway = dev_with(with_sinks(directory.path())).await;
    gateway.running.shut_down().await.unwrap();
    let again = lines(&directory.path().join("all.jsonl"), &data);
    assert_eq!(again.len() as u64, size("dev") + size("_gateway"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sink_is_seen_and_nothing_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev_with(with_sinks(directory.path())).await;
    let mut developer = gateway.developer().await;
    developer.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    let running = gateway.running.gateway();
    let settled = async {
        loop {
            let text = running.metrics_text();
            let entries = value(&text, "holdfast_log_entries");
            let done = entries == value(&text, "holdfast_log_entries_published")
                && entries == value(&text, r#"holdfast_sink_entries{sink="all"}"#)
                && value(&text, r#"holdfast_sink_failures_total{sink="dead"}"#) > 0
                && value(&text, r#"holdfast_sink_behind_seconds{sink="dead"}"#) > 0;
            if done {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let text = tokio::time::timeout(PATIENCE, settled).await.expect("entries = published = exported");
    let entries = value(&text, "holdfast_log_entries");
    assert_eq!(value(&text, r#"holdfast_sink_lag_entries{sink="dead"}"#), entries);
    assert_eq!(value(&text, r#"holdfast_sink_exported_entries_total{sink="dead"}"#), 0);
    assert_eq!(value(&text, r#"holdfast_sink_exported_entries_total{sink="all"}"#), entries);
    let status = running.status();
    assert!(status.ready, "no sink makes a gateway unready");
    let part = |name: &str| status.parts.iter().find(|part| part.name == name).unwrap();
    assert!(part("sink all").ready && part("sink dev-only").ready && !part("sink dead").ready);
    let detail = part("sink dead").detail.clone().unwrap();
    assert!(detail.contains(&format!("{entries} behind")), "{detail}");
    assert!(detail.contains("cannot connect to `127.0.0.1:1`"), "{detail}");
    drop(developer);
    let begun = Instant::now();
    gateway.running.shut_down().await.unwrap();
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cursor_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = with_sinks(directory.path());
    dev_with(config.clone()).await.running.shut_down().await.unwrap();
    let cursor = directory.path().join("data/sinks/all/cursor");
    std::fs::write(&cursor, "holdfast/sink-cursor/v1\n").unwrap();
    let fault = start(Options { config, dev: true }).await.err().expect("it is refused");
    assert!(fault.to_string().contains(&cursor.display().to_string()), "{fault}");
    assert!(fault.remedy_text().unwrap().contains("remove this file"));
}
