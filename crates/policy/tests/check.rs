//! What a valid policy is refused or warned for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::*;
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_policy::{DEFAULT_TENANT_POLICY, DEV_POLICY, GATEWAY_POLICY};
use std::sync::Arc;

fn callers() -> Vec<Arc<CallerRecord>> {
    vec![
        record("carol", CallerKind::Custodian, &["owners"]),
        record("dave", CallerKind::Custodian, &[]),
        record("app", CallerKind::Application, &["payroll"]),
        record("eve", CallerKind::Auditor, &[]),
    ]
}

/// What carol is told of her policy: `refuses` or `warns`, the policy, the words.
fn found(text: &str) -> Vec<String> {
    let prepared = prepare(text);
    let callers = callers();
    let findings = policy().check(&prepared, &caller(&callers[0]), &callers);
    for finding in &findings {
        assert!(
            !finding.remedy.is_empty() && !finding.detail.contains('\n') && !finding.detail.ends_with('.')
        );
    }
    findings
        .into_iter()
        .map(|finding| {
            let verb = if finding.refuses { "refuses" } else { "warns" };
            let policy = finding.policy.map(|id| id.to_string()).unwrap_or_default();
            format!("{verb} {policy}: {}", finding.detail)
        })
        .collect()
}

/// The same with a policy under which custodians administer.
fn with_default(text: &str) -> Vec<String> {
    found(&format!("{DEFAULT_TENANT_POLICY}\n{text}"))
}

#[test]
fn our_own_policies_and_an_ordinary_one_are_fine() {
    assert_eq!(found(DEFAULT_TENANT_POLICY), [""; 0]);
    assert_eq!(found(DEV_POLICY), [""; 0]);
    assert_eq!(
        with_default(
            r#"@id("payroll") permit (principal in Holdfast::Group::"payroll", action in Holdfast::Action::"use", resource == Holdfast::Key::"kek");"#
        ),
        [""; 0]
    );
    let gateway = holdfast_core::TenantId::gateway();
    let prepared = policy().prepare(&gateway, GATEWAY_POLICY).unwrap();
    assert_eq!(policy().check(&prepared, &caller(&callers()[0]), &[]), []);
}

#[test]
fn an_author_who_would_use_a_key_is_refused() {
    let who = [
        r#"principal == Holdfast::Caller::"carol", action in Holdfast::Action::"use", resource == Holdfast::Key::"kek""#,
        r#"principal in Holdfast::Group::"owners", action == Holdfast::Action::"decrypt", resource == Holdfast::Key::"kek""#,
    ];
    for scope in who {
        let found = with_default(&format!(r#"@id("mine") permit ({scope});"#));
        assert!(found[0].starts_with("refuses mine: would let its author, `carol`, use a key"), "{found:?}");
    }
    for condition in [
        r#"principal == Holdfast::Caller::"carol""#,
        r#"principal.name == "carol" && resource.hasTag("team") && context.hour < 9"#,
        r#"principal in Holdfast::Group::"owners""#,
        r#"["carol", "app"].contains(principal.name)"#,
    ] {
        let text = format!(
            r#"@id("mine") permit (principal, action == Holdfast::Action::"decrypt", resource == Holdfast::Key::"kek") when {{ {condition} }};"#
        );
        let found = with_default(&text);
        assert!(found[0].starts_with("refuses mine: would let its author"), "{condition}: {found:?}");
    }
}

#[test]
fn an_author_who_is_excluded_is_not() {
    for text in [
        r#"@id("a") permit (principal in Holdfast::Group::"owners", action == Holdfast::Action::"decrypt", resource == Holdfast::Key::"kek") when { principal.kind == "application" };"#,
        r#"@id("a") permit (principal in Holdfast::Group::"owners", action == Holdfast::Action::"decrypt", resource == Holdfast::Key::"kek") unless { resource.exportable || principal == Holdfast::Caller::"carol" };"#,
        r#"@id("a") permit (principal in Holdfast::Group::"owners", action == Holdfast::Action::"decrypt", resource == Holdfast::Key::"kek");
           @id("b") forbid (principal, action in Holdfast::Action::"use", resource) unless { principal.kind == "application" };"#,
    ] {
        assert_eq!(with_default(text), [""; 0], "{text}");
    }
}

#[test]
fn a_permit_for_everybody_is_warned_of() {
    let found =
        with_default(r#"@id("all") permit (principal, action in Holdfast::Action::"use", resource);"#);
    assert_eq!(
        found,
        [
            "warns all: permits all of `use` to every caller, custodians included",
            "warns all: permits `encrypt`, `decrypt`, `wrap`, `unwrap` and 11 more with every key, also those created later",
        ]
    );
    // Every key is one of the tenant's.
    let of_the_tenant = with_default(
        r#"@id("all") permit (principal in Holdfast::Group::"payroll", action == Holdfast::Action::"sign", resource in Holdfast::Tenant::"acme");"#,
    );
    assert!(of_the_tenant[0].contains("with every key"), "{of_the_tenant:?}");
}

#[test]
fn a_policy_that_locks_custodians_out_is_refused() {
    let nobody = found(r#"@id("read") permit (principal, action in Holdfast::Action::"read", resource);"#);
    assert!(nobody[0].starts_with("refuses : no custodian could any more do this"), "{nobody:?}");
    assert!(nobody[0].contains("`set-policy`") && nobody[0].contains("`suspend-key`"));
    let forbidden = with_default(
        r#"@id("no") forbid (principal, action == Holdfast::Action::"suspend-key", resource) when { principal.kind == "custodian" };"#,
    );
    assert!(forbidden[0].ends_with("no policy names: `suspend-key`"), "{forbidden:?}");
    let named_keys = found(
        r#"@id("tenant") permit (principal == Holdfast::Caller::"dave", action in Holdfast::Action::"administer", resource == Holdfast::Tenant::"acme");
           @id("kek") permit (principal == Holdfast::Caller::"dave", action in Holdfast::Action::"administer", resource == Holdfast::Key::"kek");"#,
    );
    assert!(
        named_keys[0]
            .ends_with("no policy names: `suspend-key`, `deactivate-key`, `compromise-key`, `destroy-key`"),
        "{named_keys:?}"
    );
    // One of them is enough.
    let one = found(
        r#"@id("a") permit (principal == Holdfast::Caller::"dave", action in Holdfast::Action::"administer", resource);"#,
    );
    assert_eq!(one, [""; 0]);
    let hours = with_default(
        r#"@id("office-hours") forbid (principal, action == Holdfast::Action::"set-policy", resource) when { context.hour < 8 };"#,
    );
    assert_eq!(
        hours,
        ["warns : custodians could do this under conditions only, perhaps not when it matters: `set-policy`"]
    );
}

#[test]
fn who_may_never_administer_is_no_way_out_of_a_lockout() {
    let found = found(
        r#"@id("a") permit (principal, action in Holdfast::Action::"administer", resource) when { principal.kind == "application" };"#,
    );
    assert!(found[0].starts_with("refuses : no custodian could any more do this"), "{found:?}");
}

#[test]
fn a_forbid_that_always_fails_locks_custodians_out() {
    let found = with_default(
        r#"@id("no") forbid (principal, action == Holdfast::Action::"suspend-tenant", resource) when { 9223372036854775807 + 1 == 0 };"#,
    );
    assert!(found[0].ends_with("no policy names: `suspend-tenant`"), "{found:?}");
}

#[test]
fn where_nobody_administers_nobody_is_locked_out() {
    let prepared =
        prepare(r#"@id("read") permit (principal, action in Holdfast::Action::"read", resource);"#);
    let mut callers = callers();
    callers.retain(|record| record.kind != CallerKind::Custodian);
    let findings = policy().check(&prepared, &caller(&callers[0]), &callers);
    assert!(findings.iter().all(|finding| !finding.refuses), "{findings:?}");
}

#[test]
fn of_many_findings_the_first_are_told_those_that_refuse_before_all() {
    let mut text: String = (0..300)
        .map(|number| format!("@id(\"p-{number}\") permit (principal == Holdfast::Caller::\"nobody-{number}\", action == Holdfast::Action::\"mac\", resource == Holdfast::Key::\"k\");\n"))
        .collect();
    text.push_str(r#"@id("own") permit (principal == Holdfast::Caller::"carol", action == Holdfast::Action::"mac", resource == Holdfast::Key::"k");"#);
    let found = with_default(&text);
    assert_eq!(found.len(), holdfast_policy::MAX_FINDINGS + 1);
    assert!(found[0].starts_with("refuses own: would let its author"), "{}", found[0]);
    assert_eq!(found[100], "warns : more is doubtful than these first 100 things");
}

/// The check imagines callers and keys that no policy names: a policy may name what it would have called them.
#[test]
fn a_name_that_the_check_would_make_up_is_like_any_other() {
    for policy in [
        r#"@id("a") permit (principal, action == Holdfast::Action::"encrypt", resource == Holdfast::Key::"NAME");"#,
        r#"@id("a") forbid (principal, action in Holdfast::Action::"administer", resource == Holdfast::Key::"NAME");"#,
        r#"@id("a") forbid (principal == Holdfast::Caller::"NAME", action, resource);"#,
        r#"@id("a") permit (principal, action in Holdfast::Action::"use", resource) unless { principal == Holdfast::Caller::"NAME" };"#,
        r#"@id("a") permit (principal, action in Holdfast::Action::"use", resource) unless { ["NAME", "another"].contains(principal.name) };"#,
        r#"@id("a") permit (principal, action in Holdfast::Action::"use", resource);
           @id("b") forbid (principal == Holdfast::Caller::"NAME", action in Holdfast::Action::"use", resource);"#,
    ] {
        let found = |name: &str| -> Vec<String> {
            let found = with_default(&policy.replace("NAME", name));
            found.into_iter().map(|finding| finding.replace(name, "NAME")).collect()
        };
        let [usual, made_up] = ["zoe", "somebody-0"].map(found);
        assert_eq!(made_up, usual, "{policy}");
    }
}

#[test]
fn a_suspended_custodian_does_not_count() {
    let prepared = prepare(
        r#"@id("a") permit (principal == Holdfast::Caller::"dave", action in Holdfast::Action::"administer", resource);"#,
    );
    let mut callers = callers();
    callers[1] = Arc::new(CallerRecord { suspended: true, ..CallerRecord::clone(&callers[1]) });
    let findings = policy().check(&prepared, &caller(&callers[0]), &callers);
    assert!(findings[0].refuses);
}

#[test]
fn words_that_mean_nothing_here_are_warned_of() {
    let rows = [
        (
            r#"principal == Holdfast::Caller::"nobody", action == Holdfast::Action::"mac", resource == Holdfast::Key::"k");"#,
            "speaks of caller `nobody`, whom nobody has registered",
        ),
        (
            r#"principal in Holdfast::Group::"none", action == Holdfast::Action::"mac", resource == Holdfast::Key::"k");"#,
            "speaks of group `none`, in which there is nobody",
        ),
        (
            r#"principal == Holdfast::Caller::"app", action == Holdfast::Action::"random", resource == Holdfast::Tenant::"evil");"#,
            "speaks of tenant `evil`, but this is the policy of `acme`",
        ),
        (
            r#"principal == Holdfast::Caller::"eve", action == Holdfast::Action::"mac", resource == Holdfast::Key::"k");"#,
            "permits `mac` to `eve`, who is of kind `auditor` and can never do that",
        ),
        (
            r#"principal == Holdfast::Caller::"app", action == Holdfast::Action::"mac", resource is Holdfast::Key) when { resource.state == "aktiv" };"#,
            "compares `resource.state` with `aktiv`, which it never is",
        ),
        (
            r#"principal == Holdfast::Caller::"app", action == Holdfast::Action::"mac", resource == Holdfast::Key::"k") when { ["application", "machine"].contains(principal.kind) };"#,
            "compares `principal.kind` with `machine`, which it never is",
        ),
        (
            r#"principal == Holdfast::Caller::"app", action == Holdfast::Action::"mac", resource is Holdfast::Tenant);"#,
            "can never apply: no caller, action and resource satisfy it",
        ),
    ];
    for (rest, expected) in rows {
        let found = with_default(&format!("@id(\"p\") permit ({rest}"));
        assert!(found.contains(&format!("warns p: {expected}")), "{rest}\n{found:?}");
    }
}
