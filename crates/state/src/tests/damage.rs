//! Rows that were changed outside are refused, and rows that are missing or old are found by a full verification.

use crate::DirectoryLock;
use crate::database::DatabaseFile;
use crate::testing::*;
use crate::{EmbeddedState, Opening, Settings};
use holdfast_core::port::{State, StateChange};
use holdfast_core::{Error, ErrorKind, KeyVersion, Secret};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

fn raw(directory: &Path) -> Connection {
    Connection::open(DatabaseFile::path_in(directory)).unwrap()
}

/// A directory with one row of each kind and the state closed.
async fn full() -> tempfile::TempDir {
    let (directory, state) = founded().await;
    let tenant = || "acme".parse().unwrap();
    let mut changes = create(key("acme", "kek", 1));
    changes.push(StateChange::Caller { tenant: tenant(), record: caller("ann") });
    changes.push(StateChange::Anchor { tenant: tenant(), anchor: anchor("root", b"crl") });
    state.apply(operation(2), None, changes).await.unwrap();
    state.apply(operation(3), None, create(key("acme", "sound", 2))).await.unwrap();
    state.count_invocations(key("acme", "kek", 1).id, KeyVersion::FIRST, 1).await.unwrap();
    directory
}

#[track_caller]
fn is_damage(error: &Error, place: &str) {
    assert_eq!(error.kind(), ErrorKind::StateUnavailable);
    assert_eq!(error.to_string(), "a record of the state is damaged, so it is refused");
    assert!(error.remedy_text().contains("restore"), "{}", error.remedy_text());
    assert!(error.chain().contains(place), "{}", error.chain());
}

#[tokio::test]
async fn a_changed_column_of_any_row_is_refused() {
    let flips = [
        "body = CAST(replace(CAST(body AS TEXT), '1', '2') AS BLOB)",
        "tag = zeroblob(32)",
        "tag = substr(tag, 1, 31)",
        "tag = CAST(substr(tag, 1, 31) || x'00' AS BLOB)",
        "epoch = epoch + 1",
        "epoch = -1",
        "tenant = 'acmf'",
    ];
    let (acme, kek) = ("acme".parse().unwrap(), "kek".parse().unwrap());
    for flip in flips {
        for kind in 1..=6u8 {
            let directory = full().await;
            let sound = if matches!(kind, 5 | 6) { "AND substr(id, 1, 1) = x'01'" } else { "" };
            let changed = raw(directory.path())
                .execute(&format!("UPDATE record SET {flip} WHERE kind = {kind} {sound}"), [])
                .unwrap();
            assert_eq!(changed, 1);
            let state = open(directory.path()).unwrap();
            let place =
                ["tenant acme", "caller acme/ann", "anchor acme/root", "policy acme/1", "key ", "version "]
                    [usize::from(kind) - 1];
            // A caller of another tenant is not found by a look for this one's: that is for the full verification.
            let hidden = flip.starts_with("tenant") && matches!(kind, 2 | 3 | 5);
            if !hidden {
                let error = match kind {
                    5 | 6 => state.key(&acme, &kek).await.unwrap_err(),
                    _ => state.tenant(&acme).await.unwrap_err(),
                };
                is_damage(&error, place);
                assert!(error.chain().contains("table `record`"), "{}", error.chain());
            }
            is_damage(&state.verify_all(|_| ()).unwrap_err(), place);
            assert!(
                state.key(&acme, &"sound".parse().unwrap()).await.unwrap().is_some(),
                "others still work"
            );
        }
    }
}

#[tokio::test]
async fn a_row_in_anothers_place_is_refused() {
    let directory = full().await;
    let connection = raw(directory.path());
    connection.execute("DELETE FROM record WHERE kind = 5 AND substr(id, 1, 1) = x'01'", []).unwrap();
    connection.execute("UPDATE record SET name = 'kek' WHERE kind = 5", []).unwrap();
    drop(connection);
    let state = open(directory.path()).unwrap();
    let error = state.key(&"acme".parse().unwrap(), &"kek".parse().unwrap()).await.unwrap_err();
    is_damage(&error, "key ");
}

#[tokio::test]
async fn missing_added_and_old_rows_are_found_by_a_full_verification() {
    let meddlings = [
        "DELETE FROM record WHERE kind = 2",
        "DELETE FROM record WHERE kind = 6 AND substr(id, 1, 1) = x'01'",
        "DELETE FROM budget",
        "UPDATE budget SET reserved = reserved - 1",
        "UPDATE committed SET digest = zeroblob(32)",
        "DELETE FROM ledger WHERE name = 'budget'",
    ];
    for meddling in meddlings {
        let directory = full().await;
        open(directory.path()).unwrap().verify_all(|_| ()).unwrap();
        assert!(raw(directory.path()).execute(meddling, []).unwrap() > 0);
        let verified = open(directory.path()).and_then(|state| state.verify_all(|_| ()));
        assert_eq!(verified.unwrap_err().kind(), ErrorKind::StateUnavailable, "{meddling}");
    }
}

/// Each row's own tag fits, so only the digest can tell.
#[tokio::test]
async fn a_row_that_was_put_back_is_found_by_a_full_verification() {
    let (directory, state) = founded().await;
    let record = key("acme", "kek", 1);
    state.apply(operation(2), None, create(record.clone())).await.unwrap();
    let id = record.id;
    state.count_invocations(id, KeyVersion::FIRST, 1).await.unwrap();
    drop(state);
    let connection = raw(directory.path());
    connection.execute_batch("CREATE TABLE kept AS SELECT * FROM record WHERE kind = 5; CREATE TABLE spent AS SELECT * FROM budget").unwrap();
    drop(connection);
    let state = open(directory.path()).unwrap();
    let (_, change) = update(&record, |key| key.state = holdfast_core::lifecycle::KeyState::Compromised);
    state.apply(operation(3), None, vec![change]).await.unwrap();
    state.count_invocations(id, KeyVersion::FIRST, 1).await.unwrap();
    state.verify_all(|_| ()).unwrap();
    drop(state);
    for (meddling, undo) in [
        (
            "UPDATE record SET (epoch, body, tag) = (SELECT epoch, body, tag FROM kept) WHERE kind = 5",
            "record",
        ),
        ("UPDATE budget SET (reserved, tag) = (SELECT reserved, tag FROM spent)", "budget"),
    ] {
        let connection = raw(directory.path());
        connection.execute_batch(&format!("CREATE TABLE saved AS SELECT * FROM {undo}")).unwrap();
        assert_eq!(connection.execute(meddling, []).unwrap(), 1);
        drop(connection);
        let state = open(directory.path()).unwrap();
        let error = state.verify_all(|_| ()).unwrap_err();
        is_damage(&error, &format!("table `{undo}`, row `all`"));
        drop(state);
        let connection = raw(directory.path());
        connection
            .execute_batch(&format!(
                "DELETE FROM {undo}; INSERT INTO {undo} SELECT * FROM saved; DROP TABLE saved"
            ))
            .unwrap();
        drop(connection);
        open(directory.path()).unwrap().verify_all(|_| ()).unwrap();
    }
}

#[tokio::test]
async fn a_changed_ledger_or_another_key_is_refused_at_the_start() {
    let directory = full().await;
    let lock = DirectoryLock::take(directory.path()).unwrap();
    let other = Secret::new(vec![8; 32]);
    let world = Arc::new(TestWorld::default());
    let opened = EmbeddedState::open(&lock, &other, world, Opening::Existing, Settings::default());
    is_damage(&opened.err().unwrap(), "table `ledger`, row `record`");
    drop(lock);
    for meddling in ["sequence = sequence + 1", "rows = rows + 1", "sum = zeroblob(32)"] {
        let directory = full().await;
        raw(directory.path())
            .execute(&format!("UPDATE ledger SET {meddling} WHERE name = 'record'"), [])
            .unwrap();
        is_damage(&open(directory.path()).err().unwrap(), "table `ledger`, row `record`");
    }
}

#[tokio::test]
async fn a_changed_count_is_refused() {
    let directory = full().await;
    raw(directory.path()).execute("UPDATE budget SET reserved = 1", []).unwrap();
    let state = open(directory.path()).unwrap();
    let id = key("acme", "kek", 1).id;
    let error = state.count_invocations(id, KeyVersion::FIRST, 1).await.unwrap_err();
    is_damage(&error, &format!("table `budget`, row `{id}/1`"));
}

#[tokio::test]
async fn a_changed_memory_of_a_commit_is_refused() {
    let directory = full().await;
    raw(directory.path())
        .execute("UPDATE committed SET digest = zeroblob(32) WHERE sequence = 2", [])
        .unwrap();
    let state = open(directory.path()).unwrap();
    is_damage(&state.committed(operation(2)).await.unwrap_err(), "table `committed`");
    assert!(state.committed(operation(3)).await.unwrap().is_some());
}

/// The row is an older one of our own, so its tag fits: only what the process has handed out can tell.
#[tokio::test]
async fn a_count_that_went_back_while_it_is_used_is_refused() {
    let (directory, state) = founded().await;
    let id = key("acme", "kek", 1).id;
    state.count_invocations(id, KeyVersion::FIRST, 1).await.unwrap();
    raw(directory.path()).execute_batch("CREATE TABLE spent AS SELECT * FROM budget").unwrap();
    state.count_invocations(id, KeyVersion::FIRST, 10 * crate::budget::BLOCK).await.unwrap();
    raw(directory.path()).execute_batch("INSERT OR REPLACE INTO budget SELECT * FROM spent").unwrap();
    let error = state.count_invocations(id, KeyVersion::FIRST, 10 * crate::budget::BLOCK).await.unwrap_err();
    is_damage(&error, &format!("table `budget`, row `{id}/1`"));
}

#[tokio::test]
async fn all_that_is_wrong_is_told_and_not_only_the_first() {
    let directory = full().await;
    let connection = raw(directory.path());
    let flip =
        "UPDATE record SET tag = zeroblob(32) WHERE kind = 2 OR (kind = 5 AND substr(id, 1, 1) = x'01')";
    assert_eq!(connection.execute(flip, []).unwrap(), 2);
    assert_eq!(connection.execute("DELETE FROM record WHERE kind = 3", []).unwrap(), 1);
    assert_eq!(connection.execute("UPDATE budget SET reserved = 1", []).unwrap(), 1);
    drop(connection);
    let state = open(directory.path()).unwrap();
    let mut faults = Vec::new();
    let read = state.examine(&mut |_| true, &mut |error| faults.push(error.chain()));
    assert!(read.is_some());
    for place in ["row `caller acme/ann`", "row `key ", "table `record`, row `all`", "table `budget`, row `"]
    {
        assert_eq!(faults.iter().filter(|fault| fault.contains(place)).count(), 1, "{place}: {faults:?}");
    }
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(state.examine(&mut |_| false, &mut |_| ()).is_none(), "it can be ended");
}

/// The digest is then that of another moment than the rows'.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_while_everything_is_read_is_no_damage() {
    let (_directory, state) = founded().await;
    let mut next = 1_u8;
    let mut pace = |_| {
        if next < 3 {
            next += 1;
            let changes = create(key("acme", &format!("kek-{next}"), next));
            let commit = state.apply(operation(next), None, changes);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(commit)).unwrap();
        }
        true
    };
    let read = state.examine(&mut pace, &mut |error| panic!("{}", error.chain()));
    assert_eq!(read.unwrap().records, state.verify_all(|_| ()).unwrap().records - 2);
}
