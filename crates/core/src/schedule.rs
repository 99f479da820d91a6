//! How often a key is rotated by itself, and when next.

use crate::id::KeyId;
use crate::time::Timestamp;
use core::fmt;

/// How old a key's newest version may become, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RotationPeriod(u32);

impl RotationPeriod {
    /// The shortest, in days.
    pub const MIN_DAYS: u32 = 1;
    /// The longest, in days: ten years.
    pub const MAX_DAYS: u32 = 3650;

    /// So many days; nothing beyond the limits.
    pub const fn of_days(days: u32) -> Option<Self> {
        if days >= Self::MIN_DAYS && days <= Self::MAX_DAYS { Some(Self(days)) } else { None }
    }

    /// Days.
    pub const fn days(self) -> u32 {
        self.0
    }

    fn micros(self) -> u64 {
        u64::from(self.0).saturating_mul(86_400_000_000)
    }

    /// In words, for events: `every 90 days`, `off`.
    pub fn text(period: Option<Self>) -> Box<str> {
        period.map_or("off".into(), |period| period.to_string().into())
    }
}

impl fmt::Display for RotationPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("every day"),
            days => write!(f, "every {days} days"),
        }
    }
}

/// A key's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How old its newest version may become.
    pub period: RotationPeriod,
    /// When the next one is to be made: at the latest then, and up to a tenth of the period earlier, always the same for one key, so that
    /// keys of one day are not all rotated in one moment.
    pub due: Timestamp,
}

impl Schedule {
    /// The schedule of a key whose newest version was made at this time.
    pub fn since(made: Timestamp, key: KeyId, period: RotationPeriod) -> Self {
        let [.., a, b, c, d] = *key.as_bytes();
        // The last bytes of an id are random: a share of a tenth, from nothing to nearly all of it.
        let early = (u128::from(period.micros() / 10) * u128::from(u32::from_be_bytes([a, b, c, d]))) >> 32;
        let early = u64::try_from(early).unwrap_or(0);
        let after = period.micros().saturating_sub(early);
        Self { period, due: Timestamp::from_micros(made.micros().saturating_add(after)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_day_at_least() {
        assert_eq!(RotationPeriod::of_days(0), None);
        assert_eq!(RotationPeriod::of_days(RotationPeriod::MAX_DAYS + 1), None);
        let text = |days| RotationPeriod::text(RotationPeriod::of_days(days));
        assert_eq!((&*text(1), &*text(90), &*text(0)), ("every day", "every 90 days", "off"));
    }

    #[test]
    fn keys_of_one_day_are_due_at_other_times_and_none_too_late() {
        let period = RotationPeriod::of_days(100).unwrap();
        let due = |last: u8| {
            let mut id = [0; 16];
            id[12] = last;
            Schedule::since(Timestamp::from_micros(0), KeyId::from_bytes(id), period).due.seconds()
        };
        assert_eq!((due(0), due(128)), (100 * 86_400, 95 * 86_400));
        assert_eq!(due(7), due(7));
        let all: std::collections::BTreeSet<_> = (0..=255).map(due).collect();
        assert!(all.len() == 256 && *all.first().unwrap() >= 90 * 86_400);
    }
}
