//! How long a member takes: quantiles of the recent past, kept without locks.

use super::super::message::Request;
use holdfast_core::algorithm::SignatureScheme;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Operations that take about equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// AES, HMAC, random bytes.
    Symmetric,
    /// ECDSA, EdDSA, ECDH.
    Curve,
    /// The private operation of RSA.
    Rsa,
}

impl Class {
    pub(crate) const COUNT: usize = 3;

    /// Of a request that can be repeated without harm; others are not measured.
    pub(crate) const fn of(request: &Request<'_>) -> Option<Self> {
        match request {
            Request::Random { .. }
            | Request::Seal { .. }
            | Request::Open { .. }
            | Request::Wrap { .. }
            | Request::Unwrap { .. }
            | Request::Mac { .. } => Some(Self::Symmetric),
            Request::Sign { scheme, .. } => match scheme {
                SignatureScheme::RsaPss(_) | SignatureScheme::RsaPkcs1v15(_) => Some(Self::Rsa),
                SignatureScheme::Ecdsa(_) | SignatureScheme::Ed25519 | SignatureScheme::MlDsa65 => {
                    Some(Self::Curve)
                }
            },
            Request::Agree { .. } => Some(Self::Curve),
            Request::RsaDecrypt { .. } | Request::RsaBare { .. } => Some(Self::Rsa),
            Request::Probe
            | Request::Generate { .. }
            | Request::BringIn { .. }
            | Request::LookUp { .. }
            | Request::PointOut { .. }
            | Request::DestroyExisting { .. }
            | Request::Destroy { .. }
            | Request::WrapOut { .. }
            | Request::UnwrapIn { .. } => None,
        }
    }
}

/// Four buckets to a doubling, from 1 µs to 16 s.
const BUCKETS: usize = 96;
/// After so many the quantiles are taken again, and what was before counts half.
const WINDOW: u32 = 256;

/// Quantiles in microseconds; zero while nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantiles {
    /// The median.
    pub p50: u32,
    /// The 95th percentile.
    pub p95: u32,
    /// The 99th percentile.
    pub p99: u32,
}

pub(crate) struct Latency {
    buckets: [AtomicU32; BUCKETS],
    seen: AtomicU32,
    p50: AtomicU32,
    p95: AtomicU32,
    p99: AtomicU32,
}

impl Default for Latency {
    fn default() -> Self {
        let zero = || AtomicU32::new(0);
        Self { buckets: std::array::from_fn(|_| zero()), seen: zero(), p50: zero(), p95: zero(), p99: zero() }
    }
}

fn bucket(micros: u32) -> usize {
    let micros = micros.max(1);
    let octave = micros.ilog2();
    // The two bits below the highest.
    let quarter = if octave >= 2 { micros >> (octave - 2) & 3 } else { micros << (2 - octave) & 3 };
    (4 * octave + quarter) as usize
}

/// The largest value of a bucket, about.
const fn upper(bucket: usize) -> u32 {
    let (octave, quarter) = (bucket / 4, bucket % 4);
    let value = ((5 + quarter as u64) << octave) / 4;
    if value > u32::MAX as u64 { u32::MAX } else { value as u32 }
}

impl Latency {
    pub(crate) fn record(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if let Some(bucket) = self.buckets.get(bucket(micros).min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        // The first few say something, too.
        if seen % WINDOW == WINDOW - 1 || seen == 15 {
            self.take(seen != 15);
        }
    }

    /// What is counted meanwhile may be lost: these are estimates.
    fn take(&self, halve: bool) {
        let mut counts = [0; BUCKETS];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
            if halve {
                bucket.store(*count / 2, Ordering::Relaxed);
            }
        }
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        for (quantile, percent) in [(&self.p50, 50), (&self.p95, 95), (&self.p99, 99)] {
            let mut below = 0;
            let place = counts.iter().position(|count| {
                below += u64::from(*count);
                below * 100 >= all * percent
            });
            quantile.store(place.map_or(0, upper), Ordering::Relaxed);
        }
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let read = |quantile: &AtomicU32| quantile.load(Ordering::Relaxed);
        Quantiles { p50: read(&self.p50), p95: read(&self.p95), p99: read(&self.p99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_within_a_quarter_of_it(micros in 1_u32..16_000_000) {
            let upper = upper(bucket(micros));
            prop_assert!(upper >= micros && u64::from(upper) * 4 <= u64::from(micros) * 5 + 4, "{upper}");
        }
    }

    #[test]
    fn quantiles_are_of_the_recent_past() {
        let latency = Latency::default();
        assert_eq!(latency.quantiles(), Quantiles::default());
        for micros in 1..=1024 {
            latency.record(Duration::from_micros(100 + micros % 100));
        }
        let Quantiles { p50, p95, p99 } = latency.quantiles();
        assert!((140..=192).contains(&p50) && (192..=256).contains(&p95) && p99 >= p95, "{p50} {p95} {p99}");
        for _ in 0..4096 {
            latency.record(Duration::from_millis(10));
        }
        assert!(latency.quantiles().p50 >= 10_000);
    }
}
