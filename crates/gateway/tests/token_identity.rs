//! Callers who show a token of an issuer: who is let in, what policies and the log see, and where the issuer's keys come from.

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

use holdfast_gateway::issuer::IssuerTable;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::api::{Api, T, base64};
use support::authority::Authority;
use support::issuer::{self, Server, Signer, key_set, now};
use support::peer::Peer;
use support::ports::free_port;
use support::{Answer, Dev, dev_with, log, settings, trust};
use tokio::task::JoinSet;

const ISSUER: &str = "https://issuer.example";
const POD: &str = "system:serviceaccount:payroll:writer";

fn table(file: &Path) -> IssuerTable {
    issuer::table(ISSUER, &["holdfast"], "EdDSA", file)
}

/// A dev gateway that believes these, with a key and a caller who is recognised by a token.
async fn gateway(data: &Path, issuers: Vec<IssuerTable>) -> (Dev, Api) {
    let mut config = settings(data);
    config.issuer = issuers;
    let gateway = dev_with(config).await;
    let mut api = Api::developer(&gateway).await;
    api.create(&json!({"name": "payroll", "algorithm": "aes-256-gcm"})).await;
    register(&mut api, "writer", json!([format!("subject:{ISSUER}#{POD}")])).await;
    let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text")
        + r#"
@id("pods-encrypt")
permit (principal, action == Holdfast::Action::"encrypt", resource == Holdfast::Key::"payroll")
when { context.authentication == "issued" && context.protocol == "native" };

@id("not-from-other-namespaces")
forbid (principal, action, resource)
when { context.request.hasTag("kubernetes.namespace") && context.request.getTag("kubernetes.namespace") != "payroll" };

@id("no-contractors")
forbid (principal, action, resource)
when { context.request.hasTag("group:contractors") };
"#;
    api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
    (gateway, api)
}

async fn register(api: &mut Api, name: &str, credentials: Value) {
    let caller = json!({"kind": "application", "credentials": credentials});
    api.put(&format!("{T}/callers/{name}"), &caller).await.expect(200);
}

/// What somebody gets who shows this.
async fn encrypt(gateway: &Dev, token: &str) -> Answer {
    let settings = trust(&gateway.directory).token(token);
    let mut peer = Peer::connect(gateway.running.address, &settings).await.unwrap();
    let body = json!({"plaintext": base64(b"salary")}).to_string();
    peer.ask("POST", &format!("{T}/keys/payroll/encrypt"), &body).await
}

fn part(gateway: &Dev) -> (bool, String) {
    let status = gateway.running.gateway().status();
    let part = status.parts.into_iter().find(|part| part.name == format!("issuer {ISSUER}")).unwrap();
    (part.ready, part.detail.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_token_is_about_uses_keys_and_policy_and_log_see_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("keys.json"));
    let signer = Signer::new("one");
    std::fs::write(&file, key_set(&[&signer])).unwrap();
    let (gateway, mut api) = gateway(&data, vec![table(&file)]).await;
    let pod = |more: Value| {
        let mut claims = json!({"sub": POD, "groups": ["writers", "b", "writers"], "email": "w@example",
            "kubernetes.io": {"namespace": "payroll", "pod": {"name": "writer-0", "uid": "u"},
                "serviceaccount": {"name": "writer", "uid": "v"}}});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signer.token(ISSUER, claims)
    };
    let operation = encrypt(&gateway, &pod(json!({}))).await.expect(200).operation();
    // What policies see decides, and it is seen anew with each token.
    let elsewhere = json!({"kubernetes.io": {"namespace": "other"}});
    let denied = encrypt(&gateway, &pod(elsewhere)).await.refused(403, "denied").operation();
    encrypt(&gateway, &pod(json!({"groups": ["contractors"]}))).await.refused(403, "denied");
    encrypt(&gateway, &pod(json!({}))).await.expect(200);
    let many: Vec<String> = (0..64).map(|number| format!("group-{number}")).collect();
    let too_much = pod(json!({"groups": many}));
    let too_much = encrypt(&gateway, &too_much).await.refused(413, "too-large").operation();
    // One `Authorization` is meant, not the first of two.
    let twice = format!("{}\r\nauthorization: Bearer {}", pod(json!({})), pod(json!({})));
    encrypt(&gateway, &twice).await.refused(401, "unauthenticated");
    let unverified = pod(json!({"email_verified": false}));
    let unverified = encrypt(&gateway, &unverified).await.expect(200).operation();

    api.post(&format!("{T}/callers/writer/suspend"), &json!({})).await.expect(200);
    encrypt(&gateway, &pod(json!({}))).await.refused(423, "stopped");
    api.post(&format!("{T}/callers/writer/resume"), &json!({})).await.expect(200);
    encrypt(&gateway, &pod(json!({}))).await.expect(200);
    register(&mut api, "writer", json!([])).await;
    encrypt(&gateway, &pod(json!({}))).await.refused(401, "unauthenticated");
    assert_eq!(part(&gateway), (true, "1 keys, from a file".to_owned()));
    gateway.running.shut_down().await.unwrap();

    let events = log::events(&data, "dev");
    // Whose it was is known, so it is on record.
    let event = log::closing(&events, &too_much);
    assert_eq!((&event["reason"], &event["caller"]["name"]), (&json!("too-large"), &json!("writer")));
    let event = log::closing(&events, &operation);
    let caller = json!({"name": "writer", "kind": "application", "authentication": "issued", "issuer": ISSUER, "subject": POD});
    assert_eq!((&event["outcome"], &event["caller"]), (&json!("success"), &caller));
    let says = json!({"issuer": ISSUER, "subject": POD, "email": "w@example", "group:b": "", "group:writers": "",
        "kubernetes.namespace": "payroll", "kubernetes.pod": "writer-0", "kubernetes.serviceaccount": "writer"});
    assert_eq!(event["protocol"]["says"], says);
    assert_eq!(log::closing(&events, &denied)["caller"], caller);
    assert!(log::closing(&events, &unverified)["protocol"]["says"].get("email").is_none());
    let signature = pod(json!({})).rsplit('.').next().unwrap().to_owned();
    for file in log::files(&data) {
        let text = std::fs::read(&file).unwrap();
        assert!(!text.windows(signature.len()).any(|window| window == signature.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_token_nobody_learns() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("keys.json"));
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    std::fs::write(&file, key_set(&[&signer])).unwrap();
    let doors = IssuerTable { issuer: "https://doors.example".into(), audiences: vec![], ..table(&file) };
    let (gateway, mut api) = gateway(&data, vec![table(&file), doors]).await;
    register(&mut api, "door", json!(["issuer:https://doors.example"])).await;
    encrypt(&gateway, &signer.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    let stranger =
        encrypt(&gateway, "hf_00000000000000000000000000_AAAA").await.refused(401, "unauthenticated");
    let words = |answer: &Answer| (answer.text("title"), answer.json().get("detail").cloned());
    for (token, what) in [
        (
            signer.token(ISSUER, json!({"sub": "system:serviceaccount:payroll:reader"})),
            "nobody is registered so",
        ),
        (signer.token(ISSUER, json!({})), "it is about nobody"),
        (signer.token(ISSUER, json!({"sub": POD, "aud": "somebody"})), "it is for another"),
        (signer.token(ISSUER, json!({"sub": POD, "exp": now() - 61})), "it is over"),
        (signer.token(ISSUER, json!({"sub": POD, "nbf": now() + 120})), "it is not yet valid"),
        (signer.token("https://nobody.example", json!({"sub": POD})), "nobody knows who issued it"),
        (other.token(ISSUER, json!({"sub": POD})), "somebody else signed it"),
        (Signer::new("two").token(ISSUER, json!({"sub": POD})), "its key is not known"),
        // For protocols that bring tokens in bodies: their callers do not come in here by them.
        (signer.token("https://doors.example", json!({"sub": "ana"})), "none is taken here"),
        (signer.token(ISSUER, json!({"sub": POD})) + ".", "it has another part"),
        ("..".to_owned(), "it is none"),
    ] {
        let refused = encrypt(&gateway, &token).await.refused(401, "unauthenticated");
        assert_eq!(words(&refused), words(&stranger), "{what}");
    }
    gateway.running.shut_down().await.unwrap();
}

/// Its keys, where they are read over HTTPS: `refresh_seconds` and `stale_seconds`.
fn at(url: String, ca: &Path, seconds: (u64, u64)) -> IssuerTable {
    let (refresh_seconds, stale_seconds) = seconds;
    IssuerTable {
        keys_url: url,
        ca_file: ca.to_owned(),
        refresh_seconds,
        stale_seconds,
        ..table(Path::new(""))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_change_are_read_at_once_and_those_that_are_gone_count_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (data, ca) = (directory.path().join("data"), directory.path().join("ca.pem"));
    let authority = Authority::new("of the issuer");
    std::fs::write(&ca, &authority.pem).unwrap();
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let mut server = Server::start(&authority).await;
    server.put("/keys", 200, "cache-control: max-age=300\r\n", &key_set(&[&one]));
    let (gateway, _api) = gateway(&data, vec![at(server.url("/keys"), &ca, (3600, 86_400))]).await;
    // Whoever comes before they were read the first time waits for them.
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    server.is_read(1).await;
    assert_eq!(server.count(), 1, "they are remembered");
    server.put("/keys", 200, "", &key_set(&[&two]));
    // A reload has them read again as well; with a token's key that is not known nobody has to wait for one.
    gateway.running.reload().unwrap();
    server.is_read(2).await;
    encrypt(&gateway, &two.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.refused(401, "unauthenticated");
    let metrics = gateway.running.gateway().metrics_text();
    assert!(metrics.contains(&format!("holdfast_issuer_keys{{issuer=\"{ISSUER}\"}} 1")), "{metrics}");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_who_changes_keys_refuses_nobody_whatever_strangers_show() {
    let directory = tempfile::tempdir().unwrap();
    let (data, ca) = (directory.path().join("data"), directory.path().join("ca.pem"));
    let authority = Authority::new("of the issuer");
    std::fs::write(&ca, &authority.pem).unwrap();
    let signers: Vec<Signer> = (0..3).map(|number| Signer::new(&format!("key {number}"))).collect();
    let stranger = Signer::new("invented");
    let mut server = Server::start(&authority).await;
    server.put("/keys", 200, "", &key_set(&[&signers[0]]));
    let (gateway, _api) = gateway(&data, vec![at(server.url("/keys"), &ca, (3600, 86_400))]).await;
    encrypt(&gateway, &signers[0].token(ISSUER, json!({"sub": POD}))).await.expect(200);
    server.is_read(1).await;
    let (before, began) = (server.count(), Instant::now());
    for signer in &signers[1..] {
        // A stranger has just ordered the reading that finds nothing new.
        let token = stranger.token(ISSUER, json!({"sub": POD}));
        encrypt(&gateway, &token).await.refused(401, "unauthenticated");
        server.put("/keys", 200, "", &key_set(&[signer]));
        let token = signer.token(ISSUER, json!({"sub": POD}));
        let mut peers = vec![];
        for _ in 0..24 {
            peers.push(
                Peer::connect(gateway.running.address, &trust(&gateway.directory).token(&token))
                    .await
                    .unwrap(),
            );
        }
        let mut asking = JoinSet::new();
        for mut peer in peers {
            asking.spawn(async move {
                let body = json!({"plaintext": base64(b"salary")}).to_string();
                peer.ask("POST", &format!("{T}/keys/payroll/encrypt"), &body).await.status
            });
        }
        assert_eq!(asking.join_all().await, [200; 24]);
    }
    // Four orders, of which each but the first waited for its second.
    server.is_read(before + 2).await;
    let read = server.count() - before;
    let allowed = 1 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((2..=allowed).contains(&read), "{read} readings, and no more than {allowed}");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_any_more_are_believed_for_their_time_and_then_nobody_is() {
    let directory = tempfile::tempdir().unwrap();
    let (data, ca) = (directory.path().join("data"), directory.path().join("ca.pem"));
    let authority = Authority::new("of the issuer");
    std::fs::write(&ca, &authority.pem).unwrap();
    let signer = Signer::new("one");
    let address = ([127, 0, 0, 1], free_port()).into();
    let server = Server::start_at(&authority, address).await;
    server.put("/keys", 200, "", &key_set(&[&signer]));
    let (gateway, _api) = gateway(&data, vec![at(server.url("/keys"), &ca, (1, 4))]).await;
    let token = signer.token(ISSUER, json!({"sub": POD}));
    encrypt(&gateway, &token).await.expect(200);
    server.stop().await;
    let ended = tokio::time::Instant::now();
    let mut served_without = false;
    while encrypt(&gateway, &token).await.status == 200 {
        served_without |= part(&gateway).1.contains("keys, read");
        assert!(ended.elapsed() < support::peer::PATIENCE, "they are believed for ever");
    }
    assert!(served_without, "they are believed for a while");
    let (ready, detail) = part(&gateway);
    assert!(!ready && detail.contains("too long to be believed"), "{detail}");
    assert!(gateway.running.gateway().metrics_text().contains("holdfast_issuer_failures_total"));
    // It comes back by itself.
    let server = Server::start_at(&authority, address).await;
    server.put("/keys", 200, "", &key_set(&[&signer]));
    let back = tokio::time::Instant::now();
    while encrypt(&gateway, &token).await.status != 200 {
        assert!(back.elapsed() < support::peer::PATIENCE, "it does not come back");
    }
    assert!(part(&gateway).0);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_keys_can_be_read_those_in_the_file_count() {
    let directory = tempfile::tempdir().unwrap();
    let [data, ca, file] = ["data", "ca.pem", "keys.json"].map(|name| directory.path().join(name));
    let authority = Authority::new("of the issuer");
    std::fs::write(&ca, &authority.pem).unwrap();
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    std::fs::write(&file, key_set(&[&one])).unwrap();
    let server = Server::start(&authority).await;
    let url = server.url("/keys");
    server.stop().await;
    let issuer = IssuerTable { keys_file: file.clone(), ..at(url, &ca, (3600, 86_400)) };
    let (gateway, _api) = gateway(&data, vec![issuer]).await;
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    // What is no key set changes nothing; what is one, everything.
    std::fs::write(&file, "{}").unwrap();
    assert!(gateway.running.reload().unwrap_err().to_string().contains("no keys of an issuer"));
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    std::fs::write(&file, key_set(&[&two])).unwrap();
    gateway.running.reload().unwrap();
    encrypt(&gateway, &two.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.refused(401, "unauthenticated");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_issuers_file_that_is_refused_keeps_no_other_from_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let [data, first, file] = ["data", "first.json", "keys.json"].map(|name| directory.path().join(name));
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    for file in [&first, &file] {
        std::fs::write(file, key_set(&[&one])).unwrap();
    }
    let issuers = vec![issuer::table("https://first.example", &["holdfast"], "EdDSA", &first), table(&file)];
    let (gateway, _api) = gateway(&data, issuers).await;
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    std::fs::write(&first, "{}").unwrap();
    std::fs::write(&file, key_set(&[&two])).unwrap();
    let told = gateway.running.reload().unwrap_err().to_string();
    assert!(told.contains("first.json") && !told.contains("keys.json"), "{told}");
    encrypt(&gateway, &two.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    encrypt(&gateway, &one.token(ISSUER, json!({"sub": POD}))).await.refused(401, "unauthenticated");
    // All that are refused are named.
    std::fs::remove_file(&file).unwrap();
    let told = gateway.running.reload().unwrap_err().to_string();
    assert!(told.contains("first.json") && told.contains("keys.json"), "{told}");
    encrypt(&gateway, &two.token(ISSUER, json!({"sub": POD}))).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_nowhere_but_where_the_configuration_says() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let authority = Authority::new("of the issuer");
    std::fs::write(&ca, &authority.pem).unwrap();
    let signer = Signer::new("one");
    let (mut server, elsewhere) = (Server::start(&authority).await, Server::start(&authority).await);
    elsewhere.put("/keys", 200, "", &key_set(&[&signer]));
    server.put("/keys", 200, "", &key_set(&[&signer]));
    server.put("/moved", 302, &format!("location: {}\r\n", elsewhere.url("/keys")), "");
    let document = |uri: String| json!({"issuer": ISSUER, "jwks_uri": uri}).to_string();
    server.put("/leads-astray", 200, "", &document(elsewhere.url("/keys")));
    server.put("/discovery", 200, "", &document(server.url("/keys")));
    server.put("/large", 200, "", &(key_set(&[&signer]) + &" ".repeat(300 << 10)));
    let strangers = directory.path().join("strangers.pem");
    std::fs::write(&strangers, &Authority::new("somebody").pem).unwrap();
    let token = signer.token(ISSUER, json!({"sub": POD}));
    let mut read = 0;
    for (name, url, discovery, ca, status) in [
        ("a", "/moved", "", &ca, 401),
        ("b", "", "/leads-astray", &ca, 401),
        ("c", "/large", "", &ca, 401),
        ("d", "", "/discovery", &ca, 200),
        ("e", "/keys", "", &strangers, 401),
    ] {
        let full = |path: &str| if path.is_empty() { String::new() } else { server.url(path) };
        let issuer = IssuerTable { discovery_url: full(discovery), ..at(full(url), ca, (3600, 86_400)) };
        let (gateway, _api) = gateway(&directory.path().join(name), vec![issuer]).await;
        assert_eq!(encrypt(&gateway, &token).await.status, status, "{name}");
        assert_eq!(part(&gateway).0, status == 200, "{name}");
        gateway.running.shut_down().await.unwrap();
        assert_eq!(elsewhere.count(), 0, "{name} led there");
        read += usize::from(name != "e");
        server.is_read(read).await;
    }
}

/// Tokens of PyJWT, by every algorithm.
const PYTHON: &str = r#"
import json, sys, time, jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives import serialization
from jwt.algorithms import RSAAlgorithm, ECAlgorithm, OKPAlgorithm
rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
def okp(key):
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": jwt.utils.base64url_encode(raw).decode()}
def curve(key, name, size):
    numbers = key.public_numbers()
    part = lambda n: jwt.utils.base64url_encode(n.to_bytes(size, "big")).decode()
    return {"kty": "EC", "crv": name, "x": part(numbers.x), "y": part(numbers.y)}
keys = {"RS256": rsa_key, "PS256": rsa_key, "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}
public = {"RS256": json.loads(RSAAlgorithm.to_jwk(rsa_key.public_key())),
          "ES256": curve(keys["ES256"].public_key(), "P-256", 32),
          "ES384": curve(keys["ES384"].public_key(), "P-384", 48), "EdDSA": okp(keys["EdDSA"].public_key())}
public["PS256"] = public["RS256"]
now = int(time.time())
claims = {"iss": sys.argv[1], "sub": sys.argv[2], "aud": ["other", "holdfast"], "exp": now + 60, "nbf": now, "iat": now}
print(json.dumps({
    "keys": {"keys": [dict(public[name], kid=name, alg=name) for name in keys]},
    "tokens": {name: jwt.encode(claims, key, algorithm=name, headers={"kid": name}) for name, key in keys.items()},
    "shared": jwt.encode(claims, "secret", algorithm="HS256", headers={"kid": "RS256"}),
    "none": jwt.encode(claims, None, algorithm="none", headers={"kid": "RS256"}),
}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_library_are_taken_by_every_algorithm() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("keys.json"));
    let made =
        Command::new("/usr/bin/python3").args(["-c", PYTHON, ISSUER, POD]).stderr(Stdio::inherit()).output();
    let made: Value = serde_json::from_slice(&made.unwrap().stdout).expect("what PyJWT made");
    std::fs::write(&file, made["keys"].to_string()).unwrap();
    let all = ["RS256", "PS256", "ES256", "ES384", "EdDSA"].map(str::to_owned);
    let issuer = IssuerTable { algorithms: all.to_vec(), ..table(&file) };
    let (gateway, _api) = gateway(&data, vec![issuer]).await;
    for name in &all {
        assert_eq!(encrypt(&gateway, made["tokens"][name].as_str().unwrap()).await.status, 200, "{name}");
    }
    for bad in ["shared", "none"] {
        encrypt(&gateway, made[bad].as_str().unwrap()).await.refused(401, "unauthenticated");
    }
    gateway.running.shut_down().await.unwrap();
}
