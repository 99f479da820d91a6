//! What a policy's conditions look at: what is not looked at cannot change the answer, so answers that differ only there are shared.

use holdfast_core::key::{Key, Labels};
use holdfast_core::port::Resource;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// An attribute of a key, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyAttribute {
    Name = 1,
    Algorithm = 2,
    Purpose = 4,
    State = 8,
    Exportable = 16,
    Custody = 32,
    EmergencyCopy = 64,
}

impl KeyAttribute {
    const ALL: [(&'static str, Self); 7] = [
        ("name", Self::Name),
        ("algorithm", Self::Algorithm),
        ("purpose", Self::Purpose),
        ("state", Self::State),
        ("exportable", Self::Exportable),
        ("custody", Self::Custody),
        ("emergency_copy", Self::EmergencyCopy),
    ];
}

/// A field of the context, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circumstance {
    Authentication = 1,
    Encryption = 2,
    Time = 4,
    Hour = 8,
    Weekday = 16,
    Source = 32,
    Protocol = 64,
    Request = 128,
}

impl Circumstance {
    const ALL: [(&'static str, Self); 8] = [
        ("authentication", Self::Authentication),
        ("encryption", Self::Encryption),
        ("time", Self::Time),
        ("hour", Self::Hour),
        ("weekday", Self::Weekday),
        ("source", Self::Source),
        ("protocol", Self::Protocol),
        ("request", Self::Request),
    ];
}

/// Which labels are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelReads {
    Named(BTreeSet<Box<str>>),
    All,
}

/// What conditions look at. Never less than they do: what is not understood counts as looking at everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reads {
    attributes: u8,
    labels: LabelReads,
    circumstances: u8,
}

impl Default for Reads {
    fn default() -> Self {
        Self { attributes: 0, labels: LabelReads::Named(BTreeSet::new()), circumstances: 0 }
    }
}

impl Reads {
    /// What the conditions of a policy look at, from its JSON form (Cedar's documentation, "JSON policy format").
    pub(crate) fn of_policy(policy: &Value) -> Self {
        let mut reads = Self::default();
        let conditions = policy.get("conditions").and_then(Value::as_array);
        for body in conditions.into_iter().flatten().filter_map(|condition| condition.get("body")) {
            reads.walk(body);
        }
        reads
    }

    pub(crate) fn looks_at(&self, attribute: KeyAttribute) -> bool {
        self.attributes & attribute as u8 != 0
    }

    pub(crate) fn looks_at_circumstance(&self, field: Circumstance) -> bool {
        self.circumstances & field as u8 != 0
    }

    /// Whether anything of the request's circumstances matters.
    pub(crate) fn circumstances(&self) -> bool {
        self.circumstances != 0
    }

    /// Whether anything of the resource matters beyond which one the scope names.
    pub(crate) fn resource(&self) -> bool {
        self.attributes != 0 || !matches!(&self.labels, LabelReads::Named(names) if names.is_empty())
    }

    pub(crate) fn labels<'a>(&'a self, of: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        let looked_at = move |name: &str| match &self.labels {
            LabelReads::Named(names) => names.contains(name),
            LabelReads::All => true,
        };
        of.iter().map(|(name, value)| (&**name, &**value)).filter(move |(name, _)| looked_at(name))
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { attributes, labels, circumstances } = other;
        self.attributes |= attributes;
        self.circumstances |= circumstances;
        match (&mut self.labels, labels) {
            (LabelReads::Named(mine), LabelReads::Named(theirs)) => mine.extend(theirs.iter().cloned()),
            (LabelReads::Named(_), LabelReads::All) => self.labels = LabelReads::All,
            (LabelReads::All, LabelReads::Named(_) | LabelReads::All) => {}
        }
    }

    /// Writes down what is looked at of a resource, so that two resources that give the same bytes give the same answers. The type of
    /// the resource and what the scopes say of it are not part of it.
    pub(crate) fn describe(&self, resource: &Resource<'_>, out: &mut impl FnMut(&[u8])) {
        let text = |out: &mut dyn FnMut(&[u8]), text: &str| {
            out(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            out(text.as_bytes());
        };
        let name = match resource {
            Resource::Key(key) => key.name.as_str(),
            Resource::NoKey(name) => name.as_str(),
            Resource::Tenant(tenant) => tenant.as_str(),
        };
        if self.looks_at(KeyAttribute::Name) {
            text(out, name);
        }
        let Resource::Key(key) = resource else { return };
        let Key { algorithm, purpose, state, exportable, emergency_copy, labels, custody, .. } = key;
        for (attribute, value) in [
            (KeyAttribute::Algorithm, algorithm.code()),
            (KeyAttribute::Purpose, *purpose as u8),
            (KeyAttribute::State, *state as u8),
            (KeyAttribute::Exportable, u8::from(*exportable)),
            (KeyAttribute::Custody, *custody as u8),
            (KeyAttribute::EmergencyCopy, u8::from(*emergency_copy)),
        ] {
            if self.looks_at(attribute) {
                out(&[value]);
            }
        }
        for (name, value) in self.labels(labels) {
            text(out, name);
            text(out, value);
        }
    }

    fn walk(&mut self, node: &Value) {
        match node {
            Value::Object(fields) => fields.iter().for_each(|(kind, body)| self.walk_kind(kind, body)),
            Value::Array(nodes) => nodes.iter().for_each(|node| self.walk(node)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn walk_kind(&mut self, kind: &str, body: &Value) {
        match (kind, body) {
            ("Value", _) => {}
            ("Var", Value::String(variable)) => self.whole(variable),
            // Here the keys are the author's, not the language's.
            ("Record", Value::Object(fields)) => fields.values().for_each(|node| self.walk(node)),
            ("." | "has", Value::Object(fields)) => self.attribute(fields),
            ("hasTag" | "getTag", Value::Object(fields)) => self.label(fields),
            ("==" | "!=" | "in", Value::Object(fields)) => {
                fields.values().for_each(|operand| self.operand(operand));
            }
            ("is", Value::Object(fields)) => {
                if let Some(left) = fields.get("left").filter(|left| variable(left) != Some("resource")) {
                    self.walk(left);
                }
                if let Some(ancestor) = fields.get("in") {
                    self.attributes |= KeyAttribute::Name as u8;
                    self.walk(ancestor);
                }
            }
            (_, Value::Object(fields)) => fields.values().for_each(|node| self.walk(node)),
            (_, other) => self.walk(other),
        }
    }

    /// An operand of a comparison: of an entity, this looks at nothing but which one it is.
    fn operand(&mut self, node: &Value) {
        match variable(node) {
            Some("resource") => self.attributes |= KeyAttribute::Name as u8,
            Some(_) | None => self.walk(node),
        }
    }

    fn attribute(&mut self, fields: &Map<String, Value>) {
        let Some(left) = fields.get("left") else { return };
        let name = fields.get("attr").and_then(Value::as_str).unwrap_or_default();
        match variable(left) {
            Some("resource") => match KeyAttribute::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, attribute)) => self.attributes |= *attribute as u8,
                None => self.whole("resource"),
            },
            Some("context") => match Circumstance::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, field)) => self.circumstances |= *field as u8,
                None => self.whole("context"),
            },
            Some(_) | None => self.walk(left),
        }
    }

    fn label(&mut self, fields: &Map<String, Value>) {
        let (Some(left), Some(right)) = (fields.get("left"), fields.get("right")) else { return };
        if variable(left) != Some("resource") {
            self.walk(left);
        } else {
            match (right.get("Value").and_then(Value::as_str), &mut self.labels) {
                (Some(name), LabelReads::Named(names)) => {
                    names.insert(name.into());
                }
                (Some(_), LabelReads::All) => {}
                (None, _) => self.labels = LabelReads::All,
            }
        }
        self.walk(right);
    }

    /// A variable that stands by itself: whatever becomes of it may look at anything.
    fn whole(&mut self, variable: &str) {
        match variable {
            "resource" => {
                self.attributes = u8::MAX;
                self.labels = LabelReads::All;
            }
            "context" => self.circumstances = u8::MAX,
            _ => {}
        }
    }
}

/// The variable that an expression is, if it is nothing else.
pub(crate) fn variable(node: &Value) -> Option<&str> {
    node.get("Var").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn reads(condition: &str) -> Reads {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        Reads::of_policy(&Policy::parse(None, text).unwrap().to_json().unwrap())
    }

    #[test]
    fn conditions_on_the_caller_look_at_nothing_else() {
        let it = reads(r#"principal.kind == "custodian" && principal in Holdfast::Group::"a""#);
        assert!(!it.resource() && !it.circumstances());
        assert!(!reads("resource is Holdfast::Key").resource());
        assert!(!reads(r#""context" == "resource""#).circumstances());
    }

    #[test]
    fn attributes_labels_and_fields_are_told_apart() {
        let it = reads(r#"resource.state == "active" && resource.hasTag("team") && context.hour > 8"#);
        assert!(it.looks_at(KeyAttribute::State) && !it.looks_at(KeyAttribute::Name));
        assert!(
            it.looks_at_circumstance(Circumstance::Hour) && !it.looks_at_circumstance(Circumstance::Time)
        );
        assert_eq!(it.labels, LabelReads::Named(BTreeSet::from(["team".into()])));
    }

    #[test]
    fn what_is_handed_on_whole_looks_at_everything() {
        for condition in [
            "(if true then resource else resource).exportable",
            "{Var: resource}.Var.exportable",
            "[resource].containsAny([resource])",
        ] {
            let it = reads(condition);
            assert!(it.looks_at(KeyAttribute::Custody) && it.labels == LabelReads::All, "{condition}");
        }
        assert_eq!(reads("resource.getTag(principal.name) == \"x\"").labels, LabelReads::All);
        assert!(reads("{a: context}.a.hour > 3").looks_at_circumstance(Circumstance::Source));
    }

    #[test]
    fn comparing_a_resource_looks_at_its_name() {
        for condition in [
            r#"resource == Holdfast::Key::"a""#,
            r#"resource in [Holdfast::Key::"a"]"#,
            r#"resource is Holdfast::Key in Holdfast::Tenant::"t""#,
        ] {
            let it = reads(condition);
            assert!(it.looks_at(KeyAttribute::Name) && !it.looks_at(KeyAttribute::State), "{condition}");
        }
    }
}
