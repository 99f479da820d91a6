//! Emergency copies: what a key in a token can do in software, for some hours, when its device is gone and custodians allow it.
//!
//! A key that is created with a copy is made in the gateway's memory, brought into the token, and sealed under a key of the copy's own, which is
//! shared among custodians at once and forgotten ([`copy`]). The copy lies within the version's sealed handle, beside where the token has it: without
//! the tenant's sealing key nobody gets at it, and with that alone nobody opens it. A request ([`desk`]) gathers enough shares, encrypted to a key
//! that lives for that request alone; then the copies are ready in memory, and nowhere else, until their time is over.

pub(crate) mod copy;
pub(crate) mod desk;
#[cfg(test)]
mod tests;

use holdfast_core::emergency::MAX_VERSIONS;
use holdfast_core::{CallerName, Error, Secret};

pub use copy::SHARE_LEN;

/// The most bytes that a custodian gives for one request, before they are encrypted.
pub const MAX_GIVEN: usize = MAX_VERSIONS * SHARE_LEN;

/// What age does for custodians: their recipients are age's.
pub trait Mail: Send + Sync + 'static {
    /// Encrypts to a custodian's recipient, the `age1…` line that the configuration names.
    ///
    /// # Errors
    /// `internal` for what is no recipient.
    fn seal(&self, recipient: &str, text: &Secret) -> Result<Vec<u8>, Error>;

    /// A fresh key for one request, in memory alone.
    fn mailbox(&self) -> Box<dyn Mailbox>;
}

/// A fresh key of one request.
pub trait Mailbox: Send + Sync {
    /// Its recipient, `age1…`.
    fn recipient(&self) -> &str;

    /// What was encrypted to it; `None` for anything else.
    fn open(&self, sealed: &[u8]) -> Option<Secret>;
}

/// Those who open copies together.
pub struct Custodians {
    /// How many of them it takes: at least 2.
    pub threshold: u8,
    /// Their names and `age1…` lines: as many as the threshold at least, and at most [`Custodians::MOST`].
    pub each: Vec<(CallerName, String)>,
    /// What encrypts to them.
    pub mail: Box<dyn Mail>,
}

impl Custodians {
    /// The most custodians: each copy holds a share of each.
    pub const MOST: usize = 16;
}
