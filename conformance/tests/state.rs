//! The states against the suite of their port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use holdfast_conformance::doubles::Sim;
use holdfast_conformance::state::suite;
use holdfast_core::Secret;
use holdfast_state::{DirectoryLock, EmbeddedState, Opening, Settings};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

fn open(directory: &Path, opening: Opening, settings: Settings) -> EmbeddedState<Sim> {
    let lock = DirectoryLock::take(directory).unwrap();
    let key = Secret::new(vec![7; 32]);
    EmbeddedState::open(&lock, &key, Arc::new(Sim::new(1)), opening, settings).unwrap()
}

fn run(settings: Settings) {
    let directories = RefCell::new(Vec::new());
    let fresh = async || {
        let directory = tempfile::tempdir().unwrap();
        let state = open(directory.path(), Opening::CreateIfAbsent, settings);
        directories.borrow_mut().push(directory);
        state
    };
    let reopen = async |state: EmbeddedState<Sim>| {
        drop(state);
        let path = directories.borrow().last().unwrap().path().to_owned();
        open(&path, Opening::Existing, settings)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(suite(fresh, reopen));
}

#[test]
fn the_embedded_state_is_one() {
    run(Settings::default());
}

#[test]
fn and_with_caches_that_hold_next_to_nothing() {
    run(Settings { cached_keys: 1, cached_versions: 1, readers: 1, queue: 1 });
}
