//! The wall clock, held against one that never steps: a jump of more than a minute, forwards or back, is held until somebody confirms it.
//!
//! Pure: both readings are arguments. What is compared is the difference between the two clocks, which a slewed clock does not change, as the
//! kernel slews both. Small steps add up: whoever moves the clock by half a minute again and again is noticed like one who moves it by a year.

use holdfast_core::Timestamp;
use holdfast_core::port::Jump;
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds of difference that are nobody's business: what a time service corrects, and a leap second.
const TOLERATED: u64 = 60_000_000;
/// No time is held. No real difference of two clocks is as small as that.
const NOTHING: i64 = i64::MIN;

/// Microseconds on a clock that never steps and to which suspension counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steady(pub(crate) u64);

/// What the wall clock was trusted for.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The wall clock less the steady one, when it was last trusted or reported.
    trusted: AtomicI64,
    /// The same of the time that is held, or [`NOTHING`].
    held: AtomicI64,
}

impl Clock {
    /// Trusts what the wall clock says at a start: what was before is for others to know.
    pub(crate) fn new(wall: Timestamp, steady: Steady) -> Self {
        Self { trusted: AtomicI64::new(offset(wall, steady)), held: AtomicI64::new(NOTHING) }
    }

    /// The time that is held, if one is.
    pub(crate) fn held(&self, steady: impl FnOnce() -> Steady) -> Option<Timestamp> {
        match self.held.load(Ordering::Relaxed) {
            NOTHING => None,
            held => Some(at(held, steady())),
        }
    }

    /// Compares. A jump is given back once, and the time from before is held then, unless an earlier one is held already.
    pub(crate) fn compare(&self, wall: Timestamp, steady: Steady) -> Option<Jump> {
        let (now, trusted) = (offset(wall, steady), self.trusted.load(Ordering::Relaxed));
        if now.abs_diff(trusted) <= TOLERATED {
            return None;
        }
        self.trusted.store(now, Ordering::Relaxed);
        // One that is held is older: what came after it was never confirmed.
        let _held_already =
            self.held.compare_exchange(NOTHING, trusted, Ordering::Relaxed, Ordering::Relaxed);
        Some(Jump { from: at(trusted, steady), to: wall })
    }

    /// Holds the time at a point, from which it goes on.
    pub(crate) fn hold(&self, point: Timestamp, steady: Steady) {
        self.held.store(offset(point, steady), Ordering::Relaxed);
    }

    /// Takes the wall clock at its word.
    pub(crate) fn trust(&self, wall: Timestamp, steady: Steady) {
        self.trusted.store(offset(wall, steady), Ordering::Relaxed);
        self.held.store(NOTHING, Ordering::Relaxed);
    }
}

fn offset(wall: Timestamp, Steady(steady): Steady) -> i64 {
    let micros = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    micros(wall.micros()).saturating_sub(micros(steady))
}

fn at(offset: i64, Steady(steady): Steady) -> Timestamp {
    Timestamp::from_micros(steady.saturating_add_signed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const BEGIN: u64 = 1_795_460_597 * SECOND;

    fn wall(seconds: u64) -> Timestamp {
        Timestamp::from_micros(BEGIN + seconds * SECOND)
    }

    fn steady(seconds: u64) -> Steady {
        Steady(77 * SECOND + seconds * SECOND)
    }

    fn clock() -> Clock {
        Clock::new(wall(0), steady(0))
    }

    #[test]
    fn clocks_that_go_together_are_never_a_jump_however_long_nobody_looked() {
        let clock = clock();
        for seconds in [1, 2, 60, 61, 86_400, 400 * 86_400] {
            assert_eq!(clock.compare(wall(seconds), steady(seconds)), None);
        }
        assert_eq!(clock.compare(wall(1_060), steady(1_000)), None, "a minute is tolerated");
        assert_eq!(clock.held(|| steady(1_000)), None);
    }

    #[test]
    fn a_jump_is_told_once_and_holds_the_time_from_before() {
        for (jumped, back) in
            [(wall(10_000), wall(20_000)), (Timestamp::from_micros(BEGIN - 5_000 * SECOND), wall(0))]
        {
            let clock = clock();
            let jump = clock.compare(jumped, steady(10)).unwrap();
            assert_eq!(jump, Jump { from: wall(10), to: jumped });
            assert_eq!(clock.compare(jumped, steady(11)), None);
            assert_eq!(clock.held(|| steady(500)), Some(wall(500)), "it goes on from before");
            // Another one on top of it changes nothing of what is held.
            if let Some(second) = clock.compare(back, steady(12)) {
                assert_eq!(second.to, back);
            }
            assert_eq!(clock.held(|| steady(600)), Some(wall(600)));
        }
    }

    #[test]
    fn steps_that_nobody_would_notice_add_up() {
        let clock = clock();
        let jumps = (1..=10).filter_map(|step| clock.compare(wall(step + 25 * step), steady(step))).count();
        assert_eq!(jumps, 3);
        assert_eq!(clock.held(|| steady(20)), Some(wall(20)));
    }

    #[test]
    fn what_is_confirmed_is_what_the_next_jump_is_measured_from() {
        let clock = clock();
        clock.compare(wall(10_000), steady(10)).unwrap();
        clock.trust(wall(10_001), steady(11));
        assert_eq!(clock.held(|| steady(12)), None);
        assert_eq!(clock.compare(wall(10_050), steady(60)), None);
        assert_eq!(
            clock.compare(wall(60), steady(70)).map(|jump| jump.from),
            Some(wall(10_060)),
            "and back again"
        );
    }

    #[test]
    fn a_hold_that_a_start_finds_goes_on() {
        let clock = clock();
        clock.hold(wall(0), steady(1_000));
        assert_eq!(clock.held(|| steady(1_030)), Some(wall(30)));
        assert_eq!(clock.compare(wall(1_000), steady(1_000)), None);
        assert_eq!(clock.held(|| steady(1_031)), Some(wall(31)), "looking ends nothing");
    }
}
