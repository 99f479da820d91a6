//! Published vectors (Wycheproof) in a token: each key is brought into it, and used there. Every file's count is asserted, and each skip has its reason.

use super::adopt::openssl;
use super::import::{begin, finish, wrapped};
use super::pool::{Bench, found, named, over};
use super::{SoftHsm, patience, runtime};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use holdfast_conformance::rig::{context, new_key};
use holdfast_core::algorithm::{Algorithm, Hash, Purpose, RsaPadding};
use holdfast_core::command::NewKey;
use holdfast_core::import::Past;
use holdfast_core::key::Legacy;
use holdfast_core::operation::Operation;
use holdfast_core::port::KeyStore as _;
use holdfast_core::{Error, ErrorKind, KeyVersion};
use holdfast_keystore::pkcs11::Pool;
use holdfast_keystore::pkcs11::message::{Id, Reply, Request};
use std::collections::BTreeMap;
use std::time::Duration;
use wycheproof::{TestResult, aead, keywrap, mac, rsa_oaep, rsa_pkcs1_decrypt};

const PATIENCE: Duration = Duration::from_secs(60);
const ID: Id = [7; 16];
const CARRIER: [u8; 32] = [8; 32];

/// How many vectors of one file were run, and why the others were not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    run: usize,
    skipped: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn skip(&mut self, reason: &'static str, count: usize) {
        *self.skipped.entry(reason).or_default() += count;
    }

    /// Valid ones must give it, invalid ones must not, acceptable ones may do either but must not give anything else.
    fn judge(
        &mut self,
        name: (&str, usize),
        expected: TestResult,
        right: &[u8],
        got: Result<Vec<u8>, Error>,
    ) {
        self.run += 1;
        match (expected, got) {
            (TestResult::Valid, Err(error)) => panic!("{name:?} is valid and was refused: {}", error.chain()),
            (TestResult::Invalid, Ok(got)) => panic!("{name:?} is invalid and gave {got:?}"),
            (TestResult::Valid | TestResult::Acceptable, Ok(got)) => assert_eq!(got, right, "{name:?}"),
            // The vector's own fault, and not the token's.
            (TestResult::Invalid | TestResult::Acceptable, Err(error)) => assert!(
                matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Malformed),
                "{name:?}: {}",
                error.chain()
            ),
        }
    }

    fn expect(&self, file: &str, run: usize, skipped: &[(&'static str, usize)]) {
        let skipped = skipped.iter().copied().collect();
        assert_eq!(*self, Self { run, skipped }, "{file}");
    }
}

async fn ask(pool: &Pool, request: Request<'_>) -> Result<Vec<u8>, Error> {
    let read = |reply: &Reply<'_>| match reply {
        Reply::Done(bytes) => Ok(bytes.to_vec()),
        Reply::Made(_) => Ok(Vec::new()),
        other @ (Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_)) => panic!("{other:?}"),
    };
    pool.ask(&request, PATIENCE, read).await.result
}

/// Has a secret key be the only one in the token.
async fn bring(pool: &Pool, algorithm: Algorithm, material: &[u8]) {
    let mut room = vec![0; material.len() + 8];
    let kek = AesKek::new(&AES_256, &CARRIER).unwrap();
    let wrapped = kek.wrap(material, &mut room).unwrap();
    let (label, travels, carrier, modulus, exponent) = ("vector", false, &CARRIER, &[][..], &[][..]);
    let request = Request::BringIn { algorithm, id: ID, label, travels, carrier, wrapped, modulus, exponent };
    ask(pool, request).await.unwrap();
}

async fn bench(hsm: &SoftHsm) -> Bench {
    found(over(vec![named("a", hsm.launch("vectors"))], 1, 1, patience()).await).await
}

async fn run_gcm(pool: &Pool) -> Tally {
    let (mut tally, file) = (Tally::default(), "aes_gcm");
    for group in aead::TestSet::load(file.parse().unwrap()).unwrap().test_groups {
        if group.key_size != 256 || group.nonce_size != 96 {
            tally.skip("key or nonce of another size", group.tests.len());
            continue;
        }
        for test in group.tests {
            bring(pool, Algorithm::Aes256Gcm, &test.key).await;
            let (nonce, aad) = (test.nonce[..].try_into().unwrap(), &test.aad[..]);
            let ciphertext = [&test.ct[..], &test.tag].concat();
            if test.result == TestResult::Valid {
                let sealed = ask(pool, Request::Seal { id: ID, nonce, aad, plaintext: &test.pt }).await;
                assert_eq!(sealed.unwrap(), [&test.nonce[..], &ciphertext].concat(), "{}", test.tc_id);
            }
            let got = ask(pool, Request::Open { id: ID, nonce, aad, ciphertext: &ciphertext }).await;
            tally.judge((file, test.tc_id), test.result, &test.pt, got);
        }
    }
    tally
}

async fn run_wrap(pool: &Pool) -> Tally {
    let (mut tally, file) = (Tally::default(), "aes_wrap");
    for group in keywrap::TestSet::load(file.parse().unwrap()).unwrap().test_groups {
        if group.key_size != 256 {
            tally.skip("key of another size", group.tests.len());
            continue;
        }
        for test in group.tests {
            bring(pool, Algorithm::Aes256Kw, &test.key).await;
            if test.result == TestResult::Valid {
                let made = ask(pool, Request::Wrap { id: ID, padded: false, bytes: &test.pt }).await;
                assert_eq!(made.unwrap(), test.ct[..], "{}", test.tc_id);
            }
            let got = ask(pool, Request::Unwrap { id: ID, padded: false, body: &test.ct }).await;
            tally.judge((file, test.tc_id), test.result, &test.pt, got);
        }
    }
    tally
}

async fn run_mac(pool: &Pool, file: &str, algorithm: Algorithm, hash: Hash) -> Tally {
    let mut tally = Tally::default();
    for group in mac::TestSet::load(file.parse().unwrap()).unwrap().test_groups {
        for test in group.tests {
            if test.key.len() != hash.len() {
                tally.skip("key of another length", 1);
                continue;
            }
            if group.tag_size != hash.len() * 8 {
                tally.skip("truncated code", 1);
                continue;
            }
            bring(pool, algorithm, &test.key).await;
            let made = ask(pool, Request::Mac { id: ID, hash, message: &test.msg }).await.unwrap();
            assert_eq!(made == test.tag[..], test.result == TestResult::Valid, "{file} {}", test.tc_id);
            tally.run += 1;
        }
    }
    tally
}

#[test]
fn aes_and_hmac() {
    let hsm = SoftHsm::new("vectors");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        let pool = rig.keys().pool();
        run_gcm(pool).await.expect("aes_gcm", 66, &[("key or nonce of another size", 250)]);
        run_wrap(pool).await.expect("aes_wrap", 68, &[("key of another size", 97)]);
        for (file, algorithm, hash) in [
            ("hmac_sha256", Algorithm::HmacSha256, Hash::Sha256),
            ("hmac_sha384", Algorithm::HmacSha384, Hash::Sha384),
            ("hmac_sha512", Algorithm::HmacSha512, Hash::Sha512),
        ] {
            let tally = run_mac(pool, file, algorithm, hash).await;
            tally.expect(file, 81, &[("key of another length", 12), ("truncated code", 81)]);
        }
        assert_eq!(rig.keys().health(), holdfast_core::port::Health::Ready);
    });
}

/// Has a private key be a key that decrypts what other programs have encrypted.
async fn bring_rsa(rig: &Bench, key: &str, pkcs8: &[u8]) {
    let new = NewKey {
        purpose: Some(Purpose::Encrypt),
        legacy: Legacy { rsa_pkcs1_decrypt: true, sha1_oaep: true },
        ..new_key(key, Algorithm::Rsa2048)
    };
    let import = begin(rig, new).await.unwrap();
    let public = openssl("pkey -in k -inform DER -pubout -outform DER", &[("k", pkcs8)]);
    finish(rig, key, wrapped(&import, pkcs8, &public, 32), Past::Untold).await.unwrap();
}

async fn decrypt(rig: &Bench, key: &str, padding: RsaPadding, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let operation = Operation::Decrypt {
        ciphertext: ciphertext.to_vec(),
        padding: Some(padding),
        // The first was the import key.
        bare: KeyVersion::new(2),
        context: context(&[]),
    };
    rig.bytes("alice", key, operation).await
}

#[test]
fn rsa() {
    let hsm = SoftHsm::new("vectors");
    runtime().block_on(async {
        let rig = bench(&hsm).await;
        for (number, (file, hash, mgf1, run, labelled)) in [
            ("rsa_oaep_2048_sha1_mgf1sha1", Hash::Sha1, Hash::Sha1, 29, 7),
            ("rsa_oaep_2048_sha256_mgf1sha1", Hash::Sha256, Hash::Sha1, 28, 3),
            ("rsa_oaep_2048_sha256_mgf1sha256", Hash::Sha256, Hash::Sha256, 29, 8),
            ("rsa_oaep_2048_sha512_mgf1sha512", Hash::Sha512, Hash::Sha512, 29, 4),
        ]
        .into_iter()
        .enumerate()
        {
            let mut tally = Tally::default();
            let set = rsa_oaep::TestSet::load(file.parse().unwrap()).unwrap();
            for (place, group) in set.test_groups.into_iter().enumerate() {
                let key = format!("oaep-{number}-{place}");
                bring_rsa(&rig, &key, &group.pkcs8).await;
                for test in group.tests {
                    if !test.label.is_empty() {
                        tally.skip("ciphertexts of other programs have no label", 1);
                        continue;
                    }
                    let got = decrypt(&rig, &key, RsaPadding::Oaep { hash, mgf1 }, &test.ct).await;
                    tally.judge((file, test.tc_id), test.result, &test.pt, got);
                }
            }
            tally.expect(file, run, &[("ciphertexts of other programs have no label", labelled)]);
        }
        let (mut tally, file) = (Tally::default(), "rsa_pkcs1_2048");
        for group in rsa_pkcs1_decrypt::TestSet::load(file.parse().unwrap()).unwrap().test_groups {
            let key = format!("pkcs1-{}", tally.run);
            bring_rsa(&rig, &key, &group.pkcs8).await;
            for test in group.tests {
                let got = decrypt(&rig, &key, RsaPadding::Pkcs1v15, &test.ct).await;
                tally.judge((file, test.tc_id), test.result, &test.pt, got);
            }
        }
        tally.expect(file, 67, &[]);
    });
}
