//! Single tokens whose keys travel under a wrapping key that only their security officers can give them.

use super::pool::{found, member, named, over, until};
use super::{MODULE, PIN, READY, SoftHsm, patience, runtime};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use holdfast_conformance::keystore::suite;
use holdfast_conformance::rig::{context, decrypt, encrypt, new_key, sign, transition};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::Durability;
use holdfast_core::lifecycle::Transition;
use holdfast_core::{ErrorKind, Secret};
use holdfast_keystore::pkcs11::worker::officer::{Fingerprint, Offer, Officer};
use holdfast_keystore::pkcs11::{Condition, Launch, Member};
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(super) const KEK: &str = "holdfast-kek";
const SO_PIN: &[u8] = b"so-pin-1234";

/// A security officer at a token, in a process of its own: a module reads its settings once.
fn officer(hsm: &SoftHsm, does: &str) -> Child {
    officer_of(hsm, MODULE, does)
}

fn officer_of(hsm: &SoftHsm, module: &str, does: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["travel::an_officer", "--exact", "--ignored", "--nocapture"])
        .env("SOFTHSM2_CONF", hsm.conf())
        .env("MODULE", module)
        .env("LENIENT", "no template")
        .env("DOES", does)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "started by the other tests, as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "whoever starts it has no other way to say it")]
fn an_officer() {
    let module = std::env::var("MODULE").unwrap();
    let officer = Officer::open(&module, "pool", &Secret::from(SO_PIN)).unwrap();
    let line = || std::io::stdin().lock().lines().next().unwrap().unwrap();
    match std::env::var("DOES").unwrap().as_str() {
        "make" => {
            assert_eq!(officer.fingerprint(KEK).unwrap_err().kind(), ErrorKind::NotFound);
            say(&officer.make(KEK).unwrap().to_string());
            assert_eq!(officer.make(KEK).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        "send" => {
            let offer = Offer::parse(&unhex(&line())).unwrap();
            say(&hex(&officer.send(KEK, &offer).unwrap()));
        }
        "be deceived" => {
            let (transport, told) = (officer.transport(KEK).unwrap(), Fingerprint::new([7; 16]));
            // Whoever brings the line has seen the transport key's public half, and knows the key that they send.
            let own = encrypted(&[7; 32], transport.offer().spki());
            let refused = officer.receive(KEK, (&transport, &own), told).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Integrity);
            assert!(refused.detail().starts_with("what came is another wrapping key"), "{}", refused.chain());
            assert_eq!(officer.fingerprint(KEK).unwrap_err().kind(), ErrorKind::NotFound, "it does not stay");
            say(&officer.make(KEK).unwrap().to_string());
        }
        _ => {
            let transport = officer.transport(KEK).unwrap();
            say(&hex(transport.offer().spki()));
            let wrapped = unhex(&line());
            // What was sent to somebody else, or was changed on its way.
            let mut changed = wrapped.clone();
            changed[9] ^= 1;
            let expected: Fingerprint = line().parse().unwrap();
            let receive = |transport, wrapped: &[u8]| officer.receive(KEK, (transport, wrapped), expected);
            let other = officer.transport(KEK).unwrap();
            assert!(receive(&transport, &changed).is_err() && receive(&other, &wrapped).is_err());
            say(&receive(&transport, &wrapped).unwrap().to_string());
            assert_eq!(officer.make(KEK).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is how its parent hears of it")]
fn say(what: &str) {
    println!("said: {what}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap())
        .collect()
}

/// What a process says next.
fn heard(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    while !line.contains("said: ") {
        line.clear();
        assert!(from.read_line(&mut line).unwrap() > 0, "it ended");
    }
    line.split("said: ").nth(1).unwrap().trim().to_owned()
}

/// What a process has said at its end.
fn ended(process: Child) -> String {
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    heard(&mut &output.stdout[..])
}

/// As a token wraps that has no OAEP but with SHA-1.
fn encrypted(key: &[u8], to: &[u8]) -> Vec<u8> {
    let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(to).unwrap()).unwrap();
    let mut sealed = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA1_MGF1SHA1, key, &mut sealed, None).unwrap();
    sealed
}

/// Two single tokens that have the same wrapping key.
pub(super) fn with_wrapping_key() -> (SoftHsm, SoftHsm) {
    with_wrapping_key_of(|_| MODULE.to_owned())
}

fn with_wrapping_key_of(module: impl Fn(&SoftHsm) -> String) -> (SoftHsm, SoftHsm) {
    let (a, b) = (SoftHsm::new("pool"), SoftHsm::new("pool"));
    let officer = |hsm, does| officer_of(hsm, &module(hsm), does);
    let made = ended(officer(&a, "make"));
    let mut receiver = officer(&b, "receive");
    let mut said = BufReader::new(receiver.stdout.take().unwrap());
    let offer = heard(&mut said);
    let mut sender = officer(&a, "send");
    writeln!(sender.stdin.take().unwrap(), "{offer}").unwrap();
    let wrapped = ended(sender);
    writeln!(receiver.stdin.take().unwrap(), "{wrapped}\n{made}").unwrap();
    assert_eq!(heard(&mut said), made, "it is the same key");
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(receiver.wait().unwrap().success());
    (a, b)
}

pub(super) fn travelling(a: &SoftHsm, b: &SoftHsm) -> Vec<Launch> {
    let launch = |(name, hsm): (&str, &SoftHsm)| Launch {
        kek: KEK.to_owned(),
        // However busy the machine is with making RSA keys.
        overdue: READY,
        ..named(name, hsm.launch("pool"))
    };
    [("a", a), ("b", b)].map(launch).into()
}

/// Two single devices: what one makes travels to the other under a trusted key.
#[test]
fn a_pool_of_single_tokens_does_all_that_can_travel() {
    let (a, b) = with_wrapping_key();
    let seeds = std::cell::Cell::new(300);
    let held = runtime().block_on(suite(async || {
        seeds.set(seeds.get() + 1);
        over(travelling(&a, &b), 2, seeds.get(), patience()).await
    }));
    // SoftHSM does not wrap Edwards keys.
    assert_eq!(held.len(), 13, "{held:?}");
    assert!(!held.contains(&Algorithm::Ed25519));
}

#[test]
fn whoever_was_away_is_brought_what_was_made_meanwhile() {
    let (a, b) = with_wrapping_key();
    runtime().block_on(async {
        let rig = found(over(travelling(&a, &b), 1, 1, patience()).await).await;
        member(&rig, "b").drain();
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::EcdsaP256, Algorithm::Rsa2048] {
            rig.create(new_key(algorithm.name(), algorithm)).await.unwrap();
        }
        assert_eq!(b.objects(), 1, "its wrapping key");
        let context = || context(&[("row", "1")]);
        let sealed = rig.bytes("alice", "aes-256-gcm", encrypt(b"4711", context())).await.unwrap();
        let uses_all = async || {
            let opened = rig.bytes("alice", "aes-256-gcm", decrypt(&sealed, context())).await;
            assert_eq!(opened.unwrap(), b"4711");
            rig.bytes("alice", "ecdsa-p256", sign(b"message")).await.unwrap();
            rig.bytes("alice", "rsa-2048", sign(b"message")).await.unwrap();
        };
        member(&rig, "b").join();
        // The one that holds them is out before they were brought to the other: they come with what is asked for.
        member(&rig, "a").drain();
        let asked = member(&rig, "a").report().answered;
        uses_all().await;
        uses_all().await;
        assert_eq!(member(&rig, "a").report().answered, asked);
        assert_eq!(member(&rig, "b").condition(), Condition::Up);
        // Two alike again.
        member(&rig, "a").join();
        uses_all().await;
    });
}

/// Brought without anybody's asking for it, by a look through all keys.
#[test]
fn a_member_that_comes_back_is_brought_every_key_that_is_not_destroyed() {
    let (a, b) = with_wrapping_key();
    runtime().block_on(async {
        let rig = found(over(travelling(&a, &b), 1, 1, patience()).await).await;
        member(&rig, "b").drain();
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::HmacSha256, Algorithm::EcdsaP256] {
            rig.create(new_key(algorithm.name(), algorithm)).await.unwrap();
        }
        // While it is away one of them is destroyed where that can be done: no copy of that is made any more.
        let hmac = Algorithm::HmacSha256.name();
        let aside = b.path("aside");
        std::fs::rename(b.tokens(), &aside).unwrap();
        until(&rig, "b", |condition| matches!(condition, Condition::Down(_) | Condition::Drained)).await;
        member(&rig, "b").join();
        until(&rig, "b", |condition| *condition != Condition::Up).await;
        rig.command("carol", transition(hmac, Transition::Deactivate)).await.unwrap();
        let ordered = rig.command("carol", transition(hmac, Transition::Destroy(None))).await.unwrap();
        assert_eq!(ordered.durability, Durability::Durable, "who is out of reach is asked when it is back");
        rig.pipeline.finish_what_waits().await.unwrap();
        std::fs::rename(&aside, b.tokens()).unwrap();
        until(&rig, "b", |condition| *condition == Condition::Up).await;
        let sweep = async || {
            rig.pipeline.sweep_pool(|| true).await.unwrap();
            rig.world.pass(3600);
            rig.pipeline.sweep_pool(|| true).await.unwrap();
            rig.pipeline.sweep().unwrap()
        };
        let swept = sweep().await;
        assert_eq!((swept.versions, swept.brought, swept.lacking), (2, 2, 0), "{swept:?}");
        rig.pipeline.finish_what_waits().await.unwrap();
        assert_eq!(b.objects(), 1 + 2, "its wrapping key, a secret key and a private one");
        // It is the same key that both have.
        let context = || context(&[("row", "1")]);
        let sealed = rig.bytes("alice", "aes-256-gcm", encrypt(b"4711", context())).await.unwrap();
        for name in ["a", "b"] {
            member(&rig, name).drain();
            assert_eq!(
                rig.bytes("alice", "aes-256-gcm", decrypt(&sealed, context())).await.unwrap(),
                b"4711"
            );
            rig.bytes("alice", "ecdsa-p256", sign(b"message")).await.unwrap();
            member(&rig, name).join();
        }
        let swept = sweep().await;
        assert_eq!((swept.versions, swept.held, swept.brought, swept.lacking), (2, 4, 0, 0), "{swept:?}");
        assert_eq!(member(&rig, "b").condition(), Condition::Up);
    });
}

/// Why a member does not come up; nothing where it does.
async fn why_not(launch: Launch) -> Option<String> {
    let member = Member::start(launch);
    let waited = tokio::time::timeout(READY, async {
        loop {
            let why = member.ready(Duration::from_millis(50)).await.err()?.to_string();
            if !why.contains("being started") {
                return Some(why);
            }
        }
    });
    waited.await.unwrap()
}

/// A module in front of SoftHSM, which does what its environment says.
pub(super) fn lenient(hsm: &SoftHsm) -> String {
    let module = hsm.path("lenient.so").to_str().unwrap().to_owned();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/softhsm/lenient.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o", &module, source, "-ldl"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    module
}

/// One whose module, such a one, does this.
fn that_does(does: &str, module: &str, hsm: &SoftHsm) -> Launch {
    let mut launch = Launch { kek: KEK.to_owned(), module: module.to_owned(), ..hsm.launch("pool") };
    launch.environment.push(("LENIENT".into(), does.into()));
    launch
}

/// Whatever whoever has the user's PIN could take a key out by is tried, and a token that lets them is not used.
#[test]
fn a_token_that_lets_its_user_take_keys_out_is_not_used() {
    let hsm = SoftHsm::new("pool");
    ended(officer(&hsm, "make"));
    let module = lenient(&hsm);
    runtime().block_on(async {
        for (what, words) in [
            ("nothing", ""),
            ("kek attribute", "was not made by `holdfast pool kek`"),
            ("wrap kek", "wraps the wrapping key itself under one that is not trusted"),
            ("set kek", "other uses, or another protection"),
            ("create", "creates a key with CKA_TRUSTED"),
            ("generate", "makes a key with CKA_TRUSTED"),
            ("unwrap", "unwraps a key with CKA_TRUSTED"),
            ("copy trusted", "copies a key with CKA_TRUSTED"),
            ("copy bare", "copies a key that travels without CKA_WRAP_WITH_TRUSTED"),
            ("copy bare kek", "copies the wrapping key without CKA_WRAP_WITH_TRUSTED"),
            ("copy clear", "copies a key that travels without CKA_SENSITIVE"),
            ("copy clear kek", "copies the wrapping key without CKA_SENSITIVE"),
            ("copy decrypts", "copies the wrapping key as one that decrypts"),
            ("copy open", "copies the wrapping key as one that can be changed"),
        ] {
            let said = why_not(that_does(what, &module, &hsm)).await.unwrap_or_default();
            let is_so = if words.is_empty() { said.is_empty() } else { said.contains(words) };
            assert!(is_so, "{what}: {said}");
        }
        assert_eq!(hsm.objects(), 1, "nothing of an attempt stays");
    });
}

/// The standard lets a key that leaves under trusted ones leave under itself; its template forbids that. Where the token can't hold to it, whoever runs the gateway is told
/// of which token.
#[test]
fn a_wrapping_key_wraps_what_travels_and_not_itself_or_that_is_told() {
    let hsm = SoftHsm::new("pool");
    ended(officer(&hsm, "make"));
    let module = lenient(&hsm);
    runtime().block_on(async {
        for (does, is_so) in [("nothing", false), ("copy mark", true), ("set mark", true)] {
            let launch = named("east", that_does(does, &module, &hsm));
            let about = Member::start(launch).ready(READY).await.unwrap();
            assert_eq!(about.through_itself, is_so, "{does}");
            assert_eq!(about.notice("east").is_some_and(|notice| notice.contains("`east`")), is_so);
        }
        let member = Member::start(hsm.launch("pool"));
        assert!(!member.ready(READY).await.unwrap().through_itself, "no key of it travels");
    });
}

/// And where earlier builds made the wrapping key.
#[test]
fn tokens_that_know_no_such_template_make_a_pool_all_the_same() {
    let (a, b) = with_wrapping_key_of(lenient);
    runtime().block_on(async {
        let rig = found(over(travelling(&a, &b), 2, 1, patience()).await).await;
        for (name, algorithm) in [("k", Algorithm::Aes256Gcm), ("s", Algorithm::EcdsaP256)] {
            rig.create(new_key(name, algorithm)).await.unwrap();
        }
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[]))).await.unwrap();
        for (name, other) in [("a", "b"), ("b", "a")] {
            member(&rig, other).drain();
            assert_eq!(rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await.unwrap(), b"4711");
            rig.bytes("alice", "s", sign(b"message")).await.unwrap();
            assert!(member(&rig, name).ready(READY).await.unwrap().through_itself, "{name}");
            member(&rig, other).join();
        }
    });
}

/// The wrapping key must be one that lets nothing out.
#[test]
fn a_token_without_a_wrapping_key_or_with_a_weak_one_is_not_used() {
    let hsm = SoftHsm::new("pool");
    runtime().block_on(async {
        let why = async || why_not(Launch { kek: KEK.to_owned(), ..hsm.launch("pool") }).await.unwrap();
        let said = why().await;
        assert!(said.contains("no wrapping key `holdfast-kek`") && said.contains("pool kek"), "{said}");
        // What its user can make is not trusted.
        let pin = std::str::from_utf8(PIN).unwrap();
        let made = Command::new("pkcs11-tool")
            .args(["--module", MODULE, "--login", "--pin", pin, "--keygen"])
            .args(["--key-type", "AES:32", "--usage-wrap", "--label", KEK, "--sensitive"])
            .env("SOFTHSM2_CONF", hsm.conf())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let said = why().await;
        assert!(
            said.contains("wrapping key's") && said.contains("not made by `holdfast pool kek`"),
            "{said}"
        );
    });
}

#[test]
fn another_wrapping_key_than_was_told_does_not_stay() {
    ended(officer(&SoftHsm::new("pool"), "be deceived"));
}

#[test]
fn members_with_different_wrapping_keys_hold_no_key_together() {
    let (a, b) = (SoftHsm::new("pool"), SoftHsm::new("pool"));
    for hsm in [&a, &b] {
        assert!(officer(hsm, "make").wait_with_output().unwrap().status.success());
    }
    runtime().block_on(async {
        let rig = found(over(travelling(&a, &b), 2, 1, patience()).await).await;
        let error = rig.create(new_key("k", Algorithm::Aes256Gcm)).await.unwrap_err();
        assert!(error.chain().contains("has another wrapping key"), "{}", error.chain());
        for hsm in [&a, &b] {
            assert_eq!(hsm.objects(), 1, "what is no key is not left behind");
        }
    });
}
