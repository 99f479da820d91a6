//! A look at the connection itself: what was negotiated, and what the server showed.

use crate::client::Client;
use crate::error::{self, Cause, Error};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

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
        let stream = tokio::time::timeout(self.inner().timeout, handshake)
            .await
            .map_err(|_| Error::new(Cause::Timeout, format!("{place} does not answer"), "check the address"))?
            .map_err(|error| error::transport(place, error))?;
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
}
