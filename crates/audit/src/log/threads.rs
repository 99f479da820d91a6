//! The threads behind the log: the writer, which makes batches durable; the keeper, which has the next segment
//! ready; and the tiler, which lives with the trees.

use super::Shared;
use super::sequencer::{Sealed, Sequencer};
use crate::disk::{Access, File};
use crate::tree::tiler::Tiler;
use crate::wal::NotDurable;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Free segments that are kept for reuse beside the spare one.
const KEPT_FREE: usize = 2;
/// From so many entries on a batch shows that requests come faster than batches.
const CROWD: u32 = 8;

pub(super) fn start(shared: &Arc<Shared>, previous: u32, tiler: Tiler) -> io::Result<Vec<JoinHandle<()>>> {
    let segment = shared.sequencer().place.segment;
    let file = shared.segments.open(segment, Access::Write)?;
    let (writer, keeper, tiling) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let named = |name: &str| Builder::new().name(name.to_owned());
    Ok(vec![
        named("audit-writer").spawn(move || Writer { shared: &writer, file, segment, previous }.run())?,
        named("audit-keeper").spawn(move || Keeper { shared: &keeper, named: None }.run())?,
        named("audit-tiler").spawn(move || tiler.run(|segment| free(&tiling, segment)))?,
    ])
}

struct Writer<'a> {
    shared: &'a Shared,
    file: Box<dyn File>,
    segment: u64,
    /// Header CRC of the batch before.
    previous: u32,
}

impl Writer<'_> {
    fn run(mut self) {
        let mut buffer = None;
        while let Some(Sealed { mut batch, number, place }) = self.next(buffer.take()) {
            self.previous = batch.seal(place.segment, number, self.previous);
            match self.write(place.segment, place.offset, &batch.bytes) {
                Ok(()) => {
                    batch.completion.settle(Ok(()));
                    self.shared.board.durable(number + 1);
                    buffer = Some(batch.bytes);
                    if batch.count >= CROWD {
                        // Whoever is ready to run goes first. Where the processors are busy, what they bring shares the
                        // next sync; where they are not, nothing is waited for.
                        std::thread::yield_now();
                    }
                }
                Err(failure) => {
                    let open = {
                        let mut sequencer = self.shared.sequencer();
                        sequencer.failure = Some(failure.clone());
                        sequencer.take()
                    };
                    batch.completion.settle(Err(failure.clone()));
                    open.into_iter().for_each(|open| open.batch.completion.settle(Err(failure.clone())));
                    self.shared.board.writer_stopped(Some(&failure));
                    return;
                }
            }
        }
        self.shared.board.writer_stopped(None);
    }

    /// Waits for entries; nothing once the log closes and all are written. What came while one batch was written is the
    /// next: to wait for more would keep those waiting who are here.
    fn next(&mut self, buffer: Option<Vec<u8>>) -> Option<Sealed> {
        let mut sequencer = self.shared.sequencer();
        sequencer.buffer = buffer.or(sequencer.buffer.take());
        loop {
            let had_spare = sequencer.spare.is_some();
            if let Some(sealed) = sequencer.take() {
                if had_spare && sequencer.spare.is_none() {
                    self.shared.keeper_wake.notify_one();
                }
                return Some(sealed);
            }
            if sequencer.closing {
                return None;
            }
            sequencer.writer_waits = true;
            sequencer = self.shared.writer_wake.wait(sequencer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One write, one sync. After an error nothing is known of these bytes, so nothing is tried again.
    fn write(&mut self, segment: u64, offset: u64, bytes: &[u8]) -> Result<(), NotDurable> {
        if segment != self.segment {
            let opened = self.shared.segments.open(segment, Access::Write);
            self.file = opened.map_err(|error| NotDurable::new("opening a segment", error))?;
            self.segment = segment;
        }
        self.file.write_all_at(bytes, offset).map_err(|error| NotDurable::new("write", error))?;
        self.file.sync_data().map_err(|error| NotDurable::new("sync", error))
    }
}

/// What the keeper does next.
enum Chore {
    Recycle {
        from: u64,
        to: u64,
    },
    Create(u64),
    /// Makes the name durable that this one has got.
    Settle(u64),
    Remove(u64),
}

/// Has a spare segment ready and removes those too many. Free ones go oldest first, used again or removed: one that a loss of
/// power brings back then stands before all that are in use, without a gap, and is read as what it was.
struct Keeper<'a> {
    shared: &'a Shared,
    /// The next segment, once it has its name.
    named: Option<u64>,
}

impl Keeper<'_> {
    fn run(mut self) {
        while let Some(chore) = self.next() {
            let made = match chore {
                Chore::Recycle { from, to } => self.recycle(from, to),
                Chore::Create(number) => self.create(number),
                Chore::Settle(number) => self.settle(number),
                Chore::Remove(number) => {
                    self.remove(number);
                    continue;
                }
            };
            if let Err(error) = made {
                tracing::warn!(%error, "no audit segment can be made ready");
                let mut sequencer = self.shared.sequencer();
                sequencer.full = Some(Arc::from(error.to_string()));
                self.pause(sequencer);
            }
        }
    }

    /// Waits for something to do; nothing once the log closes.
    fn next(&self) -> Option<Chore> {
        let mut sequencer = self.shared.sequencer();
        while !sequencer.closing {
            if let Some(chore) = self.chore(&mut sequencer) {
                return Some(chore);
            }
            sequencer = self.shared.keeper_wake.wait(sequencer).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn chore(&self, sequencer: &mut Sequencer) -> Option<Chore> {
        if let Some(number) = self.named {
            return Some(Chore::Settle(number));
        }
        if sequencer.spare.is_none() {
            let next = sequencer.last_segment + 1;
            return Some(match sequencer.free.pop_front() {
                Some(from) => Chore::Recycle { from, to: next },
                None => Chore::Create(next),
            });
        }
        if sequencer.free.len() > KEPT_FREE {
            return sequencer.free.pop_front().map(Chore::Remove);
        }
        None
    }

    fn recycle(&mut self, from: u64, to: u64) -> io::Result<()> {
        match self.shared.segments.recycle(from, to) {
            Ok(()) => self.named = Some(to),
            // Gone, whoever took it: then the next one, or a new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "an audit segment can't be used again; another is made");
                self.shared.sequencer().free.push_front(from);
                return self.create(to);
            }
        }
        Ok(())
    }

    fn create(&mut self, number: u64) -> io::Result<()> {
        self.shared.segments.create(number)?;
        self.named = Some(number);
        Ok(())
    }

    /// From here on batches may stand there. What fails leaves the name as it is: only the sync is to be tried again.
    fn settle(&mut self, number: u64) -> io::Result<()> {
        self.shared.segments.sync()?;
        self.named = None;
        let mut sequencer = self.shared.sequencer();
        (sequencer.spare, sequencer.last_segment) = (Some(number), number);
        sequencer.full = None;
        Ok(())
    }

    /// What fails here keeps nobody from writing, and is tried again before anything else goes.
    fn remove(&self, number: u64) {
        let segments = &self.shared.segments;
        let failed = match segments.remove(number) {
            // Where it isn't durable it may come back, and is removed after the next start.
            Ok(()) => segments.sync().err(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.shared.sequencer().free.push_front(number);
                Some(error)
            }
        };
        if let Some(error) = failed {
            tracing::warn!(%error, segment = number, "an audit segment too many can't be removed");
            let sequencer = self.shared.sequencer();
            if sequencer.spare.is_some() {
                self.pause(sequencer);
            }
        }
    }

    fn pause(&self, sequencer: MutexGuard<'_, Sequencer>) {
        if !sequencer.closing {
            drop(self.shared.keeper_wake.wait_timeout(sequencer, self.shared.retry_interval));
        }
    }
}

/// Takes a segment back whose entries all stand in tiles.
fn free(shared: &Shared, segment: u64) {
    shared.sequencer().free.push_back(segment);
    shared.keeper_wake.notify_one();
}
