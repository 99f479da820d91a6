//! `holdfast doctor --deep` on a directory that nobody serves: whatever was changed in it is found and named.

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

use common::{Dev, Server, Site, code, holdfast, stderr, stdout, text};
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The exit code, and what is wrong: part, place and remedy.
fn examined(data: &Path) -> (i32, Vec<(String, String, String)>) {
    let output = holdfast(["doctor", "--deep", "--json", "--data", &text(data)]).output().unwrap();
    let findings: Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let wrong = findings.as_array().unwrap().iter().filter(|finding| finding["verdict"] != "fine");
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let wrong = wrong
        .map(|finding| (word(finding, "what"), word(finding, "detail"), word(finding, "remedy")))
        .collect();
    (code(output.status), wrong)
}

#[track_caller]
fn is_sound(data: &Path) {
    assert_eq!(examined(data), (0, vec![]));
}

/// One thing is wrong, and this is said of it.
#[track_caller]
fn is_wrong(data: &Path, part: &str, said: &str) {
    let (exit, wrong) = examined(data);
    assert_eq!(exit, 6, "{wrong:?}");
    let [(what, detail, remedy)] = wrong.as_slice() else { panic!("{wrong:?}") };
    assert_eq!(what, part, "{wrong:?}");
    assert!(detail.contains(said) && !remedy.is_empty(), "{wrong:?}");
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

/// Where these bytes stand last in a file.
fn place_of(file: &Path, what: &[u8]) -> usize {
    let bytes = std::fs::read(file).unwrap();
    bytes.windows(what.len()).rposition(|window| window == what).unwrap()
}

fn only_file_below(dir: &Path) -> PathBuf {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let last = entries.pop().unwrap();
    if last.is_dir() { only_file_below(&last) } else { last }
}

/// The forms of the bundle that is not full, narrowest first: of earlier checkpoints, and of the present one.
fn forms_of_the_last_bundle(log: &Path) -> Vec<PathBuf> {
    let dir = log.join("tile/entries/000.p");
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut widths: Vec<u16> = entries.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    widths.sort_unstable();
    widths.into_iter().map(|width| dir.join(width.to_string())).collect()
}

#[test]
fn what_was_changed_in_a_directory_is_found_and_named() {
    let dev = Dev::start();
    let served = dev.run(&["doctor", "--deep", "--data", &text(&dev.data())]);
    assert!(stdout(&served).contains("in use by process"), "{}", stdout(&served));
    dev.ok(&["key", "create", "kek"]);
    let sealed = dev.file("plain", b"something");
    dev.ok(&["encrypt", "--raw", &sealed, "--key", "kek", "-o", "sealed"]);
    let data = dev.data();
    let database = data.join("state/holdfast.db");
    // The key's record as it is before it is suspended.
    let read = |connection: &Connection| {
        let row = "SELECT epoch, body, tag FROM record WHERE kind = 5";
        connection.query_row(row, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
        })
    };
    let older = read(&Connection::open(&database).unwrap()).unwrap();
    dev.ok(&["key", "suspend", "kek"]);
    let (wal, older_wal) = (data.join("wal"), dev.path("older"));
    std::fs::create_dir(&older_wal).unwrap();
    for segment in std::fs::read_dir(&wal).unwrap().map(Result::unwrap) {
        std::fs::copy(segment.path(), older_wal.join(segment.file_name())).unwrap();
    }
    // Which changes nothing of the state.
    dev.ok(&["key", "show", "kek"]);
    let newer_wal = dev.path("newer");
    let Dev { dir: _dir, server, environment: _ } = dev;
    server.ends();
    is_sound(&data);
    std::fs::rename(&wal, &newer_wal).unwrap();
    std::fs::rename(&older_wal, &wal).unwrap();
    is_wrong(&data, "log", "the write-ahead file knows only");
    std::fs::rename(&wal, &older_wal).unwrap();
    std::fs::rename(&newer_wal, &wal).unwrap();
    is_sound(&data);

    let log = data.join("audit/dev");
    let entries = only_file_below(&log.join("tile/entries"));
    let tile = only_file_below(&log.join("tile/0"));
    let segment = data.join("wal/0000000000000000.wal");
    // As it is noted when a segment is given back, which takes more than what is written here.
    let known = data.join("log.known");
    let note = |entries: u64| {
        std::fs::write(&known, format!("holdfast/log-known/v1\nlog dev {entries}\nend\n")).unwrap();
    };
    let entries_of_log = |log: &Path| -> u64 {
        let checkpoint = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        checkpoint.lines().nth(1).unwrap().parse().unwrap()
    };
    note(entries_of_log(&log) + 1);
    is_wrong(&data, "log", &format!("knows of {}", entries_of_log(&log) + 1));
    note(entries_of_log(&log));
    is_sound(&data);
    for (part, file, at) in [
        ("root key", data.join("root.key"), 30),
        // Somewhere in the key's own row, or in the index over it.
        ("state", database.clone(), place_of(&database, b"kek")),
        ("write-ahead file", segment, 200),
        ("log", log.join("checkpoint"), 5),
        ("log", log.join("log.vkey"), 60),
        ("log", entries, 100),
        ("log", tile, 40),
        ("log", known.clone(), 23),
    ] {
        let place = text(&file);
        // A key that is another one is noticed by what it does not fit.
        let said = if part == "root key" { "root.key" } else { &place };
        flip(&file, at);
        if part == "root key" || part == "state" {
            let (exit, wrong) = examined(&data);
            assert!(
                exit != 0 && !wrong.is_empty() && wrong.iter().all(|wrong| !wrong.2.is_empty()),
                "{part}"
            );
        } else {
            is_wrong(&data, part, said);
        }
        flip(&file, at);
        is_sound(&data);
    }

    let spoilt = |sql: &str, undo: &str| {
        let connection = Connection::open(&database).unwrap();
        connection.execute_batch("CREATE TABLE saved AS SELECT * FROM record").unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1);
        drop(connection);
        is_wrong(&data, "state", undo);
        let connection = Connection::open(&database).unwrap();
        connection
            .execute_batch("DELETE FROM record; INSERT INTO record SELECT * FROM saved; DROP TABLE saved")
            .unwrap();
        drop(connection);
        is_sound(&data);
    };
    spoilt(
        "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), '1', '2') AS BLOB) WHERE kind = 5",
        "row `key ",
    );
    spoilt(
        "DELETE FROM record WHERE kind = 2 AND row = (SELECT min(row) FROM record WHERE kind = 2)",
        "row `all`",
    );
    // The whole row as it once was, with the tag that fits it: only the digest of all rows can tell.
    let connection = Connection::open(&database).unwrap();
    let (epoch, body, tag) = older;
    let put = "UPDATE record SET epoch = ?1, body = ?2, tag = ?3 WHERE kind = 5";
    assert_eq!(connection.execute(put, rusqlite::params![epoch, body, tag]).unwrap(), 1);
    drop(connection);
    is_wrong(&data, "state", "row `all`");

    std::fs::remove_file(data.join("instance.toml")).unwrap();
    assert_eq!(examined(&data).0, 5);
}

impl Site {
    /// What serves it and begins to read everything at once.
    fn reading(&self) -> Command {
        self.serving(&self.data(), "[scrub]\nfirst_after_seconds = 0\n")
    }

    /// The status once this is among its notices.
    fn status_with(&self, server: &Server, notice: &str) -> Value {
        let began = std::time::Instant::now();
        loop {
            // Of a gateway that is not ready the exit code says so.
            let output = self.run(server, "oscar", &["status", "--json"]);
            let status: Value =
                serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
            if status["notices"].to_string().contains(notice) {
                return status;
            }
            assert!(began.elapsed().as_secs() < 60, "{status}");
        }
    }
}

#[test]
fn a_serving_gateway_finds_damage_by_itself_and_is_unready_only_for_the_state_s() {
    let site = Site::found();
    let server = Server::start(site.reading());
    site.ok(&server, "carol", &["key", "create", "kek"]);
    let said = site.status_with(&server, "root key lies in");
    assert!(said["parts"].to_string().contains("MiB free"), "{said}");
    server.ends();
    let server = Server::start(site.reading());
    site.ok(&server, "carol", &["key", "show", "kek"]);
    server.ends();
    let forms = forms_of_the_last_bundle(&site.data().join("audit/acme"));
    let [entries, .., newest] = forms.as_slice() else { panic!("{forms:?}") };
    // What the log goes on from is looked at by the start itself.
    flip(newest, 100);
    let refused = site.reading().output().unwrap();
    let said = stderr(&refused);
    assert_ne!(code(refused.status), 0);
    assert!(said.contains(&text(newest)) && said.contains("docs/operate/damage.md"), "{said}");
    flip(newest, 100);
    flip(entries, 100);
    let server = Server::start(site.reading());
    let status = site.status_with(&server, "damage was found");
    assert!(status["notices"].to_string().contains(&text(entries)), "{status}");
    assert_eq!(status["ready"], true, "{status}");
    let log = server.ends();
    assert!(log.contains("damage was found") && log.contains(&text(entries)), "{log}");
    flip(entries, 100);

    let connection = Connection::open(site.data().join("state/holdfast.db")).unwrap();
    assert_eq!(connection.execute("UPDATE record SET tag = zeroblob(32) WHERE kind = 6", []).unwrap(), 1);
    drop(connection);
    let server = Server::start(site.reading());
    let status = site.status_with(&server, "damage was found");
    assert!(status["notices"].to_string().contains("row `version "), "{status}");
    assert_eq!(status["ready"], false, "{status}");
}
