//! Orders to seal that no log has yet: they came while none was open, or while it took nothing. They are evidence of who stopped everything, so
//! they outlast the process until a log has them. Where a crash comes between the log's having one and the file's, it is recorded once more, of
//! the same custodian and moment.

use super::mark::Marking;
use crate::directory::{Directory, write_private};
use crate::root::Law;
use holdfast_core::pipeline::Sealing;
use holdfast_core::{Error, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many of one custodian are kept, the newest among them: whoever orders it again and again has been heard.
const OF_ONE: usize = 4;
/// How many are kept in all.
const MOST: usize = 256;
/// More bytes than so many take.
const LARGEST: u64 = 256 << 10;

/// Orders to seal that no log has yet, the earliest first.
pub(crate) struct Orders {
    file: PathBuf,
    waiting: Mutex<Queue>,
    /// Held by who records them, so that each is recorded once.
    recording: tokio::sync::Mutex<()>,
    /// Held by who writes the file, so that what it holds last is what waits last.
    saving: Mutex<()>,
    /// How many marks are on their way to the disk, of the gateway as it serves and as it waits.
    pub(super) under_way: watch::Sender<usize>,
}

/// Each with a number that grows: others that come and go do not change it.
#[derive(Default)]
struct Queue {
    all: Vec<(u64, Sealing)>,
    next: u64,
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
        let (found, is_whole) = read(&file).unwrap_or_else(|error| {
            tracing::error!(%error, "orders to seal in `{}` cannot be read", file.display());
            (Vec::new(), false)
        });
        let next = found.len() as u64;
        let queue = Queue { all: (0..).zip(found).collect(), next };
        let (recording, saving) = (tokio::sync::Mutex::default(), Mutex::default());
        let under_way = watch::Sender::new(0);
        let orders = Self { file, waiting: Mutex::new(queue), recording, saving, under_way };
        if !is_whole {
            orders.set_aside();
        }
        orders
    }

    fn waiting(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next one: those that are there by now have lower ones.
    pub(crate) fn next(&self) -> u64 {
        self.waiting().next
    }

    /// One more, in memory until it is [saved](Self::save): that may take as long as a disk does.
    pub(crate) fn keep(&self, order: Sealing) {
        let mut waiting = self.waiting();
        let Queue { all, next } = &mut *waiting;
        let is_of_same = |(_, one): &(u64, Sealing)| one.custodian == order.custodian;
        let gives_way = match all.iter().filter(|one| is_of_same(one)).count() >= OF_ONE {
            true => all.iter().rposition(is_of_same),
            false => all.len().checked_sub(1).filter(|last| *last + 1 >= MOST),
        };
        if let Some(at) = gives_way {
            all.remove(at);
        }
        all.push((*next, order));
        *next += 1;
    }

    /// Announces a mark, which nobody clears before it is on the disk or has failed.
    pub(crate) fn marking(self: &Arc<Self>) -> Marking {
        Marking::begin(self)
    }

    /// Whether a mark is on its way to the disk.
    pub(crate) fn is_marking(&self) -> bool {
        *self.under_way.borrow() > 0
    }

    /// Resolves when none is.
    pub(crate) async fn marked(&self) {
        let mut marks = self.under_way.subscribe();
        // What sends lives in here.
        let _none = marks.wait_for(|marks| *marks == 0).await;
    }

    /// Records those with a number below this one, or all, each once it comes to that; what the log does not take stays.
    ///
    /// # Errors
    /// When the log has failed.
    pub(crate) async fn record(self: &Arc<Self>, law: &Law, below: Option<u64>) -> Result<(), Error> {
        let _alone = self.recording.lock().await;
        loop {
            let first = self.waiting().all.first().cloned();
            let is_due = |number: u64| below.is_none_or(|below| number < below);
            let Some((number, order)) = first.filter(|(number, _)| is_due(*number)) else { return Ok(()) };
            law.record_sealing(&order).await?;
            self.waiting().all.retain(|(other, _)| *other != number);
            let orders = Arc::clone(self);
            // It tells by itself what went wrong.
            let _saved = tokio::task::spawn_blocking(move || orders.save()).await;
        }
    }

    /// Brings the file to what waits. What fails is told: they are kept in memory all the same.
    pub(crate) fn save(&self) {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (_, order) in &self.waiting().all {
            // Text and numbers can always be written.
            text.push_str(&serde_json::to_string(&Line::of(order)).unwrap_or_default());
            text.push('\n');
        }
        if text.is_empty() {
            match remove_durably(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "orders to seal that the log has are still in `{}`: they are recorded again at the next start", self.file.display());
                }
                Ok(()) | Err(_) => {}
            }
        } else if let Err(fault) = write_private(&self.file, text.as_bytes()) {
            tracing::error!(
                %fault,
                "what waits of orders to seal is not on the disk: as long as the process lives it is recorded once the log takes it; look at the disk"
            );
        }
    }

    /// Keeps what is no order of ours for who looks into it, and what is one in its place.
    fn set_aside(&self) {
        let mut aside = self.file.clone().into_os_string();
        aside.push(".bad");
        match std::fs::rename(&self.file, &aside) {
            Ok(()) => {
                let aside = Path::new(&aside).display();
                tracing::error!(
                    "not all of it is an order to seal, and that is in no log: look into `{aside}`, and who can write there"
                );
                self.save();
            }
            Err(error) => {
                tracing::error!(%error, "`{}` cannot be kept: copy it before the gateway is sealed again", self.file.display());
            }
        }
    }
}

fn remove_durably(file: &Path) -> io::Result<()> {
    std::fs::remove_file(file)?;
    match file.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The orders that a file holds, and whether it holds nothing else.
fn read(file: &Path) -> io::Result<(Vec<Sealing>, bool)> {
    let mut bytes = Vec::new();
    match File::open(file) {
        Ok(opened) => opened.take(LARGEST + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), true)),
        Err(error) => return Err(error),
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parsed: Vec<_> =
        lines.map(|line| serde_json::from_slice::<Line>(line).ok().and_then(Line::order)).collect();
    let is_whole =
        bytes.len() as u64 <= LARGEST && parsed.len() <= MOST && parsed.iter().all(Option::is_some);
    Ok((parsed.into_iter().flatten().take(MOST).collect(), is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(custodian: &str, second: u64) -> Sealing {
        let at = Timestamp::from_micros(1_800_000_000_000_000 + second * 1_000_000);
        Sealing { at, custodian: custodian.parse().unwrap(), generation: 3, source: None, from_disk: false }
    }

    fn seen(orders: &Orders) -> Vec<(String, u64, bool)> {
        let seen = |(_, order): &(u64, Sealing)| {
            (order.custodian.to_string(), order.at.seconds() - 1_800_000_000, order.from_disk)
        };
        orders.waiting().all.iter().map(seen).collect()
    }

    fn count(orders: &Orders) -> usize {
        orders.waiting().all.len()
    }

    #[test]
    fn they_outlast_the_process_and_say_that_they_have_lain_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::at(dir.path());
        let orders = Orders::of(&directory);
        orders.keep(order("alice", 1));
        orders.keep(Sealing { source: Some("192.0.2.7".parse().unwrap()), ..order("bob", 2) });
        orders.save();
        assert_eq!(seen(&orders), [("alice".into(), 1, false), ("bob".into(), 2, false)]);
        let again = Orders::of(&directory);
        assert_eq!(seen(&again), [("alice".into(), 1, true), ("bob".into(), 2, true)]);
        assert_eq!(again.waiting().all[1].1.source, Some("192.0.2.7".parse().unwrap()));
        // What is none keeps no other from being read, and is kept itself.
        let of_ours = std::fs::read(directory.seal_orders()).unwrap();
        let aside = dir.path().join("seal.orders.bad");
        for foreign in
            [&b"{\"at\":\"then\",\"custodian\":\"erin\",\"generation\":3}\n"[..], b"nonsense", b"\xff\n"]
        {
            assert!(!aside.exists());
            let bytes = [&*of_ours, foreign].concat();
            std::fs::write(directory.seal_orders(), &bytes).unwrap();
            assert_eq!(count(&Orders::of(&directory)), 2);
            assert_eq!(std::fs::read(&aside).unwrap(), bytes);
            assert_eq!(std::fs::read(directory.seal_orders()).unwrap(), of_ours);
            std::fs::remove_file(&aside).unwrap();
        }
        again.waiting().all.clear();
        again.save();
        assert!(!directory.seal_orders().exists());
        assert_eq!((count(&Orders::of(&directory)), aside.exists()), (0, false));
    }

    #[test]
    fn what_was_there_before_is_told_from_what_came_since_whoever_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders::of(&Directory::at(dir.path()));
        (1..=4).for_each(|second| orders.keep(order("alice", second)));
        let then = orders.next();
        orders.keep(order("alice", 5));
        let before = orders.waiting().all.iter().filter(|(number, _)| *number < then).count();
        assert_eq!((before, count(&orders)), (3, 4));
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
        orders.save();
        assert_eq!(count(&orders), MOST);
        assert_eq!(orders.waiting().all.last().unwrap().1.custodian.as_str(), "custodian-511");
        assert!(std::fs::metadata(directory.seal_orders()).unwrap().len() < LARGEST);
        assert_eq!(count(&Orders::of(&directory)), MOST);
    }
}
