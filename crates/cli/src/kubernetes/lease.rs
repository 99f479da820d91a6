//! Seeds that may be given again for a bounded time while no gateway can be asked. In memory alone, and wiped.
//!
//! Only what a gateway has decrypted is leased: who was allowed to encrypt a seed may not be allowed to read it.
//!
//! A lease begins when its question was *sent*: the gateway released the answer later than that, and releases nothing after it has acknowledged a
//! stop. So no seed is given later than one lease after a stop, whoever is cut off from whom.

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_sdk::Secret;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// How many are kept: an API server has a seed for each start of each of them, and for each version of the key.
const MOST: usize = 1024;
/// When to look at the clock of leases again at the latest: while the machine sleeps it goes on, and what waits here does not.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a lease is found by: the hash of the ciphertext and of the `key_id` that came with it, so that only both together find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; 32]);

impl Name {
    /// Of a ciphertext with its `key_id`.
    pub(crate) fn of(ciphertext: &[u8], key_id: &str) -> Self {
        let length = u64::try_from(key_id.len()).unwrap_or(u64::MAX).to_be_bytes();
        let hash = digest(&SHA256, &[&length, key_id.as_bytes(), ciphertext].concat());
        let mut name = [0; 32];
        name.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Self(name)
    }
}

/// When a question was sent, and how often everything had been forgotten by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    at: Duration,
    generation: u64,
}

/// The leases of one plugin.
#[derive(Debug)]
pub(crate) struct Leases {
    lease: Duration,
    kept: Mutex<Kept>,
    /// Says that one ends sooner than is waited for.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    seeds: HashMap<Name, Lease>,
    /// What the next end was when it was looked for last.
    next: Option<Duration>,
}

#[derive(Debug)]
struct Lease {
    seed: Arc<Secret>,
    until: Duration,
}

impl Leases {
    /// With the time that each one has; of none nothing is kept.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, kept: Mutex::default(), sooner: Notify::new() }
    }

    /// The time that each one has.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// To be taken before a question is sent.
    pub(crate) fn asked(&self, now: Duration) -> Asked {
        Asked { at: now, generation: self.kept().generation }
    }

    /// Keeps what the question gave, unless everything was forgotten since: the answer is then from before a stop.
    pub(crate) fn keep(&self, name: Name, asked: Asked, seed: &[u8]) {
        let mut kept = self.kept();
        if self.lease.is_zero() || kept.generation != asked.generation {
            return;
        }
        if kept.seeds.len() >= MOST && !kept.seeds.contains_key(&name) {
            let oldest = kept.seeds.iter().min_by_key(|(_, lease)| lease.until).map(|(name, _)| *name);
            oldest.and_then(|name| kept.seeds.remove(&name));
        }
        let until = asked.at.saturating_add(self.lease);
        kept.seeds.insert(name, Lease { seed: Arc::new(Secret::from(seed)), until });
        if kept.next.is_none_or(|next| until < next) {
            kept.next = Some(until);
            self.sooner.notify_one();
        }
    }

    /// A seed whose lease has not ended.
    pub(crate) fn find(&self, name: &Name, now: Duration) -> Option<Arc<Secret>> {
        let kept = self.kept();
        kept.seeds.get(name).filter(|lease| now < lease.until).map(|lease| Arc::clone(&lease.seed))
    }

    /// How many are in memory.
    pub(crate) fn count(&self) -> usize {
        self.kept().seeds.len()
    }

    /// Wipes one, as its seed has been refused.
    pub(crate) fn end(&self, name: &Name) {
        self.kept().seeds.remove(name);
    }

    /// Wipes those that have ended, and gives when the next one ends.
    fn sweep(&self, now: Duration) -> Option<Duration> {
        let mut kept = self.kept();
        kept.seeds.retain(|_, lease| now < lease.until);
        kept.next = kept.seeds.values().map(|lease| lease.until).min();
        kept.next
    }

    /// Wipes each one when it ends, for ever; `now` is the clock of leases.
    pub(crate) async fn keep_swept(&self, now: impl Fn() -> Duration) -> Infallible {
        loop {
            let Some(next) = self.sweep(now()) else {
                self.sooner.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep(next.saturating_sub(now()).min(LOOK_AGAIN)) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Wipes all of them, and has what is under way keep nothing. Gives how many there were.
    pub(crate) fn forget(&self) -> usize {
        let mut kept = self.kept();
        kept.generation += 1;
        let were = kept.seeds.len();
        kept.seeds.clear();
        were
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked left no half-made lease.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::{Instant, sleep_until};

    const LEASE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn name(number: usize) -> Name {
        Name::of(&number.to_be_bytes(), "k")
    }

    #[test]
    fn it_ends_one_lease_after_the_question_was_sent() {
        let leases = Leases::new(LEASE);
        let asked = leases.asked(at(100));
        leases.keep(name(1), asked, b"seed");
        assert_eq!(leases.find(&name(1), at(109)).unwrap().expose(), b"seed");
        assert_eq!(leases.find(&name(1), at(110)), None);
        assert_eq!(leases.find(&name(2), at(100)), None);
        // Asked again, it has another one.
        leases.keep(name(1), leases.asked(at(105)), b"seed");
        assert!(leases.find(&name(1), at(114)).is_some() && leases.find(&name(1), at(115)).is_none());
        leases.sweep(at(114));
        assert_eq!(leases.kept().seeds.len(), 1);
        leases.sweep(at(115));
        assert_eq!(leases.kept().seeds.len(), 0, "it is wiped");
    }

    /// Each at its own end, also one that was asked for first and answered last; and nothing is done meanwhile.
    #[tokio::test(start_paused = true)]
    async fn each_is_wiped_when_it_ends() {
        let leases = Leases::new(LEASE);
        let (begun, read) = (Instant::now(), Cell::new(0));
        let now = || {
            read.set(read.get() + 1);
            begun.elapsed()
        };
        let after = |seconds| sleep_until(begun + at(seconds) + Duration::from_millis(10));
        let story = async {
            after(100).await;
            assert_eq!(read.get(), 1, "while there is none it waits for one");
            let first = leases.asked(at(100));
            leases.keep(name(2), leases.asked(at(102)), b"seed");
            leases.keep(name(3), leases.asked(at(104)), b"seed");
            after(105).await;
            leases.keep(name(1), first, b"seed");
            for (seconds, left) in [(109, 3), (110, 2), (112, 1), (114, 0)] {
                after(seconds).await;
                assert_eq!(leases.count(), left, "after {seconds} seconds");
            }
            after(200).await;
            leases.keep(name(1), leases.asked(at(200)), b"seed");
            after(209).await;
            assert_eq!(leases.count(), 1);
            after(210).await;
            assert_eq!(leases.count(), 0);
        };
        tokio::select! {
            never = leases.keep_swept(now) => match never {},
            () = story => {}
        }
        assert!(read.get() < 40, "the clock was read {} times", read.get());
    }

    /// The clock of leases goes on while the machine sleeps.
    #[tokio::test(start_paused = true)]
    async fn what_has_ended_while_the_machine_slept_is_wiped_soon() {
        let leases = Leases::new(at(3600));
        let (begun, slept) = (Instant::now(), Cell::new(Duration::ZERO));
        leases.keep(name(1), leases.asked(at(0)), b"seed");
        let story = async {
            sleep(at(1)).await;
            slept.set(at(3600));
            sleep(LOOK_AGAIN).await;
            assert_eq!(leases.count(), 0);
        };
        tokio::select! {
            never = leases.keep_swept(|| begun.elapsed() + slept.get()) => match never {},
            () = story => {}
        }
    }

    #[test]
    fn only_the_ciphertext_with_its_key_id_finds_it() {
        let all = [
            Name::of(b"c", "k"),
            Name::of(b"c", "l"),
            Name::of(b"d", "k"),
            Name::of(b"", "kc"),
            Name::of(b"kc", ""),
        ];
        let different: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn what_was_under_way_when_all_was_forgotten_is_not_kept() {
        let leases = Leases::new(LEASE);
        leases.keep(name(1), leases.asked(at(1)), b"a");
        let under_way = leases.asked(at(1));
        assert_eq!(leases.forget(), 1);
        leases.keep(name(2), under_way, b"b");
        assert_eq!((leases.find(&name(1), at(2)), leases.find(&name(2), at(2))), (None, None));
        leases.keep(name(2), leases.asked(at(1)), b"b");
        assert!(leases.find(&name(2), at(2)).is_some());
    }

    #[test]
    fn they_are_bounded_and_the_oldest_goes() {
        let leases = Leases::new(LEASE);
        for number in 0..=MOST {
            leases.keep(name(number), leases.asked(Duration::from_millis(number as u64)), b"seed");
        }
        assert_eq!(leases.kept().seeds.len(), MOST);
        assert!(leases.find(&name(0), at(2)).is_none() && leases.find(&name(1), at(2)).is_some());
    }

    #[test]
    fn without_a_lease_nothing_is_kept() {
        let leases = Leases::new(Duration::ZERO);
        leases.keep(name(1), leases.asked(at(1)), b"a");
        assert!(leases.kept().seeds.is_empty());
    }
}
