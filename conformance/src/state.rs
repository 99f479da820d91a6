//! What every state MUST do (the contract of [`State`]).
//!
//! Intents are the pipeline's alone to make, so each commit goes through one: [`Scripted`] puts the test's changes in the place of the
//! command's.

use crate::doubles::{Journal, Keys};
use crate::rig::{POLICY, Rig, name, new_key, person, transition};
use crate::task::block_on;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::CallerKind;
use holdfast_core::command::Command;
use holdfast_core::inventory::TakenInventory;
use holdfast_core::key::{Key, Labels, Version};
use holdfast_core::lifecycle::Transition;
use holdfast_core::pipeline::{Intent, OpenIntent};
use holdfast_core::port::{Committed, Health, KeyEntry, Page, State, StateChange};
use holdfast_core::schedule::RotationPeriod;
use holdfast_core::tenant::{Anchor, PolicyVersion, TenantData, TenantRecord};
use holdfast_core::{Epoch, Error, ErrorKind, KeyId, KeyName, KeyVersion, OperationId, TenantId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Runs every test. `fresh` gives an empty state, `reopen` closes one and opens it again.
pub async fn suite<S: State>(fresh: impl AsyncFn() -> S, reopen: impl AsyncFn(S) -> S) {
    an_empty_state_is_empty(&fresh).await;
    reads_see_what_was_committed(&fresh).await;
    lists_come_in_pages_by_name_and_number(&fresh).await;
    epochs_are_compared(&fresh).await;
    a_commit_is_all_or_nothing(&fresh).await;
    invocations_are_counted_and_never_forgotten(&fresh, &reopen).await;
    commits_are_remembered_by_their_operation(&fresh).await;
    stop_orders_are_remembered(&fresh, &reopen).await;
    a_key_says_which_commit_made_its_newest_version(&fresh).await;
    everything_is_there_after_reopening(&fresh, &reopen).await;
}

/// A state in which a test can say what the next commits change.
pub struct Scripted<S> {
    inner: Arc<S>,
    script: Arc<Mutex<Option<Vec<StateChange>>>>,
    last: Arc<Mutex<Option<Result<Committed, ErrorKind>>>>,
}

impl<S> Clone for Scripted<S> {
    fn clone(&self) -> Self {
        let Self { inner, script, last } = self;
        Self { inner: Arc::clone(inner), script: Arc::clone(script), last: Arc::clone(last) }
    }
}

impl<S: State> State for Scripted<S> {
    async fn tenants(&self) -> Result<Vec<TenantData>, Error> {
        self.inner.tenants().await
    }
    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantData>, Error> {
        self.inner.tenant(tenant).await
    }
    async fn key(&self, tenant: &TenantId, name: &KeyName) -> Result<Option<Arc<KeyEntry>>, Error> {
        self.inner.key(tenant, name).await
    }
    async fn version(&self, key: KeyId, number: KeyVersion) -> Result<Option<Arc<Version>>, Error> {
        self.inner.version(key, number).await
    }
    async fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyName>,
        limit: usize,
    ) -> Result<Page<Key>, Error> {
        self.inner.keys(tenant, after, limit).await
    }
    async fn versions(
        &self,
        key: KeyId,
        after: Option<KeyVersion>,
        limit: usize,
    ) -> Result<Page<Version>, Error> {
        self.inner.versions(key, after, limit).await
    }
    async fn policy(&self, tenant: &TenantId, version: u64) -> Result<Option<PolicyVersion>, Error> {
        self.inner.policy(tenant, version).await
    }
    async fn count(&self, key: KeyId, version: KeyVersion, invocations: u64) -> Result<u64, Error> {
        self.inner.count(key, version, invocations).await
    }
    async fn commit(&self, intent: &Intent, changes: Vec<StateChange>) -> Result<Committed, Error> {
        let script = self.script.lock().unwrap().clone();
        let result = self.inner.commit(intent, script.unwrap_or(changes)).await;
        *self.last.lock().unwrap() = Some(result.as_ref().map(|committed| *committed).map_err(Error::kind));
        result
    }
    async fn committed(&self, operation: OperationId) -> Result<Option<Committed>, Error> {
        self.inner.committed(operation).await
    }
    async fn orders_since(&self, sequence: u64) -> Result<Vec<OpenIntent>, Error> {
        self.inner.orders_since(sequence).await
    }
    fn position(&self) -> Committed {
        self.inner.position()
    }
    fn health(&self) -> Health {
        self.inner.health()
    }
}

/// A founded gateway over the state under test.
struct Bench<S: State> {
    rig: Rig<Keys, Scripted<S>, Journal>,
    state: Scripted<S>,
}

impl<S: State> Bench<S> {
    async fn new(inner: S) -> Self {
        let state = Scripted { inner: Arc::new(inner), script: Arc::default(), last: Arc::default() };
        let rig = Rig::found(Keys::default(), state.clone(), Journal::default(), POLICY).await.unwrap();
        Self { rig, state }
    }

    async fn key(&self, key: &str) -> Option<Arc<KeyEntry>> {
        self.state.key(&self.rig.acme, &name(key)).await.unwrap()
    }

    /// The key as the state is to have recorded it.
    async fn create(&self, key: &str) -> Key {
        let made = self.rig.create(new_key(key, Algorithm::Aes256Gcm)).await.unwrap();
        Key { renewed: self.state.position().sequence, ..made }
    }

    async fn tenant(&self) -> TenantData {
        self.state.tenant(&self.rig.acme).await.unwrap().unwrap()
    }

    /// Commits changes of the test's own under some command's intent.
    async fn commit(&self, changes: Vec<StateChange>) -> Result<Committed, ErrorKind> {
        *self.state.script.lock().unwrap() = Some(changes);
        let command = Command::CreateKey(new_key("any", Algorithm::Ed25519));
        let _outcome = self.rig.command("carol", command).await;
        *self.state.script.lock().unwrap() = None;
        self.state.last.lock().unwrap().take().expect("a commit")
    }

    /// Closes the gateway and gives the state back.
    fn close(self) -> S {
        let Self { rig, state } = self;
        drop(rig);
        Arc::into_inner(state.inner).expect("nobody else holds the state")
    }
}

fn raised(key: &Key) -> Key {
    Key { epoch: key.epoch.next(), ..key.clone() }
}

async fn an_empty_state_is_empty<S: State>(fresh: &impl AsyncFn() -> S) {
    let state = fresh().await;
    assert!(state.tenants().await.unwrap().is_empty());
    let acme = "acme".parse().unwrap();
    assert!(state.tenant(&acme).await.unwrap().is_none());
    assert!(state.key(&acme, &name("kek")).await.unwrap().is_none());
    assert!(state.version(KeyId::from_bytes([1; 16]), KeyVersion::FIRST).await.unwrap().is_none());
    assert!(state.policy(&acme, 1).await.unwrap().is_none());
    let page = state.keys(&acme, None, 10).await.unwrap();
    assert!(page.rows.is_empty() && !page.more);
    assert_eq!(state.committed(OperationId::from_bytes([1; 16])).await.unwrap(), None);
    assert_eq!(state.position().sequence, 0);
    assert_eq!(state.health(), Health::Ready);
}

async fn reads_see_what_was_committed<S: State>(fresh: &impl AsyncFn() -> S) {
    let bench = Bench::new(fresh().await).await;
    assert!(bench.key("kek").await.is_none());
    let key = bench.create("kek").await;
    let entry = bench.key("kek").await.expect("a name that was looked up in vain is found once it is there");
    assert_eq!((&entry.key, entry.current.number), (&key, KeyVersion::FIRST));
    assert!(
        bench.state.key(&bench.rig.other, &name("kek")).await.unwrap().is_none(),
        "another tenant's name"
    );
    bench.rig.command("carol", Command::RotateKey(name("kek"))).await.unwrap();
    let entry = bench.key("kek").await.unwrap();
    assert_eq!((entry.key.newest.get(), entry.current.number.get()), (2, 2));
    let first = bench.state.version(key.id, KeyVersion::FIRST).await.unwrap().unwrap();
    assert_eq!((first.key, first.number), (key.id, KeyVersion::FIRST));
    assert_ne!(first.handle, entry.current.handle);
    assert!(bench.state.version(key.id, KeyVersion::new(3).unwrap()).await.unwrap().is_none());
    let labels = Labels::from([("team".into(), "ünïcode \" \\ \n".into())]);
    let label = Command::LabelKey { key: name("kek"), labels: labels.clone(), expected: None };
    bench.rig.command("carol", label).await.unwrap();
    assert_eq!(bench.key("kek").await.unwrap().key.labels, labels);
    // How often it is rotated, what is still needed, and which version new work takes.
    let taken = TakenInventory {
        current: KeyVersion::new(2).unwrap(),
        newest: KeyVersion::new(2).unwrap(),
        needed: vec![KeyVersion::FIRST],
        items: 9,
        sha256: [7; 32],
        bytes: 1,
    };
    for command in [
        Command::ScheduleKey { key: name("kek"), period: RotationPeriod::of_days(90) },
        Command::RecordInventory { key: name("kek"), taken },
    ] {
        bench.rig.command("carol", command).await.unwrap();
    }
    let key = &bench.key("kek").await.unwrap().key;
    assert_eq!(key.schedule.unwrap().period.days(), 90);
    assert_eq!(key.inventory.as_ref().unwrap().needed.len(), 2);
    bench.rig.command("carol", Command::RollBackKey(name("kek"))).await.unwrap();
    let entry = bench.key("kek").await.unwrap();
    let (newest, current) = (entry.key.newest.get(), entry.key.current);
    assert_eq!((newest, current, entry.current.number), (2, KeyVersion::FIRST, KeyVersion::FIRST));
    assert_eq!(entry.current.handle, first.handle);
    // What stands in the snapshot.
    let erin = person("acme", "erin", CallerKind::Application, &bench.rig.world);
    bench.rig.command("carol", Command::PutCaller(erin)).await.unwrap();
    let names =
        |data: &TenantData| data.callers.iter().map(|record| record.name.to_string()).collect::<Vec<_>>();
    let data = bench.tenant().await;
    assert_eq!(names(&data), ["alice", "audrey", "bob", "carol", "dora", "erin"], "in order of their names");
    bench.rig.command("carol", Command::RemoveCaller("alice".parse().unwrap())).await.unwrap();
    let anchor = |bytes: &[u8]| Anchor {
        name: "more".parse().unwrap(),
        certificate: Arc::from(bytes),
        revocations: Some(Arc::from(&b"list"[..])),
    };
    for bytes in [b"one", b"two"] {
        bench.rig.command("carol", Command::PutAnchor(anchor(bytes))).await.unwrap();
    }
    let data = bench.tenant().await;
    assert_eq!(names(&data), ["audrey", "bob", "carol", "dora", "erin"]);
    assert_eq!(
        data.anchors[0],
        anchor(b"two"),
        "put again, it replaces; anchors stand in order of their names"
    );
    bench.rig.command("carol", Command::RemoveAnchor("more".parse().unwrap())).await.unwrap();
    assert_eq!(bench.tenant().await.anchors.len(), 1);
    let set = Command::SetPolicy { text: "permit alice use *".into(), expected: None };
    bench.rig.command("carol", set).await.unwrap();
    assert_eq!(bench.tenant().await.policy.version, 2);
    let first = bench.state.policy(&bench.rig.acme, 1).await.unwrap().unwrap();
    assert_eq!((&*first.text, first.version), (POLICY, 1));
    assert!(bench.state.policy(&bench.rig.acme, 3).await.unwrap().is_none());
}

async fn lists_come_in_pages_by_name_and_number<S: State>(fresh: &impl AsyncFn() -> S) {
    let bench = Bench::new(fresh().await).await;
    // Names that sort otherwise as numbers or without regard to case.
    let names = ["B", "a", "a-1", "a.1", "a10", "a2", "z_", "k"];
    for key in names {
        bench.create(key).await;
    }
    let expected: BTreeSet<_> = names.iter().map(|key| name(key)).collect();
    for limit in [1, 3, 8, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = bench.state.keys(&bench.rig.acme, after.as_ref(), limit).await.unwrap();
            assert!(page.rows.len() <= limit);
            found.extend(page.rows.iter().map(|key| key.name.clone()));
            after = found.last().cloned();
            if !page.more {
                break;
            }
            assert_eq!(page.rows.len(), limit);
        }
        assert_eq!(found, expected.iter().cloned().collect::<Vec<_>>(), "pages of {limit}");
    }
    for _ in 1..12 {
        bench.rig.command("carol", Command::RotateKey(name("k"))).await.unwrap();
    }
    let key = bench.key("k").await.unwrap().key.id;
    let page = bench.state.versions(key, KeyVersion::new(8), 3).await.unwrap();
    let numbers: Vec<_> = page.rows.iter().map(|version| version.number.get()).collect();
    assert_eq!((numbers, page.more), (vec![9, 10, 11], true));
    let page = bench.state.versions(key, KeyVersion::new(11), 3).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (1, false));
}

async fn epochs_are_compared<S: State>(fresh: &impl AsyncFn() -> S) {
    let bench = Bench::new(fresh().await).await;
    let key = bench.create("kek").await;
    let position = bench.state.position();
    let data = bench.tenant().await;
    let tenant = |epoch: Option<u64>| StateChange::Tenant {
        record: TenantRecord { suspended: true, epoch: data.record.epoch.next(), ..data.record.clone() },
        expected: epoch.map(Epoch),
    };
    let key_at = |epoch: Option<u64>| StateChange::Key { key: raised(&key), expected: epoch.map(Epoch) };
    let namesake = Key { id: KeyId::from_bytes([8; 16]), epoch: Epoch::FIRST, ..key.clone() };
    let again = Key { name: name("again"), epoch: Epoch::FIRST, ..key.clone() };
    let unknown = Key { name: name("unknown"), id: KeyId::from_bytes([9; 16]), ..key.clone() };
    let policy = |version| StateChange::Policy {
        tenant: bench.rig.acme.clone(),
        policy: PolicyVersion { version, ..data.policy.clone() },
    };
    let refused = [
        (key_at(Some(2)), ErrorKind::Conflict),
        (key_at(Some(0)), ErrorKind::Conflict),
        (StateChange::Key { key: namesake, expected: None }, ErrorKind::AlreadyExists),
        (StateChange::Key { key: again, expected: None }, ErrorKind::Conflict),
        (StateChange::Key { key: unknown, expected: Some(Epoch(1)) }, ErrorKind::Conflict),
        (tenant(Some(2)), ErrorKind::Conflict),
        (tenant(None), ErrorKind::AlreadyExists),
        (policy(1), ErrorKind::Conflict),
        (policy(3), ErrorKind::Conflict),
    ];
    for (change, kind) in refused {
        assert_eq!(bench.commit(vec![change.clone()]).await, Err(kind), "{change:?}");
    }
    assert_eq!(bench.state.position(), position);
    assert_eq!(bench.tenant().await.record, data.record);
    assert_eq!(bench.key("kek").await.unwrap().key, key);
    assert!(bench.commit(vec![key_at(Some(1))]).await.is_ok());
    assert_eq!(bench.commit(vec![key_at(Some(1))]).await, Err(ErrorKind::Conflict), "once and no more");
}

async fn a_commit_is_all_or_nothing<S: State>(fresh: &impl AsyncFn() -> S) {
    let bench = Bench::new(fresh().await).await;
    let key = bench.create("kek").await;
    let before = bench.tenant().await;
    let position = bench.state.position();
    let version = Version {
        number: KeyVersion::new(2).unwrap(),
        ..Version::clone(&bench.key("kek").await.unwrap().current)
    };
    let good = vec![
        StateChange::Version { tenant: bench.rig.acme.clone(), version: version.clone() },
        StateChange::Key {
            key: Key { newest: version.number, current: version.number, ..raised(&key) },
            expected: Some(key.epoch),
        },
        StateChange::Caller {
            tenant: bench.rig.acme.clone(),
            record: person("acme", "erin", CallerKind::Application, &bench.rig.world),
        },
        StateChange::CallerGone { tenant: bench.rig.acme.clone(), name: "alice".parse().unwrap() },
    ];
    let bad = StateChange::Tenant { record: before.record.clone(), expected: Some(Epoch(99)) };
    // Whatever stands before it, the one that fails takes all with it.
    for at in 0..=good.len() {
        let mut changes = good.clone();
        changes.insert(at, bad.clone());
        assert_eq!(bench.commit(changes).await, Err(ErrorKind::Conflict));
        assert_eq!(bench.state.position(), position);
        assert_eq!(bench.key("kek").await.unwrap().key, key);
        assert!(bench.state.version(key.id, version.number).await.unwrap().is_none());
        assert_eq!(bench.tenant().await.callers, before.callers);
    }
    let committed = bench.commit(good).await.unwrap();
    assert_eq!(committed, bench.state.position());
    assert_eq!(bench.key("kek").await.unwrap().current.number, version.number);
}

async fn invocations_are_counted_and_never_forgotten<S: State>(
    fresh: &impl AsyncFn() -> S,
    reopen: &impl AsyncFn(S) -> S,
) {
    let bench = Bench::new(fresh().await).await;
    let key = bench.create("kek").await.id;
    let second = KeyVersion::new(2).unwrap();
    let state = &*bench.state.inner;
    assert_eq!(state.count(key, KeyVersion::FIRST, 1).await.unwrap(), 1);
    assert_eq!(state.count(key, KeyVersion::FIRST, 5).await.unwrap(), 6);
    assert_eq!(state.count(key, second, 1).await.unwrap(), 1, "each version has its own count");
    assert_eq!(state.count(key, KeyVersion::FIRST, 0).await.unwrap(), 6, "looking counts nothing");
    // From many threads at once no invocation is counted as another.
    let counted = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let count = block_on(state.count(key, KeyVersion::FIRST, 1)).unwrap();
                    assert!(counted.lock().unwrap().insert(count), "{count} was counted twice");
                }
            });
        }
    });
    assert_eq!(counted.lock().unwrap().len(), 200);
    let before = state.count(key, KeyVersion::FIRST, 0).await.unwrap();
    let state = reopen(bench.close()).await;
    assert!(state.count(key, KeyVersion::FIRST, 0).await.unwrap() >= before);
    assert!(state.count(key, KeyVersion::FIRST, 1).await.unwrap() > before);
}

async fn commits_are_remembered_by_their_operation<S: State>(fresh: &impl AsyncFn() -> S) {
    let bench = Bench::new(fresh().await).await;
    let mut digests = BTreeSet::from([bench.state.position().digest]);
    for index in 0..5 {
        let before = bench.state.position();
        let inbound = bench.rig.inbound("carol");
        let create = Command::CreateKey(new_key(&format!("k{index}"), Algorithm::Ed25519));
        assert_eq!(bench.state.committed(inbound.operation).await.unwrap(), None);
        let _done = bench.rig.pipeline.command(&inbound, create).await.unwrap();
        let after = bench.state.position();
        assert_eq!(after.sequence, before.sequence + 1);
        assert!(digests.insert(after.digest), "another state has another digest");
        assert_eq!(bench.state.committed(inbound.operation).await.unwrap(), Some(after));
    }
}

async fn stop_orders_are_remembered<S: State>(fresh: &impl AsyncFn() -> S, reopen: &impl AsyncFn(S) -> S) {
    let bench = Bench::new(fresh().await).await;
    bench.create("kek").await;
    let start = bench.state.position().sequence;
    let suspend_caller = Command::SuspendCaller("bob".parse().unwrap());
    let mut expected = Vec::new();
    for (command, subject) in
        [(transition("kek", Transition::Suspend), None), (suspend_caller, Some("bob".into()))]
    {
        let inbound = bench.rig.inbound("carol");
        expected.push(OpenIntent {
            operation: inbound.operation,
            tenant: bench.rig.acme.clone(),
            action: command.action(),
            key: command.key().cloned(),
            subject,
        });
        let _done = bench.rig.pipeline.command(&inbound, command).await.unwrap();
        // What is no stop order is not among them.
        bench.create(&format!("k{}", expected.len())).await;
    }
    assert_eq!(bench.state.orders_since(start).await.unwrap(), expected);
    assert_eq!(bench.state.orders_since(start + 1).await.unwrap(), expected[1..]);
    assert_eq!(bench.state.orders_since(bench.state.position().sequence).await.unwrap(), []);
    let state = reopen(bench.close()).await;
    assert_eq!(state.orders_since(0).await.unwrap(), expected);
}

async fn everything_is_there_after_reopening<S: State>(
    fresh: &impl AsyncFn() -> S,
    reopen: &impl AsyncFn(S) -> S,
) {
    let bench = Bench::new(fresh().await).await;
    for key in ["a", "b", "c"] {
        bench.create(key).await;
    }
    let inbound = bench.rig.inbound("carol");
    let operation = inbound.operation;
    let _done = bench.rig.pipeline.command(&inbound, Command::RotateKey(name("b"))).await.unwrap();
    let set = Command::SetPolicy { text: "permit alice use *".into(), expected: None };
    bench.rig.command("carol", set).await.unwrap();
    let acme = bench.rig.acme.clone();
    let tell = async |state: &S| {
        let mut told = format!("{:?}\n{:?}\n", state.position(), state.tenants().await.unwrap());
        let keys = state.keys(&acme, None, 100).await.unwrap().rows;
        for key in &keys {
            let entry = state.key(&acme, &key.name).await.unwrap();
            let versions = state.versions(key.id, None, 100).await.unwrap();
            told.push_str(&format!("{entry:?}\n{versions:?}\n"));
        }
        told.push_str(&format!("{:?}\n", state.policy(&acme, 1).await.unwrap()));
        told.push_str(&format!("{:?}\n", state.committed(operation).await.unwrap()));
        told
    };
    drop(inbound);
    let before = tell(&bench.state.inner).await;
    let state = reopen(bench.close()).await;
    assert_eq!(tell(&state).await, before);
    let state = reopen(state).await;
    assert_eq!(tell(&state).await, before);
}

async fn a_key_says_which_commit_made_its_newest_version<S: State>(fresh: &impl AsyncFn() -> S) {
    let site = Bench::new(fresh().await).await;
    site.create("kek").await;
    let made = site.state.position().sequence;
    let renewed = async || site.key("kek").await.unwrap().key.renewed;
    assert_eq!(renewed().await, made, "the state stamps it, whatever the record said");
    let committed = async || site.key("kek").await.unwrap().current.commit;
    assert_eq!(committed().await, made);
    site.rig.transition("kek", Transition::Suspend).await.unwrap();
    site.rig.transition("kek", Transition::Resume).await.unwrap();
    assert_eq!([renewed().await, committed().await], [made; 2], "other changes keep it");
    site.rig.command("carol", Command::RotateKey(name("kek"))).await.unwrap();
    let made_anew = site.state.position().sequence;
    assert_eq!([renewed().await, committed().await], [made_anew; 2]);
    let first = site.key("kek").await.unwrap().key.id;
    assert_eq!(site.state.version(first, KeyVersion::FIRST).await.unwrap().unwrap().commit, made);
}
