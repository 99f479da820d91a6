//! The end of a key: how long it waits, and what is known of its material afterwards.

use crate::id::MemberName;
use crate::lifecycle::KeyState;
use crate::sealing_key::SealingKeyId;
use crate::time::Timestamp;
use core::fmt;

/// How long a key that is to be destroyed waits, in days. None waits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitingPeriod(u32);

impl WaitingPeriod {
    /// The longest, in days: a year.
    pub const MAX_DAYS: u32 = 365;
    /// At once.
    pub const NONE: Self = Self(0);

    /// So many days; nothing beyond the limit.
    pub const fn of_days(days: u32) -> Option<Self> {
        if days <= Self::MAX_DAYS { Some(Self(days)) } else { None }
    }

    /// Days.
    pub const fn days(self) -> u32 {
        self.0
    }

    /// Seconds.
    pub fn seconds(self) -> u64 {
        u64::from(self.0).saturating_mul(86_400)
    }

    /// From its words in an event: what [`WaitingPeriod`] prints.
    pub fn from_text(text: &str) -> Option<Self> {
        if text == AT_ONCE {
            return Some(Self::NONE);
        }
        let rest = text.strip_prefix("after ")?;
        let days = rest.strip_suffix(" days").or_else(|| rest.strip_suffix(" day"))?;
        Self::of_days(days.parse().ok()?).filter(|period| period.to_string() == text)
    }
}

const AT_ONCE: &str = "at once";

/// In words, for events: `at once`, `after 7 days`.
impl fmt::Display for WaitingPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str(AT_ONCE),
            1 => f.write_str("after 1 day"),
            days => write!(f, "after {days} days"),
        }
    }
}

/// The order to destroy a key, while it waits. The key is suspended meanwhile, or compromised, and nothing resumes it but taking the order back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destruction {
    /// The state before the order, to which taking it back leads.
    pub state: KeyState,
    /// [`crate::key::Key::resumes_to`] before the order.
    pub resumes_to: KeyState,
    /// When it was ordered.
    pub ordered: Timestamp,
    /// How long it waits.
    pub period: WaitingPeriod,
    /// [`crate::tenant::TenantRecord::up`] of the gateway when it was ordered: it must have been up for the whole period since, too.
    pub up: u64,
}

impl Destruction {
    /// When the period is over by the wall clock, and so when the key is destroyed at the earliest.
    pub fn due(&self) -> Timestamp {
        self.ordered.plus_seconds(self.period.seconds())
    }

    /// The seconds that the gateway must still be up for the period to be over, if it was up for `up` seconds in all.
    pub fn up_left(&self, up: u64) -> u64 {
        self.period.seconds().saturating_sub(up.saturating_sub(self.up))
    }
}

/// What is known of destroyed material, of the key's destroyed versions together: what lay in the members of a pool, and what the rest was
/// sealed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// When it was destroyed: from then on nobody could use it any more.
    pub destroyed: Timestamp,
    /// The newest commit then.
    pub commit: u64,
    /// The members that were asked to erase it and looked: none of it is there.
    pub absent: Vec<MemberName>,
    /// The members that may still hold it, until they are seen and asked.
    pub pending: Vec<MemberName>,
    /// Whoever was in the pool when it was made and had left before it was destroyed: nobody asks them, and they may hold it for ever.
    pub left: Vec<MemberName>,
    /// The sealing keys that software material lay under: as long as one is there, what is left of a sealed version could be opened.
    pub sealed_under: Vec<SealingKeyId>,
}

impl Erasure {
    /// What is to be erased now from these members, and from those that are pending of an earlier erasure; who was absent of that starts anew.
    /// Whoever had left before that stays named, also when they are back and pending: of a version that is erased everywhere else nobody asks them.
    pub fn begun(
        (destroyed, commit): (Timestamp, u64),
        earlier: Option<&Self>,
        holders: impl IntoIterator<Item = MemberName>,
    ) -> Self {
        let (mut pending, mut left, mut sealed_under) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(earlier) = earlier {
            let Self { destroyed: _, commit: _, absent: _, pending: asked, left: gone, sealed_under: under } =
                earlier;
            (pending, left, sealed_under) = (asked.clone(), gone.clone(), under.clone());
        }
        pending.extend(holders);
        Self { destroyed, commit, absent: Vec::new(), pending: sorted(pending), left, sealed_under }
    }

    /// The same, of material that may lie with these members, too, who had left before. Whoever is asked about it has not.
    #[must_use]
    pub fn left(self, members: impl IntoIterator<Item = MemberName>) -> Self {
        let new = members.into_iter().filter(|member| !self.pending.contains(member));
        let left = sorted(new.chain(self.left.iter().cloned()));
        Self { left, ..self }
    }

    /// The same, of material that lay under these sealing keys.
    #[must_use]
    pub fn sealed_under(self, keys: impl IntoIterator<Item = SealingKeyId>) -> Self {
        Self { sealed_under: sorted(self.sealed_under.into_iter().chain(keys)), ..self }
    }

    /// The same, after some of the members have said that nothing of it is there.
    #[must_use]
    pub fn after(&self, absent: &[MemberName]) -> Self {
        let Self { destroyed, commit, absent: before, pending, left, sealed_under } = self;
        let is_absent = |member: &MemberName| absent.contains(member);
        let absent = sorted(before.iter().chain(pending.iter().filter(|member| is_absent(member))).cloned());
        let pending = pending.iter().filter(|member| !is_absent(member)).cloned().collect();
        let (left, sealed_under) = (left.clone(), sealed_under.clone());
        Self { destroyed: *destroyed, commit: *commit, absent, pending, left, sealed_under }
    }
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort_unstable();
    items.dedup();
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_as_they_are_written() {
        for days in [0, 1, 7, WaitingPeriod::MAX_DAYS] {
            let period = WaitingPeriod::of_days(days).unwrap();
            assert_eq!(WaitingPeriod::from_text(&period.to_string()), Some(period));
        }
        assert_eq!(WaitingPeriod::of_days(WaitingPeriod::MAX_DAYS + 1), None);
        for wrong in
            ["", "after 0 days", "after 07 days", "after 1 days", "after 366 days", "at once ", "7 days"]
        {
            assert_eq!(WaitingPeriod::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn uptime_before_the_order_counts_nothing() {
        let order = Destruction {
            state: KeyState::Suspended,
            resumes_to: KeyState::Active,
            ordered: Timestamp::from_micros(0),
            period: WaitingPeriod(1),
            up: 1000,
        };
        assert_eq!(
            [0, 1000, 1001, 87_400, 100_000].map(|up| order.up_left(up)),
            [86_400, 86_400, 86_399, 0, 0]
        );
    }

    #[test]
    fn a_member_is_pending_until_it_says_that_nothing_is_there() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<MemberName>().unwrap());
        let begun = Erasure::begun((Timestamp::from_micros(1), 1), None, [b.clone(), a.clone(), b.clone()]);
        assert_eq!((&begun.absent[..], &begun.pending[..]), (&[][..], &[a.clone(), b.clone()][..]));
        let after = begun.after(&[b.clone(), c]);
        assert_eq!((&after.absent[..], &after.pending[..]), (&[b.clone()][..], &[a.clone()][..]));
        let after = after.after(std::slice::from_ref(&a));
        assert_eq!((&after.absent[..], &after.pending[..]), (&[a, b][..], &[][..]));
    }
}
