//! Callers, their tokens, and the authorities that name them.

use super::Tenant;
use crate::client::{Answered, Repeat};
use crate::error::Error;
use holdfast_core::{CallerName, TokenId};
use holdfast_wire::native::client as native;
use holdfast_wire::native::field::Bounded;
use holdfast_wire::native::message::{
    Caller, Callers, Change, IssueSigningToken, IssueToken, PutAnchor, PutCaller, SigningTokenIssued,
    TenantDone, TokenIssued,
};

impl Tenant {
    /// Lists callers and trust anchors.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn callers(&self) -> Result<Answered<Callers>, Error> {
        self.client.send(native::callers(&self.id), Repeat::Safe).await
    }

    /// Registers a caller, or changes an earlier registration.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_caller(&self, name: &CallerName, caller: &PutCaller) -> Result<Answered<Caller>, Error> {
        self.client.send(native::put_caller(&self.id, name, caller), Repeat::Safe).await
    }

    /// Removes a caller for ever.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn remove_caller(&self, name: &CallerName) -> Result<Answered<TenantDone>, Error> {
        self.client.send(native::remove_caller(&self.id, name), Repeat::Safe).await
    }

    /// Stops a caller for now.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn suspend_caller(&self, name: &CallerName) -> Result<Answered<Change>, Error> {
        self.client.send(native::suspend_caller(&self.id, name), Repeat::Safe).await
    }

    /// Lifts that.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn resume_caller(&self, name: &CallerName) -> Result<Answered<Change>, Error> {
        self.client.send(native::resume_caller(&self.id, name), Repeat::Never).await
    }

    /// Issues a bearer token that lives for so many seconds, at most a day. It is shown once.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn issue_token(&self, name: &CallerName, seconds: u64) -> Result<Answered<TokenIssued>, Error> {
        let token = IssueToken { lifetime_seconds: Bounded(seconds) };
        self.client.send(native::issue_token(&self.id, name, &token), Repeat::Never).await
    }

    /// Issues a token that requests are signed with (Signature Version 4), for so many seconds, at most two years. It is shown once.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn issue_signing_token(
        &self,
        name: &CallerName,
        seconds: u64,
    ) -> Result<Answered<SigningTokenIssued>, Error> {
        let token = IssueSigningToken { lifetime_seconds: Bounded(seconds) };
        self.client.send(native::issue_signing_token(&self.id, name, &token), Repeat::Never).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn revoke_token(&self, name: &CallerName, token: TokenId) -> Result<Answered<Change>, Error> {
        self.client.send(native::revoke_token(&self.id, name, token), Repeat::Safe).await
    }

    /// Trusts a certificate authority, or replaces its revocation list.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_anchor(
        &self,
        name: &CallerName,
        anchor: &PutAnchor,
    ) -> Result<Answered<TenantDone>, Error> {
        self.client.send(native::put_anchor(&self.id, name, anchor), Repeat::Safe).await
    }

    /// Trusts it no longer.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn remove_anchor(&self, name: &CallerName) -> Result<Answered<TenantDone>, Error> {
        self.client.send(native::remove_anchor(&self.id, name), Repeat::Safe).await
    }
}
