//! A tenant's trust anchors and their revocation lists (RFC 5280, checked by rustls-webpki).
//!
//! Where an anchor has a revocation list, **every** certificate below it must be covered by that list: a revoked intermediate vouches for
//! nobody, and one whose status nobody tells does not either. As an anchor brings one list, its own, this admits certificates that it
//! issued itself. An authority below it is trusted with revocation by registering it as an anchor too.
//!
//! A list that speaks of a certificate outweighs every other anchor: who is revoked by the authority that issued them is revoked, although
//! an authority above it, itself an anchor without a list, would vouch.
//!
//! How many paths of one chain are looked for, and how many signatures are checked, is bounded: whoever shows it has made it, and can make one of
//! which the library tries a path after another. Where the bound ends the search nobody vouches, since what was not looked at may be what revokes.
//!
//! The anchor's own expiry does not count (RFC 5280 §6.1.1 d): it is trusted until a custodian removes it.

mod checks;

use crate::certificate;
use crate::chain::{self, Searchable};
use crate::reason::Reason;
use checks::{Algorithms, Checks};
use core::time::Duration;
use holdfast_core::tenant::Anchor;
use holdfast_core::{Error, ErrorKind, Stage, Timestamp};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};
use x509_parser::asn1_rs::{Any, BitString, Sequence};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

const FOR_EVER: Timestamp = Timestamp::from_micros(u64::MAX);

/// Every anchor by itself, with its own revocation list: one authority's list says nothing of another's certificates.
#[derive(Debug)]
pub(crate) struct Trust {
    anchors: Vec<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    anchor: TrustAnchor<'static>,
    revocations: Option<Revocations>,
}

#[derive(Debug)]
struct Revocations {
    list: CertRevocationList<'static>,
    next_update: Timestamp,
}

impl Trust {
    pub(crate) fn new(anchors: &[Anchor]) -> Result<Self, Error> {
        let anchors = anchors.iter().map(Trusted::new).collect::<Result<_, _>>()?;
        Ok(Self { anchors })
    }

    /// Whether one of the anchors vouches for a chain as a client's, and until when what it says holds.
    pub(crate) fn verify(&self, chain: &[Box<[u8]>], now: Timestamp) -> Result<Timestamp, Reason> {
        let meant = self.meant(chain).ok_or(Reason::OtherAnchor)?;
        self.verify_within(&Checks::of(meant.len()), &meant, chain, now)
    }

    /// The anchors to which something of a chain leads; none for one that cannot be searched.
    fn meant(&self, chain: &[Box<[u8]>]) -> Option<Vec<&Trusted>> {
        let searchable = Searchable::of(chain.iter().map(|der| &**der))?;
        Some(self.anchors.iter().filter(|trusted| searchable.leads_to(&trusted.anchor.subject)).collect())
    }

    fn verify_within(
        &self,
        checks: &Checks,
        meant: &[&Trusted],
        chain: &[Box<[u8]>],
        now: Timestamp,
    ) -> Result<Timestamp, Reason> {
        let (leaf, intermediates) = chain.split_first().ok_or(Reason::NoProof)?;
        let leaf = CertificateDer::from(&**leaf);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|_| Reason::Malformed)?;
        let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(&**der)).collect();
        let algorithms = checks.algorithms();
        let shown = Shown { leaf, intermediates, algorithms: &algorithms, now };
        let mut reason = Reason::OtherAnchor;
        let mut vouched: Option<(Timestamp, Vec<CertificateDer<'_>>)> = None;
        for trusted in meant {
            match trusted.verify(&shown) {
                Ok(found) => vouched = vouched.or(Some(found)),
                Err(Refusal { reason, outweighs: true }) => return Err(reason),
                // The anchor that the chain leads to knows best why it is refused.
                Err(Refusal { reason: Reason::OtherAnchor, outweighs: false }) => {}
                Err(Refusal { reason: other, outweighs: false }) => reason = other,
            }
        }
        let (mut until, path) = vouched.ok_or(reason)?;
        // What a search says that found no path is the worst that it met, and whoever made the chain can put in what is worse than revoked.
        for trusted in &self.anchors {
            for der in &path {
                until = until.min(trusted.clears(der, &algorithms, now)?);
            }
        }
        match checks.are_spent() {
            true => Err(Reason::OtherAnchor),
            false => Ok(until),
        }
    }
}

/// A chain, and what it is examined with.
struct Shown<'a> {
    leaf: EndEntityCert<'a>,
    intermediates: Vec<CertificateDer<'a>>,
    algorithms: &'a Algorithms<'a>,
    now: Timestamp,
}

/// Why an anchor does not vouch.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    reason: Reason,
    /// Whether no other anchor may vouch either: this one's list is the one that speaks of the certificate, and does not clear it.
    outweighs: bool,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, outweighs: false }
    }
}

impl From<webpki::Error> for Refusal {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        // An unknown status is left out: the list is of another authority than the one that issued the certificate.
        let outweighs = matches!(
            error,
            E::CertRevoked
                | E::CrlExpired { .. }
                | E::IssuerNotCrlSigner
                | E::InvalidCrlSignatureForPublicKey
                | E::UnsupportedCrlSignatureAlgorithmContext(_)
                | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
        );
        Self { reason: reason(error), outweighs }
    }
}

impl Trusted {
    fn new(anchor: &Anchor) -> Result<Self, Error> {
        let no_authority = || {
            let remedy = "give the authority's own certificate, PEM or DER, never that of a caller";
            refuse(anchor, "not a certificate authority's certificate", remedy)
        };
        // The library takes whatever it is told to trust: a caller's own certificate would let that caller vouch for others.
        if !is_authority(&anchor.certificate) {
            return Err(no_authority());
        }
        let der = CertificateDer::from(&*anchor.certificate);
        let trusted =
            anchor_from_trusted_cert(&der).map_err(|error| no_authority().because(error))?.to_owned();
        let revocations = match &anchor.revocations {
            Some(_) if !signs_lists(&anchor.certificate) => {
                let remedy = "put the authority without a list, or give the authority that signs its lists";
                return Err(refuse(anchor, "its certificate does not let it sign revocation lists", remedy));
            }
            Some(der) => Some(Revocations::new(anchor, &trusted, der)?),
            None => None,
        };
        Ok(Self { anchor: trusted, revocations })
    }

    /// Until when it vouches, and for the certificates of which path.
    fn verify<'a>(&'a self, shown: &'a Shown<'_>) -> Result<(Timestamp, Vec<CertificateDer<'a>>), Refusal> {
        let lists: Vec<&CertRevocationList<'_>> = self.revocations.iter().map(|own| &own.list).collect();
        let options = match RevocationOptionsBuilder::new(&lists) {
            Ok(builder) => Some(
                builder
                    .with_depth(RevocationCheckDepth::Chain)
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build(),
            ),
            // The builder refuses an empty list only: this anchor has no revocation list.
            Err(_) => None,
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(shown.now.seconds()));
        let path = shown
            .leaf
            .verify_for_usage(
                &shown.algorithms.each(),
                core::slice::from_ref(&self.anchor),
                &shown.intermediates,
                time,
                KeyUsage::client_auth(),
                options,
                None,
            )
            .map_err(Refusal::from)?;
        let until = self.revocations.as_ref().map_or(FOR_EVER, |own| own.next_update);
        let mut certificates = vec![shown.leaf.der()];
        certificates.extend(path.intermediate_certificates().map(|used| used.der().into_owned()));
        let expiries = certificates.iter().skip(1).map(|der| certificate::expires(der));
        let until = expiries
            .into_iter()
            .try_fold(until, |until, expiry| Ok::<_, Refusal>(until.min(expiry.ok_or(Reason::Malformed)?)))?;
        Ok((until, certificates))
    }

    /// Whether a certificate is none that this anchor has issued, or its list has it not and still holds; until when that is so.
    fn clears(&self, der: &[u8], algorithms: &Algorithms<'_>, now: Timestamp) -> Result<Timestamp, Reason> {
        let Some(own) = &self.revocations else { return Ok(FOR_EVER) };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Reason::Malformed)?;
        let issuer = chain::content(certificate.issuer().as_raw()).ok_or(Reason::Malformed)?;
        if *issuer != *self.anchor.subject {
            return Ok(FOR_EVER);
        }
        let is_listed =
            own.list.find_serial(certificate.raw_serial()).map_err(|_| Reason::StatusUnknown)?.is_some();
        let reason = match (is_listed, now >= own.next_update) {
            (true, _) => Reason::Revoked,
            (false, true) => Reason::StatusUnknown,
            (false, false) => return Ok(own.next_update),
        };
        // Another authority may have the name.
        let (signed, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
        match is_signed(der, signed, signature, &self.anchor.subject_public_key_info, &algorithms.each()) {
            true => Err(reason),
            false => Ok(FOR_EVER),
        }
    }
}

impl Revocations {
    fn new(anchor: &Anchor, trusted: &TrustAnchor<'_>, der: &[u8]) -> Result<Self, Error> {
        let parsed = parsed_list(anchor, der)?;
        let next = parsed.next_update().ok_or_else(|| {
            let remedy = "have the authority set `nextUpdate` (RFC 5280 §5.1.2.5): a list that never ends would hide that it is not renewed";
            refuse(anchor, "a revocation list without its next update", remedy)
        })?;
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| {
            let remedy = "give a complete list of version 2, neither a delta nor an indirect one";
            refuse(anchor, "a revocation list of a kind that cannot be checked", remedy).because(error)
        })?;
        let list = CertRevocationList::from(list);
        if list.issuer() != &*trusted.subject {
            let remedy = "give the list that this very authority issues; register the one that issued it as an anchor of its own";
            return Err(refuse(anchor, "a revocation list of another authority", remedy));
        }
        let (signed, signature) = (parsed.tbs_cert_list.as_ref(), &parsed.signature_value.data);
        let key_info = &trusted.subject_public_key_info;
        if !is_signed(der, signed, signature, key_info, webpki::ALL_VERIFICATION_ALGS) {
            let remedy = "fetch the list anew: it was changed, or an authority of the same name with another key signed it";
            return Err(refuse(anchor, "a revocation list that the authority's key has not signed", remedy));
        }
        Ok(Self { list, next_update: certificate::timestamp(next.timestamp()) })
    }
}

/// Whether one anchor may take the place of another: not with an older list of the same authority, nor without one.
pub(crate) fn replace(before: &Anchor, after: &Anchor) -> Result<(), Error> {
    let Some(old) = &before.revocations else { return Ok(()) };
    let anew = "to begin anew, remove the anchor first, which stops everybody whom it vouches for";
    let refuse = |what: &str, remedy: String| {
        let detail = format!("trust anchor `{}`: {what}", before.name);
        Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail).remedy(remedy))
    };
    let Some(new) = &after.revocations else {
        return refuse(
            "it has a revocation list, and would lose it",
            format!("give its newest list too; {anew}"),
        );
    };
    let (old, new) = (parsed_list(before, old)?, parsed_list(after, new)?);
    if old.issuer().as_raw() != new.issuer().as_raw() {
        return Ok(());
    }
    // RFC 5280 §5.2.3: the number grows with each list. Where one has none, the time has to do.
    let is_older = match (old.crl_number(), new.crl_number()) {
        (Some(old), Some(new)) => new < old,
        (_, _) => new.last_update().timestamp() < old.last_update().timestamp(),
    };
    match is_older {
        true => refuse("its revocation list is newer than this one", format!("give the newest list; {anew}")),
        false => Ok(()),
    }
}

fn parsed_list<'a>(anchor: &Anchor, der: &'a [u8]) -> Result<CertificateRevocationList<'a>, Error> {
    let no_list =
        |_| refuse(anchor, "not a revocation list", "give the authority's revocation list, PEM or DER");
    CertificateRevocationList::from_der(der).map(|(_, parsed)| parsed).map_err(no_list)
}

/// Whether a list or a certificate is signed by the key of a SubjectPublicKeyInfo (its content, RFC 5280 §4.1).
fn is_signed(
    der: &[u8],
    signed: &[u8],
    signature: &[u8],
    key_info: &[u8],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let verified = || {
        let (_, whole) = Sequence::from_der(der).ok()?;
        let (rest, _) = Any::from_der(&whole.content).ok()?;
        let (_, algorithm) = Sequence::from_der(rest).ok()?;
        let (rest, key_algorithm) = Sequence::from_der(key_info).ok()?;
        let (_, key) = BitString::from_der(rest).ok()?;
        let fits = |candidate: &&&dyn SignatureVerificationAlgorithm| {
            candidate.signature_alg_id().as_ref() == &*algorithm.content
                && candidate.public_key_alg_id().as_ref() == &*key_algorithm.content
        };
        let verified = algorithms
            .iter()
            .filter(fits)
            .any(|candidate| candidate.verify_signature(&key.data, signed, signature).is_ok());
        verified.then_some(())
    };
    verified().is_some()
}

/// Whether a certificate lets its key sign revocation lists (RFC 5280 §4.2.1.3).
fn signs_lists(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    })
}

/// Whether a certificate says that it may issue others (RFC 5280 §4.2.1.9, §4.2.1.3).
fn is_authority(der: &[u8]) -> bool {
    let Ok((rest, certificate)) = X509Certificate::from_der(der) else { return false };
    let signs = match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    rest.is_empty() && certificate.is_ca() && signs
}

fn refuse(anchor: &Anchor, what: &str, remedy: &'static str) -> Error {
    let detail = format!("trust anchor `{}`: {what}", anchor.name);
    Error::new(ErrorKind::Malformed, Stage::Resolve, detail).remedy(remedy)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's list of errors grows, and most mean the same here"
)]
fn reason(error: webpki::Error) -> Reason {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } => Reason::Expired,
        E::CertRevoked => Reason::Revoked,
        E::UnknownRevocationStatus
        | E::CrlExpired { .. }
        | E::IssuerNotCrlSigner
        | E::InvalidCrlSignatureForPublicKey
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Reason::StatusUnknown,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Reason::OtherPurpose,
        E::BadDer | E::BadDerTime => Reason::Malformed,
        _ => Reason::OtherAnchor,
    }
}

#[cfg(test)]
mod tests;
