//! Questions in Cedar's terms: entities, request, context. Only what the conditions look at is built.

use crate::reads::{Circumstance, KeyAttribute, Reads, hour, weekday};
use crate::schema::Vocabulary;
use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use holdfast_core::TenantId;
use holdfast_core::action::Action;
use holdfast_core::caller::CallerRecord;
use holdfast_core::key::Key;
use holdfast_core::port::{Question, Resource};
use holdfast_core::time::Timestamp;

type Failure = Box<dyn core::error::Error + Send + Sync>;

/// The caller and the action as entities: what all questions of one caller about one action have in common.
pub(crate) fn common(
    vocabulary: &Vocabulary,
    record: &CallerRecord,
    action: Action,
) -> Result<Entities, Failure> {
    let groups = record.groups.iter().map(|group| vocabulary.group(group.as_str()));
    let attributes = [("name", record.name.as_str()), ("kind", record.kind.name())];
    let caller = Entity::new_with_tags(
        vocabulary.caller(record),
        attributes.map(|(name, value)| (name.to_owned(), text(value))),
        groups,
        [],
    )?;
    Ok(Entities::from_entities([caller].into_iter().chain(vocabulary.action(action).cloned()), None)?)
}

/// A question as Cedar takes it.
pub(crate) fn pose(
    vocabulary: &Vocabulary,
    tenant: &TenantId,
    common: &Entities,
    reads: &Reads,
    question: &Question<'_>,
) -> Result<(Request, Entities), Failure> {
    let Question { caller, action, resource, circumstances: _ } = question;
    let about = resource_entity(vocabulary, tenant, reads, resource)?;
    let resource = about.uid();
    let mut entities = vec![about];
    let context = context(vocabulary, reads, question, &mut entities)?;
    let action = vocabulary.action(*action).ok_or("no such action in the schema")?;
    let request = Request::new(vocabulary.caller(&caller.record), action.uid(), resource, context, None)?;
    Ok((request, common.clone().upsert_entities(entities, None)?))
}

/// The resource, with those of its attributes and labels that are looked at. A key without a record has none: looking at one of its
/// attributes is an error, which denies.
fn resource_entity(
    vocabulary: &Vocabulary,
    tenant: &TenantId,
    reads: &Reads,
    resource: &Resource<'_>,
) -> Result<Entity, Failure> {
    let parent = || [vocabulary.tenant(tenant)].into_iter().collect();
    match resource {
        Resource::Tenant(tenant) => Ok(Entity::with_uid(vocabulary.tenant(tenant))),
        Resource::NoKey(name) => Ok(Entity::new_no_attrs(vocabulary.key(name.as_str()), parent())),
        Resource::Key(key) => {
            let labels = reads.labels(&key.labels).map(|(name, value)| (name.to_owned(), text(value)));
            let uid = vocabulary.key(key.name.as_str());
            let parents: std::collections::HashSet<EntityUid> = parent();
            Ok(Entity::new_with_tags(uid, attributes(reads, key), parents, labels)?)
        }
    }
}

fn attributes(reads: &Reads, key: &Key) -> Vec<(String, RestrictedExpression)> {
    let Key { name, algorithm, purpose, state, exportable, emergency_copy, custody, .. } = key;
    let all = [
        (KeyAttribute::Name, "name", text(name.as_str())),
        (KeyAttribute::Algorithm, "algorithm", text(algorithm.name())),
        (KeyAttribute::Purpose, "purpose", text(purpose.name())),
        (KeyAttribute::State, "state", text(state.name())),
        (KeyAttribute::Exportable, "exportable", RestrictedExpression::new_bool(*exportable)),
        (KeyAttribute::Custody, "custody", text(custody.name())),
        (KeyAttribute::EmergencyCopy, "emergency_copy", RestrictedExpression::new_bool(*emergency_copy)),
    ];
    let read = all.into_iter().filter(|(attribute, _, _)| reads.looks_at(*attribute));
    read.map(|(_, name, value)| (name.to_owned(), value)).collect()
}

/// The fields that are looked at; the encryption context is an entity, since its names are free; so is what the protocol says.
fn context(
    vocabulary: &Vocabulary,
    reads: &Reads,
    question: &Question<'_>,
    entities: &mut Vec<Entity>,
) -> Result<Context, Failure> {
    if !reads.circumstances() {
        return Ok(Context::empty());
    }
    let circumstances = &question.circumstances;
    let mut fields = Vec::new();
    let mut put = |field, name: &str, value: &dyn Fn() -> RestrictedExpression| {
        if reads.looks_at_circumstance(field) {
            fields.push((name.to_owned(), value()));
        }
    };
    put(Circumstance::Authentication, "authentication", &|| text(question.caller.authentication.name()));
    put(Circumstance::Encryption, "encryption", &|| {
        RestrictedExpression::new_entity_uid(vocabulary.encryption().clone())
    });
    put(Circumstance::Request, "request", &|| {
        RestrictedExpression::new_entity_uid(vocabulary.request().clone())
    });
    put(Circumstance::Time, "time", &|| RestrictedExpression::new_datetime(datetime(circumstances.now)));
    put(Circumstance::Hour, "hour", &|| long(hour(circumstances.now)));
    put(Circumstance::Weekday, "weekday", &|| long(weekday(circumstances.now)));
    if let Some(source) = circumstances.source {
        put(Circumstance::Source, "source", &|| {
            RestrictedExpression::new_ip(source.to_canonical().to_string())
        });
    }
    put(Circumstance::Protocol, "protocol", &|| text(circumstances.protocol));
    if reads.looks_at_circumstance(Circumstance::Encryption) {
        entities.push(tagged(vocabulary.encryption(), reads.encryption(circumstances.context))?);
    }
    if reads.looks_at_circumstance(Circumstance::Request) {
        entities.push(tagged(vocabulary.request(), reads.request(circumstances.request))?);
    }
    Ok(Context::from_pairs(fields)?)
}

/// An entity of tags alone.
fn tagged<'a>(uid: &EntityUid, tags: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Entity, Failure> {
    Ok(Entity::new_with_tags(uid.clone(), [], [], tags.map(|(name, value)| (name.to_owned(), text(value))))?)
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Cedar's `datetime` has milliseconds.
fn datetime(at: Timestamp) -> String {
    let micros = at.text();
    let millis = micros.get(..23).unwrap_or_default();
    let mut text = String::from_utf8_lossy(millis).into_owned();
    text.push('Z');
    text
}
