//! What is wrapped, and what opens it again.

use crate::support;
use crate::support::api::{base64, bytes};
use crate::support::cse::{
    DEK, FILE, IDP, REASON, config, drive, gateway, google, post, table, token, unwrap, user, with, wrap,
};
use crate::support::log;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrapped_comes_back_and_the_log_says_for_whom() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, _api) = gateway(&data, table()).await;
    let mut peer = gateway.stranger().await;
    let mut operations = vec![];
    for (perimeter, key) in [("eu-legal", "workspace"), ("", "workspace"), ("eu-secret", "workspace-eu")] {
        let said = with(drive("writer"), "perimeter_id", perimeter.into());
        let wrapped = post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200);
        let blob = wrapped.text("wrapped_key");
        assert!(blob.len() <= 1024 && wrapped.json().as_object().unwrap().len() == 1);
        // A token without a perimeter opens it, too: the one that counts is in the blob.
        let reader = with(drive("reader"), "perimeter_id", Value::Null);
        let opened = post(&mut peer, "unwrap", &unwrap(&user(), &reader, &json!(blob))).await.expect(200);
        assert_eq!(opened.body, format!(r#"{{"key":"{DEK}"}}"#).into_bytes());
        operations.push((wrapped.operation(), "encrypt", perimeter, key));
        operations.push((opened.operation(), "decrypt", perimeter, key));
    }
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    for (operation, action, perimeter, key) in &operations {
        let event = log::closing(&events, operation);
        assert_eq!((&event["outcome"], &event["action"]), (&json!("success"), &json!(action)));
        let says = &event["protocol"]["says"];
        assert_eq!(
            (&says["email"], &says["google_email"]),
            (&json!("Ana.Lopez@corp.example"), &json!("ana.lopez@corp.example"))
        );
        assert_eq!((&says["resource_name"], &says["reason"]), (&json!(FILE), &json!(REASON)));
        assert_eq!((&says["application"], &says["claim.department"]), (&json!("drive"), &json!("legal")));
        assert_eq!(says.get("perimeter_id").and_then(Value::as_str).unwrap_or_default(), *perimeter);
        assert_eq!(event["key"]["name"], *key);
        let caller = &event["caller"];
        assert_eq!(
            (&caller["name"], &caller["authentication"], &caller["issuer"]),
            (&json!("cse"), &json!("issued"), &json!(IDP))
        );
    }
    // Neither a key nor a token is in any file.
    let dek = STANDARD.decode(DEK).unwrap();
    for file in log::files(&data) {
        let text = std::fs::read(&file).unwrap();
        for hidden in [&dek[..], DEK.as_bytes(), b"eyJhbGciOi"] {
            assert!(!text.windows(hidden.len()).any(|window| window == hidden), "{}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_of_a_blob_is_changed_is_one_and_the_same_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, _api) = gateway(&directory.path().join("data"), table()).await;
    let mut peer = gateway.stranger().await;
    let said = with(drive("writer"), "perimeter_id", Value::Null);
    let wrapped = post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200);
    let blob = bytes(&wrapped.json()["wrapped_key"]);
    // Once made, tokens are shown with every blob.
    let [right, other] = [&said, &with(said.clone(), "resource_name", "other".into())]
        .map(|google| unwrap(&user(), google, &Value::Null));
    let mut wrong: Vec<Vec<u8>> = (0..blob.len()).map(|length| blob[..length].to_vec()).collect();
    wrong.remove(0);
    for bit in 0..8 * blob.len() {
        let mut changed = blob.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        wrong.push(changed);
    }
    wrong.push([&blob[..], &[0]].concat());
    let mut seen = HashSet::new();
    for blob in &wrong {
        let answer =
            post(&mut peer, "unwrap", &with(right.clone(), "wrapped_key", base64(blob).into())).await;
        seen.insert(answer.told(400).text("message"));
    }
    let answer = post(&mut peer, "unwrap", &with(other, "wrapped_key", base64(&blob).into())).await;
    seen.insert(answer.told(400).text("message"));
    assert!(wrong.len() > 500 && seen.len() == 1, "{} {seen:?}", wrong.len());
    post(&mut peer, "unwrap", &with(right, "wrapped_key", base64(&blob).into())).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

/// Whatever the settings say later, an object opens with the key that wrapped it, while that is named.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_opens_with_its_own_key_when_another_wraps() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut before = table();
    before.perimeter_keys.clear();
    let (gateway, _api) = support::cse::gateway(&data, before.clone()).await;
    let said = with(drive("writer"), "perimeter_id", "eu-secret".into());
    let mut peer = gateway.stranger().await;
    let blob = post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200).json()["wrapped_key"].clone();
    gateway.running.shut_down().await.unwrap();
    let changed = |key: &str, earlier: &[&str], perimeters: bool| {
        let mut table = if perimeters { table() } else { before.clone() };
        table.key = key.to_owned();
        table.earlier_keys = earlier.iter().map(|&key| key.to_owned()).collect();
        table
    };
    let opening = unwrap(&user(), &said, &blob);
    let mut opened = vec![];
    for (table, status) in [
        (changed("workspace", &[], true), 200),
        (changed("workspace-eu", &["workspace"], false), 200),
        (changed("workspace-eu", &["workspace-eu", "nothing", "workspace"], true), 200),
        (changed("workspace-eu", &[], false), 400),
    ] {
        let gateway = support::dev_with(config(&data, table)).await;
        let mut peer = gateway.stranger().await;
        let answer = post(&mut peer, "unwrap", &opening).await;
        assert_eq!(answer.status, status, "{}", answer.json());
        opened.extend((status == 200).then(|| answer.operation()));
        // What is wrapped anew opens as well, with the key of now.
        let anew =
            post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200).json()["wrapped_key"].clone();
        post(&mut peer, "unwrap", &unwrap(&user(), &said, &anew)).await.expect(200);
        gateway.running.shut_down().await.unwrap();
    }
    let events = log::events(&data, "dev");
    for operation in opened {
        assert_eq!(log::closing(&events, &operation)["key"]["name"], "workspace");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_tells_which_key_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut table = table();
    // As on a service that peers ask.
    table.claims = vec![];
    let (gateway, _api) = gateway(&directory.path().join("data"), table).await;
    let mut peer = gateway.stranger().await;
    let wrapped = |perimeter: &str| wrap(&user(), &with(drive("writer"), "perimeter_id", perimeter.into()));
    let verifier = google(Application::Migration, "verifier");
    for (perimeter, hash) in [("", "FPYZdJCQU/sy/ENA4+FTesaDmnKo4UpT7NYtpJ4qQz0="), ("eu-secret", "")] {
        let blob = post(&mut peer, "wrap", &wrapped(perimeter)).await.expect(200).json();
        let asking = |google: &Value| json!({"authorization": token(google), "reason": "", "wrapped_key": blob["wrapped_key"]});
        let told = post(&mut peer, "digest", &asking(&verifier)).await.expect(200).text("resource_key_hash");
        assert!(hash.is_empty() || told == hash, "{told}");
        post(&mut peer, "digest", &asking(&with(verifier.clone(), "resource_name", "other".into())))
            .await
            .told(400);
        post(&mut peer, "digest", &asking(&google(Application::Migration, "migrator"))).await.told(403);
        post(&mut peer, "digest", &asking(&drive("reader"))).await.told(401);
        post(&mut peer, "digest", &asking(&user())).await.told(401);
    }
    gateway.running.shut_down().await.unwrap();
}

/// What one protocol encrypts opens through no other, with whatever is shown to it.
#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_stay_in_their_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), table()).await;
    let mut peer = gateway.stranger().await;
    let said = with(drive("writer"), "perimeter_id", Value::Null);
    let blob = bytes(&post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200).json()["wrapped_key"]);
    let ours = api.use_key("workspace", "encrypt", &json!({"plaintext": DEK})).await;
    let ours = bytes(&ours["ciphertext"]);
    let (header, body) = ours.split_at(58);
    // Theirs as ours: as it is, and behind a header of ours.
    for ciphertext in [blob.clone(), [header, &blob[11..]].concat()] {
        for verb in ["decrypt", "rewrap"] {
            let asked = json!({"ciphertext": base64(&ciphertext)});
            api.try_key("workspace", verb, &asked).await.refused(422, "integrity");
        }
    }
    // Ours as theirs: as it is, and behind a header of theirs.
    for blob in [ours.clone(), [&blob[..11], body].concat()] {
        let asked =
            unwrap(&user(), &with(drive("reader"), "perimeter_id", Value::Null), &base64(&blob).into());
        post(&mut peer, "unwrap", &asked).await.told(400);
    }
    gateway.running.shut_down().await.unwrap();
}
