//! The root key in shares, with the real binary and real age identities.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod authentic;
#[path = "../common/mod.rs"]
mod common;
mod founding;
mod hsm;
mod people;
mod recovery;
mod reroot;
mod rotation;
mod sealed;
mod sealing;
mod served;
mod terminal;
mod tpm;
