//! The errors of key stores, each worded in one place.

use aws_lc_rs::error::Unspecified;
use holdfast_core::{Error, ErrorKind, Stage};

/// Input that does not verify. One text and one shape whatever the reason: wrong key, wrong context, changed bytes, wrong padding.
pub(crate) fn integrity() -> Error {
    Error::new(ErrorKind::Integrity, Stage::Perform, "the input does not verify")
}

/// An operation that this key does not have.
pub(crate) fn unsupported(detail: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
}

/// Input of an impossible length or form.
pub(crate) fn malformed(detail: &'static str, remedy: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Perform, detail).remedy(remedy)
}

/// The cryptographic library refused what it should have done: no memory, no entropy.
pub(crate) fn library(_: Unspecified) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, "the key store's cryptographic library failed")
}

/// A sealed key that does not open: another root key, another tenant's, or damaged.
pub(crate) fn sealed(detail: &'static str) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail)
        .remedy("an operator must start the gateway with the root key that sealed it, or restore the state from a backup")
}

/// A defect: what arrived here cannot arrive here.
pub(crate) fn defect(detail: &'static str) -> Error {
    Error::new(ErrorKind::Internal, Stage::Perform, detail)
}

/// A token or its module that does not do what it should.
pub(crate) fn device(detail: &'static str) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail)
}

/// A member of the pool that there is not.
pub(crate) fn no_member(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::NotFound, Stage::Perform, detail).remedy("`holdfast pool status` lists the members")
}
