//! Microsoft's Double Key Encryption: the document of a key's public half, and decryption with its private one.
//!
//! There is no specification. The contract is Microsoft's own reference server with its tester, `docs/protocols/ms-dke.md` says what of it. [`path`] takes
//! paths apart, [`kid`] has the ids by which versions are known for ever, [`document`] what everybody may read, [`message`] requests and answers,
//! [`error`] the table of refusals.

pub mod document;
pub mod error;
pub mod kid;
pub mod message;
pub mod path;

use holdfast_core::Protocol;

/// The protocol's name in policies, events and metrics.
pub const PROTOCOL: Protocol = Protocol::MsDke;
/// The most bytes of a request that are read.
pub const MAX_BODY: usize = 16 << 10;
