//! A key service of Microsoft's Double Key Encryption: the document, the decryption, every refusal, and what nobody may do with it.

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

use holdfast_gateway::ms_dke::MsDkeTable;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::api::{Api, T, base64, bytes};
use support::dke::{self, HOST, ISSUER, place, seal, send};
use support::issuer::{self, Signer, key_set, now};
use support::{Answer, Dev, dev_with, log, settings};

const BLOB: &[u8] = b"\x2c\x00\xff\xff\x20\x00\x10\x00@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abc";
const POLICY: &str = r#"
@id("everybody-reads-public-halves")
permit (principal == Holdfast::Caller::"ms-dke", action == Holdfast::Action::"public-key", resource)
when { context.protocol == "ms-dke" };

@id("ana-opens")
permit (principal == Holdfast::Caller::"ms-dke", action == Holdfast::Action::"decrypt", resource)
when {
  context.protocol == "ms-dke" && context.authentication == "issued" &&
  context.request.hasTag("user") && ["ana.lopez@contoso.example"].contains(context.request.getTag("user"))
};
"#;

struct Service {
    gateway: Dev,
    api: Api,
    signer: Signer,
    data: PathBuf,
    // Outlives the gateway.
    _directory: tempfile::TempDir,
}

fn table() -> MsDkeTable {
    dke::table(&["legal-hold", "other", "native", "signs", "not-made"])
}

impl Service {
    async fn new(table: MsDkeTable) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, file) = (directory.path().join("data"), directory.path().join("keys.json"));
        let signer = Signer::new("one");
        std::fs::write(&file, key_set(&[&signer])).unwrap();
        let mut config = settings(&data);
        let issuer = |name: &str| issuer::table(name, &["holdfast"], "EdDSA", &file);
        config.issuer = vec![issuer(ISSUER), issuer("https://sts.windows.net/partner/")];
        config.ms_dke = vec![table];
        let gateway = dev_with(config).await;
        let mut api = Api::developer(&gateway).await;
        for key in ["legal-hold", "other"] {
            dke::create(&mut api, key).await;
        }
        api.create(&json!({"name": "native", "algorithm": "rsa-2048", "purpose": "encrypt"})).await;
        api.create(&json!({"name": "signs", "algorithm": "rsa-2048", "protocol": "ms-dke"})).await;
        dke::register(&mut api).await;
        let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text") + POLICY;
        api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
        Self { gateway, api, signer, data, _directory: directory }
    }

    fn token(&self, more: &Value) -> String {
        let mut claims = json!({
            "aud": format!("https://{HOST}"), "nbf": now(), "appid": "d3590ed6-52b3-4102-aeff-aad2292ab01c", "scp": "user_impersonation",
            "tid": "3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21", "oid": "b1f7", "sub": "ana", "upn": " Ana.Lopez@contoso.example ", "uti": "u-4711",
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.signer.token(ISSUER, claims)
    }

    async fn send(&self, method: &str, path: &str, authorization: Option<&str>, body: &[u8]) -> Answer {
        let mut peer = self.gateway.stranger().await;
        send(&mut peer, (method, path), authorization, body).await;
        peer.answer().await.expect("an answer")
    }

    async fn document(&self, key: &str) -> Value {
        let answer = self.send("GET", &format!("/{key}"), None, b"").await.expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        answer.json()
    }

    async fn decrypt(&self, path: &str, ciphertext: &[u8], more: Value) -> Answer {
        let body = json!({"alg": "RSA-OAEP-256", "value": base64(ciphertext)}).to_string();
        let bearer = format!("Bearer {}", self.token(&more));
        self.send("POST", path, Some(&bearer), body.as_bytes()).await
    }

    /// A ciphertext of openssl's for the newest version of a key, and where it is decrypted.
    async fn sealed(&mut self, key: &str) -> (String, Vec<u8>) {
        let path = place(&self.document(key).await);
        let public = bytes(&self.api.public_key(key).await["public_key"]);
        (path, openssl(self.data.parent().unwrap(), &public, "sha256", "sha256"))
    }
}

fn openssl(directory: &Path, public: &[u8], hash: &str, mgf1: &str) -> Vec<u8> {
    seal(directory, public, (hash, mgf1), BLOB)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_encrypt_opens_for_whom_the_policy_lets_and_the_log_says_who_it_was() {
    let mut service = Service::new(table()).await;
    let before = now();
    let document = service.document("legal-hold").await;
    let key = document["key"].as_object().unwrap();
    assert_eq!(key.keys().collect::<Vec<_>>(), ["kty", "n", "e", "alg", "kid"]);
    assert_eq!((&key["kty"], &key["alg"], &key["e"]), (&json!("RSA"), &json!("RS256"), &json!(65537)));
    assert_eq!((bytes(&key["n"]).len(), key["n"].as_str().unwrap().len()), (256, 344));
    let exp = document["cache"]["exp"].as_str().unwrap();
    let parsed = holdfast_core::Timestamp::parse(&format!("{exp}.000000Z")).unwrap().seconds();
    assert!((before + 86_400..=now() + 86_400).contains(&parsed), "{exp}");
    let queried = service.send("GET", "/legal-hold?protocol-version=1.0", None, b"").await.expect(200).json();
    assert_eq!(queried["key"], document["key"]);

    let (path, sealed) = service.sealed("legal-hold").await;
    let opened = service.decrypt(&path, &sealed, json!({})).await.expect(200);
    assert_eq!(opened.body, format!(r#"{{"value":"{}"}}"#, base64(BLOB)).as_bytes());
    let operation = opened.operation();
    // A person is `email` or `upn`, whichever comes first, in any case.
    let first = json!({"email": "ANA.LOPEZ@CONTOSO.EXAMPLE"});
    assert_eq!(service.decrypt(&path, &sealed, first).await.status, 200);
    for (name, value) in [("Decrypt?protocol-version=1.0", path.as_str()), ("DECRYPT", &path)] {
        let other = value.replace("decrypt", name);
        assert_eq!(
            service.decrypt(&other, &sealed, json!({})).await.expect(200).json()["value"],
            base64(BLOB)
        );
    }
    let (base, act) = path.rsplit_once('/').unwrap();
    let (key, id) = base.rsplit_once('/').unwrap();
    let lower = format!("{key}/{}/{act}", id.to_lowercase());
    assert_ne!(lower, path);
    assert_eq!(service.decrypt(&lower, &sealed, json!({})).await.status, 200);

    // Another version: documents keep their URL, and it keeps opening them.
    service.api.turn("legal-hold", "rotate").await.expect(200);
    let (newer, resealed) = service.sealed("legal-hold").await;
    assert_ne!(newer, path);
    assert_eq!(service.decrypt(&newer, &resealed, json!({})).await.status, 200);
    assert_eq!(service.decrypt(&path, &sealed, json!({})).await.status, 200);
    assert_eq!(service.decrypt(&path, &resealed, json!({})).await.status, 400);
    let version = json!({"version": 1, "without_inventory": true});
    for verb in ["deactivate-version", "destroy-version"] {
        service.api.post(&format!("{T}/keys/legal-hold/{verb}"), &version).await.expect(200);
        let expected = if verb == "deactivate-version" { 200 } else { 403 };
        assert_eq!(service.decrypt(&path, &sealed, json!({})).await.status, expected, "{verb}");
    }
    let shown = service.token(&json!({}));
    service.gateway.running.shut_down().await.unwrap();

    let events = log::events(&service.data, "dev");
    let event = log::closing(&events, &operation);
    let says = &event["protocol"]["says"];
    assert_eq!((&event["outcome"], &event["protocol"]["name"]), (&json!("success"), &json!("ms-dke")));
    assert_eq!(
        (&says["user"], &says["upn"]),
        (&json!("ana.lopez@contoso.example"), &json!("ana.lopez@contoso.example"))
    );
    assert_eq!(
        (&says["uti"], &says["oid"], &says["appid"]),
        (&json!("u-4711"), &json!("b1f7"), &json!("d3590ed6-52b3-4102-aeff-aad2292ab01c"))
    );
    assert_eq!(
        (&event["caller"]["authentication"], &event["caller"]["issuer"]),
        (&json!("issued"), &json!(ISSUER))
    );
    assert_eq!((&event["key"]["version"], &event["key"]["protocol"]), (&json!(1), &json!("ms-dke")));
    for file in log::files(&service.data) {
        let text = std::fs::read(&file).unwrap();
        for hidden in [BLOB, base64(BLOB).as_bytes(), shown.split('.').nth(1).unwrap().as_bytes()] {
            assert!(!text.windows(hidden.len()).any(|window| window == hidden), "{}", file.display());
        }
    }
}

fn is_challenged(answer: &Answer) {
    assert_eq!((answer.status, answer.body.len()), (401, 0));
    // The names as the test's client reads them, in lower case.
    let expected = format!(
        r#"bearer resource="https://{HOST}", authorization="https://login.windows.net/common/oauth2/authorize", realm="https://{HOST}""#
    );
    assert_eq!(answer.header("www-authenticate"), Some(&*expected));
    assert_eq!(answer.header("resource"), Some(&*format!("https://{HOST}")));
    assert_eq!(answer.header("authorization"), Some("https://login.windows.net/common/oauth2/authorize"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_there_is_a_challenge_before_anything_is_looked_at() {
    let mut service = Service::new(MsDkeTable { scope: "user_impersonation".to_owned(), ..table() }).await;
    let (path, sealed) = service.sealed("legal-hold").await;
    // As Microsoft's tester asks: no body, no type, no token.
    let mut peer = service.gateway.stranger().await;
    peer.send(format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n").as_bytes())
        .await
        .unwrap();
    is_challenged(&peer.answer().await.unwrap());
    // Nor is a body waited for.
    let mut peer = service.gateway.stranger().await;
    peer.send(format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000000\r\n\r\n").as_bytes())
        .await
        .unwrap();
    is_challenged(&peer.answer().await.unwrap());
    // Whether there is such a key is not told.
    for other in ["/legal-hold/x/decrypt", "/unknown/x/decrypt"] {
        is_challenged(&service.send("POST", other, None, b"{}").await);
    }
    let good = service.token(&json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let none = format!("eyJhbGciOiJub25lIn0.{}.", signed.split_once('.').unwrap().1);
    let flipped =
        format!("{signed}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    let stranger = Signer::new("one")
        .token(ISSUER, json!({"aud": format!("https://{HOST}"), "upn": "ana.lopez@contoso.example"}));
    let of = |issuer: &str| {
        service.signer.token(issuer, json!({"aud": format!("https://{HOST}"), "scp": "user_impersonation"}))
    };
    let developer = service.gateway.environment["HOLDFAST_TOKEN"].clone();
    for (why, token) in [
        ("expired", service.token(&json!({"exp": now() - 61}))),
        ("not yet valid", service.token(&json!({"nbf": now() + 120}))),
        ("Azure's own resource", service.token(&json!({"aud": "https://aadrm.com"}))),
        ("the native API's audience", service.token(&json!({"aud": "holdfast"}))),
        ("another audience", service.token(&json!({"aud": format!("https://{HOST}/")}))),
        ("no scope", service.token(&json!({"scp": "other user_impersonation_not"}))),
        ("an issuer that is not this service's", of("https://sts.windows.net/partner/")),
        ("an issuer that nobody believes", of("https://sts.windows.net/unknown/")),
        ("no slash", of(ISSUER.trim_end_matches('/'))),
        ("no algorithm", none),
        ("another signature", flipped),
        ("another signer", stranger),
        ("a token of ours", developer),
        ("nothing", String::new()),
        ("too long", "x".repeat(20_000)),
    ] {
        let answer = service.send("POST", &path, Some(&format!("Bearer {token}")), b"{}").await;
        assert_eq!(answer.status, 401, "{why}");
        is_challenged(&answer);
    }
    for authorization in [format!("Basic {good}"), good.clone(), format!("Bearer {good} x")] {
        is_challenged(&service.send("POST", &path, Some(&authorization), b"{}").await);
    }
    let twice = format!("Bearer {good}\r\nauthorization: Bearer {good}");
    is_challenged(&service.send("POST", &path, Some(&twice), b"{}").await);
    assert_eq!(service.decrypt(&path, &sealed, json!({})).await.status, 200);
    // The registration is what lets them in: without it nobody is known.
    let caller = json!({"kind": "application", "credentials": []});
    service.api.put(&format!("{T}/callers/ms-dke"), &caller).await.expect(200);
    is_challenged(&service.decrypt(&path, &sealed, json!({})).await);
    // Nobody was anybody: nothing of all this stands in the tenant's log but what was let in.
    service.gateway.running.shut_down().await.unwrap();
    let events = log::events(&service.data, "dev");
    assert_eq!(events.iter().filter(|event| event["action"] == "decrypt").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_status_and_no_reason() {
    let mut service = Service::new(table()).await;
    let (path, sealed) = service.sealed("legal-hold").await;
    let (other, _) = service.sealed("other").await;
    let id = path.split('/').nth(2).unwrap().to_owned();
    let public = bytes(&service.api.public_key("legal-hold").await["public_key"]);
    let root = service.data.parent().unwrap().to_owned();
    // Who is not allowed.
    for more in [
        json!({"upn": "bob@contoso.example"}),
        json!({"upn": null}),
        json!({"upn": null, "preferred_username": "ana.lopez@contoso.example"}),
    ] {
        let answer = service.decrypt(&path, &sealed, more.clone()).await;
        assert_eq!((answer.status, answer.body.len()), (403, 0), "{more}");
    }
    // Which key.
    for unknown in [
        format!("/unknown/{id}/decrypt"),
        format!("/legal-hold/{}/decrypt", other.split('/').nth(2).unwrap()),
        "/legal-hold/7C1D2A90-55B3-4E0C-9A41-3F6E8B1D2C77/decrypt".to_owned(),
        "/legal-hold/x/decrypt".to_owned(),
        format!("/native/{id}/decrypt"),
        format!("/signs/{id}/decrypt"),
    ] {
        let answer = service.decrypt(&unknown, &sealed, json!({})).await;
        assert_eq!(answer.status, 404, "{unknown}");
        assert!(answer.json().as_object().unwrap().keys().eq(["error"]), "{unknown}");
    }
    // What is no path of a key service is none.
    for path in [
        "/legal-hold/../other/x/decrypt",
        "/legal%2fhold",
        "/legal-hold/",
        "//legal-hold",
        "/%2e%2e/legal-hold",
    ] {
        let answer = service.send("GET", path, None, b"").await;
        let expected = if path.contains('%') { (400, "malformed") } else { (404, "not-found") };
        answer.refused(expected.0, expected.1);
    }
    // The body, after who it is; the algorithm and the ciphertext, after who may.
    let bearer = format!("Bearer {}", service.token(&json!({})));
    let not_allowed = format!("Bearer {}", service.token(&json!({"upn": "bob@contoso.example"})));
    let mut faults = vec![];
    for (body, status, of_bob) in [
        ("", 400, 400),
        ("[]", 400, 400),
        ("{", 400, 400),
        (r#"{"alg":"RSA-OAEP-256","alg":"RSA-OAEP-256","value":""}"#, 400, 400),
        (r#"{"alg":"RSA-OAEP","value":"AAAA"}"#, 400, 403),
        (r#"{"alg":"RSA-OAEP-256","value":"*"}"#, 400, 403),
        (r#"{"alg":"RSA-OAEP-256","value":""}"#, 400, 403),
        (r#"{"alg":"RSA-OAEP-256"}"#, 400, 403),
        (&format!(r#"{{"alg":"RSA-OAEP-256","value":"{}"}}"#, "A".repeat(1 << 20)), 413, 413),
    ] {
        let told = service.send("POST", &path, Some(&bearer), body.as_bytes()).await;
        assert_eq!(told.status, status, "{body:.60}");
        let bob = service.send("POST", &path, Some(&not_allowed), body.as_bytes()).await;
        assert_eq!(bob.status, of_bob, "{body:.60}");
        faults.extend((of_bob == 403).then(|| (told.operation(), bob.operation())));
    }
    // Whatever of a ciphertext is wrong is one and the same.
    let mut wrong =
        vec![vec![], vec![0; 256], vec![0xff; 256], sealed[1..].to_vec(), [&sealed[..], &[0]].concat()];
    wrong.extend(
        [("sha256", "sha1"), ("sha1", "sha1"), ("sha512", "sha256")]
            .map(|(hash, mgf1)| openssl(&root, &public, hash, mgf1)),
    );
    wrong.extend((0..256).step_by(37).map(|at| {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        changed
    }));
    let mut told = vec![];
    for ciphertext in wrong {
        let answer = service.decrypt(&path, &ciphertext, json!({})).await;
        told.push((answer.status, String::from_utf8(answer.body).unwrap()));
    }
    told.dedup();
    assert_eq!(told, [(400, r#"{"error":"the input does not verify"}"#.to_owned())]);
    // Methods.
    for (method, path, allow) in
        [("POST", "/legal-hold", "get"), ("GET", path.as_str(), "post"), ("PUT", &path, "post")]
    {
        let answer = service.send(method, path, Some(&bearer), b"").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    // Whatever comes with it is taken in, so that the answer is read: the connection goes on.
    let long = " ".repeat(1 << 18);
    let put = format!("PUT {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n{long}", long.len());
    let answer = support::taken_in(async || service.gateway.stranger().await.send_unwanted(&put).await).await;
    assert_eq!(answer.status, 405);
    // Stops.
    service.api.turn("legal-hold", "suspend").await.expect(200);
    assert_eq!(service.decrypt(&path, &sealed, json!({})).await.status, 403);
    assert_eq!(service.send("GET", "/legal-hold", None, b"").await.status, 403);
    service.api.turn("legal-hold", "resume").await.expect(200);
    assert_eq!(service.decrypt(&path, &sealed, json!({})).await.status, 200);
    service.api.post(&format!("{T}/callers/ms-dke/suspend"), &json!({})).await.expect(200);
    assert_eq!(service.decrypt(&path, &sealed, json!({})).await.status, 403);
    assert_eq!(service.send("GET", "/legal-hold", None, b"").await.status, 403);
    // The native API on this host is the native API, and no other host has a key service.
    let mut peer = service.gateway.stranger().await;
    peer.ask("GET", "/legal-hold", "").await.refused(404, "not-found");
    assert_eq!(service.send("GET", "/openapi.json", None, b"").await.status, 200);
    service.gateway.running.shut_down().await.unwrap();
    // The log says what was wrong, of whom the policy would have let in.
    let events = log::events(&service.data, "dev");
    for ((told, bob), (reason, says)) in faults.iter().zip([
        ("malformed", "`alg`"),
        ("malformed", "`value`"),
        ("integrity", ""),
        ("malformed", "`value`"),
    ]) {
        let event = log::closing(&events, told);
        assert_eq!((&event["reason"], &event["outcome"]), (&json!(reason), &json!("refused")));
        assert!(event["detail"].as_str().unwrap().contains(says), "{event}");
        assert_eq!(
            (&event["key"]["name"], &event["policy"]["deciding"]),
            (&json!("legal-hold"), &json!(["ana-opens"]))
        );
        assert_eq!(log::closing(&events, bob)["reason"], "denied");
    }
}

/// One person who asks too often is refused alone, and the log has it in sum.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_up_the_service_and_what_is_refused_stands_in_the_log_in_sum() {
    let table = MsDkeTable { requests_per_second: 1000, requests_per_second_each: 2, ..table() };
    let mut service = Service::new(table).await;
    let (path, sealed) = service.sealed("legal-hold").await;
    let mut refused = 0_u64;
    for _ in 0..60 {
        match service.decrypt(&path, &sealed, json!({})).await.status {
            200 => {}
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(service.decrypt(&path, &sealed, json!({"sub": "another"})).await.status, 200);
    service.gateway.running.shut_down().await.unwrap();
    let events = log::events(&service.data, "dev");
    let throttled: Vec<_> = events.iter().filter(|event| event["reason"] == "throttled").collect();
    let count = |event: &&Value| match event["action"].as_str().unwrap() {
        "throttled" => event["context"]["count"].as_str().unwrap().parse().unwrap(),
        "decrypt" => 1,
        other => panic!("{other}"),
    };
    assert_eq!(throttled.iter().map(count).sum::<u64>(), refused);
    // One of its own and one summary for each minute that has begun.
    assert!(throttled.len() < 8, "{}", throttled.len());
    for event in &throttled {
        assert_eq!(
            (&event["caller"]["issuer"], &event["caller"]["subject"]),
            (&json!(ISSUER), &json!("ana"))
        );
        assert_eq!((&event["outcome"], &event["protocol"]["name"]), (&json!("refused"), &json!("ms-dke")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ciphertext_leaves_the_protocol_and_none_comes_in() {
    let mut service = Service::new(table()).await;
    let (path, sealed) = service.sealed("legal-hold").await;
    let bare = json!({"ciphertext": base64(&sealed), "key_version": 1, "padding": "oaep-sha-256"});
    let said = service.api.try_key("legal-hold", "decrypt", &bare).await.refused(422, "unsupported");
    assert!(said.text("detail").contains("created for protocol `ms-dke` alone"), "{}", said.json());
    let plain = json!({"plaintext": base64(BLOB)});
    service.api.try_key("legal-hold", "encrypt", &plain).await.refused(422, "unsupported");
    // What the native API made with a key of its own, and with any other, opens nowhere here.
    let ours = service.api.use_key("native", "encrypt", &plain).await;
    let ours = bytes(&ours["ciphertext"]);
    let header = ours.len() - 256;
    for ciphertext in [&ours[..], &ours[header..]] {
        assert_eq!(service.decrypt(&path, ciphertext, json!({})).await.status, 400);
        assert_eq!(
            service.decrypt(&path.replace("legal-hold", "native"), ciphertext, json!({})).await.status,
            404
        );
    }
    for key in ["native", "signs", "unknown", "not-made"] {
        assert_eq!(service.send("GET", &format!("/{key}"), None, b"").await.status, 404, "{key}");
    }
    // The native API does not take the service's tokens either, and whoever has one for it is not the service's caller there.
    let (verb, plain) = (format!("{T}/keys/native/encrypt"), plain.to_string());
    for more in [json!({}), json!({"aud": "holdfast"})] {
        let bearer = format!("Bearer {}", service.token(&more));
        let native = service.send("POST", &verb, Some(&bearer), plain.as_bytes());
        native.await.refused(401, "unauthenticated");
    }
    service.gateway.running.shut_down().await.unwrap();
    let events = log::events(&service.data, "dev");
    let refused = events
        .iter()
        .filter(|event| event["outcome"] == "refused" && event["reason"] == "unsupported")
        .count();
    assert!(refused >= 5, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_read_documents_fill_no_log_and_learn_of_a_stop_at_once() {
    let table = MsDkeTable {
        public_url: format!("https://{HOST}/a/b"),
        cache_days: 0,
        unknown_key_status: 400,
        requests_per_second: 1,
        ..table()
    };
    let mut service = Service::new(table).await;
    let mut peer = service.gateway.stranger().await;
    for _ in 0..300 {
        send(&mut peer, ("GET", "/a/b/legal-hold"), None, b"").await;
        let document = peer.answer().await.unwrap().expect(200).json();
        assert!(document.get("cache").is_none());
        let kid = document["key"]["kid"].as_str().unwrap();
        assert!(kid.starts_with(&format!("https://{HOST}/a/b/legal-hold/")), "{kid}");
        send(&mut peer, ("GET", "/a/b/unknown"), None, b"").await;
        assert_eq!(peer.answer().await.unwrap().status, 400);
        send(&mut peer, ("GET", "/a/b/native"), None, b"").await;
        assert_eq!(peer.answer().await.unwrap().status, 400);
    }
    let policy = service.api.get(&format!("{T}/policy")).await.expect(200).text("text");
    // More decryptions than the quota has.
    let bearer = format!("Bearer {}", service.token(&json!({})));
    let mut statuses = vec![];
    for _ in 0..5 {
        statuses.push(
            service
                .send(
                    "POST",
                    "/a/b/legal-hold/x/decrypt",
                    Some(&bearer),
                    b"{\"alg\":\"RSA-OAEP-256\",\"value\":\"\"}",
                )
                .await
                .status,
        );
    }
    assert!(statuses.contains(&400) && statuses.contains(&429), "{statuses:?}");
    service.api.turn("legal-hold", "suspend").await.expect(200);
    send(&mut peer, ("GET", "/a/b/legal-hold"), None, b"").await;
    assert_eq!(peer.answer().await.unwrap().status, 403);
    service.api.turn("legal-hold", "resume").await.expect(200);
    // So of another policy; and where whoever asks comes from, what is told to all does not depend on.
    let may_read = r#"action == Holdfast::Action::"public-key", resource)"#;
    let nobody = policy.replace(may_read, &may_read.replace("public-key", "sign"));
    let from_here = policy.replace(
        &format!("{may_read}\nwhen {{"),
        &format!("{may_read}\nwhen {{ context has source && context.source.isInRange(ip(\"0.0.0.0/0\")) &&"),
    );
    assert!(nobody != policy && from_here != policy);
    for (text, status) in [(&policy, 200), (&nobody, 403), (&policy, 200), (&from_here, 403), (&policy, 200)]
    {
        service.api.put(&format!("{T}/policy"), &json!({"text": text})).await.expect(200);
        for _ in 0..3 {
            send(&mut peer, ("GET", "/a/b/legal-hold"), None, b"").await;
            assert_eq!(peer.answer().await.unwrap().status, status);
        }
    }
    // One refusal of a stop is recorded, and none is told when it has passed.
    service.api.post(&format!("{T}/callers/ms-dke/suspend"), &json!({})).await.expect(200);
    for _ in 0..50 {
        send(&mut peer, ("GET", "/a/b/legal-hold"), None, b"").await;
        assert_eq!(peer.answer().await.unwrap().status, 403);
    }
    service.api.post(&format!("{T}/callers/ms-dke/resume"), &json!({})).await.expect(200);
    send(&mut peer, ("GET", "/a/b/legal-hold"), None, b"").await;
    assert_eq!(peer.answer().await.unwrap().status, 200);
    service.gateway.running.shut_down().await.unwrap();
    let events = log::events(&service.data, "dev");
    let open = events.iter().filter(|event| event["caller"]["authentication"] == "open").count();
    // Of 900 requests: some for each ten seconds, of each key that there is.
    assert!((4..40).contains(&open), "{open}");
    let stopped = events.iter().filter(|event| event["reason"] == "stopped").count();
    assert!((1..6).contains(&stopped), "{stopped}");
}
