//! How a client is set up: where to, whom to trust, as whom.

use crate::client::{Client, Inner};
use crate::error::Error;
use holdfast_wire::native::token;
use http::header::HeaderValue;
use http::uri::{Authority, Scheme, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long one call may take, its repetitions included, unless told.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(50);

/// Sets up a [`Client`].
#[must_use = "a builder does nothing until `connect`"]
pub struct ClientBuilder {
    url: String,
    ca: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    token: Option<Zeroizing<String>>,
    timeout: Duration,
    attempts: u32,
    receipts: Option<Receipts>,
    host: Option<String>,
}

/// What is told of each receipt.
pub(crate) type Receipts = Arc<dyn Fn(&str) + Send + Sync>;

impl ClientBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ca: vec![],
            identity: None,
            token: None,
            timeout: TIMEOUT,
            attempts: 3,
            receipts: None,
            host: None,
        }
    }

    /// Trusts these authorities, PEM; several times for several files. At least one is needed.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca.push(pem.into());
        self
    }

    /// Shows this certificate (PEM, with its chain) and holds its key (PEM).
    pub fn identity_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), Zeroizing::new(key.into())));
        self
    }

    /// Shows this bearer token, one of the gateway's or of an issuer that it believes. The gateway then looks at no certificate.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Zeroizing::new(token.into()));
        self
    }

    /// How long one call may take, its repetitions included: 30 seconds unless told.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a request that can be repeated is sent at most while the gateway says `retry: later`: 3 times unless told.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Asks with every request for the log's signed receipt, and gives each one to `keep` as it comes: of results and of refusals, and one
    /// for each item of a batch. With it `holdfast audit check` tells later whether the log holds the record.
    pub fn receipts(mut self, keep: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.receipts = Some(Arc::new(keep));
        self
    }

    /// Asks for this host (with its port, if it has one) instead of the address's, over HTTP/1.1: what the gateway serves under other names. Whom it
    /// trusts is decided by the address all the same.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address is no `https` URL, or a certificate, key or token cannot be read.
    pub fn connect(self) -> Result<Client, Error> {
        let Self { url, ca, identity, token, timeout, attempts, receipts, host } = self;
        let authority = authority(&url)?;
        let tls = tls(&ca, identity)?;
        let token = token.map(|token| authorization(&token)).transpose()?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let host = host.map(|host| named(&host)).transpose()?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only();
        // HTTP/2 has a place of its own for the host, which is the address's.
        let connector = match host {
            Some(_) => connector.enable_http1().wrap_connector(tcp),
            None => connector.enable_all_versions().wrap_connector(tcp),
        };
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let tls = Arc::new(tls);
        let inner = Inner { http, authority, host, token, timeout, attempts, receipts, tls };
        Ok(Client::from_inner(inner))
    }
}

fn authority(url: &str) -> Result<Authority, Error> {
    let refused = || {
        Error::settings(
            format!("`{}` is not a gateway's address", url.chars().take(200).collect::<String>()),
            "give it as `https://HOST:PORT`, without a path",
        )
    };
    let uri: Uri = url.parse().map_err(|_| refused())?;
    let plain = uri.path() == "/" && uri.query().is_none();
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    match (uri.scheme(), authority) {
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTPS && plain => Ok(authority.clone()),
        _ => Err(refused()),
    }
}

fn named(host: &str) -> Result<HeaderValue, Error> {
    let is_one = host.parse::<Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
    HeaderValue::from_str(host).ok().filter(|_| is_one).ok_or_else(|| {
        let shown = host.chars().take(200).collect::<String>();
        Error::settings(format!("`{shown}` is no host"), "give a name, with a port behind it if it has one")
    })
}

fn tls(ca: &[Vec<u8>], identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for pem in ca {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let refused = |error: &dyn std::fmt::Display| {
                Error::settings(
                    format!("an authority's certificate cannot be read: {error}"),
                    "give certificates in PEM, such as the `tls/ca.pem` that `holdfast init` wrote",
                )
            };
            let certificate = certificate.map_err(|error| refused(&error))?;
            roots.add(certificate).map_err(|error| refused(&error))?;
        }
    }
    if roots.is_empty() {
        let remedy = "give the gateway's own, which `holdfast init` wrote to `tls/ca.pem` (`--cacert` or HOLDFAST_CACERT)";
        return Err(Error::settings("there is no certificate authority to trust", remedy));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::settings("TLS cannot be set up", "report it").because(error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else {
        return Ok(config.with_no_client_auth());
    };
    let refused = |what: &str| {
        let remedy =
            "give the certificate with `--cert` and its own unencrypted key with `--cert-key`, both PEM";
        Error::settings(format!("the client's {what} cannot be used"), remedy)
    };
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refused("certificate").because(error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| refused("key").because(error))?;
    config
        .with_client_auth_cert(chain, key)
        .map_err(|error| refused("certificate with this key").because(error))
}

fn authorization(token: &str) -> Result<HeaderValue, Error> {
    let refused = || {
        Error::settings(
            "the token is neither one of Holdfast's nor a JSON Web Token",
            "Holdfast's begin with `hf_`: issue one with `holdfast caller token`; those of other issuers have three parts with dots between",
        )
    };
    let token = token.trim();
    if token::parse(token).is_none() && !token::is_issued(token) {
        return Err(refused());
    }
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| refused())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_https_address_is_taken() {
        for good in ["https://127.0.0.1:8443", "https://keys.example.org", "https://[::1]:1/"] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://127.0.0.1",
            "127.0.0.1:8443",
            "https://a/b",
            "https://u:p@a",
            "https://a/?x=1",
            "ftp://a",
        ] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_name_and_perhaps_a_port() {
        for (host, is_one) in
            [("a.example", true), ("a.example:8443", true), ("u@a", false), ("a/b", false), ("", false)]
        {
            assert_eq!(named(host).is_ok(), is_one, "{host}");
        }
    }

    #[test]
    fn a_token_is_never_in_an_error() {
        let error = authorization("hunter2").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        assert!(authorization("e30.e30.c2ln\n").is_ok(), "as it lies in a pod's volume");
    }

    #[test]
    fn somebody_must_be_trusted() {
        let error = Client::builder("https://a").connect().unwrap_err();
        assert!(error.to_string().contains("authority"), "{error}");
    }
}
