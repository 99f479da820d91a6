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
