//! One tenant's callers, indexed by what they are recognised by.

use crate::bearer;
use crate::certificate;
use crate::issued;
use crate::reason::Reason;
use crate::signed::{self, SigningSecrets};
use crate::trust::Trust;
use holdfast_core::caller::{CallerRecord, Credential};
use holdfast_core::peer::Proof;
use holdfast_core::port::{Identified, Identify};
use holdfast_core::tenant::Anchor;
use holdfast_core::{Error, ErrorKind, Secret, Stage, Timestamp, TokenId};
use std::collections::HashMap;
use std::sync::Arc;

/// Recognises callers by the registrations of the tenant that they name.
///
/// A suspended caller is recognised like any other: what it tries stands in its tenant's log then, refused by core, and not among the
/// noise of strangers.
#[derive(Debug, Clone)]
pub struct Registrations {
    signing: Arc<SigningSecrets>,
}

impl Registrations {
    /// With what the secrets of signing tokens are derived from, 32 bytes: with another one all those that were issued are worth nothing.
    pub fn new(signing: &Secret) -> Self {
        Self { signing: Arc::new(SigningSecrets::of(signing)) }
    }
}

/// One tenant's callers and trust anchors.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) by_credential: HashMap<Credential, Arc<CallerRecord>>,
    pub(crate) by_token: HashMap<TokenId, (Arc<CallerRecord>, usize)>,
    pub(crate) signing: Arc<SigningSecrets>,
    pub(crate) trust: Trust,
}

impl Identify for Registrations {
    type Prepared = Prepared;

    fn prepare(&self, callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> Result<Prepared, Error> {
        let mut by_credential: HashMap<Credential, Arc<CallerRecord>> = HashMap::new();
        let mut by_token: HashMap<TokenId, (Arc<CallerRecord>, usize)> = HashMap::new();
        for record in callers {
            for credential in &record.credentials {
                let before = by_credential.insert(certificate::as_compared(credential), Arc::clone(record));
                if let Some(other) = before.filter(|other| other.name != record.name) {
                    return Err(shared(&other, record, "credential"));
                }
            }
            for (index, token) in record.tokens.iter().enumerate() {
                let before = by_token.insert(token.id, (Arc::clone(record), index));
                if let Some((other, _)) = before.filter(|(other, _)| other.name != record.name) {
                    return Err(shared(&other, record, "token"));
                }
            }
        }
        Ok(Prepared {
            by_credential,
            by_token,
            signing: Arc::clone(&self.signing),
            trust: Trust::new(anchors)?,
        })
    }

    fn replace(&self, before: &Anchor, after: &Anchor) -> Result<(), Error> {
        crate::trust::replace(before, after)
    }

    fn signing_secret(&self, id: TokenId) -> Result<Secret, Error> {
        Ok(self.signing.secret(id))
    }

    fn identify(&self, prepared: &Prepared, proof: &Proof<'_>, now: Timestamp) -> Result<Identified, Error> {
        let identified = match proof {
            Proof::Certificate(peer) => certificate::identify(prepared, peer, now),
            Proof::Bearer { id, secret } => bearer::identify(prepared, *id, secret, now),
            Proof::Signed(request) => signed::identify(prepared, request, now),
            Proof::Issued(token) => issued::identify(prepared, token, now),
            // As whom it is read is no matter of registrations.
            Proof::Provider(_) | Proof::Open | Proof::None => Err(Reason::NoProof),
        };
        identified.map_err(Reason::refuse)
    }
}

fn shared(one: &CallerRecord, other: &CallerRecord, what: &str) -> Error {
    let detail = format!("callers `{}` and `{}` share a {what}", one.name, other.name);
    Error::new(ErrorKind::Malformed, Stage::Resolve, detail).remedy("give each caller one of its own")
}
