//! Rewrapping: decrypted on the source and encrypted on the target in one act, both allowed, nothing gained.

use holdfast_conformance::rig::{
    POLICY, Rig, context, data_key, decrypt, encrypt, name, new_key, rewrap, unwrap, wrap,
};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::{ErrorKind, KeyVersion};

const CONTEXT: &[(&str, &str)] = &[("table", "salaries")];

fn rig_under(policy: &str) -> (Rig, Vec<u8>) {
    let rig = Rig::under(policy);
    now(rig.create(new_key("from", Algorithm::Aes256Gcm))).unwrap();
    now(rig.create(new_key("to", Algorithm::Xaes256Gcm))).unwrap();
    let sealed = now(rig.bytes("alice", "from", encrypt(b"4711", context(CONTEXT)))).unwrap();
    (rig, sealed)
}

fn refused(rig: &Rig, key: &str, sealed: &[u8], target: Option<&str>) -> ErrorKind {
    now(rig.bytes("alice", key, rewrap(sealed, context(CONTEXT), target))).unwrap_err().kind()
}

#[test]
fn a_rewrapped_ciphertext_is_the_targets_newest_versions() {
    let (rig, sealed) = rig_under(POLICY);
    now(rig.command("carol", Command::RotateKey(name("from")))).unwrap();
    let same = now(rig.use_key("alice", "from", rewrap(&sealed, context(CONTEXT), None))).unwrap();
    assert_eq!(same.version, KeyVersion::new(2));
    let other = now(rig.bytes("alice", "from", rewrap(&sealed, context(CONTEXT), Some("to")))).unwrap();
    assert_eq!(now(rig.bytes("alice", "to", decrypt(&other, context(CONTEXT)))).unwrap(), b"4711");
    let last =
        rig.log().entries().into_iter().rev().find(|entry| entry.text("action") == "rewrap-from").unwrap();
    assert_eq!(
        [last.text("key.version"), last.text("target.name"), last.text("target.version")],
        ["1", "to", "1"]
    );
    // The plaintext of the source never stood in the log, not even as a commitment.
    assert!(!last.text("input").contains("hmac"));
    // The same context, and no other.
    let error = now(rig.bytes("alice", "from", rewrap(&sealed, Context::EMPTY, Some("to")))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

#[test]
fn the_class_stays() {
    let (rig, _) = rig_under(POLICY);
    let key = now(rig.bytes("alice", "from", data_key(32, false, context(CONTEXT)))).unwrap();
    let moved = now(rig.bytes("alice", "from", rewrap(&key, context(CONTEXT), Some("to")))).unwrap();
    assert_eq!(moved[4], key[4]);
    for key in ["w1", "w2"] {
        let new = NewKey { purpose: Some(Purpose::Wrap), ..new_key(key, Algorithm::Xaes256Gcm) };
        now(rig.create(new)).unwrap();
    }
    let wrapped = now(rig.bytes("alice", "w1", wrap(b"4711", context(CONTEXT)))).unwrap();
    let moved = now(rig.bytes("alice", "w1", rewrap(&wrapped, context(CONTEXT), Some("w2")))).unwrap();
    assert_eq!(now(rig.bytes("alice", "w2", unwrap(&moved, context(CONTEXT)))).unwrap(), b"4711");
    assert_eq!(refused(&rig, "w1", &wrapped, Some("to")), ErrorKind::Unsupported);
}

#[test]
fn both_halves_must_be_allowed() {
    for (policy, allowed) in [
        ("permit alice encrypt *\npermit alice rewrap-from from\npermit alice rewrap-to to", true),
        ("permit alice encrypt *\npermit alice rewrap-from from", false),
        ("permit alice encrypt *\npermit alice rewrap-to to", false),
        ("permit alice encrypt *\npermit alice rewrap-from to\npermit alice rewrap-to from", false),
    ] {
        let (rig, sealed) = rig_under(&format!("{policy}\npermit kind:custodian administer *"));
        let done = now(rig.bytes("alice", "from", rewrap(&sealed, context(CONTEXT), Some("to"))));
        assert_eq!(done.is_ok(), allowed, "{policy}");
        if let Err(error) = done {
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
    }
}

#[test]
fn each_policy_that_decided_stands_in_the_record_once() {
    let halves = "permit alice encrypt *\npermit alice rewrap-from from\npermit alice rewrap-to to";
    let policies = [
        (POLICY.to_owned(), r#"["line-1"]"#),
        (format!("{halves}\npermit kind:custodian administer *"), r#"["line-2","line-3"]"#),
    ];
    for (policy, deciding) in policies {
        let (rig, sealed) = rig_under(&policy);
        now(rig.bytes("alice", "from", rewrap(&sealed, context(CONTEXT), Some("to")))).unwrap();
        assert_eq!(rig.log().last().text("policy.deciding"), deciding);
    }
}

#[test]
fn the_target_is_no_more_exportable_than_the_source() {
    let (rig, sealed) = rig_under(POLICY);
    let open = NewKey { exportable: true, ..new_key("open", Algorithm::Xaes256Gcm) };
    now(rig.create(open)).unwrap();
    assert_eq!(refused(&rig, "from", &sealed, Some("open")), ErrorKind::Unsupported);
    let sealed = now(rig.bytes("alice", "open", encrypt(b"4711", context(CONTEXT)))).unwrap();
    assert!(now(rig.bytes("alice", "open", rewrap(&sealed, context(CONTEXT), Some("to")))).is_ok());
}

#[test]
fn the_states_of_both_keys_count() {
    let (rig, sealed) = rig_under(POLICY);
    now(rig.transition("from", Transition::Deactivate)).unwrap();
    // What is deactivated is still read from, so that its data can move on.
    assert!(now(rig.bytes("alice", "from", rewrap(&sealed, context(CONTEXT), Some("to")))).is_ok());
    assert_eq!(refused(&rig, "from", &sealed, None), ErrorKind::KeyState);
    now(rig.transition("to", Transition::Suspend)).unwrap();
    assert_eq!(refused(&rig, "from", &sealed, Some("to")), ErrorKind::KeyState);
}

#[test]
fn only_authenticated_encryption_is_rewrapped() {
    let (rig, sealed) = rig_under(POLICY);
    let rsa = NewKey { purpose: Some(Purpose::Encrypt), ..new_key("rsa", Algorithm::Rsa2048) };
    now(rig.create(rsa)).unwrap();
    now(rig.create(new_key("signer", Algorithm::Ed25519))).unwrap();
    let performed = rig.keys().performed().len();
    assert_eq!(refused(&rig, "from", &sealed, Some("rsa")), ErrorKind::Unsupported);
    assert_eq!(refused(&rig, "from", &sealed, Some("signer")), ErrorKind::Unsupported);
    assert_eq!(rig.keys().performed().len(), performed, "the source is not even decrypted");
    let missing = refused(&rig, "from", &sealed, Some("nothing"));
    assert_eq!(missing, ErrorKind::Denied);
}

#[test]
fn a_flipped_bit_is_refused_before_anything_is_sealed() {
    let (rig, sealed) = rig_under(POLICY);
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused(&rig, "from", &flipped, Some("to")), ErrorKind::Integrity, "bit {bit}");
    }
}
