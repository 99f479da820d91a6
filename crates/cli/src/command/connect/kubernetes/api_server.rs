//! An API server as a plugin sees it: unary gRPC calls on its socket.

use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_wire::kubernetes::client::{self, Encrypted, Status, path, trailer_words};
use holdfast_wire::kubernetes::grpc::{CONTENT_TYPE, MESSAGE_TRAILER, STATUS_TRAILER, TIMEOUT_HEADER};
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// What an API server waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the calls of the test are called; the plugin's log has it.
const UID: &str = "holdfast-connect";

/// A connection to a plugin.
pub(super) struct ApiServer {
    plugin: SendRequest<Full<Bytes>>,
}

impl ApiServer {
    /// Connects to a plugin's socket.
    pub(super) async fn connect(socket: &Path) -> Result<Self, Failure> {
        let shown = socket.display();
        let unreached = |error: &dyn std::error::Error| {
            Failure::new(Exit::Unavailable, format!("nobody answers on `{shown}`"))
                .because(error)
                .remedy("look at the plugin: `systemctl status holdfast-kms`, and whether this user may connect: root and the plugin's own may")
        };
        let stream = UnixStream::connect(socket).await.map_err(|error| unreached(&error))?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (plugin, connection) = handshake.map_err(|error| unreached(&error))?;
        // It ends when nobody asks any more; why it broke is told to whoever asks.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { plugin })
    }

    pub(super) async fn status(&mut self) -> Result<Status, Failure> {
        let answer = self.call(path::STATUS, client::status()).await?;
        client::read_status(&answer).ok_or_else(unread)
    }

    pub(super) async fn encrypt(&mut self, plain: &[u8]) -> Result<Encrypted, Failure> {
        let answer = self.call(path::ENCRYPT, client::encrypt(plain, UID)).await?;
        client::read_encrypted(&answer).ok_or_else(unread)
    }

    pub(super) async fn decrypt(&mut self, sealed: &Encrypted) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let body = client::decrypt(&sealed.ciphertext, UID, &sealed.key_id);
        client::read_decrypted(&self.call(path::DECRYPT, body).await?).ok_or_else(unread)
    }

    async fn call(&mut self, path: &str, body: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let broken = |error: &dyn std::error::Error| {
            Failure::new(Exit::Unavailable, "the plugin gave no answer")
                .because(error)
                .remedy("look at its log: `journalctl -u holdfast-kms`")
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{path}"))
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header(header::TE, "trailers")
            .header(TIMEOUT_HEADER, format!("{}S", PATIENCE.as_secs()))
            .body(Full::new(Bytes::from_owner(body)))
            .map_err(|error| broken(&error))?;
        let answered = async {
            let (head, body) = self.plugin.send_request(request).await?.into_parts();
            let body = body.collect().await?;
            // Where there is no message, all stands in the headers.
            let trailers = body.trailers().cloned().unwrap_or(head.headers);
            Ok::<_, hyper::Error>((trailers, Zeroizing::new(body.to_bytes().to_vec())))
        };
        let (trailers, body) = timeout(PATIENCE, answered)
            .await
            .map_err(|error| broken(&error))?
            .map_err(|error| broken(&error))?;
        match text(&trailers, STATUS_TRAILER) {
            "0" => Ok(body),
            code => {
                let words = trailer_words(text(&trailers, MESSAGE_TRAILER));
                let problem = format!("the plugin refuses it (gRPC code {code}): {words}");
                Err(Failure::new(exit(code), problem)
                    .remedy("the words say what to do; all codes are in docs/protocols/kubernetes-kms.md"))
            }
        }
    }
}

/// How a command ends for a code: the plugin gives these for the kinds of errors that end so.
fn exit(code: &str) -> Exit {
    match code {
        "3" => Exit::Integrity,
        "7" => Exit::Denied,
        "9" => Exit::State,
        "4" | "14" => Exit::Unavailable,
        _ => Exit::Failure,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn unread() -> Failure {
    Failure::new(Exit::Failure, "the plugin's answer is no message of KMS v2")
        .remedy("look who serves that socket")
}
