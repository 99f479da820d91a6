//! Disks that fail, fill, turn read-only or are not what they were, under the real process: nothing that was acknowledged is lost, nothing
//! is mended in silence, and each refusal to start names what is wrong and what to do.

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

use common::dev::{new_key, serving, start, tenant};
use common::log::{closing, events};
use common::mount::Tmpfs;
use common::{HOLDFAST, Server, bare, holdfast, text};
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{Trusted, verify};
use holdfast_core::ErrorKind;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_sdk::{KeyName, Tenant};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST: &str = "wal/0000000000000000.wal";

/// The process of a gateway that something else runs for us; killed when dropped.
struct Traced(Option<Server>);

impl Traced {
    /// A gateway whose calls on one file fail, as `strace` injects it.
    fn start(data: &Path, file: &str, inject: &str) -> Self {
        let mut command = Command::new("strace");
        // The parent from the start: the process lets nobody attach.
        command.args(["-f", "-o", "/dev/null", "-P", &text(&data.join(file)), "-e", inject, HOLDFAST]);
        bare(command.args(serving(data)));
        Self(Some(Server::start(command)))
    }

    fn server(&self) -> &Server {
        self.0.as_ref().unwrap()
    }

    /// `strace` obeys nobody, and ends with what it runs.
    fn kill(mut self, data: &Path) -> String {
        let process = std::fs::read_to_string(data.join("lock")).unwrap().trim().parse().unwrap();
        let process = rustix::process::Pid::from_raw(process).unwrap();
        rustix::process::kill_process(process, Signal::KILL).unwrap();
        self.0.take().unwrap().stop().1
    }
}

/// What a start says that is refused. It names what is wrong, says what to do, and has changed nothing.
#[track_caller]
fn refused(data: &Path) -> String {
    let before = contents(data);
    let mut command = holdfast(serving(data));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    if !ready.is_empty() {
        let _ = child.kill();
        let _ = child.wait();
        panic!("it starts: {ready}");
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {said}");
    assert!(said.contains("error: ") && said.contains("help: ") && !said.contains("panicked"), "{said}");
    for (path, bytes) in &before {
        assert!(
            std::fs::read(path).unwrap() == *bytes,
            "`{}` was changed by a start that failed",
            path.display()
        );
    }
    said
}

/// Every file that holds what was written, with its bytes; `lock` says only who came last.
fn contents(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![];
    for below in ["wal", "audit", "openings", "state"] {
        files(&data.join(below), &mut all);
    }
    // SQLite's index of its own log is made anew whenever it is opened.
    all.retain(|path| path.extension().is_none_or(|end| end != "db-shm"));
    all.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn files(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, all) } else { all.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Puts a part of an earlier copy back in its place.
fn put_back(from: &Path, data: &Path, parts: &[&str]) {
    for part in parts {
        std::fs::remove_dir_all(data.join(part)).unwrap();
        copy(&from.join(part), &data.join(part));
    }
}

fn name(key: &str) -> KeyName {
    key.parse().unwrap()
}

/// What a client was told.
#[derive(Default)]
struct Told {
    operations: Vec<String>,
    sealed: Vec<Vec<u8>>,
}

impl Told {
    async fn create(&mut self, tenant: &Tenant, key: &str) {
        self.operations.push(tenant.create_key(&new_key(key)).await.unwrap().operation.unwrap().to_string());
    }

    /// Encrypts as often; gives the first refusal, if there is one.
    async fn encrypt(&mut self, tenant: &Tenant, key: &str, times: usize) -> Result<(), holdfast_sdk::Error> {
        for _ in 0..times {
            let done = tenant.encrypt(&name(key), b"told", &[]).await?;
            self.operations.push(done.operation.unwrap().to_string());
            self.sealed.push(done.body.ciphertext.0);
        }
        Ok(())
    }

    async fn suspend(&mut self, tenant: &Tenant, key: &str) {
        let done = tenant.transition_key(&name(key), Transition::Suspend).await.unwrap();
        self.operations.push(done.operation.unwrap().to_string());
    }

    /// Everything is in the log, closed once, and what was encrypted opens.
    async fn is_kept(&self, data: &Path, server: &Server, key: &str) {
        let tenant = tenant(data, &server.url);
        for sealed in self.sealed.iter().rev().take(3) {
            let opened = tenant.decrypt(&name(key), sealed, &[]).await.unwrap();
            assert_eq!(opened.body.plaintext.0.expose(), b"told");
        }
        let log = data.join("audit/dev");
        let whole = async {
            loop {
                let closed = closed(&log);
                if self.operations.iter().all(|operation| closed.contains(operation)) {
                    break closed;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let closed = tokio::time::timeout(PATIENCE, whole).await.expect("an acknowledged operation is lost");
        for operation in &self.operations {
            assert_eq!(closed.iter().filter(|other| *other == operation).count(), 1, "{operation}");
        }
    }
}

/// The operations that a log closes.
fn closed(log: &Path) -> Vec<String> {
    // A tree that was deleted is being made again.
    if LogReader::open(log).is_err() {
        return vec![];
    }
    closing(log).iter().map(|event| event["operation"].as_str().unwrap().to_owned()).collect()
}

/// The alarms in the gateway's own log.
fn alarms(data: &Path) -> Vec<String> {
    let events = events(&data.join("audit/_gateway"));
    events.iter().filter_map(|event| Some(event["alarm"].as_str()?.to_owned())).collect()
}

/// A directory in which something has been done, stopped in order.
async fn used(data: &Path) -> Told {
    let server = start(data);
    let mut told = Told::default();
    let tenant = tenant(data, &server.url);
    told.create(&tenant, "k").await;
    told.create(&tenant, "revoked").await;
    told.encrypt(&tenant, "k", 20).await.unwrap();
    server.ends();
    told
}

/// From here on nothing can be made durable in the log: operations are refused, a stop is in force, and the next start knows of it.
async fn fails_closed(data: &Path, traced: Traced, mut told: Told) {
    let tenant = tenant(data, &traced.server().url);
    let error = told.encrypt(&tenant, "k", 1_000).await.expect_err("the log has failed");
    assert_eq!(error.kind(), Some(ErrorKind::AuditUnavailable), "{error}");
    assert!(!error.remedy().is_empty());
    // It stays refused: after a failed sync nothing is known of what was written.
    let error = told.encrypt(&tenant, "k", 1).await.expect_err("the log has failed");
    assert_eq!(error.kind(), Some(ErrorKind::AuditUnavailable), "{error}");
    told.suspend(&tenant, "revoked").await;
    let error = tenant.encrypt(&name("revoked"), b"", &[]).await.expect_err("it is stopped");
    assert!(error.kind().is_some(), "{error}");
    traced.kill(data);
    let server = start(data);
    told.is_kept(data, &server, "k").await;
    let state = self::tenant(data, &server.url).key(&name("revoked")).await.unwrap().body.state.0;
    assert_eq!(state, KeyState::Suspended);
    server.ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_acknowledging_and_loses_nothing_that_was_acknowledged() {
    if !common::tool("strace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let told = used(&data).await;
    let traced = Traced::start(&data, FIRST, "inject=fdatasync:error=EIO:when=25+");
    fails_closed(&data, traced, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_ends_acknowledging_and_loses_nothing_that_was_acknowledged() {
    if !common::tool("strace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let told = used(&data).await;
    // What the kernel answers once it has turned a file system read-only by itself.
    let traced = Traced::start(&data, FIRST, "inject=pwrite64:error=EROFS:when=25+");
    fails_closed(&data, traced, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(mounted) = Tmpfs::mount(&disk, 256) else { return };
    let data = disk.join("data");
    let told = used(&data).await;
    mounted.read_only(true);
    let said = refused(&data);
    assert!(said.contains(&text(&data)), "{said}");
    mounted.read_only(false);
    let server = start(&data);
    told.is_kept(&data, &server, "k").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_deleted_under_the_gateway_acknowledges_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut told = used(&data).await;
    let server = start(&data);
    let as_one = tenant(&data, &server.url);
    told.encrypt(&as_one, "k", 5).await.unwrap();
    std::fs::remove_dir_all(data.join("wal")).unwrap();
    let error = told.encrypt(&as_one, "k", 1).await.expect_err("what it writes is in no file any more");
    assert_eq!(error.kind(), Some(ErrorKind::AuditUnavailable), "{error}");
    assert!(!error.remedy().is_empty());
    let done = as_one.transition_key(&name("revoked"), Transition::Suspend).await.unwrap();
    assert_eq!(done.body.state.0, KeyState::Suspended);
    server.signal(Signal::KILL);
    drop(server);
    let said = refused(&data);
    assert!(said.contains(&text(&data.join("wal"))) && said.contains("rollback.md"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_deleted_under_the_gateway_are_made_again_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut told = used(&data).await;
    let server = start(&data);
    let as_one = tenant(&data, &server.url);
    std::fs::remove_dir_all(data.join("audit")).unwrap();
    // Entries are durable in the write-ahead file; trees are made of it.
    told.encrypt(&as_one, "k", 5).await.unwrap();
    told.suspend(&as_one, "revoked").await;
    server.signal(Signal::KILL);
    drop(server);
    let server = start(&data);
    told.is_kept(&data, &server, "k").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_missing_at_the_start_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    used(&data).await;
    let kept = dir.path().join("kept");
    std::fs::rename(data.join("wal"), &kept).unwrap();
    let missing = |said: String| {
        assert!(said.contains(&text(&data.join("wal"))) && said.contains("rollback.md"), "{said}");
        assert!(!data.join(FIRST).exists(), "another one was begun in its place");
    };
    missing(refused(&data));
    std::fs::create_dir(data.join("wal")).unwrap();
    missing(refused(&data));
    let trees = dir.path().join("trees");
    std::fs::rename(data.join("audit"), &trees).unwrap();
    missing(refused(&data));
    std::fs::remove_dir(data.join("wal")).unwrap();
    std::fs::rename(&kept, data.join("wal")).unwrap();
    std::fs::rename(&trees, data.join("audit")).unwrap();
    let (status, log) = start(&data).stop();
    assert!(status.success(), "{log}");
}

/// Where the write-ahead file's last batch ends.
fn end(wal: &[u8]) -> usize {
    (wal.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(4096)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_tail_is_cut_with_an_event_and_a_flipped_byte_before_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let told = used(&data).await;
    let file = data.join(FIRST);
    let whole = std::fs::read(&file).unwrap();
    let end = end(&whole);
    // As a loss of power leaves it: a batch that is there in part.
    let mut torn = whole.clone();
    torn.copy_within(..2048, end);
    torn[end + 20] ^= 0x08;
    std::fs::write(&file, &torn).unwrap();
    let server = start(&data);
    told.is_kept(&data, &server, "k").await;
    server.ends();
    let cut: Vec<_> = alarms(&data).into_iter().filter(|alarm| alarm.contains("incomplete write")).collect();
    assert_eq!(cut.len(), 1, "{cut:?}");

    let whole = std::fs::read(&file).unwrap();
    for at in [0, 100, 4096 + 20, self::end(&whole) / 2 / 4096 * 4096 + 110] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&file, &flipped).unwrap();
        let said = refused(&data);
        assert!(said.contains(FIRST), "byte {at}: {said}");
    }
    std::fs::write(&file, &whole).unwrap();
    let server = start(&data);
    told.is_kept(&data, &server, "k").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_tree_or_in_the_state_is_refused_or_found_or_was_nothing_s() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut told = used(&data).await;
    // Once more: then an earlier checkpoint's tiles lie there too, which no start reads.
    let server = start(&data);
    told.encrypt(&tenant(&data, &server.url), "k", 1).await.unwrap();
    server.stop();
    let mut trees = vec![];
    files(&data.join("audit/dev"), &mut trees);
    let (mut refusals, mut found) = (0, 0);
    let pristine = dir.path().join("pristine");
    copy(&data, &pristine);
    let database = data.join("state/holdfast.db");
    for file in trees.into_iter().chain([database.clone()]) {
        let whole = std::fs::read(&file).unwrap();
        let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        let samples = if file == database { 12 } else { 2 };
        for sample in 0..samples {
            let at = used[(2 * sample + 1) * used.len() / (2 * samples)];
            let mut flipped = whole.clone();
            flipped[at] ^= 0x04;
            std::fs::write(&file, &flipped).unwrap();
            match try_start(&data) {
                Err(said) => {
                    refusals += 1;
                    assert!(said.contains("error: ") && said.contains("help: "), "byte {at}: {said}");
                    assert!(!said.contains("panicked"), "{said}");
                    assert!(
                        std::fs::read(&file).unwrap() == flipped,
                        "`{}` was mended in silence",
                        file.display()
                    );
                }
                // What a start does not read is found by whoever verifies; otherwise it was nothing's, and all that was told still holds.
                Ok(server) => {
                    server.stop();
                    match verify(&data.join("audit/dev"), &Trusted::default(), |_, _| {}) {
                        Err(_) => found += 1,
                        Ok(_) => {
                            let server = start(&data);
                            match is_used(&tenant(&data, &server.url), &told).await {
                                Ok(()) => told.is_kept(&data, &server, "k").await,
                                // A row that is not what was written is refused when it is read.
                                Err(error) => {
                                    refusals += 1;
                                    let kind = error.kind().expect("a problem");
                                    assert_eq!(kind, ErrorKind::StateUnavailable, "{error}");
                                    assert!(!error.remedy().is_empty());
                                }
                            }
                            server.stop();
                        }
                    }
                    put_back(&pristine, &data, &["state", "wal", "audit", "openings"]);
                }
            }
            std::fs::write(&file, &whole).unwrap();
        }
    }
    assert!(refusals >= 8 && found >= 1, "{refusals} flipped bytes were refused, {found} were found");
}

/// Whether what was encrypted opens.
async fn is_used(tenant: &Tenant, told: &Told) -> Result<(), holdfast_sdk::Error> {
    let opened = tenant.decrypt(&name("k"), told.sealed.last().unwrap(), &[]).await?;
    assert_eq!(opened.body.plaintext.0.expose(), b"told");
    Ok(())
}

/// A gateway, or what the start says that is refused.
fn try_start(data: &Path) -> Result<Server, String> {
    std::panic::catch_unwind(|| start(data)).map_err(|said| *said.downcast::<String>().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn last_week_s_directory_is_refused_in_part_and_said_to_be_beyond_notice_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (data, last_week, today) =
        (dir.path().join("data"), dir.path().join("last-week"), dir.path().join("today"));
    let mut told = used(&data).await;
    copy(&data, &last_week);
    let server = start(&data);
    told.suspend(&tenant(&data, &server.url), "revoked").await;
    told.encrypt(&tenant(&data, &server.url), "k", 10).await.unwrap();
    server.ends();
    copy(&data, &today);

    put_back(&last_week, &data, &["state"]);
    let said = refused(&data);
    assert!(said.contains("an older state was put back") && said.contains("rollback.md"), "{said}");
    put_back(&today, &data, &["state"]);
    put_back(&last_week, &data, &["wal", "audit", "openings"]);
    let said = refused(&data);
    assert!(said.contains("an older log was put back") && said.contains("rollback.md"), "{said}");
    put_back(&last_week, &data, &["wal"]);
    put_back(&today, &data, &["audit", "openings"]);
    let said = refused(&data);
    assert!(said.contains("an older log was put back") && said.contains("rollback.md"), "{said}");
    put_back(&today, &data, &["wal", "audit", "openings"]);
    let server = start(&data);
    told.is_kept(&data, &server, "k").await;
    server.stop();

    // All of it fits itself. Nothing inside can tell, and that is said; whoever keeps a later checkpoint can.
    let later = std::fs::read(data.join("audit/dev/checkpoint")).unwrap();
    put_back(&last_week, &data, &["state", "wal", "audit", "openings"]);
    let server = start(&data);
    let status = holdfast(["status", "--json"])
        .env("HOLDFAST_URL", &server.url)
        .env("HOLDFAST_CACERT", data.join("tls/ca.pem"))
        .env("HOLDFAST_CERT", data.join("credentials/operator.pem"))
        .env("HOLDFAST_KEY", data.join("credentials/operator.key"))
        .output()
        .unwrap();
    let said = common::stdout(&status);
    assert!(said.contains("cannot be noticed"), "{said}{}", common::stderr(&status));
    server.stop();
    let trusted = Trusted { earlier: Some(later), ..Trusted::default() };
    assert!(verify(&data.join("audit/dev"), &trusted, |_, _| {}).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_another_history_that_does_not_pass_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (data, clone) = (dir.path().join("data"), dir.path().join("clone"));
    let told = used(&data).await;
    copy(&data, &clone);
    let (one, other) = (start(&data), start(&clone));
    for (data, server, times) in [(&data, &one, 10), (&clone, &other, 30)] {
        Told::default().encrypt(&tenant(data, &server.url), "k", times).await.unwrap();
    }
    told.is_kept(&data, &one, "k").await;
    for server in [one, other] {
        server.ends();
    }
    let seen = std::fs::read(data.join("audit/dev/checkpoint")).unwrap();
    let trusted = Trusted { earlier: Some(seen), ..Trusted::default() };
    assert!(verify(&clone.join("audit/dev"), &trusted, |_, _| {}).is_err(), "two histories under one name");
    put_back(&clone, &data, &["audit"]);
    let said = refused(&data);
    assert!(said.contains("audit"), "{said}");
}
