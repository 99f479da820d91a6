//! What a loop over a token took.

use crate::report::percentile;
use std::time::{Duration, Instant};

/// Operations, their CPU time, and the median of their latencies in microseconds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
}

/// What was measured in a turn, or in several.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sample {
    /// Nanoseconds of each operation.
    pub(crate) waits: Vec<u32>,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
}

impl Sample {
    pub(crate) fn add(&mut self, turn: Self) {
        self.waits.extend(turn.waits);
        self.elapsed += turn.elapsed;
        self.cpu += turn.cpu;
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn figures(mut self) -> Figures {
        self.waits.sort_unstable();
        let count = self.waits.len().max(1) as f64;
        Figures {
            per_second: count / self.elapsed.as_secs_f64(),
            cpu_us: self.cpu.as_secs_f64() * 1e6 / count,
            p50_us: f64::from(percentile(&self.waits, 50)) / 1e3,
        }
    }
}

pub(crate) fn nanos(begin: Instant) -> u32 {
    u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
