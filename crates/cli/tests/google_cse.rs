//! A key service of Google Workspace on the real binary: Google's own client for uploads, tokens that PyJWT makes, and the digest's tokens at their time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::faketime::elsewhere;
use common::issuer::believed;
use common::softhsm::start_as as start;
use common::{Dev, stderr, tool};
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const URL: &str = "https://kacls.hyok.example/v1";
const IDP: &str = "https://idp.corp.example";
const POLICY: &str = r#"
@id("cse")
permit (principal == Holdfast::Caller::"cse", action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt", Holdfast::Action::"sign"], resource)
when { context.protocol == "google-cse" };
"#;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/google-cse").join(name)
}

/// Every issuer signs with the test key.
fn settings() -> String {
    let issuers = Application::ALL.iter().map(|application| application.issuer()).chain([IDP]);
    let issuers = believed(issuers, &fixture("jwks.json"));
    format!(
        "{issuers}
[[google_cse]]
kacls_url = \"{URL}\"
own_host = true
tenant = \"dev\"
caller = \"cse\"
key = \"workspace\"
owner_domains = [\"corp.example\"]
audiences = [\"hyok-cse-client\"]
providers = [\"{IDP}\"]
admin_providers = [\"{IDP}\"]
admins = [\"admin@corp.example\"]
admin_audiences = [\"hyok-cse-admin\"]
signing_keys = [\"workspace-signing\"]
"
    )
}

fn set_up(dev: &Dev) {
    dev.ok(&["key", "create", "workspace"]);
    dev.ok(&["key", "create", "workspace-signing", "--algorithm", "rsa-2048"]);
    let migration = Application::Migration.issuer();
    dev.ok(&[
        "caller",
        "put",
        "cse",
        "--any-subject",
        "--issuer",
        IDP,
        "--issuer",
        URL,
        "--issuer",
        migration,
    ]);
    dev.add_policy(POLICY);
}

#[test]
fn google_s_own_client_and_tokens_of_another_library() {
    let modules =
        ["jwt", "requests"].map(|name| format!("/usr/lib/python3/dist-packages/{name}/__init__.py"));
    if modules.iter().any(|module| !std::path::Path::new(module).exists()) {
        assert!(
            std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(),
            "python3-jwt or python3-requests is not installed"
        );
        eprintln!(
            "SKIPPED: python3-jwt or python3-requests is not installed; HOLDFAST_REQUIRE_TOOLS=1 makes that a failure"
        );
        return;
    }
    let dev = start(TempDir::new().unwrap(), &settings(), |command| command);
    set_up(&dev);
    let mut python = Command::new("/usr/bin/python3");
    python.arg(fixture("client.py")).args([&format!("{}/v1", dev.server.url), URL, dev.ca()]);
    let output = python.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(made["wrapped_key"].as_str().unwrap().len() <= 1024);
    // The command line finds what was done, for whom.
    let found = dev.ok(&["audit", "search", "--action", "decrypt", "--json"]);
    for words in ["privilegedunwrap", "\"unwrap\"", "\"digest\"", "`privilege`", "admin@corp.example"] {
        assert!(found.contains(words), "{words}: {found}");
    }
}

/// The tokens of the digest's section 11, as they stand there.
#[test]
fn the_published_tokens_at_their_time() {
    if !tool("faketime") {
        return;
    }
    let dev =
        start(TempDir::new().unwrap(), &settings(), |command| elsewhere(command, "@2026-01-15 10:15:00"));
    set_up(&dev);
    let read = |name: &str| std::fs::read_to_string(fixture(name)).unwrap().trim().to_owned();
    let (user, google) = (read("authentication.jwt"), read("authorization.jwt"));
    let dek = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let body = json!({"authentication": user, "authorization": google, "key": dek, "reason": "{client:'drive' op:'create'}"});
    let post = |method: &str, body: &Value| {
        let mut curl = Command::new("curl");
        // The certificate is of the gateway's time, which is not this process's.
        curl.args(["-sS", "--insecure", "-H", "content-type: application/json"]);
        curl.args(["-H", "host: kacls.hyok.example", "-w", "\n%{http_code}", "-d", &body.to_string()]);
        let output = curl.arg(format!("{}/v1/{method}", dev.server.url)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(body).unwrap_or_default())
    };
    let (status, wrapped) = post("wrap", &body);
    assert_eq!(status, "200", "{wrapped}");
    let mut opening = body.clone();
    opening["wrapped_key"] = wrapped["wrapped_key"].clone();
    let (status, opened) = post("unwrap", &opening);
    assert_eq!((status.as_str(), &opened["key"]), ("200", &json!(dek)), "{opened}");
    // Swapped, they are nobody's.
    let swapped = json!({"authentication": google, "authorization": user, "key": dek, "reason": ""});
    assert_eq!(post("wrap", &swapped).0, "401");
}
