//! Whether it helps to ask another member beside one that is slow. A pool that is slow because of all that it is asked is not helped by more.

use super::MAX_MEMBERS;
use crate::pkcs11::member::Member;
use std::time::Duration;
use tokio::time::Instant;

/// What the members have answered since a request began.
pub(super) struct Watched {
    /// What each had answered then.
    before: [u64; MAX_MEMBERS],
    /// What the slow one had answered at the last look, and since when.
    last: (u64, Instant),
    /// Whoever answers nobody for so long is silent.
    silence: Duration,
}

/// What was seen at a look.
pub(super) struct Seen<'a> {
    watched: &'a Watched,
    slow: usize,
    is_silent: bool,
}

impl Watched {
    pub(super) fn begin(members: &[Member], slow: usize, now: Instant, silence: Duration) -> Self {
        let mut before = [0; MAX_MEMBERS];
        for (before, member) in before.iter_mut().zip(members) {
            *before = member.replies();
        }
        Self { before, last: (answered(members, slow), now), silence }
    }

    pub(super) fn look(&mut self, members: &[Member], slow: usize, now: Instant) -> Seen<'_> {
        let answered = answered(members, slow);
        if answered != self.last.0 {
            self.last = (answered, now);
        }
        let is_silent = now.duration_since(self.last.1) >= self.silence;
        Seen { watched: self, slow, is_silent }
    }

    fn since(&self, members: &[Member], place: usize) -> u64 {
        answered(members, place).wrapping_sub(self.before.get(place).copied().unwrap_or(0))
    }
}

impl Seen<'_> {
    /// Whether it helps to ask this one: it has a session to spare, or the slow one answers nobody; for what is late also if it has answered
    /// twice as many meanwhile, and so is through with its queue before the slow one.
    pub(super) fn of(&self, members: &[Member], other: usize, is_late: bool) -> bool {
        let is_faster = || {
            let [slow, other] = [self.slow, other].map(|place| self.watched.since(members, place));
            other >= slow.saturating_mul(2).max(1)
        };
        self.is_silent || members.get(other).is_some_and(Member::is_at_leisure) || is_late && is_faster()
    }
}

fn answered(members: &[Member], place: usize) -> u64 {
    members.get(place).map_or(0, Member::replies)
}
