//! HTTPS towards whoever the configuration names and nobody else: no redirections, a bounded time to connect. In clear where the configuration says so.

use crate::authorities;
use crate::fault::Fault;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::builderstates::WantsProtocols1;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use std::path::Path;
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// A way to a host over HTTPS alone, or in clear.
pub(crate) type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that believes the authorities in this file, or those of the machine where it is empty; `whose` says in a remedy whose they should be, and
/// `idle` how long an unused connection is kept.
///
/// # Errors
/// When there are no authorities.
pub(crate) fn client(ca_file: &Path, whose: &str, idle: Duration) -> Result<Https, Fault> {
    let connector = HttpsConnectorBuilder::new().with_tls_config(authorities::client(ca_file, whose)?);
    Ok(over(connector.https_only(), idle))
}

/// A client for addresses in clear; it believes no authority.
///
/// # Errors
/// When the TLS library refuses its settings.
pub(crate) fn in_clear(idle: Duration) -> Result<Https, Fault> {
    let nobody = authorities::with(RootCertStore::empty())?;
    Ok(over(HttpsConnectorBuilder::new().with_tls_config(nobody).https_or_http(), idle))
}

fn over(connector: HttpsConnectorBuilder<WantsProtocols1>, idle: Duration) -> Https {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_nodelay(true);
    let connector = connector.enable_http1().wrap_connector(tcp);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(idle).pool_timer(TokioTimer::new()).build(connector)
}
