//! TLS of the public listener: what we show, what we ask of peers, and how both are exchanged without a restart.
//!
//! A client certificate is asked for and never demanded, and TLS checks only that the peer holds its key. Whether anybody vouches for it
//! is decided per request by the tenant's own trust anchors, so that a change of anchors, revocation lists or callers reaches live
//! connections, and one tenant's authority means nothing to another. The configuration is swapped whole: with it end all resumptions.

use crate::config::{Tls, TlsVersion};
use crate::directory::Directory;
use crate::fault::Fault;
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The protocols that the listener speaks, the newer first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The most certificates that a peer may show.
const MAX_CHAIN: usize = 8;

/// The configuration in force, to be taken anew for each connection.
pub struct TlsState {
    settings: Tls,
    directory: Directory,
    current: ArcSwap<ServerConfig>,
}

impl TlsState {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub fn load(settings: &Tls, directory: &Directory) -> Result<Self, Fault> {
        let config = build(settings, directory)?;
        Ok(Self { settings: settings.clone(), directory: directory.clone(), current: ArcSwap::new(config) })
    }

    /// The configuration for a new connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads certificate and key again. The ones in force stay when the new ones are refused.
    ///
    /// # Errors
    /// As [`TlsState::load`].
    pub fn reload(&self) -> Result<(), Fault> {
        self.current.store(build(&self.settings, &self.directory)?);
        Ok(())
    }

    /// When the certificate in force expires, seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        let (certificates, _) = files(&self.settings, &self.directory);
        let leaf = CertificateDer::pem_file_iter(certificates).ok()?.next()?.ok()?;
        holdfast_identity::certificate_expiry(&leaf)
    }
}

fn files(settings: &Tls, directory: &Directory) -> (PathBuf, PathBuf) {
    let or = |path: &Path, name: &str| match path.as_os_str().is_empty() {
        true => directory.tls().join(name),
        false => path.to_path_buf(),
    };
    (or(&settings.certificate_file, "server.pem"), or(&settings.key_file, "server.key"))
}

/// The cryptography that all of Holdfast's TLS uses: hybrid post-quantum key exchange first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn build(settings: &Tls, directory: &Directory) -> Result<Arc<ServerConfig>, Fault> {
    let (certificates, key) = files(settings, directory);
    let unreadable = |path: &Path, error: rustls::pki_types::pem::Error| {
        Fault::new(format!("cannot read a certificate or key from `{}`", path.display()))
            .remedy("it must be PEM, readable by the user that Holdfast runs as")
            .because(error)
    };
    let chain = CertificateDer::pem_file_iter(&certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(&certificates, error))?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| unreadable(&key, error))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.minimum_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let provider = provider();
    let verifier = Arc::new(Possession { algorithms: provider.signature_verification_algorithms });
    let refused = |error: rustls::Error| {
        Fault::new(format!("`{}` and `{}` are refused", certificates.display(), key.display()))
            .remedy(
                "check that the key is the certificate's, and that the chain begins with the server's own",
            )
            .because(error)
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(refused)?;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    // No early data: it can be replayed.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Checks that the peer holds the key of the certificate that it shows, and nothing else.
#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(rustls::Error::General("too many certificates".to_owned()));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
