//! What is wrong with a policy text: which policy, which line, what to do.

use crate::limits::MAX_FINDINGS;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{ValidationError, ValidationWarning};
use core::fmt;
use holdfast_core::port::Finding;
use holdfast_core::{Error, ErrorKind, PolicyId, Stage};

/// One thing for which a policy text is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The policy, where it has an id already.
    pub policy: Option<PolicyId>,
    /// The line of the text, from 1.
    pub line: usize,
    /// What is wrong, one line.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.policy {
            Some(id) => write!(f, "policy `{id}`, line {}: {}", self.line, self.detail),
            None => write!(f, "policy text, line {}: {}", self.line, self.detail),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(ErrorKind::Malformed, Stage::Decode, fault.to_string()).remedy(fault.remedy)
    }
}

impl From<Fault> for Finding {
    fn from(fault: Fault) -> Self {
        let Fault { policy, line, detail, remedy } = fault;
        Self { refuses: true, policy, detail: format!("line {line}: {detail}"), remedy }
    }
}

/// Where the lines of a text end, found once for all its faults.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line, from 1, in which a byte of the text stands.
    pub(crate) fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|end| *end < byte).saturating_add(1)
    }
}

/// The first of the faults of a text, in the order of its lines; where there are more, the last says so.
pub(crate) fn first(mut faults: Vec<Fault>) -> Vec<Fault> {
    // The validator says the same for each type of resource that a policy can be about.
    faults.sort_by(|one, other| one.line.cmp(&other.line).then_with(|| one.detail.cmp(&other.detail)));
    faults.dedup();
    if faults.len() > MAX_FINDINGS {
        faults.truncate(MAX_FINDINGS);
        faults.push(Fault {
            policy: None,
            line: faults.last().map_or(1, |last| last.line),
            detail: format!("more is wrong than these first {MAX_FINDINGS} things"),
            remedy: "mend these, and check it again".to_owned(),
        });
    }
    faults
}

/// What the parser says.
pub(crate) fn of_parser(lines: &Lines, diagnostic: &DetailedError) -> Vec<Fault> {
    let one = |error: &DetailedError| {
        Fault {
        policy: None,
        line: error.source_locations.first().map_or(1, |label| lines.line(label.loc.start)),
        detail: one_line(&error.message),
        remedy: error.help.as_deref().map_or_else(
            || "write it as in `docs/policy.md`: `@id(\"…\") permit (principal, action, resource) when { … };`".to_owned(),
            one_line,
        ),
    }
    };
    // One more than are told, so that it is seen that there are more.
    let related = diagnostic.related.iter().take(MAX_FINDINGS);
    first(core::iter::once(one(diagnostic)).chain(related.map(one)).collect())
}

/// What the validator says against a policy.
pub(crate) fn of_validator(lines: &Lines, error: &ValidationError, starts: usize) -> Fault {
    let diagnostic = DetailedError::from(error);
    let ours = remedy(error);
    // The validator's guess at a misspelt action is more often wrong than right.
    let help = diagnostic.help.filter(|_| !matches!(error, ValidationError::UnrecognizedActionId(_)));
    let remedy = match (&help, ours) {
        (Some(help), Some(ours)) => format!("{}; {ours}", one_line(help)),
        (Some(help), None) => one_line(help),
        (None, Some(ours)) => ours.to_owned(),
        (None, None) => "compare it with the schema in `docs/policy.md`".to_owned(),
    };
    let start = diagnostic.source_locations.first().map_or(starts, |label| label.loc.start);
    Fault {
        policy: id_text(error.policy_id()).parse().ok(),
        line: lines.line(start),
        detail: without_prefix(&diagnostic.message),
        remedy,
    }
}

/// What the validator finds odd, in words; with what to do.
pub(crate) fn of_warning(warning: &ValidationWarning) -> (String, &'static str) {
    let message = without_prefix(&warning.to_string());
    if matches!(
        warning,
        ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
    ) {
        return (
            "can never apply: no caller, action and resource satisfy it".to_owned(),
            "correct its scope and conditions, or remove it; `docs/policy.md` lists which actions are about a key and which about the tenant",
        );
    }
    (message, "write the name in plain letters, so that nobody can mistake it for another")
}

fn remedy(error: &ValidationError) -> Option<&'static str> {
    if matches!(error, ValidationError::UnrecognizedEntityType(_)) {
        Some(
            "write `Holdfast::Caller`, `Holdfast::Group`, `Holdfast::Key`, `Holdfast::Tenant` or `Holdfast::Action`",
        )
    } else if matches!(error, ValidationError::UnrecognizedActionId(_)) {
        Some(
            "write an action's name, or one of the groups `use`, `administer` and `read`; `docs/policy.md` lists them",
        )
    } else if matches!(error, ValidationError::UnsafeAttributeAccess(_)) {
        Some(
            "a caller has `name` and `kind`; a key has `name`, `algorithm`, `purpose`, `state`, `exportable`, `custody`, `emergency_copy` and `protocol`, its labels are read with `hasTag` and `getTag`; \
             where the action can also be about the tenant, write `resource is Holdfast::Key` in the scope",
        )
    } else if matches!(error, ValidationError::UnsafeOptionalAttributeAccess(_)) {
        Some("ask first whether it is there: `context has source && …`")
    } else if matches!(error, ValidationError::UnsafeTagAccess(_)) {
        Some("ask first whether it is there: `resource.hasTag(\"team\") && resource.getTag(\"team\") == …`")
    } else if matches!(error, ValidationError::NoTagsAllowed(_)) {
        Some("labels are read from `resource`, and the encryption context from `context.encryption`")
    } else if matches!(error, ValidationError::EmptySetForbidden(_)) {
        Some("name at least one element, or remove the comparison")
    } else if matches!(error, ValidationError::NonLitExtConstructor(_)) {
        Some("write the value itself between the parentheses: `ip(\"10.0.0.0/8\")`")
    } else if matches!(error, ValidationError::UnexpectedType(_) | ValidationError::IncompatibleTypes(_)) {
        Some("compare values of one type only; `docs/policy.md` says which type each has")
    } else {
        None
    }
}

pub(crate) fn id_text(id: &cedar_policy::PolicyId) -> &str {
    id.as_ref()
}

/// The validator begins with the policy's id, which stands in front of ours already.
fn without_prefix(message: &str) -> String {
    let rest = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "));
    one_line(rest.map_or(message, |(_, rest)| rest))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
