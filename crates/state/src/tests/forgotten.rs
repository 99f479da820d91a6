//! What was replaced is in no file any more, once that could be done.

use crate::testing::{TestState, create, founded, key, operation, version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use holdfast_core::key::{SealedHandle, Version};
use holdfast_core::port::{State as _, StateChange};
use std::path::Path;

/// Whether a handle lies in one of the state's files.
fn lies(directory: &Path, handle: &[u8]) -> bool {
    let written = STANDARD_NO_PAD.encode(handle).into_bytes();
    let files = std::fs::read_dir(directory.join("state")).unwrap();
    let mut contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    contents.any(|content| content.windows(written.len()).any(|window| window == written))
}

async fn put(state: &TestState, number: u8, handle: &[u8]) {
    let version = Version { handle: SealedHandle::new(handle), ..version(5, 1) };
    let change = StateChange::Version { tenant: "acme".parse().unwrap(), version };
    state.apply(operation(number), None, vec![change]).await.unwrap();
}

#[tokio::test]
async fn what_was_replaced_lies_in_no_file_once_nobody_reads_it() {
    let (directory, state) = founded().await;
    state.apply(operation(2), None, create(key("acme", "kek", 5))).await.unwrap();
    let (first, second) = ([b'x'; 60], [b'y'; 60]);
    put(&state, 3, &first).await;
    let reader = state.file().reader().unwrap();
    let reading = reader.unchecked_transaction().unwrap();
    reading.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, i64>(0)).unwrap();

    put(&state, 4, &second).await;
    assert!(!state.forget_replaced().await.unwrap(), "somebody reads it");
    assert!(lies(directory.path(), &first));
    drop(reading);
    assert!(state.forget_replaced().await.unwrap());
    assert!(!lies(directory.path(), &first) && lies(directory.path(), &second));
    put(&state, 5, &first).await;
    assert!(lies(directory.path(), &first), "and it goes on");
}
