//! A breaker: whether a member is asked at all, by what became of what it was asked.
//!
//! ```text
//!          MISSES in a row, or no answer to a probe
//!   closed ────────────────────────────────────────► open ◄──────────────┐
//!     ▲                                               │ pause, doubled   │ fails, or the first
//!     └────────── an operation succeeds ◄── on trial ◄┘ and jittered ────┘ operation misses
//!                                                        a probe
//! ```
//!
//! A wrong result ejects: no trial leads back from there, only an operator.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Misses in a row that open it.
pub(crate) const MISSES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A breaker.
pub(crate) struct Breaker {
    state: Mutex<State>,
    /// Whether there is anything to be looked at: while all goes well nobody takes the lock.
    uneasy: AtomicBool,
    /// Told when it opens.
    opened: Notify,
}

#[derive(Debug)]
enum State {
    Closed {
        misses: u32,
        /// How often it was opened since the last success.
        rounds: u32,
    },
    Open {
        until: Instant,
        rounds: u32,
        why: Arc<str>,
    },
    Ejected(Arc<str>),
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Closed,
    Open(Arc<str>),
    Ejected(Arc<str>),
}

impl Default for Breaker {
    fn default() -> Self {
        let state = Mutex::new(State::Closed { misses: 0, rounds: 0 });
        Self { state, uneasy: AtomicBool::new(false), opened: Notify::new() }
    }
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation had an answer that was the token's to give.
    pub(crate) fn hit(&self) {
        if !self.uneasy.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        // What was asked before it opened may be answered late: that proves little.
        if matches!(*state, State::Closed { .. }) {
            *state = State::Closed { misses: 0, rounds: 0 };
            self.uneasy.store(false, Ordering::Relaxed);
        }
    }

    /// An operation failed, or took too long.
    pub(crate) fn miss(&self, now: Instant, why: &str) {
        let mut state = self.lock();
        self.uneasy.store(true, Ordering::Relaxed);
        if let State::Closed { misses, rounds } = *state {
            *state = match misses + 1 {
                misses if misses < MISSES => State::Closed { misses, rounds },
                _ => self.open(now, rounds, Arc::from(why)),
            };
        }
    }

    /// It cannot work, as far as is known: no answer to a probe, no login.
    pub(crate) fn trip(&self, now: Instant, why: &str) {
        let mut state = self.lock();
        self.uneasy.store(true, Ordering::Relaxed);
        if let State::Closed { rounds, .. } = *state {
            *state = self.open(now, rounds, Arc::from(why));
        }
    }

    fn open(&self, now: Instant, rounds: u32, why: Arc<str>) -> State {
        self.opened.notify_one();
        State::Open { until: now + pause(rounds), rounds: rounds + 1, why }
    }

    /// Resolves when it has been opened.
    pub(crate) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// When it is to be tried again, while it is open.
    pub(crate) fn next_trial(&self) -> Option<Instant> {
        match *self.lock() {
            State::Open { until, .. } => Some(until),
            State::Closed { .. } | State::Ejected(_) => None,
        }
    }

    /// What a probe said. While it is closed that is as good as an operation.
    pub(crate) fn probed(&self, now: Instant, said: Result<(), &str>) {
        let mut state = self.lock();
        match (&*state, said) {
            // On trial: the first miss opens it again, the first success closes it for good.
            (State::Open { rounds, .. }, Ok(())) => {
                *state = State::Closed { misses: MISSES - 1, rounds: *rounds };
            }
            (State::Open { rounds, .. }, Err(why)) => {
                *state = State::Open { until: now + pause(*rounds), rounds: rounds + 1, why: Arc::from(why) };
            }
            (State::Closed { .. }, Ok(())) => {
                *state = State::Closed { misses: 0, rounds: 0 };
                self.uneasy.store(false, Ordering::Relaxed);
            }
            (State::Closed { rounds, .. }, Err(why)) => {
                self.uneasy.store(true, Ordering::Relaxed);
                *state = self.open(now, *rounds, Arc::from(why));
            }
            (State::Ejected(_), _) => {}
        }
    }

    /// It gave a wrong result.
    pub(crate) fn eject(&self, why: &str) {
        let mut state = self.lock();
        self.uneasy.store(true, Ordering::Relaxed);
        *state = State::Ejected(Arc::from(why));
    }

    /// A new worker, which has not failed yet.
    pub(crate) fn renew(&self) {
        let mut state = self.lock();
        if !matches!(*state, State::Ejected(_)) {
            *state = State::Closed { misses: 0, rounds: 0 };
            self.uneasy.store(false, Ordering::Relaxed);
        }
    }

    /// An operator says that it may work again.
    pub(crate) fn readmit(&self) {
        *self.lock() = State::Closed { misses: MISSES - 1, rounds: 0 };
        self.uneasy.store(true, Ordering::Relaxed);
    }

    pub(crate) fn standing(&self) -> Standing {
        if !self.uneasy.load(Ordering::Relaxed) {
            return Standing::Closed;
        }
        match &*self.lock() {
            State::Closed { .. } => Standing::Closed,
            State::Open { why, .. } => Standing::Open(Arc::clone(why)),
            State::Ejected(why) => Standing::Ejected(Arc::clone(why)),
        }
    }

    /// Whether operations may be sent there.
    pub(crate) fn is_closed(&self) -> bool {
        !self.uneasy.load(Ordering::Relaxed) || matches!(*self.lock(), State::Closed { .. })
    }
}

/// Between half and the whole of a pause that doubles: gateways that lost a device together don't come back to it together.
fn pause(rounds: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << rounds.min(16)).min(LONGEST_PAUSE);
    // Not for secrets: any number that differs from process to process will do.
    let random = RandomState::new().hash_one(rounds) >> 40;
    let share = u32::try_from(random).unwrap_or(0);
    whole / 2 + (whole / 2 / (1 << 24)).saturating_mul(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(standing: Standing) -> String {
        match standing {
            Standing::Open(why) => why.to_string(),
            Standing::Closed | Standing::Ejected(_) => panic!("{standing:?}"),
        }
    }

    #[test]
    fn misses_in_a_row_open_it_and_a_success_between_them_does_not() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            for _ in 1..MISSES {
                breaker.miss(now, "late");
                assert!(breaker.is_closed());
            }
            breaker.hit();
        }
        for _ in 0..MISSES {
            breaker.miss(now, "late");
        }
        assert!(!breaker.is_closed());
        assert_eq!(open(breaker.standing()), "late");
        breaker.hit();
        assert!(!breaker.is_closed(), "what was asked before says nothing of now");
    }

    #[test]
    fn a_trial_leads_back_and_the_first_operation_decides() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.trip(now, "no answer");
        let first = breaker.next_trial().unwrap();
        assert!(first > now && first <= now + FIRST_PAUSE);
        breaker.probed(first, Err("still none"));
        assert_eq!(open(breaker.standing()), "still none");
        let second = breaker.next_trial().unwrap();
        breaker.probed(second, Ok(()));
        assert!(breaker.is_closed());
        breaker.miss(second, "late");
        assert!(!breaker.is_closed(), "on trial one is enough");
        assert!(breaker.next_trial().unwrap() >= second + FIRST_PAUSE * 2, "and the pauses go on growing");
        breaker.probed(second, Ok(()));
        breaker.hit();
        breaker.miss(second, "late");
        assert!(breaker.is_closed(), "it was closed for good");
    }

    #[test]
    fn pauses_double_to_a_bound_and_differ() {
        for rounds in 0..40 {
            let whole = FIRST_PAUSE.saturating_mul(1 << rounds.min(16)).min(LONGEST_PAUSE);
            let pause = pause(rounds);
            assert!(pause >= whole / 2 && pause <= whole, "{rounds}: {pause:?}");
        }
        let some: std::collections::BTreeSet<_> = (0..16).map(|_| pause(3)).collect();
        assert!(some.len() > 1);
    }

    #[test]
    fn from_a_wrong_result_only_an_operator_leads_back() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.eject("wrong");
        breaker.hit();
        breaker.renew();
        breaker.probed(now, Ok(()));
        breaker.miss(now, "late");
        assert_eq!((breaker.standing(), breaker.next_trial()), (Standing::Ejected("wrong".into()), None));
        breaker.readmit();
        assert!(breaker.is_closed());
    }

    #[tokio::test]
    async fn whoever_waits_is_told_that_it_opened() {
        let breaker = Breaker::default();
        breaker.trip(Instant::now(), "no answer");
        breaker.opened().await;
    }
}
