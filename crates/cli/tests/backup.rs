//! A gateway is lost and comes back: encrypted to stock age recipients, as another instance, with every key suspended and later stops kept.

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

use common::custodians::{Dialogue, identity};
use common::{Server, Site, closed, code, fixture, holdfast, stderr, stdout, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

/// Enough to open a backup.
const TWO: [&str; 4] = ["--identity", "bob.key", "--identity", "alice.key"];

/// A backup, enough identities, and these arguments.
fn with_two<'a>(file: &'a str, line: &[&'a str]) -> Vec<&'a str> {
    [file].into_iter().chain(TWO).chain(line.iter().copied()).collect()
}

impl Site {
    fn serve(&self, data: &Path, custodians: &[&str]) -> Server {
        let settings = format!("{}keep_days = 30\n", self.backups_for(custodians));
        Server::start(self.serving(data, &settings))
    }

    fn state(&self, server: &Server, key: &str) -> String {
        self.json(server, "carol", &["key", "show", key])["state"].as_str().unwrap().to_owned()
    }

    fn backup(&self, server: &Server) -> (PathBuf, Value) {
        let told = self.json(server, "oscar", &["backup"]);
        (self.path("backups").join(told["file"].as_str().unwrap()), told)
    }

    /// Registers an application that may use every key.
    fn register_application(&self, server: &Server) {
        let issue = ["caller", "put", "app", "--kind", "application", "--issue", "credentials"];
        self.ok(server, "carol", &issue);
        let policy = self.ok(server, "carol", &["policy", "show"]);
        let policy = format!(
            "{policy}\n@id(\"app\") permit (principal, action in Holdfast::Action::\"use\", resource) when {{ principal.kind == \"application\" }};\n"
        );
        std::fs::write(self.path("policy.cedar"), policy).unwrap();
        self.ok(server, "carol", &["policy", "set", "policy.cedar"]);
    }
}

fn restore(site: &Site, line: &[&str]) -> Output {
    holdfast(["restore"].iter().chain(line)).current_dir(site.dir.path()).output().unwrap()
}

/// It opens, and nobody has done anything wrong.
#[test]
fn a_backup_of_an_earlier_root_key_is_not_recorded_and_what_to_do_is_said() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob", "erin"]);
    let (file, _) = site.backup(&server);
    let changed = holdfast(["root", "rotate", "--data", &text(&site.data()), "--json"]).output().unwrap();
    assert!(stdout(&changed).contains("\"in_force\": true"), "{}", stdout(&changed));
    let recorded = |file: &Path| {
        let name = text(file);
        let verify = [&["backup", "verify", &name, "--record"][..], &TWO].concat();
        site.run(&server, "oscar", &verify)
    };
    let refused = recorded(&file);
    let said = stderr(&refused);
    assert!(code(refused.status) == 6 && said.contains("take a new backup and verify that"), "{said}");
    let (file, _) = site.backup(&server);
    assert_eq!(code(recorded(&file).status), 0);
}

#[test]
fn what_is_lost_comes_back_suspended_and_later_stops_are_kept() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob", "erin"]);
    site.register_application(&server);
    for key in ["a", "b", "c"] {
        let made = site.json(&server, "carol", &["key", "create", key]);
        assert_eq!(made["protected"], false, "{made}");
    }
    site.ok(&server, "carol", &["key", "create", "counted", "--algorithm", "aes-256-gcm"]);
    std::fs::write(site.path("plain"), "the payroll").unwrap();
    site.ok(&server, "app", &["encrypt", "--raw", "plain", "--key", "a", "-o", "sealed"]);

    let doctor = site.ok(&server, "carol", &["doctor"]);
    assert!(doctor.contains("4 of 4 are in no verified backup: a, b, c, counted"), "{doctor}");
    // Only who runs the gateway takes backups.
    assert_eq!(code(site.run(&server, "carol", &["backup"]).status), 4);
    let (file, told) = site.backup(&server);
    assert_eq!(site.json(&server, "carol", &["key", "show", "a"])["protected"], false, "not verified yet");
    let name = text(&file);
    let verify = [&["backup", "verify", &name, "--record"][..], &TWO].concat();
    let verified = site.json(&server, "oscar", &verify);
    assert_eq!(
        (&verified["sha256"], &verified["holds"]),
        (&told["sha256"], &"4 versions of 4 keys".into()),
        "{verified}"
    );
    assert_eq!(site.json(&server, "carol", &["key", "show", "a"])["protected"], true);
    site.ok(&server, "carol", &["key", "rotate", "b"]);
    let doctor = site.ok(&server, "carol", &["doctor"]);
    assert!(doctor.contains("1 of 4 are in no verified backup: b"), "{doctor}");
    // Its record names the file by its hash.
    let event =
        site.json(&server, "oscar", &["audit", "search", "--action", "back-up", "--outcome", "success"]);
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    assert_eq!(told["sha256"].as_str().unwrap(), stdout(&sum).split(' ').next().unwrap());
    assert_eq!(event["subject"], told["file"], "{event}");

    // What happens after it: stops, and keys that are nowhere else.
    site.ok(&server, "carol", &["key", "create", "young"]);
    site.ok(&server, "carol", &["key", "compromise", "b"]);
    site.ok(&server, "carol", &["caller", "suspend", "app"]);
    site.ok(&server, "carol", &["key", "suspend", "c"]);
    let ends = site.json(&server, "carol", &["key", "destroy", "c", "--confirm", "c", "--after", "9d"]);
    assert_eq!(ends["destruction"]["after_days"], 9, "{ends}");
    // Until then, and after it, the backup holds the key, for as long as it is kept.
    let held = site.json(&server, "carol", &["key", "show", "c"])["held_by"].clone();
    assert_eq!((&held[0]["name"], held.as_array().unwrap().len()), (&told["file"], 1), "{held}");
    assert!(held[0]["expires"].as_str().unwrap() > ends["destruction"]["due"].as_str().unwrap(), "{held}");
    site.ok(&server, "carol", &["audit", "mirror", "mirror"]);
    let instance = |data: &Path| std::fs::read_to_string(data.join("instance.toml")).unwrap();
    let before = instance(&site.data());
    server.ends();
    std::fs::remove_dir_all(site.data()).unwrap();

    let file = text(&file);
    let data = text(&site.data());
    // A stranger's identity opens nothing, and leaves nothing that is a gateway.
    identity(&site.path("stranger.key"));
    let refused = restore(&site, &[&file, "--identity", "stranger.key", "--data", "elsewhere"]);
    assert!(code(refused.status) == 1 && stderr(&refused).contains("opens no share"), "{}", stderr(&refused));
    let back = restore(&site, &with_two(&file, &["--data", &data, "--log", "mirror", "--json"]));
    assert_eq!(code(back.status), 0, "{}", stderr(&back));
    let summary: Value = serde_json::from_str(&stdout(&back)).unwrap();
    assert_eq!(
        (&summary["keys_suspended"], &summary["stops_given_again"]),
        (&2.into(), &4.into()),
        "{summary}"
    );
    assert_ne!(instance(&site.data()), before);
    let again = restore(&site, &with_two(&file, &["--data", &data]));
    assert!(code(again.status) == 1 && stderr(&again).contains("holds gateway"), "{}", stderr(&again));

    let server = site.serve(&site.data(), &["alice", "bob"]);
    assert_eq!(
        ["a", "b", "c"].map(|key| site.state(&server, key)),
        ["suspended", "compromised", "suspended"]
    );
    // The order is given again, as it was: the key waits anew.
    assert_eq!(site.json(&server, "carol", &["key", "show", "c"])["destruction"]["after_days"], 9);
    assert_eq!(code(site.run(&server, "carol", &["key", "show", "young"]).status), 5);
    assert_eq!(
        site.json(&server, "carol", &["key", "show", "a"])["protected"],
        true,
        "what came back was in the backup"
    );
    let callers = site.json(&server, "carol", &["caller", "list"]);
    assert!(callers.to_string().contains("\"suspended\":true"), "{callers}");
    site.ok(&server, "carol", &["caller", "resume", "app"]);
    let decrypt = ["decrypt", "sealed", "--key", "a", "-o", "opened"];
    assert_eq!(code(site.run(&server, "app", &decrypt).status), 5);
    site.ok(&server, "carol", &["key", "resume", "a"]);
    site.ok(&server, "app", &decrypt);
    assert_eq!(std::fs::read_to_string(site.path("opened")).unwrap(), "the payroll");

    // The new log begins with what it continues, and verifies.
    let mut entries = site.ok(&server, "carol", &["audit", "search", "--json"]);
    entries.truncate(entries.find('\n').unwrap());
    let first: Value = serde_json::from_str(&entries).unwrap();
    assert_eq!((&first["action"], &first["outcome"]), (&"restore".into(), &"intent".into()), "{first}");
    let kept = std::fs::read_to_string(site.path("mirror/checkpoint")).unwrap();
    let kept: Vec<_> = kept.lines().take(3).collect();
    assert_eq!(first["context"]["continues"].as_str().unwrap(), kept.join(" "));
    site.ok(&server, "carol", &["audit", "verify", "--mirror"]);
    let found = site.ok(&server, "carol", &["audit", "search", "--action", "compromise-key", "--json"]);
    assert!(found.contains("\"recovered\""), "{found}");

    // It can be lost again, and restarts like any other.
    let (second, _) = site.backup(&server);
    server.ends();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    assert_eq!(site.state(&server, "a"), "active");
    server.ends();
    let third = restore(&site, &with_two(&text(&second), &["--data", "third"]));
    assert_eq!(code(third.status), 0, "{}", stderr(&third));
    assert!(stderr(&third).contains("WARNING: no copy of a log was given"), "{}", stderr(&third));
    let server = site.serve(&site.path("third"), &[]);
    assert_eq!(site.state(&server, "a"), "suspended");
    // Without custodians there are no backups.
    let refused = site.run(&server, "oscar", &["backup"]);
    assert!(
        code(refused.status) == 2 && stderr(&refused).contains("backup.custodians"),
        "{}",
        stderr(&refused)
    );
}

/// The clocks of an order to destroy begin anew, and an order that was taken back is taken back again if a copy of the log shows that.
#[test]
fn an_order_to_destroy_that_was_taken_back_does_not_come_back_unnoticed() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    site.ok(&server, "carol", &["key", "deactivate", "a"]);
    let ends = site.json(&server, "carol", &["key", "destroy", "a", "--confirm", "a", "--after", "9d"]);
    let (file, _) = site.backup(&server);
    site.ok(&server, "carol", &["key", "cancel-destruction", "a"]);
    site.ok(&server, "carol", &["audit", "mirror", "mirror"]);
    server.ends();
    let back = |data: &str, more: &[&str]| {
        let line = [&["--data", data, "--json"], more].concat();
        let output = restore(&site, &with_two(&text(&file), &line));
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let told = ["wait_to_be_destroyed", "destructions_cancelled", "keys_suspended"];
        (told.map(|field| summary[field].clone()), stderr(&output))
    };
    let (told, said) = back("blind", &[]);
    assert_eq!(told, [serde_json::json!(["acme/a"]), 0.into(), 0.into()]);
    assert!(said.contains("holdfast key cancel-destruction NAME"), "{said}");
    let (told, said) = back("told", &["--log", "mirror"]);
    assert_eq!(told, [serde_json::json!([]), 1.into(), 1.into()]);
    assert!(!said.contains("cancel-destruction"), "{said}");
    let server = site.serve(&site.path("blind"), &[]);
    let due = |shown: &Value| shown["destruction"]["due"].as_str().unwrap().to_owned();
    let shown = site.json(&server, "carol", &["key", "show", "a"]);
    assert!(due(&shown) > due(&ends), "{shown} {ends}");
    site.ok(&server, "carol", &["key", "cancel-destruction", "a"]);
    assert_eq!(site.state(&server, "a"), "suspended");
    server.ends();
    let server = site.serve(&site.path("told"), &[]);
    assert_eq!(site.state(&server, "a"), "suspended");
    site.ok(&server, "carol", &["key", "resume", "a"]);
    assert_eq!(site.state(&server, "a"), "deactivated");
}

#[test]
fn copies_of_one_log_are_held_against_each_other_and_the_largest_is_continued() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let (file, _) = site.backup(&server);
    let file = text(&file);
    site.ok(&server, "carol", &["audit", "mirror", "smaller"]);
    server.ends();
    let copied = Command::new("cp").arg("-a").args([site.data(), site.path("twin")]).status().unwrap();
    assert!(copied.success());
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "suspend", "a"]);
    site.ok(&server, "carol", &["audit", "mirror", "larger"]);
    server.ends();
    let kept = std::fs::read_to_string(site.path("larger/checkpoint")).unwrap();
    let kept: Vec<_> = kept.lines().take(3).collect();
    for (data, logs) in [("one", ["smaller", "larger"]), ("two", ["larger", "smaller"])] {
        let line = ["--data", data, "--json", "--log", logs[0], "--log", logs[1]];
        let output = restore(&site, &with_two(&file, &line));
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let acme = summary["logs"].as_array().unwrap().iter().find(|log| log["tenant"] == "acme").unwrap();
        assert_eq!(acme["continues"].as_str().unwrap(), kept.join(" "), "{summary}");
        assert_eq!(summary["stops_given_again"], 1, "{summary}");
    }
    // Two gateways with one key have signed two histories, each of which continues the backup.
    let server = site.serve(&site.path("twin"), &["alice", "bob"]);
    for key in ["b", "c", "d"] {
        site.ok(&server, "carol", &["key", "create", key]);
    }
    site.ok(&server, "carol", &["audit", "mirror", "other"]);
    server.ends();
    for (data, logs) in [("three", ["larger", "other"]), ("four", ["other", "larger"])] {
        let line = ["--data", data, "--log", logs[0], "--log", logs[1]];
        let output = restore(&site, &with_two(&file, &line));
        assert_eq!(code(output.status), 6, "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("do not agree") && said.contains("keep both as evidence"), "{said}");
        assert!(!site.path(data).join("instance.toml").exists(), "what was refused is no gateway");
    }
}

#[test]
fn damaged_and_foreign_backups_are_refused() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let (file, _) = site.backup(&server);
    site.ok(&server, "carol", &["audit", "mirror", "older"]);
    server.ends();
    let whole = std::fs::read(&file).unwrap();
    let mut number = 0;
    let mut refused = |bytes: &[u8], more: &[&str]| {
        number += 1;
        std::fs::write(site.path("bad"), bytes).unwrap();
        let data = format!("data-{number}");
        let line: Vec<_> = ["bad", "--data", &data].iter().chain(&TWO).chain(more).copied().collect();
        let output = restore(&site, &line);
        assert!([1, 6].contains(&code(output.status)), "{}", stderr(&output));
        assert!(stderr(&output).contains("help: "), "{}", stderr(&output));
        assert!(!site.path(&data).join("instance.toml").exists(), "what was refused is no gateway");
        stderr(&output)
    };
    let at = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    refused(&flipped, &[]);
    refused(&whole[..at], &[]);
    refused(&whole[..whole.len() - 1], &[]);
    refused(b"", &[]);
    refused(b"not a backup at all, but long enough to look like something", &[]);
    // A copy of another gateway's log, and one that was cut back behind the backup.
    let stranger = Site::found();
    let server = stranger.serve(&stranger.data(), &[]);
    stranger.ok(&server, "carol", &["audit", "mirror", "theirs"]);
    let theirs = text(&stranger.path("theirs"));
    assert!(refused(&whole, &["--log", &theirs]).contains("does not know"));
    let checkpoint = site.path("older/checkpoint");
    let text_of = std::fs::read_to_string(&checkpoint).unwrap();
    std::fs::write(&checkpoint, text_of.replacen('\n', "\n1", 1)).unwrap();
    assert!(refused(&whole, &["--log", "older"]).contains("does not continue"));
    // The same backup, whole, still restores.
    let fine = restore(&site, &with_two(&text(&file), &["--data", "fine"]));
    assert_eq!(code(fine.status), 0, "{}", stderr(&fine));
}

/// What a log has recorded says which file it was: another one does not take its place, however well it opens.
#[test]
fn a_backup_that_the_log_has_not_recorded_is_refused() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let (file, told) = site.backup(&server);
    site.ok(&server, "oscar", &["audit", "mirror", "gateway"]);
    site.ok(&server, "carol", &["audit", "mirror", "acme"]);
    server.ends();
    let file = text(&file);
    // It opens as the first one does: when it was taken stands in clear, and nothing binds that.
    let mut other = std::fs::read(&file).unwrap();
    let at = other.windows(9).position(|window| window == b"taken = \"").unwrap() + 9;
    other[at] = b'1';
    std::fs::write(site.path("other"), other).unwrap();
    let refused = |file: &str, data: &str, log: &str| {
        let output = restore(&site, &with_two(file, &["--data", data, "--log", "acme", "--log", log]));
        assert_eq!(code(output.status), 6, "{}", stderr(&output));
        assert!(stderr(&output).contains("has recorded no backup with the SHA-256"), "{}", stderr(&output));
        assert!(stderr(&output).contains("--unrecorded"), "{}", stderr(&output));
        assert!(!site.path(data).join("instance.toml").exists(), "what was refused is no gateway");
        assert!(!site.path(data).join("root.key").exists(), "nor has it a root key");
    };
    refused("other", "other.data", "gateway");
    let summary = |line: &[&str]| {
        let output = restore(&site, &[line, &["--json"]].concat());
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
        (summary["recorded"].clone(), summary["sha256"].clone(), stderr(&output))
    };
    // The file itself, under whatever name, from wherever it comes.
    std::fs::copy(&file, site.path("renamed")).unwrap();
    let (recorded, sha256, said) = summary(&with_two("renamed", &["--data", "one", "--log", "gateway"]));
    assert_eq!((&recorded, &sha256), (&true.into(), &told["sha256"]), "{said}");
    assert!(!said.contains("nobody has compared"), "{said}");
    // Somebody takes it upon themselves; nobody could know.
    let line = with_two("other", &["--data", "two", "--log", "gateway", "--unrecorded"]);
    let (recorded, _, said) = summary(&line);
    assert!(recorded.is_null() && said.contains("nobody has compared"), "{said}");
    let (recorded, _, said) = summary(&with_two(&file, &["--data", "three", "--log", "acme"]));
    assert!(recorded.is_null() && said.contains("nobody has compared"), "{said}");
}

#[test]
fn a_backup_protects_when_somebody_has_opened_it_and_nobody_else_says_so() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let (file, told) = site.backup(&server);
    let file = text(&file);
    let protected = || site.json(&server, "carol", &["key", "show", "a"])["protected"].clone();
    // On a machine that knows no gateway: two identities, and a line for whoever operates it.
    let verify = [&["backup", "verify", &file, "--json"][..], &TWO].concat();
    let output = holdfast(&verify).current_dir(site.dir.path()).output().unwrap();
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    let verified: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let line = verified["verified"].as_str().unwrap();
    assert!(line.contains(told["sha256"].as_str().unwrap()), "{verified}");
    assert_eq!(verified["without_the_logs_of"], serde_json::json!(["_gateway", "acme"]));
    assert_eq!(protected(), false);
    // A made-up proof, a custodian of a tenant, no proof at all.
    let other = line.rsplit_once(':').map(|(said, _)| format!("{said}:{}", "0".repeat(64))).unwrap();
    for (who, line, ends) in [("oscar", other.as_str(), 6), ("carol", line, 4), ("oscar", "no line", 1)] {
        let refused = site.run(&server, who, &["backup", "verified", line]);
        assert_eq!(code(refused.status), ends, "{who} {line}: {}", stderr(&refused));
    }
    assert_eq!(protected(), false);
    site.ok(&server, "oscar", &["backup", "verified", line]);
    assert_eq!(protected(), true);
    let search = ["audit", "search", "--action", "verify-backup", "--outcome", "success"];
    let event = site.json(&server, "oscar", &search);
    assert_eq!(event["input"]["sha256"], told["sha256"], "{event}");
    // What is damaged is not verified, whoever asks.
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(site.path("bad.tar"), bytes).unwrap();
    let verify = [&["backup", "verify", "bad.tar", "--record"][..], &TWO].concat();
    let refused = site.run(&server, "oscar", &verify);
    assert_eq!(code(refused.status), 6, "{}", stderr(&refused));
    assert!(!stdout(&refused).contains("holdfast-verified"), "{}", stdout(&refused));
}

/// Keys wait for the record, and nobody for what is printed.
#[test]
fn what_is_to_be_recorded_is_recorded_whoever_reads_what_is_printed() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let file = text(&site.backup(&server).0);
    let verify = [&["backup", "verify", &file, "--record"][..], &TWO].concat();
    let output = site.to_run(&server, "oscar", &verify).stdout(closed()).output().unwrap();
    let said = stderr(&output);
    assert!(code(output.status) == 1 && said.contains("cannot write to stdout"), "{said}");
    assert!(said.contains("recorded: what it holds is protected"), "{said}");
    assert_eq!(site.json(&server, "carol", &["key", "show", "a"])["protected"], true);
    // Who is not let in has the line nevertheless: somebody else can record it.
    let refused = site.run(&server, "carol", &verify);
    assert_eq!(code(refused.status), 4, "{}", stderr(&refused));
    assert!(stdout(&refused).contains("holdfast-verified"), "{}", stdout(&refused));
}

/// Several gateways may write to one place, and what a kill leaves there is nothing that its finder can read.
#[test]
fn where_backups_go_nothing_lies_in_clear_and_what_others_are_writing_stays() {
    let site = Site::found();
    let identity = std::fs::read_to_string(site.data().join("instance.toml")).unwrap();
    let instance = identity.lines().find_map(|line| line.strip_prefix("instance = ")).unwrap();
    let (backups, state) = (site.path("backups"), site.data().join("state"));
    std::fs::create_dir(&backups).unwrap();
    let left = format!(".holdfast-{}-20261124T061443.123456Z.tar", instance.trim_matches('"'));
    let others = backups.join(".holdfast-00000000000000000000000001-20261124T061443.123456Z.tar.partial");
    let ours = [backups.join(format!("{left}.partial")), backups.join(format!("{left}.state"))];
    let copy = state.join(format!("{left}.state"));
    for file in [&others, &copy].into_iter().chain(&ours) {
        std::fs::write(file, "cut short").unwrap();
    }
    let server = site.serve(&site.data(), &["alice", "bob"]);
    assert!(!copy.exists(), "the start removes what a kill has left of the state");
    let names = |of: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(of).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let before = names(&backups);
    let written = AtomicBool::new(false);
    let (output, seen) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !written.load(Ordering::Relaxed) {
                seen.extend(names(&backups));
            }
            seen
        });
        let output = site.run(&server, "oscar", &["backup"]);
        written.store(true, Ordering::Relaxed);
        (output, looking.join().unwrap())
    });
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    let in_clear: Vec<_> = seen.difference(&before).filter(|name| name.ends_with(".state")).collect();
    assert!(in_clear.is_empty(), "{in_clear:?}");
    assert!(others.exists() && ours.iter().all(|file| !file.exists()), "{:?}", names(&backups));
    assert!(names(&state).iter().all(|name| name.starts_with("holdfast.db")), "{:?}", names(&state));
    server.ends();
}

/// What earlier builds wrote: one age file, with the root key in it.
#[test]
fn an_older_backup_still_comes_back() {
    let site = Site::found();
    let [key, file] = ["format-1.key", "format-1.age"].map(|name| text(&fixture(name)));
    let back = restore(&site, &[&file, "--identity", &key, "--data", "back", "--json"]);
    assert_eq!(code(back.status), 0, "{}", stderr(&back));
    let summary: Value = serde_json::from_str(&stdout(&back)).unwrap();
    assert_eq!(summary["keys_suspended"], 2, "{summary}");
    let doctor =
        holdfast(["doctor", "--data", &text(&site.path("back")), "--offline", "--deep"]).output().unwrap();
    assert!(stdout(&doctor).contains("3 sealed versions open"), "{}{}", stdout(&doctor), stderr(&doctor));
}

#[test]
fn it_takes_several_custodians_and_no_machine_has_two_identities() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob", "erin"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let (file, _) = site.backup(&server);
    let (other, _) = site.backup(&server);
    server.ends();
    let file = text(&file);
    // Nothing in it is open, and what is in clear says who opens it.
    let bytes = std::fs::read(&file).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let root = std::fs::read(site.data().join("root.key")).unwrap();
    let digits = &root[b"holdfast-root-key-1:".len()..][..64];
    assert!(holds(b"backup.toml") && holds(b"name = \"erin\"") && holds(b"threshold = 2"));
    assert!(!holds(digits) && !holds(b"holdfast-backup-root") && !holds(b"manifest.json"));

    // One alone opens nothing.
    let alone = restore(&site, &[&file, "--identity", "erin.key", "--data", "alone"]);
    assert!(code(alone.status) == 1, "{}", stderr(&alone));
    assert!(stderr(&alone).contains("1 of 2 shares of the backup are in"), "{}", stderr(&alone));
    assert!(!site.path("alone").exists(), "nothing is made before it opens");

    // Each where their identity is, for the key that the restoration shows.
    let share = |of: &str, name: &str, to: &str| {
        let key = text(&site.path(&format!("{name}.key")));
        let output = holdfast(["backup", "share", of, "--identity", &key, "--to", to]).output().unwrap();
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    };
    let data = text(&site.path("back"));
    let mut dialogue = Dialogue::begin(["restore", &file, "--data", &data]);
    let said = dialogue.until("give what that prints");
    assert!(said[0].contains("2 of its custodians (alice, bob, erin)"), "{said:#?}");
    let to = said.iter().find_map(|line| line.split_once(" --to ")).unwrap().1.to_owned();
    let wrong = |dialogue: &mut Dialogue, line: &str, words: &str| {
        dialogue.say(line);
        // The help of the one before comes first.
        let said = std::iter::repeat_with(|| dialogue.until(": ")).find(|said| !said[0].starts_with("help"));
        let said = said.unwrap();
        assert!(said.last().unwrap().contains(words), "{said:#?}");
    };
    wrong(&mut dialogue, &share(&text(&other), "bob", &to), "share 2 is of another backup");
    let mine = identity(&site.path("mine.key"));
    wrong(&mut dialogue, &share(&file, "bob", &mine), "not encrypted to this command's fresh key");
    dialogue.say(&share(&file, "bob", &to));
    dialogue.until("1 of 2 shares of the backup: bob");
    // The same one twice is one.
    dialogue.say(&share(&file, "bob", &to));
    dialogue.until("1 of 2 shares of the backup: bob");
    dialogue.say(&share(&file, "erin", &to));
    dialogue.until("2 of 2 shares of the backup: bob, erin");
    assert!(dialogue.succeeds().contains("keys suspended"));
    assert_eq!(std::fs::read(site.path("back/root.key")).unwrap(), root);

    // A share that was exchanged in the file is named.
    let at = bytes.windows(10).position(|window| window == b"sha256 = \"").unwrap() + 10;
    let mut exchanged = bytes.clone();
    exchanged[at] = if exchanged[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(site.path("exchanged"), exchanged).unwrap();
    let refused = restore(&site, &["exchanged", "--identity", "alice.key", "--data", "no"]);
    assert_eq!(code(refused.status), 6, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("share 1, of `alice`, is not the one"), "{}", stderr(&refused));
    let others = ["exchanged", "--identity", "bob.key", "--identity", "erin.key", "--data", "others"];
    assert_eq!(code(restore(&site, &others).status), 0, "those of others are fine");
}

#[test]
fn no_single_recipient_gets_a_root_key_that_lies_in_a_file() {
    let site = Site::found();
    let recipient = identity(&site.path("mine.key"));
    let settings = format!("[backup]\nrecipients = [\"{recipient}\"]\n");
    // It serves all the same, and says why there are no backups.
    let server = Server::start(site.serving(&site.data(), &settings));
    let refused = site.run(&server, "oscar", &["backup"]);
    assert_eq!(code(refused.status), 2, "{}", stderr(&refused));
    for words in ["any one of `backup.recipients` would have the root key", "help: set `backup.custodians`"] {
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    let status = site.ok(&server, "oscar", &["status", "--json"]);
    assert!(status.contains("no backups are taken: any one of"), "{status}");
    server.ends();
    for (settings, words) in [
        (
            format!(
                "recipients = [\"{recipient}\"]\ncustodians = [{{ name = \"a\", recipient = \"{recipient}\" }}]"
            ),
            "both set",
        ),
        (
            format!("custodians = [{{ name = \"a\", recipient = \"{recipient}\" }}]"),
            "2 of 1 shares cannot be",
        ),
        (
            format!("threshold = 1\ncustodians = [{{ name = \"a\", recipient = \"{recipient}\" }}]"),
            "1 of 1 shares cannot be",
        ),
        ("custodians = [{ name = \"a\", recipient = \"age1\" }]".to_owned(), "no age recipient"),
    ] {
        let mut serving = site.serving(&site.data(), &format!("[backup]\n{settings}\n"));
        let output = serving.output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains(words), "{words}: {}", stderr(&output));
    }
}

/// Anybody can encrypt to the key of a backup: what they put there is not restored.
#[test]
fn a_backup_that_somebody_put_together_is_refused() {
    let site = Site::found();
    let server = site.serve(&site.data(), &["alice", "bob", "erin"]);
    site.ok(&server, "carol", &["key", "create", "a"]);
    let (file, _) = site.backup(&server);
    server.ends();
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-euc", script]).current_dir(site.dir.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
        stdout(&output).trim().to_owned()
    };
    // A gateway of their own, with a root key that they know, said to be of this backup.
    let (file, key, own) = (text(&file), text(&fixture("format-1.key")), text(&fixture("format-1.age")));
    shell(&format!(
        "mkdir outer inner && tar -xf '{file}' -C outer && age -d -i '{key}' '{own}' | tar -x -C inner"
    ));
    let head = std::fs::read_to_string(site.path("outer/backup.toml")).unwrap();
    let said = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let manifest = site.path("inner/manifest.json");
    let mut lie: Value = serde_json::from_str(&std::fs::read_to_string(&manifest).unwrap()).unwrap();
    (lie["instance"], lie["backup"]) = (said("instance").into(), said("backup").into());
    std::fs::write(&manifest, lie.to_string()).unwrap();
    let recipient = said("recipient");
    shell(&format!("cd inner && tar -cf - $(find * -type f) | age -r {recipient} -o ../outer/sealed.age"));
    shell("cd outer && tar -b 1 -cf ../forged.tar backup.toml $(find shares -type f) sealed.age");
    let refused = restore(&site, &with_two("forged.tar", &["--data", "forged"]));
    assert_eq!(code(refused.status), 1, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("keeps its root key in another way"), "{}", stderr(&refused));
    assert!(!site.path("forged/instance.toml").exists(), "it is no gateway");
}
