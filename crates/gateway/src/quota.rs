//! How much a door lets in.

use std::sync::atomic::{AtomicU64, Ordering};

const MICROS: u64 = 1_000_000;

/// So many a second, and a second's worth at once after a pause (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Quota {
    /// Nanoseconds that each takes; 0: there is no quota.
    each: u64,
    /// When all that were let in have taken theirs.
    busy_until: AtomicU64,
}

impl Quota {
    pub(crate) fn of(per_second: u32) -> Self {
        let each = u64::from(per_second);
        Self {
            each: 1000_u64.saturating_mul(MICROS).checked_div(each).map_or(0, |each| each.max(1)),
            busy_until: AtomicU64::new(0),
        }
    }

    /// Whether one more is let in at this moment, in microseconds on a clock that never steps back.
    pub(crate) fn take(&self, ticks: u64) -> bool {
        if self.each == 0 {
            return true;
        }
        let now = ticks.saturating_mul(1000);
        let horizon = now.saturating_add(1000 * MICROS);
        let taken = self.busy_until.try_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let until = until.max(now).saturating_add(self.each);
            (until <= horizon).then_some(until)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_lets_in_its_number_a_second_and_no_more() {
        let quota = Quota::of(100);
        let at = |ticks: u64| (0..1000).filter(|_| quota.take(ticks)).count();
        assert_eq!(at(5 * MICROS), 100);
        assert_eq!(at(5 * MICROS + 10_000), 1);
        assert_eq!(at(5 * MICROS + 500_000), 49);
        assert_eq!(at(60 * MICROS), 100);
        assert!((0..10_000).all(|_| Quota::of(0).take(1)));
    }
}
