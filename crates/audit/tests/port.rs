//! The log behind core's port: from where on its entries are kept.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod common;

use holdfast_audit::port::{GatewayLog, Signing, stop_orders};
use holdfast_audit::reader::LogReader;
use holdfast_core::action::Action;
use holdfast_core::port::{AuditLog, Expiry, Mark, Priority};
use holdfast_core::retention::Retention;
use holdfast_core::{Error, ErrorKind, OperationId, Secret, TenantId, Timestamp};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Seeds;

impl Signing for Seeds {
    fn origin(&self, tenant: &TenantId) -> String {
        format!("test.example/{tenant}")
    }

    fn seed(&self, _: &TenantId) -> Result<Secret, Error> {
        Ok(Secret::new(vec![7; 32]))
    }
}

const HOUR: u64 = 3_600_000_000;
const HOURS: u64 = 1500;

#[tokio::test]
async fn what_is_old_enough_may_go_but_for_what_somebody_still_needs() {
    let data = tempfile::tempdir().unwrap();
    let (log, _) = GatewayLog::open(common::config(data.path()), Seeds).unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    let open = log.open(&tenant).unwrap();
    // An entry in each hour of some two months.
    let mut recorded = Vec::new();
    for hour in 0..HOURS {
        let time = Timestamp::from_micros(hour * HOUR);
        let write = |bytes: &mut Vec<u8>, _: &mut [u8; 32]| {
            bytes.extend_from_slice(format!("{{\"time\":\"{time}\"}}").as_bytes());
        };
        recorded.push(loop {
            match log.append(&open, Mark::Plain, Priority::Ordinary, write) {
                Ok((_, ticket)) => break ticket,
                // The next segment is being made.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Throttled, "{error}"),
            }
            std::thread::yield_now();
        });
        if recorded.len() == 50 {
            for ticket in recorded.drain(..) {
                ticket.await.unwrap();
            }
        }
    }
    log.flush(&tenant).unwrap();
    let prunable = async |needed| {
        let retention = Retention::of_days(30).unwrap();
        // 780 entries are older than that.
        log.prunable(&open, Expiry { retention, now: Timestamp::from_micros(HOURS * HOUR), needed })
            .await
            .unwrap()
    };
    assert_eq!(prunable(None).await, Some(768));
    for (needed, keep) in [(0, None), (255, None), (256, Some(256)), (600, Some(512)), (5000, Some(768))] {
        assert_eq!(prunable(Some(needed)).await, keep, "{needed}");
    }
    assert_eq!((log.reach(&tenant).unwrap(), log.alarm()), (HOURS, None));
    log.raise_alarm("another history".to_owned());
    log.raise_alarm("and another".to_owned());
    assert_eq!(log.alarm(), Some("another history"));
}

#[tokio::test]
async fn a_seal_is_no_stop_order_that_is_given_again() {
    let data = tempfile::tempdir().unwrap();
    let tenant = TenantId::gateway();
    let entries = [("seal", "success"), ("suspend-key", "intent"), ("suspend-key", "success")];
    assert_eq!(orders_of(data.path(), &tenant, &entries).await, [Action::SuspendKey]);
}

#[tokio::test]
async fn what_took_back_an_order_to_destroy_is_among_them() {
    let data = tempfile::tempdir().unwrap();
    let tenant = "acme".parse().unwrap();
    let entries = [
        ("cancel-destruction", "refused"),
        ("destroy-key", "intent"),
        ("destroy-key", "success"),
        ("cancel-destruction", "intent"),
        ("cancel-destruction", "success"),
    ];
    // One that is younger than the backup is a suspension; an older one is taken back.
    let orders = orders_of(data.path(), &tenant, &entries).await;
    assert_eq!(orders, [Action::SuspendKey, Action::CancelDestruction]);
}

#[tokio::test]
async fn what_was_taken_back_of_a_key_is_taken_back_of_no_other_of_its_name() {
    let data = tempfile::tempdir().unwrap();
    let tenant = "acme".parse().unwrap();
    let log = Written::open(data.path(), &tenant);
    for id in ["one", "two"] {
        log.append(&[("destroy-key", "intent", id), ("destroy-key", "success", id)]).await;
    }
    log.append(&[("cancel-destruction", "success", "two")]).await;
    assert_eq!(log.orders(0), [Action::DestroyKey, Action::SuspendKey, Action::CancelDestruction]);
}

/// As builds have closed one that a crash came into: without the key's id.
#[tokio::test]
async fn what_a_crash_has_interrupted_is_of_the_key_that_it_was_begun_with() {
    let data = tempfile::tempdir().unwrap();
    let tenant = "acme".parse().unwrap();
    let log = Written::open(data.path(), &tenant);
    for id in ["one", "two"] {
        log.append(&[("destroy-key", "intent", id), ("destroy-key", "success", id)]).await;
    }
    log.append(&[("cancel-destruction", "intent", "two")]).await;
    log.close_nameless("cancel-destruction", "two").await;
    assert_eq!(log.orders(0), [Action::DestroyKey, Action::SuspendKey, Action::CancelDestruction]);
}

/// An order that has begun in the one ends in the other.
#[tokio::test]
async fn copies_of_one_log_are_read_as_one() {
    let data = tempfile::tempdir().unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    let log = Written::open(data.path(), &tenant);
    log.append(&[("destroy-key", "intent", "one"), ("deactivate-key", "intent", "one")]).await;
    let copied = data.path().join("copied");
    let done = Command::new("cp").arg("-r").arg(log.directory()).arg(&copied).status().unwrap();
    assert!(done.success());
    log.append(&[("destroy-key", "refused", "one"), ("deactivate-key", "success", "one")]).await;
    let [smaller, larger] = [&copied, &log.directory()].map(|copy| LogReader::open(copy).unwrap());
    let orders = stop_orders([(&smaller, 0), (&larger, 2)], &tenant).unwrap();
    assert_eq!(orders.into_iter().map(|order| order.action).collect::<Vec<_>>(), [Action::DeactivateKey]);
}

/// The actions of the orders that a log of these entries holds, of one key.
async fn orders_of(data: &Path, tenant: &TenantId, entries: &[(&str, &str)]) -> Vec<Action> {
    let log = Written::open(data, tenant);
    let entries: Vec<_> = entries.iter().map(|(action, outcome)| (*action, *outcome, "id")).collect();
    log.append(&entries).await;
    log.orders(0)
}

/// A log whose entries are actions with outcomes, on keys of one name and these ids; each action on a key is one operation.
struct Written<'a> {
    log: GatewayLog<Seeds>,
    handle: <GatewayLog<Seeds> as AuditLog>::Handle,
    data: &'a Path,
    tenant: &'a TenantId,
}

impl<'a> Written<'a> {
    fn open(data: &'a Path, tenant: &'a TenantId) -> Self {
        let (log, _) = GatewayLog::open(common::config(data), Seeds).unwrap();
        let handle = log.open(tenant).unwrap();
        Self { log, handle, data, tenant }
    }

    fn directory(&self) -> PathBuf {
        self.data.join("audit").join(self.tenant.as_str())
    }

    async fn append(&self, entries: &[(&str, &str, &str)]) {
        for (action, outcome, id) in entries {
            let operation = operation(action, id);
            let event = format!(
                r#"{{"operation":"{operation}","action":"{action}","outcome":"{outcome}","key":{{"name":"kek","id":"{id}"}}}}"#
            );
            self.write(&event).await;
        }
        self.log.flush(self.tenant).unwrap();
    }

    /// A recovery says that it was done, and names no id.
    async fn close_nameless(&self, action: &str, id: &str) {
        let operation = operation(action, id);
        let event = format!(
            r#"{{"operation":"{operation}","action":"{action}","outcome":"success","reason":"recovered","key":{{"name":"kek"}}}}"#
        );
        self.write(&event).await;
        self.log.flush(self.tenant).unwrap();
    }

    async fn write(&self, event: &str) {
        let write = |bytes: &mut Vec<u8>, _: &mut [u8; 32]| bytes.extend_from_slice(event.as_bytes());
        self.log.append(&self.handle, Mark::Plain, Priority::Stop, write).unwrap().1.await.unwrap();
    }

    fn orders(&self, from: u64) -> Vec<Action> {
        let reader = LogReader::open(&self.directory()).unwrap();
        let orders = stop_orders([(&reader, from)], self.tenant).unwrap();
        orders.into_iter().map(|order| order.action).collect()
    }
}

fn operation(action: &str, id: &str) -> OperationId {
    let mut operation = [Action::from_name(action).unwrap() as u8; 16];
    operation[..id.len()].copy_from_slice(id.as_bytes());
    OperationId::from_bytes(operation)
}
