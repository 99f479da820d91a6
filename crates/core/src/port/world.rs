//! Clock and entropy.

use crate::error::Error;
use crate::time::Timestamp;
use std::sync::Arc;

/// A step of the wall clock against the clock that never steps, of more than a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// What the time would be without it.
    pub from: Timestamp,
    /// What the wall clock says.
    pub to: Timestamp,
}

/// Clock and entropy.
pub trait World: Send + Sync + 'static {
    /// The wall clock. MAY step back; order MUST come from the log, never from here.
    fn now(&self) -> Timestamp;

    /// The time that is held while a jump of the wall clock waits to be confirmed: the time from before, carried on by a clock that does not
    /// step and to which suspension counts; `None` while nothing is held, and in a world whose clock cannot jump. MUST then cost
    /// no more than one load: every request asks.
    fn held_now(&self) -> Option<Timestamp> {
        None
    }

    /// Compares the clocks. A jump is given back once, and holds the time from then on. To be called every second or so.
    fn notice_jump(&self) -> Option<Jump> {
        None
    }

    /// Holds the time at this point, from which it goes on: what a start finds unconfirmed.
    fn hold_clock(&self, _at: Timestamp) {}

    /// Takes the wall clock at its word from now on: whatever was held is confirmed.
    fn trust_clock(&self) {}

    /// Microseconds on a clock that never steps back, from an arbitrary start. Suspension of the machine MUST count: what is believed, let in or
    /// open for a time is so no longer for having slept meanwhile.
    fn ticks(&self) -> u64;

    /// Microseconds that the machine has run, from an arbitrary start: suspension MUST NOT count, since nobody could notice anything then. What it
    /// measures is a warning that people are to have had; for everything else there are [`World::ticks`]. The same in a world that is never suspended.
    fn uptime(&self) -> u64 {
        self.ticks()
    }

    /// Fills `out` with bytes nobody can predict. MUST NOT return before they are.
    ///
    /// # Errors
    /// `internal`, when the system has no entropy source.
    fn fill(&self, out: &mut [u8]) -> Result<(), Error>;

    /// The same for what is short and no secret key: operation ids, nonces, openings. MAY be drawn ahead, since every call to a generator
    /// costs as much as a record; MUST NOT give any byte twice.
    ///
    /// # Errors
    /// As [`World::fill`].
    fn fill_short(&self, out: &mut [u8]) -> Result<(), Error> {
        self.fill(out)
    }
}

impl<W: World> World for Arc<W> {
    fn now(&self) -> Timestamp {
        W::now(self)
    }

    fn held_now(&self) -> Option<Timestamp> {
        W::held_now(self)
    }

    fn notice_jump(&self) -> Option<Jump> {
        W::notice_jump(self)
    }

    fn hold_clock(&self, at: Timestamp) {
        W::hold_clock(self, at);
    }

    fn trust_clock(&self) {
        W::trust_clock(self);
    }

    fn ticks(&self) -> u64 {
        W::ticks(self)
    }

    fn uptime(&self) -> u64 {
        W::uptime(self)
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        W::fill(self, out)
    }

    fn fill_short(&self, out: &mut [u8]) -> Result<(), Error> {
        W::fill_short(self, out)
    }
}
