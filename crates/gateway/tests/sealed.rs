//! A sealed gateway over the wire: every route but its own is refused in the form of the API, and the same address opens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a test")]

mod support;

use age::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::init::{self, Founder, Plan, Shares};
use holdfast_gateway::serve::{self, Options, Started};
use holdfast_gateway::shares::custodian::open_share;
use holdfast_gateway::shares::{Asked, Fingerprint, NewCustodian};
use holdfast_wire::native::{openapi, routes};
use serde_json::json;
use std::path::{Path, PathBuf};
use support::api::Api;
use support::peer::Peer;
use support::schemas::Schemas;
use support::{settings, trust};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn identity(at: &Path, name: &str) -> PathBuf {
    at.join(format!("{name}.key"))
}

/// Founds a gateway; two of three open it.
async fn found(at: &Path) -> PathBuf {
    let meet = |name: &str| {
        let made = age::x25519::Identity::generate();
        std::fs::write(identity(at, name), made.to_string().expose_secret()).unwrap();
        NewCustodian { name: name.parse().unwrap(), recipient: made.to_public() }
    };
    let data = at.join("data");
    let plan = Plan {
        origin: "audit.example.org".to_owned(),
        server_names: vec!["127.0.0.1".to_owned()],
        operators: vec![Founder { name: "olga".parse().unwrap(), certificate: None }],
        tenant: None,
        shares: Some(Shares { threshold: 2, custodians: NAMES.map(meet).to_vec() }),
        tpm: None,
    };
    let mut begun = init::begin(&Directory::at(&data), &plan).unwrap();
    let ceremony = begun.ceremony().unwrap();
    for Asked { name, file, challenge } in ceremony.open().cloned().collect::<Vec<_>>() {
        let proof = open_share(&file, &identity(at, name.as_str())).unwrap().prove(&challenge).to_string();
        ceremony.prove(name.as_str(), &proof).unwrap();
    }
    begun.finish().await.unwrap();
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_its_seal_and_its_health_is_refused_until_it_opens() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    let Started::Sealed(mut sealed) =
        serve::begin(Options { config: settings(&data), dev: false }).await.unwrap()
    else {
        panic!("it serves without its root key");
    };
    let connect = async || Peer::connect(sealed.address, &trust(&data)).await.unwrap();
    let mut api = Api { peer: connect().await, schemas: Schemas::new(openapi::openapi()) };
    for route in routes::all() {
        let path = route.path.replace("{+file}", "checkpoint").replace("{version}", "1");
        let path = path.replace("{token}", "00000000000000000000000000").replace(['{', '}'], "");
        if matches!(route.name, "live" | "ready" | "read-seal" | "give-share") {
            continue;
        }
        // A body that nobody reads may end its connection.
        api.peer = connect().await;
        let answer = api.ask(route.method.name(), &path, route.example.unwrap_or_default()).await;
        assert_eq!(answer.header("retry-after"), Some("1"));
        let problem = answer.refused(503, "sealed");
        assert!(problem.text("remedy").contains("holdfast unseal"));
    }
    api.peer = connect().await;
    api.peer.ask("GET", "/no/such/path", "").await.refused(503, "sealed");
    assert_eq!(api.get("/health/live").await.expect(200).json()["ok"], true);
    assert_eq!(api.peer.ask("GET", "/health/ready", "").await.expect(503).json()["ok"], false);

    let seal = api.get("/v1/seal").await.expect(200);
    let recipient = seal.text("recipient");
    assert_eq!(Fingerprint::of(&recipient), sealed.fingerprint);
    assert_eq!(seal.json()["given"], 0);
    api.post("/v1/seal/shares", &json!({"share": "!"})).await.refused(400, "malformed");
    let large = STANDARD.encode(vec![7; 10_000]);
    api.post("/v1/seal/shares", &json!({"share": large})).await.refused(413, "too-large");
    api.peer = connect().await;
    for (count, name) in ["alice", "carol"].into_iter().enumerate() {
        let share =
            open_share(&data.join(format!("shares/{name}.age")), &identity(place.path(), name)).unwrap();
        let share = STANDARD.encode(share.seal_to(&recipient.parse().unwrap()).unwrap());
        let given = api.post("/v1/seal/shares", &json!({"share": share})).await.expect(200).json();
        assert_eq!((&given["given"], &given["opening"]), (&json!(count + 1), &json!(count == 1)));
        assert_eq!(given["custodians"][0], "alice");
    }
    // Whoever has a connection is told so, and it ends when the gateway opens.
    api.get("/v1/status").await.refused(503, "sealed");
    let address = sealed.address;
    let unsealed = sealed.unsealed().await.unwrap();
    let mut waiting = api.peer;
    let running = sealed.open(unsealed).await.unwrap();
    waiting.closed().await;
    assert_eq!(running.address, address);
    let mut api = Api::of(Peer::connect(address, &trust(&data)).await.unwrap()).await;
    assert_eq!(api.get("/health/ready").await.expect(200).json()["ok"], true);
    assert_eq!(api.get("/v1/seal").await.expect(200).json(), json!({"sealed": false, "opening": false}));
    running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_ends_the_start() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    // As after a disk that was put together from two gateways.
    std::fs::remove_dir_all(data.join("wal")).unwrap();
    let begun = serve::begin(Options { config: settings(&data), dev: false }).await.unwrap();
    let Started::Sealed(mut sealed) = begun else { panic!("it serves without its root key") };
    let mut peer = Peer::connect(sealed.address, &trust(&data)).await.unwrap();
    let recipient = peer.ask("GET", "/v1/seal", "").await.expect(200).text("recipient");
    for name in ["alice", "bob"] {
        let share =
            open_share(&data.join(format!("shares/{name}.age")), &identity(place.path(), name)).unwrap();
        let share = STANDARD.encode(share.seal_to(&recipient.parse().unwrap()).unwrap());
        peer.post("/v1/seal/shares", &json!({"share": share})).await.expect(200);
    }
    let unsealed = sealed.unsealed().await.unwrap();
    let fault = sealed.open(unsealed).await.err().unwrap();
    assert!(fault.to_string().contains("the log's directory"), "{fault}");
    peer.closed().await;
}
