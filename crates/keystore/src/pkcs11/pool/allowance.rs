//! How much may be asked twice: a share of what is asked at all, so that a slow device is not given more work for being slow.

use std::sync::atomic::{AtomicU32, Ordering};

/// What one hedge costs, in earnings of one operation: one in ten may be hedged.
const COST: u32 = 10;
/// What may be saved up.
const MOST: u32 = 32 * COST;

pub(crate) struct Allowance(AtomicU32);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl Allowance {
    /// An operation was asked for.
    pub(crate) fn earn(&self) {
        // Nearly always full: then nothing is written.
        if self.0.load(Ordering::Relaxed) < MOST {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether another may be hedged.
    pub(crate) fn spend(&self) -> bool {
        let spent = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(COST));
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_may_be_hedged_and_some_at_once() {
        let allowance = Allowance::default();
        let at_once = std::iter::repeat_with(|| allowance.spend()).take_while(|spent| *spent).count();
        assert_eq!(at_once, 32);
        let mut hedged = 0;
        for _ in 0..1000 {
            allowance.earn();
            hedged += u32::from(allowance.spend());
        }
        assert_eq!(hedged, 100);
    }
}
