//! Wycheproof: AES-GCM, AES-GCM-SIV, AES key wrap, HMAC.

use super::{Tally, same_refusal};
use crate::software::aead::AeadKey;
use crate::software::fixture::Fixed;
use crate::software::key_wrap::WrapKey;
use crate::software::mac::MacKey;
use aws_lc_rs::hmac;
use holdfast_core::Error;
use wycheproof::{TestResult, aead, keywrap, mac};

fn run_aead(file: &str, make: fn(&[u8]) -> Result<AeadKey, Error>) -> Tally {
    let mut tally = Tally::default();
    let set = aead::TestSet::load(file.parse().unwrap()).unwrap();
    for group in set.test_groups {
        if group.key_size != 256 {
            tally.skip("key of another size", group.tests.len());
            continue;
        }
        for test in group.tests {
            let key = make(&test.key).unwrap();
            let body = [&test.nonce[..], &test.ct, &test.tag].concat();
            let opened = same_refusal(key.open(&body, &test.aad));
            if group.nonce_size != 96 {
                // Such a body cannot be told from one with a 96-bit nonce; it must only never give the plaintext.
                assert!(opened.is_err(), "{file} {}", test.tc_id);
                tally.skip("nonce of another size, refused", 1);
                continue;
            }
            if test.result == TestResult::Valid {
                let sealed = key.seal(&Fixed(test.nonce.to_vec()), Vec::new(), &test.pt, &test.aad).unwrap();
                assert_eq!(sealed, body, "{file} {}", test.tc_id);
            }
            let got = opened.map(|secret| secret.expose().to_vec());
            tally.judge((file, test.tc_id), test.result, test.pt.to_vec(), got);
        }
    }
    tally
}

#[test]
fn aes_gcm() {
    run_aead("aes_gcm", AeadKey::gcm).expect(
        "aes_gcm",
        66,
        &[("key of another size", 211), ("nonce of another size, refused", 39)],
    );
}

#[test]
fn aes_gcm_siv() {
    run_aead("aes_gcm_siv", AeadKey::gcm_siv).expect("aes_gcm_siv", 103, &[("key of another size", 99)]);
}

fn run_wrap(file: &str, padded: bool) -> Tally {
    let mut tally = Tally::default();
    let set = keywrap::TestSet::load(file.parse().unwrap()).unwrap();
    for group in set.test_groups {
        if group.key_size != 256 {
            tally.skip("key of another size", group.tests.len());
            continue;
        }
        for test in group.tests {
            let key = WrapKey::new(&test.key, padded).unwrap();
            if test.result == TestResult::Valid {
                assert_eq!(key.wrap(Vec::new(), &test.pt).unwrap(), test.ct[..], "{file} {}", test.tc_id);
            }
            let got = same_refusal(key.unwrap(&test.ct)).map(|secret| secret.expose().to_vec());
            tally.judge((file, test.tc_id), test.result, test.pt.to_vec(), got);
        }
    }
    tally
}

#[test]
fn aes_key_wrap() {
    run_wrap("aes_wrap", false).expect("aes_wrap", 68, &[("key of another size", 97)]);
}

#[test]
fn aes_key_wrap_with_padding() {
    run_wrap("aes_kwp", true).expect("aes_kwp", 94, &[("key of another size", 160)]);
}

fn run_mac(file: &str, algorithm: hmac::Algorithm) -> Tally {
    let mut tally = Tally::default();
    let set = mac::TestSet::load(file.parse().unwrap()).unwrap();
    for group in set.test_groups {
        for test in group.tests {
            let key = MacKey::new(algorithm, &test.key);
            if group.tag_size != algorithm.tag_len() * 8 {
                assert!(!key.verify(&test.msg, &test.tag), "{file} {}: a truncated code", test.tc_id);
                tally.skip("truncated code, refused", 1);
                continue;
            }
            if test.result == TestResult::Valid {
                assert_eq!(key.mac(&test.msg), test.tag[..], "{file} {}", test.tc_id);
            }
            let got = super::verdict(Ok(key.verify(&test.msg, &test.tag)));
            tally.judge((file, test.tc_id), test.result, (), got);
        }
    }
    tally
}

#[test]
fn hmac_sha_2() {
    let truncated = |count| [("truncated code, refused", count)];
    run_mac("hmac_sha256", hmac::HMAC_SHA256).expect("hmac_sha256", 87, &truncated(87));
    run_mac("hmac_sha384", hmac::HMAC_SHA384).expect("hmac_sha384", 87, &truncated(87));
    run_mac("hmac_sha512", hmac::HMAC_SHA512).expect("hmac_sha512", 87, &truncated(87));
}
