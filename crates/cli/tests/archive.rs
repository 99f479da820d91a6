//! A key that is put away: its custodians and the gateway together bring it back, and neither alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::faketime::{elsewhere, hurried};
use common::wait::until;
use common::{Server, Site, code, log, stderr, text, tool};
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

/// A day passes for the calendar and for the gateway, which counts each hour that it was up.
#[test]
fn a_key_that_is_destroyed_while_it_is_away_comes_back_from_no_copy_of_its_archive() {
    const HOURS: usize = 24;
    if !tool("faketime") {
        return;
    }
    let (site, settings, server) = found();
    server.ends();
    let settings =
        settings.replace("[backup]\n", "[destruction]\nwaiting_days = 1\n[backup]\nkeep_days = 90\n");
    let serving = || site.serving(&site.data(), &settings);
    let back = [&["key", "unarchive", FILE][..], &TWO].concat();

    let server = Server::start(serving());
    // Its rotation shows when what is due has been looked at.
    site.ok(&server, "carol", &["key", "create", "other"]);
    site.ok(&server, "carol", &["key", "schedule", "other", "--every", "1d"]);
    site.ok(&server, "carol", &["key", "deactivate", "kek"]);
    let backup = site.json(&server, "oscar", &["backup"]);
    let made = site.json(&server, "carol", &["key", "archive", "kek", "--to", FILE]);
    site.ok(&server, "carol", &[&["key", "archived", FILE][..], &TWO].concat());
    site.ok(&server, "carol", &["key", "destroy", "kek", "--confirm", "kek"]);
    is_refused(&site, &server, "carol", &back, (5, "waits to be destroyed"));
    server.ends();

    // The calendar alone destroys nothing.
    let two_days_later = || elsewhere(serving(), "+2d");
    let server = Server::start(two_days_later());
    let metrics = |server: &Server| {
        let mut said = None;
        until("it answers", || {
            said = server.try_admin("/metrics").ok();
            said.is_some()
        });
        said.unwrap()
    };
    let waits = |server: &Server| metrics(server).contains("holdfast_keys_to_destroy 1");
    let rotated = || site.json(&server, "carol", &["key", "show", "other"])["newest_version"] == 2;
    until("what is due by the calendar is done", rotated);
    assert!(waits(&server));
    is_refused(&site, &server, "carol", &back, (5, "waits to be destroyed"));
    server.ends();

    let hours = || {
        let events = log::closing(&site.data().join("audit/_gateway")).into_iter();
        events.filter(|event| event["action"] == "count-uptime" && event["outcome"] == "success").count()
    };
    let entries = |server: &Server| {
        let metrics = metrics(server);
        let count = metrics.lines().find_map(|line| line.strip_prefix("holdfast_log_entries "));
        count.unwrap().parse::<usize>().unwrap()
    };
    while hours() < HOURS {
        let server = Server::start(hurried(serving(), 20_000));
        let before = entries(&server);
        until("hours are counted", || entries(&server) > before + 6 * HOURS);
        assert!(waits(&server), "nor does a gateway that was up, by a clock that nobody has confirmed");
        // How long it waits for connections to end is hurried as well.
        let _ended = server.stop();
    }

    let server = Server::start(two_days_later());
    // To the gateway the hurry was a clock that jumped.
    assert_eq!(show(&site, &server)["state"], "suspended");
    site.ok(&server, "oscar", &["clock", "confirm"]);
    until("it is destroyed", || show(&site, &server)["state"] == "destroyed");
    let shown = show(&site, &server);
    let archive = &shown["archive"];
    for member in ["id", "sha256", "expires"] {
        assert!(archive[member].is_string() && archive[member] == made["archive"][member], "{shown}");
    }
    assert_eq!((&made["archive"]["opens"], &archive["opens"]), (&true.into(), &false.into()));
    assert_eq!((&shown["held_by"][0]["name"], &shown["held_by"][1]), (&backup["file"], &Value::Null));
    is_refused(&site, &server, "carol", &back, (5, "is destroyed, and its archive opens no more"));
    is_refused(&site, &server, "carol", &back, (5, "nothing brings it back but a backup from before"));
    // What opened it lay under a sealing key that is left nowhere.
    until("all that it lay under is retired", || {
        let under = show(&site, &server)["sealed_under"].as_array().unwrap().clone();
        under.len() == 2 && under.iter().all(|key| key["state"] == "retired")
    });
    let search =
        ["audit", "search", "--key", "kek", "--action", "complete-destruction", "--outcome", "success"];
    assert!(site.json(&server, "carol", &search)["subject"].as_str().unwrap().starts_with("ordered "));
    // Nor does a key of the same name take it.
    site.ok(&server, "carol", &["key", "create", "kek"]);
    is_refused(&site, &server, "carol", &back, (5, "is not archived"));
    server.ends();
}
