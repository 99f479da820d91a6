//! What a policy's conditions look at: what is not looked at cannot change the answer, so answers that differ only there are shared.

use core::net::IpAddr;
use holdfast_core::context::Context;
use holdfast_core::key::{Key, Labels};
use holdfast_core::port::{Circumstances, Question, Resource};
use holdfast_core::time::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// About how many bytes each further set that has a tag's name takes for it: the name itself is shared.
const NAME_BYTES: usize = 48;

/// The most names of tags that are told apart where policies are taken together: of more, all tags count as looked at, so that a plan which knows
/// them is not too large to be remembered.
pub(crate) const MAX_NAMES: usize = 2048;

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
    Protocol = 128,
}

impl KeyAttribute {
    const ALL: [(&'static str, Self); 8] = [
        ("name", Self::Name),
        ("algorithm", Self::Algorithm),
        ("purpose", Self::Purpose),
        ("state", Self::State),
        ("exportable", Self::Exportable),
        ("custody", Self::Custody),
        ("emergency_copy", Self::EmergencyCopy),
        ("protocol", Self::Protocol),
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

/// Which tags of an entity are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagReads {
    /// The names are a policy's own, and shared by all that are merged from it.
    Named(BTreeSet<Arc<str>>),
    All,
}

impl Default for TagReads {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl TagReads {
    fn is_none(&self) -> bool {
        matches!(self, Self::Named(names) if names.is_empty())
    }

    fn len(&self) -> usize {
        match self {
            Self::Named(names) => names.len(),
            Self::All => 0,
        }
    }

    fn looks_at(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::All => true,
        }
    }

    fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Named(mine), Self::Named(theirs)) => {
                mine.extend(theirs.iter().cloned());
                if mine.len() > MAX_NAMES {
                    *self = Self::All;
                }
            }
            (Self::Named(_), Self::All) => *self = Self::All,
            (Self::All, Self::Named(_) | Self::All) => {}
        }
    }

    /// The tag that a condition names, or all of them if it works the name out.
    fn add(&mut self, name: Option<&str>) {
        match (&mut *self, name) {
            (Self::Named(names), Some(name)) => {
                names.insert(name.into());
            }
            (Self::Named(_), None) => *self = Self::All,
            (Self::All, _) => {}
        }
    }
}

/// What conditions look at. Never less than they do: what is not understood counts as looking at everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    attributes: u8,
    labels: TagReads,
    circumstances: u8,
    encryption: TagReads,
    request: TagReads,
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

    /// Whether what is looked at of the circumstances can be the same another time: all of them, but the time itself.
    pub(crate) fn recurs(&self) -> bool {
        !self.looks_at_circumstance(Circumstance::Time)
    }

    /// Whether anything of the resource matters beyond which one the scope names.
    pub(crate) fn resource(&self) -> bool {
        self.attributes != 0 || !self.labels.is_none()
    }

    pub(crate) fn labels<'a>(&'a self, of: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = of.iter().map(|(name, value)| (&**name, &**value));
        pairs.filter(|(name, _)| self.labels.looks_at(name))
    }

    /// What is looked at of the encryption context.
    pub(crate) fn encryption<'a>(&'a self, of: &'a Context) -> impl Iterator<Item = (&'a str, &'a str)> {
        of.pairs().filter(|(name, _)| self.encryption.looks_at(name))
    }

    /// What is looked at of what the protocol says.
    pub(crate) fn request<'a>(&'a self, of: &'a Context) -> impl Iterator<Item = (&'a str, &'a str)> {
        of.pairs().filter(|(name, _)| self.request.looks_at(name))
    }

    /// About how many bytes it takes beside the policies that it is merged from.
    pub(crate) fn bytes(&self) -> usize {
        let Self { attributes: _, labels, circumstances: _, encryption, request } = self;
        let names = labels.len().saturating_add(encryption.len()).saturating_add(request.len());
        names.saturating_mul(NAME_BYTES)
    }

    /// Where the names of tags lie that it has.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<*const u8> {
        let names = |tags: &TagReads| match tags {
            TagReads::Named(names) => names.iter().map(|name| name.as_ptr()).collect(),
            TagReads::All => vec![],
        };
        [&self.labels, &self.encryption, &self.request].map(names).concat()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { attributes, labels, circumstances, encryption, request } = other;
        self.attributes |= attributes;
        self.circumstances |= circumstances;
        self.labels.merge(labels);
        self.encryption.merge(encryption);
        self.request.merge(request);
    }

    /// Writes down what is looked at of a question, so that two questions that give the same bytes get the same answers. The type of
    /// the resource and what the scopes say of it are not part of it, nor is the time: whoever looks at that remembers nothing.
    pub(crate) fn describe(&self, question: &Question<'_>, out: &mut impl FnMut(&[u8])) {
        if self.resource() {
            self.describe_resource(&question.resource, out);
        }
        if self.circumstances() {
            self.describe_circumstances(question, out);
        }
    }

    fn describe_resource(&self, resource: &Resource<'_>, out: &mut impl FnMut(&[u8])) {
        let (name, key) = match resource {
            Resource::Key(key) => (key.name.as_str(), Some(key)),
            Resource::NoKey(name) => (name.as_str(), None),
            Resource::Tenant(tenant) => (tenant.as_str(), None),
        };
        if self.looks_at(KeyAttribute::Name) {
            text(out, name);
        }
        let Some(key) = key else { return };
        let Key { algorithm, purpose, state, exportable, emergency_copy, protocol, labels, custody, .. } =
            &**key;
        for (attribute, value) in [
            (KeyAttribute::Algorithm, algorithm.code()),
            (KeyAttribute::Purpose, *purpose as u8),
            (KeyAttribute::State, *state as u8),
            (KeyAttribute::Exportable, u8::from(*exportable)),
            (KeyAttribute::Custody, *custody as u8),
            (KeyAttribute::EmergencyCopy, u8::from(*emergency_copy)),
            (KeyAttribute::Protocol, protocol.map_or(u8::MAX, |protocol| protocol as u8)),
        ] {
            if self.looks_at(attribute) {
                out(&[value]);
            }
        }
        tags(out, self.labels(labels));
    }

    fn describe_circumstances(&self, question: &Question<'_>, out: &mut impl FnMut(&[u8])) {
        let Circumstances { context, request, now, source, protocol } = &question.circumstances;
        if self.looks_at_circumstance(Circumstance::Authentication) {
            text(out, question.caller.authentication.name());
        }
        if self.looks_at_circumstance(Circumstance::Hour) {
            out(&[u8::try_from(hour(*now)).unwrap_or(u8::MAX)]);
        }
        if self.looks_at_circumstance(Circumstance::Weekday) {
            out(&[u8::try_from(weekday(*now)).unwrap_or(u8::MAX)]);
        }
        if self.looks_at_circumstance(Circumstance::Source) {
            match source.map(|source| source.to_canonical()) {
                Some(IpAddr::V4(address)) => {
                    out(&[4]);
                    out(&address.octets());
                }
                Some(IpAddr::V6(address)) => {
                    out(&[6]);
                    out(&address.octets());
                }
                None => out(&[0]),
            }
        }
        if self.looks_at_circumstance(Circumstance::Protocol) {
            text(out, protocol);
        }
        tags(out, self.encryption(context));
        tags(out, self.request(request));
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
                Some((_, field)) => {
                    self.circumstances |= *field as u8;
                    // Handed on as it is: whatever becomes of it may look at any tag.
                    if let Some(tags) = self.tags_of(*field) {
                        *tags = TagReads::All;
                    }
                }
                None => self.whole("context"),
            },
            Some(_) | None => self.walk(left),
        }
    }

    fn label(&mut self, fields: &Map<String, Value>) {
        let (Some(left), Some(right)) = (fields.get("left"), fields.get("right")) else { return };
        let name = right.get("Value").and_then(Value::as_str);
        if variable(left) == Some("resource") {
            self.labels.add(name);
        } else if let Some(field) = tagged_field(left) {
            self.circumstances |= field as u8;
            if let Some(tags) = self.tags_of(field) {
                tags.add(name);
            }
        } else {
            self.walk(left);
        }
        self.walk(right);
    }

    /// Which tags are looked at of the entity that a field of the context is, if it is one.
    fn tags_of(&mut self, field: Circumstance) -> Option<&mut TagReads> {
        match field {
            Circumstance::Encryption => Some(&mut self.encryption),
            Circumstance::Request => Some(&mut self.request),
            Circumstance::Authentication
            | Circumstance::Time
            | Circumstance::Hour
            | Circumstance::Weekday
            | Circumstance::Source
            | Circumstance::Protocol => None,
        }
    }

    /// A variable that stands by itself: whatever becomes of it may look at anything.
    fn whole(&mut self, variable: &str) {
        match variable {
            "resource" => {
                self.attributes = u8::MAX;
                self.labels = TagReads::All;
            }
            "context" => {
                self.circumstances = u8::MAX;
                self.encryption = TagReads::All;
                self.request = TagReads::All;
            }
            _ => {}
        }
    }
}

/// A text, told from what follows it by its length.
fn text(out: &mut impl FnMut(&[u8]), text: &str) {
    out(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out(text.as_bytes());
}

/// Tags, and where they end.
fn tags<'a>(out: &mut impl FnMut(&[u8]), tags: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in tags {
        out(&[1]);
        text(out, name);
        text(out, value);
    }
    out(&[0]);
}

/// The hour of the day, in UTC.
pub(crate) fn hour(now: Timestamp) -> u64 {
    now.seconds() / 3600 % 24
}

/// The day of the week, in UTC: 1 is Monday.
pub(crate) fn weekday(now: Timestamp) -> u64 {
    // The first of January 1970 was a Thursday.
    (now.seconds() / 86_400 + 3) % 7 + 1
}

/// The field of the context that an expression is, if it is an entity with tags and nothing else.
fn tagged_field(node: &Value) -> Option<Circumstance> {
    let fields = node.get(".")?;
    fields.get("left").and_then(variable).filter(|variable| *variable == "context")?;
    match fields.get("attr").and_then(Value::as_str)? {
        "encryption" => Some(Circumstance::Encryption),
        "request" => Some(Circumstance::Request),
        _ => None,
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
        assert_eq!(it.labels, TagReads::Named(BTreeSet::from(["team".into()])));
    }

    #[test]
    fn tags_of_the_request_are_told_apart_by_their_names() {
        let named = |name: &str| TagReads::Named(BTreeSet::from([name.into()]));
        let it = reads(r#"context.request.hasTag("arn") && context.encryption.getTag("purpose") == "x""#);
        assert_eq!((it.request.clone(), it.encryption.clone()), (named("arn"), named("purpose")));
        assert!(it.recurs() && it.labels.is_none() && it.circumstances());
        let it = reads(r#"context.request.hasTag(context.encryption.getTag("purpose"))"#);
        assert_eq!((it.request, it.encryption), (TagReads::All, named("purpose")));
        for whole in ["[context.request].contains(context.request)", "{a: context}.a.hour > 3"] {
            assert_eq!(reads(whole).request, TagReads::All, "{whole}");
        }
        assert!(!reads(r#"context.time > datetime("2026-01-01")"#).recurs());
        assert!(!reads("{a: context}.a.hour > 3").recurs());
    }

    #[test]
    fn of_more_names_than_are_told_apart_all_are_looked_at() {
        let mut together = Reads::default();
        for n in 0..MAX_NAMES {
            together.merge(&reads(&format!(r#"resource.hasTag("{n}")"#)));
        }
        // One that is known already is no more of them.
        together.merge(&reads(r#"resource.hasTag("0")"#));
        assert!(together.labels.len() == MAX_NAMES && !together.labels.looks_at("another"));
        together.merge(&reads(r#"resource.hasTag("one more")"#));
        assert_eq!(together, reads("resource.getTag(principal.name) == \"x\""));
    }

    #[test]
    fn what_is_handed_on_whole_looks_at_everything() {
        for condition in [
            "(if true then resource else resource).exportable",
            "{Var: resource}.Var.exportable",
            "[resource].containsAny([resource])",
        ] {
            let it = reads(condition);
            assert!(it.looks_at(KeyAttribute::Custody) && it.labels == TagReads::All, "{condition}");
        }
        assert_eq!(reads("resource.getTag(principal.name) == \"x\"").labels, TagReads::All);
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
