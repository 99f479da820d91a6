//! How often shares may be tried: so that nobody keeps the gateway busy, and nobody keeps others from opening it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Microseconds in a second.
const SECOND: u64 = 1_000_000;
/// Shares that are looked at in a minute, whoever brings them.
const PER_MINUTE: usize = 60;
/// Wrong ones in a row from one address, after which it has to wait.
const IN_A_ROW: u32 = 5;
/// How long at first; twice as long after each further one.
const FIRST_WAIT: u64 = 60 * SECOND;
/// How long at most.
const LONGEST_WAIT: u64 = 15 * 60 * SECOND;
/// Addresses that are remembered.
const ADDRESSES: usize = 1024;

/// For how many seconds nothing is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// From now.
    pub seconds: u64,
}

/// What was tried lately. Times are of a clock that never steps back, in microseconds.
#[derive(Debug, Default)]
pub struct Attempts {
    recent: VecDeque<u64>,
    wrong: BTreeMap<Option<IpAddr>, Wrong>,
    /// Refused since the start.
    refused: u64,
}

#[derive(Debug, Default)]
struct Wrong {
    in_a_row: u32,
    until: u64,
    last: u64,
}

impl Attempts {
    /// Counts one more, if it may be looked at.
    ///
    /// # Errors
    /// How long to wait, when it may not.
    pub fn admit(&mut self, source: Option<IpAddr>, now: u64) -> Result<(), Wait> {
        let wait = |until: u64| Wait { seconds: until.saturating_sub(now).div_ceil(SECOND) };
        if let Some(wrong) = self.wrong.get(&source.map(network)).filter(|wrong| wrong.until > now) {
            return Err(wait(wrong.until));
        }
        while self.recent.front().is_some_and(|then| then.saturating_add(60 * SECOND) <= now) {
            self.recent.pop_front();
        }
        if let Some(oldest) = self.recent.front().filter(|_| self.recent.len() >= PER_MINUTE) {
            return Err(wait(oldest.saturating_add(60 * SECOND)));
        }
        self.recent.push_back(now);
        Ok(())
    }

    /// The share was wrong.
    pub fn was_wrong(&mut self, source: Option<IpAddr>, now: u64) {
        self.refused = self.refused.saturating_add(1);
        let network = source.map(network);
        if !self.wrong.contains_key(&network) && self.wrong.len() >= ADDRESSES {
            let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.last).map(|(network, _)| *network);
            if let Some(oldest) = oldest {
                self.wrong.remove(&oldest);
            }
        }
        let wrong = self.wrong.entry(network).or_default();
        wrong.in_a_row = wrong.in_a_row.saturating_add(1);
        wrong.last = now;
        if let Some(more) = wrong.in_a_row.checked_sub(IN_A_ROW) {
            let length =
                FIRST_WAIT.checked_shl(more.min(8)).map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT));
            wrong.until = now.saturating_add(length);
        }
    }

    /// The share was right.
    pub fn was_right(&mut self, source: Option<IpAddr>) {
        self.wrong.remove(&source.map(network));
    }

    /// How many were wrong since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// One subscriber has as many addresses of IPv6 as they like.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn a_minute_has_so_many_whoever_brings_them() {
        let mut attempts = Attempts::default();
        for index in 0..60_u64 {
            attempts.admit(address(u8::try_from(index).unwrap()), index * SECOND / 2).unwrap();
        }
        assert_eq!(attempts.admit(address(99), 30 * SECOND), Err(Wait { seconds: 30 }));
        assert_eq!(attempts.admit(address(99), 60 * SECOND), Ok(()));
    }

    #[test]
    fn whoever_is_wrong_in_a_row_waits_ever_longer_and_nobody_else_does() {
        let mut attempts = Attempts::default();
        let mut now = 0;
        for _ in 0..5 {
            attempts.admit(address(1), now).unwrap();
            attempts.was_wrong(address(1), now);
        }
        let mut waits = vec![];
        for _ in 0..6 {
            let Wait { seconds } = attempts.admit(address(1), now).unwrap_err();
            waits.push(seconds);
            assert_eq!(attempts.admit(address(2), now), Ok(()));
            now += seconds * SECOND;
            attempts.admit(address(1), now).unwrap();
            attempts.was_wrong(address(1), now);
        }
        assert_eq!(waits, [60, 120, 240, 480, 900, 900]);
        assert_eq!(attempts.refused(), 11);
        now += 900 * SECOND;
        attempts.admit(address(1), now).unwrap();
        attempts.was_right(address(1));
        attempts.was_wrong(address(1), now);
        assert_eq!(attempts.admit(address(1), now), Ok(()), "it begins anew");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_network_of_ipv6_is_one() {
        let mut attempts = Attempts::default();
        for index in 0..5_000_u32 {
            attempts.was_wrong(Some(IpAddr::from(index.to_be_bytes())), u64::from(index));
        }
        assert_eq!(attempts.wrong.len(), ADDRESSES);
        let mut attempts = Attempts::default();
        for last in 0..5_u16 {
            attempts.was_wrong(Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])), 0);
        }
        assert!(attempts.admit(Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 7, 7, 7, 7])), 0).is_err());
        assert!(attempts.admit(Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 0])), 0).is_ok());
    }
}
