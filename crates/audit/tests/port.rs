//! The log behind core's port: from where on its entries are kept.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod common;

use holdfast_audit::port::{GatewayLog, Signing, stop_orders};
use holdfast_audit::reader::LogReader;
use holdfast_core::action::Action;
use holdfast_core::port::{AuditLog as _, Expiry, Mark, Priority};
use holdfast_core::retention::Retention;
use holdfast_core::{Error, ErrorKind, OperationId, Secret, TenantId, Timestamp};
use std::path::Path;

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

/// The actions of the orders that a log of these entries holds; each action is one operation, of one key.
async fn orders_of(data: &Path, tenant: &TenantId, entries: &[(&str, &str)]) -> Vec<Action> {
    let (log, _) = GatewayLog::open(common::config(data), Seeds).unwrap();
    let open = log.open(tenant).unwrap();
    for (action, outcome) in entries {
        let write = |bytes: &mut Vec<u8>, _: &mut [u8; 32]| {
            let id = Action::from_name(action).unwrap() as u8;
            let operation = OperationId::from_bytes([id; 16]);
            let event = format!(
                r#"{{"operation":"{operation}","action":"{action}","outcome":"{outcome}","key":{{"name":"kek","id":"id"}}}}"#
            );
            bytes.extend_from_slice(event.as_bytes());
        };
        log.append(&open, Mark::Plain, Priority::Stop, write).unwrap().1.await.unwrap();
    }
    log.flush(tenant).unwrap();
    let reader = LogReader::open(&data.join("audit").join(tenant.as_str())).unwrap();
    stop_orders(&reader, tenant, 0).unwrap().into_iter().map(|order| order.action).collect()
}
