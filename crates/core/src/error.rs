//! The one error. A peer sees its kind; a person sees its words and what to do next; a log sees its source.

use crate::receipt::SignedReceipt;
use core::fmt;
use std::borrow::Cow;

/// What went wrong, as far as a peer may know. Closed: a new kind breaks every protocol's status table until someone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is not of the protocol's form.
    Malformed,
    /// The request, or a field of it, is larger than its limit.
    TooLarge,
    /// Nobody could be told from the proof of identity, or it is not known here.
    Unauthenticated,
    /// The policy does not allow it, or there is no such thing and the caller may not know that.
    Denied,
    /// There is no such key, caller, tenant, policy version or log entry, and the caller may know that.
    NotFound,
    /// There is one of that name already.
    AlreadyExists,
    /// The record has changed since the caller read it.
    Conflict,
    /// The key's state (NIST SP 800-57 part 1 rev. 5 §7) does not permit the operation.
    KeyState,
    /// The key's algorithm or purpose has no such operation, or no such parameter.
    Unsupported,
    /// Wrong key, wrong context or changed bytes: deliberately one and the same.
    Integrity,
    /// The key version's number of safe invocations is used up.
    BudgetExhausted,
    /// Somebody ordered this key, caller or tenant stopped.
    Stopped,
    /// More than the caller's share, or more than the gateway can queue.
    Throttled,
    /// The operation did not finish before its deadline.
    Deadline,
    /// The key store cannot perform it now.
    KeyStoreUnavailable,
    /// The durable state cannot be read or written now.
    StateUnavailable,
    /// The record cannot be made durable, so there is no result.
    AuditUnavailable,
    /// The gateway has no root key yet: its custodians have to bring their shares.
    Sealed,
    /// A defect of Holdfast.
    Internal,
}

/// Whether the same request can succeed later without anybody changing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will be refused again.
    Never,
    /// After a pause: the cause passes by itself.
    Later,
    /// After reading the record again.
    AfterReading,
}

/// One row of the table of kinds: what code, logs, documents and peers say of it.
#[derive(Debug, Clone, Copy)]
pub struct KindRow {
    /// Stable code: in problem details, events, metrics and `docs/operate/errors.md`.
    pub code: &'static str,
    /// One line for a person; says nothing of this request.
    pub title: &'static str,
    /// Whether to try again.
    pub retry: Retry,
    /// What to do next when the error itself has nothing better.
    pub remedy: &'static str,
}

impl ErrorKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Unauthenticated,
        Self::Denied,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::KeyState,
        Self::Unsupported,
        Self::Integrity,
        Self::BudgetExhausted,
        Self::Stopped,
        Self::Throttled,
        Self::Deadline,
        Self::KeyStoreUnavailable,
        Self::StateUnavailable,
        Self::AuditUnavailable,
        Self::Sealed,
        Self::Internal,
    ];

    /// The kind's row of the table.
    pub const fn row(self) -> KindRow {
        let (code, title, retry, remedy) = match self {
            Self::Malformed => (
                "malformed",
                "the request is malformed",
                Retry::Never,
                "compare the request with the API document at `/openapi.json`",
            ),
            Self::TooLarge => (
                "too-large",
                "the request is too large",
                Retry::Never,
                "send less at once; encrypt large data with a data key or `holdfast encrypt`",
            ),
            Self::Unauthenticated => (
                "unauthenticated",
                "the caller is not known here",
                Retry::Never,
                "present a certificate or token that a custodian of this tenant has registered, and check that it has not expired",
            ),
            Self::Denied => (
                "denied",
                "not permitted, or no such resource",
                Retry::Never,
                "ask a custodian of the tenant, who can see why in the audit log by the operation id",
            ),
            Self::NotFound => (
                "not-found",
                "no such resource",
                Retry::Never,
                "list what exists, or check the name for a typing error",
            ),
            Self::AlreadyExists => (
                "already-exists",
                "that name is taken",
                Retry::Never,
                "choose another name, or use what exists",
            ),
            Self::Conflict => (
                "conflict",
                "the record has changed meanwhile",
                Retry::AfterReading,
                "read it again, apply your change to what it says now, and send that with its epoch",
            ),
            Self::KeyState => (
                "key-state",
                "the key's state does not permit this",
                Retry::Never,
                "look at the key with `holdfast key show`, and ask a custodian to change its state if that is right",
            ),
            Self::Unsupported => (
                "unsupported",
                "the key cannot do this",
                Retry::Never,
                "see the table of algorithms and operations in `docs/keys.md`",
            ),
            Self::Integrity => (
                "integrity",
                "the input does not verify",
                Retry::Never,
                "use the key and the context it was made with, and the unchanged bytes",
            ),
            Self::BudgetExhausted => (
                "budget-exhausted",
                "the key version has been used as often as is safe",
                Retry::Never,
                "ask a custodian to run `holdfast key rotate`",
            ),
            Self::Stopped => (
                "stopped",
                "stopped by order",
                Retry::Never,
                "ask a custodian of the tenant whether and when use will be resumed",
            ),
            Self::Throttled => (
                "throttled",
                "too much at once",
                Retry::Later,
                "wait as long as `Retry-After` says, then send again with a growing pause",
            ),
            Self::Deadline => (
                "deadline",
                "not finished in time",
                Retry::Later,
                "send again; if it persists, look at the stage latencies in the gateway's metrics",
            ),
            Self::KeyStoreUnavailable => (
                "key-store-unavailable",
                "the key store cannot be reached",
                Retry::Later,
                "send again; an operator sees the cause in `holdfast status`",
            ),
            Self::StateUnavailable => (
                "state-unavailable",
                "the gateway's state cannot be read or written",
                Retry::Later,
                "send again; an operator sees the cause in `holdfast status`",
            ),
            Self::AuditUnavailable => (
                "audit-unavailable",
                "the operation cannot be recorded, so it is refused",
                Retry::Later,
                "send again; an operator sees the cause in `holdfast status`, a full disk most often",
            ),
            Self::Sealed => (
                "sealed",
                "the gateway is sealed",
                Retry::Later,
                "ask the custodians of its root key to run `holdfast unseal`, then send again",
            ),
            Self::Internal => (
                "internal",
                "a defect of Holdfast",
                Retry::Never,
                "report it with the operation id and the gateway's log",
            ),
        };
        KindRow { code, title, retry, remedy }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}

/// The step of a request at which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Listener, limits, TLS.
    Receive,
    /// Bytes into a call.
    Decode,
    /// Who asks.
    Identify,
    /// Which record, in which state.
    Resolve,
    /// What the policy says.
    Decide,
    /// The key store's work, or the state's change.
    Perform,
    /// The audit log.
    Record,
    /// The result's release.
    Answer,
    /// Outside of any request: start, recovery, configuration.
    Start,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 9] = [
        Self::Receive,
        Self::Decode,
        Self::Identify,
        Self::Resolve,
        Self::Decide,
        Self::Perform,
        Self::Record,
        Self::Answer,
        Self::Start,
    ];

    /// Its name in events, spans and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decode => "decode",
            Self::Identify => "identify",
            Self::Resolve => "resolve",
            Self::Decide => "decide",
            Self::Perform => "perform",
            Self::Record => "record",
            Self::Answer => "answer",
            Self::Start => "start",
        }
    }
}

/// What happened, in our own words, with what to do next.
///
/// `Display` is one line and never prints the source: peers may see it, so it MUST NOT hold a secret, a path or another tenant's name.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    stage: Stage,
    detail: Cow<'static, str>,
    remedy: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    receipt: Option<SignedReceipt>,
}

impl Error {
    /// An error of this kind with its detail: lower case, no full stop, input in backticks.
    pub fn new(kind: ErrorKind, stage: Stage, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, stage, detail: detail.into(), remedy: None, source: None, receipt: None }
    }

    /// With a remedy that fits better than the kind's own.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With its cause, which logs print and peers never see.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With the receipt of its record, if its caller asked for one.
    #[must_use]
    pub(crate) fn recorded(mut self, receipt: Option<SignedReceipt>) -> Self {
        self.receipt = receipt;
        self
    }

    /// The receipt of its record, if its caller asked for one.
    pub fn receipt(&self) -> Option<&SignedReceipt> {
        self.receipt.as_ref()
    }

    /// What a peer may know.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it happened.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What happened, one line.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What to do next.
    pub fn remedy_text(&self) -> &str {
        match &self.remedy {
            Some(text) => text,
            None => self.kind.row().remedy,
        }
    }

    /// The whole chain of causes for a log line, separated by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.detail.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code_and_words() {
        let codes: std::collections::BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            let row = kind.row();
            assert!(!row.title.ends_with('.') && !row.remedy.ends_with('.'), "{}", row.code);
            assert!(row.title.starts_with(char::is_lowercase), "{}", row.code);
        }
    }

    #[test]
    fn display_never_prints_the_source() {
        let error = Error::new(ErrorKind::Internal, Stage::Perform, "it broke").because("at /secret/path");
        assert_eq!(error.to_string(), "it broke");
        assert_eq!(error.chain(), "it broke: at /secret/path");
    }
}
