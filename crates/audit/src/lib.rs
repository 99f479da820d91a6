//! The transparency log of a Holdfast gateway: one write-ahead file that makes entries durable, one Merkle tree for
//! each log that makes them provable, and the offline verifier.
//!
//! The crate handles entries as bytes; what they say is `holdfast-core`'s.

mod age;
pub mod checkpoint;
pub mod cosignature;
pub mod disk;
mod files;
pub mod key;
mod known;
pub mod log;
mod log_id;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod port;
pub mod proof;
pub mod pruned;
pub mod reader;
pub mod receipt;
mod refusal;
pub mod scrub;
pub mod sink;
mod text;
pub mod tile;
mod tree;
pub mod verify;
pub mod wal;
pub mod witness;

pub use age::Age;
pub use log::{
    AppendError, Config, Continuity, FlushError, Health, Log, OldestIntent, Priority, Pruner, Recovered,
    Registered, WalHealth,
};
pub use log_id::{LogId, LogIdError};
pub use refusal::Refusal;
pub use tree::Openings;
pub use wal::{Entry, Mark, NotDurable, OpenIntent, Position, StateMark, Ticket};
