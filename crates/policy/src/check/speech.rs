//! Words of a policy that mean nothing here: names that nobody has, values that no attribute takes.

use super::warning;
use crate::prepared::Prepared;
use crate::reads::variable;
use crate::rule::Rule;
use crate::schema::{Sort, vocabulary};
use holdfast_core::caller::CallerRecord;
use holdfast_core::port::Finding;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Who there is, looked up by each name of each policy.
pub(super) struct Known<'a> {
    pub(super) callers: HashMap<&'a str, &'a CallerRecord>,
    groups: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(callers: &'a [Arc<CallerRecord>]) -> Self {
        Self {
            callers: callers.iter().map(|record| (record.name.as_str(), &**record)).collect(),
            groups: callers.iter().flat_map(|record| &record.groups).map(|group| group.as_str()).collect(),
        }
    }
}

/// Callers, groups and tenants that do not exist.
pub(super) fn unknown_names(prepared: &Prepared, rule: &Rule, known: &Known<'_>) -> Vec<Finding> {
    let names: BTreeSet<(Box<str>, u8)> = rule
        .policy
        .entity_literals()
        .iter()
        .map(|uid| (uid.id().unescaped().into(), prepared.vocabulary.sort(uid) as u8))
        .collect();
    let mut findings = Vec::new();
    for (name, sort) in &names {
        let is = |other: Sort| *sort == other as u8;
        if is(Sort::Caller) && !known.callers.contains_key(&**name) {
            let detail = format!("speaks of caller `{name}`, whom nobody has registered");
            findings.push(warning(
                rule,
                detail,
                "check the name, or register the caller with `holdfast caller put`",
            ));
        } else if is(Sort::Group) && !known.groups.contains(&**name) {
            let detail = format!("speaks of group `{name}`, in which there is nobody");
            findings.push(warning(rule, detail, "check the name, or put a caller into the group"));
        } else if is(Sort::Tenant) && **name != *prepared.tenant.as_str() {
            let detail =
                format!("speaks of tenant `{name}`, but this is the policy of `{}`", prepared.tenant);
            let remedy =
                "each tenant has a policy of its own: write its own name, or leave the resource open";
            findings.push(warning(rule, detail, remedy));
        }
    }
    findings
}

/// Comparisons of a closed attribute with something that it never is.
pub(super) fn unknown_values(rule: &Rule) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    let policy = rule.policy.to_json().unwrap_or_default();
    for condition in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        compare(condition, &mut found);
    }
    let finding = |(variable, attribute, value): (String, String, String)| {
        let known = vocabulary(&variable, &attribute)?;
        let detail =
            format!("compares `{variable}.{attribute}` with `{}`, which it never is", value.escape_debug());
        Some(warning(rule, detail, format!("write one of `{}`", known.join("`, `"))))
    };
    found.into_iter().filter_map(finding).collect()
}

fn compare(node: &Value, found: &mut BTreeSet<(String, String, String)>) {
    let sides = |operands: &Value| Some((operands.get("left")?.clone(), operands.get("right")?.clone()));
    match node {
        Value::Object(fields) => {
            for (kind, body) in fields {
                if let ("==" | "!=" | "contains", Some((left, right))) = (kind.as_str(), sides(body)) {
                    for (attribute, values) in [(&left, &right), (&right, &left)] {
                        found.extend(never(attribute, values));
                    }
                }
                compare(body, found);
            }
        }
        Value::Array(nodes) => nodes.iter().for_each(|node| compare(node, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The values, one or a set of them, that an attribute never has.
fn never(attribute: &Value, values: &Value) -> Vec<(String, String, String)> {
    let words = || {
        let access = attribute.get(".")?;
        let variable = variable(access.get("left")?)?;
        let attribute = access.get("attr")?.as_str()?;
        let known = vocabulary(variable, attribute)?;
        let set = values.get("Set").and_then(Value::as_array).map(Vec::as_slice);
        let literals = set.unwrap_or(core::slice::from_ref(values)).iter();
        let texts = literals.filter_map(|literal| literal.get("Value")?.as_str());
        let unknown = texts.filter(|text| !known.contains(text));
        Some(unknown.map(|text| (variable.to_owned(), attribute.to_owned(), text.to_owned())).collect())
    };
    words().unwrap_or_default()
}
