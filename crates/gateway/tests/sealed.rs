//! A sealed gateway over the wire: every route but its own is refused in the form of the API, and the same address opens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a test")]

mod support;

use age::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::init::{self, Founder, Plan, Shares};
use holdfast_gateway::reroot::{Begun, Change};
use holdfast_gateway::sealed::Sealed;
use holdfast_gateway::serve::{self, Options, Running, Started};
use holdfast_gateway::shares::custodian::open_share;
use holdfast_gateway::shares::{Asked, Fingerprint, Given, NewCustodian};
use holdfast_wire::native::{openapi, routes};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::api::Api;
use support::peer::Peer;
use support::schemas::Schemas;
use support::{Answer, settings, taken_in, trust};

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
        if matches!(route.name, "live" | "ready" | "read-seal" | "give-share" | "ask-to-seal" | "order-seal")
        {
            continue;
        }
        let answer = api.ask(route.method.name(), &path, route.example.unwrap_or_default()).await;
        assert_eq!(answer.header("retry-after"), Some("1"));
        let problem = answer.refused(503, "sealed");
        assert!(problem.text("remedy").contains("holdfast unseal"));
    }
    api.peer.ask("GET", "/no/such/path", "").await.refused(503, "sealed");
    api.peer.ask("POST", "/a/kms/xks/v1/health", "").await.error(400, "InvalidStateException");
    // Whatever comes with it is taken in, so that the answer is read: the connection goes on.
    let at = sealed.address;
    let long = async |method, path| taken_in(async || sends_much((at, &data), method, path).await).await;
    long("POST", "/v1/tenants/dev/keys").await.refused(503, "sealed");
    long("POST", "/no/such/path").await.refused(503, "sealed");
    long("POST", "/a/kms/xks/v1/health").await.error(400, "InvalidStateException");
    long("GET", "/health/live").await.expect(200);
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
    let running = serving(sealed.open(unsealed).await.unwrap());
    waiting.closed().await;
    assert_eq!(running.address, address);
    let mut api = Api::of(Peer::connect(address, &trust(&data)).await.unwrap()).await;
    assert_eq!(api.get("/health/ready").await.expect(200).json()["ok"], true);
    assert_eq!(api.get("/v1/seal").await.expect(200).json(), json!({"sealed": false, "opening": false}));

    // One of the three has it sealed again, on the same sockets.
    let asked = api.post("/v1/seal/challenge", &json!({"generation": 1, "share": 2})).await.expect(200);
    let challenge = STANDARD.decode(asked.text("challenge")).unwrap();
    let file = identity(place.path(), "bob");
    let answer =
        open_share(&data.join("shares/bob.age"), &file).unwrap().order_seal(&challenge, &file).unwrap();
    let order = |answer: &[u8]| json!({"generation": 1, "share": 2, "answer": STANDARD.encode(answer)});
    api.post("/v1/seal", &order(&[7; 32])).await.refused(400, "malformed");
    let mut idle = Peer::connect(address, &trust(&data)).await.unwrap();
    assert_eq!(idle.ask("GET", "/health/ready", "").await.expect(200).json()["ok"], true);
    let done = api.post("/v1/seal", &order(&answer)).await.expect(200).json();
    assert_eq!(done, json!({"custodian": "bob", "durability": "durable"}));
    // Until it is closed, as after.
    long("POST", "/v1/tenants/dev/keys").await.refused(503, "sealed");
    api.get("/v1/status").await.refused(503, "sealed");
    assert_eq!(api.get("/v1/seal").await.expect(200).json(), json!({"sealed": true, "opening": false}));
    assert_eq!(api.peer.ask("GET", "/health/ready", "").await.expect(503).json()["ok"], false);
    api.post("/v1/seal", &order(&answer)).await.refused(503, "sealed");
    running.sealing().await;
    let sealed = running.seal().await.unwrap();
    idle.closed().await;
    assert_eq!(sealed.address, address);
    assert_ne!(Fingerprint::of(&recipient), sealed.fingerprint);
    let mut api = Api { peer: connect_to(address, &data).await, schemas: Schemas::new(openapi::openapi()) };
    assert_eq!(Fingerprint::of(&api.get("/v1/seal").await.expect(200).text("recipient")), sealed.fingerprint);
    sealed.shut_down().await;
}

/// Sends a long body that nobody wants.
async fn sends_much(
    (address, data): (std::net::SocketAddr, &Path),
    method: &str,
    path: &str,
) -> (Duration, Result<Answer, String>) {
    let mut peer = connect_to(address, data).await;
    let body = " ".repeat(1 << 18);
    peer.send_unwanted(&(peer.head(method, path, body.len()) + &body)).await
}

async fn connect_to(address: std::net::SocketAddr, data: &Path) -> Peer {
    Peer::connect(address, &trust(data)).await.unwrap()
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

/// Has Bob order it to be sealed.
async fn orders_a_seal(place: &Path, data: &Path, address: std::net::SocketAddr) {
    let mut peer = connect_to(address, data).await;
    let asked = peer.post("/v1/seal/challenge", &json!({"generation": 1, "share": 2})).await.expect(200);
    let challenge = STANDARD.decode(asked.text("challenge")).unwrap();
    let file = identity(place, "bob");
    let answer =
        open_share(&data.join("shares/bob.age"), &file).unwrap().order_seal(&challenge, &file).unwrap();
    let order = json!({"generation": 1, "share": 2, "answer": STANDARD.encode(answer)});
    peer.post("/v1/seal", &order).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_on_to_the_root_key_ends_the_process() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    let mut config = settings(&data);
    config.limits.shutdown_seconds = 1;
    let begun = serve::begin(Options { config, dev: false }).await.unwrap();
    let Started::Sealed(sealed) = begun else { panic!("it serves without its root key") };
    let running = opened(place.path(), &data, sealed).await;
    let under_way = std::sync::Arc::clone(running.gateway());
    orders_a_seal(place.path(), &data, running.address).await;
    running.sealing().await;
    let fault = running.seal().await.err().unwrap();
    assert!(fault.to_string().contains("holds on to the root key"), "{fault}");
    assert!(!under_way.is_ready(), "and still nothing leaves");
}

/// A sealed gateway may be about to open: whoever orders it to be sealed then is not told that it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_seal_is_taken_before_it_serves_and_what_is_being_opened_is_closed_again() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    let begun = serve::begin(Options { config: settings(&data), dev: false }).await.unwrap();
    let Started::Sealed(mut sealed) = begun else { panic!("it serves without its root key") };
    let address = sealed.address;
    let mut peer = connect_to(address, &data).await;
    let mut given = async || peer.ask("GET", "/v1/seal", "").await.expect(200).json()["given"].clone();
    gives(place.path(), &data, address, "alice").await;
    assert_eq!(given().await, 1);
    assert!(!data.join("sealed").exists());
    orders_a_seal(place.path(), &data, address).await;
    assert_eq!(given().await, 0, "nobody opens it with a share from before");
    assert!(data.join("sealed").exists(), "no device opens the next start");

    // Enough shares are in, and it is being opened.
    for name in ["alice", "carol"] {
        gives(place.path(), &data, address, name).await;
    }
    let unsealed = sealed.unsealed().await.unwrap();
    orders_a_seal(place.path(), &data, address).await;
    let Started::Sealed(again) = sealed.open(unsealed).await.unwrap() else { panic!("it serves") };
    assert_eq!(again.address, address);
    assert!(data.join("sealed").exists());
    connect_to(address, &data).await.ask("GET", "/v1/status", "").await.refused(503, "sealed");

    let running = opened(place.path(), &data, again).await;
    assert!(!data.join("sealed").exists());
    assert!(running.gateway().is_ready());
    running.shut_down().await.unwrap();
    let recorded = support::log::events(&data, "_gateway");
    let told = recorded.iter().filter_map(|event| event["action"].as_str());
    let told: Vec<_> = told.filter(|action| ["seal", "unseal"].contains(action)).collect();
    assert_eq!(told, ["seal", "unseal", "seal", "unseal"]);
}

/// Each order is evidence, however often the process ends before a log is open that could have it.
#[tokio::test(flavor = "multi_thread")]
async fn orders_to_seal_that_no_log_could_take_are_recorded_once_one_is_open() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    let begin = async || match serve::begin(Options { config: settings(&data), dev: false }).await.unwrap() {
        Started::Sealed(sealed) => sealed,
        Started::Serving(_) => panic!("it serves without its root key"),
    };
    let sealed = begin().await;
    for _ in 0..2 {
        orders_a_seal(place.path(), &data, sealed.address).await;
    }
    sealed.shut_down().await;
    let sealed = begin().await;
    orders_a_seal(place.path(), &data, sealed.address).await;
    let running = opened(place.path(), &data, sealed).await;
    assert!(!data.join("seal.orders").exists());
    running.shut_down().await.unwrap();
    let recorded = support::log::events(&data, "_gateway");
    let told = recorded.iter().filter_map(|event| {
        let action = event["action"].as_str().filter(|action| ["seal", "unseal"].contains(action))?;
        Some((action, event["context"]["kept"].as_str()))
    });
    let told: Vec<_> = told.collect();
    let on_disk = ("seal", Some("on-disk"));
    assert_eq!(told, [on_disk, on_disk, ("seal", None), ("unseal", None)]);
}

/// Gives one of the shares.
async fn gives(place: &Path, data: &Path, address: std::net::SocketAddr, name: &str) {
    let mut peer = connect_to(address, data).await;
    let recipient = peer.ask("GET", "/v1/seal", "").await.expect(200).text("recipient");
    let share = open_share(&data.join(format!("shares/{name}.age")), &identity(place, name)).unwrap();
    let share = STANDARD.encode(share.seal_to(&recipient.parse().unwrap()).unwrap());
    peer.post("/v1/seal/shares", &json!({"share": share})).await.expect(200);
}

/// Opened by Alice's and Carol's shares.
async fn opened(place: &Path, data: &Path, mut sealed: Box<Sealed>) -> Running {
    for name in ["alice", "carol"] {
        gives(place, data, sealed.address, name).await;
    }
    let unsealed = sealed.unsealed().await.unwrap();
    serving(sealed.open(unsealed).await.unwrap())
}

fn serving(started: Started) -> Running {
    match started {
        Started::Serving(running) => *running,
        Started::Sealed(_) => panic!("it is sealed"),
    }
}

/// Orders another root key, for the same custodians.
fn orders_another_root_key(place: &Path, data: &Path) {
    let Begun::Shares(change, mut gathering) = Change::begin(&Directory::at(data)).unwrap() else {
        panic!("it is in shares")
    };
    let mut root = None;
    for name in ["alice", "carol"] {
        let share = open_share(&data.join(format!("shares/{name}.age")), &identity(place, name)).unwrap();
        let sealed = share.seal_to(&gathering.recipient().parse().unwrap()).unwrap();
        if let Given::Root(whole, _) = gathering.give(&sealed, 0).unwrap() {
            root = Some(whole);
        }
    }
    let custodian = |name: &str| {
        let file = std::fs::read_to_string(identity(place, name)).unwrap();
        let recipient = file.trim().parse::<age::x25519::Identity>().unwrap().to_public();
        NewCustodian { name: name.parse().unwrap(), recipient }
    };
    let mut handed = change.hand_out(root.unwrap(), vec![], (2, &NAMES.map(custodian))).unwrap();
    let ceremony = handed.ceremony().unwrap();
    for Asked { name, file, challenge } in ceremony.open().cloned().collect::<Vec<_>>() {
        let proof = open_share(&file, &identity(place, name.as_str())).unwrap().prove(&challenge).to_string();
        ceremony.prove(name.as_str(), &proof).unwrap();
    }
    handed.order().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_is_ordered_while_the_root_key_changes_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    let begun = serve::begin(Options { config: settings(&data), dev: false }).await.unwrap();
    let Started::Sealed(sealed) = begun else { panic!("it serves without its root key") };
    let address = sealed.address;
    let running = opened(place.path(), &data, sealed).await;

    let mut slow = connect_to(address, &data).await;
    let asked = slow.post("/v1/seal/challenge", &json!({"generation": 1, "share": 2})).await.expect(200);
    let file = identity(place.path(), "bob");
    let share = open_share(&data.join("shares/bob.age"), &file).unwrap();
    let answer = share.order_seal(&STANDARD.decode(asked.text("challenge")).unwrap(), &file).unwrap();
    let order = json!({"generation": 1, "share": 2, "answer": STANDARD.encode(answer)}).to_string();
    let mut idle = connect_to(address, &data).await;
    idle.ask("GET", "/health/live", "").await.expect(200);
    // The order is on its way when the change begins, and whole only in the middle of it.
    let (first, rest) = order.split_at(10);
    slow.send(format!("{}{first}", slow.head("POST", "/v1/seal", order.len())).as_bytes()).await.unwrap();
    let gateway = std::sync::Arc::clone(running.gateway());
    while !gateway.metrics_text().contains("holdfast_requests_in_flight 1") {
        tokio::task::yield_now().await;
    }
    drop(gateway);
    orders_another_root_key(place.path(), &data);
    let changing = tokio::spawn(running.reroot());
    idle.closed().await;
    slow.send(rest.as_bytes()).await.unwrap();
    assert_eq!(slow.answer().await.unwrap().expect(200).json()["custodian"], "bob");
    let Started::Sealed(sealed) = changing.await.unwrap().unwrap() else {
        panic!("what was sealed serves again")
    };

    // What was ordered first is carried out once custodians have opened it.
    assert!(data.join("root.next").exists());
    let running = opened(place.path(), &data, sealed).await;
    running.rerooting().await;
    let Started::Serving(running) = running.reroot().await.unwrap() else { panic!("it is sealed") };
    assert_eq!(running.address, address);
    assert!(!data.join("root.next").exists());
    assert_eq!(
        connect_to(address, &data).await.ask("GET", "/health/ready", "").await.expect(200).json()["ok"],
        true
    );
    running.shut_down().await.unwrap();
}

/// Bodies that never come hold no place, however many they are and wherever from.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_keep_custodians_out() {
    let place = tempfile::tempdir().unwrap();
    let data = found(place.path()).await;
    let mut config = settings(&data);
    config.listen.proxy_protocol_from = vec![std::net::IpAddr::from([127, 0, 0, 1])];
    let Started::Sealed(sealed) = serve::begin(Options { config, dev: false }).await.unwrap() else {
        panic!("it serves without its root key");
    };
    let trusted = trust(&data);
    let connect = async |from: &str| {
        let greeting = format!("PROXY TCP4 {from} 127.0.0.1 4711 8443\r\n");
        Peer::connect_after(sealed.address, &trusted, greeting.as_bytes()).await.unwrap()
    };
    let begin = async |peer: &mut Peer| {
        let head = peer.head("POST", "/v1/seal/shares", 64);
        let head = head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
        peer.send(head.as_bytes()).await.unwrap();
    };
    let mut held = vec![];
    for network in 0..100 {
        let mut peer = connect(&format!("192.0.{network}.1")).await;
        begin(&mut peer).await;
        peer.asked_to_continue().await;
        held.push(peer);
    }
    for from in ["192.0.1.2", "198.51.100.1"] {
        let mut custodian = connect(from).await;
        let answer = custodian.post("/v1/seal/shares", &serde_json::json!({"share": "none"})).await;
        answer.refused(400, "malformed");
    }
    drop(held);
    sealed.shut_down().await;
}
