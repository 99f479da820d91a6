//! One policy, parsed: its id, whom it can concern by its scope, and what its conditions look at.

use crate::fault::{self, Fault, Lines};
use crate::limits::{self, MAX_FINDINGS};
use crate::reads::Reads;
use crate::schema::{Actions, Sort, Vocabulary};
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
    ValidationMode, ValidationWarning,
};
use holdfast_core::PolicyId;
use std::collections::{HashMap, HashSet};

/// Which principals a scope can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    Any,
    Caller(Box<str>),
    Group(Box<str>),
}

/// Which resources a scope can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Any,
    Key(Box<str>),
    /// The tenant, or the keys in it.
    Tenant(Box<str>),
}

/// One policy of a tenant.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: PolicyId,
    /// The line at which it starts.
    pub(crate) line: usize,
    pub(crate) permits: bool,
    pub(crate) whom: Whom,
    pub(crate) actions: Actions,
    pub(crate) what: What,
    /// What its conditions look at.
    pub(crate) reads: Reads,
    /// Of how many bytes its text is.
    pub(crate) length: usize,
    pub(crate) policy: Policy,
}

/// A text that has been read: its rules in order, or everything that is wrong with it.
pub(crate) struct Text {
    pub(crate) rules: Vec<Rule>,
    /// What is odd about a rule, by its place, without being wrong.
    pub(crate) warnings: Vec<(usize, String, &'static str)>,
}

/// Parses and validates a text.
pub(crate) fn read(vocabulary: &Vocabulary, text: &str) -> Result<Text, Vec<Fault>> {
    limits::check(text).map_err(|fault| vec![fault])?;
    let lines = Lines::of(text);
    let set: PolicySet = text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        fault::of_parser(&lines, &DetailedError::from(&errors))
    })?;
    let (rules, faults) = rules(vocabulary, &lines, &set);
    if !faults.is_empty() {
        return Err(fault::first(faults));
    }
    let places: HashMap<&str, usize> =
        rules.iter().enumerate().map(|(place, rule)| (rule.id.as_str(), place)).collect();
    let renamed =
        PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone())).map_err(|error| {
            vec![Fault {
                policy: None,
                line: 1,
                detail: error.to_string(),
                remedy: "give every policy its own `@id`".to_owned(),
            }]
        })?;
    let result = vocabulary.validator.validate(&renamed, ValidationMode::Strict);
    let place_of = |id| places.get(fault::id_text(id)).copied();
    let mut errors: Vec<_> =
        result.validation_errors().map(|error| (place_of(error.policy_id()), error)).collect();
    if !errors.is_empty() {
        // Put into words are those of the first policies alone: there can be more errors than the text has bytes.
        errors.sort_by_key(|(place, _)| *place);
        let mut faults = HashSet::new();
        for (place, error) in errors {
            let rule = place.and_then(|place| rules.get(place));
            faults.insert(fault::of_validator(&lines, error, rule.map_or(0, |rule| start(&rule.policy))));
            if faults.len() > MAX_FINDINGS {
                break;
            }
        }
        return Err(fault::first(faults.into_iter().collect()));
    }
    let mut warnings: Vec<_> = result
        .validation_warnings()
        .filter_map(|warning: &ValidationWarning| {
            let (detail, remedy) = fault::of_warning(warning);
            Some((place_of(warning.policy_id())?, detail, remedy))
        })
        .collect();
    warnings.sort();
    warnings.dedup();
    Ok(Text { rules, warnings })
}

/// Names each policy by its `@id` and takes its scope apart.
fn rules(vocabulary: &Vocabulary, lines: &Lines, set: &PolicySet) -> (Vec<Rule>, Vec<Fault>) {
    let mut faults = Vec::new();
    for template in set.templates() {
        let from = template.as_ref().loc().map_or(0, |loc| loc.start());
        faults.push(Fault {
            policy: template.annotation("id").and_then(|id| id.parse().ok()),
            line: lines.line(from),
            detail: "a policy with a slot such as `?principal` means nothing by itself".to_owned(),
            remedy: "write the caller, group or key in its place".to_owned(),
        });
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(|policy| start(policy));
    let mut stands_at: HashMap<PolicyId, usize> = HashMap::new();
    let mut rules = Vec::with_capacity(policies.len());
    for policy in policies {
        let at = lines.line(start(policy));
        match rule(vocabulary, policy, at) {
            Err(fault) => faults.push(fault),
            Ok(rule) => {
                if let Some(first) = stands_at.insert(rule.id.clone(), at) {
                    faults.push(Fault {
                        policy: Some(rule.id.clone()),
                        line: at,
                        detail: format!("the id stands at line {first} already"),
                        remedy: "give every policy its own `@id`: decisions and the audit log name it"
                            .to_owned(),
                    });
                }
                rules.push(rule);
            }
        }
    }
    (rules, faults)
}

fn start(policy: &Policy) -> usize {
    policy.as_ref().loc().map_or(0, |loc| loc.start())
}

fn rule(vocabulary: &Vocabulary, policy: &Policy, line: usize) -> Result<Rule, Fault> {
    let refuse = |detail: String, remedy: String| Fault { policy: None, line, detail, remedy };
    let id = match policy.annotation("id") {
        None => {
            return Err(refuse(
                "a policy has no id".to_owned(),
                "write `@id(\"…\")` in front of `permit` or `forbid`: decisions and the audit log name it"
                    .to_owned(),
            ));
        }
        Some(id) => id.parse::<PolicyId>().map_err(|_| {
            refuse(
                format!("`{}` cannot be the id of a policy", id.escape_debug()),
                format!("write {}", PolicyId::GRAMMAR),
            )
        })?,
    };
    let named = policy.new_id(cedar_policy::PolicyId::new(id.as_str()));
    let reads = if named.has_non_scope_constraint() {
        // Made from the parsed form: the text's own would be parsed once more.
        let json = Policy::from(named.as_ref().clone()).to_json().map_err(|error| Fault {
            policy: Some(id.clone()),
            line,
            detail: error.to_string(),
            remedy: "write it more simply".to_owned(),
        })?;
        Reads::of_policy(&json)
    } else {
        Reads::default()
    };
    Ok(Rule {
        permits: matches!(named.effect(), Effect::Permit),
        whom: whom(vocabulary, named.principal_constraint()),
        actions: actions(named.action_constraint()),
        what: what(vocabulary, named.resource_constraint()),
        reads,
        length: policy.as_ref().loc().map_or(limits::MAX_POLICY, |loc| loc.end().saturating_sub(loc.start())),
        policy: named,
        id,
        line,
    })
}

/// What a scope names. `Any` where it names nothing that we look up by: that is never too little.
fn whom(vocabulary: &Vocabulary, scope: PrincipalConstraint) -> Whom {
    let uid = match scope {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => return Whom::Any,
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            uid
        }
    };
    match vocabulary.sort(&uid) {
        Sort::Caller => Whom::Caller(name(&uid)),
        Sort::Group => Whom::Group(name(&uid)),
        Sort::Key | Sort::Tenant | Sort::Other => Whom::Any,
    }
}

fn what(vocabulary: &Vocabulary, scope: ResourceConstraint) -> What {
    let uid = match scope {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => return What::Any,
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => uid,
    };
    match vocabulary.sort(&uid) {
        Sort::Key => What::Key(name(&uid)),
        Sort::Tenant => What::Tenant(name(&uid)),
        Sort::Caller | Sort::Group | Sort::Other => What::Any,
    }
}

fn actions(scope: ActionConstraint) -> Actions {
    match scope {
        ActionConstraint::Any => Actions::all(),
        ActionConstraint::Eq(uid) => Actions::named(uid.id().unescaped()),
        ActionConstraint::In(uids) => {
            uids.iter().fold(Actions::NONE, |set, uid| set.or(Actions::named(uid.id().unescaped())))
        }
    }
}

fn name(uid: &EntityUid) -> Box<str> {
    uid.id().unescaped().into()
}
