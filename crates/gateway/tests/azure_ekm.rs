//! The proxy of Azure Managed HSM's external keys: as Managed HSM asks, and as nobody may.

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

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_gateway::azure_ekm::AzureEkmTable;
use serde_json::{Value, json};
use std::time::Instant;
use support::api::{Api, T};
use support::authority::Authority;
use support::ekm::{self, DEK, POOL, QUERY, about, ask, value};
use support::peer::{LISTENED_TO, PATIENCE, Peer};
use support::{Dev, dev_with, in_time, log, settings};

struct Site {
    directory: tempfile::TempDir,
    gateway: Dev,
    api: Api,
    hsm: Authority,
    peer: Peer,
}

impl Site {
    /// A gateway with a proxy under `/acme` and what else there is to be, and keys of each kind.
    async fn new(change: impl FnOnce(&mut AzureEkmTable)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let hsm = Authority::new("Microsoft");
        let mut config = settings(&data);
        let mut table = ekm::table(directory.path(), &hsm, "/acme", "azure-ekm");
        change(&mut table);
        let mut other = ekm::table(directory.path(), &hsm, "/other", "other-hsm");
        other.client_common_names = vec!["other.managedhsmclient.azure.net".into()];
        config.azure_ekm = vec![table, other];
        let gateway = dev_with(config).await;
        let mut api = Api::developer(&gateway).await;
        ekm::register(&mut api, &["azure-ekm", "other-hsm"]).await;
        for (name, algorithm, legacy) in [
            ("kw", "aes-256-kw", &[][..]),
            ("kwp", "aes-256-kwp", &[]),
            ("rsa", "rsa-2048", &["sha1-oaep"]),
            ("strict", "rsa-3072", &[]),
            ("secret", "aes-256-kw", &[]),
        ] {
            ekm::create(&mut api, name, algorithm, legacy).await;
        }
        let leaf = hsm.issue_named(None, POOL, 5);
        let peer = ekm::connect(&gateway, &leaf).await;
        Self { directory, gateway, api, hsm, peer }
    }

    async fn ask(&mut self, path: &str, body: &Value) -> support::Answer {
        ask(&mut self.peer, path, body).await
    }

    async fn stop(self) -> Vec<Value> {
        let Self { gateway, directory: _directory, .. } = self;
        gateway.running.shut_down().await.unwrap();
        log::events(&gateway.directory, "dev")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_described_wrapped_and_unwrapped_and_the_log_says_for_which_pool() {
    let mut site = Site::new(|_| ()).await;
    let told = site.ask("/acme/info", &about()).await.expect(200).json();
    assert_eq!(told["api_version"], "0.1-preview");
    assert_eq!((&told["proxy_vendor"], &told["ekm_vendor"]), (&"Holdfast".into(), &"Holdfast".into()));
    assert_eq!(told.as_object().unwrap().len(), 5);
    for (key, expected) in
        [("kw", ("oct", 256)), ("kwp", ("oct", 256)), ("rsa", ("RSA", 2048)), ("strict", ("RSA", 3072))]
    {
        let told = site.ask(&format!("/acme/{key}/metadata"), &about()).await.expect(200).json();
        assert_eq!((told["key_type"].as_str().unwrap(), told["key_size"].as_i64().unwrap()), expected);
        assert_eq!(told["key_ops"], json!(["wrapKey", "unwrapKey"]));
        assert_eq!(told["n"].is_string(), expected.0 == "RSA");
        if let Some(n) = told["n"].as_str() {
            assert_eq!(URL_SAFE_NO_PAD.decode(n).unwrap().len() * 8, usize::try_from(expected.1).unwrap());
            assert_eq!(told["e"], "AQAB");
        }
    }
    let mut operations = vec![];
    for (key, alg, length) in [
        ("kw", "A256KW", 40),
        ("kwp", "A256KWP", 40),
        ("rsa", "RSA-OAEP-256", 256),
        ("rsa", "RSA-OAEP", 256),
        ("strict", "RSA-OAEP-256", 384),
    ] {
        let wrapped = site.ask(&format!("/acme/{key}/wrapkey"), &value(alg, &DEK)).await;
        operations.push((wrapped.operation(), "wrap", alg));
        let wrapped = ekm::bytes(wrapped);
        assert_eq!(wrapped.len(), length);
        let unwrapped = site.ask(&format!("/acme/{key}/unwrapkey"), &value(alg, &wrapped)).await;
        operations.push((unwrapped.operation(), "unwrap", alg));
        assert_eq!(ekm::bytes(unwrapped), DEK);
    }
    let events = site.stop().await;
    for (operation, action, alg) in operations {
        let event = log::closing(&events, &operation);
        assert_eq!((&event["action"], &event["outcome"]), (&action.into(), &"success".into()));
        let protocol = &event["protocol"];
        assert_eq!(
            (&protocol["name"], &protocol["request"]),
            (&"azure-ekm".into(), &ekm::context()["correlation_id"])
        );
        for said in ["request_id", "correlation_id", "pool_name"] {
            assert_eq!(protocol["says"][said], ekm::context()[said]);
        }
        assert_eq!(protocol["says"]["alg"], alg);
        let caller = &event["caller"];
        assert_eq!((&caller["name"], &caller["authentication"]), (&"azure-ekm".into(), &"mtls".into()));
        assert!(caller.to_string().contains(&format!("cn:{POOL}")), "{caller}");
        assert_eq!(event["key"]["protocol"], "azure-ekm");
        assert!(!event.to_string().contains(&URL_SAFE_NO_PAD.encode(DEK)));
    }
}

/// Each row: what is asked, how it is refused, and whether that is the caller's record.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_has_its_status_is_recorded_and_tells_nothing() {
    let mut site = Site::new(|_| ()).await;
    let api = &mut site.api;
    api.create(&json!({"name": "native", "algorithm": "aes-256-kw", "purpose": "wrap"})).await;
    let dke = json!({"name": "dke", "algorithm": "rsa-2048", "purpose": "wrap", "protocol": "ms-dke"});
    api.create(&dke).await;
    for (name, algorithm, purpose) in [("gcm", "aes-256-gcm", "wrap"), ("opens", "rsa-2048", "encrypt")] {
        api.create(
            &json!({"name": name, "algorithm": algorithm, "purpose": purpose, "protocol": "azure-ekm"}),
        )
        .await;
    }
    let wrapped = ekm::bytes(site.ask("/acme/kw/wrapkey", &value("A256KW", &DEK)).await);
    let padded = ekm::bytes(site.ask("/acme/kwp/wrapkey", &value("A256KWP", &DEK)).await);
    let sealed = ekm::bytes(site.ask("/acme/rsa/wrapkey", &value("RSA-OAEP-256", &DEK)).await);
    let mut changed = wrapped.clone();
    changed[7] ^= 1;
    let twice = value("A256KW", &DEK).to_string().replacen('{', r#"{"alg":"A256KW","#, 1);
    let twice_said =
        value("A256KW", &DEK).to_string().replace(r#""pool_name""#, r#""pool_name":"a","pool_name""#);
    let with = |field: &str, other: Value| {
        let mut body = value("A256KW", &DEK);
        body[field] = other;
        body.to_string()
    };
    let good = || value("A256KW", &DEK).to_string();
    let big = format!("{}{}", good(), " ".repeat(1 << 20));
    let stolen = good().replace("mhsm-pool-name", "stolen");
    let wrap = |alg: &str, bytes: &[u8]| value(alg, bytes).to_string();
    let mut refused = vec![];
    for (path, body, status, code) in [
        // The key: none, of another name, another protocol's, of another purpose or algorithm, and one that the policy keeps.
        ("/acme/none/wrapkey", good(), 404, "KeyNotFound"),
        ("/acme/KW/wrapkey", good(), 404, "KeyNotFound"),
        ("/acme/native/wrapkey", good(), 404, "KeyNotFound"),
        ("/acme/native/unwrapkey", wrap("A256KW", &wrapped), 404, "KeyNotFound"),
        ("/acme/native/metadata", about().to_string(), 404, "KeyNotFound"),
        ("/acme/dke/wrapkey", wrap("RSA-OAEP-256", &DEK), 404, "KeyNotFound"),
        ("/acme/dke/metadata", about().to_string(), 404, "KeyNotFound"),
        ("/acme/gcm/wrapkey", good(), 400, "BadRequest"),
        ("/acme/gcm/metadata", about().to_string(), 404, "KeyNotFound"),
        ("/acme/opens/wrapkey", wrap("RSA-OAEP-256", &DEK), 400, "BadRequest"),
        ("/acme/opens/metadata", about().to_string(), 404, "KeyNotFound"),
        ("/acme/secret/wrapkey", good(), 403, "Forbidden"),
        ("/acme/kw/wrapkey", stolen, 403, "Forbidden"),
        // The algorithm.
        ("/acme/kw/wrapkey", wrap("A256KWP", &DEK), 400, "BadRequest"),
        ("/acme/kwp/unwrapkey", wrap("A256KW", &wrapped), 400, "BadRequest"),
        ("/acme/kw/wrapkey", wrap("RSA-OAEP-256", &DEK), 400, "BadRequest"),
        ("/acme/rsa/wrapkey", good(), 400, "BadRequest"),
        ("/acme/strict/wrapkey", wrap("RSA-OAEP", &DEK), 400, "BadRequest"),
        ("/acme/kw/wrapkey", wrap("A128KW", &DEK), 400, "BadRequest"),
        ("/acme/kw/wrapkey", with("alg", Value::Null), 400, "BadRequest"),
        // The value.
        ("/acme/kw/wrapkey", with("value", "AA==".into()), 400, "BadRequest"),
        ("/acme/kw/wrapkey", with("value", "+///".into()), 400, "BadRequest"),
        ("/acme/kw/wrapkey", with("value", "".into()), 400, "BadRequest"),
        ("/acme/kw/wrapkey", wrap("A256KW", &[7; 17]), 400, "BadRequest"),
        ("/acme/kwp/wrapkey", wrap("A256KWP", &[]), 400, "BadRequest"),
        ("/acme/kw/wrapkey", wrap("A256KW", &[7; 8200]), 400, "BadRequest"),
        ("/acme/rsa/wrapkey", wrap("RSA-OAEP-256", &[7; 191]), 400, "BadRequest"),
        ("/acme/kw/unwrapkey", wrap("A256KW", &changed), 400, "BadRequest"),
        ("/acme/kw/unwrapkey", wrap("A256KW", &wrapped[..39]), 400, "BadRequest"),
        ("/acme/kw/unwrapkey", wrap("A256KW", &[]), 400, "BadRequest"),
        ("/acme/kw/unwrapkey", wrap("A256KW", &padded), 400, "BadRequest"),
        ("/acme/kwp/unwrapkey", wrap("A256KWP", &wrapped), 400, "BadRequest"),
        ("/acme/rsa/unwrapkey", wrap("RSA-OAEP", &sealed), 400, "BadRequest"),
        ("/acme/rsa/unwrapkey", wrap("RSA-OAEP-256", &sealed[..255]), 400, "BadRequest"),
        ("/acme/rsa/unwrapkey", wrap("RSA-OAEP-256", &[0xff; 256]), 400, "BadRequest"),
        // The form.
        ("/acme/kw/wrapkey", twice, 400, "BadRequest"),
        ("/acme/kw/wrapkey", twice_said, 400, "BadRequest"),
        ("/acme/kw/wrapkey", with("request_context", Value::Null), 400, "BadRequest"),
        ("/acme/kw/wrapkey", with("request_context", json!({"pool_name": "p"})), 400, "BadRequest"),
        ("/acme/kw/wrapkey", "{".to_owned(), 400, "BadRequest"),
        ("/acme/info", "{}".to_owned(), 400, "BadRequest"),
        ("/acme/kw/wrapkey", big, 400, "BadRequest"),
    ] {
        let answer = match body.len() > 1 << 20 {
            // Refused by its length, whatever it is; the connection ends with it.
            true => {
                let leaf = site.hsm.issue_named(None, POOL, 5);
                in_time(async || {
                    let mut peer = ekm::connect(&site.gateway, &leaf).await;
                    let head = peer.head("POST", &format!("{path}{QUERY}"), body.len());
                    peer.send(head.as_bytes()).await.unwrap();
                    peer.answer().await.expect("an answer")
                })
                .await
            }
            false => in_time(async || site.peer.ask("POST", &format!("{path}{QUERY}"), &body).await).await,
        };
        let what = format!("{path} {}", &body[..body.len().min(200)]);
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        let answer = answer.ekm_error(status, code);
        refused.push((what, answer.operation(), answer.text("message")));
    }
    // What does not verify is one and the same, and so is a key that is none of these.
    let said = |of: &str| {
        let all = refused.iter().filter(|(what, ..)| what.contains(of)).map(|(.., message)| message.clone());
        all.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(said("/acme/rsa/unwrapkey").len(), 1);
    assert_eq!(said("/acme/kw/unwrapkey").len(), 1);
    // Another version, and none.
    for query in ["", "?api-version=1.0", "?api-version=0.1-preview&x=1"] {
        let path = format!("/acme/kw/wrapkey{query}");
        let answer = in_time(async || site.peer.ask("POST", &path, &good()).await).await;
        refused.push((query.to_owned(), answer.ekm_error(400, "BadRequest").operation(), String::new()));
    }
    // No such path is nobody's, and so is another method.
    for path in [
        "/acme/kw",
        "/acme/kw/wrapKey",
        "/acme/../acme/kw/wrapkey",
        "/acme/kw%2f/wrapkey",
        "/acme/a%2fb/wrapkey",
        "/acme/./wrapkey",
        "/acme/a.b/wrapkey",
        "/ACME/info",
        "/info",
        "/v1/tenants/dev/keys",
        "/health/live",
    ] {
        site.ask(path, &about()).await.ekm_error(404, "NotFound");
    }
    let answer =
        site.peer.ask("GET", &format!("/acme/info{QUERY}"), "").await.ekm_error(405, "MethodNotAllowed");
    assert_eq!(answer.header("allow"), Some("post"));
    let events = site.stop().await;
    for (what, operation, _) in refused {
        let event = log::closing(&events, &operation);
        let found = matches!(event["action"].as_str(), Some("read-key"));
        assert_eq!(event["outcome"], if found { "success" } else { "refused" }, "{what}");
        assert_eq!(event["caller"]["name"], "azure-ekm", "{what}");
    }
}

/// No certificate, one of another authority or name, an expired one: no handshake. Another proxy's: nothing there.
#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_lets_in_the_pool_by_its_common_name_and_nobody_else() {
    let mut site = Site::new(|_| ()).await;
    let (gateway, hsm) = (&site.gateway, &site.hsm);
    let settings = |leaf: &support::authority::Leaf| ekm::as_leaf(&gateway.directory, leaf);
    let another = Authority::new("another");
    let refused = [
        support::trust(&gateway.directory).name(ekm::HOST),
        settings(&hsm.issue_named(Some(POOL), "x", 5)),
        settings(&hsm.issue_named(None, "", 5)),
        settings(&hsm.issue_named(None, &format!("x.{POOL}"), 5)),
        settings(&hsm.issue_named(None, POOL, -1)),
        settings(&another.issue_named(None, POOL, 5)),
    ];
    for (number, settings) in refused.iter().enumerate() {
        // In TLS 1.3 a client learns of it with the first answer.
        let mut peer = Peer::connect(gateway.running.address, settings).await.unwrap();
        let head = peer.head("POST", "/acme/info", 0);
        let _ = peer.send(head.as_bytes()).await;
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut peer.stream, &mut byte).await;
        let alert = read.expect_err("served without a certificate").to_string();
        let expected = if number == 0 { "CertificateRequired" } else { "HandshakeFailure" };
        assert!(alert.contains(expected), "{number}: {alert}");
    }
    // Whoever has begun to ask by then learns of it all the same, if it has done so while it is listened to.
    let begun = Instant::now();
    let alert = loop {
        let connected = Instant::now();
        let mut peer = Peer::connect(gateway.running.address, &refused[0]).await.unwrap();
        let sent = peer.send(&vec![0; 8 << 20]).await;
        let read = tokio::io::AsyncReadExt::read(&mut peer.stream, &mut [0]).await;
        if connected.elapsed() < LISTENED_TO || begun.elapsed() > PATIENCE {
            sent.unwrap();
            break read.unwrap_err().to_string();
        }
    };
    assert!(alert.contains("CertificateRequired"), "{alert}");
    // A new certificate of the same name, whatever its key and its alternative names, and in other letters.
    for leaf in [hsm.issue_named(Some("x.example"), POOL, 5), hsm.issue_named(None, &POOL.to_uppercase(), 1)]
    {
        let mut peer = ekm::connect(gateway, &leaf).await;
        ask(&mut peer, "/acme/info", &about()).await.expect(200);
        // The other proxy's clients have another name, and whether it is there nobody else finds out.
        let body = value("A256KW", &DEK).to_string();
        for (method, rest, body) in [
            ("POST", "info", about().to_string()),
            ("POST", "kw/wrapkey", body.clone()),
            ("POST", "kw/metadata", "{".to_owned()),
            ("GET", "kw/wrapkey", String::new()),
            ("POST", "kw", body),
        ] {
            let mut told = vec![];
            for prefix in ["/other", "/nobody"] {
                let answer = peer.ask(method, &format!("{prefix}/{rest}{QUERY}"), &body).await;
                let of_itself = |line: &&str| !line.starts_with("date:") && !line.contains("operation");
                let headers: Vec<_> = answer.headers.lines().filter(of_itself).map(str::to_owned).collect();
                told.push((headers, answer.ekm_error(404, "NotFound").body));
            }
            assert_eq!(told[0], told[1], "{method} {rest}");
        }
    }
    let mut other =
        ekm::connect(gateway, &hsm.issue_named(None, "other.managedhsmclient.azure.net", 5)).await;
    ask(&mut other, "/other/info", &about()).await.expect(200);
    ask(&mut other, "/acme/kw/wrapkey", &value("A256KW", &DEK)).await.ekm_error(404, "NotFound");
    // Its caller has no right to anything.
    ask(&mut other, "/other/kw/wrapkey", &value("A256KW", &DEK)).await.ekm_error(403, "Forbidden");
    // Only TLS 1.3, and only HTTP/1.1.
    let leaf = hsm.issue_named(None, POOL, 5);
    let old = settings(&leaf).versions(&[&rustls::version::TLS12]);
    assert!(Peer::connect(gateway.running.address, &old).await.is_err());
    assert!(Peer::connect(gateway.running.address, &settings(&leaf).alpn(&[b"h2"])).await.is_err());
    // Under any other name the proxy is not there, with whatever certificate; and its caller is nobody for the native API.
    let elsewhere = support::trust(&gateway.directory).identity(leaf.certificate.clone(), leaf.key.clone());
    let mut peer = Peer::connect(gateway.running.address, &elsewhere).await.unwrap();
    ask(&mut peer, "/acme/info", &about()).await.refused(404, "not-found");
    peer.post(&format!("{T}/keys/kw/wrap"), &json!({"plaintext": "AAAA"})).await.expect(401);
    // Who suspends the caller stops it on connections that are there.
    ask(&mut site.peer, "/acme/info", &about()).await.expect(200);
    site.api.post(&format!("{T}/callers/azure-ekm/suspend"), &json!({})).await.expect(200);
    for (path, body) in [
        ("/acme/info", about()),
        ("/acme/kw/metadata", about()),
        ("/acme/kw/wrapkey", value("A256KW", &DEK)),
        ("/acme/kw/unwrapkey", value("A256KW", &[7; 40])),
    ] {
        ask(&mut site.peer, path, &body).await.ekm_error(403, "KeyDisabled");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_one_version_and_what_it_wrapped_opens_until_it_is_stopped() {
    let mut site =
        Site::new(|it| it.keys = Some([("payroll-2026".to_owned(), "kw".to_owned())].into())).await;
    let wrapped = ekm::bytes(site.ask("/acme/payroll-2026/wrapkey", &value("A256KW", &DEK)).await);
    // Keys that are not of the list are not there, by whatever name.
    for other in ["kw", "kwp", "Payroll-2026"] {
        site.ask(&format!("/acme/{other}/wrapkey"), &value("A256KW", &DEK))
            .await
            .ekm_error(404, "KeyNotFound");
    }
    site.api.post(&format!("{T}/keys/kw/rotate"), &json!({})).await.refused(422, "unsupported");
    let unwrap = value("A256KW", &wrapped);
    assert_eq!(ekm::bytes(site.ask("/acme/payroll-2026/unwrapkey", &unwrap).await), DEK);
    site.api.turn("kw", "suspend").await.expect(200);
    for (path, body) in
        [("metadata", about()), ("wrapkey", value("A256KW", &DEK)), ("unwrapkey", unwrap.clone())]
    {
        site.ask(&format!("/acme/payroll-2026/{path}"), &body).await.ekm_error(403, "KeyDisabled");
    }
    // The proxy itself is there: it is the key that is stopped.
    site.ask("/acme/info", &about()).await.expect(200);
    site.api.turn("kw", "resume").await.expect(200);
    assert_eq!(ekm::bytes(site.ask("/acme/payroll-2026/unwrapkey", &unwrap).await), DEK);
    site.stop().await;
}

/// Key wrap makes more of it than it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_most_that_is_wrapped_is_unwrapped_again() {
    let mut site = Site::new(|_| ()).await;
    let most = vec![0x5a; holdfast_wire::ekm::message::MAX_VALUE];
    for (key, alg) in [("kw", "A256KW"), ("kwp", "A256KWP")] {
        let wrapped = ekm::bytes(site.ask(&format!("/acme/{key}/wrapkey"), &value(alg, &most)).await);
        assert_eq!(wrapped.len(), most.len() + 8);
        let unwrapped = site.ask(&format!("/acme/{key}/unwrapkey"), &value(alg, &wrapped)).await;
        assert_eq!(ekm::bytes(unwrapped), most);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_quota_is_refused_and_the_log_has_it_in_sum() {
    let mut site = Site::new(|it| it.requests_per_second = 2).await;
    let mut asked = vec![];
    for _ in 0..40 {
        // Each once: of whoever is told that it was late the log says whether it was refused.
        let answer = site.peer.post(&format!("/acme/kw/wrapkey{QUERY}"), &value("A256KW", &DEK)).await;
        match answer.status {
            429 => asked.push((answer.ekm_error(429, "Throttled").operation(), true)),
            408 => asked.push((answer.ekm_error(408, "RequestTimeout").operation(), false)),
            _ => drop(answer.expect(200)),
        }
    }
    let events = site.stop().await;
    let is_throttled =
        |operation: &str| log::of(&events, operation).iter().any(|event| event["reason"] == "throttled");
    asked.retain(|(operation, is_told)| *is_told || is_throttled(operation));
    let refused: Vec<_> = asked.into_iter().map(|(operation, _)| operation).collect();
    assert!(refused.len() > 10, "forty in a moment are more than two a second: {}", refused.len());
    let of = |operation: &str| events.iter().filter(|event| event["operation"] == operation).count();
    let first = log::closing(&events, &refused[0]);
    assert_eq!((&first["outcome"], &first["action"]), (&"refused".into(), &"wrap".into()));
    assert!(refused[1..].iter().all(|operation| of(operation) == 0));
    let throttled: Vec<_> = events.iter().filter(|event| event["reason"] == "throttled").collect();
    let count = |event: &&Value| match event["action"].as_str().unwrap() {
        "throttled" => event["context"]["count"].as_str().unwrap().parse().unwrap(),
        "wrap" => 1,
        other => panic!("{other}"),
    };
    assert_eq!(throttled.iter().map(count).sum::<usize>(), refused.len());
    for event in throttled {
        assert_eq!(
            (&event["caller"]["name"], &event["protocol"]["name"]),
            (&"azure-ekm".into(), &"azure-ekm".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_taken_away_vouches_for_nobody_who_is_there() {
    let mut site = Site::new(|_| ()).await;
    let file = site.directory.path().join("managed-hsm.pem");
    site.ask("/acme/info", &about()).await.expect(200);
    // Whoever is vouched for still, stays.
    let next = Authority::new("the next");
    std::fs::write(&file, site.hsm.pem.clone() + &next.pem).unwrap();
    site.gateway.running.reload().unwrap();
    site.ask("/acme/info", &about()).await.expect(200);
    std::fs::write(&file, &next.pem).unwrap();
    site.gateway.running.reload().unwrap();
    let wrap = value("A256KW", &DEK);
    let refused = site.ask("/acme/kw/wrapkey", &wrap).await.ekm_error(401, "Unauthorized");
    assert_eq!(refused.header("connection"), Some("close"));
    let closed = tokio::io::AsyncReadExt::read(&mut site.peer.stream, &mut [0]).await;
    assert_eq!(closed.unwrap_or(0), 0, "the connection is left open");
    let mut peer = ekm::connect(&site.gateway, &next.issue_named(None, POOL, 5)).await;
    ask(&mut peer, "/acme/kw/wrapkey", &wrap).await.expect(200);
    site.stop().await;
}
