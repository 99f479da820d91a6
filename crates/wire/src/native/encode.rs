//! From core's answers to responses.

use super::field::{Bytes, Name, SecretText, Time, VersionNumber, Word};
pub use super::message::Backups;
use super::message::{
    Anchor, AnswerBody, Backup, BatchAnswer, BatchResult, Caller, Callers, EmergencyCopy, Explanation,
    Finding, Findings, Health, HeldBy, ImportBegun, Key, KeyArchived, Keys, Policy, PolicyDone, Pool, Seal,
    SealChallenge, SealDone, SealingKey, SigningTokenIssued, Status, Tenant, TenantDone, TokenIssued,
    Version, Versions,
};
use super::problem::{self, Problem, retry_after};
use super::router::RouteError;
use super::{openapi, token};
use crate::sigv4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::caller::{CallerRecord, TokenForm};
use holdfast_core::command::{Done, Durability, Outcome};
use holdfast_core::operation::Answer;
use holdfast_core::port::{Archived, Page};
use holdfast_core::query::{AuditPath, Found, Traces};
use holdfast_core::receipt::SignedReceipt;
use holdfast_core::{CallerName, Error, ErrorKind, OperationId, Stage};
use serde::Serialize;
use std::io::{self, Write};
use std::sync::Arc;
use zeroize::Zeroizing;

const JSON: &str = "application/json";

/// A response's body.
#[derive(Debug)]
pub enum Body {
    /// Anybody may see it.
    Plain(Vec<u8>),
    /// Holds a plaintext, a key or a token: wiped when dropped.
    Secret(Wiped),
    /// The same for everybody.
    Static(&'static [u8]),
}

impl Body {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Secret(bytes) => bytes.as_bytes(),
            Self::Static(bytes) => bytes,
        }
    }
}

/// A response, all but the operation id's header, which the listener sets on every one.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// `Allow`.
    pub allow: Option<&'static str>,
    /// `WWW-Authenticate`.
    pub authenticate: Option<&'static str>,
    /// `Holdfast-Receipt`, in base64.
    pub receipt: Option<String>,
    /// Others, which a protocol has for itself.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: Body) -> Self {
        Self {
            status,
            content_type,
            retry_after: None,
            allow: None,
            authenticate: None,
            receipt: None,
            headers: Vec::new(),
            body,
        }
    }

    /// With the log's signed receipt, if the caller asked for one.
    #[must_use]
    pub fn with_receipt(mut self, receipt: Option<&SignedReceipt>) -> Self {
        self.receipt = receipt.map(|receipt| STANDARD.encode(receipt.as_str()));
        self
    }

    pub(crate) fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => Self::new(status, JSON, Body::Plain(bytes)),
            Err(_) => unwritable(),
        }
    }

    /// With a buffer of the size that the value needs, wiped if any of it is secret.
    pub(crate) fn sized(status: u16, value: &impl Serialize, size: usize, secret: bool) -> Self {
        let body = if secret {
            let mut buffer = Wiped::with_capacity(size);
            serde_json::to_writer(&mut buffer, value).map(|()| Body::Secret(buffer))
        } else {
            let mut buffer = Vec::with_capacity(size);
            serde_json::to_writer(&mut buffer, value).map(|()| Body::Plain(buffer))
        };
        body.map_or_else(|_| unwritable(), |body| Self::new(status, JSON, body))
    }
}

/// What is left to say when an answer cannot be written: a defect.
fn unwritable() -> Response {
    const BODY: &[u8] = br#"{"type":"/errors/internal","title":"a defect of Holdfast","status":500,"detail":"a defect of Holdfast","code":"internal","remedy":"report it with the operation id and the gateway's log","retry":"never"}"#;
    Response::new(500, problem::CONTENT_TYPE, Body::Static(BODY))
}

/// What using a key gave.
pub fn answer(operation: OperationId, answer: Result<Answer, Error>) -> Response {
    match answer.and_then(body) {
        Ok(body) => {
            let (size, secret) = body.size();
            Response::sized(200, &body, size, secret)
        }
        Err(error) => problem(&error, Some(operation)),
    }
}

fn body(answer: Answer) -> Result<AnswerBody, Error> {
    let incomplete =
        || Error::new(ErrorKind::Internal, Stage::Answer, "an answer without algorithm or version");
    AnswerBody::new(answer).ok_or_else(incomplete)
}

/// What using a key gave, with its receipt if one was asked for.
pub type Used = Result<(Answer, Option<SignedReceipt>), Error>;

/// What the items of a batch gave, in the order in which they were asked.
pub fn batch(items: Vec<(OperationId, Used)>) -> Response {
    const ITEM: usize = 128;
    const PROBLEM: usize = 1024;
    const RECEIPT: usize = 512;
    let (mut size, mut secret) = (ITEM, false);
    let items = items
        .into_iter()
        .map(|(operation, answer)| {
            let operation_id = Name(operation);
            size += ITEM;
            match answer.and_then(|(answer, receipt)| Ok((body(answer)?, receipt))) {
                Ok((body, receipt)) => {
                    let (bytes, is_secret) = body.size();
                    let receipt = receipt.map(|receipt| receipt.as_str().to_owned());
                    size += bytes + receipt.as_ref().map_or(0, |_| RECEIPT);
                    secret |= is_secret;
                    BatchResult { operation_id, status: 200, result: Some(body), problem: None, receipt }
                }
                Err(error) => {
                    size += PROBLEM;
                    let problem = Problem::new(&error, Some(operation));
                    let receipt = error.receipt().map(|receipt| receipt.as_str().to_owned());
                    let (status, problem) = (problem.status, Some(problem));
                    BatchResult { operation_id, status, result: None, problem, receipt }
                }
            }
        })
        .collect();
    Response::sized(200, &BatchAnswer { items }, size, secret)
}

/// What a command did; `success` is the route's status.
pub fn outcome(success: u16, outcome: Outcome, backups: Backups) -> Response {
    let Outcome { done, durability } = outcome;
    let durability = Word(durability);
    match done {
        Done::Key(key, current) => {
            Response::json(success, &Key::new(&key, Some(&current), Some(durability), backups))
        }
        Done::KeyArchived(key, bundle) => {
            Response::json(success, &KeyArchived::new(&key, bundle, durability, backups))
        }
        Done::ImportBegun { key, public, expires } => {
            Response::json(success, &ImportBegun::new(&key, &public, expires, durability, backups))
        }
        Done::Copy(key, copy) => {
            Response::json(success, &EmergencyCopy::new(key.name, copy, Some(durability)))
        }
        Done::Caller(record) => Response::json(success, &Caller::new(&record, Some(durability))),
        Done::Token { id, secret, expires, form: TokenForm::Signing } => {
            let text = zeroize::Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned());
            let issued = SigningTokenIssued {
                id: Name(id),
                access_key_id: sigv4::access_key_id(id),
                secret_access_key: SecretText(text),
                expires: Time(expires),
                durability,
            };
            Response::sized(success, &issued, 512, true)
        }
        Done::Token { id, secret, expires, form: TokenForm::Bearer } => {
            let token = SecretText(token::write(id, &secret));
            let size = 256 + token.0.len();
            Response::sized(
                success,
                &TokenIssued { id: Name(id), token, expires: Time(expires), durability },
                size,
                true,
            )
        }
        Done::Policy(version, findings) => {
            let findings = findings.into_iter().map(Finding::new).collect();
            Response::json(success, &PolicyDone { version, findings, durability })
        }
        Done::BackedUp(Archived { name, bytes, digest, state: _, keep_days: _ }, taken) => {
            let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Response::json(
                success,
                &Backup { file: name.into(), bytes, sha256, taken: Time(taken), durability },
            )
        }
        Done::Tenant(tenant, epoch) => {
            Response::json(success, &TenantDone { tenant: Name(tenant), epoch: epoch.0, durability })
        }
    }
}

/// What a query found.
#[derive(Debug)]
pub enum Encoded {
    /// The response.
    Response(Response),
    /// The status is to be gathered, and then given to [`status`].
    Status,
    /// The pool is to be looked at, and what is seen given to [`pool`].
    Pool,
}

/// What a query found, as far as core has it.
pub fn found(found: Found, backups: Backups) -> Encoded {
    Encoded::Response(match found {
        Found::Key(key, current, Traces { backups: held_by, sealing_keys }) => {
            let held_by = held_by.into_iter().map(HeldBy::new).collect();
            let sealed_under = sealing_keys.into_iter().map(SealingKey::new).collect();
            Response::json(
                200,
                &Key { held_by, sealed_under, ..Key::new(&key, Some(&current), None, backups) },
            )
        }
        Found::Copy(key, copy) => Response::json(200, &EmergencyCopy::new(key.name, copy, None)),
        Found::Keys(Page { rows, more }) => {
            let next = rows.last().filter(|_| more).map(|key| Name(key.name.clone()));
            Response::json(
                200,
                &Keys { keys: rows.iter().map(|key| Key::new(key, None, None, backups)).collect(), next },
            )
        }
        Found::Versions(Page { rows, more }) => {
            let next = rows.last().filter(|_| more).map(|version| VersionNumber(version.number));
            Response::json(200, &Versions { versions: rows.iter().map(Version::new).collect(), next })
        }
        Found::Callers(callers, anchors) => Response::json(200, &listed(&callers, &anchors)),
        Found::Policy(version) => {
            let holdfast_core::tenant::PolicyVersion { version, text, author, set } = version;
            let text = super::field::PolicyText(text);
            Response::json(200, &Policy { version, text, author: Name(author), set: Time(set) })
        }
        Found::Findings(findings) => {
            Response::json(200, &Findings { findings: findings.into_iter().map(Finding::new).collect() })
        }
        Found::Explanation(explanation) => {
            let holdfast_core::query::Explanation { allowed, policies, reasons } = explanation;
            Response::json(200, &Explanation { allowed, policies, reasons })
        }
        Found::Tenant(record) => {
            let holdfast_core::tenant::TenantRecord {
                id,
                suspended,
                handle: _,
                sealing: _,
                backed_up: _,
                backups: _,
                verified: _,
                retention,
                clock_held: _,
                out: _,
                members: _,
                up: _,
                shares: _,
                created,
                epoch,
            } = record;
            let retention_days = retention.map(holdfast_core::retention::Retention::days);
            let shown = Tenant {
                tenant: Name(id),
                suspended,
                retention_days,
                created: Time(created),
                epoch: epoch.0,
            };
            Response::json(200, &shown)
        }
        Found::AuditFile(path, bytes) => audit_file(&path, bytes),
        Found::Status => return Encoded::Status,
        Found::Pool => return Encoded::Pool,
    })
}

fn listed(callers: &[Arc<CallerRecord>], anchors: &[holdfast_core::tenant::Anchor]) -> Callers {
    Callers {
        callers: callers.iter().map(|record| Caller::new(record, None)).collect(),
        anchors: anchors.iter().map(Anchor::new).collect(),
    }
}

/// A file of a log.
fn audit_file(path: &AuditPath, bytes: Vec<u8>) -> Response {
    let tile = path.as_str().starts_with("tile/");
    let content_type = if tile { "application/octet-stream" } else { "text/plain; charset=utf-8" };
    Response::new(200, content_type, Body::Plain(bytes))
}

/// The gateway's status.
pub fn status(status: &Status) -> Response {
    Response::json(200, status)
}

/// The members of the key store's pool.
pub fn pool(pool: &Pool) -> Response {
    Response::json(200, pool)
}

/// Whether the gateway waits for its root key.
pub fn seal(seal: &Seal) -> Response {
    Response::json(200, seal)
}

/// What a custodian answers to have the gateway sealed: an age file.
pub fn seal_challenge(challenge: Vec<u8>) -> Response {
    Response::json(200, &SealChallenge { challenge: Bytes(challenge) })
}

/// The gateway gives its root key up; with what is to be done, if that does not outlast its process.
pub fn seal_done(custodian: CallerName, durability: Durability, remedy: Option<&str>) -> Response {
    let (custodian, durability) = (Name(custodian), Word(durability));
    Response::json(200, &SealDone { custodian, durability, remedy: remedy.map(str::to_owned) })
}

/// Whether the gateway lives, or is ready.
pub fn health(ok: bool) -> Response {
    Response::json(if ok { 200 } else { 503 }, &Health { ok })
}

/// The API document.
pub fn api_document() -> Response {
    Response::new(200, JSON, Body::Static(openapi::bytes()))
}

/// An error, as far as a peer may know it.
pub fn problem(error: &Error, operation: Option<OperationId>) -> Response {
    let problem = Problem::new(error, operation);
    let mut response = Response::json(problem.status, &problem);
    response.content_type = problem::CONTENT_TYPE;
    response.retry_after = retry_after(error.kind());
    // RFC 9110 §15.5.2 wants one with every 401.
    response.authenticate =
        (error.kind() == ErrorKind::Unauthenticated).then_some("Bearer realm=\"holdfast\"");
    response.with_receipt(error.receipt())
}

/// A request for which there is no route.
pub fn refused(reason: &RouteError, operation: Option<OperationId>) -> Response {
    let malformed =
        |remedy| Error::new(ErrorKind::Malformed, Stage::Decode, reason.to_string()).remedy(remedy);
    match reason {
        RouteError::NotFound => {
            let remedy = "the endpoints are listed in `/openapi.json`; paths end without a slash";
            problem(
                &Error::new(ErrorKind::NotFound, Stage::Decode, reason.to_string()).remedy(remedy),
                operation,
            )
        }
        RouteError::PercentEncoded => {
            problem(&malformed("write the name as it is: no name here needs percent-encoding"), operation)
        }
        RouteError::MethodNotAllowed { allow } => {
            let error = malformed("use one of the methods in `Allow`");
            let details = Problem { status: 405, ..Problem::new(&error, operation) };
            let mut response = Response::json(405, &details);
            response.content_type = problem::CONTENT_TYPE;
            response.allow = Some(allow);
            response
        }
    }
}

/// A buffer that is wiped when dropped, and also when it has to grow.
#[derive(Default)]
pub struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    /// Empty, with room for so many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Debug for Wiped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Wiped({} bytes)", self.0.len())
    }
}

impl Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // `Vec` would free the old buffer as it is.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
