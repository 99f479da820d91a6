//! Whom a policy could mean: its scope and those of its conditions that look at the caller alone.

use super::imagined;
use crate::entities;
use crate::parts;
use crate::prepared::Prepared;
use crate::rule::{Rule, Whom};
use crate::schema::{Actions, Sort};
use cedar_policy::{Authorizer, Context, Entities, Policy, PolicySet, Request};
use holdfast_core::action::Action;
use holdfast_core::caller::{CallerKind, CallerRecord};
use serde_json::{Value, json};

/// The part of a policy that is about the caller. Whoever does not satisfy it is never meant; whoever does may be.
pub(crate) struct Who<'a> {
    rule: &'a Rule,
    /// `None` when it cannot be taken apart: then everybody could be meant.
    part: Option<PolicySet>,
}

impl<'a> Who<'a> {
    pub(crate) fn new(rule: &'a Rule) -> Self {
        let part = || {
            let whole = rule.policy.to_json().ok()?;
            let conditions = parts::known(&whole, only_about_caller)?;
            let policy = json!({
                "effect": "permit",
                "principal": whole.get("principal")?,
                "action": {"op": "All"},
                "resource": {"op": "All"},
                "conditions": conditions,
            });
            PolicySet::from_policies([Policy::from_json(None, policy).ok()?]).ok()
        };
        Self { rule, part: part() }
    }

    /// Whether this caller could be meant.
    pub(crate) fn could_be(&self, prepared: &Prepared, record: &CallerRecord) -> bool {
        let Some(part) = &self.part else { return true };
        let ask = || {
            let vocabulary = &prepared.vocabulary;
            let entities: Entities = entities::common(vocabulary, record, Action::ReadTenant).ok()?;
            let action = vocabulary.action(Action::ReadTenant)?.uid();
            let tenant = vocabulary.tenant(&prepared.tenant);
            let request =
                Request::new(vocabulary.caller(record), action, tenant, Context::empty(), None).ok()?;
            let response = Authorizer::new().is_authorized(&request, part, &entities);
            let errors = response.diagnostics().errors().next().is_some();
            Some(errors || response.decision() == cedar_policy::Decision::Allow)
        };
        ask().unwrap_or(true)
    }

    /// Whether some application could be meant: one of the name and in all of the groups that the policy speaks of.
    pub(crate) fn could_be_an_application(&self, prepared: &Prepared) -> bool {
        let literals = self.rule.policy.entity_literals();
        let groups: Vec<&str> = literals
            .iter()
            .filter(|uid| prepared.vocabulary.sort(uid) == Sort::Group)
            .map(|uid| uid.id().unescaped())
            .collect();
        let name = match &self.rule.whom {
            Whom::Caller(name) => name,
            Whom::Any | Whom::Group(_) => &*prepared.fresh_name,
        };
        let application = imagined(name, CallerKind::Application, &groups);
        application.is_none_or(|record| self.could_be(prepared, &record))
    }
}

/// What this caller is forbidden whatever the key and the circumstances.
pub(crate) fn forbidden(prepared: &Prepared, record: &CallerRecord) -> Actions {
    let always = |rule: &&Rule| {
        !rule.permits
            && rule.what == crate::rule::What::Any
            && !rule.reads.resource()
            && !rule.reads.circumstances()
            && only_about_caller(&rule.policy.to_json().unwrap_or_default())
    };
    let apply = prepared.rules.iter().filter(always);
    apply
        .filter(|rule| Who::new(rule).could_be(prepared, record))
        .fold(Actions::NONE, |set, rule| set.or(rule.actions))
}

/// A caller of this kind whom no policy names.
pub(crate) fn stranger(prepared: &Prepared, kind: CallerKind) -> Option<CallerRecord> {
    imagined(&prepared.fresh_name, kind, &[])
}

/// Whether an expression has no variable but `principal`.
fn only_about_caller(node: &Value) -> bool {
    match node {
        Value::Object(fields) => fields.iter().all(|(kind, body)| match (kind.as_str(), body) {
            ("Var", Value::String(variable)) => variable == "principal",
            (_, body) => only_about_caller(body),
        }),
        Value::Array(nodes) => nodes.iter().all(only_about_caller),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
