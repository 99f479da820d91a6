//! A client certificate of somebody else's public authority, by the name that it must have: a provider's, whom no tenant registers.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Whether a certificate names one of these DNS names: among its alternative names, or as its common name if it has none of that kind.
/// Names are compared without regard to case; there are no wildcards. Whether anybody vouches for it is not looked at.
pub fn is_named(der: &[u8], names: &[String]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let is_wanted = |found: &str| names.iter().any(|name| name.eq_ignore_ascii_case(found));
    let Ok(alternatives) = certificate.subject_alternative_name() else { return false };
    let mut dns =
        alternatives.iter().flat_map(|found| &found.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some(*dns),
            _ => None,
        });
    match dns.next() {
        Some(first) => is_wanted(first) || dns.any(is_wanted),
        None => {
            let mut common = certificate.subject().iter_common_name();
            matches!((common.next(), common.next()), (Some(name), None) if name.as_str().is_ok_and(is_wanted))
        }
    }
}
