//! A look at the connection itself: what was negotiated, and what the server showed.

use crate::client::Client;
use crate::error::{self, Cause, Error, is_of_tls};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a connection is listened to for a refusal: it follows the handshake at once, if it comes.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a TLS handshake with the gateway gave.
#[derive(Debug, Clone)]
pub struct Probe {
    /// `TLSv1_3` and so on.
    pub version: String,
    /// The key exchange, such as `X25519MLKEM768`.
    pub key_exchange: String,
    /// The server's certificates, its own first, DER.
    pub certificates: Vec<Vec<u8>>,
}

impl Client {
    /// Connects once, past the pool, and tells what was negotiated.
    ///
    /// # Errors
    /// When nobody answers, or whoever answers is not trusted.
    pub async fn probe(&self) -> Result<Probe, Error> {
        let stream = self.connect().await?;
        let (_, session) = stream.get_ref();
        Ok(Probe {
            version: session.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
            key_exchange: session
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
            certificates: session
                .peer_certificates()
                .map(|chain| chain.iter().map(|certificate| certificate.to_vec()).collect())
                .unwrap_or_default(),
        })
    }

    /// Why the gateway ends a connection of this client's, if it does so with a word. In TLS 1.3 a client has finished its handshake before the
    /// server has seen its certificate: the refusal comes where an answer is expected, and neither HTTP/2 nor a pool of connections passes it on.
    pub(crate) async fn refusal(&self) -> Option<Error> {
        let mut stream = match self.connect().await {
            Ok(stream) => stream,
            Err(error) => return is_of_tls(&error).then_some(error),
        };
        let word = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.ok()?;
        word.err().filter(|error| is_of_tls(error)).map(|error| error::transport(self.authority(), error))
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Error> {
        let authority = &self.inner().authority;
        let place = authority.as_str();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let unnamed =
            |error| Error::settings(format!("`{host}` is no host name"), "check the address").because(error);
        let name = ServerName::try_from(host.clone()).map_err(unnamed)?;
        let port = authority.port_u16().unwrap_or(443);
        let mut config = (*self.inner().tls).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let handshake = async {
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            TlsConnector::from(Arc::new(config)).connect(name, tcp).await
        };
        tokio::time::timeout(self.inner().timeout, handshake)
            .await
            .map_err(|_| Error::new(Cause::Timeout, format!("{place} does not answer"), "check the address"))?
            .map_err(|error| error::transport(place, error))
    }
}
