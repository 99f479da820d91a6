//! What every audit log MUST do (the contract of [`AuditLog`]).

use crate::task::block_on;
use holdfast_core::port::{AuditLog, Committed, Health, Mark, Position, Priority};
use holdfast_core::query::AuditPath;
use holdfast_core::receipt::{LeafHash, Statement};
use holdfast_core::{ErrorKind, OperationId, TenantId};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs every test. `fresh` gives an empty log; `entries` gives what stands in a tenant's log, once all of it is durable.
pub async fn suite<L: AuditLog>(
    fresh: impl AsyncFn() -> L,
    entries: impl AsyncFn(&L, &TenantId) -> Vec<Vec<u8>>,
) {
    entries_stand_in_order(&fresh, &entries).await;
    every_mark_and_priority_is_taken(&fresh, &entries).await;
    the_largest_entry_fits(&fresh, &entries).await;
    a_ticket_that_nobody_waits_for_is_kept_all_the_same(&fresh, &entries).await;
    entries_stand_in_the_order_in_which_they_were_written(&fresh, &entries).await;
    a_log_can_be_read_from_its_first_moment(&fresh).await;
    what_is_attested_is_told_apart(&fresh).await;
    a_log_is_empty_until_something_is_appended(&fresh).await;
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn entry(text: &str) -> Vec<u8> {
    format!("{{\"entry\":\"{text}\"}}").into_bytes()
}

async fn append<L: AuditLog>(log: &L, handle: &L::Handle, bytes: &[u8]) -> Position {
    let write = |out: &mut Vec<u8>, opening: &mut [u8; 32]| {
        *opening = [7; 32];
        out.extend_from_slice(bytes);
    };
    let ((), ticket) = log.append(handle, Mark::Plain, Priority::Ordinary, write).unwrap();
    ticket.await.unwrap()
}

async fn entries_stand_in_order<L: AuditLog>(
    fresh: &impl AsyncFn() -> L,
    entries: &impl AsyncFn(&L, &TenantId) -> Vec<Vec<u8>>,
) {
    let log = fresh().await;
    assert_eq!(log.health(), Health::Ready);
    let (acme, other) = (tenant("acme"), tenant("other"));
    let (of_acme, of_other) = (log.open(&acme).unwrap(), log.open(&other).unwrap());
    for index in 0..10u64 {
        let position = append(&log, &of_acme, &entry(&format!("a{index}"))).await;
        assert_eq!(position.index, index, "positions count from 0 without gaps");
        if index % 3 == 0 {
            assert_eq!(append(&log, &of_other, &entry(&format!("o{index}"))).await.index, index / 3);
        }
    }
    let expected: Vec<_> = (0..10).map(|index| entry(&format!("a{index}"))).collect();
    assert_eq!(entries(&log, &acme).await, expected, "the entries are the bytes that were written");
    let expected: Vec<_> = [0, 3, 6, 9].map(|index| entry(&format!("o{index}"))).to_vec();
    assert_eq!(entries(&log, &other).await, expected, "each tenant's entries are its own");
}

async fn every_mark_and_priority_is_taken<L: AuditLog>(
    fresh: &impl AsyncFn() -> L,
    entries: &impl AsyncFn(&L, &TenantId) -> Vec<Vec<u8>>,
) {
    let log = fresh().await;
    let acme = tenant("acme");
    let handle = log.open(&acme).unwrap();
    let operation = |number| OperationId::from_bytes([number; 16]);
    let committed = Committed { sequence: 1, digest: [1; 32] };
    let marks = [
        Mark::Plain,
        Mark::Intent(operation(1)),
        Mark::Outcome(operation(1), Some(committed)),
        Mark::Intent(operation(2)),
        Mark::Outcome(operation(2), None),
    ];
    let mut expected = Vec::new();
    for mark in marks {
        for priority in [Priority::Ordinary, Priority::Stop] {
            let bytes = entry(&expected.len().to_string());
            let mut runs = 0;
            let write = |out: &mut Vec<u8>, _: &mut [u8; 32]| {
                out.extend_from_slice(&bytes);
                runs += 1;
                runs
            };
            let (value, ticket) = log.append(&handle, mark, priority, write).unwrap();
            assert_eq!(value, 1, "what `write` gives is given back, and it runs once");
            ticket.await.unwrap();
            expected.push(bytes);
        }
    }
    assert_eq!(entries(&log, &acme).await, expected);
}

async fn the_largest_entry_fits<L: AuditLog>(
    fresh: &impl AsyncFn() -> L,
    entries: &impl AsyncFn(&L, &TenantId) -> Vec<Vec<u8>>,
) {
    let log = fresh().await;
    let acme = tenant("acme");
    let handle = log.open(&acme).unwrap();
    let bytes = entry(&"x".repeat(65_535 - entry("").len()));
    assert_eq!(bytes.len(), 65_535);
    append(&log, &handle, &bytes).await;
    assert_eq!(entries(&log, &acme).await, [bytes]);
}

async fn a_ticket_that_nobody_waits_for_is_kept_all_the_same<L: AuditLog>(
    fresh: &impl AsyncFn() -> L,
    entries: &impl AsyncFn(&L, &TenantId) -> Vec<Vec<u8>>,
) {
    let log = fresh().await;
    let acme = tenant("acme");
    let handle = log.open(&acme).unwrap();
    let write = |out: &mut Vec<u8>, _: &mut [u8; 32]| out.extend_from_slice(&entry("dropped"));
    drop(log.append(&handle, Mark::Plain, Priority::Ordinary, write).unwrap());
    // A copy of the handle is the same log.
    let again = handle.clone();
    assert_eq!(append(&log, &again, &entry("kept")).await.index, 1);
    assert_eq!(entries(&log, &acme).await, [entry("dropped"), entry("kept")]);
}

async fn entries_stand_in_the_order_in_which_they_were_written<L: AuditLog>(
    fresh: &impl AsyncFn() -> L,
    entries: &impl AsyncFn(&L, &TenantId) -> Vec<Vec<u8>>,
) {
    const THREADS: usize = 4;
    const EACH: usize = 100;
    let log = fresh().await;
    let tenants = [tenant("acme"), tenant("other")];
    let handles = [log.open(&tenants[0]).unwrap(), log.open(&tenants[1]).unwrap()];
    // Counted inside of `write`, which runs under the log's ordering.
    let written = AtomicU64::new(0);
    let positions = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (log, handles, written, positions) = (&log, &handles, &written, &positions);
            scope.spawn(move || {
                for index in 0..EACH {
                    let of = (thread + index) % 2;
                    let write = |out: &mut Vec<u8>, _: &mut [u8; 32]| {
                        let order = written.fetch_add(1, Ordering::SeqCst);
                        out.extend_from_slice(&entry(&format!("{order:06}")));
                        order
                    };
                    let (order, ticket) =
                        log.append(&handles[of], Mark::Plain, Priority::Ordinary, write).unwrap();
                    let position = block_on(ticket).unwrap();
                    positions.lock().unwrap().push((of, position.index, order));
                }
            });
        }
    });
    let mut positions = positions.into_inner().unwrap();
    positions.sort_unstable();
    assert_eq!(positions.len(), THREADS * EACH);
    for (of, tenant) in tenants.iter().enumerate() {
        let mut promised = positions.iter().filter(|(tenant, ..)| *tenant == of).zip(0u64..);
        assert!(promised.all(|((_, index, _), expected)| *index == expected), "positions have gaps");
        let orders: Vec<_> =
            positions.iter().filter(|(tenant, ..)| *tenant == of).map(|(.., order)| *order).collect();
        assert!(orders.is_sorted(), "entries stand in another order than that in which they were written");
        let expected: Vec<_> = orders.iter().map(|order| entry(&format!("{order:06}"))).collect();
        assert_eq!(entries(&log, tenant).await, expected);
    }
}

async fn a_log_can_be_read_from_its_first_moment<L: AuditLog>(fresh: &impl AsyncFn() -> L) {
    let log = fresh().await;
    let handle = log.open(&tenant("acme")).unwrap();
    let read = async |path| log.read(&handle, &AuditPath::new(path).unwrap()).await;
    let empty = read("checkpoint").await.unwrap();
    assert!(!empty.is_empty());
    for path in ["tile/0/000", "tile/0/000.p/1", "tile/entries/x001/000"] {
        assert_eq!(read(path).await.unwrap_err().kind(), ErrorKind::NotFound, "{path}");
    }
    append(&log, &handle, &entry("one")).await;
    assert_ne!(read("checkpoint").await.unwrap(), empty, "it covers what was durable before");
}

async fn a_log_is_empty_until_something_is_appended<L: AuditLog>(fresh: &impl AsyncFn() -> L) {
    let log = fresh().await;
    let (acme, other) = (log.open(&tenant("acme")).unwrap(), log.open(&tenant("other")).unwrap());
    assert!(log.is_empty(&acme) && log.is_empty(&other));
    let write = |out: &mut Vec<u8>, _: &mut [u8; 32]| out.extend_from_slice(&entry("one"));
    let ((), ticket) = log.append(&acme, Mark::Plain, Priority::Ordinary, write).unwrap();
    assert!(!log.is_empty(&acme), "also while it waits");
    assert!(log.is_empty(&other));
    ticket.await.unwrap();
    assert!(!log.is_empty(&acme));
}

async fn what_is_attested_is_told_apart<L: AuditLog>(fresh: &impl AsyncFn() -> L) {
    let log = fresh().await;
    let (acme, other) = (log.open(&tenant("acme")).unwrap(), log.open(&tenant("other")).unwrap());
    let index = append(&log, &acme, &entry("one")).await.index;
    let operation = OperationId::from_bytes([1; 16]);
    let statement = Statement { operation, index, leaf: LeafHash::of(&entry("one")) };
    let receipt = log.attest(&acme, &statement).unwrap();
    assert_eq!(log.attest(&acme, &statement).unwrap(), receipt, "the same again");
    for changed in [
        Statement { operation: OperationId::from_bytes([2; 16]), ..statement },
        Statement { index: 1, ..statement },
        Statement { leaf: LeafHash::of(&entry("two")), ..statement },
    ] {
        assert_ne!(log.attest(&acme, &changed).unwrap(), receipt);
    }
    assert_ne!(log.attest(&other, &statement).unwrap(), receipt, "another log's word is another");
}
