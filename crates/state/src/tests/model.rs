//! Random commits against a model that is nothing but maps, with restarts in between.

use crate::testing::*;
use holdfast_core::key::{Key, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{State, StateChange};
use holdfast_core::{Epoch, KeyVersion};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What one step tries. Names and ids are few, so that steps meet.
#[derive(Debug, Clone)]
enum Step {
    Create { name: u8, id: u8 },
    Change { id: u8, state: u8, stale: bool },
    Rotate { id: u8 },
    Register { name: u8 },
    Remove { name: u8 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 1..6u8).prop_map(|(name, id)| Step::Create { name, id }),
        4 => (1..6u8, 0..6u8, prop::bool::weighted(0.2)).prop_map(|(id, state, stale)| Step::Change { id, state, stale }),
        3 => (1..6u8).prop_map(|id| Step::Rotate { id }),
        2 => (0..3u8).prop_map(|name| Step::Register { name }),
        1 => (0..3u8).prop_map(|name| Step::Remove { name }),
        1 => Just(Step::Restart),
    ]
}

/// The rules of the port in their plainest form.
#[derive(Default, Clone)]
struct Model {
    keys: BTreeMap<u8, Key>,
    /// Which key a name leads to.
    names: BTreeMap<String, u8>,
    versions: BTreeMap<(u8, u32), Version>,
    callers: Vec<String>,
    commits: u64,
}

impl Model {
    fn apply(&mut self, changes: &[StateChange]) -> Result<(), &'static str> {
        let mut next = self.clone();
        for change in changes {
            match change {
                StateChange::Key { key, expected: None } => {
                    let id = key.id.as_bytes()[0];
                    if next.keys.contains_key(&id) {
                        return Err("conflict");
                    }
                    let holder = next.names.get(key.name.as_str()).map(|id| next.keys[id].state);
                    if holder.is_some_and(|state| state != KeyState::Destroyed) {
                        return Err("already-exists");
                    }
                    next.names.insert(key.name.to_string(), id);
                    next.keys.insert(id, key.clone());
                }
                StateChange::Key { key, expected: Some(expected) } => {
                    let id = key.id.as_bytes()[0];
                    match next.keys.get(&id) {
                        Some(found) if found.epoch != *expected => return Err("conflict"),
                        Some(found)
                            if found.state == KeyState::Destroyed && key.state != KeyState::Destroyed =>
                        {
                            return Err("conflict");
                        }
                        Some(_) => next.keys.insert(id, key.clone()),
                        None => return Err("conflict"),
                    };
                }
                StateChange::Version { version, .. } => {
                    next.versions.insert((version.key.as_bytes()[0], version.number.get()), version.clone());
                }
                StateChange::Caller { record, .. } => {
                    next.callers.retain(|name| *name != record.name.as_str());
                    next.callers.push(record.name.to_string());
                    next.callers.sort();
                }
                StateChange::CallerGone { name, .. } => {
                    let before = next.callers.len();
                    next.callers.retain(|known| *known != name.as_str());
                    if next.callers.len() == before {
                        return Err("conflict");
                    }
                }
                StateChange::Tenant { .. }
                | StateChange::Anchor { .. }
                | StateChange::AnchorGone { .. }
                | StateChange::Policy { .. } => unreachable!("no step makes one"),
            }
        }
        next.commits += 1;
        *self = next;
        Ok(())
    }

    fn changes(&self, step: &Step) -> Vec<StateChange> {
        let tenant = || "acme".parse().unwrap();
        let missing = |id| key("acme", "missing", id);
        match step {
            Step::Create { name, id } => create(key("acme", &format!("k{name}"), *id)),
            Step::Change { id, state, stale } => {
                let mut found = self.keys.get(id).cloned().unwrap_or_else(|| missing(*id));
                if *stale {
                    found.epoch = Epoch(found.epoch.0 + 5);
                }
                vec![update(&found, |key| key.state = KeyState::ALL[usize::from(*state)]).1]
            }
            Step::Rotate { id } => {
                let found = self.keys.get(id).cloned().unwrap_or_else(|| missing(*id));
                let next = found.newest.next().unwrap();
                let made = StateChange::Version { tenant: tenant(), version: version(*id, next.get()) };
                vec![update(&found, |key| (key.newest, key.current) = (next, next)).1, made]
            }
            Step::Register { name } => {
                vec![StateChange::Caller { tenant: tenant(), record: caller(&format!("c{name}")) }]
            }
            Step::Remove { name } => {
                let name = format!("c{name}").parse().unwrap();
                vec![StateChange::CallerGone { tenant: tenant(), name }]
            }
            Step::Restart => Vec::new(),
        }
    }

    async fn compare(&self, state: &TestState) {
        let tenant = "acme".parse().unwrap();
        assert_eq!(state.position().sequence, self.commits + 1);
        for name in 0..3 {
            let text = format!("k{name}");
            let expected = self.names.get(&text).map(|id| self.keys[id].clone());
            let found = state.key(&tenant, &text.parse().unwrap()).await.unwrap();
            assert_eq!(found.as_ref().map(|entry| unstamped(&entry.key)), expected);
            if let Some(entry) = found {
                let current = &self.versions[&(entry.key.id.as_bytes()[0], entry.key.current.get())];
                assert_eq!(&*entry.current, current);
            }
        }
        for ((key, number), version) in &self.versions {
            let number = KeyVersion::new(*number).unwrap();
            let found = state.version(self.keys[key].id, number).await.unwrap();
            assert_eq!(found.as_deref(), Some(version));
        }
        let listed = state.keys(&tenant, None, 100).await.unwrap().rows;
        let expected: Vec<_> = self.names.values().map(|id| self.keys[id].clone()).collect();
        assert_eq!(listed.iter().map(unstamped).collect::<Vec<_>>(), expected);
        let callers = state.tenant(&tenant).await.unwrap().unwrap().callers;
        assert_eq!(callers.iter().map(|record| record.name.to_string()).collect::<Vec<_>>(), self.callers);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (directory, mut state) = founded().await;
            let mut model = Model::default();
            for step in &steps {
                if matches!(step, Step::Restart) {
                    let before = state.position();
                    drop(state);
                    state = open(directory.path()).unwrap();
                    assert_eq!(state.position(), before);
                } else {
                    let changes = model.changes(step);
                    let expected = model.apply(&changes);
                    let outcome = state.apply(operation(9), None, changes).await;
                    assert_eq!(outcome.map(drop).map_err(|error| error.kind().code()), expected, "{step:?}");
                }
                model.compare(&state).await;
            }
            state.verify_all(|_| ()).unwrap();
        });
    }
}
