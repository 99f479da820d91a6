//! The audit logs against the suite of their port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use holdfast_audit::Config;
use holdfast_audit::port::{GatewayLog, Signing};
use holdfast_audit::reader::LogReader;
use holdfast_conformance::audit_log::suite;
use holdfast_conformance::task::block_on;
use holdfast_core::port::{AuditLog, Committed, Mark, Priority};
use holdfast_core::{Error, OperationId, Secret, TenantId};
use std::cell::RefCell;

struct Seeds;

impl Signing for Seeds {
    fn origin(&self, tenant: &TenantId) -> String {
        format!("test.example/{tenant}")
    }

    fn seed(&self, tenant: &TenantId) -> Result<Secret, Error> {
        Ok(Secret::new(vec![tenant.as_str().len().to_le_bytes()[0]; 32]))
    }
}

#[test]
fn the_gateways_log_is_one() {
    let directories = RefCell::new(Vec::new());
    let fresh = async || {
        let directory = tempfile::tempdir().unwrap();
        let (log, recovery) = GatewayLog::open(Config::new(directory.path()), Seeds).unwrap();
        assert!(recovery.intents.is_empty() && recovery.committed.is_none());
        directories.borrow_mut().push(directory);
        log
    };
    let entries = async |log: &GatewayLog<Seeds>, tenant: &TenantId| {
        log.flush(tenant).unwrap();
        let directory = log.log().directory(&tenant.as_str().parse().unwrap());
        let reader = LogReader::open(&directory).unwrap();
        reader.entries(0).map(|entry| entry.unwrap().1).collect::<Vec<_>>()
    };
    // It reads files beside the thread that polls it, which takes a runtime.
    tokio::runtime::Runtime::new().unwrap().block_on(suite(fresh, entries));
}

/// Outcomes need not stand in the order of their commits: two commands under way together may record theirs the other way round.
#[test]
fn the_gateways_log_recovers_the_newest_position_of_the_state_whichever_was_recorded_last() {
    let directory = tempfile::tempdir().unwrap();
    let acme: TenantId = "acme".parse().unwrap();
    let committed = |sequence: u64| Committed { sequence, digest: [sequence.to_le_bytes()[0]; 32] };
    {
        let (log, _) = GatewayLog::open(Config::new(directory.path()), Seeds).unwrap();
        let handle = log.open(&acme).unwrap();
        for sequence in [2u64, 1] {
            let operation = OperationId::from_bytes([sequence.to_le_bytes()[0]; 16]);
            let mark = Mark::Outcome(operation, Some(committed(sequence)));
            let write = |out: &mut Vec<u8>, _: &mut [u8; 32]| out.extend_from_slice(b"{}");
            let ((), ticket) = log.append(&handle, mark, Priority::Ordinary, write).unwrap();
            block_on(ticket).unwrap();
        }
    }
    let (_log, recovery) = GatewayLog::open(Config::new(directory.path()), Seeds).unwrap();
    assert_eq!(recovery.committed, Some(committed(2)));
}
