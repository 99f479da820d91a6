//! What is said when something goes wrong: what happened, what to do next, and under which operation it stands in the audit log.

use crate::exit::Exit;
use holdfast_audit::Refusal;
use holdfast_gateway::Fault;
use holdfast_sdk::{Cause, Error};
use std::error::Error as _;
use std::fmt;
use std::io::Write as _;
use std::path::Path;

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    problem: String,
    cause: Option<String>,
    remedy: Option<String>,
    operation: Option<String>,
}

impl Failure {
    /// A failure: lower case, no full stop, input in backticks.
    pub fn new(exit: Exit, problem: impl Into<String>) -> Self {
        Self { exit, problem: problem.into(), cause: None, remedy: None, operation: None }
    }

    /// A wrong use of the command.
    pub fn usage(problem: impl Into<String>) -> Self {
        Self::new(Exit::Usage, problem)
    }

    /// Something that the system refused about a file.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "theirs grows; what is not named here is told in general"
    )]
    pub fn file(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check the permissions, or run as the file's owner",
            std::io::ErrorKind::StorageFull => "free some space on that file system",
            std::io::ErrorKind::AlreadyExists => "name another file, or add `--force` to replace this one",
            _ => "look at the cause, and at the system's log",
        };
        Self::new(Exit::Failure, format!("cannot {what} `{}`", path.display())).because(error).remedy(remedy)
    }

    /// With what to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With its cause.
    #[must_use]
    pub fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut text = String::new();
        let mut next = Some(cause);
        while let Some(cause) = next {
            // Some causes already say what stands behind them, and some what is the problem.
            let more = cause.to_string();
            if more != self.problem && !text.contains(&more) {
                let between = if text.is_empty() { "" } else { ": " };
                text = format!("{text}{between}{more}");
            }
            next = cause.source();
        }
        self.cause = Some(text).filter(|text| !text.is_empty());
        self
    }

    /// With what else was wrong, after its own cause.
    #[must_use]
    pub(crate) fn beside(mut self, others: &[String]) -> Self {
        let own = self.cause.take().into_iter();
        self.cause = Some(own.chain(others.iter().cloned()).collect::<Vec<_>>().join("; "));
        self
    }

    /// How several things ended that were done whatever became of the others: the first failure, with what the later ones say beside it.
    pub(crate) fn of_all<const N: usize>(ends: [Result<(), Self>; N]) -> Result<(), Self> {
        let mut failures = ends.into_iter().filter_map(Result::err);
        let Some(first) = failures.next() else { return Ok(()) };
        let others: Vec<_> = failures.map(|other| other.told()).collect();
        Err(if others.is_empty() { first } else { first.beside(&others) })
    }

    /// What happened.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// How the command ends for it.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The same failure with another end.
    #[must_use]
    pub fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What to do next.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// All of it in one line: the problem, its cause, and what to do next.
    pub fn told(&self) -> String {
        let Self { problem, cause, remedy, .. } = self;
        let cause = cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{problem}{cause}{remedy}")
    }

    /// Writes it to stderr, one JSON object if programs read it, and gives the exit code.
    pub fn report(&self, json: bool) -> Exit {
        let Self { exit, problem, cause, remedy, operation } = self;
        let mut text = String::new();
        if json {
            let error = serde_json::json!({
                "error": { "problem": problem, "cause": cause, "help": remedy, "operation": operation, "exit": exit.code() }
            });
            text = format!("{error}\n");
        } else {
            let lines = [
                ("error: ", Some(problem)),
                ("cause: ", cause.as_ref()),
                ("help: ", remedy.as_ref()),
                ("operation: ", operation.as_ref()),
            ];
            for (label, line) in lines {
                if let Some(line) = line {
                    text.push_str(label);
                    text.push_str(&crate::output::printable(line));
                    text.push('\n');
                }
            }
        }
        // Nothing is left to do when even this cannot be written.
        let _ = std::io::stderr().write_all(text.as_bytes());
        *exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.cause() {
            Cause::Problem(_) => error.kind().map_or(Exit::Failure, Exit::of),
            Cause::Unreachable | Cause::Timeout => Exit::Unavailable,
            Cause::Untrusted | Cause::Integrity => Exit::Integrity,
            Cause::Settings => Exit::Usage,
            Cause::Unintelligible | Cause::Local => Exit::Failure,
        };
        let failure = Self {
            operation: error.operation().map(|operation| operation.to_string()),
            ..Self::new(exit, error.to_string()).remedy(error.remedy())
        };
        match error.source() {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let failure = Self::new(Exit::Failure, fault.to_string());
        let failure = match fault.remedy_text() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        };
        match fault.source() {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let file = refusal.file.display();
        let problem = format!("`{file}`: {}", refusal.problem);
        Self::new(Exit::Integrity, problem).remedy(refusal.remedy)
    }
}

impl From<holdfast_core::id::InvalidId> for Failure {
    fn from(error: holdfast_core::id::InvalidId) -> Self {
        Self::usage(error.to_string()).remedy("check the name for a typing error")
    }
}

impl From<holdfast_core::Error> for Failure {
    fn from(error: holdfast_core::Error) -> Self {
        Self::new(Exit::of(error.kind()), error.detail()).remedy(error.remedy_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let inner = std::io::Error::other("no entry");
        let failure = Failure::file("read", Path::new("x"), &inner);
        assert_eq!(failure.cause.as_deref(), Some("no entry"));
        assert_eq!(failure.to_string(), "cannot read `x`; look at the cause, and at the system's log");
    }
}
