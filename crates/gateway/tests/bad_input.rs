//! Whatever is sent, the answer is a problem with a remedy, and the log says who sent it.

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

use serde_json::{Value, json};
use support::api::{T, base64};
use support::peer::Peer;
use support::{dev, log, trust};

/// Stands where a secret would: nothing may repeat it.
const MARKER: &str = "TWFya2VyTWFya2VyTWFya2Vy";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_wrong_context_and_any_flipped_bit_are_one_and_the_same_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut peer = gateway.developer().await;
    for key in ["right", "wrong"] {
        peer.post(&format!("{T}/keys"), &json!({"name": key})).await.expect(201);
    }
    let context = json!({"invoice": "4711"});
    let sealed = json!({"plaintext": base64(b"payload"), "context": context});
    let sealed = peer.post(&format!("{T}/keys/right/encrypt"), &sealed).await.expect(200);
    let sealed = support::api::bytes(&sealed.json()["ciphertext"]);
    let flips = (0..8 * sealed.len()).step_by(5).map(|bit| {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        ("right", flipped, context.clone())
    });
    let cut =
        (0..sealed.len()).step_by(7).map(|length| ("right", sealed[..length].to_vec(), context.clone()));
    let others = [
        ("wrong", sealed.clone(), context.clone()),
        ("right", sealed.clone(), json!({"invoice": "4712"})),
        ("right", sealed.clone(), json!({"Invoice": "4711"})),
        ("right", sealed.clone(), json!({})),
        ("right", [&sealed[..], &[0]].concat(), context.clone()),
    ];
    let mut seen = std::collections::HashSet::new();
    let mut refused = vec![];
    for (key, ciphertext, context) in flips.chain(cut).chain(others).collect::<Vec<_>>() {
        let body = json!({"ciphertext": base64(&ciphertext), "context": context});
        let answer = peer.post(&format!("{T}/keys/{key}/decrypt"), &body).await.refused(422, "integrity");
        refused.push(answer.operation());
        let mut problem = answer.json();
        problem.as_object_mut().unwrap().remove("operation");
        seen.insert(problem.to_string());
    }
    assert!(refused.len() > 80 && seen.len() == 1, "{seen:?}");
    let right = json!({"ciphertext": base64(&sealed), "context": context});
    peer.post(&format!("{T}/keys/right/decrypt"), &right).await.expect(200);
    drop(peer);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&directory.path().join("data"), "dev");
    for operation in &refused {
        assert_eq!(log::closing(&events, operation)["reason"], "integrity");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_nonsense_is_a_recorded_problem() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let mut peer = gateway.developer().await;
    peer.post(&format!("{T}/keys"), &json!({"name": "k"})).await.expect(201);
    let encrypt = format!("{T}/keys/k/encrypt");
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let pairs: Vec<_> = (0..65).map(|index| format!(r#""{index}":"{MARKER}""#)).collect();
    let many = format!(r#"{{"plaintext":"","context":{{{}}}}}"#, pairs.join(","));
    let long = format!(r#"{{"plaintext":"","context":{{"a":"{}"}}}}"#, MARKER.repeat(400));
    let bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "[]",
        "\"text\"",
        "17",
        "{",
        "{}",
        &format!(r#"{{"plaintext":"{MARKER}"#),
        &format!(r#"{{"plaintext":"{MARKER}"}} {{}}"#),
        &format!(r#"{{"plaintext":"{MARKER}","plaintext":"{MARKER}"}}"#),
        &format!(r#"{{"plaintext":"{MARKER}","{MARKER}":1}}"#),
        &format!(r#"{{"plaintext":"{MARKER}","plaintxt":1}}"#),
        &format!(r#"{{"plaintext":"{MARKER}-_"}}"#),
        &format!(r#"{{"plaintext":"{MARKER}="}}"#),
        &format!(r#"{{"plaintext":"{MARKER}\n"}}"#),
        &format!(r#"{{"plaintext":["{MARKER}"]}}"#),
        &format!(r#"{{"plaintext":"\ud800{MARKER}"}}"#),
        r#"{"plaintext":null}"#,
        r#"{"plaintext":true}"#,
        r#"{"plaintext":1e400}"#,
        r#"{"plaintext":"","padding":"rot13"}"#,
        r#"{"plaintext":"","context":[]}"#,
        r#"{"plaintext":"","context":{"a":1}}"#,
        r#"{"plaintext":"","context":{"":"b"}}"#,
        r#"{"plaintext":"","context":{"a":"b","a":"c"}}"#,
        &many,
        &long,
        &deep,
        &format!(r#"{{"plaintext":{deep}}}"#),
        "plaintext=aGVsbG8%3D",
        "<plaintext>aGVsbG8=</plaintext>",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .chain([
        b"\xff\xfe".to_vec(),
        b"{\"plaintext\":\"\xff\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        vec![0; 100],
    ])
    .collect();
    let mut recorded = vec![];
    for body in &bodies {
        let request = [peer.head("POST", &encrypt, body.len()).as_bytes(), body].concat();
        peer.send(&request).await.unwrap();
        let answer = peer.answer().await.expect("an answer");
        let shown = String::from_utf8_lossy(body);
        assert!((400..500).contains(&answer.status), "{shown}: {}", answer.status);
        let (status, code) = (answer.status, answer.text("code"));
        let answer = answer.refused(status, &code);
        assert!(!answer.json().to_string().contains(&MARKER[..16]), "{}", answer.json());
        recorded.push((answer.operation(), code));
    }
    let huge = "9".repeat(400);
    let long_name = "a".repeat(129);
    let paths = [
        ("POST", format!("{T}/random"), r#"{"length":0}"#.to_owned()),
        ("POST", format!("{T}/random"), r#"{"length":-1}"#.to_owned()),
        ("POST", format!("{T}/random"), r#"{"length":1.5}"#.to_owned()),
        ("POST", format!("{T}/random"), format!(r#"{{"length":{huge}}}"#)),
        ("POST", format!("{T}/keys"), r#"{"name":"../../etc"}"#.to_owned()),
        ("POST", format!("{T}/keys"), format!(r#"{{"name":"{long_name}"}}"#)),
        ("POST", format!("{T}/keys"), r#"{"name":"n","algorithm":"rot13"}"#.to_owned()),
        ("POST", format!("{T}/keys"), r#"{"name":"n","labels":{"a":{}}}"#.to_owned()),
        ("POST", format!("{T}/batch"), r#"{"items":[]}"#.to_owned()),
        ("POST", format!("{T}/batch"), r#"{"items":{}}"#.to_owned()),
        ("POST", format!("{T}/keys/{long_name}/encrypt"), r#"{"plaintext":""}"#.to_owned()),
        ("POST", format!("{T}/keys/k/sign"), r#"{}"#.to_owned()),
        ("POST", format!("{T}/keys/k/rotate"), r#"{"force":true}"#.to_owned()),
        ("GET", format!("{T}/keys?limit=0"), String::new()),
        ("GET", format!("{T}/keys?limit=1001"), String::new()),
        ("GET", format!("{T}/keys?limit={huge}"), String::new()),
        ("GET", format!("{T}/keys?limit=1&limit=2"), String::new()),
        ("GET", format!("{T}/keys?colour=blue"), String::new()),
        ("GET", format!("{T}/keys/k/public-key?version=0"), String::new()),
        ("GET", format!("{T}/policy/versions/one"), String::new()),
        ("GET", format!("{T}/audit/../../root.key"), String::new()),
        ("PUT", format!("{T}/callers/c"), r#"{"kind":"emperor"}"#.to_owned()),
        ("PUT", format!("{T}/callers/c"), r#"{"kind":"application","credentials":["ftp:x"]}"#.to_owned()),
        ("POST", format!("{T}/callers/developer/tokens"), r#"{"lifetime_seconds":86401}"#.to_owned()),
        ("PUT", format!("{T}/anchors/a"), format!(r#"{{"certificate":"{MARKER}"}}"#)),
        ("PUT", format!("{T}/policy"), r#"{"text":"permit permit permit"}"#.to_owned()),
    ];
    for (method, path, body) in &paths {
        let answer = peer.ask(method, path, body).await;
        assert!((400..500).contains(&answer.status), "{method} {path} {body}: {}", answer.status);
        let (status, code) = (answer.status, answer.text("code"));
        let answer = answer.refused(status, &code);
        assert!(!answer.json().to_string().contains(&MARKER[..16]), "{}", answer.json());
        recorded.push((answer.operation(), code));
    }
    // No such endpoint: nobody's log.
    for path in [
        "/v1/tenants/dev/keys/k%2f/encrypt",
        "/v1/tenants/dev/keys/",
        "//",
        "/v1",
        "/V1/status",
        "/v1/tenants/dev/keys/k/encrypt/",
    ] {
        let answer = peer.ask("POST", path, "").await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        let (status, code) = (answer.status, answer.text("code"));
        answer.refused(status, &code);
    }
    // What is no HTTP at all ends the connection, with a status where one can be given.
    for nonsense in
        ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"]
    {
        let mut stranger = gateway.stranger().await;
        stranger.send(nonsense.as_bytes()).await.unwrap();
        if let Some(answer) = stranger.answer().await {
            assert!((400..500).contains(&answer.status), "{nonsense:?}: {}", answer.status);
        }
        stranger.closed().await;
    }
    let two = trust(&gateway.directory).alpn(&[b"h2"]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for nonsense in [vec![0; 64], preface.into_iter().chain([0xff; 64]).collect()] {
        let mut stranger = Peer::connect(gateway.running.address, &two).await.unwrap();
        stranger.send(&nonsense).await.unwrap();
        stranger.closed().await;
    }
    let mut stranger = gateway.stranger().await;
    let smuggled =
        "POST /v1/status HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd";
    stranger.send(smuggled.as_bytes()).await.unwrap();
    assert!((400..500).contains(&stranger.answer().await.unwrap().status));
    // Credentials that are none.
    for authorization in [
        "Bearer",
        "Bearer hf_",
        "Basic YTpi",
        "Bearer hf_00000000000000000000000000_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "\u{e9}",
    ] {
        let mut stranger = gateway.stranger().await;
        let request = format!("GET {T}/keys HTTP/1.1\r\nhost: g\r\nauthorization: {authorization}\r\n\r\n");
        stranger.send(request.as_bytes()).await.unwrap();
        stranger.answer().await.unwrap().refused(401, "unauthenticated");
    }
    peer.post(&encrypt, &json!({"plaintext": base64(b"still here")})).await.expect(200);
    drop((peer, stranger));
    gateway.running.shut_down().await.unwrap();

    let data = directory.path().join("data");
    let events = log::events(&data, "dev");
    for (operation, code) in &recorded {
        let event = log::closing(&events, operation);
        assert_eq!((&event["outcome"], &event["reason"]), (&json!("refused"), &json!(code)), "{event}");
        assert_eq!(event["caller"]["name"], "developer");
    }
    let gateway = log::events(&data, "_gateway");
    let no_http = |event: &&Value| event["action"] == "noise" && event["context"]["reason"] == "not-http";
    let no_http: Vec<_> = gateway.iter().filter(no_http).collect();
    assert!(no_http.iter().all(|event| event["context"]["source"] == "127.0.0.0/24"), "{no_http:?}");
    let counted =
        no_http.iter().map(|event| event["context"]["count"].as_str().unwrap().parse::<u32>().unwrap());
    // Four of HTTP/1.1, two of HTTP/2, and the smuggler.
    assert_eq!(counted.sum::<u32>(), 7, "{no_http:?}");
    for file in log::files(&data) {
        let content = std::fs::read(&file).unwrap();
        let found = content.windows(MARKER.len()).any(|window| window == MARKER.as_bytes());
        assert!(!found, "what was sent stands in {}", file.display());
    }
}
