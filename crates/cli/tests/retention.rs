//! A log is kept for as long as its custodian says, by the real binary: weeks go by on a clock of its own.

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

use common::dev::{environment, serving};
use common::{Server, code, holdfast, stderr, stdout, text, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Takes some seconds off the wall clock of whatever it is preloaded into.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    long failed = syscall(SYS_clock_gettime, id, at);
    const char *back = getenv("CLOCK_BACK");
    if (failed == 0 && id == CLOCK_REALTIME && back) at->tv_sec -= atol(back);
    return (int)failed;
}
"#;

struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let site = Self { dir };
        std::fs::write(site.path("clock.c"), CLOCK).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o", "clock.so", "clock.c"])
            .current_dir(site.dir.path())
            .status();
        assert!(built.unwrap().success());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Serves so many days ago.
    fn serve(&self, days_ago: u64) -> Server {
        let mut serve = holdfast(serving(&self.data()));
        if days_ago > 0 {
            serve.env("LD_PRELOAD", self.path("clock.so")).env("CLOCK_BACK", (days_ago * 86_400).to_string());
        }
        Server::start(serve)
    }

    fn run(&self, line: &[&str]) -> Output {
        let mut command = holdfast(line);
        command.envs(environment(&self.data())).current_dir(self.dir.path()).output().unwrap()
    }

    fn ok(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert_eq!(code(output.status), 0, "{line:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn json(&self, line: &[&str]) -> Value {
        let line: Vec<_> = line.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&line)).unwrap()
    }

    /// Records so many operations: a batch is one request, and each of its items is recorded.
    fn record(&self, url: &str, operations: usize) {
        let environment = environment(&self.data());
        let value = |name: &str| &environment.iter().find(|(known, _)| known == name).unwrap().1;
        let item = r#"{"operation":"mac","key":"tag","message":"AAAA"}"#;
        let body = format!("{{\"items\":[{}]}}", vec![item; operations].join(","));
        let answered = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--cacert", value("HOLDFAST_CACERT")])
            .args(["--header", &format!("Authorization: Bearer {}", value("HOLDFAST_TOKEN"))])
            .args(["--header", "Content-Type: application/json", "--data", &body])
            .arg(format!("{url}/v1/tenants/dev/batch"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(answered.status.success(), "{}", stderr(&answered));
    }

    fn bundle(&self, number: u64) -> PathBuf {
        self.data().join(format!("audit/dev/tile/entries/{number:03}"))
    }
}

fn wait_until_gone(path: &Path) {
    let began = std::time::Instant::now();
    while path.exists() {
        assert!(began.elapsed().as_secs() < 60, "{} is still there", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_log_is_pruned_under_its_retention_and_verifies() {
    if !tool("curl") {
        return;
    }
    let site = Site::new();
    let server = site.serve(40);
    site.ok(&["key", "create", "tag", "--algorithm", "hmac-sha-256"]);
    (0..3).for_each(|_| site.record(&server.url, 200));
    server.ends();
    for days_ago in [33, 26, 19, 12] {
        site.serve(days_ago).ends();
    }
    let server = site.serve(5);
    site.ok(&["audit", "mirror", "mirror"]);
    std::fs::copy(site.path("mirror/checkpoint"), site.path("earlier")).unwrap();
    std::fs::copy(site.path("mirror/log.vkey"), site.path("vkey")).unwrap();
    assert_eq!(code(site.run(&["tenant", "retention", "set", "--days", "0"]).status), 2);
    assert_eq!(code(site.run(&["tenant", "retention", "set"]).status), 2);
    site.ok(&["tenant", "retention", "set", "--days", "30"]);
    assert_eq!(site.json(&["tenant", "show"])["retention_days"], 30);
    server.ends();
    assert!(site.bundle(0).exists() && site.bundle(1).exists());

    let server = site.serve(0);
    wait_until_gone(&site.bundle(0));
    wait_until_gone(&site.bundle(1));
    let trusted = ["--vkey", "vkey", "--checkpoint", "earlier"];
    let report = site.json(&[&["audit", "verify", "--mirror"], &trusted[..]].concat());
    assert_eq!((&report["kept_from"], &report["absent"]), (&512.into(), &512.into()), "{report}");
    let found = site.run(&["audit", "search", "--action", "prune-audit", "--json"]);
    let records = stdout(&found);
    assert_eq!(records.lines().count(), 2, "{records}");
    assert!(records.lines().all(|line| line.contains("\"512\"") && line.contains("30 days")), "{records}");
    assert!(stderr(&found).contains("entries 0 to 511 were pruned"), "{}", stderr(&found));
    // Whoever mirrored in time has all of it, and it verifies as what the log is now.
    let report = site.json(&[&["audit", "verify", "--mirror", "mirror"], &trusted[..]].concat());
    assert_eq!((&report["kept_from"], &report["absent"]), (&Value::Null, &0.into()), "{report}");
    site.ok(&["tenant", "retention", "set", "--forever"]);
    assert_eq!(site.json(&["tenant", "show"]).get("retention_days"), None);
    server.ends();

    let data = text(&site.data());
    let deep = site.run(&["doctor", "--deep", "--data", &data]);
    assert_eq!(code(deep.status), 0, "{}", stdout(&deep));
    // What is missing without a record is a refusal.
    std::fs::remove_file(site.data().join("audit/dev/pruned")).unwrap();
    let log = text(&site.data().join("audit/dev"));
    let refused = site.run(&["audit", "verify", &log, "--vkey", "vkey"]);
    assert_eq!(code(refused.status), 6);
    assert!(stderr(&refused).contains("tile is missing"), "{}", stderr(&refused));
}
