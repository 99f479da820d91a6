//! What can go wrong on the way to an answer, each with what to do next.

use holdfast_core::error::Retry;
use holdfast_core::id::InvalidId;
use holdfast_core::{ErrorKind, OperationId};
use holdfast_wire::native::problem::Problem;
use std::fmt;

/// An error of the client: what happened, and what to do next.
#[derive(Debug)]
pub struct Error {
    cause: Cause,
    detail: String,
    remedy: String,
    operation: Option<OperationId>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whose matter an error is.
#[derive(Debug)]
pub enum Cause {
    /// The gateway refused, and says why.
    Problem(Box<Problem>),
    /// Nobody answers there, or the connection broke.
    Unreachable,
    /// Whoever answers there is not the gateway that is trusted.
    Untrusted,
    /// No answer within the time allowed.
    Timeout,
    /// Something answered that is no gateway of this version.
    Unintelligible,
    /// The client is not set up rightly: an address, a certificate, a name.
    Settings,
    /// A file on this machine cannot be read or written.
    Local,
    /// What was read does not continue what was read before.
    Integrity,
}

impl Error {
    pub(crate) fn new(cause: Cause, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), remedy: remedy.into(), operation: None, source: None }
    }

    pub(crate) fn settings(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Cause::Settings, detail, remedy)
    }

    pub(crate) fn problem(problem: Box<Problem>, operation: Option<OperationId>) -> Self {
        let operation = problem.operation.as_ref().map(|name| name.0).or(operation);
        let (detail, remedy) = (problem.detail.clone(), problem.remedy.clone());
        Self { operation, ..Self::new(Cause::Problem(problem), detail, remedy) }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn of(mut self, operation: Option<OperationId>) -> Self {
        self.operation = self.operation.or(operation);
        self
    }

    /// Whose matter it is.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The gateway's problem, if it is one.
    pub fn as_problem(&self) -> Option<&Problem> {
        match &self.cause {
            Cause::Problem(problem) => Some(problem),
            Cause::Unreachable
            | Cause::Untrusted
            | Cause::Timeout
            | Cause::Unintelligible
            | Cause::Settings
            | Cause::Local
            | Cause::Integrity => None,
        }
    }

    /// The kind of the gateway's problem, if it is one that this client knows.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.as_problem().and_then(Problem::error_kind)
    }

    /// What to do next.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// The operation: what a custodian finds it by in the audit log.
    pub fn operation(&self) -> Option<OperationId> {
        self.operation
    }

    /// Whether the same request can succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match &self.cause {
            Cause::Problem(problem) => problem.retry.0 == Retry::Later,
            Cause::Unreachable | Cause::Timeout => true,
            Cause::Untrusted | Cause::Unintelligible | Cause::Settings | Cause::Local | Cause::Integrity => {
                false
            }
        }
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

impl From<InvalidId> for Error {
    fn from(error: InvalidId) -> Self {
        Self::settings(error.to_string(), "check the name for a typing error")
    }
}

impl From<holdfast_core::Error> for Error {
    /// For what core's own parsers refuse before anything is sent, such as an encryption context.
    fn from(error: holdfast_core::Error) -> Self {
        Self::settings(error.detail(), error.remedy_text())
    }
}

/// What a failed connection means to a person: looks through the chain of causes for the one that they can do something about.
pub(crate) fn transport(place: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let told = causes(&*error).find_map(|each| tell(place, each));
    let (cause, detail, remedy) = told.unwrap_or_else(|| {
        let remedy = "check the address, and that the gateway runs and can be reached from here";
        (Cause::Unreachable, format!("cannot reach {place}"), remedy.to_owned())
    });
    Error::new(cause, detail, remedy).because(error)
}

/// Whether TLS itself said why a connection ended.
pub(crate) fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|each| each.is::<rustls::Error>())
}

/// Whether the gateway says that it has done nothing of the request, so that also what does something each time may be sent again: it left the
/// connection before the request's stream (RFC 9113 §6.8), or refused the stream (§8.7).
pub(crate) fn was_not_begun(error: &(dyn std::error::Error + 'static)) -> bool {
    // A stream that was begun ends with the connection's own end instead.
    causes(error).filter_map(|each| each.downcast_ref::<h2::Error>()).any(|error| {
        let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (left || refused)
    })
}

/// The error, and what lies behind it.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |each: &&'a (dyn std::error::Error + 'static)| {
        match each.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            // An I/O error that wraps another hides it from `source`.
            Some(inner) => Some(inner),
            None => each.source(),
        }
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "their enums grow; what is not told here is told in general"
)]
fn tell(place: &str, error: &(dyn std::error::Error + 'static)) -> Option<(Cause, String, String)> {
    use rustls::{AlertDescription, CertificateError, Error as Tls};
    if let Some(error) = error.downcast_ref::<Tls>() {
        let (cause, detail, remedy) = match error {
            // Two gateways' own authorities have one name and two keys.
            Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => (
                Cause::Untrusted,
                format!("the certificate of {place} was not issued by an authority that is trusted here"),
                "give the gateway's authority, which `holdfast init` wrote to `tls/ca.pem` (`--cacert` or HOLDFAST_CACERT)",
            ),
            Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => (
                Cause::Untrusted,
                format!("the certificate of {place} has expired"),
                "ask the operator to replace it; if others can connect, check this machine's clock",
            ),
            Tls::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => (
                Cause::Untrusted,
                format!("the certificate of {place} is for another name"),
                "use a name or address that the certificate has, or ask the operator to add this one",
            ),
            Tls::InvalidCertificate(_) => (
                Cause::Untrusted,
                format!("the certificate of {place} is refused"),
                "check that the address leads to the gateway, and that the authority given is the gateway's",
            ),
            Tls::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::BadCertificate) => (
                Cause::Unreachable,
                format!("{place} refused this client's certificate"),
                "check the certificate and key (`--cert`, `--cert-key`)",
            ),
            Tls::AlertReceived(_) => (
                Cause::Unreachable,
                format!("{place} refused the connection"),
                "check which certificate is shown (`--cert`, `--cert-key`), and whether this host's name belongs to one provider alone",
            ),
            Tls::InvalidMessage(_) => (
                Cause::Unreachable,
                format!("{place} does not speak TLS"),
                "check the port: Holdfast's public listener speaks TLS only",
            ),
            _ => return None,
        };
        return Some((cause, detail, remedy.to_owned()));
    }
    let error = error.downcast_ref::<std::io::Error>()?;
    let (detail, remedy) = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            (format!("nobody listens at {place}"), "check the address and port, and that the gateway runs")
        }
        std::io::ErrorKind::TimedOut => {
            (format!("{place} does not answer"), "check the address, and firewalls on the way")
        }
        std::io::ErrorKind::ConnectionReset
        | std::io::ErrorKind::ConnectionAborted
        | std::io::ErrorKind::BrokenPipe
        | std::io::ErrorKind::UnexpectedEof => (
            format!("the connection to {place} broke"),
            "send again; if it persists, look at the gateway's log",
        ),
        _ => return None,
    };
    Some((Cause::Unreachable, detail, remedy.to_owned()))
}
