//! What is kept outside of the data directory finds an older copy of it, a log that was signed anew, and nothing else: with
//! the real gateway and the real witness.

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

use common::wait::until;
use common::{Server, Site, bare, code, holdfast, stderr, stdout, text};
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::key::{Signer, VerifierKey};
use holdfast_audit::note::Note;
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// What the gateway is configured with.
#[derive(Clone, Copy)]
struct With {
    anchor: bool,
    witness: bool,
}

const NOTHING: With = With { anchor: false, witness: false };
const ANCHOR: With = With { anchor: true, witness: false };
const WITNESS: With = With { anchor: false, witness: true };
const BOTH: With = With { anchor: true, witness: true };

impl Site {
    /// Founded, with an empty anchor and a witness.
    fn watched() -> Self {
        let site = Self::found();
        std::fs::create_dir(site.path("anchor")).unwrap();
        let w = text(&site.path("witness"));
        let made = holdfast(["witness", "init", "--data", &w, "--name", "witness.example.org/w1"]).output();
        assert_eq!(code(made.unwrap().status), 0);
        site
    }

    fn instance(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("instance.toml")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("instance = ")).unwrap();
        line.trim_matches('"').to_owned()
    }

    fn vkey(&self) -> String {
        std::fs::read_to_string(self.path("witness/witness.vkey")).unwrap().trim_end().to_owned()
    }

    /// A witness of both logs; at the port that was given, or a free one.
    fn witness(&self, listen: &str) -> Server {
        let key = |log: &str| {
            std::fs::read_to_string(self.data().join("audit").join(log).join("log.vkey")).unwrap()
        };
        std::fs::write(self.path("logs"), format!("{}{}", key("acme"), key("_gateway"))).unwrap();
        let (data, logs) = (text(&self.path("witness")), text(&self.path("logs")));
        Server::start(holdfast(["witness", "serve", "--data", &data, "--listen", listen, "--logs", &logs]))
    }

    fn command(&self, with: With, witness_url: &str) -> Command {
        let mut settings = String::new();
        if with.anchor {
            settings.push_str(&format!("[anchor]\ndirectory = \"{}\"\n", self.path("anchor").display()));
        }
        if with.witness {
            let vkey = self.vkey();
            settings.push_str(&format!(
                "[[witness]]\nname = \"w1\"\nurl = \"{witness_url}\"\nvkey = \"{vkey}\"\n"
            ));
        }
        self.serving(&self.data(), &settings)
    }

    fn serve(&self, with: With, witness_url: &str) -> Server {
        Server::start(self.command(with, witness_url))
    }

    /// Creates keys, and waits until the witness has seen that.
    fn create_witnessed(&self, server: &Server, keys: &[&str]) {
        self.create_keys(server, keys);
        until("the witness follows", || self.cosigned("acme") >= self.published("acme"));
    }

    /// A start that must be refused; gives what it says.
    fn refused(&self, with: With, witness_url: &str) -> String {
        let serve = self.command(with, witness_url);
        let mut command = Command::new("timeout");
        bare(command.arg("60").arg(serve.get_program()).args(serve.get_args()));
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(code(output.status), 1, "{said}");
        assert!(said.contains("error: ") && said.contains("help: "), "{said}");
        said
    }

    fn create_keys(&self, server: &Server, names: &[&str]) {
        for name in names {
            self.ok(server, "carol", &["key", "create", name]);
        }
    }

    /// Records so many refusals: a custodian uses no key, and each item of a batch is recorded.
    fn record(&self, server: &Server, operations: usize) {
        let item = r#"{"operation":"mac","key":"a","message":"AAAA"}"#;
        let body = format!("{{\"items\":[{}]}}", vec![item; operations].join(","));
        let answered = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--cacert", &text(&self.path("ca.pem"))])
            .args(["--cert", &text(&self.path("credentials/carol.pem"))])
            .args(["--key", &text(&self.path("credentials/carol.key"))])
            .args(["--header", "Content-Type: application/json", "--data", &body])
            .arg(format!("{}/v1/tenants/acme/batch", server.url))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(answered.status.success(), "{}", stderr(&answered));
    }

    /// What the operator sees.
    fn status(&self, server: &Server) -> Value {
        serde_json::from_str(&server.admin("/status")).unwrap()
    }

    fn metrics(&self, server: &Server) -> String {
        server.admin("/metrics")
    }

    fn copy(&self, from: &str, to: &str) {
        let copied = Command::new("cp").arg("-a").arg(self.path(from)).arg(self.path(to)).status().unwrap();
        assert!(copied.success());
    }

    /// Puts another directory in the place of the data directory; keeps the replaced one under a name.
    fn put_back(&self, what: &str, keep: &str) {
        std::fs::rename(self.data(), self.path(keep)).unwrap();
        self.copy(what, "data");
    }

    /// How many entries of a log are kept in the anchor.
    fn anchored(&self, log: &str) -> u64 {
        let file = self.path("anchor").join(self.instance()).join(log).join("checkpoint");
        std::fs::read(file).map_or(0, |bytes| size(&bytes))
    }

    fn cosigned(&self, log: &str) -> u64 {
        std::fs::read(self.data().join("audit").join(log).join("checkpoint.cosigned"))
            .map_or(0, |bytes| size(&bytes))
    }

    fn published(&self, log: &str) -> u64 {
        size(&std::fs::read(self.data().join("audit").join(log).join("checkpoint")).unwrap())
    }
}

fn size(note: &[u8]) -> u64 {
    Checkpoint::from_text(Note::parse(note).unwrap().text()).unwrap().size
}

fn notices(status: &Value) -> String {
    status["notices"].to_string()
}

#[test]
fn an_older_copy_is_refused_by_the_anchor() {
    let site = Site::watched();
    let server = site.serve(NOTHING, "");
    assert!(notices(&site.status(&server)).contains("cannot be noticed"));
    server.ends();
    let server = site.serve(ANCHOR, "");
    site.create_keys(&server, &["a"]);
    assert!(!notices(&site.status(&server)).contains("cannot be noticed"));
    // Nothing was there yet, and that was said.
    assert!(notices(&site.status(&server)).contains("holds no checkpoint of"), "{}", site.status(&server));
    until("the anchor follows", || site.anchored("acme") >= site.published("acme"));
    server.ends();
    site.copy("data", "older");
    let server = site.serve(ANCHOR, "");
    assert!(!notices(&site.status(&server)).contains("holds no checkpoint of"), "{}", site.status(&server));
    site.create_keys(&server, &["b", "c"]);
    // A graceful end leaves the last entry there too.
    server.ends();
    assert_eq!(site.anchored("acme"), site.published("acme"));
    assert_eq!(site.anchored("_gateway"), site.published("_gateway"));

    site.put_back("older", "newest");
    let before = std::fs::read(site.data().join("audit/acme/checkpoint")).unwrap();
    let said = site.refused(ANCHOR, "");
    let file = site.path("anchor").join(site.instance()).join("acme/checkpoint");
    for word in [text(&file), text(&site.data().join("audit/acme/checkpoint"))] {
        assert!(said.contains(&word), "{word} is not named: {said}");
    }
    assert!(
        said.contains("an older copy of the data directory was put back") && said.contains("rollback.md")
    );
    // Nothing was signed or appended by the refused start.
    assert_eq!(std::fs::read(site.data().join("audit/acme/checkpoint")).unwrap(), before);

    // A tenant that the older copy has never heard of is missed too.
    let unknown = site.path("anchor").join(site.instance()).join("later");
    std::fs::rename(site.data(), site.path("older-again")).unwrap();
    std::fs::rename(site.path("newest"), site.data()).unwrap();
    site.serve(ANCHOR, "").ends();
    std::fs::create_dir(&unknown).unwrap();
    std::fs::copy(&file, unknown.join("checkpoint")).unwrap();
    assert!(site.refused(ANCHOR, "").contains("is no checkpoint of this gateway's log"));
    std::fs::remove_dir_all(&unknown).unwrap();

    // Killed at any moment, it never takes itself for an older copy.
    for round in 0..3 {
        let server = site.serve(ANCHOR, "");
        site.create_keys(&server, &[&format!("killed-{round}"), &format!("too-{round}")]);
        server.signal(Signal::KILL);
        drop(server);
    }
    // An anchor that is gone is said, and stops nobody.
    std::fs::rename(site.path("anchor"), site.path("unmounted")).unwrap();
    let server = site.serve(ANCHOR, "");
    site.create_keys(&server, &["without"]);
    assert!(notices(&site.status(&server)).contains("cannot be read"), "{}", site.status(&server));
    assert!(!site.path("anchor").exists(), "it was made, so that nobody notices that it is not mounted");
    server.ends();
}

#[test]
fn an_older_copy_is_refused_by_a_witness_alone() {
    let site = Site::watched();
    let witness = site.witness("127.0.0.1:0");
    let url = witness.url.clone();
    let server = site.serve(WITNESS, &url);
    site.create_witnessed(&server, &["a"]);
    server.ends();
    site.copy("data", "older");
    let server = site.serve(WITNESS, &url);
    site.create_witnessed(&server, &["b", "c"]);
    server.ends();
    site.put_back("older", "newest");
    let said = site.refused(WITNESS, &url);
    for word in [
        "`w1`",
        &text(&site.data().join("audit")),
        "an older copy of the data directory was put back",
        "rollback.md",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // Without the witness it starts, and says that it does not know; when the witness is back, the alarm is raised.
    witness.ends();
    let server = site.serve(WITNESS, &url);
    assert!(notices(&site.status(&server)).contains("have not been compared with the witness"));
    assert_eq!(site.status(&server)["ready"], true);
    let witness = site.witness(url.strip_prefix("http://").unwrap());
    until("the alarm is raised", || site.status(&server)["ready"] == false);
    let status = site.status(&server);
    let log = status["parts"].as_array().unwrap().iter().find(|part| part["name"] == "log").unwrap();
    assert!(log["detail"].to_string().contains("an older copy"), "{log}");
    assert!(site.metrics(&server).contains("holdfast_log_alarm 1"));
    server.ends();
    witness.ends();
}

/// What a witness has cosigned is proven to it out of the log's tiles. Where one of them is gone it is asked all the same, and a log that its
/// own files do not prove is not served.
#[test]
fn a_missing_tile_keeps_no_witness_from_being_asked() {
    let site = Site::watched();
    let witness = site.witness("127.0.0.1:0");
    let url = witness.url.clone();
    let listen = url.strip_prefix("http://").unwrap();
    let server = site.serve(WITNESS, &url);
    site.create_witnessed(&server, &["a"]);
    server.ends();
    witness.ends();
    let server = site.serve(NOTHING, "");
    site.record(&server, 256);
    server.ends();
    assert!(site.cosigned("acme") < 256 && site.published("acme") > 256);
    site.copy("data", "older");
    let (tile, aside) = (site.data().join("audit/acme/tile/0/000"), site.path("tile"));
    let names_it = |said: &str| {
        for word in ["the witness `w1`", &text(&tile), "this tile is missing", "damage.md", "rollback.md"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    };

    // The log is the newest, and it cannot be shown to be: whether the witness answers or not.
    std::fs::rename(&tile, &aside).unwrap();
    names_it(&site.refused(WITNESS, &url));
    let witness = site.witness(listen);
    names_it(&site.refused(WITNESS, &url));
    witness.ends();
    // Lost while it serves, it is for people to look at.
    std::fs::rename(&aside, &tile).unwrap();
    let server = site.serve(WITNESS, &url);
    std::fs::rename(&tile, &aside).unwrap();
    let witness = site.witness(listen);
    until("the alarm is raised", || site.status(&server)["ready"] == false);
    names_it(&site.status(&server).to_string());
    server.ends();
    std::fs::rename(&aside, &tile).unwrap();

    // An older copy is none the less an older copy.
    let server = site.serve(WITNESS, &url);
    site.create_witnessed(&server, &["b"]);
    server.ends();
    site.put_back("older", "newest");
    std::fs::remove_file(&tile).unwrap();
    let said = site.refused(WITNESS, &url);
    assert!(said.contains("an older copy of the data directory was put back"), "{said}");
    witness.ends();
}

/// A log that is gone from an older copy would be made again out of the write-ahead file, or as an empty one.
#[test]
fn a_log_that_is_gone_is_compared_all_the_same_and_not_begun_anew() {
    let site = Site::watched();
    let witness = site.witness("127.0.0.1:0");
    let url = witness.url.clone();
    let server = site.serve(BOTH, &url);
    site.create_witnessed(&server, &["a"]);
    server.ends();
    site.copy("data", "older");
    let server = site.serve(BOTH, &url);
    site.create_witnessed(&server, &["b", "c"]);
    let new = ["tenant", "create", "beta", "--custodian", "dora", "--issue", "beta"];
    site.ok(&server, "oscar", &new);
    server.ends();

    site.put_back("older", "newest");
    std::fs::remove_dir_all(site.data().join("audit/acme")).unwrap();
    for (with, who) in [(WITNESS, "`w1`"), (ANCHOR, "anchor")] {
        let said = site.refused(with, &url);
        assert!(said.contains("an older copy of the data directory was put back"), "{said}");
        assert!(said.contains(who), "{who}: {said}");
    }
    // Where the whole log is in the write-ahead file, the newest one is made again of that.
    std::fs::rename(site.data(), site.path("refused")).unwrap();
    std::fs::rename(site.path("newest"), site.data()).unwrap();
    let before = site.published("acme");
    std::fs::rename(site.data().join("audit/acme"), site.path("lost")).unwrap();
    site.serve(BOTH, &url).ends();
    assert!(site.published("acme") >= before);

    // Of another tenant's nothing is left, not in the write-ahead file either, and nobody outside says so.
    std::fs::rename(site.data().join("audit/beta"), site.path("beta-log")).unwrap();
    std::fs::rename(site.data().join("wal"), site.path("wal")).unwrap();
    site.copy("older/wal", "data/wal");
    let said = site.refused(NOTHING, "");
    let gone = text(&site.data().join("audit/beta"));
    assert!(said.contains("there is nothing of this log any more") && said.contains(&gone), "{said}");
    assert!(!site.data().join("audit/beta").exists(), "it was begun anew");
    std::fs::remove_dir_all(site.data().join("wal")).unwrap();
    std::fs::rename(site.path("wal"), site.data().join("wal")).unwrap();
    std::fs::rename(site.path("beta-log"), site.data().join("audit/beta")).unwrap();
    site.serve(NOTHING, "").ends();
    witness.ends();
}

#[test]
fn a_witness_that_is_down_stops_nobody_and_catches_up() {
    let site = Site::watched();
    let witness = site.witness("127.0.0.1:0");
    let url = witness.url.clone();
    let server = site.serve(BOTH, &url);
    site.create_witnessed(&server, &["a"]);
    witness.ends();
    site.create_keys(&server, &["b", "c", "d"]);
    until("the status says so", || {
        notices(&site.status(&server)).contains("the witness `w1` does not answer")
    });
    let status = site.status(&server);
    assert_eq!(status["ready"], true, "{status}");
    assert!(notices(&status).contains("the newest cosignature of one is"), "{status}");
    let parts = status["parts"].to_string();
    assert!(parts.contains("age of its newest cosignatures") && parts.contains("acme"), "{status}");
    let metrics = site.metrics(&server);
    assert!(metrics.contains(r#"holdfast_witness_logs_behind{witness="w1"}"#), "{metrics}");
    assert!(metrics.contains(r#"holdfast_witness_cosignature_age_seconds{witness="w1"}"#), "{metrics}");
    assert!(!metrics.contains(r#"holdfast_witness_failures_total{witness="w1"} 0"#), "{metrics}");
    let witness = site.witness(url.strip_prefix("http://").unwrap());
    until("it catches up", || site.cosigned("acme") >= site.published("acme"));
    until("the notice goes", || !notices(&site.status(&server)).contains("w1"));
    assert!(site.metrics(&server).contains(r#"holdfast_witness_logs_behind{witness="w1"} 0"#));
    server.ends();
    witness.ends();
}

#[test]
fn verify_asks_for_the_witness_and_says_what_it_vouches_for() {
    let site = Site::watched();
    let witness = site.witness("127.0.0.1:0");
    let server = site.serve(WITNESS, &witness.url);
    site.create_witnessed(&server, &["a", "b"]);
    witness.ends();
    site.create_keys(&server, &["c"]);
    let vkey = site.vkey();
    std::fs::write(site.path("w.vkey"), format!("{vkey}\n")).unwrap();
    let log_key = text(&site.data().join("audit/acme/log.vkey"));
    let line = ["audit", "verify", "mirror", "--mirror", "--vkey", &log_key, "--witness", &vkey, "--json"];
    let verified = site.run(&server, "carol", &line);
    assert_eq!((code(verified.status), stderr(&verified).as_str()), (0, ""));
    let report: Value = serde_json::from_str(&stdout(&verified)).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert_eq!(number("witnessed_entries") + number("entries_after"), number("entries"));
    assert!(number("entries_after") > 0 && number("witnessed_seconds_ago") < 600, "{report}");
    assert_eq!(report["witnesses"][0], "witness.example.org/w1");
    server.ends();

    let verify = |more: &[&str]| {
        let line = ["audit", "verify", "mirror", "--vkey", &log_key];
        holdfast(line.iter().chain(more)).current_dir(site.dir.path()).output().unwrap()
    };
    assert_eq!(code(verify(&["--witness", "w.vkey"]).status), 0);
    let mut by_environment = holdfast(["audit", "verify", "mirror", "--vkey", &log_key, "--json"]);
    let by_environment =
        by_environment.env("HOLDFAST_WITNESS", &vkey).current_dir(site.dir.path()).output().unwrap();
    assert!(stdout(&by_environment).contains("witness.example.org/w1") && stderr(&by_environment).is_empty());
    // Without one it says loudly what it trusted.
    assert!(stderr(&verify(&[])).contains("WARNING: no earlier checkpoint was given, and no witness"));
    // Another witness's key, of the same name too; a stripped cosignature; none at all.
    let fails = |more: &[&str], with: &str| {
        let output = verify(more);
        let said = stderr(&output);
        assert!(code(output.status) == 6 && said.contains(with) && said.contains("help: "), "{said}");
    };
    for name in ["witness.example.org/w2", "witness.example.org/w1"] {
        let other =
            Signer::cosigner_from_seed(name, &Zeroizing::new([9; 32])).unwrap().verifier().to_string();
        fails(&["--witness", &other], "nobody did");
        fails(&["--witness", &vkey, "--witness", &other], "`witness.example.org/w1` did, ");
    }
    // A policy has the log's key as well, and says how many witnesses are enough. The environment's are then left aside.
    let log_line = std::fs::read_to_string(&log_key).unwrap();
    let other = Signer::cosigner_from_seed("witness.example.org/w2", &Zeroizing::new([9; 32])).unwrap();
    let by_policy = |quorum: &str, more: &[&str]| {
        let known = format!("log {log_line}witness ours {vkey}\nwitness other {}\n", other.verifier());
        std::fs::write(site.path("policy"), format!("{known}{quorum}\n")).unwrap();
        let mut command = holdfast(["audit", "verify", "mirror", "--policy", "policy", "--json"]);
        command.args(more).env("HOLDFAST_WITNESS", other.verifier().to_string());
        command.current_dir(site.dir.path()).output().unwrap()
    };
    let met = by_policy("group g any ours other\nquorum g", &[]);
    assert_eq!((code(met.status), stderr(&met).as_str()), (0, ""));
    let report: Value = serde_json::from_str(&stdout(&met)).unwrap();
    assert_eq!((&report["quorum"], &report["key"]), (&"holds".into(), &"given from elsewhere".into()));
    assert_eq!(report["witnesses"], serde_json::json!(["witness.example.org/w1"]));
    assert_eq!(report["not_cosigned"], serde_json::json!(["witness.example.org/w2"]));
    let nobody = by_policy("quorum none", &[]);
    assert!(code(nobody.status) == 0 && stdout(&nobody).contains("asks for nobody"), "{}", stdout(&nobody));
    for (quorum, exit, said) in [
        (
            "group g all ours other\nquorum g",
            6,
            "`witness.example.org/w1` did, `witness.example.org/w2` did not",
        ),
        ("quorum other", 6, "too few witnesses have cosigned this log"),
        ("group g 3 ours other\nquorum g", 2, "line 4: `3` is no threshold for 2 members"),
        ("", 2, "the policy has no quorum"),
    ] {
        let refused = by_policy(quorum, &[]);
        let text = stderr(&refused);
        assert!(
            code(refused.status) == exit && text.contains(said) && text.contains("help"),
            "{quorum}: {text}"
        );
    }
    assert_eq!(code(by_policy("quorum none", &["--witness", &vkey]).status), 2, "one or the other");
    let cosigned = site.path("mirror/checkpoint.cosigned");
    let note = std::fs::read_to_string(&cosigned).unwrap();
    // By the whole name: a hash or a signature in base64 may have `w1` in it.
    let is_its = |line: &&str| line.contains(" witness.example.org/w1 ");
    let stripped: String =
        note.lines().filter(|line| !is_its(line)).map(|line| format!("{line}\n")).collect();
    std::fs::write(&cosigned, stripped).unwrap();
    fails(&["--witness", &vkey], "too few witnesses have cosigned this log");
    std::fs::write(&cosigned, note.replacen("w1 ", "w1 A", 1)).unwrap();
    assert_ne!(code(verify(&["--witness", &vkey]).status), 0);
    std::fs::remove_file(&cosigned).unwrap();
    fails(&["--witness", &vkey], "too few witnesses have cosigned this log");
    std::fs::write(&cosigned, note).unwrap();
    assert_eq!(code(verify(&["--witness", &vkey]).status), 0);
    assert_eq!(code(verify(&["--witness", log_line.trim_end()]).status), 2, "a log's key is no witness's");
    assert_eq!(code(verify(&["--witness", "no-such-file"]).status), 2);
}

/// Root on the machine has the key and writes another history of the same length: everything inside fits.
#[test]
fn a_log_that_was_signed_anew_is_refused() {
    let site = Site::watched();
    let witness = site.witness("127.0.0.1:0");
    let url = witness.url.clone();
    // Two lives of one directory: the same root key, the same origins, other entries.
    site.copy("data", "twin");
    let server = site.serve(BOTH, &url);
    site.create_witnessed(&server, &["a", "b"]);
    server.ends();
    site.put_back("twin", "honest");
    let server = site.serve(NOTHING, "");
    site.create_keys(&server, &["x", "y", "z", "more", "and-more", "longer"]);
    server.ends();
    assert!(
        site.published("acme") > size(&std::fs::read(site.path("honest/audit/acme/checkpoint")).unwrap())
    );
    let key: VerifierKey =
        std::fs::read_to_string(site.data().join("audit/acme/log.vkey")).unwrap().trim_end().parse().unwrap();
    let forged = std::fs::read(site.data().join("audit/acme/checkpoint")).unwrap();
    assert!(Checkpoint::open(&forged, &key).is_ok(), "the same key signed it");

    let said = site.refused(ANCHOR, "");
    assert!(said.contains("does not continue") && said.contains(&text(&site.path("anchor"))), "{said}");
    let said = site.refused(WITNESS, &url);
    assert!(said.contains("that this log does not continue") && said.contains("`w1`"), "{said}");
    // The honest one still starts, with both.
    site.put_back("honest", "forged");
    site.serve(BOTH, &url).ends();
    witness.ends();
}

/// Two copies of one directory, both served with one anchor: the second to write finds the first.
#[test]
fn a_second_copy_that_is_served_raises_the_alarm() {
    let site = Site::watched();
    site.copy("data", "twin");
    let server = site.serve(ANCHOR, "");
    site.create_keys(&server, &["a"]);
    until("the anchor follows", || site.anchored("acme") >= site.published("acme"));
    // The other one, on another machine, knows nothing of an anchor; its checkpoint ends up there. Both machines name the directory alike,
    // so the first must not write while the name is the other's.
    server.signal(Signal::STOP);
    std::fs::rename(site.data(), site.path("first")).unwrap();
    site.copy("twin", "data");
    let second = site.serve(NOTHING, "");
    site.create_keys(&second, &["p", "q", "r", "s", "t"]);
    second.ends();
    let place = site.path("anchor").join(site.instance()).join("acme/checkpoint");
    std::fs::copy(site.data().join("audit/acme/checkpoint"), place).unwrap();
    std::fs::rename(site.data(), site.path("second")).unwrap();
    std::fs::rename(site.path("first"), site.data()).unwrap();
    server.signal(Signal::CONT);
    site.create_keys(&server, &["b"]);
    until("the alarm is raised", || site.status(&server)["ready"] == false);
    // It goes on working: an alarm is for people.
    site.create_keys(&server, &["c"]);
    let _ended = server.stop();
}

#[test]
fn wrong_settings_are_refused_with_a_remedy() {
    let site = Site::watched();
    let refused = |config: &str, with: &str| {
        let file = site.path("wrong.toml");
        std::fs::write(&file, format!("data = \"{}\"\n{config}", site.data().display())).unwrap();
        let output =
            holdfast(["serve", "--config", &text(&file), "--listen", "127.0.0.1:0"]).output().unwrap();
        let said = stderr(&output);
        assert!(code(output.status) != 0 && said.contains(with) && said.contains("help: "), "{said}");
    };
    let inside = site.data().join("anchor");
    refused(&format!("[anchor]\ndirectory = \"{}\"\n", inside.display()), "lies in the data directory");
    let vkey = site.vkey();
    let log = std::fs::read_to_string(site.data().join("audit/acme/log.vkey")).unwrap();
    let table =
        |url: &str, vkey: &str| format!("[[witness]]\nurl = \"{url}\"\nvkey = \"{}\"\n", vkey.trim_end());
    refused(&table("ftp://x", &vkey), "no witness's address");
    refused(&table("http://127.0.0.1:1", "nonsense"), "is refused");
    refused(&table("http://127.0.0.1:1", &log), "a log's key, not a witness's");
    let twice = format!("{}{}", table("http://127.0.0.1:1", &vkey), table("http://127.0.0.1:2", &vkey));
    refused(&twice, "configured twice");
    let ca = format!(
        "{}ca_file = \"{}\"\n",
        table("https://127.0.0.1:1", &vkey),
        Path::new("/nonexistent").display()
    );
    refused(&ca, "certificate authorities");
}
