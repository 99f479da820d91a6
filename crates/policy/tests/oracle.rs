//! The whole of Cedar as the oracle: for random policies and questions, what is looked up and remembered decides as the unsliced policy
//! set over full entities does, and names the same policies.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod common;

use cedar_policy::{
    Authorizer, Context as CedarContext, Entities, EntityUid, Policy, PolicyId, PolicySet, Request,
};
use common::*;
use holdfast_core::action::Action;
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{Circumstances, Question, Resource};
use holdfast_core::{KeyName, Timestamp, TokenId};
use holdfast_policy::SCHEMA;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

/// Some of them more often, so that questions meet in what is remembered.
const ACTIONS: [Action; 9] = [
    Action::Encrypt,
    Action::Decrypt,
    Action::Decrypt,
    Action::Decrypt,
    Action::Random,
    Action::CreateKey,
    Action::RotateKey,
    Action::SetPolicy,
    Action::ReadKey,
];

/// One of the questions that policies can tell apart or not.
#[derive(Debug, Clone)]
struct Asked {
    caller: usize,
    action: Action,
    /// Out of three names, two of which policies name.
    key: usize,
    exists: bool,
    state: KeyState,
    exportable: bool,
    team: Option<usize>,
    purpose: Option<usize>,
    bearer: bool,
    hour: u64,
    /// What the protocol says, under one name and under another.
    said: (Option<usize>, Option<usize>),
    /// Out of three places, one of them unknown.
    source: usize,
    protocol: usize,
}

const PROTOCOLS: [&str; 2] = ["native", "aws-xks"];

fn source(at: usize) -> Option<IpAddr> {
    [None, Some("10.1.2.3"), Some("::ffff:192.0.2.1")][at].map(|text| text.parse().unwrap())
}

fn records() -> Vec<Arc<CallerRecord>> {
    vec![
        record("a", CallerKind::Application, &["g"]),
        record("b", CallerKind::Application, &["g", "h"]),
        record("c", CallerKind::Custodian, &[]),
        record("d", CallerKind::Auditor, &["h"]),
    ]
}

const WORDS: [&str; 3] = ["x", "a", "b"];

/// Conditions that hold on whatever the action is about.
fn anywhere() -> impl Strategy<Value = String> {
    let texts = [
        r#"principal.kind == "application""#,
        r#"principal in Holdfast::Group::"h""#,
        r#"principal == Holdfast::Caller::"c""#,
        r#"principal.name == "a""#,
        r#"resource.hasTag("team")"#,
        r#"resource.hasTag("team") && resource.getTag("team") == "x""#,
        r#"resource.hasTag(principal.name)"#,
        r#"resource.hasTag("team") && resource.getTag("team") == principal.name"#,
        r#"resource == Holdfast::Key::"k0""#,
        r#"resource in Holdfast::Tenant::"acme""#,
        r#"resource is Holdfast::Key && resource.state == "active""#,
        r#"resource is Holdfast::Key && resource.exportable"#,
        r#"resource is Holdfast::Key && resource.name like "k*""#,
        r#"resource is Holdfast::Key && resource has custody && resource.custody == "software""#,
        r#"[resource].contains(Holdfast::Key::"k1")"#,
        r#"action == Holdfast::Action::"decrypt""#,
        r#"context.authentication == "bearer""#,
        r#"context.hour < 12"#,
        r#"context.encryption.hasTag("purpose") && context.encryption.getTag("purpose") == "x""#,
        r#"context has source"#,
        r#"context has source && context.source.isInRange(ip("10.0.0.0/8"))"#,
        r#"context.encryption.hasTag(principal.name)"#,
        r#"context.request.hasTag("arn") && context.request.getTag("arn") == "x""#,
        r#"context.request.hasTag("via") && context.request.getTag("via") like "*a*""#,
        r#"context.request.hasTag("arn") && context.encryption.hasTag(context.request.getTag("arn"))"#,
        r#"[context.request].contains(context.request)"#,
        r#"context.protocol == "aws-xks""#,
        r#"context.weekday == 4"#,
        r#"context.time > datetime("1970-01-01T12:00:00Z")"#,
        r#"context.hour + 9223372036854775800 > 0"#,
        "true",
        "1 == 1",
    ];
    prop::sample::select(texts.to_vec()).prop_map(str::to_owned)
}

fn condition() -> impl Strategy<Value = String> {
    anywhere().prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("if {a} then {b} else false")),
        ]
    })
}

fn rule() -> impl Strategy<Value = String> {
    let principals = [
        "principal",
        "principal is Holdfast::Caller",
        r#"principal == Holdfast::Caller::"a""#,
        r#"principal in Holdfast::Caller::"b""#,
        r#"principal in Holdfast::Group::"g""#,
        r#"principal is Holdfast::Caller in Holdfast::Group::"h""#,
    ];
    let actions = [
        "action",
        r#"action in Holdfast::Action::"use""#,
        r#"action in Holdfast::Action::"administer""#,
        r#"action == Holdfast::Action::"decrypt""#,
        r#"action in [Holdfast::Action::"read", Holdfast::Action::"encrypt"]"#,
    ];
    let resources = [
        "resource",
        "resource is Holdfast::Key",
        "resource is Holdfast::Tenant",
        r#"resource == Holdfast::Key::"k0""#,
        r#"resource in Holdfast::Key::"k1""#,
        r#"resource in Holdfast::Tenant::"acme""#,
        r#"resource == Holdfast::Tenant::"acme""#,
        r#"resource is Holdfast::Key in Holdfast::Tenant::"acme""#,
        r#"resource in Holdfast::Tenant::"other""#,
    ];
    (
        prop::bool::weighted(0.7),
        prop::sample::select(principals.to_vec()),
        prop::sample::select(actions.to_vec()),
        prop::sample::select(resources.to_vec()),
        prop::option::of(condition()),
        prop::option::weighted(0.2, condition()),
    )
        .prop_map(|(permit, principal, action, resource, when, unless)| {
            let effect = if permit { "permit" } else { "forbid" };
            let when = when.map(|when| format!(" when {{ {when} }}")).unwrap_or_default();
            let unless = unless.map(|unless| format!(" unless {{ {unless} }}")).unwrap_or_default();
            format!("{effect} ({principal}, {action}, {resource}){when}{unless};\n")
        })
}

fn asked() -> impl Strategy<Value = Asked> {
    let states = [KeyState::Active, KeyState::Suspended];
    let key = (0..3usize, prop::bool::weighted(0.8), prop::sample::select(states.to_vec()), any::<bool>());
    let team = prop::option::of(0..3usize);
    (
        prop::sample::select(vec![0usize, 0, 0, 1, 1, 2, 3]),
        prop::sample::select(ACTIONS.to_vec()),
        key,
        team.clone(),
        team,
        any::<bool>(),
        0..48u64,
        (prop::option::of(0..3usize), prop::option::of(0..3usize), 0..3usize, 0..2usize),
    )
        .prop_map(
            |(caller, action, (key, exists, state, exportable), team, purpose, bearer, hour, how)| {
                let (arn, via, source, protocol) = how;
                let said = (arn, via);
                Asked {
                    caller,
                    action,
                    key,
                    exists,
                    state,
                    exportable,
                    team,
                    purpose,
                    bearer,
                    hour,
                    said,
                    source,
                    protocol,
                }
            },
        )
}

/// The whole question in Cedar's JSON, written without any of the code under test.
fn entities(question: &Question<'_>) -> Entities {
    let uid = |kind: &str, id: &str| serde_json::json!({"type": format!("Holdfast::{kind}"), "id": id});
    let record = &question.caller.record;
    let groups: Vec<_> = record.groups.iter().map(|group| uid("Group", group.as_str())).collect();
    let tags = |pairs: Vec<(&str, &str)>| {
        let map: serde_json::Map<_, _> =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        serde_json::Value::Object(map)
    };
    let mut all = vec![
        serde_json::json!({"uid": uid("Caller", record.name.as_str()), "parents": groups,
            "attrs": {"name": record.name.as_str(), "kind": record.kind.name()}}),
        serde_json::json!({"uid": uid("EncryptionContext", "oracle"), "parents": [], "attrs": {},
            "tags": tags(question.circumstances.context.pairs().collect())}),
        serde_json::json!({"uid": uid("ProtocolRequest", "oracle"), "parents": [], "attrs": {},
            "tags": tags(question.circumstances.request.pairs().collect())}),
        serde_json::json!({"uid": uid("Tenant", "acme"), "parents": [], "attrs": {}}),
    ];
    match question.resource {
        Resource::Key(key) => all.push(serde_json::json!({
            "uid": uid("Key", key.name.as_str()), "parents": [uid("Tenant", "acme")],
            "attrs": {"name": key.name.as_str(), "algorithm": key.algorithm.name(), "purpose": key.purpose.name(),
                "state": key.state.name(), "exportable": key.exportable, "custody": key.custody.name()},
            "tags": tags(key.labels.iter().map(|(name, value)| (&**name, &**value)).collect()),
        })),
        Resource::NoKey(name) => all.push(serde_json::json!({
            "uid": uid("Key", name.as_str()), "parents": [uid("Tenant", "acme")], "attrs": {}})),
        Resource::Tenant(_) => {}
    }
    static ACTIONS: LazyLock<Entities> = LazyLock::new(|| {
        cedar_policy::Schema::from_cedarschema_str(SCHEMA).unwrap().0.action_entities().unwrap()
    });
    let action: EntityUid = format!("Holdfast::Action::{:?}", question.action.name()).parse().unwrap();
    let action = ACTIONS.get(&action).unwrap().clone();
    Entities::from_json_value(all.into(), None).unwrap().add_entities([action], None).unwrap()
}

/// Allowed, the deciding policies, and those that failed, by the whole set.
fn oracle(policies: &PolicySet, question: &Question<'_>) -> (bool, BTreeSet<String>, BTreeSet<String>) {
    let uid = |text: String| text.parse::<EntityUid>().unwrap();
    let resource = match question.resource {
        Resource::Key(key) => uid(format!("Holdfast::Key::{:?}", key.name.as_str())),
        Resource::NoKey(name) => uid(format!("Holdfast::Key::{:?}", name.as_str())),
        Resource::Tenant(tenant) => uid(format!("Holdfast::Tenant::{:?}", tenant.as_str())),
    };
    let now = question.circumstances.now;
    let mut context = serde_json::json!({
        "authentication": question.caller.authentication.name(),
        "encryption": {"__entity": {"type": "Holdfast::EncryptionContext", "id": "oracle"}},
        "request": {"__entity": {"type": "Holdfast::ProtocolRequest", "id": "oracle"}},
        "hour": now.seconds() / 3600 % 24,
        // The first of January 1970 was a Thursday.
        "weekday": 4 + now.seconds() / 86_400,
        "time": {"__extn": {"fn": "datetime", "arg": std::str::from_utf8(&now.text()).unwrap()[..19].to_owned() + "Z"}},
        "protocol": question.circumstances.protocol,
    });
    if let Some(source) = question.circumstances.source {
        context["source"] =
            serde_json::json!({"__extn": {"fn": "ip", "arg": source.to_canonical().to_string()}});
    }
    let request = Request::new(
        uid(format!("Holdfast::Caller::{:?}", question.caller.name().as_str())),
        uid(format!("Holdfast::Action::{:?}", question.action.name())),
        resource,
        CedarContext::from_json_value(context, None).unwrap(),
        None,
    );
    let response = Authorizer::new().is_authorized(&request.unwrap(), policies, &entities(question));
    let reasons = response.diagnostics().reason().map(ToString::to_string).collect();
    let failed = response.diagnostics().errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
    });
    (response.decision() == cedar_policy::Decision::Allow, reasons, failed.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn decides_as_the_whole_of_cedar_does(rules in prop::collection::vec(rule(), 1..8), asked in prop::collection::vec(asked(), 10..40)) {
        let text: String = rules.iter().enumerate().map(|(at, rule)| format!("@id(\"p{at}\") {rule}")).collect();
        let policy = policy();
        // A random text that the validator refuses is none of this test's business.
        let Ok(prepared) = policy.prepare(&tenant(), &text) else { return Ok(()) };
        let named = rules.iter().enumerate().map(|(at, rule)| Policy::parse(Some(PolicyId::new(format!("p{at}"))), rule).unwrap());
        let whole = PolicySet::from_policies(named).unwrap();
        let records = records();
        // Twice, so that every question is also answered from memory, in the midst of others.
        for ask in asked.iter().chain(asked.iter()) {
            let authentication = if ask.bearer {
                Authentication::Bearer(TokenId::from_bytes([0; 16]))
            } else {
                Authentication::Gateway
            };
            let caller = Caller { tenant: tenant(), record: Arc::clone(&records[ask.caller]), authentication, own: None };
            let name: KeyName = format!("k{}", ask.key).parse().unwrap();
            let mut labels = vec![];
            if let Some(team) = ask.team {
                labels.push(("team", WORDS[team]));
                labels.push((WORDS[team], "1"));
            }
            let key = Key { state: ask.state, exportable: ask.exportable, ..key(name.as_str(), &labels) };
            let acme = tenant();
            let resource = if matches!(ask.action, Action::Random | Action::SetPolicy) {
                Resource::Tenant(&acme)
            } else if ask.exists || ask.action == Action::CreateKey {
                Resource::Key(&key)
            } else {
                Resource::NoKey(&name)
            };
            let encryption: Vec<(&str, &str)> = ask.purpose.iter().map(|at| ("purpose", WORDS[*at])).collect();
            let context: Context = context(&encryption);
            let now = Timestamp::from_micros(ask.hour * 3_600_000_000);
            let said: Vec<(&str, &str)> = [("arn", ask.said.0), ("via", ask.said.1)]
                .into_iter()
                .filter_map(|(name, at)| at.map(|at| (name, WORDS[at])))
                .collect();
            let request = common::context(&said);
            let (source, protocol) = (source(ask.source), PROTOCOLS[ask.protocol]);
            let circumstances = Circumstances { context: &context, request: &request, now, source, protocol };
            let question = Question { caller: &caller, action: ask.action, resource, circumstances };
            let decision = policy.decide(&prepared, &question);
            let (allows, mut reasons, failed) = oracle(&whole, &question);
            let no_record = matches!(resource, Resource::NoKey(_));
            if allows && !failed.is_empty() {
                reasons.clear();
            }
            if !no_record {
                reasons.extend(failed.iter().cloned());
            }
            prop_assert_eq!(decision.allowed, allows && failed.is_empty(), "{} {:?}", &text, ask);
            prop_assert_eq!(decision.failed, !failed.is_empty() && !no_record);
            let said: BTreeSet<String> = decision.policies.iter().map(ToString::to_string).collect();
            prop_assert_eq!(said.len(), decision.policies.len());
            prop_assert_eq!(said, reasons, "{} {:?}", &text, ask);
        }
    }
}
