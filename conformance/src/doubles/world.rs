//! Clock and entropy: the same for the same seed.

use super::lock;
use holdfast_core::port::{Jump, World};
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use std::sync::{Arc, Mutex};

/// A world that repeats itself. Its clock stands still unless it is moved, back included.
#[derive(Debug, Clone)]
pub struct Sim(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    micros: u64,
    /// Microseconds on the clock that never steps.
    steady: u64,
    /// The wall clock less the steady one, as it was trusted last, and as it is held.
    trusted: i64,
    held: Option<i64>,
    ticks: u64,
    /// Of these, while the machine was suspended.
    asleep: u64,
    random: u64,
    has_entropy: bool,
}

/// 23 November 2026, microseconds since 1970.
const BEGIN: u64 = 1_795_460_597_000_000;

impl Sim {
    /// A world on 23 November 2026.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            micros: BEGIN,
            steady: 0,
            trusted: BEGIN.cast_signed(),
            held: None,
            ticks: 0,
            asleep: 0,
            random: seed,
            has_entropy: true,
        })))
    }

    /// Moves the wall clock by so many seconds, back if negative, in steps that nobody notices.
    pub fn step(&self, seconds: i64) {
        let mut inner = lock(&self.0);
        inner.micros = inner.micros.saturating_add_signed(seconds * 1_000_000);
        inner.trusted += seconds * 1_000_000;
    }

    /// Moves the wall clock by so many seconds at once, back if negative: noticed, if it is more than a minute.
    pub fn jump(&self, seconds: i64) {
        let mut inner = lock(&self.0);
        inner.micros = inner.micros.saturating_add_signed(seconds * 1_000_000);
    }

    /// Lets time pass, on both clocks.
    pub fn pass(&self, seconds: u64) {
        let mut inner = lock(&self.0);
        inner.micros += seconds * 1_000_000;
        inner.steady += seconds * 1_000_000;
        inner.ticks += seconds * 1_000_000;
    }

    /// Suspends the machine for so many seconds.
    pub fn suspend(&self, seconds: u64) {
        self.pass(seconds);
        lock(&self.0).asleep += seconds * 1_000_000;
    }

    /// Another process on the same machine: it remembers nothing of what was held.
    pub fn restart(&self) {
        self.trust_clock();
    }

    /// Takes entropy away, or gives it back.
    pub fn set_entropy(&self, has_entropy: bool) {
        lock(&self.0).has_entropy = has_entropy;
    }
}

impl Inner {
    fn offset(&self) -> i64 {
        self.micros.cast_signed() - self.steady.cast_signed()
    }
}

impl World for Sim {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(lock(&self.0).micros)
    }

    fn held_now(&self) -> Option<Timestamp> {
        let inner = lock(&self.0);
        inner.held.map(|held| Timestamp::from_micros(inner.steady.saturating_add_signed(held)))
    }

    fn notice_jump(&self) -> Option<Jump> {
        let mut inner = lock(&self.0);
        let (now, before) = (inner.offset(), inner.trusted);
        if now.abs_diff(before) <= 60_000_000 {
            return None;
        }
        inner.trusted = now;
        inner.held = inner.held.or(Some(before));
        let from = Timestamp::from_micros(inner.steady.saturating_add_signed(before));
        Some(Jump { from, to: Timestamp::from_micros(inner.micros) })
    }

    fn hold_clock(&self, at: Timestamp) {
        let mut inner = lock(&self.0);
        inner.held = Some(at.micros().cast_signed() - inner.steady.cast_signed());
    }

    fn trust_clock(&self) {
        let mut inner = lock(&self.0);
        (inner.trusted, inner.held) = (inner.offset(), None);
    }

    fn ticks(&self) -> u64 {
        let mut inner = lock(&self.0);
        inner.ticks += 1;
        inner.ticks
    }

    fn uptime(&self) -> u64 {
        let inner = lock(&self.0);
        inner.ticks - inner.asleep
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        let mut inner = lock(&self.0);
        if !inner.has_entropy {
            return Err(Error::new(ErrorKind::Internal, Stage::Perform, "there is no entropy"));
        }
        for byte in out {
            // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
            inner.random = inner.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = inner.random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)).to_le_bytes()[0];
        }
        Ok(())
    }
}
