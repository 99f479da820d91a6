//! Policies that permit something under conditions: not to this request, and to others of the same caller, action and key.

use crate::entities;
use crate::parts;
use crate::prepared::Prepared;
use crate::rule::Rule;
use cedar_policy::{Authorizer, Decision, Policy, PolicySet};
use holdfast_core::PolicyId;
use holdfast_core::port::Question;
use serde_json::Value;

/// What of a request's circumstances is the same for all that comes by the same way.
const FIXED: [&str; 2] = ["authentication", "protocol"];

/// The policies whose scope and whose conditions on the caller, the key and the way it comes hold, so that what the request brings, or when and from
/// where it comes, decides. Never too few: what cannot be taken apart is among them.
///
/// What the request says under the names in `known` is no condition that another could meet: others of it would be others.
pub(crate) fn conditional(prepared: &Prepared, question: &Question<'_>, known: &[&str]) -> Vec<PolicyId> {
    let slot = prepared.index.slot(&question.resource);
    let record = &question.caller.record;
    let candidates = prepared.index.candidates(&prepared.rules, record, question.action, slot);
    let permits = candidates.iter().filter_map(|place| prepared.rule(*place)).filter(|rule| rule.permits);
    permits.filter(|rule| could(prepared, question, rule, known)).map(|rule| rule.id.clone()).collect()
}

fn could(prepared: &Prepared, question: &Question<'_>, rule: &Rule, known: &[&str]) -> bool {
    let ask = || {
        let mut policy = rule.policy.to_json().ok()?;
        let conditions = parts::known(&policy, |part| is_fixed(part, known))?;
        policy.as_object_mut()?.insert("conditions".to_owned(), Value::Array(conditions));
        let policies = PolicySet::from_policies([Policy::from_json(None, policy).ok()?]).ok()?;
        let Prepared { vocabulary, tenant, .. } = prepared;
        let common = entities::common(vocabulary, &question.caller.record, question.action).ok()?;
        let (request, entities) = entities::pose(vocabulary, tenant, &common, &rule.reads, question).ok()?;
        let response = Authorizer::new().is_authorized(&request, &policies, &entities);
        let fails = response.diagnostics().errors().next().is_some();
        Some(fails || response.decision() == Decision::Allow)
    };
    ask().unwrap_or(true)
}

/// Whether an expression looks at nothing of the circumstances but what is fixed.
fn is_fixed(node: &Value, known: &[&str]) -> bool {
    match node {
        Value::Object(fields) => fields.iter().all(|(kind, body)| match (kind.as_str(), body) {
            ("Var", Value::String(variable)) => variable != "context",
            (".", Value::Object(access)) if is_context(access.get("left")) => {
                access.get("attr").and_then(Value::as_str).is_some_and(|name| FIXED.contains(&name))
            }
            ("hasTag" | "getTag", Value::Object(tag)) if is_request(tag.get("left")) => {
                let name = tag.get("right").and_then(|name| name.get("Value")).and_then(Value::as_str);
                name.is_some_and(|name| known.contains(&name))
            }
            (_, body) => is_fixed(body, known),
        }),
        Value::Array(nodes) => nodes.iter().all(|node| is_fixed(node, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn is_request(node: Option<&Value>) -> bool {
    let access = node.and_then(|node| node.get("."));
    access.is_some_and(|access| {
        is_context(access.get("left")) && access.get("attr").and_then(Value::as_str) == Some("request")
    })
}

fn is_context(node: Option<&Value>) -> bool {
    node.and_then(|node| node.get("Var")).and_then(Value::as_str) == Some("context")
}
