//! What the log says, and what it must not.

use holdfast_conformance::rig::{Rig, call, context, decrypt, encrypt, new_key, rewrap, sign};
use holdfast_conformance::task::now;
use holdfast_core::ErrorKind;
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::event::{Committed, verify_opened};
use holdfast_core::key::{HIDE_CONTEXT_LABEL, Labels};
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::Operation;
use holdfast_core::query::{AuditPath, Query};

const SECRET: &str = "a-value-that-only-the-tenant-knows";

fn hiding() -> NewKey {
    let labels = Labels::from([(HIDE_CONTEXT_LABEL.into(), "true".into())]);
    NewKey { labels, ..new_key("hiding", Algorithm::Xaes256Gcm) }
}

#[test]
fn a_context_stands_in_clear_unless_a_label_hides_it() {
    let rig = Rig::new();
    now(rig.create(hiding())).unwrap();
    now(rig.create(new_key("open", Algorithm::Xaes256Gcm))).unwrap();
    let pairs = &[("who", SECRET)];
    now(rig.bytes("alice", "open", encrypt(b"4711", context(pairs)))).unwrap();
    assert_eq!(rig.log().last().text("context.who"), SECRET);
    let before = rig.log().entries().len();
    let sealed = now(rig.bytes("alice", "hiding", encrypt(b"4711", context(pairs)))).unwrap();
    let last = rig.log().last();
    let tag = last.text("context_hidden.hmac_sha256");
    let tag = core::array::from_fn(|i| u8::from_str_radix(&tag[i * 2..i * 2 + 2], 16).unwrap());
    let bytes = last.text("context_hidden.bytes").parse().unwrap();
    // The pairs as `docs/` says: count, then each name and value behind its length.
    let mut encoded = vec![0, 1, 0, 0, 0, 3];
    encoded.extend_from_slice(b"who");
    encoded.extend_from_slice(&u32::try_from(SECRET.len()).unwrap().to_be_bytes());
    encoded.extend_from_slice(SECRET.as_bytes());
    assert!(verify_opened(&Committed::Hmac { tag, bytes }, &last.opening, "context", &encoded));
    // Refusals hide it as well, whatever refuses.
    assert!(
        now(rig.bytes("alice", "hiding", decrypt(&sealed, context(&[("who", "x"), ("why", SECRET)]))))
            .is_err()
    );
    assert!(now(rig.bytes("bob", "hiding", encrypt(b"4711", context(pairs)))).is_err());
    assert!(
        now(rig.bytes(
            "alice",
            "hiding",
            Operation::Wrap { bytes: b"4711"[..].into(), context: context(pairs), padding: None }
        ))
        .is_err()
    );
    let large = vec![0; 2 << 20];
    assert!(now(rig.bytes("alice", "hiding", encrypt(&large, context(pairs)))).is_err());
    assert!(now(rig.bytes("alice", "open", rewrap(&sealed, context(pairs), Some("hiding")))).is_err());
    assert!(now(rig.bytes("bob", "open", rewrap(&sealed, context(pairs), Some("hiding")))).is_err());
    now(rig.transition("hiding", Transition::Suspend)).unwrap();
    assert!(now(rig.bytes("alice", "hiding", encrypt(b"4711", context(pairs)))).is_err());
    now(rig.command("carol", Command::SuspendTenant)).unwrap();
    assert!(now(rig.bytes("alice", "hiding", encrypt(b"4711", context(pairs)))).is_err());
    for entry in &rig.log().entries()[before..] {
        let text = String::from_utf8(entry.bytes.clone()).unwrap();
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn without_entropy_a_context_is_neither_hidden_nor_shown() {
    let rig = Rig::new();
    now(rig.create(hiding())).unwrap();
    let inbound = rig.inbound("alice");
    rig.world.set_entropy(false);
    let seal = call("hiding", encrypt(b"4711", context(&[("who", SECRET)])));
    assert_eq!(now(rig.pipeline.use_key(&inbound, seal)).unwrap_err().kind(), ErrorKind::Internal);
    let last = rig.log().last();
    assert_eq!(last.summary(), "encrypt refused internal");
    assert!(!String::from_utf8(last.bytes).unwrap().contains(SECRET));
}

#[test]
fn guessable_values_are_committed_to_under_a_key_of_each_entry() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let mut openings = Vec::new();
    for _ in 0..2 {
        let sealed = now(rig.bytes("alice", "kek", encrypt(b"4711", context(&[])))).unwrap();
        let entry = rig.log().last();
        assert_ne!(entry.opening, [0; 32]);
        openings.push((entry.opening, entry.text("input.hmac_sha256")));
        let digest = entry.text("output.sha256");
        assert_eq!(digest.len(), 64);
        now(rig.bytes("alice", "kek", decrypt(&sealed, context(&[])))).unwrap();
        let entry = rig.log().last();
        assert_eq!(entry.text("input.sha256"), digest);
        assert_eq!(entry.text("output.bytes"), "4");
        assert!(!entry.text("output.hmac_sha256").is_empty());
        let text = String::from_utf8(entry.bytes).unwrap();
        assert!(!text.contains("4711"));
    }
    assert_ne!(openings[0], openings[1]);
    assert_ne!(openings[0].1, openings[1].1);
    now(rig.random("alice", 16)).unwrap();
    assert!(!rig.log().last().text("output.hmac_sha256").is_empty());
}

#[test]
fn an_output_that_nobody_got_is_none() {
    let rig = Rig::new();
    now(rig.create(new_key("signer", Algorithm::Ed25519))).unwrap();
    rig.keys().performing.hold();
    let signing = holdfast_conformance::task::Task::begun(rig.bytes("alice", "signer", sign(b"message")));
    now(rig.transition("signer", Transition::Suspend)).unwrap();
    rig.keys().performing.release();
    assert!(signing.finish().is_err());
    let last = rig.log().last();
    assert_eq!(last.summary(), "sign refused stopped");
    assert_eq!(last.text("output"), "");
}

#[test]
fn an_event_says_who_did_what_how() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.bytes("alice", "kek", encrypt(b"4711", context(&[])))).unwrap();
    let last = rig.log().last();
    let expected = [
        ("tenant", "acme"),
        ("caller.name", "alice"),
        ("caller.kind", "application"),
        ("caller.authentication", "bearer"),
        ("action", "encrypt"),
        ("key.name", "kek"),
        ("key.algorithm", "xaes-256-gcm"),
        ("key.custody", "software"),
        ("key.version", "1"),
        ("policy.version", "1"),
        ("outcome", "success"),
        ("protocol.name", "native"),
        ("source", "192.0.2.7"),
    ];
    for (path, value) in expected {
        assert_eq!(last.text(path), value, "{path}");
    }
}

#[test]
fn the_event_of_a_query_says_what_was_looked_at() {
    let rig = Rig::new();
    let explain = Query::ExplainPolicy {
        caller: "alice".parse().unwrap(),
        action: Action::Encrypt,
        key: None,
        context: Context::EMPTY,
    };
    let asked = [
        (Query::Policy { version: Some(1) }, "version 1"),
        (explain, "alice encrypt"),
        (Query::AuditFile(AuditPath::new("checkpoint").unwrap()), "checkpoint"),
        (Query::Tenant, ""),
    ];
    for (query, subject) in asked {
        // Whether there is such a file does not matter.
        let _ = now(rig.query("audrey", query));
        assert_eq!(rig.log().last().text("subject"), subject);
    }
}
