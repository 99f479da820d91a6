//! Wycheproof: ML-DSA-65, ML-KEM-768.
//!
//! Not run: `mldsa_65_sign_noseed` (78 vectors), since keys are seeds here; `mlkem_768_encaps` (265), which is about encapsulating to
//! a given key with given randomness, and the port has neither.

use super::{Tally, verdict};
use crate::software::kem::KemKey;
use crate::software::signature::{PublicHalf, SignatureKey};
use holdfast_core::algorithm::SignatureScheme;
use holdfast_core::work::Message;
use std::collections::HashMap;
use wycheproof::{TestResult, mldsa_sign, mldsa_verify, mlkem};

const REPRESENTATIVE: &str = "message representative, which the port does not take";
const CONTEXT: &str = "context string, which the port does not take";

#[test]
fn ml_dsa_verification() {
    let mut tally = Tally::default();
    let set = mldsa_verify::TestSet::load(mldsa_verify::TestName::MlDsa65Verify).unwrap();
    for group in set.test_groups {
        let key = PublicHalf::ml_dsa(&group.pubkey);
        for test in group.tests {
            if test.ctx.is_some() {
                tally.skip(CONTEXT, 1);
                continue;
            }
            // A key that is refused verifies nothing.
            let got = match &key {
                Ok(key) => {
                    verdict(key.verify(SignatureScheme::MlDsa65, Message::Whole(&test.msg), &test.sig))
                }
                Err(_) => Err(crate::refusal::integrity()),
            };
            tally.judge(("mldsa_65_verify", test.tc_id), test.result, (), got);
        }
    }
    tally.expect("mldsa_65_verify", 202, &[(CONTEXT, 8)]);
}

/// Signatures are randomised here, so a vector's own is verified, and ours too.
#[test]
fn ml_dsa_signing() {
    let mut tally = Tally::default();
    let scheme = SignatureScheme::MlDsa65;
    let set = mldsa_sign::TestSet::load(mldsa_sign::TestName::MlDsa65SignSeed).unwrap();
    for group in set.test_groups {
        let seed = group.privseed.as_ref().map(|seed| seed.to_vec()).unwrap_or_default();
        let key = SignatureKey::ml_dsa(&seed);
        for test in group.tests {
            let message = match (&test.ctx, &test.msg) {
                (Some(_), _) => {
                    tally.skip(CONTEXT, 1);
                    continue;
                }
                (None, None) => {
                    tally.skip(REPRESENTATIVE, 1);
                    continue;
                }
                (None, Some(message)) => Message::Whole(message),
            };
            let got = match &key {
                Ok(key) => {
                    let own = key.sign(scheme, message).unwrap();
                    assert!(key.verify(scheme, message, &own).unwrap());
                    verdict(key.verify(scheme, message, &test.sig))
                }
                Err(_) => Err(crate::refusal::integrity()),
            };
            tally.judge(("mldsa_65_sign_seed", test.tc_id), test.result, (), got);
        }
    }
    tally.expect("mldsa_65_sign_seed", 83, &[(CONTEXT, 5), (REPRESENTATIVE, 17)]);
}

#[test]
fn ml_kem_decapsulation() {
    let mut tally = Tally::default();
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768SemiExpandedDecaps).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let (key, ciphertext) = (test.decaps_key.unwrap(), test.ct.unwrap());
        let got = KemKey::new(&key).and_then(|key| key.decapsulate(&ciphertext));
        let right = test.shared_secret.map(|secret| secret.to_vec()).unwrap_or_default();
        tally.judge(
            ("mlkem_768_semi_expanded_decaps", test.tc_id),
            test.result,
            right,
            got.map(|secret| secret.expose().to_vec()),
        );
    }
    tally.expect("mlkem_768_semi_expanded_decaps", 9, &[]);
}

/// Every decapsulation key that FIPS 203 derives is taken, and its halves belong together.
#[test]
fn ml_kem_keys() {
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768KeyGenSeed).unwrap();
    let mut run = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        assert_eq!(test.result, TestResult::Valid);
        let key = test.decaps_key.unwrap();
        assert_eq!(key[1152..2336], test.encaps_key.unwrap()[..]);
        let key = KemKey::new(&key).unwrap();
        let (ciphertext, secret) = key.encapsulate().unwrap();
        assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret);
        run += 1;
    }
    assert_eq!(run, 100);
}

const UNEXPANDED: &str = "seed that no file expands";

/// The file gives seeds; the expanded keys of some stand in the file of derived keys.
#[test]
fn ml_kem_by_seed() {
    let mut tally = Tally::default();
    let keys = mlkem::TestSet::load(mlkem::TestName::MlKem768KeyGenSeed).unwrap();
    let keys = keys.test_groups.into_iter().flat_map(|group| group.tests);
    let expanded: HashMap<_, _> =
        keys.map(|test| (test.seed.unwrap().to_vec(), test.decaps_key.unwrap().to_vec())).collect();
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let Some(key) = expanded.get(&test.seed.unwrap()[..]) else {
            tally.skip(UNEXPANDED, 1);
            continue;
        };
        let got = KemKey::new(key).and_then(|key| key.decapsulate(&test.ct.unwrap()));
        let got = got.map(|secret| secret.expose().to_vec());
        let right = test.shared_secret.map(|secret| secret.to_vec()).unwrap_or_default();
        tally.judge(("mlkem_768", test.tc_id), test.result, right, got);
    }
    tally.expect("mlkem_768", 108, &[(UNEXPANDED, 93)]);
}
