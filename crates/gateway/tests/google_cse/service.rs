//! What the service tells everybody, and where it is.

use crate::support;
use crate::support::api::T;
use crate::support::cse::{
    DEK, HOST, admin, config, drive, gateway, gateway_of, google, post, send, table, token, user, with,
};
use base64::Engine as _;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_everybody_what_it_can_do_and_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), table()).await;
    let mut peer = gateway.stranger().await;
    let status = send(&mut peer, "GET", "/v1/status", &[], "").await.expect(200).json();
    assert_eq!((&status["server_type"], &status["name"]), (&json!("KACLS"), &json!("eu-prod")));
    let operations = status["operations_supported"].as_array().unwrap();
    assert_eq!(operations.len(), 13, "{status}");
    let certs = send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json();
    let key = &certs["keys"][0];
    assert_eq!((&key["kty"], &key["use"], &key["alg"]), (&json!("RSA"), &json!("sig"), &json!("RS256")));
    // A rotation publishes the next one, and keeps the one before.
    api.post(&format!("{T}/keys/workspace-signing/rotate"), &json!({})).await.expect(200);
    let rotated = send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json();
    let ids: Vec<_> = rotated["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert!(ids.len() == 2 && ids.contains(&key["kid"]), "{ids:?}");
    gateway.running.shut_down().await.unwrap();

    // What is not set up is not there.
    let mut bare = table();
    bare.admins = vec![];
    bare.admin_providers = vec![];
    bare.admin_audiences = vec![];
    bare.take_from = vec![];
    bare.give_to = vec![];
    bare.signing_keys = vec![];
    let (gateway, _api) = support::cse::gateway(&directory.path().join("other"), bare).await;
    let mut peer = gateway.stranger().await;
    let status = send(&mut peer, "GET", "/v1/status", &[], "").await.expect(200).json();
    let operations: Vec<_> = status["operations_supported"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(
        operations,
        ["status", "certs", "wrap", "unwrap", "digest", "privatekeysign", "privatekeydecrypt"]
    );
    for method in
        ["privilegedunwrap", "takeout_unwrap", "privilegedwrap", "rewrap", "delegate", "wrapprivatekey"]
    {
        post(&mut peer, method, &json!({"authentication": token(&admin())})).await.told(404);
    }
    assert_eq!(send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json(), json!({"keys": []}));
    gateway.running.shut_down().await.unwrap();
}

/// However often the key was rotated, the version that signs is published.
#[tokio::test(flavor = "multi_thread")]
async fn after_many_rotations_the_version_that_signs_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), table()).await;
    for _ in 0..64 {
        api.post(&format!("{T}/keys/workspace-signing/rotate"), &json!({})).await.expect(200);
    }
    let mut peer = gateway.stranger().await;
    let room = with(google(Application::Meet, "writer"), "delegated_to", "room7@corp.example".into());
    let body = json!({"authentication": token(&user()), "authorization": token(&room), "reason": "r"});
    let delegated = post(&mut peer, "delegate", &body).await.expect(200).text("delegated_authentication");
    let certs = send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json();
    let header =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(delegated.split('.').next().unwrap());
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    let published = certs["keys"].as_array().unwrap();
    assert_eq!(published.iter().filter(|key| key["kid"] == header["kid"]).count(), 1);
    let acting =
        json!({"authentication": delegated, "authorization": token(&room), "key": DEK, "reason": "r"});
    post(&mut peer, "wrap", &acting).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

/// The service's caller is that through the service alone, where the rest is checked.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_to_the_service_is_worth_nothing_to_the_native_api() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory.path().join("data"), table());
    // The native API takes tokens of every one of them, for an audience of its own.
    config.issuer.iter_mut().for_each(|issuer| issuer.audiences = vec!["holdfast".to_owned()]);
    let (gateway, _api) = gateway_of(config).await;
    for claims in [user(), admin(), drive("writer"), google(Application::Migration, "migrator")] {
        let mut peer = gateway.stranger().await;
        let bearer = format!("Bearer {}", token(&claims));
        let headers = [("host", "gateway"), ("authorization", &*bearer)];
        let path = format!("{T}/keys/workspace/encrypt");
        let body = json!({"plaintext": DEK}).to_string();
        send(&mut peer, "POST", &path, &headers, &body).await.refused(401, "unauthenticated");
    }
    gateway.running.shut_down().await.unwrap();
}

/// A host that is written otherwise is the same one, and without one there is no service.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_found_by_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, _api) = gateway(&directory.path().join("data"), table()).await;
    for (host, status) in [
        (HOST, 200),
        ("KACLS.hyok.example:443", 200),
        ("kacls.hyok.example:8443", 401),
        ("kacls.hyok.example.evil.example", 401),
        ("127.0.0.1", 401),
    ] {
        let mut peer = gateway.stranger().await;
        assert_eq!(
            send(&mut peer, "GET", "/v1/status", &[("host", host)], "").await.status,
            status,
            "{host}"
        );
    }
    gateway.running.shut_down().await.unwrap();
}
