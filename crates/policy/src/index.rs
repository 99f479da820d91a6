//! Which policies can apply to a question, found by what their scopes name and not by looking at each.

use crate::rule::{Rule, What, Whom};
use holdfast_core::TenantId;
use holdfast_core::action::Action;
use holdfast_core::caller::CallerRecord;
use holdfast_core::port::Resource;
use std::collections::HashMap;

/// A principal scope, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum By {
    Any,
    Caller(u32),
    Group(u32),
}

/// A resource scope, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum On {
    Any,
    Key(u32),
    Tenant(u32),
}

/// What the index can tell apart of a resource: its type, and which one if any policy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Key(Option<u32>),
    NoKey(Option<u32>),
    Tenant(Option<u32>),
}

/// The policies of one tenant by their scopes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    callers: HashMap<Box<str>, u32>,
    groups: HashMap<Box<str>, u32>,
    keys: HashMap<Box<str>, u32>,
    tenants: HashMap<Box<str>, u32>,
    /// The number under which policies name the tenant itself.
    own: Option<u32>,
    buckets: HashMap<(By, On), Vec<u32>>,
}

impl Index {
    pub(crate) fn new(tenant: &TenantId, rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in (0u32..).zip(rules) {
            let by = match &rule.whom {
                Whom::Any => By::Any,
                Whom::Caller(name) => By::Caller(number(&mut index.callers, name)),
                Whom::Group(name) => By::Group(number(&mut index.groups, name)),
            };
            let on = match &rule.what {
                What::Any => On::Any,
                What::Key(name) => On::Key(number(&mut index.keys, name)),
                What::Tenant(name) => On::Tenant(number(&mut index.tenants, name)),
            };
            index.buckets.entry((by, on)).or_default().push(place);
        }
        index.own = index.tenants.get(tenant.as_str()).copied();
        index
    }

    pub(crate) fn slot(&self, resource: &Resource<'_>) -> Slot {
        match resource {
            Resource::Key(key) => Slot::Key(self.keys.get(key.name.as_str()).copied()),
            Resource::NoKey(name) => Slot::NoKey(self.keys.get(name.as_str()).copied()),
            Resource::Tenant(tenant) => Slot::Tenant(self.tenants.get(tenant.as_str()).copied()),
        }
    }

    /// The places of all policies that can apply, in order. Never too few: Cedar looks at their scopes again.
    pub(crate) fn candidates(
        &self,
        rules: &[Rule],
        record: &CallerRecord,
        action: Action,
        slot: Slot,
    ) -> Vec<u32> {
        let groups = record.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        let caller = self.callers.get(record.name.as_str());
        let by = core::iter::once(By::Any)
            .chain(caller.map(|number| By::Caller(*number)))
            .chain(groups.map(|number| By::Group(*number)));
        let (named, tenant) = match slot {
            Slot::Key(key) | Slot::NoKey(key) => (key.map(On::Key), self.own),
            Slot::Tenant(tenant) => (None, tenant),
        };
        let mut found = Vec::new();
        for by in by {
            for on in [Some(On::Any), named, tenant.map(On::Tenant)].into_iter().flatten() {
                let bucket = self.buckets.get(&(by, on)).map(Vec::as_slice).unwrap_or_default();
                let applies = |place: &&u32| {
                    usize::try_from(**place)
                        .ok()
                        .and_then(|place| rules.get(place))
                        .is_some_and(|rule| rule.actions.has(action))
                };
                found.extend(bucket.iter().filter(applies));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn number(numbers: &mut HashMap<Box<str>, u32>, name: &str) -> u32 {
    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    *numbers.entry(name.into()).or_insert(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule;
    use crate::schema::Vocabulary;
    use holdfast_core::KeyName;
    use holdfast_core::caller::CallerKind;
    use std::fmt::Write as _;

    /// Five policies about `app`, the group `g` and the key `k`, beside so many about other callers, groups and keys.
    fn among(others: usize) -> Vec<Rule> {
        let mut text = r#"
            @id("caller-key") permit (principal == Holdfast::Caller::"app", action, resource == Holdfast::Key::"k");
            @id("caller") permit (principal == Holdfast::Caller::"app", action == Holdfast::Action::"encrypt", resource);
            @id("group") permit (principal in Holdfast::Group::"g", action, resource in Holdfast::Tenant::"acme");
            @id("key") forbid (principal, action == Holdfast::Action::"encrypt", resource == Holdfast::Key::"k");
            @id("everything") forbid (principal, action, resource) when { principal.kind == "auditor" };
        "#
        .to_owned();
        for number in 0..others / 5 {
            let key = format!(r#"== Holdfast::Key::"k-{number}""#);
            for (place, (whom, what)) in [
                ("", &*key),
                (r#"== Holdfast::Caller::"app""#, &key),
                (r#"in Holdfast::Group::"g""#, &key),
                (&format!(r#"== Holdfast::Caller::"app-{number}""#), ""),
                (&format!(r#"in Holdfast::Group::"g-{number}""#), r#"== Holdfast::Key::"k""#),
            ]
            .into_iter()
            .enumerate()
            {
                let action = r#"action == Holdfast::Action::"encrypt""#;
                let id = format!("other-{number}-{place}");
                writeln!(text, r#"@id("{id}") permit (principal {whom}, {action}, resource {what});"#)
                    .unwrap();
            }
        }
        let rules = rule::read(&Vocabulary::new().unwrap(), &text).map(|text| text.rules);
        let rules = rules.unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(rules.len(), others + 5);
        rules
    }

    #[test]
    fn what_is_evaluated_does_not_grow_with_policies_about_others() {
        let record = CallerRecord {
            name: "app".parse().unwrap(),
            kind: CallerKind::Application,
            groups: vec!["g".parse().unwrap(), "h".parse().unwrap()],
            credentials: vec![],
            tokens: vec![],
            suspended: false,
        };
        for others in [0, 10_000] {
            let rules = among(others);
            let index = Index::new(&"acme".parse().unwrap(), &rules);
            for (action, key, expected) in [
                (Action::Encrypt, "k", &["caller-key", "caller", "group", "key", "everything"][..]),
                (Action::Decrypt, "k", &["caller-key", "group", "everything"]),
                (Action::Encrypt, "another", &["caller", "group", "everything"]),
            ] {
                let key: KeyName = key.parse().unwrap();
                let slot = index.slot(&Resource::NoKey(&key));
                let found = index.candidates(&rules, &record, action, slot);
                let found: Vec<&str> = found.iter().map(|place| rules[*place as usize].id.as_str()).collect();
                assert_eq!(found, expected, "{others} {key}");
            }
        }
    }
}
