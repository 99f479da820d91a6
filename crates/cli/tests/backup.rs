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

use common::{Server, Site, code, holdfast, stderr, stdout, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

impl Site {
    /// An age identity as `age-keygen` writes it; gives its recipient.
    fn identity(&self, name: &str) -> String {
        let made = Command::new("age-keygen").arg("-o").arg(self.path(name)).output().unwrap();
        let said = stderr(&made);
        said.trim().rsplit(' ').next().unwrap().to_owned()
    }

    fn serve(&self, data: &Path, recipients: &[&str]) -> Server {
        let quoted: Vec<_> = recipients.iter().map(|recipient| format!("\"{recipient}\"")).collect();
        let (backups, recipients) = (self.path("backups"), quoted.join(", "));
        let settings = format!(
            "[backup]\ndirectory = \"{}\"\nrecipients = [{recipients}]\nkeep_days = 30\n",
            backups.display()
        );
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

#[test]
fn what_is_lost_comes_back_suspended_and_later_stops_are_kept() {
    if !common::tool("age") {
        return;
    }
    let site = Site::found();
    let (mine, other) = (site.identity("mine.key"), site.identity("other.key"));
    let server = site.serve(&site.data(), &[&mine, &other]);
    site.register_application(&server);
    for key in ["a", "b", "c"] {
        let made = site.json(&server, "carol", &["key", "create", key]);
        assert_eq!(made["protected"], false, "{made}");
    }
    site.ok(&server, "carol", &["key", "create", "counted", "--algorithm", "aes-256-gcm"]);
    std::fs::write(site.path("plain"), "the payroll").unwrap();
    site.ok(&server, "app", &["encrypt", "--raw", "plain", "--key", "a", "-o", "sealed"]);

    let doctor = site.ok(&server, "carol", &["doctor"]);
    assert!(doctor.contains("4 of 4 are in no backup: a, b, c, counted"), "{doctor}");
    // Only who runs the gateway takes backups.
    assert_eq!(code(site.run(&server, "carol", &["backup"]).status), 4);
    let (file, told) = site.backup(&server);
    assert_eq!(site.json(&server, "carol", &["key", "show", "a"])["protected"], true);
    site.ok(&server, "carol", &["key", "rotate", "b"]);
    let doctor = site.ok(&server, "carol", &["doctor"]);
    assert!(doctor.contains("1 of 4 are in no backup: b"), "{doctor}");
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
    site.identity("stranger.key");
    let refused = restore(&site, &[&file, "--identity", "stranger.key", "--data", "elsewhere"]);
    assert!(code(refused.status) == 1 && stderr(&refused).contains("does not open"), "{}", stderr(&refused));
    let back =
        restore(&site, &[&file, "--identity", "mine.key", "--data", &data, "--log", "mirror", "--json"]);
    assert_eq!(code(back.status), 0, "{}", stderr(&back));
    let summary: Value = serde_json::from_str(&stdout(&back)).unwrap();
    assert_eq!(
        (&summary["keys_suspended"], &summary["stops_given_again"]),
        (&2.into(), &4.into()),
        "{summary}"
    );
    assert_ne!(instance(&site.data()), before);
    let again = restore(&site, &[&file, "--identity", "mine.key", "--data", &data]);
    assert!(code(again.status) == 1 && stderr(&again).contains("holds gateway"), "{}", stderr(&again));

    let server = site.serve(&site.data(), &[&mine]);
    assert_eq!(
        ["a", "b", "c"].map(|key| site.state(&server, key)),
        ["suspended", "compromised", "suspended"]
    );
    // The order is given again, as it was: the key waits anew.
    assert_eq!(site.json(&server, "carol", &["key", "show", "c"])["destruction"]["after_days"], 9);
    assert_eq!(code(site.run(&server, "carol", &["key", "show", "young"]).status), 5);
    assert_eq!(site.json(&server, "carol", &["key", "show", "a"])["protected"], true);
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
    let server = site.serve(&site.data(), &[&mine]);
    assert_eq!(site.state(&server, "a"), "active");
    server.ends();
    // What stock age decrypts is taken too.
    let mut age = Command::new("age");
    age.arg("-d").arg("-i").arg(site.path("mine.key")).arg(&second);
    let mut age = age.stdout(Stdio::piped()).spawn().unwrap();
    let third = holdfast(["restore", "-", "--data", &text(&site.path("third"))])
        .stdin(age.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(age.wait().unwrap().success());
    assert_eq!(code(third.status), 0, "{}", stderr(&third));
    assert!(stderr(&third).contains("WARNING: no copy of a log was given"), "{}", stderr(&third));
    let server = site.serve(&site.path("third"), &[]);
    assert_eq!(site.state(&server, "a"), "suspended");
    // Without recipients there are no backups.
    let refused = site.run(&server, "oscar", &["backup"]);
    assert!(
        code(refused.status) == 2 && stderr(&refused).contains("backup.recipients"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn damaged_and_foreign_backups_are_refused() {
    if !common::tool("age") {
        return;
    }
    let site = Site::found();
    let mine = site.identity("mine.key");
    let server = site.serve(&site.data(), &[&mine]);
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
        let line: Vec<_> =
            ["bad", "--identity", "mine.key", "--data", &data].iter().chain(more).copied().collect();
        let output = restore(&site, &line);
        assert_eq!(code(output.status), 1, "{}", stderr(&output));
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
    let fine = restore(&site, &[&text(&file), "--identity", "mine.key", "--data", "fine"]);
    assert_eq!(code(fine.status), 0, "{}", stderr(&fine));
}
