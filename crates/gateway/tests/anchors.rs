//! Callers with certificates of their tenant's own authority, in a gateway that was founded as in production.

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

use holdfast_gateway::directory::Directory;
use holdfast_gateway::init::{Founder, Plan, init};
use holdfast_gateway::serve::{Options, start};
use serde_json::json;
use support::authority::Authority;
use support::peer::Peer;
use support::{log, settings, trust};

const T: &str = "/v1/tenants/acme";
const PAYMENTS: &str = "spiffe://acme.example/payments";

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_reaches_a_live_connection() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let founder = |name: &str| Founder { name: name.parse().unwrap(), certificate: None };
    let plan = Plan {
        origin: "audit.example.org".to_owned(),
        server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        operators: vec![founder("olga")],
        tenant: Some(("acme".parse().unwrap(), vec![founder("alice")])),
        shares: None,
        tpm: None,
    };
    init(&Directory::at(&data), &plan).await.unwrap();
    let running = start(Options { config: settings(&data), dev: false }).await.unwrap();
    let own = |name: &str| {
        let file = |end: &str| std::fs::read(data.join("credentials").join(format!("{name}.{end}"))).unwrap();
        trust(&data).identity(file("pem"), file("key"))
    };
    let mut alice = Peer::connect(running.address, &own("alice")).await.unwrap();
    alice.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    let policy = alice.ask("GET", &format!("{T}/policy"), "").await.expect(200).text("text");
    let rule = r#"@id("payments") permit(principal == Holdfast::Caller::"payments", action in Holdfast::Action::"use", resource);"#;
    let policy = json!({"text": format!("{policy}\n{rule}")}).to_string();
    alice.ask("PUT", &format!("{T}/policy"), &policy).await.expect(200);
    let caller = json!({"kind": "application", "credentials": [format!("uri:{PAYMENTS}")]}).to_string();
    alice.ask("PUT", &format!("{T}/callers/payments"), &caller).await.expect(200);
    let (authority, other) = (Authority::new("corporate"), Authority::new("corporate"));
    let anchor = |crl: Option<String>| match crl {
        None => json!({"certificate": authority.pem}).to_string(),
        Some(crl) => json!({"certificate": authority.pem, "crl": crl}).to_string(),
    };
    let anchors = format!("{T}/anchors/corporate");
    alice.ask("PUT", &anchors, &anchor(None)).await.expect(200);

    let (leaf, second) = (authority.issue(PAYMENTS, 41), authority.issue(PAYMENTS, 42));
    let connect = |certificate: &str, key: &str| trust(&data).identity(certificate, key);
    let leaf = connect(&leaf.certificate, &leaf.key);
    let second = connect(&second.certificate, &second.key);
    let mut live = Peer::connect(running.address, &leaf).await.unwrap();
    let mut spared = Peer::connect(running.address, &second).await.unwrap();
    let encrypt = json!({"plaintext": "aGVsbG8="});
    let path = format!("{T}/keys/k/encrypt");
    let first = live.post(&path, &encrypt).await.expect(200).operation();
    spared.post(&path, &encrypt).await.expect(200);
    // The same name from another authority means nothing, nor does the operator.
    let forged = other.issue(PAYMENTS, 41);
    for stranger in [connect(&forged.certificate, &forged.key), own("olga")] {
        let mut stranger = Peer::connect(running.address, &stranger).await.unwrap();
        stranger.post(&path, &encrypt).await.refused(401, "unauthenticated");
    }

    alice.ask("PUT", &anchors, &anchor(Some(authority.revoke(1, &[41])))).await.expect(200);
    live.post(&path, &encrypt).await.refused(401, "unauthenticated");
    spared.post(&path, &encrypt).await.expect(200);
    // Neither a list that another key signed, nor none, lets in whom this one keeps out.
    alice.ask("PUT", &anchors, &anchor(Some(other.revoke(2, &[])))).await.refused(400, "malformed");
    alice.ask("PUT", &anchors, &anchor(None)).await.refused(409, "conflict");
    live.post(&path, &encrypt).await.refused(401, "unauthenticated");
    alice.ask("PUT", &anchors, &anchor(Some(authority.revoke(3, &[41])))).await.expect(200);
    alice.ask("PUT", &anchors, &anchor(Some(authority.revoke(2, &[])))).await.refused(409, "conflict");
    live.post(&path, &encrypt).await.refused(401, "unauthenticated");
    spared.post(&path, &encrypt).await.expect(200);
    alice.ask("DELETE", &anchors, "").await.expect(200);
    spared.post(&path, &encrypt).await.refused(401, "unauthenticated");
    drop((alice, live, spared));
    running.shut_down().await.unwrap();

    let events = log::events(&data, "acme");
    let event = log::closing(&events, &first);
    assert_eq!(event["caller"]["name"], "payments");
    assert_eq!(event["caller"]["authentication"], "mtls");
    assert_eq!(event["caller"]["matched"], format!("uri:{PAYMENTS}"));
    let founding = &log::events(&data, "_gateway")[0];
    assert_eq!(founding["tenant"], "_gateway");
}
