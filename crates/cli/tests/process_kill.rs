//! The real process, killed under load again and again: what it acknowledged is recorded once and in force.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::{new_key, start, tenant};
use common::log::closing;
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{Trusted, verify};
use holdfast_sdk::{KeyName, Tenant};
use rustix::process::Signal;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How often it is killed.
const KILLS: usize = 5;
/// The same where time is no object.
const SLOW_KILLS: usize = 100;
/// Tasks that use keys.
const USERS: usize = 4;
/// Acknowledged operations before each kill.
const LOAD: usize = 150;

/// What clients were told before the kill.
#[derive(Default)]
struct Told {
    /// Operation and context of each acknowledged encryption, with its ciphertext.
    encrypted: Vec<(String, String, Vec<u8>)>,
    /// Acknowledged commands.
    commands: Vec<String>,
}

struct Load {
    told: AtomicUsize,
    enough: Notify,
}

impl Load {
    fn count(&self) {
        if self.told.fetch_add(1, Ordering::Relaxed) + 1 >= LOAD {
            self.enough.notify_one();
        }
    }
}

/// Encrypts with a context of its own each time, until the connection breaks.
async fn encrypts(tenant: Tenant, key: KeyName, name: String, load: Arc<Load>) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        let context = format!("{name}-{number}");
        let Ok(sealed) = tenant.encrypt(&key, context.as_bytes(), &[("id", &context)]).await else { break };
        told.encrypted.push((sealed.operation.unwrap().to_string(), context, sealed.body.ciphertext.0));
        load.count();
    }
    told
}

/// Rotates a key until the connection breaks; remembers the newest version that it was told.
async fn rotates(tenant: Tenant, key: KeyName, newest: Arc<AtomicU32>, load: Arc<Load>) -> Told {
    let mut told = Told::default();
    while let Ok(done) = tenant.rotate_key(&key).await {
        newest.store(done.body.newest_version.0.get(), Ordering::Relaxed);
        told.commands.push(done.operation.unwrap().to_string());
        load.count();
    }
    told
}

/// Makes keys and stops each, until the connection breaks.
async fn stops(
    tenant: Tenant,
    round: usize,
    stopped: Arc<std::sync::Mutex<Vec<KeyName>>>,
    load: Arc<Load>,
) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        let name: KeyName = format!("stopped-{round}-{number}").parse().unwrap();
        let Ok(made) = tenant.create_key(&new_key(name.as_str())).await else { break };
        told.commands.push(made.operation.unwrap().to_string());
        let Ok(done) = tenant.transition_key(&name, holdfast_core::lifecycle::Transition::Suspend).await
        else {
            break;
        };
        told.commands.push(done.operation.unwrap().to_string());
        stopped.lock().unwrap().push(name);
        load.count();
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let log = data.join("audit/dev");
    let key: KeyName = "used".parse().unwrap();
    let mut server = start(&data);
    tenant(&data, &server.url).create_key(&new_key("used")).await.unwrap();
    let newest = Arc::new(AtomicU32::new(1));
    let stopped = Arc::default();
    let (mut encrypted, mut commands) = (vec![], vec![]);
    let mut earlier: Option<(Vec<u8>, u64)> = None;
    let kills = if std::env::var_os("HOLDFAST_SLOW").is_some() { SLOW_KILLS } else { KILLS };
    for round in 0..kills {
        let load = Arc::new(Load { told: AtomicUsize::new(0), enough: Notify::new() });
        let as_one = tenant(&data, &server.url);
        let mut tasks = vec![
            tokio::spawn(rotates(as_one.clone(), key.clone(), Arc::clone(&newest), Arc::clone(&load))),
            tokio::spawn(stops(as_one.clone(), round, Arc::clone(&stopped), Arc::clone(&load))),
        ];
        for user in 0..USERS {
            let name = format!("{round}-{user}");
            tasks.push(tokio::spawn(encrypts(as_one.clone(), key.clone(), name, Arc::clone(&load))));
        }
        tokio::time::timeout(Duration::from_secs(120), load.enough.notified()).await.expect("load");
        server.signal(Signal::KILL);
        for task in tasks {
            let told = task.await.unwrap();
            encrypted.extend(told.encrypted);
            commands.extend(told.commands);
        }
        drop(server);

        // A checkpoint that left the machine before the restart is continued after it.
        let before = std::fs::read(log.join("checkpoint")).unwrap();
        server = start(&data);
        let known = earlier.as_ref().map_or(0, |(_, size)| *size);
        let grown = async {
            while LogReader::open(&log).unwrap().checkpoint().size <= known {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), grown).await.expect("the tree grows");
        let trusted = Trusted { earlier: Some(before), ..Trusted::default() };
        verify(&log, &trusted, |_, _| {}).unwrap_or_else(|error| panic!("round {round}: {error}"));
        if let Some((note, size)) = &earlier {
            let trusted = Trusted { earlier: Some(note.clone()), ..Trusted::default() };
            assert_eq!(verify(&log, &trusted, |_, _| {}).unwrap().continues, Some(*size));
        }
        // The log still grows: note and size come from one look.
        let seen = LogReader::open(&log).unwrap();
        earlier = Some((seen.note().into(), seen.checkpoint().size));

        let tenant = tenant(&data, &server.url);
        let record = tenant.key(&key).await.unwrap();
        assert!(
            record.body.newest_version.0.get() >= newest.load(Ordering::Relaxed),
            "an acknowledged rotation is lost"
        );
        let names: Vec<KeyName> = stopped.lock().unwrap().clone();
        for name in &names {
            let state = tenant.key(name).await.unwrap().body.state.0;
            assert_eq!(state, holdfast_core::lifecycle::KeyState::Suspended, "`{name}` lost its stop");
        }
        let (_, context, ciphertext) = encrypted.last().unwrap();
        let opened = tenant.decrypt(&key, ciphertext, &[("id", context)]).await.unwrap();
        assert_eq!(opened.body.plaintext.0.expose(), context.as_bytes());
    }
    server.stop();

    let trusted = Trusted { earlier: earlier.map(|(note, _)| note), ..Trusted::default() };
    verify(&log, &trusted, |_, _| {}).unwrap();
    let mut closed: HashMap<String, usize> = HashMap::new();
    let mut contexts = HashMap::new();
    for event in closing(&log) {
        let operation = event["operation"].as_str().unwrap().to_owned();
        if let Some(id) = event["context"]["id"].as_str().filter(|_| event["action"] == "encrypt") {
            contexts.insert(operation.clone(), id.to_owned());
        }
        *closed.entry(operation).or_default() += 1;
    }
    assert!(encrypted.len() + commands.len() >= kills * LOAD);
    for (operation, context, _) in &encrypted {
        assert_eq!(closed.get(operation), Some(&1), "{operation}");
        assert_eq!(contexts.get(operation), Some(context));
    }
    for operation in &commands {
        assert_eq!(closed.get(operation), Some(&1), "{operation}");
    }
    // Each operation is closed once, acknowledged or not.
    assert!(closed.values().all(|count| *count == 1), "{:?}", closed.iter().find(|(_, count)| **count != 1));
}
