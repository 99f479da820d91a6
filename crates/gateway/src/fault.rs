//! What stops the daemon from starting or going on: one line, its cause, and what to do.

use crate::outside::chain;
use holdfast_core::ErrorKind;
use std::fmt;
use std::path::Path;

/// A fault of the daemon's own surroundings, told to the person who runs it.
#[derive(Debug)]
pub struct Fault {
    problem: String,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    damage: bool,
}

impl Fault {
    /// A fault: lower case, no full stop, input in backticks.
    pub fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: None, source: None, damage: false }
    }

    /// With what to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// As something that is not what was written once: no wrong use, and nothing of the system's.
    #[must_use]
    pub fn damaged(mut self) -> Self {
        self.damage = true;
        self
    }

    /// Whether something is not what was written once.
    pub const fn is_damage(&self) -> bool {
        self.damage
    }

    /// With its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Something that the system refused about a file.
    pub fn io(what: &str, path: &Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let known = [
            (ErrorKind::PermissionDenied, "run as the owner of the data directory"),
            (ErrorKind::StorageFull, "free some space on that file system"),
            (ErrorKind::NotFound, "check the path"),
        ];
        let found = known.iter().find(|(kind, _)| *kind == error.kind());
        let remedy = found.map_or("look at the cause, and at the system's log", |(_, remedy)| remedy);
        Self::new(format!("{what} `{}`", path.display())).remedy(remedy).because(error)
    }

    /// All of them as one: none is no fault, and one stays what it is.
    ///
    /// # Errors
    /// When there are any.
    pub(crate) fn all(faults: Vec<Self>) -> Result<(), Self> {
        let told: Vec<String> = faults.iter().map(|fault| chain(fault)).collect();
        let mut faults = faults.into_iter();
        match (faults.next(), faults.next()) {
            (None, _) => Ok(()),
            (Some(one), None) => Err(one),
            (Some(_), Some(_)) => Err(Self::new(told.join("; ")).remedy("set each right, and try again")),
        }
    }

    /// All of it in one line: the problem, its causes, and what to do next.
    pub fn told(&self) -> String {
        let problem = chain(self);
        match &self.remedy {
            Some(remedy) => format!("{problem}; {remedy}"),
            None => problem,
        }
    }

    /// What to do next, if that is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<holdfast_core::Error> for Fault {
    fn from(error: holdfast_core::Error) -> Self {
        let fault = Self::new(error.detail().to_owned()).remedy(error.remedy_text().to_owned());
        let fault = if is_damage(error.kind()) { fault.damaged() } else { fault };
        match std::error::Error::source(&error) {
            Some(_) => fault.because(error.chain()),
            None => fault,
        }
    }
}

impl From<holdfast_audit::Refusal> for Fault {
    fn from(refusal: holdfast_audit::Refusal) -> Self {
        let holdfast_audit::Refusal { file, offset, problem, remedy } = refusal;
        let at = offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        Self::new(format!("`{}`{at}: {problem}", file.display())).remedy(remedy).damaged()
    }
}

/// Whether an error of this kind, of files that nobody serves, says that they are not what was written.
const fn is_damage(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Integrity
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable => true,
        ErrorKind::Malformed
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported
        | ErrorKind::Denied
        | ErrorKind::Unauthenticated
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::BudgetExhausted
        | ErrorKind::Stopped
        | ErrorKind::Throttled
        | ErrorKind::Deadline
        | ErrorKind::Sealed
        | ErrorKind::Internal => false,
    }
}
