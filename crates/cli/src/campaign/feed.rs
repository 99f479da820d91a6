//! The inventory as it is read: lines in chunks, with how far they reach.

use super::stop::Stop;
use crate::exit::Exit;
use crate::failure::Failure;
use aws_lc_rs::digest::{Context, SHA256};
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;
use tokio::time::Instant;

/// The most bytes of one line: two fields of a mebibyte in base64, and then some.
const MAX_LINE: u64 = 4 << 20;
/// The most bytes of a chunk, unless one line has more.
const MAX_CHUNK: usize = 2 << 20;

/// How far an inventory has been read.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    digest: Context,
}

impl Place {
    fn start() -> Self {
        Self { bytes: 0, lines: 0, digest: Context::new(&SHA256) }
    }

    /// SHA-256 of all that was read, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        self.digest.clone().finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Some lines.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The number of the line before the first, so that of the first from 0.
    pub(super) first: u64,
    /// How far the inventory has been read with it.
    pub(super) end: Place,
}

impl Chunk {
    /// Its lines with their ends, each with its number from 0.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut start = 0;
        (self.first..).zip(self.ends.iter().map(move |end| {
            let line = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            line
        }))
    }

    /// Its lines that are not empty.
    pub(super) fn items(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.lines().filter(|(_, line)| !line.trim_ascii().is_empty())
    }
}

/// Reads an inventory.
pub(super) struct Feed {
    input: BufReader<Box<dyn Read + Send>>,
    place: Place,
}

impl Feed {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input: BufReader::with_capacity(1 << 18, input), place: Place::start() }
    }

    /// How far it has been read.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The next lines, at most so many; `None` at the end.
    pub(super) fn next(&mut self, max: usize) -> Result<Option<Chunk>, Failure> {
        let first = self.place.lines;
        let (mut bytes, mut ends) = (Vec::with_capacity(1 << 16), Vec::with_capacity(max));
        while ends.len() < max && bytes.len() < MAX_CHUNK {
            let read = self.input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut bytes);
            let length = read.map_err(|error| unreadable(&error))?;
            if length == 0 {
                break;
            }
            if u64::try_from(length).unwrap_or(u64::MAX) > MAX_LINE {
                let line = self.place.lines + 1;
                return Err(Failure::usage(format!("line {line} has more than {MAX_LINE} bytes"))
                    .remedy("one object stands on each line: look whether this is such a file"));
            }
            self.place.lines += 1;
            ends.push(bytes.len());
        }
        self.place.digest.update(&bytes);
        self.place.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        let chunk = Chunk { bytes, ends, first, end: self.place.clone() };
        Ok((!chunk.ends.is_empty()).then_some(chunk))
    }

    /// Passes over what an earlier run has done; false if this is not what that run has read.
    pub(super) fn skip(&mut self, bytes: u64, lines: u64, sha256: &str) -> Result<bool, Failure> {
        let mut buffer = vec![0; 1 << 16];
        let mut rest = self.input.by_ref().take(bytes);
        loop {
            let length = rest.read(&mut buffer).map_err(|error| unreadable(&error))?;
            if length == 0 {
                break;
            }
            self.place.digest.update(buffer.get(..length).unwrap_or_default());
        }
        let is_whole = rest.limit() == 0;
        self.place.bytes = bytes;
        self.place.lines = lines;
        Ok(is_whole && self.place.sha256() == sha256)
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failure, "the inventory cannot be read").because(error).remedy("look at the cause")
}

/// At most so many items a second.
pub(super) struct Pace {
    rate: Option<u64>,
    next: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, next: Instant::now() }
    }

    /// How many items go into one batch: with a low rate fewer, so that they do not come in bursts.
    pub(super) fn chunk(&self, most: usize) -> usize {
        let rate = self.rate.and_then(|rate| usize::try_from(rate).ok());
        rate.map_or(most, |rate| rate.clamp(1, most))
    }

    /// Waits until so many items may go.
    pub(super) async fn wait(&mut self, items: usize, stop: &Stop) {
        if let Some(early) = self.early(items, Instant::now()) {
            stop.pause(early).await;
        }
    }

    /// By how much it is too early for so many items, which are taken to go then.
    fn early(&mut self, items: usize, now: Instant) -> Option<Duration> {
        let rate = u32::try_from(self.rate?).unwrap_or(u32::MAX).max(1);
        let early = self.next.checked_duration_since(now);
        let time = Duration::from_secs(1) * u32::try_from(items).unwrap_or(u32::MAX) / rate;
        self.next = self.next.max(now) + time;
        early.filter(|early| !early.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &'static [u8]) -> Feed {
        Feed::new(Box::new(text))
    }

    #[test]
    fn lines_come_in_order_with_their_ends() {
        let mut all = feed(b"a\n\nbb\r\nc");
        let mut seen = vec![];
        while let Some(chunk) = all.next(2).unwrap() {
            seen.extend(chunk.lines().map(|(number, line)| (number, line.to_vec())));
        }
        let expected: [(u64, &[u8]); 4] = [(0, b"a\n"), (1, b"\n"), (2, b"bb\r\n"), (3, b"c")];
        assert_eq!(seen, expected.map(|(number, line)| (number, line.to_vec())));
    }

    #[test]
    fn what_was_done_is_passed_over_and_something_else_is_noticed() {
        let mut first = feed(b"a\nb\nc\n");
        let place = first.next(2).unwrap().unwrap().end;
        let mut again = feed(b"a\nb\nc\n");
        assert!(again.skip(place.bytes, place.lines, &place.sha256()).unwrap());
        let rest = again.next(9).unwrap().unwrap();
        assert_eq!(rest.lines().collect::<Vec<_>>(), [(2, &b"c\n"[..])]);
        for other in [&b"a\nx\nc\n"[..], b"a\n"] {
            assert!(!feed(other).skip(place.bytes, place.lines, &place.sha256()).unwrap());
        }
    }

    #[test]
    fn a_rate_is_kept() {
        let mut pace = Pace::new(Some(10));
        assert_eq!((pace.chunk(256), Pace::new(None).chunk(256)), (10, 256));
        let now = pace.next;
        let waits = [10, 10, 5, 1].map(|items| pace.early(items, now).map_or(0, |early| early.as_millis()));
        assert_eq!(waits, [0, 1000, 2000, 2500]);
        assert_eq!(Pace::new(None).early(1000, now), None);
    }
}
