//! Every command against a gateway of the test's own.

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

use common::{Dev, code, stderr, stdout, text};

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn every_use_of_a_key() {
    let dev = Dev::start();
    let message = dev.file("message", b"a message");

    dev.ok(&["key", "create", "seal"]);
    dev.ok(&["encrypt", "--raw", &message, "--key", "seal", "--context", "a=b", "-o", "sealed"]);
    assert!(std::fs::read(dev.path("sealed")).unwrap().starts_with(b"HFC\x01"));
    assert_eq!(dev.ok(&["decrypt", "sealed", "--key", "seal", "--context", "a=b"]), "a message");
    let armoured = dev.ok(&["rewrap", "sealed", "--key", "seal", "--context", "a=b"]);
    let again = dev.run_with(&["decrypt", "-", "--key", "seal", "--context", "a=b"], armoured.as_bytes());
    assert_eq!(stdout(&again), "a message");
    assert!(dev.fails(&["decrypt", "sealed", "--key", "seal"], 6).contains("operation: "));
    assert!(dev.fails(&["decrypt", "sealed"], 2).contains("`--key`"));

    dev.ok(&["datakey", "--key", "seal", "-o", "dek.sealed", "--plaintext", "dek"]);
    dev.ok(&["decrypt", "dek.sealed", "--key", "seal", "-o", "dek.again"]);
    let dek = std::fs::read(dev.path("dek")).unwrap();
    assert_eq!(dek.len(), 32);
    assert_eq!(dek, std::fs::read(dev.path("dek.again")).unwrap());
    assert!(!dev.ok(&["datakey", "--key", "seal", "--json"]).contains("plaintext"));

    dev.ok(&["key", "create", "kek", "--purpose", "wrap"]);
    let wrapped = dev.ok(&["wrap", &message, "--key", "kek"]);
    let wrapped = dev.file("wrapped", wrapped.as_bytes());
    dev.ok(&["unwrap", &wrapped, "--key", "kek", "-o", "unwrapped"]);
    assert_eq!(std::fs::read(dev.path("unwrapped")).unwrap(), b"a message");
    assert!(dev.fails(&["sign", &message, "--key", "kek"], 2).contains("created to wrap"));

    dev.ok(&["key", "create", "pen", "--algorithm", "ed25519"]);
    dev.ok(&["sign", &message, "--key", "pen", "-o", "signature"]);
    assert_eq!(std::fs::read(dev.path("signature")).unwrap().len(), 64);
    assert_eq!(dev.ok(&["verify", &message, "--signature", "signature", "--key", "pen"]), "valid\n");
    let other = dev.file("other", b"another message");
    dev.fails(&["verify", &other, "--signature", "signature", "--key", "pen"], 6);
    assert!(dev.ok(&["key", "public", "pen"]).starts_with("-----BEGIN PUBLIC KEY-----"));

    dev.ok(&["key", "create", "tag", "--algorithm", "hmac-sha-256"]);
    let mac = dev.ok(&["mac", &message, "--key", "tag"]);
    let mac = dev.file("mac", mac.as_bytes());
    dev.ok(&["mac", &message, "--key", "tag", "--verify", &mac]);
    dev.fails(&["mac", &other, "--key", "tag", "--verify", &mac], 6);

    dev.ok(&["key", "create", "us", "--algorithm", "x25519"]);
    dev.ok(&["key", "create", "them", "--algorithm", "x25519"]);
    let ours = dev.ok(&["key", "public", "us"]);
    let theirs = dev.ok(&["key", "public", "them"]);
    let (ours, theirs) = (dev.file("ours.pem", ours.as_bytes()), dev.file("theirs.pem", theirs.as_bytes()));
    let here = dev.ok(&["agree", &theirs, "--key", "us"]);
    assert_eq!(here, dev.ok(&["agree", &ours, "--key", "them"]));

    dev.ok(&["random", "16", "-o", "random"]);
    assert_eq!(std::fs::read(dev.path("random")).unwrap().len(), 16);
}

#[test]
fn a_keys_life() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k", "--label", "team=finance", "--prepared"]);
    assert!(dev.fails(&["random", "0"], 2).contains("0"));
    dev.fails(&["encrypt", "-", "--raw", "--key", "k"], 5);
    dev.ok(&["key", "activate", "k"]);
    dev.ok(&["key", "rotate", "k"]);
    assert_eq!(json(&dev.ok(&["key", "versions", "k", "--json"])).as_array().unwrap().len(), 2);
    dev.ok(&["key", "label", "k", "team=legal"]);
    let shown = json(&dev.ok(&["key", "show", "k", "--json"]));
    assert_eq!((&shown["labels"]["team"], &shown["newest_version"]), (&"legal".into(), &2.into()));
    assert!(dev.fails(&["key", "label", "k", "a=b", "--expected-epoch", "1"], 5).contains("epoch"));
    dev.fails(&["key", "create", "k"], 5);
    dev.fails(&["key", "show", "missing"], 5);
    dev.ok(&["key", "suspend", "k"]);
    assert!(dev.fails(&["encrypt", "-", "--raw", "--key", "k"], 5).contains("holdfast key resume k"));
    dev.fails(&["key", "destroy", "k", "--confirm", "other"], 2);
    dev.ok(&["key", "destroy", "k", "--confirm", "k"]);
    assert!(dev.ok(&["key", "list"]).contains("destroyed"));
}

#[test]
fn callers_tokens_and_anchors() {
    let dev = Dev::start();
    dev.ok(&[
        "caller",
        "put",
        "app",
        "--uri",
        "spiffe://acme.example/app",
        "--group",
        "staff",
        "--issue",
        "credentials",
    ]);
    let listed = json(&dev.ok(&["caller", "list", "--json"]));
    let app = listed.as_array().unwrap().iter().find(|caller| caller["name"] == "app").unwrap();
    assert_eq!(app["credentials"].as_array().unwrap().len(), 2);
    let made = text(&dev.path("credentials/app.pem"));
    let named = json(&dev.ok(&["caller", "put", "app", "--certificate", &made, "--json"]));
    assert!(app["credentials"].as_array().unwrap().contains(&named["credentials"][0]));
    dev.fails(&["caller", "put", "app", "--issue", "credentials"], 5);
    dev.fails(&["caller", "put", "x", "--uri", "no-uri"], 2);

    let token = dev.ok(&["caller", "token", "app", "--lifetime", "5min"]);
    let file = dev.file("token", token.as_bytes());
    // The token's owner is known, and allowed nothing; what is typed counts more than the environment.
    dev.fails(&["--token-file", &file, "key", "list"], 3);
    let key = text(&dev.path("credentials/app.key"));
    dev.fails(&["--cert", &made, "--cert-key", &key, "key", "list"], 3);
    dev.ok(&["caller", "suspend", "app"]);
    let refused = dev.run(&["--token-file", &file, "key", "list"]);
    assert!(matches!(code(refused.status), 4 | 5), "{}", stderr(&refused));
    dev.ok(&["caller", "resume", "app"]);
    let callers = json(&dev.ok(&["caller", "list", "--json"]));
    let app = callers.as_array().unwrap().iter().find(|caller| caller["name"] == "app").unwrap();
    dev.ok(&["caller", "revoke-token", "app", app["tokens"][0]["id"].as_str().unwrap()]);
    dev.fails(&["--token-file", &file, "key", "list"], 4);
    dev.fails(&["caller", "token", "app", "--lifetime", "2days"], 2);
    dev.ok(&["caller", "remove", "app"]);
    dev.fails(&["caller", "remove", "app"], 5);

    let ca = text(&dev.data().join("tls/ca.pem"));
    dev.ok(&["anchor", "put", "corporate", &ca]);
    assert!(dev.ok(&["anchor", "list"]).contains("corporate"));
    dev.ok(&["anchor", "remove", "corporate"]);
    let garbage = dev.file("garbage", b"garbage");
    dev.fails(&["anchor", "put", "corporate", &garbage], 2);
}

#[test]
fn the_policy() {
    let dev = Dev::start();
    let first = dev.ok(&["policy", "show"]);
    assert!(first.contains("developer-does-everything"));
    let mine = dev.file("mine.cedar", format!("{first}\n// mine\n").as_bytes());
    dev.ok(&["policy", "check", &mine]);
    assert!(dev.ok(&["policy", "set", &mine, "--expected", "1"]).contains('2'));
    dev.fails(&["policy", "set", &mine, "--expected", "1"], 5);
    let broken = dev.file("broken.cedar", b"permit (");
    let findings = dev.run(&["policy", "check", &broken]);
    assert_ne!(code(findings.status), 0, "{}", stdout(&findings));
    dev.fails(&["policy", "set", &broken], 2);
    dev.ok(&["policy", "restore", "1"]);
    assert_eq!(dev.ok(&["policy", "show"]), first);
    assert!(dev.ok(&["policy", "show", "--policy-version", "2"]).contains("// mine"));
    dev.ok(&["key", "create", "k"]);
    assert!(
        dev.ok(&["policy", "explain", "developer", "decrypt", "k"]).contains("developer-does-everything")
    );
}

#[test]
fn a_policy_is_tested_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let policy = text(&dir.path().join("payroll.cedar"));
    std::fs::write(&policy, holdfast_cli::demo::POLICY).unwrap();
    let cases = |expect: &str| {
        let cases = format!(
            "[[case]]\ncaller = \"payroll\"\naction = \"decrypt\"\nkey = \"payroll-records\"\nexpect = \"allow\"\n\n\
             [[case]]\ncaller = \"intern\"\naction = \"decrypt\"\nkey = \"payroll-records\"\nexpect = \"{expect}\"\n"
        );
        std::fs::write(dir.path().join("payroll.toml"), cases).unwrap();
        common::holdfast(["policy", "test", &policy]).output().unwrap()
    };
    let right = cases("deny");
    assert_eq!((code(right.status), stdout(&right).matches('✓').count()), (0, 2), "{}", stderr(&right));
    let wrong = cases("allow");
    assert!(code(wrong.status) == 1 && stdout(&wrong).contains("✗ 2. intern decrypt"), "{}", stdout(&wrong));
    std::fs::write(&policy, "permit (").unwrap();
    assert_eq!(code(cases("deny").status), 2);
}

#[test]
fn the_log() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let refusal = dev.fails(&["decrypt", "--key", "k", &dev.file("x", b"SEZDAQ==")], 6);
    let operation = refusal.lines().find_map(|line| line.strip_prefix("operation: ")).unwrap();

    // Who asks for the checkpoint gets one over what was done before.
    let event = json(dev.ok(&["audit", "search", "--operation", operation, "--json"]).trim_end());
    assert_eq!((&event["outcome"], &event["reason"]), (&"refused".into(), &"integrity".into()));
    assert!(dev.ok(&["audit", "tail", "-n", "100"]).contains(operation));

    dev.ok(&["audit", "mirror", "mirror"]);
    let beside = dev.run(&["audit", "verify", "mirror"]);
    assert_eq!(code(beside.status), 0, "{}", stderr(&beside));
    assert!(stderr(&beside).contains("WARNING: the key was taken from beside the log"));
    assert!(stderr(&beside).contains("WARNING: no earlier checkpoint"));
    let vkey = text(&dev.data().join("audit/dev/log.vkey"));
    std::fs::copy(dev.path("mirror/checkpoint"), dev.path("kept")).unwrap();
    dev.ok(&["audit", "mirror", "mirror"]);
    let outside = dev.run(&["audit", "verify", "mirror", "--vkey", &vkey, "--checkpoint", "kept"]);
    assert_eq!((code(outside.status), stderr(&outside).as_str()), (0, ""));
    dev.ok(&["audit", "verify", "--mirror", "--vkey", &vkey]);
    let wrong = text(&dev.data().join("audit/_gateway/log.vkey"));
    dev.fails(&["audit", "verify", "mirror", "--vkey", &wrong], 6);

    dev.ok(&["audit", "prove", operation, "-o", "one.tlog-proof"]);
    dev.ok(&["audit", "verify-proof", "one.tlog-proof", "--vkey", &vkey]);
    dev.fails(&["audit", "prove", operation, "-o", "one.tlog-proof"], 1);
    dev.fails(&["audit", "prove", "999999", "-o", "two.tlog-proof", "--log", "mirror"], 6);
    let record = dev.path("one.json");
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&record, bytes).unwrap();
    dev.fails(&["audit", "verify-proof", "one.tlog-proof", "--vkey", &vkey], 6);

    let bundle =
        std::fs::read_dir(dev.path("mirror/tile/entries/000.p")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    dev.fails(&["audit", "verify", "mirror", "--vkey", &vkey], 6);
}

#[test]
fn receipts() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k", "--receipt", "receipts"]);
    // An older copy of the log: what comes now is not in it.
    dev.ok(&["audit", "mirror", "older"]);
    dev.ok(&["random", "16", "--receipt", "receipts", "-o", "random"]);
    dev.fails(&["decrypt", "--key", "k", &dev.file("x", b"SEZDAQ=="), "--receipt", "receipts"], 6);
    let vkey = text(&dev.data().join("audit/dev/log.vkey"));
    let held = json(&dev.ok(&["audit", "check", "receipts", "--vkey", &vkey, "--json"]));
    assert_eq!(held.as_array().unwrap().len(), 3, "{held}");
    assert!(held.as_array().unwrap().iter().all(|row| row["held"] == true), "{held}");

    // The key's creation is in the older copy, the rest is missing there.
    let said = dev.run(&["audit", "check", "receipts", "--vkey", &vkey, "--log", "older", "--json"]);
    assert_eq!(code(said.status), 6);
    let found = json(&stdout(&said));
    let held: Vec<_> = found.as_array().unwrap().iter().map(|row| row["held"] == true).collect();
    assert_eq!(held, [true, false, false]);
    assert!(stderr(&said).contains("2 of 3 records are missing"), "{}", stderr(&said));

    // Without a key from elsewhere it says so; another log's key has signed none of them.
    let beside = dev.run(&["audit", "check", "receipts", "--log", "older"]);
    assert!(stderr(&beside).contains("WARNING: the key was taken from beside the log"));
    let wrong = text(&dev.data().join("audit/_gateway/log.vkey"));
    dev.fails(&["audit", "check", "receipts", "--vkey", &wrong], 6);

    let receipts = std::fs::read_to_string(dev.path("receipts")).unwrap();
    let first = receipts.split_inclusive("\n").take(7).collect::<String>();
    let one = dev.file("one", first.as_bytes());
    dev.ok(&["audit", "check", &one, "--vkey", &vkey, "--proof", "one.tlog-proof"]);
    dev.ok(&["audit", "verify-proof", "one.tlog-proof", "--vkey", &vkey]);
    dev.fails(&["audit", "check", "receipts", "--vkey", &vkey, "--proof", "two.tlog-proof"], 2);
    // One that says something else.
    let forged = dev.file("forged", first.replace("index ", "index 1").as_bytes());
    dev.fails(&["audit", "check", &forged, "--vkey", &vkey], 6);
    dev.fails(&["audit", "check", &vkey, "--vkey", &vkey], 2);
}

#[test]
fn doctor_status_and_tenants() {
    let dev = Dev::start();
    let data = text(&dev.data());
    let found = dev.ok(&["doctor", "--data", &data]);
    assert!(
        found.contains("✓ connection") && found.contains("✓ root key's mode") && !found.contains('✗'),
        "{found}"
    );
    let operator = [
        "--cert",
        &format!("{data}/credentials/operator.pem"),
        "--cert-key",
        &format!("{data}/credentials/operator.key"),
    ];
    let as_operator = |line: &[&str]| dev.ok(&[&operator[..], line].concat());
    assert!(as_operator(&["status"]).contains("is ready"));
    dev.fails(&["status"], 4);
    as_operator(&["tenant", "create", "acme", "--custodian", "carol", "--issue", "credentials"]);
    let carol =
        ["--tenant", "acme", "--cert", "credentials/carol.pem", "--cert-key", "credentials/carol.key"];
    assert!(dev.ok(&[&carol[..], &["tenant", "show"]].concat()).contains("acme"));
    dev.fails(&["--tenant", "acme", "tenant", "show"], 4);
    dev.ok(&["tenant", "suspend"]);
    dev.ok(&["tenant", "resume"]);

    std::fs::set_permissions(
        dev.data().join("root.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let output = dev.run(&["doctor", "--offline", "--data", &data]);
    assert!(code(output.status) == 1 && stdout(&output).contains("chmod 600"), "{}", stdout(&output));
}

#[test]
fn errors_for_programs_are_json_too() {
    let dev = Dev::start();
    let output = dev.run(&["key", "show", "missing", "--json"]);
    let error = json(&stderr(&output));
    assert_eq!((code(output.status), &error["error"]["exit"]), (5, &5.into()));
    assert!(error["error"]["help"].is_string() && error["error"]["operation"].is_string());
    assert_eq!(stdout(&output), "");
}

#[test]
fn nobody_there_and_somebody_else() {
    let dev = Dev::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(dev.fails(&["--url", &nobody, "key", "list"], 7).contains("nobody listens"));
    let other = Dev::start();
    let ca = text(&other.data().join("tls/ca.pem"));
    assert!(dev.fails(&["--cacert", &ca, "key", "list"], 6).contains("not issued by an authority"));
    let wrong_name = dev.server.url.replace("127.0.0.1", "127.0.0.2");
    let said = dev.run(&["--url", &wrong_name, "key", "list"]);
    assert!(matches!(code(said.status), 6 | 7), "{}", stderr(&said));
}
