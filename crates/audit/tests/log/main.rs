//! The log as a whole, on a simulated disk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]
#![allow(unreachable_pub)]

mod appends;
#[path = "../common/mod.rs"]
mod common;
mod disks;
mod growth;
mod starts;
mod verified;
mod witnessed;
