//! Why a document is refused, in words for a person.

use holdfast_core::{Error, ErrorKind, Stage};
use std::borrow::Cow;

/// Why a document is refused. Never holds a value from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    kind: ErrorKind,
    path: String,
    problem: Cow<'static, str>,
}

impl Fault {
    /// A malformed value: what is wrong with it, as a continuation of "`field`: ".
    pub(crate) fn malformed(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Malformed, path: String::new(), problem: problem.into() }
    }

    /// A value beyond a limit.
    pub(crate) fn too_large(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::TooLarge, path: String::new(), problem: problem.into() }
    }

    /// A field that a message does not have. Its name is quoted only where it can be a typing error of one of ours.
    pub(crate) fn unknown(name: &str, known: &[&str]) -> Self {
        let harmless =
            (1..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let mut problem = if harmless { format!("unknown field `{name}`") } else { "unknown field".into() };
        for (index, known) in known.iter().enumerate() {
            problem.push_str(if index == 0 { "; expected " } else { ", " });
            problem.push_str(&format!("`{known}`"));
        }
        Self::malformed(problem)
    }

    /// The fault, seen from the object whose field it is in.
    pub(crate) fn within(mut self, field: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{dot}{}", self.path);
        self
    }

    /// What core and peers get to see.
    pub(crate) fn into_error(self) -> Error {
        let detail = if self.path.is_empty() {
            self.problem
        } else {
            format!("`{}`: {}", self.path, self.problem).into()
        };
        Error::new(self.kind, Stage::Decode, detail)
    }
}
