//! A key that is put away: its custodians and the gateway together bring it back, and neither alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::wait::until;
use common::{Server, Site, code, stderr, text};
use serde_json::Value;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

const POLICY: &str = r#"
@id("custodians") permit (principal, action, resource) when { principal.kind == "custodian" };
@id("app") permit (principal == Holdfast::Caller::"app", action in Holdfast::Action::"use", resource);
"#;
const FILE: &str = "kek.archive";
const TWO: [&str; 4] = ["--identity", "alice.key", "--identity", "bob.key"];

/// A gateway whose backups have two custodians, with a deactivated key and something under it.
fn found() -> (Site, String, Server) {
    let site = Site::found();
    let settings = site.backups_for(&["alice", "bob"]);
    let server = Server::start(site.serving(&site.data(), &settings));
    site.ok(&server, "carol", &["key", "create", "kek"]);
    site.ok(&server, "carol", &["caller", "put", "app", "--issue", &text(&site.path("credentials"))]);
    std::fs::write(site.path("policy.cedar"), POLICY).unwrap();
    site.ok(&server, "carol", &["policy", "set", "policy.cedar", "--expected", "1"]);
    std::fs::write(site.path("record"), "payroll").unwrap();
    site.ok(&server, "app", &["encrypt", "--key", "kek", "record", "-o", "record.age"]);
    (site, settings, server)
}

fn opens(site: &Site, server: &Server) {
    site.ok(server, "app", &["decrypt", "record.age", "--force", "-o", "opened"]);
    assert_eq!(std::fs::read_to_string(site.path("opened")).unwrap(), "payroll");
}

fn is_refused(site: &Site, server: &Server, who: &str, line: &[&str], (ends, words): (i32, &str)) {
    let refused = site.run(server, who, line);
    assert_eq!(code(refused.status), ends, "{line:?}: {}", stderr(&refused));
    assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
}

fn show(site: &Site, server: &Server) -> Value {
    site.json(server, "carol", &["key", "show", "kek"])
}

/// The handle of the key's one version, wherever it lies in the state's files.
fn lies(site: &Site, handle: &str) -> bool {
    let files = std::fs::read_dir(site.data().join("state")).unwrap();
    let mut contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    contents.any(|content| content.windows(handle.len()).any(|window| window == handle.as_bytes()))
}

/// What the state's database says the versions are.
fn handles(site: &Site) -> Vec<String> {
    let file = rusqlite::Connection::open(site.data().join("state/holdfast.db")).unwrap();
    let mut rows = file.prepare("SELECT body FROM record").unwrap();
    let bodies = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let bodies = bodies.filter_map(|body| serde_json::from_slice::<Value>(&body.unwrap()).ok());
    let versions = bodies.filter(|body| body["commitment"].is_string());
    versions.map(|body| body["handle"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn it_takes_the_custodians_and_the_gateway_and_the_disk_has_nothing_of_it_meanwhile() {
    let (site, settings, server) = found();
    let line = ["key", "archive", "kek", "--to", FILE];
    is_refused(&site, &server, "carol", &line, (5, "only a deactivated key is archived"));
    assert!(!site.path(FILE).exists(), "nothing is left of it");
    site.ok(&server, "carol", &["key", "deactivate", "kek"]);
    is_refused(&site, &server, "app", &line, (3, ""));
    let made = site.json(&server, "carol", &line);
    assert_eq!((&made["archive"]["opens"], &made["archive"]["stored"]), (&true.into(), &Value::Null));
    let examined = || site.ok(&server, "carol", &["doctor"]);
    assert!(examined().contains("1 of 1 are in no verified backup: kek"), "{}", examined());
    opens(&site, &server);
    let bundle = std::fs::read(site.path(FILE)).unwrap();
    assert!(!bundle.windows(3).any(|window| window == b"kek"), "nothing says which key it is");
    is_refused(&site, &server, "carol", &line, (1, ""));
    assert_eq!(std::fs::read(site.path(FILE)).unwrap(), bundle, "no file is replaced");

    // One custodian alone, somebody else, and a backup that is none.
    is_refused(&site, &server, "carol", &["key", "archived", FILE, "--identity", "alice.key"], (1, "1 of 2"));
    let backup = site.json(&server, "oscar", &["backup"])["file"].as_str().unwrap().to_owned();
    let backup = text(&site.path("backups").join(backup));
    let line = [&["key", "archived", &backup][..], &TWO].concat();
    is_refused(&site, &server, "carol", &line, (6, "no archive of a key"));
    server.ends();
    let [handle] = &handles(&site)[..] else { panic!("one version") };
    assert!(lies(&site, handle));

    let server = Server::start(site.serving(&site.data(), &settings));
    let shown = site.json(&server, "carol", &[&["key", "archived", FILE][..], &TWO].concat());
    assert!(shown["archive"]["stored"].is_string() && shown["state"] == "deactivated", "{shown}");
    let examined = site.ok(&server, "carol", &["doctor"]);
    assert!(shown["protected"] == false && examined.contains("none of them unprotected"), "{examined}");
    is_refused(&site, &server, "app", &["decrypt", "record.age", "-o", "never"], (5, "is archived"));
    until("what it lay under is retired", || show(&site, &server)["sealed_under"][0]["state"] == "retired");
    until("nothing of it is on the disk", || !lies(&site, handle));
    server.ends();
    assert_eq!(handles(&site), [""]);
    let checked = common::holdfast(["doctor", "--data", &text(&site.data()), "--offline", "--deep"]).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));

    // Another root key changes nothing about it.
    let server = Server::start(site.serving(&site.data(), &settings));
    let output = common::holdfast(["root", "rotate", "--data", &text(&site.data())]).output().unwrap();
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    let back = [&["key", "unarchive", FILE][..], &TWO].concat();
    let shown = site.json(&server, "carol", &back);
    assert_eq!((&shown["archive"], &shown["state"]), (&Value::Null, &"deactivated".into()), "{shown}");
    opens(&site, &server);
    is_refused(&site, &server, "carol", &back, (5, "is not archived"));
    server.ends();

    // Another gateway has nothing that opens it.
    let (other, _, server) = found();
    std::fs::copy(site.path(FILE), other.path(FILE)).unwrap();
    for name in ["alice.key", "bob.key"] {
        std::fs::copy(site.path(name), other.path(name)).unwrap();
    }
    other.ok(&server, "carol", &["key", "deactivate", "kek"]);
    is_refused(&other, &server, "carol", &back, (5, "is not archived"));
    server.ends();
}

#[test]
fn wherever_it_is_killed_the_key_is_in_its_archive_or_in_the_state() {
    let (site, settings, server) = found();
    site.ok(&server, "carol", &["key", "deactivate", "kek"]);
    server.ends();
    let (away, back) =
        ([&["key", "archived", FILE][..], &TWO].concat(), [&["key", "unarchive", FILE][..], &TWO].concat());
    for round in 0..8_u64 {
        let mut server = Server::start(site.serving(&site.data(), &settings));
        let is_away = show(&site, &server)["archive"]["stored"].is_string();
        if !is_away {
            site.ok(&server, "carol", &["key", "archive", "kek", "--to", FILE, "--force"]);
        }
        let mut ordered = site.to_run(&server, "carol", if is_away { &back } else { &away });
        let mut ordered = ordered.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (_keep, never) = mpsc::channel::<()>();
        let _time_passed = never.recv_timeout(Duration::from_millis(20 + round * 15));
        server.kill();
        ordered.wait().unwrap();
        let server = Server::start(site.serving(&site.data(), &settings));
        match show(&site, &server)["archive"]["stored"].is_string() {
            true => is_refused(
                &site,
                &server,
                "app",
                &["decrypt", "record.age", "-o", "never"],
                (5, "is archived"),
            ),
            false => opens(&site, &server),
        }
        server.ends();
    }
    let server = Server::start(site.serving(&site.data(), &settings));
    if show(&site, &server)["archive"]["stored"].is_string() {
        site.ok(&server, "carol", &back);
    }
    opens(&site, &server);
    server.ends();
}
