//! A tenant's trust anchors and their revocation lists (RFC 5280, checked by rustls-webpki).
//!
//! Where an anchor has a revocation list, **every** certificate below it must be covered by that list: a revoked intermediate vouches for
//! nobody, and one whose status nobody tells does not either. As an anchor brings one list, its own, this admits certificates that it
//! issued itself. An authority below it is trusted with revocation by registering it as an anchor too.
//!
//! A list that speaks of a certificate outweighs every other anchor: who is revoked by the authority that issued them is revoked, although
//! an authority above it, itself an anchor without a list, would vouch.
//!
//! The anchor's own expiry does not count (RFC 5280 §6.1.1 d): it is trusted until a custodian removes it.

use crate::certificate;
use crate::reason::Reason;
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
        let (leaf, intermediates) = chain.split_first().ok_or(Reason::NoProof)?;
        let leaf = CertificateDer::from(&**leaf);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|_| Reason::Malformed)?;
        let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(&**der)).collect();
        let mut reason = Reason::OtherAnchor;
        let mut vouched = None;
        for trusted in &self.anchors {
            match trusted.verify(&leaf, &intermediates, now) {
                Ok(until) => vouched = vouched.or(Some(until)),
                Err(Refusal { reason, outweighs: true }) => return Err(reason),
                // The anchor that the chain leads to knows best why it is refused.
                Err(Refusal { reason: Reason::OtherAnchor, outweighs: false }) => {}
                Err(Refusal { reason: other, outweighs: false }) => reason = other,
            }
        }
        vouched.ok_or(reason)
    }
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

    fn verify(
        &self,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Timestamp, Refusal> {
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
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let path = leaf
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                core::slice::from_ref(&self.anchor),
                intermediates,
                time,
                KeyUsage::client_auth(),
                options,
                None,
            )
            .map_err(Refusal::from)?;
        let until = self.revocations.as_ref().map_or(Timestamp::from_micros(u64::MAX), |own| own.next_update);
        let expiries = path.intermediate_certificates().map(|used| certificate::expires(&used.der()));
        expiries.into_iter().try_fold(until, |until, expiry| Ok(until.min(expiry.ok_or(Reason::Malformed)?)))
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
        if !is_signed(der, &parsed, &trusted.subject_public_key_info) {
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

/// Whether a list is signed by the key of a SubjectPublicKeyInfo (its content, RFC 5280 §4.1).
fn is_signed(der: &[u8], parsed: &CertificateRevocationList<'_>, key_info: &[u8]) -> bool {
    let signed = || {
        let (_, list) = Sequence::from_der(der).ok()?;
        let (rest, _) = Any::from_der(&list.content).ok()?;
        let (_, algorithm) = Sequence::from_der(rest).ok()?;
        let (rest, key_algorithm) = Sequence::from_der(key_info).ok()?;
        let (_, key) = BitString::from_der(rest).ok()?;
        let signature = &parsed.signature_value.data;
        let fits = |candidate: &&&dyn SignatureVerificationAlgorithm| {
            candidate.signature_alg_id().as_ref() == &*algorithm.content
                && candidate.public_key_alg_id().as_ref() == &*key_algorithm.content
        };
        let verified = webpki::ALL_VERIFICATION_ALGS.iter().filter(fits).any(|candidate| {
            candidate.verify_signature(&key.data, parsed.tbs_cert_list.as_ref(), signature).is_ok()
        });
        verified.then_some(())
    };
    signed().is_some()
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
