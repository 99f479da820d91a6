//! Several tokens as one: what one of them can't do, another does.

use super::travel::lenient;
use super::{READY, SoftHsm, lies, patience, runtime, signal, stop};
use holdfast_conformance::doubles::{Journal, Records, Sim};
use holdfast_conformance::keystore::suite;
use holdfast_conformance::rig::{POLICY, Rig, context, decrypt, encrypt, name, new_key, sign, transition};
use holdfast_core::algorithm::{Algorithm, Hash, Purpose};
use holdfast_core::command::NewKey;
use holdfast_core::lifecycle::Transition;
use holdfast_core::port::{Health, KeyStore as _};
use holdfast_core::{ErrorKind, MemberName, Secret};
use holdfast_keystore::pkcs11::message::{Reply, Request};
use holdfast_keystore::pkcs11::{Condition, Distribution, Launch, Member, Patience, Pool, TokenStore};
use holdfast_keystore::software::RootKey;
use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

pub(crate) type Bench = Rig<TokenStore<Sim>, Records, Journal>;

pub(crate) fn named(name: &str, launch: Launch) -> Launch {
    Launch { name: name.to_owned(), ..launch }
}

pub(crate) async fn over(
    launches: Vec<Launch>,
    copies: usize,
    seed: u64,
    patience: Patience,
) -> TokenStore<Sim> {
    let travels = launches.iter().any(|launch| !launch.kek.is_empty());
    let distribution = if travels { Distribution::Wrapped } else { Distribution::Vendor };
    let pool = Pool::start(launches, distribution, copies).unwrap();
    for member in pool.members() {
        member.ready(READY).await.unwrap();
    }
    let root = RootKey::new(Secret::new((0..32).collect())).unwrap();
    TokenStore::open(root, Arc::new(Sim::new(seed)), pool, patience).unwrap()
}

pub(crate) async fn found(store: TokenStore<Sim>) -> Bench {
    Rig::found(store, Records::default(), Journal::default(), POLICY).await.unwrap()
}

pub(crate) fn member<'a>(rig: &'a Bench, name: &str) -> &'a Member {
    rig.keys().pool().members().iter().find(|member| member.name() == name).unwrap()
}

/// Waits until a member is as it should be.
pub(crate) async fn until(rig: &Bench, name: &str, is: impl Fn(&Condition) -> bool) {
    let waited = tokio::time::timeout(READY, async {
        while !is(&member(rig, name).condition()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{name} is {:?}", member(rig, name).condition());
}

/// Asks until a member is out for a wrong result, and gives the reason. What a busy machine keeps from answering is tried again first.
async fn until_ejected(rig: &Bench, name: &str, ask: impl AsyncFn()) -> Arc<str> {
    let waited = tokio::time::timeout(READY, async {
        loop {
            until(rig, name, |condition| matches!(condition, Condition::Up | Condition::Ejected(_))).await;
            if let Condition::Ejected(why) = member(rig, name).condition() {
                break why;
            }
            ask().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{name} is {:?}", member(rig, name).condition()))
}

/// Has finished what waits until these members have erased a key, and no others: whoever a busy machine keeps from answering is asked again.
pub(crate) async fn until_absent(rig: &Bench, key: &str, members: &[&str]) {
    let names = |members: &[MemberName]| members.iter().map(ToString::to_string).collect::<Vec<_>>();
    let absent = || names(&rig.state().find(&rig.acme, &name(key)).unwrap().erasure.unwrap().absent);
    let waited = tokio::time::timeout(READY, async {
        loop {
            drop(rig.pipeline.finish_what_waits().await);
            if absent() == members {
                break;
            }
            rig.world.step(600);
        }
    });
    assert!(waited.await.is_ok(), "{key} is absent on {:?}", absent());
}

/// Two workers on one token: what one makes, the other has.
#[test]
fn a_replicated_pool_does_all_that_one_token_does() {
    let hsm = SoftHsm::new("pool");
    let seeds = Cell::new(200);
    let held = runtime().block_on(suite(async || {
        seeds.set(seeds.get() + 1);
        // However busy the machine is with making RSA keys.
        let launches = ["a", "b"].map(|name| Launch { overdue: READY, ..named(name, hsm.launch("pool")) });
        over(launches.into(), 2, seeds.get(), patience()).await
    }));
    assert_eq!(held.len(), 14, "{held:?}");
}

/// What one member has made another one finds, however it is made: nothing is asked for twice where nothing is wrong.
#[test]
fn a_pool_in_health_is_asked_once() {
    let hsm = SoftHsm::new("pool");
    runtime().block_on(async {
        let launches = ["a", "b"].map(|name| Launch { overdue: READY, ..named(name, hsm.launch("pool")) });
        let rig = found(over(launches.into(), 2, 2, patience()).await).await;
        let signing = [Algorithm::EcdsaP256, Algorithm::Ed25519, Algorithm::Rsa2048];
        for (at, algorithm) in signing.into_iter().enumerate() {
            let key = format!("k{at}");
            rig.create(new_key(&key, algorithm)).await.unwrap();
            for _ in 0..8 {
                rig.bytes("alice", &key, sign(b"message")).await.unwrap();
            }
            let (_hedged, failed) = rig.keys().pool().repeats();
            assert_eq!(failed, 0, "{algorithm}");
        }
    });
}

/// Two members that take so long, each with one session, in a closed loop of so many callers until `end` have been answered: what was asked of a
/// second member by then, hedged and late, and who had no answer in time. Where an answer took longer than `usual` in the middle, a busy machine had its share
/// in that, and all of it is done once more at half the speed.
async fn loaded(
    who: [&str; 2],
    (patience, usual): (Duration, Duration),
    callers: usize,
    end: usize,
) -> (u64, u64, usize) {
    let (begun, mut slower) = (Instant::now(), 1);
    loop {
        let who = who.map(|lie| match lie.strip_prefix("slow-") {
            Some(milliseconds) => format!("slow-{}", milliseconds.parse::<u32>().unwrap() * slower),
            None => lie.to_owned(),
        });
        let (told, took) =
            loaded_once(who.each_ref().map(String::as_str), patience * slower, callers, end).await;
        // Little's law.
        let took = took * u32::try_from(callers).unwrap() / u32::try_from(end).unwrap();
        if took <= usual * slower || begun.elapsed() > READY {
            return told;
        }
        slower *= 2;
    }
}

async fn loaded_once(
    who: [&str; 2],
    patience: Duration,
    callers: usize,
    end: usize,
) -> ((u64, u64, usize), Duration) {
    let launches = who.map(|lie| named(lie, Launch { overdue: READY, ..lies(lie) }));
    let pool = Pool::start(launches.into(), Distribution::Vendor, 1).unwrap();
    for member in pool.members() {
        member.ready(READY).await.unwrap();
    }
    let (done, failed, ended, begun) = (Cell::new(0), Cell::new(0), Cell::new(None), Instant::now());
    let request = Request::Mac { id: [1; 16], hash: Hash::Sha256, message: b"message" };
    all((0..callers).map(async |_| {
        while ended.get().is_none() {
            let asked = pool.ask(&request, patience, |reply| Ok(matches!(reply, Reply::Done(_)))).await;
            match asked.result {
                Ok(is_done) => assert!(is_done),
                Err(_) => failed.set(failed.get() + 1),
            }
            done.set(done.get() + 1);
            if done.get() == end {
                ended.set(Some((pool.repeats(), begun.elapsed())));
            }
        }
    }))
    .await;
    let ((hedged, late), took) = ended.get().unwrap();
    ((hedged, late, failed.get()), took)
}

/// Whoever waits for a session waits for others, and a second request would wait behind yet others: neither before it is late nor then.
#[test]
fn a_pool_with_too_much_to_do_is_not_given_more() {
    runtime().block_on(async {
        // Each waits for some sixteen others, longer than until it is late.
        let patience = Duration::from_millis(160);
        let (hedged, late, _) = loaded(["slow-4", "slow-5"], (patience, patience * 3 / 4), 32, 600).await;
        // One in ten and what was saved up; a member that a busy machine does not let run counts as silent. Half, where lateness is a ground.
        assert!(hedged + late < 200, "{hedged} {late}");
    });
}

/// A member that answers, and too slowly for all that wait for it, keeps nobody from another one.
#[test]
fn a_slow_member_fails_nobody_while_another_is_quick() {
    runtime().block_on(async {
        let patience = Duration::from_millis(900);
        let (_, late, failed) = loaded(["slow-60", "slow-1"], (patience, patience / 4), 64, 2000).await;
        assert!(late > 0 && failed == 0, "{late} {failed}");
    });
}

/// Nor does one that answers nobody any more, however many wait for it; and that it is silent is seen long before they are late.
#[test]
fn a_silent_member_fails_nobody() {
    runtime().block_on(async {
        let patience = Duration::from_millis(900);
        let (hedged, late, failed) =
            loaded(["silent-later", "slow-1"], (patience, patience / 3), 160, 2000).await;
        assert!(hedged > 0 && late > 0 && failed == 0, "{hedged} {late} {failed}");
    });
}

/// Modules that compute share the processors, and whoever is left alone has them all.
#[test]
fn members_share_the_processors_while_they_work() {
    runtime().block_on(async {
        let launch = || Launch { processors: 8, overdue: READY, probe: READY, ..lies("share") };
        let launches = ["a", "b"].map(|name| named(name, launch()));
        let pool = Pool::start(launches.into(), Distribution::Vendor, 1).unwrap();
        for member in pool.members() {
            member.ready(READY).await.unwrap();
        }
        let request = Request::Mac { id: [1; 16], hash: Hash::Sha256, message: b"message" };
        let share = async || {
            let read = |reply: &Reply<'_>| {
                let Reply::Done(share) = reply else { panic!("{reply:?}") };
                Ok(share.to_vec())
            };
            pool.ask(&request, READY, read).await.result.unwrap()
        };
        // Members are asked in turn, many times each.
        let all_have = async |expected: &[u8]| {
            let mut in_a_row = 0;
            while in_a_row < 300 {
                in_a_row = if share().await == expected { in_a_row + 1 } else { 0 };
            }
        };
        let [a, _] = pool.members() else { panic!("two members") };
        for (what, expected) in [("both", 4), ("one", 8), ("both again", 4)] {
            match what {
                "one" => a.drain(),
                _ => a.join(),
            }
            assert!(tokio::time::timeout(READY, all_have(&[expected])).await.is_ok(), "{what}");
        }
    });
}

/// Waits for all of them at once.
async fn all(calls: impl Iterator<Item: Future<Output = ()>>) {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    poll_fn(|context| {
        calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Callers in a closed loop, who count what they got.
#[derive(Default)]
struct Callers {
    stop: AtomicBool,
    done: AtomicUsize,
}

impl Callers {
    async fn run(&self, rig: &Bench, sealed: &[u8]) {
        let calls = (0..16).map(async |caller| {
            while !self.stop.load(Ordering::Relaxed) {
                let (key, operation) = match caller % 3 {
                    0 => ("signs", sign(b"message")),
                    1 => ("k", decrypt(sealed, context(&[("row", "1")]))),
                    _ => ("k", encrypt(b"4711", context(&[]))),
                };
                let done = rig.bytes("alice", key, operation).await;
                let done = done.unwrap_or_else(|error| {
                    let members: Vec<_> = rig
                        .keys()
                        .pool()
                        .reports()
                        .into_iter()
                        .map(|one| (one.name, one.condition))
                        .collect();
                    panic!("{} with {members:?}", error.chain());
                });
                assert!(caller % 3 != 1 || done == b"4711");
                self.done.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        all(calls).await;
    }

    /// Waits until so many more have been answered.
    async fn answered(&self, more: usize) {
        let goal = self.done.load(Ordering::Relaxed) + more;
        while self.done.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Whatever happens to one of two members, nobody is refused, and then there are two again without a hand.
#[test]
fn what_happens_to_one_member_fails_no_request() {
    let a = SoftHsm::new("pool");
    runtime().block_on(async {
        let b = a.twin();
        // Nor does whoever it keeps from running for a moment count as giving no answer.
        let launch = |(name, hsm): (&str, &SoftHsm)| Launch {
            overdue: Duration::from_secs(1),
            hang: Duration::from_secs(1),
            ..named(name, hsm.launch("pool"))
        };
        let launches = [("a", &a), ("b", &b)].map(launch);
        // A busy machine may take its time; the deadline itself is measured by the benchmark.
        let patience = Patience { operation: Duration::from_secs(3), ..patience() };
        let rig = found(over(launches.into(), 1, 1, patience).await).await;
        member(&rig, "b").drain();
        rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        rig.create(new_key("signs", Algorithm::EcdsaP256)).await.unwrap();
        a.replicate(&b);
        member(&rig, "b").join();
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[("row", "1")]))).await.unwrap();
        let before = rig.log().entries().len();
        let callers = Callers::default();
        let faults = async {
            callers.answered(200).await;
            for (name, hsm) in [("a", &a), ("b", &b), ("a", &a)] {
                let killed = member(&rig, name).worker().unwrap();
                signal(killed, "-KILL");
                callers.answered(100).await;
                until(&rig, name, |condition| *condition == Condition::Up).await;

                let hung = loop {
                    match member(&rig, name).worker() {
                        Some(pid) if pid != killed => break pid,
                        Some(_) | None => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                };
                callers.answered(100).await;
                stop(hung).await;
                callers.answered(100).await;
                until(&rig, name, |condition| *condition != Condition::Up).await;
                callers.answered(100).await;
                until(&rig, name, |condition| *condition == Condition::Up).await;
                assert_ne!(member(&rig, name).worker(), Some(hung));

                let aside = hsm.path("aside");
                std::fs::rename(hsm.tokens(), &aside).unwrap();
                until(&rig, name, |condition| *condition != Condition::Up).await;
                callers.answered(100).await;
                std::fs::rename(&aside, hsm.tokens()).unwrap();
                callers.answered(100).await;
                until(&rig, name, |condition| *condition == Condition::Up).await;
            }
            callers.answered(100).await;
            callers.stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(callers.run(&rig, &sealed), faults);
        // Each has its entry, and nothing else has.
        assert_eq!(rig.log().entries().len() - before, callers.done.load(Ordering::Relaxed));
        assert_eq!(rig.keys().health(), Health::Ready);
        // Who was killed failed somebody, and who was stopped was slow.
        let (hedged, retried) = rig.keys().pool().repeats();
        assert!(hedged > 0 && retried > 0, "{hedged} {retried}");
        for report in rig.keys().pool().reports() {
            assert!(report.answered > 100, "{report:?}");
        }
    });
}

#[test]
fn without_any_member_there_is_an_answer_at_once_and_everything_again_when_one_is_back() {
    let hsm = SoftHsm::new("pool");
    runtime().block_on(async {
        let launches = ["a", "b"].map(|name| named(name, hsm.launch("pool")));
        let rig = found(over(launches.into(), 2, 1, patience()).await).await;
        rig.create(new_key("k", Algorithm::EcdsaP256)).await.unwrap();
        member(&rig, "a").drain();
        let error = rig.create(new_key("another", Algorithm::EcdsaP256)).await.unwrap_err();
        assert!(
            error.to_string().contains("held by 2 members") && error.remedy_text().contains("`a`"),
            "{error}"
        );
        rig.bytes("alice", "k", sign(b"message")).await.unwrap();
        member(&rig, "b").drain();
        let error = rig.bytes("alice", "k", sign(b"message")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable);
        assert!(error.chain().contains("a: an operator took it out"), "{}", error.chain());
        assert!(matches!(rig.keys().health(), Health::Unready(_)));
        member(&rig, "a").join();
        rig.bytes("alice", "k", sign(b"message")).await.unwrap();
        assert_eq!(rig.keys().health(), Health::Ready);
        member(&rig, "b").join();
        rig.create(new_key("another", Algorithm::EcdsaP256)).await.unwrap();
    });
}

/// A member that signs wrongly is out for good, and its callers are none the wiser.
#[test]
fn a_wrong_result_ejects_its_member() {
    let hsm = SoftHsm::new("pool");
    runtime().block_on(async {
        let launches = vec![named("honest", hsm.launch("pool")), named("liar", lies("wrong-later"))];
        let rig = found(over(launches, 1, 1, patience()).await).await;
        member(&rig, "liar").drain();
        rig.create(new_key("k", Algorithm::EcdsaP256)).await.unwrap();
        member(&rig, "liar").join();
        // It says what it likes of a key that it does not hold.
        let why = until_ejected(&rig, "liar", async || {
            rig.bytes("alice", "k", sign(b"message")).await.unwrap();
        });
        let why = why.await;
        assert!(why.contains("does not verify"), "{why}");
        rig.bytes("alice", "k", sign(b"message")).await.unwrap();
        assert_eq!(rig.keys().health(), Health::Ready);
    });
}

/// The second member has another key under this one's id: as after a restoration that went wrong.
async fn exchanged(a: &SoftHsm, b: &SoftHsm, key: &str, algorithm: Algorithm, kind: &str) -> Bench {
    let launches = vec![named("a", a.launch("pool")), named("b", b.launch("pool"))];
    exchanged_in(launches, (a, b), key, algorithm, kind).await
}

async fn exchanged_in(
    launches: Vec<Launch>,
    (a, b): (&SoftHsm, &SoftHsm),
    key: &str,
    algorithm: Algorithm,
    kind: &str,
) -> Bench {
    let rig = found(over(launches, 1, 1, patience()).await).await;
    member(&rig, "b").drain();
    let purpose = (algorithm == Algorithm::Rsa2048).then_some(Purpose::Encrypt);
    rig.create(NewKey { purpose, ..new_key(key, algorithm) }).await.unwrap();
    let (class, make) = match algorithm.is_asymmetric() {
        true => ("privkey", "--keypairgen"),
        false => ("secrkey", "--keygen --sensitive"),
    };
    let listed = a.tool(&format!("--list-objects --type {class}"));
    let id = listed.lines().find_map(|line| line.trim().strip_prefix("ID:")).unwrap().trim();
    b.tool(&format!("{make} --key-type {kind} --label other --id {id}"));
    rig
}

/// What a key of RSA-2048 encrypts, smaller than any modulus of that length: another key makes a wrong result of it, and does not fail.
pub(crate) async fn encrypted_small(rig: &Bench, key: &str) -> Vec<u8> {
    loop {
        let sealed = rig.bytes("alice", key, encrypt(b"4711", context(&[]))).await.unwrap();
        if sealed[sealed.len() - 256] < 0x80 {
            return sealed;
        }
    }
}

/// What does not verify for one member is asked of another one, and who has another key than was made is out.
#[test]
fn a_member_that_holds_another_key_fails_nobody_and_is_out() {
    let a = SoftHsm::new("pool");
    let b = a.twin();
    runtime().block_on(async {
        let rig = exchanged(&a, &b, "k", Algorithm::Aes256Gcm, "AES:32").await;
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[]))).await.unwrap();
        member(&rig, "b").join();
        until(&rig, "b", |condition| *condition == Condition::Up).await;
        let asked = || member(&rig, "b").report().answered;
        let before = asked();
        let why = until_ejected(&rig, "b", async || {
            let opened = rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await;
            assert_eq!(opened.unwrap(), b"4711", "b was asked {} times", asked() - before);
        });
        let why = why.await;
        assert!(why.contains("is another key"), "{why}");
        until(&rig, "a", |condition| *condition == Condition::Up).await;
        // What nobody opens does not verify, for both.
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        let refused = rig.bytes("alice", "k", decrypt(&changed, context(&[]))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Integrity);
    });
}

/// A bare result is not decoded before it is known to be the key's: who has another key fails nobody and is out at once.
#[test]
fn a_member_that_holds_another_rsa_key_is_out_by_its_first_bare_result() {
    let a = SoftHsm::new("pool");
    let b = a.twin();
    runtime().block_on(async {
        let rig = exchanged(&a, &b, "k", Algorithm::Rsa2048, "rsa:2048").await;
        let sealed = encrypted_small(&rig, "k").await;
        member(&rig, "b").join();
        let why = until_ejected(&rig, "b", async || {
            assert_eq!(rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await.unwrap(), b"4711");
        });
        let why = why.await;
        assert!(why.contains("is not that of its key"), "{why}");
    });
}

/// Devices that choose their own nonces show nothing that could be compared, and each attempt takes a nonce that nobody counts.
#[test]
fn members_that_show_nothing_are_compared_once_by_a_key() {
    let a = SoftHsm::new("pool");
    let b = a.twin();
    let module = lenient(&a);
    let sealed_in = a.path("sealed");
    let launches = [("a", &a), ("b", &b)].map(|(name, hsm)| {
        // Whoever a busy machine keeps waiting is not started again: that would take another sample.
        let launch = Launch { module: module.clone(), overdue: READY, ..hsm.launch("pool") };
        let mut launch = named(name, launch);
        launch.environment.push(("LENIENT".into(), "own nonces".into()));
        launch.environment.push(("SEALED".into(), sealed_in.clone().into()));
        launch
    });
    runtime().block_on(async {
        let rig = exchanged_in(launches.into(), (&a, &b), "k", Algorithm::Aes256Gcm, "AES:32").await;
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[]))).await.unwrap();
        member(&rig, "b").join();
        until(&rig, "b", |condition| *condition == Condition::Up).await;
        let counted = || std::fs::read(&sealed_in).unwrap().len();
        let (before, asked) = (counted(), || member(&rig, "b").report().answered);
        let first = asked();
        while asked() < first + 40 {
            let opened = rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await;
            assert_eq!(opened.unwrap(), b"4711");
        }
        let more = counted() - before;
        assert!(more <= 3, "a sample of b's, and one comparison: {more}");
        until(&rig, "b", |condition| *condition == Condition::Up).await;
    });
}

/// Nobody asks for it: the look through all keys finds it out.
#[test]
fn a_look_through_all_keys_finds_out_who_holds_another_one() {
    runtime().block_on(async {
        let keys = [
            ("m", Algorithm::HmacSha256, "GENERIC:32"),
            ("g", Algorithm::Aes256Gcm, "AES:32"),
            ("w", Algorithm::Aes256Kw, "AES:32"),
        ];
        for (key, algorithm, kind) in keys {
            let (a, b) = (SoftHsm::new("pool"), SoftHsm::new("pool"));
            let rig = exchanged(&a, &b, key, algorithm, kind).await;
            member(&rig, "b").join();
            let why = until_ejected(&rig, "b", async || {
                rig.pipeline.sweep_pool(|| true).await.unwrap();
                rig.world.pass(3600);
            });
            let why = why.await;
            assert!(why.contains("is another key"), "{why}");
            until(&rig, "a", |condition| *condition == Condition::Up).await;
        }
    });
}

/// SoftHSM says of a wrong tag what it says of itself when it fails: it is asked whether the key works, and callers decide how often.
#[test]
fn what_does_not_verify_costs_no_nonces() {
    let hsm = SoftHsm::new("pool");
    let mut launch = named("a", Launch { module: lenient(&hsm), ..hsm.launch("pool") });
    launch.environment.push(("LENIENT".into(), "counts".into()));
    launch.environment.push(("SEALED".into(), hsm.path("sealed").into()));
    runtime().block_on(async {
        let rig = found(over(vec![launch], 1, 1, patience()).await).await;
        rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        let mut sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[]))).await.unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        let counted = || std::fs::read(hsm.path("sealed")).unwrap().len();
        let before = counted();
        for _ in 0..20 {
            let refused = rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Integrity);
        }
        assert_eq!(counted() - before, 1, "the sample");
    });
}

/// A key must be where the configuration wants it before it is one.
#[test]
fn a_key_that_does_not_reach_the_others_is_none() {
    let a = SoftHsm::new("pool");
    runtime().block_on(async {
        let b = a.twin();
        let launches = vec![named("a", a.launch("pool")), named("b", b.launch("pool"))];
        // For a busy machine to make it: it is waited for all of that.
        let short = Patience { generation: Duration::from_secs(4), ..patience() };
        let rig = found(over(launches, 2, 1, short).await).await;
        let error = rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap_err();
        assert!(error.to_string().contains("did not reach as many members"), "{}", error.chain());
        for hsm in [&a, &b] {
            assert_eq!(hsm.objects(), 0, "what is no key is not left behind");
        }
    });
}

/// No member waits for another one to erase something, so whoever is refused does not wait for all of them one after the other.
#[test]
fn all_members_are_asked_at_once_to_erase() {
    let asked = tempfile::tempdir().unwrap();
    let launches = ["a", "b"].map(|name| {
        let mut launch = named(name, lies("together"));
        launch.environment.push(("ASKED".into(), asked.path().into()));
        launch
    });
    runtime().block_on(async {
        let rig = found(over(launches.into(), 1, 1, patience()).await).await;
        // As long as erasing may take each waits for the other: on a busy machine that can be too short, and never long enough where one is asked after the other.
        let waited = tokio::time::timeout(READY, async {
            for round in 0.. {
                for name in ["a", "b"] {
                    until(&rig, name, |condition| *condition == Condition::Up).await;
                }
                let key = format!("k{round}");
                rig.create(new_key(&key, Algorithm::EcdsaP256)).await.unwrap();
                rig.command("carol", transition(&key, Transition::Deactivate)).await.unwrap();
                rig.command("carol", transition(&key, Transition::Destroy(None))).await.unwrap();
                drop(rig.pipeline.finish_what_waits().await);
                let erasure = rig.state().find(&rig.acme, &name(&key)).unwrap().erasure.unwrap();
                if (erasure.absent.len(), erasure.pending.len()) == (2, 0) {
                    break;
                }
            }
        });
        assert!(waited.await.is_ok(), "one after the other");
    });
}

/// What is destroyed is erased from the member that is there, and from the other one when it is back: not before its device has been seen.
#[test]
fn who_is_away_when_a_key_is_destroyed_erases_it_when_it_is_back() {
    let a = SoftHsm::new("pool");
    runtime().block_on(async {
        let b = a.twin();
        let launches = vec![named("a", a.launch("pool")), named("b", b.launch("pool"))];
        let rig = found(over(launches, 1, 1, patience()).await).await;
        member(&rig, "b").drain();
        let key = rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        rig.create(new_key("stays", Algorithm::EcdsaP256)).await.unwrap();
        a.replicate(&b);
        member(&rig, "b").join();
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[]))).await.unwrap();
        // Each has had a key of those that stay in its hands: by that its device is recognised.
        while rig.keys().pool().reports().iter().any(|report| report.answered < 4) {
            rig.bytes("alice", "stays", sign(b"message")).await.unwrap();
        }
        let before = [a.objects(), b.objects()];
        let aside = b.path("aside");
        std::fs::rename(b.tokens(), &aside).unwrap();
        rig.transition("k", Transition::Deactivate).await.unwrap();
        rig.transition("k", Transition::Destroy(None)).await.unwrap();
        // At once: nobody may have noticed that the device is away.
        until_absent(&rig, "k", &["a"]).await;
        let names = |members: &[MemberName]| members.iter().map(ToString::to_string).collect::<Vec<_>>();
        let where_it_is = || {
            let erasure = rig.state().find(&rig.acme, &name("k")).unwrap().erasure.unwrap();
            (names(&erasure.absent), names(&erasure.pending))
        };
        assert_eq!(where_it_is(), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(a.objects(), before[0] - 1);
        let refused = rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::KeyState);

        until(&rig, "b", |condition| *condition != Condition::Up).await;
        std::fs::rename(&aside, b.tokens()).unwrap();
        until(&rig, "b", |condition| *condition == Condition::Up).await;
        assert_eq!(b.objects(), before[1], "it has it still");
        rig.world.step(600);
        until_absent(&rig, "k", &["a", "b"]).await;
        assert_eq!(where_it_is(), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        assert_eq!(b.objects(), before[1] - 1);
        let version = rig.state().find_version(key.id, key.newest).unwrap();
        assert!(version.handle.as_bytes().is_empty());
        rig.bytes("alice", "stays", sign(b"message")).await.unwrap();
    });
}
