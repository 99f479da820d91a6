//! What a chain may be. Whoever shows it has made it, and the library tries each certificate of it as the issuer of each other one of that name: seven
//! namesakes are thousands of paths, and each step reads them all, whether or not a signature is ever looked at.

use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Bytes of all certificates together. Eight with RSA keys of 4096 bits fit in.
const MAX_BYTES: usize = 16 << 10;
/// Authorities of one name, above the leaf: one may have been certified anew, or by two others.
const MAX_NAMESAKES: usize = 2;

/// A chain that can be searched for a path: the names in it, each the content of its DER sequence.
#[derive(Debug)]
pub(crate) struct Searchable {
    issuers: Vec<Box<[u8]>>,
}

impl Searchable {
    /// The leaf, and whatever was shown with it in any order; none where that is too much, or a certificate among it is none.
    pub(crate) fn of<'a>(chain: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Self> {
        if chain.clone().map(<[u8]>::len).sum::<usize>() > MAX_BYTES {
            return None;
        }
        let (mut issuers, mut subjects) = (vec![], vec![]);
        for der in chain {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            issuers.push(content(certificate.issuer().as_raw())?);
            subjects.push(content(certificate.subject().as_raw())?);
        }
        let above = subjects.get(1..).unwrap_or_default();
        let namesakes = |name: &[u8]| above.iter().filter(|other| ***other == *name).count();
        above.iter().all(|name| namesakes(name) <= MAX_NAMESAKES).then_some(Self { issuers })
    }

    /// Whether one of the certificates says that an authority of this name has issued it. Where none does, none of its paths leads there.
    pub(crate) fn leads_to(&self, subject: &[u8]) -> bool {
        self.issuers.iter().any(|issuer| **issuer == *subject)
    }
}

/// Whether the paths of a chain, the leaf first, are few enough to be looked for, and its certificates are certificates.
pub fn is_searchable<'a>(chain: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
    Searchable::of(chain).is_some()
}

/// A name without its tag and length, as anchors have theirs.
pub(crate) fn content(der: &[u8]) -> Option<Box<[u8]>> {
    Any::from_der(der).ok().map(|(_, name)| Box::from(name.data))
}
