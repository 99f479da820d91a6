//! For how long a log keeps its entries.

use core::fmt;

/// A number of days after which a log's entries may be pruned. Without one they are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Retention(u32);

impl Retention {
    /// The shortest, in days.
    pub const MIN_DAYS: u32 = 1;
    /// The longest that is not for ever, in days: a hundred years.
    pub const MAX_DAYS: u32 = 36_500;

    /// So many days; nothing beyond the limits.
    pub const fn of_days(days: u32) -> Option<Self> {
        if days >= Self::MIN_DAYS && days <= Self::MAX_DAYS { Some(Self(days)) } else { None }
    }

    /// Days.
    pub const fn days(self) -> u32 {
        self.0
    }

    /// Microseconds.
    pub fn micros(self) -> u64 {
        u64::from(self.0).saturating_mul(86_400_000_000)
    }

    /// In words, for events: `30 days`, `for ever`.
    pub fn text(retention: Option<Self>) -> Box<str> {
        retention.map_or("for ever".into(), |retention| retention.to_string().into())
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(days) = self;
        write!(f, "{days} {}", if *days == 1 { "day" } else { "days" })
    }
}

#[cfg(test)]
mod tests {
    use super::Retention;

    #[test]
    fn a_retention_is_a_day_at_least() {
        assert_eq!(Retention::of_days(0), None);
        assert_eq!(Retention::of_days(Retention::MAX_DAYS + 1), None);
        let text = |days| Retention::text(Some(Retention::of_days(days).unwrap()));
        assert_eq!((&*text(1), &*text(30), &*Retention::text(None)), ("1 day", "30 days", "for ever"));
    }
}
