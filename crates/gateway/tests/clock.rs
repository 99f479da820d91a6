//! A time that is held: shown, kept across a restart, and ended by an operator over the API.

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

use holdfast_core::Timestamp;
use holdfast_core::port::World as _;
use serde_json::json;
use support::api::T;
use support::peer::Peer;
use support::{Dev, dev, log, trust};

const CONFIRM: &str = "/v1/clock/confirm";

async fn operator(gateway: &Dev) -> Peer {
    let (certificate, key) = gateway.running.dev.as_ref().unwrap().operator.clone();
    let identity =
        trust(&gateway.directory).identity(std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap());
    Peer::connect(gateway.running.address, &identity).await.unwrap()
}

fn is_shown(gateway: &Dev) -> bool {
    let running = gateway.running.gateway();
    let noticed = running.status().notices.iter().any(|notice| notice.contains("holdfast clock confirm"));
    assert_eq!(running.metrics_text().contains("\nholdfast_clock_held 1\n"), noticed);
    noticed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_shown_binds_everybody_and_ends_by_an_operators_word() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let gateway = dev(&data).await;
    let mut operator = operator(&gateway).await;
    operator.ask("GET", "/v1/status", "").await.expect(200);
    assert!(!is_shown(&gateway));
    operator.post(CONFIRM, &json!({})).await.refused(409, "conflict");

    // As after a jump of two years: the operator's certificate is not valid yet by the time from before.
    let world = &gateway.running.gateway().law().engines().world;
    let before = Timestamp::from_micros(world.now().micros() - 2 * 365 * 86_400 * 1_000_000);
    world.hold_clock(before);
    assert!(is_shown(&gateway));
    // On the connection that was good a moment ago.
    operator.ask("GET", "/v1/status", "").await.refused(401, "unauthenticated");
    let mut developer = gateway.developer().await;
    developer.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    developer.post(CONFIRM, &json!({})).await.refused(401, "unauthenticated");

    let confirmed = operator.post(CONFIRM, &json!({})).await.expect(200);
    assert_eq!(confirmed.text("durability"), "durable");
    assert!(!is_shown(&gateway));
    operator.ask("GET", "/v1/status", "").await.expect(200);
    drop((operator, developer));
    gateway.running.shut_down().await.unwrap();
    let closing = log::events(&data, "_gateway");
    let event = log::closing(&closing, &confirmed.operation());
    assert_eq!((&event["action"], &event["outcome"]), (&json!("confirm-clock"), &json!("success")));
    assert_eq!(event["caller"]["kind"], "operator");
}
