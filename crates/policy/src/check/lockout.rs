//! Whether somebody could still change the policy and order every stop.

use super::who::Who;
use crate::decide::evaluate;
use crate::entities;
use crate::index::Slot;
use crate::prepared::Prepared;
use crate::rule::Rule;
use crate::schema::{About, about, asked};
use cedar_policy::PolicySet;
use holdfast_core::KeyName;
use holdfast_core::action::{Action, Group};
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::port::{Circumstances, Finding, Question, Resource};
use holdfast_core::time::Timestamp;
use std::sync::Arc;

/// Whether a caller may do something to a key that no policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum May {
    Never,
    /// It depends on the key or on the circumstances.
    Sometimes,
    Always,
}

/// Refuses a policy under which nobody could change it any more, or order a stop.
pub(super) fn locked_out(prepared: &Prepared, callers: &[Arc<CallerRecord>]) -> Vec<Finding> {
    let custodians: Vec<&Arc<CallerRecord>> = callers
        .iter()
        .filter(|record| {
            record.kind.may(Group::Administer) && record.kind != CallerKind::Operator && !record.suspended
        })
        .collect();
    // The gateway itself has neither custodians nor a policy that anybody sets.
    if prepared.tenant.is_gateway() || custodians.is_empty() {
        return Vec::new();
    }
    let (mut never, mut sometimes) = (Vec::new(), Vec::new());
    for action in asked().filter(|action| action.is_stop() || *action == Action::SetPolicy) {
        let best = custodians.iter().map(|record| may(prepared, record, action)).max();
        match best.unwrap_or(May::Never) {
            May::Always => {}
            May::Sometimes => sometimes.push(format!("`{}`", action.name())),
            May::Never => never.push(format!("`{}`", action.name())),
        }
    }
    let finding = |refuses, actions: Vec<String>, what: &str| {
        let detail = format!("{what} {}", actions.join(", "));
        let remedy = "permit it to custodians without conditions: `permit (principal, action in Holdfast::Action::\"administer\", resource) when { principal.kind == \"custodian\" };`";
        (!actions.is_empty()).then(|| Finding { refuses, policy: None, detail, remedy: remedy.to_owned() })
    };
    let never =
        finding(true, never, "no custodian could any more do this to keys and callers that no policy names:");
    let sometimes = finding(
        false,
        sometimes,
        "custodians could do this under conditions only, perhaps not when it matters:",
    );
    never.into_iter().chain(sometimes).collect()
}

fn may(prepared: &Prepared, record: &Arc<CallerRecord>, action: Action) -> May {
    let Ok(key) = prepared.fresh_name.parse::<KeyName>() else { return May::Never };
    let (slot, resource) = match about(action) {
        About::Key => (Slot::Key(None), Resource::NoKey(&key)),
        About::Tenant => {
            let tenant = Resource::Tenant(&prepared.tenant);
            (prepared.index.slot(&tenant), tenant)
        }
        About::Nothing => return May::Always,
    };
    let caller = Caller {
        tenant: prepared.tenant.clone(),
        record: Arc::clone(record),
        authentication: Authentication::Gateway,
        own: None,
    };
    let circumstances = Circumstances {
        context: &Context::EMPTY,
        request: &Context::EMPTY,
        now: Timestamp::from_micros(0),
        source: None,
        protocol: "",
    };
    let question = Question { caller: &caller, action, resource, circumstances };
    let candidates = prepared.index.candidates(&prepared.rules, record, action, slot);
    let (mut permits, mut forbids) = (May::Never, May::Never);
    for rule in candidates.iter().filter_map(|place| prepared.rule(*place)) {
        let applies = applies(prepared, rule, &question);
        let side = if rule.permits { &mut permits } else { &mut forbids };
        *side = applies.max(*side);
    }
    match (permits, forbids) {
        (May::Never, _) | (_, May::Always) => May::Never,
        (May::Always, May::Never) => May::Always,
        (May::Sometimes | May::Always, May::Never | May::Sometimes) => May::Sometimes,
    }
}

/// Whether a rule applies: known where it looks at the caller alone, otherwise at most whether it could.
fn applies(prepared: &Prepared, rule: &Rule, question: &Question<'_>) -> May {
    if rule.reads.resource() || rule.reads.circumstances() {
        let could = Who::new(rule).could_be(prepared, &question.caller.record);
        return if could { May::Sometimes } else { May::Never };
    }
    let Prepared { vocabulary, tenant, .. } = prepared;
    let outcome = || {
        let common = entities::common(vocabulary, &question.caller.record, question.action).ok()?;
        let (request, entities) = entities::pose(vocabulary, tenant, &common, &rule.reads, question).ok()?;
        let policies = PolicySet::from_policies([rule.policy.clone()]).ok()?;
        Some(evaluate(prepared, &request, &policies, &entities))
    };
    match outcome() {
        // A policy that fails denies, whichever sort it is.
        Some(outcome) if !outcome.failed.is_empty() => {
            if rule.permits {
                May::Never
            } else {
                May::Always
            }
        }
        Some(outcome) if outcome.permits.is_empty() && outcome.forbids.is_empty() => May::Never,
        Some(_) => May::Always,
        None => May::Sometimes,
    }
}
