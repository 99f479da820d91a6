//! A gateway with two tokens: the real binary, real modules, and everything that happens to one of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::tenant;
use common::log::closing;
use common::softhsm::{SoftHsm, start, workers};
use common::wait::until;
use common::{Dev, code, holdfast, stderr, text};
use holdfast_sdk::field::Bytes;
use holdfast_sdk::message::Sign;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use tempfile::TempDir;

/// A pool whose keys come to each member so. A busy machine may take its time; the deadline itself is measured by the benchmark.
fn table(distribution: &str) -> String {
    format!("[pool]\ndistribution = \"{distribution}\"\ncopies = 1\ndeadline_ms = 3000\n")
}

/// A gateway with a replicated pool of two, `a` and `b`, with the keys `k` and `signs` in both.
struct Pool {
    a: SoftHsm,
    b: SoftHsm,
    dev: Dev,
}

impl Pool {
    fn new() -> Self {
        let a = SoftHsm::new();
        let b = a.twin();
        let settings = format!("{}{}{}", a.settings_of("a"), b.settings_of("b"), table("vendor"));
        let pool = Self { dev: start(TempDir::new().unwrap(), &settings), a, b };
        pool.until_up("a", true);
        pool.until_up("b", true);
        pool.operates(&["pool", "drain", "b"]);
        pool.dev.ok(&["key", "create", "k"]);
        pool.dev.ok(&["key", "create", "signs", "--algorithm", "ecdsa-p256"]);
        pool.a.replicate(&pool.b);
        pool.operates(&["pool", "join", "b"]);
        pool
    }

    fn hsm(&self, name: &str) -> &SoftHsm {
        if name == "a" { &self.a } else { &self.b }
    }

    /// A command of the operator's.
    fn operator(&self, line: &[&str]) -> Output {
        let credentials = self.dev.data().join("credentials");
        let (certificate, key) =
            (text(&credentials.join("operator.pem")), text(&credentials.join("operator.key")));
        let line: Vec<_> = line.iter().copied().chain(["--cert", &certificate, "--cert-key", &key]).collect();
        self.dev.run(&line)
    }

    fn operates(&self, line: &[&str]) -> String {
        let output = self.operator(line);
        assert_eq!(code(output.status), 0, "{line:?}: {}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn members(&self) -> Value {
        let shown: Value = serde_json::from_str(&self.operates(&["pool", "status", "--json"])).unwrap();
        shown["members"].clone()
    }

    fn member(&self, name: &str) -> Value {
        let members = self.members();
        members.as_array().unwrap().iter().find(|member| member["name"] == name).unwrap().clone()
    }

    fn is_up(&self, name: &str) -> bool {
        let metrics = self.dev.server.admin("/metrics");
        metrics.contains(&format!("holdfast_pool_member_up{{member=\"{name}\"}} 1"))
    }

    #[track_caller]
    fn until_up(&self, name: &str, up: bool) {
        until(&format!("{name} is up: {up}"), || self.is_up(name) == up);
    }

    /// A member's worker.
    fn worker(&self, name: &str) -> Option<u32> {
        let conf = format!("SOFTHSM2_CONF={}\0", text(&self.hsm(name).path("conf")));
        let is_its = |pid: &u32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(&conf))
        };
        workers(self.dev.server.pid()).into_iter().find(is_its)
    }

    fn signal(&self, name: &str, signal: &str) -> u32 {
        let pid = self.worker(name).unwrap();
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
        pid
    }

    fn take_away(&self, name: &str) {
        fs::rename(self.hsm(name).path("tokens"), self.hsm(name).path("aside")).unwrap();
    }

    fn bring_back(&self, name: &str) {
        fs::rename(self.hsm(name).path("aside"), self.hsm(name).path("tokens")).unwrap();
    }
}

/// Callers in a closed loop, each on a connection of its own.
struct Callers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    all: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Callers {
    fn start(pool: &Pool, count: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let all = (0..count).map(|caller| {
            let (data, url) = (pool.dev.data(), pool.dev.server.url.clone());
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let tenant = tenant(&data, &url);
                    let (k, signs) = ("k".parse().unwrap(), "signs".parse().unwrap());
                    let mut problems = vec![];
                    while !stop.load(Ordering::Relaxed) {
                        let asked = match caller % 2 {
                            0 => tenant.encrypt(&k, b"4711", &[("row", "1")]).await.map(drop),
                            _ => tenant.use_key(&signs, &message()).await.map(drop),
                        };
                        done.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = asked {
                            problems.push(error.to_string());
                        }
                    }
                    problems
                })
            })
        });
        let all = all.collect();
        Self { stop, done, all }
    }

    /// Waits until so many more were answered.
    fn answered(&self, more: usize) {
        let goal = self.done.load(Ordering::Relaxed) + more;
        until("they are answered", || self.done.load(Ordering::Relaxed) >= goal);
    }

    /// How many requests there were, and what went wrong.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let problems = self.all.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        (self.done.load(Ordering::Relaxed), problems)
    }
}

fn message() -> Sign {
    Sign { message: Some(Bytes(b"message".to_vec())), digest: None, scheme: None }
}

/// Killed, stopped, taken away: nobody is refused, and then there are two again without a hand.
#[test]
fn what_happens_to_one_token_fails_no_request_and_each_has_its_record() {
    let pool = Pool::new();
    let log = pool.dev.data().join("audit/dev");
    let callers = Callers::start(&pool, 16);
    callers.answered(200);
    for name in ["a", "b"] {
        let killed = pool.signal(name, "-KILL");
        callers.answered(100);
        until("there is another worker", || pool.worker(name).is_some_and(|pid| pid != killed));
        pool.until_up(name, true);
        callers.answered(100);

        let stopped = pool.signal(name, "-STOP");
        pool.until_up(name, false);
        callers.answered(100);
        until("it was killed", || pool.worker(name).is_some_and(|pid| pid != stopped));
        pool.until_up(name, true);
        callers.answered(100);

        pool.take_away(name);
        pool.until_up(name, false);
        callers.answered(100);
        pool.bring_back(name);
        pool.until_up(name, true);
        callers.answered(100);
    }
    let (asked, problems) = callers.end();
    assert!(problems.is_empty(), "{} of {asked}: {:?}", problems.len(), problems.first());
    let used = |action: &str| closing(&log).iter().filter(|event| event["action"] == action).count();
    until("the log is published", || used("encrypt") + used("sign") >= asked);
    assert_eq!(used("encrypt") + used("sign"), asked);
    assert!(closing(&log).iter().all(|event| event["outcome"] == "success"));
    let members = pool.members();
    for member in members.as_array().unwrap() {
        assert!(member["state"] == "up" && member["restarts"].as_u64() >= Some(3), "{members}");
    }
    assert!(pool.dev.server.admin("/metrics").contains("holdfast_ready 1"));
}

#[test]
fn without_any_token_there_is_an_answer_and_a_stop_and_everything_again_when_one_is_back() {
    let pool = Pool::new();
    let plain = pool.dev.file("plain", b"4711");
    let sealed = text(&pool.dev.path("sealed"));
    pool.dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "-o", &sealed]);
    let opens = || pool.dev.run(&["decrypt", "--key", "k", &sealed]).status.success();
    assert!(opens());
    for name in ["a", "b"] {
        pool.take_away(name);
        pool.until_up(name, false);
    }
    let said = pool.dev.fails(&["decrypt", "--key", "k", &sealed], 7);
    assert!(said.contains("the key store cannot be reached"), "{said}");
    until("it is not ready", || pool.dev.server.admin("/metrics").contains("holdfast_ready 0"));
    let status = pool.dev.server.admin("/status");
    assert!(status.contains("a: ") && status.contains("b: "), "{status}");
    // What stops keys does not need them.
    pool.dev.ok(&["key", "suspend", "k"]);
    pool.dev.ok(&["key", "resume", "k"]);
    pool.bring_back("b");
    until("one is enough", opens);
    until("it is ready", || pool.dev.server.admin("/metrics").contains("holdfast_ready 1"));
    assert!(!pool.is_up("a"));
    pool.bring_back("a");
    pool.until_up("a", true);
}

#[test]
fn members_are_drained_and_joined_by_an_operator_and_it_is_recorded() {
    let pool = Pool::new();
    let plain = pool.dev.file("plain", b"4711");
    pool.operates(&["pool", "drain", "a"]);
    let before = pool.member("a")["answered"].clone();
    for _ in 0..8 {
        pool.dev.ok(&[
            "encrypt",
            "--key",
            "k",
            "--raw",
            &plain,
            "-o",
            &text(&pool.dev.path("sealed")),
            "--force",
        ]);
    }
    assert_eq!(pool.member("a")["answered"], before, "nothing is asked of it");
    assert_eq!(pool.member("a")["state"], "drained");
    for (line, with, words) in [
        (["pool", "drain", "b"], 5, "the last member that works"),
        (["pool", "join", "c"], 5, "no member `c`"),
        (["pool", "drain", "c"], 5, "no member `c`"),
    ] {
        let refused = pool.operator(&line);
        assert_eq!(code(refused.status), with, "{}", stderr(&refused));
        assert!(
            stderr(&refused).contains(words) && stderr(&refused).contains("help: "),
            "{}",
            stderr(&refused)
        );
    }
    // Nobody but an operator.
    pool.dev.fails(&["pool", "drain", "b"], 4);
    // A restart lets nobody in.
    let Pool { a, b, dev: Dev { dir, server, .. } } = pool;
    server.stop();
    let settings = fs::read_to_string(dir.path().join("holdfast.toml")).unwrap();
    let pool = Pool { dev: start(dir, &settings), a, b };
    pool.until_up("b", true);
    assert_eq!(pool.member("a")["state"], "drained");
    pool.operates(&["pool", "join", "a"]);
    pool.until_up("a", true);
    assert_eq!(pool.member("a")["state"], "up");
    let table = pool.operates(&["pool", "status"]);
    assert!(table.contains("SoftHSM") && table.contains("0 of 4"), "{table}");
    let log = pool.dev.data().join("audit/_gateway");
    let moved = || {
        let events = closing(&log).into_iter().filter(|event| event["subject"] == "a");
        events.map(|event| format!("{} {}", event["action"], event["outcome"])).collect::<Vec<_>>()
    };
    until("it is published", || moved().len() >= 2);
    assert_eq!(moved(), ["\"drain-member\" \"success\"", "\"join-member\" \"success\""]);
}

#[test]
fn who_is_away_when_a_key_is_destroyed_is_pending_until_it_is_seen() {
    let pool = Pool::new();
    // By a key that stays its device is recognised.
    let message = pool.dev.file("message", b"4711");
    for _ in 0..8 {
        pool.dev.ok(&[
            "sign",
            &message,
            "--key",
            "signs",
            "-o",
            &text(&pool.dev.path("signature")),
            "--force",
        ]);
    }
    let before = [pool.a.objects(), pool.b.objects()];
    pool.take_away("b");
    pool.until_up("b", false);
    pool.dev.ok(&["key", "suspend", "k"]);
    pool.dev.ok(&["key", "destroy", "k", "--confirm", "k"]);
    let erasure = || {
        serde_json::from_str::<Value>(&pool.dev.ok(&["key", "show", "k", "--json"])).unwrap()["erasure"]
            .clone()
    };
    until("a has erased it", || erasure()["absent_on"] == json!(["a"]));
    assert_eq!((&erasure()["pending_on"], pool.a.objects()), (&json!(["b"]), before[0] - 1));
    let shown = pool.dev.run(&["key", "show", "k"]);
    assert!(stderr(&shown).contains("not yet erased from `b`"), "{}", stderr(&shown));
    assert!(pool.dev.server.admin("/metrics").contains("holdfast_keys_to_erase 1"));
    let said = pool.dev.fails(&["key", "create", "k"], 5);
    assert!(said.contains("not yet erased from every member"), "{said}");

    pool.bring_back("b");
    until("b has erased it", || erasure()["pending_on"] == json!([]));
    assert_eq!((&erasure()["absent_on"], pool.b.objects()), (&json!(["a", "b"]), before[1] - 1));
    assert!(pool.dev.server.admin("/metrics").contains("holdfast_keys_to_erase 0"));
    pool.dev.ok(&["key", "create", "k"]);
    let log = pool.dev.data().join("audit/dev");
    let subjects = || {
        let events = closing(&log)
            .into_iter()
            .filter(|event| event["action"] == "erase-key" && event["outcome"] == "success");
        events.map(|event| event["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("it is published", || subjects().len() >= 2);
    assert_eq!(subjects(), ["absent on a; pending on b", "absent on b"]);
}

/// Two single tokens, by the commands that their security officers type.
#[test]
fn single_tokens_get_one_wrapping_key_and_their_keys_travel() {
    let (a, b) = (SoftHsm::new(), SoftHsm::new());
    let dir = TempDir::new().unwrap();
    let settings = format!("{}{}{}", a.settings_of("a"), b.settings_of("b"), table("wrapped"));
    let config = dir.path().join("holdfast.toml");
    fs::write(&config, &settings).unwrap();
    fs::write(dir.path().join("so.pin"), "so-pin-1234\n").unwrap();
    fs::set_permissions(dir.path().join("so.pin"), fs::Permissions::from_mode(0o600)).unwrap();
    let kek = |member: &str, verb: &str, more: &[&str]| {
        let at =
            ["pool", "kek", verb, "--config", "holdfast.toml", "--so-pin-file", "so.pin", "--member", member];
        let mut command = holdfast(at.iter().chain(more));
        command.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let told = |output: &Output| {
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        shown["fingerprint"].as_str().unwrap().to_owned()
    };
    let made = kek("a", "make", &["--json"]).output().unwrap();
    assert_eq!(code(made.status), 0, "{}", stderr(&made));
    let again = kek("a", "make", &[]).output().unwrap();
    assert_eq!(code(again.status), 5, "{}", stderr(&again));
    let none = kek("b", "show", &[]).output().unwrap();
    assert!(code(none.status) == 5 && stderr(&none).contains("kek make"), "{}", stderr(&none));
    let unknown = kek("c", "show", &[]).output().unwrap();
    assert!(code(unknown.status) == 2 && stderr(&unknown).contains("`a`, `b`"), "{}", stderr(&unknown));

    let wrapping_key = told(&made);
    let mut receiver =
        kek("b", "receive", &["--offer", "offer.pem", "--wrapping-key", &wrapping_key, "--json"]);
    let mut receiver = receiver.spawn().unwrap();
    let mut said = BufReader::new(receiver.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let fingerprint = line.strip_prefix("transport key: ").unwrap().trim().to_owned();
    // Its module has the security officer's PIN and a transport key: nothing of its memory is written to a disk.
    let limits = fs::read_to_string(format!("/proc/{}/limits", receiver.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let changed = if fingerprint.starts_with('0') { "1" } else { "0" };
    let wrong = format!("{changed}{}", &fingerprint[1..]);
    let refused = kek("a", "send", &["--offer", "offer.pem", "--fingerprint", &wrong]).output().unwrap();
    assert_eq!(code(refused.status), 6, "{}", stderr(&refused));
    assert!(refused.stdout.is_empty() && stderr(&refused).contains(&fingerprint), "{}", stderr(&refused));
    let sent = kek("a", "send", &["--offer", "offer.pem", "--fingerprint", &fingerprint]).output().unwrap();
    assert_eq!(code(sent.status), 0, "{}", stderr(&sent));
    receiver.stdin.take().unwrap().write_all(&sent.stdout).unwrap();
    let received = receiver.wait_with_output().unwrap();
    assert_eq!(code(received.status), 0);
    assert_eq!(told(&received), told(&made), "it is the same key");
    assert_eq!(told(&kek("b", "show", &["--json"]).output().unwrap()), told(&made));

    let pool = Pool { dev: start(dir, &settings), a, b };
    pool.until_up("a", true);
    pool.until_up("b", true);
    // Made while the other one is out, and brought to it when it is back.
    pool.operates(&["pool", "drain", "b"]);
    pool.dev.ok(&["key", "create", "k"]);
    let (plain, sealed) = (pool.dev.file("plain", b"4711"), text(&pool.dev.path("sealed")));
    pool.dev.ok(&["encrypt", "--key", "k", "--raw", &plain, "-o", &sealed]);
    pool.operates(&["pool", "join", "b"]);
    // Nobody asks for it.
    until("the other one has it, too", || pool.b.objects() == 2);
    let swept = || {
        let shown: Value = serde_json::from_str(&pool.operates(&["pool", "status", "--json"])).unwrap();
        shown["sweep"].clone()
    };
    until("all keys were looked for", || swept()["ended"].is_string() && swept()["brought"] == 1);
    assert_eq!((swept()["versions"].clone(), swept()["lacking"].clone()), (1.into(), 0.into()));
    let metrics = pool.dev.server.admin("/metrics");
    assert!(metrics.contains("holdfast_pool_copies{found=\"brought\"} 1"), "{metrics}");
    let log = pool.dev.data().join("audit/_gateway");
    let is_recorded = || {
        closing(&log)
            .iter()
            .any(|event| event["action"] == "sweep-pool" && event["context"]["brought"] == "1")
    };
    until("it is published", is_recorded);
    let opens = || pool.dev.run(&["decrypt", "--key", "k", &sealed]).status.success();
    pool.take_away("a");
    for _ in 0..4 {
        assert!(opens(), "the other one alone");
    }
}
