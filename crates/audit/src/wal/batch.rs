//! The open batch: entries are written once, here, and go to disk from the same bytes.

use super::format::{BatchHeader, HEADER_LEN, aligned, begin_record, finish_record};
use super::ticket::Completion;
use crate::tile::MAX_ENTRY;
use std::sync::Arc;

/// A state commit that an outcome stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateMark {
    /// The commit's sequence number.
    pub seq: u64,
    /// The digest of the state after it.
    pub digest: [u8; 32],
}

impl StateMark {
    /// The later commit of the two: outcomes of concurrent commands are recorded in any order.
    pub(crate) fn newer(known: Option<Self>, mark: Option<Self>) -> Option<Self> {
        known.into_iter().chain(mark).max_by_key(|mark| mark.seq)
    }
}

/// What an entry means to recovery. The operation ids are the caller's, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Stands alone.
    Plain,
    /// Something is about to be done; without its outcome, recovery reports it as open.
    Intent([u8; 16]),
    /// It was done, or failed.
    Outcome {
        /// The id of the intent.
        op: [u8; 16],
        /// The state commit it made, if it made one.
        state: Option<StateMark>,
    },
}

/// An entry being written into the open batch. Bytes go in through [`push`](Self::push), [`std::io::Write`] or
/// [`std::fmt::Write`], none of which fails; what is too long or empty is refused afterwards as a whole.
#[derive(Debug)]
pub struct Entry<'a> {
    bytes: &'a mut Vec<u8>,
    index: u64,
    opening: [u8; 32],
}

impl Entry<'_> {
    /// The index that the entry will have in its log: its sequence number, without gaps.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The batch's buffer, to append the entry's bytes to and nothing else, and the opening to fill in.
    pub(crate) fn parts(&mut self) -> (&mut Vec<u8>, &mut [u8; 32]) {
        (self.bytes, &mut self.opening)
    }

    /// Appends bytes of the entry.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sets the random key of the entry's commitments, which is kept outside the log and can be erased. All zeros
    /// mean none.
    pub fn set_opening(&mut self, opening: &[u8; 32]) {
        self.opening = *opening;
    }
}

impl std::io::Write for Entry<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Write for Entry<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Bytes of a batch in the making, its header's place kept free at the front.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
    pub(crate) completion: Arc<Completion>,
    /// The last state mark before this batch.
    pub(crate) state_before: Option<StateMark>,
}

impl Batch {
    /// An empty batch over a buffer that may have been used before.
    pub(crate) fn new(mut buffer: Vec<u8>, state_before: Option<StateMark>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Self { bytes: buffer, count: 0, completion: Arc::default(), state_before }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes on disk.
    pub(crate) fn extent(&self) -> u64 {
        aligned(self.bytes.len() as u64)
    }

    /// Fills the header in and the zeros up; gives the header's CRC for the next batch's chain.
    pub(crate) fn seal(&mut self, segment: u64, batch: u64, previous: u32) -> u32 {
        let (_, body) = self.bytes.split_at_checked(HEADER_LEN).unwrap_or_default();
        let header = BatchHeader {
            segment,
            batch,
            count: self.count,
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            body_crc: crc32c::crc32c(body),
            previous,
            state: self.state_before,
        };
        let (head, crc) = header.encode();
        self.bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        self.bytes.resize(usize::try_from(self.extent()).unwrap_or(usize::MAX), 0);
        crc
    }
}

/// Why an entry's bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadEntry {
    Empty,
    TooLong(usize),
}

/// Writes one record into the batch through the caller's closure. On a refusal, and if the closure panics, the batch
/// is as it was.
pub(crate) fn push_record<R>(
    batch: &mut Batch,
    log: &str,
    index: u64,
    mark: Mark,
    write: impl FnOnce(&mut Entry<'_>) -> R,
) -> Result<R, BadEntry> {
    let mut guard = Undo { len: batch.bytes.len(), bytes: &mut batch.bytes };
    let start = begin_record(guard.bytes, log, index, mark);
    let body = guard.bytes.len();
    let mut entry = Entry { bytes: guard.bytes, index, opening: [0; 32] };
    let result = write(&mut entry);
    let opening = entry.opening;
    let len = guard.bytes.len().saturating_sub(body);
    if len == 0 {
        return Err(BadEntry::Empty);
    }
    let fits = u16::try_from(len).ok().filter(|_| len <= MAX_ENTRY).ok_or(BadEntry::TooLong(len))?;
    finish_record(guard.bytes, start, fits, &opening);
    guard.len = guard.bytes.len();
    drop(guard);
    batch.count = batch.count.saturating_add(1);
    Ok(result)
}

/// Cuts the buffer back to what was whole.
struct Undo<'a> {
    bytes: &'a mut Vec<u8>,
    len: usize,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.bytes.truncate(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{NotAHeader, Records};
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_sealed_batch_reads_back_and_no_byte_can_change() {
        let mut batch = Batch::new(Vec::new(), Some(StateMark { seq: 7, digest: [9; 32] }));
        let marks = [
            Mark::Plain,
            Mark::Intent([1; 16]),
            Mark::Outcome { op: [1; 16], state: None },
            Mark::Outcome { op: [2; 16], state: Some(StateMark { seq: 8, digest: [3; 32] }) },
        ];
        for (index, mark) in (0..).zip(marks) {
            let wrote = push_record(&mut batch, "tenant-a", index, mark, |entry| {
                entry.set_opening(&[4; 32]);
                write!(entry, "{{\"seq\":{}}}", entry.index()).unwrap();
                5
            });
            assert_eq!(wrote, Ok(5));
        }
        let crc = batch.seal(3, 11, 77);
        let (header, found) = BatchHeader::decode(&batch.bytes).unwrap();
        assert_eq!((found, header.segment, header.batch, header.count, header.previous), (crc, 3, 11, 4, 77));
        assert_eq!(header.state, Some(StateMark { seq: 7, digest: [9; 32] }));
        assert_eq!(header.extent(), batch.bytes.len() as u64);
        let body = &batch.bytes[HEADER_LEN..][..header.body_len as usize];
        assert_eq!(crc32c::crc32c(body), header.body_crc);
        let records: Vec<_> = Records::new(body).collect();
        assert_eq!(records.iter().map(|r| r.mark).collect::<Vec<_>>(), marks);
        assert_eq!(records[3].entry, b"{\"seq\":3}");
        assert_eq!((records[1].log, records[1].index, *records[1].opening), ("tenant-a", 1, [4; 32]));
        for byte in 8..HEADER_LEN {
            let mut bad = batch.bytes.clone();
            bad[byte] ^= 0x10;
            assert_eq!(BatchHeader::decode(&bad), Err(NotAHeader::Damaged), "byte {byte}");
        }
    }

    #[test]
    fn refused_and_panicking_entries_leave_nothing_behind() {
        let mut batch = Batch::new(Vec::new(), None);
        push_record(&mut batch, "a", 0, Mark::Plain, |entry| entry.push(b"x")).unwrap();
        let before = batch.bytes.clone();
        let none = push_record(&mut batch, "a", 1, Mark::Plain, |_| ());
        assert_eq!(none, Err(BadEntry::Empty));
        let long = push_record(&mut batch, "a", 1, Mark::Plain, |entry| entry.push(&[1; MAX_ENTRY + 1]));
        assert_eq!(long, Err(BadEntry::TooLong(MAX_ENTRY + 1)));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            push_record(&mut batch, "a", 1, Mark::Plain, |entry| {
                entry.push(b"half");
                panic!("the caller's own")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!((&batch.bytes, batch.count), (&before, 1));
        push_record(&mut batch, "a", 1, Mark::Plain, |entry| entry.push(&[1; MAX_ENTRY])).unwrap();
    }
}
