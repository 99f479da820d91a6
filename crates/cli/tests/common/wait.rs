//! Waiting for what another process does.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let (_keep, never) = mpsc::channel::<()>();
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        let _time_passed = never.recv_timeout(Duration::from_millis(20));
    }
}

/// Asks as a provider does whose protocol leaves an answer a few milliseconds: once more, where a busy machine took longer.
pub fn in_time<T>(mut ask: impl FnMut() -> T, is_late: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if !is_late(&answer) || begun.elapsed() > PATIENCE {
            return answer;
        }
    }
}
