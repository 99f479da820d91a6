//! The key stores against the suite of their port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use holdfast_conformance::doubles::Sim;
use holdfast_conformance::keystore::suite;
use holdfast_conformance::task::block_on;
use holdfast_core::Secret;
use holdfast_core::algorithm::Algorithm;
use holdfast_keystore::software::{RootKey, SoftwareStore};
use std::sync::Arc;

fn software(seed: u64) -> SoftwareStore<Sim> {
    let root = RootKey::new(Secret::new((0..32).collect())).unwrap();
    SoftwareStore::open(root, Arc::new(Sim::new(seed))).unwrap()
}

#[test]
fn software_custody_holds_every_algorithm() {
    let seeds = std::cell::Cell::new(100);
    let held = block_on(suite(async || {
        seeds.set(seeds.get() + 1);
        software(seeds.get())
    }));
    assert_eq!(held, Algorithm::ALL);
}
