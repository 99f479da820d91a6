//! How long to wait after a failure.

use std::time::Duration;

/// Pauses that double up to a bound, each cut by a random part of up to a half, so that many sinks do not come back at once.
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    state: u64,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        // xorshift never leaves zero.
        Self { first, longest, next: first, state: seed | 1 }
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The pause after one more failure.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = whole.saturating_mul(2).min(self.longest);
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let part = u32::try_from(self.state >> 48).unwrap_or(0);
        whole - whole / 2 * part / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_differ() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, longest, 7);
        let pauses: Vec<_> = (0..1000).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= first && pauses[0] >= first / 2);
        assert!(pauses.iter().all(|pause| *pause >= first / 2 && *pause <= longest));
        assert!(pauses[10..].iter().all(|pause| *pause >= longest / 2));
        // As many in either half, and hardly two of them the same.
        let short = pauses[10..].iter().filter(|pause| **pause < longest * 3 / 4).count();
        assert!((400..600).contains(&short), "{short}");
        assert!(pauses[10..].iter().collect::<std::collections::BTreeSet<_>>().len() > 900);
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
