//! The write-ahead file: what makes entries durable, for all logs of a gateway together.
//!
//! Operations append to one open batch in memory; a thread of its own writes it with one write and one sync while
//! the next one fills (group commit), and wakes all who waited.
//!
//! # On disk, byte for byte
//! `wal/` holds segments named by their number, 16 hexadecimal digits and `.wal`. Numbers grow without gaps. A
//! segment is made whole (64 MiB unless configured), so that a sync has no metadata to write. It holds batches, each
//! starting at a multiple of 4096 bytes and followed by zeros up to the next one: no durable byte's block is ever
//! written again. Integers are unsigned, big-endian.
//!
//! | batch, at | bytes | meaning |
//! |---|---|---|
//! | 0 | 8 | magic `89 48 46 57 41 4c 0d 0a` (`\x89HFWAL\r\n`) |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | flags: bit 0, a state mark stands at 48 |
//! | 12 | 4 | number of records |
//! | 16 | 8 | number of the segment: a recycled segment's older batches carry an older one |
//! | 24 | 8 | number of the batch, from 0, without gaps across segments |
//! | 32 | 4 | bytes of records that follow the header |
//! | 36 | 4 | CRC-32C of those bytes |
//! | 40 | 4 | header CRC of the batch before; 0 for batch 0 |
//! | 44 | 4 | zero |
//! | 48 | 8 | state mark: the highest sequence number of a state commit recorded **before** this batch |
//! | 56 | 32 | and that state's digest |
//! | 88 | 4 | zero |
//! | 92 | 4 | CRC-32C of bytes 0 to 92: the header CRC |
//! | 96 | … | records |
//!
//! | record, at | bytes | meaning |
//! |---|---|---|
//! | 0 | 1 | kind: 0 plain, 1 intent, 2 outcome, 3 outcome with a state mark |
//! | 1 | 1 | length of the log's name, 1 to 63 |
//! | 2 | 2 | length of the entry, 1 to 65,535 |
//! | 4 | 8 | index of the entry in its log |
//! | 12 | 32 | opening: the random key of the entry's commitments; zeros for none |
//! | 44 | … | name of the log |
//! | … | 16 | operation id (kinds 1, 2, 3) |
//! | … | 40 | state sequence number and digest (kind 3) |
//! | … | … | the entry's bytes |
//!
//! # Reading it back
//! The first batch of the first segment is where the file begins; from there each batch must carry the next number
//! and the header CRC of the one before, in the same segment or at the start of the next. Where that ends, the file
//! ends: at most one batch can be torn there, since no batch is written before the one before is durable. If a good
//! batch of a later number stands anywhere behind, the file was damaged after the fact and is refused.
//!
//! A segment made ready but not yet used holds zeros, or batches under older numbers.

mod batch;
mod format;
mod recover;
mod segment;
mod ticket;

pub use batch::{Entry, Mark, StateMark};
pub use recover::OpenIntent;
pub use ticket::{NotDurable, Position, Ticket};

pub(crate) use batch::{BadEntry, Batch, push_record};
pub(crate) use format::{ALIGN, BatchHeader, HEADER_LEN, Records, aligned};
pub(crate) use recover::{Found, FoundLog, inspect, recover};
pub(crate) use segment::Segments;
