//! Which policies permit something to other requests of the same caller, action and key.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::{policy, tenant};
use holdfast_policy::{Cases, conditions_of};

/// Who asks: `door`, in the group `doors`, for the key `k` in team `a`, issued, through `google-cse`.
const CASE: &str = r#"[[case]]
caller = "door"
groups = ["doors"]
action = "encrypt"
key = "k"
labels = { team = "a" }
protocol = "google-cse"
authentication = "issued"
request = { email = "somebody@example.org" }
time = 2026-11-23T09:30:00Z
expect = "allow"
"#;

fn is_conditional(scope: &str, condition: &str) -> bool {
    is_conditional_with(scope, condition, &[])
}

fn is_conditional_with(scope: &str, condition: &str, known: &[&str]) -> bool {
    let text = format!("@id(\"it\") permit ({scope}) {condition};");
    let prepared = policy().read(&tenant(), &text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    let cases = Cases::parse(&prepared, CASE).unwrap();
    let found = conditions_of(&prepared, &cases, known);
    let ids: Vec<&str> = found[0].iter().map(|id| id.as_str()).collect();
    assert!(ids.is_empty() || ids == ["it"], "{ids:?}");
    !ids.is_empty()
}

#[test]
fn whoever_is_meant_and_not_by_name_alone() {
    let ana =
        r#"when { context.request.hasTag("email") && context.request.getTag("email") == "ana@example.org" }"#;
    for (scope, expected) in [
        (r#"principal == Holdfast::Caller::"door", action, resource"#, true),
        (r#"principal in Holdfast::Group::"doors", action, resource"#, true),
        ("principal, action, resource", true),
        (r#"principal, action in [Holdfast::Action::"use"], resource"#, true),
        (r#"principal, action, resource in Holdfast::Tenant::"acme""#, true),
        (r#"principal is Holdfast::Caller, action, resource == Holdfast::Key::"k""#, true),
        (r#"principal == Holdfast::Caller::"other", action, resource"#, false),
        (r#"principal in Holdfast::Group::"others", action, resource"#, false),
        (r#"principal, action == Holdfast::Action::"decrypt", resource"#, false),
        (r#"principal, action, resource == Holdfast::Key::"other""#, false),
    ] {
        assert_eq!(is_conditional(scope, ana), expected, "{scope}");
    }
}

#[test]
fn what_a_request_brings_is_open_and_everything_else_is_not() {
    for (condition, expected) in [
        ("when { context.hour < 5 }", true),
        ("when { context has source && context.source.isLoopback() }", true),
        (r#"unless { context.request.hasTag("email") }"#, true),
        // What is said elsewhere than in the scope means as much.
        (r#"when { principal == Holdfast::Caller::"door" && context.hour < 5 }"#, true),
        (r#"when { principal == Holdfast::Caller::"other" && context.hour < 5 }"#, false),
        (r#"when { resource == Holdfast::Key::"k" } when { context.hour < 5 }"#, true),
        (r#"when { principal.kind == "developer" && context.hour < 5 }"#, false),
        (r#"when { resource.hasTag("team") && resource.getTag("team") == "a" && context.hour < 5 }"#, true),
        (r#"when { resource.hasTag("team") && resource.getTag("team") == "b" && context.hour < 5 }"#, false),
        (r#"when { context.protocol == "google-cse" && context.hour < 5 }"#, true),
        (r#"when { context.protocol == "native" && context.hour < 5 }"#, false),
        (r#"when { context.authentication == "mtls" && context.hour < 5 }"#, false),
        (r#"unless { context.protocol == "google-cse" || context.hour < 5 }"#, false),
        // What cannot be told apart could be.
        (r#"when { context.protocol == "native" || context.hour < 5 }"#, true),
        (r#"when { if context.hour < 5 then true else context.protocol == "native" }"#, true),
    ] {
        assert_eq!(is_conditional("principal, action, resource", condition), expected, "{condition}");
    }
}

#[test]
fn what_names_the_request_is_no_condition() {
    let of = |name: &str, value: &str| {
        format!("(context.request.hasTag(\"{name}\") && context.request.getTag(\"{name}\") == \"{value}\")")
    };
    let [other, itself] = ["ana@example.org", "somebody@example.org"].map(|value| of("email", value));
    let by_id = of("oid", "4711");
    for (condition, known, expected) in [
        (other.clone(), &["email"][..], false),
        (other.clone(), &["oid"], true),
        (format!("{itself} && context.hour < 5"), &["email"], true),
        (format!("{other} && context.hour < 5"), &["email"], false),
        // One that it does not have it has with nobody.
        (format!("{by_id} || {other}"), &["email", "oid"], false),
        (format!("{by_id} || {other}"), &["email"], true),
        (format!("{} && {itself}", of("role", "legal")), &["email"], true),
    ] {
        let condition = format!("when {{ {condition} }}");
        let found = is_conditional_with("principal, action, resource", &condition, known);
        assert_eq!(found, expected, "{condition} {known:?}");
    }
}
