//! What the tests of this folder share.

use core::future::Future;
use core::task::{Context, Poll, Waker};
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, Thread};

/// A world whose clock stands still and whose entropy is the library's.
pub(crate) struct Entropy;

impl World for Entropy {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn ticks(&self) -> u64 {
        0
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        aws_lc_rs::rand::fill(out).map_err(|_| Error::new(ErrorKind::Internal, Stage::Perform, "no entropy"))
    }
}

/// A world that has run out of entropy.
pub(crate) struct Dry;

impl World for Dry {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn ticks(&self) -> u64 {
        0
    }

    fn fill(&self, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Internal, Stage::Perform, "no entropy"))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = core::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Bytes from hexadecimal digits; white space is skipped.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// A world whose next random bytes are known.
pub(crate) struct Fixed(pub(crate) Vec<u8>);

impl World for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn ticks(&self) -> u64 {
        0
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        out.copy_from_slice(&self.0);
        Ok(())
    }
}
