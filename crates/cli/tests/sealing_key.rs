//! A sealing key that destroyed material lay under is retired: nothing that is left of it on the disk opens, whatever happens meanwhile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::wait::until;
use common::{Server, Site, code, holdfast, stderr, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

const POLICY: &str = r#"
@id("custodians") permit (principal, action, resource) when { principal.kind == "custodian" };
@id("app") permit (principal == Holdfast::Caller::"app", action in Holdfast::Action::"use", resource);
"#;

/// The sealed handles in a state directory's files, whatever is left there of any.
fn handles(data: &Path) -> BTreeSet<String> {
    const BEGINS: &[u8] = br#""handle":""#;
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(data.join("state")).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        for at in content.windows(BEGINS.len()).enumerate().filter(|(_, window)| *window == BEGINS) {
            let rest = &content[at.0 + BEGINS.len()..];
            let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
            found.insert(String::from_utf8_lossy(&rest[..end]).into_owned());
        }
    }
    found
}

fn sealing_key(site: &Site, server: &Server, key: &str) -> Value {
    let shown = site.json(server, "carol", &["key", "show", key]);
    shown["sealed_under"][0].clone()
}

fn is_retired(site: &Site, server: &Server, key: &str) -> bool {
    sealing_key(site, server, key)["state"] == "retired"
}

/// A key's first version: that waits for nothing.
fn destroy(site: &Site, server: &Server, key: &str) {
    site.ok(server, "carol", &["key", "rotate", key]);
    site.ok(server, "carol", &["key", "deactivate", key, "--version", "1", "--without-inventory"]);
    let confirmed = ["--without-inventory", "--confirm", key];
    site.ok(server, "carol", &[&["key", "destroy", key, "--version", "1"][..], &confirmed].concat());
}

/// A gateway with one who may use its keys.
fn found() -> Site {
    let site = Site::found();
    let server = Server::start(site.serving(&site.data(), ""));
    site.ok(&server, "carol", &["caller", "put", "app", "--issue", &text(&site.path("credentials"))]);
    std::fs::write(site.path("policy.cedar"), POLICY).unwrap();
    site.ok(&server, "carol", &["policy", "set", "policy.cedar", "--expected", "1"]);
    std::fs::write(site.path("record"), "payroll").unwrap();
    server.ends();
    site
}

fn encrypt(site: &Site, server: &Server, key: &str) {
    site.ok(server, "app", &["encrypt", "--key", key, "record", "-o", &format!("{key}.age")]);
}

fn opens(site: &Site, server: &Server, key: &str) {
    site.ok(server, "app", &["decrypt", &format!("{key}.age"), "--force", "-o", "opened"]);
    assert_eq!(std::fs::read_to_string(site.path("opened")).unwrap(), "payroll");
}

#[test]
fn nothing_that_is_left_of_a_destroyed_key_on_the_disk_opens() {
    let site = found();
    let data = site.data();
    let server = Server::start(site.serving(&data, ""));
    for key in ["gone", "a", "b", "c"] {
        site.ok(&server, "carol", &["key", "create", key]);
        encrypt(&site, &server, key);
    }
    site.ok(&server, "carol", &["key", "rotate", "b"]);
    site.ok(&server, "carol", &["key", "suspend", "c"]);
    server.ends();
    let before = handles(&data);
    assert!(before.len() >= 6, "one for the tenant, and five versions: {before:?}");

    let server = Server::start(site.serving(&data, ""));
    destroy(&site, &server, "gone");
    until("its sealing key is retired", || is_retired(&site, &server, "gone"));
    // While it serves: the write-ahead file is emptied too, as soon as nobody reads.
    until("nothing of what was there is left", || handles(&data).is_disjoint(&before));
    for key in ["a", "b"] {
        opens(&site, &server, key);
    }
    site.ok(&server, "carol", &["key", "resume", "c"]);
    opens(&site, &server, "c");

    let retired = sealing_key(&site, &server, "gone");
    let events = site.ok(&server, "carol", &["audit", "search", "--action", "retire-sealing-key", "--json"]);
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |event: &Value| (event["outcome"].clone(), event["context"]["from"].clone());
    let id = retired["id"].clone();
    assert_eq!(
        events.iter().map(told).collect::<Vec<_>>(),
        [("intent".into(), id.clone()), ("success".into(), id)]
    );
    assert_eq!(events[1]["context"]["versions"], "5");
    let metrics = server.admin("/metrics");
    for line in [
        "holdfast_sealing_keys_to_retire 0",
        "holdfast_sealing_keys_retired_total 1",
        "holdfast_versions_resealed_total 5",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    server.ends();
    assert!(handles(&data).is_disjoint(&before));
    assert!(holdfast(["doctor", "--data", &text(&data), "--offline", "--deep"]).status().unwrap().success());
    let server = Server::start(site.serving(&data, ""));
    opens(&site, &server, "b");
    server.ends();
}

/// Killed at another moment each time, with a change of the root key in between.
#[test]
fn a_gateway_that_is_killed_meanwhile_loses_nothing_and_goes_on() {
    const KEYS: usize = 150;
    const ROUNDS: u64 = 8;
    let site = found();
    let data = site.data();
    let server = Server::start(site.serving(&data, ""));
    let name = |number: usize| format!("k{number}");
    for number in 0..KEYS {
        site.ok(&server, "carol", &["key", "create", &name(number)]);
    }
    for number in (0..KEYS).step_by(30) {
        encrypt(&site, &server, &name(number));
    }
    for round in 0..ROUNDS {
        site.ok(&server, "carol", &["key", "create", &format!("gone{round}")]);
    }
    server.ends();
    let before = handles(&data);
    for round in 0..ROUNDS {
        let mut server = Server::start(site.serving(&data, ""));
        destroy(&site, &server, &format!("gone{round}"));
        let (_keep, never) = mpsc::channel::<()>();
        let _time_passed = never.recv_timeout(Duration::from_millis(round * 60));
        if round == 4 {
            let output = holdfast(["root", "rotate", "--data", &text(&data)]).output().unwrap();
            assert_eq!(code(output.status), 0, "{}", stderr(&output));
        }
        server.kill();
        let checked = holdfast(["doctor", "--data", &text(&data), "--offline", "--deep"]).output().unwrap();
        assert!(checked.status.success(), "round {round}: {}", stderr(&checked));
    }
    let server = Server::start(site.serving(&data, ""));
    for number in (0..KEYS).step_by(30) {
        opens(&site, &server, &name(number));
    }
    // One that was due while another one was leaving waits for the next start, or a minute.
    until("the first ones are retired", || is_retired(&site, &server, "gone0"));
    server.ends();
    let server = Server::start(site.serving(&data, ""));
    let last = format!("gone{}", ROUNDS - 1);
    until("all are retired", || is_retired(&site, &server, &last));
    until("nothing of what was there is left", || handles(&data).is_disjoint(&before));
    for number in (0..KEYS).step_by(30) {
        opens(&site, &server, &name(number));
        site.ok(&server, "carol", &["key", "rotate", &name(number)]);
    }
    server.ends();
    for log in ["acme", "_gateway"] {
        let line = ["audit", "verify", &text(&data.join("audit").join(log))];
        let verified = holdfast(line).output().unwrap();
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
}
