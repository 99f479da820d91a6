//! A gateway whose keys are in a token of SoftHSM2: the real binary, the real module, a worker process between them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::{environment, serving};
use common::faketime::elsewhere;
use common::softhsm::{MODULE, PIN, SoftHsm, start, start_as, the_worker, workers};
use common::wait::until;
use common::{Dev, Server, code, holdfast, stderr, text};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The token's objects of a kind, by OpenSC.
fn listed(hsm: &SoftHsm, kind: &str) -> String {
    let list = ["--module", MODULE, "--login", "--pin", PIN, "--list-objects", "--type", kind];
    let output =
        Command::new("pkcs11-tool").args(list).env("SOFTHSM2_CONF", hsm.path("conf")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(dev: &Dev, line: &[&str]) -> Value {
    let line: Vec<_> = line.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&dev.ok(&line)).unwrap()
}

fn opens(dev: &Dev, sealed: &str) -> bool {
    let opened = dev.run(&["decrypt", "--key", "k", sealed, "--context", "row=1"]);
    opened.status.success() && opened.stdout == b"4711"
}

#[test]
fn another_root_key_leaves_keys_in_the_token_as_they_are() {
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), &hsm.settings());
    let gateway = dev.server.pid();
    let worker = the_worker(gateway);
    dev.ok(&["key", "create", "k"]);
    let plain = dev.file("plain", b"4711");
    let sealed = text(&dev.path("sealed"));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "--context", "row=1", "-o", &sealed]);
    let changed = json(&dev, &["root", "rotate", "--data", &text(&dev.data())]);
    assert_eq!(changed["in_force"], true);
    // Whoever had the PIN for the gateway that was has ended.
    assert!(!Path::new(&format!("/proc/{worker}")).exists());
    until("the key opens what it sealed", || opens(&dev, &sealed));
    assert_ne!(the_worker(gateway), worker);
    dev.ok(&["key", "rotate", "k"]);
    assert!(opens(&dev, &sealed));
}

#[test]
fn what_holds_on_to_the_root_key_ends_the_process_and_the_next_start_changes_it() {
    let hsm = SoftHsm::new();
    let settings = "[pool]\ndeadline_ms = 60000\nprobe_ms = 60000\n[limits]\nshutdown_seconds = 1\n";
    let mut dev = start(TempDir::new().unwrap(), &format!("{}{settings}", hsm.settings()));
    dev.ok(&["key", "create", "k"]);
    let plain = dev.file("plain", b"4711");
    let sealed = text(&dev.path("sealed"));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "--context", "row=1", "-o", &sealed]);
    let before = fs::read(dev.data().join("root.key")).unwrap();
    // The device does not answer, and somebody waits for it.
    let worker = the_worker(dev.server.pid());
    assert!(Command::new("kill").args(["-STOP", &worker.to_string()]).status().unwrap().success());
    let mut waits = holdfast(["decrypt", "--key", "k", &sealed, "--context", "row=1"]);
    let mut waits = waits
        .envs(dev.environment.iter().cloned())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the token is asked", || {
        let metrics = dev.server.admin("/metrics");
        metrics
            .lines()
            .any(|line| line.starts_with("holdfast_pool_member_in_flight{") && line.ends_with(" 1"))
    });
    let data = text(&dev.data());
    let ordered = holdfast(["root", "rotate", "--data", &data, "--json"]).output().unwrap();
    let ordered: Value = serde_json::from_slice(&ordered.stdout).unwrap();
    assert_eq!(ordered["in_force"], false, "nobody serves any more");
    let status = dev.server.ended();
    // Stopped as it is, it does not notice, and the kernel sees to it.
    until("its worker is gone", || !Path::new(&format!("/proc/{worker}")).exists());
    let said = dev.server.said();
    assert_eq!(code(status), 70, "{said}");
    assert!(said.contains("holds on to the root key") && said.contains("start the gateway again"), "{said}");
    let _ended = (waits.kill(), waits.wait());
    assert_eq!(fs::read(dev.data().join("root.key")).unwrap(), before);
    // Started again, as a service manager does.
    let config = text(&dev.path("holdfast.toml"));
    let line = serving(&dev.data()).into_iter().chain(["--config".to_owned(), config]);
    dev.server = Server::start(holdfast(line.chain(["--admin".to_owned(), "127.0.0.1:0".to_owned()])));
    dev.environment = environment(&dev.data());
    until("the order is carried out", || !dev.data().join("root.next").exists());
    assert_ne!(fs::read(dev.data().join("root.key")).unwrap(), before);
    until("the key opens what it sealed", || opens(&dev, &sealed));
}

#[test]
fn keys_are_made_and_used_in_the_token_and_its_worker_may_die() {
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), &hsm.settings());
    let gateway = dev.server.pid();
    let worker = the_worker(gateway);
    let made = json(&dev, &["key", "create", "k"]);
    assert_eq!((&made["algorithm"], &made["custody"]), (&"aes-256-gcm".into(), &"token".into()), "{made}");
    let plain = dev.file("plain", b"4711");
    let sealed = text(&dev.path("sealed"));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "--context", "row=1", "-o", &sealed]);
    assert!(opens(&dev, &sealed));
    // As others see it: what it may do, and that it never was and never will be outside.
    let seen = listed(&hsm, "secrkey");
    let expected =
        ["AES length 32", "Usage:      encrypt, decrypt\n", "never extractable, local", "always sensitive"];
    assert!(expected.iter().all(|line| seen.contains(line)), "{seen}");
    for (algorithm, usage) in [
        ("ecdsa-p256", "sign"),
        ("rsa-2048", "decrypt, sign"),
        ("ecdh-p256", "derive"),
        // OpenSC tells of signing for private keys only.
        ("hmac-sha-256", "verify"),
        ("aes-256-kw", "wrap, unwrap"),
    ] {
        let key = json(&dev, &["key", "create", algorithm, "--algorithm", algorithm]);
        let label = format!("holdfast/dev/{}/1", key["id"].as_str().unwrap());
        let all = listed(&hsm, "secrkey") + &listed(&hsm, "privkey");
        let (_, own) = all.split_once(&label).unwrap();
        let line = own.lines().find_map(|line| line.trim().strip_prefix("Usage:")).unwrap();
        assert_eq!(line.trim(), usage, "{algorithm}: {all}");
    }
    for file in ["cmdline", "environ"] {
        for pid in [gateway, worker] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(PIN), "{file} of {pid} says the PIN");
        }
    }
    for _ in 0..2 {
        let worker = the_worker(gateway);
        assert!(Command::new("kill").args(["-KILL", &worker.to_string()]).status().unwrap().success());
        until("the key is used again", || opens(&dev, &sealed));
        assert_ne!(the_worker(gateway), worker);
    }
    let refused = dev.fails(&["key", "create", "x", "--algorithm", "xaes-256-gcm"], 2);
    assert!(refused.contains("the token does not do this"), "{refused}");
    dev.ok(&["audit", "verify", &text(&dev.data().join("audit/dev"))]);
    // Nothing of the worker outlives its gateway.
    let worker = the_worker(gateway);
    let (ended, said) = dev.server.stop();
    assert!(ended.success() && !said.contains(PIN), "{said}");
    until("the worker has ended", || !Path::new(&format!("/proc/{worker}")).exists());
}

#[test]
fn what_was_made_before_is_used_where_it_is() {
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), "");
    let made = json(&dev, &["key", "create", "k"]);
    assert_eq!((&made["algorithm"], &made["custody"]), (&"xaes-256-gcm".into(), &"software".into()));
    let (plain, sealed) = (dev.file("plain", b"4711"), text(&dev.path("sealed")));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "--context", "row=1", "-o", &sealed]);
    let Dev { dir, server, .. } = dev;
    server.stop();

    let dev = start(dir, &hsm.settings());
    assert!(opens(&dev, &sealed));
    until("the token takes keys", || dev.run(&["key", "create", "in-token"]).status.success());
    let Dev { dir, server, .. } = dev;
    server.stop();

    // Without its token a key says what is missing, and the others work.
    let dev = start(dir, "");
    assert!(opens(&dev, &sealed));
    let said = dev.fails(&["encrypt", "--key", "in-token", "--raw", &plain], 7);
    assert!(said.contains("the key store cannot be reached"), "{said}");
    // Nor does it leave the token for that: not by an order, and not by itself.
    let said = dev.fails(&["key", "rotate", "in-token"], 7);
    assert!(said.contains("the key store cannot be reached"), "{said}");
    let kept = json(&dev, &["key", "show", "in-token"]);
    assert_eq!((&kept["custody"], &kept["newest_version"]), (&"token".into(), &1.into()), "{kept}");
    dev.ok(&["key", "rotate", "k"]);
    dev.ok(&["key", "suspend", "in-token"]);
    let (_, log) = dev.server.stop();
    assert!(log.contains("the key is in a token, and none is configured"), "{log}");
}

/// Tokens lock themselves: a wrong PIN is tried once.
#[test]
fn a_wrong_pin_is_tried_once_and_said() {
    let hsm = SoftHsm::new();
    fs::write(hsm.path("pin"), "another-pin").unwrap();
    let dev = start(TempDir::new().unwrap(), &hsm.settings());
    let said = || dev.server.admin("/status");
    until("the status says why", || said().contains("C_Login: CKR_PIN_INCORRECT; it is not tried again"));
    let refused = dev.run(&["key", "create", "k"]);
    assert_eq!(code(refused.status), 7, "{}", stderr(&refused));
    assert!(workers(dev.server.pid()).is_empty());
    let (_, log) = dev.server.stop();
    assert_eq!(log.matches("does not take its PIN").count(), 1, "{log}");
    assert!(!log.contains("another-pin"));
}

#[test]
fn typed_by_a_person_the_worker_says_who_starts_it() {
    let typed = holdfast(["hsm-worker"]).output().unwrap();
    assert_ne!(code(typed.status), 0);
    assert!(stderr(&typed).contains("started by a gateway"), "{}", stderr(&typed));
}

#[test]
fn a_pin_that_others_can_read_is_refused_at_the_start() {
    let hsm = SoftHsm::new();
    fs::set_permissions(hsm.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("holdfast.toml");
    fs::write(&config, hsm.settings()).unwrap();
    let line = serving(&dir.path().join("data")).into_iter().chain(["--config".to_owned(), text(&config)]);
    let refused = holdfast(line).output().unwrap();
    assert_ne!(code(refused.status), 0);
    let said = stderr(&refused);
    assert!(
        said.contains("open to other users") && said.contains("chmod 600") && !said.contains(PIN),
        "{said}"
    );
}

/// Whatever the module is doing: nobody is left who could end it.
#[test]
fn no_worker_outlives_its_gateway() {
    let hsm = SoftHsm::new();
    let mut dir = TempDir::new().unwrap();
    for round in 0..3 {
        let mut dev = start(dir, &hsm.settings());
        let worker = the_worker(dev.server.pid());
        let name = format!("first-{round}");
        until("the token takes keys", || dev.run(&["key", "create", &name]).status.success());
        let name = format!("long-{round}");
        let mut making = dev.command(&["key", "create", &name, "--algorithm", "rsa-4096"]);
        let mut making = making.stderr(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{worker}/task");
        // A thread of it is at work.
        until("the module is busy", || {
            fs::read_dir(&status).unwrap().flatten().any(|task| {
                fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| stat.contains(") R "))
            })
        });
        dev.server.kill();
        until("its worker is gone", || !Path::new(&status).exists());
        assert!(!making.wait().unwrap().success());
        dir = dev.dir;
    }
}

/// Nor one that somebody has stopped: it cannot notice that its gateway is gone, and goes with it all the same.
#[test]
fn a_stopped_worker_does_not_outlive_its_gateway() {
    let hsm = SoftHsm::new();
    let mut dev = start(TempDir::new().unwrap(), &hsm.settings());
    let worker = the_worker(dev.server.pid());
    until("the token takes keys", || dev.run(&["key", "create", "k"]).status.success());
    assert!(Command::new("kill").args(["-STOP", &worker.to_string()]).status().unwrap().success());
    let status = format!("/proc/{worker}/stat");
    until("it is stopped", || fs::read_to_string(&status).unwrap().contains(") T "));
    dev.server.kill();
    until("its worker is gone", || !Path::new(&status).exists());
}

/// A gateway that stood still while rotations were due makes up for them as soon as it runs again, once, in software and in the token.
#[test]
fn what_was_due_during_a_standstill_is_rotated_at_the_next_start() {
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), "");
    dev.ok(&["key", "create", "soft"]);
    let Dev { dir, server, .. } = dev;
    server.stop();
    let dev = start(dir, &hsm.settings());
    until("the token takes keys", || dev.run(&["key", "create", "hard"]).status.success());
    dev.ok(&["key", "create", "unscheduled"]);
    for key in ["soft", "hard"] {
        dev.ok(&["key", "schedule", key, "--every", "2d"]);
    }
    let Dev { dir, server, .. } = dev;
    server.stop();
    // By the wall clock alone.
    let five_days_later = |line| elsewhere(line, "+5d");
    let dev = start_as(dir, &hsm.settings(), five_days_later);
    let newest = |key: &str| json(&dev, &["key", "show", key])["newest_version"].as_u64().unwrap();
    until("both are rotated", || newest("soft") == 2 && newest("hard") == 2);
    assert_eq!(json(&dev, &["key", "show", "hard"])["custody"], "token");
    let late = || dev.server.admin("/metrics").contains("holdfast_rotations_total{result=\"late\"} 2");
    until("that is counted", late);
    let rotations = || {
        let events = common::log::closing(&dev.data().join("audit/dev")).into_iter();
        events
            .filter(|event| event["action"] == "rotate-key" && event["outcome"] == "success")
            .collect::<Vec<_>>()
    };
    until("it is published", || rotations().len() >= 2);
    for event in rotations() {
        assert_eq!(event["caller"]["authentication"], "gateway");
        assert!(event["alarm"].as_str().unwrap().contains("rotated late: it was due at"), "{event}");
    }
    assert_eq!((rotations().len(), newest("unscheduled")), (2, 1));
    // Due again in two days: nothing more is made now.
    let due = json(&dev, &["key", "show", "hard"])["schedule"]["due"].clone();
    let Dev { dir, server, .. } = dev;
    server.stop();
    let dev = start_as(dir, &hsm.settings(), five_days_later);
    until("the token is there", || workers(dev.server.pid()).len() == 1);
    assert_eq!(json(&dev, &["key", "show", "hard"])["schedule"]["due"], due);
}

/// Where a key was made is shown to an auditor who has nothing but the document and the log's key.
#[test]
fn where_a_key_was_made_is_attested_offline() {
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), "");
    dev.ok(&["key", "create", "k", "--algorithm", "aes-256-gcm"]);
    let Dev { dir, server, .. } = dev;
    server.stop();
    let dev = start(dir, &hsm.settings());
    the_worker(dev.server.pid());
    until("the token takes keys", || dev.run(&["key", "rotate", "k"]).status.success());
    dev.ok(&["key", "create", "other"]);
    let (document, vkey) = (text(&dev.path("k.json")), text(&dev.data().join("audit/dev/log.vkey")));
    until("all of it is published", || {
        dev.ok(&["key", "attest", "k", "-o", &document, "--force"]);
        fs::read_to_string(&document).unwrap().contains("\"without_evidence\": []")
    });
    let verify = ["audit", "verify-attestation", &document, "--vkey", &vkey];
    let shown = json(&dev, &verify);
    let said: Vec<_> = ["version", "level", "attributes"]
        .iter()
        .flat_map(|field| shown.as_array().unwrap().iter().map(move |row| row[*field].to_string()))
        .collect();
    let expected = [
        "1",
        "2",
        "\"software\"",
        "\"token\"",
        "\"\"",
        "\"local, sensitive, always-sensitive, never-extractable\"",
    ];
    assert_eq!(said, expected);
    assert!(shown[1]["token"].as_str().unwrap().contains("SoftHSM v2, serial "), "{shown}");
    // One level is not taken for another, nor one key for another.
    let good = fs::read_to_string(&document).unwrap();
    let other = text(&dev.path("other.json"));
    until("that, too", || {
        dev.ok(&["key", "attest", "other", "-o", &other, "--force"]);
        fs::read_to_string(&other).unwrap().contains("\"version\": 1")
    });
    let foreign: Value = serde_json::from_str(&fs::read_to_string(&other).unwrap()).unwrap();
    let mut mixed: Value = serde_json::from_str(&good).unwrap();
    mixed["versions"] = foreign["versions"].clone();
    for (lie, words) in [
        (good.replace("\\\"level\\\":\\\"software\\\"", "\\\"level\\\":\\\"token\\\""), "version 1"),
        (good.replacen("\"version\": 1", "\"version\": 3", 1), "version 3"),
        (mixed.to_string(), "the record is of something else"),
        (good.replace("key-attestation/1", "key-attestation/9"), "of the format"),
        (good[..good.len() / 2].to_owned(), "no attestation"),
    ] {
        assert_ne!(lie, good);
        fs::write(&document, lie).unwrap();
        let refused = dev.fails(&verify, 6);
        assert!(refused.contains(words), "{words}: {refused}");
    }
}

/// A vendor's chain for a key of the device goes with the document, and is verified under the root that the auditor has from the vendor.
#[test]
fn a_vendors_chain_is_verified_under_the_vendors_root() {
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), &hsm.settings());
    until("the token takes keys", || {
        dev.run(&["key", "create", "k", "--algorithm", "ecdsa-p256"]).status.success()
    });
    dev.ok(&["key", "create", "other", "--algorithm", "ecdsa-p256"]);
    dev.ok(&["key", "create", "secret"]);
    // What a device's maker does: a root, a certificate for the device, and one by the device for each of its keys.
    let openssl = |line: &str| {
        let done =
            Command::new("openssl").args(line.split(' ')).current_dir(dev.dir.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", stderr(&done));
    };
    let authority =
        "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -addext basicConstraints=critical,CA:TRUE";
    for root in ["maker", "another"] {
        openssl(&format!("req -x509 {authority} -subj /CN={root} -keyout {root}.key -out {root}.pem"));
    }
    openssl(&format!(
        "req -x509 {authority} -subj /CN=device-4711 -CA maker.pem -CAkey maker.key -keyout device.key -out device.pem"
    ));
    fs::write(dev.path("of-a-key"), "keyUsage = critical, digitalSignature\n").unwrap();
    for key in ["k", "other"] {
        fs::write(dev.path(&format!("{key}.pub")), dev.ok(&["key", "public", key])).unwrap();
        openssl(&format!(
            "x509 -new -force_pubkey {key}.pub -subj /CN={key} -CA device.pem -CAkey device.key -extfile of-a-key -days 30 -out {key}.pem"
        ));
        let chain = [format!("{key}.pem"), "device.pem".to_owned()];
        let chain = chain.map(|file| fs::read_to_string(dev.path(&file)).unwrap()).concat();
        fs::write(dev.path(&format!("{key}.chain")), chain).unwrap();
    }
    let at = |name: &str| text(&dev.path(name));
    let (document, vkey) = (at("k.json"), text(&dev.data().join("audit/dev/log.vkey")));
    let attest = ["key", "attest", "k", "-o", &document, "--force", "--vendor-chain"];
    let attest = |chain: &str| dev.run(&[&attest[..], &[&at(chain)]].concat());
    until("it is published", || attest("k.chain").status.success());
    let verify = |roots: &[&str]| {
        let roots: Vec<_> = roots.iter().flat_map(|root| ["--vendor-root".to_owned(), at(root)]).collect();
        let line = ["audit", "verify-attestation", &document, "--vkey", &vkey, "--json"];
        let line: Vec<_> = line.into_iter().chain(roots.iter().map(String::as_str)).collect();
        dev.run(&line)
    };
    let vendor = |roots: &[&str]| {
        let output = verify(roots);
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(rows[0]["level"], "token", "the log's own word stays what it is");
        rows[0]["vendor"].as_str().unwrap().to_owned()
    };
    assert_eq!(vendor(&["maker.pem"]), "CN=maker");
    assert_eq!(vendor(&["another.pem", "maker.pem"]), "CN=maker");
    assert!(vendor(&[]).contains("--vendor-root"));
    let refused = verify(&["another.pem"]);
    assert!(
        code(refused.status) == 6 && stderr(&refused).contains("no root that was given"),
        "{}",
        stderr(&refused)
    );
    // A chain of another key, one that is none, one for a secret key.
    for (chain, words) in [("other.chain", "no version of the key"), ("k.pub", "holds no certificates")] {
        let refused = attest(chain);
        assert!(code(refused.status) == 2 && stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    let secret = dev.run(&["key", "attest", "secret", "--vendor-chain", &at("k.chain")]);
    assert_eq!(code(secret.status), 2, "{}", stderr(&secret));
    // Neither does whoever passes the document on put another one in.
    let good: Value = serde_json::from_str(&fs::read_to_string(&document).unwrap()).unwrap();
    assert_eq!(good["versions"][0]["vendor_chain"].as_array().unwrap().len(), 2);
    let mut lie = good.clone();
    let other = fs::read_to_string(dev.path("other.pem")).unwrap();
    let body: String = other.lines().filter(|line| !line.starts_with('-')).collect();
    lie["versions"][0]["vendor_chain"][0] = body.into();
    fs::write(&document, lie.to_string()).unwrap();
    let refused = verify(&["maker.pem"]);
    assert!(
        code(refused.status) == 6 && stderr(&refused).contains("is of another key"),
        "{}",
        stderr(&refused)
    );
}

/// What a hostile module does as soon as it is loaded.
const THIEF: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void steal(void) {
    FILE *report = fopen(getenv("REPORT_NEW"), "w");
    int file = open(getenv("STEAL"), O_RDONLY);
    fprintf(report, "read: %s\n", file < 0 ? strerror(errno) : "done");
    file = open(getenv("PLANT"), O_WRONLY | O_CREAT, 0600);
    fprintf(report, "write: %s\n", file < 0 ? strerror(errno) : "done");
    fprintf(report, "kill: %s\n", kill(getppid(), 0) < 0 ? strerror(errno) : "done");
    fclose(report);
    rename(getenv("REPORT_NEW"), getenv("REPORT"));
}
"#;

/// A module that is hostile reaches neither the root key, nor anything beside it, nor the gateway's process.
#[test]
fn a_hostile_module_is_kept_from_the_gateway_and_its_directory() {
    let hsm = SoftHsm::new();
    fs::write(hsm.path("thief.c"), THIEF).unwrap();
    let library = text(&hsm.path("thief.so"));
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o", &library]).arg(hsm.path("thief.c")).output();
    let built = built.unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let environment = [
        ("STEAL", data.join("root.key")),
        ("PLANT", data.join("state/planted")),
        ("REPORT_NEW", hsm.path("report.new")),
        ("REPORT", hsm.path("report")),
    ]
    .map(|(name, path)| format!("{name} = \"{}\"", text(&path)));
    let settings = |confined: &str| {
        format!(
            "[[token]]\nmodule = \"{library}\"\nlabel = \"t\"\npin_file = \"{}\"\nenvironment = {{ {} }}\n{confined}",
            text(&hsm.path("pin")),
            environment.join(", ")
        )
    };
    let reported = |dev: &Dev| {
        until("it was loaded", || hsm.path("report").exists());
        let report = fs::read_to_string(hsm.path("report")).unwrap();
        let _old = fs::remove_file(hsm.path("report"));
        assert!(dev.server.admin("/status").contains("key-store"));
        report
    };
    let dev = start(dir, &settings(""));
    let report = reported(&dev);
    if report.starts_with("read: done") {
        eprintln!("SKIPPED: this kernel has no Landlock");
        return;
    }
    assert_eq!(report, "read: Permission denied\nwrite: Permission denied\nkill: Operation not permitted\n");
    assert!(!data.join("state/planted").exists());
    let Dev { dir, server, .. } = dev;
    server.stop();
    // What it would do otherwise: it is the kernel that keeps it out.
    let dev = start(dir, &settings("confined = false\n"));
    assert_eq!(reported(&dev), "read: done\nwrite: done\nkill: done\n");
}
