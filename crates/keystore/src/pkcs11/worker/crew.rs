//! How many sessions take work. A module that computes on this machine does no more with more threads than there are processors, and each operation
//! pays for switches between them; one that waits for its device needs as many as the device works on at once. Which of the two a module is, is
//! measured.

use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One operation of so many is looked at, once the module has been judged.
const EVERY: u32 = 8;
/// It is judged by what was looked at for so long.
const WINDOW: Duration = Duration::from_millis(4);
/// What computes for longer pays little for a switch, and others would wait behind it.
const LONG: Duration = Duration::from_millis(2);
/// Where all who work have been at one operation for longer, others are let in.
const STUCK: Duration = Duration::from_millis(25);

/// The sessions of a worker, by their numbers.
pub(super) struct Crew {
    /// So many always take work.
    few: AtomicU32,
    all_work: AtomicBool,
    is_judged: AtomicBool,
    /// When each session's operation has begun, in microseconds from the crew's beginning; zero between operations.
    begun: Vec<AtomicU64>,
    since: Instant,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What was seen of the module since it was last judged.
#[derive(Default)]
struct Seen {
    took: Duration,
    waited: Duration,
    longest: Duration,
    /// Sessions that wait until they are to work.
    parked: u32,
    /// One of them looks after those who work.
    is_watched: bool,
}

/// How long an operation took, and until when.
#[derive(Clone, Copy)]
pub(super) struct Took {
    pub(super) time: Duration,
    pub(super) until: Instant,
}

impl Crew {
    /// Until something is known of the module, no more take work than it has processors.
    pub(super) fn new(sessions: u32, processors: u32) -> Self {
        Self {
            few: AtomicU32::new(processors.max(1)),
            all_work: AtomicBool::new(false),
            is_judged: AtomicBool::new(false),
            begun: (0..sessions).map(|_| AtomicU64::new(0)).collect(),
            since: Instant::now(),
            seen: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether a session takes work now.
    pub(super) fn takes_work(&self, session: u32) -> bool {
        session < self.few.load(Ordering::Relaxed) || self.all_work.load(Ordering::Relaxed)
    }

    /// Whether the module is known to compute, in a short time.
    pub(super) fn computes(&self) -> bool {
        self.is_judged.load(Ordering::Relaxed) && !self.all_work.load(Ordering::Relaxed)
    }

    /// Waits until a session is to take work.
    pub(super) fn wait(&self, session: u32) {
        let mut seen = self.seen();
        seen.parked += 1;
        while !self.takes_work(session) {
            if seen.is_watched {
                seen = self.changed.wait(seen).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            seen.is_watched = true;
            let waited = self.changed.wait_timeout(seen, STUCK);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
            seen.is_watched = false;
            if self.are_stuck() {
                self.all_work.store(true, Ordering::Relaxed);
                self.changed.notify_all();
            }
        }
        seen.parked -= 1;
        // Whoever looked after them may be the one that goes.
        if !seen.is_watched {
            self.changed.notify_one();
        }
    }

    /// Does a session's operation of this number, and looks at how some of them are done.
    pub(super) fn watch<T>(
        &self,
        (session, number): (u32, u32),
        clock: &Clock,
        work: impl FnOnce() -> T,
    ) -> (T, Took) {
        let looks = number.is_multiple_of(EVERY) || !self.is_judged.load(Ordering::Relaxed);
        let before = looks.then(|| clock.read());
        let begun = Instant::now();
        self.set_begun(session, micros(begun - self.since).max(1));
        let done = work();
        self.set_begun(session, 0);
        let until = Instant::now();
        let took = Took { time: until - begun, until };
        if let Some(before) = before {
            let after = clock.read();
            let computed = after.computed.saturating_sub(before.computed);
            // That the processor did something else meanwhile is no waiting.
            let queued = after.queued.saturating_sub(before.queued);
            self.saw(took.time, computed, took.time.saturating_sub(computed + queued));
        }
        (done, took)
    }

    /// From now on it has so many processors.
    pub(super) fn resize(&self, processors: u32) {
        // So that none looks before and waits after.
        let _seen = self.seen();
        self.few.store(processors.max(1), Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// An operation took so long, computed for so long, and waited for so long.
    fn saw(&self, took: Duration, computed: Duration, waited: Duration) {
        let mut seen = self.seen();
        seen.took += took;
        seen.waited += waited;
        seen.longest = seen.longest.max(computed);
        if seen.took < WINDOW {
            return;
        }
        let Seen { took, waited, longest, .. } = *seen;
        // In between it stays as it is: threads also wait for each other.
        let all_work = match () {
            () if longest >= LONG || waited >= took / 2 => true,
            () if waited <= took / 4 => false,
            () => self.all_work.load(Ordering::Relaxed),
        };
        *seen = Seen { parked: seen.parked, is_watched: seen.is_watched, ..Seen::default() };
        self.is_judged.store(true, Ordering::Relaxed);
        if self.all_work.swap(all_work, Ordering::Relaxed) != all_work {
            self.changed.notify_all();
        }
    }

    /// Whether everybody who works has been at one operation for long.
    fn are_stuck(&self) -> bool {
        let now = micros(self.since.elapsed());
        let working = self.begun.iter().take(self.few.load(Ordering::Relaxed) as usize);
        working
            .map(|begun| begun.load(Ordering::Relaxed))
            .all(|begun| begun > 0 && now.saturating_sub(begun) > micros(STUCK))
    }

    fn set_begun(&self, session: u32, at: u64) {
        if let Some(begun) = self.begun.get(session as usize) {
            begun.store(at, Ordering::Relaxed);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What a thread has done with its time.
pub(super) struct Clock {
    /// Of the thread that made this; where the kernel does not say, nothing has queued.
    scheduled: Option<File>,
}

struct Spent {
    computed: Duration,
    /// For a processor that did something else.
    queued: Duration,
}

impl Clock {
    /// For the thread that calls this.
    pub(super) fn of_this_thread() -> Self {
        Self { scheduled: File::open("/proc/thread-self/schedstat").ok() }
    }

    fn read(&self) -> Spent {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let computed =
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
        Spent { computed, queued: self.queued().unwrap_or_default() }
    }

    /// The second of three numbers.
    fn queued(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.scheduled.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split(' ').nth(1)?.parse().ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(60);
    const OPERATION: Duration = Duration::from_micros(100);
    const SESSIONS: u32 = 8;

    /// So much time in short operations, with a share of waiting in percent.
    fn see(crew: &Crew, waiting: u32) {
        for _ in 0..WINDOW.as_micros() / OPERATION.as_micros() {
            let waited = OPERATION * waiting / 100;
            crew.saw(OPERATION, OPERATION - waited, waited);
        }
    }

    fn working(crew: &Crew) -> usize {
        (0..SESSIONS).filter(|session| crew.takes_work(*session)).count()
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn all_take_work_where_the_module_waits_and_few_where_it_computes() {
        let crew = Crew::new(SESSIONS, 2);
        assert_eq!((working(&crew), crew.computes()), (2, false), "nothing is known yet");
        see(&crew, 40);
        assert_eq!((working(&crew), crew.computes()), (2, true), "in between it stays as it is");
        see(&crew, 50);
        assert_eq!((working(&crew), crew.computes()), (8, false));
        see(&crew, 40);
        assert_eq!(working(&crew), 8, "in between it stays as it is");
        see(&crew, 25);
        assert_eq!((working(&crew), crew.computes()), (2, true));
    }

    /// Many short ones do not outweigh what waits for long.
    #[test]
    fn what_counts_is_time() {
        let crew = Crew::new(SESSIONS, 2);
        (0..15).for_each(|_| crew.saw(OPERATION, OPERATION, Duration::ZERO));
        crew.saw(20 * OPERATION, OPERATION, 19 * OPERATION);
        crew.saw(WINDOW, Duration::ZERO, WINDOW);
        assert_eq!(working(&crew), 8);
    }

    #[test]
    fn nobody_waits_behind_what_computes_for_long() {
        let crew = Crew::new(SESSIONS, 2);
        crew.saw(2 * LONG, LONG, Duration::ZERO);
        assert_eq!(working(&crew), 8);
    }

    #[test]
    fn there_is_always_somebody() {
        let crew = Crew::new(SESSIONS, 0);
        assert!(crew.takes_work(0));
        crew.resize(0);
        assert!(crew.takes_work(0));
    }

    #[test]
    fn whoever_waits_for_work_is_called() {
        let calls: [fn(&Crew); 2] = [|crew| see(crew, 100), |crew| crew.resize(3)];
        // The one that looks after the others, and one that does not.
        for (call, session) in calls.into_iter().flat_map(|call| [(call, 1), (call, 2)]) {
            let crew = Arc::new(Crew::new(SESSIONS, 1));
            let (called, has_called) = mpsc::channel();
            let waiting = Arc::clone(&crew);
            let thread = thread::spawn(move || {
                waiting.wait(session);
                called.send(()).unwrap();
            });
            until("it waits", || crew.seen().parked == 1);
            assert!(has_called.try_recv().is_err());
            call(&crew);
            has_called.recv_timeout(PATIENCE).unwrap();
            thread.join().unwrap();
            assert_eq!(crew.seen().parked, 0);
        }
    }

    #[test]
    fn others_take_over_where_all_who_work_are_stuck() {
        let crew = Arc::new(Crew::new(SESSIONS, 1));
        let waiting = Arc::clone(&crew);
        let (is_over, over) = mpsc::channel::<()>();
        let stuck = Arc::clone(&crew);
        let working = thread::spawn(move || {
            stuck.watch((0, 0), &Clock::of_this_thread(), || over.recv_timeout(PATIENCE)).0
        });
        waiting.wait(1);
        is_over.send(()).unwrap();
        assert!(working.join().unwrap().is_ok(), "it was let in while the other one was stuck");
    }

    /// Whoever is let in and comes back late finds somebody who looks after those who work.
    #[test]
    fn there_is_always_somebody_who_looks_after_them() {
        let crew = Arc::new(Crew::new(SESSIONS, 1));
        let park = |session| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.wait(session))
        };
        let others = [park(1), park(2)];
        until("both wait", || crew.seen().parked == 2);
        // The one that looked is called to work, and the other one stays.
        crew.resize(2);
        until("one works", || crew.seen().parked == 1);
        until("the other one looks", || crew.seen().is_watched);
        crew.resize(3);
        others.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn what_waits_is_told_from_what_computes() {
        let crew = Crew::new(SESSIONS, 1);
        let clock = Clock::of_this_thread();
        let (_never, wait) = mpsc::channel::<()>();
        let mut number = 0;
        let mut watch = |work: &mut dyn FnMut()| {
            number += 1;
            crew.watch((0, EVERY * number), &clock, work);
        };
        while working(&crew) < 8 {
            watch(&mut || assert!(wait.recv_timeout(LONG).is_err()));
        }
        let begun = Instant::now();
        while !crew.computes() {
            assert!(begun.elapsed() < PATIENCE);
            watch(&mut || {
                let from = clock.read().computed;
                while clock.read().computed - from < OPERATION {}
            });
        }
    }

    #[test]
    fn the_kernel_says_how_long_a_thread_has_queued() {
        assert!(Clock::of_this_thread().queued().is_some());
    }
}
