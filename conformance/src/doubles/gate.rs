//! A gate: whoever passes it waits while it is held.

use super::lock;
use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::sync::{Arc, Mutex};

/// A gate that a test holds and releases.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    held: bool,
    waiting: usize,
    opened: u64,
    wakers: Vec<Waker>,
}

impl Gate {
    /// From now on nobody passes.
    pub fn hold(&self) {
        lock(&self.0).held = true;
    }

    /// Lets everybody pass who waits or comes.
    pub fn release(&self) {
        lock(&self.0).held = false;
        self.open_once();
    }

    /// Lets those pass who come from now on; who waits goes on waiting.
    pub fn hold_no_more(&self) {
        lock(&self.0).held = false;
    }

    /// Lets those pass who wait now, and nobody who comes later.
    pub fn open_once(&self) {
        let wakers = {
            let mut inner = lock(&self.0);
            inner.opened += 1;
            core::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        lock(&self.0).waiting
    }

    pub(super) async fn pass(&self) {
        struct Leaving<'a>(&'a Gate);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                lock(&self.0.0).waiting -= 1;
            }
        }
        let arrived = {
            let mut inner = lock(&self.0);
            if !inner.held {
                return;
            }
            inner.waiting += 1;
            inner.opened
        };
        let _leaving = Leaving(self);
        poll_fn(|context| {
            let mut inner = lock(&self.0);
            if inner.opened > arrived {
                return Poll::Ready(());
            }
            inner.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
