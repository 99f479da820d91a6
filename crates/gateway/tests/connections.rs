//! Connections, over the wire: how many somebody may have, and who makes way for whom.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a test")]

mod support;

use serde_json::json;
use std::io;
use support::api::T;
use support::balancer::{behind, from, try_from};
use support::peer::{Peer, Settings};
use support::{Dev, dev_with, log, settings, trust};

const LIVE: &str = "/health/live";

fn operator(gateway: &Dev) -> Settings {
    let credentials = gateway.directory.join("credentials");
    let [certificate, key] =
        ["operator.pem", "operator.key"].map(|name| std::fs::read(credentials.join(name)).unwrap());
    trust(&gateway.directory).identity(certificate, key)
}

/// Opens a connection on which the caller is served.
async fn served(gateway: &Dev, who: &Settings) -> io::Result<Peer> {
    let mut peer = Peer::connect(gateway.running.address, who).await?;
    let answer = peer.try_ask("GET", "/v1/status", "").await;
    answer.map(|answer| answer.expect(200)).map(|_| peer).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
}

/// Whoever has connections on which it is served keeps them from strangers, not from other callers: of more than there are for callers, its oldest ones make
/// way. However many it opens, a stop order finds a place.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_every_connection_there_is_keeps_nobody_out() {
    const PLACES: usize = 16;
    const FOR_CALLERS: usize = 14;
    let directory = tempfile::tempdir().unwrap();
    let mut config = settings(&directory.path().join("data"));
    config.limits.connections = PLACES;
    let gateway = dev_with(config).await;
    let mut api = gateway.developer().await;
    api.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    let operator = operator(&gateway);
    let mut greedy = vec![];
    for _ in 0..2 * PLACES {
        greedy.push(served(&gateway, &operator).await.unwrap());
    }
    // Its own have made way, the oldest first, and nobody else's.
    let kept = FOR_CALLERS - 1;
    let gone = greedy.len() - kept;
    for peer in &mut greedy[..gone] {
        peer.closed().await;
    }
    for peer in &mut greedy[gone..] {
        peer.ask("GET", "/v1/status", "").await.expect(200);
    }
    api.ask("GET", LIVE, "").await.expect(200);
    // Whoever was no caller's yet has a place, and takes one of its.
    let mut custodian = gateway.developer().await;
    custodian.post(&format!("{T}/keys/k/suspend"), &json!({})).await.expect(200);
    greedy[gone].closed().await;
    greedy[gone + 1].ask("GET", "/v1/status", "").await.expect(200);
    drop((api, greedy, custodian));
    gateway.running.shut_down().await.unwrap();
}

/// A network of IPv6 is one subscriber's, also behind a balancer; and whoever is refused there is counted as where it comes from.
#[tokio::test(flavor = "multi_thread")]
async fn one_network_has_its_share_of_connections_behind_a_balancer_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = behind(directory.path());
    config.limits.connections_per_address = 2;
    let gateway = dev_with(config).await;
    let who = trust(&gateway.directory);
    let mut peers = vec![];
    for address in ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.1"] {
        peers.push(from(&gateway, address, &who).await);
    }
    for address in ["2001:db8::ffff:3", "192.0.2.1"] {
        assert!(try_from(&gateway, address, &who).await.is_err(), "{address}");
    }
    for peer in &mut peers {
        peer.ask("GET", LIVE, "").await.expect(200);
    }
    let old = trust(&gateway.directory).versions(&[&rustls::version::TLS12]);
    assert!(try_from(&gateway, "198.51.100.1", &old).await.is_err());
    drop(peers);
    let data = gateway.directory.clone();
    gateway.running.shut_down().await.unwrap();
    let mut counted: Vec<_> = log::events(&data, "_gateway")
        .into_iter()
        .filter(|event| event["action"] == "noise")
        .map(|event| {
            [&event["context"]["reason"], &event["context"]["source"]]
                .map(|text| text.as_str().unwrap().to_owned())
        })
        .collect();
    counted.sort();
    assert_eq!(
        counted,
        [["handshake", "198.51.100.0/24"], ["throttled", "192.0.2.0/24"], ["throttled", "2001:db8:0::/48"]]
    );
}

/// Whose a connection is the law says that served them: it is not found out a second time.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_of_a_connection_is_examined_once() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev_with(settings(&directory.path().join("data"))).await;
    gateway.developer().await.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    let examined = || {
        let text = gateway.running.gateway().metrics_text();
        let count =
            text.lines().find_map(|line| line.strip_prefix("holdfast_identify_duration_seconds_count "));
        count.unwrap().parse::<u64>().unwrap()
    };
    for (method, path, body) in [
        ("POST", "/keys/k/encrypt", r#"{"plaintext":""}"#),
        ("POST", "/random", r#"{"length":1}"#),
        ("POST", "/batch", r#"{"items":[{"key":"k","operation":"encrypt","plaintext":""}]}"#),
        ("GET", "/keys", ""),
    ] {
        let mut first = gateway.developer().await;
        let before = examined();
        first.ask(method, &format!("{T}{path}"), body).await.expect(200);
        assert_eq!(examined() - before, 1, "{path}");
    }
    gateway.running.shut_down().await.unwrap();
}
