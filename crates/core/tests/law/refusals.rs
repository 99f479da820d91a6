//! Refusals: recorded like results, alike to those without rights, and denied when in doubt.

use crate::seen;
use holdfast_conformance::doubles::KeyFault;
use holdfast_conformance::rig::{POLICY, Rig, call, encrypt, name, new_key, sign, transition};
use holdfast_conformance::task::now;
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::Command;
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::query::Query;
use holdfast_core::{Error, ErrorKind, Stage};

fn rig_under(policy: &str) -> Rig {
    let rig = Rig::under(policy);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn encrypt_as(rig: &Rig, who: &str, key: &str) -> Result<Vec<u8>, Error> {
    now(rig.bytes(who, key, encrypt(b"data", Context::EMPTY)))
}

#[test]
fn every_refusal_is_one_record() {
    let rig = rig_under(POLICY);
    let check = |error: Error, summary: &str, before: usize| {
        let entries = rig.log().entries();
        assert_eq!(entries.len(), before + 1, "{summary}");
        assert_eq!(entries[before].summary(), format!("{summary} refused {}", error.kind().code()));
        assert_eq!(entries[before].tenant.as_str(), "acme");
        assert_eq!(error.kind().code(), entries[before].text("reason"));
    };
    let count = || rig.log().entries().len();
    let before = count();
    check(encrypt_as(&rig, "bob", "kek").unwrap_err(), "encrypt", before);
    let before = count();
    check(encrypt_as(&rig, "alice", "nothing").unwrap_err(), "encrypt", before);
    let before = count();
    check(now(rig.bytes("alice", "kek", sign(b"m"))).unwrap_err(), "sign", before);
    let before = count();
    check(now(rig.random("alice", 0)).unwrap_err(), "random", before);
    let before = count();
    check(now(rig.random("alice", 1025)).unwrap_err(), "random", before);
    let before = count();
    check(now(rig.query("bob", Query::Tenant)).unwrap_err(), "read-tenant", before);
    let before = count();
    check(now(rig.query("audrey", Query::Key(name("nothing")))).unwrap_err(), "read-key", before);
    let before = count();
    check(now(rig.query("audrey", Query::Keys { after: None, limit: 0 })).unwrap_err(), "list-keys", before);
    let before = count();
    check(now(rig.command("alice", Command::SuspendTenant)).unwrap_err(), "suspend-tenant", before);
    let before = count();
    check(now(rig.transition("nothing", Transition::Suspend)).unwrap_err(), "suspend-key", before);
    rig.state().fail_reads(1);
    let before = count();
    check(encrypt_as(&rig, "alice", "kek").unwrap_err(), "encrypt", before);
    for kind in [ErrorKind::KeyStoreUnavailable, ErrorKind::Deadline] {
        rig.keys().fault(KeyFault::Fail(kind));
        let before = count();
        check(encrypt_as(&rig, "alice", "kek").unwrap_err(), "encrypt", before);
    }
    rig.world.set_entropy(false);
    let before = count();
    let inbound = {
        rig.world.set_entropy(true);
        let inbound = rig.inbound("alice");
        rig.world.set_entropy(false);
        inbound
    };
    let use_key = rig.pipeline.use_key(&inbound, call("kek", encrypt(b"data", Context::EMPTY)));
    check(now(use_key).unwrap_err(), "encrypt", before);
}

#[test]
fn another_product_than_was_asked_for_never_leaves() {
    let rig = rig_under(POLICY);
    let sealed = encrypt_as(&rig, "alice", "kek").unwrap();
    now(rig.create(new_key("signer", Algorithm::Ed25519))).unwrap();
    let operations = [
        ("kek", encrypt(b"data", Context::EMPTY)),
        ("kek", holdfast_conformance::rig::decrypt(&sealed, Context::EMPTY)),
        ("kek", holdfast_conformance::rig::data_key(32, true, Context::EMPTY)),
        ("kek", holdfast_conformance::rig::rewrap(&sealed, Context::EMPTY, None)),
        ("signer", sign(b"message")),
        ("signer", holdfast_conformance::rig::verify(b"message", b"signature", None)),
    ];
    for (key, operation) in operations {
        rig.keys().fault(KeyFault::WrongProduct);
        assert_eq!(now(rig.bytes("alice", key, operation)).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(rig.log().last().text("outcome"), "refused");
    }
    rig.keys().fault(KeyFault::WrongProduct);
    assert_eq!(now(rig.random("alice", 16)).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn a_forbidden_key_and_none_at_all_look_alike_and_the_log_keeps_the_difference() {
    for policy in [
        POLICY,
        // A policy that fails on the key that exists, and one that forbids it by name.
        "permit kind:custodian * *\nfail bob * kek",
        "permit kind:custodian * *\npermit bob use *\nforbid bob use kek\nforbid bob use nothing",
    ] {
        let rig = rig_under(policy);
        let forbidden = encrypt_as(&rig, "bob", "kek").unwrap_err();
        let told = rig.log().last().text("detail");
        let unknown = encrypt_as(&rig, "bob", "nothing").unwrap_err();
        assert_eq!(seen(&forbidden), seen(&unknown), "{policy}");
        assert_ne!(told, rig.log().last().text("detail"), "{policy}");
        assert!(rig.log().last().text("detail").contains("no key"), "{policy}");
        // Who does not administer and read sees no difference there either.
        let forbidden = now(rig.command("bob", transition("kek", Transition::Suspend))).unwrap_err();
        let unknown = now(rig.command("bob", transition("nothing", Transition::Suspend))).unwrap_err();
        assert_eq!(seen(&forbidden), seen(&unknown), "{policy}");
        let forbidden = now(rig.query("bob", Query::Key(name("kek")))).unwrap_err();
        let unknown = now(rig.query("bob", Query::Key(name("nothing")))).unwrap_err();
        assert_eq!(seen(&forbidden), seen(&unknown), "{policy}");
        // The key's state says nothing to those who may not know it.
        now(rig.transition("kek", Transition::Suspend)).unwrap();
        assert_eq!(seen(&encrypt_as(&rig, "bob", "kek").unwrap_err()), seen(&unknown), "{policy}");
    }
}

#[test]
fn who_may_read_keys_is_told_that_there_is_none() {
    let rig = rig_under(&format!("{POLICY}\npermit alice read *"));
    assert_eq!(encrypt_as(&rig, "alice", "nothing").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(encrypt_as(&rig_under(POLICY), "alice", "nothing").unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_policy_that_fails_denies_although_another_permits() {
    let rig = rig_under(&format!("{POLICY}\nfail alice encrypt kek"));
    assert_eq!(encrypt_as(&rig, "alice", "kek").unwrap_err().kind(), ErrorKind::Denied);
    let last = rig.log().last();
    assert!(last.text("detail").contains("failed"), "{}", last.text("detail"));
    assert_eq!(last.text("policy.deciding"), r#"["line-5"]"#);
    assert!(rig.keys().performed().len() < 4);
}

#[test]
fn the_deciding_policies_stand_in_the_record() {
    let rig = rig_under(POLICY);
    encrypt_as(&rig, "alice", "kek").unwrap();
    let last = rig.log().last();
    assert_eq!(last.text("policy.deciding"), r#"["line-1"]"#);
    assert_eq!(last.text("policy.version"), "1");
    assert!(encrypt_as(&rig, "bob", "kek").is_err());
    assert_eq!(rig.log().last().text("policy.deciding"), "[]");
}

#[test]
fn too_large_an_input_is_refused_before_the_key_store_sees_it() {
    let rig = rig_under(POLICY);
    let performed = rig.keys().performed().len();
    // The longest input, and room for what an algorithm adds to it.
    let longest = holdfast_core::operation::MAX_INPUT + 512;
    let error = now(rig.bytes("alice", "kek", encrypt(&vec![0; longest + 1], Context::EMPTY))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(rig.keys().performed().len(), performed);
    assert!(now(rig.bytes("alice", "kek", encrypt(&vec![0; longest], Context::EMPTY))).is_ok());
}

/// What was wrong with a request is told to whoever could have been told the result, and to nobody else.
#[test]
fn what_is_wrong_with_a_use_is_told_after_the_policy_and_the_key() {
    let rig = rig_under(POLICY);
    let refuse = |who: &str, key: &str| {
        let inbound = rig.inbound(who);
        let recognised = rig.pipeline.recognise(&inbound).unwrap();
        let error = Error::new(ErrorKind::Malformed, Stage::Decode, "`alg`: expected another");
        let before = (rig.log().entries().len(), rig.keys().performed().len());
        let told = now(rig.pipeline.refuse_use(&recognised, (Action::Decrypt, &name(key)), error));
        assert_eq!((rig.log().entries().len(), rig.keys().performed().len()), (before.0 + 1, before.1));
        let last = rig.log().last();
        assert_eq!(last.summary(), format!("decrypt refused {}", told.kind().code()));
        (told.kind(), last.event()["policy"]["deciding"].as_array().unwrap().len(), last.text("detail"))
    };
    let (kind, deciding, detail) = refuse("alice", "kek");
    assert_eq!((kind, deciding > 0), (ErrorKind::Malformed, true));
    assert!(detail.contains("`alg`"), "{detail}");
    let (kind, _, detail) = refuse("bob", "kek");
    assert_eq!(kind, ErrorKind::Denied);
    assert!(!detail.contains("`alg`"), "{detail}");
    assert_eq!(refuse("bob", "nothing").0, ErrorKind::Denied);
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    assert_eq!(refuse("alice", "kek").0, ErrorKind::KeyState);
}
