//! The key store's pool, as an operator sees it, and as it is measured.

use crate::serve::{Gateway, stopped};
use holdfast_core::pipeline;
use holdfast_keystore::pkcs11::{About, Quantiles, Report};
use holdfast_wire::native::message::{Member, MemberLatency, Pool, Sweep};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked whether a member has come.
const SWEEPING: Duration = Duration::from_secs(1);

/// A configured member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    member: String,
}

/// How its operations ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    member: String,
    outcome: &'static str,
}

/// A quantile of how long they take.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Taking {
    member: String,
    operations: String,
    quantile: &'static str,
}

/// What the newest look through all keys found of their copies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    found: &'static str,
}

/// What is measured of the pool.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoolMetrics {
    up: Family<Of, Gauge>,
    in_flight: Family<Of, Gauge>,
    operations: Family<Ended, Counter>,
    latency: Family<Taking, Gauge<f64, AtomicU64>>,
    restarts: Family<Of, Counter>,
    hedged: Counter,
    retried: Counter,
    copies: Family<Found, Gauge>,
}

impl PoolMetrics {
    /// Names them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { up, in_flight, operations, latency, restarts, hedged, retried, copies } = self.clone();
        registry.register("pool_member_up", "1 while operations are sent to the member", up);
        registry.register("pool_member_in_flight", "Operations at the member now", in_flight);
        registry.register("pool_member_operations", "Operations by outcome", operations);
        registry.register("pool_member_latency_seconds", "Quantiles of the recent past", latency);
        registry.register("pool_member_restarts", "Workers started after the first", restarts);
        registry.register("pool_hedged", "Operations asked of a second member: the first was slow", hedged);
        registry.register("pool_retried", "Operations asked of another member: one failed", retried);
        registry.register("pool_copies", "Copies of keys at the newest look through all of them", copies);
    }

    /// Sets what is read when somebody looks.
    pub(crate) fn set(&self, pool: &Pool) {
        for member in &pool.members {
            let Member { name, state, in_flight, answered, failed, late, restarts, latency, .. } = member;
            let of = Of { member: name.clone() };
            self.up.get_or_create(&of).set(i64::from(state == "up"));
            self.in_flight.get_or_create(&of).set(i64::try_from(*in_flight).unwrap_or(i64::MAX));
            self.restarts.get_or_create(&of).inner().store(*restarts, Ordering::Relaxed);
            for (outcome, count) in [("answered", answered), ("failed", failed), ("late", late)] {
                let ended = Ended { member: name.clone(), outcome };
                self.operations.get_or_create(&ended).inner().store(*count, Ordering::Relaxed);
            }
            for MemberLatency { operations, p50_us, p95_us, p99_us } in latency {
                for (quantile, micros) in [("0.5", p50_us), ("0.95", p95_us), ("0.99", p99_us)] {
                    let taking = Taking { member: name.clone(), operations: operations.clone(), quantile };
                    let seconds = std::time::Duration::from_micros(*micros).as_secs_f64();
                    self.latency.get_or_create(&taking).set(seconds);
                }
            }
        }
        self.hedged.inner().store(pool.hedged, Ordering::Relaxed);
        self.retried.inner().store(pool.retried, Ordering::Relaxed);
        if let Some(Sweep { held, brought, lacking, failed, .. }) = &pool.sweep {
            for (found, count) in
                [("held", held), ("brought", brought), ("lacking", lacking), ("unknown", failed)]
            {
                let gauge = self.copies.get_or_create(&Found { found });
                gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
            }
        }
    }
}

/// Looks at the members.
pub(crate) fn gather(gateway: &Gateway) -> Pool {
    let Some(token) = gateway.law.engines().keys.token() else {
        return Pool { members: vec![], copies: 0, hedged: 0, retried: 0, sweep: None };
    };
    let pool = token.pool();
    let (hedged, retried) = pool.repeats();
    let members = pool.reports().iter().map(member).collect();
    let sweep = gateway.law.sweep().map(sweep_of);
    Pool { members, copies: count(pool.copies()), hedged, retried, sweep }
}

fn sweep_of(sweep: pipeline::Sweep) -> Sweep {
    let pipeline::Sweep { begun, ended, versions, held, brought, lacking, failed } = sweep;
    Sweep {
        begun: begun.to_string(),
        ended: ended.map(|ended| ended.to_string()),
        versions,
        held,
        brought,
        lacking,
        failed,
    }
}

/// Looks through the copies of all keys whenever a member has come. One that has begun is among what must end before the process may.
pub(crate) async fn sweep(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(SWEEPING);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopped(&mut stop) => break,
        }
        let _living = Arc::clone(&gateway.alive).try_acquire_owned();
        if let Err(error) = gateway.law.sweep_pool(|| !*stop.borrow()).await {
            tracing::warn!(
                error = error.chain(),
                remedy = error.remedy_text(),
                "the copies of keys could not be looked through"
            );
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn member(report: &Report) -> Member {
    let Report { name, condition, in_flight, sessions, answered, failed, late, restarts, latency, about } =
        report;
    let [symmetric, curve, rsa] = latency;
    Member {
        name: name.clone(),
        state: condition.name().to_owned(),
        why: condition.why().map(str::to_owned),
        in_flight: count(*in_flight),
        sessions: u64::from(*sessions),
        answered: *answered,
        failed: *failed,
        late: *late,
        restarts: *restarts,
        latency: [("symmetric", symmetric), ("curve", curve), ("rsa", rsa)].map(latency_of).into(),
        token: about.as_ref().map(token),
    }
}

fn latency_of((operations, Quantiles { p50, p95, p99 }): (&str, &Quantiles)) -> MemberLatency {
    MemberLatency {
        operations: operations.to_owned(),
        p50_us: u64::from(*p50),
        p95_us: u64::from(*p95),
        p99_us: u64::from(*p99),
    }
}

/// What a token is, without which one it is.
pub(crate) fn model(about: &About) -> String {
    format!("{} firmware {}", about.model, about.firmware)
}

/// A token by what it says of itself.
pub(crate) fn token(about: &About) -> String {
    let About { manufacturer, model, serial, firmware, .. } = about;
    format!("{manufacturer} {model}, serial {serial}, firmware {firmware}")
}
