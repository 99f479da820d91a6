//! The real clock and the real entropy: the only place that reads them.

use crate::clock::{Clock, Steady};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use holdfast_core::port::{Jump, World};
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that a thread draws at once for what is short.
const DRAWN: usize = 2048;

/// What a thread has drawn ahead and not given out yet.
struct Drawn {
    bytes: Zeroizing<[u8; DRAWN]>,
    /// Bytes before this one are given out, and wiped.
    used: usize,
}

thread_local! {
    static DRAWN_AHEAD: RefCell<Drawn> = RefCell::new(Drawn { bytes: Zeroizing::new([0; DRAWN]), used: DRAWN });
}

impl Drawn {
    fn give(
        &mut self,
        out: &mut [u8],
        refill: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.bytes.len().saturating_sub(self.used) < out.len() {
            // If this fails, what is there is not random and must not be given out.
            self.used = self.bytes.len();
            refill(self.bytes.as_mut_slice())?;
            self.used = 0;
        }
        let end = self.used.saturating_add(out.len());
        if let Some(given) = self.bytes.get_mut(self.used..end) {
            out.copy_from_slice(given);
            given.zeroize();
        }
        self.used = end;
        Ok(())
    }
}

/// The machine's clock and the library's generator.
#[derive(Debug)]
pub struct SystemWorld {
    /// By the clock that stands still while the machine is suspended.
    started: Instant,
    /// Reads the clock that does not, microseconds.
    steady: fn() -> Steady,
    /// What that said when it was started.
    began: Steady,
    clock: Clock,
    random: SystemRandom,
}

impl SystemWorld {
    /// This machine.
    pub fn new() -> Self {
        Self::on(steady)
    }

    fn on(steady: fn() -> Steady) -> Self {
        let began = steady();
        let clock = Clock::new(wall(), began);
        Self { started: Instant::now(), steady, began, clock, random: SystemRandom::new() }
    }
}

impl Default for SystemWorld {
    fn default() -> Self {
        Self::new()
    }
}

fn wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Suspension counts as time: a machine that slept has not been tampered with, and what is believed for a time is not believed for longer.
fn steady() -> Steady {
    let since = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
    let micros = u64::try_from(since.tv_nsec).unwrap_or_default() / 1_000;
    Steady(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        wall()
    }

    fn held_now(&self) -> Option<Timestamp> {
        self.clock.held(self.steady)
    }

    fn notice_jump(&self) -> Option<Jump> {
        self.clock.compare(wall(), (self.steady)())
    }

    fn hold_clock(&self, at: Timestamp) {
        self.clock.hold(at, (self.steady)());
    }

    fn trust_clock(&self) {
        self.clock.trust(wall(), (self.steady)());
    }

    fn ticks(&self) -> u64 {
        (self.steady)().0.saturating_sub(self.began.0)
    }

    fn uptime(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        self.random
            .fill(out)
            .map_err(|_| Error::new(ErrorKind::Internal, Stage::Perform, "the system has no entropy to give"))
    }

    fn fill_short(&self, out: &mut [u8]) -> Result<(), Error> {
        if out.len() > DRAWN / 16 {
            return self.fill(out);
        }
        DRAWN_AHEAD.with_borrow_mut(|drawn| drawn.give(out, |bytes| self.fill(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_machine_that_was_suspended_has_passed_the_time_and_not_run() {
        use std::sync::atomic::{AtomicU64, Ordering};
        const ASLEEP: u64 = 24 * 3_600_000_000;
        static STEADY: AtomicU64 = AtomicU64::new(5_000_000);
        let world = SystemWorld::on(|| Steady(STEADY.load(Ordering::Relaxed)));
        assert_eq!(world.ticks(), 0);
        STEADY.fetch_add(ASLEEP, Ordering::Relaxed);
        assert!(world.ticks() == ASLEEP && world.uptime() < ASLEEP, "{} {}", world.ticks(), world.uptime());
        let real = SystemWorld::new();
        let before = [real.ticks(), real.uptime()];
        assert!(real.ticks() >= before[0] && real.uptime() >= before[1]);
    }

    #[test]
    fn no_short_bytes_are_given_twice_by_any_thread() {
        let world = SystemWorld::new();
        let draw = || -> Vec<[u8; 16]> {
            (0..10_000)
                .map(|_| {
                    let mut out = [0; 16];
                    world.fill_short(&mut out).unwrap();
                    out
                })
                .collect()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn what_was_given_is_wiped_and_what_could_not_be_drawn_is_never_given() {
        let mut drawn = Drawn { bytes: Zeroizing::new([0; DRAWN]), used: DRAWN };
        let full = |bytes: &mut [u8]| {
            bytes.fill(7);
            Ok(())
        };
        let dry = |_: &mut [u8]| Err(Error::new(ErrorKind::Internal, Stage::Perform, "dry"));
        let mut out = [0; 100];
        assert!(drawn.give(&mut out, dry).is_err());
        assert!(drawn.give(&mut out, dry).is_err(), "nor after a failure");
        drawn.give(&mut out, full).unwrap();
        assert_eq!((out, &drawn.bytes[..101]), ([7; 100], &[&[0; 100][..], &[7]].concat()[..]));
        for _ in 0..19 {
            drawn.give(&mut out, dry).unwrap();
        }
        assert!(drawn.give(&mut out, dry).is_err(), "48 bytes are left, and 100 are wanted");
    }
}
