//! What a start finds, and what it refuses.

use super::code;
use crate::database::DatabaseFile;
use crate::schema::newest;
use crate::testing::*;
use crate::{DirectoryLock, EmbeddedState, Opening, Settings};
use holdfast_core::key::Key;
use holdfast_core::port::{Health, State};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn raw(directory: &Path) -> Connection {
    Connection::open(DatabaseFile::path_in(directory)).unwrap()
}

fn existing(directory: &Path) -> Result<TestState, holdfast_core::Error> {
    let lock = DirectoryLock::take(directory)?;
    EmbeddedState::open(&lock, &state_key(), Arc::default(), Opening::Existing, Settings::default())
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let (directory, state) = founded().await;
    let committed = state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    drop(state);
    let state = existing(directory.path()).unwrap();
    assert_eq!(state.position(), committed);
    assert_eq!(state.committed(operation(2)).await.unwrap(), Some(committed));
    let entry = state.key(&"acme".parse().unwrap(), &"kek".parse().unwrap()).await.unwrap().unwrap();
    let made = Key { renewed: committed.sequence, ..key("acme", "kek", 1) };
    assert_eq!((&entry.key, &*entry.current), (&made, &version(1, 1)));
}

/// The files as they lie while the process runs are what a killed process leaves behind.
#[tokio::test]
async fn what_was_committed_is_there_after_a_kill() {
    let (directory, state) = founded().await;
    for id in 1..=20 {
        let committed =
            state.apply(operation(id), None, create(key("acme", &format!("k{id}"), id))).await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("state")).unwrap();
        for file in std::fs::read_dir(directory.path().join("state")).unwrap() {
            let file = file.unwrap();
            // The shared-memory index is rebuilt from the write-ahead file.
            if file.file_name() != "holdfast.db-shm" {
                std::fs::copy(file.path(), copy.path().join("state").join(file.file_name())).unwrap();
            }
        }
        let revived = existing(copy.path()).unwrap();
        assert_eq!(revived.position(), committed);
        assert_eq!(revived.verify_all(|_| ()).unwrap().records, 2 + 2 * u64::from(id));
    }
}

#[tokio::test]
async fn a_newer_directory_is_refused_with_both_versions() {
    let (directory, state) = founded().await;
    drop(state);
    raw(directory.path()).pragma_update(None, "user_version", newest() + 1).unwrap();
    let before = std::fs::read(DatabaseFile::path_in(directory.path())).unwrap();
    let error = open(directory.path()).err().unwrap();
    assert_eq!(error.kind().code(), "state-unavailable");
    assert_eq!(
        error.chain(),
        "the state is not usable: the data directory has state version 2, this binary knows versions up to 1"
    );
    assert_eq!(
        error.remedy_text(),
        "start the gateway version that wrote this directory or a newer one; to go back, restore a backup made before the upgrade"
    );
    assert_eq!(
        std::fs::read(DatabaseFile::path_in(directory.path())).unwrap(),
        before,
        "nothing was touched"
    );
    raw(directory.path()).pragma_update(None, "user_version", newest()).unwrap();
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn a_directory_without_a_state_is_not_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let error = existing(directory.path()).err().unwrap();
    assert!(error.chain().contains("there is no state in the data directory"), "{}", error.chain());
    assert!(error.remedy_text().contains("holdfast init"));
    assert!(!DatabaseFile::path_in(directory.path()).exists());
    // A founding that was killed at its first step is an empty file.
    DatabaseFile::create(directory.path()).unwrap();
    assert_eq!(code(existing(directory.path()).map(drop)), "state-unavailable");
    open(directory.path()).unwrap();
}

#[test]
fn only_the_owner_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let _state = open(directory.path()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = directory.path().join("state");
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 3);
}

#[test]
fn the_engine_is_told_to_be_durable_and_distrustful() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path()).unwrap();
    let writer = state.file().writer().unwrap();
    crate::database::make_durable(&writer).unwrap();
    let number = |pragma| writer.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
    let text = |pragma| writer.pragma_query_value(None, pragma, |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("journal_mode"), "wal");
    for (pragma, value) in [
        ("synchronous", 2),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("foreign_keys", 1),
        ("secure_delete", 1),
    ] {
        assert_eq!(number(pragma), value, "{pragma}");
    }
    assert!(writer.prepare("SELECT \"no such column\" FROM record").is_err(), "double-quoted strings");
    let reader = state.file().reader().unwrap();
    assert!(reader.execute("DELETE FROM record", []).is_err());
}

#[tokio::test]
async fn a_second_start_is_refused() {
    let (directory, state) = founded().await;
    let error = open(directory.path()).err().unwrap();
    assert!(error.to_string().contains("in use by process"), "{error}");
    drop(state);
    open(directory.path()).unwrap();
}

/// The ledger's row is one of our own, so its tag fits: only the comparison with what the process knows can tell.
#[tokio::test]
async fn somebody_else_who_writes_is_noticed() {
    let (directory, state) = founded().await;
    assert_eq!(state.health(), Health::Ready);
    raw(directory.path()).execute_batch("CREATE TABLE kept AS SELECT * FROM ledger").unwrap();
    state.apply(operation(2), None, Vec::new()).await.unwrap();
    raw(directory.path()).execute_batch("INSERT OR REPLACE INTO ledger SELECT * FROM kept").unwrap();
    let error = state.apply(operation(3), None, Vec::new()).await.unwrap_err();
    assert!(error.chain().contains("another process has changed the state"), "{}", error.chain());
    assert!(matches!(state.health(), Health::Unready(why) if why.contains("another process")));
    assert_eq!(code(state.apply(operation(3), None, Vec::new()).await), "state-unavailable");
}

#[tokio::test]
async fn a_state_that_was_moved_away_is_not_written_to() {
    let (directory, state) = founded().await;
    assert_eq!(state.health(), Health::Ready);
    let folder = directory.path().join("state");
    std::fs::rename(&folder, directory.path().join("elsewhere")).unwrap();
    assert!(matches!(state.health(), Health::Unready(why) if why.contains("removed or replaced")));
    let error = state.apply(operation(2), None, Vec::new()).await.unwrap_err();
    assert!(error.chain().contains("removed or replaced"), "{}", error.chain());
    assert!(error.remedy_text().contains("put the state's directory back"));
    // A copy in its place is another file.
    std::fs::create_dir(&folder).unwrap();
    let copied = DatabaseFile::path_in(directory.path());
    std::fs::copy(directory.path().join("elsewhere/holdfast.db"), copied).unwrap();
    assert_eq!(code(state.apply(operation(2), None, Vec::new()).await), "state-unavailable");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(directory.path().join("elsewhere"), &folder).unwrap();
    state.apply(operation(2), None, Vec::new()).await.unwrap();
    assert_eq!(state.health(), Health::Ready);
}
