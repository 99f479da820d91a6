//! TLS of the public listener: what we show, what we ask of peers, and how both are exchanged without a restart.
//!
//! A client certificate is asked for and never demanded, and TLS checks only that the peer holds its key. Whether anybody vouches for it
//! is decided per request by the tenant's own trust anchors, so that a change of anchors, revocation lists or callers reaches live
//! connections, and one tenant's authority means nothing to another. Names that are one provider's alone are guarded: there the configured
//! authorities and names decide, in the handshake, and once more on what is open when the configuration was exchanged. The configuration is
//! swapped whole: with it end all resumptions.

use crate::config::{Tls, TlsVersion};
use crate::directory::Directory;
use crate::fault::Fault;
use crate::listener::About;
use crate::reload::LastReload;
use arc_swap::ArcSwap;
use holdfast_core::peer::Peer;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, LazyConfigAcceptor, TlsAcceptor};

/// The protocols that the listener speaks, the newer first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// How long whoever is refused may go on sending before the connection ends.
const LINGERING: Duration = Duration::from_secs(2);
/// The most certificates that a peer may show.
const MAX_CHAIN: usize = 8;

/// The configuration in force, to be taken anew for each connection.
pub struct TlsState {
    settings: Tls,
    directory: Directory,
    guards: Vec<Guard>,
    current: ArcSwap<Served>,
    last: LastReload,
}

/// What is served, by the name that a client asks for.
pub(crate) struct Served {
    /// The certificate, with its key.
    shown: Arc<CertifiedKey>,
    open: Arc<ServerConfig>,
    guarded: HashMap<Box<str>, (Arc<ServerConfig>, Arc<Expected>)>,
}

/// A name that is served only to whom shows a certificate of these authorities for one of these names.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// What clients ask for (RFC 6066 §3), in lower case.
    pub(crate) server_name: Box<str>,
    /// The authorities, PEM.
    pub(crate) ca_file: PathBuf,
    /// The names.
    pub(crate) names: Names,
}

/// Whether clients can ask for this name: they ask for none that is an address (RFC 6066 §3), and for none that ends with a dot.
pub fn can_be_asked_for(name: &str) -> bool {
    matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))) && !name.ends_with('.')
}

/// What a certificate must be for, and how its owner speaks.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    /// One of these DNS names, as servers' certificates have them.
    Dns(Vec<String>),
    /// One of these, as its subject's common name; over TLS 1.3 and HTTP/1.1 alone.
    Common(Vec<String>),
}

impl Names {
    fn is_among(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Dns(names) => holdfast_identity::is_named(certificate, names),
            Self::Common(names) => holdfast_identity::provider(certificate, names).is_some(),
        }
    }

    /// The oldest TLS, and the protocols on it.
    fn spoken(&self, settings: &Tls) -> (TlsVersion, &'static [&'static [u8]]) {
        match self {
            Self::Dns(_) => (settings.minimum_version, &ALPN),
            Self::Common(_) => (TlsVersion::V1_3, &[b"http/1.1"]),
        }
    }
}

impl TlsState {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub fn load(settings: &Tls, directory: &Directory) -> Result<Self, Fault> {
        Self::guarded(settings, directory, vec![])
    }

    /// The same, with names that not everybody is served under.
    ///
    /// # Errors
    /// As [`TlsState::load`]; and when a guard's authorities cannot be read.
    pub(crate) fn guarded(settings: &Tls, directory: &Directory, guards: Vec<Guard>) -> Result<Self, Fault> {
        let expected = guards.iter().map(Expected::of).collect::<Result<Vec<_>, _>>()?;
        let served = Served::of(settings, shown(settings, directory)?, guards.iter().zip(expected))?;
        let current = ArcSwap::new(Arc::new(served));
        let (settings, directory) = (settings.clone(), directory.clone());
        Ok(Self { settings, directory, guards, current, last: LastReload::default() })
    }

    /// The configuration for a new connection.
    pub(crate) fn current(&self) -> Arc<Served> {
        self.current.load_full()
    }

    /// Whether a connection under a guarded name would be let in under it now: after an exchange its certificate is looked at again.
    pub(crate) fn still_lets_in(&self, about: &About) -> bool {
        let Some(name) = about.guarded.as_deref() else { return true };
        let served = self.current();
        if Arc::ptr_eq(&served, &about.let_in_by.load()) {
            return true;
        }
        let chain = about.peer.as_ref().map(Peer::chain).unwrap_or_default();
        let is_let_in = served.guarded.get(name).is_some_and(|(_, expected)| expected.lets_in(chain));
        if is_let_in {
            about.let_in_by.store(served);
        }
        is_let_in
    }

    /// Reads certificate and key again, and the authorities of each guard. Of what is refused that stays which is in force; all else is exchanged.
    ///
    /// # Errors
    /// For all that is refused.
    pub fn reload(&self) -> Result<(), Fault> {
        self.last.keep(self.exchange())
    }

    /// What the last reload refused.
    pub(crate) fn refused(&self) -> Option<Arc<String>> {
        self.last.refused()
    }

    fn exchange(&self) -> Result<(), Fault> {
        let (before, mut refused) = (self.current(), vec![]);
        let shown = shown(&self.settings, &self.directory).unwrap_or_else(|fault| {
            refused.push(fault);
            Arc::clone(&before.shown)
        });
        let mut guarded = Vec::with_capacity(self.guards.len());
        for guard in &self.guards {
            match (Expected::of(guard), before.guarded.get(&guard.server_name)) {
                (Ok(expected), _) => guarded.push((guard, expected)),
                (Err(fault), Some((_, expected))) => {
                    refused.push(fault);
                    guarded.push((guard, Arc::clone(expected)));
                }
                (Err(fault), None) => return Err(fault),
            }
        }
        self.current.store(Arc::new(Served::of(&self.settings, shown, guarded)?));
        Fault::all(refused)
    }

    /// When the certificate in force expires, seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        holdfast_identity::certificate_expiry(self.current().shown.end_entity_cert().ok()?)
    }
}

impl Served {
    fn of<'g>(
        settings: &Tls,
        shown: Arc<CertifiedKey>,
        guards: impl IntoIterator<Item = (&'g Guard, Arc<Expected>)>,
    ) -> Result<Self, Fault> {
        let algorithms = provider().signature_verification_algorithms;
        let open = build(&shown, (settings.minimum_version, &ALPN), Arc::new(Possession { algorithms }))?;
        let guarded = guards.into_iter().map(|(guard, expected)| {
            let config = build(&shown, guard.names.spoken(settings), Arc::clone(&expected) as _)?;
            Ok((guard.server_name.clone(), (config, expected)))
        });
        Ok(Self { open, guarded: guarded.collect::<Result<_, Fault>>()?, shown })
    }

    /// What everybody is served with.
    pub(crate) fn open(&self) -> &ServerConfig {
        &self.open
    }

    /// Accepts a connection; gives the guarded name that it was accepted under, if it was one.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Option<Box<str>>), Refused> {
        if self.guarded.is_empty() {
            let accept = TlsAcceptor::from(Arc::clone(&self.open)).accept(stream);
            return Ok((accepted(accept).await?, None));
        }
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let asked = begun.client_hello().server_name().map(str::to_ascii_lowercase);
        let guarded = asked.and_then(|name| self.guarded.get_key_value(&*name));
        let (name, config) = match guarded {
            Some((name, (config, _))) => (Some(name.clone()), config),
            None => (None, &self.open),
        };
        Ok((accepted(begun.into_stream(Arc::clone(config))).await?, name))
    }
}

/// Who was refused in the handshake.
pub(crate) struct Refused {
    /// Why.
    pub(crate) error: io::Error,
    /// The connection, where the peer may be sending.
    stream: Option<TcpStream>,
}

impl Refused {
    /// Takes what the peer still sends. In TLS 1.3 whoever is refused has begun to ask by then, and the system would reset a connection of which something is
    /// unread: the peer might never see why it was refused.
    pub(crate) async fn linger(self, until: Instant) {
        let Some(mut stream) = self.stream else { return };
        let taken = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let _taken = timeout_at(until.min(Instant::now() + LINGERING), taken).await;
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { error, stream: None }
    }
}

/// A connection, once its handshake is over.
async fn accepted(accept: Accept<TcpStream>) -> Result<TlsStream<TcpStream>, Refused> {
    accept.into_fallible().await.map_err(|(error, stream)| Refused { error, stream: Some(stream) })
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

/// The certificate and its key, as they lie in their files.
fn shown(settings: &Tls, directory: &Directory) -> Result<Arc<CertifiedKey>, Fault> {
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
    let refused = |error: rustls::Error| {
        Fault::new(format!("`{}` and `{}` are refused", certificates.display(), key.display()))
            .remedy(
                "check that the key is the certificate's, and that the chain begins with the server's own",
            )
            .because(error)
    };
    CertifiedKey::from_der(chain, private, &provider()).map(Arc::new).map_err(refused)
}

fn build(
    shown: &Arc<CertifiedKey>,
    (oldest, protocols): (TlsVersion, &[&[u8]]),
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, Fault> {
    let versions: &[&rustls::SupportedProtocolVersion] = match oldest {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| Fault::new("TLS cannot be set up").because(error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(shown))));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // No early data: it can be replayed.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Lets in who shows a certificate of its authorities for one of its names, as TLS itself checks it. To any other the handshake fails, in the same
/// words whatever was wrong.
#[derive(Debug)]
struct Expected {
    authorities: Arc<dyn ClientCertVerifier>,
    names: Names,
}

impl Expected {
    fn of(guard: &Guard) -> Result<Arc<Self>, Fault> {
        let Guard { server_name, ca_file, names } = guard;
        let refused = || {
            Fault::new(format!("the authorities of `{server_name}` in `{}` are refused", ca_file.display()))
                .remedy("give those that vouch for the provider's certificate, in PEM")
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refused().because(error))?;
        for certificate in certificates {
            roots.add(certificate).map_err(|error| refused().because(error))?;
        }
        let authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| refused().because(error))?;
        Ok(Arc::new(Self { authorities, names: names.clone() }))
    }

    fn lets_in(&self, chain: &[Box<[u8]>]) -> bool {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(&**der)).collect();
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.verify_client_cert(leaf, intermediates, UnixTime::now()).is_ok()
    }
}

impl ClientCertVerifier for Expected {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Errors of this kind are sent as `handshake_failure`, which the provider's test client looks for.
        let refused = |why: &str| rustls::Error::General(why.to_owned());
        if intermediates.len() >= MAX_CHAIN {
            return Err(refused("too many certificates"));
        }
        let shown = std::iter::once(end_entity).chain(intermediates);
        if !holdfast_identity::is_searchable(shown.map(|certificate| certificate.as_ref())) {
            return Err(refused("too many certificates of one name, or too long ones"));
        }
        let verified = self.authorities.verify_client_cert(end_entity, intermediates, now);
        let verified = verified.map_err(|error| refused(&error.to_string()))?;
        match self.names.is_among(end_entity) {
            true => Ok(verified),
            false => Err(refused("the client's certificate has another name")),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Who is refused, and whom it is that stays and says nothing.
    async fn refused() -> (Refused, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Refused { error: io::ErrorKind::Other.into(), stream: Some(stream) }, peer)
    }

    #[tokio::test]
    async fn whoever_is_refused_is_listened_to_for_a_while_and_no_longer_than_a_handshake_takes() {
        let (stays, _peer) = refused().await;
        let far = Instant::now() + LINGERING * 100;
        let ended = tokio::time::timeout(LINGERING * 30, stays.linger(far)).await;
        assert!(ended.is_ok(), "it is listened to for as long as it stays");

        let (is_late, _peer) = refused().await;
        let begin = Instant::now();
        is_late.linger(begin).await;
        assert!(begin.elapsed() < LINGERING, "it had more than a handshake's time");
    }
}
