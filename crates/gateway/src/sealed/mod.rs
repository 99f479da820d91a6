//! A gateway that waits for its root key.

use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_wire::native::message::Seal;

/// What an open gateway says of its seal.
pub(crate) fn open() -> Seal {
    Seal {
        sealed: false,
        opening: false,
        recipient: None,
        generation: None,
        threshold: None,
        given: None,
        custodians: None,
    }
}

/// What an open gateway says to a share.
pub(crate) fn not_sealed() -> Error {
    Error::new(ErrorKind::Conflict, Stage::Start, "the gateway is not sealed")
        .remedy("nothing is to be done: it has its root key, and needs no share")
}
