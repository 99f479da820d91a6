//! Tenants' sealing keys that destroyed material lay under, on their way out: in small steps, beside the work that goes on.

use crate::serve::{Gateway, stopped};
use holdfast_core::TenantId;
use holdfast_core::pipeline::{SealingKeyChanges, SealingKeyFailure};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is looked whether there is anything to do.
const LOOKING: Duration = Duration::from_secs(1);
/// The shortest rest between two steps. Each rests as long as it took, too: the disk is there for others at least half of the time.
const REST: Duration = Duration::from_millis(5);

/// What is measured of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResealingMetrics {
    waiting: Gauge,
    retired: Counter,
    resealed: Counter,
}

impl ResealingMetrics {
    /// Names them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { waiting, retired, resealed } = self.clone();
        registry.register(
            "sealing_keys_to_retire",
            "Tenants with a sealing key that destroyed material lay under",
            waiting,
        );
        registry.register("sealing_keys_retired", "Sealing keys that were retired", retired);
        registry.register("versions_resealed", "Key versions taken to another sealing key", resealed);
    }

    /// Sets what is read when somebody looks.
    pub(crate) fn set(&self, changes: SealingKeyChanges) {
        let SealingKeyChanges { waiting, resealed, retired } = changes;
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.resealed.inner().store(resealed, Ordering::Relaxed);
        self.retired.inner().store(retired, Ordering::Relaxed);
    }
}

/// What an operator is told while one is to be retired.
pub(crate) fn notice(changes: SealingKeyChanges) -> Option<String> {
    let SealingKeyChanges { waiting, resealed, retired: _ } = changes;
    (waiting > 0).then(|| {
        format!(
            "{waiting} tenants have a sealing key that destroyed material lay under; it is retired by itself when their other \
             versions are under another one ({resealed} have gone over since the start)"
        )
    })
}

/// Retires them. A step that has begun is among what must end before the process may; what is left is gone on with at the next start.
pub(crate) async fn renew(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    loop {
        let begun = Instant::now();
        let rest = {
            let _living = Arc::clone(&gateway.alive).try_acquire_owned();
            match gateway.law.renew_sealing_keys().await {
                Ok(true) => begun.elapsed().max(REST),
                Ok(false) => LOOKING,
                Err(SealingKeyFailure { tenant, error }) => {
                    tracing::warn!(
                        tenant = tenant.as_ref().map(TenantId::as_str),
                        error = error.chain(),
                        remedy = error.remedy_text(),
                        "a sealing key that destroyed material lay under is not retired yet"
                    );
                    LOOKING
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = stopped(&mut stop) => break,
        }
    }
}
