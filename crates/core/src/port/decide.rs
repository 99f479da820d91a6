//! What the policy says.

use crate::action::Action;
use crate::caller::{Caller, CallerRecord};
use crate::context::Context;
use crate::error::Error;
use crate::id::{KeyName, PolicyId, TenantId};
use crate::key::Key;
use crate::time::Timestamp;
use core::net::IpAddr;
use std::future::Future;
use std::sync::Arc;

/// What is asked of the policy.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// For what.
    pub action: Action,
    /// Of what.
    pub resource: Resource<'a>,
    /// How the request came.
    pub circumstances: Circumstances<'a>,
}

/// What an action is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// A key.
    Key(&'a Key),
    /// A key of which there is no record: a new one, or one that does not exist.
    NoKey(&'a KeyName),
    /// The tenant itself: its callers, policy, log.
    Tenant(&'a TenantId),
}

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The encryption context.
    pub context: &'a Context,
    /// What the protocol says of the request.
    pub request: &'a Context,
    /// When.
    pub now: Timestamp,
    /// From where, if that is known.
    pub source: Option<IpAddr>,
    /// Through which protocol.
    pub protocol: &'static str,
}

/// What the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that decided: those that permit, or those that forbid; empty for the default denial.
    pub policies: Arc<[PolicyId]>,
    /// Whether a policy failed to evaluate, which denies.
    pub failed: bool,
}

/// One thing that a check of a policy found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the policy is refused for it.
    pub refuses: bool,
    /// The policy concerned, where it is one.
    pub policy: Option<PolicyId>,
    /// What is wrong, one line.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is to be said of a policy text before it is in force.
#[derive(Debug)]
pub struct Examined {
    /// Everything found: for what it would be refused, and what is doubtful in it.
    pub findings: Vec<Finding>,
    /// Why it cannot be read, if it cannot: `malformed`, naming the first fault with its line. The findings are then all the faults.
    pub unreadable: Option<Error>,
}

/// What the policy says. Pure.
///
/// Reading and checking a text takes up to seconds, by how long it is. [`Self::prepare`] and [`Self::examine`] MUST NOT do that on the thread
/// of whoever polls them, MUST do it for one text of a tenant at a time, and MUST let no tenant wait for more than one text of each of
/// the others. What has begun MAY go on when nobody waits for it any more.
pub trait Decide: Send + Sync + 'static {
    /// One tenant's policy set, parsed, indexed, with the decisions it remembers. Lives as long as one snapshot of the tenant.
    type Prepared: Send + Sync + 'static;

    /// The policy of a tenant that is created without one. MUST let custodians administer and read and auditors read, and MUST let nobody
    /// use a key. MUST be accepted by [`Self::prepare`].
    fn tenant_policy(&self) -> &'static str;

    /// The gateway's own policy, which no tenant can change: operators create tenants and read the gateway's status. MUST be accepted by
    /// [`Self::prepare`].
    fn gateway_policy(&self) -> &'static str;

    /// Parses and validates a policy text that is to be in force. MUST NOT refuse one because others wait: what has been committed has to be
    /// put in force.
    ///
    /// # Errors
    /// `malformed`, naming the first fault with its line.
    fn prepare(
        &self,
        tenant: &TenantId,
        text: &Arc<str>,
    ) -> impl Future<Output = Result<Self::Prepared, Error>> + Send;

    /// Reads a text as [`Self::prepare`] does, and looks for what it should not do: let its author use a key, lock every custodian out. MUST
    /// bound how much it finds.
    ///
    /// # Errors
    /// `throttled` where too many texts of the author's tenant wait already.
    fn examine(
        &self,
        author: &Caller,
        callers: &[Arc<CallerRecord>],
        text: &Arc<str>,
    ) -> impl Future<Output = Result<Examined, Error>> + Send;

    /// The same policy, with nothing remembered: for a snapshot in which other records than the policy have changed. MUST cost next to
    /// nothing, however long the policy is.
    fn renew(&self, prepared: &Self::Prepared) -> Self::Prepared;

    /// Says how it decides about a question that nobody asks for real.
    fn explain(&self, prepared: &Self::Prepared, question: &Question<'_>) -> crate::query::Explanation;

    /// Decides. MUST deny by default and when any policy that could apply fails to evaluate. Its cost MUST NOT grow with
    /// policies that cannot apply to the question.
    fn decide(&self, prepared: &Self::Prepared, question: &Question<'_>) -> Decision;
}
