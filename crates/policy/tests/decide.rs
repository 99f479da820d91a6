//! How the policy decides.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::*;
use holdfast_core::action::Action;
use holdfast_core::caller::{Authentication, CallerKind};
use holdfast_core::key::Key;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{Circumstances, Question, Resource};
use holdfast_core::{KeyName, Protocol, TenantId, Timestamp, TokenId};
use holdfast_policy::{DEFAULT_TENANT_POLICY, DEV_POLICY, GATEWAY_POLICY};

#[test]
fn nothing_is_allowed_by_default_and_forbid_wins() {
    let alice = caller(&record("alice", CallerKind::Application, &["payroll"]));
    let kek = key("kek", &[]);
    let empty = ask(&prepare("// nobody yet\n"), &alice, Action::Encrypt, Resource::Key(&kek));
    assert!(!empty.allowed && !empty.failed && empty.policies.is_empty());
    let prepared = prepare(
        r#"@id("b") permit (principal, action, resource);
           @id("a") permit (principal in Holdfast::Group::"payroll", action == Holdfast::Action::"encrypt", resource);
           @id("stop") forbid (principal, action, resource == Holdfast::Key::"other");"#,
    );
    let allowed = ask(&prepared, &alice, Action::Encrypt, Resource::Key(&kek));
    assert!(allowed.allowed);
    assert_eq!(ids(&allowed), ["b", "a"]);
    let forbidden = ask(&prepared, &alice, Action::Encrypt, Resource::Key(&key("other", &[])));
    assert!(!forbidden.allowed && !forbidden.failed);
    assert_eq!(ids(&forbidden), ["stop"]);
}

#[test]
fn a_policy_that_fails_denies_and_says_so_every_time() {
    let overflow = "principal.name == \"alice\" && 9223372036854775807 + context.weekday > 0";
    let prepared = prepare(&format!(
        r#"@id("all") permit (principal, action, resource);
           @id("odd") permit (principal, action == Holdfast::Action::"sign", resource) when {{ {overflow} }};
           @id("fixed") forbid (principal, action == Holdfast::Action::"mac", resource) when {{ 9223372036854775807 + 1 == 1 }};"#
    ));
    let alice = caller(&record("alice", CallerKind::Application, &[]));
    let kek = key("kek", &[]);
    for (action, id) in
        [(Action::Sign, "odd"), (Action::Mac, "fixed"), (Action::Sign, "odd"), (Action::Mac, "fixed")]
    {
        let decision = ask(&prepared, &alice, action, Resource::Key(&kek));
        assert!(!decision.allowed && decision.failed, "{}", action.name());
        assert_eq!(ids(&decision), [id]);
    }
    assert!(ask(&prepared, &alice, Action::Encrypt, Resource::Key(&kek)).allowed);
}

#[test]
fn what_is_remembered_follows_the_key_and_the_registration() {
    let prepared = prepare(
        r#"@id("active-only") permit (principal in Holdfast::Group::"payroll", action in Holdfast::Action::"use", resource is Holdfast::Key)
           when { resource.state == "active" && resource.hasTag("team") && resource.getTag("team") == principal.name };"#,
    );
    let member = caller(&record("alice", CallerKind::Application, &["payroll"]));
    let mut kek = key("kek", &[("team", "alice")]);
    for _ in 0..2 {
        assert!(ask(&prepared, &member, Action::Encrypt, Resource::Key(&kek)).allowed);
    }
    // Neither the epoch nor the id change: what the policy looks at does.
    kek.state = KeyState::Deactivated;
    assert!(!ask(&prepared, &member, Action::Encrypt, Resource::Key(&kek)).allowed);
    kek.state = KeyState::Active;
    kek.labels.insert("team".into(), "bob".into());
    assert!(!ask(&prepared, &member, Action::Encrypt, Resource::Key(&kek)).allowed);
    kek.labels.insert("team".into(), "alice".into());
    assert!(ask(&prepared, &member, Action::Encrypt, Resource::Key(&kek)).allowed);
    let expelled = caller(&record("alice", CallerKind::Application, &[]));
    assert!(!ask(&prepared, &expelled, Action::Encrypt, Resource::Key(&kek)).allowed);
}

#[test]
fn keys_that_only_conditions_name_are_told_apart() {
    for condition in [
        r#"resource == Holdfast::Key::"a""#,
        r#"resource in [Holdfast::Key::"a"]"#,
        r#"resource.name == "a""#,
        r#"resource.name like "a*""#,
        r#"[resource].contains(Holdfast::Key::"a")"#,
    ] {
        let text = format!(
            r#"@id("p") permit (principal, action == Holdfast::Action::"encrypt", resource) when {{ {condition} }};"#
        );
        let prepared = prepare(&text);
        let alice = caller(&record("alice", CallerKind::Application, &[]));
        for (name, allowed) in [("a", true), ("b", false), ("a", true), ("c", false), ("b", false)] {
            let decision = ask(&prepared, &alice, Action::Encrypt, Resource::Key(&key(name, &[])));
            assert_eq!(decision.allowed, allowed, "{condition} {name}");
        }
    }
}

/// Two keys that differ in this alone have answers of their own, remembered or not.
#[test]
fn the_protocol_of_a_key_is_looked_at() {
    let alice = record("alice", CallerKind::Application, &[]);
    let alice = caller(&alice);
    for (condition, expected) in [
        (r#"resource.protocol == "ms-dke""#, [true, false, false]),
        (r#"resource.protocol == "any""#, [false, false, true]),
        (r#"resource.protocol like "*e*""#, [true, true, false]),
    ] {
        let text = format!(
            r#"@id("p") permit (principal, action == Holdfast::Action::"decrypt", resource) when {{ {condition} }};"#
        );
        let prepared = prepare(&text);
        for _again in 0..2 {
            let of = [Some(Protocol::MsDke), Some(Protocol::GoogleCse), None];
            for (protocol, allowed) in of.into_iter().zip(expected) {
                let kek = Key { protocol, ..key("kek", &[]) };
                let decision = ask(&prepared, &alice, Action::Decrypt, Resource::Key(&kek));
                assert_eq!(decision.allowed, allowed, "{condition} {protocol:?}");
            }
        }
    }
}

#[test]
fn circumstances_are_looked_at_every_time() {
    let prepared = prepare(
        r#"@id("payroll") permit (principal, action == Holdfast::Action::"decrypt", resource)
           when { context.encryption.hasTag("purpose") && context.encryption.getTag("purpose") == "payroll" };
           @id("office-hours") forbid (principal, action == Holdfast::Action::"decrypt", resource)
           unless { context.hour >= 8 && context.hour < 18 && context.weekday <= 5 };
           @id("from-the-office") forbid (principal, action == Holdfast::Action::"decrypt", resource)
           unless { context has source && context.source.isInRange(ip("10.0.0.0/8")) };
           @id("no-tokens") forbid (principal, action, resource) when { context.authentication == "bearer" };
           @id("after-launch") forbid (principal, action, resource) when { context.time < datetime("2026-11-23T09:30:00.000Z") };
           @id("native-only") forbid (principal, action, resource) when { context.protocol != "native" };"#,
    );
    let record = record("alice", CallerKind::Application, &[]);
    let kek = key("kek", &[]);
    let (payroll, other) =
        (context(&[("purpose", "payroll")]), context(&[("purpose", "pay"), ("x", "payroll")]));
    let good = Circumstances {
        context: &payroll,
        request: &EMPTY,
        now: MONDAY,
        source: Some("::ffff:10.1.2.3".parse().unwrap()),
        protocol: "native",
    };
    let ask = |authentication, circumstances| {
        let mut caller = caller(&record);
        caller.authentication = authentication;
        let question = Question {
            caller: &caller,
            action: Action::Decrypt,
            resource: Resource::Key(&kek),
            circumstances,
        };
        let decision = policy().decide(&prepared, &question);
        assert!(!decision.failed);
        assert_eq!(decision.allowed, ids(&decision) == ["payroll"]);
        ids(&decision).join(" ")
    };
    let mtls = || Authentication::MutualTls { key_hash: Some([0; 32]), matched: "key".into() };
    assert_eq!(ask(mtls(), good), "payroll");
    assert_eq!(ask(mtls(), Circumstances { context: &other, ..good }), "");
    assert_eq!(ask(mtls(), Circumstances { context: &EMPTY, ..good }), "");
    assert_eq!(ask(Authentication::Bearer(TokenId::from_bytes([0; 16])), good), "no-tokens");
    assert_eq!(ask(mtls(), Circumstances { source: None, ..good }), "from-the-office");
    let outside = Some("192.0.2.1".parse().unwrap());
    assert_eq!(ask(mtls(), Circumstances { source: outside, ..good }), "from-the-office");
    assert_eq!(ask(mtls(), Circumstances { protocol: "other", ..good }), "native-only");
    let early = Timestamp::from_micros(MONDAY.micros() - 1000);
    assert_eq!(ask(mtls(), Circumstances { now: early, ..good }), "after-launch");
    let saturday = MONDAY.plus_seconds(5 * 86_400);
    assert_eq!(ask(mtls(), Circumstances { now: saturday, ..good }), "office-hours");
    let evening = MONDAY.plus_seconds(9 * 3600);
    assert_eq!(ask(mtls(), Circumstances { now: evening, ..good }), "office-hours");
}

#[test]
fn a_key_without_a_record_has_a_name_and_a_tenant_but_no_attributes() {
    let prepared = prepare(
        r#"@id("named") permit (principal, action, resource == Holdfast::Key::"new");
           @id("in-tenant") permit (principal, action == Holdfast::Action::"rotate-key", resource in Holdfast::Tenant::"acme");
           @id("attributes") forbid (principal == Holdfast::Caller::"bob", action, resource is Holdfast::Key) when { resource.exportable };
           @id("labelled") forbid (principal, action, resource) when { resource.hasTag("frozen") };"#,
    );
    let alice = caller(&record("alice", CallerKind::Custodian, &[]));
    let bob = caller(&record("bob", CallerKind::Custodian, &[]));
    let (new, other): (KeyName, KeyName) = ("new".parse().unwrap(), "other".parse().unwrap());
    for _ in 0..2 {
        assert_eq!(
            ids(&ask(&prepared, &alice, Action::RotateKey, Resource::NoKey(&new))),
            ["named", "in-tenant"]
        );
        assert_eq!(ids(&ask(&prepared, &alice, Action::RotateKey, Resource::NoKey(&other))), ["in-tenant"]);
        assert!(!ask(&prepared, &alice, Action::SuspendKey, Resource::NoKey(&other)).allowed);
        // That there is nothing to look at is nobody's mistake.
        let rotate = ask(&prepared, &bob, Action::RotateKey, Resource::NoKey(&new));
        assert!(!rotate.allowed && !rotate.failed && rotate.policies.is_empty());
    }
}

#[test]
fn the_policies_we_bring_do_what_they_say() {
    let prepared = prepare(DEFAULT_TENANT_POLICY);
    let kek = key("kek", &[]);
    let acme = tenant();
    let may = |prepared, kind, action, resource: Resource<'_>| {
        ask(prepared, &caller(&record("somebody", kind, &[])), action, resource).allowed
    };
    for kind in CallerKind::ALL {
        let (custodian, auditor) = (kind == CallerKind::Custodian, kind == CallerKind::Auditor);
        assert!(!may(&prepared, kind, Action::Encrypt, Resource::Key(&kek)));
        assert_eq!(may(&prepared, kind, Action::RotateKey, Resource::Key(&kek)), custodian);
        assert_eq!(may(&prepared, kind, Action::SetPolicy, Resource::Tenant(&acme)), custodian);
        assert_eq!(may(&prepared, kind, Action::ReadAudit, Resource::Tenant(&acme)), custodian || auditor);
    }
    let dev = prepare(DEV_POLICY);
    for action in [Action::Encrypt, Action::SetPolicy, Action::ReadKey, Action::DestroyKey] {
        assert!(may(&dev, CallerKind::Developer, action, Resource::Key(&kek)));
        assert!(!may(&dev, CallerKind::Application, action, Resource::Key(&kek)));
    }
    let gateway = TenantId::gateway();
    let prepared = policy().prepare(&gateway, GATEWAY_POLICY).unwrap();
    assert!(may(&prepared, CallerKind::Operator, Action::CreateTenant, Resource::Tenant(&gateway)));
    assert!(may(&prepared, CallerKind::Operator, Action::ReadStatus, Resource::Tenant(&gateway)));
    assert!(!may(&prepared, CallerKind::Operator, Action::SetPolicy, Resource::Tenant(&gateway)));
    assert!(!may(&prepared, CallerKind::Custodian, Action::CreateTenant, Resource::Tenant(&gateway)));
}

#[test]
fn an_event_that_no_policy_is_asked_about_is_denied() {
    let prepared = prepare("@id(\"all\") permit (principal, action, resource);");
    let alice = caller(&record("alice", CallerKind::Developer, &[]));
    for action in [Action::Undecoded, Action::Noise, Action::Throttled, Action::Found, Action::Recover] {
        assert!(!ask(&prepared, &alice, action, Resource::Tenant(&tenant())).allowed);
    }
}

#[test]
fn explains_who_decided_and_who_did_not() {
    let prepared = prepare(
        "@id(\"payroll\")\npermit (principal in Holdfast::Group::\"payroll\", action in Holdfast::Action::\"use\", resource) when { resource.hasTag(\"team\") };\n\
         @id(\"others\")\npermit (principal == Holdfast::Caller::\"bob\", action, resource);\n\
         @id(\"frozen\")\nforbid (principal, action, resource) when { resource.hasTag(\"frozen\") };",
    );
    let alice = caller(&record("alice", CallerKind::Application, &["payroll"]));
    let explain = |labels: &[(&str, &str)]| {
        let key = key("kek", labels);
        let question = Question {
            caller: &alice,
            action: Action::Encrypt,
            resource: Resource::Key(&key),
            circumstances: circumstances(&EMPTY),
        };
        let explanation = policy().explain(&prepared, &question);
        assert_eq!(explanation.allowed, policy().decide(&prepared, &question).allowed);
        explanation.reasons.join("\n")
    };
    assert_eq!(
        explain(&[("team", "x"), ("frozen", "x")]),
        "denied: a policy forbids it, and that outweighs any that permits it\n\
         policy `payroll` (line 1) permits it\n\
         policy `frozen` (line 5) forbids it\n\
         1 policy concerns other callers, actions or keys"
    );
    assert_eq!(
        explain(&[]),
        "denied: no policy permits it\n\
         policy `payroll` (line 1) would permit it, but its conditions are not met\n\
         policy `frozen` (line 5) would forbid it, but its conditions are not met\n\
         1 policy concerns other callers, actions or keys"
    );
    assert!(explain(&[("team", "x")]).starts_with("allowed: a policy permits it and none forbids it\n"));
    let alone = |text: &str| {
        let (prepared, key) = (prepare(text), key("kek", &[]));
        let (resource, circumstances) = (Resource::Key(&key), circumstances(&EMPTY));
        let question = Question { caller: &alice, action: Action::Encrypt, resource, circumstances };
        policy().explain(&prepared, &question).reasons.remove(0)
    };
    let permit = "@id(\"permit\") permit (principal, action, resource);";
    let forbid = "@id(\"forbid\") forbid (principal, action, resource) when { resource.hasTag(\"frozen\") };";
    let fails = "@id(\"fails\") forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };";
    assert_eq!(alone(forbid), "denied: no policy speaks of this caller, action and key");
    let failed = "denied: a policy that can apply cannot be evaluated";
    assert_eq!(alone(&format!("{permit}\n{fails}")), failed);
}
