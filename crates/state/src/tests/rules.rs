//! The port's rules for commits and reads.

use super::code;
use crate::apply::{COMMITTED_KEPT, remember, remembered};
use crate::seal::Seal;
use crate::testing::*;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{Committed, State, StateChange};
use holdfast_core::tenant::TenantRecord;
use holdfast_core::{Epoch, KeyId, KeyName, KeyVersion, OperationId, TenantId};
use std::sync::Arc;

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_tenant_is_read_with_its_registrations_in_order() {
    let (_directory, state) = founded().await;
    state.apply(operation(2), None, found("other")).await.unwrap();
    let tenant = acme();
    let changes = vec![
        StateChange::Caller { tenant: tenant.clone(), record: caller("zoe") },
        StateChange::Caller { tenant: tenant.clone(), record: caller("ann") },
        StateChange::Anchor { tenant: tenant.clone(), anchor: anchor("root", b"1") },
        StateChange::Anchor { tenant: tenant.clone(), anchor: anchor("root", b"2") },
        StateChange::Policy { tenant: tenant.clone(), policy: policy(2) },
    ];
    state.apply(operation(3), None, changes).await.unwrap();
    let data = state.tenant(&tenant).await.unwrap().unwrap();
    assert_eq!(data.record, tenant_record("acme"));
    assert_eq!(data.callers, [Arc::new(caller("ann")), Arc::new(caller("zoe"))]);
    assert_eq!(data.anchors, [anchor("root", b"2")]);
    assert_eq!(data.policy, policy(2));
    let all = state.tenants().await.unwrap();
    assert_eq!(all.iter().map(|data| data.record.id.as_str()).collect::<Vec<_>>(), ["acme", "other"]);
    assert!(all[1].callers.is_empty());
    assert!(state.tenant(&"none".parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_removed_is_gone_and_cannot_be_removed_again() {
    let (_directory, state) = founded().await;
    let tenant = acme();
    let made = vec![
        StateChange::Caller { tenant: tenant.clone(), record: caller("ann") },
        StateChange::Anchor { tenant: tenant.clone(), anchor: anchor("root", b"1") },
    ];
    state.apply(operation(2), None, made).await.unwrap();
    let caller_gone = || StateChange::CallerGone { tenant: acme(), name: "ann".parse().unwrap() };
    let anchor_gone = || StateChange::AnchorGone { tenant: acme(), name: "root".parse().unwrap() };
    state.apply(operation(3), None, vec![caller_gone(), anchor_gone()]).await.unwrap();
    let data = state.tenant(&tenant).await.unwrap().unwrap();
    assert!(data.callers.is_empty() && data.anchors.is_empty());
    assert_eq!(code(state.apply(operation(4), None, vec![caller_gone()]).await), "conflict");
    assert_eq!(code(state.apply(operation(5), None, vec![anchor_gone()]).await), "conflict");
}

#[tokio::test]
async fn policies_are_successors_and_all_of_them_stay() {
    let (_directory, state) = founded().await;
    let set = |version| vec![StateChange::Policy { tenant: acme(), policy: policy(version) }];
    for wrong in [0, 1, 3, u64::MAX] {
        assert_eq!(code(state.apply(operation(2), None, set(wrong)).await), "conflict", "{wrong}");
    }
    // More than 255, so that the order of the ids is not that of single bytes.
    for version in 2..=300 {
        state.apply(operation(2), None, set(version)).await.unwrap();
    }
    for version in [1, 255, 256, 300] {
        assert_eq!(state.policy(&acme(), version).await.unwrap(), Some(policy(version)));
    }
    assert_eq!(state.policy(&acme(), 301).await.unwrap(), None);
    assert_eq!(state.tenant(&acme()).await.unwrap().unwrap().policy.version, 300);
}

#[tokio::test]
async fn all_changes_or_none() {
    let (_directory, state) = founded().await;
    state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    let before = state.position();
    let mut changes = vec![StateChange::Caller { tenant: acme(), record: caller("ann") }];
    changes.extend(create(key("acme", "kek", 2)));
    assert_eq!(code(state.apply(operation(3), None, changes).await), "already-exists");
    assert_eq!(state.position(), before);
    assert_eq!(state.committed(operation(3)).await.unwrap(), None);
    assert!(state.tenant(&acme()).await.unwrap().unwrap().callers.is_empty());
    assert!(state.version(KeyId::from_bytes([2; 16]), KeyVersion::FIRST).await.unwrap().is_none());
    state.verify_all(|_| ()).unwrap();
}

#[tokio::test]
async fn epochs_are_compared() {
    let (_directory, state) = founded().await;
    let first = key("acme", "kek", 1);
    state.apply(operation(2), None, create(first.clone())).await.unwrap();
    let (second, change) = update(&first, |key| key.state = KeyState::Suspended);
    state.apply(operation(3), None, vec![change.clone()]).await.unwrap();
    assert_eq!(code(state.apply(operation(4), None, vec![change]).await), "conflict");
    let (_, stale) = update(&first, |_| ());
    assert_eq!(code(state.apply(operation(4), None, vec![stale]).await), "conflict");
    let unraised = StateChange::Key { expected: Some(second.epoch), key: second.clone() };
    assert_eq!(code(state.apply(operation(4), None, vec![unraised]).await), "internal");
    let unknown = StateChange::Key { expected: Some(Epoch::FIRST), key: key("acme", "new", 9) };
    assert_eq!(code(state.apply(operation(4), None, vec![unknown]).await), "conflict");

    let tenant = |epoch, expected| StateChange::Tenant {
        record: TenantRecord { epoch: Epoch(epoch), suspended: true, ..tenant_record("acme") },
        expected,
    };
    assert_eq!(code(state.apply(operation(5), None, vec![tenant(1, None)]).await), "already-exists");
    assert_eq!(code(state.apply(operation(5), None, vec![tenant(3, Some(Epoch(2)))]).await), "conflict");
    assert_eq!(code(state.apply(operation(5), None, vec![tenant(1, Some(Epoch(1)))]).await), "internal");
    state.apply(operation(5), None, vec![tenant(2, Some(Epoch(1)))]).await.unwrap();
    assert!(state.tenant(&acme()).await.unwrap().unwrap().record.suspended);
}

#[tokio::test]
async fn a_name_is_free_after_destruction_and_an_id_never() {
    let (_directory, state) = founded().await;
    let old = key("acme", "kek", 1);
    state.apply(operation(2), None, create(old.clone())).await.unwrap();
    assert_eq!(code(state.apply(operation(3), None, create(key("acme", "kek", 2))).await), "already-exists");
    let (old, change) = update(&old, |key| key.state = KeyState::Destroyed);
    state.apply(operation(4), None, vec![change]).await.unwrap();
    let entry = state.key(&acme(), &name("kek")).await.unwrap().unwrap();
    assert_eq!(unstamped(&entry.key), old, "a destroyed key is found until its name is taken");
    assert_eq!(code(state.apply(operation(5), None, create(key("acme", "other", 1))).await), "conflict");

    let new = key("acme", "kek", 2);
    state.apply(operation(6), None, create(new.clone())).await.unwrap();
    assert_eq!(unstamped(&state.key(&acme(), &name("kek")).await.unwrap().unwrap().key), new);
    let listed = state.keys(&acme(), None, 10).await.unwrap().rows;
    assert_eq!(listed.iter().map(unstamped).collect::<Vec<_>>(), [new], "one key for each name");
    assert!(state.version(old.id, KeyVersion::FIRST).await.unwrap().is_some(), "its record stays");

    let (_, relabel) = update(&old, |key| drop(key.labels.insert("a".into(), "b".into())));
    state.apply(operation(7), None, vec![relabel]).await.unwrap();
    assert_eq!(state.key(&acme(), &name("kek")).await.unwrap().unwrap().key.id.as_bytes(), &[2; 16]);
    let old = holdfast_core::key::Key { epoch: old.epoch.next(), ..old };
    let (_, revived) = update(&old, |key| key.state = KeyState::Active);
    assert_eq!(code(state.apply(operation(8), None, vec![revived]).await), "conflict");
    state.verify_all(|_| ()).unwrap();
}

#[tokio::test]
async fn tenants_do_not_see_each_others_names() {
    let (_directory, state) = founded().await;
    state.apply(operation(2), None, found("other")).await.unwrap();
    state.apply(operation(3), None, create(key("acme", "kek", 1))).await.unwrap();
    state.apply(operation(4), None, create(key("other", "kek", 2))).await.unwrap();
    let other = "other".parse().unwrap();
    assert_eq!(state.key(&acme(), &name("kek")).await.unwrap().unwrap().key.id.as_bytes(), &[1; 16]);
    assert_eq!(state.key(&other, &name("kek")).await.unwrap().unwrap().key.id.as_bytes(), &[2; 16]);
    assert!(state.key(&"third".parse().unwrap(), &name("kek")).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_referred_to_must_exist() {
    let (_directory, state) = founded().await;
    let nowhere = StateChange::Caller { tenant: "none".parse().unwrap(), record: caller("ann") };
    assert_eq!(code(state.apply(operation(2), None, vec![nowhere]).await), "conflict");
    let bare = StateChange::Tenant { record: tenant_record("bare"), expected: None };
    assert_eq!(code(state.apply(operation(2), None, vec![bare]).await), "internal");
    let unversioned = StateChange::Key { key: key("acme", "kek", 1), expected: None };
    assert_eq!(code(state.apply(operation(2), None, vec![unversioned]).await), "internal");
    let orphan = StateChange::Version { tenant: acme(), version: version(9, 1) };
    assert_eq!(code(state.apply(operation(2), None, vec![orphan]).await), "conflict");

    state.apply(operation(2), None, found("other")).await.unwrap();
    state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    let elsewhere = StateChange::Version { tenant: "other".parse().unwrap(), version: version(1, 2) };
    assert_eq!(code(state.apply(operation(3), None, vec![elsewhere]).await), "internal");
    let renamed = update(&key("acme", "kek", 1), |key| key.name = name("other")).1;
    assert_eq!(code(state.apply(operation(3), None, vec![renamed]).await), "internal");
    // The order of changes does not matter.
    let mut changes = create(key("third", "kek", 3));
    changes.extend(found("third"));
    changes.reverse();
    state.apply(operation(4), None, changes).await.unwrap();
}

#[tokio::test]
async fn pages_follow_one_another() {
    let (_directory, state) = founded().await;
    state.apply(operation(2), None, found("acme-2")).await.unwrap();
    state.apply(operation(2), None, create(key("acme-2", "b-other", 99))).await.unwrap();
    let names = ["a", "b", "b.1", "c", "d"];
    for (id, text) in names.iter().enumerate() {
        state.apply(operation(3), None, create(key("acme", text, u8::try_from(id).unwrap()))).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = state.keys(&acme(), after.as_ref(), 2).await.unwrap();
        seen.extend(page.rows.iter().map(|key| key.name.to_string()));
        after = page.rows.last().map(|key| key.name.clone());
        if !page.more {
            break;
        }
        assert_eq!(page.rows.len(), 2);
    }
    assert_eq!(seen, names);

    let id = KeyId::from_bytes([0; 16]);
    let more = (2..=300).map(|number| StateChange::Version { tenant: acme(), version: version(0, number) });
    state.apply(operation(4), None, more.collect()).await.unwrap();
    let page = state.versions(id, KeyVersion::new(254), 3).await.unwrap();
    let numbers: Vec<_> = page.rows.iter().map(|version| version.number.get()).collect();
    assert_eq!((numbers, page.more), (vec![255, 256, 257], true));
    let last = state.versions(id, KeyVersion::new(299), 3).await.unwrap();
    assert_eq!((last.rows.len(), last.more), (1, false));
    assert_eq!(state.versions(id, None, 1000).await.unwrap().rows.len(), 300);
    assert!(!state.versions(id, None, 300).await.unwrap().more);
    let highest = StateChange::Version { tenant: acme(), version: version(0, u32::MAX) };
    state.apply(operation(5), None, vec![highest]).await.unwrap();
    assert_eq!(state.versions(id, KeyVersion::new(300), 3).await.unwrap().rows, [version(0, u32::MAX)]);
    assert!(state.versions(id, KeyVersion::new(u32::MAX), 3).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn operations_are_remembered_with_their_position() {
    let (_directory, state) = founded().await;
    let committed = state.apply(operation(2), None, create(key("acme", "kek", 1))).await.unwrap();
    assert_eq!(committed, state.position());
    assert_eq!(committed.sequence, 2);
    let next = state.apply(operation(3), None, Vec::new()).await.unwrap();
    assert_eq!(next.sequence, 3);
    assert_ne!(next.digest, committed.digest);
    assert_eq!(state.committed(operation(2)).await.unwrap(), Some(committed));
    assert_eq!(state.committed(operation(9)).await.unwrap(), None);
}

#[test]
fn the_oldest_operations_are_forgotten() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    crate::schema::migrate(&connection, 0).unwrap();
    let seal = Seal::new(&state_key()).unwrap();
    let operation = |number: u64| OperationId::from_bytes(u128::from(number).to_be_bytes());
    let last = COMMITTED_KEPT + 50;
    connection.execute_batch("BEGIN").unwrap();
    for sequence in 1..=last {
        let committed = Committed { sequence, digest: [1; 32] };
        remember(&connection, &seal, operation(sequence), None, committed).unwrap();
    }
    let known = |sequence| remembered(&connection, &seal, operation(sequence)).unwrap().is_some();
    assert!(known(last) && known(last - COMMITTED_KEPT + 1) && !known(last - COMMITTED_KEPT));
}

#[tokio::test]
async fn commits_that_share_a_transaction_stand_or_fall_alone() {
    let (_directory, state) = founded().await;
    let state = Arc::new(state);
    // The writer is held until all are queued, so that they do share one.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let hold = move |_: &rusqlite::Connection| held.recv().unwrap_or(());
    state.submit(crate::writer::Job::Meddle(Box::new(hold), answer)).await.unwrap();
    let mut tasks = Vec::new();
    for id in 1..=20 {
        let state = Arc::clone(&state);
        let name = format!("key-{}", id / 2);
        tasks.push(tokio::spawn(async move {
            state.apply(operation(id), None, create(key("acme", &name, id))).await
        }));
    }
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    answered.await.unwrap();
    let mut sequences = Vec::new();
    let mut taken = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(committed) => sequences.push(committed.sequence),
            Err(error) => {
                assert_eq!(error.kind().code(), "already-exists");
                taken += 1;
            }
        }
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (2..=12).collect::<Vec<_>>());
    assert_eq!(taken, 9);
    assert_eq!(state.keys(&acme(), None, 100).await.unwrap().rows.len(), 11);
    state.verify_all(|_| ()).unwrap();
}

#[tokio::test]
async fn a_key_that_comes_back_is_stamped_with_the_commit_that_brings_it() {
    let (_directory, state) = founded().await;
    let renewed = async || state.key(&acme(), &name("kek")).await.unwrap().unwrap().key.renewed;
    let key = key("acme", "kek", 1);
    let made = state.apply(operation(2), None, create(key.clone())).await.unwrap();
    // Whatever else the record says, only that it is not committed yet counts.
    let (key, other) = update(&key, |key| key.renewed = made.sequence + 7);
    state.apply(operation(3), None, vec![other]).await.unwrap();
    assert_eq!(renewed().await, made.sequence);
    let (key, back) = update(&key, |key| key.renewed = Key::UNCOMMITTED);
    let back = state.apply(operation(4), None, vec![back]).await.unwrap();
    assert_eq!(renewed().await, back.sequence);
    let (_, other) = update(&key, |key| key.renewed = back.sequence);
    state.apply(operation(5), None, vec![other]).await.unwrap();
    assert_eq!(renewed().await, back.sequence);
}
