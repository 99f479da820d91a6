//! Every interleaving of departures and drains, as loom explores them.
//!
//! `ArcSwap` is not loom's, so a flag stands for the orders: whoever departs is counted, looks at the flag, and leaves only if it is not
//! set; whoever stops sets the flag and drains.

use super::Departures;
use crate::sync::{AtomicBool, Ordering};
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

/// One gate that a stop closes, and whether somebody is on the way through it.
struct Way {
    stopped: AtomicBool,
    leaving: AtomicBool,
}

impl Way {
    fn open() -> Self {
        Self { stopped: AtomicBool::new(false), leaving: AtomicBool::new(false) }
    }

    /// What [`super::Departing`] and its look at the orders do.
    fn pass(&self, departures: &Departures) {
        let phase = departures.enter();
        if !self.stopped.load(Ordering::SeqCst) {
            self.leaving.store(true, Ordering::SeqCst);
            self.leaving.store(false, Ordering::SeqCst);
        }
        departures.leave(phase);
    }

    /// What a stop order does.
    fn stop(&self, departures: &Departures) {
        self.stopped.store(true, Ordering::SeqCst);
        block_on(departures.drain());
        assert!(!self.leaving.load(Ordering::SeqCst), "somebody leaves past an acknowledged stop");
    }
}

/// Polls when it is woken; a wake that never comes is a deadlock, which loom reports.
fn block_on(future: impl Future<Output = ()>) {
    struct Notify(loom::sync::Notify);
    impl Wake for Notify {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }
    let notify = Arc::new(Notify(loom::sync::Notify::new()));
    let waker = Waker::from(Arc::clone(&notify));
    let mut future = pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
        notify.0.wait();
    }
}

/// Explores every interleaving with at most so many forced switches: each model finds its planted mistakes with fewer.
fn explore(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

#[test]
fn after_a_drain_nobody_leaves_who_looked_before_the_order() {
    explore(3, || {
        let departures = Arc::new(Departures::default());
        let way = Arc::new(Way::open());
        let reader = {
            let (departures, way) = (Arc::clone(&departures), Arc::clone(&way));
            loom::thread::spawn(move || way.pass(&departures))
        };
        way.stop(&departures);
        reader.join().unwrap();
    });
}

#[test]
fn an_earlier_drain_hides_nobody_from_a_later_one() {
    explore(3, || {
        let departures = Arc::new(Departures::default());
        let way = Arc::new(Way::open());
        let reader = {
            let (departures, way) = (Arc::clone(&departures), Arc::clone(&way));
            loom::thread::spawn(move || way.pass(&departures))
        };
        // A stop of somebody else: it moves the phase on.
        block_on(departures.drain());
        way.stop(&departures);
        reader.join().unwrap();
    });
}

#[test]
fn two_drains_at_once_both_hold_and_both_end() {
    explore(2, || {
        let departures = Arc::new(Departures::default());
        let ways = [Arc::new(Way::open()), Arc::new(Way::open())];
        let reader = {
            let (departures, way) = (Arc::clone(&departures), Arc::clone(&ways[0]));
            loom::thread::spawn(move || way.pass(&departures))
        };
        let other = {
            let (departures, way) = (Arc::clone(&departures), Arc::clone(&ways[1]));
            loom::thread::spawn(move || way.stop(&departures))
        };
        ways[0].stop(&departures);
        reader.join().unwrap();
        other.join().unwrap();
    });
}
