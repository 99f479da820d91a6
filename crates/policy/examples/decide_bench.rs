//! What a decision costs: remembered, evaluated, among few policies and among many. Takes some seconds; the number of policies
//! that concern others can be given, 1,000 unless it is.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a part of the product")]

use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::key::{Custody, Key, Legacy};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{Circumstances, Question, Resource};
use holdfast_core::{Epoch, KeyId, KeyVersion, Timestamp};
use holdfast_policy::{CedarPolicy, Prepared};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

fn key(number: usize) -> Key {
    Key {
        id: KeyId::from_bytes(u128::try_from(number).unwrap().to_be_bytes()),
        tenant: "acme".parse().unwrap(),
        name: format!("key-{number}").parse().unwrap(),
        algorithm: Algorithm::Aes256Gcm,
        purpose: Purpose::Encrypt,
        state: KeyState::Active,
        resumes_to: KeyState::Active,
        exportable: false,
        legacy: Legacy::default(),
        emergency_copy: false,
        protocol: None,
        labels: [("team".into(), "payroll".into()), ("number".into(), number.to_string().into())].into(),
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

fn main() {
    let record = Arc::new(CallerRecord {
        name: "alice".parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec!["payroll".parse().unwrap()],
        credentials: vec![],
        tokens: vec![],
        suspended: false,
    });
    let caller = Caller {
        tenant: "acme".parse().unwrap(),
        record,
        authentication: Authentication::Gateway,
        own: None,
    };
    let group = r#"@id("a") permit (principal in Holdfast::Group::"payroll", action in Holdfast::Action::"use", resource);"#;
    let label = r#"@id("a") permit (principal in Holdfast::Group::"payroll", action in Holdfast::Action::"use", resource) when { resource.hasTag("team") && resource.getTag("team") == "payroll" };"#;
    let context = r#"@id("a") permit (principal in Holdfast::Group::"payroll", action in Holdfast::Action::"use", resource) when { context.encryption.hasTag("purpose") && context.encryption.getTag("purpose") == "x" };"#;
    let many: usize = std::env::args().nth(1).map_or(1000, |text| text.parse().unwrap());
    let others: String = (0..many)
        .map(|number| format!("@id(\"other-{number}\") permit (principal == Holdfast::Caller::\"caller-{number}\", action in Holdfast::Action::\"use\", resource == Holdfast::Key::\"other-{number}\");\n"))
        .collect();
    let keys: Vec<Key> = (0..100_000).map(key).collect();
    for (name, text, rounds) in [
        ("group", group.to_owned(), 300_000),
        ("label", label.to_owned(), 300_000),
        ("context", context.to_owned(), 10_000),
        ("group among others", format!("{group}\n{others}"), 300_000),
        ("label among others", format!("{label}\n{others}"), 300_000),
    ] {
        let started = Instant::now();
        let policy = CedarPolicy::new().unwrap();
        let prepared = policy.prepare(&"acme".parse().unwrap(), &text).unwrap();
        println!("{name}: prepared in {:?}", started.elapsed());
        measure(name, &policy, &prepared, &caller, &keys, rounds);
    }
}

fn measure(
    name: &str,
    policy: &CedarPolicy,
    prepared: &Prepared,
    caller: &Caller,
    keys: &[Key],
    rounds: usize,
) {
    let context = Context::new(vec![("purpose".into(), "x".into())]).unwrap();
    let circumstances = Circumstances {
        context: &context,
        request: &context,
        now: Timestamp::from_micros(0),
        source: None,
        protocol: "native",
    };
    for (how, stride) in [("one key", 0), ("100,000 keys at random", 7919)] {
        let started = Instant::now();
        let mut at = 0;
        for _ in 0..rounds {
            at = (at + stride) % keys.len();
            let question = Question {
                caller,
                action: Action::Encrypt,
                resource: Resource::Key(keys.get(at).unwrap()),
                circumstances,
            };
            assert!(black_box(policy.decide(prepared, black_box(&question))).allowed);
        }
        let each = started.elapsed() / u32::try_from(rounds).unwrap();
        println!("{name}, {how}: {each:?} a decision");
    }
}
