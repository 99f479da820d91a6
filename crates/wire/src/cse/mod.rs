//! Google Workspace client-side encryption: the key access control list service (KACLS) API.
//!
//! A service is a URL, with its own keys and its own lists of whom it believes. [`path`] has the methods, [`message`] reads requests and writes
//! answers, [`claim`] reads what verified tokens say, [`check`] has the rules in their order, [`format`] has the form of wrapped keys and what they
//! are bound to, [`hash`] the resource key hash, [`jws`] the tokens and keys that the service itself publishes, [`error`] the table of errors.

pub mod check;
pub mod claim;
mod der;
pub mod error;
pub mod format;
pub mod hash;
pub mod jws;
pub mod message;
pub mod path;
pub mod private_key;
pub mod url;

use holdfast_core::Protocol;

/// The protocol's name in policies, events and metrics.
pub const PROTOCOL: Protocol = Protocol::GoogleCse;
/// The most bytes of a request that are read.
pub const MAX_BODY: usize = 64 << 10;
/// The `aud` of Google's authorization tokens.
pub const AUTHORIZATION_AUDIENCE: &str = "cse-authorization";
/// The `aud` of tokens by which one service asks another.
pub const MIGRATION_AUDIENCE: &str = "kacls-migration";
/// The `aud` of the delegated tokens that a service issues to itself.
pub const DELEGATION_AUDIENCE: &str = "kacls-delegation";
/// For how many seconds a delegated token is valid: what Google recommends.
pub const DELEGATION_SECONDS: u64 = 900;
/// For how many seconds a token to another service is valid.
pub const MIGRATION_SECONDS: u64 = 300;
/// From where Google's client calls.
pub const ORIGIN: &str = "https://client-side-encryption.google.com";
