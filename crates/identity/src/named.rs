//! A client certificate of somebody else's public authority, by the name that it must have: a provider's, whom no tenant registers.

use crate::certificate::timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::peer::ProviderCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Whether a certificate names one of these DNS names: among its alternative names, or as its common name if it has none of that kind.
/// Names are compared without regard to case; there are no wildcards. Whether anybody vouches for it is not looked at.
pub fn is_named(der: &[u8], names: &[String]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let is_wanted = |found: &str| names.iter().any(|name| name.eq_ignore_ascii_case(found));
    let Ok(alternatives) = certificate.subject_alternative_name() else { return false };
    let (mut has_dns, mut is_named) = (false, false);
    for name in alternatives.iter().flat_map(|found| &found.value.general_names) {
        if let GeneralName::DNSName(dns) = name {
            has_dns = true;
            is_named |= is_wanted(dns);
        }
    }
    let mut common = certificate.subject().iter_common_name();
    match (has_dns, common.next(), common.next()) {
        (true, _, _) => is_named,
        (false, Some(name), None) => name.as_str().is_ok_and(is_wanted),
        (false, _, _) => false,
    }
}

/// What a certificate with one of these common names proves, once TLS has found that one of the provider's authorities vouches for it. It must have exactly one
/// common name; names are compared without regard to case, and there are no wildcards. What its alternative names say is not looked at.
pub fn provider(der: &[u8], common_names: &[String]) -> Option<ProviderCertificate> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let mut common = certificate.subject().iter_common_name();
    let (Some(name), None, true) = (common.next(), common.next(), rest.is_empty()) else { return None };
    let name = name.as_str().ok()?;
    let wanted = common_names.iter().find(|wanted| wanted.eq_ignore_ascii_case(name))?;
    let mut key_hash = [0; 32];
    key_hash.copy_from_slice(digest(&SHA256, certificate.public_key().raw).as_ref());
    let validity = certificate.validity();
    let [from, until] = [validity.not_before, validity.not_after].map(|at| timestamp(at.timestamp()));
    Some(ProviderCertificate::examined(key_hash, wanted.as_str().into(), (from, until)))
}
