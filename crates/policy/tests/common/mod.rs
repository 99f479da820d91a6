//! What the tests have in common: callers, keys, questions.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::key::{Custody, Key, Legacy};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{Circumstances, Decision, Question, Resource};
use holdfast_core::{Epoch, KeyId, KeyVersion, TenantId, Timestamp};
use holdfast_policy::{CedarPolicy, Prepared};
use std::sync::{Arc, LazyLock};

pub fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

pub fn record(name: &str, kind: CallerKind, groups: &[&str]) -> Arc<CallerRecord> {
    Arc::new(CallerRecord {
        name: name.parse().unwrap(),
        kind,
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        credentials: vec![],
        tokens: vec![],
        suspended: false,
    })
}

pub fn caller(record: &Arc<CallerRecord>) -> Caller {
    Caller {
        tenant: tenant(),
        record: Arc::clone(record),
        authentication: Authentication::Gateway,
        own: None,
    }
}

pub fn key(name: &str, labels: &[(&str, &str)]) -> Key {
    Key {
        id: KeyId::from_bytes([7; 16]),
        tenant: tenant(),
        name: name.parse().unwrap(),
        algorithm: Algorithm::Aes256Gcm,
        purpose: Purpose::Encrypt,
        state: KeyState::Active,
        resumes_to: KeyState::Active,
        exportable: false,
        legacy: Legacy::default(),
        emergency_copy: false,
        protocol: None,
        labels: labels.iter().map(|(name, value)| (Box::from(*name), Box::from(*value))).collect(),
        newest: KeyVersion::FIRST,
        current: KeyVersion::FIRST,
        schedule: None,
        inventory: None,
        destruction: None,
        erasure: None,
        waits: false,
        custody: Custody::Software,
        archive: None,
        renewed: 0,
        created: Timestamp::from_micros(0),
        epoch: Epoch::FIRST,
    }
}

pub fn context(pairs: &[(&str, &str)]) -> Context {
    Context::new(pairs.iter().map(|(name, value)| (Box::from(*name), Box::from(*value))).collect()).unwrap()
}

pub static EMPTY: Context = Context::EMPTY;

/// Monday, 23 November 2026, 09:30 UTC.
pub const MONDAY: Timestamp = Timestamp::from_micros(1_795_426_200_000_000);

pub fn circumstances(context: &Context) -> Circumstances<'_> {
    Circumstances { context, request: &EMPTY, now: MONDAY, source: None, protocol: "native" }
}

pub fn ask(prepared: &Prepared, caller: &Caller, action: Action, resource: Resource<'_>) -> Decision {
    let question = Question { caller, action, resource, circumstances: circumstances(&EMPTY) };
    policy().decide(prepared, &question)
}

/// One for all: reading the schema takes its time in a debug build.
pub fn policy() -> &'static CedarPolicy {
    static POLICY: LazyLock<CedarPolicy> = LazyLock::new(|| CedarPolicy::new().unwrap());
    &POLICY
}

pub fn prepare(text: &str) -> Prepared {
    policy().prepare(&tenant(), text).unwrap_or_else(|error| panic!("{error}: {}", error.remedy_text()))
}

pub fn ids(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|id| id.as_str()).collect()
}
