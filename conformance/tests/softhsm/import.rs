//! Keys that a tenant made elsewhere, wrapped by `openssl` for an import key in the token, and brought into it.

use super::adopt::{openssl, public_half};
use super::pool::{Bench, found, member, named, over, until_absent};
use super::travel::{lenient, travelling, with_wrapping_key};
use super::{READY, SoftHsm, another_worker, patience, runtime, signal};
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{context, decrypt, encrypt, name, new_key, sign, transition};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command as Order, Done, NewKey};
use holdfast_core::import::{BeginImport, DEFAULT_SECONDS, FinishImport, Past};
use holdfast_core::key::{Custody, Key};
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::operation::Operation;
use holdfast_core::port::{Health, KeyStore as _};
use holdfast_core::{Error, ErrorKind};
use holdfast_keystore::pkcs11::Launch;
use holdfast_keystore::pkcs11::message::Request;
use std::sync::Arc;
use std::time::Duration;

/// The public half of a new import key, in DER.
pub(super) async fn begin(rig: &Bench, new: NewKey) -> Result<Arc<[u8]>, Error> {
    let order = Order::BeginImport(BeginImport { new, seconds: DEFAULT_SECONDS });
    let outcome = rig.command("carol", order).await?;
    let Done::ImportBegun { public, .. } = outcome.done else { panic!("an import key") };
    Ok(public)
}

/// What `openssl` wraps, as `docs/operate/import.md` has it, and its check value.
pub(super) fn wrapped(
    public: &[u8],
    material: &[u8],
    checked: &[u8],
    length: usize,
) -> (Arc<[u8]>, Arc<[u8]>) {
    let kek = openssl("rand 32", &[]);
    let outer = openssl(
        "pkeyutl -encrypt -pubin -keyform DER -inkey import.der -in kek -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256",
        &[("import.der", public), ("kek", &kek)],
    );
    let hex: String = kek.iter().map(|byte| format!("{byte:02x}")).collect();
    let inner = openssl(&format!("enc -id-aes256-wrap-pad -iv A65959A6 -K {hex} -in m"), &[("m", material)]);
    let check_value = digest(&SHA256, checked).as_ref()[..length].to_vec();
    ([outer, inner].concat().into(), check_value.into())
}

pub(super) fn secret(public: &[u8], material: &[u8]) -> (Arc<[u8]>, Arc<[u8]>) {
    wrapped(public, material, material, 8)
}

pub(super) async fn finish(
    rig: &Bench,
    key: &str,
    what: (Arc<[u8]>, Arc<[u8]>),
    past: Past,
) -> Result<Key, Error> {
    let (wrapped, check_value) = what;
    let order = Order::FinishImport(FinishImport { key: name(key), wrapped, check_value, past });
    let outcome = rig.command("carol", order).await?;
    let Done::Key(key, _) = outcome.done else { panic!("a key") };
    Ok(*key)
}

async fn bench(hsm: &SoftHsm) -> Bench {
    found(over(vec![named("a", hsm.launch("import"))], 1, 1, patience()).await).await
}

#[test]
fn what_a_tenant_made_comes_into_the_token_and_its_record_says_that_it_did() {
    let hsm = SoftHsm::new("import");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        let mut objects = 0;
        for (algorithm, length) in [
            (Algorithm::Aes256Gcm, 32),
            (Algorithm::Aes256Kw, 32),
            (Algorithm::HmacSha256, 32),
            (Algorithm::HmacSha384, 48),
            (Algorithm::HmacSha512, 64),
        ] {
            let key = algorithm.name();
            let public = begin(&rig, new_key(key, algorithm)).await.unwrap();
            let material: Vec<u8> = (0..length).collect();
            let past = if algorithm.has_budget() { Past::Uses(0) } else { Past::Untold };
            let made = finish(&rig, key, secret(&public, &material), past).await;
            let made = made.unwrap_or_else(|error| panic!("{key}: {}", error.chain()));
            assert_eq!((made.state, made.custody, made.newest.get()), (KeyState::Active, Custody::Token, 2));
            let last = rig.log().last();
            assert_eq!([last.text("evidence.level"), last.text("evidence.origin")], ["token", "imported"]);
            assert_eq!(last.event()["evidence"]["attributes"].to_string(), "[\"sensitive\"]", "{key}");
            objects += 1;
            rig.pipeline.finish_what_waits().await.unwrap();
            assert_eq!(hsm.objects(), objects, "{key}: the import key is gone");
            if let Algorithm::HmacSha256 = algorithm {
                let hex: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
                let line = format!("dgst -sha256 -mac HMAC -macopt hexkey:{hex} -binary m");
                let mac = rig.bytes("alice", key, Operation::Mac { message: b"m".as_slice().into() }).await;
                assert_eq!(mac.unwrap(), openssl(&line, &[("m", b"m")]));
            }
        }
        let sealed = rig.bytes("alice", "aes-256-gcm", encrypt(b"4711", context(&[]))).await.unwrap();
        let killed = member(&rig, "a").worker().unwrap();
        signal(killed, "-KILL");
        another_worker(&rig, killed).await;
        let opened = rig.bytes("alice", "aes-256-gcm", decrypt(&sealed, context(&[]))).await;
        assert_eq!(opened.unwrap(), b"4711");
        for (algorithm, line) in [
            (Algorithm::Rsa2048, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
            (Algorithm::EcdsaP256, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
            (Algorithm::EcdhP384, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ] {
            let key = algorithm.name();
            let import = begin(&rig, new_key(key, algorithm)).await.unwrap();
            let pem = openssl(line, &[]);
            let pkcs8 = openssl("pkcs8 -topk8 -nocrypt -in k -outform DER", &[("k", &pem)]);
            let public = openssl("pkey -in k -pubout -outform DER", &[("k", &pem)]);
            let what = wrapped(&import, &pkcs8, &public, 32);
            let made = finish(&rig, key, what, Past::Untold).await;
            made.unwrap_or_else(|error| panic!("{key}: {}", error.chain()));
            assert_eq!(public_half(&rig, key).await, public, "{key}");
            if algorithm != Algorithm::EcdhP384 {
                rig.bytes("alice", key, sign(b"message")).await.unwrap();
            }
        }
        // SoftHSM unwraps no Edwards keys; what is not held there is not begun.
        let refused = begin(&rig, new_key("x", Algorithm::Xaes256Gcm)).await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.detail()),
            (ErrorKind::Unsupported, "no token has this algorithm")
        );
    });
}

/// The token has the material of whoever was not refused, and nothing of the other one's.
#[test]
fn of_two_who_bring_material_in_at_once_one_is_refused_and_takes_nothing_away() {
    let hsm = SoftHsm::new("import");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        for round in 0..4 {
            let key = format!("k{round}");
            let public = begin(&rig, new_key(&key, Algorithm::HmacSha256)).await.unwrap();
            let materials = [[1; 32], [2; 32]];
            let [first, second] = materials.map(|material| secret(&public, &material));
            let (first, second) = tokio::join!(
                finish(&rig, &key, first, Past::Untold),
                finish(&rig, &key, second, Past::Untold)
            );
            let [material, _] = match (first, second) {
                (Ok(_), Err(_)) => materials,
                (Err(_), Ok(_)) => [materials[1], materials[0]],
                (first, second) => panic!("{:?} and {:?}", first.is_ok(), second.is_ok()),
            };
            let hex: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!("dgst -sha256 -mac HMAC -macopt hexkey:{hex} -binary m");
            let mac = rig.bytes("alice", &key, Operation::Mac { message: b"m".as_slice().into() }).await;
            assert_eq!(mac.unwrap(), openssl(&line, &[("m", b"m")]), "{key}");
        }
        // The import keys have gone, too.
        rig.pipeline.finish_what_waits().await.unwrap();
        assert_eq!(hsm.objects(), 4);
    });
}

/// Two gateways with one state, as after a restoration beside the one that lives: neither knows of the other one's attempt, and the token has both.
#[test]
fn two_gateways_that_bring_material_in_at_once_take_nothing_from_each_other() {
    let hsm = SoftHsm::new("import");
    runtime().block_on(async {
        let one = bench(&hsm).await;
        let mut waiting = Vec::new();
        for round in 0..4 {
            let key = format!("k{round}");
            let public = begin(&one, new_key(&key, Algorithm::HmacSha256)).await.unwrap();
            waiting.push((key, public));
        }
        let store = over(vec![named("a", hsm.launch("import"))], 1, 2, patience()).await;
        let (state, log, world) = (one.state().copy(), one.log().copy(), one.world.clone());
        let recovery = log.recovery();
        let other = Bench::open(store, state, log, world, recovery).await.unwrap();
        for (key, public) in &waiting {
            let [first, second] = [[1; 32], [2; 32]].map(|material| secret(public, &material));
            let (first, second) = tokio::join!(
                finish(&one, key, first, Past::Untold),
                finish(&other, key, second, Past::Untold)
            );
            let _both = (first.unwrap(), second.unwrap());
        }
        for (rig, material) in [(&one, "01"), (&other, "02")] {
            for (key, _) in &waiting {
                let hex = material.repeat(32);
                let line = format!("dgst -sha256 -mac HMAC -macopt hexkey:{hex} -binary m");
                let mac = rig.bytes("alice", key, Operation::Mac { message: b"m".as_slice().into() }).await;
                assert_eq!(mac.unwrap(), openssl(&line, &[("m", b"m")]), "{key}");
            }
        }
        one.pipeline.finish_what_waits().await.unwrap();
        assert_eq!(hsm.objects(), 8, "the import keys have gone");
    });
}

/// Nobody knows of it whether it is committed, so it is left; and whoever brings it in again brings it in beside it.
#[test]
fn what_an_attempt_in_doubt_has_brought_in_goes_with_its_version_and_with_nothing_else() {
    let hsm = SoftHsm::new("import");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        let tag = async |key: &str| {
            rig.bytes("alice", key, Operation::Mac { message: b"m".as_slice().into() }).await
        };
        // Of the same material, and finished as often.
        let mut beside = None;
        for (key, is_finished) in [("beside", true), ("finished", true), ("given-up", false)] {
            let before = hsm.objects();
            let public = begin(&rig, new_key(key, Algorithm::HmacSha256)).await.unwrap();
            let waiting = hsm.objects();
            for again in 1..=2 {
                rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
                let error = finish(&rig, key, secret(&public, &[7; 32]), Past::Untold).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::StateUnavailable, "{}", error.chain());
                assert_eq!(hsm.objects(), waiting + again, "it may be committed by now");
            }
            if is_finished {
                // Planned anew: what is taken back then is this attempt's alone.
                rig.state().fault(CommitFault::Before(ErrorKind::Conflict));
                finish(&rig, key, secret(&public, &[7; 32]), Past::Untold).await.unwrap();
                rig.pipeline.finish_what_waits().await.unwrap();
                assert_eq!(hsm.objects(), before + 3, "the import key has gone, and only that");
                let tagged = tag(key).await.unwrap();
                assert_eq!(*beside.get_or_insert_with(|| tagged.clone()), tagged);
            }
            if key != "beside" {
                if is_finished {
                    rig.command("carol", transition(key, Transition::Deactivate)).await.unwrap();
                }
                rig.command("carol", transition(key, Transition::Destroy(None))).await.unwrap();
                rig.pipeline.finish_what_waits().await.unwrap();
                assert!(rig.log().last().text("subject").starts_with("absent on a"));
                assert_eq!(hsm.objects(), before, "{key}");
            }
        }
        assert_eq!(tag("beside").await.unwrap(), beside.unwrap());
        assert_eq!(rig.keys().health(), Health::Ready);
    });
}

/// A token that was away when the material was taken back is asked before it counts as erased there.
#[test]
fn what_was_brought_to_a_token_that_is_away_since_is_erased_when_it_is_back() {
    let (a, b) = with_wrapping_key();
    runtime().block_on(async {
        let rig = found(over(travelling(&a, &b), 2, 1, patience()).await).await;
        let before = [a.objects(), b.objects()];
        for material in [[7; 32], [8; 32]] {
            let public = begin(&rig, new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
            rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
            finish(&rig, "k", secret(&public, &[7; 32]), Past::Uses(0)).await.unwrap_err();
            finish(&rig, "k", secret(&public, &material), Past::Uses(0)).await.unwrap();
            member(&rig, "b").drain();
            rig.command("carol", transition("k", Transition::Deactivate)).await.unwrap();
            rig.command("carol", transition("k", Transition::Destroy(None))).await.unwrap();
            until_absent(&rig, "k", &["a"]).await;
            assert_eq!(a.objects(), before[0]);
            assert!(b.objects() > before[1]);
            member(&rig, "b").join();
            until_absent(&rig, "k", &["a", "b"]).await;
            assert_eq!([a.objects(), b.objects()], before);
        }
    });
}

/// It would not find there what another attempt has left.
#[test]
fn what_a_member_does_not_find_by_its_label_is_brought_to_nobody() {
    let (a, b) = with_wrapping_key();
    let one = SoftHsm::new("import");
    let vendor = ["a", "b"].map(|name| named(name, one.launch("import")));
    for (mut launches, hsms, does) in
        [(travelling(&a, &b), vec![&a, &b], "keeps no label"), (vendor.into(), vec![&one], "finds no label")]
    {
        launches[1].module = lenient(hsms[0]);
        launches[1].environment.push(("LENIENT".into(), does.into()));
        runtime().block_on(async {
            let rig = found(over(launches, 2, 1, patience()).await).await;
            let public = begin(&rig, new_key("k", Algorithm::HmacSha256)).await.unwrap();
            let objects = || hsms.iter().map(|hsm| hsm.objects()).collect::<Vec<_>>();
            let before = objects();
            let error = finish(&rig, "k", secret(&public, &[7; 32]), Past::Untold).await.unwrap_err();
            assert!(error.chain().contains("does not keep the label"), "{does}: {}", error.chain());
            assert_eq!(objects(), before, "{does}: what is no key is not left behind");
        });
    }
}

/// To bring something in takes as long as its device takes: whoever has something erased meanwhile asks again, and nobody is taken for one that hangs.
#[test]
fn what_is_erased_while_something_is_brought_in_waits_without_harm() {
    let hsm = SoftHsm::new("import");
    let (held, unwraps) = (hsm.path("held"), hsm.path("unwraps"));
    let mut launch = Launch { module: lenient(&hsm), overdue: READY, ..named("a", hsm.launch("import")) };
    launch.environment.push(("LENIENT".into(), "is slow".into()));
    launch.environment.push(("HELD".into(), held.clone().into()));
    launch.environment.push(("UNWRAPS".into(), unwraps.clone().into()));
    runtime().block_on(async {
        let rig = found(over(vec![launch], 1, 1, patience()).await).await;
        let [ends, comes] = ["ends", "comes"];
        for key in [ends, comes] {
            let public = begin(&rig, new_key(key, Algorithm::HmacSha256)).await.unwrap();
            if key == ends {
                finish(&rig, key, secret(&public, &[7; 32]), Past::Untold).await.unwrap();
                rig.pipeline.finish_what_waits().await.unwrap();
                continue;
            }
            let (worker, failed) = (member(&rig, "a").worker(), member(&rig, "a").report().failed);
            std::fs::write(&held, []).unwrap();
            let what = secret(&public, &[8; 32]);
            let meanwhile = async {
                while !unwraps.exists() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let request = Request::Destroy { id: [9; 16], label: "holdfast/another" };
                let asked = rig.keys().pool().ask(&request, READY, |_| Ok(())).await;
                assert_eq!(asked.result.unwrap_err().detail(), "the token removes nothing just now");
                rig.transition(ends, Transition::Deactivate).await.unwrap();
                rig.transition(ends, Transition::Destroy(None)).await.unwrap();
                assert!(rig.pipeline.finish_what_waits().await.is_err());
                let erasure = rig.state().find(&rig.acme, &name(ends)).unwrap().erasure.unwrap();
                assert_eq!((erasure.absent.len(), erasure.pending.len()), (0, 1));
                std::fs::remove_file(&held).unwrap();
            };
            let (finished, ()) = tokio::join!(finish(&rig, key, what, Past::Untold), meanwhile);
            finished.unwrap();
            assert_eq!((member(&rig, "a").worker(), member(&rig, "a").report().failed), (worker, failed));
        }
        rig.world.step(600);
        rig.pipeline.finish_what_waits().await.unwrap();
        assert_eq!(hsm.objects(), 1);
    });
}

#[test]
fn whatever_is_wrong_is_refused_alike_and_leaves_nothing_in_the_token() {
    let hsm = SoftHsm::new("import");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        let public = begin(&rig, new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        let other = begin(&rig, new_key("other", Algorithm::Aes256Gcm)).await.unwrap();
        let (objects, failed) = (hsm.objects(), member(&rig, "a").report().failed);
        let (right, check_value) = secret(&public, &[7; 32]);
        let changed = |place: usize| {
            let mut bytes = right.to_vec();
            bytes[place] ^= 1;
            (Arc::from(bytes), Arc::clone(&check_value))
        };
        for wrong in [
            changed(9),
            changed(right.len() - 9),
            secret(&other, &[7; 32]),
            (Arc::clone(&right), Arc::from(&[0; 8][..])),
            (Arc::from(&right[..100]), Arc::clone(&check_value)),
        ] {
            let error = finish(&rig, "k", wrong, Past::Uses(0)).await.unwrap_err();
            assert_eq!((error.kind(), error.detail()), (ErrorKind::Integrity, "the input does not verify"));
            assert_eq!(rig.log().last().text("detail"), "the input does not verify");
            assert_eq!(hsm.objects(), objects);
        }
        let short = finish(&rig, "k", secret(&public, &[7; 24]), Past::Uses(0)).await.unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Malformed, "{}", short.chain());
        assert_eq!(member(&rig, "a").report().failed, failed, "no fault of the token's");
        finish(&rig, "k", (right, check_value), Past::DecryptOnly).await.unwrap();
        // An import key that is given up goes from the token, and one that has expired opens nothing.
        rig.world.pass(DEFAULT_SECONDS);
        let late = finish(&rig, "other", secret(&other, &[8; 32]), Past::Uses(0)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::KeyState, "{}", late.chain());
        rig.command("carol", transition("other", Transition::Destroy(None))).await.unwrap();
        rig.pipeline.finish_what_waits().await.unwrap();
        assert_eq!(hsm.objects(), 1);
    });
}

/// What came from outside reaches every token as what was made inside does.
#[test]
fn where_keys_travel_so_does_what_was_brought() {
    let (a, b) = with_wrapping_key();
    runtime().block_on(async {
        let rig = found(over(travelling(&a, &b), 2, 1, patience()).await).await;
        let public = begin(&rig, new_key("k", Algorithm::Aes256Gcm)).await.unwrap();
        finish(&rig, "k", secret(&public, &[7; 32]), Past::Uses(0)).await.unwrap();
        let last = rig.log().last();
        assert_eq!(last.text("evidence.origin"), "imported");
        let said = last.event()["evidence"]["attributes"].to_string();
        assert_eq!(said, "[\"sensitive\",\"extractable\",\"wrap-with-trusted\"]");
        assert!(!last.text("evidence.wrapping_key").is_empty());
        let sealed = rig.bytes("alice", "k", encrypt(b"4711", context(&[]))).await.unwrap();
        for out in ["a", "b"] {
            member(&rig, out).drain();
            let opened = rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await;
            assert_eq!(opened.unwrap(), b"4711");
            member(&rig, out).join();
        }
    });
}
