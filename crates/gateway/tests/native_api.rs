//! Every operation of the native API, each answer held against the document that the gateway serves.

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

use holdfast_core::port::World as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use support::api::{Api, T, base64, bytes};
use support::authority::Authority;
use support::peer::Peer;
use support::{dev, dev_with, log, trust};

const HELLO: &str = "aGVsbG8=";
/// Whose backups nobody needs to open.
const RECIPIENT: &str = "age1mgs0nsd8feyxevg2np3v0sv7gtxs4gqahpe8w6y0f5krrz29sa2qxvl0x0";

/// What brings a key of 32 bytes, wrapped by `openssl` for an import key.
fn wrapped_key(directory: &Path, public: &str) -> Value {
    std::fs::write(directory.join("import.pem"), public).unwrap();
    let line = "openssl rand -out key 32; openssl rand -out kek 32
        openssl pkeyutl -encrypt -pubin -inkey import.pem -in kek -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 > wrapped
        openssl enc -id-aes256-wrap-pad -K $(od -An -v -tx1 kek | tr -d ' \\n') -iv A65959A6 -in key >> wrapped
        openssl dgst -sha256 -binary key | head -c 8 > check";
    let done = Command::new("sh").args(["-euc", line]).current_dir(directory).status().unwrap();
    assert!(done.success());
    let read = |name: &str| base64(&std::fs::read(directory.join(name)).unwrap());
    json!({"wrapped": read("wrapped"), "check_value": read("check")})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_or_wrapped_opens_with_its_key_and_context_alone() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    for algorithm in ["xaes-256-gcm", "aes-256-gcm", "aes-256-gcm-siv"] {
        api.create(&json!({"name": algorithm, "algorithm": algorithm})).await;
        let context = json!({"invoice": "4711", "tenant": "ü"});
        let wrapping = format!("{algorithm}-wraps");
        api.create(&json!({"name": wrapping, "algorithm": algorithm, "purpose": "wrap"})).await;
        for (name, to, from) in [(algorithm, "encrypt", "decrypt"), (&*wrapping, "wrap", "unwrap")] {
            let sealed = api.use_key(name, to, &json!({"plaintext": HELLO, "context": context})).await;
            assert_eq!((&sealed["algorithm"], &sealed["key_version"]), (&json!(algorithm), &json!(1)));
            let ciphertext = &sealed["ciphertext"];
            let opened =
                api.use_key(name, from, &json!({"ciphertext": ciphertext, "context": context})).await;
            assert_eq!(opened["plaintext"], HELLO);
            let mut flipped = bytes(ciphertext);
            *flipped.last_mut().unwrap() ^= 1;
            let without = json!({"ciphertext": ciphertext});
            let changed = json!({"ciphertext": base64(&flipped), "context": context});
            let mut refusals = vec![];
            for wrong in [without, changed] {
                let mut problem = api.try_key(name, from, &wrong).await.refused(422, "integrity").json();
                problem["operation"].take();
                refusals.push(problem);
            }
            assert_eq!(refusals[0], refusals[1], "an oracle");
        }
        let shown = api.use_key(algorithm, "datakey", &json!({"length": 48, "context": context})).await;
        assert_eq!(bytes(&shown["plaintext"]).len(), 48);
        let hidden = api.use_key(algorithm, "datakey", &json!({"with_plaintext": false})).await;
        assert!(hidden.get("plaintext").is_none());
        let open = json!({"ciphertext": shown["ciphertext"], "context": context});
        assert_eq!(api.use_key(algorithm, "decrypt", &open).await["plaintext"], shown["plaintext"]);
        let opened = api.use_key(algorithm, "decrypt", &json!({"ciphertext": hidden["ciphertext"]})).await;
        assert_eq!(bytes(&opened["plaintext"]).len(), 32);
    }
    let sealed =
        api.use_key("aes-256-gcm", "encrypt", &json!({"plaintext": HELLO, "context": {"a": "b"}})).await;
    let rewrap =
        json!({"ciphertext": sealed["ciphertext"], "context": {"a": "b"}, "target_key": "xaes-256-gcm"});
    let moved = api.use_key("aes-256-gcm", "rewrap", &rewrap).await;
    assert_eq!(moved["algorithm"], "xaes-256-gcm");
    let open = json!({"ciphertext": moved["ciphertext"], "context": {"a": "b"}});
    assert_eq!(api.use_key("xaes-256-gcm", "decrypt", &open).await["plaintext"], HELLO);
    api.try_key("aes-256-gcm", "decrypt", &open).await.refused(422, "integrity");

    let material = base64(&[7; 32]);
    for (algorithm, plaintext) in [("aes-256-kw", material.as_str()), ("aes-256-kwp", HELLO)] {
        api.create(&json!({"name": algorithm, "algorithm": algorithm})).await;
        let wrapped = api.use_key(algorithm, "wrap", &json!({"plaintext": plaintext})).await;
        let opened = api.use_key(algorithm, "unwrap", &json!({"ciphertext": wrapped["ciphertext"]})).await;
        assert_eq!(opened["plaintext"], plaintext);
        let with_context = json!({"plaintext": plaintext, "context": {"a": "b"}});
        api.try_key(algorithm, "wrap", &with_context).await.refused(422, "unsupported");
        api.try_key(algorithm, "encrypt", &json!({"plaintext": plaintext})).await.refused(422, "unsupported");
    }
    let random = api.post(&format!("{T}/random"), &json!({"length": 100})).await.expect(200).json();
    assert_eq!(bytes(&random["random"]).len(), 100);
    gateway.running.shut_down().await.unwrap();
}

/// Runs the stock `openssl` in a directory; true if it says yes.
fn openssl(directory: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .expect("`openssl`");
    output.status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_verify_here_and_with_openssl() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    let here = directory.path();
    std::fs::write(here.join("message"), b"a release").unwrap();
    std::fs::write(here.join("other"), b"another release").unwrap();
    let message = base64(b"a release");
    let dgst = |hash: &str| format!("dgst -{hash} -verify public.pem -signature signature");
    let pss = "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -verify public.pem -signature signature";
    for (algorithm, scheme, verify) in [
        ("ecdsa-p256", "ecdsa-sha-256", Some(dgst("sha256"))),
        ("ecdsa-p384", "ecdsa-sha-384", Some(dgst("sha384"))),
        ("ecdsa-p521", "ecdsa-sha-512", Some(dgst("sha512"))),
        ("rsa-2048", "rsa-pss-sha-256", Some(pss.to_owned())),
        (
            "ed25519",
            "ed25519",
            Some("pkeyutl -verify -pubin -inkey public.pem -rawin -sigfile signature -in".to_owned()),
        ),
        ("ml-dsa-65", "ml-dsa-65", None),
    ] {
        api.create(&json!({"name": algorithm, "algorithm": algorithm, "purpose": "sign"})).await;
        let signed = api.use_key(algorithm, "sign", &json!({"message": message})).await;
        assert_eq!(signed["scheme"], scheme);
        for (text, valid) in [("a release", true), ("another release", false)] {
            let question = json!({"message": base64(text.as_bytes()), "signature": signed["signature"]});
            assert_eq!(api.use_key(algorithm, "verify", &question).await["valid"], valid, "{algorithm}");
        }
        if let Some(verify) = verify {
            let public = api.public_key(algorithm).await;
            std::fs::write(here.join("public.pem"), public["public_key_pem"].as_str().unwrap()).unwrap();
            std::fs::write(here.join("signature"), bytes(&signed["signature"])).unwrap();
            assert!(openssl(here, &format!("{verify} message")), "{algorithm}: openssl refuses");
            assert!(!openssl(here, &format!("{verify} other")), "{algorithm}: openssl verifies anything");
        }
    }
    // What others encrypt with the public key opens by the version that they name.
    api.create(&json!({"name": "mail", "algorithm": "rsa-2048", "purpose": "encrypt"})).await;
    let sealed = api.use_key("mail", "encrypt", &json!({"plaintext": HELLO})).await;
    let opened = api.use_key("mail", "decrypt", &json!({"ciphertext": sealed["ciphertext"]})).await;
    assert_eq!(opened["plaintext"], HELLO);
    let public = api.public_key("mail").await;
    std::fs::write(here.join("public.pem"), public["public_key_pem"].as_str().unwrap()).unwrap();
    let oaep = "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256";
    assert!(openssl(
        here,
        &format!("pkeyutl -encrypt -pubin -inkey public.pem -in message -out sealed {oaep}")
    ));
    let bare = base64(&std::fs::read(here.join("sealed")).unwrap());
    let opened = api.use_key("mail", "decrypt", &json!({"ciphertext": bare, "key_version": 1})).await;
    assert_eq!(bytes(&opened["plaintext"]), b"a release");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_get_the_same_secret() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    for algorithm in ["ecdh-p256", "ecdh-p384", "x25519"] {
        let mut secrets = vec![];
        let names = [format!("{algorithm}-a"), format!("{algorithm}-b")];
        for name in &names {
            api.create(&json!({"name": name, "algorithm": algorithm})).await;
        }
        for (mine, theirs) in [(&names[0], &names[1]), (&names[1], &names[0])] {
            let peer = api.public_key(theirs).await["public_key"].clone();
            secrets.push(
                api.use_key(mine, "agree", &json!({"peer_public_key": peer})).await["shared_secret"].clone(),
            );
        }
        assert_eq!(secrets[0], secrets[1], "{algorithm}");
        assert!(bytes(&secrets[0]).len() >= 32);
        let nonsense = json!({"peer_public_key": base64(&[1; 64])});
        let answer = api.try_key(&names[0], "agree", &nonsense).await;
        assert!((400..500).contains(&answer.status), "{}", answer.json());
    }
    api.create(&json!({"name": "kem", "algorithm": "ml-kem-768"})).await;
    let made = api.use_key("kem", "encapsulate", &json!({})).await;
    let opened = api.use_key("kem", "decapsulate", &json!({"ciphertext": made["ciphertext"]})).await;
    assert_eq!(made["shared_secret"], opened["shared_secret"]);
    assert_eq!(bytes(&api.public_key("kem").await["public_key"]).len(), 1184, "FIPS 203, table 3");

    for (algorithm, length) in [("hmac-sha-256", 32), ("hmac-sha-384", 48), ("hmac-sha-512", 64)] {
        api.create(&json!({"name": algorithm, "algorithm": algorithm})).await;
        let made = api.use_key(algorithm, "mac", &json!({"message": HELLO})).await;
        assert_eq!(bytes(&made["mac"]).len(), length);
        for (message, valid) in [(HELLO, true), ("aGVsbG9v", false)] {
            let question = json!({"message": message, "mac": made["mac"]});
            assert_eq!(api.use_key(algorithm, "verify-mac", &question).await["valid"], valid);
        }
    }
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_of_a_batch_is_decided_and_recorded_alone() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    api.create(&json!({"name": "works"})).await;
    api.create(&json!({"name": "stopped"})).await;
    api.turn("stopped", "suspend").await.expect(200);
    let items = json!([
        {"key": "works", "operation": "encrypt", "plaintext": HELLO},
        {"key": "stopped", "operation": "encrypt", "plaintext": HELLO},
        {"key": "nowhere", "operation": "encrypt", "plaintext": HELLO},
        {"key": "works", "operation": "sign", "message": HELLO},
        {"key": "works", "operation": "encrypt", "plaintext": "not base64!"},
        {"operation": "encrypt", "key": "works", "plaintext": ""},
    ]);
    let answer = api.post(&format!("{T}/batch"), &json!({"items": items})).await.expect(200).json();
    let items = answer["items"].as_array().unwrap();
    let statuses: Vec<_> = items.iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 409, 404, 422, 400, 200], "{answer:#}");
    let ids: std::collections::BTreeSet<_> =
        items.iter().map(|item| item["operation_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), items.len());
    let ciphertext = &items[0]["result"]["ciphertext"];
    assert_eq!(api.use_key("works", "decrypt", &json!({"ciphertext": ciphertext})).await["plaintext"], HELLO);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&directory.path().join("data"), "dev");
    for item in items {
        let event = log::closing(&events, item["operation_id"].as_str().unwrap());
        match item["status"].as_u64() {
            Some(200) => assert_eq!(event["outcome"], "success"),
            _ => assert_eq!(
                (&event["outcome"], &event["reason"]),
                (&json!("refused"), &item["problem"]["code"])
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lives_as_sp_800_57_says() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    let made = api.create(&json!({"name": "k", "prepared": true, "labels": {"team": "finance"}})).await;
    assert_eq!(made["state"], "pre-activation");
    api.post(&format!("{T}/keys"), &json!({"name": "k"})).await.refused(409, "already-exists");
    let encrypt = json!({"plaintext": HELLO});
    api.try_key("k", "encrypt", &encrypt).await.refused(409, "key-state");
    assert_eq!(api.turn("k", "activate").await.expect(200).text("state"), "active");
    let first = api.use_key("k", "encrypt", &encrypt).await["ciphertext"].clone();
    let rotated = api.turn("k", "rotate").await.expect(200).json();
    assert_eq!((&rotated["newest_version"], &rotated["durability"]), (&json!(2), &json!("durable")));
    assert_eq!(api.use_key("k", "encrypt", &encrypt).await["key_version"], 2);
    assert_eq!(api.use_key("k", "decrypt", &json!({"ciphertext": first})).await["key_version"], 1);
    api.turn("k", "destroy").await.refused(409, "key-state");
    assert_eq!(api.turn("k", "suspend").await.expect(200).text("state"), "suspended");
    api.try_key("k", "decrypt", &json!({"ciphertext": first})).await.refused(409, "key-state");
    assert_eq!(api.turn("k", "resume").await.expect(200).text("state"), "active");
    assert_eq!(api.turn("k", "deactivate").await.expect(200).text("state"), "deactivated");
    api.try_key("k", "encrypt", &encrypt).await.refused(409, "key-state");
    api.use_key("k", "decrypt", &json!({"ciphertext": first})).await;
    assert_eq!(api.turn("k", "compromise").await.expect(200).text("state"), "compromised");
    assert_eq!(api.turn("k", "destroy").await.expect(200).text("state"), "destroyed");
    api.try_key("k", "decrypt", &json!({"ciphertext": first})).await.refused(409, "key-state");

    // Labels are replaced as a whole, by whoever knows the newest record.
    api.create(&json!({"name": "labelled"})).await;
    let path = format!("{T}/keys/labelled/labels");
    let epoch = api.get(&format!("{T}/keys/labelled")).await.expect(200).json()["epoch"].clone();
    let labels = json!({"labels": {"a": "b"}, "expected_epoch": epoch});
    assert_eq!(api.put(&path, &labels).await.expect(200).json()["labels"], json!({"a": "b"}));
    api.put(&path, &labels).await.refused(409, "conflict");

    // Pages neither skip nor repeat.
    for index in 0..5 {
        api.create(&json!({"name": format!("page-{index}")})).await;
    }
    let (mut names, mut after) = (vec![], String::new());
    loop {
        let page = api.get(&format!("{T}/keys?limit=2{after}")).await.expect(200).json();
        let keys = page["keys"].as_array().unwrap();
        assert!(keys.len() <= 2);
        names.extend(keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(names, ["k", "labelled", "page-0", "page-1", "page-2", "page-3", "page-4"]);
    let versions = api.get(&format!("{T}/keys/k/versions?limit=1")).await.expect(200).json();
    assert_eq!(
        (&versions["versions"][0]["version"], &versions["next"]),
        (&json!(1), &json!(1)),
        "{versions}"
    );
    let versions = api.get(&format!("{T}/keys/k/versions?limit=1&after=1")).await.expect(200).json();
    assert_eq!(versions["versions"][0]["version"], 2);
    assert!(versions.get("next").is_none());
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_issued_used_and_revoked_and_callers_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    let policy = r#"@id("payments") permit(principal in Holdfast::Group::"payments", action in Holdfast::Action::"use", resource);"#;
    let policy = format!("{}\n{policy}", api.get(&format!("{T}/policy")).await.expect(200).text("text"));
    api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
    api.create(&json!({"name": "k"})).await;
    let caller = format!("{T}/callers/payments");
    api.put(&caller, &json!({"kind": "application", "groups": ["payments"]})).await.expect(200);
    let issue = json!({"lifetime_seconds": 600});
    let issued = api.post(&format!("{caller}/tokens"), &issue).await.expect(201).json();
    let settings = trust(&gateway.directory).token(issued["token"].as_str().unwrap());
    let mut payments = Peer::connect(gateway.running.address, &settings).await.unwrap();
    let encrypt = json!({"plaintext": HELLO});
    let path = format!("{T}/keys/k/encrypt");
    payments.post(&path, &encrypt).await.expect(200);
    // Whoever uses a key administers none, and an unknown key looks like a forbidden one.
    payments.post(&format!("{T}/keys/k/rotate"), &json!({})).await.refused(403, "denied");

    api.post(&format!("{caller}/suspend"), &json!({})).await.expect(200);
    payments.post(&path, &encrypt).await.refused(423, "stopped");
    api.post(&format!("{caller}/resume"), &json!({})).await.expect(200);
    payments.post(&path, &encrypt).await.expect(200);
    let token = format!("{caller}/tokens/{}", issued["id"].as_str().unwrap());
    api.ask("DELETE", &token, "").await.expect(200);
    payments.post(&path, &encrypt).await.refused(401, "unauthenticated");

    let second = api.post(&format!("{caller}/tokens"), &issue).await.expect(201).text("token");
    let settings = trust(&gateway.directory).token(&second);
    let mut payments = Peer::connect(gateway.running.address, &settings).await.unwrap();
    payments.post(&path, &encrypt).await.expect(200);
    api.ask("DELETE", &caller, "").await.expect(200);
    payments.post(&path, &encrypt).await.refused(401, "unauthenticated");
    let shown = api.get(&format!("{T}/callers")).await.expect(200).json();
    assert!(!shown["callers"].to_string().contains("payments"), "{shown}");
    gateway.running.shut_down().await.unwrap();
    for file in log::files(&directory.path().join("data")) {
        let content = std::fs::read(&file).unwrap();
        let secret = second.splitn(3, '_').last().unwrap().as_bytes();
        assert!(
            !content.windows(secret.len()).any(|window| window == secret),
            "a token in {}",
            file.display()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_checked_versioned_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    let path = format!("{T}/policy");
    let first = api.get(&path).await.expect(200).json();
    let (version, text) = (first["version"].as_u64().unwrap(), first["text"].as_str().unwrap());
    api.create(&json!({"name": "k"})).await;
    let caller = json!({"kind": "application"});
    api.put(&format!("{T}/callers/reports"), &caller).await.expect(200);
    let question = json!({"caller": "reports", "action": "decrypt", "key": "k", "context": {"a": "b"}});
    let explain = format!("{path}/explain");
    assert_eq!(api.post(&explain, &question).await.expect(200).json()["allowed"], false);
    let rule = r#"@id("reports-read") permit(principal == Holdfast::Caller::"reports", action == Holdfast::Action::"decrypt", resource)
        when { context.encryption.hasTag("a") && context.encryption.getTag("a") == "b" };"#;
    let wider = format!("{text}\n{rule}");
    let checked = api.post(&format!("{path}/check"), &json!({"text": wider})).await.expect(200).json();
    assert!(!checked["findings"].to_string().contains("\"refuses\":true"), "{checked}");
    let change = json!({"text": wider, "expected_version": version});
    let done = api.put(&path, &change).await.expect(200).json();
    assert_eq!(done["version"], version + 1);
    api.put(&path, &change).await.refused(409, "conflict");
    let explained = api.post(&explain, &question).await.expect(200).json();
    assert_eq!((&explained["allowed"], &explained["policies"]), (&json!(true), &json!(["reports-read"])));
    let other = json!({"caller": "reports", "action": "decrypt", "key": "k", "context": {"a": "c"}});
    assert_eq!(api.post(&explain, &other).await.expect(200).json()["allowed"], false);

    let rule = |id: &str| {
        format!("@id(\"{id}\") permit(principal, action, resource) when {{ resource.nothing }};\n")
    };
    let broken = json!({"text": rule("one") + &rule("two")});
    let refused = api.put(&path, &broken).await.refused(400, "malformed");
    assert!(refused.text("detail").contains("`nothing`"), "{}", refused.json());
    // A check finds all of it.
    let findings = api.post(&format!("{path}/check"), &broken).await.expect(200).json()["findings"].take();
    let findings = findings.as_array().unwrap();
    let policies: BTreeSet<_> = findings.iter().map(|finding| finding["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, BTreeSet::from(["one", "two"]));
    for finding in findings {
        assert!(
            finding["refuses"] == true && finding["detail"].to_string().contains("`nothing`"),
            "{finding}"
        );
    }
    assert_eq!(api.get(&path).await.json()["version"], version + 1);

    // A key is judged before it is made, by what it would be.
    let closed = r#"@id("closed") forbid(principal, action == Holdfast::Action::"create-key", resource) when { resource.exportable };"#;
    let change = json!({"text": format!("{wider}\n{closed}"), "expected_version": version + 1});
    api.put(&path, &change).await.expect(200);
    let keys = format!("{T}/keys");
    api.post(&keys, &json!({"name": "open", "exportable": true})).await.refused(403, "denied");
    api.post(&keys, &json!({"name": "open"})).await.expect(201);
    api.put(&path, &json!({"text": wider, "expected_version": version + 2})).await.expect(200);

    let restore = json!({"version": version, "expected_version": version + 3});
    assert_eq!(
        api.post(&format!("{path}/restore"), &restore).await.expect(200).json()["version"],
        version + 4
    );
    api.post(&format!("{path}/restore"), &restore).await.refused(409, "conflict");
    assert_eq!(api.get(&path).await.expect(200).text("text"), text);
    let earlier = api.get(&format!("{path}/versions/{}", version + 1)).await.expect(200);
    assert_eq!(earlier.text("text"), wider);
    assert_eq!(api.post(&explain, &question).await.expect(200).json()["allowed"], false);
    gateway.running.shut_down().await.unwrap();
}

/// Every route once with success and once refused; also what an operator does, and what anybody may ask.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = support::settings(&directory.path().join("data"));
    settings.backup.recipients = vec![RECIPIENT.to_owned()];
    let gateway = dev_with(settings).await;
    let mut api = Api::developer(&gateway).await;
    let authority = Authority::new("corporate");
    for (name, algorithm) in
        [("k", "xaes-256-gcm"), ("s", "ed25519"), ("m", "hmac-sha-256"), ("a", "x25519"), ("e", "ml-kem-768")]
    {
        api.create(&json!({"name": name, "algorithm": algorithm})).await;
    }
    api.create(&json!({"name": "l", "prepared": true})).await;
    api.create(&json!({"name": "w", "purpose": "wrap"})).await;
    let sealed = api.use_key("k", "encrypt", &json!({"plaintext": HELLO})).await["ciphertext"].clone();
    let wrapped = api.use_key("w", "wrap", &json!({"plaintext": HELLO})).await["ciphertext"].clone();
    let signature = api.use_key("s", "sign", &json!({"message": HELLO})).await["signature"].clone();
    let mac = api.use_key("m", "mac", &json!({"message": HELLO})).await["mac"].clone();
    let peer = api.public_key("a").await["public_key"].clone();
    let encapsulation = api.use_key("e", "encapsulate", &json!({})).await["ciphertext"].clone();
    let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text");
    let begun = json!({"name": "i", "algorithm": "hmac-sha-256"});
    let begun = api.post(&format!("{T}/imports"), &begun).await.expect(201);
    let import = wrapped_key(directory.path(), &begun.text("public_key_pem"));
    let nothing = Value::Null;
    let sha256 = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let inventory = json!({"current_version": 1, "newest_version": 2, "needed_versions": [1], "items": 2, "report_sha256": sha256, "report_bytes": 9});
    let steps = [
        ("POST", "/keys/k/decrypt", json!({"ciphertext": sealed})),
        ("POST", "/keys/w/unwrap", json!({"ciphertext": wrapped})),
        ("POST", "/keys/k/datakey", json!({})),
        ("POST", "/keys/k/rewrap", json!({"ciphertext": sealed})),
        ("POST", "/keys/s/verify", json!({"message": HELLO, "signature": signature})),
        ("POST", "/keys/m/verify-mac", json!({"message": HELLO, "mac": mac})),
        ("POST", "/keys/a/agree", json!({"peer_public_key": peer})),
        ("POST", "/keys/e/decapsulate", json!({"ciphertext": encapsulation})),
        ("POST", "/batch", json!({"items": [{"key": "k", "operation": "public-key"}]})),
        ("POST", "/random", json!({"length": 1})),
        ("GET", "/keys", nothing.clone()),
        ("GET", "/keys/k", nothing.clone()),
        ("GET", "/keys/k/versions", nothing.clone()),
        ("GET", "/keys/k/emergency", nothing.clone()),
        ("PUT", "/keys/k/labels", json!({"labels": {}})),
        ("POST", "/keys/l/activate", nothing.clone()),
        ("POST", "/keys/i/import", import),
        ("POST", "/keys/l/rotate", nothing.clone()),
        ("PUT", "/keys/l/schedule", json!({"every_days": 90})),
        ("POST", "/keys/l/rollback", nothing.clone()),
        ("PUT", "/keys/l/inventory", inventory),
        ("POST", "/keys/l/deactivate-version", json!({"version": 2})),
        ("POST", "/keys/l/activate-version", json!({"version": 2})),
        ("POST", "/keys/l/deactivate-version", json!({"version": 2, "without_inventory": true})),
        ("POST", "/keys/l/destroy-version", json!({"version": 2})),
        ("POST", "/keys/l/suspend", nothing.clone()),
        ("POST", "/keys/l/resume", nothing.clone()),
        ("POST", "/keys/l/deactivate", nothing.clone()),
        ("POST", "/keys/l/compromise", nothing.clone()),
        ("POST", "/keys/l/archive", nothing.clone()),
        ("POST", "/keys/l/destroy", json!({"after_days": 1})),
        ("POST", "/keys/l/cancel-destruction", nothing.clone()),
        ("POST", "/keys/l/destroy", nothing.clone()),
        ("GET", "", nothing.clone()),
        ("PUT", "/callers/c", json!({"kind": "application", "credentials": ["dns:c.example"]})),
        ("POST", "/callers/c/suspend", nothing.clone()),
        ("POST", "/callers/c/resume", nothing.clone()),
        ("PUT", "/anchors/corporate", json!({"certificate": authority.pem, "crl": authority.revoke(1, &[])})),
        ("GET", "/callers", nothing.clone()),
        ("GET", "/anchors", nothing.clone()),
        ("DELETE", "/anchors/corporate", nothing.clone()),
        ("GET", "/policy/versions/1", nothing.clone()),
        ("PUT", "/policy", json!({"text": policy})),
        ("POST", "/policy/restore", json!({"version": 1})),
        ("POST", "/policy/check", json!({"text": policy})),
        ("POST", "/policy/explain", json!({"caller": "c", "action": "encrypt", "key": "k"})),
        ("GET", "/audit/checkpoint", nothing.clone()),
        ("GET", "/audit/log.vkey", nothing.clone()),
        ("PUT", "/retention", json!({"days": 400})),
        ("POST", "/suspend", nothing.clone()),
        ("POST", "/resume", nothing.clone()),
    ];
    for (method, path, body) in &steps {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = api.ask(method, &format!("{T}{path}"), &body).await;
        assert!(answer.status < 300, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    }
    let issued =
        api.post(&format!("{T}/callers/c/tokens"), &json!({"lifetime_seconds": 60})).await.expect(201);
    let token = format!("/callers/c/tokens/{}", issued.text("id"));
    let signing = format!("{T}/callers/c/signing-tokens");
    api.post(&signing, &json!({"lifetime_seconds": 60})).await.expect(201);
    api.ask("DELETE", &format!("{T}{token}"), "").await.expect(200);
    api.ask("DELETE", &format!("{T}/callers/c"), "").await.expect(200);

    // An operator has no right in a tenant.
    let credentials = gateway.running.dev.as_ref().unwrap().operator.clone();
    let [certificate, key] = [credentials.0, credentials.1].map(|path| std::fs::read(path).unwrap());
    let settings = trust(&gateway.directory).identity(certificate, key);
    let developer =
        std::mem::replace(&mut api.peer, Peer::connect(gateway.running.address, &settings).await.unwrap());
    let tenant = json!({"tenant": "acme", "callers": [{"name": "alice", "kind": "custodian", "credentials": ["dns:alice.example"]}]});
    api.post("/v1/tenants", &tenant).await.expect(201);
    api.post("/v1/tenants", &tenant).await.refused(409, "already-exists");
    let status = api.get("/v1/status").await.expect(200).json();
    assert_eq!(status["ready"], true);
    let backup = api.post("/v1/backups", &json!({})).await.expect(201).json();
    assert!(directory.path().join("data/backups").join(backup["file"].as_str().unwrap()).is_file());
    let data = holdfast_gateway::directory::Directory::at(&directory.path().join("data"));
    let of = (data.identity().unwrap().unwrap().instance, 1);
    let verified = holdfast_gateway::backup::proof::attest(&data, None, of, (1, [7; 32])).unwrap();
    let mut verified = json!({"sha256": base64(&verified.sha256), "bytes": 1, "commit": 1, "proof": base64(&verified.proof)});
    api.post("/v1/backups/verified", &verified).await.expect(200);
    verified["commit"] = json!(2);
    api.post("/v1/backups/verified", &verified).await.refused(422, "integrity");
    assert_eq!(api.get("/v1/pool").await.expect(200).json()["members"], json!([]));
    for verb in ["drain", "join"] {
        let path = format!("/v1/pool/members/hsm-a/{verb}");
        api.post(&path, &json!({})).await.refused(404, "not-found");
    }
    api.post("/v1/clock/confirm", &json!({})).await.refused(409, "conflict");
    let world = &gateway.running.gateway().law().engines().world;
    world.hold_clock(world.now());
    api.post("/v1/clock/confirm", &json!({})).await.expect(200);
    api.get("/v1/tenants/acme/keys").await.refused(401, "unauthenticated");
    api.get("/v1/tenants/dev/keys").await.refused(401, "unauthenticated");
    drop(developer);

    // A stranger gets the same answer everywhere.
    api.peer = gateway.stranger().await;
    for open in ["/health/live", "/health/ready"] {
        assert_eq!(api.get(open).await.expect(200).json()["ok"], true);
    }
    api.get("/openapi.json").await.expect(200);
    assert_eq!(api.get("/v1/seal").await.expect(200).json(), json!({"sealed": false, "opening": false}));
    api.post("/v1/seal/shares", &json!({"share": "YWdl"})).await.refused(409, "conflict");
    let of_nobody = json!({"generation": 1, "share": 1});
    api.post("/v1/seal/challenge", &of_nobody).await.refused(409, "conflict");
    let of_nobody = json!({"generation": 1, "share": 1, "answer": "AAAA"});
    api.post("/v1/seal", &of_nobody).await.refused(409, "conflict");
    let others = [
        ("POST", "/keys/k/encrypt", json!({"plaintext": HELLO})),
        ("POST", "/keys/w/wrap", json!({"plaintext": HELLO})),
        ("POST", "/keys/s/sign", json!({"message": HELLO})),
        ("POST", "/keys/m/mac", json!({"message": HELLO})),
        ("POST", "/keys/e/encapsulate", json!({})),
        ("GET", "/keys/k/public-key", nothing.clone()),
        ("POST", "/keys", json!({"name": "n"})),
        ("POST", "/imports", json!({"name": "n", "algorithm": "hmac-sha-256"})),
        ("POST", "/keys/k/confirm-archive", json!({"code": sha256})),
        ("POST", "/keys/k/unarchive", json!({"archive": "01JDQZ8X5G9Q0V3N4B7T2M6K8R", "versions": []})),
        ("POST", "/adoptions", json!({"name": "n", "algorithm": "rsa-2048", "object_label": "legacy"})),
        ("POST", "/keys/k/emergency", json!({"seconds": 60, "reason": "why"})),
        ("POST", "/keys/k/emergency/shares", json!({"shares": "YWdl"})),
        ("DELETE", "/keys/k/emergency", nothing.clone()),
        ("POST", "/callers/c/tokens", json!({"lifetime_seconds": 60})),
        ("POST", "/callers/c/signing-tokens", json!({"lifetime_seconds": 60})),
        ("DELETE", token.as_str(), nothing.clone()),
        ("DELETE", "/callers/c", nothing.clone()),
        ("GET", "/policy", nothing.clone()),
    ];
    for (method, path, body) in steps.iter().chain(&others) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = api.ask(method, &format!("{T}{path}"), &body).await.refused(401, "unauthenticated");
        assert!(answer.header("www-authenticate").is_some());
    }
    api.get("/v1/status").await.refused(401, "unauthenticated");
    api.post("/v1/backups", &json!({})).await.refused(401, "unauthenticated");
    api.post("/v1/backups/verified", &verified).await.refused(401, "unauthenticated");
    api.get("/v1/pool").await.refused(401, "unauthenticated");
    api.schemas.assert_all_seen();

    // Paths and methods that are none say so, with an operation too.
    let mut stranger = gateway.stranger().await;
    stranger.ask("GET", "/v1/nothing", "").await.refused(404, "not-found");
    let answer = stranger.ask("PATCH", "/v1/status", "").await.refused(405, "malformed");
    assert_eq!(answer.header("allow"), Some("get"));
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_does_nothing_until_it_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut api = Api::developer(&gateway).await;
    api.create(&json!({"name": "k"})).await;
    let encrypt = json!({"plaintext": HELLO});
    api.use_key("k", "encrypt", &encrypt).await;
    assert_eq!(api.post(&format!("{T}/suspend"), &json!({})).await.expect(200).text("durability"), "durable");
    api.try_key("k", "encrypt", &encrypt).await.refused(423, "stopped");
    assert_eq!(api.get(T).await.expect(200).json()["suspended"], true);
    let gateway = gateway.restart().await;
    let mut api = Api::developer(&gateway).await;
    api.try_key("k", "encrypt", &encrypt).await.refused(423, "stopped");
    api.post(&format!("{T}/resume"), &json!({})).await.expect(200);
    api.use_key("k", "encrypt", &encrypt).await;
    gateway.running.shut_down().await.unwrap();
}
