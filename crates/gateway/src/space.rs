//! How much of the disk is used, how fast that grows, and when it will be full.

use crate::directory::{Directory, write_private};
use crate::serve::{Gateway, stopped};
use holdfast_core::port::World as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often the directory is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(600);
/// For how long measurements are kept, in seconds: growth is that of the last week.
const KEPT: u64 = 7 * DAY;
/// Measurements that are nearer to each other than so many seconds are one.
const APART: u64 = 3600;
/// How long must have been measured before anything is foretold, in seconds.
const ENOUGH: u64 = 3600;
const DAY: u64 = 86_400;

/// Days to full from which on the status says so.
pub const NOTICE_DAYS: u64 = 30;
/// What must be free for stop orders and the next segments: two segments of the write-ahead file and the reserve, in bytes.
pub const LEAST_FREE: u64 = 2 * (64 << 20) + (1 << 20);

/// Bytes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Checkpoints, tiles and entries of all logs.
    pub log: u64,
    /// The log's write-ahead file.
    pub write_ahead: u64,
    /// Keys of commitments.
    pub openings: u64,
    /// The database.
    pub state: u64,
}

impl Used {
    /// Looks at every file. Blocks.
    pub fn measure(directory: &Directory) -> Self {
        let size = |name| size_of(&directory.path().join(name));
        Self {
            log: size("audit"),
            write_ahead: size("wal"),
            openings: size("openings"),
            state: size("state"),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { log, write_ahead, openings, state } = self;
        log.saturating_add(*write_ahead).saturating_add(*openings).saturating_add(*state)
    }

    /// What grows: the write-ahead file is used again and again.
    fn growing(&self) -> u64 {
        self.total().saturating_sub(self.write_ahead)
    }
}

/// Bytes on disk of a directory with all that is in it.
pub(crate) fn size_of(dir: &Path) -> u64 {
    let mut bytes = 0_u64;
    walk(dir, &mut |_, len| bytes = bytes.saturating_add(len));
    bytes
}

/// Every file below a directory, with its bytes on disk. What cannot be read is passed over: it may just have been removed.
pub(crate) fn walk(dir: &Path, each: &mut dyn FnMut(&Path, u64)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), each);
        } else {
            each(&entry.path(), metadata.blocks().saturating_mul(512));
        }
    }
}

/// What is known of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes used.
    pub used: Used,
    /// Bytes that are free for this process; `None` if the file system does not tell.
    pub free: Option<u64>,
    /// Growth in bytes a day; `None` while it has not been measured for long enough.
    pub growth: Option<u64>,
}

impl Forecast {
    /// Days until nothing is free; `None` if that is not known or will not happen.
    pub fn days_to_full(&self) -> Option<u64> {
        let free = self.free?.saturating_sub(LEAST_FREE);
        free.checked_div(self.growth?)
    }

    /// What an operator should know of it.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(free) = self.free.filter(|free| *free < LEAST_FREE) {
            notices.push(format!(
                "only {} are free for the data directory, and the log's next segments need {}: free space now",
                mebibytes(free),
                mebibytes(LEAST_FREE)
            ));
        } else if let (Some(days), Some(growth)) = (self.days_to_full(), self.growth)
            && days < NOTICE_DAYS
        {
            notices.push(format!(
                "the disk will be full in {days} days: {} are free and {} are added each day; make it larger",
                mebibytes(self.free.unwrap_or(0)),
                mebibytes(growth)
            ));
        }
        notices
    }

    /// In one line, for the status.
    pub fn line(&self) -> String {
        let Used { log, write_ahead, openings, state } = self.used;
        let parts = format!(
            "log {}, write-ahead file {}, openings {}, state {}",
            mebibytes(log),
            mebibytes(write_ahead),
            mebibytes(openings),
            mebibytes(state)
        );
        let free = self.free.map_or("unknown".to_owned(), mebibytes);
        let full = match (self.growth, self.days_to_full()) {
            (None, _) => "growth not measured for long enough yet".to_owned(),
            (Some(growth), Some(days)) => format!("{} a day, full in {days} days", mebibytes(growth)),
            (Some(_), None) => "not growing".to_owned(),
        };
        format!("{parts}; {free} free; {full}")
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & ((1 << 20) - 1)) * 10) >> 20)
}

/// What was measured when: seconds since 1970 and bytes, oldest first. Kept in `DIR/growth`, a line each, so that a restart forgets nothing;
/// a file that cannot be read is begun anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Growth(Vec<(u64, u64)>);

impl Growth {
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (seconds, bytes) = line.split_once(' ')?;
            Some((seconds.parse().ok()?, bytes.parse().ok()?))
        };
        Self(text.lines().map_while(line).collect())
    }

    fn text(&self) -> String {
        self.0.iter().map(|(seconds, bytes)| format!("{seconds} {bytes}\n")).collect()
    }

    /// Adds a measurement; gives whether it is worth keeping. What a clock that was set back has yet to reach is forgotten.
    fn add(&mut self, now: u64, bytes: u64) -> bool {
        self.0.retain(|(seconds, _)| *seconds <= now && now - seconds <= KEPT);
        let is_due = self.0.last().is_none_or(|(last, _)| now - last >= APART);
        if is_due {
            self.0.push((now, bytes));
        }
        is_due
    }

    /// Bytes a day, from the oldest measurement to now; 0 if it shrinks.
    fn per_day(&self, now: u64, bytes: u64) -> Option<u64> {
        let (oldest, then) = self.0.first().copied()?;
        let seconds = now.checked_sub(oldest).filter(|seconds| *seconds >= ENOUGH)?;
        let grown = u128::from(bytes.saturating_sub(then));
        u64::try_from(grown * u128::from(DAY) / u128::from(seconds)).ok()
    }
}

/// The newest measurement, shared with status and metrics.
#[derive(Debug, Default)]
pub struct Space(Mutex<Forecast>);

impl Space {
    /// What is known now. Free space is asked for each time; the rest is some minutes old.
    pub fn forecast(&self, directory: &Directory) -> Forecast {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Forecast { free: free(directory), ..known }
    }

    /// Measures. Blocks.
    fn measure(&self, directory: &Directory, now: u64) {
        let file = directory.path().join("growth");
        let mut growth = Growth::parse(&fs::read_to_string(&file).unwrap_or_default());
        let used = Used::measure(directory);
        if growth.add(now, used.growing())
            && let Err(fault) = write_private(&file, growth.text().as_bytes())
        {
            // On a full disk, for example: the forecast is then the least of the troubles.
            tracing::debug!(%fault, "the measured growth could not be kept");
        }
        let growth = growth.per_day(now, used.growing());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Forecast { used, free: None, growth };
    }
}

/// Bytes that can still be written on the directory's disk.
pub(crate) fn free(directory: &Directory) -> Option<u64> {
    let disk = rustix::fs::statvfs(directory.path()).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Measures now and then, until the gateway stops.
pub(crate) async fn watch(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    loop {
        let measured = Arc::clone(&gateway);
        let measuring = tokio::task::spawn_blocking(move || {
            let now = measured.law.engines().world.now().seconds();
            measured.space.measure(&measured.directory, now);
        });
        if let Err(error) = measuring.await {
            tracing::warn!(%error, "the disk could not be measured");
        }
        tokio::select! {
            () = tokio::time::sleep(MEASURED_EVERY) => {}
            () = stopped(&mut stop) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured_over_time_and_across_restarts() {
        let mut growth = Growth::default();
        assert!(growth.add(1_000_000, 500));
        assert!(!growth.add(1_000_600, 550), "too near");
        assert_eq!(growth.per_day(1_000_600, 550), None, "not for long enough");
        assert_eq!(growth.per_day(1_000_000 + DAY / 2, 600), Some(200));
        assert_eq!(growth.per_day(1_000_000 + DAY, 400), Some(0), "pruned");
        assert!(growth.add(1_000_000 + DAY, 700));
        let mut again = Growth::parse(&growth.text());
        assert_eq!(again, growth);
        assert_eq!(Growth::parse("what\n1 2\n"), Growth::default());
        // The first is a week old by now.
        assert!(again.add(1_000_000 + 8 * DAY, 900));
        assert_eq!(again.0, [(1_000_000 + DAY, 700), (1_000_000 + 8 * DAY, 900)]);
        // A clock that was set back: nothing is known of what comes.
        assert!(again.add(1_000_000, 500));
        assert_eq!(again.0, [(1_000_000, 500)]);
    }

    #[test]
    fn a_disk_that_fills_is_told_in_time() {
        let forecast = |free, growth| Forecast { used: Used::default(), free: Some(free), growth };
        let plenty = forecast(LEAST_FREE + (3100 << 20), Some(100 << 20));
        assert_eq!(plenty.days_to_full(), Some(31));
        assert!(plenty.notices().is_empty());
        let soon = forecast(LEAST_FREE + (2999 << 20), Some(100 << 20));
        assert_eq!(soon.days_to_full(), Some(29));
        assert!(soon.notices()[0].contains("full in 29 days"), "{:?}", soon.notices());
        let now = forecast(LEAST_FREE - 1, Some(0));
        assert!(now.notices()[0].contains("free space now"), "{:?}", now.notices());
        assert_eq!(forecast(1 << 40, Some(0)).days_to_full(), None);
        assert_eq!(forecast(1 << 40, None).days_to_full(), None);
        assert!(forecast(1 << 40, None).notices().is_empty());
    }

    #[test]
    fn what_lies_in_a_directory_is_counted_by_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        for (file, len) in [("audit/a/tile/000", 5000), ("wal/0.wal", 9000), ("openings/a/000", 1)] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![7; len]).unwrap();
        }
        let directory = Directory::at(dir.path());
        let used = Used::measure(&directory);
        assert!(used.log >= 5000 && used.write_ahead >= 9000 && used.openings >= 1 && used.state == 0);
        assert_eq!(used.total(), used.growing() + used.write_ahead);
        let space = Space::default();
        space.measure(&directory, 1_000_000);
        let forecast = space.forecast(&directory);
        assert_eq!((forecast.used, forecast.growth), (used, None));
        assert!(forecast.free.is_some_and(|free| free > 0));
        assert!(dir.path().join("growth").exists());
    }
}
