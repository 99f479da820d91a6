//! Wycheproof: ECDSA, Ed25519, ECDH, X25519.

use super::{Tally, verdict};
use crate::software::agreement::{AgreementKey, Group};
use crate::software::signature::{Curve, PublicHalf};
use aws_lc_rs::digest;
use holdfast_core::algorithm::{Hash, SignatureScheme};
use holdfast_core::work::Message;
use wycheproof::{TestResult, ecdh, ecdsa, eddsa, xdh};

fn run_ecdsa(file: &str, curve: Curve, hash: Hash) -> Tally {
    let mut tally = Tally::default();
    let scheme = SignatureScheme::Ecdsa(hash);
    let set = ecdsa::TestSet::load(file.parse().unwrap()).unwrap();
    for group in set.test_groups {
        let key = PublicHalf::ecdsa(curve, &group.key.key).unwrap();
        for test in group.tests {
            let whole = key.verify(scheme, Message::Whole(&test.msg), &test.sig).unwrap();
            let digest = digest::digest(crate::software::digest::library(hash), &test.msg);
            let digested = key.verify(scheme, Message::Digest(digest.as_ref()), &test.sig).unwrap();
            assert_eq!(whole, digested, "{file} {}", test.tc_id);
            tally.judge((file, test.tc_id), test.result, (), verdict(Ok(whole)));
        }
    }
    tally
}

#[test]
fn ecdsa_signatures() {
    run_ecdsa("ecdsa_secp256r1_sha256", Curve::P256, Hash::Sha256).expect("p256", 484, &[]);
    run_ecdsa("ecdsa_secp384r1_sha384", Curve::P384, Hash::Sha384).expect("p384", 504, &[]);
    run_ecdsa("ecdsa_secp521r1_sha512", Curve::P521, Hash::Sha512).expect("p521", 542, &[]);
}

#[test]
fn ed25519_signatures() {
    let mut tally = Tally::default();
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let key = PublicHalf::ed25519(&group.key.pk).unwrap();
        for test in group.tests {
            let got = key.verify(SignatureScheme::Ed25519, Message::Whole(&test.msg), &test.sig);
            tally.judge(("ed25519", test.tc_id), test.result, (), verdict(got));
        }
    }
    tally.expect("ed25519", 151, &[]);
}

/// A scalar as Wycheproof writes it, as long as the curve's.
fn scalar(bytes: &[u8], length: usize) -> Vec<u8> {
    let digits = bytes.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &bytes[first..]);
    [vec![0; length - digits.len()], digits.to_vec()].concat()
}

fn run_ecdh(file: &str, group: Group, length: usize) -> Tally {
    let mut tally = Tally::default();
    let set = ecdh::TestSet::load(file.parse().unwrap()).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let key = AgreementKey::new(group, &scalar(&test.private_key, length)).unwrap();
        let got = key.agree(&test.public_key).map(|secret| secret.expose().to_vec());
        tally.judge((file, test.tc_id), test.result, test.shared_secret.to_vec(), got);
    }
    tally
}

#[test]
fn ecdh_agreement() {
    run_ecdh("ecdh_secp256r1", Group::P256, 32).expect("p256", 612, &[]);
    run_ecdh("ecdh_secp256r1_ecpoint", Group::P256, 32).expect("p256 point", 355, &[]);
    run_ecdh("ecdh_secp384r1", Group::P384, 48).expect("p384", 1047, &[]);
    run_ecdh("ecdh_secp384r1_ecpoint", Group::P384, 48).expect("p384 point", 790, &[]);
}

#[test]
fn x25519_agreement() {
    let mut tally = Tally::default();
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let key = AgreementKey::new(Group::X25519, &test.private_key).unwrap();
        let got = key.agree(&test.public_key).map(|secret| secret.expose().to_vec());
        // Everything that is merely acceptable works here, but for what leads to nothing.
        let expected = match test.flags.contains(&xdh::TestFlag::ZeroSharedSecret) {
            true => TestResult::Invalid,
            false => TestResult::Valid,
        };
        tally.judge(("x25519", test.tc_id), expected, test.shared_secret.to_vec(), got);
    }
    tally.expect("x25519", 518, &[]);
}
