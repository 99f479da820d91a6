//! How many sessions take work. A module that computes on this machine does no more with more threads than there are processors, and each costs
//! switches between them; one that waits for its device needs as many as the device works on at once. Which of the two a module is, is measured.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One operation of so many is looked at, once the first have been.
const EVERY: u32 = 8;
/// After so many that were looked at it is judged.
const LOOKS: u32 = 16;
/// With so many of them that waited, all take work.
const WAITS: u32 = 8;
/// With so few, as many as there are processors: between the two it stays as it is, since threads also wait for each other.
const COMPUTES: u32 = 2;

/// The sessions of a worker, by their numbers.
pub(super) struct Crew {
    /// So many always take work.
    few: AtomicU32,
    all_work: AtomicBool,
    is_judged: AtomicBool,
    looks: AtomicU32,
    waits: AtomicU32,
    changed: (Mutex<()>, Condvar),
}

/// How long an operation took, and until when.
#[derive(Clone, Copy)]
pub(super) struct Took {
    pub(super) time: Duration,
    pub(super) until: Instant,
}

impl Crew {
    /// Until something is known of the module, no more take work than it has processors.
    pub(super) fn new(processors: u32) -> Self {
        Self {
            few: AtomicU32::new(processors.max(1)),
            all_work: AtomicBool::new(false),
            is_judged: AtomicBool::new(false),
            looks: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            changed: (Mutex::new(()), Condvar::new()),
        }
    }

    /// Whether a session takes work now.
    pub(super) fn takes_work(&self, session: u32) -> bool {
        session < self.few.load(Ordering::Relaxed) || self.all_work.load(Ordering::Relaxed)
    }

    /// Whether the module computes, as far as is known.
    pub(super) fn computes(&self) -> bool {
        !self.all_work.load(Ordering::Relaxed)
    }

    /// Waits until a session is to take work.
    pub(super) fn wait(&self, session: u32) {
        let (mutex, changed) = &self.changed;
        let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_while(guard, |()| !self.takes_work(session));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Does a session's operation of this number, and looks at how some of them are done.
    pub(super) fn watch<T>(&self, number: u32, work: impl FnOnce() -> T) -> (T, Took) {
        let looks = number.is_multiple_of(EVERY) || !self.is_judged.load(Ordering::Relaxed);
        let before = looks.then(computed);
        let begun = Instant::now();
        let done = work();
        let until = Instant::now();
        let took = Took { time: until - begun, until };
        if let Some(before) = before {
            self.saw(took.time, computed().saturating_sub(before));
        }
        (done, took)
    }

    /// An operation took so long, and its thread computed for so much of that.
    fn saw(&self, took: Duration, computed: Duration) {
        // What does not compute for half of the time waits, or its processor does something else, which is no different from this side of it.
        if computed < took / 2 {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        if self.looks.fetch_add(1, Ordering::Relaxed) + 1 < LOOKS {
            return;
        }
        self.looks.store(0, Ordering::Relaxed);
        match self.waits.swap(0, Ordering::Relaxed) {
            WAITS.. => self.decide(true),
            0..=COMPUTES => self.decide(false),
            _ => {}
        }
        self.is_judged.store(true, Ordering::Relaxed);
    }

    /// From now on it has so many processors.
    pub(super) fn resize(&self, processors: u32) {
        self.change(|| self.few.store(processors.max(1), Ordering::Relaxed));
    }

    fn decide(&self, all_work: bool) {
        if self.all_work.load(Ordering::Relaxed) != all_work {
            self.change(|| self.all_work.store(all_work, Ordering::Relaxed));
        }
    }

    fn change(&self, how: impl FnOnce()) {
        let (mutex, changed) = &self.changed;
        // So that none looks before and waits after.
        let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        how();
        drop(guard);
        changed.notify_all();
    }
}

/// For how long this thread has computed.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    const OPERATION: Duration = Duration::from_micros(100);

    fn see(crew: &Crew, waits: u32, computes: u32) {
        (0..waits).for_each(|_| crew.saw(OPERATION, OPERATION / 10));
        (0..computes).for_each(|_| crew.saw(OPERATION, OPERATION));
    }

    #[test]
    fn all_take_work_where_the_module_waits_and_few_where_it_computes() {
        let crew = Crew::new(2);
        let working = || (0..8).filter(|session| crew.takes_work(*session)).count();
        assert_eq!(working(), 2);
        see(&crew, WAITS - 1, LOOKS - WAITS + 1);
        assert_eq!(working(), 2, "in between it stays as it is");
        see(&crew, WAITS, LOOKS - WAITS);
        assert_eq!((working(), crew.computes()), (8, false));
        see(&crew, COMPUTES + 1, LOOKS - COMPUTES - 1);
        assert_eq!(working(), 8, "in between it stays as it is");
        see(&crew, COMPUTES, LOOKS - COMPUTES);
        assert_eq!((working(), crew.computes()), (2, true));
    }

    #[test]
    fn there_is_always_somebody() {
        let crew = Crew::new(0);
        assert!(crew.takes_work(0));
        crew.resize(0);
        assert!(crew.takes_work(0));
    }

    #[test]
    fn whoever_waits_for_work_is_called() {
        let calls: [fn(&Crew); 2] = [|crew| see(crew, LOOKS, 0), |crew| crew.resize(2)];
        for call in calls {
            let crew = Arc::new(Crew::new(1));
            let (called, has_called) = mpsc::channel();
            let waiting = Arc::clone(&crew);
            let thread = thread::spawn(move || {
                waiting.wait(1);
                called.send(()).unwrap();
            });
            assert!(has_called.try_recv().is_err());
            call(&crew);
            has_called.recv_timeout(Duration::from_secs(60)).unwrap();
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_waits_is_told_from_what_computes() {
        let crew = Crew::new(1);
        let (_never, wait) = mpsc::channel::<()>();
        for number in 0..LOOKS {
            let _timeout = crew.watch(number, || wait.recv_timeout(Duration::from_millis(2)));
        }
        assert!(!crew.computes());
        // The clock of this thread, so that what else the machine does is of no account.
        while !crew.computes() {
            for number in 0..LOOKS {
                crew.watch(EVERY * number, || {
                    let from = computed();
                    while computed() - from < OPERATION {}
                });
            }
        }
    }
}
