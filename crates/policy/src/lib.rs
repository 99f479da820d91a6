//! What the policy says: Cedar behind Holdfast's own words.
//!
//! [`CedarPolicy`] does what the port [`Decide`](holdfast_core::port::Decide) asks for; which thread reads a long text is the daemon's matter.
//! A tenant's text is parsed and validated against the schema once, indexed by what its
//! policies' scopes name, and what was decided is remembered as far as it cannot depend on anything that changes. Nothing here waits,
//! reads a clock or keeps anything.

mod builtin;
mod cases;
mod check;
mod conditional;
mod decide;
mod entities;
mod explain;
mod fault;
mod index;
mod limits;
mod memo;
mod parts;
mod prepared;
mod reads;
mod rule;
mod schema;

pub use builtin::{DEFAULT_TENANT_POLICY, DEV_POLICY, GATEWAY_POLICY};
pub use cases::{CaseResult, Cases, conditions_of, run_cases};
pub use fault::Fault;
pub use limits::{MAX_FINDINGS, MAX_NESTING, MAX_OPERATORS, MAX_POLICIES, MAX_POLICY, MAX_TEXT};
pub use prepared::Prepared;
pub use schema::SCHEMA;

use core::fmt;
use holdfast_core::caller::{Caller, CallerRecord};
use holdfast_core::port::{Decision, Examined, Finding, Question};
use holdfast_core::query::Explanation;
use holdfast_core::{Error, ErrorKind, Stage, TenantId};
use schema::Vocabulary;
use std::sync::Arc;

/// Decides by Cedar policies over Holdfast's schema.
#[derive(Clone)]
pub struct CedarPolicy {
    vocabulary: Arc<Vocabulary>,
}

impl CedarPolicy {
    /// Reads the schema.
    ///
    /// # Errors
    /// `internal`, when the schema itself is broken.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { vocabulary: Arc::new(Vocabulary::new()?) })
    }

    /// Parses and validates a new policy text, or says what is wrong with it, in the order of its lines.
    ///
    /// # Errors
    /// The faults, at least one; where there are more than [`MAX_FINDINGS`], the last says so.
    pub fn read(&self, tenant: &TenantId, text: &str) -> Result<Prepared, Vec<Fault>> {
        limits::check_new(text).map_err(|fault| vec![fault])?;
        Prepared::new(&self.vocabulary, tenant, text)
    }

    /// Parses and validates a policy text that is in force, or was let in by [`Self::examine`]: one with more than [`MAX_POLICIES`] too.
    ///
    /// # Errors
    /// `malformed`, naming the first fault with its line.
    pub fn prepare(&self, tenant: &TenantId, text: &str) -> Result<Prepared, Error> {
        Prepared::new(&self.vocabulary, tenant, text).map_err(unreadable)
    }

    /// What is to be said of a text before it is in force: all its faults, or what [`Self::check`] finds.
    pub fn examine(&self, author: &Caller, callers: &[Arc<CallerRecord>], text: &str) -> Examined {
        match self.read(&author.tenant, text) {
            Ok(prepared) => Examined { findings: self.check(&prepared, author, callers), unreadable: None },
            Err(faults) => Examined {
                findings: faults.iter().cloned().map(Finding::from).collect(),
                unreadable: Some(unreadable(faults)),
            },
        }
    }

    /// The same policy, with nothing remembered.
    pub fn renew(&self, prepared: &Prepared) -> Prepared {
        prepared.renewed()
    }

    /// Looks for what a prepared policy should not do: let its author use a key, lock every custodian out. Refusals come first.
    pub fn check(&self, prepared: &Prepared, author: &Caller, callers: &[Arc<CallerRecord>]) -> Vec<Finding> {
        check::check(prepared, author, callers)
    }

    /// Says how it decides about a question that nobody asks for real.
    pub fn explain(&self, prepared: &Prepared, question: &Question<'_>) -> Explanation {
        explain::explain(prepared, question)
    }

    /// Decides.
    pub fn decide(&self, prepared: &Prepared, question: &Question<'_>) -> Decision {
        decide::decide(prepared, question)
    }
}

/// The first fault, and how many more there are.
fn unreadable(faults: Vec<Fault>) -> Error {
    let more = faults.len().saturating_sub(1);
    match (faults.into_iter().next(), more) {
        (None, _) => Error::new(ErrorKind::Malformed, Stage::Decode, "the policy text cannot be read"),
        (Some(first), 0) => first.into(),
        (Some(mut first), more) => {
            first.remedy.push_str(&format!("; {more} more to mend, which `holdfast policy check` lists"));
            first.into()
        }
    }
}

impl fmt::Debug for CedarPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CedarPolicy")
    }
}
