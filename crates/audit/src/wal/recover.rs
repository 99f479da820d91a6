//! Reading the write-ahead file at start: what stands, where it ends, what was torn, what is damaged.

use super::batch::{Mark, StateMark};
use super::format::{ALIGN, BatchHeader, HEADER_LEN, NotAHeader, Records, aligned};
use super::segment::Segments;
use crate::disk::{Access, File, read_full};
use crate::log_id::LogId;
use crate::merkle::{Hash, leaf_hash};
use crate::refusal::{APART, Refusal};
use std::collections::HashMap;
use std::ops::Range;

/// An intent whose outcome never came: what was in doubt when the gateway stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// The log that it stands in.
    pub log: LogId,
    /// The operation's id.
    pub op: [u8; 16],
    /// Its index in that log.
    pub index: u64,
    /// The entry's bytes.
    pub entry: Vec<u8>,
}

/// What the write-ahead file holds of one log.
#[derive(Debug, Default)]
pub(crate) struct FoundLog {
    /// Index of the first entry there.
    pub(crate) first: u64,
    /// Leaf hashes from there on.
    pub(crate) leaves: Vec<Hash>,
}

impl FoundLog {
    /// The index that the log's next entry gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    /// Those of its entries there.
    pub(crate) fn indices(&self) -> Range<u64> {
        self.first..self.next()
    }
}

/// The write-ahead file as found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) logs: HashMap<LogId, FoundLog>,
    pub(crate) open_intents: Vec<OpenIntent>,
    pub(crate) state: Option<StateMark>,
    pub(crate) next_batch: u64,
    /// Header CRC of the last batch, for the chain.
    pub(crate) previous: u32,
    pub(crate) first_segment: u64,
    /// The segment that is written to, and where.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// Segments behind it that are ready but unused.
    pub(crate) spares: Vec<u64>,
    pub(crate) cut_bytes: u64,
}

/// What stands at one place.
enum At {
    /// A whole batch; its bytes are in the buffer.
    Batch(BatchHeader, u32),
    /// A header of this segment whose body does not fit its checksum.
    Torn(BatchHeader),
    /// The magic, but no whole header.
    DamagedHeader,
    Nothing,
}

/// Reads the whole file, cuts a torn tail off, and makes what it read durable. A directory without segments gets its
/// first.
///
/// # Errors
/// A [`Refusal`] that names the file; the file is then untouched.
pub(crate) fn recover(segments: &Segments) -> Result<Found, Refusal> {
    let mut numbers = segments.list()?;
    if numbers.is_empty() {
        let made = segments.create(0).and_then(|()| segments.sync());
        made.map_err(|error| Refusal::io(&segments.path(0), error))?;
        numbers.push(0);
    }
    let mut scan = Scan::new(segments, Access::Write);
    let torn = scan.read(&numbers)?;
    scan.cut(&torn)?;
    let mut found = scan.found;
    found.first_segment = numbers.first().copied().unwrap_or(0);
    found.spares = numbers.into_iter().filter(|number| *number > found.segment).collect();
    Ok(found)
}

/// Reads the whole file and changes nothing; a torn tail is counted as if it were cut.
///
/// # Errors
/// A [`Refusal`] that names the file: what [`recover`] would refuse too.
pub(crate) fn inspect(segments: &Segments) -> Result<Found, Refusal> {
    let mut scan = Scan::new(segments, Access::Read);
    let torn = scan.read(&segments.numbers()?)?;
    scan.found.cut_bytes = torn.iter().map(|(_, _, len)| len).sum();
    Ok(scan.found)
}

struct Scan<'a> {
    segments: &'a Segments,
    access: Access,
    found: Found,
    /// Whether a first batch was seen, so that the next number is known.
    anchored: bool,
    /// Place and length of the last good batch.
    last: Option<(u64, u64, u64)>,
    buffer: Vec<u8>,
}

type Open = (u64, Box<dyn File>);

impl<'a> Scan<'a> {
    fn new(segments: &'a Segments, access: Access) -> Self {
        Self { segments, access, found: Found::default(), anchored: false, last: None, buffer: Vec::new() }
    }

    /// Reads all of these segments; gives the places of a torn tail.
    fn read(&mut self, numbers: &[u64]) -> Result<Vec<(u64, u64, u64)>, Refusal> {
        for (number, next) in numbers.iter().zip(numbers.iter().skip(1)) {
            if number + 1 != *next {
                let path = self.segments.path(number + 1);
                return Err(Refusal::new(&path, "this segment is missing", APART));
            }
        }
        let rest = self.read_all(numbers)?;
        self.look_behind(&rest)
    }

    /// Follows the chain to its end; gives the segments from the one where it ends.
    fn read_all(&mut self, numbers: &[u64]) -> Result<Vec<Open>, Refusal> {
        let mut open = Vec::new();
        for number in numbers {
            let file = self.segments.open(*number, self.access);
            open.push((*number, file.map_err(|error| self.io(*number, error))?));
        }
        let mut ahead = open.into_iter().peekable();
        let Some(mut current) = ahead.next() else { return Ok(Vec::new()) };
        self.found.segment = current.0;
        loop {
            if self.take(&current, self.found.offset)? {
                continue;
            }
            let starts_there = match ahead.peek() {
                Some(next) if self.anchored => self.take(next, 0)?,
                Some(_) | None => false,
            };
            match ahead.next_if(|_| starts_there) {
                Some(next) => current = next,
                None => break,
            }
        }
        Ok(std::iter::once(current).chain(ahead).collect())
    }

    fn io(&self, number: u64, error: std::io::Error) -> Refusal {
        Refusal::io(&self.segments.path(number), error)
    }

    /// Takes the batch at a place if it is the next one.
    fn take(&mut self, (number, file): &Open, offset: u64) -> Result<bool, Refusal> {
        let At::Batch(header, crc) = self.look(*number, &**file, offset)? else { return Ok(false) };
        if self.anchored && header.batch != self.found.next_batch {
            return Ok(false);
        }
        let path = self.segments.path(*number);
        if self.anchored && header.previous != self.found.previous {
            let problem = format!("batch {} does not follow the one before it", header.batch);
            return Err(Refusal::new(&path, problem, APART).at(offset));
        }
        self.note(&header).map_err(|problem| Refusal::new(&path, problem, APART).at(offset))?;
        self.anchored = true;
        self.last = Some((*number, offset, header.extent()));
        let found = &mut self.found;
        found.next_batch = header.batch + 1;
        found.previous = crc;
        found.segment = *number;
        found.offset = offset + header.extent();
        Ok(true)
    }

    /// Reads what stands at a place; a whole batch's body is left in the buffer.
    fn look(&mut self, number: u64, file: &dyn File, offset: u64) -> Result<At, Refusal> {
        let path = self.segments.path(number);
        let mut head = [0; HEADER_LEN];
        read_full(file, &mut head, offset).map_err(|error| Refusal::io(&path, error))?;
        let (header, crc) = match BatchHeader::decode(&head) {
            Ok(header) => header,
            Err(NotAHeader::Blank) => return Ok(At::Nothing),
            Err(NotAHeader::Damaged) => return Ok(At::DamagedHeader),
            Err(NotAHeader::Version(version)) => {
                let problem = format!("the format version {version} is newer than this program");
                return Err(Refusal::new(&path, problem, "start the newer version again").at(offset));
            }
        };
        if header.segment != number {
            return Ok(At::Nothing);
        }
        self.buffer.resize(usize::try_from(header.body_len).unwrap_or(usize::MAX), 0);
        let read = read_full(file, &mut self.buffer, offset + HEADER_LEN as u64);
        let whole = read.map_err(|error| Refusal::io(&path, error))? == self.buffer.len();
        Ok(if whole && crc32c::crc32c(&self.buffer) == header.body_crc {
            At::Batch(header, crc)
        } else {
            At::Torn(header)
        })
    }

    /// Notes the records of the batch in the buffer.
    fn note(&mut self, header: &BatchHeader) -> Result<(), String> {
        let found = &mut self.found;
        found.state = StateMark::newer(found.state, header.state);
        let mut count = 0;
        for record in Records::new(&self.buffer) {
            count += 1;
            let id: LogId =
                record.log.parse().map_err(|error| format!("in batch {}: {error}", header.batch))?;
            match record.mark {
                Mark::Plain => {}
                Mark::Intent(op) => {
                    let (log, index, entry) = (id.clone(), record.index, record.entry.to_vec());
                    found.open_intents.push(OpenIntent { log, op, index, entry });
                }
                Mark::Outcome { op, state } => {
                    found.open_intents.retain(|intent| intent.op != op);
                    found.state = StateMark::newer(found.state, state);
                }
            }
            let log =
                found.logs.entry(id).or_insert_with(|| FoundLog { first: record.index, leaves: Vec::new() });
            if log.next() != record.index {
                let (index, next) = (record.index, log.next());
                return Err(format!("entry {index} of log `{}` stands where {next} should", record.log));
            }
            log.leaves.push(leaf_hash(record.entry));
        }
        if count == header.count {
            Ok(())
        } else {
            Err(format!("batch {} holds {count} of its {} records", header.batch, header.count))
        }
    }

    /// Looks behind the end for batches that could only have been written after whatever is missing. Gives the
    /// places to cut, with their lengths.
    fn look_behind(&mut self, rest: &[Open]) -> Result<Vec<(u64, u64, u64)>, Refusal> {
        let mut torn = Vec::new();
        let end = (self.found.segment, self.found.offset);
        for (number, file) in rest {
            let path = self.segments.path(*number);
            let len = file.size().map_err(|error| Refusal::io(&path, error))?;
            let mut offset = if *number == end.0 { end.1 } else { 0 };
            let begin = offset;
            while offset < len {
                match self.look(*number, &**file, offset)? {
                    At::Batch(header, _) | At::Torn(header) if header.batch > self.found.next_batch => {
                        let missing = format!(
                            "batch {} is damaged, yet batch {} stands behind it at byte {offset} of `{}`",
                            self.found.next_batch,
                            header.batch,
                            path.display()
                        );
                        return Err(Refusal::new(&self.segments.path(end.0), missing, APART).at(end.1));
                    }
                    At::Torn(header) if header.batch == self.found.next_batch && offset == begin => {
                        torn.push((*number, offset, header.extent().min(len - offset)));
                    }
                    At::DamagedHeader if offset == begin && *number == end.0 => {
                        torn.push((*number, offset, ALIGN.min(len - offset)));
                    }
                    At::Batch(..) | At::Torn(_) | At::DamagedHeader | At::Nothing => {}
                }
                offset += ALIGN;
            }
        }
        Ok(torn)
    }

    /// Wipes the torn tail, and writes the last good batch once more: it may so far stand in the page cache only,
    /// and a sync after a failed one would not write it.
    fn cut(&mut self, torn: &[(u64, u64, u64)]) -> Result<(), Refusal> {
        for (number, offset, len) in torn {
            self.rewrite(*number, *offset, *len, true)?;
            self.found.cut_bytes += len;
        }
        if let Some((number, offset, len)) = self.last {
            self.rewrite(number, offset, len, false)?;
        }
        self.segments.sync().map_err(|error| Refusal::io(&self.segments.dir, error))
    }

    fn rewrite(&mut self, number: u64, offset: u64, len: u64, zeros: bool) -> Result<(), Refusal> {
        let io = |error| Refusal::io(&self.segments.path(number), error);
        let file = self.segments.open(number, Access::Write).map_err(io)?;
        let mut bytes = vec![0; usize::try_from(aligned(len)).unwrap_or(0)];
        if !zeros {
            read_full(&*file, &mut bytes, offset).map_err(io)?;
        }
        file.write_all_at(&bytes, offset).map_err(io)?;
        file.sync_data().map_err(io)
    }
}
