//! A recovery is rehearsed while the gateway works: what would be lost is named, what does not verify is said, and nothing is left behind.

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

use common::custodians::identity;
use common::mount::Tmpfs;
use common::{Server, Site, closed, code, fixture, holdfast, stderr, stdout, text, wait};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Enough to open a backup.
const TWO: [&str; 4] = ["--identity", "alice.key", "--identity", "erin.key"];

/// These arguments with enough identities.
fn with_two<'a>(line: &[&'a str]) -> Vec<&'a str> {
    line.iter().copied().chain(TWO).collect()
}

impl Site {
    /// Serves it with backups for two of three.
    fn serve(&self) -> Server {
        let settings = self.backups_for(&["alice", "bob", "erin"]);
        std::fs::create_dir(self.path("tmp")).unwrap();
        Server::start(self.serving(&self.data(), &settings))
    }

    fn backup(&self, server: &Server) -> PathBuf {
        self.path("backups").join(self.json(server, "oscar", &["backup"])["file"].as_str().unwrap())
    }

    fn drill(&self, line: &[&str]) -> Command {
        let mut command = holdfast(["drill", "recovery"].iter().chain(line));
        command.current_dir(self.dir.path()).env("TMPDIR", self.path("tmp"));
        command
    }

    fn drilled(&self, line: &[&str]) -> Output {
        let output = self.drill(line).output().unwrap();
        assert_eq!(self.scratch(), Vec::<PathBuf>::new(), "{}", stderr(&output));
        output
    }

    /// One that must succeed.
    fn report(&self, line: &[&str]) -> Value {
        let line: Vec<_> = line.iter().copied().chain(TWO).chain(["--json"]).collect();
        let output = self.drilled(&line);
        assert_eq!(code(output.status), 0, "{}{}", stderr(&output), stdout(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    /// One that must fail with this code.
    #[track_caller]
    fn fails(&self, line: &[&str], with: i32) -> String {
        let output = self.drilled(line);
        assert_eq!(code(output.status), with, "{}", stderr(&output));
        assert!(stderr(&output).contains("help: "), "{}", stderr(&output));
        stderr(&output)
    }

    /// What lies where temporary directories are made.
    fn scratch(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// The origins of the logs below a gateway's directory.
fn origins(data: &Path) -> BTreeSet<String> {
    let logs = std::fs::read_dir(data.join("audit")).unwrap();
    let origin = |log: PathBuf| {
        std::fs::read_to_string(log.join("checkpoint")).unwrap().lines().next().unwrap().to_owned()
    };
    logs.map(|log| origin(log.unwrap().path())).collect()
}

/// Every file with its bytes' length and time: what a reader leaves as it was.
fn files(data: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let (mut found, mut open) = (vec![], vec![data.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                found.push((entry.path(), meta.len(), meta.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn it_names_exactly_what_a_backup_does_not_hold_while_the_gateway_serves() {
    let site = Site::found();
    let server = site.serve();
    for key in ["a", "b", "c"] {
        site.ok(&server, "carol", &["key", "create", key]);
    }
    site.ok(&server, "carol", &["key", "create", "counted", "--algorithm", "aes-256-gcm"]);
    site.backup(&server);
    let file = text(&site.backup(&server));
    // Nothing has happened since.
    site.ok(&server, "carol", &["audit", "mirror", "acme"]);
    let fresh = site.report(&["--backup", "backups", "--log", "acme"]);
    assert_eq!(fresh["backup"]["file"].as_str().unwrap().rsplit('/').next(), file.rsplit('/').next());
    assert_eq!(fresh["lost"]["keys"]["count"], 0, "{fresh}");
    assert_eq!(fresh["lost"]["commands"], json!({}), "{fresh}");

    site.ok(&server, "carol", &["key", "create", "young"]);
    site.ok(&server, "carol", &["key", "rotate", "young"]);
    site.ok(&server, "carol", &["key", "rotate", "b"]);
    site.ok(&server, "carol", &["key", "suspend", "a"]);
    site.ok(&server, "carol", &["audit", "mirror", "acme"]);
    site.ok(&server, "oscar", &["audit", "mirror", "gateway"]);

    // Somebody works all the time.
    let done = AtomicBool::new(false);
    let copied = ["--backup", &file, "--log", "acme", "--log", "gateway", "--report", "evidence.json"];
    let (served, report) = std::thread::scope(|scope| {
        let works = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::SeqCst) {
                site.ok(&server, "carol", &["key", "show", "c"]);
                served += 1;
            }
            served
        });
        let report = site.report(&copied);
        done.store(true, Ordering::SeqCst);
        (works.join().unwrap(), report)
    });
    assert!(served > 0);
    let (lost, restored) = (&report["lost"], &report["restored"]);
    assert_eq!(lost["keys"], json!({ "count": 1, "first": ["acme/young"] }), "{report}");
    assert_eq!(lost["versions"], json!({ "count": 1, "first": ["acme/b/2"] }), "{report}");
    assert_eq!(lost["commands"], json!({ "create-key": 1, "rotate-key": 2, "suspend-key": 1 }), "{report}");
    let stop = json!({ "tenant": "acme", "action": "suspend-key", "about": "a" });
    assert_eq!(restored["stops"], json!({ "count": 1, "first": [stop] }), "{report}");
    assert_eq!(restored["suspended"]["first"], json!(["acme/a", "acme/b", "acme/c", "acme/counted"]));
    assert_eq!(restored["rotate"]["first"], json!(["acme/counted"]));
    assert_eq!((&restored["versions_opened"], &restored["only_in_token"]["count"]), (&4.into(), &0.into()));
    assert_eq!((&report["opens"], &report["backup"]["recorded"]), (&true.into(), &true.into()), "{report}");
    assert_eq!(report["logs"]["without_copy"], json!([]));
    assert_eq!(
        serde_json::from_str::<Value>(&std::fs::read_to_string(site.path("evidence.json")).unwrap()).unwrap(),
        report
    );
    // An older one misses more, and says that there is a younger one.
    let mut all: Vec<_> =
        std::fs::read_dir(site.path("backups")).unwrap().map(|one| one.unwrap().path()).collect();
    all.sort();
    let older = site.report(&["--backup", &text(&all[0]), "--log", "acme", "--log", "gateway"]);
    assert_eq!(older["backup"]["younger"], 1, "{older}");

    // The same by the directory of the gateway, which is only read: with a tenant that no backup knows.
    let founders = ["tenant", "create", "late", "--custodian", "dora", "--issue", "late"];
    site.ok(&server, "oscar", &founders);
    let data = text(&site.data());
    let (mut live, mut published) = (Value::Null, false);
    wait::until("the new tenant's log is published", || {
        live = site.report(&["--backup", "backups", "--data", &data]);
        let reached = live["lost"]["tenants"] == json!({ "count": 1, "first": ["late"] });
        published = reached && live["logs"]["copies"].as_array().unwrap().len() == 3;
        published
    });
    assert_eq!(
        (&live["lost"]["keys"], &live["lost"]["versions"]),
        (&lost["keys"], &lost["versions"]),
        "{live}"
    );
    assert_eq!(live["lost"]["commands"]["create-tenant"], 1, "{live}");

    // What is kept is another instance, and no log of it has a live one's origin.
    let output = site.drilled(&with_two(&["--backup", &file, "--data", &data, "--keep", "kept"]));
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("holds the keys"), "{}", stderr(&output));
    let told = stdout(&output);
    for words in ["acme/young", "acme/b/2", "suspend-key a", "recovery time", "with this SHA-256"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(std::fs::metadata(site.path("kept")).unwrap().permissions().mode() & 0o777, 0o700);
    let (theirs, ours) = (origins(&site.path("kept")), origins(&site.data()));
    assert!(theirs.len() == 2 && theirs.is_disjoint(&ours), "{theirs:?} {ours:?}");
    // Without a copy nobody knows.
    let blind = site.report(&["--backup", &file]);
    assert_eq!(blind["lost"], Value::Null, "{blind}");
    assert_eq!(site.json(&server, "carol", &["key", "show", "b"])["state"], "active");
    server.ends();
    // Nothing of it is changed.
    let before = files(&site.data());
    site.report(&["--backup", &file, "--data", &data]);
    assert_eq!(files(&site.data()), before);
}

#[test]
fn what_is_damaged_or_does_not_open_is_said_and_nothing_is_left() {
    let site = Site::found();
    let server = site.serve();
    site.ok(&server, "carol", &["key", "create", "a"]);
    let file = site.backup(&server);
    site.ok(&server, "carol", &["audit", "mirror", "acme"]);
    server.ends();
    let whole = std::fs::read(&file).unwrap();
    let file = text(&file);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bytes in [&flipped, &whole[..whole.len() / 2], &whole[..whole.len() - 1], b"none at all"] {
        std::fs::write(site.path("bad"), bytes).unwrap();
        let said = site.fails(&with_two(&["--backup", "bad", "--report", "evidence"]), 6);
        assert!(said.contains("the backup") && !said.contains("cannot write"), "{said}");
        let evidence = std::fs::read(site.path("evidence")).unwrap();
        let evidence: Value = serde_json::from_slice(&evidence).unwrap();
        assert_eq!(evidence["opens"], false);
        assert!(evidence["problem"].as_str().unwrap().contains("the backup"), "{evidence}");
    }
    identity(&site.path("stranger.key"));
    let said = site.fails(&["--backup", &file, "--identity", "stranger.key"], 1);
    assert!(said.contains("opens no share of the backup") && said.contains("alice, bob, erin"), "{said}");
    let said = site.fails(&["--backup", &file, "--identity", "bob.key"], 1);
    assert!(said.contains("1 of 2 shares of the backup are in"), "{said}");
    assert!(site.fails(&with_two(&[]), 2).contains("no backup is named"));
    assert!(site.fails(&with_two(&["--backup", "tmp"]), 2).contains("there is no backup"));
    assert!(site.fails(&["--backup", &file, "--data", "tmp"], 2).contains("holds no gateway"));
    // A copy that was cut.
    let checkpoint = site.path("acme/checkpoint");
    let cut = std::fs::read_to_string(&checkpoint).unwrap().replacen('\n', "\n1", 1);
    std::fs::write(&checkpoint, cut).unwrap();
    let said = site.fails(&with_two(&["--backup", &file, "--log", "acme"]), 6);
    assert!(said.contains("does not continue"), "{said}");
}

/// What no restoration needs is read nevertheless.
#[test]
fn a_damaged_version_of_a_key_is_named() {
    if !common::tool("age") {
        return;
    }
    let site = Site::found();
    std::fs::create_dir(site.path("tmp")).unwrap();
    let sh = |script: &str| {
        let output = Command::new("sh").args(["-ec", script]).current_dir(site.dir.path()).output().unwrap();
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
    };
    let [key, file] = ["format-1.key", "format-1.age"].map(|name| text(&fixture(name)));
    sh(&format!("mkdir open; age -d -i {key} {file} | tar x -C open"));
    let state = rusqlite::Connection::open(site.path("open/state/holdfast.db")).unwrap();
    let zeros = "UPDATE record SET body = zeroblob(length(body)) WHERE kind = 6";
    assert!(state.execute(zeros, []).unwrap() > 0);
    drop(state);
    sh("cd open && tar cf ../bad.tar manifest.json instance.toml root.key tls/* audit/*/* state/holdfast.db");
    let output = site.drilled(&["--backup", "bad.tar", "--json"]);
    assert_eq!(code(output.status), 6, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("row `version") && said.contains("restore another backup"), "{said}");
}

/// Whoever was to read the report has gone: the end is still that of the backup, and what concerns keys is said.
#[test]
fn a_report_that_nobody_reads_hides_nothing_else() {
    let site = Site::found();
    let server = site.serve();
    let file = site.backup(&server);
    site.ok(&server, "oscar", &["audit", "mirror", "gateway"]);
    server.ends();
    // When it was taken stands in clear: it opens, and is not the file that the log has recorded.
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(9).position(|window| window == b"taken = \"").unwrap() + 9;
    bytes[at] = b'1';
    std::fs::write(&file, bytes).unwrap();
    let file = text(&file);
    let line = ["--backup", &file, "--log", "gateway", "--keep", "kept", "--report", "missing/report"];
    let output = site.drill(&with_two(&line)).stdout(closed()).output().unwrap();
    let said = stderr(&output);
    assert_eq!(code(output.status), 6, "{said}");
    for words in [
        "error: the log has recorded the backup with another SHA-256",
        "`kept` holds the keys",
        "no copy of the log of acme was given",
        "cannot write `missing/report`",
        "cannot write to stdout",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Nobody can remove what another file system is mounted in: what is left is said beside what went wrong before.
#[test]
fn what_could_not_be_removed_is_said_beside_what_went_wrong() {
    let site = Site::found();
    let server = site.serve();
    let file = text(&site.backup(&server));
    server.ends();
    // Whoever reads an identity waits there until somebody writes it.
    assert!(Command::new("mkfifo").arg(site.path("slow.key")).status().unwrap().success());
    let erin = std::fs::read(site.path("erin.key")).unwrap();
    for line in [&["drill", "recovery", "--backup", &file][..], &["backup", "verify", &file]] {
        let identities = ["--identity", "alice.key", "--identity", "slow.key"];
        let mut command = holdfast(line.iter().chain(&identities));
        command.current_dir(site.dir.path()).env("TMPDIR", site.path("tmp"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut slow = std::fs::File::options().write(true).open(site.path("slow.key")).unwrap();
        let left = site.scratch().remove(0);
        std::fs::create_dir(left.join("inside")).unwrap();
        let mounted = Tmpfs::mount(&left.join("inside"), 1);
        slow.write_all(&erin).unwrap();
        drop(slow);
        let output = child.wait_with_output().unwrap();
        let Some(mounted) = mounted else { return };
        let said = stderr(&output);
        assert!(said.contains("holds no complete gateway"), "{said}");
        assert!(said.contains(&format!("cannot remove `{}`", text(&left))), "{said}");
        assert!(said.contains("remove it by hand: it holds the keys of the backup"), "{said}");
        drop(mounted);
        std::fs::remove_dir_all(&left).unwrap();
    }
}

#[test]
fn nothing_is_left_when_it_is_ended_in_the_middle() {
    let site = Site::found();
    let server = site.serve();
    site.ok(&server, "carol", &["key", "create", "a"]);
    let whole = std::fs::read(site.backup(&server)).unwrap();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut command = site.drill(&with_two(&["--backup", "-"]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&whole[..whole.len() - 1]).unwrap();
        wait::until("the backup is being unpacked", || !site.scratch().is_empty());
        let mode = std::fs::metadata(&site.scratch()[0]).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        assert_eq!(code(output.status), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains("ended before it was complete"), "{}", stderr(&output));
        assert_eq!(site.scratch(), Vec::<PathBuf>::new());
    }
    assert_eq!(site.json(&server, "carol", &["key", "show", "a"])["state"], "active");
    server.ends();
}
