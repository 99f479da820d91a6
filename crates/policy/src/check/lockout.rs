//! Whether somebody could still change the policy and order every stop.

use super::who::Who;
use crate::decide::evaluate;
use crate::entities;
use crate::index::Slot;
use crate::prepared::Prepared;
use crate::reads::Reads;
use crate::schema::{About, about, asked};
use cedar_policy::{Effect, Policy, PolicySet};
use holdfast_core::KeyName;
use holdfast_core::action::{Action, Group};
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::port::{Circumstances, Finding, Question, Resource};
use holdfast_core::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// Whether a caller may do something to a key that no policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum May {
    Never,
    /// It depends on the key or on the circumstances.
    Sometimes,
    Always,
}

/// So many policies are looked at for all custodians and actions together. A text that permits to custodians what they need is looked at once
/// for each action, however many custodians there are.
const MAX_LOOKS: usize = 1_000_000;

const REMEDY: &str = "permit it to custodians without conditions: `permit (principal, action in Holdfast::Action::\"administer\", resource) when { principal.kind == \"custodian\" };`";

/// Refuses a policy under which nobody could change it any more, or order a stop.
pub(super) fn locked_out(
    prepared: &Prepared,
    whom: &[Who<'_>],
    callers: &[Arc<CallerRecord>],
) -> Vec<Finding> {
    within(MAX_LOOKS, prepared, whom, callers)
}

fn within(
    mut looks: usize,
    prepared: &Prepared,
    whom: &[Who<'_>],
    callers: &[Arc<CallerRecord>],
) -> Vec<Finding> {
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
    let actions: Vec<Action> =
        asked().filter(|action| action.is_stop() || *action == Action::SetPolicy).collect();
    let mut best = vec![May::Never; actions.len()];
    for record in custodians {
        let mut could_be = HashMap::new();
        for (action, best) in actions.iter().zip(&mut best).filter(|(_, best)| **best != May::Always) {
            let Ok(key) = prepared.fresh_name.parse::<KeyName>() else { continue };
            let (slot, resource) = match about(*action) {
                About::Key => (Slot::Key(None), Resource::NoKey(&key)),
                About::Tenant | About::Nothing => {
                    let tenant = Resource::Tenant(&prepared.tenant);
                    (prepared.index.slot(&tenant), tenant)
                }
            };
            let candidates = prepared.index.candidates(&prepared.rules, record, *action, slot);
            let Some(left) = looks.checked_sub(candidates.len()) else {
                let detail = "it cannot be told whether a custodian could still change it and order every stop: too many policies speak of that";
                let (detail, remedy) = (detail.to_owned(), REMEDY.to_owned());
                return vec![Finding { refuses: true, policy: None, detail, remedy }];
            };
            looks = left;
            let sides = Sides::of(prepared, whom, record, &candidates, &mut could_be);
            *best = sides.may(prepared, record, *action, resource).max(*best);
        }
    }
    let those = |may: May| -> Vec<String> {
        let found = actions.iter().zip(&best).filter(|(_, best)| **best == may);
        found.map(|(action, _)| format!("`{}`", action.name())).collect()
    };
    let finding = |refuses, actions: Vec<String>, what: &str| {
        let detail = format!("{what} {}", actions.join(", "));
        (!actions.is_empty()).then(|| Finding { refuses, policy: None, detail, remedy: REMEDY.to_owned() })
    };
    let never = finding(
        true,
        those(May::Never),
        "no custodian could any more do this to keys and callers that no policy names:",
    );
    let sometimes = finding(
        false,
        those(May::Sometimes),
        "custodians could do this under conditions only, perhaps not when it matters:",
    );
    never.into_iter().chain(sometimes).collect()
}

/// The policies that permit, or those that forbid.
#[derive(Default)]
struct Side<'a> {
    /// Those that look at the caller alone: known to apply or not.
    plain: Vec<&'a Policy>,
    /// Whether one of the others could apply.
    could: bool,
}

#[derive(Default)]
struct Sides<'a> {
    permits: Side<'a>,
    forbids: Side<'a>,
}

impl<'a> Sides<'a> {
    /// `could_be` remembers which policies could mean the caller, whatever the action.
    fn of(
        prepared: &'a Prepared,
        whom: &[Who<'_>],
        record: &CallerRecord,
        candidates: &[u32],
        could_be: &mut HashMap<u32, bool>,
    ) -> Self {
        let mut sides = Self::default();
        for place in candidates {
            let Some(rule) = prepared.rule(*place) else { continue };
            let side = if rule.permits { &mut sides.permits } else { &mut sides.forbids };
            if !rule.reads.resource() && !rule.reads.circumstances() {
                side.plain.push(&rule.policy);
            } else if !side.could {
                let who = usize::try_from(*place).ok().and_then(|place| whom.get(place));
                let ask = || who.is_none_or(|who| who.could_be(prepared, record));
                side.could = *could_be.entry(*place).or_insert_with(ask);
            }
        }
        sides
    }

    fn may(
        &self,
        prepared: &Prepared,
        record: &Arc<CallerRecord>,
        action: Action,
        resource: Resource<'_>,
    ) -> May {
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
        match self.permits.applies(prepared, &question) {
            May::Never => May::Never,
            permits @ (May::Sometimes | May::Always) => match self.forbids.applies(prepared, &question) {
                May::Never => permits,
                May::Sometimes => May::Sometimes,
                May::Always => May::Never,
            },
        }
    }
}

impl Side<'_> {
    /// Whether one of them applies: known of those that look at the caller alone, otherwise at most whether it could.
    fn applies(&self, prepared: &Prepared, question: &Question<'_>) -> May {
        let otherwise = if self.could { May::Sometimes } else { May::Never };
        if self.plain.is_empty() {
            return otherwise;
        }
        let Prepared { vocabulary, tenant, .. } = prepared;
        let outcome = || {
            let common = entities::common(vocabulary, &question.caller.record, question.action).ok()?;
            let (request, entities) =
                entities::pose(vocabulary, tenant, &common, &Reads::default(), question).ok()?;
            let policies = PolicySet::from_policies(self.plain.iter().copied().cloned()).ok()?;
            Some(evaluate(prepared, &request, &policies, &entities))
        };
        match outcome() {
            Some(outcome) if !outcome.permits.is_empty() || !outcome.forbids.is_empty() => May::Always,
            // A policy that fails denies, whichever sort it is.
            Some(outcome) if !outcome.failed.is_empty() => match self.plain.first().map(|it| it.effect()) {
                Some(Effect::Forbid) => May::Always,
                Some(Effect::Permit) | None => otherwise,
            },
            Some(_) => otherwise,
            None => May::Sometimes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::imagined;
    use crate::{CedarPolicy, DEFAULT_TENANT_POLICY};

    fn refused(text: &str, custodians: usize, looks: usize) -> Vec<String> {
        let prepared = CedarPolicy::new().unwrap().prepare(&"acme".parse().unwrap(), text).unwrap();
        let whom: Vec<Who<'_>> = prepared.rules.iter().map(Who::new).collect();
        let custodian = |number| imagined(&format!("carol-{number}"), CallerKind::Custodian, &[]).unwrap();
        let callers: Vec<_> = (0..custodians).map(custodian).map(Arc::new).collect();
        let found = within(looks, &prepared, &whom, &callers).into_iter();
        found.filter(|finding| finding.refuses).map(|finding| finding.detail).collect()
    }

    #[test]
    fn what_nobody_is_permitted_is_looked_for_within_a_bound() {
        assert_eq!(refused(DEFAULT_TENANT_POLICY, 1000, 30), [""; 0], "the first custodian may");
        let forbids = r#"@id("a") forbid (principal, action, resource) when { principal.name == "x" };"#;
        assert!(refused(forbids, 5, 50)[0].starts_with("no custodian could any more"));
        assert!(refused(forbids, 1000, 50)[0].starts_with("it cannot be told"));
    }
}
