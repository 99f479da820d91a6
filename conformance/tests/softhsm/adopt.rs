//! Keys that `pkcs11-tool` and `softhsm2-util` made: used as they are, found again, and ended.

use super::import::{begin, finish, secret};
use super::pool::{encrypted_small, found, member, named, over, until};
use super::travel::{KEK, lenient, travelling, with_wrapping_key};
use super::{PIN, READY, SoftHsm, another_worker, lies, patience, runtime, signal};
use holdfast_conformance::rig::{context, decrypt, encrypt, name, new_key, sign, transition};
use holdfast_core::adoption::AdoptKey;
use holdfast_core::algorithm::{Algorithm, Hash, Purpose, RsaPadding};
use holdfast_core::command::{Command as Order, Done, NewKey};
use holdfast_core::import::Past;
use holdfast_core::key::{Custody, Key, Legacy};
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::operation::Operation;
use holdfast_core::{Error, ErrorKind, KeyVersion};
use holdfast_keystore::pkcs11::{Condition, Launch};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use super::pool::Bench;

impl SoftHsm {
    /// What another program does with the token, and says.
    pub(super) fn tool(&self, line: &str) -> String {
        let pin = String::from_utf8(PIN.to_vec()).unwrap();
        let done = Command::new("pkcs11-tool")
            .args(["--module", "/usr/lib/softhsm/libsofthsm2.so", "--login", "--pin", &pin])
            .args(line.split_whitespace())
            .env("SOFTHSM2_CONF", self.conf())
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn secret(&self, kind: &str, label: &str, id: &str) {
        self.tool(&format!("--keygen --key-type {kind} --label {label} --id {id} --sensitive"));
    }

    fn pair(&self, kind: &str, label: &str, id: &str) {
        self.tool(&format!("--keypairgen --key-type {kind} --label {label} --id {id}"));
    }

    /// Every object's bytes.
    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let token = std::fs::read_dir(self.tokens()).unwrap().next().unwrap().unwrap().path();
        let files = std::fs::read_dir(token).unwrap().map(|file| file.unwrap().path());
        files
            .filter(|path| {
                path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object")
            })
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }
}

async fn bench(hsm: &SoftHsm) -> Bench {
    pool_of(vec![named("a", hsm.launch("adopt"))]).await
}

async fn pool_of(launches: Vec<Launch>) -> Bench {
    let copies = launches.len();
    found(over(launches, copies, 1, patience()).await.adopted_by(["acme".parse().unwrap()])).await
}

/// By its label.
fn of(label: &str, algorithm: Algorithm) -> AdoptKey {
    let past = if algorithm.has_budget() { Past::Uses(0) } else { Past::Untold };
    let label = Some(label.into());
    AdoptKey { new: new_key("k", algorithm), label, id: None, past, accept_extractable: false }
}

fn called(key: &str, adopt: AdoptKey) -> AdoptKey {
    AdoptKey { new: NewKey { name: name(key), ..adopt.new }, ..adopt }
}

async fn adopt(rig: &Bench, adopt: AdoptKey) -> Result<Key, Error> {
    let outcome = rig.command("carol", Order::AdoptKey(adopt)).await?;
    let Done::Key(key, _) = outcome.done else { panic!("a key") };
    Ok(*key)
}

pub(super) async fn public_half(rig: &Bench, key: &str) -> Vec<u8> {
    rig.bytes("alice", key, Operation::PublicKey { version: None }).await.unwrap()
}

/// What `openssl` says of files in a directory of its own.
pub(super) fn openssl(line: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let done =
        Command::new("openssl").args(line.split_whitespace()).current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn what_another_program_made_is_used_as_it_is() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "aes-256-gcm", "01");
    hsm.secret("AES:32", "aes-256-kw", "02");
    hsm.secret("GENERIC:48", "hmac-sha-256", "03");
    hsm.pair("rsa:2048", "rsa-2048", "04");
    hsm.pair("EC:prime256v1", "ecdsa-p256", "05");
    hsm.pair("EC:secp384r1", "ecdsa-p384", "06");
    hsm.pair("EC:edwards25519", "ed25519", "07");
    hsm.tool("--keypairgen --key-type EC:prime256v1 --label ecdh-p256 --id 08 --usage-derive");
    let before = hsm.bytes();
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        for algorithm in [
            Algorithm::Aes256Gcm,
            Algorithm::Aes256Kw,
            Algorithm::HmacSha256,
            Algorithm::Rsa2048,
            Algorithm::EcdsaP256,
            Algorithm::EcdsaP384,
            Algorithm::Ed25519,
            Algorithm::EcdhP256,
        ] {
            let name = algorithm.name();
            let key = adopt(&rig, called(name, of(name, algorithm))).await;
            let key = key.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
            assert_eq!((key.state, key.custody), (KeyState::Active, Custody::Token), "{name}");
            let last = rig.log().last();
            assert_eq!([last.text("evidence.level"), last.text("evidence.origin")], ["token", "adopted"]);
            assert_eq!(last.text("evidence.object.label"), name);
            let said = &last.event()["evidence"]["attributes"];
            let said: Vec<_> = said.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert!(
                said.starts_with(&["local", "sensitive", "always-sensitive", "never-extractable"]),
                "{said:?}"
            );
        }
        assert!(hsm.bytes() == before, "nothing of the token has changed");
        let uses_all = async || {
            let sealed =
                rig.bytes("alice", "aes-256-gcm", encrypt(b"4711", context(&[("a", "b")]))).await.unwrap();
            let opened = rig.bytes("alice", "aes-256-gcm", decrypt(&sealed, context(&[("a", "b")]))).await;
            assert_eq!(opened.unwrap(), b"4711");
            for key in ["rsa-2048", "ecdsa-p256", "ecdsa-p384", "ed25519"] {
                rig.bytes("alice", key, sign(b"message")).await.unwrap();
            }
            rig.bytes("alice", "hmac-sha-256", Operation::Mac { message: b"m".as_slice().into() })
                .await
                .unwrap();
        };
        uses_all().await;
        // What openssl says of a signature, by the public half as the other program exports it.
        let signature = rig.bytes("alice", "ecdsa-p256", sign(b"message")).await.unwrap();
        let exported = hsm.path("public.der");
        hsm.tool(&format!("--read-object --type pubkey --id 05 --output-file {}", exported.display()));
        let exported = std::fs::read(exported).unwrap();
        assert_eq!(public_half(&rig, "ecdsa-p256").await, exported);
        openssl(
            "dgst -sha256 -keyform DER -verify p.der -signature s m",
            &[("p.der", &exported), ("s", &signature), ("m", b"message")],
        );
        // Another process knows nothing of which object is meant, and is told.
        for _ in 0..2 {
            let killed = member(&rig, "a").worker().unwrap();
            signal(killed, "-KILL");
            another_worker(&rig, killed).await;
            uses_all().await;
        }
        assert_eq!(member(&rig, "a").condition(), Condition::Up);
        // What is made by a rotation is Holdfast's own.
        let key = rig.command("carol", Order::RotateKey(name("aes-256-gcm"))).await.unwrap();
        assert!(matches!(key.done, Done::Key(key, _) if key.current.get() == 2));
        assert_eq!(rig.log().last().text("evidence.origin"), "generated");
        uses_all().await;
    });
}

#[test]
fn what_was_encrypted_for_it_elsewhere_is_decrypted() {
    let hsm = SoftHsm::new("adopt");
    hsm.pair("rsa:2048", "legacy", "0a0b");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        let new = NewKey {
            purpose: Some(Purpose::Encrypt),
            legacy: Legacy { rsa_pkcs1_decrypt: true, sha1_oaep: true },
            ..new_key("k", Algorithm::Rsa2048)
        };
        let by_id =
            AdoptKey { new, label: None, id: Some([0x0a, 0x0b].into()), ..of("legacy", Algorithm::Rsa2048) };
        adopt(&rig, by_id).await.unwrap();
        let public = public_half(&rig, "k").await;
        let sha1 = RsaPadding::Oaep { hash: Hash::Sha1, mgf1: Hash::Sha1 };
        let sha256 = RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha256 };
        for (padding, options) in [
            (RsaPadding::Pkcs1v15, "rsa_padding_mode:pkcs1"),
            (sha1, "rsa_padding_mode:oaep"),
            (sha256, "rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256"),
        ] {
            let line = format!("pkeyutl -encrypt -pubin -keyform DER -inkey p.der -in m -pkeyopt {options}");
            let ciphertext = openssl(&line, &[("p.der", &public), ("m", b"data key")]);
            let bare = Operation::Decrypt {
                ciphertext,
                padding: Some(padding),
                bare: Some(KeyVersion::FIRST),
                context: context(&[]),
            };
            assert_eq!(rig.bytes("alice", "k", bare).await.unwrap(), b"data key", "{padding:?}");
        }
        // What is no ciphertext of it at all is the caller's fault, and not the token's.
        let beyond = Operation::Decrypt {
            ciphertext: vec![0xff; 256],
            padding: Some(sha256),
            bare: Some(KeyVersion::FIRST),
            context: context(&[]),
        };
        let failed = member(&rig, "a").report().failed;
        let error = rig.bytes("alice", "k", beyond).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{}", error.chain());
        assert_eq!(member(&rig, "a").report().failed, failed);
    });
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "twice", "01");
    hsm.secret("AES:32", "twice", "02");
    hsm.secret("AES:16", "short", "03");
    hsm.pair("rsa:2048", "rsa", "04");
    hsm.pair("EC:prime256v1 --usage-sign", "ec", "05");
    hsm.tool("--keygen --key-type AES:32 --label clear --id 06");
    hsm.tool("--keygen --key-type AES:32 --label leaves --id 07 --sensitive --extractable");
    hsm.pair("EC:prime256v1", "half", "08");
    hsm.tool("--delete-object --type pubkey --id 08");
    hsm.secret("GENERIC:8", "weak", "09");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        rig.create(new_key("ours", Algorithm::Aes256Gcm)).await.unwrap();
        let listed = hsm.tool("--list-objects --type secrkey");
        let mut labels = listed.lines().filter_map(|line| line.trim().strip_prefix("label:")).map(str::trim);
        let ours = labels.find(|label| label.starts_with("holdfast/")).unwrap();
        let before = hsm.bytes();
        for (label, algorithm, kind, words) in [
            ("none", Algorithm::Aes256Gcm, ErrorKind::NotFound, "no such object"),
            ("rsa", Algorithm::Aes256Gcm, ErrorKind::NotFound, "no such object"),
            ("twice", Algorithm::Aes256Gcm, ErrorKind::Conflict, "`01`"),
            ("twice", Algorithm::Aes256Gcm, ErrorKind::Conflict, "`02`"),
            ("short", Algorithm::Aes256Gcm, ErrorKind::Unsupported, "the object is an AES key of 128 bits"),
            ("short", Algorithm::HmacSha256, ErrorKind::Unsupported, "the object is an AES key of 128 bits"),
            ("weak", Algorithm::HmacSha256, ErrorKind::Unsupported, "a generic secret key of 8 bytes"),
            ("rsa", Algorithm::Rsa3072, ErrorKind::Unsupported, "the object is an RSA key of 2048 bits"),
            ("rsa", Algorithm::EcdsaP256, ErrorKind::Unsupported, "the object is an RSA key of 2048 bits"),
            ("ec", Algorithm::EcdsaP384, ErrorKind::Unsupported, "an elliptic-curve key on P-256"),
            ("ec", Algorithm::EcdhP256, ErrorKind::Unsupported, "CKA_DERIVE is false"),
            ("half", Algorithm::EcdsaP256, ErrorKind::Unsupported, "does not have the object's public half"),
            ("clear", Algorithm::Aes256Gcm, ErrorKind::Unsupported, "can be read in clear"),
            ("leaves", Algorithm::Aes256Gcm, ErrorKind::Unsupported, "it can leave under a wrapping key"),
            (ours, Algorithm::Aes256Gcm, ErrorKind::Unsupported, "one that Holdfast made"),
            ("leaves", Algorithm::Xaes256Gcm, ErrorKind::Unsupported, "no key of `xaes-256-gcm`"),
        ] {
            let error = adopt(&rig, of(label, algorithm)).await.unwrap_err();
            let said = format!("{} {}", error.detail(), error.remedy_text());
            assert_eq!(error.kind(), kind, "{label}: {said}");
            assert!(said.contains(words), "{label}: {said}");
            assert!(!error.remedy_text().is_empty(), "{label}: {said}");
        }
        // One of two by its id; what can leave if that is accepted, and then its evidence says so for ever.
        let second = AdoptKey { id: Some([2].into()), ..of("twice", Algorithm::Aes256Gcm) };
        adopt(&rig, called("second", second)).await.unwrap();
        assert_eq!(rig.log().last().text("evidence.object.id"), "02");
        for label in ["leaves", "clear"] {
            let accepted = AdoptKey { accept_extractable: true, ..of(label, Algorithm::Aes256Gcm) };
            adopt(&rig, called(label, accepted)).await.unwrap();
            let last = rig.log().last();
            assert!(last.text("subject").ends_with("although it can leave"), "{}", last.text("subject"));
            let said = last.event()["evidence"]["attributes"].to_string();
            assert_eq!(said.contains("\"extractable\""), label == "leaves", "{said}");
            assert_eq!(said.contains("\"sensitive\""), label == "leaves", "{said}");
        }
        // Twice is no key.
        let again = AdoptKey { id: Some([2].into()), label: None, ..of("twice", Algorithm::Aes256Gcm) };
        assert_eq!(adopt(&rig, again).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(hsm.bytes() == before, "nothing of the token has changed");
    });
}

/// What a worker says of an object is tried before it is believed.
#[test]
fn a_lie_about_an_object_makes_no_key() {
    runtime().block_on(async {
        for (lie, said) in
            [("another-object", "another object than was named"), ("wrong-at-once", "does not verify")]
        {
            let rig = pool_of(vec![lies(lie)]).await;
            let error = adopt(&rig, of("legacy", Algorithm::EcdsaP256)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable, "{lie}: {}", error.chain());
            assert!(error.to_string().contains(said), "{lie}: {}", error.chain());
            assert!(matches!(rig.keys().pool().members()[0].condition(), Condition::Ejected(_)), "{lie}");
        }
    });
}

#[test]
fn only_who_was_let_adopts() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "legacy", "01");
    runtime().block_on(async {
        let rig = found(over(vec![named("a", hsm.launch("adopt"))], 1, 1, patience()).await).await;
        let error = adopt(&rig, of("legacy", Algorithm::Aes256Gcm)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.remedy_text().contains("`acme` in `pool.adopters`"), "{}", error.remedy_text());
    });
}

/// Of two commands at once one is refused, or planned anew: what was made for it goes, and what was found stays.
#[test]
fn a_command_that_comes_second_leaves_nothing_in_the_token_and_takes_nothing_from_it() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "legacy", "01");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        let adoption = |key: &str| called(key, of("legacy", Algorithm::Aes256Gcm));
        let adopted = tokio::join!(adopt(&rig, adoption("one")), adopt(&rig, adoption("other")));
        let adopted = match adopted {
            (Ok(key), Err(_)) | (Err(_), Ok(key)) => key.name,
            both => panic!("{both:?}"),
        };
        assert_eq!(hsm.objects(), 1);
        rig.bytes("alice", adopted.as_str(), encrypt(b"4711", context(&[]))).await.unwrap();
        let created = tokio::join!(
            rig.command("carol", Order::CreateKey(new_key("k", Algorithm::EcdsaP256))),
            rig.command("carol", Order::CreateKey(new_key("k", Algorithm::EcdsaP256)))
        );
        assert_eq!([created.0.is_ok(), created.1.is_ok()].iter().filter(|is_ok| **is_ok).count(), 1);
        assert_eq!(hsm.objects(), 3);
        let rotate = || rig.command("carol", Order::RotateKey(name("k")));
        let rotated = tokio::join!(rotate(), rotate());
        let _both = (rotated.0.unwrap(), rotated.1.unwrap());
        assert_eq!(hsm.objects(), 7, "three pairs, and what was adopted");
        rig.bytes("alice", "k", sign(b"message")).await.unwrap();
    });
}

#[test]
fn it_ends_in_the_token_when_it_is_destroyed() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "secret", "01");
    // The same names in another class.
    hsm.pair("EC:prime256v1", "secret", "01");
    hsm.pair("rsa:2048", "pair", "02");
    hsm.pair("rsa:2048", "other", "03");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        adopt(&rig, called("secret", of("secret", Algorithm::Aes256Gcm))).await.unwrap();
        adopt(&rig, called("pair", of("pair", Algorithm::Rsa2048))).await.unwrap();
        for (key, left) in [("secret", 6), ("pair", 4)] {
            // A worker that was never told of it must not take it for gone.
            let killed = member(&rig, "a").worker().unwrap();
            signal(killed, "-KILL");
            another_worker(&rig, killed).await;
            rig.command("carol", transition(key, Transition::Deactivate)).await.unwrap();
            rig.command("carol", transition(key, Transition::Destroy(None))).await.unwrap();
            rig.pipeline.finish_what_waits().await.unwrap();
            assert_eq!(hsm.objects(), left, "{key}");
        }
        let rest = hsm.tool("--list-objects");
        assert!(!rest.contains("Secret Key Object") && !rest.contains("pair"), "{rest}");
        assert!(rest.contains("other") && rest.contains("EC"), "{rest}");
        // What another program removes is missed when it is used, and nothing else is.
        adopt(&rig, called("other", of("other", Algorithm::Rsa2048))).await.unwrap();
        rig.create(new_key("ours", Algorithm::EcdsaP256)).await.unwrap();
        hsm.tool("--delete-object --type privkey --id 03");
        let killed = member(&rig, "a").worker().unwrap();
        signal(killed, "-KILL");
        another_worker(&rig, killed).await;
        for _ in 0..5 {
            let error = rig.bytes("alice", "other", sign(b"message")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable, "{}", error.chain());
            assert!(error.chain().contains("does not hold this key"), "{}", error.chain());
            rig.bytes("alice", "ours", sign(b"message")).await.unwrap();
        }
    });
}

/// CKA_SIGN is true, and CKA_ALLOWED_MECHANISMS lets it decrypt alone.
#[test]
fn a_pair_that_only_decrypts_although_it_may_sign_ends_too() {
    let hsm = SoftHsm::new("adopt");
    let made =
        "--keypairgen --key-type rsa:2048 --label pair --id 02 --allowed-mechanisms RSA-X-509,RSA-PKCS-OAEP";
    hsm.tool(made);
    let decrypting = || {
        let new = NewKey { purpose: Some(Purpose::Encrypt), ..new_key("k", Algorithm::Rsa2048) };
        AdoptKey { new, ..of("pair", Algorithm::Rsa2048) }
    };
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        adopt(&rig, decrypting()).await.unwrap();
        rig.command("carol", transition("k", Transition::Deactivate)).await.unwrap();
        rig.command("carol", transition("k", Transition::Destroy(None))).await.unwrap();
        rig.pipeline.finish_what_waits().await.unwrap();
        assert_eq!(hsm.objects(), 0);
    });
    // Whoever cannot be asked is not said to decrypt nothing.
    hsm.tool(made);
    let mut launch = named("a", Launch { module: lenient(&hsm), ..hsm.launch("adopt") });
    launch.environment.push(("LENIENT".into(), "fails".into()));
    runtime().block_on(async {
        let rig = pool_of(vec![launch]).await;
        let error = adopt(&rig, decrypting()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable, "{}", error.chain());
    });
}

#[test]
fn another_object_of_its_names_is_not_removed_in_its_place() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "secret", "01");
    hsm.pair("EC:prime256v1", "pair", "02");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        adopt(&rig, called("secret", of("secret", Algorithm::Aes256Gcm))).await.unwrap();
        adopt(&rig, called("pair", of("pair", Algorithm::EcdsaP256))).await.unwrap();
        for (kind, id) in [("secrkey", "01"), ("privkey", "02"), ("pubkey", "02")] {
            hsm.tool(&format!("--delete-object --type {kind} --id {id}"));
        }
        hsm.secret("AES:32", "secret", "01");
        hsm.pair("EC:prime256v1", "pair", "02");
        let killed = member(&rig, "a").worker().unwrap();
        signal(killed, "-KILL");
        another_worker(&rig, killed).await;
        let before = hsm.bytes();
        let pending =
            |key: &str| rig.state().find(&rig.acme, &name(key)).unwrap().erasure.unwrap().pending.len();
        for key in ["secret", "pair"] {
            rig.command("carol", transition(key, Transition::Deactivate)).await.unwrap();
            rig.command("carol", transition(key, Transition::Destroy(None))).await.unwrap();
            assert!(rig.pipeline.finish_what_waits().await.is_err(), "{key}");
            assert_eq!(pending(key), 1, "{key}");
        }
        assert_eq!(hsm.bytes(), before, "whoever made them has them");
        // Once nothing has its names, there is nothing left of it.
        for (kind, id) in [("secrkey", "01"), ("privkey", "02"), ("pubkey", "02")] {
            hsm.tool(&format!("--delete-object --type {kind} --id {id}"));
        }
        rig.world.step(600);
        rig.pipeline.finish_what_waits().await.unwrap();
        assert_eq!([pending("secret"), pending("pair")], [0, 0]);
    });
}

/// Another program renews a pair under its names: the key is none any more, and the pool is whole.
#[test]
fn what_another_program_puts_in_the_place_of_an_adopted_key_takes_no_member_out() {
    let a = SoftHsm::new("adopt");
    for (label, id) in [("decrypts", "01"), ("signs", "02")] {
        a.pair("rsa:2048", label, id);
    }
    let b = a.twin();
    runtime().block_on(async {
        let launches = [("a", &a), ("b", &b)].map(|(name, hsm)| named(name, hsm.launch("adopt")));
        let rig = pool_of(launches.into()).await;
        let mut decrypts = called("decrypts", of("decrypts", Algorithm::Rsa2048));
        decrypts.new.purpose = Some(Purpose::Encrypt);
        adopt(&rig, decrypts).await.unwrap();
        adopt(&rig, called("signs", of("signs", Algorithm::Rsa2048))).await.unwrap();
        let sealed = encrypted_small(&rig, "decrypts").await;
        assert_eq!(rig.bytes("alice", "decrypts", decrypt(&sealed, context(&[]))).await.unwrap(), b"4711");
        rig.bytes("alice", "signs", sign(b"message")).await.unwrap();
        for (label, id) in [("decrypts", "01"), ("signs", "02")] {
            for hsm in [&a, &b] {
                hsm.tool(&format!("--delete-object --type privkey --id {id}"));
                hsm.tool(&format!("--delete-object --type pubkey --id {id}"));
                hsm.pair("rsa:2048", label, id);
            }
        }
        for name in ["a", "b"] {
            let killed = member(&rig, name).worker().unwrap();
            signal(killed, "-KILL");
            until(&rig, name, |_| member(&rig, name).worker().is_some_and(|pid| pid != killed)).await;
        }
        for _ in 0..4 {
            for (key, operation) in
                [("decrypts", decrypt(&sealed, context(&[]))), ("signs", sign(b"message"))]
            {
                let error = rig.bytes("alice", key, operation).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Integrity, "{key}: {}", error.chain());
                assert!(error.chain().contains("another object under the names"), "{key}: {}", error.chain());
            }
        }
        for name in ["a", "b"] {
            assert_eq!(member(&rig, name).condition(), Condition::Up, "{name}");
        }
    });
}

/// A public half can be anybody's: the private one is destroyed only when it has shown itself that it is the key's.
#[test]
fn a_private_half_is_not_destroyed_by_what_its_public_half_shows() {
    let pairs = [
        ("sign", "EC:prime256v1", "02", Algorithm::EcdsaP256),
        ("agree", "EC:prime256v1", "03", Algorithm::EcdhP256),
        ("signs", "rsa:2048", "04", Algorithm::Rsa2048),
    ];
    for (key, kind, id, algorithm) in pairs {
        let hsm = SoftHsm::new("adopt");
        let usage = if algorithm == Algorithm::EcdhP256 { "--usage-derive" } else { "--usage-sign" };
        let pair = |id: &str| {
            hsm.tool(&format!("--keypairgen --key-type {kind} --label {key} --id {id} {usage}"));
        };
        pair(id);
        runtime().block_on(async {
            let rig = bench(&hsm).await;
            adopt(&rig, called(key, of(key, algorithm))).await.unwrap();
            // Somebody puts another private half beside its public one.
            pair("77");
            hsm.tool(&format!("--delete-object --type privkey --id {id}"));
            hsm.tool("--delete-object --type pubkey --id 77");
            hsm.tool(&format!("--set-id {id} --type privkey --id 77"));
            let killed = member(&rig, "a").worker().unwrap();
            signal(killed, "-KILL");
            another_worker(&rig, killed).await;
            let before = hsm.bytes();
            rig.command("carol", transition(key, Transition::Deactivate)).await.unwrap();
            rig.command("carol", transition(key, Transition::Destroy(None))).await.unwrap();
            assert!(rig.pipeline.finish_what_waits().await.is_err(), "{key}");
            let pending = rig.state().find(&rig.acme, &name(key)).unwrap().erasure.unwrap().pending.len();
            assert_eq!(pending, 1, "{key}");
            assert_eq!(hsm.bytes(), before, "{key}: it is somebody's");
            assert_eq!(member(&rig, "a").condition(), Condition::Up, "{key}: and nothing to its member");
        });
    }
}

/// Members over one store are asked at once: whoever comes second finds nothing, and that is no fault of its device.
#[test]
fn what_another_member_removes_in_the_same_moment_is_gone() {
    for does in ["is late", "is later"] {
        let hsm = SoftHsm::new("adopt");
        hsm.secret("AES:32", "secret", "01");
        hsm.pair("EC:prime256v1", "pair", "02");
        let now = hsm.path("now");
        let mut launch = named("a", Launch { module: lenient(&hsm), overdue: READY, ..hsm.launch("adopt") });
        launch.environment.push(("LENIENT".into(), does.into()));
        launch.environment.push(("NOW".into(), now.clone().into()));
        runtime().block_on(async {
            let rig = pool_of(vec![launch]).await;
            adopt(&rig, called("pair", of("pair", Algorithm::EcdsaP256))).await.unwrap();
            adopt(&rig, called("secret", of("secret", Algorithm::Aes256Gcm))).await.unwrap();
            rig.create(new_key("ours", Algorithm::EcdsaP256)).await.unwrap();
            let public = begin(&rig, new_key("brought", Algorithm::HmacSha256)).await.unwrap();
            finish(&rig, "brought", secret(&public, &[7; 32]), Past::Untold).await.unwrap();
            rig.pipeline.finish_what_waits().await.unwrap();
            let (worker, failed) = (member(&rig, "a").worker(), member(&rig, "a").report().failed);
            std::fs::write(&now, []).unwrap();
            for key in ["pair", "secret", "ours", "brought"] {
                rig.command("carol", transition(key, Transition::Deactivate)).await.unwrap();
                rig.command("carol", transition(key, Transition::Destroy(None))).await.unwrap();
                rig.pipeline.finish_what_waits().await.unwrap();
                let erasure = rig.state().find(&rig.acme, &name(key)).unwrap().erasure.unwrap();
                assert_eq!((erasure.absent.len(), erasure.pending.len()), (1, 0), "{does}: {key}");
            }
            let now = (member(&rig, "a").worker(), member(&rig, "a").report().failed);
            assert_eq!(now, (worker, failed), "{does}");
        });
    }
}

#[test]
fn what_must_not_be_destroyed_says_so_in_its_evidence_and_stays_pending() {
    let hsm = SoftHsm::new("adopt");
    hsm.secret("AES:32", "lasting", "01");
    // No tool sets it: in the token's own file, CKA_DESTROYABLE, a boolean, true.
    let (is_true, is_false) = (b"\0\0\0\0\0\0\x01\x72\0\0\0\0\0\0\0\x01\xff", 0);
    for (path, mut bytes) in hsm.bytes() {
        let at = bytes.windows(is_true.len()).position(|window| window == is_true).unwrap();
        bytes[at + is_true.len() - 1] = is_false;
        std::fs::write(path, bytes).unwrap();
    }
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        adopt(&rig, called("lasting", of("lasting", Algorithm::Aes256Gcm))).await.unwrap();
        let said = rig.log().last().event()["evidence"]["attributes"].to_string();
        assert!(said.contains("\"not-destroyable\""), "{said}");
        rig.command("carol", transition("lasting", Transition::Deactivate)).await.unwrap();
        rig.command("carol", transition("lasting", Transition::Destroy(None))).await.unwrap();
        assert!(rig.pipeline.finish_what_waits().await.is_err());
        let erasure = rig.state().find(&rig.acme, &name("lasting")).unwrap().erasure.unwrap();
        assert_eq!((erasure.absent.len(), erasure.pending.len()), (0, 1));
        assert_eq!(hsm.objects(), 1);
    });
}

#[test]
fn every_member_of_a_pool_must_hold_the_same() {
    let a = SoftHsm::new("adopt");
    a.secret("AES:32", "shared", "01");
    a.secret("AES:32", "different", "02");
    a.pair("EC:prime256v1", "pair", "03");
    let b = a.twin();
    a.secret("AES:32", "alone", "04");
    b.tool("--delete-object --type secrkey --id 02");
    b.secret("AES:32", "different", "02");
    b.tool("--delete-object --type privkey --id 03");
    b.tool("--delete-object --type pubkey --id 03");
    b.pair("EC:prime256v1", "pair", "03");
    runtime().block_on(async {
        let launches = [("a", &a), ("b", &b)].map(|(name, hsm)| named(name, hsm.launch("adopt")));
        let rig = pool_of(launches.into()).await;
        for (label, algorithm, words) in [
            ("different", Algorithm::Aes256Gcm, "hold different objects"),
            ("pair", Algorithm::EcdsaP256, "hold different objects"),
        ] {
            let error = adopt(&rig, of(label, algorithm)).await.unwrap_err();
            assert!(error.detail().contains(words), "{}", error.chain());
        }
        // Whichever is looked at first.
        let error = adopt(&rig, of("alone", Algorithm::Aes256Gcm)).await.unwrap_err();
        assert!(
            ["member `b` of the pool does not hold the object", "the token has no such object"]
                .contains(&error.detail()),
            "{}",
            error.chain()
        );
        adopt(&rig, called("shared", of("shared", Algorithm::Aes256Gcm))).await.unwrap();
        let sealed = rig.bytes("alice", "shared", encrypt(b"4711", context(&[]))).await.unwrap();
        // Each alone, and each as a new process.
        for (out, alone) in [("a", "b"), ("b", "a")] {
            let killed = member(&rig, alone).worker().unwrap();
            signal(killed, "-KILL");
            while member(&rig, alone).worker().is_none_or(|pid| pid == killed) {
                tokio::task::yield_now().await;
            }
            member(&rig, alone).ready(super::READY).await.unwrap();
            member(&rig, out).drain();
            let opened = rig.bytes("alice", "shared", decrypt(&sealed, context(&[]))).await.unwrap();
            assert_eq!(opened, b"4711");
            let error = adopt(&rig, of("alone", Algorithm::Aes256Gcm)).await.unwrap_err();
            assert!(
                error.detail().contains("cannot say whether it holds") || alone == "b",
                "{}",
                error.chain()
            );
            member(&rig, out).join();
        }
    });
}

/// What is adopted does not travel; what takes its place does.
#[test]
fn where_keys_travel_what_was_brought_to_each_token_is_adopted_and_its_next_version_travels() {
    let (a, b) = with_wrapping_key();
    let pem = openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", &[]);
    for hsm in [&a, &b] {
        let file = hsm.path("key.pem");
        std::fs::write(&file, &pem).unwrap();
        let pin = String::from_utf8(PIN.to_vec()).unwrap();
        let done = Command::new("softhsm2-util")
            .args(["--token", "pool", "--pin", &pin, "--label", "brought", "--id", "0707", "--import"])
            .arg(file)
            .env("SOFTHSM2_CONF", hsm.conf())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    runtime().block_on(async {
        let store = over(travelling(&a, &b), 2, 1, patience()).await.adopted_by(["acme".parse().unwrap()]);
        let rig = found(store).await;
        // The wrapping key is no key for anything else.
        let kek = adopt(&rig, of(KEK, Algorithm::Aes256Kw)).await.unwrap_err();
        assert_eq!(kek.kind(), ErrorKind::NotFound, "{}", kek.chain());
        adopt(&rig, of("brought", Algorithm::Rsa2048)).await.unwrap();
        let said = || rig.log().last().event()["evidence"]["attributes"].to_string();
        assert!(said().starts_with("[\"sensitive\",") && !said().contains("local"), "{}", said());
        let signature = rig.bytes("alice", "k", sign(b"message")).await.unwrap();
        let public = openssl("pkey -in k.pem -pubout -outform DER", &[("k.pem", &pem)]);
        assert_eq!(public_half(&rig, "k").await, public);
        openssl(
            "dgst -sha256 -keyform DER -sigopt rsa_padding_mode:pss -verify p.der -signature s m",
            &[("p.der", &public), ("s", &signature), ("m", b"message")],
        );
        rig.command("carol", Order::RotateKey(name("k"))).await.unwrap();
        let made = rig.log().last();
        assert_eq!(made.text("evidence.origin"), "generated");
        assert!(!made.text("evidence.wrapping_key").is_empty());
        // Both members hold both.
        for out in ["a", "b"] {
            member(&rig, out).drain();
            rig.bytes("alice", "k", sign(b"message")).await.unwrap();
            member(&rig, out).join();
        }
    });
}
