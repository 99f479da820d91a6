//! Credentials: read from a certificate that somebody brought, or made here for them.

use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::caller::Credential;
use holdfast_gateway::credential;
use holdfast_gateway::directory::write_private;
use holdfast_sdk::CallerName;
use holdfast_sdk::field::CredentialText;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The SHA-256 of a certificate's public key: recognises its holder whoever issued it.
pub(crate) fn credential_of(path: &Path) -> Result<CredentialText, Failure> {
    let refused = || {
        Failure::usage(format!("`{}` is no certificate", path.display()))
            .remedy("give the person's or program's own certificate in PEM, without its key")
    };
    let pem = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|error| refused().because(&error))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| refused().because(&error))?;
    Ok(credential_by_key(certificate.public_key().raw))
}

fn credential_by_key(public_key: &[u8]) -> CredentialText {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, public_key).as_ref());
    CredentialText(Credential::KeyHash(hash))
}

/// When a certificate expires, seconds since 1970.
pub(crate) fn expiry(der: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// Makes a certificate and key for a caller: `DIR/NAME.pem` and `DIR/NAME.key`, the key never leaving this machine.
pub(crate) fn issue(dir: &Path, name: &CallerName) -> Result<(CredentialText, PathBuf), Failure> {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    for path in [&certificate, &key] {
        if path.exists() {
            return Err(Failure::new(Exit::State, format!("`{}` is there already", path.display()))
                .remedy("name another directory, or remove the file if nobody uses it any more"));
        }
    }
    let issued = credential::issue_client(name.as_str(), clock::now().seconds())?;
    write_private(&key, issued.key.as_bytes())?;
    write_private(&certificate, issued.certificate.as_bytes())?;
    Ok((CredentialText(Credential::KeyHash(issued.key_hash)), certificate))
}
