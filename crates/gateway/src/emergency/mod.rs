//! Emergency copies of keys: who opens them, as the configuration says, and age for the key store, which makes and opens them.

pub mod custodian;

use crate::config;
use crate::fault::Fault;
use crate::shares::{NewCustodian, Recipient, check, fresh, open_text, seal_text};
use age::armor::Format;
use age::x25519::Identity;
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use holdfast_keystore::emergency::{Custodians, MAX_GIVEN, Mail, Mailbox};

/// Who opens emergency copies; nobody where the configuration names nobody, and then none are made.
///
/// # Errors
/// For a line that is no recipient, and custodians to whom no shares can be handed out.
pub(crate) fn custodians(settings: &config::Emergency) -> Result<Option<Custodians>, Fault> {
    let config::Emergency { custodians, threshold } = settings;
    if custodians.is_empty() {
        return Ok(None);
    }
    let each = custodians.iter().map(|custodian| custodian.parse("emergency.custodians"));
    let each: Vec<_> = each.collect::<Result<_, _>>()?;
    check(&each, *threshold)?;
    if each.len() > Custodians::MOST {
        return Err(Fault::new(format!("`emergency.custodians` has {} of them", each.len())).remedy(
            format!(
                "name at most {} custodians: each copy of each key version holds a share of each",
                Custodians::MOST
            ),
        ));
    }
    let each = each.into_iter().map(|NewCustodian { name, recipient }| (name, recipient.to_string()));
    Ok(Some(Custodians { threshold: *threshold, each: each.collect(), mail: Box::new(Age) }))
}

/// age, for the key store.
struct Age;

impl Mail for Age {
    fn seal(&self, recipient: &str, text: &Secret) -> Result<Vec<u8>, Error> {
        let failed = |fault: Fault| {
            Error::new(
                ErrorKind::Internal,
                Stage::Perform,
                "a share of an emergency copy cannot be encrypted",
            )
            .because(fault)
        };
        let recipient: Recipient = recipient.parse().map_err(|why: &str| failed(Fault::new(why)))?;
        seal_text(text, &recipient, Format::Binary).map_err(failed)
    }

    fn mailbox(&self) -> Box<dyn Mailbox> {
        let (identity, recipient, _) = fresh();
        Box::new(Fresh { identity, recipient })
    }
}

/// A key that lives for one request.
struct Fresh {
    identity: Identity,
    recipient: String,
}

impl Mailbox for Fresh {
    fn recipient(&self) -> &str {
        &self.recipient
    }

    fn open(&self, sealed: &[u8]) -> Option<Secret> {
        let identity: &dyn age::Identity = &self.identity;
        open_text(sealed, std::iter::once(identity), MAX_GIVEN).ok().filter(|text| text.len() <= MAX_GIVEN)
    }
}
