//! What cannot be attributed to a caller: counted exactly, kept in bounded room, summarised now and then.

use crate::sync::Mutex;
use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::PoisonError;

/// Where noise came from, coarse enough to be bounded: an IPv4 /24, an IPv6 /48, or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The first three bytes of an IPv4 address.
    V4([u8; 3]),
    /// The first six bytes of an IPv6 address.
    V6([u8; 6]),
    /// Not known, or more sources than there is room for.
    Other,
}

impl Prefix {
    /// The prefix of a source address.
    pub fn of(source: Option<IpAddr>) -> Self {
        match source.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
            None => Self::Other,
        }
    }
}

impl core::fmt::Display for Prefix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let pair = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
                write!(f, "{:x}:{:x}:{:x}::/48", pair(a, b), pair(c, d), pair(e, g))
            }
            Self::Other => f.write_str("other"),
        }
    }
}

/// How often one thing happened from one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// From where.
    pub prefix: Prefix,
    /// What: a code of [`crate::ErrorKind`].
    pub reason: &'static str,
    /// How often.
    pub count: u64,
}

/// Counters of noise since the last summary.
#[derive(Debug, Default)]
pub struct Noise {
    cells: Mutex<HashMap<(Prefix, &'static str), u64>>,
}

impl Noise {
    /// How many cells there may be before further sources share one per reason.
    pub const MAX_CELLS: usize = 1024;

    /// Counts one event.
    pub fn count(&self, source: Option<IpAddr>, reason: &'static str) {
        self.add([Summary { prefix: Prefix::of(source), reason, count: 1 }]);
    }

    /// Takes what has been counted, and starts anew.
    pub fn take(&self) -> Vec<Summary> {
        let cells = core::mem::take(&mut *self.cells.lock().unwrap_or_else(PoisonError::into_inner));
        cells.into_iter().map(|((prefix, reason), count)| Summary { prefix, reason, count }).collect()
    }

    /// Puts back what could not be recorded.
    pub fn restore(&self, summaries: &[Summary]) {
        self.add(summaries.iter().copied());
    }

    fn add(&self, summaries: impl IntoIterator<Item = Summary>) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        for Summary { prefix, reason, count } in summaries {
            let own = (prefix, reason);
            let cell = if cells.len() < Self::MAX_CELLS || cells.contains_key(&own) {
                own
            } else {
                (Prefix::Other, reason)
            };
            let cell = cells.entry(cell).or_default();
            *cell = cell.saturating_add(count);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_a_bounded_room_and_are_counted_exactly() {
        let noise = Noise::default();
        let strangers = 200_000u32;
        for number in 0..strangers {
            noise.count(Some(IpAddr::from(number.to_be_bytes())), "unauthenticated");
            noise.count(Some(IpAddr::from((u128::from(number) << 80).to_be_bytes())), "malformed");
        }
        let summaries = noise.take();
        assert!(summaries.len() <= Noise::MAX_CELLS + 2);
        assert_eq!(summaries.iter().map(|s| s.count).sum::<u64>(), 2 * u64::from(strangers));
        assert!(noise.take().is_empty());
    }

    #[test]
    fn what_could_not_be_recorded_again_and_again_fills_no_more_room_and_loses_no_count() {
        let noise = Noise::default();
        let mut counted = 0;
        for network in 0..5u8 {
            for number in 0..2000u16 {
                let [high, low] = number.to_be_bytes();
                noise.count(Some(IpAddr::from([network, high, low, 1])), "malformed");
                counted += 1;
            }
            let summaries = noise.take();
            // Others come while it cannot be recorded.
            for number in 0..2000u16 {
                let [high, low] = number.to_be_bytes();
                noise.count(Some(IpAddr::from([100 + network, high, low, 1])), "malformed");
                counted += 1;
            }
            noise.restore(&summaries);
        }
        let summaries = noise.take();
        assert!(summaries.len() <= Noise::MAX_CELLS + 1, "{}", summaries.len());
        assert_eq!(summaries.iter().map(|s| s.count).sum::<u64>(), counted);
    }

    #[test]
    fn prefixes_print_as_networks() {
        let text = |address: &str| Prefix::of(Some(address.parse().unwrap())).to_string();
        assert_eq!(text("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(text("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(text("2001:db8:1:2::1"), "2001:db8:1::/48");
    }
}
