//! Certificates: by the key's hash, whoever issued them, or by a name that one of the tenant's anchors vouches for.
//!
//! A pinned key is a registration of its own: no authority vouches for it, and none revokes it. Whoever wants to stop its holder
//! suspends the caller or registers another key.

use crate::reason::Reason;
use crate::registry::Prepared;
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::caller::{Authentication, CallerRecord, Credential};
use holdfast_core::peer::Peer;
use holdfast_core::port::Identified;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// The most names of a certificate that are looked at.
const MAX_NAMES: usize = 64;

/// What a certificate says of its holder, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of its public key (DER SubjectPublicKeyInfo).
    pub key_hash: [u8; 32],
    /// URIs among its subject alternative names.
    pub uris: Vec<String>,
    /// DNS names among them, in lower case, without wildcards.
    pub dns: Vec<String>,
    /// Whether it is for clients: says so itself (extended key usage `clientAuth`, RFC 5280 §4.2.1.12).
    pub for_clients: bool,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl Facts {
    fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut key_hash = [0; 32];
        key_hash.copy_from_slice(digest(&SHA256, certificate.public_key().raw).as_ref());
        let (mut uris, mut dns) = (vec![], vec![]);
        if let Some(names) = certificate.subject_alternative_name().ok()? {
            if names.value.general_names.len() > MAX_NAMES {
                return None;
            }
            for name in &names.value.general_names {
                match name {
                    GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                    GeneralName::DNSName(name) if !name.contains('*') => dns.push(name.to_ascii_lowercase()),
                    GeneralName::DNSName(_)
                    | GeneralName::OtherName(..)
                    | GeneralName::RFC822Name(_)
                    | GeneralName::X400Address(_)
                    | GeneralName::DirectoryName(_)
                    | GeneralName::EDIPartyName(_)
                    | GeneralName::IPAddress(_)
                    | GeneralName::RegisteredID(_)
                    | GeneralName::Invalid(..) => {}
                }
            }
        }
        let usage = certificate.extended_key_usage().ok()?;
        let validity = certificate.validity();
        Some(Self {
            key_hash,
            uris,
            dns,
            for_clients: usage.is_some_and(|usage| usage.value.client_auth),
            not_before: timestamp(validity.not_before.timestamp()),
            not_after: timestamp(validity.not_after.timestamp()),
        })
    }
}

/// Reads what a certificate says of its holder, so that somebody can register it. Verifies nothing.
///
/// # Errors
/// `malformed` for what is no certificate.
pub fn credential_from_certificate(der: &[u8]) -> Result<Facts, Error> {
    Facts::read(der).ok_or_else(|| {
        Error::new(ErrorKind::Malformed, Stage::Decode, "not a certificate")
            .remedy("give one X.509 certificate, PEM or DER")
    })
}

/// When a certificate expires, seconds since 1970; `None` for what is no certificate.
pub fn certificate_expiry(der: &[u8]) -> Option<u64> {
    expires(der).map(Timestamp::seconds)
}

pub(crate) fn expires(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(timestamp(certificate.validity().not_after.timestamp()))
}

/// From seconds since 1970; whatever was before counts as 1970.
pub(crate) fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
}

/// A credential as certificates are compared with it: DNS names in lower case (RFC 4343), everything else byte by byte.
pub(crate) fn as_compared(credential: &Credential) -> Credential {
    match credential {
        Credential::Dns(name) => Credential::Dns(name.to_ascii_lowercase().into()),
        Credential::Uri(_) | Credential::KeyHash(_) | Credential::Issued { .. } => credential.clone(),
    }
}

/// Recognises the holder of a certificate, whose key TLS has already checked.
pub(crate) fn identify(prepared: &Prepared, peer: &Peer, now: Timestamp) -> Result<Identified, Reason> {
    let leaf = peer.chain().first().ok_or(Reason::NoProof)?;
    let facts = Facts::read(leaf).ok_or(Reason::Malformed)?;
    if now < facts.not_before || now >= facts.not_after {
        return Err(Reason::Expired);
    }
    // Signatures are checked whether anybody is registered under these names or not: how long that takes tells nothing of who is.
    let vouched = match facts.uris.is_empty() && facts.dns.is_empty() {
        true => Err(Reason::Unknown),
        false if !facts.for_clients => Err(Reason::OtherPurpose),
        false => prepared.trust.verify(peer.chain(), now),
    };
    let pinned =
        lookup(prepared, Credential::KeyHash(facts.key_hash)).map(|record| (record, "key".to_owned()));
    let (candidates, valid_until) = match (vouched, pinned) {
        (Ok(until), pinned) => {
            (pinned.into_iter().chain(named(prepared, &facts)).collect(), facts.not_after.min(until))
        }
        // A pinned key needs nobody who vouches for it, and names for which nobody vouches say nothing.
        (Err(_), Some(pinned)) => (vec![pinned], facts.not_after),
        (Err(reason), None) => return Err(reason),
    };
    let mut candidates = candidates.into_iter();
    let (record, matched) = candidates.next().ok_or(Reason::Unknown)?;
    if candidates.any(|(other, _)| other.name != record.name) {
        return Err(Reason::Ambiguous);
    }
    let authentication =
        Authentication::MutualTls { key_hash: Some(facts.key_hash), matched: matched.into_boxed_str() };
    Ok(Identified { record: Arc::clone(record), authentication, valid_until })
}

type Candidate<'a> = (&'a Arc<CallerRecord>, String);

fn lookup(prepared: &Prepared, credential: Credential) -> Option<&Arc<CallerRecord>> {
    prepared.by_credential.get(&credential)
}

/// Everybody who is registered under one of the names.
fn named<'a>(prepared: &'a Prepared, facts: &Facts) -> Vec<Candidate<'a>> {
    let uris = facts.uris.iter().filter_map(|uri| {
        Some((lookup(prepared, Credential::Uri(uri.as_str().into()))?, format!("uri:{uri}")))
    });
    let dns = facts.dns.iter().filter_map(|name| {
        Some((lookup(prepared, Credential::Dns(name.as_str().into()))?, format!("dns:{name}")))
    });
    uris.chain(dns).collect()
}
