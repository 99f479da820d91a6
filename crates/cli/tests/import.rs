//! Keys that were made elsewhere: wrapped by `openssl` alone, brought by the real binary, refused where they should be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::softhsm::{self, SoftHsm};
use common::wait::until;
use common::{Dev, stderr};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Runs a line of shell where the commands of `dev` run.
fn shell(dev: &Dev, line: &str) -> String {
    let directory = dev.path("x").parent().unwrap().to_owned();
    let done = Command::new("sh").args(["-euc", line]).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Begins an import; the public half lies in `import.pem` then.
fn begin(dev: &Dev, key: &str, algorithm: &str) {
    let pem = dev.ok(&["key", "import", "begin", key, "--algorithm", algorithm]);
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"), "{pem}");
    dev.file("import.pem", pem.as_bytes());
}

/// Wraps a file for the import key in `import.pem`, as `docs/operate/import.md` says.
fn wrap(dev: &Dev, material: &str) {
    shell(
        dev,
        &format!(
            "openssl rand 32 > kek.bin
             openssl pkeyutl -encrypt -pubin -inkey import.pem -in kek.bin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 > wrapped.bin
             openssl enc -id-aes256-wrap-pad -K $(od -An -v -tx1 kek.bin | tr -d ' \\n') -iv A65959A6 -in {material} >> wrapped.bin"
        ),
    );
}

/// Makes symmetric material in `material` and gives its check value.
fn symmetric(dev: &Dev, length: usize) -> String {
    shell(dev, &format!("openssl rand {length} > material; openssl dgst -sha256 -r material | cut -c1-16"))
}

/// Makes a private key in `pem` and `material` and gives its check value.
fn private(dev: &Dev, how: &str) -> String {
    shell(
        dev,
        &format!(
            "openssl genpkey {how} -out pem; openssl pkcs8 -topk8 -nocrypt -in pem -outform DER -out material
             openssl pkey -in pem -pubout -out public.pem
             openssl pkey -in pem -pubout -outform DER | openssl dgst -sha256 -r | cut -c1-64"
        ),
    )
}

fn finish<'a>(key: &'a str, file: &'a str, check: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let line = ["key", "import", "finish", key, "--file", file, "--check-value", check];
    [&line[..], more].concat()
}

#[test]
fn keys_made_by_openssl_are_brought_and_work() {
    let dev = Dev::start();
    let plain = dev.file("plain", b"the record");

    // AES-256-GCM: its past is counted.
    begin(&dev, "gcm", "aes-256-gcm");
    let shown = json_of(&dev.ok(&["key", "show", "gcm", "--json"]));
    assert_eq!(shown["state"], "pre-activation");
    assert!(dev.fails(&["key", "activate", "gcm"], 5).contains("holdfast key import finish gcm"));
    let check = symmetric(&dev, 32);
    wrap(&dev, "material");
    assert!(dev.fails(&finish("gcm", "wrapped.bin", &check, &[]), 2).contains("--prior-uses"));
    let key = json_of(&dev.ok(&finish("gcm", "wrapped.bin", &check, &["--prior-uses", "1000", "--json"])));
    assert_eq!((&key["state"], &key["custody"]), (&"active".into(), &"software".into()));
    assert_eq!(key["newest_version"], 2);
    let sealed = dev.ok(&["encrypt", "--raw", &plain, "--key", "gcm"]);
    let sealed = dev.file("sealed", sealed.trim().as_bytes());
    assert_eq!(dev.ok(&["decrypt", &sealed, "--key", "gcm"]), "the record");
    let versions = json_of(&dev.ok(&["key", "versions", "gcm", "--json"]));
    assert_eq!((&versions[0]["state"], &versions[1]["state"]), (&"destroyed".into(), &"active".into()));
    // One import key, one import.
    let again = dev.fails(&finish("gcm", "wrapped.bin", &check, &["--prior-uses", "1"]), 5);
    assert!(again.contains("waits for no import"), "{again}");

    // HMAC: the code is the one that openssl computes.
    begin(&dev, "mac", "hmac-sha-256");
    let check = symmetric(&dev, 32);
    wrap(&dev, "material");
    dev.ok(&finish("mac", "wrapped.bin", &check, &[]));
    let code = dev.ok(&["mac", &plain, "--key", "mac"]);
    let line = "openssl mac -digest SHA256 -macopt hexkey:$(od -An -v -tx1 material | tr -d ' \\n') -binary -in plain HMAC | openssl base64 -A";
    assert!(code.contains(&shell(&dev, line)), "{code}");

    // Key pairs: openssl verifies with its own public half what the gateway signs.
    for (key, algorithm, how, options) in [
        ("rsa", "rsa-3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072", "-sigopt rsa_padding_mode:pss"),
        ("ec", "ecdsa-p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", ""),
    ] {
        begin(&dev, key, algorithm);
        let check = private(&dev, how);
        wrap(&dev, "material");
        dev.ok(&finish(key, "wrapped.bin", &check, &[]));
        assert_eq!(
            dev.ok(&["key", "public", key]).trim(),
            fs::read_to_string(dev.path("public.pem")).unwrap().trim()
        );
        let signed = json_of(&dev.ok(&["sign", &plain, "--key", key, "--json"]));
        dev.file("signature.b64", signed["signature"].as_str().unwrap().as_bytes());
        let line = format!(
            "openssl base64 -d -A -in signature.b64 -out signature; openssl dgst -sha256 {options} -verify public.pem -signature signature plain"
        );
        assert_eq!(shell(&dev, &line), "Verified OK");
    }
    let found = dev.ok(&["audit", "search", "--action", "import-key", "--json"]);
    assert!(found.contains("imported, check value") && found.contains("1000 prior uses"), "{found}");
}

#[test]
fn what_is_not_the_key_that_was_promised_is_refused() {
    let dev = Dev::start();
    begin(&dev, "other", "xaes-256-gcm");
    begin(&dev, "k", "xaes-256-gcm");
    let check = symmetric(&dev, 32);
    wrap(&dev, "material");
    // Another name: the blob is for the import key of `k`.
    let name = dev.fails(&finish("other", "wrapped.bin", &check, &[]), 6);
    let value = dev.fails(&finish("k", "wrapped.bin", "0000000000000000", &[]), 6);
    let mut bytes = fs::read(dev.path("wrapped.bin")).unwrap();
    let mut told = vec![name, value];
    for index in [100, 390] {
        bytes[index] ^= 1;
        let tampered = dev.file("tampered.bin", &bytes);
        bytes[index] ^= 1;
        told.push(dev.fails(&finish("k", &tampered, &check, &[]), 6));
    }
    // The same words whatever it was.
    let words = |text: &String| text.lines().next().unwrap().to_owned();
    assert!(told.iter().all(|text| words(text) == words(&told[0])), "{told:?}");
    // Another algorithm: an AES key of 16 bytes, a key pair of another curve.
    let short = symmetric(&dev, 16);
    wrap(&dev, "material");
    assert!(dev.fails(&finish("k", "wrapped.bin", &short, &[]), 2).contains("is no key of `xaes-256-gcm`"));
    begin(&dev, "ec", "ecdsa-p256");
    let check = private(&dev, "-algorithm EC -pkeyopt ec_paramgen_curve:P-384");
    wrap(&dev, "material");
    assert!(dev.fails(&finish("ec", "wrapped.bin", &check, &[]), 2).contains("openssl pkcs8 -topk8"));
    assert!(dev.fails(&finish("ec", "wrapped.bin", "00", &[]), 2).contains("64 hex digits"));
    dev.fails(&["key", "import", "begin", "k2", "--algorithm", "ml-dsa-65"], 2);
    dev.fails(&["key", "import", "begin", "k2", "--algorithm", "aes-256-gcm", "--expires", "8d"], 2);
    dev.fails(&["key", "import", "begin", "ec", "--algorithm", "aes-256-gcm"], 5);
}

#[test]
fn what_was_done_elsewhere_counts_and_an_unknown_past_only_decrypts() {
    let dev = Dev::start();
    let plain = dev.file("plain", b"the record");
    // One use before the gateway would rotate a key that it made itself.
    begin(&dev, "worn", "aes-256-gcm");
    let check = symmetric(&dev, 32);
    wrap(&dev, "material");
    let spent = dev.fails(&finish("worn", "wrapped.bin", &check, &["--prior-uses", "2147483648"]), 5);
    assert!(spent.contains("--decrypt-only"), "{spent}");
    dev.ok(&finish("worn", "wrapped.bin", &check, &["--prior-uses", "2147483647"]));
    dev.ok(&["encrypt", "--raw", &plain, "--key", "worn"]);
    until("the gateway to rotate", || {
        json_of(&dev.ok(&["key", "show", "worn", "--json"]))["newest_version"] == 3
    });
    // The version that it makes then is no import: the log says who made which.
    let made = dev.ok(&["audit", "search", "--key", "worn", "--action", "rotate-key", "--json"]);
    assert!(made.contains("rotate-key") && !made.contains("imported"), "{made}");

    begin(&dev, "old", "aes-256-gcm");
    wrap(&dev, "material");
    let key = json_of(&dev.ok(&finish("old", "wrapped.bin", &check, &["--decrypt-only", "--json"])));
    assert_eq!(key["state"], "deactivated");
    dev.fails(&["encrypt", "--raw", &plain, "--key", "old"], 5);
}

#[test]
fn an_import_key_expires() {
    let dev = Dev::start();
    let pem = dev.ok(&["key", "import", "begin", "k", "--algorithm", "hmac-sha-256", "--expires", "1s"]);
    dev.file("import.pem", pem.as_bytes());
    let check = symmetric(&dev, 32);
    wrap(&dev, "material");
    // Another check value, so that no attempt before the expiry succeeds.
    let attempt = finish("k", "wrapped.bin", "0000000000000000", &[]);
    until("the import key to expire", || stderr(&dev.run(&attempt)).contains("expired at"));
    let late = dev.fails(&finish("k", "wrapped.bin", &check, &[]), 5);
    assert!(late.contains("the import key expired at"), "{late}");
    dev.ok(&["key", "destroy", "k", "--confirm", "k"]);
    begin(&dev, "k", "hmac-sha-256");
    wrap(&dev, "material");
    dev.ok(&finish("k", "wrapped.bin", &check, &[]));
}

#[test]
fn a_token_takes_what_was_wrapped_for_its_own_import_key() {
    let hsm = SoftHsm::new();
    let dev = softhsm::start(TempDir::new().unwrap(), &hsm.settings());
    softhsm::the_worker(dev.server.pid());
    until("the token answers", || dev.run(&["key", "create", "first"]).status.success());
    let refused = dev.fails(&["key", "import", "begin", "x", "--algorithm", "xaes-256-gcm"], 2);
    assert!(refused.contains("no token has this algorithm"), "{refused}");
    begin(&dev, "k", "aes-256-gcm");
    assert_eq!(hsm.objects(), 3, "its import key is in the token");
    let check = symmetric(&dev, 32);
    wrap(&dev, "material");
    let wrong = dev.fails(&finish("k", "wrapped.bin", "0011223344556677", &["--prior-uses", "1"]), 6);
    assert!(wrong.contains("the input does not verify"), "{wrong}");
    let key = json_of(&dev.ok(&finish("k", "wrapped.bin", &check, &["--prior-uses", "1000", "--json"])));
    assert_eq!((&key["state"], &key["custody"]), (&"active".into(), &"token".into()));
    until("its import key is gone", || hsm.objects() == 2);
    let plain = dev.file("plain", b"the record");
    let sealed = dev.ok(&["encrypt", "--raw", &plain, "--key", "k"]);
    let sealed = dev.file("sealed", sealed.trim().as_bytes());
    assert_eq!(dev.ok(&["decrypt", &sealed, "--key", "k"]), "the record");
    begin(&dev, "ec", "ecdsa-p256");
    let check = private(&dev, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    wrap(&dev, "material");
    dev.ok(&finish("ec", "wrapped.bin", &check, &[]));
    assert_eq!(
        dev.ok(&["key", "public", "ec"]).trim(),
        fs::read_to_string(dev.path("public.pem")).unwrap().trim()
    );
    dev.ok(&["sign", &plain, "--key", "ec"]);
    let found = dev.ok(&[
        "audit",
        "search",
        "--key",
        "ec",
        "--action",
        "import-key",
        "--outcome",
        "success",
        "--json",
    ]);
    assert!(found.contains("imported") && found.contains("token"), "{found}");
}
