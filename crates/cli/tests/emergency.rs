//! A gateway all of whose tokens are gone, and keys that were created with an emergency copy: the real binary, real modules, real age identities.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::custodians::identity;
use common::dev::tenant;
use common::log::closing;
use common::softhsm::{SoftHsm, start};
use common::wait::until;
use common::{Dev, Server, Site, code, holdfast, stderr, text};
use holdfast_sdk::field::{Bounded, ReasonText};
use holdfast_sdk::message::RequestCopy;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["erin", "frank", "grace"];

/// Who opens copies, each with an identity in this directory; any two together.
fn custodians(dir: &Path) -> String {
    let each = NAMES.map(|name| {
        let recipient = identity(&dir.join(format!("{name}.key")));
        format!("{{ name = \"{name}\", recipient = \"{recipient}\" }}")
    });
    format!("[emergency]\nthreshold = 2\ncustodians = [{}]\n", each.join(", "))
}

/// A gateway with a replicated pool of two, `a` and `b`.
struct Pool {
    a: SoftHsm,
    b: SoftHsm,
    dev: Dev,
}

impl Pool {
    fn new() -> Self {
        let (a, dir) = (SoftHsm::new(), TempDir::new().unwrap());
        let b = a.twin();
        let pool = "[pool]\ndistribution = \"vendor\"\ncopies = 1\ndeadline_ms = 3000\n";
        let settings =
            format!("{}{}{pool}{}", a.settings_of("a"), b.settings_of("b"), custodians(dir.path()));
        let pool = Self { dev: start(dir, &settings), a, b };
        pool.until_up("a", true);
        pool.until_up("b", true);
        pool
    }

    fn metrics(&self) -> String {
        self.dev.server.admin("/metrics")
    }

    fn until_up(&self, name: &str, up: bool) {
        let line = format!("holdfast_pool_member_up{{member=\"{name}\"}} {}", u8::from(up));
        until(&format!("{name} is up: {up}"), || self.metrics().contains(&line));
    }

    fn take_both_away(&self) {
        for (name, hsm) in [("a", &self.a), ("b", &self.b)] {
            fs::rename(hsm.path("tokens"), hsm.path("aside")).unwrap();
            self.until_up(name, false);
        }
    }

    /// The first that is back does all.
    fn bring_back(&self) {
        fs::rename(self.a.path("aside"), self.a.path("tokens")).unwrap();
        self.until_up("a", true);
    }

    fn active(&self) -> usize {
        let metrics = self.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix("holdfast_emergency_active ")).unwrap();
        line.parse().unwrap()
    }

    fn fingerprint(&self) -> String {
        let shown = shown(&self.dev, &["emergency", "show", "k"]);
        shown["request"]["fingerprint"].as_str().unwrap().to_owned()
    }

    fn approve(&self, who: &str) -> String {
        let (identity, fingerprint) = (text(&self.dev.path(&format!("{who}.key"))), self.fingerprint());
        let line = ["emergency", "approve", "k", "--identity", &identity, "--fingerprint", &fingerprint];
        self.dev.ok(&line)
    }
}

fn shown(dev: &Dev, line: &[&str]) -> Value {
    let line: Vec<_> = line.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&dev.ok(&line)).unwrap()
}

/// Waits until the newest event that closes an operation so has this there.
#[track_caller]
fn logged(dev: &Dev, (action, outcome): (&str, &str), pointer: &str, value: impl Into<Value>) {
    let (log, value) = (dev.data().join("audit/dev"), value.into());
    until(&format!("the log has {value} at {pointer}"), || {
        let events = closing(&log);
        let newest = events.iter().rfind(|event| event["action"] == action && event["outcome"] == outcome);
        newest.is_some_and(|event| event.pointer(pointer).unwrap_or(&Value::Null) == &value)
    });
}

#[test]
fn no_key_has_a_copy_by_accident() {
    // Nobody is named: none are made.
    let hsm = SoftHsm::new();
    let dev = start(TempDir::new().unwrap(), &hsm.settings());
    let said = dev.fails(&["key", "create", "k", "--emergency-copy"], 2);
    assert!(said.contains("makes and opens no emergency copies") && said.contains("`[emergency]`"), "{said}");
    dev.ok(&["key", "create", "k"]);
    let said = dev.fails(&["emergency", "activate", "k", "--hours", "1", "--reason", "burnt"], 2);
    assert!(said.contains("without an emergency copy, and never gets one"), "{said}");
    assert_eq!(shown(&dev, &["key", "show", "k"])["emergency_copy"], Value::Null);
    drop(dev);
    // A key in software needs none.
    let dir = TempDir::new().unwrap();
    let settings = custodians(dir.path());
    let dev = start(dir, &settings);
    let said = dev.fails(&["key", "create", "k", "--emergency-copy"], 2);
    assert!(said.contains("needs no emergency copy"), "{said}");
}

#[test]
fn a_policy_can_forbid_that_a_key_is_created_with_one() {
    let (hsm, dir) = (SoftHsm::new(), TempDir::new().unwrap());
    let settings = format!("{}{}", hsm.settings(), custodians(dir.path()));
    let dev = start(dir, &settings);
    let policy = r#"@id("all") permit (principal, action, resource);
        @id("no-copies") forbid (principal, action == Holdfast::Action::"create-key", resource is Holdfast::Key)
        when { resource.emergency_copy };"#;
    let file = dev.file("policy.cedar", policy.as_bytes());
    dev.ok(&["policy", "set", &file]);
    dev.fails(&["key", "create", "k", "--emergency-copy"], 3);
    logged(&dev, ("create-key", "refused"), "/policy/deciding/0", "no-copies");
    dev.ok(&["key", "create", "k"]);
}

#[test]
fn when_every_token_is_gone_enough_custodians_let_a_key_go_on_and_everybody_sees_it() {
    let pool = Pool::new();
    let dev = &pool.dev;
    dev.ok(&["key", "create", "k", "--emergency-copy"]);
    dev.ok(&["key", "create", "bare"]);
    pool.a.replicate(&pool.b);
    pool.b.replicate(&pool.a);
    // What was made with one says so, for ever.
    assert_eq!(shown(dev, &["key", "show", "k"])["emergency_copy"], true);
    logged(dev, ("create-key", "success"), "/key/name", "bare");
    let events = closing(&dev.data().join("audit/dev"));
    let made = events.iter().find(|event| event["action"] == "create-key" && event["key"]["name"] == "k");
    let evidence = &made.unwrap()["evidence"];
    assert_eq!((evidence["level"].as_str(), evidence["origin"].as_str()), (Some("token"), Some("copied")));
    assert_eq!(evidence["emergency_copy"], json!({ "threshold": 2, "custodians": NAMES }));
    assert_eq!(evidence["attributes"], json!(["sensitive"]), "neither local nor always sensitive");

    let plain = dev.file("plain", b"4711");
    let sealed = text(&dev.path("sealed"));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "-o", &sealed]);
    let decrypt = || dev.run(&["decrypt", "--key", "k", &sealed]);
    pool.take_both_away();
    assert_eq!(code(decrypt().status), 7, "{}", stderr(&decrypt()));

    let said = dev.ok(&["emergency", "activate", "k", "--hours", "4", "--reason", "fire in both rooms"]);
    assert!(said.contains("0 of 2 custodians"), "{said}");
    // Somebody stands in between: nothing is opened.
    let erin = text(&dev.path("erin.key"));
    let wrong = "0000-0000-0000-0000-0000-0000-0000-0000-0000";
    let said = dev.run(&["emergency", "approve", "k", "--identity", &erin, "--fingerprint", wrong]);
    assert_ne!(code(said.status), 0);
    // A stranger opens none of the shares.
    identity(&dev.path("mallory.key"));
    let (mallory, fingerprint) = (text(&dev.path("mallory.key")), pool.fingerprint());
    let line = ["emergency", "approve", "k", "--identity", &mallory, "--fingerprint", &fingerprint];
    let said = stderr(&dev.run(&line));
    assert!(said.contains("opens none of the shares"), "{said}");

    assert!(pool.approve("erin").contains("1 of 2 custodians: erin"));
    assert!(pool.approve("erin").contains("1 of 2 custodians: erin"), "the same one is not another one");
    assert_eq!((code(decrypt().status), pool.active()), (7, 0));
    let said = pool.approve("grace");
    assert!(said.contains("in force until") && said.contains("allowed by erin, grace"), "{said}");
    let opened = decrypt();
    assert_eq!((code(opened.status), &opened.stdout[..]), (0, &b"4711"[..]), "{}", stderr(&opened));
    logged(dev, ("decrypt", "success"), "/performed_by", "emergency-copy");
    assert_eq!(pool.active(), 1);
    assert!(dev.server.admin("/status").contains("emergency copies of 1 key versions are in force"));
    assert!(pool.metrics().contains("holdfast_ready 0"), "the pool is away all the same");
    // Others do not work, and what it seals now the token opens later.
    dev.fails(&["encrypt", "--key", "bare", "--raw", &plain, "-o", &text(&dev.path("other"))], 7);
    let meanwhile = text(&dev.path("meanwhile"));
    dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "-o", &meanwhile]);

    // A stop beats it, and nothing of it comes back with the key.
    dev.ok(&["key", "suspend", "k"]);
    assert_eq!(pool.active(), 0);
    assert_eq!(code(decrypt().status), 5);
    dev.ok(&["key", "resume", "k"]);
    assert_eq!(code(decrypt().status), 7);

    // It ends by itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = RequestCopy { seconds: Bounded(5), reason: ReasonText("again".into()), versions: None };
    let client = tenant(&dev.data(), &dev.server.url);
    runtime.block_on(client.request_copy(&"k".parse().unwrap(), &request)).unwrap();
    pool.approve("frank");
    pool.approve("grace");
    assert_eq!(code(decrypt().status), 0);
    until("its time is over", || pool.active() == 0);
    assert_eq!(code(decrypt().status), 7);
    assert!(dev.ok(&["emergency", "show", "k"]).contains("none in force"));

    pool.bring_back();
    for file in [&sealed, &meanwhile] {
        let opened = dev.run(&["decrypt", "--key", "k", file]);
        assert_eq!((code(opened.status), &opened.stdout[..]), (0, &b"4711"[..]), "{}", stderr(&opened));
        logged(dev, ("decrypt", "success"), "/performed_by", Value::Null);
    }
    // Its next version has one too.
    dev.ok(&["key", "rotate", "k"]);
    logged(dev, ("rotate-key", "success"), "/evidence/origin", "copied");
    let (document, vkey) = (text(&dev.path("k.json")), text(&dev.data().join("audit/dev/log.vkey")));
    until("all of it is published", || {
        dev.ok(&["key", "attest", "k", "-o", &document, "--force"]);
        fs::read_to_string(&document).unwrap().contains("\"without_evidence\": []")
    });
    let verify = ["audit", "verify-attestation", &document, "--vkey", &vkey];
    for row in shown(dev, &verify).as_array().unwrap() {
        assert_eq!(row["origin"], "copied, 2 of erin, frank, grace");
    }
    assert!(stderr(&dev.run(&verify)).contains("open an emergency copy"));
    assert!(dev.ok(&["key", "list"]).contains("active, with an emergency copy"));
    // What is left of a copy on the disk when it is destroyed opens no more, not even for enough custodians.
    dev.ok(&["key", "deactivate", "k", "--version", "1", "--without-inventory"]);
    dev.ok(&["key", "destroy", "k", "--version", "1", "--without-inventory", "--confirm", "k"]);
    let sealing_key = || shown(dev, &["key", "show", "k"])["sealed_under"][0]["state"].clone();
    until("what it lay under is retired", || sealing_key() == "retired");
    dev.ok(&["key", "deactivate", "k"]);
    let ends = stderr(&dev.run(&["key", "destroy", "k", "--confirm", "k", "--after", "1d"]));
    assert!(ends.contains("those of the emergency copies"), "{ends}");
}

#[test]
fn a_restart_and_an_order_end_it() {
    let (hsm, dir) = (SoftHsm::new(), TempDir::new().unwrap());
    let settings = format!("{}{}", hsm.settings_of("a"), custodians(dir.path()));
    let pool = Pool { dev: start(dir, &settings), b: hsm.twin(), a: hsm };
    let dev = &pool.dev;
    dev.ok(&["key", "create", "k", "--emergency-copy", "--algorithm", "hmac-sha-256"]);
    let activate = || {
        dev.ok(&["emergency", "activate", "k", "--hours", "1", "--reason", "drill"]);
        pool.approve("erin");
        pool.approve("frank");
        assert_eq!(pool.active(), 1);
    };
    activate();
    assert!(dev.ok(&["emergency", "end", "k"]).contains("none in force"));
    assert_eq!(pool.active(), 0);
    let said = dev.fails(&["emergency", "end", "k"], 5);
    assert!(said.contains("holdfast emergency activate"), "{said}");
    activate();
    // Whoever had anything under the root key that was has ended, as at a seal.
    dev.ok(&["root", "rotate", "--data", &text(&dev.data())]);
    let mac = ["mac", "--key", "k", &dev.file("plain", b"4711")];
    until("the token works again", || dev.run(&mac).status.success());
    assert_eq!(pool.active(), 0);
    assert!(dev.ok(&["emergency", "show", "k"]).contains("none in force"));
    activate();
    // What is in force and what waits is in the process's memory alone.
    dev.ok(&["emergency", "activate", "k", "--hours", "1", "--reason", "once more"]);
    let Pool { a: _a, b: _b, dev: Dev { dir, server, environment: _ } } = pool;
    server.ends();
    let dev = start(dir, &settings);
    assert_eq!(shown(&dev, &["key", "show", "k"])["emergency_copy"], true);
    let now = shown(&dev, &["emergency", "show", "k"]);
    assert_eq!((&now["request"], &now["in_force"]), (&Value::Null, &Value::Null));
    assert!(dev.server.admin("/metrics").contains("holdfast_emergency_active 0"));
    let said = dev.fails(&["emergency", "approve", "k", "--identity", &text(&dev.path("erin.key"))], 5);
    assert!(said.contains("nobody asks"), "{said}");
}

/// Nothing is left but a backup and people: what such a key protected can be opened, without any token.
#[test]
fn a_backup_and_enough_people_bring_such_a_key_back_without_any_token() {
    let site = Site::found();
    let copies = custodians(site.dir.path());
    let settings = format!("{}{copies}", site.backups_for(&["alice", "bob"]));
    let hsm = SoftHsm::new();
    let with_token = format!("{}{settings}", hsm.settings());
    let server = Server::start(site.serving(&site.data(), &with_token));
    site.ok(&server, "carol", &["caller", "put", "app", "--kind", "application", "--issue", "credentials"]);
    let policy = site.ok(&server, "carol", &["policy", "show"]);
    let policy = format!(
        "{policy}\n@id(\"app\") permit (principal, action in Holdfast::Action::\"use\", resource) when {{ principal.kind == \"application\" }};\n"
    );
    fs::write(site.path("policy.cedar"), policy).unwrap();
    site.ok(&server, "carol", &["policy", "set", "policy.cedar"]);
    let made = || site.run(&server, "carol", &["key", "create", "k", "--emergency-copy"]);
    until("the token is up and the key made", || made().status.success());
    fs::write(site.path("plain"), "the payroll").unwrap();
    site.ok(&server, "app", &["encrypt", "--raw", "plain", "--key", "k", "-o", "sealed"]);
    let file = site.json(&server, "oscar", &["backup"])["file"].as_str().unwrap().to_owned();
    server.ends();
    fs::remove_dir_all(site.data()).unwrap();
    drop(hsm);

    let (file, data) = (text(&site.path("backups").join(file)), text(&site.data()));
    let line = ["restore", &file, "--identity", "alice.key", "--identity", "bob.key", "--data", &data];
    let back = holdfast(line).current_dir(site.dir.path()).output().unwrap();
    assert_eq!(code(back.status), 0, "{}", stderr(&back));
    let server = Server::start(site.serving(&site.data(), &settings));
    let decrypt = ["decrypt", "sealed", "--key", "k", "--force", "-o", "opened"];
    let ask = ["emergency", "activate", "k", "--hours", "1", "--reason", "the whole room"];
    assert_eq!(code(site.run(&server, "carol", &ask).status), 5, "it came back suspended");
    site.ok(&server, "carol", &["key", "resume", "k"]);
    assert_eq!(code(site.run(&server, "app", &decrypt).status), 7);
    site.ok(&server, "carol", &ask);
    let shown = site.json(&server, "carol", &["emergency", "show", "k"]);
    let fingerprint = shown["request"]["fingerprint"].as_str().unwrap();
    for who in ["frank.key", "grace.key"] {
        assert_eq!(code(site.run(&server, "app", &decrypt).status), 7, "one of them is not enough");
        let line = ["emergency", "approve", "k", "--identity", who, "--fingerprint", fingerprint];
        site.ok(&server, "carol", &line);
    }
    site.ok(&server, "app", &decrypt);
    assert_eq!(fs::read_to_string(site.path("opened")).unwrap(), "the payroll");
}
