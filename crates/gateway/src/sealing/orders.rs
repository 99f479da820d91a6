//! Orders to seal that no log has yet: they came while none was open, or while it took nothing. They are evidence of who stopped everything, so
//! they outlast the process until a log has them.

use crate::directory::{Directory, write_private};
use crate::root::Law;
use holdfast_core::pipeline::Sealing;
use holdfast_core::{Error, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many of one custodian are kept, the newest among them: whoever orders it again and again has been heard.
const OF_ONE: usize = 4;
/// How many are kept in all.
const MOST: usize = 256;
/// More bytes than so many take.
const LARGEST: u64 = 256 << 10;

/// Orders to seal that no log has yet, the earliest first.
pub(crate) struct Orders {
    file: PathBuf,
    waiting: Mutex<Vec<Sealing>>,
    /// Held by who records them, so that each is recorded once.
    recording: tokio::sync::Mutex<()>,
}

/// One of them, as a line of the file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: String,
    custodian: String,
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
}

impl Line {
    fn of(order: &Sealing) -> Self {
        let Sealing { at, custodian, generation, source, from_disk: _ } = order;
        let (at, custodian) = (at.to_string(), custodian.to_string());
        Self { at, custodian, generation: *generation, source: *source }
    }

    fn order(self) -> Option<Sealing> {
        let Self { at, custodian, generation, source } = self;
        let (at, custodian) = (Timestamp::parse(&at)?, custodian.parse().ok()?);
        Some(Sealing { at, custodian, generation, source, from_disk: true })
    }
}

impl Orders {
    /// Those that an earlier process has left in a directory.
    pub(crate) fn of(directory: &Directory) -> Self {
        let file = directory.seal_orders();
        let waiting = read(&file).unwrap_or_else(|error| {
            tracing::error!(%error, "orders to seal in `{}` cannot be read, and are in no log", file.display());
            Vec::new()
        });
        Self { file, waiting: Mutex::new(waiting), recording: tokio::sync::Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Sealing>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.waiting().len()
    }

    /// One more. It is kept in memory also where the disk does not take it.
    pub(crate) fn keep(&self, order: Sealing) {
        let mut waiting = self.waiting();
        let of_one = waiting.iter().filter(|one| one.custodian == order.custodian).count();
        let gives_way = match of_one >= OF_ONE {
            true => waiting.iter().rposition(|one| one.custodian == order.custodian),
            false => waiting.len().checked_sub(1).filter(|last| *last + 1 >= MOST),
        };
        if let Some(at) = gives_way {
            waiting.remove(at);
        }
        waiting.push(order);
        self.write(&waiting);
    }

    /// Records the first so many of them, each once it comes to that; what the log does not take stays.
    ///
    /// # Errors
    /// When the log has failed.
    pub(crate) async fn record(&self, law: &Law, how_many: usize) -> Result<(), Error> {
        let _alone = self.recording.lock().await;
        for _ in 0..how_many {
            let Some(order) = self.waiting().first().cloned() else { break };
            law.record_sealing(&order).await?;
            let mut waiting = self.waiting();
            // Others came behind it meanwhile.
            waiting.remove(0);
            self.write(&waiting);
        }
        Ok(())
    }

    fn write(&self, waiting: &[Sealing]) {
        if waiting.is_empty() {
            match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "orders to seal that the log has are still in `{}`: they are recorded again at the next start", self.file.display());
                }
                Ok(()) | Err(_) => {}
            }
            return;
        }
        let mut text = String::new();
        for line in waiting.iter().map(Line::of) {
            // Text and numbers can always be written.
            text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            text.push('\n');
        }
        if let Err(fault) = write_private(&self.file, text.as_bytes()) {
            tracing::error!(%fault, "an order to seal is not on the disk: it is in no log if the process ends before it is recorded");
        }
    }
}

/// What a file holds; a line that is none is told and left out.
fn read(file: &std::path::Path) -> io::Result<Vec<Sealing>> {
    let mut text = String::new();
    match File::open(file) {
        Ok(opened) => opened.take(LARGEST).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let parsed = |line: &str| {
        let order = serde_json::from_str::<Line>(line).ok().and_then(Line::order);
        if order.is_none() {
            tracing::error!("a line of `{}` is no order to seal: it is in no log", file.display());
        }
        order
    };
    Ok(text.lines().filter_map(parsed).take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(custodian: &str, second: u64) -> Sealing {
        let at = Timestamp::from_micros(1_800_000_000_000_000 + second * 1_000_000);
        Sealing { at, custodian: custodian.parse().unwrap(), generation: 3, source: None, from_disk: false }
    }

    fn seen(orders: &Orders) -> Vec<(String, u64, bool)> {
        let seen = |order: &Sealing| {
            (order.custodian.to_string(), order.at.seconds() - 1_800_000_000, order.from_disk)
        };
        orders.waiting().iter().map(seen).collect()
    }

    #[test]
    fn they_outlast_the_process_and_say_that_they_have_lain_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let orders = Orders::of(&directory);
        orders.keep(order("alice", 1));
        orders.keep(Sealing { source: Some("192.0.2.7".parse().unwrap()), ..order("bob", 2) });
        assert_eq!(seen(&orders), [("alice".into(), 1, false), ("bob".into(), 2, false)]);
        let again = Orders::of(&directory);
        assert_eq!(seen(&again), [("alice".into(), 1, true), ("bob".into(), 2, true)]);
        assert_eq!(again.waiting()[1].source, Some("192.0.2.7".parse().unwrap()));
        // What is none keeps no other from being read, and the next one is written beside them.
        let mut text = std::fs::read_to_string(directory.seal_orders()).unwrap();
        text.push_str("{\"at\":\"then\",\"custodian\":\"erin\",\"generation\":3}\nnonsense\n");
        std::fs::write(directory.seal_orders(), text).unwrap();
        let again = Orders::of(&directory);
        again.keep(order("carol", 3));
        assert_eq!(Orders::of(&directory).count(), 3);
    }

    #[test]
    fn whoever_orders_it_again_and_again_takes_no_room_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let orders = Orders::of(&directory);
        for second in 1..=9 {
            orders.keep(order("alice", second));
        }
        orders.keep(order("bob", 10));
        let alice = |second| ("alice".to_owned(), second, false);
        assert_eq!(seen(&orders), [alice(1), alice(2), alice(3), alice(9), ("bob".into(), 10, false)]);
        let names = (0..2 * MOST).map(|number| format!("custodian-{number}"));
        names.for_each(|name| orders.keep(order(&name, 11)));
        assert_eq!(orders.count(), MOST);
        assert_eq!(orders.waiting().last().unwrap().custodian.as_str(), "custodian-511");
        assert!(std::fs::metadata(directory.seal_orders()).unwrap().len() < LARGEST);
        assert_eq!(Orders::of(&directory).count(), MOST);
    }
}
