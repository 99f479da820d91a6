//! What it costs to read a text and to check it: by how many policies, of which sort, and with how many faults. Takes a minute; the numbers of policies can be given.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement, not a part of the product"
)]

use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_policy::{CedarPolicy, MAX_TEXT};
use std::sync::Arc;
use std::time::Instant;

const USUAL: &str = r#"permit (principal == Holdfast::Caller::"caller-NNN", action in Holdfast::Action::"use", resource == Holdfast::Key::"other-NNN");"#;
const SHORT: &str = "permit(principal,action,resource);";
const LABEL: &str = r#"permit (principal, action, resource is Holdfast::Key) when { resource.hasTag("team") && resource.getTag("team") == "payroll-NNN" };"#;
const FORBID: &str = r#"forbid (principal, action, resource) when { principal.name == "somebody-NNN" };"#;
const NOBODY: &str = r#"permit (principal, action, resource) when { principal.name == "somebody-NNN" };"#;
const WRONG: &str = "permit(principal in T::\"\",action,resource);";

fn caller(name: &str, kind: CallerKind) -> Arc<CallerRecord> {
    let name = name.parse().unwrap();
    Arc::new(CallerRecord {
        name,
        kind,
        groups: vec![],
        credentials: vec![],
        tokens: vec![],
        suspended: false,
    })
}

/// As many operators as there may be.
fn long() -> String {
    let parts: Vec<_> = (0..100).map(|at| format!("resource.hasTag(\"{at}\")")).collect();
    format!(
        "permit (principal, action, resource is Holdfast::Key) when {{ {} }};",
        parts.get(..49).unwrap().join(" || ")
    )
}

fn main() {
    let callers: Vec<_> = (0..1000)
        .map(|number| {
            let kind = if number < 5 { CallerKind::Custodian } else { CallerKind::Application };
            caller(&format!("person-{number}"), kind)
        })
        .collect();
    let author = Caller {
        tenant: "acme".parse().unwrap(),
        record: Arc::clone(&callers[0]),
        authentication: Authentication::Gateway,
        own: None,
    };
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let numbers = if numbers.is_empty() { vec![1_000, 10_000, 20_000] } else { numbers };
    let policy = CedarPolicy::new().unwrap();
    let tenant = "acme".parse().unwrap();
    for (name, one) in [
        ("usual", USUAL),
        ("short", SHORT),
        ("label", LABEL),
        ("forbid", FORBID),
        ("nobody", NOBODY),
        ("long", &long()),
        ("wrong", WRONG),
    ] {
        for number in &numbers {
            let text: String = (0..*number)
                .map(|at| format!("@id(\"p{at}\")\n{}\n", one.replace("NNN", &at.to_string())))
                .collect();
            if text.len() > MAX_TEXT {
                continue;
            }
            let begin = Instant::now();
            let read = policy.read(&tenant, &text);
            let reading = begin.elapsed();
            let begin = Instant::now();
            let found = match &read {
                Ok(prepared) => policy.check(prepared, &author, &callers).len(),
                Err(faults) => faults.len(),
            };
            println!(
                "{name:8} {number:6} policies, {:8} bytes: read in {reading:?}, checked in {:?}, {found} found",
                text.len(),
                begin.elapsed()
            );
        }
    }
}
