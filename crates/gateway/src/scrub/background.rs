//! The reading that a serving gateway makes of itself: one thread, one reading a day, so many bytes a second and no more, and none
//! in the first minutes after a start.
//!
//! It stands in nobody's way: it has the lowest priority, holds no lock that a request takes, and reads the database in short
//! transactions. What is damaged of a log is history that can be fetched from a mirror, and new work is as right as before: the gateway
//! stays ready, or whoever can flip a bit on its disk could switch it off. What is damaged of the state is what decides who may do
//! what: an older row that was put back is a revoked right come alive. So that, and only that, makes it unready.

use super::{Damage, Ended, Part, Pass};
use crate::config;
use crate::serve::{Gateway, stopped};
use holdfast_audit::Refusal;
use holdfast_core::port::{State as _, World as _};
use prometheus_client::metrics::counter::Counter;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Damages that are kept to be shown; all are counted and logged.
const SHOWN: usize = 20;

/// What the readings have found, shared with status and metrics.
#[derive(Debug, Default)]
pub struct Findings {
    /// Complete readings.
    pub passes: Counter,
    /// Bytes that were read.
    pub bytes: Counter,
    /// Ticks at which the last complete reading ended; at first those of the start.
    last: AtomicU64,
    /// Of the last complete reading, and of the one under way.
    damages: Mutex<[Damages; 2]>,
}

#[derive(Debug, Default, Clone)]
struct Damages {
    count: u64,
    state: bool,
    shown: Vec<Damage>,
}

impl Findings {
    /// Seconds since the last complete reading, or since the start if there was none.
    pub fn age(&self, ticks: u64) -> u64 {
        ticks.saturating_sub(self.last.load(Ordering::Relaxed)) / 1_000_000
    }

    /// Damages of the last complete reading, or of the one under way if it has found more.
    pub fn damages(&self) -> u64 {
        self.lock().iter().map(|damages| damages.count).max().unwrap_or(0)
    }

    /// Whether the state is damaged.
    pub fn is_state_damaged(&self) -> bool {
        self.lock().iter().any(|damages| damages.state)
    }

    /// The first few damages.
    pub fn shown(&self) -> Vec<Damage> {
        let damages = self.lock();
        let most = damages.iter().max_by_key(|damages| damages.count);
        most.map(|damages| damages.shown.clone()).unwrap_or_default()
    }

    fn begin(&self) {
        let [_, current] = &mut *self.lock();
        *current = Damages::default();
    }

    fn found(&self, damage: Damage) {
        let Damage { part, place, problem, remedy } = &damage;
        tracing::error!(part = part.name(), %place, %problem, %remedy, "damage was found");
        let [_, current] = &mut *self.lock();
        current.count += 1;
        current.state |= *part == Part::State;
        if current.shown.len() < SHOWN {
            current.shown.push(damage);
        }
    }

    fn complete(&self, ticks: u64) {
        let [last, current] = &mut *self.lock();
        *last = std::mem::take(current);
        self.last.store(ticks, Ordering::Relaxed);
        self.passes.inc();
    }

    fn lock(&self) -> MutexGuard<'_, [Damages; 2]> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, if it is wanted. It ends by itself soon after the gateway is told to stop.
#[derive(Debug, Default)]
pub struct Background(Option<JoinHandle<()>>);

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(gateway: &Arc<Gateway>, stop: watch::Receiver<bool>) -> io::Result<Self> {
        if !gateway.config.scrub.enabled {
            return Ok(Self(None));
        }
        let (gateway, runtime) = (Arc::clone(gateway), Handle::current());
        let thread = Builder::new().name("scrub".to_owned()).spawn(move || {
            // Of this thread alone, where threads have priorities of their own.
            let _ = rustix::process::nice(19);
            run(&gateway, &runtime, stop);
        })?;
        Ok(Self(Some(thread)))
    }

    /// Waits for its end, which MUST have been ordered.
    pub(crate) async fn ended(self) {
        if let Some(thread) = self.0 {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn run(gateway: &Gateway, runtime: &Handle, mut stop: watch::Receiver<bool>) {
    let config::Scrub { enabled: _, bytes_per_second, every_hours, first_after_seconds } =
        gateway.config.scrub;
    let every = Duration::from_secs(every_hours.saturating_mul(3600));
    if is_stopped_within(runtime, &mut stop, Duration::from_secs(first_after_seconds)) {
        return;
    }
    loop {
        let begun = gateway.law.engines().world.ticks();
        let mut throttle = Throttle { gateway, runtime, stop: &mut stop, begun, bytes_per_second, read: 0 };
        gateway.scrub.begin();
        if pass(gateway, runtime, &mut |bytes| throttle.took(bytes)).is_err() {
            break;
        }
        let ended = gateway.law.engines().world.ticks();
        gateway.scrub.complete(ended);
        let damages = gateway.scrub.damages();
        tracing::info!(damages, seconds = ended.saturating_sub(begun) / 1_000_000, "everything was read");
        let rest = every.saturating_sub(Duration::from_micros(ended.saturating_sub(begun)));
        if is_stopped_within(runtime, &mut stop, rest) {
            break;
        }
    }
}

fn pass(gateway: &Gateway, runtime: &Handle, pace: &mut dyn FnMut(u64) -> bool) -> Result<(), Ended> {
    let engines = gateway.law.engines();
    let mut found = |damage| gateway.scrub.found(damage);
    let mut pass = Pass {
        directory: &gateway.directory,
        runtime: runtime.clone(),
        pace,
        found: &mut found,
        key: &mut |_, _| (),
    };
    pass.state(&engines.state)?;
    pass.keys(&engines.state, engines.keys.software())?;
    if let Err(refusal) = engines.log.log().reread(pass.pace) {
        let refusal = Refusal { remedy: STILL_THERE, ..refusal };
        (pass.found)(Damage::of_log(Part::WriteAheadFile, refusal));
    }
    pass.took(0)?;
    let tenants = runtime.block_on(engines.state.tenants()).unwrap_or_default();
    let tenants: Vec<_> = tenants.into_iter().map(|tenant| tenant.record.id).collect();
    pass.logs(engines.log.signing(), &tenants, None)?;
    pass.openings()
}

/// Of the write-ahead file: the next start refuses what cannot be read back, unless it has been written over by then.
const STILL_THERE: &str =
    "do not restart: check the disk, run `holdfast backup`, and wait until it is found no more or restore";

/// Keeps a reading from being faster than it may.
struct Throttle<'a> {
    gateway: &'a Gateway,
    runtime: &'a Handle,
    stop: &'a mut watch::Receiver<bool>,
    /// Ticks at its beginning.
    begun: u64,
    bytes_per_second: u64,
    read: u64,
}

impl Throttle<'_> {
    fn took(&mut self, bytes: u64) -> bool {
        self.gateway.scrub.bytes.inc_by(bytes);
        self.read = self.read.saturating_add(bytes);
        let elapsed = self.gateway.law.engines().world.ticks().saturating_sub(self.begun);
        let wait = ahead(self.read, self.bytes_per_second, elapsed);
        !is_stopped_within(self.runtime, self.stop, wait)
    }
}

/// How long to wait after so many bytes in so many microseconds.
fn ahead(bytes: u64, bytes_per_second: u64, elapsed: u64) -> Duration {
    let due = u128::from(bytes) * 1_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_micros(u64::try_from(due.saturating_sub(u128::from(elapsed))).unwrap_or(u64::MAX))
}

fn is_stopped_within(runtime: &Handle, stop: &mut watch::Receiver<bool>, time: Duration) -> bool {
    if *stop.borrow() || stop.has_changed().is_err() {
        return true;
    }
    if time.is_zero() {
        return false;
    }
    runtime.block_on(async { tokio::time::timeout(time, stopped(stop)).await.is_ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_no_faster_than_it_may_be() {
        assert_eq!(ahead(0, 1000, 0), Duration::ZERO);
        assert_eq!(ahead(500, 1000, 0), Duration::from_millis(500));
        assert_eq!(ahead(500, 1000, 400_000), Duration::from_millis(100));
        assert_eq!(ahead(500, 1000, 900_000), Duration::ZERO);
        assert_eq!(ahead(u64::MAX, 1, 0), Duration::from_micros(u64::MAX));
    }

    #[test]
    fn what_was_found_stays_until_a_whole_reading_finds_it_no_more() {
        let damage = |part| Damage { part, place: "x".into(), problem: "y".into(), remedy: "z".into() };
        let findings = Findings::default();
        findings.begin();
        findings.found(damage(Part::Log));
        assert_eq!((findings.damages(), findings.is_state_damaged()), (1, false));
        findings.found(damage(Part::State));
        assert_eq!((findings.damages(), findings.is_state_damaged()), (2, true));
        findings.complete(5_000_000);
        findings.begin();
        assert_eq!((findings.damages(), findings.is_state_damaged()), (2, true));
        assert_eq!((findings.passes.get(), findings.age(8_000_000)), (1, 3));
        findings.complete(9_000_000);
        assert_eq!((findings.damages(), findings.is_state_damaged()), (0, false));
        assert!(findings.shown().is_empty());
    }
}
