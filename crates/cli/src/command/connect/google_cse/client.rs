//! Google and a user's browser as clients of the key service: what they ask, and what its answers mean to who sets the service up.

use super::{Service, Tokens};
use crate::exit::Exit;
use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_sdk::{Client, Reply};
use holdfast_wire::cse::ORIGIN;
use http::Method;
use serde_json::{Value, json};

/// A browser, with the way to a service.
pub(super) struct Browser<'a> {
    pub(super) client: &'a Client,
    pub(super) service: &'a Service,
}

/// An answer of a service.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) body: Value,
}

impl Answer {
    fn of(reply: Reply) -> Self {
        // What is no JSON is no answer of this protocol's either.
        let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        Self { reply, body }
    }

    pub(super) fn status(&self) -> u16 {
        self.reply.status
    }

    /// A field's text; empty where there is none.
    pub(super) fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn bytes(&self, field: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.text(field)).ok().filter(|bytes| !bytes.is_empty())
    }

    /// Whether a page of Google's may read it.
    pub(super) fn is_readable(&self) -> bool {
        self.reply.header("access-control-allow-origin") == Some(ORIGIN)
    }
}

impl Browser<'_> {
    pub(super) async fn read(&self, method: &str) -> Result<Answer, Failure> {
        let path = self.service.path(method);
        Ok(Answer::of(self.client.ask(Method::GET, &path, &[("origin", ORIGIN)], vec![]).await?))
    }

    /// What a browser asks before it posts.
    pub(super) async fn preflight(&self, origin: &str) -> Result<Answer, Failure> {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        let path = self.service.path("wrap");
        Ok(Answer::of(self.client.ask(Method::OPTIONS, &path, &headers, vec![]).await?))
    }

    async fn post(&self, method: &str, body: &Value) -> Result<Answer, Failure> {
        let headers = [("origin", ORIGIN), ("content-type", "application/json")];
        let path = self.service.path(method);
        Ok(Answer::of(self.client.post(&path, &headers, body.to_string().into_bytes()).await?))
    }

    /// Wraps this with these tokens.
    pub(super) async fn wrap(&self, (user, google): (&str, &str), key: &[u8]) -> Result<Answer, Failure> {
        let body = json!({
            "authentication": user, "authorization": google, "reason": super::trial::REASON, "key": STANDARD.encode(key),
        });
        self.post("wrap", &body).await
    }

    pub(super) async fn unwrap(&self, tokens: &Tokens, blob: &[u8]) -> Result<Answer, Failure> {
        let Tokens { authentication, authorization } = tokens;
        let body = json!({
            "authentication": authentication.expose(), "authorization": authorization.expose(),
            "reason": super::trial::REASON, "wrapped_key": STANDARD.encode(blob),
        });
        self.post("unwrap", &body).await
    }
}

/// What an answer that was not wanted means, with what to do.
pub(super) fn refusal(service: &Service, answer: &Answer, doing: &str) -> Failure {
    let Service { url, caller, key, .. } = service;
    let status = answer.status();
    let is_protocols = answer.body.get("code").and_then(Value::as_u64) == Some(status.into());
    if !is_protocols {
        let problem = format!("whoever answers `{url}` (status {status}) is no key service");
        return Failure::new(Exit::State, problem).remedy(
            "add the `[[google_cse]]` that is shown to the gateway's configuration and restart it; if it is there, look whether `--endpoint` leads to this gateway",
        );
    }
    let message = answer.text("message");
    let id = answer.text("details").trim_start_matches("request ");
    let (exit, remedy) = match status {
        400 => (Exit::Integrity, "report it: what was wrapped a moment ago is not taken".to_owned()),
        401 => (
            Exit::Unauthenticated,
            format!(
                "which of these it is is told nobody: the keys of both tokens' issuers must be read (`holdfast status`), `audiences` have the provider's `aud`, and `{caller}` be registered for the provider (`holdfast caller list`); the gateway's log says it with `filter = \"debug\"` under `[log]`"
            ),
        ),
        403 => (
            Exit::Denied,
            format!(
                "`holdfast audit search --operation {id}` says which check failed, or which policy forbids it; `--set-policy` adds what the policy lacks"
            ),
        ),
        404 => (
            Exit::State,
            "the service has no such method: what switches it on is in docs/protocols/google-cse.md".to_owned(),
        ),
        429 => (
            Exit::Unavailable,
            "try again, or have an operator raise `requests_per_second` of the service".to_owned(),
        ),
        500 => (
            Exit::State,
            format!("create the key that the `[[google_cse]]` names as `key`, or name `{key}` there; the gateway's log has the rest"),
        ),
        503 => (
            Exit::Unavailable,
            "have an operator look: `holdfast status` for the issuers' keys, `holdfast pool status` for the devices".to_owned(),
        ),
        _ => (Exit::Failure, "look at the gateway's log".to_owned()),
    };
    let said = if message.is_empty() { "" } else { ": " };
    Failure::new(exit, format!("{doing}: {status}{said}{message}")).remedy(remedy)
}
