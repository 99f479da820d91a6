//! The policy.

use super::{Tenant, context};
use crate::client::{Answered, Repeat};
use crate::error::Error;
use holdfast_core::action::Action;
use holdfast_core::{CallerName, KeyName};
use holdfast_wire::native::client as native;
use holdfast_wire::native::field::{Name, PolicyText, Word};
use holdfast_wire::native::message::{
    CheckPolicy, ExplainPolicy, Explanation, Findings, Policy, PolicyDone, RestorePolicy, SetPolicy,
};

impl Tenant {
    /// Reads the policy in force, or an earlier version.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn policy(&self, version: Option<u64>) -> Result<Answered<Policy>, Error> {
        self.client.send(native::policy(&self.id, version), Repeat::Safe).await
    }

    /// Replaces the policy; refused if `expected` is given and another version is in force.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn set_policy(&self, text: &str, expected: Option<u64>) -> Result<Answered<PolicyDone>, Error> {
        let policy = SetPolicy { text: PolicyText(text.into()), expected_version: expected };
        self.client.send(native::set_policy(&self.id, &policy), Repeat::Never).await
    }

    /// Puts an earlier version in force again, as a new version.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn restore_policy(
        &self,
        version: u64,
        expected: Option<u64>,
    ) -> Result<Answered<PolicyDone>, Error> {
        let restore = RestorePolicy { version, expected_version: expected };
        self.client.send(native::restore_policy(&self.id, &restore), Repeat::Never).await
    }

    /// Asks what a policy would be refused or warned for.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn check_policy(&self, text: &str) -> Result<Answered<Findings>, Error> {
        let check = CheckPolicy { text: PolicyText(text.into()) };
        self.client.send(native::check_policy(&self.id, &check), Repeat::Safe).await
    }

    /// Asks how the policy in force decides.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn explain_policy(
        &self,
        caller: &CallerName,
        action: Action,
        key: Option<&KeyName>,
        pairs: &[(&str, &str)],
    ) -> Result<Answered<Explanation>, Error> {
        let question = ExplainPolicy {
            caller: Name(caller.clone()),
            action: Word(action),
            key: key.cloned().map(Name),
            context: context(pairs)?,
        };
        self.client.send(native::explain_policy(&self.id, &question), Repeat::Safe).await
    }
}
