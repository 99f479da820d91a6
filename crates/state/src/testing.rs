//! Records for tests, and a store in a directory of its own.

use crate::{DirectoryLock, EmbeddedState, Opening, Settings};
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{CallerKind, CallerRecord, Credential, Token};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{Custody, Key, Labels, Legacy, SealedHandle, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{StateChange, World};
use holdfast_core::sealing_key::SealingKeys;
use holdfast_core::tenant::{Anchor, PolicyVersion, TenantRecord};
use holdfast_core::{Epoch, Error, KeyId, KeyVersion, OperationId, Secret, Timestamp, TokenId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that moves a second with each look, and no entropy.
#[derive(Default)]
pub(crate) struct TestWorld(AtomicU64);

impl World for TestWorld {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.ticks())
    }

    fn ticks(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        out.fill(7);
        Ok(())
    }
}

/// The store under test.
pub(crate) type TestState = EmbeddedState<TestWorld>;

/// The state key of every test.
pub(crate) fn state_key() -> Secret {
    Secret::new(vec![7; 32])
}

/// Opens a directory, making it if it is new.
pub(crate) fn open(directory: &Path) -> Result<TestState, Error> {
    open_with(directory, Settings::default())
}

/// The same with settings of its own.
pub(crate) fn open_with(directory: &Path, settings: Settings) -> Result<TestState, Error> {
    let lock = DirectoryLock::take(directory)?;
    EmbeddedState::open(&lock, &state_key(), Arc::default(), Opening::CreateIfAbsent, settings)
}

/// A temporary directory with a state that holds the tenant `acme`.
pub(crate) async fn founded() -> (tempfile::TempDir, TestState) {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path()).unwrap();
    state.apply(operation(1), None, found("acme")).await.unwrap();
    (directory, state)
}

pub(crate) fn operation(number: u8) -> OperationId {
    OperationId::from_bytes([number; 16])
}

pub(crate) fn tenant_record(id: &str) -> TenantRecord {
    TenantRecord {
        id: id.parse().unwrap(),
        suspended: false,
        handle: Some(SealedHandle::new(b"sealed")),
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
        created: Timestamp::from_micros(1_000_000),
        epoch: Epoch::FIRST,
    }
}

pub(crate) fn policy(version: u64) -> PolicyVersion {
    PolicyVersion {
        version,
        text: Arc::from(format!("permit(principal, action, resource); // \"{version}\"")),
        author: "ann".parse().unwrap(),
        set: Timestamp::from_micros(2_000_000),
    }
}

/// What makes a tenant.
pub(crate) fn found(id: &str) -> Vec<StateChange> {
    vec![
        StateChange::Tenant { record: tenant_record(id), expected: None },
        StateChange::Policy { tenant: id.parse().unwrap(), policy: policy(1) },
    ]
}

pub(crate) fn caller(name: &str) -> CallerRecord {
    CallerRecord {
        name: name.parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec!["batch".parse().unwrap()],
        credentials: vec![
            Credential::Uri("spiffe://acme/payroll".into()),
            Credential::Dns("payroll.acme".into()),
            Credential::KeyHash([9; 32]),
            Credential::Issued { issuer: "https://issuer.acme".into(), subject: Some("payroll".into()) },
            Credential::Issued { issuer: "https://issuer.acme".into(), subject: None },
        ],
        tokens: vec![Token {
            id: TokenId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16].map(|b| b / 2)),
            hash: [8; 32],
            expires: Timestamp::from_micros(5_000_000),
            form: holdfast_core::caller::TokenForm::Bearer,
        }],
        suspended: true,
    }
}

pub(crate) fn anchor(name: &str, revocations: &[u8]) -> Anchor {
    Anchor {
        name: name.parse().unwrap(),
        certificate: Arc::from(&b"der"[..]),
        revocations: Some(Arc::from(revocations)),
    }
}

/// A key without what the state stamped on it: as it was asked for.
pub(crate) fn unstamped(key: &Key) -> Key {
    Key { renewed: 0, ..key.clone() }
}

pub(crate) fn key(tenant: &str, name: &str, id: u8) -> Key {
    Key {
        id: KeyId::from_bytes([id; 16]),
        tenant: tenant.parse().unwrap(),
        name: name.parse().unwrap(),
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
        created: Timestamp::from_micros(3_000_000),
        epoch: Epoch::FIRST,
    }
}

pub(crate) fn version(key: u8, number: u32) -> Version {
    Version {
        key: KeyId::from_bytes([key; 16]),
        number: KeyVersion::new(number).unwrap(),
        state: KeyState::Active,
        handle: SealedHandle::new(format!("handle-{key}").as_bytes()),
        public: None,
        commitment: Commitment([key; 32]),
        commit: 1,
        created: Timestamp::from_micros(4_000_000),
    }
}

/// What makes a key with its first version.
pub(crate) fn create(key: Key) -> Vec<StateChange> {
    let tenant = key.tenant.clone();
    let version = version(key.id.as_bytes()[0], 1);
    vec![StateChange::Key { key, expected: None }, StateChange::Version { tenant, version }]
}

/// What writes a key's record again, changed.
pub(crate) fn update(key: &Key, change: impl FnOnce(&mut Key)) -> (Key, StateChange) {
    let mut next = key.clone();
    change(&mut next);
    next.epoch = key.epoch.next();
    (next.clone(), StateChange::Key { key: next, expected: Some(key.epoch) })
}
