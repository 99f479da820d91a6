//! Who asks, told by tokens like the real ones and by certificates that are plain text.

use super::lock;
use holdfast_core::caller::{Authentication, CallerRecord, Credential, Token, TokenForm};
use holdfast_core::peer::{Peer, Proof};
use holdfast_core::port::{Identified, Identify};
use holdfast_core::tenant::Anchor;
use holdfast_core::{Error, ErrorKind, Secret, Stage, Timestamp, TokenId};
use std::sync::{Arc, Mutex};

/// A certificate that says `text` (`uri:…` or `dns:…`), issued by the authority with these bytes. `text` may end with ` since SECONDS` or
/// ` until SECONDS`, since 1970.
pub fn certificate(text: &str, authority: &[u8]) -> Peer {
    Peer::new(vec![text.as_bytes().into(), authority.into()])
}

/// The bearer token of everybody called `name`: id, secret, and what a registration keeps of it.
pub fn token(name: &str, expires: Timestamp) -> (TokenId, Secret, Token) {
    let id = TokenId::from_bytes(super::sha256(&[b"id", name.as_bytes()])[..16].try_into().unwrap());
    let secret = Secret::from(&super::sha256(&[b"secret", name.as_bytes()])[..]);
    let hash = digest(secret.expose());
    (id, secret, Token { id, hash, expires, form: TokenForm::Bearer })
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// Recognises tokens by their SHA-256, and certificates by what they say. Does **not** refuse suspended callers: that is core's.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    examined: u64,
    words: Option<&'static str>,
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

/// One tenant's registrations.
#[derive(Debug)]
pub struct Registered {
    callers: Vec<Arc<CallerRecord>>,
    authorities: Vec<Arc<[u8]>>,
}

impl Registry {
    /// How many proofs have been examined.
    pub fn examined(&self) -> u64 {
        lock(&self.0).examined
    }

    /// Lets something happen while the next proof is examined.
    pub fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        lock(&self.0).meanwhile = Some(Box::new(happens));
    }

    /// Chatters in its refusals from now on.
    pub fn chatter(&self, words: &'static str) {
        lock(&self.0).words = Some(words);
    }
}

impl Identify for Registry {
    type Prepared = Registered;

    fn prepare(&self, callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> Result<Registered, Error> {
        for (index, one) in callers.iter().enumerate() {
            let shares = |other: &Arc<CallerRecord>| {
                one.credentials.iter().any(|credential| other.credentials.contains(credential))
            };
            if callers[index + 1..].iter().any(shares) {
                let detail = "two callers share a credential";
                return Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail));
            }
        }
        for (index, one) in anchors.iter().enumerate() {
            if anchors[index + 1..].iter().any(|other| one.name == other.name) {
                let detail = "two trust anchors share a name";
                return Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail));
            }
        }
        let authorities = anchors.iter().map(|anchor| Arc::clone(&anchor.certificate)).collect();
        Ok(Registered { callers: callers.to_vec(), authorities })
    }

    fn replace(&self, before: &Anchor, after: &Anchor) -> Result<(), Error> {
        match before.revocations.is_some() && after.revocations.is_none() {
            true => Err(Error::new(ErrorKind::Conflict, Stage::Resolve, "the anchor would lose its list")),
            false => Ok(()),
        }
    }

    fn signing_secret(&self, id: TokenId) -> Result<Secret, Error> {
        Ok(Secret::new(id.text().to_vec()))
    }

    fn identify(
        &self,
        prepared: &Registered,
        proof: &Proof<'_>,
        now: Timestamp,
    ) -> Result<Identified, Error> {
        let (words, meanwhile) = {
            let mut inner = lock(&self.0);
            inner.examined += 1;
            (inner.words.unwrap_or("the caller is not known here"), inner.meanwhile.take())
        };
        if let Some(happens) = meanwhile {
            happens();
        }
        let unknown = || Error::new(ErrorKind::Unauthenticated, Stage::Identify, words);
        match proof {
            // How a signature is examined is the port's; here it is the secret itself.
            Proof::Signed(request) => {
                for record in &prepared.callers {
                    let live = |token: &&Token| token.id == request.token && now < token.expires;
                    if let Some(token) = record.tokens.iter().find(live)
                        && request.signed == request.token.text()
                    {
                        let authentication = Authentication::Signature(token.id);
                        let record = Arc::clone(record);
                        return Ok(Identified { record, authentication, valid_until: token.expires });
                    }
                }
                Err(unknown())
            }
            Proof::Provider(_) | Proof::Open | Proof::None => Err(unknown()),
            Proof::Issued(token) => {
                let fits = |credential: &Credential| match credential {
                    Credential::Issued { issuer, subject } => {
                        **issuer == *token.issuer()
                            && subject.as_deref().is_none_or(|subject| Some(subject) == token.subject())
                    }
                    Credential::Uri(_) | Credential::Dns(_) | Credential::KeyHash(_) => false,
                };
                let is_valid = (token.valid_from()..token.valid_until()).contains(&now);
                let mut found = prepared.callers.iter().filter(|record| record.credentials.iter().any(fits));
                let (Some(record), true) = (found.next(), is_valid) else { return Err(unknown()) };
                let authentication = Authentication::Issued {
                    issuer: token.issuer().into(),
                    subject: token.subject().map(Box::from),
                };
                let record = Arc::clone(record);
                Ok(Identified { record, authentication, valid_until: token.valid_until() })
            }
            Proof::Bearer { id, secret } => {
                let hash = digest(secret.expose());
                for record in &prepared.callers {
                    let live = |token: &&Token| token.id == *id && token.hash == hash && now < token.expires;
                    if let Some(token) = record.tokens.iter().find(live) {
                        let authentication = Authentication::Bearer(*id);
                        let record = Arc::clone(record);
                        return Ok(Identified { record, authentication, valid_until: token.expires });
                    }
                }
                Err(unknown())
            }
            Proof::Certificate(peer) => {
                let [leaf, authority] = peer.chain() else { return Err(unknown()) };
                if !prepared.authorities.iter().any(|known| **known == **authority) {
                    return Err(unknown());
                }
                let text = core::str::from_utf8(leaf).map_err(|_| unknown())?;
                let (text, is_valid) = match text.split(' ').collect::<Vec<_>>()[..] {
                    [text, "since", seconds] => {
                        (text, seconds.parse().is_ok_and(|since| now.seconds() >= since))
                    }
                    [text, "until", seconds] => {
                        (text, seconds.parse().is_ok_and(|until| now.seconds() < until))
                    }
                    _ => (text, true),
                };
                if !is_valid {
                    return Err(unknown());
                }
                let fits = |credential: &Credential| match credential {
                    Credential::Uri(uri) => text.strip_prefix("uri:") == Some(uri),
                    Credential::Dns(dns) => text.strip_prefix("dns:") == Some(dns),
                    Credential::KeyHash(hash) => *hash == digest(leaf),
                    Credential::Issued { .. } => false,
                };
                let mut found = prepared.callers.iter().filter(|record| record.credentials.iter().any(fits));
                let (Some(record), None) = (found.next(), found.next()) else { return Err(unknown()) };
                let authentication =
                    Authentication::MutualTls { key_hash: Some(digest(leaf)), matched: text.into() };
                let record = Arc::clone(record);
                Ok(Identified { record, authentication, valid_until: now.plus_seconds(3600) })
            }
        }
    }
}
