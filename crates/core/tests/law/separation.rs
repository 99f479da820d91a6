//! Nobody both uses and administers, whatever the policy says.

use holdfast_conformance::doubles::ALLOW_EVERYTHING;
use holdfast_conformance::rig::{Rig, context, encrypt, new_key, person, transition};
use holdfast_conformance::task::now;
use holdfast_core::ErrorKind;
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::CallerKind;
use holdfast_core::command::{Command, NewTenant};
use holdfast_core::lifecycle::Transition;
use holdfast_core::query::{Found, Query};

#[test]
fn no_policy_lets_one_kind_do_what_is_anothers() {
    let rig = Rig::under(ALLOW_EVERYTHING);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    for who in ["alice", "carol", "audrey"] {
        let used = now(rig.bytes(who, "kek", encrypt(b"data", context(&[])))).map_err(|e| e.kind());
        let random = now(rig.random(who, 16)).map_err(|e| e.kind());
        let labelled = now(rig.command(who, Command::RotateKey("kek".parse().unwrap())));
        let read = now(rig.query(who, Query::Tenant)).map_err(|e| e.kind());
        let done = (used.is_ok(), random.is_ok(), labelled.is_ok(), read.is_ok());
        let expected = match who {
            "alice" => (true, true, false, true),
            "carol" => (false, false, true, true),
            _ => (false, false, false, true),
        };
        assert_eq!(done, expected, "{who}");
        for refused in [used.err(), random.err(), labelled.err().map(|e| e.kind())].into_iter().flatten() {
            assert_eq!(refused, ErrorKind::Denied, "{who}");
        }
    }
}

#[test]
fn a_stop_is_no_exception_to_the_separation() {
    let rig = Rig::under(ALLOW_EVERYTHING);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let refused = now(rig.command("alice", transition("kek", Transition::Suspend))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert!(now(rig.bytes("alice", "kek", encrypt(b"data", context(&[])))).is_ok());
}

#[test]
fn a_callers_kind_never_changes_and_fits_its_place() {
    let rig = Rig::new();
    let put = |name: &str, kind| Command::PutCaller(person("acme", name, kind, &rig.world));
    let refused = |command| now(rig.command("carol", command)).unwrap_err().kind();
    assert_eq!(refused(put("alice", CallerKind::Custodian)), ErrorKind::AlreadyExists);
    assert_eq!(refused(put("mallory", CallerKind::Operator)), ErrorKind::Unsupported);
    // This is no dev directory.
    assert_eq!(refused(put("mallory", CallerKind::Developer)), ErrorKind::Unsupported);
    assert!(now(rig.command("carol", put("erin", CallerKind::Application))).is_ok());
}

#[test]
fn the_gateway_itself_holds_no_keys_and_no_custodians() {
    let rig = Rig::new();
    let tenant = NewTenant {
        tenant: "third".parse().unwrap(),
        callers: vec![person("third", "olga", CallerKind::Operator, &rig.world)],
        anchors: vec![],
        policy: None,
    };
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    let error = now(rig.pipeline.command(&inbound, Command::CreateTenant(tenant))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let inbound = rig.inbound_at(&rig.gateway, "olga");
    let error = now(rig.pipeline.command(&inbound, Command::CreateKey(new_key("kek", Algorithm::Ed25519))));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_policy_that_lets_its_author_use_a_key_is_refused_with_an_alarm() {
    let rig = Rig::new();
    let text = "permit carol use *\npermit kind:custodian * *".into();
    let refused = now(rig.command("carol", Command::SetPolicy { text, expected: None })).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(!rig.log().last().text("alarm").is_empty());
    // A dry run says the same and changes nothing.
    let text = "permit carol use *".into();
    let Found::Findings(findings) = now(rig.query("carol", Query::CheckPolicy { text })).unwrap() else {
        panic!("findings")
    };
    assert!(findings[0].refuses);
}

#[test]
fn an_explanation_knows_of_the_separation() {
    let rig = Rig::under(ALLOW_EVERYTHING);
    let explain = |caller: &str, action| {
        let query = Query::ExplainPolicy {
            caller: caller.parse().unwrap(),
            action,
            key: None,
            context: context(&[]),
        };
        let Found::Explanation(found) = now(rig.query("carol", query)).unwrap() else { panic!() };
        found.allowed
    };
    assert!(explain("alice", Action::Encrypt) && !explain("carol", Action::Encrypt));
    assert!(explain("carol", Action::RotateKey) && !explain("alice", Action::RotateKey));
}
