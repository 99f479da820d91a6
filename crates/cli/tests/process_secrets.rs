//! Whatever is sent to the real process, its own log does not repeat it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::token;
use common::{Server, holdfast, text};
use std::process::Command;

/// Stands where a secret would.
const MARKER: &str = "TWFya2VyTWFya2VyTWFya2Vy";

#[test]
fn the_log_of_the_process_repeats_nothing_that_was_sent() {
    if !common::tool("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = dir.path().join("holdfast.toml");
    let settings = format!(
        "data = \"{}\"\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\nenabled = false\n[log]\nfilter = \"trace\"\n",
        text(&data)
    );
    std::fs::write(&config, settings).unwrap();
    let server = Server::start(holdfast(["serve", "--dev", "--config", &text(&config)]));
    let token = token(&data);
    let header = dir.path().join("authorization");
    std::fs::write(&header, format!("authorization: Bearer {token}\n")).unwrap();
    let bodies = [
        r#"{"name":"k"}"#.to_owned(),
        format!(r#"{{"plaintext":"{MARKER}"}}"#),
        format!(r#"{{"plaintext":"{MARKER}"#),
        format!(r#"{{"plaintext":"{MARKER}","plaintext":"{MARKER}"}}"#),
        format!(r#"{{"{MARKER}":1}}"#),
        format!(r#"{{"plaintext":["{MARKER}"]}}"#),
        format!(r#"{{"plaintext":"","padding":"{MARKER}"}}"#),
        MARKER.to_owned(),
    ];
    for protocol in ["--http1.1", "--http2"] {
        for body in &bodies {
            let path = if body.contains("name") { "keys" } else { "keys/k/encrypt" };
            let file = dir.path().join("body");
            std::fs::write(&file, body).unwrap();
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", protocol, "--cacert", &text(&data.join("tls/ca.pem"))]);
            curl.args([
                "--header",
                &format!("@{}", text(&header)),
                "--data-binary",
                &format!("@{}", text(&file)),
            ]);
            let answer = curl.arg(format!("{}/v1/tenants/dev/{path}", server.url)).output().unwrap();
            assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
            let answer = String::from_utf8(answer.stdout).unwrap();
            assert!(!answer.contains(MARKER), "{answer}");
        }
    }
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("serving"), "{log}");
    let secret = token.splitn(3, '_').last().unwrap();
    for said in [MARKER, secret] {
        let line = log.lines().find(|line| line.contains(said));
        assert_eq!(line, None, "the log says a secret");
    }
}
