//! Batch headers and records to bytes and back; the tables stand in the module above.

use super::batch::{Mark, StateMark};
use crc32c::crc32c;

/// Batches start at multiples of this.
pub(crate) const ALIGN: u64 = 4096;
/// Bytes of a batch's header.
pub(crate) const HEADER_LEN: usize = 96;
/// A byte above 0x7f and a line end, as PNG has them: neither JSON text nor a text-mode copy can look like it.
const MAGIC: [u8; 8] = *b"\x89HFWAL\r\n";
const VERSION: u16 = 1;
const HAS_STATE: u16 = 1;

/// Rounds up to the next start of a batch.
pub(crate) fn aligned(len: u64) -> u64 {
    len.next_multiple_of(ALIGN)
}

/// A batch's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) segment: u64,
    pub(crate) batch: u64,
    pub(crate) count: u32,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) previous: u32,
    pub(crate) state: Option<StateMark>,
}

/// Why bytes are not a batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAHeader {
    /// No magic: never written, or in the middle of something.
    Blank,
    /// The magic stands there, the checksum does not fit.
    Damaged,
    /// A later format's.
    Version(u16),
}

impl BatchHeader {
    /// The header's bytes and its CRC.
    pub(crate) fn encode(&self) -> ([u8; HEADER_LEN], u32) {
        let Self { segment, batch, count, body_len, body_crc, previous, state } = self;
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(if state.is_some() { HAS_STATE } else { 0 }.to_be_bytes());
        bytes.extend(count.to_be_bytes());
        bytes.extend(segment.to_be_bytes());
        bytes.extend(batch.to_be_bytes());
        bytes.extend(body_len.to_be_bytes());
        bytes.extend(body_crc.to_be_bytes());
        bytes.extend(previous.to_be_bytes());
        bytes.extend([0; 4]);
        let StateMark { seq, digest } = state.unwrap_or_default();
        bytes.extend(seq.to_be_bytes());
        bytes.extend(digest);
        bytes.extend([0; 4]);
        let crc = crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        (bytes.first_chunk().copied().unwrap_or([0; HEADER_LEN]), crc)
    }

    /// Reads a header and its CRC.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), NotAHeader> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(NotAHeader::Blank)?;
        if !bytes.starts_with(&MAGIC) {
            return Err(NotAHeader::Blank);
        }
        let mut fields = Fields(bytes);
        let parse = |fields: &mut Fields<'_>| {
            let _magic = fields.array::<8>()?;
            let version = u16::from_be_bytes(fields.array()?);
            let flags = u16::from_be_bytes(fields.array()?);
            let count = fields.u32()?;
            let (segment, batch) = (fields.u64()?, fields.u64()?);
            let (body_len, body_crc, previous) = (fields.u32()?, fields.u32()?, fields.u32()?);
            let _zero = fields.array::<4>()?;
            let state = StateMark { seq: fields.u64()?, digest: fields.array()? };
            let _zero = fields.array::<4>()?;
            let state = (flags & HAS_STATE != 0).then_some(state);
            let header = Self { segment, batch, count, body_len, body_crc, previous, state };
            Some((version, header, fields.u32()?))
        };
        let (version, header, crc) = parse(&mut fields).ok_or(NotAHeader::Blank)?;
        if bytes.split_last_chunk::<4>().is_none_or(|(covered, _)| crc32c(covered) != crc) {
            return Err(NotAHeader::Damaged);
        }
        if version != VERSION {
            return Err(NotAHeader::Version(version));
        }
        Ok((header, crc))
    }

    /// Bytes from this batch to the next.
    pub(crate) fn extent(&self) -> u64 {
        aligned(HEADER_LEN as u64 + u64::from(self.body_len))
    }
}

/// A record as it stands in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) log: &'a str,
    pub(crate) index: u64,
    pub(crate) mark: Mark,
    pub(crate) opening: &'a [u8; 32],
    pub(crate) entry: &'a [u8],
}

/// The fixed part of a record.
pub(crate) const RECORD_LEN: usize = 44;

/// Appends the record's head: everything but the entry's bytes. Gives the offset of the head; length and opening are
/// put in by [`finish_record`].
pub(crate) fn begin_record(bytes: &mut Vec<u8>, log: &str, index: u64, mark: Mark) -> usize {
    let start = bytes.len();
    let kind = match mark {
        Mark::Plain => 0,
        Mark::Intent(_) => 1,
        Mark::Outcome { state: None, .. } => 2,
        Mark::Outcome { state: Some(_), .. } => 3,
    };
    let name_len = u8::try_from(log.len()).unwrap_or(0);
    bytes.extend_from_slice(&[kind, name_len, 0, 0]);
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(log.as_bytes());
    match mark {
        Mark::Plain => {}
        Mark::Intent(op) | Mark::Outcome { op, state: None } => bytes.extend_from_slice(&op),
        Mark::Outcome { op, state: Some(StateMark { seq, digest }) } => {
            bytes.extend_from_slice(&op);
            bytes.extend_from_slice(&seq.to_be_bytes());
            bytes.extend_from_slice(&digest);
        }
    }
    start
}

/// Puts the entry's length and opening into the head at `start`.
pub(crate) fn finish_record(bytes: &mut [u8], start: usize, entry_len: u16, opening: &[u8; 32]) {
    if let Some(len) = bytes.get_mut(start + 2..start + 4) {
        len.copy_from_slice(&entry_len.to_be_bytes());
    }
    if let Some(place) = bytes.get_mut(start + 12..start + RECORD_LEN) {
        place.copy_from_slice(opening);
    }
}

/// The records of a batch, in order; ends at the first that does not fit.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a>(Fields<'a>);

impl<'a> Records<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(Fields(body))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let fields = &mut self.0;
        let [kind, name_len] = fields.array()?;
        let entry_len = u16::from_be_bytes(fields.array()?);
        let index = fields.u64()?;
        let opening = fields.chunk::<32>()?;
        let log = std::str::from_utf8(fields.bytes(usize::from(name_len))?).ok()?;
        let mark = match kind {
            0 => Mark::Plain,
            1 => Mark::Intent(fields.array()?),
            2 => Mark::Outcome { op: fields.array()?, state: None },
            3 => {
                let op = fields.array()?;
                let state = StateMark { seq: fields.u64()?, digest: fields.array()? };
                Mark::Outcome { op, state: Some(state) }
            }
            _ => return None,
        };
        let entry = fields.bytes(usize::from(entry_len))?;
        Some(Record { log, index, mark, opening, entry })
    }
}

/// Takes fields off the front.
#[derive(Clone, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.chunk().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_with_a_state_and_without_and_no_bit_of_it_can_change() {
        for state in [None, Some(StateMark::default()), Some(StateMark { seq: 7, digest: [9; 32] })] {
            let header =
                BatchHeader { segment: 1, batch: 2, count: 3, body_len: 4, body_crc: 5, previous: 6, state };
            let (bytes, crc) = header.encode();
            assert_eq!(BatchHeader::decode(&bytes), Ok((header, crc)));
            for bit in 0..8 * HEADER_LEN {
                let mut bad = bytes;
                bad[bit / 8] ^= 1 << (bit % 8);
                let why = if bit < 8 * MAGIC.len() { NotAHeader::Blank } else { NotAHeader::Damaged };
                assert_eq!(BatchHeader::decode(&bad), Err(why), "bit {bit} with {state:?}");
            }
            assert_eq!(BatchHeader::decode(&bytes[..HEADER_LEN - 1]), Err(NotAHeader::Blank));
        }
    }

    #[test]
    fn a_later_version_s_header_says_which() {
        let header = BatchHeader {
            segment: 1,
            batch: 2,
            count: 3,
            body_len: 4,
            body_crc: 5,
            previous: 6,
            state: None,
        };
        let (mut bytes, _) = header.encode();
        bytes[8..10].copy_from_slice(&0x0102_u16.to_be_bytes());
        let (covered, crc) = bytes.split_last_chunk_mut::<4>().unwrap();
        *crc = crc32c(covered).to_be_bytes();
        assert_eq!(BatchHeader::decode(&bytes), Err(NotAHeader::Version(0x0102)));
    }
}
