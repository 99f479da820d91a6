//! Where slow work goes: a few threads of our own behind bounded queues, so that no async worker ever waits for an RSA key.
//!
//! There are two lanes. Short jobs (a private operation: milliseconds) go first. Long jobs (making an RSA key: seconds) never take the
//! last thread, so that they cannot hold up the short ones.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use holdfast_core::{Error, ErrorKind, Stage};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How long a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Milliseconds.
    Short,
    /// Up to seconds.
    Long,
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads and their queues.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Mutex<Queues>,
    changed: Condvar,
    limit: usize,
    threads: usize,
}

#[derive(Default)]
struct Queues {
    short: VecDeque<Job>,
    long: VecDeque<Job>,
    long_running: usize,
    alive: usize,
    closed: bool,
}

impl Pool {
    /// Starts `threads` threads; each lane queues at most `limit` jobs.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the system gives no thread.
    pub(crate) fn start(threads: usize, limit: usize) -> Result<Self, Error> {
        let threads = threads.max(1);
        let queues = Mutex::new(Queues { alive: threads, ..Queues::default() });
        let shared = Arc::new(Shared { queues, changed: Condvar::new(), limit: limit.max(1), threads });
        // Made first: if a thread cannot be started, dropping it ends those that were.
        let pool = Self { shared };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name(format!("key-store-{number}")).spawn(move || shared.work()).map_err(
                |error| {
                    Error::new(
                        ErrorKind::KeyStoreUnavailable,
                        Stage::Start,
                        "no thread for slow key operations",
                    )
                    .remedy("raise the limit of tasks of the service and start again")
                    .because(error)
                },
            )?;
        }
        Ok(pool)
    }

    /// Queues a job. Its result comes to whoever awaits the returned future; the job runs whether or not anybody does.
    ///
    /// # Errors
    /// `throttled`, when the lane's queue is full; `key-store-unavailable`, when no thread is left.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Pending<T>, Error> {
        let reply = Arc::new(Reply { state: Mutex::new(ReplyState::Waiting(None)) });
        let sender = Sender(Arc::clone(&reply));
        let job = Box::new(move || sender.send(work()));
        let mut queues = self.shared.lock();
        if queues.alive == 0 {
            return Err(gone());
        }
        let queue = match lane {
            Lane::Short => &mut queues.short,
            Lane::Long => &mut queues.long,
        };
        if queue.len() >= self.shared.limit {
            let detail = "more slow key operations than the key store can queue";
            return Err(Error::new(ErrorKind::Throttled, Stage::Perform, detail));
        }
        queue.push_back(job);
        drop(queues);
        // All, because the one woken may not be allowed to take a long job.
        self.shared.changed.notify_all();
        Ok(Pending(reply))
    }

    /// Whether it can take work now; why not, otherwise.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let queues = self.shared.lock();
        if queues.alive < self.shared.threads {
            Err("a thread for slow key operations has ended")
        } else if queues.short.len() >= self.shared.limit {
            Err("the queue of slow key operations is full")
        } else {
            Ok(())
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queues = self.shared.lock();
        queues.closed = true;
        let dropped = (core::mem::take(&mut queues.short), core::mem::take(&mut queues.long));
        drop(queues);
        self.shared.changed.notify_all();
        // Each dropped job answers that it was; outside of the lock, because answering wakes.
        drop(dropped);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((lane, job)) = self.next() {
            // A job that panics answers by being dropped; the thread must live on.
            let _panicked = catch_unwind(AssertUnwindSafe(job)).is_err();
            if lane == Lane::Long {
                self.lock().long_running -= 1;
                self.changed.notify_all();
            }
        }
        self.lock().alive -= 1;
    }

    fn next(&self) -> Option<(Lane, Job)> {
        let mut queues = self.lock();
        loop {
            if queues.closed {
                return None;
            }
            if let Some(job) = queues.short.pop_front() {
                return Some((Lane::Short, job));
            }
            if queues.long_running < self.threads.saturating_sub(1).max(1)
                && let Some(job) = queues.long.pop_front()
            {
                queues.long_running += 1;
                return Some((Lane::Long, job));
            }
            queues = self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, "the key store did not finish the operation")
}

struct Reply<T> {
    state: Mutex<ReplyState<T>>,
}

enum ReplyState<T> {
    Waiting(Option<Waker>),
    Done(Result<T, Error>),
    Taken,
}

/// The job's end: answers exactly once, at the latest when it is dropped.
struct Sender<T>(Arc<Reply<T>>);

impl<T> Sender<T> {
    fn send(self, result: Result<T, Error>) {
        self.settle(result);
    }

    fn settle(&self, result: Result<T, Error>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = match &mut *state {
            ReplyState::Waiting(waker) => waker.take(),
            ReplyState::Done(_) | ReplyState::Taken => return,
        };
        *state = ReplyState::Done(result);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.settle(Err(gone()));
    }
}

/// A job's result, to be awaited.
pub(crate) struct Pending<T>(Arc<Reply<T>>);

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match core::mem::replace(&mut *state, ReplyState::Taken) {
            ReplyState::Waiting(_) => {
                *state = ReplyState::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            ReplyState::Done(result) => Poll::Ready(result),
            ReplyState::Taken => Poll::Ready(Err(gone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::block_on;
    use std::sync::mpsc;

    /// A job that says when it has started and ends when it is told to.
    fn held() -> (impl FnOnce() -> Result<u32, Error> + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>)
    {
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let job = move || {
            started.send(()).unwrap();
            released.recv().unwrap();
            Ok(1)
        };
        (job, has_started, release)
    }

    #[test]
    fn a_full_queue_throttles_and_says_so_to_health() {
        let pool = Pool::start(1, 2).unwrap();
        let (job, started, release) = held();
        let first = pool.run(Lane::Short, job).unwrap();
        started.recv().unwrap();
        let waiting: Vec<_> = (0..2).map(|n| pool.run(Lane::Short, move || Ok(n)).unwrap()).collect();
        let Err(error) = pool.run(Lane::Short, || Ok(0)) else { panic!("the queue is full") };
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert!(pool.check().is_err());
        release.send(()).unwrap();
        assert_eq!(block_on(first).unwrap(), 1);
        for (n, pending) in waiting.into_iter().enumerate() {
            assert_eq!(block_on(pending).unwrap(), n);
        }
        assert!(pool.check().is_ok());
    }

    #[test]
    fn long_jobs_leave_a_thread_for_short_ones() {
        let pool = Pool::start(2, 8).unwrap();
        let (job, started, release) = held();
        let long = pool.run(Lane::Long, job).unwrap();
        started.recv().unwrap();
        let (second, second_started) = mpsc::channel();
        let second_long = pool.run(Lane::Long, move || second.send(()).map_err(|_| gone())).unwrap();
        // The free thread does one short job after another, and never the second long one in between.
        for n in 0..50 {
            assert_eq!(block_on(pool.run(Lane::Short, move || Ok(n)).unwrap()).unwrap(), n);
        }
        assert!(second_started.try_recv().is_err());
        release.send(()).unwrap();
        assert_eq!(block_on(long).unwrap(), 1);
        block_on(second_long).unwrap();
    }

    #[test]
    fn one_thread_does_long_jobs_too() {
        let pool = Pool::start(1, 8).unwrap();
        assert_eq!(block_on(pool.run(Lane::Long, || Ok(4)).unwrap()).unwrap(), 4);
    }

    #[test]
    fn a_job_that_panics_is_an_error_and_not_the_end() {
        let pool = Pool::start(1, 8).unwrap();
        let broken = pool.run::<u32>(Lane::Short, || panic!("on purpose")).unwrap();
        assert_eq!(block_on(broken).unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
        assert_eq!(block_on(pool.run(Lane::Short, || Ok(5)).unwrap()).unwrap(), 5);
        assert!(pool.check().is_ok());
    }

    #[test]
    fn what_is_queued_when_the_pool_ends_is_answered() {
        let pool = Pool::start(1, 8).unwrap();
        let (job, started, release) = held();
        let first = pool.run(Lane::Short, job).unwrap();
        started.recv().unwrap();
        let queued = pool.run(Lane::Short, || Ok(6)).unwrap();
        drop(pool);
        assert_eq!(block_on(queued).unwrap_err().kind(), ErrorKind::KeyStoreUnavailable);
        release.send(()).unwrap();
        assert_eq!(block_on(first).unwrap(), 1);
    }

    #[test]
    fn a_job_runs_whether_or_not_anybody_waits() {
        let pool = Pool::start(1, 8).unwrap();
        let (done, is_done) = mpsc::channel();
        drop(pool.run(Lane::Short, move || done.send(()).map_err(|_| gone())).unwrap());
        is_done.recv().unwrap();
    }
}
