//! HTTPS towards whoever the configuration names and nobody else: no redirections, a bounded time to connect.

use crate::authorities;
use crate::fault::Fault;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::path::Path;
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// A way to a host over HTTPS alone.
pub(crate) type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that believes the authorities in this file, or those of the machine where it is empty; `whose` says in a remedy whose they should be, and
/// `idle` how long an unused connection is kept.
///
/// # Errors
/// When there are no authorities.
pub(crate) fn client(ca_file: &Path, whose: &str, idle: Duration) -> Result<Https, Fault> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(authorities::client(ca_file, whose)?)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let mut builder = Client::builder(TokioExecutor::new());
    Ok(builder.pool_idle_timeout(idle).pool_timer(TokioTimer::new()).build(connector))
}
