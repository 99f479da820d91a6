//! A new key of a gateway whose backups have custodians is put into use when they have opened a backup that holds it.

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

use common::{Server, Site, code, stderr, text, wait};
use serde_json::Value;

/// Takes a backup, and has two custodians open it.
fn back_up(site: &Site, server: &Server) {
    let told = site.json(server, "oscar", &["backup"]);
    let file = text(&site.path("backups").join(told["file"].as_str().unwrap()));
    let two = ["--identity", "alice.key", "--identity", "bob.key"];
    site.ok(server, "oscar", &[&["backup", "verify", &file, "--record"][..], &two].concat());
}

#[test]
fn a_key_waits_for_its_custodians_and_so_does_each_version() {
    let site = Site::found();
    let settings = site.backups_for(&["alice", "bob"]).replace("[keys]\nactivate = \"at-once\"\n", "");
    let server = Server::start(site.serving(&site.data(), &settings));
    let show = |server: &Server| site.json(server, "carol", &["key", "show", "k"]);
    let current = |key: &Value| key["current_version"].as_u64().or(key["newest_version"].as_u64()).unwrap();

    let made = site.run(&server, "carol", &["key", "create", "k"]);
    assert_eq!(code(made.status), 0, "{}", stderr(&made));
    assert!(stderr(&made).contains("put into use when a verified backup holds it"), "{}", stderr(&made));
    let key = show(&server);
    assert_eq!((&key["state"], &key["waits_for_backup"]), (&"pre-activation".into(), &true.into()), "{key}");
    let refused = site.run(&server, "carol", &["key", "activate", "k"]);
    assert_eq!(code(refused.status), 5, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--unprotected"), "{}", stderr(&refused));
    let doctor = site.ok(&server, "carol", &["doctor"]);
    assert!(
        doctor.contains("1 of 1 wait to be put into use until a verified backup holds them: k"),
        "{doctor}"
    );
    let status = site.ok(&server, "oscar", &["status", "--json"]);
    assert!(status.contains("1 keys have a newest version that waits"), "{status}");

    back_up(&site, &server);
    wait::until("it is put into use by itself", || show(&server)["state"] == "active");
    assert_eq!(show(&server)["waits_for_backup"], Value::Null);
    let search = ["audit", "search", "--action", "activate-key", "--outcome", "success"];
    let event = site.json(&server, "carol", &search);
    assert_eq!((&event["subject"], &event["key"]["version"]), (&"protected".into(), &1.into()), "{event}");

    // New work stays where it is until the new version is protected, across a restart too.
    site.ok(&server, "carol", &["key", "rotate", "k"]);
    let key = show(&server);
    assert_eq!(
        (current(&key), &key["newest_version"], &key["state"]),
        (1, &2.into(), &"active".into()),
        "{key}"
    );
    server.ends();
    let server = Server::start(site.serving(&site.data(), &settings));
    back_up(&site, &server);
    wait::until("its version is put into use by itself", || current(&show(&server)) == 2);

    // By somebody's own word, which stands in the log.
    site.ok(&server, "carol", &["key", "rotate", "k"]);
    site.ok(&server, "carol", &["key", "activate", "k", "--unprotected"]);
    assert_eq!(current(&show(&server)), 3);
    let events = site.ok(&server, "carol", &["audit", "search", "--action", "activate-key", "--json"]);
    assert!(events.contains("\"subject\":\"unprotected\""), "{events}");
    server.ends();

    // Whoever wants to have keys at once says so.
    let settings = format!("{settings}[keys]\nactivate = \"at-once\"\n");
    let server = Server::start(site.serving(&site.data(), &settings));
    assert_eq!(site.json(&server, "carol", &["key", "create", "now"])["state"], "active");
}
