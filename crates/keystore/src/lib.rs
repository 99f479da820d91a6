//! Custody back ends: a folder each, a file per operation family.
//!
//! [`software`] keeps keys sealed on disk and in this machine's memory while they are used. [`testing`] wraps any key store so that a
//! test decides when its operations finish.

mod refusal;
pub mod software;
pub mod testing;
