//! Sending a request and reading its answer.

use crate::builder::{ClientBuilder, Receipts};
use crate::error::{self, Cause, Error};
use crate::tenant::Tenant;
use holdfast_core::error::Retry;
use holdfast_core::port::Membership;
use holdfast_core::{MemberName, OperationId, TenantId};
use holdfast_wire::native::client::{self as native, Failure, Request};
use holdfast_wire::native::message::{
    AskToSeal, Backup, CreateTenant, GiveShare, Health, OrderSeal, Pool, Seal, SealChallenge, SealDone,
    Status, TenantDone, VerifyBackup,
};
use holdfast_wire::native::{Method, OPERATION_HEADER, RECEIPT_HEADER, RECEIPT_WANTED};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// The most bytes of an answer: a batch's, with room to spare.
const MAX_ANSWER: usize = 64 << 20;
/// The longest pause before a repetition.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// To how many further connections a request goes that the gateway says it has not begun.
const MOST_MOVES: usize = 3;

/// A client of one gateway. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub(crate) authority: Authority,
    /// For which host it asks, where that is not the address's.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) token: Option<HeaderValue>,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) receipts: Option<Receipts>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("authority", &self.inner.authority).finish_non_exhaustive()
    }
}

/// Whether sending the same request twice does the same as once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It does: reads, uses of a key, stop orders. Repeated while the gateway says `retry: later`.
    Safe,
    /// It does not: what creates, issues or rotates. Never repeated.
    Never,
}

/// An answer with the operation that gave it.
#[derive(Debug)]
pub struct Answered<T> {
    /// The operation: what its record in the audit log is found by.
    pub operation: Option<OperationId>,
    /// What was answered.
    pub body: T,
}

impl<T> Deref for Answered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

/// A response as it came.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Response {
    fn operation(&self) -> Option<OperationId> {
        self.headers.get(OPERATION_HEADER)?.to_str().ok()?.parse().ok()
    }
}

/// What another protocol than the native one was answered.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, wiped when it is dropped.
    pub body: Zeroizing<Vec<u8>>,
    headers: HeaderMap,
}

impl Reply {
    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins to set up a client of the gateway at this address, such as `https://keys.example.org:8443`.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The gateway's address as a person writes it.
    pub fn address(&self) -> String {
        format!("https://{}", self.inner.authority)
    }

    /// One tenant's keys, callers, policy and log.
    pub fn tenant(&self, tenant: TenantId) -> Tenant {
        Tenant::new(self.clone(), tenant)
    }

    /// Creates a tenant with those who will own it; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn create_tenant(&self, tenant: &CreateTenant) -> Result<Answered<TenantDone>, Error> {
        self.send(native::create_tenant(tenant), Repeat::Never).await
    }

    /// Writes an encrypted backup where the gateway's configuration says; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn back_up(&self) -> Result<Answered<Backup>, Error> {
        self.send(native::back_up(), Repeat::Never).await
    }

    /// Records that a backup was opened and read to its end; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn verify_backup(&self, verified: &VerifyBackup) -> Result<Answered<TenantDone>, Error> {
        self.send(native::verify_backup(verified), Repeat::Never).await
    }

    /// Confirms that the gateway's clock is right after a jump; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn confirm_clock(&self) -> Result<Answered<TenantDone>, Error> {
        self.send(native::confirm_clock(), Repeat::Never).await
    }

    /// Looks at the members of the key store's pool; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn pool(&self) -> Result<Answered<Pool>, Error> {
        self.send(native::pool(), Repeat::Safe).await
    }

    /// Takes a member of the key store's pool out, or lets it in again; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn move_member(
        &self,
        member: &MemberName,
        to: Membership,
    ) -> Result<Answered<TenantDone>, Error> {
        self.send(native::move_member(member, to), Repeat::Never).await
    }

    /// Reads the gateway's status; an operator's action.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn status(&self) -> Result<Answered<Status>, Error> {
        self.send(native::status(), Repeat::Safe).await
    }

    /// Whether the gateway waits for its root key. Anybody may ask.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn seal(&self) -> Result<Answered<Seal>, Error> {
        self.send(native::seal(), Repeat::Safe).await
    }

    /// Gives a share of the root key, encrypted to the recipient that [`Client::seal`] tells. The same share again changes nothing, but a
    /// wrong one counts.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn give_share(&self, share: &GiveShare) -> Result<Answered<Seal>, Error> {
        self.send(native::give_share(share), Repeat::Never).await
    }

    /// Asks, as a custodian of the root key, for what orders a seal.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn ask_to_seal(&self, ask: &AskToSeal) -> Result<Answered<SealChallenge>, Error> {
        self.send(native::ask_to_seal(ask), Repeat::Safe).await
    }

    /// Seals the gateway, with the answer to that. From the answer on nothing leaves it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn order_seal(&self, order: &OrderSeal) -> Result<Answered<SealDone>, Error> {
        self.send(native::order_seal(order), Repeat::Never).await
    }

    /// Whether the gateway can work now: key store, state and log.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ready(&self) -> Result<bool, Error> {
        let response = self.exchange(Method::Get, "/health/ready", None).await?;
        let health: Health =
            serde_json::from_slice(&response.body).map_err(|_| unintelligible(response.status))?;
        Ok(health.ok)
    }

    /// The gateway's clock as it stands in an answer: the `Date` header (RFC 9110 §6.6.1).
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn date(&self) -> Result<Option<String>, Error> {
        let response = self.exchange(Method::Get, "/health/live", None).await?;
        Ok(response.headers.get(http::header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// Host and port, as requests name them.
    pub fn authority(&self) -> &str {
        self.inner.authority.as_str()
    }

    /// Sends a POST of another protocol that the gateway serves; see [`Client::ask`].
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply, Error> {
        self.ask(http::Method::POST, path, headers, body).await
    }

    /// Sends a request of another protocol that the gateway serves, once, with these headers and without this client's token. To say no certificate
    /// either, set a client up without one.
    ///
    /// # Errors
    /// When it cannot be sent, or is not answered in time; not for what is answered.
    pub async fn ask(
        &self,
        method: http::Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply, Error> {
        let place = self.inner.authority.as_str();
        let remedy = "check the names for typing errors";
        let unsendable = || Error::settings(format!("`{path}` cannot be asked for"), remedy);
        let mut request = http::Request::new(Full::new(Bytes::from_owner(Zeroizing::new(body))));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(path)?;
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| unsendable())?;
            value.set_sensitive(true);
            request.headers_mut().insert(*name, value);
        }
        let answered = tokio::time::timeout(self.inner.timeout, self.answer_to(request)).await;
        let response = answered.unwrap_or_else(|_| {
            let remedy = "send again, allow more time, or ask an operator for `holdfast status`";
            Err(Error::new(Cause::Timeout, format!("{place} gave no answer in time"), remedy))
        })?;
        let Response { status, headers, body } = response;
        Ok(Reply { status: status.as_u16(), body, headers })
    }

    /// Sends any request of the native API.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn send<T: DeserializeOwned>(
        &self,
        request: Request<T>,
        repeat: Repeat,
    ) -> Result<Answered<T>, Error> {
        let response = self.deliver(request, repeat).await?;
        let operation = response.operation();
        let body = native::parse(response.status.as_u16(), &response.body);
        body.map(|body| Answered { operation, body }).map_err(|failure| failed(failure, operation))
    }

    /// Sends a request whose answer is bytes.
    pub(crate) async fn fetch(&self, request: Request<()>) -> Result<Vec<u8>, Error> {
        let response = self.deliver(request, Repeat::Safe).await?;
        let operation = response.operation();
        match response.status.is_success() {
            true => Ok(response.body.to_vec()),
            false => Err(failed(native::problem(response.status.as_u16(), &response.body), operation)),
        }
    }

    async fn deliver<T>(&self, request: Request<T>, repeat: Repeat) -> Result<Response, Error> {
        let place = self.inner.authority.as_str();
        let all = self.deliver_again_and_again(request, repeat);
        tokio::time::timeout(self.inner.timeout, all).await.unwrap_or_else(|_| {
            let seconds = self.inner.timeout.as_secs_f32();
            let remedy = "send again, allow more time, or ask an operator for `holdfast status`";
            Err(Error::new(
                Cause::Timeout,
                format!("{place} gave no answer within {seconds} seconds"),
                remedy,
            ))
        })
    }

    async fn deliver_again_and_again<T>(
        &self,
        request: Request<T>,
        repeat: Repeat,
    ) -> Result<Response, Error> {
        let body = request.body.map(Bytes::from_owner);
        let mut attempt = 1;
        let mut pause = Duration::from_millis(100);
        loop {
            let response = self.exchange(request.method, &request.path, body.clone()).await?;
            let last = repeat == Repeat::Never || attempt >= self.inner.attempts;
            if last || response.status.is_success() || !passes_by_itself(&response) {
                return Ok(response);
            }
            let asked =
                response.headers.get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
            pause = asked.map_or(pause, Duration::from_secs).max(pause).min(MAX_PAUSE);
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    /// Hands a receipt over to whoever wants them.
    pub(crate) fn keep_receipt(&self, text: &str) {
        if let Some(keep) = &self.inner.receipts {
            keep(text);
        }
    }

    /// One request, one response.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response, Error> {
        let mut request = http::Request::new(Full::new(body.clone().unwrap_or_default()));
        *request.method_mut() = method_of(method);
        *request.uri_mut() = self.uri(path)?;
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = &self.inner.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        if self.inner.receipts.is_some() {
            request.headers_mut().insert(RECEIPT_HEADER, HeaderValue::from_static(RECEIPT_WANTED));
        }
        let response = self.answer_to(request).await?;
        if let Some(receipt) = response.headers.get(RECEIPT_HEADER) {
            native::receipt(receipt.as_bytes()).iter().for_each(|text| self.keep_receipt(text));
        }
        Ok(response)
    }

    fn uri(&self, path: &str) -> Result<Uri, Error> {
        let unsendable =
            || Error::settings(format!("`{path}` cannot be asked for"), "check the names for typing errors");
        let path_and_query: PathAndQuery = path.parse().map_err(|_| unsendable())?;
        let authority = self.inner.authority.clone();
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority).path_and_query(path_and_query);
        uri.build().map_err(|_| unsendable())
    }

    async fn answer_to(&self, mut request: http::Request<Full<Bytes>>) -> Result<Response, Error> {
        let place = self.inner.authority.as_str();
        if let Some(host) = &self.inner.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        let mut moved = 0;
        let response = loop {
            match self.inner.http.request(request.clone()).await {
                Ok(response) => break response,
                // A connection that ends as it is used: the request goes to the next one.
                Err(error) if moved < MOST_MOVES && error::was_not_begun(&error) => moved += 1,
                Err(error) => {
                    let is_told = error.is_connect() || error::is_of_tls(&error);
                    let refused = if is_told { None } else { self.refusal().await };
                    return Err(refused.unwrap_or_else(|| error::transport(place, error)));
                }
            }
        };
        let (parts, mut incoming) = response.into_parts();
        // Straight into memory that is wiped: an answer may hold a plaintext.
        let mut body = Zeroizing::new(Vec::with_capacity(announced(&parts.headers)));
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| error::transport(place, error))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if body.len() + bytes.len() > MAX_ANSWER {
                return Err(unintelligible(parts.status));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }
}

fn announced(headers: &HeaderMap) -> usize {
    let length =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0_usize).min(MAX_ANSWER)
}

fn method_of(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
    }
}

fn passes_by_itself(response: &Response) -> bool {
    match native::problem(response.status.as_u16(), &response.body) {
        Failure::Problem(problem) => problem.retry.0 == Retry::Later,
        Failure::Unintelligible { .. } => false,
    }
}

fn failed(failure: Failure, operation: Option<OperationId>) -> Error {
    match failure {
        Failure::Problem(problem) => Error::problem(problem, operation),
        Failure::Unintelligible { status } => {
            unintelligible(StatusCode::from_u16(status).unwrap_or_default()).of(operation)
        }
    }
}

fn unintelligible(status: StatusCode) -> Error {
    let remedy = "check that the address is the gateway's own and not a proxy's, and that both are of a similar version";
    Error::new(
        Cause::Unintelligible,
        format!("an answer with status {} that is not Holdfast's", status.as_u16()),
        remedy,
    )
}
