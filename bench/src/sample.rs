//! What a loop took, over a token or in turns with it.

use crate::report::{percentile, us_each};
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

/// A figure's quartiles over the turns it was taken in: what one turn's bad luck does not move, and how far turns are apart.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(mut turns: Vec<f64>) -> Self {
        turns.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let last = turns.len().saturating_sub(1);
            let between = |at: usize| turns.get(at).copied().unwrap_or_default();
            f64::midpoint(between(last * quarter / 4), between((last * quarter).div_ceil(4)))
        };
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { low, median, high } = self;
        f.pad(&format!("{median:+.1} ({low:+.0}..{high:+.0})"))
    }
}

impl Sample {
    /// Microseconds of CPU an operation.
    pub(crate) fn cpu_us(&self) -> f64 {
        us_each(self.cpu, self.waits.len())
    }

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
            cpu_us: self.cpu_us(),
            p50_us: f64::from(percentile(&self.waits, 50)) / 1e3,
        }
    }
}

pub(crate) fn nanos(begin: Instant) -> u32 {
    u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
