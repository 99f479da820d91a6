//! Why the policy decides as it does, for a person.

use crate::decide::{decide, evaluate};
use crate::entities;
use crate::prepared::Prepared;
use crate::rule::Rule;
use cedar_policy::PolicySet;
use holdfast_core::port::{Question, Resource};
use holdfast_core::query::Explanation;

/// What one policy that can apply says to a question.
enum Says {
    Applies,
    DoesNotApply,
    Fails(String),
}

pub(crate) fn explain(prepared: &Prepared, question: &Question<'_>) -> Explanation {
    let decision = decide(prepared, question);
    let slot = prepared.index.slot(&question.resource);
    let record = &question.caller.record;
    let candidates = prepared.index.candidates(&prepared.rules, record, question.action, slot);
    let considered: Vec<(&Rule, Says)> = candidates
        .iter()
        .filter_map(|place| prepared.rule(*place))
        .map(|rule| (rule, says(prepared, question, rule)))
        .collect();
    let mut reasons = vec![verdict(&considered, decision.allowed, decision.failed)];
    if let Resource::NoKey(name) = question.resource {
        reasons.push(format!("there is no key `{name}`, so conditions on its attributes cannot be met"));
    }
    for (rule, says) in &considered {
        let effect = if rule.permits { "permit" } else { "forbid" };
        let said = match says {
            Says::Applies if rule.permits => "permits it".to_owned(),
            Says::Applies => "forbids it".to_owned(),
            Says::DoesNotApply => format!("would {effect} it, but its conditions are not met"),
            Says::Fails(why) => format!("cannot be evaluated, which denies: {why}"),
        };
        reasons.push(format!("policy `{}` (line {}) {said}", rule.id, rule.line));
    }
    match prepared.len().saturating_sub(considered.len()) {
        0 => {}
        1 => reasons.push("1 policy concerns other callers, actions or keys".to_owned()),
        others => reasons.push(format!("{others} policies concern other callers, actions or keys")),
    }
    Explanation {
        allowed: decision.allowed,
        policies: decision.policies.iter().map(ToString::to_string).collect(),
        reasons,
    }
}

fn verdict(considered: &[(&Rule, Says)], allowed: bool, failed: bool) -> String {
    let forbidden = considered.iter().any(|(rule, says)| !rule.permits && matches!(says, Says::Applies));
    if allowed {
        "allowed: a policy permits it and none forbids it"
    } else if forbidden {
        "denied: a policy forbids it, and that outweighs any that permits it"
    } else if failed {
        "denied: a policy that can apply cannot be evaluated"
    } else if considered.iter().all(|(rule, _)| !rule.permits) {
        "denied: no policy speaks of this caller, action and key"
    } else {
        "denied: no policy permits it"
    }
    .to_owned()
}

/// Evaluates one policy alone.
fn says(prepared: &Prepared, question: &Question<'_>, rule: &Rule) -> Says {
    let Prepared { vocabulary, tenant, .. } = prepared;
    let alone = || -> Result<_, Box<dyn core::error::Error + Send + Sync>> {
        let common = entities::common(vocabulary, &question.caller.record, question.action)?;
        let (request, entities) = entities::pose(vocabulary, tenant, &common, &rule.reads, question)?;
        let policies = PolicySet::from_policies([rule.policy.clone()])?;
        let response = cedar_policy::Authorizer::new().is_authorized(&request, &policies, &entities);
        let failure = response.diagnostics().errors().next().map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.inner().to_string(),
        });
        Ok((evaluate(prepared, &request, &policies, &entities), failure))
    };
    match alone() {
        Err(error) => Says::Fails(error.to_string()),
        Ok((_, Some(failure))) => Says::Fails(failure),
        Ok((outcome, None)) if outcome.permits.is_empty() && outcome.forbids.is_empty() => Says::DoesNotApply,
        Ok((_, None)) => Says::Applies,
    }
}
