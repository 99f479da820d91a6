//! A key service of Google Workspace's client-side encryption: every method, every check failing alone, and what nobody may do with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "what fails here is a test"
)]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod gmail;
mod migration;
mod objects;
mod privileged;
mod quotas;
mod service;

use crate::support::log;
use serde_json::{Value, json};

/// Whom administrators' tokens are for.
const ADMINS: &str = "hyok-cse-admin";

/// What a refusal's record must say.
type Refusals = Vec<(String, &'static str, &'static str)>;

fn recorded(events: &[Value], refusals: &Refusals) {
    for (operation, what, check) in refusals {
        let event = log::closing(events, operation);
        assert_eq!(
            (&event["outcome"], &event["protocol"]["name"]),
            (&json!("refused"), &json!("google-cse")),
            "{what}"
        );
        assert!(event.to_string().contains(check), "{what}: {event}");
    }
}
