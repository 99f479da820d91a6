//! Tokens of SoftHSM2 against the suite of the key stores' port: real modules, in worker processes, one PIN each.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(clippy::large_futures, reason = "one of each test at a time")]

use holdfast_conformance::doubles::{Journal, Records, Sim};
use holdfast_conformance::keystore::suite;
use holdfast_conformance::rig::{POLICY, Rig, context, decrypt, encrypt, new_key, sign};
use holdfast_conformance::softhsm::{MODULE, Token};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::context::Context;
use holdfast_core::port::{Health, KeyStore as _};
use holdfast_core::{ErrorKind, Secret};
use holdfast_keystore::pkcs11::{Distribution, Launch, Member, Patience, Pool, TokenStore, worker};
use holdfast_keystore::software::RootKey;
use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PIN: &[u8] = b"user-pin-5678";

/// What a worker is in these tests: this very binary, told to run this function.
#[test]
#[ignore = "started by the other tests, as a process of its own"]
fn a_worker_process() {
    worker::run();
}

/// A worker that speaks the protocol and lies, as its environment says.
#[test]
#[ignore = "started by the other tests, as a process of its own"]
fn a_lying_worker() {
    liar::run();
}

mod adopt;
mod emergency;
mod import;
mod liar;
mod pool;
mod travel;
mod vectors;

/// A token, as a member of a pool is started with it.
struct SoftHsm(Token);

impl std::ops::Deref for SoftHsm {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.0
    }
}

impl SoftHsm {
    fn new(label: &str) -> Self {
        Self(Token::new(tempfile::tempdir().unwrap(), label, std::str::from_utf8(PIN).unwrap()))
    }

    fn twin(&self) -> Self {
        Self(self.0.twin())
    }

    fn launch(&self, label: &str) -> Launch {
        Launch {
            arguments: ["a_worker_process", "--exact", "--ignored", "--nocapture"]
                .map(OsString::from)
                .to_vec(),
            environment: vec![("SOFTHSM2_CONF".into(), self.conf().into())],
            sessions: 4,
            ..Launch::new(MODULE, label, Secret::from(PIN))
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn patience() -> Patience {
    Patience { operation: Duration::from_secs(30), generation: Duration::from_secs(120) }
}

async fn store(hsm: &SoftHsm, label: &str, seed: u64) -> TokenStore<Sim> {
    over(hsm.launch(label), seed, patience()).await
}

async fn over(launch: Launch, seed: u64, patience: Patience) -> TokenStore<Sim> {
    let member = Member::start(launch);
    member.ready(READY).await.unwrap();
    let root = RootKey::new(Secret::new((0..32).collect())).unwrap();
    let pool = Pool::of(vec![member], Distribution::Vendor, 1).unwrap();
    TokenStore::open(root, Arc::new(Sim::new(seed)), pool, patience).unwrap()
}

/// Longer than a worker takes to come up on a busy machine.
const READY: Duration = Duration::from_secs(60);

type Bench = Rig<TokenStore<Sim>, Records, Journal>;

async fn found(store: TokenStore<Sim>) -> Bench {
    Rig::found(store, Records::default(), Journal::default(), POLICY).await.unwrap()
}

fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(done.success());
}

/// Stops a process; a signal reaches its threads one by one.
async fn stop(pid: u32) {
    signal(pid, "-STOP");
    let is_stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    let all_stopped = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
        stats.all(is_stopped)
    };
    while !all_stopped() {
        tokio::task::yield_now().await;
    }
}

/// Waits until the member has another worker than this one.
async fn another_worker(rig: &Bench, than: u32) -> u32 {
    loop {
        rig.keys().pool().members()[0].ready(READY).await.unwrap();
        match rig.keys().pool().members()[0].worker() {
            Some(pid) if pid != than => return pid,
            Some(_) | None => tokio::task::yield_now().await,
        }
    }
}

#[test]
fn a_token_of_softhsm_does_all_that_it_offers() {
    let hsm = SoftHsm::new("one");
    let seeds = std::cell::Cell::new(100);
    let held = runtime().block_on(suite(async || {
        seeds.set(seeds.get() + 1);
        store(&hsm, "one", seeds.get()).await
    }));
    let never = [
        Algorithm::Xaes256Gcm,
        Algorithm::Aes256GcmSiv,
        Algorithm::MlDsa65,
        Algorithm::MlKem768,
        // Its unwrapping loses the length of what was padded.
        Algorithm::Aes256Kwp,
        // SoftHSM makes Montgomery keys by the mechanism of the Edwards ones.
        Algorithm::X25519,
    ];
    let expected: Vec<_> =
        Algorithm::ALL.iter().copied().filter(|algorithm| !never.contains(algorithm)).collect();
    assert_eq!(held, expected);
}

#[test]
fn a_killed_worker_is_an_error_with_a_cause_and_then_there_is_another() {
    let hsm = SoftHsm::new("two");
    runtime().block_on(async {
        let rig = found(store(&hsm, "two", 1).await).await;
        rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[("row", "1")]))).await.unwrap();
        for _ in 0..3 {
            let killed = rig.keys().pool().members()[0].worker().unwrap();
            signal(killed, "-KILL");
            // Whatever is asked until the next one is there has an answer.
            let next = another_worker(&rig, killed);
            tokio::pin!(next);
            loop {
                let open = rig.bytes("alice", "k", decrypt(&sealed, context(&[("row", "1")])));
                let opened = tokio::select! {
                    biased;
                    opened = open => opened,
                    _ = &mut next => break,
                };
                if let Err(error) = opened {
                    assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable, "{}", error.chain());
                    assert!(error.chain().contains("worker"), "{}", error.chain());
                    tokio::task::yield_now().await;
                }
                if rig.keys().pool().members()[0].worker().is_some_and(|pid| pid != killed) {
                    break;
                }
            }
            // Its keys are found again by their CKA_ID.
            rig.keys().pool().members()[0].ready(READY).await.unwrap();
            let opened = rig.bytes("alice", "k", decrypt(&sealed, context(&[("row", "1")]))).await.unwrap();
            assert_eq!(opened, b"4711");
            assert_eq!(rig.keys().health(), Health::Ready);
        }
    });
}

/// The kernel ends a worker with the thread that is its parent. That is none of the runtime's, which come and go.
#[test]
fn a_worker_stays_when_the_thread_that_asked_for_it_ends() {
    let hsm = SoftHsm::new("seven");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rig = std::thread::scope(|scope| {
        let asks = || runtime.block_on(async { found(store(&hsm, "seven", 1).await).await });
        scope.spawn(asks).join().unwrap()
    });
    let worker = || rig.keys().pool().members()[0].worker().unwrap();
    let before = worker();
    runtime.block_on(rig.create(new_key("k", Algorithm::Rsa2048))).unwrap();
    assert_eq!(worker(), before);
}

#[test]
fn a_worker_that_hangs_costs_a_deadline_each_and_is_replaced() {
    let hsm = SoftHsm::new("three");
    runtime().block_on(async {
        // Longer than what waits for an answer, so that it waits in vain.
        let launch = Launch { hang: Duration::from_secs(4), ..hsm.launch("three") };
        // Long enough for a busy machine to make a key.
        let short = Patience { operation: Duration::from_secs(2), ..patience() };
        let rig = found(over(launch, 1, short).await).await;
        rig.create(new_key("k", Algorithm::EcdsaP256)).await.unwrap();
        let hung = rig.keys().pool().members()[0].worker().unwrap();
        stop(hung).await;
        let error = rig.bytes("alice", "k", sign(b"message")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable);
        assert!(error.to_string().contains("in time"), "{}", error.chain());
        assert!(matches!(rig.keys().health(), Health::Unready(_)), "nobody is told that all is well");
        assert_ne!(another_worker(&rig, hung).await, hung);
        rig.bytes("alice", "k", sign(b"message")).await.unwrap();
        assert_eq!(rig.keys().health(), Health::Ready);
    });
}

#[test]
fn more_than_may_wait_are_refused_at_once() {
    let hsm = SoftHsm::new("four");
    runtime().block_on(async {
        // A probe would take a place of those that are counted.
        let launch = Launch { sessions: 1, queue: 2, probe: READY, ..hsm.launch("four") };
        let rig = found(over(launch, 1, patience()).await).await;
        // Known to be quick, on a busy machine too: only of such is one sent ahead.
        rig.create(new_key("k", Algorithm::EcdsaP256)).await.unwrap();
        let quick = tokio::time::timeout(READY, async {
            while !(1..=2000).contains(&rig.keys().pool().members()[0].report().latency[1].p50) {
                rig.bytes("alice", "k", sign(b"message")).await.unwrap();
            }
        });
        quick.await.unwrap();
        stop(rig.keys().pool().members()[0].worker().unwrap()).await;
        let mut asked: Vec<_> = (0..6).map(|_| Box::pin(rig.bytes("alice", "k", sign(b"message")))).collect();
        let mut refused = 0;
        for one in &mut asked {
            // One is being done, one is the session's next, and two wait; what is refused is refused when it is first looked at.
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(one.as_mut().poll(context))).await;
            if let std::task::Poll::Ready(done) = polled {
                let error = done.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Throttled, "{}", error.chain());
                refused += 1;
            }
        }
        assert_eq!(refused, 2);
        signal(rig.keys().pool().members()[0].worker().unwrap(), "-CONT");
        for one in asked.into_iter().take(4) {
            one.await.unwrap();
        }
    });
}

/// Nothing that a token's own people can do to it brings more than an error with a remedy.
#[test]
fn a_token_without_the_key_says_so() {
    let hsm = SoftHsm::new("five");
    runtime().block_on(async {
        let rig = found(store(&hsm, "five", 1).await).await;
        rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", Context::EMPTY)).await.unwrap();
        for token in std::fs::read_dir(hsm.path("tokens")).unwrap() {
            for object in std::fs::read_dir(token.unwrap().path()).unwrap() {
                let object = object.unwrap().path();
                if object.file_name().unwrap() != "token.object"
                    && object.extension().is_some_and(|kind| kind == "object")
                {
                    std::fs::remove_file(object).unwrap();
                }
            }
        }
        let before = rig.keys().pool().members()[0].worker().unwrap();
        signal(before, "-KILL");
        another_worker(&rig, before).await;
        let error = rig.bytes("alice", "k", decrypt(&sealed, Context::EMPTY)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable);
        assert!(error.to_string().contains("does not hold this key"), "{}", error.chain());
        assert!(error.remedy_text().contains("backup"), "{}", error.remedy_text());
    });
}

#[test]
fn what_does_not_come_up_says_why() {
    let hsm = SoftHsm::new("six");
    let pin = "never-to-be-seen";
    runtime().block_on(async {
        for (launch, said) in [
            (hsm.launch("another"), "the module has no token `another`; it has `six`"),
            (Launch { module: "/nowhere.so".to_owned(), ..hsm.launch("six") }, "/nowhere.so"),
            (
                Launch { pin: Secret::from(pin.as_bytes()), ..hsm.launch("six") },
                "C_Login: CKR_PIN_INCORRECT; it is not tried again",
            ),
            (Launch { program: "/bin/false".into(), ..hsm.launch("six") }, ""),
            (Launch { program: "/nowhere".into(), ..hsm.launch("six") }, "No such file"),
        ] {
            let member = Member::start(launch);
            let mut why = String::new();
            let begun = Instant::now();
            while begun.elapsed() < READY {
                why = member.ready(Duration::from_millis(50)).await.unwrap_err().to_string();
                if why.contains(said) && !why.contains("being started") {
                    break;
                }
            }
            assert!(why.contains(said) && !why.contains(pin), "`{why}` should say `{said}`");
        }
    });
}

/// What a worker is started with that lies so.
fn lies(lie: &str) -> Launch {
    Launch {
        arguments: ["a_lying_worker", "--exact", "--ignored", "--nocapture"].map(OsString::from).to_vec(),
        environment: vec![("LIE".into(), lie.into())],
        sessions: 1,
        ..Launch::new("module", "token", Secret::from(PIN))
    }
}

/// A module, or whoever took its process over, can refuse service; it can't have a wrong result taken for a right one.
#[test]
fn a_lie_is_no_result() {
    runtime().block_on(async {
        for (lie, algorithm, said) in [
            ("extractable", Algorithm::EcdsaP256, "made inside and can never leave"),
            ("no-point", Algorithm::EcdsaP256, "no public half"),
            ("another-question", Algorithm::EcdsaP256, "to another question"),
            ("wrong-at-once", Algorithm::EcdsaP256, "does not verify"),
            ("short", Algorithm::Aes256Gcm, "not what its name says"),
            ("garbage", Algorithm::EcdsaP256, "cannot be reached"),
            ("endless", Algorithm::EcdsaP256, "cannot be reached"),
            ("no-packet", Algorithm::EcdsaP256, "cannot be reached"),
            ("another-number", Algorithm::EcdsaP256, "cannot be reached"),
        ] {
            let rig = found(over(lies(lie), 1, patience()).await).await;
            let error = rig.create(new_key("k", algorithm)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable, "{lie}: {}", error.chain());
            assert!(error.to_string().contains(said), "{lie}: {}", error.chain());
        }
        let rig = found(over(lies("wrong-later"), 1, patience()).await).await;
        rig.create(new_key("k", Algorithm::EcdsaP256)).await.unwrap();
        let error = rig.bytes("alice", "k", sign(b"message")).await.unwrap_err();
        assert!(error.to_string().contains("does not verify"), "{}", error.chain());
    });
}
