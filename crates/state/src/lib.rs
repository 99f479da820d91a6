//! Durable records of tenants, callers, keys and policies: the embedded store behind core's port `State`.
//!
//! One SQLite database in the data directory, written by one thread, read by a few others, with the keys in use held
//! in bounded caches that the writer updates before it acknowledges. Start reading at [`EmbeddedState`].
//!
//! - Every row carries a MAC under a key that is not in the directory: a row that was changed outside is refused when it is read.
//! - All rows together have one keyed digest, kept up to date with every commit, so that a state that was put back is noticed.
//! - A commit applies all of its changes or none, and each compares the record's epoch with the one it was computed from.
//!
//! What each table holds is in `schema.rs`, what each row's body holds in `body.rs`.

mod apply;
mod body;
mod budget;
mod cache;
mod copy;
mod database;
mod directory;
mod fault;
mod ledger;
mod port;
mod query;
mod readers;
mod record;
mod rekey;
mod schema;
mod seal;
mod store;
mod verify;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use copy::Copier;
pub use directory::DirectoryLock;
pub use rekey::{Reseal, is_under, rekey};
pub use store::{EmbeddedState, Opening, Settings};
pub use verify::Verified;
