//! Keys that other programs made in the token, adopted by the real binary: used, attested, ended.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::softhsm::{MODULE, PIN, SoftHsm, start, the_worker};
use common::wait::until;
use common::{Dev, stderr, text};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// What another program does with the token, and says.
fn tool(hsm: &SoftHsm, line: &str) -> String {
    let output = Command::new("pkcs11-tool")
        .args(["--module", MODULE, "--login", "--pin", PIN])
        .args(line.split_whitespace())
        .env("SOFTHSM2_CONF", hsm.path("conf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(dev: &Dev, line: &[&str]) -> Value {
    let line: Vec<_> = line.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&dev.ok(&line)).unwrap()
}

/// A gateway whose tenant `dev` may adopt.
fn adopting(dir: TempDir, hsm: &SoftHsm) -> Dev {
    let dev = start(dir, &format!("[pool]\nadopters = [\"dev\"]\ndeadline_ms = 3000\n{}", hsm.settings()));
    the_worker(dev.server.pid());
    dev
}

#[test]
fn a_legacy_key_goes_on_opening_what_was_encrypted_for_it_and_ends_with_its_object() {
    let hsm = SoftHsm::new();
    tool(&hsm, "--keypairgen --key-type rsa:2048 --label legacy --id 0a");
    let public = text(&hsm.path("public.der"));
    tool(&hsm, &format!("--read-object --type pubkey --id 0a --output-file {public}"));
    // What an application of yesterday has.
    let (plain, old) = (text(&hsm.path("plain")), text(&hsm.path("old")));
    fs::write(&plain, b"data key of yesterday").unwrap();
    let encrypted = Command::new("openssl")
        .args([
            "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", &public, "-in", &plain, "-out",
            &old,
        ])
        .args(["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"])
        .output()
        .unwrap();
    assert!(encrypted.status.success(), "{}", stderr(&encrypted));

    let dev = adopting(TempDir::new().unwrap(), &hsm);
    let line = [
        "key",
        "adopt",
        "old",
        "--algorithm",
        "rsa-2048",
        "--purpose",
        "encrypt",
        "--object-label",
        "legacy",
    ];
    until("the token answers", || dev.run(&line).status.success());
    let key = json(&dev, &["key", "show", "old"]);
    assert_eq!((&key["custody"], &key["state"]), (&"token".into(), &"active".into()), "{key}");
    let opens = |dev: &Dev| {
        let opened = dev.run(&["decrypt", "--key", "old", "--key-version", "1", &old]);
        opened.status.success() && opened.stdout == b"data key of yesterday"
    };
    until("it opens", || opens(&dev));
    // Through a new worker, and through a new gateway.
    let worker = the_worker(dev.server.pid());
    assert!(Command::new("kill").args(["-KILL", &worker.to_string()]).status().unwrap().success());
    until("it opens again", || opens(&dev));
    let Dev { dir, server, .. } = dev;
    server.stop();
    let dev = adopting(dir, &hsm);
    until("it opens still", || opens(&dev));

    let document = text(&dev.path("old.json"));
    let vkey = text(&dev.data().join("audit/dev/log.vkey"));
    until("it is published", || {
        dev.ok(&["key", "attest", "old", "-o", &document, "--force"]);
        fs::read_to_string(&document).unwrap().contains("\"without_evidence\": []")
    });
    let shown = json(&dev, &["audit", "verify-attestation", &document, "--vkey", &vkey]);
    assert_eq!((&shown[0]["level"], &shown[0]["origin"]), (&"token".into(), &"adopted".into()), "{shown}");
    let said = shown[0]["attributes"].as_str().unwrap();
    assert!(
        said.starts_with("local, sensitive, always-sensitive, never-extractable, decrypt, sign"),
        "{said}"
    );

    let again = dev.fails(&["key", "adopt", "twice", "--algorithm", "rsa-2048", "--object-id", "0a"], 5);
    assert!(again.contains("is a key of this gateway already"), "{again}");
    assert_eq!(hsm.objects(), 2);
    dev.ok(&["key", "deactivate", "old"]);
    dev.ok(&["key", "destroy", "old", "--confirm", "old"]);
    until("the token does not have it any more", || hsm.objects() == 0);
    dev.ok(&["audit", "verify", &text(&dev.data().join("audit/dev"))]);
}

#[test]
fn a_counted_key_needs_its_past_and_what_does_not_fit_is_told() {
    let hsm = SoftHsm::new();
    tool(&hsm, "--keygen --key-type AES:32 --label kek --id 01 --sensitive");
    tool(&hsm, "--keygen --key-type AES:32 --label kek --id 02 --sensitive");
    tool(&hsm, "--keygen --key-type AES:32 --label open --id 03");
    let dev = adopting(TempDir::new().unwrap(), &hsm);
    let adopt = |more: &[&str]| {
        let line = ["key", "adopt", "k", "--algorithm", "aes-256-gcm"];
        line.iter().chain(more).copied().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = |more: &[&str], code: i32| {
        let line = adopt(more);
        dev.fails(&line.iter().map(String::as_str).collect::<Vec<_>>(), code)
    };
    until("the token answers", || dev.run(&["key", "create", "other"]).status.success());
    let untold = fails(&["--object-id", "01"], 2);
    assert!(untold.contains("`--prior-uses`"), "{untold}");
    let both = fails(&["--object-label", "kek", "--prior-uses", "0"], 5);
    assert!(both.contains("their ids are `01`, `02`") || both.contains("their ids are `02`, `01`"), "{both}");
    let open = fails(&["--object-label", "open", "--prior-uses", "0"], 2);
    assert!(open.contains("can be read in clear") && open.contains("--accept-extractable"), "{open}");
    let line = adopt(&["--object-id", "01", "--prior-uses", "1000"]);
    let line: Vec<_> = line.iter().map(String::as_str).collect();
    dev.ok(&line);
    let (plain, sealed) = (dev.file("plain", b"4711"), text(&dev.path("sealed")));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "-o", &sealed]);
    assert_eq!(dev.run(&["decrypt", "--key", "k", &sealed]).stdout, b"4711");
    let decrypts = json(
        &dev,
        &["key", "adopt", "d", "--algorithm", "aes-256-gcm", "--object-id", "02", "--decrypt-only"],
    );
    assert_eq!(decrypts["state"], "deactivated");
    dev.fails(&["encrypt", "--key", "d", "--raw", &plain], 5);
}
