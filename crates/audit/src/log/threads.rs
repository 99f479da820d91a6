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

pub(super) fn start(shared: &Arc<Shared>, previous: u32, tiler: Tiler) -> io::Result<Vec<JoinHandle<()>>> {
    let segment = shared.sequencer().place.segment;
    let file = shared.segments.open(segment, Access::Write)?;
    let (writer, keeper, tiling) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let named = |name: &str| Builder::new().name(name.to_owned());
    Ok(vec![
        named("audit-writer").spawn(move || Writer { shared: &writer, file, segment, previous }.run())?,
        named("audit-keeper").spawn(move || keep(&keeper))?,
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
    Recycle { from: u64, to: u64 },
    Create(u64),
    Remove(u64),
}

fn chore(sequencer: &mut Sequencer) -> Option<Chore> {
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

/// Has a spare segment ready and removes those too many.
fn keep(shared: &Shared) {
    let segments = &shared.segments;
    let wait = |sequencer: MutexGuard<'_, Sequencer>| {
        drop(shared.keeper_wake.wait(sequencer).unwrap_or_else(PoisonError::into_inner));
    };
    loop {
        let mut sequencer = shared.sequencer();
        if sequencer.closing {
            return;
        }
        let Some(chore) = chore(&mut sequencer) else {
            wait(sequencer);
            continue;
        };
        drop(sequencer);
        let (done, ready) = match chore {
            Chore::Recycle { from, to } => (segments.recycle(from, to), Some(to)),
            Chore::Create(number) => (segments.create(number), Some(number)),
            Chore::Remove(number) => (segments.remove(number), None),
        };
        let mut sequencer = shared.sequencer();
        match (done, ready) {
            (Ok(()), Some(number)) => {
                (sequencer.spare, sequencer.last_segment) = (Some(number), number);
                sequencer.full = None;
            }
            (Ok(()), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "no audit segment can be made ready");
                sequencer.full = Some(Arc::from(error.to_string()));
                if let Chore::Recycle { from, .. } | Chore::Remove(from) = chore {
                    sequencer.free.push_front(from);
                }
                if !sequencer.closing {
                    drop(shared.keeper_wake.wait_timeout(sequencer, shared.retry_interval));
                }
            }
        }
    }
}

/// Takes a segment back whose entries all stand in tiles.
fn free(shared: &Shared, segment: u64) {
    shared.sequencer().free.push_back(segment);
    shared.keeper_wake.notify_one();
}
