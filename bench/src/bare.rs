//! The measure: a TLS server that says hello, on the same TLS library, HTTP library and runtime as the gateway, and does nothing else.

use crate::load::{Exchange, Target};
use crate::machine::Server;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use std::convert::Infallible;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

/// A running bare server.
pub(crate) struct Bare {
    pub(crate) server: Server,
    pub(crate) target: Target,
    pub(crate) hello: Exchange,
}

/// Starts this program again as the bare server.
pub(crate) async fn start() -> Result<Bare> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("bare")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let address = lines.next_line().await?.context("the bare server said nothing")?.parse()?;
    let hello = Exchange::new(
        "POST",
        "/",
        "bench",
        None,
        r#"{"plaintext":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}"#,
    );
    Ok(Bare { server: Server::new(child), target: Target { address }, hello })
}

/// Serves until it is killed; prints its address first.
#[expect(clippy::print_stdout, reason = "the address goes to the parent")]
pub(crate) fn serve() -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ended = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(60))
                    .serve_connection(TokioIo::new(stream), service_fn(hello))
                    .await;
            });
        }
    })
}

async fn hello(request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    // Reads the body as the gateway must.
    let _body = request.into_body().collect().await;
    let mut response = http::Response::new(Full::new(Bytes::from_static(b"{\"hello\":\"world\"}")));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
