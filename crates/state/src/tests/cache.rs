//! What is in memory is what was committed.

use crate::Settings;
use crate::testing::*;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::State;
use holdfast_core::port::StateChange;
use holdfast_core::{KeyId, KeyName, KeyVersion, Stage, TenantId};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn kek() -> KeyName {
    "kek".parse().unwrap()
}

/// The only reading thread is held, so whatever is ready has not asked it.
#[tokio::test]
async fn a_hit_is_ready_at_once_and_a_miss_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let state = open_with(directory.path(), Settings { readers: 1, ..Settings::default() }).unwrap();
    state.apply(operation(1), None, found("acme")).await.unwrap();
    state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    state.apply(operation(3), None, create(key("acme", "other", 2))).await.unwrap();
    let (tenant, name, id) = (acme(), kek(), KeyId::from_bytes([1; 16]));
    state.key(&tenant, &name).await.unwrap();
    state.version(id, KeyVersion::FIRST).await.unwrap();

    let (release, held) = std::sync::mpsc::channel::<()>();
    let readers = state.readers(Stage::Resolve).unwrap();
    let mut holding = pin!(readers.read(Stage::Resolve, move |_| {
        held.recv().unwrap_or(());
        Ok(())
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(holding.as_mut().poll(&mut context).is_pending());
    let other = "other".parse().unwrap();
    assert!(pin!(state.key(&tenant, &other)).poll(&mut context).is_pending());
    let other = KeyId::from_bytes([2; 16]);
    assert!(pin!(state.version(other, KeyVersion::FIRST)).poll(&mut context).is_pending());
    assert!(matches!(pin!(state.key(&tenant, &name)).poll(&mut context), Poll::Ready(Ok(Some(_)))));
    let version = pin!(state.version(id, KeyVersion::FIRST)).poll(&mut context);
    assert!(matches!(version, Poll::Ready(Ok(Some(_)))));
    release.send(()).unwrap();
    holding.await.unwrap();
}

#[tokio::test]
async fn a_commit_is_seen_by_the_next_read_cached_or_not() {
    let (_directory, state) = founded().await;
    let mut record = key("acme", "kek", 1);
    state.apply(operation(2), None, create(record.clone())).await.unwrap();
    for round in 0..20u32 {
        if round % 3 != 0 {
            state.key(&acme(), &kek()).await.unwrap();
            state.version(record.id, record.newest).await.unwrap();
        }
        let next = record.newest.next().unwrap();
        let (changed, change) = update(&record, |key| (key.newest, key.current) = (next, next));
        let made = StateChange::Version { tenant: acme(), version: version(1, next.get()) };
        state.apply(operation(3), None, vec![change, made]).await.unwrap();
        record = changed;
        let entry = state.key(&acme(), &kek()).await.unwrap().unwrap();
        assert_eq!((unstamped(&entry.key), entry.current.number), (record.clone(), next));
        // A version that changes reaches the key's entry, too.
        let mut compromised = version(1, next.get());
        compromised.state = KeyState::Compromised;
        let change = StateChange::Version { tenant: acme(), version: compromised.clone() };
        state.apply(operation(4), None, vec![change]).await.unwrap();
        assert_eq!(*state.key(&acme(), &kek()).await.unwrap().unwrap().current, compromised);
        assert_eq!(*state.version(record.id, next).await.unwrap().unwrap(), compromised);
    }
}

/// A reader misses and reads the old row; the writer commits and acknowledges; only then does the reader offer what it read.
#[tokio::test]
async fn a_slow_reader_does_not_put_an_old_key_back() {
    let (_directory, state) = founded().await;
    let record = key("acme", "kek", 1);
    state.apply(operation(2), None, create(record.clone())).await.unwrap();
    let id = record.id;

    let key_miss = state.shared.cached_key(&acme(), &kek()).unwrap_err();
    let version_miss = state.shared.cached_version(id, KeyVersion::FIRST).unwrap_err();
    let readers = state.readers(Stage::Resolve).unwrap();
    let old_key =
        readers.read(Stage::Resolve, |source| source.entry(&acme(), &kek())).await.unwrap().unwrap();
    let old_version = readers
        .read(Stage::Resolve, move |source| source.version(id, KeyVersion::FIRST))
        .await
        .unwrap()
        .unwrap();

    let (suspended, change) = update(&record, |key| key.state = KeyState::Suspended);
    let mut stopped = version(1, 1);
    stopped.state = KeyState::Suspended;
    let stop = StateChange::Version { tenant: acme(), version: stopped.clone() };
    state.apply(operation(3), None, vec![change, stop]).await.unwrap();

    state.shared.keep_key(key_miss, &Arc::new(old_key));
    state.shared.keep_version(version_miss, &Arc::new(old_version));
    assert_eq!(unstamped(&state.key(&acme(), &kek()).await.unwrap().unwrap().key), suspended);
    assert_eq!(*state.version(id, KeyVersion::FIRST).await.unwrap().unwrap(), stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_see_less_than_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    // So small that entries come and go all the time.
    let settings = Settings { cached_keys: 1, cached_versions: 1, ..Settings::default() };
    let state = Arc::new(open_with(directory.path(), settings).unwrap());
    state.apply(operation(1), None, found("acme")).await.unwrap();
    let mut records: Vec<_> = (1..=4).map(|id| key("acme", &format!("k{id}"), id)).collect();
    for record in &records {
        state.apply(operation(2), None, create(record.clone())).await.unwrap();
    }
    let acknowledged: Arc<[std::sync::atomic::AtomicU64]> =
        (0..4).map(|_| std::sync::atomic::AtomicU64::new(1)).collect();
    let order = std::sync::atomic::Ordering::SeqCst;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = Vec::new();
    for start in 0..4usize {
        let (state, acknowledged, done) = (Arc::clone(&state), Arc::clone(&acknowledged), Arc::clone(&done));
        readers.push(tokio::spawn(async move {
            let mut at = start;
            let mut looks = 0u32;
            while !done.load(order) || looks == 0 {
                at = (at + 1) % 4;
                looks += 1;
                let least = acknowledged[at].load(order);
                let name = format!("k{}", at + 1).parse().unwrap();
                let entry = state.key(&acme(), &name).await.unwrap().unwrap();
                assert!(entry.key.epoch.0 >= least, "{} after {least}", entry.key.epoch.0);
                tokio::task::yield_now().await;
            }
        }));
    }
    for round in 0..100usize {
        let at = round % 4;
        let (changed, change) = update(&records[at], |_| ());
        state.apply(operation(3), None, vec![change]).await.unwrap();
        acknowledged[at].store(changed.epoch.0, order);
        records[at] = changed;
    }
    done.store(true, order);
    for reader in readers {
        reader.await.unwrap();
    }
}
