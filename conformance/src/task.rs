//! Futures polled by hand: a test decides who runs when, and notices whoever waits for a wake that never comes.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;

/// A future that is polled only when it was woken, and only when the test says so.
pub struct Task<'a, T> {
    future: Option<Pin<Box<dyn Future<Output = T> + 'a>>>,
    flag: Arc<Flag>,
}

#[derive(Debug)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<'a, T> Task<'a, T> {
    /// A future that has not been polled yet.
    pub fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self { future: Some(Box::pin(future)), flag: Arc::new(Flag(AtomicBool::new(true))) }
    }

    /// A future that has been polled once.
    pub fn begun(future: impl Future<Output = T> + 'a) -> Self {
        let mut task = Self::new(future);
        assert!(task.turn().is_none(), "it was meant to wait for something");
        task
    }

    /// Whether it has work to do: never polled, or woken since.
    pub fn is_woken(&self) -> bool {
        self.future.is_some() && self.flag.0.load(Ordering::SeqCst)
    }

    /// Polls it once, if it was woken.
    pub fn turn(&mut self) -> Option<T> {
        let future = self.future.as_mut()?;
        if !self.flag.0.swap(false, Ordering::SeqCst) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.flag));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => {
                self.future = None;
                Some(value)
            }
            Poll::Pending => None,
        }
    }

    /// Polls it for as long as it wakes itself, and gives its result.
    ///
    /// # Panics
    /// When it waits for something that has not happened.
    pub fn finish(mut self) -> T {
        loop {
            assert!(self.is_woken(), "it waits for something that has not happened");
            if let Some(value) = self.turn() {
                return value;
            }
        }
    }
}

/// Runs a future whose wakes come by themselves, from itself or from other threads.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = core::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Runs a future that must not wait for anybody.
///
/// # Panics
/// When it does.
pub fn now<'a, T>(future: impl Future<Output = T> + 'a) -> T {
    Task::new(future).finish()
}
