//! What providers' fields hold, where `null` is as good as nothing.

use super::{Fault, Read, Reader};
use holdfast_core::Secret;

/// A text.
#[derive(Default)]
pub(crate) struct Optional(pub(crate) Option<Box<str>>);

impl Read for Optional {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        if reader.null() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Box::from(&*reader.text()?))))
    }
}

/// A text that may be secret; of a binary value, so that how long it may be is asked before what it is.
pub(crate) struct OptionalSecret(pub(crate) Option<Secret>);

impl Read for OptionalSecret {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        if reader.null() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Secret::new(reader.text()?.as_bytes().to_vec()))))
    }
}
