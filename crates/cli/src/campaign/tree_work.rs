//! A chunk of age files: read, rewrapped, opened, replaced, and counted.

use super::Check;
use super::keys::{self, Found, Known, Route};
use super::post::{Ask, Post};
use super::routes::Routes;
use super::sheet::{Sheet, sync_directories};
use super::tally::{Failed, Tally};
use super::walk::Met;
use crate::agefile::{FileStanza, Header, MOST, NoHeader};
use crate::exit::Exit;
use crate::failure::Failure;
use age_core::format::{FILE_KEY_BYTES, FileKey};
use holdfast_sdk::field::{ContextPairs, SecretBytes};
use holdfast_sdk::message::BatchItem;
use holdfast_sdk::{KeyName, TenantId};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::spawn_blocking;

/// What every chunk's task needs.
pub(super) struct Shared {
    pub(super) tenant: TenantId,
    pub(super) key: Option<KeyName>,
    pub(super) target: Option<KeyName>,
    pub(super) context: ContextPairs,
    pub(super) check: Check,
    /// How many files are of its concern, where a sample needs that.
    pub(super) files: u64,
    /// How many of those have been taken up.
    pub(super) taken: AtomicU64,
    pub(super) dry_run: bool,
    pub(super) post: Post,
    pub(super) routes: Routes,
}

/// What came of a chunk.
pub(super) struct Done {
    pub(super) failures: Vec<u8>,
    pub(super) tally: Tally,
    pub(super) files: u64,
}

/// One file on its way.
struct Item {
    number: u64,
    sheet: Sheet,
    slots: Vec<Slot>,
    failed: Option<Box<Failed>>,
    is_verified: bool,
    /// The header that shall take the place of the old one.
    header: Option<Vec<u8>>,
}

/// One stanza of ours that concerns this campaign.
struct Slot {
    /// Its place among ours.
    place: usize,
    stanza: FileStanza,
    route: Arc<Route>,
    new: Option<(FileStanza, u32)>,
}

impl Slot {
    fn found(&self) -> Option<Found<'_>> {
        self.route.judge(&self.stanza.wrapped).ok()
    }

    fn due(&self) -> Option<(Found<'_>, &Known)> {
        let found = self.found()?;
        let due = found.due?;
        Some((found, due))
    }

    /// The stanza as it is now, with its key.
    fn now(&self) -> (&KeyName, &[u8]) {
        let stanza = self.new.as_ref().map_or(&self.stanza, |(stanza, _)| stanza);
        (&stanza.key, &stanza.wrapped)
    }
}

/// Takes a chunk of files through reading, rewrapping, checking and replacing.
pub(super) async fn work(shared: Arc<Shared>, chunk: Vec<Met>) -> Result<Done, Failure> {
    let mut done = Done { failures: vec![], tally: Tally::default(), files: chunk.len() as u64 };
    let sheets = blocking(move || chunk.into_iter().map(read).collect::<Vec<_>>());
    let mut items = vec![];
    for read in sheets.await? {
        match read {
            Ok(None) => done.tally.passed_over += 1,
            Ok(Some(sheet)) => match shared.take_up(sheet).await? {
                // Which comes first does not matter, only that each has another number.
                Some(item) => {
                    items.push(Item { number: shared.taken.fetch_add(1, Ordering::Relaxed), ..item })
                }
                None => done.tally.passed_over += 1,
            },
            Err(failed) => {
                done.tally.total += 1;
                done.tally.unreadable += 1;
                list(&failed, &mut done);
            }
        }
    }
    if !shared.dry_run {
        shared.rewrap(&mut items).await?;
    }
    let wanted = |number| shared.check.takes(number, shared.files);
    shared
        .open(&mut items, |item| item.slots.iter().any(|slot| slot.new.is_some()) || wanted(item.number))
        .await?;
    let replaced = blocking(move || {
        let mut items = items;
        replace(&mut items);
        items
    });
    let mut items = replaced.await?;
    // From the disk again, as whoever opens the file will find it.
    shared.check_written(&mut items, wanted).await?;
    for item in items {
        shared.settle(item, &mut done);
    }
    Ok(done)
}

async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    spawn_blocking(what).await.map_err(|error| {
        Failure::new(Exit::Failure, "a part of the campaign ended by itself").because(&error)
    })
}

fn read(met: Met) -> Result<Option<Sheet>, Box<Failed>> {
    let path = met.map_err(|(path, error)| broken("read", &path, &error))?;
    Sheet::read(&path).map_err(|error| match error {
        NoHeader::Io(error) => broken("read", &path, &error),
        NoHeader::Malformed(problem) => {
            let help = "it is damaged: get the file again, or use a newer Holdfast";
            Failed::new(Exit::Integrity, "malformed", problem, help).of(&path.display().to_string(), None)
        }
    })
}

fn broken(what: &str, path: &Path, error: &std::io::Error) -> Box<Failed> {
    let failure = Failure::file(what, path, error);
    let detail = format!("{}: {error}", failure.problem());
    let help = failure.remedy_text().unwrap_or("look at the cause");
    Failed::new(failure.exit(), "file", detail, help).of(&path.display().to_string(), None)
}

fn list(failed: &Failed, done: &mut Done) {
    done.tally.fail(failed);
    // Text and numbers can always be written.
    if serde_json::to_writer(&mut done.failures, failed).is_ok() {
        done.failures.push(b'\n');
    }
}

/// Gives the files that are due their new headers.
fn replace(items: &mut [Item]) {
    let mut written = vec![];
    for item in items.iter_mut() {
        let Some(header) = item.header.take().filter(|_| item.failed.is_none()) else { continue };
        match item.sheet.replace(&header) {
            Ok(()) => written.push(item.sheet.path.clone()),
            Err(error) => item.failed = Some(broken("write", &item.sheet.path, &error)),
        }
    }
    let synced = sync_directories(written.iter().map(PathBuf::as_path));
    if let Err(error) = synced {
        for item in items.iter_mut().filter(|item| written.contains(&item.sheet.path)) {
            item.failed = Some(broken("sync", &item.sheet.path, &error));
        }
    }
}

impl Shared {
    /// How many files of a tree are of this campaign's concern, and which keys they name.
    pub(super) fn look(&self, walk: impl Iterator<Item = Met>) -> (u64, BTreeSet<KeyName>) {
        let (mut files, mut keys) = (0, BTreeSet::new());
        // What cannot be read fails later.
        for sheet in walk.filter_map(|met| read(met).ok().flatten()) {
            match self.concerning(&sheet.header) {
                Ok(named) => {
                    files += u64::from(!named.is_empty());
                    keys.extend(named.into_iter().map(|(_, stanza)| stanza.key.clone()));
                }
                // Listed when it is taken up.
                Err(_) => files += 1,
            }
        }
        (files, keys)
    }

    /// What of a file concerns this campaign; nothing, perhaps.
    async fn take_up(&self, sheet: Sheet) -> Result<Option<Item>, Failure> {
        let mut item =
            Item { number: 0, sheet, slots: vec![], failed: None, is_verified: false, header: None };
        let concerning = match self.concerning(&item.sheet.header) {
            Ok(concerning) => concerning,
            Err(failed) => {
                item.failed = Some(failed.of(&item.sheet.path.display().to_string(), None));
                return Ok(Some(item));
            }
        };
        for (place, stanza) in concerning {
            let judged = self.routes.of(&stanza.key).await?;
            match judged.and_then(|route| route.judge(&stanza.wrapped).map(drop).map(|()| route)) {
                Ok(route) => item.slots.push(Slot { place, stanza: stanza.clone(), route, new: None }),
                Err(failed) => item.failed = Some(failed.of(&item.sheet.path.display().to_string(), None)),
            }
        }
        Ok((!item.slots.is_empty() || item.failed.is_some()).then_some(item))
    }

    /// The stanzas that concern this campaign, each with its place among ours. One who puts a file into the tree decides how many it has: of more than
    /// are tried of any file none is taken up, and no key of theirs asked for.
    fn concerning<'a>(&self, header: &'a Header) -> Result<Vec<(usize, &'a FileStanza)>, Box<Failed>> {
        let ours = header.ours().enumerate().filter(|(_, stanza)| self.concerns(stanza));
        let concerning: Vec<_> = ours.take(MOST + 1).collect();
        if concerning.len() > MOST {
            let detail = format!("the file has more than {MOST} stanzas that would be rewrapped");
            let help = "have it made anew for fewer keys, or name the key with `--key`";
            return Err(Failed::new(Exit::Usage, "too-many", detail, help));
        }
        Ok(concerning)
    }

    fn concerns(&self, stanza: &FileStanza) -> bool {
        let is_named = |name: &Option<KeyName>| name.as_ref() == Some(&stanza.key);
        stanza.tenant == self.tenant && (self.key.is_none() || is_named(&self.key) || is_named(&self.target))
    }

    async fn rewrap(&self, items: &mut [Item]) -> Result<(), Failure> {
        let context = &self.context;
        let asks: Vec<Ask<_>> = items
            .iter()
            .filter(|item| item.failed.is_none())
            .flat_map(|item| &item.slots)
            .filter_map(|slot| Some((slot, slot.due()?)))
            .map(|(slot, (found, to))| {
                let build = move || keys::rewrap(&found, to, &slot.stanza.wrapped, Some(context));
                Ask { bytes: slot.stanza.wrapped.len(), build }
            })
            .collect();
        let mut answers = self.post.ask(&asks).await?.into_iter();
        drop(asks);
        for item in items.iter_mut().filter(|item| item.failed.is_none()) {
            let mut failed = None;
            for slot in &mut item.slots {
                let Some((_, to)) = slot.due() else { continue };
                let key = to.name.clone();
                let Some(answer) = answers.next() else { continue };
                match answer.and_then(keys::rewrapped) {
                    Ok((wrapped, version)) => {
                        let stanza = FileStanza { tenant: self.tenant.clone(), key, wrapped };
                        slot.new = Some((stanza, version));
                    }
                    Err(error) => failed = Some(error.of(&item.sheet.path.display().to_string(), None)),
                }
            }
            item.failed = failed;
        }
        Ok(())
    }

    /// Opens every stanza of the files that are wanted, and sees that it holds the key of its file. Makes the header of those that are due.
    async fn open(&self, items: &mut [Item], wanted: impl Fn(&Item) -> bool) -> Result<(), Failure> {
        let is_wanted = |item: &Item| item.failed.is_none() && wanted(item);
        let context = &self.context;
        let slots = items.iter().filter(|item| is_wanted(item)).flat_map(|item| &item.slots);
        let asks: Vec<Ask<_>> = slots.filter_map(|slot| ask_open(slot, context)).collect();
        let mut answers = self.post.ask(&asks).await?.into_iter();
        drop(asks);
        for item in items.iter_mut().filter(|item| is_wanted(item)) {
            let mut failed = None;
            let mut file_key = None;
            for _ in &item.slots {
                let opened = answers.next().unwrap_or_else(|| Err(keys::different())).and_then(keys::opened);
                match opened.and_then(|opened| key_of(&item.sheet, &opened)) {
                    Ok(key) => file_key = Some(key),
                    Err(error) => failed = Some(error.of(&item.sheet.path.display().to_string(), None)),
                }
            }
            item.failed = failed;
            item.is_verified = item.failed.is_none();
            let is_due = item.slots.iter().any(|slot| slot.new.is_some());
            if let Some(file_key) = file_key.filter(|_| is_due) {
                let new = |place| item.slots.iter().find(|slot| slot.place == place)?.new.as_ref();
                item.header = item
                    .sheet
                    .header
                    .exchanged(&file_key, |place, _| new(place).map(|(stanza, _)| stanza.clone()));
            }
        }
        Ok(())
    }

    /// Reads the files that were written, and are wanted, once more, and opens them as they lie on the disk.
    async fn check_written(&self, items: &mut [Item], wanted: impl Fn(u64) -> bool) -> Result<(), Failure> {
        for item in items.iter_mut().filter(|item| item.failed.is_none() && wanted(item.number)) {
            if item.slots.iter().all(|slot| slot.new.is_none()) {
                continue;
            }
            let path = item.sheet.path.clone();
            let again = blocking(move || read(Ok(path))).await?;
            let again = again.and_then(|sheet| sheet.ok_or_else(keys::different));
            let checked = match again {
                Ok(sheet) => match self.take_up(sheet).await? {
                    Some(mut again) => {
                        self.open(std::slice::from_mut(&mut again), |_| true).await?;
                        again.failed.map_or(Ok(()), Err)
                    }
                    None => Err(keys::different()),
                },
                Err(failed) => Err(failed),
            };
            if let Err(failed) = checked {
                item.failed = Some(failed.of(&item.sheet.path.display().to_string(), None));
            }
        }
        Ok(())
    }

    fn settle(&self, item: Item, done: &mut Done) {
        let Item { number, slots, failed, is_verified, .. } = item;
        done.tally.total += 1;
        let is_new = slots.iter().any(|slot| slot.new.is_some());
        let is_due = slots.iter().any(|slot| slot.due().is_some());
        for slot in &slots {
            let Some(found) = slot.found() else { continue };
            let here = (found.key.name.as_str(), found.version.get());
            let left = slot.new.as_ref().filter(|_| failed.is_none());
            done.tally.count(here, left.map_or(here, |(stanza, version)| (stanza.key.as_str(), *version)));
        }
        match failed {
            Some(failed) => {
                done.tally.unreadable += u64::from(slots.is_empty());
                list(&failed, done);
            }
            None => {
                done.tally.rewrapped += u64::from(is_new);
                done.tally.due += u64::from(is_due && !is_new);
                done.tally.already_newest += u64::from(!is_due);
                let counts = is_verified && self.check.takes(number, self.files);
                done.tally.verified += u64::from(counts);
            }
        }
    }
}

fn ask_open<'a>(slot: &'a Slot, context: &'a ContextPairs) -> Option<Ask<impl Fn() -> BatchItem + 'a>> {
    let class = slot.found()?.class;
    let (key, wrapped) = slot.now();
    Some(Ask { bytes: wrapped.len(), build: move || keys::open(key, class, wrapped, Some(context)) })
}

/// The file key that a stanza held, if it is this file's.
fn key_of(sheet: &Sheet, opened: &SecretBytes) -> Result<FileKey, Box<Failed>> {
    let bytes: Option<&[u8; FILE_KEY_BYTES]> = opened.0.expose().try_into().ok();
    let key = bytes.map(|bytes| FileKey::init_with_mut(|key| key.copy_from_slice(bytes)));
    key.filter(|key| sheet.header.verifies(key)).ok_or_else(|| {
        let detail = "the header does not verify with the file key that its stanza holds";
        Failed::new(
            Exit::Integrity,
            "integrity",
            detail,
            "the file is damaged or was tampered with: get it again",
        )
    })
}
