//! What is measured of witnesses and anchor. The label has a closed set of values: the configured witnesses.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whose figure it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Whose {
    witness: String,
}

impl Whose {
    pub(super) fn of(witness: &str) -> Self {
        Self { witness: witness.to_owned() }
    }
}

/// Shared by who counts and who shows.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Seconds since the newest cosignature, of the log where that is longest ago.
    pub(super) age: Family<Whose, Gauge>,
    /// Logs with entries under no cosignature.
    pub(super) behind: Family<Whose, Gauge>,
    /// Submissions without a cosignature.
    pub(super) failures: Family<Whose, Counter>,
    /// Checkpoints that could not be kept in the second directory.
    pub(super) anchor_failures: Counter,
    /// 1 when a log contradicts what is kept outside.
    pub(super) alarm: Gauge,
}

impl Figures {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let Self { age, behind, failures, anchor_failures, alarm } = self.clone();
        registry.register(
            "witness_cosignature_age_seconds",
            "Since the newest cosignature, of the log where that is longest ago",
            age,
        );
        registry.register("witness_logs_behind", "Logs with entries under no cosignature", behind);
        registry.register("witness_failures", "Submissions without a cosignature", failures);
        registry.register("anchor_failures", "Checkpoints not kept in the anchor directory", anchor_failures);
        registry.register(
            "log_alarm",
            "1 when a log contradicts a witness or the anchor: page when this is not 0",
            alarm,
        );
    }
}
