//! TLS of a syslog sink (RFC 5425): whom it trusts, and as whom it comes.

use super::Failure;
use super::syslog::Settings;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::path::Path;
use std::sync::Arc;

const FILES: &str = "it must be PEM, readable by the user that Holdfast runs as";

/// A connection that is still to shake hands. The files are read anew, so that they can be renewed at any time.
///
/// # Errors
/// A [`Failure`] if a file cannot be read, holds nothing, or the name is none.
pub(super) fn connection(settings: &Settings) -> Result<ClientConnection, Failure> {
    let name = server_name(settings)?;
    let refused = |error: rustls::Error| Failure::new(format!("TLS cannot be spoken: {error}"), FILES);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.ca_file)? {
        roots.add(certificate).map_err(|error| unreadable(&settings.ca_file, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots);
    let config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            builder.with_client_auth_cert(certificates(certificate)?, private).map_err(refused)?
        }
    };
    ClientConnection::new(Arc::new(config), name).map_err(refused)
}

/// The name that the receiver's certificate must have.
fn server_name(settings: &Settings) -> Result<ServerName<'static>, Failure> {
    let name = match settings.server_name.as_str() {
        "" => host(&settings.address),
        name => name,
    };
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let problem = format!("`{name}` is neither a DNS name nor an address");
        Failure::new(problem, "set `server_name` to what the receiver's certificate says")
    })
}

/// The host in `HOST:PORT`.
pub(super) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| unreadable(path, &error))?;
    if read.is_empty() {
        return Err(Failure::new(format!("there is no certificate in `{}`", path.display()), FILES));
    }
    Ok(read)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot read a certificate or key from `{}`: {error}", path.display()), FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (address, name) in
            [("siem.example:6514", "siem.example"), ("10.0.0.7:6514", "10.0.0.7"), ("[::1]:6514", "::1")]
        {
            assert_eq!(host(address), name);
        }
        assert_eq!(host("siem.example"), "siem.example");
    }
}
