//! A disk without space.

use crate::testing::*;
use crate::writer::Job;
use holdfast_core::port::{Health, State, StateChange};
use rusqlite::Connection;
use std::sync::Arc;

async fn meddle(state: &TestState, meddle: impl FnOnce(&Connection) + Send + 'static) {
    let (answer, answered) = tokio::sync::oneshot::channel();
    state.submit(Job::Meddle(Box::new(meddle), answer)).await.unwrap();
    answered.await.unwrap();
}

async fn limit_pages(state: &TestState, to: Option<i64>) {
    meddle(state, move |connection| {
        let pages = connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0)).unwrap();
        let limit = to.unwrap_or(pages);
        connection
            .pragma_update_and_check(None, "max_page_count", limit, |row| row.get::<_, i64>(0))
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_and_a_freed_one_works_again() {
    let (_directory, state) = founded().await;
    state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    state.key(&"acme".parse().unwrap(), &"kek".parse().unwrap()).await.unwrap();
    limit_pages(&state, None).await;
    let before = state.position();
    let large = || {
        let mut anchor = anchor("root", b"");
        anchor.certificate = Arc::from(vec![7; 1 << 20]);
        vec![StateChange::Anchor { tenant: "acme".parse().unwrap(), anchor }]
    };
    let error = state.apply(operation(3), None, large()).await.unwrap_err();
    assert_eq!(error.kind().code(), "state-unavailable");
    assert_eq!(error.to_string(), "the disk that holds the state is full, so nothing was changed");
    assert!(error.remedy_text().starts_with("free space"));
    assert_eq!((state.position(), state.committed(operation(3)).await.unwrap()), (before, None));
    assert!(matches!(state.health(), Health::Unready(why) if why.contains("full")));
    assert!(
        state.key(&"acme".parse().unwrap(), &"kek".parse().unwrap()).await.unwrap().is_some(),
        "reads go on"
    );

    limit_pages(&state, Some(1_000_000)).await;
    state.apply(operation(3), None, large()).await.unwrap();
    assert_eq!(state.health(), Health::Ready);
    state.verify_all(|_| ()).unwrap();
}

/// Nobody writes any more because nobody sends to an unready gateway: it must find out by itself.
#[tokio::test]
async fn health_recovers_without_a_commit() {
    let (_directory, state) = founded().await;
    state.shared.set_trouble(Some("database or disk is full".to_owned()));
    assert!(matches!(state.health(), Health::Unready(_)));
    // The probe that the question has queued stands before this.
    meddle(&state, |_| ()).await;
    assert_eq!(state.health(), Health::Ready);
}

#[tokio::test]
async fn a_commit_that_is_too_large_fails_alone() {
    let (_directory, state) = founded().await;
    let state = Arc::new(state);
    meddle(&state, |connection| {
        connection.execute_batch("INSERT INTO probe VALUES (2, zeroblob(400000))").unwrap();
        connection.execute_batch("DELETE FROM probe").unwrap();
    })
    .await;
    limit_pages(&state, None).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (answer, _answered) = tokio::sync::oneshot::channel();
    let hold = move |_: &Connection| held.recv().unwrap_or(());
    state.submit(Job::Meddle(Box::new(hold), answer)).await.unwrap();
    let mut tasks = Vec::new();
    for id in 1..=5u8 {
        let state = Arc::clone(&state);
        let mut anchor = anchor(&format!("a{id}"), b"");
        anchor.certificate = Arc::from(vec![7; if id == 3 { 1 << 21 } else { 10 }]);
        let change = vec![StateChange::Anchor { tenant: "acme".parse().unwrap(), anchor }];
        tasks.push(tokio::spawn(async move { state.apply(operation(id), None, change).await.is_ok() }));
    }
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    assert_eq!(outcomes, [true, true, false, true, true]);
    assert_eq!(state.health(), Health::Ready, "a small write still works");
    state.verify_all(|_| ()).unwrap();
}
