//! Keys that were created with an emergency copy, in real tokens and out of them.

use super::pool::named;
use super::travel::{travelling, with_wrapping_key};
use super::{READY, SoftHsm, patience, runtime};
use holdfast_conformance::doubles::{Journal, Records, Sim};
use holdfast_conformance::rig::{
    POLICY, Rig, context, decrypt, encrypt, name, new_key, sign, unwrap, verify, wrap,
};
use holdfast_core::algorithm::{Algorithm, Family, Purpose};
use holdfast_core::command::{Command as Order, Done, NewKey};
use holdfast_core::emergency::{CopyState, RequestCopy};
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::{Operation, Output};
use holdfast_core::{Error, ErrorKind, Secret};
use holdfast_keystore::Custodian;
use holdfast_keystore::emergency::{Custodians, Mail, Mailbox, SHARE_LEN};
use holdfast_keystore::pkcs11::{Distribution, Launch, Pool, TokenStore};
use holdfast_keystore::software::{RootKey, SoftwareStore};
use std::sync::Arc;

type Bench = Rig<Custodian<Sim>, Records, Journal>;

/// `RECIPIENT: TEXT`, in the place of age.
struct Post;

struct Fresh;

fn letter(recipient: &str, text: &[u8]) -> Vec<u8> {
    [recipient.as_bytes(), b": ", text].concat()
}

impl Mail for Post {
    fn seal(&self, recipient: &str, text: &Secret) -> Result<Vec<u8>, Error> {
        Ok(letter(recipient, text.expose()))
    }

    fn mailbox(&self) -> Box<dyn Mailbox> {
        Box::new(Fresh)
    }
}

impl Mailbox for Fresh {
    fn recipient(&self) -> &'static str {
        "fresh"
    }

    fn open(&self, sealed: &[u8]) -> Option<Secret> {
        sealed.strip_prefix(&*letter("fresh", b"")).map(Secret::from)
    }
}

async fn bench(launches: Vec<Launch>, distribution: Distribution) -> Bench {
    let copies = launches.len();
    let pool = Pool::start(launches, distribution, copies).unwrap();
    for member in pool.members() {
        member.ready(READY).await.unwrap();
    }
    let root = RootKey::new(Secret::new((0..32).collect())).unwrap();
    let software = SoftwareStore::open(root, Arc::new(Sim::new(7))).unwrap();
    let token = TokenStore::beside(&software, pool, patience());
    let each = ["erin", "frank", "grace"].map(|name| (name.parse().unwrap(), name.to_owned())).into();
    let custodians = Custodians { threshold: 2, each, mail: Box::new(Post) };
    let keys = Custodian::new(software, Some(token)).with_emergency(Some(custodians));
    Rig::found(keys, Records::default(), Journal::default(), POLICY).await.unwrap()
}

/// No token can be reached, or all of them again.
fn set_reachable(rig: &Bench, reachable: bool) {
    for member in rig.keys().token().unwrap().pool().members() {
        match reachable {
            true => member.join(),
            false => member.drain(),
        };
    }
}

fn copied(key: &str, algorithm: Algorithm) -> NewKey {
    NewKey { emergency_copy: true, ..new_key(key, algorithm) }
}

async fn carol(rig: &Bench, order: Order) -> Result<CopyState, Error> {
    let Done::Copy(_, state) = rig.command("carol", order).await?.done else { panic!("a copy") };
    Ok(state)
}

/// Two custodians allow the use of a key's copies.
async fn activate(rig: &Bench, key: &str) {
    let request = RequestCopy { key: name(key), seconds: 3600, reason: "burnt".into(), versions: vec![] };
    let request = carol(rig, Order::RequestCopy(request)).await.unwrap().request.unwrap();
    for who in ["erin", "grace"] {
        let of = request.shares.iter().filter(|share| share.custodian.as_str() == who);
        let shares: Vec<_> =
            of.flat_map(|share| share.share[share.share.len() - SHARE_LEN..].to_vec()).collect();
        let shares = letter("fresh", &shares).into();
        carol(rig, Order::ApproveCopy { key: name(key), shares }).await.unwrap();
    }
}

async fn works(rig: &Bench, key: &str, operation: Operation) -> Vec<u8> {
    let done = rig.bytes("alice", key, operation).await;
    done.unwrap_or_else(|error| panic!("{key}: {}", error.chain()))
}

fn by_whom(rig: &Bench) -> String {
    rig.log().last().event()["performed_by"].as_str().unwrap_or_default().to_owned()
}

/// What the token did the copy undoes, and what the copy did the token: they are the same key.
#[test]
fn a_copy_is_the_key_of_every_algorithm_that_a_token_takes_in() {
    let hsm = SoftHsm::new("copied");
    runtime().block_on(async {
        let rig = bench(vec![named("a", hsm.launch("copied"))], Distribution::Vendor).await;
        let nothing = || context(&[]);
        for algorithm in [
            Algorithm::Aes256Gcm,
            Algorithm::Aes256Kw,
            Algorithm::HmacSha256,
            Algorithm::HmacSha384,
            Algorithm::HmacSha512,
            Algorithm::Rsa2048,
            Algorithm::EcdsaP256,
            Algorithm::EcdsaP384,
            Algorithm::EcdsaP521,
            Algorithm::EcdhP256,
            Algorithm::EcdhP384,
        ] {
            let key = algorithm.name();
            let purpose = (algorithm == Algorithm::Rsa2048).then_some(Purpose::Encrypt);
            let new = NewKey { purpose, ..copied(key, algorithm) };
            rig.create(new).await.unwrap_or_else(|error| panic!("{key}: {}", error.chain()));
            let last = rig.log().last();
            assert_eq!([last.text("evidence.level"), last.text("evidence.origin")], ["token", "copied"]);
            assert_eq!(last.event()["evidence"]["attributes"].to_string(), "[\"sensitive\"]", "{key}");
            activate(&rig, key).await;
            let mut peer = vec![];
            if algorithm.family() == Family::Agreement {
                rig.create(new_key(&format!("{key}-peer"), algorithm)).await.unwrap();
                peer = works(&rig, &format!("{key}-peer"), Operation::PublicKey { version: None }).await;
            }
            let mut before = vec![];
            for reachable in [true, false, true] {
                set_reachable(&rig, reachable);
                let whose = if reachable { "" } else { "emergency-copy" };
                let does = async |operation| {
                    let done = works(&rig, key, operation).await;
                    assert_eq!(by_whom(&rig), whose, "{key}");
                    done
                };
                before = match algorithm.family() {
                    Family::Aead | Family::Rsa => {
                        if !before.is_empty() {
                            assert_eq!(does(decrypt(&before, nothing())).await, b"4711", "{key}");
                        }
                        works(&rig, key, encrypt(b"4711", nothing())).await
                    }
                    Family::KeyWrap => {
                        if !before.is_empty() {
                            assert_eq!(does(unwrap(&before, nothing())).await, [7; 32], "{key}");
                        }
                        does(wrap(&[7; 32], nothing())).await
                    }
                    Family::Signature => {
                        let signature = does(sign(b"message")).await;
                        let valid = rig.use_key("alice", key, verify(b"message", &signature, None)).await;
                        assert!(matches!(valid.unwrap().output, Output::Valid(true)), "{key}");
                        vec![]
                    }
                    Family::Agreement => {
                        let shared = does(Operation::Agree { peer: peer.clone(), version: None }).await;
                        assert!(before.is_empty() || before == shared, "{key}");
                        shared
                    }
                    Family::Hmac => {
                        let mac = does(Operation::Mac { message: b"m".to_vec() }).await;
                        assert!(before.is_empty() || before == mac, "{key}");
                        mac
                    }
                    Family::Kem => unreachable!(),
                };
            }
        }
        // What no token takes in has no copy, and nothing of it stays there.
        let objects = hsm.objects();
        for algorithm in [Algorithm::Xaes256Gcm, Algorithm::MlDsa65, Algorithm::MlKem768] {
            let refused = rig.create(copied("none", algorithm)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{algorithm}: {}", refused.chain());
            let why = "no token has this algorithm, and no emergency copy is needed";
            assert_eq!(refused.detail(), why, "{algorithm}");
        }
        // SoftHSM makes Edwards keys, and unwraps none.
        let error = rig.create(copied("none", Algorithm::Ed25519)).await.unwrap_err();
        assert!(error.chain().contains("C_UnwrapKey"), "{}", error.chain());
        let exportable = NewKey { exportable: true, ..copied("none", Algorithm::Aes256Gcm) };
        assert_eq!(rig.create(exportable).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(hsm.objects(), objects);
    });
}

/// What has a copy reaches every token as what was made inside does, and ends as that does.
#[test]
fn where_keys_travel_so_does_one_with_a_copy_and_its_end_is_the_copy_s() {
    let (a, b) = with_wrapping_key();
    runtime().block_on(async {
        let rig = bench(travelling(&a, &b), Distribution::Wrapped).await;
        rig.create(copied("k", Algorithm::Aes256Gcm)).await.unwrap();
        let last = rig.log().last();
        assert_eq!(last.text("evidence.origin"), "copied");
        assert!(!last.text("evidence.wrapping_key").is_empty());
        let sealed = works(&rig, "k", encrypt(b"4711", context(&[]))).await;
        let members = || rig.keys().token().unwrap().pool().members();
        for out in members() {
            out.drain();
            assert_eq!(works(&rig, "k", decrypt(&sealed, context(&[]))).await, b"4711");
            assert_eq!(by_whom(&rig), "");
            out.join();
        }
        activate(&rig, "k").await;
        set_reachable(&rig, false);
        assert_eq!(works(&rig, "k", decrypt(&sealed, context(&[]))).await, b"4711");
        assert_eq!((by_whom(&rig).as_str(), rig.keys().copies_in_force()), ("emergency-copy", 1));
        rig.transition("k", Transition::Deactivate).await.unwrap();
        rig.transition("k", Transition::Destroy(None)).await.unwrap();
        assert_eq!(rig.keys().copies_in_force(), 0);
        let error = rig.bytes("alice", "k", decrypt(&sealed, context(&[]))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyState);
    });
}
