//! What a policy should not do although it is valid: let its author use a key, lock custodians out, or mean nothing.

mod lockout;
mod speech;
mod who;

use crate::limits::MAX_FINDINGS;
use crate::prepared::Prepared;
use crate::rule::{Rule, What};
use crate::schema::Actions;
use holdfast_core::action::{Action, Group};
use holdfast_core::caller::{Caller, CallerKind, CallerRecord};
use holdfast_core::port::Finding;
use std::sync::Arc;
use who::{Who, forbidden, stranger};

/// Everything found, refusals first, in the order of the policies.
pub(crate) fn check(prepared: &Prepared, author: &Caller, callers: &[Arc<CallerRecord>]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = prepared
        .warnings
        .iter()
        .filter_map(|(place, detail, remedy)| {
            Some(warning(prepared.rules.get(*place)?, detail.clone(), *remedy))
        })
        .collect();
    let forbidden = forbidden(prepared, &author.record);
    let known = speech::Known::of(callers);
    let whom: Vec<Who<'_>> = prepared.rules.iter().map(Who::new).collect();
    for (rule, who) in prepared.rules.iter().zip(&whom) {
        findings.extend(author_uses(prepared, rule, who, author, forbidden));
        findings.extend(without_effect(rule, &known));
        findings.extend(every_key(prepared, rule, who));
        findings.extend(speech::unknown_names(prepared, rule, &known));
        findings.extend(speech::unknown_values(rule));
    }
    findings.extend(lockout::locked_out(prepared, &whom, callers));
    findings.sort_by_key(|finding| !finding.refuses);
    if findings.len() > MAX_FINDINGS {
        findings.truncate(MAX_FINDINGS);
        let detail = format!("more is doubtful than these first {MAX_FINDINGS} things");
        let remedy = "mend these, and check it again".to_owned();
        findings.push(Finding { refuses: false, policy: None, detail, remedy });
    }
    findings
}

fn refusal(rule: &Rule, detail: String, remedy: impl Into<String>) -> Finding {
    Finding { refuses: true, policy: Some(rule.id.clone()), detail, remedy: remedy.into() }
}

fn warning(rule: &Rule, detail: String, remedy: impl Into<String>) -> Finding {
    Finding { refuses: false, policy: Some(rule.id.clone()), detail, remedy: remedy.into() }
}

/// Refused where the policy picks out its author, warned of where it permits everybody: that callers of the author's kind use no key is
/// held elsewhere, whatever a policy says, but who writes it for themselves means something else.
fn author_uses(
    prepared: &Prepared,
    rule: &Rule,
    who: &Who<'_>,
    author: &Caller,
    forbidden: Actions,
) -> Option<Finding> {
    let (record, kind) = (&author.record, author.kind());
    if !rule.permits || kind.may(Group::Use) {
        return None;
    }
    let uses = rule.actions.and(Actions::group(Group::Use)).without(forbidden);
    if uses.is_empty() || !who.could_be(prepared, record) {
        return None;
    }
    if stranger(prepared, kind).is_some_and(|stranger| who.could_be(prepared, &stranger)) {
        let detail = format!("permits {} to every caller, custodians included", list(uses));
        let remedy = "add `when { principal.kind == \"application\" }`; that custodians use no key is held whatever a policy says, but better said here too";
        return Some(warning(rule, detail, remedy));
    }
    let detail = format!("would let its author, `{}`, use a key: it permits {}", record.name, list(uses));
    let remedy = "whoever administers keys must not use them: permit it to an application, or to a group without custodians";
    Some(refusal(rule, detail, remedy))
}

/// A permit for a caller whose kind can never do it.
fn without_effect(rule: &Rule, known: &speech::Known<'_>) -> Option<Finding> {
    let crate::rule::Whom::Caller(name) = &rule.whom else { return None };
    let record = known.callers.get(&**name)?;
    let possible = rule.actions.iter().any(|action| record.kind.may(action.group()));
    (rule.permits && !possible).then(|| {
        let detail = format!(
            "permits {} to `{name}`, who is of kind `{}` and can never do that",
            list(rule.actions),
            record.kind.name()
        );
        warning(rule, detail, "permit it to a caller of another kind, or remove the policy")
    })
}

/// A permit to use whatever key there is or will be.
fn every_key(prepared: &Prepared, rule: &Rule, who: &Who<'_>) -> Option<Finding> {
    let uses = rule.actions.and(Actions::group(Group::Use)).without(Actions::NONE.with(Action::Random));
    let everywhere = match &rule.what {
        What::Any => true,
        What::Tenant(tenant) => **tenant == *prepared.tenant.as_str(),
        What::Key(_) => false,
    };
    if !rule.permits || uses.is_empty() || !everywhere || rule.reads.resource() {
        return None;
    }
    who.could_be_an_application(prepared).then(|| {
        let detail = format!("permits {} with every key, also those created later", list(uses));
        let remedy = "name the key, `resource == Holdfast::Key::\"…\"`, or ask for a label, `resource.hasTag(\"team\") && resource.getTag(\"team\") == \"…\"`";
        warning(rule, detail, remedy)
    })
}

/// A few names of actions, for a person.
fn list(actions: Actions) -> String {
    for (group, name) in [(Group::Use, "use"), (Group::Administer, "administer"), (Group::Read, "read")] {
        if actions == Actions::group(group) {
            return format!("all of `{name}`");
        }
    }
    let names: Vec<String> = actions.iter().map(|action| format!("`{}`", action.name())).collect();
    let (shown, rest) = names.split_at(names.len().min(4));
    match rest.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A registration that exists only to ask whether somebody like this could be meant.
fn imagined(name: &str, kind: CallerKind, groups: &[&str]) -> Option<CallerRecord> {
    Some(CallerRecord {
        name: name.parse().ok()?,
        kind,
        groups: groups.iter().filter_map(|group| group.parse().ok()).collect(),
        credentials: Vec::new(),
        tokens: Vec::new(),
        suspended: false,
    })
}
