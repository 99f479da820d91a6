//! What a device's vendor says of a key: a chain of X.509 certificates whose first one is of the key's own public half.
//!
//! That is how devices attest keys that they made: YubiHSM 2 and those like it sign such a certificate with a key of the device, which its maker has
//! certified. What else they say of the key stands in extensions of the maker's own, and is not read here.

use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::frame::Commitment;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::path::Path;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longer chains are none.
const MAX_CHAIN: usize = 8;

/// A chain, the key's own certificate first.
pub(super) struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    /// Reads one: PEM, the key's own certificate first, its maker's root last or left out.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        certificates(path).map(Self)
    }

    /// Of the DER of its certificates, in the same order.
    pub(super) fn of(ders: Vec<Vec<u8>>) -> Self {
        Self(ders.into_iter().map(CertificateDer::from).collect())
    }

    /// The DER of its certificates.
    pub(super) fn ders(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|certificate| &**certificate)
    }

    /// Whether it is of a key of this commitment.
    pub(super) fn is_of(&self, algorithm: Algorithm, commitment: &str) -> bool {
        let first = self.0.first().map(|first| X509Certificate::from_der(first));
        let Some(Ok((_, certificate))) = first else { return false };
        let Commitment(own) = Commitment::to(algorithm, certificate.public_key().raw);
        own.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == commitment
    }

    /// The root that vouches for it now, by its subject; why none does, otherwise.
    pub(super) fn vouched(&self, roots: &Roots) -> Result<String, String> {
        let (first, rest) = self.0.split_first().ok_or("the chain is empty")?;
        if rest.len() >= MAX_CHAIN {
            return Err(format!("a chain has at most {MAX_CHAIN} certificates"));
        }
        let certificate =
            EndEntityCert::try_from(first).map_err(|error| format!("no certificate of a key: {error}"))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(clock::now().seconds()));
        let mut why = "no root was given".to_owned();
        for Root { anchor, subject } in &roots.0 {
            // Vendors say nothing of its use for connections; whoever does means another use than this.
            let use_for = KeyUsage::required_if_present(NO_EXTENDED_USE);
            let verified = certificate.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(anchor),
                rest,
                now,
                use_for,
                None,
                None,
            );
            match verified {
                Ok(_) => return Ok(subject.clone()),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

/// An OID that no certificate has: of 2.25, made of a random number.
const NO_EXTENDED_USE: &[u8] = &[0x69, 0x82, 0xe3, 0x9b, 0x86, 0xd1, 0x95, 0xa7, 0xb1, 0x8c, 0x5f];

/// Roots that whoever verifies has from the vendors themselves.
pub(super) struct Roots(Vec<Root>);

struct Root {
    anchor: TrustAnchor<'static>,
    subject: String,
}

impl Roots {
    pub(super) fn read(paths: &[impl AsRef<Path>]) -> Result<Self, Failure> {
        let mut roots = vec![];
        for path in paths {
            for certificate in certificates(path.as_ref())? {
                let refused = |error: &dyn std::fmt::Display| {
                    Failure::new(
                        Exit::Usage,
                        format!("`{}` holds a certificate that is no root: {error}", path.as_ref().display()),
                    )
                    .remedy("give the vendor's own root certificate in PEM, from the vendor")
                };
                let anchor = anchor_from_trusted_cert(&certificate).map_err(|error| refused(&error))?;
                let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| refused(&error))?;
                roots.push(Root { anchor: anchor.to_owned(), subject: parsed.subject().to_string() });
            }
        }
        Ok(Self(roots))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        Ok(_) | Err(_) => {
            Err(Failure::new(Exit::Usage, format!("`{}` holds no certificates", path.display()))
                .remedy("give certificates in PEM: the key's own first, then those above it"))
        }
    }
}
