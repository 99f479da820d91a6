//! Receipts for callers: the log's signed word, given with an answer on request, that the operation's record stands in it. With it
//! an application can prove later that its operation was recorded, or that the record was left out.

use crate::id::OperationId;
use aws_lc_rs::digest::{Context, SHA256};

/// What a receipt states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The operation.
    pub operation: OperationId,
    /// The index of its record in the tenant's log.
    pub index: u64,
    /// The record's leaf hash.
    pub leaf: LeafHash,
}

/// The hash of a record as a leaf of the tree: SHA-256 over a zero byte and the record (RFC 6962 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafHash(pub [u8; 32]);

impl LeafHash {
    /// Of a record's bytes.
    #[must_use]
    pub fn of(record: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        context.update(record);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

/// A statement signed with the key of the tenant's log, as text (`docs/receipts.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt(Box<str>);

impl SignedReceipt {
    /// The text that a log has signed.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, signature and all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
