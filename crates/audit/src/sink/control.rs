//! How a sink's thread is told to end, and how it waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the thread of a sink and its owner tell each other.
#[derive(Default)]
pub struct Control {
    orders: Mutex<Orders>,
    wake: Condvar,
}

#[derive(Default)]
struct Orders {
    /// Finish, until then at the latest.
    until: Option<Instant>,
    /// Nobody waits any more: another process may own the directory.
    abandoned: bool,
    ended: bool,
}

impl Control {
    /// How long a thread whose time is up may take to notice.
    pub(super) const GRACE: Duration = Duration::from_secs(1);

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self, until: Instant) {
        self.lock().until = Some(until);
        self.wake.notify_all();
    }

    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.wake.notify_all();
    }

    pub(super) fn ended(&self) {
        self.lock().ended = true;
        self.wake.notify_all();
    }

    pub(super) fn wait_ended(&self, patience: Duration) {
        drop(self.wake.wait_timeout_while(self.lock(), patience, |orders| !orders.ended));
    }

    /// Whether it was told to finish.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        let orders = self.lock();
        orders.abandoned || orders.until.is_some()
    }

    /// Whether its time is up: give up whatever you wait for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let orders = self.lock();
        orders.abandoned || orders.until.is_some_and(|until| until <= Instant::now())
    }

    /// Waits for so long, or until told to finish.
    pub fn pause(&self, time: Duration) {
        let waiting = |orders: &mut Orders| !orders.abandoned && orders.until.is_none();
        drop(self.wake.wait_timeout_while(self.lock(), time, waiting));
    }

    /// Waits for so long although it was told to finish, but not past its time.
    pub(super) fn poll(&self, time: Duration) {
        let begun = Instant::now();
        let mut orders = self.lock();
        loop {
            let now = Instant::now();
            let left = time.saturating_sub(now - begun);
            let left = orders.until.map_or(left, |until| left.min(until.saturating_duration_since(now)));
            if orders.abandoned || left.is_zero() {
                return;
            }
            orders = self.wake.wait_timeout(orders, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Does something that must not happen once the sink was abandoned; nothing then.
    pub(super) fn unless_abandoned<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let orders = self.lock();
        (!orders.abandoned).then(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    const HOUR: Duration = Duration::from_secs(3600);
    const BRIEF: Duration = Duration::from_millis(5);

    fn told(order: impl FnOnce(&Control)) -> Arc<Control> {
        let control = Arc::new(Control::default());
        order(&control);
        control
    }

    /// Does it in a thread of its own; panics if that takes as long as it never does.
    fn at_once(control: &Arc<Control>, act: fn(&Control)) {
        let (control, (told, done)) = (Arc::clone(control), channel());
        std::thread::spawn(move || {
            act(&control);
            told.send(())
        });
        done.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    #[track_caller]
    fn takes_a_while(act: impl FnOnce()) {
        let begun = Instant::now();
        act();
        assert!(begun.elapsed() >= BRIEF);
    }

    #[test]
    fn who_was_told_nothing_goes_on_and_waits_for_as_long_as_it_likes() {
        let control = told(|_| ());
        assert!(!control.is_stopping() && !control.is_over());
        takes_a_while(|| control.pause(BRIEF));
        takes_a_while(|| control.poll(BRIEF));
        assert_eq!(control.unless_abandoned(|| 7), Some(7));
    }

    #[test]
    fn who_is_to_finish_has_until_then() {
        let control = told(|control| control.stop(Instant::now() + HOUR));
        assert!(control.is_stopping() && !control.is_over());
        at_once(&control, |control| control.pause(HOUR));
        takes_a_while(|| control.poll(BRIEF));
        assert_eq!(control.unless_abandoned(|| 7), Some(7));
        let control = told(|control| control.stop(Instant::now()));
        assert!(control.is_stopping() && control.is_over());
        at_once(&control, |control| control.poll(HOUR));
        assert_eq!(control.unless_abandoned(|| 7), Some(7));
    }

    #[test]
    fn who_was_abandoned_waits_for_nothing_and_does_nothing_more() {
        let control = told(Control::abandon);
        assert!(control.is_stopping() && control.is_over());
        at_once(&control, |control| control.pause(HOUR));
        at_once(&control, |control| control.poll(HOUR));
        assert_eq!(control.unless_abandoned(|| 7), None);
    }
}
