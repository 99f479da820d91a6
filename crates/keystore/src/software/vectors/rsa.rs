//! Wycheproof: RSA OAEP and PKCS#1 v1.5 decryption, PSS and PKCS#1 v1.5 signatures.

use super::{Tally, same_refusal, verdict};
use crate::software::digest;
use crate::software::rsa::{Modulus, RsaKey, verify};
use holdfast_core::algorithm::{Hash, RsaPadding, SignatureScheme};
use holdfast_core::work::Message;
use wycheproof::{
    HashFunction, Mgf, TestResult, rsa_oaep, rsa_pkcs1_decrypt, rsa_pkcs1_verify, rsa_pss_verify,
};

const OTHER_SIZE: &str = "modulus of another size";
const OTHER_HASH: &str = "hash that is not on offer";
const OTHER_PSS: &str = "PSS parameters that are not on offer";

fn modulus(bits: usize) -> Option<Modulus> {
    match bits {
        2048 => Some(Modulus::Bits2048),
        3072 => Some(Modulus::Bits3072),
        4096 => Some(Modulus::Bits4096),
        _ => None,
    }
}

fn hash(hash: HashFunction) -> Option<Hash> {
    [
        (HashFunction::Sha1, Hash::Sha1),
        (HashFunction::Sha2_256, Hash::Sha256),
        (HashFunction::Sha2_384, Hash::Sha384),
        (HashFunction::Sha2_512, Hash::Sha512),
    ]
    .into_iter()
    .find_map(|(theirs, ours)| (theirs == hash).then_some(ours))
}

fn run_oaep(file: &str) -> Tally {
    let mut tally = Tally::default();
    let set = rsa_oaep::TestSet::load(file.parse().unwrap()).unwrap();
    for group in set.test_groups {
        let Some(modulus) = modulus(group.key_size) else {
            tally.skip(OTHER_SIZE, group.tests.len());
            continue;
        };
        let (Some(hash), Some(mgf1)) = (hash(group.hash), hash(group.mgf_hash)) else {
            tally.skip(OTHER_HASH, group.tests.len());
            continue;
        };
        let key = RsaKey::new(modulus, &group.pkcs8).unwrap();
        let padding = RsaPadding::Oaep { hash, mgf1 };
        for test in group.tests {
            if test.result == TestResult::Valid {
                let own = key.encrypt(Vec::new(), padding, &test.label, &test.pt).unwrap();
                assert_eq!(key.decrypt(padding, &test.label, &own).unwrap().expose(), &test.pt[..]);
                assert!(key.decrypt(padding, b"another label", &own).is_err());
            }
            let got = same_refusal(key.decrypt(padding, &test.label, &test.ct));
            let got = got.map(|secret| secret.expose().to_vec());
            tally.judge((file, test.tc_id), test.result, test.pt.to_vec(), got);
        }
    }
    tally
}

#[test]
fn oaep() {
    let counts = [
        ("rsa_oaep_2048_sha1_mgf1sha1", 36, 0),
        ("rsa_oaep_2048_sha224_mgf1sha1", 0, 31),
        ("rsa_oaep_2048_sha224_mgf1sha224", 0, 35),
        ("rsa_oaep_2048_sha256_mgf1sha1", 31, 0),
        ("rsa_oaep_2048_sha256_mgf1sha256", 37, 0),
        ("rsa_oaep_2048_sha384_mgf1sha1", 31, 0),
        ("rsa_oaep_2048_sha384_mgf1sha384", 34, 0),
        ("rsa_oaep_2048_sha512_224_mgf1sha1", 0, 32),
        ("rsa_oaep_2048_sha512_224_mgf1sha512_224", 0, 35),
        ("rsa_oaep_2048_sha512_mgf1sha1", 31, 0),
        ("rsa_oaep_2048_sha512_mgf1sha512", 33, 0),
        ("rsa_oaep_3072_sha256_mgf1sha1", 32, 0),
        ("rsa_oaep_3072_sha256_mgf1sha256", 37, 0),
        ("rsa_oaep_3072_sha512_256_mgf1sha1", 0, 31),
        ("rsa_oaep_3072_sha512_256_mgf1sha512_256", 0, 37),
        ("rsa_oaep_3072_sha512_mgf1sha1", 31, 0),
        ("rsa_oaep_3072_sha512_mgf1sha512", 33, 0),
        ("rsa_oaep_4096_sha256_mgf1sha1", 32, 0),
        ("rsa_oaep_4096_sha256_mgf1sha256", 37, 0),
        ("rsa_oaep_4096_sha512_mgf1sha1", 31, 0),
        ("rsa_oaep_4096_sha512_mgf1sha512", 36, 0),
    ];
    for (file, run, other_hash) in counts {
        run_oaep(file).expect(file, run, &skips(&[(OTHER_HASH, other_hash)]));
    }
}

#[test]
fn oaep_with_mixed_parameters() {
    run_oaep("rsa_oaep_misc").expect("rsa_oaep_misc", 144, &[(OTHER_SIZE, 185), (OTHER_HASH, 66)]);
}

#[test]
fn pkcs1_decryption() {
    for (file, count) in [("rsa_pkcs1_2048", 67), ("rsa_pkcs1_3072", 67), ("rsa_pkcs1_4096", 67)] {
        let mut tally = Tally::default();
        let set = rsa_pkcs1_decrypt::TestSet::load(file.parse().unwrap()).unwrap();
        for group in set.test_groups {
            let key = RsaKey::new(modulus(group.key_size).unwrap(), &group.pkcs8).unwrap();
            for test in group.tests {
                // Every malformed padding, and every impossible length, gives one and the same refusal.
                let got = same_refusal(key.decrypt(RsaPadding::Pkcs1v15, b"", &test.ct));
                let got = got.map(|secret| secret.expose().to_vec());
                tally.judge((file, test.tc_id), test.result, test.pt.to_vec(), got);
            }
        }
        tally.expect(file, count, &[]);
    }
}

fn run_pss(file: &str) -> Tally {
    let mut tally = Tally::default();
    let set = rsa_pss_verify::TestSet::load(file.parse().unwrap()).unwrap();
    for group in set.test_groups {
        let offered = hash(group.hash)
            .filter(|hash| *hash != Hash::Sha1 && group.mgf == Mgf::Mgf1)
            .filter(|hash| group.mgf_hash == Some(group.hash) && group.salt_size == hash.len());
        let Some(hash) = offered else {
            tally.skip(OTHER_PSS, group.tests.len());
            continue;
        };
        let scheme = SignatureScheme::RsaPss(hash);
        for test in group.tests {
            let digest = digest::of(hash, Message::Whole(&test.msg)).unwrap();
            let got = verdict(verify(&group.asn_key, scheme, &digest, &test.sig));
            tally.judge((file, test.tc_id), test.result, (), got);
        }
    }
    tally
}

#[test]
fn pss_signatures() {
    let counts = [
        ("rsa_pss_2048_sha1_mgf1_20_params", 0, 88),
        ("rsa_pss_2048_sha1_mgf1_20", 0, 88),
        ("rsa_pss_2048_sha256_mgf1_0_params", 0, 103),
        ("rsa_pss_2048_sha256_mgf1_0", 0, 103),
        ("rsa_pss_2048_sha256_mgf1_32_params", 108, 0),
        ("rsa_pss_2048_sha256_mgf1_32", 108, 0),
        ("rsa_pss_2048_sha256_mgf1sha1_20", 0, 108),
        ("rsa_pss_2048_sha384_mgf1_48", 141, 0),
        ("rsa_pss_2048_sha512_224_mgf1_28", 0, 100),
        ("rsa_pss_2048_sha512_256_mgf1_32", 0, 115),
        ("rsa_pss_2048_sha512_mgf1sha256_32_params", 0, 178),
        ("rsa_pss_2048_shake128", 0, 114),
        ("rsa_pss_2048_shake256", 0, 184),
        ("rsa_pss_3072_sha256_mgf1_32_params", 108, 0),
        ("rsa_pss_3072_sha256_mgf1_32", 108, 0),
        ("rsa_pss_3072_shake128", 0, 114),
        ("rsa_pss_3072_shake256", 0, 184),
        ("rsa_pss_4096_sha256_mgf1_32", 108, 0),
        ("rsa_pss_4096_sha384_mgf1_48", 141, 0),
        ("rsa_pss_4096_sha512_mgf1_32_params", 0, 177),
        ("rsa_pss_4096_sha512_mgf1_32", 0, 177),
        ("rsa_pss_4096_sha512_mgf1_64_params", 179, 0),
        ("rsa_pss_4096_sha512_mgf1_64", 179, 0),
        ("rsa_pss_4096_shake256", 0, 184),
        ("rsa_pss_misc_params", 3, 147),
        ("rsa_pss_misc", 3, 147),
    ];
    assert_eq!(counts.len(), rsa_pss_verify::TestName::all().len());
    for (file, run, other) in counts {
        run_pss(file).expect(file, run, &skips(&[(OTHER_PSS, other)]));
    }
}

#[test]
fn pkcs1_signatures() {
    let counts = [
        ("rsa_signature_2048_sha224", 0, 258),
        ("rsa_signature_2048_sha256", 259, 0),
        ("rsa_signature_2048_sha384", 258, 0),
        ("rsa_signature_2048_sha3_224", 0, 258),
        ("rsa_signature_2048_sha3_256", 0, 257),
        ("rsa_signature_2048_sha3_384", 0, 258),
        ("rsa_signature_2048_sha3_512", 0, 258),
        ("rsa_signature_2048_sha512_224", 0, 258),
        ("rsa_signature_2048_sha512_256", 0, 257),
        ("rsa_signature_2048_sha512", 259, 0),
        ("rsa_signature_3072_sha256", 259, 0),
        ("rsa_signature_3072_sha384", 259, 0),
        ("rsa_signature_3072_sha3_256", 0, 258),
        ("rsa_signature_3072_sha3_384", 0, 259),
        ("rsa_signature_3072_sha3_512", 0, 259),
        ("rsa_signature_3072_sha512_256", 0, 258),
        ("rsa_signature_3072_sha512", 260, 0),
        ("rsa_signature_4096_sha256", 258, 0),
        ("rsa_signature_4096_sha384", 259, 0),
        ("rsa_signature_4096_sha512_256", 0, 258),
        ("rsa_signature_4096_sha512", 259, 0),
        ("rsa_signature_8192_sha256", 258, 0),
        ("rsa_signature_8192_sha384", 259, 0),
        ("rsa_signature_8192_sha512", 259, 0),
    ];
    assert_eq!(counts.len(), rsa_pkcs1_verify::TestName::all().len());
    for (file, run, other) in counts {
        let mut tally = Tally::default();
        let set = rsa_pkcs1_verify::TestSet::load(file.parse().unwrap()).unwrap();
        for group in set.test_groups {
            let Some(hash) = hash(group.hash) else {
                tally.skip(OTHER_HASH, group.tests.len());
                continue;
            };
            for test in group.tests {
                let digest = digest::of(hash, Message::Whole(&test.msg)).unwrap();
                let got = verify(&group.asn_key, SignatureScheme::RsaPkcs1v15(hash), &digest, &test.sig);
                tally.judge((file, test.tc_id), test.result, (), verdict(got));
            }
        }
        tally.expect(file, run, &skips(&[(OTHER_HASH, other)]));
    }
}

/// Without those that did not happen.
fn skips(of: &[(&'static str, usize)]) -> Vec<(&'static str, usize)> {
    of.iter().copied().filter(|(_, count)| *count > 0).collect()
}
