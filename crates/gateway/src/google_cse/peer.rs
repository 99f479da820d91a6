//! HTTPS towards other key services: nobody but who is configured, one small exchange, no redirections.

use crate::fault::Fault;
use crate::https::{self, Https};
use crate::outside::chain;
use bytes::Bytes;
use holdfast_core::Secret;
use holdfast_wire::cse::message::peers_key;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use std::path::Path;
use std::time::Duration;

/// How long an exchange may take, connection included.
const PATIENCE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);
/// Most bytes of an answer: it holds one key.
const MAX_ANSWER: usize = 4 << 10;

/// Why a peer gave no key.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It refused, or cannot be reached, or answered with something else.
    Wrong(String),
    /// It did not answer in time.
    Late,
}

/// A way to the peers.
#[derive(Debug)]
pub(super) struct Client(Https);

impl Client {
    pub(super) fn new(ca_file: &Path) -> Result<Self, Fault> {
        Ok(Self(https::client(ca_file, "the peer's", IDLE)?))
    }

    /// The key that a peer unwraps.
    pub(super) async fn ask(&self, peer: &str, body: Vec<u8>) -> Result<Secret, Failure> {
        let url = format!("{}/privilegedunwrap", peer.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|_| Failure::Wrong("its URL cannot be asked".to_owned()))?;
        let exchange = async {
            let mut request = Request::new(Full::new(Bytes::from(body)));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let response = self.0.request(request).await.map_err(|error| Failure::Wrong(chain(&error)))?;
            if response.status() != StatusCode::OK {
                return Err(Failure::Wrong(format!("it answered {}", response.status().as_u16())));
            }
            let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let answer = answer.map_err(|error| Failure::Wrong(chain(&*error)))?.to_bytes();
            let key = peers_key(&answer);
            // What is left of the answer in memory goes, where nobody else has it.
            drop(answer.try_into_mut().map(|mut bytes| zeroize::Zeroize::zeroize(&mut bytes[..])));
            key.ok_or_else(|| Failure::Wrong("it answered without a key".to_owned()))
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(Failure::Late))
    }
}
