//! Vectors of the RFCs, some of each.

use crate::software::aead::AeadKey;
use crate::software::agreement::{AgreementKey, Group};
use crate::software::fixture::{Fixed, unhex};
use crate::software::mac::MacKey;
use crate::software::signature::SignatureKey;
use aws_lc_rs::hmac;
use holdfast_core::algorithm::SignatureScheme;
use holdfast_core::work::Message;

/// RFC 8452, appendix C.2: AEAD_AES_256_GCM_SIV.
#[test]
fn rfc_8452() {
    let key = AeadKey::gcm_siv(&[&[1][..], &[0; 31]].concat()).unwrap();
    let nonce = unhex("030000000000000000000000");
    let cases = [
        ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
        ("0100000000000000", "", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
        ("0200000000000000", "01", "1de22967237a813291213f267e3b452f02d01ae33e4ec854"),
    ];
    for (plaintext, aad, expected) in cases {
        let sealed = key.seal(&Fixed(nonce.clone()), Vec::new(), &unhex(plaintext), &unhex(aad)).unwrap();
        assert_eq!(sealed, [nonce.clone(), unhex(expected)].concat());
        assert_eq!(key.open(&sealed, &unhex(aad)).unwrap().expose(), unhex(plaintext));
    }
}

/// RFC 8032 §7.1, tests 1 to 3.
#[test]
fn rfc_8032() {
    let cases = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, message, expected) in cases {
        let key = SignatureKey::ed25519(&unhex(seed)).unwrap();
        let message = unhex(message);
        let made = key.sign(SignatureScheme::Ed25519, Message::Whole(&message)).unwrap();
        assert_eq!(made, unhex(expected));
    }
}

/// RFC 7748 §6.1.
#[test]
fn rfc_7748() {
    let alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    let bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
    let (alice_public, bob_public) = (
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    );
    let shared = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    for (private, peer) in [(alice, bob_public), (bob, alice_public)] {
        let key = AgreementKey::new(Group::X25519, &unhex(private)).unwrap();
        assert_eq!(key.agree(&unhex(peer)).unwrap().expose(), shared);
    }
}

/// RFC 4231 §4.3: test case 2.
#[test]
fn rfc_4231() {
    let cases = [
        (hmac::HMAC_SHA256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            hmac::HMAC_SHA384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            hmac::HMAC_SHA512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
    ];
    for (algorithm, expected) in cases {
        let key = MacKey::new(algorithm, b"Jefe");
        assert_eq!(key.mac(b"what do ya want for nothing?"), unhex(expected));
    }
}
