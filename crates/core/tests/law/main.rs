//! The law of the pipeline, promise by promise, over doubles of every port.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, and look at what they look at"
)]

mod adoptions;
mod archives;
mod backups;
mod batches;
mod budget;
mod ciphertexts;
mod clock;
mod commands;
mod destruction;
mod doors;
mod emergency;
mod foreign;
mod identity;
mod imports;
mod keys;
mod open_door;
mod pool;
mod privacy;
mod protocols;
mod random;
mod receipts;
mod recovery;
mod refusals;
mod release;
mod retention;
mod rewrap;
mod schedule;
mod seal;
mod sealing_key;
mod separation;
mod stops;
mod throttled;
mod unseal;
mod versions;
mod waiting;

use holdfast_core::{Error, ErrorKind};

/// What a peer can see of a refusal.
fn seen(error: &Error) -> (ErrorKind, String, String) {
    (error.kind(), error.to_string(), error.remedy_text().to_owned())
}
