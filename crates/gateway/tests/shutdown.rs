//! How a gateway ends, and which directories it does not begin with.

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

use holdfast_gateway::serve::{Options, start};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::api::T;
use support::peer::{PATIENCE, Peer};
use support::{dev, log, settings, trust};

/// Requests under way at once.
const MANY: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_finished_and_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut developer = gateway.developer().await;
    developer.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    drop(developer);
    let body = json!({"plaintext": "aGVsbG8="}).to_string();
    let mut peers = vec![];
    for _ in 0..MANY {
        let mut peer = gateway.developer().await;
        let head = peer.head("POST", &format!("{T}/keys/k/encrypt"), body.len());
        // The gateway asks for the body only once the request is under way.
        let head = head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
        peer.send(head.as_bytes()).await.unwrap();
        peer.asked_to_continue().await;
        peers.push(peer);
    }
    let (address, trusted) = (gateway.running.address, trust(&gateway.directory));
    let ending = tokio::spawn(gateway.running.shut_down());
    let refused = async { while Peer::connect(address, &trusted).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("new connections are refused");
    let mut operations = vec![];
    for peer in &mut peers {
        peer.send(body.as_bytes()).await.unwrap();
        operations.push(peer.answer().await.expect("an answer").expect(200).operation());
        peer.closed().await;
    }
    ending.await.unwrap().unwrap();
    let events = log::events(&directory.path().join("data"), "dev");
    for operation in &operations {
        assert_eq!(log::closing(&events, operation)["outcome"], "success");
    }
}

/// What a start says that is refused.
async fn refused(config: holdfast_gateway::config::Config, dev: bool) -> String {
    match start(Options { config, dev }).await {
        Ok(_) => panic!("it starts"),
        Err(fault) => {
            assert!(fault.remedy_text().is_some_and(|remedy| !remedy.is_empty()), "{fault}");
            fault.to_string()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_served_by_one_process_and_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let gateway = dev(&data).await;
    let said = refused(settings(&data), true).await;
    assert!(said.contains(&format!("process `{}`", std::process::id())), "{said}");
    gateway.developer().await.ask("GET", &format!("{T}/keys"), "").await.expect(200);
    gateway.running.shut_down().await.unwrap();

    assert!(refused(settings(&data), false).await.contains("is a dev directory, for ever"));
    let mut elsewhere = settings(&data);
    elsewhere.listen.address = ([0, 0, 0, 0], 0).into();
    assert!(refused(elsewhere, true).await.contains("0.0.0.0"));
    assert!(refused(settings(&directory.path().join("nothing")), false).await.contains("no gateway"));

    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let key = data.join("root.key");
    for readable in [0o640, 0o604] {
        mode(&key, readable);
        let said = refused(settings(&data), true).await;
        assert!(said.contains("other users"), "{said}");
    }
    mode(&key, 0o600);
    let identity = data.join("instance.toml");
    let text = std::fs::read_to_string(&identity).unwrap();
    for changed in
        [text.replace("layout = 1", "layout = 2"), text.replace("layout = 1", "layout = 1\nsurprise = 1")]
    {
        assert_ne!(changed, text);
        std::fs::write(&identity, changed).unwrap();
        refused(settings(&data), true).await;
    }
    std::fs::write(&identity, text).unwrap();
    let key_bytes = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    refused(settings(&data), true).await;
    std::fs::write(&key, &key_bytes).unwrap();
    mode(&key, 0o600);
    dev(&data).await.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founded_directory_is_no_dev_directory() {
    use holdfast_gateway::directory::Directory;
    use holdfast_gateway::init::{Founder, Plan, init};
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let plan = Plan {
        origin: "audit.example.org".to_owned(),
        server_names: vec!["localhost".to_owned()],
        operators: vec![Founder { name: "olga".parse().unwrap(), certificate: None }],
        tenant: None,
        shares: None,
        tpm: None,
    };
    init(&Directory::at(&data), &plan).await.unwrap();
    assert!(refused(settings(&data), true).await.contains("is not a dev directory"));
    assert!(init(&Directory::at(&data), &plan).await.unwrap_err().to_string().contains("already"));
    for file in log::files(&data) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        let is_secret = file.extension().is_some_and(|end| end == "key");
        assert!(!is_secret || mode & 0o77 == 0, "{} can be read by others", file.display());
    }
}
