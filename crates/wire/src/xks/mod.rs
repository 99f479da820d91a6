//! AWS KMS external key store proxy API, version 1 (specification 1.0.3): health, metadata, encrypt, decrypt.
//!
//! A store is a prefix of the path, with its own keys and credentials. [`path`] finds it, [`crate::sigv4`] takes the signature apart,
//! [`message`] reads requests and writes answers, [`format`] has the form of its ciphertexts and what they are bound to, [`error`] the table of errors.

pub mod error;
pub mod format;
pub mod message;
pub mod path;

use holdfast_core::Protocol;

/// The protocol's name in policies, events and metrics.
pub const PROTOCOL: Protocol = Protocol::AwsXks;
/// The service that requests are signed for.
pub const SERVICE: &str = "kms-xks-proxy";
/// The most bytes of a request that are read.
pub const MAX_BODY: usize = 64 << 10;
