//! Clock and entropy: the same for the same seed.

use super::lock;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use std::sync::{Arc, Mutex};

/// A world that repeats itself. Its clock stands still unless it is moved, back included.
#[derive(Debug, Clone)]
pub struct Sim(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    micros: u64,
    ticks: u64,
    random: u64,
    has_entropy: bool,
}

impl Sim {
    /// A world on 23 November 2026.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            micros: 1_795_460_597_000_000,
            ticks: 0,
            random: seed,
            has_entropy: true,
        })))
    }

    /// Moves the wall clock by so many seconds, back if negative.
    pub fn step(&self, seconds: i64) {
        let mut inner = lock(&self.0);
        inner.micros = inner.micros.saturating_add_signed(seconds * 1_000_000);
    }

    /// Takes entropy away, or gives it back.
    pub fn set_entropy(&self, has_entropy: bool) {
        lock(&self.0).has_entropy = has_entropy;
    }
}

impl World for Sim {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(lock(&self.0).micros)
    }

    fn ticks(&self) -> u64 {
        let mut inner = lock(&self.0);
        inner.ticks += 1;
        inner.ticks
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
