//! Counts are never handed out twice, whatever happens.

use crate::budget::BLOCK;
use crate::testing::*;
use holdfast_core::port::State;
use holdfast_core::{KeyId, KeyVersion};
use std::sync::Arc;

const KEY: KeyId = KeyId::from_bytes([1; 16]);
const FIRST: KeyVersion = KeyVersion::FIRST;

#[tokio::test]
async fn counts_begin_at_nought_and_belong_to_one_version() {
    let (_directory, state) = founded().await;
    assert_eq!(state.count(KEY, FIRST, 1).await.unwrap(), 1);
    assert_eq!(state.count(KEY, FIRST, 256).await.unwrap(), 257);
    assert_eq!(state.count(KEY, FIRST.next().unwrap(), 1).await.unwrap(), 1);
    assert_eq!(state.count(KeyId::from_bytes([2; 16]), FIRST, 3).await.unwrap(), 3);
    assert_eq!(state.count(KEY, FIRST, 1).await.unwrap(), 258);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_counts_are_all_different_across_blocks() {
    let (_directory, state) = founded().await;
    let state = Arc::new(state);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let mut totals = Vec::new();
                for _ in 0..1_000 {
                    totals.push(state.count(KEY, FIRST, 64).await.unwrap());
                }
                totals
            })
        })
        .collect();
    let mut totals = Vec::new();
    for task in tasks {
        totals.extend(task.await.unwrap());
    }
    totals.sort_unstable();
    // Blocks follow one another without a gap, since nothing was lost in between: 8 x 1,000 x 64 = 512,000, seven blocks.
    assert_eq!(totals, (1..=8_000).map(|n| n * 64).collect::<Vec<u64>>());
    const { assert!(8_000 * 64 > 7 * BLOCK) };
}

#[tokio::test]
async fn what_is_left_of_a_block_counts_as_used_after_a_restart() {
    let (directory, state) = founded().await;
    assert_eq!(state.count(KEY, FIRST, 10).await.unwrap(), 10);
    drop(state);
    let state = open(directory.path()).unwrap();
    assert_eq!(state.count(KEY, FIRST, 1).await.unwrap(), BLOCK + 1);
}

/// The files while the process runs are what a kill leaves: no number that the process still hands out may come again.
#[tokio::test]
async fn a_kill_loses_no_count() {
    let (directory, state) = founded().await;
    state.count(KEY, FIRST, 1).await.unwrap();
    let mut highest = 0;
    while highest < 3 * BLOCK {
        highest = state.count(KEY, FIRST, BLOCK / 8 - 1).await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("state")).unwrap();
        for file in ["holdfast.db", "holdfast.db-wal"] {
            std::fs::copy(directory.path().join("state").join(file), copy.path().join("state").join(file))
                .unwrap();
        }
        let revived = open(copy.path()).unwrap();
        assert!(revived.count(KEY, FIRST, 1).await.unwrap() > highest);
        revived.verify_all(|_| ()).unwrap();
    }
}

#[tokio::test]
async fn a_count_changes_neither_sequence_nor_digest() {
    let (directory, state) = founded().await;
    let before = state.position();
    for _ in 0..5 {
        state.count(KEY, FIRST, BLOCK).await.unwrap();
    }
    assert_eq!(state.position(), before);
    drop(state);
    assert_eq!(open(directory.path()).unwrap().position(), before);
}

#[tokio::test]
async fn an_impossible_count_is_refused_and_changes_nothing() {
    let (_directory, state) = founded().await;
    assert_eq!(super::code(state.count(KEY, FIRST, u64::MAX).await), "internal");
    assert_eq!(state.count(KEY, FIRST, 1).await.unwrap(), 1);
    assert_eq!(state.count(KEY, FIRST, 10 * BLOCK).await.unwrap(), 10 * BLOCK + 1);
}
