//! The real clock and the real entropy: the only place that reads them.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clock and the library's generator.
#[derive(Debug)]
pub struct SystemWorld {
    started: Instant,
    random: SystemRandom,
}

impl SystemWorld {
    /// This machine.
    pub fn new() -> Self {
        Self { started: Instant::now(), random: SystemRandom::new() }
    }
}

impl Default for SystemWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn ticks(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        self.random
            .fill(out)
            .map_err(|_| Error::new(ErrorKind::Internal, Stage::Perform, "the system has no entropy to give"))
    }
}
