//! Keys taken over from another service.

use super::{Refusals, recorded};
use crate::support;
use crate::support::api::T;
use crate::support::cse::{
    DEK, FILE, PEER, config, drive, gateway_of, google, now, send, table, token, unwrap, user, with, wrap,
};
use crate::support::log;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};

/// A port that nobody has.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the old service has wrapped the new one takes over, and nobody is asked whom the configuration does not name.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_over_from_another_service() {
    let directory = tempfile::tempdir().unwrap();
    let [old_data, new_data] = ["old", "new"].map(|name| directory.path().join(name));
    let [old_port, new_port] = [port(), port()];
    let [old_url, new_url] = [old_port, new_port].map(|port| format!("https://127.0.0.1:{port}/v1"));
    // Each has to have its certificates before the other can be told of them.
    for data in [&old_data, &new_data] {
        support::dev(data).await.running.shut_down().await.unwrap();
    }
    let authorities = directory.path().join("peers.pem");
    std::fs::copy(new_data.join("tls/ca.pem"), &authorities).unwrap();
    let settings = |data: &std::path::Path, port: u16, url: &str, other: (&str, &std::path::Path)| {
        let mut table = table();
        table.kacls_url = url.to_owned();
        // From the old one to the new one, and not back.
        let (take_from, give_to) =
            if port == old_port { (vec![], vec![other.0]) } else { (vec![other.0], vec![]) };
        table.take_from = take_from.into_iter().map(str::to_owned).collect();
        table.give_to = give_to.into_iter().map(str::to_owned).collect();
        table.peers_ca_file = if port == new_port { authorities.clone() } else { other.1.join("tls/ca.pem") };
        let mut config = config(data, table);
        config.listen.address.set_port(port);
        config.issuer.retain(|issuer| issuer.issuer != PEER);
        if port == new_port {
            // Even where its tokens are believed and its registration is there.
            config.issuer.push(support::cse::issuer(other.0, &[]));
        }
        config
    };
    let (old, _) = gateway_of(settings(&old_data, old_port, &old_url, (&new_url, &new_data))).await;
    let (new, mut api) = gateway_of(settings(&new_data, new_port, &new_url, (&old_url, &old_data))).await;
    let hosts = [old_port, new_port].map(|port| format!("127.0.0.1:{port}"));
    let mut peers = [old.stranger().await, new.stranger().await];
    let at = |side: usize| [("host", hosts[side].as_str())];
    let plain =
        |google: Value, url: &str| with(with(google, "perimeter_id", Value::Null), "kacls_url", url.into());
    let wrapping = wrap(&user(), &plain(drive("writer"), &old_url)).to_string();
    let wrapped = send(&mut peers[0], "POST", "/v1/wrap", &at(0), &wrapping).await.expect(200).json();
    let blob = &wrapped["wrapped_key"];
    let migrator = plain(google(Application::Migration, "migrator"), &new_url);
    let asking = |google: &Value, original: &str| {
        json!({"authorization": token(google), "original_kacls_url": original, "reason": "r", "wrapped_key": blob})
            .to_string()
    };
    // The old one's authority is none that the new one believes, until it is put in the file and that is read again.
    let unknown = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await;
    unknown.told(502);
    std::fs::copy(old_data.join("tls/ca.pem"), &authorities).unwrap();
    new.running.reload().unwrap();
    let taken =
        send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await.expect(200);
    assert_eq!(taken.text("resource_key_hash"), "FPYZdJCQU/sy/ENA4+FTesaDmnKo4UpT7NYtpJ4qQz0=");
    let verifier = plain(google(Application::Migration, "verifier"), &old_url);
    let digest = json!({"authorization": token(&verifier), "reason": "", "wrapped_key": blob}).to_string();
    let digest = send(&mut peers[0], "POST", "/v1/digest", &at(0), &digest).await.expect(200);
    assert_eq!(digest.text("resource_key_hash"), taken.text("resource_key_hash"));
    let reader = plain(drive("reader"), &new_url);
    let opening = unwrap(&user(), &reader, &taken.json()["wrapped_key"]).to_string();
    assert_eq!(
        send(&mut peers[1], "POST", "/v1/unwrap", &at(1), &opening).await.expect(200).text("key"),
        DEK
    );

    // Whom keys are taken from is given none: its token is nobody's there.
    let claims = json!({"iss": old_url, "aud": "kacls-migration", "kacls_url": new_url, "resource_name": FILE,
        "iat": now(), "exp": now() + 300});
    let body = json!({"authentication": token(&claims), "reason": "r", "resource_name": FILE,
        "wrapped_key": taken.json()["wrapped_key"]});
    send(&mut peers[1], "POST", "/v1/privilegedunwrap", &at(1), &body.to_string()).await.told(401);

    let mut refusals: Refusals = vec![];
    for (original, status, check) in [
        ("https://169.254.169.254/latest/meta-data", 403, "`peer`"),
        ("http://127.0.0.1/v1", 403, "`peer`"),
        ("https://127.0.0.1/v1", 403, "`peer`"),
        ("file:///etc/passwd", 403, "`peer`"),
        (&*new_url, 403, "`peer`"),
        (&*format!("{old_url}/x"), 403, "`peer`"),
    ] {
        let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, original)).await;
        assert_eq!(answer.status, status, "{original}: {}", answer.json());
        refusals.push((answer.operation(), "another address", check));
    }
    let other = with(migrator.clone(), "resource_name", "other".into());
    let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&other, &old_url)).await;
    refusals.push((answer.told(502).operation(), "another object", "it answered 400"));
    api.post(&format!("{T}/keys/workspace-signing/suspend"), &json!({})).await.expect(200);
    let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await;
    refusals.push((answer.told(403).operation(), "nothing to sign with", "can sign its tokens"));
    api.post(&format!("{T}/keys/workspace-signing/resume"), &json!({})).await.expect(200);
    old.running.shut_down().await.unwrap();
    let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await;
    refusals.push((answer.told(502).operation(), "nobody there", "gave no key"));
    new.running.shut_down().await.unwrap();
    let events = log::events(&new_data, "dev");
    recorded(&events, &refusals);
    // Two acts, one request: the token that was signed stands beside the key that was wrapped.
    let of = |event: &&Value| {
        event["protocol"]["request"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&taken.operation()))
    };
    let parts: Vec<_> = events.iter().filter(of).collect();
    assert_eq!((parts.len(), &parts[0]["action"]), (1, &json!("sign")));
    assert_eq!(log::closing(&events, &taken.operation())["action"], "encrypt");
    assert_eq!(log::closing(&events, &taken.operation())["protocol"]["says"]["original_kacls_url"], old_url);
    let events = log::events(&old_data, "dev");
    let by_peer = events.iter().filter(|event| event["protocol"]["says"]["peer"] == new_url.as_str());
    assert_eq!(by_peer.filter(|event| event["outcome"] == "success").count(), 1);
}
