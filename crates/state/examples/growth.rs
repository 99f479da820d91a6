//! How the cost of a key's read and of a start grows with the number of keys: `cargo run --release -p holdfast-state --example growth -- 100000`.
//!
//! Reads go through the port, each a random key: *cold* ones ask the database, *warm* ones find the key in memory. The caches are kept
//! small, so that at any number of keys most random reads are cold.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "a program of its own that takes the crate's modules in as they are"
)]

// The store changes only under an intent that core's pipeline mints, so a program outside of the crate cannot commit anything. The crate's
// own modules are therefore compiled into this one, which makes the commit below the port visible without opening it to anybody else.
#[path = "../src/apply.rs"]
mod apply;
#[path = "../src/body.rs"]
mod body;
#[path = "../src/budget.rs"]
mod budget;
#[path = "../src/cache.rs"]
mod cache;
#[path = "../src/copy.rs"]
mod copy;
#[path = "../src/database.rs"]
mod database;
#[path = "../src/directory.rs"]
mod directory;
#[path = "../src/fault.rs"]
mod fault;
#[path = "../src/ledger.rs"]
mod ledger;
#[path = "../src/port.rs"]
mod port;
#[path = "../src/query.rs"]
mod query;
#[path = "../src/readers.rs"]
mod readers;
#[path = "../src/record.rs"]
mod record;
#[path = "../src/schema.rs"]
mod schema;
#[path = "../src/seal.rs"]
mod seal;
#[path = "../src/store.rs"]
mod store;
#[path = "../src/verify.rs"]
mod verify;
#[path = "../src/writer.rs"]
mod writer;

pub use directory::DirectoryLock;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{Custody, Key, Labels, Legacy, SealedHandle, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{State, StateChange, World};
use holdfast_core::sealing_key::SealingKeys;
use holdfast_core::tenant::{PolicyVersion, TenantRecord};
use holdfast_core::{
    Epoch, Error, ErrorKind, KeyId, KeyName, KeyVersion, OperationId, Secret, Stage, TenantId, Timestamp,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{EmbeddedState, Opening, Settings};

/// Keys of one commit.
const BATCH: u64 = 1_000;
/// Reads for each figure.
const READS: u64 = 5_000;

/// No clock and no entropy: nothing here looks at them.
struct Still;

impl World for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn ticks(&self) -> u64 {
        0
    }

    fn fill(&self, _out: &mut [u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Internal, Stage::Start, "no entropy here"))
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let keys: u64 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    runtime.block_on(measure(directory.path(), keys.max(1)))
}

async fn measure(directory: &Path, keys: u64) -> Outcome<()> {
    let started = Instant::now();
    let state = open(directory)?;
    fill(&state, keys).await?;
    println!("{keys} keys created in {:?}", started.elapsed());
    drop(state);

    let started = Instant::now();
    let state = open(directory)?;
    println!("open: {:?}", started.elapsed());
    let tenant = "growth".parse()?;
    let cold = reads(&state, &tenant, scattered(keys)).await?;
    println!("cold read, p50: {cold:?}");
    let few: Vec<u64> = scattered(keys).take(64).collect();
    reads(&state, &tenant, few.iter().copied()).await?;
    let warm = reads(&state, &tenant, few.iter().copied().cycle()).await?;
    println!("warm read, p50: {warm:?}");
    Ok(())
}

fn open(directory: &Path) -> Result<EmbeddedState<Still>, Error> {
    let lock = DirectoryLock::take(directory)?;
    let settings = Settings { cached_keys: 512, cached_versions: 512, ..Settings::default() };
    let key = Secret::new(vec![7; seal::KEY_LEN]);
    EmbeddedState::open(&lock, &key, Arc::new(Still), Opening::CreateIfAbsent, settings)
}

/// Numbers below `keys` in an order that jumps about (a linear congruence, Knuth's MMIX).
fn scattered(keys: u64) -> impl Iterator<Item = u64> {
    let next = |seed: &u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(42u64), next).map(move |seed| (seed >> 20) % keys)
}

async fn reads(
    state: &EmbeddedState<Still>,
    tenant: &TenantId,
    which: impl Iterator<Item = u64>,
) -> Outcome<Duration> {
    let mut times = Vec::new();
    for number in which.take(READS.try_into()?) {
        let name = name(number)?;
        let started = Instant::now();
        let found = state.key(tenant, &name).await?;
        times.push(started.elapsed());
        found.ok_or("a key is missing")?;
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

async fn fill(state: &EmbeddedState<Still>, keys: u64) -> Outcome<()> {
    let tenant: TenantId = "growth".parse()?;
    let record = TenantRecord {
        id: tenant.clone(),
        suspended: false,
        handle: None,
        sealing: SealingKeys::default(),
        backed_up: None,
        backups: vec![],
        verified: None,
        retention: None,
        clock_held: None,
        out: BTreeMap::new(),
        members: BTreeMap::new(),
        up: 0,
        shares: None,
        created: Timestamp::from_micros(0),
        epoch: Epoch::FIRST,
    };
    let policy = PolicyVersion {
        version: 1,
        text: Arc::from(""),
        author: "growth".parse()?,
        set: Timestamp::from_micros(0),
    };
    let founding = vec![
        StateChange::Tenant { record, expected: None },
        StateChange::Policy { tenant: tenant.clone(), policy },
    ];
    state.apply(operation(0), None, founding).await?;
    for batch in 0..keys.div_ceil(BATCH) {
        let first = batch.saturating_mul(BATCH);
        let mut changes = Vec::new();
        for number in first..keys.min(first.saturating_add(BATCH)) {
            let (key, version) = key(&tenant, number)?;
            changes.push(StateChange::Key { key, expected: None });
            changes.push(StateChange::Version { tenant: tenant.clone(), version });
        }
        state.apply(operation(batch.saturating_add(1)), None, changes).await?;
    }
    Ok(())
}

fn operation(number: u64) -> OperationId {
    OperationId::from_bytes(u128::from(number).to_be_bytes())
}

fn name(number: u64) -> Outcome<KeyName> {
    Ok(format!("key-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).parse()?)
}

fn key(tenant: &TenantId, number: u64) -> Outcome<(Key, Version)> {
    let id = KeyId::from_bytes(u128::from(number).to_be_bytes());
    let key = Key {
        id,
        tenant: tenant.clone(),
        name: name(number)?,
        algorithm: Algorithm::Xaes256Gcm,
        purpose: Purpose::Encrypt,
        state: KeyState::Active,
        resumes_to: KeyState::Active,
        exportable: false,
        legacy: Legacy::default(),
        emergency_copy: false,
        protocol: None,
        labels: Labels::new(),
        newest: KeyVersion::FIRST,
        current: KeyVersion::FIRST,
        schedule: None,
        inventory: None,
        destruction: None,
        erasure: None,
        waits: false,
        custody: Custody::Software,
        archive: None,
        renewed: 0,
        created: Timestamp::from_micros(0),
        epoch: Epoch::FIRST,
    };
    let version = Version {
        key: id,
        number: KeyVersion::FIRST,
        state: KeyState::Active,
        handle: SealedHandle::new(&[7; 96]),
        public: None,
        commitment: Commitment([7; 32]),
        commit: Version::UNCOMMITTED,
        created: Timestamp::from_micros(0),
    };
    Ok((key, version))
}
