//! Whose certificates a peer that we call must have.

use crate::fault::Fault;
use crate::tls;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;

/// Where Debian and most others keep the authorities that the machine trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// TLS towards a peer whose certificate comes from the authorities in this file; where it is empty, from those of the machine.
///
/// # Errors
/// When there are none; `whose` says in the remedy whose they should be.
pub(crate) fn client(ca_file: &Path, whose: &str) -> Result<ClientConfig, Fault> {
    let roots = match ca_file.as_os_str().is_empty() {
        true => read(Path::new(SYSTEM_AUTHORITIES), whose)?,
        false => read(ca_file, whose)?,
    };
    with(roots)
}

/// TLS towards peers whose certificate comes from these.
///
/// # Errors
/// When TLS cannot be set up at all.
pub(crate) fn with(roots: RootCertStore) -> Result<ClientConfig, Fault> {
    Ok(ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new("TLS cannot be set up").because(error))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn read(path: &Path, whose: &str) -> Result<RootCertStore, Fault> {
    let refused = || {
        Fault::new(format!("cannot read certificate authorities from `{}`", path.display()))
            .remedy(format!("name the authority of {whose} certificate with `ca_file`, PEM"))
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refused().because(error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused().because(error))?;
        // Among the machine's own there may be one that nobody can use.
        let _unusable = roots.add(certificate);
    }
    if roots.is_empty() { Err(refused()) } else { Ok(roots) }
}
