//! Bodies on their way in, over the wire: whose they are, and who makes way for whom.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a test")]

mod support;

use serde_json::json;
use std::collections::VecDeque;
use support::api::T;
use support::balancer::{behind, from};
use support::peer::{Peer, Settings};
use support::{Dev, dev_with, settings, trust};

fn developer(gateway: &Dev) -> Settings {
    trust(&gateway.directory).token(&gateway.environment["HOLDFAST_TOKEN"])
}

/// Begins a request whose body, of so many bytes, does not come yet: when this returns, it is waited for and stands behind all that have begun before it.
async fn begin(peer: &mut Peer, path: &str, length: usize) {
    let head = peer.head("POST", path, length);
    let head = head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    peer.send(head.as_bytes()).await.unwrap();
    peer.asked_to_continue().await;
}

const ENCRYPT: &str = r#"{"plaintext":""}"#;

/// Whoever sends much from one network makes way for itself: a body from elsewhere that is older than all of these is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_sends_much_takes_nobody_elses_room() {
    /// Of [`FIT`] of these a network's part of the room is all but full. Whatever is under way of one that makes way is taken in, so that each answer is read.
    const LONG: usize = 3 << 19;
    const FIT: usize = 10;
    /// More than there would be room for without parts.
    const MANY: usize = 48;
    let directory = tempfile::tempdir().unwrap();
    let mut config = behind(directory.path());
    // Who makes way is measured, not who is late.
    config.limits.body_seconds = 600;
    let gateway = dev_with(config).await;
    let mut api = from(&gateway, "203.0.113.1", &developer(&gateway)).await;
    api.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    let encrypt = format!("{T}/keys/k/encrypt");
    let mut slow = from(&gateway, "198.51.100.1", &developer(&gateway)).await;
    begin(&mut slow, &encrypt, ENCRYPT.len()).await;
    let mut much = VecDeque::new();
    for _ in 0..MANY {
        let mut peer = from(&gateway, "192.0.2.1", &developer(&gateway)).await;
        begin(&mut peer, &format!("{T}/batch"), LONG).await;
        peer.send(&[b' '; LONG - 1]).await.unwrap();
        much.push_back(peer);
        // Each makes way before the next begins: of what comes meanwhile nobody else does.
        if much.len() > FIT {
            much.pop_front().unwrap().answer().await.unwrap().refused(429, "throttled");
        }
    }
    // What there is room for has not made way.
    for peer in &mut much {
        peer.send(b" ").await.unwrap();
        peer.answer().await.unwrap().refused(400, "malformed");
    }
    slow.send(ENCRYPT.as_bytes()).await.unwrap();
    slow.answer().await.unwrap().expect(200);
    drop((api, slow, much));
    gateway.running.shut_down().await.unwrap();
}

/// A caller is one, wherever it comes from.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_begins_much_takes_no_other_callers_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = behind(directory.path());
    config.limits.requests = 4;
    let gateway = dev_with(config).await;
    let credentials = gateway.directory.join("credentials");
    let [certificate, key] =
        ["operator.pem", "operator.key"].map(|name| std::fs::read(credentials.join(name)).unwrap());
    let operator = trust(&gateway.directory).identity(certificate, key);
    let mut other = from(&gateway, "203.0.113.1", &operator).await;
    other.ask("GET", "/v1/status", "").await.expect(200);
    let tenant = "{}";
    begin(&mut other, "/v1/tenants", tenant.len()).await;
    let mut much = vec![];
    for last in 1..=4 {
        let mut peer = from(&gateway, &format!("192.0.{last}.1"), &developer(&gateway)).await;
        peer.ask("GET", &format!("{T}/keys"), "").await.expect(200);
        begin(&mut peer, &format!("{T}/keys"), r#"{"name":"k"}"#.len()).await;
        much.push(peer);
    }
    much[0].answer().await.unwrap().refused(429, "throttled");
    other.send(tenant.as_bytes()).await.unwrap();
    assert_ne!(other.answer().await.unwrap().status, 429);
    drop((other, much));
    gateway.running.shut_down().await.unwrap();
}

/// The body of a stop order stands in a line of its own: whatever comes after it, it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_stop_order_makes_way_for_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = settings(&directory.path().join("data"));
    config.limits.requests = 1;
    let gateway = dev_with(config).await;
    let mut stop = gateway.developer().await;
    stop.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    begin(&mut stop, &format!("{T}/keys/k/suspend"), 2).await;
    let mut others: Vec<Peer> = vec![];
    for _ in 0..3 {
        let mut peer = gateway.developer().await;
        peer.ask("GET", &format!("{T}/keys"), "").await.expect(200);
        begin(&mut peer, &format!("{T}/keys/k/encrypt"), ENCRYPT.len()).await;
        // There is room for one of them.
        if let Some(before) = others.last_mut() {
            before.answer().await.unwrap().refused(429, "throttled");
        }
        others.push(peer);
    }
    stop.send(b"{}").await.unwrap();
    stop.answer().await.unwrap().expect(200);
    others[2].send(ENCRYPT.as_bytes()).await.unwrap();
    others[2].answer().await.unwrap().refused(409, "key-state");
    drop((stop, others));
    gateway.running.shut_down().await.unwrap();
}
