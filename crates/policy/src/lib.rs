//! What the policy says: Cedar behind Holdfast's own words.
//!
//! [`CedarPolicy`] implements the port [`Decide`]. A tenant's text is parsed and validated against the schema once, indexed by what its
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
pub use limits::{MAX_NESTING, MAX_OPERATORS, MAX_POLICY, MAX_TEXT};
pub use prepared::Prepared;
pub use schema::SCHEMA;

use core::fmt;
use holdfast_core::caller::{Caller, CallerRecord};
use holdfast_core::port::{Decide, Decision, Finding, Question};
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

    /// Parses and validates a policy text, or says everything that is wrong with it, in the order of its lines.
    ///
    /// # Errors
    /// The faults, at least one.
    pub fn read(&self, tenant: &TenantId, text: &str) -> Result<Prepared, Vec<Fault>> {
        Prepared::new(&self.vocabulary, tenant, text)
    }
}

impl fmt::Debug for CedarPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CedarPolicy")
    }
}

impl Decide for CedarPolicy {
    type Prepared = Prepared;

    fn tenant_policy(&self) -> &'static str {
        DEFAULT_TENANT_POLICY
    }

    fn gateway_policy(&self) -> &'static str {
        GATEWAY_POLICY
    }

    fn prepare(&self, tenant: &TenantId, text: &str) -> Result<Prepared, Error> {
        self.read(tenant, text).map_err(|faults| {
            let more = faults.len().saturating_sub(1);
            match (faults.into_iter().next(), more) {
                (None, _) => {
                    Error::new(ErrorKind::Malformed, Stage::Decode, "the policy text cannot be read")
                }
                (Some(first), 0) => first.into(),
                (Some(mut first), more) => {
                    first
                        .remedy
                        .push_str(&format!("; {more} more to mend, which `holdfast policy check` lists"));
                    first.into()
                }
            }
        })
    }

    fn faults(&self, tenant: &TenantId, text: &str) -> Vec<Finding> {
        let mut faults = self.read(tenant, text).err().unwrap_or_default();
        // The validator says it for each type of resource that a policy can be about.
        faults.sort_by(|one, other| one.line.cmp(&other.line).then_with(|| one.detail.cmp(&other.detail)));
        faults.dedup();
        faults.into_iter().map(Finding::from).collect()
    }

    fn renew(&self, prepared: &Prepared) -> Prepared {
        prepared.renewed()
    }

    fn check(&self, prepared: &Prepared, author: &Caller, callers: &[Arc<CallerRecord>]) -> Vec<Finding> {
        check::check(prepared, author, callers)
    }

    fn explain(&self, prepared: &Prepared, question: &Question<'_>) -> Explanation {
        explain::explain(prepared, question)
    }

    fn decide(&self, prepared: &Prepared, question: &Question<'_>) -> Decision {
        decide::decide(prepared, question)
    }
}
