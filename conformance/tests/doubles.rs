//! The shared suites against the doubles, which every other test of the law stands on.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use holdfast_conformance::doubles::{Fate, Journal, Keys, Records};
use holdfast_conformance::task::block_on;
use holdfast_conformance::{audit_log, keystore, state};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::port::State;

#[test]
fn records_are_a_state() {
    // What was committed is in the handle's shared tables: reopening keeps them and drops the handle.
    block_on(state::suite(async || Records::default(), async |records: Records| records.copy()));
}

#[test]
fn a_journal_is_an_audit_log() {
    block_on(audit_log::suite(
        async || Journal::default(),
        async |journal: &Journal, tenant| {
            let entries = journal.of(tenant.as_str());
            assert!(entries.iter().all(|entry| entry.fate == Fate::Durable));
            entries.into_iter().map(|entry| entry.bytes).collect()
        },
    ));
}

#[test]
fn keys_are_a_key_store() {
    let keys = Keys::default();
    let held = block_on(keystore::suite(async || keys.clone()));
    assert_eq!(held, Algorithm::ALL);
    assert_eq!(Records::default().position().sequence, 0);
}
