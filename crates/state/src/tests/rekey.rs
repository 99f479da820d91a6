//! Another state key: all of it, or nothing.

use crate::database::DatabaseFile;
use crate::testing::*;
use crate::{DirectoryLock, EmbeddedState, Opening, Settings, is_under, rekey};
use holdfast_core::key::SealedHandle;
use holdfast_core::port::{State, StateChange};
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

fn next_key() -> Secret {
    Secret::new(vec![8; 32])
}

fn lock(directory: &Path) -> DirectoryLock {
    DirectoryLock::take(directory).unwrap()
}

fn under(directory: &Path, key: &Secret) -> Result<TestState, Error> {
    EmbeddedState::open(&lock(directory), key, Arc::default(), Opening::Existing, Settings::default())
}

fn resealed(directory: &Path) -> Result<holdfast_core::port::Committed, Error> {
    rekey(&lock(directory), (&state_key(), &next_key()), operation(9), &mut |tenant, handle| {
        assert_eq!((tenant.as_str(), handle.as_bytes()), ("acme", &b"sealed"[..]));
        Ok(SealedHandle::new(b"sealed anew"))
    })
}

#[tokio::test]
async fn every_row_is_the_later_key_s_and_says_the_same() {
    let (directory, state) = founded().await;
    for id in 1..=20 {
        state.apply(operation(id + 10), None, create(key("acme", &format!("k{id}"), id))).await.unwrap();
    }
    let kek = key("acme", "k1", 1);
    let counted = state.count(kek.id, kek.current, 3).await.unwrap();
    let before = state.position();
    drop(state);
    let committed = resealed(directory.path()).unwrap();
    assert_eq!(committed.sequence, before.sequence + 1);
    assert_ne!(committed.digest, before.digest);
    assert!(is_under(&lock(directory.path()), &next_key()).unwrap());
    assert!(!is_under(&lock(directory.path()), &state_key()).unwrap());
    assert_eq!(under(directory.path(), &state_key()).err().unwrap().kind(), ErrorKind::StateUnavailable);

    let state = under(directory.path(), &next_key()).unwrap();
    assert_eq!(state.position(), committed);
    assert_eq!(state.committed(operation(9)).await.unwrap(), Some(committed));
    let verified = state.verify_all(|_| ()).unwrap();
    assert_eq!((verified.records, verified.budgets), (2 + 40, 1));
    let tenant = state.tenant(&"acme".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(tenant.record.handle, Some(SealedHandle::new(b"sealed anew")));
    // No number is given out twice.
    assert!(state.count(kek.id, kek.current, 1).await.unwrap() > counted);
    state.apply(operation(40), None, create(key("acme", "later", 40))).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_one_row_changes_none() {
    let (directory, state) = founded().await;
    state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    drop(state);
    let refuse = |from: &Secret| {
        let mut failing = |_: &_, _: &_| Err(Error::new(ErrorKind::Integrity, Stage::Perform, "no"));
        rekey(&lock(directory.path()), (from, &next_key()), operation(9), &mut failing).unwrap_err().kind()
    };
    assert_eq!(refuse(&state_key()), ErrorKind::Integrity);
    assert_eq!(refuse(&Secret::new(vec![6; 32])), ErrorKind::StateUnavailable);
    let raw = || Connection::open(DatabaseFile::path_in(directory.path())).unwrap();
    let changed = "UPDATE record SET epoch = epoch + 1 WHERE kind = (SELECT max(kind) FROM record)";
    raw().execute(changed, []).unwrap();
    assert_eq!(resealed(directory.path()).unwrap_err().kind(), ErrorKind::StateUnavailable);
    raw().execute(&changed.replace("+ 1", "- 1"), []).unwrap();
    assert!(is_under(&lock(directory.path()), &state_key()).unwrap());
    // One that is missing.
    raw().execute("DELETE FROM record WHERE kind = (SELECT max(kind) FROM record)", []).unwrap();
    assert_eq!(resealed(directory.path()).unwrap_err().kind(), ErrorKind::StateUnavailable);
    assert!(is_under(&lock(directory.path()), &state_key()).unwrap());
}

/// `cargo test -p holdfast-state --release rekey -- --ignored --nocapture` says how long it takes.
#[tokio::test]
#[ignore = "a measurement"]
async fn a_hundred_thousand_rows() {
    let (directory, state) = founded().await;
    drop(state);
    let mut raw = Connection::open(DatabaseFile::path_in(directory.path())).unwrap();
    let transaction = raw.transaction().unwrap();
    let seal = crate::seal::Seal::new(&state_key()).unwrap();
    let mut standing = crate::writer::load(&transaction, &seal).unwrap();
    for number in 0_u32..50_000 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let mut made = key("acme", &format!("k{number}"), 1);
        made.id = holdfast_core::KeyId::from_bytes(id);
        let mut first = version(1, 1);
        first.key = made.id;
        let tenant = made.tenant.clone();
        let changes =
            [StateChange::Key { key: made, expected: None }, StateChange::Version { tenant, version: first }];
        crate::apply::apply(&transaction, &seal, &mut standing.records.set, 2, &changes).unwrap();
    }
    standing.records.sequence += 1;
    standing.records.store(&transaction, &seal, crate::ledger::RECORDS).unwrap();
    transaction.commit().unwrap();
    drop(raw);
    let begun = std::time::Instant::now();
    resealed(directory.path()).unwrap();
    println!("{:?} for {} rows", begun.elapsed(), 2 + 2 * 50_000);
}
