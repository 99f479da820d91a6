//! Sinks: copies of the log for others, such as a tenant's SIEM. Never the truth, and nothing waits for one.
//!
//! A sink reads entries that are durable, have their index and stand under a published checkpoint, from the tiles on
//! disk; it hands them to a [`Target`] and keeps a [cursor](cursor) of what the target has. Each has one thread of its
//! own, which takes no lock of the request path.
//!
//! # Contract
//! - **At least once.** The cursor moves only past entries that the target [settled](Target::settle). After any failure
//!   and after every start, what lies behind the cursor is handed over again. Origin and index name an entry, so who
//!   receives one twice can tell.
//! - **In order, and without gaps, within a log**, apart from such repetitions. Between logs there is no order.
//! - What the log has signed to be pruned, and was before it was handed over, is counted and reported as skipped. What is missing
//!   besides is damage: it is said, and nothing after it is handed over until it is back.

mod backoff;
mod control;
pub mod cursor;
mod feed;
pub mod file;
mod progress;
mod run;
mod session;
pub mod syslog;
mod trust;
mod unacknowledged;

pub use control::Control;
pub use feed::Feed;
pub use progress::Health;

use crate::log_id::LogId;
use crate::merkle::Hash;
use crate::refusal::Refusal;
use cursor::{Cursor, Place};
use progress::Progress;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A sink's name, `[a-z0-9][a-z0-9-]{0,62}`: also its directory's name, and a label of its metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkName(Arc<str>);

/// The text is not a sink's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sink's name; use 1 to 63 of `a-z 0-9 -`, not beginning with `-`")]
pub struct SinkNameError(String);

impl SinkName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SinkName {
    type Err = SinkNameError;

    fn from_str(name: &str) -> Result<Self, SinkNameError> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| word(byte) || byte == b'-')
            && name.bytes().next().is_some_and(word);
        if fits { Ok(Self(Arc::from(name))) } else { Err(SinkNameError(name.chars().take(80).collect())) }
    }
}

impl std::fmt::Display for SinkName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry as a target gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The origin of its log: with the index it names the entry for ever.
    pub origin: Arc<str>,
    /// Its index.
    pub index: u64,
    /// Its leaf hash (RFC 6962 §2.1), as the log's tiles have it.
    pub leaf: Hash,
    /// Its exact bytes.
    pub entry: Vec<u8>,
}

/// Why a target did not take or keep something. What the log holds is not touched by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong: one line.
    pub problem: String,
    /// What to do next.
    pub remedy: &'static str,
}

impl Failure {
    /// A failure: lower case, no full stop, input in backticks.
    pub fn new(problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { problem: problem.into(), remedy }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { problem, remedy } = self;
        write!(f, "{problem}; {remedy}")
    }
}

impl std::error::Error for Failure {}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { file, offset, problem, remedy } = refusal.tried_again();
        let at = offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        Self::new(format!("`{}`{at}: {problem}", file.display()), remedy)
    }
}

/// Where entries go. Called by the sink's own thread; may block, but MUST ask [`Control::is_over`] at least every
/// second while it does, and give up once that says so.
pub trait Target: Send {
    /// Begins anew behind what was settled last: whatever was sent since is forgotten and comes again. `place` is what
    /// the [`settle`](Target::settle) before gave.
    fn rewind(&mut self, place: Option<Place>);

    /// Hands entries over, in their order. `Ok` promises nothing yet.
    ///
    /// # Errors
    /// A [`Failure`]; [`rewind`](Target::rewind) comes next.
    fn send(&mut self, records: &[Record], control: &Control) -> Result<(), Failure>;

    /// Makes sure that the receiver has everything that was sent: MUST NOT say `Ok` before.
    ///
    /// # Errors
    /// A [`Failure`]; [`rewind`](Target::rewind) comes next.
    fn settle(&mut self, control: &Control) -> Result<Option<Place>, Failure>;

    /// For how long what was sent may stay unsettled while nothing else calls for it.
    fn settle_after(&self) -> Duration;
}

/// Where a sink's entries go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A file of JSON lines.
    File(file::Settings),
    /// A syslog receiver, over TLS.
    Syslog(syslog::Settings),
}

/// What a sink is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: SinkName,
    /// The logs that it copies; empty: all, those of later tenants too.
    pub logs: Vec<LogId>,
    /// Speeds and bounds.
    pub pace: Pace,
    /// Any number: spreads the attempts of several sinks.
    pub seed: u64,
}

/// Speeds and bounds of a sink.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often to look for new entries.
    pub look: Duration,
    /// Bytes of entries that are in memory at once; one entry more may be, and the bundle it lies in.
    pub batch_bytes: usize,
    /// Bytes of entries that may be unsettled.
    pub unsettled_bytes: usize,
    /// The first pause after a failure; doubled with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look: Duration::from_millis(250),
            batch_bytes: 1 << 20,
            unsettled_bytes: 4 << 20,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// A sink at work. Dropping it makes it stop without being waited for.
pub struct Sink {
    settings: Settings,
    feed: Feed,
    control: Arc<Control>,
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl Sink {
    /// Starts a sink.
    ///
    /// # Errors
    /// A [`Refusal`] if its cursor cannot be read, or no thread be started.
    pub fn start(feed: Feed, settings: Settings, destination: Destination) -> Result<Self, Refusal> {
        let target: Box<dyn Target> = match destination {
            Destination::File(settings) => Box::new(file::FileTarget::new(settings)),
            Destination::Syslog(settings) => Box::new(session::SyslogTarget::new(settings)),
        };
        Self::start_on(feed, settings, target)
    }

    /// Starts a sink on any [`Target`].
    ///
    /// # Errors
    /// As [`Sink::start`].
    pub fn start_on(feed: Feed, settings: Settings, target: Box<dyn Target>) -> Result<Self, Refusal> {
        let path = feed.cursor_path(&settings.name);
        let cursor = Cursor::load(feed.disk(), &path)?;
        let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
        let thread = {
            let shared = (Arc::clone(&control), Arc::clone(&progress));
            let runner = run::Runner::new(feed.clone(), settings.clone(), target, cursor, shared);
            let name = format!("sink-{}", settings.name);
            std::thread::Builder::new().name(name).spawn(|| runner.run())
        };
        let thread = thread.map_err(|error| Refusal::io(&path, error))?;
        Ok(Self { settings, feed, control, progress, thread })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SinkName {
        &self.settings.name
    }

    /// How it does, now.
    #[must_use]
    pub fn health(&self) -> Health {
        let published = self.feed.published_entries(&self.settings.logs);
        self.progress.health(published, self.thread.is_finished())
    }

    /// The first entry of a log that it still needs, by its cursor as it lies; `None` where it does not copy that log. Reads the disk.
    #[must_use]
    pub fn needs_from(&self, log: &LogId) -> Option<u64> {
        let logs = &self.settings.logs;
        if !logs.is_empty() && !logs.contains(log) {
            return None;
        }
        // What cannot be read needs everything.
        let cursor =
            Cursor::load(self.feed.disk(), &self.feed.cursor_path(&self.settings.name)).unwrap_or_default();
        Some(cursor.logs.get(log).map_or(0, |reached| reached.next))
    }

    /// Hands over what is published by now, within `patience` or until a first failure, and stops. What is left comes
    /// after the next start. Whether everything was handed over.
    #[must_use]
    pub fn stop(&self, patience: Duration) -> bool {
        self.control.stop(Instant::now() + patience);
        self.control.wait_ended(patience + Control::GRACE);
        let Health { published, position, .. } = self.health();
        position >= published
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.control.abandon();
    }
}

/// The directory of a sink below the data directory.
fn directory(data: &std::path::Path, name: &SinkName) -> PathBuf {
    data.join("sinks").join(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_can_be_directories() {
        for good in ["a", "siem-2", &"x".repeat(63)] {
            let name: SinkName = good.parse().unwrap();
            assert_eq!((name.as_str(), name.to_string().as_str()), (good, good));
        }
        for bad in ["", "-a", "..", "a/b", "A", "a_b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<SinkName>().is_err(), "{bad}");
        }
    }
}
