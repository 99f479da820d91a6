//! A key's versions from the command line: back to an earlier one, and their end, with what a campaign found as evidence.

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

use common::{Dev, code, stderr};
use serde_json::{Value, json};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A line under the key's current version.
fn line(dev: &Dev, id: u32) -> String {
    let plain = dev.file("plain", format!("record {id}").as_bytes());
    let ciphertext = dev.ok(&["encrypt", "--raw", &plain, "--key", "k"]);
    format!("{}\n", json!({ "id": id, "ciphertext": ciphertext.trim() }))
}

fn states(dev: &Dev) -> Vec<String> {
    let versions = json_of(&dev.ok(&["key", "versions", "k", "--json"]));
    let state = |version: &Value| version["state"].as_str().unwrap().to_owned();
    versions.as_array().unwrap().iter().map(state).collect()
}

#[test]
fn a_version_ends_when_nothing_needs_it() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let (first, second) = (line(&dev, 1), line(&dev, 2));
    dev.ok(&["key", "rotate", "k"]);
    dev.file("in", format!("{first}{second}").as_bytes());
    dev.file("old", json_of(&first)["ciphertext"].as_str().unwrap().as_bytes());

    let retire = ["key", "deactivate", "k", "--version", "1"];
    assert!(dev.fails(&retire, 5).contains("holdfast key inventory k"));
    dev.ok(&["rewrap", "in", "--jsonl", "--key", "k", "--dry-run", "--report", "before"]);
    let key = json_of(&dev.ok(&["key", "inventory", "k", "--report", "before", "--json"]));
    assert_eq!(
        (&key["inventory"]["needed_versions"], &key["inventory"]["items"]),
        (&json!([1, 2]), &json!(2))
    );
    for line in [&retire[..], &[&retire[..], &["--without-inventory"]].concat()] {
        assert!(dev.fails(line, 5).contains("holdfast rewrap"));
    }
    // A report is not written over, and that is known before anything is done.
    let again = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--report", "before"];
    dev.fails(&again, 1);
    assert!(!dev.path("out.partial").exists() && !dev.path("out").exists());

    let line =
        ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--verify", "full", "--report", "moved"];
    dev.ok(&line);
    // The lines that were read lie where they lay.
    let key = json_of(&dev.ok(&["key", "inventory", "k", "--report", "moved", "--json"]));
    assert_eq!(key["inventory"]["needed_versions"], json!([1, 2]));
    assert!(dev.fails(&retire, 5).contains("still needed"));
    dev.ok(&["rewrap", "out", "--jsonl", "--key", "k", "--dry-run", "--verify", "full", "--report", "after"]);
    let key = json_of(&dev.ok(&["key", "inventory", "k", "--report", "after", "--json"]));
    assert_eq!(key["inventory"]["needed_versions"], json!([2]));
    // What both places need, if there are two.
    let both = ["key", "inventory", "k", "--report", "before", "--report", "after", "--json"];
    assert_eq!(json_of(&dev.ok(&both))["inventory"]["needed_versions"], json!([1, 2]));
    dev.fails(&["key", "inventory", "k", "--report", "in"], 2);
    dev.ok(&["key", "inventory", "k", "--report", "after"]);

    dev.fails(&["key", "destroy", "k", "--version", "1", "--confirm", "k"], 5);
    dev.ok(&retire);
    assert_eq!(states(&dev), ["deactivated", "active"]);
    assert_eq!(dev.ok(&["decrypt", "old", "--key", "k"]), "record 1", "it still opens");
    dev.ok(&["key", "activate", "k", "--version", "1"]);
    dev.ok(&retire);
    dev.fails(&["key", "destroy", "k", "--version", "1", "--confirm", "other"], 2);
    dev.ok(&["key", "destroy", "k", "--version", "1", "--confirm", "k"]);
    assert_eq!(states(&dev), ["destroyed", "active"]);
    assert!(dev.fails(&["decrypt", "old", "--key", "k"], 5).contains("version 1"));
    let again = ["rewrap", "out", "--jsonl", "--key", "k", "--dry-run", "--verify", "full", "--json"];
    assert_eq!(json_of(&dev.ok(&again))["verified"], json!(2));
    dev.fails(&["key", "deactivate", "k", "--version", "2"], 5);
    dev.fails(&["key", "deactivate", "k", "--without-inventory"], 2);
}

#[test]
fn new_work_goes_back_and_a_campaign_follows() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    dev.fails(&["key", "rollback", "k"], 5);
    let first = line(&dev, 1);
    dev.ok(&["key", "rotate", "k"]);
    let second = line(&dev, 2);
    let key = json_of(&dev.ok(&["key", "rollback", "k", "--json"]));
    assert_eq!((&key["newest_version"], &key["current_version"]), (&json!(2), &json!(1)));
    dev.file("in", format!("{first}{second}{}", line(&dev, 3)).as_bytes());
    let line = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--verify", "full", "--record"];
    assert!(dev.fails(&line, 2).contains("--dry-run --record"));
    assert!(!dev.path("out").exists() && !dev.path("out.partial").exists());
    let done = json_of(&dev.ok(&[&line[..line.len() - 1], &["--json"]].concat()));
    assert_eq!((&done["rewrapped"], &done["already_newest"]), (&json!(1), &json!(2)));
    assert_eq!((&done["keys"][0]["after"], &done["keys"][0]["needed"]), (&json!({ "1": 3 }), &json!([1, 2])));
    dev.ok(&["rewrap", "out", "--jsonl", "--key", "k", "--dry-run", "--record"]);
    // The version that was left is not needed, as the campaign has told the gateway itself.
    dev.ok(&["key", "deactivate", "k", "--version", "2"]);
    let events = dev.ok(&["audit", "search", "--action", "record-inventory", "--json"]);
    assert!(events.lines().any(|event| json_of(event)["subject"] == "3 items, needs version 1"), "{events}");

    // What cannot be read might need any version.
    dev.file("torn", b"{\"ciphertext\":\"SEZDAQ==\"}\n");
    let output = dev.run(&["rewrap", "torn", "--jsonl", "--key", "k", "--dry-run", "--record"]);
    assert_eq!(code(output.status), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("may need any version"), "{}", stderr(&output));
}

#[test]
fn a_report_says_nothing_of_what_came_after_its_beginning() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    dev.file("in", line(&dev, 1).as_bytes());
    dev.ok(&["rewrap", "in", "--jsonl", "--key", "k", "--dry-run", "--report", "stale"]);
    dev.ok(&["key", "rotate", "k"]);
    let second = line(&dev, 2);
    dev.ok(&["key", "rollback", "k"]);
    // New work is where it was, and something is under version 2 that the report does not know.
    assert!(dev.fails(&["key", "inventory", "k", "--report", "stale"], 5).contains("holdfast rewrap"));
    dev.fails(&["key", "deactivate", "k", "--version", "2"], 5);
    dev.file("all", format!("{}{second}", line(&dev, 1)).as_bytes());
    dev.ok(&["rewrap", "all", "--jsonl", "--key", "k", "--dry-run", "--record", "--report", "now"]);
    assert!(dev.fails(&["key", "deactivate", "k", "--version", "2"], 5).contains("still needed"));
    // One that does not say of when it is might be of any time.
    let mut report = json_of(&std::fs::read_to_string(dev.path("now")).unwrap());
    assert_eq!(report["keys"][0]["newest_version"], json!(2));
    report["keys"][0].as_object_mut().unwrap().remove("newest_version");
    dev.file("older", report.to_string().as_bytes());
    assert!(dev.fails(&["key", "inventory", "k", "--report", "older"], 5).contains("older Holdfast"));
}

#[test]
fn a_key_has_a_schedule_until_it_has_none() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let key = json_of(&dev.ok(&["key", "schedule", "k", "--every", "90d", "--json"]));
    assert_eq!(key["schedule"]["every_days"], json!(90));
    let due = key["schedule"]["due"].as_str().unwrap().to_owned();
    // A rotation by hand begins the period anew.
    let rotated = json_of(&dev.ok(&["key", "rotate", "k", "--json"]));
    assert!(rotated["schedule"]["due"].as_str().unwrap() > due.as_str(), "{rotated}");
    let key = json_of(&dev.ok(&["key", "schedule", "k", "--off", "--json"]));
    assert!(key.get("schedule").is_none());
    for wrong in [&["--every", "0d"][..], &["--every", "3651"], &[], &["--off", "--every", "1d"]] {
        dev.fails(&[&["key", "schedule", "k"], wrong].concat(), 2);
    }
}

#[test]
fn a_key_waits_to_be_destroyed_and_is_kept() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let destroy = ["key", "destroy", "k", "--confirm", "k", "--after", "30d"];
    assert!(dev.fails(&destroy, 5).contains("holdfast key deactivate k"));
    let sealed = line(&dev, 1);
    dev.file("sealed", json_of(&sealed)["ciphertext"].as_str().unwrap().as_bytes());
    dev.ok(&["key", "deactivate", "k"]);
    assert_eq!(dev.ok(&["decrypt", "sealed", "--key", "k"]), "record 1");
    let output = dev.run(&destroy);
    assert!(output.status.success() && text_of(&output.stdout).contains("suspended"), "{output:?}");
    let said = text_of(&output.stderr);
    assert!(
        said.contains("waits to be destroyed, until ") && said.contains("key cancel-destruction k"),
        "{said}"
    );

    let key = json_of(&dev.ok(&["key", "show", "k", "--json"]));
    let destruction = &key["destruction"];
    assert_eq!(
        (&destruction["after_days"], &destruction["state_before"]),
        (&json!(30), &json!("deactivated"))
    );
    let due = destruction["due"].as_str().unwrap();
    assert!(dev.ok(&["key", "list"]).contains(&format!("suspended, destroyed from {due} on")));
    assert_eq!(json_of(&dev.ok(&["key", "list", "--json"]))[0]["state"], "suspended");
    for line in [&["key", "resume", "k"][..], &["key", "rotate", "k"]] {
        dev.fails(line, 5);
    }
    let refused = dev.fails(&["decrypt", "sealed", "--key", "k"], 5);
    assert!(refused.contains("waits to be destroyed"), "{refused}");
    // A longer one is another order.
    dev.fails(&["key", "destroy", "k", "--confirm", "k", "--after", "31d"], 5);
    for wrong in [["--after", "366d"], ["--after", "soon"], ["--version", "1"]] {
        dev.fails(&[&destroy[..], &wrong].concat(), 2);
    }

    let key = json_of(&dev.ok(&["key", "cancel-destruction", "k", "--json"]));
    assert_eq!((&key["state"], key.get("destruction")), (&json!("deactivated"), None));
    assert_eq!(dev.ok(&["decrypt", "sealed", "--key", "k"]), "record 1");
    dev.fails(&["key", "cancel-destruction", "k"], 5);
    let events = dev.ok(&["audit", "search", "--key", "k", "--action", "destroy-key", "--json"]);
    assert!(events.lines().any(|event| json_of(event)["subject"] == "after 30 days"), "{events}");
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
