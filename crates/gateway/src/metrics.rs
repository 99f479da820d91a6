//! Metrics, named once and for good (`docs/operate/metrics.md`).
//!
//! Every label has a closed set of values: routes, outcomes, stages and configured sinks, never a tenant's, a key's or a caller's name.

use crate::issuer::Condition;
use crate::outside::Figures;
use crate::pool::PoolMetrics;
use crate::resealing::ResealingMetrics;
use crate::scrub::Findings;
use crate::space::{Forecast, Used};
use crate::stages::Stages;
use holdfast_audit::sink;
use holdfast_core::ErrorKind;
use holdfast_core::pipeline::{Destructions, Rotations};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the latency buckets, microseconds.
const BOUNDS: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];

/// One way a request can end on one route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    route: &'static str,
    outcome: &'static str,
}

/// One configured sink.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    sink: String,
}

/// One configured issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct By {
    issuer: String,
}

/// What is measured of each issuer's keys.
#[derive(Debug, Clone, Default)]
struct IssuerMetrics {
    keys: Family<By, Gauge>,
    age: Family<By, Gauge>,
    failures: Family<By, Counter>,
}

/// What is measured of each sink.
#[derive(Debug, Clone, Default)]
struct SinkMetrics {
    entries: Family<Of, Gauge>,
    lag: Family<Of, Gauge>,
    behind: Family<Of, Gauge>,
    exported: Family<Of, Counter>,
    skipped: Family<Of, Counter>,
    failures: Family<Of, Counter>,
}

/// How a scheduled rotation came out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CameOut {
    result: &'static str,
}

/// A part of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Lies {
    part: &'static str,
}

/// Latencies in buckets of plain atomics: observing takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Latencies {
    /// Counts one latency.
    pub fn observe(&self, micros: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl prometheus_client::encoding::EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts: Vec<u64> = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds in a floating-point format")]
        let seconds = |micros: u64| micros as f64 / 1e6;
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = seconds(self.0.sum_micros.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Counts one in a gauge for as long as it lives, however it ends.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// One more.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    requests: Family<Ended, Counter>,
    /// From a request's header to its answer.
    pub request: Latencies,
    /// Connections open now.
    pub connections: Gauge,
    /// Requests under way now.
    pub in_flight: Gauge,
    ready: Gauge,
    pending_stops: Gauge,
    clock_held: Gauge,
    reload_refused: Gauge,
    rotations: Family<CameOut, Counter>,
    keys_waiting: Gauge,
    keys_erasing: Gauge,
    pub(crate) resealing: ResealingMetrics,
    certificate_expiry: Gauge,
    log_entries: Gauge,
    log_entries_published: Gauge,
    open_intents: Gauge,
    oldest_intent: Gauge,
    held_segments: Gauge,
    sinks: SinkMetrics,
    issuers: IssuerMetrics,
    pub(crate) pool: PoolMetrics,
    emergency_active: Gauge,
    scrub_age: Gauge,
    scrub_damages: Gauge,
    used: Family<Lies, Gauge>,
    free: Gauge,
    growth: Gauge<f64, AtomicU64>,
    days_to_full: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers all of them, at zero; the stages' are counted where they pass.
    pub fn new(stages: &Stages, outside: &Figures, scrub: &Findings) -> Self {
        let mut registry = Registry::with_prefix("holdfast");
        let requests = Family::<Ended, Counter>::default();
        let request = Latencies::default();
        let [connections, in_flight, ready, pending_stops, clock_held, certificate_expiry]: [Gauge; 6] =
            Default::default();
        let [log_entries, log_entries_published, open_intents, oldest_intent, held_segments]: [Gauge; 5] =
            Default::default();
        let sinks = SinkMetrics::default();
        let issuers = IssuerMetrics::default();
        registry.register("requests", "Requests by route and outcome", requests.clone());
        let seconds = Unit::Seconds;
        registry.register_with_unit(
            "request_duration",
            "From header to answer",
            seconds.clone(),
            request.clone(),
        );
        let Stages { identify, decide, perform, record } = stages.clone();
        registry.register_with_unit("identify_duration", "Finding out who asks", seconds.clone(), identify);
        registry.register_with_unit("decide_duration", "Asking the policy", seconds.clone(), decide);
        registry.register_with_unit("perform_duration", "In the key store", seconds.clone(), perform);
        registry.register_with_unit("record_duration", "Until the record is durable", seconds, record);
        registry.register("connections", "Connections open now", connections.clone());
        registry.register("requests_in_flight", "Requests under way now", in_flight.clone());
        registry.register("sealed", "1 while the root key is not there", Gauge::<i64>::default());
        registry.register("ready", "1 when key store, state and log can work", ready.clone());
        registry.register(
            "stops_not_durable",
            "Stop orders in force that are not durable yet: page when this is not 0",
            pending_stops.clone(),
        );
        registry.register(
            "clock_held",
            "1 while a jump of the clock waits to be confirmed: page when this is not 0",
            clock_held.clone(),
        );
        registry.register(
            "server_certificate_expiry_timestamp_seconds",
            "When the server's certificate expires",
            certificate_expiry.clone(),
        );
        let rotations = Family::<CameOut, Counter>::default();
        registry.register("rotations", "Rotations that a schedule demanded", rotations.clone());
        let [keys_waiting, keys_erasing]: [Gauge; 2] = Default::default();
        registry.register("keys_to_destroy", "Keys that wait to be destroyed", keys_waiting.clone());
        registry.register(
            "keys_to_erase",
            "Keys of whose destroyed material some may still be in a member of the pool",
            keys_erasing.clone(),
        );
        let reload_refused = Gauge::<i64>::default();
        registry.register(
            "reload_refused",
            "1 while what the last reload found is refused and what was in force before stays in force",
            reload_refused.clone(),
        );
        let resealing = ResealingMetrics::default();
        resealing.register(&mut registry);
        outside.register(&mut registry);
        registry.register("log_entries", "Entries of all logs since they began", log_entries.clone());
        registry.register(
            "log_entries_published",
            "Those of them that stand under a checkpoint",
            log_entries_published.clone(),
        );
        registry.register("open_commands", "Commands that have begun and not ended", open_intents.clone());
        registry.register_with_unit(
            "oldest_open_command_age",
            "Since when the oldest of them has been under way",
            Unit::Seconds,
            oldest_intent.clone(),
        );
        registry.register(
            "open_command_segments",
            "Segments of the write-ahead file that cannot be used again before it ends",
            held_segments.clone(),
        );
        registry.register("issuer_keys", "Keys of the issuer that are believed", issuers.keys.clone());
        registry.register(
            "issuer_keys_age_seconds",
            "Since the issuer's keys were read",
            issuers.age.clone(),
        );
        registry.register(
            "issuer_failures",
            "Readings of the issuer's keys that failed",
            issuers.failures.clone(),
        );
        registry.register("sink_entries", "Entries up to the sink's cursor", sinks.entries.clone());
        registry.register("sink_lag_entries", "Published entries that the sink has not", sinks.lag.clone());
        registry.register("sink_behind_seconds", "Since the sink had everything", sinks.behind.clone());
        registry.register("sink_exported_entries", "Entries handed over", sinks.exported.clone());
        registry.register("sink_skipped_entries", "Entries removed before", sinks.skipped.clone());
        registry.register("sink_failures", "Failures of the sink", sinks.failures.clone());
        let [scrub_age, scrub_damages, free]: [Gauge; 3] = Default::default();
        registry.register("scrub_passes", "Complete readings of everything on disk", scrub.passes.clone());
        registry.register("scrub_bytes", "Bytes that were read for that", scrub.bytes.clone());
        registry.register(
            "scrub_age_seconds",
            "Since the last complete reading, or the start",
            scrub_age.clone(),
        );
        registry.register("scrub_damages", "Damages on disk that are known", scrub_damages.clone());
        let pool = PoolMetrics::default();
        pool.register(&mut registry);
        let emergency_active = Gauge::<i64>::default();
        registry.register(
            "emergency_active",
            "Key versions whose emergency copies are in force: page when this is not 0 and nobody asked for it",
            emergency_active.clone(),
        );
        let used = Family::<Lies, Gauge>::default();
        let [growth, days_to_full]: [Gauge<f64, AtomicU64>; 2] = Default::default();
        registry.register("disk_used_bytes", "On disk, by part of the data directory", used.clone());
        registry.register("disk_free_bytes", "Free on the data directory's file system", free.clone());
        registry.register("disk_growth_bytes_per_day", "Measured over a week at most", growth.clone());
        registry.register("disk_days_to_full", "At that growth", days_to_full.clone());
        Self {
            registry,
            requests,
            request,
            connections,
            in_flight,
            ready,
            pending_stops,
            clock_held,
            reload_refused,
            rotations,
            keys_waiting,
            keys_erasing,
            resealing,
            certificate_expiry,
            log_entries,
            log_entries_published,
            open_intents,
            oldest_intent,
            held_segments,
            sinks,
            issuers,
            pool,
            emergency_active,
            scrub_age,
            scrub_damages,
            used,
            free,
            growth,
            days_to_full,
        }
    }

    /// Counts the end of a request.
    pub fn ended(&self, route: &'static str, error: Option<ErrorKind>, micros: u64) {
        let outcome = error.map_or("success", ErrorKind::code);
        self.requests.get_or_create(&Ended { route, outcome }).inc();
        self.request.observe(micros);
    }

    /// Sets what is read when somebody looks.
    pub fn set_live(
        &self,
        ready: bool,
        pending_stops: usize,
        clock_held: bool,
        certificate_expiry: Option<u64>,
    ) {
        self.ready.set(i64::from(ready));
        self.pending_stops.set(i64::try_from(pending_stops).unwrap_or(i64::MAX));
        self.clock_held.set(i64::from(clock_held));
        if let Some(expiry) = certificate_expiry {
            self.certificate_expiry.set(gauge(expiry));
        }
    }

    /// Sets whether the last reload was refused.
    pub fn set_reload(&self, is_refused: bool) {
        self.reload_refused.set(i64::from(is_refused));
    }

    /// Sets what is read of scheduled rotations when somebody looks.
    pub fn set_rotations(&self, rotations: Rotations) {
        let Rotations { on_schedule, late, failed } = rotations;
        for (result, count) in [("on-schedule", on_schedule), ("late", late), ("failed", failed)] {
            self.rotations.get_or_create(&CameOut { result }).inner().store(count, Ordering::Relaxed);
        }
    }

    /// Sets how many key versions' emergency copies are in force when somebody looks.
    pub fn set_emergency(&self, versions: usize) {
        self.emergency_active.set(i64::try_from(versions).unwrap_or(i64::MAX));
    }

    /// Sets what is read of keys at their end when somebody looks.
    pub fn set_destructions(&self, destructions: Destructions) {
        let Destructions { waiting, erasing } = destructions;
        for (gauge, count) in [(&self.keys_waiting, waiting), (&self.keys_erasing, erasing)] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sets what is read of the log when somebody looks.
    pub fn set_log(&self, health: &holdfast_audit::Health) {
        self.log_entries.set(gauge(health.appended_entries));
        self.log_entries_published.set(gauge(health.published_entries));
        self.open_intents.set(gauge(health.open_intents as u64));
        let (age, segments) =
            health.oldest_intent.as_ref().map_or((0, 0), |oldest| (oldest.age.as_secs(), oldest.segments));
        self.oldest_intent.set(gauge(age));
        self.held_segments.set(gauge(segments));
    }

    /// Sets what is read of the sinks when somebody looks.
    pub fn set_sinks(&self, sinks: Vec<(String, sink::Health)>) {
        for (sink, health) in sinks {
            let of = Of { sink };
            let sink::Health { published: _, position, lag, behind, exported, skipped, failures, problem: _ } =
                health;
            let SinkMetrics { entries, lag: lags, behind: behinds, .. } = &self.sinks;
            for (family, value) in [(entries, position), (lags, lag), (behinds, behind.as_secs())] {
                family.get_or_create(&of).set(gauge(value));
            }
            let SinkMetrics { exported: exports, skipped: skips, failures: fails, .. } = &self.sinks;
            for (family, value) in [(exports, exported), (skips, skipped), (fails, failures)] {
                family.get_or_create(&of).inner().store(value, Ordering::Relaxed);
            }
        }
    }

    /// Sets what is known of issuers' keys.
    pub(crate) fn set_issuers(&self, conditions: Vec<Condition>) {
        for Condition { issuer, keys, age, failures, problem: _ } in conditions {
            let by = By { issuer };
            let IssuerMetrics { keys: known, age: ages, failures: fails } = &self.issuers;
            known.get_or_create(&by).set(gauge(u64::try_from(keys).unwrap_or(u64::MAX)));
            if let Some(age) = age {
                ages.get_or_create(&by).set(gauge(age));
            }
            fails.get_or_create(&by).inner().store(failures, Ordering::Relaxed);
        }
    }

    /// Sets what is known of the readings of everything.
    pub fn set_scrub(&self, age_seconds: u64, damages: u64) {
        self.scrub_age.set(gauge(age_seconds));
        self.scrub_damages.set(gauge(damages));
    }

    /// Sets what is known of the disk.
    pub fn set_space(&self, forecast: &Forecast) {
        let Used { log, write_ahead, openings, state } = forecast.used;
        for (part, bytes) in
            [("log", log), ("write-ahead", write_ahead), ("openings", openings), ("state", state)]
        {
            self.used.get_or_create(&Lies { part }).set(gauge(bytes));
        }
        if let Some(free) = forecast.free {
            self.free.set(gauge(free));
        }
        #[expect(clippy::cast_precision_loss, reason = "a forecast in a floating-point format")]
        let number = |number: u64| number as f64;
        self.growth.set(forecast.growth.map_or(f64::NAN, number));
        // Never, at the growth that was measured; not known without one.
        let never = if forecast.growth.is_some() { f64::INFINITY } else { f64::NAN };
        self.days_to_full.set(forecast.days_to_full().map_or(never, number));
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::pipeline::SealingKeyChanges;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new(&Stages::default(), &Figures::default(), &Findings::default());
        metrics.ended("encrypt", None, 70);
        metrics.ended("encrypt", Some(ErrorKind::Denied), 20_000_000);
        metrics.set_live(true, 0, true, Some(1_800_000_000));
        metrics.set_reload(true);
        let oldest = holdfast_audit::OldestIntent {
            op: [1; 16],
            log: "acme".parse().unwrap(),
            age: std::time::Duration::from_secs(70),
            segments: 5,
        };
        let log = holdfast_audit::Health {
            appended_entries: 7,
            published_entries: 6,
            open_intents: 2,
            oldest_intent: Some(oldest),
            ..Default::default()
        };
        metrics.set_log(&log);
        let health = sink::Health {
            published: 6,
            position: 4,
            lag: 2,
            behind: std::time::Duration::from_secs(9),
            exported: 3,
            skipped: 1,
            failures: 5,
            problem: None,
        };
        metrics.set_sinks(vec![("siem".to_owned(), health)]);
        metrics.set_scrub(7, 1);
        metrics.set_rotations(Rotations { on_schedule: 5, late: 1, failed: 0 });
        metrics.set_destructions(Destructions { waiting: 3, erasing: 2 });
        metrics.resealing.set(SealingKeyChanges { waiting: 1, resealed: 640, retired: 4 });
        let used = Used { log: 5, ..Used::default() };
        metrics.set_space(&Forecast { used, free: Some(1 << 40), growth: Some(0) });
        let text = metrics.text();
        for line in [
            r#"holdfast_requests_total{route="encrypt",outcome="success"} 1"#,
            r#"holdfast_requests_total{route="encrypt",outcome="denied"} 1"#,
            r#"holdfast_request_duration_seconds_bucket{le="0.0001"} 1"#,
            r#"holdfast_request_duration_seconds_bucket{le="+Inf"} 2"#,
            "holdfast_ready 1",
            "holdfast_stops_not_durable 0",
            r#"holdfast_rotations_total{result="on-schedule"} 5"#,
            "\nholdfast_keys_to_destroy 3\n",
            "\nholdfast_keys_to_erase 2\n",
            "\nholdfast_sealing_keys_to_retire 1\n",
            "\nholdfast_sealing_keys_retired_total 4\n",
            "\nholdfast_versions_resealed_total 640\n",
            r#"holdfast_rotations_total{result="failed"} 0"#,
            "holdfast_log_entries 7",
            "holdfast_log_entries_published 6",
            "\nholdfast_open_commands 2\n",
            "\nholdfast_oldest_open_command_age_seconds 70\n",
            "\nholdfast_open_command_segments 5\n",
            r#"holdfast_sink_entries{sink="siem"} 4"#,
            r#"holdfast_sink_lag_entries{sink="siem"} 2"#,
            r#"holdfast_sink_behind_seconds{sink="siem"} 9"#,
            r#"holdfast_sink_exported_entries_total{sink="siem"} 3"#,
            r#"holdfast_sink_skipped_entries_total{sink="siem"} 1"#,
            r#"holdfast_sink_failures_total{sink="siem"} 5"#,
            "holdfast_scrub_passes_total 0",
            "holdfast_scrub_age_seconds 7",
            "holdfast_scrub_damages 1",
            r#"holdfast_disk_used_bytes{part="log"} 5"#,
            "holdfast_disk_growth_bytes_per_day 0",
            "holdfast_disk_days_to_full inf",
            "\nholdfast_clock_held 1\n",
            "\nholdfast_reload_refused 1\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
