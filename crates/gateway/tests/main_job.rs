//! The main job through the public API, with a stock client.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "what fails here is a test")]

mod support;

use support::dev;

const KEYS: &str = "/v1/tenants/dev/keys";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_used_rotated_suspended_and_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    gateway.ask("GET", "/health/ready", "").await.expect(200);
    let made =
        gateway.ask("POST", KEYS, r#"{"name":"invoices","algorithm":"aes-256-gcm"}"#).await.expect(201);
    assert!(made.headers.contains("holdfast-operation: "));
    let encrypt = |text: &str| format!(r#"{{"plaintext":"{text}","context":{{"purpose":"billing"}}}}"#);
    let sealed =
        gateway.ask("POST", &format!("{KEYS}/invoices/encrypt"), &encrypt("aGVsbG8=")).await.expect(200);
    let ciphertext = sealed.text("ciphertext");
    let decrypt =
        |purpose: &str| format!(r#"{{"ciphertext":"{ciphertext}","context":{{"purpose":"{purpose}"}}}}"#);
    let path = format!("{KEYS}/invoices/decrypt");
    let opened = gateway.ask("POST", &path, &decrypt("billing")).await.expect(200);
    assert_eq!(opened.text("plaintext"), "aGVsbG8=");
    let wrong = gateway.ask("POST", &path, &decrypt("other")).await.expect(422);
    assert_eq!(wrong.text("code"), "integrity");

    gateway.ask("POST", &format!("{KEYS}/invoices/rotate"), "").await.expect(200);
    gateway.ask("POST", &path, &decrypt("billing")).await.expect(200);
    let stopped = gateway.ask("POST", &format!("{KEYS}/invoices/suspend"), "").await.expect(200);
    assert_eq!(stopped.text("durability"), "durable");
    let refused = gateway.ask("POST", &path, &decrypt("billing")).await.expect(409);
    assert_eq!(refused.text("code"), "key-state");
    assert!(refused.text("remedy").contains("holdfast key resume invoices"));

    let gateway = gateway.restart().await;
    gateway.ask("POST", &path, &decrypt("billing")).await.expect(409);
    gateway.ask("POST", &format!("{KEYS}/invoices/resume"), "").await.expect(200);
    let opened = gateway.ask("POST", &path, &decrypt("billing")).await.expect(200);
    assert_eq!(opened.text("plaintext"), "aGVsbG8=");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing_and_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let nobody = gateway.curl(&[], "GET", "/v1/tenants/dev/keys/any", "").await.expect(401);
    let nowhere = gateway.curl(&[], "GET", "/v1/tenants/other/keys/any", "").await.expect(401);
    let (mut one, mut other) = (nobody.json(), nowhere.json());
    for problem in [&mut one, &mut other] {
        problem["operation"] = "".into();
    }
    assert_eq!(one, other);
    gateway.curl(&[], "GET", "/nothing", "").await.expect(404);
    gateway.curl(&[], "DELETE", "/health/live", "").await.expect(405);
    gateway.running.shut_down().await.unwrap();
    let log = directory.path().join("data/audit/_gateway/tile/entries");
    let mut text = String::new();
    for entry in walk(&log) {
        text.push_str(&String::from_utf8_lossy(&std::fs::read(entry).unwrap()));
    }
    assert!(
        text.contains(r#""context":{"count":"2","reason":"unauthenticated","source":"127.0.0.0/24"}"#),
        "{text}"
    );
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
