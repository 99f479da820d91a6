//! A policy's conditions, taken apart: which of them look at what is known already.

use serde_json::{Value, json};

/// The conditions of a policy, as its JSON has them, of which nothing is left but what `is_known`. Whoever does not meet these does not meet the
/// whole; whoever does may. `None` if it cannot be taken apart.
pub(crate) fn known(whole: &Value, is_known: impl Fn(&Value) -> bool) -> Option<Vec<Value>> {
    let mut conditions = Vec::new();
    for condition in whole.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let kind = condition.get("kind").and_then(Value::as_str)?;
        let operator = if kind == "when" { "&&" } else { "||" };
        let mut parts = Vec::new();
        split(condition.get("body")?, operator, &mut parts);
        let known = parts.into_iter().filter(|part| is_known(part) && is_shallow(part, MAX_DEPTH));
        conditions.extend(known.map(|body| json!({"kind": kind, "body": body})));
    }
    Some(conditions)
}

/// Takes nested operators of one kind apart.
fn split<'a>(node: &'a Value, operator: &str, parts: &mut Vec<&'a Value>) {
    match node.get(operator) {
        None => parts.push(node),
        Some(operands) => {
            for side in ["left", "right"] {
                if let Some(operand) = operands.get(side) {
                    split(operand, operator, parts);
                }
            }
        }
    }
}

/// The most levels of JSON that are read back as a condition: reading descends with large steps. What is deeper is left out, so that
/// the policy could mean more than it does.
const MAX_DEPTH: usize = 24;

fn is_shallow(node: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return false };
    match node {
        Value::Object(fields) => fields.values().all(|node| is_shallow(node, below)),
        Value::Array(nodes) => nodes.iter().all(|node| is_shallow(node, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
