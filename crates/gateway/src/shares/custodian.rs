//! What a custodian does with a share, on a machine of their own.

use super::{Closed, MAX_SEALED, identities, open, open_text, seal};
use crate::fault::Fault;
use crate::process;
use age::armor::Format;
use age::x25519::Recipient;
use holdfast_keystore::root::order::{OrderAnswer, OrderChallenge};
use holdfast_keystore::root::share::{MAX_TEXT, Share};
use holdfast_keystore::root::spoken::{Challenge, Proof};
use std::io::Read as _;
use std::path::Path;

/// A share, opened with its custodian's identity.
pub struct Opened(Share);

/// Opens a share; from here on the process's memory is closed to others of its user, and never dumped.
///
/// # Errors
/// When either file cannot be read, the identity is not the one that it was encrypted to, or what is inside is no share.
pub fn open_share(share: &Path, identity: &Path) -> Result<Opened, Fault> {
    process::protect_memory();
    let mut sealed = Vec::new();
    let limit = u64::try_from(MAX_SEALED).unwrap_or(u64::MAX);
    std::fs::File::open(share)
        .and_then(|file| file.take(limit).read_to_end(&mut sealed))
        .map_err(|error| Fault::io("cannot read", share, error))?;
    let identities = identities(identity)?;
    open(&sealed, each(&identities)).map(Opened).map_err(|closed| match closed {
        Closed::Age(error) => Fault::new(format!("`{}` does not open", share.display()))
            .remedy("give your own share, and the identity of the recipient that you gave for the ceremony")
            .because(error),
        Closed::Share(error) => error.into(),
    })
}

fn each(identities: &[Box<dyn age::Identity + Send + Sync>]) -> impl Iterator<Item = &dyn age::Identity> {
    identities.iter().map(|identity| &**identity as &dyn age::Identity)
}

impl Opened {
    /// Generation and number of the share.
    pub fn number(&self) -> (u32, u8) {
        (self.0.of().generation, self.0.number())
    }

    /// Answers a gateway's challenge to order its seal. Only a challenge about this very share is answered, and nothing of what was
    /// encrypted is in the answer.
    ///
    /// # Errors
    /// When the identity does not open it, or it asks for something else.
    pub fn order_seal(&self, challenge: &[u8], identity: &Path) -> Result<OrderAnswer, Fault> {
        let identities = identities(identity)?;
        let text = open_text(challenge, each(&identities), MAX_TEXT).map_err(|error| {
            Fault::new("the gateway's challenge does not open with this identity")
                .remedy("give the identity of the recipient that stands in the gateway's `root.shares`")
                .because(error)
        })?;
        let (of, number) = (self.0.of(), self.0.number());
        let challenge = OrderChallenge::parse(text.expose(), of, number)?;
        Ok(challenge.answer(of, number, &self.0.commitment()))
    }

    /// The proof that it could be opened, for this challenge.
    pub fn prove(&self, challenge: &Challenge) -> Proof {
        self.0.prove(challenge)
    }

    /// The same share for a gateway's fresh key.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn seal_to(&self, recipient: &Recipient) -> Result<Vec<u8>, Fault> {
        seal(&self.0, recipient, Format::Binary)
    }

    #[cfg(test)]
    pub(super) fn line(&self) -> holdfast_core::Secret {
        self.0.to_text()
    }

    /// In words: which share of which gateway.
    pub fn about(&self) -> String {
        let of = self.0.of();
        format!("share {} of generation {} of gateway {}", self.0.number(), of.generation, of.instance)
    }
}
